/* stage.c - see stage.h. One scratch tensor holds all that a method and the driver work in; a step
 * takes from it and gives all back, but for what the method keeps between prepare and encode. */
#include "runtime/quant/stage.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

enum { MATRICES = 3 }; /* q, k, v read one input */

/* A method's error may exceed round-to-nearest's by so much without being called worse: float32
 * sums of the same codes. */
static const double NOISE = 1e-4;

struct wane_stage {
    wane_plan plan;
    wane_job job;
    wane_stats *stats;  /* retained */
    wane_calib *calib;  /* retained, or NULL */
    wane_tensor *space; /* the job's scratch */
    wane_tensor *s;     /* F32 (1,k): columns are multiplied by it; NULL: not rescaled */
    int n;
    wane_tensor *weight[MATRICES]; /* retained */
    wane_mat w[MATRICES];          /* the same */
    const char *name[MATRICES];
    double norm[MATRICES], rtn[MATRICES]; /* tr(w h w^T), and the loss of rounding to nearest */
    bool prepared, given_up;              /* given_up: the method cannot work on this input */
    bool plain;                           /* no scale helps, and the method is nothing else */
    uint64_t floor;                       /* scratch that prepare keeps */
    double seconds; /* of prepare and rescale, for the first matrix that asks */
};

/* What the driver takes itself while a method encodes: w twice, a grid and a number. */
static uint64_t driver_bytes(const wane_plan *p, int64_t m, int64_t k)
{
    return 2 * wane_mat_bytes(WANE_F32, m, k) + wane_grid_bytes(p, m, k) +
           wane_mat_bytes(WANE_F32, 1, 1);
}

uint64_t wane_stage_bytes(const wane_plan *p, int64_t m, int64_t k, int n, bool gram)
{
    uint64_t codes =
        wane_mat_bytes(WANE_F32, m, k / wane_plan_group(p, k)) + wane_grid_bytes(p, m, k);
    return p->method->scratch(p, m, k) + driver_bytes(p, m, k) + (uint64_t)n * codes +
           wane_mat_bytes(WANE_F32, gram ? k : 1, k) + 3 * wane_mat_bytes(WANE_F32, 1, k);
}

static wane_status check_matrix(const wane_plan *p, const wane_tensor *w, const char *name,
                                int64_t k, wane_err *e)
{
    int64_t g = wane_plan_group(p, k);
    if (w->rank != 2 || (w->dtype != WANE_F32 && w->dtype != WANE_F16 && w->dtype != WANE_BF16))
        return wane_fail(e, WANE_EARG,
                         "%s: a matrix of f32, f16 or bf16 is quantized, not rank %d of %s", name,
                         w->rank, wane_dtype_name(w->dtype));
    if (w->shape[1] != k || !k || !w->shape[0])
        return wane_fail(e, WANE_EARG, "%s: %" PRId64 " columns where the input has %" PRId64, name,
                         w->shape[1], k);
    if (k % g == 0) return WANE_OK;
    int64_t fits = 128;
    while (fits > 16 && k % fits) fits /= 2;
    if (fits > 16)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "%s: groups of %" PRId64 " do not divide its %" PRId64
                         " columns; take group_size = %" PRId64 " or -1",
                         name, g, k, fits);
    return wane_fail(e, WANE_EUNSUPPORTED,
                     "%s: groups of %" PRId64 " do not divide its %" PRId64
                     " columns; take group_size = -1",
                     name, g, k);
}

static void fill_job(wane_stage *st, wane_device *d, wane_dtype scale_dtype)
{
    wane_job *j = &st->job;
    *j = (wane_job){.plan = &st->plan,
                    .device = d,
                    .matrix = "",
                    .k = st->stats->k,
                    .scale_dtype = scale_dtype};
    j->gram = wane_tensor_mat(st->stats->gram);
    j->mean = wane_tensor_mat(st->stats->mean);
    j->max = wane_tensor_mat(st->stats->max);
    j->scratch = st->space->buffer->data;
    j->scratch_bytes = st->space->buffer->bytes;
}

/* w (F32) of matrix i, with its columns as they are encoded. */
static wane_status load(wane_stage *st, int i, wane_mat w, wane_err *e)
{
    wane_device *d = st->job.device;
    wane_status s = WANE_CALL(d, e, convert, w, st->w[i]);
    if (!s && st->s) s = WANE_CALL(d, e, binary, w, w, wane_tensor_mat(st->s), WANE_MUL);
    return s;
}

