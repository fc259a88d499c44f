/* hqq.cu - grids that need no data: hqq and refit. The twin of cpu/hqq.c, which names the paper and the departures.
 *
 * The weights of a group stay in registers for all iterations: eight a lane, four to 32 lanes a group; groups of other
 * sizes take a warp. */
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256, HELD = 8 }; /* weights a lane holds: groups of up to 256; larger ones are read again */

struct held {
    const float *x;
    int64_t g;
    float w[HELD];
    int lane;
};

static __device__ __forceinline__ void hold(held &h, const float *x, int64_t g)
{
    h.x = x, h.g = g, h.lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < HELD; i++) h.w[i] = i * 32 + h.lane < g ? x[i * 32 + h.lane] : 0;
}

/* f(weight) for each weight of this lane. */
template <typename F> static __device__ __forceinline__ void each(const held &h, F f)
{
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (i * 32 + h.lane < h.g) f(h.w[i]);
    for (int64_t c = HELD * 32 + h.lane; c < h.g; c += 32) f(h.x[c]);
}

static __device__ grid fit_held(const wane_qmat &q, const held &h)
{
    float low = 0, high = 0;
    each(h, [&](float w) { low = fminf(low, w), high = fmaxf(high, w); });
    return grid_fit(q, -warp_max(-low), warp_max(high));
}

/* What a weight of a group adds in one step. scaled is the weight over the scale, inverse 1 / scale. */
static __device__ __forceinline__ void hqq_weight(float x, float scaled, float s, float inverse, float z, float power, float inverse_beta,
                                                  const grid &fitted, float &error, float &next)
{
    float code = clamped(nearest_code(__fadd_rn(scaled, z), fitted.snap), 0.f, fitted.most);
    float e = x - (code - z) * s, a = fabsf(e);
    /* a^power by the fast base-2 functions: the zero moves by less than float32 shows of it */
    float shrunk = fmaxf(a - exp2f(power * __log2f(fmaxf(a, 1e-12f))) * inverse_beta, 0.f);
    error += a;
    next += code - (scaled - copysignf(shrunk * inverse, e));
}

/* L lanes a group of 8 L weights. */
template <int L> static __global__ void hqq_kernel_lanes(wane_qmat q, wane_mat w, wane_hqq_options o)
{
    int64_t groups = q.k / q.group, all = w.rows * groups, step = (int64_t)gridDim.x * (blockDim.x / L);
    int64_t first = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / L, rounds = tiles(all, step);
    int lane = threadIdx.x % L;
    bool wide = w.stride % 4 == 0 && (uintptr_t)w.data % 16 == 0;
    for (int64_t round = 0; round < rounds; round++) { /* all lanes of a warp go along: groups are summed by shuffles */
        int64_t t = first + round * step, row, group;
        bool present = t < all;
        place_of(present ? t : 0, groups, row, group);
        float x[8], scaled[8], low = 0, high = 0;
        load_eight(x, w, row, group * q.group + lane * 8, wide);
#pragma unroll
        for (int i = 0; i < 8; i++) low = fminf(low, x[i]), high = fmaxf(high, x[i]);
#pragma unroll
        for (int d = L / 2; d; d >>= 1) {
            low = fminf(low, __shfl_xor_sync(0xffffffffu, low, d));
            high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, d));
        }
        grid fitted = grid_fit(q, low, high);
        float s = fitted.scale, inverse = 1.f / s, z = fitted.zero, best = z, least = INFINITY, beta = o.beta;
