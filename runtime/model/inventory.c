/* inventory.c - whether a checkpoint is what its config says: every tensor there, none besides, all
 * floating point and of the implied shapes, no NaN or Inf; and not the output of a quantizer.
 * See model.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/nearest.h"
#include "runtime/model/model.h"

typedef wane_expected expected;

typedef struct {
    const wane_config *config;
    const wane_checkpoint *c; /* NULL while only the list is made */
    expected *item;           /* sorted by name */
    size_t count;
} inventory;

enum { LISTED = 10, LAYER_MOST = WANE_NORMS + 2 * WANE_LINEARS };

static const char FIX[] = "use the base model it was made from, in 16 bits: wane get ORG/MODEL";

static void expect(inventory *v, const char *name, int64_t rows, int64_t cols)
{
    expected *x = &v->item[v->count++];
    snprintf(x->name, sizeof x->name, "%s", name);
    x->rank = cols ? 2 : 1;
    x->shape[0] = rows;
    x->shape[1] = cols;
}

static void expect_layer(inventory *v, int i)
{
    const wane_config *c = v->config;
    char name[WANE_NAME], part[64];
    for (int n = 0; n < WANE_NORMS; n++)
        if (!wane_norms[n].of_heads || c->family->qk_norm)
            expect(v, wane_layer_name(name, i, wane_norms[n].name),
                   wane_config_width(c, wane_norms[n].width), 0);
    for (int id = 0; id < WANE_LINEARS; id++) {
        int64_t m, k;
        wane_linear_shape(c, id, &m, &k);
        snprintf(part, sizeof part, "%s.weight", wane_linear_name(id));
        expect(v, wane_layer_name(name, i, part), m, k);
        if (!wane_linear_has_bias(c, id)) continue;
        snprintf(part, sizeof part, "%s.bias", wane_linear_name(id));
        expect(v, wane_layer_name(name, i, part), m, 0);
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const expected *)a)->name, ((const expected *)b)->name);
}

wane_status wane_config_expect(const wane_config *c, wane_expected **out, size_t *count,
                               wane_err *e)
{
    inventory v = {.config = c};
    v.item = calloc((size_t)c->layers * LAYER_MOST + 3, sizeof *v.item);
    *out = v.item;
    *count = 0;
    if (!v.item) return wane_fail(e, WANE_EOOM, "host: no memory to list the model's tensors");
    expect(&v, "model.embed_tokens.weight", c->vocabulary, c->hidden);
    for (int i = 0; i < c->layers; i++) expect_layer(&v, i);
    expect(&v, "model.norm.weight", c->hidden, 0);
    if (!c->tied) expect(&v, "lm_head.weight", c->vocabulary, c->hidden);
    *count = v.count;
    return WANE_OK;
}

static wane_status list_expected(inventory *v, wane_err *e)
{
    wane_status s = wane_config_expect(v->config, &v->item, &v->count, e);
    if (!s) qsort(v->item, v->count, sizeof *v->item, compare);
    return s;
}

static bool ends(const char *name, const char *with)
{
    size_t n = strlen(name), w = strlen(with);
    return n >= w && !strcmp(name + n - w, with);
}

/* In a dense checkpoint, of no use, and yet found: a head that is the embedding again, and tables
 * that old files kept. */
static bool harmless(const inventory *v, const char *name)
{
    return (v->c->config.tied && !strcmp(name, "lm_head.weight")) ||
           ends(name, "rotary_emb.inv_freq");
}

static bool is_expected(const inventory *v, const char *name)
{
    expected key;
    if (strlen(name) + sizeof "model." > sizeof key.name) return false;
    snprintf(key.name, sizeof key.name, "%s", name);
    if (bsearch(&key, v->item, v->count, sizeof key, compare)) return true;
    snprintf(key.name, sizeof key.name, "model.%s", name); /* how the base class spells it */
    return bsearch(&key, v->item, v->count, sizeof key, compare) != NULL;
}

/* Names by which quantizers keep codes, scales and tables. */
static bool is_code(const char *name)
{
    static const char *const suffix[] = {
        ".qweight",       ".qzeros", ".weight_packed",    ".weight_scale", ".W_q",
        ".weight.absmax", ".SCB",    ".weight.quant_map", ".scales",       ".weight_scale_inv"};
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++)
        if (ends(name, suffix[i])) return true;
    return false;
}

