/* test_kernels_quant.c - grids, codes, packed products, GPTQ and HQQ: see test_kernels.c.
 *
 * The reference follows the conventions of kernels.h in double, with the scale rounded to its
 * stored type. A code within a few rounding errors of a tie may fall either way: one in a thousand.
 */
#include "tests/c/kernels.h"

typedef struct {
    int64_t m, k, g;
    int bits, act_bits;
    bool symmetric, fraction; /* zero none; zero F32 */
    wane_dtype scale_type;
} grid_case;

static const grid_case cases[] = {
    {1, 1, 1, 4, 0, false, false, WANE_F32},        {31, 32, 32, 4, 0, false, false, WANE_F16},
    {33, 64, 32, 4, 0, true, false, WANE_BF16},     {257, 128, 64, 4, 0, false, false, WANE_BF16},
    {32, 256, 128, 4, 0, false, true, WANE_F32},    {33, 33, 11, 3, 0, false, false, WANE_F32},
    {31, 96, 32, 3, 0, true, false, WANE_F16},      {5, 1056, 1056, 3, 0, false, false, WANE_F32},
    {33, 257, 257, 2, 0, false, false, WANE_BF16},  {31, 128, 32, 2, 0, true, false, WANE_F32},
    {33, 31, 31, 8, 0, false, false, WANE_F32},     {32, 160, 80, 8, 0, true, false, WANE_F16},
    {31, 257, 257, 8, 8, true, false, WANE_F32},    {257, 33, 33, 8, 8, true, false, WANE_BF16},
    {36, 320, 160, 4, 0, false, false, WANE_F32},   {33, 288, 96, 4, 0, true, false, WANE_F32},
    {7, 2048, 64, 4, 0, false, false, WANE_F16},    {9, 192, 64, 4, 0, false, true, WANE_F16},
    {70, 2560, 128, 4, 0, false, false, WANE_F16},  {40, 1024, 1024, 4, 0, true, false, WANE_F32},
    {150, 1280, 32, 4, 0, false, false, WANE_BF16},
};
enum { CASES = sizeof cases / sizeof *cases };

static wane_qmat new_grid(target *t, const grid_case *c)
{
    wane_mat none = {0};
    double *words = host_bytes(t, (size_t)(c->m * c->k) * 8 + 64);
    return (wane_qmat){
        put_mat(t, WANE_I32, c->m, (c->k * c->bits + 31) / 32, 3, words),
        put_mat(t, c->scale_type, c->m, c->k / c->g, 1, NULL),
        c->symmetric ? none
                     : put_mat(t, c->fraction ? WANE_F32 : WANE_U8, c->m, c->k / c->g, 2, NULL),
        c->k,
        c->g,
        c->bits,
        c->act_bits};
}

static double inside(double x, double least, double most)
{
    return x < least ? least : x > most ? most : x;
}
static double top_code(const grid_case *c)
{
    return (1 << c->bits) - 1;
}

/* Half to even on 22 - bits binary places: see wane_qmat. */
static double nearest(const grid_case *c, double x)
{
    double step = ldexp(1, c->bits - 22);
    return nearbyint(nearbyint(x / step) * step);
}

/* scale and zero of one group of weights */
static void fit(const grid_case *c, const double *w, double clip, double *scale, double *zero)
{
    double low = 0, high = 0;
    for (int64_t i = 0; i < c->g; i++) low = fmin(low, w[i]), high = fmax(high, w[i]);
    low *= clip, high *= clip;
    double top = fmax(-low, high);
    double s = c->act_bits    ? top / 127
               : c->symmetric ? 2 * top / top_code(c)
                              : (high - low) / top_code(c);
    *scale = stored(c->scale_type, fmax(s, 1e-8));
    if (c->scale_type == WANE_F16) *scale = fmax(*scale, 0x1p-24);
    *zero = c->symmetric ? 1 << (c->bits - 1) : inside(nearest(c, -low / *scale), 0, top_code(c));
}

static double code_of(const grid_case *c, double w, double s, double z)
{
    double q = c->fraction ? nearest(c, w / s + z) : nearest(c, w / s) + z;
    return inside(q, c->act_bits ? 1 : 0, top_code(c));
}

/* Weights with what is awkward in them: groups of zeros, of one sign, and all the same. */
static double *weights(target *t, const grid_case *c)
{
    double *w = normal(t, c->m * c->k, 0.05);
    int64_t groups = c->m * c->k / c->g;
    for (int64_t i = 0; i < c->m * c->k; i++) {
        int64_t group = i / c->g;
        if (groups >= 4 && group == 1) w[i] = 0;
        if (groups >= 4 && group == 2) w[i] = fabs(w[i]);
        if (groups >= 4 && group == 3) w[i] = -0.03125;
    }
    return w;
}

