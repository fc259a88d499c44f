/* transformer.cu - heads, embed, rmsnorm, rope, store, silu_mul, take_rows, advance. The twin of cpu/transformer.c. */
#include "kernels/compose.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256 };

/* One thread eight neighbours of a row. */
static __global__ void gather_kernel(wane_mat y, wane_mat x, const int32_t *row, int64_t row_stride, bool y_wide, bool x_wide)
{
    int64_t units = tiles(y.cols, 8), all = y.rows * units, i, unit;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        float v[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
        place_of(t, units, i, unit);
        int64_t from = row[i * row_stride];
        if (from >= 0 && from < x.rows) load_eight(v, x, from, unit * 8, x_wide); /* an id out of range reads nothing of anybody's */
        store_eight(y, i, unit * 8, v, y_wide);
    }
}

static bool is_index(wane_mat row, int64_t n)
{
    return valid(row) && row.dtype == WANE_I32 && row.cols == 1 && row.rows == n;
}

static wane_status gather(wane_dev *d, wane_mat y, wane_mat x, wane_mat row)
{
    if (!valid_float(y) || !valid_float(x) || !is_index(row, y.rows) || y.cols != x.cols) return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    int64_t units = y.rows * tiles(y.cols, 8);
    int threads = units < 8192 ? 64 : THREADS; /* little: over more processors */
    /* with this a step waits for all of the step before: what that has written, later kernels may read early */
    gather_kernel<<<blocks_for(d, units, threads), threads, 0, d->stream>>>(y, x, (const int32_t *)row.data, row.stride, by_eight(y),
                                                                          by_eight(x));
    return launched(d);
}

wane_status cuda_embed(wane_dev *d, wane_mat y, wane_mat ids, wane_mat table) { return gather(d, y, table, ids); }
wane_status cuda_take_rows(wane_dev *d, wane_mat y, wane_mat x, wane_mat row) { return gather(d, y, x, row); }

enum { NORM_THREADS = 320 }; /* of a wide row's block */

static __device__ __forceinline__ float squares(const float v[8])
{
    return ((v[0] * v[0] + v[1] * v[1]) + (v[2] * v[2] + v[3] * v[3])) + ((v[4] * v[4] + v[5] * v[5]) + (v[6] * v[6] + v[7] * v[7]));
}

static __device__ __forceinline__ void norm_unit(const wane_mat &y, const wane_mat &gain, int64_t row, int64_t unit, float v[8],
                                                 float scale)
{
    float g[8];
    load_wide(g, gain, unit * 8);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = v[i] * scale * g[i];
    store_wide(y, row * y.stride + unit * 8, v);
}

/* LANES threads a row, a part of a warp or a block, hold HELD units of eight each: a row is read once. */
template <int LANES, int HELD>
static __global__ void __launch_bounds__(NORM_THREADS) rmsnorm_kernel_held(wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    constexpr bool BLOCK = LANES > 32;
    int lane = BLOCK ? threadIdx.x : threadIdx.x % LANES, units = (int)(x.cols / 8);
    int64_t step = BLOCK ? gridDim.x : (int64_t)gridDim.x * (blockDim.x / LANES);
    int64_t first = BLOCK ? blockIdx.x : (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) / LANES;
    int64_t rounds = tiles(x.rows, step);
    next_may_start();
    prior_ended();
    for (int64_t round = 0; round < rounds; round++) { /* all lanes of a warp go along: they are summed together */
        int64_t row = first + round * step;
        bool present = row < x.rows;
        float v[HELD][8], square = 0;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            if (!present || lane + i * LANES >= units) continue;
            load_wide(v[i], x, row * x.stride + (lane + i * LANES) * 8);
            square += squares(v[i]);
        }
        if (BLOCK) {
            square = block_sum(square);
        } else {
#pragma unroll
            for (int o = LANES / 2; o; o >>= 1) square += __shfl_xor_sync(0xffffffffu, square, o);
        }
        float scale = rsqrtf(square / (float)x.cols + eps);
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (present && lane + i * LANES < units) norm_unit(y, gain, row, lane + i * LANES, v[i], scale);
    }
}

