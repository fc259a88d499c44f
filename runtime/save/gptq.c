/* gptq.c - the GPTQ format, versions 1 and 2: codes packed along the inputs.
 *
 * Layout read in AutoGPTQ and GPTQModel, at 2, 3, 4 and 8 bits (b):
 *   X.qweight  I32 (k*b/32, m): column r is the dense stream of bits of output r's codes, which is
 *              wane's own row of words
 *   X.qzeros   I32 (k/g, m*b/32): the zero points of a group as such a stream; version 1 stores
 *              them less 1, version 2 as they are
 *   X.scales   F16 (k/g, m)
 *   X.g_idx    I32 (k): the group of each input; here always input / g
 *
 * A weight is (code - zero) * scale with unsigned codes. Version 1 cannot say a zero point of 0,
 * and readers differ in what they make of it, so it is written for symmetric grids only, where all
 * are 2^(b-1). Version 2 takes any, but vLLM refuses asymmetric GPTQ of either version. Columns in
 * another order (desc_act) are not read: that is slow everywhere. */
#include "runtime/save/reading.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASIDE = 32 }; /* what readers of this format want sizes to be a multiple of */

static wane_status check_size(const wane_packed_grid *g, int64_t m, int64_t k, wane_err *e)
{
    if (g->act_bits)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "leaves activations as they are, these have 8 bits: format "
                         "compressed-tensors holds W8A8");
    if (m % ASIDE || k % ASIDE)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "has sizes that 32 divides, not (%" PRId64 ", %" PRId64
                         "): format compressed-tensors holds them",
                         m, k);
    return WANE_OK;
}

static wane_status check_first(const wane_packed_grid *g, int64_t m, int64_t k, wane_err *e)
{
    if (!g->symmetric)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "is written for symmetric grids: version 1 cannot say a zero point of 0, "
                         "and vLLM refuses zero points; format awq holds 4-bit ones, "
                         "compressed-tensors all, or quantize with symmetric = true");
    return check_size(g, m, k, e);
}

static void *data(const wane_tensor *t)
{
    return wane_tensor_mat(t).data;
}

/* words (m, k*b/32) -> (k*b/32, m), and scales (m, groups) -> (groups, m) */
static wane_status add_turned(wane_parts *parts, const char *matrix, const char *suffix,
                              const wane_tensor *t, wane_device *host, wane_err *e)
{
    wane_tensor *out = NULL;
    wane_status s = wane_tensor_new2(host, t->dtype, t->shape[1], t->shape[0], &out, e);
    if (s) return s;
    wane_turn(data(out), data(t), t->shape[0], t->shape[1], wane_dtype_bytes(t->dtype));
    return wane_parts_add(parts, matrix, suffix, out, e);
}

/* The zero points of group i of all m outputs, less `less`. */
static void gather(uint8_t *line, const wane_quantized *q, int64_t i, int less)
{
    int64_t groups = q->k / q->group;
    const uint8_t *zero = q->zero ? data(q->zero) : NULL;
    for (int64_t r = 0; r < q->m; r++)
        line[r] = (uint8_t)((zero ? zero[r * groups + i] : 1 << (q->bits - 1)) - less);
}

static wane_status add_zeros(wane_parts *parts, const char *matrix, const wane_quantized *q,
                             int less, wane_device *host, wane_err *e)
{
    int64_t groups = q->k / q->group, words = wane_words_for(q->m, q->bits);
    wane_tensor *out = NULL;
    uint8_t *line = malloc((size_t)q->m);
    if (!line) return wane_fail(e, WANE_EOOM, "no memory for zero points");
    wane_status s = wane_tensor_new2(host, WANE_I32, groups, words, &out, e);
    for (int64_t i = 0; i < groups && !s; i++) {
        gather(line, q, i, less);
        wane_bits_pack((uint32_t *)data(out) + i * words, line, q->m, q->bits);
    }
    free(line);
    return s ? s : wane_parts_add(parts, matrix, "qzeros", out, e);
}

