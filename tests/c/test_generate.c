/* test_generate.c - scores, divergences and answers against what single logits say; the same under
 * any batch size and budget; every device allocation's failure; an interrupt in the middle. */
#include "tests/c/test.h"
#include "tests/c/faults.h"
#include "tests/c/models.h"

#include <math.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/ending.h"
#include "runtime/model/forward.h"

static const char LUNE[] = "examples/models/lune-3m";

enum { PROMPTS = 9, LONGEST = 90, TOKENS = 24 };

typedef struct {
    int32_t ids[PROMPTS][LONGEST];
    wane_sequence s[PROMPTS];
    int64_t first[PROMPTS], total;
} set;

/* Prompts that branch, one that begins another, a duplicate, one of a single token. */
static void make_set(set *t)
{
    static const int64_t count[PROMPTS] = {90, 90, 60, 60, 75, 1, 33, 40, 90};
    static const int64_t shared[PROMPTS] = {0, 50, 60, 60, 30, 0, 20, 0, 89};
    uint32_t seed = 1;
    t->total = 0;
    for (int i = 0; i < PROMPTS; i++) {
        for (int64_t k = 0; k < count[i]; k++) {
            seed = seed * 1664525u + 1013904223u;
            t->ids[i][k] = k < shared[i] ? t->ids[0][k] : (int32_t)(seed >> 16) % 1000;
        }
        t->s[i] = (wane_sequence){t->ids[i], NULL, count[i]};
        t->first[i] = t->total;
        t->total += count[i];
    }
}

/* (count, v) logits on the host; the caller frees. */
static float *logits_of(wane_model *m, const int32_t *ids, int64_t count)
{
    wane_tensor *y;
    wane_err e;
    float *host = malloc((size_t)(count * m->config->vocabulary) * sizeof *host);
    if (wane_model_logits(m, ids, count, &y, &e)) fail_msg("%s", e.message);
    assert_int_equal(wane_tensor_get(y, host, &e), WANE_OK);
    wane_tensor_release(y);
    return host;
}

static double log_softmax(const float *x, int64_t v, int32_t id)
{
    double most = x[0], sum = 0;
    for (int64_t i = 1; i < v; i++) most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < v; i++) sum += exp(x[i] - most);
    return x[id] - most - log(sum);
}

