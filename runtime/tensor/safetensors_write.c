/* safetensors_write.c - writing; see safetensors.h for the format and the order.
 *
 * The header carries "format": "pt", without which Transformers refuses a file, and is padded with
 * spaces so that the data starts at a multiple of 8; falling element size keeps each tensor
 * aligned. */
#include "runtime/tensor/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/base/json.h"
#include "runtime/base/units.h"

/* Bytes between two looks at the interrupt flag, of one thread and of each of several. */
static const uint64_t CHUNK = 16 << 20, PIECE = 2 << 20;

static int by_size_then_name(const void *a, const void *b)
{
    const wane_named *x = a, *y = b;
    size_t p = wane_dtype_bytes(x->tensor->dtype), q = wane_dtype_bytes(y->tensor->dtype);
    if (p != q) return p > q ? -1 : 1;
    return strcmp(x->name, y->name);
}

static wane_status check_tensors(const wane_named *tensors, size_t count, wane_err *e)
{
    char shown[200];
    for (size_t i = 0; i < count; i++) {
        const char *name = tensors[i].name, *why = NULL;
        if (!wane_safetensors_name_ok(name) || !strcmp(name, "__metadata__"))
            why = "is no name for a tensor: 1 to 1024 bytes of UTF-8 without control characters";
        else if (!wane_tensor_contiguous(tensors[i].tensor))
            why = "is a slice whose rows are apart; copy it first";
        if (!why) continue;
        wane_escape(shown, sizeof shown, name, strlen(name));
        return wane_fail(e, WANE_EARG, "cannot save: \"%s\" %s", shown, why);
    }
    return WANE_OK;
}

/* One tensor's line of the header; takes its place in *at. */
static json_t *describe(const wane_tensor *t, uint64_t *at)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank && shape; i++) {
        if (json_array_append_new(shape, json_integer(t->shape[i]))) {
            json_decref(shape);
            return NULL;
        }
    }
    uint64_t begin = *at;
    *at += wane_tensor_bytes(t);
    /* "o" takes shape in any case; NULL makes the pack fail */
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", wane_safetensors_dtype(t->dtype), "shape",
                     shape, "data_offsets", (json_int_t)begin, (json_int_t)*at);
}

/* The header as text, padded: length bytes, the caller's to free. NULL without memory. *twice is
 * set to a name that appears twice. */
static char *make_header(const wane_named *tensors, size_t count, const char *const *metadata,
                         size_t *length, uint64_t *bytes, const char **twice)
{
    char *text = NULL, *padded = NULL;
    json_t *root = json_object(), *about = json_object();
    bool ok = root && about && !json_object_set_new(about, "format", json_string("pt"));
    for (size_t i = 0; ok && metadata && metadata[i]; i += 2)
        ok = !json_object_set_new(about, metadata[i], json_string(metadata[i + 1]));
    ok = ok && !json_object_set(root, "__metadata__", about);
    *bytes = 0;
    for (size_t i = 0; ok && i < count; i++) {
        if (json_object_get(root, tensors[i].name)) {
            *twice = tensors[i].name;
            ok = false;
        } else {
            ok = !json_object_set_new(root, tensors[i].name, describe(tensors[i].tensor, bytes));
        }
    }
    if (ok) text = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (text) {
        size_t n = strlen(text);
        *length = (n + 7) / 8 * 8;
        padded = realloc(text, *length);
        if (padded)
            memset(padded + n, ' ', *length - n);
        else
            free(text);
    }
    json_decref(root);
    json_decref(about);
    return padded;
}

/* Bytes of one tensor and their place in the file. */
typedef struct {
    const char *from;
    uint64_t offset;
    size_t bytes;
} piece;

/* What lies on the host goes to its places by all threads: one alone copies into the page cache
 * slower than a fast disk takes it. */
static wane_status write_pieces(wane_writer *w, const wane_device *d, const piece *list,
                                int64_t count, wane_err *e)
{
    wane_status status = WANE_OK;
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < count; i++) {
        wane_err why;
        wane_status s = wane_device_poll(d, &why);
        if (!s) s = wane_writer_write_at(w, list[i].offset, list[i].from, list[i].bytes, &why);
        if (!s) continue;
#pragma omp critical
        {
            status = s;
            if (e) *e = why;
        }
    }
    return status;
}

