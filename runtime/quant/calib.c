/* calib.c - see calib.h. Per step and batch, on the device for that time only: what a block works
 * in, keys and values of the batch, its runs and spans, and x where it waits on the host. Sums over
 * batches are taken in the batches' order. */
#include "runtime/quant/calib.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

enum { MEASURED = 65536 }; /* rows that tell what is lost well enough */

/* What a batch needs on the device, from one allocation; x may be where it waits. */
typedef struct {
    wane_block block;
    wane_mat x, weight;
    unsigned char *at; /* what is free */
    uint64_t left;
} space;

static wane_mat carve(space *s, wane_dtype t, int64_t rows, int64_t cols)
{
    wane_mat m = {s->at, t, rows, cols, cols};
    uint64_t bytes = wane_mat_bytes(t, rows, cols);
    if (bytes > s->left)
        m.data = NULL; /* does not happen: batch_bytes counted it */
    else
        s->at += bytes, s->left -= bytes;
    return m;
}

static wane_dtype activations(const wane_calib *c)
{
    return c->model->device->k->activations;
}

/* Whether it waits on the device, from where no copy is needed. */
static bool resident(const wane_calib *c, const wane_tensor *t)
{
    return t && wane_tensor_device(t) == c->model->device;
}

/* The most that a batch takes; x_here: beside x where it waits. */
static uint64_t space_bytes(const wane_calib *c, bool x_here)
{
    int runs = 0, spans = 0;
    for (int b = 0; b < c->batches->count; b++) {
        if (c->batches->batch[b].n_runs > runs) runs = c->batches->batch[b].n_runs;
        if (c->batches->batch[b].n_spans > spans) spans = c->batches->batch[b].n_spans;
    }
    return wane_batch_bytes(c->model, x_here, c->rows, runs, spans);
}

static size_t row_bytes(const wane_tensor *t)
{
    return (size_t)t->shape[1] * wane_dtype_bytes(t->dtype);
}

/* The rows of batch b where they wait. */
static void *rows_of(const wane_calib *c, const wane_tensor *t, int b)
{
    return (char *)t->buffer->data + (size_t)c->start[b] * row_bytes(t);
}

static wane_status put(wane_device *d, wane_mat to, const void *from, wane_err *e)
{
    return WANE_CALL(d, e, put, to.data, from,
                     (size_t)(to.rows * to.cols) * wane_dtype_bytes(to.dtype));
}

static wane_status get(wane_device *d, void *to, wane_mat from, wane_err *e)
{
    return WANE_CALL(d, e, get, to, from.data,
                     (size_t)(from.rows * from.cols) * wane_dtype_bytes(from.dtype));
}

/* from becomes batch b's rows of what waits in t. */
static wane_status keep(const wane_calib *c, const wane_tensor *t, int b, wane_mat from,
                        wane_err *e)
{
    size_t bytes = (size_t)(from.rows * from.cols) * wane_dtype_bytes(from.dtype);
    if (!resident(c, t)) return get(c->model->device, rows_of(c, t, b), from, e);
    if (from.data == rows_of(c, t, b)) return WANE_OK;
    return WANE_CALL(c->model->device, e, copy, rows_of(c, t, b), from.data, bytes);
}

/* Embedding rows of batch b into `to`, on the host. */
static wane_status embed_batch(const wane_calib *c, int b, wane_mat table, wane_mat to, wane_err *e)
{
    const wane_batch *batch = &c->batches->batch[b];
    wane_mat ids = {batch->ids, WANE_I32, batch->n, 1, 1};
    for (int64_t i = 0; i < batch->n; i++)
        if (batch->ids[i] < 0 || batch->ids[i] >= c->model->config->vocabulary)
            return wane_fail(e, WANE_EARG,
                             "calibration: token %d is not one of the model's %" PRId64,
                             batch->ids[i], c->model->config->vocabulary);
    return WANE_CALL(c->model->host, e, embed, to, ids, table);
}

