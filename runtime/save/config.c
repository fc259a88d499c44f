/* config.c - config.json of what is saved: the source's own text, letter by letter, in which one
 * member comes, changes or goes. Numbers that a parser would print otherwise, keys that wane does
 * not know and their order stay as they were. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/save/writing.h"

/* Where a member of the outermost object lies in a text that a parser has accepted. */
typedef struct {
    size_t key, value, end; /* of the key's quote, of the value, after the value */
} place;

static size_t skip_space(const char *text, size_t at)
{
    return at + strspn(text + at, " \t\r\n");
}

/* After the string that begins at text[at]. */
static size_t skip_string(const char *text, size_t at)
{
    for (at++; text[at] && text[at] != '"'; at++)
        if (text[at] == '\\' && text[at + 1]) at++;
    return text[at] ? at + 1 : at;
}

static size_t skip_value(const char *text, size_t at)
{
    int depth = 0;
    while (text[at]) {
        char c = text[at];
        if (c == '"') {
            at = skip_string(text, at);
        } else {
            if (!depth && (c == ',' || c == '}' || strchr(" \t\r\n", c))) return at;
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            at++;
        }
        if (!depth && (c == '"' || c == '}' || c == ']')) return at;
    }
    return at;
}

static bool find_member(const char *text, const char *key, place *out)
{
    size_t at = skip_space(text, 0), length = strlen(key);
    if (text[at] != '{') return false;
    for (at = skip_space(text, at + 1); text[at] == '"';) {
        out->key = at;
        at = skip_string(text, at);
        bool same = at - out->key == length + 2 && !strncmp(text + out->key + 1, key, length);
        at = skip_space(text, at);
        out->value = skip_space(text, at + (text[at] == ':'));
        at = out->end = skip_value(text, out->value);
        if (same) return true;
        at = skip_space(text, at);
        if (text[at] == ',') at = skip_space(text, at + 1);
    }
    return false;
}

/* text with bytes from .. to replaced, freed; NULL where memory is out. */
static char *splice(char *text, size_t from, size_t to, const char *with)
{
    char *out = NULL;
    if (asprintf(&out, "%.*s%s%s", (int)from, text, with, text + to) < 0) out = NULL;
    free(text);
    return out;
}

/* A new member before the last brace. */
static char *append_member(char *text, const char *key, const char *value)
{
    char *brace = strrchr(text, '}'), *member = NULL;
    size_t at = brace ? (size_t)(brace - text) : 0;
    while (at && strchr(" \t\r\n", text[at - 1])) at--;
    bool empty = !at || text[at - 1] == '{';
    if (asprintf(&member, "%s\n  \"%s\": %s\n}\n", empty ? "" : ",", key, value) < 0) {
        free(text);
        return NULL;
    }
    text = splice(text, at, strlen(text), member);
    free(member);
    return text;
}

static char *set_member(char *text, const char *key, const char *value)
{
    place p;
    return find_member(text, key, &p) ? splice(text, p.value, p.end, value)
                                      : append_member(text, key, value);
}

/* A member and the comma that parts it from the others. */
static char *remove_member(char *text, const char *key)
{
    place p;
    if (!find_member(text, key, &p)) return text;
    size_t from = p.key, to = skip_space(text, p.end);
    if (text[to] == ',') {
        to = skip_space(text, to + 1);
    } else {
        to = p.end;
        while (from && strchr(" \t\r\n", text[from - 1])) from--;
        if (from && text[from - 1] == ',') from--;
    }
    return splice(text, from, to, "");
}

static char *set_dtype(char *text, wane_dtype t)
{
    const char *value = t == WANE_F16    ? "\"float16\""
                        : t == WANE_BF16 ? "\"bfloat16\""
                                         : "\"float32\"";
    place p;
    if (find_member(text, "dtype", &p)) return set_member(text, "dtype", value);
    return set_member(text, "torch_dtype", value);
}

wane_status wane_save_config(wane_saving *v, wane_err *e)
{
    static const char key[] = "quantization_config";
    char path[WANE_SAVE_PATH + 64], *text = NULL, *inner = NULL;
    size_t length = 0;
    json_t *q = NULL;
    wane_status s = v->packing ? v->packing->config(&v->grid, &q, e) : WANE_OK;
    if (s) return s;
    snprintf(path, sizeof path, "%s/config.json", v->model->checkpoint->dir);
    s = wane_file_read_all(path, 64u << 20, &text, &length, e);
    if (s) goto done;
    if (q) inner = json_dumps(q, JSON_INDENT(2));
    if (q && inner)
        text = set_member(text, key, inner);
    else if (q)
        s = wane_fail(e, WANE_EOOM, "no memory for config.json");
    else
        text = remove_member(text, key);
    if (!s && text && !v->packing) text = set_dtype(text, v->dense);
    if (!s && !text) s = wane_fail(e, WANE_EOOM, "no memory for config.json");
    snprintf(path, sizeof path, "%s/config.json", v->dir);
    if (!s) s = wane_file_write_all(path, text, strlen(text), e);
done:
    free(inner);
    free(text);
    json_decref(q);
    return s;
}
