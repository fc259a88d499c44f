/* few_x.cuh - x on its way into a product of few rows, through rmsnorm where there is a gain: few.cu, few_plain.cu. */
#ifndef WANE_CUDA_FEW_X_CUH
#define WANE_CUDA_FEW_X_CUH

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/few.cuh"

struct few_x {
    wane_mat x, gain;
    float eps;
    bool x_full; /* x is F32 and goes through rmsnorm, which rounds it to the room's type */
    bool x_aligned, gain_like_x, gain_wide;
};

struct few_part {
    wane_mat y, w, scale, zero, bias;
    int rows; /* outputs */
};

/* What x is when it meets the weights. */
static inline wane_dtype few_type(const wane_products *p)
{
    return p->gain.data && p->x.dtype == WANE_F32 ? p->room.dtype : p->x.dtype;
}

static inline wane_mat few_rows(wane_mat a, int64_t first, int64_t rows)
{
    if (a.data) a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

/* few_plain.cu: rows at .. at+rows-1 of x, products of weights that are no codes; fits: whether there was room for them. */
wane_status cuda_few_plain(wane_dev *, const wane_products *, int64_t at, int64_t rows, bool *fits);

static inline few_x few_x_of(const wane_products *p, int64_t at, int64_t rows)
{
    few_x a = {};
    a.x = few_rows(p->x, at, rows);
    a.gain = p->gain;
    a.eps = p->eps;
    a.x_full = p->x.dtype == WANE_F32;
    a.x_aligned = aligned(p->x, 16);
    a.gain_wide = p->gain.data && by_eight(p->gain);
    a.gain_like_x = p->gain.data && p->gain.dtype == p->x.dtype && (uintptr_t)p->gain.data % 16 == 0;
    return a;
}

template <typename T> static __device__ __forceinline__ float square_sum(uint4 v)
{
    float2 a = narrow<T>::floats(v.x), b = narrow<T>::floats(v.y), c = narrow<T>::floats(v.z), d = narrow<T>::floats(v.w);
    return a.x * a.x + a.y * a.y + b.x * b.x + b.y * b.y + c.x * c.x + c.y * c.y + d.x * d.x + d.y * d.y;
}

template <typename T> static __device__ __forceinline__ uint32_t scaled_pair(uint32_t u, float scale, float low, float high)
{
    float2 v = narrow<T>::floats(u);
    return narrow<T>::pair(v.x * scale * low, v.y * scale * high);
}

template <typename T> static __device__ __forceinline__ uint4 normed(const few_x &a, uint4 v, float scale, int unit)
{
    if (a.gain_like_x) {
        uint4 g = *(const uint4 *)((const T *)a.gain.data + unit * 8);
        float2 p = narrow<T>::floats(g.x), q = narrow<T>::floats(g.y), r = narrow<T>::floats(g.z), s = narrow<T>::floats(g.w);
        return make_uint4(scaled_pair<T>(v.x, scale, p.x, p.y), scaled_pair<T>(v.y, scale, q.x, q.y),
                          scaled_pair<T>(v.z, scale, r.x, r.y), scaled_pair<T>(v.w, scale, s.x, s.y));
    }
    float g[8];
#pragma unroll
    for (int i = 0; i < 8; i++) g[i] = load_as_float(a.gain.data, unit * 8 + i, a.gain.dtype);
    return make_uint4(scaled_pair<T>(v.x, scale, g[0], g[1]), scaled_pair<T>(v.y, scale, g[2], g[3]),
                      scaled_pair<T>(v.z, scale, g[4], g[5]), scaled_pair<T>(v.w, scale, g[6], g[7]));
}

template <typename T> static __device__ __forceinline__ float unit_square(const few_x &a, int row, int unit)
{
    if (!a.x_full) return square_sum<T>(read_unit<T>(a.x, row, unit, a.x_aligned));
    float v[8];
    load_wide(v, a.x, row * a.x.stride + unit * 8);
    return v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3] + v[4] * v[4] + v[5] * v[5] + v[6] * v[6] + v[7] * v[7];
}

/* Eight columns as the products read them. */
template <typename T> static __device__ __forceinline__ uint4 staged_unit(const few_x &a, int row, int unit, float scale)
{
    if (!a.x_full) {
        uint4 v = read_unit<T>(a.x, row, unit, a.x_aligned);
        return a.gain.data ? normed<T>(a, v, scale, unit) : v;
    }
    float v[8], g[8];
    load_wide(v, a.x, row * a.x.stride + unit * 8);
    load_eight(g, a.gain, 0, unit * 8, a.gain_wide);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= scale * g[i];
    return make_uint4(narrow<T>::pair(v[0], v[1]), narrow<T>::pair(v[2], v[3]), narrow<T>::pair(v[4], v[5]),
                      narrow<T>::pair(v[6], v[7]));
}

#endif
