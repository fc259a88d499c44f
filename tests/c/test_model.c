/* test_model.c - logits against those of Transformers, the ways to run a pass against each other,
 * budgets, and every allocation's failure. */
#include "tests/c/test.h"

#include <string.h>

#include "runtime/model/forward.h"
#include "runtime/model/pass.h"
#include "tests/c/faults.h"
#include "tests/c/models.h"

static void *entry_data(const wane_safetensors *f, const char *name, size_t *count)
{
    const wane_entry *t = wane_safetensors_find(f, name);
    wane_err e;
    assert_non_null(t);
    void *data = malloc(t->end - t->begin);
    assert_non_null(data);
    assert_int_equal(wane_safetensors_read(f, t, 0, t->end - t->begin, data, &e), WANE_OK);
    *count = (t->end - t->begin) / 4;
    return data;
}

static void golden_lune(void **state)
{
    (void)state;
    static const char *const size[] = {"5m", "3m", "1m"};
    static const char *const task[] = {"arc", "boolq", "squad_v2", "openmath"};
    for (int i = 0; i < 3; i++) {
        char path[128], name[64];
        wane_safetensors *f;
        wane_err e;
        wane_device *d = test_device(UINT64_MAX);
        snprintf(path, sizeof path, "examples/models/lune-%s", size[i]);
        wane_model *m = test_model_open(path, d);
        snprintf(path, sizeof path, "tests/reference/lune-%s.safetensors", size[i]);
        assert_int_equal(wane_safetensors_open(test_tree(path), &f, &e), WANE_OK);
        for (int t = 0; t < 4; t++) {
            size_t n, count;
            snprintf(name, sizeof name, "%s.ids", task[t]);
            int32_t *ids = entry_data(f, name, &n);
            snprintf(name, sizeof name, "%s.logits", task[t]);
            float *expected = entry_data(f, name, &count);
            float *got = test_model_logits(m, ids, n);
            double error = test_distance(got, expected, count);
            if (!(error < 1e-5)) fail_msg("lune-%s %s: %g", size[i], task[t], error);
            free(ids), free(expected), free(got);
        }
        wane_safetensors_close(f);
        wane_model_release(m);
        assert_int_equal(d->live, d->scratch);
        wane_device_release(d);
    }
}

/* These references were computed by a module that had been bf16 as a whole, rope frequencies too.
 */
static void round_frequencies(wane_model *m)
{
    wane_err e;
    wane_tensor *rounded, *back;
    assert_int_equal(wane_model_load(m, &e), WANE_OK);
    assert_int_equal(wane_tensor_copy_to(m->frequency, m->device, WANE_BF16, &rounded, &e),
                     WANE_OK);
    assert_int_equal(wane_tensor_copy_to(rounded, m->device, WANE_F32, &back, &e), WANE_OK);
    wane_tensor_release(rounded);
    wane_tensor_release(m->frequency);
    m->frequency = back;
}

static void golden_tiny(void **state)
{
    (void)state;
    static const char *const family[] = {"qwen3", "llama3", "qwen2"};
    for (int i = 0; i < 3; i++) {
        char path[128];
        wane_safetensors *f;
        wane_err e;
        size_t n, count;
        wane_device *d = test_device(UINT64_MAX);
        snprintf(path, sizeof path, "tests/reference/tiny/%s", family[i]);
        wane_model *m = test_model_open(path, d);
        round_frequencies(m);
        snprintf(path, sizeof path, "tests/reference/tiny/%s/expected.safetensors", family[i]);
        assert_int_equal(wane_safetensors_open(test_tree(path), &f, &e), WANE_OK);
        int32_t *ids = entry_data(f, "ids", &n);
        float *expected = entry_data(f, "logits", &count);
        for (size_t row = 0; row < 3; row++) {
            float *got = test_model_logits(m, ids + row * n / 3, n / 3);
            double error = test_distance(got, expected + row * count / 3, count / 3);
            if (!(error < 1e-5)) fail_msg("%s: %g", family[i], error);
            free(got);
        }
        free(ids), free(expected);
        wane_safetensors_close(f);
        wane_model_release(m);
        wane_device_release(d);
    }
}

