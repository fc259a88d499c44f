/* parquet.c - a file's bytes: as many rows as it says, each an object of the columns that it names.
 */
#include <string.h>

#include "runtime/data/parquet.h"
#include "tests/fuzz/fuzz.h"

enum { BYTES_MOST = 4 << 20 };

static void read_rows(wane_parquet *p)
{
    int64_t rows = wane_parquet_rows(p), n = 0;
    size_t columns = 0, length;
    wane_err e;
    wane_status s;
    while (wane_parquet_column(p, (int)columns, &length)) columns++;
    wane_parquet_limit(p, BYTES_MOST); /* a page of runs can be rows without end */
    for (;; n++) {
        json_t *row;
        s = wane_parquet_row(p, &row, &e);
        FUZZ_CHECK(!s || !row);
        if (fuzz_status(s, &e) || !row) break;
        FUZZ_CHECK(json_is_object(row) && json_object_size(row) <= columns);
        json_decref(row);
    }
    FUZZ_CHECK(rows >= 0 && (s || n == rows));
    if (s) {
        json_t *row;
        FUZZ_CHECK(wane_parquet_row(p, &row, NULL) == s); /* and so it stays */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wane_parquet *p;
    wane_err e;
    wane_status s = wane_parquet_open_bytes(data, size, "fuzz.parquet", &p, &e);
    FUZZ_CHECK(!s == !!p);
    if (!fuzz_status(s, &e)) read_rows(p);
    wane_parquet_close(p);
    return 0;
}
