/* tensor.h - tensors as Lua values, for the bindings that take and give them.
 *
 * To give one: box first, then the work, then the tensor into the box:
 *
 *     wane_box *box = wane_newbox(L, &wane_tensor_type);
 *     wane_tensor *t;
 *     WANE_TRY(L, e, wane_work(..., &t, &e));
 *     return wane_give_tensor(L, box, t); */
#ifndef WANE_BIND_TENSOR_H
#define WANE_BIND_TENSOR_H

#include "runtime/bind/bind.h"

extern const wane_type wane_tensor_type;

wane_tensor *wane_check_tensor(lua_State *L, int arg); /* borrowed from the box at arg; raises */

/* Puts t, whose reference it takes, into the box on top of the stack; returns 1. */
int wane_give_tensor(lua_State *L, wane_box *box, wane_tensor *t);

/* The device that a name means: "cpu", "host", "cuda" or "cuda:1" of the open ones; without a name
 * the computing one. Raises. */
wane_device *wane_check_device(lua_State *L, const char *name);

/* options.dtype, or otherwise; raises where it is not the name of one. */
wane_dtype wane_opt_dtype(lua_State *L, int arg, wane_dtype otherwise);

/* A shape from a table of whole numbers, or one number, at arg; returns the rank. Raises. */
int wane_check_shape(lua_State *L, int arg, int64_t shape[WANE_RANK]);

/* Pushes {n, ...}. */
void wane_push_shape(lua_State *L, int rank, const int64_t *shape);

/* tensor_print.c: __tostring */
int wane_tensor_tostring(lua_State *L);

/* tensor_make.c: from, zeros, random, arange, load, save, entries */
extern const wane_reg wane_tensor_functions[];
extern const wane_type wane_safetensors_type; /* an open file, while it is read */

#endif
