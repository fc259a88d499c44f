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

/* Codes are decoded on the host and then moved: only the matrix itself ever lies on the device. */
static wane_status decode(packed *p, const char *name, int64_t m, int64_t k, wane_device *d,
                          wane_quantized **out, wane_err *e)
{
    if (d == p->host) return wane_packing_decode(p->packing, p->checkpoint, name, m, k, d, out, e);
    wane_quantized *q = NULL;
    wane_status s = wane_packing_decode(p->packing, p->checkpoint, name, m, k, p->host, &q, e);
    if (!s) s = wane_quantized_copy_to(q, d, out, e);
    wane_quantized_release(q);
    return s;
}

static wane_status packed_linear(packed *p, int i, int id, wane_device *d, wane_layer *l,
                                 wane_err *e)
{
    char name[WANE_NAME];
    int64_t m, k;
    matrix_name(name, i, id);
    if (!p->packing->holds(p->checkpoint, name))
        return wane_layer_read_dense(p->checkpoint, i, id, d, l, e);
    wane_linear_shape(&p->checkpoint->config, id, &m, &k);
    return decode(p, name, m, k, d, &l->linear[id].quantized, e);
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

/* What a matrix takes on the device, from the headers: its codes with their grid as wane keeps
 * them, whatever else the file has. */
static uint64_t matrix_bytes(const packed *p, const char *name, int64_t m, int64_t k)
{
    wane_packed_about a;
    char weight[WANE_NAME + 8];
    snprintf(weight, sizeof weight, "%s.weight", name);
    if (!p->packing->holds(p->checkpoint, name))
        return wane_checkpoint_bytes(p->checkpoint, weight);
    if (p->packing->inspect(p->checkpoint, name, m, k, &a, NULL)) return 0;
    uint64_t each =
        wane_dtype_bytes(a.scale) + (a.zero == WANE_DTYPES ? 0 : wane_dtype_bytes(a.zero));
    return (uint64_t)m * (4 * (uint64_t)wane_words_for(k, a.bits) + each * (uint64_t)(k / a.group));
}

static uint64_t packed_bytes(void *self, int i)
{
    const packed *p = self;
    uint64_t bytes = wane_layer_plain_bytes(p->checkpoint, i);
    for (int id = 0; id < WANE_LINEARS; id++) {
        char name[WANE_NAME];
        int64_t m, k;
        matrix_name(name, i, id);
        wane_linear_shape(&p->checkpoint->config, id, &m, &k);
        bytes += matrix_bytes(p, name, m, k);
    }
    return bytes;
}

static wane_status packed_head(void *self, wane_device *d, wane_linear *out, wane_err *e)
{
    packed *p = self;
    const wane_config *c = &p->checkpoint->config;
    if (!p->packing->holds(p->checkpoint, "lm_head"))
        return wane_head_read_dense(p->checkpoint, d, out, e);
    return decode(p, "lm_head", c->vocabulary, c->hidden, d, &out->quantized, e);
}

static uint64_t packed_head_bytes(void *self)
{
    const packed *p = self;
    const wane_config *c = &p->checkpoint->config;
    return matrix_bytes(p, "lm_head", c->vocabulary, c->hidden);
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
    wane_packed_about about;
    if (packing->holds(c, name)) return packing->inspect(c, name, m, k, &about, e);
    snprintf(dense, sizeof dense, "%s.weight", name);
    const wane_entry *t = wane_checkpoint_find(c, dense, NULL);
    if (t && wane_entry_floating(t) && t->rank == 2 && t->shape[0] == m && t->shape[1] == k)
        return WANE_OK;
    bool float8 = t && !strncmp(t->dtype_name, "F8_", 3);
    wane_fail(e, float8 ? WANE_EUNSUPPORTED : WANE_EFORMAT,
              "%s is neither packed nor F32, F16 or BF16 (%" PRId64 ", %" PRId64 "): %s%s", dense,
              m, k, t ? wane_entry_describe(t, is, sizeof is) : "it is missing",
              float8 ? ", float8, whose scales wane does not read; use the base model it was made "
                       "from, in 16 bits: wane get ORG/MODEL"
                     : "");
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

static wane_status join(const wane_checkpoint *c, const wane_packing *packing, const char *name,
                        int64_t m, int64_t k, wane_packed_grid *g, wane_err *e)
{
    wane_packed_about a;
    if (!packing->holds(c, name)) return WANE_OK;
    wane_status s = packing->inspect(c, name, m, k, &a, e);
    if (s) return s;
    bool rows = a.group == k && (!g->bits || g->group == -1);
    *g = (wane_packed_grid){.bits = a.bits,
                            .act_bits = a.act_bits,
                            .group = rows ? -1 : a.group,
                            .symmetric = a.zero == WANE_DTYPES,
                            .fractional = a.zero == WANE_F32};
    return WANE_OK;
}

wane_status wane_checkpoint_grid(const wane_checkpoint *c, const wane_packing **packing,
                                 wane_packed_grid *g, wane_err *e)
{
    const json_t *config = wane_config_quantization(&c->config);
    wane_status s = WANE_OK;
    memset(g, 0, sizeof *g);
    *packing = config ? wane_packing_for(config) : NULL;
    for (int id = 0; *packing && id < WANE_LINEARS && !s; id++) {
        char name[WANE_NAME];
        int64_t m, k;
        matrix_name(name, 0, id);
        wane_linear_shape(&c->config, id, &m, &k);
        s = join(c, *packing, name, m, k, g, e);
    }
    g->head = *packing && !c->config.tied && (*packing)->holds(c, "lm_head");
    return s;
}

wane_status wane_config_check(const wane_config *c, const wane_packing *packing,
                              const wane_packed_grid *g, wane_err *e)
{
    wane_status s = WANE_OK;
    wane_packed_grid layers = *g;
    layers.head = false;
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        char name[WANE_NAME];
        int64_t m, k;
        matrix_name(name, 0, id);
        wane_linear_shape(c, id, &m, &k);
        s = wane_packing_check(packing, &layers, name, m, k, e);
    }
    if (s || !g->head) return s;
    return wane_packing_check(packing, g, "lm_head", c->vocabulary, c->hidden, e);
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
