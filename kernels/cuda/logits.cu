/* logits.cu - argmax, log_prob, divergence. The twin of cpu/logits.c.
 *
 * argmax: several blocks a row, of which the last to end joins what all have found. The others: one block a row; sums in
 * float64, in a fixed order. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 512 };

/* The better of two (value, index): the larger value, the lower index of equals; NaN beats everything. */
static __device__ __forceinline__ bool beats(float a, int64_t i, float b, int64_t j)
{
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
}

struct found {
    float value;
    int32_t index; /* INT32_MAX: nothing yet */
};

static __device__ __forceinline__ found better(found a, found b)
{
    if (a.index == INT32_MAX || b.index == INT32_MAX) return a.index == INT32_MAX ? b : a;
    return beats(b.value, b.index, a.value, a.index) ? b : a;
}

/* Every thread of the block gets the best. */
static __device__ found block_best(found f)
{
    __shared__ found part[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int o = 16; o; o >>= 1)
        f = better(f, found{__shfl_xor_sync(0xffffffffu, f.value, o), __shfl_xor_sync(0xffffffffu, f.index, o)});
    __syncthreads();
    if (!lane) part[warp] = f;
    __syncthreads();
    f = part[0];
    for (int w = 1; w < THREADS / 32; w++) f = better(f, part[w]);
    return f;
}

/* Block x of a row looks at every gridDim.x-th piece of it. */
static __global__ void argmax_kernel(int32_t *ids, int64_t ids_stride, wane_mat x, bool wide, found *partial, int *tickets)
{
    __shared__ bool last;
    int64_t row = blockIdx.y;
    found best = {-INFINITY, INT32_MAX};
    int64_t units = tiles(x.cols, 8);
    next_may_start();
    prior_ended();
    for (int64_t u = blockIdx.x * (int64_t)THREADS + threadIdx.x; u < units; u += (int64_t)gridDim.x * THREADS) {
        float v[8];
        load_eight(v, x, row, u * 8, wide);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (u * 8 + i < x.cols) best = better(best, found{v[i], (int32_t)(u * 8 + i)});
    }
    best = block_best(best);
    if (gridDim.x > 1) {
        if (!threadIdx.x) {
            partial[row * gridDim.x + blockIdx.x] = best;
            __threadfence();
            last = atomicAdd(tickets + row, 1) == (int)gridDim.x - 1;
            __threadfence();
        }
        __syncthreads();
        if (!last) return;
        best = {-INFINITY, INT32_MAX};
        if (threadIdx.x < gridDim.x) {
            const found *p = partial + row * gridDim.x + threadIdx.x;
            best = {__ldcg(&p->value), __ldcg(&p->index)};
        }
        best = block_best(best);
        if (!threadIdx.x) tickets[row] = 0;
    }
    if (!threadIdx.x) ids[row * ids_stride] = best.value != best.value ? -1 : best.index;
}

static wane_mat rows_from(wane_mat a, int64_t first, int64_t rows)
{
    a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

wane_status cuda_argmax(wane_dev *d, wane_mat ids, wane_mat x)
{
    if (!valid(ids) || ids.dtype != WANE_I32 || ids.cols != 1 || ids.rows != x.rows || !valid_float(x) || x.cols < 1 ||
        x.cols >= INT32_MAX)
        return WANE_EARG;
    for (int64_t at = 0; at < x.rows; at += 65535) {
        int64_t rows = x.rows - at < 65535 ? x.rows - at : 65535;
        int64_t pieces = tiles(x.cols, THREADS * 8), want = tiles(d->processors * 2, rows);
        int64_t blocks = pieces < want ? pieces : want;
        blocks = blocks < THREADS ? blocks : (int64_t)THREADS;
        if (rows > CUDA_TICKETS || (size_t)(rows * blocks) * sizeof(found) > d->scratch_bytes) blocks = 1;
        wane_status s = launch_after(d, argmax_kernel, dim3((unsigned)blocks, (unsigned)rows), THREADS, 0,
                                     (int32_t *)ids.data + at * ids.stride, ids.stride, rows_from(x, at, rows), by_eight(x),
                                     (found *)d->scratch, d->tickets);
        if (s) return s;
    }
    return WANE_OK;
}

/* max and log of the sum of exp(x - max) of a row; every thread gets both. The row is read once: each thread keeps the
 * largest of its own so far and the sum that goes with it. */
static __device__ void log_sum_exp(const wane_mat &x, int64_t row, bool wide, float *most, double *log_sum)
{
    float own = -INFINITY;
    double sum = 0;
    int64_t units = tiles(x.cols, 8);
    for (int64_t u = threadIdx.x; u < units; u += THREADS) {
        float v[8], top = own;
        load_eight(v, x, row, u * 8, wide);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (u * 8 + i >= x.cols) v[i] = -INFINITY;
            top = fmaxf(top, v[i]);
        }
        float base = top > -INFINITY ? top : 0.f, part = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) part += expf(v[i] - base);
        if (own < top) sum *= expf(own - base);
        sum += part;
        own = top;
    }
    float m = block_max(own);
    *most = m;
    *log_sum = log(block_sum(own > -INFINITY || sum != sum ? sum * exp((double)own - (double)m) : 0.0));
}

