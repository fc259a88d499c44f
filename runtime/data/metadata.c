/* metadata.c - see metadata.h. Source: parquet-format's README, Encodings.md, LogicalTypes.md and
 * parquet.thrift; the numbers of fields and kinds below are theirs. */
#include "runtime/data/metadata.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/units.h"
#include "runtime/data/codecs.h"
#include "runtime/data/thrift.h"

enum { NODES = 16384, DEPTH = 24, LISTS = 8, GROUPS = 1000000, MAGIC = 4 };
enum { CHUNK_LEAST = 16 }; /* bytes of the shortest ColumnChunk that read_chunk takes */

typedef struct {
    wane_parquet_metadata *m;
    wane_thrift t;
    uint64_t pages_end;
    wane_err *e;
} reader;

static wane_status damaged(reader *r)
{
    return wane_fail(r->e, WANE_EFORMAT, "the footer is damaged: %s", r->t.why);
}

static wane_status no_memory(reader *r, size_t bytes)
{
    return wane_fail(r->e, WANE_EOOM, "host: no memory for %zu bytes", bytes);
}

const char *wane_parquet_path(const wane_parquet_metadata *m, int node, char *out, size_t size)
{
    int way[DEPTH + 1], n = 0;
    size_t used = 0;
    for (; node > 0 && n <= DEPTH; node = m->nodes[node].parent) way[n++] = node;
    out[0] = 0;
    while (n-- > 0 && used + 2 < size) {
        const wane_parquet_node *part = &m->nodes[way[n]];
        if (used) out[used++] = '.';
        wane_escape(out + used, size - used, part->name, part->length);
        used += strlen(out + used);
    }
    return out;
}

/* ---- the tree ---- */

/* ConvertedType: what came before LogicalType, and is still written beside it. */
static void converted(wane_parquet_node *node, int32_t kind)
{
    static const char *const other[] = {[5] = "decimal", [20] = "bson", [21] = "interval"};
    if (kind == 1 || kind == 2 || kind == 3) /* MAP, MAP_KEY_VALUE, LIST */
        node->means = WANE_MEANS_LIST;
    else if (kind >= 11 && kind <= 14) /* UINT_8 to UINT_64 */
        node->means = WANE_MEANS_UNSIGNED;
    else if (kind == 5 || kind == 20 || kind == 21) {
        node->means = WANE_MEANS_OTHER;
        node->meaning = other[kind];
    }
}

/* LogicalType: a union, so a struct with one field. */
static void logical(wane_thrift *t, wane_parquet_node *node)
{
    static const char *const other[] = {
        [5] = "decimal",  [13] = "bson",     [14] = "uuid",      [15] = "float16",
        [16] = "variant", [17] = "geometry", [18] = "geography",
    };
    wane_thrift_field f = {0}, g = {0};
    while (wane_thrift_next(t, &f)) {
        if (f.id == 10 && wane_thrift_struct(t, f.type)) { /* INTEGER: 1 bits, 2 signed */
            while (wane_thrift_next(t, &g)) {
                if (g.id == 2)
                    node->means =
                        wane_thrift_bool(t, g.type) ? WANE_MEANS_VALUE : WANE_MEANS_UNSIGNED;
                else
                    wane_thrift_skip(t, g.type);
            }
            continue;
        }
        if (f.id == 2 || f.id == 3) node->means = WANE_MEANS_LIST; /* MAP, LIST */
        if (f.id > 0 && f.id < (int64_t)(sizeof other / sizeof *other) && other[f.id]) {
            node->means = WANE_MEANS_OTHER;
            node->meaning = other[f.id];
        }
        wane_thrift_skip(t, f.type);
    }
}

