/* quant.c - wane.core.quant: the steps of which quantize.lua makes a quantization: a pass of
 * calibration texts, layers, and stages of matrices that read one input. Plans are in plan.c. */
#include <stdlib.h>
#include <string.h>

#include "runtime/bind/codes.h"
#include "runtime/bind/model.h"
#include "runtime/bind/plan.h"
#include "runtime/bind/tensor.h"
#include "runtime/quant/kept.h"
#include "runtime/quant/stage.h"

static void release_layer(void *p)
{
    wane_layer_release(p);
}
static void release_stats(void *p)
{
    wane_stats_release(p);
}
static void release_calib(void *p)
{
    wane_calib_release(p);
}

static const wane_type stats_type = {"wane.stats", release_stats, NULL, NULL};

static int l_bytes(lua_State *L)
{
    wane_plan p;
    wane_model *m = wane_check_model(L, 1);
    wane_check_plan(L, 2, &p);
    lua_Integer tokens = luaL_optinteger(L, 3, 0), longest = luaL_optinteger(L, 4, tokens);
    luaL_argcheck(L, tokens >= 0, 3, "cannot be negative");
    luaL_argcheck(L, !tokens || (longest > 0 && longest <= tokens), 4, "is a part of all tokens");
    wane_err e;
    uint64_t peak;
    WANE_TRY(L, e, wane_quantize_plan(m, &p, tokens, longest, &peak, &e));
    lua_pushinteger(L, (lua_Integer)peak);
    return 1;
}

static wane_linear_id check_linear(lua_State *L, int arg)
{
    const char *name = luaL_checkstring(L, arg);
    for (int i = 0; i < WANE_LINEARS; i++)
        if (!strcmp(name, wane_linear_name((wane_linear_id)i))) return (wane_linear_id)i;
    luaL_error(L, "a layer has no matrix %s", name);
    return WANE_LINEARS;
}

/* layer(model, i): i counts from 0, as in the files */
static int l_layer(lua_State *L)
{
    wane_err e;
    wane_layer *layer;
    const wane_model *m = wane_check_model(L, 1);
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 0 && i < m->config->layers, 2, "the model has no such layer");
    wane_box *box = wane_newbox(L, &wane_layer_type);
    WANE_TRY(L, e, wane_model_layer(wane_check_model(L, 1), (int)i, &layer, &e));
    box->p = layer;
    return 1;
}

/* rest(model): one that is closed has nothing left */
static int l_rest(lua_State *L)
{
    wane_model *m = wane_test(L, 1, &wane_model_type);
    if (m) wane_model_rest(m);
    return 0;
}

static int l_final(lua_State *L)
{
    wane_err e;
    wane_layer *layer;
    wane_check_model(L, 1);
    wane_box *box = wane_newbox(L, &wane_layer_type);
    WANE_TRY(L, e, wane_layer_final(wane_check_model(L, 1), &layer, &e));
    box->p = layer;
    return 1;
}

static int l_begin(lua_State *L)
{
    wane_err e;
    wane_layer *layer;
    wane_check(L, 1, &wane_layer_type);
    wane_box *box = wane_newbox(L, &wane_layer_type);
    WANE_TRY(L, e, wane_layer_begin(wane_check(L, 1, &wane_layer_type), &layer, &e));
    box->p = layer;
    return 1;
}

static int l_to_host(lua_State *L)
{
    wane_err e;
    wane_layer *layer;
    wane_device *host = wane_bind_host(L);
    wane_check(L, 1, &wane_layer_type);
    wane_box *box = wane_newbox(L, &wane_layer_type);
    WANE_TRY(L, e, wane_layer_copy_to(wane_check(L, 1, &wane_layer_type), host, &layer, &e));
    box->p = layer;
    return 1;
}

static int l_layer_codes(lua_State *L)
{
    const wane_layer *layer = wane_check(L, 1, &wane_layer_type);
    wane_quantized *q = layer->linear[check_linear(L, 2)].quantized;
    if (!q) return 0;
    wane_box *box = wane_newbox(L, &wane_codes_type);
    box->p = wane_quantized_retain(q);
    return 1;
}

static int l_layer_bytes(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)wane_layer_bytes(wane_check(L, 1, &wane_layer_type)));
    return 1;
}

