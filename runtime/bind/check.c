/* check.c - wane.core.check: what is wrong with a model's folder, as tables. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/sha1.h"
#include "runtime/bind/bind.h"
#include "runtime/save/survey.h"

enum { CHUNK = 1 << 20 };

static void release(void *v)
{
    wane_survey_clear(v);
    free(v);
}

static const wane_type SURVEY = {"wane.survey", release, NULL, NULL};

/* Sets t.problems and t.more of the table on top; those from `files` on are of tensors. */
static void set_problems(lua_State *L, const wane_findings *all, size_t files)
{
    lua_createtable(L, (int)all->count, 0);
    for (size_t i = 0; i < all->count; i++) {
        const wane_err *e = &all->item[i];
        lua_createtable(L, 0, 6);
        wane_set_string(L, "code", wane_status_code(e->status));
        wane_set_string(L, "message", e->message);
        wane_set_string(L, "part",
                        i >= files                 ? "tensors"
                        : !strcmp(e->op, "config") ? "config"
                                                   : "files");
        wane_set_filled(L, "path", e->path);
        wane_set_filled(L, "tensor", e->tensor);
        if (e->offset >= 0) wane_set_integer(L, "offset", e->offset);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "problems");
    wane_set_integer(L, "more", (int64_t)all->more);
}

/* dtype as the files spell it -> bytes */
static void set_dtypes(lua_State *L, const wane_checkpoint *c)
{
    lua_newtable(L);
    for (size_t i = 0; i < c->count; i++) {
        const wane_entry *t = c->tensor[i].entry;
        lua_getfield(L, -1, t->dtype_name);
        lua_Integer bytes = lua_tointeger(L, -1) + (lua_Integer)(t->end - t->begin);
        lua_pop(L, 1);
        wane_set_integer(L, t->dtype_name, bytes);
    }
    lua_setfield(L, -2, "dtypes");
}

static void set_files(lua_State *L, const wane_checkpoint *c)
{
    lua_createtable(L, c->n_shards, 0);
    for (int i = 0; i < c->n_shards; i++) {
        const char *slash = strrchr(c->shard[i]->path, '/');
        lua_pushstring(L, slash ? slash + 1 : c->shard[i]->path);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "files");
}

/* The matrices of a layer: { name, m, k } */
static void set_matrices(lua_State *L, const wane_config *c)
{
    lua_createtable(L, WANE_LINEARS, 0);
    for (int id = 0; id < WANE_LINEARS; id++) {
        int64_t m, k;
        wane_linear_shape(c, (wane_linear_id)id, &m, &k);
        lua_createtable(L, 0, 3);
        wane_set_string(L, "name", wane_linear_name((wane_linear_id)id));
        wane_set_integer(L, "m", m);
        wane_set_integer(L, "k", k);
        lua_rawseti(L, -2, id + 1);
    }
    lua_setfield(L, -2, "matrices");
}

