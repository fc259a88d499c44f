/* few_plain.cu - products of few rows with weights of x's own type: see few_lines.cuh. */
#include "kernels/cuda/few_lines.cuh"

/* 32 columns a step, 8 a lane. */
template <typename T_, int SLICES> struct plain {
    using T = T_;
    static constexpr int COLUMNS = 32, SPAN = 32, STEPS = 2, RING = 3;
    static constexpr bool CODES = false;
    static __device__ __forceinline__ int place(int unit) { return unit; }
    static __device__ __forceinline__ void copy(char *to, const char *step, int t, bool there) { copy_if<16>(to, step + t * 16, there); }
    static __device__ __forceinline__ void copy_grid(char *, int, const lines_args &, const lines_part &, int, int) {}
    template <int M>
    static __device__ __forceinline__ void use(float out[4], const char *own, const lines_args &, const uint4 *x, const float *, const lines_at &,
                                               int, int, bool second)
    {
        float sum[2][4] = {}; /* even and odd products apart, so that neither waits for the other */
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            uint4 b = x[s * 4], u = *(const uint4 *)(own + s * 512), v = *(const uint4 *)(own + (STEPS + s) * 512);
            narrow<T>::mma(sum[0], u.x, v.x, u.y, v.y, b.x, b.y);
            narrow<T>::mma(sum[1], u.z, v.z, u.w, v.w, b.z, b.w);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) out[e] = sum[0][e] + sum[1][e];
        if (SLICES == 2 && second) out[0] = out[2], out[1] = out[3];
    }
};

template <typename T> static wane_status choose(wane_dev *d, const lines_args &a, bool gated, bool *fits)
{
    if (a.x.rows <= LINES_TOKENS / 2)
        return gated ? lines_launch<plain<T, 2>, 2, 2>(d, a, fits) : lines_launch<plain<T, 2>, 1, 2>(d, a, fits);
    return gated ? lines_launch<plain<T, 1>, 2, 1>(d, a, fits) : lines_launch<plain<T, 1>, 1, 1>(d, a, fits);
}

wane_status cuda_few_plain(wane_dev *d, const wane_products *p, const lines_args *a, bool *fits)
{
    return few_type(p) == WANE_BF16 ? choose<__nv_bfloat16>(d, *a, p->gated, fits) : choose<__half>(d, *a, p->gated, fits);
}