typedef struct {
    wane_qmat q;
    double *w, *scale, *zero, *codes, *decoded;
} fitted;

/* A full grid on the device, put there by the test and not by the slot under test. */
static fitted put_grid(target *t, const grid_case *c)
{
    fitted f = {new_grid(t, c), weights(t, c), NULL, NULL, NULL, NULL};
    int64_t n = c->m * c->k, groups = n / c->g, per_row = c->k / c->g, words = f.q.words.cols;
    f.scale = host_bytes(t, (size_t)groups * 8), f.zero = host_bytes(t, (size_t)groups * 8);
    f.codes = host_bytes(t, (size_t)n * 8), f.decoded = host_bytes(t, (size_t)n * 8);
    double *packed = host_bytes(t, (size_t)(c->m * words) * 8);
    for (int64_t i = 0; i < n; i++) f.w[i] = stored(WANE_F32, f.w[i]);
    for (int64_t i = 0; i < groups; i++) {
        fit(c, f.w + i * c->g, 1, f.scale + i, f.zero + i);
        if (c->fraction) f.zero[i] = stored(WANE_F32, f.zero[i] + 0.3);
    }
    uint8_t *bytes = host_bytes(t, (size_t)(c->m * words) * 4);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = i / c->k, bit = i % c->k * c->bits;
        f.codes[i] = code_of(c, f.w[i], f.scale[i / c->g], f.zero[i / c->g]);
        f.decoded[i] = (f.codes[i] - f.zero[i / c->g]) * f.scale[i / c->g];
        for (int b = 0; b < c->bits; b++)
            if ((int)f.codes[i] >> b & 1)
                bytes[row * words * 4 + (bit + b) / 8] |= (uint8_t)(1 << (bit + b) % 8);
    }
    for (int64_t i = 0; i < c->m * words; i++) {
        int32_t word;
        memcpy(&word, bytes + i * 4, 4);
        packed[i] = word;
    }
    f.q.words = put_mat(t, WANE_I32, c->m, words, words > 4 && words % 4 == 0 ? 4 : 3, packed);
    f.q.scale = put_mat(t, c->scale_type, c->m, per_row, 1, f.scale);
    if (!c->symmetric)
        f.q.zero = put_mat(t, c->fraction ? WANE_F32 : WANE_U8, c->m, per_row, 2, f.zero);
    return f;
}

static void row_fit_grid(target *t)
{
    for (int i = 0; i < CASES * 2; i++) {
        const grid_case *c = cases + i / 2;
        int64_t groups = c->m * c->k / c->g;
        double *w = weights(t, c), *clip = normal(t, groups, 0.05),
               *scale = host_bytes(t, (size_t)groups * 8);
        double *zero = host_bytes(t, (size_t)groups * 8);
        for (int64_t j = 0; j < groups; j++) clip[j] = i % 2 ? fmin(1, 0.8 + fabs(clip[j])) : 1;
        wane_qmat q = new_grid(t, c);
        wane_mat a = put_mat(t, WANE_F32, c->m, c->k, 1, w), none = {0};
        wane_mat factor = put_mat(t, WANE_F32, c->m, c->k / c->g, 1, clip);
        RUN(t, fit_grid, q, a, i % 2 ? factor : none);
        for (int64_t j = 0; j < groups; j++) fit(c, w + j * c->g, clip[j], scale + j, zero + j);
        check_near(t, "scale", get_mat(t, q.scale), scale, groups,
                   c->scale_type == WANE_F32 ? 1e-6 : 1e-4);
        if (!c->symmetric) check_same(t, "zero", get_mat(t, q.zero), zero, groups, groups / 1000);
        wane_qmat odd = q;
        odd.group = c->k + 1;
        REFUSED(t, fit_grid, odd, a, none);
        odd = q, odd.bits = 5;
        REFUSED(t, fit_grid, odd, a, none);
        give_back(t);
    }
}

