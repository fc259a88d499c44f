/* packed.c - see packed.h. */
#include "tests/c/test.h"

#include <string.h>
#include <sys/stat.h>

#include "runtime/base/files.h"
#include "runtime/quant/kept.h"
#include "tests/c/files.h"
#include "tests/c/models.h"
#include "tests/c/packed.h"

static void encode(wane_linear *p, test_grid g)
{
    wane_device *d = wane_tensor_device(p->weight);
    wane_mat none = {0};
    wane_err e;
    wane_tensor *w;
    assert_int_equal(wane_tensor_copy_to(p->weight, d, WANE_F32, &w, &e), WANE_OK);
    if (wane_quantized_new(d, w->shape[0], w->shape[1], g.bits, g.group, g.act_bits, g.scale,
                           g.symmetric ? WANE_DTYPES : WANE_U8, &p->quantized, &e))
        fail_msg("%s", e.message);
    wane_qmat q = wane_quantized_mat(p->quantized);
    assert_int_equal(WANE_CALL(d, &e, fit_grid, q, wane_tensor_mat(w), none), WANE_OK);
    assert_int_equal(WANE_CALL(d, &e, encode, q, wane_tensor_mat(w)), WANE_OK);
    wane_tensor_release(p->weight);
    wane_tensor_release(w);
    p->weight = NULL;
}

wane_model *test_quantized_model(const char *family, wane_device *d, test_grid g, bool with_head)
{
    char path[64];
    wane_layer *layer[8];
    wane_err e;
    wane_linear head = {0};
    snprintf(path, sizeof path, "tests/reference/tiny/%s", family);
    wane_model *m = test_model_open(path, d), *out;
    int count = (int)m->config->layers;
    for (int i = 0; i < count; i++) {
        assert_int_equal(wane_model_layer(m, i, &layer[i], &e), WANE_OK);
        for (int id = 0; id < WANE_LINEARS; id++) encode(&layer[i]->linear[id], g);
    }
    if (!m->config->tied && with_head) {
        assert_int_equal(wane_head_read_dense(m->checkpoint, d, &head, &e), WANE_OK);
        encode(&head, g);
    }
    if (wane_model_keep(m, layer, count, head.quantized, &out, &e)) fail_msg("%s", e.message);
    for (int i = 0; i < count; i++) wane_layer_release(layer[i]);
    wane_linear_clear(&head);
    wane_model_release(m);
    return out;
}

wane_save_options test_save_options(const char *format)
{
    return (wane_save_options){.packing = wane_packing_find(format), .dense = WANE_DTYPES};
}

wane_model *test_reopen(const char *dir, wane_device *d)
{
    wane_model *m;
    wane_err e;
    if (wane_model_open(dir, d, d, &m, &e)) fail_msg("%s", e.message);
    return m;
}

void test_same_layers(wane_model *a, wane_model *b)
{
    wane_err e;
    char different[WANE_NAME];
    assert_int_equal(a->config->layers, b->config->layers);
    for (int i = 0; i < (int)a->config->layers; i++) {
        wane_layer *x, *y;
        assert_int_equal(wane_model_layer(a, i, &x, &e), WANE_OK);
        assert_int_equal(wane_model_layer(b, i, &y, &e), WANE_OK);
        if (!wane_layer_equal(x, y, different)) fail_msg("layer %d: %s differs", i, different);
        wane_layer_release(x);
        wane_layer_release(y);
    }
}

void test_take_apart(test_parts *p, test_grid g, const char *format)
{
    wane_err e;
    wane_safetensors *f;
    wane_saved told;
    size_t length;
    wane_save_options o = test_save_options(format);
    memset(p, 0, sizeof *p);
    p->folder = test_folder();
    p->d = test_device(UINT64_MAX);
    wane_model *m = test_quantized_model("qwen3", p->d, g, false);
    if (wane_save(m, test_path(p->folder, "good"), &o, &told, &e)) fail_msg("%s", e.message);
    wane_model_release(m);
    assert_int_equal(wane_file_read_all(test_path(p->folder, "good/config.json"), 1 << 20,
                                        &p->config, &length, &e),
                     WANE_OK);
    assert_int_equal(wane_safetensors_open(test_path(p->folder, "good/model.safetensors"), &f, &e),
                     WANE_OK);
    p->count = f->count;
    assert_true(p->count < TEST_PARTS);
    for (size_t i = 0; i < f->count; i++) {
        p->name[i] = strdup(f->entries[i].name);
        assert_int_equal(wane_safetensors_load(f, &f->entries[i], p->d, &p->tensor[i], &e),
                         WANE_OK);
    }
    wane_safetensors_close(f);
}

void test_forget(test_parts *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free(p->name[i]);
        wane_tensor_release(p->tensor[i]);
    }
    free(p->config);
    wane_device_release(p->d);
    test_folder_remove(p->folder);
}

wane_err test_open_changed(const test_parts *p, const char *name, wane_tensor *instead,
                           const char *from, const char *to)
{
    wane_named named[TEST_PARTS];
    size_t count = 0;
    wane_err e = {0};
    wane_model *m = NULL;
    const char *dir = test_path(p->folder, "bad");
    assert_int_equal(mkdir(dir, 0777), 0);
    for (size_t i = 0; i < p->count; i++) {
        bool changed = name && !strcmp(p->name[i], name);
        if (!changed || instead)
            named[count++] = (wane_named){p->name[i], changed ? instead : p->tensor[i]};
    }
    if (name && instead && count == p->count) {
        bool there = false;
        for (size_t i = 0; i < p->count; i++) there |= !strcmp(p->name[i], name);
        if (!there) named[count++] = (wane_named){name, instead};
    }
    if (wane_safetensors_write(test_path(p->folder, "bad/model.safetensors"), named, count, NULL,
                               &e))
        fail_msg("%s", e.message);
    char text[16384];
    const char *at = from ? strstr(p->config, from) : NULL;
    assert_true(!from || at);
    if (from)
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - p->config), p->config, to,
                 at + strlen(from));
    else
        snprintf(text, sizeof text, "%s", p->config);
    test_write(test_path(p->folder, "bad/config.json"), text, strlen(text));
    uint64_t live = p->d->live;
    wane_status s = wane_model_open(dir, p->d, p->d, &m, &e);
    if (!s) s = wane_model_load(m, &e);
    wane_model_release(m);
    assert_int_equal(p->d->live, live);
    wane_err unused;
    assert_int_equal(wane_dir_remove(dir, &unused), WANE_OK);
    if (!s) memset(&e, 0, sizeof e);
    return e;
}

wane_tensor *test_zeros(wane_device *d, wane_dtype dtype, int rank, int64_t a, int64_t b)
{
    wane_err e;
    int64_t shape[] = {a, b};
    wane_tensor *t;
    assert_int_equal(wane_tensor_zeros(d, dtype, rank, shape, &t, &e), WANE_OK);
    return t;
}

wane_tensor *test_part(const test_parts *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (!strcmp(p->name[i], name)) return p->tensor[i];
    fail_msg("%s is not there", name);
    return NULL;
}
