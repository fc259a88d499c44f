/* vocab.c - the model of a tokenizer.json: {"type": "BPE", "vocab": {...}, "merges": [...]}.
 *
 * Byte-level contents spell bytes as characters, after GPT-2's table (encoder.py,
 * bytes_to_unicode): the bytes that are visible in Latin-1 stand for themselves, the other 68 are
 * U+0100 and on, in order. All 256 have to be tokens, so that every text can be encoded; unk_token,
 * fuse_unk and byte_fallback then have nothing to do and are read past. A token with other
 * characters decodes to its own UTF-8.
 *
 * Contents of SentencePiece's kind are text. There a character that is no token is its bytes, as
 * "<0x0A>", where byte_fallback is set and all of them are tokens, and else the unk_token. A file
 * that has neither for some character is refused: the library would leave the character out.
 *
 * Merges are "a b" or ["a", "b"]; the n-th has rank n, and of two that are alike the later counts,
 * as in Hugging Face's tokenizers. */
#include "runtime/text/vocab.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

wane_status vocab_refuse(const vocab_source *from, wane_status s, const char *format, ...)
{
    char shown[256], text[700];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    wane_escape(shown, sizeof shown, from->path, strlen(from->path));
    wane_fail(from->e, s, "%s: %s", shown, text);
    wane_err_at(from->e, "tokenizer", NULL, from->path);
    return s;
}

enum {
    BLOCK = 64, /* merges looked up at once */
    AHEAD = 16  /* tokens whose slots are on their way */
};

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "no memory for the tables of a tokenizer");
}

/* The byte that a character of the alphabet stands for, or -1. */
static int byte_of(uint32_t c)
{
    if ((c >= '!' && c <= '~') || (c >= 0xa1 && c <= 0xff && c != 0xad)) return (int)c;
    if (c < 0x100 || c > 0x143) return -1;
    c -= 0x100; /* 0..32, then 127..160, then 173 */
    return (int)(c <= 32 ? c : c <= 66 ? c + 94 : 0xad);
}

static uint64_t hash(const vocab *v, const void *data, size_t length)
{
    const unsigned char *p = data;
    uint64_t h = v->seed ^ length;
    for (; length > 8; p += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = vocab_mix(h ^ word);
    }
    uint64_t rest = 0;
    memcpy(&rest, p, length);
    return vocab_mix(h ^ rest);
}

/* A table of at least twice `count` slots, all free. */
static int32_t *new_slots(size_t count, uint32_t *mask)
{
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    int32_t *table = malloc(slots * sizeof *table);
    if (table) memset(table, 0xff, slots * sizeof *table);
    *mask = (uint32_t)slots - 1;
    return table;
}

static int32_t find_hashed(const vocab *v, uint64_t h, const char *content, size_t length)
{
    for (uint32_t i = (uint32_t)h;; i++) {
        int32_t id = v->by_content[i & v->content_mask];
        if (id < 0) return -1;
        const vocab_token *t = &v->tokens[id];
        if (t->content_length == length && !memcmp(v->pool.data + t->content, content, length))
            return id;
    }
}

int32_t vocab_find(const vocab *v, const char *content, size_t length)
{
    return find_hashed(v, hash(v, content, length), content, length);
}

int32_t vocab_find_text(const vocab *v, const unsigned char *text, size_t length)
{
    int32_t id = vocab_find(v, (const char *)text, length);
    return id >= 0 && v->tokens[id].flags & TOKEN_MODEL ? id : -1;
}

int32_t vocab_find_bytes(const vocab *v, const unsigned char *bytes, size_t length)
{
    if (length > v->longest) return -1;
    for (uint32_t i = (uint32_t)hash(v, bytes, length);; i++) {
        int32_t id = v->by_bytes[i & v->bytes_mask];
        if (id < 0) return -1;
        const vocab_token *t = &v->tokens[id];
        if (t->bytes_length == length && !memcmp(v->pool.data + t->bytes, bytes, length)) return id;
    }
}

