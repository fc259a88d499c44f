/* scan.h - the split patterns that nearly all models use, matched by hand. */
#ifndef WANE_TEXT_SCAN_H
#define WANE_TEXT_SCAN_H

#include <stdbool.h>
#include <stddef.h>

/* What tells one pattern of a family from another. */
typedef struct {
    bool gpt2;        /* GPT-2's pattern, else the one of GPT-4 and its children */
    unsigned letters; /* classes that make words: CLASS_L, or CLASS_L | CLASS_M */
    int digits;       /* the longest run of digits in a piece; 0: any length */
} scan_rules;

/* The rules of a pattern, or NULL where it is none of the known ones. Static. */
const scan_rules *scan_find(const char *pattern);

/* GPT-2's, which ByteLevel applies where use_regex is set. */
extern const scan_rules scan_gpt2;

/* Where the piece that starts at s[at] ends; at < length, and s is well-formed UTF-8. The pieces
 * cover the text: nothing lies between two matches. */
size_t scan_piece(const scan_rules *rules, const unsigned char *s, size_t at, size_t length);

#endif
