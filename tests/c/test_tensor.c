/* test_tensor.c - devices and their budget, views, copies, arithmetic on whole tensors, f16 and
 * bf16. */
#include "tests/c/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tensor/math.h"

static int setup(void **state)
{
    wane_device *d;
    assert_int_equal(wane_device_open("cpu", 64 << 20, &d, NULL), WANE_OK);
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    wane_device *d = *state;
    assert_int_equal(d->live, d->scratch); /* nothing is left, whatever the test did */
    assert_int_equal(d->refs, 1);
    wane_device_release(d);
    return 0;
}

static void devices(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:12345"};
    wane_device *d;
    wane_err e;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_int_equal(wane_device_open(unknown[i], UINT64_MAX, &d, &e), WANE_EARG);
        assert_null(d);
    }
    assert_int_equal(wane_device_open("host", UINT64_MAX, &d, &e), WANE_OK);
    assert_string_equal(d->name, "host");
    assert_true(wane_device_is_host(d));
    wane_device_release(d);
    assert_int_equal(wane_device_open("auto", 1 << 30, &d, &e), WANE_OK);
    bool cuda = !strncmp(d->name, "cuda", 4);
    assert_true(cuda || !strcmp(d->name, "cpu"));
    wane_device_release(d);
    if (!cuda) {
        assert_int_equal(wane_device_open("cuda", 1 << 30, &d, &e), WANE_EDEVICE);
        assert_non_null(strstr(e.message, "cuda:0: cannot open: "));
        assert_true(strlen(e.message) > 30);
        assert_string_equal(e.device, "cuda:0");
    }
    assert_int_equal(wane_device_open("cpu", 1000, &d, &e), WANE_EOOM);
    assert_null(d);
    assert_int_equal(e.free, 1000);
}

static void the_budget(void **state)
{
    wane_device *d;
    wane_err e;
    void *a, *b;
    (void)state;
    assert_int_equal(wane_device_open("cpu", 10 << 20, &d, &e), WANE_OK);
    uint64_t start = d->live, room = (10 << 20) - start;
    assert_int_equal(start, d->scratch);
    assert_int_equal(wane_device_room(d), room);
    assert_int_equal(wane_device_alloc(d, room - 1000, &a, &e), WANE_OK);
    assert_int_equal((uintptr_t)a % 256, 0);
    assert_int_equal(wane_device_alloc(d, 1001, &b, &e), WANE_EOOM);
    assert_null(b);
    assert_int_equal(e.requested, 1001);
    assert_int_equal(e.free, 1000);
    assert_string_equal(e.device, "cpu");
    assert_string_equal(
        e.message, "cpu: out of memory: 1001 B asked for, 1000 B of 10 MiB free; raise memory = or "
                   "take a smaller model");
    assert_int_equal(wane_device_alloc(d, 1000, &b, &e), WANE_OK);
    assert_int_equal(d->live, 10 << 20);
    wane_device_free(d, a, room - 1000);
    wane_device_free(d, b, 1000);
    wane_device_free(d, NULL, 1000);
    assert_int_equal(d->live, start);
    assert_int_equal(d->peak, 10 << 20);
    wane_device_reset_peak(d);
    assert_int_equal(d->peak, start);
    assert_int_equal(wane_device_alloc(d, 0, &a, &e), WANE_OK);
    assert_null(a);
    assert_int_equal(wane_device_alloc(d, UINT64_MAX, &a, &e), WANE_EOOM);
    wane_device_release(d);
}

