/* few_x.cuh - x on its way into a product of few rows (few_lines.cuh): through rmsnorm where there is a gain, rounded to
 * the weights' type, in the order in which lanes need it, with its sums over the columns that share a scale.
 *
 * What is read is read as it lies and turned into numbers afterwards: a load that is followed by a choice of types waits
 * for memory before the next load starts. */
#ifndef WANE_CUDA_FEW_X_CUH
#define WANE_CUDA_FEW_X_CUH

#include "kernels/cuda/codes.cuh"

struct few_x {
    wane_mat x, gain;
    float eps;
    bool x_full, gain_full; /* F32, else the weights' type */
    int units;              /* of 8 columns, with those of the last chunk that are not there and count as zeros */
    int stride;             /* of a row of x in shared memory, in 16 bytes */
};

/* Brings the gain, which no launch before writes, as far as the L2. */
static __device__ __forceinline__ void expect_gain(const few_x &a)
{
    int at = threadIdx.x * 128;
    if (a.gain.data && at < (int)a.x.cols * (a.gain_full ? 4 : 2)) asm volatile("prefetch.global.L2 [%0];" ::"l"((const char *)a.gain.data + at));
}

/* Eight elements as they lie: the second half is used by F32. */
struct eight {
    uint4 low, high;
};

static __device__ __forceinline__ eight eight_at(const void *p, int unit, bool full)
{
    const uint4 *from = (const uint4 *)p + (full ? 2 * unit : unit);
    eight e = {from[0], make_uint4(0, 0, 0, 0)};
    if (full) e.high = from[1];
    return e;
}

template <typename T> static __device__ __forceinline__ void floats_of(float v[8], const eight &e, bool full)
{
    const uint32_t low[4] = {e.low.x, e.low.y, e.low.z, e.low.w}, high[4] = {e.high.x, e.high.y, e.high.z, e.high.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = narrow<T>::floats(low[i]);
        v[2 * i] = full ? __uint_as_float(i < 2 ? low[2 * i] : high[2 * i - 4]) : f.x;
        v[2 * i + 1] = full ? __uint_as_float(i < 2 ? low[2 * i + 1] : high[2 * i - 3]) : f.y;
    }
}

static __device__ __forceinline__ float squares_of(const float v[8])
{
    return ((v[0] * v[0] + v[1] * v[1]) + (v[2] * v[2] + v[3] * v[3])) + ((v[4] * v[4] + v[5] * v[5]) + (v[6] * v[6] + v[7] * v[7]));
}

/* All threads of WARPS warps; a token has 1/TOKENS to all of them. W: how lanes need it (few_lines.cuh); total: (span,
 * token), WIDTH tokens apart; norm: WARPS floats. Ends in a barrier. */
template <typename W, int WARPS, int WIDTH>
static __device__ __forceinline__ void stage_x(const few_x &a, uint4 *x, float *total, float *norm)
{
    using T = typename W::T;
    int n = (int)a.x.rows, present = (int)(a.x.cols / 8), lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int per = n == 1 ? WARPS : n == 2 ? WARPS / 2 : n <= 4 ? WARPS / 4 : WARPS / 8, token = warp / per;
    int first = warp % per * 32 + lane, step = per * 32, end = token < n ? a.units : 0;
    const char *from = (const char *)a.x.data + (int64_t)token * a.x.stride * (a.x_full ? 4 : 2);
    eight held = {}, gain = {}; /* the first of a thread's units is most often its only one */
    if (first < present && token < n) {
        held = eight_at(from, first, a.x_full);
        if (a.gain.data) gain = eight_at(a.gain.data, first, a.gain_full);
    }
    float scale = 1;
    if (a.gain.data) {
        float v[8], square;
        floats_of<T>(v, held, a.x_full);
        square = squares_of(v);
        if (token < n)
#pragma unroll 2
            for (int u = first + step; u < present; u += step) {
                floats_of<T>(v, eight_at(from, u, a.x_full), a.x_full);
                square += squares_of(v);
            }
        square = warp_sum(square);
        if (!lane) norm[warp] = square;
        __syncthreads();
        square = 0;
        for (int w = 0; w < per; w++) square += norm[token * per + w < WARPS ? token * per + w : 0];
        scale = rsqrtf(square / (float)a.x.cols + a.eps);
    }
    x += token * a.stride;
#pragma unroll 2
    for (int u = first; u < end; u += step) { /* whole warps: units are a multiple of 32 */
        if (u != first && u < present) {
            held = eight_at(from, u, a.x_full);
            if (a.gain.data) gain = eight_at(a.gain.data, u, a.gain_full);
        }
        uint4 put = held.low;
        if (a.gain.data) {
            float v[8], g[8];
            floats_of<T>(v, held, a.x_full);
            floats_of<T>(g, gain, a.gain_full);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] *= scale * g[i];
            put = make_uint4(narrow<T>::pair(v[0], v[1]), narrow<T>::pair(v[2], v[3]), narrow<T>::pair(v[4], v[5]),
                             narrow<T>::pair(v[6], v[7]));
        }
        if (u >= present) put = make_uint4(0, 0, 0, 0);
        x[W::place(u)] = W::CODES ? paired(put) : put;
        if constexpr (W::CODES) {
            constexpr int PER_SPAN = W::SPAN / 8;
            float sum = neighbours_sum<PER_SPAN>(unit_sum<T>(put));
            if (u % PER_SPAN == 0) total[u / PER_SPAN * WIDTH + token] = sum;
        }
    }
    __syncthreads();
}

#endif
