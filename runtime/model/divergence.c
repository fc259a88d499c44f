/* divergence.c - how far two models' next-token distributions are apart on one text. See forward.h.
 *
 * Both models read the same rows, a part of the text at a time; the logits of a few rows of both
 * are on the device together, and only their divergences leave it. The mean is taken in float64. */
#include "runtime/model/forward.h"

#include <inttypes.h>
#include <stdlib.h>

#include "runtime/model/workspace.h"

enum { LOGIT_SHARE = 4 }; /* of a pass's rows, those whose logits are there at once */

/* Equal sizes for both that fit together. */
static wane_status plan(const wane_model *a, const wane_model *b, int64_t count, wane_sizes *z,
                        wane_err *e)
{
    int64_t most = wane_rows_most(a->device);
    *z = (wane_sizes){.rows = count < most ? count : most,
                      .pool_rows = count,
                      .logit_rows = most / LOGIT_SHARE,
                      .runs = 1,
                      .spans = 1};
    if (z->logit_rows > z->rows) z->logit_rows = z->rows;
    for (;;) {
        uint64_t one = wane_workspace_bytes(a, z), two = wane_workspace_bytes(b, z);
        uint64_t bytes = two > UINT64_MAX - one ? UINT64_MAX : one + two;
        if (bytes <= wane_workspace_room(a->device)) return WANE_OK;
        if (!wane_sizes_halve(a, z))
            return wane_workspace_short(a->device, "divergence", bytes,
                                        "raise memory = or take a shorter text", e);
    }
}

/* Adds up the divergences of `rows` rows that both passes have just computed. */
static wane_status add_rows(const wane_workspace *a, const wane_workspace *b, wane_device *d,
                            int64_t rows, int64_t most, int32_t *row, float *value, double *sum,
                            wane_err *e)
{
    for (int64_t at = 0, n; at < rows; at += n) {
        n = rows - at < most ? rows - at : most;
        wane_mat p = wane_mat_rows(wane_tensor_mat(a->logits), 0, n);
        wane_mat q = wane_mat_rows(wane_tensor_mat(b->logits), 0, n);
        wane_mat y = wane_mat_rows(wane_tensor_mat(a->value), 0, n);
        for (int64_t i = 0; i < n; i++) row[i] = (int32_t)(at + i);
        wane_status status = wane_pass_logits(a->pass, row, n, p, e);
        if (!status) status = wane_pass_logits(b->pass, row, n, q, e);
        if (!status) status = WANE_CALL(d, e, divergence, y, p, q);
        if (!status) status = WANE_CALL(d, e, get, value, y.data, (size_t)n * sizeof *value);
        if (status) return status;
        for (int64_t i = 0; i < n; i++) *sum += value[i];
    }
    return WANE_OK;
}

static wane_status walk(const wane_workspace *a, const wane_workspace *b, wane_device *d,
                        const wane_sizes *z, const int32_t *ids, int64_t count, int32_t *place,
                        float *value, double *sum, wane_err *e)
{
    for (int64_t first = 0, n; first < count; first += n) {
        n = count - first < z->rows ? count - first : z->rows;
        wane_span before = {0, (int32_t)first};
        wane_run run = {0, (int32_t)n, (int32_t)first, 0, first > 0};
        const wane_workspace *both[] = {a, b};
        for (int64_t i = 0; i < n; i++) place[i] = (int32_t)(first + i);
        for (int i = 0; i < 2; i++) {
            wane_status status = wane_pass_run(both[i]->pass, n, ids + first, place, place, &run, 1,
                                               &before, first > 0, e);
            if (status) return status;
        }
        wane_status status = add_rows(a, b, d, n, z->logit_rows, place, value, sum, e);
        if (status) return status;
    }
    return WANE_OK;
}

wane_status wane_model_divergence(wane_model *model, wane_model *other, const int32_t *ids,
                                  int64_t count, double *mean, wane_err *e)
{
    wane_workspace a = {0}, b = {0};
    wane_sizes z;
    int32_t *place = NULL;
    float *value = NULL;
    double sum = 0;
    if (model->device != other->device || model->config->vocabulary != other->config->vocabulary)
        return wane_fail(e, WANE_EARG,
                         "divergence: both models must be on one device and have one vocabulary");
    if (count < 1 || count > model->config->positions || count > other->config->positions)
        return wane_fail(
            e, WANE_EARG, "divergence: %" PRId64 " tokens; these models take 1 to %" PRId64, count,
            model->config->positions < other->config->positions ? model->config->positions
                                                                : other->config->positions);
    wane_status status = wane_model_load(model, e);
    if (!status) status = wane_model_load(other, e);
    if (!status) status = plan(model, other, count, &z, e);
    if (status) goto done;
    place = calloc((size_t)z.rows, sizeof *place);
    value = calloc((size_t)z.logit_rows, sizeof *value);
    if (!place || !value) {
        status = wane_fail(e, WANE_EOOM, "divergence: no host memory for %" PRId64 " rows", z.rows);
        goto done;
    }
    status = wane_workspace_new(model, &z, &a, e);
    if (!status) status = wane_workspace_new(other, &z, &b, e);
    if (!status) status = walk(&a, &b, model->device, &z, ids, count, place, value, &sum, e);
    if (!status) *mean = sum / (double)count;
done:
    wane_workspace_free(&a);
    wane_workspace_free(&b);
    free(place);
    free(value);
    if (status) wane_err_at(e, "divergence", NULL, NULL);
    return status;
}
