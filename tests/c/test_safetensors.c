/* test_safetensors.c - every named fault of a file, a file cut at every byte and changed at every
 * byte of its header, what is written read back. */
#include "tests/c/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/tensor/safetensors.h"
#include "tests/c/files.h"

static int setup(void **state)
{
    return *state = test_folder(), 0;
}
static int teardown(void **state)
{
    return test_folder_remove(*state), 0;
}

static wane_device *cpu(void)
{
    wane_device *d;
    assert_int_equal(wane_device_open("cpu", 64 << 20, &d, NULL), WANE_OK);
    return d;
}

/* A file of this header and that many bytes of data. */
static const char *make(const char *folder, const char *header, size_t length, size_t data)
{
    const char *path = test_path(folder, "x.safetensors");
    char *bytes = calloc(1, 8 + length + data + 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (char)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    test_write(path, bytes, 8 + length + data);
    free(bytes);
    return path;
}

#define F32_AT(begin, end)                                                                         \
    "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" #begin "," #end "]}"
#define SHAPED(shape, end)                                                                         \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[0," #end "]}}"

static const struct {
    const char *header;
    size_t data;
    const char *words; /* part of the message; NULL: the file is good */
} headers[] = {
    {"{}", 0, NULL},
    {"{}   ", 0, NULL},
    {"{\"a\":" F32_AT(0, 8) "}", 8, NULL},
    {"{\"b\":" F32_AT(8, 16) ",\"a\":" F32_AT(0, 8) "}", 16, NULL},
    {"{\"\\u00e9\\\"\":" F32_AT(0, 8) "}", 8, NULL},
    {"{\"__metadata__\":{},\"a\":" F32_AT(0, 8) "}", 8, NULL},
    {SHAPED("[]", 4), 4, NULL},
    {SHAPED("[0,7]", 0), 0, NULL},
    {SHAPED("[1,1,1,1,1,1,1,1]", 4), 4, NULL},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, NULL},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, NULL},
    {"{\"a\":{\"dtype\":\"NEW\",\"shape\":[2],\"data_offsets\":[0,3]}}", 3, NULL},
    {" {\"a\":" F32_AT(0, 8) "}", 8, "does not start with {"},
    {"[]", 0, "does not start with {"},
    {"\"a\"", 0, "does not start with {"},
    {"{\"a\":\"\xff\"}", 0, "not UTF-8 at byte 14"},
    {"{\"a\":\"\xed\xa0\x80\"}", 0, "not UTF-8"},
    {"{\"a\":}", 0, "not JSON"},
    {"{\"a\":" F32_AT(0, 8), 8, "not JSON"},
    {"{}{}", 0, "not JSON"},
    {"{\"a\":" F32_AT(0, 8) ",\"a\":" F32_AT(0, 8) "}", 8, "duplicate"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     "duplicate"},
    {"{\"a\":{\"x\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]}}}",
     0, "nested"},
    {"{\"a\":1}", 0, "needs dtype"},
    {"{\"a\":{}}", 0, "needs dtype"},
    {"{\"a\":{\"dtype\":3,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "needs dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "needs dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "needs dtype"},
    {"{\"\":" F32_AT(0, 8) "}", 8, "a name has"},
    {"{\"a\\nb\":" F32_AT(0, 8) "}", 8, "a name has"},
    {"{\"a\\u0000b\":" F32_AT(0, 8) "}", 8, "NUL byte"},
    {"{\"a\\u009b\":" F32_AT(0, 8) "}", 8, "a name has"},
    {"{\"a\":" F32_AT(0, 8) "}", 7, "cut off: 7 of 8 bytes"},
    {"{\"a\":" F32_AT(0, 8) "}", 0, "cut off"},
    {"{\"a\":" F32_AT(0, 8) "}", 9, "1 bytes follow the last tensor"},
    {"{}", 1, "1 bytes follow"},
    {"{\"a\":" F32_AT(0, 8) ",\"b\":" F32_AT(4, 12) "}", 12,
     "overlaps the tensor before it by 4 bytes"},
    {"{\"a\":" F32_AT(0, 8) ",\"b\":" F32_AT(0, 8) "}", 8, "overlaps"},
    {"{\"a\":" F32_AT(0, 8) ",\"b\":" F32_AT(12, 20) "}", 20, "a hole of 4 bytes"},
    {"{\"a\":" F32_AT(4, 12) "}", 12, "a hole of 4 bytes"},
    {"{\"a\":" F32_AT(8, 0) "}", 8, "reversed"},
    {"{\"a\":" F32_AT(-8, 0) "}", 8, "two whole numbers"},
    {"{\"a\":" F32_AT(0.0, 8) "}", 8, "two whole numbers"},
    {"{\"a\":" F32_AT(0, 8.5) "}", 8, "two whole numbers"},
    {"{\"a\":" F32_AT(0, 8e0) "}", 8, "two whole numbers"},
    {"{\"a\":" F32_AT(0, "8") "}", 8, "two whole numbers"},
    {"{\"a\":" F32_AT(0, 99999999999999999999) "}", 8, "not JSON"},
    {"{\"a\":" F32_AT(0, 9223372036854775807) "}", 8, "span 9223372036854775807"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]}}", 8, "two whole numbers"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8]}}", 8, "two whole numbers"},
    {SHAPED("[3]", 8), 8, "need 12 bytes, its data_offsets span 8"},
    {SHAPED("[]", 8), 8, "need 4 bytes"},
    {SHAPED("[0,7]", 8), 8, "need 0 bytes"},
    {SHAPED("[-2]", 8), 8, "not a whole number"},
    {SHAPED("[2.0]", 8), 8, "not a whole number"},
    {SHAPED("[\"2\"]", 8), 8, "not a whole number"},
    {SHAPED("[4294967296,4294967296]", 8), 8, "more than any memory"},
    {SHAPED("[4611686018427387904,4]", 8), 8, "more than any memory"},
    {SHAPED("[9223372036854775807,9223372036854775807,0]", 0), 0, "more than any memory"},
    {SHAPED("[70368744177664,2]", 8), 8, "no whole number of bytes"},
    {SHAPED("[1,1,1,1,1,1,1,1,1]", 4), 4, "more than 8"},
    {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2,
     "no whole number of bytes"},
    {"{\"__metadata__\":3,\"a\":" F32_AT(0, 8) "}", 8, "__metadata__ is not"},
    {"{\"__metadata__\":{\"k\":3},\"a\":" F32_AT(0, 8) "}", 8,
     "__metadata__: \"k\" is not a string"},
    {"{\"__metadata__\":{\"k\":null}}", 0, "is not a string"},
    {"{\"__metadata__\":{\"k\":\"a\\u0000b\"}}", 0, "is not a string"},
    {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate"},
};