/* Puts a token under its content, whose hash is h; false where another has that content. */
static bool put_content(vocab *v, int32_t id, uint64_t h)
{
    const vocab_token *t = &v->tokens[id];
    const unsigned char *content = v->pool.data + t->content;
    uint32_t i = (uint32_t)h;
    for (;; i++) {
        int32_t other = v->by_content[i & v->content_mask];
        if (other < 0) break;
        const vocab_token *o = &v->tokens[other];
        if (o->content_length == t->content_length &&
            !memcmp(v->pool.data + o->content, content, t->content_length))
            return false;
    }
    v->by_content[i & v->content_mask] = id;
    return true;
}

static void put_slot(int32_t *table, uint32_t mask, uint64_t h, int32_t id)
{
    uint32_t i = (uint32_t)h;
    while (table[i & mask] >= 0) i++;
    table[i & mask] = id;
}

/* Stores the bytes of a token by the decoder, unless they are the text, which lies in the pool. */
static wane_status store_text(vocab *v, vocab_token *t, uint32_t at, size_t length, wane_err *e)
{
    const unsigned char *text = v->pool.data + at, *bytes = text;
    size_t n = length;
    wane_status s = decoder_token(v->decoder, v->scratch, &bytes, &n, e);
    if (s) return s;
    t->bytes = at;
    t->bytes_length = (uint32_t)n;
    if (n == length && (!n || !memcmp(bytes, text, n))) return WANE_OK;
    t->bytes = (uint32_t)v->pool.length;
    s = wane_buffer_add(&v->pool, bytes, n, e);
    return !s && v->pool.length > UINT32_MAX ? no_memory(e) : s;
}

wane_status vocab_respell(vocab *v, int32_t id, const unsigned char *text, size_t length,
                          wane_err *e)
{
    uint32_t at = (uint32_t)v->pool.length;
    vocab_spelling *more = realloc(v->spellings, (v->n_spellings + 1) * sizeof *v->spellings);
    if (!more) return no_memory(e);
    v->spellings = more;
    wane_status s = wane_buffer_add(&v->pool, text, length, e);
    if (!s && v->pool.length > UINT32_MAX) s = no_memory(e);
    if (s) return s;
    v->spellings[v->n_spellings++] = (vocab_spelling){id, at, (uint32_t)length};
    v->tokens[id].flags |= TOKEN_RESPELLED;
    return store_text(v, &v->tokens[id], at, length, e);
}

const char *vocab_spelled(const vocab *v, int32_t id, size_t *length)
{
    const vocab_token *t = &v->tokens[id];
    const char *pool = (const char *)v->pool.data;
    *length = t->content_length;
    if (!(t->flags & TOKEN_RESPELLED)) return pool + t->content;
    size_t i = 0;
    while (v->spellings[i].id != id) i++;
    *length = v->spellings[i].length;
    return pool + v->spellings[i].text;
}

/* What a byte-level content stands for: bytes to `to`, which has room for `length`, and how many;
 * -1 where not every character stands for a byte. */
static int spelled_bytes(const unsigned char *p, size_t length, unsigned char *to)
{
    int n = 0;
    for (size_t i = 0, next; i < length; i = next) {
        int byte = byte_of(unicode_step(p, i, &next));
        if (byte < 0) return -1;
        to[n++] = (unsigned char)byte;
    }
    return n;
}

/* Stores content, whose hash is h, and bytes; *alphabet says whether every character stands for a
 * byte. */
