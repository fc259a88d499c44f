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
#include "runtime/save/packing.h"

#include <inttypes.h>
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

/* ---- reading ---- */

/* One tensor of a matrix, where the checkpoint has it. */
typedef struct {
    const wane_safetensors *file;
    const wane_entry *entry; /* NULL: absent */
} piece;

/* What the config says of all packed matrices; the tensors have to agree. */
typedef struct {
    int bits, act_bits;
    bool symmetric;
} scheme;

/* A matrix being read. */
typedef struct {
    const wane_checkpoint *c;
    const char *matrix;
    int64_t m, k;
    scheme says;
    piece codes, scale, zero;
} reading;

static piece find(const wane_checkpoint *c, const char *matrix, const char *suffix)
{
    char name[512];
    piece p = {0};
    snprintf(name, sizeof name, "%s.%s", matrix, suffix);
    p.entry = wane_checkpoint_find(c, name, &p.file);
    return p;
}

static bool reads(const json_t *quantization_config)
{
    const char *method = json_string_value(json_object_get(quantization_config, "quant_method"));
    return method && !strcmp(method, "compressed-tensors");
}

static bool holds(const wane_checkpoint *c, const char *matrix)
{
    const wane_entry *weight = find(c, matrix, "weight").entry;
    return find(c, matrix, "weight_packed").entry ||
           (weight && weight->supported && weight->dtype == WANE_I8);
}

static wane_status unsupported(const wane_checkpoint *c, wane_err *e, const char *why)
{
    char shown[512];
    wane_escape(shown, sizeof shown, c->dir, strlen(c->dir));
    wane_fail(e, WANE_EUNSUPPORTED, "%s/config.json: quantization_config: %s", shown, why);
    return wane_err_at(e, "load", NULL, c->dir);
}

static bool says(const json_t *object, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && !strcmp(text, value);
}

/* Schemes that would be computed differently from what they say are refused. */
static wane_status read_scheme(const wane_checkpoint *c, scheme *out, wane_err *e)
{
    const json_t *groups = json_object_get(wane_config_quantization(&c->config), "config_groups");
    if (json_object_size(groups) != 1)
        return unsupported(c, e, "wane reads one group in config_groups, neither none nor several");
    const json_t *group =
        json_object_iter_value(json_object_iter((json_t *)(uintptr_t)groups)); /* only read */
    const json_t *weights = json_object_get(group, "weights");
    const json_t *inputs = json_object_get(group, "input_activations");
    json_int_t bits = json_integer_value(json_object_get(weights, "num_bits"));
    if (!says(weights, "type", "int") || (bits != 2 && bits != 3 && bits != 4 && bits != 8))
        return unsupported(c, e, "weights must be of type int with 2, 3, 4 or 8 num_bits");
    *out = (scheme){(int)bits, 0, !json_is_false(json_object_get(weights, "symmetric"))};
    if (!json_is_object(inputs)) return WANE_OK;
    if (bits != 8 || json_integer_value(json_object_get(inputs, "num_bits")) != 8 ||
        !says(inputs, "type", "int") || !says(inputs, "strategy", "token") ||
        !json_is_true(json_object_get(inputs, "dynamic")) ||
        json_is_false(json_object_get(inputs, "symmetric")))
        return unsupported(c, e,
                           "input_activations are only read with 8 bits, symmetric, dynamic, one "
                           "scale a token, beside weights of 8 bits");
    out->act_bits = 8;
    return WANE_OK;
}

/* Refuses a tensor, naming it, what it is and what it would have to be. */
static wane_status refuse(const reading *r, piece p, const char *suffix, const char *wanted,
                          wane_err *e)
{
    char is[128];
    wane_fail(e, WANE_EFORMAT, "%s.%s is %s; it has to be %s", r->matrix, suffix,
              p.entry ? wane_entry_describe(p.entry, is, sizeof is) : "missing", wanted);
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s.%s", r->matrix, suffix);
    return wane_err_at(e, "load", r->matrix, r->c->dir);
}

