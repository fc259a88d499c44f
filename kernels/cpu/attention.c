/* attention.c - attend: softmax(scale q k^T) v over spans of a pool of keys and values.
 *
 * The softmax is taken block of keys by block of keys, with a running maximum (Milakov and
 * Gimelshein 2018, "Online normalizer calculation for softmax", arXiv:1805.02867): scores of all
 * keys are never held at once. A task is one key head and a block of a run's queries with all the
 * query heads that share it, so a block of keys is read once for all of them. Few rows (a token
 * being generated) read keys as they are stored; many go through BLAS. */
#include <cblas.h>

#include "kernels/cpu/cpu.h"

enum {
    ROWS = 96,   /* query rows of a task: queries times the heads of a group */
    KEYS = 64,   /* keys of a block */
    WIDTH = 256, /* largest d */
    FEW = 16     /* rows below which BLAS does not pay */
};

typedef struct {
    float q[ROWS * WIDTH], sum[ROWS * WIDTH]; /* (rows,d) queries times scale; weighted values */
    float score[ROWS * KEYS];
    float key[KEYS * WIDTH], value[KEYS * WIDTH];
    float top[ROWS], weight[ROWS]; /* of each row: largest score so far, sum of exp(score - top) */
} attend_scratch;
_Static_assert(sizeof(attend_scratch) <= CPU_THREAD_BYTES, "attention's scratch");

typedef struct {
    wane_mat y, q, keys, values;
    const wane_attention *a;
    int group;   /* query heads of one key head */
    int queries; /* of a task */
} problem;

/* keys row .. row+n-1 of one head join the sums; query row r sees the first seen(r) of them, which
 * is all (first_query < 0) or as many as run before it. */
static void attend_block(const wane_dev *d, const problem *p, attend_scratch *s, int rows,
                         int kv_head, int64_t row, int n, int64_t first_query, int64_t first_key)
{
    int width = p->a->head_dim;
    int64_t col = (int64_t)kv_head * width;
    wane_mat keys = {cpu_at(p->keys, row, col), p->keys.dtype, n, width, p->keys.stride};
    bool few = rows < cpu_min(FEW, d->loops->few);
    if (few) {
        d->loops->dots(s->score, KEYS, s->q, width, rows, keys);
    } else {
        for (int j = 0; j < n; j++)
            d->loops->load(s->key + j * width, cpu_at(keys, j, 0), keys.dtype, width);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, width, 1, s->q, width, s->key,
                    width, 0, s->score, KEYS);
    }
    for (int r = 0; r < rows; r++) {
        float *score = s->score + r * KEYS;
        int64_t seen = first_query < 0 ? n : first_query + r / p->group - first_key + 1;
        seen = seen < 0 ? 0 : cpu_min(seen, n);
        memset(score + seen, 0, (size_t)(n - seen) * sizeof *score);
        if (!seen) continue;
        float top = d->loops->most(score, seen);
        top = s->top[r] >= top ? s->top[r] : top;
        float fade = expf(s->top[r] - top);
        s->weight[r] = s->weight[r] * fade + (float)d->loops->exp_sum(score, score, top, seen);
        s->top[r] = top;
        if (fade != 1) d->loops->scaled(s->sum + r * width, s->sum + r * width, fade, NULL, width);
    }
    wane_mat values = {cpu_at(p->values, row, col), p->values.dtype, n, width, p->values.stride};
    if (few) {
        d->loops->mix(s->sum, s->score, KEYS, rows, values);
        return;
    }
    for (int j = 0; j < n; j++)
        d->loops->load(s->value + j * width, cpu_at(values, j, 0), values.dtype, width);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, width, n, 1, s->score, KEYS,
                s->value, width, 1, s->sum, width);
}

