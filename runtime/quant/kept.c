/* kept.c - see kept.h. */
#include "runtime/quant/kept.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct {
    int count;
    wane_layer *layer[]; /* [count], retained */
} kept;

static wane_status kept_layer(void *self, int i, wane_device *d, wane_layer **out, wane_err *e)
{
    const kept *k = self;
    return wane_layer_copy_to(k->layer[i], d, out, e);
}

static uint64_t kept_bytes(void *self, int i)
{
    return wane_layer_bytes(((const kept *)self)->layer[i]);
}

static void kept_release(void *self)
{
    kept *k = self;
    for (int i = 0; i < k->count; i++) wane_layer_release(k->layer[i]);
    free(k);
}

wane_status wane_layer_begin(const wane_layer *from, wane_layer **out, wane_err *e)
{
    wane_layer *l = *out = wane_layer_new();
    if (!l) return wane_fail(e, WANE_EOOM, "host: no memory for a layer");
    l->input_norm = wane_tensor_retain(from->input_norm);
    l->post_norm = wane_tensor_retain(from->post_norm);
    l->q_norm = wane_tensor_retain(from->q_norm);
    l->k_norm = wane_tensor_retain(from->k_norm);
    for (int i = 0; i < WANE_LINEARS; i++)
        l->linear[i].bias = wane_tensor_retain(from->linear[i].bias);
    return WANE_OK;
}

wane_status wane_model_keep(wane_model *source, wane_layer *const *layers, int count,
                            wane_model **out, wane_err *e)
{
    *out = NULL;
    if (count != source->config->layers)
        return wane_fail(e, WANE_EARG, "a model of %" PRId64 " layers cannot have %d",
                         source->config->layers, count);
    kept *k = malloc(sizeof *k + (size_t)count * sizeof(wane_layer *));
    if (!k) return wane_fail(e, WANE_EOOM, "host: no memory for a model");
    k->count = count;
    for (int i = 0; i < count; i++) k->layer[i] = wane_layer_retain(layers[i]);
    wane_layer_source from = {kept_layer, kept_bytes, kept_release, k};
    return wane_model_new_from(source->checkpoint, from, source->device, source->host, out, e);
}
