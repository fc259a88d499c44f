/* qmatmul_tile.cu - products with codes of four bits for more rows of x than few.cu takes and fewer than make decoding to
 * scratch pay: qmatmul and products send them here.
 *
 * The work is cut into units of ROWS outputs and 128 columns, numbered tile by tile, and every block takes as many
 * neighbouring units as every other. Codes and x go through a ring in shared memory, which is filled with codes before x is
 * waited for (launch.cuh). A warp owns 32 outputs and meets all tokens: codes become code - zero in registers once, rounded
 * to x's type where the zero is no integer; scales are applied in float32 to the sums of a group.
 *
 * Where several blocks share a tile, each leaves its sums in the scratch, waits for the others, and joins its part of the
 * tile's outputs, in the order of the columns. That needs all blocks on the device at once: the launcher asks whether they
 * fit. After that come bias, silu(gate) * up and the residual. */
#include "kernels/compose.h"
#include "kernels/cuda/codes.cuh"
#include "kernels/cuda/few.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/slots.h"

enum {
    COLUMNS = 128,           /* of a unit */
    ONCE = 64,               /* rows of x that a launch takes */
    RING_WHOLE = 216 * 1024, /* of a multiprocessor */
    STAGES_MOST = 8
};

struct tile_part {
    wane_mat y, words, scale, zero, bias;
    int rows, first; /* outputs; the first tile */
};

/* Scales are of one type in all parts, zeros too. */
struct tile_args {
    tile_part part[CUDA_PARTS];
    wane_mat x, residual;
    float *partial;              /* (blocks, 2, ROWS * tokens): sums of tiles that blocks share, as threads hold them */
    int *tickets;                /* (tiles): 0 between launches */
    int spans;                   /* units of a tile */
    int share, more;             /* units of a block; blocks, from the first on, that take one more */
    int per_group;               /* units that share a scale, where a unit has but one */
    int scale_bytes, zero_bytes; /* of an element; 0: all zeros are 8 */
    wane_dtype scale_type;
    bool gated;
};

static __device__ __forceinline__ float narrow_float(uint32_t u, wane_dtype t)
{
    return t == WANE_BF16 ? __uint_as_float(u << 16) : __half2float(__ushort_as_half((unsigned short)u));
}

/* Codes i and i+1 of a word, i = 0, 2, 4, 6, as numbers from narrow::code_base on. shifted: u >> 4. */
static __device__ __forceinline__ uint32_t neighbours(uint32_t u, uint32_t shifted, uint32_t bytes, uint32_t base)
{
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(__byte_perm(u, shifted, bytes)), "n"(0x000f000f), "r"(base));
    return r;
}

template <typename T, int SPAN, int NT, int RW, int KW, int BLOCKS, bool EXACT_ZEROS> struct tile_kind {
    typedef T type;
    static constexpr bool EXACT = EXACT_ZEROS;
    static constexpr int ROWS = RW * 32, WARPS = RW * KW, THREADS = WARPS * 32, TOKENS = NT * 8, BESIDE = BLOCKS;
    static constexpr int GROUPS = COLUMNS / SPAN;                          /* of a unit */
    static constexpr int WORDS = 4 / KW;                                   /* of a row that a lane takes of a unit */
    static constexpr int TOGETHER = SPAN / 32 < WORDS ? SPAN / 32 : WORDS; /* that share a scale */
    static constexpr int X_BYTES = TOKENS * COLUMNS * 2, STAGE = ROWS * COLUMNS / 2 + X_BYTES;
    static constexpr int JOIN = KW > 1 ? RW * 32 * NT * 8 * 4 : 0;
    static constexpr int FIT = (RING_WHOLE / BLOCKS - JOIN) / STAGE, STAGES = FIT < STAGES_MOST ? FIT : STAGES_MOST;
    static constexpr int SHARED = STAGES * STAGE + JOIN;
    static constexpr int SLOT = RW * 32 * NT * 8; /* floats of a tile */
};

