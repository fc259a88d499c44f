/* lists.c - see lists.h.
 *
 * The cut parts are read as strictly as jansson reads (RFC 8259, well-formed UTF-8, no control
 * characters in strings, integers without fraction); everything else is only stepped over here,
 * and parsed by jansson in `rest`. Steps over it know strings and brackets alone, which is enough:
 * where rest is JSON, both see the same strings. Ids and lengths that a vocabulary may not have,
 * escapes beyond the Basic Multilingual Plane and U+0000 are left to the tree. */
#include "runtime/text/lists.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/text/vocab.h"

typedef struct {
    const unsigned char *at, *end;
    const unsigned char *begin;
    unsigned char *unescaped; /* as much room as the text has, from the first escape on */
    size_t unescaped_length;
    size_t entry_room, merge_room;
    vocab_lists *out;
    struct {
        const unsigned char *from, *to; /* between the brackets */
    } vocab, merges;
    bool no_memory;
} cutter;

static void space(cutter *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
}

/* Takes one character and the white space after it. */
static bool take(cutter *c, char wanted)
{
    if (c->at == c->end || *c->at != (unsigned char)wanted) return false;
    c->at++;
    space(c);
    return true;
}

static bool hex4(const unsigned char *p, const unsigned char *end, uint32_t *out)
{
    if (end - p < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        unsigned char c = p[i], low = c | 32;
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *out = *out << 4 | (uint32_t)(low - 'a' + 10);
        else
            return false;
    }
    return true;
}

/* The rest of a string with its first escape at p. */
static bool take_escaped(cutter *c, const unsigned char *p, const char **out, uint32_t *length)
{
    static const char plain[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    if (!c->unescaped) {
        c->unescaped = malloc((size_t)(c->end - c->begin));
        c->no_memory = !c->unescaped;
        if (c->no_memory) return false;
    }
    unsigned char *to = c->unescaped + c->unescaped_length, *first = to;
    size_t n = (size_t)(p - c->at);
    memcpy(to, c->at, n);
    to += n;
    while (p < c->end && *p != '"') {
        if (*p < 0x20) return false;
        if (*p != '\\') {
            size_t step = wane_utf8_length(p, (size_t)(c->end - p));
            if (!step) return false;
            memcpy(to, p, step);
            to += step;
            p += step;
            continue;
        }
        if (c->end - p < 2) return false;
        uint32_t code;
        const char *known = NULL;
        for (const char *k = plain; *k && !known; k += 2)
            if (*k == (char)p[1]) known = k;
        if (known) {
            *to++ = (unsigned char)known[1];
            p += 2;
        } else if (p[1] == 'u' && hex4(p + 2, c->end, &code) && code &&
                   (code < 0xd800 || code > 0xdfff)) {
            to += wane_utf8_encode(code, to);
            p += 6;
        } else {
            return false;
        }
    }
    if (p == c->end || to - first > UINT32_MAX) return false;
    *out = (const char *)first;
    *length = (uint32_t)(to - first);
    c->unescaped_length += (size_t)(to - first);
    c->at = p + 1;
    return true;
}

/* A string, without the white space after it. */
static bool take_string(cutter *c, const char **out, uint32_t *length)
{
    if (c->at == c->end || *c->at != '"') return false;
    const unsigned char *p = ++c->at, *end = c->end;
    for (; p < end && *p != '"';) {
        if (*p >= 0x80) {
            bool two = *p >= 0xc2 && *p < 0xe0 && p + 1 < end && (p[1] & 0xc0) == 0x80;
            size_t step = two ? 2 : wane_utf8_length(p, (size_t)(end - p));
            if (!step) return false;
            p += step;
        } else {
            if (*p == '\\') return take_escaped(c, p, out, length);
            if (*p < 0x20) return false;
            p++;
        }
    }
    if (p == end || p - c->at > UINT32_MAX) return false;
    *out = (const char *)c->at;
    *length = (uint32_t)(p - c->at);
    c->at = p + 1;
    return true;
}

/* Room for one more element of an array that doubles. */
static bool room(cutter *c, void *array, size_t count, size_t *have, size_t each)
{
    void *more, *now;
    if (count < *have) return true;
    memcpy(&now, array, sizeof now);
    size_t next = *have ? 2 * *have : 1 << 15;
    more = realloc(now, next * each);
    c->no_memory = !more;
    if (!more) return false;
    memcpy(array, &more, sizeof more);
    *have = next;
    return true;
}

static bool take_id(cutter *c, int32_t *out)
{
    const unsigned char *first = c->at;
    int32_t id = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && id < VOCAB_IDS; c->at++)
        id = 10 * id + (*c->at - '0');
    *out = id;
    if (c->at == first || id >= VOCAB_IDS || (*first == '0' && c->at - first > 1)) return false;
    return c->at < c->end && (*c->at == ',' || *c->at == '}' || *c->at == ' ' || *c->at == '\n' ||
                              *c->at == '\r' || *c->at == '\t');
}

