/* pass.c - see pass.h. Embed, every block, final norm; logits from the head for the rows asked for.
 * The hidden states lie at the start of the scratch, where the blocks are done with it. */
#include "runtime/model/pass.h"

#include <inttypes.h>
#include <stdlib.h>

#include "runtime/base/units.h"

static bool add_product(uint64_t *sum, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t p;
    return wane_mul(a, b, &p) && wane_mul(p, c, &p) && wane_add(*sum, p, sum);
}

uint64_t wane_pass_bytes(const wane_config *c, wane_dtype activations, int64_t rows,
                         int64_t pool_rows, int max_runs, int max_spans)
{
    uint64_t n = (uint64_t)rows, most = 0, bytes;
    uint64_t pool = 2 * (uint64_t)(c->layers * c->kv_heads * c->head_dim);
    /* n rows never take more than n times one */
    if (!add_product(&most, n, wane_block_scratch(c, activations, 1), 1)) return UINT64_MAX;
    bytes = wane_block_scratch(c, activations, rows);
    bool fits = add_product(&bytes, n, (uint64_t)c->hidden, sizeof(float)) &&
                add_product(&bytes, n, 3, sizeof(int32_t)) &&
                add_product(&bytes, (uint64_t)max_runs, 1, sizeof(wane_run)) &&
                add_product(&bytes, (uint64_t)max_spans, 1, sizeof(wane_span)) &&
                add_product(&bytes, (uint64_t)pool_rows, pool, wane_dtype_bytes(activations));
    return fits ? bytes : UINT64_MAX;
}

static wane_status allocate(wane_pass *p, wane_err *e)
{
    const wane_config *c = p->model->config;
    wane_device *d = p->model->device;
    int64_t layers = c->layers, width = c->kv_heads * c->head_dim;
    p->keys = calloc((size_t)layers, sizeof *p->keys);
    p->values = calloc((size_t)layers, sizeof *p->values);
    if (!p->keys || !p->values)
        return wane_fail(e, WANE_EOOM, "host: no memory for a list of layers");
    wane_status s = wane_tensor_new2(d, WANE_F32, p->rows, c->hidden, &p->x, e);
    if (!s) s = wane_tensor_new2(d, WANE_I32, p->rows, 1, &p->ids, e);
    if (!s) s = wane_tensor_new2(d, WANE_I32, p->rows, 1, &p->position, e);
    if (!s) s = wane_tensor_new2(d, WANE_I32, p->rows, 1, &p->row, e);
    int64_t runs = p->max_runs * (int64_t)sizeof(wane_run);
    int64_t spans = p->max_spans * (int64_t)sizeof(wane_span);
    if (!s) s = wane_tensor_new2(d, WANE_U8, 1, runs, &p->runs, e);
    if (!s) s = wane_tensor_new2(d, WANE_U8, 1, spans, &p->spans, e);
    int64_t scratch = (int64_t)wane_block_scratch(c, d->k->activations, p->rows);
    if (!s) s = wane_tensor_new2(d, WANE_U8, 1, scratch, &p->scratch, e);
    for (int64_t i = 0; i < layers && !s; i++) {
        s = wane_tensor_new2(d, d->k->activations, p->pool_rows, width, &p->keys[i], e);
        if (!s) s = wane_tensor_new2(d, d->k->activations, p->pool_rows, width, &p->values[i], e);
    }
    return s;
}

wane_status wane_pass_new(wane_model *model, int64_t rows, int64_t pool_rows, int max_runs,
                          int max_spans, wane_pass **out, wane_err *e)
{
    *out = NULL;
    if (rows < 1 || rows > INT32_MAX || pool_rows < 1 || pool_rows > INT32_MAX || max_runs < 1 ||
        max_spans < 0 ||
        wane_pass_bytes(model->config, model->device->k->activations, rows, pool_rows, max_runs,
                        max_spans) == UINT64_MAX)
        return wane_fail(e, WANE_EARG,
                         "a pass of %" PRId64 " rows over pools of %" PRId64 " cannot be", rows,
                         pool_rows);
    wane_status s = wane_model_load(model, e);
    if (s) return s;
    wane_pass *p = calloc(1, sizeof *p);
    if (!p) return wane_fail(e, WANE_EOOM, "host: no memory for a pass");
    p->model = wane_model_retain(model);
    p->rows = rows;
    p->pool_rows = pool_rows;
    p->max_runs = max_runs;
    p->max_spans = max_spans;
    s = allocate(p, e);
    if (s)
        wane_pass_free(p);
    else
        *out = p;
    return s;
}

