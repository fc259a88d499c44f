/* head.c - the head of an HTTP answer; see head.h. After RFC 9110: 8.8.3 entity tags, 10.2.3
 * Retry-After, 14.4 Content-Range. */
#include "runtime/hub/head.h"

#include <string.h>
#include <strings.h>
#include <time.h>

void wane_head_start(wane_head *h)
{
    memset(h, 0, sizeof *h);
    h->length = h->first = h->total = h->linked_size = -1;
    h->retry_after = -1;
}

bool wane_head_hash(const char *text)
{
    size_t n = strspn(text, "0123456789abcdef");
    return (n == 40 || n == 64) && !text[n];
}

/* A whole number that ends where the text does or at one of `stops`; -1 for anything else. */
static int64_t number(const char *text, const char *stops, const char **end)
{
    int64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n)) return -1;
    if (p == text || (*p && !strchr(stops, *p))) return -1;
    if (end) *end = p;
    return n;
}

/* "bytes 5-9/10", "bytes 5-9/" followed by a star, "bytes *" followed by "/10" */
static void read_range(wane_head *h, const char *text)
{
    const char *p = text;
    h->first = h->total = -1;
    if (strncasecmp(p, "bytes ", 6)) return;
    p += 6;
    if (*p == '*') {
        p++;
    } else {
        int64_t first = number(p, "-", &p);
        if (first < 0 || *p != '-') return;
        if (number(p + 1, "/", &p) < first) return;
        h->first = first;
    }
    if (*p == '/') h->total = number(p + 1, "", NULL);
}

/* Seconds, or a date as "Sun, 06 Nov 1994 08:49:37 GMT". */
static double read_delay(const char *text, double now)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm t = {0};
    char month[4] = "";
    int64_t seconds = number(text, "", NULL);
    if (seconds >= 0) return seconds < 1 << 30 ? (double)seconds : 1 << 30;
    const char *p = strchr(text, ',');
    /* each number has a width of its own: none can overflow */
    static const char form[] = " dd Mmm dddd dd:dd:dd GMT";
    if (!p || strlen(p + 1) != sizeof form - 1) return -1;
    for (size_t i = 0; form[i]; i++) {
        char c = p[1 + i];
        if (form[i] == 'd' ? c < '0' || c > '9' : !strchr("Mm", form[i]) && c != form[i]) return -1;
    }
    p += 2; /* at the day */
    memcpy(month, p + 3, 3);
    const char *found = strstr(months, month);
    if (!found || (found - months) % 3) return -1;
    t.tm_mday = (p[0] - '0') * 10 + p[1] - '0';
    t.tm_mon = (int)(found - months) / 3;
    t.tm_year = (p[7] - '0') * 1000 + (p[8] - '0') * 100 + (p[9] - '0') * 10 + p[10] - '0' - 1900;
    t.tm_hour = (p[12] - '0') * 10 + p[13] - '0';
    t.tm_min = (p[15] - '0') * 10 + p[16] - '0';
    t.tm_sec = (p[18] - '0') * 10 + p[19] - '0';
    double wait = (double)timegm(&t) - now;
    return wait > 0 ? wait : 0;
}

/* One that may be sent back in a header: quoted or W/ and quoted, nothing but visible letters. */
static bool sound_etag(const char *text)
{
    size_t n = strlen(text), start = strncmp(text, "W/", 2) ? 0 : 2;
    if (n < start + 2 || text[start] != '"' || text[n - 1] != '"') return false;
    for (size_t i = start + 1; i < n - 1; i++)
        if (text[i] <= ' ' || text[i] == '"' || (unsigned char)text[i] >= 0x7f) return false;
    return true;
}

/* The hash within an entity tag, where it is one. */
static void read_hash(char out[65], const char *text)
{
    char inner[80];
    out[0] = 0;
    if (!strncmp(text, "W/", 2)) text += 2;
    size_t n = strlen(text);
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') text++, n -= 2;
    if (n >= sizeof inner) return;
    memcpy(inner, text, n);
    inner[n] = 0;
    if (wane_head_hash(inner)) memcpy(out, inner, n + 1);
}

static bool copy(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);
    out[0] = 0;
    if (n >= size) return false;
    memcpy(out, text, n + 1);
    return true;
}

static void read_field(wane_head *h, const char *name, const char *value, double now)
{
    if (!strcasecmp(name, "location")) {
        h->location_long = !copy(h->location, sizeof h->location, value);
    } else if (!strcasecmp(name, "etag")) {
        if (!copy(h->etag, sizeof h->etag, value) || !sound_etag(h->etag)) h->etag[0] = 0;
        read_hash(h->tagged, value);
    } else if (!strcasecmp(name, "x-linked-etag")) {
        read_hash(h->linked, value);
    } else if (!strcasecmp(name, "x-linked-size")) {
        h->linked_size = number(value, "", NULL);
    } else if (!strcasecmp(name, "content-length")) {
        h->length = number(value, "", NULL);
    } else if (!strcasecmp(name, "content-range")) {
        read_range(h, value);
    } else if (!strcasecmp(name, "content-encoding")) {
        h->encoded = strcasecmp(value, "identity") && *value;
    } else if (!strcasecmp(name, "retry-after")) {
        h->retry_after = read_delay(value, now);
    } else if (!strcasecmp(name, "x-error-code")) {
        copy(h->error_code, sizeof h->error_code, value);
    } else if (!strcasecmp(name, "x-error-message")) {
        copy(h->error_message, sizeof h->error_message, value);
    }
}

static void read_status(wane_head *h, const char *text)
{
    size_t bytes = h->bytes;
    const char *space = strchr(text, ' ');
    wane_head_start(h);
    h->bytes = bytes; /* a chain of 100 Continue has no end of its own */
    int64_t status = space ? number(space + 1, " ", NULL) : -1;
    h->status = status >= 100 && status <= 999 ? (int)status : 0;
}

bool wane_head_line(wane_head *h, const char *line, size_t length, double now)
{
    char text[8192];
    h->bytes += length;
    if (h->bytes > WANE_HEAD_MOST) return false;
    while (length && strchr("\r\n \t", line[length - 1])) length--;
    if (length >= sizeof text) {
        if (!strncasecmp(line, "location:", 9)) h->location_long = true;
        return true; /* nothing else that is read is as long */
    }
    memcpy(text, line, length);
    text[length] = 0;
    if (strlen(text) != length) return true; /* a zero byte: no field that is known has one */
    if (!strncasecmp(text, "HTTP/", 5)) {
        read_status(h, text);
        return true;
    }
    char *value = strchr(text, ':');
    if (!value) return true;
    *value++ = 0;
    value += strspn(value, " \t");
    read_field(h, text, value, now);
    return true;
}