static void failures_on_purpose(void **state)
{
    wane_device *d = *state;
    void *p[4];
    d->fail_after = 2;
    for (int i = 0; i < 4; i++)
        assert_int_equal(wane_device_alloc(d, 100, &p[i], NULL), i == 2 ? WANE_EOOM : WANE_OK);
    for (int i = 0; i < 4; i++) wane_device_free(d, p[i], 100);
    d->fail_after = 1;
    d->fail_times = 2;
    for (int i = 0; i < 4; i++)
        assert_int_equal(wane_device_alloc(d, 100, &p[i], NULL),
                         i == 1 || i == 2 ? WANE_EOOM : WANE_OK);
    for (int i = 0; i < 4; i++) wane_device_free(d, p[i], 100);
    d->fail_after = 0;
    d->fail_times = 0;
    for (int i = 0; i < 4; i++) assert_int_equal(wane_device_alloc(d, 100, &p[i], NULL), WANE_EOOM);
    d->fail_after = -1;
    assert_int_equal(wane_device_alloc(d, 100, &p[0], NULL), WANE_OK);
    wane_device_free(d, p[0], 100);
    atomic_int stop = 0;
    wane_err e;
    d->interrupt = &stop;
    assert_int_equal(wane_device_poll(d, &e), WANE_OK);
    stop = 1;
    assert_int_equal(wane_device_poll(d, &e), WANE_EINTERRUPTED);
}

/* 0, 1, 2, ... in a shape. */
static wane_tensor *counting(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape)
{
    wane_tensor *line, *t;
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= shape[i];
    assert_int_equal(wane_tensor_range(d, dtype, 0, 1, count, &line, NULL), WANE_OK);
    assert_int_equal(wane_tensor_reshape(line, rank, shape, &t, NULL), WANE_OK);
    wane_tensor_release(line);
    return t;
}

static void shapes(void **state)
{
    wane_device *d = *state;
    wane_tensor *t;
    wane_err e;
    int64_t negative[] = {2, -1}, huge[] = {1 << 30, 1 << 30}, wraps[] = {INT64_MAX, INT64_MAX, 4},
            empty[] = {3, 0, 2};
    int64_t nine[] = {1, 1, 1, 1, 1, 1, 1, 1, 1}, rest[] = {0, 9};
    assert_int_equal(wane_tensor_new(d, WANE_F32, 2, negative, &t, &e), WANE_EARG);
    assert_int_equal(wane_tensor_new(d, WANE_F32, 2, huge, &t, &e), WANE_EARG);
    assert_int_equal(wane_tensor_new(d, WANE_F32, 3, wraps, &t, &e), WANE_EARG);
    assert_int_equal(wane_tensor_new(d, WANE_F32, 9, nine, &t, &e), WANE_EARG);
    assert_int_equal(wane_tensor_new(d, WANE_DTYPES, 1, nine, &t, &e), WANE_EARG);
    assert_null(t);
    assert_int_equal(wane_tensor_new(d, WANE_F32, 3, empty, &t, &e), WANE_OK);
    assert_int_equal(wane_tensor_count(t), 0);
    assert_true(wane_tensor_contiguous(t));
    assert_int_equal(wane_tensor_mat(t).rows, 0);
    assert_int_equal(wane_tensor_mat(t).cols, 2);
    wane_tensor *v;
    assert_int_equal(wane_tensor_reshape(t, 2, rest, &v, &e), WANE_OK);
    wane_tensor_release(t);
    wane_tensor_release(v);
    assert_int_equal(wane_tensor_new(d, WANE_I64, 0, NULL, &t, &e), WANE_OK);
    assert_int_equal(wane_tensor_count(t), 1);
    assert_int_equal(wane_tensor_mat(t).rows * wane_tensor_mat(t).cols, 1);
    wane_tensor_release(t);
    assert_null(wane_tensor_mat(NULL).data);
    wane_dtype dtype;
    for (int i = 0; i < WANE_DTYPES; i++) {
        assert_true(wane_dtype_parse(wane_dtype_name((wane_dtype)i), &dtype));
        assert_int_equal(dtype, i);
    }
    assert_false(wane_dtype_parse("F32", &dtype));
}

