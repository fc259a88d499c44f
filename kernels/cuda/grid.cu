/* grid.cu - from weights to codes and back: fit_grid, encode, decode, pack, unpack, clip_search. The twin of
 * cpu/grid.c, which has the formulas. */
#include "kernels/cuda/grid.cuh"
#include "kernels/cuda/slots.h"

enum { THREADS = 256 };

static bool is(wane_mat a, wane_dtype t, int64_t rows, int64_t cols)
{
    return valid(a) && a.dtype == t && a.rows == rows && a.cols == cols;
}

bool cuda_valid_grid(const wane_qmat *q, int64_t m, bool words)
{
    if (q->k <= 0 || q->group <= 0 || q->k % q->group ||
        (q->bits != 2 && q->bits != 3 && q->bits != 4 && q->bits != 8))
        return false;
    int64_t groups = q->k / q->group;
    if (!valid_float(q->scale) || q->scale.rows != m || q->scale.cols != groups) return false;
    if (q->zero.data && !is(q->zero, WANE_U8, m, groups) && !is(q->zero, WANE_F32, m, groups)) return false;
    if (q->act_bits && (q->act_bits != 8 || q->bits != 8 || q->zero.data || groups != 1)) return false;
    return !words || is(q->words, WANE_I32, m, (q->k * q->bits + 31) / 32);
}

/* One warp a group of a row. */
static __global__ void fit_grid_kernel(wane_qmat q, wane_mat w, wane_mat clip)
{
    int64_t groups = q.k / q.group, all = w.rows * groups, warps = (int64_t)gridDim.x * (blockDim.x >> 5);
    int lane = threadIdx.x & 31;
    for (int64_t i = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) >> 5; i < all; i += warps) {
        int64_t row = i / groups, group = i % groups;
        const float *x = (const float *)w.data + row * w.stride + group * q.group;
        float low = 0, high = 0;
        for (int64_t c = lane; c < q.group; c += 32) low = fminf(low, x[c]), high = fmaxf(high, x[c]);
        high = warp_max(high);
        low = -warp_max(-low);
        if (lane) continue;
        float factor = clip.data ? ((const float *)clip.data)[row * clip.stride + group] : 1.f;
        grid_put(q, row, group, grid_fit(q, low * factor, high * factor));
    }
}

wane_status cuda_fit_grid(wane_dev *d, wane_qmat q, wane_mat w, wane_mat clip)
{
    if (!cuda_valid_grid(&q, w.rows, false) || !is(w, WANE_F32, w.rows, q.k) ||
        (clip.data && !is(clip, WANE_F32, w.rows, q.k / q.group)))
        return WANE_EARG;
    if (!w.rows) return WANE_OK;
    fit_grid_kernel<<<blocks_for(d, w.rows * (q.k / q.group), THREADS / 32), THREADS, 0, d->stream>>>(q, w, clip);
    return launched(d);
}

/* One thread 32 codes: whole words at every width. Codes come from w on the grid, or from a matrix of bytes. */
static __global__ void pack_kernel(wane_qmat q, wane_mat w, wane_mat codes)
{
    int64_t per_row = tiles(q.k, 32), all = q.words.rows * per_row;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = t / per_row, first = t % per_row * 32, group = -1;
        int n = (int)(q.k - first < 32 ? q.k - first : 32), filled = 0;
        uint32_t *words = (uint32_t *)q.words.data + row * q.words.stride + first * q.bits / 32;
        uint64_t pending = 0;
        grid g;
        for (int i = 0; i < n; i++) {
            uint32_t code;
            if (codes.data) {
                code = ((const uint8_t *)codes.data)[row * codes.stride + first + i];
            } else {
                if ((first + i) / q.group != group) group = (first + i) / q.group, g = grid_at(q, row, group);
                code = (uint32_t)code_of(((const float *)w.data)[row * w.stride + first + i], g);
            }
            pending |= (uint64_t)(code & ((1u << q.bits) - 1)) << filled;
            filled += q.bits;
            if (filled >= 32) {
                *words++ = (uint32_t)pending;
                pending >>= 32;
                filled -= 32;
            }
        }
        if (filled) *words = (uint32_t)pending;
    }
}

