/* test_kernels_matrix.c - memory, elementwise slots, products and statistics: see test_kernels.c.
 */
#include "tests/c/kernels.h"

static void row_open(target *t)
{
    wane_dev *d = NULL;
    char why[256] = "";
    assert_int_not_equal(t->k->open(1000, 64 << 20, &d, why), WANE_OK);
    assert_null(d);
    assert_true(why[0] && strlen(why) < sizeof why);
}

static void row_close(target *t)
{
    t->k->close(NULL);
}

static void row_info(target *t)
{
    wane_dev_info info;
    t->k->info(t->dev, &info);
    assert_true(info.name[0] && memchr(info.name, 0, sizeof info.name));
    assert_true(info.total >= info.free && info.free > 0 && info.threads > 0);
}

static void row_alloc(target *t)
{
    void *p = NULL;
    for (size_t bytes = 0; bytes < 5000; bytes = bytes * 3 + 1) {
        RUN(t, alloc, bytes, &p);
        assert_int_equal((uintptr_t)p % 256, 0);
        t->k->free(t->dev, p);
    }
    p = t;
    assert_int_equal(t->k->alloc(t->dev, SIZE_MAX / 2, &p), WANE_EOOM);
    assert_null(p);
    assert_int_equal(t->k->alloc(t->dev, SIZE_MAX, &p), WANE_EOOM);
    assert_int_equal(t->k->sync(t->dev),
                     WANE_OK); /* a refused allocation is no fault of the device */
}

static void row_free(target *t)
{
    t->k->free(t->dev, NULL);
}

static void row_bytes(target *t)
{
    unsigned char in[1000], out[1000];
    for (int i = 0; i < 1000; i++) in[i] = (unsigned char)pick(t, 256);
    unsigned char *a = put_bytes(t, in, sizeof in), *b = put_bytes(t, in, sizeof in);
    RUN(t, fill, b, 0x5A, sizeof in);
    RUN(t, copy, b + 3, a + 1, 777);
    RUN(t, put, b + 900, in, 50);
    RUN(t, put, b, NULL, 0);
    RUN(t, get, out, b, sizeof out);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(out[i], i >= 3 && i < 780     ? in[i - 2]
                                 : i >= 900 && i < 950 ? in[i - 900]
                                                       : 0x5A);
}

/* Whether or not the device takes the memory: what travels is the same. */
static void row_pin(target *t)
{
    enum { BYTES = 1 << 20 };
    unsigned char *host = host_bytes(t, 2 * BYTES), *there;
    for (int i = 0; i < BYTES; i++) host[i] = (unsigned char)pick(t, 256);
    wane_status s = t->k->pin(t->dev, host, 2 * BYTES);
    assert_true(s == WANE_OK || s == WANE_EUNSUPPORTED || s == WANE_EOOM);
    there = put_bytes(t, host, BYTES);
    RUN(t, get, host + BYTES, there, BYTES);
    assert_memory_equal(host + BYTES, host, BYTES);
    if (!s) t->k->unpin(t->dev, host);
    t->k->unpin(t->dev, NULL);
    RUN(t, put, there, host, BYTES); /* and afterwards as before */
}

static void row_convert(target *t)
{
    static const double special[] = {
        0,        -0.0,   INFINITY, -INFINITY, NAN,     65504,     65519.99,  65520,
        6e-8,     2.9e-8, 0x1p-24,  0x1.8p-24, 0x1p-25, 0x1.004p0, 0x1.00cp0, 0x1.01p0,
        0x1.03p0, 0.5,    1.5,      -2.5,      1e9,     -1e9,      3e38,      1e-40,
        127.5,    128.5,  255.5,    300,       -129,    0x1p31,    0x1p62};
    enum { SPECIAL = sizeof special / sizeof *special };
    static const int64_t sizes[] = {1, 31, 33, 1504};
    for (int from = 0; from < WANE_DTYPES; from++) {
        for (int to = 0; to < WANE_DTYPES; to++) {
            for (int s = 0; s < 4; s++) {
                int64_t rows = s == 2 ? 33 : 2, cols = sizes[s], n = rows * cols;
                double *x = normal(t, n, 100);
                for (int i = 0; i < SPECIAL && i < n; i++) x[i] = special[i];
                wane_mat a = put_mat(t, (wane_dtype)from, rows, cols, gap(cols, 5), x);
                wane_mat y = put_mat(t, (wane_dtype)to, rows, cols, gap(cols, 3), NULL);
                RUN(t, convert, y, a);
                for (int64_t i = 0; i < n; i++) x[i] = stored((wane_dtype)to, x[i]);
                check_same(t, "convert", get_mat(t, y), x, n, 0);
                REFUSED(t, convert, y, ((wane_mat){a.data, a.dtype, rows, cols + 1, a.stride}));
            }
            give_back(t);
        }
    }
}

