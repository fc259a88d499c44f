/* test_model.c - logits against those of Transformers, the ways to run a pass against each other,
 * budgets, and every allocation's failure. */
#include "tests/c/test.h"

#include <math.h>
#include <string.h>

#include "runtime/model/forward.h"
#include "runtime/model/pass.h"

/* Relative error of a against b, as norms. */
static double distance(const float *a, const float *b, size_t n)
{
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)b[i] * b[i];
    }
    return sqrt(d / all);
}

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

static wane_device *open_device(uint64_t budget)
{
    wane_device *d;
    wane_err e;
    assert_int_equal(wane_device_open("cpu", budget, &d, &e), WANE_OK);
    return d;
}

static wane_model *open_model(const char *path, wane_device *d)
{
    wane_checkpoint *c;
    wane_model *m;
    wane_err e;
    wane_status s = wane_checkpoint_open(test_tree(path), &c, &e);
    if (!s) s = wane_model_new(c, d, d, &m, &e);
    if (s) fail_msg("%s", e.message);
    wane_checkpoint_release(c);
    return m;
}

static float *logits_of(wane_model *m, const int32_t *ids, size_t n)
{
    wane_tensor *y;
    wane_err e;
    float *host = malloc(n * (size_t)m->config->vocabulary * sizeof *host);
    if (wane_model_logits(m, ids, (int64_t)n, &y, &e)) fail_msg("%s", e.message);
    assert_int_equal(wane_tensor_get(y, host, &e), WANE_OK);
    wane_tensor_release(y);
    return host;
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
        wane_device *d = open_device(UINT64_MAX);
        snprintf(path, sizeof path, "examples/models/lune-%s", size[i]);
        wane_model *m = open_model(path, d);
        snprintf(path, sizeof path, "tests/reference/lune-%s.safetensors", size[i]);
        assert_int_equal(wane_safetensors_open(test_tree(path), &f, &e), WANE_OK);
        for (int t = 0; t < 4; t++) {
            size_t n, count;
            snprintf(name, sizeof name, "%s.ids", task[t]);
            int32_t *ids = entry_data(f, name, &n);
            snprintf(name, sizeof name, "%s.logits", task[t]);
            float *expected = entry_data(f, name, &count);
            float *got = logits_of(m, ids, n);
            double error = distance(got, expected, count);
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
        wane_device *d = open_device(UINT64_MAX);
        snprintf(path, sizeof path, "tests/reference/tiny/%s", family[i]);
        wane_model *m = open_model(path, d);
        round_frequencies(m);
        snprintf(path, sizeof path, "tests/reference/tiny/%s/expected.safetensors", family[i]);
        assert_int_equal(wane_safetensors_open(test_tree(path), &f, &e), WANE_OK);
        int32_t *ids = entry_data(f, "ids", &n);
        float *expected = entry_data(f, "logits", &count);
        for (size_t row = 0; row < 3; row++) {
            float *got = logits_of(m, ids + row * n / 3, n / 3);
            double error = distance(got, expected + row * count / 3, count / 3);
            if (!(error < 1e-5)) fail_msg("%s: %g", family[i], error);
            free(got);
        }
        free(ids), free(expected);
        wane_safetensors_close(f);
        wane_model_release(m);
        wane_device_release(d);
    }
}

int test_model(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_tiny),
        cmocka_unit_test(golden_lune),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
