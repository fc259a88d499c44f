/* fuzz.h - what the fuzz targets share: a folder of their own, parts of an input, and checks that
 * stop the run.
 *
 * A target is one file with LLVMFuzzerTestOneInput: CMakeLists.txt says how it is built and run. An
 * input that holds several texts has a byte 0 between them. */
#ifndef WANE_FUZZ_H
#define WANE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Stops the run: what the target promises does not hold. */
#define FUZZ_CHECK(holds) ((holds) ? (void)0 : fuzz_stop(__FILE__, __LINE__, #holds, NULL))
__attribute__((noreturn)) void fuzz_stop(const char *file, int line, const char *what,
                                         const char *more);

/* The process's own folder, made at the first call and removed at exit. */
const char *fuzz_folder(void);
/* folder "/" name, in one of eight static buffers, used in turn. */
const char *fuzz_path(const char *name);
void fuzz_write(const char *name, const void *data, size_t size); /* a file in the folder */

/* Cuts the next part off: up to a byte 0 or the end. False where nothing is left (data NULL, size
 * 0). */
typedef struct {
    const uint8_t *data;
    size_t size;
} fuzz_part;
bool fuzz_next(fuzz_part *rest, fuzz_part *out);

/* A status and its error are as error.h promises: one line of escaped text where it failed. s is
 * returned. */
wane_status fuzz_status(wane_status s, const wane_err *e);

#endif
