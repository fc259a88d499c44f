/* gptq.cu - gptq: codes column by column, later columns absorbing the error. The twin of cpu/gptq.c, which names the
 * paper and the departures; inverse_factor is in factor.cu.
 *
 * One launch for each block of 128 columns: eight lanes hold a row's block in registers, the factor's block lies in
 * shared memory; what follows the block is updated by one product. */
#include "kernels/cuda/factor.cuh"
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/slots.h"

enum { SIDE = 128, THREADS = 128, LANES = 8, HELD = SIDE / LANES };

static bool is(wane_mat a, wane_dtype t, int64_t rows, int64_t cols)
{
    return valid(a) && a.dtype == t && a.rows == rows && a.cols == cols;
}

struct gptq_block {
    wane_qmat q;
    wane_mat codes, w, u;
    const int32_t *order; /* NULL: as it is */
    float *error;         /* (m, columns) */
    int64_t first;
    int columns;
    bool fits; /* groups lie whole in blocks: fitted here, on the updated weights */
};

/* The group of column j on, from the weights as they are now. Lane l of a row's eight holds columns l, l + 8, ... */
static __device__ __forceinline__ grid fit_here(const gptq_block &b, const float w[HELD], int j, int lane)
{
    int end = j + (int)b.q.group;
    float low = 0, high = 0;
#pragma unroll
    for (int p = 0; p < HELD; p++) {
        int c = p * LANES + lane;
        if (c >= j && c < end) low = fminf(low, w[p]), high = fmaxf(high, w[p]);
    }
#pragma unroll
    for (int o = LANES / 2; o; o >>= 1) {
        low = fminf(low, __shfl_xor_sync(0xffffffffu, low, o));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, o));
    }
    return grid_fit(b.q, low, high);
}

static __device__ __forceinline__ int64_t source_of(const gptq_block &b, int j) { return b.order ? b.order[b.first + j] : b.first + j; }

static __global__ void __launch_bounds__(THREADS) gptq_block_kernel(const __grid_constant__ gptq_block b)
{
    extern __shared__ float u[]; /* (SIDE, SIDE), 0 beyond the block's columns; then 1 / its diagonal */
    float *inverse = u + SIDE * SIDE;
#pragma unroll 16
    for (int i = threadIdx.x; i < SIDE * SIDE; i += THREADS) {
        int row = i / SIDE, col = i % SIDE;
        bool there = row < b.columns && col < b.columns;
        u[i] = there ? ((const float *)b.u.data)[(b.first + row) * b.u.stride + b.first + col] : 0.f;
        if (row == col) inverse[row] = there ? __fdiv_rn(1.f, u[i]) : 0.f;
    }
    __syncthreads();
    int lane = threadIdx.x % LANES, next = 0;
    int64_t row = (blockIdx.x * (int64_t)THREADS + threadIdx.x) / LANES;
    bool present = row < b.w.rows; /* absent rows go along: shuffles want all lanes of the warp */
    const float *from = (const float *)b.w.data + (present ? row : 0) * b.w.stride + b.first;
    float w[HELD], error[HELD], code[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) w[i] = i * LANES + lane < b.columns ? from[i * LANES + lane] : 0.f;
    grid g = grid_of(b.q);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        error[i] = code[i] = 0;
        for (int l = 0; l < LANES; l++) {
            int j = i * LANES + l;
            if (j >= b.columns) break;
            if (j == next) {
                int64_t group = source_of(b, j) / b.q.group;
                next = b.fits ? j + (int)b.q.group : SIDE;
                if (b.fits) {
                    g = fit_here(b, w, j, lane);
                    if (present && !lane) grid_put(b.q, row, group, g);
                } else {
                    g = grid_at(b.q, present ? row : 0, group);
                }
            }
            const float *line = u + j * SIDE + lane;
            float x = __shfl_sync(0xffffffffu, w[i], l, LANES);
            float c = clamped(nearest_code(__fdiv_rn(x, g.scale), g.snap) + g.zero, g.least, g.most);
            float e = (x - weight_of(c, g)) * inverse[j];
            if (lane == l) code[i] = c, error[i] = e;
            if (lane > l) w[i] -= e * line[i * LANES];
#pragma unroll
            for (int p = i + 1; p < HELD; p++) w[p] -= e * line[p * LANES];
        }
    }
    if (!present) return;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        int j = i * LANES + lane;
        if (j >= b.columns) break;
        ((uint8_t *)b.codes.data)[row * b.codes.stride + source_of(b, j)] = (uint8_t)code[i];
        b.error[row * b.columns + j] = error[i];
    }
}

