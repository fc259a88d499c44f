/* attention_few.cu - attend where runs are short: a token or a few, over long spans.
 *
 * A block takes one run, one head of keys with all the query heads that share it, and a part of the keys ("flash
 * decoding", Dao and others 2023): 16 rows of scores, the tensor cores' own height. Each of four warps takes every
 * fourth 16 of the keys, through a ring in shared memory of its own. The weights of the softmax are rounded to the type of
 * the values before they meet them. Warps are joined in shared memory, parts of the keys in the scratch by whichever block
 * ends last, both in a fixed order. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

enum { ROWS = 16, SLICE = 16, STAGES = 3 };
enum { SPLITS_MOST = 64 }; /* parts of the keys of one run */

struct few_attention {
    wane_mat y, q, keys, values;
    wane_attention a;
    float *partial; /* (q.rows * heads, splits, d + 2): weighted values, largest score, sum of weights */
    int *tickets;   /* (q.rows, kv_heads): 0 between launches */
    int splits, first_run;
};

/* Rows of a warp's stage: keys are read 64 bytes of two rows at a time, values 32 of four, each without a bank met twice. */
template <int D> struct places {
    static constexpr int KEY = D * 2 + 64, VALUE = D * 2 + 16, STAGE = SLICE * (KEY + VALUE);
};

/* After the last stage, in its place. */
template <int D, int WARPS> struct joined {
    float out[WARPS][ROWS][D + 4], most[WARPS][ROWS], sum[WARPS][ROWS], weight[ROWS][SPLITS_MOST];
    int last;
};

static __device__ __forceinline__ uint32_t word_of(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* A warp's 16 keys from number `at` on and their values, as far as they lie below high; a group of copies in any case. */
template <typename T, int D>
static __device__ __forceinline__ void ask(const few_attention &f, key_walk &walk, char *stage, int kv, int at, int high)
{
    constexpr int UNITS = D / 8, TOGETHER = 32 / UNITS; /* of 16 bytes in a row; rows that 32 lanes copy */
    int lane = threadIdx.x & 31, row = lane / UNITS, unit = lane % UNITS;
    if (at < high) {
        int number = at + lane % SLICE, key = walk.at(number < high ? number : high - 1);
        const T *keys = (const T *)f.keys.data + (int64_t)kv * D + unit * 8;
        const T *values = (const T *)f.values.data + (int64_t)kv * D + unit * 8;
        char *to = stage + unit * 16;
#pragma unroll
        for (int i = 0; i < SLICE; i += TOGETHER) {
            int64_t from = __shfl_sync(0xffffffffu, key, i + row);
            copy_16(to + (i + row) * places<D>::KEY, keys + from * f.keys.stride);
            copy_16(to + SLICE * places<D>::KEY + (i + row) * places<D>::VALUE, values + from * f.values.stride);
        }
    }
    copies_close();
}

/* What a warp holds: out[c][j] rows g and g+8, columns c*64 + 16t + j and that + 8. */
template <int D> struct held {
    float out[D / 64][8][4], most[2], sum[2];
};

/* 16 keys, the first of which is `number` less 2t. seen: how many numbers rows g and g+8 see. */
template <typename T, int D>
static __device__ __forceinline__ void add_slice(held<D> &o, const char *key, const char *value, const uint4 query[D / 32][2],
                                                 float scale, const int seen[2], int number, int g, int t)
{
    float score[2][4] = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int c = 0; c < D / 32; c++) {
            const uint4 b = *(const uint4 *)(key + (i * 8 + g) * places<D>::KEY + c * 64 + t * 16), &low = query[c][0],
                        &high = query[c][1];
            narrow<T>::mma(score[i], low.x, high.x, low.y, high.y, b.x, b.y);
            narrow<T>::mma(score[i], low.z, high.z, low.w, high.w, b.z, b.w);
        }
    }
    float top[2] = {o.most[0], o.most[1]}, factor[2];
    bool higher = false;
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            bool visible = number + i * 8 + (e & 1) < seen[e >> 1];
            score[i][e] = visible ? score[i][e] * scale : -INFINITY;
            top[e >> 1] = fmaxf(top[e >> 1], score[i][e]);
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 1));
        top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffffu, top[r], 2));
        higher |= top[r] > o.most[r];
        factor[r] = o.most[r] > -INFINITY ? exp2_fast(o.most[r] - top[r]) : 0.f;
        o.most[r] = top[r];
    }
    if (__any_sync(0xffffffffu, higher)) {
#pragma unroll
        for (int c = 0; c < D / 64; c++)
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) o.out[c][j][e] *= factor[e >> 1];
        o.sum[0] *= factor[0];
        o.sum[1] *= factor[1];
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float m = o.most[e >> 1];
            score[i][e] = m > -INFINITY ? exp2_fast(score[i][e] - m) : 0.f;
            o.sum[e >> 1] += score[i][e];
        }
    }
    uint32_t a0 = narrow<T>::pair(score[0][0], score[0][1]), a1 = narrow<T>::pair(score[0][2], score[0][3]);
    uint32_t a2 = narrow<T>::pair(score[1][0], score[1][1]), a3 = narrow<T>::pair(score[1][2], score[1][3]);
