/* synth.c - see synth.h.
 *
 * Weights are normal, with the deviations at which a network of this shape keeps its activations in
 * scale: 1/sqrt(k), divided by sqrt(2 layers) where the residual stream is added to. As in trained
 * models a few channels are loud: about one of 256 of the hidden ones, by the norms' gains, and of
 * the MLP's, by rows of up_proj; the matrices that read them are quieter there. So methods that
 * look at activations have something to find.
 *
 * A value depends on the seed, its tensor's name and its place alone: 64 bits of a counter through
 * splitmix64 (Steele, Lea, Flood 2014) give four of them, as 12-bit places in a table of normal
 * quantiles. Pieces of a file are made and written by all threads, in any order. */
#include "runtime/save/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/base/units.h"

enum { QUANTILES = 4096, LOUD = 256, PIECE = 2 << 20, PATH = 4096 };

static const float GAIN = 12, QUIET = 0.25f; /* of loud channels, and of what reads them */

typedef struct {
    const char *dir;
    uint64_t seed;
    const wane_config *config;
    const wane_device *poll;
    wane_expected *tensor; /* [count] owned, as the arrays below */
    size_t count;
    uint64_t *place; /* [count] first byte within its shard's data */
    int *shard;      /* [count] from 0 */
    int shards;
    float *hidden, *mlp; /* [hidden], [mlp] what multiplies a column that reads such a channel */
    float normal[QUANTILES];
} synth;

/* A stretch of whole rows of one tensor. */
typedef struct {
    size_t tensor;
    int64_t row, rows;
} piece;

static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t key_of(const synth *y, const char *name)
{
    uint64_t key = mix(y->seed);
    for (; *name; name++) key = mix(key ^ (unsigned char)*name);
    return key;
}

/* The normal deviate below which a share p lies, by bisection of erfc: once for each place. */
static float quantile(double p)
{
    double low = -8, high = 8;
    for (int i = 0; i < 60; i++) {
        double middle = (low + high) / 2;
        if (erfc(-middle / sqrt(2)) / 2 < p)
            low = middle;
        else
            high = middle;
    }
    return (float)low;
}

static bool loud(const synth *y, const char *what, int64_t channel)
{
    return mix(key_of(y, what) ^ (uint64_t)channel) % LOUD == 0;
}

static uint16_t bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Rows of a matrix; deviation times column[j], where there are columns, times 1/QUIET for loud rows
 * of up_proj. */
static void fill_matrix(const synth *y, const wane_expected *t, int64_t first, int64_t rows,
                        uint16_t *out)
{
    int64_t k = t->shape[1], quads = (k + 3) / 4;
    bool table = wane_ends(t->name, "embed_tokens.weight") || wane_ends(t->name, "lm_head.weight");
    bool down = wane_ends(t->name, "down_proj.weight"), up = wane_ends(t->name, "up_proj.weight");
    bool adds = down || wane_ends(t->name, "o_proj.weight");
    const float *column = down ? y->mlp : table || adds ? NULL : y->hidden;
    double deviation = table ? 2.5 / sqrt((double)k) : 1 / sqrt((double)k);
    if (adds) deviation /= sqrt(2.0 * (double)y->config->layers);
    uint64_t key = key_of(y, t->name);
    for (int64_t r = first; r < first + rows; r++, out += k) {
        float scale = (float)deviation;
        if (up && y->mlp[r] != 1) scale /= QUIET;
        for (int64_t q = 0; q < quads; q++) {
            uint64_t bits = mix(key + (uint64_t)(r * quads + q));
            int64_t end = k - q * 4 < 4 ? k : q * 4 + 4;
            for (int64_t j = q * 4; j < end; j++, bits >>= 16) {
                float v = y->normal[bits & (QUANTILES - 1)] * scale;
                out[j] = bf16(column ? v * column[j] : v);
            }
        }
    }
}

/* Gains of norms are near 1, loud ones apart; biases are small. */
static void fill_vector(const synth *y, const wane_expected *t, uint16_t *out)
{
    uint64_t key = key_of(y, t->name);
    bool bias = wane_ends(t->name, ".bias"), reads = wane_ends(t->name, "layernorm.weight");
    for (int64_t j = 0; j < t->shape[0]; j++) {
        float v = y->normal[mix(key + (uint64_t)j) & (QUANTILES - 1)];
        float gain = 1 + 0.05f * v;
        if (reads && y->hidden[j] != 1) gain *= GAIN;
        out[j] = bf16(bias ? 0.02f * v : gain);
    }
}

