/* test_save.c - codes as bits in files; folders that are written, read back and compared; shards;
 * what is refused; checkpoints whose packed tensors are not what they claim; damage between writing
 * and reading back; every allocation's failure. */
#include "tests/c/test.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/quant/kept.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"
#include "tests/c/models.h"
#include "tests/c/packed.h"

/* ---- bits ---- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Every width and every count up to a few words: back as they went in, and where the format says.
 */
static void bits(void **state)
{
    (void)state;
    enum { MOST = 133 };
    uint8_t in[MOST], out[MOST];
    uint32_t words[MOST], seed = 1;
    for (int width = 1; width <= 8; width++) {
        for (int64_t n = 0; n <= MOST; n++) {
            for (int64_t i = 0; i < n; i++) in[i] = next_random(&seed) & ((1u << width) - 1);
            memset(words, 0xa5, sizeof words);
            memset(out, 0xa5, sizeof out);
            wane_bits_pack(words, in, n, width);
            wane_bits_unpack(out, words, n, width);
            assert_memory_equal(in, out, (size_t)n);
            int64_t used = wane_words_for(n, width);
            assert_int_equal(used, (n * width + 31) / 32);
            if (used < MOST) assert_int_equal(words[used], 0xa5a5a5a5);
            for (int64_t b = 0; b < used * 32; b++) {
                uint32_t bit = words[b / 32] >> (b % 32) & 1;
                uint32_t meant = b < n * width ? in[b / width] >> (b % width) & 1u : 0;
                assert_int_equal(bit, meant);
            }
        }
    }
}

static const test_grid GRIDS[] = {
    {2, 32, false, 0, WANE_BF16}, {3, 32, false, 0, WANE_BF16}, {4, 32, false, 0, WANE_BF16},
    {8, 32, false, 0, WANE_BF16}, {2, 32, true, 0, WANE_BF16},  {3, -1, true, 0, WANE_BF16},
    {4, -1, false, 0, WANE_BF16}, {4, 32, true, 0, WANE_BF16},  {8, -1, true, 0, WANE_BF16},
    {8, -1, true, 8, WANE_BF16},
};

/* Every grid: the same codes and the same logits, bit by bit, and nothing left on the device. */
static void round_trips(void **state)
{
    (void)state;
    static const char *const families[] = {"qwen3", "qwen2", "llama3"};
    static const int32_t ids[] = {1, 7, 300, 5, 5, 19};
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    uint64_t live = d->live;
    for (size_t i = 0; i < sizeof GRIDS / sizeof *GRIDS; i++) {
        wane_model *m = test_quantized_model(families[i % 3], d, GRIDS[i], true);
        wane_save_options o = test_save_options("compressed-tensors");
        wane_err e;
        wane_saved told;
        struct stat about;
        const char *dir = test_path(folder, "out");
        if (wane_save(m, dir, &o, &told, &e)) fail_msg("%s", e.message);
        assert_int_equal(stat(test_path(folder, "out/model.safetensors"), &about), 0);
        assert_int_equal(told.bytes, about.st_size);
        wane_model *back = test_reopen(dir, d);
        test_same_layers(m, back);
        float *x = test_model_logits(m, ids, 6), *y = test_model_logits(back, ids, 6);
        assert_memory_equal(x, y, 6 * sizeof(float) * (size_t)m->config->vocabulary);
        free(x);
        free(y);
        wane_model_release(back);
        wane_model_release(m);
        assert_int_equal(d->live, live);
        assert_int_equal(wane_dir_remove(dir, &e), WANE_OK);
    }
    assert_int_equal(test_count(folder), 0);
    wane_device_release(d);
    test_folder_remove(folder);
}

/* Files no larger than asked for, but for a tensor that is larger alone; an index that says where.
 */
