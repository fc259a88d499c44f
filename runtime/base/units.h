/* units.h - checked sizes, sizes as people write them, ends of names, seconds, and UTF-8 steps. */
#ifndef WANE_UNITS_H
#define WANE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/error.h"

/* a*b, a+b without wrapping; false where it does not fit. Every size from a file goes through
 * these. */
static inline bool wane_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool wane_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* "24GiB", "512 MiB", "1.5GB", "4096" -> bytes. EARG with the reason otherwise. */
wane_status wane_bytes_parse(const char *text, uint64_t *out, wane_err *e);

/* 25769803776 -> "24 GiB"; returns out (at least 24 bytes). */
const char *wane_bytes_format(char *out, size_t size, uint64_t bytes);

/* Whether text ends with that. */
bool wane_ends(const char *text, const char *with);

double wane_clock(void); /* seconds of a clock that never jumps; only differences mean something */

/* Length in bytes of the well-formed UTF-8 character at p (1..4), or 0. */
size_t wane_utf8_length(const unsigned char *p, size_t left);

/* The code point at p and how many bytes it took; an ill-formed start gives U+FFFD and the length
 * of its maximal subpart, as Unicode recommends (at least 1). left > 0. */
uint32_t wane_utf8_decode(const unsigned char *p, size_t left, size_t *used);

/* Writes c as UTF-8, returns 1..4. */
size_t wane_utf8_encode(uint32_t c, unsigned char out[4]);

#endif