static bool is_matrix(piece p, wane_dtype dtype, int64_t rows, int64_t cols)
{
    return p.entry && p.entry->supported && p.entry->dtype == dtype && p.entry->rank == 2 &&
           p.entry->shape[0] == rows && p.entry->shape[1] == cols;
}

static wane_status check_scale(const reading *r, wane_err *e)
{
    char wanted[96];
    const wane_entry *s = r->scale.entry;
    if (s && wane_entry_floating(s) && s->rank == 2 && s->shape[0] == r->m && s->shape[1] >= 1 &&
        r->k % s->shape[1] == 0)
        return WANE_OK;
    snprintf(wanted, sizeof wanted,
             "BF16, F16 or F32 (%" PRId64 ", groups that divide %" PRId64 ")", r->m, r->k);
    return refuse(r, r->scale, "weight_scale", wanted, e);
}

/* weight_shape is not needed, but one that says something else means other codes. */
static wane_status check_shape(const reading *r, wane_err *e)
{
    char wanted[64];
    int64_t two[2];
    piece p = find(r->c, r->matrix, "weight_shape");
    if (!p.entry) return WANE_OK;
    snprintf(wanted, sizeof wanted, "I64 (2) holding %" PRId64 ", %" PRId64, r->m, r->k);
    if (!p.entry->supported || p.entry->dtype != WANE_I64 || p.entry->rank != 1 ||
        p.entry->shape[0] != 2)
        return refuse(r, p, "weight_shape", wanted, e);
    wane_status s = wane_safetensors_read(p.file, p.entry, 0, sizeof two, two, e);
    if (s) return s;
    return two[0] == r->m && two[1] == r->k ? WANE_OK : refuse(r, p, "weight_shape", wanted, e);
}

/* Reads a whole tensor to where it belongs on the host. */
static wane_status fetch(piece p, void *out, wane_err *e)
{
    return wane_safetensors_read(p.file, p.entry, 0, p.entry->end - p.entry->begin, out, e);
}

static bool finite_at(const wane_tensor *t, int64_t i)
{
    const char *at = (const char *)bytes_of(t) + i * (int64_t)wane_dtype_bytes(t->dtype);
    uint32_t wide, mask = 0x7f800000u;
    uint16_t half;
    if (t->dtype == WANE_F32) {
        memcpy(&wide, at, sizeof wide);
    } else {
        memcpy(&half, at, sizeof half);
        wide = half;
        mask = t->dtype == WANE_BF16 ? 0x7f80 : 0x7c00;
    }
    return (wide & mask) != mask; /* an exponent of ones is Inf or NaN */
}

/* A scale that is not finite would make every output of its row NaN. */
static wane_status fetch_scale(const reading *r, wane_quantized *q, wane_err *e)
{
    wane_status s = fetch(r->scale, bytes_of(q->scale), e);
    int64_t n = q->m * (q->k / q->group), at = 0;
    while (!s && at < n && finite_at(q->scale, at)) at++;
    if (s || at == n) return s;
    wane_fail(e, WANE_ENUMERIC, "%s.weight_scale has NaN or Inf at element %" PRId64, r->matrix,
              at + 1);
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s.weight_scale", r->matrix);
    return wane_err_at(e, "load", r->matrix, r->c->dir);
}

static wane_status decode_int8(const reading *r, wane_quantized *q, wane_err *e)
{
    wane_status s = fetch_scale(r, q, e);
    wane_mat words = wane_tensor_mat(q->words);
    for (int64_t row = 0; row < r->m && !s; row++) {
        uint8_t *codes = (uint8_t *)((int32_t *)words.data + row * words.stride);
        memset(codes, 0, (size_t)words.cols * 4); /* the last word's unused bytes */
        s = wane_safetensors_read(r->codes.file, r->codes.entry, (uint64_t)(row * r->k),
                                  (uint64_t)r->k, codes, e);
        for (int64_t i = 0; i < r->k; i++) codes[i] ^= 0x80; /* code + 128 */
    }
    return s;
}

