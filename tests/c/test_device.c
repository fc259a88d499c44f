/* test_device.c - models and calibration on a device that is not the host: the far CPU with either
 * activation type, and the one that WANE_DEVICE names, if it is set ("cuda"). A far device of
 * float32 gives the CPU's own bits; one of bfloat16 is held to bfloat16's rounding. */
#include "tests/c/test.h"

#include <math.h>
#include <string.h>

#include "runtime/model/forward.h"
#include "runtime/quant/stage.h"
#include "tests/c/far.h"
#include "tests/c/models.h"

enum { TARGETS = 3, N = 100 };

/* A GPU's answers may be as far as this from float32's, as norms. */
static const double LIMIT = 2e-2;

typedef struct {
    wane_device *d, *host;
} place;

static wane_device *open_on(const char *name, uint64_t budget)
{
    wane_device *d;
    wane_err e;
    if (wane_device_open(name, budget, &d, &e)) fail_msg("%s", e.message);
    return d;
}

/* Target i of TARGETS; false where there is none. 0 is float32 on the far side. */
static bool open_place(int i, uint64_t budget, place *p)
{
    const char *name = getenv("WANE_DEVICE");
    if (i == 2 && (!name || !strcmp(name, "cpu"))) return false;
    p->d = open_on(i == 2 ? name : "cpu", budget);
    p->host = open_on("host", UINT64_MAX);
    if (i == 2) return true;
    p->d->k = test_far_kernels(i == 0 ? WANE_F32 : WANE_BF16);
    snprintf(p->d->name, sizeof p->d->name, "far:%d", i);
    return true;
}

/* Nothing is left on it. */
static void close_place(place *p)
{
    assert_int_equal(p->d->live, p->d->scratch);
    assert_int_equal(p->host->live, p->host->scratch);
    wane_device_release(p->d);
    wane_device_release(p->host);
}

static wane_model *open_model(const char *path, const place *p)
{
    wane_checkpoint *c;
    wane_model *m = NULL;
    wane_err e;
    wane_status s = wane_checkpoint_open(test_tree(path), &c, &e);
    if (!s) s = wane_model_new(c, p->d, p->host, &m, &e);
    if (s) fail_msg("%s", e.message);
    wane_checkpoint_release(c);
    return m;
}

static void some_ids(int32_t *ids, int count)
{
    uint32_t seed = 7;
    for (int i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)(seed >> 16) % 1000;
    }
}

/* got is what float32 on the CPU gives: bit for bit on target 0, within the limit elsewhere. */
static void check(int i, const place *p, const char *what, const float *got, const float *want,
                  size_t n)
{
    double error = test_distance(got, want, n);
    if (i == 0 && memcmp(got, want, n * sizeof *got))
        fail_msg("%s: %s differs from the CPU's by %g", p->d->name, what, error);
    if (!(error < LIMIT)) fail_msg("%s: %s is %g off", p->d->name, what, error);
    if (i) print_message("%s: %s is %.2g off\n", p->d->name, what, error);
}

static void logits(void **state)
{
    (void)state;
    static const char *const paths[] = {"examples/models/lune-1m", "examples/models/lune-3m",
                                        "examples/models/lune-5m", "tests/reference/tiny/qwen2"};
    int32_t ids[N];
    for (size_t f = 0; f < sizeof paths / sizeof *paths; f++) {
        some_ids(ids, N);
        for (int i = 0; i < N; i++) ids[i] %= f == 3 ? 64 : 1000;
        wane_device *cpu = test_device(UINT64_MAX);
        wane_model *m = test_model_open(paths[f], cpu);
        float *want = test_model_logits(m, ids, N);
        size_t count = N * (size_t)m->config->vocabulary;
        wane_model_release(m);
        wane_device_release(cpu);
        for (int i = 0; i < TARGETS; i++) {
            place p;
            if (!open_place(i, UINT64_MAX, &p)) continue;
            m = open_model(paths[f], &p);
            float *got = test_model_logits(m, ids, N);
            check(i, &p, paths[f], got, want, count);
            free(got);
            wane_model_release(m);
            close_place(&p);
        }
        free(want);
    }
}

