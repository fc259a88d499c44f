/* hqq.c - the format of the hqq library as Transformers reads it: four bits, zero points of the
 * scales' type, which need not be whole.
 *
 * Layout read in hqq (HQQLinear.state_dict, BitPack.pack_4bit_u8). The weight (m,k) is taken as
 * rows of g, one for each group: row r of rows = m*k/g is group r % (k/g) of output r / (k/g).
 *   X.W_q           U8 (rows/2, g): row r in the high half of each byte, row r + rows/2 in the low
 *   X.scale, X.zero (rows, 1) in the type that is computed in
 * and beside them what the library keeps with every matrix, each a tensor of its own: whole numbers
 * I32 (), the shape I64 (2), truths U8 (), words U8 (letters).
 *
 * A weight is (code - zero) * scale with unsigned codes, as wane's own. Transformers 5.17 makes
 * such models but does not read them back (it takes every weight for missing), and vLLM dropped
 * them: this format is for fractional zero points, and never the default for whole ones. */
#include "runtime/save/reading.h"

#include <inttypes.h>
#include <string.h>

static wane_status check(const wane_packed_grid *g, int64_t m, int64_t k, wane_err *e)
{
    if (g->bits != 4 || g->act_bits)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "is written with 4-bit weights: format compressed-tensors holds other "
                         "grids, with whole zero points");
    if (g->group == -1)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "keeps groups, not whole rows: format compressed-tensors holds these");
    if (g->head)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "leaves output heads as they are, this one is quantized: format "
                         "compressed-tensors holds it, or quantize with keep_lm_head = true");
    if (m * (k / g->group) % 2)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "packs two groups into one, and there are %" PRId64
                         ": format compressed-tensors holds them",
                         m * (k / g->group));
    return WANE_OK;
}

static void *data(const wane_tensor *t)
{
    return wane_tensor_mat(t).data;
}

static int code_at(const uint32_t *words, int64_t i)
{
    return words[i / 8] >> 4 * (i % 8) & 15;
}

/* words (m, k*4/32) -> bytes (rows/2, g), or back into words that are 0. */
static void turn_codes(uint8_t *bytes, uint32_t *words, const wane_quantized *q, bool pack)
{
    int64_t groups = q->k / q->group, half = q->m * groups / 2, per = wane_words_for(q->k, 4);
    for (int64_t r = 0; r < half; r++) {
        for (int side = 0; side < 2; side++) {
            int64_t row = side ? r + half : r, first = row % groups * q->group;
            uint32_t *line = words + row / groups * per;
            uint8_t *to = bytes + r * q->group;
            int shift = side ? 0 : 4;
            for (int64_t i = 0; i < q->group; i++) {
                int64_t c = first + i;
                if (pack)
                    to[i] = (uint8_t)((side ? to[i] : 0) | code_at(line, c) << shift);
                else
                    line[c / 8] |= (uint32_t)(to[i] >> shift & 15) << 4 * (c % 8);
            }
        }
    }
}

typedef struct {
    wane_parts *parts;
    const char *matrix;
    wane_device *host;
    wane_status s; /* the first failure */
    wane_err *e;
} adding;

static void add(adding *a, const char *name, wane_dtype t, int rank, int64_t size,
                const void *bytes)
{
    if (!a->s)
        a->s = wane_parts_add_copy(a->parts, a->matrix, name, t, rank, &size, bytes, a->host, a->e);
}

static void add_number(adding *a, const char *name, int32_t value)
{
    add(a, name, WANE_I32, 0, 0, &value);
}

static void add_truth(adding *a, const char *name, bool value)
{
    uint8_t byte = value;
    add(a, name, WANE_U8, 0, 0, &byte);
}

static void add_word(adding *a, const char *name, const char *word)
{
    add(a, name, WANE_U8, 1, (int64_t)strlen(word), word);
}

