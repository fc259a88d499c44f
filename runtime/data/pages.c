/* pages.c - see pages.h. Source: parquet-format's README, Encodings.md and parquet.thrift.
 *
 * Read are data pages of versions 1 and 2, the encodings PLAIN, RLE, PLAIN_DICTIONARY and
 * RLE_DICTIONARY: what Arrow writes unless told otherwise. Others are refused by name. Levels and
 * indices are never unpacked into arrays, so that a page that says it has two billion values in
 * four bytes costs nothing; a page's bytes are bounded before there is room for them. */
#include "runtime/data/pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/units.h"
#include "runtime/data/codecs.h"
#include "runtime/data/thrift.h"

enum { PLAIN = 0, PLAIN_DICTIONARY = 2, RLE = 3, RLE_DICTIONARY = 8 };
enum { DATA_PAGE = 0, INDEX_PAGE = 1, DICTIONARY_PAGE = 2, DATA_PAGE_V2 = 3 };
enum {
    PAGE_MOST = 256 << 20,
    PAGE_PLENTY = 16 << 20, /* from here on a page may unpack to RATIO times its bytes, no more */
    RATIO = 200,
    HEADER_GUESS = 16 << 10,
    HEADER_MOST = 8 << 20,
};

static wane_status refuse(const wane_column *c, wane_err *e, wane_status s, const char *why)
{
    char path[256];
    wane_parquet_path(c->m, c->node, path, sizeof path);
    wane_fail(e, s, "column %s, page at byte %llu: %s", path, (unsigned long long)c->page_offset,
              why);
    if (e) e->offset = (int64_t)c->page_offset;
    return s;
}

