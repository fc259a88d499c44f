/* slots.h - the functions of the CUDA table, in kernels.h's order. */
#ifndef WANE_CUDA_SLOTS_H
#define WANE_CUDA_SLOTS_H

#include "kernels/kernels.h"

void cuda_close(wane_dev *);
const wane_kernels *cuda_table(void);

wane_status cuda_convert(wane_dev *, wane_mat y, wane_mat x);
wane_status cuda_binary(wane_dev *, wane_mat y, wane_mat a, wane_mat b, wane_binary_op);
wane_status cuda_unary(wane_dev *, wane_mat y, wane_mat x, wane_unary_op);
wane_status cuda_reduce(wane_dev *, wane_mat y, wane_mat x, wane_reduce_op);
wane_status cuda_transpose(wane_dev *, wane_mat y, wane_mat x);
wane_status cuda_finite(wane_dev *, wane_mat count, wane_mat x);
wane_status cuda_matmul(wane_dev *, wane_mat y, wane_mat x, wane_mat w);
wane_status cuda_gram(wane_dev *, wane_mat h, wane_mat x, wane_mat c);
wane_status cuda_column_max(wane_dev *, wane_mat s, wane_mat x, wane_mat c);
wane_status cuda_column_sum(wane_dev *, wane_mat s, wane_mat x, wane_mat c);
wane_status cuda_fit_grid(wane_dev *, wane_qmat q, wane_mat w, wane_mat clip);
wane_status cuda_encode(wane_dev *, wane_qmat q, wane_mat w);
wane_status cuda_decode(wane_dev *, wane_mat w, wane_qmat q);
wane_status cuda_pack(wane_dev *, wane_qmat q, wane_mat codes);
wane_status cuda_unpack(wane_dev *, wane_mat codes, wane_qmat q);
wane_status cuda_qmatmul(wane_dev *, wane_mat y, wane_mat x, wane_qmat q);
wane_status cuda_gram_error(wane_dev *, wane_mat e, wane_mat d, wane_mat h);
wane_status cuda_inverse_factor(wane_dev *, wane_mat h, wane_mat order, float damp);
wane_status cuda_gptq(wane_dev *, wane_qmat q, wane_mat codes, wane_mat w, wane_mat u, wane_mat order);
wane_status cuda_hqq(wane_dev *, wane_qmat q, wane_mat w, wane_hqq_options);
wane_status cuda_refit(wane_dev *, wane_qmat q, wane_mat w, int rounds);
wane_status cuda_clip_search(wane_dev *, wane_qmat q, wane_mat clip, wane_mat w, wane_mat h, int steps, float most);
wane_status cuda_products(wane_dev *, const wane_products *);
wane_status cuda_heads(wane_dev *, const wane_heads *);
wane_status cuda_embed(wane_dev *, wane_mat y, wane_mat ids, wane_mat table);
wane_status cuda_rmsnorm(wane_dev *, wane_mat y, wane_mat x, wane_mat gain, float eps);
wane_status cuda_rope(wane_dev *, wane_mat x, wane_mat position, wane_mat frequency, float scale);
wane_status cuda_store(wane_dev *, wane_mat pool, wane_mat x, wane_mat row);
wane_status cuda_attend(wane_dev *, wane_mat y, wane_mat q, wane_mat keys, wane_mat values, const wane_attention *);
wane_status cuda_silu_mul(wane_dev *, wane_mat y, wane_mat gate, wane_mat up);
wane_status cuda_take_rows(wane_dev *, wane_mat y, wane_mat x, wane_mat row);
wane_status cuda_argmax(wane_dev *, wane_mat ids, wane_mat x);
wane_status cuda_advance(wane_dev *, const wane_growth *);
wane_status cuda_log_prob(wane_dev *, wane_mat y, wane_mat logits, wane_mat ids);
wane_status cuda_divergence(wane_dev *, wane_mat y, wane_mat p, wane_mat q);

#endif