/* Loss of q for matrix i: on the activations where they are rounded too. w is as it was encoded. */
static wane_status loss_of(wane_stage *st, int i, wane_qmat q, wane_mat w, wane_mat work,
                           double *loss, wane_err *e)
{
    wane_mat none = {0}, s = st->s ? wane_tensor_mat(st->s) : none;
    double norm;
    if (q.act_bits && st->calib) {
        wane_status status = wane_calib_compare(st->calib, st->w[i], s, q, loss, &norm, e);
        *loss *= norm > 0 ? st->norm[i] / norm : 1; /* a sample's, as if of all tokens */
        return status;
    }
    return wane_job_loss(&st->job, q, w, none, work, loss, e);
}

static wane_status not_finite(const wane_stage *st, int i, wane_err *e)
{
    wane_fail(e, WANE_ENUMERIC,
              "%s: its outputs on the calibration text are not finite, so no error can be "
              "measured; check the checkpoint with wane check",
              st->name[i]);
    return wane_err_at(e, "quantize", st->name[i], NULL);
}

/* Norm of matrix i, and the loss of rounding it to nearest as it was given. */
static wane_status measure(wane_stage *st, int i, wane_err *e)
{
    wane_job *j = &st->job;
    wane_mat w = wane_job_take(j, WANE_F32, st->w[i].rows, j->k);
    wane_mat work = wane_job_take(j, WANE_F32, w.rows, j->k),
             sum = wane_job_take(j, WANE_F32, 1, 1);
    float norm = 0;
    wane_status s = load(st, i, w, e);
    if (!s) s = WANE_CALL(j->device, e, gram_error, sum, w, j->gram);
    if (!s) s = WANE_CALL(j->device, e, get, &norm, sum.data, sizeof norm);
    st->norm[i] = norm;
    j->scratch_used -= wane_mat_bytes(WANE_F32, 1, 1);
    wane_qmat q = wane_job_take_grid(j, w.rows, j->k);
    if (!s) s = wane_job_round(j, q, w, e);
    if (!s) s = loss_of(st, i, q, w, work, &st->rtn[i], e);
    j->scratch_used = 0;
    if (!s && !(isfinite(norm) && isfinite(st->rtn[i]))) s = not_finite(st, i, e);
    return s;
}

wane_status wane_stage_new(const wane_plan *p, wane_tensor *const *w, const char *const *names,
                           int n, wane_stats *stats, wane_calib *calib, wane_stage **out,
                           wane_err *e)
{
    wane_stage *st = NULL;
    wane_status s;
    int64_t m = 0;
    *out = NULL;
    if (n < 1 || n > MATRICES)
        return wane_fail(e, WANE_EARG, "a stage has 1 to 3 matrices, not %d", n);
    for (int i = 0; i < n; i++) {
        s = check_matrix(p, w[i], names[i], stats->k, e);
        if (s) return wane_err_at(e, "quantize", names[i], NULL);
        if (w[i]->shape[0] > m) m = w[i]->shape[0];
    }
    wane_device *d = wane_tensor_device(w[0]);
    st = calloc(1, sizeof *st);
    if (!st) return wane_fail(e, WANE_EOOM, "host: no memory for a stage");
    st->plan = *p;
    st->stats = wane_stats_retain(stats);
    st->calib = wane_calib_retain(calib);
    st->n = n;
    for (int i = 0; i < n; i++) {
        st->weight[i] = wane_tensor_retain(w[i]);
        st->w[i] = wane_tensor_mat(w[i]);
        st->name[i] = names[i];
    }
    int64_t bytes = (int64_t)(p->method->scratch(p, m, stats->k) + driver_bytes(p, m, stats->k));
    s = wane_tensor_new(d, WANE_U8, 1, &bytes, &st->space, e);
    if (s) goto done;
    fill_job(st, d, p->scale_dtype == WANE_DTYPES ? w[0]->dtype : p->scale_dtype);
    for (int i = 0; i < n && !s; i++) s = measure(st, i, e);
done:
    if (s)
        wane_stage_free(st);
    else
        *out = st;
    return s ? wane_err_at(e, "quantize", names[0], NULL) : WANE_OK;
}

void wane_stage_free(wane_stage *st)
{
    if (!st) return;
    for (int i = 0; i < st->n; i++) wane_tensor_release(st->weight[i]);
    wane_calib_release(st->calib);
    wane_stats_release(st->stats);
    wane_tensor_release(st->space);
    wane_tensor_release(st->s);
    free(st);
}

/* s F32 (1,k) of ones, then as the method likes it. */
static wane_status choose(wane_stage *st, wane_tensor **s, wane_err *e)
{
    wane_job *j = &st->job;
    size_t bytes = (size_t)j->k * sizeof(float);
    float *ones = malloc(bytes);
    wane_status status;
    *s = NULL;
    if (!ones) return wane_fail(e, WANE_EOOM, "host: no memory for a scale");
    for (int64_t i = 0; i < j->k; i++) ones[i] = 1;
    status = wane_tensor_new2(j->device, WANE_F32, 1, j->k, s, e);
    if (!status) status = wane_tensor_put(*s, ones, e);
    if (!status && st->plan.method->rescale)
        status = st->plan.method->rescale(j, wane_tensor_mat(*s), st->w, st->n, e);
    j->scratch_used = 0;
    free(ones);
    if (status) {
        wane_tensor_release(*s);
        *s = NULL;
    }
    return status;
}

