/* test_stored.c - what becomes of a model on its way to files: scales and zero points of another
 * type, with rounding refused or told; dense models; config.json letter by letter. */
#include "tests/c/test.h"

#include <math.h>
#include <string.h>

#include "runtime/base/files.h"
#include "tests/c/files.h"
#include "tests/c/models.h"
#include "tests/c/packed.h"

#define DOWN "model.layers.1.mlp.down_proj" /* (64, 160) */

static const test_grid SYMMETRIC = {4, 32, true, 0, WANE_F16};
static const test_grid ZEROS = {4, 32, false, 0, WANE_F16};

/* ---- scales of another type ---- */

static wane_quantized *first_codes(wane_device *d, wane_dtype scale, float s, wane_dtype zero)
{
    wane_err e;
    wane_quantized *q;
    assert_int_equal(wane_quantized_new(d, 8, 32, 4, 32, 0, scale, zero, &q, &e), WANE_OK);
    uint32_t *words = wane_tensor_mat(q->words).data;
    for (int i = 0; i < 32; i++) words[i] = 0x12345678u + (uint32_t)i;
    for (int i = 0; i < 8; i++) {
        if (scale == WANE_F32)
            ((float *)wane_tensor_mat(q->scale).data)[i] = s;
        else {
            uint32_t bits;
            memcpy(&bits, &s, sizeof bits);
            ((uint16_t *)wane_tensor_mat(q->scale).data)[i] = (uint16_t)(bits >> 16); /* BF16 */
        }
        if (zero == WANE_U8) ((uint8_t *)wane_tensor_mat(q->zero).data)[i] = 8;
        if (zero == WANE_F32) ((float *)wane_tensor_mat(q->zero).data)[i] = 8;
    }
    return q;
}

static wane_status fit(const char *format, const wane_quantized *q, bool round,
                       wane_packed_loss *loss, wane_quantized **out, wane_err *e)
{
    memset(loss, 0, sizeof *loss);
    return wane_packed_fit(wane_packing_find(format), q, false, round, loss, "down", out, e);
}

/* Exact ones pass, inexact ones are refused or counted, those without a number near are refused
 * always, and those that do not matter never stand in the way. */
static void scales_that_are_rounded(void **state)
{
    (void)state;
    static const struct {
        float scale;
        wane_status plain, rounded;
        uint64_t count;
    } rows[] = {
        {0x1.8p-10f, WANE_OK, WANE_OK, 0},
        {0x1p-24f, WANE_OK, WANE_OK, 0},
        {0x1.02p-17f, WANE_OK, WANE_OK, 0},
        {0x1.02p-18f, WANE_EUNSUPPORTED, WANE_OK, 8},
        {0x1.8p-24f, WANE_EUNSUPPORTED, WANE_OK, 8},
        {65280, WANE_OK, WANE_OK, 0},
        {0x1p-30f, WANE_EUNSUPPORTED, WANE_EUNSUPPORTED, 0},
        {0x1p16f, WANE_EUNSUPPORTED, WANE_EUNSUPPORTED, 0},
    };
    wane_device *d = test_device(UINT64_MAX);
    wane_packed_loss loss;
    wane_err e;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wane_quantized *out = NULL, *q = first_codes(d, WANE_BF16, rows[i].scale, WANE_U8);
        assert_int_equal(fit("awq", q, false, &loss, &out, &e), rows[i].plain);
        if (out) assert_int_equal(out->scale->dtype, WANE_F16);
        wane_quantized_release(out);
        out = NULL;
        assert_int_equal(fit("awq", q, true, &loss, &out, &e), rows[i].rounded);
        if (out) assert_int_equal(loss.rounded, rows[i].count);
        if (rows[i].count) assert_true(loss.worst > 0 && loss.worst < 0.5);
        if (!out) assert_non_null(strstr(e.message, "compressed-tensors"));
        wane_quantized_release(out);
        /* in a format that keeps scales as they are, all pass */
        assert_int_equal(fit("compressed-tensors", q, false, &loss, &out, &e), WANE_OK);
        assert_ptr_equal(out->scale, q->scale);
        wane_quantized_release(out);
        /* groups of zeros have any scale */
        memset(wane_tensor_mat(q->words).data, 0x88, wane_tensor_bytes(q->words));
        if (fit("awq", q, false, &loss, &out, &e)) fail_msg("row %zu: %s", i, e.message);
        const uint16_t *bits = wane_tensor_mat(out->scale).data;
        for (int r = 0; r < 8; r++) assert_true(bits[r] > 0 && bits[r] < 0x7c00);
        wane_quantized_release(out);
        wane_quantized_release(q);
    }
    wane_device_release(d);
}

