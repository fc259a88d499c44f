/* hqq.c - half-quadratic quantization: a zero point for each group that a few large errors cannot
 * pull, from the weights alone.
 *
 * Badri and Shaji 2023, "Half-Quadratic Quantization of Large Machine Learning Models",
 * mobiusml.github.io/hqq_blog. The slot hqq minimises |w - decoded|^p over the zeros with the scale
 * held (kernels/cpu/hqq.c states the steps). Departure: zeros are whole numbers unless
 * zero = "float", as the formats that W4 kernels read store them; they are rounded and the scales
 * and codes refitted to them by least squares in turn, and a group keeps the best by sum |w -
 * decoded|. Fractional zeros are rounded to the scales' type, as a file holds them. */
#include <math.h>
#include <stdlib.h>

#include "runtime/quant/quant.h"

static const wane_option options[] = {
    {"symmetric", WANE_BOOLEAN, 0, 0, 1, NULL, "always false: the zero is what hqq fits"},
    {"p", WANE_NUMBER, 0.7, 0.1, 0.99, NULL, "exponent of the error's norm"},
    {"beta", WANE_NUMBER, 10, 1e-3, 1e6, NULL, "first weight of the penalty"},
    {"kappa", WANE_NUMBER, 1.01, 1, 10, NULL, "growth of beta with every iteration"},
    {"iterations", WANE_INTEGER, 20, 1, 1000, NULL, "of the solver, and most rounds of the refit"},
    {"zero", WANE_CHOICE, 0, 0, 1, "integer float", "how zero points are stored"},
    {NULL, WANE_BOOLEAN, 0, 0, 0, NULL, NULL},
};

static wane_status settle(wane_plan *p, wane_err *e)
{
    if (wane_plan_get(p, "symmetric") != 0)
        return wane_fail(e, WANE_EARG,
                         "wane.hqq: symmetric grids have no zeros, which are what hqq fits");
    p->float_zero = wane_plan_get(p, "zero") == 1;
    return WANE_OK;
}

static uint64_t scratch(const wane_plan *p, int64_t m, int64_t k)
{
    return wane_mat_bytes(WANE_F32, m, k / wane_plan_group(p, k));
}

/* to (U8) = from (F32, the same shape without gaps), rounded to the codes' range. */
static wane_status round_zeros(wane_device *d, wane_mat to, wane_mat from, int bits, wane_err *e)
{
    size_t count = (size_t)(from.rows * from.cols);
    float most = (float)((1 << bits) - 1), *zero = malloc(count * sizeof *zero);
    unsigned char *codes = malloc(count);
    wane_status s;
    if (!zero || !codes) {
        s = wane_fail(e, WANE_EOOM, "host: no memory for zero points");
        goto done;
    }
    s = WANE_CALL(d, e, get, zero, from.data, count * sizeof *zero);
    if (s) goto done;
    for (size_t i = 0; i < count; i++)
        codes[i] = (unsigned char)fminf(fmaxf(nearbyintf(zero[i]), 0), most);
    s = WANE_CALL(d, e, put, to.data, codes, count);
done:
    free(zero);
    free(codes);
    return s;
}

/* Zeros become numbers of the scales' type, in which they are stored, and codes follow them. */
static wane_status store_zeros(wane_job *j, wane_qmat q, wane_mat w, wane_err *e)
{
    wane_device *d = j->device;
    if (q.scale.dtype == WANE_F32) return WANE_OK;
    wane_mat stored = wane_job_take(j, q.scale.dtype, q.zero.rows, q.zero.cols);
    wane_status s = WANE_CALL(d, e, convert, stored, q.zero);
    if (!s) s = WANE_CALL(d, e, convert, q.zero, stored);
    return s ? s : WANE_CALL(d, e, encode, q, w);
}

static wane_status encode(wane_job *j, wane_qmat q, wane_mat w, wane_err *e)
{
    const wane_plan *p = j->plan;
    wane_device *d = j->device;
    wane_hqq_options o = {(float)wane_plan_get(p, "p"), (float)wane_plan_get(p, "beta"),
                          (float)wane_plan_get(p, "kappa"), (int)wane_plan_get(p, "iterations")};
    if (p->float_zero) {
        wane_status s = WANE_CALL(d, e, hqq, q, w, o);
        return s ? s : store_zeros(j, q, w, e);
    }
    wane_qmat fine = q;
    fine.zero = wane_job_take(j, WANE_F32, q.zero.rows, q.zero.cols);
    wane_status s = WANE_CALL(d, e, hqq, fine, w, o);
    if (!s) s = round_zeros(d, q.zero, fine.zero, p->bits, e);
    if (!s) s = WANE_CALL(d, e, encode, q, w);
    if (!s) s = WANE_CALL(d, e, refit, q, w, o.iterations);
    return s;
}

const wane_method wane_method_hqq = {
    .name = "hqq",
    .paper = "Badri and Shaji 2023, mobiusml.github.io/hqq_blog",
    .doc = "fits each group's zero to an error norm below 1; from the weights alone",
    .options = options,
    .settle = settle,
    .scratch = scratch,
    .encode = encode,
};
