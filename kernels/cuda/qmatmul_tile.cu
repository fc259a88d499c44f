/* qmatmul_tile.cu - qmatmul for more rows of x than few.cu takes and fewer than make decoding to scratch pay.
 *
 * A block takes 128 or 256 outputs, all tokens and a part of the columns: four warps ask for rows of codes and of x, a
 * chunk of columns after the other (conveyor.cuh); eight warps own 16 or 32 outputs each. Codes become code - zero in
 * registers, rounded to x's type where the zero is no integer, and meet all tokens; scales are applied in float32 to
 * the sums of a step. Parts of the columns are joined in order by a second kernel. */
#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/conveyor.cuh"
#include "kernels/cuda/few.cuh"

enum {
    WARPS = 8,
    USERS = WARPS * 32,
    THREADS = USERS + ASKERS,
    STAGES_MOST = 8,
    SHARED_MOST = 220 * 1024, /* of a multiprocessor */
    BARRIER_BYTES = 256
};

struct tile_args {
    wane_mat y, x, words, scale, zero;
    float *partial;          /* (splits, n, m), or NULL: one split */
    int steps, per_split;    /* of SPAN columns: in all, of a split but the last */
    int chunk, stages;       /* steps of a chunk; chunks on the conveyor */
    int span_groups;         /* steps that share a scale */
    int pitch, x_pitch;      /* of rows of a chunk, in bytes */
    int grid_width;          /* of a row of scales in shared memory */
    int at_ring;             /* in shared memory; scales lie before it */
};

/* What codes less 8 are reduced by, twice in a register, and the scale. */
struct row_grid {
    uint32_t zero;
    float scale;
};

template <typename T, int SPAN, int MT>
static __device__ void ask(const tile_args &a, const conveyor &c, char *ring, int block_row, int begin, int end)
{
    constexpr int OUTPUTS = WARPS * MT * 16;
    int n = (int)a.x.rows, number = 0, asker = threadIdx.x - USERS;
    int64_t most = a.y.cols - 1;
    for (int first = begin; first < end; first += a.chunk, number++) {
        int steps = end - first < a.chunk ? end - first : a.chunk, bytes = steps * SPAN / 2, x_bytes = steps * SPAN * 2;
        uint64_t *full = ask_begin(c, number);
        char *to = ring + number % a.stages * (OUTPUTS * a.pitch + n * a.x_pitch);
        const char *words = (const char *)a.words.data + (int64_t)first * SPAN / 2;
        const char *x = (const char *)a.x.data + (int64_t)first * SPAN * 2;
        ask_rows(asker, to, a.pitch, bytes, OUTPUTS, [&](int row) {
            return words + (block_row + row < most ? block_row + row : most) * a.words.stride * 4;
        });
        ask_rows(asker, to + OUTPUTS * a.pitch, a.x_pitch, x_bytes, n, [&](int row) { return x + row * a.x.stride * 2; });
        ask_end(full);
    }
}

/* This warp's outputs' scales and zeros over its columns, from group `low` on. */
template <typename T, int MT>
static __device__ void stage_grid(const tile_args &a, row_grid *grid, int first_row, int low, int groups, int lane)
{
#pragma unroll 4
    for (int i = lane; i < MT * 16 * groups; i += 32) {
        int row = i / groups, group = i % groups;
        int64_t from = first_row + row < a.y.cols ? first_row + row : a.y.cols - 1;
        float z = 8;
        if (a.zero.data) z = load_as_float(a.zero.data, from * a.zero.stride + low + group, a.zero.dtype);
        float s = load_as_float(a.scale.data, from * a.scale.stride + low + group, a.scale.dtype);
        grid[row * a.grid_width + group] = {narrow<T>::pair(z - 8.f, z - 8.f), s};
    }
}

template <typename T, int SPAN, int NT, int MT>
static __device__ __forceinline__ void multiply(float sum[MT][NT][4], const char *codes, int pitch, const char *x, int x_pitch,
                                                const row_grid *grid, int grid_width, int n, int t)
{
    constexpr int WORDS = SPAN / 32;
    uint32_t code[MT][WORDS][8];
    float low[MT], high[MT];
#pragma unroll
    for (int m = 0; m < MT; m++) {
        row_grid p = grid[m * 16 * grid_width], q = grid[(m * 16 + 8) * grid_width];
        low[m] = p.scale, high[m] = q.scale;
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            uint32_t u = *(const uint32_t *)(codes + m * 16 * pitch + (w * 4 + t) * 4);
            uint32_t v = *(const uint32_t *)(codes + (m * 16 + 8) * pitch + (w * 4 + t) * 4);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                code[m][w][2 * i] = narrow<T>::minus(code_pair<T>(u >> 4 * i), p.zero);
                code[m][w][2 * i + 1] = narrow<T>::minus(code_pair<T>(v >> 4 * i), q.zero);
            }
        }
    }
