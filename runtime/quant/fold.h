/* fold.h - dividing a scale of inputs out of what makes the inputs, so that the layer computes the
 * same function. */
#ifndef WANE_FOLD_H
#define WANE_FOLD_H

#include "runtime/model/model.h"

typedef struct wane_fold wane_fold;

/* For the inputs of a stage (model/block.h) of the layer being built, which it retains. */
wane_status wane_fold_new(const wane_config *, wane_layer *into, int stage, wane_fold **out,
                          wane_err *e);
void wane_fold_free(wane_fold *); /* NULL is fine */

/* Heads that read the same value channel get one number: the mean of theirs, or the largest. */
void wane_fold_share(const wane_fold *, float *x, bool largest);

/* s [k] becomes what dividing by it really does once the producer is rounded to its stored type:
 * old over new. Where that is no positive number it is 1. A wane_job's snap. */
void wane_fold_snap(const void *fold, float *s, int64_t k);

/* Divides: the layer gets new norms, scales and biases, and s what was really divided by. */
wane_status wane_fold_apply(wane_fold *, float *s, wane_err *e);

#endif
