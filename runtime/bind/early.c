/* early.c - wane.core.early: a model's files written while its layers are still being made. */
#include "runtime/save/early.h"

#include "runtime/bind/codes.h"
#include "runtime/bind/model.h"

static void release(void *p)
{
    wane_early_free(p);
}

static const wane_type early_type;

/* begin(model, dir, options) */
static int l_begin(lua_State *L)
{
    wane_err e;
    wane_early *early;
    wane_check_model(L, 1);
    const char *dir = luaL_checkstring(L, 2), *format = wane_opt_string(L, 3, "format", "");
    wane_save_options options = {
        .packing = wane_packing_find(format),
        .dense = WANE_DTYPES,
        .round = wane_opt_boolean(L, 3, "round", false),
        .shard_bytes = (uint64_t)wane_opt_integer(L, 3, "shard_bytes", 0),
    };
    if (!options.packing) return luaL_error(L, "no format %s", format);
    wane_packed_grid g = {
        .bits = (int)wane_opt_integer(L, 3, "bits", 4),
        .act_bits = wane_opt_integer(L, 3, "activation_bits", 16) == 8 ? 8 : 0,
        .group = wane_opt_integer(L, 3, "group_size", -1),
        .symmetric = wane_opt_boolean(L, 3, "symmetric", false),
        .fractional = wane_opt_boolean(L, 3, "fractional", false),
        .head = wane_opt_boolean(L, 3, "head", false),
    };
    wane_box *box = wane_newbox(L, &early_type);
    WANE_TRY(L, e, wane_early_begin(wane_check_model(L, 1), dir, &options, &g, &early, &e));
    box->p = early;
    return 1;
}

static int l_layer(lua_State *L)
{
    wane_err e;
    wane_early *early = wane_check(L, 1, &early_type);
    wane_status s = wane_early_layer(early, wane_check(L, 2, &wane_layer_type), &e);
    return s ? wane_raise(L, &e) : 0;
}

static int l_head(lua_State *L)
{
    wane_err e;
    wane_check(L, 1, &early_type);
    wane_check(L, 2, &wane_codes_type);
    WANE_TRY(
        L, e,
        wane_early_head(wane_check(L, 1, &early_type), wane_check(L, 2, &wane_codes_type), &e));
    return 0;
}

/* finish(early, model, report) */
static int l_finish(lua_State *L)
{
    wane_err e;
    wane_saved told;
    wane_early *early = wane_check(L, 1, &early_type);
    const char *report = luaL_optstring(L, 3, NULL);
    wane_status s = wane_early_finish(early, wane_check_model(L, 2), report, &told, &e);
    if (s) return wane_raise(L, &e);
    lua_pushinteger(L, (lua_Integer)told.bytes);
    lua_pushinteger(L, (lua_Integer)told.loss.rounded);
    lua_pushnumber(L, told.loss.worst);
    return 3;
}

static const wane_reg methods[] = {
    {"layer", l_layer,
     "early:layer(layer): the next one, on the host; raises what has failed since"},
    {"head", l_head, "early:head(codes): after the last layer, where a head was announced"},
    {"finish", l_finish,
     "early:finish(model, report) -> bytes of the weight files, how many numbers were rounded, the "
     "largest change; raises io, unsupported, oom"},
    {NULL, NULL, NULL},
};

static const wane_type early_type = {"wane.early", release, methods, NULL};

static const wane_reg functions[] = {
    {"begin", l_begin,
     "begin(model, dir, { format, round, shard_bytes, bits, group_size, symmetric, "
     "activation_bits, fractional, head }) "
     "-> early: writes what is no layer already; closed before finish it leaves nothing"},
    {NULL, NULL, NULL},
};

void wane_open_early(lua_State *L)
{
    wane_bind_type(L, &early_type);
    wane_bind_module(L, "early", functions);
}
