/* generate.c - greedy answers to many prompts. See forward.h.
 *
 * Continuous batching after Orca ("Orca: A Distributed Serving System for Transformer-Based
 * Generative Models") over the pages and prefixes of cache.h. Each step is one pass: in order of
 * entry, every living answer's tokens that have no keys and values yet, which is a prompt's rest at
 * first and one token afterwards. A token that must wait for another's rows is always of a younger
 * answer, so it comes later in the pass, or in a later pass.
 *
 * Where the device replays steps (decode.h), passes are for prompts alone; once all are through,
 * the living answers grow together by a stretch of tokens. The rows that they may come to need are
 * reserved before, and the host looks at what was found after it: an answer that a rule ends in the
 * middle of a stretch is cut there, and what was computed beyond is given back. Prompts then enter
 * several at once, since a pass reads all weights however small it is.
 *
 * Prompts enter in the order of their ids: what the next one shares with one that leaves is kept.
 * When no page is free the youngest answer is put back with what it has; its rows are computed
 * again when it returns, and its text is the same. The pool holds at least one answer of full
 * length where that fits, so the oldest always ends. Where it does not fit, max_tokens is taken as
 * what it is, a bound far above most answers: the pool is what fits, and only an answer that really
 * outgrows it, alone, is out of memory. The pool grows as answers need it, up to what was planned,
 * so that the memory taken is about the memory used. */
#include "runtime/model/generator.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

const char *wane_finish_name(wane_finish f)
{
    static const char *const names[] = {"stop", "length", "box", "loop", "nan"};
    return names[f];
}

static wane_status check(const wane_generator *g, wane_err *e)
{
    const wane_generate_options *o = g->o;
    const wane_config *c = g->model->config;
    if (o->max_tokens < 1)
        return wane_fail(e, WANE_EARG, "generate: max_tokens must be at least 1, not %" PRId64,
                         o->max_tokens);
    if (o->batch < 0 || o->loop < 0)
        return wane_fail(e, WANE_EARG, "generate: batch and loop cannot be negative");
    if ((o->stop_at_box || o->n_stop_text) && !o->tokenizer)
        return wane_fail(e, WANE_EARG,
                         "generate: a box or a stop text needs the tokenizer, and this model has "
                         "none; stop at ids instead");
    for (int i = 0; i < o->n_stop_text; i++)
        if (o->stop_length[i] < 1 || o->stop_length[i] > WANE_STOP_TEXT_MOST)
            return wane_fail(e, WANE_EARG, "generate: a stop text has 1 to %d bytes, not %zu",
                             WANE_STOP_TEXT_MOST, o->stop_length[i]);
    for (int64_t i = 0; i < g->n; i++) {
        const wane_sequence *p = &g->prompts[i];
        if (p->count < 1 || p->count > c->positions)
            return wane_fail(e, WANE_EARG,
                             "generate: prompt %" PRId64 " has %" PRId64
                             " tokens; this model takes 1 to %" PRId64,
                             i + 1, p->count, c->positions);
        for (int64_t t = 0; t < p->count; t++)
            if (p->ids[t] < 0 || p->ids[t] >= c->vocabulary)
                return wane_fail(e, WANE_EARG,
                                 "generate: prompt %" PRId64 " has id %" PRId32
                                 "; the vocabulary has %" PRId64,
                                 i + 1, p->ids[t], c->vocabulary);
    }
    return WANE_OK;
}

static wane_status allocate(wane_generator *g, wane_err *e)
{
    size_t batch = (size_t)g->batch, rows = (size_t)g->sizes.rows, most = (size_t)g->most;
    g->longest++; /* the last token of an answer needs no row, but a place */
    g->ids = calloc(batch * (size_t)g->longest, sizeof *g->ids);
    g->slot = calloc(batch, sizeof *g->slot);
    g->live = calloc(batch, sizeof *g->live);
    g->token = calloc(rows, sizeof *g->token);
    g->position = calloc(rows, sizeof *g->position);
    g->row = calloc(rows, sizeof *g->row);
    g->runs = calloc((size_t)g->sizes.runs, sizeof *g->runs);
    g->spans = calloc((size_t)g->sizes.spans, sizeof *g->spans);
    g->own = calloc(most, sizeof *g->own);
    g->before = calloc(most, sizeof *g->before);
    g->last = calloc(batch, sizeof *g->last);
    g->next = calloc(batch, sizeof *g->next);
    g->asking = calloc(batch, sizeof *g->asking);
    if (!g->ids || !g->slot || !g->live || !g->token || !g->position || !g->row || !g->runs ||
        !g->spans || !g->own || !g->before || !g->last || !g->next || !g->asking)
        return wane_fail(e, WANE_EOOM, "generate: no host memory for %d answers", g->batch);
    for (size_t i = 0; i < batch; i++) g->slot[i].ids = g->ids + i * (size_t)g->longest;
    return wane_cache_new(g->pages, &g->cache, e);
}

