/* elementwise.cu - convert, binary, unary, reduce, transpose, finite. The twin of cpu/elementwise.c.
 *
 * One thread eight neighbours of a row, striding over the matrix (integers: one element); reductions are one block a row, or one thread a column after a
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

static __global__ void convert_kernel_integers(wane_mat y, wane_mat x, bool integers)
{
    int64_t count = x.rows * x.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / x.cols, col = i % x.cols, from = row * x.stride + col, to = row * y.stride + col;
        if (integers) integer_set(y.data, to, y.dtype, integer_at(x.data, from, x.dtype));
        else store_float(y.data, to, y.dtype, load_as_float(x.data, from, x.dtype));
    }
}

static __global__ void convert_kernel(wane_mat y, wane_mat x, bool y_wide, bool x_wide)
{
    int64_t units = tiles(x.cols, 8), count = x.rows * units, row, unit;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        float v[8];
        place_of(i, units, row, unit);
        load_eight(v, x, row, unit * 8, x_wide);
        store_eight(y, row, unit * 8, v, y_wide);
    }
}

/* Rows without gaps are one row: there is nothing to be divided then. */
static wane_mat flat(wane_mat a)
{
    a.cols *= a.rows;
    a.stride = a.cols;
    a.rows = 1;
    return a;
}

static bool gapless(wane_mat a) { return a.stride == a.cols; }

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
    if (!is_float(x.dtype) || !is_float(y.dtype)) {
        convert_kernel_integers<<<blocks_for(d, x.rows * x.cols, THREADS), THREADS, 0, d->stream>>>(
            y, x, !is_float(x.dtype) && !is_float(y.dtype));
        return launched(d);
    }
    if (gapless(x) && gapless(y)) x = flat(x), y = flat(y);
    convert_kernel<<<blocks_for(d, x.rows * tiles(x.cols, 8), THREADS), THREADS, 0, d->stream>>>(y, x, by_eight(y), by_eight(x));
    return launched(d);
}

/* Eight of a, or the one that is repeated. */
static __device__ __forceinline__ void load_repeated(float v[8], const wane_mat &a, int64_t row, int64_t col, bool wide)
{
    row = a.rows == 1 ? 0 : row;
    if (a.cols > 1) {
        load_eight(v, a, row, col, wide);
        return;
    }
    float one = load_as_float(a.data, row * a.stride, a.dtype);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = one;
}

static __global__ void binary_kernel(wane_mat y, wane_mat a, wane_mat b, wane_binary_op op, bool y_wide, bool a_wide, bool b_wide)
{
    int64_t units = tiles(y.cols, 8), count = y.rows * units, row, unit;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        float l[8], r[8];
        place_of(i, units, row, unit);
        load_repeated(l, a, row, unit * 8, a_wide);
        load_repeated(r, b, row, unit * 8, b_wide);
#pragma unroll
        for (int j = 0; j < 8; j++) l[j] = op == WANE_ADD ? l[j] + r[j] : op == WANE_SUB ? l[j] - r[j] : op == WANE_MUL ? l[j] * r[j] : l[j] / r[j];
        store_eight(y, row, unit * 8, l, y_wide);
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
    bool same = a.rows == y.rows && a.cols == y.cols && b.rows == y.rows && b.cols == y.cols;
    if (same && gapless(y) && gapless(a) && gapless(b)) y = flat(y), a = flat(a), b = flat(b);
    binary_kernel<<<blocks_for(d, y.rows * tiles(y.cols, 8), THREADS), THREADS, 0, d->stream>>>(y, a, b, op, by_eight(y), by_eight(a),
                                                                                              by_eight(b));
    return launched(d);
}

static __global__ void unary_kernel(wane_mat y, wane_mat x, wane_unary_op op, bool y_wide, bool x_wide)
{
    int64_t units = tiles(y.cols, 8), count = y.rows * units, row, unit;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        float v[8];
        place_of(i, units, row, unit);
        load_eight(v, x, row, unit * 8, x_wide);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            switch (op) {
            case WANE_ABS: v[j] = fabsf(v[j]); break;
            case WANE_NEG: v[j] = -v[j]; break;
            case WANE_SQRT: v[j] = sqrtf(v[j]); break;
            case WANE_EXP: v[j] = expf(v[j]); break;
            default: v[j] = logf(v[j]);
            }
        }
        store_eight(y, row, unit * 8, v, y_wide);
    }
}

wane_status cuda_unary(wane_dev *d, wane_mat y, wane_mat x, wane_unary_op op)
{
    if (!valid(y) || !valid(x) || y.rows != x.rows || y.cols != x.cols || (unsigned)op > WANE_LOG) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    if (gapless(y) && gapless(x)) y = flat(y), x = flat(x);
    unary_kernel<<<blocks_for(d, y.rows * tiles(y.cols, 8), THREADS), THREADS, 0, d->stream>>>(y, x, op, by_eight(y), by_eight(x));
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

static __global__ void finite_kernel(unsigned long long *count, wane_mat x, bool wide)
{
    unsigned bad = 0;
    int64_t units = tiles(x.cols, 8), all = x.rows * units, stride = (int64_t)gridDim.x * blockDim.x;
#pragma unroll 4
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < all; i += stride) {
        int64_t row, unit;
        float v[8];
        place_of(i, units, row, unit);
        load_eight(v, x, row, unit * 8, wide);
#pragma unroll
        for (int j = 0; j < 8; j++) bad += !isfinite(v[j]);
    }
    unsigned long long sum = block_sum((unsigned long long)bad);
    if (!threadIdx.x && sum) atomicAdd(count, sum); /* integers: the order does not matter */
}

wane_status cuda_finite(wane_dev *d, wane_mat count, wane_mat x)
{
    if (!valid(count) || count.dtype != WANE_I64 || count.rows != 1 || count.cols != 1 || !valid(x)) return WANE_EARG;
    cudaError_t e = cudaMemsetAsync(count.data, 0, 8, d->stream);
    if (e != cudaSuccess) return cuda_status(d, e);
    if (x.rows && x.cols && is_float(x.dtype)) {
        if (gapless(x)) x = flat(x);
        finite_kernel<<<blocks_for(d, x.rows * tiles(x.cols, 8), THREADS), THREADS, 0, d->stream>>>(
            (unsigned long long *)count.data, x, by_eight(x));
    }
    return launched(d);
}
