/* parquet.c - see parquet.h. Source: parquet-format's README; records are put together again as in
 * Melnik et al. 2010, "Dremel: Interactive Analysis of Web-Scale Datasets", section 4, by walking
 * the tree of columns instead of a state machine. LogicalTypes.md says which groups are lists, also
 * as older writers had them.
 *
 * Every leaf below a list must begin and end its elements where its siblings do: each entry's
 * levels are held against what the tree expects. */
#include "runtime/data/parquet.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/units.h"
#include "runtime/data/pages.h"

enum { FOOTER_MOST = 256 << 20, TAIL = 8, VALUE_BYTES = 16 };

struct wane_parquet {
    wane_source source; /* path is owned, data is not */
    wane_parquet_metadata m;
    wane_column *columns; /* (leaves) */
    bool *selected;       /* (leaves) */
    bool some;            /* selected is used */
    bool ready;           /* what is selected has been found readable */
    size_t group;         /* of the next row, groups once all are read */
    int64_t group_row, row;
    uint64_t spent, most;
    bool failed;
    wane_err why;
};

/* Adds the file to a message that has no place. */
static wane_status at_file(const wane_parquet *p, wane_err *e, wane_status s)
{
    char shown[400], why[sizeof e->message];
    if (!s || !e) return s;
    memcpy(why, e->message, sizeof why);
    if (s == WANE_EFORMAT || s == WANE_EUNSUPPORTED)
        snprintf(e->message, sizeof e->message, "%s: %.600s",
                 wane_escape(shown, sizeof shown, p->source.path, strlen(p->source.path)), why);
    wane_err_at(e, "parquet", NULL, p->source.path);
    return s;
}

/* ---- opening ---- */

/* What else ends up under the name of a data file. */
static wane_status not_parquet(const uint8_t *head, size_t n, wane_err *e)
{
    static const char lfs[] = "version https://git-lfs";
    if (n >= sizeof lfs - 1 && !memcmp(head, lfs, sizeof lfs - 1))
        return wane_fail(e, WANE_EFORMAT,
                         "only git-lfs' pointer to the file is here: git lfs pull");
    if (n >= 4 && !memcmp(head, "PARE", 4))
        return wane_fail(e, WANE_EUNSUPPORTED, "the file is encrypted");
    return wane_fail(e, WANE_EFORMAT, "not a Parquet file: it does not begin with PAR1");
}

static wane_status read_footer(wane_parquet *p, wane_err *e)
{
    uint8_t head[24], tail[TAIL];
    const wane_source *from = &p->source;
    size_t n = from->size < sizeof head ? (size_t)from->size : sizeof head;
    uint32_t length;
    wane_status s = wane_source_read(from, 0, head, n, e);
    if (s) return s;
    if (n < 4 || memcmp(head, "PAR1", 4)) return not_parquet(head, n, e);
    if (from->size < 4 + TAIL)
        return wane_fail(e, WANE_EFORMAT, "the file is cut off: it has no footer");
    if ((s = wane_source_read(from, from->size - TAIL, tail, TAIL, e))) return s;
    if (memcmp(tail + 4, "PAR1", 4))
        return wane_fail(e, WANE_EFORMAT, "the file is cut off: it does not end with PAR1");
    memcpy(&length, tail, 4);
    if (length > FOOTER_MOST || length > from->size - 4 - TAIL)
        return wane_fail(e, WANE_EFORMAT, "the footer is longer than the file, or than %d MiB",
                         FOOTER_MOST >> 20);
    uint64_t begin = from->size - TAIL - length;
    char *footer = malloc((size_t)length + 1);
    if (!footer) return wane_fail(e, WANE_EOOM, "host: no memory for %u bytes", length);
    if ((s = wane_source_read(from, begin, footer, length, e))) {
        free(footer);
        return s;
    }
    return wane_parquet_metadata_read(&p->m, footer, length, begin, e);
}

static wane_status open_source(wane_source source, wane_parquet **out, wane_err *e)
{
    *out = NULL;
    wane_parquet *p = calloc(1, sizeof *p);
    char *path = strdup(source.path);
    if (!p || !path) {
        free(p);
        free(path);
        if (!source.data) close(source.fd);
        return wane_fail(e, WANE_EOOM, "host: no memory for a reader");
    }
    p->source = source;
    p->source.path = path;
    p->most = UINT64_C(1) << 30;
    wane_status s = read_footer(p, e);
    if (!s) {
        p->columns = calloc((size_t)p->m.leaves, sizeof *p->columns);
        p->selected = calloc((size_t)p->m.leaves, sizeof *p->selected);
        if (!p->columns || !p->selected)
            s = wane_fail(e, WANE_EOOM, "host: no memory for %d columns", p->m.leaves);
    }
    if (s) {
        at_file(p, e, s);
        wane_parquet_close(p);
        return s;
    }
    *out = p;
    return WANE_OK;
}

