/* math.c - see math.h. An operation takes its operands apart into matrices until the slots, which
 * know matrices with a repeated row or column, can do the rest. */
#include "runtime/tensor/math.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* t itself where it is a matrix to the slots, else a contiguous copy; the caller's to release. */
static wane_status operand(wane_tensor *t, wane_tensor **out, wane_err *e)
{
    if (wane_tensor_count(t) == 0 || wane_tensor_mat(t).data) {
        *out = wane_tensor_retain(t);
        return WANE_OK;
    }
    return wane_tensor_copy_to(t, wane_tensor_device(t), t->dtype, out, e);
}

/* The same, and contiguous, so that it can be cut anywhere. */
static wane_status packed(wane_tensor *t, wane_tensor **out, wane_err *e)
{
    if (wane_tensor_contiguous(t)) {
        *out = wane_tensor_retain(t);
        return WANE_OK;
    }
    return wane_tensor_copy_to(t, wane_tensor_device(t), t->dtype, out, e);
}

static wane_status check_together(const wane_tensor *a, const wane_tensor *b, wane_err *e)
{
    const wane_device *p = wane_tensor_device(a), *q = wane_tensor_device(b);
    if (p == q || (wane_device_is_host(p) && wane_device_is_host(q))) return WANE_OK;
    return wane_fail(e, WANE_EARG, "one tensor is on %s, the other on %s; move one with :to",
                     p->name, q->name);
}

/* "(3, 4)"; returns out. */
static const char *shape_text(char *out, size_t size, const wane_tensor *t)
{
    size_t at = (size_t)snprintf(out, size, "(");
    for (int i = 0; i < t->rank && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, i ? ", %" PRId64 : "%" PRId64, t->shape[i]);
    if (at < size) snprintf(out + at, size - at, ")");
    return out;
}

/* The shape that a and b make together. */
static wane_status joint_shape(const wane_tensor *a, const wane_tensor *b, int *rank,
                               int64_t *shape, wane_err *e)
{
    char left[180], right[180];
    *rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 1; i <= *rank; i++) { /* from the last dimension */
        int64_t p = i <= a->rank ? a->shape[a->rank - i] : 1,
                q = i <= b->rank ? b->shape[b->rank - i] : 1;
        if (p != q && p != 1 && q != 1)
            return wane_fail(e, WANE_EARG, "shapes %s and %s do not fit each other",
                             shape_text(left, sizeof left, a), shape_text(right, sizeof right, b));
        shape[*rank - i] = p == 1 ? q : p;
    }
    return WANE_OK;
}

/* A description of t with leading dimensions of size 1 up to rank; it retains nothing. */
static wane_tensor padded(const wane_tensor *t, int rank)
{
    wane_tensor p = *t;
    int more = rank - t->rank;
    for (int i = 0; i < rank; i++) {
        p.shape[i] = i < more ? 1 : t->shape[i - more];
        p.stride[i] = i < more ? 0 : t->stride[i - more];
    }
    p.rank = rank;
    return p;
}

/* Part i of the first dimension; the only one there is where its size is 1. */
static wane_tensor part(wane_tensor t, int64_t i)
{
    if (t.shape[0] > 1) t.offset += i * t.stride[0];
    t.rank--;
    memmove(t.shape, t.shape + 1, (size_t)t.rank * sizeof *t.shape);
    memmove(t.stride, t.stride + 1, (size_t)t.rank * sizeof *t.stride);
    return t;
}

/* Whether, next to y, t is a matrix with all rows or one. */
static bool fits(const wane_tensor *t, const wane_tensor *y)
{
    bool same = true, single = true;
    for (int i = 0; i < y->rank - 1; i++) {
        same &= t->shape[i] == y->shape[i];
        single &= t->shape[i] == 1;
    }
    return same || single;
}

