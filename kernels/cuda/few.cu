/* few.cu - products of up to 8 rows of x, bound by reading the weights: matmul, qmatmul and products send them here.
 *
 * A block takes 16 outputs at a time: one warp asks for their rows, a chunk of columns after the other (conveyor.cuh),
 * eight warps share a chunk's steps and feed the tensor cores, with x in shared memory. The first rows are asked for
 * before x is staged. Codes of four bits become exact small numbers, code - 8; scale and zero are applied in float32 to
 * the sums of a step, so nothing is rounded between code and product: y = sum_g s_g (sum (q - 8) x + (8 - z_g) sum x).
 * The warps' sums are joined in a fixed order. Before that x may go through rmsnorm; after it come bias,
 * silu(gate) * up and the residual. */
#include "kernels/cuda/few.cuh"

#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/conveyor.cuh"

enum {
    TOKENS = CUDA_FEW,
    ROWS = 16,
    WARPS = 8,
    USERS = WARPS * 32,
    THREADS = USERS + 32,
    ROW_BYTES = 1280,          /* of a chunk, at most, for 16 rows */
    STAGES_MOST = 12,
    SHARED_HALF = 112 * 1024,  /* two blocks on a multiprocessor */
    SHARED_WHOLE = 220 * 1024
};

struct few_part {
    wane_mat y, w, scale, zero, bias;
    int tiles; /* of 16 outputs */
};

struct few_args {
    few_part part[CUDA_PARTS];
    wane_mat x, gain, residual;
    float eps;
    int tiles;                      /* of all parts */
    int steps, chunk, chunks;       /* steps of SPAN columns: in a row, in a chunk; chunks of a row */
    int span_groups;                /* steps that share a scale */
    int groups;                     /* of a row */
    int stages, slots;              /* chunks on the conveyor; tiles whose scales are there */
    int x_stride;                   /* of a row of x in shared memory, in 16 bytes */
    int pitch;                      /* of a row of a chunk, in bytes */
    int scale_bytes, zero_bytes;    /* of a tile; 0: scales are not asked for but read (see raw) */
    bool raw;                       /* scales of a tile lie in one piece */
    bool x_full;                    /* x is F32 and goes through rmsnorm, which rounds it to the room's type */
    bool x_aligned, gain_like_x, gain_wide;
    int at_x, at_sum, at_part, at_scale, at_ring; /* places in shared memory, in bytes; the barriers are first */
};

/* Weights as they are: 32 columns a step, 8 a lane. */
template <typename T> struct plain {
    static constexpr int SPAN = 32, BYTES = 64;
    static constexpr bool CODES = false;
};

/* Codes of four bits, S columns a step. */
template <typename T, int S> struct nibbles {
    static constexpr int SPAN = S, BYTES = S / 2;
    static constexpr bool CODES = true;
};

template <typename T> static __device__ __forceinline__ float square_sum(uint4 v)
{
    float2 a = narrow<T>::floats(v.x), b = narrow<T>::floats(v.y), c = narrow<T>::floats(v.z), d = narrow<T>::floats(v.w);
    return a.x * a.x + a.y * a.y + b.x * b.x + b.y * b.y + c.x * c.x + c.y * c.y + d.x * d.x + d.y * d.y;
}

template <typename T> static __device__ __forceinline__ uint32_t scaled_pair(uint32_t u, float scale, float low, float high)
{
    float2 v = narrow<T>::floats(u);
    return narrow<T>::pair(v.x * scale * low, v.y * scale * high);
}

template <typename T> static __device__ __forceinline__ uint4 normed(const few_args &a, uint4 v, float scale, int unit)
{
    if (a.gain_like_x) {
        uint4 g = *(const uint4 *)((const T *)a.gain.data + unit * 8);
        float2 p = narrow<T>::floats(g.x), q = narrow<T>::floats(g.y), r = narrow<T>::floats(g.z), s = narrow<T>::floats(g.w);
        return make_uint4(scaled_pair<T>(v.x, scale, p.x, p.y), scaled_pair<T>(v.y, scale, q.x, q.y),
                          scaled_pair<T>(v.z, scale, r.x, r.y), scaled_pair<T>(v.w, scale, s.x, s.y));
    }
    float g[8];
#pragma unroll
    for (int i = 0; i < 8; i++) g[i] = load_as_float(a.gain.data, unit * 8 + i, a.gain.dtype);
    return make_uint4(scaled_pair<T>(v.x, scale, g[0], g[1]), scaled_pair<T>(v.y, scale, g[2], g[3]),
                      scaled_pair<T>(v.z, scale, g[4], g[5]), scaled_pair<T>(v.w, scale, g[6], g[7]));
}

