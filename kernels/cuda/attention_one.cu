/* attention_one.cu - attend for a few runs of one token: what a single text, or some, wait for.
 *
 * A block takes one run and one head of keys with all the query heads that share it, at most 8 rows of scores; each warp
 * every eighth 16 of the keys, from memory to registers. Up to some hundred keys nothing has to be joined between blocks,
 * which costs more than the keys do; more are shared out as in attention_few.cu. Keys that were there before this step
 * are asked for before the step's own are waited for (launch.cuh).
 *
 * Keys are the tensor cores' rows and queries their columns (mma.cuh): scores come out as (16 keys, 8 rows), are turned,
 * and meet the values as (16 of a head's columns, 16 keys) times (16 keys, 8 rows). Weights of the softmax are rounded to
 * the type of the values before that. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

enum { WARPS = 8, THREADS = WARPS * 32, ROWS = 8, SLICE = 16, KEYS = WARPS * SLICE, ALONE = 3 * KEYS, SPLITS_MOST = 32 };

struct one_attention {
    wane_mat y, q, keys, values;
    wane_attention a;
    float *partial; /* (q.rows, kv_heads, splits, ROWS, d + 2): weighted values, largest score, sum of weights */
    int *tickets;   /* (q.rows, kv_heads): 0 between launches */
    int splits;
};

/* What a lane holds of 16 keys: those of numbers g and g + 8, 8 columns of every 32 from 8 t on; and the values of numbers
 * 2 t, 2 t + 1 and those + 8, 8 columns of every 64 from 8 g on. */
template <int D> struct slice {
    uint4 low[D / 32], high[D / 32], value[D / 64][4];
};

/* Of 8 rows, 2 t and 2 t + 1: out[c][j] columns c*64 + 8 g + 2 j (row 2t, row 2t+1) and the next one. */
template <int D> struct held {
    float out[D / 64][4][4], most[2], sum[2];
};

template <int D> struct joined {
    float out[WARPS][ROWS][D], most[WARPS][ROWS], sum[WARPS][ROWS], weight[ROWS][SPLITS_MOST];
    int last;
};

/* Two 8x8 matrices of 16-bit numbers would be turned by four shuffles; the tensor cores' own instruction does one at once. */
static __device__ __forceinline__ uint32_t turned(uint32_t u)
{
    uint32_t v = 0;
#ifdef WANE_HAS_MMA
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(v) : "r"(u));
#endif
    return v;
}

/* row: of the pools, of this lane's of 16 keys. */
template <typename T, int D> static __device__ __forceinline__ void load(slice<D> &s, const one_attention &f, int kv, int row)
{
    int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const T *keys = (const T *)f.keys.data + (int64_t)kv * D, *values = (const T *)f.values.data + (int64_t)kv * D;
    int64_t low = __shfl_sync(0xffffffffu, row, g), high = __shfl_sync(0xffffffffu, row, g + 8);
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        s.low[c] = *(const uint4 *)(keys + low * f.keys.stride + c * 32 + t * 8);
        s.high[c] = *(const uint4 *)(keys + high * f.keys.stride + c * 32 + t * 8);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t from = __shfl_sync(0xffffffffu, row, 2 * t + (i & 1) + (i >> 1) * 8);
#pragma unroll
        for (int c = 0; c < D / 64; c++) s.value[c][i] = *(const uint4 *)(values + from * f.values.stride + c * 64 + g * 8);
    }
}

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

static __device__ __forceinline__ float over_g(float v, bool largest)
{
#pragma unroll
    for (int o = 4; o < 32; o <<= 1) {
        float w = __shfl_xor_sync(0xffffffffu, v, o);
        v = largest ? fmaxf(v, w) : v + w;
    }
    return v;
}

/* number: of the first key. seen: how many numbers rows 2t and 2t+1 see. */
template <typename T, int D>
static __device__ __forceinline__ void add(held<D> &h, const slice<D> &s, const uint4 query[D / 32], float scale, const int seen[2], int number)
{
    int g = (threadIdx.x & 31) >> 2;
    float score[2][4] = {};
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
        narrow<T>::mma(score[0], s.low[c].x, s.high[c].x, s.low[c].y, s.high[c].y, query[c].x, query[c].y);
        narrow<T>::mma(score[1], s.low[c].z, s.high[c].z, s.low[c].w, s.high[c].w, query[c].z, query[c].w);
    }
    float weight[4];