static float first_of(wane_tensor *t)
{
    wane_tensor *v = wane_tensor_retain(t), *w;
    float x;
    while (v->rank) {
        assert_int_equal(wane_tensor_select(v, 0, 0, &w, NULL), WANE_OK);
        wane_tensor_release(v);
        v = w;
    }
    assert_int_equal(wane_tensor_get(v, &x, NULL), WANE_OK);
    wane_tensor_release(v);
    return x;
}

static void views(void **state)
{
    wane_device *d = *state;
    wane_err e;
    int64_t shape[] = {4, 3, 5};
    wane_tensor *t = counting(d, WANE_F32, 3, shape), *a, *b, *c;
    uint64_t live = d->live;
    assert_int_equal(wane_tensor_slice(t, 0, 1, 2, &a, &e), WANE_OK);
    assert_true(wane_tensor_contiguous(a));
    assert_int_equal(wane_tensor_slice(a, 2, 2, 3, &b, &e), WANE_OK);
    wane_tensor_release(a);
    assert_false(wane_tensor_contiguous(b));
    wane_mat m = wane_tensor_mat(b); /* the rows of both are 5 apart all through */
    assert_non_null(m.data);
    assert_int_equal(m.rows, 6);
    assert_int_equal(m.cols, 3);
    assert_int_equal(m.stride, 5);
    assert_int_equal((int)((float *)m.data)[5 * 5 + 2], 15 + 25 + 4);
    assert_int_equal((int)*(float *)wane_mat_rows(m, 2, 1).data, 15 + 10 + 2);
    assert_null(wane_mat_reshape(m, 3, 6).data);
    assert_int_equal(wane_tensor_slice(t, 1, 0, 2, &c, &e), WANE_OK);
    assert_null(wane_tensor_mat(c).data); /* rows 5, 5, 10, 5, ... apart */
    assert_int_equal(wane_tensor_reshape(c, 1, (int64_t[]){40}, &a, &e), WANE_EARG);
    assert_null(a);
    assert_int_equal(wane_tensor_put(c, &e, &e), WANE_EARG);
    assert_int_equal(wane_tensor_select(c, 2, 3, &a, &e), WANE_OK);
    assert_int_equal(a->rank, 2);
    assert_int_equal((int)first_of(a), 3);
    wane_tensor_release(a);
    assert_int_equal(wane_tensor_slice(t, 3, 0, 1, &a, &e), WANE_EARG);
    assert_int_equal(wane_tensor_slice(t, 0, 3, 2, &a, &e), WANE_EARG);
    assert_int_equal(wane_tensor_slice(t, 0, -1, 2, &a, &e), WANE_EARG);
    assert_int_equal(wane_tensor_slice(t, 0, 1, INT64_MAX, &a, &e), WANE_EARG);
    assert_int_equal(wane_tensor_slice(t, 0, 4, 0, &a, &e), WANE_OK);
    wane_tensor_release(a);
    assert_int_equal(d->live, live); /* no view took memory */
    wane_tensor_release(t);
    assert_int_equal((int)first_of(b), 15 + 2); /* and each keeps what it looks at */
    wane_tensor_release(b);
    wane_tensor_release(c);
}

/* Element by element, of f32. */
static float at(const wane_tensor *t, const int64_t *index)
{
    int64_t place = t->offset;
    for (int i = 0; i < t->rank; i++) place += index[i] * t->stride[i];
    return ((const float *)t->buffer->data)[place];
}

