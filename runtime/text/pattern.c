/* pattern.c - an unknown split pattern, rewritten from Oniguruma's syntax into PCRE2's.
 *
 * Hugging Face's tokenizers compiles patterns with Oniguruma (its RE document, Ruby syntax, UTF-8);
 * PCRE2 reads most of them alike. What both read alike is copied, what has another spelling is
 * rewritten (\s, \w, \v, \uHHHH, \p{Script}), all else is refused by name: a pattern that splits a
 * little differently would give wrong tokens in silence. One difference stays: the library's
 * Unicode (14 in PCRE2 10.42) may know fewer letters than Oniguruma's 16.
 *
 * The pattern comes from a file: its length, its steps and its memory are bounded, and it may not
 * call out, recurse or refer back. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/text/pattern.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/unicode.h"

enum { PATTERN_MOST = 4096, STEPS_MOST = 10000000, HEAP_KIB = 65536, STACK_MOST = 4 << 20 };

struct wane_pattern {
    pcre2_code *code;
};

static const char spaces[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                             "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
/* Oniguruma takes Latin-1's superscripts and fractions for word characters, but not in a class. */
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
static const char words[] = WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}", words_in_class[] = WORDS;

typedef struct {
    const char *p;
    size_t at, length;
    bool in_class;
    wane_buffer out;
    wane_err *e;
} rewriter;

static wane_status put(rewriter *r, const char *text, size_t length)
{
    return wane_buffer_add(&r->out, text, length, r->e);
}

static wane_status refuse(rewriter *r, size_t length)
{
    char shown[64];
    if (length > r->length - r->at) length = r->length - r->at;
    return wane_fail(r->e, WANE_EUNSUPPORTED,
                     "split pattern: \"%s\" at byte %zu may mean something else to PCRE2",
                     wane_escape(shown, sizeof shown, r->p + r->at, length), r->at);
}

/* \s \S \w \W; inside a class only the positive ones have a spelling. */
static wane_status put_class(rewriter *r, const char *items, bool negated)
{
    wane_status s = WANE_OK;
    if (r->in_class && negated) return refuse(r, 2);
    if (!r->in_class) s = put(r, negated ? "[^" : "[", negated ? 2 : 1);
    if (!s) s = put(r, items, strlen(items));
    if (!s && !r->in_class) s = put(r, "]", 1);
    return s;
}

/* \p{...}: a general category as it stands, anything longer as a script, which PCRE2 may not know.
 */
static wane_status put_property(rewriter *r)
{
    const char *p = r->p + r->at, *end = memchr(p, '}', r->length - r->at);
    if (r->length - r->at < 4 || p[2] != '{' || !end) return refuse(r, 3);
    const char *name = p + 3;
    wane_status s = put(r, p, 3);
    if (name < end && *name == '^') {
        if (!s) s = put(r, "^", 1);
        name++;
    }
    for (const char *c = name; c < end; c++)
        if (!isalpha((unsigned char)*c) && *c != '_') return refuse(r, (size_t)(end - p) + 1);
    if (end - name > 2 && !s) s = put(r, "sc:", 3);
    if (!s) s = put(r, name, (size_t)(end - name) + 1);
    r->at += (size_t)(end - p) + 1;
    return s;
}

static wane_status put_escape(rewriter *r)
{
    if (r->at + 1 >= r->length) return refuse(r, 1);
    const char *p = r->p + r->at;
    wane_status s;
    char c = p[1];
    if (c == 'p' || c == 'P') return put_property(r);
    if (c == 'u') {
        if (r->length - r->at < 6) return refuse(r, 6);
        for (int i = 2; i < 6; i++)
            if (!isxdigit((unsigned char)p[i])) return refuse(r, 6);
        s = put(r, "\\x{", 3);
        if (!s) s = put(r, p + 2, 4);
        if (!s) s = put(r, "}", 1);
        r->at += 6;
        return s;
    }
    if (c == 's' || c == 'S')
        s = put_class(r, spaces, c == 'S');
    else if (c == 'w' || c == 'W')

        s = put_class(r, r->in_class ? words_in_class : words, c == 'W');
    else if (c == 'v')
        s = put(r, "\\x{b}", 5);
    else if (strchr("rntfaedD", c) || (c == 'x' && r->length - r->at > 2 && p[2] == '{') ||
             (isascii((unsigned char)c) && !isalnum((unsigned char)c)))
        s = put(r, p, 2);
    else
        return refuse(r, 2);
    r->at += 2;
    return s;
}

