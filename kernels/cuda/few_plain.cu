/* few_plain.cu - products of up to 8 rows of x and weights of its own type, for few.cu.
 *
 * A block takes 16 outputs at a time: one warp asks for their rows, a chunk of columns after the
 * other, eight warps share a chunk's steps and feed the tensor cores, with x in shared memory. On
 * sm_90 a row of a chunk is one bulk copy, which needs no register and no thread while it travels.
 * The first rows are asked for before x is waited for. The warps' sums are joined in a fixed order.
 * Before that x may go through rmsnorm; after it come bias, silu(gate) * up and the residual. */
#include "kernels/cuda/conveyor.cuh"
#include "kernels/cuda/few_x.cuh"
#include "kernels/cuda/launch.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define WANE_HAS_BULK 1
#endif

enum {
    TOKENS = CUDA_FEW,
    ROWS = 16,
    WARPS = 8,
    USERS = WARPS * 32,
    THREADS = USERS + 32,
    SPAN = 32, /* columns of a step: 8 a lane */
    STEP_BYTES = SPAN * 2,
    ROW_BYTES = 1280, /* of a chunk, at most, for 16 rows */
    STAGES_MOST = 12,
    SHARED_HALF = 112 * 1024, /* two blocks on a multiprocessor */
    SHARED_WHOLE = 220 * 1024
};

struct plain_args : few_x {
    few_part part[CUDA_PARTS];
    wane_mat residual;
    int tiles;                  /* of 16 outputs, of all parts */
    int steps, chunk, chunks;   /* steps in a row, in a chunk; chunks of a row */
    int stages;                 /* chunks on the conveyor */
    int x_stride;               /* of a row of x in shared memory, in 16 bytes */
    int pitch;                  /* of a row of a chunk, in bytes */
    int at_x, at_part, at_ring; /* places in shared memory, in bytes; the barriers are first */
};

/* A barrier of the threads that use what the last warp asks for. */
static __device__ __forceinline__ void users_sync()
{
    asm volatile("bar.sync 1, %0;" ::"r"((int)USERS) : "memory");
}

static __device__ __forceinline__ int part_tiles(const few_part &p)
{
    return (p.rows + ROWS - 1) / ROWS;
}

/* x, through rmsnorm where there is a gain. The users alone. */
template <typename T> static __device__ void stage_x(const plain_args &a, uint4 *x, float *part)
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
        users_sync();
    }
    for (int i = 0; i < n; i++) {
        float scale = 0;
        if (a.gain.data) {
            for (int w = 0; w < WARPS; w++) scale += part[i * WARPS + w];
            scale = rsqrtf(scale / (float)a.x.cols + a.eps);
        }
#pragma unroll 4
        for (int u = threadIdx.x; u < units; u += USERS)
            x[i * a.x_stride + u] = staged_unit<T>(a, i, u, scale);
    }
    users_sync();
}

/* The part that a tile belongs to; tile becomes its number there. */
static __device__ __forceinline__ int part_of(const plain_args &a, int &tile)
{
    int p = 0;
    while (p < CUDA_PARTS - 1 && tile >= part_tiles(a.part[p])) tile -= part_tiles(a.part[p++]);
    return p;
}

/* Rows of one matrix, bytes of each, into its place of a stage; the asking warp. */
static __device__ __forceinline__ void ask_rows_of(const few_part &part, int first, int64_t from,
                                                   char *to, int pitch, int bytes, uint64_t *full)
{
    int lane = threadIdx.x & 31, most = (int)part.y.cols - 1;
    const char *data = (const char *)part.w.data + from;
#ifdef WANE_HAS_BULK
    if (lane >= ROWS) return;
    int64_t row = first + lane < most ? first + lane : most;
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(to + lane * pitch)),
        "l"(data + row * part.w.stride * 2), "r"(bytes), "r"(shared_address(full))
        : "memory");
#else
    for (int i = 0; i < ROWS; i++) {
        int64_t row = first + i < most ? first + i : most;
        for (int at = lane * 16; at < bytes; at += 32 * 16)
            copy_16(to + i * pitch + at, data + row * part.w.stride * 2 + at);
    }
