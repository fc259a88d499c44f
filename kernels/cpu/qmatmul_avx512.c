/* qmatmul_avx512.c - packed weights times few rows of x, and products of bytes, in AVX-512.
 *
 * 2, 3 and 4 bits: sixteen codes are broadcast as they are packed, each lane shifts its own code to
 * the bottom, and a permutation of the sixteen values (c - zero) * scale, which looks at the four
 * lowest bits alone, turns codes into weights: three instructions for sixteen weights, the same
 * numbers that decode gives. Values repeat where a code has fewer bits than four.
 * Sixteen codes of 4 bits are two words, of 3 bits two halves of 24 bits, broadcast as a pair: even
 * lanes get the first eight codes, odd lanes the last eight, so x is arranged the same way before.
 * 8 bits: bytes become floats, less the zero; the scale comes on the sum of the group.
 * Bytes times bytes: VNNI, four products a lane, exact.
 *
 * A group that is no multiple of 16 takes the general way. */
#include <immintrin.h>

#include "kernels/cpu/cpu.h"

enum { ROWS = 4, TOKENS = 4, LANES = 16, GROUPS = 256 };

static bool takes_vectors(const wane_qmat *q)
{
    return q->group % LANES == 0;
}

void cpu_arrange_avx512(float *x, int64_t k, const wane_qmat *q)
{
    const __m512i pairs = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
    if (!takes_vectors(q) || (q->bits != 3 && q->bits != 4)) return;
    for (int64_t i = 0; i < k; i += LANES)
        _mm512_storeu_ps(x + i, _mm512_permutexvar_ps(pairs, _mm512_loadu_ps(x + i)));
}

/* Sixteen codes from the i-th on, each at the bottom of its lane; 8 bits: the codes alone. */
static inline __attribute__((always_inline)) __m512i codes16(const uint8_t *words, int64_t i,
                                                             int bits)
{
    const __m512i twos =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i threes =
        _mm512_setr_epi32(0, 0, 3, 3, 6, 6, 9, 9, 12, 12, 15, 15, 18, 18, 21, 21);
    const __m512i fours =
        _mm512_setr_epi32(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    const uint8_t *p = words + i * bits / 8;
    if (bits == 8) return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    if (bits == 2) {
        int32_t u;
        memcpy(&u, p, 4);
        return _mm512_srlv_epi32(_mm512_set1_epi32(u), twos);
    }
    if (bits == 4) {
        int64_t u;
        memcpy(&u, p, 8);
        return _mm512_srlv_epi32(_mm512_set1_epi64(u), fours);
    }
    uint32_t low;
    uint16_t high;
    memcpy(&low, p, 4);
    memcpy(&high, p + 4, 2);
    uint64_t halves = (low & 0xffffff) | (uint64_t)(low >> 24 | (uint32_t)high << 8) << 32;
    return _mm512_srlv_epi32(_mm512_set1_epi64((int64_t)halves), threes);
}

typedef struct {
    float scale[ROWS][GROUPS], zero[ROWS][GROUPS];
} grids;

/* The group of columns at .. at+g-1 joins the sums. */
static inline __attribute__((always_inline)) void
group_of_few_bits(__m512 sum[ROWS][TOKENS], const float *x, int64_t x_stride, const uint8_t *w,
                  int64_t w_bytes, int64_t at, int64_t g, const grids *grid, int64_t i, int bits,
                  int rows, int tokens)
{
    const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 all =
        _mm512_cvtepi32_ps(_mm512_and_si512(index, _mm512_set1_epi32((1 << bits) - 1)));
    __m512 values[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        values[r] = _mm512_mul_ps(_mm512_sub_ps(all, _mm512_set1_ps(grid->zero[r][i])),
                                  _mm512_set1_ps(grid->scale[r][i]));
    for (int64_t j = at; j < at + g; j += LANES) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512 b = _mm512_permutexvar_ps(codes16(w + r * w_bytes, j, bits), values[r]);
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++)
                sum[r][l] = _mm512_fmadd_ps(_mm512_loadu_ps(x + l * x_stride + j), b, sum[r][l]);
        }
    }
}

static inline __attribute__((always_inline)) void
group_of_bytes(__m512 sum[ROWS][TOKENS], const float *x, int64_t x_stride, const uint8_t *w,
               int64_t w_bytes, int64_t at, int64_t g, const grids *grid, int64_t i, int rows,
               int tokens)
{
    __m512 part[ROWS][TOKENS], zero[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        zero[r] = _mm512_set1_ps(grid->zero[r][i]);
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++) part[r][l] = _mm512_setzero_ps();
    }
    for (int64_t j = at; j < at + g; j += LANES) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512 b = _mm512_sub_ps(_mm512_cvtepi32_ps(codes16(w + r * w_bytes, j, 8)), zero[r]);
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++)
                part[r][l] = _mm512_fmadd_ps(_mm512_loadu_ps(x + l * x_stride + j), b, part[r][l]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++)
            sum[r][l] = _mm512_fmadd_ps(part[r][l], _mm512_set1_ps(grid->scale[r][i]), sum[r][l]);
}

/* Groups first .. first+count-1: y, or y and what it was, of four rows. */
static inline __attribute__((always_inline)) void
some_groups(float *y, int64_t y_stride, const float *x, int64_t x_stride, const uint8_t *w,
            int64_t w_bytes, int64_t g, const grids *grid, int64_t first, int64_t count, int bits,
            int rows, int tokens)
{
    __m512 sum[ROWS][TOKENS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++) sum[r][l] = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i++) {
        int64_t at = (first + i) * g;
#pragma GCC unroll 8
        for (int r = 0; r < rows;
             r++) /* the rows that come next: too short for the hardware to see */
            _mm_prefetch((const char *)w + (rows + r) * w_bytes + at * bits / 8, _MM_HINT_T0);
        if (bits == 8)
            group_of_bytes(sum, x, x_stride, w, w_bytes, at, g, grid, i, rows, tokens);
        else
            group_of_few_bits(sum, x, x_stride, w, w_bytes, at, g, grid, i, bits, rows, tokens);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++) {
            float part = _mm512_reduce_add_ps(sum[r][l]);
            y[l * y_stride + r] = first ? y[l * y_stride + r] + part : part;
        }
}

