/* awq.c - AutoAWQ's "gemm" format: four bits with zero points, packed along the outputs.
 *
 * Layout read in the AutoAWQ project (WQLinear_GEMM) and its readers:
 *   X.qweight  I32 (k, m/8): nibble i of word (c,w) is the code of input c and output 8w + ORDER[i]
 *   X.qzeros   I32 (k/g, m/8): the zero points of a group, packed in the same way, as they are
 *   X.scales   F16 (k/g, m)
 *
 * A weight is (code - zero) * scale with unsigned codes, as wane's own. A symmetric grid is written
 * with zero points of 8: the readers want some. Heads stay as they are; AutoAWQ packs layers only.
 */
#include "runtime/save/reading.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const int ORDER[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static wane_status check(const wane_packed_grid *g, int64_t m, int64_t k, wane_err *e)
{
    if (g->act_bits || g->bits != 4)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "stores 4-bit weights, not %s: format compressed-tensors holds these",
                         g->act_bits    ? "W8A8"
                         : g->bits == 2 ? "2-bit ones"
                         : g->bits == 3 ? "3-bit ones"
                                        : "8-bit ones");
    if (g->head)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "leaves output heads as they are, this one is quantized: format "
                         "compressed-tensors holds it, or quantize with keep_lm_head = true");
    if (m % 8)
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "packs eight outputs into a word, and %" PRId64
                         " do not divide: format compressed-tensors holds them",
                         m);
    (void)k;
    return WANE_OK;
}

static const void *data(const wane_tensor *t)
{
    return wane_tensor_mat(t).data;
}

/* codes (m,k), four bits each in rows of words -> (k, m/8), or back. */
static void turn_words(uint32_t *across, uint32_t *along, int64_t m, int64_t k, bool pack)
{
    int64_t cols = m / 8, words = (k + 7) / 8;
#pragma omp parallel for
    for (int64_t w = 0; w < words; w++) {
        int64_t count = k - 8 * w < 8 ? k - 8 * w : 8;
        for (int64_t c = 0; c < cols; c++) {
            uint32_t row[8] = {0}, word[8] = {0};
            if (pack) {
                for (int i = 0; i < 8; i++) row[i] = along[(8 * c + i) * words + w];
                for (int i = 0; i < 8; i++)
                    for (int j = 0; j < count; j++)
                        word[j] |= (row[ORDER[i]] >> 4 * j & 15) << 4 * i;
                for (int j = 0; j < count; j++) across[(8 * w + j) * cols + c] = word[j];
            } else {
                for (int j = 0; j < count; j++) word[j] = across[(8 * w + j) * cols + c];
                for (int i = 0; i < 8; i++)
                    for (int j = 0; j < count; j++)
                        row[ORDER[i]] |= (word[j] >> 4 * i & 15) << 4 * j;
                for (int i = 0; i < 8; i++) along[(8 * c + i) * words + w] = row[i];
            }
        }
    }
}

/* zero (m, groups) -> (groups, m/8), or back. */
static void turn_zeros(uint32_t *across, uint8_t *zero, int64_t m, int64_t groups, bool pack)
{
    for (int64_t g = 0; g < groups; g++) {
        for (int64_t c = 0; c < m / 8; c++) {
            uint32_t *word = &across[g * (m / 8) + c], packed = 0;
            for (int i = 0; i < 8; i++) {
                uint8_t *z = &zero[(8 * c + ORDER[i]) * groups + g];
                if (pack)
                    packed |= (uint32_t)*z << 4 * i;
                else
                    *z = *word >> 4 * i & 15;
            }
            if (pack) *word = packed;
        }
    }
}

static wane_status encode(const wane_quantized *q, const char *matrix, wane_device *host,
                          wane_parts *parts, wane_err *e)
{
    int64_t m = q->m, k = q->k, groups = k / q->group;
    wane_tensor *words = NULL, *zeros = NULL, *scales = NULL;
    wane_status s = wane_tensor_new2(host, WANE_I32, k, m / 8, &words, e);
    if (!s) s = wane_tensor_new2(host, WANE_I32, groups, m / 8, &zeros, e);
    if (!s) s = wane_tensor_new2(host, WANE_F16, groups, m, &scales, e);
    if (s) goto done;
    turn_words(wane_tensor_mat(words).data, wane_tensor_mat(q->words).data, m, k, true);
    turn_zeros(wane_tensor_mat(zeros).data, wane_tensor_mat(q->zero).data, m, groups, true);
    wane_turn(wane_tensor_mat(scales).data, data(q->scale), m, groups, 2);
    s = wane_parts_add(parts, matrix, "qweight", wane_tensor_retain(words), e);
    if (!s) s = wane_parts_add(parts, matrix, "qzeros", wane_tensor_retain(zeros), e);
    if (!s) s = wane_parts_add(parts, matrix, "scales", wane_tensor_retain(scales), e);
done:
    wane_tensor_release(words);
    wane_tensor_release(zeros);
    wane_tensor_release(scales);
    return s;
}

static wane_status config(const wane_packed_grid *g, json_t **out, wane_err *e)
{
    *out = json_pack("{s:s,s:i,s:I,s:b,s:s,s:[s]}", "quant_method", "awq", "bits", 4, "group_size",
                     (json_int_t)g->group, "zero_point", 1, "version", "gemm",
                     "modules_to_not_convert", "lm_head");
    return *out ? WANE_OK : wane_fail(e, WANE_EOOM, "no memory for the quantization config");
}

