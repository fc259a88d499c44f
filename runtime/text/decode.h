/* decode.h - tokens to text where their contents are text already (the "decoder" of SentencePiece's
 * kind; byte-level tokens are bytes, and need none of this). */
#ifndef WANE_TEXT_DECODE_H
#define WANE_TEXT_DECODE_H

#include "runtime/text/unicode.h"

/* Hugging Face's names: Replace, ByteFallback, Fuse, Strip, Metaspace. */
typedef enum { DECODE_REPLACE, DECODE_BYTES, DECODE_FUSE, DECODE_STRIP, DECODE_SPACES } decode_kind;

typedef struct {
    decode_kind kind;
    char *from, *to; /* owned; REPLACE: both; STRIP and SPACES: from is one character */
    size_t from_length, to_length;
    uint32_t start, stop; /* STRIP: how many of them at most */
    bool prefixed;        /* SPACES: those in the first token are the prefix, and go */
} decode_step;

enum { DECODE_STEPS = 16, DECODE_MOST = 1 << 30 }; /* bytes of a decoded text */

/* Steps one after another, each over the list of tokens that the one before it left. */
typedef struct {
    decode_step steps[DECODE_STEPS];
    int count;
} decoder;

void decoder_clear(decoder *d);

/* Tokens side by side in text: the i-th ends before ends[i]. Start with {0}, free both. */
typedef struct {
    wane_buffer text;
    size_t *ends, count, room;
} decode_list;

wane_status decode_list_add(decode_list *list, const char *content, size_t length, wane_err *e);

/* Makes of the contents in list the text that they stand for, in list->text; ends is used up. EARG:
 * longer than DECODE_MOST. */
wane_status decoder_run(const decoder *d, decode_list *list, wane_err *e);

/* The byte that a content like "<0x0A>" stands for, or -1. */
int decode_byte(const char *content, size_t length);

/* Makes of one content the bytes that it stands for inside a text, where nothing is stripped: in
 * scratch, or the content itself. Scratch may be used again; start with {0}, free both. */
wane_status decoder_token(const decoder *d, wane_buffer scratch[2], const unsigned char **text,
                          size_t *length, wane_err *e);

#endif
