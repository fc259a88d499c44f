/* runs.h - runs and packed bits: Parquet's RLE hybrid, which levels, indices and booleans are in.
 *
 * One value at a time, so that a run of a billion values takes no room. */
#ifndef WANE_RUNS_H
#define WANE_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *at, *end;
    int width;    /* bits of a value, at most 32 */
    uint64_t run; /* values left of this run */
    bool packed;  /* the run is of packed bits, else of value */
    uint32_t value;
    unsigned bit; /* the next one at `at`, where packed */
} wane_runs;

bool wane_runs_next(wane_runs *r, uint32_t *out); /* false where the bytes end */

#endif
