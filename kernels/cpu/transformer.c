/* transformer.c - the row by row operations of a decoder: embed, rmsnorm, rope, store, silu_mul,
 * take_rows, advance. A row is converted to float32 piece by piece and rounded once, on the way
 * out. */
#include "kernels/cpu/cpu.h"

static bool is_large(wane_mat a)
{
    return a.rows * a.cols > CPU_SMALL;
}
static int32_t index_at(wane_mat a, int64_t i)
{
    return *(const int32_t *)cpu_at(a, i, 0);
}

static bool valid_indices(wane_mat index, int64_t n, int64_t limit)
{
    if (!cpu_is(index, WANE_I32, n, 1)) return false;
    for (int64_t i = 0; i < n; i++)
        if (index_at(index, i) < 0 || index_at(index, i) >= limit) return false;
    return true;
}

/* y's row from x's row, of any two dtypes that convert. */
static void copy_row(const wane_dev *d, wane_mat y, int64_t to, wane_mat x, int64_t from)
{
    if (x.dtype == y.dtype) {
        memcpy(cpu_at(y, to, 0), cpu_at(x, from, 0), (size_t)x.cols * wane_dtype_bytes(x.dtype));
        return;
    }
    float buffer[CPU_CHUNK];
    for (int64_t at = 0; at < x.cols; at += CPU_CHUNK) {
        int64_t n = cpu_min(CPU_CHUNK, x.cols - at);
        d->loops->load(buffer, cpu_at(x, from, at), x.dtype, n);
        d->loops->store(cpu_at(y, to, at), buffer, y.dtype, n);
    }
}

wane_status cpu_take_rows(wane_dev *d, wane_mat y, wane_mat x, wane_mat row)
{
    if (!cpu_valid(y) || !cpu_valid(x) || y.cols != x.cols || !valid_indices(row, y.rows, x.rows))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (is_large(y))
    for (int64_t i = 0; i < y.rows; i++) copy_row(d, y, i, x, index_at(row, i));
    return WANE_OK;
}

wane_status cpu_embed(wane_dev *d, wane_mat y, wane_mat ids, wane_mat table)
{
    if (!cpu_is_float(y.dtype) || !cpu_is_float(table.dtype)) return WANE_EARG;
    return cpu_take_rows(d, y, table, ids);
}

/* One thread where a row might be named twice: the last one wins, as written. */
wane_status cpu_store(wane_dev *d, wane_mat pool, wane_mat x, wane_mat row)
{
    if (!cpu_valid(pool) || !cpu_valid(x) || pool.cols != x.cols ||
        !valid_indices(row, x.rows, pool.rows))
        return WANE_EARG;
    for (int64_t i = 0; i < x.rows; i++) copy_row(d, pool, index_at(row, i), x, i);
    return WANE_OK;
}

wane_status cpu_rmsnorm(wane_dev *d, wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    if (!cpu_is_floats(x, y.rows, y.cols) || !cpu_is_floats(y, x.rows, x.cols) ||
        !cpu_is_floats(gain, 1, x.cols))
        return WANE_EARG;
    int64_t k = x.cols;
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
    for (int64_t i = 0; i < x.rows; i++) {
        float buffer[CPU_CHUNK], factor[CPU_CHUNK];
        double sum = 0;
        for (int64_t at = 0; at < k; at += CPU_CHUNK) {
            int64_t n = cpu_min(CPU_CHUNK, k - at);
            d->loops->load(buffer, cpu_at(x, i, at), x.dtype, n);
            sum += d->loops->dot(buffer, buffer, n);
        }
        float scale = 1 / sqrtf((float)(sum / (double)k) + eps);
        for (int64_t at = 0; at < k; at += CPU_CHUNK) {
            int64_t n = cpu_min(CPU_CHUNK, k - at);
            d->loops->load(buffer, cpu_at(x, i, at), x.dtype, n);
            d->loops->load(factor, cpu_at(gain, 0, at), gain.dtype, n);
            d->loops->scaled(buffer, buffer, scale, factor, n);
            d->loops->store(cpu_at(y, i, at), buffer, y.dtype, n);
        }
    }
    return WANE_OK;
}

/* Su et al. 2021, "RoFormer", arXiv:2104.09864, equation 34, with the pairs of Hugging Face's
 * rotate_half. The angle is a float32 product, as there: at long range its rounding shows. */
