/* embed.c - a program with wane inside: a function of its own in Lua, a recipe, and what went
 * wrong.
 *
 *     cc embed.c $(pkg-config --cflags --libs wane lua5.4) -o embed
 *     ./embed recipes/quantize.lua MODEL OUT
 */
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <wane.h>

/* greet(name) -> text: what this program adds to Lua */
static int greet(lua_State *L)
{
    lua_pushfstring(L, "hello, %s", luaL_checkstring(L, 1));
    return 1;
}

int main(int argc, char **argv)
{
    wane *w;
    wane_options options = {.device = "cpu", .memory = (uint64_t)1 << 30};
    int code = wane_open(&w, &options);
    if (!code) {
        lua_register(wane_lua(w), "greet", greet);
        if (argc > 1)
            code = wane_run_file(w, argv[1], argc - 2, argv + 2);
        else
            code = wane_eval(w,
                             "local wane = require 'wane'\n"
                             "local info = wane.device()\n"
                             "print(greet(info.name), wane.bytes(info.memory))",
                             "=embed");
    }
    if (code) fprintf(stderr, "embed: %s\n", wane_message(w));
    wane_close(w);
    return code;
}