static wane_status pack(wane_dev *d, wane_qmat q, wane_mat w, wane_mat codes)
{
    if (!q.words.rows) return WANE_OK;
    pack_kernel<<<blocks_for(d, q.words.rows * tiles(q.k, 32), THREADS), THREADS, 0, d->stream>>>(q, w, codes);
    return launched(d);
}

wane_status cuda_encode(wane_dev *d, wane_qmat q, wane_mat w)
{
    if (!cuda_valid_grid(&q, w.rows, true) || !is(w, WANE_F32, w.rows, q.k)) return WANE_EARG;
    return pack(d, q, w, wane_mat{});
}

static __global__ void decode_kernel(wane_mat w, wane_qmat q)
{
    int64_t all = w.rows * q.k;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = t / q.k, c = t % q.k;
        uint32_t code = code_at((const uint32_t *)q.words.data + row * q.words.stride, c, q.bits);
        store_float(w.data, row * w.stride + c, w.dtype, weight_of((float)code, grid_at(q, row, c / q.group)));
    }
}

/* One thread eight codes of four bits to bf16 in one 16-byte store: what dequantizing for a large product needs. */
static __global__ void decode_kernel_nibbles(wane_mat w, wane_qmat q)
{
    int64_t per_row = q.k / 8, all = w.rows * per_row;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x) {
        int64_t row = t / per_row, at = t % per_row;
        uint32_t u = ((const uint32_t *)q.words.data)[row * q.words.stride + at];
        grid g = grid_at(q, row, at * 8 / q.group);
        __nv_bfloat162 out[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            out[i] = __floats2bfloat162_rn(weight_of((float)(u >> 8 * i & 15), g), weight_of((float)(u >> (8 * i + 4) & 15), g));
        *(uint4 *)((__nv_bfloat16 *)w.data + row * w.stride + at * 8) = *(uint4 *)out;
    }
}

wane_status cuda_decode(wane_dev *d, wane_mat w, wane_qmat q)
{
    if (!cuda_valid_grid(&q, w.rows, true) || !valid_float(w) || w.cols != q.k) return WANE_EARG;
    if (!w.rows) return WANE_OK;
    bool nibbles = q.bits == 4 && w.dtype == WANE_BF16 && q.group % 8 == 0 && w.stride % 8 == 0 &&
                   (uintptr_t)w.data % 16 == 0;
    if (nibbles) decode_kernel_nibbles<<<blocks_for(d, w.rows * q.k / 8, THREADS), THREADS, 0, d->stream>>>(w, q);
    else decode_kernel<<<blocks_for(d, w.rows * q.k, THREADS), THREADS, 0, d->stream>>>(w, q);
    return launched(d);
}

/* Words alone: pack and unpack ask nothing of scale and zero. */
static bool valid_words(const wane_qmat *q, wane_mat codes)
{
    return q->k > 0 && (q->bits == 2 || q->bits == 3 || q->bits == 4 || q->bits == 8) &&
           is(codes, WANE_U8, q->words.rows, q->k) &&
           is(q->words, WANE_I32, codes.rows, (q->k * q->bits + 31) / 32);
}

wane_status cuda_pack(wane_dev *d, wane_qmat q, wane_mat codes)
{
    return valid_words(&q, codes) ? pack(d, q, wane_mat{}, codes) : WANE_EARG;
}

static __global__ void unpack_kernel(wane_mat codes, wane_qmat q)
{
    int64_t all = codes.rows * q.k;
    for (int64_t t = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; t < all; t += (int64_t)gridDim.x * blockDim.x)
        ((uint8_t *)codes.data)[t / q.k * codes.stride + t % q.k] =
            (uint8_t)code_at((const uint32_t *)q.words.data + t / q.k * q.words.stride, t % q.k, q.bits);
}