static void row_codes(target *t) /* encode, decode, pack, unpack */
{
    for (int i = 0; i < CASES; i++) {
        const grid_case *c = cases + i;
        int64_t n = c->m * c->k;
        fitted f = put_grid(t, c);
        wane_qmat out = f.q;
        out.words = put_mat(t, WANE_I32, c->m, f.q.words.cols, 5, NULL);
        wane_mat codes = put_mat(t, WANE_U8, c->m, c->k, 3, NULL);
        RUN(t, unpack, codes, f.q);
        check_same(t, "unpack", get_mat(t, codes), f.codes, n, 0);
        RUN(t, pack, out, codes);
        check_same(t, "pack", get_mat(t, out.words), get_mat(t, f.q.words), c->m * f.q.words.cols,
                   0);
        out.words = put_mat(t, WANE_I32, c->m, f.q.words.cols, 5, NULL);
        RUN(t, encode, out, put_mat(t, WANE_F32, c->m, c->k, 1, f.w));
        RUN(t, unpack, codes, out);
        check_same(t, "encode", get_mat(t, codes), f.codes, n, n / 1000);
        for (int j = 0; j < 3; j++) {
            wane_mat w = put_mat(t, float_types[j], c->m, c->k, 1, NULL);
            RUN(t, decode, w, f.q);
            check_near(t, "decode", get_mat(t, w), f.decoded, n, type_limit(float_types[j]));
        }
        REFUSED(t, unpack, ((wane_mat){codes.data, WANE_F32, c->m, c->k, c->k}), f.q);
        give_back(t);
    }
    const grid_case zeros = {3, 64,    32,    4,
                             0, false, false, WANE_F16}; /* zeros come back as zeros */
    wane_mat w = put_mat(t, WANE_F32, 3, 64, 0, host_bytes(t, 3 * 64 * 8)), none = {0};
    wane_qmat q = new_grid(t, &zeros);
    RUN(t, fit_grid, q, w, none);
    RUN(t, encode, q, w);
    RUN(t, decode, w, q);
    check_same(t, "zeros", get_mat(t, w), host_bytes(t, 3 * 64 * 8), 3 * 64, 0);
}

static void row_qmatmul(target *t)
{
    static const struct {
        int64_t n;
        wane_dtype type;
    } rows[] = {{1, WANE_BF16}, {1, WANE_F32},  {2, WANE_F16},   {5, WANE_BF16}, {8, WANE_BF16},
                {7, WANE_F32},  {16, WANE_F16}, {33, WANE_BF16}, {64, WANE_F16}, {20, WANE_F32}};
    enum { ROWS = sizeof rows / sizeof *rows };
    for (int i = 0; i < CASES; i++) {
        const grid_case *c = cases + i;
        for (int s = 0; s < ROWS; s++) {
            fitted f = put_grid(t, c);
            int64_t n = rows[s].n, k = c->k;
            wane_dtype xt = rows[s].type, yt = float_types[(s + i) % 3];
            bool fresh;
            double *x = normal(t, n * k, 1), *want = wanted(t, n * c->m, &fresh);
            wane_mat a = put_mat(t, xt, n, k, s % 2 ? 1 : 8, x),
                     y = put_mat(t, yt, n, c->m, 5, NULL);
            RUN(t, qmatmul, y, a, f.q);
            for (int64_t r = 0; r < n && c->act_bits; r++) { /* each token on its own grid */
                double top = 0;
                for (int64_t j = 0; j < k; j++) top = fmax(top, fabs(x[r * k + j]));
                float scale = (float)top / 127;
                for (int64_t j = 0; j < k; j++)
                    x[r * k + j] =
                        (double)scale * inside(nearbyint((float)x[r * k + j] / scale), -127, 127);
            }
            if (fresh) product(want, x, f.decoded, n, c->m, k);
            /* many rows of a narrow x: a backend may round the weights to x's type (kernels.h) */
            double limit = fmax(yt == WANE_F32 ? 5e-6 : type_limit(yt), n > 8 ? type_limit(xt) : 0);
            check_near(t, "qmatmul", get_mat(t, y), want, n * c->m, limit);
            a.cols++;
            REFUSED(t, qmatmul, y, a, f.q);
            give_back(t);
        }
    }
}

/* x^T x of correlated tokens, (k,k). */
static double *gram_of(target *t, int64_t k)
{
    int64_t n = k + 8;
    bool fresh;
    double *x = normal(t, n * k, 1), *first = wanted(t, k * k, &fresh);
    double *h = host_bytes(t, (size_t)(k * k) * 8); /* the row's own, to change */
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 1; j < k; j++)
            x[i * k + j] = 0.6 * x[i * k + j - 1] + x[i * k + j] * (j % 7 ? 0.5 : 2);
    for (int64_t i = 0; i < n; i++)
        for (int64_t r = 0; r < k; r++)
            for (int64_t c = r; c < k && fresh; c++)
                first[r * k + c] += x[i * k + r] * x[i * k + c];
    for (int64_t r = 0; r < k; r++)
        for (int64_t c = 0; c < k; c++) h[r * k + c] = first[r <= c ? r * k + c : c * k + r];
    return h;
}

