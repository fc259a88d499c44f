/* error.h - how the core says what went wrong.
 *
 * A core function returns a status, fills a wane_err (which may be NULL), has changed nothing on
 * failure and leaves its out-parameters NULL. A message is one line: what, where, why, and the fix
 * as a command. It is already escaped: text from files goes through wane_escape. */
#ifndef WANE_ERROR_H
#define WANE_ERROR_H

#include "kernels/kernels.h"

typedef struct wane_err {
    wane_status status;
    char message[1024];
    char op[64];     /* what was being done: "load", "gptq", "generate" */
    char layer[256]; /* the weight it was done to */
    char device[32]; /* "cpu", "cuda:0", "host" */
    char path[1024]; /* the file */
    char tensor[256];
    uint64_t requested, free; /* bytes; both 0 where it was not about memory */
    int64_t offset;           /* byte in the file; -1 where unknown */
    char url[512];            /* asked for; without its query */
    int http;                 /* status of the answer; 0 where there was none */
    char reason[64];          /* the server's own code for it: "GatedRepo" */
} wane_err;

/* Fills e and returns s, so that a failure is one line: return wane_fail(e, WANE_EFORMAT, ...). */
wane_status wane_fail(wane_err *e, wane_status s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: adds strerror(errno) and the path. */
wane_status wane_fail_io(wane_err *e, const char *what, const char *path);

/* Sets fields of an error on its way up; each may be NULL. Returns e's status, EARG without e. */
wane_status wane_err_at(wane_err *e, const char *op, const char *layer, const char *path);

const char *wane_status_code(wane_status s); /* "oom", "io", "format", ...; static */

/* Copies text into out (size bytes), control and non-UTF-8 bytes as \xNN, cut with "..."; returns
 * out. */
const char *wane_escape(char *out, size_t size, const char *text, size_t length);

#endif
