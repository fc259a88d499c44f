/* test_inventory.c - checkpoints that are quantized already, do not fit their config, hold NaN; and
 * what is odd and does no harm. Each is a tiny model with something changed. */
#include "tests/c/test.h"

#include <string.h>

#include "runtime/save/survey.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"
#include "tests/c/models.h"

/* A tiny model's tensors and config, to be changed and written to a folder of their own. */
typedef struct {
    char *dir;
    json_t *config;
    wane_device *d;
    char *name[40];
    wane_tensor *tensor[40];
    size_t count;
} copy;

static copy *copy_model(const char *path)
{
    copy *c = calloc(1, sizeof *c);
    wane_err e;
    wane_checkpoint *source;
    c->d = test_device(UINT64_MAX);
    c->dir = test_folder();
    assert_int_equal(wane_checkpoint_open(test_tree(path), &source, &e), WANE_OK);
    c->config = json_deep_copy(source->config.json);
    for (c->count = 0; c->count < source->count; c->count++) {
        const wane_located *t = &source->tensor[c->count];
        c->name[c->count] = strdup(t->entry->name);
        assert_int_equal(wane_safetensors_load(t->shard, t->entry, c->d, &c->tensor[c->count], &e),
                         WANE_OK);
    }
    wane_checkpoint_release(source);
    return c;
}

static size_t copy_index(const copy *c, const char *name)
{
    for (size_t i = 0; i < c->count; i++)
        if (!strcmp(c->name[i], name)) return i;
    fail_msg("no %s", name);
    return 0;
}

static void copy_put(copy *c, const char *name, wane_dtype dtype, int64_t rows, int64_t cols)
{
    size_t i = 0;
    wane_err e;
    int64_t shape[] = {rows, cols};
    while (i < c->count && strcmp(c->name[i], name)) i++;
    if (i == c->count) c->name[c->count++] = strdup(name);
    wane_tensor_release(c->tensor[i]);
    assert_int_equal(wane_tensor_zeros(c->d, dtype, cols ? 2 : 1, shape, &c->tensor[i], &e),
                     WANE_OK);
}

static void copy_rename(copy *c, const char *from, const char *to)
{
    size_t i = copy_index(c, from);
    free(c->name[i]);
    c->name[i] = strdup(to);
}

/* Writes it and tries to make a model. */
static wane_status copy_open(copy *c, wane_model **m, wane_err *e)
{
    wane_named list[40];
    wane_checkpoint *checkpoint;
    char *text = json_dumps(c->config, 0);
    test_write(test_path(c->dir, "config.json"), text, strlen(text));
    free(text);
    for (size_t i = 0; i < c->count; i++) list[i] = (wane_named){c->name[i], c->tensor[i]};
    *m = NULL;
    wane_status s =
        wane_safetensors_write(test_path(c->dir, "model.safetensors"), list, c->count, NULL, e);
    if (!s) s = wane_checkpoint_open(c->dir, &checkpoint, e);
    if (s) return s;
    s = wane_model_new(checkpoint, c->d, c->d, m, e);
    wane_checkpoint_release(checkpoint);
    return s;
}

static void copy_free(copy *c)
{
    for (size_t i = 0; i < c->count; i++) {
        wane_tensor_release(c->tensor[i]);
        free(c->name[i]);
    }
    json_decref(c->config);
    wane_device_release(c->d);
    test_folder_remove(c->dir);
    free(c);
}

static void copy_refused(copy *c, wane_status wanted, const char *const *says)
{
    wane_model *m;
    wane_err e;
    wane_status s = copy_open(c, &m, &e);
    if (s != wanted) fail_msg("wanted %d, got %d %s", wanted, s, s ? e.message : "");
    for (; *says; says++)
        if (!strstr(e.message, *says)) fail_msg("no \"%s\" in: %s", *says, e.message);
    assert_null(m);
    copy_free(c);
}

#define QWEN2 "tests/reference/tiny/qwen2"
#define SAYS(...)                                                                                  \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define Q_PROJ "model.layers.0.self_attn.q_proj.weight"

static void refuses_quantized(void **state)
{
    (void)state;
    /* bitsandbytes: the weight is bytes in a column */
    copy *c = copy_model(QWEN2);
    copy_put(c, Q_PROJ, WANE_U8, 2048, 1);
    copy_put(c, Q_PROJ ".absmax", WANE_F32, 64, 0);
    copy_refused(c, WANE_EUNSUPPORTED,
                 SAYS("model.safetensors", Q_PROJ " is U8 (2048, 1)", "(64, 64)",
                      "quantized already", "use the base model"));
    /* the same, and config.json says so */
    c = copy_model(QWEN2);
    copy_put(c, Q_PROJ, WANE_U8, 2048, 1);
    json_object_set_new(c->config, "quantization_config",
                        json_pack("{s:s}", "quant_method", "bitsandbytes"));
    copy_refused(c, WANE_EUNSUPPORTED,
                 SAYS("config.json", "bitsandbytes", Q_PROJ " is U8 (2048, 1)", "(64, 64)",
                      "use the base model"));
    /* GPTQ or AWQ, and config.json does not say so */
    c = copy_model(QWEN2);
    copy_rename(c, Q_PROJ, "model.layers.0.self_attn.q_proj.qweight");
    copy_refused(c, WANE_EUNSUPPORTED, SAYS("q_proj.qweight", "quantized already"));
}

