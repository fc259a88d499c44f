/* elementwise.cu - convert, binary, unary, reduce, transpose, finite. The twin of cpu/elementwise.c.
 *
 * One thread an element, striding over the matrix; reductions are one block a row, or one thread a column after a
 * first pass over strips of rows, in float64 and in a fixed order. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256 };

static __device__ __forceinline__ int64_t integer_at(const void *p, int64_t i, wane_dtype t)
{
    switch (t) {
    case WANE_I8: return ((const int8_t *)p)[i];
    case WANE_U8: return ((const uint8_t *)p)[i];
    case WANE_I32: return ((const int32_t *)p)[i];
    default: return ((const int64_t *)p)[i];
    }
}

static __device__ __forceinline__ int64_t limit(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

static __device__ __forceinline__ void integer_set(void *p, int64_t i, wane_dtype t, int64_t x)
{
    switch (t) {
    case WANE_I8: ((int8_t *)p)[i] = (int8_t)limit(x, -128, 127); break;
    case WANE_U8: ((uint8_t *)p)[i] = (uint8_t)limit(x, 0, 255); break;
    case WANE_I32: ((int32_t *)p)[i] = (int32_t)limit(x, INT32_MIN, INT32_MAX); break;
    default: ((int64_t *)p)[i] = x;
    }
}

static __global__ void convert_kernel(wane_mat y, wane_mat x, bool integers)
{
    int64_t count = x.rows * x.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / x.cols, col = i % x.cols, from = row * x.stride + col, to = row * y.stride + col;
        if (integers) integer_set(y.data, to, y.dtype, integer_at(x.data, from, x.dtype));
        else store_float(y.data, to, y.dtype, load_as_float(x.data, from, x.dtype));
    }
}

wane_status cuda_convert(wane_dev *d, wane_mat y, wane_mat x)
{
    if (!valid(y) || !valid(x) || y.rows != x.rows || y.cols != x.cols) return WANE_EARG;
    if (!x.rows || !x.cols) return WANE_OK;
    if (x.dtype == y.dtype) {
        size_t item = wane_dtype_bytes(x.dtype);
        if (x.data == y.data && x.stride == y.stride) return WANE_OK;
        return cuda_status(d, cudaMemcpy2DAsync(y.data, (size_t)y.stride * item, x.data, (size_t)x.stride * item,
                                                (size_t)x.cols * item, (size_t)x.rows, cudaMemcpyDeviceToDevice,
                                                d->stream));
    }
    convert_kernel<<<blocks_for(d, x.rows * x.cols, THREADS), THREADS, 0, d->stream>>>(
        y, x, !is_float(x.dtype) && !is_float(y.dtype));
    return launched(d);
}

static __global__ void binary_kernel(wane_mat y, wane_mat a, wane_mat b, wane_binary_op op)
{
    int64_t count = y.rows * y.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / y.cols, col = i % y.cols;
        float l = load_as_float(a.data, (a.rows == 1 ? 0 : row) * a.stride + (a.cols == 1 ? 0 : col), a.dtype);
        float r = load_as_float(b.data, (b.rows == 1 ? 0 : row) * b.stride + (b.cols == 1 ? 0 : col), b.dtype);
        float v = op == WANE_ADD ? l + r : op == WANE_SUB ? l - r : op == WANE_MUL ? l * r : l / r;
        store_float(y.data, row * y.stride + col, y.dtype, v);
    }
}

static bool repeats(wane_mat a, wane_mat y)
{
    return valid(a) && (a.rows == y.rows || a.rows == 1) && (a.cols == y.cols || a.cols == 1);
}

wane_status cuda_binary(wane_dev *d, wane_mat y, wane_mat a, wane_mat b, wane_binary_op op)
{
    if (!valid(y) || !repeats(a, y) || !repeats(b, y) || (unsigned)op > WANE_DIV) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    binary_kernel<<<blocks_for(d, y.rows * y.cols, THREADS), THREADS, 0, d->stream>>>(y, a, b, op);
    return launched(d);
}

static __global__ void unary_kernel(wane_mat y, wane_mat x, wane_unary_op op)
{
    int64_t count = y.rows * y.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / y.cols, col = i % y.cols;
        float v = load_as_float(x.data, row * x.stride + col, x.dtype);
        switch (op) {
        case WANE_ABS: v = fabsf(v); break;
        case WANE_NEG: v = -v; break;
        case WANE_SQRT: v = sqrtf(v); break;
        case WANE_EXP: v = expf(v); break;
        default: v = logf(v);
        }
        store_float(y.data, row * y.stride + col, y.dtype, v);
    }
}

wane_status cuda_unary(wane_dev *d, wane_mat y, wane_mat x, wane_unary_op op)
{
    if (!valid(y) || !valid(x) || y.rows != x.rows || y.cols != x.cols || (unsigned)op > WANE_LOG) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    unary_kernel<<<blocks_for(d, y.rows * y.cols, THREADS), THREADS, 0, d->stream>>>(y, x, op);
    return launched(d);
}

static __device__ __forceinline__ double first_of(wane_reduce_op op)
{
    return op == WANE_MAX ? -INFINITY : op == WANE_MIN ? INFINITY : 0;
}

static __device__ __forceinline__ double taken(float x, wane_reduce_op op)
{
    double v = x;
    return op == WANE_ABS_MAX || op == WANE_ABS_SUM ? fabs(v) : op == WANE_SQUARE_SUM ? v * v : v;
}

/* NaN stays: it is taken on purpose. */
static __device__ __forceinline__ double joined(double a, double b, wane_reduce_op op)
{
    switch (op) {
    case WANE_MAX:
    case WANE_ABS_MAX: return a >= b || a != a ? a : b;
    case WANE_MIN: return a <= b || a != a ? a : b;
    default: return a + b;
    }
}

