/* fault_cuda.c - a GPU that breaks on purpose: the CUDA backend that WANE_FAULT_BACKEND names, but for its
 * WANE_FAULT-th attention, whose kernel reads keys where no memory is. What comes of it is CUDA's own: an error that
 * stays for the life of the process. tests/gpu/failures_spec.lua puts it beside a copy of wane as libwane_cuda.so. */
#include <dlfcn.h>
#include <stdlib.h>

#include "kernels/kernels.h"

__attribute__((visibility("default"))) const wane_kernels *wane_cuda_kernels(void);

static wane_kernels table;
static const wane_kernels *whole;
static long left; /* attentions until the fault, that one counted; 0: none comes */

static wane_status attend(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                          const wane_attention *a)
{
    if (left > 0 && --left == 0) keys.data = (void *)((uintptr_t)1 << 40);
    return whole->attend(d, y, q, keys, values, a);
}

const wane_kernels *wane_cuda_kernels(void)
{
    const char *path = getenv("WANE_FAULT_BACKEND"), *fault = getenv("WANE_FAULT");
    const wane_kernels *(*kernels)(void) = NULL;
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : NULL;
    if (library) *(void **)&kernels = dlsym(library, "wane_cuda_kernels");
    if (!kernels) return NULL;
    whole = kernels();
    left = fault ? strtol(fault, NULL, 10) : 0;
    table = *whole;
    table.attend = attend;
    return &table;
}
