/* bench_kernels.c - how fast the slots of a backend are, at the shapes of Qwen3-4B and Qwen3-1.7B.
 *
 *   WANE_TEST_KERNELS=build/libwane_cuda.so bench_kernels [GROUP...]
 *
 * prints Markdown tables, one a group (limits, matmul, qmatmul, attend, small, quantize), each
 * line with what it reached of the limit that binds it: reading memory, copying it, or a large
 * bf16 product, all measured in the same run. Inputs are random and rotate through more memory
 * than the second-level cache holds. A line's calls are recorded and replayed as one where the
 * backend can do that: medians of 7 replays, divided by the calls. Not part of the tests. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"

enum { REPEATS = 7, COPIES = 64, OWNED = 4096, PATTERN = 16 << 20 };
static const double WARM_SECONDS = 0.02;
static const size_t beyond_cache = (size_t)256 << 20, scratch = (size_t)1 << 30;

static const wane_kernels *k;
static wane_dev *dev;
static void *owned[OWNED], *normals[2],
    *noise; /* random F32 and BF16, random bits: PATTERN bytes */
static int n_owned;
static double read_limit, copy_limit, product_limit; /* bytes/s, bytes/s, flop/s */

static void must(wane_status s, const char *what)
{
    if (!s) return;
    fprintf(stderr, "bench_kernels: %s failed: status %d\n", what, (int)s);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *take(size_t bytes, const void *pattern)
{
    void *p = NULL;
    must(n_owned < OWNED ? k->alloc(dev, bytes, &p) : WANE_EOOM, "alloc");
    owned[n_owned++] = p;
    for (size_t at = 0; pattern && at < bytes; at += PATTERN)
        must(k->copy(dev, (char *)p + at, pattern, bytes - at < PATTERN ? bytes - at : PATTERN),
             "copy");
    return p;
}

static void give_back(void)
{
    must(k->sync(dev), "sync");
    while (n_owned) k->free(dev, owned[--n_owned]);
}

static void *uploaded(const void *host, size_t bytes)
{
    void *p = take(bytes, NULL);
    must(k->put(dev, p, host, bytes), "put");
    return p;
}

static wane_mat mat(wane_dtype t, int64_t rows, int64_t cols)
{
    const void *from = t == WANE_F32 ? normals[0] : t == WANE_BF16 ? normals[1] : noise;
    size_t bytes = (size_t)(rows * cols) * wane_dtype_bytes(t);
    return (wane_mat){take(bytes, from), t, rows, cols, cols};
}

static wane_mat indices(int64_t n, int64_t first, int64_t step)
{
    int32_t *host = malloc((size_t)n * sizeof *host);
    if (!host) must(WANE_EOOM, "malloc");
    for (int64_t i = 0; i < n; i++) host[i] = (int32_t)(first + i * step);
    wane_mat m = {uploaded(host, (size_t)n * sizeof *host), WANE_I32, n, 1, 1};
    free(host);
    return m;
}

static void make_patterns(void)
{
    float *f = malloc(PATTERN);
    uint16_t *h = malloc(PATTERN);
    uint64_t state = 1;
    if (!f || !h) must(WANE_EOOM, "malloc");
    for (size_t i = 0; i < PATTERN / 4; i++) {
        float sum = -6;
        for (int j = 0; j < 12; j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) * 0x1p-24f;
        }
        f[i] = sum * 0.02f;
    }
    for (size_t i = 0; i < PATTERN / 2; i++) {
        uint32_t u;
        memcpy(&u, &f[(i * 7 + i / (PATTERN / 4)) % (PATTERN / 4)], 4);
        h[i] = (uint16_t)(u >> 16);
    }
    normals[0] = uploaded(f, PATTERN);
    normals[1] = uploaded(h, PATTERN);
    for (size_t i = 0; i < PATTERN / 4; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t u = (uint32_t)(state >> 32);
        memcpy(f + i, &u, 4);
    }
    noise = uploaded(f, PATTERN);
    n_owned = 0; /* these stay */
    free(f);
    free(h);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef wane_status (*call)(void *context, int i);

/* Seconds of one of `calls` calls. */
static double timed(call f, void *context, int calls, bool recordable)
{
    double t[REPEATS];
    wane_recording *r = NULL;
    must(f(context, 0), "a slot");
    must(k->sync(dev), "sync");
    if (recordable && k->record(dev) == WANE_OK) {
        for (int i = 0; i < calls; i++) must(f(context, i), "a recorded slot");
        must(k->recorded(dev, &r), "recorded");
        must(k->replay(dev, r), "replay");
        must(k->sync(dev), "sync");
    }
    double begin = now();
    while (r && now() - begin < WARM_SECONDS) { /* until the clocks are up */
        must(k->replay(dev, r), "replay");
        must(k->sync(dev), "sync");
    }
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now();
        if (r) must(k->replay(dev, r), "replay");
        for (int i = 0; i < calls && !r; i++) must(f(context, i), "a slot");
        must(k->sync(dev), "sync");
        t[repeat] = (now() - start) / calls;
    }
    k->forget(dev, r);
    qsort(t, REPEATS, sizeof *t, ascending);
    return t[REPEATS / 2];
}