/* The same of all batches into x on the device: they travel as they are stored, and pinned. */
static wane_status embed_away(const wane_calib *c, wane_mat table, wane_err *e)
{
    wane_device *d = c->model->device;
    wane_tensor *rows = NULL, *there = NULL;
    bool pinned = false;
    wane_status s = wane_tensor_new2(c->model->host, table.dtype, c->rows, table.cols, &rows, e);
    if (!s) s = wane_tensor_new2(d, table.dtype, c->rows, table.cols, &there, e);
    if (!s) pinned = !d->k->pin(d->dev, rows->buffer->data, (size_t)rows->buffer->bytes);
    for (int b = 0; b < c->batches->count && !s; b++) {
        int64_t n = c->batches->batch[b].n;
        wane_mat to = {rows_of(c, c->x, b), WANE_F32, n, table.cols, table.cols};
        wane_mat here = wane_mat_rows(wane_tensor_mat(rows), 0, n),
                 far = wane_mat_rows(wane_tensor_mat(there), 0, n);
        s = embed_batch(c, b, table, here, e);
        if (!s) s = put(d, far, here.data, e);
        if (!s) s = WANE_CALL(d, e, convert, to, far);
    }
    if (pinned) d->k->unpin(d->dev, rows->buffer->data);
    wane_tensor_release(rows);
    wane_tensor_release(there);
    return s;
}

/* Embedding rows of all batches into x. The table is looked up on the host: a GPU need not hold it.
 */
static wane_status embed(wane_calib *c, wane_err *e)
{
    const wane_config *config = c->model->config;
    int64_t shape[2] = {config->vocabulary, config->hidden};
    wane_tensor *table = NULL;
    wane_status s = wane_checkpoint_get(c->model->checkpoint, "model.embed_tokens.weight", 2, shape,
                                        c->model->host, &table, e);
    if (!s && resident(c, c->x)) {
        s = embed_away(c, wane_tensor_mat(table), e);
    } else {
        for (int b = 0; b < c->batches->count && !s; b++)
            s = embed_batch(
                c, b, wane_tensor_mat(table),
                wane_mat_rows(wane_tensor_mat(c->x), c->start[b], c->batches->batch[b].n), e);
    }
    wane_tensor_release(table);
    return s;
}

/* Where the batches' rows begin, the largest batch, the tokens' weights, and what all batches use.
 */
static wane_status survey(wane_calib *c, wane_err *e)
{
    c->start = calloc((size_t)c->batches->count + 1, sizeof *c->start);
    if (!c->start) return wane_fail(e, WANE_EOOM, "host: no memory for calibration");
    c->every = 1 + (int)((c->batches->rows - 1) / MEASURED);
    for (int b = 0; b < c->batches->count; b++) {
        const wane_batch *batch = &c->batches->batch[b];
        c->start[b + 1] = c->start[b] + batch->n;
        if (batch->n > c->rows) c->rows = batch->n;
        for (int64_t i = 0; i < batch->n; i++) {
            c->weight += batch->weight[i];
            if (b % c->every == 0) c->part += batch->weight[i];
        }
    }
    if (!(c->part > 0)) c->every = 1, c->part = c->weight;
    if (!(c->weight > 0))
        return wane_fail(e, WANE_EARG,
                         "calibration: no token counts; give texts, and weights above 0");
    c->row = calloc((size_t)c->rows, sizeof *c->row);
    c->frequency = calloc((size_t)c->model->config->head_dim, sizeof *c->frequency);
    if (!c->row || !c->frequency) return wane_fail(e, WANE_EOOM, "host: no memory for calibration");
    for (int64_t i = 0; i < c->rows; i++) c->row[i] = (int32_t)i;
    wane_config_frequencies(c->model->config, c->frequency);
    return WANE_OK;
}

/* Every so many-th row of a batch is one of the sample. */
static int64_t sample_step(const wane_calib *c)
{
    return c->start[c->batches->count] / WANE_COMPARED + 1;
}

static int64_t sampled(const wane_calib *c, int b)
{
    int64_t every = sample_step(c);
    return (c->batches->batch[b].n + every - 1) / every;
}

/* A place for the sample of each stage's input, and the tokens' weights beside it. */
static wane_status open_sample(wane_calib *c, wane_err *e)
{
    wane_device *d = c->model->device;
    wane_device *place = wane_device_is_host(d) ? c->model->host : d;
    int64_t rows = 0, at = 0, every = sample_step(c);
    for (int b = 0; b < c->batches->count; b++) rows += sampled(c, b);
    float *weight = malloc((size_t)rows * sizeof *weight);
    if (!weight) return wane_fail(e, WANE_EOOM, "host: no memory for calibration");
    for (int b = 0; b < c->batches->count; b++)
        for (int64_t i = 0; i < c->batches->batch[b].n; i += every)
            weight[at++] = c->batches->batch[b].weight[i];
    wane_status s = wane_tensor_new2(place, activations(c), rows, c->width, &c->sample, e);
    if (!s) s = wane_tensor_new2(place, WANE_F32, rows, 1, &c->sample_weight, e);
    if (!s) s = wane_tensor_put(c->sample_weight, weight, e);
    free(weight);
    return s;
}

