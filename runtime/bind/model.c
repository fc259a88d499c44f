/* model.c - wane.core.model: opening folders, looking at weights, logits. */
#include "runtime/bind/model.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/bind/tensor.h"
#include "runtime/model/forward.h"
#include "runtime/save/save.h"

#define FIELDS "wane.model.fields"

static void release(void *m)
{
    wane_model_release(m);
}

wane_model *wane_check_model(lua_State *L, int arg)
{
    return wane_check(L, arg, &wane_model_type);
}

int32_t *wane_check_ids(lua_State *L, int arg, int64_t *count)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer n = luaL_len(L, arg);
    luaL_argcheck(L, n >= 0 && n <= INT32_MAX, arg, "a list of token ids");
    int32_t *ids = wane_bind_scratch(L, (size_t)n * sizeof *ids);
    for (lua_Integer i = 0; i < n; i++) {
        int whole;
        lua_rawgeti(L, arg, i + 1);
        lua_Integer id = lua_tointegerx(L, -1, &whole);
        if (!whole || id < 0 || id > INT32_MAX)
            luaL_argerror(L, arg, lua_pushfstring(L, "entry %I is not a token id", i + 1));
        ids[i] = (int32_t)id;
        lua_pop(L, 1);
    }
    *count = n;
    return ids;
}

static int l_open(lua_State *L)
{
    wane_err e;
    const char *dir = luaL_checkstring(L, 1);
    wane_device *d = wane_bind_device(L), *host = wane_bind_host(L);
    wane_box *box = wane_newbox(L, &wane_model_type);
    wane_model *m;
    lua_newtable(L); /* fields that were asked for */
    lua_setiuservalue(L, -2, 1);
    WANE_TRY(L, e, wane_model_open(dir, d, host, &m, &e));
    box->p = m;
    return 1;
}

static int l_load(lua_State *L)
{
    wane_err e;
    wane_check_model(L, 1);
    WANE_TRY(L, e, wane_model_load(wane_check_model(L, 1), &e));
    lua_settop(L, 1);
    return 1;
}

static int l_unload(lua_State *L)
{
    wane_model_unload(wane_check_model(L, 1));
    lua_settop(L, 1);
    return 1;
}

static int l_check_finite(lua_State *L)
{
    wane_err e;
    wane_model *m = wane_check_model(L, 1);
    WANE_TRY(L, e, wane_checkpoint_check_finite(m->checkpoint, m->device, &e));
    lua_settop(L, 1);
    return 1;
}

static int l_logits(lua_State *L)
{
    wane_err e;
    int64_t count;
    wane_tensor *y;
    wane_check_model(L, 1);
    int32_t *ids = wane_check_ids(L, 2, &count);
    wane_box *box = wane_newbox(L, &wane_tensor_type);
    WANE_TRY(L, e, wane_model_logits(wane_check_model(L, 1), ids, count, &y, &e));
    return wane_give_tensor(L, box, y);
}

static int l_tensor(lua_State *L)
{
    wane_err e;
    wane_tensor *t;
    wane_check_model(L, 1);
    const char *name = luaL_checkstring(L, 2);
    wane_box *box = wane_newbox(L, &wane_tensor_type);
    WANE_TRY(L, e, wane_model_tensor(wane_check_model(L, 1), name, &t, &e));
    return wane_give_tensor(L, box, t);
}

static int l_weights(lua_State *L)
{
    const wane_checkpoint *c = wane_check_model(L, 1)->checkpoint;
    lua_createtable(L, c->count < INT32_MAX ? (int)c->count : 0, 0);
    for (size_t i = 0; i < c->count; i++) {
        const wane_entry *t = c->tensor[i].entry;
        lua_createtable(L, 0, 4);
        wane_set_string(L, "name", t->name);
        wane_set_string(L, "dtype", t->supported ? wane_dtype_name(t->dtype) : t->dtype_name);
        wane_push_shape(L, t->rank, t->shape);
        lua_setfield(L, -2, "shape");
        wane_set_integer(L, "bytes", (lua_Integer)(t->end - t->begin));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int f_dir(lua_State *L)
{
    lua_pushstring(L, wane_check_model(L, 1)->checkpoint->dir);
    return 1;
}

static int f_bytes(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)wane_model_bytes(wane_check_model(L, 1)));
    return 1;
}

static int f_parameters(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)wane_config_weights(wane_check_model(L, 1)->config));
    return 1;
}

static int f_config(lua_State *L)
{
    wane_push_json(L, wane_check_model(L, 1)->config->json);
    return 1;
}

