/* faults.c - see faults.h. */
#include "tests/c/faults.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/c/far.h"
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

static void (*on_rename)(const char *to);

void test_on_rename(void (*hook)(const char *to))
{
    on_rename = hook;
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
int __real_rename(const char *, const char *);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_rename(const char *from, const char *to);

int __wrap_rename(const char *from, const char *to)
{
    int rc = __real_rename(from, to);
    if (!rc && on_rename) on_rename(to);
    return rc;
}
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

wane_device *test_far_device(uint64_t budget)
{
    wane_device *d;
    assert_int_equal(wane_device_open("cpu", budget, &d, NULL), WANE_OK);
    d->k = test_far_kernels(WANE_F32);
    snprintf(d->name, sizeof d->name, "far:0");
    return d;
}
