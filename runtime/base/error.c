/* error.c - filling error objects, and making foreign text safe to print. */
#include "runtime/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/units.h"

static void set(char *field, size_t size, const char *text)
{
    if (text) snprintf(field, size, "%s", text);
}

wane_status wane_fail(wane_err *e, wane_status s, const char *format, ...)
{
    if (!e) return s;
    va_list args;
    memset(e, 0, sizeof *e);
    e->status = s;
    e->offset = -1;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    return s;
}

wane_status wane_fail_io(wane_err *e, const char *what, const char *path)
{
    int code = errno;
    char shown[512];
    wane_escape(shown, sizeof shown, path, strlen(path));
    wane_status s = code == ENOMEM ? WANE_EOOM : WANE_EIO;
    wane_fail(e, s, "cannot %s %s: %s", what, shown, strerror(code));
    if (e) set(e->path, sizeof e->path, path);
    return s;
}

wane_status wane_err_at(wane_err *e, const char *op, const char *layer, const char *path)
{
    if (!e) return WANE_EARG;
    if (!e->op[0]) set(e->op, sizeof e->op, op);
    if (!e->layer[0]) set(e->layer, sizeof e->layer, layer);
    if (!e->path[0]) set(e->path, sizeof e->path, path);
    return e->status;
}

const char *wane_status_code(wane_status s)
{
    static const char *const code[] = {"ok",     "argument",    "oom",     "io",
                                       "format", "unsupported", "numeric", "network",
                                       "device", "interrupted"};
    return (size_t)s < sizeof code / sizeof *code ? code[s] : "unknown";
}

const char *wane_escape(char *out, size_t size, const char *text, size_t length)
{
    size_t at = 0, i = 0;
    while (i < length) {
        const unsigned char *p = (const unsigned char *)text + i;
        size_t n = wane_utf8_length(p, length - i);
        bool plain = n > 1 ? !(p[0] == 0xc2 && p[1] < 0xa0) : n == 1 && *p >= 0x20 && *p != 0x7f;
        if (at + 8 > size) { /* room for the longest piece (4), "..." and the end */
            if (size >= 4) snprintf(out + (at + 4 <= size ? at : size - 4), 4, "...");
            return out;
        }
        if (plain) {
            memcpy(out + at, p, n);
            at += n;
            i += n;
        } else {
            at += (size_t)snprintf(out + at, size - at, "\\x%02x", *p);
            i++;
        }
    }
    if (size) out[at] = 0;
    return out;
}
