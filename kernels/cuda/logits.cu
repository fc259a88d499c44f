/* logits.cu - argmax, log_prob, divergence. The twin of cpu/logits.c.
 *
 * One block a row; sums in float64, in a fixed order. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 512 };

/* The better of two (value, index): the larger value, the lower index of equals; NaN beats everything. */
static __device__ __forceinline__ bool beats(float a, int64_t i, float b, int64_t j)
{
    if (a != a || b != b) return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
}

static __global__ void argmax_kernel(int32_t *ids, int64_t ids_stride, wane_mat x)
{
    __shared__ float value[32];
    __shared__ int64_t index[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float best = -INFINITY;
        int64_t at = INT64_MAX;
        for (int64_t c = threadIdx.x; c < x.cols; c += THREADS) {
            float v = load_as_float(x.data, row * x.stride + c, x.dtype);
            if (at == INT64_MAX || beats(v, c, best, at)) best = v, at = c;
        }
        for (int o = 16; o; o >>= 1) {
            float other = __shfl_xor_sync(0xffffffffu, best, o);
            int64_t where = __shfl_xor_sync(0xffffffffu, at, o);
            if (where != INT64_MAX && (at == INT64_MAX || beats(other, where, best, at))) best = other, at = where;
        }
        if (!lane) value[warp] = best, index[warp] = at;
        __syncthreads();
        if (!threadIdx.x) {
            for (int w = 1; w < THREADS / 32; w++)
                if (index[w] != INT64_MAX && beats(value[w], index[w], best, at)) best = value[w], at = index[w];
            ids[row * ids_stride] = best != best ? -1 : (int32_t)at;
        }
        __syncthreads();
    }
}

wane_status cuda_argmax(wane_dev *d, wane_mat ids, wane_mat x)
{
    if (!valid(ids) || ids.dtype != WANE_I32 || ids.cols != 1 || ids.rows != x.rows || !valid_float(x) || x.cols < 1)
        return WANE_EARG;
    if (!x.rows) return WANE_OK;
    argmax_kernel<<<(unsigned)(x.rows < 65535 ? x.rows : 65535), THREADS, 0, d->stream>>>((int32_t *)ids.data,
                                                                                          ids.stride, x);
    return launched(d);
}

/* max and log of the sum of exp(x - max) of a row; every thread gets both. */
static __device__ void log_sum_exp(const wane_mat &x, int64_t row, float *most, double *log_sum)
{
    float m = -INFINITY;
    for (int64_t c = threadIdx.x; c < x.cols; c += THREADS)
        m = fmaxf(m, load_as_float(x.data, row * x.stride + c, x.dtype));
    m = block_max(m);
    double sum = 0;
    for (int64_t c = threadIdx.x; c < x.cols; c += THREADS)
        sum += (double)expf(load_as_float(x.data, row * x.stride + c, x.dtype) - m);
    *most = m;
    *log_sum = log(block_sum(sum));
}

static __global__ void log_prob_kernel(float *y, int64_t y_stride, wane_mat x, const int32_t *ids, int64_t ids_stride)
{
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float most;
        double log_sum;
        log_sum_exp(x, row, &most, &log_sum);
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
        (float *)y.data, y.stride, logits, (const int32_t *)ids.data, ids.stride);
    return launched(d);
}

static __global__ void divergence_kernel(float *y, int64_t y_stride, wane_mat p, wane_mat q)
{
    for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
        float p_most, q_most;
        double p_sum, q_sum, total = 0;
        log_sum_exp(p, row, &p_most, &p_sum);
        log_sum_exp(q, row, &q_most, &q_sum);
        for (int64_t c = threadIdx.x; c < p.cols; c += THREADS) {
            double a = (double)load_as_float(p.data, row * p.stride + c, p.dtype) - p_most - p_sum;
            double b = (double)load_as_float(q.data, row * q.stride + c, q.dtype) - q_most - q_sum;
            if (a > -700) total += exp(a) * (a - b); /* below, the weight is 0 */
        }
        total = block_sum(total);
        if (!threadIdx.x) y[row * y_stride] = (float)total;
    }
}

wane_status cuda_divergence(wane_dev *d, wane_mat y, wane_mat p, wane_mat q)
{
    if (!valid_f32(y) || y.cols != 1 || y.rows != p.rows || !valid_float(p) || !valid_float(q) || p.rows != q.rows ||
        p.cols != q.cols || p.cols < 1)
        return WANE_EARG;
    if (!p.rows) return WANE_OK;
    divergence_kernel<<<(unsigned)(p.rows < 65535 ? p.rows : 65535), THREADS, 0, d->stream>>>((float *)y.data, y.stride,
                                                                                              p, q);
    return launched(d);
}
