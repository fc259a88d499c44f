/* values.c - between tensors and numbers in the host's memory: reading, comparing, hashing, ranges
 * and random numbers; see math.h.
 *
 * Random element i depends on the seed and i alone: its bits are SplitMix64 (Steele, Lea and Flood,
 * "Fast Splittable Pseudorandom Number Generators", 2014, with the constants of its mix64variant13)
 * at state seed + i * gamma. Normal numbers are Box and Muller's, both of a pair used. */
#include "runtime/tensor/math.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"

enum { CHUNK = 1 << 18 }; /* elements, or bytes, in the host's memory at a time */

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for a buffer");
}

wane_status wane_tensor_read(wane_tensor *t, wane_dtype dtype, void *host, wane_err *e)
{
    wane_tensor *copy = NULL;
    if (t->dtype == dtype && wane_tensor_contiguous(t)) return wane_tensor_get(t, host, e);
    wane_status s = wane_tensor_copy_to(t, wane_tensor_device(t), dtype, &copy, e);
    if (!s) s = wane_tensor_get(copy, host, e);
    wane_tensor_release(copy);
    return s;
}

/* made, of the dtype it was filled in, as dtype; takes the reference, also on failure. */
static wane_status finish(wane_tensor *made, wane_dtype dtype, wane_tensor **out, wane_err *e)
{
    wane_status s = WANE_OK;
    *out = NULL;
    if (made->dtype == dtype) {
        *out = made;
        return s;
    }
    s = wane_tensor_copy_to(made, wane_tensor_device(made), dtype, out, e);
    wane_tensor_release(made);
    return s;
}

wane_status wane_tensor_from(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape,
                             const void *host, wane_dtype given, wane_tensor **out, wane_err *e)
{
    wane_tensor *made;
    *out = NULL;
    wane_status s = wane_tensor_new(d, given, rank, shape, &made, e);
    if (s) return s;
    s = wane_tensor_put(made, host, e);
    if (!s) return finish(made, dtype, out, e);
    wane_tensor_release(made);
    return s;
}

/* Numbers first .. first+count-1 of a sequence, as f32 or i64. */
typedef void sequence(void *out, int64_t first, int64_t count, const void *how);

/* A tensor filled with a sequence of numbers of type given, chunk by chunk, as dtype. */
static wane_status fill(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape,
                        wane_dtype given, sequence *next, const void *how, wane_tensor **out,
                        wane_err *e)
{
    wane_tensor *made;
    size_t width = wane_dtype_bytes(given);
    *out = NULL;
    wane_status s = wane_tensor_new(d, given, rank, shape, &made, e);
    if (s) return s;
    int64_t count = wane_tensor_count(made);
    char *buffer = malloc(CHUNK * width), *target = made->buffer->data;
    if (!buffer) s = no_memory(e);
    for (int64_t at = 0, n; at < count && !s; at += n) {
        n = count - at < CHUNK ? count - at : CHUNK;
        next(buffer, at, n, how);
        s = wane_device_poll(d, e);
        if (!s) s = WANE_CALL(d, e, put, target + (size_t)at * width, buffer, (size_t)n * width);
    }
    free(buffer);
    if (!s) return finish(made, dtype, out, e);
    wane_tensor_release(made);
    return s;
}

typedef struct {
    double first, step;
} range;

static void range_next(void *out, int64_t first, int64_t count, const void *how)
{
    const range *r = how;
    float *y = out;
    for (int64_t i = 0; i < count; i++) y[i] = (float)(r->first + r->step * (double)(first + i));
}

/* Integers are made as integers: f32 has only 24 bits. */
static void integer_next(void *out, int64_t first, int64_t count, const void *how)
{
    const range *r = how;
    int64_t *y = out;
    for (int64_t i = 0; i < count; i++) y[i] = (int64_t)r->first + (int64_t)r->step * (first + i);
}

wane_status wane_tensor_range(wane_device *d, wane_dtype dtype, double first, double step,
                              int64_t count, wane_tensor **out, wane_err *e)
{
    range how = {first, step};
    bool whole = fabs(first) <= 0x1p53 && fabs(step) <= 0x1p53 && floor(first) == first &&
                 floor(step) == step && fabs(first + step * (double)count) <= 0x1p53;
    *out = NULL;
    if (count < 0) return wane_fail(e, WANE_EARG, "a range cannot have %" PRId64 " numbers", count);
    if (dtype == WANE_F32 || dtype == WANE_F16 || dtype == WANE_BF16)
        return fill(d, dtype, 1, &count, WANE_F32, range_next, &how, out, e);
    if (!whole)
        return wane_fail(e, WANE_EARG, "a range of integers needs whole numbers within 2^53");
    return fill(d, dtype, 1, &count, WANE_I64, integer_next, &how, out, e);
}

