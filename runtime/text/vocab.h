/* vocab.h - tokens by id, by content and by bytes, and the merges of pairs. */
#ifndef WANE_TEXT_VOCAB_H
#define WANE_TEXT_VOCAB_H

#include "runtime/text/decode.h"
#include "runtime/text/lists.h"
#include "runtime/text/unicode.h"

enum {
    VOCAB_IDS = 4194304,     /* ids are below this */
    VOCAB_TOKEN = 65535,     /* the longest content, in bytes; bpe.c keeps lengths in 16 bits */
    VOCAB_NONE = 0xffffffffu /* no merge */
};

enum {
    TOKEN_PRESENT = 1,
    TOKEN_SPECIAL = 2,
    TOKEN_ADDED = 4,
    TOKEN_MODEL = 8,
    TOKEN_RESPELLED = 16
};

/* Content is the token as the file spells it; bytes are what it decodes to. In a byte-level file
 * characters of contents stand for bytes (GPT-2's table: "Ġ" is a space); in the other kind,
 * SentencePiece's, contents are text, and "<0x0A>" may be a byte. Both lie in the pool. */
typedef struct {
    uint32_t content, bytes;
    uint16_t content_length, flags;
    uint32_t bytes_length;
} vocab_token;

/* What a decoder is given instead of a token's content. */
typedef struct {
    int32_t id;
    uint32_t text, length; /* in the pool */
} vocab_spelling;

typedef struct {
    uint64_t pair; /* left id << 32 | right id; ~0 where the slot is free */
    uint32_t rank, id;
} vocab_merge;

typedef struct {
    wane_buffer pool;
    vocab_token *tokens; /* (size) */
    int32_t size;        /* 1 + the highest id */
    int32_t *by_content; /* (content_mask + 1) hash slots, -1 where free */
    int32_t *by_bytes;   /* the same for tokens of the model, with ignore_merges alone; else NULL */
    uint32_t content_mask, bytes_mask, merge_mask;
    uint64_t seed; /* of the hashes: files cannot choose collisions */
    vocab_merge *merges;
    uint32_t n_merges; /* ranks are below this */
    uint32_t longest;  /* of the model's tokens, in bytes */
    int32_t byte_id[256];
    bool ignore_merges; /* a piece that is a token is that token */
    /* Where contents are text; NULL in a byte-level file, in which every byte_id is there. */
    const decoder *decoder; /* borrowed */
    wane_buffer scratch[2]; /* the decoder's */
    vocab_spelling *spellings;
    size_t n_spellings;
    int32_t unknown;    /* what stands for characters that are no tokens; -1: none */
    bool fuse_unknown;  /* once for several in a row */
    bool byte_fallback; /* but for those whose bytes are tokens */
    bool
        word_cuts; /* no merge reaches over the place before a "▁" that follows another character */
} vocab;

/* Fails with the file's name before the message; path is borrowed. */
typedef struct {
    const char *path;
    wane_err *e;
} vocab_source;
wane_status vocab_refuse(const vocab_source *from, wane_status s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Checks "model"; its two long parts only where they are not in lists. */
wane_status vocab_check(const json_t *model, const vocab_source *from);

/* Fills v from a checked model and its lists, and makes room for `added` more tokens with ids up to
 * highest (-1: none). v is {0} but for the decoder before; clear it also after a failure. */
wane_status vocab_load(vocab *v, const json_t *model, const vocab_lists *lists, size_t added,
                       int64_t highest, const vocab_source *from);
void vocab_clear(vocab *v);

/* Adds a token beside the model's; its id is free and below v->size. */
wane_status vocab_add(vocab *v, const char *content, size_t length, int32_t id, wane_err *e);

/* Where contents are text: decoding takes `text` for the token, not its content. */
wane_status vocab_respell(vocab *v, int32_t id, const unsigned char *text, size_t length,
                          wane_err *e);

/* What decoding takes for a token that is there. */
const char *vocab_spelled(const vocab *v, int32_t id, size_t *length);

int32_t vocab_find(const vocab *v, const char *content, size_t length); /* -1: none */

/* A token of the model, not of those added to it, by what it stands for: bytes where there are
 * bytes, by_bytes; else by its content. -1: none. */
int32_t vocab_find_bytes(const vocab *v, const unsigned char *bytes, size_t length);
int32_t vocab_find_text(const vocab *v, const unsigned char *text, size_t length);

static inline uint64_t vocab_mix(uint64_t x) /* Stafford's variant 13 of the murmur3 finalizer */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The merge of two tokens, or NULL. */
static inline const vocab_merge *vocab_pair(const vocab *v, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (uint32_t i = (uint32_t)vocab_mix(pair ^ v->seed);; i++) {
        const vocab_merge *m = &v->merges[i & v->merge_mask];
        if (m->pair == pair) return m;
        if (m->pair == UINT64_MAX) return NULL;
    }
}

#endif
