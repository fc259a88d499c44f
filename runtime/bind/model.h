/* model.h - models as Lua values, for the bindings that take and give them.
 *
 * What Lua knows of a model besides its methods are fields. A field is a function in the table
 * wane.core.model.fields, called once with the model the first time somebody reads it; what it
 * gives is kept with that model. Methods may be added from Lua to wane.core.model.methods. */
#ifndef WANE_BIND_MODEL_H
#define WANE_BIND_MODEL_H

#include "runtime/bind/bind.h"
#include "runtime/model/model.h"

extern const wane_type wane_model_type;

wane_model *wane_check_model(lua_State *L, int arg); /* borrowed from the box at arg; raises */

/* Token ids from a table at arg into scratch that it pushes; raises where one is not an id of 0 to
 * 2^31-1. The ids are valid as long as that stack slot. */
int32_t *wane_check_ids(lua_State *L, int arg, int64_t *count);

#endif
