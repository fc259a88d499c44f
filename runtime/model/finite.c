/* finite.c - NaN and Inf in the weights of a checkpoint. See model.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/model.h"

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
    char shown[160], path[256];
    wane_escape(shown, sizeof shown, t->entry->name, strlen(t->entry->name));
    wane_escape(path, sizeof path, t->shard->path, strlen(t->shard->path));
    wane_fail(e, WANE_ENUMERIC,
              "%s: tensor %s has %" PRIu64
              " values that are NaN or Inf, the first at element %" PRIu64
              "; the file is damaged: wane get ORG/MODEL fetches it again",
              path, shown, bad, first + 1);
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s", shown);
    return wane_err_at(e, "load", NULL, t->shard->path);
}

static int by_tensor(const void *a, const void *b)
{
    return strcmp(((const wane_err *)a)->tensor, ((const wane_err *)b)->tensor);
}

/* All threads read, a tensor each. Of several bad ones the first in the list is told. */
wane_status wane_checkpoint_survey_finite(const wane_checkpoint *c, const wane_device *poll,
                                          wane_findings *all, wane_err *e)
{
    const uint64_t size = 4 << 20;
    wane_status status = WANE_OK;
    size_t worst = c->count, before = all ? all->count : 0; /* worst: the first that failed */
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
            if (all && s == WANE_ENUMERIC) {
                wane_findings_add(all, &why);
            } else if (i < worst) {
#pragma omp atomic write
                worst = i;
                status = s;
                if (e) *e = why;
            }
        }
        free(piece);
    }
    if (all && all->count > before) /* whichever thread came first */
        qsort(all->item + before, all->count - before, sizeof *all->item, by_tensor);
    return status;
}

wane_status wane_checkpoint_check_finite(const wane_checkpoint *c, const wane_device *poll,
                                         wane_err *e)
{
    return wane_checkpoint_survey_finite(c, poll, NULL, e);
}