static wane_status store(vocab *v, const char *content, size_t length, uint64_t h, int32_t id,
                         bool *alphabet, wane_err *e)
{
    const unsigned char *p = (const unsigned char *)content;
    vocab_token *t = &v->tokens[id];
    wane_status s = wane_buffer_room(&v->pool, 2 * length, e);
    if (s) return s;
    if (v->pool.length + 2 * length > UINT32_MAX) return no_memory(e);
    unsigned char *to = v->pool.data + v->pool.length;
    t->content = t->bytes = (uint32_t)v->pool.length;
    t->content_length = (uint16_t)length;
    t->bytes_length = (uint32_t)length;
    t->flags = TOKEN_PRESENT;
    memcpy(to, p, length);
    int n = v->decoder ? -1 : spelled_bytes(p, length, to + length);
    *alphabet = n >= 0;
    v->pool.length += length;
    if (n >= 0 && ((size_t)n != length || memcmp(to, to + length, length))) {
        t->bytes += (uint32_t)length;
        t->bytes_length = (uint32_t)n;
        v->pool.length += (size_t)n;
    }
    if (!put_content(v, id, h)) return wane_fail(e, WANE_EFORMAT, "a token is there twice");
    return v->decoder ? store_text(v, t, t->content, length, e) : WANE_OK;
}

wane_status vocab_add(vocab *v, const char *content, size_t length, int32_t id, wane_err *e)
{
    bool alphabet;
    wane_status s = store(v, content, length, hash(v, content, length), id, &alphabet, e);
    if (!s) v->tokens[id].flags |= TOKEN_ADDED;
    return s;
}

static wane_status check_entry(const char *content, size_t length, const json_t *value,
                               const vocab_source *from)
{
    char shown[96];
    wane_escape(shown, sizeof shown, content, length);
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= VOCAB_IDS)
        return vocab_refuse(from, WANE_EFORMAT, "token \"%s\": its id is not 0 to %d", shown,
                            VOCAB_IDS - 1);
    if (length > VOCAB_TOKEN)
        return vocab_refuse(from, WANE_EFORMAT, "token \"%s\" is %zu bytes long; at most %d", shown,
                            length, VOCAB_TOKEN);
    return WANE_OK;
}

