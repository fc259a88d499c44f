/* runs.c - see runs.h. Source: parquet-format's Encodings.md, "Run Length Encoding / Bit-Packing
 * Hybrid (RLE = 3)". */
#include "runtime/data/runs.h"

static bool begin_run(wane_runs *r)
{
    uint64_t head = 0;
    for (int shift = 0;; shift += 7) {
        if (r->at == r->end || shift > 28) return false; /* no run has 2^34 values */
        uint8_t b = *r->at++;
        head |= (uint64_t)(b & 127) << shift;
        if (b < 128) break;
    }
    r->packed = head & 1;
    r->bit = 0;
    if (r->packed) {
        r->run = (head >> 1) * 8;
        return true;
    }
    r->run = head >> 1;
    r->value = 0;
    for (int i = 0; i < (r->width + 7) / 8; i++) {
        if (r->at == r->end) return false;
        r->value |= (uint32_t)*r->at++ << 8 * i;
    }
    return true;
}

bool wane_runs_next(wane_runs *r, uint32_t *out)
{
    while (r->run == 0)
        if (!begin_run(r)) return false;
    r->run--;
    if (!r->packed) {
        *out = r->value;
        return true;
    }
    unsigned bits = r->bit + (unsigned)r->width, bytes = (bits + 7) / 8;
    uint64_t word = 0;
    if (bytes > (size_t)(r->end - r->at)) return false;
    for (unsigned i = 0; i < bytes; i++) word |= (uint64_t)r->at[i] << 8 * i;
    *out = (uint32_t)(word >> r->bit & ((UINT64_C(1) << r->width) - 1));
    r->at += bits / 8;
    r->bit = bits % 8;
    return true;
}
