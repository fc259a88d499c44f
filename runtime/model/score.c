/* score.c - log-probabilities of given tokens. See forward.h.
 *
 * Sequences become tries (batch.h), so what they share is computed once. A token's log-probability
 * is log softmax of the logits of the row before it in its sequence, its parent; one logit row is
 * computed for each row of the trie that is asked for, not for each token of each sequence, and
 * none for tokens of weight 0. A batch larger than a pass goes through in parts: its earlier rows
 * are then spans of the pool. */
#include "runtime/model/forward.h"

#include <inttypes.h>
#include <stdlib.h>

#include "runtime/model/workspace.h"

enum {
    POOL_PASSES = 8,
    LOGIT_SHARE = 4
}; /* a pool of so many passes; of its rows, logits at once */

typedef struct {
    wane_model *model;
    const wane_sequence *s;
    int64_t n;
    wane_batches *batches;
    wane_sizes sizes;
    wane_workspace work;
    int64_t *base; /* [batches + 1] rows of the batches before */
    bool *wanted;  /* [rows of all batches] */
    float *value;  /* [rows] log-probability of the row's token */
    int32_t *best; /* [rows] the likeliest token in its place; NULL: not asked */
    int32_t *first_child, *next_child; /* [largest batch] children that are wanted; -1 ends */
    wane_run *runs;                    /* [sizes.runs] */
    wane_span *spans;                  /* [sizes.spans] */
    int32_t *row, *id, *child;         /* [logit_rows] of the logits being computed */
    float *got;                        /* [logit_rows] */
} scoring;

static wane_status check(const scoring *t, wane_err *e)
{
    int64_t positions = t->model->config->positions, vocabulary = t->model->config->vocabulary;
    for (int64_t i = 0; i < t->n; i++) {
        const wane_sequence *s = &t->s[i];
        if (s->count > positions)
            return wane_fail(e, WANE_EARG,
                             "score: text %" PRId64 " has %" PRId64
                             " tokens; this model takes %" PRId64 " at most",
                             i + 1, s->count, positions);
        for (int64_t k = 0; k < s->count; k++)
            if (s->ids[k] < 0 || s->ids[k] >= vocabulary)
                return wane_fail(e, WANE_EARG,
                                 "score: text %" PRId64 " has id %" PRId32
                                 "; the vocabulary has %" PRId64,
                                 i + 1, s->ids[k], vocabulary);
    }
    return WANE_OK;
}

/* Batches of at most sizes.pool_rows rows, and how many runs and spans their parts have. */
static wane_status pack(scoring *t, wane_err *e)
{
    wane_sizes *z = &t->sizes;
    int64_t largest = 0;
    wane_batches_free(t->batches);
    wane_status status =
        wane_batches_new(t->s, t->n, z->pool_rows, WANE_WEIGH_UNIQUE, &t->batches, e);
    if (status) return status;
    z->runs = z->spans = 0;
    for (int i = 0; i < t->batches->count; i++) {
        const wane_batch *b = &t->batches->batch[i];
        if (b->n > largest) largest = b->n;
        for (int64_t at = 0; at < b->n; at += z->rows) {
            int runs, spans;
            int64_t rows = b->n - at < z->rows ? b->n - at : z->rows;
            wane_batch_part(b, at, rows, NULL, &runs, NULL, &spans);
            if (runs > z->runs) z->runs = runs;
            if (spans > z->spans) z->spans = spans;
        }
    }
    z->pool_rows = largest;
    if (z->rows > largest) z->rows = largest;
    if (z->logit_rows > z->rows) z->logit_rows = z->rows;
    return WANE_OK;
}

/* Packs so that the workspace fits what is free: fewer sequences together, then fewer rows a pass.
 */