static void headers_good_and_bad(void **state)
{
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        wane_safetensors *f;
        wane_err e = {0};
        const char *path =
            make(*state, headers[i].header, strlen(headers[i].header), headers[i].data);
        wane_status s = wane_safetensors_open(path, &f, &e);
        if (!headers[i].words) {
            if (s) print_error("%s\n%s\n", headers[i].header, e.message);
            assert_int_equal(s, WANE_OK);
            wane_safetensors_close(f);
            continue;
        }
        if (s != WANE_EFORMAT || !strstr(e.message, headers[i].words))
            print_error("%s\nwanted: %s\ngot: %s\n", headers[i].header, headers[i].words,
                        e.message);
        assert_int_equal(s, WANE_EFORMAT);
        assert_non_null(strstr(e.message, headers[i].words));
        assert_non_null(strstr(e.message, path)); /* names the file */
        assert_string_equal(e.path, path);
        assert_null(f);
    }
}

static const struct {
    const char *bytes;
    size_t length;
    const char *words;
} others[] = {
    {"", 0, "empty"},
    {"\2\0\0\0", 4, "not a safetensors file (4 bytes)"},
    {"\0\0\0\0\0\0\0\0", 8, "its header has 0 bytes"},
    {"\1\0\0\0\0\0\0\0{", 9, "its header has 1 bytes"},
    {"\3\0\0\0\0\0\0\0{}", 10, "cut off"},
    {"\1\341\365\5\0\0\0\0{}", 10, "claims a header of 100000001 bytes"},
    {"\377\377\377\377\377\377\377\377{}", 10, "claims a header of 18446744073709551615 bytes"},
    {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", 62, "git lfs pull"},
    {"<!DOCTYPE html><html></html>", 28, "a web page"},
    {"\n  <html lang=\"en\">", 18, "a web page"},
    {"PK\3\4\24\0\0\0\10\10", 10, "zip archive"},
    {"\200\2}q\0(X\4\0\0\0", 11, "a pickle"},
    {"\200\4\225\20\0\0\0\0\0\0\0", 11, "a pickle"},
    {"GGUF\3\0\0\0\0\0\0\0", 12, "GGUF"},
};

static void other_files(void **state)
{
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        wane_safetensors *f;
        wane_err e;
        const char *path = test_path(*state, "x.safetensors");
        test_write(path, others[i].bytes, others[i].length);
        assert_int_equal(wane_safetensors_open(path, &f, &e), WANE_EFORMAT);
        if (!strstr(e.message, others[i].words)) print_error("%s\n", e.message);
        assert_non_null(strstr(e.message, others[i].words));
    }
    wane_safetensors *f;
    wane_err e;
    test_write(test_path(*state, "m.bin"), "0123456789", 10);
    assert_int_equal(wane_safetensors_open(test_path(*state, "m.bin"), &f, &e), WANE_EFORMAT);
    assert_non_null(strstr(e.message, "a pickle"));
    assert_int_equal(wane_safetensors_open(test_path(*state, "none"), &f, &e), WANE_EIO);
    assert_int_equal(wane_safetensors_open(*state, &f, &e), WANE_EIO);
    assert_non_null(strstr(e.message, "Is a directory"));
    assert_int_equal(wane_safetensors_open("/dev/null", &f, &e), WANE_EIO);
}

