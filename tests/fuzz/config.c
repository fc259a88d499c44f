/* config.c - config.json and, after a byte 0, generation_config.json: what is taken is within its
 * bounds. */
#include <math.h>
#include <stdlib.h>
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
    free(f);
    for (int id = 0; id < WANE_LINEARS; id++) {
        int64_t m, k;
        wane_linear_shape(c, (wane_linear_id)id, &m, &k);
        FUZZ_CHECK(m > 0 && k > 0 && m <= INT64_MAX / k / 8);
    }
    wane_config_quantization(c);
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
    if (!fuzz_status(wane_config_load(fuzz_folder(), &c, &e), &e)) {
        check(&c);
        wane_config_free(&c);
    }
    return 0;
}