/* A random order of k columns that keeps groups of g whole. */
static double *group_order(target *t, int64_t k, int64_t g)
{
    double *order = host_bytes(t, (size_t)k * 8);
    for (int64_t i = 0; i < k; i++) order[i] = (double)i;
    for (int64_t i = 0; i < k; i++) { /* within its group */
        int64_t j = i / g * g + pick(t, g);
        double keep = order[i];
        order[i] = order[j], order[j] = keep;
    }
    for (int64_t a = 0; a < k / g; a++) {
        int64_t b = pick(t, k / g);
        for (int64_t i = 0; i < g; i++) {
            double keep = order[a * g + i];
            order[a * g + i] = order[b * g + i], order[b * g + i] = keep;
        }
    }
    return order;
}

/* The same for a large h, by what u h u^T does to a vector. */
static void check_large_factor(target *t, int64_t k)
{
    double *h = host_bytes(t, (size_t)(k * k) * 8), *v = normal(t, k, 1), mean = 0;
    double *z = host_bytes(t, (size_t)k * 8), *hz = host_bytes(t, (size_t)k * 8),
           *got = host_bytes(t, (size_t)k * 8);
    double decay[3000]; /* of the correlation of neighbours */
    for (int64_t i = 0; i < k; i++) decay[i] = stored(WANE_F32, pow(0.8, (double)i));
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++)
            h[i * k + j] = decay[i < j ? j - i : i - j] * (i == j && i % 7 == 0 ? 3 : 1);
    wane_mat a = put_mat(t, WANE_F32, k, k, 0, h), none = {0};
    for (int64_t i = 0; i < k; i++) mean += h[i * k + i] / (double)k;
    for (int64_t i = 0; i < k; i++) h[i * k + i] += 0.01 * mean;
    RUN(t, inverse_factor, a, none, 0.01f);
    const double *u = get_mat(t, a);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = i; j < k; j++) z[j] += u[i * k + j] * v[i];
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k; j++) hz[i] += h[i * k + j] * z[j];
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = i; j < k; j++) got[i] += u[i * k + j] * hz[j];
    check_near(t, "u h u^T", got, v, k, 1e-4);
    give_back(t);
}

static void row_inverse_factor(target *t)
{
    check_large_factor(t, 700);
    if (strcmp(t->k->name, "cpu")) check_large_factor(t, 2200); /* takes a CPU too long */
    static const int64_t sizes[] = {1, 31, 33, 128, 257, 300};
    for (int s = 0; s < 12; s++) {
        int64_t k = sizes[s / 2], dead = k / 2;
        double *h = gram_of(t, k), *order = group_order(t, k, 1), mean = 0;
        for (int64_t i = 0; i < k && k > 1; i++) h[dead * k + i] = h[i * k + dead] = 0;
        wane_mat a = put_mat(t, WANE_F32, k, k, 3, h), none = {0};
        wane_mat by = s % 2 ? put_mat(t, WANE_I32, 1, k, 0, order) : none;
        if (k > 1) h[dead * k + dead] = 1;
        for (int64_t i = 0; i < k; i++) mean += h[i * k + i] / (double)k;
        for (int64_t i = 0; i < k; i++) h[i * k + i] += 0.01 * mean;
        RUN(t, inverse_factor, a, by, 0.01f);
        /* u h u^T is the identity, where h^-1 = u^T u */
        double *u = get_mat(t, a), *uh = host_bytes(t, (size_t)(k * k) * 8), worst = 0;
        for (int64_t i = 0; i < k; i++) {
            for (int64_t j = 0; j < i; j++) assert_true(u[i * k + j] == 0);
            bool is_dead = k > 1 && (s % 2 ? (int64_t)order[i] : i) == dead;
            assert_true(is_dead ? u[i * k + i] < 0 : u[i * k + i] > 0);
            for (int64_t l = i; l < k; l++)
                for (int64_t j = 0; j < k; j++)
                    uh[i * k + j] +=
                        u[i * k + l] *
                        (s % 2 ? h[(int64_t)order[l] * k + (int64_t)order[j]] : h[l * k + j]);
        }
        for (int64_t i = 0; i < k; i++) {
            for (int64_t j = 0; j < k; j++) {
                double sum = 0;
                for (int64_t l = j; l < k; l++) sum += uh[i * k + l] * u[j * k + l];
                worst = fmax(worst, fabs(sum - (i == j)));
            }
        }
        if (!(worst < 1e-4))
            fail_msg("%s: u h u^T is off the identity by %g at k = %d", t->label, worst, (int)k);
        give_back(t);
    }
    double bad[4] = {1, 2, 2, 1}, nan[4] = {1, NAN, NAN, 1}, twice[2] = {1, 1};
    wane_mat none = {0}, a = put_mat(t, WANE_F32, 2, 2, 0, bad),
             b = put_mat(t, WANE_F32, 2, 2, 0, nan);
    assert_int_equal(t->k->inverse_factor(t->dev, a, none, 0.01f), WANE_ENUMERIC);
    assert_int_equal(t->k->inverse_factor(t->dev, b, none, 0.01f), WANE_ENUMERIC);
    if (!strcmp(t->k->name, "cpu"))
        REFUSED(t, inverse_factor, a, put_mat(t, WANE_I32, 1, 2, 0, twice), 0.01f);
}

