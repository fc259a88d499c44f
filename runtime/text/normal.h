/* normal.h - what happens to a text before it is cut into pieces (the "normalizer"). */
#ifndef WANE_TEXT_NORMAL_H
#define WANE_TEXT_NORMAL_H

#include "runtime/text/unicode.h"

typedef enum { NORMAL_NFC, NORMAL_PREPEND, NORMAL_REPLACE } normal_kind;

typedef struct {
    normal_kind kind;
    char *from, *to; /* owned; from is not empty in a REPLACE */
    size_t from_length, to_length;
} normal_step;

enum { NORMAL_STEPS = 16, NORMAL_MOST = 1 << 30 }; /* bytes of a normalized stretch */

/* Steps one after another; {0} changes nothing. */
typedef struct {
    normal_step steps[NORMAL_STEPS];
    int count;
} normalizer;

void normalizer_clear(normalizer *n);

/* Memory that is kept from stretch to stretch; start with {0}, free both. */
typedef struct {
    wane_buffer now, next;
} normal_scratch;

/* The normalized form of well-formed text: in scratch, or the text itself where it stays as it is.
 * EARG: longer than NORMAL_MOST. */
wane_status normalizer_run(const normalizer *n, normal_scratch *scratch, const unsigned char **text,
                           size_t *length, wane_err *e);

/* Appends s with every `from` in it, from left to right, become `to`. */
wane_status normal_replace(const unsigned char *s, size_t length, const char *from,
                           size_t from_length, const char *to, size_t to_length, wane_buffer *out,
                           wane_err *e);

#endif
