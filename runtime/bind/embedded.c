/* embedded.c - where require finds wane's Lua half: in a developer's folder, else in the library
 * itself. */
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/bind/bind.h"
#include "runtime/bind/embedded.h"

#define FOLDER "wane.folder" /* registry: the developer's folder, or nothing */

enum { SOURCE_MOST = 16 << 20 };

static bool is_ours(const char *module)
{
    return !strncmp(module, "wane", 4) && (!module[4] || module[4] == '.');
}

static const wane_embedded *find(const char *module)
{
    for (const wane_embedded *f = wane_embedded_lua; f->module; f++)
        if (!strcmp(f->module, module)) return f;
    return NULL;
}

/* Pushes the module's file in the developer's folder; false (and nothing) where there is none. */
static bool push_path(lua_State *L, const char *module)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, FOLDER) != LUA_TSTRING) {
        lua_pop(L, 1);
        return false;
    }
    const char *folder = lua_tostring(L, -1);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushstring(L, module);
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", folder, folder);
    lua_call(L, 2, 1); /* folder, package, path or nil */
    lua_replace(L, -3);
    lua_pop(L, 1);
    if (lua_isstring(L, -1)) return true;
    lua_pop(L, 1);
    return false;
}

/* an entry of package.searchers */
static int search(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1);
    if (!is_ours(module)) return 0;
    if (!strcmp(module, "wane.core")) {
        lua_pushcfunction(L, luaopen_wane_core);
        return 1;
    }
    if (push_path(L, module)) {
        if (luaL_loadfilex(L, lua_tostring(L, -1), "t")) return lua_error(L);
        lua_insert(L, -2);
        return 2;
    }
    const wane_embedded *f = find(module);
    if (!f) {
        lua_pushfstring(L, "wane has no module '%s'", module);
        return 1;
    }
    const char *name = lua_pushfstring(L, "@%s", f->file);
    if (luaL_loadbufferx(L, (const char *)f->text, f->length, name, "t")) return lua_error(L);
    lua_pushstring(L, f->file);
    return 2;
}

void wane_bind_searchers(lua_State *L, const char *folder)
{
    lua_pushstring(L, folder); /* nil for NULL */
    lua_setfield(L, LUA_REGISTRYINDEX, FOLDER);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) { /* right after preload */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}

/* source(module) -> text, file */
static int l_source(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1);
    if (push_path(L, module)) {
        wane_err e;
        char *text = NULL;
        size_t length;
        wane_box *box = wane_newbox(L, &wane_text_type);
        WANE_TRY(L, e, wane_file_read_all(lua_tostring(L, -2), SOURCE_MOST, &text, &length, &e));
        box->p = text;
        lua_pushlstring(L, text, length);
        lua_pushvalue(L, -3);
        return 2;
    }
    const wane_embedded *f = find(module);
    if (!f) return 0;
    lua_pushlstring(L, (const char *)f->text, f->length);
    lua_pushstring(L, f->file);
    return 2;
}

/* list() -> names, the developer's folder or nil */
static int l_list(lua_State *L)
{
    lua_newtable(L);
    lua_Integer n = 0;
    for (const wane_embedded *f = wane_embedded_lua; f->module; f++) {
        lua_pushstring(L, f->module);
        lua_rawseti(L, -2, ++n);
    }
    lua_getfield(L, LUA_REGISTRYINDEX, FOLDER);
    return 2;
}

static const wane_reg functions[] = {
    {"source", l_source,
     "source(module) -> text, file of a Lua module of wane, or nothing; raises io"},
    {"list", l_list,
     "list() -> names of the modules in the library, the developer's folder or nil"},
    {NULL, NULL, NULL},
};

void wane_open_embedded(lua_State *L)
{
    wane_bind_module(L, "embedded", functions);
}