/* "PATH: text", with the path and tensor fields. */
__attribute__((format(printf, 5, 6))) static wane_status
refuse(const char *path, const char *tensor, wane_status s, wane_err *e, const char *format, ...)
{
    char text[760], shown[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    wane_fail(e, s, "%s: %s", wane_escape(shown, sizeof shown, path, strlen(path)), text);
    wane_err_at(e, "load", NULL, path);
    if (e && tensor) wane_escape(e->tensor, sizeof e->tensor, tensor, strlen(tensor));
    return s;
}

static void shape_text(char *out, size_t size, const expected *x)
{
    if (x->rank == 1)
        snprintf(out, size, "(%" PRId64 ")", x->shape[0]);
    else
        snprintf(out, size, "(%" PRId64 ", %" PRId64 ")", x->shape[0], x->shape[1]);
}

/* The first expected tensor that is there and is something else; NULL where all fit. */
static const expected *misfit(const inventory *v, const wane_entry **entry,
                              const wane_safetensors **file)
{
    for (size_t i = 0; i < v->count; i++) {
        const expected *x = &v->item[i];
        const wane_entry *t = wane_checkpoint_find(v->c, x->name, file);
        if (!t) continue;
        bool fits = wane_entry_floating(t) && t->rank == x->rank && t->shape[0] == x->shape[0] &&
                    (x->rank == 1 || t->shape[1] == x->shape[1]);
        *entry = t;
        if (!fits) return x;
    }
    return NULL;
}

static wane_status refuse_config(const inventory *v, const json_t *said, wane_err *e)
{
    char path[1024], method[64], example[400] = "", is[160], wanted[64];
    const wane_entry *t;
    const wane_safetensors *file;
    const char *name = json_string_value(json_object_get(said, "quant_method"));
    const expected *x = misfit(v, &t, &file);
    wane_escape(method, sizeof method, name ? name : "unnamed", strlen(name ? name : "unnamed"));
    if (x) {
        shape_text(wanted, sizeof wanted, x);
        snprintf(example, sizeof example, "; tensor %s is %s where a dense model has %s", x->name,
                 wane_entry_describe(t, is, sizeof is), wanted);
    }
    snprintf(path, sizeof path, "%s/config.json", v->c->dir);
    return refuse(path, x ? x->name : NULL, WANE_EUNSUPPORTED, e,
                  "has quantization_config (%s): the model is quantized already%s; %s", method,
                  example, FIX);
}

static wane_status check_shapes(const inventory *v, wane_err *e)
{
    char is[160], wanted[64];
    const wane_entry *t;
    const wane_safetensors *file;
    const expected *x = misfit(v, &t, &file);
    if (!x) return WANE_OK;
    shape_text(wanted, sizeof wanted, x);
    wane_entry_describe(t, is, sizeof is);
    if (!wane_entry_floating(t))
        return refuse(file->path, x->name, WANE_EUNSUPPORTED, e,
                      "tensor %s is %s, expected F32, F16 or BF16 %s: the model is quantized "
                      "already; %s",
                      x->name, is, wanted, FIX);
    return refuse(file->path, x->name, WANE_EFORMAT, e,
                  "tensor %s is %s, expected %s by config.json, which is of another model; fetch "
                  "both again: wane get ORG/MODEL",
                  x->name, is, wanted);
}

static void append(char *text, size_t size, const char *name)
{
    char shown[128];
    size_t at = strlen(text);
    snprintf(text + at, size - at, "%s%s", at ? ", " : "",
             wane_escape(shown, sizeof shown, name, strlen(name)));
}

/* Missing and unexpected tensors, the first ten of each; the first missing one with the unexpected
 * name nearest to it. */
static wane_status check_names(const inventory *v, wane_err *e)
{
    char missing[280] = "", extra[280] = "", hint[160] = "";
    const char *first = NULL, *code = NULL;
    size_t n_missing = 0, n_extra = 0;
    wane_status s = WANE_OK;
    const char **others = malloc((v->c->count ? v->c->count : 1) * sizeof *others);
    if (!others) return wane_fail(e, WANE_EOOM, "host: no memory to list the model's tensors");
    for (size_t i = 0; i < v->c->count; i++) {
        const char *name = v->c->tensor[i].entry->name;
        if (is_expected(v, name) || harmless(v, name)) continue;
        if (n_extra < LISTED) append(extra, sizeof extra, name);
        if (!code && is_code(name)) code = name;
        others[n_extra++] = name;
    }
    for (size_t i = 0; i < v->count; i++) {
        const char *name = v->item[i].name;
        if (wane_checkpoint_find(v->c, name, NULL)) continue;
        if (n_missing < LISTED) append(missing, sizeof missing, name);
        if (!first) first = name;
        n_missing++;
    }
    if (code) {
        s = refuse(v->c->dir, code, WANE_EUNSUPPORTED, e,
                   "holds codes of a quantizer (%s): the model is quantized already; %s",
                   wane_escape(hint, sizeof hint, code, strlen(code)), FIX);
    } else if (n_missing) {
        const char *near = wane_nearest(first, others, n_extra);
        if (near) append(hint, sizeof hint, near);
        s = refuse(v->c->dir, first, WANE_EFORMAT, e,
                   "%zu tensors are missing: %s%s%s%s%s%s; fetch them with: wane get ORG/MODEL",
                   n_missing, missing, near ? " (nearest to the first: " : "", hint,
                   near ? ")" : "", n_extra ? "; unexpected: " : "", extra);
    } else if (n_extra) {
        s = refuse(v->c->dir, others[0], WANE_EFORMAT, e,
                   "%zu tensors that config.json has no use for: %s; a model with them would be "
                   "computed wrongly",
                   n_extra, extra);
    }
    free(others);
    return s;
}

wane_status wane_checkpoint_check_dense(const wane_checkpoint *c, wane_err *e)
{
    inventory v = {.config = &c->config, .c = c};
    wane_status s = list_expected(&v, e);
    const json_t *said = wane_config_quantization(&c->config);
    if (!s && said) s = refuse_config(&v, said, e);
    if (!s) s = check_shapes(&v, e);
    if (!s) s = check_names(&v, e);
    free(v.item);
    return s;
}

/* Whether one of n values is NaN or Inf: without its sign, at least the bits of infinity. A
 * maximum, as that is what compilers make quick. */
static bool any_bad_16(const int16_t *x, size_t n, int16_t infinity)
{
    int16_t top = 0;
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < n; i++) {
        int16_t bits = x[i] & 0x7fff;
        top = bits > top ? bits : top;
    }
    return top >= infinity;
}

