/* quantized.c - see quantized.h. Three tensors on one device that only make sense together. */
#include "runtime/tensor/quantized.h"

#include <inttypes.h>
#include <stdlib.h>

#include "runtime/base/units.h"

static wane_status check_grid(int64_t m, int64_t k, int bits, int64_t group, int act_bits,
                              wane_dtype scale, wane_dtype zero, wane_err *e)
{
    uint64_t n;
    if (m < 1 || k < 1 || !wane_mul((uint64_t)k, 8, &n) || n > INT64_MAX)
        return wane_fail(e, WANE_EARG, "a matrix of codes is not (%" PRId64 ", %" PRId64 ")", m, k);
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return wane_fail(e, WANE_EARG, "codes have 2, 3, 4 or 8 bits, not %d", bits);
    if (group < 1 || k % group)
        return wane_fail(e, WANE_EARG,
                         "a group of %" PRId64 " does not divide rows of %" PRId64
                         "; use -1 for the whole row",
                         group, k);
    if (scale != WANE_F32 && scale != WANE_F16 && scale != WANE_BF16)
        return wane_fail(e, WANE_EARG, "scales are f32, f16 or bf16, not %s",
                         wane_dtype_name(scale));
    if (zero != WANE_U8 && zero != WANE_F32 && zero != WANE_DTYPES)
        return wane_fail(e, WANE_EARG, "zeros are u8 or f32, not %s", wane_dtype_name(zero));
    if (act_bits != 0 && act_bits != 8)
        return wane_fail(e, WANE_EARG, "activations have 8 bits or stay as they are (0), not %d",
                         act_bits);
    if (act_bits == 8 && (bits != 8 || group != k || zero != WANE_DTYPES))
        return wane_fail(e, WANE_EARG,
                         "8-bit activations need 8-bit symmetric weights with one scale a row");
    return WANE_OK;
}

wane_status wane_quantized_new(wane_device *d, int64_t m, int64_t k, int bits, int64_t group,
                               int act_bits, wane_dtype scale_dtype, wane_dtype zero_dtype,
                               wane_quantized **out, wane_err *e)
{
    *out = NULL;
    if (group == -1) group = k;
    wane_status s = check_grid(m, k, bits, group, act_bits, scale_dtype, zero_dtype, e);
    if (s) return s;
    wane_quantized *q = calloc(1, sizeof *q);
    if (!q) return wane_fail(e, WANE_EOOM, "host: no memory for a matrix of codes");
    q->refs = 1;
    q->m = m;
    q->k = k;
    q->group = group;
    q->bits = bits;
    q->act_bits = act_bits;
    s = wane_tensor_new2(d, WANE_I32, m, (k * bits + 31) / 32, &q->words, e);
    if (!s) s = wane_tensor_new2(d, scale_dtype, m, k / group, &q->scale, e);
    if (!s && zero_dtype != WANE_DTYPES)
        s = wane_tensor_new2(d, zero_dtype, m, k / group, &q->zero, e);
    if (s) {
        wane_quantized_release(q);
        return s;
    }
    *out = q;
    return WANE_OK;
}

wane_quantized *wane_quantized_retain(wane_quantized *q)
{
    if (q) q->refs++;
    return q;
}

void wane_quantized_release(wane_quantized *q)
{
    if (!q || --q->refs > 0) return;
    wane_tensor_release(q->words);
    wane_tensor_release(q->scale);
    wane_tensor_release(q->zero);
    free(q);
}

wane_qmat wane_quantized_mat(const wane_quantized *q)
{
    return (wane_qmat){
        .words = wane_tensor_mat(q->words),
        .scale = wane_tensor_mat(q->scale),
        .zero = wane_tensor_mat(q->zero),
        .k = q->k,
        .group = q->group,
        .bits = q->bits,
        .act_bits = q->act_bits,
    };
}

uint64_t wane_quantized_bytes(const wane_quantized *q)
{
    uint64_t bytes = wane_tensor_bytes(q->words) + wane_tensor_bytes(q->scale);
    return q->zero ? bytes + wane_tensor_bytes(q->zero) : bytes;
}

wane_status wane_quantized_copy_to(const wane_quantized *q, wane_device *d, wane_quantized **out,
                                   wane_err *e)
{
    *out = NULL;
    wane_quantized *c = calloc(1, sizeof *c);
    if (!c) return wane_fail(e, WANE_EOOM, "host: no memory for a matrix of codes");
    *c = *q;
    c->refs = 1;
    c->words = c->scale = c->zero = NULL;
    wane_status s = wane_tensor_copy_to(q->words, d, WANE_I32, &c->words, e);
    if (!s) s = wane_tensor_copy_to(q->scale, d, q->scale->dtype, &c->scale, e);
    if (!s && q->zero) s = wane_tensor_copy_to(q->zero, d, q->zero->dtype, &c->zero, e);
    if (s) {
        wane_quantized_release(c);
        return s;
    }
    *out = c;
    return WANE_OK;
}