static void set_config(lua_State *L, const wane_config *c, const wane_packing *packing)
{
    wane_set_string(L, "family", c->family->model_type);
    wane_set_integer(L, "layers", c->layers);
    wane_set_integer(L, "vocabulary", c->vocabulary);
    wane_set_integer(L, "positions", c->positions);
    wane_set_bytes(L, "parameters", wane_config_weights(c));
    wane_set_string(L, "rope", wane_ropes[c->rope]);
    wane_set_boolean(L, "tied", c->tied);
    set_matrices(L, c);
    lua_createtable(L, c->n_eos, 0);
    for (int i = 0; i < c->n_eos; i++) {
        lua_pushinteger(L, c->eos[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "eos");
    if (c->bos >= 0) wane_set_integer(L, "bos", c->bos);
    if (c->pad >= 0) wane_set_integer(L, "pad", c->pad);
    if (!wane_config_quantization(c)) return;
    wane_push_json(L, (json_t *)(uintptr_t)wane_config_quantization(c));
    lua_setfield(L, -2, "quantization_config");
    if (packing) wane_set_string(L, "format", packing->name);
}

static wane_survey *new_survey(lua_State *L, const char *dir)
{
    wane_err e;
    wane_box *box = wane_newbox(L, &SURVEY);
    wane_survey *v = calloc(1, sizeof *v);
    if (!v) luaL_error(L, "not enough memory");
    box->p = v;
    wane_status s = wane_survey_folder(dir, v, &e);
    if (s) wane_raise(L, &e);
    return v;
}

static void close_survey(lua_State *L, int index)
{
    wane_box *box = lua_touserdata(L, index);
    release(box->p);
    box->p = NULL;
}

/* survey(dir) */
static int l_survey(lua_State *L)
{
    const char *dir = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    const wane_survey *v = new_survey(L, dir);
    const wane_checkpoint *c = v->checkpoint;
    lua_newtable(L);
    set_problems(L, &v->all, v->files);
    lua_createtable(L, c ? c->n_warnings : 0, 0);
    for (int i = 0; c && i < c->n_warnings; i++) {
        lua_pushstring(L, c->warning[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "warnings");
    if (c) {
        set_files(L, c);
        set_dtypes(L, c);
        wane_set_integer(L, "tensors", (int64_t)c->count);
        wane_set_bytes(L, "bytes", c->bytes);
    }
    if (c && c->config.json) set_config(L, &c->config, v->packing);
    close_survey(L, 2);
    return 1;
}

/* finite(dir) */
static int l_finite(lua_State *L)
{
    wane_err e;
    const char *dir = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    wane_survey *v = new_survey(L, dir);
    wane_device flag = {.interrupt = &wane_bind_context(L)->interrupt}; /* nothing else is needed */
    wane_findings_free(&v->all);
    if (v->checkpoint)
        WANE_TRY(L, e, wane_checkpoint_survey_finite(v->checkpoint, &flag, &v->all, &e));
    lua_newtable(L);
    set_problems(L, &v->all, 0);
    close_survey(L, 2);
    return 1;
}

/* SHA-1 over "blob BYTES", a 0 and the file, by which git and the Hub know small files. */
static wane_status hash_blob(const char *path, void *chunk, const atomic_int *interrupt,
                             char hex[41], wane_err *e)
{
    char header[32];
    struct stat about;
    wane_status s = WANE_OK;
    wane_sha1 h;
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about)) {
        s = wane_fail_io(e, "read", path);
        goto done;
    }
    wane_sha1_start(&h);
    wane_sha1_add(&h, header,
                  (size_t)snprintf(header, sizeof header, "blob %lld", (long long)about.st_size) +
                      1);
    while ((n = read(fd, chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0) wane_sha1_add(&h, chunk, (size_t)n);
        if (!atomic_load_explicit(interrupt, memory_order_relaxed)) continue;
        s = wane_fail(e, WANE_EINTERRUPTED, "interrupted");
        goto done;
    }
    if (n < 0)
        s = wane_fail_io(e, "read", path);
    else
        wane_sha1_hex(&h, hex);
done:
    if (fd >= 0) close(fd);
    return s;
}

/* git_hash(path) */
static int l_git_hash(lua_State *L)
{
    wane_err e;
    char hex[41];
    const char *path = luaL_checkstring(L, 1);
    void *chunk = wane_bind_scratch(L, CHUNK);
    WANE_TRY(L, e, hash_blob(path, chunk, &wane_bind_context(L)->interrupt, hex, &e));
    lua_pushstring(L, hex);
    return 1;
}

/* link(path) */
static int l_link(lua_State *L)
{
    char target[4096];
    ssize_t n = readlink(luaL_checkstring(L, 1), target, sizeof target);
    if (n < 0 || (size_t)n == sizeof target) return 0;
    lua_pushlstring(L, target, (size_t)n);
    return 1;
}

static const char *const bias_rules[] = {"never", "q, k, v", "by attention_bias"};
static const char *const window_rules[] = {"means nothing", "none may be used",
                                           "none may be shorter than any text"};

/* families() */
static int l_families(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; wane_families[i].model_type; i++) {
        const wane_family *f = &wane_families[i];
        lua_createtable(L, 0, 7);
        wane_set_string(L, "model_type", f->model_type);
        wane_set_string(L, "architecture", f->architecture);
        wane_set_boolean(L, "qk_norm", f->qk_norm);
        wane_set_string(L, "bias", bias_rules[f->bias]);
        wane_set_boolean(L, "mlp_bias", f->mlp_bias);
        wane_set_integer(L, "head_dim", f->head_dim);
        wane_set_string(L, "window", window_rules[f->window_rule]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const wane_reg functions[] = {
    {"families", l_families,
     "families() -> { { model_type, architecture, qk_norm, bias, mlp_bias, head_dim, window } } "
     "that wane computes"},
    {"git_hash", l_git_hash,
     "git_hash(path) -> the 40 hex digits git names the file's content by; raises io"},
    {"link", l_link, "link(path) -> what a symbolic link says; nothing where it is none"},
    {"survey", l_survey,
     "survey(dir) -> { problems = { { code, part, message, path, tensor } }, more, warnings } and "
     "what is known of the "
     "model; headers only; raises oom"},
    {"finite", l_finite,
     "finite(dir) -> { problems, more }: every tensor with NaN or Inf; reads all weights; raises "
     "io, format, "
     "interrupted"},
    {NULL, NULL, NULL},
};

void wane_open_check(lua_State *L)
{
    wane_bind_type(L, &SURVEY);
    wane_bind_module(L, "check", functions);
}