#pragma unroll
    for (int j = 0; j < NT; j++) {
        float part[MT][4] = {};
        const char *row = x + (j * 8 < n ? j * 8 : 0) * x_pitch; /* tokens that are not there are not stored */
#pragma unroll
        for (int w = 0; w < WORDS; w++) {
            uint4 b = paired(*(const uint4 *)(row + (w * 4 + t) * 16));
#pragma unroll
            for (int m = 0; m < MT; m++) {
                const uint32_t *c = code[m][w];
                narrow<T>::mma(part[m], c[0], c[1], c[2], c[3], b.x, b.y);
                narrow<T>::mma(part[m], c[4], c[5], c[6], c[7], b.z, b.w);
            }
        }
#pragma unroll
        for (int m = 0; m < MT; m++) {
            sum[m][j][0] += low[m] * part[m][0];
            sum[m][j][1] += low[m] * part[m][1];
            sum[m][j][2] += high[m] * part[m][2];
            sum[m][j][3] += high[m] * part[m][3];
        }
    }
}

/* Blocks on a multiprocessor: what 16 outputs a warp need of it, two can have. */
static constexpr int blocks_beside(int mt) { return mt == 1 ? 2 : 1; }

template <typename T, int SPAN, int NT, int MT>
static __global__ void __launch_bounds__(THREADS, blocks_beside(MT)) qmatmul_tile_kernel(const __grid_constant__ tile_args a)
{
    constexpr int OUTPUTS = WARPS * MT * 16;
    extern __shared__ uint4 tile_memory[];
    char *shared = (char *)tile_memory, *ring = shared + a.at_ring;
    conveyor c = {(uint64_t *)shared, (uint64_t *)shared + STAGES_MOST, a.stages};
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, n = (int)a.x.rows;
    int block_row = blockIdx.x * OUTPUTS, row = warp * MT * 16; /* the warp's first in the block */
    int begin = blockIdx.y * a.per_split, end = begin + a.per_split < a.steps ? begin + a.per_split : a.steps;
    if (!threadIdx.x) conveyor_open(c, ASKERS, WARPS);
    __syncthreads();
    if (warp >= WARPS) {
        ask<T, SPAN, MT>(a, c, ring, block_row, begin, end);
        return;
    }
    row_grid *grid = (row_grid *)(shared + BARRIER_BYTES) + row * a.grid_width;
    int base = begin / a.span_groups, groups = (end - 1) / a.span_groups - base + 1;
    stage_grid<T, MT>(a, grid, block_row + row, base, groups, lane);
    __syncwarp();
    grid += g * a.grid_width;
    float sum[MT][NT][4] = {};
    int number = 0;
    for (int first = begin; first < end; first += a.chunk, number++) {
        int steps = end - first < a.chunk ? end - first : a.chunk;
        use_begin(c, number);
        const char *codes = ring + number % a.stages * (OUTPUTS * a.pitch + n * a.x_pitch);
        const char *x = codes + OUTPUTS * a.pitch + (g < n ? g : 0) * a.x_pitch; /* n > 8, but let nobody rely on it */
        codes += (row + g) * a.pitch;
        for (int step = 0; step < steps; step++) {
            int group = (a.span_groups == 1 ? first + step : (first + step) / a.span_groups) - base;
            multiply<T, SPAN, NT, MT>(sum, codes + step * SPAN / 2, a.pitch, x + step * SPAN * 2, a.x_pitch, grid + group,
                                      a.grid_width, n - g, t);
        }
        use_end(c, number);
    }
#pragma unroll
    for (int m = 0; m < MT; m++) {
#pragma unroll
        for (int j = 0; j < NT; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int64_t token = j * 8 + 2 * t + (e & 1), output = block_row + row + m * 16 + g + (e >> 1) * 8;
                if (token >= n || output >= a.y.cols) continue;
                if (a.partial) a.partial[(blockIdx.y * (int64_t)n + token) * a.y.cols + output] = sum[m][j][e];
                else store_float(a.y.data, token * a.y.stride + output, a.y.dtype, sum[m][j][e]);
            }
        }
    }
}

