/* embedded.h - the Lua half of wane, as it lies in the library (made by lua/embed.cmake). */
#ifndef WANE_EMBEDDED_H
#define WANE_EMBEDDED_H

#include <stddef.h>

typedef struct {
    const char *module; /* "wane.quantize"; NULL ends the table */
    const char *file;   /* "wane/quantize.lua" */
    const unsigned char *text;
    size_t length;
} wane_embedded;

extern const wane_embedded wane_embedded_lua[];

#endif