/* One line: what it read and wrote, or computed, against its limit. */
static void line(const char *what, double seconds, double bytes, double flops)
{
    double rate = bytes ? bytes / seconds : flops / seconds,
           limit = bytes ? read_limit : product_limit;
    printf("| %s | %.1f | %.0f %s | %.0f %% |\n", what, seconds * 1e6,
           bytes ? rate / 1e9 : rate / 1e12, bytes ? "GB/s" : "TFLOP/s",
           limit ? 100 * rate / limit : 0);
    fflush(stdout);
}

static void head(const char *title)
{
    printf("\n| %s | us | rate | of the limit |\n|---|---|---|---|\n", title);
}

/* A context for every slot here: calls rotate through `copies` of what they read. */
typedef struct {
    int copies;
    wane_mat y[COPIES], x, w[COPIES], c, order;
    wane_qmat q[COPIES];
    wane_products p[COPIES];
    wane_heads heads;
    wane_attention a[COPIES];
    wane_mat keys[COPIES], values[COPIES];
    wane_hqq_options hqq;
} job;

static int copies_of(size_t bytes)
{
    size_t n = beyond_cache / (bytes + 1) + 1;
    return n > COPIES ? COPIES : (int)n;
}

static wane_status call_matmul(void *at, int i)
{
    job *j = at;
    return k->matmul(dev, j->y[0], j->x, j->w[i % j->copies]);
}

static wane_status call_qmatmul(void *at, int i)
{
    job *j = at;
    return k->qmatmul(dev, j->y[0], j->x, j->q[i % j->copies]);
}

static wane_status call_products(void *at, int i)
{
    job *j = at;
    return k->products(dev, &j->p[i % j->copies]);
}

static wane_status call_finite(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->finite(dev, j->y[0], j->x);
}

static wane_status call_copy(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->copy(dev, j->y[0].data, j->x.data, (size_t)(j->x.rows * j->x.cols) * 4);
}

static void bench_limits(void)
{
    job j = {.copies = 1};
    int64_t rows = 1 << 15, cols = 1 << 14; /* 2 GiB */
    j.x = mat(WANE_F32, rows, cols);
    j.y[0] = mat(WANE_F32, rows, cols);
    copy_limit = 2.0 * 4 * (double)(rows * cols) / timed(call_copy, &j, 4, true);
    j.y[0] = (wane_mat){j.y[0].data, WANE_I64, 1, 1, 1};
    read_limit = 4.0 * (double)(rows * cols) / timed(call_finite, &j, 4, true);
    give_back();
    int64_t n = 8192;
    j = (job){.copies = 1, .x = mat(WANE_BF16, n, n), .w = {mat(WANE_BF16, n, n)}};
    j.y[0] = mat(WANE_BF16, n, n);
    product_limit = 2.0 * (double)(n * n * n) / timed(call_matmul, &j, 8, true);
    give_back();
    wane_dev_info info;
    k->info(dev, &info);
    printf("%s, backend %s: copies %.0f GB/s (read and written), reads %.0f GB/s, multiplies bf16 "
           "8192^3 at %.0f TFLOP/s\n",
           info.name, k->name, copy_limit / 1e9, read_limit / 1e9, product_limit / 1e12);
}

