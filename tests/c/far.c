/* far.c - see far.h. Every slot hands on to the CPU's with its addresses brought back: at
 * once, or, while a step is recorded, whenever that is replayed. */
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

/* A slot with its arguments, brought back already. */
typedef wane_status (*slot_call)(wane_dev *, const void *arguments);

enum { NOTED_MOST = 4096, ARGUMENTS_MOST = 1280 };

struct wane_recording {
    int count;
    struct {
        slot_call call;
        _Alignas(16) unsigned char arguments[ARGUMENTS_MOST];
    } noted[];
};

static wane_recording *recording; /* NULL: slots are run when they are called */
static long replayed, recordings;

long test_far_replayed(void)
{
    return replayed;
}

long test_far_recordings(void)
{
    return recordings;
}

static wane_status run_or_note(wane_dev *d, slot_call call, const void *arguments, size_t bytes)
{
    if (!recording) return call(d, arguments);
    if (recording->count == NOTED_MOST || bytes > ARGUMENTS_MOST) return WANE_EOOM;
    recording->noted[recording->count].call = call;
    memcpy(recording->noted[recording->count++].arguments, arguments, bytes);
    return WANE_OK;
}

/* Of what a recording cannot hold. */
static void not_recorded(const char *slot)
{
    if (!recording) return;
    fprintf(stderr, "far device: %s between record and recorded\n", slot);
    abort();
}

static wane_status far_record(wane_dev *d)
{
    (void)d;
    not_recorded("record");
    recording = malloc(sizeof *recording + NOTED_MOST * sizeof *recording->noted);
    if (!recording) return WANE_EOOM;
    recording->count = 0;
    recordings++;
    return WANE_OK;
}

static wane_status far_recorded(wane_dev *d, wane_recording **out)
{
    (void)d;
    *out = recording;
    recording = NULL;
    return *out ? WANE_OK : WANE_EARG;
}

static wane_status far_replay(wane_dev *d, wane_recording *r)
{
    wane_status s = WANE_OK;
    not_recorded("replay");
    for (int i = 0; i < r->count && !s; i++, replayed++)
        s = r->noted[i].call(d, r->noted[i].arguments);
    return s;
}

static void far_forget(wane_dev *d, wane_recording *r)
{
    (void)d;
    recordings -= r != NULL;
    free(r);
}

static wane_status far_alloc(wane_dev *d, size_t bytes, void **out)
{
    not_recorded("alloc");
    wane_status s = wane_cpu_kernels()->alloc(d, bytes, out);
    *out = far_of(*out);
    return s;
}

static void far_free(wane_dev *d, void *p)
{
    not_recorded("free");
    wane_cpu_kernels()->free(d, near_of(p));
}

static wane_status far_put(wane_dev *d, void *dst, const void *host, size_t bytes)
{
    not_recorded("put");
    return wane_cpu_kernels()->put(d, near_of(dst), host, bytes);
}

static wane_status far_get(wane_dev *d, void *host, const void *src, size_t bytes)
{
    not_recorded("get");
    return wane_cpu_kernels()->get(d, host, near_of(src), bytes);
}

static wane_status far_sync(wane_dev *d)
{
    not_recorded("sync");
    return wane_cpu_kernels()->sync(d);
}

static wane_status far_pin(wane_dev *d, void *host, size_t bytes)
{
    not_recorded("pin");
    (void)d, (void)host, (void)bytes;
    return WANE_OK;
}

static wane_status far_copy(wane_dev *d, void *dst, const void *src, size_t bytes)
{
    return wane_cpu_kernels()->copy(d, near_of(dst), near_of(src), bytes);
}

static wane_status far_fill(wane_dev *d, void *dst, int byte, size_t bytes)
{
    return wane_cpu_kernels()->fill(d, near_of(dst), byte, bytes);
}

/* Slots by the kinds of their arguments: m a matrix, q codes, x a number or options. */
#define TO_m      wane_mat
#define TO_q      wane_qmat
#define NEAR_m(v) near_mat(v)
#define NEAR_q(v) near_grid(v)
#define CALLED(name, ...)                                                                          \
    static wane_status call_##name(wane_dev *d, const void *arguments)                             \
    {                                                                                              \
        const name##_arguments *p = arguments;                                                     \
        return wane_cpu_kernels()->name(d, __VA_ARGS__);                                           \
    }