/* The part and the row there of output r of a tile; it may lie beyond the part's end. */
template <int ROWS> static __device__ __forceinline__ int place(const tile_args &a, int tile, int r, int &part)
{
    if (a.gated) {
        part = r >> 4 & 1;
        return tile * (ROWS / 2) + (r >> 5) * 16 + (r & 15);
    }
    part = tile >= a.part[2].first ? 2 : tile >= a.part[1].first ? 1 : 0;
    return (tile - a.part[part].first) * ROWS + r;
}

static __device__ __forceinline__ void copy_to(uint32_t shared, const void *global)
{
#ifdef WANE_HAS_MMA
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
#endif
}

/* This thread's part of the copies: 16 bytes of some rows of codes, the same of some rows of x. What does not change from
 * unit to unit is kept: with few warps on a multiprocessor every address worked out is time. */
template <typename K> struct tile_asker {
    static constexpr int W_COPIES = K::ROWS * 4 / K::THREADS, X_COPIES = K::TOKENS * 16 / K::THREADS;
    const char *words[W_COPIES], *x;
    uint32_t x_row[X_COPIES], words_to, x_to; /* bytes from x; places in a stage */
    int tile, left, x_left;                   /* units of the tile that are to come */

    __device__ __forceinline__ void open(const tile_args &a, uint32_t ring, int first_tile, int span)
    {
        int unit = threadIdx.x & 15, row = threadIdx.x >> 4, n = (int)a.x.rows;
        x = (const char *)a.x.data + span * (COLUMNS * 2) + unit * 16;
        x_to = ring + K::ROWS * 64 + row * 256 + (unit ^ (row & 1) << 2) * 16;
#pragma unroll
        for (int i = 0; i < X_COPIES; i++) {
            int from = row + i * (K::THREADS / 16);
            x_row[i] = (uint32_t)(from < n ? from : n - 1) * (uint32_t)(a.x.stride * 2);
        }
        row = threadIdx.x >> 2;
        words_to = ring + row * 64 + ((threadIdx.x & 3) ^ (row >> 1 & 3)) * 16;
        tile = first_tile, left = x_left = a.spans - span;
        find(a, span);
    }
    __device__ __forceinline__ void find(const tile_args &a, int span)
    {
#pragma unroll
        for (int i = 0; i < W_COPIES; i++) {
            int part, row = place<K::ROWS>(a, tile, (int)threadIdx.x / 4 + i * (K::THREADS / 4), part);
            const tile_part &p = a.part[part];
            row = row < p.rows ? row : p.rows - 1;
            words[i] = (const char *)p.words.data + row * (p.words.stride * 4) + span * 64 + (threadIdx.x & 3) * 16;
        }
    }
    __device__ __forceinline__ void ask_words(const tile_args &a, int stage)
    {
#pragma unroll
        for (int i = 0; i < W_COPIES; i++) {
            copy_to(words_to + stage * K::STAGE + i * (K::THREADS / 4) * 64, words[i]);
            words[i] += 64;
        }
        if (!--left) left = a.spans, tile++, find(a, 0);
    }
    __device__ __forceinline__ void ask_x(const tile_args &a, int stage)
    {
#pragma unroll
        for (int i = 0; i < X_COPIES; i++) copy_to(x_to + stage * K::STAGE + i * (K::THREADS / 16) * 256, x + x_row[i]);
        x += COLUMNS * 2;
        if (!--x_left) x_left = a.spans, x -= (int64_t)a.spans * (COLUMNS * 2);
    }
};

/* Scales and zeros of a warp's 32 outputs, a lane an output: of which, and those of one unit, not looked at before they are
 * used. EXACT: zeros are bytes. */
