/* cpu.h - what the files of the CPU backend share: the device, its scratch, the conversions of
 * single numbers, and the table of inner loops that exists once per instruction set.
 *
 * A slot checks its arguments, cuts its work into tasks whose borders depend on the shapes alone,
 * and runs them on the device's threads: so a result does not depend on how many threads there
 * are. BLAS is only called inside a task, on one thread (see cpu_solo). */
#ifndef WANE_CPU_H
#define WANE_CPU_H

#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernels/kernels.h"

enum {
    CPU_SHARED_BYTES = 640 << 10, /* scratch that a slot's threads read together */
    CPU_THREAD_BYTES = 640 << 10, /* scratch of one thread */
    CPU_CHUNK = 1024,             /* elements that elementwise loops convert at a time */
    CPU_TILE = 128,               /* rows and columns of a tile of a large product */
    CPU_DEPTH = 512,              /* its inner dimension */
    CPU_FEW = 64,                 /* the largest `few` of any instruction set */
    CPU_SMALL = 1 << 14           /* work of fewer elements is not worth waking threads for */
};
_Static_assert((CPU_TILE * CPU_TILE + 2 * CPU_TILE * CPU_DEPTH) * 4 <= CPU_THREAD_BYTES,
               "a tile of a product, and what it is made of");

/* Columns first .. last-1 of a gptq block for CPU_GPTQ_ROWS rows of w at once, column by column. */
enum { CPU_GPTQ_ROWS = 64, CPU_GPTQ_COLUMNS = 128 };
typedef struct {
    float *w;                  /* (columns, CPU_GPTQ_ROWS): updated */
    float *error;              /* the same shape: (w - decoded) / u_ii */
    uint8_t *codes;            /* the same shape */
    const float *scale, *zero; /* (CPU_GPTQ_ROWS) */
    const float *u;            /* the block's square of the factor */
    int64_t u_stride;
    int first, last, columns;
    float least, most, snap; /* as in cpu_grid */
} cpu_gptq_block;

/* How codes of one group are found. */
typedef struct {
    float scale, zero;
    bool float_zero;   /* the zero is added before rounding, not after */
    float least, most; /* codes */
    float snap;        /* decides ties: nearest_code in loops.h */
} cpu_grid;

/* Over codes c about a zero z, w (n): sums of |w - (c - z) s|, w (c - z) and (c - z)^2. */
typedef struct {
    double error, cross, square;
} cpu_residual;

/* Exact products of rows of bytes: y (n,rows) = x (n,k) w (rows,k)^T. */
typedef struct {
    int32_t *y;
    const int8_t *x;
    const uint8_t *w;
    int64_t y_stride, x_stride, w_stride, n, rows, k;
} cpu_bytes;

