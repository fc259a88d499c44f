/* rtn.c - round to nearest: every weight to the nearest point of its group's min-max grid.
 *
 * The baseline that every method's error stands beside, and what the driver falls back to. */
#include "runtime/quant/quant.h"

static uint64_t scratch(const wane_plan *p, int64_t m, int64_t k)
{
    (void)p, (void)m, (void)k;
    return 0;
}

static const wane_option options[] = {{NULL, WANE_BOOLEAN, 0, 0, 0, NULL, NULL}};

const wane_method wane_method_rtn = {
    .name = "rtn",
    .paper = "round to nearest, the plain baseline",
    .doc = "every weight to the nearest point of its group's grid; from the weights alone",
    .options = options,
    .scratch = scratch,
    .encode = wane_job_round,
};