/* Whether the answer is over with its last token; NaN and stop ids never became one. */
static bool ends(const wane_generator *g, wane_answer *a, wane_finish *how)
{
    const wane_generate_options *o = g->o;
    int32_t id = a->ids[a->count - 1];
    size_t length = 0;
    bool over = false;
    const char *bytes = o->tokenizer ? wane_tokenizer_bytes(o->tokenizer, id, &length) : NULL;
    if (!bytes) length = 0;
    /* each rule sees each token, whichever of them ends the answer */
    if (o->stop_at_box && wane_ending_box(&a->ending, bytes, length))
        over = true, *how = WANE_FINISH_BOX;
    if (o->n_stop_text &&
        wane_ending_text(&a->ending, bytes, length, o->stop_text, o->stop_length, o->n_stop_text) &&
        !over)
        over = true, *how = WANE_FINISH_STOP;
    if (o->loop &&
        wane_ending_loop(&a->ending, a->ids + a->prompt, a->count - a->prompt, o->loop) && !over)
        over = true, *how = WANE_FINISH_LOOP;
    if (!over && (a->count - a->prompt >= o->max_tokens || a->count > g->model->config->positions))
        over = true, *how = WANE_FINISH_LENGTH;
    return over;
}

static bool is_stop(const wane_generator *g, int32_t id)
{
    const wane_config *c = g->model->config;
    const int32_t *stop = g->o->n_stop ? g->o->stop : c->eos;
    int n = g->o->n_stop ? g->o->n_stop : c->n_eos;
    for (int i = 0; i < n; i++)
        if (stop[i] == id) return true;
    return false;
}

/* Takes the answer out of the living; its first `keep` tokens stay in the cache. */
static void remove_live(wane_generator *g, int s, int64_t keep)
{
    int i = 0;
    while (g->live[i] != s) i++;
    memmove(g->live + i, g->live + i + 1, (size_t)(--g->n_live - i) * sizeof *g->live);
    wane_cache_leave(g->cache, g->slot[s].leaf, keep);
    g->slot[s].leaf = NULL;
}

/* Copies what is generated so far to the results. */
static wane_status store(wane_generator *g, const wane_answer *a, wane_err *e)
{
    wane_generated *r = &g->results[a->index];
    r->count = a->count - a->prompt;
    if (r->count == 0) return WANE_OK;
    r->ids = malloc((size_t)r->count * sizeof *r->ids);
    if (!r->ids) return wane_fail(e, WANE_EOOM, "generate: no host memory for an answer");
    memcpy(r->ids, a->ids + a->prompt, (size_t)r->count * sizeof *r->ids);
    return WANE_OK;
}

static wane_status finish(wane_generator *g, int s, wane_finish how, wane_err *e)
{
    wane_answer *a = &g->slot[s];
    int64_t keep = 0;
    wane_status status = store(g, a, e);
    if (status) return status;
    g->results[a->index].finish = how;
    g->results[a->index].seconds = wane_clock() - g->results[a->index].seconds;
    if (g->waiting < g->n) {
        wane_sequence mine = {a->ids, NULL, a->done};
        keep = wane_sequences_shared(&mine, &g->prompts[g->queue[g->waiting]]);
    }
    remove_live(g, s, keep);
    return WANE_OK;
}

/* The youngest answer waits again, with what it has. */
static wane_status put_back(wane_generator *g, wane_err *e)
{
    int s = g->live[g->n_live - 1];
    wane_status status = store(g, &g->slot[s], e);
    if (status) return status;
    g->queue[--g->waiting] = g->slot[s].index;
    remove_live(g, s, 0);
    return WANE_OK;
}