static void row_gptq(target *t)
{
    for (int i = 0; i < CASES * 2; i++) {
        const grid_case *c = cases + i / 2;
        int64_t m = c->m, k = c->k, g = c->g, dead = k / 3;
        if (c->fraction || k > 400) continue;
        double *w = weights(t, c), *h = gram_of(t, k), *order = group_order(t, k, g);
        double *want = host_bytes(t, (size_t)(m * k) * 8);
        for (int64_t j = 0; j < k && k > 1; j++) h[dead * k + j] = h[j * k + dead] = 0;
        if (i % 2 == 0)
            for (int64_t j = 0; j < k; j++) order[j] = (double)j;
        wane_mat a = put_mat(t, WANE_F32, m, k, 1, w), b = put_mat(t, WANE_F32, k, k, 3, h),
                 none = {0};
        wane_mat by = i % 2 ? put_mat(t, WANE_I32, 1, k, 0, order) : none,
                 codes = put_mat(t, WANE_U8, m, k, 3, NULL);
        wane_qmat q = new_grid(t, c);
        RUN(t, inverse_factor, b, by, 0.01f);
        double *u = get_mat(t, b);
        RUN(t, gptq, q, codes, a, b, by);
        for (int64_t r = 0; r < m;
             r++) { /* one row, as the paper has it, with the factor as it came */
            double *x = host_bytes(t, (size_t)k * 8), s = 1, z = 0;
            for (int64_t j = 0; j < k; j++)
                x[j] = (int64_t)order[j] == dead && k > 1 ? 0 : w[r * k + (int64_t)order[j]];
            for (int64_t j = 0; j < k; j++) {
                if (j % g == 0) fit(c, x + j, 1, &s, &z);
                double code = code_of(c, x[j], s, z), e = (x[j] - (code - z) * s) / u[j * k + j];
                want[r * k + (int64_t)order[j]] = code;
                for (int64_t l = j; l < k; l++) x[l] -= e * u[j * k + l];
            }
            free(t->host[--t->n_host]);
        }
        double *got = get_mat(t, codes);
        check_same(t, "gptq", got, want, m * k,
                   m * k / 100); /* one flipped code moves others after it */
        RUN(t, unpack, codes, q);
        check_same(t, "gptq's words", get_mat(t, codes), got, m * k, 0);
        give_back(t);
    }
}

/* sum |w - (code - zero) scale| of a group, with the codes that the zero gives */
static double group_error(const grid_case *c, const double *w, double s, double z)
{
    double sum = 0;
    for (int64_t i = 0; i < c->g; i++) sum += fabs(w[i] - (code_of(c, w[i], s, z) - z) * s);
    return sum;
}

static double hqq_zero(const grid_case *c, const double *w, double s, double z)
{
    double best = z, least = INFINITY, beta = 10;
    for (int step = 0; step <= 20; step++, beta *= 1.01) {
        double next = 0, error = group_error(c, w, s, z);
        if (error < least) least = error, best = z;
        for (int64_t i = 0; i < c->g; i++) {
            double q = inside(nearest(c, w[i] / s + z), 0, top_code(c)), e = w[i] - (q - z) * s;
            e = copysign(fmax(0, fabs(e) - pow(fmax(fabs(e), 1e-12), 0.7 - 1) / beta), e);
            next += (q - (w[i] - e) / s) / (double)c->g;
        }
        z = next;
    }
    return best;
}