#pragma unroll
    for (int c = 0; c < D / 64; c++) {
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = *(const uint4 *)(value + (2 * t + (i & 1) + (i >> 1) * 8) * places<D>::VALUE + c * 128 + g * 16);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const uint32_t half = j & 1 ? 0x7632 : 0x5410;
            uint32_t b0 = __byte_perm(word_of(v[0], j >> 1), word_of(v[1], j >> 1), half);
            uint32_t b1 = __byte_perm(word_of(v[2], j >> 1), word_of(v[3], j >> 1), half);
            narrow<T>::mma(o.out[c][j], a0, a1, a2, a3, b0, b1);
        }
    }
}

template <int D, int WARPS>
static __device__ __forceinline__ void put_held(joined<D, WARPS> &s, held<D> &o, int warp, int g, int t)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        o.sum[i] += __shfl_xor_sync(0xffffffffu, o.sum[i], 1);
        o.sum[i] += __shfl_xor_sync(0xffffffffu, o.sum[i], 2);
        if (!t) s.most[warp][g + i * 8] = o.most[i], s.sum[warp][g + i * 8] = o.sum[i];
#pragma unroll
        for (int c = 0; c < D / 64; c++)
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int e = 0; e < 2; e++) s.out[warp][g + i * 8][c * 64 + 16 * t + 8 * e + j] = o.out[c][j][2 * i + e];
    }
}

/* A tile of a run: `rows` rows of scores from query `first` on, and the head of keys that they share. */
struct tile_of {
    int64_t query; /* of q */
    int kv, group, rows, split, active;
};

template <int D>
static __device__ __forceinline__ float *partial_of(const few_attention &f, const tile_of &o, int row, int split)
{
    return f.partial + (((o.query + row / o.group) * f.a.heads + o.kv * o.group + row % o.group) * f.splits + split) * (D + 2);
}

template <int D>
static __device__ __forceinline__ void put_result(const few_attention &f, const tile_of &o, int row, int column, float v)
{
    int64_t at = (o.query + row / o.group) * f.y.stride + (int64_t)(o.kv * o.group + row % o.group) * D + column;
    store_float(f.y.data, at, f.y.dtype, v);
}

/* The warps' results as one: y's where there is one part of the keys, else this part's. */
template <int D, int WARPS>
static __device__ void join_warps(const few_attention &f, const tile_of &o, const joined<D, WARPS> &s)
{
    for (int i = threadIdx.x; i < o.rows * D; i += WARPS * 32) {
        int row = i / D, column = i % D;
        float top = -INFINITY, weights = 0, v = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) top = fmaxf(top, s.most[w][row]);
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            float weight = s.most[w][row] > -INFINITY ? exp2_fast(s.most[w][row] - top) : 0.f;
            weights += weight * s.sum[w][row];
            v += weight * s.out[w][row][column];
        }
        if (o.active == 1) {
            put_result<D>(f, o, row, column, v / weights);
            continue;
        }
        float *p = partial_of<D>(f, o, row, o.split);
        p[column] = v;
        if (!column) p[D] = top, p[D + 1] = weights;
    }
}

/* All parts as one, by the block that came last. */
template <int D, int WARPS> static __device__ void join_parts(const few_attention &f, const tile_of &o, joined<D, WARPS> &s)
{
    int lane = threadIdx.x & 31;
    for (int row = threadIdx.x >> 5; row < o.rows; row += WARPS) { /* a warp a row: what each part weighs */
        const float *p = partial_of<D>(f, o, row, 0);
        float most[2], sum[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int part = lane + i * 32;
            most[i] = part < o.active ? __ldcg(p + part * (D + 2) + D) : -INFINITY;
            if (part < o.active) sum[i] = __ldcg(p + part * (D + 2) + D + 1);
        }
        float top = warp_max(fmaxf(most[0], most[1]));
        float low = exp2_fast(most[0] - top), high = exp2_fast(most[1] - top);
        float inverse = 1.f / warp_sum(low * sum[0] + high * sum[1]);
        s.weight[row][lane] = low * inverse;
        s.weight[row][lane + 32] = high * inverse;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < o.rows * D; i += WARPS * 32) {
        const float *p = partial_of<D>(f, o, i / D, 0) + i % D;
        float out = 0;
#pragma unroll 8
        for (int part = 0; part < o.active; part++) out += s.weight[i / D][part] * __ldcg(p + part * (D + 2));
        put_result<D>(f, o, i / D, i % D, out);
    }
}

