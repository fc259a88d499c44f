/* attention.cuh - what the kernels of attend share: the keys of a run as one sequence.
 *
 * The keys that a run sees are numbered from 0: those of its spans in order (`before` of them), then its own. Query i
 * of the run sees numbers 0 .. before+i. Rows of scores are pairs of a query and a head of the group that shares keys:
 * row r of a tile is query first + r / group, head kv * group + r % group. */
#ifndef WANE_CUDA_ATTENTION_CUH
#define WANE_CUDA_ATTENTION_CUH

#include "kernels/cuda/device.cuh"

/* From a number to a row of the pools; numbers must not fall from call to call. */
struct key_walk {
    const wane_span *span;
    int left, start, end, row, own;
    __device__ __forceinline__ key_walk(const wane_attention &a, const wane_run &r)
        : span(a.spans + r.span), left(r.n_spans), start(0), end(0), row(0), own(r.row)
    {
    }
    __device__ __forceinline__ int at(int number)
    {
        while (number >= end) {
            start = end;
            if (left > 0) {
                row = span->row;
                end += span->count;
                span++, left--;
            } else {
                row = own;
                end = INT32_MAX;
            }
        }
        return row + (number - start);
    }
};

static __device__ __forceinline__ int keys_before(const wane_attention &a, const wane_run &r)
{
    int n = 0;
    for (int s = 0; s < r.n_spans; s++) n += a.spans[r.span + s].count;
    return n;
}

static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* q, keys, values of one 16-bit type, 16-byte rows, head_dim 64 or 128 */
bool cuda_attend_can(const wane_dev *, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *);
wane_status cuda_attend_few(wane_dev *, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *);
/* Few runs of a token each, of what cuda_attend_can takes. */
bool cuda_attend_one_can(const wane_dev *, wane_mat q, const wane_attention *);
wane_status cuda_attend_one(wane_dev *, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *);
wane_status cuda_attend_many(wane_dev *, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *);

#endif
