/* workspace.h - the device memory of a loop over passes, planned before it is taken.
 *
 * A model's loops (scores, divergences, generation) differ in what they pass through it, not in
 * what they need: a pass, and logits of some of its rows with an id and a value for each. */
#ifndef WANE_WORKSPACE_H
#define WANE_WORKSPACE_H

#include "runtime/model/pass.h"

typedef struct {
    int64_t rows;       /* of one pass */
    int64_t pool_rows;  /* of keys and values */
    int64_t logit_rows; /* at once; at most rows */
    int runs, spans;
    int texts, steps, stops; /* of a decoder; 0: there is none */
} wane_sizes;

typedef struct {
    wane_pass *pass;
    wane_tensor *logits; /* F32 (logit_rows, v) */
    wane_tensor *ids;    /* I32 (logit_rows, 1) */
    wane_tensor *value;  /* F32 (logit_rows, 1) */
} wane_workspace;

/* What it takes on the model's device, beside the model; UINT64_MAX where that does not fit in 64
 * bits. */
uint64_t wane_workspace_bytes(const wane_model *, const wane_sizes *);

/* Rows of a pass beyond which more at once are no faster, only larger. */
int64_t wane_rows_most(const wane_device *);

/* Bytes that a plan may count on: what is free, less a sixteenth where that is only a hint. */
uint64_t wane_workspace_room(const wane_device *);

/* Halves logit_rows or rows, whichever takes more, down to one; false where both are one. */
bool wane_sizes_halve(const wane_model *, wane_sizes *);

/* EOOM: what is needed at least, and what there is. op: "score", "generate". */
wane_status wane_workspace_short(const wane_device *, const char *op, uint64_t needed,
                                 const char *remedy, wane_err *e);

/* {0} on failure. Loads the model first. */
wane_status wane_workspace_new(wane_model *, const wane_sizes *, wane_workspace *out, wane_err *e);
void wane_workspace_free(wane_workspace *); /* {0} is fine */

#endif
