/* generate_plan.c - how many answers at once, and how large a pool of keys and values, so that all
 * fits what the device has free. See generator.h. */
#include "runtime/model/generator.h"

enum { BATCH_SHARE = 8 }; /* of the rows of a pass, answers that decode together */

/* Rows that prompt i may come to need: its last token needs none. */
static int64_t need(const wane_generator *g, int64_t i)
{
    int64_t most = g->model->config->positions, count = g->prompts[i].count;
    return g->o->max_tokens - 1 < most - count ? count + g->o->max_tokens - 1 : most;
}

static int64_t pages_of(int64_t rows)
{
    return (rows + WANE_PAGE - 1) / WANE_PAGE;
}

/* Spans of one step: a page has one at least, and answers may branch off within pages. */
static void set_spans(wane_generator *g, int64_t pages)
{
    g->sizes.spans = (int)pages + 4 * g->batch;
    if (!g->replays) return;
    g->sizes.texts = g->batch;
    g->sizes.steps = WANE_STEPS_MOST;
    g->sizes.stops = g->o->n_stop ? g->o->n_stop : g->model->config->n_eos;
}

/* Sizes for a pool of g->pages, with fewer rows at once until they fit. *bytes: what they take, or
 * took at least. */
static bool fit(wane_generator *g, int64_t rows, uint64_t room, uint64_t *bytes)
{
    g->sizes = (wane_sizes){.rows = rows, .logit_rows = g->batch};
    do {
        if (g->batch > g->sizes.rows) g->batch = (int)g->sizes.rows;
        g->sizes.pool_rows = g->pages * WANE_PAGE;
        g->sizes.runs = (int)g->sizes.rows;
        set_spans(g, g->pages);
        *bytes = wane_workspace_bytes(g->model, &g->sizes);
        if (*bytes <= room) return true;
    } while (wane_sizes_halve(g->model, &g->sizes));
    return false;
}

/* The pool has room for what the first answers begin with. Where memory is far, growing it step by
 * step takes longer than reading the prompts. */
static void start_large(wane_generator *g)
{
    int64_t pages = 0;
    for (int i = 0; i < g->batch && pages < g->most; i++) {
        const wane_sequence *p = &g->prompts[g->queue[i]];
        int64_t shared = i ? wane_sequences_shared(&g->prompts[g->queue[i - 1]], p) : 0;
        pages += pages_of(p->count - shared) + 1;
    }
    if (pages > g->most) pages = g->most;
    if (pages > g->pages) g->pages = pages;
    g->sizes.pool_rows = g->pages * WANE_PAGE;
}

wane_status wane_generator_too_short(const wane_generator *g, wane_err *e)
{
    return wane_workspace_short(g->model->device, "generate", g->whole,
                                "raise memory = or lower max_tokens", e);
}

/* Sizes that fit what is free: first one answer of full length, or where that is too much, half of
 * the room for answers as they come, but a page more than the longest prompt; then as many more
 * pages as all answers could use. */
wane_status wane_generator_plan(wane_generator *g, wane_err *e)
{
    const wane_config *c = g->model->config;
    const wane_device *d = g->model->device;
    wane_dtype type = d->k->activations;
    uint64_t room = wane_workspace_room(d), bytes, page;
    int64_t tokens = 0, useful = 0, prompt = 0, rows, pages, most = wane_rows_most(d);
    for (int64_t i = 0; i < g->n; i++) {
        rows = need(g, i);
        if (rows > g->longest) g->longest = rows;
        if (g->prompts[i].count > prompt) prompt = g->prompts[i].count;
        if (tokens < most) tokens += g->prompts[i].count;
        useful += pages_of(rows) + 1;
    }
    g->batch = g->o->batch ? g->o->batch : (int)most / BATCH_SHARE;
    if (g->batch > g->n) g->batch = (int)g->n;
    int batch = g->batch;
    rows = tokens < most ? tokens : most;
    if (rows < batch) rows = batch;
    page = wane_pass_bytes(c, type, 1, WANE_PAGE, 0, 1) - wane_pass_bytes(c, type, 1, 0, 0, 0);
    if (g->replays) page += sizeof(wane_span);
    g->pages = pages_of(g->longest);
    bool whole = fit(g, rows, room, &bytes);
    g->whole = bytes;
    if (!whole) {
        pages = (int64_t)(room / 2 / page);
        g->pages = pages_of(prompt) + 1;
        if (g->pages < pages) g->pages = pages;
        if (g->pages > pages_of(g->longest)) g->pages = pages_of(g->longest);
        g->batch = batch;
        if (!fit(g, rows, room, &bytes)) return wane_generator_too_short(g, e);
    }
    if (useful > g->batch * (pages_of(g->longest) + 1))
        useful = g->batch * (pages_of(g->longest) + 1);
    /* while the pool grows, one of its matrices is there twice */
    page += page / (uint64_t)(2 * c->layers);
    uint64_t more = (room - bytes) / page, twice = (uint64_t)(g->pages / (2 * c->layers)) + 1;
    more -= more < twice ? more : twice;
    g->most = g->pages;
    if (useful > g->pages)
        g->most += more < (uint64_t)(useful - g->pages) ? (int64_t)more : useful - g->pages;
    if (g->most > INT32_MAX / WANE_PAGE) g->most = INT32_MAX / WANE_PAGE; /* rows are int32 */
    set_spans(g, g->most);
    if (g->replays) start_large(g);
    return WANE_OK;
}