static void zeros_of_all_kinds(void **state)
{
    (void)state;
    wane_device *d = test_device(UINT64_MAX);
    wane_packed_loss loss;
    wane_err e;
    wane_quantized *out, *q = first_codes(d, WANE_BF16, 0x1p-8f, WANE_F32);
    float *zero = wane_tensor_mat(q->zero).data;
    /* whole ones in F32 are whole ones; in hqq they are numbers of the scales' type */
    assert_int_equal(fit("awq", q, false, &loss, &out, &e), WANE_OK);
    assert_int_equal(out->zero->dtype, WANE_U8);
    assert_int_equal(*(uint8_t *)wane_tensor_mat(out->zero).data, 8);
    wane_quantized_release(out);
    zero[3] = 7.5f;
    assert_false(wane_packed_whole(q));
    assert_int_equal(fit("awq", q, true, &loss, &out, &e), WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "hqq"));
    assert_int_equal(fit("compressed-tensors", q, true, &loss, &out, &e), WANE_EUNSUPPORTED);
    assert_int_equal(fit("hqq", q, false, &loss, &out, &e), WANE_OK);
    assert_int_equal(out->zero->dtype, WANE_F32);
    wane_quantized_release(out);
    zero[3] = 7.51f; /* no bf16 number */
    assert_int_equal(fit("hqq", q, false, &loss, &out, &e), WANE_EUNSUPPORTED);
    assert_int_equal(fit("hqq", q, true, &loss, &out, &e), WANE_OK);
    assert_int_equal(loss.rounded, 1);
    assert_true(fabs(loss.worst - 0.01) < 1e-3);
    assert_true(((float *)wane_tensor_mat(out->zero).data)[3] == 7.5f);
    wane_quantized_release(out);
    zero[3] = 16;
    assert_int_equal(fit("awq", q, true, &loss, &out, &e), WANE_EUNSUPPORTED);
    wane_quantized_release(q);
    /* none where all are in the middle and the format has a word for that */
    q = first_codes(d, WANE_F16, 1, WANE_DTYPES);
    assert_true(wane_packed_centred(q));
    assert_int_equal(fit("awq", q, false, &loss, &out, &e), WANE_OK);
    assert_int_equal(((uint8_t *)wane_tensor_mat(out->zero).data)[7], 8);
    wane_quantized_release(out);
    wane_quantized_release(q);
    wane_device_release(d);
}

/* ---- dense ---- */

static char *config_of(const char *dir)
{
    char path[4096], *text;
    size_t length;
    wane_err e;
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(wane_file_read_all(path, 1 << 20, &text, &length, &e), WANE_OK);
    return text;
}

static void decoded(void **state)
{
    (void)state;
    static const wane_dtype types[] = {WANE_DTYPES, WANE_BF16, WANE_F16, WANE_F32};
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_err e;
    wane_saved told;
    wane_model *m = test_quantized_model("llama3", d, ZEROS, true);
    for (int i = 0; i < 4; i++) {
        wane_save_options o = {.dense = types[i]};
        const char *dir = test_path(folder, "out");
        if (wane_save(m, dir, &o, &told, &e)) fail_msg("%s", e.message);
        wane_model *back = test_reopen(dir, d);
        wane_tensor *w, *q, *rounded;
        wane_dtype t = types[i] == WANE_DTYPES ? WANE_BF16 : types[i];
        assert_int_equal(wane_model_tensor(back, DOWN ".weight", &w, &e), WANE_OK);
        assert_int_equal(wane_model_tensor(m, DOWN ".weight", &q, &e), WANE_OK);
        assert_int_equal(wane_tensor_copy_to(q, d, t, &rounded, &e), WANE_OK);
        assert_int_equal(w->dtype, t);
        assert_memory_equal(w->buffer->data, rounded->buffer->data, wane_tensor_bytes(w));
        wane_tensor_release(rounded);
        wane_tensor_release(w);
        wane_tensor_release(q);
        assert_int_equal(wane_model_tensor(back, "model.norm.weight", &w, &e), WANE_OK);
        assert_int_equal(w->dtype, t);
        wane_tensor_release(w);
        if (t == WANE_F32)
            assert_int_equal(told.loss.rounded, 0);
        else
            assert_true(told.loss.rounded > 100 && told.loss.worst < 0.01);
        char *text = config_of(dir);
        assert_null(strstr(text, "quantization_config"));
        assert_non_null(strstr(text, t == WANE_F32   ? "\"dtype\": \"float32\""
                                     : t == WANE_F16 ? "\"dtype\": \"float16\""
                                                     : "\"dtype\": \"bfloat16\""));
        free(text);
        wane_model_release(back);
        assert_int_equal(wane_dir_remove(dir, &e), WANE_OK);
    }
    wane_model_release(m);
    /* rounded activations are not a matter of weights */
    m = test_quantized_model("qwen3", d, (test_grid){8, -1, true, 8, WANE_BF16}, false);
    wane_save_options o = {.dense = WANE_BF16};
    assert_int_equal(wane_save(m, test_path(folder, "out"), &o, &told, &e), WANE_EUNSUPPORTED);
    assert_int_equal(test_count(folder), 0);
    wane_model_release(m);
    wane_device_release(d);
    test_folder_remove(folder);
}

