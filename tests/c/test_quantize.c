/* test_quantize.c - the driver's half: folding that changes no function, passes of calibration
 * texts, statistics that cannot be factored, damage, and every allocation's failure. */
#include "tests/c/test.h"

#include <math.h>
#include <string.h>

#include "runtime/quant/kept.h"
#include "runtime/quant/stage.h"
#include "runtime/tensor/math.h"
#include "tests/c/faults.h"

static wane_device *open_device(void)
{
    wane_device *d;
    wane_err e;
    assert_int_equal(wane_device_open("cpu", UINT64_MAX, &d, &e), WANE_OK);
    return d;
}

static wane_model *open_model(const char *family, wane_device *d, wane_device *host)
{
    char path[64];
    wane_checkpoint *c;
    wane_model *m = NULL;
    wane_err e;
    snprintf(path, sizeof path, "tests/reference/tiny/%s", family);
    if (wane_checkpoint_open(test_tree(path), &c, &e) || wane_model_new(c, d, host, &m, &e))
        fail_msg("%s", e.message);
    wane_checkpoint_release(c);
    return m;
}

enum { TEXTS = 3, LENGTH = 24 };

/* Texts that begin alike; in static storage. */
static const wane_sequence *texts(void)
{
    static int32_t ids[TEXTS][LENGTH];
    static wane_sequence s[TEXTS];
    for (int i = 0; i < TEXTS; i++) {
        for (int t = 0; t < LENGTH; t++) ids[i][t] = (t < 6 ? 7 * t : 31 * i + 13 * t + 5) % 320;
        s[i] = (wane_sequence){ids[i], NULL, LENGTH - i};
    }
    return s;
}

static wane_calib *open_calib(wane_model *m, uint64_t reserve)
{
    wane_quantize_need need = {reserve, reserve, false};
    wane_calib *c;
    wane_err e;
    if (wane_calib_new(m, texts(), TEXTS, WANE_WEIGH_UNIQUE, &need, &c, &e))
        fail_msg("%s", e.message);
    return c;
}

static wane_plan plan_of(const char *method, int bits)
{
    wane_plan p;
    wane_err e;
    wane_plan_start(&p, wane_method_find(method));
    assert_int_equal(wane_plan_set(&p, "bits", bits, &e), WANE_OK);
    assert_int_equal(wane_plan_set(&p, "group_size", 32, &e), WANE_OK);
    if (wane_plan_settle(&p, &e)) fail_msg("%s", e.message);
    return p;
}

/* The residual stream of all texts after layer 0, on the host. */
static float *after_layer(wane_model *m, const wane_layer *layer, size_t *count)
{
    wane_calib *c = open_calib(m, 0);
    wane_stats *none;
    wane_err e;
    for (int stage = -1; stage < 4; stage++) {
        /* nothing of this layer reads what the last stage makes; to say so changes nothing */
        if (stage == 3)
            assert_int_equal(wane_calib_step(c, layer, 0, stage, 1, &none, &e), WANE_EARG);
        if (wane_calib_step(c, layer, 0, stage, 0, &none, &e)) fail_msg("%s", e.message);
    }
    *count = (size_t)wane_tensor_count(c->x);
    float *x = malloc(*count * sizeof *x);
    assert_int_equal(wane_tensor_get(c->x, x, &e), WANE_OK);
    wane_calib_release(c);
    return x;
}

static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)b[i] * b[i];
    }
    return sqrt(d / all);
}

/* A scale between 1/2 and 2 that heads which share a value channel share. */
static float *some_scale(const wane_config *c, int stage)
{
    int64_t k = wane_stage_width(c, stage), repeats = stage == 1 ? c->heads / c->kv_heads : 1;
    float *s = malloc((size_t)k * sizeof *s);
    for (int64_t i = 0; i < k; i++) {
        int64_t row = i / c->head_dim / repeats * c->head_dim + i % c->head_dim;
        s[i] = exp2f(sinf((float)(repeats > 1 ? row : i) * 1.7f));
    }
    return s;
}