#pragma unroll
        for (int i = 0; i < 8; i++) scaled[i] = __fdiv_rn(x[i], s);
        for (int iteration = 0; iteration <= o.iterations; iteration++) {
            float error = 0, next = 0, inverse_beta = 1.f / beta;
#pragma unroll
            for (int i = 0; i < 8; i++) hqq_weight(x[i], scaled[i], s, inverse, z, o.p - 1.f, inverse_beta, fitted, error, next);
#pragma unroll
            for (int d = L / 2; d; d >>= 1) {
                error += __shfl_xor_sync(0xffffffffu, error, d);
                next += __shfl_xor_sync(0xffffffffu, next, d);
            }
            if (error < least) least = error, best = z; /* a tie keeps the older */
            z = next / (float)(8 * L);
            beta *= o.kappa;
        }
        fitted.zero = best;
        if (present && !lane) grid_put(q, row, group, fitted);
    }
}

static __global__ void hqq_kernel(wane_qmat q, wane_mat w, wane_hqq_options o)
{
    int64_t groups = q.k / q.group, all = w.rows * groups, warps = (int64_t)gridDim.x * (blockDim.x >> 5);
    for (int64_t t = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) >> 5; t < all; t += warps) {
        int64_t row = t / groups, group = t % groups;
        held h;
        hold(h, (const float *)w.data + row * w.stride + group * q.group, q.group);
        grid fitted = fit_held(q, h);
        float s = fitted.scale, inverse = 1.f / s, z = fitted.zero, best = z, least = INFINITY, beta = o.beta;
        for (int step = 0; step <= o.iterations; step++) {
            float error = 0, next = 0, inverse_beta = 1.f / beta;
            each(h, [&](float x) { hqq_weight(x, __fdiv_rn(x, s), s, inverse, z, o.p - 1.f, inverse_beta, fitted, error, next); });
            error = warp_sum(error);
            next = warp_sum(next);
            if (error < least) least = error, best = z; /* a tie keeps the older */
            z = next / (float)q.group;
            beta *= o.kappa;
        }
        fitted.zero = best;
        if (!h.lane) grid_put(q, row, group, fitted);
    }
}

template <int L> static void launch_lanes(wane_dev *d, wane_qmat q, wane_mat w, wane_hqq_options o)
{
    hqq_kernel_lanes<L><<<blocks_for(d, w.rows * (q.k / q.group), THREADS / L), THREADS, 0, d->stream>>>(q, w, o);
}

static bool is_f32(wane_mat a, int64_t rows, int64_t cols)
{
    return valid_f32(a) && a.rows == rows && a.cols == cols;
}

wane_status cuda_hqq(wane_dev *d, wane_qmat q, wane_mat w, wane_hqq_options o)
{
    if (!cuda_valid_grid(&q, w.rows, true) || !is_f32(w, w.rows, q.k) || !q.zero.data || q.zero.dtype != WANE_F32 ||
        o.iterations < 0 || !(o.p < 1) || !(o.beta > 0) || !(o.kappa > 0))
        return WANE_EARG;
    if (!w.rows) return WANE_OK;
    switch (q.group) {
    case 32: launch_lanes<4>(d, q, w, o); break;
    case 64: launch_lanes<8>(d, q, w, o); break;
    case 128: launch_lanes<16>(d, q, w, o); break;
    case 256: launch_lanes<32>(d, q, w, o); break;
    default: hqq_kernel<<<blocks_for(d, w.rows * (q.k / q.group), THREADS / 32), THREADS, 0, d->stream>>>(q, w, o);
    }
    wane_status s = launched(d);
    return s ? s : cuda_encode(d, q, w);
}

/* Sums over one group of codes c about zero z: |w - s (c - z)|, w (c - z) and (c - z)^2. */
struct sums {
    double error, cross, square;
};

static __device__ sums measure(const held &h, const grid &codes_by, const grid &decoded_by)
{
    sums a = {0, 0, 0};
    each(h, [&](float x) {
        float c = code_of(x, codes_by) - decoded_by.zero;
        a.error += fabs((double)x - (double)c * decoded_by.scale);
        a.cross += (double)x * c;
        a.square += (double)c * c;
    });
    a.error = warp_sum(a.error), a.cross = warp_sum(a.cross), a.square = warp_sum(a.square);
    return a;
}

