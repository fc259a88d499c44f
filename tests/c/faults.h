/* faults.h - memory that runs out on purpose, and a device whose memory C cannot read. */
#ifndef WANE_TEST_FAULTS_H
#define WANE_TEST_FAULTS_H

#include "runtime/tensor/device.h"

/* n more of the host's allocations succeed, then all fail until it is called with -1. Only what
 * this program links itself: the wrappers are set by the linker (see CMakeLists.txt). */
void test_malloc_fail_after(long n);
bool test_malloc_failed(void); /* whether one has since */

/* hook is called with every file's new name after a rename that succeeded; NULL: none. */
void test_on_rename(void (*hook)(const char *to));

int test_open_files(void); /* descriptors that are open */

/* A device over far.h's table, with float32 activations; far:0. */
wane_device *test_far_device(uint64_t budget);

#endif
