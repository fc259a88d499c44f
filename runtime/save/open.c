/* open.c - a folder to a model: dense ones as they are, packed ones through their packing, layer by
 * layer. */
#include "runtime/save/save.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    wane_checkpoint *checkpoint;
    const wane_packing *packing;
    wane_device *host;
} packed;

static void matrix_name(char out[WANE_NAME], int i, int id)
{
    wane_layer_name(out, i, wane_linear_name(id));
}

/* Codes are decoded on the host and then moved: only the layer itself ever lies on the device. */
static wane_status packed_linear(packed *p, int i, int id, wane_device *d, wane_layer *l,
                                 wane_err *e)
{
    char name[WANE_NAME];
    int64_t m, k;
    wane_quantized *q = NULL;
    matrix_name(name, i, id);
    if (!p->packing->holds(p->checkpoint, name))
        return wane_layer_read_dense(p->checkpoint, i, id, d, l, e);
    wane_linear_shape(&p->checkpoint->config, id, &m, &k);
    wane_status s = p->packing->decode(p->checkpoint, name, m, k, p->host, &q, e);
    if (!s) s = wane_quantized_copy_to(q, d, &l->linear[id].quantized, e);
    wane_quantized_release(q);
    return s;
}

static wane_status packed_layer(void *self, int i, wane_device *d, wane_layer **out, wane_err *e)
{
    packed *p = self;
    wane_layer *l = wane_layer_new();
    *out = NULL;
    if (!l) return wane_fail(e, WANE_EOOM, "no memory for a layer");
    wane_status s = wane_layer_read_plain(p->checkpoint, i, d, l, e);
    for (int id = 0; id < WANE_LINEARS && !s; id++) s = packed_linear(p, i, id, d, l, e);
    if (s)
        wane_layer_release(l);
    else
        *out = l;
    return s;
}

/* Bytes of a matrix's zero points on the device, one each, where the file packs them: as many as
 * scales. */
static uint64_t zero_bytes(const wane_checkpoint *c, const char *name, const char *end)
{
    char scale[WANE_NAME];
    snprintf(scale, sizeof scale, "%.*s.weight_scale", (int)(end - name), name);
    const wane_entry *entry = wane_checkpoint_find(c, scale, NULL);
    return entry && entry->rank == 2 ? (uint64_t)entry->shape[0] * (uint64_t)entry->shape[1] : 0;
}

/* From the headers: what lies in the file under a prefix is what lies on the device, but for the
 * zero points and the shapes, which are not needed there. */
static uint64_t bytes_under(const wane_checkpoint *c, const char *prefix)
{
    size_t length = strlen(prefix);
    uint64_t bytes = 0;
    for (size_t t = 0; t < c->count; t++) {
        const wane_entry *entry = c->tensor[t].entry;
        if (strncmp(entry->name, prefix, length)) continue;
        const char *end = strrchr(entry->name, '.');
        if (!strcmp(end, ".weight_zero_point"))
            bytes += zero_bytes(c, entry->name, end);
        else if (strcmp(end, ".weight_shape"))
            bytes += entry->end - entry->begin;
    }
    return bytes;
}

static uint64_t packed_bytes(void *self, int i)
{
    char prefix[WANE_NAME];
    return bytes_under(((packed *)self)->checkpoint, wane_layer_name(prefix, i, ""));
}

static wane_status packed_head(void *self, wane_device *d, wane_linear *out, wane_err *e)
{
    packed *p = self;
    const wane_config *c = &p->checkpoint->config;
    wane_quantized *q = NULL;
    if (!p->packing->holds(p->checkpoint, "lm_head"))
        return wane_head_read_dense(p->checkpoint, d, out, e);
    wane_status s =
        p->packing->decode(p->checkpoint, "lm_head", c->vocabulary, c->hidden, p->host, &q, e);
    if (!s) s = wane_quantized_copy_to(q, d, &out->quantized, e);
    wane_quantized_release(q);
    return s;
}

static uint64_t packed_head_bytes(void *self)
{
    return bytes_under(((packed *)self)->checkpoint, "lm_head.");
}

static void packed_release(void *self)
{
    packed *p = self;
    wane_checkpoint_release(p->checkpoint);
    wane_device_release(p->host);
    free(p);
}

/* A matrix that is not packed has to be there as it is. */
static wane_status inspect(const wane_checkpoint *c, const wane_packing *packing, const char *name,
                           int64_t m, int64_t k, wane_err *e)
{
    char dense[WANE_NAME + 8], is[128];
    if (packing->holds(c, name)) return packing->inspect(c, name, m, k, e);
    snprintf(dense, sizeof dense, "%s.weight", name);
    const wane_entry *t = wane_checkpoint_find(c, dense, NULL);
    if (t && wane_entry_floating(t) && t->rank == 2 && t->shape[0] == m && t->shape[1] == k)
        return WANE_OK;
    wane_fail(e, WANE_EFORMAT,
              "%s is neither packed nor F32, F16 or BF16 (%" PRId64 ", %" PRId64 "): %s", dense, m,
              k, t ? wane_entry_describe(t, is, sizeof is) : "it is missing");
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s", dense);
    return wane_err_at(e, "load", name, c->dir);
}

/* Every matrix of every layer, from the headers. */
static wane_status inspect_all(const wane_checkpoint *c, const wane_packing *packing, wane_err *e)
{
    wane_status s = WANE_OK;
    for (int i = 0; i < (int)c->config.layers && !s; i++) {
        for (int id = 0; id < WANE_LINEARS && !s; id++) {
            char name[WANE_NAME];
            int64_t m, k;
            matrix_name(name, i, id);
            wane_linear_shape(&c->config, id, &m, &k);
            s = inspect(c, packing, name, m, k, e);
        }
    }
    if (s || c->config.tied) return s;
    return inspect(c, packing, "lm_head", c->config.vocabulary, c->config.hidden, e);
}

static wane_status open_packed(wane_checkpoint *c, const wane_packing *packing, wane_device *d,
                               wane_device *host, wane_model **out, wane_err *e)
{
    wane_status s = inspect_all(c, packing, e);
    if (s) return s;
    packed *p = calloc(1, sizeof *p);
    if (!p) return wane_fail(e, WANE_EOOM, "no memory to open %s", c->dir);
    *p = (packed){wane_checkpoint_retain(c), packing, wane_device_retain(host)};
    return wane_model_new_from(c,
                               (wane_layer_source){packed_layer, packed_bytes, packed_head,
                                                   packed_head_bytes, packed_release, p},
                               d, host, out, e);
}

wane_status wane_model_open(const char *dir, wane_device *d, wane_device *host, wane_model **out,
                            wane_err *e)
{
    wane_checkpoint *c = NULL;
    *out = NULL;
    wane_status s = wane_checkpoint_open(dir, &c, e);
    if (s) return s;
    const json_t *config = wane_config_quantization(&c->config);
    const wane_packing *packing = config ? wane_packing_for(config) : NULL;
    s = packing ? open_packed(c, packing, d, host, out, e) : wane_model_new(c, d, host, out, e);
    wane_checkpoint_release(c);
    return s;
}