/* Any row, one block each. */
static __global__ void rmsnorm_kernel(wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        float square = 0;
        for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x) {
            float v = load_as_float(x.data, row * x.stride + c, x.dtype);
            square += v * v;
        }
        float scale = rsqrtf(block_sum(square) / (float)x.cols + eps);
        for (int64_t c = threadIdx.x; c < x.cols; c += blockDim.x)
            store_float(y.data, row * y.stride + c, y.dtype,
                        load_as_float(x.data, row * x.stride + c, x.dtype) * scale *
                            load_as_float(gain.data, c, gain.dtype));
    }
}

wane_status cuda_rmsnorm(wane_dev *d, wane_mat y, wane_mat x, wane_mat gain, float eps)
{
    if (!valid_float(y) || !valid_float(x) || !valid_float(gain) || y.rows != x.rows || y.cols != x.cols ||
        gain.cols != x.cols || gain.rows != 1)
        return WANE_EARG;
    if (!x.rows || !x.cols) return WANE_OK;
    unsigned rows = (unsigned)(x.rows < 65535 ? x.rows : 65535);
    bool wide = x.cols % 8 == 0 && by_eight(y) && by_eight(x) && by_eight(gain);
    if (!wide || x.cols > NORM_THREADS * 16)
        rmsnorm_kernel<<<rows, x.cols > 1024 ? 512 : 128, 0, d->stream>>>(y, x, gain, eps);
    else if (x.cols > 1024)
        return launch_after(d, rmsnorm_kernel_held<NORM_THREADS, 2>, rows, NORM_THREADS, 0, y, x, gain, eps);
    else if (x.cols > 128)
        return launch_after(d, rmsnorm_kernel_held<32, 4>, blocks_for(d, x.rows, THREADS / 32), THREADS, 0, y, x, gain, eps);
    else
        return launch_after(d, rmsnorm_kernel_held<16, 1>, blocks_for(d, x.rows, THREADS / 16), THREADS, 0, y, x, gain, eps);
    return launched(d);
}

enum { TURN_THREADS = 256, TURNS_MOST = 128 }; /* pairs of a head of up to 256 */

/* The sines and cosines of a token's position, to be used for all its heads. */
static __device__ __forceinline__ void put_turns(float2 *turn, float position, const float *frequency, int half, float scale)
{
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        float sine, cosine;
        sincosf(position * frequency[i], &sine, &cosine);
        turn[i] = make_float2(cosine * scale, sine * scale);
    }
}

/* Eight pairs (i, i+d/2) of a head. */
static __device__ __forceinline__ void turn_eight(float a[8], float b[8], const float2 *turn)
{
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float low = a[i] * turn[i].x - b[i] * turn[i].y;
        b[i] = b[i] * turn[i].x + a[i] * turn[i].y;
        a[i] = low;
    }
}

/* One block a token; a thread eight pairs. */
static __global__ void rope_kernel_row(wane_mat x, const int32_t *position, int64_t position_stride, const float *frequency, int half,
                                       float scale, bool wide)
{
    __shared__ float2 turn[TURNS_MOST];
    int per_head = half / 8, units = (int)(x.cols / 16);
    for (int64_t row = blockIdx.x; row < x.rows; row += gridDim.x) {
        put_turns(turn, (float)position[row * position_stride], frequency, half, scale);
        __syncthreads();
        for (int u = threadIdx.x; u < units; u += blockDim.x) {
            int at = u % per_head * 8, col = u / per_head * 2 * half + at;
            float a[8], b[8];
            load_eight(a, x, row, col, wide);
            load_eight(b, x, row, col + half, wide);
            turn_eight(a, b, turn + at);
            store_eight(x, row, col, a, wide);
            store_eight(x, row, col + half, b, wide);
        }
        __syncthreads();
    }
}

