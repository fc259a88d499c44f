/* qmatmul_avx2.c - packed weights times few rows of x, and products of bytes, in AVX2.
 *
 * Eight codes are broadcast as they are packed (one word of 4 bits, half a word of 2, three bytes
 * of 3), each lane shifts its own to the bottom, and floats less the zero are multiplied by x; the
 * scale comes on the sum of the group. Bytes times bytes widen to 16 bits first, where pairs of
 * products cannot overflow. A group that is no multiple of 8 takes the general way. */
#include <immintrin.h>

#include "kernels/cpu/cpu.h"

enum { ROWS = 2, TOKENS = 2, LANES = 8, GROUPS = 256 };

static bool takes_vectors(const wane_qmat *q)
{
    return q->group % LANES == 0;
}

void cpu_arrange_avx2(float *x, int64_t k, const wane_qmat *q)
{
    (void)x, (void)k, (void)q;
}

static inline float total(__m256 v)
{
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)));
}

static inline __attribute__((always_inline)) __m256 codes8(const uint8_t *words, int64_t i,
                                                           int bits)
{
    const __m256i steps =
        _mm256_setr_epi32(0, bits, 2 * bits, 3 * bits, 4 * bits, 5 * bits, 6 * bits, 7 * bits);
    const uint8_t *p = words + i * bits / 8;
    /* eight codes are as many bytes as a code has bits */
    uint32_t u = p[0] | (uint32_t)p[1] << 8;
    if (bits > 2) u |= (uint32_t)p[2] << 16;
    if (bits == 4) memcpy(&u, p, 4);
    if (bits == 8)
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p)));
    __m256i c = _mm256_srlv_epi32(_mm256_set1_epi32((int32_t)u), steps);
    return _mm256_cvtepi32_ps(_mm256_and_si256(c, _mm256_set1_epi32((1 << bits) - 1)));
}

typedef struct {
    float scale[ROWS][GROUPS], zero[ROWS][GROUPS];
} grids;

static inline __attribute__((always_inline)) void
block(__m256 sum[ROWS][TOKENS], const float *x, int64_t x_stride, const uint8_t *w, int64_t w_bytes,
      int64_t first, int64_t last, int64_t g, const grids *grid, int bits, int rows, int tokens)
{
    for (int64_t at = first, i = 0; at < last; at += g, i++) {
        __m256 zero[ROWS], part[ROWS][TOKENS];
#pragma GCC unroll 8
        for (int r = 0; r < rows;
             r++) /* the rows that come next: too short for the hardware to see */
            _mm_prefetch((const char *)w + (rows + r) * w_bytes + at * bits / 8, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            zero[r] = _mm256_set1_ps(grid->zero[r][i]);
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++) part[r][l] = _mm256_setzero_ps();
        }
        for (int64_t j = at; j < at + g; j += LANES) {
            __m256 a[TOKENS];
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++) a[l] = _mm256_loadu_ps(x + l * x_stride + j);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                __m256 b = _mm256_sub_ps(codes8(w + r * w_bytes, j, bits), zero[r]);
#pragma GCC unroll 8
                for (int l = 0; l < tokens; l++) part[r][l] = _mm256_fmadd_ps(a[l], b, part[r][l]);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++)
                sum[r][l] =
                    _mm256_fmadd_ps(part[r][l], _mm256_set1_ps(grid->scale[r][i]), sum[r][l]);
    }
}

static inline __attribute__((always_inline)) void rows_by_tokens(float *y, int64_t y_stride,
                                                                 const float *x, int64_t x_stride,
                                                                 const wane_qmat *q, int64_t row,
                                                                 int bits, int rows, int tokens)
{
    const cpu_loops *loops = &cpu_loops_avx2;
    int64_t groups = q->k / q->group;
    __m256 sum[ROWS][TOKENS];
    grids grid;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++) sum[r][l] = _mm256_setzero_ps();
    for (int64_t i = 0; i < groups; i += GROUPS) {
        int64_t count = cpu_min(GROUPS, groups - i);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            loops->load(grid.scale[r], cpu_at(q->scale, row + r, i), q->scale.dtype, count);
            if (q->zero.data)
                loops->load(grid.zero[r], cpu_at(q->zero, row + r, i), q->zero.dtype, count);
            else
                for (int64_t j = 0; j < count; j++) grid.zero[r][j] = (float)(1 << (bits - 1));
        }
        block(sum, x, x_stride, cpu_at(q->words, row, 0), q->words.stride * 4, i * q->group,
              (i + count) * q->group, q->group, &grid, bits, rows, tokens);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++) y[l * y_stride + r] = total(sum[r][l]);
}