/* Codes of 8 bits and one scale a row for a matrix of the layer. */
static void quantize_rows(wane_layer *l, wane_linear_id id)
{
    wane_linear *p = &l->linear[id];
    wane_device *d = wane_tensor_device(p->weight);
    wane_mat none = {0};
    wane_err e;
    wane_tensor *w;
    assert_int_equal(wane_tensor_copy_to(p->weight, d, WANE_F32, &w, &e), WANE_OK);
    assert_int_equal(wane_quantized_new(d, w->shape[0], w->shape[1], 8, -1, 0, WANE_BF16, WANE_U8,
                                        &p->quantized, &e),
                     WANE_OK);
    wane_qmat q = wane_quantized_mat(p->quantized);
    assert_int_equal(WANE_CALL(d, &e, fit_grid, q, wane_tensor_mat(w), none), WANE_OK);
    assert_int_equal(WANE_CALL(d, &e, encode, q, wane_tensor_mat(w)), WANE_OK);
    wane_tensor_release(p->weight);
    wane_tensor_release(w);
    p->weight = NULL;
}

/* A layer with everything of another. */
static wane_layer *same_layer(const wane_layer *from)
{
    wane_layer *l;
    wane_err e;
    assert_int_equal(wane_layer_begin(from, &l, &e), WANE_OK);
    for (int i = 0; i < WANE_LINEARS; i++) {
        l->linear[i].weight = wane_tensor_retain(from->linear[i].weight);
        l->linear[i].quantized = wane_quantized_retain(from->linear[i].quantized);
    }
    return l;
}

/* Multiplies the columns of the stage's matrices; they become F32. */
static void multiply_columns(wane_layer *l, int stage, int64_t k, const float *s)
{
    wane_err e;
    int64_t shape[2] = {1, k};
    for (int i = 0; i < wane_stage_count(stage); i++) {
        wane_linear *p = &l->linear[wane_stage_first(stage) + i];
        wane_tensor *scale, *w;
        assert_int_equal(wane_tensor_from(wane_tensor_device(p->weight), WANE_F32, 2, shape, s,
                                          WANE_F32, &scale, &e),
                         WANE_OK);
        assert_int_equal(wane_tensor_binary(p->weight, scale, WANE_MUL, &w, &e), WANE_OK);
        wane_tensor_release(scale);
        wane_tensor_release(p->weight);
        p->weight = w;
    }
}

static void folding(void **state)
{
    (void)state;
    static const char *const family[] = {"qwen3", "llama3", "qwen2"};
    for (int f = 0; f < 3; f++) {
        for (int stage = 0; stage < 4; stage++) {
            for (int codes = 0; codes < 2;
                 codes++) { /* what makes stages 1 and 3 is codes already, or not */
                wane_device *d = open_device();
                wane_model *m = open_model(family[f], d, d);
                wane_layer *source, *into;
                wane_fold *fold;
                wane_err e;
                size_t count;
                assert_int_equal(wane_model_layer(m, 0, &source, &e), WANE_OK);
                if (codes && stage % 2)
                    quantize_rows(source, stage == 1 ? WANE_V_PROJ : WANE_UP_PROJ);
                into = same_layer(source);
                if (codes && stage % 2) { /* folding changes the scales of its own codes */
                    wane_linear *p = &into->linear[stage == 1 ? WANE_V_PROJ : WANE_UP_PROJ];
                    wane_quantized_release(p->quantized);
                    assert_int_equal(
                        wane_quantized_copy_to(
                            source->linear[stage == 1 ? WANE_V_PROJ : WANE_UP_PROJ].quantized, d,
                            &p->quantized, &e),
                        WANE_OK);
                }
                float *before = after_layer(m, source, &count), *s = some_scale(m->config, stage);
                if (wane_fold_new(m->config, into, stage, &fold, &e)) fail_msg("%s", e.message);
                if (wane_fold_apply(fold, s, &e)) fail_msg("%s", e.message);
                multiply_columns(into, stage, wane_stage_width(m->config, stage), s);
                float *after = after_layer(m, into, &count);
                double error = distance(after, before, count);
                /* a dense producer has many numbers a row, each rounded to bf16 anew, and qwen2's
                 * v_proj has a bias */
                double most = stage % 2 && (!codes || f == 2) ? 2e-3 : 1e-5;
                if (!(error < most))
                    fail_msg("%s, stage %d, codes %d: %g", family[f], stage, codes, error);
                free(before), free(after), free(s);
                wane_fold_free(fold);
                wane_layer_release(source);
                wane_layer_release(into);
                wane_model_release(m);
                assert_int_equal(d->live, d->scratch);
                wane_device_release(d);
            }
        }
    }
}