static wane_tensor *numbers(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape,
                            int seed)
{
    wane_tensor *t;
    assert_int_equal(wane_tensor_new(d, dtype, rank, shape, &t, NULL), WANE_OK);
    unsigned char *bytes = malloc((size_t)wane_tensor_bytes(t) + 1);
    assert_non_null(bytes);
    for (uint64_t i = 0; i < wane_tensor_bytes(t); i++)
        bytes[i] = (unsigned char)(i * 31 + (unsigned)seed);
    assert_int_equal(wane_tensor_put(t, bytes, NULL), WANE_OK);
    free(bytes);
    return t;
}

enum { SET = 9 };
static const char *const set_names[SET] = {"b",    "a",      "d", "c", "f", "\xc3\xa9 \"\\",
                                           "zero", "scalar", "g"};

/* One tensor of each dtype, an empty one and one of rank 0. */
static void make_set(wane_device *d, wane_named set[SET])
{
    static const int64_t shape[] = {3, 5}, empty[] = {4, 0};
    for (int i = 0; i < SET; i++) {
        set[i].name = set_names[i];
        set[i].tensor = i < WANE_DTYPES ? numbers(d, (wane_dtype)i, 2, shape, i) : NULL;
    }
    wane_tensor_release((wane_tensor *)set[6].tensor);
    set[6].tensor = numbers(d, WANE_BF16, 2, empty, 0);
    set[7].tensor = numbers(d, WANE_F32, 0, NULL, 7);
    set[8].tensor = numbers(d, WANE_I64, 1, shape, 8);
}

static void release_set(wane_named set[SET])
{
    for (int i = 0; i < SET; i++) wane_tensor_release((wane_tensor *)set[i].tensor);
}