template <typename K> struct tile_grid {
    const char *scales, *zeros;
    uint32_t scale[K::GROUPS], zero[K::GROUPS];
    int again; /* units before the next group */
    __device__ __forceinline__ void find(const tile_args &a, int tile, int span, int r)
    {
        int part, row = place<K::ROWS>(a, tile, r, part), group = K::GROUPS > 1 ? span * K::GROUPS : span / a.per_group;
        const tile_part &p = a.part[part];
        row = row < p.rows ? row : p.rows - 1;
        scales = (const char *)p.scale.data + (row * p.scale.stride + group) * a.scale_bytes;
        zeros = a.zero_bytes ? (const char *)p.zero.data + (row * p.zero.stride + group) * a.zero_bytes : NULL;
        again = K::GROUPS > 1 ? 1 : a.per_group - span % a.per_group;
        load(a);
    }
    __device__ __forceinline__ void load(const tile_args &a)
    {
#pragma unroll
        for (int i = 0; i < K::GROUPS; i++) {
            zero[i] = K::EXACT ? 8 : 0x41000000; /* 8, as a byte or float32 */
            if (a.scale_bytes == 2)
                scale[i] = ((const uint16_t *)scales)[i];
            else
                scale[i] = ((const uint32_t *)scales)[i];
            if (K::EXACT) {
                if (zeros) zero[i] = ((const uint8_t *)zeros)[i];
            } else if (zeros) {
                if (a.zero_bytes == 1)
                    zero[i] = ((const uint8_t *)zeros)[i];
                else
                    zero[i] = ((const uint32_t *)zeros)[i];
            }
        }
    }
    /* The next unit's, of the same tile. */
    __device__ __forceinline__ void advance(const tile_args &a)
    {
        if (K::GROUPS == 1 && --again) return;
        again = K::GROUPS == 1 ? a.per_group : 1;
        scales += K::GROUPS * a.scale_bytes;
        if (zeros) zeros += K::GROUPS * a.zero_bytes;
        load(a);
    }
};

/* One unit: sum += scale (code - zero) x, for outputs m*16 + g and that + 8 and tokens j*8 + 2t and that + 1. */
template <typename K, int NT, bool EXACT>
static __device__ __forceinline__ void multiply(float sum[2][NT][4], const char *codes, const char *x, const uint32_t *scale,
                                                const uint32_t *zeros, const tile_args &a, int slice, int lane)
{
    typedef typename K::type T;
    constexpr int TOGETHER = K::TOGETHER;
    int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int s = 0; s < K::WORDS / TOGETHER; s++) {
        uint32_t own_scale = scale[0], own_zero = zeros[0];
        if (K::GROUPS > 1) {
#pragma unroll
            for (int i = 0; i < K::GROUPS; i++)
                if (i == (slice * K::WORDS + s * TOGETHER) * 32 / (COLUMNS / K::GROUPS))
                    own_scale = scale[i], own_zero = zeros[i];
        }
        float mine = a.scale_bytes == 2 ? narrow_float(own_scale, a.scale_type) : __uint_as_float(own_scale), by[2][2];
        uint32_t less, zero[2][2];
        if (EXACT) { /* z as the codes are: in the last bits of a power of two */
            less = narrow<T>::code_base | own_zero * 0x10001u;
        } else {
            float z = a.zero_bytes == 1 ? (float)own_zero : __uint_as_float(own_zero);
            less = narrow<T>::pair(z - 8.f, z - 8.f);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            by[i >> 1][i & 1] = __shfl_sync(0xffffffffu, mine, i * 8 + g);
            zero[i >> 1][i & 1] = __shfl_sync(0xffffffffu, less, i * 8 + g);
        }
        uint32_t code[2][TOGETHER][2][4];
#pragma unroll
        for (int m = 0; m < 2; m++) {
#pragma unroll
            for (int w = 0; w < TOGETHER; w++) {
                int word = slice * K::WORDS + s * TOGETHER + w;
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    uint32_t u = *(const uint32_t *)(codes + (m * 16 + h * 8 + g) * 64 + (word ^ g >> 1) * 16 + t * 4),
                             v = u >> 4;
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        uint32_t q = neighbours(u, v, 0x4400 + 0x1111 * i, narrow<T>::code_base);
                        if (!EXACT) q = narrow<T>::minus(q, narrow<T>::code_middle);
                        code[m][w][i >> 1][(i & 1) * 2 + h] = narrow<T>::minus(q, zero[m][h]);
                    }
                }
            }
        }
#pragma unroll
        for (int j = 0; j < NT; j += 2) {
            float part[2][2][4] = {};
#pragma unroll
            for (int w = 0; w < TOGETHER; w++) {
                int unit = (slice * K::WORDS + s * TOGETHER + w) * 4 + t;
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    uint4 b = *(const uint4 *)(x + ((j + i) * 8 + g) * 256 + (unit ^ (g & 1) << 2) * 16);
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        const uint32_t *c = code[m][w][0], *d = code[m][w][1];
                        narrow<T>::mma(part[i][m], c[0], c[1], c[2], c[3], b.x, b.y);
                        narrow<T>::mma(part[i][m], d[0], d[1], d[2], d[3], b.z, b.w);
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int m = 0; m < 2; m++)
#pragma unroll
                    for (int e = 0; e < 4; e++) sum[m][j + i][e] += by[m][e >> 1] * part[i][m][e];
        }
    }
}

