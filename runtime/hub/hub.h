/* hub.h - files from the Hugging Face Hub, or from what answers as it does, over libcurl.
 *
 * A hub is a connection with its rules: the token goes to the endpoint's scheme, host and port
 * alone and never over plain http but within the machine; redirects never lead from https to http
 * and end after ten; answers have limits; what may pass by (a cut connection, 408, 429, 5xx) is
 * tried again, as Retry-After says. Files are added and then fetched, several at once, by calling
 * step until it says finished. Without libcurl at build time every call is EUNSUPPORTED and says
 * what to do.
 *
 * Errors: ENETWORK with url (never a query, never a token) and, where the server answered, its
 * status; EIO for the disk; EINTERRUPTED. */
#ifndef WANE_HUB_H
#define WANE_HUB_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/base/error.h"

typedef struct wane_hub wane_hub;

typedef struct {
    const char *endpoint; /* "https://huggingface.co" */
    const char *token;    /* NULL: none */
    const char *ca_file;  /* certificates of the authorities to trust; NULL: the system's */
    int retries;          /* after the first attempt; one that brought 1 MiB more is not counted */
    double backoff;       /* seconds before the second attempt; doubles up to a minute */
    double connect, idle; /* seconds: to connect; with less than 1 KiB/s */
    int parallel;         /* files at once */
    bool offline;         /* no request leaves: what would need one fails */
    const atomic_int *interrupt; /* borrowed; may be NULL */
} wane_hub_options;

/* A file to have. Texts are copied. */
typedef struct {
    const char *url;
    const char *name; /* for messages */
    const char *hash; /* 64 hex digits: SHA-256; 40: SHA-1 of the git blob */
    uint64_t size;
    const char *path;    /* what it is called once it is whole and its hash is right */
    const char *partial; /* until then; left where it is by any failure, and gone on with. The
                            server's own tag for it lies in PARTIAL.etag */
    const char *lock;    /* a file to flock meanwhile; NULL: none */
    const char *copy;    /* a file to copy it from, if its hash is right; NULL: none */
    const char *link;    /* a symbolic link to make to target; NULL: none */
    const char *target;
    bool replace; /* a file of that name with another size is removed; else it is an error */
    bool verify;  /* one of the right size is read and, where its hash is wrong, fetched again */
} wane_hub_file;

typedef enum {
    WANE_HUB_WAITING,
    WANE_HUB_PRESENT,
    WANE_HUB_COPIED,
    WANE_HUB_FETCHED
} wane_hub_state;

typedef struct {
    bool finished;
    int files;             /* that are there */
    uint64_t bytes, total; /* of all files: there and on the way, and all */
    uint64_t received;     /* from the network */
    const char *name;      /* of a file that is on its way; NULL; lives as long as the hub */
    const char *waiting;   /* why nothing happens just now, in words; NULL */
} wane_hub_progress;

wane_status wane_hub_open(const wane_hub_options *, wane_hub **out, wane_err *e);
void wane_hub_close(wane_hub *); /* partial files stay; NULL is fine */

/* The body of a GET, at most `most` bytes, with a 0 after it; the caller's: free. */
wane_status wane_hub_fetch(wane_hub *, const char *url, size_t most, char **out, size_t *length,
                           wane_err *e);

/* The hash and size of a file as the Hub's answer to HEAD has them; "" and -1 where it has none. */
wane_status wane_hub_look(wane_hub *, const char *url, char hash[65], int64_t *size, wane_err *e);

/* One more file to have. ENETWORK: what a Hub listed of it is no hash, or no size that can be. */
wane_status wane_hub_add(wane_hub *, const wane_hub_file *, wane_err *e);
/* Works for about that long. After a failure every later call gives the same one. */
wane_status wane_hub_step(wane_hub *, double seconds, wane_hub_progress *out, wane_err *e);
wane_hub_state wane_hub_file_state(const wane_hub *, int i); /* of the i-th added, from 0 */

#endif
