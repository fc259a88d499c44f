/* config.c - see config.h. Reads config.json and generation_config.json field by field.
 *
 * Defaults are those of the configuration classes of Hugging Face Transformers for the same family;
 * a field whose default would be a guess is required. Limits: facts that no model comes near, so
 * that later products of these numbers fit. Yarn (Peng et al. 2023, arXiv:2309.00071) scales
 * cosines and sines, of queries and of keys: here it is the square of that, on their products. */
#include "runtime/model/config.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/nearest.h"

enum {
    HIDDEN_MOST = 65536,
    LAYERS_MOST = 1024,
    HEADS_MOST = 1024,
    HEAD_DIM_MOST = 1024,
    MLP_MOST = 1 << 20,
    VOCABULARY_MOST = 4194304,
    POSITIONS_MOST = 1 << 28,
    EOS_MOST = 16
};
static const uint64_t FILE_MOST = 64 << 20;
static const int64_t REQUIRED = INT64_MIN; /* instead of a default */

/* One file being read. The first failure is kept, and where all is given every one. */
typedef struct {
    const char *path;
    wane_status status;
    wane_err *e;
    wane_findings *all;
} reader;

__attribute__((format(printf, 3, 4))) static void refuse(reader *r, wane_status s,
                                                         const char *format, ...)
{
    char path[400], text[560];
    wane_err here;
    va_list args;
    if (r->status && !r->all) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    wane_escape(path, sizeof path, r->path, strlen(r->path));
    wane_fail(&here, s, "%s: %s", path, text);
    wane_err_at(&here, "config", NULL, r->path);
    wane_findings_add(r->all, &here);
    if (!r->status && r->e) *r->e = here;
    if (!r->status) r->status = s;
}

/* A value as JSON, short enough for a message. */
static const char *show(char *out, size_t size, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    wane_escape(out, size, text ? text : "?", strlen(text ? text : "?"));
    free(text);
    return out;
}

static void refuse_value(reader *r, const char *name, const json_t *value, const char *rule)
{
    char shown[64];
    refuse(r, WANE_EFORMAT, "%s is %s; it must be %s", name, show(shown, sizeof shown, value),
           rule);
}

/* The field, or NULL where it is absent or null. */
static const json_t *field(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

static int64_t integer(reader *r, const json_t *object, const char *name, int64_t least,
                       int64_t most, int64_t otherwise)
{
    char rule[96];
    const json_t *value = field(object, name);
    if (!value && otherwise != REQUIRED) return otherwise;
    if (!value) {
        refuse(r, WANE_EFORMAT, "%s is missing", name);
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < least ||
        json_integer_value(value) > most) {
        snprintf(rule, sizeof rule, "a whole number from %" PRId64 " to %" PRId64, least, most);
        refuse_value(r, name, value, rule);
        return 0;
    }
    return json_integer_value(value);
}

/* A number in [least, most]; where open is set, in (least, most). */
static double number(reader *r, const json_t *object, const char *name, double least, double most,
                     bool open, double otherwise)
{
    char rule[96];
    const json_t *value = field(object, name);
    if (!value && !isnan(otherwise)) return otherwise;
    if (!value) {
        refuse(r, WANE_EFORMAT, "%s is missing", name);
        return 0;
    }
    double v = json_number_value(value);
    bool fits = json_is_number(value) && (open ? v > least && v < most : v >= least && v <= most);
    if (!fits) {
        snprintf(rule, sizeof rule, open ? "a number between %g and %g" : "a number from %g to %g",
                 least, most);
        refuse_value(r, name, value, rule);
        return 0;
    }
    return v;
}

static bool boolean(reader *r, const json_t *object, const char *name, bool otherwise)
{
    const json_t *value = field(object, name);
    if (!value) return otherwise;
    if (!json_is_boolean(value)) refuse_value(r, name, value, "true or false");
    return json_is_true(value);
}

/* A string without a NUL inside, or NULL where absent. */
static const char *string(reader *r, const json_t *object, const char *name)
{
    const json_t *value = field(object, name);
    if (!value) return NULL;
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        refuse_value(r, name, value, "a string");
        return NULL;
    }
    return json_string_value(value);
}

