/* grid.c - from weights to codes and back: fit_grid, encode, decode, pack, unpack, clip_search.
 *
 * The grid of a group is s = (max - min) / (2^b - 1), z = round(-min / s), with 0 between min and
 * max (asymmetric), or s = 2 max|w| / (2^b - 1), z = 2^(b-1) (symmetric); for 8-bit products in
 * integers s = max|w| / 127 and codes 1..255, so that no weight is -128. The scale is rounded to
 * its stored type first; zero and codes follow from what was stored. code = round(w / s) + z,
 * halves to even, and round(w / s + z) where z is a fraction (HQQ).
 *
 * A group of zeros gets the least scale, 1e-8, and decodes to zeros; a stored type that has no such
 * number gets its own least one. */
#include <cblas.h>

#include "kernels/cpu/cpu.h"

bool cpu_valid_grid(const wane_qmat *q, int64_t m, bool words)
{
    if (q->k <= 0 || q->group <= 0 || q->k % q->group ||
        (q->bits != 2 && q->bits != 3 && q->bits != 4 && q->bits != 8))
        return false;
    int64_t groups = q->k / q->group;
    if (!cpu_is_floats(q->scale, m, groups)) return false;
    if (q->zero.data && !cpu_is(q->zero, WANE_U8, m, groups) &&
        !cpu_is(q->zero, WANE_F32, m, groups))
        return false;
    if (q->act_bits && (q->act_bits != 8 || q->bits != 8 || q->zero.data || groups != 1))
        return false;
    return !words || cpu_is(q->words, WANE_I32, m, (q->k * q->bits + 31) / 32);
}

float cpu_scale_round(const wane_qmat *q, float scale)
{
    switch (q->scale.dtype) {
    case WANE_F16: {
        float s = cpu_from_f16(cpu_to_f16(scale));
        return s >= 0x1p-24f ? s <= 65504 ? s : 65504 : 0x1p-24f; /* f16's least and largest */
    }
    case WANE_BF16: {
        float s = cpu_from_bf16(cpu_to_bf16(scale));
        return s <= 0x1.fep127f ? s : 0x1.fep127f;
    }
    default: return scale <= 0x1.fffffep127f ? scale : 0x1.fffffep127f;
    }
}

static float nearest_code(float x, float snap) /* as in loops.h */
{
    return ((x + snap) - snap + 0x1.8p23f) - 0x1.8p23f;
}

/* Everything of a grid but its scale and zero. */
static cpu_grid grid_of(const wane_qmat *q)
{
    cpu_grid g = {.most = (float)((1 << q->bits) - 1), .least = q->act_bits ? 1 : 0};
    g.float_zero = q->zero.data && q->zero.dtype == WANE_F32;
    g.zero = (float)(1 << (q->bits - 1));
    g.snap = (float)(3 << q->bits);
    return g;
}

cpu_grid cpu_fit(const wane_dev *d, const wane_qmat *q, const float *w, float clip)
{
    cpu_grid g = grid_of(q);
    float low, high;
    d->loops->range(&low, &high, w, q->group);
    low *= clip;
    high *= clip;
    if (q->zero.data) {
        g.scale = cpu_scale_round(q, fmaxf((high - low) / g.most, 1e-8f));
        g.zero = fminf(fmaxf(nearest_code(-low / g.scale, g.snap), 0), g.most);
    } else {
        float top = fmaxf(-low, high);
        g.scale = cpu_scale_round(q, fmaxf(q->act_bits ? top / 127 : 2 * top / g.most, 1e-8f));
    }
    return g;
}

cpu_grid cpu_grid_at(const wane_qmat *q, int64_t row, int64_t group)
{
    cpu_grid g = grid_of(q);
    g.scale = cpu_get(q->scale, row, group);
    if (q->zero.data) g.zero = cpu_get(q->zero, row, group);
    return g;
}

void cpu_grid_put(const wane_qmat *q, int64_t row, int64_t group, const cpu_grid *g)
{
    cpu_set(q->scale, row, group, g->scale);
    if (q->zero.data) cpu_set(q->zero, row, group, g->zero);
}

