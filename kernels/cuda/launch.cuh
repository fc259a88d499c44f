/* launch.cuh - starting a kernel while the one before it ends.
 *
 * Between two launches of a recorded step lie a microsecond or two in which memory rests. On sm_90 and later a recorded
 * kernel may start as soon as all blocks of the one before have started: it opens its barriers and asks for weights, which
 * nothing in a recording writes (kernels.h), and only then waits for what was queued before it. Every kernel that is
 * started by launch_after calls prior_ended before it reads or writes anything else. All of them want the same part of a
 * multiprocessor's memory as shared memory: it is divided anew only while nothing runs there. */
#ifndef WANE_LAUNCH_CUH
#define WANE_LAUNCH_CUH

#include "kernels/cuda/device.cuh"

static __device__ __forceinline__ void next_may_start()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Everything queued before has ended, and what it wrote is there. */
static __device__ __forceinline__ void prior_ended()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <typename... P, typename... A>
static wane_status launch_after(wane_dev *d, void (*kernel)(P...), dim3 blocks, int threads, size_t shared, A &&...arguments)
{
    cudaError_t e = cudaSuccess;
    if (shared > 48 * 1024)
        e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (e == cudaSuccess)
        e = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
    if (e != cudaSuccess) return cuda_status(d, e);
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared;
    config.stream = d->stream;
    config.attrs = &early;
    config.numAttrs = d->recording && d->capability >= 90 ? 1 : 0;
    cudaLaunchKernelEx(&config, kernel, P(arguments)...);
    return launched(d);
}

#endif
