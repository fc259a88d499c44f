/* test_decode.c - answers on a device that replays steps, against those of the CPU, which does not:
 * any batch, memory, stop and length; what fails in the middle; pools that grow. */
#include "tests/c/test.h"
#include "tests/c/far.h"
#include "tests/c/faults.h"
#include "tests/c/models.h"

#include <string.h>

#include "runtime/model/decode.h"
#include "runtime/model/forward.h"

static const char LUNE[] = "examples/models/lune-1m";

enum { PROMPTS = 11, LONGEST = 70 };

typedef struct {
    int32_t ids[PROMPTS][LONGEST];
    wane_sequence s[PROMPTS];
    wane_device *cpu, *far;
    wane_model *near_model, *far_model;
} fixture;

static const int32_t never[] = {-7};

/* Prompts that branch, one that begins another, a duplicate, one of a single token. */
static int setup(void **state)
{
    static const int64_t count[PROMPTS] = {70, 70, 40, 40, 55, 1, 33, 20, 70, 12, 5};
    static const int64_t shared[PROMPTS] = {0, 50, 40, 40, 30, 0, 20, 0, 69, 5, 0};
    static fixture f;
    uint32_t seed = 7;
    for (int i = 0; i < PROMPTS; i++) {
        for (int64_t k = 0; k < count[i]; k++) {
            seed = seed * 1664525u + 1013904223u;
            f.ids[i][k] = k < shared[i] ? f.ids[0][k] : (int32_t)(seed >> 16) % 1000;
        }
        f.s[i] = (wane_sequence){f.ids[i], NULL, count[i]};
    }
    f.cpu = test_device(UINT64_MAX);
    f.far = test_far_device(UINT64_MAX);
    f.near_model = test_model_open(LUNE, f.cpu);
    f.far_model = test_model_open(LUNE, f.far);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    wane_model_release(f->near_model);
    wane_model_release(f->far_model);
    assert_int_equal(f->far->live, f->far->scratch);
    wane_device_release(f->cpu);
    wane_device_release(f->far);
    assert_int_equal(test_far_recordings(), 0);
    return 0;
}

static void free_results(wane_generated *r)
{
    for (int i = 0; i < PROMPTS; i++) free(r[i].ids);
}

static void same(const wane_generated *a, const wane_generated *b)
{
    for (int i = 0; i < PROMPTS; i++) {
        assert_int_equal(a[i].count, b[i].count);
        assert_int_equal(a[i].finish, b[i].finish);
        if (a[i].count)
            assert_memory_equal(a[i].ids, b[i].ids, (size_t)a[i].count * sizeof(int32_t));
    }
}

static void generate(fixture *f, wane_model *m, const wane_generate_options *o, wane_generated *r)
{
    wane_err e;
    if (wane_model_generate(m, f->s, PROMPTS, o, r, &e)) fail_msg("%s", e.message);
    assert_int_equal(test_far_recordings(), 0);
}

/* The same options on both, in batches of all sizes. */
static void compare(fixture *f, wane_generate_options o, bool replays)
{
    static const int batch[] = {0, 1, 2, 5, 16};
    wane_generated want[PROMPTS], got[PROMPTS];
    generate(f, f->near_model, &o, want);
    for (size_t i = 0; i < sizeof batch / sizeof *batch; i++) {
        long before = test_far_replayed();
        o.batch = batch[i];
        generate(f, f->far_model, &o, got);
        same(want, got);
        free_results(got);
        assert_true(!replays || test_far_replayed() > before);
    }
    free_results(want);
}

static void lengths(void **state)
{
    static const int64_t most[] = {1, 2, 3, 9, 16, 17, 18, 60};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++)
        compare(*state, (wane_generate_options){.max_tokens = most[i], .stop = never, .n_stop = 1},
                most[i] > 9);
}

/* Stops that the device knows of, and those that only the host sees. */
static void endings(void **state)
{
    fixture *f = *state;
    wane_generated r[PROMPTS];
    wane_generate_options o = {.max_tokens = 40, .stop = never, .n_stop = 1};
    generate(f, f->near_model, &o, r);
    /* ids that answers have, at different places */
    const int32_t stop[] = {r[0].ids[5], r[1].ids[17], r[3].ids[0], r[7].ids[30], never[0]};
    for (int n = 1; n <= 5; n++) {
        o.stop = stop;
        o.n_stop = n;
        compare(f, o, true);
    }
    free_results(r);
    o = (wane_generate_options){.max_tokens = 60, .stop = never, .n_stop = 1, .loop = 2};
    generate(f, f->near_model, &o, r);
    int looped = 0;
    for (int i = 0; i < PROMPTS; i++) looped += r[i].finish == WANE_FINISH_LOOP;
    assert_true(looped > 0);
    free_results(r);
    compare(f, o, true);
    compare(f, (wane_generate_options){.max_tokens = 60}, true); /* the model's own stops */

    /* the last positions: no row or token beyond */
    static int32_t ids[1024];
    wane_sequence s = {ids, NULL, 0};
    wane_err e;
    o = (wane_generate_options){.max_tokens = 50, .stop = never, .n_stop = 1};
    for (s.count = 1005; s.count <= f->far_model->config->positions; s.count++) {
        assert_int_equal(wane_model_generate(f->far_model, &s, 1, &o, r, &e), WANE_OK);
        assert_int_equal(r[0].count, f->far_model->config->positions + 1 - s.count);
        assert_int_equal(r[0].finish, WANE_FINISH_LENGTH);
        free(r[0].ids);
    }
}