static void copies_of_slices(void **state)
{
    wane_device *d = *state, *host;
    wane_err e;
    int64_t shape[] = {4, 3, 5, 2};
    wane_tensor *t = counting(d, WANE_F32, 4, shape);
    assert_int_equal(wane_device_open("host", UINT64_MAX, &host, &e), WANE_OK);
    for (int dim = 0; dim < 4; dim++) {
        for (int other = 0; other < 4; other++) {
            wane_tensor *a, *b, *copy;
            wane_device *target = (dim + other) % 2 ? d : host;
            assert_int_equal(wane_tensor_slice(t, dim, 1, 1, &a, &e), WANE_OK);
            assert_int_equal(wane_tensor_slice(a, other, 0, other == dim ? 1 : 2, &b, &e), WANE_OK);
            assert_int_equal(wane_tensor_copy_to(b, target, WANE_F32, &copy, &e), WANE_OK);
            assert_true(wane_tensor_contiguous(copy));
            assert_ptr_equal(wane_tensor_device(copy), target);
            int64_t i[4];
            for (i[0] = 0; i[0] < b->shape[0]; i[0]++)
                for (i[1] = 0; i[1] < b->shape[1]; i[1]++)
                    for (i[2] = 0; i[2] < b->shape[2]; i[2]++)
                        for (i[3] = 0; i[3] < b->shape[3]; i[3]++)
                            assert_true(at(copy, i) == at(b, i));
            wane_tensor_release(a);
            wane_tensor_release(b);
            wane_tensor_release(copy);
        }
    }
    wane_tensor *column, *half, *back;
    assert_int_equal(wane_tensor_select(t, 3, 1, &column, &e), WANE_OK);
    assert_int_equal(wane_tensor_copy_to(column, host, WANE_BF16, &half, &e), WANE_OK);
    assert_int_equal(half->dtype, WANE_BF16);
    assert_int_equal(wane_tensor_copy_to(half, d, WANE_I32, &back, &e), WANE_OK);
    assert_int_equal(((int32_t *)back->buffer->data)[3], 7);
    wane_tensor_release(column);
    wane_tensor_release(half);
    wane_tensor_release(back);
    wane_tensor_release(t);
    wane_device_release(host);
}

/* x rounded to p bits of significand with least exponent low, ties to even: the definition, in
 * double. */
static double rounded(double x, int p, int low, double most)
{
    if (x == 0 || isinf(x)) return x;
    int e = ilogb(x);
    if (e < low) e = low;
    double y = ldexp(rint(ldexp(x, p - 1 - e)), e - p + 1);
    return fabs(y) > most ? copysign(INFINITY, y) : y;
}

static void small_floats(void **state)
{
    enum { ALL = 65536 };
    wane_device *d = *state;
    const struct {
        wane_dtype dtype;
        int p, low;
        double most;
    } row[] = {{WANE_BF16, 8, -126, 0x1.fep127}, {WANE_F16, 11, -14, 65504}};
    uint16_t *codes = malloc(ALL * sizeof *codes), *back = malloc(ALL * sizeof *back);
    float *values = malloc(3 * ALL * sizeof *values), *results = malloc(3 * ALL * sizeof *results);
    for (int r = 0; r < 2; r++) {
        wane_tensor *t, *wide, *again;
        int64_t n = ALL, n3 = 3 * ALL;
        for (int i = 0; i < ALL; i++) codes[i] = (uint16_t)i;
        assert_int_equal(wane_tensor_from(d, row[r].dtype, 1, &n, codes, row[r].dtype, &t, NULL),
                         WANE_OK);
        assert_int_equal(wane_tensor_copy_to(t, d, WANE_F32, &wide, NULL), WANE_OK);
        assert_int_equal(wane_tensor_copy_to(wide, d, row[r].dtype, &again, NULL), WANE_OK);
        assert_int_equal(wane_tensor_get(again, back, NULL), WANE_OK);
        assert_int_equal(wane_tensor_get(wide, values, NULL), WANE_OK);
        for (int i = 0; i < ALL; i++) {
            if (isnan(values[i])) { /* a quiet one may come of a signalling one */
                unsigned exponent = r ? 0x7c00 : 0x7f80;
                assert_true((back[i] & exponent) == exponent && (back[i] & ~(exponent | 0x8000)));
            } else {
                assert_int_equal(back[i], codes[i]);
                assert_true(rounded(values[i], row[r].p, row[r].low, row[r].most) ==
                            (double)values[i]);
            }
        }
        wane_tensor_release(t);
        wane_tensor_release(wide);
        wane_tensor_release(again);
        /* halfway between every two neighbours, and one step of f32 to either side */
        for (int i = 0; i < ALL; i++) {
            float a = values[i], b = values[(i + 1) % ALL];
            float middle = isfinite(a) && isfinite(b) ? (float)(((double)a + (double)b) / 2) : a;
            values[i] = middle;
            results[i] = nextafterf(middle, INFINITY);
            results[ALL + i] = nextafterf(middle, -INFINITY);
        }
        memcpy(values + ALL, results, 2 * ALL * sizeof *values);
        assert_int_equal(wane_tensor_from(d, row[r].dtype, 1, &n3, values, WANE_F32, &t, NULL),
                         WANE_OK);
        assert_int_equal(wane_tensor_read(t, WANE_F32, results, NULL), WANE_OK);
        for (int i = 0; i < n3; i++) {
            double expected = rounded(values[i], row[r].p, row[r].low, row[r].most);
            if (isnan(values[i]))
                assert_true(isnan(results[i]));
            else
                assert_true(expected == (double)results[i] &&
                            !signbit(expected) == !signbit(results[i]));
        }
        wane_tensor_release(t);
    }
    free(codes);
    free(back);
    free(values);
    free(results);
}

