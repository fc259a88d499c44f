/* far_cuda.c - a CUDA backend for machines without a GPU: the far CPU of tests/c/far.c with bfloat16
 * activations, under the name that wane opens. It finds what touches a GPU's memory from the host,
 * or asks it for F32 where it gives BF16; it says nothing of kernels/cuda. build/far/wane uses it:
 *   WANE_DEVICE=cuda build/far/wane tests/run.lua tests/spec/model_spec.lua */
#include "tests/c/far.h"

__attribute__((visibility("default"))) const wane_kernels *wane_cuda_kernels(void);

const wane_kernels *wane_cuda_kernels(void)
{
    return test_far_kernels(WANE_BF16);
}
