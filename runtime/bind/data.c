/* data.c - wane.core.data: rows of Parquet files as the records that JSONL would have. */
#include "runtime/bind/bind.h"
#include "runtime/data/parquet.h"

static void release_reader(void *p)
{
    wane_parquet_close(p);
}

static void release_row(void *j)
{
    json_decref(j);
}
static const wane_type ROW = {"wane.row", release_row, NULL, NULL};

static int l_row(lua_State *L);
static int l_rows(lua_State *L);
static int l_columns(lua_State *L);

static const wane_reg methods[] = {
    {"row", l_row, "row() -> the next record, or nothing after the last; raises io, format, oom"},
    {"rows", l_rows, "rows() -> how many rows the file says it has"},
    {"columns", l_columns, "columns() -> the names of all columns of the file, in order"},
    {NULL, NULL, NULL},
};
static const wane_type READER = {"wane.parquet", release_reader, methods, NULL};

/* A row that failed halfway cannot be tried again, so a full memory is an error at once. */
static int l_row(lua_State *L)
{
    wane_err e;
    json_t *row = NULL;
    wane_bind_stop_check(L);
    wane_check(L, 1, &READER);
    wane_box *box = wane_newbox(L, &ROW);
    if (wane_parquet_row(wane_check(L, 1, &READER), &row, &e)) return wane_raise(L, &e);
    if (!row) return 0;
    box->p = row;
    wane_push_json(L, row);
    box->p = NULL;
    json_decref(row);
    return 1;
}

static int l_rows(lua_State *L)
{
    lua_pushinteger(L, wane_parquet_rows(wane_check(L, 1, &READER)));
    return 1;
}

static int l_columns(lua_State *L)
{
    size_t length;
    const char *name;
    const wane_parquet *p = wane_check(L, 1, &READER);
    lua_newtable(L);
    for (int i = 0; (name = wane_parquet_column(p, i, &length)); i++) {
        lua_pushlstring(L, name, length);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* Selects the columns that the table at arg names; names that are no column's are fine. */
static void select_columns(lua_State *L, int arg, wane_parquet *p)
{
    size_t length;
    const char *name;
    wane_parquet_select(p, -1);
    for (int i = 0; (name = wane_parquet_column(p, i, &length)); i++) {
        lua_pushlstring(L, name, length);
        lua_Integer n = (lua_Integer)lua_rawlen(L, arg);
        for (lua_Integer k = 1; k <= n; k++) {
            lua_rawgeti(L, arg, k);
            if (lua_rawequal(L, -1, -2)) wane_parquet_select(p, i);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
}

/* parquet(path, columns) */
static int l_parquet(lua_State *L)
{
    wane_err e;
    wane_parquet *p = NULL;
    const char *path = luaL_checkstring(L, 1);
    if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TTABLE);
    wane_box *box = wane_newbox(L, &READER);
    WANE_TRY(L, e, wane_parquet_open(path, &p, &e));
    box->p = p;
    if (lua_istable(L, 2)) select_columns(L, 2, p);
    return 1;
}

static const wane_reg functions[] = {
    {"parquet", l_parquet,
     "parquet(path, columns) -> a reader of a Parquet file's rows, of the named columns or of all; "
     "raises io, format, unsupported"},
    {NULL, NULL, NULL},
};

void wane_open_data(lua_State *L)
{
    wane_bind_type(L, &ROW);
    wane_bind_type(L, &READER);
    wane_bind_module(L, "data", functions);
}