static wane_status decode_packed(const reading *r, wane_quantized *q, wane_err *e)
{
    wane_status s = fetch(r->codes, bytes_of(q->words), e);
    if (!s) s = fetch_scale(r, q, e);
    if (s || !q->zero) return s;
    int32_t *stream = malloc(r->zero.entry->end - r->zero.entry->begin);
    if (!stream) s = wane_fail(e, WANE_EOOM, "no memory for the zero points of %s", r->matrix);
    if (!s) s = fetch(r->zero, stream, e);
    if (!s) s = zero_columns(bytes_of(q->zero), stream, q->m, q->k / q->group, q->bits, false, e);
    free(stream);
    return s;
}

/* Every size is held against (m,k) and the config before anything is read. */
static wane_status check_parts(reading *r, bool *int8, wane_err *e)
{
    char wanted[96];
    wane_status s = read_scheme(r->c, &r->says, e);
    if (s) return s;
    int bits = r->says.bits;
    *int8 = !find(r->c, r->matrix, "weight_packed").entry;
    r->codes = find(r->c, r->matrix, *int8 ? "weight" : "weight_packed");
    r->scale = find(r->c, r->matrix, "weight_scale");
    r->zero = find(r->c, r->matrix, "weight_zero_point");
    if (find(r->c, r->matrix, "weight_g_idx").entry)
        return unsupported(r->c, e, "columns in another order (weight_g_idx) are not read");
    s = check_scale(r, e);
    if (s) return s;
    int64_t groups = r->scale.entry->shape[1];
    if (*int8) {
        if (!is_matrix(r->codes, WANE_I8, r->m, r->k) || bits != 8) {
            snprintf(wanted, sizeof wanted, "I8 (%" PRId64 ", %" PRId64 "), with num_bits 8", r->m,
                     r->k);
            return refuse(r, r->codes, "weight", wanted, e);
        }
        if (groups != 1)
            return refuse(r, r->scale, "weight_scale", "one scale for each row of int8", e);
        if (!r->says.symmetric)
            return unsupported(r->c, e, "int8 weights are only read where they are symmetric");
        return WANE_OK;
    }
    if (r->says.act_bits)
        return unsupported(r->c, e, "packed weights are only read with activations as they are");
    if (!is_matrix(r->codes, WANE_I32, r->m, wane_words_for(r->k, bits))) {
        snprintf(wanted, sizeof wanted, "I32 (%" PRId64 ", %" PRId64 ") for %d bits", r->m,
                 wane_words_for(r->k, bits), bits);
        return refuse(r, r->codes, "weight_packed", wanted, e);
    }
    if (!r->says.symmetric && !is_matrix(r->zero, WANE_I32, wane_words_for(r->m, bits), groups)) {
        snprintf(wanted, sizeof wanted, "I32 (%" PRId64 ", %" PRId64 "), as it is not symmetric",
                 wane_words_for(r->m, bits), groups);
        return refuse(r, r->zero, "weight_zero_point", wanted, e);
    }
    return check_shape(r, e);
}

static wane_status inspect(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                           wane_err *e)
{
    reading r = {.c = c, .matrix = matrix, .m = m, .k = k};
    bool int8;
    return check_parts(&r, &int8, e);
}

static wane_status decode(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                          wane_device *host, wane_quantized **out, wane_err *e)
{
    reading r = {.c = c, .matrix = matrix, .m = m, .k = k};
    wane_quantized *q = NULL;
    bool int8;
    *out = NULL;
    wane_status s = check_parts(&r, &int8, e);
    if (s) return s;
    s = wane_quantized_new(host, m, k, r.says.bits, k / r.scale.entry->shape[1], r.says.act_bits,
                           r.scale.entry->dtype, r.says.symmetric ? WANE_DTYPES : WANE_U8, &q, e);
    if (!s) s = int8 ? decode_int8(&r, q, e) : decode_packed(&r, q, e);
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
    .inspect = inspect,
    .decode = decode,
};
