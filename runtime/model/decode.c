/* decode.c - see decode.h. One buffer on the device holds all that a step reads and moves on, in
 * the order of a copy on the host, so that one put brings it there: stop [stops] | ids, position,
 * row, left [texts each] | rows [texts][steps] | runs [texts] | spans and behind it found [texts]
 * and said [texts][steps], which only the device writes. All of it is made of int32. Rows of
 * matrices are texts, so the first n of them are any n texts' step. */
#include "runtime/model/decode.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

struct wane_decoder {
    wane_workspace *work;
    wane_device *device; /* of its model */
    int texts, steps, spans, stops;
    wane_tensor *state;
    int32_t *host; /* the copy, without found */
    /* in the copy */
    int32_t *ids, *position, *row, *left, *rows, *said;
    wane_run *runs;
    wane_span *span;
    int n, n_spans;
    wane_recording *recording; /* of a step of `recorded` texts; NULL: none */
    int recorded;
};

enum {
    RUN_INTS = sizeof(wane_run) / sizeof(int32_t),
    SPAN_INTS = sizeof(wane_span) / sizeof(int32_t)
};

/* How many int32 the copy has before its spans, and all of the buffer. */
static bool count_ints(int texts, int steps, int spans, int stops, uint64_t *before, uint64_t *all)
{
    uint64_t n = (uint64_t)texts, rows, tail;
    return wane_mul(n, (uint64_t)steps, &rows) && wane_mul(n, 4 + RUN_INTS, before) &&
           wane_add(*before, rows, before) && wane_add(*before, (uint64_t)stops, before) &&
           wane_mul((uint64_t)spans, SPAN_INTS, &tail) && wane_add(tail, rows, &tail) &&
           wane_add(tail, n, &tail) && wane_add(*before, tail, all) && *all < INT32_MAX;
}

uint64_t wane_decoder_bytes(int texts, int steps, int spans, int stops)
{
    uint64_t before, all;
    return count_ints(texts, steps, spans, stops, &before, &all) ? all * sizeof(int32_t)
                                                                 : UINT64_MAX;
}

bool wane_decoder_can(const wane_device *d)
{
    wane_recording *r = NULL;
    if (d->k->record(d->dev)) return false;
    wane_status s = d->k->recorded(d->dev, &r);
    d->k->forget(d->dev, r);
    return !s;
}

wane_status wane_decoder_new(wane_workspace *work, int texts, int steps, int spans,
                             const int32_t *stop, int stops, wane_decoder **out, wane_err *e)
{
    uint64_t before, all;
    *out = NULL;
    if (texts < 1 || texts > work->pass->rows || steps < 1 || spans < 0 || stops < 0 ||
        !count_ints(texts, steps, spans, stops, &before, &all))
        return wane_fail(e, WANE_EARG, "%d texts of %d steps with %d spans cannot be", texts, steps,
                         spans);
    wane_decoder *t = calloc(1, sizeof *t);
    if (t) t->host = calloc((size_t)all, sizeof *t->host);
    if (!t || !t->host) {
        wane_decoder_free(t);
        return wane_fail(e, WANE_EOOM, "generate: no host memory for steps of %d texts", texts);
    }
    t->work = work;
    t->device = work->pass->model->device;
    t->texts = texts;
    t->steps = steps;
    t->spans = spans;
    t->stops = stops;
    if (stops) memcpy(t->host, stop, (size_t)stops * sizeof *stop);
    t->ids = t->host + stops;
    t->position = t->ids + texts;
    t->row = t->position + texts;
    t->left = t->row + texts;
    t->rows = t->left + texts;
    t->runs = (wane_run *)(void *)(t->rows + (size_t)texts * (size_t)steps);
    t->span = (wane_span *)(void *)(t->host + before);
    t->said = (int32_t *)(void *)(t->span + spans) + texts;
    wane_status s = wane_tensor_new2(t->device, WANE_I32, 1, (int64_t)all, &t->state, e);
    if (s)
        wane_decoder_free(t);
    else
        *out = t;
    return s;
}

void wane_decoder_forget(wane_decoder *t)
{
    if (t->recording) t->device->k->forget(t->device->dev, t->recording);
    t->recording = NULL;
    t->recorded = 0;
}

void wane_decoder_free(wane_decoder *t)
{
    if (!t) return;
    if (t->device) wane_decoder_forget(t);
    wane_tensor_release(t->state);
    free(t->host);
    free(t);
}

void wane_decoder_clear(wane_decoder *t)
{
    t->n = t->n_spans = 0;
}

bool wane_decoder_add(wane_decoder *t, int32_t id, int64_t position, const wane_span *before,
                      int n_before, const wane_span *own, int64_t left)
{
    int i = t->n, spans = n_before;
    if (i == t->texts || left < 1 || left > t->steps || n_before > t->spans - t->n_spans)
        return false;
    int32_t end = n_before ? before[n_before - 1].row + before[n_before - 1].count : -1;
    for (int64_t step = 0, of = 0; step < left; step++, of++) {
        if (of == own->count) own++, of = 0;
        int32_t row = own->row + (int32_t)of;
        if (step == 0)
            t->row[i] = row;
        else
            t->rows[(int64_t)i * t->steps + left - step - 1] = row;
        /* all but the last row become part of the spans */
        spans += row != end && step < left - 1;
        end = row + 1;
    }
    if (spans > t->spans - t->n_spans) return false;
    t->ids[i] = id;
    t->position[i] = (int32_t)position;
    t->left[i] = (int32_t)left;
    t->runs[i] = (wane_run){i, 1, t->row[i], t->n_spans, n_before};
    if (n_before) memcpy(t->span + t->n_spans, before, (size_t)n_before * sizeof *before);
    t->n_spans += spans;
    t->n++;
    return true;
}