static const wane_reg layer_methods[] = {
    {"begin", l_begin, "layer:begin() -> a layer with the same norms and biases and no matrices"},
    {"to_host", l_to_host, "layer:to_host() -> a copy on the host; raises oom"},
    {"codes", l_layer_codes,
     "layer:codes(name) -> the codes of a matrix, \"mlp.up_proj\", or nothing"},
    {"bytes", l_layer_bytes, "layer:bytes() -> what its tensors take"},
    {NULL, NULL, NULL},
};

const wane_type wane_layer_type = {"wane.layer", release_layer, layer_methods, NULL};

static void *optional(lua_State *L, int arg, const wane_type *type)
{
    return lua_isnoneornil(L, arg) ? NULL : wane_check(L, arg, type);
}

/* assemble(model, layers): a model of the same folder with these layers */
static int l_assemble(lua_State *L)
{
    wane_err e;
    wane_model *out;
    wane_check_model(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    optional(L, 3, &wane_codes_type);
    int count = (int)luaL_len(L, 2);
    wane_layer **layers = wane_bind_scratch(L, (size_t)count * sizeof *layers);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        layers[i] = wane_check(L, -1, &wane_layer_type);
        lua_pop(L, 1); /* the list keeps it */
    }
    wane_box *box = wane_newbox(L, &wane_model_type);
    lua_newtable(L); /* fields that are asked for */
    lua_setiuservalue(L, -2, 1);
    WANE_TRY(L, e,
             wane_model_keep(wane_check_model(L, 1), layers, count,
                             optional(L, 3, &wane_codes_type), &out, &e));
    box->p = out;
    return 1;
}

static const wane_type calib_type;

/* Token ids of texts at arg, and their weights at arg + 1 (nil: all 1; false for one text: all 1),
 * into scratch that stays on the stack. */
static wane_sequence *check_texts(lua_State *L, int arg, int64_t *count)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    int64_t n = *count = luaL_len(L, arg);
    luaL_argcheck(L, n > 0, arg, "at least one text");
    wane_sequence *s = wane_bind_scratch(L, (size_t)n * sizeof *s);
    memset(s, 0, (size_t)n * sizeof *s);
    lua_newtable(L); /* keeps the scratch of each text */
    int keep = lua_gettop(L);
    luaL_checkstack(L, 8, "texts");
    for (int64_t i = 0; i < n; i++) {
        lua_rawgeti(L, arg, i + 1);
        s[i].ids = wane_check_ids(L, lua_gettop(L), &s[i].count);
        lua_rawseti(L, keep, 2 * i + 1);
        lua_settop(L, keep);
        if (lua_isnoneornil(L, arg + 1)) continue;
        lua_rawgeti(L, arg + 1, i + 1);
        if (!lua_istable(L, -1)) {
            lua_settop(L, keep);
            continue;
        }
        luaL_argcheck(L, luaL_len(L, -1) == s[i].count, arg + 1, "one weight for every token");
        float *weight = wane_bind_scratch(L, (size_t)s[i].count * sizeof *weight);
        s[i].weight = weight;
        for (int64_t t = 0; t < s[i].count; t++) {
            lua_rawgeti(L, keep + 1, t + 1);
            lua_Number x = lua_tonumber(L, -1);
            luaL_argcheck(L, x >= 0 && x < 1e6, arg + 1, "weights are from 0 to a million");
            weight[t] = (float)x;
            lua_pop(L, 1);
        }
        lua_rawseti(L, keep, 2 * i + 2);
        lua_settop(L, keep);
    }
    return s;
}

/* calibrate(model, plan, texts, weights, weighing) */
static int l_calibrate(lua_State *L)
{
    static const char *const names[] = {"unique", "all", NULL};
    wane_err e;
    wane_plan p;
    wane_calib *c;
    int64_t count;
    wane_model *m = wane_check_model(L, 1);
    wane_check_plan(L, 2, &p);
    wane_weighing weighing =
        luaL_checkoption(L, 5, "unique", names) ? WANE_WEIGH_ALL : WANE_WEIGH_UNIQUE;
    lua_settop(L, 5);
    wane_sequence *s = check_texts(L, 3, &count);
    int64_t tokens = 0;
    for (int64_t i = 0; i < count; i++) tokens += s[i].count;
    wane_quantize_need need = wane_quantize_needs(m, &p, tokens);
    wane_box *box = wane_newbox(L, &calib_type);
    WANE_TRY(L, e, wane_calib_new(wane_check_model(L, 1), s, count, weighing, &need, &c, &e));
    box->p = c;
    return 1;
}