static wane_status plan(scoring *t, wane_err *e)
{
    wane_device *d = t->model->device;
    int64_t longest = 1, rows = wane_rows_most(d), pool = rows * POOL_PASSES;
    for (int64_t i = 0; i < t->n; i++)
        if (t->s[i].count > longest) longest = t->s[i].count;
    t->sizes = (wane_sizes){.rows = rows,
                            .pool_rows = longest > pool ? longest : pool,
                            .logit_rows = rows / LOGIT_SHARE};
    for (;;) {
        wane_status status = pack(t, e);
        if (status || t->batches->count == 0) return status;
        uint64_t bytes = wane_workspace_bytes(t->model, &t->sizes);
        if (bytes <= wane_workspace_room(d)) return WANE_OK;
        pool = t->sizes.pool_rows;
        if (pool > longest)
            t->sizes.pool_rows = pool / 2 > longest ? pool / 2 : longest;
        else if (!wane_sizes_halve(t->model, &t->sizes))
            return wane_workspace_short(d, "score", bytes, "raise memory = or take shorter texts",
                                        e);
    }
}

static wane_status allocate(scoring *t, bool best, wane_err *e)
{
    const wane_batches *b = t->batches;
    size_t rows = (size_t)b->rows, logits = (size_t)t->sizes.logit_rows;
    size_t largest = (size_t)t->sizes.pool_rows;
    t->base = calloc((size_t)b->count + 1, sizeof *t->base);
    t->wanted = calloc(rows, sizeof *t->wanted);
    t->value = calloc(rows, sizeof *t->value);
    t->best = best ? calloc(rows, sizeof *t->best) : NULL;
    t->first_child = calloc(largest, sizeof *t->first_child);
    t->next_child = calloc(largest, sizeof *t->next_child);
    t->runs = calloc((size_t)t->sizes.runs, sizeof *t->runs);
    t->spans = calloc((size_t)t->sizes.spans + 1, sizeof *t->spans);
    t->row = calloc(logits, sizeof *t->row);
    t->id = calloc(logits, sizeof *t->id);
    t->child = calloc(logits, sizeof *t->child);
    t->got = calloc(logits, sizeof *t->got);
    if (!t->base || !t->wanted || !t->value || (best && !t->best) || !t->first_child ||
        !t->next_child || !t->runs || !t->spans || !t->row || !t->id || !t->child || !t->got)
        return wane_fail(e, WANE_EOOM, "score: no host memory for %zu rows", rows);
    for (int i = 0; i < b->count; i++) t->base[i + 1] = t->base[i] + b->batch[i].n;
    return WANE_OK;
}

/* The row of token i of sequence s, counted over all batches. */
static int64_t row_of(const scoring *t, int64_t s, int64_t i)
{
    wane_place at = t->batches->at[t->batches->first[s] + i];
    return t->base[at.batch] + at.row;
}

static bool asked(const wane_sequence *s, int64_t i)
{
    return i > 0 && (!s->weight || s->weight[i] > 0);
}

/* Lists the wanted rows of a batch under their parents. */
static void list_children(scoring *t, int which)
{
    const wane_batch *b = &t->batches->batch[which];
    for (int64_t r = 0; r < b->n; r++) t->first_child[r] = -1;
    for (int i = b->n_runs - 1; i >= 0; i--) {
        const wane_run *run = &b->runs[i];
        for (int32_t r = run->row + run->count - 1; r >= run->row; r--) {
            int32_t parent = r - 1;
            if (r == run->row) {
                if (run->n_spans == 0) continue;
                const wane_span *last = &b->spans[run->span + run->n_spans - 1];
                parent = last->row + last->count - 1;
            }
            if (!t->wanted[t->base[which] + r]) continue;
            t->next_child[r] = t->first_child[parent];
            t->first_child[parent] = r;
        }
    }
}