wane_status vocab_check(const json_t *model, const vocab_source *from)
{
    static const char *const affix[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    static const char *const flags[] = {"ignore_merges", "byte_fallback", "fuse_unk"};
    const json_t *type = json_object_get(model, "type");
    char shown[64];
    if (!json_is_object(model)) return vocab_refuse(from, WANE_EFORMAT, "no \"model\" object");
    if (type && !json_is_string(type))
        return vocab_refuse(from, WANE_EFORMAT, "the model's \"type\" is not a string");
    if (type && strcmp(json_string_value(type), "BPE"))
        return vocab_refuse(
            from, WANE_EUNSUPPORTED, "model type \"%s\"; wane reads BPE only",
            wane_escape(shown, sizeof shown, json_string_value(type), json_string_length(type)));
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(model, affix[i]);
        if (value && !json_is_null(value) && !(json_is_string(value) && !json_string_length(value)))
            return vocab_refuse(from, WANE_EUNSUPPORTED,
                                "the model has a %s; wane reads BPE without one", affix[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0.0)
        return vocab_refuse(from, WANE_EUNSUPPORTED,
                            "the model has a dropout: it would give other tokens each time");
    for (int i = 0; i < 3; i++) {
        const json_t *value = json_object_get(model, flags[i]);
        if (value && !json_is_boolean(value) && !json_is_null(value))
            return vocab_refuse(from, WANE_EFORMAT, "the model's %s is not a boolean", flags[i]);
    }
    const json_t *unknown = json_object_get(model, "unk_token");
    if (unknown && !json_is_string(unknown) && !json_is_null(unknown))
        return vocab_refuse(from, WANE_EFORMAT, "the model's unk_token is not a string");
    if (!json_is_object(json_object_get(model, "vocab")))
        return vocab_refuse(from, WANE_EFORMAT, "the model has no \"vocab\" object");
    if (!json_is_array(json_object_get(model, "merges")))
        return vocab_refuse(from, WANE_EFORMAT, "the model has no \"merges\" list");
    json_t *entries = json_object_get(model, "vocab"), *value;
    const char *content;
    size_t length;
    json_object_keylen_foreach(entries, content, length, value)
    {
        wane_status s = check_entry(content, length, value, from);
        if (s) return s;
    }
    return WANE_OK;
}

/* The hash of an entry, and a word to the memory that its slot will be needed. */
static uint64_t hash_entry(const vocab *v, const vocab_entry *entry)
{
    uint64_t h = hash(v, entry->content, entry->length);
    __builtin_prefetch(&v->by_content[h & v->content_mask], 1);
    return h;
}

static wane_status load_tokens(vocab *v, const vocab_lists *lists, const vocab_source *from)
{
    bool alphabet;
    uint64_t h[AHEAD];
    for (size_t i = 0; i < AHEAD && i < lists->n_entries; i++)
        h[i] = hash_entry(v, &lists->entries[i]);
    for (size_t i = 0; i < lists->n_entries; i++) {
        uint64_t own = h[i % AHEAD];
        if (i + AHEAD < lists->n_entries) h[i % AHEAD] = hash_entry(v, &lists->entries[i + AHEAD]);
        const char *content = lists->entries[i].content;
        size_t length = lists->entries[i].length;
        int32_t id = lists->entries[i].id;
        vocab_token *t = &v->tokens[id];
        if (t->flags) {
            char one[96], two[96];
            return vocab_refuse(
                from, WANE_EFORMAT, "tokens \"%s\" and \"%s\" both have id %d",
                wane_escape(one, sizeof one, (char *)v->pool.data + t->content, t->content_length),
                wane_escape(two, sizeof two, content, length), (int)id);
        }
        wane_status s = store(v, content, length, own, id, &alphabet, from->e);
        if (s) return s;
        t->flags |= TOKEN_MODEL;
        if (!alphabet) continue;
        if (t->bytes_length > v->longest) v->longest = t->bytes_length;
        if (t->bytes_length == 1) v->byte_id[v->pool.data[t->bytes]] = id;
        if (v->by_bytes)
            put_slot(v->by_bytes, v->bytes_mask, hash(v, v->pool.data + t->bytes, t->bytes_length),
                     id);
    }
    for (int i = 0; i < 256 && !v->decoder; i++)
        if (v->byte_id[i] < 0)
            return vocab_refuse(from, WANE_EFORMAT,
                                "no token for byte 0x%02x; byte-level BPE needs all 256",
                                (unsigned)i);
    return WANE_OK;
}

/* What becomes of characters that are no tokens, where contents are text. */
static wane_status load_fallback(vocab *v, const json_t *model, const vocab_source *from)
{
    const json_t *unknown = json_object_get(model, "unk_token");
    const char *name = json_string_value(unknown);
    char shown[96];
    int missing = -1;
    v->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    v->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
    for (int i = 255; i >= 0; i--) {
        char content[8];
        snprintf(content, sizeof content, "<0x%02X>", (unsigned)i);
        v->byte_id[i] = vocab_find(v, content, 6);
        if (v->byte_id[i] < 0) missing = i;
    }
    if (name && (v->unknown = vocab_find(v, name, json_string_length(unknown))) < 0)
        return vocab_refuse(from, WANE_EFORMAT, "the unk_token \"%s\" is not in the vocabulary",
                            wane_escape(shown, sizeof shown, name, json_string_length(unknown)));
    if (v->unknown >= 0) return WANE_OK;
    if (!v->byte_fallback)
        return vocab_refuse(from, WANE_EUNSUPPORTED,
                            "neither an unk_token nor byte_fallback: characters without a token "
                            "would be left out; name a token in the model's unk_token");
    if (missing >= 0)
        return vocab_refuse(from, WANE_EFORMAT,
                            "byte_fallback without a token <0x%02X> and without an unk_token: "
                            "characters would be left out",
                            (unsigned)missing);
    return WANE_OK;
}

static const char WORD[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */

static bool begins_word(const char *s, size_t length)
{
    return length >= 3 && !memcmp(s, WORD, 3);
}

/* Whether a merge joins a "▁" to another character before it. */
static bool joins_words(const vocab_halves *m)
{
    return begins_word(m->half[1], m->length[1]) &&
           !(m->length[0] >= 3 && begins_word(m->half[0] + m->length[0] - 3, 3));
}

/* Before any merge is there. Characters begin as themselves, as bytes or as the unk_token; the
 * place before a "▁" is looked at from both sides. */
static bool may_cut_words(const vocab *v)
{
    if (!v->decoder || v->ignore_merges || vocab_find_text(v, (const void *)WORD, 3) < 0)
        return false;
    const vocab_token *t = v->unknown < 0 ? NULL : &v->tokens[v->unknown];
    const char *content = t ? (const char *)v->pool.data + t->content : NULL;
    return !t || t->content_length < 3 || !begins_word(content + t->content_length - 3, 3);
}

/* Whether token `id` is the two halves. */
static bool is_joined(const vocab *v, int32_t id, const vocab_halves *m)
{
    if (id < 0 || id >= v->size || !v->tokens[id].flags) return false;
    const vocab_token *t = &v->tokens[id];
    const unsigned char *content = v->pool.data + t->content;
    return t->content_length == (size_t)m->length[0] + m->length[1] &&
           !memcmp(content, m->half[0], m->length[0]) &&
           !memcmp(content + m->length[0], m->half[1], m->length[1]);
}

/* What a merge gives: mostly the token of the merge before, or the one after it. */
static wane_status find_joined(const vocab *v, const vocab_halves *m, int32_t before,
                               wane_buffer *joined, int32_t *id, wane_err *e)
{
    for (*id = before; *id <= before + 1; ++*id)
        if (is_joined(v, *id, m)) return WANE_OK;
    joined->length = 0;
    wane_status s = wane_buffer_add(joined, m->half[0], m->length[0], e);
    if (!s) s = wane_buffer_add(joined, m->half[1], m->length[1], e);
    if (!s) *id = vocab_find(v, joined->data ? (char *)joined->data : "", joined->length);
    return s;
}

/* Looks up the halves of a block of merges: memory is asked for everything before anything is
 * waited for, since a vocabulary is larger than a cache. */
static void find_halves(const vocab *v, const vocab_halves *m, size_t n, int32_t (*id)[3])
{
    uint64_t h[BLOCK][2];
    for (size_t i = 0; i < 2 * n; i++) {
        h[i / 2][i % 2] = hash(v, m[i / 2].half[i % 2], m[i / 2].length[i % 2]);
        __builtin_prefetch(&v->by_content[h[i / 2][i % 2] & v->content_mask]);
    }
    for (size_t i = 0; i < 2 * n; i++) {
        int32_t first = v->by_content[h[i / 2][i % 2] & v->content_mask];
        if (first >= 0) __builtin_prefetch(&v->tokens[first]);
    }
    for (size_t i = 0; i < 2 * n; i++) {
        int32_t first = v->by_content[h[i / 2][i % 2] & v->content_mask];
        if (first >= 0) __builtin_prefetch(v->pool.data + v->tokens[first].content);
    }
    for (size_t i = 0; i < 2 * n; i++)
        id[i / 2][i % 2] =
            find_hashed(v, h[i / 2][i % 2], m[i / 2].half[i % 2], m[i / 2].length[i % 2]);
}

static uint64_t pair_of(const int32_t *id)
{
    return (uint64_t)(uint32_t)id[0] << 32 | (uint32_t)id[1];
}

static void put_merge(vocab *v, const int32_t *id, size_t rank)
{
    uint64_t pair = pair_of(id);
    uint32_t at = (uint32_t)vocab_mix(pair ^ v->seed);
    while (v->merges[at & v->merge_mask].pair != UINT64_MAX &&
           v->merges[at & v->merge_mask].pair != pair)
        at++;
    v->merges[at & v->merge_mask] = (vocab_merge){pair, (uint32_t)rank, (uint32_t)id[2]};
}

static wane_status refuse_merge(const vocab_halves *m, size_t rank, const int32_t *id,
                                const vocab_source *from)
{
    char one[96], two[96];
    return vocab_refuse(from, WANE_EFORMAT,
                        "merge %zu, \"%s\" with \"%s\": %s not in the vocabulary", rank,
                        wane_escape(one, sizeof one, m->half[0], m->length[0]),
                        wane_escape(two, sizeof two, m->half[1], m->length[1]),
                        id[0] < 0 || !m->length[0]   ? "the first is"
                        : id[1] < 0 || !m->length[1] ? "the second is"
                                                     : "the result is");
}

/* n merges from rank `first` on; *before is what the one before them gave. */
static wane_status load_block(vocab *v, const vocab_halves *m, size_t n, size_t first,
                              int32_t *before, wane_buffer *joined, const vocab_source *from)
{
    int32_t id[BLOCK][3];
    find_halves(v, m, n, id);
    for (size_t i = 0; i < n; i++) {
        wane_status s = find_joined(v, &m[i], *before, joined, &id[i][2], from->e);
        if (s) return s;
        if (id[i][0] < 0 || id[i][1] < 0 || id[i][2] < 0 || !m[i].length[0] || !m[i].length[1])
            return refuse_merge(&m[i], first + i, id[i], from);
        *before = id[i][2];
        if (v->word_cuts && joins_words(&m[i])) v->word_cuts = false;
        __builtin_prefetch(&v->merges[vocab_mix(pair_of(id[i]) ^ v->seed) & v->merge_mask], 1);
    }
    for (size_t i = 0; i < n; i++) put_merge(v, id[i], first + i);
    return WANE_OK;
}

static wane_status load_merges(vocab *v, const vocab_lists *lists, const vocab_source *from)
{
    size_t count = lists->n_merges, slots = 16;
    wane_buffer joined = {0};
    wane_status s = WANE_OK;
    int32_t before = -1;
    while (slots < count + count / 2) slots *= 2;
    v->merges = malloc(slots * sizeof *v->merges);
    if (!v->merges) return no_memory(from->e);
    memset(v->merges, 0xff, slots * sizeof *v->merges);
    v->merge_mask = (uint32_t)slots - 1;
    v->n_merges = (uint32_t)count;
    for (size_t i = 0; i < count && !s; i += BLOCK)
        s = load_block(v, &lists->merges[i], count - i < BLOCK ? count - i : BLOCK, i, &before,
                       &joined, from);
    if (!s && lists->odd_merge)
        s = vocab_refuse(from, WANE_EFORMAT, "merge %zu is neither \"a b\" nor [\"a\", \"b\"]",
                         count);
    free(joined.data);
    return s;
}

wane_status vocab_load(vocab *v, const json_t *model, const vocab_lists *lists, size_t added,
                       int64_t highest, const vocab_source *from)
{
    size_t count = lists->n_entries;
    if (count > VOCAB_IDS)
        return vocab_refuse(from, WANE_EFORMAT, "%zu tokens; at most %d", count, VOCAB_IDS);
    for (size_t i = 0; i < count; i++)
        if (lists->entries[i].id > highest) highest = lists->entries[i].id;
    v->size = (int32_t)highest + 1;
    v->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    if (getrandom(&v->seed, sizeof v->seed, GRND_NONBLOCK) != sizeof v->seed) v->seed = 1;
    v->tokens = calloc((size_t)v->size + 1, sizeof *v->tokens);
    v->by_content = new_slots(count + added, &v->content_mask);
    bool by_bytes = v->ignore_merges && !v->decoder;
    if (by_bytes) v->by_bytes = new_slots(count, &v->bytes_mask);
    if (!v->tokens || !v->by_content || (by_bytes && !v->by_bytes)) return no_memory(from->e);
    for (int i = 0; i < 256; i++) v->byte_id[i] = -1;
    v->unknown = -1;
    wane_status s = load_tokens(v, lists, from);
    if (!s && v->decoder) s = load_fallback(v, model, from);
    v->word_cuts = !s && may_cut_words(v);
    return s ? s : load_merges(v, lists, from);
}

void vocab_clear(vocab *v)
{
    free(v->pool.data);
    free(v->tokens);
    free(v->by_content);
    free(v->by_bytes);
    free(v->merges);
    free(v->scratch[0].data);
    free(v->scratch[1].data);
    free(v->spellings);
    memset(v, 0, sizeof *v);
}
