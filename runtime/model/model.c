/* model.c - a checkpoint, a source of layers and a device, and what of it lies there. See model.h.
 */
#include "runtime/model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/nearest.h"
#include "runtime/base/units.h"

static const char EMBEDDING[] = "model.embed_tokens.weight", NORM[] = "model.norm.weight",
                  HEAD[] = "lm_head.weight";

wane_status wane_model_new_from(wane_checkpoint *c, wane_layer_source source, wane_device *device,
                                wane_device *host, wane_model **out, wane_err *e)
{
    *out = NULL;
    wane_model *m = calloc(1, sizeof *m);
    if (!m) {
        source.release(source.self);
        return wane_fail(e, WANE_EOOM, "host: no memory for a model's description");
    }
    m->refs = 1;
    m->checkpoint = wane_checkpoint_retain(c);
    m->config = &c->config;
    m->device = wane_device_retain(device);
    m->host = wane_device_retain(host);
    m->source = source;
    *out = m;
    return WANE_OK;
}

wane_status wane_model_new(wane_checkpoint *c, wane_device *device, wane_device *host,
                           wane_model **out, wane_err *e)
{
    *out = NULL;
    wane_status s = wane_checkpoint_check_dense(c, e);
    return s ? s : wane_model_new_from(c, wane_dense_source(c), device, host, out, e);
}

wane_model *wane_model_retain(wane_model *m)
{
    m->refs++;
    return m;
}

void wane_model_release(wane_model *m)
{
    if (!m || --m->refs > 0) return;
    wane_model_unload(m);
    m->source.release(m->source.self);
    wane_checkpoint_release(m->checkpoint);
    wane_device_release(m->device);
    wane_device_release(m->host);
    free(m);
}

uint64_t wane_model_bytes(const wane_model *m)
{
    uint64_t bytes = (uint64_t)m->config->head_dim / 2 * sizeof(float);
    bytes += wane_checkpoint_bytes(m->checkpoint, EMBEDDING) +
             wane_checkpoint_bytes(m->checkpoint, NORM);
    if (!m->config->tied) bytes += m->source.head_bytes(m->source.self);
    for (int i = 0; i < m->config->layers; i++) bytes += m->source.bytes(m->source.self, i);
    return bytes;
}

/* Refuses before anything is read: a failure halfway would have cost minutes of reading. */
static wane_status check_room(const wane_model *m, wane_err *e)
{
    uint64_t bytes = wane_model_bytes(m), room = wane_device_room(m->device);
    if (bytes <= room) return WANE_OK;
    char dir[320], asked[24], left[24], all[48] = "";
    if (m->device->budget != UINT64_MAX) {
        wane_bytes_format(asked, sizeof asked, m->device->budget);
        snprintf(all, sizeof all, " of %s", asked);
    }
    wane_bytes_format(asked, sizeof asked, bytes);
    wane_bytes_format(left, sizeof left, room);
    wane_escape(dir, sizeof dir, m->checkpoint->dir, strlen(m->checkpoint->dir));
    wane_fail(e, WANE_EOOM,
              "%s: out of memory: %s takes %s, %s%s free; raise memory = or take a smaller model",
              m->device->name, dir, asked, left, all);
    wane_err_at(e, "load", NULL, m->checkpoint->dir);
    if (e) {
        e->requested = bytes;
        e->free = room;
        snprintf(e->device, sizeof e->device, "%s", m->device->name);
    }
    return WANE_EOOM;
}

static wane_status load_frequency(wane_model *m, wane_err *e)
{
    int64_t half = m->config->head_dim / 2;
    float *f = malloc((size_t)half * sizeof *f);
    if (!f) return wane_fail(e, WANE_EOOM, "host: no memory for the rope frequencies");
    wane_config_frequencies(m->config, f);
    wane_status s = wane_tensor_new2(m->device, WANE_F32, 1, half, &m->frequency, e);
    if (!s) s = wane_tensor_put(m->frequency, f, e);
    free(f);
    return s;
}

static wane_status load(wane_model *m, wane_err *e)
{
    const wane_config *c = m->config;
    const int64_t table[] = {c->vocabulary, c->hidden};
    wane_status s =
        wane_checkpoint_get(m->checkpoint, EMBEDDING, 2, table, m->device, &m->embedding, e);
    if (!s)
        s = wane_checkpoint_get(m->checkpoint, NORM, 1, &c->hidden, m->device, &m->final_norm, e);
    if (!s && !c->tied) s = m->source.head(m->source.self, m->device, &m->head, e);
    if (!s) s = load_frequency(m, e);
    m->layer = calloc((size_t)c->layers, sizeof(wane_layer *));
    if (!s && !m->layer) s = wane_fail(e, WANE_EOOM, "host: no memory for a list of layers");
    for (int i = 0; i < c->layers && !s; i++) {
        s = wane_device_poll(m->device, e);
        if (!s) s = m->source.layer(m->source.self, i, m->device, &m->layer[i], e);
    }
    return s;
}

wane_status wane_model_load(wane_model *m, wane_err *e)
{
    if (m->layer) return WANE_OK;
    wane_status s = check_room(m, e);
    if (!s) s = load(m, e);
    if (s) wane_model_unload(m);
    if (s) wane_err_at(e, "load", NULL, m->checkpoint->dir);
    return s;
}

void wane_model_unload(wane_model *m)
{
    for (int i = 0; m->layer && i < m->config->layers; i++) wane_layer_release(m->layer[i]);
    free(m->layer);
    wane_tensor_release(m->embedding);
    wane_tensor_release(m->final_norm);
    wane_linear_clear(&m->head);
    wane_tensor_release(m->frequency);
    m->layer = NULL;
    m->embedding = m->final_norm = m->frequency = NULL;
}