wane_status wane_parquet_open(const char *path, wane_parquet **out, wane_err *e)
{
    struct stat about;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about)) {
        wane_status s = wane_fail_io(e, "read", path);
        if (fd >= 0) close(fd);
        return s;
    }
    if (!S_ISREG(about.st_mode)) {
        char shown[400];
        close(fd);
        wane_fail(e, WANE_EFORMAT, "%s: a Parquet file must be a file: its end is read first",
                  wane_escape(shown, sizeof shown, path, strlen(path)));
        return wane_err_at(e, "parquet", NULL, path), WANE_EFORMAT;
    }
    return open_source((wane_source){.fd = fd, .size = (uint64_t)about.st_size, .path = path}, out,
                       e);
}

wane_status wane_parquet_open_bytes(const void *data, size_t length, const char *path,
                                    wane_parquet **out, wane_err *e)
{
    static const uint8_t nothing;
    if (!data) data = &nothing;
    return open_source((wane_source){.data = data, .fd = -1, .size = length, .path = path}, out, e);
}

void wane_parquet_close(wane_parquet *p)
{
    if (!p) return;
    for (int i = 0; p->columns && i < p->m.leaves; i++) wane_column_close(&p->columns[i]);
    free(p->columns);
    free(p->selected);
    wane_parquet_metadata_free(&p->m);
    if (!p->source.data) close(p->source.fd);
    free((char *)(uintptr_t)p->source.path);
    free(p);
}

int64_t wane_parquet_rows(const wane_parquet *p)
{
    return p->m.rows;
}

/* The node of column i of a row; 0 past the last. */
static int top(const wane_parquet *p, int i)
{
    int node = 1;
    for (; i > 0 && node < p->m.node_count; i--) node += p->m.nodes[node].span;
    return i == 0 && node < p->m.node_count ? node : 0;
}

const char *wane_parquet_column(const wane_parquet *p, int i, size_t *length)
{
    int node = top(p, i);
    *length = node ? p->m.nodes[node].length : 0;
    return node ? p->m.nodes[node].name : NULL;
}

void wane_parquet_select(wane_parquet *p, int i)
{
    int node = top(p, i);
    p->some = true;
    for (int leaf = 0; node && leaf < p->m.nodes[node].leaves; leaf++)
        p->selected[p->m.nodes[node].leaf + leaf] = true;
}

void wane_parquet_limit(wane_parquet *p, uint64_t bytes)
{
    p->most = bytes;
}

/* ---- rows ---- */

static bool chosen(const wane_parquet *p, int node)
{
    return !p->some || p->selected[p->m.nodes[node].leaf];
}

/* Refuses selected columns of types that have no place in JSON. */
static wane_status check_types(const wane_parquet *p, wane_err *e)
{
    for (int i = 0; i < p->m.node_count; i++) {
        const wane_parquet_node *n = &p->m.nodes[i];
        const char *what = n->means == WANE_MEANS_OTHER ? n->meaning : NULL;
        if (!what && n->children == 0 && n->type == WANE_PARQUET_INT96) what = "int96";
        if (!what && n->children == 0 && n->type == WANE_PARQUET_FIXED)
            what = "fixed_len_byte_array";
        if (!what || !chosen(p, i)) continue;
        char path[256];
        return wane_fail(e, WANE_EUNSUPPORTED,
                         "column %s is of type %s, which wane does not read: name the columns to "
                         "read, or write it "
                         "as text or a number",
                         wane_parquet_path(&p->m, i, path, sizeof path), what);
    }
    return WANE_OK;
}

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for a row");
}

static wane_status refuse(const wane_parquet *p, int node, wane_err *e, const char *why)
{
    char path[256];
    return wane_fail(e, WANE_EFORMAT, "row %lld: column %s %s", (long long)p->row + 1,
                     wane_parquet_path(&p->m, node, path, sizeof path), why);
}

static wane_status spend(wane_parquet *p, uint64_t bytes, wane_err *e)
{
    char limit[24];
    if (bytes <= p->most - p->spent) {
        p->spent += bytes;
        return WANE_OK;
    }
    return wane_fail(e, WANE_EFORMAT,
                     "row %lld: the rows have more than the %s that a set may have",
                     (long long)p->row + 1, wane_bytes_format(limit, sizeof limit, p->most));
}

