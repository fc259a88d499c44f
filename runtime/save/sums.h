/* sums.h - SHA256SUMS of a folder that was just written. Private to runtime/save. */
#ifndef WANE_SUMS_H
#define WANE_SUMS_H

#include "runtime/tensor/device.h"

typedef struct wane_sums wane_sums;

/* A thread of its own begins to hash every file of a folder: nothing there may change until the
 * end. The device is borrowed, for its interrupt flag. */
wane_status wane_sums_start(const char *dir, const wane_device *, wane_sums **out, wane_err *e);
/* Waits for it, writes dir/SHA256SUMS and frees. With `write` false it is given up instead, and
 * WANE_OK. */
wane_status wane_sums_finish(wane_sums *, bool write, wane_err *e);

#endif