/* calib:step(layer, number, stage, plan): plan nil: no statistics */
static int l_step(lua_State *L)
{
    wane_err e;
    wane_plan p;
    wane_stats *stats;
    unsigned needs = 0;
    wane_check(L, 1, &calib_type);
    wane_check(L, 2, &wane_layer_type);
    int number = (int)luaL_checkinteger(L, 3), stage = (int)luaL_checkinteger(L, 4);
    if (!lua_isnoneornil(L, 5)) {
        wane_check_plan(L, 5, &p);
        needs = p.method->needs | WANE_NEED_GRAM;
    }
    wane_box *box = wane_newbox(L, &stats_type);
    WANE_TRY(L, e,
             wane_calib_step(wane_check(L, 1, &calib_type), wane_check(L, 2, &wane_layer_type),
                             number, stage, needs, &stats, &e));
    box->p = stats;
    if (!stats) lua_pushnil(L);
    return 1;
}

static int l_calib_info(lua_State *L)
{
    const wane_calib *c = wane_check(L, 1, &calib_type);
    lua_createtable(L, 0, 6);
    wane_set_integer(L, "samples", c->texts);
    wane_set_integer(L, "tokens", c->batches->tokens);
    wane_set_integer(L, "distinct", c->batches->distinct);
    wane_set_integer(L, "rows", c->batches->rows);
    wane_set_integer(L, "batches", c->batches->count);
    wane_set_integer(L, "widest", c->width);
    return 1;
}

static const wane_reg calib_methods[] = {
    {"step", l_step,
     "calib:step(layer, number, stage, plan) -> statistics of the next stage's input, or nil "
     "without "
     "plan; raises oom, numeric"},
    {"info", l_calib_info,
     "calib:info() -> { samples, tokens, distinct, rows, batches, widest: columns of the widest "
     "input }"},
    {NULL, NULL, NULL},
};

static const wane_type calib_type = {"wane.calib", release_calib, calib_methods, NULL};

typedef struct {
    wane_stage *stage; /* owned */
    wane_model *model; /* retained; NULL for a matrix on its own, as into */
    wane_layer *into;
    int number, n;
} job;

static void release_job(void *p)
{
    job *j = p;
    wane_stage_free(j->stage);
    wane_model_release(j->model);
    wane_layer_release(j->into);
    free(j);
}

static const wane_type stage_type;

/* Statistics as they were measured, or inputs taken as white. */
static wane_status white_stats(wane_device *d, int64_t k, const wane_plan *p, wane_stats *given,
                               wane_stats **out, wane_err *e)
{
    if (!given) return wane_stats_white(d, k, p->method->needs, out, e);
    *out = wane_stats_retain(given);
    return WANE_OK;
}

static wane_status open_stage(wane_model *m, const wane_plan *p, const wane_layer *source,
                              wane_layer *into, int number, wane_stats *given, wane_calib *calib,
                              job **out, wane_err *e)
{
    wane_tensor *w[3];
    const char *names[3];
    wane_stats *stats = NULL;
    int n = wane_stage_count(number);
    for (int i = 0; i < n; i++) {
        wane_linear_id id = (wane_linear_id)(wane_stage_first(number) + i);
        w[i] = source->linear[id].weight;
        names[i] = wane_linear_name(id);
        if (!w[i])
            return wane_fail(e, WANE_EUNSUPPORTED,
                             "%s is quantized already; quantize the model it was made from",
                             names[i]);
    }
    job *j = calloc(1, sizeof *j);
    if (!j) return wane_fail(e, WANE_EOOM, "host: no memory for a stage");
    j->number = number;
    j->n = n;
    wane_status s =
        white_stats(m->device, wane_stage_width(m->config, number), p, given, &stats, e);
    if (!s) s = wane_stage_new(p, w, names, n, stats, calib, &j->stage, e);
    wane_stats_release(stats);
    if (!s) {
        j->model = wane_model_retain(m);
        j->into = wane_layer_retain(into);
        *out = j;
    } else {
        release_job(j);
    }
    return s;
}

/* The pointer in the box at arg; NULL for nil. */
/* The scales' type by its name at arg, into the plan; nil: the weights'. */
static void check_scale_dtype(lua_State *L, int arg, wane_plan *p)
{
    const char *name = luaL_optstring(L, arg, NULL);
    wane_dtype t;
    if (!name) return;
    luaL_argcheck(L,
                  wane_dtype_parse(name, &t) && (t == WANE_F32 || t == WANE_F16 || t == WANE_BF16),
                  arg, "scales are f32, f16 or bf16");
    p->scale_dtype = t;
}

