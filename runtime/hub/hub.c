/* hub.c - several transfers side by side, in one thread; see hub.h. */
#include "runtime/hub/hub.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/hub/transfer.h"

struct wane_hub {
    wane_rules rules;
    bool global; /* curl_global_init was called */
    wane_transfer **list;
    uint64_t *size;
    const char **name; /* owned: transfers let go of theirs */
    int n, room;
    wane_err why; /* the first failure; status WANE_OK before it */
};

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for a download");
}

wane_status wane_hub_open(const wane_hub_options *o, wane_hub **out, wane_err *e)
{
    char shown[512];
    wane_status s = WANE_OK;
    *out = NULL;
    wane_hub *h = calloc(1, sizeof *h);
    if (!h) return no_memory(e);
    h->rules.o = *o;
    h->rules.o.endpoint = strdup(o->endpoint);
    h->rules.o.token = o->token ? strdup(o->token) : NULL;
    h->rules.o.ca_file = o->ca_file ? strdup(o->ca_file) : NULL;
    h->global = !curl_global_init(CURL_GLOBAL_DEFAULT);
    h->rules.multi = h->global ? curl_multi_init() : NULL;
    if (!h->rules.multi || !h->rules.o.endpoint || !h->rules.o.token != !o->token ||
        !h->rules.o.ca_file != !o->ca_file) {
        s = no_memory(e);
        goto done;
    }
    if (!wane_origin_of(o->endpoint, &h->rules.home)) {
        wane_address_shown(shown, sizeof shown, o->endpoint);
        s = wane_fail(
            e, WANE_ENETWORK,
            "%s is no http or https address (without a user name); set HF_ENDPOINT right, "
            "or unset it",
            shown);
        goto done;
    }
    *out = h;
    h = NULL;
done:
    wane_hub_close(h);
    return s;
}

void wane_hub_close(wane_hub *h)
{
    if (!h) return;
    for (int i = 0; i < h->n; i++) {
        wane_transfer_free(h->list[i]);
        free((char *)(uintptr_t)h->name[i]);
    }
    free(h->list);
    free(h->size);
    free(h->name);
    if (h->rules.multi) curl_multi_cleanup(h->rules.multi);
    if (h->global) curl_global_cleanup();
    if (h->rules.o.token) {
        char *token = (char *)(uintptr_t)h->rules.o.token;
        explicit_bzero(token, strlen(token));
        free(token);
    }
    free((char *)(uintptr_t)h->rules.o.endpoint);
    free((char *)(uintptr_t)h->rules.o.ca_file);
    free(h);
}

static bool grow(wane_hub *h)
{
    if (h->n < h->room) return true;
    int room = h->room ? 2 * h->room : 16;
    wane_transfer **list = realloc(h->list, (size_t)room * sizeof *list);
    if (list) h->list = list;
    uint64_t *size = realloc(h->size, (size_t)room * sizeof *size);
    if (size) h->size = size;
    const char **name = realloc(h->name, (size_t)room * sizeof *name);
    if (name) h->name = name;
    if (!list || !size || !name) return false;
    h->room = room;
    return true;
}

static bool interrupted(const wane_hub *h)
{
    const atomic_int *flag = h->rules.o.interrupt;
    return flag && atomic_load_explicit(flag, memory_order_relaxed);
}

static bool active(const wane_transfer *t)
{
    return t->state != WANE_T_NEW && t->state != WANE_T_DONE;
}

/* Transfers that may go on do; *wake: when the next one has something to do. */
static wane_status advance(wane_hub *h, double now, double *wake, wane_err *e)
{
    int running = 0;
    for (int i = 0; i < h->n; i++) running += active(h->list[i]);
    for (int i = 0; i < h->n; i++) {
        wane_transfer *t = h->list[i];
        bool more;
        if (t->state == WANE_T_DONE || t->state == WANE_T_RUN) continue;
        if (t->state == WANE_T_NEW && running >= h->rules.o.parallel) continue;
        running += t->state == WANE_T_NEW;
        wane_status s = wane_transfer_advance(t, now, &more, e);
        if (s) return s;
        if (t->state == WANE_T_DONE) {
            running--;
            more = true; /* another may begin */
        }
        if (more) *wake = now;
        if ((t->state == WANE_T_LOCK || t->state == WANE_T_WAIT) && t->when < *wake)
            *wake = t->when;
    }
    return WANE_OK;
}

