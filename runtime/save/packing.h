/* packing.h - how codes lie in files: one row of packings.def a format.
 *
 * All rows hold the same codes without loss; what one cannot hold, it refuses with the reason and
 * the format that can. Matrices are named as in the checkpoint, without ".weight":
 * "model.layers.0.mlp.down_proj". */
#ifndef WANE_PACKING_H
#define WANE_PACKING_H

#include "runtime/model/checkpoint.h"
#include "runtime/tensor/quantized.h"

/* Tensors on their way to a file: names and references owned. */
typedef struct {
    wane_named *named;
    size_t count, room;
    uint64_t bytes;
} wane_parts;

/* Adds prefix.suffix (or prefix alone where suffix is NULL). Takes over the reference, also on
 * failure. */
wane_status wane_parts_add(wane_parts *, const char *prefix, const char *suffix, wane_tensor *,
                           wane_err *e);
void wane_parts_clear(wane_parts *);

/* The grid that all matrices of a model share, for its config. */
typedef struct {
    int bits, act_bits;
    int64_t group; /* -1: whole rows */
    bool symmetric;
    const char *const *dense; /* matrices left as they are, NULL-ended: "lm_head", ... */
} wane_packed_grid;

typedef struct wane_packing {
    const char *name; /* "compressed-tensors": what save's format option says */
    const char *doc;  /* one line */
    bool (*reads)(const json_t *quantization_config);
    /* EUNSUPPORTED: why this matrix cannot be written so, and which format can. */
    wane_status (*check)(const wane_quantized *, const char *matrix, wane_err *e);
    wane_status (*encode)(const wane_quantized *, const char *matrix, wane_device *host,
                          wane_parts *, wane_err *e); /* codes on the host */
    wane_status (*config)(const wane_packed_grid *, json_t **out, wane_err *e);
    /* Whether the checkpoint holds that matrix as codes. */
    bool (*holds)(const wane_checkpoint *, const char *matrix);
    /* What holds says is there: every tensor's dtype and shape against (m,k) and the config, from
     * the headers. EFORMAT names the tensor, what it is and what it has to be. */
    wane_status (*inspect)(const wane_checkpoint *, const char *matrix, int64_t m, int64_t k,
                           wane_err *e);
    wane_status (*decode)(const wane_checkpoint *, const char *matrix, int64_t m, int64_t k,
                          wane_device *host, wane_quantized **out, wane_err *e);
} wane_packing;

extern const wane_packing *const wane_packings[];        /* ends with NULL */
const wane_packing *wane_packing_find(const char *name); /* NULL where there is none */
const wane_packing *wane_packing_for(const json_t *quantization_config);

/* values [count] below 2^bits as a dense little-endian stream of bits in 32-bit words, and back. */
int64_t wane_words_for(int64_t count, int bits);
void wane_bits_pack(uint32_t *words, const uint8_t *values, int64_t count, int bits);
void wane_bits_unpack(uint8_t *values, const uint32_t *words, int64_t count, int bits);

#endif
