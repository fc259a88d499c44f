/* thrift.h - reads Thrift's compact protocol, as much of it as Parquet's headers are made of.
 *
 * Failure sticks: after the first one, why says what was wrong, nothing more is read and every
 * loop over fields or elements ends. Depth is bounded, and each length is held against the bytes
 * that are left. */
#ifndef WANE_THRIFT_H
#define WANE_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    WANE_THRIFT_TRUE = 1,
    WANE_THRIFT_FALSE = 2,
    WANE_THRIFT_I8 = 3,
    WANE_THRIFT_I16 = 4,
    WANE_THRIFT_I32 = 5,
    WANE_THRIFT_I64 = 6,
    WANE_THRIFT_DOUBLE = 7,
    WANE_THRIFT_BINARY = 8,
    WANE_THRIFT_LIST = 9,
    WANE_THRIFT_SET = 10,
    WANE_THRIFT_MAP = 11,
    WANE_THRIFT_STRUCT = 12,
    WANE_THRIFT_UUID = 13,
} wane_thrift_type;

typedef struct {
    const uint8_t *at, *end;
    const char *why; /* static; NULL while all is well */
    bool cut;        /* it failed because the bytes ended */
} wane_thrift;

typedef struct {
    int64_t id;
    int type;
} wane_thrift_field;

/* The next field of a struct; f starts as {0}. False after its last, and after a failure. */
bool wane_thrift_next(wane_thrift *t, wane_thrift_field *f);

/* A field's value; a failure where it is of another type. */
int64_t wane_thrift_integer(wane_thrift *t, int type); /* i8, i16, i32, i64 */
int32_t wane_thrift_i32(wane_thrift *t, int type);     /* a failure where it does not fit */
bool wane_thrift_bool(wane_thrift *t, int type);
size_t wane_thrift_bytes(wane_thrift *t, int type, const uint8_t **out);
/* Begins a list or set of elements of one type; its count, 0 after a failure. */
size_t wane_thrift_list(wane_thrift *t, int type, int element);
/* Says that a field must be a struct, whose fields then follow. */
bool wane_thrift_struct(wane_thrift *t, int type);

void wane_thrift_skip(wane_thrift *t, int type); /* a field of any type */

#endif
