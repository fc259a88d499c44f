/* faults.c - see faults.h. */
#include "tests/c/faults.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/c/test.h"

static atomic_long left = -1;
static atomic_bool failed;

void test_malloc_fail_after(long n)
{
    left = n;
    failed = false;
}

bool test_malloc_failed(void)
{
    return failed;
}

static bool fails(void)
{
    if (left < 0) return false;
    bool now = left == 0;
    if (now)
        failed = true;
    else
        left--;
    return now;
}

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_aligned_alloc(size_t, size_t);
char *__real_strdup(const char *);
char *__real_strndup(const char *, size_t);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t each)
{
    return fails() ? NULL : __real_calloc(n, each);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, n);
}
char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}
char *__wrap_strndup(const char *s, size_t n)
{
    return fails() ? NULL : __real_strndup(s, n);
}

int test_open_files(void)
{
    int count = 0;
    DIR *list = opendir("/proc/self/fd");
    assert_non_null(list);
    while (readdir(list)) count++;
    closedir(list);
    return count;
}

/* Addresses that no processor of today maps. */
static const uintptr_t FAR = (uintptr_t)1 << 62;

static void *far_of(void *p)
{
    return p ? (void *)((uintptr_t)p | FAR) : NULL;
}
static void *near_of(const void *p)
{
    if (p && !((uintptr_t)p & FAR))
        abort(); /* not this device's: a mistake that a GPU punishes alike */
    return (void *)((uintptr_t)p & ~FAR);
}

static wane_status far_alloc(wane_dev *d, size_t bytes, void **out)
{
    wane_status s = wane_cpu_kernels()->alloc(d, bytes, out);
    *out = far_of(*out);
    return s;
}

static void far_free(wane_dev *d, void *p)
{
    wane_cpu_kernels()->free(d, near_of(p));
}

static wane_status far_put(wane_dev *d, void *dst, const void *host, size_t bytes)
{
    return wane_cpu_kernels()->put(d, near_of(dst), host, bytes);
}

static wane_status far_get(wane_dev *d, void *host, const void *src, size_t bytes)
{
    return wane_cpu_kernels()->get(d, host, near_of(src), bytes);
}

static wane_status far_copy(wane_dev *d, void *dst, const void *src, size_t bytes)
{
    return wane_cpu_kernels()->copy(d, near_of(dst), near_of(src), bytes);
}

static wane_status far_fill(wane_dev *d, void *dst, int byte, size_t bytes)
{
    return wane_cpu_kernels()->fill(d, near_of(dst), byte, bytes);
}

wane_device *test_far_device(uint64_t budget)
{
    static wane_kernels table;
    wane_device *d;
    assert_int_equal(wane_device_open("cpu", budget, &d, NULL), WANE_OK);
    table = *wane_cpu_kernels();
    table.name = "far";
    table.alloc = far_alloc;
    table.free = far_free;
    table.put = far_put;
    table.get = far_get;
    table.copy = far_copy;
    table.fill = far_fill;
    d->k = &table;
    snprintf(d->name, sizeof d->name, "far:0");
    return d;
}
