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
    int64_t k = a.cols, strips = k > 4096 ? 8 : k >= 2048 ? 4 : 1;
    int64_t side = strips > 1 ? tiles(tiles(k, strips), 64) * 64 : k;
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

/* partial[row] (+)= sum of delta * product over columns, or of delta^2 * diagonal where there is no product. */
static __global__ void row_loss_kernel(double *partial, wane_mat delta, const float *product, int64_t stride, const float *diagonal,
                                       bool more)
{
    for (int64_t row = blockIdx.x; row < delta.rows; row += gridDim.x) {
        double v = 0;
        const float *a = (const float *)delta.data + row * delta.stride;
#pragma unroll 4
        for (int64_t i = threadIdx.x; i < delta.cols; i += THREADS)
            v += (double)a[i] * (product ? (double)product[row * stride + i] : (double)a[i] * diagonal[i]);
        v = block_sum(v);
        if (!threadIdx.x) partial[row] = more ? partial[row] + v : v;
    }
}

static __global__ void sum_kernel(float *e, const double *partial, int64_t n)
{
    double v = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) v += partial[i];
    v = block_sum(v);
    if (!threadIdx.x) *e = (float)v;
}

/* x as the sum of two numbers of bf16: 16 bits of it. */
static __global__ void split_kernel(__nv_bfloat16 *high, __nv_bfloat16 *low, wane_mat x)
{
    int64_t all = x.rows * x.cols, row, col;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < all; i += (int64_t)gridDim.x * blockDim.x) {
        place_of(i, x.cols, row, col);
        float v = ((const float *)x.data)[row * x.stride + col];
        high[i] = __float2bfloat16_rn(v);
        low[i] = __float2bfloat16_rn(v - __bfloat162float(high[i]));
    }
}

static wane_mat f32_part(wane_mat a, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    a.data = (float *)a.data + row * a.stride + col;
    a.rows = rows, a.cols = cols;
    return a;
}

enum { SPLIT_LEAST = 256 };

/* delta h delta^T on the tensor cores: both factors as sums of two bf16, of whose four products the smallest is left
 * out; what that loses is below what summing in float32 does. A quarter of the room holds rows of delta, the rest rows
 * of h (it is symmetric) and the product. */
static wane_status loss_split(wane_dev *d, double *partial, wane_mat delta, wane_mat h, unsigned char *room, int64_t bytes)
{
    int64_t m = delta.rows, k = delta.cols, tall = bytes / 4 / (k * 4);
    tall = tall < m ? tall : m;
    if (tall < 1) return WANE_EARG;
    int64_t at_h = tiles(tall * k * 4, 256) * 256, wide = (bytes - at_h) / (4 * (k + tall)) / 8 * 8;
    wide = wide < k ? wide : k;
    if (wide < 1) return WANE_EARG;
    __nv_bfloat16 *d_high = (__nv_bfloat16 *)room, *d_low = d_high + tall * k;
    __nv_bfloat16 *h_high = (__nv_bfloat16 *)(room + at_h), *h_low = h_high + wide * k;
    float *product = (float *)(h_low + wide * k), one = 1, none = 0;
    for (int64_t at = 0; at < m; at += tall) {
        int64_t rows = m - at < tall ? m - at : tall;
        split_kernel<<<blocks_for(d, rows * k, THREADS), THREADS, 0, d->stream>>>(d_high, d_low, f32_part(delta, at, rows, 0, k));
        for (int64_t from = 0; from < k; from += wide) {
            int64_t cols = k - from < wide ? k - from : wide;
            split_kernel<<<blocks_for(d, cols * k, THREADS), THREADS, 0, d->stream>>>(h_high, h_low, f32_part(h, from, cols, 0, k));
            for (int i = 0; i < 3; i++) { /* product (rows,cols) += delta's part, h's part */
                cublasStatus_t s = cublasGemmEx(d->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)cols, (int)rows, (int)k, &one,
                                                i == 1 ? h_low : h_high, CUDA_R_16BF, (int)k, i == 2 ? d_low : d_high, CUDA_R_16BF,
                                                (int)k, i ? &one : &none, product, CUDA_R_32F, (int)cols, CUBLAS_COMPUTE_32F,
                                                CUBLAS_GEMM_DEFAULT);
                if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
            }
            row_loss_kernel<<<blocks_for(d, rows, 1), THREADS, 0, d->stream>>>(
                partial + at, f32_part(delta, at, rows, from, cols), product, cols, NULL, from > 0);
        }
    }
    return launched(d);
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
    if (square && d->capability >= 80 && k >= SPLIT_LEAST) {
        wane_status s = loss_split(d, partial, delta, h, d->scratch + head, (int64_t)d->scratch_bytes - head);
        if (s) return s;
    } else {
        for (int64_t at = 0; at < m; at += most) {
            wane_mat part = f32_part(delta, at, m - at < most ? m - at : most, 0, k);
            if (square) { /* product (n,k) = delta h; h is symmetric */
                cublasStatus_t s = cublasSgemm(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, (int)k, (int)part.rows, (int)k, &one,
                                               (float *)h.data, (int)h.stride, (float *)part.data, (int)part.stride, &none,
                                               product, (int)k);
                if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
            }
            row_loss_kernel<<<blocks_for(d, part.rows, 1), THREADS, 0, d->stream>>>(partial + at, part, square ? product : NULL, k,
                                                                                   (float *)h.data, false);
        }
    }
    sum_kernel<<<1, THREADS, 0, d->stream>>>((float *)e.data, partial, m);
    return launched(d);
}
