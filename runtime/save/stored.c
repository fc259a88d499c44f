/* stored.c - the model as its files will hold it: codes fitted to the packing, or the weights they
 * stand for. What is written and what is read back are both held against this. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/save/writing.h"

static wane_status outside(const char *name, wane_dtype t, wane_err *e)
{
    wane_fail(e, WANE_EUNSUPPORTED,
              "%s has numbers that %s cannot hold: write it as another dtype, bf16 or f32", name,
              wane_dtype_name(t));
    return wane_err_at(e, "save", name, NULL);
}

/* What rounding exact (F32) to rounded (any float dtype) changed: relative to the largest number,
 * as what is small beside it may well become 0. */
static wane_status compare(const char *name, wane_tensor *exact, wane_tensor *rounded,
                           wane_packed_loss *loss, wane_err *e)
{
    wane_device *host = wane_tensor_device(exact);
    wane_tensor *wide = NULL;
    wane_status s = wane_tensor_copy_to(rounded, host, WANE_F32, &wide, e);
    if (s) return s;
    const float *old = exact->buffer->data, *new = wide->buffer->data;
    double most = 0, change = 0;
    uint64_t changed = 0;
    for (int64_t i = 0; i < wane_tensor_count(exact) && !s; i++) {
        most = fmax(most, fabs(old[i]));
        if (new[i] == old[i]) continue;
        if (!isfinite(new[i])) s = outside(name, rounded->dtype, e);
        change = fmax(change, fabs((double)new[i] - old[i]));
        changed++;
    }
    if (changed && loss && !s) {
        loss->rounded += changed;
        loss->worst = fmax(loss->worst, change / most);
    }
    wane_tensor_release(wide);
    return s;
}

wane_status wane_stored_tensor(wane_saving *v, const char *name, wane_tensor **t,
                               wane_packed_loss *loss, wane_err *e)
{
    wane_device *host = v->model->host;
    wane_tensor *exact = NULL, *rounded = NULL;
    if (!*t || v->dense == WANE_DTYPES || (*t)->dtype == v->dense) return WANE_OK;
    wane_status s = wane_tensor_copy_to(*t, host, WANE_F32, &exact, e);
    if (!s) s = wane_tensor_copy_to(exact, host, v->dense, &rounded, e);
    if (!s) s = compare(name, exact, rounded, loss, e);
    wane_tensor_release(exact);
    if (s) {
        wane_tensor_release(rounded);
        return s;
    }
    wane_tensor_release(*t);
    *t = rounded;
    return WANE_OK;
}

/* The weight that codes stand for, in the files' type. */
static wane_status decode(wane_saving *v, const char *name, wane_linear *l, wane_packed_loss *loss,
                          wane_err *e)
{
    wane_device *host = v->model->host;
    wane_tensor *w = NULL;
    const wane_quantized *q = l->quantized;
    if (q->act_bits)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "%s computes with 8-bit activations, which a dense model does not: what "
                         "it would say is not what this one says",
                         name);
    wane_status s = wane_tensor_new2(host, WANE_F32, q->m, q->k, &w, e);
    if (!s) s = WANE_CALL(host, e, decode, wane_tensor_mat(w), wane_quantized_mat(q));
    if (!s) s = wane_stored_tensor(v, name, &w, loss, e);
    if (s) {
        wane_tensor_release(w);
        return s;
    }
    wane_quantized_release(l->quantized);
    l->quantized = NULL;
    l->weight = w;
    return WANE_OK;
}

static wane_status store_linear(wane_saving *v, const char *name, wane_linear *l,
                                wane_packed_loss *loss, wane_err *e)
{
    wane_quantized *q = NULL;
    wane_status s = wane_stored_tensor(v, name, &l->bias, loss, e);
    if (!s) s = wane_stored_tensor(v, name, &l->weight, loss, e);
    if (s || !l->quantized) return s;
    if (!v->packing) return decode(v, name, l, loss, e);
    s = wane_packed_fit(v->packing, l->quantized, v->grid.symmetric, v->options->round, loss, name,
                        &q, e);
    if (s) return s;
    wane_quantized_release(l->quantized);
    l->quantized = q;
    return WANE_OK;
}

wane_status wane_stored_layer(wane_saving *v, int i, wane_packed_loss *loss, wane_layer **out,
                              wane_err *e)
{
    wane_layer *l = NULL;
    char name[WANE_NAME];
    *out = NULL;
    wane_status s = v->model->source.layer(v->model->source.self, i, v->model->host, &l, e);
    if (s) return s;
    for (int n = 0; n < WANE_NORMS && !s; n++)
        s = wane_stored_tensor(v, wane_layer_name(name, i, wane_norms[n].name),
                               wane_layer_norm(l, n), loss, e);
    for (int id = 0; id < WANE_LINEARS && !s; id++)
        s = store_linear(v, wane_layer_name(name, i, wane_linear_name(id)), &l->linear[id], loss,
                         e);
    if (s)
        wane_layer_release(l);
    else
        *out = l;
    return s;
}

wane_status wane_stored_head(wane_saving *v, wane_packed_loss *loss, wane_linear *out, wane_err *e)
{
    memset(out, 0, sizeof *out);
    if (v->model->config->tied) return WANE_OK;
    wane_status s = v->model->source.head(v->model->source.self, v->model->host, out, e);
    if (!s) s = store_linear(v, "lm_head", out, loss, e);
    if (s) wane_linear_clear(out);
    return s;
}

bool wane_stored_name(const wane_entry *entry, char *name)
{
    bool bare = strncmp(entry->name, "model.", 6) && strncmp(entry->name, "lm_head.", 8);
    snprintf(name, WANE_SAVE_PATH, "%s%s", bare ? "model." : "", entry->name);
    return strncmp(name, "model.layers.", 13) && strncmp(name, "lm_head.", 8);
}
