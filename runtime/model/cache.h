/* cache.h - which rows of a pool of keys and values hold which tokens.
 *
 * Rows are handed out in pages. What sequences have in common is one tree: a node is a stretch of
 * tokens with their rows, and every sequence that begins with the tokens down to a node sees the
 * same rows. A sequence ends in a leaf of its own, which it alone grows. The cache moves no data:
 * it only says which row a token takes, and the caller computes it. */
#ifndef WANE_CACHE_H
#define WANE_CACHE_H

#include "runtime/base/error.h"

enum { WANE_PAGE = 32 }; /* rows */

typedef struct wane_cache wane_cache;
typedef struct wane_leaf wane_leaf;

wane_status wane_cache_new(int64_t pages, wane_cache **out, wane_err *e);
void wane_cache_free(wane_cache *); /* with all leaves; NULL is fine */
int64_t wane_cache_free_pages(const wane_cache *);
/* More pages, behind those that are there. */
wane_status wane_cache_grow(wane_cache *, int64_t pages, wane_err *e);

/* A sequence comes in: rows for count >= 1 tokens. The first *shared of them (never the last) have
 * rows already; what other sequences have not computed yet is theirs to compute first. *out NULL:
 * not so many pages are free that `spare` would remain; nothing has changed. */
wane_status wane_cache_enter(wane_cache *, const int32_t *ids, int64_t count, int64_t spare,
                             wane_leaf **out, int64_t *shared, wane_err *e);

/* One more token at the end. *row -1: no page is free; nothing has changed. */
wane_status wane_cache_append(wane_cache *, wane_leaf *, int32_t id, int64_t *row, wane_err *e);

/* Rows for up to `count` more tokens at the end, whose ids are not known yet; *rows: how many there
 * are pages for. Before anything else is done with the leaf but asking for its spans, settle. */
wane_status wane_cache_reserve(wane_cache *, wane_leaf *, int64_t count, int64_t *rows,
                               wane_err *e);
/* ids [count] is all of the sequence: what was reserved and is none of it is free again. */
void wane_cache_settle(wane_cache *, wane_leaf *, const int32_t *ids, int64_t count);

/* The sequence goes. Its first `keep` tokens (all of them computed) stay for the next that enters
 * or until drop_unused, what other sequences share stays with them, the rest is free. */
void wane_cache_leave(wane_cache *, wane_leaf *, int64_t keep);

/* Frees what no sequence in the cache uses. */
void wane_cache_drop_unused(wane_cache *);

/* The rows of the leaf's tokens from .. to-1, in order and as few spans as can be; gives how many.
 * out has room for as many spans as the cache has pages: no more are ever needed. */
int wane_cache_spans(const wane_leaf *, int64_t from, int64_t to, wane_span *out);

#endif
