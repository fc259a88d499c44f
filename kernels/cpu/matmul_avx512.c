/* matmul_avx512.c - the products of few rows of x, matmul.c's cpu_dots_plain and cpu_mix_plain, in
 * AVX-512.
 *
 * A block is four rows of w by up to four rows of x: each vector of w is converted once and
 * multiplied by every row of x, in as many sums as hide the latency of the multiplication. What is
 * left of k is loaded under a mask. */
#include <immintrin.h>

#include "kernels/cpu/cpu.h"

enum { ROWS = 4, TOKENS = 6, LANES = 16 };

static inline __attribute__((always_inline)) __m512 load16(const void *p, wane_dtype type,
                                                           __mmask16 mask)
{
    switch (type) {
    case WANE_F32: return _mm512_maskz_loadu_ps(mask, p);
    case WANE_F16: return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, p));
    default:
        return _mm512_castsi512_ps(
            _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
    }
}

/* Sixteen columns, or what the mask leaves of them. */
static inline __attribute__((always_inline)) void step(__m512 sum[ROWS][TOKENS], const float *x,
                                                       int64_t x_stride, const char *w,
                                                       int64_t w_bytes, wane_dtype type,
                                                       __mmask16 mask, int rows, int tokens)
{
    __m512 a[TOKENS];
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++) a[i] = _mm512_maskz_loadu_ps(mask, x + i * x_stride);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        __m512 b = load16(w + r * w_bytes, type, mask);
        if (tokens == 1) _mm_prefetch(w + (rows + r) * w_bytes, _MM_HINT_T0); /* the rows to come */
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) sum[r][i] = _mm512_fmadd_ps(a[i], b, sum[r][i]);
    }
}

static inline __attribute__((always_inline)) void block(float *y, int64_t y_stride, const float *x,
                                                        int64_t x_stride, const char *w,
                                                        int64_t w_bytes, int64_t k, wane_dtype type,
                                                        int rows, int tokens)
{
    __m512 sum[ROWS][TOKENS];
    int64_t size = type == WANE_F32 ? 4 : 2;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) sum[r][i] = _mm512_setzero_ps();
    int64_t at = 0;
    for (; at + LANES <= k; at += LANES)
        step(sum, x + at, x_stride, w + at * size, w_bytes, type, 0xffff, rows, tokens);
    if (at < k)
        step(sum, x + at, x_stride, w + at * size, w_bytes, type, (__mmask16)((1u << (k - at)) - 1),
             rows, tokens);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) y[i * y_stride + r] = _mm512_reduce_add_ps(sum[r][i]);
}

/* The loops over constants are unrolled: one copy of block for each type and number of rows. */
static inline __attribute__((always_inline)) void dots(float *y, int64_t y_stride, const float *x,
                                                       int64_t x_stride, int64_t n, wane_mat w,
                                                       wane_dtype type)
{
    int64_t bytes = w.stride * (type == WANE_F32 ? 4 : 2);
    for (int64_t j = 0; j < w.rows; j += ROWS) {
        const char *rows = (const char *)w.data + j * bytes;
        for (int64_t i = 0; i < n; i += TOKENS) {
            float *to = y + i * y_stride + j;
            const float *from = x + i * x_stride;
            if (w.rows - j < ROWS) {
                for (int64_t r = 0; r < w.rows - j; r++)
                    for (int64_t l = 0; l < cpu_min(TOKENS, n - i); l++)
                        block(to + l * y_stride + r, y_stride, from + l * x_stride, x_stride,
                              rows + r * bytes, bytes, w.cols, type, 1, 1);
                continue;
            }
            switch (n - i) {
            case 1: block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 1); break;
            case 2: block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 2); break;
            case 3: block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 3); break;
            case 4: block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 4); break;
            case 5: block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 5); break;
            default: block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 6); break;
            }
        }
    }
}

void cpu_dots_avx512(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                     wane_mat w)
{
    switch (w.dtype) {
    case WANE_F32: dots(y, y_stride, x, x_stride, n, w, WANE_F32); break;
    case WANE_F16: dots(y, y_stride, x, x_stride, n, w, WANE_F16); break;
    default: dots(y, y_stride, x, x_stride, n, w, WANE_BF16); break;
    }
}

/* y (tokens, 16 * vectors) += p v: sums stay in registers while the rows of v pass by. */
static inline __attribute__((always_inline)) void
mix_block(float *y, int64_t y_stride, const float *p, int64_t p_stride, const char *v,
          int64_t v_bytes, int64_t rows, wane_dtype type, __mmask16 mask, int tokens, int vectors)
{
    enum { WIDTH = 4 };
    __m512 sum[TOKENS][WIDTH];
    int64_t size = type == WANE_F32 ? 4 : 2;
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 8
        for (int l = 0; l < vectors; l++)
            sum[i][l] = _mm512_maskz_loadu_ps(mask, y + i * y_stride + l * LANES);
    for (int64_t j = 0; j < rows; j++) {
#pragma GCC unroll 8
        for (int l = 0; l < vectors; l++) {
            __m512 a = load16(v + j * v_bytes + l * LANES * size, type, mask);
#pragma GCC unroll 8
            for (int i = 0; i < tokens; i++)
                sum[i][l] = _mm512_fmadd_ps(_mm512_set1_ps(p[i * p_stride + j]), a, sum[i][l]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 8
        for (int l = 0; l < vectors; l++)
            _mm512_mask_storeu_ps(y + i * y_stride + l * LANES, mask, sum[i][l]);
}

static inline __attribute__((always_inline)) void mix(float *y, const float *p, int64_t p_stride,
                                                      int64_t n, wane_mat v, wane_dtype type)
{
    int64_t d = v.cols, bytes = v.stride * (type == WANE_F32 ? 4 : 2);
    for (int64_t i = 0, tokens; i < n; i += tokens) {
        tokens = n - i >= 4 ? 4 : n - i >= 2 ? 2 : 1;
        for (int64_t c = 0, width; c < d; c += width) {
            float *to = y + i * d + c;
            const float *from = p + i * p_stride;
            const char *rows = cpu_at(v, 0, c);
            width = d - c >= 4 * LANES ? 4 * LANES : cpu_min(LANES, d - c);
            __mmask16 mask = width < LANES ? (__mmask16)((1u << width) - 1) : 0xffff;
            if (width == 4 * LANES) {
                if (tokens == 4)
                    mix_block(to, d, from, p_stride, rows, bytes, v.rows, type, 0xffff, 4, 4);
                else if (tokens == 2)
                    mix_block(to, d, from, p_stride, rows, bytes, v.rows, type, 0xffff, 2, 4);
                else
                    mix_block(to, d, from, p_stride, rows, bytes, v.rows, type, 0xffff, 1, 4);
            } else {
                for (int64_t l = 0; l < tokens; l++)
                    mix_block(to + l * d, d, from + l * p_stride, p_stride, rows, bytes, v.rows,
                              type, mask, 1, 1);
            }
        }
    }
}

void cpu_mix_avx512(float *y, const float *p, int64_t p_stride, int64_t n, wane_mat v)
{
    switch (v.dtype) {
    case WANE_F32: mix(y, p, p_stride, n, v, WANE_F32); break;
    case WANE_F16: mix(y, p, p_stride, n, v, WANE_F16); break;
    default: mix(y, p, p_stride, n, v, WANE_BF16); break;
    }
}
