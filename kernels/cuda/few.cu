/* few.cu - products of up to 8 rows of x, bound by reading the weights: matmul, qmatmul and products send them here.
 *
 * Here are codes of four bits; few_plain.cu takes weights as they are.
 *
 * Every multiprocessor gets as many rows of the weights as every other. It takes them in units of 8 rows; what a unit
 * has of columns goes round the warps, and each lane brings its own 16 bytes through a ring in shared memory that no
 * other lane looks at: there is nothing to wait for but memory. The ring is filled before x is waited for (launch.cuh).
 *
 * The tensor cores multiply 16 rows by 8 columns of x. Up to 4 tokens, the 16 are 8 rows of weights, each in two slices
 * (the first and the second half of its columns), and the 8 are 4 tokens in the same two slices: of the products, those
 * where slices meet are used. More tokens take 16 rows and one slice.
 *
 * Codes of four bits become exact small numbers, code - 8; scale and zero are applied in float32 to the sums of a group:
 * y = sum_g s_g (sum (q - 8) x + (8 - z_g) sum x). The warps' sums are joined in a fixed order. Before that x may go
 * through rmsnorm; after it come bias, silu(gate) * up and the residual. */
#include "kernels/cuda/few_x.cuh"
#include "kernels/cuda/launch.cuh"

enum {
    TOKENS = CUDA_FEW,
    WARPS = 16,
    THREADS = WARPS * 32,
    STAGES = 4,
    STAGE_BYTES = 1024, /* of a warp: 64 bytes of 16 rows */
    RING_BYTES = WARPS * STAGES * STAGE_BYTES,
    WAVE_SUMS = 16,             /* units times tokens whose sums are joined together */
    WAVE_GRID = 24 * 1024,      /* bytes of their scales, if one unit needs no more */
    SHARED_HALF = 112 * 1024,   /* two blocks on a multiprocessor: the next launch's beside this one's */
    SHARED_WHOLE = 220 * 1024
};

struct few_args : few_x {
    few_part part[CUDA_PARTS];
    wane_mat residual;
    int rows;                /* of all parts, a gated pair's once */
    int steps;               /* of a slice; 64 bytes of each of its rows */
    int per_group, groups;   /* steps that share a scale, where a step has but one; groups of a row */
    int wave;                /* units that are joined together */
    int x_stride;            /* of a row of x in shared memory, in 16 bytes */
    int at_x, at_total, at_norm, at_sum, at_grid; /* places in shared memory, in bytes; the ring is first */
};

/* Codes of four bits, 128 columns a step, of which SPAN share a scale. */
template <int S> struct nibbles {
    static constexpr int COLUMNS = 128, SPAN = S;
};

/* Where eight columns of x lie, so that four lanes read 64 neighbouring bytes: a lane's word i meets place 4 i + t. */
template <typename W> static __device__ __forceinline__ int place_in_x(int unit)
{
    if (W::SPAN == 32) return unit;
    int u = unit % 16, first = unit - u;
    if (W::SPAN == 128) return first + u % 4 * 4 + u / 4;
    return first + (u / 8 * 2 + u % 2) * 4 + u % 8 / 2;
}

/* x, through rmsnorm where there is a gain, and its sums over SPAN columns. */
template <typename T, typename W, int SLICES> static __device__ void stage_x(const few_args &a, uint4 *x, float *total, float *norm)
{
    constexpr int WIDTH = TOKENS / SLICES;
    int units = (int)(a.x.cols / 8), n = (int)a.x.rows, lane = threadIdx.x & 31;
    if (a.gain.data) {
        for (int i = threadIdx.x >> 5; i < n; i += WARPS) {
            float square = 0;
#pragma unroll 8
            for (int u = lane; u < units; u += 32) square += unit_square<T>(a, i, u);
            square = warp_sum(square);
            if (!lane) norm[i] = rsqrtf(square / (float)a.x.cols + a.eps);
        }
        __syncthreads();
    }
#pragma unroll 2
    for (int first = 0; first < n * units; first += THREADS) {
        int at = first + threadIdx.x, i = at / units, u = at - i * units;
        uint4 v = make_uint4(0, 0, 0, 0);
        if (i < n) {
            v = staged_unit<T>(a, i, u, a.gain.data ? norm[i] : 1.f);
            x[i * a.x_stride + place_in_x<W>(u)] = paired(v);
        }
        constexpr int PER_SPAN = W::SPAN / 8;
        float s = neighbours_sum<PER_SPAN>(unit_sum<T>(v));
        if (i < n && u % PER_SPAN == 0) total[u / PER_SPAN * WIDTH + i] = s;
    }
}

