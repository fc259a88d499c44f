/* transfer.c - attempts, redirects, ranges and refusals; see transfer.h. After RFC 9110: 13.1.5
 * If-Range, 14 range requests, 15 status codes. */
#include "runtime/hub/transfer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HOPS = 10, DROP_MOST = 64 << 10, LEAST_SPEED = 1024, GAIN = 1 << 20 };
static const double LONGEST = 60, PATIENCE = 300, LOCK_EVERY = 0.2; /* seconds */

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for a download");
}

wane_status wane_transfer_new(wane_rules *rules, const wane_hub_file *f, const char *url,
                              size_t most, wane_transfer **out, wane_err *e)
{
    *out = NULL;
    wane_transfer *t = calloc(1, sizeof *t);
    if (!t) return no_memory(e);
    t->rules = rules;
    t->most = most;
    t->state = f ? WANE_T_NEW : WANE_T_WAIT;
    t->blob.lock = t->blob.fd = t->blob.source = -1;
    t->start = strdup(f ? f->url : url);
    wane_status s = t->start ? WANE_OK : no_memory(e);
    if (!s && f) {
        s = wane_blob_new(&t->blob, f, e);
        t->to_file = !s;
    }
    if (s) {
        wane_transfer_free(t);
        return s;
    }
    *out = t;
    return WANE_OK;
}

static void drop_request(wane_transfer *t)
{
    if (t->easy) {
        curl_multi_remove_handle(t->rules->multi, t->easy);
        curl_easy_cleanup(t->easy);
    }
    for (struct curl_slist *f = t->fields; f; f = f->next)
        explicit_bzero(f->data, strlen(f->data)); /* one of them holds the token */
    curl_slist_free_all(t->fields);
    t->easy = NULL;
    t->fields = NULL;
}

void wane_transfer_free(wane_transfer *t)
{
    if (!t) return;
    drop_request(t);
    if (t->to_file) wane_blob_free(&t->blob);
    free(t->body);
    free(t->start);
    free(t->url);
    free(t);
}

/* The failure of t: what, why, and where it stood. */
static wane_status fail(wane_transfer *t, const char *why, const char *fix, wane_err *e)
{
    char shown[400], reason[400], said[400] = "", name[200] = "";
    const char *url = t->url ? t->url : t->start;
    wane_address_shown(shown, sizeof shown, url);
    wane_escape(reason, sizeof reason, why, strlen(why));
    if (t->head.error_message[0]) {
        size_t n = (size_t)snprintf(said, sizeof said, ", the server says: ");
        wane_escape(said + n, sizeof said - n, t->head.error_message,
                    strlen(t->head.error_message));
    }
    if (t->to_file) {
        size_t n = strlen(t->blob.f.name);
        wane_escape(name, sizeof name - 2, t->blob.f.name, n);
        strcat(name, ": ");
    }
    wane_fail(e, WANE_ENETWORK, "%s%s: %s%s%s%s", name, shown, reason, said, *fix ? "; " : "", fix);
    if (e) {
        snprintf(e->url, sizeof e->url, "%s", shown);
        e->http = t->head.status;
        wane_escape(e->reason, sizeof e->reason, t->head.error_code, strlen(t->head.error_code));
    }
    return WANE_ENETWORK;
}