static int64_t rows_of(const wane_expected *t)
{
    return t->rank == 1 ? 1 : t->shape[0];
}

static int64_t cols_of(const wane_expected *t)
{
    return t->rank == 1 ? t->shape[0] : t->shape[1];
}

static uint64_t bytes_of(const wane_expected *t)
{
    return (uint64_t)(rows_of(t) * cols_of(t)) * 2;
}

static wane_status prepare(synth *y, uint64_t shard_bytes, uint64_t *bytes, wane_err *e)
{
    const wane_config *c = y->config;
    wane_status s = wane_config_expect(c, &y->tensor, &y->count, e);
    if (s) return s;
    y->place = calloc(y->count, sizeof *y->place);
    y->shard = calloc(y->count, sizeof *y->shard);
    y->hidden = calloc((size_t)c->hidden, sizeof *y->hidden);
    y->mlp = calloc((size_t)c->mlp, sizeof *y->mlp);
    if (!y->place || !y->shard || !y->hidden || !y->mlp)
        return wane_fail(e, WANE_EOOM, "host: no memory to make a model up");
    for (int i = 0; i < QUANTILES; i++) y->normal[i] = quantile((i + 0.5) / QUANTILES);
    for (int64_t j = 0; j < c->hidden; j++) y->hidden[j] = loud(y, "hidden", j) ? QUIET : 1;
    for (int64_t j = 0; j < c->mlp; j++) y->mlp[j] = loud(y, "mlp", j) ? QUIET : 1;
    uint64_t filled = 0;
    *bytes = 0;
    for (size_t i = 0; i < y->count; i++) {
        uint64_t size = bytes_of(&y->tensor[i]);
        if (filled && filled + size > shard_bytes) y->shards++, filled = 0;
        y->shard[i] = y->shards;
        y->place[i] = filled;
        filled += size;
        *bytes += size;
    }
    y->shards++;
    return WANE_OK;
}

static void shard_name(const synth *y, int shard, char out[64])
{
    if (y->shards == 1)
        snprintf(out, 64, "model.safetensors");
    else
        snprintf(out, 64, "model-%05d-of-%05d.safetensors", shard + 1, y->shards);
}

/* The header of a shard, padded to 8 bytes; the caller's to free. *data: bytes that follow it. */
static char *make_header(const synth *y, int shard, size_t *length, uint64_t *data)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, length);
    if (!f) return NULL;
    *data = 0;
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", f);
    for (size_t i = 0; i < y->count; i++) {
        const wane_expected *t = &y->tensor[i];
        if (y->shard[i] != shard) continue;
        *data = y->place[i] + bytes_of(t);
        fprintf(f, ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%" PRId64, t->name, t->shape[0]);
        if (t->rank == 2) fprintf(f, ",%" PRId64, t->shape[1]);
        fprintf(f, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", y->place[i], *data);
    }
    fputc('}', f);
    for (long n = ftell(f); n % 8; n++) fputc(' ', f);
    bool bad = ferror(f);
    if (fclose(f) || bad) {
        free(text);
        return NULL;
    }
    return text;
}

/* The shard's tensors cut into pieces of about PIECE bytes; the caller's to free. */
static piece *cut(const synth *y, int shard, size_t *count)
{
    size_t n = 0;
    piece *list = NULL;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (size_t i = 0; i < y->count; i++) {
            const wane_expected *t = &y->tensor[i];
            if (y->shard[i] != shard) continue;
            int64_t rows = rows_of(t), most = PIECE / (cols_of(t) * 2);
            if (most < 1) most = 1;
            for (int64_t r = 0; r < rows; r += most, n++)
                if (list) list[n] = (piece){i, r, rows - r < most ? rows - r : most};
        }
        if (!list && !(list = calloc(n ? n : 1, sizeof *list))) return NULL;
    }
    *count = n;
    return list;
}

static wane_status write_piece(const synth *y, const piece *p, wane_writer *w, uint64_t data,
                               uint16_t *out, wane_err *e)
{
    const wane_expected *t = &y->tensor[p->tensor];
    size_t bytes = (size_t)(p->rows * cols_of(t)) * 2;
    uint64_t at = data + y->place[p->tensor] + (uint64_t)(p->row * cols_of(t)) * 2;
    if (t->rank == 1)
        fill_vector(y, t, out);
    else
        fill_matrix(y, t, p->row, p->rows, out);
    return wane_writer_write_at(w, at, out, bytes, e);
}