static bool any_bad_32(const int32_t *x, size_t n)
{
    int32_t top = 0;
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < n; i++) {
        int32_t bits = x[i] & 0x7fffffff;
        top = bits > top ? bits : top;
    }
    return top >= 0x7f800000;
}

/* How many of n values are NaN or Inf; *at is the first of them. */
static uint64_t count_bad(const void *data, wane_dtype dtype, size_t n, size_t *at)
{
    const int16_t infinity = dtype == WANE_F16 ? 0x7c00 : 0x7f80;
    uint64_t bad = 0;
    *at = 0;
    if (dtype == WANE_F32 ? !any_bad_32(data, n) : !any_bad_16(data, n, infinity)) return 0;
    for (size_t i = n; i-- > 0;) {
        bool is_bad = dtype == WANE_F32 ? any_bad_32((const int32_t *)data + i, 1)
                                        : any_bad_16((const int16_t *)data + i, 1, infinity);
        if (is_bad) *at = i;
        bad += is_bad;
    }
    return bad;
}

static wane_status check_entry(const wane_located *t, const wane_device *poll, void *piece,
                               uint64_t size, wane_err *e)
{
    uint64_t bytes = t->entry->end - t->entry->begin, bad = 0, first = 0;
    uint64_t width = wane_dtype_bytes(t->entry->dtype);
    for (uint64_t at = 0; at < bytes; at += size) {
        uint64_t n = bytes - at < size ? bytes - at : size;
        size_t where;
        wane_status s = poll ? wane_device_poll(poll, e) : WANE_OK;
        if (!s) s = wane_safetensors_read(t->shard, t->entry, at, n, piece, e);
        if (s) return s;
        uint64_t here = count_bad(piece, t->entry->dtype, (size_t)(n / width), &where);
        if (here && !bad) first = at / width + where;
        bad += here;
    }
    if (!bad) return WANE_OK;
    char shown[160];
    wane_escape(shown, sizeof shown, t->entry->name, strlen(t->entry->name));
    return refuse(t->shard->path, t->entry->name, WANE_ENUMERIC, e,
                  "tensor %s has %" PRIu64
                  " values that are NaN or Inf, the first at element %" PRIu64
                  "; the file is damaged: wane get ORG/MODEL fetches it again",
                  shown, bad, first + 1);
}

/* All threads read, a tensor each; of several bad ones the first in the list is told. */
wane_status wane_checkpoint_check_finite(const wane_checkpoint *c, const wane_device *poll,
                                         wane_err *e)
{
    const uint64_t size = 4 << 20;
    wane_status status = WANE_OK;
    size_t worst = c->count; /* the first tensor that failed */
#pragma omp parallel
    {
        void *piece = malloc(size);
#pragma omp for schedule(dynamic)
        for (size_t i = 0; i < c->count; i++) {
            wane_err why;
            wane_status s = WANE_OK;
            size_t failed;
#pragma omp atomic read
            failed = worst;
            if (i > failed || !wane_entry_floating(c->tensor[i].entry)) continue;
            if (!piece) s = wane_fail(&why, WANE_EOOM, "host: no memory to read weights");
            if (!s) s = check_entry(&c->tensor[i], poll, piece, size, &why);
            if (!s) continue;
#pragma omp critical
            if (i < worst) {
#pragma omp atomic write
                worst = i;
                status = s;
                if (e) *e = why;
            }
        }
        free(piece);
    }
    return status;
}
