/* compressed_tensors.c - the format of vLLM's compressed-tensors: pack-quantized, and int-quantized
 * for W8A8.
 *
 * Layout read in the compressed-tensors project (pack_quantized and int_quantized compressors, as
 * of 0.13):
 *   X.weight_packed      I32 (m, ceil(k*b/32)), row-major; code j at bit j*b of its row, as signed
 *                        code + 2^(b-1)
 *   X.weight_scale       (m, k/g), (m,1) for whole rows, in the model's dtype
 *   X.weight_zero_point  I32 (ceil(m*b/32), k/g), only where asymmetric: packed along the outputs
 *   X.weight_shape       I64 [2] = m, k
 * and for W8A8 X.weight I8 (m,k), signed, with X.weight_scale (m,1).
 *
 * A weight is (code - zero) * scale with signed codes, so wane's unsigned codes and zeros go in as
 * they are: both sides carry the same 2^(b-1). Column order in files (g_idx) is not read: it is
 * slow everywhere. */
#include "runtime/save/reading.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool is_int8(const wane_quantized *q)
{
    return q->act_bits == 8;
}

/* Host bytes of a tensor that lies on the host device. */
static void *bytes_of(const wane_tensor *t)
{
    return wane_tensor_mat(t).data;
}

/* zero U8 (m, groups) -> I32 (words, groups), each column one stream of bits, or back. */
static wane_status zero_columns(uint8_t *zero, int32_t *packed, int64_t m, int64_t groups, int bits,
                                bool pack, wane_err *e)
{
    int64_t words = wane_words_for(m, bits);
    uint8_t *values = malloc((size_t)m);
    uint32_t *stream = malloc((size_t)words * sizeof *stream);
    wane_status s = values && stream
                        ? WANE_OK
                        : wane_fail(e, WANE_EOOM, "no memory for a column of zero points");
    for (int64_t c = 0; c < groups && !s; c++) {
        if (pack) {
            for (int64_t r = 0; r < m; r++) values[r] = zero[r * groups + c];
            wane_bits_pack(stream, values, m, bits);
            for (int64_t w = 0; w < words; w++) packed[w * groups + c] = (int32_t)stream[w];
        } else {
            for (int64_t w = 0; w < words; w++) stream[w] = (uint32_t)packed[w * groups + c];
            wane_bits_unpack(values, stream, m, bits);
            for (int64_t r = 0; r < m; r++) zero[r * groups + c] = values[r];
        }
    }
    free(values);
    free(stream);
    return s;
}

static wane_status encode_int8(const wane_quantized *q, const char *matrix, wane_device *host,
                               wane_parts *parts, wane_err *e)
{
    wane_tensor *weight = NULL;
    wane_status s = wane_tensor_new2(host, WANE_I8, q->m, q->k, &weight, e);
    if (s) return s;
    wane_mat words = wane_tensor_mat(q->words);
    int8_t *weights = bytes_of(weight);
#pragma omp parallel for
    for (int64_t r = 0; r < q->m; r++) {
        const uint8_t *from = (const uint8_t *)((const int32_t *)words.data + r * words.stride);
        int8_t *to = weights + r * q->k;
        for (int64_t c = 0; c < q->k; c++) to[c] = (int8_t)(from[c] ^ 0x80); /* code - 128 */
    }
    s = wane_parts_add(parts, matrix, "weight", weight, e);
    return s ? s : wane_parts_add(parts, matrix, "weight_scale", wane_tensor_retain(q->scale), e);
}

