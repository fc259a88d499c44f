/* thrift.c - see thrift.h. Source: Apache Thrift, "Thrift Compact protocol encoding"
 * (thrift-compact-protocol.md): zigzag varints, fields as deltas of their ids, types in four bits.
 */
#include "runtime/data/thrift.h"

enum { DEPTH = 16 };

static void fail(wane_thrift *t, const char *why, bool cut)
{
    if (!t->why) {
        t->why = why;
        t->cut = cut;
    }
    t->at = t->end;
}

static uint8_t byte(wane_thrift *t)
{
    if (t->at < t->end) return *t->at++;
    fail(t, "it ends in the middle of a value", true);
    return 0;
}

static uint64_t varint(wane_thrift *t)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b = byte(t);
        if (shift == 63 && b > 1) break;
        value |= (uint64_t)(b & 127) << shift;
        if (b < 128) return value;
    }
    fail(t, "a number has more than 64 bits", false);
    return 0;
}

static int64_t zigzag(wane_thrift *t)
{
    uint64_t v = varint(t);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

bool wane_thrift_next(wane_thrift *t, wane_thrift_field *f)
{
    if (t->why) return false;
    uint8_t b = byte(t);
    if (t->why || b == 0) return false;
    f->type = b & 15;
    if (b >> 4)
        f->id += b >> 4;
    else
        f->id = zigzag(t);
    if (f->type < WANE_THRIFT_TRUE || f->type > WANE_THRIFT_UUID)
        fail(t, "a field of an unknown type", false);
    if (f->id < -32768 || f->id > 32767) fail(t, "a field's number is out of range", false);
    return !t->why;
}

int64_t wane_thrift_integer(wane_thrift *t, int type)
{
    if (type == WANE_THRIFT_I8) return (int8_t)byte(t);
    if (type == WANE_THRIFT_I16 || type == WANE_THRIFT_I32 || type == WANE_THRIFT_I64)
        return zigzag(t);
    fail(t, "a field that must be a number is none", false);
    return 0;
}

int32_t wane_thrift_i32(wane_thrift *t, int type)
{
    int64_t v = wane_thrift_integer(t, type);
    if (v < INT32_MIN || v > INT32_MAX) fail(t, "a number has more than 32 bits", false);
    return t->why ? 0 : (int32_t)v;
}

bool wane_thrift_bool(wane_thrift *t, int type)
{
    if (type != WANE_THRIFT_TRUE && type != WANE_THRIFT_FALSE)
        fail(t, "a field that must be true or false is neither", false);
    return type == WANE_THRIFT_TRUE;
}

size_t wane_thrift_bytes(wane_thrift *t, int type, const uint8_t **out)
{
    *out = t->at;
    if (type != WANE_THRIFT_BINARY) {
        fail(t, "a field that must be text is none", false);
        return 0;
    }
    uint64_t n = varint(t);
    if (n > (uint64_t)(t->end - t->at)) fail(t, "a text is longer than what is left", true);
    if (t->why) return 0;
    *out = t->at;
    t->at += n;
    return (size_t)n;
}

static uint64_t list_head(wane_thrift *t, int *element)
{
    uint8_t b = byte(t);
    uint64_t n = b >> 4;
    *element = b & 15;
    if (n == 15) n = varint(t);
    /* every element has a byte at least */
    if (n > (uint64_t)(t->end - t->at)) fail(t, "a list is longer than what is left", true);
    return t->why ? 0 : n;
}

size_t wane_thrift_list(wane_thrift *t, int type, int element)
{
    int found;
    if (type != WANE_THRIFT_LIST && type != WANE_THRIFT_SET) {
        fail(t, "a field that must be a list is none", false);
        return 0;
    }
    uint64_t n = list_head(t, &found);
    if (n && found != element) fail(t, "a list has elements of another type", false);
    return t->why ? 0 : (size_t)n;
}

bool wane_thrift_struct(wane_thrift *t, int type)
{
    if (type != WANE_THRIFT_STRUCT) fail(t, "a field that must be a struct is none", false);
    return !t->why;
}

static void jump(wane_thrift *t, uint64_t bytes)
{
    if (bytes > (uint64_t)(t->end - t->at))
        fail(t, "it ends in the middle of a value", true);
    else
        t->at += bytes;
}

static void skip(wane_thrift *t, int type, bool in_list, int depth);

static void skip_elements(wane_thrift *t, uint64_t n, int element, int depth)
{
    for (; n && !t->why; n--) skip(t, element, true, depth);
}

static void skip_map(wane_thrift *t, int depth)
{
    uint64_t n = varint(t);
    if (!n) return;
    uint8_t types = byte(t);
    if (n > (uint64_t)(t->end - t->at)) fail(t, "a map is longer than what is left", true);
    for (; n && !t->why; n--) {
        skip(t, types >> 4, true, depth);
        skip(t, types & 15, true, depth);
    }
}

/* A boolean's value is its type in a field, and a byte of its own in a list. */
static void skip(wane_thrift *t, int type, bool in_list, int depth)
{
    int element;
    uint64_t n;
    wane_thrift_field f = {0};
    if (depth >= DEPTH) fail(t, "it is nested too deep", false);
    if (t->why) return;
    switch (type) {
    case WANE_THRIFT_TRUE:
    case WANE_THRIFT_FALSE: jump(t, in_list); break;
    case WANE_THRIFT_I8: jump(t, 1); break;
    case WANE_THRIFT_I16:
    case WANE_THRIFT_I32:
    case WANE_THRIFT_I64: varint(t); break;
    case WANE_THRIFT_DOUBLE: jump(t, 8); break;
    case WANE_THRIFT_UUID: jump(t, 16); break;
    case WANE_THRIFT_BINARY: jump(t, varint(t)); break;
    case WANE_THRIFT_LIST:
    case WANE_THRIFT_SET:
        n = list_head(t, &element);
        skip_elements(t, n, element, depth + 1);
        break;
    case WANE_THRIFT_MAP: skip_map(t, depth + 1); break;
    case WANE_THRIFT_STRUCT:
        while (wane_thrift_next(t, &f)) skip(t, f.type, false, depth + 1);
        break;
    default: fail(t, "a value of an unknown type", false);
    }
}

void wane_thrift_skip(wane_thrift *t, int type)
{
    skip(t, type, false, 0);
}
