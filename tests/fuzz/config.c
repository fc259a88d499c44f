/* config.c - config.json and, after a byte 0, generation_config.json: what is taken is within its
 * bounds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/model.h"
#include "tests/fuzz/fuzz.h"

static void check(const wane_config *c)
{
    FUZZ_CHECK(c->family && c->hidden >= 1 && c->hidden <= 65536 && c->layers >= 1);
    FUZZ_CHECK(c->layers <= 1024 && c->heads >= 1 && c->heads <= 1024 &&
               c->heads % c->kv_heads == 0);
    FUZZ_CHECK(c->head_dim >= 2 && c->head_dim % 2 == 0 && c->vocabulary >= 1 && c->mlp >= 1);
    FUZZ_CHECK(c->eps > 0 && c->eps < 1 && c->rope_theta > 0 && isfinite(c->rope_theta));
    FUZZ_CHECK(c->bos < c->vocabulary && c->pad < c->vocabulary);
    for (int i = 0; i < c->n_eos; i++) FUZZ_CHECK(c->eos[i] >= 0 && c->eos[i] < c->vocabulary);
    float *f = malloc((size_t)c->head_dim / 2 * sizeof *f);
    wane_config_frequencies(c, f);
    for (int64_t i = 0; i < c->head_dim / 2; i++) FUZZ_CHECK(isfinite(f[i]) && f[i] >= 0);
    FUZZ_CHECK(c->rope_gain > 0 && isfinite(c->rope_gain));
    free(f);
    for (int id = 0; id < WANE_LINEARS; id++) {
        int64_t m, k;
        wane_linear_shape(c, (wane_linear_id)id, &m, &k);
        FUZZ_CHECK(m > 0 && k > 0 && m <= INT64_MAX / k / 8);
    }
    wane_config_quantization(c);
}

/* A survey ends as loading does, and what it tells first is that. */
static void survey(wane_status wanted, const wane_err *first)
{
    wane_findings all = {0};
    wane_config c;
    wane_err e;
    wane_status s = wane_config_survey(fuzz_folder(), &c, &all, &e);
    FUZZ_CHECK(s == wanted && !s == !all.count && !s == !!c.json);
    if (s) FUZZ_CHECK(!strcmp(e.message, first->message));
    if (s) FUZZ_CHECK(!strcmp(all.item[0].message, first->message));
    for (size_t i = 0; i < all.count; i++) fuzz_status(all.item[i].status, &all.item[i]);
    wane_findings_free(&all);
    wane_config_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_part rest = {data, size}, part;
    wane_config c;
    wane_err e;
    fuzz_next(&rest, &part);
    fuzz_write("config.json", part.data, part.size);
    if (rest.data)
        fuzz_write("generation_config.json", rest.data, rest.size);
    else
        unlink(fuzz_path("generation_config.json"));
    wane_status s = fuzz_status(wane_config_load(fuzz_folder(), &c, &e), &e);
    if (!s) {
        check(&c);
        wane_config_free(&c);
    }
    survey(s, &e);
    return 0;
}
