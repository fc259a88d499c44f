/* few_lines.cuh - products of up to 8 rows of x, bound by reading the weights: the kernel of few_plain.cu and few_codes.cu.
 *
 * A line is an output's row of weights; of a gated pair, lines of the gate and of what it lets through take turns. Every
 * block gets as many lines as every other. A warp's item is a unit of lines by a chunk of columns, some two kilobytes;
 * items go round the warps. Each lane brings its own 16 bytes through a ring in shared memory that no other lane looks
 * at: nothing is waited for but memory. The ring is filled before x is waited for (launch.cuh), and half of a
 * multiprocessor is left to the next launch's. Items' sums meet in shared memory and are added in the order of their
 * columns, whatever the number of blocks. After them come bias, silu(gate) * up and the residual.
 *
 * The tensor cores multiply 16 rows by 8 columns of x (mma.cuh). Up to 4 tokens (SLICES 2), the 16 are 8 lines, each in
 * the two halves of a chunk, and the 8 are 4 tokens in the same halves: of the products, those where halves meet are
 * used. More tokens (SLICES 1) take 16 lines.
 *
 * W says what weights are: T, their number type; COLUMNS of a step, 64 bytes of a line; STEPS of an item's line and
 * half; RING, the items of a warp on their way; how a lane asks for what it needs of them, and uses it. */
#ifndef WANE_CUDA_FEW_LINES_CUH
#define WANE_CUDA_FEW_LINES_CUH

#include "kernels/cuda/few.cuh"
#include "kernels/cuda/few_x.cuh"
#include "kernels/cuda/launch.cuh"

enum {
    LINES_TOKENS = CUDA_FEW,
    LINES_WARPS = 16,
    LINES_THREADS = LINES_WARPS * 32,
    LINES_BESIDE = 2,           /* blocks on a multiprocessor, one of them the next launch's */
    LINES_SUMS = 24 * 1024,     /* bytes of the sums that are joined together, if one unit needs no more */
    LINES_SHARED = 220 * 1024
};

struct lines_part {
    const char *w, *scale, *zero;              /* where line 0 of all parts' would lie; zero NULL: the middle */
    int w_pitch, scale_pitch, zero_pitch, end; /* bytes of a line; the lines of this part and those before it */
    wane_mat y, bias;
};

struct lines_args : few_x {
    lines_part part[CUDA_PARTS];
    wane_mat residual;
    int each, more;         /* outputs of a block; blocks that have one more */
    int steps, chunks;      /* of a line; a chunk is SLICES * STEPS steps */
    int down, right;        /* units and chunks from a warp's item to its next */
    int wave;               /* units whose sums are joined together */
    int per_group;          /* steps that share a scale, where a step has but one */
    int scale_words, zero_words;   /* of a line in an item: codes */
    bool half_scale, full_scale, full_zero, zeros;
    int stage;                     /* bytes of an item */
    int at_x, at_total, at_norm, at_sum; /* places in shared memory, in bytes; the rings are first */
};

/* BYTES (4, 8 or 16) to shared memory behind the program's back, or as many zeros; see copies_ended. */
template <int BYTES> static __device__ __forceinline__ void copy_if(char *shared, const char *global, bool there)
{
#ifdef WANE_HAS_MMA
    int read = there ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(read)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(read), "n"(BYTES)
                     : "memory");
#endif
}

/* A float of any type as it lies, to be turned into a number later. */
static __device__ __forceinline__ uint32_t raw_float(const wane_mat &a, int64_t i)
{
    return a.dtype == WANE_F32 ? ((const uint32_t *)a.data)[i] : ((const uint16_t *)a.data)[i];
}

static __device__ __forceinline__ float float_of(uint32_t raw, wane_dtype t)
{
    if (t == WANE_F32) return __uint_as_float(raw);
    return t == WANE_BF16 ? __uint_as_float(raw << 16) : __half2float(__ushort_as_half((unsigned short)raw));
}

/* A place in a block's work: the unit and chunk of a warp's item. */
struct lines_at {
    int unit, chunk;
    __device__ __forceinline__ void open(const lines_args &a, int warp)
    {
        unit = 0, chunk = warp;
        while (chunk >= a.chunks) chunk -= a.chunks, unit++;
    }
    __device__ __forceinline__ void advance(const lines_args &a)
    {
        unit += a.down, chunk += a.right;
        if (chunk >= a.chunks) chunk -= a.chunks, unit++;
    }
};

