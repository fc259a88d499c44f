/* cache.c - see cache.h. A radix tree over a paged pool, after the prefix tree of SGLang
 * ("SGLang: Efficient Execution of Structured Language Model Programs", section 3) and the pages of
 * vLLM ("Efficient Memory Management for Large Language Model Serving with PagedAttention").
 * It departs from both in that rows, not whole pages, are shared: attention reads spans of rows, so
 * a page may hold the end of one node and the beginning of another.
 *
 * A page is free when no node has rows in it. Its rows are taken in order, up to its fill. A node
 * grows into the row after its last one (or its parent's) where that is the page's fill, and else
 * into another page; so neighbours in a sequence are mostly neighbours in the pool. */
#include "runtime/model/cache.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct wane_leaf {
    wane_leaf *parent, *child, *next; /* next: sibling */
    int32_t *ids;                     /* [count] of room */
    wane_span *span;                  /* [n_span] of span_room; their counts sum up to count */
    int64_t start, count, room;       /* start: tokens above */
    int n_span, span_room;
    int refs;   /* sequences that pass through or end here */
    bool owned; /* a sequence ends here, and may grow it */
};

struct wane_cache {
    int64_t pages, n_free;
    int32_t *nodes; /* [pages] nodes with rows in it */
    int32_t *fill;  /* [pages] rows taken */
    wane_leaf root; /* no tokens */
};

wane_status wane_cache_new(int64_t pages, wane_cache **out, wane_err *e)
{
    *out = NULL;
    if (pages < 1 || pages > INT32_MAX / WANE_PAGE)
        return wane_fail(e, WANE_EARG, "cache: %" PRId64 " pages cannot be", pages);
    wane_cache *c = calloc(1, sizeof *c);
    if (c) {
        c->nodes = calloc((size_t)pages, sizeof *c->nodes);
        c->fill = calloc((size_t)pages, sizeof *c->fill);
    }
    if (!c || !c->nodes || !c->fill) {
        wane_cache_free(c);
        return wane_fail(e, WANE_EOOM, "cache: no host memory for %" PRId64 " pages", pages);
    }
    c->pages = c->n_free = pages;
    *out = c;
    return WANE_OK;
}

static void free_node(wane_leaf *n)
{
    free(n->ids);
    free(n->span);
    free(n);
}

static void free_below(wane_leaf *n)
{
    for (wane_leaf *child = n->child, *next; child; child = next) {
        next = child->next;
        free_below(child);
        free_node(child);
    }
}

void wane_cache_free(wane_cache *c)
{
    if (!c) return;
    free_below(&c->root);
    free(c->nodes);
    free(c->fill);
    free(c);
}

int64_t wane_cache_free_pages(const wane_cache *c)
{
    return c->n_free;
}

wane_status wane_cache_grow(wane_cache *c, int64_t pages, wane_err *e)
{
    if (pages <= c->pages) return WANE_OK;
    int32_t *nodes = NULL, *fill = NULL;
    if (pages <= INT32_MAX / WANE_PAGE) {
        nodes = calloc((size_t)pages, sizeof *nodes);
        fill = calloc((size_t)pages, sizeof *fill);
    }
    if (!nodes || !fill) {
        free(nodes);
        free(fill);
        return wane_fail(e, WANE_EOOM, "cache: no host memory for %" PRId64 " pages", pages);
    }
    memcpy(nodes, c->nodes, (size_t)c->pages * sizeof *nodes);
    memcpy(fill, c->fill, (size_t)c->pages * sizeof *fill);
    free(c->nodes);
    free(c->fill);
    c->nodes = nodes;
    c->fill = fill;
    c->n_free += pages - c->pages;
    c->pages = pages;
    return WANE_OK;
}

/* The row after which node's next token would best lie; -1: none yet. */
static int64_t last_row(const wane_leaf *n)
{
    while (n && n->n_span == 0) n = n->parent;
    return n ? n->span[n->n_span - 1].row + n->span[n->n_span - 1].count - 1 : -1;
}

