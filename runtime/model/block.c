/* block.c - one transformer block; see block.h.
 *
 * The decoder layer of Llama, Qwen2 and Qwen3 as in Hugging Face Transformers' modeling files:
 * pre-norm attention with rotary positions, then a gated MLP. Scratch holds what a stage makes and
 * no later stage reads: q, k, v, q rotated | the output of o | up | the output of down. For a whole
 * block it also holds the inputs of the stages: a (n,hidden) for 0 and 2, b (n, max(h*d, mlp)) for
 * 1 and 3, laid out a, b, then the stage's own.
 *
 * A whole block is six slots: the norms and what is added up belong to the products around them,
 * so that a backend may take them in one go (kernels.h). For calibration, which looks at what lies
 * between, the norms are slots of their own.
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

/* Bytes of the rotated queries; where activations are F32 they stay where they were made. */
static uint64_t turned_bytes(const wane_config *c, wane_dtype t, int64_t n)
{
    return t == WANE_F32 ? 0 : wane_mat_bytes(t, n, c->heads * c->head_dim);
}

/* Bytes that a stage wants for itself. */
static uint64_t stage_scratch(const wane_config *c, wane_dtype t, int64_t n)
{
    uint64_t kv = wane_mat_bytes(WANE_F32, n, c->kv_heads * c->head_dim);
    uint64_t most = wane_mat_bytes(WANE_F32, n, c->heads * c->head_dim) + 2 * kv;
    most += turned_bytes(c, t, n);
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
        .scale = 1.0f / sqrtf((float)c->head_dim) * (float)c->rope_gain,
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

static wane_mat mat_or_none(const wane_tensor *t)
{
    return t ? wane_tensor_mat(t) : (wane_mat){0};
}

static wane_product product(const wane_linear *l, wane_mat y)
{
    wane_product p = {.y = y, .bias = mat_or_none(l->bias)};
    if (l->quantized)
        p.q = wane_quantized_mat(l->quantized);
    else
        p.w = wane_tensor_mat(l->weight);
    return p;
}

/* What a stage's products read: `in` as it is (no gain), or through a norm, with room for that. */
typedef struct {
    wane_mat in, room;
    const wane_tensor *gain;
} reading;

static wane_products products_of(const wane_block *b, reading r)
{
    return (wane_products){
        .x = r.in, .gain = mat_or_none(r.gain), .eps = b->config->eps, .room = r.room};
}

static wane_status attention(const wane_block *b, const wane_layer *l, reading r, wane_mat out,
                             wane_err *e)
{
    const wane_config *c = b->config;
    wane_device *d = b->device;
    wane_dtype t = activations(b);
    int64_t n = r.in.rows, width = c->kv_heads * c->head_dim;
    uint64_t at = own(b, n);
    wane_mat q = take(b, &at, WANE_F32, n, c->heads * c->head_dim);
    wane_mat k = take(b, &at, WANE_F32, n, width), v = take(b, &at, WANE_F32, n, width);
    wane_mat turned = t == WANE_F32 ? q : take(b, &at, t, n, q.cols);
    wane_products p = products_of(b, r);
    p.part[0] = product(&l->linear[WANE_Q_PROJ], q);
    p.part[1] = product(&l->linear[WANE_K_PROJ], k);
    p.part[2] = product(&l->linear[WANE_V_PROJ], v);
    p.parts = 3;
    wane_heads h = {
        .q = q,
        .k = k,
        .v = v,
        .turned = turned,
        .q_gain = mat_or_none(l->q_norm),
        .k_gain = mat_or_none(l->k_norm),
        .eps = c->eps,
        .position = b->position,
        .frequency = b->frequency,
        .keys = b->keys,
        .values = b->values,
        .row = b->row,
    };
    wane_status s = WANE_CALL(d, e, products, &p);
    if (!s) s = WANE_CALL(d, e, heads, &h);
    if (!s) s = WANE_CALL(d, e, attend, out, turned, b->keys, b->values, &b->attention);
    return s;
}

/* x += the linear of in */
static wane_status add_linear(const wane_block *b, const wane_linear *l, wane_mat x, wane_mat in,
                              wane_err *e)
{
    uint64_t at = own(b, in.rows);
    wane_products p = {.x = in, .part = {product(l, x)}, .parts = 1, .residual = x};
    p.room = take(b, &at, WANE_F32, in.rows, b->config->hidden);
    return WANE_CALL(b->device, e, products, &p);
}

static wane_status gated(const wane_block *b, const wane_layer *l, reading r, wane_mat out,
                         wane_err *e)
{
    uint64_t at = own(b, r.in.rows);
    wane_mat up = take(b, &at, activations(b), r.in.rows, b->config->mlp);
    wane_products p = products_of(b, r);
    p.part[0] = product(&l->linear[WANE_GATE_PROJ], out);
    p.part[1] = product(&l->linear[WANE_UP_PROJ], up);
    p.parts = 2;
    p.gated = true;
    return WANE_CALL(b->device, e, products, &p);
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
    reading as_it_is = {.in = in};
    switch (stage) {
    case 0: return attention(b, l, as_it_is, out, e);
    case 1:
        s = add_linear(b, &l->linear[WANE_O_PROJ], x, in, e);
        return s ? s : normalize(b, out, x, l->post_norm, e);
    case 2: return gated(b, l, as_it_is, out, e);
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
    int64_t n = x.rows;
    /* attention's output is read before the MLP's is written in its place */
    wane_mat normed = wane_block_place(b, 0, n), attended = wane_block_place(b, 1, n),
             through = wane_block_place(b, 3, n);
    wane_status s = attention(b, l, (reading){x, normed, l->input_norm}, attended, e);
    if (!s) s = add_linear(b, &l->linear[WANE_O_PROJ], x, attended, e);
    if (!s) s = gated(b, l, (reading){x, normed, l->post_norm}, through, e);
    if (!s) s = add_linear(b, &l->linear[WANE_DOWN_PROJ], x, through, e);
    return s;
}
