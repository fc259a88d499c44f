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
/* The same of a new tensor on the host, with a copy of what it holds. */
wane_status wane_parts_add_copy(wane_parts *, const char *prefix, const char *suffix, wane_dtype,
                                int rank, const int64_t *shape, const void *bytes,
                                wane_device *host, wane_err *e);
void wane_parts_clear(wane_parts *);

/* The grid that all matrices of a model share, for its config. */
typedef struct {
    int bits, act_bits;
    int64_t group;   /* -1: whole rows */
    bool symmetric;  /* every zero point is 2^(bits-1) */
    bool fractional; /* zero points that are no whole numbers */
    bool head;       /* "lm_head" is codes too */
} wane_packed_grid;

/* One matrix as its file holds it, from the headers. */
typedef struct {
    int bits, act_bits;
    int64_t group;
    wane_dtype scale;
    wane_dtype zero; /* as wane_quantized has it: U8, F32, or WANE_DTYPES for none */
} wane_packed_about;

/* What zero points a format has. */
typedef enum {
    WANE_ZEROS_WHOLE,  /* whole numbers where the grid is not symmetric, else none */
    WANE_ZEROS_ALWAYS, /* whole numbers, for symmetric grids too */
    WANE_ZEROS_FLOAT   /* numbers of the scales' type, always */
} wane_zeros;

typedef struct wane_packing {
    const char *name; /* "compressed-tensors": what save's format option says */
    const char *doc;  /* one line */
    wane_dtype scale; /* of all scales in the file; WANE_DTYPES: as they are */
    wane_zeros zeros;
    bool (*reads)(const json_t *quantization_config);
    /* EUNSUPPORTED: why a matrix (m,k) on that grid cannot be written so, and which format can. May
     * be NULL. Use wane_packing_check. */
    wane_status (*check)(const wane_packed_grid *, int64_t m, int64_t k, wane_err *e);
    /* q is on the host and as wane_packed_fit gives it. */
    wane_status (*encode)(const wane_quantized *q, const char *matrix, wane_device *host,
                          wane_parts *, wane_err *e);
    wane_status (*config)(const wane_packed_grid *, json_t **out, wane_err *e);
    /* Whether the checkpoint holds that matrix as codes. */
    bool (*holds)(const wane_checkpoint *, const char *matrix);
    /* What holds says is there: every tensor's dtype and shape against (m,k) and the config, from
     * the headers. EFORMAT names the tensor, what it is and what it has to be. */
    wane_status (*inspect)(const wane_checkpoint *, const char *matrix, int64_t m, int64_t k,
                           wane_packed_about *out, wane_err *e);
    /* What inspect has accepted, into q (m,k), which is on the host and as inspect told of it. Use
     * wane_packing_decode. */
    wane_status (*read)(const wane_checkpoint *, const char *matrix, wane_quantized *q,
                        wane_device *host, wane_err *e);
} wane_packing;

extern const wane_packing *const wane_packings[];        /* ends with NULL */
const wane_packing *wane_packing_find(const char *name); /* NULL where there is none */
const wane_packing *wane_packing_for(const json_t *quantization_config);

/* Whether a matrix can be written so at all, by its grid and size. */
wane_status wane_packing_check(const wane_packing *, const wane_packed_grid *, const char *matrix,
                               int64_t m, int64_t k, wane_err *e);

/* A matrix that holds says is there, on the host, one reference; as inspect, and EIO. */
wane_status wane_packing_decode(const wane_packing *, const wane_checkpoint *, const char *matrix,
                                int64_t m, int64_t k, wane_device *host, wane_quantized **out,
                                wane_err *e);

/* What writing in another type than the codes were fitted in has cost. */
typedef struct {
    uint64_t rounded; /* scales and zero points that are not what they were */
    double worst;     /* the largest change: of a scale relative, of a zero point in steps */
} wane_packed_loss;

/* q as the format stores it: scales of its type, zero points of its kind, the same codes. q is on
 * the host. Where the weights would not be exactly the same it is EUNSUPPORTED, unless `round`:
 * then scales and zero points are rounded and counted. What no rounding helps is refused always. */
wane_status wane_packed_fit(const wane_packing *, const wane_quantized *q, bool symmetric,
                            bool round, wane_packed_loss *, const char *matrix,
                            wane_quantized **out, wane_err *e);
/* Whether every zero point is 2^(bits-1); of a matrix on the host. And whether all are whole
 * numbers that a code can be. */
bool wane_packed_centred(const wane_quantized *);
bool wane_packed_whole(const wane_quantized *);

/* values [count] below 2^bits as a dense little-endian stream of bits in 32-bit words, and back. */
int64_t wane_words_for(int64_t count, int bits);
void wane_bits_pack(uint32_t *words, const uint8_t *values, int64_t count, int bits);
void wane_bits_unpack(uint8_t *values, const uint32_t *words, int64_t count, int bits);

#endif
