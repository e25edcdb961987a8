/* tests/unit/stream/test_stream_transaction.c: explicit transactions. */
#include "base/slice.h"
#include "stream/block.h"
#include "unit/stream/stream_test.h"

static struct stream_write write_wait_for(struct stream_write write)
{
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    return write;
}

static uint64_t begin(const char *stream, int64_t expected)
{
    struct stream_write write =
        write_wait_for((struct stream_write){.kind = STREAM_WRITE_TRANSACTION_START,
                                             .stream = slice_of_string(stream),
                                             .expected_version = expected});
    assert_int_equal(write.outcome, STREAM_OK);
    assert_true(write.transaction > 0);
    return write.transaction;
}

static int add(uint64_t transaction, unsigned first, unsigned count)
{
    struct stream_new_event events[8];
    for (unsigned i = 0; i < count; i++)
        events[i] = event_of(first + i, "T", "x");
    return (int)write_wait_for((struct stream_write){.kind = STREAM_WRITE_TRANSACTION_APPEND,
                                                     .transaction = transaction,
                                                     .events = events,
                                                     .count = count})
        .outcome;
}

static struct stream_write commit(uint64_t transaction)
{
    return write_wait_for(
        (struct stream_write){.kind = STREAM_WRITE_TRANSACTION_COMMIT, .transaction = transaction});
}

static void assert_ids(const char *stream, unsigned first, unsigned count)
{
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, stream, 0, 100, &read), 0);
    assert_int_equal(read.events_count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(get_u32(read.events[i].event.id), first + i);
        assert_int_equal(read.events[i].event.number, i);
    }
    stream_read_release(&read);
}

static void test_commit(void **state)
{
    (void)state;
    uint64_t transaction = begin("a", STREAM_NO_STREAM);
    assert_int_equal(add(transaction, 0, 3), STREAM_OK);
    assert_int_equal(add(transaction, 3, 0), STREAM_OK);
    assert_ids("a", 0, 0);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    assert_int_equal(add(transaction, 3, 2), STREAM_OK);
    struct stream_write write = commit(transaction);
    assert_int_equal(write.outcome, STREAM_OK);
    assert_int_equal(write.first_number, 0);
    assert_int_equal(write.last_number, 4);
    assert_int_equal(write.position, streams_last_position(fixture.streams));
    assert_ids("a", 0, 5);
    /* Once more: the same answer, and nothing is written; no more can be added. */
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        struct stream_write again = commit(transaction);
        assert_int_equal(again.outcome, STREAM_OK);
        assert_int_equal(again.first_number, 0);
        assert_int_equal(again.last_number, 4);
        assert_int_equal(again.position, write.position);
        assert_int_equal(add(transaction, 9, 1), STREAM_INVALID_TRANSACTION);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_ids("a", 0, 5);
    assert_true(begin("a", STREAM_ANY) > transaction);
}

static void test_empty_and_unknown(void **state)
{
    (void)state;
    struct stream_write write = commit(begin("a", STREAM_ANY));
    assert_int_equal(write.outcome, STREAM_OK);
    assert_int_equal(write.first_number, 0);
    assert_int_equal(write.last_number, -1);
    assert_int_equal(commit(777).outcome, STREAM_INVALID_TRANSACTION);
    assert_int_equal(add(777, 0, 1), STREAM_INVALID_TRANSACTION);
}

/* A commit writes all at once, while others wait: its events are counted, also those that have
 * next to no bytes. */
static void test_commit_of_too_much(void **state)
{
    (void)state;
    enum { PARTS = 2, COUNT = 512, SIZE = STREAM_WRITE_SIZE_MAX / (PARTS * COUNT) - 16 };
    static uint8_t data[SIZE];
    static struct stream_new_event events[COUNT];
    uint64_t transaction = begin("large", STREAM_ANY);
    for (unsigned i = 0; i < COUNT; i++) {
        events[i] = event_of(i, "T", "");
        events[i].data = slice_make(data, sizeof data);
    }
    for (unsigned part = 0; part < PARTS; part++) {
        struct stream_write write =
            write_wait_for((struct stream_write){.kind = STREAM_WRITE_TRANSACTION_APPEND,
                                                 .transaction = transaction,
                                                 .events = events,
                                                 .count = COUNT});
        assert_int_equal(write.outcome, STREAM_OK);
    }
    struct stream_write write = {.kind = STREAM_WRITE_TRANSACTION_COMMIT,
                                 .transaction = transaction};
    assert_int_equal(write_event_wait(&fixture, &write), KVS_ERR_TOO_LARGE);
    assert_ids("large", 0, 0);
}

static void test_versions_at_commit(void **state)
{
    (void)state;
    uint64_t wrong = begin("a", 5);
    uint64_t right = begin("a", 0);
    uint64_t deleted = begin("a", STREAM_ANY);
    assert_int_equal(add(wrong, 10, 1), STREAM_OK);
    assert_int_equal(add(right, 1, 2), STREAM_OK);
    assert_int_equal(append_wait(&fixture, "a", STREAM_ANY, 0, 1, NULL), STREAM_OK);
    assert_int_equal(commit(wrong).outcome, STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(commit(right).outcome, STREAM_OK);
    assert_ids("a", 0, 3);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, true, NULL), STREAM_OK);
    assert_int_equal(add(deleted, 20, 1), STREAM_OK);
    assert_int_equal(commit(deleted).outcome, STREAM_DELETED);
}