static void folding_refuses(void **state)
{
    (void)state;
    wane_device *d = open_device();
    wane_model *m = open_model("qwen3", d, d);
    wane_layer *source, *into;
    wane_fold *fold;
    wane_err e;
    assert_int_equal(wane_model_layer(m, 0, &source, &e), WANE_OK);
    assert_int_equal(wane_layer_begin(source, &into, &e), WANE_OK);
    assert_int_equal(wane_fold_new(m->config, into, 3, &fold, &e), WANE_EARG); /* no up_proj yet */
    wane_tensor *norm = into->input_norm;
    float *s = some_scale(m->config, 0);
    assert_int_equal(wane_fold_new(m->config, into, 0, &fold, &e), WANE_OK);
    s[3] = -1;
    assert_int_equal(wane_fold_apply(fold, s, &e), WANE_EARG);
    assert_ptr_equal(into->input_norm, norm);
    s[3] = 1e-44f; /* the gain would be infinite: that channel stays */
    wane_fold_snap(fold, s, m->config->hidden);
    assert_true(s[3] == 1);
    free(s);
    wane_fold_free(fold);
    wane_layer_release(source);
    wane_layer_release(into);
    wane_model_release(m);
    wane_device_release(d);
}

/* Statistics do not depend on how texts are cut into batches, nor on where the device's memory is.
 */
static void passes(void **state)
{
    (void)state;
    wane_device *host = open_device(), *d[2] = {open_device(), NULL};
    float *gram[2], *mean[2];
    wane_err e;
    size_t k = 0;
    assert_int_equal(wane_device_open("cpu", 2 << 20, &d[1], &e),
                     WANE_OK); /* small: one text at a time */
    for (int i = 0; i < 2; i++) {
        wane_model *m = open_model("qwen3", d[i], host);
        wane_calib *c = open_calib(m, i == 1 ? 2 << 20 : 0);
        wane_layer *layer;
        wane_stats *stats;
        if (i == 1) assert_true(c->batches->count > 1);
        assert_int_equal(c->batches->distinct, 6 + 3 * (LENGTH - 6) - 3);
        assert_int_equal(wane_model_layer(m, 0, &layer, &e), WANE_OK);
        for (int stage = -1; stage < 2; stage++) {
            if (wane_calib_step(c, layer, 0, stage, stage == 1 ? 3 : 0, &stats, &e))
                fail_msg("%s", e.message);
        }
        k = (size_t)stats->k;
        gram[i] = malloc(k * k * sizeof(float));
        mean[i] = malloc(k * sizeof(float));
        assert_int_equal(wane_tensor_get(stats->gram, gram[i], &e), WANE_OK);
        assert_int_equal(wane_tensor_get(stats->mean, mean[i], &e), WANE_OK);
        wane_stats_release(stats);
        wane_layer_release(layer);
        wane_calib_release(c);
        wane_model_release(m);
        assert_int_equal(d[i]->live, d[i]->scratch);
    }
    assert_int_equal(host->live, host->scratch);
    assert_true(distance(gram[1], gram[0], k * k) < 1e-5);
    assert_true(distance(mean[1], mean[0], k) < 1e-5);
    for (int i = 0; i < 2; i++) {
        free(gram[i]), free(mean[i]);
        wane_device_release(d[i]);
    }
    wane_device_release(host);
}

