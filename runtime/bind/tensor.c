/* tensor.c - the tensor type of Lua: fields, views, arithmetic, reductions, conversions.
 *
 * A Lua tensor never changes its elements, so views need no care: t[2], t:slice and t:reshape share
 * the memory. Indices and dimensions count from 1. Arithmetic gives f32 whatever it is given. */
#include "runtime/bind/tensor.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/tensor/math.h"

static void release(void *p)
{
    wane_tensor_release(p);
}

wane_tensor *wane_check_tensor(lua_State *L, int arg)
{
    return wane_check(L, arg, &wane_tensor_type);
}

int wane_give_tensor(lua_State *L, wane_box *box, wane_tensor *t)
{
    box->p = t;
    wane_bind_pressure(L);
    return 1;
}

static wane_box *newbox(lua_State *L)
{
    return wane_newbox(L, &wane_tensor_type);
}

wane_device *wane_check_device(lua_State *L, const char *name)
{
    wane_device *d = wane_bind_device(L), *host = wane_bind_host(L);
    wane_err e;
    if (!name || !strcmp(name, d->name)) return d;
    if (!strcmp(name, "host") || !strcmp(name, "cpu")) return host;
    if (!strcmp(name, "cuda") && !strncmp(d->name, "cuda:", 5)) return d;
    char shown[64];
    wane_escape(shown, sizeof shown, name, strlen(name));
    if (strncmp(name, "cuda", 4))
        luaL_error(L, "no device is called \"%s\"; use cpu or cuda", shown);
    wane_fail(&e, WANE_EDEVICE, "%s is not open; open it first: wane.device { name = \"%s\" }",
              shown, shown);
    wane_raise(L, &e);
    return NULL;
}

static bool is_integer(wane_dtype t)
{
    return t != WANE_F32 && t != WANE_F16 && t != WANE_BF16;
}

static wane_dtype check_dtype(lua_State *L, const char *name)
{
    wane_dtype t;
    if (!wane_dtype_parse(name, &t))
        luaL_error(L, "no dtype is called \"%s\"; there are f32, f16, bf16, i8, u8, i32, i64",
                   name);
    return t;
}

wane_dtype wane_opt_dtype(lua_State *L, int arg, wane_dtype otherwise)
{
    const char *name = wane_opt_string(L, arg, "dtype", NULL);
    return name ? check_dtype(L, name) : otherwise;
}

static int64_t check_size(lua_State *L, int arg, int index)
{
    int whole;
    lua_Integer n = lua_tointegerx(L, index, &whole);
    luaL_argcheck(L, whole && n >= 0, arg, "a shape is made of whole numbers of at least 0");
    return n;
}

int wane_check_shape(lua_State *L, int arg, int64_t shape[WANE_RANK])
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        shape[0] = check_size(L, arg, arg);
        return 1;
    }
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer rank = luaL_len(L, arg);
    luaL_argcheck(L, rank <= WANE_RANK, arg, "a tensor has at most 8 dimensions");
    for (lua_Integer i = 0; i < rank; i++) {
        lua_geti(L, arg, i + 1);
        shape[i] = check_size(L, arg, -1);
        lua_pop(L, 1);
    }
    return (int)rank;
}

