/* json.h - strict JSON over jansson: what wane reads from files it does not trust.
 *
 * Duplicate keys, trailing text, bad UTF-8, numbers that overflow and nesting over 64 are refused
 * with the position. Integers stay integers. Callers walk the tree with jansson's own functions. */
#ifndef WANE_JSON_H
#define WANE_JSON_H

#include <jansson.h>

#include "runtime/base/error.h"

/* Parses length bytes; path only names them in messages. The result is the caller's: json_decref.
 */
wane_status wane_json_parse(const char *text, size_t length, const char *path, json_t **out,
                            wane_err *e);

/* Reads a whole file of at most `most` bytes and parses it. */
wane_status wane_json_load(const char *path, uint64_t most, json_t **out, wane_err *e);

#endif