/* The rows of a block: first .. last-1 of all parts' rows, one part after the other. Units do not cross parts. */
template <int UNIT> struct share {
    int first[CUDA_PARTS], last[CUDA_PARTS], units;
    __device__ __forceinline__ void open(const few_args &a)
    {
        units = 0;
        int begin = (int)((int64_t)a.rows * blockIdx.x / gridDim.x), end = (int)((int64_t)a.rows * (blockIdx.x + 1) / gridDim.x);
#pragma unroll
        for (int p = 0; p < CUDA_PARTS; p++) {
            int rows = a.part[p].rows;
            first[p] = begin > 0 ? begin : 0;
            last[p] = end < rows ? end : rows;
            if (last[p] > first[p]) units += (last[p] - first[p] + UNIT - 1) / UNIT;
            begin -= rows, end -= rows;
        }
    }
    /* The part and first row of a unit; rows: up to where its part ends. */
    __device__ __forceinline__ int find(int unit, int &row, int &end) const
    {
#pragma unroll
        for (int p = 0; p < CUDA_PARTS - 1; p++) {
            int count = last[p] > first[p] ? (last[p] - first[p] + UNIT - 1) / UNIT : 0;
            if (unit < count) {
                row = first[p] + unit * UNIT;
                end = last[p];
                return p;
            }
            unit -= count;
        }
        row = first[CUDA_PARTS - 1] + unit * UNIT;
        end = last[CUDA_PARTS - 1];
        return CUDA_PARTS - 1;
    }
};

/* A place in a block's work: step `step` of matrix `sub` (of M for each unit), as it goes round the warps. */
struct cursor {
    int sub, step;
    __device__ __forceinline__ void advance(int by, int steps)
    {
        step += by;
        while (step >= steps) step -= steps, sub++;
    }
};

/* What a lane asks for: rows g of both slices, or g and g + 8. */
template <typename W, int M, int SLICES> struct asker {
    cursor at;
    const char *low, *high;
    int stage, held; /* held: the matrix that the addresses are of */
    __device__ __forceinline__ void find(const few_args &a, const share<16 / SLICES> &s, int lane)
    {
        int g = lane >> 2, row, end, p = s.find(at.sub / M, row, end);
        if (M > 1) p = at.sub % M;
        const wane_mat &w = a.part[p].w;
        int64_t pitch = w.stride * 4;
        const char *data = (const char *)w.data + (lane & 3) * 16;
        int mine = row + g < end ? row + g : end - 1;
        low = data + mine * pitch;
        if (SLICES == 2) high = low + (int64_t)a.steps * 64;
        else high = data + (row + 8 + g < end ? row + 8 + g : end - 1) * pitch;
        held = at.sub;
    }
    /* One step, if there is one; a group of copies in any case. */
    __device__ __forceinline__ void ask(const few_args &a, const share<16 / SLICES> &s, char *own, int lane)
    {
        if (at.sub < s.units * M) {
            if (held != at.sub) find(a, s, lane);
            copy_16(own + stage * STAGE_BYTES, low + at.step * 64);
            copy_16(own + stage * STAGE_BYTES + STAGE_BYTES / 2, high + at.step * 64);
            at.advance(WARPS, a.steps);
        }
        copies_close();
        stage = stage + 1 == STAGES ? 0 : stage + 1;
    }
};

