/* few.cu - products of up to 8 rows of x, bound by reading the weights: matmul, qmatmul and products send here what the
 * kernel of few_lines.cuh reads. */
#include "kernels/cuda/few_lines.cuh"

/* Of one part: whether the kernel reads such weights. Sets the group; 0 for weights as they are. */
static bool readable(const wane_product *p, wane_dtype x, int64_t k, int64_t *group)
{
    *group = 0;
    if (p->w.data) return p->w.dtype == x && k % 32 == 0 && aligned(p->w, 16) && p->w.stride < INT32_MAX / 4;
    *group = p->q.group;
    return k % 128 == 0 && readable_codes(p->q) && (p->q.group % 128 == 0 || p->q.group <= 64) && p->q.words.stride < INT32_MAX / 4;
}

/* One launch reads scales and zeros as one type each. */
static bool alike(const wane_qmat *a, const wane_qmat *b)
{
    return a->scale.dtype == b->scale.dtype && !a->zero.data == !b->zero.data && (!a->zero.data || a->zero.dtype == b->zero.dtype);
}

bool cuda_few_can(const wane_dev *d, const wane_products *p)
{
    int64_t group, first, rows = 0;
    wane_dtype type = few_type(p);
    if (d->capability < 80 || (type != WANE_BF16 && type != WANE_F16) || p->x.cols > 32768 || !by_eight(p->x) ||
        (p->gain.data && (!by_eight(p->gain) || (p->gain.dtype != WANE_F32 && p->gain.dtype != type))) ||
        !readable(&p->part[0], type, p->x.cols, &first))
        return false;
    for (int i = 0; i < p->parts; i++) {
        if (!readable(&p->part[i], type, p->x.cols, &group) || group != first) return false;
        for (int j = 0; first && j < i; j++)
            if (!alike(&p->part[i].q, &p->part[j].q)) return false;
        rows += p->part[i].y.cols;
    }
    return rows < INT32_MAX / 2;
}

wane_status cuda_few(wane_dev *d, const wane_products *p)
{
    int64_t n = p->x.rows, most = n < LINES_TOKENS ? n : (int64_t)LINES_TOKENS;
    for (int64_t at = 0; at < n;) {
        int64_t rows = n - at < most ? n - at : most;
        bool fits = true;
        lines_args a = lines_of(p, at, rows);
        wane_status s = p->part[0].w.data ? cuda_few_plain(d, p, &a, &fits) : cuda_few_codes(d, p, &a, &fits);
        if (s) return s;
        if (fits) at += rows;
        else if (most > 1) most = (most + 1) / 2; /* fewer rows of x leave room for the sums */
        else return WANE_EARG;
    }
    return WANE_OK;
}
