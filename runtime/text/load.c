/* load.c - a parsed tokenizer.json becomes a tokenizer.
 *
 * The file is what Hugging Face's tokenizers writes (version "1.0"): added_tokens, normalizer,
 * pre_tokenizer, model, post_processor, decoder. The model is vocab.c's, what texts go through on
 * their way to it and back is steps.c's, and the rest is here.
 * "truncation" and "padding" are read past: Transformers sets both anew in every call.
 *
 * An added token's id has to be the one that the library would give it, which numbers them itself
 * and only warns where the file says otherwise: an existing token keeps its id, a new one is next.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/text/bpe.h"
#include "runtime/text/load.h"

enum { NESTED = 8 }; /* a Sequence in a Sequence ... */

wane_status load_unknown(const reader *r, const char *component, const char *type,
                         const char *known)
{
    char shown[64];
    return vocab_refuse(r->from, WANE_EUNSUPPORTED,
                        "%s \"%s\" is not one that wane knows; it reads %s", component,
                        wane_escape(shown, sizeof shown, type, strlen(type)), known);
}

const char *load_type(const reader *r, const json_t *value, const char *component)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    if (!type)
        vocab_refuse(r->from, WANE_EFORMAT, "the %s is not an object with a \"type\"", component);
    return type;
}

wane_status load_flag(const reader *r, const json_t *value, const char *name, int otherwise,
                      bool *out)
{
    const json_t *item = json_object_get(value, name);
    if (!item && otherwise >= 0) {
        *out = otherwise;
        return WANE_OK;
    }
    if (!json_is_boolean(item))
        return vocab_refuse(r->from, WANE_EFORMAT, "\"%s\" is %s where true or false is due", name,
                            item ? "something else" : "absent");
    *out = json_is_true(item);
    return WANE_OK;
}

wane_status load_list(const reader *r, const json_t *value, const char *name, int depth,
                      const json_t **out)
{
    *out = json_object_get(value, name);
    if (!json_is_array(*out))
        return vocab_refuse(r->from, WANE_EFORMAT, "a Sequence without a list \"%s\"", name);
    if (depth >= NESTED)
        return vocab_refuse(r->from, WANE_EUNSUPPORTED, "\"%s\" nested deeper than %d", name,
                            NESTED);
    return WANE_OK;
}

/* Appends the ids that a template gives to one of its special tokens. */
static wane_status special_ids(reader *r, const json_t *template, const json_t *piece,
                               wane_ids *out)
{
    const json_t *name = json_object_get(piece, "id"), *id;
    const char *text = json_string_value(name);
    const json_t *entry =
        text ? json_object_get(json_object_get(template, "special_tokens"), text) : NULL;
    const json_t *ids = json_object_get(entry, "ids");
    char shown[96];
    size_t i;
    if (!text || !json_is_array(ids))
        return vocab_refuse(r->from, WANE_EFORMAT, "template: special token \"%s\" has no ids",
                            text ? wane_escape(shown, sizeof shown, text, strlen(text)) : "?");
    wane_status s = bpe_room(out, json_array_size(ids), r->from->e);
    if (s) return s;
    json_array_foreach(ids, i, id)
    {
        json_int_t n = json_integer_value(id);
        const vocab *v = &r->t->words;
        if (!json_is_integer(id) || n < 0 || n >= v->size || !v->tokens[n].flags)
            return vocab_refuse(r->from, WANE_EFORMAT,
                                "template: special token \"%s\" has an id that no token has",
                                wane_escape(shown, sizeof shown, text, strlen(text)));
        out->ids[out->count++] = (int32_t)n;
    }
    return WANE_OK;
}

/* One template goes around what an earlier one made: its ids before come first. */
static wane_status read_template(reader *r, const json_t *value)
{
    const json_t *single = json_object_get(value, "single"), *item;
    wane_ids before = {0}, after = {0};
    bool seen = false;
    size_t i;
    wane_status s = WANE_OK;
    if (!json_is_array(single))
        return vocab_refuse(r->from, WANE_EFORMAT, "template: no list \"single\"");
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *sequence = json_object_get(item, "Sequence");
        const char *name = json_string_value(json_object_get(sequence, "id"));
        if (special) {
            s = special_ids(r, value, special, seen ? &after : &before);
        } else if (!name || strcmp(name, "A")) {
            s = vocab_refuse(r->from, WANE_EFORMAT,
                             "template: \"single\" may hold special tokens and the sequence A");
        } else if (seen) {
            s = vocab_refuse(r->from, WANE_EUNSUPPORTED,
                             "template: \"single\" holds its text twice");
        } else {
            seen = true;
        }
        if (s) goto done;
    }
    if (!seen) {
        s = vocab_refuse(r->from, WANE_EFORMAT, "template: \"single\" does not hold its text");
        goto done;
    }
    wane_ids *first = &r->t->before, *last = &r->t->after;
    if ((s = bpe_room(&before, first->count, r->from->e))) goto done;
    if ((s = bpe_room(last, after.count, r->from->e))) goto done;
    if (first->count)
        memcpy(before.ids + before.count, first->ids, first->count * sizeof *first->ids);
    before.count += first->count;
    if (after.count) memcpy(last->ids + last->count, after.ids, after.count * sizeof *after.ids);
    last->count += after.count;
    wane_ids_free(first);
    *first = before;
    before = (wane_ids){0};