/* Scales and what a sum of x is multiplied by, s and s (8 - z), of a wave of units: (unit, matrix, row, group). */
template <int M, int UNIT> static __device__ void stage_grid(const few_args &a, const share<UNIT> &s, float2 *grid, int unit, int units)
{
    int all = units * M * UNIT * a.groups;
#pragma unroll 4
    for (int i = threadIdx.x; i < all; i += THREADS) {
        int line = i / a.groups, group = i - line * a.groups, row, end, p = s.find(unit + line / (M * UNIT), row, end);
        if (M > 1) p = line / UNIT % M;
        row += line % UNIT;
        if (row >= end) continue;
        const few_part &part = a.part[p];
        float scale = load_as_float(part.scale.data, row * part.scale.stride + group, part.scale.dtype), zero = 8;
        if (part.zero.data) zero = load_as_float(part.zero.data, row * part.zero.stride + group, part.zero.dtype);
        grid[i] = make_float2(scale, scale * (8.f - zero));
    }
}

static __device__ __forceinline__ uint32_t nth(const uint4 &v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

/* grid, total: of the group in which the step begins; of two slices, this lane's. other: what rows g + 8 have. */
/* sum += one step of a matrix. x: this lane's column of it; u, v: what it asked for. */
template <typename T, int SPAN, int SLICES>
static __device__ __forceinline__ void multiply_codes(float sum[4], uint4 u, uint4 v, const uint4 *x, const float2 *grid,
                                                      const float2 *other, const float *total, bool second)
{
    constexpr int WORDS = SPAN / 32, WIDTH = TOKENS / SLICES;
#pragma unroll
    for (int span = 0; span < 4 / WORDS; span++) {
        float part[2][4] = {};
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            uint32_t p = nth(u, span * WORDS + i), q = nth(v, span * WORDS + i);
            uint4 b = x[(span * WORDS + i) * 4];
            narrow<T>::mma(part[0], code_pair<T>(p), code_pair<T>(q), code_pair<T>(p >> 4), code_pair<T>(q >> 4), b.x, b.y);
            narrow<T>::mma(part[1], code_pair<T>(p >> 8), code_pair<T>(q >> 8), code_pair<T>(p >> 12), code_pair<T>(q >> 12), b.z,
                           b.w);
        }
        float2 s = grid[span], all = *(const float2 *)(total + span * WIDTH);
        if (SLICES == 2) {
            float a = second ? part[0][2] + part[1][2] : part[0][0] + part[1][0];
            float b = second ? part[0][3] + part[1][3] : part[0][1] + part[1][1];
            sum[0] += s.x * a + s.y * all.x;
            sum[1] += s.x * b + s.y * all.y;
        } else {
            float2 r = other[span];
            sum[0] += s.x * (part[0][0] + part[1][0]) + s.y * all.x;
            sum[1] += s.x * (part[0][1] + part[1][1]) + s.y * all.y;
            sum[2] += r.x * (part[0][2] + part[1][2]) + r.y * all.x;
            sum[3] += r.x * (part[0][3] + part[1][3]) + r.y * all.y;
        }
    }
}

/* A warp's sums of one matrix, where the others' are: (row, token). */
template <int SLICES> static __device__ __forceinline__ void put_sums(float *to, float sum[4], int n, int lane)
{
    int g = lane >> 2, t = lane & 3;
    float v[4];
#pragma unroll
    for (int e = 0; e < 4; e++) v[e] = sum[e];
    if (SLICES == 2) {
        v[0] += __shfl_xor_sync(0xffffffffu, v[0], 2);
        v[1] += __shfl_xor_sync(0xffffffffu, v[1], 2);
        if (2 * t < n && t < 2) to[g * n + 2 * t] = v[0];
        if (2 * t + 1 < n && t < 2) to[g * n + 2 * t + 1] = v[1];
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (2 * t + (e & 1) < n) to[(g + (e >> 1) * 8) * n + 2 * t + (e & 1)] = v[e];
    }
#pragma unroll
    for (int e = 0; e < 4; e++) sum[e] = 0;
}

/* One output of a wave, this thread's: where it goes. */
struct output {
    int part, row, token, unit, line;
    bool present;
    __device__ __forceinline__ float residual(const few_args &a) const
    {
        bool there = present && a.residual.data;
        return there ? load_as_float(a.residual.data, token * a.residual.stride + row, a.residual.dtype) : 0.f;
    }
};

template <int UNIT>
static __device__ __forceinline__ output output_of(const few_args &a, const share<UNIT> &s, int unit, int units)
{
    output o;
    int i = threadIdx.x, row, end;
    o.token = i / (units * UNIT);
    i -= o.token * units * UNIT;
    o.unit = i / UNIT;
    o.line = i % UNIT;
    o.part = s.find(unit + o.unit, row, end);
    o.row = row + o.line;
    o.present = o.token < a.x.rows && o.row < end;
    return o;
}

