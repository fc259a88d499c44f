/* logits.c - wane_model_logits: every token's logits of one sequence. See forward.h.
 *
 * The sequence goes through in pieces of as many rows as the budget leaves room for; a piece sees
 * the rows before it as one span, so that their size changes no answer. */
#include <inttypes.h>
#include <stdlib.h>

#include "runtime/base/units.h"
#include "runtime/model/forward.h"
#include "runtime/model/workspace.h"

/* The rows that fit beside the logits themselves; nothing is taken where not even one does. */
static wane_status plan(const wane_model *m, int64_t count, int64_t *rows, wane_err *e)
{
    uint64_t room = wane_workspace_room(m->device), needed;
    int64_t most = wane_rows_most(m->device);
    uint64_t logits = (uint64_t)count * (uint64_t)m->config->vocabulary * sizeof(float);
    for (*rows = count < most ? count : most;; *rows = (*rows + 1) / 2) {
        uint64_t pass = wane_pass_bytes(m->config, m->device->k->activations, *rows, count, 1, 1);
        if (!wane_add(pass, logits, &needed)) needed = UINT64_MAX;
        if (needed <= room) return WANE_OK;
        if (*rows == 1)
            return wane_workspace_short(m->device, "logits", needed, "take fewer tokens", e);
    }
}

static wane_status run_piece(wane_pass *p, const int32_t *ids, int64_t first, int64_t n,
                             int32_t *place, wane_mat y, wane_err *e)
{
    wane_span before = {0, (int32_t)first};
    wane_run run = {0, (int32_t)n, (int32_t)first, 0, first > 0};
    for (int64_t i = 0; i < n; i++) place[i] = (int32_t)(first + i);
    wane_status s = wane_pass_run(p, n, ids + first, place, place, &run, 1, &before, first > 0, e);
    return s ? s : wane_pass_logits(p, NULL, n, wane_mat_rows(y, first, n), e);
}

wane_status wane_model_logits(wane_model *m, const int32_t *ids, int64_t count, wane_tensor **out,
                              wane_err *e)
{
    wane_pass *pass = NULL;
    wane_tensor *y = NULL;
    int32_t *place = NULL;
    int64_t rows = 0;
    *out = NULL;
    if (count < 1 || count > m->config->positions)
        return wane_fail(e, WANE_EARG,
                         "%" PRId64 " tokens; this model takes 1 to %" PRId64
                         " (max_position_embeddings)",
                         count, m->config->positions);
    wane_status s = wane_model_load(m, e);
    if (!s) s = plan(m, count, &rows, e);
    if (!s) s = wane_tensor_new2(m->device, WANE_F32, count, m->config->vocabulary, &y, e);
    if (!s) s = wane_pass_new(m, rows, count, 1, 1, &pass, e);
    if (!s) {
        place = malloc((size_t)rows * sizeof *place);
        if (!place) s = wane_fail(e, WANE_EOOM, "host: no memory for %" PRId64 " positions", rows);
    }
    for (int64_t first = 0; first < count && !s; first += rows) {
        int64_t n = count - first < rows ? count - first : rows;
        s = run_piece(pass, ids, first, n, place, wane_tensor_mat(y), e);
    }
    if (!s) s = wane_device_check(m->device, m->device->k->sync(m->device->dev), "sync", e);
    wane_pass_free(pass);
    free(place);
    if (s) {
        wane_tensor_release(y);
        wane_err_at(e, "logits", NULL, NULL);
        return s;
    }
    *out = y;
    return WANE_OK;
}
