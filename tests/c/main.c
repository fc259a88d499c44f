/* main.c - the C tests: test_wane [GROUP...] runs all groups, or the named ones. */
#include "tests/c/test.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(void);
} groups[] = {
    {"base", test_base},
    {"host", test_host},
    {"config", test_config},
    {"checkpoint", test_checkpoint},
    {"inventory", test_inventory},
    {"model", test_model},
    {"batch", test_batch},
    {"cache", test_cache},
    {"files", test_files},
    {"tensor", test_tensor},
    {"safetensors", test_safetensors},
    {"faults", test_faults},
    {"bind", test_bind},
    {"quant", test_quant},
    {"quantize", test_quantize},
    {"save", test_save},
    {"formats", test_formats},
    {"stored", test_stored},
    {"generate", test_generate},
    {"parquet", test_parquet},
    {"lists", test_lists},
    {"decode", test_decode},
    {"tokenizer", test_tokenizer},
    {"hub", test_hub},
    {"device", test_device_group},
    {"kernels", test_kernels},
};

int main(int argc, char **argv)
{
    int failed = 0;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        int wanted = argc < 2;
        for (int a = 1; a < argc; a++) wanted |= !strcmp(argv[a], groups[i].name);
        if (wanted) failed += groups[i].run();
    }
    return failed != 0;
}
