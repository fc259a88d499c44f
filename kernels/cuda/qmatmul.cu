/* qmatmul.cu - y = x decode(q)^T from codes that stay packed. The twin of cpu/qmatmul.c.
 *
 * Codes of four bits and 16-bit x: few.cu for up to 8 rows, qmatmul_tile.cu for some more. Other few rows of x: one warp an
 * output reads the words once and unpacks in registers; y = sum_g s_g (sum q x - z_g sum x), in float32, so nothing is
 * rounded between code and product. Many rows: tiles of w are decoded to x's type in the
 * scratch and go through cuBLAS. act_bits 8: rows of x become int8 with one scale each, products are exact integers. */
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256, WARPS = THREADS / 32, FEW = CUDA_FEW };

/* Outputs of N rows of x at once. A lane takes 8 codes (bits 4), or 32 / bits of a word, at a time. */
template <int N, int BITS> static __global__ void qmatmul_kernel_warp(wane_mat y, wane_mat x, wane_qmat q)
{
    constexpr int PER = 32 / BITS; /* codes in a word */
    int lane = threadIdx.x & 31;
    int64_t words = q.k / PER, warps = (int64_t)gridDim.x * WARPS;
    for (int64_t row = blockIdx.x * (int64_t)WARPS + (threadIdx.x >> 5); row < y.cols; row += warps) {
        const uint32_t *from = (const uint32_t *)q.words.data + row * q.words.stride;
        float sum[N];
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] = 0;
        for (int64_t at = lane; at < words; at += 32) {
            uint32_t u = from[at];
            int64_t first = at * PER;
            grid g = grid_at(q, row, first / q.group);
#pragma unroll
            for (int i = 0; i < N; i++) {
                float dot = 0, total = 0;
#pragma unroll
                for (int j = 0; j < PER; j++) {
                    float v = load_as_float(x.data, i * x.stride + first + j, x.dtype);
                    dot += (float)(u >> (j * BITS) & ((1u << BITS) - 1)) * v;
                    total += v;
                }
                sum[i] += g.scale * (dot - g.zero * total);
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            float v = warp_sum(sum[i]);
            if (!lane) store_float(y.data, i * y.stride + row, y.dtype, v);
        }
    }
}

/* Any width and group: one code at a time. */
static __global__ void qmatmul_kernel_plain(wane_mat y, wane_mat x, wane_qmat q)
{
    int lane = threadIdx.x & 31;
    int64_t warps = (int64_t)gridDim.x * WARPS, all = y.rows * y.cols;
    for (int64_t t = blockIdx.x * (int64_t)WARPS + (threadIdx.x >> 5); t < all; t += warps) {
        int64_t token = t / y.cols, row = t % y.cols;
        const uint32_t *from = (const uint32_t *)q.words.data + row * q.words.stride;
        float sum = 0;
        for (int64_t c = lane; c < q.k; c += 32)
            sum += weight_of((float)code_at(from, c, q.bits), grid_at(q, row, c / q.group)) *
                   load_as_float(x.data, token * x.stride + c, x.dtype);
        sum = warp_sum(sum);
        if (!lane) store_float(y.data, token * y.stride + row, y.dtype, sum);
    }
}

template <int BITS> static void launch_warp(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q)
{
    int blocks = (int)(tiles(y.cols, WARPS) < 65535 ? tiles(y.cols, WARPS) : 65535);
    for (int64_t at = 0; at < x.rows;) {
        wane_mat out = y, in = x;
        out.data = (char *)y.data + (size_t)(at * y.stride) * wane_dtype_bytes(y.dtype);
        in.data = (char *)x.data + (size_t)(at * x.stride) * wane_dtype_bytes(x.dtype);
        int64_t left = x.rows - at;
        if (left >= 4) qmatmul_kernel_warp<4, BITS><<<blocks, THREADS, 0, d->stream>>>(out, in, q), at += 4;
        else if (left >= 2) qmatmul_kernel_warp<2, BITS><<<blocks, THREADS, 0, d->stream>>>(out, in, q), at += 2;
        else qmatmul_kernel_warp<1, BITS><<<blocks, THREADS, 0, d->stream>>>(out, in, q), at += 1;
    }
}

