/* test_cache.c - the cache against a pool that remembers what was written: after any sequence of
 * entering, growing and leaving, every row a sequence sees still holds that sequence's tokens. */
#include "tests/c/test.h"
#include "tests/c/faults.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/model/cache.h"

enum { PAGES = 12, ROWS = PAGES * WANE_PAGE, LONGEST = 200, LIVING = 6 };

typedef struct {
    wane_leaf *leaf; /* NULL: not in the cache */
    int32_t ids[LONGEST];
    int64_t count;
} sequence;

typedef struct {
    wane_cache *cache;
    sequence s[LIVING];
    uint64_t pool[ROWS]; /* hash of the tokens up to the one in that row */
} world;

static uint64_t seed;
static int roll(int below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (unsigned)below);
}

static uint64_t hash(const int32_t *ids, int64_t count)
{
    uint64_t h = 14695981039346656037u;
    for (int64_t i = 0; i < count; i++) h = (h ^ (uint64_t)ids[i]) * 1099511628211u;
    return h;
}

static void row_list(const sequence *s, int64_t from, int64_t to, int32_t *rows)
{
    wane_span span[PAGES];
    int n = wane_cache_spans(s->leaf, from, to, span);
    int64_t at = 0;
    assert_in_range(n, 0, PAGES);
    for (int i = 0; i < n; i++) {
        assert_true(span[i].count > 0 && span[i].row >= 0 && span[i].row + span[i].count <= ROWS);
        if (i) assert_int_not_equal(span[i - 1].row + span[i - 1].count, span[i].row);
        for (int r = 0; r < span[i].count; r++) rows[at++] = span[i].row + r;
    }
    assert_int_equal(at, to - from);
}

static void check(const world *w)
{
    for (int i = 0; i < LIVING; i++) {
        const sequence *s = &w->s[i];
        int32_t rows[LONGEST], part[LONGEST];
        if (!s->leaf) continue;
        row_list(s, 0, s->count, rows);
        for (int64_t t = 0; t < s->count; t++) assert_true(w->pool[rows[t]] == hash(s->ids, t + 1));
        int64_t from = roll((int)s->count), to = from + roll((int)(s->count - from) + 1);
        row_list(s, from, to, part);
        assert_memory_equal(part, rows + from, (size_t)(to - from) * sizeof *part);
    }
}

static void write_rows(world *w, const sequence *s, int64_t from)
{
    int32_t rows[LONGEST];
    row_list(s, from, s->count, rows);
    for (int64_t t = from; t < s->count; t++) w->pool[rows[t - from]] = hash(s->ids, t + 1);
}

static void enter(world *w, sequence *s, int letters)
{
    wane_err e;
    int64_t shared = 0, before = wane_cache_free_pages(w->cache), copied = 0;
    sequence *other = &w->s[roll(LIVING)];
    s->count = 1 + roll(LONGEST / 2);
    if (other != s && other->count && roll(4)) {
        copied = 1 + roll((int)(other->count < s->count ? other->count : s->count));
        memmove(s->ids, other->ids, (size_t)copied * sizeof *s->ids);
    }
    for (int64_t t = copied; t < s->count; t++) s->ids[t] = roll(letters);
    assert_int_equal(wane_cache_enter(w->cache, s->ids, s->count, roll(2), &s->leaf, &shared, &e),
                     WANE_OK);
    if (!s->leaf) {
        assert_int_equal(before, wane_cache_free_pages(w->cache));
        return;
    }
    assert_in_range(shared, 0, s->count - 1);
    if (other != s && other->leaf && copied > 1) assert_true(shared > 0);
    write_rows(w, s, shared);
}

static void grow(world *w, sequence *s)
{
    wane_err e;
    for (int n = roll(50); n > 0 && s->count < LONGEST; n--) {
        int32_t id = roll(3), rows[1];
        int64_t row;
        assert_int_equal(wane_cache_append(w->cache, s->leaf, id, &row, &e), WANE_OK);
        if (row < 0) {
            assert_int_equal(wane_cache_free_pages(w->cache), 0);
            return;
        }
        s->ids[s->count++] = id;
        row_list(s, s->count - 1, s->count, rows);
        assert_int_equal(rows[0], row);
        write_rows(w, s, s->count - 1);
    }
}