/* A free page for the first of `wanted` pages: `near` where that is free, else in the middle of the
 * longest free stretch, so that it and the node before the stretch have where to grow. There is
 * one. */
static int64_t choose_page(const wane_cache *c, int64_t near, int64_t wanted)
{
    int64_t first = 0, longest = 0, stretch = 0;
    if (near < c->pages && c->nodes[near] == 0) return near;
    for (int64_t p = 0; p < c->pages; p++) {
        stretch = c->nodes[p] ? 0 : stretch + 1;
        if (stretch > longest) longest = stretch, first = p - stretch + 1;
    }
    return longest > wanted ? first + (longest - wanted) / 2 : first;
}

/* Rows of the page that a node may grow into right after `row`. */
static int64_t tail(const wane_cache *c, int64_t row)
{
    if (row < 0) return 0;
    int64_t used = row % WANE_PAGE + 1;
    return c->fill[row / WANE_PAGE] == used ? WANE_PAGE - used : 0;
}

/* Room for one more token and one more span. */
static bool reserve(wane_leaf *n, int64_t tokens, int spans)
{
    if (tokens > n->room) {
        int64_t room = tokens > 2 * n->room ? tokens : 2 * n->room;
        int32_t *ids = realloc(n->ids, (size_t)room * sizeof *ids);
        if (!ids) return false;
        n->ids = ids;
        n->room = room;
    }
    if (spans > n->span_room) {
        int room = spans > 2 * n->span_room ? spans : 2 * n->span_room;
        wane_span *span = realloc(n->span, (size_t)room * sizeof *span);
        if (!span) return false;
        n->span = span;
        n->span_room = room;
    }
    return true;
}

/* Gives the node a row for one more token; room is reserved and a row is there. */
static void take_row(wane_cache *c, wane_leaf *n, int32_t id, int64_t pages_to_come)
{
    int64_t row = last_row(n);
    if (tail(c, row)) {
        row++;
    } else {
        bool ends = row >= 0 && row % WANE_PAGE == WANE_PAGE - 1;
        row = choose_page(c, ends ? row / WANE_PAGE + 1 : c->pages, pages_to_come) * WANE_PAGE;
    }
    int64_t page = row / WANE_PAGE;
    wane_span *last = n->n_span ? &n->span[n->n_span - 1] : NULL;
    bool known = last && (last->row + last->count - 1) / WANE_PAGE == page;
    if (c->nodes[page] == 0) c->n_free--;
    if (!known) c->nodes[page]++;
    c->fill[page] = (int32_t)(row % WANE_PAGE + 1);
    if (last && last->row + last->count == row)
        last->count++;
    else
        n->span[n->n_span++] = (wane_span){(int32_t)row, 1};
    n->ids[n->count++] = id;
}

/* Takes a span from a node that it ends. The page `still` keeps rows of the node. */
static void give_rows(wane_cache *c, wane_span s, int64_t still)
{
    for (int64_t row = s.row, end = s.row + s.count; row < end;) {
        int64_t page = row / WANE_PAGE;
        int64_t stop = (page + 1) * WANE_PAGE < end ? (page + 1) * WANE_PAGE : end;
        if (c->fill[page] == stop - page * WANE_PAGE) c->fill[page] = (int32_t)(row % WANE_PAGE);
        if (page != still && --c->nodes[page] == 0) {
            c->fill[page] = 0;
            c->n_free++;
        }
        row = stop;
    }
}

/* Keeps the node's first count tokens. */
static void truncate_node(wane_cache *c, wane_leaf *n, int64_t count)
{
    while (n->count > count) {
        wane_span *last = &n->span[n->n_span - 1];
        int64_t over = n->count - count, gone = over < last->count ? over : last->count;
        int64_t still = -1;
        wane_span s = {last->row + last->count - (int32_t)gone, (int32_t)gone};
        last->count -= (int32_t)gone;
        if (last->count == 0) n->n_span--;
        if (n->n_span) {
            wane_span *end = &n->span[n->n_span - 1];
            still = (end->row + end->count - 1) / WANE_PAGE;
        }
        give_rows(c, s, still);
        n->count -= gone;
    }
}

