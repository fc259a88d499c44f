/* save.c - wane.core.save: quantized models to folders, and what stands beside them. */
#include "runtime/save/save.h"
#include "runtime/save/synth.h"

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

static int l_write(lua_State *L)
{
    wane_err e;
    uint64_t bytes = 0;
    wane_check_model(L, 1);
    const char *dir = luaL_checkstring(L, 2);
    wane_save_options options = {
        .packing = check_packing(L, wane_opt_string(L, 3, "format", "compressed-tensors")),
        .report = wane_opt_string(L, 3, "report", NULL),
        .shard_bytes = (uint64_t)wane_opt_integer(L, 3, "shard_bytes", 0),
    };
    WANE_TRY(L, e, wane_save(wane_check_model(L, 1), dir, &options, &bytes, &e));
    lua_pushinteger(L, (lua_Integer)bytes);
    return 1;
}

static int l_formats(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; wane_packings[i]; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, wane_packings[i]->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, wane_packings[i]->doc);
        lua_setfield(L, -2, "doc");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_synth(lua_State *L)
{
    wane_err e;
    uint64_t bytes = 0;
    const char *dir = luaL_checkstring(L, 1);
    lua_Integer seed = luaL_checkinteger(L, 2), shard = luaL_checkinteger(L, 3);
    luaL_argcheck(L, shard > 0, 3, "a shard has bytes");
    wane_device flag = {.interrupt = &wane_bind_context(L)->interrupt}; /* nothing else of one is needed */
    WANE_TRY(L, e, wane_synth(dir, (uint64_t)seed, (uint64_t)shard, &flag, &bytes, &e));
    lua_pushinteger(L, (lua_Integer)bytes);
    return 1;
}

static const wane_reg functions[] = {
    {"write", l_write,
     "write(model, dir, { format, report, shard_bytes }) -> bytes of the weight files; raises io, unsupported, oom"},
    {"synth", l_synth,
     "synth(dir, seed, shard_bytes) -> bytes: fills a folder that has a config.json with weights of chance; "
     "raises io, format"},
    {"formats", l_formats, "formats() -> { { name, doc }, ... } that write knows"},
    {NULL, NULL, NULL},
};

void wane_open_save(lua_State *L) { wane_bind_module(L, "save", functions); }
