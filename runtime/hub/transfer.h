/* transfer.h - one file or one answer on its way, with all its attempts; what hub.c has many of. */
#ifndef WANE_TRANSFER_H
#define WANE_TRANSFER_H

#include <curl/curl.h>

#include "runtime/hub/address.h"
#include "runtime/hub/blob.h"
#include "runtime/hub/head.h"

/* What all transfers of a hub share. */
typedef struct {
    wane_hub_options o; /* texts owned */
    wane_origin home;   /* of the endpoint */
    CURLM *multi;
    uint64_t received;
} wane_rules;

typedef enum {
    WANE_T_NEW,
    WANE_T_LOCK,
    WANE_T_READ,
    WANE_T_WAIT,
    WANE_T_RUN,
    WANE_T_DONE
} wane_t_state;

/* Why a body is refused while it comes; KEEP and ANEW are tried again, with what is there or
 * without. */
typedef enum { WANE_T_GO, WANE_T_KEEP, WANE_T_ANEW, WANE_T_NEVER, WANE_T_LOCAL } wane_t_stop;

typedef struct {
    wane_rules *rules;
    wane_t_state state;
    double when; /* monotonic seconds before which nothing is to be done; LOCK and WAIT */

    bool to_file; /* else to body */
    wane_blob blob;
    wane_hub_state outcome;
    char *body;
    size_t length, room, most;

    char *start, *url; /* where it began, where redirects led; url NULL: start */
    int hops, attempt, bad;
    uint64_t best; /* bytes that some attempt had */
    CURL *easy;    /* NULL unless RUN */
    struct curl_slist *fields;
    wane_head head;
    bool judged;    /* the head was looked at: the body may be taken */
    size_t dropped; /* bytes of an answer that nobody wants */
    wane_t_stop stop;
    char why[256];
    wane_err local;
    char waiting[192];
    char curl_says[CURL_ERROR_SIZE];
} wane_transfer;

/* f; or else the answer from url, or with most 0 its head alone, which stays in t->head. */
wane_status wane_transfer_new(wane_rules *, const wane_hub_file *f, const char *url, size_t most,
                              wane_transfer **out, wane_err *e);
void wane_transfer_free(wane_transfer *);

/* Does what can be done without the network, a little at a time; starts a request when it is time
 * to. *more: there is more to do at once. */
wane_status wane_transfer_advance(wane_transfer *, double now, bool *more, wane_err *e);
/* What the request came to: the next hop, another attempt, the end. */
wane_status wane_transfer_end(wane_transfer *, CURLcode code, double now, wane_err *e);

#endif