/* The next entry of a leaf, which must be there and begin where rep says. */
static wane_status expect(wane_parquet *p, int leaf, int rep, wane_err *e)
{
    bool more;
    wane_column *c = &p->columns[leaf];
    wane_status s = wane_column_peek(c, &more, e);
    if (s) return s;
    if (!more) return refuse(p, p->m.leaf_nodes[leaf], e, "ends before its row group does");
    if (c->rep != rep)
        return refuse(p, p->m.leaf_nodes[leaf], e, "has lists of another length than its siblings");
    return WANE_OK;
}

/* All leaves below a node say that it is not there (or has no elements), and that its parent is. */
static wane_status absent(wane_parquet *p, int node, int rep, wane_err *e)
{
    const wane_parquet_node *n = &p->m.nodes[node];
    for (int i = n->leaf; i < n->leaf + n->leaves; i++) {
        wane_value none;
        wane_status s = expect(p, i, rep, e);
        if (s) return s;
        if (p->columns[i].def != n->def - 1)
            return refuse(p, p->m.leaf_nodes[i], e,
                          "is null where its siblings are not, or the other way round");
        if ((s = wane_column_take(&p->columns[i], &none, e))) return s;
    }
    return WANE_OK;
}

static wane_status text(wane_parquet *p, int node, const wane_value *v, json_t **out, wane_err *e)
{
    wane_status s = spend(p, v->length, e);
    if (s) return s;
    *out = json_stringn((const char *)v->bytes, v->length);
    if (*out) return WANE_OK;
    for (size_t i = 0, step; i < v->length; i += step)
        if (!(step = wane_utf8_length(v->bytes + i, v->length - i)))
            return refuse(p, node, e, "is not UTF-8 text");
    return no_memory(e);
}

static json_t *number(double x)
{
    return isnan(x) ? json_null() : json_real(x);
}

/* The JSON of a value. */
static wane_status convert(wane_parquet *p, int node, const wane_value *v, json_t **out,
                           wane_err *e)
{
    const wane_parquet_node *n = &p->m.nodes[node];
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    bool endless = false;
    switch (n->type) {
    case WANE_PARQUET_BYTES: return text(p, node, v, out, e);
    case WANE_PARQUET_BOOLEAN: *out = json_boolean(v->truth); break;
    case WANE_PARQUET_INT32:
        memcpy(&i32, v->bytes, sizeof i32);
        *out = json_integer(n->means == WANE_MEANS_UNSIGNED ? (json_int_t)(uint32_t)i32 : i32);
        break;
    case WANE_PARQUET_INT64:
        memcpy(&i64, v->bytes, sizeof i64);
        if (n->means == WANE_MEANS_UNSIGNED && i64 < 0)
            return refuse(p, node, e, "is a number beyond 63 bits");
        *out = json_integer(i64);
        break;
    case WANE_PARQUET_FLOAT:
        memcpy(&f32, v->bytes, sizeof f32);
        endless = isinf(f32);
        if (!endless) *out = number(f32);
        break;
    default:
        memcpy(&f64, v->bytes, sizeof f64);
        endless = isinf(f64);
        if (!endless) *out = number(f64);
    }
    if (endless) return refuse(p, node, e, "is infinite");
    return *out ? WANE_OK : no_memory(e);
}

static wane_status leaf_value(wane_parquet *p, int node, json_t **out, wane_err *e)
{
    const wane_parquet_node *n = &p->m.nodes[node];
    wane_column *c = &p->columns[n->leaf];
    wane_value v;
    if (c->def < n->def)
        return refuse(p, node, e, "is null where its siblings are not, or the other way round");
    wane_status s = wane_column_take(c, &v, e);
    return s ? s : convert(p, node, &v, out, e);
}

static wane_status value(wane_parquet *p, int node, int rep, json_t **out, wane_err *e);

static wane_status fields(wane_parquet *p, int node, int rep, json_t **out, wane_err *e)
{
    const wane_parquet_node *n = p->m.nodes;
    wane_status s = WANE_OK;
    json_t *object = json_object();
    if (!object) return no_memory(e);
    for (int i = node + 1; !s && i < node + n[node].span; i += n[i].span) {
        json_t *item = NULL;
        if (!chosen(p, i)) continue;
        s = value(p, i, rep, &item, e);
        if (!s && json_object_setn_new(object, n[i].name, n[i].length, item)) s = no_memory(e);
    }
    if (s)
        json_decref(object);
    else
        *out = object;
    return s;
}

/* What a node holds once it is known to be there. */
static wane_status content(wane_parquet *p, int node, int rep, json_t **out, wane_err *e)
{
    return p->m.nodes[node].children ? fields(p, node, rep, out, e) : leaf_value(p, node, out, e);
}

