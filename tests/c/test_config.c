/* test_config.c - config.json: what real models write, every number made wrong in every way, and
 * the rope frequencies. */
#include "tests/c/test.h"
#include "tests/c/models.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/model/config.h"

static char folder[] = "/tmp/wane-config-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : 1;
}

static int drop_folder(void **state)
{
    wane_err e;
    (void)state;
    return wane_dir_remove(folder, &e) ? 1 : 0;
}

static void write_text(const char *name, const char *text)
{
    char path[4200];
    wane_err e;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(wane_file_write_all(path, text, strlen(text), &e), WANE_OK);
}

static wane_status load_text(const char *text, wane_config *c, wane_err *e)
{
    write_text("config.json", text);
    return wane_config_load(folder, c, e);
}

static void write_json(const json_t *j)
{
    char *text = json_dumps(j, 0);
    write_text("config.json", text);
    free(text);
}

static wane_status load_json(const json_t *j, wane_config *c, wane_err *e)
{
    write_json(j);
    return wane_config_load(folder, c, e);
}

static const char QWEN3[] =
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"hidden_size\":2560,"
    "\"num_hidden_layers\":36,\"num_attention_heads\":32,\"num_key_value_heads\":8,\"head_dim\":"
    "128,"
    "\"intermediate_size\":9728,\"vocab_size\":151936,\"max_position_embeddings\":40960,"
    "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000,\"rope_scaling\":null,\"sliding_window\":null,"
    "\"use_sliding_window\":false,\"max_window_layers\":36,\"tie_word_embeddings\":true,"
    "\"hidden_act\":\"silu\",\"attention_bias\":false,\"torch_dtype\":\"bfloat16\","
    "\"bos_token_id\":151643,\"eos_token_id\":151645}";
static const char LLAMA3[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":2048,"
    "\"num_hidden_layers\":16,\"num_attention_heads\":32,\"num_key_value_heads\":8,\"head_dim\":64,"
    "\"intermediate_size\":8192,\"vocab_size\":128256,\"max_position_embeddings\":131072,"
    "\"rms_norm_eps\":1e-05,\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"llama3\","
    "\"factor\":32.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
    "\"original_max_position_embeddings\":8192},\"tie_word_embeddings\":true,\"hidden_act\":"
    "\"silu\","
    "\"attention_bias\":false,\"mlp_bias\":false,\"dtype\":\"bfloat16\",\"bos_token_id\":128000,"
    "\"eos_token_id\":[128001,128008,128009]}";
static const char QWEN2[] =
    "{\"model_type\":\"qwen2\",\"hidden_size\":896,\"num_hidden_layers\":24,"
    "\"num_attention_heads\":14,\"num_key_value_heads\":2,\"intermediate_size\":4864,"
    "\"vocab_size\":151936,\"max_position_embeddings\":32768,\"rms_norm_eps\":1e-06,"
    "\"rope_theta\":1000000.0,\"sliding_window\":32768,\"use_sliding_window\":false,"
    "\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"}";

static json_t *parse(const char *text)
{
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    return j;
}

static void reads_real_ones(void **state)
{
    (void)state;
    wane_config c;
    wane_err e;
    if (load_text(QWEN3, &c, &e)) fail_msg("%s", e.message);
    assert_string_equal(c.family->model_type, "qwen3");
    assert_true(c.family->qk_norm && c.tied && !c.qkv_bias && !c.o_bias && !c.mlp_bias);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.layers, 36);
    assert_true(c.rope == WANE_ROPE_DEFAULT && c.rope_theta == 1e6);
    assert_true(c.n_eos == 1 && c.eos[0] == 151645 && c.bos == 151643 && c.pad == -1);
    assert_null(wane_config_quantization(&c));
    wane_config_free(&c);

    write_text("generation_config.json", "{\"eos_token_id\":[128001,128009,7]}");
    if (load_text(LLAMA3, &c, &e)) fail_msg("%s", e.message);
    assert_int_equal(c.rope, WANE_ROPE_LLAMA3);
    assert_true(c.rope_factor == 32 && c.rope_low == 1 && c.rope_high == 4);
    assert_true(c.rope_original == 8192 && c.rope_theta == 500000);
    assert_int_equal(c.n_eos, 4); /* both files', once each */
    assert_int_equal(c.eos[3], 7);
    wane_config_free(&c);

    write_text("generation_config.json", "{}");
    if (load_text(QWEN2, &c, &e)) fail_msg("%s", e.message);
    assert_int_equal(c.head_dim, 64);
    assert_true(c.qkv_bias && !c.o_bias && !c.family->qk_norm);
    wane_config_free(&c);
}

