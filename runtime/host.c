/* host.c - a Lua state with everything of wane in it.
 *
 * require finds wane's modules in $WANE_LUA (or the folder given) if set, else in the library itself.
 * Ctrl-C: wane_interrupt raises a flag that long C loops poll, and sets a hook that raises the error
 * object "interrupted" from Lua code. */
#include "runtime/wane.h"

#include <stdlib.h>
#include <string.h>

#include <lualib.h>
#include <lfs.h>

#include "runtime/bind/bind.h"
#include "runtime/bind/embedded.h"

struct wane {
    lua_State *L;
    wane_context *context; /* borrowed from L */
    char *message;         /* owned; NULL: none */
};

/* package.searchers entry: upvalue 1 is the developer's folder or nil */
static int search(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1);
    if (strncmp(module, "wane", 4) || (module[4] && module[4] != '.')) return 0;
    if (!strcmp(module, "wane.core")) {
        lua_pushcfunction(L, luaopen_wane_core);
        return 1;
    }
    for (const wane_embedded *f = wane_embedded_lua; f->module; f++) {
        if (strcmp(f->module, module)) continue;
        lua_pushfstring(L, "@%s", f->file);
        if (luaL_loadbufferx(L, (const char *)f->text, f->length, lua_tostring(L, -1), "t")) lua_error(L);
        lua_pushstring(L, f->file);
        return 2;
    }
    lua_pushfstring(L, "wane has no module %s", module);
    return 1;
}

/* The developer's folder: WANE_LUA/wane/x.lua or WANE_LUA/wane/x/init.lua. upvalue 1: the folder */
static int search_folder(lua_State *L)
{
    const char *module = luaL_checkstring(L, 1), *folder = lua_tostring(L, lua_upvalueindex(1));
    if (strncmp(module, "wane", 4) || (module[4] && module[4] != '.')) return 0;
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", folder, folder);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 1); /* module, path, package, file or nil */
    if (lua_isnil(L, -1)) return 0;
    if (luaL_loadfilex(L, lua_tostring(L, -1), "t")) lua_error(L);
    lua_insert(L, -2);
    return 2;
}

static void insert_searcher(lua_State *L, lua_CFunction f, const char *folder)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) { /* right after preload */
        lua_rawgeti(L, -1, i);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushstring(L, folder);
    lua_pushcclosure(L, f, 1);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 2);
}

static void preload(lua_State *L, const char *folder)
{
    insert_searcher(L, search, NULL);
    if (folder) insert_searcher(L, search_folder, folder);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_lfs);
    lua_setfield(L, -2, "lfs");
    lua_pop(L, 1);
}

/* require "wane" from a stock lua5.4, through wane.so */
WANE_API int luaopen_wane(lua_State *L)
{
    preload(L, getenv("WANE_LUA"));
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaded");
    lua_pushnil(L); /* "wane" is being loaded by this very call: let require find the Lua half */
    lua_setfield(L, -2, "wane");
    lua_pop(L, 2);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_rawgeti(L, -1, 2);
    lua_pushstring(L, "wane");
    lua_call(L, 1, 2); /* loader, file */
    lua_pushstring(L, "wane");
    lua_insert(L, -2);
    lua_call(L, 2, 1);
    return 1;
}

static int open_protected(lua_State *L)
{
    const wane_options *o = lua_touserdata(L, 1);
    luaL_openlibs(L);
    preload(L, o && o->lua ? o->lua : getenv("WANE_LUA"));
    wane_bind_context(L);
    if (o && (o->device || o->memory || o->host_memory))
        wane_bind_open_device(L, o->device ? o->device : "auto", o->memory ? o->memory : UINT64_MAX,
                              o->host_memory ? o->host_memory : UINT64_MAX);
    return 0;
}

/* Error values keep their kind; objects get their traceback as a field, once. */
static int handler(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TTABLE) {
        if (lua_getfield(L, 1, "traceback") == LUA_TNIL) {
            luaL_traceback(L, L, NULL, 1);
            lua_setfield(L, 1, "traceback");
        }
        lua_settop(L, 1);
        return 1;
    }
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* error value -> the text to show */
static int describe(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    if (lua_type(L, 1) == LUA_TTABLE && lua_getfield(L, 1, "traceback") == LUA_TSTRING) {
        lua_pushliteral(L, "\n");
        lua_insert(L, -2);
        lua_concat(L, 3);
    }
    return 1;
}