static double binary_of(double a, double b, int op)
{
    return op == WANE_ADD ? a + b : op == WANE_SUB ? a - b : op == WANE_MUL ? a * b : a / b;
}

static void row_binary(target *t)
{
    static const struct {
        int64_t rows, cols, a_rows, a_cols, b_rows, b_cols;
    } shapes[] = {{1, 1, 1, 1, 1, 1},      {31, 33, 31, 33, 31, 33}, {32, 257, 32, 257, 1, 257},
                  {33, 31, 33, 1, 33, 31}, {257, 32, 257, 32, 1, 1}, {3, 1500, 1, 1500, 3, 1},
                  {5, 7, 1, 1, 1, 1},      {9, 64, 9, 64, 9, 64},    {9, 96, 9, 96, 1, 96}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        int64_t rows = shapes[s].rows, cols = shapes[s].cols, n = rows * cols;
        for (int op = WANE_ADD; op <= WANE_DIV; op++) {
            for (int i = 0; i < 3; i++) {
                wane_dtype type = float_types[i];
                double *a = normal(t, shapes[s].a_rows * shapes[s].a_cols, 1);
                double *b = normal(t, shapes[s].b_rows * shapes[s].b_cols, 1),
                       *want = host_bytes(t, (size_t)n * 8);
                wane_mat x = put_mat(t, type, shapes[s].a_rows, shapes[s].a_cols, gap(cols, 1), a);
                wane_mat z =
                    put_mat(t, WANE_F32, shapes[s].b_rows, shapes[s].b_cols, gap(cols, 2), b);
                wane_mat y = put_mat(t, type, rows, cols, gap(cols, 3), NULL);
                RUN(t, binary, y, x, z, (wane_binary_op)op);
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t c = 0; c < cols; c++)
                        want[r * cols + c] = stored(
                            type,
                            stored(
                                WANE_F32,
                                binary_of(a[(x.rows == 1 ? 0 : r) * x.cols + (x.cols == 1 ? 0 : c)],
                                          b[(z.rows == 1 ? 0 : r) * z.cols + (z.cols == 1 ? 0 : c)],
                                          op)));
                check_same(t, "binary", get_mat(t, y), want, n, 0);
                if (x.rows == rows && x.cols == cols) { /* in place */
                    RUN(t, binary, x, x, z, (wane_binary_op)op);
                    check_same(t, "binary in place", get_mat(t, x), want, n, 0);
                }
                REFUSED(t, binary, y, x,
                        ((wane_mat){z.data, z.dtype, rows + 1, cols + 1, cols + 1}), WANE_ADD);
            }
        }
        give_back(t);
    }
}

static void row_unary(target *t)
{
    static const int64_t sizes[][2] = {{1, 1}, {31, 33}, {257, 32}, {2, 1536}};
    for (int op = WANE_ABS; op <= WANE_LOG; op++) {
        for (int s = 0; s < 4; s++) {
            int64_t rows = sizes[s][0], cols = sizes[s][1], n = rows * cols;
            double *x = normal(t, n, 3);
            for (int64_t i = 0; i < n && op >= WANE_SQRT && op != WANE_EXP; i++)
                x[i] = fabs(x[i]) + 1e-3;
            wane_mat a = put_mat(t, WANE_BF16, rows, cols, gap(cols, 1), x),
                     y = put_mat(t, WANE_F32, rows, cols, gap(cols, 2), NULL);
            RUN(t, unary, y, a, (wane_unary_op)op);
            for (int64_t i = 0; i < n; i++)
                x[i] = op == WANE_ABS    ? fabs(x[i])
                       : op == WANE_NEG  ? -x[i]
                       : op == WANE_SQRT ? sqrt(x[i])
                       : op == WANE_EXP  ? exp(x[i])
                                         : log(x[i]);
            check_near(t, "unary", get_mat(t, y), x, n, 3e-7);
            RUN(t, unary, y, y, WANE_NEG);
            for (int64_t i = 0; i < n; i++) x[i] = -x[i];
            check_near(t, "unary in place", get_mat(t, y), x, n, 3e-7);
        }
    }
}

static double reduce_of(double a, double x, int op)
{
    switch (op) {
    case WANE_SUM: return a + x;
    case WANE_MAX: return fmax(a, x);
    case WANE_MIN: return fmin(a, x);
    case WANE_ABS_MAX: return fmax(a, fabs(x));
    case WANE_ABS_SUM: return a + fabs(x);
    default: return a + x * x;
    }
}