/* The first n ids of a reference prompt. */
static void prompt(const char *size, const char *task, int32_t *ids, size_t n)
{
    char path[128], name[64];
    wane_safetensors *f;
    wane_err e;
    size_t count;
    snprintf(path, sizeof path, "tests/reference/lune-%s.safetensors", size);
    assert_int_equal(wane_safetensors_open(test_tree(path), &f, &e), WANE_OK);
    snprintf(name, sizeof name, "%s.ids", task);
    int32_t *all = entry_data(f, name, &count);
    assert_true(count >= n);
    memcpy(ids, all, n * sizeof *ids);
    free(all);
    wane_safetensors_close(f);
}

/* However little room the budget leaves, the answer is the same. */
static void pieces_change_nothing(void **state)
{
    (void)state;
    enum { N = 100 };
    int32_t ids[N];
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open("examples/models/lune-1m", d);
    prompt("1m", "arc", ids, N);
    float *whole = test_model_logits(m, ids, N);
    uint64_t room = wane_pass_bytes(m->config, WANE_F32, 7, N, 1, 1);
    d->budget = d->live + N * (uint64_t)m->config->vocabulary * 4 + room;
    wane_device_reset_peak(d);
    float *pieces = test_model_logits(m, ids, N);
    assert_true(d->peak <= d->budget);
    assert_true(test_distance(pieces, whole, N * (size_t)m->config->vocabulary) < 1e-5);
    free(whole), free(pieces);
    wane_model_release(m);
    wane_device_release(d);
}

