/* test_kernels_transformer.c - what a decoder's forward pass is made of: see test_kernels.c. */
#include "tests/c/kernels.h"

static const int64_t sizes[][2] = {{1, 1},    {31, 33}, {33, 257}, {257, 32},
                                   {2, 1500}, {9, 128}, {3, 1024}, {1, 2592}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void row_rows(target *t) /* embed, take_rows, store */
{
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < 9; i++) {
            int64_t n = sizes[s][0], k = sizes[s][1], pool = n + 7;
            double *x = normal(t, pool * k, 1), *at = host_bytes(t, (size_t)n * 8),
                   *want = host_bytes(t, (size_t)(n * k) * 8);
            double *kept = normal(t, pool * k, 1);
            for (int64_t j = 0; j < n; j++) at[j] = (double)pick(t, pool);
            wane_mat a = put_mat(t, float_types[i % 3], pool, k, gap(k, 3), x),
                     row = put_mat(t, WANE_I32, n, 1, 0, at);
            wane_mat y = put_mat(t, float_types[i / 3], n, k, gap(k, 1), NULL),
                     z = put_mat(t, float_types[i / 3], n, k, 1, NULL);
            for (int64_t j = 0; j < n * k; j++)
                want[j] = stored(float_types[i / 3], x[(int64_t)at[j / k] * k + j % k]);
            RUN(t, take_rows, y, a, row);
            RUN(t, embed, z, row, a);
            check_same(t, "take_rows", get_mat(t, y), want, n * k, 0);
            check_same(t, "embed", get_mat(t, z), want, n * k, 0);
            for (int64_t j = 0; j < n; j++)
                at[j] = (double)((j * 5 + 3) % pool % n); /* may repeat no row */
            for (int64_t j = 0; j < n; j++) at[j] = (double)(pool - 1 - j);
            wane_mat to = put_mat(t, float_types[i % 3], pool, k, gap(k, 1), kept);
            RUN(t, store, to, y, put_mat(t, WANE_I32, n, 1, 0, at));
            for (int64_t j = 0; j < n * k; j++)
                kept[(int64_t)at[j / k] * k + j % k] = stored(float_types[i % 3], want[j]);
            check_same(t, "store", get_mat(t, to), kept, pool * k, 0);
            REFUSED(t, take_rows, y, ((wane_mat){a.data, a.dtype, pool, k + 1, k + 1}), row);
        }
        give_back(t);
    }
    if (strcmp(t->k->name, "cpu"))
        return; /* elsewhere the indices are not read before they are used */
    double bad[2] = {0, 9}, *x = normal(t, 9 * 4, 1);
    wane_mat row = put_mat(t, WANE_I32, 2, 1, 0, bad), a = put_mat(t, WANE_F32, 9, 4, 0, x),
             y = put_mat(t, WANE_F32, 2, 4, 0, NULL);
    REFUSED(t, take_rows, y, a, row);
    REFUSED(t, embed, y, row, a);
    REFUSED(t, store, a, y, row);
}

static void row_rmsnorm(target *t)
{
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < 9; i++) {
            int64_t n = sizes[s][0], k = sizes[s][1];
            wane_dtype type = float_types[i % 3];
            double *x = normal(t, n * k, 3), *gain = normal(t, k, 1),
                   *want = host_bytes(t, (size_t)(n * k) * 8);
            wane_mat a = put_mat(t, type, n, k, gap(k, 3), x),
                     g = put_mat(t, float_types[i / 3], 1, k, 0, gain);
            wane_mat y = put_mat(t, type, n, k, gap(k, 1), NULL);
            for (int64_t r = 0; r < n; r++) {
                double sum = 0;
                for (int64_t j = 0; j < k; j++) sum += x[r * k + j] * x[r * k + j];
                for (int64_t j = 0; j < k; j++)
                    want[r * k + j] =
                        x[r * k + j] / sqrt(sum / (double)k + (double)1e-5f) * gain[j];
            }
            RUN(t, rmsnorm, y, a, g, 1e-5f);
            check_near(t, "rmsnorm", get_mat(t, y), want, n * k, type_limit(type));
            RUN(t, rmsnorm, a, a, g, 1e-5f);
            check_same(t, "rmsnorm in place", get_mat(t, a), get_mat(t, y), n * k, 0);
        }
        give_back(t);
    }
}

