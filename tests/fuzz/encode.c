/* encode.c - a text through real tokenizers: what is encoded decodes to the same text; the pattern
 * matched by hand cuts as PCRE2 does; where contents are text, words merged one by one are what the
 * whole text merged at once is. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/unicode.h"
#include "tests/fuzz/fuzz.h"

#define WAYS 2
static wane_tokenizer *tokenizer[WAYS]; /* as it is; its pattern spelt so that PCRE2 matches it */
static wane_tokenizer *words[WAYS];     /* as it is; with a merge over words, which never applies */

/* A file as it is, and with the first `known` in it become `more`. */
static void prepare_pair(const char *path, const char *known, const char *more,
                         wane_tokenizer *out[WAYS])
{
    wane_err e;
    char *text, *wide;
    size_t length;
    if (wane_file_read_all(path, 1 << 24, &text, &length, &e))
        fuzz_stop(__FILE__, __LINE__, "the tokenizer can be read", e.message);
    const char *at = strstr(text, known);
    FUZZ_CHECK(at);
    size_t before = (size_t)(at - text), grown = length + strlen(more) - strlen(known);
    wide = malloc(grown + 1);
    FUZZ_CHECK(wide);
    memcpy(wide, text, before);
    memcpy(wide + before, more, strlen(more));
    memcpy(wide + before + strlen(more), at + strlen(known), length - before - strlen(known));
    if (wane_tokenizer_parse(text, length, "known", &out[0], &e) ||
        wane_tokenizer_parse(wide, grown, "wide", &out[1], &e))
        fuzz_stop(__FILE__, __LINE__, "the tokenizer can be read", e.message);
    free(text);
    free(wide);
}

static void prepare(void)
{
    if (tokenizer[0]) return;
    prepare_pair(WANE_TREE "/examples/models/lune-5m/tokenizer.json", "\"Regex\": \"",
                 "\"Regex\": \"(?:)", tokenizer);
    prepare_pair(WANE_TREE "/tests/reference/mistral/tokenizer.json", "},\"merges\":[",
                 ",\"[/INST]\u2581\":1400},\"merges\":[\"[/INST] \u2581\",", words);
}

/* Whether both know every character alike: Unicode grows, and PCRE2's is older. */
static bool common(const wane_buffer *text)
{
    for (size_t i = 0, next; i < text->length; i = next)
        if (unicode_step(text->data, i, &next) >= 0x500) return false;
    return true;
}

/* The text as it comes back where "\u2581" stands for a space. */
static void space(const wane_buffer *from, wane_buffer *to)
{
    wane_err e;
    for (size_t i = 0; i < from->length; i++) {
        bool mark = from->length - i > 2 && !memcmp(from->data + i, "\xe2\x96\x81", 3);
        FUZZ_CHECK(!wane_buffer_add(to, mark ? (const void *)" " : from->data + i, 1, &e));
        if (mark) i += 2;
    }
}

static void use_words(const uint8_t *data, size_t size, const wane_buffer *repaired)
{
    wane_ids ids[WAYS] = {{0}};
    wane_buffer wanted = {0};
    wane_err e;
    char *back;
    size_t length;
    for (int way = 0; way < WAYS; way++)
        FUZZ_CHECK(!fuzz_status(wane_tokenizer_encode(words[way], (const char *)data, size,
                                                      WANE_PLAIN_SPECIAL, &ids[way], &e),
                                &e));
    FUZZ_CHECK(ids[0].count == ids[1].count);
    FUZZ_CHECK(!ids[0].count || !memcmp(ids[0].ids, ids[1].ids, ids[0].count * sizeof *ids[0].ids));
    space(repaired, &wanted);
    FUZZ_CHECK(!fuzz_status(
        wane_tokenizer_decode(words[0], ids[0].ids, ids[0].count, false, &back, &length, &e), &e));
    FUZZ_CHECK(length == wanted.length && (!length || !memcmp(back, wanted.data, length)));
    for (int way = 0; way < WAYS; way++) wane_ids_free(&ids[way]);
    free(back);
    free(wanted.data);
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
    use_words(data, size, &repaired);
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
