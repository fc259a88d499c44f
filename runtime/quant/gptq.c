/* gptq.c - round a matrix column by column, letting later columns absorb the error.
 *
 * Frantar, Ashkboos, Hoefler, Alistarh 2022, "GPTQ", arXiv:2210.17323, algorithm 1. h (k,k) mean of
 * x^T x (the paper's factor 2 cancels), damped by a share of its mean diagonal; u (k,k) upper with
 * h^-1 = u^T u, made once for all matrices that read the input. Each group's grid is fitted on the
 * weights as they are when the group is reached.
 *
 * Departure: columns are taken by falling diagonal of h, as in the authors' act-order, but inside
 * their groups, and groups by their largest: so that the codes need no order when they are used.
 * Where h cannot be factored the damping is raised, and noted. */
#include <math.h>
#include <stdlib.h>

#include "runtime/quant/quant.h"

static const wane_option options[] = {
    {"symmetric", WANE_BOOLEAN, NAN, 0, 1, NULL,
     "no zero points; true unless given at 4 and 8 bits, which programs read as GPTQ files only "
     "so, "
     "false below"},
    {"damp", WANE_NUMBER, 0.01, 0, 1, NULL,
     "share of the mean diagonal added to it; raised where needed"},
    {"order", WANE_BOOLEAN, 1, 0, 1, NULL,
     "columns with the largest inputs first, within their groups"},
    {NULL, WANE_BOOLEAN, 0, 0, 0, NULL, NULL},
};

static wane_status settle(wane_plan *p, wane_err *e)
{
    double bits = wane_plan_get(p, "bits");
    (void)e;
    wane_plan_default(p, "symmetric", bits == 4 || bits == 8);
    return WANE_OK;
}

static uint64_t scratch(const wane_plan *p, int64_t m, int64_t k)
{
    (void)p;
    return wane_mat_bytes(WANE_F32, k, k) + wane_mat_bytes(WANE_I32, 1, k) +
           wane_mat_bytes(WANE_U8, m, k);
}

typedef struct {
    float value;
    int32_t at;
} ranked;

/* falling value, rising place: a total order, so that the result is the same everywhere */
static int compare(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* order [k] by the diagonal [k]: columns inside groups of g, groups by their largest column */
static void sort_columns(int32_t *order, ranked *columns, ranked *groups, const float *diagonal,
                         int64_t k, int64_t g)
{
    for (int64_t i = 0; i < k; i++) columns[i] = (ranked){diagonal[i], (int32_t)i};
    for (int64_t i = 0; i < k / g; i++) {
        qsort(columns + i * g, (size_t)g, sizeof *columns, compare);
        groups[i] = (ranked){columns[i * g].value, (int32_t)i};
    }
    qsort(groups, (size_t)(k / g), sizeof *groups, compare);
    for (int64_t i = 0; i < k; i++) order[i] = columns[groups[i / g].at * g + i % g].at;
}

static wane_status put_order(wane_job *j, wane_mat order, wane_err *e)
{
    int64_t k = j->k, g = wane_plan_group(j->plan, k);
    wane_device *d = j->device;
    /* the diagonal of h as a column: every k+1-th element */
    wane_mat across = {j->gram.data, WANE_F32, k, 1, j->gram.stride + 1};
    wane_mat line = wane_job_take(j, WANE_F32, k, 1); /* in the place that codes take later */
    float *diagonal = malloc((size_t)k * sizeof *diagonal);
    ranked *columns = malloc((size_t)k * sizeof *columns),
           *groups = malloc((size_t)(k / g) * sizeof *groups);
    int32_t *places = malloc((size_t)k * sizeof *places);
    wane_status s;
    if (!diagonal || !columns || !groups || !places) {
        s = wane_fail(e, WANE_EOOM, "host: no memory for an order");
        goto done;
    }
    s = WANE_CALL(d, e, convert, line, across);
    if (!s) s = WANE_CALL(d, e, get, diagonal, line.data, (size_t)k * sizeof *diagonal);
    if (s) goto done;
    sort_columns(places, columns, groups, diagonal, k, g);
    s = WANE_CALL(d, e, put, order.data, places, (size_t)k * sizeof *places);
done:
    free(diagonal);
    free(columns);
    free(groups);
    free(places);
    return s;
}

static wane_status prepare(wane_job *j, wane_err *e)
{
    wane_device *d = j->device;
    wane_mat u = wane_job_take(j, WANE_F32, j->k, j->k), order = {0};
    double damp = wane_plan_get(j->plan, "damp");
    wane_status s = WANE_OK;
    if (wane_plan_get(j->plan, "order") != 0) {
        order = wane_job_take(j, WANE_I32, 1, j->k);
        uint64_t used = j->scratch_used;
        s = put_order(j, order, e);
        j->scratch_used = used;
    }
    for (; !s; damp = damp < 0.01 ? 0.01 : 2 * damp) {
        s = WANE_CALL(d, e, convert, u, j->gram);
        if (!s) s = WANE_CALL(d, e, inverse_factor, u, order, (float)damp);
        if (!s || s != WANE_ENUMERIC || 2 * damp > 1) break;
        s = WANE_OK;
    }
    wane_job_note(j, "damp", damp);
    j->kept[0] = u;
    j->kept[1] = order;
    return s;
}

static wane_status encode(wane_job *j, wane_qmat q, wane_mat w, wane_err *e)
{
    wane_mat codes = wane_job_take(j, WANE_U8, w.rows, w.cols);
    return WANE_CALL(j->device, e, gptq, q, codes, w, j->kept[0], j->kept[1]);
}

const wane_method wane_method_gptq = {
    .name = "gptq",
    .paper = "Frantar et al. 2022, arXiv:2210.17323",
    .doc = "column by column, later columns absorbing the error; needs calibration text",
    .needs = WANE_NEED_GRAM | WANE_NEED_WHOLE,
    .options = options,
    .settle = settle,
    .scratch = scratch,
    .prepare = prepare,
    .encode = encode,
};