wane_status wane_source_read(const wane_source *s, uint64_t offset, void *out, size_t bytes,
                             wane_err *e)
{
    char *to = out;
    if (s->data) {
        if (bytes) memcpy(out, s->data + offset, bytes);
        return WANE_OK;
    }
    while (bytes) {
        ssize_t n = pread(s->fd, to, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return wane_fail_io(e, "read", s->path);
        if (n == 0) return wane_fail(e, WANE_EFORMAT, "the file became shorter while it was read");
        to += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return WANE_OK;
}

static wane_status make_room(wane_room *room, size_t bytes, wane_err *e)
{
    if (bytes <= room->room) return WANE_OK;
    size_t more = bytes < 2 * room->room && 2 * room->room <= PAGE_MOST ? 2 * room->room : bytes;
    uint8_t *p = malloc(more); /* what was there is not needed any more */
    if (!p) {
        wane_fail(e, WANE_EOOM, "host: no memory for %zu bytes", more);
        if (e) e->requested = more;
        return WANE_EOOM;
    }
    free(room->p);
    *room = (wane_room){p, more};
    return WANE_OK;
}

/* Bytes of the file, in memory or read into the packed room, where they stay until the next view.
 */
static wane_status view(wane_column *c, uint64_t offset, size_t bytes, const uint8_t **out,
                        wane_err *e)
{
    if (c->source->data) {
        *out = c->source->data + offset;
        return WANE_OK;
    }
    wane_status s = make_room(&c->packed, bytes ? bytes : 1, e);
    if (s) return s;
    *out = c->packed.p;
    return wane_source_read(c->source, offset, c->packed.p, bytes, e);
}

static int width_of(int level)
{
    return level ? 32 - __builtin_clz((unsigned)level) : 0;
}

/* ---- pages ---- */

typedef struct {
    int64_t type, unpacked, packed, crc; /* crc: -1 where there is none */
    int64_t values, encoding, def_encoding, rep_encoding, def_bytes, rep_bytes;
    bool is_packed, has_kind;
    size_t length; /* of the header itself */
} header;

static void read_kind(wane_thrift *t, header *h, int64_t version)
{
    wane_thrift_field f = {0};
    h->has_kind = true;
    while (wane_thrift_next(t, &f)) {
        if (f.id == 1)
            h->values = wane_thrift_i32(t, f.type);
        else if (f.id == (version == DATA_PAGE_V2 ? 4 : 2))
            h->encoding = wane_thrift_i32(t, f.type);
        else if (version == DATA_PAGE && f.id == 3)
            h->def_encoding = wane_thrift_i32(t, f.type);
        else if (version == DATA_PAGE && f.id == 4)
            h->rep_encoding = wane_thrift_i32(t, f.type);
        else if (version == DATA_PAGE_V2 && f.id == 5)
            h->def_bytes = wane_thrift_i32(t, f.type);
        else if (version == DATA_PAGE_V2 && f.id == 6)
            h->rep_bytes = wane_thrift_i32(t, f.type);
        else if (version == DATA_PAGE_V2 && f.id == 7)
            h->is_packed = wane_thrift_bool(t, f.type);
        else
            wane_thrift_skip(t, f.type);
    }
}

/* The PageHeader at the start of from; t says what was wrong. */
static void parse_header(wane_thrift *t, header *h)
{
    const uint8_t *from = t->at;
    wane_thrift_field f = {0};
    *h = (header){.type = -1,
                  .unpacked = -1,
                  .packed = -1,
                  .crc = -1,
                  .values = -1,
                  .encoding = -1,
                  .def_encoding = RLE,
                  .rep_encoding = RLE,
                  .is_packed = true};
    while (wane_thrift_next(t, &f)) {
        switch (f.id) {
        case 1: h->type = wane_thrift_i32(t, f.type); break;
        case 2: h->unpacked = wane_thrift_i32(t, f.type); break;
        case 3: h->packed = wane_thrift_i32(t, f.type); break;
        case 4: h->crc = (uint32_t)wane_thrift_i32(t, f.type); break;
        case 5:
        case 7:
        case 8:
            if (wane_thrift_struct(t, f.type))
                read_kind(t, h, f.id == 5 ? DATA_PAGE : f.id == 7 ? DICTIONARY_PAGE : DATA_PAGE_V2);
            break;
        default: wane_thrift_skip(t, f.type);
        }
    }
    h->length = (size_t)(t->at - from);
}

static wane_status read_header(wane_column *c, header *h, wane_err *e)
{
    uint64_t left = c->chunk.offset + c->chunk.length - c->at;
    c->page_offset = c->at;
    for (uint64_t guess = HEADER_GUESS;; guess = HEADER_MOST) {
        const uint8_t *from;
        size_t bytes = (size_t)(left < guess ? left : guess);
        wane_status s = view(c, c->at, bytes, &from, e);
        if (s) return s;
        wane_thrift t = {.at = from, .end = from + bytes};
        parse_header(&t, h);
        if (!t.why) break;
        if (t.cut && bytes < left && guess < HEADER_MOST) continue;
        char why[160];
        snprintf(why, sizeof why, "its header is damaged: %s", t.why);
        return refuse(c, e, WANE_EFORMAT, why);
    }
    left -= h->length;
    if (h->unpacked < 0 || h->packed < 0 || (uint64_t)h->packed > left)
        return refuse(c, e, WANE_EFORMAT, "it is longer than its column");
    if (h->unpacked > PAGE_MOST || (h->unpacked > PAGE_PLENTY && h->unpacked / RATIO > h->packed))
        return refuse(c, e, WANE_EFORMAT, "it would unpack to more than a page may have");
    return WANE_OK;
}

/* The page's body: the bytes after `plain` ones unpacked behind these, which never are packed. */
static wane_status unpack(wane_column *c, const header *h, size_t plain, wane_room *room,
                          const uint8_t **out, wane_err *e)
{
    const uint8_t *from;
    wane_err why;
    size_t packed = (size_t)h->packed, unpacked = (size_t)h->unpacked;
    wane_status s = view(c, c->at + h->length, packed, &from, e);
    if (s) return s;
    if (h->crc >= 0 && wane_crc32(from, packed) != (uint32_t)h->crc)
        return refuse(c, e, WANE_EFORMAT, "its checksum is another one: the file is damaged");
    if (plain > packed || plain > unpacked)
        return refuse(c, e, WANE_EFORMAT, "its levels are longer than itself");
    bool is_packed = c->chunk.codec != WANE_CODEC_NONE && h->is_packed;
    if (!is_packed && packed != unpacked)
        return refuse(c, e, WANE_EFORMAT, "it is not packed and says two sizes");
    if (!is_packed && room == &c->page) {
        *out = from;
        return WANE_OK;
    }
    s = make_room(room, unpacked ? unpacked : 1, e);
    if (s) return s;
    *out = room->p;
    if (!is_packed) plain = packed;
    if (plain) memcpy(room->p, from, plain);
    if (plain == packed && plain == unpacked) return WANE_OK;
    s = wane_codec_unpack(c->chunk.codec, from + plain, packed - plain, room->p + plain,
                          unpacked - plain, &why);
    if (s == WANE_EOOM && e) *e = why;
    if (s == WANE_EOOM) return s;
    return s ? refuse(c, e, s, why.message) : WANE_OK;
}

static size_t fixed_size(wane_parquet_type type)
{
    return type == WANE_PARQUET_INT32 || type == WANE_PARQUET_FLOAT ? 4 : 8;
}

/* Where each byte string begins; they are checked here once. */
static wane_status index_strings(wane_column *c, wane_err *e)
{
    const uint8_t *from = c->dictionary_values, *at = from, *end = from + c->dictionary_bytes;
    if (c->dictionary_count > c->dictionary_bytes / 4)
        return refuse(c, e, WANE_EFORMAT, "its dictionary has more entries than bytes for them");
    c->starts = malloc(((size_t)c->dictionary_count + 1) * sizeof *c->starts);
    if (!c->starts)
        return wane_fail(e, WANE_EOOM, "host: no memory for a dictionary of %u entries",
                         c->dictionary_count);
    for (uint32_t i = 0; i < c->dictionary_count; i++) {
        uint32_t n;
        if (end - at < 4) return refuse(c, e, WANE_EFORMAT, "its dictionary ends within an entry");
        memcpy(&n, at, 4);
        at += 4;
        if (n > (size_t)(end - at))
            return refuse(c, e, WANE_EFORMAT, "its dictionary ends within an entry");
        c->starts[i] = (uint32_t)(at - from);
        at += n;
    }
    return WANE_OK;
}

static wane_status read_dictionary(wane_column *c, const header *h, wane_err *e)
{
    wane_parquet_type type = c->m->nodes[c->node].type;
    if (c->dictionary_values) return refuse(c, e, WANE_EFORMAT, "a second dictionary");
    if (!h->has_kind || h->values < 0 ||
        (h->encoding != PLAIN && h->encoding != PLAIN_DICTIONARY) || type == WANE_PARQUET_BOOLEAN)
        return refuse(c, e, WANE_EFORMAT, "a dictionary of no kind that there is");
    const uint8_t *from;
    wane_status s = unpack(c, h, 0, &c->dictionary, &from, e);
    if (s) return s;
    c->dictionary_values = from;
    c->dictionary_bytes = (size_t)h->unpacked;
    c->dictionary_count = (uint32_t)h->values;
    if (type == WANE_PARQUET_BYTES) return index_strings(c, e);
    if (c->dictionary_count > c->dictionary_bytes / fixed_size(type))
        return refuse(c, e, WANE_EFORMAT, "its dictionary has more entries than bytes for them");
    return WANE_OK;
}

/* Version 1: levels stand before the values with their own length in four bytes. */
static bool levels_v1(const uint8_t **at, const uint8_t *end, int most, wane_runs *out)
{
    uint32_t n;
    *out = (wane_runs){.width = width_of(most)};
    if (most == 0) return true;
    if (end - *at < 4) return false;
    memcpy(&n, *at, 4);
    *at += 4;
    if (n > (size_t)(end - *at)) return false;
    out->at = *at;
    out->end = *at += n;
    return true;
}

static wane_status refuse_encoding(wane_column *c, int64_t encoding, wane_err *e)
{
    static const char *const names[] = {
        "PLAIN",          "GROUP_VAR_INT",       "PLAIN_DICTIONARY",        "RLE",
        "BIT_PACKED",     "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY",
        "RLE_DICTIONARY", "BYTE_STREAM_SPLIT",
    };
    char why[160];
    bool known = encoding >= 0 && encoding < (int64_t)(sizeof names / sizeof *names);
    snprintf(why, sizeof why,
             "its encoding %s is not one that wane reads here: write it with PLAIN or a dictionary",
             known ? names[encoding] : "has no name and");
    return refuse(c, e, WANE_EUNSUPPORTED, why);
}

/* The page's values: what stands between c->values and c->end. */
static wane_status begin_values(wane_column *c, int64_t encoding, wane_err *e)
{
    wane_parquet_type type = c->m->nodes[c->node].type;
    c->indexed = encoding == PLAIN_DICTIONARY || encoding == RLE_DICTIONARY;
    c->in_runs = encoding == RLE && type == WANE_PARQUET_BOOLEAN;
    c->bit = 0;
    if (c->in_runs) {
        if (!levels_v1(&c->values, c->end, 1, &c->indices))
            return refuse(c, e, WANE_EFORMAT, "its values are longer than itself");
        return WANE_OK;
    }
    if (encoding == PLAIN) return WANE_OK;
    if (!c->indexed) return refuse_encoding(c, encoding, e);
    if (!c->dictionary_values)
        return refuse(c, e, WANE_EFORMAT, "it needs a dictionary and there is none");
    c->indices = (wane_runs){.at = c->values, .end = c->end};
    if (c->values < c->end) { /* a page of nulls alone may have nothing here */
        c->indices.width = *c->indices.at++;
        if (c->indices.width > 32)
            return refuse(c, e, WANE_EFORMAT, "its indices are wider than 32 bits");
    }
    return WANE_OK;
}

static wane_status read_data(wane_column *c, const header *h, wane_err *e)
{
    const wane_parquet_node *node = &c->m->nodes[c->node];
    const uint8_t *at;
    if (!h->has_kind || h->values < 0 || h->values > c->left)
        return refuse(c, e, WANE_EFORMAT, "it has more values than its column");
    if (h->type == DATA_PAGE) {
        if (node->def && h->def_encoding != RLE) return refuse_encoding(c, h->def_encoding, e);
        if (node->rep && h->rep_encoding != RLE) return refuse_encoding(c, h->rep_encoding, e);
        wane_status s = unpack(c, h, 0, &c->page, &at, e);
        if (s) return s;
        c->end = at + h->unpacked;
        if (!levels_v1(&at, c->end, node->rep, &c->rep_levels) ||
            !levels_v1(&at, c->end, node->def, &c->def_levels))
            return refuse(c, e, WANE_EFORMAT, "its levels are longer than itself");
    } else {
        /* version 2: the levels are never packed, and their lengths stand in the header */
        if (h->rep_bytes < 0 || h->def_bytes < 0)
            return refuse(c, e, WANE_EFORMAT, "its levels have a length below zero");
        wane_status s = unpack(c, h, (size_t)(h->rep_bytes + h->def_bytes), &c->page, &at, e);
        if (s) return s;
        c->end = at + h->unpacked;
        c->rep_levels =
            (wane_runs){.at = at, .end = at + h->rep_bytes, .width = width_of(node->rep)};
        at += h->rep_bytes;
        c->def_levels =
            (wane_runs){.at = at, .end = at + h->def_bytes, .width = width_of(node->def)};
        at += h->def_bytes;
    }
    c->values = at;
    c->page_left = h->values;
    c->left -= h->values;
    return begin_values(c, h->encoding, e);
}

/* The next page that has values; at the chunk's end none, and page_left stays 0. */
static wane_status turn(wane_column *c, wane_err *e)
{
    while (c->page_left == 0 && c->left > 0) {
        header h;
        c->page_offset = c->at;
        if (c->at >= c->chunk.offset + c->chunk.length)
            return refuse(c, e, WANE_EFORMAT, "the column ends before all of its values");
        wane_status s = read_header(c, &h, e);
        if (!s && (h.type == DATA_PAGE || h.type == DATA_PAGE_V2))
            s = read_data(c, &h, e);
        else if (!s && h.type == DICTIONARY_PAGE)
            s = read_dictionary(c, &h, e);
        else if (!s && h.type != INDEX_PAGE)
            s = refuse(c, e, WANE_EFORMAT, "a page of no kind that there is");
        if (s) return s;
        c->at += h.length + (uint64_t)h.packed;
    }
    return WANE_OK;
}

wane_status wane_column_open(wane_column *c, const wane_source *source,
                             const wane_parquet_metadata *m, int leaf, size_t group, wane_err *e)
{
    wane_err why;
    char path[256];
    wane_room packed = c->packed, page = c->page, dictionary = c->dictionary;
    free(c->starts);
    *c = (wane_column){.source = source,
                       .m = m,
                       .node = m->leaf_nodes[leaf],
                       .packed = packed,
                       .page = page,
                       .dictionary = dictionary};
    c->chunk = m->chunks[group * (size_t)m->leaves + (size_t)leaf];
    c->at = c->chunk.offset;
    c->left = c->chunk.values;
    wane_status s = wane_codec_check(c->chunk.codec, &why);
    if (s)
        wane_fail(e, s, "column %s is %s", wane_parquet_path(m, c->node, path, sizeof path),
                  why.message);
    return s;
}

void wane_column_close(wane_column *c)
{
    free(c->packed.p);
    free(c->page.p);
    free(c->dictionary.p);
    free(c->starts);
    *c = (wane_column){0};
}

/* ---- values ---- */

wane_status wane_column_peek(wane_column *c, bool *more, wane_err *e)
{
    const wane_parquet_node *node = &c->m->nodes[c->node];
    uint32_t rep = 0, def = 0;
    *more = true;
    if (c->peeked) return WANE_OK;
    if (c->page_left == 0) {
        wane_status s = turn(c, e);
        if (s) return s;
        *more = c->page_left > 0;
        if (!*more) return WANE_OK;
    }
    if ((node->rep && !wane_runs_next(&c->rep_levels, &rep)) ||
        (node->def && !wane_runs_next(&c->def_levels, &def)))
        return refuse(c, e, WANE_EFORMAT, "it has fewer levels than values");
    if (rep > (uint32_t)node->rep || def > (uint32_t)node->def)
        return refuse(c, e, WANE_EFORMAT, "a level is higher than its column's");
    c->rep = (int)rep;
    c->def = (int)def;
    c->peeked = true;
    return WANE_OK;
}

static wane_status take_indexed(wane_column *c, wane_parquet_type type, wane_value *out,
                                wane_err *e)
{
    uint32_t i;
    if (!wane_runs_next(&c->indices, &i))
        return refuse(c, e, WANE_EFORMAT, "it has fewer indices than values");
    if (i >= c->dictionary_count)
        return refuse(c, e, WANE_EFORMAT, "an index is beyond the dictionary");
    if (type == WANE_PARQUET_BYTES) {
        uint32_t n;
        out->bytes = c->dictionary_values + c->starts[i];
        memcpy(&n, out->bytes - 4, 4);
        out->length = n;
        return WANE_OK;
    }
    out->length = fixed_size(type);
    out->bytes = c->dictionary_values + (size_t)i * out->length;
    return WANE_OK;
}

static wane_status take_value(wane_column *c, wane_value *out, wane_err *e)
{
    wane_parquet_type type = c->m->nodes[c->node].type;
    uint32_t n;
    if (c->indexed) return take_indexed(c, type, out, e);
    size_t left = (size_t)(c->end - c->values),
           need = type == WANE_PARQUET_BYTES ? 4 : fixed_size(type);
    if (c->in_runs) {
        if (!wane_runs_next(&c->indices, &n))
            return refuse(c, e, WANE_EFORMAT, "it has fewer values than it says");
        out->truth = n;
        return WANE_OK;
    }
    if (type == WANE_PARQUET_BOOLEAN) need = 1;
    if (left < need) return refuse(c, e, WANE_EFORMAT, "it has fewer values than it says");
    if (type == WANE_PARQUET_BOOLEAN) {
        out->truth = *c->values >> c->bit & 1;
        c->bit = (c->bit + 1) % 8;
        c->values += c->bit == 0;
        return WANE_OK;
    }
    if (type == WANE_PARQUET_BYTES) {
        memcpy(&n, c->values, 4);
        c->values += 4;
        if (n > left - 4) return refuse(c, e, WANE_EFORMAT, "a text is longer than its page");
        need = n;
    }
    out->bytes = c->values;
    out->length = need;
    c->values += need;
    return WANE_OK;
}

wane_status wane_column_take(wane_column *c, wane_value *out, wane_err *e)
{
    *out = (wane_value){0};
    c->peeked = false;
    c->page_left--;
    return c->def == c->m->nodes[c->node].def ? take_value(c, out, e) : WANE_OK;
}
