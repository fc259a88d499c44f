/* plan.c - methods, their options and plans as Lua values: tables, checked here. See plan.h. */
#include "runtime/bind/plan.h"

#include <math.h>
#include <string.h>

static void push_value(lua_State *L, const wane_option *o, double value)
{
    if (isnan(value)) {
        lua_pushnil(L);
    } else if (o->kind == WANE_BOOLEAN) {
        lua_pushboolean(L, value != 0);
    } else if (o->kind == WANE_INTEGER) {
        lua_pushinteger(L, (lua_Integer)value);
    } else if (o->kind == WANE_NUMBER) {
        lua_pushnumber(L, value);
    } else {
        const char *word = o->choices;
        for (int i = 0; i < (int)value; i++) word += strcspn(word, " ") + 1;
        lua_pushlstring(L, word, strcspn(word, " "));
    }
}

/* { 2, 3, 4, 8 } or { "integer", "float" } */
static void push_choices(lua_State *L, const wane_option *o)
{
    lua_newtable(L);
    const char *word = o->choices;
    for (lua_Integer i = 1; *word; i++) {
        size_t n = strcspn(word, " ");
        lua_pushlstring(L, word, n);
        if (o->kind != WANE_CHOICE) {
            lua_Integer number = lua_tointeger(L, -1);
            lua_pop(L, 1);
            lua_pushinteger(L, number);
        }
        lua_rawseti(L, -2, i);
        word += n + (word[n] == ' ');
    }
}

/* As wane.options has them: { name, kind, default, least, most, choices, doc } */
static void push_option(lua_State *L, const wane_option *o)
{
    static const char *const kinds[] = {"boolean", "integer", "number", "one of"};
    lua_createtable(L, 0, 7);
    wane_set_string(L, "name", o->name);
    wane_set_string(L, "kind", o->choices ? "one of" : kinds[o->kind]);
    wane_set_string(L, "doc", o->doc);
    push_value(L, o, o->otherwise);
    lua_setfield(L, -2, "default");
    if (o->choices) {
        push_choices(L, o);
        lua_setfield(L, -2, "choices");
    } else if (o->kind != WANE_BOOLEAN) {
        push_value(L, o, o->least);
        lua_setfield(L, -2, "least");
        push_value(L, o, o->most);
        lua_setfield(L, -2, "most");
    }
}

int wane_bind_methods(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; wane_methods[i]; i++) {
        const wane_method *m = wane_methods[i];
        const wane_option *o;
        lua_createtable(L, 0, 5);
        wane_set_string(L, "name", m->name);
        wane_set_string(L, "paper", m->paper);
        wane_set_string(L, "doc", m->doc);
        wane_set_boolean(L, "needs_text", m->needs != 0);
        lua_newtable(L);
        for (int k = 0; (o = wane_method_option(m, k)); k++) {
            push_option(L, o);
            lua_rawseti(L, -2, k + 1);
        }
        lua_setfield(L, -2, "options");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* The value on top of the stack for an option. */
static wane_status set_option(lua_State *L, wane_plan *p, const char *name, wane_err *e)
{
    if (lua_type(L, -1) == LUA_TBOOLEAN) return wane_plan_set(p, name, lua_toboolean(L, -1), e);
    if (lua_type(L, -1) == LUA_TNUMBER) return wane_plan_set(p, name, lua_tonumber(L, -1), e);
    if (lua_type(L, -1) == LUA_TSTRING) return wane_plan_choose(p, name, lua_tostring(L, -1), e);
    return wane_fail(e, WANE_EARG, "wane.%s: %s cannot be a %s", p->method->name, name,
                     luaL_typename(L, -1));
}

/* A plan from a method's name and a table of options at arg. */
static void check_plan(lua_State *L, const char *method, int arg, wane_plan *p)
{
    const wane_method *m = wane_method_find(method);
    const wane_option *o;
    wane_err e;
    if (!m) luaL_error(L, "there is no method %s", method);
    luaL_checktype(L, arg, LUA_TTABLE);
    wane_plan_start(p, m);
    for (int i = 0; (o = wane_method_option(m, i)); i++) {
        bool given = lua_getfield(L, arg, o->name) != LUA_TNIL;
        if (given && set_option(L, p, o->name, &e)) wane_raise(L, &e);
        lua_pop(L, 1);
    }
    if (wane_plan_settle(p, &e)) wane_raise(L, &e);
}

/* plan.method and its options, of the table at arg */
void wane_check_plan(lua_State *L, int arg, wane_plan *p)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_getfield(L, arg, "method");
    const char *method = luaL_checkstring(L, -1);
    check_plan(L, method, arg, p);
    lua_pop(L, 1);
}

int wane_bind_settle(lua_State *L)
{
    wane_plan p;
    const wane_option *o;
    char label[32];
    check_plan(L, luaL_checkstring(L, 1), 2, &p);
    lua_newtable(L);
    for (int i = 0; (o = wane_method_option(p.method, i)); i++) {
        push_value(L, o, p.value[i]);
        lua_setfield(L, -2, o->name);
    }
    lua_pushstring(L,
                   wane_grid_label(label, sizeof label, p.bits, p.act_bits, p.group, p.symmetric));
    return 2;
}