static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    copy *c = copy_model(QWEN2);
    copy_put(c, Q_PROJ, WANE_BF16, 64, 32);
    copy_refused(c, WANE_EFORMAT, SAYS(Q_PROJ " is BF16 (64, 32), expected (64, 64)"));
    c = copy_model(QWEN2);
    copy_put(c, "model.norm.weight", WANE_I32, 64, 0);
    copy_refused(c, WANE_EUNSUPPORTED, SAYS("model.norm.weight is I32 (64)"));
    c = copy_model(QWEN2);
    copy_rename(c, Q_PROJ, "model.layers.0.self_attn.q_prj.weight");
    copy_rename(c, "model.layers.1.mlp.up_proj.weight", "something.else");
    copy_refused(c, WANE_EFORMAT,
                 SAYS("2 tensors are missing: " Q_PROJ ", model.layers.1.mlp.up_proj.weight",
                      "nearest to the first: model.layers.0.self_attn.q_prj.weight",
                      "unexpected: ", "something.else"));
    c = copy_model(QWEN2);
    copy_put(c, "model.layers.0.self_attn.o_proj.bias", WANE_BF16, 64, 0);
    copy_refused(c, WANE_EFORMAT, SAYS("no use for", "o_proj.bias"));
    c = copy_model(QWEN2);
    json_object_set_new(c->config, "num_hidden_layers", json_integer(1));
    json_object_del(c->config, "layer_types");
    copy_refused(c, WANE_EFORMAT, SAYS("12 tensors", "model.layers.1."));
    c = copy_model(QWEN2);
    json_object_set_new(c->config, "tie_word_embeddings", json_false());
    copy_refused(c, WANE_EFORMAT, SAYS("1 tensors are missing: lm_head.weight"));
}

/* A head that is there though it is tied, tables of old files, names without "model.". */
static void accepts_what_does_no_harm(void **state)
{
    (void)state;
    copy *c = copy_model(QWEN2);
    wane_model *m;
    wane_err e;
    const int32_t ids[] = {1, 2, 3};
    wane_model *original = test_model_open(QWEN2, c->d);
    float *expected = test_model_logits(original, ids, 3);
    copy_put(c, "lm_head.weight", WANE_BF16, 320, 64);
    copy_put(c, "model.layers.0.self_attn.rotary_emb.inv_freq", WANE_F32, 8, 0);
    for (size_t i = 0; i < c->count; i++)
        if (!strncmp(c->name[i], "model.", 6))
            memmove(c->name[i], c->name[i] + 6, strlen(c->name[i]) - 5);
    if (copy_open(c, &m, &e)) fail_msg("%s", e.message);
    float *got = test_model_logits(m, ids, 3);
    assert_memory_equal(got, expected, 3 * 320 * sizeof *got);
    free(got), free(expected);
    wane_model_release(m);
    wane_model_release(original);
    copy_free(c);
}

static bool first_layer(const wane_checkpoint *c, const char *matrix)
{
    (void)c;
    return !strncmp(matrix, "model.layers.0.", 15) && strstr(matrix, "_proj");
}

/* A survey has every tensor that is wrong; what is kept as codes is another's to look at. */
static void surveys(void **state)
{
    (void)state;
    copy *c = copy_model(QWEN2);
    wane_model *m;
    wane_checkpoint *checkpoint;
    wane_findings all = {0};
    wane_err e;
    copy_put(c, Q_PROJ, WANE_BF16, 64, 32);
    copy_put(c, "model.layers.1.mlp.up_proj.weight", WANE_BF16, 3, 64);
    copy_put(c, "model.layers.1.mlp.down_proj.weight", WANE_I32, 64, 160);
    copy_rename(c, "model.norm.weight", "model.nrom.weight");
    assert_int_equal(copy_open(c, &m, &e), WANE_EFORMAT);
    assert_int_equal(wane_checkpoint_open(c->dir, &checkpoint, &e), WANE_OK);
    assert_int_equal(wane_checkpoint_survey_tensors(checkpoint, NULL, &all, &e), WANE_EFORMAT);
    assert_int_equal(all.count, 4);
    assert_true(test_listed(&all, Q_PROJ " is BF16 (64, 32)"));
    assert_true(test_listed(&all, "up_proj.weight is BF16 (3, 64), expected (160, 64)"));
    assert_true(test_listed(&all, "down_proj.weight is I32 (64, 160)"));
    assert_true(test_listed(&all, "missing: model.norm.weight (nearest to the first: model.nrom"));
    assert_string_equal(all.item[0].message, e.message);
    wane_findings_free(&all);
    assert_int_equal(wane_checkpoint_survey_tensors(checkpoint, first_layer, &all, &e),
                     WANE_EUNSUPPORTED); /* in the order of names */
    assert_int_equal(all.count, 3);
    assert_false(test_listed(&all, Q_PROJ));
    wane_findings_free(&all);
    assert_int_equal(wane_checkpoint_survey_tensors(checkpoint, NULL, &all, NULL), WANE_EFORMAT);
    assert_int_equal(all.count, 4);
    wane_findings_free(&all);
    wane_checkpoint_release(checkpoint);
    copy_free(c);
}