static inline __attribute__((always_inline)) void rows_by_tokens(float *y, int64_t y_stride,
                                                                 const float *x, int64_t x_stride,
                                                                 const wane_qmat *q, int64_t row,
                                                                 int bits, int rows, int tokens)
{
    const cpu_loops *loops = &cpu_loops_avx512;
    int64_t groups = q->k / q->group;
    grids grid;
    for (int64_t i = 0; i < groups; i += GROUPS) {
        int64_t count = cpu_min(GROUPS, groups - i);
        for (int r = 0; r < rows; r++) {
            loops->load(grid.scale[r], cpu_at(q->scale, row + r, i), q->scale.dtype, count);
            if (q->zero.data)
                loops->load(grid.zero[r], cpu_at(q->zero, row + r, i), q->zero.dtype, count);
            else
                for (int64_t j = 0; j < count; j++) grid.zero[r][j] = (float)(1 << (bits - 1));
        }
        some_groups(y, y_stride, x, x_stride, cpu_at(q->words, row, 0), q->words.stride * 4,
                    q->group, &grid, i, count, bits, rows, tokens);
    }
}

/* How many of n tokens to take at once. */
static int64_t tokens_of(int64_t n)
{
    return n >= TOKENS ? TOKENS : n >= 2 ? 2 : 1;
}

/* One copy of rows_by_tokens for each number of bits, rows and tokens. */
#define PART(bits, tokens)                                                                         \
    case tokens:                                                                                   \
        rows_by_tokens(y, y_stride, x, x_stride, q, row, bits, ROWS, tokens);                      \
        break
#define WITH(bits)                                                                                 \
    static void rows_##bits(float *y, int64_t y_stride, const float *x, int64_t x_stride,          \
                            const wane_qmat *q, int64_t row, int64_t rows, int64_t tokens)         \
    {                                                                                              \
        for (int64_t r = 0; r < rows && rows < ROWS; r++)                                          \
            for (int64_t l = 0; l < tokens; l++)                                                   \
                rows_by_tokens(y + l * y_stride + r, y_stride, x + l * x_stride, x_stride, q,      \
                               row + r, bits, 1, 1);                                               \
        if (rows < ROWS) return;                                                                   \
        switch (tokens) {                                                                          \
            PART(bits, 1);                                                                         \
            PART(bits, 2);                                                                         \
            PART(bits, TOKENS);                                                                    \
        }                                                                                          \
    }
WITH(2)
WITH(3)
WITH(4)
WITH(8)

void cpu_qdots_avx512(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                      const wane_qmat *q, int64_t first, int64_t rows)
{
    if (!takes_vectors(q)) {
        cpu_qdots_any(&cpu_loops_avx512, y, y_stride, x, x_stride, n, q, first, rows);
        return;
    }
    for (int64_t j = 0; j < rows; j += ROWS) {
        for (int64_t i = 0, tokens; i < n; i += tokens) {
            int64_t some = cpu_min(ROWS, rows - j);
            float *to = y + i * y_stride + j;
            const float *from = x + i * x_stride;
            tokens = tokens_of(n - i);
            switch (q->bits) {
            case 2: rows_2(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            case 3: rows_3(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            case 4: rows_4(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            default: rows_8(to, y_stride, from, x_stride, q, first + j, some, tokens); break;
            }
        }
    }
}

static inline __attribute__((always_inline)) void byte_block(const cpu_bytes *b, int64_t i,
                                                             int64_t j, int tokens, int rows)
{
    __m512i sum[TOKENS][ROWS];
#pragma GCC unroll 8
    for (int l = 0; l < tokens; l++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) sum[l][r] = _mm512_setzero_si512();
    for (int64_t at = 0; at < b->k; at += 64) {
        __mmask64 mask = b->k - at >= 64 ? ~0ull : (1ull << (b->k - at)) - 1;
        __m512i x[TOKENS];
#pragma GCC unroll 8
        for (int l = 0; l < tokens; l++)
            x[l] = _mm512_maskz_loadu_epi8(mask, b->x + (i + l) * b->x_stride + at);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512i w = _mm512_maskz_loadu_epi8(mask, b->w + (j + r) * b->w_stride + at);
#pragma GCC unroll 8
            for (int l = 0; l < tokens; l++) sum[l][r] = _mm512_dpbusd_epi32(sum[l][r], w, x[l]);
        }
    }
#pragma GCC unroll 8
    for (int l = 0; l < tokens; l++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            b->y[(i + l) * b->y_stride + j + r] = _mm512_reduce_add_epi32(sum[l][r]);
}

void cpu_byte_dots_avx512(const cpu_bytes *b)
{
    for (int64_t i = 0, tokens; i < b->n; i += tokens) {
        tokens = tokens_of(b->n - i);
        for (int64_t j = 0; j < b->rows; j += ROWS) {
            if (b->rows - j < ROWS)
                for (int64_t l = 0; l < (b->rows - j) * tokens; l++)
                    byte_block(b, i + l % tokens, j + l / tokens, 1, 1);
            else if (tokens == TOKENS)
                byte_block(b, i, j, TOKENS, ROWS);
            else if (tokens == 2)
                byte_block(b, i, j, 2, ROWS);
            else
                byte_block(b, i, j, 1, ROWS);
        }
    }
}
