/* json.c - wane.core.json: text -> Lua values through the strict parser, and Lua values -> text.
 *
 * What comes back is what went in: objects keep the order of their keys (metatable fields
 * __jsontype = "object" and __order = the keys), arrays are marked (__jsontype = "array"), null is
 * a value, integers stay integers and floats are written so that they come back as the same floats
 * (the fewest digits that do, laid out as Python's repr does, which is how Hugging Face's files
 * look).
 *
 * The encoder runs no Lua code: it reads tables raw, so nothing changes under it. Its scratch (the
 * text, a set of keys, an array of keys to sort) is userdata and goes away with the stack. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/units.h"
#include "runtime/bind/bind.h"

enum { DEPTH = 64, INDENT_MOST = 16 };

static const uint64_t FILE_MOST = 512u << 20; /* bytes: the largest tokenizer.json is 40 MB */
static const char null_address;               /* only its address matters */
static const char array_key;                  /* registry: the metatable of decoded arrays */

void wane_push_null(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&null_address);
}

static bool is_null(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TLIGHTUSERDATA && lua_touserdata(L, index) == &null_address;
}

/* ---- decode ---- */

static void release_json(void *j)
{
    json_decref(j);
}
static const wane_type JSON = {"wane.json_tree", release_json, NULL, NULL};

static void push_value(lua_State *L, json_t *j);

static void push_array_meta(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__jsontype");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
}