#define SLOT2(name, a, b)                                                                          \
    typedef struct {                                                                               \
        TO_##a u;                                                                                  \
        TO_##b v;                                                                                  \
    } name##_arguments;                                                                            \
    CALLED(name, p->u, p->v)                                                                       \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v)                                 \
    {                                                                                              \
        name##_arguments here = {NEAR_##a(u), NEAR_##b(v)};                                        \
        return run_or_note(d, call_##name, &here, sizeof here);                                    \
    }
#define SLOT2X(name, a, b, type)                                                                   \
    typedef struct {                                                                               \
        TO_##a u;                                                                                  \
        TO_##b v;                                                                                  \
        type x;                                                                                    \
    } name##_arguments;                                                                            \
    CALLED(name, p->u, p->v, p->x)                                                                 \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v, type x)                         \
    {                                                                                              \
        name##_arguments here = {NEAR_##a(u), NEAR_##b(v), x};                                     \
        return run_or_note(d, call_##name, &here, sizeof here);                                    \
    }
#define SLOT3(name, a, b, c)                                                                       \
    typedef struct {                                                                               \
        TO_##a u;                                                                                  \
        TO_##b v;                                                                                  \
        TO_##c w;                                                                                  \
    } name##_arguments;                                                                            \
    CALLED(name, p->u, p->v, p->w)                                                                 \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v, TO_##c w)                       \
    {                                                                                              \
        name##_arguments here = {NEAR_##a(u), NEAR_##b(v), NEAR_##c(w)};                           \
        return run_or_note(d, call_##name, &here, sizeof here);                                    \
    }
#define SLOT3X(name, a, b, c, type)                                                                \
    typedef struct {                                                                               \
        TO_##a u;                                                                                  \
        TO_##b v;                                                                                  \
        TO_##c w;                                                                                  \
        type x;                                                                                    \
    } name##_arguments;                                                                            \
    CALLED(name, p->u, p->v, p->w, p->x)                                                           \
    static wane_status far_##name(wane_dev *d, TO_##a u, TO_##b v, TO_##c w, type x)               \
    {                                                                                              \
        name##_arguments here = {NEAR_##a(u), NEAR_##b(v), NEAR_##c(w), x};                        \
        return run_or_note(d, call_##name, &here, sizeof here);                                    \
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
    not_recorded("gptq");
    return wane_cpu_kernels()->gptq(d, near_grid(q), near_mat(codes), near_mat(w), near_mat(u),
                                    near_mat(order));
}

static wane_status far_clip_search(wane_dev *d, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h,
                                   int steps, float most)
{
    not_recorded("clip_search");
    return wane_cpu_kernels()->clip_search(d, near_grid(q), near_mat(clip), near_mat(w),
                                           near_mat(h), steps, most);
}

typedef struct {
    wane_mat y, q, keys, values;
    wane_attention how;
} attend_arguments;
CALLED(attend, p->y, p->q, p->keys, p->values, &p->how)

static wane_status far_attend(wane_dev *d, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                              const wane_attention *a)
{
    attend_arguments here = {near_mat(y), near_mat(q), near_mat(keys), near_mat(values), *a};
    here.how.runs = near_of(a->runs);
    here.how.spans = near_of(a->spans);
    return run_or_note(d, call_attend, &here, sizeof here);
}

typedef wane_products products_arguments;
CALLED(products, p)

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
    return run_or_note(d, call_products, &here, sizeof here);
}

/* All matrices of a struct of them. */
static void bring_near(wane_mat *const *mats, size_t count)
{
    for (size_t i = 0; i < count; i++) *mats[i] = near_mat(*mats[i]);
}

typedef wane_heads heads_arguments;
CALLED(heads, p)

static wane_status far_heads(wane_dev *d, const wane_heads *h)
{
    wane_heads here = *h;
    wane_mat *mats[] = {&here.q,      &here.k,      &here.v,        &here.turned,
                        &here.q_gain, &here.k_gain, &here.position, &here.frequency,
                        &here.keys,   &here.values, &here.row};
    bring_near(mats, sizeof mats / sizeof *mats);
    return run_or_note(d, call_heads, &here, sizeof here);
}

typedef wane_growth advance_arguments;
CALLED(advance, p)

static wane_status far_advance(wane_dev *d, const wane_growth *g)
{
    wane_growth here = *g;
    wane_mat *mats[] = {&here.found, &here.ids,  &here.position, &here.row,
                        &here.left,  &here.said, &here.rows,     &here.stop};
    bring_near(mats, sizeof mats / sizeof *mats);
    here.runs = near_of(g->runs);
    here.spans = near_of(g->spans);
    return run_or_note(d, call_advance, &here, sizeof here);
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
    HAND_ON(sync), HAND_ON(pin), HAND_ON(record), HAND_ON(recorded), HAND_ON(replay),
        HAND_ON(forget);
    HAND_ON(convert), HAND_ON(binary), HAND_ON(unary), HAND_ON(reduce), HAND_ON(transpose);
    HAND_ON(finite), HAND_ON(matmul), HAND_ON(gram), HAND_ON(column_max), HAND_ON(column_sum);
    HAND_ON(fit_grid), HAND_ON(encode), HAND_ON(decode), HAND_ON(pack), HAND_ON(unpack);
    HAND_ON(qmatmul), HAND_ON(gram_error), HAND_ON(inverse_factor), HAND_ON(gptq), HAND_ON(hqq);
    HAND_ON(refit), HAND_ON(clip_search), HAND_ON(embed), HAND_ON(rmsnorm), HAND_ON(rope);
    HAND_ON(store), HAND_ON(attend), HAND_ON(silu_mul), HAND_ON(take_rows), HAND_ON(argmax);
    HAND_ON(log_prob), HAND_ON(divergence), HAND_ON(products), HAND_ON(heads);
    HAND_ON(advance);
#undef HAND_ON
    return t;
}