/* A place where all rows wait on the device; none where that is too full, which is no error. */
static wane_tensor *open_near(const wane_calib *c, wane_dtype t, int64_t width, uint64_t *room)
{
    wane_tensor *out = NULL;
    int64_t rows = c->start[c->batches->count];
    uint64_t bytes = wane_mat_bytes(t, rows, width); /* as memory.h counts it */
    /* what is free is only a hint where others use the device too */
    if (bytes <= *room && !wane_tensor_new2(c->model->device, t, rows, width, &out, NULL))
        *room -= bytes;
    return out;
}

/* x waits on the device if it can, else on the host. Inputs too, where the host is as near; else
 * they are made again from x. */
static wane_status open_places(wane_calib *c, const wane_quantize_need *need, wane_err *e)
{
    wane_model *m = c->model;
    int64_t rows = c->start[c->batches->count];
    uint64_t room = wane_waiting_room(m->device, need, space_bytes(c, true));
    wane_status s = WANE_OK;
    c->x = open_near(c, WANE_F32, m->config->hidden, &room);
    if (!c->x) room = wane_waiting_room(m->device, need, space_bytes(c, false));
    c->in = open_near(c, activations(c), c->width, &room);
    if (!c->x) s = wane_tensor_new2(m->host, WANE_F32, rows, m->config->hidden, &c->x, e);
    if (!s && !c->in && wane_device_is_host(m->device))
        s = wane_tensor_new2(m->host, activations(c), rows, c->width, &c->in, e);
    if (!s && need->compares) s = open_sample(c, e);
    return s;
}

wane_status wane_calib_new(wane_model *m, const wane_sequence *sequence, int64_t count,
                           wane_weighing weighing, const wane_quantize_need *need, wane_calib **out,
                           wane_err *e)
{
    wane_calib *c = calloc(1, sizeof *c);
    int64_t tokens = 0;
    *out = NULL;
    if (!c) return wane_fail(e, WANE_EOOM, "host: no memory for calibration");
    for (int64_t i = 0; i < count; i++) tokens += sequence[i].count;
    c->refs = 1;
    c->model = wane_model_retain(m);
    c->width = wane_widest(m->config);
    c->stage = -1;
    c->texts = count;
    wane_status s = wane_batches_new(sequence, count, wane_batch_rows(m, need, tokens), weighing,
                                     &c->batches, e);
    if (!s) s = survey(c, e);
    if (!s) s = open_places(c, need, e);
    if (!s) s = embed(c, e);
    if (s)
        wane_calib_release(c);
    else
        *out = c;
    return s ? wane_err_at(e, "calibrate", NULL, NULL) : WANE_OK;
}

wane_calib *wane_calib_retain(wane_calib *c)
{
    if (c) c->refs++;
    return c;
}

void wane_calib_release(wane_calib *c)
{
    if (!c || --c->refs > 0) return;
    wane_model_release(c->model);
    wane_batches_free(c->batches);
    wane_tensor_release(c->x);
    wane_tensor_release(c->in);
    wane_tensor_release(c->sample);
    wane_tensor_release(c->sample_weight);
    wane_tensor_release(c->s);
    free(c->start);
    free(c->row);
    free(c->frequency);
    free(c);
}

void wane_calib_divide(wane_calib *c, wane_tensor *s)
{
    wane_tensor_release(c->s);
    c->s = wane_tensor_retain(s);
}

/* One buffer that any batch fits. */
static wane_status open_space(const wane_calib *c, wane_tensor **buffer, wane_err *e)
{
    int64_t bytes = (int64_t)space_bytes(c, resident(c, c->x));
    return wane_tensor_new(c->model->device, WANE_U8, 1, &bytes, buffer, e);
}

/* Whether the stage reads the residual stream: itself, or to make its input. */
static bool reads_x(const wane_calib *c, int stage)
{
    return stage < 0 || stage == 1 || stage == 3 || !c->in;
}

