/* save.c - a quantized model to a folder: weights in shards, config, tokenizer, report; read back
 * before it gets its name.
 *
 * Everything goes into DIR.partial-PID beside DIR. One layer is on the host at a time but for what
 * waits for its shard to be full. What the codes cannot be is found out first, from their grid. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/save/sums.h"
#include "runtime/save/writing.h"

enum { PATH = WANE_SAVE_PATH };

typedef wane_saving saving;

wane_status wane_grid_join(wane_grid_found *found, const wane_quantized *q, const char *name,
                           wane_err *e)
{
    wane_packed_grid *g = &found->grid;
    if (!q)
        return wane_fail(e, WANE_EUNSUPPORTED, "%s is not quantized: there is nothing to pack",
                         name);
    bool first = !g->bits, rows = q->group == q->k && (first || g->group == -1);
    if (!first &&
        (g->bits != q->bits || g->act_bits != q->act_bits || (!rows && found->width != q->group)))
        return wane_fail(e, WANE_EUNSUPPORTED, "%s has another grid than the matrices before it",
                         name);
    *g = (wane_packed_grid){.bits = q->bits,
                            .act_bits = q->act_bits,
                            .group = rows ? -1 : q->group,
                            .symmetric = (first || g->symmetric) && wane_packed_centred(q),
                            .fractional = g->fractional || !wane_packed_whole(q)};
    found->width = q->group;
    return WANE_OK;
}

wane_status wane_grid_join_layer(wane_grid_found *found, const wane_layer *l, int i, wane_err *e)
{
    wane_status s = WANE_OK;
    for (int id = 0; id < WANE_LINEARS && !s; id++) {
        char name[WANE_NAME];
        wane_layer_name(name, i, wane_linear_name(id));
        s = wane_grid_join(found, l->linear[id].quantized, name, e);
    }
    return s;
}

static wane_status find_grid(saving *v, wane_err *e)
{
    wane_linear head = {0};
    wane_grid_found found = {0};
    wane_status s = WANE_OK;
    for (int i = 0; i < (int)v->model->config->layers && !s; i++) {
        wane_layer *l = NULL;
        s = v->model->source.layer(v->model->source.self, i, v->model->host, &l, e);
        if (!s) s = wane_grid_join_layer(&found, l, i, e);
        wane_layer_release(l);
    }
    if (!s && !v->model->config->tied)
        s = v->model->source.head(v->model->source.self, v->model->host, &head, e);
    if (!s && head.quantized) s = wane_grid_join(&found, head.quantized, "lm_head", e);
    v->grid = found.grid;
    v->grid.head = head.quantized != NULL;
    wane_linear_clear(&head);
    return s;
}

/* As it was foreseen, or as all layers have it. */
static wane_status begin_grid(saving *v, wane_err *e)
{
    wane_status s = WANE_OK;
    if (!v->packing) return WANE_OK;
    if (v->options->grid)
        v->grid = *v->options->grid;
    else
        s = find_grid(v, e);
    return s ? s : wane_config_check(v->model->config, v->packing, &v->grid, e);
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

static wane_status add_linear(saving *v, const char *name, const wane_linear *l, wane_err *e)
{
    wane_status s = add(v, name, "bias", l->bias, e);
    if (!s) s = add(v, name, "weight", l->weight, e);
    if (s || !l->quantized) return s;
    return v->packing->encode(l->quantized, name, v->model->host, &v->unit, e);
}

static wane_status save_layer(saving *v, int i, wane_err *e)
{
    wane_layer *l = NULL;
    char name[WANE_NAME];
    wane_status s = wane_stored_layer(v, i, &v->loss, &l, e);
    if (s) return s;
    for (int n = 0; n < WANE_NORMS && !s; n++)
        s = add(v, wane_layer_name(name, i, wane_norms[n].name), NULL, *wane_layer_norm(l, n), e);
    for (int id = 0; id < WANE_LINEARS && !s; id++)
        s = add_linear(v, wane_layer_name(name, i, wane_linear_name(id)), &l->linear[id], e);
    wane_layer_release(l);
    return s ? s : spread(v, e);
}

/* What is no layer: embedding, final norm; under their full names. */
static wane_status save_rest(saving *v, wane_err *e)
{
    const wane_checkpoint *c = v->model->checkpoint;
    wane_status s = WANE_OK;
    for (size_t i = 0; i < c->count && !s; i++) {
        char name[PATH];
        wane_tensor *t = NULL;
        if (!wane_stored_name(c->tensor[i].entry, name)) continue;
        s = wane_safetensors_load(c->tensor[i].shard, c->tensor[i].entry, v->model->host, &t, e);
        if (!s) s = wane_stored_tensor(v, name, &t, &v->loss, e);
        if (!s)
            s = wane_parts_add(&v->unit, name, NULL, t, e);
        else
            wane_tensor_release(t);
        if (!s) s = spread(v, e);
    }
    return s;
}

/* A head of its own. */
static wane_status save_head(saving *v, wane_err *e)
{
    wane_status s = wane_stored_head(v, &v->loss, &v->head, e);
    if (!s) s = add_linear(v, "lm_head", &v->head, e);
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
        if (json_object_set_new(v->map, key, json_string(shown)))
            return wane_fail(e, WANE_EOOM, "no memory for the index");
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

/* Files that travel with a model and are not weights or config. Never code: "tokenizer.py"; nor a
 * name that would be two lines of SHA256SUMS. */
static bool travels(const char *name)
{
    static const char *const ends[] = {".json", ".jinja", ".txt", ".model", ".md"};
    static const char *const begins[] = {"tokenizer",
                                         "chat_template",
                                         "generation_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.",
                                         "merges.txt",
                                         "LICENSE",
                                         "NOTICE"};
    const char *dot = strrchr(name, '.');
    bool data = !dot;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (*c < ' ' || *c == 0x7f || *c == '\\') return false;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && !data; i++) data = !strcmp(dot, ends[i]);
    for (size_t i = 0; data && i < sizeof begins / sizeof *begins; i++)
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
        if (!travels(f->d_name) || !wane_checkpoint_file(source, f->d_name)) continue;
        snprintf(from, sizeof from, "%s/%s", source, f->d_name);
        snprintf(to, sizeof to, "%s/%s", v->dir, f->d_name);
        s = copy_file(from, to, e);
    }
    closedir(d);
    const char *report = v->options->report;
    if (!s && v->options->await) s = v->options->await(v->options->self, &report, e);
    if (s || !report) return s;
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/wane.json", v->dir);
    return wane_file_write_all(path, report, strlen(report), e);
}

