/* test_formats.c - AutoAWQ, GPTQ and HQQ files: every code where the formats' documents say it
 * lies; from any format to any other without a weight changing; what cannot be written and why;
 * what is damaged or lies; rounding that is told; dense models; config.json letter by letter. */
#include "tests/c/test.h"

#include <string.h>
#include <sys/stat.h>

#include "runtime/base/files.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"
#include "tests/c/models.h"
#include "tests/c/packed.h"

#define DOWN "model.layers.1.mlp.down_proj" /* (64, 160) */

static const test_grid SYMMETRIC = {4, 32, true, 0, WANE_F16};
static const test_grid ZEROS = {4, 32, false, 0, WANE_F16};
static const char *const FORMATS[] = {"compressed-tensors", "awq", "gptq", "gptq-v2", "hqq"};
enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

static wane_status save_as(wane_model *m, const char *format, const char *dir, wane_saved *told,
                           wane_err *e)
{
    wane_save_options o = test_save_options(format);
    return wane_save(m, dir, &o, told, e);
}

static void save_well(wane_model *m, const char *format, const char *dir)
{
    wane_saved told;
    wane_err e;
    if (save_as(m, format, dir, &told, &e)) fail_msg("%s: %s", format, e.message);
    assert_int_equal(told.loss.rounded, 0);
}

/* ---- where codes lie ---- */

typedef struct {
    test_parts p;
    wane_model *model; /* of the same codes */
    wane_layer *layer;
    const wane_quantized *q;
    uint8_t *codes; /* (m,k) */
} opened;

static void open_down(opened *o, const char *format, test_grid g)
{
    wane_err e;
    test_take_apart(&o->p, g, format);
    o->model = test_quantized_model("qwen3", o->p.d, g, false);
    assert_int_equal(wane_model_layer(o->model, 1, &o->layer, &e), WANE_OK);
    o->q = o->layer->linear[WANE_DOWN_PROJ].quantized;
    o->codes = malloc((size_t)(o->q->m * o->q->k));
    for (int64_t r = 0; r < o->q->m; r++)
        wane_bits_unpack(o->codes + r * o->q->k,
                         (uint32_t *)wane_tensor_mat(o->q->words).data + r * o->q->words->shape[1],
                         o->q->k, o->q->bits);
}

static void close_down(opened *o)
{
    free(o->codes);
    wane_layer_release(o->layer);
    wane_model_release(o->model);
    test_forget(&o->p);
}

static const void *stored(const opened *o, const char *suffix, wane_dtype t, int64_t a, int64_t b)
{
    char name[128];
    snprintf(name, sizeof name, DOWN ".%s", suffix);
    wane_tensor *x = test_part(&o->p, name);
    assert_int_equal(x->dtype, t);
    assert_int_equal(x->rank, b ? 2 : a ? 1 : 0);
    if (a) assert_int_equal(x->shape[0], a);
    if (b) assert_int_equal(x->shape[1], b);
    return x->buffer->data;
}

static int zero_of(const opened *o, int64_t n, int64_t g)
{
    int64_t groups = o->q->k / o->q->group;
    return o->q->zero ? ((uint8_t *)wane_tensor_mat(o->q->zero).data)[n * groups + g] : 8;
}

static int scale_bits(const opened *o, int64_t n, int64_t g)
{
    return ((uint16_t *)wane_tensor_mat(o->q->scale).data)[n * (o->q->k / o->q->group) + g];
}

