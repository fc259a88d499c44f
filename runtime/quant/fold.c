/* fold.c - see fold.h. With x' = x / s and w' = w * s the product x' w'^T is x w^T; x' comes from
 *
 *   stage 0, 2   the norm before: its gain divided by s
 *   stage 1      the rows of v_proj, as attention mixes rows and leaves channels alone. With fewer
 *                key-value heads than heads, the heads that share one must share s
 *   stage 3      the rows of up_proj, as silu(gate) * up multiplies channels
 *
 * A row that is codes already has its scales divided; biases are divided like rows. What is stored
 * is rounded, so s is replaced by old / new: exact for a norm and for one scale a row. With several
 * scales a row it is the ratio of their sums, and what is left is half a step of the scales' type.
 */
#include "runtime/quant/fold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/block.h"
#include "runtime/tensor/math.h"

struct wane_fold {
    wane_layer *into; /* retained */
    int stage;
    int64_t k, rows, per; /* columns of the input; rows that make it, with so many numbers each */
    int64_t head_dim, repeats; /* stage 1: heads to a key-value head; else repeats is 1 */
    wane_tensor *source;       /* borrowed from into: what is divided */
    wane_tensor *bias;         /* (1,rows), borrowed, or NULL */
    wane_tensor **place;       /* where source is kept in into */
    float *old, *work;         /* [rows * per] of source */
};

/* The row that makes column c. */
static int64_t row_of(const wane_fold *f, int64_t c)
{
    if (f->repeats == 1) return c;
    return c / f->head_dim / f->repeats * f->head_dim + c % f->head_dim;
}

/* The first column that row r makes, and how far apart its repetitions are. */
static int64_t column_of(const wane_fold *f, int64_t r)
{
    if (f->repeats == 1) return r;
    return r / f->head_dim * f->repeats * f->head_dim + r % f->head_dim;
}

/* x rounded half to even to a stored type: `digits` significant bits, steps of at least 2^least. */
static float round_to(float x, wane_dtype t)
{
    if (t == WANE_F32 || x == 0 || !isfinite(x)) return x;
    int digits = t == WANE_F16 ? 11 : 8, least = t == WANE_F16 ? -24 : -133, exponent;
    frexpf(x, &exponent);
    int step = exponent - digits > least ? exponent - digits : least;
    double y = ldexp(nearbyint(ldexp(x, -step)), step);
    return fabs(y) > (t == WANE_F16 ? 65504.0 : 0x1.fep127) ? (float)copysign(INFINITY, y)
                                                            : (float)y;
}

static wane_status find_source(wane_fold *f, wane_err *e)
{
    const wane_stage_row *row = &wane_stages[f->stage];
    if (row->norm) {
        f->place = wane_layer_norm(f->into, (wane_norm_id)row->source);
    } else {
        wane_linear *from = &f->into->linear[row->source];
        f->place = from->quantized ? &from->quantized->scale : &from->weight;
        f->bias = from->bias;
    }
    f->source = *f->place;
    if (!f->source)
        return wane_fail(e, WANE_EARG,
                         "stage %d cannot be folded before what makes its input is there",
                         f->stage);
    f->per = wane_tensor_count(f->source) / f->rows;
    return WANE_OK;
}

wane_status wane_fold_new(const wane_config *c, wane_layer *into, int stage, wane_fold **out,
                          wane_err *e)
{
    wane_fold *f = calloc(1, sizeof *f);
    wane_status s;
    *out = NULL;
    if (!f) return wane_fail(e, WANE_EOOM, "host: no memory to fold a scale");
    f->into = wane_layer_retain(into);
    f->stage = stage;
    f->k = wane_stage_width(c, stage);
    f->head_dim = c->head_dim;
    f->repeats = stage == 1 ? c->heads / c->kv_heads : 1;
    f->rows = f->k / f->repeats;
    s = find_source(f, e);
    if (s) goto done;
    size_t bytes = (size_t)wane_tensor_count(f->source) * sizeof(float);
    f->old = malloc(bytes);
    f->work = malloc(bytes);
    if (!f->old || !f->work) {
        s = wane_fail(e, WANE_EOOM, "host: no memory to fold a scale");
        goto done;
    }
    s = wane_tensor_read(f->source, WANE_F32, f->old, e);
done:
    if (s)
        wane_fold_free(f);
    else
        *out = f;
    return s;
}

