/* test_bind.c - Lua itself runs out of memory, at each of its allocations, inside bound functions:
 * nothing may be left outside a box. */
#include <lua.h>
#include <lualib.h>

#include <string.h>

#include "runtime/bind/bind.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"
#include "tests/c/test.h"

typedef struct {
    long left; /* allocations that still succeed; -1: all */
    bool failed;
} meter;

static void *metered(void *user, void *p, size_t old, size_t size)
{
    meter *m = user;
    if (size == 0) {
        free(p);
        return NULL;
    }
    /* Lua takes it for granted that a block can shrink */
    bool grows = !p || size > old;
    if (grows && m->left == 0) {
        m->failed = true;
        return NULL;
    }
    if (grows && m->left > 0) m->left--;
    return realloc(p, size);
}

static const char chain[] =
    "local tensor, path = ...\n"
    "local a = tensor.random({ 6, 8 }, { seed = 1, distribution = 'normal', dtype = 'bf16' })\n"
    "local b = tensor.from({ { 1, 2 }, { 3, 4 }, { 5, 6 }, { 7, 8 } }, { dtype = 'f16' })\n"
    "local c <close> = -a:slice(2, 1, 4):abs():matmul(b)\n"
    "local d = (c / c:norm(2) - c:mean(1)) * 2 + tensor.arange(1, 2)\n"
    "local e = d:transpose():reshape { 12 }:to { dtype = 'i8', device = 'host' }\n"
    "local text = tostring(a) .. e:hash() .. #d:numbers() .. e[1] .. a.shape[1] .. c:argmax() .. "
    "a.dtype\n"
    "tensor.save(path, { a = a, b = b:slice(2, 1, 1) }, { metadata = { k = 'v' } })\n"
    "local all = tensor.load(path)\n"
    "assert(all.a == a and #tensor.entries(path) == 2 and #text > 100)\n"
    "pcall(tensor.from, { { 1 }, {} })\n"
    "pcall(tensor.load, path, 'none')\n";

static void lua_runs_out(void **state)
{
    meter m = {-1, false};
    char *folder = test_folder();
    (void)state;
    lua_State *L = lua_newstate(metered, &m);
    assert_non_null(L);
    luaL_openlibs(L);
    luaL_requiref(L, "wane.core", luaopen_wane_core, 0);
    lua_getfield(L, -1, "tensor");
    assert_int_equal(luaL_loadstring(L, chain), LUA_OK);
    const wane_device *d = wane_bind_device(L), *host = wane_bind_host(L);
    uint64_t live = d->live, host_live = host->live;
    int open = test_open_files(), n = 0;
    lua_pushstring(L, test_path(folder, "x.safetensors")); /* core, tensor, chain, path */
    for (m.failed = true; m.failed; n++) {
        lua_pushvalue(L, 3);
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 4);
        m.left = n;
        m.failed = false;
        int rc = lua_pcall(L, 2, 0, 0);
        m.left = -1;
        if (rc && !m.failed) print_error("%s\n", lua_tostring(L, -1));
        assert_true(rc == LUA_OK || m.failed);
        lua_settop(L, 4);
        lua_gc(L, LUA_GCCOLLECT);
        lua_gc(L, LUA_GCCOLLECT);
        if (d->live != live) print_error("after allocation %d\n", n);
        assert_int_equal(d->live, live);
        assert_int_equal(host->live, host_live);
        assert_int_equal(test_open_files(), open);
    }
    assert_true(n > 100); /* or the sweep was none */
    lua_close(L);
    assert_int_equal(test_count(folder), 1);
    test_folder_remove(folder);
}

int test_bind(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lua_runs_out),
    };
    return cmocka_run_group_tests_name("bind", tests, NULL, NULL);
}