void wane_pass_free(wane_pass *p)
{
    if (!p) return;
    for (int64_t i = 0; i < p->model->config->layers; i++) {
        if (p->keys) wane_tensor_release(p->keys[i]);
        if (p->values) wane_tensor_release(p->values[i]);
    }
    free(p->keys);
    free(p->values);
    wane_tensor_release(p->x);
    wane_tensor_release(p->ids);
    wane_tensor_release(p->position);
    wane_tensor_release(p->row);
    wane_tensor_release(p->runs);
    wane_tensor_release(p->spans);
    wane_tensor_release(p->scratch);
    wane_model_release(p->model);
    free(p);
}

static wane_status grow_pool(wane_device *d, wane_tensor **pool, int64_t rows, wane_err *e)
{
    wane_tensor *larger;
    wane_mat old = wane_tensor_mat(*pool);
    if (old.rows >= rows) return WANE_OK;
    wane_status s = wane_tensor_new2(d, old.dtype, rows, old.cols, &larger, e);
    if (s) return s;
    s = WANE_CALL(d, e, copy, wane_tensor_mat(larger).data, old.data, wane_tensor_bytes(*pool));
    wane_tensor_release(s ? larger : *pool);
    if (!s) *pool = larger;
    return s;
}

wane_status wane_pass_grow(wane_pass *p, int64_t pool_rows, wane_err *e)
{
    wane_status s = WANE_OK;
    if (pool_rows > INT32_MAX)
        return wane_fail(e, WANE_EARG, "pools of %" PRId64 " rows cannot be", pool_rows);
    for (int64_t i = 0; i < p->model->config->layers && !s; i++) {
        s = grow_pool(p->model->device, &p->keys[i], pool_rows, e);
        if (!s) s = grow_pool(p->model->device, &p->values[i], pool_rows, e);
    }
    if (!s && pool_rows > p->pool_rows) p->pool_rows = pool_rows;
    return s;
}

/* Kernels trust what they get, so nothing that leads out of a buffer may reach them. */
static wane_status check_rows(const wane_pass *p, int64_t n, const int32_t *ids,
                              const int32_t *position, const int32_t *row, wane_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= p->model->config->vocabulary)
            return wane_fail(e, WANE_EARG,
                             "token %" PRId64 " has id %" PRId32 "; the vocabulary has %" PRId64,
                             i + 1, ids[i], p->model->config->vocabulary);
        if (position[i] < 0)
            return wane_fail(e, WANE_EARG, "token %" PRId64 " has position %" PRId32, i + 1,
                             position[i]);
        if (row[i] < 0 || row[i] >= p->pool_rows)
            return wane_fail(e, WANE_EARG,
                             "token %" PRId64 " takes row %" PRId32 " of a pool of %" PRId64, i + 1,
                             row[i], p->pool_rows);
    }
    return WANE_OK;
}

static wane_status check_runs(const wane_pass *p, int64_t n, const int32_t *row,
                              const wane_run *runs, int n_runs, const wane_span *spans, int n_spans,
                              wane_err *e)
{
    int64_t next = 0;
    for (int i = 0; i < n_spans; i++)
        if (spans[i].row < 0 || spans[i].count < 0 || spans[i].count > p->pool_rows - spans[i].row)
            return wane_fail(e, WANE_EARG, "span %d is not within a pool of %" PRId64 " rows",
                             i + 1, p->pool_rows);
    for (int i = 0; i < n_runs; i++) {
        const wane_run *r = &runs[i];
        bool good = r->query == next && r->count > 0 && r->count <= n - next && r->row >= 0 &&
                    r->n_spans >= 0 &&
                    (!r->n_spans || (r->span >= 0 && r->span <= n_spans - r->n_spans));
        for (int32_t k = 0; good && k < r->count; k++) good = row[next + k] == r->row + k;
        if (!good)
            return wane_fail(e, WANE_EARG, "run %d does not fit the rows and spans of its pass",
                             i + 1);
        next += r->count;
    }
    if (next != n)
        return wane_fail(e, WANE_EARG, "the runs cover %" PRId64 " of %" PRId64 " rows", next, n);
    return WANE_OK;
}

static wane_status put(const wane_pass *p, wane_tensor *t, const void *host, size_t bytes,
                       wane_err *e)
{
    if (!bytes) return WANE_OK;
    return WANE_CALL(p->model->device, e, put, wane_tensor_mat(t).data, host, bytes);
}

static wane_mat first_rows(const wane_tensor *t, int64_t n)
{
    return wane_mat_rows(wane_tensor_mat(t), 0, n);
}

/* n rows of the residual's width at byte `at` of the scratch, as the head reads them */
static wane_mat scratch_rows(const wane_pass *p, uint64_t at, int64_t n)
{
    int64_t hidden = p->model->config->hidden;
    char *start = wane_tensor_mat(p->scratch).data;
    return (wane_mat){start + at, p->model->device->k->activations, n, hidden, hidden};
}