static const uint32_t *words_of(const wane_qmat *q, int64_t row)
{
    return cpu_at(q->words, row, 0);
}

void cpu_decode_part(const wane_dev *d, float *w, const wane_qmat *q, int64_t row, int64_t first,
                     int64_t n)
{
    uint8_t codes[CPU_CHUNK];
    for (int64_t at = first; at < first + n;) {
        int64_t group = at / q->group, end = cpu_min((group + 1) * q->group, first + n);
        int64_t count = cpu_min(end - at, CPU_CHUNK);
        cpu_grid g = cpu_grid_at(q, row, group);
        d->loops->unpack(codes, words_of(q, row), at, count, q->bits);
        d->loops->decode(w + (at - first), codes, count, g.scale, g.zero);
        at += count;
    }
}

wane_status cpu_fit_grid(wane_dev *d, wane_qmat q, wane_mat w, wane_mat clip)
{
    int64_t m = w.rows;
    if (!cpu_valid_grid(&q, m, false) || !cpu_is(w, WANE_F32, m, q.k) ||
        (clip.data && !cpu_is(clip, WANE_F32, m, q.k / q.group)))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (m * q.k > CPU_SMALL)
    for (int64_t row = 0; row < m; row++) {
        for (int64_t i = 0; i < q.k / q.group; i++) {
            float factor = clip.data ? cpu_f32(clip, row)[i] : 1;
            cpu_grid g = cpu_fit(d, &q, cpu_f32(w, row) + i * q.group, factor);
            cpu_grid_put(&q, row, i, &g);
        }
    }
    return WANE_OK;
}

/* A row's codes are packed as they come: CPU_CHUNK codes fill whole words at every width. */
wane_status cpu_encode(wane_dev *d, wane_qmat q, wane_mat w)
{
    int64_t m = w.rows;
    if (!cpu_valid_grid(&q, m, true) || !cpu_is(w, WANE_F32, m, q.k)) return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (m * q.k > CPU_SMALL)
    for (int64_t row = 0; row < m; row++) {
        uint8_t codes[CPU_CHUNK];
        for (int64_t at = 0; at < q.k; at += CPU_CHUNK) {
            int64_t n = cpu_min(CPU_CHUNK, q.k - at);
            for (int64_t i = at; i < at + n;) {
                int64_t group = i / q.group, end = cpu_min((group + 1) * q.group, at + n);
                cpu_grid g = cpu_grid_at(&q, row, group);
                d->loops->encode(codes + (i - at), cpu_f32(w, row) + i, end - i, &g);
                i = end;
            }
            d->loops->pack((uint32_t *)cpu_at(q.words, row, 0) + at * q.bits / 32, codes, n,
                           q.bits);
        }
    }
    return WANE_OK;
}

wane_status cpu_decode(wane_dev *d, wane_mat w, wane_qmat q)
{
    int64_t m = w.rows;
    if (!cpu_valid_grid(&q, m, true) || !cpu_is_floats(w, m, q.k)) return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (m * q.k > CPU_SMALL)
    for (int64_t row = 0; row < m; row++) {
        float buffer[CPU_CHUNK];
        for (int64_t at = 0; at < q.k; at += CPU_CHUNK) {
            int64_t n = cpu_min(CPU_CHUNK, q.k - at);
            cpu_decode_part(d, buffer, &q, row, at, n);
            d->loops->store(cpu_at(w, row, at), buffer, w.dtype, n);
        }
    }
    return WANE_OK;
}

/* Words alone: pack and unpack ask nothing of scale and zero. */
static bool valid_words(const wane_qmat *q, wane_mat codes)
{
    return q->k > 0 && (q->bits == 2 || q->bits == 3 || q->bits == 4 || q->bits == 8) &&
           cpu_is(codes, WANE_U8, q->words.rows, q->k) &&
           cpu_is(q->words, WANE_I32, codes.rows, (q->k * q->bits + 31) / 32);
}

wane_status cpu_pack(wane_dev *d, wane_qmat q, wane_mat codes)
{
    if (!valid_words(&q, codes)) return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (codes.rows * q.k > CPU_SMALL)
    for (int64_t row = 0; row < codes.rows; row++)
        d->loops->pack(cpu_at(q.words, row, 0), cpu_at(codes, row, 0), q.k, q.bits);
    return WANE_OK;
}

