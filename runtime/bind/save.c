/* save.c - wane.core.save: quantized models to folders, and what stands beside them. */
#include "runtime/save/save.h"
#include "runtime/save/synth.h"

#include <string.h>

#include "runtime/bind/model.h"

static const wane_packing *check_packing(lua_State *L, const char *name)
{
    const wane_packing *p = wane_packing_find(name);
    if (p) return p;
    luaL_Buffer known;
    luaL_buffinit(L, &known);
    for (int i = 0; wane_packings[i]; i++) {
        if (i) luaL_addstring(&known, ", ");
        luaL_addstring(&known, wane_packings[i]->name);
    }
    luaL_pushresult(&known);
    luaL_error(L, "no format %s; there are %s", name, lua_tostring(L, -1));
    return NULL;
}

/* "bf16" and the like at a key; WANE_DTYPES where it is absent */
static wane_dtype opt_float(lua_State *L, int arg, const char *key)
{
    wane_dtype t = WANE_DTYPES;
    const char *name = wane_opt_string(L, arg, key, NULL);
    if (name && (!wane_dtype_parse(name, &t) || (t != WANE_F32 && t != WANE_F16 && t != WANE_BF16)))
        luaL_error(L, "%s is f32, f16 or bf16, not %s", key, name);
    return t;
}

static int l_write(lua_State *L)
{
    wane_err e;
    wane_saved told;
    wane_check_model(L, 1);
    const char *dir = luaL_checkstring(L, 2);
    const char *format = wane_opt_string(L, 3, "format", "compressed-tensors");
    wane_save_options options = {
        .packing = strcmp(format, "dense") ? check_packing(L, format) : NULL,
        .dense = opt_float(L, 3, "dtype"),
        .round = wane_opt_boolean(L, 3, "round", false),
        .report = wane_opt_string(L, 3, "report", NULL),
        .shard_bytes = (uint64_t)wane_opt_integer(L, 3, "shard_bytes", 0),
    };
    WANE_TRY(L, e, wane_save(wane_check_model(L, 1), dir, &options, &told, &e));
    lua_pushinteger(L, (lua_Integer)told.bytes);
    lua_pushinteger(L, (lua_Integer)told.loss.rounded);
    lua_pushnumber(L, told.loss.worst);
    return 3;
}

static int l_formats(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; wane_packings[i]; i++) {
        wane_dtype scale = wane_packings[i]->scale;
        lua_createtable(L, 0, 3);
        wane_set_string(L, "name", wane_packings[i]->name);
        wane_set_string(L, "doc", wane_packings[i]->doc);
        if (scale != WANE_DTYPES) {
            wane_set_string(L, "scale", wane_dtype_name(scale));
        }
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_grid(lua_State *L)
{
    wane_err e;
    const wane_packing *packing;
    wane_packed_grid g;
    wane_check_model(L, 1);
    WANE_TRY(L, e, wane_checkpoint_grid(wane_check_model(L, 1)->checkpoint, &packing, &g, &e));
    if (!packing) return 0;
    lua_createtable(L, 0, 7);
    wane_set_string(L, "format", packing->name);
    wane_set_integer(L, "bits", g.bits);
    wane_set_integer(L, "group_size", g.group);
    wane_set_boolean(L, "symmetric", g.symmetric);
    wane_set_boolean(L, "fractional", g.fractional);
    wane_set_boolean(L, "head", g.head);
    wane_set_integer(L, "activation_bits", g.act_bits ? g.act_bits : 16);
    return 1;
}

static int l_check(lua_State *L)
{
    wane_err e;
    wane_check_model(L, 1);
    const wane_packing *packing = check_packing(L, luaL_checkstring(L, 2));
    wane_packed_grid g = {
        .bits = (int)wane_opt_integer(L, 3, "bits", 4),
        .act_bits = wane_opt_integer(L, 3, "activation_bits", 16) == 8 ? 8 : 0,
        .group = wane_opt_integer(L, 3, "group_size", -1),
        .symmetric = wane_opt_boolean(L, 3, "symmetric", false),
        .fractional = wane_opt_boolean(L, 3, "fractional", false),
        .head = wane_opt_boolean(L, 3, "head", false),
    };
    WANE_TRY(L, e, wane_config_check(wane_check_model(L, 1)->config, packing, &g, &e));
    return 0;
}

static int l_synth(lua_State *L)
{
    wane_err e;
    uint64_t bytes = 0;
    const char *dir = luaL_checkstring(L, 1);
    lua_Integer seed = luaL_checkinteger(L, 2), shard = luaL_checkinteger(L, 3);
    luaL_argcheck(L, shard > 0, 3, "a shard has bytes");
    wane_device flag = {.interrupt =
                            &wane_bind_context(L)->interrupt}; /* nothing else of one is needed */
    WANE_TRY(L, e, wane_synth(dir, (uint64_t)seed, (uint64_t)shard, &flag, &bytes, &e));
    lua_pushinteger(L, (lua_Integer)bytes);
    return 1;
}

static const wane_reg functions[] = {
    {"write", l_write,
     "write(model, dir, { format, dtype, round, report, shard_bytes }) -> bytes of the weight "
     "files, how many numbers were "
     "rounded, the largest change; raises io, unsupported, oom"},
    {"grid", l_grid,
     "grid(model) -> { format, bits, group_size, symmetric, fractional (may be), head (packed "
     "too), activation_bits } as "
     "the headers show, or nothing where it is dense"},
    {"check", l_check,
     "check(model, format, { bits, group_size, symmetric, activation_bits, fractional, head }); "
     "raises unsupported: why "
     "codes of that grid cannot be written so, and which format can"},
    {"synth", l_synth,
     "synth(dir, seed, shard_bytes) -> bytes: fills a folder that has a config.json with weights "
     "of chance; "
     "raises io, format"},
    {"formats", l_formats,
     "formats() -> { { name, doc, scale }, ... } that write knows; scale: their dtype, where it is "
     "fixed"},
    {NULL, NULL, NULL},
};

void wane_open_save(lua_State *L)
{
    wane_bind_module(L, "save", functions);
}
