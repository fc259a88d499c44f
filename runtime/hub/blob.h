/* blob.h - a file that grows until it is whole and its hash is right, and only then gets its name.
 *
 * The order: lock, until it says so; prepare; slice, while there is something to read; append what
 * the network brings; finish. Built with libcurl alone (libcrypto does the hashes). */
#ifndef WANE_BLOB_H
#define WANE_BLOB_H

#include "runtime/hub/hub.h"

typedef struct evp_md_ctx_st wane_digest;

typedef struct {
    wane_hub_file f; /* texts owned */
    char *sidecar;   /* PARTIAL.etag */
    int lock, fd, source;
    wane_digest *digest;
    uint64_t at;    /* bytes hashed, and in the partial file once prepared */
    uint64_t slice; /* bytes of source to read */
    bool copying;   /* source is f.copy: what is read is written too */
    bool checking;  /* source is f.path */
    char tag[512];  /* what the server called the bytes in the partial file; "" unknown */
} wane_blob;

wane_status wane_blob_new(wane_blob *, const wane_hub_file *, wane_err *e);
void wane_blob_free(wane_blob *); /* drops the lock, keeps the partial file if it holds anything */

/* Nothing is to be done or written: a cache that may only be read is enough. */
bool wane_blob_there(const wane_blob *);
wane_status wane_blob_lock(wane_blob *, bool *held, wane_err *e); /* false: another has it */
/* done: the file is there already. Else what is to be read lies in slice. */
wane_status wane_blob_prepare(wane_blob *, bool *done, wane_err *e);
/* Reads on a little. Afterwards slice may be 0, and done says whether the file is there. */
wane_status wane_blob_slice(wane_blob *, bool *done, wane_err *e);
wane_status wane_blob_append(wane_blob *, const void *data, size_t bytes, wane_err *e);
void wane_blob_tag(wane_blob *, const char *tag); /* keeps it beside a file that is worth it */
wane_status wane_blob_restart(wane_blob *, wane_err *e); /* from nothing */
/* The whole file is in the partial one; good: its hash is right, and it has its name. */
wane_status wane_blob_finish(wane_blob *, bool *good, wane_err *e);

#endif