static void row_rope(target *t)
{
    static const int64_t shapes[][3] = {
        {1, 1, 2}, {33, 3, 62}, {31, 2, 64}, {257, 1, 128}, {5, 9, 256}};
    for (int s = 0; s < 5; s++) {
        for (int i = 0; i < 3; i++) {
            int64_t n = shapes[s][0], h = shapes[s][1], d = shapes[s][2], half = d / 2;
            double *x = normal(t, n * h * d, 1), *at = host_bytes(t, (size_t)n * 8),
                   *f = host_bytes(t, (size_t)half * 8);
            double *want = host_bytes(t, (size_t)(n * h * d) * 8);
            for (int64_t j = 0; j < n; j++) at[j] = (double)pick(t, 100000);
            for (int64_t j = 0; j < half; j++) f[j] = pow(10000, -2.0 * (double)j / (double)d);
            wane_mat a = put_mat(t, float_types[i], n, h * d, gap(d, 3), x),
                     b = put_mat(t, WANE_F32, 1, half, 0, f);
            wane_mat position = put_mat(t, WANE_I32, n, 1, 0, at);
            for (int64_t j = 0; j < n * h * d; j++) {
                int64_t c = j % d, first = j - c + c % half;
                float angle = (float)at[j / (h * d)] * (float)f[c % half]; /* a float32 product */
                double u = x[first], v = x[first + half], sine = 1.25 * sin(angle),
                       cosine = 1.25 * cos(angle);
                want[j] = c < half ? u * cosine - v * sine : v * cosine + u * sine;
            }
            RUN(t, rope, a, position, b, 1.25f);
            check_near(t, "rope", get_mat(t, a), want, n * h * d, type_limit(float_types[i]));
            a.cols += 1;
            REFUSED(t, rope, a, position, b, 1);
        }
        give_back(t);
    }
}

/* heads: the norm, the rotation and the pools in one. */
static void row_heads(target *t)
{
    static const struct {
        int64_t n, heads, kv_heads, d;
        wane_dtype type, pool, turned;
        bool gains;
    } all[] = {{1, 1, 1, 2, WANE_F32, WANE_F32, WANE_F32, true},
               {1, 8, 2, 128, WANE_F32, WANE_BF16, WANE_BF16, true},
               {33, 4, 4, 64, WANE_F16, WANE_F32, WANE_F16, false},
               {5, 3, 1, 62, WANE_BF16, WANE_F16, WANE_F32, true},
               {31, 2, 1, 256, WANE_F32, WANE_BF16, WANE_BF16, true},
               {3, 2, 1, 512, WANE_BF16, WANE_BF16, WANE_BF16, true}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int64_t n = all[i].n, d = all[i].d, half = d / 2, pool = n + 9;
        int64_t count[3] = {all[i].heads, all[i].kv_heads, all[i].kv_heads};
        double *f = host_bytes(t, (size_t)half * 8), *at = host_bytes(t, (size_t)n * 8),
               *row = host_bytes(t, (size_t)n * 8), *x[3], *want[3], *got[3];
        wane_mat in[3], out[3];
        wane_heads h = {0};
        for (int64_t j = 0; j < half; j++) f[j] = pow(10000, -2.0 * (double)j / (double)d);
        for (int64_t j = 0; j < n; j++)
            at[j] = (double)pick(t, 3000), row[j] = (double)(pool - 1 - j);
        double *gain[2] = {normal(t, d, 1), normal(t, d, 1)};
        if (all[i].gains) h.q_gain = put_mat(t, WANE_BF16, 1, d, 0, gain[0]);
        if (all[i].gains) h.k_gain = put_mat(t, WANE_F32, 1, d, 0, gain[1]);
        h.eps = 1e-6f;
        h.position = put_mat(t, WANE_I32, n, 1, 0, at);
        h.frequency = put_mat(t, WANE_F32, 1, half, 0, f);
        h.row = put_mat(t, WANE_I32, n, 1, 0, row);
        for (int j = 0; j < 3; j++) {
            int64_t cols = count[j] * d;
            x[j] = normal(t, n * cols, 2);
            in[j] = put_mat(t, all[i].type, n, cols, 0, x[j]);
            want[j] = j ? normal(t, pool * cols, 1) : host_bytes(t, (size_t)(n * cols) * 8);
            out[j] = j ? put_mat(t, all[i].pool, pool, cols, gap(cols, 3), want[j])
                     : all[i].turned == all[i].type
                         ? in[0] /* in place */
                         : put_mat(t, all[i].turned, n, cols, gap(cols, 1), NULL);
            for (int64_t r = 0; r < n; r++) {
                for (int64_t c = 0; c < count[j]; c++) {
                    const double *from = x[j] + r * cols + c * d;
                    double *to = want[j] + (j ? (int64_t)row[r] : r) * cols + c * d, sum = 0;
                    for (int64_t l = 0; l < d; l++) sum += from[l] * from[l];
                    bool normed = all[i].gains && j < 2;
                    double scale = normed ? 1 / sqrt(sum / (double)d + (double)1e-6f) : 1;
                    for (int64_t l = 0; l < half; l++) {
                        float angle = j < 2 ? (float)at[r] * (float)f[l] : 0;
                        double u = from[l] * scale * (normed ? gain[j][l] : 1);
                        double v = from[l + half] * scale * (normed ? gain[j][l + half] : 1);
                        to[l] = u * cos(angle) - v * sin(angle);
                        to[l + half] = v * cos(angle) + u * sin(angle);
                    }
                }
            }
        }
        h.q = in[0], h.k = in[1], h.v = in[2];
        h.turned = out[0], h.keys = out[1], h.values = out[2];
        assert_int_equal(t->k->heads(t->dev, &h), WANE_OK);
        double limit = 3 * fmax(fmax(type_limit(all[i].type), type_limit(all[i].pool)),
                                type_limit(all[i].turned));
        for (int j = 0; j < 3; j++) {
            got[j] = get_mat(t, out[j]);
            check_near(t, "heads", got[j], want[j], out[j].rows * out[j].cols, limit);
        }
        h.v.cols++;
        assert_int_equal(t->k->heads(t->dev, &h), WANE_EARG);
        h.v.cols--, h.turned.rows--;
        assert_int_equal(t->k->heads(t->dev, &h), WANE_EARG);
        give_back(t);
    }
}