/* Whether a repeated node of a list is only a wrapper around the element, its one child. */
static bool is_wrapper(const wane_parquet *p, int node)
{
    const wane_parquet_node *n = &p->m.nodes[node], *list = &p->m.nodes[n->parent];
    if (list->means != WANE_MEANS_LIST || n->children != 1 || n[1].repetition == WANE_REPEATED)
        return false;
    if (n->length == 5 && !memcmp(n->name, "array", 5)) return false;
    return n->length != list->length + 6 || memcmp(n->name, list->name, list->length) ||
           memcmp(n->name + list->length, "_tuple", 6);
}

/* The elements of a repeated node. */
static wane_status elements(wane_parquet *p, int node, int rep, json_t **out, wane_err *e)
{
    const wane_parquet_node *n = &p->m.nodes[node];
    wane_column *first = &p->columns[n->leaf];
    wane_status s = expect(p, n->leaf, rep, e);
    if (s) return s;
    json_t *list = json_array();
    if (!list) return no_memory(e);
    if (first->def < n->def) {
        s = absent(p, node, rep, e);
    } else {
        bool wrapper = is_wrapper(p, node), more = true;
        while (!s && more) {
            json_t *item = NULL;
            s = wrapper ? value(p, node + 1, rep, &item, e) : content(p, node, rep, &item, e);
            if (!s && json_array_append_new(list, item)) s = no_memory(e);
            if (!s) s = wane_column_peek(first, &more, e);
            more = more && first->rep == n->rep;
            rep = n->rep;
            if (!s && more && first->def < n->def)
                s = refuse(p, p->m.leaf_nodes[n->leaf], e, "has an element without a value");
        }
    }
    if (s)
        json_decref(list);
    else
        *out = list;
    return s;
}

/* A node as its parent sees it: null, a list, an object or a value. */
static wane_status value(wane_parquet *p, int node, int rep, json_t **out, wane_err *e)
{
    const wane_parquet_node *n = &p->m.nodes[node];
    wane_status s = spend(p, VALUE_BYTES, e);
    if (s) return s;
    if (n->repetition == WANE_REPEATED) return elements(p, node, rep, out, e);
    if ((s = expect(p, n->leaf, rep, e))) return s;
    if (n->repetition == WANE_OPTIONAL && p->columns[n->leaf].def < n->def) {
        *out = json_null();
        return absent(p, node, rep, e);
    }
    if (n->means == WANE_MEANS_LIST) return elements(p, node + 1, rep, out, e);
    return content(p, node, rep, out, e);
}

/* Opens the columns of the next row group that has rows; afterwards each must be at its end. */
static wane_status next_group(wane_parquet *p, wane_err *e)
{
    for (; p->group_row == p->m.group_rows[p->group]; p->group++, p->group_row = 0) {
        for (int i = 0; p->group_row && i < p->m.leaves; i++) {
            bool more = false;
            if (!chosen(p, p->m.leaf_nodes[i])) continue;
            wane_status s = wane_column_peek(&p->columns[i], &more, e);
            if (s) return s;
            if (more)
                return refuse(p, p->m.leaf_nodes[i], e,
                              "goes on after the last row of its row group");
        }
        if (p->group + 1 == p->m.groups) {
            p->group++;
            return WANE_OK;
        }
    }
    if (p->group_row) return WANE_OK;
    for (int i = 0; i < p->m.leaves; i++) {
        if (!chosen(p, p->m.leaf_nodes[i])) continue;
        wane_status s = wane_column_open(&p->columns[i], &p->source, &p->m, i, p->group, e);
        if (s) return s;
    }
    return WANE_OK;
}

static wane_status next_row(wane_parquet *p, json_t **out, wane_err *e)
{
    if (!p->ready) {
        wane_status s = check_types(p, e);
        if (s) return s;
        p->ready = true;
    }
    if (p->group < p->m.groups) {
        wane_status s = next_group(p, e);
        if (s) return s;
    }
    if (p->group == p->m.groups) return WANE_OK;
    wane_status s = spend(p, VALUE_BYTES, e);
    if (!s) s = fields(p, 0, 0, out, e);
    p->group_row++;
    p->row++;
    return s;
}

wane_status wane_parquet_row(wane_parquet *p, json_t **out, wane_err *e)
{
    *out = NULL;
    if (!p->failed) {
        wane_status s = next_row(p, out, &p->why);
        if (!s) return WANE_OK;
        at_file(p, &p->why, s);
        p->failed = true;
    }
    if (e) *e = p->why;
    return p->why.status;
}
