/* matmul_avx2.c - the products of few rows of x, matmul.c's cpu_dots_plain and cpu_mix_plain, in
 * AVX2 and FMA.
 *
 * As in matmul_avx512.c, with half the registers: a block is four rows of w by one or two rows of
 * x. What is left of k is multiplied number by number. */
#include <immintrin.h>

#include "kernels/cpu/cpu.h"

enum { ROWS = 4, TOKENS = 2, LANES = 8 };

static inline __attribute__((always_inline)) __m256 load8(const void *p, wane_dtype type)
{
    switch (type) {
    case WANE_F32: return _mm256_loadu_ps(p);
    case WANE_F16: return _mm256_cvtph_ps(_mm_loadu_si128(p));
    default:
        return _mm256_castsi256_ps(
            _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
    }
}

static inline float load1(const void *p, wane_dtype type)
{
    return type == WANE_F32   ? *(const float *)p
           : type == WANE_F16 ? cpu_from_f16(*(const uint16_t *)p)
                              : cpu_from_bf16(*(const uint16_t *)p);
}

static inline float total(__m256 v)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

static inline __attribute__((always_inline)) void block(float *y, int64_t y_stride, const float *x,
                                                        int64_t x_stride, const char *w,
                                                        int64_t w_bytes, int64_t k, wane_dtype type,
                                                        int rows, int tokens)
{
    __m256 sum[ROWS][TOKENS];
    int64_t size = type == WANE_F32 ? 4 : 2, at = 0;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) sum[r][i] = _mm256_setzero_ps();
    for (; at + LANES <= k; at += LANES) {
        __m256 a[TOKENS];
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) a[i] = _mm256_loadu_ps(x + i * x_stride + at);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m256 b = load8(w + r * w_bytes + at * size, type);
            if (tokens == 1)
                _mm_prefetch(w + (rows + r) * w_bytes + at * size, _MM_HINT_T0); /* to come */
#pragma GCC unroll 8
            for (int i = 0; i < tokens; i++) sum[r][i] = _mm256_fmadd_ps(a[i], b, sum[r][i]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
        for (int i = 0; i < tokens; i++) {
            float rest = 0;
            for (int64_t l = at; l < k; l++)
                rest += x[i * x_stride + l] * load1(w + r * w_bytes + l * size, type);
            y[i * y_stride + r] = total(sum[r][i]) + rest;
        }
    }
}

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
            } else if (n - i == 1) {
                block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 1);
            } else {
                block(to, y_stride, from, x_stride, rows, bytes, w.cols, type, ROWS, 2);
            }
        }
    }
}

void cpu_dots_avx2(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                   wane_mat w)
{
    switch (w.dtype) {
    case WANE_F32: dots(y, y_stride, x, x_stride, n, w, WANE_F32); break;
    case WANE_F16: dots(y, y_stride, x, x_stride, n, w, WANE_F16); break;
    default: dots(y, y_stride, x, x_stride, n, w, WANE_BF16); break;
    }
}

/* y (tokens, 8 * vectors) += p v: sums stay in registers while the rows of v pass by. */
static inline __attribute__((always_inline)) void
mix_block(float *y, int64_t y_stride, const float *p, int64_t p_stride, const char *v,
          int64_t v_bytes, int64_t rows, wane_dtype type, int tokens, int vectors)
{
    enum { WIDTH = 4 };
    __m256 sum[TOKENS][WIDTH];
    int64_t size = type == WANE_F32 ? 4 : 2;
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 8
        for (int l = 0; l < vectors; l++) sum[i][l] = _mm256_loadu_ps(y + i * y_stride + l * LANES);
    for (int64_t j = 0; j < rows; j++) {
#pragma GCC unroll 8
        for (int l = 0; l < vectors; l++) {
            __m256 a = load8(v + j * v_bytes + l * LANES * size, type);
#pragma GCC unroll 8
            for (int i = 0; i < tokens; i++)
                sum[i][l] = _mm256_fmadd_ps(_mm256_set1_ps(p[i * p_stride + j]), a, sum[i][l]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < tokens; i++)
#pragma GCC unroll 8
        for (int l = 0; l < vectors; l++) _mm256_storeu_ps(y + i * y_stride + l * LANES, sum[i][l]);
}

static inline __attribute__((always_inline)) void mix(float *y, const float *p, int64_t p_stride,
                                                      int64_t n, wane_mat v, wane_dtype type)
{
    int64_t d = v.cols, bytes = v.stride * (type == WANE_F32 ? 4 : 2);
    for (int64_t i = 0; i < n; i += TOKENS) {
        int64_t tokens = cpu_min(TOKENS, n - i), c = 0;
        const float *from = p + i * p_stride;
        for (; c + 4 * LANES <= d; c += 4 * LANES) {
            if (tokens == 2)
                mix_block(y + i * d + c, d, from, p_stride, cpu_at(v, 0, c), bytes, v.rows, type, 2,
                          4);
            else
                mix_block(y + i * d + c, d, from, p_stride, cpu_at(v, 0, c), bytes, v.rows, type, 1,
                          4);
        }
        for (; c < d; c++)
            for (int64_t l = 0; l < tokens; l++)
                for (int64_t j = 0; j < v.rows; j++)
                    y[(i + l) * d + c] += from[l * p_stride + j] * load1(cpu_at(v, j, c), type);
    }
}

void cpu_mix_avx2(float *y, const float *p, int64_t p_stride, int64_t n, wane_mat v)
{
    switch (v.dtype) {
    case WANE_F32: mix(y, p, p_stride, n, v, WANE_F32); break;
    case WANE_F16: mix(y, p, p_stride, n, v, WANE_F16); break;
    default: mix(y, p, p_stride, n, v, WANE_BF16); break;
    }
}
