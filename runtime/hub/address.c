/* address.c - origins and redirects, over libcurl's reader of URLs; see address.h. */
#include "runtime/hub/address.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool take(CURLU *u, CURLUPart part, unsigned flags, char *out, size_t size)
{
    char *text = NULL;
    bool fits = !curl_url_get(u, part, &text, flags) && strlen(text) < size;
    if (fits) memcpy(out, text, strlen(text) + 1);
    curl_free(text);
    return fits;
}

static bool is_loopback(const char *host)
{
    struct in_addr four;
    if (!strcasecmp(host, "localhost") || !strcmp(host, "[::1]") || !strcmp(host, "::1"))
        return true;
    return inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127;
}

bool wane_origin_of(const char *url, wane_origin *out)
{
    char scheme[8] = "";
    memset(out, 0, sizeof *out);
    CURLU *u = curl_url();
    bool good = u && !curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) &&
                take(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme) &&
                take(u, CURLUPART_HOST, 0, out->host, sizeof out->host) &&
                take(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, out->port, sizeof out->port);
    curl_url_cleanup(u);
    if (!good || (strcasecmp(scheme, "https") && strcasecmp(scheme, "http"))) return false;
    out->secure = !strcasecmp(scheme, "https");
    out->loopback = is_loopback(out->host);
    return true;
}

bool wane_origin_same(const wane_origin *a, const wane_origin *b)
{
    return a->secure == b->secure && !strcasecmp(a->host, b->host) && !strcmp(a->port, b->port);
}

bool wane_origin_trusted(const wane_origin *home, const wane_origin *to)
{
    return wane_origin_same(home, to) && (to->secure || to->loopback);
}

bool wane_origin_follow(const wane_origin *from, const wane_origin *to)
{
    if (to->secure) return true;
    if (from->secure) return false;
    return wane_origin_same(from, to) || (from->loopback && to->loopback);
}

char *wane_address_join(const char *base, const char *location)
{
    char *text = NULL, *out = NULL;
    CURLU *u = curl_url();
    if (u && !curl_url_set(u, CURLUPART_URL, base, CURLU_DISALLOW_USER) &&
        !curl_url_set(u, CURLUPART_URL, location, CURLU_DISALLOW_USER) &&
        !curl_url_get(u, CURLUPART_URL, &text, 0))
        out = strdup(text);
    curl_free(text);
    curl_url_cleanup(u);
    return out;
}

const char *wane_address_shown(char *out, size_t size, const char *url)
{
    size_t n = strcspn(url, "?#");
    const char *host = strstr(url, "://");
    if (host) { /* what is typed into $HF_ENDPOINT may have a password */
        host += 3;
        size_t end = strcspn(host, "/?#");
        for (size_t i = end; i-- > 0;) {
            if (host[i] != '@') continue;
            char cut[1024];
            snprintf(cut, sizeof cut, "%.*s%.*s", (int)(host - url), url,
                     (int)(n - (size_t)(host + i + 1 - url)), host + i + 1);
            return wane_escape(out, size, cut, strlen(cut));
        }
    }
    return wane_escape(out, size, url, n);
}