/* Old spelling: rope_scaling and rope_theta beside it. */
static void reads_both_spellings(void **state)
{
    (void)state;
    wane_config c;
    wane_err e;
    json_t *j = parse(LLAMA3), *rope = json_incref(json_object_get(j, "rope_parameters"));
    json_object_del(j, "rope_parameters");
    json_object_set(j, "rope_scaling", rope);
    json_object_set(j, "rope_theta", json_object_get(rope, "rope_theta"));
    json_object_del(rope, "rope_theta");
    json_object_set(rope, "type", json_object_get(rope, "rope_type"));
    json_object_del(rope, "rope_type");
    json_decref(rope);
    if (load_json(j, &c, &e)) fail_msg("%s", e.message);
    assert_true(c.rope == WANE_ROPE_LLAMA3 && c.rope_theta == 500000 && c.rope_factor == 32);
    wane_config_free(&c);
    json_decref(j);
}

/* The numbers of config.json. whole: 1.5 is wrong; zero: 0 is fine; real: of rope_parameters too.
 */
static const struct {
    const char *name;
    bool whole, zero, in_rope;
} numbers[] = {
    {"hidden_size", true, false, false},
    {"num_hidden_layers", true, false, false},
    {"num_attention_heads", true, false, false},
    {"num_key_value_heads", true, false, false},
    {"head_dim", true, false, false},
    {"intermediate_size", true, false, false},
    {"vocab_size", true, false, false},
    {"max_position_embeddings", true, false, false},
    {"rms_norm_eps", false, false, false},
    {"sliding_window", true, false, false},
    {"bos_token_id", true, true, false},
    {"pad_token_id", true, true, false},
    {"eos_token_id", true, true, false},
    {"rope_theta", false, false, true},
    {"factor", false, false, true},
    {"low_freq_factor", false, false, true},
    {"high_freq_factor", false, false, true},
    {"original_max_position_embeddings", true, false, true},
};

static void refuse_number(const char *name, bool in_rope, json_t *value)
{
    static const wane_config zeroed;
    wane_config c;
    wane_err e;
    json_t *j = parse(LLAMA3);
    json_object_set_new(in_rope ? json_object_get(j, "rope_parameters") : j, name, value);
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    wane_status s = load_json(j, &c, &e);
    if (s != WANE_EFORMAT || !strstr(e.message, name) || !strstr(e.message, "config.json"))
        fail_msg("%s = %s: %d %s", name, text, s, s ? e.message : "");
    assert_memory_equal(&c, &zeroed, sizeof c);
    free(text);
    json_decref(j);
}

static void refuses_wrong_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        const char *name = numbers[i].name;
        bool in_rope = numbers[i].in_rope;
        refuse_number(name, in_rope, json_integer(-5));
        refuse_number(name, in_rope, json_integer(INT64_MIN));
        refuse_number(name, in_rope, json_real(-0.5));
        refuse_number(name, in_rope, json_real(1e300));
        refuse_number(name, in_rope, json_string("8"));
        refuse_number(name, in_rope, json_true());
        refuse_number(name, in_rope, json_object());
        if (strcmp(name, "eos_token_id")) refuse_number(name, in_rope, json_array());
        if (strcmp(name, "sliding_window")) refuse_number(name, in_rope, json_integer(INT64_MAX));
        if (!numbers[i].zero) refuse_number(name, in_rope, json_integer(0));
        if (numbers[i].whole) refuse_number(name, in_rope, json_real(16.5));
        if (numbers[i].whole) refuse_number(name, in_rope, json_real(16.0));
    }
}

