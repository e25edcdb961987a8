/* Long reads of several connections: whose are started, and whose are refused. */
#include "server/tikv_reads.h"

#include "test.h"

#define COUNT (2 * TIKV_READS_MAX)

static struct tikv_reads reads;
static struct tikv_long_read items[COUNT];
static struct tikv_long_read *started[COUNT];
static unsigned started_count, used;
static char connections[TIKV_READS_MAX];

static void on_start(struct tikv_long_read *read)
{
    started[started_count++] = read;
}

static void reset(void)
{
    reads = (struct tikv_reads){0};
    started_count = used = 0;
}

static bool begin(unsigned connection)
{
    assert_true(used < COUNT);
    return tikv_reads_begin(&reads, &items[used++], &connections[connection], on_start);
}

static unsigned begin_many(unsigned connection)
{
    unsigned count = 0;
    while (begin(connection))
        count++;
    return count;
}

static const void *connection_of(const struct tikv_long_read *read)
{
    return reads.shares[read->share].connection;
}

static void end_all(void)
{
    for (unsigned i = 0; i < started_count; i++) /* grows meanwhile */
        tikv_reads_end(&reads, started[i]);
    assert_int_equal(reads.count, 0);
    assert_int_equal(reads.running, 0);
    assert_null(reads.first);
    for (unsigned i = 0; i < TIKV_READS_MAX; i++)
        assert_true(reads.shares[i].count == 0 && reads.shares[i].running == 0);
}

static void test_one_has_half(void **state)
{
    (void)state;
    reset();
    assert_int_equal(begin_many(0), TIKV_READS_MAX / 2);
    assert_int_equal(started_count, TIKV_READS_AT_ONCE);
    assert_int_equal(begin_many(1), TIKV_READS_MAX / 4);
    for (unsigned i = 2; i < 10; i++)
        assert_true(begin(i)); /* whoever comes finds room */
    end_all();
    assert_int_equal(started_count, TIKV_READS_MAX / 2 + TIKV_READS_MAX / 4 + 8);
}

/* Who asks for little does not stand behind all that another one asked for. */
static void test_the_next_is_who_has_fewest(void **state)
{
    (void)state;
    reset();
    begin_many(0);
    assert_true(begin(1));
    assert_true(begin(2));
    assert_int_equal(started_count, TIKV_READS_AT_ONCE);
    tikv_reads_end(&reads, started[0]);
    assert_ptr_equal(connection_of(started[TIKV_READS_AT_ONCE]), &connections[1]);
    tikv_reads_end(&reads, started[1]);
    assert_ptr_equal(connection_of(started[TIKV_READS_AT_ONCE + 1]), &connections[2]);
    tikv_reads_end(&reads, started[2]);
    assert_ptr_equal(connection_of(started[TIKV_READS_AT_ONCE + 2]), &connections[0]);
    for (unsigned i = 3; i < started_count; i++)
        tikv_reads_end(&reads, started[i]);
    assert_int_equal(reads.count, 0);
}

/* Those of one connection go in the order they came. */
static void test_order(void **state)
{
    (void)state;
    reset();
    unsigned count = begin_many(0);
    end_all();
    assert_int_equal(started_count, count);
    for (unsigned i = 0; i < count; i++)
        assert_ptr_equal(started[i], &items[i]);
}

static void test_every_share_is_taken(void **state)
{
    (void)state;
    reset();
    for (unsigned i = 0; i < TIKV_READS_MAX; i++)
        assert_true(begin(i));
    assert_false(begin(0));
    tikv_reads_end(&reads, started[0]); /* of the first connection */
    assert_true(begin(0));
    assert_false(begin(1));
    for (unsigned i = 1; i < started_count; i++)
        tikv_reads_end(&reads, started[i]);
    assert_int_equal(reads.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_has_half),
        cmocka_unit_test(test_the_next_is_who_has_fewest),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_every_share_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
