/* files.c - see files.h. */
#include "tests/c/files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "tests/c/test.h"

char *test_folder(void)
{
    const char *base = getenv("TMPDIR");
    if (!base && !access("/dev/shm", W_OK)) base = "/dev/shm"; /* thousands of small files, fast */
    size_t size = strlen(base ? base : "/tmp") + 32;
    char *folder = malloc(size);
    assert_non_null(folder);
    snprintf(folder, size, "%s/wane-test-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
    return folder;
}

void test_folder_remove(char *folder)
{
    wane_err e;
    assert_int_equal(wane_dir_remove(folder, &e), WANE_OK);
    free(folder);
}

const char *test_path(const char *folder, const char *name)
{
    static char path[8][4096];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

void test_write(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

int test_count(const char *folder)
{
    int count = 0;
    DIR *list = opendir(folder);
    assert_non_null(list);
    for (struct dirent *d; (d = readdir(list));)
        count += strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
    closedir(list);
    return count;
}