static size_t refuse(wane_transfer *t, wane_t_stop stop, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a callback returns to end the request. */
static size_t refuse(wane_transfer *t, wane_t_stop stop, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    t->stop = stop;
    vsnprintf(t->why, sizeof t->why, format, args);
    va_end(args);
    return 0;
}

static double today(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec;
}

static size_t on_head(char *line, size_t one, size_t n, void *state)
{
    wane_transfer *t = state;
    (void)one;
    if (wane_head_line(&t->head, line, n, today())) return n;
    return refuse(t, WANE_T_NEVER, "the head of the answer is longer than it may be");
}

/* Whether the body of a file is what was asked for. false: stop is set. */
static bool judge_file(wane_transfer *t)
{
    wane_head *h = &t->head;
    wane_blob *b = &t->blob;
    if (h->encoded)
        return refuse(t, WANE_T_ANEW, "the answer is compressed, which was not asked for");
    if (h->status == 206) {
        if (h->first != (int64_t)b->at || (h->total >= 0 && (uint64_t)h->total != b->f.size))
            return refuse(t, WANE_T_ANEW, "the answer is another range than was asked for");
    } else {
        if (h->length >= 0 && (uint64_t)h->length != b->f.size)
            return refuse(t, WANE_T_ANEW, "the answer has %lld bytes where the file has %llu",
                          (long long)h->length, (unsigned long long)b->f.size);
        /* all of it, though a part was asked for: it changed, or the server knows no ranges */
        if (b->at && wane_blob_restart(b, &t->local)) return refuse(t, WANE_T_LOCAL, "disk");
    }
    if (b->at == 0) wane_blob_tag(b, h->etag);
    return true;
}

static size_t to_memory(wane_transfer *t, const char *data, size_t n)
{
    if (n > t->most - t->length)
        return refuse(t, WANE_T_NEVER, "the answer is longer than the %zu bytes it may have",
                      t->most);
    if (t->length + n + 1 > t->room) {
        size_t room = 2 * (t->length + n + 1);
        char *more = realloc(t->body, room);
        if (!more) {
            no_memory(&t->local);
            return refuse(t, WANE_T_LOCAL, "memory");
        }
        t->body = more;
        t->room = room;
    }
    memcpy(t->body + t->length, data, n);
    t->length += n;
    t->body[t->length] = 0;
    return n;
}

static bool wanted(const wane_head *h)
{
    return h->status == 200 || h->status == 206;
}

static size_t on_body(char *data, size_t one, size_t n, void *state)
{
    wane_transfer *t = state;
    wane_blob *b = &t->blob;
    (void)one;
    t->rules->received += n;
    if (!wanted(&t->head)) {
        t->dropped += n;
        return t->dropped <= DROP_MOST ? n : refuse(t, WANE_T_GO, "its text is long");
    }
    if (!t->to_file) {
        if (t->head.encoded)
            return refuse(t, WANE_T_NEVER, "the answer is compressed, which was not asked for");
        return to_memory(t, data, n);
    }
    if (!t->judged && !judge_file(t)) return 0;
    t->judged = true;
    if (n > b->f.size - b->at)
        return refuse(t, WANE_T_ANEW, "more bytes came than the %llu of the file",
                      (unsigned long long)b->f.size);
    if (wane_blob_append(b, data, n, &t->local)) return refuse(t, WANE_T_LOCAL, "disk");
    return n;
}

static bool add_field(wane_transfer *t, const char *format, const char *value)
{
    size_t room = strlen(format) + strlen(value) + 1; /* a token may be a page long */
    char *line = malloc(room);
    if (!line) return false;
    snprintf(line, room, format, value);
    struct curl_slist *more = curl_slist_append(t->fields, line);
    explicit_bzero(line, room);
    free(line);
    if (more) t->fields = more;
    return more;
}

static bool add_fields(wane_transfer *t, const wane_origin *to)
{
    const wane_rules *r = t->rules;
    char range[32];
    bool ok = add_field(t, "Accept-Encoding: %s", "identity");
    if (ok && r->o.token && wane_origin_trusted(&r->home, to))
        ok = add_field(t, "Authorization: Bearer %s", r->o.token);
    if (ok && t->to_file && t->blob.at) {
        snprintf(range, sizeof range, "%llu-", (unsigned long long)t->blob.at);
        ok = add_field(t, "Range: bytes=%s", range);
        if (ok && t->blob.tag[0]) ok = add_field(t, "If-Range: %s", t->blob.tag);
    }
    return ok;
}

/* One request for where t now is. */
static wane_status request(wane_transfer *t, wane_err *e)
{
    const wane_rules *r = t->rules;
    const char *url = t->url ? t->url : t->start;
    wane_origin to;
    wane_head_start(&t->head);
    if (r->o.offline)
        return fail(t, "the cache does not have it, or not with the right hash",
                    "unset HF_HUB_OFFLINE to fetch it", e);
    if (!wane_origin_of(url, &to)) return fail(t, "no http or https address", "", e);
    t->judged = false;
    t->dropped = t->length = 0;
    t->stop = WANE_T_GO;
    t->curl_says[0] = 0;
    CURL *c = t->easy = curl_easy_init();
    if (!c || !add_fields(t, &to)) {
        drop_request(t);
        return no_memory(e);
    }
    long idle = (long)(r->o.idle + 0.5), connect = (long)(1000 * r->o.connect);
    bool bad = curl_easy_setopt(c, CURLOPT_URL, url) ||
               curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") ||
               curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) || /* see hop */
               curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) ||
               curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) ||
               curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) ||
               curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) ||
               curl_easy_setopt(c, CURLOPT_USERAGENT, "wane/" WANE_VERSION) ||
               curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 512L << 10) ||
               curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, connect > 0 ? connect : 1) ||
               curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, (long)LEAST_SPEED) ||
               curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, idle > 0 ? idle : 1) ||
               curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->curl_says) ||
               curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->fields) ||
               curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head) ||
               curl_easy_setopt(c, CURLOPT_HEADERDATA, t) ||
               curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) ||
               curl_easy_setopt(c, CURLOPT_WRITEDATA, t) ||
               curl_easy_setopt(c, CURLOPT_PRIVATE, t) ||
               curl_easy_setopt(c, CURLOPT_NOBODY, t->to_file || t->most ? 0L : 1L);
    if (!bad && to.loopback) bad = curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    if (!bad && r->o.ca_file) bad = curl_easy_setopt(c, CURLOPT_CAINFO, r->o.ca_file);
    if (bad || curl_multi_add_handle(r->multi, c)) {
        drop_request(t);
        return no_memory(e);
    }
    t->state = WANE_T_RUN;
    t->waiting[0] = 0;
    return WANE_OK;
}

