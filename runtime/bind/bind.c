/* bind.c - boxes, raising and documentation for the bound modules. See bind.h. */
#include "runtime/bind/bind.h"

#include <string.h>

#define CONTEXT "wane.context"
#define DOCS    "wane.docs"
#define ERROR   "wane.error"

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
    lua_getfield(L, LUA_REGISTRYINDEX, CONTEXT ".value");
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
    lua_setfield(L, LUA_REGISTRYINDEX, CONTEXT ".value");
    return c;
}

void wane_bind_open_device(lua_State *L, const char *name, uint64_t memory, uint64_t host_memory)
{
    wane_context *c = wane_bind_context(L);
    wane_device *device = NULL, *host = NULL;
    wane_err e;
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

static void set_string(lua_State *L, const char *name, const char *value)
{
    if (!*value) return;
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, int64_t value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

int wane_raise(lua_State *L, const wane_err *e)
{
    if (e->status == WANE_EARG) return luaL_error(L, "%s", e->message);
    lua_createtable(L, 0, 10);
    set_string(L, "code", wane_status_code(e->status));
    set_string(L, "message", e->message);
    set_string(L, "op", e->op);
    set_string(L, "layer", e->layer);
    set_string(L, "device", e->device);
    set_string(L, "path", e->path);
    set_string(L, "tensor", e->tensor);
    if (e->requested) {
        set_integer(L, "requested", (int64_t)e->requested);
        set_integer(L, "free", (int64_t)e->free);
    }
    if (e->offset >= 0) set_integer(L, "offset", e->offset);
    luaL_setmetatable(L, ERROR);
    return lua_error(L);
}

static int error_tostring(lua_State *L)
{
    if (lua_getfield(L, 1, "message") != LUA_TSTRING) lua_pushstring(L, "error without a message");
    return 1;
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

void *wane_bind_scratch(lua_State *L, size_t bytes) { return lua_newuserdatauv(L, bytes ? bytes : 1, 0); }

/* pushes options[name]; false (and nothing pushed) where there is none */
static bool option(lua_State *L, int arg, const char *name)
{
    if (lua_isnoneornil(L, arg)) return false;
    luaL_checktype(L, arg, LUA_TTABLE);
    if (lua_getfield(L, arg, name) != LUA_TNIL) return true;
    lua_pop(L, 1);
    return false;
}

static int wrong(lua_State *L, const char *name, const char *wanted)
{
    return luaL_error(L, "option %s must be %s, not %s", name, wanted, luaL_typename(L, -1));
}

int64_t wane_opt_integer(lua_State *L, int arg, const char *name, int64_t otherwise)
{
    if (!option(L, arg, name)) return otherwise;
    int whole;
    lua_Integer value = lua_tointegerx(L, -1, &whole);
    if (!whole || lua_type(L, -1) != LUA_TNUMBER) wrong(L, name, "a whole number");
    lua_pop(L, 1);
    return value;
}

double wane_opt_number(lua_State *L, int arg, const char *name, double otherwise)
{
    if (!option(L, arg, name)) return otherwise;
    if (lua_type(L, -1) != LUA_TNUMBER) wrong(L, name, "a number");
    double value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

bool wane_opt_boolean(lua_State *L, int arg, const char *name, bool otherwise)
{
    if (!option(L, arg, name)) return otherwise;
    if (!lua_isboolean(L, -1)) wrong(L, name, "true or false");
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

const char *wane_opt_string(lua_State *L, int arg, const char *name, const char *otherwise)
{
    if (!option(L, arg, name)) return otherwise;
    if (lua_type(L, -1) != LUA_TSTRING) wrong(L, name, "a string");
    const char *value = lua_tostring(L, -1);
    lua_pop(L, 1); /* the options table still holds it */
    return value;
}

void wane_push_null(lua_State *L)
{
    static const char null = 0; /* only its address matters */
    lua_pushlightuserdata(L, (void *)(uintptr_t)&null);
}

int luaopen_wane_core(lua_State *L)
{
    wane_bind_context(L);
    if (luaL_newmetatable(L, ERROR)) {
        lua_pushcfunction(L, error_tostring);
        lua_setfield(L, -2, "__tostring");
        lua_pushstring(L, ERROR);
        lua_setfield(L, -2, "__name");
    }
    lua_newtable(L); /* meta, core */
    lua_insert(L, -2);
    lua_setfield(L, -2, "error"); /* the metatable of error objects */
#define WANE_MODULE(name) wane_open_##name(L), lua_setfield(L, -2, #name);
#include "runtime/bind/modules.def"
#undef WANE_MODULE
    luaL_getsubtable(L, LUA_REGISTRYINDEX, DOCS);
    lua_setfield(L, -2, "docs");
    lua_pushstring(L, WANE_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
