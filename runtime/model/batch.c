/* batch.c - see batch.h. Sequences become depth-first tries of rows.
 *
 * Sequences are sorted by their ids; then what a sequence shares with those before it is what it
 * shares with the one just before it, and only the rest of it are new rows. So the trie is never
 * built: one path (the spans from the root to the end of the last sequence) is cut back to the
 * shared length and grown by the new rows. A run is what one sequence added; it begins where its
 * sequence branches off, which may be in the middle of an earlier run.
 *
 * Sorting is a merge sort: each comparison reads at most the tokens of the sequence it puts out,
 * so a pass over all sequences reads each token once, and there are log2(sequences) passes. */
#include "runtime/model/batch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

int64_t wane_sequences_shared(const wane_sequence *a, const wane_sequence *b)
{
    int64_t most = a->count < b->count ? a->count : b->count, t = 0;
    while (t < most && a->ids[t] == b->ids[t]) t++;
    return t;
}

/* Whether b sorts before a: the shorter first where one begins the other. */
static bool falls(const wane_sequence *a, const wane_sequence *b)
{
    int64_t t = wane_sequences_shared(a, b);
    if (t == b->count) return t < a->count;
    return t < a->count && b->ids[t] < a->ids[t];
}

/* Equal ones stay in order. */
wane_status wane_sequences_sort(const wane_sequence *s, int64_t n, int64_t *order, wane_err *e)
{
    int64_t *spare = malloc(((size_t)n + 1) * sizeof *spare), *from = order, *to = spare;
    if (!spare) return wane_fail(e, WANE_EOOM, "no host memory to sort %" PRId64 " sequences", n);
    for (int64_t i = 0; i < n; i++) from[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t low = 0; low < n; low += 2 * width) {
            int64_t mid = low + width < n ? low + width : n;
            int64_t high = mid + width < n ? mid + width : n;
            int64_t a = low, b = mid;
            for (int64_t i = low; i < high; i++) {
                bool second = a == mid || (b < high && falls(&s[from[a]], &s[from[b]]));
                to[i] = second ? from[b++] : from[a++];
            }
        }
        int64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != order) memcpy(order, from, (size_t)n * sizeof *order);
    free(spare);
    return WANE_OK;
}

/* What the layout works on; everything but the result is freed by its end. */
typedef struct {
    const wane_sequence *s;
    int64_t *order, *shared; /* [n]: sorted indices; tokens each shares with the one before it */
    int32_t *start;          /* [n]: the batch of each sorted sequence */
    wane_span *path;         /* [longest] spans from the root to the end of the last sequence */
    wane_place *counted;     /* [longest] the row that counts for each token of the last sequence */
    int n_path;
    wane_batches *out;
} layout;

/* Cuts the path back to its first t tokens. */
static void cut(layout *l, int64_t t)
{
    int i = 0;
    for (; t > 0; i++) {
        if (l->path[i].count > t) l->path[i].count = (int32_t)t;
        t -= l->path[i].count;
    }
    l->n_path = i;
}

/* Adds the rows of sequence s from token `shared` on, which end the path, to the batch; only counts
 * them while the batch has no arrays yet. False where the spans are too many to count. */
static bool grow(layout *l, wane_batch *b, const wane_sequence *s, int64_t shared)
{
    int32_t added = (int32_t)(s->count - shared), row = (int32_t)b->n;
    if (added == 0) return true;
    for (int64_t t = shared; b->ids && t < s->count; t++) {
        b->ids[row + t - shared] = s->ids[t];
        b->position[row + t - shared] = (int32_t)t;
    }
    b->n += added;
    wane_span *last = l->n_path ? &l->path[l->n_path - 1] : NULL;
    if (last && last->row + last->count == row) {
        /* the one before is the beginning of this one: its run goes on */
        last->count += added;
        if (b->runs) b->runs[b->n_runs - 1].count += added;
        return true;
    }
    if (b->runs) {
        b->runs[b->n_runs] = (wane_run){row, added, row, b->n_spans, l->n_path};
        memcpy(b->spans + b->n_spans, l->path, (size_t)l->n_path * sizeof *l->path);
    }
    b->n_runs++;
    if (__builtin_add_overflow(b->n_spans, l->n_path, &b->n_spans)) return false;
    l->path[l->n_path++] = (wane_span){row, added};
    return true;
}

