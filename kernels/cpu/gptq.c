/* gptq.c - inverse_factor and gptq: codes column by column, later columns absorbing the error.
 *
 * Frantar, Ashkboos, Hoefler, Alistarh 2022, "GPTQ", arXiv:2210.17323, algorithm 1. w (m,k)
 * weights, h (k,k) sum of x^T x, u (k,k) upper with h^-1 = u^T u.
 *
 * Departure in the factor: with h = r r^T and r upper triangular, u is the inverse of r, so that
 * one Cholesky factorisation and one triangular inverse do and h^-1 is never formed. r comes from
 * an ordinary lower Cholesky factor l of h with rows and columns in reverse order, and u from l's
 * inverse turned back.
 *
 * Departure in the order: columns are taken in `order`, which keeps groups whole, so that scale and
 * zero keep their places. An input that was always zero (h_ii = 0) gets 1 on the diagonal before
 * damping and a negative u_ii, which h^-1 = u^T u allows; gptq sets its weights to 0.
 *
 * Rows of w do not depend on each other: a task is CPU_GPTQ_ROWS rows, all columns. */
#include <cblas.h>

#include "kernels/cpu/cpu.h"

enum { SIDE = CPU_TILE }; /* of the blocks of the factorisation */

/* x becomes x[order[i]], or backwards through a buffer of as many floats. */
static void permute(float *x, const int32_t *order, int64_t k, float *buffer)
{
    memcpy(buffer, x, (size_t)k * sizeof *x);
    for (int64_t i = 0; i < k; i++) x[i] = buffer[order[i]];
}

static bool valid_order(wane_mat order, int64_t k, uint8_t *seen)
{
    if (!order.data) return true;
    if (!cpu_is(order, WANE_I32, 1, k)) return false;
    memset(seen, 0, (size_t)k);
    for (int64_t i = 0; i < k; i++) {
        int32_t j = ((const int32_t *)order.data)[i];
        if (j < 0 || j >= k || seen[j]++) return false;
    }
    return true;
}

/* Rows first in cycles, moving whole rows; then the columns of every row. */
static void permute_both(wane_dev *d, wane_mat h, const int32_t *order, uint8_t *done)
{
    int64_t k = h.cols;
    float *buffer = cpu_mine(d);
    size_t bytes = (size_t)k * sizeof(float);
    memset(done, 0, (size_t)k);
    for (int64_t start = 0; start < k; start++) {
        if (done[start]) continue;
        memcpy(buffer, cpu_f32(h, start), bytes);
        int64_t to = start;
        for (; order[to] != start; to = order[to]) {
            memcpy(cpu_f32(h, to), cpu_f32(h, order[to]), bytes);
            done[to] = 1;
        }
        memcpy(cpu_f32(h, to), buffer, bytes);
        done[to] = 1;
    }
#pragma omp parallel for num_threads(d->threads)
    for (int64_t i = 0; i < k; i++) permute(cpu_f32(h, i), order, k, cpu_mine(d));
}

/* sum a b in float64 */
static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* Cholesky factor of a block, in place, lower. */
static bool factor_block(float *a, int64_t stride, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        float *row = a + j * stride;
        double pivot = row[j] - dot(row, row, j);
        if (!(pivot > 0 && pivot < INFINITY)) return false;
        double root = sqrt(pivot);
        row[j] = (float)root;
        for (int64_t i = j + 1; i < n; i++)
            a[i * stride + j] = (float)((a[i * stride + j] - dot(a + i * stride, row, j)) / root);
    }
    return true;
}

/* h = l l^T: block by block, the rest of h updated after each. Reads and writes the lower triangle
 * (and all of the blocks on the diagonal). */