static void expect(const char *text, const char *name, const char *value, wane_status wanted,
                   const char *says)
{
    wane_config c;
    wane_err e;
    json_t *j = parse(text), *v = json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(v);
    json_object_set_new(j, name, v);
    wane_status s = load_json(j, &c, &e);
    if (s != wanted || (s && !strstr(e.message, says)))
        fail_msg("%s = %s: %d %s", name, value, s, s ? e.message : "");
    if (!s) wane_config_free(&c);
    json_decref(j);
}

static void refuses_what_it_does_not_compute(void **state)
{
    (void)state;
    expect(QWEN3, "model_type", "\"qwen4\"", WANE_EUNSUPPORTED, "nearest: qwen");
    expect(QWEN3, "model_type", "\"gpt_oss\"", WANE_EUNSUPPORTED, "qwen3, qwen2, llama, mistral");
    expect(QWEN3, "model_type", "7", WANE_EFORMAT, "model_type is 7");
    expect(QWEN3, "architectures", "[\"Qwen3ForSequenceClassification\"]", WANE_EUNSUPPORTED,
           "Qwen3ForSequenceClassification");
    expect(QWEN3, "architectures", "[]", WANE_EFORMAT, "architectures");
    expect(QWEN3, "hidden_act", "\"gelu\"", WANE_EUNSUPPORTED, "hidden_act is \"gelu\"");
    expect(QWEN3, "use_sliding_window", "true", WANE_EUNSUPPORTED, "use_sliding_window");
    expect(QWEN3, "sliding_window", "4096", WANE_OK, "");
    expect(QWEN3, "use_sliding_window", "1", WANE_EFORMAT, "true or false");
    expect(QWEN3, "layer_types", "[\"sliding_attention\"]", WANE_EFORMAT, "layer_types");
    expect(QWEN3, "rope_scaling", "{\"type\":\"dynamic\",\"factor\":4.0}", WANE_EUNSUPPORTED,
           "dynamic");
    expect(QWEN3, "rope_scaling", "{\"type\":\"linear\",\"factor\":4.0}", WANE_OK, "");
    expect(QWEN3, "rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":4.0}", WANE_EFORMAT,
           "low_freq_factor is missing");
    expect(QWEN3, "rope_scaling", "{\"rope_type\":\"longrope\"}", WANE_EUNSUPPORTED,
           "computes default, linear, llama3, yarn");
    expect(QWEN3, "rope_scaling", "4", WANE_EFORMAT, "rope_scaling");
    expect(QWEN3, "rope_parameters", "{\"full_attention\":{\"rope_theta\":1.0}}", WANE_EUNSUPPORTED,
           "differ by layer");
    expect(QWEN3, "partial_rotary_factor", "0.5", WANE_EUNSUPPORTED, "partial_rotary_factor");
    expect(QWEN3, "num_key_value_heads", "5", WANE_EFORMAT, "must divide num_attention_heads, 32");
    expect(QWEN3, "head_dim", "127", WANE_EFORMAT, "even");
    expect(QWEN2, "num_attention_heads", "10", WANE_EFORMAT, "must divide hidden_size, 896");
    expect(QWEN3, "hidden_size", "null", WANE_EFORMAT, "hidden_size is missing");
    expect(QWEN3, "eos_token_id", "[1,[2]]", WANE_EFORMAT, "eos_token_id");
    expect(QWEN3, "eos_token_id", "151936", WANE_EFORMAT, "below vocab_size, 151936");
    expect(QWEN3, "eos_token_id", "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", WANE_EUNSUPPORTED,
           "more than 16");
    expect(QWEN3, "quantization_config", "[]", WANE_EFORMAT, "quantization_config");
    expect(QWEN3, "model_type", "\"qwen3\\u0000x\"", WANE_EFORMAT, "a string");
}

