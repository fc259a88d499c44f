/* stats.c - statistics of an input: summed up batch by batch, assumed, or brought along. See
 * calib.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "runtime/quant/calib.h"

wane_stats *wane_stats_retain(wane_stats *t)
{
    t->refs++;
    return t;
}

void wane_stats_release(wane_stats *t)
{
    if (!t || --t->refs > 0) return;
    wane_tensor_release(t->gram);
    wane_tensor_release(t->mean);
    wane_tensor_release(t->max);
    free(t);
}

wane_status wane_stats_zeros(wane_device *d, int64_t k, unsigned needs, wane_stats **out,
                             wane_err *e)
{
    int64_t square[2] = {k, k}, line[2] = {1, k};
    wane_stats *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return wane_fail(e, WANE_EOOM, "host: no memory for statistics");
    t->refs = 1;
    t->k = k;
    wane_status s = wane_tensor_zeros(d, WANE_F32, 2, square, &t->gram, e);
    if (!s && needs & WANE_NEED_MEAN) s = wane_tensor_zeros(d, WANE_F32, 2, line, &t->mean, e);
    if (!s && needs & WANE_NEED_MAX) s = wane_tensor_zeros(d, WANE_F32, 2, line, &t->max, e);
    if (s)
        wane_stats_release(t);
    else
        *out = t;
    return s;
}

static wane_status add_rows(wane_device *d, wane_stats *t, bool whole, wane_mat x, wane_mat weight,
                            wane_err *e)
{
    wane_status s = whole ? WANE_CALL(d, e, gram, wane_tensor_mat(t->gram), x, weight) : WANE_OK;
    if (!s && t->mean) s = WANE_CALL(d, e, column_sum, wane_tensor_mat(t->mean), x, weight);
    if (!s && t->max) s = WANE_CALL(d, e, column_max, wane_tensor_mat(t->max), x, weight);
    return s;
}

/* How rows count: not at all, as another batch had them, once, or otherwise. */
typedef enum { COUNTED_BEFORE, COUNTS_ONCE, WEIGHED } kind;

static kind kind_of(float weight)
{
    return weight == 0 ? COUNTED_BEFORE : weight == 1 ? COUNTS_ONCE : WEIGHED;
}

/* The end of the rows from `first` on that count alike. */
static int64_t end_of_kind(const wane_batch *b, int64_t first)
{
    int64_t end = first + 1;
    while (end < b->n && kind_of(b->weight[end]) == kind_of(b->weight[first])) end++;
    return end;
}

/* Where most rows count once, as they do unless told otherwise, they go without weights, which a
 * GPU multiplies in at twice the price; what counts nothing stays out, as a few rows cost as much
 * as thousands. */
wane_status wane_stats_add(wane_device *d, wane_stats *t, const wane_batch *batch, bool whole,
                           wane_mat x, wane_mat weight, wane_err *e)
{
    enum { RANGES = 8 }; /* that go to the kernels apart, at most */
    wane_mat none = {0};
    wane_status s = WANE_OK;
    int ranges = 0;
    for (int64_t at = 0; at < x.rows && ranges <= RANGES; at = end_of_kind(batch, at)) ranges++;
    if (ranges > RANGES) return add_rows(d, t, whole, x, weight, e);
    for (int64_t at = 0, end; at < x.rows && !s; at = end) {
        kind here = kind_of(batch->weight[at]);
        end = end_of_kind(batch, at);
        if (here == COUNTED_BEFORE) continue;
        s = add_rows(d, t, whole, wane_mat_rows(x, at, end - at),
                     here == COUNTS_ONCE ? none : wane_mat_rows(weight, at, end - at), e);
    }
    return s;
}

wane_status wane_stats_finish(wane_device *d, wane_stats *t, double weight, double gram_weight,
                              wane_mat number, wane_err *e)
{
    float sum = (float)gram_weight, all = (float)weight;
    wane_mat gram = wane_tensor_mat(t->gram), mean = wane_tensor_mat(t->mean);
    wane_status s = WANE_CALL(d, e, put, number.data, &sum, sizeof sum);
    if (!s) s = WANE_CALL(d, e, binary, gram, gram, number, WANE_DIV);
    if (!s && t->mean) s = WANE_CALL(d, e, put, number.data, &all, sizeof all);
    if (!s && t->mean) s = WANE_CALL(d, e, binary, mean, mean, number, WANE_DIV);
    return s;
}