/* "word (k,c): nibble i = q[k][8c + order[i]], order = 0,2,4,6,1,3,5,7" */
static void awq_lies_so(void **state)
{
    (void)state;
    static const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        opened o;
        open_down(&o, "awq", symmetric ? SYMMETRIC : ZEROS);
        const uint32_t *words = stored(&o, "qweight", WANE_I32, 160, 8);
        const uint32_t *zeros = stored(&o, "qzeros", WANE_I32, 5, 8);
        const uint16_t *scales = stored(&o, "scales", WANE_F16, 5, 64);
        for (int k = 0; k < 160; k++)
            for (int c = 0; c < 8; c++)
                for (int i = 0; i < 8; i++) {
                    int n = 8 * c + order[i];
                    assert_int_equal(words[k * 8 + c] >> 4 * i & 15, o.codes[n * 160 + k]);
                    assert_int_equal(zeros[k / 32 * 8 + c] >> 4 * i & 15, zero_of(&o, n, k / 32));
                    assert_int_equal(scales[k / 32 * 64 + n], scale_bits(&o, n, k / 32));
                }
        assert_non_null(strstr(o.p.config, "\"modules_to_not_convert\": ["));
        close_down(&o);
    }
}

/* "word (r,n): nibble j = q[input 8r+j][n]; zeros natural order; v1 stores z-1, v2 z" */
static void gptq_lies_so(void **state)
{
    (void)state;
    static const int widths[] = {2, 3, 4, 8};
    for (int i = 0; i < 8; i++) {
        int bits = widths[i / 2], less = i % 2 == 0;
        opened o;
        open_down(&o, less ? "gptq" : "gptq-v2", (test_grid){bits, 32, less, 0, WANE_F16});
        const uint32_t *words = stored(&o, "qweight", WANE_I32, 160 * bits / 32, 64);
        const uint32_t *zeros = stored(&o, "qzeros", WANE_I32, 5, 64 * bits / 32);
        const uint16_t *scales = stored(&o, "scales", WANE_F16, 5, 64);
        const int32_t *order = stored(&o, "g_idx", WANE_I32, 160, 0);
        for (int k = 0; k < 160; k++) {
            assert_int_equal(order[k], k / 32);
            for (int n = 0; n < 64; n++) {
                int code = 0, zero = 0;
                for (int b = 0; b < bits; b++) {
                    int at = k * bits + b, z = n * bits + b;
                    code |= (int)(words[at / 32 * 64 + n] >> at % 32 & 1) << b;
                    zero |= (int)(zeros[k / 32 * (2 * bits) + z / 32] >> z % 32 & 1) << b;
                }
                assert_int_equal(code, o.codes[n * 160 + k]);
                int meant = less ? (1 << (bits - 1)) - 1 : zero_of(&o, n, k / 32);
                assert_int_equal(zero, meant);
                assert_int_equal(scales[k / 32 * 64 + n], scale_bits(&o, n, k / 32));
            }
        }
        if (bits == 4 && less) assert_int_equal(zeros[0], 0x77777777);
        assert_non_null(strstr(o.p.config, less ? "\"sym\": true" : "\"sym\": false"));
        close_down(&o);
    }
}

/* "matrix [numel/g, g]; high nibble = row r, low nibble = row r + rows/2" */
static void hqq_lies_so(void **state)
{
    (void)state;
    opened o;
    open_down(&o, "hqq", ZEROS);
    const uint8_t *bytes = stored(&o, "W_q", WANE_U8, 160, 32);
    const uint16_t *scale = stored(&o, "scale", WANE_F16, 320, 1);
    const wane_tensor *zero = test_part(&o.p, DOWN ".zero");
    wane_err e;
    wane_tensor *wide;
    assert_int_equal(
        wane_tensor_copy_to((wane_tensor *)(uintptr_t)zero, o.p.d, WANE_F32, &wide, &e), WANE_OK);
    for (int r = 0; r < 320; r++) {
        int n = r / 5, g = r % 5;
        for (int i = 0; i < 32; i++) {
            int byte = bytes[r % 160 * 32 + i];
            assert_int_equal(r < 160 ? byte >> 4 : byte & 15, o.codes[n * 160 + g * 32 + i]);
        }
        assert_int_equal(scale[r], scale_bits(&o, n, g));
        assert_int_equal(((float *)wide->buffer->data)[r], zero_of(&o, n, g));
    }
    wane_tensor_release(wide);
    assert_int_equal(*(const int32_t *)stored(&o, "nbits", WANE_I32, 0, 0), 4);
    assert_int_equal(*(const int32_t *)stored(&o, "group_size", WANE_I32, 0, 0), 32);
    assert_int_equal(*(const int32_t *)stored(&o, "axis", WANE_I32, 0, 0), 1);
    assert_memory_equal(stored(&o, "packing", WANE_U8, 7, 0), "4bit_u8", 7);
    assert_memory_equal(stored(&o, "compute_dtype", WANE_U8, 13, 0), "torch.float16", 13);
    const int64_t *shape = stored(&o, "shape", WANE_I64, 2, 0);
    assert_int_equal(shape[0] * 1000 + shape[1], 64160);
    close_down(&o);
}