/* Begins with batch b in the buffer: its tokens' weights. */
static wane_status load_weights(const wane_calib *c, wane_tensor *buffer, int b, space *s,
                                wane_err *e)
{
    const wane_batch *batch = &c->batches->batch[b];
    *s = (space){.at = buffer->buffer->data, .left = buffer->buffer->bytes};
    s->weight = carve(s, WANE_F32, batch->n, 1);
    return put(c->model->device, s->weight, batch->weight, e);
}

/* Its rows of the residual stream. */
static wane_status load_rows(const wane_calib *c, int b, int stage, space *s, wane_err *e)
{
    int64_t n = c->batches->batch[b].n, hidden = c->model->config->hidden;
    if (resident(c, c->x)) {
        s->x = (wane_mat){rows_of(c, c->x, b), WANE_F32, n, hidden, hidden};
        return WANE_OK;
    }
    s->x = carve(s, WANE_F32, n, hidden);
    return reads_x(c, stage) ? put(c->model->device, s->x, rows_of(c, c->x, b), e) : WANE_OK;
}

/* Its rows of the stage's input: where they wait, brought from there, or made again. What is made
 * again is divided already, by what makes it. */
static wane_status load_input(const wane_calib *c, const wane_layer *layer, int b, int stage,
                              const space *s, wane_mat *in, wane_err *e)
{
    wane_device *d = c->model->device;
    wane_status st = WANE_OK;
    if (!c->in) return wane_block_input(&s->block, layer, stage, s->x, in, e);
    *in = wane_block_place(&s->block, stage, s->x.rows);
    if (resident(c, c->in))
        in->data = rows_of(c, c->in, b);
    else
        st = put(d, *in, rows_of(c, c->in, b), e);
    if (!st && c->s) st = WANE_CALL(d, e, binary, *in, *in, wane_tensor_mat(c->s), WANE_DIV);
    return st;
}

/* What attention and rope ask for, which stage 0 runs, and stage 1 where it makes its input again.
 */
static wane_status load_block(const wane_calib *c, int b, int stage, space *s, wane_err *e)
{
    const wane_config *config = c->model->config;
    const wane_batch *batch = &c->batches->batch[b];
    wane_device *d = c->model->device;
    int64_t n = batch->n, kv = config->kv_heads * config->head_dim, half = config->head_dim / 2;
    wane_mat runs = carve(s, WANE_U8, batch->n_runs, (int64_t)sizeof(wane_run));
    wane_mat spans = carve(s, WANE_U8, batch->n_spans, (int64_t)sizeof(wane_span));
    wane_block *k = &s->block;
    k->device = d;
    k->config = config;
    k->frequency = carve(s, WANE_F32, 1, half);
    k->position = carve(s, WANE_I32, n, 1);
    k->row = carve(s, WANE_I32, n, 1);
    k->keys = carve(s, activations(c), n, kv);
    k->values = carve(s, activations(c), n, kv);
    k->scratch = carve(s, WANE_U8, 1, (int64_t)wane_block_scratch(config, activations(c), n)).data;
    k->attention = wane_block_attention(config, runs.data, batch->n_runs, spans.data);
    if (stage != 0 && (stage != 1 || c->in)) return WANE_OK;
    wane_status st = put(d, runs, batch->runs, e);
    if (!st && batch->n_spans) st = put(d, spans, batch->spans, e);
    if (!st) st = put(d, k->frequency, c->frequency, e);
    if (!st) st = put(d, k->position, batch->position, e);
    if (!st) st = put(d, k->row, c->row, e);
    return st;
}

/* Which text and token a row is, counted from 1: the first of those that share it. */
static void find_token(const wane_calib *c, int batch, int64_t row, int64_t *text, int64_t *token)
{
    const wane_batches *all = c->batches;
    for (*text = 0; *text < c->texts; ++*text) {
        int64_t first = all->first[*text];
        int64_t end = *text + 1 < c->texts ? all->first[*text + 1] : all->tokens;
        for (int64_t i = first; i < end; i++) {
            if (all->at[i].batch != batch || all->at[i].row != row) continue;
            *token = i - first + 1;
            ++*text;
            return;
        }
    }
    *text = *token = 0;
}

static const char *reader(int stage)
{
    return wane_linear_name((wane_linear_id)wane_stage_first(stage));
}

