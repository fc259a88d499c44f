/* survey.c - see survey.h. */
#include "runtime/save/survey.h"

#include <string.h>

static void inspect(wane_survey *v, const char *name, int64_t m, int64_t k)
{
    wane_err e;
    wane_packed_about about;
    if (v->packing->holds(v->checkpoint, name) &&
        v->packing->inspect(v->checkpoint, name, m, k, &about, &e))
        wane_findings_add(&v->all, &e);
}

/* Every matrix that is kept as codes, as its packing wants it. */
static void inspect_codes(wane_survey *v)
{
    const wane_config *c = &v->checkpoint->config;
    char name[WANE_NAME];
    int64_t m, k;
    for (int i = 0; i < (int)c->layers; i++) {
        for (int id = 0; id < WANE_LINEARS; id++) {
            wane_linear_shape(c, id, &m, &k);
            inspect(v, wane_layer_name(name, i, wane_linear_name(id)), m, k);
        }
    }
    if (!c->tied) inspect(v, "lm_head", c->vocabulary, c->hidden);
}

wane_status wane_survey_folder(const char *dir, wane_survey *v, wane_err *e)
{
    memset(v, 0, sizeof *v);
    wane_status s = wane_checkpoint_survey(dir, &v->checkpoint, &v->all, e);
    v->files = v->all.count;
    if (s == WANE_EOOM) return s;
    if (!v->checkpoint || !v->checkpoint->config.json) return WANE_OK;
    const json_t *said = wane_config_quantization(&v->checkpoint->config);
    v->packing = said ? wane_packing_for(said) : NULL;
    s = wane_checkpoint_survey_tensors(v->checkpoint, v->packing ? v->packing->holds : NULL,
                                       &v->all, e);
    if (v->packing) inspect_codes(v);
    return s == WANE_EOOM ? s : WANE_OK;
}

void wane_survey_clear(wane_survey *v)
{
    wane_checkpoint_release(v->checkpoint);
    wane_findings_free(&v->all);
    memset(v, 0, sizeof *v);
}
