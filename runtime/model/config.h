/* config.h - config.json: the shape of a model, checked.
 *
 * Old and new spellings are read (rope_theta, rope_scaling, torch_dtype; rope_parameters, dtype). A
 * family is one row of families.def: what its blocks have that others lack. */
#ifndef WANE_CONFIG_H
#define WANE_CONFIG_H

#include "runtime/base/json.h"

typedef enum { WANE_ROPE_DEFAULT, WANE_ROPE_LINEAR, WANE_ROPE_LLAMA3 } wane_rope_kind;

typedef enum { WANE_WINDOW_NEVER, WANE_WINDOW_FLAG, WANE_WINDOW_ALWAYS } wane_window_rule;

typedef struct {
    const char *model_type;   /* "qwen3" */
    const char *architecture; /* "Qwen3ForCausalLM" */
    bool qk_norm;             /* RMSNorm over each head of q and k */
    bool qkv_bias;            /* always has biases on q, k, v */
    bool biases;              /* attention_bias and mlp_bias are read */
    wane_window_rule window;  /* when sliding_window counts */
    int head_dim;             /* where config.json has none; 0: hidden / heads */
} wane_family;

typedef struct {
    const wane_family *family; /* static */
    int64_t hidden, layers, heads, kv_heads, head_dim, mlp, vocabulary, positions;
    float eps;
    bool tied; /* the output head is the embedding */
    bool qkv_bias, o_bias, mlp_bias;
    wane_rope_kind rope;
    double rope_theta, rope_factor, rope_low, rope_high, rope_original;
    int32_t bos, pad; /* -1: none */
    int32_t eos[16];  /* from generation_config.json too, where it has more */
    int n_eos;
    json_t *json; /* the whole of config.json, owned */
} wane_config;

/* Reads DIR/config.json and DIR/generation_config.json (may be absent). Names the field and the
 * rule it breaks; EUNSUPPORTED for families, rope kinds and activations that wane does not compute.
 * Zeroed on failure. */
wane_status wane_config_load(const char *dir, wane_config *config, wane_err *e);
void wane_config_free(wane_config *);

/* Every family, ended by one without a model_type. */
extern const wane_family wane_families[];

/* quantization_config of config.json, borrowed; NULL where there is none. */
const json_t *wane_config_quantization(const wane_config *);

/* (d/2) inverse frequencies as Transformers computes them (float32). */
void wane_config_frequencies(const wane_config *, float *out);

#endif
