/* packing.c - the table of packings, tensors on their way to a file, and dense bit streams. */
#include "runtime/save/packing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WANE_PACKING(name) extern const wane_packing wane_packing_##name;
#include "runtime/save/packings.def"
#undef WANE_PACKING

const wane_packing *const wane_packings[] = {
#define WANE_PACKING(name) &wane_packing_##name,
#include "runtime/save/packings.def"
#undef WANE_PACKING
    NULL};

const wane_packing *wane_packing_find(const char *name)
{
    for (int i = 0; wane_packings[i]; i++)
        if (!strcmp(wane_packings[i]->name, name)) return wane_packings[i];
    return NULL;
}

const wane_packing *wane_packing_for(const json_t *quantization_config)
{
    for (int i = 0; wane_packings[i]; i++)
        if (wane_packings[i]->reads(quantization_config)) return wane_packings[i];
    return NULL;
}

wane_status wane_packing_check(const wane_packing *p, const wane_packed_grid *g, const char *matrix,
                               int64_t m, int64_t k, wane_err *e)
{
    wane_status s = WANE_OK;
    char why[sizeof e->message];
    wane_err inner;
    if (g->fractional && p->zeros != WANE_ZEROS_FLOAT)
        s = wane_fail(&inner, WANE_EUNSUPPORTED,
                      "stores whole zero points and these are fractions: format hqq holds them, or "
                      "quantize with zero = \"integer\"");
    else if (p->check)
        s = p->check(g, m, k, &inner);
    if (!s) return WANE_OK;
    snprintf(why, sizeof why, "%s", inner.message);
    wane_fail(e, s, "%s: format %s %s", matrix, p->name, why);
    return wane_err_at(e, "save", matrix, NULL);
}

wane_status wane_packing_decode(const wane_packing *p, const wane_checkpoint *c, const char *matrix,
                                int64_t m, int64_t k, wane_device *host, wane_quantized **out,
                                wane_err *e)
{
    wane_packed_about a;
    wane_quantized *q = NULL;
    *out = NULL;
    wane_status s = p->inspect(c, matrix, m, k, &a, e);
    if (!s) s = wane_quantized_new(host, m, k, a.bits, a.group, a.act_bits, a.scale, a.zero, &q, e);
    if (!s) s = p->read(c, matrix, q, host, e);
    if (s)
        wane_quantized_release(q);
    else
        *out = q;
    return s;
}

wane_status wane_parts_add(wane_parts *p, const char *prefix, const char *suffix, wane_tensor *t,
                           wane_err *e)
{
    char *name = NULL;
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 64;
        wane_named *grown = realloc(p->named, room * sizeof *grown);
        if (!grown) goto no_memory;
        p->named = grown;
        p->room = room;
    }
    if (asprintf(&name, suffix ? "%s.%s" : "%s", prefix, suffix) < 0) goto no_memory;
    p->named[p->count++] = (wane_named){name, t};
    p->bytes += wane_tensor_bytes(t);
    return WANE_OK;
no_memory:
    wane_tensor_release(t);
    return wane_fail(e, WANE_EOOM, "no memory to note the tensor %s", prefix);
}

wane_status wane_parts_add_copy(wane_parts *p, const char *prefix, const char *suffix,
                                wane_dtype dtype, int rank, const int64_t *shape, const void *bytes,
                                wane_device *host, wane_err *e)
{
    wane_tensor *t = NULL;
    wane_status s = wane_tensor_new(host, dtype, rank, shape, &t, e);
    if (!s) s = wane_tensor_put(t, bytes, e);
    if (!s) return wane_parts_add(p, prefix, suffix, t, e);
    wane_tensor_release(t);
    return s;
}

void wane_parts_clear(wane_parts *p)
{
    for (size_t i = 0; i < p->count; i++) {
        free((char *)(uintptr_t)p->named[i].name);
        wane_tensor_release((wane_tensor *)(uintptr_t)p->named[i].tensor);
    }
    free(p->named);
    memset(p, 0, sizeof *p);
}

int64_t wane_words_for(int64_t count, int bits)
{
    return (count * bits + 31) / 32;
}

void wane_bits_pack(uint32_t *words, const uint8_t *values, int64_t count, int bits)
{
    memset(words, 0, (size_t)wane_words_for(count, bits) * sizeof *words);
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i * bits;
        uint64_t value = (uint64_t)values[i] << (at & 31);
        words[at >> 5] |= (uint32_t)value;
        if ((at & 31) + bits > 32) words[(at >> 5) + 1] |= (uint32_t)(value >> 32);
    }
}

void wane_bits_unpack(uint8_t *values, const uint32_t *words, int64_t count, int bits)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t at = i * bits;
        uint64_t value = words[at >> 5];
        if ((at & 31) + bits > 32) value |= (uint64_t)words[(at >> 5) + 1] << 32;
        values[i] = (uint8_t)(value >> (at & 31) & ((1u << bits) - 1));
    }
}
