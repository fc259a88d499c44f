/* codecs.c - see codecs.h. The numbers are CompressionCodec's in parquet.thrift. Each library is
 * one that a build may lack: WANE_SNAPPY, WANE_ZSTD and WANE_ZLIB say which are there. */
#include "runtime/data/codecs.h"

#include <limits.h>
#include <string.h>

#ifdef WANE_SNAPPY
#include <snappy-c.h>
#endif
#ifdef WANE_ZLIB
#include <zlib.h>
#endif
#ifdef WANE_ZSTD
#include <zstd.h>
#include <zstd_errors.h>
#endif

#ifdef WANE_SNAPPY
enum { HAS_SNAPPY = 1 };
#else
enum { HAS_SNAPPY = 0 };
#endif
#ifdef WANE_ZLIB
enum { HAS_ZLIB = 1 };
#else
enum { HAS_ZLIB = 0 };
#endif
#ifdef WANE_ZSTD
enum { HAS_ZSTD = 1 };
#else
enum { HAS_ZSTD = 0 };
#endif

static const struct {
    const char *name, *package; /* NULL: wane does not read it */
    int here;
} codecs[] = {
    {"nothing", "", 1},
    {"snappy", "libsnappy-dev", HAS_SNAPPY},
    {"gzip", "zlib1g-dev", HAS_ZLIB},
    {"lzo", NULL, 0},
    {"brotli", NULL, 0},
    {"lz4", NULL, 0},
    {"zstd", "libzstd-dev", HAS_ZSTD},
    {"lz4_raw", NULL, 0},
};

enum { CODECS = sizeof codecs / sizeof *codecs };

wane_status wane_codec_check(int32_t codec, wane_err *e)
{
    if (codec < 0 || codec >= CODECS)
        return wane_fail(e, WANE_EUNSUPPORTED, "packed with the unknown codec %d", codec);
    if (codecs[codec].here) return WANE_OK;
    if (codecs[codec].package)
        return wane_fail(
            e, WANE_EUNSUPPORTED,
            "packed with %s, which this build of wane lacks: install %s and build wane again",
            codecs[codec].name, codecs[codec].package);
    return wane_fail(e, WANE_EUNSUPPORTED,
                     "packed with %s, which wane does not read: write it with snappy or zstd",
                     codecs[codec].name);
}

static wane_status broken(const char *name, wane_err *e)
{
    return wane_fail(e, WANE_EFORMAT,
                     "the %s data is damaged, or is not of the size that the page says", name);
}

#ifdef WANE_SNAPPY
static wane_status unpack_snappy(const void *from, size_t length, void *out, size_t size,
                                 wane_err *e)
{
    size_t said = 0, room = size;
    if (snappy_uncompressed_length(from, length, &said) != SNAPPY_OK || said != size ||
        snappy_uncompress(from, length, out, &room) != SNAPPY_OK || room != size)
        return broken("snappy", e);
    return WANE_OK;
}
#endif

#ifdef WANE_ZLIB
static wane_status unpack_gzip(const void *from, size_t length, void *out, size_t size, wane_err *e)
{
    enum { GZIP_OR_ZLIB = 32 + MAX_WBITS };
    z_stream z = {0};
    if (length > UINT_MAX || size > UINT_MAX) return broken("gzip", e);
    if (inflateInit2(&z, GZIP_OR_ZLIB) != Z_OK)
        return wane_fail(e, WANE_EOOM, "no memory to unpack gzip");
    z.next_in = (Bytef *)(uintptr_t)from;
    z.avail_in = (uInt)length;
    z.next_out = out;
    z.avail_out = (uInt)size;
    int rc = inflate(&z, Z_FINISH);
    bool whole = rc == Z_STREAM_END && z.total_out == size;
    inflateEnd(&z);
    if (rc == Z_MEM_ERROR) return wane_fail(e, WANE_EOOM, "no memory to unpack gzip");
    return whole ? WANE_OK : broken("gzip", e);
}
#endif

#ifdef WANE_ZSTD
static wane_status unpack_zstd(const void *from, size_t length, void *out, size_t size, wane_err *e)
{
    size_t n = ZSTD_decompress(out, size, from, length);
    if (ZSTD_isError(n) && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
        return wane_fail(e, WANE_EOOM, "no memory to unpack zstd");
    return n == size ? WANE_OK : broken("zstd", e); /* an error is no size */
}
#endif

wane_status wane_codec_unpack(int32_t codec, const void *from, size_t length, void *out,
                              size_t size, wane_err *e)
{
    char none;
    if (!size) out = &none; /* the libraries want somewhere to point at */
    switch (codec) {
#ifdef WANE_SNAPPY
    case WANE_CODEC_SNAPPY: return unpack_snappy(from, length, out, size, e);
#endif
#ifdef WANE_ZLIB
    case WANE_CODEC_GZIP: return unpack_gzip(from, length, out, size, e);
#endif
#ifdef WANE_ZSTD
    case WANE_CODEC_ZSTD: return unpack_zstd(from, length, out, size, e);
#endif
    default: (void)from, (void)length, (void)out, (void)broken; return wane_codec_check(codec, e);
    }
}

uint32_t wane_crc32(const void *data, size_t length)
{
    static const uint32_t table[16] = {
        /* of four bits each, for the reflected polynomial 0xEDB88320 */
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const uint8_t *p = data;
    uint32_t crc = ~0u;
    for (size_t i = 0; i < length; i++) {
        crc = crc >> 4 ^ table[(crc ^ p[i]) & 15];
        crc = crc >> 4 ^ table[(crc ^ p[i] >> 4) & 15];
    }
    return ~crc;
}
