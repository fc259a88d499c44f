/* matmul.cu - y (n,m) = x (n,k) w (m,k)^T. The twin of cpu/matmul.c.
 *
 * Few rows of x: few.cu where x and w are of one 16-bit type, else one warp an output, in float32. Many: equal types of
 * x and w go to cuBLAS with float32 sums: bf16 and f16 on tensor cores, f32 in float32. Where they differ, w is converted
 * tile by tile to x's type in the scratch (or both to float32, where x is narrower and w is not): no answer loses digits
 * that its inputs have. */
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256, WARPS = THREADS / 32 };

static cudaDataType data_type(wane_dtype t)
{
    return t == WANE_F32 ? CUDA_R_32F : t == WANE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* cuBLAS is column-major: what it sees is y^T (m,n) = w (m,k) x^T, added to what is there or not. */
static wane_status product(wane_dev *d, wane_mat y, wane_mat x, wane_mat w, bool add)
{
    float one = 1, kept = add ? 1 : 0;
    return cuda_blas_status(
        d, cublasGemmEx(d->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)y.cols, (int)y.rows, (int)x.cols, &one, w.data,
                        data_type(w.dtype), (int)w.stride, x.data, data_type(x.dtype), (int)x.stride, &kept, y.data,
                        data_type(y.dtype), (int)y.stride, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
}

/* cuBLAS writes float32 from any inputs and a narrow type only from the same one. */
static bool direct(wane_dtype y, wane_dtype x, wane_dtype w) { return x == w && (y == WANE_F32 || y == x); }

static wane_mat scratch_mat(wane_dev *d, size_t from, wane_dtype t, int64_t rows, int64_t cols)
{
    return wane_mat{d->scratch + from, t, rows, cols, cols};
}

static wane_mat part(wane_mat a, int64_t first, int64_t rows)
{
    a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

static wane_mat columns(wane_mat a, int64_t first, int64_t cols)
{
    a.data = (char *)a.data + (size_t)first * wane_dtype_bytes(a.dtype);
    a.cols = cols;
    return a;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Tiles of x rows and w rows, both as float32 in the scratch, the product too where y is not float32. */
static wane_status tiled(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    int64_t k = x.cols, room = (int64_t)(d->scratch_bytes / sizeof(float));
    int64_t side = 4096;
    while (side > 1 && side * (2 * k + side) > room) side /= 2;
    if (side * (2 * k + side) > room) return WANE_EARG;
    for (int64_t i = 0; i < x.rows; i += side) {
        int64_t n = least(side, x.rows - i);
        wane_mat left = part(x, i, n);
        if (x.dtype != WANE_F32) {
            left = scratch_mat(d, 0, WANE_F32, n, k);
            wane_status s = cuda_convert(d, left, part(x, i, n));
            if (s) return s;
        }
        for (int64_t j = 0; j < w.rows; j += side) {
            int64_t m = least(side, w.rows - j);
            wane_mat right = part(w, j, m), out = columns(part(y, i, n), j, m);
            if (w.dtype != WANE_F32) {
                right = scratch_mat(d, (size_t)(side * k) * sizeof(float), WANE_F32, m, k);
                wane_status s = cuda_convert(d, right, part(w, j, m));
                if (s) return s;
            }
            wane_mat sum = out.dtype == WANE_F32
                               ? out
                               : scratch_mat(d, (size_t)(2 * side * k) * sizeof(float), WANE_F32, n, m);
            wane_status s = product(d, sum, left, right, false);
            if (!s && out.dtype != WANE_F32) s = cuda_convert(d, out, sum);
            if (s) return s;
        }
    }
    return WANE_OK;
}

/* Outputs of N rows of x at once, one warp a row of w. */
template <int N> static __global__ void matmul_kernel_warp(wane_mat y, wane_mat x, wane_mat w, bool x_aligned, bool w_aligned)
{
    int lane = threadIdx.x & 31;
    int64_t warps = (int64_t)gridDim.x * WARPS;
    for (int64_t row = blockIdx.x * (int64_t)WARPS + (threadIdx.x >> 5); row < w.rows; row += warps) {
        float sum[N] = {};
#pragma unroll 4
        for (int64_t at = lane * 8; at < w.cols; at += 32 * 8) {
            float a[8], b[8];
            load_eight(a, w, row, at, w_aligned);
#pragma unroll
            for (int i = 0; i < N; i++) {
                load_eight(b, x, i, at, x_aligned);
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i] += a[j] * b[j];
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            float v = warp_sum(sum[i]);
            if (!lane) store_float(y.data, i * y.stride + row, y.dtype, v);
        }
    }
}

static wane_status few_rows(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    int64_t blocks = tiles(w.rows, WARPS), most = (int64_t)d->processors * 64;
    unsigned grid = (unsigned)(blocks < most ? blocks : most);
    for (int64_t at = 0; at < x.rows;) {
        int64_t left = x.rows - at, n = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        wane_mat out = part(y, at, n), in = part(x, at, n);
        bool a = by_eight(x), b = by_eight(w);
        if (n == 4) matmul_kernel_warp<4><<<grid, THREADS, 0, d->stream>>>(out, in, w, a, b);
        else if (n == 2) matmul_kernel_warp<2><<<grid, THREADS, 0, d->stream>>>(out, in, w, a, b);
        else matmul_kernel_warp<1><<<grid, THREADS, 0, d->stream>>>(out, in, w, a, b);
        at += n;
    }
    return launched(d);
}

static bool fit(wane_mat y, wane_mat x, wane_mat w)
{
    return valid_float(y) && valid_float(x) && valid_float(w) && x.cols == w.cols && y.rows == x.rows && y.cols == w.rows &&
           y.stride <= INT32_MAX && x.stride <= INT32_MAX && w.stride <= INT32_MAX && y.rows <= INT32_MAX &&
           y.cols <= INT32_MAX && x.cols >= 1;
}

wane_status cuda_matmul_add(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    if (!fit(y, x, w)) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    return y.dtype == WANE_F32 && x.dtype == w.dtype ? product(d, y, x, w, true) : WANE_EUNSUPPORTED;
}

wane_status cuda_matmul(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    if (!fit(y, x, w)) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    if (x.rows <= CUDA_FEW) {
        wane_products one = {};
        one.x = x;
        one.parts = 1;
        one.part[0].y = y;
        one.part[0].w = w;
        return cuda_few_can(d, &one) ? cuda_few(d, &one) : few_rows(d, y, x, w);
    }
    return direct(y.dtype, x.dtype, w.dtype) ? product(d, y, x, w, false) : tiled(d, y, x, w);
}