static void row_hqq(target *t)
{
    static const grid_case own[] = {
        {31, 64, 32, 4, 0, false, true, WANE_F32},    {33, 256, 64, 3, 0, false, true, WANE_F32},
        {32, 257, 257, 2, 0, false, true, WANE_BF16}, {5, 93, 31, 8, 0, false, true, WANE_F16},
        {9, 256, 128, 4, 0, false, true, WANE_F16},   {3, 512, 256, 4, 0, false, true, WANE_F32}};
    const wane_hqq_options options = {0.7f, 10, 1.01f, 20};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const grid_case *c = own + i;
        double *w = weights(t, c);
        wane_qmat q = new_grid(t, c);
        RUN(t, hqq, q, put_mat(t, WANE_F32, c->m, c->k, 1, w), options);
        wane_mat codes = put_mat(t, WANE_U8, c->m, c->k, 0, NULL);
        RUN(t, unpack, codes, q);
        double *scale = get_mat(t, q.scale), *zero = get_mat(t, q.zero), *got = get_mat(t, codes);
        double sum = 0, want = 0;
        for (int64_t j = 0; j < c->m * c->k / c->g; j++) {
            double s, z;
            fit(c, w + j * c->g, 1, &s, &z);
            assert_true(fabs(scale[j] - s) <= 1e-6 * s || c->scale_type != WANE_F32);
            sum += group_error(c, w + j * c->g, scale[j], zero[j]);
            want += group_error(c, w + j * c->g, scale[j], hqq_zero(c, w + j * c->g, scale[j], z));
            for (int64_t l = j * c->g; l < (j + 1) * c->g; l++)
                assert_true(fabs(got[l] - code_of(c, w[l], scale[j], zero[j])) < 0.5 ||
                            fabs(fabs(remainder(w[l] / scale[j] + zero[j], 1)) - 0.5) < 1e-3);
        }
        /* ties between zeros of equal error fall as they like; the error itself does not */
        if (!(fabs(sum - want) <= 2e-4 * want))
            fail_msg("%s: hqq's error %g, not %g", t->label, sum, want);
        q.zero.data = NULL;
        REFUSED(t, hqq, q, put_mat(t, WANE_F32, c->m, c->k, 1, w), options);
        give_back(t);
    }
}

static void row_refit(target *t)
{
    for (int i = 0; i < CASES; i++) {
        const grid_case *c = cases + i;
        if (c->act_bits) continue;
        fitted f = put_grid(t, c);
        RUN(t, refit, f.q, put_mat(t, WANE_F32, c->m, c->k, 1, f.w), 3);
        wane_mat w = put_mat(t, WANE_F32, c->m, c->k, 1, NULL);
        RUN(t, decode, w, f.q);
        double *got = get_mat(t, w), *scale = get_mat(t, f.q.scale), gained = 0, before = 0;
        double *codes = host_bytes(t, (size_t)c->g * 8);
        for (int64_t j = 0; j < c->m * c->k / c->g; j++) {
            const double *x = f.w + j * c->g;
            double error = 0, kept = 0, size = 0, least, s = f.scale[j], z = f.zero[j], best = s;
            for (int64_t l = 0; l < c->g; l++) {
                codes[l] = f.codes[j * c->g + l];
                kept += fabs(x[l] - f.decoded[j * c->g + l]);
                size += fabs(x[l]);
                error += fabs(x[l] - got[j * c->g + l]);
            }
            least = kept;
            for (int round = 0; round < 3; round++) {
                double cross = 0, square = 0, now = 0;
                for (int64_t l = 0; l < c->g; l++)
                    cross += x[l] * (codes[l] - z), square += (codes[l] - z) * (codes[l] - z);
                if (!(square > 0) || !(cross > 0)) break;
                s = stored(c->scale_type, cross / square);
                if (!(s > 0)) s = 0x1p-24;
                for (int64_t l = 0; l < c->g; l++) {
                    codes[l] = code_of(c, x[l], s, z);
                    now += fabs(x[l] - (codes[l] - z) * s);
                }
                if (now < least) least = now, best = s;
            }
            if (!(error <= kept + 1e-6 * size))
                fail_msg("%s: refit lost: %g, was %g", t->label, error, kept);
            if (!(error <= least * 1.01 + 1e-6 * size))
                fail_msg("%s: refit got %g, not %g", t->label, error, least);
            if (error < least * (1 + 1e-5) && error > least * (1 - 1e-5))
                assert_true(fabs(scale[j] - best) <= 0.01 * best);
            gained += error, before += kept;
        }
        if (c->bits == 4 && c->k >= 64) assert_true(gained < before);
        give_back(t);
    }
}