static int32_t likeliest(const float *x, int64_t v)
{
    int64_t best = 0;
    for (int64_t i = 1; i < v; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

static void score_all(wane_model *m, const set *t, float *out, int32_t *best)
{
    wane_err e;
    if (wane_model_score(m, t->s, PROMPTS, t->first, out, best, &e)) fail_msg("%s", e.message);
}

static void scores(void **state)
{
    (void)state;
    static set t;
    static float out[PROMPTS * LONGEST], again[PROMPTS * LONGEST];
    static int32_t best[PROMPTS * LONGEST];
    make_set(&t);
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open(LUNE, d);
    int64_t v = m->config->vocabulary;
    score_all(m, &t, out, best);
    for (int i = 0; i < PROMPTS; i++) {
        float *logits = logits_of(m, t.ids[i], t.s[i].count);
        assert_true(out[t.first[i]] == 0 && best[t.first[i]] == -1);
        for (int64_t k = 1; k < t.s[i].count; k++) {
            const float *x = logits + (k - 1) * v;
            double wanted = log_softmax(x, v, t.ids[i][k]);
            if (fabs(out[t.first[i] + k] - wanted) > 2e-4)
                fail_msg("%d, %d: %g, not %g", i, (int)k, out[t.first[i] + k], wanted);
            assert_int_equal(best[t.first[i] + k], likeliest(x, v));
        }
        free(logits);
    }
    /* only what has weight is scored */
    static float weight[LONGEST];
    weight[40] = weight[59] = 1;
    t.s[2].weight = weight;
    score_all(m, &t, again, best);
    for (int64_t i = 0; i < t.total; i++) {
        int64_t k = i - t.first[2];
        bool left_out = k >= 0 && k < t.s[2].count && k != 40 && k != 59;
        assert_true(left_out ? again[i] == 0 && best[i] == -1 : fabs(again[i] - out[i]) < 1e-5);
    }
    t.s[2].weight = NULL;

    /* little room: batches of few rows, passes of fewer, the same scores */
    uint64_t budgets[] = {400 << 10, 1 << 20};
    for (int b = 0; b < 2; b++) {
        d->budget = d->live + budgets[b];
        d->peak = d->live;
        score_all(m, &t, again, NULL);
        for (int64_t i = 0; i < t.total; i++) assert_true(fabs(again[i] - out[i]) < 1e-4);
        assert_true(d->peak <= d->budget);
    }
    wane_err e;
    uint64_t live = d->live;
    d->budget = live + (100 << 10);
    assert_int_equal(wane_model_score(m, t.s, PROMPTS, t.first, again, NULL, &e), WANE_EOOM);
    assert_true(e.requested > e.free && e.free <= 100 << 10);
    assert_int_equal(d->live, live);
    wane_model_release(m);
    wane_device_release(d);
}

static void divergences(void **state)
{
    (void)state;
    static set t;
    make_set(&t);
    wane_device *d = test_device(UINT64_MAX);
    wane_model *a = test_model_open("examples/models/lune-5m", d);
    wane_model *b = test_model_open("examples/models/lune-1m", d);
    int64_t v = a->config->vocabulary, n = t.s[0].count;
    double mean, wanted = 0;
    wane_err e;
    assert_int_equal(wane_model_divergence(a, a, t.ids[0], n, &mean, &e), WANE_OK);
    assert_true(fabs(mean) < 1e-6);
    float *p = logits_of(a, t.ids[0], n), *q = logits_of(b, t.ids[0], n);
    for (int64_t k = 0; k < n; k++)
        for (int32_t i = 0; i < v; i++) {
            double lp = log_softmax(p + k * v, v, i), lq = log_softmax(q + k * v, v, i);
            wanted += exp(lp) * (lp - lq) / (double)n;
        }
    assert_int_equal(wane_model_divergence(a, b, t.ids[0], n, &mean, &e), WANE_OK);
    assert_true(wanted > 0.1 && fabs(mean - wanted) < 1e-4 * wanted);
    d->budget = d->live + (1000 << 10);
    if (wane_model_divergence(a, b, t.ids[0], n, &mean, &e)) fail_msg("%s", e.message);
    assert_true(fabs(mean - wanted) < 1e-4 * wanted);
    d->budget = d->live + (200 << 10);
    assert_int_equal(wane_model_divergence(a, b, t.ids[0], n, &mean, &e), WANE_EOOM);
    assert_int_equal(wane_model_divergence(a, b, t.ids[0], 0, &mean, &e), WANE_EARG);
    free(p), free(q);
    wane_model_release(a);
    wane_model_release(b);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
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
        assert_true(a[i].seconds > 0 && a[i].seconds < 60);
    }
}

static const int32_t never[] = {-7};

static void answers(void **state)
{
    (void)state;
    static set t;
    make_set(&t);
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open(LUNE, d);
    int64_t v = m->config->vocabulary;
    wane_generate_options o = {.max_tokens = TOKENS, .stop = never, .n_stop = 1};
    wane_generated one[PROMPTS], other[PROMPTS];
    wane_err e;
    if (wane_model_generate(m, t.s, PROMPTS, &o, one, &e)) fail_msg("%s", e.message);
    /* token after token, each from the logits of the whole text so far */
    for (int i = 0; i < PROMPTS; i++) {
        int32_t text[LONGEST + TOKENS];
        int64_t n = t.s[i].count;
        memcpy(text, t.ids[i], sizeof t.ids[i]);
        assert_int_equal(one[i].count, TOKENS);
        assert_int_equal(one[i].finish, WANE_FINISH_LENGTH);
        memcpy(text + n, one[i].ids, sizeof(int32_t) * TOKENS);
        float *logits = logits_of(m, text, n + TOKENS - 1);
        for (int64_t k = 0; k < TOKENS; k++)
            assert_int_equal(one[i].ids[k], likeliest(logits + (n + k - 1) * v, v));
        free(logits);
    }
    static const int batch[] = {1, 3, 16};
    for (int i = 0; i < 3; i++) {
        o.batch = batch[i];
        assert_int_equal(wane_model_generate(m, t.s, PROMPTS, &o, other, &e), WANE_OK);
        same(one, other);
        free_results(other);
    }
    /* 640 KiB are 160 rows of keys and values at most: two of the longer answers do not fit, and
     * what enters is put back */
    static const int kib[] = {560, 640, 900, 2000};
    uint64_t live = d->live;
    o.batch = 16;
    for (int i = 0; i < 4; i++) {
        d->budget = d->live + ((uint64_t)kib[i] << 10);
        d->peak = d->live;
        if (wane_model_generate(m, t.s, PROMPTS, &o, other, &e)) fail_msg("%s", e.message);
        same(one, other);
        free_results(other);
        assert_true(d->peak <= d->budget);
        assert_int_equal(d->live, live);
    }
    d->budget = d->live + (300 << 10);
    assert_int_equal(wane_model_generate(m, t.s, PROMPTS, &o, other, &e), WANE_EOOM);
    assert_true(e.requested > e.free && e.free == 300 << 10);
    assert_non_null(strstr(e.message, "max_tokens"));
    for (int i = 0; i < PROMPTS; i++) assert_null(other[i].ids);
    assert_int_equal(d->live, live);
    free_results(one);
    wane_model_release(m);
    wane_device_release(d);
}

/* Short prompts and long answers in a pool that holds little more than one of them: many enter,
 * all but the oldest are put back, and every answer is as it would be alone. */
static void put_back(void **state)
{
    (void)state;
    static set t;
    make_set(&t);
    for (int i = 0; i < PROMPTS; i++) t.s[i].count = 4 + 3 * i;
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open(LUNE, d);
    wane_generate_options o = {.max_tokens = 100, .stop = never, .n_stop = 1};
    wane_generated one[PROMPTS], other[PROMPTS];
    wane_err e;
    if (wane_model_generate(m, t.s, PROMPTS, &o, one, &e)) fail_msg("%s", e.message);
    uint64_t live = d->live;
    for (int kib = 760; kib < 1200; kib += 160) {
        d->budget = live + ((uint64_t)kib << 10);
        if (wane_model_generate(m, t.s, PROMPTS, &o, other, &e)) fail_msg("%s", e.message);
        same(one, other);
        free_results(other);
    }
    free_results(one);
    wane_model_release(m);
    wane_device_release(d);
}

static void refused(void **state)
{
    (void)state;
    static int32_t ids[2000];
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open(LUNE, d);
    wane_generated r[1];
    wane_err e;
    wane_generate_options o = {.max_tokens = 4};
    wane_sequence s = {ids, NULL, 0};
    assert_int_equal(wane_model_generate(m, &s, 1, &o, r, &e), WANE_EARG);
    s.count = 1025;
    assert_int_equal(wane_model_generate(m, &s, 1, &o, r, &e), WANE_EARG);
    assert_non_null(strstr(e.message, "1024"));
    s.count = 3;
    ids[2] = 1024;
    assert_int_equal(wane_model_generate(m, &s, 1, &o, r, &e), WANE_EARG);
    assert_non_null(strstr(e.message, "prompt 1 has id 1024"));
    ids[2] = 5;
    o.max_tokens = 0;
    assert_int_equal(wane_model_generate(m, &s, 1, &o, r, &e), WANE_EARG);
    o.max_tokens = 1;
    o.stop_at_box = true;
    assert_int_equal(wane_model_generate(m, &s, 1, &o, r, &e), WANE_EARG);
    assert_null(m->layer); /* all that before anything was read */
    o.stop_at_box = false;
    assert_int_equal(wane_model_generate(m, NULL, 0, &o, NULL, &e), WANE_OK);

    /* the last position: one token comes after it, and no more */
    s.count = 1023;
    o = (wane_generate_options){.max_tokens = 50, .stop = never, .n_stop = 1};
    assert_int_equal(wane_model_generate(m, &s, 1, &o, r, &e), WANE_OK);
    assert_int_equal(r[0].count, 2);
    assert_int_equal(r[0].finish, WANE_FINISH_LENGTH);
    free(r[0].ids);
    wane_model_release(m);
    wane_device_release(d);
}

/* Every device allocation fails once, from loading to the last: nothing is left behind. Only a pool
 * that cannot grow is no failure; the answers are then the same. */
static void sweep(void **state)
{
    (void)state;
    static set t;
    make_set(&t);
    wane_device *d = test_device(UINT64_MAX);
    wane_generate_options o = {.max_tokens = 3, .stop = never, .n_stop = 1, .batch = 4};
    wane_generated expected[PROMPTS], r[PROMPTS];
    wane_err e;
    bool failed = true;
    int refused_times = 0, survived = 0;
    wane_model *m = test_model_open(LUNE, d);
    assert_int_equal(wane_model_generate(m, t.s, PROMPTS, &o, expected, &e), WANE_OK);
    wane_model_release(m);
    for (int n = 0; failed; n++) {
        float out[PROMPTS * LONGEST];
        double mean;
        m = test_model_open(LUNE, d);
        d->fail_after = n;
        wane_status s = wane_model_generate(m, t.s, PROMPTS, &o, r, &e);
        failed = d->fail_after < 0;
        if (s) {
            if (!failed || s != WANE_EOOM || !e.requested) fail_msg("%d %d %s", n, s, e.message);
            for (int i = 0; i < PROMPTS; i++) assert_null(r[i].ids);
            refused_times++;
        } else {
            same(expected, r);
            free_results(r);
            survived += failed;
        }
        if (!failed) {
            s = wane_model_score(m, t.s, PROMPTS, t.first, out, NULL, &e);
            if (!s) s = wane_model_divergence(m, m, t.ids[0], t.s[0].count, &mean, &e);
            failed = d->fail_after < 0;
            assert_int_equal(s, failed ? WANE_EOOM : WANE_OK);
        }
        wane_model_release(m);
        assert_int_equal(d->live, d->scratch);
        d->fail_after = -1;
    }
    assert_true(refused_times > 30 && survived > 3);
    free_results(expected);
    wane_device_release(d);
}

/* The same for the host's memory: all fail from the n-th on. */
static void host_sweep(void **state)
{
    (void)state;
    static set t;
    make_set(&t);
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open(LUNE, d);
    wane_generate_options o = {.max_tokens = 40, .stop = never, .n_stop = 1, .batch = 4};
    wane_generated expected[PROMPTS], r[PROMPTS];
    wane_err e;
    assert_int_equal(wane_model_generate(m, t.s, PROMPTS, &o, expected, &e), WANE_OK);
    uint64_t live = d->live;
    for (int which = 0; which < 3; which++) {
        bool failed = true;
        int n = 0;
        for (; failed; n++) {
            float out[PROMPTS * LONGEST];
            int32_t best[PROMPTS * LONGEST];
            double mean;
            wane_status s;
            test_malloc_fail_after(n);
            if (which == 0)
                s = wane_model_generate(m, t.s, PROMPTS, &o, r, &e);
            else if (which == 1)
                s = wane_model_score(m, t.s, PROMPTS, t.first, out, best, &e);
            else
                s = wane_model_divergence(m, m, t.ids[0], t.s[0].count, &mean, &e);
            failed = test_malloc_failed();
            test_malloc_fail_after(-1);
            /* a pool that does not grow is no failure */
            if (which || s || !failed) assert_int_equal(s, failed ? WANE_EOOM : WANE_OK);
            if (which == 0 && !s) same(expected, r);
            if (which == 0) free_results(r); /* zeroed where it failed */
            assert_int_equal(d->live, live);
        }
        assert_true(n > 10);
    }
    free_results(expected);
    wane_model_release(m);
    wane_device_release(d);
}

static void *interrupt_soon(void *flag)
{
    usleep(30000);
    atomic_store((atomic_int *)flag, 1);
    return NULL;
}

static void interrupted(void **state)
{
    (void)state;
    static set t;
    atomic_int flag = 0;
    pthread_t thread;
    wane_generated r[PROMPTS];
    wane_err e;
    make_set(&t);
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open(LUNE, d);
    assert_int_equal(wane_model_load(m, &e), WANE_OK);
    uint64_t live = d->live;
    d->interrupt = &flag;
    wane_generate_options o = {.max_tokens = 900, .stop = never, .n_stop = 1};
    assert_int_equal(pthread_create(&thread, NULL, interrupt_soon, &flag), 0);
    assert_int_equal(wane_model_generate(m, t.s, PROMPTS, &o, r, &e), WANE_EINTERRUPTED);
    pthread_join(thread, NULL);
    for (int i = 0; i < PROMPTS; i++) assert_null(r[i].ids);
    assert_int_equal(d->live, live);
    flag = 0;
    o.max_tokens = 2;
    assert_int_equal(wane_model_generate(m, t.s, PROMPTS, &o, r, &e), WANE_OK);
    free_results(r);
    wane_model_release(m);
    wane_device_release(d);
}

static bool box_in(const char *const *piece)
{
    wane_ending s = {0};
    for (; *piece; piece++)
        if (wane_ending_box(&s, *piece, strlen(*piece))) return !piece[1];
    return false;
}

static void boxes(void **state)
{
    (void)state;
    /* closed by the last piece, and not before */
    static const char *const closed[][8] = {
        {"\\boxed{A}"},
        {"so \\bo", "xed", "{", "\\frac{1}{2", "}", "} and"},
        {"\\\\boxed{1}"},
        {"\\boxe \\boxed", "{}"},
        {"{}}", "\\boxed{", "{{", "}}", "}"},
        {"\\boxed \\b\\boxed{x", "}"},
    };
    static const char *const open[][8] = {
        {"boxed{A}"}, {"\\boxed{A"}, {"\\boxed {A}"}, {"\\boxed{\\frac{1}{2}"}, {"\\fbox{A}"}, {""},
    };
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) assert_true(box_in(closed[i]));
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) assert_false(box_in(open[i]));
}