/* One output, at element `at` of y; what is added to it, at `from` of the residual. */
template <typename T>
static __device__ __forceinline__ void put_output(const tile_args &a, const wane_mat &y, int at, int from, float v)
{
    if (a.residual.data)
        v += a.residual.dtype == WANE_F32 ? ((const float *)a.residual.data)[from]
                                          : narrow<T>::floats(((const uint16_t *)a.residual.data)[from]).x;
    if (y.dtype == WANE_F32)
        ((float *)y.data)[at] = v;
    else
        ((uint16_t *)y.data)[at] = (uint16_t)narrow<T>::pair(v, 0.f);
}

/* What a thread has of eight tokens: outputs i*8 + g of a warp's 32, as v[i / 2][i % 2 * 2 ..], tokens first and first + 1. */
template <typename T, int ROWS>
static __device__ __forceinline__ void put_tokens(const tile_args &a, int tile, int thread, int j, float v[2][4])
{
    int lane = thread & 31, n = (int)a.x.rows, first = j * 8 + (lane & 3) * 2, part, unused;
    int top = place<ROWS>(a, tile, (thread >> 5) * 32 + (lane >> 2), part);
    const tile_part &p = a.part[part];
    int cols = (int)p.y.cols, pitch = (int)p.y.stride, added = (int)a.residual.stride;
    if (p.bias.data) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = place<ROWS>(a, tile, (thread >> 5) * 32 + i * 8 + (lane >> 2), unused);
            const wane_mat &b = a.part[a.gated ? i >> 1 : part].bias;
            float bias = row < cols ? load_as_float(b.data, row, b.dtype) : 0.f;
            v[i >> 1][(i & 1) * 2] += bias, v[i >> 1][(i & 1) * 2 + 1] += bias;
        }
    }
    if (a.gated) {
#pragma unroll
        for (int e = 0; e < 4; e++) v[0][e] = v[0][e] / (1.f + expf(-v[0][e])) * v[1][e];
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = top + i * 8;
        if (row >= cols || (a.gated && i >= 2)) continue;
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (first + e < n)
                put_output<T>(a, p.y, (first + e) * pitch + row, (first + e) * added + row, v[i >> 1][(i & 1) * 2 + e]);
    }
}

/* A block's first unit, and the block that takes a unit. */
static __device__ __forceinline__ int begin_of(const tile_args &a, int block)
{
    return block * a.share + (block < a.more ? block : a.more);
}

static __device__ __forceinline__ int block_of(const tile_args &a, int unit)
{
    int even = a.more * (a.share + 1);
    return unit < even ? unit / (a.share + 1) : a.more + (unit - even) / a.share;
}

/* This block's share of a tile that several blocks have sums of. */
template <typename K> static __device__ void join(const tile_args &a, int tile, int *arrived)
{
    int first = block_of(a, tile * a.spans), blocks = block_of(a, (tile + 1) * a.spans - 1) - first + 1;
    bool begins_before = begin_of(a, first) < tile * a.spans;      /* only the first of them can */
    constexpr int ITEMS = K::ROWS * K::TOKENS / 8, LINE = K::ROWS; /* threads that hold sums */
    if (!threadIdx.x) {
        int seen;
        do {
            asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
        } while (seen < blocks);
    }
    __syncthreads();
    int rank = (int)blockIdx.x - first, low = ITEMS * rank / blocks, high = ITEMS * (rank + 1) / blocks;
    for (int item = low + (int)threadIdx.x; item < high; item += K::THREADS) {
        int j = item / LINE, thread = item % LINE;
        float v[2][4] = {};
        for (int from = 0; from < blocks; from += 8) { /* eight on their way at once, added in order */
            float4 p[8], q[8];
#pragma unroll
            for (int b = 0; b < 8; b++) {
                int block = first + from + b, slot = block * 2 + (block == first && begins_before);
                const float4 *at = (const float4 *)(a.partial + (int64_t)slot * K::SLOT) + j * LINE + thread;
                p[b] = q[b] = make_float4(0, 0, 0, 0);
                if (from + b < blocks) p[b] = __ldcg(at), q[b] = __ldcg(at + K::TOKENS / 8 * LINE);
            }
#pragma unroll
            for (int b = 0; b < 8; b++) {
                v[0][0] += p[b].x, v[0][1] += p[b].y, v[0][2] += p[b].z, v[0][3] += p[b].w;
                v[1][0] += q[b].x, v[1][1] += q[b].y, v[1][2] += q[b].z, v[1][3] += q[b].w;
            }
        }
        put_tokens<typename K::type, K::ROWS>(a, tile, thread, j, v);
    }
    if (!threadIdx.x && atomicAdd(arrived, 1) == 2 * blocks - 1) *arrived = 0;
}