static struct latch many_latch;

static void many_on_done(struct task *task)
{
    (void)task;
    latch_down(&many_latch);
}

/* Writes and the commit are handed over without waiting for any of them. */
static void test_pipelined(void **state)
{
    (void)state;
    enum { PARTS = 20 };
    struct stream_write writes[PARTS + 1];
    struct stream_new_event events[PARTS];
    struct task_list list = {0};
    uint64_t transaction = begin("a", STREAM_ANY);
    latch_init(&many_latch, PARTS + 1);
    for (unsigned i = 0; i <= PARTS; i++) {
        writes[i] = (struct stream_write){
            .op = {.task.run = many_on_done, .loop = &fixture.engine.loop},
            .kind = i < PARTS ? STREAM_WRITE_TRANSACTION_APPEND : STREAM_WRITE_TRANSACTION_COMMIT,
            .transaction = transaction,
        };
        if (i < PARTS) {
            events[i] = event_of(i, "T", "x");
            writes[i].events = &events[i];
            writes[i].count = 1;
        }
        task_list_push(&list, &writes[i].op.task);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&many_latch);
    latch_deinit(&many_latch);
    assert_int_equal(writes[PARTS].op.error, 0);
    assert_int_equal(writes[PARTS].outcome, STREAM_OK);
    assert_int_equal(writes[PARTS].last_number, PARTS - 1);
    assert_ids("a", 0, PARTS);
}

/* Begun in one batch, each has a number of its own, also after a restart. */
static void test_numbers_are_never_used_twice(void **state)
{
    (void)state;
    enum { STARTS = 20 };
    struct stream_write writes[STARTS];
    struct task_list list = {0};
    uint64_t last = begin("a", STREAM_ANY);
    latch_init(&many_latch, STARTS);
    for (unsigned i = 0; i < STARTS; i++) {
        writes[i] = (struct stream_write){
            .op = {.task.run = many_on_done, .loop = &fixture.engine.loop},
            .kind = STREAM_WRITE_TRANSACTION_START,
            .stream = S("b"),
            .expected_version = STREAM_ANY,
        };
        task_list_push(&list, &writes[i].op.task);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&many_latch);
    latch_deinit(&many_latch);
    for (unsigned i = 0; i < STARTS; i++) {
        assert_int_equal(writes[i].outcome, STREAM_OK);
        assert_true(writes[i].transaction > last);
        last = writes[i].transaction;
    }
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    assert_true(begin("c", STREAM_ANY) > last);
}

static void test_access(void **state)
{
    (void)state;
    struct stream_user joe = {.login = S("joe")};
    struct stream_write write = {.kind = STREAM_WRITE_TRANSACTION_START,
                                 .stream = S("$sys"),
                                 .expected_version = STREAM_ANY,
                                 .user = &joe};
    assert_int_equal(write_wait_for(write).outcome, STREAM_ACCESS_DENIED);
    write.stream = S("a");
    write = write_wait_for(write);
    assert_int_equal(write.outcome, STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$acl\":{\"$w\":\"ann\"}}"), STREAM_OK);
    write.kind = STREAM_WRITE_TRANSACTION_COMMIT;
    assert_int_equal(write_wait_for(write).outcome, STREAM_ACCESS_DENIED);
}

static void test_old_ones_go(void **state)
{
    (void)state;
    uint64_t transaction = begin("a", STREAM_ANY);
    assert_int_equal(add(transaction, 0, 2), STREAM_OK);
    atomic_fetch_add(&fixture_wall_ms, 26 * 3600 * 1000);
    assert_int_equal(commit(transaction).outcome, STREAM_INVALID_TRANSACTION);
    uint64_t young = begin("b", STREAM_ANY);
    uint64_t before = count_all(&fixture.engine, STREAM_FAMILY_STATE);
    struct stream_scavenge scavenge = {
        .op = {.task.run = many_on_done, .loop = &fixture.engine.loop}};
    latch_init(&many_latch, 1);
    streams_scavenge(fixture.streams, &scavenge);
    latch_wait(&many_latch);
    latch_deinit(&many_latch);
    assert_int_equal(scavenge.op.error, 0);
    assert_int_equal(count_all(&fixture.engine, STREAM_FAMILY_STATE), before - 2);
    assert_int_equal(commit(young).outcome, STREAM_OK);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commit),
        TEST(test_empty_and_unknown),
        TEST(test_commit_of_too_much),
        TEST(test_versions_at_commit),
        TEST(test_pipelined),
        TEST(test_numbers_are_never_used_twice),
        TEST(test_access),
        TEST(test_old_ones_go),
    };
    return stream_tests_run("stream-transaction", tests, sizeof tests / sizeof tests[0]);
}