static wane_status add_order(wane_parts *parts, const char *matrix, const wane_quantized *q,
                             wane_device *host, wane_err *e)
{
    wane_tensor *out = NULL;
    wane_status s = wane_tensor_new(host, WANE_I32, 1, &q->k, &out, e);
    if (s) return s;
    int32_t *group = data(out);
    for (int64_t i = 0; i < q->k; i++) group[i] = (int32_t)(i / q->group);
    return wane_parts_add(parts, matrix, "g_idx", out, e);
}

static wane_status encode(const wane_quantized *q, const char *matrix, int less, wane_device *host,
                          wane_parts *parts, wane_err *e)
{
    wane_status s = add_turned(parts, matrix, "qweight", q->words, host, e);
    if (!s) s = add_zeros(parts, matrix, q, less, host, e);
    if (!s) s = add_turned(parts, matrix, "scales", q->scale, host, e);
    return s ? s : add_order(parts, matrix, q, host, e);
}

static wane_status encode_first(const wane_quantized *q, const char *matrix, wane_device *host,
                                wane_parts *parts, wane_err *e)
{
    return encode(q, matrix, 1, host, parts, e);
}

static wane_status encode_second(const wane_quantized *q, const char *matrix, wane_device *host,
                                 wane_parts *parts, wane_err *e)
{
    return encode(q, matrix, 0, host, parts, e);
}

static wane_status config(const wane_packed_grid *g, const char *version, json_t **out, wane_err *e)
{
    *out = json_pack("{s:s,s:i,s:I,s:b,s:b,s:b,s:s,s:s,s:b,s:f,s:s,s:{s:[s]}}", "quant_method",
                     "gptq", "bits", g->bits, "group_size", (json_int_t)g->group, "desc_act", 0,
                     "sym", (int)g->symmetric, "lm_head", (int)g->head, "checkpoint_format",
                     version, "format", version, "true_sequential", 1, "damp_percent", 0.01,
                     "pack_dtype", "int32", "meta", "quantizer", "wane:" WANE_VERSION);
    return *out ? WANE_OK : wane_fail(e, WANE_EOOM, "no memory for the quantization config");
}

static wane_status config_first(const wane_packed_grid *g, json_t **out, wane_err *e)
{
    return config(g, "gptq", out, e);
}

static wane_status config_second(const wane_packed_grid *g, json_t **out, wane_err *e)
{
    return config(g, "gptq_v2", out, e);
}

/* ---- reading ---- */

typedef struct {
    wane_reading at;
    wane_piece words, zeros, scales, order;
    int64_t groups;
    int bits, less; /* less: what stored zero points lack */
    bool symmetric;
} reading;

static bool holds(const wane_checkpoint *c, const char *matrix)
{
    return wane_piece_find(c, matrix, "qweight").entry != NULL;
}

static const char *version_of(const json_t *q)
{
    const char *version = json_string_value(json_object_get(q, "checkpoint_format"));
    if (!version) version = json_string_value(json_object_get(q, "format"));
    return version ? version : "gptq"; /* what AutoGPTQ wrote before it had a name */
}

static bool reads_first(const json_t *q)
{
    return wane_json_says(q, "quant_method", "gptq") && strcmp(version_of(q), "gptq_v2");
}

static bool reads_second(const json_t *q)
{
    return wane_json_says(q, "quant_method", "gptq") && !strcmp(version_of(q), "gptq_v2");
}