/* ---- from format to format ---- */

/* Every weight of two models, as they compute with them. */
static void same_weights(wane_model *a, wane_model *b)
{
    wane_err e;
    for (int i = 0; i < 2; i++)
        for (int id = 0; id < WANE_LINEARS; id++) {
            char name[WANE_NAME + 8], part[WANE_NAME];
            wane_tensor *x, *y;
            snprintf(name, sizeof name, "%s.weight",
                     wane_layer_name(part, i, wane_linear_name((wane_linear_id)id)));
            assert_int_equal(wane_model_tensor(a, name, &x, &e), WANE_OK);
            if (wane_model_tensor(b, name, &y, &e)) fail_msg("%s", e.message);
            assert_int_equal(wane_tensor_bytes(x), wane_tensor_bytes(y));
            assert_memory_equal(x->buffer->data, y->buffer->data, wane_tensor_bytes(x));
            wane_tensor_release(x);
            wane_tensor_release(y);
        }
}

/* Through every pair of formats that hold the grid, and back: the same weights; in the end the same
 * file. */
static void every_pair(void **state)
{
    (void)state;
    wane_err e;
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        char *folder = test_folder();
        wane_device *d = test_device(UINT64_MAX);
        uint64_t live = d->live;
        wane_model *m = test_quantized_model("qwen3", d, symmetric ? SYMMETRIC : ZEROS, false);
        for (int a = 0; a < N_FORMATS; a++) {
            if (!symmetric && !strcmp(FORMATS[a], "gptq")) continue;
            save_well(m, FORMATS[a], test_path(folder, "a"));
            wane_model *first = test_reopen(test_path(folder, "a"), d);
            same_weights(m, first);
            for (int b = 0; b < N_FORMATS; b++) {
                if (!symmetric && !strcmp(FORMATS[b], "gptq")) continue;
                save_well(first, FORMATS[b], test_path(folder, "b"));
                wane_model *second = test_reopen(test_path(folder, "b"), d);
                same_weights(m, second);
                save_well(second, FORMATS[a], test_path(folder, "c"));
                wane_model *third = test_reopen(test_path(folder, "c"), d);
                test_same_layers(first, third);
                char *x, *y;
                size_t nx, ny;
                wane_file_read_all(test_path(folder, "a/model.safetensors"), 1 << 24, &x, &nx, &e);
                wane_file_read_all(test_path(folder, "c/model.safetensors"), 1 << 24, &y, &ny, &e);
                assert_int_equal(nx, ny);
                assert_memory_equal(x, y, nx);
                free(x);
                free(y);
                wane_file_read_all(test_path(folder, "a/config.json"), 1 << 24, &x, &nx, &e);
                wane_file_read_all(test_path(folder, "c/config.json"), 1 << 24, &y, &ny, &e);
                assert_string_equal(x, y);
                free(x);
                free(y);
                wane_model_release(third);
                wane_model_release(second);
                assert_int_equal(wane_dir_remove(test_path(folder, "b"), &e), WANE_OK);
                assert_int_equal(wane_dir_remove(test_path(folder, "c"), &e), WANE_OK);
            }
            wane_model_release(first);
            assert_int_equal(wane_dir_remove(test_path(folder, "a"), &e), WANE_OK);
        }
        wane_model_release(m);
        assert_int_equal(d->live, live);
        wane_device_release(d);
        test_folder_remove(folder);
    }
}

