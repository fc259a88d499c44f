/* tensor_make.c - where Lua tensors come from and go to: tables, numbers, safetensors files. */
#include "runtime/bind/tensor.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/tensor/math.h"
#include "runtime/tensor/safetensors.h"

static wane_box *newbox(lua_State *L)
{
    return wane_newbox(L, &wane_tensor_type);
}

static wane_device *opt_device(lua_State *L, int arg)
{
    return wane_check_device(L, wane_opt_string(L, arg, "device", NULL));
}

/* The shape of nested tables, read along their first elements; the value is on top. */
static int shape_of(lua_State *L, int64_t shape[WANE_RANK])
{
    int rank = 0, top = lua_gettop(L);
    luaL_checkstack(L, WANE_RANK + 2, "too many dimensions");
    lua_pushvalue(L, top);
    while (lua_type(L, -1) == LUA_TTABLE) {
        if (rank == WANE_RANK) luaL_error(L, "a tensor has at most %d dimensions", WANE_RANK);
        shape[rank] = (int64_t)lua_rawlen(L, -1);
        if (shape[rank++] == 0) break;
        lua_rawgeti(L, -1, 1);
    }
    lua_settop(L, top);
    return rank;
}

typedef struct {
    int rank;
    int64_t shape[WANE_RANK], next, least, most;
    bool integers;
    void *values; /* float or int64_t */
} filling;

static void add_number(lua_State *L, filling *f)
{
    if (lua_type(L, -1) != LUA_TNUMBER)
        luaL_error(L, "element %I is a %s, not a number", (lua_Integer)f->next + 1,
                   luaL_typename(L, -1));
    if (!f->integers) {
        ((float *)f->values)[f->next++] = (float)lua_tonumber(L, -1);
        return;
    }
    int whole;
    lua_Integer x = lua_tointegerx(L, -1, &whole);
    if (!whole || x < f->least || x > f->most)
        luaL_error(L, "element %I is no whole number from %I to %I", (lua_Integer)f->next + 1,
                   (lua_Integer)f->least, (lua_Integer)f->most);
    ((int64_t *)f->values)[f->next++] = x;
}

/* Adds the value on top, nested as deep as dimensions dim .. go. */
static void add_nested(lua_State *L, filling *f, int dim)
{
    if (dim == f->rank) {
        add_number(L, f);
        return;
    }
    if (lua_type(L, -1) != LUA_TTABLE || (int64_t)lua_rawlen(L, -1) != f->shape[dim])
        luaL_error(L, "the tables of dimension %d are not all of %I elements", dim + 1,
                   (lua_Integer)f->shape[dim]);
    for (int64_t i = 1; i <= f->shape[dim]; i++) {
        lua_rawgeti(L, -1, i);
        add_nested(L, f, dim + 1);
        lua_pop(L, 1);
    }
}

static const char *const make_options[] = {"dtype", "device", NULL};

