/* fit.c - codes as a format stores them: its scales' type, its kind of zero points, the same codes.
 *
 * What decides is the weights: a change that leaves every one of them as it was is no loss. That is
 * so for a scale that its new type holds exactly, for zero points written out in full, and for any
 * scale of a group whose codes all are its zero point. Everything else is told, and done only where
 * it is asked for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/save/packing.h"
#include "runtime/tensor/math.h"

typedef struct {
    const wane_packing *packing;
    const wane_quantized *q;
    const char *matrix;
    uint64_t rounded; /* of this matrix */
    double worst;
} fitting;

/* Zero points as numbers, wherever and however they are kept. */
typedef struct {
    const void *data; /* NULL: all in the middle */
    wane_dtype dtype;
    float middle, most;
    int64_t count; /* of data */
} zeros;

static zeros zeros_of(const wane_quantized *q)
{
    zeros z = {.middle = (float)(1 << (q->bits - 1)), .most = (float)((1 << q->bits) - 1)};
    if (!q->zero) return z;
    z.data = wane_tensor_mat(q->zero).data;
    z.dtype = q->zero->dtype;
    z.count = wane_tensor_count(q->zero);
    return z;
}

static float zero_at(const zeros *z, int64_t i)
{
    if (!z->data) return z->middle;
    return z->dtype == WANE_U8 ? ((const uint8_t *)z->data)[i] : ((const float *)z->data)[i];
}

bool wane_packed_centred(const wane_quantized *q)
{
    zeros z = zeros_of(q);
    int64_t i = 0;
    while (i < z.count && zero_at(&z, i) == z.middle) i++;
    return i == z.count;
}

bool wane_packed_whole(const wane_quantized *q)
{
    zeros z = zeros_of(q);
    int64_t i = 0;
    for (; i < z.count; i++) {
        float at = zero_at(&z, i);
        if (!(at >= 0 && at <= z.most && at == rintf(at))) break;
    }
    return i == z.count;
}

/* Whether all codes of a group are its zero point: its weights are 0 whatever its scale. codes [k]
 * is room for a row. */
static bool is_empty(const wane_quantized *q, int64_t row, int64_t group, uint8_t *codes)
{
    wane_mat words = wane_tensor_mat(q->words);
    zeros z = zeros_of(q);
    float zero = zero_at(&z, row * (q->k / q->group) + group);
    wane_bits_unpack(codes, (const uint32_t *)words.data + row * words.stride, q->k, q->bits);
    for (int64_t i = 0; i < q->group; i++)
        if ((float)codes[group * q->group + i] != zero) return false;
    return true;
}

static wane_status outside(const fitting *f, double scale, wane_err *e)
{
    wane_fail(e, WANE_EUNSUPPORTED,
              "%s: format %s stores scales as %s, which has no number near %g: format "
              "compressed-tensors holds it",
              f->matrix, f->packing->name, wane_dtype_name(f->packing->scale), scale);
    return wane_err_at(e, "save", f->matrix, NULL);
}

/* new [n] are the scales old [n] in the format's type. Scales that do not matter become its least
 * number where they have none. */
static wane_status compare_scales(fitting *f, const float *old, float *new, uint8_t *codes,
                                  wane_err *e)
{
    int64_t groups = f->q->k / f->q->group;
    for (int64_t i = 0; i < f->q->m * groups; i++) {
        if (new[i] == old[i]) continue;
        bool usable = new[i] > 0 && isfinite(new[i]);
        if (is_empty(f->q, i / groups, i % groups, codes)) {
            if (!usable) new[i] = 0x1p-24f;
        } else if (!usable) {
            return outside(f, old[i], e);
        } else {
            f->rounded++;
            f->worst = fmax(f->worst, fabs((double)new[i] - old[i]) / old[i]);
        }
    }
    return WANE_OK;
}

static wane_status fit_scale(fitting *f, wane_device *host, wane_tensor **out, wane_err *e)
{
    wane_tensor *from = f->q->scale, *rounded = NULL;
    wane_dtype t = f->packing->scale;
    size_t n = (size_t)wane_tensor_count(from);
    *out = NULL;
    if (t == WANE_DTYPES || t == from->dtype) {
        *out = wane_tensor_retain(from);
        return WANE_OK;
    }
    float *old = malloc(n * sizeof *old), *new = malloc(n * sizeof *new);
    uint8_t *codes = malloc((size_t)f->q->k);
    wane_status s =
        old && new &&codes ? WANE_OK : wane_fail(e, WANE_EOOM, "no memory to compare scales");
    if (!s) s = wane_tensor_copy_to(from, host, t, &rounded, e);
    if (!s) s = wane_tensor_read(from, WANE_F32, old, e);
    if (!s) s = wane_tensor_read(rounded, WANE_F32, new, e);
    if (!s) s = compare_scales(f, old, new, codes, e);
    if (!s) s = wane_tensor_from(host, t, 2, from->shape, new, WANE_F32, out, e);
    wane_tensor_release(rounded);
    free(old);
    free(new);
    free(codes);
    return s;
}