void wane_fold_free(wane_fold *f)
{
    if (!f) return;
    wane_layer_release(f->into);
    free(f->old);
    free(f->work);
    free(f);
}

void wane_fold_share(const wane_fold *f, float *x, bool largest)
{
    for (int64_t r = 0; r < f->rows && f->repeats > 1; r++) {
        int64_t first = column_of(f, r);
        double sum = 0, most = 0;
        for (int64_t i = 0; i < f->repeats; i++) {
            double value = x[first + i * f->head_dim];
            sum += value;
            most = fmax(most, value);
        }
        double shared = largest ? most : sum / (double)f->repeats;
        for (int64_t i = 0; i < f->repeats; i++) x[first + i * f->head_dim] = (float)shared;
    }
}

/* new [per] = old / s as stored; gives old over new, or 1 with new = old where that is no use. */
static float divide(const wane_fold *f, int64_t row, float s, float *new)
{
    const float *old = f->old + row * f->per;
    double sum = 0, divided = 0;
    for (int64_t i = 0; i < f->per; i++) {
        new[i] = round_to(old[i] / s, f->source->dtype);
        sum += fabs((double)old[i]);
        divided += fabs((double)new[i]);
        if ((new[i] == 0) != (old[i] == 0)) divided = 0;
    }
    double ratio = sum / divided;
    if (ratio > 0 && ratio < INFINITY) return (float)ratio;
    memcpy(new, old, (size_t)f->per * sizeof *new);
    return 1;
}

void wane_fold_snap(const void *fold, float *s, int64_t k)
{
    const wane_fold *f = fold;
    for (int64_t r = 0; r < f->rows; r++) {
        int64_t c = column_of(f, r);
        s[c] = divide(f, r, s[c], f->work + r * f->per);
    }
    for (int64_t c = 0; c < k; c++) s[c] = s[column_of(f, row_of(f, c))];
}

/* A bias divided by s, of the same dtype. */
static wane_status divide_bias(const wane_fold *f, const float *s, wane_tensor **out, wane_err *e)
{
    float *values = malloc((size_t)f->rows * sizeof *values);
    wane_status st;
    if (!values) return wane_fail(e, WANE_EOOM, "host: no memory to fold a scale");
    st = wane_tensor_read(f->bias, WANE_F32, values, e);
    if (st) goto done;
    for (int64_t r = 0; r < f->rows; r++) values[r] /= s[column_of(f, r)];
    st = wane_tensor_from(wane_tensor_device(f->bias), f->bias->dtype, f->bias->rank,
                          f->bias->shape, values, WANE_F32, out, e);
done:
    free(values);
    return st;
}

wane_status wane_fold_apply(wane_fold *f, float *s, wane_err *e)
{
    wane_tensor *source = NULL, *bias = NULL;
    for (int64_t c = 0; c < f->k; c++) {
        if (!(s[c] > 0 && s[c] < INFINITY) || s[c] != s[column_of(f, row_of(f, c))])
            return wane_fail(e, WANE_EARG,
                             "a scale must be positive, and shared where heads share inputs");
    }
    wane_fold_snap(f, s, f->k); /* leaves the divided numbers in work */
    wane_status st =
        wane_tensor_from(wane_tensor_device(f->source), f->source->dtype, f->source->rank,
                         f->source->shape, f->work, WANE_F32, &source, e);
    if (!st && f->bias) st = divide_bias(f, s, &bias, e);
    if (st) goto done;
    wane_tensor_release(*f->place);
    *f->place = f->source = source;
    if (bias) {
        wane_linear *from = &f->into->linear[wane_stages[f->stage].source];
        wane_tensor_release(from->bias);
        from->bias = f->bias = bias;
    }
    return WANE_OK;
done:
    wane_tensor_release(source);
    return st;
}
