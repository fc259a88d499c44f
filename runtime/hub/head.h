/* head.h - the head of an HTTP answer, read line by line from a server that is not trusted. */
#ifndef WANE_HEAD_H
#define WANE_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WANE_HEAD_MOST = 256 << 10 }; /* bytes of all lines of one answer */

typedef struct {
    int status; /* of the last status line; 0 before it */
    size_t bytes;
    char location[4096];
    bool location_long; /* there was one that did not fit */
    char etag[512];  /* as sent, quotes and all; "" where there is none that could be sent back */
    char linked[65]; /* X-Linked-Etag of the Hub: 40 or 64 hex digits, else "" */
    char tagged[65]; /* the same of ETag */
    int64_t linked_size;     /* X-Linked-Size; -1 */
    char error_code[64];     /* X-Error-Code of the Hub: "GatedRepo", "RevisionNotFound" */
    char error_message[256]; /* X-Error-Message; any bytes but 0 */
    int64_t length;          /* Content-Length; -1 */
    int64_t first, total;    /* of Content-Range; -1 */
    double retry_after;      /* seconds from `now`; -1 */
    bool encoded;            /* Content-Encoding says anything but identity */
} wane_head;

void wane_head_start(wane_head *); /* nothing of an answer yet */

/* One line as it came, with or without its end; a status line forgets what came before it. now:
 * seconds since 1970, for dates. False: the head is longer than it may be. */
bool wane_head_line(wane_head *, const char *line, size_t length, double now);

/* Whether the text is a blob's name in the Hub's cache: 40 or 64 lower-case hex digits. */
bool wane_head_hash(const char *text);

#endif