static void shards(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_quantized_model("llama3", d, GRIDS[2], true);
    wane_save_options o = test_save_options("compressed-tensors");
    wane_err e;
    wane_saved told;
    uint64_t sum = 0;
    const char *dir = test_path(folder, "out");
    o.shard_bytes = 9000; /* the embedding alone has 40 KiB */
    if (wane_save(m, dir, &o, &told, &e)) fail_msg("%s", e.message);
    wane_model *back = test_reopen(dir, d);
    test_same_layers(m, back);
    assert_true(back->checkpoint->n_shards > 3);
    for (int i = 0; i < back->checkpoint->n_shards; i++) {
        const wane_safetensors *f = back->checkpoint->shard[i];
        assert_true(f->count == 1 || f->bytes - f->data <= o.shard_bytes);
        sum += f->bytes;
    }
    assert_int_equal(told.bytes, sum);
    assert_int_equal(back->checkpoint->n_warnings, 0); /* total_size is right */
    wane_model_release(back);
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

static void refused_places(void **state)
{
    (void)state;
    char *folder = test_folder(), inside[4096];
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_quantized_model("qwen3", d, GRIDS[2], true);
    wane_save_options o = test_save_options("compressed-tensors");
    wane_err e;
    wane_saved told;
    assert_int_equal(mkdir(test_path(folder, "there"), 0777), 0);
    test_write(test_path(folder, "file"), "x", 1);
    assert_int_equal(symlink("nowhere", test_path(folder, "link")), 0);
    static const char *const places[] = {"there", "there/", "file", "link"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wane_save(m, test_path(folder, places[i]), &o, &told, &e), WANE_EIO);
        assert_non_null(strstr(e.message, "is there already"));
        assert_string_equal(e.op, "save");
    }
    assert_int_equal(test_count(folder), 3);
    assert_int_equal(test_count(test_path(folder, "there")), 0);
    assert_int_equal(wane_save(m, "", &o, &told, &e), WANE_EARG);
    /* inside the model it is made from, also by another way, and where folders are missing */
    snprintf(inside, sizeof inside, "%s/a/b", m->checkpoint->dir);
    assert_int_equal(wane_save(m, inside, &o, &told, &e), WANE_EIO);
    assert_non_null(strstr(e.message, "lies in the folder of the model"));
    assert_int_equal(unlink(test_path(folder, "link")), 0);
    assert_int_equal(symlink(m->checkpoint->dir, test_path(folder, "link")), 0);
    assert_int_equal(wane_save(m, test_path(folder, "link/out"), &o, &told, &e), WANE_EIO);
    assert_non_null(strstr(e.message, "lies in the folder of the model"));
    /* missing parents are made */
    assert_int_equal(wane_save(m, test_path(folder, "a/b/out"), &o, &told, &e), WANE_OK);
    /* a model as it was trained has nothing to pack */
    wane_model *dense = test_model_open("tests/reference/tiny/qwen3", d);
    assert_int_equal(wane_save(dense, test_path(folder, "dense"), &o, &told, &e),
                     WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "q_proj"));
    assert_true(access(test_path(folder, "dense"), F_OK) != 0);
    wane_model_release(dense);
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

/* ---- checkpoints that lie ---- */

#define DOWN "model.layers.1.mlp.down_proj" /* (64, 160) */

/* Packed tensors of the wrong dtype, shape or rank, or that are not there: refused before anything
 * is read, with the tensor's name. (64, 160) at 4 bits in groups of 32. */
