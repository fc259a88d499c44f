/* metadata.h - what a Parquet file says of itself in its last bytes: the tree of its columns, and
 * where each row group keeps each column. All of it is checked here; what reads pages relies on it.
 *
 * Letters: a node is a group or a leaf of the tree; a leaf is what has values; levels are Dremel's
 * (Melnik et al. 2010): def counts the optional and repeated nodes on the way to a value that are
 * there, rep the repeated node that begins a new element. */
#ifndef WANE_METADATA_H
#define WANE_METADATA_H

#include <stdbool.h>

#include "runtime/base/error.h"

typedef enum {
    WANE_PARQUET_GROUP = -1,
    WANE_PARQUET_BOOLEAN = 0,
    WANE_PARQUET_INT32 = 1,
    WANE_PARQUET_INT64 = 2,
    WANE_PARQUET_INT96 = 3,
    WANE_PARQUET_FLOAT = 4,
    WANE_PARQUET_DOUBLE = 5,
    WANE_PARQUET_BYTES = 6,
    WANE_PARQUET_FIXED = 7,
} wane_parquet_type;

typedef enum { WANE_REQUIRED = 0, WANE_OPTIONAL = 1, WANE_REPEATED = 2 } wane_repetition;

/* What the values of a leaf mean, and which groups are lists. */
typedef enum {
    WANE_MEANS_VALUE,    /* what its type says; bytes are text */
    WANE_MEANS_UNSIGNED, /* an integer without a sign */
    WANE_MEANS_LIST,     /* a group around a repeated node, or such a map */
    WANE_MEANS_OTHER,    /* meaning names it: not read */
} wane_meaning;

typedef struct {
    const char *name; /* in the footer; length bytes, UTF-8 */
    size_t length;
    int parent, span; /* the next sibling is at this index + span; children follow their parent */
    int children;     /* 0: a leaf */
    wane_parquet_type type;
    wane_repetition repetition;
    wane_meaning means;
    const char *meaning; /* "decimal", ...; static */
    int def, rep;        /* levels of a value that is there */
    int leaf, leaves;    /* the first leaf below it (or itself), and how many */
} wane_parquet_node;

typedef struct {
    uint64_t offset, length; /* its pages in the file */
    int64_t values;          /* nulls and empty lists among them */
    int32_t codec;
} wane_parquet_chunk;

typedef struct {
    char *footer;             /* owned: names point into it */
    wane_parquet_node *nodes; /* nodes[0] is the root */
    int node_count, leaves;
    int *leaf_nodes; /* (leaves) */
    int64_t rows;
    int64_t *group_rows;        /* (groups) */
    wane_parquet_chunk *chunks; /* (groups, leaves) */
    size_t groups;
} wane_parquet_metadata;

/* Reads length bytes of footer, which m then owns, also after a failure. pages_end: where the
 * footer begins in the file. m starts as {0}. Messages have no path. */
wane_status wane_parquet_metadata_read(wane_parquet_metadata *m, char *footer, size_t length,
                                       uint64_t pages_end, wane_err *e);
void wane_parquet_metadata_free(wane_parquet_metadata *m);

/* "choices.text" for messages; escaped, cut to size; returns out. */
const char *wane_parquet_path(const wane_parquet_metadata *m, int node, char *out, size_t size);

#endif