#define WITH(bits)                                                                                 \
    static void rows_##bits(float *y, int64_t y_stride, const float *x, int64_t x_stride,          \
                            const wane_qmat *q, int64_t row, int64_t rows, int64_t tokens)         \
    {                                                                                              \
        if (rows == ROWS && tokens == 1)                                                           \
            rows_by_tokens(y, y_stride, x, x_stride, q, row, bits, ROWS, 1);                       \
        else if (rows == ROWS)                                                                     \
            rows_by_tokens(y, y_stride, x, x_stride, q, row, bits, ROWS, TOKENS);                  \
        else                                                                                       \
            for (int64_t l = 0; l < tokens; l++)                                                   \
                rows_by_tokens(y + l * y_stride, y_stride, x + l * x_stride, x_stride, q, row,     \
                               bits, 1, 1);                                                        \
    }
WITH(2)
WITH(3)
WITH(4)
WITH(8)

void cpu_qdots_avx2(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                    const wane_qmat *q, int64_t first, int64_t rows)
{
    if (!takes_vectors(q)) {
        cpu_qdots_any(&cpu_loops_avx2, y, y_stride, x, x_stride, n, q, first, rows);
        return;
    }
    for (int64_t j = 0; j < rows; j += ROWS) {
        for (int64_t i = 0; i < n; i += TOKENS) {
            int64_t tokens = cpu_min(TOKENS, n - i), some = cpu_min(ROWS, rows - j);
            float *to = y + i * y_stride + j;
            const float *from = x + i * x_stride;
            switch (q->bits) {
            case 2: rows_2(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            case 3: rows_3(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            case 4: rows_4(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            default: rows_8(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            }
        }
    }
}

static inline int32_t total_of_integers(__m256i v)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

static inline __attribute__((always_inline)) void byte_block(const cpu_bytes *b, int64_t i,
                                                             int64_t j, int tokens, int rows)
{
    enum { BYTE_ROWS = 4 };
    __m256i sum[TOKENS][BYTE_ROWS];
    const int8_t *x = b->x + i * b->x_stride;
    const uint8_t *w = b->w + j * b->w_stride;
    int64_t at = 0;
#pragma GCC unroll 8
    for (int l = 0; l < tokens; l++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) sum[l][r] = _mm256_setzero_si256();
    for (; at + 16 <= b->k; at += 16) {
        __m256i a[TOKENS];
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++)
            a[l] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(x + l * b->x_stride + at)));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m256i c =
                _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(w + r * b->w_stride + at)));
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++)
                sum[l][r] = _mm256_add_epi32(sum[l][r], _mm256_madd_epi16(a[l], c));
        }
    }
#pragma GCC unroll 8
    for (int l = 0; l < tokens; l++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int32_t rest = total_of_integers(sum[l][r]);
            for (int64_t c = at; c < b->k; c++)
                rest += (int32_t)x[l * b->x_stride + c] * w[r * b->w_stride + c];
            b->y[(i + l) * b->y_stride + j + r] = rest;
        }
}

void cpu_byte_dots_avx2(const cpu_bytes *b)
{
    for (int64_t i = 0; i < b->n; i += TOKENS) {
        int64_t tokens = cpu_min(TOKENS, b->n - i), j = 0;
        for (; j + 4 <= b->rows; j += 4) {
            if (tokens == 2)
                byte_block(b, i, j, 2, 4);
            else
                byte_block(b, i, j, 1, 4);
        }
        for (; j < b->rows; j++)
            for (int64_t l = 0; l < tokens; l++) byte_block(b, i + l, j, 1, 1);
    }
}
