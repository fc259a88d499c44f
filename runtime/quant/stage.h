/* stage.h - the driver's half of quantizing: the matrices that read one input, measured, rescaled
 * and encoded, with round-to-nearest beside every result.
 *
 * The relative output error of codes q for w is sqrt(tr(d h d^T) / tr(w h w^T)), d = decode(q) - w,
 * h the gram matrix of the input: |x d^T| / |x w^T| over the calibration tokens. Where activations
 * are rounded too it is measured on the activations. Errors are of the function computed: before
 * any rescaling, and after it. */
#ifndef WANE_STAGE_H
#define WANE_STAGE_H

#include "runtime/quant/calib.h"
#include "runtime/quant/fold.h"

typedef struct {
    double error, rtn_error; /* relative output errors */
    bool fallback;           /* rounded to nearest: the method lost to it, or could not work here */
    double seconds;
    wane_note note[WANE_NOTES];
    int notes;
} wane_result;

typedef struct wane_stage wane_stage;

/* Takes over stats' numbers: they change with rescaling. w [n] (m,k) of a float dtype on one
 * device; names [n] are static. calib, may be NULL, is where activations can be had. All are
 * retained. */
wane_status wane_stage_new(const wane_plan *, wane_tensor *const *w, const char *const *names,
                           int n, wane_stats *, wane_calib *calib, wane_stage **out, wane_err *e);
void wane_stage_free(wane_stage *); /* NULL is fine */

/* Device bytes that the steps below take together, without the matrices themselves. */
uint64_t wane_stage_bytes(const wane_plan *, int64_t m, int64_t k, int n, bool gram);

/* Lets the method choose a scale for the input and folds it; nothing where it does not rescale at
 * that stage, or nothing is gained. */
wane_status wane_stage_rescale(wane_stage *, const wane_config *, wane_layer *into, int stage,
                               wane_err *e);
/* The method's scale alone, unfolded: F32 (1,k), with what it noted. To look at a method by hand.
 */
wane_status wane_stage_scale(wane_stage *, wane_tensor **s, wane_result *, wane_err *e);
/* Codes of matrix i. Never worse than rounding to nearest, or the result says by how much. */
wane_status wane_stage_encode(wane_stage *, int i, wane_quantized **out, wane_result *,
                              wane_err *e);

#endif
