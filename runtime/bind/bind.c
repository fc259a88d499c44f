/* bind.c - boxes, raising and documentation for the bound modules. See bind.h. */
#include "runtime/bind/bind.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

#define CONTEXT "wane.context"
#define DOCS    "wane.docs"
#define ERROR   "wane.error"

static const char context_key; /* only its address matters */

const wane_type wane_text_type = {"wane.text", free, NULL, NULL};

static int context_gc(lua_State *L)
{
    wane_context *c = luaL_checkudata(L, 1, CONTEXT);
    wane_device_release(c->device);
    wane_device_release(c->host);
    c->device = c->host = NULL;
    return 0;
}

wane_context *wane_bind_context(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &context_key);
    wane_context *c = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (c) return c;
    c = lua_newuserdatauv(L, sizeof *c, 0);
    memset(c, 0, sizeof *c);
    if (luaL_newmetatable(L, CONTEXT)) {
        lua_pushcfunction(L, context_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &context_key);
    return c;
}

/* Tells once that "auto" gave the CPU, and why. A warning: shown by the program, and by others only
 * if they ask for it. */
static void tell_no_gpu(lua_State *L, wane_context *c)
{
    if (c->told || !c->device->no_gpu[0]) return;
    c->told = true;
    lua_warning(L, "the CPU is used: ", 1);
    lua_warning(L, c->device->no_gpu, 0);
}

void wane_bind_open_device(lua_State *L, const char *name, uint64_t memory, uint64_t host_memory)
{
    wane_context *c = wane_bind_context(L);
    wane_device *device = NULL, *host = NULL;
    const char *best = getenv("WANE_DEVICE");
    wane_err e;
    if (best && *best && !strcmp(name, "auto")) name = best;
    wane_status s = wane_device_open(name, memory, &device, &e);
    if (!s) s = wane_device_open("host", host_memory, &host, &e);
    if (s) {
        wane_device_release(device);
        wane_raise(L, &e);
        return;
    }
    device->interrupt = host->interrupt = &c->interrupt;
    wane_device_release(c->device);
    wane_device_release(c->host);
    c->device = device;
    c->host = host;
    tell_no_gpu(L, c);
}

wane_device *wane_bind_device(lua_State *L)
{
    wane_context *c = wane_bind_context(L);
    if (!c->device) wane_bind_open_device(L, "auto", UINT64_MAX, UINT64_MAX);
    return c->device;
}

wane_device *wane_bind_host(lua_State *L)
{
    wane_bind_device(L);
    return wane_bind_context(L)->host;
}

/* docs[module .. "." .. name] = doc, for every entry */
static void document(lua_State *L, const char *module, const wane_reg *list)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, DOCS);
    for (; list && list->name; list++) {
        lua_pushfstring(L, "%s.%s", module, list->name);
        lua_pushstring(L, list->doc);
        lua_settable(L, -3);
    }
    lua_pop(L, 1);
}

static void functions(lua_State *L, const wane_reg *list)
{
    for (; list && list->name; list++) {
        lua_pushcfunction(L, list->function);
        lua_setfield(L, -2, list->name);
    }
}

void wane_bind_module(lua_State *L, const char *module, const wane_reg *list)
{
    document(L, module, list);
    lua_newtable(L);
    functions(L, list);
}

/* __gc, __close and close: may run twice. upvalue 1: the type */
static int box_close(lua_State *L)
{
    const wane_type *type = lua_touserdata(L, lua_upvalueindex(1));
    wane_box *box = luaL_checkudata(L, 1, type->name);
    void *p = box->p;
    box->p = NULL;
    if (p) type->release(p);
    return 0;
}