static void lying_tensors(void **state)
{
    (void)state;
    static const struct {
        const char *suffix;
        int rank; /* 0: gone */
        wane_dtype dtype;
        int64_t a, b;
    } rows[] = {
        {"weight_packed", 2, WANE_F32, 64, 20},
        {"weight_packed", 2, WANE_I32, 64, 19},
        {"weight_packed", 2, WANE_I32, 64, 21},
        {"weight_packed", 2, WANE_I32, 63, 20},
        {"weight_packed", 2, WANE_I32, 20, 64},
        {"weight_packed", 1, WANE_I32, 1280, 0},
        {"weight_packed", 2, WANE_I32, 64, 15},
        {"weight_packed", 2, WANE_I32, 64, 0},
        {"weight_packed", 0, WANE_I32, 0, 0},
        {"weight_scale", 2, WANE_I32, 64, 5},
        {"weight_scale", 2, WANE_BF16, 64, 6},
        {"weight_scale", 2, WANE_BF16, 63, 5},
        {"weight_scale", 2, WANE_BF16, 64, 0},
        {"weight_scale", 1, WANE_BF16, 320, 0},
        {"weight_scale", 2, WANE_BF16, 64, 320},
        {"weight_scale", 0, WANE_BF16, 0, 0},
        {"weight_zero_point", 2, WANE_U8, 64, 5},
        {"weight_zero_point", 2, WANE_I32, 7, 5},
        {"weight_zero_point", 2, WANE_I32, 8, 4},
        {"weight_zero_point", 2, WANE_I32, 64, 5},
        {"weight_zero_point", 1, WANE_I32, 40, 0},
        {"weight_zero_point", 0, WANE_I32, 0, 0},
        {"weight_shape", 1, WANE_I64, 3, 0},
        {"weight_shape", 1, WANE_I32, 2, 0},
        {"weight_shape", 1, WANE_I64, 2, 0} /* zeros */,
    };
    test_parts p;
    test_take_apart(&p, GRIDS[2], "compressed-tensors");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.%s", DOWN, rows[i].suffix);
        wane_tensor *t = rows[i].rank
                             ? test_zeros(p.d, rows[i].dtype, rows[i].rank, rows[i].a, rows[i].b)
                             : NULL;
        wane_err e = test_open_changed(&p, name, t, NULL, NULL);
        wane_tensor_release(t);
        if (e.status != WANE_EFORMAT) fail_msg("row %zu: %s: %s", i, name, e.message);
        assert_non_null(strstr(e.message, DOWN));
        assert_non_null(strstr(e.tensor, DOWN));
    }
    /* unchanged it opens; without weight_shape, too */
    assert_int_equal(test_open_changed(&p, NULL, NULL, NULL, NULL).status, WANE_OK);
    assert_int_equal(test_open_changed(&p, DOWN ".weight_shape", NULL, NULL, NULL).status, WANE_OK);
    wane_tensor *order = test_zeros(p.d, WANE_I32, 1, 160, 0);
    wane_err e = test_open_changed(&p, DOWN ".weight_g_idx", order, NULL, NULL);
    assert_int_equal(e.status, WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "weight_g_idx"));
    wane_tensor_release(order);
    test_forget(&p);
}

/* A config that says what the tensors are not, or asks for what would be computed otherwise. */
static void lying_configs(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        wane_status status;
        const char *message;
    } rows[] = {
        {"\"num_bits\": 4", "\"num_bits\": 3", WANE_EFORMAT, "for 3 bits"},
        {"\"num_bits\": 4", "\"num_bits\": 5", WANE_EUNSUPPORTED, "num_bits"},
        {"\"num_bits\": 4", "\"num_bits\": -4", WANE_EUNSUPPORTED, "num_bits"},
        {"\"num_bits\": 4", "\"num_bits\": \"4\"", WANE_EUNSUPPORTED, "num_bits"},
        {"\"type\": \"int\"", "\"type\": \"float\"", WANE_EUNSUPPORTED, "type int"},
        {"\"group_0\"", "\"group_1\": {}, \"group_0\"", WANE_EUNSUPPORTED, "one group"},
        {"\"config_groups\"", "\"groups\"", WANE_EUNSUPPORTED, "one group"},
        {"\"input_activations\": null",
         "\"input_activations\": {\"num_bits\": 8, \"type\": \"int\", \"strategy\": \"token\", "
         "\"dynamic\": true, \"symmetric\": true}",
         WANE_EUNSUPPORTED, "weights of 8 bits"},
        {"\"quant_method\": \"compressed-tensors\"", "\"quant_method\": \"aqlm\"",
         WANE_EUNSUPPORTED, "quantized"},
    };
    test_parts p;
    test_take_apart(&p, GRIDS[2], "compressed-tensors");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wane_err e = test_open_changed(&p, NULL, NULL, rows[i].from, rows[i].to);
        if (e.status != rows[i].status || !strstr(e.message, rows[i].message))
            fail_msg("row %zu: %d: %s", i, e.status, e.message);
    }
    /* symmetric: the zero points that lie there do not count, as in other readers */
    assert_int_equal(
        test_open_changed(&p, NULL, NULL, "\"symmetric\": false", "\"symmetric\": true").status,
        WANE_OK);
    test_forget(&p);
    test_take_apart(&p, GRIDS[7], "compressed-tensors");
    wane_err e = test_open_changed(&p, NULL, NULL, "\"symmetric\": true", "\"symmetric\": false");
    assert_int_equal(e.status, WANE_EFORMAT);
    assert_non_null(strstr(e.message, "weight_zero_point is missing"));
    test_forget(&p);
}