static __device__ double block_joined(double v, wane_reduce_op op)
{
    __shared__ double part[THREADS];
    part[threadIdx.x] = v;
    __syncthreads();
    for (int half = THREADS / 2; half; half >>= 1) {
        if (threadIdx.x < half) part[threadIdx.x] = joined(part[threadIdx.x], part[threadIdx.x + half], op);
        __syncthreads();
    }
    v = part[0];
    __syncthreads();
    return v;
}

/* One block a row of x; to y F32 where `last`, else to float64 partial sums. */
static __global__ void reduce_rows_kernel(wane_mat y, double *partial, wane_mat x, wane_reduce_op op)
{
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        double v = first_of(op);
        for (int64_t c = threadIdx.x; c < x.cols; c += THREADS)
            v = joined(v, taken(load_as_float(x.data, row * x.stride + c, x.dtype), op), op);
        v = block_joined(v, op);
        if (threadIdx.x) continue;
        if (partial) partial[row] = v;
        else ((float *)y.data)[row * y.stride] = (float)v;
    }
}

static __global__ void reduce_partial_kernel(float *y, const double *partial, int64_t count, wane_reduce_op op)
{
    double v = first_of(op);
    for (int64_t i = threadIdx.x; i < count; i += THREADS) v = joined(v, partial[i], op);
    v = block_joined(v, op);
    if (!threadIdx.x) *y = (float)v;
}

/* One thread a column. */
static __global__ void reduce_columns_kernel(wane_mat y, wane_mat x, wane_reduce_op op)
{
    int64_t c = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (c >= x.cols) return;
    double v = first_of(op);
    for (int64_t r = 0; r < x.rows; r++) v = joined(v, taken(load_as_float(x.data, r * x.stride + c, x.dtype), op), op);
    ((float *)y.data)[c] = (float)v;
}

