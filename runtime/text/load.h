/* load.h - what the parts of reading a tokenizer.json share: load.c the whole, steps.c the
 * normalizer, pre_tokenizer and decoder. */
#ifndef WANE_TEXT_LOAD_H
#define WANE_TEXT_LOAD_H

#include "runtime/text/text.h"

typedef struct {
    wane_tokenizer *t;
    const vocab_source *from;
    bool bytes_cut;     /* the pre-tokenizer has had its ByteLevel */
    bool bytes_decoded; /* the decoder too */
    unsigned growth; /* how much longer the normalizer, or the decoder, may make a text; from 1 */
} reader;

/* EUNSUPPORTED: a component of a type that is not among `known`. */
wane_status load_unknown(const reader *r, const char *component, const char *type,
                         const char *known);

/* The "type" of a component; NULL and an error where there is none. */
const char *load_type(const reader *r, const json_t *value, const char *component);

/* A flag of a component; `otherwise` (0, 1) where it is absent, -1 makes that an error. */
wane_status load_flag(const reader *r, const json_t *value, const char *name, int otherwise,
                      bool *out);

/* The list of a Sequence that is itself `depth` deep in others. */
wane_status load_list(const reader *r, const json_t *value, const char *name, int depth,
                      const json_t **out);

/* The three components of the file, which may be absent, into r->t; and whether they make one kind
 * of tokenizer: r->t->words.decoder is set where contents are text. */
wane_status load_steps(reader *r, const json_t *root);

#endif