static wane_status encode(const wane_quantized *q, const char *matrix, wane_device *host,
                          wane_parts *parts, wane_err *e)
{
    if (is_int8(q)) return encode_int8(q, matrix, host, parts, e);
    wane_tensor *zero = NULL;
    int64_t two = 2, size[2] = {q->m, q->k}, groups = q->k / q->group;
    wane_status s = wane_parts_add(parts, matrix, "weight_packed", wane_tensor_retain(q->words), e);
    if (!s) s = wane_parts_add(parts, matrix, "weight_scale", wane_tensor_retain(q->scale), e);
    if (!s)
        s = wane_parts_add_copy(parts, matrix, "weight_shape", WANE_I64, 1, &two, size, host, e);
    if (s || !q->zero) return s;
    s = wane_tensor_new2(host, WANE_I32, wane_words_for(q->m, q->bits), groups, &zero, e);
    if (s) return s;
    s = zero_columns(bytes_of(q->zero), bytes_of(zero), q->m, groups, q->bits, true, e);
    if (!s) return wane_parts_add(parts, matrix, "weight_zero_point", zero, e);
    wane_tensor_release(zero);
    return s;
}

/* Every key and no other: the readers' schemes forbid keys they do not know. */
static wane_status config(const wane_packed_grid *g, json_t **out, wane_err *e)
{
    bool rows = g->group == -1;
    const char *format = g->act_bits == 8 ? "int-quantized" : "pack-quantized";
    json_t *ignore = g->head ? json_array() : json_pack("[s]", "lm_head");
    json_t *activations = json_null();
    if (g->act_bits == 8)
        activations = json_pack("{s:i,s:s,s:b,s:s,s:b,s:n}", "num_bits", 8, "type", "int",
                                "symmetric", 1, "strategy", "token", "dynamic", 1, "observer");
    json_t *weights =
        json_pack("{s:i,s:s,s:b,s:s,s:o,s:b,s:n,s:n,s:s,s:{}}", "num_bits", g->bits, "type", "int",
                  "symmetric", g->symmetric, "strategy", rows ? "channel" : "group", "group_size",
                  rows ? json_null() : json_integer(g->group), "dynamic", 0, "actorder",
                  "block_structure", "observer", "minmax", "observer_kwargs");
    *out = json_pack("{s:s,s:s,s:s,s:s,s:n,s:n,s:{},s:{},s:o,s:{s:{s:[s],s:s,s:o,s:n,s:o}}}",
                     "quant_method", "compressed-tensors", "version", "0.13.0", "format", format,
                     "quantization_status", "compressed", "global_compression_ratio",
                     "kv_cache_scheme", "sparsity_config", "transform_config", "ignore", ignore,
                     "config_groups", "group_0", "targets", "Linear", "format", format,
                     "input_activations", activations, "output_activations", "weights", weights);
    return *out ? WANE_OK : wane_fail(e, WANE_EOOM, "no memory for the quantization config");
}

/* ---- reading ---- */

/* What the config says of all packed matrices; the tensors have to agree. */
typedef struct {
    int bits, act_bits;
    bool symmetric;
} scheme;

/* A matrix being read. */
typedef struct {
    wane_reading at;
    scheme says;
    wane_piece codes, scale, zero;
} reading;

static bool reads(const json_t *quantization_config)
{
    return wane_json_says(quantization_config, "quant_method", "compressed-tensors");
}

static bool holds(const wane_checkpoint *c, const char *matrix)
{
    const wane_entry *weight = wane_piece_find(c, matrix, "weight").entry;
    return wane_piece_find(c, matrix, "weight_packed").entry ||
           (weight && weight->supported && weight->dtype == WANE_I8);
}

