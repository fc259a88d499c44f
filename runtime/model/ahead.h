/* ahead.h - weights that are read from the disk while something else is computed: a thread brings a
 * list of a checkpoint's tensors into memory that the device copies from at its full speed, and
 * whoever wants one of them then finds it there. */
#ifndef WANE_AHEAD_H
#define WANE_AHEAD_H

#include "runtime/tensor/safetensors.h"

typedef struct wane_ahead wane_ahead;

typedef struct {
    const wane_safetensors *file; /* borrowed until the next begin, or free */
    const wane_entry *entry;
} wane_wanted;

/* host: where the memory is taken, and counted. Keeps a reference of both. */
wane_status wane_ahead_new(wane_device *, wane_device *host, wane_ahead **out, wane_err *e);
void wane_ahead_free(wane_ahead *); /* waits for the thread; NULL is fine */

/* Reads these from now on, and forgets those before. Where the host has little room it does
 * nothing, which is no error: reading ahead is never needed. */
wane_status wane_ahead_begin(wane_ahead *, const wane_wanted *list, size_t count, wane_err *e);

/* The tensor's bytes once they are there, until the next begin; NULL where they were not asked for,
 * or could not be read: then reading them tells why. */
const void *wane_ahead_find(wane_ahead *, const wane_entry *);

#endif