#endif
}

/* Everything that this block will read, in the order in which it will. */
template <int M> static __device__ void ask(const plain_args &a, const conveyor &c, char *shared)
{
    int number = 0;
    for (int tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        int in_part = tile, p = M == 1 ? part_of(a, in_part) : 0;
        for (int i = 0; i < a.chunks; i++, number++) {
            int steps = a.steps - i * a.chunk < a.chunk ? a.steps - i * a.chunk : a.chunk,
                bytes = steps * STEP_BYTES;
            uint64_t *full = ask_begin(c, number);
#ifdef WANE_HAS_BULK
            if (!(threadIdx.x & 31))
                asm volatile(
                    "mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(full)),
                    "r"(M * ROWS * bytes)
                    : "memory");
            __syncwarp();
#endif
            char *to = shared + a.at_ring + number % a.stages * M * ROWS * a.pitch;
#pragma unroll
            for (int j = 0; j < M; j++)
                ask_rows_of(a.part[p + j], in_part * ROWS, (int64_t)i * a.chunk * STEP_BYTES,
                            to + j * ROWS * a.pitch, a.pitch, bytes, full);
#ifndef WANE_HAS_BULK
            ask_end(full);
#endif
        }
    }
}

/* sum += 16 rows of one step times x; even and odd products apart, so that neither waits for the
 * other. */
template <typename T>
static __device__ __forceinline__ void multiply(float sum[2][4], const char *low, const char *high,
                                                const uint4 *x, int t)
{
    uint4 u = *(const uint4 *)(low + t * 16), v = *(const uint4 *)(high + t * 16), b = x[t];
    narrow<T>::mma(sum[0], u.x, v.x, u.y, v.y, b.x, b.y);
    narrow<T>::mma(sum[1], u.z, v.z, u.w, v.w, b.z, b.w);
}

/* Outputs of one tile from the warps' sums, in their order. */
template <int M>
static __device__ void finish(const plain_args &a, const float *sums, int p, int in_part)
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
    if (a.residual.data)
        y += load_as_float(a.residual.data, token * a.residual.stride + row, a.residual.dtype);
    store_float(part.y.data, token * part.y.stride + row, part.y.dtype, y);
}

/* M 1: tiles of all parts in turn. M 2: part 0 is the gate, part 1 what it lets through. */
template <typename T, int M>
static __global__ void __launch_bounds__(THREADS, 2)
    plain_kernel(const __grid_constant__ plain_args a)
{
    extern __shared__ uint4 plain_memory[];
    char *shared = (char *)plain_memory;
    conveyor c = {(uint64_t *)shared, (uint64_t *)shared + STAGES_MOST, a.stages};
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#ifdef WANE_HAS_BULK
    const int askers = 1;
#else
    const int askers = 32;
#endif
    if (!threadIdx.x) {
        conveyor_open(c, askers, WARPS);
#ifdef WANE_HAS_BULK
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
    }
    __syncthreads();
    next_may_start();
    if (warp == WARPS) {
        ask<M>(a, c, shared);
        return;
    }
    prior_ended();
    uint4 *x = (uint4 *)(shared + a.at_x);
    float *sums = (float *)(shared + a.at_part);
    stage_x<T>(a, x, sums);
    x += (g < a.x.rows ? g : 0) * a.x_stride; /* sums of absent tokens are not used */
    int number = 0;
    for (int tile = blockIdx.x; tile < a.tiles; tile += gridDim.x) {
        int in_part = tile, p = M == 1 ? part_of(a, in_part) : 0;
        float sum[M][2][4] = {};
        for (int i = 0; i < a.chunks; i++, number++) {
            int before = i * a.chunk,
                steps = a.steps - before < a.chunk ? a.steps - before : a.chunk;
            use_begin(c, number);
            const char *ring =
                shared + a.at_ring + number % a.stages * M * ROWS * a.pitch + g * a.pitch;
#pragma unroll 2
            for (int step = warp; step < steps; step += WARPS) {
                const uint4 *b = x + (before + step) * (SPAN / 8);
#pragma unroll
                for (int j = 0; j < M; j++) {
                    const char *low = ring + j * ROWS * a.pitch + step * STEP_BYTES,
                               *high = low + 8 * a.pitch;
                    multiply<T>(sum[j], low, high, b, t);
                }
            }
            use_end(c, number);
        }
#pragma unroll
        for (int j = 0; j < M; j++) {
            float *to = sums + (warp * M + j) * TOKENS * ROWS;
#pragma unroll
            for (int e = 0; e < 4; e++)
                to[(2 * t + (e & 1)) * ROWS + g + (e >> 1) * 8] = sum[j][0][e] + sum[j][1][e];
        }
        users_sync();
        if (threadIdx.x < TOKENS * ROWS) finish<M>(a, sums, p, in_part);
        sums += (sums == (float *)(shared + a.at_part) ? 1 : -1) * WARPS * M * TOKENS *
                ROWS; /* others still read these */
    }
}

