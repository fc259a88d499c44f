/* lists.h - the two long parts of a tokenizer.json, "vocab" and "merges" of its "model", as arrays
 * instead of a tree: a quarter of a million small objects are slower to make than all else. */
#ifndef WANE_TEXT_LISTS_H
#define WANE_TEXT_LISTS_H

#include "runtime/base/json.h"

typedef struct {
    const char *content;
    uint32_t length;
    int32_t id;
} vocab_entry;

typedef struct {
    const char *half[2];
    uint32_t length[2];
} vocab_halves;

/* Contents are borrowed: from the text, the tree, or what unescaped and rest hold. */
typedef struct {
    vocab_entry *entries;
    vocab_halves *merges;
    size_t n_entries, n_merges;
    bool odd_merge;         /* after these comes one that is no merge */
    char *unescaped, *rest; /* owned */
    size_t rest_length;     /* rest: the text with an empty vocab and empty merges */
} vocab_lists;

/* Cuts the two parts out of a text. *cut says whether it could: not where one is missing, where the
 * text is no JSON, or where anything in them is other than plain; a tree of the whole tells then.
 * Sound: where rest is JSON as base/json.h has it and holds both parts, empty, under "model", and
 * no content is there twice, the text is that JSON too and out holds what was in them. */
wane_status lists_cut(const char *text, size_t length, vocab_lists *out, bool *cut, wane_err *e);

/* The same from trees: entries an object with ids in range, merges a list. */
wane_status lists_from_tree(const json_t *entries, const json_t *merges, vocab_lists *out,
                            wane_err *e);

void lists_free(vocab_lists *lists); /* {0} is fine */

#endif
