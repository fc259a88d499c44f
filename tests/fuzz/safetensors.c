/* safetensors.c - a file's bytes, 8 of length, header and data: what opens holds what its header
 * says. */
#include <stdlib.h>
#include <string.h>

#include "runtime/tensor/safetensors.h"
#include "tests/fuzz/fuzz.h"

/* Every byte of the data belongs to one tensor, and every tensor can be found and read. */
static void check(const wane_safetensors *f)
{
    uint64_t bytes = 0;
    FUZZ_CHECK(f->data <= f->bytes);
    for (size_t i = 0; i < f->count; i++) {
        const wane_entry *t = &f->entries[i];
        uint64_t size = t->end - t->begin, count = 1;
        wane_err e;
        FUZZ_CHECK(t->begin <= t->end && t->end <= f->bytes - f->data);
        FUZZ_CHECK(t->rank >= 0 && t->rank <= WANE_RANK && wane_safetensors_name_ok(t->name));
        FUZZ_CHECK(wane_safetensors_find(f, t->name) == t);
        for (int k = 0; k < t->rank; k++) count *= (uint64_t)t->shape[k];
        if (t->supported) FUZZ_CHECK(size == count * wane_dtype_bytes(t->dtype));
        char *data = malloc(size ? size : 1);
        FUZZ_CHECK(data && !fuzz_status(wane_safetensors_read(f, t, 0, size, data, &e), &e));
        free(data);
        FUZZ_CHECK(wane_safetensors_read(f, t, size, 1, &e, NULL) == WANE_EARG);
        bytes += size;
    }
    FUZZ_CHECK(bytes == f->bytes - f->data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wane_safetensors *f;
    wane_err e;
    fuzz_write("model.safetensors", data, size);
    wane_status s = wane_safetensors_open(fuzz_path("model.safetensors"), &f, &e);
    FUZZ_CHECK(!s == !!f);
    if (!fuzz_status(s, &e)) check(f);
    wane_safetensors_close(f);
    return 0;
}
