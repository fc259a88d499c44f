/* test_faults.c - each of the host's allocations fails in turn, below every function of base and
 * tensor; and tensors on a device whose memory C cannot read. */
#include "tests/c/faults.h"

#include <jansson.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/base/json.h"
#include "runtime/tensor/math.h"
#include "runtime/tensor/safetensors.h"
#include "tests/c/files.h"
#include "tests/c/test.h"

typedef struct {
    char *folder;
    wane_device *device;
} fixture;

static int setup(void **state)
{
    fixture *f = malloc(sizeof *f);
    assert_non_null(f);
    f->folder = test_folder();
    assert_int_equal(wane_device_open("cpu", 64 << 20, &f->device, NULL), WANE_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    wane_device_release(f->device);
    test_folder_remove(f->folder);
    free(f);
    return 0;
}

static wane_status write_and_read(fixture *f, wane_err *e)
{
    char *text = NULL;
    size_t length;
    const char *path = test_path(f->folder, "out");
    wane_status s = wane_file_write_all(path, "some bytes", 10, e);
    if (!s) s = wane_file_read_all(path, 100, &text, &length, e);
    free(text);
    return s;
}

static wane_status folders_and_lock(fixture *f, wane_err *e)
{
    wane_lock *lock = NULL;
    wane_status s = wane_dir_make(test_path(f->folder, "a/b/c"), e);
    if (!s) s = wane_lock_take(test_path(f->folder, "a"), &lock, e);
    wane_lock_drop(lock);
    if (!s) s = wane_dir_remove(test_path(f->folder, "a"), e);
    return s;
}

static wane_status parse(fixture *f, wane_err *e)
{
    json_t *root = NULL;
    (void)f;
    static const char text[] = "{\"a\": [1, 2.5, \"text\", {\"b\": null}]}";
    wane_status s = wane_json_parse(text, sizeof text - 1, "x.json", &root, e);
    json_decref(root);
    return s;
}

static wane_status open_a_device(fixture *f, wane_err *e)
{
    wane_device *d;
    (void)f;
    wane_status s = wane_device_open("cpu", 64 << 20, &d, e);
    wane_device_release(d);
    return s;
}

static wane_status save_and_load(fixture *f, wane_err *e)
{
    static const char *const metadata[] = {"key", "value", NULL};
    const char *path = test_path(f->folder, "x.safetensors");
    wane_tensor *a = NULL, *b = NULL, *c = NULL;
    wane_safetensors *file = NULL;
    wane_status s = wane_tensor_range(f->device, WANE_BF16, 0, 1, 5, &a, e);
    if (!s) s = wane_tensor_slice(a, 0, 1, 3, &b, e);
    if (!s) {
        wane_named set[] = {{"a", a}, {"b", b}};
        s = wane_safetensors_write(path, set, 2, metadata, e);
    }
    if (!s) s = wane_safetensors_open(path, &file, e);
    if (!s) s = wane_safetensors_load(file, wane_safetensors_find(file, "b"), f->device, &c, e);
    wane_safetensors_close(file);
    wane_tensor_release(a);
    wane_tensor_release(b);
    wane_tensor_release(c);
    return s;
}

static wane_status compute(fixture *f, wane_err *e)
{
    int64_t shape[] = {6, 8};
    wane_random how = {3, true, 0, 1};
    wane_tensor *t[10] = {NULL};
    double x;
    bool same;
    char hex[65];
    wane_status s = wane_tensor_random(f->device, WANE_BF16, 2, shape, how, &t[0], e);
    if (!s) s = wane_tensor_slice(t[0], 1, 1, 4, &t[1], e);
    if (!s) s = wane_tensor_select(t[0], 1, 2, &t[2], e);
    if (!s) s = wane_tensor_unary(t[2], WANE_ABS, &t[3], e);
    if (!s) s = wane_tensor_scalar(t[1], 2, true, WANE_DIV, &t[4], e);
    if (!s) s = wane_tensor_transpose(t[4], &t[5], e);
    if (!s) s = wane_tensor_matmul(t[4], t[5], &t[6], e);
    if (!s) s = wane_tensor_reduce(t[6], 0, WANE_NORM, &t[7], e);
    if (!s) s = wane_tensor_argmax(t[6], 0, &t[8], e);
    if (!s) s = wane_tensor_copy_to(t[1], f->device, WANE_F16, &t[9], e);
    if (!s) s = wane_tensor_summary(t[9], WANE_MEAN, &x, e);
    if (!s) s = wane_tensor_equal(t[1], t[1], &same, e);
    if (!s) s = wane_tensor_hash(t[1], hex, e);
    for (int i = 0; i < 10; i++) wane_tensor_release(t[i]);
    return s;
}

static const struct {
    const char *name;
    wane_status (*run)(fixture *, wane_err *);
    int least;   /* allocations it makes, at least: the sweep is not empty */
    bool parses; /* jansson tells some failed allocations as syntax errors */
} works[] = {
    {"write and read", write_and_read, 5, false},
    {"folders and lock", folders_and_lock, 2, false},
    {"parse", parse, 5, true},
    {"open a device", open_a_device, 3, false},
    {"save and load", save_and_load, 30, true},
    {"compute", compute, 30, false},
};

static void every_host_allocation_fails(void **state)
{
    fixture *f = *state;
    json_malloc_t old_malloc;
    json_free_t old_free;
    json_get_alloc_funcs(&old_malloc, &old_free);
    json_set_alloc_funcs(malloc, free); /* jansson's own calls are not this program's */
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        uint64_t live = f->device->live;
        int open = test_open_files(), n = 0;
        for (bool failed = true; failed; n++) {
            wane_err e = {0};
            test_malloc_fail_after(n);
            wane_status s = works[i].run(f, &e);
            failed = test_malloc_failed();
            test_malloc_fail_after(-1);
            bool told = s == WANE_EOOM || (works[i].parses && s == WANE_EFORMAT);
            if (failed && !told)
                print_error("%s, allocation %d: %s %s\n", works[i].name, n, wane_status_code(s),
                            e.message);
            assert_true(failed ? told && e.status == s && e.message[0] : s == WANE_OK);
            assert_int_equal(f->device->live, live);
            assert_int_equal(test_open_files(), open);
        }
        if (n <= works[i].least)
            print_error("%s makes only %d allocations\n", works[i].name, n - 1);
        assert_true(n > works[i].least);
    }
    json_set_alloc_funcs(old_malloc, old_free);
    assert_true(test_count(f->folder) <= 3); /* out, x.safetensors, a: nothing half written */
}