/* y, a and b have one rank; a and b are matrices as wane_tensor_mat says. */
static wane_status sweep(wane_device *d, wane_tensor y, wane_tensor a, wane_tensor b,
                         wane_binary_op op, wane_err *e)
{
    if (fits(&a, &y) && fits(&b, &y))
        return WANE_CALL(d, e, binary, wane_tensor_mat(&y), wane_tensor_mat(&a),
                         wane_tensor_mat(&b), op);
    for (int64_t i = 0; i < y.shape[0]; i++) {
        wane_status s = sweep(d, part(y, i), part(a, i), part(b, i), op, e);
        if (s) return s;
    }
    return WANE_OK;
}

wane_status wane_tensor_binary(wane_tensor *a, wane_tensor *b, wane_binary_op op, wane_tensor **out,
                               wane_err *e)
{
    wane_tensor *x = NULL, *z = NULL, *y = NULL;
    int64_t shape[WANE_RANK];
    int rank;
    *out = NULL;
    wane_status s = check_together(a, b, e);
    if (!s) s = joint_shape(a, b, &rank, shape, e);
    if (!s) s = operand(a, &x, e);
    if (!s) s = operand(b, &z, e);
    if (!s) s = wane_tensor_new(wane_tensor_device(a), WANE_F32, rank, shape, &y, e);
    if (!s && wane_tensor_count(y))
        s = sweep(wane_tensor_device(a), *y, padded(x, rank), padded(z, rank), op, e);
    if (!s) *out = wane_tensor_retain(y);
    wane_tensor_release(x);
    wane_tensor_release(z);
    wane_tensor_release(y);
    return s;
}

wane_status wane_tensor_scalar(wane_tensor *t, double x, bool swapped, wane_binary_op op,
                               wane_tensor **out, wane_err *e)
{
    wane_tensor *number = NULL;
    float value = (float)x;
    *out = NULL;
    wane_status s = wane_tensor_new(wane_tensor_device(t), WANE_F32, 0, NULL, &number, e);
    if (!s) s = wane_tensor_put(number, &value, e);
    if (!s)
        s = swapped ? wane_tensor_binary(number, t, op, out, e)
                    : wane_tensor_binary(t, number, op, out, e);
    wane_tensor_release(number);
    return s;
}

wane_status wane_tensor_unary(wane_tensor *t, wane_unary_op op, wane_tensor **out, wane_err *e)
{
    wane_tensor *x = NULL, *y = NULL;
    wane_device *d = wane_tensor_device(t);
    *out = NULL;
    wane_status s = operand(t, &x, e);
    if (!s) s = wane_tensor_new(d, WANE_F32, t->rank, t->shape, &y, e);
    if (!s && wane_tensor_count(y))
        s = WANE_CALL(d, e, unary, wane_tensor_mat(y), wane_tensor_mat(x), op);
    if (!s) *out = wane_tensor_retain(y);
    wane_tensor_release(x);
    wane_tensor_release(y);
    return s;
}

wane_status wane_tensor_transpose(wane_tensor *t, wane_tensor **out, wane_err *e)
{
    wane_tensor *x = NULL, *y = NULL;
    wane_device *d = wane_tensor_device(t);
    char shown[180];
    *out = NULL;
    if (t->rank != 2)
        return wane_fail(e, WANE_EARG, "only a matrix can be transposed, not a tensor of shape %s",
                         shape_text(shown, sizeof shown, t));
    wane_status s = operand(t, &x, e);
    if (!s) s = wane_tensor_new2(d, t->dtype, t->shape[1], t->shape[0], &y, e);
    if (!s && wane_tensor_count(y))
        s = WANE_CALL(d, e, transpose, wane_tensor_mat(y), wane_tensor_mat(x));
    if (!s) *out = wane_tensor_retain(y);
    wane_tensor_release(x);
    wane_tensor_release(y);
    return s;
}

/* An operand of a float dtype: integers become f32. */
static wane_status float_operand(wane_tensor *t, wane_tensor **out, wane_err *e)
{
    bool is_float = t->dtype == WANE_F32 || t->dtype == WANE_F16 || t->dtype == WANE_BF16;
    if (is_float) return operand(t, out, e);
    return wane_tensor_copy_to(t, wane_tensor_device(t), WANE_F32, out, e);
}

