/* attention_many.cu - attend where runs are long: prompts, calibration texts.
 *
 * FlashAttention 2 (Dao 2023, arXiv:2307.08691) on the tensor cores: a block holds 128 rows of scores (queries times
 * the heads that share keys), walks the keys 64 at a time through two buffers in shared memory, and keeps the softmax
 * online in float32. Its weights are rounded to the type of the values before they meet them. A first small kernel
 * lists the tiles of all runs, longest first within a run, so that nothing is computed for padding. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

enum { WARPS = 4, THREADS = WARPS * 32, ROWS = 128, TALL = ROWS / WARPS / 16, KEYS = 64, WIDE = KEYS / 8, PLAN = 256 };

struct many_attention {
    wane_mat y, q, keys, values;
    wane_attention a;
    const int2 *tile; /* run, first query */
    const int *tiles;
    bool pairs; /* y takes two neighbours of T at a time */
};

/* tile (n_runs' tiles) of `queries` queries each, and how many there are. One block. */
static __global__ void plan_kernel(int2 *tile, int *count, const wane_run *runs, int n_runs, int queries)
{
    __shared__ int place[PLAN];
    int base = 0;
    for (int first = 0; first < n_runs; first += PLAN) {
        int run = first + threadIdx.x, own = run < n_runs ? (int)tiles(runs[run].count, queries) : 0;
        place[threadIdx.x] = own;
        __syncthreads();
        for (int o = 1; o < PLAN; o <<= 1) { /* sums up to and with this one */
            int v = threadIdx.x >= o ? place[threadIdx.x - o] : 0;
            __syncthreads();
            place[threadIdx.x] += v;
            __syncthreads();
        }
        int2 *to = tile + base + place[threadIdx.x] - own;
        for (int i = 0; i < own; i++) to[i] = make_int2(run, (own - 1 - i) * queries);
        base += place[PLAN - 1];
        __syncthreads();
    }
    if (!threadIdx.x) *count = base;
}

/* Rows of D numbers, in units of 16 bytes; units of eight neighbouring rows lie in different banks. */
template <int D> static __device__ __forceinline__ int unit_at(int row, int unit)
{
    return row * (D / 8) + ((unit & ~7) | ((unit ^ row) & 7));
}

template <typename T, int D>
static __device__ __forceinline__ void copy_keys(uint4 *keys, uint4 *values, const many_attention &f, key_walk &walk, int first,
                                                 int total, int column)
{
    constexpr int UNITS = D / 8, STEP = THREADS / UNITS;
    int unit = threadIdx.x % UNITS;
#pragma unroll
    for (int i = 0; i < KEYS / STEP; i++) {
        int key = threadIdx.x / UNITS + i * STEP, number = first + key;
        int64_t row = walk.at(number < total ? number : total - 1);
        copy_16(keys + unit_at<D>(key, unit), (const T *)f.keys.data + row * f.keys.stride + column + unit * 8);
        copy_16(values + unit_at<D>(key, unit), (const T *)f.values.data + row * f.values.stride + column + unit * 8);
    }
}

template <typename T, int D> struct accumulator {
    float out[TALL][D / 8][4], most[TALL][2], sum[TALL][2];
};