/* A larger pool; false where it stays as it is, which costs time and no answer. */
static bool grow(wane_generator *g)
{
    int64_t pages = g->pages < g->most / 2 ? 2 * g->pages : g->most;
    if (pages == g->pages) return false;
    if (g->decoder) wane_decoder_forget(g->decoder); /* what it names will have moved */
    if (wane_pass_grow(g->work.pass, pages * WANE_PAGE, NULL) ||
        wane_cache_grow(g->cache, pages, NULL)) {
        g->most = g->pages;
        return false;
    }
    g->pages = pages;
    return true;
}

/* The next prompt in the queue enters; *full: it has to wait. */
static wane_status enter(wane_generator *g, bool *full, wane_err *e)
{
    int s = 0;
    while (g->slot[s].leaf) s++;
    wane_answer *a = &g->slot[s];
    int64_t index = g->queue[g->waiting];
    wane_generated *r = &g->results[index];
    a->index = index;
    a->prompt = g->prompts[index].count;
    a->count = a->prompt + r->count;
    a->fresh = true;
    memcpy(a->ids, g->prompts[index].ids, (size_t)a->prompt * sizeof *a->ids);
    if (r->count) memcpy(a->ids + a->prompt, r->ids, (size_t)r->count * sizeof *a->ids);
    /* a page for each of the living, or the next step would put it back */
    wane_status status;
    do status = wane_cache_enter(g->cache, a->ids, a->count, g->n_live, &a->leaf, &a->done, e);
    while (!status && !a->leaf && grow(g));
    if (!status && !a->leaf && g->n_live == 0) {
        wane_cache_drop_unused(g->cache);
        status = wane_cache_enter(g->cache, a->ids, a->count, 0, &a->leaf, &a->done, e);
        if (!status && !a->leaf) {
            wane_decoder_free(g->decoder); /* what is free is told without what was tried */
            g->decoder = NULL;
            wane_workspace_free(&g->work);
            status = wane_generator_too_short(g, e);
        }
    }
    *full = !a->leaf;
    if (status || !a->leaf) return status;
    g->waiting++;
    g->live[g->n_live++] = s;
    if (r->seconds == 0) r->seconds = wane_clock();
    /* what was generated before is shown to the rules again: none of it ended the answer */
    memset(&a->ending, 0, sizeof a->ending);
    int64_t all = a->count;
    wane_finish how;
    for (a->count = a->prompt + 1; a->count <= all; a->count++) ends(g, a, &how);
    a->count = all;
    free(r->ids);
    r->ids = NULL;
    r->count = 0;
    return WANE_OK;
}

/* Adds the answer's tokens that have no keys and values to the pass. False where not all fit:
 * younger answers may need their rows, so nobody comes after it. */
static bool gather(wane_generator *g, int s)
{
    wane_answer *a = &g->slot[s];
    int64_t take = a->count - a->done;
    if (take > g->sizes.rows - g->n_rows) take = g->sizes.rows - g->n_rows;
    int pieces = wane_cache_spans(a->leaf, a->done, a->done + take, g->own);
    for (int i = 0; i < pieces; i++) {
        int before = wane_cache_spans(a->leaf, 0, a->done, g->before);
        if (g->n_runs == g->sizes.runs || before > g->sizes.spans - g->n_spans) return false;
        memcpy(g->spans + g->n_spans, g->before, (size_t)before * sizeof *g->spans);
        g->runs[g->n_runs++] =
            (wane_run){(int32_t)g->n_rows, g->own[i].count, g->own[i].row, g->n_spans, before};
        g->n_spans += before;
        for (int32_t r = 0; r < g->own[i].count; r++, a->done++, g->n_rows++) {
            g->token[g->n_rows] = a->ids[a->done];
            g->position[g->n_rows] = (int32_t)a->done;
            g->row[g->n_rows] = g->own[i].row + r;
        }
    }
    if (a->done < a->count) return false;
    g->last[g->n_asking] = (int32_t)g->n_rows - 1;
    g->asking[g->n_asking++] = s;
    return true;
}

