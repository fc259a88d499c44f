/* device.h - an opened backend with its budget: the only place that allocates and frees what
 * kernels work on.
 *
 * Two devices live in a host: the computing one ("cpu", "cuda:0") whose budget is `memory`, and
 * "host" (the cpu table again) for what waits its turn there, whose budget is `host_memory`.
 * Device memory is counted exactly: live is the sum of what was asked for. */
#ifndef WANE_DEVICE_H
#define WANE_DEVICE_H

#include <stdatomic.h>

#include "runtime/base/error.h"

typedef struct wane_device {
    int refs;
    char name[32];         /* "cpu", "cuda:0", "host" */
    const wane_kernels *k; /* borrowed, static */
    wane_dev *dev;         /* owned */
    uint64_t budget;       /* bytes that may be live at once; UINT64_MAX: no limit */
    uint64_t scratch;      /* bytes the backend was opened with; part of live */
    uint64_t live, peak;   /* bytes now, and the most since reset_peak */
    uint64_t allocations;  /* how many were asked for, ever */
    int64_t fail_after;    /* tests: this many more succeed, then one fails; -1: off */
    int64_t
        fail_times; /* tests: how many fail then; 1 unless set; 0: all until fail_after is set */
    const atomic_int *interrupt; /* borrowed, may be NULL; not 0: stop soon */
    char no_gpu[256]; /* why "auto" gave the CPU, where this build or machine is one for GPUs; else
                         "" */
} wane_device;

/* name: "cpu", "host", "cuda", "cuda:1", "auto" (cuda where there is one, else cpu). EDEVICE says
 * why not, EOOM where even the scratch (1/16 of the budget, at least 1.25 MiB for a CPU) does not
 * fit. One reference. */
wane_status wane_device_open(const char *name, uint64_t budget, wane_device **out, wane_err *e);
wane_device *wane_device_retain(wane_device *);
void wane_device_release(wane_device *); /* NULL is fine */

/* 256-byte aligned, not cleared. EOOM fills requested and free. bytes 0 gives NULL and WANE_OK. */
wane_status wane_device_alloc(wane_device *, uint64_t bytes, void **out, wane_err *e);
void wane_device_free(wane_device *, void *p, uint64_t bytes);

uint64_t
wane_device_room(const wane_device *); /* bytes of the budget (and of the machine) still free */
void wane_device_reset_peak(wane_device *); /* peak = live */

/* Whether its memory is the host's: a pointer to it can be read in C. */
static inline bool wane_device_is_host(const wane_device *d)
{
    return d->k == wane_cpu_kernels();
}

/* EINTERRUPTED once the user asked to stop; long loops call it between steps of at most 50 ms. */
wane_status wane_device_poll(const wane_device *, wane_err *e);

/* A slot's status as an error: op names the slot. WANE_OK passes. */
wane_status wane_device_check(const wane_device *, wane_status, const char *op, wane_err *e);

/* Calls a slot: WANE_CALL(d, e, matmul, y, x, w) is the status, with e filled. */
#define WANE_CALL(d, e, slot, ...)                                                                 \
    wane_device_check((d), (d)->k->slot((d)->dev, __VA_ARGS__), #slot, (e))

#endif