static void loops(void **state)
{
    (void)state;
    int32_t ids[400];
    for (int period = 1; period <= WANE_PERIOD_MOST + 1; period++) {
        wane_ending s = {0};
        int64_t over = -1;
        /* ten of a kind, then a period */
        for (int64_t n = 0; n < 400 && over < 0; n++) {
            ids[n] = n < 10 ? 1000 + (int32_t)n : (int32_t)((n - 10) % period);
            if (wane_ending_loop(&s, ids, n + 1, 100)) over = n + 1;
        }
        assert_int_equal(over, period <= WANE_PERIOD_MOST ? 10 + period + 100 : -1);
    }
}

static void stop_texts(void **state)
{
    (void)state;
    static const char *const text[] = {"\n\n", "END"};
    static const size_t length[] = {2, 3};
    wane_ending s = {0};
    assert_false(wane_ending_text(&s, "a\n", 2, text, length, 2));
    assert_false(wane_ending_text(&s, "b\n", 2, text, length, 2));
    assert_true(wane_ending_text(&s, "\nc", 2, text, length, 2));
    memset(&s, 0, sizeof s);
    for (int i = 0; i < 300; i++) assert_false(wane_ending_text(&s, "EN", 2, text, length, 2));
    assert_true(wane_ending_text(&s, "D", 1, text, length, 2));
}

int test_generate(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores),     cmocka_unit_test(divergences), cmocka_unit_test(answers),
        cmocka_unit_test(put_back),   cmocka_unit_test(refused),     cmocka_unit_test(sweep),
        cmocka_unit_test(host_sweep), cmocka_unit_test(interrupted), cmocka_unit_test(boxes),
        cmocka_unit_test(loops),      cmocka_unit_test(stop_texts),
    };
    return cmocka_run_group_tests_name("generate", tests, NULL, NULL);
}
