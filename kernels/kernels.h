/* kernels.h - everything wane asks of a processor.
 *
 * A backend is one full table of the functions below; a device is opened with one table and the
 * runtime never asks again which it has. Backends know matrices and numbers: no Lua, no files,
 * no models, no quantization methods.
 *
 * Letters, the same everywhere: n tokens (rows of activations), m outputs, k inputs, g columns
 * that share a scale, v vocabulary, h heads, d head size. Weights are (m,k) as in Hugging Face
 * files, activations (n,k). All matrices are row-major; `stride` is in elements, from row to row.
 *
 * A slot queues work on the device's one stream and returns; a failure of queued work is reported
 * by the next get or sync. Slots never allocate (scratch was given at open), print, exit or keep a
 * pointer. Arithmetic is in float32 unless a slot says otherwise; stored types are converted on
 * the way in and rounded half to even on the way out. No slot depends on the number of rows it is
 * given together: a row's result is the same in any batch, beyond rounding.
 *
 * To add an operation: a slot here, cpu_NAME, cuda_NAME, a row in tests/c/test_kernels.c. */
#ifndef WANE_KERNELS_H
#define WANE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    WANE_OK,
    WANE_EARG,         /* a bug of the caller: wrong shape, dtype or value */
    WANE_EOOM,         /* no memory, on the device or on the host */
    WANE_EIO,          /* the file system said no */
    WANE_EFORMAT,      /* bytes that are not what they claim to be */
    WANE_EUNSUPPORTED, /* well formed, but not something wane does */
    WANE_ENUMERIC,     /* NaN, Inf, a matrix that cannot be factored */
    WANE_ENETWORK,
    WANE_EDEVICE,     /* no device, no driver, or a sticky fault */
    WANE_EINTERRUPTED /* asked to stop */
} wane_status;

typedef enum {
    WANE_F32,
    WANE_F16,
    WANE_BF16,
    WANE_I8,
    WANE_U8,
    WANE_I32,
    WANE_I64,
    WANE_DTYPES /* how many there are */
} wane_dtype;

typedef struct {
    void *data; /* device memory, borrowed; NULL where a slot says "may be none" */
    wane_dtype dtype;
    int64_t rows, cols, stride; /* stride in elements between rows, >= cols */
} wane_mat;

/* Codes of a matrix (m,k). Code j of a row lies at bit j*bits of the row's words, little-endian,
 * across words where bits does not divide 32 (compressed-tensors' layout; for 8 bits it is plain
 * bytes). A weight is (code - zero) * scale with codes 0 .. 2^bits-1. A code is round(w / scale) + zero,
 * or round(w / scale + zero) for F32 zeros, clamped; halves go to even, and what lies as near to a half
 * as float32 can be off (3 * 2^bits added and subtracted) counts as one. */
typedef struct {
    wane_mat words; /* I32 (m, ceil(k*bits/32)) */
    wane_mat scale; /* F32, F16 or BF16 (m, k/g), > 0 */
    wane_mat zero;  /* U8 or F32 (m, k/g); data NULL: 2^(bits-1) everywhere */
    int64_t k;
    int64_t group; /* g; equal to k for a whole row; divides k */
    int bits;      /* 2, 3, 4, 8 */
    int act_bits;  /* 0: activations as they are; 8: rounded per token to int8 (bits must be 8,
                      symmetric, group k), and the product is computed in integers */
} wane_qmat;

/* Attention over spans. Keys and values live in a pool of rows. A run is `count` consecutive query
 * rows, starting at `query`, whose own keys and values are the pool rows row .. row+count-1. Each
 * query sees every row of the run's spans, and of its own run the rows up to itself. Decoding one
 * token is a run of one with one span; a prompt is a run without spans; a trie of calibration texts
 * or a shared system prompt is a run whose spans are its ancestors. */
typedef struct {
    int32_t query, count, row;
    int32_t span, n_spans; /* spans[span .. span+n_spans-1], in order of position */
} wane_run;

typedef struct {
    int32_t row, count;
} wane_span;

/* One product of several that share their input: y = x w^T, by columns as bias says. */
typedef struct {
    wane_mat y;    /* (n,m) */
    wane_mat w;    /* (m,k), any float dtype; data NULL: q */
    wane_qmat q;
    wane_mat bias; /* (1,m), may be none */
} wane_product;

/* Products of one x, with what stands before and after them in a decoder's layer. What a backend
 * does not take in one step, it takes slot by slot, with `room` for what lies between. */