static void refuse_family(reader *r, const char *name, const char *given)
{
    const char *types[64], *near;
    char shown[64], list[256] = "";
    size_t n = 0;
    for (const wane_family *f = wane_families; f->model_type && n < 64; f++) {
        size_t at = strlen(list);
        types[n] = strcmp(name, "model_type") ? f->architecture : f->model_type;
        snprintf(list + at, sizeof list - at, "%s%s", n ? ", " : "", types[n]);
        n++;
    }
    near = wane_nearest(given, types, n);
    wane_escape(shown, sizeof shown, given, strlen(given));
    refuse(r, WANE_EUNSUPPORTED, "%s \"%s\" is not in wane's table of families, which has %s%s%s%s",
           name, shown, list, near ? " (nearest: " : "", near ? near : "", near ? ")" : "");
}

static void read_family(reader *r, const json_t *j, wane_config *c)
{
    const char *type = string(r, j, "model_type"), *architecture = NULL;
    const json_t *list = field(j, "architectures");
    if (!type && field(j, "model_type")) return;
    if (list) {
        const json_t *first = json_array_get(list, 0);
        if (!json_is_string(first)) {
            refuse_value(r, "architectures", list, "a list of names");
            return;
        }
        architecture = json_string_value(first);
    }
    if (!type && !architecture) {
        refuse(r, WANE_EFORMAT, "model_type is missing");
        return;
    }
    for (const wane_family *f = wane_families; f->model_type && !c->family; f++)
        if (type ? !strcmp(type, f->model_type) : !strcmp(architecture, f->architecture))
            c->family = f;
    if (!c->family)
        refuse_family(r, type ? "model_type" : "architecture", type ? type : architecture);
    else if (architecture && strcmp(architecture, c->family->architecture))
        refuse_family(r, "architecture", architecture);
}

static void read_sizes(reader *r, const json_t *j, wane_config *c)
{
    c->hidden = integer(r, j, "hidden_size", 1, HIDDEN_MOST, REQUIRED);
    c->layers = integer(r, j, "num_hidden_layers", 1, LAYERS_MOST, REQUIRED);
    c->heads = integer(r, j, "num_attention_heads", 1, HEADS_MOST, REQUIRED);
    int64_t kv_heads = c->family && c->family->kv_heads ? c->family->kv_heads : c->heads;
    if (json_is_null(json_object_get(j, "num_key_value_heads"))) kv_heads = c->heads;
    c->kv_heads = integer(r, j, "num_key_value_heads", 1, HEADS_MOST, kv_heads);
    c->mlp = integer(r, j, "intermediate_size", 1, MLP_MOST, REQUIRED);
    c->vocabulary = integer(r, j, "vocab_size", 1, VOCABULARY_MOST, REQUIRED);
    c->positions = integer(r, j, "max_position_embeddings", 1, POSITIONS_MOST, REQUIRED);
    c->eps = (float)number(r, j, "rms_norm_eps", 0, 1, true, 1e-6);
    if (!r->status && !(c->eps > 0 && c->eps < 1))
        refuse(r, WANE_EFORMAT, "rms_norm_eps is not between 0 and 1 in float32");
    if (!c->heads || !c->kv_heads || !c->hidden || !c->family) return;
    if (c->heads % c->kv_heads)
        refuse(r, WANE_EFORMAT,
               "num_key_value_heads is %" PRId64 "; it must divide num_attention_heads, %" PRId64,
               c->kv_heads, c->heads);
    int64_t dim = c->family->head_dim;
    if (!dim && !field(j, "head_dim")) {
        if (c->hidden % c->heads)
            refuse(r, WANE_EFORMAT,
                   "num_attention_heads is %" PRId64
                   "; without head_dim it must divide hidden_size, %" PRId64,
                   c->heads, c->hidden);
        dim = c->hidden / c->heads;
    }
    c->head_dim = integer(r, j, "head_dim", 2, HEAD_DIM_MOST, dim);
    if (r->status) return;
    if (c->head_dim % 2 || c->head_dim < 2 || c->head_dim > HEAD_DIM_MOST)
        refuse(r, WANE_EFORMAT, "head_dim is %" PRId64 "; it must be an even number from 2 to %d",
               c->head_dim, HEAD_DIM_MOST);
}

