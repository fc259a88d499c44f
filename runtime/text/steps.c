/* steps.c - the steps of a tokenizer.json: "normalizer", "pre_tokenizer" and "decoder".
 *
 * They tell the two kinds of files apart. A byte-level file has ByteLevel in both of the latter
 * (GPT-2, Qwen, Llama 3). SentencePiece's kind has it in neither (Llama 2, Mistral): there a "▁"
 * stands for a space, put in by the normalizer (Prepend and Replace, as Transformers converted such
 * files first) or by the pre-tokenizer (Metaspace, as it does now), and taken out by the decoder.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/text/load.h"

enum { STEP_TEXT = 1024, STEP_GROWTH = 16 }; /* bytes of a replaced text; times */

/* A text of a component, at least `least` bytes; copied, with a 0 after it. */
static wane_status read_text(const reader *r, const json_t *value, const char *what, size_t least,
                             char **out, size_t *out_length)
{
    size_t length = json_string_length(value);
    if (!json_is_string(value) || length < least)
        return vocab_refuse(r->from, WANE_EFORMAT, "%s is %s", what,
                            json_is_string(value) ? "empty" : "not a string");
    if (length > STEP_TEXT)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED, "%s has %zu bytes; at most %d", what,
                            length, STEP_TEXT);
    *out = malloc(length + 1);
    if (!*out) return wane_fail(r->from->e, WANE_EOOM, "no memory for a tokenizer");
    memcpy(*out, json_string_value(value), length + 1);
    *out_length = length;
    return WANE_OK;
}

/* {"pattern": {"String": from}, "content": to}. What it makes of 256 MiB has to stay within reason:
 * all steps together may make a text STEP_GROWTH times as long. */
static wane_status read_replace(reader *r, const json_t *value, char **from, size_t *from_length,
                                char **to, size_t *to_length)
{
    const json_t *pattern = json_object_get(value, "pattern");
    if (json_is_string(json_object_get(pattern, "Regex")))
        return vocab_refuse(r->from, WANE_EUNSUPPORTED,
                            "a Replace by a pattern {\"Regex\": \"...\"}; wane replaces "
                            "{\"String\": \"...\"} alone");
    wane_status s = read_text(r, json_object_get(pattern, "String"),
                              "a Replace: its pattern {\"String\": \"...\"}", 1, from, from_length);
    if (!s)
        s = read_text(r, json_object_get(value, "content"), "a Replace: its \"content\"", 0, to,
                      to_length);
    if (s) return s;
    unsigned times = (unsigned)((*to_length + *from_length - 1) / *from_length);
    if (times > 1) r->growth *= times;
    if (r->growth > STEP_GROWTH)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED,
                            "its Replace steps make a text %u times as long; at most %d", r->growth,
                            STEP_GROWTH);
    return WANE_OK;
}

/* A string of one character. */
static const char *one_character(const reader *r, const json_t *value, const char *what)
{
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);
    if (text && length && wane_utf8_length((const unsigned char *)text, length) == length)
        return text;
    vocab_refuse(r->from, WANE_EFORMAT, "%s is not one character", what);
    return NULL;
}

static wane_status read_normalizer(reader *r, const json_t *value, int depth)
{
    const json_t *list, *item;
    size_t i;
    const char *type = load_type(r, value, "normalizer");
    if (!type) return WANE_EFORMAT;
    if (!strcmp(type, "Sequence")) {
        wane_status s = load_list(r, value, "normalizers", depth, &list);
        if (s) return s;
        json_array_foreach(list, i, item) if ((s = read_normalizer(r, item, depth + 1))) return s;
        return WANE_OK;
    }
    normalizer *n = &r->t->normal;
    if (n->count == NORMAL_STEPS)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED, "more than %d normalizers", NORMAL_STEPS);
    normal_step *step = &n->steps[n->count];
    if (!strcmp(type, "NFC")) {
        step->kind = NORMAL_NFC;
        n->count++;
        return WANE_OK;
    }
    if (!strcmp(type, "Prepend")) {
        step->kind = NORMAL_PREPEND;
        n->count++;
        return read_text(r, json_object_get(value, "prepend"), "a Prepend: its \"prepend\"", 0,
                         &step->to, &step->to_length);
    }
    if (strcmp(type, "Replace"))
        return load_unknown(r, "normalizer", type, "NFC, Prepend, Replace and Sequence");
    step->kind = NORMAL_REPLACE;
    n->count++;
    return read_replace(r, value, &step->from, &step->from_length, &step->to, &step->to_length);
}

/* A step, all zero (which finds digits); NULL and an error where there are too many. */
static split_step *new_step(reader *r)
{
    splitter *s = &r->t->split;
    if (s->count < SPLIT_STEPS) return &s->steps[s->count++];
    vocab_refuse(r->from, WANE_EUNSUPPORTED, "more than %d split steps", SPLIT_STEPS);
    return NULL;
}

