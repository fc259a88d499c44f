/* save.h - a quantized model to a folder, proved by reading it back; and any folder to a model. */
#ifndef WANE_SAVE_H
#define WANE_SAVE_H

#include "runtime/model/model.h"
#include "runtime/save/packing.h"

typedef struct {
    const wane_packing *packing;
    const char
        *report; /* JSON text written beside it as wane.json: what was measured; may be NULL */
    uint64_t shard_bytes; /* most bytes of a file's tensors, unless one is larger; 0: 5 GB */
} wane_save_options;

/* Writes weights, config with its quantization_config, tokenizer, chat template and generation
 * config into a temporary folder beside dir, opens it again, compares every tensor with the
 * model's, and renames. dir must not be there, nor lie in the source's folder (EIO). Weights that
 * are not quantized are copied byte for byte. On failure nothing is left. *bytes: of the weight
 * files. */
wane_status wane_save(wane_model *, const char *dir, const wane_save_options *, uint64_t *bytes,
                      wane_err *e);

/* A folder, dense or packed in a way that wane knows; EUNSUPPORTED names the way otherwise. Reads
 * headers only. */
wane_status wane_model_open(const char *dir, wane_device *, wane_device *host, wane_model **out,
                            wane_err *e);

/* Whether two layers hold the same tensors, bit by bit; both on the host. different (WANE_NAME
 * bytes, may be NULL) names the first that differs. */
bool wane_layer_equal(const wane_layer *, const wane_layer *, char *different);

#endif