static void row_clip_search(target *t)
{
    for (int i = 0; i < CASES * 2; i++) {
        const grid_case *c = cases + i / 2;
        int64_t m = c->m, k = c->k, g = c->g;
        if (k > 300 || c->fraction) continue;
        double *w = weights(t, c), *h = gram_of(t, k), *flat = host_bytes(t, (size_t)k * 8),
               *e = host_bytes(t, (size_t)g * 8);
        wane_mat a = put_mat(t, WANE_F32, m, k, 1, w), b = put_mat(t, WANE_F32, k, k, 3, h);
        for (int64_t j = 0; j < k; j++) flat[j] = h[j * k + j];
        if (i % 2) b = put_mat(t, WANE_F32, 1, k, 0, flat);
        wane_mat clip = put_mat(t, WANE_F32, m, k / g, 1, NULL);
        wane_qmat q = new_grid(t, c);
        RUN(t, clip_search, q, clip, a, b, 20, 0.3f);
        double *got = get_mat(t, clip);
        for (int64_t j = 0; j < m * k / g; j++) {
            double least = INFINITY, at_got = INFINITY, none = 0;
            for (int s = 0; s < 6; s++) { /* 1 .. 0.75: 0.7 is not above 0.7 */
                double factor = 1 - s / 20.0, scale, zero, loss = 0;
                fit(c, w + j * g, factor, &scale, &zero);
                for (int64_t l = 0; l < g; l++)
                    e[l] = (code_of(c, w[j * g + l], scale, zero) - zero) * scale - w[j * g + l];
                const double *part = h + (j * g % k) * k + j * g % k;
                for (int64_t r = 0; r < g; r++)
                    for (int64_t l = 0; l < g; l++)
                        if (r == l || i % 2 == 0) loss += e[r] * part[r * k + l] * e[l];
                if (loss < least) least = loss;
                if (fabs(got[j] - factor) < 1e-6) at_got = loss;
                if (!s) none = loss;
            }
            /* candidates that lose the same but for rounding are as good as each other */
            if (!(at_got <= least + 1e-3 * none + 1e-12))
                fail_msg("%s: clip %g loses %g, not %g", t->label, got[j], at_got, least);
        }
        give_back(t);
    }
}

/* What a layer does with one input: the norm, up to three products, bias, gate, residual. */
typedef struct {
    int64_t n, k;
    int parts;
    int64_t m[3];
    bool codes, gain, bias, gated, residual;
    wane_dtype type;
    bool full; /* x is F32, and of that type only behind the norm */
} products_case;

static const products_case products_cases[] = {
    {1, 256, 3, {48, 17, 20}, false, true, true, false, false, WANE_BF16, false},
    {1, 1024, 1, {40, 0, 0}, false, false, false, false, true, WANE_BF16, false},
    {3, 512, 2, {70, 70, 0}, false, true, false, true, false, WANE_BF16, false},
    {8, 256, 3, {300, 33, 31}, true, true, false, false, false, WANE_BF16, false},
    {1, 640, 2, {33, 33, 0}, true, true, true, true, true, WANE_F16, false},
    {5, 384, 1, {31, 0, 0}, true, false, true, false, true, WANE_BF16, false},
    {2, 96, 2, {16, 16, 0}, true, true, false, true, false, WANE_F32, false},
    {11, 128, 3, {33, 16, 1}, false, true, true, false, false, WANE_BF16, false},
    {20, 256, 2, {48, 48, 0}, true, true, false, true, true, WANE_F16, false},
    {1, 33, 1, {7, 0, 0}, false, true, true, false, true, WANE_F32, false},
    {1, 2560, 3, {48, 16, 16}, true, true, false, false, false, WANE_BF16, true},
    {7, 192, 2, {33, 33, 0}, false, true, true, true, false, WANE_BF16, true},
    {2, 128, 1, {20, 0, 0}, true, true, false, false, true, WANE_F16, true},
    {3, 72, 2, {9, 30, 0}, false, true, false, false, false, WANE_BF16, true},
    {19, 256, 1, {40, 0, 0}, true, true, false, false, false, WANE_BF16, true},
    {4, 1024, 2, {33, 33, 0}, true, true, false, true, true, WANE_BF16, true},
    {3, 768, 3, {40, 17, 9}, true, true, true, false, false, WANE_BF16, true},
    {8, 1536, 1, {600, 0, 0}, true, false, false, false, true, WANE_F16, false},
    {6, 1280, 2, {90, 90, 0}, true, true, false, true, false, WANE_BF16, true},
    {4, 2560, 1, {1200, 0, 0}, false, true, false, false, true, WANE_BF16, true},
    {20, 256, 1, {40, 0, 0}, false, false, false, false, true, WANE_F32, false},
    {33, 1024, 3, {260, 130, 9}, true, true, true, false, false, WANE_BF16, true},
    {64, 512, 2, {150, 150, 0}, true, true, true, true, true, WANE_BF16, true},
    {100, 1024, 1, {264, 0, 0}, true, false, true, false, true, WANE_BF16, false},
    {17, 1280, 2, {90, 90, 0}, true, true, false, true, false, WANE_F16, true},
    {150, 512, 1, {70, 0, 0}, true, false, false, false, true, WANE_F16, false},
};

