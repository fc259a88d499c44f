/* families.c - see families.h. */
#include "runtime/model/families.h"

#include "runtime/model/model.h"

const wane_norm_row wane_norms[WANE_NORMS] = {
#define WANE_NORM(field, name, width, of_heads)                                                    \
    {name, WANE_WIDTH_##width, offsetof(wane_layer, field), of_heads},
#include "runtime/model/families.def"
};

const wane_matrix_row wane_matrices[WANE_LINEARS] = {
#define WANE_MATRIX(id, name, stage, rows, bias)                                                   \
    {name, stage, WANE_WIDTH_##rows, WANE_BIAS_OF_##bias},
#include "runtime/model/families.def"
};

#define NORM(field) true, WANE_NORM_##field
#define ROWS(id)    false, WANE_##id
const wane_stage_row wane_stages[WANE_STAGES] = {
#define WANE_STAGE(width, kind, source) {WANE_WIDTH_##width, kind(source)},
#include "runtime/model/families.def"
};

const char *const wane_ropes[WANE_ROPES] = {
#define WANE_ROPE(id, name) name,
#include "runtime/model/families.def"
};

const wane_family wane_families[] = {
#define WANE_FAMILY(type, architecture, qk_norm, bias, mlp_bias, head_dim, kv_heads, width, rule)  \
    {type,     architecture, qk_norm, WANE_BIAS_##bias,  mlp_bias,                                 \
     head_dim, kv_heads,     width,   WANE_WINDOW_##rule},
#include "runtime/model/families.def"
    {0},
};

int wane_stage_first(int s)
{
    int id = 0;
    while (id < WANE_LINEARS - 1 && wane_matrices[id].stage < s) id++;
    return id;
}

int wane_stage_count(int s)
{
    int count = 0;
    for (int id = 0; id < WANE_LINEARS; id++) count += wane_matrices[id].stage == s;
    return count;
}
