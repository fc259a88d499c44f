/* matmul.cu - y (n,m) = x (n,k) w (m,k)^T. The twin of cpu/matmul.c.
 *
 * Equal types of x and w go to cuBLAS with float32 sums: bf16 and f16 on tensor cores, f32 in float32. Where they
 * differ, w is converted tile by tile to x's type in the scratch (or both to float32, where x is narrower and w is
 * not): no answer loses digits that its inputs have. */
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/slots.h"

static cudaDataType data_type(wane_dtype t)
{
    return t == WANE_F32 ? CUDA_R_32F : t == WANE_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* cuBLAS is column-major: what it sees is y^T (m,n) = w (m,k) x^T. */
static wane_status product(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    float one = 1, none = 0;
    return cuda_blas_status(
        d, cublasGemmEx(d->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)y.cols, (int)y.rows, (int)x.cols, &one, w.data,
                        data_type(w.dtype), (int)w.stride, x.data, data_type(x.dtype), (int)x.stride, &none, y.data,
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
            wane_status s = product(d, sum, left, right);
            if (!s && out.dtype != WANE_F32) s = cuda_convert(d, out, sum);
            if (s) return s;
        }
    }
    return WANE_OK;
}

wane_status cuda_matmul(wane_dev *d, wane_mat y, wane_mat x, wane_mat w)
{
    if (!valid_float(y) || !valid_float(x) || !valid_float(w) || x.cols != w.cols || y.rows != x.rows ||
        y.cols != w.rows || y.stride > INT32_MAX || x.stride > INT32_MAX || w.stride > INT32_MAX ||
        y.rows > INT32_MAX || y.cols > INT32_MAX || x.cols < 1)
        return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    return direct(y.dtype, x.dtype, w.dtype) ? product(d, y, x, w) : tiled(d, y, x, w);
}
