/* model.h - a model: its shape, where its layers come from, and what of it lies on the device.
 *
 * A source yields one layer at a time: a dense checkpoint, a packed one (save/), or layers kept on
 * the host (a fresh quantization). Nothing is read before it is needed; load brings everything onto
 * the device, quantization takes layer after layer. A model is immutable: quantizing makes another.
 */
#ifndef WANE_MODEL_H
#define WANE_MODEL_H

#include "runtime/model/checkpoint.h"
#include "runtime/tensor/quantized.h"

/* One matrix of a layer: dense or codes, never both. */
typedef struct {
    wane_tensor *weight;       /* (m,k), or NULL */
    wane_quantized *quantized; /* or NULL */
    wane_tensor *bias;         /* (m), or NULL */
} wane_linear;

typedef struct wane_layer {
    int refs;
    wane_tensor *input_norm, *post_norm; /* (hidden) */
    wane_tensor *q_norm, *k_norm;        /* (d), or NULL */
    wane_linear linear[WANE_LINEARS];
} wane_layer;

wane_tensor **wane_layer_norm(const wane_layer *, wane_norm_id); /* where it is kept */

wane_layer *wane_layer_new(void); /* all empty; NULL where memory is out */
wane_layer *wane_layer_retain(wane_layer *);
void wane_layer_release(wane_layer *);
wane_status wane_layer_copy_to(const wane_layer *, wane_device *, wane_layer **out, wane_err *e);
uint64_t wane_layer_bytes(const wane_layer *);

/* "self_attn.q_proj", ...; the checkpoint's name is model.layers.I.NAME.weight */
const char *wane_linear_name(wane_linear_id);
/* (m,k) of a linear by the config. */
void wane_linear_shape(const wane_config *, wane_linear_id, int64_t *m, int64_t *k);

/* Whether the config gives that linear a bias. */
bool wane_linear_has_bias(const wane_config *, wane_linear_id);

/* The tensor that a part of a layer's name means ("mlp.down_proj.weight"), borrowed; NULL where
 * there is none, or where it is kept as codes: then *codes is those, else NULL. */
wane_tensor *wane_layer_find(const wane_layer *, const char *part, const wane_quantized **codes);
uint64_t wane_config_weights(
    const wane_config *); /* how many numbers the model has; a tied head counts once */

/* Parts of a layer by their names in a checkpoint, for sources. plain: the norms and the biases,
 * which no method quantizes; dense: the weight of one linear. What they read goes into the layer,
 * which is the caller's to release also on failure. */
wane_status wane_layer_read_plain(const wane_checkpoint *, int i, wane_device *, wane_layer *,
                                  wane_err *e);
wane_status wane_layer_read_dense(const wane_checkpoint *, int i, wane_linear_id, wane_device *,
                                  wane_layer *, wane_err *e);
uint64_t wane_layer_plain_bytes(const wane_checkpoint *, int i); /* what read_plain takes */
/* The head as a checkpoint holds it dense: "lm_head.weight". */
wane_status wane_head_read_dense(const wane_checkpoint *, wane_device *, wane_linear *out,
                                 wane_err *e);
void wane_linear_clear(wane_linear *); /* gives back what it holds */
/* "model.layers.I.PART" into out, which it returns. i counts from 0, as in the files. */
enum { WANE_NAME = 96 };
const char *wane_layer_name(char out[WANE_NAME], int i, const char *part);

typedef struct {
    wane_status (*layer)(void *self, int i, wane_device *, wane_layer **out, wane_err *e);
    uint64_t (*bytes)(void *self,
                      int i); /* on the device that layer i takes, known without reading it */
    /* The output head of an untied model, dense or codes, into out, which is empty; and its bytes.
     */
    wane_status (*head)(void *self, wane_device *, wane_linear *out, wane_err *e);
    uint64_t (*head_bytes)(void *self);
    void (*release)(void *self);
    void *self; /* owned */
} wane_layer_source;