/* Splits the sorted sequences into batches of at most `most` rows. */
static void split(layout *l, int64_t sequences, int64_t most)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < sequences; i++) {
        const wane_sequence *s = &l->s[l->order[i]];
        int64_t added = s->count - l->shared[i];
        if (s->count == 0) continue;
        if (l->out->count == 0 || rows + added > most) {
            l->out->count++;
            rows = 0;
            added = s->count;
        }
        rows += added;
        l->start[i] = l->out->count - 1;
    }
}

/* Notes where each token of sequence i (its place in the caller's list) lies, and weighs its rows:
 * those of its first `known` tokens are where the sequence before it had them. */
static void place(layout *l, int64_t i, int32_t batch, int64_t known, wane_weighing weighing)
{
    const wane_sequence *s = &l->s[i];
    wane_place *at = l->out->at + l->out->first[i];
    int64_t t = 0;
    for (int p = 0; p < l->n_path; p++)
        for (int32_t r = 0; r < l->path[p].count; r++, t++)
            at[t] = (wane_place){batch, l->path[p].row + r};
    for (t = 0; t < s->count; t++) {
        if (t >= known) l->counted[t] = at[t];
        float weight = s->weight ? s->weight[t] : 1;
        float *sum = &l->out->batch[l->counted[t].batch].weight[l->counted[t].row];
        if (weighing == WANE_WEIGH_ALL)
            *sum += weight;
        else if (weight > *sum)
            *sum = weight;
    }
}

/* Lays every sequence out: counts rows, runs and spans where the batches have no arrays yet, else
 * fills them. False where they are too many to count. */
static bool lay(layout *l, int64_t sequences, wane_weighing weighing)
{
    int32_t last = -1;
    for (int64_t i = 0; i < sequences; i++) {
        const wane_sequence *s = &l->s[l->order[i]];
        if (s->count == 0) continue;
        wane_batch *b = &l->out->batch[l->start[i]];
        int64_t shared = l->start[i] == last ? l->shared[i] : 0;
        last = l->start[i];
        cut(l, shared);
        if (!grow(l, b, s, shared)) return false;
        if (b->weight) place(l, l->order[i], last, l->shared[i], weighing);
    }
    return true;
}

static bool allocate(wane_batches *out)
{
    for (int i = 0; i < out->count; i++) {
        wane_batch *b = &out->batch[i];
        b->ids = calloc((size_t)b->n, sizeof *b->ids);
        b->position = calloc((size_t)b->n, sizeof *b->position);
        b->weight = calloc((size_t)b->n, sizeof *b->weight);
        b->runs = calloc((size_t)b->n_runs, sizeof *b->runs);
        b->spans = calloc((size_t)b->n_spans + 1, sizeof *b->spans);
        if (!b->ids || !b->position || !b->weight || !b->runs || !b->spans) return false;
        out->rows += b->n;
        b->n = b->n_runs = b->n_spans = 0;
    }
    return true;
}

static void count_distinct(wane_batches *out)
{
    for (int i = 0; i < out->count; i++)
        for (int64_t r = 0; r < out->batch[i].n; r++) out->distinct += out->batch[i].weight[r] > 0;
}

/* The sizes of what the caller gave; EARG where they cannot be. */
static wane_status check(const wane_sequence *s, int64_t n, int64_t most, int64_t *tokens,
                         int64_t *longest, wane_err *e)
{
    *tokens = *longest = 0;
    if (most < 1 || n < 0)
        return wane_fail(e, WANE_EARG, "batches: a batch has at least one row, not %" PRId64, most);
    for (int64_t i = 0; i < n; i++) {
        if (s[i].count < 0 || s[i].count > INT32_MAX / 2 ||
            __builtin_add_overflow(*tokens, s[i].count, tokens) || *tokens > INT64_MAX / 64)
            return wane_fail(e, WANE_EARG, "batches: sequence %" PRId64 " has %" PRId64 " tokens",
                             i + 1, s[i].count);
        if (s[i].count > *longest) *longest = s[i].count;
    }
    return WANE_OK;
}

