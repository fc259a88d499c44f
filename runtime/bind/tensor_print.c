/* tensor_print.c - how a tensor prints: its dtype and shape, and of a vector or matrix some
 * numbers. */
#include "runtime/bind/tensor.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/tensor/math.h"

enum { SHOWN = 8, HEAD = 4, TAIL = 3 }; /* up to 8 in full, else the first 4 and the last 3 */
typedef char cell[24];

/* The places of n that are shown: how many, and of the k-th its place; -1 where some are left out.
 */
static int places(int64_t n)
{
    return n <= SHOWN ? (int)n : HEAD + 1 + TAIL;
}
static int64_t place(int64_t n, int k)
{
    if (n <= SHOWN || k < HEAD) return k;
    return k == HEAD ? -1 : n - (HEAD + 1 + TAIL - k);
}

/* Columns first .. first+count-1 of a row, of the vector, or the only number. */
static wane_status read_part(wane_tensor *t, int64_t row, int64_t first, int64_t count, cell *out,
                             wane_err *e)
{
    float real[SHOWN];
    int64_t whole[SHOWN];
    wane_tensor *line = NULL, *part = NULL;
    bool integer = t->dtype != WANE_F32 && t->dtype != WANE_F16 && t->dtype != WANE_BF16;
    wane_status s = WANE_OK;
    if (t->rank == 2)
        s = wane_tensor_select(t, 0, row, &line, e);
    else
        line = wane_tensor_retain(t);
    if (!s && t->rank)
        s = wane_tensor_slice(line, 0, first, count, &part, e);
    else if (!s)
        part = wane_tensor_retain(line);
    if (!s && integer)
        s = wane_tensor_read(part, WANE_I64, whole, e);
    else if (!s)
        s = wane_tensor_read(part, WANE_F32, real, e);
    for (int64_t i = 0; i < count && !s; i++) {
        if (integer)
            snprintf(out[i], sizeof *out, "%" PRId64, whole[i]);
        else
            snprintf(out[i], sizeof *out, "%.4g", (double)real[i]);
    }
    wane_tensor_release(line);
    wane_tensor_release(part);
    return s;
}

/* The shown numbers of one row, each in its place. */
static wane_status read_row(wane_tensor *t, int64_t row, cell *out, wane_err *e)
{
    int64_t n = t->rank ? t->shape[t->rank - 1] : 1;
    if (n <= SHOWN) return read_part(t, row, 0, n, out, e);
    wane_status s = read_part(t, row, 0, HEAD, out, e);
    snprintf(out[HEAD], sizeof *out, "...");
    return s ? s : read_part(t, row, n - TAIL, TAIL, out + HEAD + 1, e);
}

/* The first line. */
static void push_title(lua_State *L, const wane_tensor *t)
{
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    lua_pushfstring(L, "tensor %s (", wane_dtype_name(t->dtype));
    luaL_addvalue(&b);
    for (int i = 0; i < t->rank; i++) {
        lua_pushfstring(L, i ? ", %I" : "%I", (lua_Integer)t->shape[i]);
        luaL_addvalue(&b);
    }
    luaL_addchar(&b, ')');
    luaL_pushresult(&b);
}

int wane_tensor_tostring(lua_State *L)
{
    cell row[SHOWN];
    char text[32];
    wane_box *box = luaL_checkudata(L, 1, wane_tensor_type.name);
    luaL_Buffer b;
    if (!box->p) {
        lua_pushliteral(L, "tensor (closed)");
        return 1;
    }
    wane_tensor about = *(wane_tensor *)box->p; /* pushing may collect, and a finalizer close it */
    if (wane_device_is_host(wane_tensor_device(&about)))
        text[0] = 0;
    else
        snprintf(text, sizeof text, " on %.20s", wane_tensor_device(&about)->name);
    push_title(L, &about);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    if (about.rank > 2 || wane_tensor_count(&about) == 0) return 1;
    int64_t rows = about.rank == 2 ? about.shape[0] : 1;
    int64_t cols = about.rank ? about.shape[about.rank - 1] : 1;
    int title = lua_gettop(L);
    luaL_buffinit(L, &b);
    for (int i = 0; i < places(rows); i++) {
        if (place(rows, i) < 0) {
            luaL_addstring(&b, "\n  ...");
            continue;
        }
        wane_status s = box->p ? read_row(box->p, place(rows, i), row, NULL) : WANE_EARG;
        if (s == WANE_EOOM) {
            lua_gc(L, LUA_GCCOLLECT);
            s = box->p ? read_row(box->p, place(rows, i), row, NULL) : WANE_EARG;
        }
        if (s) { /* a device without a byte to spare can still say what it holds */
            lua_settop(L, title);
            return 1;
        }
        luaL_addchar(&b, '\n');
        for (int j = 0; j < places(cols); j++) {
            snprintf(text, sizeof text, " %9.23s", row[j]);
            luaL_addstring(&b, text);
        }
    }
    luaL_pushresult(&b);
    lua_concat(L, 2);
    return 1;
}