/* Every layer dense, from the checkpoint, of which it takes a reference. */
wane_layer_source wane_dense_source(wane_checkpoint *);

typedef struct wane_model {
    int refs;
    wane_checkpoint *checkpoint; /* retained: config, embedding, norms, head, tokenizer folder */
    const wane_config *config;   /* borrowed from it */
    wane_device *device, *host;  /* retained */
    wane_layer_source source;
    /* on the device, NULL until load */
    wane_tensor *embedding;  /* (v,hidden) */
    wane_tensor *final_norm; /* (hidden) */
    wane_linear head;        /* (v,hidden), without bias; empty where tied */
    wane_tensor *frequency;  /* F32 (1,d/2) */
    wane_layer **layer;      /* [layers]; NULL until load */
} wane_model;

/* Over a dense checkpoint: EUNSUPPORTED where it is quantized already (by config, dtype or shape: a
 * [N,1] U8 weight), naming the tensor, its shape and the expected one. Every tensor's presence,
 * dtype and shape is checked from the headers. Takes its own reference of the checkpoint. */
wane_status wane_model_new(wane_checkpoint *, wane_device *, wane_device *host, wane_model **out,
                           wane_err *e);
/* Over any source, which it owns from then on, also on failure. */
wane_status wane_model_new_from(wane_checkpoint *, wane_layer_source, wane_device *,
                                wane_device *host, wane_model **out, wane_err *e);
wane_model *wane_model_retain(wane_model *);
void wane_model_release(wane_model *);

typedef struct {
    char name[WANE_NAME];
    int rank;
    int64_t shape[2];
} wane_expected;

/* Every tensor of a dense checkpoint of that config, in a model's order: the embedding, layer after
 * layer, the norm, the head. *out is the caller's: free. */
wane_status wane_config_expect(const wane_config *, wane_expected **out, size_t *count,
                               wane_err *e);

/* Whether a checkpoint is a dense model of its config: nothing missing, nothing unexpected, every
 * shape as the config implies, and not quantized already. Reads headers only; wane_model_new begins
 * with it. */
wane_status wane_checkpoint_check_dense(const wane_checkpoint *, wane_err *e);
/* The same with everything that is wrong in all. holds, may be NULL, tells of a matrix
 * ("model.layers.0.mlp.down_proj") whether it is kept as codes: its tensors are another's to check.
 */
typedef bool (*wane_holds)(const wane_checkpoint *, const char *matrix);
wane_status wane_checkpoint_survey_tensors(const wane_checkpoint *, wane_holds holds,
                                           wane_findings *all, wane_err *e);
/* NaN and Inf in any floating tensor: ENUMERIC names the first with how many it has and where the
 * first lies. Reads every weight, on the host; poll's interrupt flag ends it (may be NULL). */
wane_status wane_checkpoint_check_finite(const wane_checkpoint *, const wane_device *poll,
                                         wane_err *e);
/* The same of all tensors: what is found is in all, and the status is of what else went wrong. */
wane_status wane_checkpoint_survey_finite(const wane_checkpoint *, const wane_device *poll,
                                          wane_findings *all, wane_err *e);

wane_status wane_model_load(wane_model *, wane_err *e); /* everything onto the device; once */
void wane_model_unload(wane_model *);
uint64_t wane_model_bytes(const wane_model *); /* what load takes on the device */
/* Layer i on the device, one reference: the loaded one, or read now. Then the next one's weights
 * are read while the caller computes. */
wane_status wane_model_layer(wane_model *, int i, wane_layer **out, wane_err *e);
void wane_model_rest(wane_model *); /* gives back what was read for a layer that nobody asked for */

/* A tensor of the model by its name in the checkpoint, on the device, one reference: the loaded
 * one, or read now (a whole layer is, for one of its tensors). What is kept as codes is decoded to
 * F32. EARG where there is no such name. */
wane_status wane_model_tensor(wane_model *, const char *name, wane_tensor **out, wane_err *e);

#endif