static bool factor(wane_dev *d, wane_mat h)
{
    int64_t k = h.cols;
    int ld = (int)h.stride;
    for (int64_t at = 0; at < k; at += SIDE) {
        int n = (int)cpu_min(SIDE, k - at);
        int64_t rest = at + n, tiles = cpu_tiles(k - rest, SIDE);
        float *corner = cpu_f32(h, at) + at;
        if (!factor_block(corner, h.stride, n)) return false;
        if (!tiles) continue;
#pragma omp parallel num_threads(d->threads)
        {
            cpu_solo();
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < tiles; i++) {
                int64_t row = rest + i * SIDE;
                cblas_strsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit,
                            (int)cpu_min(SIDE, k - row), n, 1, corner, ld, cpu_f32(h, row) + at,
                            ld);
            }
#pragma omp for schedule(dynamic)
            for (int64_t t = 0; t < tiles * tiles; t++) {
                int64_t row = rest + t / tiles * SIDE, col = rest + t % tiles * SIDE;
                if (col > row) continue;
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)cpu_min(SIDE, k - row),
                            (int)cpu_min(SIDE, k - col), n, -1, cpu_f32(h, row) + at, ld,
                            cpu_f32(h, col) + at, ld, 1, cpu_f32(h, row) + col, ld);
            }
        }
    }
    return true;
}

/* Inverse x of a lower block l, in place: row i of x is -(sum of l_ij x_j over j < i) / l_ii, up to
 * the diagonal. */
static void invert_block(float *a, int64_t stride, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double sum[SIDE] = {0}, pivot = 1 / (double)a[i * stride + i];
        for (int64_t j = 0; j < i; j++) {
            double factor = a[i * stride + j];
            for (int64_t l = 0; l <= j; l++) sum[l] += factor * a[j * stride + l];
        }
        for (int64_t l = 0; l < i; l++) a[i * stride + l] = (float)(-sum[l] * pivot);
        a[i * stride + i] = (float)pivot;
    }
}

/* The inverse x of the lower triangle l, transposed into the upper one; the blocks on the diagonal
 * are replaced by their own inverses. Block column j of x is x_ij = -x_ii sum_l l_il x_lj, which
 * needs no other column: a task. */
static void invert(wane_dev *d, wane_mat h)
{
    int64_t k = h.cols, blocks = cpu_tiles(k, SIDE);
    int ld = (int)h.stride;
#pragma omp parallel num_threads(d->threads)
    {
        cpu_solo();
        float *sum = cpu_mine(d);
#pragma omp for schedule(dynamic)
        for (int64_t b = 0; b < blocks; b++) {
            float *corner = cpu_f32(h, b * SIDE) + b * SIDE;
            int64_t n = cpu_min(SIDE, k - b * SIDE);
            invert_block(corner, h.stride, n);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = i + 1; j < n; j++) corner[i * h.stride + j] = 0;
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t b = 0; b < blocks; b++) {
            int64_t col = b * SIDE;
            int n = (int)cpu_min(SIDE, k - col);
            for (int64_t row = col + n; row < k; row += SIDE) {
                int m = (int)cpu_min(SIDE, k - row), between = (int)(row - col - n);
                /* sum = x_bb^T l_ib^T + (the rest of column b, as stored) (row i of l)^T */
                cblas_sgemm(CblasRowMajor, CblasTrans, CblasTrans, n, m, n, 1,
                            cpu_f32(h, col) + col, ld, cpu_f32(h, row) + col, ld, 0, sum, SIDE);
                if (between)
                    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, m, between, 1,
                                cpu_f32(h, col) + col + n, ld, cpu_f32(h, row) + col + n, ld, 1,
                                sum, SIDE);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, m, m, -1, sum, SIDE,
                            cpu_f32(h, row) + row, ld, 0, cpu_f32(h, col) + row, ld);
            }
        }
    }
}

/* Turns x, transposed in the upper triangle and lower in its blocks, into u: element (i,j) of u is
 * x's (k-1-i, k-1-j). dead, in the reversed order, marks the rows to be negated. */
