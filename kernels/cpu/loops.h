/* loops.h - the inner loops of the CPU backend, written once in plain C and compiled once for each
 * instruction set: loops.c, loops_avx2.c and loops_avx512.c define SUFFIX, LABEL and FEW and
 * include this file.
 *
 * Everything works on contiguous float32; what is stored narrower passes through load and store.
 * Each loop is of the shape that compilers turn into vectors: sums over `omp simd`, no calls, no
 * early exits. Hand-written vectors are only in matmul and qmatmul, where they pay.
 *
 * Rounding half to even adds and subtracts 1.5 * 2^23, which is what the float format does with the
 * digits it has no room for. Larger numbers are not fractions any more, and are clamped after. */
#include "kernels/cpu/cpu.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

#define PASTE_(a, b) a##_##b
#define PASTE(a, b)  PASTE_(a, b)
#define STRING_(a)   #a
#define STRING(a)    STRING_(a)

static inline float nearest(float x)
{
    return (x + 0x1.8p23f) - 0x1.8p23f;
}
/* nearest, after rounding to bits - 22 binary places by adding snap, which is 3 * 2^bits. Ties are
 * not rare: weights are bf16, and the largest of a symmetric group lies 7.5 steps from 0. So they
 * are not left to the last bit of a quotient, which changes with the rounding of the scale and from
 * one processor to another. */
static inline float nearest_code(float x, float snap)
{
    return nearest((x + snap) - snap);
}
static inline float clamp(float x, float least, float most)
{
    float y = x > least ? x : least; /* NaN becomes least: a code, whatever came in */
    return y < most ? y : most;
}

/* exp by 2^n times a polynomial on |r| <= log(2)/2 (Taylor's, to r^7: below 1e-7 of the result);
 * 0 where float32 would need a subnormal, infinity from 88.73 on. */
static inline float exponential(float x)
{
    float b = x > -87.0f ? x : -87.0f, c = b < 88.7228f ? b : 88.7228f;
    float n = nearest(c * 0x1.715476p0f);                 /* 1/log(2) */
    float r = c - n * 0x1.62e4p-1f - n * 0x1.7f7d1cp-20f; /* log(2) in two parts, the first short */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    /* 2^n in two factors, as n may be 128 */
    int32_t i = (int32_t)n, half = i >> 1;
    float y =
        p * cpu_float((uint32_t)(half + 127) << 23) * cpu_float((uint32_t)(i - half + 127) << 23);
    y = x < -87.0f ? 0.0f : y;
    y = x > 88.7228f ? INFINITY : y;
    return x == x ? y : x;
}

/* log of a positive normal number: exponent plus 2 atanh(t), t = (m-1)/(m+1), m near 1. */
static inline float logarithm(float x)
{
    uint32_t u = cpu_bits(x), shifted = u - 0x3f3504f3; /* so that m is in [sqrt(1/2), sqrt(2)) */
    int32_t n = (int32_t)shifted >> 23;
    float m = cpu_float(u - ((uint32_t)n << 23)), t = (m - 1) / (m + 1), s = t * t;
    float p = 1.0f / 9;
    p = p * s + 1.0f / 7;
    p = p * s + 1.0f / 5;
    p = p * s + 1.0f / 3;
    return (float)n * 0.69314718f + 2 * (t + t * s * p);
}

static void load(float *restrict y, const void *restrict x, wane_dtype t, int64_t n)
{
    int64_t i = 0;
    switch (t) {
    case WANE_F32: memcpy(y, x, (size_t)n * 4); break;
    case WANE_F16:
#if defined(__AVX512F__)
        for (; i + 16 <= n; i += 16)
            _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256(
                                        (const void *)((const uint16_t *)x + i))));
#elif defined(__F16C__)
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(
                y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)((const uint16_t *)x + i))));
#endif
        for (; i < n; i++) y[i] = cpu_from_f16(((const uint16_t *)x)[i]);
        break;
    case WANE_BF16:
        for (; i < n; i++) y[i] = cpu_from_bf16(((const uint16_t *)x)[i]);
        break;
    case WANE_I8:
        for (; i < n; i++) y[i] = ((const int8_t *)x)[i];
        break;
    case WANE_U8:
        for (; i < n; i++) y[i] = ((const uint8_t *)x)[i];
        break;
    case WANE_I32:
        for (; i < n; i++) y[i] = (float)((const int32_t *)x)[i];
        break;
    default:
        for (; i < n; i++) y[i] = (float)((const int64_t *)x)[i];
        break;
    }
}