template <typename T, int D, int WARPS>
static __global__ void __launch_bounds__(WARPS * 32, 8 / WARPS) attend_few_kernel(const __grid_constant__ few_attention f)
{
    constexpr int KEYS = WARPS * SLICE;
    extern __shared__ uint4 few_attention_memory[];
    joined<D, WARPS> &s = *(joined<D, WARPS> *)few_attention_memory;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
    char *ring = (char *)few_attention_memory + warp * STAGES * places<D>::STAGE;
    int group = f.a.heads / f.a.kv_heads, queries = ROWS / group;
    next_may_start();
    prior_ended();
    const wane_run r = f.a.runs[f.first_run + blockIdx.z];
    int before = keys_before(f.a, r);
    for (int first = 0; first < r.count; first += queries) {
        int present = r.count - first < queries ? r.count - first : queries, total = before + first + present;
        int per = (int)tiles(tiles(total, f.splits), KEYS) * KEYS;
        tile_of o = {r.query + first, (int)blockIdx.y, group, present * group, (int)blockIdx.x, (int)tiles(total, per)};
        if (o.split >= o.active) continue;
        int low = o.split * per, high = low + per < total ? low + per : total, ahead = low + warp * SLICE, stage = 0;
        key_walk walk(f.a, r);
#pragma unroll
        for (int i = 0; i < STAGES - 1; i++, ahead += KEYS) ask<T, D>(f, walk, ring + i * places<D>::STAGE, o.kv, ahead, high);
        uint4 query[D / 32][2];
        int seen[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int row = g + i * 8 < o.rows ? g + i * 8 : 0; /* results of rows beyond are not used */
            const T *p = (const T *)f.q.data + (o.query + row / group) * f.q.stride + (int64_t)(o.kv * group + row % group) * D;
#pragma unroll
            for (int j = 0; j < D / 32; j++) query[j][i] = *(const uint4 *)(p + j * 32 + t * 8);
            seen[i] = before + first + row / group + 1;
            if (seen[i] > high) seen[i] = high;
        }
        held<D> h = {{}, {-INFINITY, -INFINITY}, {0, 0}};
        float scale = f.a.scale * 1.44269504f; /* powers of two instead of e */
        for (int at = low + warp * SLICE; at < high; at += KEYS, ahead += KEYS) {
            int next = stage ? stage - 1 : STAGES - 1; /* what was used last */
            ask<T, D>(f, walk, ring + next * places<D>::STAGE, o.kv, ahead, high);
            copies_ended<STAGES - 1>();
            __syncwarp();
            const char *keys = ring + stage * places<D>::STAGE;
            add_slice<T, D>(h, keys, keys + SLICE * places<D>::KEY, query, scale, seen, at + 2 * t, g, t);
            __syncwarp();
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
        copies_ended<0>();
        __syncthreads(); /* the rings are used for joining */
        put_held(s, h, warp, g, t);
        __syncthreads();
        join_warps(f, o, s);
        if (o.active > 1) {
            int *ticket = f.tickets + o.query * f.a.kv_heads + o.kv;
            __threadfence();
            __syncthreads();
            if (!threadIdx.x) s.last = atomicAdd(ticket, 1) == o.active - 1;
            __syncthreads();
            if (s.last) {
                __threadfence();
                join_parts(f, o, s);
                if (!threadIdx.x) *ticket = 0;
            }
        }
        __syncthreads();
    }
}

template <typename T, int D, int WARPS> static wane_status launch(wane_dev *d, few_attention &f)
{
    constexpr int BYTES = WARPS * STAGES * places<D>::STAGE;
    static_assert(sizeof(joined<D, WARPS>) <= BYTES, "joining takes the place of the rings");
    for (int run = 0; run < f.a.n_runs; run += 65535) {
        int runs = f.a.n_runs - run < 65535 ? f.a.n_runs - run : 65535;
        f.first_run = run;
        dim3 grid((unsigned)f.splits, (unsigned)f.a.kv_heads, (unsigned)runs);
        wane_status s = launch_after(d, attend_few_kernel<T, D, WARPS>, grid, WARPS * 32, BYTES, f);
        if (s) return s;
    }
    return WANE_OK;
}

/* Many runs: smaller blocks, so that more of them are on their way at once. */
template <typename T, int D> static wane_status choose(wane_dev *d, few_attention &f, bool many)
{
    return many ? launch<T, D, 2>(d, f) : launch<T, D, 4>(d, f);
}

wane_status cuda_attend_few(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *a)
{
    few_attention f = {y, q, keys, values, *a, (float *)d->scratch, d->tickets, 1, 0};
    int64_t blocks = (int64_t)a->n_runs * a->kv_heads, room = (int64_t)d->processors * 2, splits = tiles(room, blocks);
    int64_t fits = (int64_t)d->scratch_bytes / (q.rows * a->heads * (a->head_dim + 2) * (int64_t)sizeof(float));
    splits = splits < fits ? splits : fits;
    splits = splits < SPLITS_MOST ? splits : (int64_t)SPLITS_MOST;
    f.splits = splits > 1 && q.rows * a->kv_heads <= CUDA_TICKETS ? (int)splits : 1;
    bool many = blocks >= d->processors;
    if (q.dtype == WANE_BF16)
        return a->head_dim == 64 ? choose<__nv_bfloat16, 64>(d, f, many) : choose<__nv_bfloat16, 128>(d, f, many);
    return a->head_dim == 64 ? choose<__half, 64>(d, f, many) : choose<__half, 128>(d, f, many);
}
