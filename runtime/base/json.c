/* json.c - see json.h. Depth is checked before parsing, by counting brackets outside strings,
 * because jansson's own limit (2048) cannot be set. */
#include "runtime/base/json.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"

enum { DEPTH = 64 };

static size_t too_deep(const char *text, size_t length)
{
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > DEPTH) return i + 1;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return 0;
}

wane_status wane_json_parse(const char *text, size_t length, const char *path, json_t **out,
                            wane_err *e)
{
    json_error_t why;
    char shown[512];
    *out = NULL;
    wane_escape(shown, sizeof shown, path, strlen(path));
    size_t deep = too_deep(text, length);
    if (deep) {
        wane_fail(e, WANE_EFORMAT, "%s: nested deeper than %d at byte %zu", shown, DEPTH, deep - 1);
        if (e) e->offset = (int64_t)(deep - 1);
        return wane_err_at(e, "json", NULL, path), WANE_EFORMAT;
    }
    *out =
        json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (*out) return WANE_OK;
    /* where an allocation fails, jansson mostly gives up without a word */
    if (!why.text[0] || json_error_code(&why) == json_error_out_of_memory)
        return wane_fail(e, WANE_EOOM, "%s: no memory to parse %zu bytes of JSON", shown, length);
    char reason[4 * JSON_ERROR_TEXT_LENGTH]; /* it quotes the text */
    wane_escape(reason, sizeof reason, why.text, strlen(why.text));
    wane_fail(e, WANE_EFORMAT, "%s: not JSON at line %d, column %d: %s", shown, why.line,
              why.column, reason);
    if (e) e->offset = why.position;
    wane_err_at(e, "json", NULL, path);
    return WANE_EFORMAT;
}

wane_status wane_json_load(const char *path, uint64_t most, json_t **out, wane_err *e)
{
    char *text = NULL;
    size_t length = 0;
    *out = NULL;
    wane_status s = wane_file_read_all(path, most, &text, &length, e);
    if (!s) s = wane_json_parse(text, length, path, out, e);
    free(text);
    return s;
}
