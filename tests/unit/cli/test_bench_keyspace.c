/* cli/bench/keyspace.c: keys as written, and how often each is drawn. */
#include "cli/bench/keyspace.h"

#include <math.h>
#include <string.h>

#include "test.h"

enum { SEED = 7, KEYS = 1000, DRAWS = 400000 };

static void check_key(uint64_t count, size_t size, uint64_t number, const char *want)
{
    struct keyspace keyspace;
    uint8_t key[64];
    assert_true(keyspace_init(&keyspace, count, size, DISTRIBUTION_UNIFORM));
    keyspace_write_template(&keyspace, key);
    keyspace_write(&keyspace, count - 1, key); /* what stood there before does not matter */
    keyspace_write(&keyspace, number, key);
    assert_int_equal(size, strlen(want));
    assert_memory_equal(key, want, size);
}

static void test_keys_as_written(void **state)
{
    (void)state;
    check_key(1, 1, 0, "0");
    check_key(10, 1, 7, "7");
    check_key(100, 11, 42, "00000000042");
    check_key(100000, 12, 1234, "key:00001234");
    check_key(1000000, 16, 999999, "key:000000999999");
    check_key((uint64_t)1 << 32, 16, 4294967295u, "key:004294967295");
}

static void test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct keyspace keyspace;
    assert_false(keyspace_init(&keyspace, 0, 16, DISTRIBUTION_UNIFORM));
    assert_false(keyspace_init(&keyspace, 11, 1, DISTRIBUTION_UNIFORM));
    assert_false(keyspace_init(&keyspace, 1, 0, DISTRIBUTION_UNIFORM));
    assert_false(keyspace_init(&keyspace, 1, KEY_SIZE_MAX + 1, DISTRIBUTION_UNIFORM));
    assert_false(keyspace_init(&keyspace, KEY_COUNT_MAX + 1, 16, DISTRIBUTION_UNIFORM));
    assert_false(keyspace_init(&keyspace, 1000000001, 12, DISTRIBUTION_UNIFORM));
    assert_true(keyspace_init(&keyspace, 100000000, 12, DISTRIBUTION_UNIFORM));
}

static void test_uniform_draws_all_keys_alike(void **state)
{
    (void)state;
    static unsigned drawn[KEYS];
    struct keyspace keyspace;
    struct rand rand = rand_seed(SEED);
    print_message("# seed %d\n", SEED);
    memset(drawn, 0, sizeof drawn);
    assert_true(keyspace_init(&keyspace, KEYS, 16, DISTRIBUTION_UNIFORM));
    for (int i = 0; i < DRAWS; i++)
        drawn[keyspace_draw(&keyspace, &rand)]++;
    for (int i = 0; i < KEYS; i++) /* 400 expected, 20 the standard deviation */
        assert_in_range(drawn[i], 280, 520);
}

/* The method is exact for the first two ranks and near for the others. */
static void test_zipfian_ranks_follow_the_law(void **state)
{
    (void)state;
    static unsigned drawn[KEYS];
    struct keyspace keyspace;
    struct rand rand = rand_seed(SEED);
    double zeta = 0, head_want = 0, head = 0;
    print_message("# seed %d\n", SEED);
    memset(drawn, 0, sizeof drawn);
    assert_true(keyspace_init(&keyspace, KEYS, 16, DISTRIBUTION_ZIPFIAN));
    for (int i = 1; i <= KEYS; i++)
        zeta += pow(i, -0.99);
    for (int i = 0; i < DRAWS; i++)
        drawn[keyspace_draw_rank(&keyspace, &rand)]++;
    assert_true(fabs(drawn[0] / (DRAWS / zeta) - 1) < 0.03);
    assert_true(fabs(drawn[1] / (DRAWS * pow(2, -0.99) / zeta) - 1) < 0.03);
    for (int i = 0; i < KEYS / 10; i++) {
        head += drawn[i];
        head_want += DRAWS * pow(i + 1, -0.99) / zeta;
    }
    assert_true(fabs(head / head_want - 1) < 0.03);
    assert_true(drawn[KEYS - 1] < drawn[0] / 100);
}

static void test_scattering_is_a_permutation(void **state)
{
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 10, 97, 1000, 1024};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        static bool seen[1024];
        struct keyspace keyspace;
        uint64_t count = counts[i];
        memset(seen, 0, sizeof seen);
        assert_true(keyspace_init(&keyspace, count, 16, DISTRIBUTION_ZIPFIAN));
        for (uint64_t rank = 0; rank < count; rank++) {
            uint64_t key = rank * keyspace.stride % count;
            assert_false(seen[key]);
            seen[key] = true;
        }
        struct rand rand = rand_seed(SEED);
        for (int draw = 0; draw < 1000; draw++)
            assert_true(keyspace_draw(&keyspace, &rand) < count);
    }
}

/* Beyond a million keys the sum is continued by an integral. */
static void test_zeta_of_many_keys(void **state)
{
    (void)state;
    struct keyspace keyspace;
    double sum = 0;
    for (int i = 1; i <= 3000000; i++)
        sum += pow(i, -0.99);
    assert_true(keyspace_init(&keyspace, 3000000, 16, DISTRIBUTION_ZIPFIAN));
    assert_true(fabs(keyspace.zeta / sum - 1) < 1e-7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_as_written),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_uniform_draws_all_keys_alike),
        cmocka_unit_test(test_zipfian_ranks_follow_the_law),
        cmocka_unit_test(test_scattering_is_a_permutation),
        cmocka_unit_test(test_zeta_of_many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