static wane_status take_ends(wane_hub *h, bool *some, wane_err *e)
{
    int left;
    *some = false;
    for (CURLMsg *m; (m = curl_multi_info_read(h->rules.multi, &left));) {
        wane_transfer *t = NULL;
        CURLcode code = m->data.result; /* m ends with its request */
        if (m->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        wane_status s = wane_transfer_end(t, code, wane_clock(), e);
        if (s) return s;
        *some = true;
    }
    return WANE_OK;
}

static bool all_done(const wane_hub *h)
{
    for (int i = 0; i < h->n; i++)
        if (h->list[i]->state != WANE_T_DONE) return false;
    return true;
}

/* One round: what is due, what the network has, and a wait of at most a tenth of a second. */
static wane_status turn(wane_hub *h, double until, wane_err *e)
{
    int running;
    bool some;
    double now = wane_clock(), wake = now + 0.1;
    if (wake > until) wake = until;
    if (interrupted(h)) return wane_fail(e, WANE_EINTERRUPTED, "interrupted");
    wane_status s = advance(h, now, &wake, e);
    if (s) return s;
    if (curl_multi_perform(h->rules.multi, &running)) return no_memory(e);
    s = take_ends(h, &some, e);
    if (s || some) return s; /* another may begin */
    double wait = wake - wane_clock();
    if (wait > 0 && curl_multi_poll(h->rules.multi, NULL, 0, (int)(1000 * wait) + 1, NULL))
        return no_memory(e);
    return WANE_OK;
}

/* One answer, waited for; the caller frees it. */
static wane_status ask(wane_hub *h, const char *url, size_t most, wane_transfer **out, wane_err *e)
{
    wane_transfer *t;
    *out = NULL;
    if (h->n) return wane_fail(e, WANE_EARG, "a hub fetches answers before it fetches files");
    if (!grow(h)) return no_memory(e);
    wane_status s = wane_transfer_new(&h->rules, NULL, url, most, &t, e);
    if (s) return s;
    h->list[0] = t;
    h->name[0] = NULL;
    h->n = 1;
    while (!s && t->state != WANE_T_DONE) s = turn(h, wane_clock() + 0.1, e);
    h->n = 0;
    if (s) {
        wane_transfer_free(t);
        return s;
    }
    *out = t;
    return WANE_OK;
}

wane_status wane_hub_fetch(wane_hub *h, const char *url, size_t most, char **out, size_t *length,
                           wane_err *e)
{
    wane_transfer *t;
    *out = NULL;
    *length = 0;
    wane_status s = ask(h, url, most ? most : 1, &t, e);
    if (s) return s;
    *out = t->body;
    *length = t->length;
    t->body = NULL;
    wane_transfer_free(t);
    return WANE_OK;
}

wane_status wane_hub_look(wane_hub *h, const char *url, char hash[65], int64_t *size, wane_err *e)
{
    wane_transfer *t;
    hash[0] = 0;
    *size = -1;
    wane_status s = ask(h, url, 0, &t, e);
    if (s) return s;
    const wane_head *head = &t->head;
    memcpy(hash, head->linked[0] ? head->linked : head->tagged, sizeof head->linked);
    *size = head->linked[0] ? head->linked_size : head->length;
    wane_transfer_free(t);
    return WANE_OK;
}

wane_status wane_hub_add(wane_hub *h, const wane_hub_file *f, wane_err *e)
{
    wane_transfer *t;
    char shown[200];
    wane_escape(shown, sizeof shown, f->name, strlen(f->name));
    if (!wane_head_hash(f->hash))
        return wane_fail(e, WANE_ENETWORK, "%s: the Hub lists no SHA-1 and no SHA-256 for it",
                         shown);
    if (f->size > (uint64_t)1 << 47)
        return wane_fail(e, WANE_ENETWORK, "%s: the Hub lists %llu bytes for it", shown,
                         (unsigned long long)f->size);
    if (!grow(h)) return no_memory(e);
    char *name = strdup(f->name);
    if (!name) return no_memory(e);
    wane_status s = wane_transfer_new(&h->rules, f, NULL, 0, &t, e);
    if (s) {
        free(name);
        return s;
    }
    h->list[h->n] = t;
    h->size[h->n] = f->size;
    h->name[h->n++] = name;
    return WANE_OK;
}

static void tell(const wane_hub *h, wane_hub_progress *p)
{
    memset(p, 0, sizeof *p);
    p->finished = true;
    p->received = h->rules.received;
    for (int i = 0; i < h->n; i++) {
        const wane_transfer *t = h->list[i];
        bool done = t->state == WANE_T_DONE;
        p->total += h->size[i];
        p->bytes += done ? h->size[i] : t->blob.at;
        p->files += done;
        if (done) continue;
        p->finished = false;
        if (!p->name && active(t)) p->name = h->name[i];
        if (!p->waiting && t->waiting[0]) p->waiting = t->waiting;
    }
}

wane_status wane_hub_step(wane_hub *h, double seconds, wane_hub_progress *out, wane_err *e)
{
    double until = wane_clock() + seconds;
    wane_status s = h->why.status;
    if (s && e) *e = h->why;
    do {
        wane_err why;
        if (s) break;
        s = turn(h, until, &why);
        if (s && e) *e = why;
        /* what may be mended without a new start is tried again by the next call */
        if (s && s != WANE_EINTERRUPTED && s != WANE_EOOM) h->why = why;
    } while (!all_done(h) && wane_clock() < until);
    tell(h, out);
    return s;
}

wane_hub_state wane_hub_file_state(const wane_hub *h, int i)
{
    const wane_transfer *t = i >= 0 && i < h->n ? h->list[i] : NULL;
    return t && t->state == WANE_T_DONE ? t->outcome : WANE_HUB_WAITING;
}
