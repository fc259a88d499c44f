/* host.c - a Lua state with everything of wane in it.
 *
 * Lua is touched inside protected calls alone: the only API calls outside are those that cannot
 * raise. So a full memory is an exit code like any other failure. */
#include "runtime/wane.h"

#include <stdlib.h>
#include <string.h>

#include <lua.h>
#include <lualib.h>
#include <lfs.h>

#include "runtime/bind/bind.h"

struct wane {
    lua_State *L;
    wane_context *context; /* borrowed from L; NULL where open failed */
    int depth;             /* calls on this wane that are running now, one inside the other */
    char *message;         /* owned; NULL: none */
};

/* What a protected function is asked to do; arguments are borrowed from the caller. */
typedef struct {
    const wane_options *options;
    const char *file, *code, *name;
    int argc;
    char **argv;
    wane_context *context; /* what opening found */
} job;

static void remember(wane *w, const char *text)
{
    char *copy = text ? strdup(text) : NULL;
    free(w->message);
    w->message = copy;
}

/* error value -> its exit code and the text to show, with the traceback that wane_bind_traceback
 * kept */
static int describe(lua_State *L)
{
    lua_pushinteger(L, wane_bind_exit_code(L, 1));
    luaL_tolstring(L, 1, NULL);
    if (lua_type(L, 1) == LUA_TTABLE && lua_getfield(L, 1, "traceback") == LUA_TSTRING) {
        lua_pushliteral(L, "\n");
        lua_insert(L, -2);
        lua_concat(L, 3);
    }
    lua_settop(L, 3);
    return 2;
}

/* Calls f(job) protected. 0 or an exit code, the message kept. */
static int call(wane *w, lua_CFunction f, job *j)
{
    lua_State *L = w->L;
    int base = lua_gettop(L), code = 0;
    if (!lua_checkstack(L, LUA_MINSTACK)) {
        remember(w, "no memory for Lua's stack");
        return 4;
    }
    w->depth++;
    lua_pushcfunction(L, wane_bind_traceback);
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, j);
    int status = lua_pcall(L, 1, 1, base + 1);
    if (status) {
        lua_pushcfunction(L, describe);
        lua_insert(L, -2);
        /* where even that fails, it fails with a string: memory is out, or __tostring is bad */
        code = lua_pcall(L, 1, 2, 0) || status == LUA_ERRMEM ? 4 : (int)lua_tointeger(L, -2);
        remember(w, lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1)
                                                   : "an error that cannot be shown");
    } else {
        remember(w, NULL);
        lua_Integer result = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (result > 0 && result <= 255) code = (int)result;
    }
    if (--w->depth == 0 && w->context) wane_bind_stop_clear(L);
    lua_settop(L, base);
    return code;
}

static bool refuse(wane *w)
{
    if (w && w->context) return false;
    if (w && !w->message) remember(w, "this wane is not open");
    return true;
}

static int open_protected(lua_State *L)
{
    job *j = lua_touserdata(L, 1);
    const wane_options *o = j->options;
    luaL_openlibs(L);
    wane_bind_searchers(L, o && o->lua ? o->lua : getenv("WANE_LUA"));
    wane_bind_stop_install(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_lfs);
    lua_setfield(L, -2, "lfs");
    luaL_requiref(L, "wane.core", luaopen_wane_core, 0); /* its types are there for error objects */
    if (o && (o->device || o->memory || o->host_memory))
        wane_bind_open_device(L, o->device ? o->device : "auto", o->memory ? o->memory : UINT64_MAX,
                              o->host_memory ? o->host_memory : UINT64_MAX);
    j->context = wane_bind_context(L);
    return 0;
}

int wane_open(wane **out, const wane_options *options)
{
    job j = {.options = options};
    wane *w = *out = calloc(1, sizeof *w);
    if (!w) return 4;
    w->L = luaL_newstate();
    if (!w->L) {
        remember(w, "no memory for a Lua state");
        return 4;
    }
    int code = call(w, open_protected, &j);
    w->context = j.context;
    return code;
}

void wane_close(wane *w)
{
    if (!w) return;
    if (w->L) lua_close(w->L);
    free(w->message);
    free(w);
}

static void push_arguments(lua_State *L, const job *j)
{
    luaL_checkstack(L, j->argc, "too many arguments");
    for (int i = 0; i < j->argc; i++) lua_pushstring(L, j->argv[i]);
}

static void set_arg(lua_State *L, const job *j)
{
    lua_createtable(L, j->argc, 1);
    lua_pushstring(L, j->file);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < j->argc; i++) {
        lua_pushstring(L, j->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

static int run_protected(lua_State *L)
{
    const job *j = lua_touserdata(L, 1);
    int status;
    if (j->file) {
        set_arg(L, j);
        status = luaL_loadfilex(L, j->file, "t");
        if (status == LUA_ERRFILE) {
            wane_err e;
            wane_fail(&e, WANE_EIO, "%s", lua_tostring(L, -1));
            wane_err_at(&e, "run", NULL, j->file);
            return wane_raise(L, &e);
        }
    } else {
        status = luaL_loadbufferx(L, j->code, strlen(j->code), j->name ? j->name : j->code, "t");
    }
    if (status) return lua_error(L);
    push_arguments(L, j);
    lua_call(L, j->argc, 1);
    return 1;
}

static int main_protected(lua_State *L)
{
    const job *j = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushstring(L, j->name);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    push_arguments(L, j);
    lua_call(L, j->argc, 1);
    return 1;
}

/* A script that returned an exit code said nothing else about it. */
static int told(wane *w, int code, const char *what)
{
    char text[300];
    if (!code || w->message) return code;
    snprintf(text, sizeof text, "%.250s returned %d", what, code);
    remember(w, text);
    return code;
}

int wane_run_file(wane *w, const char *file, int argc, char **argv)
{
    job j = {.file = file, .argc = argc, .argv = argv};
    if (refuse(w)) return 1;
    return told(w, call(w, run_protected, &j), file);
}

int wane_eval(wane *w, const char *code, const char *name)
{
    job j = {.code = code, .name = name};
    if (refuse(w)) return 1;
    return told(w, call(w, run_protected, &j), name && strchr("=@", *name) ? name + 1 : "the code");
}

int wane_main(wane *w, const char *module, int argc, char **argv)
{
    job j = {.name = module, .argc = argc, .argv = argv};
    if (refuse(w)) return 1;
    return call(w, main_protected, &j);
}

const char *wane_message(wane *w)
{
    return !w ? "no memory" : w->message ? w->message : "";
}

void wane_interrupt(wane *w)
{
    if (!w || !w->context) return;
    atomic_store(&w->context->stop, 1);
    atomic_store(&w->context->interrupt, 1);
}

lua_State *wane_lua(wane *w)
{
    return w && w->context ? w->L : NULL;
}
const char *wane_version(void)
{
    return WANE_VERSION;
}