static void finish(wane_transfer *t, wane_hub_state outcome)
{
    t->outcome = outcome;
    t->state = WANE_T_DONE;
    if (t->to_file) {
        t->best = t->blob.f.size; /* for progress: the blob is let go of */
        wane_blob_free(&t->blob);
        t->to_file = false;
    }
}

/* Another attempt, or the end of patience. */
static wane_status again(wane_transfer *t, const char *why, double now, wane_err *e)
{
    char text[400];
    const wane_rules *r = t->rules;
    if (t->stop == WANE_T_ANEW && t->to_file) {
        wane_status s = wane_blob_restart(&t->blob, e);
        if (s) return s;
    }
    if (t->to_file && t->blob.at >= t->best + GAIN) {
        t->best = t->blob.at;
        t->attempt = 0;
    }
    double wait = r->o.backoff;
    for (int i = 0; i < t->attempt && wait < LONGEST; i++) wait *= 2;
    if (wait > LONGEST) wait = LONGEST;
    if (t->head.retry_after > wait) wait = t->head.retry_after;
    bool patient = wait <= PATIENCE;
    if (++t->attempt > r->o.retries || !patient) {
        if (patient)
            snprintf(text, sizeof text, "%s, after %d attempt%s", why, t->attempt,
                     t->attempt == 1 ? "" : "s");
        else
            snprintf(text, sizeof text, "%s, and it asks to wait %.0f s", why, wait);
        return fail(t, text, "run the same command again: it goes on from what is there", e);
    }
    snprintf(t->waiting, sizeof t->waiting, "%s, again in %.0f s", why, wait);
    free(t->url);
    t->url = NULL; /* an address that was given out may be good for a while only */
    t->hops = 0;
    t->when = now + wait;
    t->state = WANE_T_WAIT;
    return WANE_OK;
}

/* All bytes are there: their hash decides. */
static wane_status conclude(wane_transfer *t, double now, wane_err *e)
{
    bool good;
    wane_status s = wane_blob_finish(&t->blob, &good, e);
    if (s) return s;
    if (good) {
        finish(t, WANE_HUB_FETCHED);
        return WANE_OK;
    }
    static const char why[] = "the bytes do not have the hash that the Hub lists";
    s = wane_blob_restart(&t->blob, e);
    if (s) return s;
    if (t->bad++) return fail(t, why, "a proxy on the way may change them; try another network", e);
    free(t->url); /* what an interruption left may have been damaged: once more, from the start */
    t->url = NULL;
    t->hops = 0;
    t->when = now;
    t->state = WANE_T_WAIT;
    return WANE_OK;
}

wane_status wane_transfer_advance(wane_transfer *t, double now, bool *more, wane_err *e)
{
    bool done = false;
    wane_status s = WANE_OK;
    *more = false;
    if (t->state == WANE_T_NEW) {
        t->state = WANE_T_LOCK;
        done = wane_blob_there(&t->blob);
    }
    if (done) {
        finish(t, WANE_HUB_PRESENT);
    } else if (t->state == WANE_T_LOCK && now >= t->when) {
        bool held;
        s = wane_blob_lock(&t->blob, &held, e);
        if (s) return s;
        t->waiting[0] = 0;
        if (held) {
            s = wane_blob_prepare(&t->blob, &done, e);
            t->state = WANE_T_READ;
        } else {
            t->when = now + LOCK_EVERY;
            snprintf(t->waiting, sizeof t->waiting, "another process fetches %.100s",
                     t->blob.f.name);
        }
    } else if (t->state == WANE_T_READ && t->blob.slice) {
        bool copied = t->blob.copying;
        s = wane_blob_slice(&t->blob, &done, e);
        if (!s && done) finish(t, copied ? WANE_HUB_COPIED : WANE_HUB_PRESENT);
    }
    if (s) return s;
    if (done && t->state != WANE_T_DONE) finish(t, WANE_HUB_PRESENT);
    if (t->state == WANE_T_READ && !t->blob.slice) {
        t->best = t->blob.at;
        t->state = WANE_T_WAIT;
        t->when = 0;
        if (t->blob.at == t->blob.f.size) return conclude(t, now, e);
    }
    if (t->state == WANE_T_WAIT && now >= t->when) return request(t, e);
    *more = t->state == WANE_T_READ;
    return WANE_OK;
}

