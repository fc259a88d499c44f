/* tensor.c - see tensor.h. Sizes are checked when a tensor is made, so that later products of its
 * dimensions fit: every dimension, 0 counted as 1, multiplies to at most 2^47 bytes. */
#include "runtime/tensor/tensor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"

static const uint64_t BYTES_MOST = (uint64_t)1 << 47;
static const uint64_t STAGING =
    1 << 20; /* bytes at a time between two devices that are not the host */

static const char *const names[WANE_DTYPES] = {
    [WANE_F32] = "f32", [WANE_F16] = "f16", [WANE_BF16] = "bf16", [WANE_I8] = "i8",
    [WANE_U8] = "u8",   [WANE_I32] = "i32", [WANE_I64] = "i64",
};

const char *wane_dtype_name(wane_dtype t)
{
    return (unsigned)t < WANE_DTYPES ? names[t] : "unknown";
}

bool wane_dtype_parse(const char *name, wane_dtype *out)
{
    for (int i = 0; i < WANE_DTYPES; i++) {
        if (strcmp(name, names[i])) continue;
        *out = (wane_dtype)i;
        return true;
    }
    return false;
}

/* Row-major strides of a shape, and how many elements it has. */
static wane_status measure(wane_dtype dtype, int rank, const int64_t *shape, int64_t *stride,
                           uint64_t *count, wane_err *e)
{
    uint64_t step = 1, bytes;
    *count = 1;
    if ((unsigned)dtype >= WANE_DTYPES)
        return wane_fail(e, WANE_EARG, "no such dtype: %d", (int)dtype);
    if (rank < 0 || rank > WANE_RANK)
        return wane_fail(e, WANE_EARG, "a tensor has 0 to %d dimensions, not %d", WANE_RANK, rank);
    for (int i = rank - 1; i >= 0; i--) {
        if (shape[i] < 0)
            return wane_fail(e, WANE_EARG, "dimension %d is %" PRId64 "; it cannot be negative",
                             i + 1, shape[i]);
        stride[i] = (int64_t)step;
        if (shape[i] == 0) *count = 0;
        if (!wane_mul(step, shape[i] ? (uint64_t)shape[i] : 1, &step) || step > BYTES_MOST)
            return wane_fail(e, WANE_EARG, "the shape has more elements than any memory");
    }
    if (!wane_mul(step, wane_dtype_bytes(dtype), &bytes) || bytes > BYTES_MOST)
        return wane_fail(e, WANE_EARG, "the shape has more bytes than any memory");
    if (*count) *count = step;
    return WANE_OK;
}

static void buffer_release(wane_buffer *b)
{
    if (--b->refs > 0) return;
    wane_device_free(b->device, b->data, b->bytes);
    wane_device_release(b->device);
    free(b);
}

static wane_status no_host_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for a tensor's description");
}

wane_status wane_tensor_new(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape,
                            wane_tensor **out, wane_err *e)
{
    uint64_t count;
    wane_tensor *t = NULL;
    wane_buffer *b = NULL;
    *out = NULL;
    wane_status s = WANE_OK;
    t = calloc(1, sizeof *t);
    b = calloc(1, sizeof *b);
    if (!t || !b) {
        s = no_host_memory(e);
        goto done;
    }
    s = measure(dtype, rank, shape, t->stride, &count, e);
    if (s) goto done;
    b->bytes = count * wane_dtype_bytes(dtype);
    s = wane_device_alloc(d, b->bytes, &b->data, e);
    if (s) goto done;
    b->refs = 1;
    b->device = wane_device_retain(d);
    t->refs = 1;
    t->buffer = b;
    t->dtype = dtype;
    t->rank = rank;
    if (rank) memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    *out = t;
    return WANE_OK;
done:
    free(t);
    free(b);
    return s;
}