static wane_mat rows_of(wane_mat a, int64_t first, int64_t rows)
{
    a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

static wane_qmat outputs_of(wane_qmat q, int64_t first, int64_t rows)
{
    q.words = rows_of(q.words, first, rows);
    q.scale = rows_of(q.scale, first, rows);
    if (q.zero.data) q.zero = rows_of(q.zero, first, rows);
    return q;
}

/* Half of the scratch holds the decoded tile, the other half stays for the product's own conversions. add: to y. */
static wane_status decoded(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q, bool add)
{
    wane_dev half = *d;
    half.scratch += d->scratch_bytes / 2;
    half.scratch_bytes = d->scratch_bytes - d->scratch_bytes / 2;
    int64_t most = (int64_t)(d->scratch_bytes / 2 / ((size_t)q.k * wane_dtype_bytes(x.dtype)));
    if (most < 1) return WANE_EARG;
    for (int64_t at = 0; at < y.cols; at += most) {
        int64_t m = y.cols - at < most ? y.cols - at : most;
        wane_mat w = {d->scratch, x.dtype, m, q.k, q.k}, out = y;
        out.data = (char *)y.data + (size_t)at * wane_dtype_bytes(y.dtype);
        out.cols = m;
        wane_status s = cuda_decode(d, w, outputs_of(q, at, m));
        if (!s) s = add ? cuda_matmul_add(&half, out, x, w) : cuda_matmul(&half, out, x, w);
        if (s) {
            d->lost = d->lost || half.lost;
            return s;
        }
    }
    return WANE_OK;
}

/* One block a row of x: int8 codes, half to even, |x|max / 127; a row with NaN gets a NaN scale. */
static __global__ void quantize_rows_kernel(int8_t *codes, float *scale, wane_mat x)
{
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float top = 0, bad = 0;
        for (int64_t c = threadIdx.x; c < x.cols; c += THREADS) {
            float v = load_as_float(x.data, row * x.stride + c, x.dtype);
            top = fmaxf(top, fabsf(v));
            bad += v != v;
        }
        top = block_max(top);
        bad = block_sum(bad);
        float s = __fdiv_rn(top, 127.f);
        bool plain = bad == 0 && s > 0;
        for (int64_t c = threadIdx.x; c < x.cols; c += THREADS) {
            float v = load_as_float(x.data, row * x.stride + c, x.dtype);
            codes[row * x.cols + c] = plain ? (int8_t)clamped(rintf(__fdiv_rn(v, s)), -127.f, 127.f) : 0;
        }
        if (!threadIdx.x) scale[row] = bad > 0 ? NAN : s > 0 ? s : 0.f;
    }
}

/* One warp an output and token: four products a step. */
static __global__ void int8_kernel_warp(wane_mat y, const int8_t *codes, const float *scale, wane_qmat q)
{
    int lane = threadIdx.x & 31;
    int64_t warps = (int64_t)gridDim.x * WARPS, all = y.rows * y.cols;
    for (int64_t t = blockIdx.x * (int64_t)WARPS + (threadIdx.x >> 5); t < all; t += warps) {
        int64_t token = t / y.cols, row = t % y.cols;
        const uint32_t *w = (const uint32_t *)q.words.data + row * q.words.stride;
        const int8_t *x = codes + token * q.k;
        int sum = 0;
        for (int64_t at = lane; at * 4 < q.k; at += 32) {
            uint32_t u = w[at] ^ 0x80808080u; /* code - 128, as signed bytes */
            for (int j = 0; j < 4 && at * 4 + j < q.k; j++) sum += (int)(int8_t)(u >> 8 * j) * x[at * 4 + j];
        }
        sum = warp_sum(sum);
        if (!lane)
            store_float(y.data, token * y.stride + row, y.dtype,
                        (float)sum * scale[token] * load_as_float(q.scale.data, row * q.scale.stride, q.scale.dtype));
    }
}

static __global__ void signed_words_kernel(uint32_t *out, wane_mat words)
{
    int64_t all = words.rows * words.cols;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x)
        out[t] = ((const uint32_t *)words.data)[t / words.cols * words.stride + t % words.cols] ^ 0x80808080u;
}

static __global__ void scale_sums_kernel(wane_mat y, const int *sums, const float *scale, wane_mat by)
{
    int64_t all = y.rows * y.cols;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = t / y.cols, col = t % y.cols;
        store_float(y.data, row * y.stride + col, y.dtype,
                    (float)sums[t] * scale[row] * load_as_float(by.data, col * by.stride, by.dtype));
    }
}

