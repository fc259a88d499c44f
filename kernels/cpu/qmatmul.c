/* qmatmul.c - y (n,m) = x (n,k) decode(q)^T straight from packed words.
 *
 * Few rows: a task is a strip of weight rows, whose words are unpacked in registers. Many rows: the
 * tiles of matmul.c, decoded instead of converted. With act_bits 8 each row of x is rounded to int8
 * (scale |x|max / 127, halves to even) and the products are summed in integers, without rounding:
 * sum (c - 128) x = sum c x - 128 sum x, times both scales. */
#include "kernels/cpu/cpu.h"

enum { STRIP = 32 };

void cpu_qdots_plain(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                     const wane_qmat *q, int64_t first, int64_t rows)
{
    const cpu_loops *loops = &cpu_loops_plain;
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

void cpu_byte_dots_plain(int32_t *y, const int8_t *x, const uint8_t *w, int64_t w_stride,
                         int64_t rows, int64_t k)
{
    for (int64_t j = 0; j < rows; j++, w += w_stride) {
        int32_t sum = 0;
        for (int64_t i = 0; i < k; i++) sum += (int32_t)w[i] * x[i];
        y[j] = sum;
    }
}

static void qmatmul_few(wane_dev *d, wane_mat y, wane_mat x, const wane_qmat *q)
{
    int64_t stride;
    const float *rows = cpu_rows_f32(d, x, &stride);
#pragma omp parallel for num_threads(d->threads) if (y.cols * q->k > CPU_SMALL)
    for (int64_t t = 0; t < cpu_tiles(y.cols, STRIP); t++) {
        int64_t first = t * STRIP, count = cpu_min(STRIP, y.cols - first);
        float part[CPU_FEW * STRIP];
        d->loops->qdots(part, STRIP, rows, stride, x.rows, q, first, count);
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
                int32_t product[STRIP];
                float part[STRIP];
                for (int64_t i = 0; i < n; i++) {
                    d->loops->byte_dots(product, bytes + i * row_bytes, cpu_at(q->words, first, 0),
                                        q->words.stride * 4, count, k);
                    for (int64_t j = 0; j < count; j++)
                        part[j] = (float)(product[j] - 128 * sum[i]) *
                                  (scale[i] * cpu_get(q->scale, first + j, 0));
                    d->loops->store(cpu_at(y, start + i, first), part, y.dtype, count);
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
    if (x.rows <= CPU_FEW && x.rows * x.cols * 4 <= CPU_SHARED_BYTES) {
        qmatmul_few(d, y, x, &q);
        return WANE_OK;
    }
    return cpu_matmul_tiles(d, y, x, NULL, &q);
}
