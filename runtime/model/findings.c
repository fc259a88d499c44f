/* findings.c - see findings.h. */
#include "runtime/model/findings.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 200 };

wane_status wane_findings_add(wane_findings *all, const wane_err *e)
{
    if (!all) return e->status;
    if (all->count == all->room && all->count < MOST) {
        size_t room = all->room ? 2 * all->room : 8;
        wane_err *grown = realloc(all->item, room * sizeof *grown);
        if (grown) {
            all->item = grown;
            all->room = room;
        }
    }
    if (all->count < all->room && all->count < MOST)
        all->item[all->count++] = *e;
    else
        all->more++;
    return e->status;
}

void wane_findings_free(wane_findings *all)
{
    free(all->item);
    memset(all, 0, sizeof *all);
}
