/* stats.cu - gram, column_max, column_sum, gram_error. The twin of cpu/stats.c.
 *
 * gram runs on tensor cores: products of bf16 or f16 are exact in float32, only the sums round. Only block columns at
 * and below the diagonal are computed, then mirrored. Token weights c scale one of the two factors; where that is
 * narrower than float32 the scaled factor is split into two terms (high and rest), so that no digit is lost. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256, STRIPS = 64 };

static bool is(wane_mat a, wane_dtype t, int64_t rows, int64_t cols)
{
    return valid(a) && a.dtype == t && a.rows == rows && a.cols == cols;
}

static cudaDataType data_type(wane_dtype t)
{
    return t == WANE_F32 ? CUDA_R_32F : t == WANE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* high = c x in x's type; low = what that left over, in the same type (none where x is float32); seen = x where c is
 * not 0: a token that does not count may hold anything. */
static __global__ void weigh_kernel(void *high, void *low, void *seen, wane_mat x, const float *c, int64_t c_stride)
{
    int64_t all = x.rows * x.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < all; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / x.cols;
        float weight = c[row * c_stride];
        float v = weight == 0 ? 0.f : load_as_float(x.data, row * x.stride + i % x.cols, x.dtype);
        store_float(seen, i, x.dtype, v);
        v *= weight;
        store_float(high, i, x.dtype, v);
        if (low) store_float(low, i, x.dtype, v - load_as_float(high, i, x.dtype));
    }
}

/* h's lower block columns += a^T b over n rows; a and b (n,k) of one type. */
static wane_status lower_product(wane_dev *d, wane_mat h, wane_mat a, wane_mat b)
{
    int64_t k = a.cols, side = k > 4096 ? tiles(tiles(k, 4), 64) * 64 : k > 1024 ? tiles(tiles(k, 2), 64) * 64 : k;
    float one = 1;
    size_t item = wane_dtype_bytes(a.dtype);
    for (int64_t at = 0; at < k; at += side) {
        int64_t width = k - at < side ? k - at : side;
        /* column-major: rows at.. of h, seen as h^T, are columns; result (k-at rows of b side, width) */
        cublasStatus_t s = cublasGemmEx(
            d->blas, CUBLAS_OP_N, CUBLAS_OP_T, (int)width, (int)(k - at), (int)a.rows, &one,
            (char *)b.data + (size_t)at * item, data_type(b.dtype), (int)b.stride, (char *)a.data + (size_t)at * item,
            data_type(a.dtype), (int)a.stride, &one, (float *)h.data + at * h.stride + at, CUDA_R_32F, (int)h.stride,
            CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
        if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
    }
    return launched(d);
}

static __global__ void mirror_kernel(wane_mat h)
{
    __shared__ float tile[32][33];
    int64_t across = tiles(h.cols, 32);
    for (int64_t t = blockIdx.x; t < across * across; t += gridDim.x) {
        int64_t row = t / across * 32, col = t % across * 32;
        if (col > row) continue;
        for (int i = threadIdx.y; i < 32; i += blockDim.y)
            if (row + i < h.rows && col + threadIdx.x < h.cols)
                tile[i][threadIdx.x] = ((float *)h.data)[(row + i) * h.stride + col + threadIdx.x];
        __syncthreads();
        for (int i = threadIdx.y; i < 32; i += blockDim.y)
            if (col + i < h.cols && row + threadIdx.x < h.rows && col + i < row + threadIdx.x)
                ((float *)h.data)[(col + i) * h.stride + row + threadIdx.x] = tile[threadIdx.x][i];
        __syncthreads();
    }
}

wane_status cuda_gram(wane_dev *d, wane_mat h, wane_mat x, wane_mat c)
{
    int64_t k = x.cols;
    if (!valid_float(x) || k < 1 || !is(h, WANE_F32, k, k) || (c.data && !is(c, WANE_F32, x.rows, 1)) ||
        x.stride > INT32_MAX || h.stride > INT32_MAX || k > INT32_MAX)
        return WANE_EARG;
    if (!x.rows) return WANE_OK;
    size_t item = wane_dtype_bytes(x.dtype), row_bytes = (size_t)k * item * (x.dtype == WANE_F32 ? 2 : 3);
    int64_t most = c.data ? (int64_t)(d->scratch_bytes / row_bytes) : x.rows;
    if (most < 1) return WANE_EARG;
    wane_status s = WANE_OK;
    for (int64_t at = 0; at < x.rows && !s; at += most) {
        int64_t n = x.rows - at < most ? x.rows - at : most;
        wane_mat part = x;
        part.data = (char *)x.data + (size_t)(at * x.stride) * item;
        part.rows = n;
        if (!c.data) {
            s = lower_product(d, h, part, part);
            continue;
        }
        size_t bytes = (size_t)(n * k) * item;
        void *high = d->scratch, *seen = d->scratch + bytes, *low = x.dtype == WANE_F32 ? NULL : d->scratch + 2 * bytes;
        weigh_kernel<<<blocks_for(d, n * k, THREADS), THREADS, 0, d->stream>>>(
            high, low, seen, part, (const float *)c.data + at * c.stride, c.stride);
        s = launched(d);
        wane_mat left = {seen, x.dtype, n, k, k};
        if (!s) s = lower_product(d, h, left, wane_mat{high, x.dtype, n, k, k});
        if (!s && low) s = lower_product(d, h, left, wane_mat{low, x.dtype, n, k, k});
    }
    if (s) return s;
    mirror_kernel<<<blocks_for(d, tiles(k, 32) * tiles(k, 32), 1), dim3(32, 8), 0, d->stream>>>(h);
    return launched(d);
}

/* Strips of rows, one thread a column: partial (strips, k), then joined in order. */
static __global__ void strip_kernel(float *partial, wane_mat x, const float *c, int64_t c_stride, bool sum)
{
    int64_t col = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (col >= x.cols) return;
    int64_t per = tiles(x.rows, gridDim.y), first = blockIdx.y * per, last = first + per < x.rows ? first + per : x.rows;
    float v = 0;
    for (int64_t r = first; r < last; r++) {
        float weight = c ? c[r * c_stride] : 1.f, a = fabsf(load_as_float(x.data, r * x.stride + col, x.dtype));
        if (weight == 0) continue;
        if (sum) v += weight * a;
        else if (weight > 0 && !(a <= v)) v = v != v ? v : a; /* NaN is kept */
    }
    partial[blockIdx.y * x.cols + col] = v;
}

static __global__ void join_kernel(float *s, const float *partial, int64_t k, int strips, bool sum)
{
    int64_t col = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (col >= k) return;
    double total = s[col];
    for (int i = 0; i < strips; i++) {
        float v = partial[i * k + col];
        if (sum) total += v;
        else if (!(v <= total)) total = total != total ? total : v;
    }
    s[col] = (float)total;
}

static wane_status column(wane_dev *d, wane_mat s, wane_mat x, wane_mat c, bool sum)
{
    int64_t k = x.cols;
    int strips = x.rows < STRIPS ? (int)x.rows : STRIPS;
    if (!valid_float(x) || k < 1 || !is(s, WANE_F32, 1, k) || (c.data && !is(c, WANE_F32, x.rows, 1)) ||
        (size_t)(strips * k) * sizeof(float) > d->scratch_bytes)
        return WANE_EARG;
    if (!x.rows) return WANE_OK;
    unsigned across = (unsigned)tiles(k, THREADS);
    strip_kernel<<<dim3(across, (unsigned)strips), THREADS, 0, d->stream>>>((float *)d->scratch, x, (float *)c.data,
                                                                           c.stride, sum);
    wane_status status = launched(d);
    if (status) return status;
    join_kernel<<<across, THREADS, 0, d->stream>>>((float *)s.data, (float *)d->scratch, k, strips, sum);
    return launched(d);
}

wane_status cuda_column_max(wane_dev *d, wane_mat s, wane_mat x, wane_mat c) { return column(d, s, x, c, false); }
wane_status cuda_column_sum(wane_dev *d, wane_mat s, wane_mat x, wane_mat c) { return column(d, s, x, c, true); }

/* partial[row] = sum of delta * (delta h), or of delta^2 h's diagonal where there is no product. */
static __global__ void row_loss_kernel(double *partial, wane_mat delta, const float *product, const float *diagonal)
{
    for (int64_t row = blockIdx.x; row < delta.rows; row += gridDim.x) {
        double v = 0;
        const float *a = (const float *)delta.data + row * delta.stride;
        for (int64_t i = threadIdx.x; i < delta.cols; i += THREADS)
            v += (double)a[i] * (product ? (double)product[row * delta.cols + i] : (double)a[i] * diagonal[i]);
        v = block_sum(v);
        if (!threadIdx.x) partial[row] = v;
    }
}

static __global__ void sum_kernel(float *e, const double *partial, int64_t n)
{
    double v = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) v += partial[i];
    v = block_sum(v);
    if (!threadIdx.x) *e = (float)v;
}

