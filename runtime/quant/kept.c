/* kept.c - see kept.h. */
#include "runtime/quant/kept.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct {
    wane_checkpoint *checkpoint; /* retained: has the head where codes are NULL */
    wane_quantized *head;        /* retained, on the host, or NULL */
    int count;
    wane_layer *layer[]; /* [count], retained */
} kept;

/* Where the layer lies already its tensors are shared, as they do not change; the layer is the
 * caller's own. */
static wane_status kept_layer(void *self, int i, wane_device *d, wane_layer **out, wane_err *e)
{
    const wane_layer *l = ((const kept *)self)->layer[i];
    if (!l->input_norm || wane_tensor_device(l->input_norm) != d)
        return wane_layer_copy_to(l, d, out, e);
    wane_status s = wane_layer_begin(l, out, e);
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        (*out)->linear[id].weight = wane_tensor_retain(l->linear[id].weight);
        (*out)->linear[id].quantized = wane_quantized_retain(l->linear[id].quantized);
    }
    return s;
}

static uint64_t kept_bytes(void *self, int i)
{
    return wane_layer_bytes(((const kept *)self)->layer[i]);
}

static wane_status kept_head(void *self, wane_device *d, wane_linear *out, wane_err *e)
{
    const kept *k = self;
    if (!k->head) return wane_head_read_dense(k->checkpoint, d, out, e);
    return wane_quantized_copy_to(k->head, d, &out->quantized, e);
}

static uint64_t kept_head_bytes(void *self)
{
    const kept *k = self;
    if (k->head) return wane_quantized_bytes(k->head);
    return wane_checkpoint_bytes(k->checkpoint, "lm_head.weight");
}

static void kept_release(void *self)
{
    kept *k = self;
    wane_checkpoint_release(k->checkpoint);
    wane_quantized_release(k->head);
    for (int i = 0; i < k->count; i++) wane_layer_release(k->layer[i]);
    free(k);
}

wane_status wane_layer_begin(const wane_layer *from, wane_layer **out, wane_err *e)
{
    wane_layer *l = *out = wane_layer_new();
    if (!l) return wane_fail(e, WANE_EOOM, "host: no memory for a layer");
    for (int n = 0; n < WANE_NORMS; n++)
        *wane_layer_norm(l, n) = wane_tensor_retain(*wane_layer_norm(from, n));
    for (int i = 0; i < WANE_LINEARS; i++)
        l->linear[i].bias = wane_tensor_retain(from->linear[i].bias);
    return WANE_OK;
}

wane_status wane_layer_final(wane_model *m, wane_layer **out, wane_err *e)
{
    wane_layer *l = *out = wane_layer_new();
    if (!l) return wane_fail(e, WANE_EOOM, "host: no memory for a layer");
    wane_status s = wane_model_tensor(m, "model.norm.weight", &l->input_norm, e);
    if (s) {
        wane_layer_release(l);
        *out = NULL;
    }
    return s;
}

wane_status wane_model_keep(wane_model *source, wane_layer *const *layers, int count,
                            wane_quantized *head, wane_model **out, wane_err *e)
{
    *out = NULL;
    if (count != source->config->layers)
        return wane_fail(e, WANE_EARG, "a model of %" PRId64 " layers cannot have %d",
                         source->config->layers, count);
    kept *k = malloc(sizeof *k + (size_t)count * sizeof(wane_layer *));
    if (!k) return wane_fail(e, WANE_EOOM, "host: no memory for a model");
    k->count = count;
    k->checkpoint = wane_checkpoint_retain(source->checkpoint);
    k->head = NULL;
    for (int i = 0; i < count; i++) k->layer[i] = wane_layer_retain(layers[i]);
    wane_status s = head ? wane_quantized_copy_to(head, source->host, &k->head, e) : WANE_OK;
    if (s) {
        kept_release(k);
        return s;
    }
    wane_layer_source from = {kept_layer, kept_bytes, kept_head, kept_head_bytes, kept_release, k};
    return wane_model_new_from(source->checkpoint, from, source->device, source->host, out, e);
}