/* All pieces, by all threads; the first failure ends it. */
static wane_status write_pieces(const synth *y, const piece *list, size_t count, wane_writer *w,
                                uint64_t data, wane_err *e)
{
    size_t largest = 0;
    atomic_int failed = 0;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = (size_t)(list[i].rows * cols_of(&y->tensor[list[i].tensor])) * 2;
        if (bytes > largest) largest = bytes;
    }
#pragma omp parallel
    {
        uint16_t *out = malloc(largest ? largest : 1);
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < count; i++) {
            wane_err why;
            wane_status s = WANE_OK;
            if (atomic_load(&failed)) continue;
            if (!out) s = wane_fail(&why, WANE_EOOM, "host: no memory for a piece of a file");
            if (!s) s = wane_device_poll(y->poll, &why);
            if (!s) s = write_piece(y, &list[i], w, data, out, &why);
            if (s && !atomic_exchange(&failed, (int)s) && e) *e = why;
        }
        free(out);
    }
    return (wane_status)atomic_load(&failed);
}

static wane_status write_shard(const synth *y, int shard, wane_err *e)
{
    char path[PATH], name[64];
    size_t length = 0, count = 0;
    uint64_t data = 0;
    uint8_t start[8];
    wane_writer *w = NULL;
    shard_name(y, shard, name);
    snprintf(path, sizeof path, "%s/%s", y->dir, name);
    char *header = make_header(y, shard, &length, &data);
    piece *list = cut(y, shard, &count);
    wane_status s = WANE_OK;
    if (!header || !list) s = wane_fail(e, WANE_EOOM, "host: no memory to write %s", name);
    for (int i = 0; i < 8; i++) start[i] = (uint8_t)((uint64_t)length >> (8 * i));
    if (!s) s = wane_writer_open(path, &w, e);
    if (!s) s = wane_writer_reserve(w, 8 + length + data, e);
    if (!s) s = wane_writer_write(w, start, sizeof start, e);
    if (!s) s = wane_writer_write(w, header, length, e);
    if (!s) s = write_pieces(y, list, count, w, 8 + length, e);
    if (!s) {
        s = wane_writer_commit(w, e);
        w = NULL;
    }
    wane_writer_discard(w);
    free(header);
    free(list);
    return s;
}

static wane_status write_index(const synth *y, uint64_t bytes, wane_err *e)
{
    char path[PATH], name[64];
    json_t *map = json_object();
    wane_status s = WANE_OK;
    if (y->shards == 1) goto done;
    for (size_t i = 0; i < y->count && !s; i++) {
        shard_name(y, y->shard[i], name);
        if (json_object_set_new(map, y->tensor[i].name, json_string(name)))
            s = wane_fail(e, WANE_EOOM, "no memory for the index");
    }
    json_t *index =
        json_pack("{s:{s:I},s:O}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map);
    char *text = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(index);
    if (!s && !text) s = wane_fail(e, WANE_EOOM, "no memory for the index");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", y->dir);
    if (!s) s = wane_file_write_all(path, text, strlen(text), e);
    free(text);
done:
    json_decref(map);
    return s;
}

/* Headers, index and config agree, as a reader sees them. */
static wane_status prove(const char *dir, wane_err *e)
{
    wane_checkpoint *c = NULL;
    wane_status s = wane_checkpoint_open(dir, &c, e);
    if (!s) s = wane_checkpoint_check_dense(c, e);
    wane_checkpoint_release(c);
    return s;
}

wane_status wane_synth(const char *dir, uint64_t seed, uint64_t shard_bytes,
                       const wane_device *poll, uint64_t *bytes, wane_err *e)
{
    wane_config config;
    *bytes = 0;
    if (strlen(dir) > PATH - 64) return wane_fail(e, WANE_EARG, "the folder's name is too long");
    wane_status s = wane_config_load(dir, &config, e);
    if (s) return s;
    synth *y = calloc(1, sizeof *y);
    if (!y) {
        wane_config_free(&config);
        return wane_fail(e, WANE_EOOM, "host: no memory to make a model up");
    }
    y->dir = dir;
    y->seed = seed;
    y->config = &config;
    y->poll = poll;
    s = prepare(y, shard_bytes, bytes, e);
    for (int i = 0; i < y->shards && !s; i++) s = write_shard(y, i, e);
    if (!s) s = write_index(y, *bytes, e);
    if (!s) s = prove(dir, e);
    free(y->tensor);
    free(y->place);
    free(y->shard);
    free(y->hidden);
    free(y->mlp);
    free(y);
    wane_config_free(&config);
    if (s) wane_err_at(e, "synth", NULL, dir);
    return s;
}