static void read_switches(reader *r, const json_t *j, wane_config *c)
{
    const char *act = string(r, j, "hidden_act");
    char shown[64];
    if (act && strcmp(act, "silu"))
        refuse(r, WANE_EUNSUPPORTED, "hidden_act is \"%s\"; wane computes silu",
               wane_escape(shown, sizeof shown, act, strlen(act)));
    c->tied = boolean(r, j, "tie_word_embeddings", false);
    bool attention = boolean(r, j, "attention_bias", false), mlp = boolean(r, j, "mlp_bias", false);
    if (!c->family) return;
    c->o_bias = c->family->bias == WANE_BIAS_FLAG && attention;
    c->qkv_bias = c->family->bias == WANE_BIAS_QKV || c->o_bias;
    c->mlp_bias = c->family->mlp_bias && mlp;
}

/* Windows that would count are refused, but for one as long as any text of the model; the rest must
 * still make sense. */
static void read_windows(reader *r, const json_t *j, const wane_config *c)
{
    bool said = json_object_get(j, "sliding_window") != NULL;
    int64_t window =
        integer(r, j, "sliding_window", 1, INT64_MAX, c->family && !said ? c->family->window : 0);
    bool flag = boolean(r, j, "use_sliding_window", false);
    const json_t *types = field(j, "layer_types");
    if (!c->family || !c->layers) return;
    if (c->family->window_rule == WANE_WINDOW_FLAG && flag)
        refuse(r, WANE_EUNSUPPORTED,
               "use_sliding_window is true; wane computes full attention only: take a model "
               "without a window");
    if (c->family->window_rule == WANE_WINDOW_ALWAYS && window && window < c->positions)
        refuse(r, WANE_EUNSUPPORTED,
               "sliding_window is %" PRId64
               "%s; wane computes full attention only: take a model without a window",
               window, said ? "" : " where config.json has none");
    if (!types) return;
    if (!json_is_array(types) || (int64_t)json_array_size(types) != c->layers) {
        refuse(r, WANE_EFORMAT,
               "layer_types must be a list of num_hidden_layers (%" PRId64 ") names", c->layers);
        return;
    }
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *type = json_array_get(types, i);
        char shown[64];
        if (json_is_string(type) && !strcmp(json_string_value(type), "full_attention")) continue;
        refuse(r, WANE_EUNSUPPORTED, "layer_types[%zu] is %s; wane computes full_attention", i,
               show(shown, sizeof shown, type));
    }
}

static bool find_rope(reader *r, const char *kind, wane_rope_kind *out)
{
    char shown[64], list[128] = "";
    for (int i = 0; i < WANE_ROPES; i++) {
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", wane_ropes[i]);
        if (strcmp(kind, wane_ropes[i])) continue;
        *out = (wane_rope_kind)i;
        return true;
    }
    refuse(r, WANE_EUNSUPPORTED,
           "rope_type is \"%s\"; wane computes %s: where the model was trained on shorter texts "
           "without it, take its rope_scaling out",
           wane_escape(shown, sizeof shown, kind, strlen(kind)), list);
    return false;
}

/* Transformers' attention_factor: the one that is given, or by the two mscales, or by the factor.
 */
static double yarn_gain(reader *r, const json_t *rope, double factor)
{
    double m = number(r, rope, "mscale", 0, 1e3, false, 0),
           all = number(r, rope, "mscale_all_dim", 0, 1e3, false, 0);
    double grown = factor > 1 ? 0.1 * log(factor) : 0, gain = grown + 1;
    if (m > 0 && all > 0) gain = (m * grown + 1) / (all * grown + 1);
    gain = number(r, rope, "attention_factor", 0, 1e3, true, gain);
    return gain * gain;
}