/* One SchemaElement; children is left in node->children. */
static wane_status element(reader *r, wane_parquet_node *node)
{
    wane_thrift *t = &r->t;
    wane_thrift_field f = {0};
    const uint8_t *name = NULL;
    int64_t type = WANE_PARQUET_GROUP, repetition = WANE_REQUIRED, children = 0;
    while (wane_thrift_next(t, &f)) {
        switch (f.id) {
        case 1: type = wane_thrift_integer(t, f.type); break;
        case 3: repetition = wane_thrift_integer(t, f.type); break;
        case 4: node->length = wane_thrift_bytes(t, f.type, &name); break;
        case 5: children = wane_thrift_integer(t, f.type); break;
        case 6: converted(node, wane_thrift_i32(t, f.type)); break;
        case 10:
            if (wane_thrift_struct(t, f.type)) logical(t, node);
            break;
        default: wane_thrift_skip(t, f.type);
        }
    }
    if (t->why) return damaged(r);
    if (!name) return wane_fail(r->e, WANE_EFORMAT, "a column has no name");
    for (size_t i = 0, step; i < node->length; i += step)
        if (!(step = wane_utf8_length(name + i, node->length - i)))
            return wane_fail(r->e, WANE_EFORMAT, "the name of a column is not UTF-8");
    node->name = (const char *)name;
    bool leaf = children == 0;
    if (children < 0 || children > NODES || repetition < WANE_REQUIRED ||
        repetition > WANE_REPEATED ||
        leaf != (type >= WANE_PARQUET_BOOLEAN && type <= WANE_PARQUET_FIXED) ||
        (!leaf && type != WANE_PARQUET_GROUP))
        return wane_fail(r->e, WANE_EFORMAT,
                         "column %d of the schema is neither a group with columns nor of a type "
                         "that Parquet has",
                         (int)(node - r->m->nodes));
    node->type = (wane_parquet_type)type;
    node->repetition = (wane_repetition)repetition;
    node->children = (int)children;
    return WANE_OK;
}

/* Two siblings of one name would be one key. */
static wane_status check_names(reader *r, int group)
{
    const wane_parquet_node *n = r->m->nodes;
    for (int a = group + 1; a < group + n[group].span; a += n[a].span)
        for (int b = a + n[a].span; b < group + n[group].span; b += n[b].span)
            if (n[a].length == n[b].length && !memcmp(n[a].name, n[b].name, n[a].length)) {
                char path[256];
                return wane_fail(r->e, WANE_EFORMAT, "there are two columns %s",
                                 wane_parquet_path(r->m, a, path, sizeof path));
            }
    return WANE_OK;
}

/* Parents, levels, leaves and spans of nodes that are in order, parents before children. */
static wane_status grow(reader *r)
{
    wane_parquet_metadata *m = r->m;
    wane_parquet_node *n = m->nodes;
    int way[DEPTH + 1], left[DEPTH + 1], depth = 0;
    for (int i = 0; i < m->node_count; i++) {
        while (depth > 0 && left[depth - 1] == 0) depth--;
        if (i > 0 && depth == 0)
            return wane_fail(r->e, WANE_EFORMAT, "the schema has columns outside its groups");
        n[i].parent = i ? way[depth - 1] : -1;
        if (i) {
            const wane_parquet_node *parent = &n[n[i].parent];
            left[depth - 1]--;
            n[i].def = parent->def + (n[i].repetition != WANE_REQUIRED);
            n[i].rep = parent->rep + (n[i].repetition == WANE_REPEATED);
        }
        n[i].span = 1;
        n[i].leaf = m->leaves;
        if (n[i].rep > LISTS)
            return wane_fail(r->e, WANE_EUNSUPPORTED, "lists nested deeper than %d", LISTS);
        if (n[i].children == 0) {
            m->leaf_nodes[m->leaves++] = i;
            n[i].leaves = 1;
            for (int p = n[i].parent; p >= 0; p = n[p].parent) n[p].leaves++;
        } else if (depth == DEPTH) {
            return wane_fail(r->e, WANE_EUNSUPPORTED, "columns nested deeper than %d", DEPTH);
        } else {
            left[depth] = n[i].children;
            way[depth++] = i;
        }
        for (int p = n[i].parent; p >= 0; p = n[p].parent) n[p].span++;
    }
    for (; depth > 0; depth--)
        if (left[depth - 1])
            return wane_fail(r->e, WANE_EFORMAT, "the schema ends before all columns of a group");
    for (int i = 0; i < m->node_count; i++) {
        wane_status s = check_names(r, i);
        if (s) return s;
        /* a group that says it is a list and holds no repeated node alone is a group */
        if (n[i].means == WANE_MEANS_LIST &&
            (n[i].children != 1 || n[i + 1].repetition != WANE_REPEATED))
            n[i].means = WANE_MEANS_VALUE;
    }
    return WANE_OK;
}