/* The type of a dense model's weights, where none is given: the embedding's. */
static wane_status find_dtype(saving *v, wane_err *e)
{
    const wane_entry *t =
        wane_checkpoint_find(v->model->checkpoint, "model.embed_tokens.weight", NULL);
    v->dense = v->packing ? WANE_DTYPES : v->options->dense;
    if (v->packing || v->dense != WANE_DTYPES) return WANE_OK;
    if (!t || !wane_entry_floating(t))
        return wane_fail(e, WANE_EFORMAT, "model.embed_tokens.weight is not floating point");
    v->dense = t->dtype;
    return WANE_OK;
}

/* All is in its place: read back and compared, and hashed beside that. */
static wane_status prove(saving *v, wane_err *e)
{
    wane_sums *sums = NULL;
    wane_status s = wane_sums_start(v->dir, v->model->device, &sums, e);
    if (s) return s;
    s = wane_save_prove(v, e);
    wane_status hashed = wane_sums_finish(sums, !s, e);
    return s ? s : hashed;
}

static wane_status write_all(saving *v, wane_err *e)
{
    wane_status s = find_dtype(v, e);
    if (!s) s = begin_grid(v, e);
    if (!s) s = save_rest(v, e);
    for (int i = 0; !s && i < (int)v->model->config->layers; i++) {
        s = wane_device_poll(v->model->device, e);
        if (!s) s = save_layer(v, i, e);
    }
    if (!s) s = save_head(v, e);
    if (!s) s = flush_shard(v, e);
    if (!s) s = name_shards(v, e);
    if (!s) s = wane_save_config(v, e);
    if (!s) s = save_companions(v, e);
    if (!s) s = prove(v, e);
    if (!s) s = wane_dir_sync(v->dir, e);
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
                      wane_saved *told, wane_err *e)
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
    if (!s) s = write_all(&v, e);
    if (!s) s = wane_rename(v.dir, dir, e);
    if (s) {
        wane_err_at(e, "save", NULL, dir);
        wane_dir_remove(v.dir, NULL);
    }
    if (!s) *told = (wane_saved){v.files, v.loss};
    wane_parts_clear(&v.unit);
    wane_parts_clear(&v.parts);
    wane_linear_clear(&v.head);
    json_decref(v.map);
    return s;
}
