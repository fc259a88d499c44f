/* save.c - a quantized model to a folder: weights in shards, config, tokenizer, report; read back
 * before it gets its name.
 *
 * Everything goes into DIR.partial-PID beside DIR. One layer is on the host at a time but for what
 * waits for its shard to be full. config.json is the source's own text with one member more,
 * so that nothing in it changes. */
#include "runtime/save/save.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/model/model.h"

enum { PATH = 4096 };

typedef struct {
    wane_model *model;
    const wane_packing *packing;
    const wane_save_options *options;
    char dir[PATH];   /* the temporary one */
    wane_parts unit;  /* of what is being encoded: a layer, or a tensor that is in none */
    wane_parts parts; /* of the shard being filled */
    int shards;
    uint64_t bytes, files; /* of all tensors in the shards so far; of the files they are in */
    json_t *map;           /* tensor -> shard number, until the names are known */
    wane_packed_grid grid;
    int64_t width;    /* columns of a group of the last matrix */
    wane_linear head; /* on the host; empty where tied */
} saving;

/* The one grid of all matrices so far, and that the packing can hold this one. Whole rows are told
 * apart from a group as wide as some matrices by every matrix having one scale a row. */
static wane_status join_grid(saving *v, const wane_quantized *q, const char *name, wane_err *e)
{
    wane_packed_grid *g = &v->grid;
    if (!q)
        return wane_fail(e, WANE_EUNSUPPORTED, "%s is not quantized: there is nothing to pack",
                         name);
    wane_status s = v->packing->check(q, name, e);
    if (s) return s;
    bool first = !g->bits, rows = q->group == q->k && (first || g->group == -1);
    int64_t group = rows ? -1 : q->group;
    if (!first && (g->bits != q->bits || g->act_bits != q->act_bits || g->symmetric != !q->zero ||
                   (!rows && v->width != q->group)))
        return wane_fail(e, WANE_EUNSUPPORTED, "%s has another grid than the matrices before it",
                         name);
    *g = (wane_packed_grid){q->bits, q->act_bits, group, !q->zero, NULL};
    v->width = q->group;
    return WANE_OK;
}

static wane_status find_grid(saving *v, wane_err *e)
{
    static const char *const head[] = {"lm_head", NULL}, *const none[] = {NULL};
    wane_status s = WANE_OK;
    for (int i = 0; i < (int)v->model->config->layers && !s; i++) {
        wane_layer *l = NULL;
        s = v->model->source.layer(v->model->source.self, i, v->model->host, &l, e);
        for (int id = 0; id < WANE_LINEARS && !s; id++) {
            char name[WANE_NAME];
            wane_layer_name(name, i, wane_linear_name(id));
            s = join_grid(v, l->linear[id].quantized, name, e);
        }
        wane_layer_release(l);
    }
    if (!s && !v->model->config->tied)
        s = v->model->source.head(v->model->source.self, v->model->host, &v->head, e);
    if (!s && v->head.quantized) s = join_grid(v, v->head.quantized, "lm_head", e);
    v->grid.dense = v->head.quantized ? none : head;
    return s;
}

static wane_status flush_shard(saving *v, wane_err *e)
{
    char path[PATH + 64];
    if (!v->parts.count) return WANE_OK;
    v->shards++;
    for (size_t i = 0; i < v->parts.count; i++)
        if (json_object_set_new(v->map, v->parts.named[i].name, json_integer(v->shards)))
            return wane_fail(e, WANE_EOOM, "no memory for the index");
    snprintf(path, sizeof path, "%s/shard-%05d.safetensors", v->dir, v->shards);
    v->bytes += v->parts.bytes;
    wane_status s = wane_safetensors_write(path, v->parts.named, v->parts.count, NULL, e);
    wane_parts_clear(&v->parts);
    return s;
}