/* before: matrices of earlier waves. */
template <int M, int UNIT>
static __device__ __forceinline__ void finish(const few_args &a, const output &o, int before, const float *sums, float residual)
{
    if (!o.present) return;
    int n = (int)a.x.rows, size = UNIT * n, warps = a.steps < WARPS ? a.steps : WARPS;
    float v[M];
#pragma unroll
    for (int j = 0; j < M; j++) {
        int sub = o.unit * M + j, first = (before + sub) * a.steps % WARPS; /* the warp that took its first step */
        const float *from = sums + sub * WARPS * size + o.line * n + o.token;
        v[j] = 0;
        for (int w = 0; w < warps; w++) v[j] += from[(first + w) % WARPS * size];
        const wane_mat &bias = a.part[M > 1 ? j : o.part].bias;
        if (bias.data) v[j] += load_as_float(bias.data, o.row, bias.dtype);
    }
    float y = (M == 1 ? v[0] : v[0] / (1.f + expf(-v[0])) * v[M - 1]) + residual;
    const wane_mat &to = a.part[M > 1 ? 0 : o.part].y;
    store_float(to.data, o.token * to.stride + o.row, to.dtype, y);
}

/* M 1: rows of all parts in turn. M 2: part 0 is the gate, part 1 what it lets through. */
template <typename T, typename W, int M, int SLICES>
static __global__ void __launch_bounds__(THREADS, 2) few_kernel(const __grid_constant__ few_args a)
{
    constexpr int UNIT = 16 / SLICES, WIDTH = TOKENS / SLICES;
    extern __shared__ uint4 few_memory[];
    char *shared = (char *)few_memory;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, n = (int)a.x.rows;
    /* rows of a stage are 64 bytes; their quarters change places, so that no span's lanes meet in a bank */
    int turn = (g >> 1 & 1) * 2 | g >> 2;
    char *own = shared + warp * STAGES * STAGE_BYTES + g * 64;
    __shared__ share<UNIT> mine;
    if (!threadIdx.x) mine.open(a);
    __syncthreads();
    asker<W, M, SLICES> ahead = {{0, 0}, NULL, NULL, 0, -1};
    ahead.at.advance(warp, a.steps);
    cursor at = ahead.at;
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; i++) ahead.ask(a, mine, own + (t ^ turn) * 16, lane);
    uint4 *x = (uint4 *)(shared + a.at_x);
    float *total = (float *)(shared + a.at_total), *sums = (float *)(shared + a.at_sum), sum[4] = {};
    float2 *grid = (float2 *)(shared + a.at_grid);
    int unit = 0, units = mine.units < a.wave ? mine.units : a.wave;
    stage_grid<M, UNIT>(a, mine, grid, unit, units);
    next_may_start();
    prior_ended();
    stage_x<T, W, SLICES>(a, x, total, (float *)(shared + a.at_norm));
    __syncthreads();
    int token = SLICES == 2 ? g & 3 : g, slice = SLICES == 2 ? g >> 2 : 0;
    x += (token < n ? token : 0) * a.x_stride + slice * a.steps * (W::COLUMNS / 8) + t;
    bool second = SLICES == 2 && t >= 2;
    total += (second ? a.steps * (W::COLUMNS / W::SPAN) * WIDTH : 0) + (SLICES == 2 ? t & 1 : t) * 2;
    int stage = 0;
    for (;;) {
        int before = unit * M;
        float residual = output_of<UNIT>(a, mine, unit, units).residual(a);
        while (at.sub < before + units * M) {
            int sub = at.sub;
            ahead.ask(a, mine, own + (t ^ turn) * 16, lane);
            copies_ended<STAGES - 1>();
            if (W::SPAN < 128) __syncwarp();
            const char *low = own + stage * STAGE_BYTES, *high = low + STAGE_BYTES / 2;
            uint4 u, v;
            if (W::SPAN == 128) {
                u = *(const uint4 *)(low + (t ^ turn) * 16);
                v = *(const uint4 *)(high + (t ^ turn) * 16);
            } else if (W::SPAN == 64) {
                int first = (t >> 1 ^ turn) * 16 + (t & 1) * 8, next = ((2 + (t >> 1)) ^ turn) * 16 + (t & 1) * 8;
                uint2 p = *(const uint2 *)(low + first), q = *(const uint2 *)(low + next);
                u = make_uint4(p.x, p.y, q.x, q.y);
                p = *(const uint2 *)(high + first), q = *(const uint2 *)(high + next);
                v = make_uint4(p.x, p.y, q.x, q.y);
            } else {
                const uint32_t *p = (const uint32_t *)low + t, *q = (const uint32_t *)high + t;
                u = make_uint4(p[(0 ^ turn) * 4], p[(1 ^ turn) * 4], p[(2 ^ turn) * 4], p[(3 ^ turn) * 4]);
                v = make_uint4(q[(0 ^ turn) * 4], q[(1 ^ turn) * 4], q[(2 ^ turn) * 4], q[(3 ^ turn) * 4]);
            }
            int group = at.step + (second ? a.steps : 0);
            if (W::SPAN < 128) group *= 128 / W::SPAN;
            else if (a.per_group > 1) group /= a.per_group;
            const float2 *scales = grid + ((sub - before) * UNIT + g) * a.groups + group;
            multiply_codes<T, W::SPAN, SLICES>(sum, u, v, x + at.step * 16, scales, scales + 8 * a.groups,
                                               total + at.step * (W::COLUMNS / W::SPAN) * WIDTH, second);
            if (W::SPAN < 128) __syncwarp(); /* the place is asked for again */
            stage = stage + 1 == STAGES ? 0 : stage + 1;
            at.advance(WARPS, a.steps);
            if (at.sub != sub) put_sums<SLICES>(sums + ((sub - before) * WARPS + warp) * UNIT * n, sum, n, lane);
        }
        __syncthreads();
        finish<M, UNIT>(a, output_of<UNIT>(a, mine, unit, units), before, sums, residual);
        unit += units;
        if (unit >= mine.units) break;
        units = mine.units - unit < a.wave ? mine.units - unit : a.wave;
        stage_grid<M, UNIT>(a, mine, grid, unit, units);
        __syncthreads();
    }
}