static wane_status read_split(reader *r, const json_t *value)
{
    static const char *const behaviors[] = {"Isolated", "Removed", "MergedWithPrevious",
                                            "MergedWithNext", "Contiguous"};
    const json_t *pattern = json_object_get(value, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *text = regex ? regex : json_object_get(pattern, "String");
    const char *behavior = json_string_value(json_object_get(value, "behavior"));
    split_step *step = new_step(r);
    if (!step) return WANE_EUNSUPPORTED;
    wane_status s = load_flag(r, value, "invert", -1, &step->invert);
    if (s) return s;
    if (!json_is_string(text))
        return vocab_refuse(r->from, WANE_EFORMAT,
                            "a Split without a pattern {\"Regex\": \"...\"}");
    if (!behavior)
        return vocab_refuse(r->from, WANE_EFORMAT, "a Split whose \"behavior\" is not a string");
    int found = -1;
    for (int i = 0; i <= CONTIGUOUS; i++)
        if (!strcmp(behavior, behaviors[i])) found = i;
    if (found < 0)
        return load_unknown(r, "split behavior", behavior,
                            "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
    step->behavior = (split_behavior)found;
    if (regex) step->rules = scan_find(json_string_value(regex));
    if (step->rules) return WANE_OK;
    s = wane_pattern_new(json_string_value(text), json_string_length(text), !regex, &step->pattern,
                         r->from->e);
    if (!s || !r->from->e) return s;
    char why[sizeof r->from->e->message];
    memcpy(why, r->from->e->message, sizeof why);
    return vocab_refuse(r->from, s, "%s", why);
}

/* Metaspace as pre-tokenizer and as decoder. The library reads the older add_prefix_space too,
 * where it agrees with prepend_scheme. */
static wane_status read_metaspace(const reader *r, const json_t *value, const char **replacement,
                                  split_prefix *prefix, bool *words)
{
    static const char *const names[] = {"never", "first", "always"};
    const json_t *scheme = json_object_get(value, "prepend_scheme");
    const json_t *split = json_object_get(value, "split");
    const json_t *older = json_object_get(value, "add_prefix_space");
    int found = scheme ? -1 : PREFIX_ALWAYS;
    *words = true;
    *replacement =
        one_character(r, json_object_get(value, "replacement"), "a Metaspace: its \"replacement\"");
    if (!*replacement) return WANE_EFORMAT;
    for (int i = 0; i <= PREFIX_ALWAYS && json_is_string(scheme); i++)
        if (!strcmp(json_string_value(scheme), names[i])) found = i;
    if (found < 0)
        return vocab_refuse(
            r->from, json_is_string(scheme) ? WANE_EUNSUPPORTED : WANE_EFORMAT,
            "a Metaspace whose prepend_scheme is none of \"first\", \"always\" and \"never\"");
    *prefix = (split_prefix)found;
    if (older && !json_is_null(older) && !json_is_boolean(older))
        return vocab_refuse(r->from, WANE_EFORMAT,
                            "a Metaspace whose add_prefix_space is no boolean");
    if (json_is_false(older) && found != PREFIX_NEVER)
        return vocab_refuse(r->from, WANE_EFORMAT,
                            "a Metaspace with add_prefix_space false and a prepend_scheme that is "
                            "not \"never\"");
    return json_is_null(split) ? WANE_OK : load_flag(r, value, "split", 1, words);
}

static wane_status read_pre_tokenizer(reader *r, const json_t *value, int depth)
{
    const json_t *list, *item;
    size_t i;
    bool unused;
    splitter *cut = &r->t->split;
    const char *replacement, *type = load_type(r, value, "pre_tokenizer");
    if (!type) return WANE_EFORMAT;
    if (!strcmp(type, "Sequence")) {
        wane_status s = load_list(r, value, "pretokenizers", depth, &list);
        if (s) return s;
        json_array_foreach(list, i,
                           item) if ((s = read_pre_tokenizer(r, item, depth + 1))) return s;
        return WANE_OK;
    }
    if (r->bytes_cut || *cut->spaces)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED, "a pre_tokenizer after %s",
                            r->bytes_cut ? "ByteLevel" : "Metaspace");
    if (!strcmp(type, "Split")) return read_split(r, value);
    if (!strcmp(type, "Digits")) {
        split_step *step = new_step(r);
        if (!step) return WANE_EUNSUPPORTED;
        return load_flag(r, value, "individual_digits", -1, &step->one_by_one);
    }
    if (!strcmp(type, "Metaspace")) {
        wane_status s = read_metaspace(r, value, &replacement, &cut->prefix, &cut->words);
        if (!s) strcpy(cut->spaces, replacement);
        return s;
    }
    if (strcmp(type, "ByteLevel"))
        return load_unknown(r, "pre_tokenizer", type,
                            "ByteLevel, Metaspace, Split, Digits and Sequence");
    r->bytes_cut = true;
    wane_status s = load_flag(r, value, "add_prefix_space", -1, &cut->prefix_space);
    if (!s) s = load_flag(r, value, "trim_offsets", -1, &unused);
    return s ? s : load_flag(r, value, "use_regex", 1, &cut->gpt2);
}

/* How many characters a Strip takes at one end. */
static wane_status read_count(const reader *r, const json_t *value, const char *name, uint32_t *out)
{
    const json_t *item = json_object_get(value, name);
    json_int_t n = json_integer_value(item);
    if (!json_is_integer(item) || n < 0)
        return vocab_refuse(r->from, WANE_EFORMAT, "a Strip whose \"%s\" is no number from 0",
                            name);
    *out = n > INT32_MAX ? INT32_MAX : (uint32_t)n;
    return WANE_OK;
}

static wane_status read_decode_step(reader *r, const json_t *value, const char *type,
                                    decode_step *step)
{
    wane_status s;
    bool unused;
    split_prefix prefix;
    const char *mark;
    if (!strcmp(type, "Replace")) {
        step->kind = DECODE_REPLACE;
        return read_replace(r, value, &step->from, &step->from_length, &step->to, &step->to_length);
    }
    if (!strcmp(type, "ByteFallback")) {
        step->kind = DECODE_BYTES;
        return WANE_OK;
    }
    if (!strcmp(type, "Fuse")) {
        step->kind = DECODE_FUSE;
        return WANE_OK;
    }
    if (!strcmp(type, "Metaspace")) {
        step->kind = DECODE_SPACES;
        if ((s = read_metaspace(r, value, &mark, &prefix, &unused))) return s;
        step->prefixed = prefix != PREFIX_NEVER;
        return read_text(r, json_object_get(value, "replacement"), "a Metaspace", 1, &step->from,
                         &step->from_length);
    }
    if (strcmp(type, "Strip"))
        return load_unknown(
            r, "decoder", type,
            "ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip and Sequence");
    step->kind = DECODE_STRIP;
    if (!one_character(r, json_object_get(value, "content"), "a Strip: its \"content\""))
        return WANE_EFORMAT;
    s = read_count(r, value, "start", &step->start);
    if (!s) s = read_count(r, value, "stop", &step->stop);
    return s ? s
             : read_text(r, json_object_get(value, "content"), "a Strip", 1, &step->from,
                         &step->from_length);
}

static wane_status read_decoder(reader *r, const json_t *value, int depth)
{
    const json_t *list, *item;
    size_t i;
    decoder *d = &r->t->decode;
    const char *type = load_type(r, value, "decoder");
    if (!type) return WANE_EFORMAT;
    if (!strcmp(type, "Sequence")) {
        wane_status s = load_list(r, value, "decoders", depth, &list);
        if (s) return s;
        json_array_foreach(list, i, item) if ((s = read_decoder(r, item, depth + 1))) return s;
        return WANE_OK;
    }
    bool bytes = !strcmp(type, "ByteLevel");
    if (bytes && r->bytes_decoded)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED, "a decoder that is ByteLevel twice");
    if (!bytes && d->count == DECODE_STEPS)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED, "more than %d decoders", DECODE_STEPS);
    wane_status s = bytes ? WANE_OK : read_decode_step(r, value, type, &d->steps[d->count++]);
    r->bytes_decoded |= bytes;
    if (!s && r->bytes_decoded && d->count)
        s = vocab_refuse(r->from, WANE_EUNSUPPORTED, "a ByteLevel decoder with others beside it");
    return s;
}

