/* quantized.h - a matrix kept as codes: words, scale and zero on one device, and its grid. */
#ifndef WANE_QUANTIZED_H
#define WANE_QUANTIZED_H

#include "runtime/tensor/tensor.h"

typedef struct wane_quantized {
    int refs;
    wane_tensor *words;  /* I32 (m, ceil(k*bits/32)), retained */
    wane_tensor *scale;  /* F32, F16 or BF16 (m, k/g) */
    wane_tensor *zero;   /* U8 or F32 (m, k/g); NULL: symmetric */
    int64_t m, k, group; /* group is k for a whole row */
    int bits, act_bits;
} wane_quantized;

/* Uncleared storage for codes of an (m,k) matrix. group -1 means k. zero_dtype U8, F32, or
 * WANE_DTYPES for symmetric. EARG where bits, group or act_bits cannot be. */
wane_status wane_quantized_new(wane_device *, int64_t m, int64_t k, int bits, int64_t group,
                               int act_bits, wane_dtype scale_dtype, wane_dtype zero_dtype,
                               wane_quantized **out, wane_err *e);
wane_quantized *wane_quantized_retain(wane_quantized *);
void wane_quantized_release(wane_quantized *); /* NULL is fine */
wane_qmat wane_quantized_mat(const wane_quantized *);
uint64_t
wane_quantized_bytes(const wane_quantized *); /* of words, scale and zero as they lie here */
wane_status wane_quantized_copy_to(const wane_quantized *, wane_device *, wane_quantized **out,
                                   wane_err *e);

#endif
