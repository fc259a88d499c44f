/* quant.c - the table of methods, their options, and what a job hands out. See quant.h. */
#include "runtime/quant/quant.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/nearest.h"

#define WANE_METHOD(name) extern const wane_method wane_method_##name;
#include "runtime/quant/methods.def"
#undef WANE_METHOD

const wane_method *const wane_methods[] = {
#define WANE_METHOD(name) &wane_method_##name,
#include "runtime/quant/methods.def"
#undef WANE_METHOD
    NULL,
};

static const wane_option common[] = {
    {"bits", WANE_INTEGER, 4, 2, 8, "2 3 4 8", "bits of a code"},
    {"group_size", WANE_INTEGER, 64, -1, 128, "32 64 128 -1",
     "columns that share a scale; -1: the whole row"},
    {"symmetric", WANE_BOOLEAN, 0, 0, 1, NULL, "no zero points: the grid is centred on 0"},
    {"keep_lm_head", WANE_BOOLEAN, 1, 0, 1, NULL,
     "leave the output head as it is; a head that is the embedding always stays"},
    {NULL, WANE_BOOLEAN, 0, 0, 0, NULL, NULL},
};
enum { COMMON = sizeof common / sizeof *common - 1 };

const wane_method *wane_method_find(const char *name)
{
    for (const wane_method *const *m = wane_methods; *m; m++)
        if (!strcmp((*m)->name, name)) return *m;
    return NULL;
}

static const wane_option *find_option(const wane_option *list, const char *name)
{
    for (; list->name; list++)
        if (!strcmp(list->name, name)) return list;
    return NULL;
}

const wane_option *wane_method_option(const wane_method *m, int i)
{
    if (i < COMMON) {
        const wane_option *own = find_option(m->options, common[i].name);
        return own ? own : &common[i];
    }
    i -= COMMON;
    for (const wane_option *o = m->options; o->name; o++)
        if (!find_option(common, o->name) && i-- == 0) return o;
    return NULL;
}

/* The option's number, or -1. */
static int option_number(const wane_method *m, const char *name)
{
    const wane_option *o;
    for (int i = 0; (o = wane_method_option(m, i)); i++)
        if (!strcmp(o->name, name)) return i;
    return -1;
}

/* Place of word among the words of choices, from 0, or -1. */
static int word_place(const char *choices, const char *word, size_t length)
{
    int place = 0;
    for (const char *p = choices; *p; place++) {
        size_t n = strcspn(p, " ");
        if (n == length && !memcmp(p, word, n)) return place;
        p += n + (p[n] == ' ');
    }
    return -1;
}

void wane_plan_start(wane_plan *p, const wane_method *m)
{
    const wane_option *o;
    memset(p, 0, sizeof *p);
    p->method = m;
    p->scale_dtype = WANE_DTYPES;
    for (int i = 0; i < WANE_OPTIONS; i++) p->value[i] = NAN;
    for (int i = 0; (o = wane_method_option(m, i)); i++) p->value[i] = o->otherwise;
}

static wane_status unknown(const wane_plan *p, const char *option, wane_err *e)
{
    const char *names[WANE_OPTIONS];
    const wane_option *o;
    char shown[64];
    size_t count = 0;
    while ((o = wane_method_option(p->method, (int)count))) names[count++] = o->name;
    const char *meant = wane_nearest(option, names, count);
    wane_escape(shown, sizeof shown, option, strlen(option));
    if (!meant) return wane_fail(e, WANE_EARG, "wane.%s has no option %s", p->method->name, shown);
    return wane_fail(e, WANE_EARG, "wane.%s has no option %s; did you mean %s?", p->method->name,
                     shown, meant);
}

wane_status wane_plan_set(wane_plan *p, const char *option, double value, wane_err *e)
{
    int i = option_number(p->method, option);
    if (i < 0) return unknown(p, option, e);
    const wane_option *o = wane_method_option(p->method, i);
    const char *name = p->method->name;
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%.9g", value);
    if (o->kind == WANE_CHOICE || (o->kind == WANE_INTEGER && value != floor(value)))
        return wane_fail(e, WANE_EARG, "wane.%s: %s cannot be %s", name, option, digits);
    if (o->choices && word_place(o->choices, digits, (size_t)length) < 0)
        return wane_fail(e, WANE_EARG, "wane.%s: %s is one of %s, not %s", name, option, o->choices,
                         digits);
    if (!(value >= o->least && value <= o->most))
        return wane_fail(e, WANE_EARG, "wane.%s: %s is from %.9g to %.9g, not %s", name, option,
                         o->least, o->most, digits);
    p->value[i] = value;
    return WANE_OK;
}

