/* sha1.c - SHA-1 as FIPS 180-4 (sections 4.1.1, 5.1.1, 5.3.1 and 6.1) gives it; see sha1.h. */
#include "runtime/base/sha1.h"

#include <stdio.h>
#include <string.h>

static uint32_t rotate(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static void compress(uint32_t h[5], const uint8_t *p)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int t = 0; t < 16; t++, p += 4)
        w[t] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int t = 16; t < 80; t++) w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        uint32_t f = t < 20   ? (b & c) ^ (~b & d)
                     : t < 40 ? b ^ c ^ d
                     : t < 60 ? (b & c) ^ (b & d) ^ (c & d)
                              : b ^ c ^ d;
        uint32_t k = t < 20 ? 0x5a827999 : t < 40 ? 0x6ed9eba1 : t < 60 ? 0x8f1bbcdc : 0xca62c1d6;
        uint32_t sum = rotate(a, 5) + f + e + k + w[t];
        e = d, d = c, c = rotate(b, 30), b = a, a = sum;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

void wane_sha1_start(wane_sha1 *s)
{
    static const uint32_t first[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memset(s, 0, sizeof *s);
    memcpy(s->state, first, sizeof first);
}

void wane_sha1_add(wane_sha1 *s, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes) {
        size_t at = s->length % 64, n = 64 - at < bytes ? 64 - at : bytes;
        memcpy(s->block + at, p, n);
        s->length += n;
        p += n;
        bytes -= n;
        if (s->length % 64 == 0) compress(s->state, s->block);
    }
}

void wane_sha1_hex(wane_sha1 *s, char out[41])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = s->length * 8;
    uint8_t end[8];
    wane_sha1_add(s, padding, 1 + (119 - s->length % 64) % 64);
    for (int i = 0; i < 8; i++) end[i] = (uint8_t)(bits >> (56 - 8 * i));
    wane_sha1_add(s, end, sizeof end);
    for (int i = 0; i < 5; i++) snprintf(out + 8 * i, 9, "%08x", s->state[i]);
}
