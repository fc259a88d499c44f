/* far.c - see far.h. Every slot hands on to the CPU's with its addresses brought back. */
#include "tests/c/far.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Addresses that no processor of today maps. */
static const uintptr_t FAR = (uintptr_t)1 << 62;

static void *far_of(void *p)
{
    return p ? (void *)((uintptr_t)p | FAR) : NULL;
}

static void *near_of(const void *p)
{
    if (p && !((uintptr_t)p & FAR)) {
        fputs("far device: a slot was given memory of the host\n", stderr);
        abort();
    }
    return (void *)((uintptr_t)p & ~FAR);
}

static wane_mat near_mat(wane_mat m)
{
    m.data = near_of(m.data);
    return m;
}

static wane_qmat near_grid(wane_qmat q)
{
    q.words = near_mat(q.words);
    q.scale = near_mat(q.scale);
    q.zero = near_mat(q.zero);
    return q;
}

static wane_status far_alloc(wane_dev *d, size_t bytes, void **out)
{
    wane_status s = wane_cpu_kernels()->alloc(d, bytes, out);
    *out = far_of(*out);
    return s;
}

static void far_free(wane_dev *d, void *p)
{
    wane_cpu_kernels()->free(d, near_of(p));
}

static wane_status far_put(wane_dev *d, void *dst, const void *host, size_t bytes)
{
    return wane_cpu_kernels()->put(d, near_of(dst), host, bytes);
}

static wane_status far_get(wane_dev *d, void *host, const void *src, size_t bytes)
{
    return wane_cpu_kernels()->get(d, host, near_of(src), bytes);
}

static wane_status far_copy(wane_dev *d, void *dst, const void *src, size_t bytes)
{
    return wane_cpu_kernels()->copy(d, near_of(dst), near_of(src), bytes);
}

static wane_status far_fill(wane_dev *d, void *dst, int byte, size_t bytes)
{
    return wane_cpu_kernels()->fill(d, near_of(dst), byte, bytes);
}

static wane_status far_attend(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                              const wane_attention *a)
{
    wane_attention here = *a;
    here.runs = near_of(a->runs);
    here.spans = near_of(a->spans);
    return wane_cpu_kernels()->attend(d, near_mat(y), near_mat(q), near_mat(keys), near_mat(values),
                                      &here);
}