/* Little memory: answers are put back, stretches are cut short, pools grow; the budget holds. */
static void little_memory(void **state)
{
    fixture *f = *state;
    wane_generate_options o = {.max_tokens = 90, .stop = never, .n_stop = 1};
    wane_generated want[PROMPTS], got[PROMPTS];
    wane_err e;
    int done = 0;
    generate(f, f->near_model, &o, want);
    uint64_t live = f->far->live;
    for (int kib = 200; kib < 1500; kib += 70) {
        f->far->budget = live + ((uint64_t)kib << 10);
        wane_device_reset_peak(f->far);
        wane_status s = wane_model_generate(f->far_model, f->s, PROMPTS, &o, got, &e);
        assert_true(f->far->peak <= f->far->budget);
        assert_int_equal(f->far->live, live);
        assert_int_equal(test_far_recordings(), 0);
        if (s) {
            assert_int_equal(s, WANE_EOOM);
            assert_int_equal(done, 0);
            continue;
        }
        same(want, got);
        free_results(got);
        done++;
    }
    f->far->budget = UINT64_MAX;
    assert_true(done > 5);
    free_results(want);
}

/* Every allocation of the device, and of the host, fails once. */
static void failures(void **state)
{
    fixture *f = *state;
    wane_generate_options o = {.max_tokens = 30, .stop = never, .n_stop = 1, .batch = 3};
    wane_generated want[PROMPTS], got[PROMPTS];
    wane_err e;
    uint64_t live = f->far->live;
    generate(f, f->near_model, &o, want);
    for (int hosts = 0; hosts < 2; hosts++) {
        bool failed = true;
        int n = 0, refused = 0;
        for (; failed; n++) {
            if (hosts)
                test_malloc_fail_after(n);
            else
                f->far->fail_after = n;
            wane_status s = wane_model_generate(f->far_model, f->s, PROMPTS, &o, got, &e);
            failed = hosts ? test_malloc_failed() : f->far->fail_after < 0;
            test_malloc_fail_after(-1);
            f->far->fail_after = -1;
            if (s) assert_int_equal(s, WANE_EOOM);
            if (s) refused++;
            if (!s) same(want, got), free_results(got);
            assert_true(!s || failed);
            assert_int_equal(f->far->live, live);
            assert_int_equal(test_far_recordings(), 0);
        }
        assert_true(refused > 10);
    }
    free_results(want);
}

/* Asked to stop: no answers, no recording, and the next ones are right. */
static void interrupted(void **state)
{
    fixture *f = *state;
    atomic_int flag = 1;
    wane_generated r[PROMPTS];
    wane_err e;
    wane_generate_options o = {.max_tokens = 20, .stop = never, .n_stop = 1};
    f->far->interrupt = &flag;
    assert_int_equal(wane_model_generate(f->far_model, f->s, PROMPTS, &o, r, &e),
                     WANE_EINTERRUPTED);
    for (int i = 0; i < PROMPTS; i++) assert_null(r[i].ids);
    f->far->interrupt = NULL;
    compare(f, o, true);
}