template <typename T> static __device__ __forceinline__ float unit_square(const few_args &a, int row, int unit)
{
    if (!a.x_full) return square_sum<T>(read_unit<T>(a.x, row, unit, a.x_aligned));
    float v[8];
    load_wide(v, a.x, row * a.x.stride + unit * 8);
    return v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3] + v[4] * v[4] + v[5] * v[5] + v[6] * v[6] + v[7] * v[7];
}

/* Eight columns as the products read them. */
template <typename T> static __device__ __forceinline__ uint4 staged_unit(const few_args &a, int row, int unit, float scale)
{
    if (!a.x_full) {
        uint4 v = read_unit<T>(a.x, row, unit, a.x_aligned);
        return a.gain.data ? normed<T>(a, v, scale, unit) : v;
    }
    float v[8], g[8];
    load_wide(v, a.x, row * a.x.stride + unit * 8);
    load_eight(g, a.gain, 0, unit * 8, a.gain_wide);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= scale * g[i];
    return make_uint4(narrow<T>::pair(v[0], v[1]), narrow<T>::pair(v[2], v[3]), narrow<T>::pair(v[4], v[5]),
                      narrow<T>::pair(v[6], v[7]));
}

/* x, through rmsnorm where there is a gain, and its sums over steps. The users' threads alone. */
template <typename T, typename W> static __device__ void stage_x(const few_args &a, uint4 *x, float *sum, float *part)
{
    int units = (int)(a.x.cols / 8), n = (int)a.x.rows, lane = threadIdx.x & 31;
    if (a.gain.data) {
        for (int i = 0; i < n; i++) {
            float square = 0;
#pragma unroll 4
            for (int u = threadIdx.x; u < units; u += USERS) square += unit_square<T>(a, i, u);
            square = warp_sum(square);
            if (!lane) part[i * WARPS + (threadIdx.x >> 5)] = square;
        }
        users_sync(USERS);
    }
    for (int i = 0; i < n; i++) {
        float scale = 0;
        if (a.gain.data) {
            for (int w = 0; w < WARPS; w++) scale += part[i * WARPS + w];
            scale = rsqrtf(scale / (float)a.x.cols + a.eps);
        }
#pragma unroll 4
        for (int first = 0; first < units; first += USERS) {
            int u = first + threadIdx.x;
            uint4 v = make_uint4(0, 0, 0, 0);
            if (u < units) {
                v = staged_unit<T>(a, i, u, scale);
                x[i * a.x_stride + u] = W::CODES ? paired(v) : v;
            }
            if (W::CODES) {
                constexpr int PER_STEP = W::SPAN / 8;
                float s = neighbours_sum<PER_STEP>(unit_sum<T>(v));
                if (u < units && u % PER_STEP == 0) sum[u / PER_STEP * TOKENS + i] = s;
            }
        }
    }
    users_sync(USERS);
}

/* The part that a tile belongs to; tile becomes its number there. */
static __device__ __forceinline__ int part_of(const few_args &a, int &tile)
{
    int p = 0;
    while (p < CUDA_PARTS - 1 && tile >= a.part[p].tiles) tile -= a.part[p++].tiles;
    return p;
}

