/* safetensors.h - reading files that are not trusted, and writing what Transformers reads.
 *
 * The header is checked whole before anything depends on it: length, JSON, names, dtypes, shapes
 * against sizes, offsets contiguous from 0 to the end of the file. Data is read with pread.
 * An entry of a dtype that wane does not have is listed with supported false. */
#ifndef WANE_SAFETENSORS_H
#define WANE_SAFETENSORS_H

#include "runtime/tensor/tensor.h"

typedef struct {
    char *name;
    char dtype_name[24]; /* as the file spells it: "BF16", "F8_E4M3" */
    bool supported;      /* dtype is one of wane's */
    wane_dtype dtype;
    int rank;
    int64_t shape[WANE_RANK];
    uint64_t begin, end; /* bytes from the start of the data */
} wane_entry;

typedef struct wane_safetensors {
    char *path;
    int fd;
    uint64_t data, bytes; /* offset of the data in the file; the file's size */
    int64_t changed[2];   /* when it was last changed, as open saw it: seconds, nanoseconds */
    size_t count;
    wane_entry *entries; /* sorted by name */
    char **metadata;     /* key, value, key, value, ..., NULL */
} wane_safetensors;

wane_status wane_safetensors_open(const char *path, wane_safetensors **out, wane_err *e);
void wane_safetensors_close(wane_safetensors *); /* NULL is fine */
const wane_entry *wane_safetensors_find(const wane_safetensors *,
                                        const char *name); /* NULL if absent */

const char *wane_safetensors_dtype(wane_dtype);  /* as the format spells it: "BF16" */
bool wane_safetensors_name_ok(const char *name); /* 1..1024 bytes of UTF-8, no control characters */

/* Bytes begin .. begin+bytes-1 of an entry's data. A file that changed since open is EFORMAT. */
wane_status wane_safetensors_read(const wane_safetensors *, const wane_entry *, uint64_t begin,
                                  uint64_t bytes, void *out, wane_err *e);
/* Lets the disk begin to read a tensor that will soon be wanted; a hint, which says nothing. */
void wane_safetensors_foresee(const wane_safetensors *, const wane_entry *);
/* The whole tensor onto a device (EUNSUPPORTED where its dtype is none of wane's), through a small
 * staging buffer where the device is not the host. */
wane_status wane_safetensors_load(const wane_safetensors *, const wane_entry *, wane_device *,
                                  wane_tensor **out, wane_err *e);

/* One tensor to be written: from memory on any device. */
typedef struct {
    const char *name;
    const wane_tensor *tensor; /* contiguous */
} wane_named;

/* Header metadata {"format":"pt"} and what is given (key, value, ..., NULL; may be NULL), aligned
 * to 8, tensors by falling element size, then name; to a temporary name, synced, renamed, and
 * opened again before the rename. */
wane_status wane_safetensors_write(const char *path, const wane_named *tensors, size_t count,
                                   const char *const *metadata, wane_err *e);

#endif
