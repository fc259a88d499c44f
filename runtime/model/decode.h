/* decode.h - texts that each grow by a token a step, many steps without the host.
 *
 * What changes from step to step lies on the device and is moved on there (advance, in kernels.h),
 * so a step is the same slots with the same arguments each time: it is recorded once and replayed.
 * The host writes down what the steps need, among it the pool rows of tokens to come, and reads
 * what was found once they are all done. A step computes exactly the texts there are; one that has
 * ended stands still until the others have ended too. */
#ifndef WANE_DECODE_H
#define WANE_DECODE_H

#include "runtime/model/workspace.h"

typedef struct wane_decoder wane_decoder;

/* Whether the device replays steps; where it does not, there is nothing to be gained. */
bool wane_decoder_can(const wane_device *);

/* Device memory of one for up to `texts` of up to `steps` steps, whose spans are `spans` in all. */
uint64_t wane_decoder_bytes(int texts, int steps, int spans, int stops);

/* Over a workspace, which must live longer. stop [stops]: ids that are a text's last. */
wane_status wane_decoder_new(wane_workspace *, int texts, int steps, int spans, const int32_t *stop,
                             int stops, wane_decoder **out, wane_err *e);
void wane_decoder_free(wane_decoder *); /* NULL is fine */

/* To be called whenever matrices of the workspace have moved (wane_pass_grow). */
void wane_decoder_forget(wane_decoder *);

void wane_decoder_clear(wane_decoder *); /* no texts */
/* One more text: its last token, whose keys and values are not computed yet, the spans of those
 * before it, and spans of `left` rows in all for it and for the tokens that follow it. It grows by
 * `left` tokens, fewer where one is a stop. False where there is no room for it. */
bool wane_decoder_add(wane_decoder *, int32_t id, int64_t position, const wane_span *before,
                      int n_before, const wane_span *own, int64_t left);
/* As many steps as the longest text has left. EARG: an id, row or span out of range. */
wane_status wane_decoder_run(wane_decoder *, wane_err *e);
/* What step 0, 1, .. left-1 of a text found; -1 for NaN. After a stop or NaN it means nothing. */
int32_t wane_decoder_said(const wane_decoder *, int64_t text, int64_t step);
int64_t wane_decoder_left(const wane_decoder *, int64_t text); /* as given to add */

#endif
