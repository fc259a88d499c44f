/* fuzz.c - see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/base/units.h"

static char folder[256];

void fuzz_stop(const char *file, int line, const char *what, const char *more)
{
    fprintf(stderr, "%s:%d: ERROR: does not hold: %s%s%s\n", file, line, what, more ? ": " : "",
            more ? more : "");
    abort();
}

static void remove_folder(void)
{
    wane_dir_remove(folder, NULL);
}

const char *fuzz_folder(void)
{
    if (folder[0]) return folder;
    const char *base = getenv("TMPDIR");
    if (!base) base = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"; /* a file for every input */
    snprintf(folder, sizeof folder, "%.200s/wane-fuzz-XXXXXX", base);
    if (!mkdtemp(folder)) fuzz_stop(__FILE__, __LINE__, "a folder can be made", folder);
    atexit(remove_folder);
    return folder;
}

const char *fuzz_path(const char *name)
{
    static char path[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", fuzz_folder(), name);
    return path[turn];
}

void fuzz_write(const char *name, const void *data, size_t size)
{
    const char *path = fuzz_path(name);
    FILE *f = fopen(path, "wb");
    bool written = f && (!size || fwrite(data, 1, size, f) == size);
    if (!f || fclose(f) || !written) fuzz_stop(__FILE__, __LINE__, "a file can be written", path);
}

bool fuzz_next(fuzz_part *rest, fuzz_part *out)
{
    *out = (fuzz_part){NULL, 0};
    if (!rest->data) return false;
    const uint8_t *end = rest->size ? memchr(rest->data, 0, rest->size) : NULL;
    *out = (fuzz_part){rest->data, end ? (size_t)(end - rest->data) : rest->size};
    *rest = end ? (fuzz_part){end + 1, rest->size - out->size - 1} : (fuzz_part){NULL, 0};
    return true;
}

wane_status fuzz_status(wane_status s, const wane_err *e)
{
    if (!s) return s;
    FUZZ_CHECK(e->status == s);
    size_t n = strlen(e->message);
    if (n == 0) fuzz_stop(__FILE__, __LINE__, "a failure has a message", NULL);
    for (size_t i = 0, step; i < n; i += step) {
        const unsigned char *p = (const unsigned char *)e->message + i;
        step = wane_utf8_length(p, n - i);
        /* a message cut in the middle of a character ends there */
        if (!step && n + 4 >= sizeof e->message && n - i < 4) break;
        if (!step || *p < 0x20 || *p == 0x7f)
            fuzz_stop(__FILE__, __LINE__, "a message is one escaped line", e->message);
    }
    /* no input makes a program out of memory, or its caller wrong */
    if (s == WANE_EARG || s == WANE_EOOM)
        fuzz_stop(__FILE__, __LINE__, "an input is refused as what it is", e->message);
    return s;
}