static int up(int64_t bytes) { return (int)tiles(bytes, 128) * 128; }

/* Sizes that depend on the weights' kind, and where everything lies; bytes of shared memory. */
template <typename W, int M, int SLICES> static int64_t arrange(few_args &a)
{
    constexpr int UNIT = 16 / SLICES, WIDTH = TOKENS / SLICES;
    int n = (int)a.x.rows, units = (int)(a.x.cols / 8);
    a.steps = (int)(a.x.cols / (W::COLUMNS * SLICES));
    a.x_stride = units % 8 ? units : units + 4; /* rows of x start half the banks apart */
    int64_t unit_grid = (int64_t)M * UNIT * a.groups * (int64_t)sizeof(float2);
    a.wave = WAVE_SUMS / SLICES * 2 / n;
    if (a.wave > WAVE_GRID / unit_grid) a.wave = (int)(WAVE_GRID / unit_grid);
    if (a.wave < 1) a.wave = 1;
    int64_t most = tiles(a.rows, UNIT) + CUDA_PARTS;
    if (a.wave > most) a.wave = (int)most;
    a.at_x = RING_BYTES;
    a.at_total = a.at_x + up((int64_t)n * a.x_stride * 16);
    a.at_norm = a.at_total + up(a.x.cols / W::SPAN * WIDTH * 4);
    a.at_sum = a.at_norm + up(TOKENS * 4);
    a.at_grid = a.at_sum + up((int64_t)a.wave * M * WARPS * UNIT * n * 4);
    return a.at_grid + a.wave * unit_grid;
}

template <typename T, typename W, int M, int SLICES> static wane_status launch(wane_dev *d, few_args &a, bool *fits)
{
    static_assert(WAVE_SUMS * 16 <= THREADS, "an output a thread");
    int64_t shared = arrange<W, M, SLICES>(a);
    *fits = shared <= SHARED_WHOLE;
    if (!*fits) return WANE_OK;
    auto kernel = few_kernel<T, W, M, SLICES>;
    int64_t most = tiles(a.rows, 4);
    return launch_after(d, kernel, dim3((unsigned)(most < d->processors ? most : d->processors)), THREADS, (size_t)shared, a);
}