static void random_lives(void **state)
{
    (void)state;
    for (int round = 0; round < 150; round++) {
        world w = {0};
        wane_err e;
        seed = (uint64_t)round;
        assert_int_equal(wane_cache_new(PAGES / 2, &w.cache, &e), WANE_OK);
        for (int step = 0; step < 120; step++) {
            if (step == 40) {
                int64_t free_pages = wane_cache_free_pages(w.cache);
                assert_int_equal(wane_cache_grow(w.cache, PAGES, &e), WANE_OK);
                assert_int_equal(wane_cache_free_pages(w.cache), free_pages + PAGES - PAGES / 2);
            }
            sequence *s = &w.s[roll(LIVING)];
            if (!s->leaf) {
                enter(&w, s, 1 + round % 3);
            } else if (roll(3)) {
                grow(&w, s);
            } else {
                wane_cache_leave(w.cache, s->leaf, roll(2) ? roll((int)s->count + 1) : 0);
                s->leaf = NULL;
                if (!roll(3)) wane_cache_drop_unused(w.cache);
            }
            check(&w);
        }
        for (int i = 0; i < LIVING; i++)
            if (w.s[i].leaf) wane_cache_leave(w.cache, w.s[i].leaf, roll(2) ? w.s[i].count : 0);
        wane_cache_drop_unused(w.cache);
        assert_int_equal(wane_cache_free_pages(w.cache), PAGES);
        wane_cache_free(w.cache);
    }
}

static void keeps_what_the_next_needs(void **state)
{
    (void)state;
    int32_t ids[100];
    for (int i = 0; i < 100; i++) ids[i] = i;
    wane_cache *c;
    wane_leaf *a, *b, *none;
    wane_err e;
    int64_t shared, row;
    assert_int_equal(wane_cache_new(4, &c, &e), WANE_OK);
    assert_int_equal(wane_cache_enter(c, ids, 100, 0, &a, &shared, &e), WANE_OK);
    assert_int_equal(shared, 0);
    assert_int_equal(wane_cache_free_pages(c), 0);
    /* the same again: all but its last token is shared, and that takes the rest of the last page */
    assert_int_equal(wane_cache_enter(c, ids, 100, 0, &b, &shared, &e), WANE_OK);
    assert_null(b);
    wane_cache_leave(c, a, 70);
    assert_int_equal(wane_cache_free_pages(c), 1);
    assert_int_equal(wane_cache_enter(c, ids, 100, 0, &b, &shared, &e), WANE_OK);
    assert_int_equal(shared, 70);
    assert_int_equal(wane_cache_enter(c, ids + 1, 1, 0, &none, &shared, &e), WANE_OK);
    assert_null(none);
    for (int i = 100; i < 128; i++) {
        assert_int_equal(wane_cache_append(c, b, 7, &row, &e), WANE_OK);
        assert_true(row >= 0);
    }
    assert_int_equal(wane_cache_append(c, b, 7, &row, &e), WANE_OK);
    assert_int_equal(row, -1);
    wane_cache_leave(c, b, 100);
    wane_cache_drop_unused(c);
    assert_int_equal(wane_cache_free_pages(c), 4);
    wane_cache_free(c);
    assert_int_equal(wane_cache_new(0, &c, &e), WANE_EARG);
    assert_null(c);
}

/* Every allocation of entering and growing fails once: nothing has changed, and it goes on. */
static void host_memory(void **state)
{
    (void)state;
    int32_t ids[100];
    for (int i = 0; i < 100; i++) ids[i] = i;
    wane_err e;
    bool failed = true;
    for (int n = 0; failed; n++) {
        wane_cache *c;
        wane_leaf *a, *b;
        int64_t shared, row = 0;
        test_malloc_fail_after(n);
        wane_status status = wane_cache_new(8, &c, &e);
        int64_t pages = 8;
        if (!status) status = wane_cache_enter(c, ids, 40, 0, &a, &shared, &e);
        if (!status) pages = wane_cache_free_pages(c);
        ids[30] = 7;
        if (!status) status = wane_cache_enter(c, ids, 60, 0, &b, &shared, &e);
        ids[30] = 30;
        if (!status) pages = -1;
        for (int i = 40; i < 100 && !status; i++)
            status = wane_cache_append(c, a, ids[i], &row, &e);
        failed = test_malloc_failed();
        test_malloc_fail_after(-1);
        assert_int_equal(status, failed ? WANE_EOOM : WANE_OK);
        assert_true(!status == (row > 0));
        if (c && pages >= 0) assert_int_equal(wane_cache_free_pages(c), pages);
        wane_cache_free(c);
    }
}

int test_cache(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_lives),
                                       cmocka_unit_test(host_memory),
                                       cmocka_unit_test(keeps_what_the_next_needs)};
    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
