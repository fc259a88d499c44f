/* config.h - config.json: the shape of a model, checked.
 *
 * Old and new spellings are read (rope_theta, rope_scaling, torch_dtype; rope_parameters, dtype). A
 * family is one row of families.def: what its blocks have that others lack. */
#ifndef WANE_CONFIG_H
#define WANE_CONFIG_H

#include "runtime/base/json.h"
#include "runtime/model/families.h"
#include "runtime/model/findings.h"

typedef struct {
    const wane_family *family; /* static */
    int64_t hidden, layers, heads, kv_heads, head_dim, mlp, vocabulary, positions;
    float eps;
    bool tied; /* the output head is the embedding */
    bool qkv_bias, o_bias, mlp_bias;
    wane_rope_kind rope;
    double rope_theta, rope_factor, rope_low, rope_high,
        rope_original; /* low, high: betas of yarn */
    double rope_gain;  /* what yarn multiplies products of queries and keys by; 1 */
    bool rope_whole;   /* yarn's ramp begins and ends at whole numbers */
    int32_t bos, pad;  /* -1: none */
    int32_t eos[16];   /* from generation_config.json too, where it has more */
    int n_eos;
    json_t *json; /* the whole of config.json, owned */
} wane_config;

/* Reads DIR/config.json and DIR/generation_config.json (may be absent). Names the field and the
 * rule it breaks; EUNSUPPORTED for families, rope kinds and activations that wane does not compute.
 * Zeroed on failure. */
wane_status wane_config_load(const char *dir, wane_config *config, wane_err *e);
/* The same, with every field that is wrong in all. */
wane_status wane_config_survey(const char *dir, wane_config *config, wane_findings *all,
                               wane_err *e);
void wane_config_free(wane_config *);

/* The number that a width of families.def is. */
int64_t wane_config_width(const wane_config *, wane_width);

/* quantization_config of config.json, borrowed; NULL where there is none. */
const json_t *wane_config_quantization(const wane_config *);

/* (d/2) inverse frequencies as Transformers computes them (float32). */
void wane_config_frequencies(const wane_config *, float *out);

#endif