template <typename T, int SPAN, int NT, int RW, int KW, int BLOCKS, bool EXACT>
static __global__ void __launch_bounds__(RW *KW * 32, BLOCKS) tile_kernel(const __grid_constant__ tile_args a)
{
    typedef tile_kind<T, SPAN, NT, RW, KW, BLOCKS, EXACT> K;
    extern __shared__ uint4 tile_memory[];
    char *ring = (char *)tile_memory;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, line = warp % RW, slice = warp / RW;
    int begin = begin_of(a, blockIdx.x), end = begin_of(a, blockIdx.x + 1), tile = begin / a.spans, span = begin % a.spans;
    tile_asker<K> ahead;
    ahead.open(a, shared_address(ring), tile, span);
#pragma unroll 1
    for (int i = 0; i < K::STAGES - 1 && begin + i < end; i++) ahead.ask_words(a, i);
    tile_grid<K> grid;
    grid.find(a, tile, span, line * 32 + lane);
    next_may_start();
    prior_ended();
#pragma unroll 1
    for (int i = 0; i < K::STAGES - 1; i++) {
        if (begin + i < end) ahead.ask_x(a, i);
        copies_close();
    }
    float sum[2][NT][4] = {};
    int stage = 0, shared_first = -1, shared_last = -1;
#pragma unroll 1
    for (int unit = begin; unit < end; unit++) {
        copies_ended<K::STAGES - 2>();
        __syncthreads();
        uint32_t scale[K::GROUPS], zero[K::GROUPS];
#pragma unroll
        for (int i = 0; i < K::GROUPS; i++) scale[i] = grid.scale[i], zero[i] = grid.zero[i];
        bool last = span + 1 == a.spans;
        if (unit + 1 < end) {
            if (last)
                grid.find(a, tile + 1, 0, line * 32 + lane);
            else
                grid.advance(a);
        }
        const char *here = ring + stage * K::STAGE;
        multiply<K, NT, EXACT>(sum, here + line * 32 * 64, here + K::ROWS * 64, scale, zero, a, slice, lane);
        if (unit + K::STAGES - 1 < end) { /* to where the unit before was, which all warps are done with */
            int next = stage ? stage - 1 : K::STAGES - 1;
            ahead.ask_words(a, next);
            ahead.ask_x(a, next);
        }
        copies_close();
        stage = stage + 1 == K::STAGES ? 0 : stage + 1;
        if (last || unit + 1 == end) {
            if (KW > 1) {
                float4 *other = (float4 *)(ring + K::STAGES * K::STAGE) + line * 32 + lane;
                __syncthreads();
                if (slice) {
#pragma unroll
                    for (int i = 0; i < 2 * NT; i++) {
                        const float *s = sum[i / NT][i % NT];
                        other[i * RW * 32] = make_float4(s[0], s[1], s[2], s[3]);
                    }
                }
                __syncthreads();
                if (!slice) {
#pragma unroll
                    for (int i = 0; i < 2 * NT; i++) {
                        float *s = sum[i / NT][i % NT];
                        float4 o = other[i * RW * 32];
                        s[0] += o.x, s[1] += o.y, s[2] += o.z, s[3] += o.w;
                    }
                }
            }
            bool whole = last && unit + 1 - begin >= a.spans;
            if (!whole) {
                bool again = shared_first >= 0;
                float4 *to =
                    (float4 *)(a.partial + ((int64_t)blockIdx.x * 2 + (begin < tile * a.spans)) * K::SLOT) + line * 32 + lane;
                if (again)
                    shared_last = tile;
                else
                    shared_first = tile;
                if (!slice) {
#pragma unroll
                    for (int i = 0; i < 2 * NT; i++) {
                        const float *s = sum[i / NT][i % NT];
                        __stcg(to + i * RW * 32, make_float4(s[0], s[1], s[2], s[3]));
                    }
                }
                __syncthreads();
                if (!threadIdx.x) asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(a.tickets + tile) : "memory");
            } else if (!slice) {
#pragma unroll 1
                for (int j = 0; j < NT; j++) { /* the sums move up: the loop is one piece of code */
                    float v[2][4];
#pragma unroll
                    for (int i = 0; i < 8; i++) v[i >> 2][i & 3] = sum[i >> 2][0][i & 3];
                    put_tokens<T, K::ROWS>(a, tile, line * 32 + lane, j, v);
#pragma unroll
                    for (int k = 0; k + 1 < NT; k++)
#pragma unroll
                        for (int i = 0; i < 8; i++) sum[i >> 2][k][i & 3] = sum[i >> 2][k + 1][i & 3];
                }
            }
#pragma unroll
            for (int i = 0; i < 2 * NT; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) sum[i / NT][i % NT][e] = 0;
        }
        if (last)
            span = 0, tile++;
        else
            span++;
    }