/* What a model takes on the device is known from headers, in every format. */
static void bytes_are_known(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_err e;
    wane_model *m = test_quantized_model("qwen3", d, SYMMETRIC, false);
    for (int i = 0; i < N_FORMATS; i++) {
        save_well(m, FORMATS[i], test_path(folder, FORMATS[i]));
        wane_model *back = test_reopen(test_path(folder, FORMATS[i]), d);
        wane_layer *layer;
        uint64_t said = back->source.bytes(back->source.self, 1);
        assert_int_equal(wane_model_layer(back, 1, &layer, &e), WANE_OK);
        assert_int_equal(said, wane_layer_bytes(layer));
        wane_layer_release(layer);
        wane_model_release(back);
    }
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

/* ---- what cannot be written ---- */

static void refused_grids(void **state)
{
    (void)state;
    static const struct {
        const char *format, *family;
        test_grid g;
        bool head;
        const char *why, *instead;
    } rows[] = {
        {"awq",
         "qwen3",
         {3, 32, false, 0, WANE_F16},
         false,
         "4-bit weights, not 3-bit",
         "compressed-tensors"},
        {"awq", "qwen3", {8, -1, true, 8, WANE_F16}, false, "not W8A8", "compressed-tensors"},
        {"awq", "llama3", {4, 32, false, 0, WANE_F16}, true, "heads", "compressed-tensors"},
        {"gptq", "qwen3", {4, 32, false, 0, WANE_F16}, false, "symmetric", "awq"},
        {"gptq",
         "llama3",
         {4, 32, true, 0, WANE_F16},
         false,
         "32 divides, not (16, 64)",
         "compressed-tensors"},
        {"gptq", "qwen3", {8, -1, true, 8, WANE_F16}, false, "activations", "compressed-tensors"},
        {"gptq-v2",
         "llama3",
         {4, 32, false, 0, WANE_F16},
         false,
         "32 divides, not (16, 64)",
         "compressed-tensors"},
        {"hqq", "qwen3", {8, 32, false, 0, WANE_F16}, false, "4-bit", "compressed-tensors"},
        {"hqq",
         "qwen3",
         {4, -1, false, 0, WANE_F16},
         false,
         "not whole rows",
         "compressed-tensors"},
        {"hqq", "llama3", {4, 32, false, 0, WANE_F16}, true, "heads", "compressed-tensors"},
    };
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wane_err e;
        wane_saved told;
        wane_model *m = test_quantized_model(rows[i].family, d, rows[i].g, rows[i].head);
        wane_status s = save_as(m, rows[i].format, test_path(folder, "out"), &told, &e);
        if (s != WANE_EUNSUPPORTED || !strstr(e.message, rows[i].why) ||
            !strstr(e.message, rows[i].instead) || !strstr(e.message, rows[i].format))
            fail_msg("row %zu: %d %s", i, s, e.message);
        assert_int_equal(test_count(folder), 0);
        wane_model_release(m);
    }
    wane_device_release(d);
    test_folder_remove(folder);
}

/* ---- files that lie ---- */

typedef struct {
    const char *suffix;
    int rank; /* 0: gone */
    wane_dtype dtype;
    int64_t a, b;
} lie;