/* The inner loops, on contiguous float32. Compiled from loops.h for each instruction set. */
typedef struct {
    const char *name; /* "plain", "avx2", "avx512": WANE_CPU's values */
    const char *label;
    int few; /* rows of x up to which dots and qdots beat BLAS on converted tiles */
    void (*load)(float *y, const void *x, wane_dtype, int64_t n);
    void (*store)(void *y, const float *x, wane_dtype, int64_t n);
    void (*binary)(float *y, const float *a, const float *b, int64_t n, wane_binary_op);
    void (*unary)(float *y, const float *x, int64_t n, wane_unary_op);
    double (*reduce)(const float *x, int64_t n, wane_reduce_op);
    void (*absolute_add)(float *s, const float *x, float c, int64_t n); /* s += c |x| */
    void (*absolute_max)(float *s, const float *x, int64_t n);          /* s = max(s, |x|) */
    float (*dot)(const float *a, const float *b, int64_t n);
    float (*most)(const float *x, int64_t n); /* NaN if there is one */
    double (*exp_sum)(float *y, const float *x, float shift,
                      int64_t n); /* y = exp(x - shift); sum */
    double (*divergence)(const float *p, const float *q, float p_shift, float q_shift, float both,
                         int64_t n);
    void (*scaled)(float *y, const float *x, float scale, const float *gain, int64_t n);
    void (*rotate)(float *x, const float *cosine, const float *sine, int64_t half);
    void (*silu_mul)(float *y, const float *gate, const float *up, int64_t n);
    void (*range)(float *low, float *high, const float *x, int64_t n); /* with 0 inside */
    void (*encode)(uint8_t *codes, const float *w, int64_t n, const cpu_grid *);
    void (*decode)(float *w, const uint8_t *codes, int64_t n, float scale, float zero);
    void (*unpack)(uint8_t *codes, const uint32_t *words, int64_t first, int64_t n, int bits);
    void (*pack)(uint32_t *words, const uint8_t *codes, int64_t n, int bits);
    float (*hqq_zero)(const float *w, int64_t g, const cpu_grid *, const wane_hqq_options *);
    cpu_residual (*residual)(const float *w, const uint8_t *codes, int64_t n, const cpu_grid *);
    void (*gptq_columns)(const cpu_gptq_block *);
    float (*quantize_row)(int8_t *y, int32_t *sum, const float *x,
                          int64_t k); /* returns the scale */
    /* y (n, w.rows) = x (n, w.cols) w^T; w of any float dtype, few n */
    void (*dots)(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                 wane_mat w);
    /* y (n,d) += p (n,rows) v (rows,d); v of any float dtype, few n */
    void (*mix)(float *y, const float *p, int64_t p_stride, int64_t n, wane_mat v);
    /* dots for packed rows first .. first+rows-1 */
    void (*qdots)(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                  const wane_qmat *q, int64_t first, int64_t rows);
    /* x (k), once before qdots: in the order in which it reads codes of q */
    void (*arrange)(float *x, int64_t k, const wane_qmat *q);
    void (*byte_dots)(const cpu_bytes *);
} cpu_loops;

extern const cpu_loops cpu_loops_plain, cpu_loops_avx2, cpu_loops_avx512;

struct wane_dev {
    const cpu_loops *loops; /* borrowed, static */
    int threads;
    unsigned char *scratch; /* owned: CPU_SHARED_BYTES, then CPU_THREAD_BYTES for each thread */
    char name[96];
};

static inline void *cpu_shared(wane_dev *d)
{
    return d->scratch;
}
static inline void *cpu_mine(wane_dev *d) /* the calling thread's */
{
    return d->scratch + CPU_SHARED_BYTES + (size_t)omp_get_thread_num() * CPU_THREAD_BYTES;
}

/* Called first in a parallel region whose tasks call BLAS: inside it OpenBLAS stays on one thread,
 * also where the region itself has only one. The setting belongs to the region and ends with it. */
static inline void cpu_solo(void)
{
    omp_set_num_threads(1);
}

static inline bool cpu_is_float(wane_dtype t)
{
    return t == WANE_F32 || t == WANE_F16 || t == WANE_BF16;
}
static inline bool cpu_valid(wane_mat a)
{
    return a.rows >= 0 && a.cols >= 0 && a.stride >= (a.rows > 1 ? a.cols : 0) &&
           (unsigned)a.dtype < WANE_DTYPES && (a.data || !a.rows || !a.cols);
}
static inline bool cpu_is(wane_mat a, wane_dtype t, int64_t rows, int64_t cols)
{
    return cpu_valid(a) && a.dtype == t && a.rows == rows && a.cols == cols;
}
static inline bool cpu_is_floats(wane_mat a, int64_t rows, int64_t cols)
{
    return cpu_valid(a) && cpu_is_float(a.dtype) && a.rows == rows && a.cols == cols;
}
/* The address of element (row, col). */
static inline void *cpu_at(wane_mat a, int64_t row, int64_t col)
{
    return (unsigned char *)a.data + (size_t)(row * a.stride + col) * wane_dtype_bytes(a.dtype);
}
static inline float *cpu_f32(wane_mat a, int64_t row)
{
    return (float *)a.data + row * a.stride;
}
static inline int64_t cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t cpu_tiles(int64_t n, int64_t tile)
{
    return (n + tile - 1) / tile;
}