/* factor may be null: what the context has grown by */
static void read_yarn(reader *r, const json_t *rope, wane_config *c)
{
    c->rope_original = (double)integer(r, rope, "original_max_position_embeddings", 1,
                                       POSITIONS_MOST, c->positions ? c->positions : 1);
    double grown = c->rope_original > 0 ? (double)c->positions / c->rope_original : 1;
    bool null = json_is_null(json_object_get(rope, "factor"));
    c->rope_factor = number(r, rope, "factor", 1, 1e6, false, null && grown >= 1 ? grown : NAN);
    c->rope_high = number(r, rope, "beta_fast", 0, 1e6, true, 32);
    c->rope_low = number(r, rope, "beta_slow", 0, 1e6, true, 1);
    c->rope_whole = boolean(r, rope, "truncate", true);
    c->rope_gain = yarn_gain(r, rope, c->rope_factor);
    if (c->rope_high > 0 && c->rope_high < c->rope_low)
        refuse(r, WANE_EFORMAT, "beta_fast is %g; it must not be below beta_slow, %g", c->rope_high,
               c->rope_low);
    if (c->rope_theta == 1)
        refuse(r, WANE_EFORMAT, "rope_theta is 1; with yarn it must be another number");
}

static void read_rope(reader *r, const json_t *j, wane_config *c)
{
    static const char *const spelling[] = {"rope_parameters", "rope_scaling"};
    const json_t *rope = NULL;
    c->rope_gain = 1;
    for (int i = 0; i < 2 && !rope; i++) {
        rope = field(j, spelling[i]);
        if (!rope || json_is_object(rope)) continue;
        refuse_value(r, spelling[i], rope, "an object or null");
        return;
    }
    const double tiny = 1e-6, huge = 1e15;
    bool inside = rope && field(rope, "rope_theta");
    c->rope_theta = number(r, inside ? rope : j, "rope_theta", tiny, huge, true, 10000.0);
    const json_t *rotated = rope && field(rope, "partial_rotary_factor") ? rope : j;
    if (number(r, rotated, "partial_rotary_factor", 0, 1, false, 1.0) != 1.0)
        refuse(r, WANE_EUNSUPPORTED, "partial_rotary_factor is not 1; wane turns whole heads");
    if (!rope) return;
    const char *key =
        field(rope, "rope_type") ? "rope_type" : "type"; /* before Transformers 4.43 */
    const char *kind = string(r, rope, key);
    if (kind && !find_rope(r, kind, &c->rope)) return;
    if (c->rope == WANE_ROPE_DEFAULT) {
        /* rope_parameters keyed by kinds of layers: a model that mixes them */
        json_t *value;
        json_object_foreach((json_t *)rope, key, value)
        {
            if (!json_is_object(value)) continue;
            refuse(r, WANE_EUNSUPPORTED, "rope_parameters differ by layer; wane turns all alike");
            break;
        }
        return;
    }
    if (c->rope == WANE_ROPE_YARN) {
        read_yarn(r, rope, c);
        return;
    }
    c->rope_factor = number(r, rope, "factor", 1, 1e6, false, NAN);
    if (c->rope == WANE_ROPE_LINEAR) return;
    c->rope_low = number(r, rope, "low_freq_factor", 0, 1e6, true, NAN);
    c->rope_high = number(r, rope, "high_freq_factor", 0, 1e6, true, NAN);
    c->rope_original =
        (double)integer(r, rope, "original_max_position_embeddings", 1, POSITIONS_MOST, REQUIRED);
    if (c->rope_high > 0 && c->rope_high <= c->rope_low)
        refuse(r, WANE_EFORMAT, "high_freq_factor is %g; it must be above low_freq_factor, %g",
               c->rope_high, c->rope_low);
}

static bool add_eos(wane_config *c, int64_t id)
{
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return true;
    if (c->n_eos == EOS_MOST) return false;
    c->eos[c->n_eos++] = (int32_t)id;
    return true;
}

/* eos_token_id: a number, a list of numbers or null */
static void read_eos(reader *r, const json_t *j, wane_config *c)
{
    const json_t *value = field(j, "eos_token_id");
    wane_status before = r->status;
    if (!value || !c->vocabulary) return;
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < n && r->status == before; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        char rule[96];
        snprintf(rule, sizeof rule, "an id (or a list of them) below vocab_size, %" PRId64,
                 c->vocabulary);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= c->vocabulary)
            refuse_value(r, "eos_token_id", value, rule);
        else if (!add_eos(c, json_integer_value(id)))
            refuse(r, WANE_EUNSUPPORTED, "eos_token_id has more than %d ids", EOS_MOST);
    }
}

