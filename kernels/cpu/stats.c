/* stats.c - what calibration gathers from activations x (n,k) with weights c of the tokens:
 * gram h (k,k) += x^T diag(c) x, column_max, column_sum; and gram_error, the loss tr(d h d^T) of a
 * change d of weights under such an h.
 *
 * A task of gram is one tile of h on or above the diagonal; the lower triangle is its mirror image.
 * One side of each product carries the weight, so that weights of 1 change no bit; tokens of weight
 * 0 are left out, whatever they hold. */
#include <cblas.h>

#include "kernels/cpu/cpu.h"

static bool valid_weights(wane_mat c, wane_mat x)
{
    return !c.data || cpu_is(c, WANE_F32, x.rows, 1);
}
static float weight_at(wane_mat c, int64_t row)
{
    return c.data ? *cpu_f32(c, row) : 1;
}

/* Rows of positive weight from `*row` on, columns col .. col+n-1, at most CPU_DEPTH of them. */
static int64_t gather(const wane_dev *d, float *out, wane_mat x, wane_mat c, bool weighted,
                      int64_t *row, int64_t col, int64_t n)
{
    int64_t count = 0;
    for (; *row < x.rows && count < CPU_DEPTH; ++*row) {
        float w = weight_at(c, *row);
        if (w == 0) continue;
        float *to = out + count++ * CPU_TILE;
        d->loops->load(to, cpu_at(x, *row, col), x.dtype, n);
        if (weighted && w != 1) d->loops->scaled(to, to, w, NULL, n);
    }
    return count;
}

wane_status cpu_gram(wane_dev *d, wane_mat h, wane_mat x, wane_mat c)
{
    if (!cpu_valid(x) || !cpu_is_float(x.dtype) || !cpu_is(h, WANE_F32, x.cols, x.cols) ||
        !valid_weights(c, x) || h.stride > INT32_MAX)
        return WANE_EARG;
    int64_t k = x.cols, side = cpu_tiles(k, CPU_TILE);
#pragma omp parallel num_threads(d->threads)
    {
        cpu_solo();
        float *left = cpu_mine(d), *right = left + CPU_DEPTH * CPU_TILE;
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < side * side; t++) {
            int64_t row = t / side * CPU_TILE, rows = cpu_min(CPU_TILE, k - row);
            int64_t col = t % side * CPU_TILE, cols = cpu_min(CPU_TILE, k - col);
            if (col < row) continue;
            for (int64_t at = 0, again = 0; at < x.rows; again = at) {
                int64_t depth = gather(d, left, x, c, true, &at, row, rows);
                gather(d, right, x, c, false, &again, col, cols);
                cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)rows, (int)cols,
                            (int)depth, 1, left, CPU_TILE, right, CPU_TILE, 1,
                            cpu_f32(h, row) + col, (int)h.stride);
            }
            for (int64_t i = row; i < row + rows; i++)
                for (int64_t j = col > i ? col : i + 1; j < col + cols; j++)
                    cpu_f32(h, j)[i] = cpu_f32(h, i)[j];
        }
    }
    return WANE_OK;
}

enum { STRIP = 64 }; /* columns of a task */

wane_status cpu_column_max(wane_dev *d, wane_mat s, wane_mat x, wane_mat c)
{
    if (!cpu_valid(x) || !cpu_is_float(x.dtype) || !cpu_is(s, WANE_F32, 1, x.cols) ||
        !valid_weights(c, x))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (x.rows * x.cols > CPU_SMALL)
    for (int64_t t = 0; t < cpu_tiles(x.cols, STRIP); t++) {
        int64_t col = t * STRIP, n = cpu_min(STRIP, x.cols - col);
        float buffer[STRIP];
        for (int64_t i = 0; i < x.rows; i++) {
            if (!(weight_at(c, i) > 0)) continue;
            d->loops->load(buffer, cpu_at(x, i, col), x.dtype, n);
            d->loops->absolute_max(cpu_f32(s, 0) + col, buffer, n);
        }
    }
    return WANE_OK;
}