#pragma unroll 1
    for (int i = 0; i < 2; i++) {
        int left = i ? shared_last : shared_first;
        if (left >= 0) join<K>(a, left, a.tickets + left);
    }
}

/* Sizes; UNSUPPORTED where the scratch is too small or not all blocks can run at once. */
template <typename T, int SPAN, int NT, int RW, int KW, int BLOCKS, bool EXACT>
static wane_status launch(wane_dev *d, tile_args &a)
{
    typedef tile_kind<T, SPAN, NT, RW, KW, BLOCKS, EXACT> K;
    auto kernel = tile_kernel<T, SPAN, NT, RW, KW, BLOCKS, EXACT>;
    int tiles_all = 0;
    for (int p = 0; p < CUDA_PARTS; p++) {
        a.part[p].first = a.gated && p ? INT32_MAX : tiles_all;
        a.part[p].rows = (int)a.part[p].y.cols;
        if (!a.part[p].words.data)
            a.part[p].first = INT32_MAX;
        else if (!a.gated || !p)
            tiles_all += (int)tiles(a.part[p].y.cols, a.gated ? K::ROWS / 2 : K::ROWS);
    }
    a.scale_bytes = (int)wane_dtype_bytes(a.part[0].scale.dtype);
    a.zero_bytes = a.part[0].zero.data ? (int)wane_dtype_bytes(a.part[0].zero.dtype) : 0;
    a.spans = (int)(a.x.cols / COLUMNS);
    int fit = 0, blocks = d->processors * BLOCKS, units = tiles_all * a.spans;
    cudaError_t e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributePreferredSharedMemoryCarveout, 100);
    if (e == cudaSuccess)
        e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, K::SHARED);
    if (e == cudaSuccess) e = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&fit, kernel, K::THREADS, K::SHARED);
    if (e != cudaSuccess) return cuda_status(d, e);
    blocks = blocks < units ? blocks : units;
    a.share = units / blocks, a.more = units % blocks;
    a.scale_type = a.part[0].scale.dtype;
    if (fit < BLOCKS || tiles_all > CUDA_TICKETS || (size_t)blocks * 2 * K::SLOT * sizeof(float) > d->scratch_bytes)
        return WANE_EUNSUPPORTED;
    a.partial = (float *)d->scratch;
    a.tickets = d->tickets;
    return launch_after(d, kernel, dim3((unsigned)blocks), K::THREADS, K::SHARED, a);
}