wane_status wane_stage_scale(wane_stage *st, wane_tensor **s, wane_result *r, wane_err *e)
{
    memset(r, 0, sizeof *r);
    st->job.notes = 0;
    wane_status status = choose(st, s, e);
    memcpy(r->note, st->job.note, sizeof r->note);
    r->notes = st->job.notes;
    return status;
}

/* Heads that share a value channel look at shared statistics. */
static wane_status share(wane_stage *st, const wane_fold *fold, wane_err *e)
{
    size_t count = (size_t)st->job.k;
    wane_tensor *t[2] = {st->stats->mean, st->stats->max};
    float *x = malloc(count * sizeof *x);
    wane_status s = WANE_OK;
    if (!x) return wane_fail(e, WANE_EOOM, "host: no memory to fold a scale");
    for (int i = 0; i < 2 && !s; i++) {
        if (!t[i]) continue;
        s = wane_tensor_get(t[i], x, e);
        if (s) break;
        wane_fold_share(fold, x, i == 1);
        s = wane_tensor_put(t[i], x, e);
    }
    free(x);
    return s;
}

/* Whether no matrix loses by s: rounded to nearest, on the activations. */
static wane_status proven(wane_stage *st, wane_tensor *scale, bool *better, wane_err *e)
{
    wane_job *j = &st->job;
    wane_status s = WANE_OK;
    *better = true;
    st->s = scale;
    for (int i = 0; i < st->n && !s && *better; i++) {
        wane_mat w = wane_job_take(j, WANE_F32, st->w[i].rows, j->k);
        wane_mat work = wane_job_take(j, WANE_F32, w.rows, j->k);
        wane_qmat q = wane_job_take_grid(j, w.rows, j->k);
        double loss = 0;
        s = load(st, i, w, e);
        if (!s) s = wane_job_round(j, q, w, e);
        if (!s) s = loss_of(st, i, q, w, work, &loss, e);
        if (!(loss <= st->rtn[i])) *better = false;
        j->scratch_used = 0;
    }
    st->s = NULL;
    return s;
}

/* h / (s^T s), mean / s, max / s: statistics of x / s. */
static wane_status divide_stats(wane_stage *st, wane_mat s, wane_err *e)
{
    wane_job *j = &st->job;
    wane_mat column = {s.data, WANE_F32, s.cols, 1, 1};
    wane_status status = WANE_CALL(j->device, e, binary, j->gram, j->gram, s, WANE_DIV);
    if (!status)
        status = WANE_CALL(j->device, e, binary, j->gram, j->gram, j->gram.rows == 1 ? s : column,
                           WANE_DIV);
    if (!status && j->mean.data)
        status = WANE_CALL(j->device, e, binary, j->mean, j->mean, s, WANE_DIV);
    if (!status && j->max.data)
        status = WANE_CALL(j->device, e, binary, j->max, j->max, s, WANE_DIV);
    return status;
}

/* Whether all of s [k] is 1. */
static bool idle(const float *s, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        if (s[i] != 1) return false;
    return true;
}

wane_status wane_stage_rescale(wane_stage *st, const wane_config *config, wane_layer *into,
                               int stage, wane_err *e)
{
    const wane_method *method = st->plan.method;
    wane_fold *fold = NULL;
    wane_tensor *scale = NULL;
    float *s = NULL;
    bool better = true;
    double start = wane_clock();
    if (!method->rescale || !(method->stages >> stage & 1)) return WANE_OK;
    wane_status status = wane_fold_new(config, into, stage, &fold, e);
    if (!status) status = share(st, fold, e);
    if (status) goto done;
    st->job.snap = wane_fold_snap;
    st->job.fold = fold;
    status = choose(st, &scale, e);
    if (!status && st->plan.act_bits && st->calib) status = proven(st, scale, &better, e);
    if (status) goto done;
    s = malloc((size_t)st->job.k * sizeof *s);
    if (!s) {
        status = wane_fail(e, WANE_EOOM, "host: no memory to fold a scale");
        goto done;
    }
    status = wane_tensor_get(scale, s, e);
    if (status) goto done;
    if (!better || idle(s, st->job.k)) {
        if (!better) st->job.notes = 0; /* what was noted is not what is used */
        st->plain = !st->job.notes;
        goto done;
    }
    status = wane_fold_apply(fold, s, e);
    if (!status) status = wane_tensor_put(scale, s, e);
    if (!status) status = divide_stats(st, wane_tensor_mat(scale), e);
    if (status) goto done;
    if (st->calib) wane_calib_divide(st->calib, scale);
    st->s = scale;
    scale = NULL;
done:
    wane_fold_free(fold);
    wane_tensor_release(scale);
    free(s);
    st->job.snap = NULL;
    st->job.fold = NULL;
    st->seconds += wane_clock() - start;
    return status ? wane_err_at(e, "quantize", st->name[0], NULL) : WANE_OK;
}

