/* reading.h - what all packings need to read a matrix that nobody vouches for: its tensors by name,
 * each held against what it has to be, and refusals that name both. */
#ifndef WANE_READING_H
#define WANE_READING_H

#include "runtime/save/packing.h"

/* A matrix being read. */
typedef struct {
    const wane_checkpoint *c;
    const char *matrix;
    int64_t m, k;
} wane_reading;

/* One tensor of it. */
typedef struct {
    const wane_safetensors *file;
    const wane_entry *entry; /* NULL: absent */
    const char *suffix;      /* "weight_scale" */
} wane_piece;

wane_piece wane_piece_find(const wane_checkpoint *, const char *matrix, const char *suffix);
bool wane_piece_is(wane_piece, wane_dtype, int64_t rows, int64_t cols);
bool wane_piece_floats(wane_piece, int64_t rows, int64_t cols); /* F32, F16 or BF16 */

/* EFORMAT: "X.suffix is BF16 (3, 4); it has to be ..." */
wane_status wane_piece_refuse(const wane_reading *, wane_piece, wane_err *e, const char *format,
                              ...) __attribute__((format(printf, 4, 5)));
/* EUNSUPPORTED: "DIR/config.json: quantization_config: why" */
wane_status wane_reading_unsupported(const wane_checkpoint *, wane_err *e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A whole tensor to where it belongs on the host. */
wane_status wane_piece_read(wane_piece, void *out, wane_err *e);
/* The same into a host tensor of its dtype with its size, one reference. */
wane_status wane_piece_load(wane_piece, wane_device *host, wane_tensor **out, wane_err *e);
/* ENUMERIC where one of its numbers is NaN or Inf: it would make outputs NaN. t holds the piece. */
wane_status wane_piece_finite(const wane_reading *, wane_piece, const wane_tensor *t, wane_err *e);

/* Whether a member of a config is that text; its whole number, or otherwise. */
bool wane_json_says(const json_t *object, const char *key, const char *value);
int64_t wane_json_whole(const json_t *object, const char *key, int64_t otherwise);

/* t (cols,rows) from (rows,cols), of elements of that many bytes: 2 or 4. */
void wane_turn(void *to, const void *from, int64_t rows, int64_t cols, size_t bytes);

#endif
