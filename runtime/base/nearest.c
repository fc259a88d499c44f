/* nearest.c - see nearest.h. Levenshtein's distance by rows of the table (Wagner and Fischer, "The
 * string-to-string correction problem", 1974), two neighbours swapped being one mistake (Damerau,
 * "A technique for computer detection and correction of spelling errors", 1964). */
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
    size_t rows[3][LONGEST + 1], *row = rows[0], *above = rows[1], *before = rows[2], best = 0;
    for (size_t j = 0; j <= b_length; j++) row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *free = before, best_above = best;
        before = above;
        above = row;
        row = free;
        row[0] = best = i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
            best = least(best, row[j]);
        }
        if (best > most && best_above > most) return most + 1; /* a swap reaches two rows back */
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