static void try_lies(const char *format, test_grid g, const lie *rows, size_t count)
{
    test_parts p;
    test_take_apart(&p, g, format);
    assert_int_equal(test_open_changed(&p, NULL, NULL, NULL, NULL).status, WANE_OK);
    for (size_t i = 0; i < count; i++) {
        char name[128];
        snprintf(name, sizeof name, DOWN ".%s", rows[i].suffix);
        wane_tensor *t = rows[i].rank
                             ? test_zeros(p.d, rows[i].dtype, rows[i].rank, rows[i].a, rows[i].b)
                             : NULL;
        wane_err e = test_open_changed(&p, name, t, NULL, NULL);
        wane_tensor_release(t);
        if (e.status != WANE_EFORMAT || !strstr(e.message, DOWN) || !strstr(e.tensor, DOWN))
            fail_msg("%s row %zu: %d %s: %s", format, i, e.status, name, e.message);
    }
    test_forget(&p);
}

static void lying_tensors(void **state)
{
    (void)state;
    static const lie awq[] = {
        {"qweight", 0, WANE_I32, 0, 0},    {"qweight", 2, WANE_F32, 160, 8},
        {"qweight", 2, WANE_I32, 8, 160},  {"qweight", 2, WANE_I32, 160, 9},
        {"qweight", 1, WANE_I32, 1280, 0}, {"qzeros", 0, WANE_I32, 0, 0},
        {"qzeros", 2, WANE_I32, 4, 8},     {"qzeros", 2, WANE_I8, 5, 8},
        {"scales", 0, WANE_F16, 0, 0},     {"scales", 2, WANE_F16, 64, 5},
        {"scales", 2, WANE_I32, 5, 64},    {"scales", 2, WANE_F16, 5, 65},
    };
    static const lie gptq[] = {
        {"qweight", 0, WANE_I32, 0, 0},
        {"qweight", 2, WANE_F32, 20, 64},
        {"qweight", 2, WANE_I32, 64, 20},
        {"qweight", 2, WANE_I32, 20, 63},
        {"qzeros", 0, WANE_I32, 0, 0},
        {"qzeros", 2, WANE_I32, 5, 7},
        {"qzeros", 2, WANE_I32, 5, 8} /* zeros, and the config says sym */,
        {"scales", 0, WANE_F16, 0, 0},
        {"scales", 2, WANE_F16, 64, 5},
        {"scales", 1, WANE_F16, 320, 0},
        {"g_idx", 1, WANE_I32, 161, 0},
        {"g_idx", 2, WANE_I32, 160, 1},
        {"g_idx", 1, WANE_I64, 160, 0},
    };
    static const lie hqq[] = {
        {"W_q", 0, WANE_U8, 0, 0},      {"W_q", 2, WANE_I8, 160, 32},
        {"W_q", 2, WANE_U8, 320, 32},   {"W_q", 2, WANE_U8, 32, 160},
        {"scale", 0, WANE_F16, 0, 0},   {"scale", 2, WANE_F16, 1, 320},
        {"scale", 1, WANE_F16, 320, 0}, {"zero", 0, WANE_F16, 0, 0},
        {"zero", 2, WANE_U8, 320, 1},   {"zero", 2, WANE_F16, 319, 1},
    };
    try_lies("awq", ZEROS, awq, sizeof awq / sizeof *awq);
    try_lies("gptq", SYMMETRIC, gptq, sizeof gptq / sizeof *gptq);
    try_lies("hqq", ZEROS, hqq, sizeof hqq / sizeof *hqq);
}

