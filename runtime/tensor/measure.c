/* measure.c - see measure.h. Numbers are of chance: on zeros products run faster than they ever do.
 */
#include "runtime/tensor/measure.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/tensor/math.h"

enum { RUNS = 7, COLUMNS = 4096 };

/* One thing to time: what it is done to, and how often at a stretch. */
typedef struct {
    wane_device *d;
    wane_mat y, x, w;
    int times;
} work;

typedef wane_status (*step)(const work *, wane_err *);

static wane_status look(const work *t, wane_err *e)
{
    return WANE_CALL(t->d, e, finite, t->y, t->x);
}

static wane_status copy(const work *t, wane_err *e)
{
    size_t bytes = (size_t)(t->y.rows * t->y.cols) * wane_dtype_bytes(t->y.dtype);
    return WANE_CALL(t->d, e, copy, t->y.data, t->x.data, bytes);
}

static wane_status multiply(const work *t, wane_err *e)
{
    return WANE_CALL(t->d, e, matmul, t->y, t->x, t->w);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of one, the median of RUNS after one that is not counted. */
static wane_status seconds(const work *t, step f, double *out, wane_err *e)
{
    double took[RUNS];
    wane_status s = WANE_OK;
    for (int run = -1; run < RUNS && !s; run++) {
        s = wane_device_check(t->d, t->d->k->sync(t->d->dev), "sync", e);
        double began = wane_clock();
        for (int i = 0; i < t->times && !s; i++) s = f(t, e);
        if (!s) s = wane_device_check(t->d, t->d->k->sync(t->d->dev), "sync", e);
        if (run >= 0) took[run] = (wane_clock() - began) / t->times;
        if (!s) s = wane_device_poll(t->d, e);
    }
    if (s) return s;
    qsort(took, RUNS, sizeof *took, by_value);
    *out = took[RUNS / 2];
    return s;
}

/* Rows without gaps: the first of chance, by seed, the others their copies. */
static wane_status fill_rows(wane_device *d, wane_mat m, uint64_t seed, wane_err *e)
{
    wane_tensor *some = NULL;
    int64_t shape[2] = {m.rows < 256 ? m.rows : 256, m.cols};
    wane_random how = {seed, true, 0, 1};
    wane_status s = wane_tensor_random(d, m.dtype, 2, shape, how, &some, e);
    for (int64_t r = 0; r < m.rows && !s; r += shape[0]) {
        wane_mat to = wane_mat_rows(m, r, m.rows - r < shape[0] ? m.rows - r : shape[0]);
        size_t bytes = (size_t)(to.rows * m.cols) * wane_dtype_bytes(m.dtype);
        s = WANE_CALL(d, e, copy, to.data, wane_tensor_mat(some).data, bytes);
    }
    if (!s) s = wane_device_check(d, d->k->sync(d->dev), "sync", e);
    wane_tensor_release(some);
    return s;
}

static wane_status measure_memory(wane_device *d, wane_limits *out, wane_err *e)
{
    bool host = wane_device_is_host(d);
    uint64_t most = host ? (uint64_t)256 << 20 : (uint64_t)4 << 30, room = wane_device_room(d) / 4;
    int64_t rows = (int64_t)((room < most ? room : most) / (COLUMNS * sizeof(float))) / 2 * 2;
    wane_tensor *buffer = NULL, *number = NULL;
    double took = 0;
    if (rows < 2) rows = 2;
    wane_status s = wane_tensor_new2(d, WANE_F32, rows, COLUMNS, &buffer, e);
    if (!s) s = wane_tensor_new2(d, WANE_I64, 1, 1, &number, e);
    if (s) goto done;
    wane_mat all = wane_tensor_mat(buffer);
    work reading = {d, wane_tensor_mat(number), all, {0}, 4};
    work copying = {
        d, wane_mat_rows(all, 0, rows / 2), wane_mat_rows(all, rows / 2, rows / 2), {0}, 4};
    s = fill_rows(d, all, 1, e);
    if (!s) s = seconds(&reading, look, &took, e);
    if (!s) out->read = (double)wane_tensor_bytes(buffer) / took;
    if (!s) s = seconds(&copying, copy, &took, e);
    if (!s) out->copy = (double)wane_tensor_bytes(buffer) / took;
done:
    wane_tensor_release(buffer);
    wane_tensor_release(number);
    return s;
}

static wane_status measure_product(wane_device *d, wane_limits *out, wane_err *e)
{
    wane_dtype t = d->k->activations;
    int64_t side = wane_device_is_host(d) ? 1024 : 8192;
    wane_tensor *x = NULL, *w = NULL, *y = NULL;
    double took = 0;
    while (side > 256 && 12 * (uint64_t)(side * side) > wane_device_room(d) / 2) side /= 2;
    wane_status s = wane_tensor_new2(d, t, side, side, &x, e);
    if (!s) s = wane_tensor_new2(d, t, side, side, &w, e);
    if (!s) s = wane_tensor_new2(d, t, side, side, &y, e);
    if (!s) s = fill_rows(d, wane_tensor_mat(x), 2, e);
    if (!s) s = fill_rows(d, wane_tensor_mat(w), 3, e);
    work product = {d, wane_tensor_mat(y), wane_tensor_mat(x), wane_tensor_mat(w), 4};
    if (!s) s = seconds(&product, multiply, &took, e);
    if (!s) out->product = 2.0 * (double)side * (double)side * (double)side / took;
    out->side = side;
    wane_tensor_release(x);
    wane_tensor_release(w);
    wane_tensor_release(y);
    return s;
}

wane_status wane_device_measure(wane_device *d, wane_limits *out, wane_err *e)
{
    memset(out, 0, sizeof *out);
    wane_status s = measure_memory(d, out, e);
    return s ? s : measure_product(d, out, e);
}