/* {"content": id, ...}; at is on the bracket, and left on the closing one. */
static bool take_vocab(cutter *c)
{
    vocab_lists *l = c->out;
    take(c, '{');
    if (c->at < c->end && *c->at == '}') return true;
    do {
        if (!room(c, &l->entries, l->n_entries, &c->entry_room, sizeof *l->entries)) return false;
        vocab_entry *entry = &l->entries[l->n_entries++];
        if (!take_string(c, &entry->content, &entry->length) || entry->length > VOCAB_TOKEN)
            return false;
        space(c);
        if (!take(c, ':') || !take_id(c, &entry->id)) return false;
        space(c);
    } while (take(c, ','));
    return c->at < c->end && *c->at == '}';
}

/* Halves at the one space of "a b". */
static bool split(const char *text, size_t length, vocab_halves *out)
{
    const char *at = memchr(text, ' ', length);
    if (!at || memchr(at + 1, ' ', length - (size_t)(at + 1 - text))) return false;
    *out =
        (vocab_halves){{text, at + 1}, {(uint32_t)(at - text), (uint32_t)(text + length - at - 1)}};
    return true;
}

/* ["a b", ["a", "b"], ...]; as take_vocab. */
static bool take_merges(cutter *c)
{
    vocab_lists *l = c->out;
    take(c, '[');
    if (c->at < c->end && *c->at == ']') return true;
    do {
        if (!room(c, &l->merges, l->n_merges, &c->merge_room, sizeof *l->merges)) return false;
        vocab_halves *m = &l->merges[l->n_merges++];
        if (take(c, '[')) {
            if (!take_string(c, &m->half[0], &m->length[0])) return false;
            space(c);
            if (!take(c, ',') || !take_string(c, &m->half[1], &m->length[1])) return false;
            space(c);
            if (!take(c, ']')) return false;
        } else {
            const char *text;
            uint32_t length;
            if (!take_string(c, &text, &length) || !split(text, length, m)) return false;
            space(c);
        }
    } while (take(c, ','));
    return c->at < c->end && *c->at == ']';
}

static bool step_over_string(cutter *c)
{
    for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
        if (*c->at == '\\' && ++c->at == c->end) return false;
    if (c->at == c->end) return false;
    c->at++;
    return true;
}

/* Steps over a value and the white space after it, whatever it is. */
static bool step_over(cutter *c)
{
    for (size_t depth = 0; c->at < c->end;) {
        unsigned char b = *c->at;
        if (b == '"') {
            if (!step_over_string(c)) return false;
        } else if (depth == 0 && (b == ',' || b == '}' || b == ']')) {
            return true;
        } else {
            if (b == '{' || b == '[') depth++;
            if (b == '}' || b == ']') depth--;
            c->at++;
        }
    }
    return false;
}

static bool is(const unsigned char *key, const unsigned char *end, const char *name)
{
    return (size_t)(end - key) == strlen(name) + 2 && !memcmp(key + 1, name, strlen(name));
}

/* The members of the text's object, and within it of "model": both parts are cut where they are
 * first met. at is on the bracket. */