/* Everything that this block will read, in the order in which it will. */
template <typename W, int M> static __device__ void ask(const few_args &a, const conveyor &c, char *shared)
{
    int number = 0, slot = 0;
    for (int tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        int in_part = tile, p = M == 1 ? part_of(a, in_part) : 0;
        for (int i = 0; i < a.chunks; i++, number++) {
            int steps = a.steps - i * a.chunk < a.chunk ? a.steps - i * a.chunk : a.chunk, bytes = steps * W::BYTES;
            bool scales = W::CODES && a.raw && !i;
            uint64_t *full = ask_begin(c, number, M * (ROWS * bytes + (scales ? a.scale_bytes + a.zero_bytes : 0)));
            char *to = shared + a.at_ring + number % a.stages * M * ROWS * a.pitch;
#pragma unroll
            for (int j = 0; j < M; j++) {
                const few_part &part = a.part[p + j];
                int64_t item = W::CODES ? 4 : 2, most = part.y.cols - 1, first = (int64_t)in_part * ROWS;
                const char *from = (const char *)part.w.data + (int64_t)i * a.chunk * W::BYTES;
                ask_rows(full, to + j * ROWS * a.pitch, a.pitch, bytes, ROWS, [&](int row) {
                    return from + (first + row < most ? first + row : most) * part.w.stride * item;
                });
                if (!scales) continue;
                char *place = shared + a.at_scale + (slot * M + j) * (a.scale_bytes + a.zero_bytes);
                ask_rows(full, place, 0, a.scale_bytes, 1,
                         [&](int) { return (const char *)part.scale.data + (int64_t)in_part * a.scale_bytes; });
                if (a.zero_bytes)
                    ask_rows(full, place + a.scale_bytes, 0, a.zero_bytes, 1,
                             [&](int) { return (const char *)part.zero.data + (int64_t)in_part * a.zero_bytes; });
            }
            ask_end(full);
        }
        slot = slot + 1 == a.slots ? 0 : slot + 1;
    }
}

struct step_scale {
    float low, low_zero, high, high_zero; /* s and s (8 - z) of rows g and g + 8 */
};

/* From shared memory where scales are raw, else from where they are. */
static __device__ __forceinline__ step_scale scale_of(const few_args &a, const few_part &part, const char *raw, int in_part, int g,
                                                      int group)
{
    float s[2], z[2] = {8, 8};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int row = g + i * 8;
        if (a.raw) {
            s[i] = raw_at(raw, row * a.groups + group, part.scale.dtype);
            if (part.zero.data) z[i] = raw_at(raw + a.scale_bytes, row * a.groups + group, part.zero.dtype);
        } else {
            int64_t from = (int64_t)in_part * ROWS + row;
            if (from >= part.y.cols) from = part.y.cols - 1;
            s[i] = load_as_float(part.scale.data, from * part.scale.stride + group, part.scale.dtype);
            if (part.zero.data) z[i] = load_as_float(part.zero.data, from * part.zero.stride + group, part.zero.dtype);
        }
    }
    return {s[0], s[0] * (8.f - z[0]), s[1], s[1] * (8.f - z[1])};
}

/* sum += 16 rows of one step times x; even and odd products apart, so that neither waits for the other. */
template <typename T> static __device__ __forceinline__ void multiply(float sum[2][4], const char *low, const char *high, const uint4 *x, int t)
{
    uint4 u = *(const uint4 *)(low + t * 16), v = *(const uint4 *)(high + t * 16), b = x[t];
    narrow<T>::mma(sum[0], u.x, v.x, u.y, v.y, b.x, b.y);
    narrow<T>::mma(sum[1], u.z, v.z, u.w, v.w, b.z, b.w);
}

template <typename T, int S>
static __device__ __forceinline__ void multiply_codes(float sum[4], const char *low, const char *high, const uint4 *x, const float *total,
                                                      const step_scale &s, int t)
{
    float part[2][4] = {};
#pragma unroll
    for (int w = 0; w < S / 32; w++) {
        uint32_t u = *(const uint32_t *)(low + (w * 4 + t) * 4), v = *(const uint32_t *)(high + (w * 4 + t) * 4);
        uint4 b = x[w * 4 + t];
        narrow<T>::mma(part[0], code_pair<T>(u), code_pair<T>(v), code_pair<T>(u >> 4), code_pair<T>(v >> 4), b.x, b.y);
        narrow<T>::mma(part[1], code_pair<T>(u >> 8), code_pair<T>(v >> 8), code_pair<T>(u >> 12), code_pair<T>(v >> 12), b.z,
                       b.w);
    }
    float2 all = *(const float2 *)(total + 2 * t);
    sum[0] += s.low * (part[0][0] + part[1][0]) + s.low_zero * all.x;
    sum[1] += s.low * (part[0][1] + part[1][1]) + s.low_zero * all.y;
    sum[2] += s.high * (part[0][2] + part[1][2]) + s.high_zero * all.x;
    sum[3] += s.high * (part[0][3] + part[1][3]) + s.high_zero * all.y;
}

