/* writing.h - what the parts of saving share: the work, and the model as its files hold it. Private
 * to runtime/save. */
#ifndef WANE_WRITING_H
#define WANE_WRITING_H

#include "runtime/save/save.h"

enum { WANE_SAVE_PATH = 4096 };

typedef struct {
    wane_model *model;
    const wane_packing *packing; /* NULL: dense */
    const wane_save_options *options;
    wane_dtype dense;         /* of all weights where packing is NULL; else WANE_DTYPES */
    char dir[WANE_SAVE_PATH]; /* the temporary one */
    wane_parts unit;          /* of what is being encoded: a layer, or a tensor that is in none */
    wane_parts parts;         /* of the shard being filled */
    int shards;
    uint64_t bytes, files; /* of all tensors in the shards so far; of the files they are in */
    json_t *map;           /* tensor -> shard number, until the names are known */
    wane_packed_grid grid;
    wane_linear head; /* as stored, on the host; empty where tied */
    wane_packed_loss loss;
} wane_saving;

/* The one grid of all matrices so far, but for the head's being among them; starts as zeros. Whole
 * rows are told apart from a group as wide as some matrices by every matrix having one scale a row.
 */
typedef struct {
    wane_packed_grid grid;
    int64_t width; /* columns of a group of the last matrix */
} wane_grid_found;

/* EUNSUPPORTED where q is NULL, or unlike those before it. */
wane_status wane_grid_join(wane_grid_found *, const wane_quantized *q, const char *name,
                           wane_err *e);
wane_status wane_grid_join_layer(wane_grid_found *, const wane_layer *, int i, wane_err *e);

/* Layer i on the host as the files hold it: codes fitted to the packing, or dense. loss is added
 * to, and may be NULL. */
wane_status wane_stored_layer(wane_saving *, int i, wane_packed_loss *, wane_layer **out,
                              wane_err *e);
wane_status wane_stored_head(wane_saving *, wane_packed_loss *, wane_linear *out, wane_err *e);
/* A tensor that is in no layer and is not the head: name (WANE_SAVE_PATH bytes) is its full one;
 * false of others. */
bool wane_stored_name(const wane_entry *, char *name);
/* *t becomes what the files hold of it. */
wane_status wane_stored_tensor(wane_saving *, const char *name, wane_tensor **t, wane_packed_loss *,
                               wane_err *e);

/* The source's config.json with its quantization_config put in, exchanged or taken out; everything
 * else letter by letter. */
wane_status wane_save_config(wane_saving *, wane_err *e);

/* Opens what was written and compares it with what should have been. */
wane_status wane_save_prove(wane_saving *, wane_err *e);

#endif
