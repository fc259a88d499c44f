/* added.h - finding added tokens ("<|im_start|>") in text. */
#ifndef WANE_TEXT_ADDED_H
#define WANE_TEXT_ADDED_H

#include "runtime/text/unicode.h"

enum { ADDED_MOST = 1024 }; /* bytes of an added token */

typedef struct {
    int32_t id;
    bool special, single_word, lstrip, rstrip;
} added_token;

/* A trie: a node's children are a list of siblings, the root's are found by byte. */
typedef struct {
    int32_t child, sibling; /* -1: none */
    int32_t token;          /* that ends here, -1: none */
    unsigned char byte;
} added_node;

typedef struct {
    added_token *tokens;
    added_node *nodes;
    size_t n_tokens, tokens_room, n_nodes, nodes_room;
    int32_t root[256];
} added_set;

void added_start(added_set *set);
void added_clear(added_set *set);

/* Of two tokens with the same text the first counts. text is not empty. */
wane_status added_put(added_set *set, const char *text, size_t length, added_token token,
                      wane_err *e);

/* A walk over a text as stretches: tokens, and the text between them. */
typedef struct {
    const added_set *set;
    const unsigned char *s;
    size_t length, at; /* at: where the search goes on */
    size_t done;       /* where the last stretch ended */
    bool plain;        /* special tokens are not found */
    int32_t waiting;   /* a token that follows the stretch just given; -1: none */
    size_t start, end; /* its place */
} added_walk;

added_walk added_begin(const added_set *set, const unsigned char *s, size_t length, bool plain);

/* The next stretch, s[*start..*end): *id is a token or -1 for text. False at the end. */
bool added_next(added_walk *w, int32_t *id, size_t *start, size_t *end);

#endif
