/* codes.c - quantized matrices as Lua values: fields, decoding, hashes. */
#include "runtime/bind/codes.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/files.h"
#include "runtime/base/units.h"
#include "runtime/bind/tensor.h"
#include "runtime/quant/quant.h"

static void release(void *q)
{
    wane_quantized_release(q);
}

static wane_quantized *check(lua_State *L)
{
    return wane_check(L, 1, &wane_codes_type);
}

static wane_status decode(wane_quantized *q, wane_tensor **out, wane_err *e)
{
    wane_device *d = wane_tensor_device(q->words);
    wane_status s = wane_tensor_new2(d, WANE_F32, q->m, q->k, out, e);
    if (s) return s;
    s = WANE_CALL(d, e, decode, wane_tensor_mat(*out), wane_quantized_mat(q));
    if (s) wane_tensor_release(*out);
    return s;
}

static wane_status unpack(wane_quantized *q, wane_tensor **out, wane_err *e)
{
    wane_device *d = wane_tensor_device(q->words);
    wane_status s = wane_tensor_new2(d, WANE_U8, q->m, q->k, out, e);
    if (s) return s;
    s = WANE_CALL(d, e, unpack, wane_tensor_mat(*out), wane_quantized_mat(q));
    if (s) wane_tensor_release(*out);
    return s;
}

static int l_decode(lua_State *L)
{
    wane_err e;
    wane_tensor *t;
    check(L);
    wane_box *box = wane_newbox(L, &wane_tensor_type);
    WANE_TRY(L, e, decode(check(L), &t, &e));
    return wane_give_tensor(L, box, t);
}

static int l_codes(lua_State *L)
{
    wane_err e;
    wane_tensor *t;
    check(L);
    wane_box *box = wane_newbox(L, &wane_tensor_type);
    WANE_TRY(L, e, unpack(check(L), &t, &e));
    return wane_give_tensor(L, box, t);
}

static wane_status add_bytes(wane_sha256 *sha, const wane_tensor *t, wane_err *e)
{
    if (!t) return WANE_OK;
    size_t bytes = wane_tensor_bytes(t);
    void *host = malloc(bytes ? bytes : 1);
    if (!host) return wane_fail(e, WANE_EOOM, "host: no memory to hash codes");
    wane_status s = wane_tensor_get(t, host, e);
    if (!s) wane_sha256_add(sha, host, bytes);
    free(host);
    return s;
}

static wane_status hash(const wane_quantized *q, char out[65], wane_err *e)
{
    wane_sha256 sha;
    wane_sha256_start(&sha);
    wane_status s = add_bytes(&sha, q->words, e);
    if (!s) s = add_bytes(&sha, q->scale, e);
    if (!s) s = add_bytes(&sha, q->zero, e);
    wane_sha256_hex(&sha, out);
    return s;
}

static int l_hash(lua_State *L)
{
    wane_err e;
    char text[65];
    check(L);
    WANE_TRY(L, e, hash(check(L), text, &e));
    lua_pushstring(L, text);
    return 1;
}

static int push_tensor(lua_State *L, wane_tensor *t)
{
    if (!t) {
        lua_pushnil(L);
        return 1;
    }
    wane_box *box = wane_newbox(L, &wane_tensor_type);
    box->p = wane_tensor_retain(t);
    return 1;
}

static const char *label(const wane_quantized *q, char *out, size_t size)
{
    return wane_grid_label(out, size, q->bits, q->act_bits, q->group, !q->zero);
}

/* Fields are read off what is stored: a group as wide as the matrix may have been meant as whole
 * rows, which one matrix cannot tell. */
static int l_index(lua_State *L)
{
    const wane_quantized *q = check(L);
    const char *name = luaL_checkstring(L, 2);
    const int64_t shape[2] = {q->m, q->k};
    char text[32];
    if (!strcmp(name, "scale")) return push_tensor(L, q->scale);
    if (!strcmp(name, "zero")) return push_tensor(L, q->zero);
    if (!strcmp(name, "bits"))
        lua_pushinteger(L, q->bits);
    else if (!strcmp(name, "group_size"))
        lua_pushinteger(L, q->group);
    else if (!strcmp(name, "symmetric"))
        lua_pushboolean(L, !q->zero);
    else if (!strcmp(name, "activation_bits"))
        lua_pushinteger(L, q->act_bits ? q->act_bits : 16);
    else if (!strcmp(name, "shape"))
        wane_push_shape(L, 2, shape);
    else if (!strcmp(name, "bytes"))
        lua_pushinteger(L, (lua_Integer)wane_quantized_bytes(q));
    else if (!strcmp(name, "label"))
        lua_pushstring(L, label(q, text, sizeof text));
    else
        lua_pushnil(L);
    return 1;
}

/* "codes w4 g64 (896, 4864)   2.27 MiB   4.38 bits per weight" */
static int l_tostring(lua_State *L)
{
    const wane_box *box = luaL_checkudata(L, 1, wane_codes_type.name);
    const wane_quantized *q = box->p;
    char kind[32], bytes[24], bits[24];
    if (!q) {
        lua_pushliteral(L, "codes (closed)");
        return 1;
    }
    uint64_t size = wane_quantized_bytes(q);
    snprintf(bits, sizeof bits, "%.2f", 8.0 * (double)size / ((double)q->m * (double)q->k));
    lua_pushfstring(L, "codes %s (%I, %I)   %s   %s bits per weight", label(q, kind, sizeof kind),
                    (lua_Integer)q->m, (lua_Integer)q->k,
                    wane_bytes_format(bytes, sizeof bytes, size), bits);
    return 1;
}

static const wane_reg methods[] = {
    {"decode", l_decode,
     "codes:decode() -> tensor f32 (m, k): the weights they stand for; raises oom"},
    {"codes", l_codes, "codes:codes() -> tensor u8 (m, k): the codes themselves; raises oom"},
    {"hash", l_hash,
     "codes:hash() -> SHA-256 of words, scales and zeros; the same codes, the same hash"},
    {NULL, NULL, NULL},
};

static const luaL_Reg meta[] = {{"__index", l_index}, {"__tostring", l_tostring}, {NULL, NULL}};

const wane_type wane_codes_type = {"wane.codes", release, methods, meta};