/* The tensor at its offset: from another device through staging, else by all threads. */
static wane_status write_data(wane_writer *w, const wane_tensor *t, uint64_t offset, char *staging,
                              wane_err *e)
{
    const wane_device *d = wane_tensor_device(t);
    const char *source = wane_tensor_mat(t).data;
    uint64_t size = wane_tensor_bytes(t), step = staging ? CHUNK : PIECE;
    int64_t count = 0;
    wane_status s = WANE_OK;
    if (!size) return s;
    if (!staging) {
        piece *list = malloc((size_t)((size + step - 1) / step) * sizeof *list);
        if (!list) return wane_fail(e, WANE_EOOM, "host: no memory to save a tensor");
        for (uint64_t at = 0; at < size; at += step)
            list[count++] =
                (piece){source + at, offset + at, (size_t)(size - at < step ? size - at : step)};
        /* what is queued must be in memory before C reads it there */
        s = wane_device_check(d, d->k->sync(d->dev), "sync", e);
        if (!s) s = write_pieces(w, d, list, count, e);
        free(list);
        return s;
    }
    for (uint64_t at = 0, n; at < size && !s; at += n) {
        n = size - at < step ? size - at : step;
        s = wane_device_poll(d, e);
        if (!s) s = WANE_CALL(d, e, get, staging, source + at, (size_t)n);
        if (!s) s = wane_writer_write_at(w, offset + at, staging, (size_t)n, e);
    }
    return s;
}

/* Reads the header back from the temporary name and compares it with what was meant. */
static wane_status read_back(const char *temporary, const char *path, const wane_named *tensors,
                             size_t count, wane_err *e)
{
    wane_safetensors *f = NULL;
    char shown[512];
    wane_status s = wane_safetensors_open(temporary, &f, e);
    bool same = !s && f->count == count;
    for (size_t i = 0; same && i < count; i++) {
        const wane_tensor *t = tensors[i].tensor;
        const wane_entry *entry = wane_safetensors_find(f, tensors[i].name);
        same =
            entry && entry->supported && entry->dtype == t->dtype && entry->rank == t->rank &&
            (t->rank == 0 || !memcmp(entry->shape, t->shape, (size_t)t->rank * sizeof *t->shape));
    }
    wane_safetensors_close(f);
    if (s || same) return s;
    wane_escape(shown, sizeof shown, path, strlen(path));
    return wane_fail(e, WANE_EIO, "%s: what was written does not read back; check the disk", shown);
}

wane_status wane_safetensors_write(const char *path, const wane_named *tensors, size_t count,
                                   const char *const *metadata, wane_err *e)
{
    wane_writer *w = NULL;
    wane_named *sorted = NULL;
    char *header = NULL, *staging = NULL;
    const char *twice = NULL;
    size_t length = 0;
    uint64_t bytes = 0;
    wane_status s = check_tensors(tensors, count, e);
    if (s) return s;
    bool away = false;
    for (size_t i = 0; i < count; i++)
        away |= !wane_device_is_host(wane_tensor_device(tensors[i].tensor));
    sorted = malloc((count ? count : 1) * sizeof *sorted);
    if (away) staging = malloc(CHUNK);
    if (sorted) {
        if (count) memcpy(sorted, tensors, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, by_size_then_name);
        header = make_header(sorted, count, metadata, &length, &bytes, &twice);
    }
    if (twice) {
        s = wane_fail(e, WANE_EARG, "cannot save: two tensors are called \"%.200s\"", twice);
        goto done;
    }
    if (!header || (away && !staging)) {
        s = wane_fail(e, WANE_EOOM, "host: no memory to save %zu tensors", count);
        goto done;
    }
    s = wane_writer_open(path, &w, e);
    if (!s) s = wane_writer_reserve(w, 8 + length + bytes, e);
    uint8_t start[8];
    for (int i = 0; i < 8; i++) start[i] = (uint8_t)((uint64_t)length >> (8 * i));
    if (!s) s = wane_writer_write(w, start, sizeof start, e);
    if (!s) s = wane_writer_write(w, header, length, e);
    uint64_t at = 8 + length;
    for (size_t i = 0; i < count && !s; i++) {
        const wane_tensor *t = sorted[i].tensor;
        bool here = wane_device_is_host(wane_tensor_device(t));
        s = write_data(w, t, at, here ? NULL : staging, e);
        at += wane_tensor_bytes(t);
        if (s && e) snprintf(e->tensor, sizeof e->tensor, "%s", sorted[i].name);
    }
    if (!s) s = read_back(wane_writer_temporary(w), path, sorted, count, e);
    if (!s) {
        s = wane_writer_commit(w, e);
        w = NULL;
    }
done:
    wane_writer_discard(w);
    free(staging);
    free(header);
    free(sorted);
    if (s) wane_err_at(e, "save", NULL, path);
    return s;
}
