/* quant.h - what a quantization method is.
 *
 * A method is one file and one line in methods.def. It turns a matrix w (m,k) into codes on a grid,
 * and may first choose a scale s (1,k) for the columns of the matrices that read one input x (n,k).
 * It owns no memory, gathers no statistics and applies no scales: the driver does (stage.h). What
 * it knows of x is in the job: gram h (k,k), the mean of x^T x over the calibration tokens; mean
 * (1,k) of |x|; max (1,k) of |x|. What it works in was announced by `scratch`; what it found out it
 * notes, and the notes stand in the report beside the error.
 *
 * Its Lua name, its options with their checks, help, tables and the tests of methods_spec.lua
 * follow from its wane_method, without a line more. */
#ifndef WANE_QUANT_H
#define WANE_QUANT_H

#include "runtime/tensor/quantized.h"

typedef struct wane_method wane_method;

/* WHOLE: the gram matrix is solved with, or decides much: of all tokens. Else, to measure what is
 * lost, it is of as many as that takes. */
typedef enum {
    WANE_NEED_GRAM = 1,
    WANE_NEED_MEAN = 2,
    WANE_NEED_MAX = 4,
    WANE_NEED_WHOLE = 8
} wane_need;

typedef enum { WANE_BOOLEAN, WANE_INTEGER, WANE_NUMBER, WANE_CHOICE } wane_option_kind;

typedef struct {
    const char *name; /* NULL ends a list */
    wane_option_kind kind;
    double otherwise;    /* the default: of a boolean 0 or 1, of a choice its place from 0 on; NAN:
                            it depends on other options, as doc says */
    double least, most;  /* of a number */
    const char *choices; /* the only values, with spaces between; NULL: any from least to most */
    const char *doc;     /* one line */
} wane_option;

enum { WANE_OPTIONS = 16, WANE_NOTES = 8 };

/* A method with all its options settled. */
typedef struct {
    const wane_method *method;
    double value[WANE_OPTIONS]; /* by wane_method_option's numbers; NAN: not given */
    int bits, act_bits;         /* act_bits 8 or 0, as in wane_qmat */
    int64_t group;              /* -1: whole rows */
    bool symmetric;
    bool float_zero;        /* zeros are kept as F32, not as U8 */
    wane_dtype scale_dtype; /* of the scales, as they will be stored; WANE_DTYPES: the weights' */
} wane_plan;

typedef struct {
    const char *name; /* static: "damp" */
    double value;
} wane_note;

/* The work on matrices that read one input. All memory is the driver's. */
typedef struct {
    const wane_plan *plan;
    wane_device *device;
    const char *matrix; /* which one is encoded: "self_attn.q_proj"; "" for one on its own */
    int64_t k;          /* columns of the input */
    wane_mat gram;      /* F32 (k,k); or (1,k), its diagonal, where the method does not need more */
    wane_mat mean, max; /* F32 (1,k); data NULL where not needed */
    wane_dtype scale_dtype; /* of the grids' scales */
    wane_mat kept[2];       /* the method's own, taken in prepare for encode */
    /* What becomes of s [k] where it is divided out of weights that are stored rounded; may be
     * NULL. */
    void (*snap)(const void *fold, float *s, int64_t k);
    const void *fold;
    unsigned char *scratch; /* device memory */
    uint64_t scratch_bytes, scratch_used;
    wane_note note[WANE_NOTES];
    int notes;
} wane_job;

struct wane_method {
    const char *name;           /* also in Lua: wane.hqq { ... } */
    const char *paper;          /* who, when, where */
    const char *doc;            /* one line: what it does and what it needs */
    unsigned needs;             /* WANE_NEED_...: without any it works from the weights alone */
    unsigned stages;            /* bit s: rescale is for the matrices of stage s (model/block.h) */
    const wane_option *options; /* its own; one with the name of a common option takes its place */

