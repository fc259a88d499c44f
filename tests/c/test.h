/* test.h - what every C test includes; a group is one function that returns how many tests failed.
 */
#ifndef WANE_TEST_H
#define WANE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* The path of a file of the tree, in a static buffer that the fourth call after this uses again.
 * $WANE_TREE says where the tree is, where it is not where it was built. */
static inline const char *test_tree(const char *relative)
{
    static char path[4][4096];
    static int next;
    const char *root = getenv("WANE_TREE");
    char *out = path[next++ & 3];
    snprintf(out, sizeof path[0], "%s/%s", root ? root : WANE_TREE, relative);
    return out;
}

int test_base(void);
int test_host(void);
int test_config(void);
int test_checkpoint(void);
int test_inventory(void);
int test_model(void);
int test_batch(void);
int test_cache(void);
int test_files(void);
int test_faults(void);
int test_bind(void);
int test_safetensors(void);
int test_tensor(void);
int test_quant(void);
int test_quantize(void);
int test_save(void);
int test_formats(void);
int test_stored(void);
int test_generate(void);
int test_parquet(void);
int test_lists(void);
int test_decode(void);
int test_tokenizer(void);
int test_hub(void);
int test_device_group(void);
int test_kernels(void);

#endif