static void turn(wane_mat h, const uint8_t *dead)
{
    int64_t k = h.cols;
    for (int64_t b = 0; b < k; b += SIDE) /* the blocks' lower triangles join the upper one */
        for (int64_t i = b; i < cpu_min(b + SIDE, k); i++)
            for (int64_t j = b; j < i; j++) cpu_f32(h, j)[i] = cpu_f32(h, i)[j];
    for (int64_t i = 0; i < k; i++) {
        for (int64_t j = i; j < k - 1 - i;
             j++) { /* up to the other diagonal, with its mirror image */
            float *a = cpu_f32(h, i) + j, *b = cpu_f32(h, k - 1 - j) + (k - 1 - i), keep = *a;
            *a = *b;
            *b = keep;
        }
    }
    for (int64_t i = 0; i < k; i++) {
        memset(cpu_f32(h, i), 0, (size_t)i * sizeof(float));
        if (dead[k - 1 - i])
            for (int64_t j = i; j < k; j++) cpu_f32(h, i)[j] = -cpu_f32(h, i)[j];
    }
}

wane_status cpu_inverse_factor(wane_dev *d, wane_mat h, wane_mat order, float damp)
{
    int64_t k = h.cols;
    uint8_t *seen = cpu_shared(d);
    int32_t *backwards = (int32_t *)(seen + (k + 3) / 4 * 4);
    if (!cpu_is(h, WANE_F32, h.rows, h.rows) || h.stride > INT32_MAX || !(damp >= 0) ||
        k * 5 + 4 > CPU_SHARED_BYTES || k * 4 > CPU_THREAD_BYTES || !valid_order(order, k, seen))
        return WANE_EARG;
    for (int64_t i = 0; i < k; i++)
        backwards[k - 1 - i] = order.data ? ((const int32_t *)order.data)[i] : (int32_t)i;
    permute_both(d, h, backwards, seen);
    double mean = 0;
    for (int64_t i = 0; i < k; i++) {
        float *diagonal = cpu_f32(h, i) + i;
        seen[i] = *diagonal == 0;
        if (seen[i]) *diagonal = 1;
        mean += *diagonal;
    }
    for (int64_t i = 0; i < k; i++) cpu_f32(h, i)[i] += (float)(damp * mean / (double)k);
    if (!factor(d, h)) return WANE_ENUMERIC;
    invert(d, h);
    turn(h, seen);
    return WANE_OK;
}

/* Where the block that starts at column i ends: whole groups, or a part of one large group. */
static int64_t block_end(int64_t i, int64_t g, int64_t k)
{
    int64_t whole = g <= CPU_GPTQ_COLUMNS ? i + CPU_GPTQ_COLUMNS / g * g
                                          : cpu_min(i + CPU_GPTQ_COLUMNS, (i / g + 1) * g);
    return cpu_min(whole, k);
}

typedef struct {
    float w[CPU_GPTQ_COLUMNS * CPU_GPTQ_ROWS], error[CPU_GPTQ_COLUMNS * CPU_GPTQ_ROWS];
    uint8_t codes[CPU_GPTQ_COLUMNS * CPU_GPTQ_ROWS];
    float scale[CPU_GPTQ_ROWS], zero[CPU_GPTQ_ROWS];
    float row[]; /* k floats */
} gptq_scratch;

/* The grids of one group, from w's rows, which are up to date to the block's first column, and from
 * the block itself where the group lies in it. */
static void fit_group(const wane_dev *d, const wane_qmat *q, wane_mat w, int64_t row, int64_t rows,
                      int64_t first, int64_t col, int64_t group, gptq_scratch *s)
{
    for (int64_t r = 0; r < rows; r++) {
        float *from = cpu_f32(w, row + r) + col;
        if (q->group <= CPU_GPTQ_COLUMNS)
            for (int64_t j = 0; j < q->group; j++)
                from[j] = s->w[(col - first + j) * CPU_GPTQ_ROWS + r];
        cpu_grid g = cpu_fit(d, q, from, 1);
        cpu_grid_put(q, row + r, group, &g);
        s->scale[r] = g.scale;
        s->zero[r] = g.zero;
    }
}

