/* packed.c - a quantization_config and packed tensors: what opens is computed with.
 *
 * The input is JSON { "quantization_config": {...}, "tensors": { NAME: [DTYPE, [SHAPE]], ... } }, a
 * byte 0, and bytes that fill the tensors' data over and over. Tensors are laid over those of a
 * small model of one layer (null takes one away), so that most inputs are files that open. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/model/forward.h"
#include "runtime/save/save.h"
#include "tests/fuzz/fuzz.h"

enum { BYTES_MOST = 1 << 16 };

static const char config[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 32, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 16, "
    "\"intermediate_size\": 64, \"vocab_size\": 32, \"max_position_embeddings\": 64, "
    "\"tie_word_embeddings\": true}";

static const char tensors[] =
    "{\"model.embed_tokens.weight\": [\"BF16\", [32, 32]],"
    " \"model.norm.weight\": [\"BF16\", [32]],"
    " \"model.layers.0.input_layernorm.weight\": [\"BF16\", [32]],"
    " \"model.layers.0.post_attention_layernorm.weight\": [\"BF16\", [32]],"
    " \"model.layers.0.self_attn.q_proj.weight\": [\"BF16\", [32, 32]],"
    " \"model.layers.0.self_attn.k_proj.weight\": [\"BF16\", [16, 32]],"
    " \"model.layers.0.self_attn.v_proj.weight\": [\"BF16\", [16, 32]],"
    " \"model.layers.0.self_attn.o_proj.weight\": [\"BF16\", [32, 32]],"
    " \"model.layers.0.mlp.gate_proj.weight\": [\"BF16\", [64, 32]],"
    " \"model.layers.0.mlp.up_proj.weight\": [\"BF16\", [64, 32]],"
    " \"model.layers.0.mlp.down_proj.weight\": [\"BF16\", [32, 64]]}";

static json_t *parse(const char *text)
{
    json_t *j;
    FUZZ_CHECK(!wane_json_parse(text, strlen(text), "fuzz", &j, NULL));
    return j;
}

static int64_t dtype_bytes(const char *name)
{
    static const char *const of_size[] = {"I8 U8 BOOL F8_E4M3", "F16 BF16 I16", "I32 F32",
                                          "I64 F64"};
    for (int i = 0; i < 4; i++)
        if (name && *name && strstr(of_size[i], name)) return 1 << i;
    return 1;
}

/* The entry of one tensor at *at, which moves behind it; NULL where it is none or too large. */
static json_t *place(const json_t *said, int64_t *at)
{
    const json_t *shape = json_array_get(said, 1);
    const char *dtype = json_string_value(json_array_get(said, 0));
    int64_t bytes = dtype_bytes(dtype);
    for (size_t i = 0; i < json_array_size(shape); i++) {
        int64_t n = json_integer_value(json_array_get(shape, i));
        if (n < 0 || n > BYTES_MOST || bytes * n > BYTES_MOST) return NULL;
        bytes *= n;
    }
    if (!dtype || !json_is_array(shape)) return NULL;
    int64_t begin = *at;
    *at += bytes;
    return json_pack("{s:s,s:O,s:[I,I]}", "dtype", dtype, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)*at);
}

static void write_tensors(const json_t *over, fuzz_part fill)
{
    json_t *all = parse(tensors), *header = json_object(), *value;
    const char *key;
    int64_t bytes = 0;
    json_object_update(all, (json_t *)(uintptr_t)over); /* nothing where it is no object */
    json_object_foreach(all, key, value)
    {
        json_t *entry = json_is_array(value) ? place(value, &bytes) : NULL;
        if (entry) json_object_set_new(header, key, entry);
    }
    char *text = json_dumps(header, JSON_COMPACT);
    FUZZ_CHECK(text);
    size_t length = strlen(text), size = 8 + length + (size_t)bytes;
    uint8_t *file = calloc(size, 1);
    FUZZ_CHECK(file);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(file + 8, text, length);
    for (size_t i = 0; fill.size && i < (size_t)bytes; i++)
        file[8 + length + i] = fill.data[i % fill.size];
    fuzz_write("model.safetensors", file, size);
    free(file);
    free(text);
    json_decref(header);
    json_decref(all);
}

static void use(wane_model *m)
{
    static const int32_t ids[] = {1, 2, 31};
    wane_tensor *y = NULL;
    wane_err e;
    float out[3 * 32];
    if (fuzz_status(wane_model_logits(m, ids, 3, &y, &e), &e)) return; /* a NaN among the scales */
    FUZZ_CHECK(!wane_tensor_get(y, out, &e));
    wane_tensor_release(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_part rest = {data, size}, part;
    json_t *input = NULL, *c;
    wane_device *d;
    wane_model *m = NULL;
    wane_err e;
    fuzz_next(&rest, &part);
    if (!part.size || wane_json_parse((const char *)part.data, part.size, "input", &input, NULL))
        return 0;
    c = parse(config);
    json_t *quantization = json_object_get(input, "quantization_config");
    if (quantization) json_object_set(c, "quantization_config", quantization);
    json_t *more = json_object_get(input, "config");
    if (json_is_object(more)) json_object_update(c, more);
    char *text = json_dumps(c, 0);
    fuzz_write("config.json", text, strlen(text));
    free(text);
    write_tensors(json_object_get(input, "tensors"), rest);

    FUZZ_CHECK(!wane_device_open("cpu", UINT64_MAX, &d, &e));
    if (!fuzz_status(wane_model_open(fuzz_folder(), d, d, &m, &e), &e)) {
        if (m->config->vocabulary == 32) use(m);
        wane_model_release(m);
    }
    wane_device_release(d);
    json_decref(input);
    json_decref(c);
    return 0;
}
