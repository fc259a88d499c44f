/* factor.cuh - what factor.cu and gptq.cu share. */
#ifndef WANE_CUDA_FACTOR_CUH
#define WANE_CUDA_FACTOR_CUH

#include "kernels/cuda/device.cuh"

/* Column i of a comes from column order[i] (NULL: i), or from order[k-1-i] where reversed. Where u is given, columns i
 * with a negative u_ii become 0. */
wane_status cuda_permute_columns(wane_dev *, wane_mat a, const int32_t *order, bool reversed, const wane_mat *u);
bool cuda_valid_order(wane_mat order, int64_t k); /* I32 (1,k), or none */

#endif
