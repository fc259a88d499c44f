/* forward.h - whole passes: logits, scores and generated text.
 *
 * All load the model first. Prefixes that sequences share are computed once. Memory that is not the
 * model's (keys and values, activations, logits) is taken so that it fits what the budget leaves:
 * fewer rows at once, never another answer. Long loops poll the device for an interrupt. */
#ifndef WANE_FORWARD_H
#define WANE_FORWARD_H

#include "runtime/model/batch.h"
#include "runtime/model/model.h"
#include "runtime/text/tokenizer.h"

/* F32 (count, vocabulary) logits of every token of one sequence, on the device. */
wane_status wane_model_logits(wane_model *, const int32_t *ids, int64_t count, wane_tensor **out,
                              wane_err *e);

/* Natural log-probability of every token of each sequence given those before it: out[first[s]+t];
 * token 0 and tokens of weight 0 get 0 and cost no logits. best, where not NULL, gets the likeliest
 * id in each place (-1 where not scored or NaN). EARG where a sequence is longer than the model's
 * positions. */
wane_status wane_model_score(wane_model *, const wane_sequence *, int64_t count,
                             const int64_t *first, float *out, int32_t *best, wane_err *e);

typedef enum {
    WANE_FINISH_STOP,
    WANE_FINISH_LENGTH,
    WANE_FINISH_BOX,
    WANE_FINISH_LOOP,
    WANE_FINISH_NAN
} wane_finish;
const char *wane_finish_name(wane_finish); /* "stop", "length", "box", "loop", "nan" */

typedef struct {
    int64_t max_tokens;
    const int32_t *stop; /* ids that end an answer; the config's eos where n_stop is 0 */
    int n_stop;
    bool stop_at_box; /* end once a \boxed{...} with balanced braces is closed; needs tokenizer */
    int64_t loop;     /* end once this many tokens repeat with a period of at most 64; 0: never */
    int batch; /* most rows decoded at once; 0: what fits, at most 64 on a CPU, 512 on a GPU */
    const wane_tokenizer *tokenizer; /* for stop_at_box and stop_text; may be NULL without them */
    const char *const *stop_text; /* texts that end an answer once its tokens' bytes hold one (256
                                     bytes at most) */
    const size_t *stop_length;    /* [n_stop_text] */
    int n_stop_text;
} wane_generate_options;

typedef struct {
    int32_t *ids; /* generated, without the stop id; free; NULL where there is none */
    int64_t count;
    wane_finish finish;
    double seconds; /* from the start of its prompt to its end */
} wane_generated;

/* Greedy. Rows that finish leave and waiting prompts enter, in the order of their ids so that what
 * they share stays. An answer ends at the model's last position too ("length"). results [count] is
 * filled; on failure all ids are freed and results is zeroed. EARG: a prompt that is empty or
 * longer than the model's positions. max_tokens is a bound, not a reservation: answers as long as
 * it need not fit. EOOM where not even the longest prompt does, or an answer that is alone outgrows
 * what there is; requested is what one answer of full length takes. */
wane_status wane_model_generate(wane_model *, const wane_sequence *prompts, int64_t count,
                                const wane_generate_options *, wane_generated *results,
                                wane_err *e);

/* Mean KL(model || other) in nats of the next-token distributions over one text. */
wane_status wane_model_divergence(wane_model *, wane_model *other, const int32_t *ids,
                                  int64_t count, double *mean, wane_err *e);

#endif
