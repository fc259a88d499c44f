/* module.c - wane.so: require "wane" from a stock lua5.4.
 *
 * The interpreter keeps its own pcall, hooks and Ctrl-C; lfs comes from the system. */
#include <stdlib.h>

#include "runtime/bind/bind.h"
#include "runtime/wane.h"

WANE_API int luaopen_wane(lua_State *L)
{
    wane_bind_searchers(L, getenv("WANE_LUA"));
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_rawgeti(L, -1, 2);
    lua_pushliteral(L, "wane");
    lua_call(L, 1, 2); /* loader, file: of the Lua half */
    lua_pushliteral(L, "wane");
    lua_insert(L, -2);
    lua_call(L, 2, 1);
    return 1;
}