/* One thread a pair (i, i+d/2) of a head. */
static __global__ void rope_kernel(wane_mat x, const int32_t *position, int64_t position_stride, const float *frequency,
                                   int64_t half, float scale)
{
    int64_t pairs = x.cols / 2, count = x.rows * pairs;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = i / pairs, pair = i % pairs, at = pair % half;
        int64_t first = row * x.stride + pair / half * 2 * half + at;
        float sine, cosine, angle = (float)position[row * position_stride] * frequency[at];
        sincosf(angle, &sine, &cosine);
        sine *= scale, cosine *= scale;
        float a = load_as_float(x.data, first, x.dtype), b = load_as_float(x.data, first + half, x.dtype);
        store_float(x.data, first, x.dtype, a * cosine - b * sine);
        store_float(x.data, first + half, x.dtype, b * cosine + a * sine);
    }
}

wane_status cuda_rope(wane_dev *d, wane_mat x, wane_mat position, wane_mat frequency, float scale)
{
    int64_t half = frequency.cols;
    if (!valid_float(x) || !is_index(position, x.rows) || !valid_f32(frequency) || frequency.rows != 1 || half < 1 ||
        x.cols % (2 * half))
        return WANE_EARG;
    if (!x.rows) return WANE_OK;
    if (half % 8 == 0 && half <= TURNS_MOST) {
        rope_kernel_row<<<(unsigned)(x.rows < 65535 ? x.rows : 65535), TURN_THREADS, 0, d->stream>>>(
            x, (const int32_t *)position.data, position.stride, (const float *)frequency.data, (int)half, scale, by_eight(x));
        return launched(d);
    }
    rope_kernel<<<blocks_for(d, x.rows * x.cols / 2, THREADS), THREADS, 0, d->stream>>>(
        x, (const int32_t *)position.data, position.stride, (const float *)frequency.data, half, scale);
    return launched(d);
}

/* Eight elements as they lie, of a matrix whose rows start at 16 bytes; the second half is used by F32. A choice of types
 * after a load would wait for memory before the next. */
struct raw_eight {
    uint4 low, high;
};

static __device__ __forceinline__ raw_eight read_raw(const wane_mat &a, int64_t row, int64_t col)
{
    int64_t from = row * a.stride + col;
    bool full = a.dtype == WANE_F32;
    const uint4 *p = (const uint4 *)((const char *)a.data + from * (full ? 4 : 2));
    raw_eight e = {p[0], make_uint4(0, 0, 0, 0)};
    if (full) e.high = p[1];
    return e;
}