static uint64_t mixed(uint64_t seed, uint64_t i)
{
    uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void uniform_next(void *out, int64_t first, int64_t count, const void *how)
{
    const wane_random *r = how;
    float *y = out;
    for (int64_t i = 0; i < count; i++) {
        /* 24 bits are exact in f32: 0 <= u < 1 also after rounding */
        double u = (double)(mixed(r->seed, (uint64_t)(first + i)) >> 40) * 0x1p-24;
        y[i] = (float)(r->centre + r->spread * u);
    }
}

static void normal_next(void *out, int64_t first, int64_t count, const void *how)
{
    const wane_random *r = how;
    float *y = out;
    for (int64_t i = 0; i < count; i++) {
        uint64_t pair = (uint64_t)(first + i) / 2 * 2;
        double u = ((double)(mixed(r->seed, pair) >> 11) + 1) * 0x1p-53; /* 0 < u <= 1 */
        double turn = 6.283185307179586 * ((double)(mixed(r->seed, pair + 1) >> 11) * 0x1p-53);
        double x = (first + i) % 2 ? sin(turn) : cos(turn);
        y[i] = (float)(r->centre + r->spread * sqrt(-2 * log(u)) * x);
    }
}

wane_status wane_tensor_random(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape,
                               wane_random how, wane_tensor **out, wane_err *e)
{
    return fill(d, dtype, rank, shape, WANE_F32, how.normal ? normal_next : uniform_next, &how, out,
                e);
}

/* Bytes at .. at+n-1 of a contiguous tensor where C can read them: in place, or in buffer. */
static wane_status look(const wane_tensor *t, uint64_t at, uint64_t n, char *buffer,
                        const char **out, wane_err *e)
{
    wane_device *d = wane_tensor_device(t);
    const char *data = (const char *)wane_tensor_mat(t).data + at;
    *out = buffer;
    if (!wane_device_is_host(d)) return WANE_CALL(d, e, get, buffer, data, (size_t)n);
    *out = data;
    return wane_device_check(d, d->k->sync(d->dev), "sync", e);
}

static wane_status packed(wane_tensor *t, wane_tensor **out, wane_err *e)
{
    if (!wane_tensor_contiguous(t))
        return wane_tensor_copy_to(t, wane_tensor_device(t), t->dtype, out, e);
    *out = wane_tensor_retain(t);
    return WANE_OK;
}

wane_status wane_tensor_equal(wane_tensor *a, wane_tensor *b, bool *out, wane_err *e)
{
    wane_tensor *x = NULL, *y = NULL;
    char *buffer = NULL;
    bool same = a->dtype == b->dtype && a->rank == b->rank &&
                (a->rank == 0 || !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape));
    *out = false;
    if (!same) return WANE_OK;
    wane_status s = packed(a, &x, e);
    if (!s) s = packed(b, &y, e);
    if (!s && !(buffer = malloc(2 * CHUNK))) s = no_memory(e);
    uint64_t size = wane_tensor_bytes(a);
    for (uint64_t at = 0, n; at < size && same && !s; at += n) {
        const char *p, *q;
        n = size - at < CHUNK ? size - at : CHUNK;
        s = look(x, at, n, buffer, &p, e);
        if (!s) s = look(y, at, n, buffer + CHUNK, &q, e);
        if (!s) same = !memcmp(p, q, (size_t)n);
    }
    *out = same && !s;
    free(buffer);
    wane_tensor_release(x);
    wane_tensor_release(y);
    return s;
}

wane_status wane_tensor_hash(wane_tensor *t, char out[65], wane_err *e)
{
    wane_sha256 hash;
    wane_tensor *x = NULL;
    char text[32];
    char *buffer = malloc(CHUNK);
    out[0] = 0;
    if (!buffer) return no_memory(e);
    wane_sha256_start(&hash);
    wane_sha256_add(&hash, wane_dtype_name(t->dtype), strlen(wane_dtype_name(t->dtype)));
    for (int i = 0; i < t->rank; i++) {
        snprintf(text, sizeof text, " %" PRId64, t->shape[i]);
        wane_sha256_add(&hash, text, strlen(text));
    }
    wane_sha256_add(&hash, "\n", 1);
    wane_status s = packed(t, &x, e);
    uint64_t size = wane_tensor_bytes(t);
    for (uint64_t at = 0, n; at < size && !s; at += n) {
        const char *p;
        n = size - at < CHUNK ? size - at : CHUNK;
        s = look(x, at, n, buffer, &p, e);
        if (!s) wane_sha256_add(&hash, p, (size_t)n);
    }
    if (!s) wane_sha256_hex(&hash, out);
    free(buffer);
    wane_tensor_release(x);
    return s;
}
