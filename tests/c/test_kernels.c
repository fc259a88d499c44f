/* test_kernels.c - every slot of every backend against a plain reference.
 *
 * Backends are the CPU's, once for each instruction set that the processor has and for one thread
 * and two, and the one in the shared object that WANE_TEST_KERNELS names, if it is set;
 * WANE_TEST_CPU=0 leaves the CPU's out. */
#include "tests/c/kernels.h"

#include <dlfcn.h>
#include <omp.h>
#include <stdio.h>

enum { SCRATCH = 64 << 20, TARGETS = 8, SENTINEL = 0xA5, WANTED = 256 };

static target targets[TARGETS];
static int n_targets;
static double *kept[WANTED]; /* of the row being checked */

static uint64_t mix(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void *host_bytes(target *t, size_t bytes)
{
    void *p = calloc(1, bytes + 1);
    assert_non_null(p);
    assert_true(t->n_host < 1024);
    return t->host[t->n_host++] = p;
}

double *wanted(target *t, int64_t n, bool *fresh)
{
    assert_true(t->n_wanted < WANTED);
    double **slot = kept + t->n_wanted++;
    *fresh = !*slot;
    if (*fresh) *slot = calloc((size_t)n, sizeof **slot);
    assert_non_null(*slot);
    return *slot;
}

void product(double *y, const double *x, const double *w, int64_t n, int64_t m, int64_t k)
{
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < m; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++) sum += x[i * k + l] * w[j * k + l];
            y[i * m + j] = sum;
        }
    }
}

int64_t pick(target *t, int64_t n)
{
    return (int64_t)(mix(&t->random) % (uint64_t)n);
}

double *normal(target *t, int64_t n, double scale)
{
    double *x = host_bytes(t, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++) sum += (double)(mix(&t->random) >> 11) * 0x1p-53;
        x[i] = sum * scale;
    }
    return x;
}

/* Rounded to a float with `digits` binary digits and least exponent `least`; too large: infinite.
 */
static double rounded(double x, int digits, int least, double largest)
{
    if (!(x == x) || isinf(x) || x == 0) return x;
    int e = ilogb(x);
    double step = ldexp(1, (e > least ? e : least) - digits + 1), y = nearbyint(x / step) * step;
    return fabs(y) > largest ? copysign(INFINITY, x) : y;
}

static double limited(double x, double least, double most)
{
    double y = nearbyint(x);
    return !(x == x) ? 0 : y < least ? least : y > most ? most : y;
}

double stored(wane_dtype type, double x)
{
    switch (type) {
    case WANE_F32: return rounded(x, 24, -126, 0x1.fffffep127);
    case WANE_F16: return rounded(x, 11, -14, 65504);
    case WANE_BF16: return rounded(x, 8, -126, 0x1.fep127);
    case WANE_I8: return limited(x, -128, 127);
    case WANE_U8: return limited(x, 0, 255);
    case WANE_I32: return limited(x, -0x1p31, 0x1p31 - 1);
    default: return limited(x, -0x1p63, 0x1p63);
    }
}

/* x is one that the type holds. */
static void to_bytes(wane_dtype type, double x, void *out)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t h = (uint16_t)(u >> 16);
    switch (type) {
    case WANE_F32: memcpy(out, &f, 4); return;
    case WANE_BF16: memcpy(out, &h, 2); return;
    case WANE_F16: {
        uint16_t sign = signbit(x) ? 0x8000 : 0;
        double a = fabs(x);
        if (!(x == x))
            h = 0x7e00;
        else if (isinf(x))
            h = 0x7c00;
        else if (a < 0x1p-14)
            h = (uint16_t)(a * 0x1p24);
        else
            h = (uint16_t)((ilogb(a) + 15) << 10 | ((int)(a / ldexp(1, ilogb(a) - 10)) & 0x3ff));
        h |= sign;
        memcpy(out, &h, 2);
        return;
    }
    case WANE_I8: *(int8_t *)out = (int8_t)x; return;
    case WANE_U8: *(uint8_t *)out = (uint8_t)x; return;
    case WANE_I32: {
        int32_t i = (int32_t)x;
        memcpy(out, &i, 4);
        return;
    }
    default: {
        int64_t i = x >= 0x1p63 ? INT64_MAX : (int64_t)x;
        memcpy(out, &i, 8);
        return;
    }
    }
}

