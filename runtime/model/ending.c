/* ending.c - see ending.h. Each rule looks at a new token once and keeps what the next needs. */
#include "runtime/model/ending.h"

#include <string.h>

bool wane_ending_box(wane_ending *s, const char *bytes, size_t length)
{
    static const char BOX[] = "\\boxed{";
    enum { BOX_LENGTH = sizeof BOX - 1 };
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        if (s->depth == 0) {
            /* only the first byte of the pattern is a backslash, so a mismatch restarts there */
            s->matched = c == BOX[s->matched] ? s->matched + 1 : c == BOX[0];
            if (s->matched < BOX_LENGTH) continue;
            s->matched = 0;
            s->depth = 1;
        } else if (c == '{') {
            s->depth++;
        } else if (c == '}' && --s->depth == 0) {
            return true;
        }
    }
    return false;
}

bool wane_ending_text(wane_ending *s, const char *bytes, size_t length, const char *const *text,
                      const size_t *text_length, int n_text)
{
    for (size_t i = 0; i < length; i++) {
        if (s->n_tail == sizeof s->tail) memmove(s->tail, s->tail + 1, --s->n_tail);
        s->tail[s->n_tail++] = bytes[i];
        for (int t = 0; t < n_text; t++)
            if (text_length[t] <= s->n_tail &&
                !memcmp(s->tail + s->n_tail - text_length[t], text[t], text_length[t]))
                return true;
    }
    return false;
}

bool wane_ending_loop(wane_ending *s, const int32_t *ids, int64_t count, int64_t loop)
{
    bool over = false;
    for (int p = 1; p <= WANE_PERIOD_MOST && p < count; p++) {
        int32_t *repeated = &s->repeated[p - 1];
        bool same = ids[count - 1] == ids[count - 1 - p];
        *repeated = !same ? 0 : *repeated < INT32_MAX ? *repeated + 1 : INT32_MAX;
        over |= *repeated >= loop;
    }
    return over;
}
