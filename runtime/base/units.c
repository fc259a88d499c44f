/* units.c - see units.h. UTF-8 steps after Unicode 15, table 3-7. */
#include "runtime/base/units.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

wane_status wane_bytes_parse(const char *text, uint64_t *out, wane_err *e)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {
        {"", 1},      {"B", 1},      {"KB", 1e3},      {"MB", 1e6},      {"GB", 1e9},
        {"TB", 1e12}, {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1 << 30}, {"TiB", 1099511627776.}};
    char *end, shown[64];
    double number = isdigit((unsigned char)*text) ? strtod(text, &end) : -1;
    if (number >= 0) {
        while (*end == ' ') end++;
        for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
            if (strcasecmp(end, units[i].name)) continue;
            double bytes = floor(number * units[i].factor);
            if (bytes >= 9.2e18) break;
            *out = (uint64_t)bytes;
            return WANE_OK;
        }
    }
    wane_escape(shown, sizeof shown, text, strlen(text));
    return wane_fail(e, WANE_EARG, "not a size: \"%s\"; write it as 24GiB, 512MiB or 4096", shown);
}

const char *wane_bytes_format(char *out, size_t size, uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double x = (double)bytes;
    int u = 0;
    while (x >= 1024 && u < 5) x /= 1024, u++;
    snprintf(out, size, x == floor(x) || u == 0 ? "%.0f %s" : "%.2f %s", x, unit[u]);
    return out;
}

/* How many bytes from p belong to one character; *whole says whether they are a full one. */
static size_t step(const unsigned char *p, size_t left, bool *whole)
{
    unsigned char a = p[0], low = 0x80, high = 0xbf;
    size_t need;
    *whole = true;
    if (a < 0x80) return 1;
    if (a >= 0xc2 && a <= 0xdf)
        need = 2;
    else if (a >= 0xe0 && a <= 0xef)
        need = 3;
    else if (a >= 0xf0 && a <= 0xf4)
        need = 4;
    else
        return *whole = false, 1;
    if (a == 0xe0) low = 0xa0;
    if (a == 0xed) high = 0x9f;
    if (a == 0xf0) low = 0x90;
    if (a == 0xf4) high = 0x8f;
    for (size_t i = 1; i < need; i++) {
        if (i >= left || p[i] < low || p[i] > high) return *whole = false, i;
        low = 0x80, high = 0xbf;
    }
    return need;
}

bool wane_ends(const char *text, const char *with)
{
    size_t n = strlen(text), w = strlen(with);
    return n >= w && !strcmp(text + n - w, with);
}

double wane_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

size_t wane_utf8_length(const unsigned char *p, size_t left)
{
    bool whole;
    if (!left) return 0;
    size_t n = step(p, left, &whole);
    return whole ? n : 0;
}

uint32_t wane_utf8_decode(const unsigned char *p, size_t left, size_t *used)
{
    static const uint32_t mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    bool whole;
    *used = step(p, left, &whole);
    if (!whole) return 0xfffd;
    uint32_t c = p[0] & mask[*used];
    for (size_t i = 1; i < *used; i++) c = c << 6 | (p[i] & 0x3f);
    return c;
}

size_t wane_utf8_encode(uint32_t c, unsigned char out[4])
{
    if (c < 0x80) return out[0] = (unsigned char)c, 1;
    if (c < 0x800) {
        out[0] = (unsigned char)(0xc0 | c >> 6);
        out[1] = (unsigned char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (unsigned char)(0xe0 | c >> 12);
        out[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (unsigned char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (unsigned char)(0xf0 | c >> 18);
    out[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (unsigned char)(0x80 | (c & 0x3f));
    return 4;
}