/* The unit's tensors go to the shard that is being filled, or to the next where that is full. */
static wane_status spread(saving *v, wane_err *e)
{
    uint64_t most = v->options->shard_bytes ? v->options->shard_bytes : 5000000000u;
    wane_status s = WANE_OK;
    for (size_t i = 0; i < v->unit.count && !s; i++) {
        wane_tensor *t = (wane_tensor *)(uintptr_t)v->unit.named[i].tensor;
        uint64_t bytes = wane_tensor_bytes(t);
        if (v->parts.count && (v->parts.bytes >= most || bytes > most - v->parts.bytes))
            s = flush_shard(v, e);
        if (!s)
            s = wane_parts_add(&v->parts, v->unit.named[i].name, NULL, wane_tensor_retain(t), e);
    }
    wane_parts_clear(&v->unit);
    return s;
}

static wane_status add(saving *v, const char *prefix, const char *suffix, wane_tensor *t,
                       wane_err *e)
{
    return t ? wane_parts_add(&v->unit, prefix, suffix, wane_tensor_retain(t), e) : WANE_OK;
}

static wane_status save_layer(saving *v, int i, wane_err *e)
{
    wane_layer *l = NULL;
    char name[WANE_NAME];
    wane_status s = v->model->source.layer(v->model->source.self, i, v->model->host, &l, e);
    if (s) return s;
    s = add(v, wane_layer_name(name, i, "input_layernorm"), "weight", l->input_norm, e);
    if (!s)
        s = add(v, wane_layer_name(name, i, "post_attention_layernorm"), "weight", l->post_norm, e);
    if (!s) s = add(v, wane_layer_name(name, i, "self_attn.q_norm"), "weight", l->q_norm, e);
    if (!s) s = add(v, wane_layer_name(name, i, "self_attn.k_norm"), "weight", l->k_norm, e);
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        const wane_linear *linear = &l->linear[id];
        wane_layer_name(name, i, wane_linear_name(id));
        s = add(v, name, "bias", linear->bias, e);
        if (!s) s = v->packing->encode(linear->quantized, name, v->model->host, &v->unit, e);
    }
    wane_layer_release(l);
    return s ? s : spread(v, e);
}

/* The full name of a tensor that is in no layer and is not the head; NULL of others. */
static const char *rest_name(const wane_entry *entry, char out[PATH])
{
    bool bare = strncmp(entry->name, "model.", 6) && strncmp(entry->name, "lm_head.", 8);
    snprintf(out, PATH, "%s%s", bare ? "model." : "", entry->name);
    return strncmp(out, "model.layers.", 13) && strncmp(out, "lm_head.", 8) ? out : NULL;
}

/* What is no layer: embedding, final norm, a head of its own; as stored, under their full names. */
static wane_status save_rest(saving *v, wane_err *e)
{
    const wane_checkpoint *c = v->model->checkpoint;
    wane_status s = WANE_OK;
    for (size_t i = 0; i < c->count && !s; i++) {
        char name[PATH];
        if (!rest_name(c->tensor[i].entry, name)) continue;
        wane_tensor *t = NULL;
        s = wane_safetensors_load(c->tensor[i].shard, c->tensor[i].entry, v->model->host, &t, e);
        if (!s) s = wane_parts_add(&v->unit, name, NULL, t, e);
        if (!s) s = spread(v, e);
    }
    if (s || v->model->config->tied) return s;
    s = v->head.quantized
            ? v->packing->encode(v->head.quantized, "lm_head", v->model->host, &v->unit, e)
            : add(v, "lm_head", "weight", v->head.weight, e);
    return s ? s : spread(v, e);
}

/* Shards get their final names once it is known how many they are; more than one gets an index. */
static wane_status name_shards(saving *v, wane_err *e)
{
    char from[PATH + 64], to[PATH + 64], shown[64];
    for (int i = 1; i <= v->shards; i++) {
        if (v->shards == 1)
            snprintf(shown, sizeof shown, "model.safetensors");
        else
            snprintf(shown, sizeof shown, "model-%05d-of-%05d.safetensors", i, v->shards);
        snprintf(from, sizeof from, "%s/shard-%05d.safetensors", v->dir, i);
        snprintf(to, sizeof to, "%s/%s", v->dir, shown);
        struct stat about;
        if (rename(from, to) || stat(to, &about)) return wane_fail_io(e, "rename", from);
        v->files += (uint64_t)about.st_size;
    }
    if (v->shards == 1) return WANE_OK;
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(v->map, next, key, value)
    {
        snprintf(shown, sizeof shown, "model-%05d-of-%05d.safetensors",
                 (int)json_integer_value(value), v->shards);
        json_object_set_new(v->map, key, json_string(shown));
    }
    json_t *index = json_pack("{s:{s:I},s:O}", "metadata", "total_size", (json_int_t)v->bytes,
                              "weight_map", v->map);
    char *text = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(index);
    if (!text) return wane_fail(e, WANE_EOOM, "no memory for the index");
    snprintf(to, sizeof to, "%s/model.safetensors.index.json", v->dir);
    wane_status s = wane_file_write_all(to, text, strlen(text), e);
    free(text);
    return s;
}

