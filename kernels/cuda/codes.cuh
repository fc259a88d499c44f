/* codes.cuh - codes of four bits and what they are multiplied with, on their way into the tensor cores: few.cu and
 * qmatmul_tile.cu. See mma.cuh.
 *
 * A step is SPAN columns (32, 64 or 128), all of one group: 4 words of eight codes for each 32. Lane t of four takes
 * words t, 4 + t and so on, and of x the 16 bytes of the same eight columns. A word's codes meet x as the pairs (0,4),
 * (1,5), (2,6), (3,7), so that one shift and one mask make a register. */
#ifndef WANE_CODES_CUH
#define WANE_CODES_CUH

#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/mma.cuh"

static inline bool aligned(wane_mat a, size_t bytes)
{
    return (uintptr_t)a.data % bytes == 0 && (size_t)a.stride * wane_dtype_bytes(a.dtype) % bytes == 0;
}

static inline int code_span(int64_t group) { return group % 128 == 0 ? 128 : group % 64 == 0 ? 64 : 32; }

static inline bool readable_codes(const wane_qmat &q) { return q.bits == 4 && q.group % 32 == 0 && aligned(q.words, 16); }

/* How far apart rows of `bytes` (a multiple of `piece`: 16 or 64) lie in shared memory, so that lanes meet no bank twice
 * when four of them read one piece of each of eight rows: an odd number of pieces. */
static inline __host__ __device__ int row_pitch(int bytes, int piece) { return bytes / piece % 2 ? bytes : bytes + piece; }

/* Eight columns of a row of x, as they lie there. */
template <typename T> static __device__ __forceinline__ uint4 read_unit(const wane_mat &x, int64_t row, int64_t unit, bool x_aligned)
{
    const T *p = (const T *)x.data + row * x.stride + unit * 8;
    if (x_aligned) return *(const uint4 *)p;
    const uint16_t *u = (const uint16_t *)p;
    return make_uint4(u[0] | u[1] << 16, u[2] | u[3] << 16, u[4] | u[5] << 16, u[6] | u[7] << 16);
}

/* Eight columns in the pairs in which a word's codes come. */
static __device__ __forceinline__ uint4 paired(uint4 v)
{
    return make_uint4(__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.x, v.z, 0x7632), __byte_perm(v.y, v.w, 0x5410),
                      __byte_perm(v.y, v.w, 0x7632));
}

template <typename T> static __device__ __forceinline__ float unit_sum(uint4 v)
{
    float2 a = narrow<T>::floats(v.x), b = narrow<T>::floats(v.y), c = narrow<T>::floats(v.z), d = narrow<T>::floats(v.w);
    return ((a.x + a.y) + (b.x + b.y)) + ((c.x + c.y) + (d.x + d.y));
}

/* Over N neighbouring lanes. */
template <int N> static __device__ __forceinline__ float neighbours_sum(float v)
{
#pragma unroll
    for (int o = 1; o < N; o <<= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}

/* An element of a scale or zero in shared memory, whatever type it has. */
static __device__ __forceinline__ float raw_at(const void *p, int i, wane_dtype t)
{
    return t == WANE_BF16  ? __bfloat162float(((const __nv_bfloat16 *)p)[i])
           : t == WANE_F16 ? __half2float(((const __half *)p)[i])
           : t == WANE_F32 ? ((const float *)p)[i]
                           : (float)((const uint8_t *)p)[i];
}

#endif
