/* attention.cu - attend over runs and spans. The twin of cpu/attention.c.
 *
 * Queries, keys and values of one 16-bit type go to the tensor cores: attention_one.cu for a few runs of one token,
 * attention_few.cu where runs are short, attention_many.cu where they are long. All else is here: one block a query and head; its warps share the keys, 32 at
 * a time: lanes first score a key each, then share the values' columns; the softmax is kept online (Milakov and
 * Gimelshein 2018, arXiv:1805.02867), in float32. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/slots.h"

enum { WARPS = 4, MOST_HEAD = 256, PER_LANE = MOST_HEAD / 32, SHORT_ROWS = 32 };

struct online {
    float most, sum, out[PER_LANE];
};

/* Keys row .. row+count-1 of the pools, this warp's share of them. out in registers: column c*32+lane. */
static __device__ void attend_span(online &o, const float *query, const wane_mat &keys, const wane_mat &values,
                                   int64_t column, int head_dim, int64_t row, int64_t count, int warp, int lane)
{
    for (int64_t at = warp * 32; at < count; at += WARPS * 32) {
        bool mine = at + lane < count;
        float score = -INFINITY;
        if (mine) {
            int64_t from = (row + at + lane) * keys.stride + column;
            score = 0;
            for (int c = 0; c < head_dim; c++) score += query[c] * load_as_float(keys.data, from + c, keys.dtype);
        }
        float most = fmaxf(o.most, warp_max(score)), rescale = o.sum > 0 ? expf(o.most - most) : 0;
        float p = mine ? expf(score - most) : 0;
        o.sum = o.sum * rescale + warp_sum(p);
        o.most = most;
#pragma unroll
        for (int c = 0; c < PER_LANE; c++) o.out[c] *= rescale;
        int seen = (int)(count - at < 32 ? count - at : 32);
        for (int j = 0; j < seen; j++) {
            float weight = __shfl_sync(0xffffffffu, p, j);
            int64_t from = (row + at + j) * values.stride + column;
#pragma unroll
            for (int c = 0; c < PER_LANE; c++)
                if (c * 32 + lane < head_dim) o.out[c] += weight * load_as_float(values.data, from + c * 32 + lane, values.dtype);
        }
    }
}

static __global__ void attend_kernel(wane_mat y, wane_mat q, wane_mat keys, wane_mat values, wane_attention a, int run)
{
    __shared__ float query[MOST_HEAD], most[WARPS], sum[WARPS], out[WARPS][MOST_HEAD]; /* the query is scaled */
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    wane_run r = a.runs[run + blockIdx.y];
    int64_t all = (int64_t)r.count * a.heads;
    for (int64_t t = blockIdx.x; t < all; t += gridDim.x) {
        int64_t i = t / a.heads, head = t % a.heads, row = r.query + i;
        int64_t column = head / (a.heads / a.kv_heads) * a.head_dim;
        for (int c = threadIdx.x; c < a.head_dim; c += blockDim.x)
            query[c] = load_as_float(q.data, row * q.stride + head * a.head_dim + c, q.dtype) * a.scale;
        __syncthreads();
        online o = {-INFINITY, 0, {0}};
        for (int s = 0; s < r.n_spans; s++) {
            wane_span span = a.spans[r.span + s];
            attend_span(o, query, keys, values, column, a.head_dim, span.row, span.count, warp, lane);
        }
        attend_span(o, query, keys, values, column, a.head_dim, r.row, i + 1, warp, lane);
        if (!lane) most[warp] = o.most, sum[warp] = o.sum;
#pragma unroll
        for (int c = 0; c < PER_LANE; c++) out[warp][c * 32 + lane] = o.out[c];
        __syncthreads();
        for (int c = threadIdx.x; c < a.head_dim; c += blockDim.x) {
            float top = -INFINITY, weights = 0, v = 0;
            for (int w = 0; w < WARPS; w++) top = fmaxf(top, most[w]);
            for (int w = 0; w < WARPS; w++) {
                float weight = sum[w] == 0 ? 0.f : expf(most[w] - top); /* 0: this warp had no key */
                weights += weight * sum[w];
                v += weight * out[w][c];
            }
            store_float(y.data, row * y.stride + head * a.head_dim + c, y.dtype, v / weights);
        }
        __syncthreads();
    }
}

static bool aligned(wane_mat a) { return (uintptr_t)a.data % 16 == 0 && a.stride % 8 == 0; }

bool cuda_attend_can(const wane_dev *d, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *a)
{
    return d->capability >= 80 && (q.dtype == WANE_BF16 || q.dtype == WANE_F16) && keys.dtype == q.dtype &&
           values.dtype == q.dtype && aligned(q) && aligned(keys) && aligned(values) && a->scale > 0 &&
           (a->head_dim == 64 || a->head_dim == 128) && a->heads / a->kv_heads <= 16;
}

wane_status cuda_attend(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *a)
{
    if (!valid_float(y) || !valid_float(q) || !valid_float(keys) || !valid_float(values) || !a || a->heads < 1 ||
        a->kv_heads < 1 || a->heads % a->kv_heads || a->head_dim < 1 || a->head_dim > MOST_HEAD || a->n_runs < 0 ||
        q.cols != (int64_t)a->heads * a->head_dim || y.cols != q.cols || y.rows != q.rows ||
        keys.cols != (int64_t)a->kv_heads * a->head_dim || values.cols != keys.cols || values.rows != keys.rows)
        return WANE_EARG;
    if (!q.rows || !a->n_runs) return WANE_OK;
    if (cuda_attend_can(d, q, keys, values, a)) {
        if (cuda_attend_one_can(d, q, a)) return cuda_attend_one(d, y, q, keys, values, a);
        int64_t rows = tiles(q.rows, a->n_runs) * (a->heads / a->kv_heads); /* of scores, of a run of usual length */
        return rows <= SHORT_ROWS ? cuda_attend_few(d, y, q, keys, values, a) : cuda_attend_many(d, y, q, keys, values, a);
    }
    int64_t per_run = tiles(q.rows, a->n_runs) * a->heads;
    unsigned across = (unsigned)(per_run < 65536 ? per_run : 65536);
    for (int run = 0; run < a->n_runs; run += 65535) {
        unsigned runs = (unsigned)(a->n_runs - run < 65535 ? a->n_runs - run : 65535);
        attend_kernel<<<dim3(across, runs), WARPS * 32, 0, d->stream>>>(y, q, keys, values, *a, run);
    }
    return launched(d);
}
