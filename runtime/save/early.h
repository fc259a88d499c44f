/* early.h - a model's files written while the model is still being made: a thread saves, and waits
 * for each layer until it is given one.
 *
 * The thread copies what it is given into memory of its own and touches nothing of the caller's but
 * the bytes of layers, which stay as they are until finish or free. */
#ifndef WANE_EARLY_H
#define WANE_EARLY_H

#include "runtime/save/save.h"

typedef struct wane_early wane_early;

/* Begins with what is no layer. source: the model that this one is made of, whose folder has the
 * embedding, the tokenizer and the rest. grid: what the codes are going to be, as wane_save would
 * find it; its head: whether codes of the head will be given too. options->report is not looked at.
 * dir is refused as by wane_save, but later. */
wane_status wane_early_begin(wane_model *source, const char *dir, const wane_save_options *options,
                             const wane_packed_grid *grid, wane_early **out, wane_err *e);

/* Layers on the host, from number 0 on in order, kept until finish or free. What has gone wrong
 * with the writing meanwhile is told. */
wane_status wane_early_layer(wane_early *, wane_layer *, wane_err *e);
/* Codes of the head, on the host or not: after the last layer, where the grid says head. */
wane_status wane_early_head(wane_early *, wane_quantized *, wane_err *e);

/* Waits until all is written, with the report (may be NULL), and proved. model is the whole one: it
 * is saved again where its codes turned out to be of another grid. */
wane_status wane_early_finish(wane_early *, wane_model *model, const char *report, wane_saved *told,
                              wane_err *e);
/* Where finish was not called, gives up: nothing is left. NULL is fine. */
void wane_early_free(wane_early *);

#endif
