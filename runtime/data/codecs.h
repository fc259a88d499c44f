/* codecs.h - what Parquet's pages are packed with. */
#ifndef WANE_CODECS_H
#define WANE_CODECS_H

#include "runtime/base/error.h"

enum { WANE_CODEC_NONE = 0, WANE_CODEC_SNAPPY = 1, WANE_CODEC_GZIP = 2, WANE_CODEC_ZSTD = 6 };

/* EUNSUPPORTED where this build cannot unpack the codec of that number; it names the codec, and
 * the package that a build needs for it. */
wane_status wane_codec_check(int32_t codec, wane_err *e);

/* Unpacks into exactly `size` bytes at out; EFORMAT where it is not just that many. Not for
 * WANE_CODEC_NONE. */
wane_status wane_codec_unpack(int32_t codec, const void *from, size_t length, void *out,
                              size_t size, wane_err *e);

/* CRC-32 of ISO 3309, as gzip has it. */
uint32_t wane_crc32(const void *data, size_t length);

#endif
