/* loops_avx2.c - the inner loops compiled for AVX2, FMA and F16C: see loops.h. */
#define SUFFIX avx2
#define LABEL  "AVX2"
#define FEW    16
#include "kernels/cpu/loops.h"