static void broadcasting(void **state)
{
    wane_device *d = *state;
    wane_err e;
    const struct {
        int rank_a, rank_b;
        int64_t a[4], b[4];
        bool good;
    } row[] = {
        {2, 2, {3, 4}, {3, 4}, true},       {2, 1, {3, 4}, {4}, true},
        {2, 2, {3, 4}, {3, 1}, true},       {2, 2, {3, 1}, {1, 4}, true},
        {1, 2, {4}, {3, 4}, true},          {0, 2, {0}, {3, 4}, true},
        {3, 2, {2, 3, 4}, {3, 4}, true},    {3, 3, {2, 3, 4}, {2, 1, 4}, true},
        {3, 3, {2, 1, 4}, {1, 3, 1}, true}, {4, 3, {2, 1, 3, 4}, {5, 1, 4}, true},
        {2, 2, {0, 4}, {1, 4}, true},       {2, 1, {3, 4}, {3}, false},
        {2, 2, {3, 4}, {4, 3}, false},      {1, 1, {2}, {3}, false},
    };
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        wane_tensor *a = counting(d, WANE_F32, row[r].rank_a, row[r].a), *y;
        wane_tensor *b = counting(d, WANE_F32, row[r].rank_b, row[r].b);
        wane_status s = wane_tensor_binary(a, b, WANE_SUB, &y, &e);
        assert_int_equal(s, row[r].good ? WANE_OK : WANE_EARG);
        if (!row[r].good) assert_non_null(strstr(e.message, "do not fit each other"));
        for (int64_t i = 0; y && i < wane_tensor_count(y); i++) {
            int64_t rest = i, p[4] = {0}, q[4] = {0}, index[4];
            for (int k = y->rank - 1; k >= 0; k--) {
                index[k] = rest % y->shape[k];
                rest /= y->shape[k];
                int ka = k - (y->rank - a->rank), kb = k - (y->rank - b->rank);
                if (ka >= 0) p[ka] = a->shape[ka] == 1 ? 0 : index[k];
                if (kb >= 0) q[kb] = b->shape[kb] == 1 ? 0 : index[k];
            }
            assert_true(at(y, index) == at(a, p) - at(b, q));
        }
        wane_tensor_release(a);
        wane_tensor_release(b);
        wane_tensor_release(y);
    }
}

