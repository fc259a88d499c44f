/* lists.c - a tokenizer.json whose long parts are read without a tree: they hold what a tree of the
 * whole would. */
#include <stdlib.h>
#include <string.h>

#include "runtime/text/lists.h"
#include "tests/fuzz/fuzz.h"

/* What lists.h asks for of rest before its lists count. */
static bool sound(const vocab_lists *l, const json_t *rest)
{
    const json_t *model = json_object_get(rest, "model");
    const json_t *vocab = json_object_get(model, "vocab"),
                 *merges = json_object_get(model, "merges");
    if (!json_is_object(vocab) || !json_is_array(merges) || json_object_size(vocab) ||
        json_array_size(merges))
        return false;
    for (size_t i = 0; i < l->n_entries; i++)
        for (size_t k = 0; k < i; k++)
            if (l->entries[i].length == l->entries[k].length &&
                !memcmp(l->entries[i].content, l->entries[k].content, l->entries[i].length))
                return false;
    return true;
}

static void same(const vocab_lists *a, const vocab_lists *b)
{
    FUZZ_CHECK(a->n_entries == b->n_entries && a->n_merges == b->n_merges);
    FUZZ_CHECK(a->odd_merge == b->odd_merge);
    for (size_t i = 0; i < a->n_entries; i++) {
        const vocab_entry *x = &a->entries[i], *y = &b->entries[i];
        FUZZ_CHECK(x->id == y->id && x->length == y->length);
        FUZZ_CHECK(!memcmp(x->content, y->content, x->length));
    }
    for (size_t i = 0; i < a->n_merges; i++)
        for (int half = 0; half < 2; half++) {
            FUZZ_CHECK(a->merges[i].length[half] == b->merges[i].length[half]);
            FUZZ_CHECK(!memcmp(a->merges[i].half[half], b->merges[i].half[half],
                               a->merges[i].length[half]));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vocab_lists fast = {0}, slow = {0};
    json_t *rest = NULL, *whole = NULL;
    bool cut;
    wane_err e;
    FUZZ_CHECK(!lists_cut((const char *)data, size, &fast, &cut, &e));
    if (cut && !wane_json_parse(fast.rest, fast.rest_length, "rest", &rest, NULL) &&
        sound(&fast, rest)) {
        if (wane_json_parse((const char *)data, size, "whole", &whole, &e))
            fuzz_stop(__FILE__, __LINE__, "the whole is JSON where the rest is", e.message);
        const json_t *model = json_object_get(whole, "model");
        FUZZ_CHECK(!lists_from_tree(json_object_get(model, "vocab"),
                                    json_object_get(model, "merges"), &slow, &e));
        same(&fast, &slow);
    }
    json_decref(rest);
    json_decref(whole);
    lists_free(&fast);
    lists_free(&slow);
    return 0;
}