/* Outputs of one tile from the warps' sums, in their order. */
template <int M> static __device__ void finish(const few_args &a, const float *sums, int p, int in_part)
{
    const few_part &part = a.part[p];
    int i = threadIdx.x;
    int64_t token = i / ROWS, row = (int64_t)in_part * ROWS + i % ROWS;
    if (token >= a.x.rows || row >= part.y.cols) return;
    float v[M];
#pragma unroll
    for (int j = 0; j < M; j++) {
        v[j] = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) v[j] += sums[(w * M + j) * TOKENS * ROWS + i];
        const wane_mat &bias = a.part[p + j].bias;
        if (bias.data) v[j] += load_as_float(bias.data, row, bias.dtype);
    }
    float y = M == 1 ? v[0] : v[0] / (1.f + expf(-v[0])) * v[M - 1];
    if (a.residual.data) y += load_as_float(a.residual.data, token * a.residual.stride + row, a.residual.dtype);
    store_float(part.y.data, token * part.y.stride + row, part.y.dtype, y);
}

/* M 1: tiles of all parts in turn. M 2: part 0 is the gate, part 1 what it lets through. */
template <typename T, typename W, int M>
static __global__ void __launch_bounds__(THREADS, 2) few_kernel(const __grid_constant__ few_args a)
{
    extern __shared__ uint4 few_memory[];
    char *shared = (char *)few_memory;
    conveyor c = {(uint64_t *)shared, (uint64_t *)shared + STAGES_MOST, a.stages};
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    if (!threadIdx.x) conveyor_open(c, WARPS);
    __syncthreads();
    if (warp == WARPS) {
        ask<W, M>(a, c, shared);
        return;
    }
    uint4 *x = (uint4 *)(shared + a.at_x);
    float *total = (float *)(shared + a.at_sum), *sums = (float *)(shared + a.at_part);
    stage_x<T, W>(a, x, total, sums);
    x += (g < a.x.rows ? g : 0) * a.x_stride; /* sums of absent tokens are not used */
    int number = 0, slot = 0;
    for (int tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        int in_part = tile, p = M == 1 ? part_of(a, in_part) : 0;
        float sum[M][2][4] = {};
        for (int i = 0; i < a.chunks; i++, number++) {
            int before = i * a.chunk, steps = a.steps - before < a.chunk ? a.steps - before : a.chunk;
            use_begin(c, number);
            const char *ring = shared + a.at_ring + number % a.stages * M * ROWS * a.pitch + g * a.pitch;
#pragma unroll 2
            for (int step = warp; step < steps; step += WARPS) {
                const uint4 *b = x + (before + step) * (W::SPAN / 8);
#pragma unroll
                for (int j = 0; j < M; j++) {
                    const char *low = ring + j * ROWS * a.pitch + step * W::BYTES, *high = low + 8 * a.pitch;
                    if constexpr (W::CODES) {
                        int group = a.span_groups == 1 ? before + step : (before + step) / a.span_groups;
                        const char *raw = shared + a.at_scale + (slot * M + j) * (a.scale_bytes + a.zero_bytes);
                        step_scale s = scale_of(a, a.part[p + j], raw, in_part, g, group);
                        multiply_codes<T, W::SPAN>(sum[j][0], low, high, b, total + (before + step) * TOKENS, s, t);
                    } else {
                        multiply<T>(sum[j], low, high, b, t);
                    }
                }
            }
            use_end(c, number);
        }
        slot = slot + 1 == a.slots ? 0 : slot + 1;
#pragma unroll
        for (int j = 0; j < M; j++) {
            float *to = sums + (warp * M + j) * TOKENS * ROWS;
#pragma unroll
            for (int e = 0; e < 4; e++) to[(2 * t + (e & 1)) * ROWS + g + (e >> 1) * 8] = sum[j][0][e] + sum[j][1][e];
        }
        users_sync(USERS);
        if (threadIdx.x < TOKENS * ROWS) finish<M>(a, sums, p, in_part);
        sums += (sums == (float *)(shared + a.at_part) ? 1 : -1) * WARPS * M * TOKENS * ROWS; /* others still read these */
    }
}