/* ---- reading ---- */

typedef struct {
    wane_reading at;
    wane_piece words, zeros, scales;
    int64_t groups;
} reading;

static bool reads(const json_t *quantization_config)
{
    return wane_json_says(quantization_config, "quant_method", "awq");
}

static bool holds(const wane_checkpoint *c, const char *matrix)
{
    return wane_piece_find(c, matrix, "qweight").entry != NULL;
}

/* The name of a key as AutoAWQ's own files spell it, where the other is missing. */
static int64_t whole(const json_t *q, const char *key, const char *old)
{
    return wane_json_whole(q, key, wane_json_whole(q, old, 0));
}

static bool is_gemm(const json_t *version)
{
    const char *text = json_string_value(version), *gemm = "gemm";
    if (!version) return true; /* what readers take where nothing is said */
    for (; text && *text && tolower((unsigned char)*text) == *gemm; text++) gemm++;
    return text && !*text && !*gemm;
}

static wane_status check_config(const wane_checkpoint *c, int64_t *group, wane_err *e)
{
    const json_t *q = wane_config_quantization(&c->config);
    if (whole(q, "bits", "w_bit") != 4)
        return wane_reading_unsupported(c, e, "awq is only read with 4 bits");
    if (!is_gemm(json_object_get(q, "version")))
        return wane_reading_unsupported(
            c, e, "awq is only read as version gemm; convert it with the program that made it");
    if (json_is_false(json_object_get(q, "zero_point")))
        return wane_reading_unsupported(c, e, "awq is only read with zero_point true");
    *group = whole(q, "group_size", "q_group_size");
    if (*group < 1 && *group != -1)
        return wane_reading_unsupported(c, e, "group_size must be -1 or at least 1");
    return WANE_OK;
}

/* Every size is held against (m,k) and the config before anything is read. */
static wane_status check_parts(reading *r, wane_err *e)
{
    int64_t m = r->at.m, k = r->at.k, group = 0;
    wane_status s = check_config(r->at.c, &group, e);
    if (s) return s;
    r->words = wane_piece_find(r->at.c, r->at.matrix, "qweight");
    r->zeros = wane_piece_find(r->at.c, r->at.matrix, "qzeros");
    r->scales = wane_piece_find(r->at.c, r->at.matrix, "scales");
    r->groups = group == -1 ? 1 : k / group;
    if (m % 8 || (group != -1 && k % group))
        return wane_reading_unsupported(r->at.c, e,
                                        "%s is (%" PRId64 ", %" PRId64 "), which groups of %" PRId64
                                        " and words of eight outputs do not divide",
                                        r->at.matrix, m, k, group);
    if (!wane_piece_is(r->words, WANE_I32, k, m / 8))
        return wane_piece_refuse(&r->at, r->words, e, "I32 (%" PRId64 ", %" PRId64 ")", k, m / 8);
    if (!wane_piece_is(r->zeros, WANE_I32, r->groups, m / 8))
        return wane_piece_refuse(&r->at, r->zeros, e, "I32 (%" PRId64 ", %" PRId64 ")", r->groups,
                                 m / 8);
    if (!wane_piece_floats(r->scales, r->groups, m))
        return wane_piece_refuse(&r->at, r->scales, e,
                                 "F16, BF16 or F32 (%" PRId64 ", %" PRId64 ")", r->groups, m);
    return WANE_OK;
}

static wane_packed_about about(const reading *r)
{
    return (wane_packed_about){4, 0, r->at.k / r->groups, r->scales.entry->dtype, WANE_U8};
}

static wane_status inspect(const wane_checkpoint *c, const char *matrix, int64_t m, int64_t k,
                           wane_packed_about *out, wane_err *e)
{
    reading r = {.at = {c, matrix, m, k}};
    wane_status s = check_parts(&r, e);
    if (!s) *out = about(&r);
    return s;
}

static wane_status read_parts(const reading *r, wane_quantized *q, wane_device *host, wane_err *e)
{
    wane_tensor *words = NULL, *zeros = NULL, *scales = NULL;
    wane_status s = wane_piece_load(r->words, host, &words, e);
    if (!s) s = wane_piece_load(r->zeros, host, &zeros, e);
    if (!s) s = wane_piece_load(r->scales, host, &scales, e);
    if (!s) s = wane_piece_finite(&r->at, r->scales, scales, e);
    if (s) goto done;
    turn_words(wane_tensor_mat(words).data, wane_tensor_mat(q->words).data, q->m, q->k, false);
    turn_zeros(wane_tensor_mat(zeros).data, wane_tensor_mat(q->zero).data, q->m, r->groups, false);
    wane_turn(wane_tensor_mat(q->scale).data, data(scales), r->groups, q->m,
              wane_dtype_bytes(scales->dtype));
done:
    wane_tensor_release(words);
    wane_tensor_release(zeros);
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

const wane_packing wane_packing_awq = {
    .name = "awq",
    .doc = "AutoAWQ's gemm: 4 bits, zero points, float16 scales; read by most programs",
    .scale = WANE_F16,
    .zeros = WANE_ZEROS_ALWAYS,
    .reads = reads,
    .check = check,
    .encode = encode,
    .config = config,
    .holds = holds,
    .inspect = inspect,
    .read = read,
};