/* stage(model, plan, source, into, number, stats, calib, scale): the last three may be nil */
static int l_stage(lua_State *L)
{
    wane_err e;
    wane_plan p;
    job *j;
    wane_check_model(L, 1);
    wane_check_plan(L, 2, &p);
    wane_check(L, 3, &wane_layer_type);
    wane_check(L, 4, &wane_layer_type);
    lua_Integer number = luaL_checkinteger(L, 5);
    luaL_argcheck(L, number >= 0 && number < 4, 5, "a block has stages 0 to 3");
    check_scale_dtype(L, 8, &p);
    lua_settop(L, 7);
    wane_box *box = wane_newbox(L, &stage_type);
    WANE_TRY(L, e,
             open_stage(wane_check_model(L, 1), &p, wane_check(L, 3, &wane_layer_type),
                        wane_check(L, 4, &wane_layer_type), (int)number,
                        optional(L, 6, &stats_type), optional(L, 7, &calib_type), &j, &e));
    box->p = j;
    return 1;
}

static wane_status open_matrix(const wane_plan *p, wane_tensor *w, wane_stats *given, job **out,
                               wane_err *e)
{
    const char *name = "matrix";
    wane_stats *stats = NULL;
    if (w->rank != 2)
        return wane_fail(e, WANE_EARG, "a matrix is quantized, not a tensor of rank %d", w->rank);
    job *j = calloc(1, sizeof *j);
    if (!j) return wane_fail(e, WANE_EOOM, "host: no memory for a stage");
    j->n = 1;
    wane_status s = white_stats(wane_tensor_device(w), w->shape[1], p, given, &stats, e);
    if (!s) s = wane_stage_new(p, &w, &name, 1, stats, NULL, &j->stage, e);
    wane_stats_release(stats);
    if (s)
        release_job(j);
    else
        *out = j;
    return s;
}

/* matrix(plan, w, stats, scale): a stage of one matrix that belongs to no layer */
static int l_matrix(lua_State *L)
{
    wane_err e;
    wane_plan p;
    job *j;
    wane_check_plan(L, 1, &p);
    wane_check_tensor(L, 2);
    check_scale_dtype(L, 4, &p);
    lua_settop(L, 3);
    wane_box *box = wane_newbox(L, &stage_type);
    WANE_TRY(L, e, open_matrix(&p, wane_check_tensor(L, 2), optional(L, 3, &stats_type), &j, &e));
    box->p = j;
    return 1;
}

