/* loops.c - the inner loops for any x86-64 (or other) processor: see loops.h. */
#define SUFFIX plain
#define LABEL  "plain C"
#define FEW    4
#include "kernels/cpu/loops.h"
