/* head.c - the head of an answer from the Hub, line by line: what is taken is within its bounds.
 * Where it would send a request: never on from https to http, never with a token to another place.
 */
#include "runtime/hub/head.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/hub/address.h"

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

#ifdef WANE_CURL /* address.c is libcurl's */
static void follow(const char *location)
{
    static const char home[] = "https://huggingface.co/a/b/resolve/main/x";
    char *to = wane_address_join(home, location), shown[200];
    wane_origin from, there;
    if (!to) return;
    FUZZ_CHECK(wane_origin_of(home, &from));
    FUZZ_CHECK(strlen(wane_address_shown(shown, sizeof shown, to)) < sizeof shown);
    if (wane_origin_of(to, &there)) {
        bool follows = wane_origin_follow(&from, &there);
        FUZZ_CHECK(!follows || there.secure);
        FUZZ_CHECK(!wane_origin_trusted(&from, &there) ||
                   (there.secure && !strcasecmp(there.host, "huggingface.co") &&
                    !strcmp(there.port, from.port)));
    }
    free(to);
}
#else
static void follow(const char *location)
{
    (void)location;
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    wane_head h;
    wane_head_start(&h);
    while (size) {
        const char *end = memchr(text, '\n', size);
        size_t n = end ? (size_t)(end - text) + 1 : size;
        char *line = malloc(n); /* its own: nothing beyond its end may be read */
        FUZZ_CHECK(line);
        memcpy(line, text, n);
        bool more = wane_head_line(&h, line, n, 784111777);
        free(line);
        if (!more) break;
        check(&h);
        text += n;
        size -= n;
    }
    if (h.location[0]) follow(h.location);
    return 0;
}