#pragma unroll
    for (int e = 0; e < 4; e++)
        weight[e] = number + g + (e >> 1) * 8 < seen[e & 1] ? (score[0][e] + score[1][e]) * scale : -INFINITY;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = fmaxf(h.most[r], over_g(fmaxf(weight[r], weight[r + 2]), true));
        float factor = h.most[r] > -INFINITY ? exp2_fast(h.most[r] - top) : 0.f;
        h.most[r] = top;
#pragma unroll
        for (int e = r; e < 4; e += 2) weight[e] = top > -INFINITY ? exp2_fast(weight[e] - top) : 0.f;
        h.sum[r] = h.sum[r] * factor + weight[r] + weight[r + 2];
#pragma unroll
        for (int c = 0; c < D / 64; c++)
#pragma unroll
            for (int j = 0; j < 4; j++) h.out[c][j][r] *= factor, h.out[c][j][r + 2] *= factor;
    }
    uint32_t b0 = turned(narrow<T>::pair(weight[0], weight[1])), b1 = turned(narrow<T>::pair(weight[2], weight[3]));
#pragma unroll
    for (int c = 0; c < D / 64; c++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t v[4] = {word_of(s.value[c][0], j), word_of(s.value[c][1], j), word_of(s.value[c][2], j), word_of(s.value[c][3], j)};
            narrow<T>::mma(h.out[c][j], __byte_perm(v[0], v[1], 0x5410), __byte_perm(v[0], v[1], 0x7632),
                           __byte_perm(v[2], v[3], 0x5410), __byte_perm(v[2], v[3], 0x7632), b0, b1);
        }
}

template <int D> static __device__ __forceinline__ void put_held(joined<D> &s, held<D> &h, int warp)
{
    int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        h.sum[r] = over_g(h.sum[r], false);
        if (!g) s.most[warp][2 * t + r] = h.most[r], s.sum[warp][2 * t + r] = h.sum[r];
#pragma unroll
        for (int c = 0; c < D / 64; c++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                *(float2 *)&s.out[warp][2 * t + r][c * 64 + g * 8 + 2 * j] = make_float2(h.out[c][j][r], h.out[c][j][r + 2]);
    }
}