static void row_products(target *t)
{
    for (size_t i = 0; i < sizeof products_cases / sizeof *products_cases; i++) {
        const products_case *c = products_cases + i;
        int64_t n = c->n, k = c->k, m = c->m[0];
        wane_mat none = {0};
        double *x = normal(t, n * k, 2), *gain = normal(t, k, 1), *add = normal(t, n * m, 3);
        double *in = host_bytes(t, (size_t)(n * k) * 8), *want[3] = {NULL, NULL, NULL};
        wane_products p = {0};
        p.x = put_mat(t, c->full ? WANE_F32 : c->type, n, k, 8, x);
        if (c->gain) p.gain = put_mat(t, WANE_BF16, 1, k, 0, gain);
        p.eps = 1e-5f;
        p.parts = c->parts;
        p.gated = c->gated;
        if (c->residual) p.residual = put_mat(t, c->type, n, m, 3, add);
        if (c->residual || c->gain) p.room = put_mat(t, c->type, n, k + m, 0, NULL);
        for (int64_t r = 0; r < n; r++) {
            double sum = 0;
            for (int64_t j = 0; j < k; j++) sum += x[r * k + j] * x[r * k + j];
            double scale = c->gain ? 1 / sqrt(sum / (double)k + (double)1e-5f) : 1;
            for (int64_t j = 0; j < k; j++)
                in[r * k + j] = stored(c->type, x[r * k + j] * scale * (c->gain ? gain[j] : 1));
        }
        for (int j = 0; j < c->parts; j++) {
            int64_t rows = c->m[j];
            const bool symmetric = i % 3 ? i % 3 == 1 : j == 1; /* all parts, none, one */
            const int64_t group = k % 64 ? 32 : k % 512 ? 64 : 128;
            const grid_case grid = {rows, k, group, 4, 0, symmetric, false, WANE_F16};
            double *bias = normal(t, rows, 1);
            want[j] = host_bytes(t, (size_t)(n * rows) * 8);
            p.part[j].y = put_mat(t, c->type, n, rows, 5, NULL);
            if (c->bias) p.part[j].bias = put_mat(t, c->type, 1, rows, 0, bias);
            if (c->codes) {
                fitted f = put_grid(t, &grid);
                p.part[j].q = f.q;
                product(want[j], in, f.decoded, n, rows, k);
            } else {
                double *w = normal(t, rows * k, 0.1);
                p.part[j].w = put_mat(t, c->type, rows, k, 8, w);
                product(want[j], in, w, n, rows, k);
            }
            for (int64_t l = 0; l < n * rows; l++) want[j][l] += c->bias ? bias[l % rows] : 0;
        }
        for (int64_t l = 0; l < n * m; l++) {
            double v = want[0][l];
            if (c->gated) v = v / (1 + exp(-v)) * want[1][l];
            want[0][l] = v + (c->residual ? add[l] : 0);
        }
        if (c->residual) p.part[0].y = p.residual;
        assert_int_equal(t->k->products(t->dev, &p), WANE_OK);
        /* slot by slot, what lies between is rounded too */
        double limit = 5 * type_limit(c->type);
        for (int j = 0; j < (c->gated ? 1 : c->parts); j++)
            check_near(t, "products", get_mat(t, p.part[j].y), want[j], n * c->m[j], limit);
        wane_products bad = p;
        bad.part[0].y.cols++;
        assert_int_equal(t->k->products(t->dev, &bad), WANE_EARG);
        bad = p, bad.parts = 4;
        assert_int_equal(t->k->products(t->dev, &bad), WANE_EARG);
        if (c->gain || c->residual) {
            bad = p, bad.room = none;
            assert_int_equal(t->k->products(t->dev, &bad), WANE_EARG);
        }
        give_back(t);
    }
}

const kernel_row kernel_rows_quant[] = {
    {"fit_grid", row_fit_grid},
    {"encode", row_codes},
    {"decode", row_codes},
    {"pack", row_codes},
    {"unpack", row_codes},
    {"qmatmul", row_qmatmul},
    {"inverse_factor", row_inverse_factor},
    {"gptq", row_gptq},
    {"hqq", row_hqq},
    {"refit", row_refit},
    {"clip_search", row_clip_search},
    {"products", row_products},
    {NULL, NULL},
};
