/* early.c - see early.h. The thread runs wane_save on a model whose layers, head and report are
 * waited for; it has a host device of its own, as tensors and devices are counted without locks. */
#include "runtime/save/early.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/save/writing.h"

struct wane_early {
    pthread_mutex_t lock; /* over all down to `over` */
    pthread_cond_t changed;
    wane_layer **layer; /* [count], retained; `given` of them are there */
    int count, given;
    wane_quantized *head; /* owned, or NULL */
    const char *report;   /* borrowed */
    bool has_head, has_report, abandoned, over;
    bool running; /* the thread is to be waited for; the caller's alone */
    pthread_t thread;
    wane_model *model;   /* the thread's, over a checkpoint of the caller's */
    wane_device *device; /* the thread's */
    wane_save_options options;
    wane_packed_grid grid; /* as foreseen */
    wane_grid_found found; /* as it came; the caller's alone, as host, which is retained */
    wane_device *host;
    char *dir;
    wane_status status; /* of the thread, with the next two: to be read once it is over */
    wane_saved told;
    wane_err why;
};

static wane_status given_up(wane_err *e)
{
    return wane_fail(e, WANE_EINTERRUPTED, "stopped, as asked; nothing of it is kept");
}

/* Waits until *ready, with the lock held. */
static wane_status await(wane_early *a, const bool *ready, wane_err *e)
{
    while (!*ready && !a->abandoned) pthread_cond_wait(&a->changed, &a->lock);
    return a->abandoned ? given_up(e) : WANE_OK;
}

static wane_status early_layer(void *self, int i, wane_device *d, wane_layer **out, wane_err *e)
{
    wane_early *a = self;
    *out = NULL;
    pthread_mutex_lock(&a->lock);
    while (a->given <= i && !a->abandoned) pthread_cond_wait(&a->changed, &a->lock);
    const wane_layer *l = a->abandoned ? NULL : a->layer[i];
    pthread_mutex_unlock(&a->lock);
    return l ? wane_layer_copy_to(l, d, out, e) : given_up(e);
}

static uint64_t early_bytes(void *self, int i)
{
    (void)self, (void)i;
    return 0;
}

/* Straight from its file: what the checkpoint has read ahead is the caller's alone. */
static wane_status read_head(const wane_checkpoint *c, wane_device *d, wane_linear *out,
                             wane_err *e)
{
    const wane_safetensors *file;
    const wane_entry *t = wane_checkpoint_find(c, "lm_head.weight", &file);
    if (!t) return wane_fail(e, WANE_EFORMAT, "%s has no lm_head.weight", c->dir);
    return wane_safetensors_load(file, t, d, &out->weight, e);
}

static wane_status early_head(void *self, wane_device *d, wane_linear *out, wane_err *e)
{
    wane_early *a = self;
    pthread_mutex_lock(&a->lock);
    wane_status s = a->grid.head ? await(a, &a->has_head, e) : WANE_OK;
    const wane_quantized *head = a->head;
    pthread_mutex_unlock(&a->lock);
    if (s) return s;
    if (head) return wane_quantized_copy_to(head, d, &out->quantized, e);
    return read_head(a->model->checkpoint, d, out, e);
}

static uint64_t early_head_bytes(void *self)
{
    (void)self;
    return 0;
}

static void early_release(void *self)
{
    (void)self; /* it owns the model, not the other way round */
}

static wane_status early_report(void *self, const char **report, wane_err *e)
{
    wane_early *a = self;
    pthread_mutex_lock(&a->lock);
    wane_status s = await(a, &a->has_report, e);
    *report = a->report;
    pthread_mutex_unlock(&a->lock);
    return s;
}