/* The best match below node for ids: the child that shares most of them, and how many. */
static wane_leaf *match(const wane_leaf *n, const int32_t *ids, int64_t count, int64_t *shared)
{
    wane_leaf *best = NULL;
    *shared = 0;
    for (wane_leaf *child = n->child; child; child = child->next) {
        int64_t most = child->count < count ? child->count : count, t = 0;
        while (t < most && child->ids[t] == ids[t]) t++;
        if (t > *shared) best = child, *shared = t;
    }
    return best;
}

static wane_leaf *new_node(wane_leaf *parent, int64_t start)
{
    wane_leaf *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->start = start;
    n->parent = parent;
    return n;
}

static void link_child(wane_leaf *parent, wane_leaf *n)
{
    n->parent = parent;
    n->next = parent->child;
    parent->child = n;
}

static void unlink_child(wane_leaf *n)
{
    wane_leaf **at = &n->parent->child;
    while (*at != n) at = &(*at)->next;
    *at = n->next;
}

/* Puts the node's first `at` tokens into a new node above it, so that n stays whose leaf it is. */
static wane_leaf *split(wane_cache *c, wane_leaf *n, int64_t at)
{
    wane_leaf *up = new_node(n->parent, n->start);
    if (!up || !reserve(up, at, n->n_span) || !reserve(n, 0, n->n_span + 1)) {
        if (up) free_node(up);
        return NULL;
    }
    memcpy(up->ids, n->ids, (size_t)at * sizeof *up->ids);
    memmove(n->ids, n->ids + at, (size_t)(n->count - at) * sizeof *n->ids);
    up->count = at;
    n->count -= at;
    n->start += at;
    up->refs = n->refs;

    int64_t left = at;
    int i = 0;
    for (; left > 0; i++) {
        int32_t count = n->span[i].count < left ? n->span[i].count : (int32_t)left;
        up->span[up->n_span++] = (wane_span){n->span[i].row, count};
        left -= count;
        if (count == n->span[i].count) continue;
        n->span[i].row += count;
        n->span[i].count -= count;
        /* the rows of one page now belong to two nodes */
        if (n->span[i].row % WANE_PAGE) c->nodes[n->span[i].row / WANE_PAGE]++;
        break;
    }
    n->n_span -= i;
    memmove(n->span, n->span + i, (size_t)n->n_span * sizeof *n->span);

    unlink_child(n);
    link_child(up->parent, up);
    link_child(up, n);
    return up;
}

wane_status wane_cache_enter(wane_cache *c, const int32_t *ids, int64_t count, int64_t spare,
                             wane_leaf **out, int64_t *shared, wane_err *e)
{
    wane_leaf *at = &c->root, *leaf = NULL;
    int64_t known = 0, found;
    *out = NULL;
    *shared = 0;
    for (;;) {
        wane_leaf *child = match(at, ids + known, count - 1 - known, &found);
        if (!child) break;
        known += found;
        /* what another sequence grows goes on below; a split changes nothing that anyone sees */
        bool whole = found == child->count && !child->owned;
        if (!whole && !(child = split(c, child, found))) goto full;
        at = child;
        if (known == count - 1) break;
    }
    int64_t rows = count - known - tail(c, last_row(at));
    int64_t pages = rows > 0 ? (rows + WANE_PAGE - 1) / WANE_PAGE : 0;
    if (pages + spare > c->n_free) return WANE_OK;
    leaf = new_node(at, known);
    if (!leaf || !reserve(leaf, count - known, (int)pages + 1)) goto full;
    link_child(at, leaf);
    for (int64_t t = known; t < count; t++)
        take_row(c, leaf, ids[t], (count - t + WANE_PAGE - 1) / WANE_PAGE);
    for (wane_leaf *n = leaf; n; n = n->parent) n->refs++;
    leaf->owned = true;
    *out = leaf;
    *shared = known;
    return WANE_OK;
full:
    if (leaf) free_node(leaf);
    return wane_fail(e, WANE_EOOM, "cache: no host memory for a sequence of %" PRId64 " tokens",
                     count);
}