/* Log-probabilities of two texts that share their beginning. */
static void score(const place *p, float *out)
{
    int32_t ids[N];
    int64_t first[] = {0, N};
    wane_err e;
    some_ids(ids, N);
    wane_sequence s[] = {{ids, NULL, N}, {ids, NULL, N / 2}};
    wane_model *m = open_model("examples/models/lune-3m", p);
    if (wane_model_score(m, s, 2, first, out, NULL, &e)) fail_msg("%s", e.message);
    wane_model_release(m);
}

static void scores(void **state)
{
    (void)state;
    float want[N + N / 2], got[N + N / 2];
    place cpu = {test_device(UINT64_MAX), test_device(UINT64_MAX)};
    score(&cpu, want);
    close_place(&cpu);
    for (int i = 0; i < TARGETS; i++) {
        place p;
        if (!open_place(i, UINT64_MAX, &p)) continue;
        score(&p, got);
        check(i, &p, "the score", got, want, N + N / 2);
        close_place(&p);
    }
}

/* Answers to prompts of different lengths. */
static void answer(const place *p, wane_generated *out, int count)
{
    int32_t ids[N];
    wane_sequence prompts[16];
    wane_generate_options o = {.max_tokens = 20, .batch = 5};
    wane_err e;
    some_ids(ids, N);
    for (int i = 0; i < count; i++) prompts[i] = (wane_sequence){ids + i, NULL, 3 + 7 * i % 40};
    wane_model *m = open_model("examples/models/lune-1m", p);
    if (wane_model_generate(m, prompts, count, &o, out, &e)) fail_msg("%s", e.message);
    wane_model_release(m);
}

static void answers(void **state)
{
    (void)state;
    enum { COUNT = 16 };
    wane_generated want[COUNT], got[COUNT];
    place cpu = {test_device(UINT64_MAX), test_device(UINT64_MAX)};
    answer(&cpu, want, COUNT);
    close_place(&cpu);
    for (int i = 0; i < TARGETS; i++) {
        place p;
        int same = 0;
        if (!open_place(i, UINT64_MAX, &p)) continue;
        answer(&p, got, COUNT);
        for (int k = 0; k < COUNT; k++) {
            same += got[k].count == want[k].count &&
                    (!got[k].count ||
                     !memcmp(got[k].ids, want[k].ids, (size_t)got[k].count * sizeof *got[k].ids));
            free(got[k].ids);
        }
        /* what follows a text of chance is often a close call */
        if (same < (i ? COUNT / 2 : COUNT))
            fail_msg("%s: %d of %d answers are the CPU's", p.d->name, same, COUNT);
        if (i) print_message("%s: %d of %d answers are the CPU's\n", p.d->name, same, COUNT);
        close_place(&p);
    }
    for (int k = 0; k < COUNT; k++) free(want[k].ids);
}

typedef struct {
    float *gram[4];
    size_t count[4];
    double error;    /* of a W8A8 comparison */
    bool resident;   /* whether the inputs waited on the device */
    bool made_again; /* or nowhere */
} measured;

/* The relative error of w in bytes, with one scale a row, for activations of 8 bits. */
static wane_status compare(wane_calib *c, wane_tensor *w, const place *p, double *out, wane_err *e)
{
    wane_quantized *q = NULL;
    wane_mat none = {0}, plain = wane_tensor_mat(w);
    double error = 0, norm = 1;
    wane_tensor *wide = NULL;
    wane_status s = wane_tensor_copy_to(w, p->d, WANE_F32, &wide, e);
    if (!s)
        s = wane_quantized_new(p->d, plain.rows, plain.cols, 8, plain.cols, 8, WANE_F32,
                               WANE_DTYPES, &q, e);
    if (!s) s = WANE_CALL(p->d, e, fit_grid, wane_quantized_mat(q), wane_tensor_mat(wide), none);
    if (!s) s = WANE_CALL(p->d, e, encode, wane_quantized_mat(q), wane_tensor_mat(wide));
    if (!s) s = wane_calib_compare(c, plain, none, wane_quantized_mat(q), &error, &norm, e);
    wane_tensor_release(wide);
    wane_quantized_release(q);
    *out = sqrt(error / norm);
    return s;
}