static int l_from(lua_State *L)
{
    static const int64_t least[WANE_DTYPES] = {
        [WANE_I8] = INT8_MIN, [WANE_I32] = INT32_MIN, [WANE_I64] = INT64_MIN};
    static const int64_t most[WANE_DTYPES] = {[WANE_I8] = INT8_MAX,
                                              [WANE_U8] = UINT8_MAX,
                                              [WANE_I32] = INT32_MAX,
                                              [WANE_I64] = INT64_MAX};
    filling f = {0};
    wane_tensor *made;
    wane_err e;
    uint64_t bytes = 8;
    if (lua_type(L, 1) != LUA_TNUMBER) luaL_checktype(L, 1, LUA_TTABLE);
    wane_opt_names(L, 2, "tensor.from", make_options);
    wane_dtype dtype = wane_opt_dtype(L, 2, WANE_F32);
    wane_device *d = opt_device(L, 2);
    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    f.rank = shape_of(L, f.shape);
    f.integers = most[dtype] > 0;
    f.least = least[dtype];
    f.most = most[dtype];
    for (int i = 0; i < f.rank; i++)
        if (!wane_mul(bytes, (uint64_t)f.shape[i], &bytes) || bytes > (uint64_t)1 << 40)
            return luaL_error(L, "too many elements");
    f.values = wane_bind_scratch(L, (size_t)bytes);
    lua_pushvalue(L, 1);
    add_nested(L, &f, 0);
    wane_box *box = newbox(L);
    WANE_TRY(L, e,
             wane_tensor_from(d, dtype, f.rank, f.shape, f.values, f.integers ? WANE_I64 : WANE_F32,
                              &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_zeros(lua_State *L)
{
    int64_t shape[WANE_RANK];
    wane_tensor *made;
    wane_err e;
    int rank = wane_check_shape(L, 1, shape);
    wane_opt_names(L, 2, "tensor.zeros", make_options);
    wane_dtype dtype = wane_opt_dtype(L, 2, WANE_F32);
    wane_device *d = opt_device(L, 2);
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_zeros(d, dtype, rank, shape, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_random(lua_State *L)
{
    static const char *const uniform[] = {"seed",  "distribution", "low", "high",
                                          "dtype", "device",       NULL};
    static const char *const normal[] = {"seed",  "distribution", "mean", "deviation",
                                         "dtype", "device",       NULL};
    int64_t shape[WANE_RANK];
    wane_random how;
    wane_tensor *made;
    wane_err e;
    int rank = wane_check_shape(L, 1, shape);
    const char *kind = wane_opt_string(L, 2, "distribution", "uniform");
    how.normal = !strcmp(kind, "normal");
    if (!how.normal && strcmp(kind, "uniform"))
        return luaL_error(L, "distribution must be \"uniform\" or \"normal\", not \"%s\"", kind);
    wane_opt_names(L, 2, "tensor.random", how.normal ? normal : uniform);
    wane_dtype dtype = wane_opt_dtype(L, 2, WANE_F32);
    wane_device *d = opt_device(L, 2);
    how.seed = (uint64_t)wane_opt_integer(L, 2, "seed", 0);
    how.centre = wane_opt_number(L, 2, how.normal ? "mean" : "low", 0);
    how.spread = how.normal ? wane_opt_number(L, 2, "deviation", 1)
                            : wane_opt_number(L, 2, "high", 1) - how.centre;
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_tensor_random(d, dtype, rank, shape, how, &made, &e));
    return wane_give_tensor(L, box, made);
}

/* arange(first, last, options), both ends included as in Lua's for; arange(n) is 1 to n */
static int l_arange(lua_State *L)
{
    static const char *const names[] = {"dtype", "device", "step", NULL};
    wane_tensor *made;
    wane_err e;
    double first = 1, last = luaL_checknumber(L, 1);
    int options = 2;
    if (lua_type(L, 2) == LUA_TNUMBER) {
        first = last;
        last = lua_tonumber(L, 2);
        options = 3;
    }
    wane_opt_names(L, options, "tensor.arange", names);
    double step = wane_opt_number(L, options, "step", 1);
    if (step == 0 || !isfinite(step) || !isfinite(first) || !isfinite(last))
        return luaL_error(L, "a range needs finite ends and a step that is not 0");
    wane_dtype dtype = wane_opt_dtype(L, options, WANE_F32);
    wane_device *d = opt_device(L, options);
    /* 0 to 1 by 0.1 has 11 numbers although 0.1 is a little more than a tenth */
    double count = floor((last - first) / step * (1 + 1e-12)) + 1;
    if (count > 0x1p40) return luaL_error(L, "too many elements");
    wane_box *box = newbox(L);
    WANE_TRY(L, e,
             wane_tensor_range(d, dtype, first, step, count > 0 ? (int64_t)count : 0, &made, &e));
    return wane_give_tensor(L, box, made);
}

static void close_file(void *p)
{
    wane_safetensors_close(p);
}
const wane_type wane_safetensors_type = {"wane.safetensors", close_file, NULL, NULL};

/* Pushes a box with the open file, so that it is closed whatever is raised. */
static int open_file(lua_State *L, const char *path)
{
    wane_safetensors *f;
    wane_err e;
    wane_box *box = wane_newbox(L, &wane_safetensors_type);
    WANE_TRY(L, e, wane_safetensors_open(path, &f, &e));
    box->p = f;
    return 1;
}

static int no_such_tensor(lua_State *L, const wane_safetensors *f, const char *name)
{
    wane_err e;
    char path[400], shown[200];
    wane_escape(path, sizeof path, f->path, strlen(f->path));
    wane_escape(shown, sizeof shown, name, strlen(name));
    wane_fail(&e, WANE_EFORMAT, "%s: has no tensor \"%s\"; it has %zu, see wane.tensor.entries",
              path, shown, f->count);
    wane_err_at(&e, "load", NULL, f->path);
    return wane_raise(L, &e);
}

/* Pushes one tensor of a file. */
static int load_entry(lua_State *L, const wane_safetensors *f, const wane_entry *entry,
                      wane_device *d)
{
    wane_tensor *made;
    wane_err e;
    wane_box *box = newbox(L);
    WANE_TRY(L, e, wane_safetensors_load(f, entry, d, &made, &e));
    return wane_give_tensor(L, box, made);
}

static int l_load(lua_State *L)
{
    static const char *const names[] = {"device", NULL};
    const char *path = luaL_checkstring(L, 1), *name = luaL_optstring(L, 2, NULL);
    wane_opt_names(L, 3, "tensor.load", names);
    wane_device *d = opt_device(L, 3);
    lua_settop(L, 3);
    open_file(L, path);
    lua_toclose(L, 4);
    const wane_safetensors *f = wane_check(L, 4, &wane_safetensors_type);
    if (name) {
        const wane_entry *entry = wane_safetensors_find(f, name);
        if (!entry) return no_such_tensor(L, f, name);
        return load_entry(L, f, entry, d);
    }
    lua_createtable(L, 0, f->count < INT32_MAX ? (int)f->count : 0);
    for (size_t i = 0; i < f->count; i++) {
        load_entry(L, f, &f->entries[i], d);
        lua_setfield(L, -2, f->entries[i].name);
    }
    return 1;
}

static int l_entries(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    open_file(L, path);
    lua_toclose(L, 2);
    const wane_safetensors *f = wane_check(L, 2, &wane_safetensors_type);
    lua_createtable(L, f->count < INT32_MAX ? (int)f->count : 0, 0);
    for (size_t i = 0; i < f->count; i++) {
        const wane_entry *t = &f->entries[i];
        lua_createtable(L, 0, 4);
        wane_set_string(L, "name", t->name);
        wane_set_string(L, "dtype", t->supported ? wane_dtype_name(t->dtype) : t->dtype_name);
        wane_push_shape(L, t->rank, t->shape);
        lua_setfield(L, -2, "shape");
        wane_set_integer(L, "bytes", (lua_Integer)(t->end - t->begin));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_newtable(L);
    for (char **m = f->metadata; m && *m; m += 2) {
        lua_pushstring(L, m[1]);
        lua_setfield(L, -2, m[0]);
    }
    return 2;
}

/* What is to be saved, read anew from the table at each try: names are the table's own strings.
 * meta: where the metatable of tensors lies. Allocates nothing, so that no finalizer runs between
 * this and the work. */
static size_t gather(lua_State *L, int table, int meta, wane_named *out, size_t most)
{
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), count++) {
        if (lua_type(L, -2) != LUA_TSTRING || strlen(lua_tostring(L, -2)) != lua_rawlen(L, -2))
            luaL_error(L, "tensors are saved under names, and a name is text without \\0");
        bool is_tensor = lua_getmetatable(L, -1);
        if (is_tensor) {
            is_tensor = lua_rawequal(L, -1, meta);
            lua_pop(L, 1);
        }
        const wane_box *box = is_tensor ? lua_touserdata(L, -1) : NULL;
        if (!box || !box->p)
            luaL_error(L, "\"%s\" is not a tensor, or closed", lua_tostring(L, -2));
        if (out && count == most) luaL_error(L, "the table changed while it was saved");
        if (out) out[count] = (wane_named){lua_tostring(L, -2), box->p};
    }
    return count;
}

/* Slices are copied first. From here on nothing calls Lua. */
static wane_status save(const char *path, const wane_named *given, size_t count,
                        const char *const *metadata, wane_err *e)
{
    wane_status s = WANE_OK;
    wane_named *named = calloc(count ? count : 1, sizeof *named);
    wane_tensor **copies = calloc(count ? count : 1, sizeof *copies);
    if (!named || !copies)
        s = wane_fail(e, WANE_EOOM, "host: no memory to save %zu tensors", count);
    for (size_t i = 0; i < count && !s; i++) {
        const wane_tensor *t = given[i].tensor;
        named[i] = given[i];
        if (wane_tensor_contiguous(t)) continue;
        s = wane_tensor_copy_to(t, wane_tensor_device(t), t->dtype, &copies[i], e);
        named[i].tensor = copies[i];
    }
    if (!s) s = wane_safetensors_write(path, named, count, metadata, e);
    for (size_t i = 0; i < count && copies; i++) wane_tensor_release(copies[i]);
    free(copies);
    free(named);
    return s;
}

/* Key, value, ..., NULL of the table on top, in scratch that takes its place; NULL where it is nil.
 */
static const char *const *check_metadata(lua_State *L)
{
    size_t at = 0;
    int table = lua_gettop(L);
    if (lua_isnil(L, table)) return NULL;
    luaL_checktype(L, table, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), at += 2)
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "metadata is made of strings with names");
    const char **pairs = wane_bind_scratch(L, (at + 1) * sizeof *pairs);
    at = 0;
    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1), at += 2) {
        pairs[at] = lua_tostring(L, -2);
        pairs[at + 1] = lua_tostring(L, -1);
    }
    pairs[at] = NULL;
    return pairs;
}

