/* logits.c - what is read off rows of logits (n,v): argmax, log_prob, divergence.
 *
 * Exponentials are float32 of the difference to the row's largest, sums are float64. A task is a
 * row. */
#include "kernels/cpu/cpu.h"

/* Part of a row as float32: where it lies, or converted into buffer. */
static const float *part_of(const wane_dev *d, wane_mat x, int64_t row, int64_t at, int64_t n,
                            float *buffer)
{
    if (x.dtype == WANE_F32) return cpu_f32(x, row) + at;
    d->loops->load(buffer, cpu_at(x, row, at), x.dtype, n);
    return buffer;
}

static float row_most(const wane_dev *d, wane_mat x, int64_t row)
{
    float buffer[CPU_CHUNK], top = -INFINITY;
    for (int64_t at = 0; at < x.cols; at += CPU_CHUNK) {
        int64_t n = cpu_min(CPU_CHUNK, x.cols - at);
        float part = d->loops->most(part_of(d, x, row, at, n, buffer), n);
        top = top >= part || top != top ? top : part;
    }
    return top;
}

wane_status cpu_argmax(wane_dev *d, wane_mat ids, wane_mat x)
{
    if (!cpu_valid(x) || !cpu_is_float(x.dtype) || x.cols < 1 || x.cols > INT32_MAX ||
        !cpu_is(ids, WANE_I32, x.rows, 1))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (x.rows * x.cols > CPU_SMALL)
    for (int64_t i = 0; i < x.rows; i++) {
        float buffer[CPU_CHUNK], best = -INFINITY;
        int64_t found = 0;
        for (int64_t at = 0; at < x.cols && found >= 0; at += CPU_CHUNK) {
            int64_t n = cpu_min(CPU_CHUNK, x.cols - at);
            const float *part = part_of(d, x, i, at, n, buffer);
            float top = d->loops->most(part, n);
            if (top > best) {
                best = top;
                for (found = at; part[found - at] != top;) found++;
            } else if (top != top) {
                found = -1;
            }
        }
        *(int32_t *)cpu_at(ids, i, 0) = (int32_t)found;
    }
    return WANE_OK;
}

/* log of the sum of exp of a row. */
static double log_sum(const wane_dev *d, wane_mat x, int64_t row)
{
    float buffer[CPU_CHUNK], weight[CPU_CHUNK], top = row_most(d, x, row);
    double sum = 0;
    for (int64_t at = 0; at < x.cols; at += CPU_CHUNK) {
        int64_t n = cpu_min(CPU_CHUNK, x.cols - at);
        sum += d->loops->exp_sum(weight, part_of(d, x, row, at, n, buffer), top, n);
    }
    return top + log(sum);
}

wane_status cpu_log_prob(wane_dev *d, wane_mat y, wane_mat logits, wane_mat ids)
{
    int64_t n = logits.rows;
    if (!cpu_valid(logits) || !cpu_is_float(logits.dtype) || !cpu_is(y, WANE_F32, n, 1) ||
        !cpu_is(ids, WANE_I32, n, 1))
        return WANE_EARG;
    for (int64_t i = 0; i < n; i++) {
        int32_t id = *(const int32_t *)cpu_at(ids, i, 0);
        if (id < 0 || id >= logits.cols) return WANE_EARG;
    }
#pragma omp parallel for num_threads(d->threads) if (n * logits.cols > CPU_SMALL)
    for (int64_t i = 0; i < n; i++) {
        double own = cpu_get(logits, i, *(const int32_t *)cpu_at(ids, i, 0));
        *cpu_f32(y, i) = (float)(own - log_sum(d, logits, i));
    }
    return WANE_OK;
}

/* sum P log P / Q would be a small difference of large sums. As P and Q both sum to 1 it is also
 * sum P (d - 1 + exp(-d)), d = log P / Q, whose terms are all positive. */
wane_status cpu_divergence(wane_dev *d, wane_mat y, wane_mat p, wane_mat q)
{
    int64_t n = p.rows;
    if (!cpu_is_floats(p, n, q.cols) || !cpu_is_floats(q, n, p.cols) || !cpu_is(y, WANE_F32, n, 1))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) if (n * p.cols > CPU_SMALL)
    for (int64_t i = 0; i < n; i++) {
        float left[CPU_CHUNK], right[CPU_CHUNK];
        double p_sum = log_sum(d, p, i), q_sum = log_sum(d, q, i), sum = 0;
        for (int64_t at = 0; at < p.cols; at += CPU_CHUNK) {
            int64_t part = cpu_min(CPU_CHUNK, p.cols - at);
            const float *a = part_of(d, p, i, at, part, left),
                        *b = part_of(d, q, i, at, part, right);
            sum += d->loops->divergence(a, b, (float)p_sum, (float)q_sum, (float)(p_sum - q_sum),
                                        part);
        }
        *cpu_f32(y, i) = (float)sum;
    }
    return WANE_OK;
}
