/* encode.c - a text through a real tokenizer: what is encoded decodes to the same text, and the
 * pattern matched by hand cuts as PCRE2 does. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/unicode.h"
#include "tests/fuzz/fuzz.h"

#define WAYS 2
static wane_tokenizer *tokenizer[WAYS]; /* as it is; its pattern spelt so that PCRE2 matches it */

static void prepare(void)
{
    wane_err e;
    char *text, *wide;
    size_t length;
    if (tokenizer[0]) return;
    const char *path = WANE_TREE "/examples/models/lune-5m/tokenizer.json";
    if (wane_file_read_all(path, 1 << 24, &text, &length, &e))
        fuzz_stop(__FILE__, __LINE__, "the tokenizer can be read", e.message);
    static const char known[] = "\"Regex\": \"", more[] = "\"Regex\": \"(?:)";
    const char *at = strstr(text, known);
    FUZZ_CHECK(at);
    size_t before = (size_t)(at - text), grown = length + sizeof more - sizeof known;
    wide = malloc(grown + 1);
    FUZZ_CHECK(wide);
    memcpy(wide, text, before);
    memcpy(wide + before, more, sizeof more - 1);
    memcpy(wide + before + sizeof more - 1, at + sizeof known - 1,
           length - before - (sizeof known - 1));
    if (wane_tokenizer_parse(text, length, "lune", &tokenizer[0], &e) ||
        wane_tokenizer_parse(wide, grown, "wide", &tokenizer[1], &e))
        fuzz_stop(__FILE__, __LINE__, "the tokenizer can be read", e.message);
    free(text);
    free(wide);
}

/* Whether both know every character alike: Unicode grows, and PCRE2's is older. */
static bool common(const wane_buffer *text)
{
    for (size_t i = 0, next; i < text->length; i = next)
        if (unicode_step(text->data, i, &next) >= 0x500) return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wane_ids ids[WAYS] = {{0}};
    wane_buffer repaired = {0}, wanted = {0};
    wane_err e;
    char *back;
    size_t length;
    prepare();
    for (int way = 0; way < WAYS; way++)
        FUZZ_CHECK(!fuzz_status(wane_tokenizer_encode(tokenizer[way], (const char *)data, size,
                                                      WANE_PLAIN_SPECIAL, &ids[way], &e),
                                &e));
    FUZZ_CHECK(!wane_utf8_repair(data, size, &repaired, &e));
    if (repaired.length) FUZZ_CHECK(!wane_nfc(repaired.data, repaired.length, &wanted, &e));
    FUZZ_CHECK(!fuzz_status(
        wane_tokenizer_decode(tokenizer[0], ids[0].ids, ids[0].count, false, &back, &length, &e),
        &e));
    FUZZ_CHECK(length == wanted.length && (!length || !memcmp(back, wanted.data, length)));
    if (common(&wanted)) {
        FUZZ_CHECK(ids[0].count == ids[1].count);
        FUZZ_CHECK(!ids[0].count ||
                   !memcmp(ids[0].ids, ids[1].ids, ids[0].count * sizeof *ids[0].ids));
    }
    for (int way = 0; way < WAYS; way++) wane_ids_free(&ids[way]);
    free(back);
    free(repaired.data);
    free(wanted.data);
    return 0;
}
