/* bind.h - what every binding file is made of: boxes, raising, options, documentation.
 *
 * lua_error jumps, so a bound function goes check, box, work, give: first every argument check
 * (they may raise), then the boxes (empty userdata with their metatable), then one core call
 * straight into the boxes, then the results. Nothing is owned outside a box across a Lua call.
 *
 * A module is one file with one function wane_open_NAME, and one line in modules.def. */
#ifndef WANE_BIND_H
#define WANE_BIND_H

#include <lauxlib.h>
#include <lua.h>

#include "runtime/tensor/tensor.h"

/* What one Lua state owns: its devices, and the flags that Ctrl-C raises. */
typedef struct wane_context {
    wane_device *device;  /* computes; opened at the first use as "auto" without a budget */
    wane_device *host;    /* keeps what waits */
    atomic_int interrupt; /* long C loops stop; what they raise can be caught */
    atomic_int stop;      /* Lua code stops as well, and no pcall catches it: interrupt.c */
    double stopped;       /* monotonic seconds when the stop was raised last; 0: not yet */
    bool told;            /* that no GPU is used, and why */
    int boxed;            /* device bytes that survived the last full collection, in MiB */
} wane_context;

wane_context *wane_bind_context(lua_State *L); /* borrowed from the state */
/* The computing device, opened if it is not yet; raises. */
wane_device *wane_bind_device(lua_State *L);
wane_device *wane_bind_host(lua_State *L);
/* Closes the devices' references and opens others: what wane.device { ... } does. "auto" is what
 * $WANE_DEVICE names, if it is set. Raises. */
void wane_bind_open_device(lua_State *L, const char *name, uint64_t memory, uint64_t host_memory);

/* A function or method with its one line of documentation, which `?name`, the README and a spec
 * read: "zeros(shape, options) -> tensor; raises oom". A list ends with a NULL name. */
typedef struct {
    const char *name;
    lua_CFunction function;
    const char *doc;
} wane_reg;

/* A new table on the stack with the functions of list; docs are kept under module's name. */
void wane_bind_module(lua_State *L, const char *module, const wane_reg *list);

/* A userdata type that owns one counted pointer. */
typedef struct {
    const char *name;        /* "wane.tensor" */
    void (*release)(void *); /* gives the pointer back; never called with NULL */
    const wane_reg *methods; /* "close" is added */
    const luaL_Reg *meta; /* __tostring, __eq, ...; __gc and __close are added; __index given here
                             is called for what is not a method */
} wane_type;

typedef struct {
    void *p; /* owned; NULL once closed */
} wane_box;

void wane_bind_type(lua_State *L, const wane_type *type); /* once for each state */
wane_box *wane_newbox(lua_State *L, const wane_type *type);
/* The pointer in the box at arg; raises where it is another thing, or closed. */
void *wane_check(lua_State *L, int arg, const wane_type *type);
void *wane_test(lua_State *L, int arg,
                const wane_type *type); /* NULL where it is another thing or closed */

/* Bytes from malloc, freed with the box. */
extern const wane_type wane_text_type;

/* A wane_tokenizer (tokenizer.c). */
extern const wane_type wane_tokenizer_type;

/* Raises e: EARG as a string with position, all else as an error object. Does not return. */
int wane_raise(lua_State *L, const wane_err *e);

/* Runs call; where memory is out, lets Lua drop its dead tensors and runs it once more. Right
 * because a core function that fails has changed nothing. Once Ctrl-C is pressed it raises instead.
 */
#define WANE_TRY(L, e, call)                                                                       \
    do {                                                                                           \
        wane_bind_stop_check(L);                                                                   \
        wane_status rc_ = (call);                                                                  \
        if (rc_ == WANE_EOOM) {                                                                    \
            lua_gc((L), LUA_GCCOLLECT);                                                            \
            rc_ = (call);                                                                          \
        }                                                                                          \
        if (rc_) return wane_raise((L), &(e));                                                     \
    } while (0)

/* Ctrl-C in every form of Lua code (interrupt.c). install: once, right after the state is made, in
 * a state that is wane's own. check raises "interrupted" where the user asked to stop; clear
 * forgets that. */
void wane_bind_stop_install(lua_State *L);
void wane_bind_stop_check(lua_State *L);
void wane_bind_stop_clear(lua_State *L);

/* For lua_pcall: the error value, with its traceback (a field of objects, the tail of strings). */
int wane_bind_traceback(lua_State *L);
/* The exit code of README's table for the error value at index: 1 for all but error objects. */
int wane_bind_exit_code(lua_State *L, int index);

/* require finds wane's own modules: in folder (NULL: none), else in the library. */
void wane_bind_searchers(lua_State *L, const char *folder);

/* Lua sees a tensor as a few dozen bytes: after boxing one, this collects once the device bytes
 * made since the last collection exceed those that survived it (64 MiB at least). */
void wane_bind_pressure(lua_State *L);

/* Scratch that goes away with its stack slot, also when something raises. */
void *wane_bind_scratch(lua_State *L, size_t bytes);

/* Raises "wane.WHAT has no option X; did you mean Y?" for a key of the table at arg that is not in
 * names (ends with NULL); nil or absent is fine. */
void wane_opt_names(lua_State *L, int arg, const char *what, const char *const *names);

/* Fields of an options table at arg (may be nil or absent): the defaults where absent. */
int64_t wane_opt_integer(lua_State *L, int arg, const char *name, int64_t otherwise);
double wane_opt_number(lua_State *L, int arg, const char *name, double otherwise);
bool wane_opt_boolean(lua_State *L, int arg, const char *name, bool otherwise);
const char *wane_opt_string(lua_State *L, int arg, const char *name,
                            const char *otherwise); /* stays in the table */

/* A field of the table on top of the stack. A string may be NULL, which is nil; filled leaves it
 * out where it is "". */
void wane_set_integer(lua_State *L, const char *name, int64_t value);
void wane_set_bytes(lua_State *L, const char *name, uint64_t value); /* at most Lua's largest */
void wane_set_boolean(lua_State *L, const char *name, bool value);
void wane_set_string(lua_State *L, const char *name, const char *value);
void wane_set_filled(lua_State *L, const char *name, const char *value);

/* JSON's null: a light userdata that equals wane.json.null. */
void wane_push_null(lua_State *L);
/* A tree of jansson's as Lua values, as wane.json.decode gives them. Raises where memory is out. */
struct json_t;
void wane_push_json(lua_State *L, struct json_t *j);

#define WANE_MODULE(name) void wane_open_##name(lua_State *L);
#include "runtime/bind/modules.def"
#undef WANE_MODULE

/* require "wane.core" */
int luaopen_wane_core(lua_State *L);

#endif