static void reads_switches(void **state)
{
    (void)state;
    static const char MISTRAL[] =
        "{\"model_type\":\"mistral\",\"hidden_size\":64,\"num_hidden_layers\":2,"
        "\"num_attention_heads\":8,\"intermediate_size\":128,\"vocab_size\":32000,"
        "\"max_position_embeddings\":8192,\"sliding_window\":null}";
    wane_config c;
    wane_err e;
    expect(MISTRAL, "sliding_window", "4096", WANE_EUNSUPPORTED, "sliding_window is 4096;");
    expect(MISTRAL, "sliding_window", "8192", WANE_OK, ""); /* as long as any text */
    expect(MISTRAL, "num_key_value_heads", "null", WANE_OK, "");
    expect(MISTRAL, "num_attention_heads", "16", WANE_OK, ""); /* 8 of keys by default */
    json_t *j = parse(MISTRAL);
    json_object_set_new(j, "num_key_value_heads", json_integer(4));
    if (load_json(j, &c, &e)) fail_msg("%s", e.message);
    assert_true(c.kv_heads == 4 && c.head_dim == 8 && !c.tied && c.rope_theta == 10000);
    wane_config_free(&c);
    json_object_del(j, "sliding_window"); /* Transformers' default counts */
    assert_int_equal(load_json(j, &c, &e), WANE_EUNSUPPORTED);
    assert_non_null(strstr(e.message, "sliding_window is 4096 where config.json has none"));
    json_decref(j);
    j = parse(LLAMA3);
    json_object_set_new(j, "attention_bias", json_true());
    json_object_set_new(j, "mlp_bias", json_true());
    json_object_set_new(j, "pad_token_id", json_integer(-1));
    assert_int_equal(load_json(j, &c, &e), WANE_OK);
    assert_true(c.qkv_bias && c.o_bias && c.mlp_bias && c.pad == -1);
    wane_config_free(&c);
    json_decref(j);
}

/* A survey has every field that is wrong, each once, and the first of them as the error. */
static void surveys(void **state)
{
    (void)state;
    static const char *const wrong[] = {"hidden_size", "num_hidden_layers", "rms_norm_eps",
                                        "tie_word_embeddings", "max_position_embeddings"};
    wane_config c;
    wane_err e;
    wane_findings all = {0};
    json_t *j = parse(LLAMA3);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        json_object_set_new(j, wrong[i], json_string("seven"));
    json_object_set_new(json_object_get(j, "rope_parameters"), "factor", json_integer(0));
    json_object_set_new(j, "eos_token_id", json_integer(128256));
    json_object_set_new(j, "hidden_act", json_string("gelu"));
    write_text("generation_config.json", "{\"eos_token_id\":\"<|eot|>\"}");
    write_json(j);
    assert_int_equal(wane_config_survey(folder, &c, &all, &e), WANE_EFORMAT);
    assert_null(c.json);
    assert_int_equal(all.count, 9);
    assert_non_null(strstr(e.message, "hidden_size"));
    assert_string_equal(all.item[0].message, e.message);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_true(test_listed(&all, wrong[i]));
    assert_true(test_listed(&all, "factor") && test_listed(&all, "128256") &&
                test_listed(&all, "gelu"));
    assert_true(test_listed(&all, "generation_config.json: eos_token_id is"));
    wane_findings_free(&all);
    json_object_set_new(j, "model_type", json_string("phi3"));
    write_text("generation_config.json", "[");
    write_json(j);
    assert_int_equal(wane_config_survey(folder, &c, &all, &e), WANE_EUNSUPPORTED);
    assert_true(test_listed(&all, "not in wane's table of families") &&
                test_listed(&all, "not JSON"));
    wane_findings_free(&all);
    write_text("generation_config.json", "{}");
    assert_int_equal(wane_config_survey("/nonexistent", &c, &all, &e), WANE_EIO);
    assert_int_equal(all.count, 1);
    wane_findings_free(&all);
    json_decref(j);
}

