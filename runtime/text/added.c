/* added.c - the leftmost added token in a text, and the longest of those, as Hugging Face's
 * tokenizers takes them (an Aho-Corasick automaton there; the matches are the same).
 *
 * What follows is its order of work: single_word discards a match beside a word character, and the
 * discarded text is not searched again; lstrip and rstrip take the spaces around a token into it. A
 * token asked to be plain is discarded in the same way. */
#include "runtime/text/added.h"

#include <stdlib.h>
#include <string.h>

void added_start(added_set *set)
{
    memset(set, 0, sizeof *set);
    memset(set->root, 0xff, sizeof set->root);
}

void added_clear(added_set *set)
{
    free(set->tokens);
    free(set->nodes);
    added_start(set);
}

static int32_t find_child(const added_set *set, int32_t node, unsigned char byte)
{
    int32_t at = node < 0 ? set->root[byte] : set->nodes[node].child;
    while (at >= 0 && set->nodes[at].byte != byte) at = set->nodes[at].sibling;
    return at;
}

wane_status added_put(added_set *set, const char *text, size_t length, added_token token,
                      wane_err *e)
{
    if (set->n_nodes + length > set->nodes_room) {
        size_t room = 2 * (set->n_nodes + length);
        added_node *nodes = realloc(set->nodes, room * sizeof *nodes);
        if (!nodes) return wane_fail(e, WANE_EOOM, "no memory for the added tokens");
        set->nodes = nodes;
        set->nodes_room = room;
    }
    if (set->n_tokens == set->tokens_room) {
        size_t room = 2 * set->n_tokens + 16;
        added_token *tokens = realloc(set->tokens, room * sizeof *tokens);
        if (!tokens) return wane_fail(e, WANE_EOOM, "no memory for the added tokens");
        set->tokens = tokens;
        set->tokens_room = room;
    }
    int32_t node = -1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        int32_t child = find_child(set, node, byte);
        if (child < 0) {
            child = (int32_t)set->n_nodes++;
            int32_t sibling = node < 0 ? -1 : set->nodes[node].child;
            set->nodes[child] = (added_node){-1, sibling, -1, byte};
            if (node < 0)
                set->root[byte] = child;
            else
                set->nodes[node].child = child;
        }
        node = child;
    }
    if (set->nodes[node].token < 0) set->nodes[node].token = (int32_t)set->n_tokens;
    set->tokens[set->n_tokens++] = token;
    return WANE_OK;
}

/* The next match at or after w->at; w->at moves behind it. */
static const added_token *match(added_walk *w, size_t *start, size_t *end)
{
    const added_set *set = w->set;
    for (size_t i = w->at; i < w->length; i++) {
        int32_t found = -1;
        size_t to = i;
        for (int32_t node = set->root[w->s[i]]; node >= 0;
             node = to < w->length ? find_child(set, node, w->s[to]) : -1) {
            to++;
            if (set->nodes[node].token < 0) continue;
            found = set->nodes[node].token;
            *end = to;
        }
        if (found < 0) continue;
        *start = i;
        w->at = *end;
        return &set->tokens[found];
    }
    w->at = w->length;
    return NULL;
}

static bool beside_word(const added_walk *w, size_t start, size_t end)
{
    size_t next;
    if (start && unicode_class_at(w->s, unicode_back(w->s, start), &next) & CLASS_W) return true;
    return end < w->length && unicode_class_at(w->s, end, &next) & CLASS_W;
}

added_walk added_begin(const added_set *set, const unsigned char *s, size_t length, bool plain)
{
    return (added_walk){.set = set, .s = s, .length = length, .plain = plain, .waiting = -1};
}

bool added_next(added_walk *w, int32_t *id, size_t *start, size_t *end)
{
    const added_token *t = NULL;
    size_t from = 0, to = 0, next;
    while (w->waiting < 0 && (t = match(w, &from, &to))) {
        if ((t->special && w->plain) || (t->single_word && beside_word(w, from, to))) continue;
        if (t->lstrip) {
            size_t low = from;
            while (low > w->done &&
                   unicode_class_at(w->s, unicode_back(w->s, low), &next) & CLASS_S)
                low = unicode_back(w->s, low);
            from = low > w->done ? low : w->done;
        }
        if (t->rstrip && to < w->done) to = w->done; /* the last token's spaces: searched once */
        while (t->rstrip && to < w->length && unicode_class_at(w->s, to, &next) & CLASS_S)
            to = next;
        if (from >= to) continue; /* a token of spaces, taken whole into the one before it */
        w->waiting = t->id;
        w->start = from;
        w->end = to;
    }
    *start = w->done;
    *id = -1;
    if (w->waiting < 0) {
        *end = w->done = w->length;
        return *start < *end;
    }
    if (w->done < w->start) {
        *end = w->done = w->start;
        return true;
    }
    *id = w->waiting;
    *start = w->start;
    *end = w->done = w->end;
    w->waiting = -1;
    return true;
}
