/* test_batch.c - batches against a plain reference: every token of every sequence finds a row whose
 * run and spans are exactly the tokens before it, and every distinct prefix counts once. */
#include "tests/c/test.h"
#include "tests/c/faults.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/batch.h"

enum { MOST_SEQUENCES = 24, MOST_TOKENS = 20 };

typedef struct {
    wane_sequence s[MOST_SEQUENCES];
    int32_t ids[MOST_SEQUENCES][MOST_TOKENS];
    float weight[MOST_SEQUENCES][MOST_TOKENS];
    int n;
} set;

static uint64_t seed;
static int roll(int below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (unsigned)below);
}

static bool same_prefix(const wane_sequence *a, const wane_sequence *b, int64_t count)
{
    return a->count >= count && b->count >= count &&
           !memcmp(a->ids, b->ids, (size_t)count * sizeof *a->ids);
}

/* The rows that a row sees, itself last; gives their number. */
static int64_t seen(const wane_batch *b, int64_t row, int64_t *rows)
{
    int64_t n = 0;
    for (int r = 0; r < b->n_runs; r++) {
        const wane_run *run = &b->runs[r];
        if (row < run->query || row >= run->query + run->count) continue;
        for (int p = 0; p < run->n_spans; p++) {
            const wane_span *span = &b->spans[run->span + p];
            for (int i = 0; i < span->count; i++) rows[n++] = span->row + i;
        }
        for (int64_t i = run->row; i <= row; i++) rows[n++] = i;
        return n;
    }
    return 0;
}

static void check_shape(const wane_batches *b, int64_t most)
{
    int64_t rows = 0;
    for (int i = 0; i < b->count; i++) {
        const wane_batch *one = &b->batch[i];
        int64_t next = 0;
        int spans = 0;
        assert_true(one->n > 0);
        for (int r = 0; r < one->n_runs; r++) {
            assert_int_equal(one->runs[r].query, next);
            assert_int_equal(one->runs[r].row, next);
            assert_true(one->runs[r].count > 0);
            assert_int_equal(one->runs[r].span, spans);
            next += one->runs[r].count;
            spans += one->runs[r].n_spans;
        }
        assert_int_equal(next, one->n);
        assert_int_equal(spans, one->n_spans);
        /* only one sequence that is longer may be over the limit: then it is one run */
        if (one->n > most) assert_int_equal(one->n_runs, 1);
        rows += one->n;
    }
    assert_int_equal(rows, b->rows);
}

static void check_places(const set *t, const wane_batches *b)
{
    int64_t rows[MOST_SEQUENCES * MOST_TOKENS], tokens = 0;
    for (int s = 0; s < t->n; s++) {
        tokens += t->s[s].count;
        for (int64_t i = 0; i < t->s[s].count; i++) {
            wane_place at = b->at[b->first[s] + i];
            assert_int_equal(at.batch, b->at[b->first[s]].batch);
            assert_in_range(at.batch, 0, b->count - 1);
            const wane_batch *one = &b->batch[at.batch];
            assert_in_range(at.row, 0, one->n - 1);
            assert_int_equal(one->position[at.row], i);
            assert_int_equal(seen(one, at.row, rows), i + 1);
            for (int64_t j = 0; j <= i; j++) {
                assert_int_equal(one->ids[rows[j]], t->s[s].ids[j]);
                assert_int_equal(one->position[rows[j]], j);
            }
        }
    }
    assert_int_equal(tokens, b->tokens);
}

