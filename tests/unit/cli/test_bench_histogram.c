/* cli/bench/histogram.c: bucket limits, and percentiles against a sorted array. */
#include "cli/bench/histogram.h"

#include "base/mem.h"
#include "base/rand.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

enum { SEED = 20240517, VALUES = 20000 };

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void test_every_bucket_follows_the_one_before(void **state)
{
    (void)state;
    uint64_t first = 0;
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        uint64_t limit = histogram_bucket_limit(bucket);
        assert_true(limit >= first);
        assert_int_equal(histogram_bucket(first), bucket);
        assert_int_equal(histogram_bucket(limit), bucket);
        /* Exact below 256, at most 1/128 too much above. */
        assert_true(limit - first <= first / 128);
        first = limit + 1;
    }
    assert_int_equal(first, (uint64_t)1 << HISTOGRAM_VALUE_BITS);
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void test_empty(void **state)
{
    (void)state;
    static struct histogram histogram;
    histogram_clear(&histogram);
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
    assert_int_equal(histogram_percentile(&histogram, 100), 0);
    assert_true(histogram_mean(&histogram) == 0.0);
}

static void check_percentiles(const struct histogram *histogram, const uint64_t *sorted)
{
    static const double percents[] = {0, 0.01, 1, 10, 50, 90, 99, 99.9, 99.99, 100};
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        double exact = VALUES * percents[i] / 100.0;
        size_t rank = (size_t)exact + ((double)(size_t)exact < exact);
        uint64_t want = sorted[rank > 0 ? rank - 1 : 0];
        uint64_t got = histogram_percentile(histogram, percents[i]);
        assert_true(got >= want);
        assert_true(got - want <= want / 128);
    }
    assert_int_equal(histogram_percentile(histogram, 100), sorted[VALUES - 1]);
}

static void test_percentiles_of_random_values(void **state)
{
    (void)state;
    static struct histogram histogram, half[2];
    static uint64_t values[VALUES];
    struct rand rand = rand_seed(SEED);
    print_message("# seed %d\n", SEED);
    for (int round = 0; round < 8; round++) {
        uint64_t sum = 0;
        histogram_clear(&histogram);
        histogram_clear(&half[0]);
        histogram_clear(&half[1]);
        for (int i = 0; i < VALUES; i++) {
            /* All magnitudes alike: a random number of random length. */
            values[i] = rand_u64(&rand) >> (20 + rand_below(&rand, 44));
            sum += values[i];
            histogram_record(&half[i % 2], values[i]);
        }
        histogram_add(&histogram, &half[0]);
        histogram_add(&histogram, &half[1]);
        qsort(values, VALUES, sizeof values[0], compare_numbers);
        check_percentiles(&histogram, values);
        assert_int_equal(histogram.count, VALUES);
        assert_int_equal(histogram.sum, sum);
        assert_int_equal(histogram.min, values[0]);
        assert_int_equal(histogram.max, values[VALUES - 1]);
    }
}

static void test_a_value_beyond_the_range_is_kept_as_maximum(void **state)
{
    (void)state;
    static struct histogram histogram;
    histogram_clear(&histogram);
    histogram_record(&histogram, 7);
    histogram_record(&histogram, (uint64_t)1 << 50);
    assert_int_equal(histogram_percentile(&histogram, 50), 7);
    assert_int_equal(histogram_percentile(&histogram, 100), (uint64_t)1 << 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bucket_follows_the_one_before),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_percentiles_of_random_values),
        cmocka_unit_test(test_a_value_beyond_the_range_is_kept_as_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
