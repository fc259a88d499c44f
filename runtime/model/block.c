/* block.c - one transformer block; see block.h.
 *
 * The decoder layer of Llama, Qwen2 and Qwen3 as in Hugging Face Transformers' modeling files:
 * pre-norm attention with rotary positions, then a gated MLP. Scratch holds what a stage makes and
 * no later stage reads: q, k, v | the output of o | up | the output of down. For a whole block it
 * also holds the inputs of the stages: a (n,hidden) for 0 and 2, b (n, max(h*d, mlp)) for 1 and 3,
 * laid out a, b, then the stage's own.
 *
 * Queries and keys are rotated in F32 and rounded once, on their way into a product or a pool. gate
 * and up are made in the type that their product is rounded to: on a GPU they are the block's
 * largest matrices, and an F32 one would be written and read at half the speed. */
#include "runtime/model/block.h"

#include <math.h>

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t wane_stage_width(const wane_config *c, int stage)
{
    return wane_config_width(c, wane_stages[stage].width);
}

/* Bytes that a stage wants for itself. */
static uint64_t stage_scratch(const wane_config *c, wane_dtype t, int64_t n)
{
    uint64_t kv = wane_mat_bytes(WANE_F32, n, c->kv_heads * c->head_dim);
    uint64_t most = wane_mat_bytes(WANE_F32, n, c->heads * c->head_dim) + 2 * kv;
    uint64_t up = wane_mat_bytes(t, n, c->mlp), added = wane_mat_bytes(WANE_F32, n, c->hidden);
    if (up > most) most = up;
    return added > most ? added : most;
}

static int64_t second_width(const wane_config *c)
{
    return larger(wane_stage_width(c, 1), wane_stage_width(c, 3));
}

/* Bytes of the stages' inputs, before the stages' own. */
static uint64_t input_bytes(const wane_config *c, wane_dtype t, int64_t n)
{
    return wane_mat_bytes(t, n, c->hidden) + wane_mat_bytes(t, n, second_width(c));
}

uint64_t wane_block_scratch(const wane_config *c, wane_dtype activations, int64_t n)
{
    return input_bytes(c, activations, n) + stage_scratch(c, activations, n);
}

wane_attention wane_block_attention(const wane_config *c, const void *runs, int n_runs,
                                    const void *spans)
{
    return (wane_attention){
        .runs = runs,
        .spans = spans,
        .n_runs = n_runs,
        .heads = (int)c->heads,
        .kv_heads = (int)c->kv_heads,
        .head_dim = (int)c->head_dim,
        .scale = 1.0f / sqrtf((float)c->head_dim),
    };
}

static wane_dtype activations(const wane_block *b)
{
    return b->device->k->activations;
}

/* A matrix (n,cols) at byte `at` of the scratch; *at moves past it. */
static wane_mat take(const wane_block *b, uint64_t *at, wane_dtype t, int64_t n, int64_t cols)
{
    wane_mat m = {(char *)b->scratch + *at, t, n, cols, cols};
    *at += wane_mat_bytes(t, n, cols);
    return m;
}

/* Where the stages' own scratch starts. */
static uint64_t own(const wane_block *b, int64_t n)
{
    return input_bytes(b->config, activations(b), n);
}

wane_status wane_linear_apply(wane_device *d, const wane_linear *l, wane_mat y, wane_mat x,
                              wane_err *e)
{
    wane_status s = l->quantized ? WANE_CALL(d, e, qmatmul, y, x, wane_quantized_mat(l->quantized))
                                 : WANE_CALL(d, e, matmul, y, x, wane_tensor_mat(l->weight));
    if (!s && l->bias) s = WANE_CALL(d, e, binary, y, y, wane_tensor_mat(l->bias), WANE_ADD);
    return s;
}

static wane_status normalize(const wane_block *b, wane_mat y, wane_mat x, const wane_tensor *gain,
                             wane_err *e)
{
    return WANE_CALL(b->device, e, rmsnorm, y, x, wane_tensor_mat(gain), b->config->eps);
}

/* Each head of x (n, heads*d) on its own, in place; no gain: nothing to do. */
static wane_status normalize_heads(const wane_block *b, wane_mat x, const wane_tensor *gain,
                                   wane_err *e)
{
    if (!gain) return WANE_OK;
    int64_t d = b->config->head_dim;
    wane_mat heads = wane_mat_reshape(x, x.rows * (x.cols / d), d);
    return normalize(b, heads, heads, gain, e);
}