static void attend_task(const wane_dev *d, const problem *p, attend_scratch *s, const wane_run *run,
                        int kv_head, int first)
{
    const wane_attention *a = p->a;
    int width = a->head_dim, last = (int)cpu_min(first + p->queries, run->count);
    int rows = (last - first) * p->group;
    for (int r = 0; r < rows; r++) {
        int64_t col = (int64_t)(kv_head * p->group + r % p->group) * width;
        float *q = s->q + r * width;
        d->loops->load(q, cpu_at(p->q, run->query + first + r / p->group, col), p->q.dtype, width);
        d->loops->scaled(q, q, a->scale, NULL, width);
        s->top[r] = -INFINITY;
        s->weight[r] = 0;
    }
    memset(s->sum, 0, (size_t)rows * width * sizeof *s->sum);
    for (int i = run->span; i < run->span + run->n_spans; i++)
        for (int at = 0; at < a->spans[i].count; at += KEYS)
            attend_block(d, p, s, rows, kv_head, (int64_t)a->spans[i].row + at,
                         (int)cpu_min(KEYS, a->spans[i].count - at), -1, 0);
    for (int at = 0; at < last; at += KEYS)
        attend_block(d, p, s, rows, kv_head, (int64_t)run->row + at, (int)cpu_min(KEYS, last - at),
                     first, at);
    for (int r = 0; r < rows; r++) {
        int64_t col = (int64_t)(kv_head * p->group + r % p->group) * width;
        float *sum = s->sum + r * width;
        d->loops->scaled(sum, sum, 1 / s->weight[r], NULL, width);
        d->loops->store(cpu_at(p->y, run->query + first + r / p->group, col), sum, p->y.dtype,
                        width);
    }
}

static bool inside(int64_t first, int64_t count, int64_t limit)
{
    return first >= 0 && count >= 0 && first + count <= limit;
}

static bool valid_runs(const wane_attention *a, int64_t n, int64_t pool)
{
    for (int i = 0; i < a->n_runs; i++) {
        const wane_run *r = a->runs + i;
        if (!inside(r->query, r->count, n) || !inside(r->row, r->count, pool) || r->n_spans < 0)
            return false;
        for (int j = r->span; j < r->span + r->n_spans; j++)
            if (!inside(a->spans[j].row, a->spans[j].count, pool)) return false;
    }
    return true;
}

wane_status cpu_attend(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                       const wane_attention *a)
{
    if (a->n_runs < 0 || a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads ||
        a->head_dim < 1 || a->head_dim > WIDTH || a->heads / a->kv_heads > ROWS)
        return WANE_EARG;
    int64_t own = (int64_t)a->heads * a->head_dim, shared = (int64_t)a->kv_heads * a->head_dim;
    if (!cpu_is_floats(q, q.rows, own) || !cpu_is_floats(y, q.rows, own) ||
        !cpu_is_floats(keys, keys.rows, shared) || !cpu_is_floats(values, keys.rows, shared) ||
        !valid_runs(a, q.rows, keys.rows))
        return WANE_EARG;
    problem p = {y, q, keys, values, a, a->heads / a->kv_heads, 0};
    p.queries = ROWS / p.group;
    int64_t *start = cpu_shared(d); /* the first task of each run */
    if ((int64_t)(a->n_runs + 1) * (int64_t)sizeof *start > CPU_SHARED_BYTES) return WANE_EARG;
    start[0] = 0;
    int64_t work = 0;
    for (int i = 0; i < a->n_runs; i++) {
        const wane_run *r = a->runs + i;
        start[i + 1] = start[i] + cpu_tiles(r->count, p.queries) * a->kv_heads;
        for (int j = r->span; j < r->span + r->n_spans; j++)
            work += a->spans[j].count * own * r->count;
        work += r->count * own * r->count;
    }
#pragma omp parallel num_threads(d->threads) if (work > CPU_SMALL)
    {
        cpu_solo();
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < start[a->n_runs]; t++) {
            int low = 0, high = a->n_runs; /* start[low] <= t < start[high] */
            while (high - low > 1) {
                int middle = low + (high - low) / 2;
                if (start[middle] <= t)
                    low = middle;
                else
                    high = middle;
            }
            int64_t task = t - start[low];
            attend_task(d, &p, cpu_mine(d), a->runs + low, (int)(task % a->kv_heads),
                        (int)(task / a->kv_heads) * p.queries);
        }
    }
    return WANE_OK;
}