static void row_reduce(target *t)
{
    static const int64_t sizes[][2] = {{1, 1},    {31, 33},  {33, 257},
                                       {257, 31}, {3, 1500}, {300, 140}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t rows = sizes[s][0], cols = sizes[s][1];
        for (int op = WANE_SUM; op <= WANE_SQUARE_SUM; op++) {
            double *x = normal(t, rows * cols, 1);
            wane_mat a = put_mat(t, float_types[op % 3], rows, cols, 1, x);
            for (int way = 0; way < 3; way++) { /* by row, by column, all */
                int64_t yr = way == 0 ? rows : 1, yc = way == 1 ? cols : 1;
                double *want = host_bytes(t, (size_t)(yr * yc) * 8);
                for (int64_t i = 0; i < yr * yc; i++)
                    want[i] = op == WANE_MAX ? -INFINITY : op == WANE_MIN ? INFINITY : 0;
                for (int64_t i = 0; i < rows * cols; i++) {
                    double *to = want + (way == 0 ? i / cols : way == 1 ? i % cols : 0);
                    *to = reduce_of(*to, x[i], op);
                }
                wane_mat y = put_mat(t, WANE_F32, yr, yc, 1, NULL);
                RUN(t, reduce, y, a, (wane_reduce_op)op);
                for (int64_t i = 0; i < yr * yc; i++) want[i] = stored(WANE_F32, want[i]);
                check_near(t, "reduce", get_mat(t, y), want, yr * yc, 1e-7);
            }
        }
        give_back(t);
    }
    double nan[3] = {1, NAN, 2};
    wane_mat a = put_mat(t, WANE_F32, 1, 3, 0, nan), y = put_mat(t, WANE_F32, 1, 1, 0, NULL);
    for (int op = WANE_SUM; op <= WANE_SQUARE_SUM; op++) {
        RUN(t, reduce, y, a, (wane_reduce_op)op);
        assert_true(isnan(get_mat(t, y)[0]));
    }
    REFUSED(t, reduce, a, a, WANE_SUM + 17);
}

static void row_transpose(target *t)
{
    static const int64_t sizes[][2] = {{1, 1}, {31, 33}, {33, 257}, {257, 32}, {1, 300}};
    static const wane_dtype types[] = {WANE_U8, WANE_BF16, WANE_F32, WANE_I64};
    for (int s = 0; s < 5; s++) {
        for (int i = 0; i < 4; i++) {
            int64_t rows = sizes[s][0], cols = sizes[s][1];
            double *x = normal(t, rows * cols, 50),
                   *want = host_bytes(t, (size_t)(rows * cols) * 8);
            wane_mat a = put_mat(t, types[i], rows, cols, 3, x),
                     y = put_mat(t, types[i], cols, rows, 1, NULL);
            RUN(t, transpose, y, a);
            for (int64_t j = 0; j < rows * cols; j++) want[j % cols * rows + j / cols] = x[j];
            check_same(t, "transpose", get_mat(t, y), want, rows * cols, 0);
            if (rows != cols) REFUSED(t, transpose, a, a);
        }
    }
}

static void row_finite(target *t)
{
    for (int i = 0; i < 3; i++) {
        double *x = normal(t, 33 * 257, 1), zero = 0;
        x[5] = NAN, x[300] = INFINITY, x[33 * 257 - 1] = -INFINITY;
        wane_mat a = put_mat(t, float_types[i], 33, 257, 7, x),
                 n = put_mat(t, WANE_I64, 1, 1, 0, &zero);
        RUN(t, finite, n, a);
        assert_int_equal((int)get_mat(t, n)[0], 3);
        a.rows = 1, a.cols = 5;
        RUN(t, finite, n, a);
        assert_int_equal((int)get_mat(t, n)[0], 0);
        a = put_mat(t, float_types[i], 257, 33, 0, x); /* without gaps, as one row */
        RUN(t, finite, n, a);
        assert_int_equal((int)get_mat(t, n)[0], 3);
    }
}

static const int64_t product_sizes[][3] = {
    {1, 1, 1},     {1, 33, 31},  {2, 257, 1030}, {3, 32, 33},   {5, 31, 257},
    {16, 33, 64},  {17, 31, 32}, {33, 257, 31},  {31, 33, 600}, {130, 135, 520},
    {1, 300, 128}, {7, 64, 96},  {1, 40, 2560},  {4, 17, 1024}, {8, 300, 512}};
enum { PRODUCTS = sizeof product_sizes / sizeof *product_sizes };