static __device__ __forceinline__ void floats_of(float v[8], const raw_eight &e, wane_dtype t)
{
    const uint32_t low[4] = {e.low.x, e.low.y, e.low.z, e.low.w}, high[4] = {e.high.x, e.high.y, e.high.z, e.high.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = t == WANE_BF16 ? __bfloat1622float2(*(const __nv_bfloat162 *)&low[i]) : __half22float2(*(const __half2 *)&low[i]);
        v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
    if (t != WANE_F32) return;
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = __uint_as_float(low[i]), v[i + 4] = __uint_as_float(high[i]);
}

enum { HEADS_THREADS = 128 };

/* A block takes HEADS_THREADS / L heads of a token: L lanes of a warp a head of 16 L columns, eight pairs each. q's heads
 * come first, then k's, then v's. All rows start at 16 bytes. */
template <int L> static __global__ void __launch_bounds__(HEADS_THREADS, 6) heads_kernel(const __grid_constant__ wane_heads h)
{
    __shared__ float2 turn[TURNS_MOST];
    constexpr int HALF = L * 8, D = 2 * HALF;
    int q_heads = (int)h.q.cols / D, k_heads = (int)h.k.cols / D, all = q_heads + 2 * k_heads;
    int head = (blockIdx.y * HEADS_THREADS + threadIdx.x) / L, at = threadIdx.x % L * 8;
    int kind = head < q_heads ? 0 : head < q_heads + k_heads ? 1 : head < all ? 2 : 3;
    int col = (head - (kind == 0 ? 0 : kind == 1 ? q_heads : q_heads + k_heads)) * D + at;
    const wane_mat &x = kind == 0 ? h.q : kind == 1 ? h.k : h.v, &gain = kind == 0 ? h.q_gain : h.k_gain;
    const wane_mat &out = kind == 0 ? h.turned : kind == 1 ? h.keys : h.values;
    bool scaled = kind < 2 && gain.data;
    next_may_start();
    prior_ended();
    raw_eight low_gain = {}, high_gain = {};
    if (scaled) low_gain = read_raw(gain, 0, at), high_gain = read_raw(gain, 0, at + HALF);
    for (int64_t token = blockIdx.x; token < h.q.rows; token += gridDim.x) {
        raw_eight low = {}, high = {};
        int64_t row = token;
        if (kind < 3) low = read_raw(x, token, col), high = read_raw(x, token, col + HALF);
        if (kind == 1 || kind == 2) row = ((const int32_t *)h.row.data)[token * h.row.stride];
        put_turns(turn, (float)((const int32_t *)h.position.data)[token * h.position.stride], (const float *)h.frequency.data, HALF,
                  1.f);
        float a[8], b[8];
        floats_of(a, low, x.dtype);
        floats_of(b, high, x.dtype);
        float square = squares(a) + squares(b);
#pragma unroll
        for (int o = L / 2; o; o >>= 1) square += __shfl_xor_sync(0xffffffffu, square, o);
        if (scaled) {
            float scale = rsqrtf(square / (float)D + h.eps), g[8];
            floats_of(g, low_gain, gain.dtype);
#pragma unroll
            for (int i = 0; i < 8; i++) a[i] *= scale * g[i];
            floats_of(g, high_gain, gain.dtype);
#pragma unroll
            for (int i = 0; i < 8; i++) b[i] *= scale * g[i];
        }
        __syncthreads(); /* the turns are there */
        if (kind < 2) turn_eight(a, b, turn + at);
        if (kind < 3 && row >= 0 && row < out.rows) {
            store_wide(out, row * out.stride + col, a);
            store_wide(out, row * out.stride + col + HALF, b);
        }
        __syncthreads();
    }
}

wane_status cuda_heads(wane_dev *d, const wane_heads *h)
{
    bool gains = (!h->q_gain.data || valid_float(h->q_gain)) && (!h->k_gain.data || valid_float(h->k_gain));
    if (!wane_heads_fit(h) || !gains || !valid_float(h->q) || !valid_float(h->k) || !valid_float(h->v) ||
        !valid_float(h->turned) || !valid_float(h->keys) || !valid_float(h->values) || !is_index(h->position, h->q.rows) ||
        !is_index(h->row, h->q.rows) || !valid_f32(h->frequency))
        return WANE_EARG;
    if (!h->q.rows) return WANE_OK;
    int64_t half = h->frequency.cols, heads = (h->q.cols + 2 * h->k.cols) / (2 * half);
    bool wide = by_eight(h->q) && by_eight(h->k) && by_eight(h->v) && by_eight(h->turned) && by_eight(h->keys) &&
                by_eight(h->values) && (!h->q_gain.data || by_eight(h->q_gain)) && (!h->k_gain.data || by_eight(h->k_gain));
    if (!wide || (half != 32 && half != 64 && half != 128)) return wane_heads_by_slots(cuda_table(), d, h);
    dim3 blocks((unsigned)(h->q.rows < 65535 ? h->q.rows : 65535), (unsigned)tiles(heads * half / 8, HEADS_THREADS));
    auto kernel = half == 32 ? heads_kernel<4> : half == 64 ? heads_kernel<8> : heads_kernel<16>;
    return launch_after(d, kernel, blocks, HEADS_THREADS, 0, *h);
}

static __global__ void store_kernel(wane_mat pool, wane_mat x, const int32_t *row, int64_t row_stride, bool pool_wide, bool x_wide)
{
    int64_t units = tiles(x.cols, 8), all = x.rows * units, i, unit;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        float v[8];
        place_of(t, units, i, unit);
        int64_t to = row[i * row_stride];
        if (to < 0 || to >= pool.rows) continue;
        load_eight(v, x, i, unit * 8, x_wide);
        store_eight(pool, to, unit * 8, v, pool_wide);
    }
}

