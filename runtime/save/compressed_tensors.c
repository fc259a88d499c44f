/* compressed_tensors.c - the format of vLLM's compressed-tensors: pack-quantized, and int-quantized
 * for W8A8.
 *
 * Layout read in the compressed-tensors project (pack_quantized and int_quantized compressors, as
 * of 0.13): X.weight_packed      I32 (m, ceil(k*b/32))  row-major; code j at bit j*b of its row:
 * signed code + 2^(b-1) X.weight_scale       (m, k/g), (m,1) for whole rows, in the model's dtype
 *   X.weight_zero_point  I32 (ceil(m*b/32), k/g), only where asymmetric: packed along the outputs
 *   X.weight_shape       I64 [2] = m, k
 * and for W8A8 X.weight I8 (m,k), signed, with X.weight_scale (m,1).
 * A weight is (code - zero) * scale with signed codes, so wane's unsigned codes and zeros go in as
 * they are: both sides carry the same 2^(b-1). Column order in files (g_idx) is not read: it is
 * slow everywhere. */
#include "runtime/save/packing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_int8(const wane_quantized *q)
{
    return q->act_bits == 8;
}

static wane_status check(const wane_quantized *q, const char *matrix, wane_err *e)
{
    if (q->zero && q->zero->dtype != WANE_U8) {
        wane_fail(e, WANE_EUNSUPPORTED,
                  "%s has fractional zero points, compressed-tensors stores whole ones: quantize "
                  "with zero = "
                  "\"integer\"",
                  matrix);
        return wane_err_at(e, "save", matrix, NULL);
    }
    return WANE_OK;
}

/* Host bytes of a tensor that lies on the host device. */
static void *bytes_of(const wane_tensor *t)
{
    return wane_tensor_mat(t).data;
}

static wane_status new_tensor(wane_device *host, wane_dtype dtype, int64_t rows, int64_t cols,
                              wane_tensor **out, wane_err *e)
{
    return wane_tensor_new2(host, dtype, rows, cols, out, e);
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
    wane_status s = new_tensor(host, WANE_I8, q->m, q->k, &weight, e);
    if (s) return s;
    wane_mat words = wane_tensor_mat(q->words);
    for (int64_t r = 0; r < q->m; r++) {
        const uint8_t *from = (const uint8_t *)((const int32_t *)words.data + r * words.stride);
        int8_t *to = (int8_t *)bytes_of(weight) + r * q->k;
        for (int64_t c = 0; c < q->k; c++) to[c] = (int8_t)(from[c] ^ 0x80); /* code - 128 */
    }
    s = wane_parts_add(parts, matrix, "weight", weight, e);
    return s ? s : wane_parts_add(parts, matrix, "weight_scale", wane_tensor_retain(q->scale), e);
}

static wane_status encode(const wane_quantized *q, const char *matrix, wane_device *host,
                          wane_parts *parts, wane_err *e)
{
    wane_status s = check(q, matrix, e);
    if (s) return s;
    if (is_int8(q)) return encode_int8(q, matrix, host, parts, e);
    wane_tensor *shape = NULL, *zero = NULL;
    int64_t two = 2, size[2] = {q->m, q->k}, groups = q->k / q->group;
    s = wane_parts_add(parts, matrix, "weight_packed", wane_tensor_retain(q->words), e);
    if (!s) s = wane_parts_add(parts, matrix, "weight_scale", wane_tensor_retain(q->scale), e);
    if (!s) s = wane_tensor_new(host, WANE_I64, 1, &two, &shape, e);
    if (!s) {
        memcpy(bytes_of(shape), size, sizeof size);
        s = wane_parts_add(parts, matrix, "weight_shape", shape, e);
    }
    if (s || !q->zero) return s;
    s = new_tensor(host, WANE_I32, wane_words_for(q->m, q->bits), groups, &zero, e);
    if (s) return s;
    s = zero_columns(bytes_of(q->zero), bytes_of(zero), q->m, groups, q->bits, true, e);
    if (s) {
        wane_tensor_release(zero);
        return s;
    }
    return wane_parts_add(parts, matrix, "weight_zero_point", zero, e);
}

