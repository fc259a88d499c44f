/* calib.h - calibration texts on their way through a model, one stage of one layer at a time, and
 * the statistics of what the matrices read.
 *
 * The hidden states of all texts wait on the device where they fit beside all else, and on the host
 * where they do not; a batch at a time goes through one stage (model/block.h). So do the inputs of
 * the next stage; where they fit nowhere near they are made again from the hidden states, which
 * costs less than moving them. Every stage runs with the matrices of the layer it is given, so with
 * the quantized ones before it. Equal prefixes are one row (model/batch.h). */
#ifndef WANE_CALIB_H
#define WANE_CALIB_H

#include "runtime/model/batch.h"
#include "runtime/model/block.h"
#include "runtime/quant/memory.h"
#include "runtime/quant/quant.h"

/* What is known of one input x (n,k), on the device; c are the tokens' weights. */
typedef struct {
    int refs;
    int64_t k;
    wane_tensor
        *gram; /* F32 (k,k) sum c x^T x / sum c; (1,k), its diagonal, where inputs are white */
    wane_tensor *mean; /* F32 (1,k) sum c |x| / sum c, or NULL */
    wane_tensor *max;  /* F32 (1,k), or NULL */
    bool white;        /* nothing was measured: independent inputs of variance 1 */
} wane_stats;

/* As if inputs were independent with variance 1. A gram matrix that is not needed is its diagonal.
 */
wane_status wane_stats_white(wane_device *, int64_t k, unsigned needs, wane_stats **out,
                             wane_err *e);
/* Copies of what was measured elsewhere; each but gram may be NULL. Shapes and needs are checked.
 */
wane_status wane_stats_from(wane_device *, const wane_tensor *gram, const wane_tensor *mean,
                            const wane_tensor *max, unsigned needs, wane_stats **out, wane_err *e);
/* Sums, still 0; then those of a batch's rows x (n,k), whose weights F32 (n,1) are the batch's own;
 * in the end, divided by the sum of all weights, means. Only whole batches go into the gram matrix,
 * whose weights' sum is gram_weight. number F32 (1,1) is scratch. */
wane_status wane_stats_zeros(wane_device *, int64_t k, unsigned needs, wane_stats **out,
                             wane_err *e);
wane_status wane_stats_add(wane_device *, wane_stats *, const wane_batch *, bool whole, wane_mat x,
                           wane_mat weight, wane_err *e);
wane_status wane_stats_finish(wane_device *, wane_stats *, double weight, double gram_weight,
                              wane_mat number, wane_err *e);
wane_stats *wane_stats_retain(wane_stats *);
void wane_stats_release(wane_stats *); /* NULL is fine */

typedef struct {
    int refs;
    wane_model *model;     /* retained */
    wane_batches *batches; /* owned */
    int64_t texts;
    int64_t *start; /* [batches + 1] first row of each batch among all */
    int64_t rows;   /* the largest batch's */
    int64_t width;  /* the widest input's */
    double weight;  /* sum of the tokens' weights */
    double part;    /* of the tokens in each `every`-th batch, of which gram matrices are where
                       that is enough */
    int every;
    int stage;        /* the step that comes next, whose input `in` holds; -1: a layer begins */
    float *frequency; /* [d/2] owned, as row */
    int32_t *row;     /* [rows] 0, 1, 2, ... */
    wane_tensor *x;   /* F32 (all rows, hidden): the residual stream */
    wane_tensor *in;  /* of the device's activation type, batch b's at start[b] * width, as (rows,
                         width of the stage); NULL: made again from x */
    wane_tensor *sample, *sample_weight; /* some rows of `in`, undivided, as (rows, width of the
                                            stage), F32 (rows,1); NULL unless they are compared */
    wane_tensor *s; /* F32 (1,k) by which that step divides `in` first, or NULL */
} wane_calib;

/* Embeds all texts. What is needed beside them is left free on the device; batches are as large as
 * the rest allows, and at most 8192 rows or the longest text. */
wane_status wane_calib_new(wane_model *, const wane_sequence *, int64_t count, wane_weighing,
                           const wane_quantize_need *, wane_calib **out, wane_err *e);
wane_calib *wane_calib_retain(wane_calib *);
void wane_calib_release(wane_calib *); /* NULL is fine */

/* Runs stage -1 (the norm) .. 3 of a layer on all texts; stages come in order. With needs, which
 * must be 0 after stage 3, *stats is of the input of the next stage. number (0-based) names the
 * layer in errors; ENUMERIC names the text and token of the first activation that is NaN or Inf. */
wane_status wane_calib_step(wane_calib *, const wane_layer *, int number, int stage, unsigned needs,
                            wane_stats **stats, wane_err *e);

/* From here on the stage's input is x / s, as what makes it was folded. s F32 (1,k) is retained. */
void wane_calib_divide(wane_calib *, wane_tensor *s);

/* Sums over tokens of |y - x w^T|^2 and of |x w^T|^2, for the stage's input x: y by q from x / s
 * (s may be empty), with activations rounded where q rounds them. On about 2048 rows, evenly
 * spread, and the same ones every time. */
wane_status wane_calib_compare(wane_calib *, wane_mat w, wane_mat s, wane_qmat q, double *error,
                               double *norm, wane_err *e);

#endif
