/* files.h - folders and bytes for tests that write files. */
#ifndef WANE_TEST_FILES_H
#define WANE_TEST_FILES_H

#include <stddef.h>

/* A new empty folder of its own; freed and removed, with what is in it, by test_folder_remove. */
char *test_folder(void);
void test_folder_remove(char *folder);

/* folder "/" name in one of eight static buffers, used in turn. */
const char *test_path(const char *folder, const char *name);

void test_write(const char *path, const void *data,
                size_t bytes);      /* fails the test where it cannot */
int test_count(const char *folder); /* entries in it, but . and .. */

#endif