typedef struct {
    wane_mat x, gain; /* (n,k); gain (1,k): x goes through rmsnorm first; may be none */
    float eps;
    wane_product part[3];
    int parts;         /* 1 to 3 */
    bool gated;        /* of two parts of one shape: the first's y = silu(first) * second; the second's
                          y is scratch */
    wane_mat residual; /* (n,m), is added to the only part or the gated pair; may be its y; may be none */
    wane_mat room;     /* n rows, k columns where there is a gain and m more where there is a residual, of
                          the type in which these are to be read again; stride = cols; scratch */
} wane_products;

/* From the products of a layer's input to attention: heads of q and k (n, h*d) go through rmsnorm
 * with gains (1,d), may be none, and are rotated; then k and v (n, kv_heads*d) are stored. */
typedef struct {
    wane_mat q, k, v; /* scratch afterwards */
    wane_mat turned;  /* (n, h*d), any float type: what becomes of q; may be q */
    wane_mat q_gain, k_gain;
    float eps;
    wane_mat position, frequency; /* as rope has them, with scale 1 */
    wane_mat keys, values, row;   /* pools, and for each token its row there, I32 (n,1) */
} wane_heads;

/* Texts that grow by a token a step, without the host between two steps. Row i of a step is text i, run i its own: one
 * query. left[i] steps are to come, the one just computed among them; at 0 a text stands still: its steps go on, and
 * change nothing. Else what was found becomes the token of the next step, one position on, and what was the text's own
 * row in the pools becomes the end of its spans. */
typedef struct {
    wane_mat found;              /* I32 (n,1) by argmax; below 0 it is a text's last */
    wane_mat ids, position, row; /* I32 (n,1) of the step that was, then of the next */
    wane_mat left;               /* I32 (n,1), at most s */
    wane_mat said;               /* I32 (n,s): with l steps left, what is found goes to column l-1 ... */
    wane_mat rows;               /* I32 (n,s): ... and its row in the pools is that of column l-2 */
    wane_mat stop;               /* I32 (1,any): ids that are a text's last; may be none */
    wane_run *runs;              /* device memory; n, each with room for one span more a step */
    wane_span *spans;            /* device memory */
} wane_growth;

typedef struct {
    const wane_run *runs;   /* device memory */
    const wane_span *spans; /* device memory */
    int n_runs;
    int heads, kv_heads, head_dim; /* h, a divisor of h, d */
    float scale;                   /* of q.k before the softmax */
} wane_attention;

typedef enum { WANE_ADD, WANE_SUB, WANE_MUL, WANE_DIV } wane_binary_op;
typedef enum { WANE_ABS, WANE_NEG, WANE_SQRT, WANE_EXP, WANE_LOG } wane_unary_op;
typedef enum { WANE_SUM, WANE_MAX, WANE_MIN, WANE_ABS_MAX, WANE_ABS_SUM, WANE_SQUARE_SUM } wane_reduce_op;

typedef struct {
    float p;        /* the norm's exponent, below 1 */
    float beta;     /* first weight of the penalty */
    float kappa;    /* beta's growth each step */
    int iterations;
} wane_hqq_options;

typedef struct wane_dev wane_dev; /* a backend's own: its stream, handles and scratch */
typedef struct wane_recording wane_recording; /* a backend's own: slots that were queued once */

typedef struct {
    char name[96];     /* "NVIDIA H200", "Intel Xeon ..., AVX-512, 2 threads" */
    size_t total, free; /* bytes; a hint */
    int threads;       /* of the CPU; multiprocessors of a GPU */
} wane_dev_info;

