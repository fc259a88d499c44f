/* ahead.c - see ahead.h. One buffer for all tensors of a list, kept for the next list, and pinned:
 * that takes longer than a copy does. The thread takes no memory of its own and touches nothing but
 * the buffer and its status, which is looked at once it has ended. */
#include "runtime/model/ahead.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t PIECE = 4 << 20; /* bytes that a thread reads at a time */
enum { READERS = 4 };                  /* more do not read a page cache or a disk faster */

typedef struct {
    wane_wanted from;
    uint64_t at; /* in the buffer */
} place;

typedef struct {
    const place *of;
    uint64_t begin, bytes; /* of its tensor */
} piece;

struct wane_ahead {
    wane_device *device, *host; /* retained */
    wane_tensor *buffer;        /* on the host, or NULL */
    bool pinned;
    place *place;
    piece *piece;
    size_t places, pieces;
    pthread_t thread;
    bool running;
    wane_status status; /* of the thread */
};

wane_status wane_ahead_new(wane_device *d, wane_device *host, wane_ahead **out, wane_err *e)
{
    wane_ahead *a = *out = calloc(1, sizeof *a);
    if (!a) return wane_fail(e, WANE_EOOM, "host: no memory to read ahead");
    a->device = wane_device_retain(d);
    a->host = wane_device_retain(host);
    return WANE_OK;
}

static void *read_all(void *p)
{
    wane_ahead *a = p;
    char *to = a->buffer->buffer->data;
    wane_status status = WANE_OK;
#pragma omp parallel for schedule(dynamic) num_threads(READERS)
    for (size_t i = 0; i < a->pieces; i++) {
        const piece *k = &a->piece[i];
        const wane_wanted *from = &k->of->from;
        wane_err why; /* whoever reads it again is told */
        wane_status s = wane_safetensors_read(from->file, from->entry, k->begin, k->bytes,
                                              to + k->of->at + k->begin, &why);
        if (!s) continue;
#pragma omp atomic write
        status = s;
    }
    a->status = status;
    return NULL;
}

/* Waits for the thread. */
static void finish(wane_ahead *a)
{
    if (a->running) pthread_join(a->thread, NULL);
    a->running = false;
}

static void drop_buffer(wane_ahead *a)
{
    if (a->pinned) a->device->k->unpin(a->device->dev, a->buffer->buffer->data);
    wane_tensor_release(a->buffer);
    a->buffer = NULL;
    a->pinned = false;
}

/* A buffer of at least so many bytes; none where the host has little room. */
static wane_status take_buffer(wane_ahead *a, uint64_t bytes, wane_err *e)
{
    int64_t size = (int64_t)bytes;
    if (a->buffer && a->buffer->buffer->bytes >= bytes) return WANE_OK;
    drop_buffer(a);
    if (bytes > wane_device_room(a->host) / 4) return WANE_OK;
    wane_status s = wane_tensor_new(a->host, WANE_U8, 1, &size, &a->buffer, e);
    if (s) return s;
    /* memory that cannot be pinned is slower, and does as well */
    a->pinned = !a->device->k->pin(a->device->dev, a->buffer->buffer->data, (size_t)bytes);
    return WANE_OK;
}

/* Where each tensor goes, and the pieces it is read in. */
static wane_status lay_out(wane_ahead *a, const wane_wanted *list, size_t count, uint64_t *bytes,
                           wane_err *e)
{
    size_t pieces = 0;
    *bytes = 0;
    for (size_t i = 0; i < count; i++)
        pieces += (size_t)((list[i].entry->end - list[i].entry->begin + PIECE - 1) / PIECE);
    a->place = malloc((count ? count : 1) * sizeof *a->place);
    a->piece = malloc((pieces ? pieces : 1) * sizeof *a->piece);
    if (!a->place || !a->piece) return wane_fail(e, WANE_EOOM, "host: no memory to read ahead");
    for (size_t i = 0; i < count; i++) {
        uint64_t size = list[i].entry->end - list[i].entry->begin;
        a->place[i] = (place){list[i], *bytes};
        for (uint64_t at = 0; at < size; at += PIECE)
            a->piece[a->pieces++] =
                (piece){&a->place[i], at, size - at < PIECE ? size - at : PIECE};
        *bytes += (size + 255) / 256 * 256;
    }
    a->places = count;
    return WANE_OK;
}

static void forget(wane_ahead *a)
{
    finish(a);
    free(a->place);
    free(a->piece);
    a->place = NULL;
    a->piece = NULL;
    a->places = a->pieces = 0;
}

wane_status wane_ahead_begin(wane_ahead *a, const wane_wanted *list, size_t count, wane_err *e)
{
    uint64_t bytes = 0;
    forget(a);
    wane_status s = lay_out(a, list, count, &bytes, e);
    if (!s && bytes) s = take_buffer(a, bytes, e);
    if (s || !a->buffer || !bytes || pthread_create(&a->thread, NULL, read_all, a))
        forget(a);
    else
        a->running = true;
    return s;
}

const void *wane_ahead_find(wane_ahead *a, const wane_entry *entry)
{
    size_t i = 0;
    while (i < a->places && a->place[i].from.entry != entry) i++;
    if (i == a->places) return NULL;
    finish(a);
    return a->status ? NULL : (const char *)a->buffer->buffer->data + a->place[i].at;
}

void wane_ahead_free(wane_ahead *a)
{
    if (!a) return;
    forget(a);
    drop_buffer(a);
    wane_device_release(a->device);
    wane_device_release(a->host);
    free(a);
}