/* Two continuations of one prefix as a trie, and token by token, against each on its own. */
static void spans_and_steps(void **state)
{
    (void)state;
    enum { PREFIX = 20, TAIL = 6, N = PREFIX + TAIL };
    int32_t a[N], b[N], ids[PREFIX + 2 * TAIL], at[PREFIX + 2 * TAIL], row[PREFIX + 2 * TAIL];
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open("examples/models/lune-3m", d);
    size_t v = (size_t)m->config->vocabulary;
    wane_pass *p;
    wane_tensor *y;
    wane_err e;
    prompt("3m", "boolq", a, N);
    memcpy(b, a, sizeof b);
    for (int i = PREFIX; i < N; i++) b[i] = a[i] ^ 1;
    float *of_a = test_model_logits(m, a, N), *of_b = test_model_logits(m, b, N),
          *got = malloc(2 * v * sizeof *got);
    for (int i = 0; i < PREFIX + 2 * TAIL; i++) {
        bool second = i >= N;
        row[i] = i;
        at[i] = second ? i - TAIL : i;
        ids[i] = second ? b[at[i]] : a[i];
    }
    assert_int_equal(wane_pass_new(m, PREFIX + 2 * TAIL, 2 * N, 3, 3, &p, &e), WANE_OK);
    assert_int_equal(wane_tensor_new2(d, WANE_F32, 2, (int64_t)v, &y, &e), WANE_OK);
    wane_run runs[] = {{0, PREFIX, 0, 0, 0}, {PREFIX, TAIL, PREFIX, 0, 1}, {N, TAIL, N, 0, 1}};
    wane_span prefix = {0, PREFIX};
    if (wane_pass_run(p, PREFIX + 2 * TAIL, ids, at, row, runs, 3, &prefix, 1, &e))
        fail_msg("%s", e.message);
    const int32_t last[] = {N - 1, N + TAIL - 1};
    assert_int_equal(wane_pass_logits(p, last, 2, wane_tensor_mat(y), &e), WANE_OK);
    assert_int_equal(wane_tensor_get(y, got, &e), WANE_OK);
    assert_true(test_distance(got, of_a + (N - 1) * v, v) < 1e-5);
    assert_true(test_distance(got + v, of_b + (N - 1) * v, v) < 1e-5);

    for (int32_t i = 0; i < N; i++) { /* a token at a time, in rows of its own */
        wane_run one = {0, 1, N + i, 0, i > 0};
        wane_span before = {N, i};
        int32_t where = N + i;
        if (wane_pass_run(p, 1, a + i, &i, &where, &one, 1, &before, i > 0, &e))
            fail_msg("%s", e.message);
    }
    assert_int_equal(wane_pass_logits(p, NULL, 1, wane_mat_rows(wane_tensor_mat(y), 0, 1), &e),
                     WANE_OK);
    assert_int_equal(wane_tensor_get(y, got, &e), WANE_OK);
    assert_true(test_distance(got, of_a + (N - 1) * v, v) < 1e-5);

    /* nothing that leads out of a buffer reaches a kernel */
    int32_t id = a[0], zero = 0, far = 2 * N, none = -1, much = (int32_t)v;
    wane_run fine = {0, 1, 0, 0, 0}, off = {0, 1, 1, 0, 0}, spanned = {0, 1, 0, 0, 1};
    wane_span beyond = {1, 2 * N};
#define BAD(n, ids_, at_, row_, run, n_runs, spans, n_spans)                                       \
    assert_int_equal(wane_pass_run(p, n, ids_, at_, row_, run, n_runs, spans, n_spans, &e),        \
                     WANE_EARG)
    BAD(0, &id, &zero, &zero, &fine, 1, NULL, 0);
    BAD(1, &much, &zero, &zero, &fine, 1, NULL, 0);
    BAD(1, &none, &zero, &zero, &fine, 1, NULL, 0);
    BAD(1, &id, &none, &zero, &fine, 1, NULL, 0);
    BAD(1, &id, &zero, &far, &fine, 1, NULL, 0);
    BAD(1, &id, &zero, &zero, &off, 1, NULL, 0);
    BAD(1, &id, &zero, &zero, &fine, 0, NULL, 0);
    BAD(1, &id, &zero, &zero, &spanned, 1, NULL, 0);
    BAD(1, &id, &zero, &zero, &spanned, 1, &beyond, 1);
#undef BAD
    assert_int_equal(wane_pass_logits(p, NULL, 1, wane_tensor_mat(y), &e), WANE_EARG);
    wane_pass_free(p);
    wane_tensor_release(y);
    free(of_a), free(of_b), free(got);
    wane_model_release(m);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

/* Under 10 MiB the larger model does not load, says what it needs and leaves room for the next,
 * which also decodes four sequences of 160 tokens. */
static void budget(void **state)
{
    (void)state;
    enum { SEQUENCES = 4, LENGTH = 160, PROMPT = 100 };
    wane_device *d = test_device(10 << 20);
    wane_model *large = test_model_open("examples/models/lune-5m", d);
    wane_model *small = test_model_open("examples/models/lune-3m", d);
    wane_pass *p;
    wane_tensor *y;
    wane_err e;
    uint64_t before = d->live, asked = d->allocations;
    assert_int_equal(wane_model_load(large, &e), WANE_EOOM);
    assert_int_equal(e.requested, wane_model_bytes(large));
    assert_int_equal(e.free, wane_device_room(d));
    assert_string_equal(e.device, "cpu");
    assert_string_equal(e.op, "load");
    assert_int_equal(d->allocations, asked); /* nothing was even tried */
    assert_int_equal(d->live, before);
    if (wane_model_load(small, &e)) fail_msg("%s", e.message);
    assert_int_equal(d->live - before, wane_model_bytes(small));
    uint64_t loaded = d->live;
    int64_t pool = SEQUENCES * LENGTH;
    if (wane_pass_new(small, PROMPT, pool, SEQUENCES, SEQUENCES, &p, &e)) fail_msg("%s", e.message);
    assert_int_equal(d->live - loaded,
                     wane_pass_bytes(small->config, WANE_F32, PROMPT, pool, SEQUENCES, SEQUENCES));
    assert_int_equal(wane_tensor_new2(d, WANE_F32, SEQUENCES, small->config->vocabulary, &y, &e),
                     WANE_OK);
    int32_t ids[LENGTH] = {0}, at[LENGTH], row[LENGTH];
    prompt("3m", "arc", ids, PROMPT);
    for (int32_t s = 0; s < SEQUENCES; s++) {
        for (int32_t i = 0; i < PROMPT; i++) at[i] = i, row[i] = s * LENGTH + i;
        wane_run run = {0, PROMPT, s * LENGTH, 0, 0};
        if (wane_pass_run(p, PROMPT, ids, at, row, &run, 1, NULL, 0, &e)) fail_msg("%s", e.message);
    }
    for (int32_t i = PROMPT; i < LENGTH; i++) {
        wane_run run[SEQUENCES];
        wane_span span[SEQUENCES];
        for (int32_t s = 0; s < SEQUENCES; s++) {
            ids[s] = 100 + s;
            at[s] = i;
            row[s] = s * LENGTH + i;
            run[s] = (wane_run){s, 1, row[s], s, 1};
            span[s] = (wane_span){s * LENGTH, i};
        }
        if (wane_pass_run(p, SEQUENCES, ids, at, row, run, SEQUENCES, span, SEQUENCES, &e))
            fail_msg("%s", e.message);
        assert_int_equal(wane_pass_logits(p, NULL, SEQUENCES, wane_tensor_mat(y), &e), WANE_OK);
    }
    assert_true(d->peak <= d->budget);
    print_message("lune-3m: %.2f MiB of weights, %.2f MiB at most, for %d x %d tokens\n",
                  (double)wane_model_bytes(small) / 1048576, (double)d->peak / 1048576, SEQUENCES,
                  LENGTH);
    wane_tensor_release(y);
    wane_pass_free(p);
    wane_model_release(large);
    wane_model_release(small);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

/* Every allocation of loading and logits fails once, and all of them from there on. */
static void every_allocation(void **state)
{
    (void)state;
    const int32_t ids[] = {1, 2, 3, 4, 5};
    wane_device *d = test_device(UINT64_MAX);
    for (int times = 0; times < 2; times++) {
        wane_status s = WANE_EOOM;
        int64_t n = 0;
        for (; s; n++) {
            wane_model *m = test_model_open("tests/reference/tiny/qwen2", d);
            wane_tensor *y;
            wane_err e;
            d->fail_after = n;
            d->fail_times = times; /* 0: all until it is set again */
            s = wane_model_logits(m, ids, 5, &y, &e);
            d->fail_after = -1;
            d->fail_times = 1;
            if (s) {
                assert_int_equal(s, WANE_EOOM);
                assert_null(y);
                assert_string_equal(e.device, "cpu");
                assert_int_equal(wane_model_logits(m, ids, 5, &y, &e), WANE_OK);
            }
            wane_tensor_release(y);
            wane_model_release(m);
            assert_int_equal(d->live, d->scratch);
        }
        assert_int_equal(n, 27 + 1 + 11 + 1); /* the model, logits, the pass; then none fails */
    }
    wane_device_release(d);
}

static wane_status open_and_compute(wane_device *d, wane_err *e)
{
    const int32_t ids[] = {1, 2, 3, 4, 5};
    wane_checkpoint *c = NULL;
    wane_model *m = NULL;
    wane_tensor *y = NULL, *w = NULL;
    wane_status s = wane_checkpoint_open(test_tree("tests/reference/tiny/qwen3"), &c, e);
    if (!s) s = wane_model_new(c, d, d, &m, e);
    if (!s) s = wane_checkpoint_check_finite(c, NULL, e);
    if (!s) s = wane_model_tensor(m, "model.layers.1.mlp.up_proj.weight", &w, e);
    if (!s) s = wane_model_logits(m, ids, 5, &y, e);
    wane_tensor_release(w);
    wane_tensor_release(y);
    wane_model_release(m);
    wane_checkpoint_release(c);
    return s;
}

/* The host's memory runs out at each place between opening a folder and its logits. */
static void every_host_allocation(void **state)
{
    (void)state;
    wane_device *d = test_device(UINT64_MAX);
    json_malloc_t old_malloc;
    json_free_t old_free;
    json_get_alloc_funcs(&old_malloc, &old_free);
    json_set_alloc_funcs(malloc, free); /* jansson's own calls are not this program's */
    int n = 0, failures = 0, files = test_open_files();
    for (bool failed = true; failed; n++) {
        wane_err e = {0};
        test_malloc_fail_after(n);
        wane_status s = open_and_compute(d, &e);
        failed = test_malloc_failed();
        test_malloc_fail_after(-1);
        /* qsort does without; jansson tells some as syntax errors */
        if (s && s != WANE_EOOM && s != WANE_EFORMAT) fail_msg("allocation %d: %s", n, e.message);
        if (s) assert_true(failed && e.message[0]);
        failures += s != WANE_OK;
        assert_int_equal(d->live, d->scratch);
        assert_int_equal(test_open_files(), files);
    }
    json_set_alloc_funcs(old_malloc, old_free);
    assert_true(failures > 200 && failures > n - 10);
    wane_device_release(d);
}

static void stops_when_asked(void **state)
{
    (void)state;
    atomic_int flag = 1;
    const int32_t ids[] = {1, 2, 3};
    wane_tensor *y;
    wane_err e;
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open("tests/reference/tiny/qwen2", d);
    d->interrupt = &flag;
    assert_int_equal(wane_model_logits(m, ids, 3, &y, &e), WANE_EINTERRUPTED);
    assert_int_equal(d->live, d->scratch);
    assert_int_equal(wane_checkpoint_check_finite(m->checkpoint, d, &e), WANE_EINTERRUPTED);
    flag = 0;
    assert_int_equal(wane_model_logits(m, ids, 3, &y, &e), WANE_OK);
    flag = 1;
    wane_tensor_release(y);
    assert_int_equal(wane_model_logits(m, ids, 3, &y, &e), WANE_EINTERRUPTED);
    wane_model_release(m);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
}

static void tensors_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"model.embed_tokens.weight", "model.norm.weight",
                                        "lm_head.weight", "model.layers.1.mlp.down_proj.weight",
                                        "model.layers.0.input_layernorm.weight"};
    wane_device *d = test_device(UINT64_MAX);
    wane_model *m = test_model_open("tests/reference/tiny/llama3", d);
    wane_err e;
    for (int loaded = 0; loaded < 2; loaded++) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            wane_tensor *t;
            if (wane_model_tensor(m, names[i], &t, &e)) fail_msg("%s", e.message);
            const wane_entry *entry = wane_checkpoint_find(m->checkpoint, names[i], NULL);
            assert_int_equal(wane_tensor_bytes(t), entry->end - entry->begin);
            assert_true(loaded || d->live == d->scratch + wane_tensor_bytes(t));
            wane_tensor_release(t);
        }
        assert_int_equal(wane_model_load(m, &e), WANE_OK);
    }
    static const char *const bad[] = {"",
                                      "model.layers.2.mlp.down_proj.weight",
                                      "model.layers.0.mlp.down_proj.weigh",
                                      "model.layers.0.self_attn.q_proj.bias",
                                      "model.layers.-1.mlp.down_proj.weight",
                                      "model.layers.0."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        wane_tensor *t;
        assert_int_equal(wane_model_tensor(m, bad[i], &t, &e), WANE_EARG);
        assert_null(t);
    }
    wane_layer *l;
    assert_int_equal(wane_model_layer(m, 2, &l, &e), WANE_EARG);
    wane_model_unload(m);
    assert_int_equal(d->live, d->scratch);
    assert_int_equal(wane_config_weights(m->config), m->checkpoint->bytes / 2);
    wane_model_release(m);
    wane_device_release(d);
}