/* The tables name every matrix once, in the order of what it reads. */
static void families(void **state)
{
    (void)state;
    int next = 0;
    for (int s = 0; s < WANE_STAGES; s++) {
        assert_int_equal(wane_stage_first(s), next);
        next += wane_stage_count(s);
    }
    assert_int_equal(next, WANE_LINEARS);
    for (int id = 0; id < WANE_LINEARS; id++) {
        assert_true(wane_matrices[id].stage < WANE_STAGES);
        for (int other = 0; other < id; other++)
            assert_string_not_equal(wane_matrices[id].name, wane_matrices[other].name);
    }
    /* what a scale is divided out of makes the input, so it is as wide or shared by heads */
    assert_true(wane_stages[0].norm && wane_stages[0].source == WANE_NORM_input_norm);
    assert_true(!wane_stages[1].norm && wane_stages[1].source == WANE_V_PROJ);
    assert_true(wane_stages[2].norm && wane_stages[2].source == WANE_NORM_post_norm);
    assert_true(!wane_stages[3].norm && wane_stages[3].source == WANE_UP_PROJ);
}

/* Any byte changed or the text cut anywhere: refused or read, with every number in its range. */
static void survives_damage(void **state)
{
    (void)state;
    char text[sizeof LLAMA3];
    uint32_t random = 1;
    for (int i = 0; i < 3000; i++) {
        wane_config c;
        wane_err e;
        memcpy(text, LLAMA3, sizeof text);
        random = random * 1664525u + 1013904223u;
        size_t at = (random >> 8) % (sizeof text - 1);
        if (i % 3 == 0)
            text[at] = 0;
        else
            text[at] = (char)(i % 3 == 1 ? '0' + random % 10 : 1 + random % 255);
        if (load_text(text, &c, &e)) {
            wane_findings all = {0};
            assert_true(e.message[0] && c.json == NULL);
            assert_int_equal(wane_config_survey(folder, &c, &all, &e), e.status);
            assert_true(all.count > 0 && c.json == NULL);
            assert_string_equal(all.item[0].message, e.message);
            wane_findings_free(&all);
            continue;
        }
        assert_true(c.heads >= 1 && c.heads <= 1024 && c.heads % c.kv_heads == 0);
        assert_true(c.head_dim >= 2 && c.head_dim % 2 == 0 && c.vocabulary >= 1);
        assert_true(c.eps > 0 && c.eps < 1 && c.rope_theta > 0);
        wane_config_free(&c);
    }
}

static void frequencies(void **state)
{
    (void)state;
    wane_config c;
    wane_err e;
    float f[64];
    assert_int_equal(load_text(LLAMA3, &c, &e), WANE_OK);
    wane_config_frequencies(&c, f);
    for (int i = 0; i < 32; i++) {
        /* the formula of the Llama 3.1 model code, in float64 */
        double plain = pow(500000.0, -2.0 * i / 64), wave = 2 * 3.14159265358979323846 / plain;
        double smooth = (8192 / wave - 1) / (4 - 1);
        double wanted = wave < 8192 / 4.0   ? plain
                        : wave > 8192 / 1.0 ? plain / 32
                                            : (1 - smooth) * plain / 32 + smooth * plain;
        assert_true(fabs(f[i] - wanted) < 2e-6 * wanted);
    }
    assert_true(f[0] == 1.0f);
    wane_config_free(&c);
    json_t *j = parse(QWEN3), *rope = json_pack("{s:s,s:f}", "type", "linear", "factor", 8.0);
    json_object_set_new(j, "rope_scaling", rope);
    assert_int_equal(load_json(j, &c, &e), WANE_OK);
    wane_config_frequencies(&c, f);
    assert_true(f[0] == 0.125f);
    wane_config_free(&c);
    json_decref(j);
}