/* F32 (rows,k) with 1 at the diagonal of a square, or everywhere in one row. */
static wane_status white(wane_device *d, int64_t rows, int64_t k, wane_tensor **out, wane_err *e)
{
    float *ones = malloc((size_t)k * sizeof *ones);
    *out = NULL;
    if (!ones) return wane_fail(e, WANE_EOOM, "host: no memory for statistics");
    for (int64_t i = 0; i < k; i++) ones[i] = 1;
    wane_status s = wane_tensor_new2(d, WANE_F32, rows, k, out, e);
    if (s) goto done;
    wane_mat m = wane_tensor_mat(*out);
    if (rows == 1) {
        s = wane_tensor_put(*out, ones, e);
    } else {
        /* ones in the first row, taken from there to the diagonal, and cleared again */
        wane_mat first = wane_mat_rows(m, 0, 1);
        wane_mat from = {m.data, WANE_F32, k - 1, 1, 1};
        wane_mat to = {(float *)m.data + k + 1, WANE_F32, k - 1, 1, k + 1};
        s = WANE_CALL(d, e, fill, m.data, 0, (size_t)(k * k) * sizeof(float));
        if (!s) s = WANE_CALL(d, e, put, first.data, ones, (size_t)k * sizeof(float));
        if (!s) s = WANE_CALL(d, e, convert, to, from);
        if (!s) s = WANE_CALL(d, e, fill, (float *)m.data + 1, 0, (size_t)(k - 1) * sizeof(float));
    }
done:
    free(ones);
    if (s) {
        wane_tensor_release(*out);
        *out = NULL;
    }
    return s;
}

wane_status wane_stats_white(wane_device *d, int64_t k, unsigned needs, wane_stats **out,
                             wane_err *e)
{
    wane_stats *t = calloc(1, sizeof *t);
    *out = NULL;
    if (!t) return wane_fail(e, WANE_EOOM, "host: no memory for statistics");
    t->refs = 1;
    t->k = k;
    t->white = true;
    bool square = needs & WANE_NEED_GRAM && k > 1;
    wane_status s = white(d, square ? k : 1, k, &t->gram, e);
    if (!s && needs & WANE_NEED_MEAN) s = white(d, 1, k, &t->mean, e);
    if (!s && needs & WANE_NEED_MAX) s = white(d, 1, k, &t->max, e);
    if (s)
        wane_stats_release(t);
    else
        *out = t;
    return s;
}

static wane_status copy(wane_device *d, const wane_tensor *from, const char *name, int64_t rows,
                        int64_t k, wane_tensor **out, wane_err *e)
{
    int64_t count = from ? wane_tensor_count(from) : 0;
    if (!from) return WANE_OK;
    if (count != rows * k || !wane_tensor_contiguous(from))
        return wane_fail(e, WANE_EARG, "statistics: %s is (%" PRId64 ", %" PRId64 ") without gaps",
                         name, rows, k);
    wane_tensor *flat = NULL, *whole = NULL;
    int64_t shape[2] = {rows, k};
    wane_status s = wane_tensor_copy_to(from, d, WANE_F32, &whole, e);
    if (!s) s = wane_tensor_reshape(whole, 2, shape, &flat, e);
    wane_tensor_release(whole);
    *out = flat;
    return s;
}

wane_status wane_stats_from(wane_device *d, const wane_tensor *gram, const wane_tensor *mean,
                            const wane_tensor *max, unsigned needs, wane_stats **out, wane_err *e)
{
    wane_stats *t;
    *out = NULL;
    if ((needs & WANE_NEED_MEAN && !mean) || (needs & WANE_NEED_MAX && !max))
        return wane_fail(e, WANE_EARG, "statistics: the method needs %s of the inputs too",
                         needs & WANE_NEED_MEAN && !mean ? "mean, the mean |x|,"
                                                         : "max, the largest |x|,");
    if (gram->rank != 2 || gram->shape[0] != gram->shape[1] || !gram->shape[0])
        return wane_fail(e, WANE_EARG, "statistics: gram is a square matrix, x^T x");
    t = calloc(1, sizeof *t);
    if (!t) return wane_fail(e, WANE_EOOM, "host: no memory for statistics");
    t->refs = 1;
    t->k = gram->shape[0];
    wane_status s = copy(d, gram, "gram", t->k, t->k, &t->gram, e);
    if (!s) s = copy(d, mean, "mean", 1, t->k, &t->mean, e);
    if (!s) s = copy(d, max, "max", 1, t->k, &t->max, e);
    if (s)
        wane_stats_release(t);
    else
        *out = t;
    return s;
}