static void push_array(lua_State *L, json_t *j)
{
    size_t n = json_array_size(j);
    lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
    for (size_t i = 0; i < n; i++) {
        push_value(L, json_array_get(j, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    push_array_meta(L);
    lua_setmetatable(L, -2);
}

/* Marks the table on top as an object whose keys come in the order of the array under it; pops that
 * array. */
static void mark_object(lua_State *L)
{
    lua_createtable(L, 0, 2); /* order, object, meta */
    lua_pushliteral(L, "object");
    lua_setfield(L, -2, "__jsontype");
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__order");
    lua_setmetatable(L, -2);
    lua_remove(L, -2);
}

static void push_object(lua_State *L, json_t *j)
{
    size_t n = json_object_size(j);
    int hint = n < INT32_MAX / 2 ? (int)n : 0;
    lua_Integer at = 0;
    lua_createtable(L, hint, 0);
    lua_createtable(L, 0, hint); /* order, object */
    for (void *i = json_object_iter(j); i; i = json_object_iter_next(j, i)) {
        const char *key = json_object_iter_key(i);
        lua_pushlstring(L, key, json_object_iter_key_len(i));
        lua_pushvalue(L, -1);
        lua_rawseti(L, -4, ++at);
        push_value(L, json_object_iter_value(i));
        lua_rawset(L, -3);
    }
    mark_object(L);
}

static void push_value(lua_State *L, json_t *j)
{
    luaL_checkstack(L, 8, "JSON is nested too deep");
    switch (json_typeof(j)) {
    case JSON_OBJECT: push_object(L, j); break;
    case JSON_ARRAY: push_array(L, j); break;
    case JSON_STRING: lua_pushlstring(L, json_string_value(j), json_string_length(j)); break;
    case JSON_INTEGER: lua_pushinteger(L, json_integer_value(j)); break;
    case JSON_REAL: lua_pushnumber(L, json_real_value(j)); break;
    case JSON_TRUE: lua_pushboolean(L, 1); break;
    case JSON_FALSE: lua_pushboolean(L, 0); break;
    default: wane_push_null(L);
    }
}

void wane_push_json(lua_State *L, json_t *j)
{
    push_value(L, j);
}

/* decode(text, name): name is what messages call the text */
static int l_decode(lua_State *L)
{
    size_t length;
    wane_err e;
    json_t *j = NULL;
    const char *text = luaL_checklstring(L, 1, &length), *name = luaL_optstring(L, 2, NULL);
    wane_box *box = wane_newbox(L, &JSON);
    wane_status s = wane_json_parse(text, length, name ? name : "text", &j, &e);
    box->p = j;
    if (s && !name) e.path[0] = 0;
    if (s) return wane_raise(L, &e);
    push_value(L, j);
    return 1;
}

/* load(path, most) */
static int l_load(lua_State *L)
{
    wane_err e;
    json_t *j = NULL;
    const char *path = luaL_checkstring(L, 1);
    lua_Integer most = luaL_optinteger(L, 2, (lua_Integer)FILE_MOST);
    luaL_argcheck(L, most > 0, 2, "a number of bytes");
    wane_box *box = wane_newbox(L, &JSON);
    WANE_TRY(L, e, wane_json_load(path, (uint64_t)most, &j, &e));
    box->p = j;
    push_value(L, j);
    return 1;
}

/* ---- encode ---- */

typedef struct {
    lua_State *L;
    int slot; /* stack index of the userdata that holds text */
    char *text;
    size_t used, room;
    int indent, depth;
    struct {
        const void *table;
        const char *key; /* borrowed from the table; NULL: index */
        lua_Integer index;
    } path[DEPTH];
} writer;

static void need(writer *w, size_t bytes)
{
    if (w->room - w->used >= bytes) return;
    uint64_t room = (uint64_t)w->room * 2;
    while (room - w->used < bytes) room *= 2;
    char *text = lua_newuserdatauv(w->L, room, 0);
    memcpy(text, w->text, w->used);
    lua_replace(w->L, w->slot);
    w->text = text;
    w->room = room;
}

static void put(writer *w, const char *text, size_t bytes)
{
    need(w, bytes);
    memcpy(w->text + w->used, text, bytes);
    w->used += bytes;
}

static void put_char(writer *w, char c)
{
    need(w, 1);
    w->text[w->used++] = c;
}

/* Raises with where in the value it was: "wane.json.encode: .layers[3].error is NaN" */
static int refuse(writer *w, const char *why)
{
    lua_State *L = w->L;
    lua_pushliteral(L, "");
    for (int i = 0; i < w->depth; i++) {
        if (w->path[i].key)
            lua_pushfstring(L, "%s.%s", lua_tostring(L, -1), w->path[i].key);
        else
            lua_pushfstring(L, "%s[%I]", lua_tostring(L, -1), (LUAI_UACINT)w->path[i].index);
        lua_remove(L, -2);
    }
    const char *where = lua_tostring(L, -1);
    return luaL_error(L, "wane.json.encode: %s %s", *where ? where : "the value", why);
}

static void put_string(writer *w, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    put_char(w, '"');
    for (size_t i = 0; i < n;) {
        const unsigned char *p = (const unsigned char *)s + i;
        size_t step = wane_utf8_length(p, n - i);
        if (!step) refuse(w, "is not UTF-8");
        const char *escape = step > 1 ? NULL : strchr("\"\"\\\\\nn\rr\tt\bb\ff", *p);
        if (*p >= 0x20 && *p != '"' && *p != '\\') {
            put(w, s + i, step);
        } else if (*p && escape) {
            put_char(w, '\\');
            put_char(w, *p == '"' || *p == '\\' ? (char)*p : escape[1]);
        } else {
            char code[] = {'\\', 'u', '0', '0', hex[*p >> 4], hex[*p & 15]};
            put(w, code, sizeof code);
        }
        i += step;
    }
    put_char(w, '"');
}

/* The fewest digits that read back as x, as Python's repr lays them out; independent of the locale.
 */
static void put_float(writer *w, double x)
{
    char e[40], digits[20];
    /* 15 digits are always kept, but for the smallest numbers, which have fewer */
    int n = 0, precision = fabs(x) < DBL_MIN ? 0 : 14, exponent;
    if (isnan(x)) refuse(w, "is NaN, which JSON does not have");
    if (isinf(x)) refuse(w, "is infinite, which JSON does not have");
    do snprintf(e, sizeof e, "%.*e", precision, fabs(x));
    while (precision++ < 16 && strtod(e, NULL) != fabs(x));
    const char *p = e;
    for (; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    exponent = atoi(p + 1);
    while (n > 1 && digits[n - 1] == '0') n--;
    if (signbit(x)) put_char(w, '-');
    if (exponent < -4 || exponent >= 16) {
        put_char(w, digits[0]);
        if (n > 1) put_char(w, '.');
        put(w, digits + 1, (size_t)n - 1);
        snprintf(e, sizeof e, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        put(w, e, strlen(e));
        return;
    }
    if (exponent < 0) put(w, "0.0000", (size_t)(1 - exponent));
    for (int i = 0; i < n || i <= exponent; i++) {
        put_char(w, i < n ? digits[i] : '0');
        if (i == exponent) put_char(w, '.');
    }
    if (n <= exponent + 1) put_char(w, '0');
}

static void put_line(writer *w, int depth)
{
    if (!w->indent) return;
    put_char(w, '\n');
    for (int i = 0; i < depth * w->indent; i++) put_char(w, ' ');
}

static void put_value(writer *w, int index);

/* The pair key (at the top minus 1), value (at the top) of an object; pops the value. */
static void put_pair(writer *w, bool *first)
{
    size_t n;
    const char *key = lua_tolstring(w->L, -2, &n);
    if (!*first) put_char(w, ',');
    *first = false;
    put_line(w, w->depth);
    w->path[w->depth - 1].key = key;
    put_string(w, key, n);
    put_char(w, ':');
    if (w->indent) put_char(w, ' ');
    put_value(w, lua_gettop(w->L));
    lua_pop(w->L, 1);
}

typedef struct {
    const char *text;
    size_t length;
} name;

static int by_bytes(const void *a, const void *b)
{
    const name *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* The keys that `done` (0: none) does not hold, in order of their bytes; count is how many keys
 * there are. */
static void put_rest(writer *w, int table, int done, size_t count, bool *first)
{
    lua_State *L = w->L;
    size_t n = 0;
    name *names = wane_bind_scratch(L, count * sizeof *names);
    for (lua_pushnil(L); lua_next(L, table);) {
        lua_pop(L, 1);
        if (done) {
            lua_pushvalue(L, -1);
            bool known = lua_rawget(L, done) != LUA_TNIL;
            lua_pop(L, 1);
            if (known) continue;
        }
        names[n].text = lua_tolstring(L, -1, &names[n].length);
        n++;
    }
    qsort(names, n, sizeof *names, by_bytes);
    for (size_t i = 0; i < n; i++) {
        lua_pushlstring(L, names[i].text, names[i].length);
        lua_pushvalue(L, -1);
        lua_rawget(L, table);
        put_pair(w, first);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* order: stack index of the array of keys, or 0 */
static void put_object(writer *w, int table, int order, size_t count)
{
    lua_State *L = w->L;
    bool first = true;
    int done = 0;
    size_t shown = 0;
    put_char(w, '{');
    if (order) {
        lua_createtable(L, 0, (int)(count < INT32_MAX ? count : 0));
        done = lua_gettop(L);
        lua_Integer n = (lua_Integer)lua_rawlen(L, order);
        for (lua_Integer i = 1; i <= n; i++) {
            if (lua_rawgeti(L, order, i) != LUA_TSTRING)
                refuse(w, "has an __order that is not of strings");
            lua_pushvalue(L, -1);
            bool again = lua_rawget(L, done) != LUA_TNIL;
            lua_pop(L, 1);
            lua_pushvalue(L, -1);
            bool absent = lua_rawget(L, table) == LUA_TNIL;
            if (again || absent) {
                lua_pop(L, 2);
                continue;
            }
            put_pair(w, &first);
            lua_pushboolean(L, 1);
            lua_rawset(L, done);
            shown++;
        }
    }
    if (shown < count) put_rest(w, table, done, count, &first);
    if (done) lua_pop(L, 1);
    if (!first) put_line(w, w->depth - 1);
    put_char(w, '}');
}

static void put_array(writer *w, int table, size_t count)
{
    put_char(w, '[');
    w->path[w->depth - 1].key = NULL;
    for (size_t i = 1; i <= count; i++) {
        if (i > 1) put_char(w, ',');
        put_line(w, w->depth);
        w->path[w->depth - 1].index = (lua_Integer)i;
        lua_rawgeti(w->L, table, (lua_Integer)i);
        put_value(w, lua_gettop(w->L));
        lua_pop(w->L, 1);
    }
    if (count) put_line(w, w->depth - 1);
    put_char(w, ']');
}

/* Whether the table's mark (__jsontype) is `type`; pushes nothing. */
static bool marked(lua_State *L, int table, const char *type)
{
    if (!lua_getmetatable(L, table)) return false;
    lua_pushliteral(L, "__jsontype");
    bool same = lua_rawget(L, -2) == LUA_TSTRING && !strcmp(lua_tostring(L, -1), type);
    lua_pop(L, 2);
    return same;
}

static void put_table(writer *w, int table)
{
    lua_State *L = w->L;
    size_t count = 0, strings = 0, whole = 0;
    lua_Integer largest = 0;
    for (int i = 0; i < w->depth; i++)
        if (w->path[i].table == lua_topointer(L, table)) refuse(w, "contains itself");
    if (w->depth == DEPTH) refuse(w, "is nested deeper than 64");
    luaL_checkstack(L, 16, "nested too deep");
    for (lua_pushnil(L); lua_next(L, table); count++) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) strings++;
        if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1) continue;
        whole++;
        if (lua_tointeger(L, -1) > largest) largest = lua_tointeger(L, -1);
    }
    bool object = marked(L, table, "object"), array = marked(L, table, "array");
    if (!object && !array) array = whole > 0, object = !array;
    if (strings && whole) refuse(w, "has both names and numbers as keys");
    if (object && strings < count) refuse(w, "is an object with a key that is not a string");
    if (array && whole < count) refuse(w, "is an array with a key that is not a number from 1 on");
    if (array && (lua_Unsigned)largest != count)
        refuse(w, "is an array with holes; put wane.json.null there");
    w->path[w->depth].table = lua_topointer(L, table);
    w->path[w->depth].key = NULL;
    w->path[w->depth++].index = 0;
    if (array) {
        put_array(w, table, count);
    } else {
        int order = 0;
        if (luaL_getmetafield(L, table, "__order") != LUA_TNIL) {
            order = lua_gettop(L);
            luaL_checktype(L, order, LUA_TTABLE);
        }
        put_object(w, table, order, count);
        if (order) lua_pop(L, 1);
    }
    w->depth--;
}

static void put_value(writer *w, int index)
{
    lua_State *L = w->L;
    char text[32];
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        put(w, lua_toboolean(L, index) ? "true" : "false", lua_toboolean(L, index) ? 4 : 5);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, index));
            put(w, text, strlen(text));
        } else {
            put_float(w, lua_tonumber(L, index));
        }
        break;
    case LUA_TSTRING: {
        size_t n;
        const char *s = lua_tolstring(L, index, &n);
        put_string(w, s, n);
        break;
    }
    case LUA_TTABLE: put_table(w, index); break;
    default:
        if (is_null(L, index)) {
            put(w, "null", 4);
        } else {
            snprintf(text, sizeof text, "is a %.12s", luaL_typename(L, index));
            refuse(w, text);
        }
    }
}

/* encode(value, { indent = 2 }) */
static int l_encode(lua_State *L)
{
    static const char *const names[] = {"indent", NULL};
    luaL_checkany(L, 1);
    wane_opt_names(L, 2, "json.encode", names);
    int64_t indent = wane_opt_integer(L, 2, "indent", 0);
    luaL_argcheck(L, indent >= 0 && indent <= INDENT_MOST, 2, "indent must be 0 to 16");
    lua_settop(L, 1);
    writer *w = lua_newuserdatauv(L, sizeof *w, 0);
    *w = (writer){.L = L, .slot = 3, .room = 512, .indent = (int)indent};
    w->text = lua_newuserdatauv(L, w->room, 0);
    put_value(w, 1);
    lua_pushlstring(L, w->text, w->used);
    return 1;
}

/* ---- marks ---- */

static int l_array(lua_State *L)
{
    if (lua_isnone(L, 1)) lua_newtable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    push_array_meta(L);
    lua_setmetatable(L, 1);
    return 1;
}

/* object(table, order): order may be absent */
static int l_object(lua_State *L)
{
    if (lua_isnone(L, 1)) lua_newtable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_newtable(L);
        lua_replace(L, 2);
    }
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_insert(L, 1); /* order, object */
    mark_object(L);
    return 1;
}

static const wane_reg functions[] = {
    {"decode", l_decode,
     "decode(text, name) -> value; objects keep the order of their keys; raises format with the "
     "offset"},
    {"load", l_load,
     "load(path, most) -> value of a file of at most so many bytes (512 MiB); raises io, format"},
    {"encode", l_encode,
     "encode(value, { indent = 0 }) -> text; NaN, cycles, holes, mixed keys and depth over 64 are "
     "errors"},
    {"array", l_array, "array(table) -> the same table, an array also where it is empty"},
    {"object", l_object,
     "object(table, order) -> the same table, an object whose keys come in the order of that "
     "array"},
    {NULL, NULL, NULL},
};

void wane_open_json(lua_State *L)
{
    wane_bind_type(L, &JSON);
    wane_bind_module(L, "json", functions);
    wane_push_null(L);
    lua_setfield(L, -2, "null");
}