/* stats(plan, { gram, mean, max }): tensors, on the computing device from then on */
static int l_stats(lua_State *L)
{
    static const char *const names[] = {"gram", "mean", "max"};
    wane_err e;
    wane_plan p;
    wane_stats *stats;
    wane_tensor *t[3];
    wane_check_plan(L, 1, &p);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    for (int i = 0; i < 3; i++) {
        bool given = lua_getfield(L, 2, names[i]) != LUA_TNIL; /* plan, table, gram, mean, max */
        t[i] = given ? wane_check_tensor(L, 3 + i) : NULL;
    }
    if (!t[0]) return luaL_error(L, "statistics have gram at least, x^T x");
    wane_device *d = wane_bind_device(L);
    wane_box *box = wane_newbox(L, &stats_type);
    WANE_TRY(L, e, wane_stats_from(d, t[0], t[1], t[2], p.method->needs, &stats, &e));
    box->p = stats;
    return 1;
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void push_notes(lua_State *L, const wane_result *r)
{
    for (int i = 0; i < r->notes; i++) set_number(L, r->note[i].name, r->note[i].value);
}

static int l_rescale(lua_State *L)
{
    wane_err e;
    const job *j = wane_check(L, 1, &stage_type);
    if (!j->into)
        return luaL_error(L, "a matrix on its own has nothing that a scale could be folded into");
    WANE_TRY(L, e, wane_stage_rescale(j->stage, j->model->config, j->into, j->number, &e));
    return 0;
}

/* stage:scale() -> tensor (1, k), notes */
static int l_scale(lua_State *L)
{
    wane_err e;
    wane_result r;
    wane_tensor *s;
    const job *j = wane_check(L, 1, &stage_type);
    wane_box *box = wane_newbox(L, &wane_tensor_type);
    WANE_TRY(L, e, wane_stage_scale(j->stage, &s, &r, &e));
    wane_give_tensor(L, box, s);
    lua_newtable(L);
    push_notes(L, &r);
    return 2;
}

/* stage:encode(i) -> what it cost; codes. In a layer the codes are the layer's from then on. */
static int l_encode(lua_State *L)
{
    wane_err e;
    wane_result r;
    wane_quantized *q;
    const job *j = wane_check(L, 1, &stage_type);
    lua_Integer i = luaL_optinteger(L, 2, 1);
    luaL_argcheck(L, i >= 1 && i <= j->n, 2, "the stage has no such matrix");
    wane_box *box = wane_newbox(L, &wane_codes_type);
    WANE_TRY(L, e, wane_stage_encode(j->stage, (int)i - 1, &q, &r, &e));
    box->p = q;
    if (j->into) {
        wane_linear *to = &j->into->linear[wane_stage_first(j->number) + (int)i - 1];
        wane_quantized_release(to->quantized);
        to->quantized = wane_quantized_retain(q);
    }
    lua_createtable(L, 0, 6);
    set_number(L, "error", r.error);
    set_number(L, "rtn_error", r.rtn_error);
    set_number(L, "seconds", r.seconds);
    if (r.fallback) {
        lua_pushliteral(L, "rtn");
        lua_setfield(L, -2, "fallback");
    }
    push_notes(L, &r);
    lua_insert(L, -2);
    return 2;
}

/* the names of its matrices, in encode's order */
static int l_names(lua_State *L)
{
    const job *j = wane_check(L, 1, &stage_type);
    lua_createtable(L, j->n, 0);
    for (int i = 0; i < j->n; i++) {
        lua_pushstring(L, j->into
                              ? wane_linear_name((wane_linear_id)(wane_stage_first(j->number) + i))
                              : "matrix");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const wane_reg stage_methods[] = {
    {"rescale", l_rescale,
     "stage:rescale(): lets the method scale the input and folds that into the layer; raises oom"},
    {"scale", l_scale,
     "stage:scale() -> the method's scale of the input, tensor (1, k); what it noted"},
    {"encode", l_encode,
     "stage:encode(i) -> { error, rtn_error, seconds, fallback, ... }, codes; raises oom, numeric"},
    {"names", l_names, "stage:names() -> the names of its matrices"},
    {NULL, NULL, NULL},
};

static const wane_type stage_type = {"wane.stage", release_job, stage_methods, NULL};

static const wane_reg functions[] = {
    {"methods", wane_bind_methods,
     "methods() -> { { name, paper, doc, needs_text, options }, ... }"},
    {"settle", wane_bind_settle,
     "settle(method, options) -> all its options with their values; a label of the grid"},
    {"bytes", l_bytes,
     "bytes(model, plan, tokens, longest) -> the most that will be on the device while so many "
     "calibration tokens pass, in texts of at most longest; raises oom where nothing would fit"},
    {"layer", l_layer, "layer(model, i) -> layer i, from 0, on the device; raises oom, io"},
    {"rest", l_rest,
     "rest(model): gives back what was read ahead for a layer that nobody asked for"},
    {"final", l_final, "final(model) -> a layer that is the final norm alone; raises oom, io"},
    {"assemble", l_assemble,
     "assemble(model, layers, head) -> a model of the same folder with these layers; codes of the "
     "head, or nil"},
    {"calibrate", l_calibrate,
     "calibrate(model, plan, texts, weights, weighing) -> texts as ids, on their way through the "
     "model; raises oom"},
    {"stage", l_stage,
     "stage(model, plan, source, into, number, stats, calib, scale) -> the matrices that read one "
     "input; scale: what scales are stored as, the weights' dtype unless given"},
    {"matrix", l_matrix, "matrix(plan, tensor, stats, scale) -> a stage of one matrix"},
    {"stats", l_stats, "stats(plan, { gram, mean, max }) -> what is known of an input; raises oom"},
    {NULL, NULL, NULL},
};

void wane_open_quant(lua_State *L)
{
    wane_bind_type(L, &wane_codes_type);
    wane_bind_type(L, &wane_layer_type);
    wane_bind_type(L, &stats_type);
    wane_bind_type(L, &calib_type);
    wane_bind_type(L, &stage_type);
    wane_bind_module(L, "quant", functions);
}