template <typename T, int SPAN, bool EXACT> static wane_status choose(wane_dev *d, tile_args &a)
{
    if (a.x.rows <= 16) return launch<T, SPAN, 2, 4, 1, 2, EXACT>(d, a);
    if (a.x.rows <= 32) return launch<T, SPAN, 4, 4, 1, 2, EXACT>(d, a);
    return launch<T, SPAN, 8, 4, 1, 2, EXACT>(d, a);
}

/* What x is when it meets the codes: in the room where it goes through rmsnorm first. */
static wane_dtype met_type(const wane_products *p)
{
    return p->gain.data ? p->room.dtype : p->x.dtype;
}

static bool small(wane_mat a)
{
    return a.rows * a.stride < INT32_MAX;
}

static bool output_type(wane_dtype t, wane_dtype x)
{
    return t == WANE_F32 || t == x;
}

bool cuda_tile_can(const wane_dev *d, const wane_products *p)
{
    const wane_qmat &first = p->part[0].q;
    wane_dtype type = met_type(p);
    if (d->capability < 80 || (type != WANE_BF16 && type != WANE_F16) || p->x.rows > CUDA_TILE || p->x.cols % COLUMNS ||
        p->x.cols >= INT32_MAX / 8 || !(p->gain.data ? (uintptr_t)p->room.data % 16 == 0 : aligned(p->x, 16)) || !small(p->x) ||
        (p->residual.data && (!output_type(p->residual.dtype, type) || !small(p->residual))))
        return false;
    for (int i = 0; i < p->parts; i++) {
        const wane_product &a = p->part[i];
        if (a.w.data || a.q.act_bits || !readable_codes(a.q) || (a.q.group % COLUMNS && a.q.group > 64) ||
            a.q.group != first.group || a.q.scale.dtype != first.scale.dtype || !a.q.zero.data != !first.zero.data ||
            (a.q.zero.data && a.q.zero.dtype != first.zero.dtype) || (p->gated && !a.bias.data != !p->part[0].bias.data) ||
            !output_type(a.y.dtype, type) || !small(a.y) || a.y.cols > INT32_MAX / 4)
            return false;
    }
    return true;
}

static wane_mat rows_of(wane_mat a, int64_t first, int64_t rows)
{
    if (a.data) a.data = (char *)a.data + (size_t)(first * a.stride) * wane_dtype_bytes(a.dtype);
    a.rows = rows;
    return a;
}

static wane_status some(wane_dev *d, const wane_products *p, wane_mat x, int64_t at, int64_t rows)
{
    const wane_qmat &q = p->part[0].q;
    int span = code_span(q.group);
    bool whole_zeros = !q.zero.data || q.zero.dtype == WANE_U8;
    tile_args a = {};
    a.x = rows_of(x, at, rows);
    a.residual = rows_of(p->residual, at, rows);
    a.gated = p->gated;
    a.per_group = (int)(q.group / COLUMNS);
    for (int i = 0; i < p->parts; i++) {
        const wane_product &from = p->part[i];
        a.part[i].y = rows_of(from.y, at, rows);
        a.part[i].words = from.q.words, a.part[i].scale = from.q.scale, a.part[i].zero = from.q.zero;
        a.part[i].bias = from.bias;
    }
    if (x.dtype == WANE_BF16)
        return span == 64    ? choose<__nv_bfloat16, 64, false>(d, a)
               : span == 32  ? choose<__nv_bfloat16, 32, false>(d, a)
               : whole_zeros ? choose<__nv_bfloat16, 128, true>(d, a)
                             : choose<__nv_bfloat16, 128, false>(d, a);
    return span == 64   ? choose<__half, 64, false>(d, a)
           : span == 32 ? choose<__half, 32, false>(d, a)
                        : choose<__half, 128, false>(d, a);
}

wane_status cuda_tile(wane_dev *d, const wane_products *p)
{
    wane_mat x = p->x;
    wane_status s = WANE_OK;
    if (p->gain.data) {
        x = wane_room_take(p, 0, x.cols);
        s = cuda_rmsnorm(d, x, p->x, p->gain, p->eps);
    }
    int64_t most = tiles(x.rows, tiles(x.rows, ONCE)); /* chunks of one size */
    for (int64_t at = 0; at < x.rows && !s; at += most) s = some(d, p, x, at, x.rows - at < most ? x.rows - at : most);
    return s;
}