static void *save(void *self)
{
    wane_early *a = self;
    wane_err why;
    wane_saved told = {0};
    wane_status s = wane_save(a->model, a->dir, &a->options, &told, &why);
    pthread_mutex_lock(&a->lock);
    a->status = s;
    a->told = told;
    if (s) a->why = why;
    a->over = true;
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

static wane_status open_model(wane_early *a, wane_model *source, wane_err *e)
{
    wane_layer_source from = {early_layer,      early_bytes,   early_head,
                              early_head_bytes, early_release, a};
    wane_status s = wane_device_open("host", UINT64_MAX, &a->device, e);
    if (s) return s;
    a->device->interrupt = source->device->interrupt;
    return wane_model_new_from(source->checkpoint, from, a->device, a->device, &a->model, e);
}

wane_status wane_early_begin(wane_model *source, const char *dir, const wane_save_options *options,
                             const wane_packed_grid *grid, wane_early **out, wane_err *e)
{
    *out = NULL;
    wane_early *a = calloc(1, sizeof *a);
    if (!a) return wane_fail(e, WANE_EOOM, "host: no memory to save a model");
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    a->host = wane_device_retain(source->host);
    a->count = (int)source->config->layers;
    a->layer = calloc((size_t)a->count, sizeof(wane_layer *));
    a->dir = strdup(dir);
    a->grid = *grid;
    a->options = *options;
    a->options.report = NULL;
    a->options.grid = &a->grid;
    a->options.await = early_report;
    a->options.self = a;
    wane_status s = a->layer && a->dir ? open_model(a, source, e)
                                       : wane_fail(e, WANE_EOOM, "host: no memory to save a model");
    if (!s && pthread_create(&a->thread, NULL, save, a))
        s = wane_fail(e, WANE_EOOM, "host: no memory for another thread");
    a->running = !s;
    if (s)
        wane_early_free(a);
    else
        *out = a;
    return s;
}

wane_status wane_early_layer(wane_early *a, wane_layer *l, wane_err *e)
{
    wane_status s = WANE_OK;
    if (a->given == a->count)
        return wane_fail(e, WANE_EARG, "a model of %d layers has no more of them", a->count);
    s = wane_grid_join_layer(&a->found, l, a->given, e);
    if (s) return s;
    pthread_mutex_lock(&a->lock);
    a->layer[a->given++] = wane_layer_retain(l);
    if (a->over && (s = a->status) && e) *e = a->why;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    return s;
}

wane_status wane_early_head(wane_early *a, wane_quantized *head, wane_err *e)
{
    wane_quantized *here = NULL;
    if (a->has_head || !a->grid.head)
        return wane_fail(e, WANE_EARG, "no codes of a head are expected");
    wane_status s = wane_quantized_copy_to(head, a->host, &here, e);
    if (!s) s = wane_grid_join(&a->found, here, "lm_head", e);
    if (s) {
        wane_quantized_release(here);
        return s;
    }
    pthread_mutex_lock(&a->lock);
    a->head = here;
    a->has_head = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    return WANE_OK;
}

static void join(wane_early *a)
{
    if (a->running) pthread_join(a->thread, NULL);
    a->running = false;
}

static void abandon(wane_early *a)
{
    pthread_mutex_lock(&a->lock);
    a->abandoned = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    join(a);
}

/* Whether the codes are what was foreseen. */
static bool as_foreseen(const wane_early *a)
{
    const wane_packed_grid *g = &a->grid, *f = &a->found.grid;
    return g->bits == f->bits && g->act_bits == f->act_bits && g->group == f->group &&
           g->symmetric == f->symmetric && g->fractional == f->fractional;
}

wane_status wane_early_finish(wane_early *a, wane_model *model, const char *report,
                              wane_saved *told, wane_err *e)
{
    bool whole = a->given == a->count && (!a->grid.head || a->has_head);
    if (!whole || !a->running)
        return wane_fail(e, WANE_EARG, "the model is not whole, or saved already");
    if (a->options.packing && !as_foreseen(a)) {
        abandon(a);
        a->options.grid = NULL;
        a->options.await = NULL;
        a->options.report = report;
        return wane_save(model, a->dir, &a->options, told, e);
    }
    pthread_mutex_lock(&a->lock);
    a->report = report;
    a->has_report = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    join(a);
    if (a->status && e) *e = a->why;
    *told = a->told;
    return a->status;
}

void wane_early_free(wane_early *a)
{
    if (!a) return;
    abandon(a);
    if (a->model) wane_model_release(a->model);
    wane_device_release(a->device);
    for (int i = 0; i < a->given; i++) wane_layer_release(a->layer[i]);
    wane_quantized_release(a->head);
    wane_device_release(a->host);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a->layer);
    free(a->dir);
    free(a);
}