/* box, key -> method or what the type's own __index says. upvalues: methods, own __index or nil */
static int box_index(lua_State *L)
{
    lua_pushvalue(L, 2);
    if (lua_gettable(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    if (lua_isnil(L, lua_upvalueindex(2))) return 1;
    lua_settop(L, 2);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_call(L, 2, 1);
    return 1;
}

void wane_bind_type(lua_State *L, const wane_type *type)
{
    static const char *const closers[] = {"__gc", "__close"};
    if (!luaL_newmetatable(L, type->name)) {
        lua_pop(L, 1);
        return;
    }
    document(L, strchr(type->name, '.') ? strchr(type->name, '.') + 1 : type->name, type->methods);
    if (type->meta) luaL_setfuncs(L, type->meta, 0);
    for (int i = 0; i < 2; i++) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)type);
        lua_pushcclosure(L, box_close, 1);
        lua_setfield(L, -2, closers[i]);
    }
    lua_newtable(L); /* meta, methods */
    functions(L, type->methods);
    lua_pushlightuserdata(L, (void *)(uintptr_t)type);
    lua_pushcclosure(L, box_close, 1);
    lua_setfield(L, -2, "close");
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods"); /* Tab completion reads it */
    lua_getfield(L, -2, "__index");
    lua_pushcclosure(L, box_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

wane_box *wane_newbox(lua_State *L, const wane_type *type)
{
    wane_box *box = lua_newuserdatauv(L, sizeof *box, 1);
    box->p = NULL;
    luaL_setmetatable(L, type->name);
    return box;
}

void *wane_check(lua_State *L, int arg, const wane_type *type)
{
    wane_box *box = luaL_checkudata(L, arg, type->name);
    if (!box->p) {
        const char *short_name = strchr(type->name, '.') ? strchr(type->name, '.') + 1 : type->name;
        luaL_argerror(L, arg, lua_pushfstring(L, "this %s is closed", short_name));
    }
    return box->p;
}

void *wane_test(lua_State *L, int arg, const wane_type *type)
{
    wane_box *box = luaL_testudata(L, arg, type->name);
    return box ? box->p : NULL;
}

void wane_set_integer(lua_State *L, const char *name, int64_t value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

void wane_set_bytes(lua_State *L, const char *name, uint64_t value)
{
    wane_set_integer(L, name, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}

void wane_set_boolean(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

void wane_set_string(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

void wane_set_filled(lua_State *L, const char *name, const char *value)
{
    if (*value) wane_set_string(L, name, value);
}

int wane_raise(lua_State *L, const wane_err *e)
{
    if (e->status == WANE_EARG) return luaL_error(L, "%s", e->message);
    lua_createtable(L, 0, 10);
    wane_set_filled(L, "code", wane_status_code(e->status));
    wane_set_filled(L, "message", e->message);
    wane_set_filled(L, "op", e->op);
    wane_set_filled(L, "layer", e->layer);
    wane_set_filled(L, "device", e->device);
    wane_set_filled(L, "path", e->path);
    wane_set_filled(L, "tensor", e->tensor);
    if (e->requested) {
        wane_set_bytes(L, "requested", e->requested);
        wane_set_bytes(L, "free", e->free);
    }
    if (e->offset >= 0) wane_set_integer(L, "offset", e->offset);
    wane_set_filled(L, "url", e->url);
    if (e->http) wane_set_integer(L, "status", e->http);
    wane_set_filled(L, "reason", e->reason);
    luaL_setmetatable(L, ERROR);
    return lua_error(L);
}

static int error_tostring(lua_State *L)
{
    if (lua_getfield(L, 1, "message") != LUA_TSTRING) lua_pushstring(L, "error without a message");
    return 1;
}

/* whether the value at index is an error object of wane's */
static bool is_error(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) return false;
    luaL_getmetatable(L, ERROR);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* whether Lua code was running: a file that does not parse has no traceback worth showing */
static bool in_lua(lua_State *L)
{
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++)
        if (lua_getinfo(L, "S", &ar) && *ar.what != 'C') return true;
    return false;
}

/* Ctrl-C and a wrong flag are nobody's bug: where they were met tells nothing. */
static bool wants_traceback(lua_State *L, int index)
{
    lua_pushliteral(L, "code");
    lua_rawget(L, index);
    const char *code = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    bool plain = !strcmp(code, "interrupted") || !strcmp(code, "usage") || !strcmp(code, "help");
    lua_pop(L, 1);
    return !plain && in_lua(L);
}

int wane_bind_traceback(lua_State *L)
{
    if (!is_error(L, 1)) {
        const char *text = luaL_tolstring(L, 1, NULL);
        if (in_lua(L)) luaL_traceback(L, L, text, 1);
        return 1;
    }
    lua_settop(L, 1);
    lua_pushliteral(L, "traceback");
    if (lua_rawget(L, 1) == LUA_TNIL &&
        wants_traceback(L, 1)) { /* raised again: the first one tells where */
        lua_pushliteral(L, "traceback");
        luaL_traceback(L, L, NULL, 1);
        lua_rawset(L, 1);
    }
    lua_settop(L, 1);
    return 1;
}

int wane_bind_exit_code(lua_State *L, int index)
{
    static const struct {
        const char *code;
        int exit;
    } table[] = {{"help", 0}, {"usage", 2},   {"format", 3},   {"unsupported", 3},
                 {"oom", 4},  {"numeric", 5}, {"io", 6},       {"device", 7},
                 {"gate", 8}, {"partly", 9},  {"network", 10}, {"interrupted", 75}};
    index = lua_absindex(L, index);
    if (lua_type(L, index) == LUA_TSTRING) /* Lua's own way to say so; no handler sees it */
        return strcmp(lua_tostring(L, index), "not enough memory") ? 1 : 4;
    if (!is_error(L, index)) return 1;
    int found = 1;
    lua_pushliteral(L, "code");
    lua_rawget(L, index);
    const char *code = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(code, table[i].code)) found = table[i].exit;
    lua_pop(L, 1);
    return found;
}

void wane_bind_pressure(lua_State *L)
{
    enum { MIB = 1 << 20, LEAST = 64 };
    wane_context *c = wane_bind_context(L);
    if (!c->device) return;
    uint64_t live = c->device->live / MIB;
    uint64_t limit = 2 * (uint64_t)(c->boxed > LEAST ? c->boxed : LEAST);
    if (live <= limit) return;
    lua_gc(L, LUA_GCCOLLECT);
    c->boxed = (int)(c->device->live / MIB);
}

void *wane_bind_scratch(lua_State *L, size_t bytes)
{
    return lua_newuserdatauv(L, bytes ? bytes : 1, 0);
}

static int l_exit_code(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushinteger(L, wane_bind_exit_code(L, 1));
    return 1;
}

static int l_traceback(lua_State *L)
{
    lua_settop(L, 1);
    return wane_bind_traceback(L);
}

static int l_clock(lua_State *L)
{
    lua_pushnumber(L, wane_clock());
    return 1;
}

static const wane_reg functions_of_core[] = {
    {"clock", l_clock, "clock() -> seconds of a clock that never jumps"},
    {"exit_code", l_exit_code,
     "exit_code(err) -> the program's exit code for an error value: 1 for all but error objects"},
    {"traceback", l_traceback,
     "traceback(err) -> err with its traceback, as the handler of xpcall"},
    {NULL, NULL, NULL},
};

int luaopen_wane_core(lua_State *L)
{
    wane_bind_context(L);
    wane_bind_type(L, &wane_text_type);
    wane_bind_module(L, "core", functions_of_core);
    if (luaL_newmetatable(L, ERROR)) {
        lua_pushcfunction(L, error_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setfield(L, -2, "error"); /* the metatable of error objects */
#define WANE_MODULE(name) wane_open_##name(L), lua_setfield(L, -2, #name);
#include "runtime/bind/modules.def"
#undef WANE_MODULE
    lua_getfield(L, -1, "embedded");
    lua_getfield(L, -1, "source");
    lua_setfield(L, -3, "source");
    lua_pop(L, 1);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, DOCS);
    lua_setfield(L, -2, "docs");
    wane_set_string(L, "version", WANE_VERSION);
    return 1;
}
