/* matmul_avx2.c - see matmul.c. */
#include "kernels/cpu/cpu.h"
void cpu_dots_avx2(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                   wane_mat w)
{
    cpu_dots_plain(y, y_stride, x, x_stride, n, w);
}
void cpu_qdots_avx2(float *y, int64_t y_stride, const float *x, int64_t x_stride, int64_t n,
                    const wane_qmat *q, int64_t first, int64_t rows)
{
    cpu_qdots_plain(y, y_stride, x, x_stride, n, q, first, rows);
}
void cpu_byte_dots_avx2(int32_t *y, const int8_t *x, const uint8_t *w, int64_t w_stride,
                        int64_t rows, int64_t k)
{
    cpu_byte_dots_plain(y, x, w, w_stride, rows, k);
}
