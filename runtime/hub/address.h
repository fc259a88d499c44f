/* address.h - where a request goes, and what may be told there. Built with libcurl alone. */
#ifndef WANE_ADDRESS_H
#define WANE_ADDRESS_H

#include "runtime/base/error.h"

typedef struct {
    bool secure;   /* https */
    bool loopback; /* localhost, 127.0.0.0/8, ::1: never leaves the machine */
    char host[256];
    char port[8];
} wane_origin;

/* False: not an http or https address, or one with a user name in it. */
bool wane_origin_of(const char *url, wane_origin *out);
bool wane_origin_same(const wane_origin *, const wane_origin *);

/* Whether a token for `home` may go along in a request to `to`: the same scheme, host and port, and
 * nobody on the way can read it. */
bool wane_origin_trusted(const wane_origin *home, const wane_origin *to);

/* Whether an answer from `from` may send us to `to`: never from https to http, and over http only
 * where we are, or within this machine. */
bool wane_origin_follow(const wane_origin *from, const wane_origin *to);

/* location, which may be relative, as an absolute address; the caller's: free. NULL where it is
 * none. */
char *wane_address_join(const char *base, const char *location);

/* The address without its query and fragment, which may hold signatures, escaped; returns out. */
const char *wane_address_shown(char *out, size_t size, const char *url);

#endif
