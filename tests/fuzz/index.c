/* index.c - model.safetensors.index.json beside two shards, a link that leads out and files that
 * are none: what opens lies in the folder. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/model/checkpoint.h"
#include "tests/fuzz/fuzz.h"

static const char config[] =
    "{\"model_type\": \"qwen3\", \"hidden_size\": 16, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 2, \"intermediate_size\": 16, "
    "\"vocab_size\": 32, "
    "\"max_position_embeddings\": 64}";

static void shard(const char *name, const char *header)
{
    char file[512] = {0};
    size_t n = strlen(header);
    file[0] = (char)n;
    memcpy(file + 8, header, n);
    fuzz_write(name, file, 8 + n + 4);
}

/* What opens has to, so that the index is what is looked at. */
static void prove(void)
{
    static const char good[] =
        "{\"weight_map\": {\"x\": \"a.safetensors\", \"y\": \"b.safetensors\"}}";
    wane_checkpoint *c;
    wane_err e;
    fuzz_write("in/model.safetensors.index.json", good, sizeof good - 1);
    if (wane_checkpoint_open(fuzz_path("in"), &c, &e))
        fuzz_stop(__FILE__, __LINE__, "a good index opens", e.message);
    wane_checkpoint_release(c);
}

static void prepare(void)
{
    if (!access(fuzz_path("in"), F_OK)) return;
    FUZZ_CHECK(!mkdir(fuzz_path("in"), 0700) && !mkdir(fuzz_path("in/sub"), 0700));
    fuzz_write("in/config.json", config, sizeof config - 1);
    shard("in/a.safetensors", "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    shard("in/b.safetensors", "{\"y\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}");
    shard("in/sub/c.safetensors",
          "{\"z\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    shard("out.safetensors", "{\"o\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}");
    fuzz_write("in/d.safetensors", "\x80\x02}q", 4);
    fuzz_write("in/pytorch_model.bin", "\x80\x02}q", 4);
    FUZZ_CHECK(!symlink("../out.safetensors", fuzz_path("in/l.safetensors")));
    FUZZ_CHECK(!symlink("sub/c.safetensors", fuzz_path("in/m.safetensors"))); /* stays within */
    prove();
}

static void check(const wane_checkpoint *c)
{
    char inside[PATH_MAX], real[PATH_MAX];
    FUZZ_CHECK(realpath(fuzz_path("in"), inside));
    for (int i = 0; i < c->n_shards; i++) {
        FUZZ_CHECK(realpath(c->shard[i]->path, real));
        FUZZ_CHECK(!strncmp(real, inside, strlen(inside)) && real[strlen(inside)] == '/');
        FUZZ_CHECK(strstr(real, ".safetensors"));
    }
    for (size_t i = 0; i < c->count; i++)
        FUZZ_CHECK(wane_checkpoint_find(c, c->tensor[i].entry->name, NULL) == c->tensor[i].entry);
}

/* The same with all that is wrong: it tells something, or all is well. */
static void survey(void)
{
    wane_findings all = {0};
    wane_checkpoint *c;
    wane_err e;
    wane_status s = wane_checkpoint_survey(fuzz_path("in"), &c, &all, &e);
    FUZZ_CHECK(!s == !all.count && !s == !!c);
    if (c) check(c);
    for (size_t i = 0; i < all.count; i++) FUZZ_CHECK(all.item[i].message[0]);
    wane_findings_free(&all);
    wane_checkpoint_release(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wane_checkpoint *c;
    wane_err e;
    prepare();
    fuzz_write("in/model.safetensors.index.json", data, size);
    wane_status s = wane_checkpoint_open(fuzz_path("in"), &c, &e);
    FUZZ_CHECK(!s == !!c);
    if (s == WANE_EIO) s = WANE_OK; /* a plain name that is no file, or one too long for a path */
    if (!fuzz_status(s, &e) && c) check(c);
    wane_checkpoint_release(c);
    survey();
    return 0;
}
