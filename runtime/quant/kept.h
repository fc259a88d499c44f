/* kept.h - a model made of layers that lie on the host: a fresh quantization. */
#ifndef WANE_KEPT_H
#define WANE_KEPT_H

#include "runtime/model/model.h"

/* A layer with the norms and biases of another, which it shares, and no matrices yet. */
wane_status wane_layer_begin(const wane_layer *, wane_layer **out, wane_err *e);

/* What stands before the head, as a layer that has nothing but its norm: the first stage of a
 * calibration pass through it gives the head's input. On the model's device. */
wane_status wane_layer_final(wane_model *, wane_layer **out, wane_err *e);

/* source's embedding, final norm, head, config and tokenizer with these layers [config->layers]
 * and, where it is not NULL, this head, of which it keeps a copy; layers are on the host and
 * retained. */
wane_status wane_model_keep(wane_model *source, wane_layer *const *layers, int count,
                            wane_quantized *head, wane_model **out, wane_err *e);

#endif