static void reductions(void **state)
{
    wane_device *d = *state;
    int64_t shape[] = {2, 3, 4};
    wane_tensor *t = counting(d, WANE_F32, 3, shape), *y;
    double x;
    wane_err e;
    const struct {
        wane_summary what;
        double all, along[3]; /* of element 0 along each dimension */
    } row[] = {
        {WANE_TOTAL, 276, {12, 12, 6}},
        {WANE_MEAN, 11.5, {6, 4, 1.5}},
        {WANE_LEAST, 0, {0, 0, 0}},
        {WANE_MOST, 23, {12, 8, 3}},
        {WANE_NORM, sqrt(4324), {12, sqrt(80), sqrt(14)}},
    };
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        assert_int_equal(wane_tensor_summary(t, row[r].what, &x, &e), WANE_OK);
        assert_true(fabs(x - row[r].all) < 1e-5);
        for (int dim = 0; dim < 3; dim++) {
            assert_int_equal(wane_tensor_reduce(t, dim, row[r].what, &y, &e), WANE_OK);
            assert_int_equal(y->rank, 3);
            assert_int_equal(wane_tensor_count(y), 24 / shape[dim]);
            assert_int_equal(y->shape[dim], 1);
            assert_true(fabs((double)first_of(y) - row[r].along[dim]) < 1e-5);
            wane_tensor_release(y);
        }
    }
    for (int dim = -1; dim < 3; dim++) {
        int32_t places[12];
        assert_int_equal(wane_tensor_argmax(t, dim, &y, &e), WANE_OK);
        assert_int_equal(wane_tensor_get(y, places, &e), WANE_OK);
        for (int64_t i = 0; i < wane_tensor_count(y); i++)
            assert_int_equal(places[i], dim < 0 ? 23 : shape[dim] - 1);
        wane_tensor_release(y);
    }
    wane_tensor *empty, *line;
    assert_int_equal(wane_tensor_slice(t, 1, 0, 0, &empty, &e), WANE_OK);
    assert_int_equal(wane_tensor_summary(empty, WANE_TOTAL, &x, &e), WANE_OK);
    assert_true(x == 0);
    assert_int_equal(wane_tensor_summary(empty, WANE_MEAN, &x, &e), WANE_EARG);
    assert_int_equal(wane_tensor_reduce(empty, 1, WANE_MOST, &y, &e), WANE_EARG);
    assert_int_equal(wane_tensor_argmax(empty, -1, &y, &e), WANE_EARG);
    assert_int_equal(wane_tensor_reduce(empty, 1, WANE_TOTAL, &y, &e), WANE_OK);
    assert_true(first_of(y) == 0);
    assert_int_equal(wane_tensor_reduce(t, 3, WANE_TOTAL, &line, &e), WANE_EARG);
    wane_tensor_release(y);
    wane_tensor_release(empty);
    wane_tensor_release(t);
}

static void products(void **state)
{
    wane_device *d = *state;
    wane_err e;
    int64_t left[] = {2, 2, 3}, right[] = {3, 4};
    wane_tensor *a = counting(d, WANE_BF16, 3, left), *b = counting(d, WANE_F32, 2, right), *y, *t;
    assert_int_equal(wane_tensor_matmul(a, b, &y, &e), WANE_OK);
    assert_int_equal(y->rank, 3);
    assert_int_equal(y->shape[2], 4);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            int sum = 0;
            for (int k = 0; k < 3; k++) sum += (i * 3 + k) * (k * 4 + j);
            assert_true(((float *)y->buffer->data)[i * 4 + j] == (float)sum);
        }
    }
    wane_tensor_release(y);
    assert_int_equal(wane_tensor_matmul(b, a, &y, &e), WANE_EARG);
    assert_int_equal(wane_tensor_transpose(b, &t, &e), WANE_OK);
    assert_true(((float *)t->buffer->data)[1] == 4);
    assert_int_equal(wane_tensor_matmul(a, t, &y, &e), WANE_EARG);
    assert_non_null(strstr(e.message, "(2, 2, 3) by (4, 3)"));
    assert_int_equal(wane_tensor_transpose(a, &y, &e), WANE_EARG);
    wane_tensor_release(t);
    wane_tensor_release(a);
    wane_tensor_release(b);
}