typedef struct {
    int heads, kv_heads, head_dim, pool, n_runs;
    wane_run runs[4];
    wane_span spans[6];
} attend_case;

static const attend_case attend_cases[] = {
    {1, 1, 1, 1, 1, {{0, 1, 0, 0, 0}}, {{0, 0}}},
    {2, 1, 32, 300, 1, {{0, 257, 13, 0, 0}}, {{0, 0}}}, /* a prompt */
    {4, 2, 64, 400, 2, {{1, 1, 300, 0, 1}, {0, 1, 399, 1, 1}}, {{0, 257}, {257, 31}}}, /* two tokens
                                                                                        */
    {8, 1, 31, 200, 1, {{0, 33, 100, 0, 3}}, {{0, 33}, {50, 0}, {60, 31}}}, /* a trie, one span
                                                                               empty */
    {3,
     3,
     128,
     700,
     3,
     {{0, 1, 600, 0, 2}, {1, 5, 610, 1, 1}, {6, 33, 620, 3, 0}},
     {{0, 500}, {510, 33}, {0, 1}}},
    {16, 2, 256, 260, 2, {{0, 1, 257, 0, 1}, {1, 2, 258, 0, 1}}, {{0, 257}}},
    {2, 2, 32, 64, 2, {{0, 0, 0, 0, 0}, {0, 31, 33, 0, 1}}, {{1, 32}}}, /* a run of none */
    /* one token each, after much and after nothing */
    {8,
     2,
     128,
     1700,
     3,
     {{0, 1, 1690, 0, 3}, {2, 1, 1691, 2, 1}, {1, 1, 1692, 0, 0}},
     {{0, 600}, {700, 801}, {40, 17}}},
    /* a few tokens of each of two texts: more rows than one tile has */
    {6, 2, 64, 600, 2, {{0, 7, 500, 0, 1}, {7, 3, 590, 1, 1}}, {{30, 333}, {0, 64}}},
    /* prompts: one after a common start, one alone, one of none */
    {4, 1, 128, 500, 3, {{0, 70, 100, 0, 1}, {70, 150, 300, 0, 0}, {220, 0, 0, 0, 0}}, {{3, 65}}},
    {3, 1, 64, 400, 1, {{0, 130, 200, 0, 2}}, {{0, 64}, {100, 1}}},
};

