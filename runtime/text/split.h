/* split.h - cutting text into the pieces that are encoded one by one (the "pre_tokenizer"). */
#ifndef WANE_TEXT_SPLIT_H
#define WANE_TEXT_SPLIT_H

#include "runtime/text/pattern.h"
#include "runtime/text/scan.h"
#include "runtime/text/unicode.h"

/* What becomes of the text that a pattern matches. Hugging Face's names and meanings. */
typedef enum {
    ISOLATED,
    REMOVED,
    MERGED_WITH_PREVIOUS,
    MERGED_WITH_NEXT,
    CONTIGUOUS
} split_behavior;

typedef struct {
    const scan_rules *rules; /* a known pattern, or NULL */
    wane_pattern *pattern;   /* another one, or NULL; with neither, the step finds digits */
    split_behavior behavior;
    bool invert;     /* what does not match is the match */
    bool one_by_one; /* digits: each is a match */
} split_step;

enum { SPLIT_STEPS = 16 };

/* Whether Metaspace sets its character before a piece that does not start with it. */
typedef enum { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } split_prefix;

/* Steps cut one after another, each what the one before it left; ByteLevel or Metaspace comes last.
 */
typedef struct {
    split_step steps[SPLIT_STEPS];
    int count;
    char spaces[5]; /* Metaspace's character, which stands for spaces, as UTF-8; "": no Metaspace */
    split_prefix prefix;
    bool words;        /* Metaspace's split: before each of these characters */
    bool prefix_space; /* ByteLevel's add_prefix_space: on every piece that the steps left */
    bool gpt2;         /* ByteLevel's use_regex */
} splitter;

void splitter_clear(splitter *s);

/* What takes the pieces; not empty ones. */
typedef wane_status (*split_sink)(void *context, const unsigned char *piece, size_t length,
                                  wane_err *e);

/* Cuts well-formed text; first: nothing was before it. An error's offset is in `text`. */
wane_status splitter_run(const splitter *s, const unsigned char *text, size_t length, bool first,
                         split_sink sink, void *context, wane_err *e);

#endif