static int up(int64_t bytes)
{
    return (int)tiles(bytes, 128) * 128;
}

/* Where everything lies, with as many stages as fit into `room`; bytes, or 0 where not even two do.
 */
template <int M> static size_t arrange(plain_args &a, int64_t room)
{
    int stage = M * ROWS * a.pitch;
    a.at_x = up(2 * STAGES_MOST * 8);
    a.at_part = a.at_x + up(a.x.rows * a.x_stride * 16);
    a.at_ring = a.at_part + 2 * WARPS * M * TOKENS * ROWS * 4;
    a.stages = (int)((room - a.at_ring) / stage);
    if (a.stages > STAGES_MOST) a.stages = STAGES_MOST;
    return a.stages < 2 ? 0 : (size_t)(a.at_ring + a.stages * stage);
}

/* Sizes and places; bytes of shared memory or 0. */
template <int M> static size_t prepare(plain_args &a)
{
    int units = (int)(a.x.cols / 8);
    a.steps = (int)(a.x.cols / SPAN);
    a.chunk = (int)tiles(a.steps, tiles(a.steps * STEP_BYTES, ROW_BYTES / M));
    a.chunks = (int)tiles(a.steps, a.chunk);
    a.pitch = row_pitch(a.chunk * STEP_BYTES, 64);
    a.x_stride = units % 8 ? units : units + 4; /* rows of x start half the banks apart */
    size_t bytes = arrange<M>(a, SHARED_HALF);
    if (bytes && a.stages * M * ROWS * a.pitch >= 32 * 1024) return bytes;
    return arrange<M>(a, SHARED_WHOLE);
}

template <typename T, int M> static wane_status launch(wane_dev *d, plain_args &a, bool *fits)
{
    size_t shared = prepare<M>(a);
    *fits = shared > 0;
    if (!shared) return WANE_OK;
    int most = (shared <= (size_t)SHARED_HALF ? 2 : 1) * d->processors;
    return launch_after(d, plain_kernel<T, M>, dim3((unsigned)(a.tiles < most ? a.tiles : most)),
                        THREADS, shared, a);
}

wane_status cuda_few_plain(wane_dev *d, const wane_products *p, int64_t at, int64_t rows,
                           bool *fits)
{
    plain_args a = {};
    (few_x &)a = few_x_of(p, at, rows);
    a.residual = few_rows(p->residual, at, rows);
    for (int i = 0; i < p->parts; i++) {
        const wane_product *from = &p->part[i];
        a.part[i] =
            few_part{few_rows(from->y, at, rows), from->w, {}, {}, from->bias, (int)from->y.cols};
        if (!p->gated || !i) a.tiles += (int)tiles(from->y.cols, ROWS);
    }
    if (!a.tiles) return WANE_OK;
    if (few_type(p) == WANE_BF16)
        return p->gated ? launch<__nv_bfloat16, 2>(d, a, fits)
                        : launch<__nv_bfloat16, 1>(d, a, fits);
    return p->gated ? launch<__half, 2>(d, a, fits) : launch<__half, 1>(d, a, fits);
}