static int up(int64_t bytes) { return (int)tiles(bytes, 128) * 128; }

/* Where everything lies, with as many stages as fit into `room`; bytes, or 0 where not even two do. */
template <typename W, int M> static size_t arrange(few_args &a, int64_t room)
{
    a.at_x = up(2 * STAGES_MOST * 8);
    a.at_sum = a.at_x + up(a.x.rows * a.x_stride * 16);
    a.at_part = a.at_sum + (W::CODES ? up((int64_t)a.steps * TOKENS * 4) : 0);
    a.at_scale = a.at_part + 2 * WARPS * M * TOKENS * ROWS * 4;
    int stage = M * ROWS * a.pitch;
    for (a.stages = STAGES_MOST; a.stages >= 2; a.stages--) {
        a.slots = 1 + (int)tiles(a.stages - 1, a.chunks); /* when a slot comes again, its chunks have left the conveyor */
        a.at_ring = a.at_scale + up((int64_t)a.slots * M * (a.scale_bytes + a.zero_bytes));
        if (a.at_ring + (int64_t)a.stages * stage <= room) return (size_t)(a.at_ring + a.stages * stage);
    }
    return 0;
}

/* Sizes that depend on the weights' kind, and the places; bytes of shared memory or 0. */
template <typename W, int M> static size_t prepare(few_args &a)
{
    int units = (int)(a.x.cols / 8), row = (int)(a.x.cols / W::SPAN) * W::BYTES;
    a.steps = (int)(a.x.cols / W::SPAN);
    a.chunk = (int)tiles(a.steps, tiles(row, ROW_BYTES / M));
    a.chunks = (int)tiles(a.steps, a.chunk);
    a.pitch = row_pitch(a.chunk * W::BYTES, W::CODES ? 16 : 64); /* codes are read by words, weights by 16 bytes */
    a.x_stride = units % 8 ? units : units + 4; /* rows of x start half the banks apart */
    size_t bytes = arrange<W, M>(a, SHARED_HALF);
    if (bytes && a.stages * M * ROWS * a.pitch >= 32 * 1024) return bytes;
    return arrange<W, M>(a, SHARED_WHOLE);
}

template <typename T, typename W, int M> static wane_status launch(wane_dev *d, few_args &a, bool *fits)
{
    size_t shared = prepare<W, M>(a);
    *fits = shared > 0;
    if (!shared) return WANE_OK;
    auto kernel = few_kernel<T, W, M>;
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e != cudaSuccess) return cuda_status(d, e);
    int most = (shared <= (size_t)SHARED_HALF ? 2 : 1) * d->processors;
    kernel<<<(unsigned)(a.tiles < most ? a.tiles : most), THREADS, shared, d->stream>>>(a);
    return launched(d);
}

template <typename T> static wane_status choose(wane_dev *d, few_args &a, int64_t group, bool gated, bool *fits)
{
    if (!group) return gated ? launch<T, plain<T>, 2>(d, a, fits) : launch<T, plain<T>, 1>(d, a, fits);
    int span = code_span(group);
    a.span_groups = (int)(group / span);
    a.groups = (int)(a.x.cols / group);
    if (span == 128) return gated ? launch<T, nibbles<T, 128>, 2>(d, a, fits) : launch<T, nibbles<T, 128>, 1>(d, a, fits);
    if (span == 64) return gated ? launch<T, nibbles<T, 64>, 2>(d, a, fits) : launch<T, nibbles<T, 64>, 1>(d, a, fits);
    return gated ? launch<T, nibbles<T, 32>, 2>(d, a, fits) : launch<T, nibbles<T, 32>, 1>(d, a, fits);
}

/* What x is when it meets the weights. */
static wane_dtype staged_type(const wane_products *p) { return p->gain.data && p->x.dtype == WANE_F32 ? p->room.dtype : p->x.dtype; }