    /* Settles defaults that depend on other options and refuses what cannot be; may be NULL. */
    wane_status (*settle)(wane_plan *, wane_err *);
    /* What it takes of scratch at most, for matrices of up to m rows and k columns. */
    uint64_t (*scratch)(const wane_plan *, int64_t m, int64_t k);
    /* s F32 (1,k), all 1 before and > 0 after, for the n matrices w (any float dtype) that read the
     * input; may be NULL. At a stage where heads share inputs it is a function of mean and max. */
    wane_status (*rescale)(wane_job *, wane_mat s, const wane_mat *w, int n, wane_err *);
    /* Once for all matrices that read the input, with the statistics after rescaling; may be NULL.
     * ENUMERIC: the method cannot work here, and the driver rounds to nearest. */
    wane_status (*prepare)(wane_job *, wane_err *);
    /* All of q from w F32 (m,k), which it may spoil. Scratch taken here is given back by the
     * driver. */
    wane_status (*encode)(wane_job *, wane_qmat q, wane_mat w, wane_err *);
};

extern const wane_method *const wane_methods[];        /* ends with NULL */
const wane_method *wane_method_find(const char *name); /* NULL where there is none */
/* Options common to all and then the method's own, from 0 on; NULL after the last. */
const wane_option *wane_method_option(const wane_method *, int i);

/* Defaults; then set and choose for what is given; then settle. EARG names the option and what was
 * meant or what it can be. A boolean is 0 or 1; choose is for WANE_CHOICE. */
void wane_plan_start(wane_plan *, const wane_method *);
wane_status wane_plan_set(wane_plan *, const char *option, double value, wane_err *e);
wane_status wane_plan_choose(wane_plan *, const char *option, const char *word, wane_err *e);
wane_status wane_plan_settle(wane_plan *, wane_err *e);
double wane_plan_get(const wane_plan *, const char *option); /* NAN where not given, or none such */
/* Replaces what was not given: for settle. */
void wane_plan_default(wane_plan *, const char *option, double value);
/* "w4 g64", "w3 g32 sym", "w4 row" for a group of -1, "w8a8"; without the method. Returns out. */
const char *wane_grid_label(char *out, size_t size, int bits, int act_bits, int64_t group,
                            bool symmetric);

/* Scratch. bytes: what take takes; take gives data NULL where more is taken than was announced. */
uint64_t wane_grid_bytes(const wane_plan *, int64_t m, int64_t k);
wane_mat wane_job_take(wane_job *, wane_dtype, int64_t rows, int64_t cols);
wane_qmat wane_job_take_grid(wane_job *, int64_t m, int64_t k); /* the plan's grid, integer zeros */
int64_t wane_plan_group(const wane_plan *, int64_t k);          /* g: k for whole rows */

void wane_job_note(wane_job *, const char *name,
                   double value); /* a name again replaces its value */

/* Round to nearest: fits q's grid to w and encodes w in it. */
wane_status wane_job_round(wane_job *, wane_qmat q, wane_mat w, wane_err *e);
/* tr(d h d^T) of d = decode(q) / s - w, where s has data, else of d = decode(q) - w; work F32 (m,k)
 * is spoilt. */
wane_status wane_job_loss(wane_job *, wane_qmat q, wane_mat w, wane_mat s, wane_mat work,
                          double *loss, wane_err *e);

/* Candidate i of a search: s [k] from the statistics; all > 0. */
typedef void (*wane_candidate)(const void *self, int i, float *s, int64_t k);

/* s = candidate i, as it can be divided out of what makes the input. */
wane_status wane_job_put_scale(wane_job *, wane_mat s, wane_candidate, const void *self, int i,
                               wane_err *e);
/* Of `count` candidates the s that loses least when w * s is rounded to nearest on the plan's grid,
 * summed over the n matrices, none of which may lose to its own plain rounding: where all do, s is
 * 1 and *best -1. Scratch: wane_search_bytes. */
wane_status wane_job_search(wane_job *, wane_mat s, const wane_mat *w, int n, int count,
                            wane_candidate, const void *self, int *best, wane_err *e);
uint64_t wane_search_bytes(const wane_plan *, int64_t m, int64_t k);

#endif