wane_status wane_tensor_zeros(wane_device *d, wane_dtype dtype, int rank, const int64_t *shape,
                              wane_tensor **out, wane_err *e)
{
    wane_status s = wane_tensor_new(d, dtype, rank, shape, out, e);
    if (s || !(*out)->buffer->bytes) return s;
    s = WANE_CALL(d, e, fill, (*out)->buffer->data, 0, (size_t)(*out)->buffer->bytes);
    if (s) {
        wane_tensor_release(*out);
        *out = NULL;
    }
    return s;
}

wane_status wane_tensor_new2(wane_device *d, wane_dtype dtype, int64_t rows, int64_t cols,
                             wane_tensor **out, wane_err *e)
{
    int64_t shape[] = {rows, cols};
    return wane_tensor_new(d, dtype, 2, shape, out, e);
}

wane_tensor *wane_tensor_retain(wane_tensor *t)
{
    if (t) t->refs++;
    return t;
}

void wane_tensor_release(wane_tensor *t)
{
    if (!t || --t->refs > 0) return;
    buffer_release(t->buffer);
    free(t);
}

int64_t wane_tensor_count(const wane_tensor *t)
{
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++) count *= t->shape[i];
    return count;
}

uint64_t wane_tensor_bytes(const wane_tensor *t)
{
    return (uint64_t)wane_tensor_count(t) * wane_dtype_bytes(t->dtype);
}

bool wane_tensor_contiguous(const wane_tensor *t)
{
    int64_t step = 1;
    if (wane_tensor_count(t) == 0) return true;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != step) return false;
        step *= t->shape[i];
    }
    return true;
}

/* A copy of the description, which the caller then changes. */
static wane_tensor *view(wane_tensor *t)
{
    wane_tensor *v = malloc(sizeof *v);
    if (!v) return NULL;
    *v = *t;
    v->refs = 1;
    v->buffer->refs++;
    return v;
}

static wane_status check_range(const wane_tensor *t, int dim, int64_t start, int64_t length,
                               wane_err *e)
{
    if (dim < 0 || dim >= t->rank)
        return wane_fail(e, WANE_EARG, "no dimension %d in a tensor of rank %d", dim + 1, t->rank);
    if (start < 0 || length < 0 || start > t->shape[dim] || length > t->shape[dim] - start)
        return wane_fail(e, WANE_EARG,
                         "%" PRId64 " elements from number %" PRId64
                         " on are not all within dimension %d of size %" PRId64,
                         length, start + (start < INT64_MAX), dim + 1, t->shape[dim]);
    return WANE_OK;
}

wane_status wane_tensor_slice(wane_tensor *t, int dim, int64_t start, int64_t length,
                              wane_tensor **out, wane_err *e)
{
    *out = NULL;
    wane_status s = check_range(t, dim, start, length, e);
    if (s) return s;
    wane_tensor *v = view(t);
    if (!v) return no_host_memory(e);
    v->offset += start * t->stride[dim];
    v->shape[dim] = length;
    *out = v;
    return WANE_OK;
}

wane_status wane_tensor_select(wane_tensor *t, int dim, int64_t index, wane_tensor **out,
                               wane_err *e)
{
    *out = NULL;
    wane_status s = check_range(t, dim, index, 1, e);
    if (s) return s;
    wane_tensor *v = view(t);
    if (!v) return no_host_memory(e);
    v->offset += index * t->stride[dim];
    v->rank--;
    for (int i = dim; i < v->rank; i++) {
        v->shape[i] = t->shape[i + 1];
        v->stride[i] = t->stride[i + 1];
    }
    *out = v;
    return WANE_OK;
}

