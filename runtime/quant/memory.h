/* memory.h - what quantizing takes on the device at once, known without reading a weight.
 *
 * Two things are there by turns beside a layer as it was and as it becomes: a batch of activations
 * on its way through a stage, with what is measured of it; and the scratch of a stage's matrices.
 * All texts' activations wait on the device as far as they fit beside both: the residual stream
 * first, then the inputs of the next stage. */
#ifndef WANE_QUANT_MEMORY_H
#define WANE_QUANT_MEMORY_H

#include "runtime/model/model.h"
#include "runtime/quant/quant.h"

typedef struct {
    uint64_t passing; /* while a batch passes, without it */
    uint64_t working; /* while matrices are encoded */
    bool
        compares; /* on a sample of the inputs, which is counted in both: activations are rounded */
} wane_quantize_need;

/* tokens of calibration text, of which gram matrices are measured whatever the method; 0: none. */
wane_quantize_need wane_quantize_needs(wane_model *, const wane_plan *, int64_t tokens);

/* Of n rows in so many runs and spans during a step; x_here: the residual stream waits on the
 * device anyway. */
uint64_t wane_batch_bytes(const wane_model *, bool x_here, int64_t n, int64_t runs, int64_t spans);
/* The rows of a batch, of so many in all, that fit: at least one and at most what is useful. */
int64_t wane_batch_rows(const wane_model *, const wane_quantize_need *, int64_t tokens);
/* Of a comparison for a matrix (m,k) on a sample of that many rows. */
uint64_t wane_compare_bytes(const wane_model *, int64_t rows, int64_t m, int64_t k);

/* Where activations wait: bytes of the device that are left for them beside `need` and a batch. */
uint64_t wane_waiting_room(const wane_device *, const wane_quantize_need *need, uint64_t batch);
/* What inputs and the residual stream of so many rows take. */
uint64_t wane_inputs_bytes(const wane_model *, int64_t rows);
uint64_t wane_stream_bytes(const wane_model *, int64_t rows);

/* The most that will be on the device at once, with what is there already, for so many calibration
 * tokens in texts of at most `longest`; 0 of both: without activations. EOOM where the budget is
 * too small for any batch: requested is what the smallest takes. */
wane_status wane_quantize_plan(wane_model *, const wane_plan *, int64_t tokens, int64_t longest,
                               uint64_t *peak, wane_err *e);

/* Columns of the widest input of a stage. */
int64_t wane_widest(const wane_config *);

/* Rows of a comparison, at most: in all, and together. */
enum { WANE_COMPARED = 2048, WANE_COMPARED_AT_ONCE = 256 };

#endif
