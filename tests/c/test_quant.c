/* test_quant.c - methods on single matrices against float64 references
 * (tests/reference/matrices.py, matrices_more.py), folding, plans, and every allocation's failure.
 */
#include "tests/c/test.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "runtime/quant/stage.h"
#include "runtime/tensor/math.h"
#include "runtime/tensor/safetensors.h"

static const char *const matrices[] = {"q_proj", "down_proj"};

static wane_device *open_device(void)
{
    wane_device *d;
    wane_err e;
    const char *name = getenv("WANE_DEVICE");
    if (wane_device_open(name ? name : "cpu", UINT64_MAX, &d, &e)) fail_msg("%s", e.message);
    return d;
}

static wane_safetensors *open_reference(const char *name)
{
    wane_safetensors *f;
    wane_err e;
    char path[64];
    snprintf(path, sizeof path, "tests/reference/%s.safetensors", name);
    if (wane_safetensors_open(test_tree(path), &f, &e)) fail_msg("%s", e.message);
    return f;
}

/* Bytes of the entry MATRIX.KEY, and its shape. */
static void *entry(const wane_safetensors *f, const char *matrix, const char *key,
                   const wane_entry **out)
{
    char name[128];
    wane_err e;
    snprintf(name, sizeof name, "%s.%s", matrix, key);
    const wane_entry *t = wane_safetensors_find(f, name);
    if (!t) fail_msg("no %s in the reference", name);
    void *data = malloc(t->end - t->begin);
    assert_non_null(data);
    assert_int_equal(wane_safetensors_read(f, t, 0, t->end - t->begin, data, &e), WANE_OK);
    if (out) *out = t;
    return data;
}

/* A float64 entry as an F32 tensor (rows, cols), divided row and column by s [cols], may be NULL.
 */
static wane_tensor *number_entry(wane_device *d, const wane_safetensors *f, const char *matrix,
                                 const char *key, const double *s)
{
    const wane_entry *t;
    wane_tensor *out;
    wane_err e;
    double *data = entry(f, matrix, key, &t);
    int64_t shape[2] = {t->rank == 2 ? t->shape[0] : 1, t->shape[t->rank - 1]};
    float *values = malloc((size_t)(shape[0] * shape[1]) * sizeof *values);
    for (int64_t i = 0; i < shape[0]; i++)
        for (int64_t j = 0; j < shape[1]; j++)
            values[i * shape[1] + j] = (float)(data[i * shape[1] + j] / (s ? s[i] * s[j] : 1));
    assert_int_equal(wane_tensor_from(d, WANE_F32, 2, shape, values, WANE_F32, &out, &e), WANE_OK);
    free(values);
    free(data);
    return out;
}

/* The weight as it is stored, or in F32, so that scales are too. */
static wane_tensor *weight_entry(wane_device *d, const wane_safetensors *f, const char *matrix,
                                 bool as_stored)
{
    char name[64];
    wane_tensor *stored, *w;
    wane_err e;
    snprintf(name, sizeof name, "%s.w", matrix);
    const wane_entry *t = wane_safetensors_find(f, name);
    assert_non_null(t);
    assert_int_equal(wane_safetensors_load(f, t, d, &stored, &e), WANE_OK);
    if (as_stored) return stored;
    assert_int_equal(wane_tensor_copy_to(stored, d, WANE_F32, &w, &e), WANE_OK);
    wane_tensor_release(stored);
    return w;
}

static wane_stats *stats_entry(wane_device *d, const wane_safetensors *f, const char *matrix,
                               const double *s)
{
    wane_stats *stats;
    wane_err e;
    wane_tensor *h = number_entry(d, f, matrix, "h", s),
                *mean = number_entry(d, f, matrix, "mean_abs_x", NULL),
                *max = number_entry(d, f, matrix, "max_abs_x", NULL);
    if (wane_stats_from(d, h, mean, max, 7, &stats, &e)) fail_msg("%s", e.message);
    wane_tensor_release(h);
    wane_tensor_release(mean);
    wane_tensor_release(max);
    return stats;
}

