/* pass.h - one pass over rows: token ids in, final hidden states out, keys and values kept for the
 * next pass. Logits, scores, divergences and generation are all loops over it.
 *
 * A pass owns device memory for at most `rows` rows at once and, for each layer, pools of keys and
 * values of `pool_rows` rows, of the device's activation type. Which pool row a token takes and
 * what it sees is the caller's: see wane_run in kernels.h. All of it is allocated by wane_pass_new,
 * nothing later. */
#ifndef WANE_PASS_H
#define WANE_PASS_H

#include "runtime/model/block.h"

typedef struct wane_pass {
    wane_model *model; /* retained, loaded */
    int64_t rows, pool_rows;
    int max_runs, max_spans;
    int64_t n;       /* rows of the last run; 0 before the first */
    wane_mat hidden; /* (n,hidden) of the last run, after the final norm; until the next run */
    wane_tensor *x;  /* F32 (rows,hidden) the residual stream */
    wane_tensor *ids, *position, *row; /* I32 (rows,1) */
    wane_tensor *runs, *spans;         /* bytes of wane_run, wane_span */
    wane_tensor *scratch;              /* wane_block_scratch bytes */
    wane_tensor **keys, **values;      /* [layers] (pool_rows, kv_heads*d) */
} wane_pass;

/* What wane_pass_new takes on a device of that activation type, to plan within the budget before
 * asking. UINT64_MAX where the sizes do not fit in 64 bits. Logits are not in it: they are the
 * caller's. */
uint64_t wane_pass_bytes(const wane_config *, wane_dtype activations, int64_t rows,
                         int64_t pool_rows, int max_runs, int max_spans);

/* Loads the model first, if it is not. EOOM has taken nothing. */
wane_status wane_pass_new(wane_model *, int64_t rows, int64_t pool_rows, int max_runs,
                          int max_spans, wane_pass **out, wane_err *e);
void wane_pass_free(wane_pass *); /* NULL is fine */

/* Larger pools; the rows that were there keep what they hold. EOOM: the pass works on as it was,
 * though some layers may have the larger pools already. */
wane_status wane_pass_grow(wane_pass *, int64_t pool_rows, wane_err *e);

/* Host arrays: ids, position and row have n entries (n at most rows); runs cover all n rows in
 * order. Everything is checked against the pools and the vocabulary: EARG says which entry. Polls
 * the device for an interrupt between blocks; after a failure pool rows named by `row` are spoilt
 * and all others as they were. */
wane_status wane_pass_run(wane_pass *, int64_t n, const int32_t *ids, const int32_t *position,
                          const int32_t *row, const wane_run *runs, int n_runs,
                          const wane_span *spans, int n_spans, wane_err *e);

/* What a pass reads of its n rows, in device memory: see wane_run in kernels.h. */
typedef struct {
    wane_mat ids, position, row; /* I32 (n,1) */
    const void *runs, *spans;    /* wane_run, wane_span */
    int n_runs;
} wane_pass_input;

/* The same over what lies on the device already, which is not checked; the model is loaded. It only
 * queues slots, so it can be recorded (kernels.h). */
wane_status wane_pass_forward(wane_pass *, const wane_pass_input *, wane_err *e);

/* y F32 (count,v) = logits of rows first .. first+count-1 of the last run. Can be recorded too. */
wane_status wane_pass_head(wane_pass *, int64_t first, int64_t count, wane_mat y, wane_err *e);

/* y F32 (count,v) = logits of rows row[0..count-1] of the last run (host array; count at most the
 * pass's rows), or of its first count rows where row is NULL. y is the caller's. */
wane_status wane_pass_logits(wane_pass *, const int32_t *row, int64_t count, wane_mat y,
                             wane_err *e);

#endif