/* Which piece is a text's first is told by where it begins, which is not told of what a Replace
 * left when it took text away. */
static bool first_is_lost(const reader *r)
{
    bool shortened = false;
    for (int i = 0; i < r->t->normal.count; i++)
        shortened |=
            r->t->normal.steps[i].kind == NORMAL_REPLACE && !r->t->normal.steps[i].to_length;
    return shortened && *r->t->split.spaces && r->t->split.prefix == PREFIX_FIRST;
}

wane_status load_steps(reader *r, const json_t *root)
{
    const json_t *normal = json_object_get(root, "normalizer");
    const json_t *cut = json_object_get(root, "pre_tokenizer");
    const json_t *decode = json_object_get(root, "decoder");
    wane_status s = WANE_OK;
    r->growth = 1;
    if (normal && !json_is_null(normal)) s = read_normalizer(r, normal, 0);
    if (!s && cut && !json_is_null(cut)) s = read_pre_tokenizer(r, cut, 0);
    r->growth = 1;
    if (!s && decode && !json_is_null(decode)) s = read_decoder(r, decode, 0);
    if (s) return s;
    if (first_is_lost(r))
        return vocab_refuse(
            r->from, WANE_EUNSUPPORTED,
            "a Replace by nothing before a Metaspace with prepend_scheme \"first\"");
    if (r->bytes_decoded && !r->bytes_cut)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED,
                            "a ByteLevel decoder, and no ByteLevel pre_tokenizer");
    if (r->bytes_cut && !r->bytes_decoded)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED,
                            "a ByteLevel pre_tokenizer, and no ByteLevel decoder");
    if (r->bytes_cut) return WANE_OK;
    if (!decode || json_is_null(decode))
        return vocab_refuse(r->from, WANE_EUNSUPPORTED,
                            "no decoder: nothing says how tokens become text; wane reads %s",
                            "ByteLevel and SentencePiece's (Replace, ByteFallback, Fuse, Strip)");
    r->t->words.decoder = &r->t->decode;
    return WANE_OK;
}