/* Every key and no other: the readers' schemes forbid keys they do not know. */
static wane_status config(const wane_packed_grid *g, json_t **out, wane_err *e)
{
    bool rows = g->group == -1;
    const char *format = g->act_bits == 8 ? "int-quantized" : "pack-quantized";
    json_t *ignore = json_array(), *activations = json_null();
    for (int i = 0; g->dense[i]; i++) json_array_append_new(ignore, json_string(g->dense[i]));
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

static const wane_entry *part(const wane_checkpoint *c, const char *matrix, const char *suffix,
                              const wane_safetensors **where)
{
    char name[512];
    snprintf(name, sizeof name, "%s.%s", matrix, suffix);
    return wane_checkpoint_find(c, name, where);
}

static bool reads(const json_t *quantization_config)
{
    const char *method = json_string_value(json_object_get(quantization_config, "quant_method"));
    return method && !strcmp(method, "compressed-tensors");
}

static bool holds(const wane_checkpoint *c, const char *matrix)
{
    const wane_entry *weight = part(c, matrix, "weight", NULL);
    return part(c, matrix, "weight_packed", NULL) ||
           (weight && weight->supported && weight->dtype == WANE_I8);
}

static wane_status refuse(const char *matrix, const char *why, wane_err *e)
{
    wane_fail(e, WANE_EFORMAT, "%s: %s", matrix, why);
    return wane_err_at(e, "load", matrix, NULL);
}

/* Whether activations are rounded to int8 too: read off the config, of the first group. */
static int act_bits(const wane_checkpoint *c)
{
    const json_t *groups = json_object_get(wane_config_quantization(&c->config), "config_groups");
    void *first = json_object_iter((json_t *)(uintptr_t)groups);
    const json_t *activations = json_object_get(json_object_iter_value(first), "input_activations");
    return json_integer_value(json_object_get(activations, "num_bits")) == 8 ? 8 : 0;
}

/* The scale's columns tell the group; every size is held against (m,k) before anything is read. */
static wane_status decode_int8(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                               wane_device *host, wane_quantized **out, wane_err *e)
{
    const wane_safetensors *in_weight, *in_scale;
    const wane_entry *weight = part(c, matrix, "weight", &in_weight);
    const wane_entry *scale = part(c, matrix, "weight_scale", &in_scale);
    wane_quantized *q = NULL;
    if (weight->rank != 2 || weight->shape[0] != m || weight->shape[1] != k)
        return refuse(matrix, "int8 weight is not of the shape that the config implies", e);
    if (!scale || !wane_entry_floating(scale) || scale->rank != 2 || scale->shape[0] != m ||
        scale->shape[1] != 1)
        return refuse(matrix, "int8 weight without a scale for each row", e);
    wane_status s =
        wane_quantized_new(host, m, k, 8, -1, act_bits(c), scale->dtype, WANE_DTYPES, &q, e);
    if (!s)
        s = wane_safetensors_read(in_scale, scale, 0, scale->end - scale->begin, bytes_of(q->scale),
                                  e);
    wane_mat words = s ? (wane_mat){0} : wane_tensor_mat(q->words);
    for (int64_t r = 0; r < m && !s; r++) {
        uint8_t *row = (uint8_t *)((int32_t *)words.data + r * words.stride);
        memset(row, 0, (size_t)words.cols * 4); /* the last word's unused bytes */
        s = wane_safetensors_read(in_weight, weight, (uint64_t)(r * k), (uint64_t)k, row, e);
        for (int64_t i = 0; i < k; i++) row[i] ^= 0x80;
    }
    if (s)
        wane_quantized_release(q);
    else
        *out = q;
    return s;
}

static wane_status decode(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                          wane_device *host, wane_quantized **out, wane_err *e)
{
    const wane_safetensors *in_packed, *in_scale, *in_zero;
    const wane_entry *packed = part(c, matrix, "weight_packed", &in_packed);
    const wane_entry *scale = part(c, matrix, "weight_scale", &in_scale);
    const wane_entry *zero = part(c, matrix, "weight_zero_point", &in_zero);
    wane_quantized *q = NULL;
    int32_t *stream = NULL;
    *out = NULL;
    if (part(c, matrix, "weight_g_idx", NULL))
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "%s: columns in another order (weight_g_idx) are not read", matrix);
    if (!packed) return decode_int8(c, matrix, m, k, host, out, e);
    if (!packed->supported || packed->dtype != WANE_I32 || packed->rank != 2 ||
        packed->shape[0] != m)
        return refuse(matrix, "weight_packed is not I32 with a row for each output", e);
    if (!scale || !wane_entry_floating(scale) || scale->rank != 2 || scale->shape[0] != m ||
        scale->shape[1] < 1 || k % scale->shape[1])
        return refuse(matrix, "weight_scale is missing, or not a scale for each row and group", e);
    static const int known[] = {2, 3, 4, 8};
    int bits = 0;
    for (int i = 0; i < 4; i++)
        if (wane_words_for(k, known[i]) == packed->shape[1]) bits = known[i];
    if (!bits)
        return refuse(matrix, "weight_packed has no width that 2, 3, 4 or 8 bits would give", e);
    int64_t groups = scale->shape[1];
    if (zero && (!zero->supported || zero->dtype != WANE_I32 || zero->rank != 2 ||
                 zero->shape[0] != wane_words_for(m, bits) || zero->shape[1] != groups))
        return refuse(matrix, "weight_zero_point is not of the size that the scale implies", e);
    wane_status s = wane_quantized_new(host, m, k, bits, k / groups, 0, scale->dtype,
                                       zero ? WANE_U8 : WANE_DTYPES, &q, e);
    if (!s)
        s = wane_safetensors_read(in_packed, packed, 0, packed->end - packed->begin,
                                  bytes_of(q->words), e);
    if (!s)
        s = wane_safetensors_read(in_scale, scale, 0, scale->end - scale->begin, bytes_of(q->scale),
                                  e);
    if (!s && zero) {
        stream = malloc(zero->end - zero->begin);
        if (!stream) s = wane_fail(e, WANE_EOOM, "no memory for the zero points of %s", matrix);
        if (!s) s = wane_safetensors_read(in_zero, zero, 0, zero->end - zero->begin, stream, e);
        if (!s) s = zero_columns(bytes_of(q->zero), stream, m, groups, bits, false, e);
        free(stream);
    }
    if (s)
        wane_quantized_release(q);
    else
        *out = q;
    return s;
}

const wane_packing wane_packing_compressed_tensors = {
    .name = "compressed-tensors",
    .doc = "vLLM's own; pack-quantized at 2, 3, 4 and 8 bits, int-quantized for W8A8",
    .reads = reads,
    .check = check,
    .encode = encode,
    .config = config,
    .holds = holds,
    .decode = decode,
};