/* Every distinct prefix has one row in each batch that needs it, and its weight in just one. */
static void check_weights(const set *t, const wane_batches *b, wane_weighing weighing)
{
    int64_t distinct = 0;
    bool *reached[MOST_SEQUENCES * MOST_TOKENS];
    for (int i = 0; i < b->count; i++)
        assert_non_null(reached[i] = calloc((size_t)b->batch[i].n, sizeof(bool)));
    for (int s = 0; s < t->n; s++) {
        for (int64_t count = 1; count <= t->s[s].count; count++) {
            float wanted = 0, most = 0, sum = 0;
            int carriers = 0;
            bool first = true;
            int32_t row[MOST_SEQUENCES * MOST_TOKENS];
            memset(row, -1, sizeof row);
            for (int o = 0; o < t->n; o++) {
                if (!same_prefix(&t->s[s], &t->s[o], count)) continue;
                if (o < s) first = false;
                float w = t->s[o].weight ? t->s[o].weight[count - 1] : 1;
                if (weighing == WANE_WEIGH_ALL) wanted += w;
                if (w > most) most = w;
                wane_place at = b->at[b->first[o] + count - 1];
                if (row[at.batch] < 0) {
                    float got = b->batch[at.batch].weight[at.row];
                    row[at.batch] = at.row;
                    sum += got;
                    carriers += got > 0;
                    reached[at.batch][at.row] = true;
                }
                assert_int_equal(row[at.batch], at.row);
            }
            if (weighing == WANE_WEIGH_UNIQUE) wanted = most;
            assert_true(fabsf(sum - wanted) <= 1e-5f * wanted);
            assert_int_equal(carriers, wanted > 0);
            distinct += first && wanted > 0;
        }
    }
    assert_int_equal(distinct, b->distinct);
    for (int i = 0; i < b->count; i++) {
        for (int64_t r = 0; r < b->batch[i].n; r++) assert_true(reached[i][r]);
        free(reached[i]);
    }
}

static void check(const set *t, int64_t most, wane_weighing weighing)
{
    wane_batches *b;
    wane_err e;
    assert_int_equal(wane_batches_new(t->s, t->n, most, weighing, &b, &e), WANE_OK);
    check_shape(b, most);
    check_places(t, b);
    check_weights(t, b, weighing);
    wane_batches_free(b);
}

static void random_sets(void **state)
{
    (void)state;
    for (int round = 0; round < 600; round++) {
        set t = {.n = roll(MOST_SEQUENCES + 1)};
        int letters = 1 + roll(4);
        seed = (uint64_t)round;
        for (int s = 0; s < t.n; s++) {
            int64_t shared = 0, count = roll(MOST_TOKENS + 1);
            if (s > 0 && roll(2)) { /* begin as another does, up to all of it */
                int other = roll(s);
                shared = roll((int)t.s[other].count + 1);
                memcpy(t.ids[s], t.ids[other], sizeof t.ids[s]);
                if (roll(4) == 0) shared = count = t.s[other].count;
            }
            for (int64_t i = shared; i < count; i++) t.ids[s][i] = roll(letters);
            for (int64_t i = 0; i < count; i++) t.weight[s][i] = roll(3) * 0.5f;
            t.s[s] = (wane_sequence){t.ids[s], roll(2) ? t.weight[s] : NULL, count};
        }
        check(&t, 1 + roll(40), round % 2 ? WANE_WEIGH_ALL : WANE_WEIGH_UNIQUE);
        check(&t, INT64_MAX, round % 2 ? WANE_WEIGH_UNIQUE : WANE_WEIGH_ALL);
    }
}

static void known_layouts(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, 2, 3, 4, 5}, other[] = {1, 2, 9};
    wane_sequence s[] = {{ids, NULL, 5}, {other, NULL, 3}, {ids, NULL, 3}, {ids, NULL, 5}};
    wane_batches *b;
    wane_err e;

    /* a prefix and a duplicate add nothing; the other branches off after two rows */
    assert_int_equal(wane_batches_new(s, 4, 100, WANE_WEIGH_ALL, &b, &e), WANE_OK);
    assert_int_equal(b->count, 1);
    assert_int_equal(b->rows, 6);
    assert_int_equal(b->distinct, 6);
    assert_int_equal(b->tokens, 16);
    const wane_batch *one = b->batch;
    assert_int_equal(one->n_runs, 2);
    assert_int_equal(one->runs[0].count, 5);
    assert_int_equal(one->runs[1].count, 1);
    assert_int_equal(one->n_spans, 1);
    assert_int_equal(one->spans[0].row, 0);
    assert_int_equal(one->spans[0].count, 2);
    static const float weight[] = {4, 4, 3, 2, 2, 1};
    assert_memory_equal(one->weight, weight, sizeof weight);
    wane_batches_free(b);

    /* too small for both: the shared rows are computed twice and weighed once */
    assert_int_equal(wane_batches_new(s, 2, 5, WANE_WEIGH_UNIQUE, &b, &e), WANE_OK);
    assert_int_equal(b->count, 2);
    assert_int_equal(b->rows, 8);
    assert_int_equal(b->distinct, 6);
    static const float again[] = {0, 0, 1};
    assert_memory_equal(b->batch[1].weight, again, sizeof again);
    wane_batches_free(b);
}