/* One number, exactly, and back with ties to even; NaN stays NaN. */
static inline uint32_t cpu_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float cpu_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline float cpu_from_bf16(uint16_t h)
{
    return cpu_float((uint32_t)h << 16);
}
static inline uint16_t cpu_to_bf16(float x)
{
    uint32_t u = cpu_bits(x), quiet = u >> 16 | 0x40, even = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : even);
}
static inline float cpu_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    /* as a float, rest is 2^-112 of what it should be: 112 = 127 - 15, between the two biases */
    uint32_t scaled = cpu_bits(cpu_float(rest) * 0x1p112f), large = rest | 0x7f800000;
    return cpu_float(sign | (rest >= 0x0f800000 ? large : scaled));
}
static inline uint16_t cpu_to_f16(float x)
{
    uint32_t u = cpu_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    uint32_t normal = (a - (112u << 23) + 0xfff + (a >> 13 & 1)) >> 13;
    uint32_t small = cpu_bits(cpu_float(a) + 0.5f) - cpu_bits(0.5f); /* 0.5 has f16's least step */
    uint32_t nan = 0x7e00 | (a >> 13 & 0x3ff);
    return (uint16_t)(sign | (a > 0x7f800000    ? nan
                              : a >= 0x477ff000 ? 0x7c00 /* 65520 rounds to infinity */
                              : a >= 0x38800000 ? normal
                                                : small));
}
static inline float cpu_get(wane_mat a, int64_t row, int64_t col) /* of a float dtype or U8 */
{
    const void *p = cpu_at(a, row, col);
    switch (a.dtype) {
    case WANE_F32: return *(const float *)p;
    case WANE_F16: return cpu_from_f16(*(const uint16_t *)p);
    case WANE_BF16: return cpu_from_bf16(*(const uint16_t *)p);
    default: return *(const uint8_t *)p;
    }
}
static inline void cpu_set(wane_mat a, int64_t row, int64_t col, float x)
{
    void *p = cpu_at(a, row, col);
    switch (a.dtype) {
    case WANE_F32: *(float *)p = x; break;
    case WANE_F16: *(uint16_t *)p = cpu_to_f16(x); break;
    case WANE_BF16: *(uint16_t *)p = cpu_to_bf16(x); break;
    default: *(uint8_t *)p = (uint8_t)x; break;
    }
}

/* grid.c: what the quantizers share */
bool cpu_valid_grid(const wane_qmat *q, int64_t m, bool words); /* shapes and dtypes fit together */
cpu_grid cpu_fit(const wane_dev *, const wane_qmat *, const float *w, float clip); /* one group */
cpu_grid cpu_grid_at(const wane_qmat *, int64_t row, int64_t group);               /* as stored */
void cpu_grid_put(const wane_qmat *, int64_t row, int64_t group, const cpu_grid *);
float cpu_scale_round(const wane_qmat *,
                      float scale); /* to the stored dtype, never 0 or infinite */
void cpu_decode_part(const wane_dev *, float *w, const wane_qmat *, int64_t row, int64_t first,
                     int64_t n); /* columns first .. first+n-1 of a row */

/* matmul.c: y (n,m) = x w^T in tiles through BLAS, w or q given */
wane_status cpu_matmul_tiles(wane_dev *, wane_mat y, wane_mat x, const wane_mat *w,
                             const wane_qmat *q);

/* qmatmul.c: qdots for any group, in the given inner loops */
void cpu_qdots_any(const cpu_loops *, float *y, int64_t y_stride, const float *x, int64_t x_stride,
                   int64_t n, const wane_qmat *q, int64_t first, int64_t rows);