typedef struct {
    const char *name;
    double value;
} setting;

/* A plan from a NULL-ended list of options; zero "float" where asked. */
static wane_plan plan_of(const char *method, const setting *given, bool float_zero)
{
    wane_plan p;
    wane_err e;
    wane_plan_start(&p, wane_method_find(method));
    for (; given->name; given++)
        if (wane_plan_set(&p, given->name, given->value, &e)) fail_msg("%s", e.message);
    if (float_zero && wane_plan_choose(&p, "zero", "float", &e)) fail_msg("%s", e.message);
    if (wane_plan_settle(&p, &e)) fail_msg("%s", e.message);
    return p;
}

static wane_stage *stage_of(const wane_plan *p, wane_tensor *w, wane_stats *stats)
{
    wane_stage *st;
    wane_err e;
    const char *name = "matrix";
    if (wane_stage_new(p, &w, &name, 1, stats, NULL, &st, &e)) fail_msg("%s", e.message);
    return st;
}

/* Share of codes that differ from the reference's. */
static double difference(const wane_quantized *q, const uint8_t *expected)
{
    wane_tensor *codes;
    wane_err e;
    wane_device *d = wane_tensor_device(q->words);
    size_t count = (size_t)(q->m * q->k), wrong = 0;
    uint8_t *got = malloc(count);
    assert_int_equal(wane_tensor_new2(d, WANE_U8, q->m, q->k, &codes, &e), WANE_OK);
    assert_int_equal(WANE_CALL(d, &e, unpack, wane_tensor_mat(codes), wane_quantized_mat(q)),
                     WANE_OK);
    assert_int_equal(wane_tensor_get(codes, got, &e), WANE_OK);
    for (size_t i = 0; i < count; i++) wrong += got[i] != expected[i];
    wane_tensor_release(codes);
    free(got);
    return (double)wrong / (double)count;
}

/* Codes and error of one method on one matrix against KEY of the reference; with scales of F32, or
 * as the weight is stored. Gives the codes and what was noted. */
static wane_quantized *check_codes(wane_device *d, const wane_safetensors *f, const json_t *errors,
                                   const char *matrix, const char *key, const wane_plan *p,
                                   bool stored, wane_result *r)
{
    char name[128];
    wane_err e;
    wane_quantized *q;
    wane_tensor *w = weight_entry(d, f, matrix, stored);
    wane_stats *stats = stats_entry(d, f, matrix, NULL);
    wane_stage *st = stage_of(p, w, stats);
    if (wane_stage_encode(st, 0, &q, r, &e)) fail_msg("%s", e.message);
    snprintf(name, sizeof name, "%s.codes", key);
    uint8_t *expected = entry(f, matrix, name, NULL);
    double wrong = difference(q, expected);
    if (!(wrong <= 1e-3)) fail_msg("%s.%s: %g of the codes differ", matrix, key, wrong);
    snprintf(name, sizeof name, "%s.%s", matrix, key);
    double error = json_number_value(json_object_get(errors, name));
    if (!(fabs(r->error / error - 1) < 5e-3)) /* ties */
        fail_msg("%s: error %g, not %g", name, r->error, error);
    if (r->fallback) fail_msg("%s: fell back", name);
    free(expected);
    wane_stage_free(st);
    wane_stats_release(stats);
    wane_tensor_release(w);
    return q;
}

static void check_only(wane_device *d, const wane_safetensors *f, const json_t *errors,
                       const char *matrix, const char *key, const wane_plan *p)
{
    wane_result r;
    wane_quantized_release(check_codes(d, f, errors, matrix, key, p, false, &r));
}

static json_t *open_errors(const char *name)
{
    char path[64];
    json_error_t why;
    snprintf(path, sizeof path, "tests/reference/%s.json", name);
    json_t *j = json_load_file(test_tree(path), 0, &why);
    if (!j) fail_msg("%s: %s", path, why.text);
    return j;
}

