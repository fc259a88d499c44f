/* head.c - the head of an answer from the Hub, line by line: what is taken is within its bounds. */
#include "runtime/hub/head.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void check(const wane_head *h)
{
    FUZZ_CHECK(h->status == 0 || (h->status >= 100 && h->status <= 999));
    FUZZ_CHECK(strlen(h->location) < sizeof h->location);
    FUZZ_CHECK(!h->location_long || !h->location[0]);
    FUZZ_CHECK(!strpbrk(h->etag, "\r\n"));
    FUZZ_CHECK(!h->etag[0] || h->etag[strlen(h->etag) - 1] == '"');
    FUZZ_CHECK(!h->linked[0] || wane_head_hash(h->linked));
    FUZZ_CHECK(!h->tagged[0] || wane_head_hash(h->tagged));
    FUZZ_CHECK(h->linked_size >= -1 && h->length >= -1 && h->first >= -1 && h->total >= -1);
    FUZZ_CHECK(h->retry_after == -1 || (h->retry_after >= 0 && h->retry_after < 1e12));
    FUZZ_CHECK(h->bytes <= WANE_HEAD_MOST);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    wane_head h;
    wane_head_start(&h);
    while (size) {
        const char *end = memchr(text, '\n', size);
        size_t n = end ? (size_t)(end - text) + 1 : size;
        if (!wane_head_line(&h, text, n, 784111777)) break;
        check(&h);
        text += n;
        size -= n;
    }
    return 0;
}