/* Every allocation of a survey fails once: it says so, or has all of what it says else. */
static void survey_without_memory(void **state)
{
    (void)state;
    copy *c = copy_model(QWEN2);
    wane_model *m;
    wane_err e;
    wane_survey v;
    json_malloc_t old_malloc;
    json_free_t old_free;
    copy_put(c, Q_PROJ, WANE_BF16, 64, 32);
    copy_rename(c, "model.norm.weight", "model.nrom.weight");
    json_object_set_new(c->config, "rms_norm_eps", json_integer(0));
    for (int sound = 0; sound < 2;
         sound++) { /* a config that is wrong, then only tensors that are */
        if (sound) json_object_set_new(c->config, "rms_norm_eps", json_real(1e-6));
        assert_int_equal(copy_open(c, &m, &e), WANE_EFORMAT);
        json_get_alloc_funcs(&old_malloc, &old_free);
        json_set_alloc_funcs(malloc, free);
        int n = 0, files = test_open_files();
        for (bool failed = true; failed; n++) {
            test_malloc_fail_after(n);
            wane_status s = wane_survey_folder(c->dir, &v, &e);
            failed = test_malloc_failed();
            test_malloc_fail_after(-1);
            if (s) assert_true(s == WANE_EOOM && failed && e.message[0]);
            if (!failed) assert_int_equal(v.all.count, sound ? 2 : 1);
            wane_survey_clear(&v);
            assert_int_equal(test_open_files(), files);
        }
        json_set_alloc_funcs(old_malloc, old_free);
        assert_true(n > 50);
    }
    copy_free(c);
}

/* The first two hundred are kept, and the rest are counted. */
static void counts_findings(void **state)
{
    (void)state;
    wane_findings all = {0};
    wane_err e;
    for (int i = 0; i < 203; i++) {
        wane_fail(&e, WANE_EFORMAT, "problem %d", i);
        assert_int_equal(wane_findings_add(&all, &e), WANE_EFORMAT);
    }
    assert_true(all.count == 200 && all.more == 3);
    assert_string_equal(all.item[199].message, "problem 199");
    assert_int_equal(wane_findings_add(NULL, &e), WANE_EFORMAT);
    wane_findings_free(&all);
    assert_null(all.item);
}

static void finds_nan(void **state)
{
    (void)state;
    static const struct {
        wane_dtype dtype;
        uint32_t bits;
    } plant[] = {{WANE_BF16, 0x7fc0}, {WANE_BF16, 0xff80},     {WANE_F16, 0x7c00},
                 {WANE_F16, 0xfe01},  {WANE_F32, 0x7f800000u}, {WANE_F32, 0xffc00001u}};
    for (size_t i = 0; i < sizeof plant / sizeof *plant; i++) {
        copy *c = copy_model(QWEN2);
        wane_model *m;
        wane_err e;
        copy_put(c, Q_PROJ, plant[i].dtype, 64, 64);
        if (copy_open(c, &m, &e)) fail_msg("%s", e.message);
        assert_int_equal(wane_checkpoint_check_finite(m->checkpoint, NULL, &e), WANE_OK);
        wane_model_release(m);
        wane_tensor *t = c->tensor[copy_index(c, Q_PROJ)];
        size_t width = wane_dtype_bytes(plant[i].dtype);
        char *data = wane_tensor_mat(t).data; /* the CPU's memory is the host's */
        memcpy(data + 777 * width, &plant[i].bits, width);
        memcpy(data + 4095 * width, &plant[i].bits, width);
        if (copy_open(c, &m, &e)) fail_msg("%s", e.message);
        assert_int_equal(wane_checkpoint_check_finite(m->checkpoint, NULL, &e), WANE_ENUMERIC);
        assert_non_null(strstr(e.message, Q_PROJ " has 2 values"));
        assert_non_null(strstr(e.message, "at element 778"));
        assert_string_equal(e.tensor, Q_PROJ);
        wane_findings all = {0};
        assert_int_equal(wane_checkpoint_survey_finite(m->checkpoint, NULL, &all, &e), WANE_OK);
        assert_int_equal(all.count, 1);
        assert_string_equal(all.item[0].tensor, Q_PROJ);
        wane_findings_free(&all);
        wane_model_release(m);
        copy_free(c);
    }
}

int test_inventory(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_quantized),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(accepts_what_does_no_harm),
        cmocka_unit_test(finds_nan),
        cmocka_unit_test(surveys),
        cmocka_unit_test(counts_findings),
        cmocka_unit_test(survey_without_memory),
    };
    return cmocka_run_group_tests_name("inventory", tests, NULL, NULL);
}