static wane_status attention(const wane_block *b, const wane_layer *l, wane_mat in, wane_mat out,
                             wane_err *e)
{
    const wane_config *c = b->config;
    wane_device *d = b->device;
    int64_t n = in.rows, width = c->kv_heads * c->head_dim;
    uint64_t at = own(b, n);
    wane_mat q = take(b, &at, WANE_F32, n, c->heads * c->head_dim);
    wane_mat k = take(b, &at, WANE_F32, n, width), v = take(b, &at, WANE_F32, n, width);
    wane_status s = wane_linear_apply(d, &l->linear[WANE_Q_PROJ], q, in, e);
    if (!s) s = wane_linear_apply(d, &l->linear[WANE_K_PROJ], k, in, e);
    if (!s) s = wane_linear_apply(d, &l->linear[WANE_V_PROJ], v, in, e);
    if (!s) s = normalize_heads(b, q, l->q_norm, e);
    if (!s) s = normalize_heads(b, k, l->k_norm, e);
    if (!s) s = WANE_CALL(d, e, rope, q, b->position, b->frequency, 1.0f);
    if (!s) s = WANE_CALL(d, e, rope, k, b->position, b->frequency, 1.0f);
    if (!s) s = WANE_CALL(d, e, store, b->keys, k, b->row);
    if (!s) s = WANE_CALL(d, e, store, b->values, v, b->row);
    if (!s) s = WANE_CALL(d, e, attend, out, q, b->keys, b->values, &b->attention);
    return s;
}

/* x += the linear of in */
static wane_status add_linear(const wane_block *b, const wane_linear *l, wane_mat x, wane_mat in,
                              wane_err *e)
{
    uint64_t at = own(b, in.rows);
    wane_mat y = take(b, &at, WANE_F32, in.rows, b->config->hidden);
    wane_status s = wane_linear_apply(b->device, l, y, in, e);
    return s ? s : WANE_CALL(b->device, e, binary, x, x, y, WANE_ADD);
}

static wane_status gated(const wane_block *b, const wane_layer *l, wane_mat in, wane_mat out,
                         wane_err *e)
{
    uint64_t at = own(b, in.rows);
    wane_mat up = take(b, &at, activations(b), in.rows, b->config->mlp);
    wane_status s = wane_linear_apply(b->device, &l->linear[WANE_GATE_PROJ], out, in, e);
    if (!s) s = wane_linear_apply(b->device, &l->linear[WANE_UP_PROJ], up, in, e);
    return s ? s : WANE_CALL(b->device, e, silu_mul, out, out, up);
}

wane_mat wane_block_place(const wane_block *b, int stage, int64_t n)
{
    uint64_t at = stage % 2 ? wane_mat_bytes(activations(b), n, b->config->hidden) : 0;
    return take(b, &at, activations(b), n, wane_stage_width(b->config, stage));
}

wane_status wane_block_begin(const wane_block *b, const wane_layer *l, wane_mat x, wane_mat in,
                             wane_err *e)
{
    return normalize(b, in, x, l->input_norm, e);
}

wane_status wane_block_advance(const wane_block *b, const wane_layer *l, int stage, wane_mat x,
                               wane_mat in, wane_mat out, wane_err *e)
{
    wane_status s;
    switch (stage) {
    case 0: return attention(b, l, in, out, e);
    case 1:
        s = add_linear(b, &l->linear[WANE_O_PROJ], x, in, e);
        return s ? s : normalize(b, out, x, l->post_norm, e);
    case 2: return gated(b, l, in, out, e);
    case 3: return add_linear(b, &l->linear[WANE_DOWN_PROJ], x, in, e);
    default: return wane_fail(e, WANE_EARG, "a block has stages 0 to 3, not %d", stage);
    }
}

wane_status wane_block_input(const wane_block *b, const wane_layer *l, int stage, wane_mat x,
                             wane_mat *in, wane_err *e)
{
    *in = wane_block_place(b, stage, x.rows);
    if (stage % 2 == 0) return normalize(b, *in, x, stage ? l->post_norm : l->input_norm, e);
    wane_mat before;
    wane_status s = wane_block_input(b, l, stage - 1, x, &before, e);
    return s ? s : wane_block_advance(b, l, stage - 1, x, before, *in, e);
}

wane_status wane_block_forward(const wane_block *b, const wane_layer *l, wane_mat x, wane_err *e)
{
    wane_mat in = wane_block_place(b, 0, x.rows), out = {0};
    wane_status s = wane_block_begin(b, l, x, in, e);
    for (int stage = 0; stage < 4 && !s; stage++, in = out) {
        out = stage < 3 ? wane_block_place(b, stage + 1, x.rows) : (wane_mat){0};
        s = wane_block_advance(b, l, stage, x, in, out, e);
    }
    return s;
}
