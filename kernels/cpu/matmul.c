/* matmul.c - y (n,m) = x (n,k) w (m,k)^T for stored weights of any float dtype.
 *
 * Few rows (a token being generated): weights are read once, from memory, as they are stored; a
 * task is a strip of weight rows. Many rows: tiles of x and w are converted to float32 in the
 * thread's scratch and multiplied by BLAS. Where the one ends and the other starts is measured:
 * see cpu_loops.few. */
#include <cblas.h>

#include "kernels/cpu/cpu.h"

enum { STRIP = 32 };

/* The plain form: rows of w are converted piece by piece, each piece meets every row of x. */
void cpu_dots_plain(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                    wane_mat w)
{
    float piece[CPU_CHUNK];
    for (int64_t j = 0; j < w.rows; j++) {
        for (int64_t i = 0; i < n; i++) y[i * y_stride + j] = 0;
        for (int64_t col = 0; col < w.cols; col += CPU_CHUNK) {
            int64_t part = cpu_min(CPU_CHUNK, w.cols - col);
            cpu_loops_plain.load(piece, cpu_at(w, j, col), w.dtype, part);
            for (int64_t i = 0; i < n; i++)
                y[i * y_stride + j] += cpu_loops_plain.dot(x + i * x_stride + col, piece, part);
        }
    }
}

void cpu_mix_plain(float *y, const float *p, int64_t p_stride, int64_t n, wane_mat v)
{
    float piece[CPU_CHUNK];
    for (int64_t j = 0; j < v.rows; j++) {
        for (int64_t at = 0; at < v.cols; at += CPU_CHUNK) {
            int64_t part = cpu_min(CPU_CHUNK, v.cols - at);
            cpu_loops_plain.load(piece, cpu_at(v, j, at), v.dtype, part);
            for (int64_t i = 0; i < n; i++)
                for (int64_t c = 0; c < part; c++)
                    y[i * v.cols + at + c] += p[i * p_stride + j] * piece[c];
        }
    }
}

/* Rows of x as float32: where they lie, or in the shared scratch. */
static const float *rows_of(wane_dev *d, wane_mat x, int64_t *stride)
{
    float *rows = cpu_shared(d);
    *stride = x.dtype == WANE_F32 ? x.stride : x.cols;
    if (x.dtype == WANE_F32) return x.data;
    for (int64_t i = 0; i < x.rows; i++)
        d->loops->load(rows + i * x.cols, cpu_at(x, i, 0), x.dtype, x.cols);
    return rows;
}

static void matmul_few(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    int64_t stride;
    const float *rows = rows_of(d, x, &stride);
#pragma omp parallel for num_threads(d->threads) if (w.rows * w.cols > CPU_SMALL)
    for (int64_t t = 0; t < cpu_tiles(w.rows, STRIP); t++) {
        int64_t first = t * STRIP, count = cpu_min(STRIP, w.rows - first);
        wane_mat strip = {cpu_at(w, first, 0), w.dtype, count, w.cols, w.stride};
        float part[CPU_FEW * STRIP];
        d->loops->dots(part, STRIP, rows, stride, x.rows, strip);
        for (int64_t i = 0; i < x.rows; i++)
            d->loops->store(cpu_at(y, i, first), part + i * STRIP, y.dtype, count);
    }
}

/* rows x depth of a matrix as float32: where it lies, or converted into buffer. */
static const float *tile_of(const wane_dev *d, const wane_mat *w, const wane_qmat *q, float *buffer,
                            int64_t row, int64_t rows, int64_t col, int64_t depth, int *stride)
{
    if (w && w->dtype == WANE_F32) {
        *stride = (int)w->stride;
        return cpu_at(*w, row, col);
    }
    *stride = (int)depth;
    for (int64_t i = 0; i < rows; i++) {
        if (w)
            d->loops->load(buffer + i * depth, cpu_at(*w, row + i, col), w->dtype, depth);
        else
            cpu_decode_part(d, buffer + i * depth, q, row + i, col, depth);
    }
    return buffer;
}

wane_status cpu_matmul_tiles(wane_dev *d, wane_mat y, wane_mat x, const wane_mat *w,
                             const wane_qmat *q)
{
    int64_t k = x.cols, across = cpu_tiles(y.cols, CPU_TILE);
    if (x.stride > INT32_MAX || (w && w->stride > INT32_MAX)) return WANE_EARG;
#pragma omp parallel num_threads(d->threads)
    {
        cpu_solo();
        float *sum = cpu_mine(d), *left = sum + CPU_TILE * CPU_TILE,
              *right = left + CPU_TILE * CPU_DEPTH;
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < cpu_tiles(y.rows, CPU_TILE) * across; t++) {
            int64_t row = t / across * CPU_TILE, rows = cpu_min(CPU_TILE, y.rows - row);
            int64_t col = t % across * CPU_TILE, cols = cpu_min(CPU_TILE, y.cols - col);
            if (!k) memset(sum, 0, CPU_TILE * CPU_TILE * sizeof *sum);
            for (int64_t at = 0; at < k; at += CPU_DEPTH) {
                int64_t depth = cpu_min(CPU_DEPTH, k - at);
                int xs, ws;
                const float *xt = tile_of(d, &x, NULL, left, row, rows, at, depth, &xs);
                const float *wt = tile_of(d, w, q, right, col, cols, at, depth, &ws);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)cols,
                            (int)depth, 1, xt, xs, wt, ws, at ? 1 : 0, sum, CPU_TILE);
            }
            for (int64_t i = 0; i < rows; i++)
                d->loops->store(cpu_at(y, row + i, col), sum + i * CPU_TILE, y.dtype, cols);
        }
    }
    return WANE_OK;
}

wane_status cpu_matmul(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    if (!cpu_is_floats(x, y.rows, w.cols) || !cpu_is_floats(w, y.cols, x.cols) ||
        !cpu_is_floats(y, x.rows, w.rows))
        return WANE_EARG;
    if (x.rows <= d->loops->few && x.rows * x.cols * 4 <= CPU_SHARED_BYTES) {
        matmul_few(d, y, x, w);
        return WANE_OK;
    }
    return cpu_matmul_tiles(d, y, x, &w, NULL);
}
