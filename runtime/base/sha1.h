/* sha1.h - SHA-1, which git names its blobs by; it proves no origin, only that a file is as it was.
 */
#ifndef WANE_SHA1_H
#define WANE_SHA1_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t state[5];
    uint64_t length;
    uint8_t block[64];
} wane_sha1;

void wane_sha1_start(wane_sha1 *);
void wane_sha1_add(wane_sha1 *, const void *data, size_t bytes);
void wane_sha1_hex(wane_sha1 *, char out[41]); /* 40 lower-case hex digits and a 0 */

#endif
