/* search.c - the scale of shared inputs that loses least, among candidates.
 *
 * The loss of a candidate s is the sum over the matrices w that read the input of tr(d h d^T), with
 * d = decode(encode(w * s)) / s - w and h (k,k) the mean of x^T x: the mean squared change of the
 * outputs, exactly, without another pass over the activations. It stands for the parent block's
 * output error, which the authors of AWQ measure for q, k, v and gate, up.
 *
 * A candidate under which one matrix loses to plain rounding of itself is out, however much the
 * others gain: so a matrix that is rounded plainly after any rescaling is never worse for it. */
#include <math.h>
#include <stdlib.h>

#include "runtime/quant/quant.h"

uint64_t wane_search_bytes(const wane_plan *p, int64_t m, int64_t k)
{
    return 3 * wane_mat_bytes(WANE_F32, m, k) + wane_grid_bytes(p, m, k) +
           wane_mat_bytes(WANE_F32, 1, k) + wane_mat_bytes(WANE_F32, 1, 1);
}

wane_status wane_job_put_scale(wane_job *j, wane_mat s, wane_candidate candidate, const void *self,
                               int i, wane_err *e)
{
    size_t bytes = (size_t)j->k * sizeof(float);
    float *values = malloc(bytes);
    if (!values) return wane_fail(e, WANE_EOOM, "host: no memory for a scale");
    candidate(self, i, values, j->k);
    if (j->snap) j->snap(j->fold, values, j->k);
    wane_status st = WANE_CALL(j->device, e, put, s.data, values, bytes);
    free(values);
    return st;
}

/* Loss of w (F32) under s, rounded to nearest; s without data is 1. */
static wane_status try(wane_job *j, wane_mat w, wane_mat s, double *loss, wane_err *e)
{
    wane_device *d = j->device;
    uint64_t used = j->scratch_used;
    wane_mat none = {0}, scaled = wane_job_take(j, WANE_F32, w.rows, w.cols);
    wane_mat work = wane_job_take(j, WANE_F32, w.rows, w.cols);
    wane_qmat q = wane_job_take_grid(j, w.rows, w.cols);
    wane_status st = WANE_OK;
    if (s.data) st = WANE_CALL(d, e, binary, scaled, w, s, WANE_MUL);
    if (!s.data) scaled = w;
    if (!st) st = WANE_CALL(d, e, fit_grid, q, scaled, none);
    if (!st) st = WANE_CALL(d, e, encode, q, scaled);
    if (!st) st = wane_job_loss(j, q, w, s, work, loss, e);
    j->scratch_used = used;
    return st;
}

/* Adds the losses of one matrix to those of the candidates; infinite for one that it loses under.
 */
static wane_status add_matrix(wane_job *j, wane_mat source, int count, wane_candidate candidate,
                              const void *self, double *sum, double *plain, wane_err *e)
{
    uint64_t used = j->scratch_used;
    wane_mat none = {0}, w = wane_job_take(j, WANE_F32, source.rows, source.cols);
    wane_mat s = wane_job_take(j, WANE_F32, 1, j->k);
    double least, loss;
    wane_status st = WANE_CALL(j->device, e, convert, w, source);
    if (!st) st = try(j, w, none, &least, e);
    if (!st) *plain += least;
    for (int i = 0; i < count && !st; i++) {
        if (isinf(sum[i])) continue;
        st = wane_device_poll(j->device, e);
        if (!st) st = wane_job_put_scale(j, s, candidate, self, i, e);
        if (!st) st = try(j, w, s, &loss, e);
        if (!st) sum[i] = loss <= least ? sum[i] + loss : INFINITY;
    }
    j->scratch_used = used;
    return st;
}

static void ones(const void *self, int i, float *s, int64_t k)
{
    (void)self, (void)i;
    for (int64_t c = 0; c < k; c++) s[c] = 1;
}

wane_status wane_job_search(wane_job *j, wane_mat s, const wane_mat *w, int n, int count,
                            wane_candidate candidate, const void *self, int *best, wane_err *e)
{
    double plain = 0, *sum = calloc((size_t)count, sizeof *sum);
    wane_status st = WANE_OK;
    *best = -1;
    if (!sum) return wane_fail(e, WANE_EOOM, "host: no memory for a search");
    for (int i = 0; i < n && !st; i++)
        st = add_matrix(j, w[i], count, candidate, self, sum, &plain, e);
    if (st) goto done;
    double least = plain;
    for (int i = 0; i < count; i++)
        if (sum[i] < least) least = sum[i], *best = i;
    st = *best < 0 ? wane_job_put_scale(j, s, ones, NULL, 0, e)
                   : wane_job_put_scale(j, s, candidate, self, *best, e);
done:
    free(sum);
    return st;
}