wane_status cuda_store(wane_dev *d, wane_mat pool, wane_mat x, wane_mat row)
{
    if (!valid_float(pool) || !valid_float(x) || !is_index(row, x.rows) || pool.cols != x.cols) return WANE_EARG;
    if (!x.rows || !x.cols) return WANE_OK;
    int64_t units = x.rows * tiles(x.cols, 8);
    int threads = units < 8192 ? 64 : THREADS;
    store_kernel<<<blocks_for(d, units, threads), threads, 0, d->stream>>>(pool, x, (const int32_t *)row.data, row.stride,
                                                                         by_eight(pool), by_eight(x));
    return launched(d);
}

static __global__ void silu_mul_kernel(wane_mat y, wane_mat gate, wane_mat up, bool y_wide, bool gate_wide, bool up_wide)
{
    int64_t units = tiles(y.cols, 8), count = y.rows * units, row, unit;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x) {
        float g[8], u[8];
        place_of(i, units, row, unit);
        load_eight(g, gate, row, unit * 8, gate_wide);
        load_eight(u, up, row, unit * 8, up_wide);
#pragma unroll
        for (int j = 0; j < 8; j++) g[j] = g[j] / (1.f + expf(-g[j])) * u[j];
        store_eight(y, row, unit * 8, g, y_wide);
    }
}

wane_status cuda_silu_mul(wane_dev *d, wane_mat y, wane_mat gate, wane_mat up)
{
    if (!valid_float(y) || !valid_float(gate) || !valid_float(up) || gate.rows != y.rows || gate.cols != y.cols ||
        up.rows != y.rows || up.cols != y.cols)
        return WANE_EARG;
    if (!y.rows || !y.cols) return WANE_OK;
    silu_mul_kernel<<<blocks_for(d, y.rows * tiles(y.cols, 8), THREADS), THREADS, 0, d->stream>>>(y, gate, up, by_eight(y),
                                                                                                 by_eight(gate), by_eight(up));
    return launched(d);
}

/* One thread a text. */
static __global__ void advance_kernel(const __grid_constant__ wane_growth g)
{
    int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i >= g.found.rows) return;
    int32_t *left = (int32_t *)g.left.data + i * g.left.stride, found = ((const int32_t *)g.found.data)[i * g.found.stride];
    int32_t *row = (int32_t *)g.row.data + i * g.row.stride, to_come = *left;
    if (to_come <= 0 || to_come > g.said.cols) return;
    ((int32_t *)g.said.data)[i * g.said.stride + --to_come] = found;
    if (found < 0) to_come = 0;
    for (int64_t j = 0; g.stop.data && j < g.stop.cols; j++)
        if (found == ((const int32_t *)g.stop.data)[j]) to_come = 0;
    *left = to_come;
    if (!to_come) return;
    wane_run &run = g.runs[i];
    wane_span *end = g.spans + run.span + run.n_spans;
    if (run.n_spans && end[-1].row + end[-1].count == *row) end[-1].count++;
    else *end = wane_span{*row, 1}, run.n_spans++;
    ((int32_t *)g.ids.data)[i * g.ids.stride] = found;
    ((int32_t *)g.position.data)[i * g.position.stride]++;
    run.row = *row = ((const int32_t *)g.rows.data)[i * g.rows.stride + to_come - 1];
}

wane_status cuda_advance(wane_dev *d, const wane_growth *g)
{
    int64_t n = g->found.rows;
    if (!is_index(g->found, n) || !is_index(g->ids, n) || !is_index(g->position, n) || !is_index(g->row, n) ||
        !is_index(g->left, n) || !valid(g->said) || g->said.dtype != WANE_I32 || g->said.rows != n || !valid(g->rows) ||
        g->rows.dtype != WANE_I32 || g->rows.rows != n || g->rows.cols != g->said.cols || !g->runs || !g->spans ||
        (g->stop.data && (!valid(g->stop) || g->stop.dtype != WANE_I32 || g->stop.rows != 1)))
        return WANE_EARG;
    if (!n) return WANE_OK;
    advance_kernel<<<(unsigned)tiles(n, 64), 64, 0, d->stream>>>(*g);
    return launched(d);
}