/* ENUMERIC with the first row of x that is not finite. */
static wane_status check_finite(const wane_calib *c, int b, wane_mat x, wane_mat count, int layer,
                                const char *what, wane_err *e)
{
    wane_device *d = c->model->device;
    int64_t bad, row = 0, text, token;
    char name[64];
    wane_status s = WANE_CALL(d, e, finite, count, x);
    if (!s) s = get(d, &bad, count, e);
    if (s || !bad) return s;
    for (int64_t here = 0; row < x.rows - 1; row++) { /* slow, once */
        s = WANE_CALL(d, e, finite, count, wane_mat_rows(x, row, 1));
        if (!s) s = get(d, &here, count, e);
        if (s) return s;
        if (here) break;
    }
    find_token(c, b, row, &text, &token);
    snprintf(name, sizeof name, "model.layers.%d.%s", layer, what);
    wane_fail(e, WANE_ENUMERIC,
              "%s: its activations are NaN or Inf from token %" PRId64
              " of calibration text %" PRId64 " on; check the checkpoint with wane check",
              name, token, text);
    return wane_err_at(e, "calibrate", name, NULL);
}

/* Every so many-th row. */
static wane_mat thin(wane_mat m, int64_t every)
{
    return (wane_mat){m.data, m.dtype, (m.rows + every - 1) / every, m.cols, m.stride * every};
}

/* The sample of the stage's input, as (rows, width of the stage). */
static wane_mat sample_of(const wane_calib *c, int stage)
{
    int64_t width = wane_stage_width(c->model->config, stage);
    wane_mat all = wane_tensor_mat(c->sample);
    return (wane_mat){all.data, all.dtype, all.rows, width, width};
}

/* What becomes of the next stage's input, out of batch b: measured, sampled, kept where it waits.
 */
static wane_status look(const wane_calib *c, int b, int stage, unsigned needs, wane_mat out,
                        wane_mat weight, wane_stats *stats, wane_err *e)
{
    bool whole = needs & WANE_NEED_WHOLE || b % c->every == 0;
    wane_status s = stats ? wane_stats_add(c->model->device, stats, &c->batches->batch[b], whole,
                                           out, weight, e)
                          : WANE_OK;
    if (!s && stats && c->sample) {
        int64_t first = 0;
        for (int i = 0; i < b; i++) first += sampled(c, i);
        s = WANE_CALL(c->model->device, e, convert,
                      wane_mat_rows(sample_of(c, stage), first, sampled(c, b)),
                      thin(out, sample_step(c)));
    }
    return s || !c->in ? s : keep(c, c->in, b, out, e);
}

/* One batch through one stage: its rows of x and in are replaced. */
static wane_status step_batch(wane_calib *c, const wane_layer *layer, int number, int b, int stage,
                              unsigned needs, wane_tensor *buffer, wane_stats *stats, wane_err *e)
{
    int64_t n = c->batches->batch[b].n;
    space sp;
    wane_mat in, out = {0};
    wane_status s = load_weights(c, buffer, b, &sp, e);
    if (!s) s = load_rows(c, b, stage, &sp, e);
    wane_mat count = carve(&sp, WANE_I64, 1, 1);
    if (!s) s = load_block(c, b, stage, &sp, e);
    if (s) return s;
    if (stage < 3) out = wane_block_place(&sp.block, stage + 1, n);
    if (stage < 0) {
        s = wane_block_begin(&sp.block, layer, sp.x, out, e);
    } else {
        s = load_input(c, layer, b, stage, &sp, &in, e);
        if (!s) s = wane_block_advance(&sp.block, layer, stage, sp.x, in, out, e);
    }
    if (!s)
        s = stage < 3 ? check_finite(c, b, out, count, number, reader(stage + 1), e)
                      : check_finite(c, b, sp.x, count, number, "mlp", e);
    if (!s && stage < 3) s = look(c, b, stage + 1, needs, out, sp.weight, stats, e);
    if (!s && (stage == 1 || stage == 3)) s = keep(c, c->x, b, sp.x, e);
    return s;
}