/* Two layers' statistics, with the second layer's inputs out of the first. */
static wane_status calibrate(const place *p, uint64_t reserve, measured *out, wane_err *e)
{
    int32_t ids[4 * N];
    wane_sequence texts[4];
    wane_calib *c = NULL;
    wane_stats *stats = NULL;
    wane_layer *layer = NULL;
    some_ids(ids, 4 * N);
    for (int i = 0; i < 4; i++) texts[i] = (wane_sequence){ids + i * N, NULL, N - i};
    memset(out, 0, sizeof *out);
    wane_quantize_need need = {reserve, reserve, true};
    wane_model *m = open_model("examples/models/lune-1m", p);
    wane_status s = wane_calib_new(m, texts, 4, WANE_WEIGH_UNIQUE, &need, &c, e);
    if (!s) out->resident = c->in && wane_tensor_device(c->in) == p->d;
    if (!s) out->made_again = !c->in;
    for (int i = 0; i < 2 && !s; i++) {
        s = wane_model_layer(m, i, &layer, e);
        for (int stage = -1; stage < 4 && !s; stage++) {
            s = wane_calib_step(c, layer, i, stage, stage < 3 ? WANE_NEED_GRAM | WANE_NEED_MAX : 0,
                                &stats, e);
            if (!s && i == 1 && stage < 3) {
                size_t count = (size_t)(stats->k * stats->k);
                float *gram = malloc(count * sizeof *gram);
                s = wane_tensor_get(stats->gram, gram, e);
                out->gram[stage + 1] = gram;
                out->count[stage + 1] = count;
            }
            wane_stats_release(stats);
            stats = NULL;
            if (!s && i == 1 && stage == 1)
                s = compare(c, layer->linear[WANE_UP_PROJ].weight, p, &out->error, e);
        }
        wane_layer_release(layer);
        layer = NULL;
    }
    wane_calib_release(c);
    wane_model_release(m);
    return s;
}

static void free_measured(measured *m)
{
    for (int i = 0; i < 4; i++) free(m->gram[i]);
}

static void calibration(void **state)
{
    (void)state;
    measured want, got;
    wane_err e;
    for (int tight = 0; tight < 2; tight++) {
        /* tight: the smallest batches there are, and no room beside them */
        uint64_t reserve = tight ? UINT64_MAX : 0;
        place cpu = {test_device(UINT64_MAX), test_device(UINT64_MAX)};
        if (calibrate(&cpu, reserve, &want, &e)) fail_msg("%s", e.message);
        assert_false(want.resident);
        close_place(&cpu);
        for (int i = 0; i < TARGETS; i++) {
            place p;
            if (!open_place(i, (uint64_t)64 << 20, &p)) continue;
            if (calibrate(&p, reserve, &got, &e)) fail_msg("%s", e.message);
            assert_int_equal(got.resident, !tight);
            assert_int_equal(got.made_again, tight);
            for (int k = 0; k < 4; k++)
                check(i, &p, "a gram matrix", got.gram[k], want.gram[k], want.count[k]);
            if (i == 0) assert_true(got.error == want.error);
            if (!(fabs(got.error / want.error - 1) < 0.05))
                fail_msg("%s: an error of %g, not %g", p.d->name, got.error, want.error);
            free_measured(&got);
            close_place(&p);
        }
        free_measured(&want);
    }
}

/* Each allocation on the device fails once, or all from there on: nothing is left there, and the
 * next try works. */
static void every_allocation(void **state)
{
    (void)state;
    for (int i = 1; i < TARGETS; i++) {
        place p;
        wane_err e;
        measured got;
        if (!open_place(i, UINT64_MAX, &p)) continue;
        for (int times = 0; times < 2; times++) {
            wane_status s = WANE_EOOM;
            int64_t n = 0;
            for (; s; n++) {
                p.d->fail_after = n;
                p.d->fail_times = times;
                s = calibrate(&p, 0, &got, &e);
                p.d->fail_after = -1;
                p.d->fail_times = 1;
                free_measured(&got);
                assert_int_equal(p.d->live, p.d->scratch);
                assert_int_equal(p.host->live, p.host->scratch);
                if (s) assert_int_equal(s, WANE_EOOM);
                if (times &&
                    n < 2) { /* what would wait on the device waits on the host, or not at all */
                    assert_int_equal(s, WANE_OK);
                    s = WANE_EOOM;
                }
            }
            assert_true(n > 20);
        }
        if (calibrate(&p, 0, &got, &e)) fail_msg("%s", e.message);
        free_measured(&got);
        close_place(&p);
    }
}

int test_device_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits),           cmocka_unit_test(scores),
        cmocka_unit_test(answers),          cmocka_unit_test(calibration),
        cmocka_unit_test(every_allocation),
    };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
