/* checkpoint.h - a folder as Hugging Face lays it out: config, one file or shards with an index. */
#ifndef WANE_CHECKPOINT_H
#define WANE_CHECKPOINT_H

#include "runtime/model/ahead.h"
#include "runtime/model/config.h"
#include "runtime/tensor/safetensors.h"

/* A tensor of the checkpoint and the file that holds it. */
typedef struct {
    const wane_entry *entry; /* borrowed from shard */
    const wane_safetensors *shard;
} wane_located;

typedef struct wane_checkpoint {
    int refs;
    char *dir;
    wane_config config;
    wane_safetensors **shard;
    int n_shards;
    uint64_t bytes;       /* of all tensors */
    wane_located *tensor; /* [count] of all shards, sorted by name */
    size_t count;
    char **warning; /* what is odd and does no harm, one line each */
    int n_warnings;
    bool whole; /* all files are open and agree */
    wane_ahead *ahead; /* weights that get finds read already, or NULL; owned */
} wane_checkpoint;

/* Opens and cross-checks headers and index (plain shard names only, every tensor where the index
 * says); reads no weight. .bin, .pt, .pth, .ckpt, .pkl are refused, and nothing in the folder is
 * ever executed. */
wane_status wane_checkpoint_open(const char *dir, wane_checkpoint **out, wane_err *e);
/* The same with everything that is wrong in all. Where the weights can be opened *out is there even
 * on failure: with config.json NULL where that is what is wrong. all may be NULL: then it is open.
 */
wane_status wane_checkpoint_survey(const char *dir, wane_checkpoint **out, wane_findings *all,
                                   wane_err *e);
wane_checkpoint *wane_checkpoint_retain(wane_checkpoint *);
void wane_checkpoint_release(wane_checkpoint *); /* NULL is fine */

/* Whether name is a file that lies in dir itself, or is a link to one, or the Hub's link to its
 * blob. */
bool wane_checkpoint_file(const char *dir, const char *name);

/* A name that starts with "model." is looked for without that, too: how a checkpoint of the base
 * class spells it. */
const wane_entry *wane_checkpoint_find(const wane_checkpoint *, const char *name,
                                       const wane_safetensors **where);    /* NULL if absent */
uint64_t wane_checkpoint_bytes(const wane_checkpoint *, const char *name); /* 0 if absent */
/* "BF16 (8, 256)" of an entry; returns out. */
const char *wane_entry_describe(const wane_entry *, char *out, size_t size);
bool wane_entry_floating(const wane_entry *); /* F32, F16 or BF16 */
/* What the tables of families.def lack for these weights, as a clause; false where nothing. */
bool wane_checkpoint_lacking(const wane_checkpoint *, char *out, size_t size);

/* A tensor that must be there with this shape (-1 fits any) and a float dtype, onto a device. The
 * message has both sides. */
wane_status wane_checkpoint_get(const wane_checkpoint *, const char *name, int rank,
                                const int64_t *shape, wane_device *, wane_tensor **out,
                                wane_err *e);

#endif