static void equal_and_hash(void **state)
{
    wane_device *d = *state, *host;
    wane_err e;
    int64_t shape[] = {3, 4}, other[] = {4, 3};
    wane_tensor *a = counting(d, WANE_F32, 2, shape), *b, *c = counting(d, WANE_F32, 2, other),
                *column, *copy;
    char x[65], y[65];
    bool same;
    assert_int_equal(wane_device_open("host", UINT64_MAX, &host, &e), WANE_OK);
    assert_int_equal(wane_tensor_copy_to(a, host, WANE_F32, &b, &e), WANE_OK);
    assert_int_equal(wane_tensor_equal(a, b, &same, &e), WANE_OK);
    assert_true(same);
    assert_int_equal(wane_tensor_hash(a, x, &e), WANE_OK);
    assert_int_equal(wane_tensor_hash(b, y, &e), WANE_OK);
    assert_string_equal(x, y);
    assert_int_equal(wane_tensor_equal(a, c, &same, &e), WANE_OK);
    assert_false(same);
    assert_int_equal(wane_tensor_hash(c, y, &e), WANE_OK);
    assert_string_not_equal(x, y); /* the shape counts */
    assert_int_equal(wane_tensor_slice(a, 1, 1, 2, &column, &e), WANE_OK);
    assert_int_equal(wane_tensor_copy_to(column, d, WANE_F32, &copy, &e), WANE_OK);
    assert_int_equal(wane_tensor_equal(column, copy, &same, &e), WANE_OK);
    assert_true(same);
    ((float *)copy->buffer->data)[5] += 1;
    assert_int_equal(wane_tensor_equal(column, copy, &same, &e), WANE_OK);
    assert_false(same);
    wane_tensor_release(a);
    wane_tensor_release(b);
    wane_tensor_release(c);
    wane_tensor_release(column);
    wane_tensor_release(copy);
    wane_device_release(host);
}

static void random_numbers(void **state)
{
    enum { COUNT = 300001 };
    wane_device *d = *state;
    wane_err e;
    int64_t n = COUNT, head = 1000;
    wane_random uniform = {1, false, 0, 1}, normal = {2, true, 0, 1};
    wane_tensor *a, *b, *part;
    bool same;
    double x;
    assert_int_equal(wane_tensor_random(d, WANE_F32, 1, &n, uniform, &a, &e), WANE_OK);
    assert_int_equal(wane_tensor_summary(a, WANE_MEAN, &x, &e), WANE_OK);
    assert_true(fabs(x - 0.5) < 0.003);
    assert_int_equal(wane_tensor_summary(a, WANE_LEAST, &x, &e), WANE_OK);
    assert_true(x >= 0);
    assert_int_equal(wane_tensor_summary(a, WANE_MOST, &x, &e), WANE_OK);
    assert_true(x < 1);
    /* the first of many are the only ones of few, across the borders of chunks */
    assert_int_equal(wane_tensor_random(d, WANE_F32, 1, &head, uniform, &b, &e), WANE_OK);
    assert_int_equal(wane_tensor_slice(a, 0, 0, head, &part, &e), WANE_OK);
    assert_int_equal(wane_tensor_equal(part, b, &same, &e), WANE_OK);
    assert_true(same);
    wane_tensor_release(a);
    wane_tensor_release(b);
    wane_tensor_release(part);
    assert_int_equal(wane_tensor_random(d, WANE_F32, 1, &n, normal, &a, &e), WANE_OK);
    assert_int_equal(wane_tensor_summary(a, WANE_MEAN, &x, &e), WANE_OK);
    assert_true(fabs(x) < 0.01);
    assert_int_equal(wane_tensor_summary(a, WANE_NORM, &x, &e), WANE_OK);
    assert_true(fabs(x * x / COUNT - 1) < 0.01);
    wane_tensor_release(a);
    /* SplitMix64 from state 1, as its authors' code gives it: 910a2dec89025cc1 first */
    assert_int_equal(wane_tensor_random(d, WANE_F32, 0, NULL, uniform, &a, &e), WANE_OK);
    assert_true((double)first_of(a) == (double)0x910a2d * 0x1p-24);
    wane_tensor_release(a);
}