/* matmul.c, qmatmul.c and their twins for other instruction sets */
#define CPU_DOTS(suffix)                                                                           \
    void cpu_dots_##suffix(float *y, int64_t y_stride, const float *x, int64_t x_stride,           \
                           int64_t n, wane_mat w);                                                 \
    void cpu_mix_##suffix(float *y, const float *p, int64_t p_stride, int64_t n, wane_mat v);      \
    void cpu_arrange_##suffix(float *x, int64_t k, const wane_qmat *q);                            \
    void cpu_qdots_##suffix(float *y, int64_t y_stride, const float *x, int64_t x_stride,          \
                            int64_t n, const wane_qmat *q, int64_t first, int64_t rows);           \
    void cpu_byte_dots_##suffix(const cpu_bytes *)
CPU_DOTS(plain);
CPU_DOTS(avx2);
CPU_DOTS(avx512);

/* the slots */
wane_status cpu_convert(wane_dev *, wane_mat y, wane_mat x);
wane_status cpu_binary(wane_dev *, wane_mat y, wane_mat a, wane_mat b, wane_binary_op);
wane_status cpu_unary(wane_dev *, wane_mat y, wane_mat x, wane_unary_op);
wane_status cpu_reduce(wane_dev *, wane_mat y, wane_mat x, wane_reduce_op);
wane_status cpu_transpose(wane_dev *, wane_mat y, wane_mat x);
wane_status cpu_finite(wane_dev *, wane_mat count, wane_mat x);
wane_status cpu_matmul(wane_dev *, wane_mat y, wane_mat x, wane_mat w);
wane_status cpu_gram(wane_dev *, wane_mat h, wane_mat x, wane_mat c);
wane_status cpu_column_max(wane_dev *, wane_mat s, wane_mat x, wane_mat c);
wane_status cpu_column_sum(wane_dev *, wane_mat s, wane_mat x, wane_mat c);
wane_status cpu_fit_grid(wane_dev *, wane_qmat q, wane_mat w, wane_mat clip);
wane_status cpu_encode(wane_dev *, wane_qmat q, wane_mat w);
wane_status cpu_decode(wane_dev *, wane_mat w, wane_qmat q);
wane_status cpu_pack(wane_dev *, wane_qmat q, wane_mat codes);
wane_status cpu_unpack(wane_dev *, wane_mat codes, wane_qmat q);
wane_status cpu_qmatmul(wane_dev *, wane_mat y, wane_mat x, wane_qmat q);
wane_status cpu_gram_error(wane_dev *, wane_mat e, wane_mat delta, wane_mat h);
wane_status cpu_inverse_factor(wane_dev *, wane_mat h, wane_mat order, float damp);
wane_status cpu_gptq(wane_dev *, wane_qmat q, wane_mat codes, wane_mat w, wane_mat u,
                     wane_mat order);
wane_status cpu_hqq(wane_dev *, wane_qmat q, wane_mat w, wane_hqq_options);
wane_status cpu_refit(wane_dev *, wane_qmat q, wane_mat w, int rounds);
wane_status cpu_clip_search(wane_dev *, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h,
                            int steps, float most);
wane_status cpu_products(wane_dev *, const wane_products *);
wane_status cpu_heads(wane_dev *, const wane_heads *);
wane_status cpu_embed(wane_dev *, wane_mat y, wane_mat ids, wane_mat table);
wane_status cpu_rmsnorm(wane_dev *, wane_mat y, wane_mat x, wane_mat gain, float eps);
wane_status cpu_rope(wane_dev *, wane_mat x, wane_mat position, wane_mat frequency, float scale);
wane_status cpu_store(wane_dev *, wane_mat pool, wane_mat x, wane_mat row);
wane_status cpu_attend(wane_dev *, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                       const wane_attention *);
wane_status cpu_silu_mul(wane_dev *, wane_mat y, wane_mat gate, wane_mat up);
wane_status cpu_take_rows(wane_dev *, wane_mat y, wane_mat x, wane_mat row);
wane_status cpu_advance(wane_dev *, const wane_growth *);
wane_status cpu_argmax(wane_dev *, wane_mat ids, wane_mat x);
wane_status cpu_log_prob(wane_dev *, wane_mat y, wane_mat logits, wane_mat ids);
wane_status cpu_divergence(wane_dev *, wane_mat y, wane_mat p, wane_mat q);

#endif
