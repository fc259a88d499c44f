/* test.h - what every C test includes; a group is one function that returns how many tests failed. */
#ifndef WANE_TEST_H
#define WANE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

int test_base(void);

#endif