static int f_eos(lua_State *L)
{
    const wane_config *c = wane_check_model(L, 1)->config;
    lua_createtable(L, c->n_eos, 0);
    for (int i = 0; i < c->n_eos; i++) {
        lua_pushinteger(L, c->eos[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int f_warnings(lua_State *L)
{
    const wane_checkpoint *c = wane_check_model(L, 1)->checkpoint;
    lua_createtable(L, c->n_warnings, 0);
    for (int i = 0; i < c->n_warnings; i++) {
        lua_pushstring(L, c->warning[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* model, key -> the field, asked for once */
static int model_index(lua_State *L)
{
    wane_check_model(L, 1);
    lua_getiuservalue(L, 1, 1); /* model, key, kept */
    lua_pushvalue(L, 2);
    if (lua_rawget(L, 3) != LUA_TNIL) return 1;
    lua_getfield(L, LUA_REGISTRYINDEX, FIELDS);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) == LUA_TNIL) return 1;
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 3);
    return 1;
}

/* set(model, name, value): what its maker knows of a model; it then reads like a field */
static int l_set(lua_State *L)
{
    wane_check_model(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 3);
    lua_getiuservalue(L, 1, 1);
    lua_insert(L, 2);
    lua_rawset(L, 2);
    return 0;
}

/* The dtype that most bytes of the files have. */
static const char *main_dtype(const wane_checkpoint *c)
{
    uint64_t bytes[WANE_DTYPES] = {0};
    int most = 0;
    for (size_t i = 0; i < c->count; i++)
        if (c->tensor[i].entry->supported)
            bytes[c->tensor[i].entry->dtype] += c->tensor[i].entry->end - c->tensor[i].entry->begin;
    for (int i = 1; i < WANE_DTYPES; i++)
        if (bytes[i] > bytes[most]) most = i;
    return wane_dtype_name(most);
}

/* "model qwen3   6 layers   5.2 M weights   bf16   9.9 MiB on disk"; a quantized model says its
 * label instead of the dtype, and one that is not saved how much memory it takes. */
static int model_tostring(lua_State *L)
{
    wane_box *box = luaL_checkudata(L, 1, wane_model_type.name);
    if (!box->p) {
        lua_pushliteral(L, "model (closed)");
        return 1;
    }
    const wane_model *m = box->p;
    char weights[32], bytes[24];
    double n = (double)wane_config_weights(m->config);
    snprintf(weights, sizeof weights, n < 1e9 ? "%.1f M" : "%.2f G", n / (n < 1e9 ? 1e6 : 1e9));
    const char *label = main_dtype(m->checkpoint), *where = "on disk";
    uint64_t size = m->checkpoint->bytes;
    lua_settop(L, 1);
    if (lua_getfield(L, 1, "quantization") == LUA_TTABLE) {
        if (lua_getfield(L, 2, "label") == LUA_TSTRING) label = lua_tostring(L, 3);
        lua_getfield(L, 2, "dir");
        if (lua_type(L, 4) != LUA_TSTRING || strcmp(lua_tostring(L, 4), m->checkpoint->dir)) {
            where = "in memory";
            size = wane_model_bytes(m);
        }
    }
    lua_pushfstring(L, "model %s   %d layers   %s weights   %s   %s %s",
                    m->config->family->model_type, (int)m->config->layers, weights, label,
                    wane_bytes_format(bytes, sizeof bytes, size), where);
    return 1;
}

static const wane_reg methods[] = {
    {"logits", l_logits, "logits(ids) -> tensor f32 (n, vocabulary); raises oom"},
    {"load", l_load,
     "load() -> the model, with all weights on the device; raises oom before reading any"},
    {"unload", l_unload, "unload() -> the model, with no weights on the device"},
    {"weights", l_weights, "weights() -> { { name, dtype, shape, bytes }, ... } as in the files"},
    {"tensor", l_tensor, "tensor(name) -> the weight of that name on the device; raises oom"},
    {"check", l_check_finite,
     "check() -> the model, whose weights were read and have no NaN or Inf; raises numeric"},
    {NULL, NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__index", model_index},
    {"__tostring", model_tostring},
    {NULL, NULL},
};

const wane_type wane_model_type = {"wane.model", release, methods, meta};

static const wane_reg fields[] = {
    {"dir", f_dir, "dir: the folder it was opened from"},
    {"bytes", f_bytes, "bytes: what all its weights take on the device"},
    {"parameters", f_parameters, "parameters: how many weights it has; a tied head counts once"},
    {"config", f_config, "config: config.json as a table"},
    {"eos", f_eos, "eos: the ids that end an answer"},
    {"warnings", f_warnings, "warnings: what is odd about the folder and does no harm"},
    {NULL, NULL, NULL},
};

static const wane_reg functions[] = {
    {"open", l_open,
     "open(dir) -> model; reads headers only; raises io, format, unsupported (quantized already)"},
    {"set", l_set, "set(model, name, value): a field that its maker knows"},
    {NULL, NULL, NULL},
};

void wane_open_model(lua_State *L)
{
    wane_bind_type(L, &wane_model_type);
    wane_bind_module(L, "model", functions);
    wane_bind_module(L, "model", fields); /* module, fields */
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, FIELDS);
    lua_setfield(L, -2, "fields");
    luaL_getmetatable(L, wane_model_type.name);
    lua_getfield(L, -1, "methods");
    lua_setfield(L, -3, "methods");
    lua_pop(L, 1);
}