wane_status wane_tensor_matmul(wane_tensor *a, wane_tensor *b, wane_tensor **out, wane_err *e)
{
    wane_tensor *x = NULL, *w = NULL, *y = NULL, *columns = NULL;
    wane_device *d = wane_tensor_device(a);
    int64_t shape[WANE_RANK];
    char left[180], right[180];
    *out = NULL;
    wane_status s = check_together(a, b, e);
    if (s) return s;
    if (a->rank < 1 || b->rank != 2 || a->shape[a->rank - 1] != b->shape[0])
        return wane_fail(e, WANE_EARG, "cannot multiply %s by %s: wanted (n, k) by (k, m)",
                         shape_text(left, sizeof left, a), shape_text(right, sizeof right, b));
    memcpy(shape, a->shape, sizeof shape);
    shape[a->rank - 1] = b->shape[1];
    s = float_operand(a, &x, e);
    if (!s) s = float_operand(b, &w, e);
    if (!s) s = wane_tensor_transpose(w, &columns, e);
    if (!s) s = wane_tensor_new(d, WANE_F32, a->rank, shape, &y, e);
    if (!s && wane_tensor_count(y) && !a->shape[a->rank - 1])
        s = WANE_CALL(d, e, fill, wane_tensor_mat(y).data, 0, (size_t)wane_tensor_bytes(y));
    else if (!s && wane_tensor_count(y))
        s = WANE_CALL(d, e, matmul, wane_tensor_mat(y), wane_tensor_mat(x),
                      wane_tensor_mat(columns));
    if (!s) *out = wane_tensor_retain(y);
    wane_tensor_release(x);
    wane_tensor_release(w);
    wane_tensor_release(columns);
    wane_tensor_release(y);
    return s;
}

static wane_reduce_op slot_of(wane_summary what)
{
    static const wane_reduce_op op[] = {[WANE_TOTAL] = WANE_SUM,
                                        [WANE_MEAN] = WANE_SUM,
                                        [WANE_LEAST] = WANE_MIN,
                                        [WANE_MOST] = WANE_MAX,
                                        [WANE_NORM] = WANE_SQUARE_SUM};
    return op[what];
}

static wane_status check_not_empty(int64_t count, wane_summary what, wane_err *e)
{
    if (count || what == WANE_TOTAL || what == WANE_NORM) return WANE_OK;
    return wane_fail(e, WANE_EARG, "nothing to take the %s of: there are no elements",
                     what == WANE_MEAN    ? "mean"
                     : what == WANE_LEAST ? "min"
                                          : "max");
}

wane_status wane_tensor_summary(wane_tensor *t, wane_summary what, double *out, wane_err *e)
{
    wane_tensor *x = NULL, *y = NULL;
    wane_device *d = wane_tensor_device(t);
    int64_t count = wane_tensor_count(t);
    float value = 0;
    *out = 0;
    wane_status s = check_not_empty(count, what, e);
    if (s || !count) return s;
    s = operand(t, &x, e);
    if (!s) s = wane_tensor_new2(d, WANE_F32, 1, 1, &y, e);
    if (!s) s = WANE_CALL(d, e, reduce, wane_tensor_mat(y), wane_tensor_mat(x), slot_of(what));
    if (!s) s = wane_tensor_get(y, &value, e);
    if (!s)
        *out = what == WANE_NORM   ? sqrt((double)value)
               : what == WANE_MEAN ? value / (double)count
                                   : value;
    wane_tensor_release(x);
    wane_tensor_release(y);
    return s;
}

static wane_status check_dim(const wane_tensor *t, int dim, wane_err *e)
{
    if (dim >= 0 && dim < t->rank) return WANE_OK;
    return wane_fail(e, WANE_EARG, "no dimension %d in a tensor of rank %d", dim + 1, t->rank);
}

/* Dimensions before and after dim, each multiplied into one. */
static void around(const wane_tensor *t, int dim, int64_t *outer, int64_t *inner)
{
    *outer = *inner = 1;
    for (int i = 0; i < dim; i++) *outer *= t->shape[i];
    for (int i = dim + 1; i < t->rank; i++) *inner *= t->shape[i];
}