/* One pass, and the likeliest next token of each answer that asks for one. */
static wane_status compute(wane_generator *g, wane_err *e)
{
    wane_device *d = g->model->device;
    wane_status status = wane_pass_run(g->work.pass, g->n_rows, g->token, g->position, g->row,
                                       g->runs, g->n_runs, g->spans, g->n_spans, e);
    for (int at = 0; at < g->n_asking && !status;) {
        int64_t count = g->n_asking - at;
        if (count > g->sizes.logit_rows) count = g->sizes.logit_rows;
        wane_mat logits = wane_mat_rows(wane_tensor_mat(g->work.logits), 0, count);
        wane_mat ids = wane_mat_rows(wane_tensor_mat(g->work.ids), 0, count);
        status = wane_pass_logits(g->work.pass, g->last + at, count, logits, e);
        if (!status) status = WANE_CALL(d, e, argmax, ids, logits);
        if (!status)
            status = WANE_CALL(d, e, get, g->next + at, ids.data, (size_t)count * sizeof *g->next);
        at += (int)count;
    }
    return status;
}

/* A row for the answer's last token, or it was put back. */
static wane_status give_row(wane_generator *g, int s, wane_err *e)
{
    wane_answer *a = &g->slot[s];
    int32_t id = a->ids[a->count - 1];
    int64_t row;
    wane_status status;
    do status = wane_cache_append(g->cache, a->leaf, id, &row, e);
    while (!status && row < 0 && grow(g));
    if (!status && row < 0) {
        wane_cache_drop_unused(g->cache);
        status = wane_cache_append(g->cache, a->leaf, id, &row, e);
    }
    while (!status && row < 0 && a->leaf) {
        status = put_back(g, e);
        if (!status && a->leaf) status = wane_cache_append(g->cache, a->leaf, id, &row, e);
    }
    return status;
}

/* The answer gets its next token: it ends, or has a row for the token, or was put back. */
static wane_status accept(wane_generator *g, int s, int32_t id, wane_err *e)
{
    wane_answer *a = &g->slot[s];
    wane_finish how;
    a->fresh = false;
    if (id < 0) return finish(g, s, WANE_FINISH_NAN, e);
    if (is_stop(g, id)) return finish(g, s, WANE_FINISH_STOP, e);
    a->ids[a->count++] = id;
    if (ends(g, a, &how)) return finish(g, s, how, e);
    return give_row(g, s, e);
}

/* The answer takes part in a stretch of so many steps, or of as many as there are rows for. *full:
 * there is no room for it. */
static wane_status join(wane_generator *g, int s, int64_t steps, bool *full, wane_err *e)
{
    wane_answer *a = &g->slot[s];
    int64_t length = g->o->max_tokens - (a->count - a->prompt), rows = 0, more = 0;
    int64_t positions = g->model->config->positions + 1 - a->count;
    if (steps > length) steps = length;
    if (steps > positions) steps = positions;
    wane_status status;
    do {
        status = wane_cache_reserve(g->cache, a->leaf, steps - 1 - rows, &more, e);
        rows += more;
    } while (!status && rows < steps - 1 && grow(g));
    if (status) return status;
    int before = wane_cache_spans(a->leaf, 0, a->done, g->before);
    wane_cache_spans(a->leaf, a->done, a->count + rows, g->own);
    *full = !wane_decoder_add(g->decoder, a->ids[a->done], a->done, g->before, before, g->own,
                              1 + rows);
    if (*full)
        wane_cache_settle(g->cache, a->leaf, a->ids, a->count);
    else
        g->asking[g->n_asking++] = s;
    return WANE_OK;
}

/* What answer i of a stretch found is looked at, token by token: it ends, or waits for a row. */
static wane_status hear(wane_generator *g, int i, wane_err *e)
{
    int s = g->asking[i];
    wane_answer *a = &g->slot[s];
    wane_finish how = WANE_FINISH_LENGTH;
    bool over = false;
    for (int64_t k = 0; k < wane_decoder_left(g->decoder, i) && !over; k++) {
        int32_t id = wane_decoder_said(g->decoder, i, k);
        a->done++;
        over = id < 0 || is_stop(g, id);
        if (over) how = id < 0 ? WANE_FINISH_NAN : WANE_FINISH_STOP;
        if (!over) a->ids[a->count++] = id;
        if (!over) over = ends(g, a, &how);
    }
    wane_cache_settle(g->cache, a->leaf, a->ids, a->done);
    return over ? finish(g, s, how, e) : WANE_OK;
}