/* One query row and head, over the rows that it sees. */
static void attend_one(const attend_case *c, const wane_run *run, int i, int head, const double *q,
                       const double *keys, const double *values, double *want, double *score,
                       int *seen)
{
    int n = 0, d = c->head_dim, kv = head / (c->heads / c->kv_heads);
    double top = -INFINITY, sum = 0;
    for (int s = run->span; s < run->span + run->n_spans; s++)
        for (int j = 0; j < c->spans[s].count; j++) seen[n++] = c->spans[s].row + j;
    for (int j = 0; j <= i; j++) seen[n++] = run->row + j;
    for (int j = 0; j < n; j++) {
        score[j] = 0;
        for (int l = 0; l < d; l++)
            score[j] += 0.3 * q[head * d + l] * keys[(seen[j] * c->kv_heads + kv) * d + l];
        top = fmax(top, score[j]);
    }
    for (int j = 0; j < n; j++) sum += score[j] = exp(score[j] - top);
    for (int l = 0; l < d; l++) {
        want[head * d + l] = 0;
        for (int j = 0; j < n; j++)
            want[head * d + l] += score[j] / sum * values[(seen[j] * c->kv_heads + kv) * d + l];
    }
}

static void row_attend(target *t)
{
    for (size_t s = 0; s < sizeof attend_cases / sizeof *attend_cases * 3; s++) {
        const attend_case *c = attend_cases + s / 3;
        wane_dtype type = float_types[s % 3];
        int64_t n = 0, own = (int64_t)c->heads * c->head_dim,
                shared = (int64_t)c->kv_heads * c->head_dim;
        for (int i = 0; i < c->n_runs; i++) n += c->runs[i].count;
        double *q = normal(t, n * own, 1), *keys = normal(t, c->pool * shared, 1),
               *values = normal(t, c->pool * shared, 1);
        bool fresh;
        double *want = wanted(t, n * own, &fresh), *score = host_bytes(t, (size_t)c->pool * 8);
        int *seen = host_bytes(t, (size_t)c->pool * sizeof(int));
        int64_t even = c->head_dim % 64 ? 0 : 8; /* rows that vectors may be read from */
        wane_mat a = put_mat(t, type, n, own, even ? even : 3, q),
                 b = put_mat(t, type, c->pool, shared, even ? even : 1, keys);
        wane_mat v = put_mat(t, type, c->pool, shared, even ? 2 * even : 5, values),
                 y = put_mat(t, type, n, own, even && c->heads != 6 ? 2 : 1, NULL);
        wane_attention how = {put_bytes(t, c->runs, sizeof c->runs),
                              put_bytes(t, c->spans, sizeof c->spans),
                              c->n_runs,
                              c->heads,
                              c->kv_heads,
                              c->head_dim,
                              0.3f};
        RUN(t, attend, y, a, b, v, &how);
        for (int r = 0; r < c->n_runs && fresh; r++)
            for (int i = 0; i < c->runs[r].count; i++)
                for (int head = 0; head < c->heads; head++)
                    attend_one(c, c->runs + r, i, head, q + (c->runs[r].query + i) * own, keys,
                               values, want + (c->runs[r].query + i) * own, score, seen);
        check_near(t, "attend", get_mat(t, y), want, n * own, 2 * type_limit(type));
        how.head_dim++;
        REFUSED(t, attend, y, a, b, v, &how);
        give_back(t);
    }
}

static void row_silu_mul(target *t)
{
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < 3; i++) {
            int64_t n = sizes[s][0] * sizes[s][1];
            double *gate = normal(t, n, 8), *up = normal(t, n, 1);
            if (n > 100) gate[3] = -200, gate[4] = 200, up[4] = 0.25;
            int64_t cols = sizes[s][1];
            wane_mat a = put_mat(t, float_types[i], sizes[s][0], cols, gap(cols, 3), gate);
            wane_mat b = put_mat(t, float_types[i], sizes[s][0], cols, gap(cols, 1), up);
            for (int64_t j = 0; j < n; j++) gate[j] = gate[j] / (1 + exp(-gate[j])) * up[j];
            RUN(t, silu_mul, a, a, b);
            check_near(t, "silu_mul", get_mat(t, a), gate, n, type_limit(float_types[i]));
        }
    }
}

