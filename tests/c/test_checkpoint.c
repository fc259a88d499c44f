/* test_checkpoint.c - folders: what an index may say, where a link may lead, what is not there. */
#include "tests/c/test.h"
#include "tests/c/models.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/model/checkpoint.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"

static int setup(void **state)
{
    return *state = test_folder(), 0;
}
static int teardown(void **state)
{
    return test_folder_remove(*state), 0;
}

static const char INDEX[] = "model.safetensors.index.json";

static void put(const char *dir, const char *name, const char *text)
{
    test_write(test_path(dir, name), text, strlen(text));
}

static void put_config(const char *dir)
{
    put(dir, "config.json",
        "{\"model_type\":\"qwen3\",\"hidden_size\":8,\"num_hidden_layers\":1,"
        "\"num_attention_heads\":1,\"num_key_value_heads\":1,\"head_dim\":2,\"intermediate_size\":"
        "8,\"vocab_size\":8,"
        "\"max_position_embeddings\":8}");
}

/* A file of F32 tensors of 2 elements with these names, separated by spaces. */
static void put_shard(const char *dir, const char *file, const char *names)
{
    char copy[256], *next = copy;
    wane_named list[8];
    size_t n = 0;
    wane_device *d;
    wane_err e;
    int64_t shape = 2;
    float data[2] = {1, 2};
    snprintf(copy, sizeof copy, "%s", names);
    assert_int_equal(wane_device_open("cpu", 64 << 20, &d, &e), WANE_OK);
    for (char *name; (name = strsep(&next, " "));) {
        wane_tensor *t;
        assert_int_equal(wane_tensor_new(d, WANE_F32, 1, &shape, &t, &e), WANE_OK);
        assert_int_equal(wane_tensor_put(t, data, &e), WANE_OK);
        list[n++] = (wane_named){name, t};
    }
    assert_int_equal(wane_safetensors_write(test_path(dir, file), list, n, NULL, &e), WANE_OK);
    while (n) wane_tensor_release((wane_tensor *)(uintptr_t)list[--n].tensor);
    wane_device_release(d);
}

static wane_checkpoint *opens(const char *dir)
{
    wane_checkpoint *c;
    wane_err e;
    if (wane_checkpoint_open(dir, &c, &e)) fail_msg("%s", e.message);
    return c;
}

static void refused(const char *dir, wane_status wanted, const char *says)
{
    wane_checkpoint *c;
    wane_err e;
    wane_status s = wane_checkpoint_open(dir, &c, &e);
    if (s != wanted || !strstr(e.message, says))
        fail_msg("wanted %d \"%s\", got %d %s", wanted, says, s, s ? e.message : "");
    assert_null(c);
}

static void single(void **state)
{
    const char *dir = *state;
    const wane_safetensors *where;
    put_config(dir);
    put_shard(dir, "model.safetensors", "norm.weight model.b");
    wane_checkpoint *c = opens(dir);
    assert_int_equal(c->count, 2);
    assert_int_equal(c->bytes, 16);
    assert_int_equal(c->n_warnings, 0);
    assert_non_null(wane_checkpoint_find(c, "model.b", &where));
    assert_ptr_equal(where, c->shard[0]);
    assert_non_null(wane_checkpoint_find(c, "model.norm.weight", NULL)); /* of the base class */
    assert_null(wane_checkpoint_find(c, "b", &where));
    assert_null(where);
    wane_checkpoint_release(wane_checkpoint_retain(c));
    wane_checkpoint_release(c);
}

static void indexed(void **state)
{
    const char *dir = *state;
    put_config(dir);
    put_shard(dir, "a.safetensors", "x y");
    put_shard(dir, "b.safetensors", "z");
    put(dir, INDEX,
        "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"z\":\"b.safetensors\","
        "\"x\":\"a.safetensors\",\"y\":\"a.safetensors\"}}");
    wane_checkpoint *c = opens(dir);
    assert_true(c->n_shards == 2 && c->count == 3 && c->bytes == 24 && c->n_warnings == 0);
    wane_checkpoint_release(c);
    put_shard(dir, "model.safetensors", "other");
    put(dir, INDEX,
        "{\"metadata\":{\"total_size\":7},\"weight_map\":{\"z\":\"b.safetensors\","
        "\"x\":\"a.safetensors\"}}");
    c = opens(dir); /* the index is taken; what is odd is told */
    assert_null(wane_checkpoint_find(c, "other", NULL));
    assert_int_equal(c->n_warnings, 3);
    assert_non_null(strstr(c->warning[0], "model.safetensors"));
    assert_non_null(strstr(c->warning[1], "does not list 1"));
    assert_non_null(strstr(c->warning[2], "7 bytes"));
    wane_checkpoint_release(c);
}