/* Several steps of all living answers, each of which has its last token to compute. */
static wane_status stretch(wane_generator *g, wane_err *e)
{
    /* while others wait, those that ended should not keep their places for long */
    int64_t steps = g->waiting < g->n ? WANE_STEPS_MOST / 2 : WANE_STEPS_MOST;
    bool full = false;
    wane_status status = WANE_OK;
    wane_decoder_clear(g->decoder);
    for (int i = 0; i < g->n_live && !full && !status; i++)
        status = join(g, g->live[i], steps, &full, e);
    if (!status) status = wane_decoder_run(g->decoder, e);
    for (int i = 0; i < g->n_asking && !status; i++) status = hear(g, i, e);
    for (int i = 0; i < g->n_asking && !status; i++) {
        const wane_answer *a = &g->slot[g->asking[i]];
        /* over, or put back for an older one */
        if (a->leaf && a->done < a->count) status = give_row(g, g->asking[i], e);
    }
    return status;
}

/* Whether so many places are free that it is worth a pass to fill them. */
static bool is_time(const wane_generator *g)
{
    enum { PLACES_SHARE = 8 };
    if (g->waiting == g->n || g->n_live == g->batch) return false;
    return !g->decoder || g->n_live == 0 ||
           g->batch - g->n_live >= (g->batch + PLACES_SHARE - 1) / PLACES_SHARE;
}

static wane_status step(wane_generator *g, wane_err *e)
{
    bool full = !is_time(g);
    wane_status status = WANE_OK;
    while (!full && g->n_live < g->batch && g->waiting < g->n)
        if ((status = enter(g, &full, e))) return status;
    g->n_rows = g->n_runs = g->n_spans = g->n_asking = 0;
    for (int i = 0; i < g->n_live; i++) {
        /* even the last token of one that is fresh may be what another one shares */
        if (g->decoder && !g->slot[g->live[i]].fresh) continue;
        if (!gather(g, g->live[i])) break;
    }
    if (g->decoder && g->n_rows == 0) return stretch(g, e);
    status = compute(g, e);
    for (int i = 0; i < g->n_asking && !status; i++)
        /* one that was put back meanwhile asks again when it returns */
        if (g->slot[g->asking[i]].leaf) status = accept(g, g->asking[i], g->next[i], e);
    return status;
}

static wane_status open_decoder(wane_generator *g, wane_err *e)
{
    const wane_config *c = g->model->config;
    const wane_sizes *z = &g->sizes;
    return wane_decoder_new(&g->work, z->texts, z->steps, z->spans,
                            g->o->n_stop ? g->o->stop : c->eos, z->stops, &g->decoder, e);
}

wane_status wane_model_generate(wane_model *model, const wane_sequence *prompts, int64_t n,
                                const wane_generate_options *o, wane_generated *results,
                                wane_err *e)
{
    wane_generator g = {.model = model, .o = o, .prompts = prompts, .results = results, .n = n};
    if (n > 0) memset(results, 0, (size_t)n * sizeof *results);
    wane_status status = check(&g, e);
    if (status || n == 0) return status;
    if ((status = wane_model_load(model, e))) goto done;
    g.queue = calloc((size_t)n, sizeof *g.queue);
    if (!g.queue)
        status = wane_fail(e, WANE_EOOM, "generate: no host memory for %" PRId64 " prompts", n);
    if (status || (status = wane_sequences_sort(prompts, n, g.queue, e))) goto done;
    g.replays = wane_decoder_can(model->device);
    if ((status = wane_generator_plan(&g, e))) goto done;
    if ((status = allocate(&g, e))) goto done;
    if ((status = wane_workspace_new(model, &g.sizes, &g.work, e))) goto done;
    if (g.replays && (status = open_decoder(&g, e))) goto done;
    while (!status && (g.waiting < n || g.n_live)) status = step(&g, e);
done:
    if (status) {
        for (int64_t i = 0; i < n; i++) free(results[i].ids);
        memset(results, 0, (size_t)n * sizeof *results);
        wane_err_at(e, "generate", NULL, NULL);
    }
    wane_decoder_free(g.decoder);
    wane_workspace_free(&g.work);
    wane_cache_free(g.cache);
    free(g.queue);
    free(g.ids);
    free(g.slot);
    free(g.live);
    free(g.token);
    free(g.position);
    free(g.row);
    free(g.runs);
    free(g.spans);
    free(g.own);
    free(g.before);
    free(g.last);
    free(g.next);
    free(g.asking);
    return status;
}