static void add_about(adding *a, const wane_quantized *q)
{
    const int64_t shape[2] = {q->m, q->k};
    wane_dtype t = q->scale->dtype;
    add_number(a, "nbits", 4);
    add_number(a, "group_size", (int32_t)q->group);
    add_number(a, "axis", 1);
    add(a, "shape", WANE_I64, 1, 2, shape);
    add_word(a, "packing", "4bit_u8");
    add_word(a, "unpack_view_dtype", "torch.uint8");
    add_word(a, "compute_dtype",
             t == WANE_F16    ? "torch.float16"
             : t == WANE_BF16 ? "torch.bfloat16"
                              : "torch.float32");
    static const char *const no[] = {"view_as_float", "quant_scale", "quant_zero", "offload_meta"};
    static const char *const yes[] = {"encoded_state_dict", "stores_quant_config", "channel_wise",
                                      "optimize", "round_zero"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) add_truth(a, no[i], false);
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) add_truth(a, yes[i], true);
}

static wane_status encode(const wane_quantized *q, const char *matrix, wane_device *host,
                          wane_parts *parts, wane_err *e)
{
    int64_t rows = q->m * (q->k / q->group), column[2] = {rows, 1};
    adding a = {parts, matrix, host, WANE_OK, e};
    wane_tensor *bytes = NULL, *zero = NULL;
    wane_status s = wane_tensor_new2(host, WANE_U8, rows / 2, q->group, &bytes, e);
    if (s) return s;
    turn_codes(data(bytes), data(q->words), q, true);
    s = wane_parts_add(parts, matrix, "W_q", bytes, e);
    if (!s)
        s = wane_parts_add_copy(parts, matrix, "scale", q->scale->dtype, 2, column, data(q->scale),
                                host, e);
    if (!s) s = wane_tensor_copy_to(q->zero, host, q->scale->dtype, &zero, e);
    if (!s)
        s = wane_parts_add_copy(parts, matrix, "zero", zero->dtype, 2, column, data(zero), host, e);
    wane_tensor_release(zero);
    if (s) return s;
    add_about(&a, q);
    return a.s;
}

static wane_status config(const wane_packed_grid *g, json_t **out, wane_err *e)
{
    *out = json_pack("{s:s,s:{s:{s:i,s:b,s:I,s:b,s:b,s:i,s:b},s:n,s:n,s:b},s:[s]}", "quant_method",
                     "hqq", "quant_config", "weight_quant_params", "nbits", 4, "channel_wise", 1,
                     "group_size", (json_int_t)g->group, "optimize", 1, "round_zero", 1, "axis", 1,
                     "view_as_float", 0, "scale_quant_params", "zero_quant_params", "offload_meta",
                     0, "skip_modules", "lm_head");
    return *out ? WANE_OK : wane_fail(e, WANE_EOOM, "no memory for the quantization config");
}

/* ---- reading ---- */

typedef struct {
    wane_reading at;
    wane_piece codes, scale, zero;
    int64_t group, rows;
} reading;

static bool reads(const json_t *quantization_config)
{
    return wane_json_says(quantization_config, "quant_method", "hqq");
}

static bool holds(const wane_checkpoint *c, const char *matrix)
{
    return wane_piece_find(c, matrix, "W_q").entry != NULL;
}

static wane_status check_config(const wane_checkpoint *c, int64_t *group, wane_err *e)
{
    const json_t *all = json_object_get(wane_config_quantization(&c->config), "quant_config");
    const json_t *q = json_object_get(all, "weight_quant_params");
    if (!q)
        return wane_reading_unsupported(c, e, "hqq is only read with one scheme for all matrices");
    if (wane_json_whole(q, "nbits", 0) != 4 || wane_json_whole(q, "axis", 0) != 1)
        return wane_reading_unsupported(c, e, "hqq is only read with nbits 4 and axis 1");
    if (json_is_true(json_object_get(q, "view_as_float")) ||
        json_is_object(json_object_get(all, "scale_quant_params")) ||
        json_is_object(json_object_get(all, "zero_quant_params")))
        return wane_reading_unsupported(
            c, e, "hqq is only read with scales and zero points as they are, and bytes as bytes");
    *group = wane_json_whole(q, "group_size", 0);
    if (*group < 1)
        return wane_reading_unsupported(c, e, "hqq is only read with a group_size of at least 1");
    return WANE_OK;
}

