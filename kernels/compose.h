/* compose.h - products and heads, slot by slot: what a backend does that has nothing better for
 * the case at hand. */
#ifndef WANE_KERNELS_COMPOSE_H
#define WANE_KERNELS_COMPOSE_H

#include "kernels/kernels.h"

/* Whether the shapes of a wane_products fit together; types are left to the slots. */
static inline bool wane_products_fit(const wane_products *p)
{
    int64_t n = p->x.rows, k = p->x.cols, extra = p->gain.data ? k : 0;
    if (p->parts < 1 || p->parts > 3 || (p->gated && p->parts != 2) ||
        (p->residual.data && p->parts != (p->gated ? 2 : 1)) ||
        (p->gain.data && (p->gain.rows != 1 || p->gain.cols != k)))
        return false;
    for (int i = 0; i < p->parts; i++) {
        const wane_product *a = &p->part[i];
        wane_mat rows = a->w.data ? a->w : a->q.words;
        if (a->y.rows != n || rows.rows != a->y.cols || (a->w.data ? a->w.cols : a->q.k) != k ||
            (a->bias.data && (a->bias.rows != 1 || a->bias.cols != a->y.cols)))
            return false;
    }
    int64_t m = p->part[0].y.cols;
    if (p->gated && p->part[1].y.cols != m) return false;
    if (p->residual.data && (p->residual.rows != n || p->residual.cols != m)) return false;
    extra += p->residual.data ? m : 0;
    return !extra || (p->room.data && p->room.rows >= n && p->room.cols >= extra &&
                      p->room.stride == p->room.cols);
}

/* The next n by cols of the room, which starts `at` elements in. */
static inline wane_mat wane_room_take(const wane_products *p, int64_t at, int64_t cols)
{
    wane_mat m = {(char *)p->room.data + (size_t)at * wane_dtype_bytes(p->room.dtype),
                  p->room.dtype, p->x.rows, cols, cols};
    return m;
}

static inline wane_status wane_products_by_slots(const wane_kernels *k, wane_dev *d,
                                                 const wane_products *p)
{
    if (!wane_products_fit(p)) return WANE_EARG;
    wane_status s = WANE_OK;
    wane_mat x = p->x;
    if (p->gain.data) {
        x = wane_room_take(p, 0, p->x.cols);
        s = k->rmsnorm(d, x, p->x, p->gain, p->eps);
    }
    wane_mat sum = p->part[0].y; /* where it may not be written yet, the residual's place */
    if (p->residual.data)
        sum = wane_room_take(p, p->gain.data ? p->x.rows * p->x.cols : 0, sum.cols);
    for (int i = 0; i < p->parts && !s; i++) {
        const wane_product *a = &p->part[i];
        wane_mat y = i ? a->y : sum;
        s = a->w.data ? k->matmul(d, y, x, a->w) : k->qmatmul(d, y, x, a->q);
        if (!s && a->bias.data) s = k->binary(d, y, y, a->bias, WANE_ADD);
    }
    if (!s && p->gated) s = k->silu_mul(d, sum, sum, p->part[1].y);
    if (!s && p->residual.data) s = k->binary(d, p->part[0].y, p->residual, sum, WANE_ADD);
    return s;
}

/* x (n, h*d) as (n*h, d): one head a row. */
static inline wane_mat wane_heads_rows(wane_mat x, int64_t d)
{
    wane_mat m = {x.data, x.dtype, x.rows * (x.cols / d), d, d};
    return m;
}

static inline bool wane_heads_fit(const wane_heads *h)
{
    int64_t d = 2 * h->frequency.cols, n = h->q.rows;
    return d > 0 && h->frequency.rows == 1 && h->q.cols % d == 0 && h->k.cols % d == 0 &&
           h->v.cols == h->k.cols && h->k.rows == n && h->v.rows == n &&
           h->keys.cols == h->k.cols && h->values.cols == h->k.cols &&
           h->values.rows == h->keys.rows && h->position.rows == n && h->row.rows == n &&
           h->turned.rows == n && h->turned.cols == h->q.cols &&
           (!h->q_gain.data ||
            (h->q_gain.cols == d && h->q_gain.rows == 1 && h->q.stride == h->q.cols)) &&
           (!h->k_gain.data ||
            (h->k_gain.cols == d && h->k_gain.rows == 1 && h->k.stride == h->k.cols));
}

static inline wane_status wane_heads_by_slots(const wane_kernels *k, wane_dev *d,
                                              const wane_heads *h)
{
    if (!wane_heads_fit(h)) return WANE_EARG;
    int64_t size = 2 * h->frequency.cols;
    wane_status s = WANE_OK;
    if (h->q_gain.data) {
        wane_mat rows = wane_heads_rows(h->q, size);
        s = k->rmsnorm(d, rows, rows, h->q_gain, h->eps);
    }
    if (!s && h->k_gain.data) {
        wane_mat rows = wane_heads_rows(h->k, size);
        s = k->rmsnorm(d, rows, rows, h->k_gain, h->eps);
    }
    if (!s) s = k->rope(d, h->q, h->position, h->frequency, 1.0f);
    if (!s) s = k->rope(d, h->k, h->position, h->frequency, 1.0f);
    if (!s) s = k->store(d, h->keys, h->k, h->row);
    if (!s) s = k->store(d, h->values, h->v, h->row);
    if (s || h->turned.data == h->q.data) return s;
    return k->convert(d, h->turned, h->q);
}

#endif
