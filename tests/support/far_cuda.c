/* far_cuda.c - a CUDA backend for machines without a GPU: the far CPU of tests/c/far.c with
 * bfloat16 activations, under the name that wane opens. It finds what touches a GPU's memory from
 * the host, or asks it for F32 where it gives BF16; it says nothing of kernels/cuda. build/far/wane
 * uses it:
 *
 *     WANE_DEVICE=cuda build/far/wane tests/run.lua tests/spec/model_spec.lua
 *
 * WANE_FAR_FAULT=N breaks it at the N-th attention, as a faulting kernel breaks a GPU: from there
 * on every call that would tell fails. */
#include "tests/c/far.h"

#include <stdlib.h>

__attribute__((visibility("default"))) const wane_kernels *wane_cuda_kernels(void);

static wane_kernels table; /* with the faulting slots, which hand on to far's until then */
static const wane_kernels *whole;
static long left = -1; /* attentions until the fault; -1: none comes */

static bool lost(void)
{
    return left == 0;
}

static wane_status attend(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                          const wane_attention *a)
{
    if (left > 0) left--;
    return lost() ? WANE_EDEVICE : whole->attend(d, y, q, keys, values, a);
}

static wane_status allocate(wane_dev *d, size_t bytes, void **out)
{
    *out = NULL;
    return lost() ? WANE_EDEVICE : whole->alloc(d, bytes, out);
}

static wane_status put(wane_dev *d, void *dst, const void *host, size_t bytes)
{
    return lost() ? WANE_EDEVICE : whole->put(d, dst, host, bytes);
}

static wane_status get(wane_dev *d, void *host, const void *src, size_t bytes)
{
    return lost() ? WANE_EDEVICE : whole->get(d, host, src, bytes);
}

const wane_kernels *wane_cuda_kernels(void)
{
    const char *fault = getenv("WANE_FAR_FAULT");
    whole = test_far_kernels(WANE_BF16);
    if (!fault) return whole;
    if (!table.abi) left = strtol(fault, NULL, 10);
    table = *whole;
    table.attend = attend;
    table.alloc = allocate;
    table.put = put;
    table.get = get;
    return &table;
}