static void bad_indexes(void **state)
{
    static const struct {
        const char *map, *says;
    } bad[] = {
        {"{\"x\":\"/etc/passwd\"}", "plain file name"},
        {"{\"x\":\"../a.safetensors\"}", "plain file name"},
        {"{\"x\":\"sub/a.safetensors\"}", "plain file name"},
        {"{\"x\":\"\"}", "plain file name"},
        {"{\"x\":\"..\"}", "plain file name"},
        {"{\"x\":\"a.safetensors\\u0000/../b\"}", "plain file name"},
        {"{\"x\":\"pytorch_model.bin\"}", "not a safetensors file"},
        {"{\"x\":7}", "x has no file name"},
        {"{}", "weight_map is empty"},
        {"[]", "has no weight_map"},
        {"{\"x\":\"a.safetensors\",\"p\":\"c.safetensors\",\"q\":\"d.safetensors\"}",
         "2 of 3 files are missing: c.safetensors, d.safetensors"},
        {"{\"x\":\"a.safetensors\",\"z\":\"b.safetensors\",\"y\":\"b.safetensors\"}",
         "tensor y is in b.safetensors, but it is in a.safetensors"},
        {"{\"x\":\"a.safetensors\",\"w\":\"a.safetensors\"}",
         "tensor w is in a.safetensors, but it is in no file"},
        {"{\"x\":\"a.safetensors\",\"y\":\"e.safetensors\"}",
         "tensor y is in two files, a.safetensors and e.safetensors"},
    };
    const char *dir = *state;
    char text[512];
    put_config(dir);
    put_shard(dir, "a.safetensors", "x y");
    put_shard(dir, "b.safetensors", "z");
    put_shard(dir, "e.safetensors", "y");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "{\"weight_map\":%s}", bad[i].map);
        put(dir, INDEX, text);
        refused(dir, WANE_EFORMAT, bad[i].says);
    }
    put(dir, INDEX, "{\"weight_map\":");
    refused(dir, WANE_EFORMAT, "not JSON");
    put(dir, INDEX, "null");
    refused(dir, WANE_EFORMAT, "has no weight_map");
}

/* A survey names every file and every tensor of the index that is wrong. */
static void surveys(void **state)
{
    const char *dir = *state;
    wane_checkpoint *c;
    wane_findings all = {0};
    wane_err e;
    put(dir, "config.json", "{\"model_type\":\"qwen3\",\"hidden_size\":0}");
    put_shard(dir, "a.safetensors", "x y");
    put(dir, "b.safetensors", "12345678901234567890");
    put(dir, "c.safetensors", "");
    put(dir, INDEX,
        "{\"weight_map\":{\"x\":\"a.safetensors\",\"p\":\"b.safetensors\","
        "\"q\":\"c.safetensors\",\"r\":\"d.safetensors\"}}");
    assert_int_equal(wane_checkpoint_survey(dir, &c, &all, &e), WANE_EFORMAT);
    assert_null(c);
    assert_non_null(strstr(e.message, "hidden_size"));
    assert_true(test_listed(&all, "hidden_size") &&
                test_listed(&all, "num_hidden_layers is missing"));
    assert_true(test_listed(&all, "b.safetensors") && test_listed(&all, "c.safetensors"));
    assert_true(test_listed(&all, "1 of 4 files are missing: d.safetensors"));
    wane_findings_free(&all);

    put_shard(dir, "b.safetensors", "z");
    put(dir, INDEX,
        "{\"weight_map\":{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\","
        "\"z\":\"a.safetensors\",\"w\":\"a.safetensors\"}}");
    put_config(dir);
    assert_int_equal(wane_checkpoint_survey(dir, &c, &all, &e), WANE_EFORMAT);
    assert_null(c);
    assert_int_equal(all.count, 3);
    assert_true(test_listed(&all, "tensor x is in b.safetensors, but it is in a.safetensors"));
    assert_true(test_listed(&all, "tensor z is in a.safetensors, but it is in b.safetensors"));
    assert_true(test_listed(&all, "tensor w is in a.safetensors, but it is in no file"));
    wane_findings_free(&all);

    put(dir, INDEX, "{\"weight_map\":{\"x\":\"a.safetensors\",\"y\":\"a.safetensors\"}}");
    put(dir, "config.json", "{\"model_type\":\"qwen9\"}"); /* the weights can be looked at */
    assert_int_equal(wane_checkpoint_survey(dir, &c, &all, &e), WANE_EUNSUPPORTED);
    assert_non_null(c);
    assert_true(c->whole && c->count == 2 && !c->config.json);
    assert_true(test_listed(&all, "its weights have what no table of families has: x, y"));
    wane_checkpoint_release(c);
    wane_findings_free(&all);
    assert_int_equal(wane_checkpoint_survey("/nonexistent/model", &c, &all, &e), WANE_EIO);
    assert_int_equal(all.count, 1);
    wane_findings_free(&all);
}

