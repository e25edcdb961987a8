/*
 * engine/log/wanted.c: parts are what was wanted, in order, each block once; what lies close
 * together is one, and none is larger than the system reads for one wish.
 */
#include "engine/log/wanted.h"

#include "base/rand.h"
#include "engine/file.h"
#include "seed.h"

#include <string.h>

#include "test.h"

#define BLOCKS 1000u
#define BLOCK FILE_BLOCK_SIZE

static void check_part(const struct wanted *wanted, uint32_t at, uint32_t from, uint32_t to)
{
    uint32_t found_from;
    uint32_t found_to;
    assert_true(wanted_part(wanted, at, &found_from, &found_to));
    assert_int_equal(found_from, from);
    assert_int_equal(found_to, to);
}

static void test_parts(void **state)
{
    (void)state;
    struct wanted wanted;
    uint32_t from;
    uint32_t to;
    assert_int_equal(wanted_init(&wanted, BLOCKS * BLOCK - 1), 0);
    assert_false(wanted_part(&wanted, 0, &from, &to));
    wanted_add(&wanted, 10 * BLOCK + 5, 20);
    wanted_add(&wanted, 11 * BLOCK - 1, 2);
    check_part(&wanted, 0, 10, 12);
    wanted_add(&wanted, 14 * BLOCK, 1);
    wanted_add(&wanted, 18 * BLOCK, 1);
    check_part(&wanted, 0, 10, 15);
    check_part(&wanted, 15, 18, 19);
    wanted_add(&wanted, (BLOCKS - 1) * BLOCK, BLOCK - 1);
    check_part(&wanted, 19, BLOCKS - 1, BLOCKS);
    assert_false(wanted_part(&wanted, BLOCKS, &from, &to));
    wanted_add(&wanted, 100 * BLOCK, 200 * BLOCK);
    for (uint32_t at = 100; at < 300; at = to) {
        assert_true(wanted_part(&wanted, at, &from, &to));
        assert_int_equal(from, at);
        assert_true(to > from && to - from <= 32);
    }
    assert_int_equal(to, 300);
    wanted_deinit(&wanted);
}

static void test_any_parts(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    for (unsigned round = 0; round < TIMES(2000, 500, 200); round++) {
        struct wanted wanted;
        bool is_wanted[BLOCKS + 1] = {false};
        uint32_t from;
        uint32_t to = 0;
        assert_int_equal(wanted_init(&wanted, BLOCKS * BLOCK), 0);
        for (uint64_t n = rand_below(&rand, 400); n > 0; n--) {
            uint32_t block = (uint32_t)rand_below(&rand, BLOCKS);
            is_wanted[block] = true;
            wanted_add(&wanted, block * BLOCK + (uint32_t)rand_below(&rand, BLOCK), 1);
        }
        for (uint32_t at = 0; wanted_part(&wanted, at, &from, &to); at = to) {
            assert_true(from >= at && to > from && to <= BLOCKS && to - from <= 32);
            assert_true(is_wanted[from] && is_wanted[to - 1]);
            for (uint32_t i = at; i < from; i++)
                assert_false(is_wanted[i]);
            memset(is_wanted + from, 0, to - from);
        }
        for (uint32_t i = to; i < BLOCKS; i++)
            assert_false(is_wanted[i]);
        wanted_deinit(&wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_any_parts),
    };
    return cmocka_run_group_tests_name("log-wanted", tests, NULL, NULL);
}
