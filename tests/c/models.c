/* models.c - see models.h. */
#include "tests/c/models.h"

#include <math.h>
#include <string.h>

#include "runtime/model/forward.h"
#include "tests/c/test.h"

double test_distance(const float *a, const float *b, size_t n)
{
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        all += (double)b[i] * b[i];
    }
    return sqrt(d / all);
}

wane_device *test_device(uint64_t budget)
{
    wane_device *d;
    wane_err e;
    assert_int_equal(wane_device_open("cpu", budget, &d, &e), WANE_OK);
    return d;
}

wane_model *test_model_open(const char *path, wane_device *d)
{
    wane_checkpoint *c;
    wane_model *m = NULL;
    wane_err e;
    wane_status s = wane_checkpoint_open(test_tree(path), &c, &e);
    if (!s) s = wane_model_new(c, d, d, &m, &e);
    if (s) fail_msg("%s", e.message);
    wane_checkpoint_release(c);
    return m;
}

float *test_model_logits(wane_model *m, const int32_t *ids, size_t n)
{
    wane_tensor *y;
    wane_err e;
    float *host = malloc(n * (size_t)m->config->vocabulary * sizeof *host);
    if (wane_model_logits(m, ids, (int64_t)n, &y, &e)) fail_msg("%s", e.message);
    assert_int_equal(wane_tensor_get(y, host, &e), WANE_OK);
    wane_tensor_release(y);
    return host;
}

bool test_listed(const wane_findings *all, const char *says)
{
    for (size_t i = 0; i < all->count; i++)
        if (strstr(all->item[i].message, says)) return true;
    return false;
}