static void row_matmul(target *t)
{
    for (int s = 0; s < PRODUCTS; s++) {
        int64_t n = product_sizes[s][0], m = product_sizes[s][1], k = product_sizes[s][2];
        for (int c = 0; c < 9; c++) {
            wane_dtype xt = float_types[c % 3], wt = float_types[c / 3],
                       yt = float_types[(c + s) % 3];
            bool fresh;
            double *x = normal(t, n * k, 1), *w = normal(t, m * k, 0.1),
                   *want = wanted(t, n * m, &fresh);
            int64_t even = k % 32 ? 0 : 8; /* rows that vectors may be read from */
            wane_mat a = put_mat(t, xt, n, k, even ? even : 1, x),
                     b = put_mat(t, wt, m, k, even ? even : 3, w),
                     y = put_mat(t, yt, n, m, 5, NULL);
            RUN(t, matmul, y, a, b);
            if (fresh) product(want, x, w, n, m, k);
            check_near(t, "matmul", get_mat(t, y), want, n * m, type_limit(yt));
            REFUSED(t, matmul, y, b, ((wane_mat){a.data, a.dtype, n, k + 1, k + 1}));
        }
        give_back(t);
    }
}

static const int64_t token_sizes[][2] = {{1, 1}, {33, 31}, {257, 33}, {530, 140}, {1100, 32}};

static void row_gram(target *t)
{
    for (int s = 0; s < 5; s++) {
        int64_t n = token_sizes[s][0], k = token_sizes[s][1];
        for (int i = 0; i < 6; i++) {
            double *x = normal(t, n * k, 1), *c = normal(t, n, 1), *start = normal(t, k * k, 10);
            for (int64_t j = 0; j < n; j++) c[j] = i < 3 ? 1 : j % 3 == 1 ? 0 : fabs(c[j]);
            for (int64_t r = 0; r < k; r++) /* symmetric, as it always is */
                for (int64_t j = 0; j < r; j++) start[r * k + j] = start[j * k + r];
            if (i >= 3 && n > 1) x[k] = NAN; /* of a token with weight 0 */
            wane_mat a = put_mat(t, float_types[i % 3], n, k, 1, x), none = {0};
            wane_mat y = put_mat(t, WANE_F32, k, k, 3, start);
            wane_mat weights = put_mat(t, WANE_F32, n, 1, 0, c);
            RUN(t, gram, y, a, i < 3 ? none : weights);
            bool fresh;
            double *h = wanted(t, k * k, &fresh);
            for (int64_t j = 0; j < k * k && fresh; j++) h[j] = start[j];
            for (int64_t r = 0; r < n && fresh; r++)
                for (int64_t j = 0; j < k && c[r] > 0; j++)
                    for (int64_t l = 0; l < k; l++)
                        h[j * k + l] += c[r] * x[r * k + j] * x[r * k + l];
            double *got = get_mat(t, y);
            check_near(t, "gram", got, h, k * k, 3e-6);
            for (int64_t r = 0; r < k; r++)
                for (int64_t j = 0; j < r; j++) assert_true(got[r * k + j] == got[j * k + r]);
        }
        give_back(t);
    }
}

static void column_row(target *t, bool sum)
{
    for (int s = 0; s < 5; s++) {
        int64_t n = token_sizes[s][0], k = token_sizes[s][1];
        for (int i = 0; i < 6; i++) {
            double *x = normal(t, n * k, 1), *c = normal(t, n, 1), *v = normal(t, k, 1);
            for (int64_t j = 0; j < n; j++) c[j] = j % 3 == 1 ? 0 : fabs(c[j]);
            for (int64_t j = 0; j < k; j++) v[j] = fabs(v[j]);
            if (i >= 3 && n > 1) x[k] = NAN; /* of a token with weight 0 */
            wane_mat a = put_mat(t, float_types[i % 3], n, k, 1, x),
                     y = put_mat(t, WANE_F32, 1, k, 0, v), none = {0};
            wane_mat weights = i >= 3 ? put_mat(t, WANE_F32, n, 1, 0, c) : none;
            if (sum)
                RUN(t, column_sum, y, a, weights);
            else
                RUN(t, column_max, y, a, weights);
            for (int64_t r = 0; r < n; r++)
                for (int64_t j = 0; j < k && (i < 3 || c[r] > 0); j++)
                    v[j] = sum ? v[j] + (i >= 3 ? c[r] : 1) * fabs(x[r * k + j])
                               : fmax(v[j], fabs(x[r * k + j]));
            check_near(t, sum ? "column_sum" : "column_max", get_mat(t, y), v, k, 1e-6);
        }
        give_back(t);
    }
}