/* Schemes that would be computed differently from what they say are refused. */
static wane_status read_scheme(const wane_checkpoint *c, scheme *out, wane_err *e)
{
    const json_t *groups = json_object_get(wane_config_quantization(&c->config), "config_groups");
    if (json_object_size(groups) != 1)
        return wane_reading_unsupported(
            c, e, "wane reads one group in config_groups, neither none nor several");
    const json_t *group =
        json_object_iter_value(json_object_iter((json_t *)(uintptr_t)groups)); /* only read */
    const json_t *weights = json_object_get(group, "weights");
    const json_t *inputs = json_object_get(group, "input_activations");
    json_int_t bits = json_integer_value(json_object_get(weights, "num_bits"));
    if (!wane_json_says(weights, "type", "int") ||
        (bits != 2 && bits != 3 && bits != 4 && bits != 8))
        return wane_reading_unsupported(c, e,
                                        "weights must be of type int with 2, 3, 4 or 8 num_bits");
    *out = (scheme){(int)bits, 0, !json_is_false(json_object_get(weights, "symmetric"))};
    if (!json_is_object(inputs)) return WANE_OK;
    if (bits != 8 || json_integer_value(json_object_get(inputs, "num_bits")) != 8 ||
        !wane_json_says(inputs, "type", "int") || !wane_json_says(inputs, "strategy", "token") ||
        !json_is_true(json_object_get(inputs, "dynamic")) ||
        json_is_false(json_object_get(inputs, "symmetric")))
        return wane_reading_unsupported(
            c, e,
            "input_activations are only read with 8 bits, symmetric, dynamic, one "
            "scale a token, beside weights of 8 bits");
    out->act_bits = 8;
    return WANE_OK;
}

static wane_status check_scale(const reading *r, wane_err *e)
{
    const wane_entry *s = r->scale.entry;
    if (s && s->rank == 2 && s->shape[1] >= 1 && r->at.k % s->shape[1] == 0 &&
        wane_piece_floats(r->scale, r->at.m, s->shape[1]))
        return WANE_OK;
    return wane_piece_refuse(&r->at, r->scale, e,
                             "BF16, F16 or F32 (%" PRId64 ", groups that divide %" PRId64 ")",
                             r->at.m, r->at.k);
}

/* weight_shape is not needed, but one that says something else means other codes. */
static wane_status check_shape(const reading *r, wane_err *e)
{
    int64_t two[2] = {r->at.m, r->at.k};
    wane_piece p = wane_piece_find(r->at.c, r->at.matrix, "weight_shape");
    if (!p.entry) return WANE_OK;
    bool fits = p.entry->supported && p.entry->dtype == WANE_I64 && p.entry->rank == 1 &&
                p.entry->shape[0] == 2;
    wane_status s = fits ? wane_piece_read(p, two, e) : WANE_OK;
    if (s || (fits && two[0] == r->at.m && two[1] == r->at.k)) return s;
    return wane_piece_refuse(&r->at, p, e, "I64 (2) holding %" PRId64 ", %" PRId64, r->at.m,
                             r->at.k);
}

static wane_status check_int8(const reading *r, wane_err *e)
{
    if (!wane_piece_is(r->codes, WANE_I8, r->at.m, r->at.k) || r->says.bits != 8)
        return wane_piece_refuse(&r->at, r->codes, e,
                                 "I8 (%" PRId64 ", %" PRId64 "), with num_bits 8", r->at.m,
                                 r->at.k);
    if (r->scale.entry->shape[1] != 1)
        return wane_piece_refuse(&r->at, r->scale, e, "one scale for each row of int8");
    if (!r->says.symmetric)
        return wane_reading_unsupported(r->at.c, e,
                                        "int8 weights are only read where they are symmetric");
    return WANE_OK;
}

/* Every size is held against (m,k) and the config before anything is read. */
static wane_status check_parts(reading *r, bool *int8, wane_err *e)
{
    const wane_checkpoint *c = r->at.c;
    wane_status s = read_scheme(c, &r->says, e);
    if (s) return s;
    int bits = r->says.bits;
    *int8 = !wane_piece_find(c, r->at.matrix, "weight_packed").entry;
    r->codes = wane_piece_find(c, r->at.matrix, *int8 ? "weight" : "weight_packed");
    r->scale = wane_piece_find(c, r->at.matrix, "weight_scale");
    r->zero = wane_piece_find(c, r->at.matrix, "weight_zero_point");
    if (wane_piece_find(c, r->at.matrix, "weight_g_idx").entry)
        return wane_reading_unsupported(c, e,
                                        "columns in another order (weight_g_idx) are not read");
    s = check_scale(r, e);
    if (s) return s;
    if (*int8) return check_int8(r, e);
    int64_t groups = r->scale.entry->shape[1], words = wane_words_for(r->at.k, bits);
    if (r->says.act_bits)
        return wane_reading_unsupported(
            c, e, "packed weights are only read with activations as they are");
    if (!wane_piece_is(r->codes, WANE_I32, r->at.m, words))
        return wane_piece_refuse(&r->at, r->codes, e, "I32 (%" PRId64 ", %" PRId64 ") for %d bits",
                                 r->at.m, words, bits);
    words = wane_words_for(r->at.m, bits);
    if (!r->says.symmetric && !wane_piece_is(r->zero, WANE_I32, words, groups))
        return wane_piece_refuse(&r->at, r->zero, e,
                                 "I32 (%" PRId64 ", %" PRId64 "), as it is not symmetric", words,
                                 groups);
    return check_shape(r, e);
}