wane_status cuda_gram_error(wane_dev *d, wane_mat e, wane_mat delta, wane_mat h)
{
    int64_t m = delta.rows, k = delta.cols;
    bool square = h.rows == k && !(h.rows == 1 && k == 1);
    if (!is(e, WANE_F32, 1, 1) || !is(delta, WANE_F32, m, k) || k < 1 || !is(h, WANE_F32, square ? k : 1, k) ||
        delta.stride > INT32_MAX || h.stride > INT32_MAX)
        return WANE_EARG;
    int64_t head = tiles(m * (int64_t)sizeof(double), 256) * 256;
    int64_t most = ((int64_t)d->scratch_bytes - head) / (k * (int64_t)sizeof(float));
    if (most < 1) return WANE_EARG;
    double *partial = (double *)d->scratch;
    float *product = (float *)(d->scratch + head), one = 1, none = 0;
    for (int64_t at = 0; at < m; at += most) {
        int64_t n = m - at < most ? m - at : most;
        wane_mat part = delta;
        part.data = (float *)delta.data + at * delta.stride;
        part.rows = n;
        if (square) { /* product (n,k) = delta h; h is symmetric */
            cublasStatus_t s = cublasSgemm(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, (int)k, (int)n, (int)k, &one,
                                           (float *)h.data, (int)h.stride, (float *)part.data, (int)part.stride, &none,
                                           product, (int)k);
            if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
        }
        row_loss_kernel<<<blocks_for(d, n, 1), THREADS, 0, d->stream>>>(partial + at, part, square ? product : NULL,
                                                                       (float *)h.data);
    }
    sum_kernel<<<1, THREADS, 0, d->stream>>>((float *)e.data, partial, m);
    return launched(d);
}
