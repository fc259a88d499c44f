/* generator.h - what generate.c and generate_plan.c share: all that is known while answers are
 * made. */
#ifndef WANE_GENERATOR_H
#define WANE_GENERATOR_H

#include "runtime/model/cache.h"
#include "runtime/model/decode.h"
#include "runtime/model/ending.h"
#include "runtime/model/forward.h"

enum { WANE_STEPS_MOST = 16 }; /* of a stretch */

/* A living answer. */
typedef struct {
    int64_t index;         /* of its prompt */
    int32_t *ids;          /* prompt, then answer */
    int64_t prompt, count; /* tokens of the prompt, of both */
    int64_t done;          /* tokens whose keys and values are in the pool */
    wane_leaf *leaf;
    bool fresh; /* no token was found for it since it entered */
    wane_ending ending;
} wane_answer;

typedef struct {
    wane_model *model;
    const wane_generate_options *o;
    const wane_sequence *prompts;
    wane_generated *results;
    int64_t n;

    int64_t *queue, waiting; /* [n] queue[waiting ..] are to come */
    int32_t *ids;            /* [batch][longest] memory of the answers */
    wane_answer *slot;       /* [batch] */
    int *live, n_live;       /* [batch] slots in order of entry */
    int batch;

    int64_t longest;     /* tokens of the longest answer with its prompt */
    int64_t pages, most; /* of the pool: now, and as many as it may have */
    uint64_t whole;      /* bytes that one answer of full length takes at least */
    bool replays;        /* the device replays steps: see decode.h */
    wane_sizes sizes;
    wane_workspace work;
    wane_cache *cache;
    wane_decoder *decoder; /* NULL: every step is a pass */

    /* the pass being put together */
    int32_t *token, *position, *row; /* [sizes.rows] */
    wane_run *runs;                  /* [sizes.runs] */
    wane_span *spans;                /* [sizes.spans] */
    wane_span *own, *before;         /* [most] */
    int32_t *last, *next;            /* [batch] last rows of answers that get a token; the tokens */
    int *asking;                     /* [batch] their slots */
    int64_t n_rows;
    int n_runs, n_spans, n_asking;
} wane_generator;

/* Fills batch, longest, pages, most, whole and sizes so that all fits what the device has free. The
 * queue is sorted. EOOM: not even one answer does. */
wane_status wane_generator_plan(wane_generator *, wane_err *e);
/* EOOM, with what one answer of full length takes. */
wane_status wane_generator_too_short(const wane_generator *, wane_err *e);

#endif