wane_status cuda_reduce(wane_dev *d, wane_mat y, wane_mat x, wane_reduce_op op)
{
    if (!valid_f32(y) || !valid(x) || (unsigned)op > WANE_SQUARE_SUM) return WANE_EARG;
    if (y.cols == 1 && y.rows == x.rows && y.rows != 1) {
        reduce_rows_kernel<<<blocks_for(d, x.rows, 1), THREADS, 0, d->stream>>>(y, NULL, x, op);
    } else if (y.rows == 1 && y.cols == x.cols && y.cols != 1) {
        reduce_columns_kernel<<<(unsigned)tiles(x.cols, THREADS), THREADS, 0, d->stream>>>(y, x, op);
    } else if (y.rows == 1 && y.cols == 1) {
        if (!x.rows || x.rows * (int64_t)sizeof(double) > (int64_t)d->scratch_bytes) {
            if (x.rows) return WANE_EARG;
        } else {
            reduce_rows_kernel<<<blocks_for(d, x.rows, 1), THREADS, 0, d->stream>>>(y, (double *)d->scratch, x, op);
        }
        reduce_partial_kernel<<<1, THREADS, 0, d->stream>>>((float *)y.data, (double *)d->scratch, x.rows, op);
    } else {
        return WANE_EARG;
    }
    return launched(d);
}

enum { TILE = 32 };

template <typename T> static __global__ void transpose_kernel(wane_mat y, wane_mat x)
{
    __shared__ T tile[TILE][TILE + 1];
    int64_t across = tiles(x.cols, TILE), all = across * tiles(x.rows, TILE);
    for (int64_t t = blockIdx.x; t < all; t += gridDim.x) {
        int64_t row = t / across * TILE, col = t % across * TILE;
        for (int i = threadIdx.y; i < TILE; i += blockDim.y)
            if (row + i < x.rows && col + threadIdx.x < x.cols)
                tile[i][threadIdx.x] = ((const T *)x.data)[(row + i) * x.stride + col + threadIdx.x];
        __syncthreads();
        for (int i = threadIdx.y; i < TILE; i += blockDim.y)
            if (col + i < x.cols && row + threadIdx.x < x.rows)
                ((T *)y.data)[(col + i) * y.stride + row + threadIdx.x] = tile[threadIdx.x][i];
        __syncthreads();
    }
}

wane_status cuda_transpose(wane_dev *d, wane_mat y, wane_mat x)
{
    if (!valid(y) || !valid(x) || y.dtype != x.dtype || y.rows != x.cols || y.cols != x.rows) return WANE_EARG;
    if (!x.rows || !x.cols) return WANE_OK;
    dim3 threads(TILE, 8);
    int blocks = blocks_for(d, tiles(x.rows, TILE) * tiles(x.cols, TILE), 1);
    switch (wane_dtype_bytes(x.dtype)) {
    case 1: transpose_kernel<uint8_t><<<blocks, threads, 0, d->stream>>>(y, x); break;
    case 2: transpose_kernel<uint16_t><<<blocks, threads, 0, d->stream>>>(y, x); break;
    case 4: transpose_kernel<uint32_t><<<blocks, threads, 0, d->stream>>>(y, x); break;
    default: transpose_kernel<uint64_t><<<blocks, threads, 0, d->stream>>>(y, x);
    }
    return launched(d);
}

static __global__ void finite_kernel(unsigned long long *count, wane_mat x)
{
    unsigned long long bad = 0;
    int64_t all = x.rows * x.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < all; i += (int64_t)gridDim.x * blockDim.x)
        bad += !isfinite(load_as_float(x.data, i / x.cols * x.stride + i % x.cols, x.dtype));
    bad = block_sum(bad);
    if (!threadIdx.x && bad) atomicAdd(count, bad); /* integers: the order does not matter */
}

wane_status cuda_finite(wane_dev *d, wane_mat count, wane_mat x)
{
    if (!valid(count) || count.dtype != WANE_I64 || count.rows != 1 || count.cols != 1 || !valid(x)) return WANE_EARG;
    cudaError_t e = cudaMemsetAsync(count.data, 0, 8, d->stream);
    if (e != cudaSuccess) return cuda_status(d, e);
    if (x.rows && x.cols && is_float(x.dtype))
        finite_kernel<<<blocks_for(d, x.rows * x.cols, THREADS), THREADS, 0, d->stream>>>(
            (unsigned long long *)count.data, x);
    return launched(d);
}