done:
    wane_ids_free(&before);
    wane_ids_free(&after);
    return s;
}

static wane_status read_post_processor(reader *r, const json_t *value, int depth)
{
    const json_t *list, *item;
    size_t i;
    if (!value || json_is_null(value)) return WANE_OK;
    const char *type = load_type(r, value, "post_processor");
    if (!type) return WANE_EFORMAT;
    if (!strcmp(type, "ByteLevel")) return WANE_OK; /* it trims offsets, which wane has none of */
    if (!strcmp(type, "TemplateProcessing")) return read_template(r, value);
    if (strcmp(type, "Sequence"))
        return load_unknown(r, "post_processor", type,
                            "TemplateProcessing, ByteLevel and Sequence");
    wane_status s = load_list(r, value, "processors", depth, &list);
    if (s) return s;
    json_array_foreach(list, i, item) if ((s = read_post_processor(r, item, depth + 1))) return s;
    return WANE_OK;
}

/* What can be said of an added token before the vocabulary is there. */
static wane_status check_added(const reader *r, const json_t *item, size_t number, int64_t *highest)
{
    const json_t *content = json_object_get(item, "content"), *id = json_object_get(item, "id");
    char shown[96];
    if (!json_is_string(content) || !json_string_length(content))
        return vocab_refuse(r->from, WANE_EFORMAT, "added token %zu has no content", number);
    wane_escape(shown, sizeof shown, json_string_value(content), json_string_length(content));
    if (json_string_length(content) > ADDED_MOST)
        return vocab_refuse(r->from, WANE_EFORMAT,
                            "added token \"%s\" is %zu bytes long; at most %d", shown,
                            json_string_length(content), ADDED_MOST);
    json_int_t n = json_integer_value(id);
    if (!json_is_integer(id) || n < 0 || n >= VOCAB_IDS)
        return vocab_refuse(r->from, WANE_EFORMAT, "added token \"%s\": its id is not 0 to %d",
                            shown, VOCAB_IDS - 1);
    if (n > *highest) *highest = n;
    return WANE_OK;
}

/* The text by which a token is found: its content, normalized where it asks for that. As in the
 * library decoding takes that text too; but a special token stays one, where the library would no
 * longer know it by that text. */
static wane_status put_found(reader *r, const char *content, size_t length, bool normalized,
                             added_token token)
{
    normal_scratch scratch = {0};
    const unsigned char *text = (const unsigned char *)content;
    char shown[96];
    added_set *set = normalized ? &r->t->normalized : &r->t->raw;
    size_t n = length;
    wane_status s = WANE_OK;
    if (normalized) s = normalizer_run(&r->t->normal, &scratch, &text, &n, r->from->e);
    if (!s && !n)
        s = vocab_refuse(r->from, WANE_EFORMAT, "added token \"%s\" is nothing once normalized",
                         wane_escape(shown, sizeof shown, content, length));
    if (!s) s = added_put(set, (const char *)text, n, token, r->from->e);
    if (!s && r->t->words.decoder && (n != length || memcmp(text, content, length)))
        s = vocab_respell(&r->t->words, token.id, text, n, r->from->e);
    free(scratch.now.data);
    free(scratch.next.data);
    return s;
}

