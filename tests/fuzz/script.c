/* script.c - a target written in Lua: FUZZ_SCRIPT, which is given a folder, returns a
 * function that is called with each input.
 *
 * libFuzzer cannot see into Lua, so a hook counts for it which line follows which (libFuzzer's
 * extra counters). What the function raises as a wane error is an answer; any other error is a
 * mistake and stops the run. */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "runtime/wane.h"
#include "tests/fuzz/fuzz.h"

#define COUNTERS 65536
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t counters[COUNTERS];

static wane *w;
static lua_State *L;

static void on_line(lua_State *state, lua_Debug *ar)
{
    static uint32_t before;
    lua_getinfo(state, "S", ar);
    uint32_t here = (uint32_t)ar->currentline * 2654435761u;
    for (const char *s = ar->source + strlen(ar->source); s > ar->source && s[-1] != '/'; s--)
        here = (here ^ (unsigned char)s[-1]) * 16777619u;
    uint8_t *counter = &counters[(here ^ before) % COUNTERS];
    if (*counter < 255) ++*counter;
    before = here >> 1;
}

static void prepare(void)
{
    if (wane_open(&w, NULL)) fuzz_stop(FUZZ_SCRIPT, 0, "wane opens", wane_message(w));
    L = wane_lua(w);
    luaL_checkstack(L, 20, NULL);
    bool loads = !luaL_loadfilex(L, FUZZ_SCRIPT, "t");
    if (loads) lua_pushstring(L, fuzz_folder());
    if (!loads || lua_pcall(L, 1, 1, 0))
        fuzz_stop(FUZZ_SCRIPT, 0, "the script runs", lua_tostring(L, -1));
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!L) prepare();
    int top = lua_gettop(L);
    lua_pushvalue(L, top);
    lua_pushlstring(L, size ? (const char *)data : "", size);
    if (lua_pcall(L, 1, 0, 0)) {
        /* an error object has a code */
        bool object = lua_type(L, -1) == LUA_TTABLE && lua_getfield(L, -1, "code") == LUA_TSTRING;
        if (!object)
            fuzz_stop(FUZZ_SCRIPT, 0, "an input is refused by code", luaL_tolstring(L, -1, NULL));
    }
    lua_settop(L, top);
    return 0;
}