/* Where the block that starts at column i ends: whole groups, or a part of one large group. */
static int64_t block_end(int64_t i, int64_t g, int64_t k)
{
    int64_t whole = g <= SIDE ? i + SIDE / g * g : (i / g + 1) * g < i + SIDE ? (i / g + 1) * g : i + SIDE;
    return whole < k ? whole : k;
}

wane_status cuda_gptq(wane_dev *d, wane_qmat q, wane_mat codes, wane_mat w, wane_mat u, wane_mat order)
{
    int64_t m = w.rows, k = q.k;
    if (!cuda_valid_grid(&q, m, q.words.data != NULL) || !is(w, WANE_F32, m, k) || !is(u, WANE_F32, k, k) ||
        !is(codes, WANE_U8, m, k) || !cuda_valid_order(order, k) || u.stride > INT32_MAX || w.stride > INT32_MAX ||
        k * 4 > 200 * 1024 || m * SIDE * 4 > (int64_t)d->scratch_bytes)
        return WANE_EARG;
    if (!m) return WANE_OK;
    wane_status s = cuda_permute_columns(d, w, (const int32_t *)order.data, false, &u);
    if (s) return s;
    size_t shared = (size_t)SIDE * (SIDE + 1) * sizeof(float);
    cudaError_t e = cudaFuncSetAttribute(gptq_block_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return cuda_status(d, e);
    float *error = (float *)d->scratch, one = 1, minus = -1;
    for (int64_t first = 0, end; first < k; first = end) {
        end = block_end(first, q.group, k);
        bool fits = q.group <= SIDE;
        if (!fits && first % q.group == 0) { /* a large group: its grid from the updated weights, by the fit kernel */
            wane_qmat part = q;
            wane_mat columns = w;
            int32_t source = (int32_t)first;
            if (order.data) {
                s = cuda_get_now(d, &source, (const int32_t *)order.data + first, sizeof source);
                if (s) return s;
            }
            int64_t group = source / q.group;
            columns.data = (float *)w.data + first;
            columns.cols = part.k = q.group;
            part.scale.data = (char *)q.scale.data + (size_t)group * wane_dtype_bytes(q.scale.dtype);
            if (q.zero.data) part.zero.data = (char *)q.zero.data + (size_t)group * wane_dtype_bytes(q.zero.dtype);
            part.scale.cols = part.zero.cols = 1;
            s = cuda_fit_grid(d, part, columns, wane_mat{});
            if (s) return s;
        }
        int columns = (int)(end - first), rest = (int)(k - end);
        gptq_block b = {q, codes, w, u, (const int32_t *)order.data, error, first, columns, fits};
        gptq_block_kernel<<<(unsigned)tiles(m * LANES, THREADS), THREADS, shared, d->stream>>>(b);
        if (!rest) break;
        /* row-major w[:, end:] -= error (m,columns) u[first:end, end:] */
        cublasStatus_t blas = cublasSgemm(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, rest, (int)m, columns, &minus,
                                          (float *)u.data + first * u.stride + end, (int)u.stride, error, columns, &one,
                                          (float *)w.data + end, (int)w.stride);
        if (blas != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, blas);
    }
    s = launched(d);
    return s || !q.words.data ? s : cuda_pack(d, q, codes);
}
