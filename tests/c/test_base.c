/* test_base.c - sizes, UTF-8, escaping, JSON's limits, misspelt names. */
#include "tests/c/test.h"

#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/nearest.h"
#include "runtime/base/units.h"

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"24GiB", 25769803776u},
                {"10 MiB", 10485760},
                {"1.5GB", 1500000000},
                {"4096", 4096},
                {"1kb", 1000}};
    static const char *const bad[] = {
        "", "GiB", "-1", "1 XiB", "nan", "1e400", "99999999999TiB", "0x10zz"};
    uint64_t bytes;
    wane_err e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(wane_bytes_parse(good[i].text, &bytes, &e), WANE_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(wane_bytes_parse(bad[i], &bytes, &e), WANE_EARG);
    char out[24];
    assert_string_equal(wane_bytes_format(out, sizeof out, 25769803776u), "24 GiB");
    assert_string_equal(wane_bytes_format(out, sizeof out, 1536), "1.50 KiB");
    assert_string_equal(wane_bytes_format(out, sizeof out, 7), "7 B");
}

static void utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t length, used;
        uint32_t c;
    } row[] = {{"a", 1, 1, 'a'},
               {"\xc3\xa9", 2, 2, 0xe9},
               {"\xe2\x82\xac", 3, 3, 0x20ac},
               {"\xf0\x9f\x98\x80", 4, 4, 0x1f600},
               {"\xc0\x80", 2, 1, 0xfffd},
               {"\xed\xa0\x80", 3, 1, 0xfffd},
               {"\xf0\x9f\x98", 3, 3, 0xfffd},
               {"\xe2\x82", 2, 2, 0xfffd},
               {"\x80", 1, 1, 0xfffd},
               {"\xf4\x90\x80\x80", 4, 1, 0xfffd}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t used;
        unsigned char back[4];
        uint32_t c = wane_utf8_decode((const unsigned char *)row[i].bytes, row[i].length, &used);
        assert_int_equal(c, row[i].c);
        assert_int_equal(used, row[i].used);
        if (c == 0xfffd) continue;
        assert_int_equal(wane_utf8_encode(c, back), row[i].length);
        assert_memory_equal(back, row[i].bytes, row[i].length);
    }
}

static void escaping(void **state)
{
    (void)state;
    char out[64], small[12];
    assert_string_equal(wane_escape(out, sizeof out, "a\x1b[31m\xff\xc3\xa9", 9),
                        "a\\x1b[31m\\xff\xc3\xa9");
    wane_escape(small, sizeof small, "abcdefghijklmnopqrstuvwxyz", 26);
    assert_true(strlen(small) < sizeof small);
    assert_string_equal(small + strlen(small) - 3, "...");
}

static void json_limits(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "{",           "{} x",           "{\"a\":1,\"a\":2}",
        "[01]",     "\"\xff\"",    "[1e999]",        "[NaN]",
        "\"\x01\"", "\"\\ud800\"", "\xef\xbb\xbf{}", "[99999999999999999999]"};
    json_t *j;
    wane_err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(wane_json_parse(bad[i], strlen(bad[i]), "x.json", &j, &e), WANE_EFORMAT);
        assert_null(j);
        assert_non_null(strstr(e.message, "x.json"));
    }
    char deep[200];
    memset(deep, '[', 65), memset(deep + 65, ']', 65);
    assert_int_equal(wane_json_parse(deep, 130, "x.json", &j, &e), WANE_EFORMAT);
    assert_int_equal(e.offset, 64);
    assert_int_equal(wane_json_parse(deep + 1, 128, "x.json", &j, &e), WANE_OK);
    json_decref(j);
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = {"rtn", "hqq", "awq", "gptq", "smoothquant"};
    assert_string_equal(wane_nearest("gtpq", names, 5),
                        "gptq"); /* two letters swapped: one mistake */
    assert_string_equal(wane_nearest("somothqunat", names, 5), "smoothquant");
    assert_string_equal(wane_nearest("gpt", names, 5), "gptq");
    assert_string_equal(wane_nearest("smothqant", names, 5), "smoothquant");
    assert_null(wane_nearest("qtpg", names, 5));
    assert_null(wane_nearest("", names, 5));
}

int test_base(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(utf8),
                                       cmocka_unit_test(escaping), cmocka_unit_test(json_limits),
                                       cmocka_unit_test(nearest_names)};
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
