/* split.c - the steps of a pre-tokenizer, each piece handed on as soon as it is known.
 *
 * As in Hugging Face's tokenizers, a step sees each piece as a text of its own (what a pattern
 * looks at ends with the piece), and ByteLevel's prefix space goes before every piece that does not
 * start with a space, not only before the first. Metaspace's goes before such pieces too, or only
 * before the one that a whole text begins with, or before none. */
#include "runtime/text/split.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/text/normal.h"

typedef struct {
    const splitter *s;
    const unsigned char *text; /* the whole, for offsets */
    bool first;
    split_sink sink;
    void *context;
    wane_buffer spaced;
    wane_err *e;
} cutter;

/* Joins segments (stretches that match or do not) into pieces; one may still grow. */
typedef struct {
    cutter *c;
    int next; /* the step that gets the pieces */
    const split_step *step;
    const unsigned char *s;
    size_t start, end;
    bool held, matched;
} joiner;

static wane_status cut(cutter *c, int at, const unsigned char *s, size_t length);

void splitter_clear(splitter *s)
{
    for (int i = 0; i < s->count; i++) wane_pattern_free(s->steps[i].pattern);
    memset(s, 0, sizeof *s);
}

static wane_status flush(joiner *j)
{
    bool give = j->held && j->end > j->start && !(j->step->behavior == REMOVED && j->matched);
    j->held = false;
    return give ? cut(j->c, j->next, j->s + j->start, j->end - j->start) : WANE_OK;
}

static wane_status segment(joiner *j, size_t start, size_t end, bool match)
{
    bool join = false;
    if (j->step->invert) match = !match;
    switch (j->step->behavior) {
    case CONTIGUOUS: join = match == j->matched; break;
    case MERGED_WITH_PREVIOUS: join = match && !j->matched; break;
    case MERGED_WITH_NEXT: join = !match && j->matched; break;
    case ISOLATED:
    case REMOVED: break;
    }
    if (j->held && join) {
        j->end = end;
    } else {
        wane_status s = flush(j);
        if (s) return s;
        j->start = start;
        j->end = end;
        j->held = true;
    }
    j->matched = match;
    return WANE_OK;
}

static wane_status cut_scan(joiner *j, size_t length)
{
    wane_status status = WANE_OK;
    for (size_t at = 0, end; at < length && !status; at = end) {
        end = scan_piece(j->step->rules, j->s, at, length);
        status = segment(j, at, end, true);
    }
    return status;
}

static wane_status cut_digits(joiner *j, size_t length)
{
    wane_status status = WANE_OK;
    for (size_t at = 0, end, next; at < length && !status; at = end) {
        bool digit = unicode_class_at(j->s, at, &end) & CLASS_N;
        while (end < length && !(digit && j->step->one_by_one)) {
            if (!(unicode_class_at(j->s, end, &next) & CLASS_N) == digit) break;
            end = next;
        }
        status = segment(j, at, end, digit);
    }
    return status;
}

/* Empty matches count, except right after another match: there the search moves on a character. */
static wane_status cut_pattern(joiner *j, size_t length)
{
    wane_matches m;
    wane_err *e = j->c->e;
    wane_status status = wane_matches_open(j->step->pattern, &m, e);
    if (status) return status;
    size_t done = 0, from = 0, start, end, last = SIZE_MAX; /* last: where the last match ended */
    while (from <= length) {
        bool found;
        status = wane_matches_next(&m, j->s, length, from, &found, &start, &end, e);
        if (status && e && e->offset >= 0) e->offset += j->s - j->c->text;
        if (status || !found) break;
        if (start == end && end == last) {
            if (from == length) break;
            unicode_step(j->s, from, &from);
            continue;
        }
        from = last = end;
        if (start > done) status = segment(j, done, start, false);
        if (!status) status = segment(j, start, end, true);
        if (status) break;
        done = end;
    }
    if (!status && done < length) status = segment(j, done, length, false);
    wane_matches_close(&m);
    return status;
}

static wane_status cut_bytes(cutter *c, const unsigned char *s, size_t length)
{
    wane_status status = WANE_OK;
    if (c->s->prefix_space && *s != ' ') {
        c->spaced.length = 0;
        status = wane_buffer_add(&c->spaced, " ", 1, c->e);
        if (!status) status = wane_buffer_add(&c->spaced, s, length, c->e);
        if (status) return status;
        s = c->spaced.data;
        length = c->spaced.length;
    }
    if (!c->s->gpt2) return c->sink(c->context, s, length, c->e);
    for (size_t at = 0, end; at < length && !status; at = end) {
        end = scan_piece(&scan_gpt2, s, at, length);
        status = c->sink(c->context, s + at, end - at, c->e);
    }
    return status;
}

static wane_status cut_spaces(cutter *c, const unsigned char *s, size_t length)
{
    const char *mark = c->s->spaces;
    size_t n = strlen(mark);
    bool prefix = *s != ' ' && (length < n || memcmp(s, mark, n)) &&
                  (c->s->prefix == PREFIX_ALWAYS ||
                   (c->s->prefix == PREFIX_FIRST && c->first && s == c->text));
    c->spaced.length = 0;
    wane_status status = prefix ? wane_buffer_add(&c->spaced, mark, n, c->e) : WANE_OK;
    if (!status) status = normal_replace(s, length, " ", 1, mark, n, &c->spaced, c->e);
    if (status) return status;
    s = c->spaced.data;
    length = c->spaced.length;
    if (!c->s->words) return c->sink(c->context, s, length, c->e);
    for (size_t at = 0, end; at < length && !status; at = end) {
        const unsigned char *next = memmem(s + at + 1, length - at - 1, mark, n);
        end = next ? (size_t)(next - s) : length;
        status = c->sink(c->context, s + at, end - at, c->e);
    }
    return status;
}

static wane_status cut(cutter *c, int at, const unsigned char *s, size_t length)
{
    if (at == c->s->count)
        return *c->s->spaces ? cut_spaces(c, s, length) : cut_bytes(c, s, length);
    joiner j = {.c = c, .next = at + 1, .step = &c->s->steps[at], .s = s};
    wane_status status = j.step->rules     ? cut_scan(&j, length)
                         : j.step->pattern ? cut_pattern(&j, length)
                                           : cut_digits(&j, length);
    return status ? status : flush(&j);
}

wane_status splitter_run(const splitter *s, const unsigned char *text, size_t length, bool first,
                         split_sink sink, void *context, wane_err *e)
{
    cutter c = {.s = s, .text = text, .first = first, .sink = sink, .context = context, .e = e};
    wane_status status = length ? cut(&c, 0, text, length) : WANE_OK;
    free(c.spaced.data);
    return status;
}
