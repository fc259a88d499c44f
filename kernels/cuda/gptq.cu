/* gptq.cu - inverse_factor and gptq: codes column by column, later columns absorbing the error. The twin of
 * cpu/gptq.c, which names the paper and the departures.
 *
 * inverse_factor: h is reversed and permuted in place (columns, a transposition, columns again), factored by blocks
 * of 128 (the block itself by one thread block, the rest by cuBLAS), inverted by doubling, and turned back.
 * gptq: one launch for each block of 128 columns; four lanes hold a row's block in registers, the factor's block lies
 * in shared memory; what follows the block is updated by one product. */
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/slots.h"

enum { SIDE = 128, THREADS = 256, QUAD = 4, HELD = SIDE / QUAD };

static bool is(wane_mat a, wane_dtype t, int64_t rows, int64_t cols)
{
    return valid(a) && a.dtype == t && a.rows == rows && a.cols == cols;
}

/* Each row's columns: to i comes from order[i], or from order[k-1-i] where reversed; in place through shared memory. */
static __global__ void permute_columns_kernel(wane_mat a, const int32_t *order, bool reversed, const float *u, int64_t u_stride)
{
    extern __shared__ float row_copy[];
    int64_t k = a.cols;
    for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
        float *x = (float *)a.data + row * a.stride;
        for (int64_t i = threadIdx.x; i < k; i += blockDim.x) row_copy[i] = x[i];
        __syncthreads();
        for (int64_t i = threadIdx.x; i < k; i += blockDim.x) {
            int64_t at = reversed ? k - 1 - i : i;
            float v = row_copy[order ? order[at] : at];
            if (u && u[i * u_stride + i] < 0) v = 0; /* an input that was always zero */
            x[i] = v;
        }
        __syncthreads();
    }
}

static wane_status permute_columns(wane_dev *d, wane_mat a, const int32_t *order, bool reversed, const wane_mat *u)
{
    size_t shared = (size_t)a.cols * sizeof(float);
    if (shared > 48 * 1024) {
        cudaError_t e = cudaFuncSetAttribute(permute_columns_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             (int)shared);
        if (e != cudaSuccess) return cuda_status(d, e);
    }
    permute_columns_kernel<<<blocks_for(d, a.rows, 1), THREADS, shared, d->stream>>>(
        a, order, reversed, u ? (const float *)u->data : NULL, u ? u->stride : 0);
    return launched(d);
}

/* Square, in place, tile by tile with its mirror image. */
static __global__ void transpose_square_kernel(wane_mat h)
{
    __shared__ float a[32][33], b[32][33];
    int64_t across = tiles(h.cols, 32), k = h.cols;
    float *x = (float *)h.data;
    for (int64_t t = blockIdx.x; t < across * across; t += gridDim.x) {
        int64_t row = t / across * 32, col = t % across * 32;
        if (col > row) continue;
        for (int i = threadIdx.y; i < 32; i += blockDim.y) {
            if (row + i < k && col + threadIdx.x < k) a[i][threadIdx.x] = x[(row + i) * h.stride + col + threadIdx.x];
            if (col + i < k && row + threadIdx.x < k) b[i][threadIdx.x] = x[(col + i) * h.stride + row + threadIdx.x];
        }
        __syncthreads();
        for (int i = threadIdx.y; i < 32; i += blockDim.y) {
            if (row + i < k && col + threadIdx.x < k) x[(row + i) * h.stride + col + threadIdx.x] = b[threadIdx.x][i];
            if (col + i < k && row + threadIdx.x < k) x[(col + i) * h.stride + row + threadIdx.x] = a[threadIdx.x][i];
        }
        __syncthreads();
    }
}

/* Dead inputs get 1 and a mark; damp * mean is added to the diagonal. One block. */
static __global__ void damp_kernel(wane_mat h, float damp, uint8_t *dead)
{
    float *x = (float *)h.data;
    double mean = 0;
    for (int64_t i = threadIdx.x; i < h.cols; i += blockDim.x) {
        float *diagonal = x + i * h.stride + i;
        dead[i] = *diagonal == 0;
        if (dead[i]) *diagonal = 1;
        mean += *diagonal;
    }
    mean = block_sum(mean) / (double)h.cols;
    for (int64_t i = threadIdx.x; i < h.cols; i += blockDim.x) x[i * h.stride + i] += (float)(damp * mean);
}