static void edges(void **state)
{
    (void)state;
    static const int32_t id = 7;
    wane_sequence one = {&id, NULL, 1}, none = {NULL, NULL, 0}, bad = {&id, NULL, -1};
    wane_batches *b;
    wane_err e;
    assert_int_equal(wane_batches_new(NULL, 0, 1, WANE_WEIGH_ALL, &b, &e), WANE_OK);
    assert_int_equal(b->count, 0);
    assert_int_equal(b->rows, 0);
    wane_batches_free(b);
    assert_int_equal(wane_batches_new(&none, 1, 1, WANE_WEIGH_ALL, &b, &e), WANE_OK);
    assert_int_equal(b->count, 0);
    wane_batches_free(b);
    assert_int_equal(wane_batches_new(&one, 1, 1, WANE_WEIGH_ALL, &b, &e), WANE_OK);
    assert_int_equal(b->count, 1);
    assert_int_equal(b->batch[0].ids[0], 7);
    assert_int_equal(b->batch[0].n_runs, 1);
    assert_int_equal(b->batch[0].n_spans, 0);
    wane_batches_free(b);
    assert_int_equal(wane_batches_new(&one, 1, 0, WANE_WEIGH_ALL, &b, &e), WANE_EARG);
    assert_null(b);
    assert_int_equal(wane_batches_new(&bad, 1, 5, WANE_WEIGH_ALL, &b, &e), WANE_EARG);
    assert_non_null(strstr(e.message, "sequence 1"));
    wane_batches_free(NULL);
}

static void host_memory(void **state)
{
    (void)state;
    static const int32_t ids[] = {1, 2, 3, 4, 5}, other[] = {1, 2, 9};
    wane_sequence s[] = {{ids, NULL, 5}, {other, NULL, 3}, {ids, NULL, 3}};
    wane_batches *b;
    wane_err e;
    bool failed = true;
    int n = 0;
    for (; failed; n++) {
        test_malloc_fail_after(n);
        wane_status status = wane_batches_new(s, 3, 5, WANE_WEIGH_ALL, &b, &e);
        failed = test_malloc_failed();
        test_malloc_fail_after(-1);
        assert_int_equal(status, failed ? WANE_EOOM : WANE_OK);
        assert_true(failed == !b);
        wane_batches_free(b);
    }
    assert_true(n > 15);
}

/* A deep comb and many equal beginnings: what would be quadratic, were each token read for each
 * other sequence. */
static void large(void **state)
{
    (void)state;
    enum { N = 1500 };
    int32_t *ends = malloc(N * (N + 1) * sizeof *ends);
    wane_sequence *s = malloc(N * sizeof *s);
    wane_batches *b;
    wane_err e;
    assert_true(ends && s);
    for (int i = 0; i < N; i++) {
        int32_t *own = ends + (int64_t)i * (N + 1);
        for (int t = 0; t < i; t++) own[t] = 5;
        own[i] = 4;
        s[N - 1 - i] = (wane_sequence){own, NULL, i + 1};
    }
    assert_int_equal(wane_batches_new(s, N, INT64_MAX, WANE_WEIGH_UNIQUE, &b, &e), WANE_OK);
    assert_int_equal(b->count, 1);
    assert_int_equal(b->distinct, 2 * N - 1);
    wane_batches_free(b);
    free(ends);
    free(s);
}

int test_batch(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_sets),
                                       cmocka_unit_test(known_layouts), cmocka_unit_test(edges),
                                       cmocka_unit_test(host_memory), cmocka_unit_test(large)};
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