static bool find_parts(cutter *c, bool in_model)
{
    bool met = false;
    if (!take(c, '{')) return false;
    do {
        const unsigned char *key = c->at, *key_end;
        if (c->at == c->end || *key != '"' || !step_over_string(c)) return false;
        key_end = c->at;
        space(c);
        if (!take(c, ':')) return false;
        if (!in_model && !met && is(key, key_end, "model")) {
            met = true;
            if (!find_parts(c, true)) return false;
        } else if (in_model && !c->vocab.to && is(key, key_end, "vocab")) {
            c->vocab.from = c->at + 1;
            if (c->at == c->end || *c->at != '{' || !take_vocab(c)) return false;
            c->vocab.to = c->at++;
        } else if (in_model && !c->merges.to && is(key, key_end, "merges")) {
            c->merges.from = c->at + 1;
            if (c->at == c->end || *c->at != '[' || !take_merges(c)) return false;
            c->merges.to = c->at++;
        } else if (!step_over(c)) {
            return false;
        }
        space(c);
        if (c->vocab.to && c->merges.to) return true; /* jansson reads what follows */
    } while (take(c, ','));
    return take(c, '}');
}

/* The text without what lies between the brackets of the two parts. */
static bool leave_rest(cutter *c)
{
    const unsigned char *a = c->vocab.from, *b = c->vocab.to, *d = c->merges.from,
                        *f = c->merges.to;
    if (d < a) {
        const unsigned char *x = a, *y = b;
        a = d, b = f;
        d = x, f = y;
    }
    size_t one = (size_t)(a - c->begin), two = (size_t)(d - b), three = (size_t)(c->end - f);
    char *rest = malloc(one + two + three);
    c->no_memory = !rest;
    if (!rest) return false;
    memcpy(rest, c->begin, one);
    memcpy(rest + one, b, two);
    memcpy(rest + one + two, f, three);
    c->out->rest = rest;
    c->out->rest_length = one + two + three;
    return true;
}

wane_status lists_cut(const char *text, size_t length, vocab_lists *out, bool *cut, wane_err *e)
{
    const unsigned char *from = (const unsigned char *)text;
    cutter c = {.at = from, .begin = from, .end = from + length, .out = out};
    *out = (vocab_lists){0};
    space(&c);
    *cut = find_parts(&c, false) && c.vocab.to && c.merges.to && leave_rest(&c);
    out->unescaped = (char *)c.unescaped;
    if (*cut) return WANE_OK;
    lists_free(out);
    return c.no_memory ? wane_fail(e, WANE_EOOM, "no memory for the tables of a tokenizer")
                       : WANE_OK;
}

/* The two halves of a merge in either spelling; false where it is neither. */
static bool halves(const json_t *merge, vocab_halves *out)
{
    if (json_is_string(merge))
        return split(json_string_value(merge), json_string_length(merge), out);
    if (!json_is_array(merge) || json_array_size(merge) != 2) return false;
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(merge, i);
        if (!json_is_string(item)) return false;
        out->half[i] = json_string_value(item);
        out->length[i] = (uint32_t)json_string_length(item);
    }
    return true;
}

wane_status lists_from_tree(const json_t *entries, const json_t *merges, vocab_lists *out,
                            wane_err *e)
{
    const char *content;
    size_t length, count = json_object_size(entries), n = json_array_size(merges);
    json_t *value;
    *out = (vocab_lists){0};
    out->entries = malloc((count + 1) * sizeof *out->entries);
    out->merges = malloc((n + 1) * sizeof *out->merges);
    if (!out->entries || !out->merges) {
        lists_free(out);
        return wane_fail(e, WANE_EOOM, "no memory for the tables of a tokenizer");
    }
    json_object_keylen_foreach((json_t *)(uintptr_t)entries, content, length, value)
        out->entries[out->n_entries++] =
        (vocab_entry){content, (uint32_t)length, (int32_t)json_integer_value(value)};
    while (out->n_merges < n &&
           halves(json_array_get(merges, out->n_merges), &out->merges[out->n_merges]))
        out->n_merges++;
    out->odd_merge = out->n_merges < n;
    return WANE_OK;
}

void lists_free(vocab_lists *lists)
{
    free(lists->entries);
    free(lists->merges);
    free(lists->unescaped);
    free(lists->rest);
    *lists = (vocab_lists){0};
}
