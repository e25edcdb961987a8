/*
 * A directory that another process left in the middle of transactions: its locks are those of the
 * dead, and nobody waits until their time is over. Here that would take a day.
 */
#include "unit/client/txn_case.h"

#include "base/clock.h"

#include "test.h"

#define DAY_MS (24u * 3600 * 1000)

static struct ghost make_ghost(const char *primary)
{
    return (struct ghost){
        .start_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client)),
        .primary = primary,
        .ttl_ms = DAY_MS,
    };
}

/* Both writes get by. */
static void write_both(bool is_pessimistic)
{
    kvs_txn *txn = world_begin(is_pessimistic);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("next"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("next"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("a", "next");
    world_expect("b", "next");
}

static const char *const old_values[] = {"a=old", "b=old", "c=old"};

/* Both have values, and both are locked by one that began after that; a is its primary. */
static struct ghost prewrite_both(void)
{
    put_all(world.client, old_values, 3);
    struct ghost ghost = make_ghost("a");
    assert_int_equal(ghost_prewrite(world.client, &ghost, "a", "new"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "b", "new"), 0);
    return ghost;
}

static void test_not_committed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        prewrite_both();
        world_reopen();
        if (i == 0) { /* readers, by either key; then writers of both kinds */
            world_expect("b", "old");
            world_expect("a", "old");
        } else {
            write_both(i == 1);
        }
    }
}

/* The primary says that it was committed, so the rest is. */
static void test_committed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct ghost ghost = prewrite_both();
        uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
        assert_int_equal(ghost_commit(world.client, &ghost, "a", commit_ts), 0);
        world_reopen();
        if (i > 0) {
            kvs_txn *txn = world_begin(i == 1);
            assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("next"))), 0);
            assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
            kvs_txn_free(txn);
        }
        world_expect("b", i > 0 ? "next" : "new");
        world_expect("a", "new");
        char value[64];
        kvs_snapshot *then = kvs_snapshot_new(world.client, commit_ts);
        assert_int_equal(wait_value(kvs_snapshot_get(then, text("b")), value), 0);
        assert_string_equal(value, "new");
        kvs_snapshot_free(then);
    }
}

/* All locks of an asynchronous commit are there: it is committed; one is missing: it is not. */
static void test_asynchronous(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        bool is_whole = i % 2 == 0;
        put_all(world.client, old_values, 3);
        struct ghost ghost = make_ghost("a");
        ghost.async = true;
        ghost.min_commit_ts = ghost.start_ts + 1;
        ghost.secondaries[0] = "b";
        ghost.secondaries[1] = "c";
        ghost.secondaries_count = 2;
        assert_int_equal(ghost_prewrite(world.client, &ghost, "a", "new"), 0);
        ghost.secondaries_count = 0;
        assert_int_equal(ghost_prewrite(world.client, &ghost, "b", "new"), 0);
        if (is_whole)
            assert_int_equal(ghost_prewrite(world.client, &ghost, "c", "new"), 0);
        world_reopen();
        if (i >= 2) { /* a writer is the first to meet it */
            kvs_txn *txn = world_begin(i == 2);
            assert_int_equal(wait_free(kvs_txn_put(txn, text("c"), text("next"))), 0);
            assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
            kvs_txn_free(txn);
        }
        world_expect("b", is_whole ? "new" : "old");
        world_expect("a", is_whole ? "new" : "old");
        world_expect("c", i >= 2 ? "next" : is_whole ? "new" : "old");
    }
}

/* Its primary lock never came. */
static void test_without_a_primary(void **state)
{
    (void)state;
    put_all(world.client, old_values, 3);
    struct ghost ghost = make_ghost("a");
    assert_int_equal(ghost_prewrite(world.client, &ghost, "b", "new"), 0);
    world_reopen();
    world_expect("b", "old");
    assert_int_equal(ghost_prewrite(world.client, &ghost, "a", "new"),
                     -1000 - TXN_ERROR_WRITE_CONFLICT);
    write_both(true);
}

static void test_pessimistic_locks(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct ghost ghost = make_ghost("a");
        ghost.for_update_ts = ghost.start_ts;
        ghost.min_commit_ts = ghost.start_ts + 1;
        assert_int_equal(ghost_lock(world.client, &ghost, "a"), 0);
        assert_int_equal(ghost_lock(world.client, &ghost, "b"), 0);
        if (i == 2)
            assert_int_equal(ghost_lock(world.client, &ghost, "c"), 0);
        world_reopen();
        if (i == 2) { /* as long as it likes, and it need not */
            struct kvs_txn_options options = {
                .size = sizeof options, .pessimistic = true, .lock_wait_ms = INT32_MAX};
            kvs_txn *txn = kvs_txn_begin(world.client, &options);
            assert_int_equal(wait_free(kvs_txn_put(txn, text("c"), text("v"))), 0);
            assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
            kvs_txn_free(txn);
        }
        write_both(i > 0);
    }
}