static void written_reads_back(void **state)
{
    static const char *const metadata[] = {"made by", "a \"test\"", NULL};
    wane_device *d = cpu();
    wane_named set[SET];
    wane_safetensors *f;
    wane_err e;
    const char *path = test_path(*state, "x.safetensors");
    uint64_t live = d->live;
    make_set(d, set);
    assert_int_equal(wane_safetensors_write(path, set, SET, metadata, &e), WANE_OK);
    assert_int_equal(test_count(*state), 1);
    assert_int_equal(wane_safetensors_open(path, &f, &e), WANE_OK);
    assert_int_equal(f->count, SET);
    assert_int_equal(f->data % 8, 0);
    for (size_t i = 1; i < f->count; i++)
        assert_true(strcmp(f->entries[i - 1].name, f->entries[i].name) < 0);
    uint64_t last[9] = {0}; /* where the last tensor of each size of element begins */
    for (int i = 0; i < SET; i++) {
        const wane_entry *entry = wane_safetensors_find(f, set[i].name);
        wane_tensor *t;
        assert_non_null(entry);
        size_t width = wane_dtype_bytes(set[i].tensor->dtype);
        if (entry->begin > last[width]) last[width] = entry->begin;
        assert_int_equal(entry->begin % width, 0);
        assert_int_equal(wane_safetensors_load(f, entry, d, &t, &e), WANE_OK);
        assert_int_equal(t->rank, set[i].tensor->rank);
        assert_int_equal(t->dtype, set[i].tensor->dtype);
        assert_int_equal(wane_tensor_bytes(t), wane_tensor_bytes(set[i].tensor));
        if (wane_tensor_bytes(t))
            assert_memory_equal(wane_tensor_mat(t).data, wane_tensor_mat(set[i].tensor).data,
                                wane_tensor_bytes(t));
        wane_tensor_release(t);
    }
    assert_true(last[8] < last[4] && last[4] < last[2] && last[2] < last[1]);
    int found = 0;
    for (char **m = f->metadata; *m; m += 2) {
        found += !strcmp(m[0], "format") && !strcmp(m[1], "pt");
        found += !strcmp(m[0], "made by") && !strcmp(m[1], "a \"test\"");
    }
    assert_int_equal(found, 2);
    assert_null(wane_safetensors_find(f, "none"));
    wane_safetensors_close(f);
    wane_safetensors_close(NULL);
    release_set(set);
    assert_int_equal(d->live, live);
    wane_device_release(d);
}