static double from_bytes(wane_dtype type, const void *in)
{
    uint16_t h;
    uint32_t u;
    float f;
    memcpy(&h, in, type == WANE_F16 || type == WANE_BF16 ? 2 : 0);
    switch (type) {
    case WANE_F32: memcpy(&f, in, 4); return f;
    case WANE_BF16:
        memcpy(&h, in, 2);
        u = (uint32_t)h << 16;
        memcpy(&f, &u, 4);
        return f;
    case WANE_F16: {
        memcpy(&h, in, 2);
        int e = h >> 10 & 31, part = h & 0x3ff;
        double a = e == 31 ? (part ? NAN : INFINITY)
                   : e     ? ldexp(1024 + part, e - 25)
                           : ldexp(part, -24);
        return h & 0x8000 ? -a : a;
    }
    case WANE_I8: return *(const int8_t *)in;
    case WANE_U8: return *(const uint8_t *)in;
    case WANE_I32: {
        int32_t i;
        memcpy(&i, in, 4);
        return i;
    }
    default: {
        int64_t i;
        memcpy(&i, in, 8);
        return (double)i;
    }
    }
}

void *put_bytes(target *t, const void *from, size_t bytes)
{
    void *p = NULL;
    assert_int_equal(t->k->alloc(t->dev, bytes, &p), WANE_OK);
    assert_true(t->n_device < 256);
    t->device[t->n_device++] = p;
    assert_int_equal(t->k->put(t->dev, p, from, bytes), WANE_OK);
    return p;
}

wane_mat put_mat(target *t, wane_dtype type, int64_t rows, int64_t cols, int64_t pad, double *v)
{
    size_t size = wane_dtype_bytes(type), bytes = (size_t)(rows * (cols + pad)) * size;
    unsigned char *image = host_bytes(t, bytes);
    memset(image, SENTINEL, bytes);
    for (int64_t i = 0; v && i < rows * cols; i++) {
        v[i] = stored(type, v[i]);
        to_bytes(type, v[i], image + (size_t)(i / cols * (cols + pad) + i % cols) * size);
    }
    return (wane_mat){put_bytes(t, image, bytes), type, rows, cols, cols + pad};
}

double *get_mat(target *t, wane_mat a)
{
    size_t size = wane_dtype_bytes(a.dtype), bytes = (size_t)(a.rows * a.stride) * size;
    unsigned char *image = host_bytes(t, bytes);
    double *v = host_bytes(t, (size_t)(a.rows * a.cols) * sizeof *v);
    assert_int_equal(t->k->get(t->dev, image, a.data, bytes), WANE_OK);
    for (int64_t i = 0; i < a.rows; i++) {
        unsigned char *row = image + (size_t)(i * a.stride) * size;
        for (size_t j = 0; j < (size_t)a.stride * size; j++) {
            if (j >= (size_t)a.cols * size && row[j] != SENTINEL)
                fail_msg("%s wrote between rows, after row %d", t->label, (int)i);
            t->hash = (t->hash ^ row[j]) * 0x100000001b3u; /* FNV-1a */
        }
        for (int64_t j = 0; j < a.cols; j++)
            v[i * a.cols + j] = from_bytes(a.dtype, row + (size_t)j * size);
    }
    return v;
}

void give_back(target *t)
{
    while (t->n_device) t->k->free(t->dev, t->device[--t->n_device]);
    while (t->n_host) free(t->host[--t->n_host]);
}

void check_near(target *t, const char *what, const double *got, const double *want, int64_t n,
                double limit)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            fail_msg("%s: %s[%d] is %g, not %g", t->label, what, (int)i, got[i], want[i]);
        off += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (sqrt(off) > limit * sqrt(size) + 1e-12)
        fail_msg("%s: %s is off by %.3g of its size, more than %.3g", t->label, what,
                 sqrt(off / size), limit);
}

void check_same(target *t, const char *what, const double *got, const double *want, int64_t n,
                int64_t other)
{
    int64_t found = 0, last = 0;
    for (int64_t i = 0; i < n; i++) {
        if (got[i] == want[i] || (got[i] != got[i] && want[i] != want[i])) continue;
        found++;
        last = i;
    }
    if (found > other)
        fail_msg("%s: %s: %d of %d differ; [%d] is %.9g, not %.9g", t->label, what, (int)found,
                 (int)n, (int)last, got[last], want[last]);
}

static void open_target(const wane_kernels *k, const char *variant, int threads, int same_as)
{
    target *t = targets + n_targets;
    char why[256] = "";
    if (variant) setenv("WANE_CPU", variant, 1);
    if (threads) omp_set_num_threads(threads);
    wane_status s = k->open(0, SCRATCH, &t->dev, why);
    unsetenv("WANE_CPU");
    if (s) {
        print_message("# without %s %s: %s\n", k->name, variant ? variant : "", why);
        return;
    }
    t->k = k;
    t->same_as = same_as;
    snprintf(t->label, sizeof t->label, "%s %s, %d threads", k->name, variant ? variant : "",
             threads);
    n_targets++;
}