/* A layer's weights come from the disk while the layer before is computed: into memory that a GPU
 * copies from at its full speed; into the page cache where the host computes. Nothing of the last
 * layer's is kept. */
static wane_status foresee(wane_model *m, int i, wane_err *e)
{
    wane_checkpoint *c = m->checkpoint;
    char prefix[WANE_NAME];
    size_t length = strlen(wane_layer_name(prefix, i, "")), count = 0;
    wane_status s = WANE_OK;
    bool away = !wane_device_is_host(m->device) &&
                m->source.self == c; /* who reads packed ones needs the host */
    wane_wanted *list = malloc((c->count ? c->count : 1) * sizeof *list);
    if (!list) return wane_fail(e, WANE_EOOM, "host: no memory to read ahead");
    for (size_t t = 0; t < c->count; t++) {
        if (strncmp(c->tensor[t].entry->name, prefix, length)) continue;
        list[count++] = (wane_wanted){c->tensor[t].shard, c->tensor[t].entry};
        if (!away) wane_safetensors_foresee(c->tensor[t].shard, c->tensor[t].entry);
    }
    if (!count || !away) {
        wane_model_rest(m);
    } else {
        if (!c->ahead) s = wane_ahead_new(m->device, m->host, &c->ahead, e);
        if (!s) s = wane_ahead_begin(c->ahead, list, count, e);
    }
    free(list);
    return s;
}

void wane_model_rest(wane_model *m)
{
    wane_ahead_free(m->checkpoint->ahead);
    m->checkpoint->ahead = NULL;
}

static wane_status get_layer(wane_model *m, int i, wane_layer **out, wane_err *e)
{
    *out = NULL;
    if (i < 0 || i >= m->config->layers)
        return wane_fail(e, WANE_EARG, "no layer %d in a model of %" PRId64, i + 1,
                         m->config->layers);
    if (!m->layer) return m->source.layer(m->source.self, i, m->device, out, e);
    *out = wane_layer_retain(m->layer[i]);
    return WANE_OK;
}

wane_status wane_model_layer(wane_model *m, int i, wane_layer **out, wane_err *e)
{
    wane_status s = get_layer(m, i, out, e);
    if (s || m->layer) return s;
    s = foresee(m, i + 1, e);
    if (s) {
        wane_layer_release(*out);
        *out = NULL;
    }
    return s;
}

static wane_status no_tensor(const wane_model *m, const char *name, wane_err *e)
{
    const wane_checkpoint *c = m->checkpoint;
    const char **names = malloc((c->count ? c->count : 1) * sizeof *names), *near = NULL;
    char given[160], shown[160];
    for (size_t i = 0; names && i < c->count; i++) names[i] = c->tensor[i].entry->name;
    if (names) near = wane_nearest(name, names, c->count);
    wane_escape(given, sizeof given, name, strlen(name));
    wane_escape(shown, sizeof shown, near ? near : "", near ? strlen(near) : 0);
    free(names);
    return wane_fail(e, WANE_EARG, "the model has no tensor %s%s%s%s", given,
                     near ? "; did you mean " : "", shown, near ? "?" : "");
}

/* Codes as the weights they stand for. */
static wane_status decoded(wane_model *m, const wane_quantized *codes, wane_tensor **out,
                           wane_err *e)
{
    wane_tensor *t = NULL;
    wane_status s = wane_tensor_new2(m->device, WANE_F32, codes->m, codes->k, &t, e);
    if (!s) s = WANE_CALL(m->device, e, decode, wane_tensor_mat(t), wane_quantized_mat(codes));
    if (s)
        wane_tensor_release(t);
    else
        *out = t;
    return s;
}

static wane_status head_tensor(wane_model *m, wane_tensor **out, wane_err *e)
{
    wane_linear read = {0};
    const wane_linear *head = m->layer ? &m->head : &read;
    wane_status s = m->layer ? WANE_OK : m->source.head(m->source.self, m->device, &read, e);
    if (!s && head->quantized)
        s = decoded(m, head->quantized, out, e);
    else if (!s)
        *out = wane_tensor_retain(head->weight);
    wane_linear_clear(&read);
    return s;
}

static wane_status layer_tensor(wane_model *m, int i, const char *part, const char *name,
                                wane_tensor **out, wane_err *e)
{
    wane_layer *l;
    const wane_quantized *codes;
    wane_status s = get_layer(m, i, &l, e);
    if (s) return s;
    wane_tensor *t = wane_tensor_retain(wane_layer_find(l, part, &codes));
    if (!t && !codes) s = no_tensor(m, name, e);
    if (codes) s = decoded(m, codes, &t, e);
    wane_layer_release(l);
    if (!s) *out = t;
    return s;
}

wane_status wane_model_tensor(wane_model *m, const char *name, wane_tensor **out, wane_err *e)
{
    const wane_config *c = m->config;
    const int64_t table[] = {c->vocabulary, c->hidden};
    int i, used = 0;
    *out = NULL;
    if (sscanf(name, "model.layers.%9d.%n", &i, &used) == 1 && used && i >= 0 && i < c->layers)
        return layer_tensor(m, i, name + used, name, out, e);
    bool embedding = !strcmp(name, EMBEDDING), norm = !strcmp(name, NORM);
    if (!strcmp(name, HEAD) && !c->tied) return head_tensor(m, out, e);
    if (!embedding && !norm) return no_tensor(m, name, e);
    wane_tensor *loaded = embedding ? m->embedding : m->final_norm;
    if (!loaded)
        return wane_checkpoint_get(m->checkpoint, name, norm ? 1 : 2, norm ? table + 1 : table,
                                   m->device, out, e);
    *out = wane_tensor_retain(loaded);
    return WANE_OK;
}
