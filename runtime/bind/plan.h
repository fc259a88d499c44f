/* plan.h - quantization methods and plans as Lua values, for the bindings that take them. */
#ifndef WANE_BIND_PLAN_H
#define WANE_BIND_PLAN_H

#include "runtime/bind/bind.h"
#include "runtime/quant/quant.h"

/* A plan from the table at arg: its method's name at `method`, and its options. Raises. */
void wane_check_plan(lua_State *L, int arg, wane_plan *p);

/* wane.core.quant.methods and settle */
int wane_bind_methods(lua_State *L);
int wane_bind_settle(lua_State *L);

#endif
