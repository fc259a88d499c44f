/* factor.cu - inverse_factor. With cpu/gptq.c, which names the paper and the departures.
 *
 * h is reversed and permuted in place (columns, a transposition, columns again), factored, inverted by doubling and
 * turned back. Factoring goes by panels of 512 columns, within a panel by blocks of 128: one thread block factors the
 * block on the diagonal and inverts it, with everything in registers; the rest are products by cuBLAS in float32. The
 * inverses of the blocks serve both the solving of what lies below them and the inversion afterwards; until then they lie
 * above the diagonal, where nothing is read. */
#include "kernels/cuda/factor.cuh"
#include "kernels/cuda/slots.h"

enum { SIDE = 128, PANEL = 512, THREADS = 256, GRID = 16, HELD = SIDE / GRID, STRIPS = 4, STRIPPED = 1024 };
enum { ROOM = 16 }; /* rows of temp at least */

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

wane_status cuda_permute_columns(wane_dev *d, wane_mat a, const int32_t *order, bool reversed, const wane_mat *u)
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

bool cuda_valid_order(wane_mat order, int64_t k) { return !order.data || is(order, WANE_I32, 1, k); }

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

/* Cholesky of one block a (n,n), lower, in place, and its inverse (SIDE,SIDE), lower, 0 above and the identity beyond n.
 * Above a's diagonal the inverse lies too, turned; its own diagonal is that of 1 / a. Thread (row, col) of 16 by 16 holds
 * rows row + 16 i and columns col + 16 j of both. Column by column: what is eliminated from a is eliminated from an
 * identity too. *failed is set where a pivot is not positive. */
static __global__ void __launch_bounds__(GRID *GRID) factor_block_kernel(float *a, int64_t stride, int n, float *inverse, int *failed)
{
    __shared__ float column[2][SIDE], line[2][SIDE];
    int row = threadIdx.x / GRID, col = threadIdx.x % GRID;
    float l[HELD][HELD], x[HELD][HELD];
#pragma unroll
    for (int i = 0; i < HELD; i++) {
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            int r = row + GRID * i, c = col + GRID * j;
            l[i][j] = r < n && c <= r ? a[r * stride + c] : r == c;
            x[i][j] = r == c;
        }
    }
    bool bad = false;
#pragma unroll
    for (int block = 0; block < HELD; block++) {
        for (int at = 0; at < GRID; at++) { /* column block * 16 + at */
            int here = block * GRID + at, buffer = at & 1;
            if (col == at) {
#pragma unroll
                for (int i = block; i < HELD; i++) column[buffer][row + GRID * i] = l[i][block];
            }
            if (row == at) {
#pragma unroll
                for (int j = 0; j <= block; j++) line[buffer][col + GRID * j] = x[block][j];
            }
            __syncthreads();
            float pivot = column[buffer][here];
            bad |= !(pivot > 0 && pivot < INFINITY);
            float inverse_root = bad ? 0.f : __fdiv_rn(1.f, __fsqrt_rn(pivot)), down[HELD], right[HELD], above[HELD];
#pragma unroll
            for (int i = block; i < HELD; i++) {
                down[i] = column[buffer][row + GRID * i] * inverse_root;
                right[i] = column[buffer][col + GRID * i] * inverse_root;
            }
#pragma unroll
            for (int j = 0; j <= block; j++) above[j] = line[buffer][col + GRID * j] * inverse_root;
#pragma unroll
            for (int i = block; i < HELD; i++) {
                bool below = i > block || row > at; /* this row is under the pivot's */
                if (col == at && (below || row == at)) l[i][block] = down[i];
#pragma unroll
                for (int j = block; j < HELD; j++)
                    if (below && (j > block || col > at)) l[i][j] -= down[i] * right[j];
#pragma unroll
                for (int j = 0; j <= block; j++) {
                    if (below) x[i][j] -= down[i] * above[j];
                    else if (i == block && row == at) x[i][j] = above[j];
                }
            }
        }
    }
    if (bad && !threadIdx.x) *failed = 1;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            int r = row + GRID * i, c = col + GRID * j;
            if (r < n && c <= r) a[r * stride + c] = l[i][j];
            if (r < n && c < r) a[c * stride + r] = x[i][j];
            inverse[r * SIDE + c] = c <= r ? x[i][j] : 0.f;
        }
    }
}