static void gptq_rows(const wane_dev *d, const wane_qmat *q, wane_mat codes, wane_mat w, wane_mat u,
                      const int32_t *order, int64_t row, int64_t rows, gptq_scratch *s)
{
    enum { R = CPU_GPTQ_ROWS };
    int64_t k = q->k, g = q->group;
    for (int64_t r = 0; r < rows; r++) {
        float *x = cpu_f32(w, row + r);
        if (order) permute(x, order, k, s->row);
        for (int64_t i = 0; i < k; i++)
            if (cpu_f32(u, i)[i] < 0) x[i] = 0;
    }
    for (int r = 0; r < R; r++)
        s->scale[r] = 1, s->zero[r] = 0; /* for the rows that are not there */
    memset(s->w, 0, sizeof s->w);
    for (int64_t first = 0, end; first < k; first = end) {
        end = block_end(first, g, k);
        int columns = (int)(end - first);
        for (int64_t r = 0; r < rows; r++)
            for (int j = 0; j < columns; j++) s->w[j * R + r] = cpu_f32(w, row + r)[first + j];
        cpu_gptq_block b = {s->w,
                            s->error,
                            s->codes,
                            s->scale,
                            s->zero,
                            cpu_f32(u, first) + first,
                            u.stride,
                            0,
                            0,
                            columns,
                            q->act_bits ? 1 : 0,
                            (float)((1 << q->bits) - 1),
                            (float)(3 << q->bits)};
        while (b.last < columns) {
            int64_t col = first + b.first;
            if (col % g == 0)
                fit_group(d, q, w, row, rows, first, col, (order ? order[col] : col) / g, s);
            b.last = (int)cpu_min(columns, b.first + g - col % g);
            d->loops->gptq_columns(&b);
            b.first = b.last;
        }
        for (int j = 0; j < columns; j++)
            for (int64_t r = 0; r < rows; r++)
                *(uint8_t *)cpu_at(codes, row + r, order ? order[first + j] : first + j) =
                    s->codes[j * R + r];
        if (end < k)
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)rows, (int)(k - end), columns,
                        -1, s->error, R, cpu_f32(u, first) + end, (int)u.stride, 1,
                        cpu_f32(w, row) + end, (int)w.stride);
    }
    if (q->words.data)
        for (int64_t r = 0; r < rows; r++)
            d->loops->pack(cpu_at(q->words, row + r, 0), cpu_at(codes, row + r, 0), k, q->bits);
}

/* Each group of g columns of the order must be one group of w. */
static bool keeps_groups(const int32_t *order, int64_t k, int64_t g)
{
    for (int64_t i = 0; i < k; i++)
        if (order[i] / g != order[i / g * g] / g) return false;
    return true;
}

wane_status cpu_gptq(wane_dev *d, wane_qmat q, wane_mat codes, wane_mat w, wane_mat u,
                     wane_mat order)
{
    int64_t m = w.rows, k = q.k;
    if (!cpu_valid_grid(&q, m, q.words.data != NULL) || !cpu_is(w, WANE_F32, m, k) ||
        !cpu_is(u, WANE_F32, k, k) || !cpu_is(codes, WANE_U8, m, k) || u.stride > INT32_MAX ||
        w.stride > INT32_MAX || k > CPU_SHARED_BYTES ||
        sizeof(gptq_scratch) + (size_t)k * sizeof(float) > CPU_THREAD_BYTES ||
        !valid_order(order, k, cpu_shared(d)) ||
        (order.data && !keeps_groups(order.data, k, q.group)))
        return WANE_EARG;
#pragma omp parallel num_threads(d->threads)
    {
        cpu_solo();
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < cpu_tiles(m, CPU_GPTQ_ROWS); t++) {
            int64_t row = t * CPU_GPTQ_ROWS;
            gptq_rows(d, &q, codes, w, u, order.data, row, cpu_min(CPU_GPTQ_ROWS, m - row),
                      cpu_mine(d));
        }
    }
    return WANE_OK;
}