wane_status wane_tensor_reduce(wane_tensor *t, int dim, wane_summary what, wane_tensor **out,
                               wane_err *e)
{
    wane_tensor *x = NULL, *y = NULL, *last = NULL;
    wane_device *d = wane_tensor_device(t);
    int64_t shape[WANE_RANK], outer, inner;
    *out = NULL;
    wane_status s = check_dim(t, dim, e);
    if (!s) s = check_not_empty(t->shape[dim], what, e);
    if (s) return s;
    memcpy(shape, t->shape, sizeof shape);
    shape[dim] = 1;
    around(t, dim, &outer, &inner);
    s = packed(t, &x, e);
    if (!s) s = wane_tensor_zeros(d, WANE_F32, t->rank, shape, &y, e);
    if (!s && wane_tensor_count(t)) {
        wane_mat in = wane_tensor_mat(x), to = wane_tensor_mat(y);
        if (inner == 1) {
            s = WANE_CALL(d, e, reduce, wane_mat_reshape(to, outer, 1),
                          wane_mat_reshape(in, outer, t->shape[dim]), slot_of(what));
        } else {
            in = wane_mat_reshape(in, outer * t->shape[dim], inner);
            to = wane_mat_reshape(to, outer, inner);
            for (int64_t i = 0; i < outer && !s; i++)
                s = WANE_CALL(d, e, reduce, wane_mat_rows(to, i, 1),
                              wane_mat_rows(in, i * t->shape[dim], t->shape[dim]), slot_of(what));
        }
    }
    if (!s && what == WANE_MEAN)
        s = wane_tensor_scalar(y, (double)t->shape[dim], false, WANE_DIV, &last, e);
    else if (!s && what == WANE_NORM)
        s = wane_tensor_unary(y, WANE_SQRT, &last, e);
    else if (!s)
        last = wane_tensor_retain(y);
    *out = last;
    wane_tensor_release(x);
    wane_tensor_release(y);
    return s;
}

wane_status wane_tensor_argmax(wane_tensor *t, int dim, wane_tensor **out, wane_err *e)
{
    wane_tensor *x = NULL, *y = NULL, *turned = NULL;
    wane_device *d = wane_tensor_device(t);
    int64_t shape[WANE_RANK], outer = 1, inner = 1, along = wane_tensor_count(t);
    bool all = dim < 0;
    *out = NULL;
    wane_status s = all ? WANE_OK : check_dim(t, dim, e);
    if (s) return s;
    memcpy(shape, t->shape, sizeof shape);
    if (!all) {
        along = t->shape[dim];
        shape[dim] = 1;
        around(t, dim, &outer, &inner);
    }
    s = check_not_empty(along, WANE_MOST, e);
    if (!s && along > INT32_MAX) s = wane_fail(e, WANE_EARG, "too many elements for argmax");
    if (!s && t->dtype == WANE_F32)
        s = packed(t, &x, e);
    else if (!s)
        s = wane_tensor_copy_to(t, d, WANE_F32, &x, e); /* what the slot takes */
    if (!s) s = wane_tensor_new(d, WANE_I32, all ? 0 : t->rank, shape, &y, e);
    if (!s && inner > 1) s = wane_tensor_new2(d, WANE_F32, inner, along, &turned, e);
    if (!s && wane_tensor_count(y)) {
        wane_mat in = wane_tensor_mat(x),
                 to = wane_mat_reshape(wane_tensor_mat(y), outer * inner, 1);
        if (inner == 1) s = WANE_CALL(d, e, argmax, to, wane_mat_reshape(in, outer, along));
        in = wane_mat_reshape(in, outer * along, inner);
        for (int64_t i = 0; i < outer && inner > 1 && !s; i++) {
            s = WANE_CALL(d, e, transpose, wane_tensor_mat(turned),
                          wane_mat_rows(in, i * along, along));
            if (!s)
                s = WANE_CALL(d, e, argmax, wane_mat_rows(to, i * inner, inner),
                              wane_tensor_mat(turned));
        }
    }
    if (!s) *out = wane_tensor_retain(y);
    wane_tensor_release(x);
    wane_tensor_release(y);
    wane_tensor_release(turned);
    return s;
}
