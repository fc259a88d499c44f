/* options.c - option tables as bound functions take them, and the name that a misspelt one was
 * meant to be. */
#include <string.h>

#include "runtime/base/nearest.h"
#include "runtime/bind/bind.h"

/* The name that was meant: the nearest, else one that begins so (group for group_size); NULL: none.
 */
static const char *meant(const char *name, const char *const *names, size_t count)
{
    const char *found = wane_nearest(name, names, count);
    size_t n = strlen(name);
    for (size_t i = 0; i < count && !found && n >= 3; i++)
        if (!strncmp(name, names[i], n)) found = names[i];
    return found;
}

/* nearest(name, names) */
static int l_nearest(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer count = luaL_len(L, 2);
    luaL_argcheck(L, count >= 0, 2, "an array of names");
    const char **names = wane_bind_scratch(L, (size_t)count * sizeof *names);
    for (lua_Integer i = 0; i < count; i++) {
        luaL_argcheck(L, lua_rawgeti(L, 2, i + 1) == LUA_TSTRING, 2, "an array of names");
        names[i] = lua_tostring(L, -1); /* the array still holds it */
        lua_pop(L, 1);
    }
    lua_pushstring(L, meant(name, names, (size_t)count));
    return 1;
}

void wane_opt_names(lua_State *L, int arg, const char *what, const char *const *names)
{
    if (lua_isnoneornil(L, arg)) return;
    luaL_checktype(L, arg, LUA_TTABLE);
    size_t count = 0;
    while (names[count]) count++;
    for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) luaL_error(L, "wane.%s: options have names", what);
        const char *key = lua_tostring(L, -2);
        size_t i = 0;
        while (i < count && strcmp(names[i], key)) i++;
        if (i < count) continue;
        const char *near = meant(key, names, count);
        if (near) luaL_error(L, "wane.%s has no option %s; did you mean %s?", what, key, near);
        luaL_error(L, "wane.%s has no option %s", what, key);
    }
}

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

static const wane_reg functions[] = {
    {"nearest", l_nearest, "nearest(name, names) -> the one that was meant, or nil"},
    {NULL, NULL, NULL},
};

void wane_open_options(lua_State *L)
{
    wane_bind_module(L, "options", functions);
}
