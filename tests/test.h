/* tests/test.h: cmocka with the headers it wants before itself; each C test includes it last. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "times.h"

#define assert_slice_equal(slice, text)                              \
    do {                                                             \
        assert_int_equal((slice).size, sizeof(text) - 1);            \
        assert_memory_equal((slice).data, (text), sizeof(text) - 1); \
    } while (0)

#endif