static int l_save(lua_State *L)
{
    static const char *const names[] = {"metadata", NULL};
    const char *path = luaL_checkstring(L, 1);
    wane_err e;
    luaL_checktype(L, 2, LUA_TTABLE);
    wane_opt_names(L, 3, "tensor.save", names);
    lua_settop(L, 3);
    if (lua_istable(L, 3))
        lua_getfield(L, 3, "metadata");
    else
        lua_pushnil(L);
    const char *const *metadata = check_metadata(L);
    luaL_getmetatable(L, wane_tensor_type.name);
    int meta = lua_gettop(L);
    size_t most = gather(L, 2, meta, NULL, 0);
    wane_named *named = wane_bind_scratch(L, (most ? most : 1) * sizeof *named);
    WANE_TRY(L, e, save(path, named, gather(L, 2, meta, named, most), metadata, &e));
    return 0;
}

const wane_reg wane_tensor_functions[] = {
    {"from", l_from,
     "from(numbers, { dtype, device }) -> a tensor of nested tables, or of one number; f32 unless "
     "told; raises oom"},
    {"zeros", l_zeros, "zeros(shape, { dtype, device }) -> a tensor; raises oom"},
    {"random", l_random,
     "random(shape, { seed, distribution, low, high, mean, deviation, dtype, device }) -> uniform "
     "in [0, 1) or \"normal\"; raises oom"},
    {"arange", l_arange,
     "arange(first, last, { step, dtype, device }) -> both ends included; arange(n) is 1 to n; "
     "raises oom"},
    {"load", l_load,
     "load(file, name, { device }) -> the tensor of that name, or without one a table of all; "
     "raises io, format, unsupported, oom"},
    {"save", l_save,
     "save(file, { name = tensor }, { metadata }): writes a safetensors file; raises io, oom"},
    {"entries", l_entries,
     "entries(file) -> { { name, dtype, shape, bytes } } sorted by name, metadata; raises io, "
     "format"},
    {NULL, NULL, NULL},
};