wane_status wane_tensor_reshape(wane_tensor *t, int rank, const int64_t *shape, wane_tensor **out,
                                wane_err *e)
{
    int64_t stride[WANE_RANK];
    uint64_t count;
    *out = NULL;
    wane_status s = measure(t->dtype, rank, shape, stride, &count, e);
    if (s) return s;
    if (count != (uint64_t)wane_tensor_count(t))
        return wane_fail(e, WANE_EARG, "cannot reshape %" PRId64 " elements to %" PRIu64,
                         wane_tensor_count(t), count);
    if (!wane_tensor_contiguous(t))
        return wane_fail(e, WANE_EARG,
                         "cannot reshape a slice whose rows are apart; copy it first");
    wane_tensor *v = view(t);
    if (!v) return no_host_memory(e);
    v->rank = rank;
    for (int i = 0; i < rank; i++) {
        v->shape[i] = shape[i];
        v->stride[i] = stride[i];
    }
    *out = v;
    return WANE_OK;
}

wane_mat wane_tensor_mat(const wane_tensor *t)
{
    wane_mat m = {0};
    if (!t) return m;
    int last = t->rank - 1;
    int64_t cols = t->rank ? t->shape[last] : 1, count = wane_tensor_count(t);
    m.dtype = t->dtype;
    m.cols = m.stride = cols;
    m.rows = 1;
    for (int i = 0; i < last; i++) m.rows *= t->shape[i];
    if (count == 0) return m;
    if (t->rank && cols > 1 && t->stride[last] != 1) return m;
    int64_t rows = 1; /* of the dimensions seen so far, which lie m.stride apart */
    for (int i = last - 1; i >= 0; i--) {
        if (t->shape[i] == 1) continue;
        if (rows == 1)
            m.stride = t->stride[i];
        else if (t->stride[i] != rows * m.stride)
            return m;
        rows *= t->shape[i];
    }
    m.data = (char *)t->buffer->data + (size_t)t->offset * wane_dtype_bytes(t->dtype);
    return m;
}

uint64_t wane_mat_bytes(wane_dtype t, int64_t rows, int64_t cols)
{
    return ((uint64_t)rows * (uint64_t)cols * wane_dtype_bytes(t) + 255) / 256 * 256;
}

wane_mat wane_mat_rows(wane_mat m, int64_t first, int64_t rows)
{
    if (m.data) m.data = (char *)m.data + (size_t)(first * m.stride) * wane_dtype_bytes(m.dtype);
    m.rows = rows;
    return m;
}

wane_mat wane_mat_reshape(wane_mat m, int64_t rows, int64_t cols)
{
    bool contiguous = m.stride == m.cols || m.rows <= 1;
    if (!contiguous || rows * cols != m.rows * m.cols) m.data = NULL;
    m.rows = rows;
    m.cols = m.stride = cols;
    return m;
}

static wane_status apart(wane_err *e)
{
    return wane_fail(e, WANE_EARG, "the tensor is a slice whose rows are apart; copy it first");
}

wane_status wane_tensor_put(wane_tensor *t, const void *host, wane_err *e)
{
    if (!wane_tensor_contiguous(t)) return apart(e);
    if (!wane_tensor_bytes(t)) return WANE_OK;
    return WANE_CALL(t->buffer->device, e, put, wane_tensor_mat(t).data, host,
                     (size_t)wane_tensor_bytes(t));
}

wane_status wane_tensor_get(const wane_tensor *t, void *host, wane_err *e)
{
    if (!wane_tensor_contiguous(t)) return apart(e);
    if (!wane_tensor_bytes(t)) return WANE_OK;
    return WANE_CALL(t->buffer->device, e, get, host, wane_tensor_mat(t).data,
                     (size_t)wane_tensor_bytes(t));
}

/* y = x of the same shape on the same device; x may have any strides. Descends into the first
 * dimension until what is left is a matrix. */
