/* device.c - wane.core.device: opening the devices and asking what they hold. */
#include "runtime/base/units.h"
#include "runtime/bind/bind.h"
#include "runtime/tensor/measure.h"

/* open(name, memory, host_memory): bytes, or nil for no limit */
static int l_open(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, "auto");
    uint64_t limit[2];
    for (int i = 0; i < 2; i++) {
        lua_Integer bytes = luaL_optinteger(L, 2 + i, -1);
        limit[i] = bytes < 0 ? UINT64_MAX : (uint64_t)bytes;
    }
    wane_bind_open_device(L, name, limit[0], limit[1]);
    return 0;
}

static int l_info(lua_State *L)
{
    wane_device *d = wane_bind_device(L);
    wane_dev_info info;
    d->k->info(d->dev, &info);
    lua_createtable(L, 0, 8);
    wane_set_string(L, "name", d->name);
    wane_set_string(L, "description", info.name);
    wane_set_integer(L, "threads", info.threads);
    wane_set_bytes(L, "total", info.total);
    wane_set_bytes(L, "free", wane_device_room(d));
    wane_set_bytes(L, "live", d->live);
    wane_set_bytes(L, "peak", d->peak);
    wane_set_integer(L, "allocations", (int64_t)d->allocations);
    wane_set_string(L, "activations", wane_dtype_name(d->k->activations));
    if (d->no_gpu[0]) {
        wane_set_string(L, "no_gpu", d->no_gpu);
    }
    if (d->budget != UINT64_MAX) wane_set_bytes(L, "memory", d->budget);
    if (wane_bind_host(L)->budget != UINT64_MAX)
        wane_set_bytes(L, "host_memory", wane_bind_host(L)->budget);
    wane_set_bytes(L, "host_live", wane_bind_host(L)->live);
    wane_set_bytes(L, "host_peak", wane_bind_host(L)->peak);
    return 1;
}

static int l_live(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)wane_bind_device(L)->live);
    lua_pushinteger(L, (lua_Integer)wane_bind_host(L)->live);
    return 2;
}

static int l_limits(lua_State *L)
{
    wane_limits l;
    wane_err e;
    wane_bind_device(L);
    WANE_TRY(L, e, wane_device_measure(wane_bind_device(L), &l, &e));
    lua_createtable(L, 0, 4);
    lua_pushnumber(L, l.read);
    lua_setfield(L, -2, "read");
    lua_pushnumber(L, l.copy);
    lua_setfield(L, -2, "copy");
    lua_pushnumber(L, l.product);
    lua_setfield(L, -2, "product");
    wane_set_integer(L, "side", l.side);
    return 1;
}

static int l_reset_peak(lua_State *L)
{
    wane_device_reset_peak(wane_bind_device(L));
    wane_device_reset_peak(wane_bind_host(L));
    return 0;
}

/* Without times all fail from there on: WANE_TRY would hide a single one by its second try. */
static int l_fail_after(lua_State *L)
{
    lua_Integer n = luaL_optinteger(L, 1, -1), times = luaL_optinteger(L, 3, 0);
    luaL_argcheck(L, times >= 0, 3, "cannot be negative");
    wane_device *d = lua_toboolean(L, 2) ? wane_bind_host(L) : wane_bind_device(L);
    d->fail_after = n;
    d->fail_times = n < 0 ? 1 : times;
    return 0;
}

static int l_interrupt(lua_State *L)
{
    atomic_store(&wane_bind_context(L)->interrupt, lua_isnone(L, 1) || lua_toboolean(L, 1));
    return 0;
}

static int l_bytes(lua_State *L)
{
    uint64_t bytes;
    wane_err e;
    WANE_TRY(L, e, wane_bytes_parse(luaL_checkstring(L, 1), &bytes, &e));
    lua_pushinteger(L, (lua_Integer)bytes);
    return 1;
}

static int l_format_bytes(lua_State *L)
{
    char text[32];
    lua_Integer bytes = luaL_checkinteger(L, 1);
    luaL_argcheck(L, bytes >= 0, 1, "bytes cannot be negative");
    lua_pushstring(L, wane_bytes_format(text, sizeof text, (uint64_t)bytes));
    return 1;
}

static const wane_reg functions[] = {
    {"open", l_open,
     "open(name, memory, host_memory): other devices from here on; raises device, oom"},
    {"info", l_info,
     "info() -> { name, description, threads, total, free, live, peak, memory, host_memory, "
     "activations, no_gpu "
     "}; "
     "no_gpu: why \"auto\" gave the CPU, where a GPU could be expected"},
    {"limits", l_limits,
     "limits() -> { read, copy, product, side } measured now: bytes a second that are read, or "
     "copied (read and "
     "written), operations a second of a square product; raises oom, interrupted"},
    {"live", l_live, "live() -> device bytes, host bytes in use now"},
    {"reset_peak", l_reset_peak, "reset_peak(): the peaks start again from what is live"},
    {"fail_after", l_fail_after,
     "fail_after(n, on_host, times): for tests, n more allocations succeed, then so many fail, or "
     "all until "
     "fail_after(nil)"},
    {"interrupt", l_interrupt, "interrupt(on): what Ctrl-C does; false takes it back"},
    {"bytes", l_bytes, "bytes(text) -> how many bytes \"24GiB\" is"},
    {"format_bytes", l_format_bytes, "format_bytes(n) -> \"24 GiB\""},
    {NULL, NULL, NULL},
};

void wane_open_device(lua_State *L)
{
    wane_bind_module(L, "device", functions);
}