static wane_packed_about about(const reading *r)
{
    return (wane_packed_about){r->says.bits, r->says.act_bits, r->at.k / r->scale.entry->shape[1],
                               r->scale.entry->dtype, r->says.symmetric ? WANE_DTYPES : WANE_U8};
}

static wane_status inspect(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                           wane_packed_about *out, wane_err *e)
{
    reading r = {.at = {c, matrix, m, k}};
    bool int8;
    wane_status s = check_parts(&r, &int8, e);
    if (!s) *out = about(&r);
    return s;
}

static wane_status read_scale(const reading *r, wane_quantized *q, wane_err *e)
{
    wane_status s = wane_piece_read(r->scale, bytes_of(q->scale), e);
    return s ? s : wane_piece_finite(&r->at, r->scale, q->scale, e);
}

static wane_status decode_int8(const reading *r, wane_quantized *q, wane_err *e)
{
    wane_status status = read_scale(r, q, e);
    wane_mat words = wane_tensor_mat(q->words);
    if (status) return status;
#pragma omp parallel for schedule(dynamic, 64)
    for (int64_t row = 0; row < r->at.m; row++) {
        wane_err why;
        uint8_t *codes = (uint8_t *)((int32_t *)words.data + row * words.stride);
        memset(codes, 0, (size_t)words.cols * 4); /* the last word's unused bytes */
        wane_status s =
            wane_safetensors_read(r->codes.file, r->codes.entry, (uint64_t)(row * r->at.k),
                                  (uint64_t)r->at.k, codes, &why);
        for (int64_t i = 0; i < r->at.k && !s; i++) codes[i] ^= 0x80; /* code + 128 */
        if (!s) continue;
#pragma omp critical
        {
            status = s;
            if (e) *e = why;
        }
    }
    return status;
}

static wane_status decode_packed(const reading *r, wane_quantized *q, wane_device *host,
                                 wane_err *e)
{
    wane_tensor *stream = NULL;
    wane_status s = wane_piece_read(r->codes, bytes_of(q->words), e);
    if (!s) s = read_scale(r, q, e);
    if (s || !q->zero) return s;
    s = wane_piece_load(r->zero, host, &stream, e);
    if (!s)
        s = zero_columns(bytes_of(q->zero), bytes_of(stream), q->m, q->k / q->group, q->bits, false,
                         e);
    wane_tensor_release(stream);
    return s;
}

static wane_status read(const wane_checkpoint *c, const char *matrix, wane_quantized *q,
                        wane_device *host, wane_err *e)
{
    reading r = {.at = {c, matrix, q->m, q->k}};
    bool int8;
    wane_status s = check_parts(&r, &int8, e);
    if (s) return s;
    return int8 ? decode_int8(&r, q, e) : decode_packed(&r, q, host, e);
}

const wane_packing wane_packing_compressed_tensors = {
    .name = "compressed-tensors",
    .doc = "vLLM's own, holds every grid: pack-quantized at 2, 3, 4 and 8 bits, int-quantized for "
           "W8A8",
    .scale = WANE_DTYPES,
    .zeros = WANE_ZEROS_WHOLE,
    .reads = reads,
    .encode = encode,
    .config = config,
    .holds = holds,
    .inspect = inspect,
    .read = read,
};
