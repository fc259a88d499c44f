/* device.cuh - what all CUDA files share: the device, typed access, reductions, and reading CUDA's results.
 *
 * Every operation goes to the device's one stream. A launcher is three steps: sizes, launch, `return launched(d)`.
 * Reductions are over fixed trees: no float atomics, so the same build and device give the same bytes. */
#ifndef WANE_DEVICE_CUH
#define WANE_DEVICE_CUH

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/kernels.h"

enum { CUDA_TICKETS = 1 << 18 };

struct wane_dev {
    int index;
    cudaStream_t stream;
    cublasHandle_t blas;
    unsigned char *scratch; /* device memory given at open */
    size_t scratch_bytes;
    int *tickets;           /* CUDA_TICKETS counters of blocks that have ended: 0 between launches */
    void *blas_memory;      /* cuBLAS's own */
    int processors;         /* streaming multiprocessors */
    int capability;         /* 90 for sm_90 */
    bool lost;              /* a sticky fault: every later call fails */
    bool recording;         /* between record and recorded */
    bool synchronous;       /* WANE_SYNC=1: wait after every slot, so that a fault names the guilty one */
    char name[96];
};

/* The one reader of CUDA's results; clears a failed allocation so that it is not blamed on the next launch. */
wane_status cuda_status(wane_dev *, cudaError_t);
wane_status cuda_blas_status(wane_dev *, cublasStatus_t);
wane_status cuda_get_now(wane_dev *, void *host, const void *src, size_t bytes); /* waits */

static inline wane_status launched(wane_dev *d)
{
    cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess && d->synchronous && !d->recording) e = cudaStreamSynchronize(d->stream);
    return cuda_status(d, e);
}

