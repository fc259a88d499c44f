/* block.h - one transformer block on n rows, in the four stages whose inputs quantizers look at
 * (families.def has what reads them).
 *
 *   begin   in (n,hidden) = rmsnorm(x)
 *   stage 0 q,k,v read in; norms of q and k, rope, store, attend      -> out (n, h*d)
 *   stage 1 o reads in; x += ..., out (n,hidden) = rmsnorm(x)
 *   stage 2 gate, up read in; silu(gate)*up                           -> out (n, mlp)
 *   stage 3 down reads in; x += ...
 * x (n,hidden) F32 is the residual stream. What matrices read, keys and values are of the device's
 * activation type (kernels.h); queries, and what is added to x, are F32. */
#ifndef WANE_BLOCK_H
#define WANE_BLOCK_H

#include "runtime/model/model.h"

typedef struct {
    wane_device *device; /* borrowed, as all below */
    const wane_config *config;
    wane_mat frequency; /* F32 (1,d/2) */
    wane_mat position,
        row;               /* I32 (n,1): of each row, and where its key and value go in the pools */
    wane_mat keys, values; /* pools (rows, kv_heads*d) of this layer */
    wane_attention attention;
    void *scratch; /* at least wane_block_scratch bytes, aligned to 256 */
} wane_block;

/* Heads and scale as the config says, over runs and spans in device memory. */
wane_attention wane_block_attention(const wane_config *, const void *runs, int n_runs,
                                    const void *spans);

/* Bytes for n rows. */
uint64_t wane_block_scratch(const wane_config *, wane_dtype activations, int64_t n);
int64_t wane_stage_width(const wane_config *,
                         int stage); /* columns of the stage's input: k of its matrices */

/* in and out may be of any float dtype; begin writes in, a stage reads in and writes the next
 * stage's in. Stage 3 has no out (an empty mat). */
wane_status wane_block_begin(const wane_block *, const wane_layer *, wane_mat x, wane_mat in,
                             wane_err *e);
wane_status wane_block_advance(const wane_block *, const wane_layer *, int stage, wane_mat x,
                               wane_mat in, wane_mat out, wane_err *e);
/* Where in the scratch the input of a stage may lie for n rows, beside that of the stage before. */
wane_mat wane_block_place(const wane_block *, int stage, int64_t n);
/* The input of a stage made anew, in its place, from x as it is when the stage comes: for 1 and 3
 * the stage before runs again. */
wane_status wane_block_input(const wane_block *, const wane_layer *, int stage, wane_mat x,
                             wane_mat *in, wane_err *e);
/* begin and the four stages. */
wane_status wane_block_forward(const wane_block *, const wane_layer *, wane_mat x, wane_err *e);

/* y (n,m) = x W^T + bias, dense or from codes. */
wane_status wane_linear_apply(wane_device *, const wane_linear *, wane_mat y, wane_mat x,
                              wane_err *e);

#endif
