/* memory.c - see memory.h. The layouts are those of calib.c and stage.c, which take what is counted
 * here. */
#include "runtime/quant/memory.h"

#include <stdio.h>

#include "runtime/base/units.h"
#include "runtime/model/block.h"
#include "runtime/quant/stage.h"

enum { ROWS_MOST = 8192, ROWS_GOOD = 4096 };

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

int64_t wane_widest(const wane_config *c)
{
    int64_t width = 0;
    for (int s = 0; s < WANE_STAGES; s++)
        if (wane_stage_width(c, s) > width) width = wane_stage_width(c, s);
    return width;
}

/* Codes of a matrix as they are kept: as wane_quantized_new takes them. */
static uint64_t codes_bytes(const wane_plan *p, int64_t m, int64_t k, uint64_t scale)
{
    uint64_t rows = (uint64_t)m, groups = (uint64_t)(k / wane_plan_group(p, k));
    uint64_t words = ((uint64_t)k * (uint64_t)p->bits + 31) / 32;
    return rows * (words * 4 + groups * (scale + (p->symmetric ? 0 : p->float_zero ? 4 : 1)));
}

/* The largest layer, and what it becomes. */
static uint64_t layer_bytes(wane_model *m, const wane_plan *p)
{
    uint64_t dense = 0, plain = 0, codes = 0, weights = 0;
    for (int i = 0; i < m->config->layers; i++) {
        dense = larger(dense, m->source.bytes(m->source.self, i));
        plain = larger(plain, wane_layer_plain_bytes(m->checkpoint, i));
    }
    for (int id = 0; id < WANE_LINEARS; id++) {
        int64_t rows, k;
        wane_linear_shape(m->config, (wane_linear_id)id, &rows, &k);
        weights += (uint64_t)(rows * k);
        codes += codes_bytes(p, rows, k, 2);
    }
    /* scales have the weights' type; what is wider than 16 bits has wider scales */
    if (dense > plain + 3 * weights) codes += codes / 8;
    return dense + plain + codes;
}

static int64_t sample_rows(int64_t tokens)
{
    int64_t every = tokens / WANE_COMPARED + 1;
    return (tokens + every - 1) / every;
}

uint64_t wane_compare_bytes(const wane_model *model, int64_t rows, int64_t m, int64_t k)
{
    if (rows > WANE_COMPARED_AT_ONCE) rows = WANE_COMPARED_AT_ONCE;
    return 2 * wane_mat_bytes(WANE_F32, rows, m) + wane_mat_bytes(WANE_F32, rows, 1) +
           wane_mat_bytes(model->device->k->activations, rows, k);
}

wane_quantize_need wane_quantize_needs(wane_model *model, const wane_plan *p, int64_t tokens)
{
    bool square = tokens || p->method->needs & WANE_NEED_GRAM;
    uint64_t layer = layer_bytes(model, p), stage = 0, gram = 0;
    int64_t few = p->act_bits ? sample_rows(tokens) : 0;
    for (int s = 0; s < WANE_STAGES; s++) {
        int64_t m = 0, k = 0;
        for (int i = 0; i < wane_stage_count(s); i++) {
            int64_t rows;
            wane_linear_shape(model->config, (wane_linear_id)(wane_stage_first(s) + i), &rows, &k);
            if (rows > m) m = rows;
        }
        uint64_t compared = few ? wane_compare_bytes(model, few, m, k) : 0;
        stage = larger(stage, wane_stage_bytes(p, m, k, wane_stage_count(s), square) + compared);
        gram = larger(gram, wane_mat_bytes(WANE_F32, k, k) + 3 * wane_mat_bytes(WANE_F32, 1, k));
    }
    /* where the host is as near, the sample is there */
    if (few && !wane_device_is_host(model->device))
        layer += wane_inputs_bytes(model, few) + wane_mat_bytes(WANE_F32, few, 1);
    /* without texts nothing passes */
    return (wane_quantize_need){tokens ? layer + gram : 0, layer + stage, few > 0};
}

