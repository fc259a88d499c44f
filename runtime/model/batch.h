/* batch.h - token sequences packed for one pass, with equal prefixes computed once.
 *
 * Sequences are sorted and laid out as a radix trie in depth-first order: what a sequence adds to
 * those before it is a run of consecutive rows, its ancestors are its spans (kernels.h). In a
 * causal model equal prefixes have equal activations, so every distinct prefix is one row. No
 * padding. */
#ifndef WANE_BATCH_H
#define WANE_BATCH_H

#include "runtime/tensor/tensor.h"

typedef struct {
    const int32_t *ids;  /* borrowed */
    const float *weight; /* of each token, or NULL: all 1 */
    int64_t count;
} wane_sequence;

/* order [count] = indices of the sequences, sorted by their ids; a beginning of another comes
 * before it. EOOM. */
wane_status wane_sequences_sort(const wane_sequence *, int64_t count, int64_t *order, wane_err *e);
/* How many ids two sequences begin with in common. */
int64_t wane_sequences_shared(const wane_sequence *, const wane_sequence *);

/* How a row that several sequences share is weighed: once (the largest of its weights), or once for
 * each (the sum). */
typedef enum { WANE_WEIGH_UNIQUE, WANE_WEIGH_ALL } wane_weighing;

typedef struct wane_batch {
    int64_t n;         /* rows */
    int32_t *ids;      /* [n] */
    int32_t *position; /* [n] 0-based */
    float *weight;     /* [n]; 0 for rows that another batch has counted already */
    wane_run *runs;    /* query and row count from 0: row i of the batch is row i of the pool */
    wane_span *spans;
    int n_runs, n_spans;
} wane_batch;

typedef struct {
    int32_t batch, row;
} wane_place;

typedef struct {
    wane_batch *batch; /* [count] */
    int count;
    int64_t *first; /* [sequences]: token t of sequence s is at[first[s]+t], in the batch that has
                       all of s */
    wane_place *at;
    int64_t rows;     /* of all batches */
    int64_t distinct; /* prefixes that count: rows with a weight above 0 */
    int64_t tokens;   /* of all sequences */
} wane_batches;

/* Batches of at most `most` rows (a longer sequence gets a batch of its own). Prefixes that a later
 * batch needs again are computed again there, with weight 0. */
wane_status wane_batches_new(const wane_sequence *, int64_t sequences, int64_t most, wane_weighing,
                             wane_batches **out, wane_err *e);
void wane_batches_free(wane_batches *); /* NULL is fine */

/* Rows first .. first+rows-1 of a batch as runs of their own (queries from 0, pool rows as in the
 * batch): rows before them have been through a pass. Counts runs and spans, and writes them where
 * the arrays are not NULL. */
void wane_batch_part(const wane_batch *, int64_t first, int64_t rows, wane_run *runs, int *n_runs,
                     wane_span *spans, int *n_spans);

#endif