/* The logits of `count` rows of the pass, as values of their children. */
static wane_status value_rows(scoring *t, int which, int64_t count, wane_err *e)
{
    wane_device *d = t->model->device;
    wane_mat logits = wane_mat_rows(wane_tensor_mat(t->work.logits), 0, count);
    wane_mat ids = wane_mat_rows(wane_tensor_mat(t->work.ids), 0, count);
    wane_mat value = wane_mat_rows(wane_tensor_mat(t->work.value), 0, count);
    size_t bytes = (size_t)count * sizeof(int32_t);
    wane_status status = wane_pass_logits(t->work.pass, t->row, count, logits, e);
    if (!status) status = WANE_CALL(d, e, put, ids.data, t->id, bytes);
    if (!status) status = WANE_CALL(d, e, log_prob, value, logits, ids);
    if (!status && t->best) status = WANE_CALL(d, e, argmax, ids, logits);
    if (!status) status = WANE_CALL(d, e, get, t->got, value.data, bytes);
    if (!status && t->best) status = WANE_CALL(d, e, get, t->id, ids.data, bytes);
    for (int64_t i = 0; i < count && !status; i++) {
        int64_t row = t->base[which] + t->child[i];
        t->value[row] = t->got[i];
        if (t->best) t->best[row] = t->id[i];
    }
    return status;
}

/* Rows first .. first+rows-1 of a batch: through the model, then the values of their children. */
static wane_status score_part(scoring *t, int which, int64_t first, int64_t rows, wane_err *e)
{
    const wane_batch *b = &t->batches->batch[which];
    int n_runs, n_spans;
    int64_t count = 0;
    wane_batch_part(b, first, rows, t->runs, &n_runs, t->spans, &n_spans);
    int32_t *pool = malloc((size_t)rows * sizeof *pool);
    if (!pool) return wane_fail(e, WANE_EOOM, "score: no host memory for a pass");
    for (int64_t r = 0; r < rows; r++) pool[r] = (int32_t)(first + r);
    wane_status status = wane_pass_run(t->work.pass, rows, b->ids + first, b->position + first,
                                       pool, t->runs, n_runs, t->spans, n_spans, e);
    free(pool);
    for (int64_t r = 0; r < rows; r++) {
        for (int32_t c = t->first_child[first + r]; c >= 0 && !status; c = t->next_child[c]) {
            t->row[count] = (int32_t)r;
            t->id[count] = b->ids[c];
            t->child[count++] = c;
            if (count < t->sizes.logit_rows) continue;
            status = value_rows(t, which, count, e);
            count = 0;
        }
    }
    if (count && !status) status = value_rows(t, which, count, e);
    return status;
}

static wane_status score_all(scoring *t, wane_err *e)
{
    for (int64_t s = 0; s < t->n; s++)
        for (int64_t i = 0; i < t->s[s].count; i++)
            if (asked(&t->s[s], i)) t->wanted[row_of(t, s, i)] = true;
    for (int which = 0; which < t->batches->count; which++) {
        int64_t n = t->batches->batch[which].n;
        list_children(t, which);
        for (int64_t at = 0; at < n; at += t->sizes.rows) {
            int64_t rows = n - at < t->sizes.rows ? n - at : t->sizes.rows;
            wane_status status = score_part(t, which, at, rows, e);
            if (status) return status;
        }
    }
    return WANE_OK;
}

wane_status wane_model_score(wane_model *model, const wane_sequence *s, int64_t n,
                             const int64_t *first, float *out, int32_t *best, wane_err *e)
{
    scoring t = {.model = model, .s = s, .n = n};
    wane_status status = check(&t, e);
    if (status) return status;
    status = wane_model_load(model, e);
    if (!status) status = plan(&t, e);
    if (status || t.batches->count == 0) goto done;
    if ((status = allocate(&t, best != NULL, e))) goto done;
    if ((status = wane_workspace_new(model, &t.sizes, &t.work, e))) goto done;
    if ((status = score_all(&t, e))) goto done;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < s[i].count; k++) {
            int64_t row = row_of(&t, i, k);
            bool scored = asked(&s[i], k);
            out[first[i] + k] = scored ? t.value[row] : 0;
            if (best) best[first[i] + k] = scored ? t.best[row] : -1;
        }
    }
done:
    wane_workspace_free(&t.work);
    wane_batches_free(t.batches);
    free(t.base);
    free(t.wanted);
    free(t.value);
    free(t.best);
    free(t.first_child);
    free(t.next_child);
    free(t.runs);
    free(t.spans);
    free(t.row);
    free(t.id);
    free(t.child);
    free(t.got);
    if (status) wane_err_at(e, "score", NULL, NULL);
    return status;
}
