/* unicode.h - what the tokenizer asks of a code point, and steps through text known to be UTF-8.
 *
 * The tables are generated/classes.h; generate_classes.lua says which versions of Unicode they
 * follow and why. */
#ifndef WANE_TEXT_UNICODE_H
#define WANE_TEXT_UNICODE_H

#include "runtime/base/units.h"

enum {
    CLASS_L = 1,  /* \p{L} */
    CLASS_N = 2,  /* \p{N} */
    CLASS_M = 4,  /* \p{M} */
    CLASS_S = 8,  /* White_Space, \s */
    CLASS_W = 16, /* \w as Rust's regex has it: Alphabetic, M, Nd, Pc, Join_Control */
    CLASS_Q = 32  /* NFC may change it, move it or join it to what stands before it */
};

extern const uint16_t wane_class_index[];
extern const uint8_t wane_class_value[];

static inline unsigned unicode_class(uint32_t c) /* c <= 0x10ffff */
{
    return wane_class_value[wane_class_index[c >> 7] * 128u + (c & 127)];
}

/* The code point at s[at]; s is well formed from there on. *next is where the one after it starts.
 */
static inline uint32_t unicode_step(const unsigned char *s, size_t at, size_t *next)
{
    const unsigned char *p = s + at;
    if (p[0] < 0x80) {
        *next = at + 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *next = at + 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    if (p[0] < 0xf0) {
        *next = at + 3;
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *next = at + 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

static inline unsigned unicode_class_at(const unsigned char *s, size_t at, size_t *next)
{
    if (s[at] < 0x80) { /* index[0] is 0 */
        *next = at + 1;
        return wane_class_value[s[at]];
    }
    return unicode_class(unicode_step(s, at, next));
}

/* Where the character before s[at] starts; at > 0. */
static inline size_t unicode_back(const unsigned char *s, size_t at)
{
    do at--;
    while ((s[at] & 0xc0) == 0x80);
    return at;
}

/* A growing buffer of bytes; start with {0}, end with free(data). */
typedef struct {
    unsigned char *data;
    size_t length, room;
} wane_buffer;

wane_status wane_buffer_room(wane_buffer *b, size_t more,
                             wane_err *e); /* for `more` bytes beyond length */
wane_status wane_buffer_add(wane_buffer *b, const void *bytes, size_t length, wane_err *e);

/* Whether all of it is well-formed UTF-8. */
bool wane_utf8_valid(const unsigned char *s, size_t length);

/* Appends s with each ill-formed part replaced by U+FFFD, as Rust's String::from_utf8_lossy does:
 * one for each maximal subpart. */
wane_status wane_utf8_repair(const unsigned char *s, size_t length, wane_buffer *out, wane_err *e);

/* Appends the NFC of s, which is well formed. wane_nfc_needed is false where s is its own NFC. */
bool wane_nfc_needed(const unsigned char *s, size_t length);
wane_status wane_nfc(const unsigned char *s, size_t length, wane_buffer *out, wane_err *e);

#endif