static wane_status check_config(reading *r, int64_t *group, wane_err *e)
{
    const wane_checkpoint *c = r->at.c;
    const json_t *q = wane_config_quantization(&c->config);
    int64_t bits = wane_json_whole(q, "bits", 0);
    char shown[64];
    const char *version = version_of(q);
    if (strcmp(version, "gptq") && strcmp(version, "gptq_v2"))
        return wane_reading_unsupported(c, e, "gptq is read as gptq and gptq_v2, not as %s",
                                        wane_escape(shown, sizeof shown, version, strlen(version)));
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return wane_reading_unsupported(c, e, "gptq is only read with 2, 3, 4 or 8 bits");
    if (json_object_get(q, "pack_dtype") && !wane_json_says(q, "pack_dtype", "int32"))
        return wane_reading_unsupported(c, e, "gptq is only read packed into int32");
    *group = wane_json_whole(q, "group_size", 0);
    if (*group < 1 && *group != -1)
        return wane_reading_unsupported(c, e, "group_size must be -1 or at least 1");
    r->bits = (int)bits;
    r->less = !strcmp(version, "gptq");
    r->symmetric = !json_is_false(json_object_get(q, "sym"));
    return WANE_OK;
}

/* Every size is held against (m,k) and the config before anything is read. */
static wane_status check_parts(reading *r, wane_err *e)
{
    int64_t m = r->at.m, k = r->at.k, group = 0;
    wane_status s = check_config(r, &group, e);
    if (s) return s;
    r->words = wane_piece_find(r->at.c, r->at.matrix, "qweight");
    r->zeros = wane_piece_find(r->at.c, r->at.matrix, "qzeros");
    r->scales = wane_piece_find(r->at.c, r->at.matrix, "scales");
    r->order = wane_piece_find(r->at.c, r->at.matrix, "g_idx");
    r->groups = group == -1 ? 1 : k / group;
    if (k * r->bits % 32 || (group != -1 && k % group))
        return wane_reading_unsupported(r->at.c, e,
                                        "%s has %" PRId64 " inputs, which groups of %" PRId64
                                        " and words of 32 bits do not divide",
                                        r->at.matrix, k, group);
    int64_t rows = k * r->bits / 32, words = wane_words_for(m, r->bits);
    if (!wane_piece_is(r->words, WANE_I32, rows, m))
        return wane_piece_refuse(&r->at, r->words, e, "I32 (%" PRId64 ", %" PRId64 ") for %d bits",
                                 rows, m, r->bits);
    if (!wane_piece_is(r->zeros, WANE_I32, r->groups, words))
        return wane_piece_refuse(&r->at, r->zeros, e, "I32 (%" PRId64 ", %" PRId64 ")", r->groups,
                                 words);
    if (!wane_piece_floats(r->scales, r->groups, m))
        return wane_piece_refuse(&r->at, r->scales, e,
                                 "F16, BF16 or F32 (%" PRId64 ", %" PRId64 ")", r->groups, m);
    const wane_entry *order = r->order.entry;
    if (order &&
        !(order->supported && order->dtype == WANE_I32 && order->rank == 1 && order->shape[0] == k))
        return wane_piece_refuse(&r->at, r->order, e, "I32 (%" PRId64 ")", k);
    return WANE_OK;
}

static wane_packed_about about(const reading *r)
{
    return (wane_packed_about){r->bits, 0, r->at.k / r->groups, r->scales.entry->dtype,
                               r->symmetric ? WANE_DTYPES : WANE_U8};
}

static wane_status inspect(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                           wane_packed_about *out, wane_err *e)
{
    reading r = {.at = {c, matrix, m, k}};
    wane_status s = check_parts(&r, e);
    if (!s) *out = about(&r);
    return s;
}

static wane_status check_order(const reading *r, wane_device *host, wane_err *e)
{
    wane_tensor *t = NULL;
    int64_t group = r->at.k / r->groups, i = 0;
    if (!r->order.entry) return WANE_OK;
    wane_status s = wane_piece_load(r->order, host, &t, e);
    if (s) return s;
    const int32_t *order = data(t);
    while (i < r->at.k && order[i] == i / group) i++;
    wane_tensor_release(t);
    if (i == r->at.k) return WANE_OK;
    return wane_reading_unsupported(r->at.c, e,
                                    "%s.g_idx puts columns in another order (desc_act), which is "
                                    "not read; quantize with desc_act false",
                                    r->at.matrix);
}

