/* tokenizer.c - a tokenizer.json, a byte 0 and a text to encode and decode with it.
 *
 * A whole tokenizer.json begins with 256 tokens, one a byte, which would drown what matters. So an
 * input that is a JSON object is laid over a small one (null takes a key away, "vocab" adds to it);
 * any other is read as it is. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

/* GPT-2's letter of a byte, as UTF-8. */
static const char *letter(int byte)
{
    static char text[3];
    int c = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad) ? byte
            : byte <= 32                                                   ? 0x100 + byte
            : byte <= 160                                                  ? 0x100 + byte - 94
                                                                           : 0x143;
    memset(text, 0, sizeof text);
    if (c < 0x80)
        text[0] = (char)c;
    else
        text[0] = (char)(0xc0 | c >> 6), text[1] = (char)(0x80 | (c & 63));
    return text;
}

static json_t *base(void)
{
    json_t *vocab = json_object(), *t;
    for (int i = 0; i < 256; i++) json_object_set_new(vocab, letter(i), json_integer(i));
    t = json_pack("{s:s,s:[],s:{s:s,s:b,s:b,s:b},s:{s:s},s:{s:s,s:o,s:[]}}", "version", "1.0",
                  "added_tokens", "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0,
                  "trim_offsets", 1, "use_regex", 1, "decoder", "type", "ByteLevel", "model",
                  "type", "BPE", "vocab", vocab, "merges");
    FUZZ_CHECK(t);
    return t;
}

/* Lays `over` on `under`; "model" and "vocab" are laid on what is there. */
static void lay(json_t *under, json_t *over)
{
    const char *key;
    size_t length;
    json_t *value;
    json_object_keylen_foreach(over, key, length, value)
    {
        json_t *there = json_object_getn(under, key, length);
        bool inside = !strcmp(key, "model") || !strcmp(key, "vocab");
        if (json_is_null(value))
            json_object_deln(under, key, length);
        else if (inside && json_is_object(there) && json_is_object(value))
            lay(there, value);
        else
            json_object_setn(under, key, length, value);
    }
}

/* The text as it is read: laid over the base where it can be. free. */
static char *whole(fuzz_part json, size_t *length)
{
    char *text = NULL;
    json_t *over = NULL, *under;
    if (json.size && !wane_json_parse((const char *)json.data, json.size, "over", &over, NULL) &&
        json_is_object(over)) {
        under = base();
        lay(under, over);
        text = json_dumps(under, JSON_COMPACT);
        json_decref(under);
    }
    json_decref(over);
    *length = text ? strlen(text) : json.size;
    if (text) return text;
    text = malloc(json.size + 1);
    FUZZ_CHECK(text);
    if (json.size) memcpy(text, json.data, json.size);
    return text;
}

static void use(const wane_tokenizer *t, fuzz_part text)
{
    int64_t size = wane_tokenizer_size(t);
    for (unsigned flags = 0; flags < 4; flags++) {
        wane_ids ids = {0};
        wane_err e;
        char *back = NULL;
        size_t length;
        wane_status s =
            wane_tokenizer_encode(t, (const char *)text.data, text.size, flags, &ids, &e);
        if (fuzz_status(s, &e)) {
            FUZZ_CHECK(s == WANE_EUNSUPPORTED && !ids.count); /* a pattern ran into its limits */
            continue;
        }
        for (size_t i = 0; i < ids.count; i++) {
            size_t n;
            FUZZ_CHECK(ids.ids[i] >= 0 && ids.ids[i] < size);
            FUZZ_CHECK(wane_tokenizer_bytes(t, ids.ids[i], &n));
            wane_tokenizer_is_special(t, ids.ids[i]);
        }
        FUZZ_CHECK(!fuzz_status(
            wane_tokenizer_decode(t, ids.ids, ids.count, flags & 1, &back, &length, &e), &e));
        FUZZ_CHECK(back && !back[length]);
        free(back);
        wane_ids_free(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_part rest = {data, size}, json;
    wane_tokenizer *t;
    wane_err e;
    size_t length;
    fuzz_next(&rest, &json);
    char *text = whole(json, &length);
    if (!fuzz_status(wane_tokenizer_parse(text, length, "tokenizer.json", &t, &e), &e))
        use(t, rest);
    wane_tokenizer_release(t);
    free(text);
    return 0;
}