/* Whole zero points, of the middle where q has none. */
static wane_status whole_zero(const fitting *f, wane_device *host, wane_tensor **out, wane_err *e)
{
    const wane_quantized *q = f->q;
    if (!wane_packed_whole(q)) {
        wane_fail(e, WANE_EUNSUPPORTED,
                  "%s: format %s stores whole zero points and these are fractions: format hqq "
                  "holds them, or quantize with zero = \"integer\"",
                  f->matrix, f->packing->name);
        return wane_err_at(e, "save", f->matrix, NULL);
    }
    if (q->zero && q->zero->dtype == WANE_U8) {
        *out = wane_tensor_retain(q->zero);
        return WANE_OK;
    }
    wane_status s = wane_tensor_new2(host, WANE_U8, q->m, q->k / q->group, out, e);
    if (s) return s;
    zeros z = zeros_of(q);
    uint8_t *to = wane_tensor_mat(*out).data;
    int64_t n = wane_tensor_count(*out);
    for (int64_t i = 0; i < n; i++) to[i] = (uint8_t)zero_at(&z, i);
    return WANE_OK;
}

/* Zero points as numbers of the scales' type, which are kept as F32. */
static wane_status float_zero(fitting *f, wane_device *host, wane_tensor **out, wane_err *e)
{
    const wane_quantized *q = f->q;
    wane_tensor *exact = NULL, *stored = NULL;
    *out = NULL;
    wane_status s = wane_tensor_new2(host, WANE_F32, q->m, q->k / q->group, &exact, e);
    if (s) return s;
    zeros z = zeros_of(q);
    float *old = wane_tensor_mat(exact).data;
    int64_t n = wane_tensor_count(exact);
    for (int64_t i = 0; i < n; i++) old[i] = zero_at(&z, i);
    s = wane_tensor_copy_to(exact, host, q->scale->dtype, &stored, e);
    if (!s) s = wane_tensor_copy_to(stored, host, WANE_F32, out, e);
    const float *new = s ? NULL : wane_tensor_mat(*out).data;
    for (int64_t i = 0; !s && i < n; i++) {
        if (new[i] == old[i]) continue;
        f->rounded++;
        f->worst = fmax(f->worst, fabs((double)new[i] - old[i]));
    }
    wane_tensor_release(exact);
    wane_tensor_release(stored);
    return s;
}

static wane_status fit_zero(fitting *f, bool symmetric, wane_device *host, wane_tensor **out,
                            wane_err *e)
{
    *out = NULL;
    if (f->packing->zeros == WANE_ZEROS_FLOAT) return float_zero(f, host, out, e);
    if (symmetric && f->packing->zeros == WANE_ZEROS_WHOLE) return WANE_OK;
    return whole_zero(f, host, out, e);
}

static wane_status lossy(const fitting *f, wane_err *e)
{
    wane_dtype t = f->packing->scale == WANE_DTYPES ? f->q->scale->dtype : f->packing->scale;
    wane_fail(e, WANE_EUNSUPPORTED,
              "%s: %llu scales or zero points are no %s numbers, the largest change is %.2g: "
              "format compressed-tensors holds them as they are; quantize with format = \"%s\" to "
              "have codes fitted to it, or let them be rounded: round_scales = true",
              f->matrix, (unsigned long long)f->rounded, wane_dtype_name(t), f->worst,
              f->packing->name);
    return wane_err_at(e, "save", f->matrix, NULL);
}

wane_status wane_packed_fit(const wane_packing *packing, const wane_quantized *q, bool symmetric,
                            bool round, wane_packed_loss *loss, const char *matrix,
                            wane_quantized **out, wane_err *e)
{
    fitting f = {packing, q, matrix, 0, 0};
    wane_device *host = wane_tensor_device(q->words);
    *out = NULL;
    wane_quantized *c = calloc(1, sizeof *c);
    if (!c) return wane_fail(e, WANE_EOOM, "host: no memory for a matrix of codes");
    *c = *q;
    c->refs = 1;
    c->words = wane_tensor_retain(q->words);
    c->scale = c->zero = NULL;
    wane_status s = fit_scale(&f, host, &c->scale, e);
    if (!s) s = fit_zero(&f, symmetric, host, &c->zero, e);
    if (!s && f.rounded && !round) s = lossy(&f, e);
    if (s) {
        wane_quantized_release(c);
        return s;
    }
    if (loss) {
        loss->rounded += f.rounded;
        loss->worst = fmax(loss->worst, f.worst);
    }
    *out = c;
    return WANE_OK;
}
