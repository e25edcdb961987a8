/* engine/log/pace.c: how fast a log may grow that compaction does not follow. */
#include "engine/log/log_engine.h"

#include "test.h"

#define SEGMENT_SIZE (64u * 1024 * 1024)
#define MIB_PER_S (1024u * 1024 / 1000) /* in bytes a millisecond */

/* Of a log of so many segments, of which so many live. */
static uint32_t rate(uint64_t total, uint64_t live)
{
    static struct log_engine log = {.segment_size = SEGMENT_SIZE};
    return pace_writes_of(&log, (total - live) * SEGMENT_SIZE, total * SEGMENT_SIZE);
}

static void test_long_logs_grow_slowly(void **state)
{
    (void)state;
    assert_int_equal(rate(40, 10), 0);
    assert_true(rate(41, 10) > 400 * MIB_PER_S);
    assert_true(rate(80, 10) > 100 * MIB_PER_S && rate(80, 10) < 150 * MIB_PER_S);
    assert_true(rate(160, 10) < 40 * MIB_PER_S);
    assert_true(rate(60000, 10) > MIB_PER_S / 2); /* never for good */
}

/* Where next to nothing lives it is no other: there is no step from any rate to the lowest. */
static void test_little_that_lives(void **state)
{
    (void)state;
    for (uint64_t live = 0; live <= 2; live++) {
        assert_int_equal(rate(8, live), 0);
        assert_true(rate(9, live) > 300 * MIB_PER_S);
        assert_true(rate(16, live) > 100 * MIB_PER_S);
        assert_true(rate(100, live) < 10 * MIB_PER_S);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_logs_grow_slowly),
        cmocka_unit_test(test_little_that_lives),
    };
    return cmocka_run_group_tests_name("log_pace", tests, NULL, NULL);
}