/* The part of a line of a block's; line becomes its number among all parts' or, of a gated pair, in its part. */
template <int M> static __device__ __forceinline__ int lines_part_of(const lines_args &a, int &line)
{
    if (M == 1) return (line >= a.part[0].end) + (line >= a.part[1].end);
    int p = line & 1;
    line >>= 1;
    return p;
}

/* A lane's i-th line of an item, and its part; lines beyond the block's last are its last again. */
template <int M, int SLICES>
static __device__ __forceinline__ const lines_part &lines_line(const lines_args &a, const lines_at &at, int i, int begin, int count, int &line)
{
    int number = at.unit * (16 / SLICES) + (threadIdx.x & 31) / 4 + 8 * i;
    line = begin + (number < count ? number : count - 1);
    int p = lines_part_of<M>(a, line);
    return a.part[p];
}

/* All of a warp's lanes ask for what they need of an item. own: this lane's place in it, where 16 bytes of each step,
 * low and high, lie 512 apart. A group of copies in any case. */
template <typename W, int M, int SLICES>
static __device__ __forceinline__ void lines_ask(char *own, const lines_args &a, const lines_at &at, int begin, int count)
{
    constexpr int UNIT = 16 / SLICES, STEPS = W::STEPS, LINES = 3 - SLICES;
    int lane = threadIdx.x & 31, t = lane & 3, step = at.chunk * SLICES * STEPS;
    if (at.unit * UNIT < count) {
#pragma unroll
        for (int i = 0; i < LINES; i++) {
            int line;
            const lines_part &part = lines_line<M, SLICES>(a, at, i, begin, count, line);
            const char *w = part.w + (int64_t)line * part.w_pitch + step * 64;
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                W::copy(own + (i * STEPS + s) * 512, w + s * 64, t, step + s < a.steps);
                if (SLICES == 2) W::copy(own + (STEPS + s) * 512, w + (STEPS + s) * 64, t, step + STEPS + s < a.steps);
            }
            int first = step + (SLICES == 2 && t >= 2 ? STEPS : 0);
            W::copy_grid(own + 2 * STEPS * 512 - lane * 12, i, a, part, line, first);
        }
    }
    copies_close();
}

/* What is left to do for an output when its sums are there: by one thread, which knows it before they are. */
struct lines_output {
    int token, line, part, row; /* line: of the wave, in outputs */
    uint32_t residual;
    bool present;
};

template <int M, int UNIT>
static __device__ __forceinline__ lines_output lines_output_of(const lines_args &a, int begin, int count, int first, int wave)
{
    lines_output o;
    int outputs = wave * UNIT / M, before = first * UNIT / M;
    o.token = threadIdx.x / outputs, o.line = threadIdx.x - o.token * outputs;
    o.row = begin / M + before + o.line;
    o.present = o.token < (int)a.x.rows && before + o.line < count / M;
    o.part = M == 1 ? lines_part_of<1>(a, o.row) : 0;
    if (o.part) o.row -= a.part[o.part - 1].end;
    o.residual = o.present && a.residual.data ? raw_float(a.residual, o.token * a.residual.stride + o.row) : 0;
    return o;
}

template <typename T, int M, int UNIT>
static __device__ __forceinline__ void lines_put(const lines_args &a, const lines_output &o, const float *sums)
{
    if (!o.present) return;
    int n = (int)a.x.rows;
    float v[M];
#pragma unroll
    for (int j = 0; j < M; j++) {
        int line = o.line * M + j;
        const float *from = sums + (line / UNIT * a.chunks * n + o.token) * UNIT + line % UNIT;
        v[j] = 0;
#pragma unroll 4
        for (int c = 0; c < a.chunks; c++) v[j] += from[c * n * UNIT];
        const wane_mat &bias = a.part[M > 1 ? j : o.part].bias;
        if (bias.data) v[j] += float_of(raw_float(bias, o.row), bias.dtype);
    }
    float y = M == 1 ? v[0] : v[0] / (1.f + expf(-v[0])) * v[M - 1];
    if (a.residual.data) y += float_of(o.residual, a.residual.dtype);
    const wane_mat &to = a.part[o.part].y;
    store_float(to.data, o.token * to.stride + o.row, to.dtype, y);
}

