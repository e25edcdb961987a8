/* tests/test.h: cmocka with the headers it wants before itself, and calls that wait; each C test
 * includes it last. */
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

#include <kvs/future.h>

#define assert_slice_equal(slice, text)                              \
    do {                                                             \
        assert_int_equal((slice).size, sizeof(text) - 1);            \
        assert_memory_equal((slice).data, (text), sizeof(text) - 1); \
    } while (0)

/* The error that a call ends with. */
static inline int wait_and_free(kvs_future *call)
{
    assert_non_null(call);
    int error = kvs_future_wait(call, -1);
    kvs_future_free(call);
    return error;
}

/* The store, client or subscription that is opened; the test fails if it is not. */
static inline void *opened_by(kvs_future *opening)
{
    void *opened = NULL;
    assert_non_null(opening);
    if (kvs_future_wait(opening, -1) != 0)
        fail_msg("%s", kvs_future_error_message(opening));
    assert_int_equal(kvs_future_get_pointer(opening, &opened), 0);
    kvs_future_free(opening);
    return opened;
}

#endif