/* ---- config.json ---- */

/* Wherever the member stands, only it changes: from compressed-tensors to awq, and out. */
static void config_by_the_letter(void **state)
{
    (void)state;
    static const char *const texts[][3] = {
        /* before, the member is written between, after */
        {"{\"zebra\": [1.50, {\"quantization_config\": 1}],  ", " , \"b\" : 1e-7, ", "}\n"},
        {"{", ",\n\t\"zebra\": \"a \\\" } , \\\\\", ", "}"},
        {"{\"zebra\": -0.0E+2 ,", " \n, ", " }"},
    };
    char *folder = test_folder();
    wane_device *d = test_device(UINT64_MAX);
    wane_err e;
    for (size_t i = 0; i < 3; i++) {
        test_parts p;
        test_take_apart(&p, SYMMETRIC, "compressed-tensors");
        json_t *whole = json_loads(p.config, 0, NULL);
        json_t *q = json_incref(json_object_get(whole, "quantization_config"));
        json_object_del(whole, "quantization_config");
        char *inner = json_dumps(q, 0), *rest = json_dumps(whole, 0), *text;
        assert_true(asprintf(&text, "%s\"quantization_config\" :%s%s%.*s%s", texts[i][0], inner,
                             texts[i][1], (int)strlen(rest) - 2, rest + 1, texts[i][2]) > 0);
        test_write(test_path(p.folder, "good/config.json"), text, strlen(text));
        wane_model *m = test_reopen(test_path(p.folder, "good"), p.d);
        wane_saved told;
        wane_save_options o = test_save_options("awq");
        if (wane_save(m, test_path(folder, "out"), &o, &told, &e)) fail_msg("%s", e.message);
        char *after = config_of(test_path(folder, "out"));
        assert_memory_equal(after, texts[i][0], strlen(texts[i][0]));
        char *tail = strstr(after, texts[i][1]);
        assert_non_null(tail);
        char *end = strstr(text, texts[i][1]);
        assert_string_equal(tail, end);
        assert_null(strstr(after, "compressed-tensors"));
        free(after);
        o = (wane_save_options){.dense = WANE_DTYPES};
        if (wane_save(m, test_path(folder, "dense"), &o, &told, &e)) fail_msg("%s", e.message);
        after = config_of(test_path(folder, "dense"));
        json_t *parsed = json_loads(after, 0, NULL);
        assert_non_null(parsed);
        assert_null(json_object_get(parsed, "quantization_config"));
        assert_non_null(json_object_get(parsed, "zebra"));
        assert_int_equal(json_object_size(parsed),
                         json_object_size(whole) + (strstr(texts[i][1], "\"b\"") ? 2 : 1));
        json_decref(parsed);
        free(after);
        assert_int_equal(wane_dir_remove(test_path(folder, "out"), &e), WANE_OK);
        assert_int_equal(wane_dir_remove(test_path(folder, "dense"), &e), WANE_OK);
        wane_model_release(m);
        free(text);
        free(inner);
        free(rest);
        json_decref(q);
        json_decref(whole);
        test_forget(&p);
    }
    wane_device_release(d);
    test_folder_remove(folder);
}

int test_stored(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scales_that_are_rounded),
        cmocka_unit_test(zeros_of_all_kinds),
        cmocka_unit_test(decoded),
        cmocka_unit_test(config_by_the_letter),
    };
    return cmocka_run_group_tests_name("stored", tests, NULL, NULL);
}
