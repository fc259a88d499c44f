/* workspace.c - see workspace.h. */
#include "runtime/model/workspace.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/model/decode.h"

static uint64_t logit_bytes(const wane_config *c, int64_t rows)
{
    uint64_t each, all;
    if (!wane_mul((uint64_t)c->vocabulary + 2, sizeof(float), &each) ||
        !wane_mul(each, (uint64_t)rows, &all))
        return UINT64_MAX;
    return all;
}

uint64_t wane_workspace_bytes(const wane_model *m, const wane_sizes *s)
{
    uint64_t all, pass = wane_pass_bytes(m->config, m->device->k->activations, s->rows,
                                         s->pool_rows, s->runs, s->spans);
    uint64_t steps = s->texts ? wane_decoder_bytes(s->texts, s->steps, s->spans, s->stops) : 0;
    return wane_add(pass, logit_bytes(m->config, s->logit_rows), &all) && wane_add(all, steps, &all)
               ? all
               : UINT64_MAX;
}

int64_t wane_rows_most(const wane_device *d)
{
    enum { OF_CPU = 512, OF_GPU = 4096 };
    return wane_device_is_host(d) ? OF_CPU : OF_GPU;
}

uint64_t wane_workspace_room(const wane_device *d)
{
    uint64_t room = wane_device_room(d);
    return room == d->budget - d->live ? room : room - room / 16;
}

bool wane_sizes_halve(const wane_model *m, wane_sizes *s)
{
    uint64_t pass = wane_pass_bytes(m->config, m->device->k->activations, s->rows, 0, 0, 0);
    if (s->logit_rows > 1 && (s->rows == 1 || logit_bytes(m->config, s->logit_rows) >= pass))
        s->logit_rows /= 2;
    else if (s->rows > 1)
        s->rows /= 2;
    else
        return false;
    if (s->logit_rows > s->rows) s->logit_rows = s->rows;
    return true;
}

wane_status wane_workspace_short(const wane_device *d, const char *op, uint64_t needed,
                                 const char *remedy, wane_err *e)
{
    char asked[24], left[24];
    uint64_t room = wane_workspace_room(d);
    wane_bytes_format(asked, sizeof asked, needed);
    wane_bytes_format(left, sizeof left, room);
    wane_fail(e, WANE_EOOM,
              "%s: %s: out of memory: keys, values and activations take %s at least, %s free; %s",
              op, d->name, asked, left, remedy);
    if (e) {
        e->requested = needed;
        e->free = room;
        snprintf(e->op, sizeof e->op, "%s", op);
        snprintf(e->device, sizeof e->device, "%s", d->name);
    }
    return WANE_EOOM;
}

wane_status wane_workspace_new(wane_model *model, const wane_sizes *s, wane_workspace *out,
                               wane_err *e)
{
    wane_device *d = model->device;
    memset(out, 0, sizeof *out);
    wane_status status =
        wane_pass_new(model, s->rows, s->pool_rows, s->runs, s->spans, &out->pass, e);
    if (!status)
        status = wane_tensor_new2(d, WANE_F32, s->logit_rows, model->config->vocabulary,
                                  &out->logits, e);
    if (!status) status = wane_tensor_new2(d, WANE_I32, s->logit_rows, 1, &out->ids, e);
    if (!status) status = wane_tensor_new2(d, WANE_F32, s->logit_rows, 1, &out->value, e);
    if (status) wane_workspace_free(out);
    return status;
}

void wane_workspace_free(wane_workspace *w)
{
    wane_pass_free(w->pass);
    wane_tensor_release(w->logits);
    wane_tensor_release(w->ids);
    wane_tensor_release(w->value);
    memset(w, 0, sizeof *w);
}
