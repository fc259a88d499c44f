/* test_parquet.c - Parquet files that Arrow wrote, whole, cut, bent and without memory. Each is
 * read from a copy that is just as long as the file, so that a byte too many is seen. */
#include "tests/c/test.h"

#include <dirent.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/base/json.h"
#include "runtime/data/codecs.h"
#include "runtime/data/parquet.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"

enum { FILE_MOST = 1 << 20 };

typedef struct {
    char *bytes;
    size_t length;
} content;

static content read_file(const char *name)
{
    char path[256], *text;
    content c;
    wane_err e;
    snprintf(path, sizeof path, "tests/reference/parquet/%s", name);
    assert_int_equal(wane_file_read_all(test_tree(path), FILE_MOST, &text, &c.length, &e), WANE_OK);
    c.bytes = malloc(c.length);
    assert_non_null(c.bytes);
    memcpy(c.bytes, text, c.length);
    free(text);
    return c;
}

/* All rows in an array, or NULL and why; on the way none of them may have been lost. */
static wane_status read_rows(wane_parquet *p, json_t **out, wane_err *e)
{
    json_t *rows = json_array(), *row;
    wane_status s = rows ? WANE_OK : WANE_EOOM;
    while (!s && !(s = wane_parquet_row(p, &row, e)) && row)
        if (json_array_append_new(rows, row)) s = wane_fail(e, WANE_EOOM, "no memory");
    if (!s && (int64_t)json_array_size(rows) != wane_parquet_rows(p)) s = WANE_EARG;
    if (s) json_decref(rows);
    *out = s ? NULL : rows;
    return s;
}

static wane_status read_bytes(const void *bytes, size_t length, json_t **out, wane_err *e)
{
    wane_parquet *p;
    *out = NULL;
    wane_status s = wane_parquet_open_bytes(bytes, length, "x.parquet", &p, e);
    if (s) return s;
    wane_parquet_limit(p, FILE_MOST);
    s = read_rows(p, out, e);
    wane_parquet_close(p);
    return s;
}

/* Files NAME.parquet and NAME.VARIANT.parquet hold the rows of NAME.json. */
static void arrows_files(void **state)
{
    int seen = 0;
    DIR *folder = opendir(test_tree("tests/reference/parquet"));
    (void)state;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[300], *end = strstr(entry->d_name, ".parquet");
        json_t *expected, *rows;
        wane_err e;
        wane_parquet *p;
        if (!end) continue;
        seen++;
        snprintf(path, sizeof path, "tests/reference/parquet/%.*s.json",
                 (int)strcspn(entry->d_name, "."), entry->d_name);
        assert_int_equal(wane_json_load(test_tree(path), FILE_MOST, &expected, &e), WANE_OK);
        content c = read_file(entry->d_name);
        wane_status s = read_bytes(c.bytes, c.length, &rows, &e);
        if (s) fail_msg("%s: %s", entry->d_name, e.message);
        if (!json_equal(rows, expected)) fail_msg("%s: other rows", entry->d_name);
        json_decref(rows);
        /* and the same from the file itself */
        snprintf(path, sizeof path, "tests/reference/parquet/%s", entry->d_name);
        assert_int_equal(wane_parquet_open(test_tree(path), &p, &e), WANE_OK);
        assert_int_equal(read_rows(p, &rows, &e), WANE_OK);
        assert_true(json_equal(rows, expected));
        json_decref(rows);
        assert_int_equal(wane_parquet_row(p, &rows, &e), WANE_OK); /* still at the end */
        assert_null(rows);
        wane_parquet_close(p);
        json_decref(expected);
        free(c.bytes);
    }
    closedir(folder);
    assert_true(seen >= 10);
}