wane_status cpu_unpack(wane_dev *d, wane_mat codes, wane_qmat q)
{
    if (!valid_words(&q, codes)) return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (codes.rows * q.k > CPU_SMALL)
    for (int64_t row = 0; row < codes.rows; row++)
        d->loops->unpack(cpu_at(codes, row, 0), words_of(&q, row), 0, q.k, q.bits);
    return WANE_OK;
}

/* Candidates are 1, 1 - 1/steps, ... above 1 - most; the tolerance keeps a product such as
 * 0.3f * 20, just above 6, from adding 1 - 6/20 itself. */
static int candidates(int steps, float most)
{
    int n = 0;
    while (n < steps && (float)n + 1e-3f < most * (float)steps) n++;
    return n ? n : 1;
}

/* Loss of each row of delta (rows,g) under a square of h, or its diagonal where square is false. */
static void losses(float *loss, const float *delta, int64_t rows, int64_t g, const float *h,
                   int64_t h_stride, bool square, float *product, const wane_dev *d)
{
    if (square) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)g, (int)g, 1, delta,
                    (int)g, h, (int)h_stride, 0, product, (int)g);
    } else {
        for (int64_t i = 0; i < rows; i++)
            d->loops->binary(product + i * g, delta + i * g, h, g, WANE_MUL);
    }
    for (int64_t i = 0; i < rows; i++) loss[i] = d->loops->dot(product + i * g, delta + i * g, g);
}

/* A task is one group of CLIP_ROWS rows; large groups take fewer rows, to fit the scratch. */
wane_status cpu_clip_search(wane_dev *d, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h,
                            int steps, float most)
{
    enum { CLIP_ROWS = 64 };
    int64_t m = w.rows, g = q.group;
    if (!cpu_valid_grid(&q, m, false) || !cpu_is(w, WANE_F32, m, q.k) ||
        !cpu_is(clip, WANE_F32, m, q.k / g) || steps < 1 || !(most >= 0 && most < 1))
        return WANE_EARG;
    bool square = h.rows == q.k && !(h.rows == 1 && q.k == 1);
    if (!cpu_is(h, WANE_F32, square ? q.k : 1, q.k) || h.stride > INT32_MAX) return WANE_EARG;
    int64_t room = CPU_THREAD_BYTES / (int64_t)sizeof(float) / 3 / g; /* delta, product, codes */
    if (room < 1) return WANE_EARG;
    int64_t rows_most = cpu_min(room, CLIP_ROWS), blocks = cpu_tiles(m, rows_most);
    int count = candidates(steps, most);
#pragma omp parallel num_threads(d->threads)
    {
        cpu_solo();
        float *delta = cpu_mine(d), *product = delta + rows_most * g;
        uint8_t *codes = (uint8_t *)(product + rows_most * g);
        float loss[CLIP_ROWS], least[CLIP_ROWS];
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < blocks * (q.k / g); t++) {
            int64_t group = t / blocks, row = t % blocks * rows_most,
                    rows = cpu_min(rows_most, m - row);
            const float *part =
                square ? cpu_f32(h, group * g) + group * g : cpu_f32(h, 0) + group * g;
            for (int c = 0; c < count; c++) {
                float factor = 1 - (float)c / (float)steps;
                for (int64_t i = 0; i < rows; i++) {
                    const float *from = cpu_f32(w, row + i) + group * g;
                    cpu_grid grid = cpu_fit(d, &q, from, factor);
                    d->loops->encode(codes, from, g, &grid);
                    d->loops->decode(delta + i * g, codes, g, grid.scale, grid.zero);
                    d->loops->binary(delta + i * g, delta + i * g, from, g, WANE_SUB);
                }
                losses(loss, delta, rows, g, part, h.stride, square, product, d);
                for (int64_t i = 0; i < rows; i++) {
                    if (c && !(loss[i] < least[i])) continue; /* a tie keeps the wider range */
                    least[i] = loss[i];
                    cpu_f32(clip, row + i)[group] = factor;
                }
            }
        }
    }
    return WANE_OK;
}
