/* conveyor.cuh - what a block reads on its way through shared memory: a ring of stages between some warps that ask for
 * rows and the warps that use them.
 *
 * Each stage has two barriers: full, when its bytes have come; empty, when all users are done. Rows are asked for by 16
 * bytes a lane: one bulk copy a row needs fewer threads, but starts no faster than one every 40 ns a warp (measured on an
 * H200), which rows of some hundred bytes cannot afford. */
#ifndef WANE_CONVEYOR_CUH
#define WANE_CONVEYOR_CUH

#include "kernels/cuda/mma.cuh"

enum { ASKERS = 128 }; /* threads */

struct conveyor {
    uint64_t *full, *empty; /* (stages) */
    int stages;
};

/* By one thread; a barrier of the block must follow. askers: arrivals that fill a stage; users: those that free it. */
static __device__ __forceinline__ void conveyor_open(const conveyor &c, int askers, int users)
{
#ifdef WANE_HAS_MMA
    for (int i = 0; i < c.stages; i++) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(c.full + i)), "r"(askers));
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(c.empty + i)), "r"(users));
    }
#endif
}

/* Waits for the end of a barrier's phase: 0 for its first use, 1 for its second, and so on. */
static __device__ __forceinline__ void barrier_wait(uint64_t *barrier, int phase)
{
    uint32_t done = 0;
    while (!done) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
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

/* The asking threads, all of them, for each stage in turn: begin, any number of rows, end. number counts stages from 0. */
static __device__ __forceinline__ uint64_t *ask_begin(const conveyor &c, int number)
{
    int stage = number % c.stages;
    if (number >= c.stages) barrier_wait(c.empty + stage, number / c.stages - 1);
    return c.full + stage;
}

/* rows copies of `bytes` (a multiple of 16), to + i * to_stride from from(i); everything aligned to 16. asker: this
 * thread's number among the askers. */
template <typename F>
static __device__ __forceinline__ void ask_rows(int asker, char *to, int to_stride, int bytes, int rows, F from)
{
    int units = bytes / 16, row = asker / units, unit = asker % units, down = ASKERS / units, right = ASKERS % units;
#pragma unroll 4
    while (row < rows) {
        copy_16(to + row * to_stride + unit * 16, (const char *)from(row) + unit * 16);
        row += down, unit += right;
        if (unit >= units) unit -= units, row++;
    }
}

static __device__ __forceinline__ void ask_end(uint64_t *full)
{
#ifdef WANE_HAS_MMA
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

#endif