static void link_to(const char *dir, const char *name, const char *target)
{
    const char *path = test_path(dir, name);
    unlink(path);
    assert_int_equal(symlink(target, path), 0);
}

static void links(void **state)
{
    const char *dir = *state, *secret = test_path(dir, "secret.safetensors");
    char model[512], hub[512], blob[512];
    snprintf(model, sizeof model, "%s/model", dir);
    assert_int_equal(mkdir(model, 0755), 0);
    put_config(model);
    put_shard(dir, "secret.safetensors", "x");
    link_to(model, "model.safetensors", secret);
    refused(model, WANE_EFORMAT, "leads out of the folder");
    link_to(model, "model.safetensors", "../secret.safetensors");
    refused(model, WANE_EFORMAT, "leads out of the folder");
    link_to(model, "model.safetensors", "model.safetensors");
    refused(model, WANE_EFORMAT, "neither");
    put_shard(model, "here.safetensors", "x");
    link_to(model, "model.safetensors", "here.safetensors");
    wane_checkpoint_release(opens(model));

    /* the Hub's cache: models--a--b/{blobs/HASH, snapshots/REVISION/NAME} */
    snprintf(hub, sizeof hub, "%s/models--a--b/snapshots/0123", dir);
    wane_err e;
    assert_int_equal(wane_dir_make(hub, &e), WANE_OK);
    snprintf(blob, sizeof blob, "%s/models--a--b/blobs", dir);
    assert_int_equal(wane_dir_make(blob, &e), WANE_OK);
    put_config(hub);
    put_shard(blob, "abcdef", "x y");
    link_to(hub, "model.safetensors", "../../blobs/abcdef");
    wane_checkpoint *c = opens(hub);
    assert_int_equal(c->count, 2);
    wane_checkpoint_release(c);
    link_to(hub, "model.safetensors", "../../../secret.safetensors");
    refused(hub, WANE_EFORMAT, "leads out of the folder");
    link_to(hub, "model.safetensors", "../../blobs/../../secret.safetensors");
    refused(hub, WANE_EFORMAT, "leads out of the folder");
    link_to(blob, "fedcba", "../../secret.safetensors"); /* a blob is a file, not a link again */
    link_to(hub, "model.safetensors", "../../blobs/fedcba");
    refused(hub, WANE_EIO, "model.safetensors");
    /* the same link where no cache is */
    snprintf(hub, sizeof hub, "%s/models--a--b/other/0123", dir);
    assert_int_equal(wane_dir_make(hub, &e), WANE_OK);
    put_config(hub);
    link_to(hub, "model.safetensors", "../../blobs/abcdef");
    refused(hub, WANE_EFORMAT, "leads out of the folder");
}