static const int64_t shapes[][2] = {{4096, 2560}, {1024, 2560}, {2560, 4096},  {9728, 2560},
                                    {2560, 9728}, {6144, 2048}, {151936, 2560}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void bench_matmul_one(int64_t n, int64_t m, int64_t c, wane_dtype xt, wane_dtype wt)
{
    static const char *const types[] = {"f32", "f16", "bf16"};
    job j = {0};
    char what[128];
    size_t bytes = (size_t)(m * c) * wane_dtype_bytes(wt);
    j.copies = copies_of(bytes);
    j.x = mat(xt, n, c);
    j.y[0] = mat(xt, n, m);
    for (int i = 0; i < j.copies; i++) j.w[i] = mat(wt, m, c);
    double t = timed(call_matmul, &j, j.copies < 32 ? 32 : j.copies, true);
    snprintf(what, sizeof what, "matmul %s x %s, %dx%d, n %d", types[xt], types[wt], (int)m, (int)c,
             (int)n);
    if (n <= 64)
        line(what, t, (double)bytes, 0);
    else
        line(what, t, 0, 2.0 * (double)(n * m * c));
    give_back();
}

static wane_qmat grid(int64_t m, int64_t c, int64_t g, int bits, wane_dtype zero, int act_bits)
{
    wane_qmat q = {mat(WANE_I32, m, c * bits / 32), {0}, {0}, c, g, bits, act_bits};
    q.scale = mat(WANE_BF16, m, c / g);
    if (zero != WANE_DTYPES) q.zero = mat(zero, m, c / g);
    return q;
}

static double grid_bytes(wane_qmat q)
{
    double groups = (double)(q.scale.rows * q.scale.cols);
    return (double)(q.words.rows * q.words.cols) * 4 + groups * 2 +
           (q.zero.data ? groups * (double)wane_dtype_bytes(q.zero.dtype) : 0);
}

static void bench_qmatmul_one(int64_t n, int64_t m, int64_t c, int64_t g, int bits, wane_dtype zero,
                              int act_bits)
{
    job j = {0};
    char what[128];
    j.copies = copies_of((size_t)(m * c * bits / 8));
    j.x = mat(WANE_BF16, n, c);
    j.y[0] = mat(WANE_BF16, n, m);
    for (int i = 0; i < j.copies; i++) j.q[i] = grid(m, c, g, bits, zero, act_bits);
    double t = timed(call_qmatmul, &j, j.copies < 32 ? 32 : j.copies, true);
    snprintf(what, sizeof what, "qmatmul W%dA%d g%d%s, %dx%d, n %d", bits, act_bits ? act_bits : 16,
             (int)g, zero == WANE_F32 ? " f32 zero" : "", (int)m, (int)c, (int)n);
    if (n <= 64)
        line(what, t, grid_bytes(j.q[0]), 0);
    else
        line(what, t, 0, 2.0 * (double)(n * m * c));
    give_back();
}

/* What one layer of a model does with a token, product by product: qkv, o, gate and up, down. */
static void bench_layer(const char *name, int64_t hidden, int64_t heads, int64_t kv, int64_t mlp,
                        int64_t n, bool codes)
{
    static const char *const steps[] = {"q, k, v after the norm", "o and residual",
                                        "gate and up after the norm", "down and residual"};
    const struct {
        int64_t k, m[3];
        int parts;
        bool gain, gated, residual;
    } shape[] = {{hidden, {heads * 128, kv * 128, kv * 128}, 3, true, false, false},
                 {heads * 128, {hidden, 0, 0}, 1, false, false, true},
                 {hidden, {mlp, mlp, 0}, 2, true, true, false},
                 {mlp, {hidden, 0, 0}, 1, false, false, true}};
    double total = 0, all = 0;
    for (int s = 0; s < 4; s++) {
        job *j = calloc(1, sizeof *j);
        if (!j) must(WANE_EOOM, "malloc");
        char what[128];
        double bytes = 0;
        int64_t outputs = shape[s].m[0] + shape[s].m[1] + shape[s].m[2];
        j->copies = copies_of((size_t)(outputs * shape[s].k) / (codes ? 2 : 1) * (codes ? 1 : 2));
        wane_mat x = mat(WANE_BF16, n, shape[s].k), gain = mat(WANE_BF16, 1, shape[s].k);
        wane_mat room = mat(WANE_BF16, n, shape[s].k + outputs);
        wane_mat y[3] = {mat(WANE_BF16, n, shape[s].m[0]), {0}, {0}};
        for (int i = 1; i < shape[s].parts; i++) y[i] = mat(WANE_BF16, n, shape[s].m[i]);
        for (int c = 0; c < j->copies; c++) {
            wane_products *p = &j->p[c];
            p->x = x, p->eps = 1e-6f, p->parts = shape[s].parts, p->gated = shape[s].gated;
            if (shape[s].gain) p->gain = gain;
            p->room = room;
            if (shape[s].residual) p->residual = y[0];
            for (int i = 0; i < p->parts; i++) {
                p->part[i].y = y[i];
                if (codes)
                    p->part[i].q = grid(shape[s].m[i], shape[s].k, 128, 4, WANE_U8, 0);
                else
                    p->part[i].w = mat(WANE_BF16, shape[s].m[i], shape[s].k);
                if (!c)
                    bytes += codes ? grid_bytes(p->part[i].q)
                                   : 2.0 * (double)(shape[s].m[i] * shape[s].k);
            }
        }
        double t = timed(call_products, j, j->copies < 64 ? 64 : j->copies, true);
        snprintf(what, sizeof what, "%s %s: %s, n %d", name, codes ? "W4 g128" : "bf16", steps[s],
                 (int)n);
        line(what, t, bytes, 0);
        total += t, all += bytes;
        give_back();
        free(j);
    }
    char what[128];
    snprintf(what, sizeof what, "%s %s: a layer's products, n %d", name, codes ? "W4 g128" : "bf16",
             (int)n);
    line(what, total, all, 0);
}

static void bench_matmul(void)
{
    static const int64_t few[] = {1, 4, 8, 16, 64};
    head("matmul");
    for (int s = 0; s < SHAPES; s++)
        bench_matmul_one(1, shapes[s][0], shapes[s][1], WANE_BF16, WANE_BF16);
    for (int i = 1; i < 5; i++) bench_matmul_one(few[i], 9728, 2560, WANE_BF16, WANE_BF16);
    bench_matmul_one(64, 151936, 2560, WANE_BF16, WANE_BF16);
    bench_matmul_one(1, 9728, 2560, WANE_F32, WANE_BF16);
    bench_matmul_one(1, 9728, 2560, WANE_BF16, WANE_F32);
    bench_matmul_one(32768, 9728, 2560, WANE_BF16, WANE_BF16);
    bench_layer("4B", 2560, 32, 8, 9728, 1, false);
    bench_layer("1.7B", 2048, 16, 8, 6144, 1, false);
}

static void bench_qmatmul(void)
{
    static const int64_t many[] = {2, 4, 8, 16, 32, 64, 128, 2048};
    head("qmatmul");
    for (int s = 0; s + 1 < SHAPES; s++)
        bench_qmatmul_one(1, shapes[s][0], shapes[s][1], 128, 4, WANE_U8, 0);
    for (int i = 0; i < 8; i++) bench_qmatmul_one(many[i], 9728, 2560, 128, 4, WANE_U8, 0);
    for (int i = 2; i < 6; i++) bench_qmatmul_one(many[i], 2560, 9728, 128, 4, WANE_U8, 0);
    bench_qmatmul_one(1, 9728, 2560, 64, 4, WANE_F32, 0);
    bench_qmatmul_one(1, 9728, 2560, 32, 4, WANE_U8, 0);
    bench_qmatmul_one(1, 9728, 2560, 2560, 4, WANE_DTYPES, 0);
    bench_qmatmul_one(64, 9728, 2560, 64, 4, WANE_F32, 0);
    bench_qmatmul_one(1, 9728, 2560, 2560, 8, WANE_DTYPES, 8);
    bench_qmatmul_one(64, 9728, 2560, 2560, 8, WANE_DTYPES, 8);
    bench_qmatmul_one(2048, 9728, 2560, 2560, 8, WANE_DTYPES, 8);
    bench_layer("4B", 2560, 32, 8, 9728, 1, true);
    bench_layer("1.7B", 2048, 16, 8, 6144, 1, true);
    bench_layer("4B", 2560, 32, 8, 9728, 4, true);
}

static wane_status call_attend(void *at, int i)
{
    job *j = at;
    int c = i % j->copies;
    return k->attend(dev, j->y[0], j->x, j->keys[c], j->values[c], &j->a[c]);
}

/* runs of `count` queries, each after a span of `before` keys of its own. */
static void bench_attend_one(int runs, int count, int before, int heads, int kv, wane_dtype type)
{
    job *j = calloc(1, sizeof *j);
    wane_run *run = calloc((size_t)runs, sizeof *run);
    wane_span *span = calloc((size_t)runs, sizeof *span);
    if (!j || !run || !span) must(WANE_EOOM, "malloc");
    int64_t n = (int64_t)runs * count, pool = (int64_t)runs * (before + count), d = 128;
    for (int i = 0; i < runs; i++) {
        span[i] = (wane_span){i * (before + count), before};
        run[i] = (wane_run){i * count, count, i * (before + count) + before, i, 1};
    }
    double bytes = 2.0 * (double)(pool * kv * d) * (double)wane_dtype_bytes(type);
    j->copies = copies_of((size_t)bytes);
    j->x = mat(type, n, heads * d);
    j->y[0] = mat(type, n, heads * d);
    for (int c = 0; c < j->copies; c++) {
        j->keys[c] = mat(type, pool, kv * d);
        j->values[c] = mat(type, pool, kv * d);
        j->a[c] = (wane_attention){uploaded(run, (size_t)runs * sizeof *run),
                                   uploaded(span, (size_t)runs * sizeof *span),
                                   runs,
                                   heads,
                                   kv,
                                   (int)d,
                                   0.088f};
    }
    double t = timed(call_attend, j, j->copies < 4 ? 4 : j->copies, true);
    char what[128];
    snprintf(what, sizeof what, "attend %s, %d/%d heads: %d x %d queries after %d keys",
             type == WANE_BF16 ? "bf16" : "f32", heads, kv, runs, count, before);
    double pairs = (double)runs * ((double)count * before + 0.5 * (double)count * (count + 1));
    if (count < 8)
        line(what, t, bytes, 0);
    else
        line(what, t, 0, 4.0 * pairs * (double)(heads * d));
    give_back();
    free(j), free(run), free(span);
}

static void bench_attend(void)
{
    head("attend");
    bench_attend_one(1, 1, 127, 32, 8, WANE_BF16);
    bench_attend_one(1, 1, 2047, 32, 8, WANE_BF16);
    bench_attend_one(1, 1, 16383, 32, 8, WANE_BF16);
    bench_attend_one(8, 1, 511, 32, 8, WANE_BF16);
    bench_attend_one(64, 1, 255, 32, 8, WANE_BF16);
    bench_attend_one(64, 1, 2047, 32, 8, WANE_BF16);
    bench_attend_one(256, 1, 511, 16, 8, WANE_BF16);
    bench_attend_one(64, 4, 800, 32, 8, WANE_BF16);
    bench_attend_one(64, 1, 255, 32, 8, WANE_F32);
    bench_attend_one(16, 2048, 0, 32, 8, WANE_BF16);
    bench_attend_one(1, 2048, 0, 32, 8, WANE_BF16);
    bench_attend_one(64, 100, 800, 16, 8, WANE_BF16);
}

typedef enum { RMSNORM, SILU_MUL, ADD, ROPE, STORE, EMBED, ARGMAX, LOG_PROB, CONVERT, HEADS } small;

typedef struct {
    small what;
    wane_mat y[COPIES], x[COPIES], w, index, position;
    wane_heads heads;
    int copies;
} small_job;

static wane_status call_small(void *at, int i)
{
    small_job *j = at;
    wane_mat y = j->y[i % j->copies], x = j->x[i % j->copies];
    switch (j->what) {
    case RMSNORM: return k->rmsnorm(dev, y, x, j->w, 1e-6f);
    case SILU_MUL: return k->silu_mul(dev, y, y, x);
    case ADD: return k->binary(dev, y, y, x, WANE_ADD);
    case ROPE: return k->rope(dev, y, j->position, j->w, 1);
    case STORE: return k->store(dev, y, x, j->index);
    case EMBED: return k->embed(dev, y, j->index, x);
    case ARGMAX: return k->argmax(dev, j->index, x);
    case LOG_PROB: return k->log_prob(dev, j->w, x, j->index);
    case CONVERT: return k->convert(dev, y, x);
    default: return k->heads(dev, &j->heads);
    }
}

static void bench_small_one(const char *name, small what, int64_t n, int64_t c, wane_dtype yt,
                            wane_dtype xt)
{
    small_job j = {.what = what};
    double y = (double)(n * c) * (double)wane_dtype_bytes(yt),
           x = (double)(n * c) * (double)wane_dtype_bytes(xt), bytes = x + y;
    j.copies = copies_of((size_t)(x + y));
    if (j.copies > 16) j.copies = 16;
    for (int i = 0; i < j.copies; i++) j.y[i] = mat(yt, n, c), j.x[i] = mat(xt, n, c);
    j.index = indices(n, 0, 1);
    j.position = indices(n, 100, 1);
    j.w = what == ROPE       ? mat(WANE_F32, 1, 64)
          : what == LOG_PROB ? mat(WANE_F32, n, 1)
                             : mat(WANE_BF16, 1, c);
    if (what == SILU_MUL || what == ADD) bytes += y;
    if (what == ROPE) bytes = 2 * y;
    if (what == ARGMAX || what == LOG_PROB) bytes = x;
    if (what == HEADS) { /* q of c columns, k and v of a quarter */
        wane_mat gain = mat(WANE_BF16, 1, 128);
        wane_mat q = mat(xt, n, c);
        j.heads = (wane_heads){.q = q, .turned = q, .q_gain = gain, .k_gain = gain, .eps = 1e-6f};
        j.heads.k = mat(xt, n, c / 4), j.heads.v = mat(xt, n, c / 4);
        j.heads.keys = mat(xt, n, c / 4), j.heads.values = mat(xt, n, c / 4);
        j.heads.position = j.position, j.heads.frequency = mat(WANE_F32, 1, 64);
        j.heads.row = j.index;
        bytes = 3 * x;
    }
    char label[128];
    double t = timed(call_small, &j, 128, true);
    snprintf(label, sizeof label, "%s, %dx%d", name, (int)n, (int)c);
    line(label, t, bytes, 0);
    give_back();
}

static void bench_small(void)
{
    static const int64_t rows[] = {1, 64, 16384};
    head("small slots, bf16");
    for (int i = 0; i < 3; i++) {
        bench_small_one("rmsnorm", RMSNORM, rows[i], 2560, WANE_BF16, WANE_BF16);
        bench_small_one("silu_mul", SILU_MUL, rows[i], 9728, WANE_BF16, WANE_BF16);
        bench_small_one("add", ADD, rows[i], 2560, WANE_BF16, WANE_BF16);
        bench_small_one("rope", ROPE, rows[i], 4096, WANE_BF16, WANE_BF16);
        bench_small_one("store", STORE, rows[i], 1024, WANE_BF16, WANE_BF16);
        bench_small_one("embed", EMBED, rows[i], 2560, WANE_BF16, WANE_BF16);
        bench_small_one("heads", HEADS, rows[i], 4096, WANE_BF16, WANE_BF16);
    }
    bench_small_one("rmsnorm of heads", RMSNORM, 16384 * 32, 128, WANE_BF16, WANE_BF16);
    bench_small_one("convert f32 to bf16", CONVERT, 9728, 2560, WANE_BF16, WANE_F32);
    bench_small_one("convert bf16 to f32", CONVERT, 9728, 2560, WANE_F32, WANE_BF16);
    bench_small_one("argmax", ARGMAX, 1, 151936, WANE_I32, WANE_BF16);
    bench_small_one("argmax", ARGMAX, 64, 151936, WANE_I32, WANE_BF16);
    bench_small_one("log_prob", LOG_PROB, 1024, 151936, WANE_I8, WANE_BF16);
}

static wane_status call_gram(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->gram(dev, j->y[0], j->x, j->c);
}

static wane_status call_factor(void *at, int i)
{
    job *j = at;
    size_t bytes = (size_t)(j->w[0].rows * j->w[0].cols) * 4;
    (void)i;
    wane_status s = k->copy(dev, j->y[0].data, j->w[0].data, bytes);
    return s ? s : k->inverse_factor(dev, j->y[0], (wane_mat){0}, 0.01f);
}

static wane_status call_gptq(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->gptq(dev, j->q[0], j->c, j->w[1], j->y[0], (wane_mat){0});
}

static wane_status call_gram_error(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->gram_error(dev, j->keys[0], j->w[1], j->w[0]);
}

static wane_status call_clip(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->clip_search(dev, j->q[0], j->values[0], j->w[1], j->w[0], 20, 0.5f);
}

static wane_status call_hqq(void *at, int i)
{
    job *j = at;
    (void)i;
    return k->hqq(dev, j->q[0], j->w[1], j->hqq);
}

static wane_status call_fit(void *at, int i)
{
    job *j = at;
    (void)i;
    wane_status s = k->fit_grid(dev, j->q[0], j->w[1], (wane_mat){0});
    if (!s) s = k->encode(dev, j->q[0], j->w[1]);
    return s ? s : k->decode(dev, j->w[2], j->q[0]);
}

static void bench_quantize_input(int64_t c, int64_t tokens, const int64_t *outputs, int n_outputs)
{
    job *j = calloc(1, sizeof *j);
    if (!j) must(WANE_EOOM, "malloc");
    char what[128];
    double kk = (double)c * (double)c, all = 262144;
    j->copies = 1;
    j->x = mat(WANE_BF16, tokens, c);
    j->y[0] = mat(WANE_F32, c, c);
    j->w[0] = mat(WANE_F32, c, c);
    must(k->fill(dev, j->y[0].data, 0, (size_t)(c * c) * 4), "fill");
    double t = timed(call_gram, j, 2, true);
    snprintf(what, sizeof what, "gram k %d, %d tokens (half counted)", (int)c, (int)tokens);
    line(what, t, 0, (double)tokens * kk);
    printf("| ... of 262144 tokens | %.0f | | |\n", t * all / (double)tokens * 1e6);
    must(k->copy(dev, j->w[0].data, j->y[0].data, (size_t)(c * c) * 4), "copy");
    t = timed(call_factor, j, 1, false);
    snprintf(what, sizeof what, "inverse_factor k %d (2/3 k^3)", (int)c);
    line(what, t, 0, 2.0 / 3 * kk * (double)c);
    wane_mat u = j->y[0];
    for (int i = 0; i < n_outputs; i++) {
        int64_t m = outputs[i];
        int mark = n_owned;
        double mk = (double)m * (double)c;
        j->w[1] = mat(WANE_F32, m, c);
        j->w[2] = mat(WANE_BF16, m, c);
        j->q[0] = grid(m, c, 128, 4, WANE_U8, 0);
        j->c = mat(WANE_U8, m, c);
        j->keys[0] = mat(WANE_F32, 1, 1);
        j->values[0] = mat(WANE_F32, m, c / 128);
        j->y[0] = u;
        t = timed(call_gptq, j, 1, true);
        snprintf(what, sizeof what, "gptq %dx%d (m k^2)", (int)m, (int)c);
        line(what, t, 0, mk * (double)c);
        t = timed(call_gram_error, j, 2, true);
        snprintf(what, sizeof what, "gram_error %dx%d", (int)m, (int)c);
        line(what, t, 0, 2 * mk * (double)c);
        t = timed(call_clip, j, 1, true);
        snprintf(what, sizeof what, "clip_search %dx%d g128, 10 candidates", (int)m, (int)c);
        line(what, t, 0, 10 * mk * 2 * 128);
        t = timed(call_fit, j, 2, true);
        snprintf(what, sizeof what, "fit_grid, encode, decode %dx%d g128", (int)m, (int)c);
        line(what, t, mk * (4 + 4 + 0.5 + 0.5 + 2), 0);
        j->q[0] = grid(m, c, 64, 4, WANE_F32, 0);
        j->hqq = (wane_hqq_options){0.7f, 10, 1.01f, 20};
        t = timed(call_hqq, j, 1, true);
        snprintf(what, sizeof what, "hqq %dx%d g64 (3.6e9 weights: %.3f s)", (int)m, (int)c,
                 t * 3.6e9 / mk);
        line(what, t, mk * 4.5, 0);
        must(k->sync(dev), "sync");
        while (n_owned > mark) k->free(dev, owned[--n_owned]);
    }
    give_back();
    free(j);
}

static void bench_quantize(void)
{
    static const int64_t hidden[] = {4096, 1024, 9728}, attention[] = {2560}, mlp[] = {2560};
    head("quantizing Qwen3-4B, per matrix");
    bench_quantize_input(2560, 65536, hidden, 3);
    bench_quantize_input(4096, 32768, attention, 1);
    bench_quantize_input(9728, 16384, mlp, 1);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {{"limits", bench_limits}, {"matmul", bench_matmul}, {"qmatmul", bench_qmatmul},
                  {"attend", bench_attend}, {"small", bench_small},   {"quantize", bench_quantize}};
    const char *path = getenv("WANE_TEST_KERNELS");
    char why[256] = "";
    void *object = path && *path ? dlopen(path, RTLD_NOW) : NULL;
    const wane_kernels *(*kernels)(void) = NULL;
    if (object) *(void **)&kernels = dlsym(object, "wane_cuda_kernels");
    if (!kernels) {
        fprintf(stderr, "bench_kernels: set WANE_TEST_KERNELS to a backend's shared object%s%s\n",
                path && *path ? ": " : "", path && *path ? dlerror() : "");
        return 2;
    }
    k = kernels();
    if (k->abi != WANE_KERNELS_ABI || k->open(0, scratch, &dev, why)) {
        fprintf(stderr, "bench_kernels: %s: %s\n", path, *why ? why : "a table of another age");
        return 1;
    }
    make_patterns();
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        bool wanted = argc < 2 || !i;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], groups[i].name);
        if (wanted) groups[i].run();
    }
    k->close(dev);
    return 0;
}