/* Codes that stand for the weights exactly give the logits of the weights. */
static wane_status coded_layer(void *self, int i, wane_device *d, wane_layer **out, wane_err *e)
{
    wane_layer_source *dense = self;
    wane_layer *l;
    wane_status s = dense->layer(dense->self, i, d, &l, e);
    if (s) return s;
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        wane_linear *p = &l->linear[id];
        wane_tensor *w = NULL;
        s = wane_quantized_new(d, p->weight->shape[0], p->weight->shape[1], 8, -1, 0, WANE_F32,
                               WANE_DTYPES, &p->quantized, e);
        wane_mat none = {0};
        if (!s) s = wane_tensor_copy_to(p->weight, d, WANE_F32, &w, e);
        if (!s)
            s = WANE_CALL(d, e, fit_grid, wane_quantized_mat(p->quantized), wane_tensor_mat(w),
                          none);
        if (!s) s = WANE_CALL(d, e, encode, wane_quantized_mat(p->quantized), wane_tensor_mat(w));
        wane_tensor_release(w);
        wane_tensor_release(p->weight);
        p->weight = NULL;
    }
    if (s) wane_layer_release(l);
    *out = s ? NULL : l;
    return s;
}
static uint64_t coded_bytes(void *self, int i)
{
    wane_layer_source *dense = self;
    return dense->bytes(dense->self, i); /* more than it takes */
}
static wane_status coded_head(void *self, wane_device *d, wane_linear *out, wane_err *e)
{
    wane_layer_source *dense = self;
    return dense->head(dense->self, d, out, e);
}
static uint64_t coded_head_bytes(void *self)
{
    wane_layer_source *dense = self;
    return dense->head_bytes(dense->self);
}
static void coded_release(void *self)
{
    wane_layer_source *dense = self;
    dense->release(dense->self);
    free(dense);
}

