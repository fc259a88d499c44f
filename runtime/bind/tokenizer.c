/* tokenizer.c - wane.core.tokenizer: text to ids and back. Ids are the file's own, from 0. */
#include <stdlib.h>

#include "runtime/bind/bind.h"
#include "runtime/text/tokenizer.h"

static void release(void *t)
{
    wane_tokenizer_release(t);
}

/* load(path) */
static int l_load(lua_State *L)
{
    wane_err e;
    wane_tokenizer *t = NULL;
    const char *path = luaL_checkstring(L, 1);
    wane_box *box = wane_newbox(L, &wane_tokenizer_type);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    WANE_TRY(L, e, wane_tokenizer_load(path, &t, &e));
    box->p = t;
    return 1;
}

/* parse(json, name): name is what messages call the text */
static int l_parse(lua_State *L)
{
    wane_err e;
    size_t length;
    wane_tokenizer *t = NULL;
    const char *json = luaL_checklstring(L, 1, &length), *name = luaL_optstring(L, 2, "text");
    wane_box *box = wane_newbox(L, &wane_tokenizer_type);
    WANE_TRY(L, e, wane_tokenizer_parse(json, length, name, &t, &e));
    box->p = t;
    return 1;
}

static wane_status encode(const wane_tokenizer *t, const char *text, size_t length, unsigned flags,
                          wane_ids *out, wane_err *e)
{
    wane_status s = wane_tokenizer_encode(t, text, length, flags, out, e);
    if (s) wane_ids_free(out);
    return s;
}