static void tensors_on_a_far_device(void **state)
{
    fixture *f = *state;
    wane_device *far = test_far_device(64 << 20), *other = test_far_device(64 << 20);
    wane_err e;
    int64_t shape[] = {700, 1000}; /* more than one piece of staging */
    wane_tensor *t = NULL, *there = NULL, *back = NULL, *elsewhere = NULL, *part = NULL,
                *zeros = NULL;
    bool same;
    char x[65], y[65];
    wane_random how = {1, true, 0, 1};
    uint64_t far_live = far->live, other_live = other->live;
    assert_false(wane_device_is_host(far));
    assert_int_equal(wane_tensor_random(f->device, WANE_F32, 2, shape, how, &t, &e), WANE_OK);
    /* dtype and layout change on the host's side, so that nothing else is made over there */
    uint64_t before = far->allocations;
    assert_int_equal(wane_tensor_copy_to(t, far, WANE_BF16, &there, &e), WANE_OK);
    assert_int_equal(far->allocations, before + 1);
    assert_int_equal(wane_tensor_copy_to(there, f->device, WANE_F32, &back, &e), WANE_OK);
    assert_int_equal(far->allocations, before + 1);
    wane_tensor *half, *wide;
    assert_int_equal(wane_tensor_copy_to(t, f->device, WANE_BF16, &half, &e), WANE_OK);
    assert_int_equal(wane_tensor_copy_to(half, f->device, WANE_F32, &wide, &e), WANE_OK);
    assert_int_equal(wane_tensor_equal(wide, back, &same, &e), WANE_OK);
    assert_true(same);
    assert_int_equal(wane_tensor_equal(half, there, &same, &e), WANE_OK);
    assert_true(same);
    assert_int_equal(wane_tensor_copy_to(there, other, WANE_BF16, &elsewhere, &e), WANE_OK);
    assert_int_equal(wane_tensor_hash(elsewhere, x, &e), WANE_OK);
    assert_int_equal(wane_tensor_hash(half, y, &e), WANE_OK);
    assert_string_equal(x, y);
    wane_tensor *unused;
    assert_int_equal(wane_tensor_binary(t, there, WANE_ADD, &unused, &e), WANE_EARG);
    assert_string_equal(e.message, "one tensor is on cpu, the other on far:0; move one with :to");
    /* a slice with rows apart, from here to there */
    assert_int_equal(wane_tensor_slice(t, 1, 3, 5, &part, &e), WANE_OK);
    wane_tensor_release(elsewhere);
    assert_int_equal(wane_tensor_copy_to(part, other, WANE_F32, &elsewhere, &e), WANE_OK);
    assert_int_equal(wane_tensor_equal(part, elsewhere, &same, &e), WANE_OK);
    assert_true(same);
    assert_int_equal(wane_tensor_zeros(far, WANE_I32, 2, shape, &zeros, &e), WANE_OK);
    int32_t *numbers = malloc(700 * 1000 * sizeof *numbers);
    assert_non_null(numbers);
    assert_int_equal(wane_tensor_get(zeros, numbers, &e), WANE_OK);
    assert_int_equal(numbers[699999], 0);
    /* through a file */
    const char *path = test_path(f->folder, "x.safetensors");
    wane_named set[] = {{"there", there}, {"zeros", zeros}, {"here", half}};
    assert_int_equal(wane_safetensors_write(path, set, 3, NULL, &e), WANE_OK);
    wane_safetensors *file;
    wane_tensor *loaded;
    assert_int_equal(wane_safetensors_open(path, &file, &e), WANE_OK);
    assert_int_equal(
        wane_safetensors_load(file, wane_safetensors_find(file, "there"), other, &loaded, &e),
        WANE_OK);
    assert_int_equal(wane_tensor_equal(loaded, half, &same, &e), WANE_OK);
    assert_true(same);
    wane_safetensors_close(file);
    free(numbers);
    wane_tensor *all[] = {t, there, back, half, wide, elsewhere, part, zeros, loaded};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) wane_tensor_release(all[i]);
    assert_int_equal(far->live, far_live);
    assert_int_equal(other->live, other_live);
    wane_device_release(far);
    wane_device_release(other);
}

int test_faults(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_host_allocation_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(tensors_on_a_far_device, setup, teardown),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