/* The codes that q has on entry may be any; the first measure reads them, later ones are the grid's own. */
static __global__ void refit_kernel(wane_qmat q, wane_mat w, int rounds, uint8_t *changed)
{
    int64_t groups = q.k / q.group, all = w.rows * groups, warps = (int64_t)gridDim.x * (blockDim.x >> 5);
    for (int64_t t = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) >> 5; t < all; t += warps) {
        int64_t row = t / groups, group = t % groups;
        const uint32_t *words = (const uint32_t *)q.words.data + row * q.words.stride;
        held h;
        hold(h, (const float *)w.data + row * w.stride + group * q.group, q.group);
        grid now_grid = grid_at(q, row, group), kept = now_grid;
        sums now = {0, 0, 0};
        for (int64_t c = h.lane; c < q.group; c += 32) {
            float code = (float)code_at(words, group * q.group + c, q.bits) - kept.zero, x = h.x[c];
            now.error += fabs((double)x - (double)code * kept.scale);
            now.cross += (double)x * code;
            now.square += (double)code * code;
        }
        now.error = warp_sum(now.error), now.cross = warp_sum(now.cross), now.square = warp_sum(now.square);
        double least = now.error;
        bool better = false;
        for (int i = 0; i < rounds; i++) {
            float scale = (float)(now.cross / now.square);
            if (!(now.square > 0) || !(scale > 0)) break; /* all codes at zero, or a sign that no scale has */
            now_grid.scale = scale_round(q, scale);
            now = measure(h, now_grid, now_grid);
            if (!(now.error < least)) continue;
            least = now.error;
            kept = now_grid;
            better = true;
        }
        if (!h.lane) {
            if (better) grid_put(q, row, group, kept);
            changed[t] = better;
        }
    }
}

/* Codes of the groups whose grid got better; one thread 32 codes, as pack_kernel. */
static __global__ void reencode_kernel(wane_qmat q, wane_mat w, const uint8_t *changed)
{
    int64_t groups = q.k / q.group, per_row = tiles(q.k, 32), all = w.rows * per_row;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = t / per_row, first = t % per_row * 32;
        int n = (int)(q.k - first < 32 ? q.k - first : 32);
        uint32_t *words = (uint32_t *)q.words.data + row * q.words.stride;
        uint32_t out[8] = {0};
        for (int i = 0; i < n; i++) {
            int64_t group = (first + i) / q.group;
            uint32_t code = changed[row * groups + group]
                                ? (uint32_t)code_of(((const float *)w.data)[row * w.stride + first + i], grid_at(q, row, group))
                                : code_at(words, first + i, q.bits);
            int bit = i * q.bits;
            out[bit >> 5] |= code << (bit & 31);
            if ((bit & 31) + q.bits > 32) out[(bit >> 5) + 1] |= code >> (32 - (bit & 31));
        }
        for (int i = 0; i * 32 < n * q.bits; i++) words[first * q.bits / 32 + i] = out[i];
    }
}

wane_status cuda_refit(wane_dev *d, wane_qmat q, wane_mat w, int rounds)
{
    int64_t groups = q.k / (q.group ? q.group : 1);
    if (!cuda_valid_grid(&q, w.rows, true) || !is_f32(w, w.rows, q.k) || rounds < 0 || q.act_bits ||
        w.rows * groups > (int64_t)d->scratch_bytes)
        return WANE_EARG;
    if (!w.rows) return WANE_OK;
    refit_kernel<<<blocks_for(d, w.rows * groups, THREADS / 32), THREADS, 0, d->stream>>>(q, w, rounds, d->scratch);
    wane_status s = launched(d);
    if (s) return s;
    reencode_kernel<<<blocks_for(d, w.rows * tiles(q.k, 32), THREADS), THREADS, 0, d->stream>>>(q, w, d->scratch);
    return launched(d);
}