/* to = from, a grid of the same shape with zeros of another type perhaps. */
static wane_status copy_grid(wane_device *d, wane_qmat to, wane_qmat from, wane_err *e)
{
    wane_status s = WANE_CALL(d, e, convert, to.words, from.words);
    if (!s) s = WANE_CALL(d, e, convert, to.scale, from.scale);
    if (!s && to.zero.data) s = WANE_CALL(d, e, convert, to.zero, from.zero);
    return s;
}

static wane_status prepare(wane_stage *st, wane_err *e)
{
    const wane_method *method = st->plan.method;
    double start = wane_clock();
    if (st->prepared) return WANE_OK;
    wane_status s = method->prepare ? method->prepare(&st->job, e) : WANE_OK;
    if (s == WANE_ENUMERIC) {
        st->given_up = true;
        st->job.scratch_used = 0;
        s = WANE_OK;
    }
    if (s) return s;
    st->prepared = true;
    st->floor = st->job.scratch_used;
    st->seconds += wane_clock() - start;
    return WANE_OK;
}

/* Fills q for matrix i; the loss and whether it was rounded to nearest. */
static wane_status fill(wane_stage *st, int i, wane_qmat q, double *loss, bool *fallback,
                        wane_err *e)
{
    wane_job *j = &st->job;
    wane_mat w = wane_job_take(j, WANE_F32, q.words.rows, q.k);
    uint64_t used = j->scratch_used;
    wane_status s = load(st, i, w, e);
    bool given_up = st->given_up;
    *loss = INFINITY;
    if (!s && !given_up) s = st->plan.method->encode(j, q, w, e);
    if (s == WANE_ENUMERIC) {
        given_up = true;
        s = WANE_OK;
    }
    j->scratch_used = used;
    wane_mat work = wane_job_take(j, WANE_F32, w.rows, w.cols);
    if (!s) s = load(st, i, w, e);
    if (!s && !given_up) s = loss_of(st, i, q, w, work, loss, e);
    if (s || *loss <= st->rtn[i] * (1 + NOISE)) return s;
    wane_qmat plain = wane_job_take_grid(j, w.rows, w.cols);
    double other;
    s = wane_job_round(j, plain, w, e);
    if (!s) s = loss_of(st, i, plain, w, work, &other, e);
    if (s || !(other < *loss || given_up)) return s;
    *loss = other;
    *fallback = true;
    return copy_grid(j->device, q, plain, e);
}

wane_status wane_stage_encode(wane_stage *st, int i, wane_quantized **out, wane_result *r,
                              wane_err *e)
{
    const wane_plan *p = &st->plan;
    wane_job *j = &st->job;
    wane_quantized *q = NULL;
    double start = wane_clock(), loss = 0;
    wane_dtype zero = p->symmetric ? WANE_DTYPES : p->float_zero ? WANE_F32 : WANE_U8;
    *out = NULL;
    memset(r, 0, sizeof *r);
    wane_status s = prepare(st, e);
    int notes = j->notes;
    if (!s)
        s = wane_quantized_new(j->device, st->w[i].rows, j->k, p->bits, p->group, p->act_bits,
                               j->scale_dtype, zero, &q, e);
    if (s) goto done;
    j->matrix = st->name[i];
    r->fallback = st->plain;
    s = fill(st, i, wane_quantized_mat(q), &loss, &r->fallback, e);
    j->scratch_used = st->floor;
    if (!s && !isfinite(loss)) s = not_finite(st, i, e);
    if (s) goto done;
    double norm = st->norm[i] > 0 ? st->norm[i] : 1; /* an input that was always 0: errors are 0 */
    r->error = sqrt(fmax(loss, 0) / norm);
    r->rtn_error = sqrt(fmax(st->rtn[i], 0) / norm);
    memcpy(r->note, j->note, sizeof r->note);
    r->notes = j->notes;
    r->seconds = st->seconds + (wane_clock() - start);
    st->seconds = 0;
    *out = q;
    q = NULL;
done:
    j->notes = notes; /* a matrix's own notes end with it */
    wane_quantized_release(q);
    return s ? wane_err_at(e, "quantize", st->name[i], NULL) : WANE_OK;
}