wane_status cpu_rope(wane_dev *d, wane_mat x, wane_mat position, wane_mat frequency, float scale)
{
    enum { HALF = 512 }; /* the largest d/2 */
    int64_t half = frequency.cols;
    if (!cpu_valid(x) || !cpu_is_float(x.dtype) || half < 1 || half > HALF || x.cols % (2 * half) ||
        !cpu_is(position, WANE_I32, x.rows, 1) || !cpu_is(frequency, WANE_F32, 1, half))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
    for (int64_t i = 0; i < x.rows; i++) {
        float cosine[HALF], sine[HALF], head[2 * HALF];
        for (int64_t j = 0; j < half; j++) {
            float angle = (float)index_at(position, i) * cpu_f32(frequency, 0)[j];
            cosine[j] = cosf(angle) * scale;
            sine[j] = sinf(angle) * scale;
        }
        for (int64_t at = 0; at < x.cols; at += 2 * half) {
            d->loops->load(head, cpu_at(x, i, at), x.dtype, 2 * half);
            d->loops->rotate(head, cosine, sine, half);
            d->loops->store(cpu_at(x, i, at), head, x.dtype, 2 * half);
        }
    }
    return WANE_OK;
}

wane_status cpu_silu_mul(wane_dev *d, wane_mat y, wane_mat gate, wane_mat up)
{
    if (!cpu_is_floats(gate, y.rows, y.cols) || !cpu_is_floats(up, y.rows, y.cols) ||
        !cpu_is_floats(y, gate.rows, gate.cols))
        return WANE_EARG;
    int64_t per_row = cpu_tiles(y.cols, CPU_CHUNK);
#pragma omp parallel for num_threads(d->threads) if (is_large(y))
    for (int64_t t = 0; t < y.rows * per_row; t++) {
        int64_t row = t / per_row, col = t % per_row * CPU_CHUNK,
                n = cpu_min(CPU_CHUNK, y.cols - col);
        float a[CPU_CHUNK], b[CPU_CHUNK];
        d->loops->load(a, cpu_at(gate, row, col), gate.dtype, n);
        d->loops->load(b, cpu_at(up, row, col), up.dtype, n);
        d->loops->silu_mul(a, a, b, n);
        d->loops->store(cpu_at(y, row, col), a, y.dtype, n);
    }
    return WANE_OK;
}

static int32_t *entry(wane_mat a, int64_t i, int64_t j)
{
    return (int32_t *)cpu_at(a, i, j);
}

/* The run sees one row more, at the end of its spans. */
static void lengthen(wane_run *run, wane_span *spans, int32_t row)
{
    wane_span *last = run->n_spans ? &spans[run->span + run->n_spans - 1] : NULL;
    if (last && last->row + last->count == row)
        last->count++;
    else
        spans[run->span + run->n_spans++] = (wane_span){row, 1};
}

wane_status cpu_advance(wane_dev *d, const wane_growth *g)
{
    int64_t n = g->found.rows, most = g->said.cols;
    (void)d;
    if (!cpu_is(g->found, WANE_I32, n, 1) || !cpu_is(g->ids, WANE_I32, n, 1) ||
        !cpu_is(g->position, WANE_I32, n, 1) || !cpu_is(g->row, WANE_I32, n, 1) ||
        !cpu_is(g->left, WANE_I32, n, 1) || !cpu_is(g->said, WANE_I32, n, most) ||
        !cpu_is(g->rows, WANE_I32, n, most) || !g->runs || !g->spans ||
        (g->stop.data && !cpu_is(g->stop, WANE_I32, 1, g->stop.cols)))
        return WANE_EARG;
    for (int64_t i = 0; i < n; i++) {
        int32_t *left = entry(g->left, i, 0), found = *entry(g->found, i, 0);
        if (*left <= 0 || *left > most) continue;
        *entry(g->said, i, --*left) = found;
        if (found < 0) *left = 0;
        for (int64_t j = 0; g->stop.data && j < g->stop.cols; j++)
            if (found == *entry(g->stop, 0, j)) *left = 0;
        if (*left == 0) continue;
        lengthen(&g->runs[i], g->spans, *entry(g->row, i, 0));
        *entry(g->ids, i, 0) = found;
        ++*entry(g->position, i, 0);
        g->runs[i].row = *entry(g->row, i, 0) = *entry(g->rows, i, *left - 1);
    }
    return WANE_OK;
}