static wane_status load_yarn(const char *rope, wane_config *c, wane_err *e)
{
    json_t *j = parse(QWEN3), *scaling = json_loads(rope, 0, NULL);
    assert_non_null(scaling);
    json_object_set_new(scaling, "rope_type", json_string("yarn"));
    json_object_set_new(j, "rope_scaling", scaling);
    wane_status s = load_json(j, c, e);
    json_decref(j);
    return s;
}

/* As the Qwen models say it for long texts; the numbers are Transformers 5.17's. */
static void yarn(void **state)
{
    (void)state;
    static const struct {
        const char *rope;
        const char *says;
    } wrong[] = {
        {"{}", "factor is missing"},
        {"{\"factor\":0.5}", "factor is 0.5"},
        {"{\"factor\":4,\"beta_fast\":1,\"beta_slow\":2}", "beta_fast is 1"},
        {"{\"factor\":4,\"attention_factor\":0}", "attention_factor"},
        {"{\"factor\":4,\"attention_factor\":\"x\"}", "attention_factor"},
        {"{\"factor\":4,\"mscale\":-1}", "mscale"},
        {"{\"factor\":4,\"truncate\":1}", "truncate"},
        {"{\"factor\":4,\"original_max_position_embeddings\":0}", "original_max"},
        {"{\"factor\":4,\"rope_theta\":1}", "rope_theta is 1"},
    };
    static const struct {
        int i;
        double f;
    } known[] = {{0, 1.0},
                 {20, 0.01333521492779255},
                 {30, 0.0010643609566614032},
                 {63, 3.102344408034696e-07}};
    const double factor = 1.138629436111989;
    wane_config c;
    wane_err e;
    float f[64];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (load_yarn(wrong[i].rope, &c, &e) != WANE_EFORMAT || !strstr(e.message, wrong[i].says))
            fail_msg("%s: %s", wrong[i].rope, e.message);
    if (load_yarn("{\"factor\":4.0,\"original_max_position_embeddings\":32768}", &c, &e))
        fail_msg("%s", e.message);
    wane_config_frequencies(&c, f);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        assert_true(fabs(f[known[i].i] - known[i].f) <= 1e-6 * known[i].f);
    assert_true(fabs(c.rope_gain - factor * factor) < 1e-12);
    wane_config_free(&c);
    /* what the context has grown by, where the factor is null */
    assert_int_equal(load_yarn("{\"factor\":null,\"original_max_position_embeddings\":10240,"
                               "\"attention_factor\":2}",
                               &c, &e),
                     WANE_OK);
    assert_true(c.rope_factor == 4 && c.rope_gain == 4 && c.rope_whole);
    wane_config_free(&c);
}

static void absent_file(void **state)
{
    (void)state;
    wane_config c;
    wane_err e;
    assert_int_equal(wane_config_load("/nonexistent", &c, &e), WANE_EIO);
    assert_non_null(strstr(e.message, "/nonexistent: there is no config.json"));
    assert_string_equal(e.path, "/nonexistent/config.json");
    assert_null(c.json);
    assert_int_equal(load_text("[]", &c, &e), WANE_EFORMAT);
    write_text("generation_config.json", "[");
    assert_int_equal(load_text(QWEN3, &c, &e), WANE_EFORMAT);
    assert_non_null(strstr(e.message, "generation_config.json"));
    write_text("generation_config.json", "{}");
}

int test_config(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_real_ones),
        cmocka_unit_test(reads_both_spellings),
        cmocka_unit_test(refuses_wrong_numbers),
        cmocka_unit_test(refuses_what_it_does_not_compute),
        cmocka_unit_test(reads_switches),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(frequencies),
        cmocka_unit_test(absent_file),
        cmocka_unit_test(surveys),
        cmocka_unit_test(families),
        cmocka_unit_test(yarn),
    };
    return cmocka_run_group_tests_name("config", tests, make_folder, drop_folder);
}