uint64_t wane_batch_bytes(const wane_model *m, bool x_here, int64_t n, int64_t runs, int64_t spans)
{
    const wane_config *c = m->config;
    wane_dtype t = m->device->k->activations;
    uint64_t line = wane_mat_bytes(WANE_F32, n, 1);
    return 3 * line + 2 * wane_mat_bytes(t, n, c->kv_heads * c->head_dim) +
           wane_mat_bytes(WANE_U8, 1, (int64_t)wane_block_scratch(c, t, n)) +
           wane_mat_bytes(WANE_F32, 1, c->head_dim / 2) + wane_mat_bytes(WANE_I64, 1, 1) +
           wane_mat_bytes(WANE_U8, runs, (int64_t)sizeof(wane_run)) +
           wane_mat_bytes(WANE_U8, spans, (int64_t)sizeof(wane_span)) +
           (x_here ? 0 : wane_mat_bytes(WANE_F32, n, c->hidden));
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Rows of a batch that takes `room` at most. */
static int64_t rows_within(const wane_model *m, bool x_here, uint64_t room)
{
    int64_t rows = ROWS_MOST;
    /* a run takes one row at least, and its spans are at most its depth: few in practice */
    while (rows > 1 && wane_batch_bytes(m, x_here, rows, rows, 4 * rows) > room)
        rows -= rows / 8 + 1;
    return rows;
}

int64_t wane_batch_rows(const wane_model *m, const wane_quantize_need *need, int64_t tokens)
{
    uint64_t room = less(wane_device_room(m->device), need->passing);
    int64_t small = rows_within(m, true, less(room, wane_stream_bytes(m, tokens)));
    /* the larger batch is not worth having the stream on the host for */
    return small >= ROWS_GOOD ? small : rows_within(m, false, room);
}

uint64_t wane_waiting_room(const wane_device *d, const wane_quantize_need *need, uint64_t batch)
{
    uint64_t room = wane_device_room(d), passing, working;
    if (wane_device_is_host(d)) return 0; /* no nearer than the host */
    passing = less(less(room, need->passing), batch);
    working = less(room, need->working);
    return passing < working ? passing : working;
}

uint64_t wane_inputs_bytes(const wane_model *m, int64_t rows)
{
    return wane_mat_bytes(m->device->k->activations, rows, wane_widest(m->config));
}

uint64_t wane_stream_bytes(const wane_model *m, int64_t rows)
{
    return wane_mat_bytes(WANE_F32, rows, m->config->hidden);
}

static wane_status too_little(const wane_device *d, uint64_t needed, wane_err *e)
{
    char asked[24], left[24];
    uint64_t room = wane_device_room(d);
    wane_bytes_format(asked, sizeof asked, needed);
    wane_bytes_format(left, sizeof left, room);
    wane_fail(
        e, WANE_EOOM,
        "quantize: %s: out of memory: a layer and what it is quantized in take %s at least, %s "
        "free; raise memory = or take a smaller model",
        d->name, asked, left);
    if (e) {
        e->requested = needed;
        e->free = room;
        snprintf(e->op, sizeof e->op, "quantize");
        snprintf(e->device, sizeof e->device, "%s", d->name);
    }
    return WANE_EOOM;
}

wane_status wane_quantize_plan(wane_model *m, const wane_plan *p, int64_t tokens, int64_t longest,
                               uint64_t *peak, wane_err *e)
{
    const wane_device *d = m->device;
    wane_quantize_need need = wane_quantize_needs(m, p, tokens);
    uint64_t room = wane_device_room(d), waiting = 0, batch = 0;
    *peak = 0;
    if (need.working > room) return too_little(d, need.working, e);
    if (tokens > 0) {
        uint64_t least = need.passing + wane_batch_bytes(m, false, longest, 1, 0);
        if (least > room) return too_little(d, least, e);
        int64_t rows = wane_batch_rows(m, &need, tokens) / longest * longest;
        if (rows < longest) rows = longest;
        if (rows > tokens) rows = tokens;
        /* as calib.c: the stream first, then the inputs */
        uint64_t x = wane_stream_bytes(m, tokens), in = wane_inputs_bytes(m, tokens);
        batch = wane_batch_bytes(m, true, rows, rows / longest, 0);
        bool x_here = x <= wane_waiting_room(d, &need, batch);
        if (!x_here) batch = wane_batch_bytes(m, false, rows, rows / longest, 0);
        uint64_t left = wane_waiting_room(d, &need, batch);
        if (x_here) waiting = x;
        if (in <= left - waiting) waiting += in;
    }
    *peak = d->live + waiting + larger(need.passing + batch, need.working);
    return WANE_OK;
}
