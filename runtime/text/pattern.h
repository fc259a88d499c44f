/* pattern.h - split patterns that scan.h does not know, through PCRE2. */
#ifndef WANE_TEXT_PATTERN_H
#define WANE_TEXT_PATTERN_H

#include "runtime/base/error.h"

typedef struct wane_pattern wane_pattern; /* immutable */

/* Compiles `pattern`, written for Oniguruma (Ruby's syntax) as tokenizer.json has it; with literal
 * set, it is a text to look for as it stands. EUNSUPPORTED where it is longer than 4 KiB, does not
 * compile, or uses something that the two engines read differently. *out is the caller's: free. */
wane_status wane_pattern_new(const char *pattern, size_t length, bool literal, wane_pattern **out,
                             wane_err *e);
void wane_pattern_free(wane_pattern *p); /* NULL is fine */

/* One walk over the matches in a text; start with wane_matches_open, end with wane_matches_close.
 */
typedef struct {
    const wane_pattern *pattern;
    void *data, *context, *stack; /* PCRE2's */
} wane_matches;

wane_status wane_matches_open(const wane_pattern *p, wane_matches *m, wane_err *e);
void wane_matches_close(wane_matches *m);

/* The first match at or after s[from] in well-formed UTF-8: *found, *start, *end. An error with its
 * offset set where the pattern ran into a limit (10 million steps, 64 MiB). */
wane_status wane_matches_next(wane_matches *m, const unsigned char *s, size_t length, size_t from,
                              bool *found, size_t *start, size_t *end, wane_err *e);

#endif