/* The source's config.json with a quantization_config put before its last brace. A source that has
 * one, of packed weights or null, is written anew as a whole. */
static wane_status save_config(saving *v, wane_err *e)
{
    char path[PATH + 64], *text = NULL, *out = NULL;
    size_t length = 0;
    json_t *q = NULL;
    wane_status s = v->packing->config(&v->grid, &q, e);
    if (s) return s;
    snprintf(path, sizeof path, "%s/config.json", v->model->checkpoint->dir);
    if (json_object_get(v->model->config->json, "quantization_config")) {
        json_t *whole = json_deep_copy(v->model->config->json);
        if (whole && !json_object_set(whole, "quantization_config", q))
            out = json_dumps(whole, JSON_INDENT(2));
        json_decref(whole);
    } else {
        s = wane_file_read_all(path, 64u << 20, &text, &length, e);
        char *inner = s ? NULL : json_dumps(q, JSON_INDENT(2));
        char *brace = s ? NULL : strrchr(text, '}');
        if (inner && brace) {
            while (brace > text && strchr(" \t\r\n", brace[-1])) brace--;
            bool empty = brace > text && brace[-1] == '{';
            *brace = 0;
            if (asprintf(&out, "%s%s\n  \"quantization_config\": %s\n}\n", text, empty ? "" : ",",
                         inner) < 0)
                out = NULL;
        }
        free(inner);
    }
    if (!s && !out) s = wane_fail(e, WANE_EOOM, "no memory for config.json");
    snprintf(path, sizeof path, "%s/config.json", v->dir);
    if (!s) s = wane_file_write_all(path, out, strlen(out), e);
    free(out);
    free(text);
    json_decref(q);
    return s;
}

/* Files that travel with a model and are not weights or config. */
static bool travels(const char *name)
{
    static const char *const begins[] = {"tokenizer",
                                         "chat_template",
                                         "generation_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.",
                                         "merges.txt",
                                         "LICENSE",
                                         "NOTICE"};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(name, begins[i], strlen(begins[i]))) return true;
    return false;
}

static wane_status copy_file(const char *from, const char *to, wane_err *e)
{
    char *bytes = NULL;
    size_t length = 0;
    wane_status s = wane_file_read_all(from, 512u << 20, &bytes, &length, e);
    if (!s) s = wane_file_write_all(to, bytes, length, e);
    free(bytes);
    return s;
}

static wane_status save_companions(saving *v, wane_err *e)
{
    const char *source = v->model->checkpoint->dir;
    DIR *d = opendir(source);
    if (!d) return wane_fail_io(e, "list", source);
    wane_status s = WANE_OK;
    for (struct dirent *f; !s && (f = readdir(d));) {
        char from[PATH + 300], to[PATH + 300];
        struct stat st;
        if (!travels(f->d_name)) continue;
        snprintf(from, sizeof from, "%s/%s", source, f->d_name);
        snprintf(to, sizeof to, "%s/%s", v->dir, f->d_name);
        if (!stat(from, &st) && S_ISREG(st.st_mode)) s = copy_file(from, to, e);
    }
    closedir(d);
    if (s || !v->options->report) return s;
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/wane.json", v->dir);
    return wane_file_write_all(path, v->options->report, strlen(v->options->report), e);
}