/* Cholesky of one block, lower, in place; one row a thread, sums in float64. *failed is set where it cannot be. */
static __global__ void factor_block_kernel(float *a, int64_t stride, int n, int *failed)
{
    extern __shared__ float s[]; /* (n, SIDE+1) */
    int i = threadIdx.x;
    for (int r = 0; r < n; r++)
        if (i < n) s[r * (SIDE + 1) + i] = a[r * stride + i];
    __syncthreads();
    for (int j = 0; j < n; j++) {
        double sum = 0;
        if (i >= j && i < n) {
            sum = s[i * (SIDE + 1) + j];
            for (int l = 0; l < j; l++) sum -= (double)s[i * (SIDE + 1) + l] * s[j * (SIDE + 1) + l];
        }
        __shared__ double root;
        if (i == j) {
            if (!(sum > 0 && sum < INFINITY)) *failed = 1, sum = 1;
            root = sqrt(sum);
        }
        __syncthreads();
        if (i == j) s[j * (SIDE + 1) + j] = (float)root;
        else if (i > j && i < n) s[i * (SIDE + 1) + j] = (float)(sum / root);
        __syncthreads();
    }
    for (int r = 0; r < n; r++)
        if (i <= r) a[r * stride + i] = s[r * (SIDE + 1) + i];
}

/* Inverse of the lower blocks on the diagonal, in place; a block each, a column a thread. */
static __global__ void invert_blocks_kernel(wane_mat h)
{
    extern __shared__ float s[]; /* (n, SIDE+1) */
    int64_t at = (int64_t)blockIdx.x * SIDE;
    int n = h.cols - at < SIDE ? (int)(h.cols - at) : SIDE, j = threadIdx.x;
    float *a = (float *)h.data + at * h.stride + at;
    for (int r = 0; r < n; r++)
        if (j < n) s[r * (SIDE + 1) + j] = a[r * h.stride + j];
    __syncthreads();
    float column[SIDE]; /* of the inverse; indexed by run-time rows: local memory, small against the products */
    if (j < n) {
        for (int i = j; i < n; i++) {
            double sum = i == j ? 1 : 0;
            for (int l = j; l < i; l++) sum -= (double)s[i * (SIDE + 1) + l] * column[l];
            column[i] = (float)(sum / s[i * (SIDE + 1) + i]);
        }
    }
    __syncthreads();
    if (j < n)
        for (int i = j; i < n; i++) a[i * h.stride + j] = column[i];
}

/* Above the diagonal is 0 from here on: products of whole squares read it. */
static __global__ void clear_upper_kernel(wane_mat h)
{
    int64_t all = h.rows * h.cols;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x)
        if (t % h.cols > t / h.cols) ((float *)h.data)[t / h.cols * h.stride + t % h.cols] = 0;
}

/* Turns the inverse, lower and of the reversed h, into the upper u: element (i,j) is its (k-1-i, k-1-j). Rows of dead
 * inputs are negated; below the diagonal is 0. */
static __global__ void turn_kernel(wane_mat h, const uint8_t *dead)
{
    int64_t k = h.cols, half = (k * k + 1) / 2;
    float *x = (float *)h.data;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < half; t += (int64_t)gridDim.x * blockDim.x) {
        int64_t i = t / k, j = t % k, p = k - 1 - i, q = k - 1 - j;
        float a = x[i * h.stride + j], b = x[p * h.stride + q];
        x[i * h.stride + j] = j < i ? 0.f : dead[k - 1 - i] ? -b : b;
        x[p * h.stride + q] = q < p ? 0.f : dead[k - 1 - p] ? -a : a;
    }
}