/* In the scratch: codes and scales of as many rows as fit; for many rows also w as signed bytes, and the sums. */
static wane_status integers(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q)
{
    int64_t k = q.k, quarter = (int64_t)d->scratch_bytes / 4 / 256 * 256;
    int64_t most = quarter / (k + 4) - 64 / (k + 4) - 1;
    if (most < 1) return WANE_EARG;
    int8_t *codes = (int8_t *)d->scratch;
    uint32_t *w = (uint32_t *)(d->scratch + quarter);
    int *sums = (int *)(d->scratch + 2 * quarter);
    for (int64_t at = 0; at < x.rows; at += most) {
        int64_t n = x.rows - at < most ? x.rows - at : most;
        float *scale = (float *)(d->scratch + (n * k + 63) / 64 * 64);
        wane_mat out = rows_of(y, at, n);
        quantize_rows_kernel<<<blocks_for(d, n, 1), THREADS, 0, d->stream>>>(codes, scale, rows_of(x, at, n));
        bool tensor = n > FEW && k % 4 == 0 && q.words.stride * 4 >= k;
        if (!tensor) {
            int8_kernel_warp<<<blocks_for(d, n * y.cols, WARPS), THREADS, 0, d->stream>>>(out, codes, scale, q);
            continue;
        }
        int64_t wide = quarter / k, tall = 2 * quarter / 4 / n;
        int64_t outputs = wide < tall ? wide : tall;
        outputs = outputs / 4 * 4 > 0 ? outputs / 4 * 4 : outputs;
        if (outputs < 1) return WANE_EARG;
        for (int64_t first = 0; first < y.cols; first += outputs) {
            int64_t m = y.cols - first < outputs ? y.cols - first : outputs;
            wane_qmat part = outputs_of(q, first, m);
            wane_mat columns = out;
            columns.data = (char *)out.data + (size_t)first * wane_dtype_bytes(y.dtype);
            columns.cols = m;
            int one = 1, none = 0;
            signed_words_kernel<<<blocks_for(d, m * k / 4, THREADS), THREADS, 0, d->stream>>>(w, part.words);
            cublasStatus_t s = cublasGemmEx(d->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)m, (int)n, (int)k, &one, w,
                                            CUDA_R_8I, (int)k, codes, CUDA_R_8I, (int)k, &none, sums, CUDA_R_32I,
                                            (int)m, CUBLAS_COMPUTE_32I, CUBLAS_GEMM_DEFAULT);
            if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
            scale_sums_kernel<<<blocks_for(d, n * m, THREADS), THREADS, 0, d->stream>>>(columns, sums, scale, part.scale);
        }
    }
    return launched(d);
}

wane_status cuda_qmatmul_add(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q)
{
    if (!valid_float(y) || !valid_float(x) || !cuda_valid_grid(&q, y.cols, true) || x.cols != q.k || y.rows != x.rows)
        return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    bool narrow = x.dtype == WANE_BF16 || x.dtype == WANE_F16;
    return y.dtype == WANE_F32 && narrow && !q.act_bits && x.rows > FEW ? decoded(d, y, x, q, true) : WANE_EUNSUPPORTED;
}

wane_status cuda_qmatmul(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q)
{
    if (!valid_float(y) || !valid_float(x) || !cuda_valid_grid(&q, y.cols, true) || x.cols != q.k || y.rows != x.rows)
        return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    if (q.act_bits) return integers(d, y, x, q);
    wane_products one = {};
    one.x = x;
    one.parts = 1;
    one.part[0].y = y;
    one.part[0].q = q;
    if (x.rows > FEW) {
        wane_status s = cuda_tile_can(d, &one) ? cuda_tile(d, &one) : WANE_EUNSUPPORTED;
        return s == WANE_EUNSUPPORTED ? decoded(d, y, x, q, false) : s;
    }
    if (cuda_few_can(d, &one)) return cuda_few(d, &one);
    int per = 32 / q.bits;
    if (q.bits == 3 || q.k % per || q.group % per)
        qmatmul_kernel_plain<<<blocks_for(d, y.rows * y.cols, WARPS), THREADS, 0, d->stream>>>(y, x, q);
    else if (q.bits == 4) launch_warp<4>(d, y, x, q);
    else if (q.bits == 2) launch_warp<2>(d, y, x, q);
    else launch_warp<8>(d, y, x, q);
    return launched(d);
}