/* Kernels trust what they get. Spans are not looked at where a text has room for more. */
static wane_status check(const wane_decoder *t, wane_err *e)
{
    int64_t pool = t->work->pass->pool_rows;
    for (int i = 0; i < t->n; i++) {
        const int32_t *rows = t->rows + (int64_t)i * t->steps;
        bool good = t->row[i] >= 0 && t->row[i] < pool && t->position[i] >= 0 && t->ids[i] >= 0 &&
                    t->ids[i] < t->work->pass->model->config->vocabulary;
        for (int k = 0; k < t->left[i] - 1; k++) good = good && rows[k] >= 0 && rows[k] < pool;
        const wane_span *span = t->span + t->runs[i].span;
        for (int k = 0; k < t->runs[i].n_spans; k++)
            good = good && span[k].row >= 0 && span[k].count >= 0 &&
                   span[k].count <= pool - span[k].row;
        if (!good)
            return wane_fail(
                e, WANE_EARG,
                "text %d of a step has an id, a position, a row or a span out of range", i + 1);
    }
    return WANE_OK;
}

/* A matrix (rows,cols) over the buffer's memory where `at` is in the copy. */
static wane_mat mat(const wane_decoder *t, const void *at, int64_t rows, int64_t cols)
{
    ptrdiff_t from = (const int32_t *)at - t->host;
    return (wane_mat){(int32_t *)wane_tensor_mat(t->state).data + from, WANE_I32, rows, cols, cols};
}

/* Queues one step. */
static wane_status step(const wane_decoder *t, wane_err *e)
{
    wane_device *d = t->device;
    int64_t n = t->n, most = t->work->logits->shape[0];
    wane_growth g = {
        .found = mat(t, t->said - t->texts, n, 1),
        .ids = mat(t, t->ids, n, 1),
        .position = mat(t, t->position, n, 1),
        .row = mat(t, t->row, n, 1),
        .left = mat(t, t->left, n, 1),
        .said = mat(t, t->said, n, t->steps),
        .rows = mat(t, t->rows, n, t->steps),
        .runs = mat(t, t->runs, 1, 1).data,
        .spans = mat(t, t->span, 1, 1).data,
    };
    if (t->stops) g.stop = mat(t, t->host, 1, t->stops);
    wane_pass_input in = {g.ids, g.position, g.row, g.runs, g.spans, t->n};
    wane_status s = wane_pass_forward(t->work->pass, &in, e);
    for (int64_t at = 0; at < n && !s; at += most) {
        int64_t count = n - at < most ? n - at : most;
        wane_mat logits = wane_mat_rows(wane_tensor_mat(t->work->logits), 0, count);
        s = wane_pass_head(t->work->pass, at, count, logits, e);
        if (!s) s = WANE_CALL(d, e, argmax, wane_mat_rows(g.found, at, count), logits);
    }
    return s ? s : WANE_CALL(d, e, advance, &g);
}

static wane_status record(wane_decoder *t, wane_err *e)
{
    wane_device *d = t->device;
    wane_status s = wane_device_check(d, d->k->record(d->dev), "record", e);
    if (s) return s;
    s = step(t, e);
    wane_status ended = d->k->recorded(d->dev, &t->recording);
    if (!s) s = wane_device_check(d, ended, "recorded", e);
    t->recorded = t->n;
    if (s) wane_decoder_forget(t);
    return s;
}

wane_status wane_decoder_run(wane_decoder *t, wane_err *e)
{
    wane_device *d = t->device;
    int32_t steps = 0;
    if (t->n == 0) return WANE_OK;
    for (int i = 0; i < t->n; i++)
        if (t->left[i] > steps) steps = t->left[i];
    wane_status s = check(t, e);
    if (!s) s = wane_device_poll(d, e);
    if (!s) {
        size_t bytes = (size_t)((char *)(t->span + t->n_spans) - (char *)t->host);
        s = WANE_CALL(d, e, put, wane_tensor_mat(t->state).data, t->host, bytes);
    }
    if (!s && t->recorded != t->n) {
        /* the first step runs as it is called: kernels that were never used are loaded with it */
        wane_decoder_forget(t);
        s = step(t, e);
        if (!s && --steps > 0) s = record(t, e);
    }
    for (; steps > 0 && !s; steps--) s = WANE_CALL(d, e, replay, t->recording);
    if (s) return s;
    size_t bytes = (size_t)t->n * (size_t)t->steps * sizeof *t->said;
    return WANE_CALL(d, e, get, t->said, mat(t, t->said, 1, 1).data, bytes);
}

int32_t wane_decoder_said(const wane_decoder *t, int64_t text, int64_t step)
{
    return t->said[text * t->steps + t->left[text] - step - 1];
}

int64_t wane_decoder_left(const wane_decoder *t, int64_t text)
{
    return t->left[text];
}