static void not_there(void **state)
{
    const char *dir = *state;
    refused("/nonexistent/model", WANE_EIO, "/nonexistent/model");
    refused(test_path(dir, "x\nY"), WANE_EIO, "x\\x0aY");
    refused(dir, WANE_EIO, "config.json");
    put_config(dir);
    refused(dir, WANE_EFORMAT, "has neither model.safetensors nor");
    put(dir, "pytorch_model.bin", "\x80\x02");
    refused(dir, WANE_EUNSUPPORTED, "pytorch_model.bin: holds Python objects");
    put(dir, "file", "");
    refused(test_path(dir, "file"), WANE_EIO, "file");
    assert_int_equal(mkfifo(test_path(dir, "model.safetensors"), 0600), 0);
    refused(dir, WANE_EFORMAT, "is not a file");
    unlink(test_path(dir, "model.safetensors"));
    put(dir, "model.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    refused(dir, WANE_EFORMAT, "git");
}

static void get_insists(void **state)
{
    const char *dir = *state;
    const int64_t fits[] = {2}, any[] = {-1}, other[] = {3}, deep[] = {1, 2};
    wane_device *d;
    wane_tensor *t;
    wane_err e;
    put_config(dir);
    put_shard(dir, "model.safetensors", "model.norm.weight");
    wane_checkpoint *c = opens(dir);
    assert_int_equal(wane_device_open("cpu", 64 << 20, &d, &e), WANE_OK);
    assert_int_equal(wane_checkpoint_get(c, "model.norm.weight", 1, fits, d, &t, &e), WANE_OK);
    wane_tensor_release(t);
    assert_int_equal(wane_checkpoint_get(c, "model.norm.weight", 1, any, d, &t, &e), WANE_OK);
    wane_tensor_release(t);
    assert_int_equal(wane_checkpoint_get(c, "model.norm.weight", 1, other, d, &t, &e),
                     WANE_EUNSUPPORTED);
    assert_null(t);
    assert_non_null(strstr(e.message, "F32 (2)"));
    assert_non_null(strstr(e.message, "of (3)"));
    assert_string_equal(e.tensor, "model.norm.weight");
    assert_int_equal(wane_checkpoint_get(c, "model.norm.weight", 2, deep, d, &t, &e),
                     WANE_EUNSUPPORTED);
    assert_int_equal(wane_checkpoint_get(c, "model.norm.wieght", 1, any, d, &t, &e), WANE_EFORMAT);
    assert_non_null(strstr(e.message, "nearest: model.norm.weight"));
    wane_checkpoint_release(c);
    wane_device_release(d);
}

/* What was read ahead is what the file holds; what was not asked for, or cannot be read any more,
 * is not there; a host with little room reads nothing ahead. */
static void reads_ahead(void **state)
{
    const char *folder = *state;
    wane_device *d = test_far_device(UINT64_MAX), *host, *small;
    wane_checkpoint *c;
    wane_ahead *ahead, *poor;
    wane_err e;
    char *bytes = NULL, *file = NULL;
    size_t length;
    assert_int_equal(wane_device_open("host", UINT64_MAX, &host, &e), WANE_OK);
    assert_int_equal(wane_device_open("host", 8 << 20, &small, &e), WANE_OK);
    const char *copied[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        const char *from = test_path(test_tree("examples/models/lune-1m"), copied[i]);
        assert_int_equal(wane_file_read_all(from, 64 << 20, &file, &length, &e), WANE_OK);
        test_write(test_path(folder, copied[i]), file, length);
        free(file);
    }
    assert_int_equal(wane_checkpoint_open(folder, &c, &e), WANE_OK);
    assert_int_equal(wane_ahead_new(d, host, &ahead, &e), WANE_OK);
    assert_int_equal(wane_ahead_new(d, small, &poor, &e), WANE_OK);
    wane_wanted list[64];
    size_t count = c->count < 64 ? c->count : 64;
    for (size_t i = 0; i < count; i++)
        list[i] = (wane_wanted){c->tensor[i].shard, c->tensor[i].entry};
    for (int round = 0; round < 2; round++) {
        size_t first = round ? 0 : 1; /* the second list needs a larger buffer */
        assert_int_equal(wane_ahead_begin(ahead, list + first, count - 1, &e), WANE_OK);
        assert_null(wane_ahead_find(ahead, list[round ? count - 1 : 0].entry));
        for (size_t i = first; i < first + count - 1; i++) {
            uint64_t size = list[i].entry->end - list[i].entry->begin;
            bytes = malloc(size);
            assert_non_null(bytes);
            assert_int_equal(wane_safetensors_read(list[i].file, list[i].entry, 0, size, bytes, &e),
                             WANE_OK);
            const void *found = wane_ahead_find(ahead, list[i].entry);
            assert_non_null(found);
            assert_memory_equal(found, bytes, size);
            free(bytes);
        }
    }
    assert_int_equal(wane_ahead_begin(poor, list, count, &e), WANE_OK);
    assert_null(wane_ahead_find(poor, list[0].entry));
    assert_int_equal(truncate(test_path(folder, "model.safetensors"), 5000), 0);
    assert_int_equal(wane_ahead_begin(ahead, list, count, &e), WANE_OK);
    assert_null(wane_ahead_find(ahead, list[0].entry));
    wane_ahead_free(ahead);
    wane_ahead_free(poor);
    wane_checkpoint_release(c);
    assert_int_equal(host->live, host->scratch);
    wane_device_release(small);
    wane_device_release(host);
    wane_device_release(d);
}

int test_checkpoint(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(single, setup, teardown),
        cmocka_unit_test_setup_teardown(indexed, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_indexes, setup, teardown),
        cmocka_unit_test_setup_teardown(surveys, setup, teardown),
        cmocka_unit_test_setup_teardown(links, setup, teardown),
        cmocka_unit_test_setup_teardown(not_there, setup, teardown),
        cmocka_unit_test_setup_teardown(get_insists, setup, teardown),
        cmocka_unit_test_setup_teardown(reads_ahead, setup, teardown),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