static int hex_digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void refused(void **state)
{
    json_t *cases, *row, *rows;
    size_t i;
    wane_err e;
    (void)state;
    assert_int_equal(
        wane_json_load(test_tree("tests/reference/parquet/refused.json"), FILE_MOST, &cases, &e),
        WANE_OK);
    assert_true(json_array_size(cases) > 50);
    json_array_foreach(cases, i, row)
    {
        const char *hex = json_string_value(json_object_get(row, "hex"));
        const char *says = json_string_value(json_object_get(row, "says"));
        const char *name = json_string_value(json_object_get(row, "name"));
        size_t n = strlen(hex) / 2;
        char *bytes = malloc(n ? n : 1);
        assert_non_null(bytes);
        for (size_t k = 0; k < n; k++)
            bytes[k] = (char)(hex_digit(hex[2 * k]) << 4 | hex_digit(hex[2 * k + 1]));
        wane_status s = read_bytes(bytes, n, &rows, &e);
        if (s != WANE_EFORMAT && s != WANE_EUNSUPPORTED) fail_msg("%s: not refused", name);
        if (!strstr(e.message, says)) fail_msg("%s: %s", name, e.message);
        if (strncmp(e.message, "x.parquet: ", 11)) fail_msg("%s: no file in %s", name, e.message);
        assert_string_equal(e.path, "x.parquet");
        free(bytes);
    }
    json_decref(cases);
}

static const char *const small[] = {"category.parquet", "none.parquet", "large_types.parquet",
                                    "choices.parquet", "nested.v2.parquet"};

static void cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        content c = read_file(small[i]);
        for (size_t n = 0; n < c.length; n++) {
            json_t *rows;
            wane_err e;
            char *part = malloc(n ? n : 1);
            assert_non_null(part);
            memcpy(part, c.bytes, n);
            assert_int_equal(read_bytes(part, n, &rows, &e), WANE_EFORMAT);
            assert_non_null(strstr(e.message, "x.parquet: "));
            free(part);
        }
        free(c.bytes);
    }
}

/* Whatever is read then has the rows that the file says, or a reason why not. */
static void bent_anywhere(void **state)
{
    static const unsigned char masks[] = {0x01, 0x02, 0x10, 0x80, 0xff};
    int refusals = 0;
    (void)state;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        content c = read_file(small[i]);
        /* of a long file one bit a byte */
        for (size_t n = 0; n<c.length * sizeof masks; n += c.length> 2000 ? 4 : 1) {
            json_t *rows;
            wane_err e = {.status = WANE_OK};
            c.bytes[n / sizeof masks] ^= (char)masks[n % sizeof masks];
            wane_status s = read_bytes(c.bytes, c.length, &rows, &e);
            assert_true(s == WANE_OK || s == WANE_EFORMAT || s == WANE_EUNSUPPORTED);
            if (s) assert_non_null(strstr(e.message, "x.parquet: "));
            refusals += s != WANE_OK;
            json_decref(rows);
            c.bytes[n / sizeof masks] ^= (char)masks[n % sizeof masks];
        }
        free(c.bytes);
    }
    assert_true(refusals > 1000);
}

/* A checksum on every page: no bent byte of a page gets through. */
static void bent_under_a_checksum(void **state)
{
    json_t *rows;
    wane_err e;
    (void)state;
    content c = read_file("types.gzip.parquet");
    for (size_t n = 4; n < 2000; n += 3) {
        c.bytes[n] ^= 0x20;
        json_t *before = NULL;
        wane_status s = read_bytes(c.bytes, c.length, &rows, &e);
        if (!s) { /* of a page's header, in what is not needed */
            c.bytes[n] ^= 0x20;
            assert_int_equal(read_bytes(c.bytes, c.length, &before, &e), WANE_OK);
            assert_true(json_equal(rows, before));
            c.bytes[n] ^= 0x20;
        }
        json_decref(rows);
        json_decref(before);
        c.bytes[n] ^= 0x20;
    }
    free(c.bytes);
}

static wane_status read_path(const char *path, wane_err *e)
{
    wane_parquet *p;
    json_t *rows = NULL;
    wane_status s = wane_parquet_open(path, &p, e);
    if (s) return s;
    s = read_rows(p, &rows, e);
    json_decref(rows);
    wane_parquet_close(p);
    return s;
}