/* Locks of who began since the opening are those of the living. */
static void test_the_living(void **state)
{
    (void)state;
    put_all(world.client, old_values, 3);
    world_reopen();
    struct ghost ghost = make_ghost("a");
    ghost.min_commit_ts = ghost.start_ts + 1;
    assert_int_equal(ghost_prewrite(world.client, &ghost, "a", "new"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "b", "new"), 0);
    kvs_txn *txn = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("next"))), KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_free(txn);
    world_expect("b", "old"); /* its commit is pushed behind the read */
    uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(ghost_commit(world.client, &ghost, "a", commit_ts), 0);
    world_expect("b", "new");
}

#define TESTS(engine)                                                                      \
    WORLD_TEST(test_not_committed, engine), WORLD_TEST(test_committed, engine),            \
        WORLD_TEST(test_asynchronous, engine), WORLD_TEST(test_without_a_primary, engine), \
        WORLD_TEST(test_pessimistic_locks, engine), WORLD_TEST(test_the_living, engine),   \
        WORLD_TEST(test_no_timestamps_from_the_future, engine),                            \
        WORLD_TEST(test_writes_over_writes_within_limits, engine),                         \
        WORLD_TEST(test_time_keeps_to_the_clock, engine)

/* What is written over is no key more, and its bytes do not count twice. */
static void test_writes_over_writes_within_limits(void **state)
{
    (void)state;
    struct kvs_txn_options options = {
        .size = sizeof options, .size_bytes_max = 100, .count_max = 2};
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    uint8_t bytes[98] = {0};
    assert_int_equal(wait_free(kvs_txn_put(txn, text("w"), text("v"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("x"), text("v"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("y"), text("v"))), KVS_ERR_TXN_TOO_LARGE);
    for (size_t size = 98; size > 96; size--) { /* and two keys and a value of one byte */
        kvs_slice value = {.data = bytes, .size = size};
        int expected = size > 97 ? KVS_ERR_TXN_TOO_LARGE : 0;
        assert_int_equal(wait_free(kvs_txn_put(txn, text("w"), value)), expected);
        assert_int_equal(wait_free(kvs_txn_put(txn, text("w"), value)), expected);
    }
    assert_int_equal(wait_free(kvs_txn_delete(txn, text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
}

/* Commits stand above every read: one from the future would take all that follow along. */
static void test_no_timestamps_from_the_future(void **state)
{
    (void)state;
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    const uint64_t ahead[] = {KVS_TXN_TS_LATEST - 1, now + (UINT64_C(120000) << 18)};
    for (size_t i = 0; i < 2; i++) {
        kvs_snapshot *snapshot = kvs_snapshot_new(world.client, ahead[i]);
        assert_int_equal(wait_free(kvs_snapshot_get(snapshot, text("ft"))),
                         KVS_ERR_INVALID_ARGUMENT);
        assert_int_equal(wait_free(kvs_snapshot_scan(snapshot, text("ft"), text("fu"), 1, 0)),
                         KVS_ERR_INVALID_ARGUMENT);
        kvs_snapshot_free(snapshot);
        assert_int_equal(
            wait_free(kvs_txn_cleanup_locks(world.client, text("ft"), text("fu"), ahead[i])),
            KVS_ERR_INVALID_ARGUMENT);
    }
    kvs_txn *txn = kvs_txn_begin(world.client, NULL);
    kvs_future_free(kvs_txn_put(txn, text("ft"), text("v")));
    uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_commit(txn));
    kvs_txn_free(txn);
    assert_true(commit_ts > now && commit_ts < ahead[1]);
    kvs_snapshot *there = kvs_snapshot_new(world.client, commit_ts);
    assert_int_equal(wait_free(kvs_snapshot_get(there, text("ft"))), 0);
    kvs_snapshot_free(there);
    world_expect("ft", "v");
}

/* It goes on where it was, also for whoever opens the directory again and again: when it has run
 * ahead of the clock it stands still until that has caught up, and so do the lives of locks. */
static void test_time_keeps_to_the_clock(void **state)
{
    (void)state;
    int64_t last_ts = 0;
    for (unsigned i = 0; i < 20; i++) {
        const char *const pair = "time=v";
        int64_t began_ts = wait_number(kvs_txn_current_timestamp(world.client));
        assert_true(began_ts > last_ts);
        put_all(world.client, &pair, 1);
        last_ts = wait_number(kvs_txn_current_timestamp(world.client));
        world_reopen();
    }
    assert_true(last_ts >> KVS_TXN_TS_LOGICAL_BITS < (int64_t)clock_wall_ms() + 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TESTS(log),
#ifdef KVS_ROCKSDB
        TESTS(rocksdb),
#endif
    };
    return cmocka_run_group_tests_name("reopen", tests, NULL, NULL);
}