/* Slots by the kinds of their arguments: m a matrix, q codes, x a number or options. */
#define TO_m      wane_mat
#define TO_q      wane_qmat
#define NEAR_m(v) near_mat(v)
#define NEAR_q(v) near_grid(v)
#define SLOT2(name, a, b)                                                                          \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v)                                 \
    {                                                                                              \
        return wane_cpu_kernels()->name(d, NEAR_##a(u), NEAR_##b(v));                              \
    }
#define SLOT2X(name, a, b, type)                                                                   \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v, type x)                         \
    {                                                                                              \
        return wane_cpu_kernels()->name(d, NEAR_##a(u), NEAR_##b(v), x);                           \
    }
#define SLOT3(name, a, b, c)                                                                       \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v, TO_##c w)                       \
    {                                                                                              \
        return wane_cpu_kernels()->name(d, NEAR_##a(u), NEAR_##b(v), NEAR_##c(w));                 \
    }
#define SLOT3X(name, a, b, c, type)                                                                \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v, TO_##c w, type x)               \
    {                                                                                              \
        return wane_cpu_kernels()->name(d, NEAR_##a(u), NEAR_##b(v), NEAR_##c(w), x);              \
    }

SLOT2(convert, m, m)
SLOT3X(binary, m, m, m, wane_binary_op)
SLOT2X(unary, m, m, wane_unary_op)
SLOT2X(reduce, m, m, wane_reduce_op)
SLOT2(transpose, m, m)
SLOT2(finite, m, m)
SLOT3(matmul, m, m, m)
SLOT3(gram, m, m, m)
SLOT3(column_max, m, m, m)
SLOT3(column_sum, m, m, m)
SLOT3(fit_grid, q, m, m)
SLOT2(encode, q, m)
SLOT2(decode, m, q)
SLOT2(pack, q, m)
SLOT2(unpack, m, q)
SLOT3(qmatmul, m, m, q)
SLOT3(gram_error, m, m, m)
SLOT2X(inverse_factor, m, m, float)
SLOT2X(hqq, q, m, wane_hqq_options)
SLOT2X(refit, q, m, int)
SLOT3(embed, m, m, m)
SLOT3X(rmsnorm, m, m, m, float)
SLOT3X(rope, m, m, m, float)
SLOT3(store, m, m, m)
SLOT3(silu_mul, m, m, m)
SLOT3(take_rows, m, m, m)
SLOT2(argmax, m, m)
SLOT3(log_prob, m, m, m)
SLOT3(divergence, m, m, m)

static wane_status far_gptq(wane_dev *d, wane_qmat q, wane_mat codes, wane_mat w, wane_mat u,
                            wane_mat order)
{
    return wane_cpu_kernels()->gptq(d, near_grid(q), near_mat(codes), near_mat(w), near_mat(u),
                                    near_mat(order));
}

static wane_status far_clip_search(wane_dev *d, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h,
                                   int steps, float most)
{
    return wane_cpu_kernels()->clip_search(d, near_grid(q), near_mat(clip), near_mat(w),
                                           near_mat(h), steps, most);
}

static wane_status far_products(wane_dev *d, const wane_products *p)
{
    wane_products here = *p;
    here.x = near_mat(p->x), here.gain = near_mat(p->gain);
    here.residual = near_mat(p->residual), here.room = near_mat(p->room);
    for (int i = 0; i < p->parts; i++) {
        wane_product *a = &here.part[i];
        a->y = near_mat(a->y), a->w = near_mat(a->w), a->bias = near_mat(a->bias);
        a->q = near_grid(a->q);
    }
    return wane_cpu_kernels()->products(d, &here);
}

static wane_status far_heads(wane_dev *d, const wane_heads *h)
{
    wane_heads here = *h;
    wane_mat *mats[] = {&here.q,        &here.k,         &here.v,    &here.q_gain, &here.k_gain,
                        &here.position, &here.frequency, &here.keys, &here.values, &here.row};
    for (size_t i = 0; i < sizeof mats / sizeof *mats; i++) *mats[i] = near_mat(*mats[i]);
    return wane_cpu_kernels()->heads(d, &here);
}

const wane_kernels *test_far_kernels(wane_dtype activations)
{
    static wane_kernels tables[WANE_DTYPES];
    wane_kernels *t = &tables[activations];
    *t = *wane_cpu_kernels();
    t->name = "far";
    t->activations = activations;
#define HAND_ON(slot) t->slot = far_##slot
    HAND_ON(alloc), HAND_ON(free), HAND_ON(put), HAND_ON(get), HAND_ON(copy), HAND_ON(fill);
    HAND_ON(convert), HAND_ON(binary), HAND_ON(unary), HAND_ON(reduce), HAND_ON(transpose);
    HAND_ON(finite), HAND_ON(matmul), HAND_ON(gram), HAND_ON(column_max), HAND_ON(column_sum);
    HAND_ON(fit_grid), HAND_ON(encode), HAND_ON(decode), HAND_ON(pack), HAND_ON(unpack);
    HAND_ON(qmatmul), HAND_ON(gram_error), HAND_ON(inverse_factor), HAND_ON(gptq), HAND_ON(hqq);
    HAND_ON(refit), HAND_ON(clip_search), HAND_ON(embed), HAND_ON(rmsnorm), HAND_ON(rope);
    HAND_ON(store), HAND_ON(attend), HAND_ON(silu_mul), HAND_ON(take_rows), HAND_ON(argmax);
    HAND_ON(log_prob), HAND_ON(divergence), HAND_ON(products), HAND_ON(heads);
#undef HAND_ON
    return t;
}