static inline bool is_float(wane_dtype t) { return t == WANE_F32 || t == WANE_F16 || t == WANE_BF16; }
static inline bool valid(wane_mat a) { return (a.data || !a.rows || !a.cols) && a.rows >= 0 && a.cols >= 0 && a.stride >= a.cols; }
static inline bool valid_float(wane_mat a) { return valid(a) && is_float(a.dtype); }
static inline bool valid_f32(wane_mat a) { return valid(a) && a.dtype == WANE_F32; }
static inline __host__ __device__ int64_t tiles(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* Blocks for n items, at most what keeps every multiprocessor busy eight times over: kernels stride over the rest. */
static inline int blocks_for(const wane_dev *d, int64_t n, int64_t per_block)
{
    int64_t most = (int64_t)d->processors * 8, want = tiles(n, per_block);
    return (int)(want < 1 ? 1 : want > most ? most : want);
}

/* An element as float32, whatever float type it has. The dtype is the same for a whole launch: no divergence. */
static __device__ __forceinline__ float load_as_float(const void *p, int64_t i, wane_dtype t)
{
    switch (t) {
    case WANE_F32: return ((const float *)p)[i];
    case WANE_F16: return __half2float(((const __half *)p)[i]);
    case WANE_BF16: return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    case WANE_I8: return (float)((const int8_t *)p)[i];
    case WANE_U8: return (float)((const uint8_t *)p)[i];
    case WANE_I32: return (float)((const int32_t *)p)[i];
    default: return (float)((const int64_t *)p)[i];
    }
}

static __device__ __forceinline__ int64_t saturated(float x, float least, float most, int64_t low, int64_t high)
{
    return x != x ? 0 : x <= least ? low : x >= most ? high : (int64_t)rintf(x);
}

static __device__ __forceinline__ void store_float(void *p, int64_t i, wane_dtype t, float x)
{
    switch (t) {
    case WANE_F32: ((float *)p)[i] = x; break;
    case WANE_F16: ((__half *)p)[i] = __float2half_rn(x); break;
    case WANE_BF16: ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(x); break;
    case WANE_I8: ((int8_t *)p)[i] = (int8_t)saturated(x, -128, 127, -128, 127); break;
    case WANE_U8: ((uint8_t *)p)[i] = (uint8_t)saturated(x, 0, 255, 0, 255); break;
    case WANE_I32: ((int32_t *)p)[i] = (int32_t)saturated(x, -2147483648.f, 2147483648.f, INT32_MIN, INT32_MAX); break;
    default: ((int64_t *)p)[i] = saturated(x, -9.2233720368547758e18f, 9.2233720368547758e18f, INT64_MIN, INT64_MAX);
    }
}

/* Rows start at 16 bytes: eight of them, of any float type, can be moved at a time. */
static inline bool by_eight(wane_mat a)
{
    return is_float(a.dtype) && (uintptr_t)a.data % 16 == 0 && (size_t)a.stride * wane_dtype_bytes(a.dtype) % 16 == 0;
}

/* Eight elements from number `from` on, which is a place that by_eight allows. */
static __device__ __forceinline__ void load_wide(float v[8], const wane_mat &a, int64_t from)
{
    if (a.dtype == WANE_F32) {
        float4 low = *(const float4 *)((const float *)a.data + from), high = *(const float4 *)((const float *)a.data + from + 4);
        v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
        v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
        return;
    }
    uint4 u = *(const uint4 *)((const uint16_t *)a.data + from);
    const uint32_t pair[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = a.dtype == WANE_BF16 ? __bfloat1622float2(*(const __nv_bfloat162 *)&pair[i])
                                        : __half22float2(*(const __half2 *)&pair[i]);
        v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
}

static __device__ __forceinline__ void store_wide(const wane_mat &a, int64_t to, const float v[8])
{
    if (a.dtype == WANE_F32) {
        *(float4 *)((float *)a.data + to) = make_float4(v[0], v[1], v[2], v[3]);
        *(float4 *)((float *)a.data + to + 4) = make_float4(v[4], v[5], v[6], v[7]);
        return;
    }
    uint32_t pair[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (a.dtype == WANE_BF16) *(__nv_bfloat162 *)&pair[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
        else *(__half2 *)&pair[i] = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
    }
    *(uint4 *)((uint16_t *)a.data + to) = make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

/* Elements col .. col+7 of a row, 0 beyond its end; wide: by_eight. */
static __device__ __forceinline__ void load_eight(float v[8], const wane_mat &a, int64_t row, int64_t col, bool wide)
{
    int64_t from = row * a.stride + col;
    if (wide && col + 8 <= a.cols) {
        load_wide(v, a, from);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = col + i < a.cols ? load_as_float(a.data, from + i, a.dtype) : 0.f;
}

static __device__ __forceinline__ void store_eight(const wane_mat &a, int64_t row, int64_t col, const float v[8], bool wide)
{
    int64_t to = row * a.stride + col;
    if (wide && col + 8 <= a.cols) {
        store_wide(a, to, v);
        return;
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (col + i < a.cols) store_float(a.data, to + i, a.dtype, v[i]);
}

/* Row and column of number i in a matrix of so many columns; 64-bit division is slow. */
static __device__ __forceinline__ void place_of(int64_t i, int64_t cols, int64_t &row, int64_t &col)
{
    if ((i | cols) >> 31) {
        row = i / cols, col = i % cols;
        return;
    }
    uint32_t r = (uint32_t)i / (uint32_t)cols;
    row = r, col = (uint32_t)i - r * (uint32_t)cols;
}

template <typename T> static __device__ __forceinline__ T warp_sum(T x)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, o));
    return x;
}

/* Over a block of up to 1024 threads, a multiple of 32; every thread gets the result. Leaves shared memory free to be
 * used again at once. */
template <typename T> static __device__ __forceinline__ T block_sum(T x)
{
    __shared__ T part[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_sum(x);
    __syncthreads();
    if (!lane) part[warp] = x;
    __syncthreads();
    x = lane < warps ? part[lane] : T(0);
    return warp_sum(x);
}

static __device__ __forceinline__ float block_max(float x)
{
    __shared__ float part[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    x = warp_max(x);
    __syncthreads();
    if (!lane) part[warp] = x;
    __syncthreads();
    return warp_max(lane < warps ? part[lane] : -INFINITY);
}

#endif
