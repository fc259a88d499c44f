/* qmatmul.c - y (n,m) = x (n,k) decode(q)^T straight from packed words.
 *
 * Few rows: a task is a strip of weight rows, whose words are unpacked in registers. Many rows: the
 * tiles of matmul.c, decoded instead of converted. With act_bits 8 each row of x is rounded to int8
 * (scale |x|max / 127, halves to even) and the products are summed in integers, without rounding:
 * sum (c - 128) x = sum c x - 128 sum x, times both scales. */
#include "kernels/cpu/cpu.h"

enum { STRIP = 32, TOKENS = 16 };

void cpu_qdots_any(const cpu_loops *loops, float *y, int64_t y_stride, const float *x,
                   int64_t x_stride, int64_t n, const wane_qmat *q, int64_t first, int64_t rows)
{
    uint8_t codes[CPU_CHUNK];
    float piece[CPU_CHUNK];
    for (int64_t j = 0; j < rows; j++) {
        const uint32_t *words = cpu_at(q->words, first + j, 0);
        for (int64_t i = 0; i < n; i++) y[i * y_stride + j] = 0;
        for (int64_t at = 0; at < q->k;) {
            cpu_grid g = cpu_grid_at(q, first + j, at / q->group);
            int64_t count = cpu_min((at / q->group + 1) * q->group - at, CPU_CHUNK);
            loops->unpack(codes, words, at, count, q->bits);
            loops->decode(piece, codes, count, 1, g.zero); /* the scale once, on the sum */
            for (int64_t i = 0; i < n; i++)
                y[i * y_stride + j] += g.scale * loops->dot(x + i * x_stride + at, piece, count);
            at += count;
        }
    }
}

void cpu_qdots_plain(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                     const wane_qmat *q, int64_t first, int64_t rows)
{
    cpu_qdots_any(&cpu_loops_plain, y, y_stride, x, x_stride, n, q, first, rows);
}

void cpu_arrange_plain(float *x, int64_t k, const wane_qmat *q)
{
    (void)x, (void)k, (void)q;
}

void cpu_byte_dots_plain(const cpu_bytes *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        for (int64_t j = 0; j < b->rows; j++) {
            const int8_t *x = b->x + i * b->x_stride;
            const uint8_t *w = b->w + j * b->w_stride;
            int32_t sum = 0;
            for (int64_t l = 0; l < b->k; l++) sum += (int32_t)w[l] * x[l];
            b->y[i * b->y_stride + j] = sum;
        }
    }
}

static void qmatmul_few(wane_dev *d, wane_mat y, wane_mat x, const wane_qmat *q)
{
    float *rows = cpu_shared(d);
    for (int64_t i = 0; i < x.rows; i++) {
        d->loops->load(rows + i * q->k, cpu_at(x, i, 0), x.dtype, q->k);
        d->loops->arrange(rows + i * q->k, q->k, q);
    }
#pragma omp parallel for num_threads(d->threads) if (y.cols * q->k > CPU_SMALL)
    for (int64_t t = 0; t < cpu_tiles(y.cols, STRIP); t++) {
        int64_t first = t * STRIP, count = cpu_min(STRIP, y.cols - first);
        float part[CPU_FEW * STRIP];
        d->loops->qdots(part, STRIP, rows, q->k, x.rows, q, first, count);
        for (int64_t i = 0; i < x.rows; i++)
            d->loops->store(cpu_at(y, i, first), part + i * STRIP, y.dtype, count);
    }
}

/* Rows of x in blocks that fit the shared scratch: bytes first, then scale and sum of each row. */
static wane_status qmatmul_bytes(wane_dev *d, wane_mat y, wane_mat x, const wane_qmat *q)
{
    int64_t k = q->k, row_bytes = (k + 63) / 64 * 64;
    int64_t block = CPU_SHARED_BYTES / (row_bytes + 8);
    if (k > 65536 || block < 1) return WANE_EARG; /* 65536 * 255 * 127 still fits 32 bits */
    int8_t *bytes = cpu_shared(d);
    float *scale = (float *)(bytes + block * row_bytes);
    int32_t *sum = (int32_t *)(scale + block);
    for (int64_t start = 0; start < x.rows; start += block) {
        int64_t n = cpu_min(block, x.rows - start);
#pragma omp parallel num_threads(d->threads) if (n * y.cols * k > CPU_SMALL)
        {
            float *row = cpu_mine(d);
#pragma omp for
            for (int64_t i = 0; i < n; i++) {
                d->loops->load(row, cpu_at(x, start + i, 0), x.dtype, k);
                scale[i] = d->loops->quantize_row(bytes + i * row_bytes, sum + i, row, k);
            }
#pragma omp for
            for (int64_t t = 0; t < cpu_tiles(y.cols, STRIP); t++) {
                int64_t first = t * STRIP, count = cpu_min(STRIP, y.cols - first);
                for (int64_t i = 0; i < n; i += TOKENS) {
                    int64_t tokens = cpu_min(TOKENS, n - i);
                    int32_t product[TOKENS * STRIP];
                    d->loops->byte_dots(&(cpu_bytes){product, bytes + i * row_bytes,
                                                     cpu_at(q->words, first, 0), STRIP, row_bytes,
                                                     q->words.stride * 4, tokens, count, k});
                    for (int64_t l = 0; l < tokens; l++) {
                        float part[STRIP];
                        for (int64_t j = 0; j < count; j++)
                            part[j] = (float)(product[l * STRIP + j] - 128 * sum[i + l]) *
                                      (scale[i + l] * cpu_get(q->scale, first + j, 0));
                        d->loops->store(cpu_at(y, start + i + l, first), part, y.dtype, count);
                    }
                }
            }
        }
    }
    return WANE_OK;
}

wane_status cpu_qmatmul(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q)
{
    if (!cpu_valid_grid(&q, y.cols, true) || !cpu_is_floats(x, y.rows, q.k) ||
        !cpu_is_floats(y, x.rows, q.words.rows))
        return WANE_EARG;
    if (q.act_bits == 8) return qmatmul_bytes(d, y, x, &q);
    if (x.rows <= d->loops->few && x.rows * x.cols * 4 <= CPU_SHARED_BYTES) {
        qmatmul_few(d, y, x, &q);
        return WANE_OK;
    }
    return cpu_matmul_tiles(d, y, x, NULL, &q);
}