void wane_push_shape(lua_State *L, int rank, const int64_t *shape)
{
    lua_createtable(L, rank, 0);
    for (int i = 0; i < rank; i++) {
        lua_pushinteger(L, shape[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

/* A dimension given from 1, as the core counts. */
static int check_dim(lua_State *L, int arg, const wane_tensor *t)
{
    lua_Integer dim = luaL_checkinteger(L, arg);
    if (dim < 1 || dim > t->rank)
        luaL_argerror(L, arg,
                      lua_pushfstring(L, "no dimension %I in a tensor of rank %d", dim, t->rank));
    return (int)dim - 1;
}

/* One element, of a tensor that has one. */
static wane_status read_one(wane_tensor *t, int64_t *whole, float *real, wane_err *e)
{
    if (is_integer(t->dtype)) return wane_tensor_read(t, WANE_I64, whole, e);
    return wane_tensor_read(t, WANE_F32, real, e);
}

static wane_status read_at(wane_tensor *t, int64_t index, int64_t *whole, float *real, wane_err *e)
{
    wane_tensor *one;
    wane_status s = wane_tensor_select(t, 0, index, &one, e);
    if (s) return s;
    s = read_one(one, whole, real, e);
    wane_tensor_release(one);
    return s;
}

static void push_number(lua_State *L, wane_dtype dtype, int64_t whole, float real)
{
    if (is_integer(dtype))
        lua_pushinteger(L, whole);
    else
        lua_pushnumber(L, (lua_Number)real);
}

/* t[i]: a number of a vector, else the part without its first dimension; nil past the end */
static int at_index(lua_State *L)
{
    wane_tensor *t = wane_check_tensor(L, 1), *part;
    lua_Integer i = lua_tointeger(L, 2);
    wane_err e;
    int64_t whole = 0;
    float real = 0;
    if (t->rank == 0)
        return luaL_error(L, "a tensor of rank 0 has no elements to index; take :number()");
    if (i < 1 || i > t->shape[0]) return 0;
    if (t->rank == 1) {
        WANE_TRY(L, e, read_at(wane_check_tensor(L, 1), i - 1, &whole, &real, &e));
        push_number(L, wane_check_tensor(L, 1)->dtype, whole, real);
        return 1;
    }
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_select(wane_check_tensor(L, 1), 0, i - 1, &part, &e));
    return wane_give_tensor(L, box, part);
}

static int m_index(lua_State *L)
{
    if (lua_isinteger(L, 2)) return at_index(L);
    wane_tensor *t = wane_check_tensor(L, 1);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (!strcmp(key, "shape"))
        wane_push_shape(L, t->rank, t->shape);
    else if (!strcmp(key, "dtype"))
        lua_pushstring(L, wane_dtype_name(t->dtype));
    else if (!strcmp(key, "device"))
        lua_pushstring(L, wane_tensor_device(t)->name);
    else if (!strcmp(key, "rank"))
        lua_pushinteger(L, t->rank);
    else
        lua_pushnil(L);
    return 1;
}

static int m_len(lua_State *L)
{
    wane_tensor *t = wane_check_tensor(L, 1);
    if (t->rank == 0) return luaL_error(L, "a tensor of rank 0 has no length");
    lua_pushinteger(L, t->shape[0]);
    return 1;
}

static int l_slice(lua_State *L)
{
    wane_tensor *t = wane_check_tensor(L, 1), *part;
    int dim = check_dim(L, 2, t);
    lua_Integer first = luaL_checkinteger(L, 3), last = luaL_optinteger(L, 4, t->shape[dim]);
    wane_err e;
    if (first < 1 || last > t->shape[dim] || last < first - 1)
        return luaL_error(L, "%I to %I are not all within dimension %d of size %I", first, last,
                          dim + 1, (lua_Integer)t->shape[dim]);
    wane_box *box = newbox(L);
    WANE_TRY(
        L, e,
        wane_tensor_slice(wane_check_tensor(L, 1), dim, first - 1, last - first + 1, &part, &e));
    return wane_give_tensor(L, box, part);
}

/* A view where it can be one, else of a copy. */
static wane_status reshape(wane_tensor *t, int rank, const int64_t *shape, wane_tensor **out,
                           wane_err *e)
{
    wane_tensor *copy;
    if (wane_tensor_contiguous(t)) return wane_tensor_reshape(t, rank, shape, out, e);
    wane_status s = wane_tensor_copy_to(t, wane_tensor_device(t), t->dtype, &copy, e);
    if (s) return s;
    s = wane_tensor_reshape(copy, rank, shape, out, e);
    wane_tensor_release(copy);
    return s;
}

static int l_reshape(lua_State *L)
{
    int64_t shape[WANE_RANK];
    wane_tensor *made;
    wane_err e;
    wane_check_tensor(L, 1);
    int rank = wane_check_shape(L, 2, shape);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, reshape(wane_check_tensor(L, 1), rank, shape, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_transpose(lua_State *L)
{
    wane_tensor *made;
    wane_err e;
    wane_check_tensor(L, 1);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_transpose(wane_check_tensor(L, 1), &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_matmul(lua_State *L)
{
    wane_tensor *made;
    wane_err e;
    wane_check_tensor(L, 1);
    wane_check_tensor(L, 2);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_matmul(wane_check_tensor(L, 1), wane_check_tensor(L, 2), &made, &e));
    return wane_give_tensor(L, box, made);
}

/* One of the two is a tensor; the other a tensor or a number. */
static int binary(lua_State *L, wane_binary_op op)
{
    wane_tensor *made;
    wane_err e;
    for (int i = 1; i <= 2; i++) {
        if (lua_type(L, i) == LUA_TNUMBER) continue;
        if (!luaL_testudata(L, i, wane_tensor_type.name))
            return luaL_typeerror(L, i, "tensor or number");
        wane_check_tensor(L, i);
    }
    lua_settop(L, 2);
    wane_box *box = newbox(L);
    if (lua_type(L, 1) == LUA_TNUMBER)
        WANE_TRY(
            L, e,
            wane_tensor_scalar(wane_check_tensor(L, 2), lua_tonumber(L, 1), true, op, &made, &e));
    else if (lua_type(L, 2) == LUA_TNUMBER)
        WANE_TRY(
            L, e,
            wane_tensor_scalar(wane_check_tensor(L, 1), lua_tonumber(L, 2), false, op, &made, &e));
    else
        WANE_TRY(
            L, e,
            wane_tensor_binary(wane_check_tensor(L, 1), wane_check_tensor(L, 2), op, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int m_add(lua_State *L)
{
    return binary(L, WANE_ADD);
}
static int m_sub(lua_State *L)
{
    return binary(L, WANE_SUB);
}
static int m_mul(lua_State *L)
{
    return binary(L, WANE_MUL);
}
static int m_div(lua_State *L)
{
    return binary(L, WANE_DIV);
}

static int unary(lua_State *L, wane_unary_op op)
{
    wane_tensor *made;
    wane_err e;
    wane_check_tensor(L, 1);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_unary(wane_check_tensor(L, 1), op, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int m_unm(lua_State *L)
{
    return unary(L, WANE_NEG);
}
static int l_abs(lua_State *L)
{
    return unary(L, WANE_ABS);
}
static int l_sqrt(lua_State *L)
{
    return unary(L, WANE_SQRT);
}
static int l_exp(lua_State *L)
{
    return unary(L, WANE_EXP);
}
static int l_log(lua_State *L)
{
    return unary(L, WANE_LOG);
}

/* t:sum() is a number, t:sum(dim) a tensor in which that dimension has size 1 */
static int summary(lua_State *L, wane_summary what)
{
    wane_tensor *t = wane_check_tensor(L, 1), *made;
    wane_err e;
    if (lua_isnoneornil(L, 2)) {
        double value;
        WANE_TRY(L, e, wane_tensor_summary(wane_check_tensor(L, 1), what, &value, &e));
        lua_pushnumber(L, value);
        return 1;
    }
    int dim = check_dim(L, 2, t);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_reduce(wane_check_tensor(L, 1), dim, what, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_sum(lua_State *L)
{
    return summary(L, WANE_TOTAL);
}
static int l_mean(lua_State *L)
{
    return summary(L, WANE_MEAN);
}
static int l_min(lua_State *L)
{
    return summary(L, WANE_LEAST);
}
static int l_max(lua_State *L)
{
    return summary(L, WANE_MOST);
}
static int l_norm(lua_State *L)
{
    return summary(L, WANE_NORM);
}

/* Places counted from 1. NaN's -1 becomes 0. */
static wane_status argmax(wane_tensor *t, int dim, wane_tensor **out, wane_err *e)
{
    wane_tensor *places;
    *out = NULL;
    wane_status s = wane_tensor_argmax(t, dim, &places, e);
    if (s) return s;
    int64_t count = wane_tensor_count(places);
    int32_t *values = malloc((count ? (size_t)count : 1) * sizeof *values);
    if (!values) s = wane_fail(e, WANE_EOOM, "host: no memory for %lld places", (long long)count);
    if (!s) s = wane_tensor_get(places, values, e);
    for (int64_t i = 0; i < count && !s; i++) values[i]++;
    if (!s) s = wane_tensor_put(places, values, e);
    free(values);
    if (s)
        wane_tensor_release(places);
    else
        *out = places;
    return s;
}

static wane_status argmax_all(wane_tensor *t, int64_t *out, wane_err *e)
{
    wane_tensor *place;
    int32_t found = 0;
    wane_status s = wane_tensor_argmax(t, -1, &place, e);
    if (s) return s;
    s = wane_tensor_get(place, &found, e);
    wane_tensor_release(place);
    *out = found;
    return s;
}

static int l_argmax(lua_State *L)
{
    wane_tensor *t = wane_check_tensor(L, 1), *made;
    wane_err e;
    if (lua_isnoneornil(L, 2)) {
        int64_t place;
        WANE_TRY(L, e, argmax_all(wane_check_tensor(L, 1), &place, &e));
        lua_pushinteger(L, place + 1);
        return 1;
    }
    int dim = check_dim(L, 2, t);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, argmax(wane_check_tensor(L, 1), dim, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_to(lua_State *L)
{
    static const char *const names[] = {"dtype", "device", NULL};
    wane_tensor *t = wane_check_tensor(L, 1), *made = NULL;
    wane_dtype dtype = t->dtype;
    const char *device = NULL;
    wane_err e;
    if (lua_type(L, 2) == LUA_TSTRING) {
        if (!wane_dtype_parse(lua_tostring(L, 2), &dtype)) device = lua_tostring(L, 2);
    } else {
        luaL_checktype(L, 2, LUA_TTABLE);
        wane_opt_names(L, 2, "tensor.to", names);
        dtype = wane_opt_dtype(L, 2, dtype);
        device = wane_opt_string(L, 2, "device", NULL);
    }
    wane_device *d = device ? wane_check_device(L, device) : wane_tensor_device(t);
    wane_box *box = newbox(L);
    t = wane_check_tensor(L, 1);
    if (t->dtype == dtype && wane_tensor_device(t) == d)
        return wane_give_tensor(L, box, wane_tensor_retain(t));
    WANE_TRY(L, e, wane_tensor_copy_to(wane_check_tensor(L, 1), d, dtype, &made, &e));
    return wane_give_tensor(L, box, made);
}

/* Pushes the elements of dimensions dim .. as nested tables; next is the first one's place. */
static void push_numbers(lua_State *L, const wane_tensor *t, int dim, const void *values,
                         int64_t *next)
{
    if (dim == t->rank) {
        int64_t i = (*next)++;
        if (is_integer(t->dtype))
            lua_pushinteger(L, ((const int64_t *)values)[i]);
        else
            lua_pushnumber(L, (lua_Number)((const float *)values)[i]);
        return;
    }
    int64_t n = t->shape[dim];
    lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
    for (int64_t i = 1; i <= n; i++) {
        push_numbers(L, t, dim + 1, values, next);
        lua_rawseti(L, -2, i);
    }
}

static int l_numbers(lua_State *L)
{
    wane_tensor *t = wane_check_tensor(L, 1);
    wane_dtype wide = is_integer(t->dtype) ? WANE_I64 : WANE_F32;
    wane_tensor about =
        *t; /* shape and dtype only: what :close() in a finalizer cannot take away */
    int64_t next = 0;
    wane_err e;
    luaL_checkstack(L, 2 * WANE_RANK, "too many dimensions");
    void *values = wane_bind_scratch(L, (size_t)wane_tensor_count(t) * wane_dtype_bytes(wide));
    WANE_TRY(L, e, wane_tensor_read(wane_check_tensor(L, 1), wide, values, &e));
    push_numbers(L, &about, 0, values, &next);
    return 1;
}

static int l_number(lua_State *L)
{
    wane_tensor *t = wane_check_tensor(L, 1);
    wane_dtype dtype = t->dtype;
    int64_t whole = 0;
    float real = 0;
    wane_err e;
    if (wane_tensor_count(t) != 1)
        return luaL_error(L, "a tensor of %I elements is not one number; take :numbers()",
                          (lua_Integer)wane_tensor_count(t));
    WANE_TRY(L, e, read_one(wane_check_tensor(L, 1), &whole, &real, &e));
    push_number(L, dtype, whole, real);
    return 1;
}

static int m_eq(lua_State *L)
{
    wane_err e;
    bool same;
    if (!luaL_testudata(L, 1, wane_tensor_type.name) ||
        !luaL_testudata(L, 2, wane_tensor_type.name)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    WANE_TRY(L, e, wane_tensor_equal(wane_check_tensor(L, 1), wane_check_tensor(L, 2), &same, &e));
    lua_pushboolean(L, same);
    return 1;
}

static int l_hash(lua_State *L)
{
    char hex[65];
    wane_err e;
    WANE_TRY(L, e, wane_tensor_hash(wane_check_tensor(L, 1), hex, &e));
    lua_pushstring(L, hex);
    return 1;
}

static const wane_reg methods[] = {
    {"slice", l_slice,
     "slice(dim, first, last) -> a view of those rows, columns, ...; last is the end if absent"},
    {"reshape", l_reshape,
     "reshape(shape) -> the same elements in another shape; a view where rows are not apart"},
    {"transpose", l_transpose,
     "transpose() -> a matrix with rows and columns exchanged; raises oom"},
    {"matmul", l_matmul, "matmul(b) -> f32 (n, m) of self (n, k) and b (k, m); raises oom"},
    {"abs", l_abs, "abs() -> f32 tensor; raises oom"},
    {"sqrt", l_sqrt, "sqrt() -> f32 tensor; raises oom"},
    {"exp", l_exp, "exp() -> f32 tensor; raises oom"},
    {"log", l_log, "log() -> f32 tensor of natural logarithms; raises oom"},
    {"sum", l_sum,
     "sum(dim) -> a number, or along dim a tensor that keeps it with size 1; raises oom"},
    {"mean", l_mean, "mean(dim) -> as sum"},
    {"min", l_min, "min(dim) -> as sum"},
    {"max", l_max, "max(dim) -> as sum"},
    {"norm", l_norm, "norm(dim) -> the root of the sum of squares; as sum"},
    {"argmax", l_argmax,
     "argmax(dim) -> the place of the largest, from 1 (0 for NaN), or an i32 tensor of them along "
     "dim"},
    {"to", l_to,
     "to(\"cpu\" | \"cuda\" | dtype | { device, dtype }) -> a copy there, or the same; raises oom, "
     "device"},
    {"numbers", l_numbers, "numbers() -> nested tables of numbers"},
    {"number", l_number, "number() -> the only element"},
    {"hash", l_hash, "hash() -> SHA-256 of dtype, shape and bytes, in hex"},
    {NULL, NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__index", m_index}, {"__len", m_len}, {"__eq", m_eq},   {"__tostring", wane_tensor_tostring},
    {"__add", m_add},     {"__sub", m_sub}, {"__mul", m_mul}, {"__div", m_div},
    {"__unm", m_unm},     {NULL, NULL},
};

const wane_type wane_tensor_type = {"wane.tensor", release, methods, meta};

void wane_open_tensor(lua_State *L)
{
    wane_bind_type(L, &wane_tensor_type);
    wane_bind_type(L, &wane_safetensors_type);
    wane_bind_module(L, "tensor", wane_tensor_functions);
}