wane_status wane_plan_choose(wane_plan *p, const char *option, const char *word, wane_err *e)
{
    int i = option_number(p->method, option);
    if (i < 0) return unknown(p, option, e);
    const wane_option *o = wane_method_option(p->method, i);
    int place = o->kind == WANE_CHOICE ? word_place(o->choices, word, strlen(word)) : -1;
    if (place < 0) {
        char shown[64];
        wane_escape(shown, sizeof shown, word, strlen(word));
        if (o->kind != WANE_CHOICE)
            return wane_fail(e, WANE_EARG, "wane.%s: %s cannot be \"%s\"", p->method->name, option,
                             shown);
        return wane_fail(e, WANE_EARG, "wane.%s: %s is one of %s, not %s", p->method->name, option,
                         o->choices, shown);
    }
    p->value[i] = place;
    return WANE_OK;
}

double wane_plan_get(const wane_plan *p, const char *option)
{
    int i = option_number(p->method, option);
    return i < 0 ? NAN : p->value[i];
}

void wane_plan_default(wane_plan *p, const char *option, double value)
{
    int i = option_number(p->method, option);
    if (i >= 0 && isnan(p->value[i])) p->value[i] = value;
}

wane_status wane_plan_settle(wane_plan *p, wane_err *e)
{
    wane_status s = p->method->settle ? p->method->settle(p, e) : WANE_OK;
    if (s) return s;
    p->bits = (int)wane_plan_get(p, "bits");
    p->group = (int64_t)wane_plan_get(p, "group_size");
    p->symmetric = wane_plan_get(p, "symmetric") != 0;
    return WANE_OK;
}

const char *wane_grid_label(char *out, size_t size, int bits, int act_bits, int64_t group,
                            bool symmetric)
{
    if (act_bits)
        snprintf(out, size, "w%da%d", bits, act_bits);
    else if (group < 0)
        snprintf(out, size, "w%d row%s", bits, symmetric ? " sym" : "");
    else
        snprintf(out, size, "w%d g%" PRId64 "%s", bits, group, symmetric ? " sym" : "");
    return out;
}

int64_t wane_plan_group(const wane_plan *p, int64_t k)
{
    return p->group < 0 ? k : p->group;
}

uint64_t wane_grid_bytes(const wane_plan *p, int64_t m, int64_t k)
{
    int64_t groups = k / wane_plan_group(p, k);
    return wane_mat_bytes(WANE_I32, m, (k * p->bits + 31) / 32) +
           wane_mat_bytes(WANE_F32, m, groups) + wane_mat_bytes(WANE_U8, m, groups);
}

wane_mat wane_job_take(wane_job *j, wane_dtype t, int64_t rows, int64_t cols)
{
    wane_mat m = {NULL, t, rows, cols, cols};
    uint64_t bytes = wane_mat_bytes(t, rows, cols);
    if (bytes > j->scratch_bytes - j->scratch_used) return m;
    m.data = j->scratch + j->scratch_used;
    j->scratch_used += bytes;
    return m;
}

wane_qmat wane_job_take_grid(wane_job *j, int64_t m, int64_t k)
{
    const wane_plan *p = j->plan;
    wane_qmat q = {
        .k = k, .group = wane_plan_group(p, k), .bits = p->bits, .act_bits = p->act_bits};
    q.words = wane_job_take(j, WANE_I32, m, (k * p->bits + 31) / 32);
    q.scale = wane_job_take(j, j->scale_dtype, m, k / q.group);
    if (!p->symmetric) q.zero = wane_job_take(j, WANE_U8, m, k / q.group);
    return q;
}

void wane_job_note(wane_job *j, const char *name, double value)
{
    for (int i = 0; i < j->notes; i++) {
        if (strcmp(j->note[i].name, name)) continue;
        j->note[i].value = value;
        return;
    }
    if (j->notes < WANE_NOTES) j->note[j->notes++] = (wane_note){name, value};
}

wane_status wane_job_round(wane_job *j, wane_qmat q, wane_mat w, wane_err *e)
{
    wane_mat none = {0};
    wane_status s = WANE_CALL(j->device, e, fit_grid, q, w, none);
    return s ? s : WANE_CALL(j->device, e, encode, q, w);
}

wane_status wane_job_loss(wane_job *j, wane_qmat q, wane_mat w, wane_mat s, wane_mat work,
                          double *loss, wane_err *e)
{
    wane_device *d = j->device;
    uint64_t used = j->scratch_used;
    wane_mat sum = wane_job_take(j, WANE_F32, 1, 1);
    float value = 0;
    wane_status st = WANE_CALL(d, e, decode, work, q);
    if (!st && s.data) st = WANE_CALL(d, e, binary, work, work, s, WANE_DIV);
    if (!st) st = WANE_CALL(d, e, binary, work, work, w, WANE_SUB);
    if (!st) st = WANE_CALL(d, e, gram_error, sum, work, j->gram);
    if (!st) st = WANE_CALL(d, e, get, &value, sum.data, sizeof value);
    j->scratch_used = used;
    *loss = value;
    return st;
}