typedef struct wane_kernels {
    uint32_t abi;     /* WANE_KERNELS_ABI: a table of another age is refused */
    const char *name; /* "cpu", "cuda" */
    /* What the device likes products' inputs to be, and keys and values: F32, or BF16 where tensor
     * cores multiply that. What is added up stays F32. */
    wane_dtype activations;

    /* life: why (256 bytes) says what is missing, in words, where open fails */
    wane_status (*open)(int index, size_t scratch_bytes, wane_dev **out, char *why);
    void (*close)(wane_dev *); /* NULL is fine */
    void (*info)(wane_dev *, wane_dev_info *out);

    /* memory: what alloc gives is aligned to 256 bytes and not cleared */
    wane_status (*alloc)(wane_dev *, size_t bytes, void **out);
    void (*free)(wane_dev *, void *ptr);                                 /* NULL is fine */
    wane_status (*put)(wane_dev *, void *dst, const void *host, size_t bytes); /* host -> device */
    wane_status (*get)(wane_dev *, void *host, const void *src, size_t bytes); /* waits */
    wane_status (*copy)(wane_dev *, void *dst, const void *src, size_t bytes); /* within the device */
    wane_status (*fill)(wane_dev *, void *dst, int byte, size_t bytes);
    wane_status (*sync)(wane_dev *);
    /* The host's memory that puts and gets are to be fast with, until unpin, which comes before it is
     * freed; UNSUPPORTED or OOM where that cannot be, which does no harm */
    wane_status (*pin)(wane_dev *, void *host, size_t bytes);
    void (*unpin)(wane_dev *, void *host); /* NULL is fine */

    /* A step that comes again and again with the same arguments (a token): from record to recorded,
     * slots are noted down and not run; replay queues them all at once, on what then lies in their
     * matrices. Between record and recorded: no alloc, free, put, get, pin, sync or info, and no slot
     * that waits (inverse_factor, gptq), and nothing that writes what a recorded matmul, qmatmul or
     * products has as w, q, gain or bias; what writes runs, spans or the rows that spans name comes
     * before the step's embed. After a failed slot, recorded must still be called. A backend that has
     * no such thing answers UNSUPPORTED to record, and the slots are called each time. */
    wane_status (*record)(wane_dev *);
    wane_status (*recorded)(wane_dev *, wane_recording **out); /* out NULL on failure */
    wane_status (*replay)(wane_dev *, wane_recording *);
    void (*forget)(wane_dev *, wane_recording *); /* NULL is fine */

    /* matrices of any shape; x and y may be the same for convert (same dtype), binary and unary */
    wane_status (*convert)(wane_dev *, wane_mat y, wane_mat x); /* dtypes differ; integers saturate */
    wane_status (*binary)(wane_dev *, wane_mat y, wane_mat a, wane_mat b,
                          wane_binary_op); /* a or b with one row, one column or both is repeated */
    wane_status (*unary)(wane_dev *, wane_mat y, wane_mat x, wane_unary_op);
    wane_status (*reduce)(wane_dev *, wane_mat y, wane_mat x,
                          wane_reduce_op); /* F32 y (rows,1), (1,cols) or (1,1); float64 inside */
    wane_status (*transpose)(wane_dev *, wane_mat y, wane_mat x); /* same dtype; y (cols,rows) */
    wane_status (*finite)(wane_dev *, wane_mat count, wane_mat x); /* I64 (1,1) of NaN and Inf */
    wane_status (*matmul)(wane_dev *, wane_mat y, wane_mat x,
                          wane_mat w); /* (n,m) = (n,k) (m,k)^T; any float dtypes */

    /* statistics of activations x (n,k); c (n,1) F32 weights of the tokens, may be none (all 1) */
    wane_status (*gram)(wane_dev *, wane_mat h, wane_mat x,
                        wane_mat c); /* F32 (k,k) += x^T diag(c) x, both triangles */
    wane_status (*column_max)(wane_dev *, wane_mat s, wane_mat x,
                              wane_mat c); /* F32 (1,k) = max(s, |x|) where c > 0 */
    wane_status (*column_sum)(wane_dev *, wane_mat s, wane_mat x,
                              wane_mat c); /* F32 (1,k) += sum c |x| */

    /* quantization; w is F32 (m,k) */
    wane_status (*fit_grid)(wane_dev *, wane_qmat q, wane_mat w,
                            wane_mat clip); /* scale and zero from [min,max] with 0 inside (asymmetric) or max|w|
                                               (symmetric), times clip F32 (m,k/g), may be none */
    wane_status (*encode)(wane_dev *, wane_qmat q, wane_mat w); /* words from w, on q's grid */
    wane_status (*decode)(wane_dev *, wane_mat w, wane_qmat q); /* any float dtype */
    wane_status (*pack)(wane_dev *, wane_qmat q, wane_mat codes);   /* U8 (m,k) -> words */
    wane_status (*unpack)(wane_dev *, wane_mat codes, wane_qmat q); /* words -> U8 (m,k) */
    wane_status (*qmatmul)(wane_dev *, wane_mat y, wane_mat x,
                           wane_qmat q); /* y = x decode(q)^T; where x is narrower than F32, weights may be
                                            rounded to its type for more than 8 rows */
    wane_status (*gram_error)(wane_dev *, wane_mat e, wane_mat d,
                              wane_mat h); /* F32 (1,1) = tr(d h d^T), d (m,k), h (k,k) or (1,k): its diagonal */
    wane_status (*inverse_factor)(wane_dev *, wane_mat h, wane_mat order,
                                  float damp); /* in place: h permuted by order I32 (1,k) (may be none: as it is),
                                                  damp * mean(diag) added, then the upper U with h^-1 = U^T U.
                                                  An input with h_ii = 0 counts as 1 there, and its row of U is
                                                  negative, which tells gptq. ENUMERIC where h is not positive
                                                  definite; h is then spoilt */
    wane_status (*gptq)(wane_dev *, wane_qmat q, wane_mat codes, wane_mat w, wane_mat u,
                        wane_mat order); /* column by column; fits each group's grid on the updated w when the
                                            group is reached; codes U8 (m,k) in w's own order of columns, and
                                            q's words (may be none); w is consumed. order keeps groups whole
                                            (may be none); weights of inputs with u_ii < 0 are taken as 0 */
    wane_status (*hqq)(wane_dev *, wane_qmat q, wane_mat w,
                       wane_hqq_options); /* best F32 zero of each group, on fit_grid's scale; fills q */
    wane_status (*refit)(wane_dev *, wane_qmat q, wane_mat w,
                         int rounds); /* integer zero: alternates scale by least squares and codes; keeps the best of
                                         each group by sum|w - decoded|; q is full before and after */
    wane_status (*clip_search)(wane_dev *, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h, int steps,
                               float most); /* F32 (m,k/g): of 1, 1-1/steps, .. above 1-most, the factor that
                                               loses least by h's diagonal g x g blocks, h (k,k) or (1,k): its diagonal;
                                               of equals the largest. q's words may be none, the rest is scratch */

    /* the transformer; products and heads are meant for few tokens, where starting a slot costs more
     * than its work: for many, the slots that they stand for are as fast */
    wane_status (*products)(wane_dev *, const wane_products *);
    wane_status (*heads)(wane_dev *, const wane_heads *);
    wane_status (*embed)(wane_dev *, wane_mat y, wane_mat ids, wane_mat table); /* ids I32 (n,1) */
    wane_status (*rmsnorm)(wane_dev *, wane_mat y, wane_mat x, wane_mat gain, float eps); /* by row; y may be x */
    wane_status (*rope)(wane_dev *, wane_mat x, wane_mat position, wane_mat frequency,
                        float scale); /* in place: x (n, h*d), position I32 (n,1), frequency F32 (1,d/2), pairs
                                         (i, i+d/2) as in Hugging Face models; scale times sine and cosine */
    wane_status (*store)(wane_dev *, wane_mat pool, wane_mat x, wane_mat row); /* pool[row[i]] = x[i] */
    wane_status (*attend)(wane_dev *, wane_mat y, wane_mat q, wane_mat keys, wane_mat values,
                          const wane_attention *); /* y, q (n, h*d); pools (rows, kv_heads*d) */
    wane_status (*silu_mul)(wane_dev *, wane_mat y, wane_mat gate, wane_mat up); /* y may be gate */
    wane_status (*take_rows)(wane_dev *, wane_mat y, wane_mat x, wane_mat row); /* y[i] = x[row[i]] */
    wane_status (*argmax)(wane_dev *, wane_mat ids, wane_mat x); /* I32 (n,1); the lowest of equals; -1 for NaN */
    wane_status (*advance)(wane_dev *, const wane_growth *);
    wane_status (*log_prob)(wane_dev *, wane_mat y, wane_mat logits,
                            wane_mat ids); /* F32 (n,1) log softmax at ids */
    wane_status (*divergence)(wane_dev *, wane_mat y, wane_mat p,
                              wane_mat q); /* F32 (n,1) KL(softmax p || softmax q), nats */
} wane_kernels;

#define WANE_KERNELS_ABI 5u

const wane_kernels *wane_cpu_kernels(void);

/* bytes of one element */
static inline size_t wane_dtype_bytes(wane_dtype t)
{
    return t == WANE_I64 ? 8 : t == WANE_F32 || t == WANE_I32 ? 4 : t == WANE_F16 || t == WANE_BF16 ? 2 : 1;
}

#ifdef __cplusplus
}
#endif
#endif