/* M 1: lines of all parts in turn. M 2: part 0 is the gate, part 1 what it lets through. */
template <typename W, int M, int SLICES>
static __global__ void __launch_bounds__(LINES_THREADS, LINES_BESIDE) lines_kernel(const __grid_constant__ lines_args a)
{
    constexpr int UNIT = 16 / SLICES, WIDTH = LINES_TOKENS / SLICES, STEPS = W::STEPS, UNITS = W::COLUMNS / 8;
    extern __shared__ uint4 lines_memory[];
    char *shared = (char *)lines_memory;
    uint4 *x = (uint4 *)(shared + a.at_x);
    float *total = (float *)(shared + a.at_total), *norm = (float *)(shared + a.at_norm), *sums = (float *)(shared + a.at_sum);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, n = (int)a.x.rows, block = blockIdx.x;
    int begin = (block * a.each + (block < a.more ? block : a.more)) * M, count = (a.each + (block < a.more)) * M;
    int units = (count + UNIT - 1) / UNIT;
    char *own = shared + warp * W::RING * a.stage + lane * 16;
    lines_at ask, use;
    ask.open(a, warp);
    use = ask;
#pragma unroll
    for (int i = 0; i < W::RING; i++) {
        lines_ask<W, M, SLICES>(own + i * a.stage, a, ask, begin, count);
        ask.advance(a);
    }
    expect_gain(a);
    next_may_start();
    prior_ended();
    stage_x<W, LINES_WARPS, WIDTH>(a, x, total, norm);
    int token = SLICES == 2 ? g & 3 : g, slice = SLICES == 2 ? g >> 2 : 0;
    bool second = SLICES == 2 && t >= 2;
    x += (token < n ? token : 0) * a.stride + slice * STEPS * UNITS + t; /* sums of absent tokens are not used */
    if constexpr (W::CODES) total += (second ? STEPS * (W::COLUMNS / W::SPAN) * WIDTH : 0) + (SLICES == 2 ? t & 1 : t) * 2;
    int stage = 0;
    for (int first = 0; first < units; first += a.wave) {
        int wave = units - first < a.wave ? units - first : a.wave;
        lines_output o = lines_output_of<M, UNIT>(a, begin, count, first, wave);
        while (use.unit < first + wave) {
            float v[4] = {};
            char *item = own + stage * a.stage;
            copies_ended<W::RING - 1>();
            W::template use<M>(v, item, a, x + use.chunk * SLICES * STEPS * UNITS, total, use, begin, count, second);
            lines_ask<W, M, SLICES>(item, a, ask, begin, count);
            ask.advance(a);
            stage = stage + 1 == W::RING ? 0 : stage + 1;
            float *to = sums + (((use.unit - first) * a.chunks + use.chunk) * n + 2 * t) * UNIT + g;
            if (SLICES == 2) {
                v[0] += __shfl_xor_sync(0xffffffffu, v[0], 2);
                v[1] += __shfl_xor_sync(0xffffffffu, v[1], 2);
            }
            if (2 * t < n) {
                to[0] = v[0];
                if (SLICES == 1) to[8] = v[2];
            }
            if (2 * t + 1 < n) {
                to[UNIT] = v[1];
                if (SLICES == 1) to[UNIT + 8] = v[3];
            }
            use.advance(a);
        }
        __syncthreads();
        lines_put<typename W::T, M, UNIT>(a, o, sums);
        if (first + wave < units) __syncthreads();
    }
}

/* ---- host */

