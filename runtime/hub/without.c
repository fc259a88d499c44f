/* without.c - hub.h where wane is built without libcurl: every call says so. */
#include "runtime/hub/hub.h"

#include <string.h>

static wane_status missing(wane_err *e)
{
    return wane_fail(
        e, WANE_EUNSUPPORTED,
        "this wane was built without libcurl and fetches nothing: apt-get install "
        "libcurl4-openssl-dev libssl-dev, and build again; or fetch the folder by other "
        "means and name it");
}

wane_status wane_hub_open(const wane_hub_options *o, wane_hub **out, wane_err *e)
{
    (void)o;
    *out = NULL;
    return missing(e);
}

void wane_hub_close(wane_hub *h)
{
    (void)h;
}

wane_status wane_hub_fetch(wane_hub *h, const char *url, size_t most, char **out, size_t *length,
                           wane_err *e)
{
    (void)h, (void)url, (void)most;
    *out = NULL;
    *length = 0;
    return missing(e);
}

wane_status wane_hub_look(wane_hub *h, const char *url, char hash[65], int64_t *size, wane_err *e)
{
    (void)h, (void)url;
    hash[0] = 0;
    *size = -1;
    return missing(e);
}

wane_status wane_hub_add(wane_hub *h, const wane_hub_file *f, wane_err *e)
{
    (void)h, (void)f;
    return missing(e);
}

wane_status wane_hub_step(wane_hub *h, double seconds, wane_hub_progress *out, wane_err *e)
{
    (void)h, (void)seconds;
    memset(out, 0, sizeof *out);
    return missing(e);
}

wane_hub_state wane_hub_file_state(const wane_hub *h, int i)
{
    (void)h, (void)i;
    return WANE_HUB_WAITING;
}