static wane_status put_one(rewriter *r)
{
    static const char *const groups[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    const char *p = r->p + r->at;
    size_t left = r->length - r->at, n = 1;
    char c = *p, next = left > 1 ? p[1] : 0;
    if (c == '\\') return put_escape(r);
    if (r->in_class) {
        if (c == '[' || (c == '&' && next == '&')) return refuse(r, 2);
        r->in_class = c != ']';
    } else if (c == '[') {
        size_t first = next == '^' ? 2 : 1;
        if (left > first && p[first] == ']') return refuse(r, first + 1);
        r->in_class = true;
        n = first;
    } else if (c == '(' && next == '?') {
        n = 0;
        for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
            size_t size = strlen(groups[i]);
            if (size <= left && !memcmp(p, groups[i], size)) n = size;
        }
        if (!n) return refuse(r, 4);
    } else if (c == '^' || c == '$' || (c == '(' && next == '*')) {
        return refuse(r, c == '(' ? 4 : 1);
    } else if (c == '{' && next == ',') {
        return refuse(r, 3);
    } else if (c == '}' && (next == '+' || next == '?')) {
        return refuse(r, 2);
    }
    r->at += n;
    return put(r, p, n);
}

/* No backslash-C, backtracking verbs or callouts get past put_one; PCRE2 is told too. */
static wane_status compile(const char *text, size_t length, bool literal, pcre2_code **out,
                           wane_err *e)
{
    uint32_t options =
        literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    int code;
    size_t offset;
    char why[128] = "";
    wane_status s = WANE_EOOM;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return wane_fail(e, s, "no memory to compile a split pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, 64);
    *out = pcre2_compile((PCRE2_SPTR)text, length, options, &code, &offset, context);
    pcre2_compile_context_free(context);
    if (*out) {
        s = pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE) == PCRE2_ERROR_NOMEMORY ? WANE_EOOM
                                                                                : WANE_OK;
        if (s) pcre2_code_free(*out), *out = NULL;
        return s ? wane_fail(e, s, "no memory to compile a split pattern") : WANE_OK;
    }
    if (code == PCRE2_ERROR_HEAP_FAILED)
        return wane_fail(e, s, "no memory to compile a split pattern");
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return wane_fail(e, WANE_EUNSUPPORTED, "split pattern does not compile near byte %zu: %s",
                     offset, why);
}

wane_status wane_pattern_new(const char *pattern, size_t length, bool literal, wane_pattern **out,
                             wane_err *e)
{
    rewriter r = {.p = pattern, .length = length, .e = e};
    wane_status s = WANE_OK;
    *out = NULL;
    if (length > PATTERN_MOST)
        return wane_fail(e, WANE_EUNSUPPORTED, "split pattern of %zu bytes; at most %d are allowed",
                         length, PATTERN_MOST);
    if (literal) s = put(&r, pattern, length);
    while (!literal && r.at < length && !s) s = put_one(&r);
    wane_pattern *p = s ? NULL : calloc(1, sizeof *p);
    if (!s && !p) s = wane_fail(e, WANE_EOOM, "no memory for a split pattern");
    const char *text = r.out.data ? (const char *)r.out.data : "";
    if (!s) s = compile(text, r.out.length, literal, &p->code, e);
    free(r.out.data);
    if (s)
        free(p);
    else
        *out = p;
    return s;
}

void wane_pattern_free(wane_pattern *p)
{
    if (!p) return;
    pcre2_code_free(p->code);
    free(p);
}

wane_status wane_matches_open(const wane_pattern *p, wane_matches *m, wane_err *e)
{
    m->pattern = p;
    m->data = pcre2_match_data_create_from_pattern(p->code, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(32 << 10, STACK_MOST, NULL);
    if (!m->data || !m->context || !m->stack) {
        wane_matches_close(m);
        return wane_fail(e, WANE_EOOM, "no memory to match a split pattern");
    }
    pcre2_set_match_limit(m->context, STEPS_MOST);
    pcre2_set_heap_limit(m->context, HEAP_KIB);
    pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return WANE_OK;
}

void wane_matches_close(wane_matches *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    memset(m, 0, sizeof *m);
}

wane_status wane_matches_next(wane_matches *m, const unsigned char *s, size_t length, size_t from,
                              bool *found, size_t *start, size_t *end, wane_err *e)
{
    int rc =
        pcre2_match(m->pattern->code, s, length, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
    *found = rc >= 0;
    if (rc >= 0) {
        const size_t *where = pcre2_get_ovector_pointer(m->data);
        *start = where[0];
        *end = where[1];
        return WANE_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) return WANE_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return wane_fail(e, WANE_EOOM, "no memory to match a split pattern");
    char why[128] = "";
    pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
    wane_fail(e, WANE_EUNSUPPORTED,
              "the tokenizer's split pattern gave up after byte %zu of the text: %s", from, why);
    if (e) e->offset = (int64_t)from;
    return WANE_EUNSUPPORTED;
}