static __global__ void log_prob_kernel(float *y, int64_t y_stride, wane_mat x, bool wide, const int32_t *ids, int64_t ids_stride)
{
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float most;
        double log_sum;
        log_sum_exp(x, row, wide, &most, &log_sum);
        if (!threadIdx.x) {
            int64_t id = ids[row * ids_stride];
            y[row * y_stride] =
                id < 0 || id >= x.cols
                    ? NAN
                    : (float)((double)load_as_float(x.data, row * x.stride + id, x.dtype) - most - log_sum);
        }
    }
}

wane_status cuda_log_prob(wane_dev *d, wane_mat y, wane_mat logits, wane_mat ids)
{
    if (!valid_f32(y) || y.cols != 1 || y.rows != logits.rows || !valid_float(logits) || logits.cols < 1 ||
        !valid(ids) || ids.dtype != WANE_I32 || ids.cols != 1 || ids.rows != logits.rows)
        return WANE_EARG;
    if (!logits.rows) return WANE_OK;
    log_prob_kernel<<<(unsigned)(logits.rows < 65535 ? logits.rows : 65535), THREADS, 0, d->stream>>>(
        (float *)y.data, y.stride, logits, by_eight(logits), (const int32_t *)ids.data, ids.stride);
    return launched(d);
}

static __global__ void divergence_kernel(float *y, int64_t y_stride, wane_mat p, wane_mat q, bool p_wide, bool q_wide)
{
    for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
        float p_most, q_most;
        double p_sum, q_sum, total = 0, p_all = 0, q_all = 0; /* all: 1 but for what the sums of float32 are off by */
        log_sum_exp(p, row, p_wide, &p_most, &p_sum);
        log_sum_exp(q, row, q_wide, &q_most, &q_sum);
        for (int64_t c = threadIdx.x; c < p.cols; c += THREADS) {
            double a = (double)load_as_float(p.data, row * p.stride + c, p.dtype) - p_most - p_sum;
            double b = (double)load_as_float(q.data, row * q.stride + c, q.dtype) - q_most - q_sum;
            double weight = exp(a);
            p_all += weight;
            q_all += exp(b);
            if (a > -700) total += weight * (a - b); /* below, the weight is 0 */
        }
        total = block_sum(total);
        p_all = block_sum(p_all);
        q_all = block_sum(q_all);
        if (!threadIdx.x) y[row * y_stride] = (float)(total / p_all - log(p_all) + log(q_all));
    }
}

wane_status cuda_divergence(wane_dev *d, wane_mat y, wane_mat p, wane_mat q)
{
    if (!valid_f32(y) || y.cols != 1 || y.rows != p.rows || !valid_float(p) || !valid_float(q) || p.rows != q.rows ||
        p.cols != q.cols || p.cols < 1)
        return WANE_EARG;
    if (!p.rows) return WANE_OK;
    divergence_kernel<<<(unsigned)(p.rows < 65535 ? p.rows : 65535), THREADS, 0, d->stream>>>((float *)y.data, y.stride, p, q,
                                                                                              by_eight(p), by_eight(q));
    return launched(d);
}
