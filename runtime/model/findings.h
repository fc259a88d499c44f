/* findings.h - everything that is wrong with a folder, where the first of it would not do. */
#ifndef WANE_FINDINGS_H
#define WANE_FINDINGS_H

#include "runtime/base/error.h"

/* Start with {0}. */
typedef struct {
    wane_err *item;
    size_t count, room;
    uint64_t more; /* found, and not kept: at most 200 are */
} wane_findings;

/* Takes a copy. all may be NULL: then nothing is kept. Returns the status of e. */
wane_status wane_findings_add(wane_findings *all, const wane_err *e);
void wane_findings_free(wane_findings *);

#endif
