/* interrupt.c - how Ctrl-C stops Lua code, in whatever form it runs.
 *
 * A signal handler (or another thread) only raises two flags. `interrupt` is polled by long C
 * loops. `stop` is read by a count hook that is set when the state is made, so that every coroutine
 * inherits it; it costs plain Lua loops 1.3 to 2 times (measured), bound C code nothing. The hook
 * raises the error object "interrupted".
 *
 * A loop around pcall would swallow that. So in wane's own states pcall, xpcall, load,
 * coroutine.resume and coroutine.close raise it again while the stop is up, and debug.sethook is
 * refused. The hook leaves GRACE between two raises: what __close runs on the way out has that
 * long.
 *
 * What stays: Lua turns hooks off in __gc, and one string.find on a bad pattern is one instruction.
 * A second Ctrl-C ends the program. */
#include "runtime/base/units.h"
#include "runtime/bind/bind.h"

enum { INSTRUCTIONS = 1000 };
static const double GRACE = 0.1; /* seconds */

static int raise_stop(lua_State *L)
{
    wane_err e;
    wane_fail(&e, WANE_EINTERRUPTED, "interrupted");
    return wane_raise(L, &e);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    wane_context *c = wane_bind_context(L);
    if (!atomic_load_explicit(&c->stop, memory_order_relaxed)) return;
    double t = wane_clock();
    if (c->stopped > 0 && t - c->stopped < GRACE) return;
    c->stopped = t;
    raise_stop(L);
}

void wane_bind_stop_check(lua_State *L)
{
    if (atomic_load_explicit(&wane_bind_context(L)->stop, memory_order_relaxed)) raise_stop(L);
}

void wane_bind_stop_clear(lua_State *L)
{
    wane_context *c = wane_bind_context(L);
    c->stopped = 0;
    atomic_store(&c->stop, 0);
    atomic_store(&c->interrupt, 0);
}

/* After a protected call: its values from index `first` on, or false and the error. */
static int settle(lua_State *L, int status, lua_KContext first)
{
    if (status == LUA_OK || status == LUA_YIELD) {
        luaL_checkstack(L, 1, "too many results");
        lua_pushboolean(L, 1);
        lua_insert(L, (int)first);
        return lua_gettop(L) - (int)first + 1;
    }
    wane_bind_stop_check(L);
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

static int l_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    return settle(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 1, settle), 1);
}

/* upvalue 1: a script's handler. Lua calls it inside the hook that raised the stop, where hooks are
 * off: one that loops would never end. */
static int handler(lua_State *L)
{
    if (atomic_load_explicit(&wane_bind_context(L)->stop, memory_order_relaxed)) return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int l_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 1);
    lua_copy(L, 2, 1);
    lua_replace(L, 2); /* handler, function, arguments */
    if (!lua_iscfunction(L, 1)) {
        lua_pushvalue(L, 1);
        lua_pushcclosure(L, handler, 1);
        lua_replace(L, 1);
    }
    return settle(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 2, settle), 2);
}

static int relay(lua_State *L, int status, lua_KContext context)
{
    (void)status, (void)context;
    if (!lua_toboolean(L, 1)) wane_bind_stop_check(L);
    return lua_gettop(L);
}

/* upvalue 1: a function whose first value is false or nil where it failed */
static int guarded(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, relay);
    return relay(L, LUA_OK, 0);
}

static int l_sethook(lua_State *L)
{
    return luaL_error(L, "debug.sethook is not to be had in wane: Ctrl-C needs the hook");
}

static void guard(lua_State *L, const char *library, const char *name)
{
    lua_getglobal(L, library);
    if (lua_getfield(L, -1, name) == LUA_TFUNCTION) {
        lua_pushcclosure(L, guarded, 1);
        lua_setfield(L, -2, name);
        lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

void wane_bind_stop_install(lua_State *L)
{
    wane_bind_context(L);
    lua_pushcfunction(L, l_pcall);
    lua_setglobal(L, "pcall");
    lua_pushcfunction(L, l_xpcall);
    lua_setglobal(L, "xpcall");
    guard(L, LUA_GNAME, "load");
    guard(L, "coroutine", "resume");
    guard(L, "coroutine", "close");
    lua_getglobal(L, "debug");
    lua_pushcfunction(L, l_sethook);
    lua_setfield(L, -2, "sethook");
    lua_pop(L, 1);
    lua_sethook(L, on_count, LUA_MASKCOUNT, INSTRUCTIONS);
}