static void refused_to_write(void **state)
{
    wane_device *d = cpu();
    int64_t shape[] = {2, 3};
    wane_tensor *t = numbers(d, WANE_F32, 2, shape, 1), *column;
    wane_err e;
    const char *path = test_path(*state, "x.safetensors");
    assert_int_equal(wane_tensor_slice(t, 1, 0, 1, &column, &e), WANE_OK);
    const struct {
        wane_named set[2];
        size_t count;
    } row[] = {{{{"a", t}, {"a", t}}, 2}, {{{"", t}}, 1},     {{{"__metadata__", t}}, 1},
               {{{"a\n", t}}, 1},         {{{"\xff", t}}, 1}, {{{"c", column}}, 1}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(wane_safetensors_write(path, row[i].set, row[i].count, NULL, &e),
                         WANE_EARG);
    assert_int_equal(test_count(*state), 0);
    wane_named good = {"a", t};
    assert_int_equal(wane_safetensors_write(test_path(*state, "no/x"), &good, 1, NULL, &e),
                     WANE_EIO);
    assert_int_equal(wane_safetensors_write(path, NULL, 0, NULL, &e),
                     WANE_OK); /* no tensors is a file, too */
    atomic_int stop = 1;
    d->interrupt = &stop;
    assert_int_equal(wane_safetensors_write(path, &good, 1, NULL, &e), WANE_EINTERRUPTED);
    assert_int_equal(test_count(*state), 1);
    wane_tensor_release(t);
    wane_tensor_release(column);
    wane_device_release(d);
}

/* The bytes of a file with all of the set in it. */
static char *toy(const char *folder, size_t *length)
{
    wane_device *d = cpu();
    wane_named set[SET];
    char *bytes;
    make_set(d, set);
    const char *path = test_path(folder, "toy.safetensors");
    assert_int_equal(wane_safetensors_write(path, set, SET, NULL, NULL), WANE_OK);
    assert_int_equal(wane_file_read_all(path, 1 << 20, &bytes, length, NULL), WANE_OK);
    release_set(set);
    wane_device_release(d);
    return bytes;
}

static void cut_at_every_byte(void **state)
{
    size_t length;
    char *bytes = toy(*state, &length);
    const char *path = test_path(*state, "cut.safetensors");
    for (size_t n = 0; n < length; n++) {
        wane_safetensors *f;
        wane_err e;
        test_write(path, bytes, n);
        assert_int_equal(wane_safetensors_open(path, &f, &e), WANE_EFORMAT);
        assert_true(e.message[0] && !strchr(e.message, '\n'));
    }
    free(bytes);
}

/* Whatever a byte of the header becomes: a refusal, or a file whose tensors all load. */
static void every_header_byte_changed(void **state)
{
    static const unsigned char values[] = {0,   '"', '{', '}', '[',  ']',  ',', ':',
                                           '0', '9', '-', 'e', '\\', 0x80, 0xff};
    size_t length;
    char *bytes = toy(*state, &length);
    const char *path = test_path(*state, "bent.safetensors");
    wane_device *d = cpu();
    uint64_t live = d->live;
    int opened = 0;
    size_t header = (unsigned char)bytes[0] + 256u * (unsigned char)bytes[1];
    for (size_t i = 0; i < 8 + header; i++) {
        for (size_t v = 0; v < sizeof values; v++) {
            wane_safetensors *f;
            wane_err e;
            char kept = bytes[i];
            bytes[i] = (char)values[v];
            test_write(path, bytes, length);
            bytes[i] = kept;
            wane_status s = wane_safetensors_open(path, &f, &e);
            if (s) {
                assert_int_equal(s, WANE_EFORMAT);
                continue;
            }
            opened++;
            for (size_t j = 0; j < f->count; j++) {
                wane_tensor *t;
                s = wane_safetensors_load(f, &f->entries[j], d, &t, &e);
                assert_int_equal(s, f->entries[j].supported ? WANE_OK : WANE_EUNSUPPORTED);
                wane_tensor_release(t);
            }
            wane_safetensors_close(f);
        }
    }
    assert_true(opened > 0); /* a letter of a name, at least */
    assert_int_equal(d->live, live);
    wane_device_release(d);
    free(bytes);
}

static void unsupported_dtypes(void **state)
{
    static const char header[] =
        "{\"a\":{\"dtype\":\"F8_E4M3FNUZ\",\"shape\":[2],\"data_offsets\":[0,2]}}";
    wane_device *d = cpu();
    wane_safetensors *f;
    wane_tensor *t;
    wane_err e;
    char bytes[2];
    assert_int_equal(wane_safetensors_open(make(*state, header, strlen(header), 2), &f, &e),
                     WANE_OK);
    assert_false(f->entries[0].supported);
    assert_string_equal(f->entries[0].dtype_name, "F8_E4M3FNUZ");
    assert_int_equal(wane_safetensors_load(f, &f->entries[0], d, &t, &e), WANE_EUNSUPPORTED);
    assert_int_equal(e.status, WANE_EUNSUPPORTED);
    assert_null(t);
    assert_non_null(strstr(e.message, "F8_E4M3FNUZ; wane reads F32"));
    assert_int_equal(wane_safetensors_read(f, &f->entries[0], 0, 2, bytes, &e), WANE_OK);
    assert_int_equal(wane_safetensors_read(f, &f->entries[0], 1, 2, bytes, &e), WANE_EARG);
    assert_int_equal(wane_safetensors_read(f, &f->entries[0], UINT64_MAX, 2, bytes, &e), WANE_EARG);
    wane_safetensors_close(f);
    wane_device_release(d);
}

static void changed_while_open(void **state)
{
    wane_device *d = cpu();
    uint64_t live = d->live;
    wane_err e;
    size_t length;
    char *bytes = toy(*state, &length);
    const char *path = test_path(*state, "toy.safetensors");
    for (int how = 0; how < 2; how++) {
        wane_safetensors *f;
        wane_tensor *t;
        test_write(path, bytes, length);
        assert_int_equal(wane_safetensors_open(path, &f, &e), WANE_OK);
        if (how == 0) {
            assert_int_equal(truncate(path, (off_t)f->data), 0);
        } else {
            usleep(20000); /* the clock of the file system is coarse */
            test_write(path, bytes, length);
        }
        assert_int_equal(wane_safetensors_load(f, wane_safetensors_find(f, "b"), d, &t, &e),
                         WANE_EFORMAT);
        assert_non_null(strstr(e.message, how ? "changed while reading; start again"
                                              : "changed while reading: it now ends"));
        assert_null(t);
        wane_safetensors_close(f);
    }
    assert_int_equal(d->live, live);
    wane_device_release(d);
    free(bytes);
}

static void many_tensors(void **state)
{
    enum { COUNT = 5000 };
    char *header = malloc(COUNT * 80), *at = header;
    wane_safetensors *f;
    wane_err e;
    *at++ = '{';
    for (int i = 0; i < COUNT; i++)
        at += sprintf(at, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                      i ? "," : "", i, i, i + 1);
    *at++ = '}';
    assert_int_equal(
        wane_safetensors_open(make(*state, header, (size_t)(at - header), COUNT), &f, &e), WANE_OK);
    assert_int_equal(f->count, COUNT);
    assert_int_equal(wane_safetensors_find(f, "t4321")->begin, 4321);
    wane_safetensors_close(f);
    free(header);
}

/* What would cost far more memory than the file has bytes is refused before it is made a tree. */
static void more_than_any_file_needs(void **state)
{
    enum { COUNT = 1000003 };
    static const struct {
        const char *start, *each, *words;
        int count;
    } row[] = {{"{\"__metadata__\":{", "\"%d\":\"\"", "more than 100000 entries", 100002},
               {"{", "\"%d\":{}", "more than 1000000 tensors", COUNT}};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        char *header = malloc(COUNT * 16), *at = header;
        wane_safetensors *f;
        wane_err e;
        assert_non_null(header);
        at += sprintf(at, "%s", row[r].start);
        for (int i = 0; i < row[r].count; i++) {
            if (i) *at++ = ',';
            at += sprintf(at, row[r].each, i);
        }
        at += sprintf(at, r ? "}" : "}}");
        assert_int_equal(
            wane_safetensors_open(make(*state, header, (size_t)(at - header), 0), &f, &e),
            WANE_EFORMAT);
        if (!strstr(e.message, row[r].words)) print_error("%s\n", e.message);
        assert_non_null(strstr(e.message, row[r].words));
        free(header);
    }
}