static bool equal_bytes(const wane_tensor *a, const wane_tensor *b)
{
    if (!a || !b) return a == b;
    return a->dtype == b->dtype && wane_tensor_bytes(a) == wane_tensor_bytes(b) &&
           !memcmp(wane_tensor_mat(a).data, wane_tensor_mat(b).data, wane_tensor_bytes(a));
}

static bool equal_codes(const wane_quantized *a, const wane_quantized *b)
{
    if (!a || !b) return a == b;
    return a->bits == b->bits && a->act_bits == b->act_bits && a->group == b->group &&
           equal_bytes(a->words, b->words) && equal_bytes(a->scale, b->scale) &&
           equal_bytes(a->zero, b->zero);
}

bool wane_layer_equal(const wane_layer *a, const wane_layer *b, char *different)
{
    const char *name = NULL;
    if (!equal_bytes(a->input_norm, b->input_norm)) name = "input_layernorm";
    if (!equal_bytes(a->post_norm, b->post_norm)) name = "post_attention_layernorm";
    if (!equal_bytes(a->q_norm, b->q_norm)) name = "self_attn.q_norm";
    if (!equal_bytes(a->k_norm, b->k_norm)) name = "self_attn.k_norm";
    for (int id = 0; id < WANE_LINEARS && !name; id++) {
        const wane_linear *x = &a->linear[id], *y = &b->linear[id];
        if (!equal_bytes(x->weight, y->weight) || !equal_bytes(x->bias, y->bias) ||
            !equal_codes(x->quantized, y->quantized))
            name = wane_linear_name(id);
    }
    if (different) snprintf(different, WANE_NAME, "%s", name ? name : "");
    return !name;
}

static wane_status differs(const saving *v, const char *name, wane_err *e)
{
    return wane_fail(e, WANE_EIO,
                     "%s reads back differently from what was written to %s: is the disk sound?",
                     name, v->dir);
}

static wane_status prove_head(saving *v, wane_model *back, wane_err *e)
{
    wane_linear written = {0};
    if (v->model->config->tied) return WANE_OK;
    wane_status s = back->source.head(back->source.self, v->model->host, &written, e);
    if (!s && (!equal_bytes(written.weight, v->head.weight) ||
               !equal_codes(written.quantized, v->head.quantized)))
        s = differs(v, "lm_head", e);
    wane_linear_clear(&written);
    return s;
}

enum { CHUNK = 1 << 20 };

/* Whether the bytes of two entries are the same; both buffers have CHUNK bytes. */
static wane_status compare_entries(const saving *v, const wane_located *meant,
                                   const wane_located *written, char *a, char *b, bool *same,
                                   wane_err *e)
{
    uint64_t bytes = meant->entry->end - meant->entry->begin;
    wane_status s = WANE_OK;
    *same = written->entry->end - written->entry->begin == bytes;
    for (uint64_t at = 0, n; at < bytes && *same && !s; at += n) {
        n = bytes - at < CHUNK ? bytes - at : CHUNK;
        s = wane_device_poll(v->model->device, e);
        if (!s) s = wane_safetensors_read(meant->shard, meant->entry, at, n, a, e);
        if (!s) s = wane_safetensors_read(written->shard, written->entry, at, n, b, e);
        *same = !s && !memcmp(a, b, n);
    }
    return s;
}

static wane_status prove_rest(saving *v, wane_model *back, wane_err *e)
{
    const wane_checkpoint *c = v->model->checkpoint;
    char *a = malloc(CHUNK), *b = malloc(CHUNK), name[PATH];
    wane_status s = a && b ? WANE_OK : wane_fail(e, WANE_EOOM, "no memory to compare files");
    for (size_t i = 0; i < c->count && !s; i++) {
        wane_located written = {0};
        bool same = false;
        if (!rest_name(c->tensor[i].entry, name)) continue;
        written.entry = wane_checkpoint_find(back->checkpoint, name, &written.shard);
        if (written.entry) s = compare_entries(v, &c->tensor[i], &written, a, b, &same, e);
        if (!s && !same) s = differs(v, name, e);
    }
    free(a);
    free(b);
    return s;
}