static wane_status read_schema(reader *r, int type)
{
    wane_parquet_metadata *m = r->m;
    if (m->nodes) return wane_fail(r->e, WANE_EFORMAT, "the footer has two schemas");
    size_t count = wane_thrift_list(&r->t, type, WANE_THRIFT_STRUCT);
    if (r->t.why) return damaged(r);
    if (count < 2) return wane_fail(r->e, WANE_EFORMAT, "the file has no columns");
    if (count > NODES) return wane_fail(r->e, WANE_EUNSUPPORTED, "more than %d columns", NODES);
    m->nodes = calloc(count, sizeof *m->nodes);
    m->leaf_nodes = calloc(count, sizeof *m->leaf_nodes);
    if (!m->nodes || !m->leaf_nodes) return no_memory(r, count * sizeof *m->nodes);
    for (; (size_t)m->node_count < count; m->node_count++) {
        wane_status s = element(r, &m->nodes[m->node_count]);
        if (s) return s;
    }
    if (m->nodes[0].children == 0) return wane_fail(r->e, WANE_EFORMAT, "the file has no columns");
    m->nodes[0].repetition = WANE_REQUIRED;
    m->nodes[0].means = WANE_MEANS_VALUE;
    return grow(r);
}

/* ---- row groups ---- */

/* path_in_schema: the names from below the root to the leaf. */
static bool is_path(reader *r, int type, int leaf)
{
    const wane_parquet_metadata *m = r->m;
    int way[DEPTH + 1], n = 0;
    bool same = true;
    for (int node = m->leaf_nodes[leaf]; node > 0; node = m->nodes[node].parent) way[n++] = node;
    for (size_t parts = wane_thrift_list(&r->t, type, WANE_THRIFT_BINARY); parts; parts--) {
        const uint8_t *name;
        size_t length = wane_thrift_bytes(&r->t, WANE_THRIFT_BINARY, &name);
        const wane_parquet_node *node = n ? &m->nodes[way[--n]] : NULL;
        same = same && node && length == node->length && !memcmp(name, node->name, length);
    }
    return same && n == 0;
}

typedef struct {
    int64_t type, codec, values, length, data, dictionary;
    bool named;
} column_metadata;

/* ColumnMetaData */
static void read_column(reader *r, int leaf, column_metadata *c)
{
    wane_thrift *t = &r->t;
    wane_thrift_field f = {0};
    while (wane_thrift_next(t, &f)) {
        switch (f.id) {
        case 1: c->type = wane_thrift_integer(t, f.type); break;
        case 3: c->named = is_path(r, f.type, leaf); break;
        case 4: c->codec = wane_thrift_i32(t, f.type); break;
        case 5: c->values = wane_thrift_integer(t, f.type); break;
        case 7: c->length = wane_thrift_integer(t, f.type); break;
        case 9: c->data = wane_thrift_integer(t, f.type); break;
        case 11: c->dictionary = wane_thrift_integer(t, f.type); break;
        default: wane_thrift_skip(t, f.type);
        }
    }
}

/* ColumnChunk of a leaf */
static wane_status read_chunk(reader *r, int leaf, wane_parquet_chunk *out)
{
    wane_thrift *t = &r->t;
    wane_thrift_field f = {0};
    char path[256];
    column_metadata c = {.type = -1, .codec = -1, .values = -1, .length = -1, .data = -1};
    bool elsewhere = false, hidden = false;
    while (wane_thrift_next(t, &f)) {
        if (f.id == 3 && wane_thrift_struct(t, f.type)) {
            read_column(r, leaf, &c);
        } else {
            elsewhere |= f.id == 1;
            hidden |= f.id == 8 || f.id == 9;
            wane_thrift_skip(t, f.type);
        }
    }
    if (t->why) return damaged(r);
    wane_parquet_path(r->m, r->m->leaf_nodes[leaf], path, sizeof path);
    if (hidden) return wane_fail(r->e, WANE_EUNSUPPORTED, "column %s is encrypted", path);
    if (elsewhere)
        return wane_fail(r->e, WANE_EUNSUPPORTED, "column %s lies in another file", path);
    if (!c.named || c.type != (int64_t)r->m->nodes[r->m->leaf_nodes[leaf]].type)
        return wane_fail(r->e, WANE_EFORMAT,
                         "a row group has something else where column %s is due", path);
    *out = (wane_parquet_chunk){.codec = c.codec};
    if (c.values == 0) return WANE_OK; /* there may be no page, and an offset that says nothing */
    int64_t from = c.dictionary > 0 && c.dictionary < c.data ? c.dictionary : c.data;
    uint64_t end;
    if (c.values < 0 || c.length < 0 || from < MAGIC ||
        !wane_add((uint64_t)from, (uint64_t)c.length, &end) || end > r->pages_end)
        return wane_fail(r->e, WANE_EFORMAT, "column %s lies outside the file", path);
    *out = (wane_parquet_chunk){(uint64_t)from, (uint64_t)c.length, c.values, c.codec};
    return WANE_OK;
}