/* Of one part: whether the kernel reads such weights. Sets the group; 0 for weights as they are. */
static bool readable(const wane_product *p, wane_dtype x, int64_t k, int64_t *group)
{
    *group = 0;
    if (p->w.data) return p->w.dtype == x && k % 32 == 0 && aligned(p->w, 16);
    *group = p->q.group;
    return readable_codes(p->q);
}

bool cuda_few_can(const wane_dev *d, const wane_products *p)
{
    int64_t group, first;
    wane_dtype type = staged_type(p);
    if (d->capability < 80 || (type != WANE_BF16 && type != WANE_F16) || p->x.cols > 32768 ||
        (p->x.dtype == WANE_F32 && !by_eight(p->x)) || !readable(&p->part[0], type, p->x.cols, &first))
        return false;
    for (int i = 1; i < p->parts; i++)
        if (!readable(&p->part[i], type, p->x.cols, &group) || group != first) return false;
    return true;
}

/* A tile's rows of a scale or zero are one piece that starts and ends at 16 bytes. */
static bool in_one_piece(wane_mat a)
{
    return !a.data || ((uintptr_t)a.data % 16 == 0 && a.stride == a.cols && a.rows % ROWS == 0);
}

static wane_mat rows_of(wane_mat a, int64_t first, int64_t rows)
{
    if (a.data) a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

static few_args arguments(const wane_products *p, int64_t at, int64_t rows)
{
    few_args a = {};
    a.x = rows_of(p->x, at, rows);
    a.gain = p->gain;
    a.eps = p->eps;
    a.residual = rows_of(p->residual, at, rows);
    a.x_full = p->x.dtype == WANE_F32;
    a.x_aligned = aligned(p->x, 16);
    a.gain_wide = p->gain.data && by_eight(p->gain);
    a.gain_like_x = p->gain.data && p->gain.dtype == p->x.dtype && (uintptr_t)p->gain.data % 16 == 0;
    a.span_groups = 1;
    a.raw = true;
    const wane_qmat &q = p->part[0].q;
    bool zero = !p->part[0].w.data && q.zero.data;
    for (int i = 0; i < p->parts; i++) {
        const wane_product *from = &p->part[i];
        few_part *to = &a.part[i];
        to->y = rows_of(from->y, at, rows);
        to->bias = from->bias;
        to->tiles = (int)tiles(from->y.cols, ROWS);
        a.tiles += p->gated && i ? 0 : to->tiles;
        if (from->w.data) {
            to->w = from->w;
            continue;
        }
        to->w = from->q.words;
        to->scale = from->q.scale;
        to->zero = from->q.zero;
        a.raw = a.raw && in_one_piece(to->scale) && in_one_piece(to->zero) && to->scale.dtype == q.scale.dtype &&
                !to->zero.data == !zero && (!zero || to->zero.dtype == q.zero.dtype);
    }
    if (a.raw && !p->part[0].w.data) {
        int64_t piece = ROWS * (q.k / q.group);
        a.scale_bytes = (int)(piece * (int64_t)wane_dtype_bytes(q.scale.dtype));
        a.zero_bytes = zero ? (int)(piece * (int64_t)wane_dtype_bytes(q.zero.dtype)) : 0;
    }
    return a;
}

wane_status cuda_few(wane_dev *d, const wane_products *p)
{
    int64_t group = p->part[0].w.data ? 0 : p->part[0].q.group, n = p->x.rows, most = n < TOKENS ? n : (int64_t)TOKENS;
    for (int64_t at = 0; at < n;) {
        int64_t rows = n - at < most ? n - at : most;
        bool fits = true;
        few_args a = arguments(p, at, rows);
        if (!a.tiles) return WANE_OK;
        wane_status s = staged_type(p) == WANE_BF16 ? choose<__nv_bfloat16>(d, a, group, p->gated, &fits)
                                                : choose<__half>(d, a, group, p->gated, &fits);
        if (s) return s;
        if (fits) at += rows;
        else if (most > 1) most = (most + 1) / 2; /* fewer rows of x leave room for the weights */
        else return WANE_EARG;
    }
    return WANE_OK;
}