static void row_argmax(target *t)
{
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < 3; i++) {
            int64_t n = sizes[s][0], v = sizes[s][1];
            double *x = normal(t, n * v, 1), *want = host_bytes(t, (size_t)n * 8);
            if (n > 4) {
                for (int64_t j = 0; j < v; j++) x[j] = -INFINITY, x[2 * v + j] = -7;
                x[3 * v + v / 2] = NAN;
                x[4 * v + v - 1] = x[4 * v + 1] = 100; /* equals: the lowest */
            }
            wane_mat a = put_mat(t, float_types[i], n, v, gap(v, 3), x),
                     y = put_mat(t, WANE_I32, n, 1, 0, NULL);
            for (int64_t r = 0; r < n; r++)
                for (int64_t j = v - 1; j >= 0; j--)
                    if (want[r] >= 0)
                        want[r] = x[r * v + j] != x[r * v + j] ? -1
                                  : j == v - 1 || x[r * v + j] >= x[r * v + (int64_t)want[r]]
                                      ? (double)j
                                      : want[r];
            RUN(t, argmax, y, a);
            check_same(t, "argmax", get_mat(t, y), want, n, 0);
        }
    }
    give_back(t);
    double *x = normal(t, 3 * 70000, 1), want[3] = {69999, -1, 20000}; /* rows for several blocks */
    x[69999] = x[70000 * 2 + 20000] = x[70000 * 2 + 60000] = 50, x[70000 + 40000] = NAN;
    wane_mat a = put_mat(t, WANE_BF16, 3, 70000, 0, x), y = put_mat(t, WANE_I32, 3, 1, 0, NULL);
    for (int i = 0; i < 2; i++) {
        RUN(t, argmax, y, a);
        check_same(t, "argmax of long rows", get_mat(t, y), want, 3, 0);
    }
}

/* log of the sum of exp of one row */
static double log_sum(const double *x, int64_t v)
{
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < v; j++) top = fmax(top, x[j]);
    for (int64_t j = 0; j < v; j++) sum += exp(x[j] - top);
    return top + log(sum);
}

static void row_log_prob(target *t)
{
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < 3; i++) {
            int64_t n = sizes[s][0], v = sizes[s][1];
            double *x = normal(t, n * v, 4), *id = host_bytes(t, (size_t)n * 8),
                   *want = host_bytes(t, (size_t)n * 8);
            for (int64_t r = 0; r < n; r++) id[r] = (double)pick(t, v);
            wane_mat a = put_mat(t, float_types[i], n, v, gap(v, 3), x),
                     ids = put_mat(t, WANE_I32, n, 1, 0, id);
            wane_mat y = put_mat(t, WANE_F32, n, 1, 0, NULL);
            for (int64_t r = 0; r < n; r++)
                want[r] = x[r * v + (int64_t)id[r]] - log_sum(x + r * v, v);
            RUN(t, log_prob, y, a, ids);
            check_near(t, "log_prob", get_mat(t, y), want, n, 1e-6);
            ids.rows++;
            REFUSED(t, log_prob, y, a, ids);
        }
    }
}

static void row_divergence(target *t)
{
    for (int s = 0; s < SIZES; s++) {
        for (int i = 0; i < 3; i++) {
            int64_t n = sizes[s][0], v = sizes[s][1];
            double *p = normal(t, n * v, 3), *q = normal(t, n * v, 0.1),
                   *want = host_bytes(t, (size_t)n * 8);
            for (int64_t j = 0; j < n * v; j++) q[j] += p[j];
            if (v > 30) p[1] = -INFINITY;
            wane_mat a = put_mat(t, float_types[i], n, v, gap(v, 3), p),
                     b = put_mat(t, float_types[(i + 1) % 3], n, v, gap(v, 1), q);
            wane_mat y = put_mat(t, WANE_F32, n, 1, 0, NULL);
            for (int64_t r = 0; r < n; r++) {
                double lp = log_sum(p + r * v, v), lq = log_sum(q + r * v, v);
                for (int64_t j = r * v; j < (r + 1) * v; j++)
                    if (p[j] > -INFINITY) want[r] += exp(p[j] - lp) * (p[j] - lp - q[j] + lq);
            }
            RUN(t, divergence, y, a, b);
            check_near(t, "divergence", get_mat(t, y), want, n, 1e-5);
            RUN(t, divergence, y, a, a);
            const double *same = get_mat(t, y);
            for (int64_t r = 0; r < n; r++) assert_true(fabs(same[r]) < 1e-6);
        }
        give_back(t);
    }
}

/* Texts that grow in steps, against what the host would have written down: rows that follow each
 * other and rows that do not, stop ids, NaN, texts that stand still. */
