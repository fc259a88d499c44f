/* text.h - what a tokenizer is made of; for runtime/text alone. */
#ifndef WANE_TEXT_TEXT_H
#define WANE_TEXT_TEXT_H

#include <stdatomic.h>

#include "runtime/text/added.h"
#include "runtime/text/decode.h"
#include "runtime/text/normal.h"
#include "runtime/text/split.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocab.h"

struct wane_tokenizer {
    atomic_int refs;
    vocab words;
    added_set raw, normalized; /* added tokens found before and after normalization */
    normalizer normal;
    splitter split;
    decoder decode;         /* used where words.decoder points to it */
    wane_ids before, after; /* what the template puts around a text */
};

/* Fills t, which is {0} but for refs, from a parsed tokenizer.json; on failure t is to be cleared.
 * lists: what was cut out of it, or NULL. */
wane_status tokenizer_read(wane_tokenizer *t, const json_t *root, const vocab_lists *lists,
                           const vocab_source *from);

#endif