/* Scores of this warp's rows against 64 keys. */
template <typename T, int D>
static __device__ __forceinline__ void scores(float score[TALL][WIDE][4], const uint4 *query, const uint4 *keys, int lane)
{
#pragma unroll
    for (int m = 0; m < TALL; m++)
#pragma unroll
        for (int n = 0; n < WIDE; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) score[m][n][e] = 0;
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
        uint32_t a[TALL][4];
#pragma unroll
        for (int m = 0; m < TALL; m++) read_tiles(a[m], query + unit_at<D>(m * 16 + (lane & 15), 2 * c + (lane >> 4)));
#pragma unroll
        for (int n = 0; n < WIDE; n += 2) {
            uint32_t b[4];
            read_tiles(b, keys + unit_at<D>(n * 8 + (lane & 7) + (lane >> 4) * 8, 2 * c + (lane >> 3 & 1)));
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                narrow<T>::mma(score[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
                narrow<T>::mma(score[m][n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
            }
        }
    }
}

/* Scores become weights; what is held so far is scaled down to the new largest score. */
template <typename T, int D>
static __device__ __forceinline__ void soften(accumulator<T, D> &o, float score[TALL][WIDE][4], float scale, const int seen[TALL][2],
                                              int number, bool masked)
{
#pragma unroll
    for (int m = 0; m < TALL; m++) {
        float top[2] = {o.most[m][0], o.most[m][1]};
#pragma unroll
        for (int n = 0; n < WIDE; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                if (masked && number + n * 8 + (e & 1) >= seen[m][e >> 1]) score[m][n][e] = -INFINITY;
                top[e >> 1] = fmaxf(top[e >> 1], score[m][n][e]);
            }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
            top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
            float base = top[r] > -INFINITY ? top[r] * scale : 0.f, factor = exp2_fast(o.most[m][r] * scale - base);
            o.most[m][r] = top[r];
            o.sum[m][r] *= factor;
#pragma unroll
            for (int j = 0; j < D / 8; j++) o.out[m][j][2 * r] *= factor, o.out[m][j][2 * r + 1] *= factor;
#pragma unroll
            for (int n = 0; n < WIDE; n++) {
#pragma unroll
                for (int e = 2 * r; e < 2 * r + 2; e++) {
                    score[m][n][e] = exp2_fast(score[m][n][e] * scale - base);
                    o.sum[m][r] += score[m][n][e];
                }
            }
        }
    }
}

template <typename T, int D>
static __device__ __forceinline__ void add_values(accumulator<T, D> &o, const float score[TALL][WIDE][4], const uint4 *values, int lane)
{
#pragma unroll
    for (int c = 0; c < KEYS / 16; c++) {
        uint32_t a[TALL][4];
#pragma unroll
        for (int m = 0; m < TALL; m++) {
            const float *low = score[m][2 * c], *high = score[m][2 * c + 1];
            a[m][0] = narrow<T>::pair(low[0], low[1]);
            a[m][1] = narrow<T>::pair(low[2], low[3]);
            a[m][2] = narrow<T>::pair(high[0], high[1]);
            a[m][3] = narrow<T>::pair(high[2], high[3]);
        }
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t b[4];
            read_tiles_turned(b, values + unit_at<D>(c * 16 + (lane & 15), j + (lane >> 4)));
#pragma unroll
            for (int m = 0; m < TALL; m++) {
                narrow<T>::mma(o.out[m][j], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
                narrow<T>::mma(o.out[m][j + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
            }
        }
    }
}

template <typename T, int D>
static __global__ void __launch_bounds__(THREADS, 2) attend_many_kernel(const __grid_constant__ many_attention f)
{
    constexpr int UNITS = D / 8, TILE = KEYS * UNITS;
    extern __shared__ uint4 many_memory[]; /* queries (ROWS), then two of keys and two of values (KEYS) */
    if ((int)blockIdx.x >= *f.tiles) return;
    int2 tile = f.tile[blockIdx.x];
    const wane_run r = f.a.runs[tile.x];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int kv = blockIdx.y, group = f.a.heads / f.a.kv_heads, queries = ROWS / group, first = tile.y, column = kv * D;
    int present = r.count - first < queries ? r.count - first : queries, rows = present * group;
    int before = keys_before(f.a, r), total = before + first + present;
    uint4 *query = many_memory, *keys = query + ROWS * UNITS, *values = keys + 2 * TILE;
    for (int i = threadIdx.x; i < ROWS * UNITS; i += THREADS) {
        int row = i / UNITS, unit = i % UNITS, from = row < rows ? row : 0; /* rows beyond are not stored */
        copy_16(query + unit_at<D>(row, unit), (const T *)f.q.data + (r.query + first + from / group) * f.q.stride +
                                                   (int64_t)(kv * group + from % group) * D + unit * 8);
    }
    key_walk walk(f.a, r);
    copy_keys<T, D>(keys, values, f, walk, 0, total, column);
    copies_close();
    accumulator<T, D> o;
    int seen[TALL][2];
#pragma unroll
    for (int m = 0; m < TALL; m++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int row = (warp * TALL + m) * 16 + e * 8 + g;
            seen[m][e] = before + first + (row < rows ? row / group : 0) + 1;
            o.most[m][e] = -INFINITY;
            o.sum[m][e] = 0;
        }
#pragma unroll
        for (int j = 0; j < D / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) o.out[m][j][e] = 0;
    }
    float scale = f.a.scale * 1.44269504f; /* powers of two instead of e */
    int steps = (int)tiles(total, KEYS);
    for (int step = 0; step < steps; step++) {
        int buffer = (step & 1) * TILE;
        copies_ended<0>();
        __syncthreads();
        if (step + 1 < steps) {
            copy_keys<T, D>(keys + (TILE - buffer), values + (TILE - buffer), f, walk, (step + 1) * KEYS, total, column);
            copies_close();
        }
        float score[TALL][WIDE][4];
        scores<T, D>(score, query + warp * TALL * 16 * UNITS, keys + buffer, lane);
        soften<T, D>(o, score, scale, seen, step * KEYS + 2 * t, (step + 1) * KEYS > before + first + 1);
        add_values<T, D>(o, score, values + buffer, lane);
    }
#pragma unroll
    for (int m = 0; m < TALL; m++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float sum = o.sum[m][e];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            int row = (warp * TALL + m) * 16 + e * 8 + g;
            if (row >= rows) continue;
            int64_t to = (r.query + first + row / group) * f.y.stride + (int64_t)(kv * group + row % group) * D + 2 * t;
            float inverse = 1.f / sum;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                float low = o.out[m][j][2 * e] * inverse, high = o.out[m][j][2 * e + 1] * inverse;
                if (f.pairs) {
                    *(uint32_t *)((T *)f.y.data + to + j * 8) = narrow<T>::pair(low, high);
                } else {
                    store_float(f.y.data, to + j * 8, f.y.dtype, low);
                    store_float(f.y.data, to + j * 8 + 1, f.y.dtype, high);
                }
            }
        }
    }
}