wane_status wane_calib_step(wane_calib *c, const wane_layer *layer, int number, int stage,
                            unsigned needs, wane_stats **out, wane_err *e)
{
    wane_tensor *buffer = NULL;
    wane_stats *stats = NULL;
    *out = NULL;
    if (stage != c->stage)
        return wane_fail(e, WANE_EARG, "calibration: stage %d comes next, not %d", c->stage, stage);
    if (needs && stage == WANE_STAGES - 1)
        return wane_fail(e, WANE_EARG,
                         "calibration: no input of this layer follows its last stage");
    wane_status s = open_space(c, &buffer, e);
    if (!s && needs)
        s = wane_stats_zeros(c->model->device, wane_stage_width(c->model->config, stage + 1), needs,
                             &stats, e);
    if (s) goto done;
    c->stage = WANE_STAGES; /* until all batches are there, no step is right */
    for (int b = 0; b < c->batches->count && !s; b++) {
        s = wane_device_poll(c->model->device, e);
        if (!s) s = step_batch(c, layer, number, b, stage, needs, buffer, stats, e);
    }
    if (!s && stats)
        s = wane_stats_finish(c->model->device, stats, c->weight,
                              needs & WANE_NEED_WHOLE ? c->weight : c->part,
                              (wane_mat){buffer->buffer->data, WANE_F32, 1, 1, 1}, e);
    if (s) goto done;
    wane_calib_divide(c, NULL);
    c->stage = stage < 3 ? stage + 1 : -1;
    *out = stats;
    stats = NULL;
done:
    wane_tensor_release(buffer);
    wane_stats_release(stats);
    return s ? wane_err_at(e, "calibrate", NULL, NULL) : WANE_OK;
}

/* *sum += the rows' squared lengths times their weights. */
static wane_status add_squares(wane_device *d, wane_mat y, wane_mat weight, wane_mat line,
                               double *sum, wane_err *e)
{
    wane_mat number = {line.data, WANE_F32, 1, 1, 1};
    float value;
    wane_status s = WANE_CALL(d, e, reduce, line, y, WANE_SQUARE_SUM);
    if (!s) s = WANE_CALL(d, e, binary, line, line, weight, WANE_MUL);
    if (!s) s = WANE_CALL(d, e, reduce, number, line, WANE_SUM);
    if (!s) s = get(d, &value, number, e);
    if (!s) *sum += value;
    return s;
}

wane_status wane_calib_compare(wane_calib *c, wane_mat w, wane_mat s, wane_qmat q, double *error,
                               double *norm, wane_err *e)
{
    wane_device *d = c->model->device;
    wane_tensor *buffer = NULL;
    *error = *norm = 0;
    if (!c->sample || c->stage < 0 || c->stage >= WANE_STAGES ||
        w.cols != wane_stage_width(c->model->config, c->stage) || w.rows > c->width)
        return wane_fail(e, WANE_EARG, "calibration: no input for this matrix is at hand");
    wane_mat all = sample_of(c, c->stage);
    int64_t most = all.rows < WANE_COMPARED_AT_ONCE ? all.rows : WANE_COMPARED_AT_ONCE;
    int64_t bytes = (int64_t)wane_compare_bytes(c->model, most, w.rows, w.cols);
    wane_status st = wane_tensor_new(d, WANE_U8, 1, &bytes, &buffer, e);
    for (int64_t at = 0; at < all.rows && !st; at += most) {
        wane_mat x = wane_mat_rows(all, at, all.rows - at < most ? all.rows - at : most);
        wane_mat weight = wane_mat_rows(wane_tensor_mat(c->sample_weight), at, x.rows);
        space sp = {.at = buffer->buffer->data, .left = buffer->buffer->bytes};
        wane_mat line = carve(&sp, WANE_F32, x.rows, 1);
        wane_mat y = carve(&sp, WANE_F32, x.rows, w.rows);
        wane_mat z = carve(&sp, WANE_F32, x.rows, w.rows);
        wane_mat scaled = carve(&sp, x.dtype, x.rows, x.cols);
        st = wane_device_poll(d, e);
        if (!st) st = WANE_CALL(d, e, matmul, y, x, w);
        if (!st) st = add_squares(d, y, weight, line, norm, e);
        if (!st && s.data) st = WANE_CALL(d, e, binary, scaled, x, s, WANE_DIV);
        if (!st) st = WANE_CALL(d, e, qmatmul, z, s.data ? scaled : x, q);
        if (!st) st = WANE_CALL(d, e, binary, z, z, y, WANE_SUB);
        if (!st) st = add_squares(d, z, weight, line, error, e);
    }
    wane_tensor_release(buffer);
    return st;
}
