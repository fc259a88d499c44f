/* prove.c - what was written, opened again and compared with what should have been: every code,
 * scale and zero point, every other tensor byte by byte. See save.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/save/writing.h"

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

static bool equal_linears(const wane_linear *a, const wane_linear *b)
{
    return equal_bytes(a->weight, b->weight) && equal_bytes(a->bias, b->bias) &&
           equal_codes(a->quantized, b->quantized);
}

bool wane_layer_equal(const wane_layer *a, const wane_layer *b, char *different)
{
    const char *name = NULL;
    for (int n = 0; n < WANE_NORMS && !name; n++)
        if (!equal_bytes(*wane_layer_norm(a, n), *wane_layer_norm(b, n))) name = wane_norms[n].name;
    for (int id = 0; id < WANE_LINEARS && !name; id++)
        if (!equal_linears(&a->linear[id], &b->linear[id])) name = wane_linear_name(id);
    if (different) snprintf(different, WANE_NAME, "%s", name ? name : "");
    return !name;
}

static wane_status differs(const wane_saving *v, const char *name, wane_err *e)
{
    return wane_fail(e, WANE_EIO,
                     "%s reads back differently from what was written to %s: is the disk sound?",
                     name, v->dir);
}

static wane_status prove_head(wane_saving *v, wane_model *back, wane_err *e)
{
    wane_linear written = {0};
    if (v->model->config->tied) return WANE_OK;
    wane_status s = back->source.head(back->source.self, v->model->host, &written, e);
    if (!s && !equal_linears(&written, &v->head)) s = differs(v, "lm_head", e);
    wane_linear_clear(&written);
    return s;
}

enum { CHUNK = 1 << 20 };

/* Whether the bytes of two entries are the same; all threads read, a chunk each. */
static wane_status compare_entries(const wane_saving *v, const wane_located *meant,
                                   const wane_located *written, bool *same, wane_err *e)
{
    uint64_t bytes = meant->entry->end - meant->entry->begin;
    wane_status status = WANE_OK;
    bool equal = written->entry->end - written->entry->begin == bytes;
    int64_t chunks = equal ? (int64_t)((bytes + CHUNK - 1) / CHUNK) : 0;
#pragma omp parallel
    {
        char *a = malloc(CHUNK), *b = malloc(CHUNK);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < chunks; i++) {
            uint64_t at = (uint64_t)i * CHUNK, n = bytes - at < CHUNK ? bytes - at : CHUNK;
            wane_err why;
            wane_status s = wane_device_poll(v->model->device, &why);
            if (!s && !(a && b)) s = wane_fail(&why, WANE_EOOM, "no memory to compare files");
            if (!s) s = wane_safetensors_read(meant->shard, meant->entry, at, n, a, &why);
            if (!s) s = wane_safetensors_read(written->shard, written->entry, at, n, b, &why);
            bool other = !s && memcmp(a, b, n) != 0;
            if (!s && !other) continue;
#pragma omp critical
            {
                if (other) equal = false;
                if (s) status = s;
                if (s && e) *e = why;
            }
        }
        free(a);
        free(b);
    }
    *same = equal;
    return status;
}

/* A tensor as it should have been written, where that is not byte for byte. */
static wane_status compare_stored(wane_saving *v, const char *name, const wane_located *meant,
                                  const wane_located *written, bool *same, wane_err *e)
{
    wane_tensor *a = NULL, *b = NULL;
    wane_status s = wane_safetensors_load(meant->shard, meant->entry, v->model->host, &a, e);
    if (!s) s = wane_stored_tensor(v, name, &a, NULL, e);
    if (!s) s = wane_safetensors_load(written->shard, written->entry, v->model->host, &b, e);
    *same = !s && equal_bytes(a, b);
    wane_tensor_release(a);
    wane_tensor_release(b);
    return s;
}

static wane_status prove_rest(wane_saving *v, wane_model *back, wane_err *e)
{
    const wane_checkpoint *c = v->model->checkpoint;
    char name[WANE_SAVE_PATH];
    wane_status s = WANE_OK;
    for (size_t i = 0; i < c->count && !s; i++) {
        const wane_located *meant = &c->tensor[i];
        wane_located written = {0};
        bool same = false;
        if (!wane_stored_name(meant->entry, name)) continue;
        written.entry = wane_checkpoint_find(back->checkpoint, name, &written.shard);
        if (written.entry && v->dense != WANE_DTYPES)
            s = compare_stored(v, name, meant, &written, &same, e);
        else if (written.entry)
            s = compare_entries(v, meant, &written, &same, e);
        if (!s && !same) s = differs(v, name, e);
    }
    return s;
}

wane_status wane_save_prove(wane_saving *v, wane_err *e)
{
    wane_model *back = NULL, *model = v->model;
    wane_status s = wane_model_open(v->dir, model->host, model->host, &back, e);
    for (int i = 0; !s && i < (int)model->config->layers; i++) {
        wane_layer *written = NULL, *meant = NULL;
        char different[WANE_NAME], name[WANE_NAME];
        s = wane_device_poll(model->device, e);
        if (!s) s = back->source.layer(back->source.self, i, model->host, &written, e);
        if (!s) s = wane_stored_layer(v, i, NULL, &meant, e);
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