/* Every size is held against (m,k) and the config before anything is read. */
static wane_status check_parts(reading *r, wane_err *e)
{
    int64_t m = r->at.m, k = r->at.k;
    wane_status s = check_config(r->at.c, &r->group, e);
    if (s) return s;
    r->codes = wane_piece_find(r->at.c, r->at.matrix, "W_q");
    r->scale = wane_piece_find(r->at.c, r->at.matrix, "scale");
    r->zero = wane_piece_find(r->at.c, r->at.matrix, "zero");
    if (k % r->group || m * (k / r->group) % 2)
        return wane_reading_unsupported(r->at.c, e,
                                        "%s is (%" PRId64 ", %" PRId64
                                        "), which pairs of groups of %" PRId64 " do not divide",
                                        r->at.matrix, m, k, r->group);
    r->rows = m * (k / r->group);
    if (!wane_piece_is(r->codes, WANE_U8, r->rows / 2, r->group))
        return wane_piece_refuse(&r->at, r->codes, e, "U8 (%" PRId64 ", %" PRId64 ")", r->rows / 2,
                                 r->group);
    if (!wane_piece_floats(r->scale, r->rows, 1))
        return wane_piece_refuse(&r->at, r->scale, e, "F16, BF16 or F32 (%" PRId64 ", 1)", r->rows);
    if (!wane_piece_floats(r->zero, r->rows, 1))
        return wane_piece_refuse(&r->at, r->zero, e, "F16, BF16 or F32 (%" PRId64 ", 1)", r->rows);
    return WANE_OK;
}

static wane_packed_about about(const reading *r)
{
    return (wane_packed_about){4, 0, r->group, r->scale.entry->dtype, WANE_F32};
}

static wane_status inspect(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                           wane_packed_about *out, wane_err *e)
{
    reading r = {.at = {c, matrix, m, k}};
    wane_status s = check_parts(&r, e);
    if (!s) *out = about(&r);
    return s;
}

static wane_status read_zeros(const reading *r, wane_quantized *q, wane_device *host, wane_err *e)
{
    wane_tensor *stored = NULL, *wide = NULL;
    wane_status s = wane_piece_load(r->zero, host, &stored, e);
    if (!s) s = wane_piece_finite(&r->at, r->zero, stored, e);
    if (!s) s = wane_tensor_copy_to(stored, host, WANE_F32, &wide, e);
    if (!s) s = wane_tensor_put(q->zero, data(wide), e);
    wane_tensor_release(stored);
    wane_tensor_release(wide);
    return s;
}

static wane_status read_parts(const reading *r, wane_quantized *q, wane_device *host, wane_err *e)
{
    wane_tensor *bytes = NULL;
    wane_status s = wane_piece_load(r->codes, host, &bytes, e);
    if (!s) s = wane_piece_read(r->scale, data(q->scale), e);
    if (!s) s = wane_piece_finite(&r->at, r->scale, q->scale, e);
    if (!s) s = read_zeros(r, q, host, e);
    if (!s) {
        memset(data(q->words), 0, wane_tensor_bytes(q->words));
        turn_codes(data(bytes), data(q->words), q, false);
    }
    wane_tensor_release(bytes);
    return s;
}

static wane_status read(const wane_checkpoint *c, const char *matrix, wane_quantized *q,
                        wane_device *host, wane_err *e)
{
    reading r = {.at = {c, matrix, q->m, q->k}};
    wane_status s = check_parts(&r, e);
    return s ? s : read_parts(&r, q, host, e);
}

const wane_packing wane_packing_hqq = {
    .name = "hqq",
    .doc =
        "the hqq library's own: 4 bits, zero points that may be fractions; Transformers 5.17 does "
        "not read it",
    .scale = WANE_DTYPES,
    .zeros = WANE_ZEROS_FLOAT,
    .reads = reads,
    .check = check,
    .encode = encode,
    .config = config,
    .holds = holds,
    .inspect = inspect,
    .read = read,
};