static void read_tokens(reader *r, const json_t *j, wane_config *c)
{
    if (!c->vocabulary) return;
    c->bos = (int32_t)integer(r, j, "bos_token_id", 0, c->vocabulary - 1, -1);
    /* -1: how the first Llama checkpoints spell "none" */
    c->pad = (int32_t)integer(r, j, "pad_token_id", -1, c->vocabulary - 1, -1);
    read_eos(r, j, c);
}

static void read_config(reader *r, wane_config *c)
{
    const json_t *j = c->json;
    if (!json_is_object(j)) {
        refuse(r, WANE_EFORMAT, "is not a JSON object");
        return;
    }
    read_family(r, j, c);
    read_sizes(r, j, c);
    read_switches(r, j, c);
    read_windows(r, j, c);
    read_rope(r, j, c);
    read_tokens(r, j, c);
    const json_t *quantization = field(j, "quantization_config");
    if (quantization && !json_is_object(quantization))
        refuse_value(r, "quantization_config", quantization, "an object or null");
}

static wane_status join(char **out, const char *dir, const char *name, wane_err *e)
{
    if (asprintf(out, "%s/%s", dir, name) >= 0) return WANE_OK;
    *out = NULL;
    return wane_fail(e, WANE_EOOM, "host: no memory for a path");
}

static wane_status refuse_absent(const char *dir, wane_err *e)
{
    char shown[512];
    return wane_fail(
        e, WANE_EIO,
        "%s: there is no config.json, so it is no model's folder; a model of the Hub is "
        "fetched with: wane get ORG/MODEL",
        wane_escape(shown, sizeof shown, dir, strlen(dir)));
}

wane_status wane_config_load(const char *dir, wane_config *config, wane_err *e)
{
    return wane_config_survey(dir, config, NULL, e);
}

wane_status wane_config_survey(const char *dir, wane_config *config, wane_findings *all,
                               wane_err *e)
{
    char *path = NULL, *generation = NULL;
    json_t *more = NULL;
    wane_config c = {0};
    memset(config, 0, sizeof *config);
    wane_status s = join(&path, dir, "config.json", e);
    if (!s) s = join(&generation, dir, "generation_config.json", e);
    if (s) goto done;
    s = wane_json_load(path, FILE_MOST, &c.json, e);
    if (s) {
        if (s == WANE_EIO && access(path, F_OK) && errno == ENOENT) s = refuse_absent(dir, e);
        if (e) {
            wane_err_at(e, "config", NULL, path);
            snprintf(e->op, sizeof e->op, "config"); /* not "json" */
            wane_findings_add(all, e);
        }
        goto done;
    }
    reader r = {.path = path, .e = e, .all = all};
    read_config(&r, &c);
    s = r.status;
    if ((s && !all) || access(generation, F_OK)) goto done;
    wane_err other;
    wane_status wrong = wane_json_load(generation, FILE_MOST, &more, &other);
    if (wrong) {
        wane_findings_add(all, &other);
        if (!s && e) *e = other;
        if (!s) s = wrong;
        goto done;
    }
    r.path = generation;
    if (!json_is_object(more)) refuse(&r, WANE_EFORMAT, "is not a JSON object");
    read_eos(&r, more, &c);
    s = r.status;
done:
    if (s)
        json_decref(c.json);
    else
        *config = c;
    json_decref(more);
    free(path);
    free(generation);
    return s;
}

void wane_config_free(wane_config *c)
{
    json_decref(c->json);
    memset(c, 0, sizeof *c);
}

const json_t *wane_config_quantization(const wane_config *c)
{
    return field(c->json, "quantization_config");
}

int64_t wane_config_width(const wane_config *c, wane_width width)
{
    switch (width) {
    case WANE_WIDTH_QUERIES: return c->heads * c->head_dim;
    case WANE_WIDTH_KEYS: return c->kv_heads * c->head_dim;
    case WANE_WIDTH_MLP: return c->mlp;
    case WANE_WIDTH_HEAD: return c->head_dim;
    default: return c->hidden;
    }
}