wane_status wane_pass_forward(wane_pass *p, const wane_pass_input *in, wane_err *e)
{
    wane_model *m = p->model;
    wane_device *d = m->device;
    int64_t n = in->ids.rows;
    p->n = 0;
    p->hidden = (wane_mat){0};
    wane_mat x = first_rows(p->x, n), hidden = scratch_rows(p, 0, n);
    wane_block b = {
        .device = d,
        .config = m->config,
        .frequency = wane_tensor_mat(m->frequency),
        .position = in->position,
        .row = in->row,
        .attention = wane_block_attention(m->config, in->runs, in->n_runs, in->spans),
        .scratch = wane_tensor_mat(p->scratch).data,
    };
    wane_status s = WANE_CALL(d, e, embed, x, in->ids, wane_tensor_mat(m->embedding));
    for (int64_t i = 0; i < m->config->layers && !s; i++) {
        s = wane_device_poll(d, e);
        b.keys = first_rows(p->keys[i], p->pool_rows);
        b.values = first_rows(p->values[i], p->pool_rows);
        if (!s) s = wane_block_forward(&b, m->layer[i], x, e);
    }
    if (!s) s = WANE_CALL(d, e, rmsnorm, hidden, x, wane_tensor_mat(m->final_norm), m->config->eps);
    if (s) return s;
    p->n = n;
    p->hidden = hidden;
    return WANE_OK;
}

wane_status wane_pass_run(wane_pass *p, int64_t n, const int32_t *ids, const int32_t *position,
                          const int32_t *row, const wane_run *runs, int n_runs,
                          const wane_span *spans, int n_spans, wane_err *e)
{
    if (n < 1 || n > p->rows || n_runs > p->max_runs || n_spans > p->max_spans)
        return wane_fail(e, WANE_EARG,
                         "%" PRId64 " rows, %d runs and %d spans are not for a pass of %" PRId64
                         ", %d and %d",
                         n, n_runs, n_spans, p->rows, p->max_runs, p->max_spans);
    p->n = 0;
    wane_status s = check_rows(p, n, ids, position, row, e);
    if (!s) s = check_runs(p, n, row, runs, n_runs, spans, n_spans, e);
    if (!s) s = wane_model_load(p->model, e); /* somebody may have unloaded it since */
    if (!s) s = put(p, p->ids, ids, (size_t)n * sizeof *ids, e);
    if (!s) s = put(p, p->position, position, (size_t)n * sizeof *position, e);
    if (!s) s = put(p, p->row, row, (size_t)n * sizeof *row, e);
    if (!s) s = put(p, p->runs, runs, (size_t)n_runs * sizeof *runs, e);
    if (!s) s = put(p, p->spans, spans, (size_t)n_spans * sizeof *spans, e);
    if (s) return s;
    wane_pass_input in = {
        .ids = first_rows(p->ids, n),
        .position = first_rows(p->position, n),
        .row = first_rows(p->row, n),
        .runs = wane_tensor_mat(p->runs).data,
        .spans = wane_tensor_mat(p->spans).data,
        .n_runs = n_runs,
    };
    return wane_pass_forward(p, &in, e);
}

static wane_status apply_head(wane_pass *p, wane_mat y, wane_mat hidden, wane_err *e)
{
    wane_model *m = p->model;
    const wane_linear tied = {.weight = m->embedding};
    return wane_linear_apply(m->device, m->config->tied ? &tied : &m->head, y, hidden, e);
}

wane_status wane_pass_head(wane_pass *p, int64_t first, int64_t count, wane_mat y, wane_err *e)
{
    if (first < 0 || count < 1 || count > p->n - first)
        return wane_fail(e, WANE_EARG, "logits of %" PRId64 " rows after a pass of %" PRId64,
                         first + count, p->n);
    return apply_head(p, y, wane_mat_rows(p->hidden, first, count), e);
}

wane_status wane_pass_logits(wane_pass *p, const int32_t *row, int64_t count, wane_mat y,
                             wane_err *e)
{
    wane_model *m = p->model;
    if (!row) return wane_pass_head(p, 0, count, y, e);
    if (count < 1 || count > p->rows)
        return wane_fail(e, WANE_EARG, "logits of %" PRId64 " rows after a pass of %" PRId64, count,
                         p->n);
    for (int64_t i = 0; i < count; i++)
        if (row[i] < 0 || row[i] >= p->n)
            return wane_fail(e, WANE_EARG, "logits of row %" PRId32 " after a pass of %" PRId64,
                             row[i] + 1, p->n);
    /* the pass is over, so the places of its rows and of its later scratch are free */
    uint64_t behind = wane_mat_bytes(p->hidden.dtype, p->n, m->config->hidden);
    wane_mat hidden = scratch_rows(p, behind, count);
    wane_status s = put(p, p->row, row, (size_t)count * sizeof *row, e);
    if (!s) s = WANE_CALL(m->device, e, take_rows, hidden, p->hidden, first_rows(p->row, count));
    return s ? s : apply_head(p, y, hidden, e);
}
