/* parquet.h - Parquet files, row by row: each as the JSON object that a line of JSONL would hold.
 *
 * Read are columns of texts, integers, floats and booleans, in structs and lists to a depth of 8,
 * in pages of both versions, plain or with dictionaries, packed with snappy, zstd or gzip where the
 * build has them. Dates and times are the integers that are stored. All else is refused by name.
 * One page of each column is in memory at a time. */
#ifndef WANE_PARQUET_H
#define WANE_PARQUET_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/base/error.h"

typedef struct wane_parquet wane_parquet;

/* Opens a file and reads what it says of itself; EFORMAT, EUNSUPPORTED and EIO name it. */
wane_status wane_parquet_open(const char *path, wane_parquet **out, wane_err *e);
/* The same of bytes in memory, which must stay until close; path names them in messages. */
wane_status wane_parquet_open_bytes(const void *data, size_t length, const char *path,
                                    wane_parquet **out, wane_err *e);
void wane_parquet_close(wane_parquet *); /* NULL is fine */

int64_t wane_parquet_rows(const wane_parquet *); /* of the whole file, as it says */
/* The columns of a row in their order; NULL past the last. */
const char *wane_parquet_column(const wane_parquet *, int i, size_t *length);

/* Reads column i, and of the others only those that are selected too; without a call all are read.
 * An i that is no column's leaves rows without any. Before the first row. */
void wane_parquet_select(wane_parquet *, int i);
/* All rows together may have so many bytes (of texts, and 16 for each value), 1 GiB unless set.
 * Before the first row. */
void wane_parquet_limit(wane_parquet *, uint64_t bytes);

/* The next row, the caller's: json_decref; NULL after the last. A float that is not a number is
 * null. After a failure every later call fails the same way. */
wane_status wane_parquet_row(wane_parquet *, json_t **out, wane_err *e);

#endif
