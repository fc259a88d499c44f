/* grid.cuh - the arithmetic of grids, shared by grid.cu, gptq.cu and hqq.cu; the same formulas as cpu/grid.c. */
#ifndef WANE_GRID_CUH
#define WANE_GRID_CUH

#include "kernels/cuda/device.cuh"

bool cuda_valid_grid(const wane_qmat *q, int64_t m, bool words);

/* Rounds half to even. Adding snap = 3 * 2^bits first drops the bits below 2^(bits-21): a quotient that float32 brought
 * just beside a half counts as the half that it is. Not to be contracted. */
static __device__ __forceinline__ float nearest_code(float x, float snap)
{
    x = __fadd_rn(__fadd_rn(x, snap), -snap);
    return __fadd_rn(__fadd_rn(x, 0x1.8p23f), -0x1.8p23f);
}

static __device__ __forceinline__ float clamped(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

struct grid {
    float scale, zero, least, most, snap;
    bool float_zero;
};

/* Everything of a grid but its scale and zero. */
static __device__ __forceinline__ grid grid_of(const wane_qmat &q)
{
    grid g;
    g.most = (float)((1 << q.bits) - 1);
    g.least = q.act_bits ? 1.f : 0.f;
    g.float_zero = q.zero.data && q.zero.dtype == WANE_F32;
    g.zero = (float)(1 << (q.bits - 1));
    g.snap = (float)(3 << q.bits);
    g.scale = 1.f;
    return g;
}

static __device__ __forceinline__ float scale_round(const wane_qmat &q, float s)
{
    if (q.scale.dtype == WANE_F16) {
        s = __half2float(__float2half_rn(s));
        return s >= 0x1p-24f ? (s <= 65504.f ? s : 65504.f) : 0x1p-24f; /* float16's least and largest */
    }
    if (q.scale.dtype == WANE_BF16) {
        s = __bfloat162float(__float2bfloat16_rn(s));
        return s <= 0x1.fep127f ? s : 0x1.fep127f;
    }
    return s <= 0x1.fffffep127f ? s : 0x1.fffffep127f;
}

/* The grid of a group whose weights span low..high, 0 among them. */
static __device__ __forceinline__ grid grid_fit(const wane_qmat &q, float low, float high)
{
    grid g = grid_of(q);
    if (q.zero.data) {
        g.scale = scale_round(q, fmaxf(__fdiv_rn(high - low, g.most), 1e-8f));
        g.zero = fminf(fmaxf(nearest_code(__fdiv_rn(-low, g.scale), g.snap), 0.f), g.most);
    } else {
        float top = fmaxf(-low, high);
        g.scale = scale_round(q, fmaxf(q.act_bits ? __fdiv_rn(top, 127.f) : __fdiv_rn(2.f * top, g.most), 1e-8f));
    }
    return g;
}

static __device__ __forceinline__ grid grid_at(const wane_qmat &q, int64_t row, int64_t group)
{
    grid g = grid_of(q);
    g.scale = load_as_float(q.scale.data, row * q.scale.stride + group, q.scale.dtype);
    if (q.zero.data) g.zero = load_as_float(q.zero.data, row * q.zero.stride + group, q.zero.dtype);
    return g;
}

static __device__ __forceinline__ void grid_put(const wane_qmat &q, int64_t row, int64_t group, const grid &g)
{
    store_float(q.scale.data, row * q.scale.stride + group, q.scale.dtype, g.scale);
    if (q.zero.data) store_float(q.zero.data, row * q.zero.stride + group, q.zero.dtype, g.zero);
}

static __device__ __forceinline__ float code_of(float w, const grid &g)
{
    float x = __fdiv_rn(w, g.scale);
    x = g.float_zero ? nearest_code(__fadd_rn(x, g.zero), g.snap) : nearest_code(x, g.snap) + g.zero;
    return clamped(x, g.least, g.most);
}

static __device__ __forceinline__ float weight_of(float code, const grid &g)
{
    return __fmul_rn(code - g.zero, g.scale);
}

/* Code i of a row of words. */
static __device__ __forceinline__ uint32_t code_at(const uint32_t *words, int64_t i, int bits)
{
    int64_t bit = i * bits;
    int shift = (int)(bit & 31);
    uint32_t u = words[bit >> 5] >> shift;
    if (shift + bits > 32) u |= words[(bit >> 5) + 1] << (32 - shift);
    return u & ((1u << bits) - 1);
}

#endif