wane_status wane_batches_new(const wane_sequence *s, int64_t n, int64_t most,
                             wane_weighing weighing, wane_batches **out, wane_err *e)
{
    int64_t tokens, longest;
    layout l = {.s = s};
    *out = NULL;
    wane_status status = check(s, n, most, &tokens, &longest, e);
    if (status) return status;
    if (most > INT32_MAX / 2) most = INT32_MAX / 2;

    l.order = calloc((size_t)n + 1, sizeof *l.order);
    l.shared = calloc((size_t)n + 1, sizeof *l.shared);
    l.start = calloc((size_t)n + 1, sizeof *l.start);
    l.path = calloc((size_t)longest + 1, sizeof *l.path);
    l.counted = calloc((size_t)longest + 1, sizeof *l.counted);
    l.out = calloc(1, sizeof *l.out);
    if (l.out) {
        l.out->first = calloc((size_t)n + 1, sizeof *l.out->first);
        l.out->at = calloc((size_t)tokens + 1, sizeof *l.out->at);
    }
    if (!l.order || !l.shared || !l.start || !l.path || !l.counted || !l.out || !l.out->first ||
        !l.out->at) {
        status = wane_fail(e, WANE_EOOM, "batches: no host memory for %" PRId64 " tokens", tokens);
        goto done;
    }
    l.out->tokens = tokens;
    for (int64_t i = 1; i < n; i++) l.out->first[i] = l.out->first[i - 1] + s[i - 1].count;
    if ((status = wane_sequences_sort(s, n, l.order, e))) goto done;
    for (int64_t i = 1; i < n; i++)
        l.shared[i] = wane_sequences_shared(&s[l.order[i - 1]], &s[l.order[i]]);
    split(&l, n, most);
    l.out->batch = calloc((size_t)l.out->count + 1, sizeof *l.out->batch);
    if (!l.out->batch || !lay(&l, n, weighing) || !allocate(l.out)) {
        status = wane_fail(e, WANE_EOOM,
                           "batches: no host memory for the rows of %" PRId64 " tokens", tokens);
        goto done;
    }
    lay(&l, n, weighing);
    count_distinct(l.out);
    *out = l.out;
    l.out = NULL;
done:
    free(l.order);
    free(l.shared);
    free(l.start);
    free(l.path);
    free(l.counted);
    wane_batches_free(l.out);
    return status;
}

void wane_batch_part(const wane_batch *b, int64_t first, int64_t rows, wane_run *runs, int *n_runs,
                     wane_span *spans, int *n_spans)
{
    *n_runs = *n_spans = 0;
    for (int i = 0; i < b->n_runs; i++) {
        const wane_run *run = &b->runs[i];
        int64_t low = run->query > first ? run->query : first;
        int64_t high = run->query + run->count;
        if (high > first + rows) high = first + rows;
        if (low >= high) continue;
        int32_t before = (int32_t)(low - run->query); /* the run's own rows, now rows of the pool */
        int n = run->n_spans + (before > 0);
        if (runs)
            runs[*n_runs] = (wane_run){(int32_t)(low - first), (int32_t)(high - low), (int32_t)low,
                                       *n_spans, n};
        if (spans) {
            memcpy(spans + *n_spans, b->spans + run->span, (size_t)run->n_spans * sizeof *spans);
            if (before) spans[*n_spans + n - 1] = (wane_span){run->row, before};
        }
        ++*n_runs;
        *n_spans += n;
    }
}

void wane_batches_free(wane_batches *b)
{
    if (!b) return;
    for (int i = 0; b->batch && i < b->count; i++) {
        free(b->batch[i].ids);
        free(b->batch[i].position);
        free(b->batch[i].weight);
        free(b->batch[i].runs);
        free(b->batch[i].spans);
    }
    free(b->batch);
    free(b->first);
    free(b->at);
    free(b);
}