static void golden_codes(void **state)
{
    (void)state;
    static const double grid[][2] = {{4, 64}, {3, 32}};
    wane_device *d = open_device();
    wane_safetensors *f = open_reference("matrices");
    json_t *errors = open_errors("matrices");
    for (int m = 0; m < 2; m++) {
        for (int g = 0; g < 2; g++) {
            char key[64];
            setting common[] = {
                {"bits", grid[g][0]}, {"group_size", grid[g][1]}, {NULL, 0}, {NULL, 0}, {NULL, 0}};
            wane_plan p = plan_of("hqq", common, true);
            snprintf(key, sizeof key, "hqq.w%gg%g", grid[g][0], grid[g][1]);
            check_only(d, f, errors, matrices[m], key, &p);
            for (int symmetric = 0; symmetric < 2; symmetric++) {
                const char *suffix = symmetric ? "sym" : "asym";
                common[2] = (setting){"symmetric", symmetric};
                p = plan_of("rtn", common, false);
                snprintf(key, sizeof key, "rtn.w%gg%g.%s", grid[g][0], grid[g][1], suffix);
                check_only(d, f, errors, matrices[m], key, &p);
                for (int order = 0; order < 2; order++) {
                    common[3] = (setting){"order", order};
                    p = plan_of("gptq", common, false);
                    snprintf(key, sizeof key, "gptq%s.w%gg%g.%s", order ? "_ordered" : "",
                             grid[g][0], grid[g][1], suffix);
                    check_only(d, f, errors, matrices[m], key, &p);
                }
                common[3].name = NULL;
            }
        }
    }
    json_decref(errors);
    wane_safetensors_close(f);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

/* The method's scale for one matrix, on the host; free. */
static float *scale_of(wane_device *d, const wane_safetensors *f, const char *matrix,
                       const wane_plan *p, int64_t *k, wane_result *r)
{
    wane_err e;
    wane_tensor *w = weight_entry(d, f, matrix, false), *s;
    wane_stats *stats = stats_entry(d, f, matrix, NULL);
    wane_stage *st = stage_of(p, w, stats);
    if (wane_stage_scale(st, &s, r, &e)) fail_msg("%s", e.message);
    *k = stats->k;
    float *out = malloc((size_t)*k * sizeof *out);
    assert_int_equal(wane_tensor_get(s, out, &e), WANE_OK);
    wane_tensor_release(s);
    wane_stage_free(st);
    wane_stats_release(stats);
    wane_tensor_release(w);
    return out;
}

/* Error of rounding w * s to nearest, for inputs divided by s. */
static double rounded_error(wane_device *d, const wane_safetensors *f, const char *matrix,
                            const float *s, int64_t k)
{
    wane_err e;
    wane_result r;
    wane_quantized *q;
    double *exact = malloc((size_t)k * sizeof *exact);
    int64_t shape[2] = {1, k};
    wane_tensor *w = weight_entry(d, f, matrix, false), *scale, *scaled;
    wane_plan p = plan_of("rtn", (setting[]){{NULL, 0}}, false);
    for (int64_t i = 0; i < k; i++) exact[i] = s[i];
    assert_int_equal(wane_tensor_from(d, WANE_F32, 2, shape, s, WANE_F32, &scale, &e), WANE_OK);
    assert_int_equal(wane_tensor_binary(w, scale, WANE_MUL, &scaled, &e), WANE_OK);
    wane_stats *stats = stats_entry(d, f, matrix, exact);
    wane_stage *st = stage_of(&p, scaled, stats);
    assert_int_equal(wane_stage_encode(st, 0, &q, &r, &e), WANE_OK);
    wane_quantized_release(q);
    wane_stage_free(st);
    wane_stats_release(stats);
    wane_tensor_release(w);
    wane_tensor_release(scale);
    wane_tensor_release(scaled);
    free(exact);
    return r.error;
}

static void golden_awq(void **state)
{
    (void)state;
    wane_device *d = open_device();
    wane_safetensors *f = open_reference("matrices");
    json_t *errors = open_errors("matrices");
    for (int m = 0; m < 2; m++) {
        double *expected = entry(f, matrices[m], "awq.losses", NULL);
        char key[64];
        int64_t k;
        wane_result r;
        for (int i = 0; i < 20; i++) {
            wane_plan p = plan_of("awq", (setting[]){{"ratio", i / 20.0}, {NULL, 0}}, false);
            float *s = scale_of(d, f, matrices[m], &p, &k, &r);
            double error = rounded_error(d, f, matrices[m], s, k);
            if (!(fabs(error / expected[i] - 1) < 1e-3))
                fail_msg("%s, ratio %g: %g, not %g", matrices[m], i / 20.0, error, expected[i]);
            free(s);
        }
        wane_plan p = plan_of("awq", (setting[]){{NULL, 0}}, false);
        free(scale_of(d, f, matrices[m], &p, &k, &r));
        snprintf(key, sizeof key, "%s.awq", matrices[m]);
        double best =
            json_number_value(json_object_get(json_object_get(errors, key), "best_ratio"));
        assert_int_equal(r.notes, 1);
        if (fabs(r.note[0].value - best) > 1e-9)
            fail_msg("ratio %g, not %g", r.note[0].value, best);
        free(expected);
    }
    json_decref(errors);
    wane_safetensors_close(f);
    wane_device_release(d);
}

static void golden_smoothquant(void **state)
{
    (void)state;
    wane_device *d = open_device();
    wane_safetensors *f = open_reference("matrices");
    wane_plan p = plan_of("smoothquant", (setting[]){{NULL, 0}}, false);
    assert_int_equal(p.act_bits, 8);
    for (int m = 0; m < 2; m++) {
        int64_t k;
        wane_result r;
        double *expected = entry(f, matrices[m], "smoothquant.scale", NULL);
        float *s = scale_of(d, f, matrices[m], &p, &k, &r);
        for (int64_t i = 0; i < k; i++)
            if (!(fabs(s[i] / expected[i] - 1) < 1e-5)) fail_msg("%g, not %g", s[i], expected[i]);
        free(s);
        free(expected);
    }
    wane_safetensors_close(f);
    wane_device_release(d);
}

static void golden_grids(void **state)
{
    (void)state;
    static const struct {
        double bits, group;
        const char *name;
    } grid[] = {
        {2, 32, "w2g32"}, {8, 64, "w8g64"}, {4, -1, "w4row"}, {8, -1, "w8row"}, {3, -1, "w3row"}};
    wane_device *d = open_device();
    wane_safetensors *f = open_reference("matrices_more");
    json_t *errors = open_errors("matrices_more");
    for (size_t g = 0; g < sizeof grid / sizeof *grid; g++) {
        char key[64];
        setting common[] = {
            {"bits", grid[g].bits}, {"group_size", grid[g].group}, {NULL, 0}, {NULL, 0}};
        wane_plan p = plan_of("hqq", common, false);
        snprintf(key, sizeof key, "hqq.%s", grid[g].name);
        check_only(d, f, errors, "small", key, &p);
        for (int symmetric = 0; symmetric < 2; symmetric++) {
            common[2] = (setting){"symmetric", symmetric};
            for (int method = 0; method < 2; method++) {
                p = plan_of(method ? "gptq" : "rtn", common, false);
                snprintf(key, sizeof key, "%s.%s.%s", p.method->name, grid[g].name,
                         symmetric ? "sym" : "asym");
                check_only(d, f, errors, "small", key, &p);
            }
        }
    }
    for (int symmetric = 0; symmetric < 2; symmetric++) { /* scales of bf16, codes taken on them */
        wane_result r;
        wane_plan p = plan_of(
            "rtn", (setting[]){{"group_size", 32}, {"symmetric", symmetric}, {NULL, 0}}, false);
        wane_quantized *q =
            check_codes(d, f, errors, "small",
                        symmetric ? "rtn_bf16.w4g32.sym" : "rtn_bf16.w4g32.asym", &p, true, &r);
        assert_int_equal(q->scale->dtype, WANE_BF16);
        wane_quantized_release(q);
    }
    json_decref(errors);
    wane_safetensors_close(f);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

static void golden_clip(void **state)
{
    (void)state;
    static const double grid[][2] = {{4, 64}, {2, 32}};
    wane_device *d = open_device();
    wane_safetensors *f = open_reference("matrices_more");
    json_t *errors = open_errors("matrices_more");
    for (int g = 0; g < 2; g++) {
        char key[32], name[64];
        const wane_entry *t;
        wane_result r;
        double sum = 0;
        wane_plan p = plan_of(
            "awq", (setting[]){{"bits", grid[g][0]}, {"group_size", grid[g][1]}, {NULL, 0}}, false);
        snprintf(key, sizeof key, "clip.w%gg%g", grid[g][0], grid[g][1]);
        wane_quantized_release(check_codes(d, f, errors, "small", key, &p, false, &r));
        snprintf(name, sizeof name, "%s.factor", key);
        float *factor = entry(f, "small", name, &t);
        size_t count = (t->end - t->begin) / sizeof *factor;
        for (size_t i = 0; i < count; i++) sum += factor[i];
        assert_string_equal(r.note[0].name, "clip");
        assert_true(fabs(r.note[0].value - sum / (double)count) < 1e-3);
        free(factor);
    }
    json_decref(errors);
    wane_safetensors_close(f);
    wane_device_release(d);
}

/* Codes, and the product in integers with activations rounded by token. */
static void golden_bytes(void **state)
{
    (void)state;
    wane_device *d = open_device();
    wane_safetensors *f = open_reference("matrices_more");
    json_t *errors = open_errors("matrices_more");
    const wane_entry *t;
    wane_err e;
    wane_result r;
    wane_tensor *x, *y;
    wane_plan p = plan_of("smoothquant", (setting[]){{NULL, 0}}, false);
    wane_quantized *q = check_codes(d, f, errors, "small", "w8a8", &p, false, &r);
    assert_int_equal(q->act_bits, 8);
    float *rows = entry(f, "small", "x", &t), *expected = entry(f, "small", "w8a8.y", NULL);
    assert_int_equal(wane_tensor_from(d, WANE_F32, 2, t->shape, rows, WANE_F32, &x, &e), WANE_OK);
    assert_int_equal(wane_tensor_new2(d, WANE_F32, t->shape[0], q->m, &y, &e), WANE_OK);
    assert_int_equal(
        WANE_CALL(d, &e, qmatmul, wane_tensor_mat(y), wane_tensor_mat(x), wane_quantized_mat(q)),
        WANE_OK);
    size_t count = (size_t)wane_tensor_count(y);
    float *got = malloc(count * sizeof *got);
    assert_int_equal(wane_tensor_get(y, got, &e), WANE_OK);
    double wrong = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        wrong += ((double)got[i] - expected[i]) * ((double)got[i] - expected[i]);
        all += (double)expected[i] * expected[i];
    }
    /* a tie of float64 may be none in float32, and one code of 127 is a step */
    if (!(sqrt(wrong / all) < 1e-3)) fail_msg("products differ by %g", sqrt(wrong / all));
    free(rows), free(expected), free(got);
    wane_tensor_release(x);
    wane_tensor_release(y);
    wane_quantized_release(q);
    json_decref(errors);
    wane_safetensors_close(f);
    wane_device_release(d);
}

int test_quant(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_codes),       cmocka_unit_test(golden_awq),
        cmocka_unit_test(golden_smoothquant), cmocka_unit_test(golden_grids),
        cmocka_unit_test(golden_clip),        cmocka_unit_test(golden_bytes),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
