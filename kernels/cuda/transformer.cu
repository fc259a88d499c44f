/* transformer.cu - embed, rmsnorm, rope, store, silu_mul, take_rows. The twin of cpu/transformer.c. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256 };

static __global__ void gather_kernel(wane_mat y, wane_mat x, const int32_t *row, int64_t row_stride)
{
    for (int64_t i = blockIdx.x; i < y.rows; i += gridDim.x) {
        int64_t from = row[i * row_stride];
        bool inside = from >= 0 && from < x.rows; /* an id out of range reads nothing of anybody's */
        for (int64_t c = threadIdx.x; c < y.cols; c += blockDim.x)
            store_float(y.data, i * y.stride + c, y.dtype,
                        inside ? load_as_float(x.data, from * x.stride + c, x.dtype) : NAN);
    }
}

static bool is_index(wane_mat row, int64_t n)
{
    return valid(row) && row.dtype == WANE_I32 && row.cols == 1 && row.rows == n;
}

static wane_status gather(wane_dev *d, wane_mat y, wane_mat x, wane_mat row)
{
    if (!valid_float(y) || !valid_float(x) || !is_index(row, y.rows) || y.cols != x.cols) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    gather_kernel<<<(unsigned)(y.rows < 65535 ? y.rows : 65535), THREADS, 0, d->stream>>>(
        y, x, (const int32_t *)row.data, row.stride);
    return launched(d);
}

wane_status cuda_embed(wane_dev *d, wane_mat y, wane_mat ids, wane_mat table) { return gather(d, y, table, ids); }
wane_status cuda_take_rows(wane_dev *d, wane_mat y, wane_mat x, wane_mat row) { return gather(d, y, x, row); }

/* One block a row of more than 1024 columns, one warp a row otherwise (heads are 64 to 256 wide). */
static __global__ void rmsnorm_kernel(wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float square = 0;
        for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x) {
            float v = load_as_float(x.data, row * x.stride + c, x.dtype);
            square += v * v;
        }
        float scale = rsqrtf(block_sum(square) / (float)x.cols + eps);
        for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x)
            store_float(y.data, row * y.stride + c, y.dtype,
                        load_as_float(x.data, row * x.stride + c, x.dtype) * scale *
                            load_as_float(gain.data, c, gain.dtype));
    }
}

static __global__ void rmsnorm_kernel_warp(wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    int lane = threadIdx.x & 31;
    int64_t warps = (int64_t)gridDim.x * (blockDim.x >> 5);
    for (int64_t row = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) >> 5; row < x.rows; row += warps) {
        float square = 0;
        for (int64_t c = lane; c < x.cols; c += 32) {
            float v = load_as_float(x.data, row * x.stride + c, x.dtype);
            square += v * v;
        }
        float scale = rsqrtf(warp_sum(square) / (float)x.cols + eps);
        for (int64_t c = lane; c < x.cols; c += 32)
            store_float(y.data, row * y.stride + c, y.dtype,
                        load_as_float(x.data, row * x.stride + c, x.dtype) * scale *
                            load_as_float(gain.data, c, gain.dtype));
    }
}

wane_status cuda_rmsnorm(wane_dev *d, wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    if (!valid_float(y) || !valid_float(x) || !valid_float(gain) || y.rows != x.rows || y.cols != x.cols ||
        gain.cols != x.cols || gain.rows != 1)
        return WANE_EARG;
    if (!x.rows || !x.cols) return WANE_OK;
    if (x.cols > 1024)
        rmsnorm_kernel<<<(unsigned)(x.rows < 65535 ? x.rows : 65535), 512, 0, d->stream>>>(y, x, gain, eps);
    else
        rmsnorm_kernel_warp<<<blocks_for(d, x.rows, THREADS / 32), THREADS, 0, d->stream>>>(y, x, gain, eps);
    return launched(d);
}

/* One thread a pair (i, i+d/2) of a head. */
static __global__ void rope_kernel(wane_mat x, const int32_t *position, int64_t position_stride, const float *frequency,
                                   int64_t half, float scale)
{
    int64_t pairs = x.cols / 2, count = x.rows * pairs;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / pairs, pair = i % pairs, at = pair % half;
        int64_t first = row * x.stride + pair / half * 2 * half + at;
        float sine, cosine, angle = (float)position[row * position_stride] * frequency[at];
        sincosf(angle, &sine, &cosine);
        sine *= scale, cosine *= scale;
        float a = load_as_float(x.data, first, x.dtype), b = load_as_float(x.data, first + half, x.dtype);
        store_float(x.data, first, x.dtype, a * cosine - b * sine);
        store_float(x.data, first + half, x.dtype, b * cosine + a * sine);
    }
}

wane_status cuda_rope(wane_dev *d, wane_mat x, wane_mat position, wane_mat frequency, float scale)
{
    int64_t half = frequency.cols;
    if (!valid_float(x) || !is_index(position, x.rows) || !valid_f32(frequency) || frequency.rows != 1 || half < 1 ||
        x.cols % (2 * half))
        return WANE_EARG;
    if (!x.rows) return WANE_OK;
    rope_kernel<<<blocks_for(d, x.rows * x.cols / 2, THREADS), THREADS, 0, d->stream>>>(
        x, (const int32_t *)position.data, position.stride, (const float *)frequency.data, half, scale);
    return launched(d);
}

static __global__ void store_kernel(wane_mat pool, wane_mat x, const int32_t *row, int64_t row_stride)
{
    for (int64_t i = blockIdx.x; i < x.rows; i += gridDim.x) {
        int64_t to = row[i * row_stride];
        if (to < 0 || to >= pool.rows) continue;
        for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x)
            store_float(pool.data, to * pool.stride + c, pool.dtype, load_as_float(x.data, i * x.stride + c, x.dtype));
    }
}

wane_status cuda_store(wane_dev *d, wane_mat pool, wane_mat x, wane_mat row)
{
    if (!valid_float(pool) || !valid_float(x) || !is_index(row, x.rows) || pool.cols != x.cols) return WANE_EARG;
    if (!x.rows || !x.cols) return WANE_OK;
    store_kernel<<<(unsigned)(x.rows < 65535 ? x.rows : 65535), THREADS, 0, d->stream>>>(
        pool, x, (const int32_t *)row.data, row.stride);
    return launched(d);
}

static __global__ void silu_mul_kernel(wane_mat y, wane_mat gate, wane_mat up)
{
    int64_t count = y.rows * y.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / y.cols, col = i % y.cols;
        float g = load_as_float(gate.data, row * gate.stride + col, gate.dtype);
        float u = load_as_float(up.data, row * up.stride + col, up.dtype);
        store_float(y.data, row * y.stride + col, y.dtype, g / (1.f + expf(-g)) * u);
    }
}

wane_status cuda_silu_mul(wane_dev *d, wane_mat y, wane_mat gate, wane_mat up)
{
    if (!valid_float(y) || !valid_float(gate) || !valid_float(up) || gate.rows != y.rows || gate.cols != y.cols ||
        up.rows != y.rows || up.cols != y.cols)
        return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    silu_mul_kernel<<<blocks_for(d, y.rows * y.cols, THREADS), THREADS, 0, d->stream>>>(y, gate, up);
    return launched(d);
}
