/* awq.c - activation-aware weight quantization: columns whose inputs are large get finer steps.
 *
 * Lin, Tang, Tang, Yang, Chen, Wang, Xiao, Dang, Gan, Han 2023, "AWQ", arXiv:2306.00978, section
 * 3.2: s = mean|x|^r, r on a grid over [0, 1), s divided by sqrt(max s * min s); the matrices
 * become w * s and what makes their input is divided by s. Then, as in the authors' code, each
 * group's range is shrunk where that loses less, for all but q and k, whose errors the softmax
 * amplifies.
 *
 * Departures: r is judged by the matrices' own output error under the gram matrix (search.c), not
 * by running the parent block; no scaling at all is always a candidate, and no matrix may lose by
 * the scaling. Clipping is judged under the g x g diagonal blocks of the gram matrix, which is the
 * authors' loss over all calibration tokens instead of a sample of 512. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/quant/quant.h"

enum { CLIP_STEPS = 20 };            /* the authors' n_grid */
static const float CLIP_MOST = 0.5f; /* and max_shrink */

static const wane_option options[] = {
    {"grid", WANE_INTEGER, 20, 1, 200, NULL, "how many ratios are tried: 0, 1/grid, 2/grid, ..."},
    {"ratio", WANE_NUMBER, NAN, 0, 1, NULL,
     "this exponent of mean |x|, unsearched; searched unless given"},
    {"clip", WANE_BOOLEAN, 1, 0, 1, NULL, "shrink each group's range where that loses less"},
    {NULL, WANE_BOOLEAN, 0, 0, 0, NULL, NULL},
};

static uint64_t scratch(const wane_plan *p, int64_t m, int64_t k)
{
    int64_t groups = k / wane_plan_group(p, k);
    uint64_t search = wane_search_bytes(p, m, k);
    uint64_t clip = wane_mat_bytes(WANE_F32, m, groups) + wane_mat_bytes(WANE_F32, 1, 1);
    return search > clip ? search : clip;
}

typedef struct {
    const float *mean;  /* [k] */
    double first, step; /* ratio of candidate i: first + i * step */
} ratios;

/* s = mean^r over sqrt(max * min), exactly 1 for r = 0 */
static void candidate(const void *self, int i, float *s, int64_t k)
{
    const ratios *a = self;
    double r = a->first + i * a->step, low = INFINITY, high = 0;
    for (int64_t c = 0; c < k; c++) {
        double x = fmax(r == 0 ? 1 : pow(a->mean[c], r), 1e-4);
        s[c] = (float)x;
        low = fmin(low, x);
        high = fmax(high, x);
    }
    for (int64_t c = 0; c < k; c++) s[c] = (float)(s[c] / sqrt(high * low));
}

static wane_status rescale(wane_job *j, wane_mat s, const wane_mat *w, int n, wane_err *e)
{
    int grid = (int)wane_plan_get(j->plan, "grid"), best = 0;
    double ratio = wane_plan_get(j->plan, "ratio");
    size_t bytes = (size_t)j->k * sizeof(float);
    float *mean = malloc(bytes);
    if (!mean) return wane_fail(e, WANE_EOOM, "host: no memory for a mean");
    ratios all = {mean, 1.0 / grid, 1.0 / grid}; /* candidate 0 is 1/grid: 0 is no scaling */
    wane_status st = WANE_CALL(j->device, e, get, mean, j->mean.data, bytes);
    if (st) goto done;
    if (!isnan(ratio)) {
        all.first = ratio;
        st = wane_job_put_scale(j, s, candidate, &all, 0, e);
    } else {
        st = grid > 1 ? wane_job_search(j, s, w, n, grid - 1, candidate, &all, &best, e) : WANE_OK;
        ratio = grid > 1 && best >= 0 ? all.first + best * all.step : 0;
    }
    if (!st) wane_job_note(j, "ratio", ratio);
done:
    free(mean);
    return st;
}

/* q and k by their Hugging Face names */
static bool feeds_softmax(const char *matrix)
{
    return strstr(matrix, "q_proj") || strstr(matrix, "k_proj");
}

static wane_status encode(wane_job *j, wane_qmat q, wane_mat w, wane_err *e)
{
    wane_device *d = j->device;
    wane_mat clip = {0};
    wane_status s = WANE_OK;
    if (wane_plan_get(j->plan, "clip") != 0 && !feeds_softmax(j->matrix)) {
        float sum = 0;
        clip = wane_job_take(j, WANE_F32, w.rows, q.k / q.group);
        wane_mat total = wane_job_take(j, WANE_F32, 1, 1);
        s = WANE_CALL(d, e, clip_search, q, clip, w, j->gram, CLIP_STEPS, CLIP_MOST);
        if (!s) s = WANE_CALL(d, e, reduce, total, clip, WANE_SUM);
        if (!s) s = WANE_CALL(d, e, get, &sum, total.data, sizeof sum);
        if (!s) wane_job_note(j, "clip", sum / (double)(clip.rows * clip.cols));
    }
    if (!s) s = WANE_CALL(d, e, fit_grid, q, w, clip);
    if (!s) s = WANE_CALL(d, e, encode, q, w);
    return s;
}

const wane_method wane_method_awq = {
    .name = "awq",
    .paper = "Lin et al. 2023, arXiv:2306.00978",
    .doc = "finer steps for columns with large inputs, then clipped ranges; needs calibration text",
    .needs = WANE_NEED_GRAM | WANE_NEED_WHOLE | WANE_NEED_MEAN,
    .stages = 0xf,
    .options = options,
    .scratch = scratch,
    .rescale = rescale,
    .encode = encode,
};