/* Int8 weights: one scale a row, symmetric, activations as the config says. */
static void lying_int8(void **state)
{
    (void)state;
    test_parts p;
    test_take_apart(&p, (test_grid){8, -1, true, 8, WANE_BF16}, "compressed-tensors");
    wane_tensor *shape = test_zeros(p.d, WANE_I8, 2, 160, 64);
    wane_tensor *scales = test_zeros(p.d, WANE_BF16, 2, 64, 5);
    wane_err e = test_open_changed(&p, DOWN ".weight", shape, NULL, NULL);
    assert_int_equal(e.status, WANE_EFORMAT);
    assert_string_equal(e.tensor, DOWN ".weight");
    e = test_open_changed(&p, DOWN ".weight_scale", scales, NULL, NULL);
    assert_int_equal(e.status, WANE_EFORMAT);
    assert_string_equal(e.tensor, DOWN ".weight_scale");
    e = test_open_changed(&p, DOWN ".weight", NULL, NULL, NULL);
    assert_int_equal(e.status, WANE_EFORMAT);
    assert_string_equal(e.tensor, DOWN ".weight");
    static const char *const changes[][2] = {
        {"\"dynamic\": true", "\"dynamic\": false"},
        {"\"strategy\": \"token\"", "\"strategy\": \"tensor\""},
    };
    for (int i = 0; i < 2; i++)
        assert_int_equal(test_open_changed(&p, NULL, NULL, changes[i][0], changes[i][1]).status,
                         WANE_EUNSUPPORTED);
    wane_tensor_release(shape);
    wane_tensor_release(scales);
    test_forget(&p);
}

static void scales_not_finite(void **state)
{
    (void)state;
    static const uint16_t bad[] = {0x7f80, 0xff80, 0x7fc0, 0xffff};
    test_parts p;
    test_take_apart(&p, GRIDS[2], "compressed-tensors");
    for (int i = 0; i < 4; i++) {
        wane_tensor *t = test_zeros(p.d, WANE_BF16, 2, 64, 5);
        ((uint16_t *)wane_tensor_mat(t).data)[319 - i] = bad[i];
        wane_err e = test_open_changed(&p, DOWN ".weight_scale", t, NULL, NULL);
        assert_int_equal(e.status, WANE_ENUMERIC);
        assert_string_equal(e.tensor, DOWN ".weight_scale");
        wane_tensor_release(t);
    }
    test_forget(&p);
}

/* ---- damage ---- */

static long damage_at; /* from the file's end, of the model's weights; 0: none */

static void damage(const char *to)
{
    size_t n = strlen(to);
    if (!damage_at || n < 17 || strcmp(to + n - 17, "model.safetensors")) return;
    FILE *f = fopen(to, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -damage_at, SEEK_END), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    fputc(c ^ 0x10, f);
    assert_int_equal(fclose(f), 0);
}