static void remember(wane *w, const char *text)
{
    free(w->message);
    w->message = text ? strdup(text) : NULL;
}

/* The exit code of README's table for the error value on top of the stack. */
static int exit_code(lua_State *L)
{
    static const struct {
        const char *code;
        int exit;
    } table[] = {{"usage", 2},   {"format", 3},   {"unsupported", 3}, {"oom", 4},     {"numeric", 5},     {"io", 6},
                 {"device", 7},  {"gate", 8},     {"partly", 9},      {"network", 10}, {"interrupted", 75}};
    if (lua_type(L, -1) != LUA_TTABLE) return 1;
    int found = 1;
    lua_pushliteral(L, "code");
    lua_rawget(L, -2);
    const char *code = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(code, table[i].code)) found = table[i].exit;
    lua_pop(L, 1);
    return found;
}

/* Calls the function under its n arguments; 0 or an exit code, with the message kept. */
static int call(wane *w, int n)
{
    lua_State *L = w->L;
    int base = lua_gettop(L) - n, code = 0;
    lua_pushcfunction(L, handler);
    lua_insert(L, base);
    if (lua_pcall(L, n, 1, base)) {
        code = exit_code(L);
        lua_pushcfunction(L, describe);
        lua_insert(L, -2);
        if (lua_pcall(L, 1, 1, 0) && !lua_isstring(L, -1)) remember(w, "an error that cannot be shown");
        else remember(w, lua_tostring(L, -1));
    } else if (lua_isinteger(L, -1)) {
        code = (int)lua_tointeger(L, -1);
    }
    lua_settop(L, base - 1);
    return code;
}

int wane_open(wane **out, const wane_options *options)
{
    wane *w = *out = calloc(1, sizeof *w);
    if (!w) return 4;
    w->L = luaL_newstate();
    if (!w->L) {
        remember(w, "no memory for a Lua state");
        return 4;
    }
    lua_pushcfunction(w->L, open_protected);
    lua_pushlightuserdata(w->L, (void *)(uintptr_t)options);
    int code = call(w, 1);
    if (!code) w->context = wane_bind_context(w->L);
    return code;
}

void wane_close(wane *w)
{
    if (!w) return;
    if (w->L) lua_close(w->L);
    free(w->message);
    free(w);
}

static void set_arg(lua_State *L, const char *zero, int argc, char **argv)
{
    lua_createtable(L, argc, 1);
    lua_pushstring(L, zero);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

static int run_loaded(wane *w, int loaded, int argc, char **argv)
{
    if (loaded) {
        remember(w, lua_tostring(w->L, -1));
        lua_pop(w->L, 1);
        return 1;
    }
    for (int i = 0; i < argc; i++) lua_pushstring(w->L, argv[i]);
    return call(w, argc);
}

int wane_run_file(wane *w, const char *file, int argc, char **argv)
{
    set_arg(w->L, file, argc, argv);
    return run_loaded(w, luaL_loadfilex(w->L, file, "t"), argc, argv);
}

int wane_eval(wane *w, const char *code, const char *name)
{
    return run_loaded(w, luaL_loadbufferx(w->L, code, strlen(code), name, "t"), 0, NULL);
}

static int main_protected(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_insert(L, 2);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 2, 1);
    return 1;
}

int wane_main(wane *w, const char *module, int argc, char **argv)
{
    if (!lua_checkstack(w->L, argc + 8)) {
        remember(w, "too many arguments");
        return 2;
    }
    lua_pushcfunction(w->L, main_protected);
    lua_pushstring(w->L, module);
    for (int i = 0; i < argc; i++) lua_pushstring(w->L, argv[i]);
    return call(w, argc + 1);
}

const char *wane_message(wane *w) { return w && w->message ? w->message : w ? "no error" : "no memory"; }

static void stop(lua_State *L, lua_Debug *ar)
{
    wane_err e;
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    atomic_store(&wane_bind_context(L)->interrupt, 0);
    wane_fail(&e, WANE_EINTERRUPTED, "interrupted");
    wane_raise(L, &e);
}

void wane_interrupt(wane *w)
{
    atomic_store(&w->context->interrupt, 1);
    lua_sethook(w->L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

lua_State *wane_lua(wane *w) { return w->L; }
const char *wane_version(void) { return WANE_VERSION; }