wane_status cuda_unpack(wane_dev *d, wane_mat codes, wane_qmat q)
{
    if (!valid_words(&q, codes)) return WANE_EARG;
    if (!codes.rows) return WANE_OK;
    unpack_kernel<<<blocks_for(d, codes.rows * q.k, THREADS), THREADS, 0, d->stream>>>(codes, q);
    return launched(d);
}

/* Candidates are 1, 1 - 1/steps, ... above 1 - most; the tolerance as in cpu/grid.c. */
static int candidates(int steps, float most)
{
    int n = 0;
    while (n < steps && (float)n + 1e-3f < most * (float)steps) n++;
    return n ? n : 1;
}

/* One warp a group of a row: the group's delta in shared memory, its loss d^T h d by columns over the lanes. */
static __global__ void clip_kernel(wane_qmat q, wane_mat clip, wane_mat w, wane_mat h, int steps, int count, bool square)
{
    extern __shared__ float shared[];
    int lane = threadIdx.x & 31, g = (int)q.group;
    float *delta = shared + (threadIdx.x >> 5) * g;
    int64_t groups = q.k / q.group, all = w.rows * groups, warps = (int64_t)gridDim.x * (blockDim.x >> 5);
    for (int64_t t = (blockIdx.x * (int64_t)blockDim.x + threadIdx.x) >> 5; t < all; t += warps) {
        int64_t group = t / w.rows, row = t % w.rows; /* neighbours share h's block */
        const float *x = (const float *)w.data + row * w.stride + group * g;
        const float *part = (const float *)h.data + (square ? group * g * h.stride : 0) + group * g;
        float low = 0, high = 0, least = 0, best = 1;
        for (int c = lane; c < g; c += 32) low = fminf(low, x[c]), high = fmaxf(high, x[c]);
        high = warp_max(high);
        low = -warp_max(-low);
        for (int i = 0; i < count; i++) {
            float factor = 1.f - (float)i / (float)steps, loss = 0;
            grid fitted = grid_fit(q, low * factor, high * factor);
            __syncwarp();
            for (int c = lane; c < g; c += 32) delta[c] = weight_of(code_of(x[c], fitted), fitted) - x[c];
            __syncwarp();
            for (int c = lane; c < g; c += 32) {
                float sum = 0;
                if (square)
                    for (int j = 0; j < g; j++) sum += delta[j] * part[j * h.stride + c];
                else
                    sum = delta[c] * part[c];
                loss += sum * delta[c];
            }
            loss = warp_sum(loss);
            if (!i || loss < least) least = loss, best = factor; /* a tie keeps the wider range */
        }
        if (!lane) ((float *)clip.data)[row * clip.stride + group] = best;
    }
}

wane_status cuda_clip_search(wane_dev *d, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h, int steps, float most)
{
    int64_t m = w.rows, groups = q.k / (q.group ? q.group : 1);
    bool square = h.rows == q.k && !(h.rows == 1 && q.k == 1);
    if (!cuda_valid_grid(&q, m, false) || !is(w, WANE_F32, m, q.k) || !is(clip, WANE_F32, m, groups) || steps < 1 ||
        !(most >= 0 && most < 1) || !is(h, WANE_F32, square ? q.k : 1, q.k))
        return WANE_EARG;
    if (!m) return WANE_OK;
    int warps = 4;
    size_t shared = (size_t)warps * (size_t)q.group * sizeof(float);
    while (warps > 1 && shared > 48 * 1024) warps /= 2, shared /= 2;
    if (shared > 48 * 1024) {
        if (shared > 200 * 1024) return WANE_EARG;
        cudaError_t e = cudaFuncSetAttribute(clip_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (e != cudaSuccess) return cuda_status(d, e);
    }
    clip_kernel<<<blocks_for(d, m * groups, warps), warps * 32, shared, d->stream>>>(q, clip, w, h, steps,
                                                                                     candidates(steps, most), square);
    return launched(d);
}