static int open_targets(void **state)
{
    static const char *const variants[] = {"plain", "avx2", "avx512"};
    (void)state;
    int threads = omp_get_max_threads();
    const char *cpu = getenv("WANE_TEST_CPU");
    size_t n_variants = cpu && *cpu == '0' ? 0 : sizeof variants / sizeof *variants;
    for (size_t i = 0; i < n_variants; i++) {
        int first = n_targets;
        open_target(wane_cpu_kernels(), variants[i], 1, -1);
        if (n_targets > first) open_target(wane_cpu_kernels(), variants[i], 2, first);
    }
    omp_set_num_threads(threads);
    const char *path = getenv("WANE_TEST_KERNELS");
    if (!path || !*path) return 0;
    void *object = dlopen(path, RTLD_NOW);
    const wane_kernels *(*kernels)(void) = NULL;
    if (object) *(void **)&kernels = dlsym(object, "wane_cuda_kernels");
    if (!kernels) {
        print_error("%s: %s\n", path, dlerror());
        return -1;
    }
    int before = n_targets;
    open_target(kernels(), NULL, 0, -1);
    return n_targets > before ? 0 : -1; /* what is named and not tried must not pass */
}

static int close_targets(void **state)
{
    (void)state;
    while (n_targets) {
        target *t = targets + --n_targets;
        t->k->close(t->dev);
        memset(t, 0, sizeof *t);
    }
    return 0;
}

static uint64_t run_row(const kernel_row *row, target *t)
{
    t->random = 1;
    t->n_wanted = 0;
    t->hash = 0xcbf29ce484222325u;
    row->check(t);
    assert_int_equal(t->k->sync(t->dev), WANE_OK);
    give_back(t);
    return t->hash;
}

static void check_row(void **state)
{
    const kernel_row *row = *state;
    uint64_t hash[TARGETS];
    for (int i = 0; i < n_targets; i++) {
        target *t = targets + i;
        hash[i] = run_row(row, t);
        bool last = i + 1 == n_targets || targets[i + 1].same_as != i; /* of its kind: twice */
        if (last && run_row(row, t) != hash[i])
            fail_msg("%s: two runs of %s differ", t->label, row->slot);
        if (t->same_as >= 0 && hash[i] != hash[t->same_as])
            fail_msg("%s: %s differs from %s", t->label, row->slot, targets[t->same_as].label);
    }
}

static int give_all_back(void **state)
{
    (void)state;
    for (int i = 0; i < n_targets; i++) give_back(targets + i);
    for (int i = 0; i < WANTED; i++) {
        free(kept[i]);
        kept[i] = NULL;
    }
    return 0;
}

/* One row for each pointer of the table from open on, no more, no less. */
static void every_slot_has_a_row(void **state)
{
    const size_t pointers =
        (sizeof(wane_kernels) - offsetof(wane_kernels, open)) / sizeof(void (*)(void));
    assert_int_equal((size_t)(uintptr_t)*state, pointers);
}

static void the_table_is_full(void **state)
{
    (void)state;
    for (int i = 0; i < n_targets; i++) {
        const wane_kernels *k = targets[i].k;
        const void *const *slot =
            (const void *const *)((const char *)k + offsetof(wane_kernels, open));
        const void *const *end = (const void *const *)(k + 1);
        assert_int_equal(k->abi, WANE_KERNELS_ABI);
        assert_true(k->activations == WANE_F32 || k->activations == WANE_BF16);
        for (; slot < end; slot++) assert_non_null(*slot);
    }
}

static void a_variant_is_refused_with_a_reason(void **state)
{
    (void)state;
    wane_dev *d = NULL;
    char why[256] = "";
    setenv("WANE_CPU", "mmx", 1);
    assert_int_equal(wane_cpu_kernels()->open(0, SCRATCH, &d, why), WANE_EDEVICE);
    unsetenv("WANE_CPU");
    assert_null(d);
    assert_non_null(strstr(why, "mmx"));
    assert_int_equal(wane_cpu_kernels()->open(0, 1000, &d, why), WANE_EARG);
    assert_non_null(strstr(why, "1000"));
}

int test_kernels(void)
{
    enum { MOST = 64 };
    static const kernel_row *const lists[] = {kernel_rows_matrix, kernel_rows_quant,
                                              kernel_rows_transformer};
    struct CMUnitTest tests[MOST + 3];
    size_t n = 0;
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (const kernel_row *row = lists[i]; row->slot && n < MOST; row++)
            tests[n++] = (struct CMUnitTest){row->slot, check_row, NULL, give_all_back,
                                             (void *)(uintptr_t)row};
    void *rows = (void *)(uintptr_t)n;
    tests[n++] =
        (struct CMUnitTest){"every slot has a row", every_slot_has_a_row, NULL, NULL, rows};
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_table_is_full);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(a_variant_is_refused_with_a_reason);
    return _cmocka_run_group_tests("kernels", tests, n, open_targets, close_targets);
}
