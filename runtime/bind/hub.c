/* hub.c - wane.core.hub: answers and files from the Hugging Face Hub. Which files, where they go
 * and what a refusal means is lua/wane/hub.lua's. */
#include "runtime/hub/hub.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/bind/bind.h"

static void close_hub(void *h)
{
    wane_hub_close(h);
}

static int l_fetch(lua_State *L);
static int l_look(lua_State *L);
static int l_add(lua_State *L);
static int l_step(lua_State *L);
static int l_state(lua_State *L);

static const wane_reg methods[] = {
    {"fetch", l_fetch,
     "hub:fetch(url, most) -> the body of the answer, at most so many bytes; raises network"},
    {"look", l_look,
     "hub:look(url) -> hash and size of a file, nil where the answer has none; raises network"},
    {"add", l_add,
     "hub:add { url, name, hash, size, path, partial, lock, copy, link, target, replace, verify }: "
     "a "
     "file to have"},
    {"step", l_step,
     "hub:step(seconds) -> { finished, files, bytes, total, received, name, waiting }; raises "
     "network, "
     "io"},
    {"state", l_state, "hub:state(i) -> \"waiting\", \"present\", \"copied\" or \"fetched\""},
    {NULL, NULL, NULL},
};
static const wane_type HUB = {"wane.hub", close_hub, methods, NULL};

static int l_open(lua_State *L)
{
    static const char *const names[] = {"endpoint", "token", "ca_file",  "retries", "backoff",
                                        "connect",  "idle",  "parallel", "offline", NULL};
    wane_err e;
    wane_hub *hub = NULL;
    luaL_checktype(L, 1, LUA_TTABLE);
    wane_opt_names(L, 1, "hub.open", names);
    wane_hub_options o = {
        .endpoint = wane_opt_string(L, 1, "endpoint", "https://huggingface.co"),
        .token = wane_opt_string(L, 1, "token", NULL),
        .ca_file = wane_opt_string(L, 1, "ca_file", NULL),
        .retries = (int)wane_opt_integer(L, 1, "retries", 5),
        .backoff = wane_opt_number(L, 1, "backoff", 1),
        .connect = wane_opt_number(L, 1, "connect", 10),
        .idle = wane_opt_number(L, 1, "idle", 30),
        .parallel = (int)wane_opt_integer(L, 1, "parallel", 4),
        .offline = wane_opt_boolean(L, 1, "offline", false),
        .interrupt = &wane_bind_context(L)->interrupt,
    };
    /* it goes into a header: a line end in it would begin another */
    for (const char *p = o.token; p && *p; p++)
        luaL_argcheck(L, *p > ' ' && *p < 0x7f, 1, "a token is made of visible letters");
    wane_box *box = wane_newbox(L, &HUB);
    WANE_TRY(L, e, wane_hub_open(&o, &hub, &e));
    box->p = hub;
    return 1;
}

static int l_fetch(lua_State *L)
{
    wane_err e;
    char *body = NULL;
    size_t length;
    wane_check(L, 1, &HUB);
    const char *url = luaL_checkstring(L, 2);
    lua_Integer most = luaL_checkinteger(L, 3);
    luaL_argcheck(L, most > 0, 3, "a number of bytes");
    wane_box *box = wane_newbox(L, &wane_text_type);
    WANE_TRY(L, e, wane_hub_fetch(wane_check(L, 1, &HUB), url, (size_t)most, &body, &length, &e));
    box->p = body;
    lua_pushlstring(L, body, length);
    return 1;
}

static int l_look(lua_State *L)
{
    wane_err e;
    char hash[65];
    int64_t size;
    wane_check(L, 1, &HUB);
    const char *url = luaL_checkstring(L, 2);
    WANE_TRY(L, e, wane_hub_look(wane_check(L, 1, &HUB), url, hash, &size, &e));
    lua_pushstring(L, hash[0] ? hash : NULL);
    if (size >= 0)
        lua_pushinteger(L, size);
    else
        lua_pushnil(L);
    return 2;
}

/* a field that must be there */
static const char *needed(lua_State *L, const char *name)
{
    const char *text = wane_opt_string(L, 2, name, NULL);
    if (!text) luaL_error(L, "hub:add needs %s", name);
    return text;
}

static int l_add(lua_State *L)
{
    static const char *const names[] = {"url",     "name",   "hash", "size", "path",
                                        "partial", "lock",   "copy", "link", "target",
                                        "replace", "verify", NULL};
    wane_err e;
    wane_check(L, 1, &HUB);
    luaL_checktype(L, 2, LUA_TTABLE);
    wane_opt_names(L, 2, "hub:add", names);
    int64_t size = wane_opt_integer(L, 2, "size", -1);
    luaL_argcheck(L, size >= 0, 2, "a size in bytes");
    wane_hub_file f = {
        .url = needed(L, "url"),
        .name = needed(L, "name"),
        .hash = needed(L, "hash"),
        .size = (uint64_t)size,
        .path = needed(L, "path"),
        .partial = needed(L, "partial"),
        .lock = wane_opt_string(L, 2, "lock", NULL),
        .copy = wane_opt_string(L, 2, "copy", NULL),
        .link = wane_opt_string(L, 2, "link", NULL),
        .target = wane_opt_string(L, 2, "target", NULL),
        .replace = wane_opt_boolean(L, 2, "replace", false),
        .verify = wane_opt_boolean(L, 2, "verify", false),
    };
    luaL_argcheck(L, !f.link == !f.target, 2, "a link and its target");
    WANE_TRY(L, e, wane_hub_add(wane_check(L, 1, &HUB), &f, &e));
    return 0;
}

static int l_step(lua_State *L)
{
    wane_err e;
    wane_hub_progress p;
    wane_check(L, 1, &HUB);
    double seconds = luaL_checknumber(L, 2);
    WANE_TRY(L, e, wane_hub_step(wane_check(L, 1, &HUB), seconds, &p, &e));
    lua_createtable(L, 0, 7);
    wane_set_boolean(L, "finished", p.finished);
    wane_set_integer(L, "files", p.files);
    wane_set_bytes(L, "bytes", p.bytes);
    wane_set_bytes(L, "total", p.total);
    wane_set_bytes(L, "received", p.received);
    wane_set_string(L, "name", p.name);
    wane_set_string(L, "waiting", p.waiting);
    return 1;
}

static int l_state(lua_State *L)
{
    static const char *const names[] = {"waiting", "present", "copied", "fetched"};
    wane_hub *hub = wane_check(L, 1, &HUB);
    lua_Integer i = luaL_checkinteger(L, 2);
    lua_pushstring(L, names[wane_hub_file_state(hub, i > 0 && i < INT32_MAX ? (int)i - 1 : -1)]);
    return 1;
}

static const wane_reg functions[] = {
    {"open", l_open,
     "open { endpoint, token, ca_file, retries, backoff, connect, idle, parallel, offline } -> "
     "hub; raises "
     "network, unsupported"},
    {NULL, NULL, NULL},
};

void wane_open_hub(lua_State *L)
{
    wane_bind_type(L, &HUB);
    wane_bind_module(L, "hub", functions);
}