/* A float as an integer of [least, most], both exact in double; NaN is 0. */
static inline int64_t saturate(float x, double least, double most)
{
    double r = nearbyint(x);
    return !(x == x) ? 0 : r <= least ? (int64_t)least : r >= most ? (int64_t)most : (int64_t)r;
}

static void store(void *restrict y, const float *restrict x, wane_dtype t, int64_t n)
{
    int64_t i = 0;
    switch (t) {
    case WANE_F32: memcpy(y, x, (size_t)n * 4); break;
    case WANE_F16:
#if defined(__AVX512F__)
        for (; i + 16 <= n; i += 16)
            _mm256_storeu_si256((void *)((uint16_t *)y + i),
                                _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
        for (; i + 8 <= n; i += 8)
            _mm_storeu_si128((void *)((uint16_t *)y + i),
                             _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
        for (; i < n; i++) ((uint16_t *)y)[i] = cpu_to_f16(x[i]);
        break;
    case WANE_BF16:
        for (; i < n; i++) ((uint16_t *)y)[i] = cpu_to_bf16(x[i]);
        break;
    case WANE_I8:
        for (; i < n; i++) ((int8_t *)y)[i] = (int8_t)saturate(x[i], -128, 127);
        break;
    case WANE_U8:
        for (; i < n; i++) ((uint8_t *)y)[i] = (uint8_t)saturate(x[i], 0, 255);
        break;
    case WANE_I32:
        for (; i < n; i++) ((int32_t *)y)[i] = (int32_t)saturate(x[i], INT32_MIN, INT32_MAX);
        break;
    default: /* 2^63 is not an int64: the largest float below it is 2^63 - 2^39 */
        for (; i < n; i++)
            ((int64_t *)y)[i] =
                x[i] >= 0x1p63f ? INT64_MAX : saturate(x[i], -0x1p63, 0x1.fffffep62);
        break;
    }
}

static void binary(float *y, const float *a, const float *b, int64_t n, wane_binary_op op)
{
    switch (op) {
    case WANE_ADD:
        for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
        break;
    case WANE_SUB:
        for (int64_t i = 0; i < n; i++) y[i] = a[i] - b[i];
        break;
    case WANE_MUL:
        for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
        break;
    default:
        for (int64_t i = 0; i < n; i++) y[i] = a[i] / b[i];
        break;
    }
}

static void unary(float *y, const float *x, int64_t n, wane_unary_op op)
{
    switch (op) {
    case WANE_ABS:
        for (int64_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
        break;
    case WANE_NEG:
        for (int64_t i = 0; i < n; i++) y[i] = -x[i];
        break;
    case WANE_SQRT:
        for (int64_t i = 0; i < n; i++) y[i] = sqrtf(x[i]);
        break;
    case WANE_EXP:
        for (int64_t i = 0; i < n; i++) y[i] = expf(x[i]);
        break;
    default:
        for (int64_t i = 0; i < n; i++) y[i] = logf(x[i]);
        break;
    }
}

/* Into one number, in float64. NaN stays: it is looked for on purpose, as comparisons drop it. */
static double reduce(const float *x, int64_t n, wane_reduce_op op)
{
    double sum = 0;
    float top = -INFINITY;
    int nans = 0;
    switch (op) {
    case WANE_SUM:
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += x[i];
        return sum;
    case WANE_ABS_SUM:
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += fabsf(x[i]);
        return sum;
    case WANE_SQUARE_SUM:
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
        return sum;
    default: break;
    }
    float sign = op == WANE_MIN ? -1 : 1;
    bool absolute = op == WANE_ABS_MAX;
#pragma omp simd reduction(max : top) reduction(+ : nans)
    for (int64_t i = 0; i < n; i++) {
        float a = absolute ? fabsf(x[i]) : sign * x[i];
        top = a > top ? a : top;
        nans += a != a;
    }
    return nans ? NAN : absolute && !n ? 0 : sign * top;
}

static void absolute_add(float *restrict s, const float *restrict x, float c, int64_t n)
{
    for (int64_t i = 0; i < n; i++) s[i] += c * fabsf(x[i]);
}

static void absolute_max(float *restrict s, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) s[i] = s[i] >= fabsf(x[i]) ? s[i] : fabsf(x[i]);
}

static float dot(const float *a, const float *b, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static float most(const float *x, int64_t n)
{
    float y = -INFINITY;
    int nans = 0;
#pragma omp simd reduction(max : y) reduction(+ : nans)
    for (int64_t i = 0; i < n; i++) {
        y = x[i] > y ? x[i] : y;
        nans += x[i] != x[i];
    }
    return nans ? NAN : y;
}

static double exp_sum(float *y, const float *x, float shift, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i += CPU_CHUNK) {
        float part = 0;
        int64_t end = cpu_min(n, i + CPU_CHUNK);
#pragma omp simd reduction(+ : part)
        for (int64_t j = i; j < end; j++) {
            float e = exponential(x[j] - shift);
            y[j] = e;
            part += e;
        }
        sum += part;
    }
    return sum;
}

/* sum of P (d - 1) + Q, d = log P / Q (logits.c). Where d is small, P (d - 1 + exp(-d)) by the
 * series of exp, which has no digits to lose. */
static double divergence(const float *p, const float *q, float p_shift, float q_shift, float both,
                         int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        float d = p[i] - q[i] - both, a = exponential(p[i] - p_shift),
              b = exponential(q[i] - q_shift);
        float s = 1.0f / 24 - d * (1.0f / 120 - d * (1.0f / 720 - d * (1.0f / 5040)));
        s = d * d * (0.5f - d * (1.0f / 6 - d * s));
        sum += fabsf(d) < 0.25f ? a * s : a > 0 ? a * (d - 1) + b : b;
    }
    return sum;
}

static void scaled(float *y, const float *x, float scale, const float *gain, int64_t n)
{
    if (gain)
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * gain[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale;
}

static void rotate(float *restrict x, const float *restrict cosine, const float *restrict sine,
                   int64_t half)
{
    float *restrict z = x + half;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = z[i];
        x[i] = a * cosine[i] - b * sine[i];
        z[i] = b * cosine[i] + a * sine[i];
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] / (1 + exponential(-gate[i])) * up[i];
}

static void range(float *low, float *high, const float *x, int64_t n)
{
    float l = 0, h = 0;
#pragma omp simd reduction(min : l) reduction(max : h)
    for (int64_t i = 0; i < n; i++) {
        l = x[i] < l ? x[i] : l;
        h = x[i] > h ? x[i] : h;
    }
    *low = l;
    *high = h;
}

static void encode(uint8_t *restrict codes, const float *restrict w, int64_t n,
                   const cpu_grid *grid)
{
    float s = grid->scale, z = grid->zero, bottom = grid->least, top = grid->most;
    float snap = grid->snap;
    if (grid->float_zero)
        for (int64_t i = 0; i < n; i++)
            codes[i] = (uint8_t)(int32_t)clamp(nearest_code(w[i] / s + z, snap), bottom, top);
    else
        for (int64_t i = 0; i < n; i++)
            codes[i] = (uint8_t)(int32_t)clamp(nearest_code(w[i] / s, snap) + z, bottom, top);
}

static void decode(float *restrict w, const uint8_t *restrict codes, int64_t n, float scale,
                   float zero)
{
    for (int64_t i = 0; i < n; i++) w[i] = ((float)codes[i] - zero) * scale;
}

/* Code i of a row lies at bit i*bits of its words: for 2, 4 and 8 bits within byte i*bits/8, for 3
 * bits eight codes fill three bytes. */
static void unpack(uint8_t *restrict codes, const uint32_t *restrict words, int64_t first,
                   int64_t n, int bits)
{
    const uint8_t *bytes = (const uint8_t *)words + first * bits / 8;
    int64_t i = 0;
    if (first % 8 == 0) {
        int64_t whole = n / 8;
        i = whole * 8;
        if (bits == 8) {
            memcpy(codes, bytes, (size_t)i);
        } else if (bits == 4) {
            for (int64_t j = 0; j < whole * 4; j++) {
                codes[2 * j] = bytes[j] & 15;
                codes[2 * j + 1] = bytes[j] >> 4;
            }
        } else if (bits == 2) {
            for (int64_t j = 0; j < whole * 2; j++) {
                codes[4 * j] = bytes[j] & 3;
                codes[4 * j + 1] = bytes[j] >> 2 & 3;
                codes[4 * j + 2] = bytes[j] >> 4 & 3;
                codes[4 * j + 3] = bytes[j] >> 6;
            }
        } else {
            for (int64_t j = 0; j < whole; j++) {
                uint32_t u = bytes[3 * j] | (uint32_t)bytes[3 * j + 1] << 8 |
                             (uint32_t)bytes[3 * j + 2] << 16;
                for (int c = 0; c < 8; c++) codes[8 * j + c] = u >> 3 * c & 7;
            }
        }
    }
    for (; i < n; i++) {
        int64_t bit = (first + i) * bits, word = bit / 32, shift = bit % 32;
        uint64_t u = words[word];
        if (shift + bits > 32) u |= (uint64_t)words[word + 1] << 32;
        codes[i] = (uint8_t)(u >> shift & ((1u << bits) - 1));
    }
}

/* From the start of a row; n may end within a word, whose other bits become 0. */
static void pack(uint32_t *restrict words, const uint8_t *restrict codes, int64_t n, int bits)
{
    uint8_t *restrict bytes = (uint8_t *)words;
    uint64_t pending = 0;
    int64_t i = 0;
    int filled = 0;
    if (bits == 8) {
        i = n / 4 * 4;
        memcpy(words, codes, (size_t)i);
    } else if (bits == 4) {
        i = n / 8 * 8;
        for (int64_t j = 0; j < i / 2; j++)
            bytes[j] = (uint8_t)((codes[2 * j] & 15) | codes[2 * j + 1] << 4);
    } else if (bits == 2) {
        i = n / 16 * 16;
        for (int64_t j = 0; j < i / 4; j++)
            bytes[j] = (uint8_t)((codes[4 * j] & 3) | (codes[4 * j + 1] & 3) << 2 |
                                 (codes[4 * j + 2] & 3) << 4 | codes[4 * j + 3] << 6);
    }
    for (words += i * bits / 32; i < n; i++) {
        pending |= (uint64_t)(codes[i] & ((1u << bits) - 1)) << filled;
        filled += bits;
        if (filled < 32) continue;
        *words++ = (uint32_t)pending;
        pending >>= 32;
        filled -= 32;
    }
    if (filled) *words = (uint32_t)pending;
}

/* The zero among those that the half-quadratic steps visit (hqq.c) with the least sum |w -
 * decoded|. Counted in steps of the grid, u = w / s. Up to the error a where a = a^(p-1) / beta the
 * shrinkage leaves nothing: mostly all of a group is there, and no power is taken. */
static float hqq_zero(const float *w, int64_t g, const cpu_grid *grid, const wane_hqq_options *o)
{
    float u[CPU_CHUNK], s = grid->scale, z = grid->zero, best = z, least = INFINITY, beta = o->beta;
    float power = o->p - 1, top = grid->most, snap = grid->snap;
    for (int step = 0; step <= o->iterations; step++, beta *= o->kappa) {
        float limit = exponential(logarithm(beta) / (power - 1)), error = 0, next = 0;
        for (int64_t at = 0; at < g; at += CPU_CHUNK) {
            int64_t n = cpu_min(CPU_CHUNK, g - at);
            float largest = 0;
            if (step == 0 || g > CPU_CHUNK)
                for (int64_t i = 0; i < n; i++) u[i] = w[at + i] / s;
#pragma omp simd reduction(+ : error, next) reduction(max : largest)
            for (int64_t i = 0; i < n; i++) {
                float q = clamp(nearest_code(u[i] + z, snap), 0, top), a = fabsf(u[i] - (q - z));
                error += a;
                next += q - u[i];
                largest = a > largest ? a : largest;
            }
            if (largest * s <= limit) continue;
#pragma omp simd reduction(+ : next)
            for (int64_t i = 0; i < n; i++) {
                float q = clamp(nearest_code(u[i] + z, snap), 0, top), e = u[i] - (q - z);
                float a = fabsf(e) * s, base = a > 1e-12f ? a : 1e-12f;
                float shrunk = a - exponential(power * logarithm(base)) / beta;
                next += shrunk > 0 ? copysignf(shrunk / s, e) : 0;
            }
        }
        if (error < least) {
            least = error;
            best = z;
        }
        z = next / (float)g;
    }
    return best;
}

/* Sums over codes c about a zero (hqq.c). */
static cpu_residual residual(const float *w, const uint8_t *codes, int64_t n, const cpu_grid *grid)
{
    double error = 0, cross = 0, square = 0;
    float s = grid->scale, z = grid->zero;
#pragma omp simd reduction(+ : error, cross, square)
    for (int64_t i = 0; i < n; i++) {
        float c = (float)codes[i] - z;
        error += fabs((double)w[i] - (double)c * s);
        cross += (double)w[i] * c;
        square += (double)c * c;
    }
    return (cpu_residual){error, cross, square};
}

/* Columns one after another, the rows of the tile side by side (gptq.c). */
static void gptq_columns(const cpu_gptq_block *b)
{
    enum { R = CPU_GPTQ_ROWS };
    for (int i = b->first; i < b->last; i++) {
        const float *u = b->u + i * b->u_stride, *scale = b->scale, *zero = b->zero;
        float *restrict w = b->w + i * R, *restrict error = b->error + i * R;
        uint8_t *restrict codes = b->codes + i * R;
        float bottom = b->least, top = b->most, snap = b->snap, pivot = u[i];
        for (int r = 0; r < R; r++) {
            float c = clamp(nearest_code(w[r] / scale[r], snap) + zero[r], bottom, top);
            error[r] = (w[r] - (c - zero[r]) * scale[r]) / pivot;
            codes[r] = (uint8_t)(int32_t)c;
        }
        for (int j = i + 1; j < b->columns; j++) {
            float *restrict later = b->w + j * R;
            for (int r = 0; r < R; r++) later[r] -= error[r] * u[j];
        }
    }
}

/* Half to even, |x|max / 127: the range is symmetric, so -128 is not used. */
static float quantize_row(int8_t *restrict y, int32_t *sum, const float *restrict x, int64_t k)
{
    float top = 0;
    int nans = 0;
#pragma omp simd reduction(max : top) reduction(+ : nans)
    for (int64_t i = 0; i < k; i++) {
        float a = fabsf(x[i]);
        top = a > top ? a : top;
        nans += a != a;
    }
    float s = top / 127;
    int32_t total = 0;
    if (nans || !(s > 0)) {
        memset(y, 0, (size_t)k);
        *sum = 0;
        return nans ? NAN : 0;
    }
    for (int64_t i = 0; i < k; i++) y[i] = (int8_t)(int32_t)clamp(nearest(x[i] / s), -127, 127);
    for (int64_t i = 0; i < k; i++) total += y[i];
    *sum = total;
    return s;
}

const cpu_loops PASTE(cpu_loops, SUFFIX) = {
    .name = STRING(SUFFIX),
    .label = LABEL,
    .few = FEW,
    .load = load,
    .store = store,
    .binary = binary,
    .unary = unary,
    .reduce = reduce,
    .absolute_add = absolute_add,
    .absolute_max = absolute_max,
    .dot = dot,
    .most = most,
    .exp_sum = exp_sum,
    .divergence = divergence,
    .scaled = scaled,
    .rotate = rotate,
    .silu_mul = silu_mul,
    .range = range,
    .encode = encode,
    .decode = decode,
    .unpack = unpack,
    .pack = pack,
    .hqq_zero = hqq_zero,
    .residual = residual,
    .gptq_columns = gptq_columns,
    .quantize_row = quantize_row,
    .dots = PASTE(cpu_dots, SUFFIX),
    .mix = PASTE(cpu_mix, SUFFIX),
    .arrange = PASTE(cpu_arrange, SUFFIX),
    .qdots = PASTE(cpu_qdots, SUFFIX),
    .byte_dots = PASTE(cpu_byte_dots, SUFFIX),
};