static wane_status read_group(reader *r, size_t group)
{
    wane_parquet_metadata *m = r->m;
    wane_thrift *t = &r->t;
    wane_thrift_field f = {0};
    bool listed = false;
    m->group_rows[group] = -1;
    while (wane_thrift_next(t, &f)) {
        if (f.id == 3) {
            m->group_rows[group] = wane_thrift_integer(t, f.type);
        } else if (f.id == 1) {
            size_t count = wane_thrift_list(t, f.type, WANE_THRIFT_STRUCT);
            if (t->why) return damaged(r);
            if (count != (size_t)m->leaves || listed)
                return wane_fail(r->e, WANE_EFORMAT, "row group %zu has %zu columns, the schema %d",
                                 group + 1, count, m->leaves);
            listed = true;
            for (int i = 0; i < m->leaves; i++) {
                wane_status s = read_chunk(r, i, &m->chunks[group * (size_t)m->leaves + (size_t)i]);
                if (s) return s;
            }
        } else {
            wane_thrift_skip(t, f.type);
        }
    }
    if (t->why) return damaged(r);
    if (!listed || m->group_rows[group] < 0)
        return wane_fail(r->e, WANE_EFORMAT,
                         "row group %zu lacks its columns or its number of rows", group + 1);
    return WANE_OK;
}

static wane_status read_groups(reader *r, int type)
{
    wane_parquet_metadata *m = r->m;
    if (!m->nodes || m->chunks)
        return wane_fail(r->e, WANE_EFORMAT, "the footer's row groups are not where they belong");
    size_t count = wane_thrift_list(&r->t, type, WANE_THRIFT_STRUCT);
    uint64_t least, bytes;
    if (r->t.why) return damaged(r);
    if (count > GROUPS)
        return wane_fail(r->e, WANE_EUNSUPPORTED, "more than %d row groups", GROUPS);
    if (!wane_mul(count, (uint64_t)m->leaves, &least) ||
        least > (uint64_t)(r->t.end - r->t.at) / CHUNK_LEAST ||
        !wane_mul(least, sizeof *m->chunks, &bytes) || bytes > SIZE_MAX)
        return wane_fail(r->e, WANE_EFORMAT,
                         "the footer says %zu row groups and is too short for them", count);
    m->group_rows = calloc(count + 1, sizeof *m->group_rows);
    m->chunks = calloc(least + 1, sizeof *m->chunks);
    if (!m->group_rows || !m->chunks) return no_memory(r, (size_t)bytes);
    for (; m->groups < count; m->groups++) {
        wane_status s = read_group(r, m->groups);
        if (s) return s;
    }
    return WANE_OK;
}

/* FileMetaData */
wane_status wane_parquet_metadata_read(wane_parquet_metadata *m, char *footer, size_t length,
                                       uint64_t pages_end, wane_err *e)
{
    const uint8_t *from = (const uint8_t *)footer;
    reader r = {.m = m, .t = {.at = from, .end = from + length}, .pages_end = pages_end, .e = e};
    wane_thrift_field f = {0};
    wane_status s = WANE_OK;
    uint64_t sum = 0;
    bool encrypted = false;
    m->footer = footer;
    m->rows = -1;
    while (!s && wane_thrift_next(&r.t, &f)) {
        switch (f.id) {
        case 2: s = read_schema(&r, f.type); break;
        case 3: m->rows = wane_thrift_integer(&r.t, f.type); break;
        case 4: s = read_groups(&r, f.type); break;
        default: encrypted |= f.id == 8; wane_thrift_skip(&r.t, f.type);
        }
    }
    if (s) return s;
    if (r.t.why) return damaged(&r);
    if (encrypted) return wane_fail(e, WANE_EUNSUPPORTED, "the file is encrypted");
    if (!m->nodes || !m->chunks || m->rows < 0)
        return wane_fail(e, WANE_EFORMAT,
                         "the footer lacks the schema, the row groups or the number of rows");
    for (size_t i = 0; i < m->groups; i++)
        if (!wane_add(sum, (uint64_t)m->group_rows[i], &sum))
            return wane_fail(e, WANE_EFORMAT, "the row groups have too many rows");
    if (sum != (uint64_t)m->rows)
        return wane_fail(e, WANE_EFORMAT, "the footer says %lld rows, its row groups have %llu",
                         (long long)m->rows, (unsigned long long)sum);
    return WANE_OK;
}

void wane_parquet_metadata_free(wane_parquet_metadata *m)
{
    free(m->footer);
    free(m->nodes);
    free(m->leaf_nodes);
    free(m->group_rows);
    free(m->chunks);
    *m = (wane_parquet_metadata){0};
}
