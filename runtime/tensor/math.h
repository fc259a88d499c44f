/* math.h - arithmetic on whole tensors, for whoever looks at a model by hand.
 *
 * Everything is computed in float32 by the device's slots and gives a new, contiguous f32 tensor on
 * the first operand's device. Operands have any dtype and any strides; two operands are on the same
 * device, or both in the host's memory. Shapes repeat as in NumPy: aligned at the last dimension, a
 * size of 1 repeated. */
#ifndef WANE_MATH_H
#define WANE_MATH_H

#include "runtime/tensor/tensor.h"

wane_status wane_tensor_binary(wane_tensor *a, wane_tensor *b, wane_binary_op, wane_tensor **out,
                               wane_err *e);
/* t op x, or, swapped, x op t. */
wane_status wane_tensor_scalar(wane_tensor *t, double x, bool swapped, wane_binary_op,
                               wane_tensor **out, wane_err *e);
wane_status wane_tensor_unary(wane_tensor *t, wane_unary_op, wane_tensor **out, wane_err *e);

/* (n,m) = a (n,k) b (k,m), the plain product; leading dimensions of a stay as they are. */
wane_status wane_tensor_matmul(wane_tensor *a, wane_tensor *b, wane_tensor **out, wane_err *e);
/* (cols,rows) of a matrix, of its dtype. */
wane_status wane_tensor_transpose(wane_tensor *t, wane_tensor **out, wane_err *e);

typedef enum { WANE_TOTAL, WANE_MEAN, WANE_LEAST, WANE_MOST, WANE_NORM } wane_summary;

/* One number of all elements. Mean, least and most of nothing are EARG. */
wane_status wane_tensor_summary(wane_tensor *t, wane_summary, double *out, wane_err *e);
/* Along a dimension (0-based), which stays, with size 1. */
wane_status wane_tensor_reduce(wane_tensor *t, int dim, wane_summary, wane_tensor **out,
                               wane_err *e);
/* 0-based places of the largest elements along a dimension, which stays with size 1: I32; the
 * lowest of equals, -1 for NaN. dim -1: over all elements, shape (). */
wane_status wane_tensor_argmax(wane_tensor *t, int dim, wane_tensor **out, wane_err *e);

/* Same dtype, shape and bits, wherever they lie. */
wane_status wane_tensor_equal(wane_tensor *a, wane_tensor *b, bool *out, wane_err *e);
/* SHA-256 of "DTYPE D1 D2 ...\n" and the elements' bytes in row-major order. */
wane_status wane_tensor_hash(wane_tensor *t, char out[65], wane_err *e);

/* Elements in row-major order, as dtype, into host memory. */
wane_status wane_tensor_read(wane_tensor *t, wane_dtype dtype, void *host, wane_err *e);
/* A tensor of dtype from elements of type given in host memory. */
wane_status wane_tensor_from(wane_device *, wane_dtype dtype, int rank, const int64_t *shape,
                             const void *host, wane_dtype given, wane_tensor **out, wane_err *e);
/* first, first + step, ...: count numbers. */
wane_status wane_tensor_range(wane_device *, wane_dtype, double first, double step, int64_t count,
                              wane_tensor **out, wane_err *e);

typedef struct {
    uint64_t seed;
    bool normal; /* else uniform */
    double centre,
        spread; /* mean and deviation; or the least, and the distance to the bound above */
} wane_random;

/* The same numbers for the same seed and shape, on any device. */
wane_status wane_tensor_random(wane_device *, wane_dtype, int rank, const int64_t *shape,
                               wane_random, wane_tensor **out, wane_err *e);

#endif
