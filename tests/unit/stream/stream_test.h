/* tests/unit/stream/stream_test.h: the fixture of a test program that opens one for each test. */
#ifndef TESTS_UNIT_STREAM_TEST_H
#define TESTS_UNIT_STREAM_TEST_H

#include "test.h"
#include "unit/stream/stream_fixture.h"

static struct stream_fixture fixture;

static int setup(void **state)
{
    int error = stream_fixture_init(&fixture, *state);
    return error != 0 ? error : stream_fixture_open(&fixture);
}

static int teardown(void **state)
{
    (void)state;
    stream_fixture_deinit(&fixture);
    return 0;
}

static inline void append(const char *stream, unsigned first, unsigned count)
{
    assert_int_equal(append_wait(&fixture, stream, STREAM_ANY, first, count, NULL), STREAM_OK);
}

#endif
