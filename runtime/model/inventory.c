/* inventory.c - whether a checkpoint is what its config says: every tensor there, none besides, all
 * floating point and of the implied shapes; and not the output of a quantizer. See model.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/nearest.h"
#include "runtime/base/units.h"
#include "runtime/model/model.h"

typedef wane_expected expected;

typedef struct {
    const wane_config *config;
    const wane_checkpoint *c; /* NULL while only the list is made */
    expected *item;           /* sorted by name */
    size_t count;
    wane_holds holds;   /* NULL: no matrix may be kept as codes */
    wane_findings *all; /* NULL: the first that is wrong will do */
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

/* In a dense checkpoint, of no use, and yet found: a head that is the embedding again, and tables
 * that old files kept. */
static bool harmless(const inventory *v, const char *name)
{
    return (v->c->config.tied && !strcmp(name, "lm_head.weight")) ||
           wane_ends(name, "rotary_emb.inv_freq");
}

/* Whether a tensor is of a matrix that is kept as codes: NAME.weight, NAME.qweight, ... */
static bool is_held(const inventory *v, const char *name)
{
    char matrix[WANE_NAME];
    const char *dot = strrchr(name, '.');
    if (!v->holds || !dot || (size_t)(dot - name) >= sizeof matrix) return false;
    snprintf(matrix, sizeof matrix, "%.*s", (int)(dot - name), name);
    return strncmp(dot, ".bias", 6) && v->holds(v->c, matrix);
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
        if (wane_ends(name, suffix[i])) return true;
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

/* Whether an expected tensor, if it is there, is what it should be. */
static bool fits(const inventory *v, const expected *x, const wane_entry **entry,
                 const wane_safetensors **file)
{
    const wane_entry *t = wane_checkpoint_find(v->c, x->name, file);
    *entry = t;
    return !t || (wane_entry_floating(t) && t->rank == x->rank && t->shape[0] == x->shape[0] &&
                  (x->rank == 1 || t->shape[1] == x->shape[1]));
}

/* The first expected tensor that is there and is something else; NULL where all fit. */
static const expected *misfit(const inventory *v, const wane_entry **entry,
                              const wane_safetensors **file)
{
    for (size_t i = 0; i < v->count; i++)
        if (!fits(v, &v->item[i], entry, file)) return &v->item[i];
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

static wane_status refuse_shape(const expected *x, const wane_entry *t,
                                const wane_safetensors *file, wane_err *e)
{
    char is[160], wanted[64];
    shape_text(wanted, sizeof wanted, x);
    wane_entry_describe(t, is, sizeof is);
    if (wane_entry_floating(t))
        return refuse(file->path, x->name, WANE_EFORMAT, e,
                      "tensor %s is %s, expected %s by config.json, which is of another model; "
                      "fetch both again: wane get ORG/MODEL",
                      x->name, is, wanted);
    if (!strcmp(t->dtype_name, "F64"))
        return refuse(file->path, x->name, WANE_EUNSUPPORTED, e,
                      "tensor %s is %s, expected F32, F16 or BF16 %s: store it in one of these",
                      x->name, is, wanted);
    bool float8 = !strncmp(t->dtype_name, "F8_", 3);
    return refuse(
        file->path, x->name, WANE_EUNSUPPORTED, e,
        "tensor %s is %s, expected F32, F16 or BF16 %s: %s; %s", x->name, is, wanted,
        float8 ? "float8, whose scales wane does not read" : "the model is quantized already", FIX);
}

/* Shapes and dtypes of all expected tensors that are there. */
static wane_status check_shapes(const inventory *v, wane_err *e)
{
    wane_status first = WANE_OK;
    for (size_t i = 0; i < v->count && (!first || v->all); i++) {
        const wane_entry *t;
        const wane_safetensors *file;
        wane_err here;
        if (is_held(v, v->item[i].name) || fits(v, &v->item[i], &t, &file)) continue;
        refuse_shape(&v->item[i], t, file, &here);
        wane_findings_add(v->all, &here);
        if (!first && e) *e = here;
        if (!first) first = here.status;
    }
    return first;
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
        if (is_expected(v, name) || harmless(v, name) || is_held(v, name)) continue;
        if (n_extra < LISTED) append(extra, sizeof extra, name);
        if (!code && is_code(name)) code = name;
        others[n_extra++] = name;
    }
    for (size_t i = 0; i < v->count; i++) {
        const char *name = v->item[i].name;
        if (wane_checkpoint_find(v->c, name, NULL) || is_held(v, name)) continue;
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
    return wane_checkpoint_survey_tensors(c, NULL, NULL, e);
}

wane_status wane_checkpoint_survey_tensors(const wane_checkpoint *c, wane_holds holds,
                                           wane_findings *all, wane_err *e)
{
    inventory v = {.config = &c->config, .c = c, .holds = holds, .all = all};
    wane_err names;
    wane_status s = list_expected(&v, e), other;
    const json_t *said = wane_config_quantization(&c->config);
    if (!s && said && !holds) {
        s = refuse_config(&v, said, e);
        if (all && e) wane_findings_add(all, e);
        goto done; /* what follows would say it again, of every tensor */
    }
    if (!s) s = check_shapes(&v, e);
    if (s && !all) goto done;
    other = v.item ? check_names(&v, &names) : WANE_OK;
    if (other) wane_findings_add(all, &names);
    if (other && !s && e) *e = names;
    if (!s) s = other;
done:
    free(v.item);
    return s;
}

/* The part of a name after "model." and "layers.N.", with other numbers as N: experts.N.up_proj.
 * Gives whether it is of a layer. */
static bool part_of(const char *name, char out[WANE_NAME])
{
    size_t at = 0;
    int used = 0;
    if (!strncmp(name, "model.", 6)) name += 6;
    if (sscanf(name, "layers.%*9[0-9].%n", &used) == 0 && used) name += used;
    for (const char *p = name; *p && at < WANE_NAME - 1; p++) {
        bool digit = *p >= '0' && *p <= '9', begins = p == name || p[-1] == '.';
        size_t digits = strspn(p, "0123456789");
        if (digit && begins && (p[digits] == '.' || !p[digits])) {
            out[at++] = 'N';
            p += digits - 1;
        } else {
            out[at++] = *p;
        }
    }
    out[at] = 0;
    return used > 0;
}

static bool in_tables(const char *part, bool of_layer)
{
    char name[WANE_NAME];
    if (!of_layer)
        return !strcmp(part, "embed_tokens.weight") || !strcmp(part, "norm.weight") ||
               !strcmp(part, "lm_head.weight");
    if (wane_ends(part, "rotary_emb.inv_freq")) return true;
    for (int n = 0; n < WANE_NORMS; n++)
        if (!strcmp(part, wane_norms[n].name)) return true;
    for (int id = 0; id < WANE_LINEARS; id++) {
        snprintf(name, sizeof name, "%s.weight", wane_matrices[id].name);
        if (!strcmp(part, name)) return true;
        snprintf(name, sizeof name, "%s.bias", wane_matrices[id].name);
        if (!strcmp(part, name)) return true;
    }
    return false;
}

/* Names of layer 0 that the tables have and the checkpoint has not. */
static void list_absent(const wane_checkpoint *c, char *out, size_t size)
{
    char name[WANE_NAME], part[WANE_NAME];
    for (int n = 0; n < WANE_NORMS; n++)
        if (!wane_norms[n].of_heads &&
            !wane_checkpoint_find(c, wane_layer_name(name, 0, wane_norms[n].name), NULL))
            append(out, size, wane_norms[n].name);
    for (int id = 0; id < WANE_LINEARS; id++) {
        snprintf(part, sizeof part, "%s.weight", wane_matrices[id].name);
        if (!wane_checkpoint_find(c, wane_layer_name(name, 0, part), NULL)) append(out, size, part);
    }
}

bool wane_checkpoint_lacking(const wane_checkpoint *c, char *out, size_t size)
{
    char extra[240] = "", absent[200] = "", part[WANE_NAME];
    int listed = 0;
    for (size_t i = 0; i < c->count && listed < 6; i++) {
        const char *name = c->tensor[i].entry->name;
        bool of_layer = part_of(name, part);
        if (in_tables(part, of_layer) || is_code(name) || strstr(extra, part)) continue;
        append(extra, sizeof extra, part);
        listed++;
    }
    list_absent(c, absent, sizeof absent);
    snprintf(out, size, "%s%s%s%s%s",
             extra[0] ? "its weights have what no table of families has: " : "", extra,
             extra[0] && absent[0] ? "; " : "", absent[0] ? "they lack what the tables have: " : "",
             absent);
    return out[0] != 0;
}