static wane_status convert(wane_device *d, wane_mat y, wane_tensor x, wane_err *e)
{
    wane_mat m = wane_tensor_mat(&x);
    if (wane_tensor_count(&x) == 0) return WANE_OK;
    if (x.rank == 1 && !m.data) { /* a column */
        m.data = (char *)x.buffer->data + (size_t)x.offset * wane_dtype_bytes(x.dtype);
        m.rows = x.shape[0];
        m.cols = 1;
        m.stride = x.stride[0];
    }
    if (m.data) {
        y = wane_mat_reshape(y, m.rows, m.cols);
        return WANE_CALL(d, e, convert, y, m);
    }
    int64_t parts = x.shape[0], step = x.stride[0];
    x.rank--;
    memmove(x.shape, x.shape + 1, (size_t)x.rank * sizeof *x.shape);
    memmove(x.stride, x.stride + 1, (size_t)x.rank * sizeof *x.stride);
    y = wane_mat_reshape(y, parts, y.rows * y.cols / parts);
    for (int64_t i = 0; i < parts; i++, x.offset += step) {
        wane_status s = convert(d, wane_mat_rows(y, i, 1), x, e);
        if (s) return s;
    }
    return WANE_OK;
}

/* A contiguous copy on the tensor's own device. */
static wane_status copy_here(const wane_tensor *t, wane_dtype dtype, wane_tensor **out, wane_err *e)
{
    wane_device *d = t->buffer->device;
    wane_status s = wane_tensor_new(d, dtype, t->rank, t->shape, out, e);
    if (s || !wane_tensor_count(t)) return s;
    wane_mat y = wane_tensor_mat(*out);
    if (t->dtype == dtype && wane_tensor_contiguous(t))
        s = WANE_CALL(d, e, copy, y.data, wane_tensor_mat(t).data, (size_t)wane_tensor_bytes(t));
    else
        s = convert(d, y, *t, e);
    if (s) {
        wane_tensor_release(*out);
        *out = NULL;
    }
    return s;
}

/* The bytes of x into y, both contiguous, on different devices. */
static wane_status move(wane_tensor *y, const wane_tensor *x, wane_err *e)
{
    wane_device *from = x->buffer->device, *to = y->buffer->device;
    if (!wane_tensor_bytes(x)) return WANE_OK;
    if (wane_device_is_host(from)) {
        wane_status s = wane_device_check(from, from->k->sync(from->dev), "sync", e);
        return s ? s : wane_tensor_put(y, wane_tensor_mat(x).data, e);
    }
    if (wane_device_is_host(to)) return wane_tensor_get(x, wane_tensor_mat(y).data, e);
    char *staging = malloc(STAGING);
    if (!staging) return no_host_memory(e);
    const char *source = wane_tensor_mat(x).data;
    char *target = wane_tensor_mat(y).data;
    wane_status s = WANE_OK;
    for (uint64_t at = 0, left = wane_tensor_bytes(x); left && !s;) {
        uint64_t n = left < STAGING ? left : STAGING;
        s = WANE_CALL(from, e, get, staging, source + at, (size_t)n);
        if (!s) s = WANE_CALL(to, e, put, target + at, staging, (size_t)n);
        at += n;
        left -= n;
    }
    free(staging);
    return s;
}

wane_status wane_tensor_copy_to(const wane_tensor *t, wane_device *d, wane_dtype dtype,
                                wane_tensor **out, wane_err *e)
{
    wane_device *from = t->buffer->device;
    wane_tensor *packed = NULL, *moved = NULL;
    *out = NULL;
    if (from == d) return copy_here(t, dtype, out, e);
    /* dtypes change on the host's side of a move, where memory is cheaper */
    wane_dtype travels = wane_device_is_host(d) ? t->dtype : dtype;
    wane_status s = WANE_OK;
    if (t->dtype != travels || !wane_tensor_contiguous(t)) s = copy_here(t, travels, &packed, e);
    if (!s) s = wane_tensor_new(d, travels, t->rank, t->shape, &moved, e);
    if (!s) s = move(moved, packed ? packed : t, e);
    if (!s && travels != dtype) {
        s = copy_here(moved, dtype, out, e);
    } else if (!s) {
        *out = moved;
        moved = NULL;
    }
    wane_tensor_release(packed);
    wane_tensor_release(moved);
    return s;
}
