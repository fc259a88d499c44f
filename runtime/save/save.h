/* save.h - a quantized model to a folder, proved by reading it back; and any folder to a model. */
#ifndef WANE_SAVE_H
#define WANE_SAVE_H

#include "runtime/model/model.h"
#include "runtime/save/packing.h"

typedef struct {
    const wane_packing *packing; /* NULL: dense, the weights that the codes stand for */
    wane_dtype dense;            /* of all weights then; WANE_DTYPES: the embedding's */
    bool round; /* scales and zero points that the packing has no numbers for are rounded to it */
    const char
        *report; /* JSON text written beside it as wane.json: what was measured; may be NULL */
    uint64_t shard_bytes; /* most bytes of a file's tensors, unless one is larger; 0: 5 GB */
    /* Where layers come one after another (early.h): the grid that all codes are going to have, and
     * what waits for the report and gives it. NULL elsewhere. */
    const wane_packed_grid *grid;
    wane_status (*await)(void *self, const char **report, wane_err *e);
    void *self;
} wane_save_options;

typedef struct {
    uint64_t bytes;        /* of the weight files */
    wane_packed_loss loss; /* of rounding; of a dense model its weights' */
} wane_saved;

/* Writes weights, config with its quantization_config, tokenizer, chat template and generation
 * config into a temporary folder beside dir, opens it again, compares every tensor with the
 * model's, hashes every file into SHA256SUMS, and renames. dir must not be there, nor lie in the
 * source's folder (EIO). Weights that are not quantized are copied byte for byte. EUNSUPPORTED,
 * before anything is written, where the packing cannot hold the codes, or not without rounding. On
 * failure nothing is left. */
wane_status wane_save(wane_model *, const char *dir, const wane_save_options *, wane_saved *told,
                      wane_err *e);

/* A folder, dense or packed in a way that wane knows; EUNSUPPORTED names the way otherwise. Reads
 * headers only. */
wane_status wane_model_open(const char *dir, wane_device *, wane_device *host, wane_model **out,
                            wane_err *e);

/* How an opened folder is packed: *packing NULL where it is dense, else its grid as the headers of
 * its first layer show it: fractional where zero points are numbers that may be fractions. Whole
 * rows are told apart from a group as wide as some matrices by every matrix having one scale a row.
 */
wane_status wane_checkpoint_grid(const wane_checkpoint *, const wane_packing **packing,
                                 wane_packed_grid *, wane_err *e);
/* Whether all matrices of a model of that shape can be written so. */
wane_status wane_config_check(const wane_config *, const wane_packing *, const wane_packed_grid *,
                              wane_err *e);

/* Whether two layers hold the same tensors, bit by bit; both on the host. different (WANE_NAME
 * bytes, may be NULL) names the first that differs. */
bool wane_layer_equal(const wane_layer *, const wane_layer *, char *different);

#endif
