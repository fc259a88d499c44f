/* test_host.c - the library as an embedding program sees it: wane.h alone, and Lua's own header. */
#include "tests/c/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "runtime/wane.h"

static int open_one(void **state)
{
    wane *w;
    int code = wane_open(&w, NULL);
    *state = w;
    return code;
}

static int close_one(void **state)
{
    wane_close(*state);
    return 0;
}

static void codes(void **state)
{
    static const struct {
        const char *code;
        int exit;
        const char *message; /* what it holds */
    } row[] = {
        {"x = 1", 0, ""},
        {"return", 0, ""},
        {"return 'text'", 0, ""},
        {"return 8", 8, "code returned 8"},
        {"return -1", 0, ""},
        {"x =", 1, "code:1: unexpected symbol near <eof>"},
        {"error('a bug')", 1, "code:1: a bug\nstack traceback:"},
        {"error()", 1, "nil"},
        {"error({})", 1, "table: "},
        {"error(setmetatable({}, {__tostring = function() error('again') end}))", 1, "again"},
        {"error(setmetatable({}, {__tostring = function() return 1 end}))", 1, "1"},
        {"require('wane').fail { code = 'oom', message = 'no room' }", 4,
         "no room\nstack traceback:"},
        {"require('wane').fail { code = 'gate', message = 'lost' }", 8, "lost"},
        {"require('wane').device { name = 'cuda:9' }", 7, "cuda:9: cannot open"},
        {"require('wane').no_such_thing()", 1, "wane has no no_such_thing"},
        {"local function f() return f() + 1 end f()", 1, "stack overflow"},
        {"return require('lfs').attributes('/').mode", 0, ""},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        int code = wane_eval(*state, row[i].code, "=code");
        if (code != row[i].exit || !strstr(wane_message(*state), row[i].message))
            print_message("%s: %d, %s\n", row[i].code, code, wane_message(*state));
        assert_int_equal(code, row[i].exit);
        if (*row[i].message)
            assert_non_null(strstr(wane_message(*state), row[i].message));
        else
            assert_string_equal(wane_message(*state), "");
        assert_int_equal(lua_gettop(wane_lua(*state)), 0);
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void files(void **state)
{
    char path[] = "/tmp/wane-test-XXXXXX", *arguments[] = {"--bits", "4"};
    close(mkstemp(path));
    write_file(path, "assert(arg[0]:find('wane%-test')) assert(arg[2] == '4' and select('#', ...) "
                     "== 2) return 9");
    assert_int_equal(wane_run_file(*state, path, 2, arguments), 9);
    assert_non_null(strstr(wane_message(*state), path));
    write_file(path, "\33Lua");
    assert_int_equal(wane_run_file(*state, path, 0, NULL), 1);
    assert_non_null(strstr(wane_message(*state), "binary"));
    unlink(path);
    assert_int_equal(wane_run_file(*state, path, 0, NULL), 6);
    assert_non_null(strstr(wane_message(*state), "No such file"));
}

static void command_line(void **state)
{
    char *version[] = {"--no-such-flag"};
    assert_int_equal(wane_main(*state, "wane.no_module", 0, NULL), 1);
    assert_non_null(strstr(wane_message(*state), "no_module"));
    int saved = dup(2); /* the command line talks on stderr */
    assert_non_null(freopen("/dev/null", "w", stderr));
    int code = wane_main(*state, "wane.cli", 1, version);
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    assert_int_equal(code, 2);
    assert_string_equal(wane_message(*state), "");
}

static void two_at_once(void **state)
{
    wane *a = *state, *b;
    assert_int_equal(wane_open(&b, &(wane_options){.device = "cpu", .memory = 64 << 20}), 0);
    assert_int_equal(wane_eval(a, "x = 1", NULL), 0);
    assert_int_equal(wane_eval(b, "assert(x == nil) x = 2", NULL), 0);
    assert_int_equal(
        wane_eval(a, "assert(x == 1) assert(not require('wane').device().memory)", NULL), 0);
    wane_interrupt(b);
    assert_int_equal(wane_eval(a, "for i = 1, 1e6 do end", NULL), 0);
    assert_int_equal(wane_eval(b, "for i = 1, 1e6 do end", NULL), 75);
    assert_int_equal(wane_eval(b, "assert(x == 2)", NULL), 0);
    wane_close(b);
    assert_int_equal(wane_eval(a, "assert(x == 1)", NULL), 0);
}

static void options(void **state)
{
    wane *w;
    (void)state;
    assert_int_equal(wane_open(&w, &(wane_options){.device = "no such"}), 1);
    assert_non_null(strstr(wane_message(w), "no device is called \"no such\""));
    /* a wane that did not open refuses all the rest, and says why */
    assert_int_equal(wane_eval(w, "x = 1", NULL), 1);
    assert_non_null(strstr(wane_message(w), "no such"));
    assert_null(wane_lua(w));
    wane_interrupt(w);
    wane_close(w);
    assert_int_equal(wane_open(&w, &(wane_options){.device = "cuda:9"}), 7);
    wane_close(w);
    assert_int_equal(wane_open(&w, &(wane_options){.memory = 1000}), 4);
    wane_close(w);
    assert_int_equal(wane_open(&w, &(wane_options){.memory = 64 << 20, .host_memory = 64 << 20}),
                     0);
    assert_int_equal(wane_eval(w, "assert(require('wane').device().memory == 64 << 20)", NULL), 0);
    wane_close(w);
}

static void nothing(void **state)
{
    (void)state;
    wane_close(NULL);
    wane_interrupt(NULL);
    assert_null(wane_lua(NULL));
    assert_string_not_equal(wane_message(NULL), "");
    assert_int_equal(wane_eval(NULL, "x = 1", NULL), 1);
    assert_true(strlen(wane_version()) >= 5);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *interrupter(void *w)
{
    usleep(50000);
    wane_interrupt(w);
    return NULL;
}

/* The forms that Lua code has of not ending; the last word says which of pcall's kin would hide it.
 */
static const char *const endless[] = {
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "local function f() pcall(f) while true do end end f()",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "while true do xpcall(function() while true do end end, debug.traceback) end",
    "coroutine.wrap(function() while true do end end)()",
    "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "local co = coroutine.create(function() while true do coroutine.yield() end end)\n"
    "while true do coroutine.resume(co) end",
    "local co = coroutine.wrap(function() while true do pcall(function() while true do end end) "
    "end end) co()",
    "while true do local c <close> = setmetatable({}, {__close = function() while true do end "
    "end}) end",
    "while true do local co = coroutine.create(function()\n"
    "  local c <close> = setmetatable({}, {__close = function() while true do end end}) "
    "coroutine.yield() end)\n"
    "  coroutine.resume(co) coroutine.close(co) end",
    "while true do load(function() while true do end end) end",
    "local t = {} for i = 1, 100 do t[i] = i end\n"
    "table.sort(t, function(a, b) while true do end end)",
    "while true do pcall(string.gsub, 'x', 'x', function() while true do end end) end",
    "while true do pcall(error) end",
    "while true do require('wane').try('interrupted', function() while true do end end) end",
    "while true do pcall(require('wane').core.json.encode, {1, 2, 3}) end",
};

static void interrupts(void **state)
{
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        pthread_t thread;
        double began = seconds();
        assert_int_equal(pthread_create(&thread, NULL, interrupter, *state), 0);
        assert_int_equal(wane_eval(*state, endless[i], "=endless"), 75);
        pthread_join(thread, NULL);
        assert_true(seconds() - began <
                    2); /* 0.05 s, and 0.1 s of grace in some; the rest is for slow machines */
        assert_string_equal(wane_message(*state), "interrupted");
        assert_int_equal(wane_eval(*state, "for i = 1, 1e6 do end", NULL), 0); /* it is forgotten */
    }
    assert_int_equal(wane_eval(*state, "debug.sethook()", NULL), 1);
}

static void pcall_still_works(void **state)
{
    static const char code[] =
        "local ok, a, b = pcall(function(...) return ... end, 1, nil) assert(ok and a == 1 and b "
        "== nil)\n"
        "assert(select('#', pcall(function() return nil, nil end)) == 3)\n"
        "local ok, err = pcall(error, 'x') assert(not ok and err == 'x')\n"
        "ok, err = xpcall(function(...) return select('#', ...) end, print, nil, nil) assert(ok "
        "and err == 2)\n"
        "ok, err = xpcall(error, function(m) return m .. '!' end, 'x') assert(not ok and err == "
        "'x!')\n"
        "assert(not pcall(pcall)) assert(not pcall(xpcall, print))\n"
        "local co = coroutine.wrap(function() local ok, v = pcall(function() return "
        "coroutine.yield(1) end)\n"
        "  assert(ok and v == 2) ok, v = xpcall(function() coroutine.yield(2) error('y', 0) end, "
        "function(m) return m end)\n"
        "  assert(not ok and v == 'y') return 3 end)\n"
        "assert(co() == 1) assert(co(2) == 2) assert(co() == 3)\n"
        "assert(load('return 1')() == 1) assert(select(2, load('x =')):find('unexpected'))\n"
        "local d = coroutine.create(function() error('z', 0) end)\n"
        "assert(select(2, coroutine.resume(d)) == 'z') "
        "assert(coroutine.close(coroutine.create(print)))\n"
        "local depth = 0 local function deep() depth = depth + 1 pcall(deep) end deep() "
        "assert(depth > 150)\n";
    assert_int_equal(wane_eval(*state, code, "=code"), 0);
}

/* An allocator that fails every request after the first n. */
static size_t left;

static void *failing(void *ud, void *p, size_t old, size_t size)
{
    (void)ud, (void)old;
    if (!size) return free(p), NULL;
    if (size > old || !p) {
        if (!left) return NULL;
        left--;
    }
    return realloc(p, size);
}

static void no_memory_at_any_point(void **state)
{
    static const char code[] =
        "local json = require('wane.json') local t = json.decode('{\"a\":[1,2,{\"b\":null}]}')\n"
        "json.encode(t, {indent = 2}) pcall(error, 'x') wane_x = coroutine.wrap(function() end)()\n"
        "require('wane.options').check({{name = 'a', kind = 'list', default = {1}}}, {}, 'x')";
    void *ud;
    lua_State *L = wane_lua(*state);
    lua_Alloc before = lua_getallocf(L, &ud);
    int failed, tries = 0;
    do {
        left = (size_t)tries * 3;
        lua_setallocf(L, failing, NULL);
        failed = wane_eval(*state, code, "=code");
        lua_setallocf(L, before, ud);
        assert_true(failed == 0 || failed == 4 || failed == 1);
        if (failed) assert_string_not_equal(wane_message(*state), "");
    } while (failed && ++tries < 3000);
    assert_int_equal(failed, 0);
    assert_true(tries > 20);
    assert_int_equal(wane_eval(*state, code, "=code"), 0);
}

static int again_inside(lua_State *L)
{
    wane *w = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushinteger(L, wane_eval(w, lua_tostring(L, 1), "=inner"));
    return 1;
}

static void a_call_inside_a_call(void **state)
{
    lua_State *L = wane_lua(*state);
    lua_pushlightuserdata(L, *state);
    lua_pushcclosure(L, again_inside, 1);
    lua_setglobal(L, "again");
    assert_int_equal(
        wane_eval(*state, "assert(again('y = 1') == 0 and y == 1) assert(again('error(1)') == 1)",
                  NULL),
        0);
}

int test_host(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(codes, open_one, close_one),
        cmocka_unit_test_setup_teardown(files, open_one, close_one),
        cmocka_unit_test_setup_teardown(command_line, open_one, close_one),
        cmocka_unit_test_setup_teardown(two_at_once, open_one, close_one),
        cmocka_unit_test(options),
        cmocka_unit_test(nothing),
        cmocka_unit_test_setup_teardown(interrupts, open_one, close_one),
        cmocka_unit_test_setup_teardown(pcall_still_works, open_one, close_one),
        cmocka_unit_test_setup_teardown(no_memory_at_any_point, open_one, close_one),
        cmocka_unit_test_setup_teardown(a_call_inside_a_call, open_one, close_one),
    };
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