template <typename T, int D> static wane_status launch(wane_dev *d, const many_attention &f, unsigned most)
{
    size_t shared = (size_t)(ROWS + 4 * KEYS) * D * sizeof(T);
    cudaError_t e = cudaFuncSetAttribute(attend_many_kernel<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return cuda_status(d, e);
    attend_many_kernel<T, D><<<dim3(most, (unsigned)f.a.kv_heads), THREADS, shared, d->stream>>>(f);
    return launched(d);
}

wane_status cuda_attend_many(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *a)
{
    int queries = ROWS / (a->heads / a->kv_heads);
    int64_t most = q.rows / queries + a->n_runs; /* tiles: each run may end in one that is not full */
    if (most > INT32_MAX || 256 + most * (int64_t)sizeof(int2) > (int64_t)d->scratch_bytes) return WANE_EARG;
    int2 *tile = (int2 *)(d->scratch + 256);
    int *count = (int *)d->scratch;
    plan_kernel<<<1, PLAN, 0, d->stream>>>(tile, count, a->runs, a->n_runs, queries);
    bool pairs = y.dtype == q.dtype && y.stride % 2 == 0 && (uintptr_t)y.data % 4 == 0;
    many_attention f = {y, q, keys, values, *a, tile, count, pairs};
    if (q.dtype == WANE_BF16)
        return a->head_dim == 64 ? launch<__nv_bfloat16, 64>(d, f, (unsigned)most)
                                 : launch<__nv_bfloat16, 128>(d, f, (unsigned)most);
    return a->head_dim == 64 ? launch<__half, 64>(d, f, (unsigned)most) : launch<__half, 128>(d, f, (unsigned)most);
}
