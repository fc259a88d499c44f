/* layer.c - the tensors of one layer: their names, their shapes, reading them from a dense
 * checkpoint, moving them between devices. See model.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/model.h"

wane_tensor **wane_layer_norm(const wane_layer *l, wane_norm_id n)
{
    return (wane_tensor **)((char *)(uintptr_t)l + wane_norms[n].at);
}

const char *wane_linear_name(wane_linear_id id)
{
    return (unsigned)id < WANE_LINEARS ? wane_matrices[id].name : "unknown";
}

void wane_linear_shape(const wane_config *c, wane_linear_id id, int64_t *m, int64_t *k)
{
    *m = wane_config_width(c, wane_matrices[id].rows);
    *k = wane_config_width(c, wane_stages[wane_matrices[id].stage].width);
}

bool wane_linear_has_bias(const wane_config *c, wane_linear_id id)
{
    switch (wane_matrices[id].bias) {
    case WANE_BIAS_OF_QKV: return c->qkv_bias;
    case WANE_BIAS_OF_O: return c->o_bias;
    default: return c->mlp_bias;
    }
}

const char *wane_layer_name(char out[WANE_NAME], int i, const char *part)
{
    snprintf(out, WANE_NAME, "model.layers.%d.%s", i, part);
    return out;
}

wane_layer *wane_layer_new(void)
{
    wane_layer *l = calloc(1, sizeof *l);
    if (l) l->refs = 1;
    return l;
}

wane_layer *wane_layer_retain(wane_layer *l)
{
    if (l) l->refs++;
    return l;
}

void wane_layer_release(wane_layer *l)
{
    if (!l || --l->refs > 0) return;
    for (int n = 0; n < WANE_NORMS; n++) wane_tensor_release(*wane_layer_norm(l, n));
    for (int id = 0; id < WANE_LINEARS; id++) wane_linear_clear(&l->linear[id]);
    free(l);
}

void wane_linear_clear(wane_linear *l)
{
    wane_tensor_release(l->weight);
    wane_quantized_release(l->quantized);
    wane_tensor_release(l->bias);
    memset(l, 0, sizeof *l);
}

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for the description of a layer");
}

static wane_status copy(wane_tensor *t, wane_device *d, wane_tensor **out, wane_err *e)
{
    return t ? wane_tensor_copy_to(t, d, t->dtype, out, e) : WANE_OK;
}

wane_status wane_layer_copy_to(const wane_layer *l, wane_device *d, wane_layer **out, wane_err *e)
{
    *out = NULL;
    wane_layer *c = wane_layer_new();
    if (!c) return no_memory(e);
    wane_status s = WANE_OK;
    for (int n = 0; n < WANE_NORMS && !s; n++)
        s = copy(*wane_layer_norm(l, n), d, wane_layer_norm(c, n), e);
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        const wane_linear *from = &l->linear[id];
        wane_linear *to = &c->linear[id];
        s = copy(from->weight, d, &to->weight, e);
        if (!s) s = copy(from->bias, d, &to->bias, e);
        if (!s && from->quantized)
            s = wane_quantized_copy_to(from->quantized, d, &to->quantized, e);
    }
    if (s)
        wane_layer_release(c);
    else
        *out = c;
    return s;
}

static uint64_t tensor_bytes(const wane_tensor *t)
{
    return t ? wane_tensor_bytes(t) : 0;
}

uint64_t wane_layer_bytes(const wane_layer *l)
{
    uint64_t bytes = 0;
    for (int n = 0; n < WANE_NORMS; n++) bytes += tensor_bytes(*wane_layer_norm(l, n));
    for (int id = 0; id < WANE_LINEARS; id++) {
        const wane_linear *p = &l->linear[id];
        bytes += tensor_bytes(p->weight) + tensor_bytes(p->bias);
        if (p->quantized) bytes += wane_quantized_bytes(p->quantized);
    }
    return bytes;
}

uint64_t wane_config_weights(const wane_config *c)
{
    uint64_t table = (uint64_t)(c->vocabulary * c->hidden), layer = 0;
    for (int n = 0; n < WANE_NORMS; n++)
        if (!wane_norms[n].of_heads || c->family->qk_norm)
            layer += (uint64_t)wane_config_width(c, wane_norms[n].width);
    for (int id = 0; id < WANE_LINEARS; id++) {
        int64_t m, k;
        wane_linear_shape(c, id, &m, &k);
        layer += (uint64_t)(m * k) + (wane_linear_has_bias(c, id) ? (uint64_t)m : 0);
    }
    return (c->tied ? 1 : 2) * table + (uint64_t)c->hidden + (uint64_t)c->layers * layer;
}

wane_tensor *wane_layer_find(const wane_layer *l, const char *part, const wane_quantized **codes)
{
    *codes = NULL;
    for (int n = 0; n < WANE_NORMS; n++)
        if (!strcmp(part, wane_norms[n].name)) return *wane_layer_norm(l, n);
    for (int id = 0; id < WANE_LINEARS; id++) {
        size_t length = strlen(wane_matrices[id].name);
        if (strncmp(part, wane_matrices[id].name, length)) continue;
        if (!strcmp(part + length, ".bias")) return l->linear[id].bias;
        if (strcmp(part + length, ".weight")) continue;
        *codes = l->linear[id].quantized;
        return l->linear[id].weight;
    }
    return NULL;
}

static const char *linear_part(char out[WANE_NAME], int i, int id, const char *suffix)
{
    snprintf(out, WANE_NAME, "model.layers.%d.%s.%s", i, wane_matrices[id].name, suffix);
    return out;
}

wane_status wane_layer_read_plain(const wane_checkpoint *c, int i, wane_device *d, wane_layer *l,
                                  wane_err *e)
{
    char name[WANE_NAME];
    wane_status s = WANE_OK;
    for (int n = 0; n < WANE_NORMS && !s; n++) {
        int64_t width = wane_config_width(&c->config, wane_norms[n].width);
        if (wane_norms[n].of_heads && !c->config.family->qk_norm) continue;
        s = wane_checkpoint_get(c, wane_layer_name(name, i, wane_norms[n].name), 1, &width, d,
                                wane_layer_norm(l, n), e);
    }
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        int64_t m, k;
        if (!wane_linear_has_bias(&c->config, id)) continue;
        wane_linear_shape(&c->config, id, &m, &k);
        s = wane_checkpoint_get(c, linear_part(name, i, id, "bias"), 1, &m, d, &l->linear[id].bias,
                                e);
    }
    return s;
}

wane_status wane_layer_read_dense(const wane_checkpoint *c, int i, wane_linear_id id,
                                  wane_device *d, wane_layer *l, wane_err *e)
{
    char name[WANE_NAME];
    int64_t shape[2];
    wane_linear_shape(&c->config, id, &shape[0], &shape[1]);
    return wane_checkpoint_get(c, linear_part(name, i, id, "weight"), 2, shape, d,
                               &l->linear[id].weight, e);
}

wane_status wane_head_read_dense(const wane_checkpoint *c, wane_device *d, wane_linear *out,
                                 wane_err *e)
{
    const int64_t shape[2] = {c->config.vocabulary, c->config.hidden};
    return wane_checkpoint_get(c, "lm_head.weight", 2, shape, d, &out->weight, e);
}

uint64_t wane_layer_plain_bytes(const wane_checkpoint *c, int i)
{
    char name[WANE_NAME];
    uint64_t bytes = 0;
    for (int n = 0; n < WANE_NORMS; n++)
        if (!wane_norms[n].of_heads || c->config.family->qk_norm)
            bytes += wane_checkpoint_bytes(c, wane_layer_name(name, i, wane_norms[n].name));
    for (int id = 0; id < WANE_LINEARS; id++)
        if (wane_linear_has_bias(&c->config, id))
            bytes += wane_checkpoint_bytes(c, linear_part(name, i, id, "bias"));
    return bytes;
}

static wane_status dense_layer(void *self, int i, wane_device *d, wane_layer **out, wane_err *e)
{
    *out = NULL;
    wane_layer *l = wane_layer_new();
    if (!l) return no_memory(e);
    wane_status s = wane_layer_read_plain(self, i, d, l, e);
    for (int id = 0; id < WANE_LINEARS && !s; id++) s = wane_layer_read_dense(self, i, id, d, l, e);
    if (s)
        wane_layer_release(l);
    else
        *out = l;
    return s;
}

static uint64_t dense_bytes(void *self, int i)
{
    char name[WANE_NAME];
    uint64_t bytes = wane_layer_plain_bytes(self, i);
    for (int id = 0; id < WANE_LINEARS; id++)
        bytes += wane_checkpoint_bytes(self, linear_part(name, i, id, "weight"));
    return bytes;
}

static wane_status dense_head(void *self, wane_device *d, wane_linear *out, wane_err *e)
{
    return wane_head_read_dense(self, d, out, e);
}

static uint64_t dense_head_bytes(void *self)
{
    return wane_checkpoint_bytes(self, "lm_head.weight");
}

static void dense_release(void *self)
{
    wane_checkpoint_release(self);
}

wane_layer_source wane_dense_source(wane_checkpoint *c)
{
    return (wane_layer_source){dense_layer,      dense_bytes,   dense_head,
                               dense_head_bytes, dense_release, wane_checkpoint_retain(c)};
}