wane_status wane_cache_append(wane_cache *c, wane_leaf *n, int32_t id, int64_t *row, wane_err *e)
{
    *row = -1;
    if (!tail(c, last_row(n)) && c->n_free == 0) return WANE_OK;
    if (!reserve(n, n->count + 1, n->n_span + 1))
        return wane_fail(e, WANE_EOOM, "cache: no host memory for one more token");
    take_row(c, n, id, 1);
    *row = last_row(n);
    return WANE_OK;
}

wane_status wane_cache_reserve(wane_cache *c, wane_leaf *n, int64_t count, int64_t *rows,
                               wane_err *e)
{
    enum { UNKNOWN = -1 }; /* no token's id: nobody finds it */
    int64_t row = 0;
    wane_status s = WANE_OK;
    for (*rows = 0; *rows < count && !s && row >= 0;) {
        s = wane_cache_append(c, n, UNKNOWN, &row, e);
        *rows += !s && row >= 0;
    }
    return s;
}

void wane_cache_settle(wane_cache *c, wane_leaf *n, const int32_t *ids, int64_t count)
{
    int64_t own = count - n->start;
    if (own < n->count) truncate_node(c, n, own);
    memcpy(n->ids, ids + n->start, (size_t)n->count * sizeof *ids);
}

/* Removes a node without sequences or children, as far as its tokens go beyond keep. */
static void shrink(wane_cache *c, wane_leaf *n, int64_t keep)
{
    if (n->start + n->count > keep) truncate_node(c, n, keep > n->start ? keep - n->start : 0);
    if (n->count > 0) return;
    unlink_child(n);
    free_node(n);
}

void wane_cache_leave(wane_cache *c, wane_leaf *n, int64_t keep)
{
    n->owned = false;
    while (n != &c->root) {
        wane_leaf *up = n->parent;
        if (--n->refs == 0 && !n->child) shrink(c, n, keep);
        n = up;
    }
    c->root.refs--;
}

/* What is unused has only unused below it. */
static void drop_below(wane_cache *c, wane_leaf *n)
{
    for (wane_leaf *child = n->child, *next; child; child = next) {
        next = child->next;
        drop_below(c, child);
        if (child->refs == 0) shrink(c, child, 0);
    }
}

void wane_cache_drop_unused(wane_cache *c)
{
    drop_below(c, &c->root);
}

int wane_cache_spans(const wane_leaf *n, int64_t from, int64_t to, wane_span *out)
{
    int spans = 0;
    for (; n && n->start + n->count > from; n = n->parent) { /* last span first */
        int64_t end = n->start + n->count;
        for (int i = n->n_span - 1; i >= 0; i--) {
            int64_t begin = end - n->span[i].count;
            int64_t low = begin > from ? begin : from, high = end < to ? end : to;
            int64_t row = n->span[i].row + low - begin;
            end = begin;
            if (low >= high) continue;
            if (spans && out[spans - 1].row == row + high - low) {
                out[spans - 1].row = (int32_t)row;
                out[spans - 1].count += (int32_t)(high - low);
            } else {
                out[spans++] = (wane_span){(int32_t)row, (int32_t)(high - low)};
            }
        }
    }
    for (int i = 0; i < spans / 2; i++) {
        wane_span swap = out[i];
        out[i] = out[spans - 1 - i];
        out[spans - 1 - i] = swap;
    }
    return spans;
}
