/* scan.c - two families of split patterns as code.
 *
 * GPT-2 (Radford and others 2019, encoder.py), here with the spaces that matter shown as _:
 *     's|'t|'re|'ve|'m|'ll|'d|_?\p{L}+|_?\p{N}+|_?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * cl100k (OpenAI's tiktoken, openai_public.py), as Llama 3 and Qwen write it:
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|_?[^\s\p{L}\p{N}]+[\r\n]*|
 *     \s*[\r\n]+|\s+(?!\S)|\s+
 * Alternatives are tried in order, each as far as it goes. Classes are those of Oniguruma with
 * Unicode 16, the engine of Hugging Face's tokenizers. Its (?i:s) takes U+017F (long s) too. */
#include "runtime/text/scan.h"

#include <string.h>

#include "runtime/text/unicode.h"

#define CL100K_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?"
#define CL100K_TAIL "+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WITH_MARKS  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|"

const scan_rules scan_gpt2 = {true, CLASS_L, 0};

static const struct {
    const char *pattern;
    scan_rules rules;
} known[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     {true, CLASS_L, 0}},
    {CL100K_HEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]" CL100K_TAIL,
     {false, CLASS_L, 1}}, /* Qwen2, 3 */
    {CL100K_HEAD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]" CL100K_TAIL,
     {false, CLASS_L, 3}}, /* Llama 3 */
    {CL100K_HEAD "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]" CL100K_TAIL, {false, CLASS_L, 0}},
    {WITH_MARKS "\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]" CL100K_TAIL,
     {false, CLASS_L | CLASS_M, 1}}, /* Qwen3.5 */
};

const scan_rules *scan_find(const char *pattern)
{
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].pattern, pattern)) return &known[i].rules;
    return NULL;
}

/* The end of the run of characters from s[at] of a class in `take` (or, with none, outside
 * `leave`), at most `most` of them; 0 means any number. */
static size_t run(const unsigned char *s, size_t at, size_t length, unsigned take, unsigned leave,
                  int most)
{
    for (size_t next; at < length; at = next) {
        unsigned c = unicode_class_at(s, at, &next);
        if (take ? !(c & take) : c & leave) break;
        if (most && !--most) return next;
    }
    return at;
}

/* The end of 's 't 're 've 'm 'll 'd at s[at], which is the apostrophe; at where there is none. */
static size_t contraction(const unsigned char *s, size_t at, size_t length, bool fold)
{
    size_t left = length - at;
    const unsigned char *p = s + at;
    unsigned char lower = fold ? 0x20 : 0; /* letters alone differ by it from their capitals */
    unsigned char a = left > 1 ? p[1] | lower : 0, b = left > 2 ? p[2] | lower : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' || a == 'v') && b == 'e') return at + 3;
    if (a == 'l' && b == 'l') return at + 3;
    if (fold && left > 2 && p[1] == 0xc5 && p[2] == 0xbf) return at + 3; /* U+017F */
    return at;
}

/* \s+(?!\S)|\s+ at s[at], a space: all of the run at the end of the text, else all but its last. */
static size_t spaces(const unsigned char *s, size_t at, size_t length)
{
    size_t end = run(s, at, length, CLASS_S, 0, 0);
    if (end == length) return end;
    size_t last = unicode_back(s, end);
    return last > at ? last : end;
}

static size_t piece_gpt2(const scan_rules *r, const unsigned char *s, size_t at, size_t length)
{
    size_t next, from = at;
    if (s[at] == '\'') {
        size_t end = contraction(s, at, length, false);
        if (end > at) return end;
    }
    unsigned c = unicode_class_at(s, at, &next);
    if (s[at] == ' ' && next < length) {
        from = next;
        c = unicode_class_at(s, from, &next);
    }
    if (c & r->letters) return run(s, from, length, r->letters, 0, 0);
    if (c & CLASS_N) return run(s, from, length, CLASS_N, 0, 0);
    if (!(c & CLASS_S)) return run(s, from, length, 0, CLASS_S | CLASS_N | r->letters, 0);
    return spaces(s, at, length);
}

static size_t piece_cl100k(const scan_rules *r, const unsigned char *s, size_t at, size_t length)
{
    size_t next, after = length;
    if (s[at] == '\'') {
        size_t end = contraction(s, at, length, true);
        if (end > at) return end;
    }
    unsigned c = unicode_class_at(s, at, &next);
    if (c & r->letters) return run(s, next, length, r->letters, 0, 0);
    if (c & CLASS_N) return r->digits == 1 ? next : run(s, at, length, CLASS_N, 0, r->digits);
    bool newline = s[at] == '\r' || s[at] == '\n';
    unsigned second = next < length ? unicode_class_at(s, next, &after) : CLASS_S;
    if (!newline && second & r->letters) return run(s, after, length, r->letters, 0, 0);

    unsigned word = CLASS_S | CLASS_N | r->letters;
    size_t end = 0;
    if (!(c & CLASS_S))
        end = run(s, next, length, 0, word, 0);
    else if (s[at] == ' ' && !(second & word))
        end = run(s, after, length, 0, word, 0);
    if (end) {
        while (end < length && (s[end] == '\r' || s[end] == '\n')) end++;
        return end;
    }

    /* \s*[\r\n]+ : up to the last line end of the run of spaces */
    size_t stop = 0;
    for (size_t i = at; i < length; i = after) {
        if (!(unicode_class_at(s, i, &after) & CLASS_S)) break;
        if (s[i] == '\r' || s[i] == '\n') stop = after;
    }
    return stop ? stop : spaces(s, at, length);
}

size_t scan_piece(const scan_rules *rules, const unsigned char *s, size_t at, size_t length)
{
    return rules->gpt2 ? piece_gpt2(rules, s, at, length) : piece_cl100k(rules, s, at, length);
}