static void lying_configs(void **state)
{
    (void)state;
    static const struct {
        const char *format, *from, *to;
        wane_status status;
        const char *message;
    } rows[] = {
        {"awq", "\"bits\": 4", "\"bits\": 3", WANE_EUNSUPPORTED, "4 bits"},
        {"awq", "\"bits\": 4", "\"bits\": \"4\"", WANE_EUNSUPPORTED, "4 bits"},
        {"awq", "\"bits\": 4", "\"w_bit\": 4", WANE_OK, ""},
        {"awq", "\"group_size\": 32", "\"q_group_size\": 32", WANE_OK, ""},
        {"awq", "\"group_size\": 32", "\"group_size\": 48", WANE_EUNSUPPORTED, "do not divide"},
        {"awq", "\"group_size\": 32", "\"group_size\": 16", WANE_EFORMAT, "qzeros"},
        {"awq", "\"group_size\": 32", "\"group_size\": -1", WANE_EFORMAT, "qzeros"},
        {"awq", "\"group_size\": 32", "\"group_size\": 0", WANE_EUNSUPPORTED, "group_size"},
        {"awq", "\"version\": \"gemm\"", "\"version\": \"gemv\"", WANE_EUNSUPPORTED, "gemm"},
        {"awq", "\"version\": \"gemm\"", "\"version\": \"GEMM\"", WANE_OK, ""},
        {"awq", "\"version\": \"gemm\"", "\"version\": \"ge\"", WANE_EUNSUPPORTED, "gemm"},
        {"awq", "\"version\": \"gemm\"", "\"version\": 4", WANE_EUNSUPPORTED, "gemm"},
        {"awq", "\"zero_point\": true", "\"zero_point\": false", WANE_EUNSUPPORTED, "zero_point"},
        {"awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"gptq\"", WANE_EFORMAT, "qweight"},
        {"gptq", "\"bits\": 4", "\"bits\": 5", WANE_EUNSUPPORTED, "2, 3, 4 or 8"},
        {"gptq", "\"bits\": 4", "\"bits\": 8", WANE_EFORMAT, "qweight"},
        {"gptq", "\"group_size\": 32", "\"group_size\": 48", WANE_EUNSUPPORTED, "do not divide"},
        {"gptq", "\"group_size\": 32", "\"group_size\": -2", WANE_EUNSUPPORTED, "group_size"},
        {"gptq", "\"checkpoint_format\": \"gptq\"", "\"checkpoint_format\": \"marlin\"",
         WANE_EUNSUPPORTED, "marlin"},
        {"gptq", "\"checkpoint_format\": \"gptq\"", "\"checkpoint_format\": \"gptq_v2\"",
         WANE_EFORMAT, "qzeros"},
        {"gptq", "\"pack_dtype\": \"int32\"", "\"pack_dtype\": \"int16\"", WANE_EUNSUPPORTED,
         "int32"},
        {"gptq", "\"sym\": true", "\"sym\": false", WANE_OK, ""},
        {"hqq", "\"nbits\": 4", "\"nbits\": 8", WANE_EUNSUPPORTED, "nbits 4"},
        {"hqq", "\"axis\": 1", "\"axis\": 0", WANE_EUNSUPPORTED, "axis 1"},
        {"hqq", "\"group_size\": 32", "\"group_size\": null", WANE_EUNSUPPORTED, "group_size"},
        {"hqq", "\"group_size\": 32", "\"group_size\": 16", WANE_EFORMAT, "W_q"},
        {"hqq", "\"view_as_float\": false", "\"view_as_float\": true", WANE_EUNSUPPORTED,
         "as they are"},
        {"hqq", "\"scale_quant_params\": null", "\"scale_quant_params\": {}", WANE_EUNSUPPORTED,
         "as they are"},
        {"hqq", "\"weight_quant_params\"", "\"other\"", WANE_EUNSUPPORTED, "one scheme"},
    };
    test_parts p;
    const char *format = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!format || strcmp(format, rows[i].format)) {
            if (format) test_forget(&p);
            format = rows[i].format;
            test_take_apart(&p, strcmp(format, "gptq") ? ZEROS : SYMMETRIC, format);
        }
        wane_err e = test_open_changed(&p, NULL, NULL, rows[i].from, rows[i].to);
        if (e.status != rows[i].status || !strstr(e.message, rows[i].message))
            fail_msg("row %zu: %d: %s", i, e.status, e.message);
    }
    test_forget(&p);
}

