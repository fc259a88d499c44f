/* smoothquant.c - move the spread of activations into the weights, so that both round to 8 bits.
 *
 * Xiao, Lin, Seznec, Wu, Demouth, Han 2022, "SmoothQuant", arXiv:2211.10438, equation 4:
 * s = max|x|^a / max|w|^(1-a) by column, over all matrices that read the input; inputs become x /
 * s, folded into the norm before them, and weights w * s. Only inputs that a norm makes are
 * smoothed, as the authors do. With 8 bits the result is W8A8: int8 rows of weights, each token's
 * activations rounded to int8, products in integers, and a = 0.5 unless told otherwise.
 *
 * Departure: below 8 bits activations stay as they are and moving spread into the weights harms
 * them, so a is the one of 0, 0.1, .. 0.9 that loses least (search.c), or no smoothing where all
 * lose. Losses are measured on 65,536 tokens where there are more, maxima on all. */
#include <math.h>
#include <stdlib.h>

#include "runtime/quant/quant.h"

enum { ALPHAS = 10 };

static const wane_option options[] = {
    {"bits", WANE_INTEGER, 8, 2, 8, "2 3 4 8", "bits of a code"},
    {"group_size", WANE_INTEGER, NAN, -1, 128, "32 64 128 -1",
     "columns that share a scale, 64 unless given; always -1, the whole row, with 8-bit "
     "activations"},
    {"symmetric", WANE_BOOLEAN, NAN, 0, 1, NULL,
     "no zero points, false unless given; always true with 8-bit activations"},
    {"activation_bits", WANE_INTEGER, NAN, 8, 16, "8 16",
     "8: activations are rounded too, token by token; the default with 8-bit codes, else 16"},
    {"alpha", WANE_NUMBER, NAN, 0, 1, NULL,
     "share of the spread that moves; 0.5 with 8-bit activations, else searched unless given"},
    {NULL, WANE_BOOLEAN, 0, 0, 0, NULL, NULL},
};

static void overrule(wane_plan *p, const char *option, double value)
{
    wane_err e;
    (void)wane_plan_set(p, option, value, &e); /* a value that the option has */
}

static wane_status settle(wane_plan *p, wane_err *e)
{
    bool bytes = wane_plan_get(p, "bits") == 8;
    wane_plan_default(p, "activation_bits", bytes ? 8 : 16);
    bool both = wane_plan_get(p, "activation_bits") == 8;
    if (both && !bytes)
        return wane_fail(
            e, WANE_EARG,
            "wane.smoothquant: activation_bits = 8 goes with bits = 8; with fewer bits it "
            "is 16");
    wane_plan_default(p, "group_size", 64);
    wane_plan_default(p, "symmetric", 0);
    if (both) {
        overrule(p, "group_size", -1);
        overrule(p, "symmetric", 1);
        wane_plan_default(p, "alpha", 0.5);
    }
    p->act_bits = both ? 8 : 0;
    return WANE_OK;
}

static uint64_t scratch(const wane_plan *p, int64_t m, int64_t k)
{
    uint64_t range = wane_mat_bytes(WANE_F32, 1, k); /* twice: with the search or after it */
    return 2 * range + wane_search_bytes(p, m, k);
}

typedef struct {
    const float *x, *w; /* [k] largest magnitudes */
    double first, step; /* alpha of candidate i: first + i * step */
} alphas;

static void candidate(const void *self, int i, float *s, int64_t k)
{
    const alphas *a = self;
    double alpha = a->first + i * a->step;
    for (int64_t c = 0; c < k; c++)
        s[c] = (float)fmax(pow(a->x[c], alpha) / pow(fmax(a->w[c], 1e-5), 1 - alpha), 1e-5);
}

/* w [k] = the largest |w| of each column over the n matrices */
static wane_status weight_range(wane_job *j, const wane_mat *w, int n, float *out, wane_err *e)
{
    wane_device *d = j->device;
    wane_mat none = {0}, most = wane_job_take(j, WANE_F32, 1, j->k);
    wane_status st = WANE_CALL(d, e, fill, most.data, 0, (size_t)j->k * sizeof(float));
    for (int i = 0; i < n && !st; i++) st = WANE_CALL(d, e, column_max, most, w[i], none);
    return st ? st : WANE_CALL(d, e, get, out, most.data, (size_t)j->k * sizeof(float));
}

static wane_status rescale(wane_job *j, wane_mat s, const wane_mat *w, int n, wane_err *e)
{
    double alpha = wane_plan_get(j->plan, "alpha");
    size_t bytes = (size_t)j->k * sizeof(float);
    float *x = malloc(bytes), *most = malloc(bytes);
    alphas all = {x, most, 0, 1.0 / ALPHAS};
    wane_status st;
    if (!x || !most) {
        st = wane_fail(e, WANE_EOOM, "host: no memory for ranges");
        goto done;
    }
    st = WANE_CALL(j->device, e, get, x, j->max.data, bytes);
    if (!st) st = weight_range(j, w, n, most, e);
    if (st) goto done;
    if (!isnan(alpha)) {
        all.first = alpha;
        st = wane_job_put_scale(j, s, candidate, &all, 0, e);
    } else {
        int best;
        st = wane_job_search(j, s, w, n, ALPHAS, candidate, &all, &best, e);
        if (best >= 0) alpha = best * all.step;
    }
    if (!st && !isnan(alpha)) wane_job_note(j, "alpha", alpha);
done:
    free(x);
    free(most);
    return st;
}

const wane_method wane_method_smoothquant = {
    .name = "smoothquant",
    .paper = "Xiao et al. 2022, arXiv:2211.10438",
    .doc = "moves the spread of inputs into the weights: W8A8, or groups below 8 bits; needs "
           "calibration text",
    .needs = WANE_NEED_GRAM | WANE_NEED_MAX,
    .stages = 1 << 0 | 1 << 2,
    .options = options,
    .settle = settle,
    .scratch = scratch,
    .rescale = rescale,
    .encode = wane_job_round,
};
