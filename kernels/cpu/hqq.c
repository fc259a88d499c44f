/* hqq.c - grids that need no data: hqq (a better zero for each group) and refit (a better scale).
 *
 * Badri and Shaji 2023, "Half-Quadratic Quantization", mobiusml.github.io/hqq_blog: minimise
 * |w - decoded|^p, p < 1, by alternating a shrinkage of the error e,
 *   e = sign(e) max(|e| - |e|^(p-1) / beta, 0),   and   z = mean(code - (w - e) / s).
 * Departures: the best zero of each group is kept (the authors stop all groups together when the
 * mean error of the matrix rises), judged by sum |w - decoded|; a tie keeps the older. The scale is
 * fit_grid's, as stored, and stays.
 *
 * refit is for integer zeros: codes for the scale and the scale for the codes by least squares,
 * s = sum w (c - z) / sum (c - z)^2, in turn; again the best of each group is kept. */
#include "kernels/cpu/cpu.h"

wane_status cpu_hqq(wane_dev *d, wane_qmat q, wane_mat w, wane_hqq_options o)
{
    int64_t m = w.rows;
    if (!cpu_valid_grid(&q, m, true) || !cpu_is(w, WANE_F32, m, q.k) || !q.zero.data ||
        q.zero.dtype != WANE_F32 || o.iterations < 0 || !(o.p < 1) || !(o.beta > 0) ||
        !(o.kappa > 0))
        return WANE_EARG;
#pragma omp parallel for num_threads(d->threads) schedule(dynamic, 8) if (m * q.k > 256)
    for (int64_t row = 0; row < m; row++) {
        for (int64_t i = 0; i < q.k / q.group; i++) {
            const float *from = cpu_f32(w, row) + i * q.group;
            cpu_grid g = cpu_fit(d, &q, from, 1);
            g.zero = d->loops->hqq_zero(from, q.group, &g, &o);
            cpu_grid_put(&q, row, i, &g);
        }
    }
    return cpu_encode(d, q, w);
}

/* best (g) has the group's codes and gets the better ones; trial (g) is scratch. */
static void refit_group(const wane_dev *d, const wane_qmat *q, int64_t row, int64_t group,
                        const float *w, uint8_t *best, uint8_t *trial, int rounds)
{
    int64_t g = q->group;
    cpu_grid grid = cpu_grid_at(q, row, group), kept = grid;
    cpu_residual now = d->loops->residual(w, best, g, &grid);
    double least = now.error;
    for (int i = 0; i < rounds; i++) {
        float scale = (float)(now.cross / now.square);
        if (!(now.square > 0) || !(scale > 0))
            break; /* all codes at zero, or a sign that no scale has */
        grid.scale = cpu_scale_round(q, scale);
        d->loops->encode(trial, w, g, &grid);
        now = d->loops->residual(w, trial, g, &grid);
        if (!(now.error < least)) continue;
        least = now.error;
        kept = grid;
        memcpy(best, trial, (size_t)g);
    }
    cpu_grid_put(q, row, group, &kept);
}

wane_status cpu_refit(wane_dev *d, wane_qmat q, wane_mat w, int rounds)
{
    int64_t m = w.rows;
    if (!cpu_valid_grid(&q, m, true) || !cpu_is(w, WANE_F32, m, q.k) || rounds < 0 || q.act_bits ||
        q.k + q.group > CPU_THREAD_BYTES)
        return WANE_EARG;
#pragma omp parallel num_threads(d->threads) if (m * q.k > CPU_SMALL)
    {
        uint8_t *codes = cpu_mine(d), *trial = codes + q.k;
#pragma omp for schedule(dynamic, 8)
        for (int64_t row = 0; row < m; row++) {
            uint32_t *words = cpu_at(q.words, row, 0);
            d->loops->unpack(codes, words, 0, q.k, q.bits);
            for (int64_t i = 0; i < q.k / q.group; i++)
                refit_group(d, &q, row, i, cpu_f32(w, row) + i * q.group, codes + i * q.group,
                            trial, rounds);
            d->loops->pack(words, codes, q.k, q.bits);
        }
    }
    return WANE_OK;
}
