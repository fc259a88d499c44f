/* families.h - the tables of families.def: what a layer is made of, and how families differ. */
#ifndef WANE_FAMILIES_H
#define WANE_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/error.h"

typedef enum {
    WANE_WIDTH_HIDDEN,
    WANE_WIDTH_QUERIES,
    WANE_WIDTH_KEYS,
    WANE_WIDTH_MLP,
    WANE_WIDTH_HEAD
} wane_width;

typedef enum {
#define WANE_MATRIX(id, name, stage, rows, bias) WANE_##id,
#include "runtime/model/families.def"
    WANE_LINEARS
} wane_linear_id;

typedef enum {
#define WANE_NORM(field, name, width, of_heads) WANE_NORM_##field,
#include "runtime/model/families.def"
    WANE_NORMS
} wane_norm_id;

typedef enum {
#define WANE_ROPE(id, name) WANE_ROPE_##id,
#include "runtime/model/families.def"
    WANE_ROPES
} wane_rope_kind;

typedef enum { WANE_WINDOW_NEVER, WANE_WINDOW_FLAG, WANE_WINDOW_ALWAYS } wane_window_rule;
typedef enum { WANE_BIAS_NONE, WANE_BIAS_QKV, WANE_BIAS_FLAG } wane_bias_rule;

enum { WANE_STAGES = 4 };

typedef struct {
    const char *name; /* "input_layernorm.weight" */
    wane_width width;
    size_t at; /* of its tensor in wane_layer */
    bool of_heads;
} wane_norm_row;

typedef struct {
    const char *name; /* "self_attn.q_proj" */
    int stage;
    wane_width rows;
    enum { WANE_BIAS_OF_QKV, WANE_BIAS_OF_O, WANE_BIAS_OF_MLP } bias;
} wane_matrix_row;

typedef struct {
    wane_width width;
    bool norm;  /* a scale is divided out of norm's gain; else out of a matrix's rows */
    int source; /* wane_norm_id or wane_linear_id */
} wane_stage_row;

typedef struct {
    const char *model_type;   /* "qwen3" */
    const char *architecture; /* "Qwen3ForCausalLM" */
    bool qk_norm;             /* RMSNorm over each head of q and k */
    wane_bias_rule bias;
    bool mlp_bias; /* mlp_bias is read */
    int head_dim;  /* where config.json has none; 0: hidden / heads */
    int kv_heads;  /* where config.json has none; 0: heads */
    int window;    /* where config.json has none */
    wane_window_rule window_rule;
} wane_family;

extern const wane_norm_row wane_norms[WANE_NORMS];
extern const wane_matrix_row wane_matrices[WANE_LINEARS];
extern const wane_stage_row wane_stages[WANE_STAGES];
extern const char *const wane_ropes[WANE_ROPES];

/* Every family, ended by one without a model_type. */
extern const wane_family wane_families[];

/* The matrices that read stage s's input are wane_stage_count(s) from wane_stage_first(s) on, in
 * wane_linear_id's order. */
int wane_stage_first(int s);
int wane_stage_count(int s);

#endif