static int l_encode(lua_State *L)
{
    static const char *const names[] = {"special", "plain", NULL};
    wane_err e;
    wane_ids ids = {0};
    size_t length;
    wane_tokenizer *t = wane_check(L, 1, &wane_tokenizer_type);
    const char *text = luaL_checklstring(L, 2, &length);
    wane_opt_names(L, 3, "tokenizer encode", names);
    unsigned flags = wane_opt_boolean(L, 3, "special", false) ? WANE_ADD_SPECIAL : 0;
    if (wane_opt_boolean(L, 3, "plain", false)) flags |= WANE_PLAIN_SPECIAL;
    wane_box *box = wane_newbox(L, &wane_text_type);
    WANE_TRY(L, e, encode(t, text, length, flags, &ids, &e));
    box->p = ids.ids;
    lua_createtable(L, ids.count < INT32_MAX ? (int)ids.count : 0, 0);
    for (size_t i = 0; i < ids.count; i++) {
        lua_pushinteger(L, ids.ids[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    box->p = NULL; /* a prompt's ids need not wait for the collector */
    free(ids.ids);
    return 1;
}

static int32_t check_id(lua_State *L, int index)
{
    int whole;
    lua_Integer id = lua_tointegerx(L, index, &whole);
    if (!whole || lua_type(L, index) != LUA_TNUMBER || id < 0 || id > INT32_MAX)
        luaL_error(L, "a token id is a whole number from 0, not %s",
                   luaL_tolstring(L, index, NULL));
    return (int32_t)id;
}

static int l_decode(lua_State *L)
{
    static const char *const names[] = {"skip_special", NULL};
    wane_err e;
    char *text = NULL;
    size_t length = 0;
    wane_tokenizer *t = wane_check(L, 1, &wane_tokenizer_type);
    luaL_checktype(L, 2, LUA_TTABLE);
    wane_opt_names(L, 3, "tokenizer decode", names);
    bool skip = wane_opt_boolean(L, 3, "skip_special", false);
    lua_Integer count = luaL_len(L, 2);
    luaL_argcheck(L, count >= 0 && count <= INT32_MAX, 2, "too many ids");
    int32_t *ids = wane_bind_scratch(L, (size_t)count * sizeof *ids);
    for (lua_Integer i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        ids[i] = check_id(L, -1);
        lua_pop(L, 1);
    }
    wane_box *box = wane_newbox(L, &wane_text_type);
    WANE_TRY(L, e, wane_tokenizer_decode(t, ids, (size_t)count, skip, &text, &length, &e));
    box->p = text;
    lua_pushlstring(L, text, length);
    box->p = NULL;
    free(text);
    return 1;
}

static int push_text(lua_State *L, const char *text, size_t length)
{
    if (text)
        lua_pushlstring(L, text, length);
    else
        lua_pushnil(L);
    return 1;
}

static int l_token(lua_State *L)
{
    size_t length;
    wane_tokenizer *t = wane_check(L, 1, &wane_tokenizer_type);
    const char *text = wane_tokenizer_token(t, check_id(L, 2), &length);
    return push_text(L, text, length);
}

static int l_bytes(lua_State *L)
{
    size_t length;
    wane_tokenizer *t = wane_check(L, 1, &wane_tokenizer_type);
    const char *text = wane_tokenizer_bytes(t, check_id(L, 2), &length);
    return push_text(L, text, length);
}

static int l_id(lua_State *L)
{
    wane_tokenizer *t = wane_check(L, 1, &wane_tokenizer_type);
    int32_t id = wane_tokenizer_find(t, luaL_checkstring(L, 2));
    if (id >= 0)
        lua_pushinteger(L, id);
    else
        lua_pushnil(L);
    return 1;
}

static int l_is_special(lua_State *L)
{
    wane_tokenizer *t = wane_check(L, 1, &wane_tokenizer_type);
    lua_pushboolean(L, wane_tokenizer_is_special(t, check_id(L, 2)));
    return 1;
}

static int l_len(lua_State *L)
{
    lua_pushinteger(L, wane_tokenizer_size(wane_check(L, 1, &wane_tokenizer_type)));
    return 1;
}

static int l_tostring(lua_State *L)
{
    lua_settop(L, 1);
    wane_tokenizer *t = wane_test(L, 1, &wane_tokenizer_type);
    if (!t)
        lua_pushliteral(L, "tokenizer (closed)");
    else
        lua_pushfstring(L, "tokenizer (%I tokens)", (lua_Integer)wane_tokenizer_size(t));
    if (t && lua_getiuservalue(L, 1, 1) == LUA_TSTRING)
        lua_pushfstring(L, "%s %s", lua_tostring(L, -2), lua_tostring(L, -1));
    else
        lua_settop(L, 2);
    return 1;
}

/* tokenizer.path: what load was given */
static int l_index(lua_State *L)
{
    luaL_checkudata(L, 1, wane_tokenizer_type.name);
    lua_pushliteral(L, "path");
    if (lua_rawequal(L, 2, -1))
        lua_getiuservalue(L, 1, 1);
    else
        lua_pushnil(L);
    return 1;
}

static const wane_reg methods[] = {
    {"encode", l_encode,
     "tokenizer:encode(text, { special = false, plain = false }) -> ids; special: with what the "
     "template puts around a text; plain: special tokens in the text are ordinary text"},
    {"decode", l_decode,
     "tokenizer:decode(ids, { skip_special = false }) -> text; bytes that are not UTF-8 become "
     "U+FFFD"},
    {"token", l_token, "tokenizer:token(id) -> its content as the file spells it, or nil"},
    {"bytes", l_bytes, "tokenizer:bytes(id) -> the bytes it stands for, or nil"},
    {"id", l_id, "tokenizer:id(content) -> the id of a token by its content, or nil"},
    {"is_special", l_is_special, "tokenizer:is_special(id) -> whether it is a special token"},
    {NULL, NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__len", l_len}, {"__tostring", l_tostring}, {"__index", l_index}, {NULL, NULL}};

const wane_type wane_tokenizer_type = {"wane.tokenizer", release, methods, meta};

static const wane_reg functions[] = {
    {"load", l_load,
     "load(path) -> tokenizer, from a tokenizer.json or its folder; raises io, format, "
     "unsupported"},
    {"parse", l_parse,
     "parse(json, name) -> tokenizer, from the text of a tokenizer.json; raises format, "
     "unsupported"},
    {NULL, NULL, NULL},
};

void wane_open_tokenizer(lua_State *L)
{
    wane_bind_type(L, &wane_tokenizer_type);
    wane_bind_module(L, "tokenizer", functions);
    luaL_getmetatable(L, wane_tokenizer_type.name);
    lua_getfield(L, -1, "methods"); /* Lua adds chat to them */
    lua_setfield(L, -3, "methods");
    lua_pop(L, 1);
}