/* A chain of operations with everything that can allocate in it. */
static wane_status chain(wane_device *d, wane_device *host, wane_err *e)
{
    int64_t shape[] = {6, 8};
    wane_random how = {3, true, 0, 1};
    wane_tensor *t[12] = {NULL};
    double x;
    bool same;
    char hex[65];
    wane_status s = wane_tensor_random(d, WANE_BF16, 2, shape, how, &t[0], e);
    if (!s) s = wane_tensor_slice(t[0], 1, 1, 4, &t[1], e);
    if (!s) s = wane_tensor_select(t[0], 1, 2, &t[2], e);
    if (!s) s = wane_tensor_unary(t[2], WANE_ABS, &t[3], e);
    if (!s) s = wane_tensor_scalar(t[1], 2, true, WANE_DIV, &t[4], e);
    if (!s) s = wane_tensor_transpose(t[4], &t[5], e);
    if (!s) s = wane_tensor_matmul(t[4], t[5], &t[6], e);
    if (!s) s = wane_tensor_reduce(t[6], 0, WANE_NORM, &t[7], e);
    if (!s) s = wane_tensor_binary(t[6], t[7], WANE_DIV, &t[8], e);
    if (!s) s = wane_tensor_argmax(t[8], 0, &t[9], e);
    if (!s) s = wane_tensor_copy_to(t[1], host, WANE_F16, &t[10], e);
    if (!s) s = wane_tensor_copy_to(t[10], d, WANE_F32, &t[11], e);
    if (!s) s = wane_tensor_summary(t[11], WANE_MEAN, &x, e);
    if (!s) s = wane_tensor_equal(t[1], t[2], &same, e);
    if (!s) s = wane_tensor_hash(t[1], hex, e);
    for (int i = 0; i < 12; i++) wane_tensor_release(t[i]);
    return s;
}

static void every_allocation_fails_once(void **state)
{
    wane_device *d = *state, *host;
    wane_err e;
    assert_int_equal(wane_device_open("host", UINT64_MAX, &host, &e), WANE_OK);
    for (int which = 0; which < 2; which++) {
        wane_device *failing = which ? host : d;
        uint64_t live = d->live, host_live = host->live;
        int n = 0;
        for (;; n++) {
            failing->fail_after = n;
            wane_status s = chain(d, host, &e);
            bool failed = failing->fail_after < 0;
            failing->fail_after = -1;
            assert_int_equal(d->live, live);
            assert_int_equal(host->live, host_live);
            assert_int_equal(d->refs, 1);
            if (!failed) {
                assert_int_equal(s, WANE_OK);
                break;
            }
            assert_int_equal(s, WANE_EOOM);
            assert_true(e.requested > 0);
        }
        assert_true(which ? n >= 1 : n > 15); /* the chain does allocate */
    }
    wane_device_release(host);
}

int test_tensor(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices),
        cmocka_unit_test(the_budget),
        cmocka_unit_test_setup_teardown(failures_on_purpose, setup, teardown),
        cmocka_unit_test_setup_teardown(shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(views, setup, teardown),
        cmocka_unit_test_setup_teardown(copies_of_slices, setup, teardown),
        cmocka_unit_test_setup_teardown(small_floats, setup, teardown),
        cmocka_unit_test_setup_teardown(broadcasting, setup, teardown),
        cmocka_unit_test_setup_teardown(reductions, setup, teardown),
        cmocka_unit_test_setup_teardown(products, setup, teardown),
        cmocka_unit_test_setup_teardown(equal_and_hash, setup, teardown),
        cmocka_unit_test_setup_teardown(random_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