/* The inverses of the blocks take their factors' places; above the diagonal all is 0: products of whole squares read it. */
static __global__ void put_inverses_kernel(wane_mat h)
{
    int64_t all = h.rows * h.cols, row, col;
    float *x = (float *)h.data;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        place_of(t, h.cols, row, col);
        bool same = col / SIDE == row / SIDE;
        float *here = x + row * h.stride + col;
        if (col == row) *here = __fdiv_rn(1.f, *here);
        if (col <= row) continue;
        if (same) x[col * h.stride + row] = *here;
        *here = 0;
    }
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

/* c (rows,cols) = alpha a b + beta c, all row-major, as cuBLAS sees them transposed; b_t: b is (cols,inner). */
static cublasStatus_t product(wane_dev *d, bool b_t, int64_t rows, int64_t cols, int64_t inner, float alpha, const float *a,
                              int64_t a_stride, const float *b, int64_t b_stride, float beta, float *c, int64_t c_stride)
{
    return cublasSgemm(d->blas, b_t ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, (int)cols, (int)rows, (int)inner, &alpha, b,
                       (int)b_stride, a, (int)a_stride, &beta, c, (int)c_stride);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* under (rows,n) = under corner^-T, by strips as temp (room floats) has room for. */
static wane_status solve(wane_dev *d, float *under, int64_t ld, int64_t rows, int64_t n, const float *inverse, float *temp,
                         int64_t room)
{
    int64_t strip = room / n;
    for (int64_t at = 0; at < rows; at += strip) {
        int64_t height = least(strip, rows - at);
        cudaError_t e = cudaMemcpy2DAsync(temp, (size_t)n * sizeof(float), under + at * ld, (size_t)ld * sizeof(float),
                                          (size_t)n * sizeof(float), (size_t)height, cudaMemcpyDeviceToDevice, d->stream);
        if (e != cudaSuccess) return cuda_status(d, e);
        cublasStatus_t s = product(d, true, height, n, n, 1, temp, n, inverse, SIDE, 0, under + at * ld, ld);
        if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
    }
    return WANE_OK;
}

static wane_status factor(wane_dev *d, wane_mat h, float *inverse, float *temp, int64_t room, int *failed)
{
    int64_t k = h.cols, ld = h.stride;
    float *x = (float *)h.data, one = 1, minus = -1;
    for (int64_t panel = 0; panel < k; panel += PANEL) {
        int64_t panel_end = least(panel + PANEL, k), rest = k - panel_end;
        for (int64_t at = panel; at < panel_end; at += SIDE) {
            int64_t n = least(SIDE, k - at), end = at + n, below = k - end, beside = panel_end - end;
            float *corner = x + at * ld + at, *under = x + end * ld + at;
            factor_block_kernel<<<1, GRID * GRID, 0, d->stream>>>(corner, ld, (int)n, inverse, failed);
            wane_status s = solve(d, under, ld, below, n, inverse, temp, room);
            if (s) return s;
            if (!beside) continue; /* what is left of the panel -= under (its first rows)^T */
            s = cuda_blas_status(d, product(d, true, below, beside, n, -1, under, ld, under, ld, 1, x + end * ld + end, ld));
            if (s) return s;
        }
        if (!rest) break;
        float *done = x + panel_end * ld + panel; /* (rest, panel's columns); to cuBLAS its transpose */
        cublasStatus_t s = cublasSsyrk(d->blas, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_T, (int)rest, (int)(panel_end - panel), &minus,
                                       done, (int)ld, &one, x + panel_end * ld + panel_end, (int)ld);
        if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
    }
    return launched(d);
}

/* x21 = -x22 l21 x11, where x11 (s1,s1) and x22 (s2,s2) are lower triangles, by panels of rows from below: a panel reads
 * rows of l21 up to its own. temp (room floats) holds x22 l21. Large triangles go in strips, so that their zeros are not
 * multiplied. */
static cublasStatus_t join_pair(wane_dev *d, float *x11, int64_t ld, int64_t s1, int64_t s2, float *temp, int64_t room)
{
    float *l21 = x11 + s1 * ld, *x22 = l21 + s1;
    int64_t wide = s1 >= STRIPPED ? tiles(tiles(s1, STRIPS), SIDE) * SIDE : s1;
    int64_t tall = s2 >= STRIPPED ? tiles(tiles(s2, STRIPS), SIDE) * SIDE : s2;
    tall = least(tall, room / s1);
    cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
    for (int64_t end = s2, at; end > 0 && s == CUBLAS_STATUS_SUCCESS; end = at) {
        at = end > tall ? end - tall : 0;
        s = product(d, false, end - at, s1, end, 1, x22 + at * ld, ld, l21, ld, 0, temp, s1);
        for (int64_t c = 0; c < s1 && s == CUBLAS_STATUS_SUCCESS; c += wide) /* columns c.. of x11 begin in row c */
            s = product(d, false, end - at, least(wide, s1 - c), s1 - c, -1, temp + c, s1, x11 + c * ld + c, ld, 0,
                        l21 + at * ld + c, ld);
    }
    return s;
}

/* From the small blocks up; pairs of one size that are small go in one call, as many as temp has room for. */
static wane_status invert(wane_dev *d, wane_mat h, float *temp, int64_t room)
{
    int64_t k = h.cols, ld = h.stride;
    float one = 1, minus = -1, none = 0;
    put_inverses_kernel<<<blocks_for(d, k * k, THREADS), THREADS, 0, d->stream>>>(h);
    for (int64_t size = SIDE; size < k; size *= 2) {
        int64_t whole = k / (2 * size), done = 0, square = size * size, together = room / square, apart = 2 * size * (ld + 1);
        cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
        int n = (int)size;
        while (size < STRIPPED && together > 1 && done < whole && s == CUBLAS_STATUS_SUCCESS) {
            float *x11 = (float *)h.data + done * apart, *l21 = x11 + size * ld, *x22 = l21 + size;
            int count = (int)least(together, whole - done); /* to cuBLAS: x11 l21, then that x22 */
            s = cublasSgemmStridedBatched(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, x11, (int)ld, apart, l21, (int)ld, apart,
                                          &none, temp, n, square, count);
            if (s == CUBLAS_STATUS_SUCCESS)
                s = cublasSgemmStridedBatched(d->blas, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &minus, temp, n, square, x22, (int)ld,
                                              apart, &none, l21, (int)ld, apart, count);
            done += count;
        }
        for (int64_t at = done * 2 * size; at + size < k && s == CUBLAS_STATUS_SUCCESS; at += 2 * size)
            s = join_pair(d, (float *)h.data + at * (ld + 1), ld, size, least(size, k - at - size), temp, room);
        if (s != CUBLAS_STATUS_SUCCESS) return cuda_blas_status(d, s);
    }
    return launched(d);
}

/* In the scratch: whether it failed, dead inputs, a block's inverse, and the rest is temp. */
wane_status cuda_inverse_factor(wane_dev *d, wane_mat h, wane_mat order, float damp)
{
    int64_t k = h.cols, head = tiles(k + 16, 256) * 256, room = ((int64_t)d->scratch_bytes - head) / 4 - SIDE * SIDE;
    if (!is(h, WANE_F32, h.rows, h.rows) || h.stride > INT32_MAX || !(damp >= 0) || !cuda_valid_order(order, k) || k < 1 ||
        k * 4 > 200 * 1024 || room < (int64_t)ROOM * (k < SIDE ? (int64_t)SIDE : k))
        return WANE_EARG;
    int *failed = (int *)d->scratch, answer = 0;
    uint8_t *dead = d->scratch + 16;
    float *inverse = (float *)(d->scratch + head), *temp = inverse + SIDE * SIDE;
    cudaError_t e = cudaMemsetAsync(failed, 0, sizeof *failed, d->stream);
    wane_status s = cuda_status(d, e);
    if (!s) s = cuda_permute_columns(d, h, (const int32_t *)order.data, true, NULL);
    if (s) return s;
    transpose_square_kernel<<<blocks_for(d, tiles(k, 32) * tiles(k, 32), 1), dim3(32, 8), 0, d->stream>>>(h);
    s = cuda_permute_columns(d, h, (const int32_t *)order.data, true, NULL);
    if (s) return s;
    damp_kernel<<<1, 1024, 0, d->stream>>>(h, damp, dead);
    s = factor(d, h, inverse, temp, room, failed);
    if (!s) s = cuda_get_now(d, &answer, failed, sizeof answer);
    if (s) return s;
    if (answer) return WANE_ENUMERIC;
    s = invert(d, h, temp, room);
    if (s) return s;
    turn_kernel<<<blocks_for(d, k * k / 2, THREADS), THREADS, 0, d->stream>>>(h, dead);
    return launched(d);
}