/* Opens what was written and compares it with what should have been. */
static wane_status prove(saving *v, wane_err *e)
{
    wane_model *back = NULL, *model = v->model;
    wane_status s = wane_model_open(v->dir, model->host, model->host, &back, e);
    for (int i = 0; !s && i < (int)model->config->layers; i++) {
        wane_layer *written = NULL, *meant = NULL;
        char different[WANE_NAME], name[WANE_NAME];
        s = wane_device_poll(model->device, e);
        if (!s) s = back->source.layer(back->source.self, i, model->host, &written, e);
        if (!s) s = model->source.layer(model->source.self, i, model->host, &meant, e);
        if (!s && !wane_layer_equal(written, meant, different))
            s = differs(v, wane_layer_name(name, i, different), e);
        wane_layer_release(written);
        wane_layer_release(meant);
    }
    if (!s) s = prove_head(v, back, e);
    if (!s) s = prove_rest(v, back, e);
    wane_model_release(back);
    return s;
}

static wane_status write_all(saving *v, uint64_t *bytes, wane_err *e)
{
    wane_status s = find_grid(v, e);
    if (!s) s = save_rest(v, e);
    for (int i = 0; !s && i < (int)v->model->config->layers; i++) {
        s = wane_device_poll(v->model->device, e);
        if (!s) s = save_layer(v, i, e);
    }
    if (!s) s = flush_shard(v, e);
    if (!s) s = name_shards(v, e);
    if (!s) s = save_config(v, e);
    if (!s) s = save_companions(v, e);
    if (!s) s = prove(v, e);
    if (!s) s = wane_dir_sync(v->dir, e);
    *bytes = v->files;
    return s;
}

/* Whether a folder that is not there yet would lie in another, whatever links lead there. */
static bool lies_in(const char *dir, const char *other)
{
    char path[PATH], *root = realpath(other, NULL), *parent = NULL, *slash;
    snprintf(path, sizeof path, "%s", dir);
    do {
        slash = strrchr(path, '/');
        if (slash)
            slash[slash == path] = 0;
        else
            memcpy(path, ".", 2);
        parent = realpath(path, NULL);
    } while (!parent && slash && slash != path && errno == ENOENT);
    size_t length = root ? strlen(root) : 0;
    bool inside = root && parent && !strncmp(parent, root, length) &&
                  (!parent[length] || parent[length] == '/');
    free(root);
    free(parent);
    return inside;
}

wane_status wane_save(wane_model *model, const char *dir, const wane_save_options *options,
                      uint64_t *bytes, wane_err *e)
{
    struct stat st;
    char shown[512];
    saving v = {.model = model, .packing = options->packing, .options = options};
    wane_escape(shown, sizeof shown, dir, strlen(dir));
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/') length--;
    if (!length || length > PATH - 64)
        return wane_fail(e, WANE_EARG, "not a folder to save to: \"%s\"", shown);
    if (!lstat(dir, &st)) {
        wane_fail(e, WANE_EIO,
                  "%s is there already; wane does not write over it: remove it or name another",
                  shown);
        return wane_err_at(e, "save", NULL, dir);
    }
    snprintf(v.dir, sizeof v.dir, "%.*s", (int)length, dir);
    if (lies_in(v.dir, model->checkpoint->dir)) {
        wane_fail(e, WANE_EIO, "%s lies in the folder of the model it is made from; name another",
                  shown);
        return wane_err_at(e, "save", NULL, dir);
    }
    snprintf(v.dir, sizeof v.dir, "%.*s.partial-%ld", (int)length, dir, (long)getpid());
    v.map = json_object();
    if (!v.map) return wane_fail(e, WANE_EOOM, "no memory for the index");
    wane_status s = lstat(v.dir, &st)
                        ? WANE_OK
                        : wane_dir_remove(v.dir, e); /* of a process that had our number */
    if (!s) s = wane_dir_make(v.dir, e);
    if (!s) s = write_all(&v, bytes, e);
    if (!s) s = wane_rename(v.dir, dir, e);
    if (s) {
        wane_err_at(e, "save", NULL, dir);
        wane_dir_remove(v.dir, NULL);
    }
    wane_parts_clear(&v.unit);
    wane_parts_clear(&v.parts);
    wane_linear_clear(&v.head);
    json_decref(v.map);
    return s;
}
