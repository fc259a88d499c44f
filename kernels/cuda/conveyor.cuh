/* conveyor.cuh - weights on their way through shared memory: a ring of stages between one warp that asks for rows and
 * the warps that use them.
 *
 * Each stage has two barriers: full, when its bytes have come; empty, when all users are done. On sm_90 and later a row
 * is one bulk copy, which needs no register and no thread while it travels: hundreds of kilobytes can be on their way,
 * which is what it takes to use the memory's whole bandwidth. Before sm_90 the asking warp copies 16 bytes a lane. */
#ifndef WANE_CONVEYOR_CUH
#define WANE_CONVEYOR_CUH

#include "kernels/cuda/mma.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define WANE_HAS_BULK 1
#endif

struct conveyor {
    uint64_t *full, *empty; /* (stages) */
    int stages;
};

/* By one thread; a barrier of the block must follow. */
static __device__ __forceinline__ void conveyor_open(const conveyor &c, int users)
{
#ifdef WANE_HAS_BULK
    const int askers = 1;
#else
    const int askers = 32;
#endif
#ifdef WANE_HAS_MMA
    for (int i = 0; i < c.stages; i++) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(c.full + i)), "r"(askers));
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(c.empty + i)), "r"(users));
    }
#endif
#ifdef WANE_HAS_BULK
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/* Waits for the end of a barrier's phase: 0 for its first use, 1 for its second, and so on. */
static __device__ __forceinline__ void barrier_wait(uint64_t *barrier, int phase)
{
    uint32_t done = 0;
    while (!done) {
#ifdef WANE_HAS_BULK
        asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(phase & 1)
                     : "memory");
#elif defined(WANE_HAS_MMA)
        asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(phase & 1)
                     : "memory");
#else
        done = 1;
#endif
    }
}

/* The asking warp, all lanes, for each stage in turn: begin, any number of rows, end. `bytes` is what all rows together
 * will bring; number counts stages from 0. */
static __device__ __forceinline__ uint64_t *ask_begin(const conveyor &c, int number, int bytes)
{
    int stage = number % c.stages;
    if (number >= c.stages) barrier_wait(c.empty + stage, number / c.stages - 1);
#ifdef WANE_HAS_BULK
    if (!(threadIdx.x & 31))
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(c.full + stage)), "r"(bytes)
                     : "memory");
    __syncwarp();
#endif
    return c.full + stage;
}

/* rows copies of `bytes` (a multiple of 16), to + i * to_stride from from(i); everything aligned to 16. */
template <typename F>
static __device__ __forceinline__ void ask_rows(uint64_t *full, char *to, int to_stride, int bytes, int rows, F from)
{
    int lane = threadIdx.x & 31;
#ifdef WANE_HAS_BULK
    for (int i = lane; i < rows; i += 32)
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         shared_address(to + i * to_stride)),
                     "l"(from(i)), "r"(bytes), "r"(shared_address(full))
                     : "memory");
#else
    for (int i = 0; i < rows; i++) {
        const char *row = (const char *)from(i);
        for (int at = lane * 16; at < bytes; at += 32 * 16) copy_16(to + i * to_stride + at, row + at);
    }
#endif
}

static __device__ __forceinline__ void ask_end(uint64_t *full)
{
#if !defined(WANE_HAS_BULK) && defined(WANE_HAS_MMA)
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(full)) : "memory");
#endif
}

/* A using warp, all lanes. */
static __device__ __forceinline__ void use_begin(const conveyor &c, int number)
{
    barrier_wait(c.full + number % c.stages, number / c.stages);
}

static __device__ __forceinline__ void use_end(const conveyor &c, int number)
{
    __syncwarp();
#ifdef WANE_HAS_MMA
    if (!(threadIdx.x & 31))
        asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(c.empty + number % c.stages)) : "memory");
#endif
}

/* By every thread that has written to the ring's place, before a barrier of the block, after which rows come there again. */
static __device__ __forceinline__ void ring_again()
{
#ifdef WANE_HAS_BULK
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* A barrier of the block's first `threads` threads. */
static __device__ __forceinline__ void users_sync(int threads) { asm volatile("bar.sync 1, %0;" ::"r"(threads) : "memory"); }

#endif