/* One bit changes between writing and reading back, in any tensor: nothing gets the name. */
static void damage_is_noticed(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_quantized_model("qwen3", d, GRIDS[2], true);
    wane_save_options o = test_save_options("compressed-tensors");
    wane_err e;
    wane_saved told;
    uint64_t live = d->live;
    assert_int_equal(wane_save(m, test_path(folder, "good"), &o, &told, &e), WANE_OK);
    wane_model *good = test_reopen(test_path(folder, "good"), d);
    const wane_safetensors *f = good->checkpoint->shard[0];
    test_on_rename(damage);
    for (size_t i = 0; i < f->count; i++) {
        damage_at = (long)(f->bytes - f->data - (f->entries[i].begin + f->entries[i].end) / 2);
        wane_status s = wane_save(m, test_path(folder, "out"), &o, &told, &e);
        if (s != WANE_EIO && s != WANE_EFORMAT && s != WANE_ENUMERIC)
            fail_msg("%s: %d %s", f->entries[i].name, s, e.message);
        assert_int_equal(test_count(folder), 1);
    }
    damage_at = 0;
    test_on_rename(NULL);
    wane_model_release(good);
    assert_int_equal(d->live, live);
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

/* ---- failures ---- */

/* Every allocation of the device and of the host fails in turn: nothing is left in the folder, and
 * as much is allocated as before. */
static void sweep(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_quantized_model("llama3", d, GRIDS[2], true);
    wane_save_options o = test_save_options("compressed-tensors");
    wane_err e;
    wane_saved told;
    uint64_t live = d->live;
    o.report = "{}\n";
    o.shard_bytes = 20000;
    const char *dir = test_path(folder, "out");
    for (int host = 0; host < 2; host++) {
        long n = 0;
        for (;; n++) {
            if (host)
                test_malloc_fail_after(n);
            else
                d->fail_after = n;
            wane_status s = wane_save(m, dir, &o, &told, &e);
            bool failed = host ? test_malloc_failed() : d->fail_after < 0;
            test_malloc_fail_after(-1);
            d->fail_after = -1;
            if (!s && !failed) break;
            assert_int_equal(d->live, live);
            if (!s) { /* what failed was not needed */
                assert_int_equal(wane_dir_remove(dir, &e), WANE_OK);
                continue;
            }
            if (s != WANE_EOOM)
                fail_msg("%s %ld: %d %s", host ? "host" : "device", n, s, e.message);
            assert_int_equal(test_count(folder), 0);
            if (host && n > 400) n += n / 16; /* the first ones are the telling ones */
        }
        assert_true(n > 20);
        wane_model *back = test_reopen(dir, d);
        test_same_layers(m, back);
        wane_model_release(back);
        assert_int_equal(wane_dir_remove(dir, &e), WANE_OK);
    }
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

/* A source whose config has "quantization_config": null is dense, and gets one such key. */
static void null_in_config(void **state)
{
    (void)state;
    char *folder = test_folder(), *text;
    wane_device *d = test_device(UINT64_MAX);
    wane_err e;
    size_t length;
    assert_int_equal(mkdir(test_path(folder, "source"), 0777), 0);
    assert_int_equal(wane_file_read_all(test_tree("tests/reference/tiny/qwen3/model.safetensors"),
                                        1 << 24, &text, &length, &e),
                     WANE_OK);
    test_write(test_path(folder, "source/model.safetensors"), text, length);
    free(text);
    assert_int_equal(wane_file_read_all(test_tree("tests/reference/tiny/qwen3/config.json"),
                                        1 << 20, &text, &length, &e),
                     WANE_OK);
    char *brace = strchr(text, '{'), *with;
    assert_true(asprintf(&with, "{\"quantization_config\": null, \"zebra\": 1.5e-7,%s", brace + 1) >
                0);
    test_write(test_path(folder, "source/config.json"), with, strlen(with));
    free(with);
    free(text);
    wane_model *tiny = test_quantized_model("qwen3", d, GRIDS[2], true);
    wane_checkpoint *c;
    wane_model *source, *m;
    assert_int_equal(wane_checkpoint_open(test_path(folder, "source"), &c, &e), WANE_OK);
    assert_int_equal(wane_model_new(c, d, d, &source, &e), WANE_OK);
    wane_checkpoint_release(c);
    wane_layer *layer[8];
    for (int i = 0; i < 2; i++) assert_int_equal(wane_model_layer(tiny, i, &layer[i], &e), WANE_OK);
    assert_int_equal(wane_model_keep(source, layer, 2, NULL, &m, &e), WANE_OK);
    wane_save_options o = test_save_options("compressed-tensors");
    wane_saved told;
    if (wane_save(m, test_path(folder, "out"), &o, &told, &e)) fail_msg("%s", e.message);
    wane_model *back = test_reopen(test_path(folder, "out"), d);
    assert_non_null(json_object_get(back->config->json, "zebra"));
    assert_true(json_is_object(json_object_get(back->config->json, "quantization_config")));
    test_same_layers(m, back);
    for (int i = 0; i < 2; i++) wane_layer_release(layer[i]);
    wane_model_release(back);
    wane_model_release(m);
    wane_model_release(source);
    wane_model_release(tiny);
    wane_device_release(d);
    test_folder_remove(folder);
}

int test_save(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(shards),
        cmocka_unit_test(refused_places),
        cmocka_unit_test(lying_tensors),
        cmocka_unit_test(lying_configs),
        cmocka_unit_test(lying_int8),
        cmocka_unit_test(scales_not_finite),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(null_in_config),
        cmocka_unit_test(sweep),
    };
    return cmocka_run_group_tests_name("save", tests, NULL, NULL);
}