static void no_memory_for_a_tensor(void **state)
{
    wane_device *d = cpu();
    uint64_t live = d->live;
    size_t length;
    free(toy(*state, &length));
    wane_safetensors *f;
    wane_tensor *t;
    wane_err e;
    assert_int_equal(wane_safetensors_open(test_path(*state, "toy.safetensors"), &f, &e), WANE_OK);
    d->fail_after = 0;
    assert_int_equal(wane_safetensors_load(f, wane_safetensors_find(f, "b"), d, &t, &e), WANE_EOOM);
    assert_null(t);
    assert_string_equal(e.path, f->path);
    assert_int_equal(d->live, live);
    assert_int_equal(wane_safetensors_load(f, wane_safetensors_find(f, "b"), d, &t, &e), WANE_OK);
    wane_tensor_release(t);
    wane_safetensors_close(f);
    wane_device_release(d);
}

int test_safetensors(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(headers_good_and_bad, setup, teardown),
        cmocka_unit_test_setup_teardown(other_files, setup, teardown),
        cmocka_unit_test_setup_teardown(written_reads_back, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_to_write, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_at_every_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(every_header_byte_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(unsupported_dtypes, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_while_open, setup, teardown),
        cmocka_unit_test_setup_teardown(many_tensors, setup, teardown),
        cmocka_unit_test_setup_teardown(more_than_any_file_needs, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory_for_a_tensor, setup, teardown),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
