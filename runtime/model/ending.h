/* ending.h - when an answer is over, other than by a stop id or by its length. */
#ifndef WANE_ENDING_H
#define WANE_ENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WANE_PERIOD_MOST = 64, WANE_STOP_TEXT_MOST = 256 };

/* What is known of an answer so far; {0} to start with. Tokens are shown one after the other. */
typedef struct {
    int matched;                        /* bytes of "\boxed{" just seen */
    int64_t depth;                      /* braces open in the box; 0 outside */
    int32_t repeated[WANE_PERIOD_MOST]; /* [p-1] tokens in a row that are as the one p before */
    char tail[WANE_STOP_TEXT_MOST];     /* the last bytes, for stop texts across tokens */
    size_t n_tail;
} wane_ending;

/* True once a \boxed{...} is closed: every brace in it counts, LaTeX's escaped ones too, since they
 * come in pairs. Text after the box's end in the same token changes nothing. */
bool wane_ending_box(wane_ending *, const char *bytes, size_t length);

/* True once a text of at most WANE_STOP_TEXT_MOST bytes ends within these bytes. */
bool wane_ending_text(wane_ending *, const char *bytes, size_t length, const char *const *text,
                      const size_t *text_length, int n_text);

/* ids[count-1] is new. True once `loop` tokens in a row repeat those a fixed period of at most
 * WANE_PERIOD_MOST before. */
bool wane_ending_loop(wane_ending *, const int32_t *ids, int64_t count, int64_t loop);

#endif