/* What a stored zero point means, into zero [m]; for symmetric grids that it is the middle. */
static wane_status read_line(const reading *r, uint8_t *zero, const uint8_t *line, int64_t stride,
                             wane_err *e)
{
    int middle = 1 << (r->bits - 1), most = (1 << r->bits) - 1;
    for (int64_t i = 0; i < r->at.m; i++) {
        int z = line[i] + r->less;
        if (r->symmetric && z != middle)
            return wane_piece_refuse(&r->at, r->zeros, e,
                                     "%d everywhere, as the config says sym: output %" PRId64
                                     " has %d",
                                     middle - r->less, i + 1, line[i]);
        if (z > most)
            return wane_reading_unsupported(
                r->at.c, e,
                "%s.qzeros has %d, which programs read as a zero point of 0 or of %d: version 1 "
                "of the format cannot say either",
                r->at.matrix, line[i], z);
        if (zero) zero[i * stride] = (uint8_t)z;
    }
    return WANE_OK;
}

static wane_status read_zeros(const reading *r, wane_quantized *q, wane_device *host, wane_err *e)
{
    int64_t words = wane_words_for(q->m, r->bits);
    wane_tensor *t = NULL;
    uint8_t *line = malloc((size_t)q->m);
    if (!line) return wane_fail(e, WANE_EOOM, "no memory for zero points");
    wane_status s = wane_piece_load(r->zeros, host, &t, e);
    for (int64_t g = 0; g < r->groups && !s; g++) {
        wane_bits_unpack(line, (const uint32_t *)data(t) + g * words, q->m, r->bits);
        s = read_line(r, q->zero ? (uint8_t *)data(q->zero) + g : NULL, line, r->groups, e);
    }
    wane_tensor_release(t);
    free(line);
    return s;
}

static wane_status read_parts(const reading *r, wane_quantized *q, wane_device *host, wane_err *e)
{
    wane_tensor *words = NULL, *scales = NULL;
    wane_status s = wane_piece_load(r->words, host, &words, e);
    if (!s) s = wane_piece_load(r->scales, host, &scales, e);
    if (!s) s = wane_piece_finite(&r->at, r->scales, scales, e);
    if (!s) s = check_order(r, host, e);
    if (!s) s = read_zeros(r, q, host, e);
    if (!s) {
        wane_turn(data(q->words), data(words), words->shape[0], q->m, 4);
        wane_turn(data(q->scale), data(scales), r->groups, q->m, wane_dtype_bytes(scales->dtype));
    }
    wane_tensor_release(words);
    wane_tensor_release(scales);
    return s;
}

static wane_status read(const wane_checkpoint *c, const char *matrix, wane_quantized *q,
                        wane_device *host, wane_err *e)
{
    reading r = {.at = {c, matrix, q->m, q->k}};
    wane_status s = check_parts(&r, e);
    return s ? s : read_parts(&r, q, host, e);
}

const wane_packing wane_packing_gptq = {
    .name = "gptq",
    .doc = "GPTQ version 1: symmetric, float16 scales, 2, 3, 4 and 8 bits; at 4 and 8 read by most "
           "programs",
    .scale = WANE_F16,
    .zeros = WANE_ZEROS_WHOLE,
    .reads = reads_first,
    .check = check_first,
    .encode = encode_first,
    .config = config_first,
    .holds = holds,
    .inspect = inspect,
    .read = read,
};

const wane_packing wane_packing_gptq_v2 = {
    .name = "gptq-v2",
    .doc = "GPTQ version 2: with zero points too; read by GPTQModel, not by vLLM where asymmetric",
    .scale = WANE_F16,
    .zeros = WANE_ZEROS_WHOLE,
    .reads = reads_second,
    .check = check_size,
    .encode = encode_second,
    .config = config_second,
    .holds = holds,
    .inspect = inspect,
    .read = read,
};