static void computes_from_codes(void **state)
{
    (void)state;
    enum { N = 40 };
    int32_t ids[N];
    wane_device *d = test_device(UINT64_MAX);
    wane_model *dense = test_model_open("examples/models/lune-1m", d), *coded;
    wane_err e;
    wane_layer_source *inner = malloc(sizeof *inner);
    *inner = wane_dense_source(dense->checkpoint);
    wane_layer_source source = {coded_layer,      coded_bytes,   coded_head,
                                coded_head_bytes, coded_release, inner};
    assert_int_equal(wane_model_new_from(dense->checkpoint, source, d, d, &coded, &e), WANE_OK);
    prompt("1m", "squad_v2", ids, N);
    float *a = test_model_logits(dense, ids, N), *b = test_model_logits(coded, ids, N);
    double error = test_distance(b, a, N * (size_t)dense->config->vocabulary);
    assert_true(error > 1e-4 && error < 0.05); /* 8 bits a row, not exact and near */
    free(a), free(b);
    wane_tensor *t;
    assert_int_equal(wane_model_tensor(coded, "model.layers.0.mlp.up_proj.weight", &t, &e),
                     WANE_OK);
    assert_true(t->dtype == WANE_F32 && t->shape[0] == 384 && t->shape[1] == 128);
    wane_tensor_release(t);
    wane_layer *l, *moved;
    wane_device *other = test_device(UINT64_MAX);
    assert_int_equal(wane_model_layer(coded, 0, &l, &e), WANE_OK);
    for (int64_t n = 0;; n++) {
        other->fail_after = n;
        wane_status s = wane_layer_copy_to(l, other, &moved, &e);
        other->fail_after = -1;
        if (!s) break;
        assert_true(s == WANE_EOOM && !moved);
        assert_int_equal(other->live, other->scratch);
    }
    assert_int_equal(other->live - other->scratch, wane_layer_bytes(l));
    wane_layer_release(moved);
    wane_layer_release(l);
    wane_model_release(coded);
    wane_model_release(dense);
    assert_int_equal(d->live, d->scratch);
    wane_device_release(d);
    wane_device_release(other);
}

int test_model(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_tiny),
        cmocka_unit_test(golden_lune),
        cmocka_unit_test(pieces_change_nothing),
        cmocka_unit_test(spans_and_steps),
        cmocka_unit_test(budget),
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(every_host_allocation),
        cmocka_unit_test(stops_when_asked),
        cmocka_unit_test(tensors_by_name),
        cmocka_unit_test(computes_from_codes),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