/* Every allocation fails once; jansson's too. Nothing stays behind: no memory, no open file. */
static void without_memory(void **state)
{
    static const char *const names[] = {"choices.parquet", "nested.v2.parquet", "category.parquet"};
    json_malloc_t before_malloc;
    json_free_t before_free;
    (void)state;
    json_get_alloc_funcs(&before_malloc, &before_free);
    json_set_alloc_funcs(malloc, free); /* by the linker's wrapper */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256];
        wane_err e;
        long n = 0;
        snprintf(path, sizeof path, "tests/reference/parquet/%s", names[i]);
        int open_before = test_open_files();
        for (bool failed = true; failed; n++) {
            test_malloc_fail_after(n);
            wane_status s = read_path(test_tree(path), &e);
            failed = test_malloc_failed();
            test_malloc_fail_after(-1);
            assert_int_equal(s, failed ? WANE_EOOM : WANE_OK);
        }
        assert_true(n > 50);
        assert_int_equal(test_open_files(), open_before);
    }
    json_set_alloc_funcs(before_malloc, before_free);
}

static void columns(void **state)
{
    wane_parquet *p;
    wane_err e;
    json_t *row;
    size_t length;
    (void)state;
    content c = read_file("choices.parquet");
    assert_int_equal(wane_parquet_open_bytes(c.bytes, c.length, "x", &p, &e), WANE_OK);
    assert_int_equal(wane_parquet_rows(p), 40);
    assert_memory_equal(wane_parquet_column(p, 2, &length), "choices", 7);
    assert_int_equal(length, 7);
    assert_null(wane_parquet_column(p, 4, &length));
    assert_null(wane_parquet_column(p, -1, &length));
    wane_parquet_select(p, 2);
    wane_parquet_select(p, 0);
    wane_parquet_select(p, 9);
    assert_int_equal(wane_parquet_row(p, &row, &e), WANE_OK);
    assert_int_equal(json_object_size(row), 2);
    assert_int_equal(json_array_size(json_object_get(json_object_get(row, "choices"), "text")), 4);
    assert_string_equal(json_string_value(json_object_get(row, "id")), "q_000");
    json_decref(row);
    wane_parquet_close(p);
    wane_parquet_close(NULL);
    free(c.bytes);
}

/* A set that is more than it may be, and a failure that stays. */
static void limits(void **state)
{
    wane_parquet *p;
    wane_err e, again;
    json_t *row;
    int rows = 0;
    (void)state;
    content c = read_file("big.parquet");
    assert_int_equal(wane_parquet_open_bytes(c.bytes, c.length, "x", &p, &e), WANE_OK);
    wane_parquet_limit(p, 10000);
    while (!wane_parquet_row(p, &row, &e)) {
        json_decref(row);
        rows++;
    }
    assert_int_equal(rows, 2);
    assert_non_null(strstr(e.message, "row 3: the rows have more than the 9.77 KiB"));
    assert_int_equal(wane_parquet_row(p, &row, &again), WANE_EFORMAT);
    assert_string_equal(again.message, e.message);
    assert_int_equal(wane_parquet_row(p, &row, NULL), WANE_EFORMAT);
    wane_parquet_close(p);
    free(c.bytes);
    assert_int_equal(wane_parquet_open(test_tree("tests/reference"), &p, &e), WANE_EFORMAT);
    assert_int_equal(wane_parquet_open(test_tree("tests/reference/nothing"), &p, &e), WANE_EIO);
    assert_int_equal(wane_parquet_open("/dev/null", &p, &e), WANE_EFORMAT);
    assert_int_equal(wane_parquet_open_bytes(NULL, 0, "x", &p, &e), WANE_EFORMAT);
    assert_null(p);
}

static void checksum(void **state)
{
    (void)state;
    assert_int_equal(wane_crc32("123456789", 9), 0xcbf43926u); /* the check value of CRC-32 */
    assert_int_equal(wane_crc32(NULL, 0), 0);
}

int test_parquet(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrows_files),
        cmocka_unit_test(refused),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(bent_anywhere),
        cmocka_unit_test(bent_under_a_checksum),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(columns),
        cmocka_unit_test(limits),
        cmocka_unit_test(checksum),
    };
    return cmocka_run_group_tests_name("parquet", tests, NULL, NULL);
}