static void not_finite(void **state)
{
    (void)state;
    wane_device *d = open_device();
    wane_model *m = open_model("llama3", d, d);
    wane_calib *c = open_calib(m, 0);
    wane_layer *source, *broken;
    wane_stats *stats;
    wane_err e;
    assert_int_equal(wane_model_layer(m, 1, &source, &e), WANE_OK);
    broken = same_layer(source);
    wane_tensor_release(broken->post_norm);
    int64_t width = m->config->hidden;
    float *gain = malloc((size_t)width * sizeof *gain);
    for (int64_t i = 0; i < width; i++) gain[i] = i == 5 ? NAN : 1;
    assert_int_equal(
        wane_tensor_from(d, WANE_F32, 1, &width, gain, WANE_F32, &broken->post_norm, &e), WANE_OK);
    for (int stage = -1; stage < 1; stage++)
        assert_int_equal(wane_calib_step(c, broken, 1, stage, 0, &stats, &e), WANE_OK);
    assert_int_equal(wane_calib_step(c, broken, 1, 1, 1, &stats, &e), WANE_ENUMERIC);
    assert_string_equal(e.layer, "model.layers.1.mlp.gate_proj");
    assert_non_null(strstr(e.message, "token 1 of calibration text 1"));
    /* a step that failed half way leaves nothing to go on from */
    assert_int_equal(wane_calib_step(c, broken, 1, 1, 1, &stats, &e), WANE_EARG);
    free(gain);
    wane_layer_release(source);
    wane_layer_release(broken);
    wane_calib_release(c);
    wane_model_release(m);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

/* h with 2 x 2 blocks ((1, b), (b, 1)): not positive definite for b >= 1. */
static wane_stats *blocks(wane_device *d, int64_t k, float b)
{
    int64_t shape[2] = {k, k};
    float *h = calloc((size_t)(k * k), sizeof *h);
    wane_tensor *gram;
    wane_stats *stats;
    wane_err e;
    for (int64_t i = 0; i < k; i++) h[i * k + i] = 1, h[i * k + (i ^ 1)] = b;
    assert_int_equal(wane_tensor_from(d, WANE_F32, 2, shape, h, WANE_F32, &gram, &e), WANE_OK);
    assert_int_equal(wane_stats_from(d, gram, NULL, NULL, WANE_NEED_GRAM, &stats, &e), WANE_OK);
    wane_tensor_release(gram);
    free(h);
    return stats;
}

static wane_tensor *some_matrix(wane_device *d, int64_t m, int64_t k)
{
    wane_tensor *w;
    wane_err e;
    int64_t shape[2] = {m, k};
    wane_random r = {.seed = 3, .normal = true, .spread = 1};
    assert_int_equal(wane_tensor_random(d, WANE_BF16, 2, shape, r, &w, &e), WANE_OK);
    return w;
}

static void damping(void **state)
{
    (void)state;
    static const struct {
        float b;
        double damp;
        bool fallback;
    } rows[] = {{0.5f, 0.01, false}, {1.05f, 0.08, false}, {1.5f, 0.64, false}, {3, 0.64, true}};
    wane_device *d = open_device();
    wane_plan p = plan_of("gptq", 4);
    wane_tensor *w = some_matrix(d, 16, 64);
    const char *name = "matrix";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wane_stats *stats = blocks(d, 64, rows[i].b);
        wane_stage *st;
        wane_quantized *q;
        wane_result r;
        wane_err e;
        if (wane_stage_new(&p, &w, &name, 1, stats, NULL, &st, &e)) fail_msg("%s", e.message);
        if (wane_stage_encode(st, 0, &q, &r, &e)) fail_msg("%s", e.message);
        assert_int_equal(r.notes, 1);
        if (fabs(r.note[0].value - rows[i].damp) > 1e-9)
            fail_msg("b %g: damp %g", rows[i].b, r.note[0].value);
        if (rows[i].fallback) assert_true(r.fallback && r.error == r.rtn_error);
        wane_quantized_release(q);
        wane_stage_free(st);
        wane_stats_release(stats);
    }
    wane_tensor_release(w);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

static void refusals(void **state)
{
    (void)state;
    wane_device *d = open_device();
    wane_err e;
    wane_plan p;
    wane_stage *st;
    wane_stats *stats;
    const char *name = "matrix";
    wane_plan_start(&p, wane_method_find("gptq"));
    assert_int_equal(wane_plan_set(&p, "bitz", 4, &e), WANE_EARG);
    assert_non_null(strstr(e.message, "did you mean bits"));
    assert_int_equal(wane_plan_set(&p, "bits", 5, &e), WANE_EARG);
    assert_int_equal(wane_plan_set(&p, "bits", NAN, &e), WANE_EARG);
    assert_int_equal(wane_plan_set(&p, "damp", 2, &e), WANE_EARG);
    assert_int_equal(wane_plan_set(&p, "damp", NAN, &e), WANE_EARG);
    assert_int_equal(wane_plan_choose(&p, "bits", "four", &e), WANE_EARG);
    wane_plan_start(&p, wane_method_find("hqq"));
    assert_int_equal(wane_plan_choose(&p, "zero", "whole", &e), WANE_EARG);
    assert_int_equal(wane_plan_set(&p, "symmetric", 1, &e), WANE_OK);
    assert_int_equal(wane_plan_settle(&p, &e), WANE_EARG);
    wane_plan_start(&p, wane_method_find("smoothquant"));
    assert_int_equal(wane_plan_set(&p, "bits", 4, &e), WANE_OK);
    assert_int_equal(wane_plan_set(&p, "activation_bits", 8, &e), WANE_OK);
    assert_int_equal(wane_plan_settle(&p, &e), WANE_EARG);

    p = plan_of("rtn", 4);
    wane_tensor *w = some_matrix(d, 8, 48);
    assert_int_equal(wane_stats_white(d, 48, 0, &stats, &e), WANE_OK);
    assert_int_equal(wane_stage_new(&p, &w, &name, 1, stats, NULL, &st, &e), WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "group_size = -1"));
    wane_stats_release(stats);
    wane_tensor_release(w);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

/* All steps of a quantization; what is made is released, whatever fails. */
static wane_status quantize_all(wane_model *m, const wane_plan *p, wane_err *e)
{
    const wane_quantize_need none_needed = {.compares = p->act_bits != 0};
    wane_calib *c = NULL;
    wane_layer *source = NULL, *into = NULL, *layers[2] = {NULL, NULL};
    wane_stats *stats = NULL, *none;
    wane_stage *st = NULL;
    wane_model *small = NULL;
    wane_status s = wane_calib_new(m, texts(), TEXTS, WANE_WEIGH_UNIQUE, &none_needed, &c, e);
    for (int i = 0; i < 2 && !s; i++) {
        s = wane_model_layer(m, i, &source, e);
        if (!s) s = wane_layer_begin(source, &into, e);
        for (int stage = 0; stage < 4 && !s; stage++) {
            wane_tensor *w[3];
            const char *names[3];
            int n = wane_stage_count(stage);
            for (int k = 0; k < n; k++) {
                w[k] = source->linear[wane_stage_first(stage) + k].weight;
                names[k] = wane_linear_name((wane_linear_id)(wane_stage_first(stage) + k));
            }
            s = wane_calib_step(c, into, i, stage - 1, p->method->needs | WANE_NEED_GRAM, &stats,
                                e);
            if (!s) s = wane_stage_new(p, w, names, n, stats, c, &st, e);
            if (!s) s = wane_stage_rescale(st, m->config, into, stage, e);
            for (int k = 0; k < n && !s; k++) {
                wane_result r;
                s = wane_stage_encode(st, k, &into->linear[wane_stage_first(stage) + k].quantized,
                                      &r, e);
                if (!s && !(r.error <= r.rtn_error * 1.001))
                    fail_msg("%s: %g, rtn %g", names[k], r.error, r.rtn_error);
            }
            wane_stage_free(st);
            wane_stats_release(stats);
            st = NULL;
            stats = NULL;
        }
        if (!s) s = wane_calib_step(c, into, i, 3, 0, &none, e);
        if (!s) s = wane_layer_copy_to(into, m->host, &layers[i], e);
        wane_layer_release(source);
        wane_layer_release(into);
        source = into = NULL;
    }
    if (!s) s = wane_model_keep(m, layers, 2, NULL, &small, e);
    if (!s) s = wane_model_load(small, e);
    wane_model_release(small);
    for (int i = 0; i < 2; i++) wane_layer_release(layers[i]);
    wane_calib_release(c);
    return s;
}

/* Every allocation of the device, the host device and malloc fails once; nothing is left behind. */
static void faults(void **state)
{
    (void)state;
    wane_device *d = open_device(), *host = open_device();
    wane_model *m = open_model("qwen2", d, host);
    wane_err e;
    for (int i = 0; wane_methods[i]; i++) {
        wane_plan p =
            plan_of(wane_methods[i]->name, strcmp(wane_methods[i]->name, "smoothquant") ? 4 : 8);
        for (int where = 0; where < 3; where++) {
            uint64_t live = d->live, waiting = host->live;
            wane_status s;
            long n = 0, failures = 0;
            do {
                if (where < 2)
                    (where ? host : d)->fail_after = n;
                else
                    test_malloc_fail_after(n);
                s = quantize_all(m, &p, &e);
                if (where < 2) (where ? host : d)->fail_after = -1;
                test_malloc_fail_after(-1);
                if (s && s != WANE_EOOM) fail_msg("%s: %s", p.method->name, e.message);
                assert_int_equal(d->live, live);
                assert_int_equal(host->live, waiting);
                failures += s != WANE_OK;
                n += n < 25 ? 1 : n / 5; /* layers repeat: later ones are sampled */
            } while (s);
            if (failures < 8) fail_msg("%s: only %ld allocations failed", p.method->name, failures);
        }
    }
    wane_model_release(m);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
    wane_device_release(host);
}

int test_quantize(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folding),    cmocka_unit_test(folding_refuses), cmocka_unit_test(passes),
        cmocka_unit_test(not_finite), cmocka_unit_test(damping),         cmocka_unit_test(refusals),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