static inline wane_mat few_rows(wane_mat a, int64_t first, int64_t rows)
{
    if (a.data) a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

/* What x is when it meets the weights. */
static inline wane_dtype few_type(const wane_products *p)
{
    return p->gain.data && p->x.dtype == WANE_F32 ? p->room.dtype : p->x.dtype;
}

/* A line's place and pitch where the part has `before` lines before it. */
static inline const char *lines_data(wane_mat m, int64_t before, int *pitch)
{
    *pitch = (int)(m.stride * (int64_t)wane_dtype_bytes(m.dtype));
    return m.data ? (const char *)m.data - before * *pitch : NULL;
}

/* few_plain.cu, few_codes.cu. fits: whether there was room for so many rows of x. */
wane_status cuda_few_plain(wane_dev *, const wane_products *, const lines_args *, bool *fits);
wane_status cuda_few_codes(wane_dev *, const wane_products *, const lines_args *, bool *fits);

/* Everything but what W says. Rows at .. at+rows-1 of x. */
static inline lines_args lines_of(const wane_products *p, int64_t at, int64_t rows)
{
    lines_args a = {};
    a.x = few_rows(p->x, at, rows);
    a.gain = p->gain;
    a.eps = p->eps;
    a.x_full = p->x.dtype == WANE_F32;
    a.gain_full = p->gain.dtype == WANE_F32;
    a.residual = few_rows(p->residual, at, rows);
    int64_t outputs = 0;
    for (int i = 0; i < CUDA_PARTS; i++) {
        lines_part *to = &a.part[i];
        to->end = INT32_MAX;
        if (i >= p->parts) continue;
        const wane_product *from = &p->part[i];
        int64_t before = p->gated ? 0 : outputs;
        to->y = few_rows(from->y, at, rows);
        to->bias = from->bias;
        to->w = lines_data(from->w.data ? from->w : from->q.words, before, &to->w_pitch);
        if (!from->w.data) {
            to->scale = lines_data(from->q.scale, before, &to->scale_pitch);
            to->zero = lines_data(from->q.zero, before, &to->zero_pitch);
            a.half_scale = from->q.scale.dtype == WANE_F16;
            a.full_scale = from->q.scale.dtype == WANE_F32;
            a.zeros = a.zeros || from->q.zero.data;
            a.full_zero = a.full_zero || (from->q.zero.data && from->q.zero.dtype == WANE_F32);
        }
        outputs = before + from->y.cols;
        if (i + 1 < p->parts) to->end = (int)outputs;
    }
    a.each = (int)outputs; /* of all; lines_launch divides */
    return a;
}

template <typename W, int M, int SLICES> static wane_status lines_launch(wane_dev *d, lines_args a, bool *fits)
{
    constexpr int UNIT = 16 / SLICES;
    int64_t n = a.x.rows, outputs = a.each, most = tiles(outputs * M, 8), blocks = most < d->processors ? most : d->processors;
    if (!blocks) return WANE_OK;
    a.each = (int)(outputs / blocks), a.more = (int)(outputs % blocks);
    a.steps = (int)(a.x.cols / W::COLUMNS);
    a.chunks = (int)tiles(a.steps, SLICES * W::STEPS);
    a.down = LINES_WARPS / a.chunks, a.right = LINES_WARPS % a.chunks;
    a.units = a.chunks * SLICES * W::STEPS * (W::COLUMNS / 8);
    a.stride = a.units % 8 ? a.units : a.units + 4; /* rows of x start half the banks apart */
    int64_t unit_bytes = (int64_t)a.chunks * n * UNIT * 4, units = tiles((int64_t)(a.each + 1) * M, UNIT);
    int64_t wave = LINES_THREADS * M / UNIT / n;
    if (wave > LINES_SUMS / unit_bytes) wave = LINES_SUMS / unit_bytes;
    a.wave = (int)(wave < 1 ? 1 : wave < units ? wave : units);
    a.stage = 2 * W::STEPS * 512 + (a.scale_words + a.zero_words) * 128 * (3 - SLICES);
    a.at_x = LINES_WARPS * W::RING * a.stage;
    a.at_total = a.at_x + (int)n * a.stride * 16;
    a.at_norm = a.at_total + (W::CODES ? a.units * 8 / W::SPAN * (LINES_TOKENS / SLICES) * 4 : 0);
    a.at_sum = a.at_norm + LINES_WARPS * 4;
    int64_t shared = a.at_sum + a.wave * unit_bytes;
    *fits = shared <= LINES_SHARED;
    if (!*fits) return WANE_OK;
    return launch_after(d, lines_kernel<W, M, SLICES>, dim3((unsigned)blocks), LINES_THREADS, (size_t)shared, a);
}

#endif
