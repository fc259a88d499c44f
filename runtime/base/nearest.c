/* nearest.c - see nearest.h. Levenshtein's distance by one row of the table (Wagner and Fischer,
 * "The string-to-string correction problem", 1974). */
#include "runtime/base/nearest.h"

#include <string.h>

enum { LONGEST = 256 };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Stops early where the distance will be above most; then the result is most + 1. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length, size_t most)
{
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= b_length; j++) row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0], best = i;
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t above = row[j];
            row[j] = least(least(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
            best = least(best, row[j]);
        }
        if (best > most) return most + 1;
    }
    return row[b_length];
}

const char *wane_nearest(const char *name, const char *const *among, size_t count)
{
    const char *found = NULL;
    size_t length = strlen(name), best = LONGEST;
    if (length > LONGEST) return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(among[i]);
        size_t longer = length > other ? length : other;
        size_t gap = longer - least(length, other);
        size_t most = least(best ? best - 1 : 0, longer / 3);
        if (other > LONGEST || gap > most || (found && !best)) continue;
        size_t d = distance(name, length, among[i], other, most);
        if (d > most) continue;
        best = d;
        found = among[i];
    }
    return found;
}