template <typename T, typename W, int M> static wane_status slices(wane_dev *d, few_args &a, bool *fits)
{
    bool two = a.x.rows <= TOKENS / 2 && a.x.cols % (2 * W::COLUMNS) == 0;
    return two ? launch<T, W, M, 2>(d, a, fits) : launch<T, W, M, 1>(d, a, fits);
}

template <typename T> static wane_status choose(wane_dev *d, few_args &a, int64_t group, bool gated, bool *fits)
{
    int span = code_span(group);
    a.per_group = (int)(group / span);
    a.groups = (int)(a.x.cols / group);
    if (span == 128) return gated ? slices<T, nibbles<128>, 2>(d, a, fits) : slices<T, nibbles<128>, 1>(d, a, fits);
    if (span == 64) return gated ? slices<T, nibbles<64>, 2>(d, a, fits) : slices<T, nibbles<64>, 1>(d, a, fits);
    return gated ? slices<T, nibbles<32>, 2>(d, a, fits) : slices<T, nibbles<32>, 1>(d, a, fits);
}

/* Of one part: whether the kernel reads such weights. Sets the group; 0 for weights as they are. */
static bool readable(const wane_product *p, wane_dtype x, int64_t k, int64_t *group)
{
    *group = 0;
    if (p->w.data) return p->w.dtype == x && k % 32 == 0 && aligned(p->w, 16);
    *group = p->q.group;
    return k % 128 == 0 && readable_codes(p->q) && (p->q.group % 128 == 0 || p->q.group <= 64);
}

bool cuda_few_can(const wane_dev *d, const wane_products *p)
{
    int64_t group, first, rows = 0;
    wane_dtype type = few_type(p);
    if (d->capability < 80 || (type != WANE_BF16 && type != WANE_F16) || p->x.cols > 32768 ||
        (p->x.dtype == WANE_F32 && !by_eight(p->x)) || !readable(&p->part[0], type, p->x.cols, &first) ||
        (first && 32 * p->x.cols / first * 8 > SHARED_WHOLE / 2))
        return false;
    for (int i = 0; i < p->parts; i++) {
        if (!readable(&p->part[i], type, p->x.cols, &group) || group != first) return false;
        rows += p->part[i].y.cols;
    }
    return rows < INT32_MAX;
}

static few_args arguments(const wane_products *p, int64_t at, int64_t rows)
{
    few_args a = {};
    (few_x &)a = few_x_of(p, at, rows);
    a.residual = few_rows(p->residual, at, rows);
    for (int i = 0; i < p->parts; i++) {
        const wane_product *from = &p->part[i];
        a.part[i] = few_part{few_rows(from->y, at, rows), from->q.words, from->q.scale, from->q.zero, from->bias,
                             p->gated && i ? 0 : (int)from->y.cols};
        a.rows += a.part[i].rows;
    }
    return a;
}

static wane_status codes(wane_dev *d, const wane_products *p, int64_t at, int64_t rows, bool *fits)
{
    few_args a = arguments(p, at, rows);
    if (!a.rows) return WANE_OK;
    int64_t group = p->part[0].q.group;
    return few_type(p) == WANE_BF16 ? choose<__nv_bfloat16>(d, a, group, p->gated, fits)
                                       : choose<__half>(d, a, group, p->gated, fits);
}

wane_status cuda_few(wane_dev *d, const wane_products *p)
{
    int64_t n = p->x.rows, most = n < TOKENS ? n : (int64_t)TOKENS;
    for (int64_t at = 0; at < n;) {
        int64_t rows = n - at < most ? n - at : most;
        bool fits = true;
        wane_status s = p->part[0].w.data ? cuda_few_plain(d, p, at, rows, &fits) : codes(d, p, at, rows, &fits);
        if (s) return s;
        if (fits) at += rows;
        else if (most > 1) most = (most + 1) / 2; /* fewer rows of x leave room for the weights */
        else return WANE_EARG;
    }
    return WANE_OK;
}
