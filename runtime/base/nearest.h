/* nearest.h - the name that somebody probably meant. */
#ifndef WANE_NEAREST_H
#define WANE_NEAREST_H

#include <stddef.h>

/* Of `count` names the one with the smallest edit distance to `name` (the first of equals),
 * borrowed; NULL where none is closer than a third of the longer one. Names past 256 bytes never
 * match. */
const char *wane_nearest(const char *name, const char *const *among, size_t count);

#endif