/* `next` is the id of the next token that the model does not have. */
static wane_status add_token(reader *r, const json_t *item, int32_t *next)
{
    vocab *v = &r->t->words;
    const json_t *content = json_object_get(item, "content");
    const char *text = json_string_value(content);
    size_t length = json_string_length(content);
    int32_t id = (int32_t)json_integer_value(json_object_get(item, "id"));
    int32_t known = vocab_find(v, text, length), due = known >= 0 ? known : *next;
    char shown[96], other[96];
    bool special;
    wane_escape(shown, sizeof shown, text, length);
    wane_status s = load_flag(r, item, "special", -1, &special);
    if (s) return s;
    if (known >= 0 && v->tokens[known].flags & TOKEN_ADDED)
        return vocab_refuse(r->from, WANE_EFORMAT, "added token \"%s\" is there twice", shown);
    if (v->tokens[id].flags && id != known)
        return vocab_refuse(
            r->from, WANE_EFORMAT, "added token \"%s\" has id %d, which is \"%s\"", shown, (int)id,
            wane_escape(other, sizeof other, (char *)v->pool.data + v->tokens[id].content,
                        v->tokens[id].content_length));
    if (id != due)
        return vocab_refuse(
            r->from, WANE_EFORMAT, "added token \"%s\" has id %d, but %s %d", shown, (int)id,
            known >= 0 ? "in the vocabulary it is" : "the next free one is", (int)due);
    if (known < 0 && (s = vocab_add(v, text, length, id, r->from->e))) return s;
    v->tokens[id].flags |= TOKEN_ADDED;
    if (special) v->tokens[id].flags |= TOKEN_SPECIAL;
    if (id >= *next) *next = id + 1;
    return WANE_OK;
}

/* Special tokens go before others, so that of equal texts theirs counts. */
static wane_status find_tokens(reader *r, const json_t *list, bool special)
{
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        const json_t *content = json_object_get(item, "content");
        added_token token = {.id = (int32_t)json_integer_value(json_object_get(item, "id"))};
        bool normalized;
        wane_status s = load_flag(r, item, "special", -1, &token.special);
        if (!s) s = load_flag(r, item, "single_word", -1, &token.single_word);
        if (!s) s = load_flag(r, item, "lstrip", -1, &token.lstrip);
        if (!s) s = load_flag(r, item, "rstrip", -1, &token.rstrip);
        if (!s) s = load_flag(r, item, "normalized", -1, &normalized);
        if (!s && token.special == special)
            s = put_found(r, json_string_value(content), json_string_length(content), normalized,
                          token);
        if (s) return s;
    }
    return WANE_OK;
}

/* The model's tokens, from lists or else from its tree; *next is the first id after them. */
static wane_status read_model(reader *r, const json_t *model, const vocab_lists *lists,
                              size_t added, int64_t highest, int32_t *next)
{
    vocab_lists own = {0};
    wane_status s = vocab_check(model, r->from);
    if (!s && !lists) {
        s = lists_from_tree(json_object_get(model, "vocab"), json_object_get(model, "merges"), &own,
                            r->from->e);
        lists = &own;
    }
    if (!s) s = vocab_load(&r->t->words, model, lists, added, highest, r->from);
    if (!s) *next = (int32_t)lists->n_entries;
    lists_free(&own);
    return s;
}

static wane_status read_vocabulary(reader *r, const json_t *root, const vocab_lists *lists)
{
    const json_t *list = json_object_get(root, "added_tokens"), *item;
    const json_t *model = json_object_get(root, "model");
    int64_t highest = -1;
    size_t i;
    wane_status s;
    if (json_is_null(list)) list = NULL;
    if (list && !json_is_array(list))
        return vocab_refuse(r->from, WANE_EFORMAT, "\"added_tokens\" is not a list");
    json_array_foreach(list, i, item) if ((s = check_added(r, item, i, &highest))) return s;
    int32_t next = 0;
    s = read_model(r, model, lists, json_array_size(list), highest, &next);
    json_array_foreach(list, i, item)
    {
        if (s) return s;
        s = add_token(r, item, &next);
    }
    if (!s) s = find_tokens(r, list, true);
    return s ? s : find_tokens(r, list, false);
}

wane_status tokenizer_read(wane_tokenizer *t, const json_t *root, const vocab_lists *lists,
                           const vocab_source *from)
{
    reader r = {.t = t, .from = from};
    const json_t *version = json_object_get(root, "version");
    if (!json_is_object(root)) return vocab_refuse(from, WANE_EFORMAT, "not a JSON object");
    if (version && !(json_is_string(version) && !strcmp(json_string_value(version), "1.0")))
        return vocab_refuse(from, WANE_EUNSUPPORTED,
                            "a tokenizer file of another version than 1.0");
    added_start(&t->raw);
    added_start(&t->normalized);
    wane_status s = load_steps(&r, root);
    if (!s) s = read_vocabulary(&r, root, lists);
    return s ? s : read_post_processor(&r, json_object_get(root, "post_processor"), 0);
}