static void row_advance(target *t)
{
    enum { TEXTS = 40, STEPS = 7, SPANS = 4 + STEPS, MOST = TEXTS * SPANS };
    static const double stops[2] = {50, 7};
    for (int with_stops = 0; with_stops < 2; with_stops++) {
        double *v[5], *rows = host_bytes(t, TEXTS * STEPS * 8), *stop = host_bytes(t, sizeof stops);
        wane_run run[TEXTS], *got_run = host_bytes(t, sizeof run);
        wane_span span[MOST] = {{0, 0}}, *got_span = host_bytes(t, sizeof span);
        for (int k = 0; k < 5; k++) v[k] = host_bytes(t, TEXTS * 8); /* found .. left */
        double *found = v[0], *ids = v[1], *position = v[2], *row = v[3], *left = v[4];
        double *said = host_bytes(t, TEXTS * STEPS * 8);
        memcpy(stop, stops, sizeof stops);
        for (int i = 0; i < TEXTS; i++) {
            int spans = (int)pick(t, 4), at = 1000 * i;
            ids[i] = i, position[i] = (double)pick(t, 500), left[i] = (double)pick(t, STEPS + 1);
            for (int k = 0; k < spans; k++, at += 90)
                span[i * SPANS + k] = (wane_span){at, 1 + (int)pick(t, 80)};
            row[i] = spans && pick(t, 2) ? at - 90 + span[i * SPANS + spans - 1].count : at + 1;
            run[i] = (wane_run){i, 1, (int32_t)row[i], i * SPANS, spans};
            for (int l = STEPS - 1, r = (int)row[i]; l >= 0; l--)
                rows[i * STEPS + l] = r += 1 + (pick(t, 3) == 0);
        }
        wane_growth g = {.runs = put_bytes(t, run, sizeof run),
                         .spans = put_bytes(t, span, sizeof span)};
        wane_mat *mats[5] = {&g.found, &g.ids, &g.position, &g.row, &g.left};
        for (int k = 0; k < 5; k++) *mats[k] = put_mat(t, WANE_I32, TEXTS, 1, k % 2, v[k]);
        g.said = put_mat(t, WANE_I32, TEXTS, STEPS, 1, said);
        g.rows = put_mat(t, WANE_I32, TEXTS, STEPS, 0, rows);
        if (with_stops) g.stop = put_mat(t, WANE_I32, 1, 2, 0, stop);
        for (int step = 0; step < STEPS; step++) {
            for (int i = 0; i < TEXTS; i++) found[i] = (double)pick(t, 60) - 1;
            g.found = put_mat(t, WANE_I32, TEXTS, 1, 2, found);
            RUN(t, advance, &g);
            for (int i = 0; i < TEXTS; i++) {
                if (left[i] <= 0) continue;
                said[i * STEPS + (int)--left[i]] = found[i];
                if (found[i] < 0 || (with_stops && (found[i] == 50 || found[i] == 7))) left[i] = 0;
                if (left[i] == 0) continue;
                wane_span *end = &span[i * SPANS + run[i].n_spans];
                if (run[i].n_spans && end[-1].row + end[-1].count == (int)row[i])
                    end[-1].count++;
                else
                    *end = (wane_span){(int)row[i], 1}, run[i].n_spans++;
                ids[i] = found[i], position[i]++;
                row[i] = rows[i * STEPS + (int)left[i] - 1];
                run[i].row = (int32_t)row[i];
            }
        }
        for (int k = 1; k < 5; k++) check_same(t, "advance", get_mat(t, *mats[k]), v[k], TEXTS, 0);
        check_same(t, "advance: said", get_mat(t, g.said), said, TEXTS * STEPS, 0);
        assert_int_equal(t->k->get(t->dev, got_run, g.runs, sizeof run), WANE_OK);
        assert_int_equal(t->k->get(t->dev, got_span, g.spans, sizeof span), WANE_OK);
        assert_memory_equal(got_run, run, sizeof run);
        assert_memory_equal(got_span, span, sizeof span);
        g.left.rows--;
        REFUSED(t, advance, &g);
        g.left.rows++, g.rows.cols--;
        REFUSED(t, advance, &g);
        give_back(t);
    }
}

const kernel_row kernel_rows_transformer[] = {
    {"embed", row_rows},
    {"rmsnorm", row_rmsnorm},
    {"rope", row_rope},
    {"store", row_rows},
    {"heads", row_heads},
    {"attend", row_attend},
    {"silu_mul", row_silu_mul},
    {"take_rows", row_rows},
    {"argmax", row_argmax},
    {"log_prob", row_log_prob},
    {"divergence", row_divergence},
    {"advance", row_advance},
    {NULL, NULL},
};
