/* few.cuh - products of few rows: few.cu, qmatmul_tile.cu. */
#ifndef WANE_CUDA_FEW_CUH
#define WANE_CUDA_FEW_CUH

#include "kernels/cuda/device.cuh"

enum { CUDA_FEW = 8, CUDA_PARTS = 3 };

/* Whether cuda_few reads such x and weights (types, alignment, groups); shapes must fit together already. */
bool cuda_few_can(const wane_dev *, const wane_products *);
wane_status cuda_few(wane_dev *, const wane_products *); /* any n; meant for up to CUDA_FEW rows */

/* The same for codes and up to CUDA_TILE rows: qmatmul_tile.cu. UNSUPPORTED where the device has no place for it. */
enum { CUDA_TILE = 128 };
bool cuda_tile_can(const wane_dev *, const wane_products *);
wane_status cuda_tile(wane_dev *, const wane_products *);

/* y += x w^T, x of a narrow type and of many rows, y F32: matmul.cu, qmatmul.cu. UNSUPPORTED, and nothing done, for other
 * types. */
wane_status cuda_matmul_add(wane_dev *, wane_mat y, wane_mat x, wane_mat w);
wane_status cuda_qmatmul_add(wane_dev *, wane_mat y, wane_mat x, wane_qmat q);

#endif
