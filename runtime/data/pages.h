/* pages.h - the values of one column chunk, one after another, with a page at a time in memory. */
#ifndef WANE_PAGES_H
#define WANE_PAGES_H

#include "runtime/data/metadata.h"
#include "runtime/data/runs.h"

/* Bytes in a file or in memory. */
typedef struct {
    const uint8_t *data; /* NULL: fd */
    int fd;
    uint64_t size;
    const char *path;
} wane_source;

/* Reads bytes at offset, which the caller has held against the size; EFORMAT where the file has
 * become shorter. */
wane_status wane_source_read(const wane_source *s, uint64_t offset, void *out, size_t bytes,
                             wane_err *e);

typedef struct {
    uint8_t *p; /* owned */
    size_t room;
} wane_room;

typedef struct {
    const wane_source *source;
    const wane_parquet_metadata *m;
    int node; /* a leaf */
    wane_parquet_chunk chunk;
    uint64_t at;  /* the next page, in the file */
    int64_t left; /* values that the pages after this one must have */
    wane_room packed, page, dictionary;
    const uint8_t *values, *dictionary_values; /* dictionary_values NULL: there is none */
    size_t dictionary_bytes;
    uint32_t *starts; /* owned: where each byte string of the dictionary begins */
    uint32_t dictionary_count;

    /* the page: values up to end, or indices of the dictionary */
    const uint8_t *end;
    int64_t page_left;
    uint64_t page_offset;
    bool indexed;
    bool in_runs; /* booleans as runs */
    unsigned bit; /* of plain booleans */
    wane_runs rep_levels, def_levels, indices;

    /* what wane_column_peek found */
    bool peeked;
    int rep, def;
} wane_column;

typedef struct {
    const uint8_t *bytes; /* of the type's size, or length of them; until the next page */
    size_t length;
    bool truth; /* of WANE_PARQUET_BOOLEAN */
} wane_value;

/* Turns c (which starts as {0}) to a chunk; source and m must outlive it. */
wane_status wane_column_open(wane_column *c, const wane_source *source,
                             const wane_parquet_metadata *m, int leaf, size_t group, wane_err *e);
void wane_column_close(wane_column *c); /* {0} is fine */

/* Finds the levels of the next entry: c->rep, c->def; *more false after the last. */
wane_status wane_column_peek(wane_column *c, bool *more, wane_err *e);
/* Takes the entry that was peeked; *out is its value where c->def is that of its node. */
wane_status wane_column_take(wane_column *c, wane_value *out, wane_err *e);

#endif