/* A head was asked for: where the Hub tells of a file that lies elsewhere, that is the answer. */
static bool only_looking(const wane_transfer *t)
{
    return !t->to_file && t->most == 0;
}

static wane_status hop(wane_transfer *t, wane_err *e)
{
    wane_origin from, to;
    const char *url = t->url ? t->url : t->start;
    char shown[300], why[400];
    if (++t->hops > HOPS) return fail(t, "more than ten redirects", "", e);
    if (t->head.location_long) return fail(t, "a redirect to an address that is too long", "", e);
    if (!t->head.location[0]) return fail(t, "a redirect that does not say where to", "", e);
    char *next = wane_address_join(url, t->head.location);
    if (!next || !wane_origin_of(url, &from) || !wane_origin_of(next, &to) ||
        !wane_origin_follow(&from, &to)) {
        wane_address_shown(shown, sizeof shown, t->head.location);
        snprintf(why, sizeof why, "a redirect to %s, which is not followed", shown);
        free(next);
        return fail(t, why, "only https is", e);
    }
    free(t->url);
    t->url = next;
    return request(t, e);
}

/* Whether what failed may work in a while. */
static bool passes_by(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING: return true;
    default: return false;
    }
}

static wane_status curl_failed(wane_transfer *t, CURLcode code, double now, wane_err *e)
{
    const char *why = t->curl_says[0] ? t->curl_says : curl_easy_strerror(code);
    if (code == CURLE_OUT_OF_MEMORY) return no_memory(e);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return fail(t, why, "a proxy's certificate is trusted with SSL_CERT_FILE=FILE", e);
    /* where there is no way to the server, whoever asks for a list has something better to do than
     * wait */
    if (!t->to_file && (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT ||
                        code == CURLE_COULDNT_RESOLVE_PROXY))
        return fail(t, why, "", e);
    return passes_by(code) ? again(t, why, now, e) : fail(t, why, "", e);
}

static wane_status status_failed(wane_transfer *t, double now, wane_err *e)
{
    char why[64];
    wane_origin at;
    int status = t->head.status;
    snprintf(why, sizeof why, "HTTP %d", status);
    if (status == 408 || status == 429 || status >= 500) return again(t, why, now, e);
    if (status == 416 && t->to_file) { /* the partial file is not the beginning of theirs */
        t->stop = WANE_T_ANEW;
        return again(t, why, now, e);
    }
    /* an address that the Hub gave out is good for a while only */
    if ((status == 401 || status == 403) && t->url && wane_origin_of(t->url, &at) &&
        !wane_origin_same(&at, &t->rules->home))
        return again(t, why, now, e);
    return fail(t, why, "", e);
}

wane_status wane_transfer_end(wane_transfer *t, CURLcode code, double now, wane_err *e)
{
    wane_head *h = &t->head;
    drop_request(t);
    t->state = WANE_T_WAIT;
    if (t->stop == WANE_T_LOCAL) {
        if (e) *e = t->local;
        return t->local.status;
    }
    if (t->stop == WANE_T_NEVER) return fail(t, t->why, "", e);
    if (t->stop != WANE_T_GO) return again(t, t->why, now, e);
    bool long_text =
        code == CURLE_WRITE_ERROR && t->dropped > DROP_MOST; /* the status says it all */
    if (code && !long_text) return curl_failed(t, code, now, e);
    if (only_looking(t) && h->linked[0] && h->status < 400) {
        finish(t, WANE_HUB_FETCHED);
        return WANE_OK;
    }
    if (t->to_file && h->linked[0] && strcmp(h->linked, t->blob.f.hash))
        return fail(t, "the file has changed on the server", "run the same command again", e);
    if (h->status == 301 || h->status == 302 || h->status == 303 || h->status == 307 ||
        h->status == 308)
        return hop(t, e);
    if (!wanted(h)) return status_failed(t, now, e);
    if (t->to_file) {
        if (t->blob.at < t->blob.f.size) return again(t, "the connection was cut", now, e);
        return conclude(t, now, e);
    }
    if (h->status != 200)
        return fail(t, "a part of an answer that was asked for as a whole", "", e);
    if (!t->body) { /* an empty one */
        t->body = calloc(1, 1);
        if (!t->body) return no_memory(e);
    }
    finish(t, WANE_HUB_FETCHED);
    return WANE_OK;
}