static void refused(void **state)
{
    fixture *f = *state;
    wane_sizes z = {.rows = 4, .pool_rows = 64, .logit_rows = 2, .runs = 4, .spans = 8};
    wane_workspace w;
    wane_decoder *t;
    wane_err e;
    const int32_t much = (int32_t)f->far_model->config->vocabulary;
    assert_int_equal(wane_workspace_new(f->far_model, &z, &w, &e), WANE_OK);
    assert_int_equal(wane_decoder_new(&w, 5, 8, 8, NULL, 0, &t, &e), WANE_EARG);
    assert_null(t);
    assert_int_equal(wane_decoder_new(&w, 4, 8, 3, NULL, 0, &t, &e), WANE_OK);
    const wane_span own = {10, 20}, far = {60, 5}, before[] = {{0, 5}, {6, 2}, {9, 1}},
                    beyond = {63, 2};
    /* steps, spans and texts are as many as there are */
    assert_false(wane_decoder_add(t, 1, 0, NULL, 0, &own, 9));
    assert_false(wane_decoder_add(t, 1, 0, NULL, 0, &own, 0));
    assert_true(wane_decoder_add(t, 1, 8, before, 3, &own, 8)); /* its rows follow its spans */
    assert_false(wane_decoder_add(t, 1, 0, NULL, 0, &own, 2));
    assert_true(wane_decoder_add(t, 1, 0, NULL, 0, &own, 1));
    wane_decoder_clear(t);
    assert_int_equal(wane_decoder_run(t, &e), WANE_OK);
#define BAD(id, position, spans, n, rows, left)                                                    \
    wane_decoder_clear(t);                                                                         \
    assert_true(wane_decoder_add(t, id, position, spans, n, rows, left));                          \
    assert_int_equal(wane_decoder_run(t, &e), WANE_EARG)
    BAD(much, 0, NULL, 0, &own, 1);
    BAD(-1, 0, NULL, 0, &own, 1);
    BAD(1, -1, NULL, 0, &own, 1);
    BAD(1, 0, NULL, 0, &beyond, 2);
    BAD(1, 0, NULL, 0, &far, 5);
    BAD(1, 3, &far, 1, &own, 1);
#undef BAD
    wane_decoder_free(t);
    wane_decoder_free(NULL);
    wane_workspace_free(&w);
}

/* Keys and values of the device's own type: a pool that grows keeps them. */
static void pools_grow(void **state)
{
    fixture *f = *state;
    enum { BEFORE = 30 };
    wane_device *d = test_far_device(UINT64_MAX);
    d->k = test_far_kernels(WANE_BF16);
    wane_model *m = test_model_open(LUNE, d);
    size_t v = (size_t)m->config->vocabulary;
    float *logits[2];
    wane_err e;
    for (int grows = 0; grows < 2; grows++) {
        wane_pass *p;
        wane_tensor *y;
        int32_t place[BEFORE + 1];
        for (int i = 0; i <= BEFORE; i++) place[i] = i;
        const wane_run prompt = {0, BEFORE, 0, 0, 0}, next = {0, 1, BEFORE, 0, 1};
        const wane_span before = {0, BEFORE};
        assert_int_equal(wane_pass_new(m, BEFORE, BEFORE + 1, 1, 1, &p, &e), WANE_OK);
        assert_int_equal(wane_tensor_new2(d, WANE_F32, 1, (int64_t)v, &y, &e), WANE_OK);
        if (wane_pass_run(p, BEFORE, f->ids[0], place, place, &prompt, 1, NULL, 0, &e))
            fail_msg("%s", e.message);
        if (grows) {
            uint64_t live = d->live;
            assert_int_equal(wane_pass_grow(p, 4 * (BEFORE + 1), &e), WANE_OK);
            /* two bytes a number, as planned */
            uint64_t row = 2 * 2 * (uint64_t)(m->config->kv_heads * m->config->head_dim);
            assert_int_equal(d->live - live, 3 * (BEFORE + 1) * row * (uint64_t)m->config->layers);
        }
        if (wane_pass_run(p, 1, f->ids[0] + BEFORE, place + BEFORE, place + BEFORE, &next, 1,
                          &before, 1, &e))
            fail_msg("%s", e.message);
        assert_int_equal(wane_pass_head(p, 0, 1, wane_tensor_mat(y), &e), WANE_OK);
        assert_int_equal(wane_pass_head(p, 1, 1, wane_tensor_mat(y), &e), WANE_EARG);
        logits[grows] = malloc(v * sizeof(float));
        assert_non_null(logits[grows]);
        assert_int_equal(wane_tensor_get(y, logits[grows], &e), WANE_OK);
        wane_tensor_release(y);
        wane_pass_free(p);
    }
    assert_memory_equal(logits[0], logits[1], v * sizeof(float));
    free(logits[0]), free(logits[1]);

    /* answers of that type are the same each time */
    wane_generate_options o = {.max_tokens = 20, .stop = never, .n_stop = 1, .batch = 5};
    wane_generated one[PROMPTS], other[PROMPTS];
    generate(f, m, &o, one);
    generate(f, m, &o, other);
    same(one, other);
    free_results(one), free_results(other);
    wane_model_release(m);
    wane_device_release(d);
}

int test_decode(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),       cmocka_unit_test(endings),
        cmocka_unit_test(little_memory), cmocka_unit_test(failures),
        cmocka_unit_test(interrupted),   cmocka_unit_test(refused),
        cmocka_unit_test(pools_grow),
    };
    return cmocka_run_group_tests_name("decode", tests, setup, teardown);
}