static void row_column_max(target *t)
{
    column_row(t, false);
}
static void row_column_sum(target *t)
{
    column_row(t, true);
}

static void row_gram_error(target *t)
{
    static const int64_t sizes[][2] = {{1, 1}, {31, 33}, {33, 257}, {257, 32}, {140, 300}};
    for (int s = 0; s < 5; s++) {
        int64_t m = sizes[s][0], k = sizes[s][1];
        double *delta = normal(t, m * k, 0.01), *h = normal(t, k * k, 1);
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j <= i; j++) h[i * k + j] = h[j * k + i] + 3 * (i == j);
        wane_mat a = put_mat(t, WANE_F32, m, k, 1, delta), b = put_mat(t, WANE_F32, k, k, 3, h);
        wane_mat y = put_mat(t, WANE_F32, 1, 1, 0, NULL);
        double want = 0, flat = 0, *diagonal = host_bytes(t, (size_t)k * 8);
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < k; j++)
                for (int64_t l = 0; l < k; l++)
                    want += delta[i * k + j] * h[j * k + l] * delta[i * k + l];
        RUN(t, gram_error, y, a, b);
        check_near(t, "gram_error", get_mat(t, y), &want, 1, 1e-5);
        for (int64_t j = 0; j < k; j++) diagonal[j] = h[j * k + j];
        for (int64_t i = 0; i < m * k; i++) flat += delta[i] * delta[i] * diagonal[i % k];
        RUN(t, gram_error, y, a, put_mat(t, WANE_F32, 1, k, 0, diagonal));
        check_near(t, "gram_error by the diagonal", get_mat(t, y), &flat, 1, 1e-5);
        give_back(t);
    }
}

/* A step that is recorded runs when it is replayed, each time on what lies there then. */
static void row_record(target *t)
{
    double *x = normal(t, 5 * 96, 1), *w = normal(t, 33 * 96, 1), *want = host_bytes(t, 5 * 33 * 8);
    wane_mat a = put_mat(t, WANE_F32, 5, 96, 8, x), b = put_mat(t, WANE_F32, 33, 96, 8, w),
             y = put_mat(t, WANE_F32, 5, 33, 1, NULL), z = put_mat(t, WANE_F32, 5, 33, 0, NULL);
    wane_recording *r = NULL;
    wane_status s = t->k->record(t->dev);
    if (s == WANE_EUNSUPPORTED) {
        assert_int_equal(t->k->recorded(t->dev, &r), WANE_EUNSUPPORTED);
        assert_null(r);
        t->k->forget(t->dev, NULL);
        return;
    }
    assert_int_equal(s, WANE_OK);
    RUN(t, matmul, y, a, b);
    RUN(t, unary, z, y, WANE_NEG);
    RUN(t, recorded, &r);
    for (int round = 0; round < 3; round++) {
        RUN(t, replay, r);
        product(want, x, w, 5, 33, 96);
        for (int i = 0; i < 5 * 33; i++) want[i] = -want[i];
        check_near(t, "replay", get_mat(t, z), want, 5 * 33, 2e-6);
        for (int i = 0; i < 5 * 96; i++) x[i] = stored(WANE_F32, x[i] * 0.7 + round);
        wane_mat next = put_mat(t, WANE_F32, 5, 96, 8, x);
        RUN(t, copy, a.data, next.data, 5 * 104 * 4 - 32);
    }
    t->k->forget(t->dev, r);
    assert_int_equal(t->k->record(t->dev), WANE_OK); /* a slot that refuses spoils nothing */
    REFUSED(t, matmul, y, b, a);
    RUN(t, recorded, &r);
    RUN(t, replay, r);
    t->k->forget(t->dev, r);
    assert_int_equal(t->k->replay(t->dev, NULL), WANE_EARG);
}

const kernel_row kernel_rows_matrix[] = {
    {"open", row_open},
    {"close", row_close},
    {"info", row_info},
    {"alloc", row_alloc},
    {"free", row_free},
    {"put", row_bytes},
    {"get", row_bytes},
    {"copy", row_bytes},
    {"fill", row_bytes},
    {"sync", row_bytes},
    {"pin", row_pin},
    {"unpin", row_pin},
    {"record", row_record},
    {"recorded", row_record},
    {"replay", row_record},
    {"forget", row_record},
    {"convert", row_convert},
    {"binary", row_binary},
    {"unary", row_unary},
    {"reduce", row_reduce},
    {"transpose", row_transpose},
    {"finite", row_finite},
    {"matmul", row_matmul},
    {"gram", row_gram},
    {"column_max", row_column_max},
    {"column_sum", row_column_sum},
    {"gram_error", row_gram_error},
    {NULL, NULL},
};
