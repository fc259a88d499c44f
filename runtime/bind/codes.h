/* codes.h - quantized matrices, and layers of them, as Lua values. */
#ifndef WANE_BIND_CODES_H
#define WANE_BIND_CODES_H

#include "runtime/bind/bind.h"
#include "runtime/model/model.h"
#include "runtime/tensor/quantized.h"

extern const wane_type wane_codes_type; /* a wane_quantized; quant.c makes it known */
extern const wane_type wane_layer_type; /* a wane_layer; the same */

#endif