static wane_status factor(wane_dev *d, wane_mat h, int *failed)
{
    int64_t k = h.cols;
    int ld = (int)h.stride;
    float one = 1, minus = -1;
    size_t shared = (size_t)SIDE * (SIDE + 1) * sizeof(float);
    cudaError_t e = cudaFuncSetAttribute(factor_block_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return cuda_status(d, e);
    for (int64_t at = 0; at < k; at += SIDE) {
        int n = k - at < SIDE ? (int)(k - at) : SIDE, rest = (int)(k - at - n);
        float *corner = (float *)h.data + at * h.stride + at, *below = corner + n * h.stride, *trailing = below + n;
        factor_block_kernel<<<1, SIDE, shared, d->stream>>>(corner, h.stride, n, failed);
        if (!rest) break;
        /* row-major below (rest,n) = below l^-T; to cuBLAS it is (n,rest) = l^-1 below, with l upper */
        cublasStatus_t s = cublasStrsm(d->blas, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T,
                                       CUBLAS_DIAG_NON_UNIT, n, rest, &one, corner, ld, below, ld);
        if (s == CUBLAS_STATUS_SUCCESS)
            s = cublasSsyrk(d->blas, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, rest, n, &minus, below, ld, &one, trailing, ld);
        if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
    }
    return launched(d);
}

/* x21 = -x22 l21 x11, from the small blocks up. Column-major all three are upper or whole: (s1,s2) = -x11 l21 x22, by
 * panels of rows as temp (room floats) has room for; a panel reads rows of l21 from its own on, so they go downwards. */
static wane_status invert(wane_dev *d, wane_mat h, float *temp, int64_t room)
{
    int64_t k = h.cols;
    int ld = (int)h.stride;
    float one = 1, minus = -1, none = 0;
    size_t shared = (size_t)SIDE * (SIDE + 1) * sizeof(float);
    cudaError_t e = cudaFuncSetAttribute(invert_blocks_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return cuda_status(d, e);
    clear_upper_kernel<<<blocks_for(d, k * k, THREADS), THREADS, 0, d->stream>>>(h);
    invert_blocks_kernel<<<(unsigned)tiles(k, SIDE), SIDE, shared, d->stream>>>(h);
    for (int64_t size = SIDE; size < k; size *= 2) {
        for (int64_t at = 0; at + size < k; at += 2 * size) {
            int64_t s2 = k - at - size < size ? k - at - size : size, panel = room / s2 < size ? room / s2 : size;
            float *x11 = (float *)h.data + at * h.stride + at, *l21 = x11 + size * h.stride, *x22 = l21 + size;
            cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
            for (int64_t r = 0; r < size && s == CUBLAS_STATUS_SUCCESS; r += panel) {
                int rows = (int)(size - r < panel ? size - r : panel);
                s = cublasSgemm(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, rows, (int)s2, (int)(size - r), &one,
                                x11 + r * h.stride + r, ld, l21 + r, ld, &none, temp, rows);
                if (s == CUBLAS_STATUS_SUCCESS)
                    s = cublasSgemm(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, rows, (int)s2, (int)s2, &minus, temp, rows, x22,
                                    ld, &none, l21 + r, ld);
            }
            if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
        }
    }
    return launched(d);
}

static bool valid_order(wane_mat order, int64_t k) { return !order.data || is(order, WANE_I32, 1, k); }

enum { PANEL = 16 }; /* rows of temp at least */

wane_status cuda_inverse_factor(wane_dev *d, wane_mat h, wane_mat order, float damp)
{
    int64_t k = h.cols, head = tiles(k + 16, 256) * 256, room = ((int64_t)d->scratch_bytes - head) / 4;
    if (!is(h, WANE_F32, h.rows, h.rows) || h.stride > INT32_MAX || !(damp >= 0) || !valid_order(order, k) || k < 1 ||
        k * 4 > 200 * 1024 || room < PANEL * k)
        return WANE_EARG;
    int *failed = (int *)d->scratch, answer = 0;
    uint8_t *dead = d->scratch + 16;
    cudaError_t e = cudaMemsetAsync(failed, 0, sizeof *failed, d->stream);
    wane_status s = cuda_status(d, e);
    if (!s) s = permute_columns(d, h, (const int32_t *)order.data, true, NULL);
    if (s) return s;
    transpose_square_kernel<<<blocks_for(d, tiles(k, 32) * tiles(k, 32), 1), dim3(32, 8), 0, d->stream>>>(h);
    s = permute_columns(d, h, (const int32_t *)order.data, true, NULL);
    if (s) return s;
    damp_kernel<<<1, 1024, 0, d->stream>>>(h, damp, dead);
    s = factor(d, h, failed);
    if (!s) s = cuda_status(d, cudaMemcpyAsync(&answer, failed, sizeof answer, cudaMemcpyDeviceToHost, d->stream));
    if (!s) s = cuda_status(d, cudaStreamSynchronize(d->stream));
    if (s) return s;
    if (answer) return WANE_ENUMERIC;
    s = invert(d, h, (float *)(d->scratch + head), room);
    if (s) return s;
    turn_kernel<<<blocks_for(d, k * k / 2, THREADS), THREADS, 0, d->stream>>>(h, dead);
    return launched(d);
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

/* One quad a row: lane l of the quad holds columns l, l+4, ... of the block. */
static __global__ void __launch_bounds__(SIDE) gptq_block_kernel(gptq_block b)
{
    extern __shared__ float u[]; /* (columns, SIDE) */
    for (int i = threadIdx.x; i < b.columns * b.columns; i += blockDim.x) {
        int row = i / b.columns, col = i % b.columns;
        u[row * SIDE + col] = ((const float *)b.u.data)[(b.first + row) * b.u.stride + b.first + col];
    }
    __syncthreads();
    int lane = threadIdx.x & (QUAD - 1);
    int64_t row = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / QUAD;
    bool present = row < b.w.rows; /* absent rows go along: the quad's shuffles want all lanes of the warp */
    const float *from = (const float *)b.w.data + (present ? row : 0) * b.w.stride + b.first;
    float w[HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) w[i] = i * QUAD + lane < b.columns ? from[i * QUAD + lane] : 0.f;
    grid g = grid_of(b.q);
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        for (int l = 0; l < QUAD; l++) {
            int j = i * QUAD + l;
            if (j >= b.columns) break;
            int64_t col = b.first + j;
            if (col % b.q.group == 0 || (j == 0 && !b.fits)) {
                int64_t group = (b.order ? b.order[col] : col) / b.q.group;
                if (b.fits) {
                    int end = j + (int)b.q.group;
                    float low = 0, high = 0;
#pragma unroll
                    for (int p = 0; p < HELD; p++) {
                        int c = p * QUAD + lane;
                        if (c >= j && c < end) low = fminf(low, w[p]), high = fmaxf(high, w[p]);
                    }
                    for (int o = QUAD / 2; o; o >>= 1) {
                        low = fminf(low, __shfl_xor_sync(0xffffffffu, low, o));
                        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, o));
                    }
                    g = grid_fit(b.q, low, high);
                    if (present && !lane) grid_put(b.q, row, group, g);
                } else {
                    g = grid_at(b.q, present ? row : 0, group);
                }
            }
            float x = __shfl_sync(0xffffffffu, w[i], l, QUAD);
            float code = clamped(nearest_code(__fdiv_rn(x, g.scale), g.snap) + g.zero, g.least, g.most);
            float error = __fdiv_rn(x - weight_of(code, g), u[j * SIDE + j]);
            if (present && lane == l) {
                ((uint8_t *)b.codes.data)[row * b.codes.stride + (b.order ? b.order[col] : col)] = (uint8_t)code;
                b.error[row * b.columns + j] = error;
            }
#pragma unroll
            for (int p = i; p < HELD; p++) {
                int c = p * QUAD + lane;
                if (c > j) w[p] -= error * u[j * SIDE + c]; /* beyond the block w is never read */
            }
        }
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
        !is(codes, WANE_U8, m, k) || !valid_order(order, k) || u.stride > INT32_MAX || w.stride > INT32_MAX ||
        k * 4 > 200 * 1024 || m * SIDE * 4 > (int64_t)d->scratch_bytes)
        return WANE_EARG;
    if (!m) return WANE_OK;
    wane_status s = permute_columns(d, w, (const int32_t *)order.data, false, &u);
    if (s) return s;
    size_t shared = (size_t)SIDE * SIDE * sizeof(float);
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
        gptq_block_kernel<<<(unsigned)tiles(m * QUAD, SIDE), SIDE, shared, d->stream>>>(b);
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