/* Columns in another order, zero points that the first version cannot say, scales that are NaN. */
static void gptq_traps(void **state)
{
    (void)state;
    test_parts p;
    test_take_apart(&p, SYMMETRIC, "gptq");
    wane_tensor *order = test_zeros(p.d, WANE_I32, 1, 160, 0);
    for (int i = 0; i < 160; i++) ((int32_t *)order->buffer->data)[i] = (159 - i) / 32;
    wane_err e = test_open_changed(&p, DOWN ".g_idx", order, NULL, NULL);
    assert_int_equal(e.status, WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "desc_act"));
    wane_tensor_release(order);
    assert_int_equal(test_open_changed(&p, DOWN ".g_idx", NULL, NULL, NULL).status, WANE_OK);

    wane_tensor *zeros = test_zeros(p.d, WANE_I32, 2, 5, 8);
    memset(zeros->buffer->data, 0x33, 160);
    assert_int_equal(
        test_open_changed(&p, DOWN ".qzeros", zeros, "\"sym\": true", "\"sym\": false").status,
        WANE_OK);
    ((uint8_t *)zeros->buffer->data)[159] = 0xf3;
    e = test_open_changed(&p, DOWN ".qzeros", zeros, "\"sym\": true", "\"sym\": false");
    assert_int_equal(e.status, WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "zero point of 0 or of 16"));
    wane_tensor_release(zeros);

    static const char *const formats[] = {"gptq", "awq", "hqq"};
    for (int i = 0; i < 3; i++) {
        if (i) {
            test_forget(&p);
            test_take_apart(&p, ZEROS, formats[i]);
        }
        const char *name = i == 2 ? DOWN ".scale" : DOWN ".scales";
        wane_tensor *scales =
            i == 2 ? test_zeros(p.d, WANE_F16, 2, 320, 1) : test_zeros(p.d, WANE_F16, 2, 5, 64);
        ((uint16_t *)scales->buffer->data)[319] = 0x7c00;
        e = test_open_changed(&p, name, scales, NULL, NULL);
        assert_int_equal(e.status, WANE_ENUMERIC);
        assert_string_equal(e.tensor, name);
        wane_tensor_release(scales);
    }
    test_forget(&p);
}

/* ---- failures ---- */

/* Every allocation fails in turn, in every format, writing and reading back: nothing is left. */
static void sweep(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_quantized_model("qwen3", d, SYMMETRIC, false);
    const char *dir = test_path(folder, "out");
    uint64_t live = d->live;
    for (int f = 1; f <= N_FORMATS; f++) {
        wane_save_options o = {.dense = WANE_F16, .packing = NULL};
        if (f < N_FORMATS) o = test_save_options(FORMATS[f]);
        for (int host = 0; host < 2; host++) {
            for (long n = 0;; n += host && n > 60 ? n / 6 : 1) {
                wane_err e;
                wane_saved told;
                if (host)
                    test_malloc_fail_after(n);
                else
                    d->fail_after = n;
                wane_status s = wane_save(m, dir, &o, &told, &e);
                bool failed = host ? test_malloc_failed() : d->fail_after < 0;
                test_malloc_fail_after(-1);
                d->fail_after = -1;
                assert_int_equal(d->live, live);
                assert_int_equal(test_count(folder), !s);
                if (!s) assert_int_equal(wane_dir_remove(dir, &e), WANE_OK);
                if (!s && !failed) break;
                if (s && s != WANE_EOOM) fail_msg("%d %ld: %d %s", host, n, s, e.message);
            }
        }
    }
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

int test_formats(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(awq_lies_so),     cmocka_unit_test(gptq_lies_so),
        cmocka_unit_test(hqq_lies_so),     cmocka_unit_test(every_pair),
        cmocka_unit_test(bytes_are_known), cmocka_unit_test(refused_grids),
        cmocka_unit_test(lying_tensors),   cmocka_unit_test(lying_configs),
        cmocka_unit_test(gptq_traps),      cmocka_unit_test(sweep),
    };
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}