/* Sums of a strip are kept in blocks of rows, so that many tokens do not lose the small ones. */
wane_status cpu_column_sum(wane_dev *d, wane_mat s, wane_mat x, wane_mat c)
{
    if (!cpu_valid(x) || !cpu_is_float(x.dtype) || !cpu_is(s, WANE_F32, 1, x.cols) ||
        !valid_weights(c, x))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (x.rows * x.cols > CPU_SMALL)
    for (int64_t t = 0; t < cpu_tiles(x.cols, STRIP); t++) {
        int64_t col = t * STRIP, n = cpu_min(STRIP, x.cols - col);
        float buffer[STRIP], part[STRIP];
        double sum[STRIP] = {0};
        for (int64_t start = 0; start < x.rows; start += CPU_CHUNK) {
            memset(part, 0, sizeof part);
            for (int64_t i = start; i < cpu_min(start + CPU_CHUNK, x.rows); i++) {
                float w = weight_at(c, i);
                if (w == 0) continue;
                d->loops->load(buffer, cpu_at(x, i, col), x.dtype, n);
                d->loops->absolute_add(part, buffer, w, n);
            }
            for (int64_t i = 0; i < n; i++) sum[i] += part[i];
        }
        for (int64_t i = 0; i < n; i++) {
            float *to = cpu_f32(s, 0) + col + i;
            *to = (float)(*to + sum[i]);
        }
    }
    return WANE_OK;
}

/* Rows row .. row+rows-1 of d: sum over tiles of columns of <d h[:, tile], d[:, tile]>. As h is
 * symmetric, what lies above the diagonal tile counts twice and what lies below is not computed. */
static double error_of_rows(wane_mat delta, wane_mat h, int64_t row, int64_t rows, float *product)
{
    double sum = 0;
    int64_t k = delta.cols;
    for (int64_t col = 0; col < k; col += CPU_TILE) {
        int64_t cols = cpu_min(CPU_TILE, k - col);
        for (int part = 0; part < 2; part++) { /* above the diagonal tile, and the tile */
            int64_t from = part ? col : 0, depth = part ? cols : col;
            if (!depth) continue;
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)cols, (int)depth,
                        1, cpu_f32(delta, row) + from, (int)delta.stride, cpu_f32(h, from) + col,
                        (int)h.stride, 0, product, CPU_TILE);
            double inner = 0;
            for (int64_t i = 0; i < rows; i++)
                for (int64_t j = 0; j < cols; j++)
                    inner += (double)product[i * CPU_TILE + j] * cpu_f32(delta, row + i)[col + j];
            sum += part ? inner : 2 * inner;
        }
    }
    return sum;
}

wane_status cpu_gram_error(wane_dev *d, wane_mat e, wane_mat delta, wane_mat h)
{
    int64_t k = delta.cols;
    bool diagonal = h.rows == 1 && k != 1;
    if (!cpu_is(e, WANE_F32, 1, 1) || !cpu_valid(delta) || delta.dtype != WANE_F32 ||
        !cpu_is(h, WANE_F32, diagonal ? 1 : k, k) || delta.stride > INT32_MAX ||
        h.stride > INT32_MAX)
        return WANE_EARG;
    double *part = cpu_shared(d), sum = 0;
    int64_t tasks = cpu_tiles(delta.rows, CPU_TILE);
    if (tasks > (int64_t)(CPU_SHARED_BYTES / sizeof *part)) return WANE_EARG;
#pragma omp parallel num_threads(d->threads)
    {
        cpu_solo();
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < tasks; t++) {
            int64_t row = t * CPU_TILE, rows = cpu_min(CPU_TILE, delta.rows - row);
            part[t] = 0;
            if (!diagonal) {
                part[t] = error_of_rows(delta, h, row, rows, cpu_mine(d));
                continue;
            }
            for (int64_t i = row; i < row + rows; i++)
                for (int64_t j = 0; j < k; j++)
                    part[t] +=
                        (double)cpu_f32(delta, i)[j] * cpu_f32(delta, i)[j] * cpu_f32(h, 0)[j];
        }
    }
    for (int64_t t = 0; t < tasks; t++) sum += part[t];
    *cpu_f32(e, 0) = (float)sum;
    return WANE_OK;
}
