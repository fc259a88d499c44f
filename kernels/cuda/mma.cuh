/* mma.cuh - the tensor cores' 16x8x16 product as PTX has it, and the loads that feed it.
 *
 * Lane = 4 g + t. a (16,16): a0 row g, columns 2t and 2t+1; a1 row g+8; a2 row g, columns 2t+8 and 2t+9; a3 row g+8.
 * b (16,8): b0 rows 2t and 2t+1 of column g; b1 rows 2t+8 and 2t+9. c (16,8): c0 c1 row g, columns 2t and 2t+1; c2 c3
 * row g+8. Two 16-bit numbers share a register, the first in the low half. Products are exact, sums are float32.
 * The order of the inner dimension is free as long as a and b agree on it: most callers read 16 bytes of a row into one
 * lane and let them be columns 2t, 2t+1, 2t+8, 2t+9 of two steps. */
#ifndef WANE_MMA_CUH
#define WANE_MMA_CUH

#include "kernels/cuda/device.cuh"

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define WANE_HAS_MMA 1
#endif

/* What differs between the two 16-bit types. */
template <typename T> struct narrow;

template <> struct narrow<__nv_bfloat16> {
    static constexpr wane_dtype dtype = WANE_BF16;
    static constexpr uint32_t code_base = 0x43004300u, code_middle = 0x43084308u; /* 128, 136: exact to 255 */
    static __device__ __forceinline__ float2 floats(uint32_t u) { return __bfloat1622float2(*(__nv_bfloat162 *)&u); }
    static __device__ __forceinline__ uint32_t pair(float low, float high)
    {
        __nv_bfloat162 p = __floats2bfloat162_rn(low, high);
        return *(uint32_t *)&p;
    }
    static __device__ __forceinline__ uint32_t minus(uint32_t a, uint32_t b)
    {
        __nv_bfloat162 p = __hsub2(*(__nv_bfloat162 *)&a, *(__nv_bfloat162 *)&b);
        return *(uint32_t *)&p;
    }
    static __device__ __forceinline__ void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                               uint32_t b1)
    {
#ifdef WANE_HAS_MMA
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
    }
};

template <> struct narrow<__half> {
    static constexpr wane_dtype dtype = WANE_F16;
    static constexpr uint32_t code_base = 0x64006400u, code_middle = 0x64086408u; /* 1024, 1032 */
    static __device__ __forceinline__ float2 floats(uint32_t u) { return __half22float2(*(__half2 *)&u); }
    static __device__ __forceinline__ uint32_t pair(float low, float high)
    {
        __half2 p = __floats2half2_rn(low, high);
        return *(uint32_t *)&p;
    }
    static __device__ __forceinline__ uint32_t minus(uint32_t a, uint32_t b)
    {
        __half2 p = __hsub2(*(__half2 *)&a, *(__half2 *)&b);
        return *(uint32_t *)&p;
    }
    static __device__ __forceinline__ void mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                               uint32_t b1)
    {
#ifdef WANE_HAS_MMA
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
    }
};

/* The codes in bits 0-3 and 16-19 of u, less 8: exact. */
template <typename T> static __device__ __forceinline__ uint32_t code_pair(uint32_t u)
{
    uint32_t mask, v; /* in a register: one instruction takes one constant */
    asm("mov.b32 %0, 0x000f000f;" : "=r"(mask));
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(v) : "r"(u), "r"(mask), "n"(narrow<T>::code_base));
    return narrow<T>::minus(v, narrow<T>::code_middle);
}

static __device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 bytes to shared memory behind the program's back; copies_ended waits for all but the last `left` groups. */
static __device__ __forceinline__ void copy_16(void *shared, const void *global)
{
#ifdef WANE_HAS_MMA
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
#endif
}

static __device__ __forceinline__ void copies_close()
{
#ifdef WANE_HAS_MMA
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int LEFT> static __device__ __forceinline__ void copies_ended()
{
#ifdef WANE_HAS_MMA
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

/* Four 8x8 tiles of 16-bit numbers; lane i names row i % 8 of tile i / 8. Turned: each tile transposed. */
static __device__ __forceinline__ void read_tiles(uint32_t r[4], const void *shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared)));
}

static __device__ __forceinline__ void read_tiles_turned(uint32_t r[4], const void *shared)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(shared)));
}

#endif
