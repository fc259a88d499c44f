/* kernels.h - what the tests of kernel slots share: a target is one opened backend; a row is one
 * slot with the function that holds it to a plain reference, in double, computed in the test.
 *
 * Device matrices have odd strides, and what lies between their rows must stay as it was. All that
 * get_mat brings back goes into the target's hash: two runs of a row must agree in every bit, and
 * so must devices that differ in their number of threads alone. */
#ifndef WANE_TEST_KERNELS_H
#define WANE_TEST_KERNELS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "tests/c/test.h"

typedef struct {
    const wane_kernels *k;
    wane_dev *dev;
    char label[64];
    int same_as; /* an earlier target with which all results must agree; -1: none */
    uint64_t random, hash;
    void *device[256], *host[1024]; /* given back after each row */
    int n_device, n_host, n_wanted;
} target;

typedef struct {
    const char *slot;
    void (*check)(target *);
} kernel_row;

extern const kernel_row kernel_rows_matrix[], kernel_rows_quant[], kernel_rows_transformer[];

void *host_bytes(target *, size_t);                /* zeroed */
double *normal(target *, int64_t n, double scale); /* bell-shaped random numbers */
/* What a row wants to see, worked out once for all targets, which get the same inputs: zeroed and
 * fresh the first time, afterwards as it was left then. */
double *wanted(target *, int64_t n, bool *fresh);
void product(double *y, const double *x, const double *w, int64_t n, int64_t m,
             int64_t k);           /* x w^T */
int64_t pick(target *, int64_t n); /* 0 .. n-1 */
double stored(wane_dtype, double); /* x as that dtype holds it */
/* A matrix on the device with pad elements between its rows. v (rows*cols) becomes what the dtype
 * holds; v NULL: the matrix is an output and starts as noise. */
wane_mat put_mat(target *, wane_dtype, int64_t rows, int64_t cols, int64_t pad, double *v);
double *get_mat(target *, wane_mat);             /* (rows*cols) */
void *put_bytes(target *, const void *, size_t); /* a copy on the device */
void give_back(target *);                        /* what the row was given */

/* Root of the mean squared difference, over the root of the mean square of want, at most limit. */
void check_near(target *, const char *what, const double *got, const double *want, int64_t n,
                double limit);
/* The same bits (NaN equals NaN); at most `other` elements may differ. */
void check_same(target *, const char *what, const double *got, const double *want, int64_t n,
                int64_t other);
#define RUN(t, slot, ...)     assert_int_equal((t)->k->slot((t)->dev, __VA_ARGS__), WANE_OK)
#define REFUSED(t, slot, ...) assert_int_equal((t)->k->slot((t)->dev, __VA_ARGS__), WANE_EARG)

/* Padding after rows of so many elements: such that vectors may be read from every row's start
 * where the width allows that (or none at all), else an odd one. */
static inline int64_t gap(int64_t cols, int64_t odd)
{
    return cols % 32 ? odd : cols % 64 ? 8 : 0;
}

static const wane_dtype float_types[] = {WANE_F32, WANE_F16, WANE_BF16};
/* how far a result may be off for having been rounded to that type, over float32's own noise */
static inline double type_limit(wane_dtype t)
{
    return t == WANE_F32 ? 2e-6 : t == WANE_F16 ? 5e-4 : 4e-3;
}

#endif
