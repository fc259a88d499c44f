/* tensor.h - counted buffers on a device and views of them.
 *
 * A buffer owns device memory and is counted; a tensor is a dtype, a shape and strides over a
 * buffer it retains. new, view, copy_to give you one reference; every other pointer is borrowed. A
 * tensor is immutable in shape; closing a model never invalidates a tensor taken from it. */
#ifndef WANE_TENSOR_H
#define WANE_TENSOR_H

#include "runtime/tensor/device.h"

enum { WANE_RANK = 8 };

typedef struct {
    int refs;
    wane_device *device; /* retained */
    void *data;
    uint64_t bytes;
} wane_buffer;

typedef struct wane_tensor {
    int refs;
    wane_buffer *buffer; /* retained */
    wane_dtype dtype;
    int rank; /* 0 .. WANE_RANK */
    int64_t shape[WANE_RANK];
    int64_t stride[WANE_RANK]; /* elements */
    int64_t offset;            /* elements from the buffer's start */
} wane_tensor;

const char *wane_dtype_name(wane_dtype);                  /* "bf16", "f32", "i64" */
bool wane_dtype_parse(const char *name, wane_dtype *out); /* the same names */

/* rank dimensions, each >= 0, sizes checked. Contents are not cleared (zeros does). */
wane_status wane_tensor_new(wane_device *, wane_dtype, int rank, const int64_t *shape,
                            wane_tensor **out, wane_err *e);
wane_status wane_tensor_zeros(wane_device *, wane_dtype, int rank, const int64_t *shape,
                              wane_tensor **out, wane_err *e);
/* (rows, cols) in one call: what the core nearly always wants. */
wane_status wane_tensor_new2(wane_device *, wane_dtype, int64_t rows, int64_t cols,
                             wane_tensor **out, wane_err *e);
wane_tensor *wane_tensor_retain(wane_tensor *); /* NULL gives NULL */
void wane_tensor_release(wane_tensor *);        /* NULL is fine */

int64_t wane_tensor_count(const wane_tensor *); /* elements */
uint64_t wane_tensor_bytes(const wane_tensor *);
bool wane_tensor_contiguous(const wane_tensor *);
static inline wane_device *wane_tensor_device(const wane_tensor *t)
{
    return t->buffer->device;
}

/* Views: no data moves. slice keeps elements start .. start+length-1 of a dimension (0-based). */
wane_status wane_tensor_slice(wane_tensor *, int dim, int64_t start, int64_t length,
                              wane_tensor **out, wane_err *e);
/* Element index of a dimension, which goes: a row of a matrix is a tensor of rank 1. */
wane_status wane_tensor_select(wane_tensor *, int dim, int64_t index, wane_tensor **out,
                               wane_err *e);
wane_status wane_tensor_reshape(wane_tensor *, int rank, const int64_t *shape, wane_tensor **out,
                                wane_err *e); /* of a contiguous tensor */

/* The tensor as a matrix: the last dimension is cols, all others together rows. EARG in debug terms
 * (data NULL) where strides do not allow it; contiguous tensors always do. NULL gives an empty mat.
 */
wane_mat wane_tensor_mat(const wane_tensor *);
/* Rows first .. first+rows-1 of that matrix. */
wane_mat wane_mat_rows(wane_mat, int64_t first, int64_t rows);
/* The same memory as rows x cols (contiguous only). */
wane_mat wane_mat_reshape(wane_mat, int64_t rows, int64_t cols);
/* What such a matrix takes of a larger buffer in which all are aligned to 256 bytes. */
uint64_t wane_mat_bytes(wane_dtype, int64_t rows, int64_t cols);

/* Host bytes in row-major order <-> device; the tensor is contiguous. */
wane_status wane_tensor_put(wane_tensor *, const void *host, wane_err *e);
wane_status wane_tensor_get(const wane_tensor *, void *host, wane_err *e);

/* A contiguous copy on a device (the same or another), of a dtype. */
wane_status wane_tensor_copy_to(const wane_tensor *, wane_device *, wane_dtype, wane_tensor **out,
                                wane_err *e);

#endif