static __global__ void join_splits_kernel(wane_mat y, const float *partial, int splits)
{
    int64_t all = y.rows * y.cols;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < all; i += (int64_t)gridDim.x * blockDim.x) {
        float sum = 0;
#pragma unroll 4
        for (int s = 0; s < splits; s++) sum += partial[s * all + i];
        store_float(y.data, i / y.cols * y.stride + i % y.cols, y.dtype, sum);
    }
}

template <typename T, int SPAN, int NT, int MT> static wane_status launch(wane_dev *d, tile_args &a)
{
    constexpr int OUTPUTS = WARPS * MT * 16;
    int64_t n = a.x.rows, m = a.y.cols, blocks = tiles(m, OUTPUTS), room = (int64_t)d->scratch_bytes / (n * m * 4);
    a.steps = (int)(a.x.cols / SPAN);
    int64_t splits = d->processors * blocks_beside(MT) / blocks; /* one wave of blocks */
    int64_t shared_most = SHARED_MOST / blocks_beside(MT);
    splits = splits < room ? splits : room;
    splits = splits < 1 ? 1 : splits;
    a.per_split = (int)tiles(a.steps, splits);
    splits = tiles(a.steps, a.per_split);
    a.partial = splits > 1 ? (float *)d->scratch : NULL;
    int step_bytes = OUTPUTS * SPAN / 2 + (int)n * SPAN * 2;
    a.chunk = (int)(shared_most / 4 / step_bytes);
    a.chunk = a.chunk < 1 ? 1 : a.chunk < a.per_split ? a.chunk : a.per_split;
    a.pitch = row_pitch(a.chunk * SPAN / 2, 16);
    a.x_pitch = row_pitch(a.chunk * SPAN * 2, 64);
    a.grid_width = (a.per_split - 1) / a.span_groups + 2;
    a.grid_width += !(a.grid_width & 1); /* odd: rows start in different banks */
    a.at_ring = BARRIER_BYTES + (int)tiles((int64_t)OUTPUTS * a.grid_width * (int64_t)sizeof(row_grid), 128) * 128;
    int stage = OUTPUTS * a.pitch + (int)n * a.x_pitch;
    a.stages = (int)((shared_most - a.at_ring) / stage);
    a.stages = a.stages < STAGES_MOST ? a.stages : STAGES_MOST;
    if (a.stages < 2) return WANE_EUNSUPPORTED;
    size_t shared = (size_t)(a.at_ring + a.stages * stage);
    auto kernel = qmatmul_tile_kernel<T, SPAN, NT, MT>;
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return cuda_status(d, e);
    kernel<<<dim3((unsigned)blocks, (unsigned)splits), THREADS, shared, d->stream>>>(a);
    wane_status s = launched(d);
    if (s || splits == 1) return s;
    join_splits_kernel<<<blocks_for(d, n * m, 256), 256, 0, d->stream>>>(a.y, a.partial, (int)splits);
    return launched(d);
}

template <typename T, int SPAN> static wane_status choose(wane_dev *d, tile_args &a)
{
    if (a.x.rows <= 16) return launch<T, SPAN, 2, 1>(d, a);
    if (a.x.rows <= 32) return launch<T, SPAN, 4, 1>(d, a);
    return launch<T, SPAN, 8, 2>(d, a);
}

bool cuda_tile_can(const wane_dev *d, wane_mat x, wane_qmat q)
{
    return d->capability >= 80 && (x.dtype == WANE_BF16 || x.dtype == WANE_F16) && x.rows <= CUDA_TILE && aligned(x, 16) &&
           q.k < INT32_MAX / 8 && q.words.rows < INT32_MAX / 8 && readable_codes(q);
}

wane_status cuda_tile(wane_dev *d, wane_mat y, wane_mat x, wane_qmat q)
{
    int span = code_span(q.group);
    tile_args a = {};
    a.y = y, a.x = x, a.words = q.words, a.scale = q.scale, a.zero = q.zero;
    a.span_groups = (int)(q.group / span);
    if (x.dtype == WANE_BF16)
        return span == 128  ? choose<__nv_bfloat16, 128>(d, a)
               : span == 64 ? choose<__nv_bfloat16, 64>(d, a)
                            : choose<__nv_bfloat16, 32>(d, a);
    return span == 128 ? choose<__half, 128>(d, a) : span == 64 ? choose<__half, 64>(d, a) : choose<__half, 32>(d, a);
}
