/* loops_avx512.c - the inner loops compiled for AVX-512 (F, BW, VL, DQ, VNNI): see loops.h. */
#define SUFFIX avx512
#define LABEL  "AVX-512"
#define FEW    64
#include "kernels/cpu/loops.h"