template <typename T, int D>
static __global__ void __launch_bounds__(THREADS, 1) attend_one_kernel(const __grid_constant__ one_attention f)
{
    __shared__ joined<D> s;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    int kv = blockIdx.y, group = f.a.heads / f.a.kv_heads, queries = ROWS / group;
    const wane_run r = f.a.runs[blockIdx.z];
    int before = keys_before(f.a, r);
    next_may_start();
    bool waited = false;
    for (int first = 0; first < r.count; first += queries) {
        int present = r.count - first < queries ? r.count - first : queries, rows = present * group, total = before + first + present;
        int per = total <= ALONE ? ALONE : (int)tiles(tiles(total, f.splits), KEYS) * KEYS, active = (int)tiles(total, per);
        if ((int)blockIdx.x >= active) continue;
        int low = blockIdx.x * per, high = low + per < total ? low + per : total, at = low + warp * SLICE;
        key_walk walk(f.a, r);
        slice<D> keys;
        auto load_at = [&](int number) {
            int mine = number + lane % SLICE;
            load<T, D>(keys, f, kv, walk.at(mine < high ? mine : high - 1));
        };
        bool early = at + SLICE <= before; /* none of these is of this step */
        if (early) load_at(at);
        if (!waited) prior_ended();
        waited = true;
        if (!early && at < high) load_at(at);
        uint4 query[D / 32];
        int seen[2];
        int row = g < rows ? g : 0; /* results of rows beyond are not used */
        const T *p = (const T *)f.q.data + (r.query + first + row / group) * f.q.stride + (int64_t)(kv * group + row % group) * D;
#pragma unroll
        for (int c = 0; c < D / 32; c++) query[c] = *(const uint4 *)(p + c * 32 + t * 8);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            seen[i] = before + first + (2 * t + i) / group + 1;
            if (seen[i] > high) seen[i] = high;
        }
        held<D> h = {{}, {-INFINITY, -INFINITY}, {0, 0}};
        float scale = f.a.scale * 1.44269504f; /* powers of two instead of e */
        while (at < high) {
            add<T, D>(h, keys, query, scale, seen, at);
            at += KEYS;
            if (at < high) load_at(at);
        }
        put_held<D>(s, h, warp);
        __syncthreads();
        /* a thread takes one column of some rows */
        int64_t place = (int64_t)(r.query + first) * f.a.kv_heads + kv;
        float *parts = f.partial + place * f.splits * ROWS * (D + 2);
        for (int i = threadIdx.x; i < rows * D; i += THREADS) {
            int line = i / D, column = i % D;
            float top = -INFINITY, weights = 0, v = 0;
#pragma unroll
            for (int w = 0; w < WARPS; w++) top = fmaxf(top, s.most[w][line]);
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                float weight = s.most[w][line] > -INFINITY ? exp2_fast(s.most[w][line] - top) : 0.f;
                weights += weight * s.sum[w][line];
                v += weight * s.out[w][line][column];
            }
            if (active == 1) {
                int64_t to = (r.query + first + line / group) * f.y.stride + (int64_t)(kv * group + line % group) * D + column;
                store_float(f.y.data, to, f.y.dtype, v / weights);
                continue;
            }
            float *part = parts + ((int)blockIdx.x * ROWS + line) * (D + 2);
            part[column] = v;
            if (!column) part[D] = top, part[D + 1] = weights;
        }
        if (active > 1) {
            __threadfence();
            __syncthreads();
            if (!threadIdx.x) s.last = atomicAdd(f.tickets + place, 1) == active - 1;
            __syncthreads();
            if (s.last) {
                __threadfence();
                if (warp < rows) { /* a warp a row: what each part weighs */
                    const float *part = parts + (lane * ROWS + warp) * (D + 2);
                    float most = lane < active ? __ldcg(part + D) : -INFINITY, sum = lane < active ? __ldcg(part + D + 1) : 0.f;
                    float weight = exp2_fast(most - warp_max(most));
                    s.weight[warp][lane] = weight / warp_sum(weight * sum);
                }
                __syncthreads();
                for (int i = threadIdx.x; i < rows * D; i += THREADS) {
                    int line = i / D, column = i % D;
                    float v = 0;
#pragma unroll 8
                    for (int part = 0; part < active; part++) v += s.weight[line][part] * __ldcg(parts + (part * ROWS + line) * (D + 2) + column);
                    int64_t to = (r.query + first + line / group) * f.y.stride + (int64_t)(kv * group + line % group) * D + column;
                    store_float(f.y.data, to, f.y.dtype, v);
                }
                if (!threadIdx.x) f.tickets[place] = 0;
            }
        }
        __syncthreads();
    }
}

bool cuda_attend_one_can(const wane_dev *d, wane_mat q, const wane_attention *a)
{
    return q.rows == a->n_runs && a->heads / a->kv_heads <= ROWS && (int64_t)a->n_runs * a->kv_heads <= d->processors;
}

wane_status cuda_attend_one(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *a)
{
    int64_t blocks = (int64_t)a->n_runs * a->kv_heads, splits = d->processors / blocks;
    int64_t fits = (int64_t)d->scratch_bytes / (blocks * ROWS * (a->head_dim + 2) * (int64_t)sizeof(float));
    splits = splits < fits ? splits : fits;
    splits = splits < 1 ? 1 : splits < SPLITS_MOST ? splits : (int64_t)SPLITS_MOST;
    one_attention f = {y, q, keys, values, *a, (float *)d->scratch, d->tickets, (int)splits};
    dim3 grid((unsigned)splits, (unsigned)a->kv_heads, (unsigned)a->n_runs);
    if (q.dtype == WANE_BF16)
        return a->head_dim == 64 ? launch_after(d, attend_one_kernel<__nv_bfloat16, 64>, grid, THREADS, 0, f)
                                 : launch_after(d, attend_one_kernel<__nv_bfloat16, 128>, grid, THREADS, 0, f);
    return a->head_dim == 64 ? launch_after(d, attend_one_kernel<__half, 64>, grid, THREADS, 0, f)
                             : launch_after(d, attend_one_kernel<__half, 128>, grid, THREADS, 0, f);
}
