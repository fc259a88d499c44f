/* packed.h - tiny models of codes, saved folders taken apart and put together again with something
 * changed; for tests of saving. All fail the test where they cannot. */
#ifndef WANE_TEST_PACKED_H
#define WANE_TEST_PACKED_H

#include "runtime/save/save.h"

typedef struct {
    int bits;
    int64_t group;
    bool symmetric;
    int act_bits;
    wane_dtype scale;
} test_grid;

/* A tiny model of the family with codes on that grid; its head too where it has one and that is
 * asked for. */
wane_model *test_quantized_model(const char *family, wane_device *, test_grid, bool head);
wane_save_options test_save_options(const char *format);
wane_model *test_reopen(const char *dir, wane_device *);
void test_same_layers(wane_model *, wane_model *);

enum { TEST_PARTS = 1024 };

/* A saved folder taken apart. */
typedef struct {
    wane_device *d;
    char *folder;
    char *config;
    char *name[TEST_PARTS];
    wane_tensor *tensor[TEST_PARTS];
    size_t count;
} test_parts;

void test_take_apart(test_parts *, test_grid, const char *format); /* of tiny qwen3 */
void test_forget(test_parts *);
/* One of its tensors by name. */
wane_tensor *test_part(const test_parts *, const char *name);

/* The error of opening and loading a folder where `name` is replaced by another tensor (NULL: gone)
 * and `from` in the config by `to` (NULL: as it was); zeroed where there is none. */
wane_err test_open_changed(const test_parts *, const char *name, wane_tensor *instead,
                           const char *from, const char *to);

/* Zeros of rank 1 (a) or 2 (a,b). */
wane_tensor *test_zeros(wane_device *, wane_dtype, int rank, int64_t a, int64_t b);

#endif
