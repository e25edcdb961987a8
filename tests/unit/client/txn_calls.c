/* kvs/txn.h: every public call, on whatever kind of data the programs that include this test. */
#include "unit/client/txn_case.h"
#include "unit/client/txn_shares.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

static const struct kvs_txn_options pessimistic = {.size = sizeof pessimistic, .pessimistic = true};

#define PUT_ALL(...)                                                     \
    do {                                                                 \
        const char *const pairs_[] = {__VA_ARGS__};                      \
        put_all(world.client, pairs_, sizeof pairs_ / sizeof pairs_[0]); \
    } while (0)

static kvs_txn *begin(bool is_pessimistic)
{
    return kvs_txn_begin(world.client, is_pessimistic ? &pessimistic : NULL);
}

/* --- reads and writes ---------------------------------------------------------------------------
 */

static void test_own_writes_and_commit(void **state)
{
    (void)state;
    char value[64];
    for (unsigned i = 0; i < 2; i++) {
        kvs_txn *txn = begin(i == 1);
        assert_int_equal(wait_value(kvs_txn_get(txn, text("a")), value),
                         i == 0 ? KVS_ERR_NOT_FOUND : 0);
        assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("1"))), 0);
        assert_int_equal(wait_value(kvs_txn_get(txn, text("a")), value), 0);
        assert_string_equal(value, "1");
        assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text(""))), 0);
        assert_int_equal(wait_number(kvs_txn_exists(txn, text("b"))), 1);
        assert_int_equal(wait_free(kvs_txn_delete(txn, text("a"))), 0);
        assert_int_equal(wait_value(kvs_txn_get(txn, text("a")), value), KVS_ERR_NOT_FOUND);
        assert_int_equal(wait_number(kvs_txn_exists(txn, text("a"))), 0);
        assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("2"))), 0);
        int64_t start_ts = wait_number(kvs_txn_start_timestamp(txn));
        int64_t commit_ts = wait_number(kvs_txn_commit(txn));
        assert_true(commit_ts > start_ts);
        assert_true(wait_number(kvs_txn_current_timestamp(world.client)) >= commit_ts);
        assert_int_equal(wait_free(kvs_txn_get(txn, text("a"))), KVS_ERR_INVALID_ARGUMENT);
        assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_INVALID_ARGUMENT);
        kvs_txn_free(txn);
        world_expect("a", "2");
        world_expect("b", "");
    }
}

static void test_all_or_nothing(void **state)
{
    (void)state;
    PUT_ALL("k1=a", "k3=a");
    kvs_txn *loser = begin(false);
    assert_int_equal(wait_free(kvs_txn_put(loser, text("k1"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(loser, text("k2"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(loser, text("k3"), text("x"))), 0);
    wait_number(kvs_txn_start_timestamp(loser));
    PUT_ALL("k3=b");
    kvs_future *commit = kvs_txn_commit(loser);
    assert_int_equal(kvs_future_wait(commit, -1), KVS_ERR_WRITE_CONFLICT);
    assert_true(kvs_error_retry_txn(KVS_ERR_WRITE_CONFLICT));
    kvs_txn_conflict conflict;
    assert_int_equal(kvs_future_get_txn_conflict(commit, &conflict), 0);
    assert_slice_equal(conflict.key, "k3");
    assert_true(conflict.start_ts > 0 && conflict.conflict_ts > conflict.start_ts);
    assert_non_null(strstr(kvs_future_error_message(commit), "k3"));
    kvs_future_free(commit);
    kvs_txn_free(loser);
    world_expect("k1", "a");
    world_expect("k2", NULL);
    world_expect("k3", "b");
}

static void test_snapshots(void **state)
{
    (void)state;
    char value[64];
    char pairs[256];
    PUT_ALL("s1=old", "s2=old");
    uint64_t then = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    kvs_txn *txn = begin(false);
    assert_int_equal(wait_value(kvs_txn_get(txn, text("s1")), value), 0);
    PUT_ALL("s1=new", "s3=new");
    assert_int_equal(wait_value(kvs_txn_get(txn, text("s1")), value), 0);
    assert_string_equal(value, "old");
    kvs_txn_free(txn);
    kvs_snapshot *past = kvs_snapshot_new(world.client, then);
    assert_int_equal(wait_number(kvs_snapshot_timestamp(past)), (int64_t)then);
    assert_int_equal(wait_value(kvs_snapshot_get(past, text("s1")), value), 0);
    assert_string_equal(value, "old");
    assert_int_equal(wait_number(kvs_snapshot_exists(past, text("s3"))), 0);
    const kvs_slice keys[] = {text("s3"), text("s1"), text("s3"), text("s2")};
    assert_int_equal(wait_pairs(kvs_snapshot_batch_get(past, keys, 4), pairs, 256, NULL), 0);
    assert_string_equal(pairs, "s3=? s1=old s3=? s2=old ");
    assert_int_equal(
        wait_pairs(kvs_snapshot_scan(past, text("s"), text("t"), 10, 0), pairs, 256, NULL), 0);
    assert_string_equal(pairs, "s1=old s2=old ");
    kvs_snapshot_free(past);
    kvs_snapshot *latest = kvs_snapshot_new(world.client, KVS_TXN_TS_LATEST);
    assert_int_equal(wait_pairs(kvs_snapshot_batch_get(latest, keys, 4), pairs, 256, NULL), 0);
    assert_string_equal(pairs, "s3=new s1=new s3=new s2=old ");
    kvs_snapshot_free(latest);
}

static void test_batches(void **state)
{
    (void)state;
    char pairs[256];
    for (unsigned i = 0; i < 2; i++) {
        PUT_ALL("m1=1", "m2=2", "m4=4");
        kvs_txn *txn = begin(i == 1);
        const kvs_mutation mutations[] = {
            {.kind = KVS_MUTATION_SET, .key = text("m3"), .value = text("33")},
            {.kind = KVS_MUTATION_REMOVE, .key = text("m1")},
        };
        assert_int_equal(wait_free(kvs_txn_mutate(txn, mutations, 2)), 0);
        const kvs_slice keys[] = {text("m4"), text("m3"), text("m1"), text("m0")};
        assert_int_equal(wait_pairs(kvs_txn_batch_get(txn, keys, 4), pairs, 256, NULL), 0);
        assert_string_equal(pairs, "m4=4 m3=33 m1=? m0=? ");
        assert_int_equal(wait_pairs(kvs_txn_batch_get_for_update(txn, keys, 4), pairs, 256, NULL),
                         0);
        assert_string_equal(pairs, "m4=4 m3=33 m1=? m0=? ");
        assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
        kvs_txn_free(txn);
        world_expect("m1", NULL);
        world_expect("m3", "33");
        world_expect("m4", "4");
    }
}

/* --- scans --------------------------------------------------------------------------------------
 */

static void expect_scan(kvs_txn *txn, const char *start, const char *end, uint32_t limit,
                        unsigned flags, const char *expected, int64_t expected_more)
{
    char pairs[512];
    int64_t more = -1;
    assert_int_equal(
        wait_pairs(kvs_txn_scan(txn, text(start), text(end), limit, flags), pairs, 512, &more), 0);
    assert_string_equal(pairs, expected);
    assert_int_equal(more, expected_more);
}

static void test_scans_over_own_writes(void **state)
{
    (void)state;
    PUT_ALL("c1=1", "c3=3", "c5=5", "c7=7");
    txn_world_split(&world, "c4");
    kvs_txn *txn = begin(false);
    expect_scan(txn, "c", "d", 0, 0, "c1=1 c3=3 c5=5 c7=7 ", 0);
    wait_free(kvs_txn_put(txn, text("c0"), text("0")));
    wait_free(kvs_txn_put(txn, text("c4"), text("4")));
    wait_free(kvs_txn_put(txn, text("c5"), text("55")));
    wait_free(kvs_txn_delete(txn, text("c3")));
    wait_free(kvs_txn_put(txn, text("c9"), text("9")));
    wait_free(kvs_txn_lock(txn, (kvs_slice[]){text("c6")}, 1, 0));
    expect_scan(txn, "c", "d", 0, 0, "c0=0 c1=1 c4=4 c5=55 c7=7 c9=9 ", 0);
    expect_scan(txn, "c", "d", 0, KVS_OP_FLAG_REVERSE, "c9=9 c7=7 c5=55 c4=4 c1=1 c0=0 ", 0);
    expect_scan(txn, "c1", "c7", 0, 0, "c1=1 c4=4 c5=55 ", 0);
    expect_scan(txn, "c1", "c7", 2, 0, "c1=1 c4=4 ", 1);
    expect_scan(txn, "c1", "c7", 3, 0, "c1=1 c4=4 c5=55 ", 0);
    expect_scan(txn, "c", "c9", 2, KVS_OP_FLAG_REVERSE, "c7=7 c5=55 ", 1);
    expect_scan(txn, "c", "d", 3, KVS_OP_FLAG_KEYS_ONLY, "c0= c1= c4= ", 1);
    expect_scan(txn, "c3", "c4", 5, 0, "", 0);
    expect_scan(txn, "d", "c", 5, 0, "", 0);
    kvs_txn_free(txn);
}

static void test_long_scans(void **state)
{
    (void)state;
    enum { COUNT = 6000 };
    char key[16];
    kvs_txn *txn = begin(false);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(key, sizeof key, "l%05u", i);
        assert_int_equal(wait_free(kvs_txn_put(txn, text(key), text("value"))), 0);
    }
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    txn_world_split(&world, "l01000");
    txn_world_split(&world, "l03000");
    txn = begin(false);
    for (unsigned flags = 0; flags <= KVS_OP_FLAG_REVERSE; flags++) {
        kvs_future *scan = kvs_txn_scan(txn, text("l"), text("m"), COUNT - 1, flags);
        const kvs_pair *pairs;
        size_t count;
        int64_t more;
        assert_int_equal(kvs_future_wait(scan, -1), 0);
        assert_int_equal(kvs_future_get_pairs(scan, &pairs, &count), 0);
        assert_int_equal(kvs_future_get_number(scan, &more), 0);
        assert_int_equal(count, COUNT - 1);
        assert_int_equal(more, 1);
        for (unsigned i = 0; i < count; i++) {
            snprintf(key, sizeof key, "l%05u", flags == 0 ? i : COUNT - 1 - i);
            assert_int_equal(pairs[i].key.size, 6);
            assert_memory_equal(pairs[i].key.data, key, 6);
        }
        kvs_future_free(scan);
    }
    kvs_txn_free(txn);
}

/* --- inserts ------------------------------------------------------------------------------------
 */

static void test_inserts(void **state)
{
    (void)state;
    PUT_ALL("i1=here", "i2=here");
    kvs_txn *txn = begin(false);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("i0"), text("a"))), 0);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("i0"), text("b"))), KVS_ERR_ALREADY_EXISTS);
    assert_int_equal(wait_free(kvs_txn_delete(txn, text("i1"))), 0);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("i1"), text("again"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("i0", "a");
    world_expect("i1", "again");
    txn = begin(false);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("i2"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("i9"), text("x"))), 0);
    kvs_future *commit = kvs_txn_commit(txn);
    assert_int_equal(kvs_future_wait(commit, -1), KVS_ERR_ALREADY_EXISTS);
    kvs_txn_conflict conflict;
    assert_int_equal(kvs_future_get_txn_conflict(commit, &conflict), 0);
    assert_slice_equal(conflict.key, "i2");
    kvs_future_free(commit);
    kvs_txn_free(txn);
    world_expect("i9", NULL);
    txn = begin(false); /* inserted, then deleted: it must not be there */
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("i2"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_delete(txn, text("i2"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("i3"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_ALREADY_EXISTS);
    kvs_txn_free(txn);
    txn = begin(false);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("i5"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_delete(txn, text("i5"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("i5", NULL);
}

static void test_pessimistic_inserts(void **state)
{
    (void)state;
    PUT_ALL("p1=here");
    kvs_txn *txn = begin(true);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("p1"), text("x"))), KVS_ERR_ALREADY_EXISTS);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("p2"), text("x"))), 0);
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("p2"), text("x"))), KVS_ERR_ALREADY_EXISTS);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("p1", "here");
    world_expect("p2", "x");
}

/* --- locks --------------------------------------------------------------------------------------
 */

static void test_optimistic_locks(void **state)
{
    (void)state;
    char value[64];
    PUT_ALL("o1=a", "o2=a");
    kvs_txn *txn = begin(false);
    assert_int_equal(wait_value(kvs_txn_get_for_update(txn, text("o1")), value), 0);
    assert_string_equal(value, "a");
    assert_int_equal(wait_free(kvs_txn_put(txn, text("o2"), text("b"))), 0);
    PUT_ALL("o1=c");
    assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_WRITE_CONFLICT);
    kvs_txn_free(txn);
    world_expect("o2", "a");
    txn = begin(false);
    assert_int_equal(wait_free(kvs_txn_lock(txn, (kvs_slice[]){text("o1"), text("o5")}, 2, 0)), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("o1", "c");
    world_expect("o5", NULL);
}

static void test_pessimistic_locks(void **state)
{
    (void)state;
    char value[64];
    PUT_ALL("q1=a", "q2=a");
    kvs_txn *holder = begin(true);
    assert_int_equal(wait_value(kvs_txn_get_for_update(holder, text("q1")), value), 0);
    struct kvs_txn_options options = pessimistic;
    options.lock_wait_ms = KVS_TXN_LOCK_NO_WAIT;
    kvs_txn *other = kvs_txn_begin(world.client, &options);
    kvs_future *put = kvs_txn_put(other, text("q1"), text("b"));
    assert_int_equal(kvs_future_wait(put, -1), KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_conflict conflict;
    assert_int_equal(kvs_future_get_txn_conflict(put, &conflict), 0);
    assert_slice_equal(conflict.key, "q1");
    assert_int_equal(conflict.conflict_ts, wait_number(kvs_txn_start_timestamp(holder)));
    kvs_future_free(put);
    assert_int_equal(wait_free(kvs_txn_put(other, text("q2"), text("b"))), 0);
    kvs_slice q1 = text("q1");
    kvs_future *lock = kvs_txn_lock(other, &q1, 1, INT32_MAX); /* waits */
    assert_int_equal(wait_free(kvs_txn_put(holder, text("q1"), text("h"))), 0);
    assert_false(kvs_future_is_ready(lock));
    assert_int_equal(wait_free(kvs_txn_commit(holder)), 0);
    assert_int_equal(wait_free(lock), 0);
    kvs_txn_free(holder);
    /* newer than its start: what locks sees it, what reads as of the start does not */
    assert_int_equal(wait_value(kvs_txn_get_for_update(other, text("q1")), value), 0);
    assert_string_equal(value, "h");
    assert_int_equal(wait_value(kvs_txn_get(other, text("q1")), value), 0);
    assert_string_equal(value, "a");
    assert_int_equal(wait_free(kvs_txn_put(other, text("q1"), text("o"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(other)), 0);
    kvs_txn_free(other);
    world_expect("q1", "o");
    world_expect("q2", "b");
}

static void test_lock_waits_end(void **state)
{
    (void)state;
    kvs_slice key = text("w1");
    kvs_txn *holder = begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(holder, &key, 1, 0)), 0);
    kvs_txn *other = begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(other, &key, 1, 50)), KVS_ERR_LOCK_TIMEOUT);
    kvs_future *lock = kvs_txn_lock(other, &key, 1, 60000);
    assert_int_equal(kvs_future_wait(lock, 50), KVS_ERR_TIMEOUT); /* in the store by now */
    kvs_future_cancel(lock);
    assert_int_equal(wait_free(lock), KVS_ERR_CANCELLED);
    assert_int_equal(wait_free(kvs_txn_commit(other)), KVS_ERR_CANCELLED); /* spoiled */
    kvs_txn_free(other);
    other = begin(true);
    lock = kvs_txn_lock(other, &key, 1, 60000);
    assert_int_equal(kvs_future_wait(lock, 50), KVS_ERR_TIMEOUT);
    kvs_txn_free(other); /* while it waits */
    assert_int_equal(wait_free(lock), KVS_ERR_CANCELLED);
    wait_free(kvs_future_delay(world.runtime, 50)); /* the store knows of that */
    assert_int_equal(wait_free(kvs_txn_rollback(holder)), 0);
    kvs_txn_free(holder);
    other = begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(other, &key, 1, 10000)), 0); /* neither has got it */
    assert_int_equal(wait_free(kvs_txn_rollback(other)), 0);
    kvs_txn_free(other);
}

/* A commit that was given up while it waited for its turn: nobody waits for its locks. */
static void test_cancelled_commit(void **state)
{
    (void)state;
    kvs_slice first = text("cc1");
    kvs_slice second = text("cc2");
    kvs_txn *holder = begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(holder, &second, 1, 0)), 0);
    kvs_txn *txn = begin(true);
    assert_int_equal(wait_free(kvs_txn_put(txn, first, text("lost"))), 0);
    kvs_future *lock = kvs_txn_lock(txn, &second, 1, 60000);
    kvs_future *commit = kvs_txn_commit(txn);
    kvs_future_cancel(commit);
    assert_int_equal(wait_free(commit), KVS_ERR_CANCELLED);
    assert_int_equal(wait_free(kvs_txn_rollback(holder)), 0);
    kvs_txn_free(holder);
    assert_int_equal(wait_free(lock), 0);
    kvs_txn *other = begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(other, &first, 1, 5000)), 0); /* it would live longer */
    assert_int_equal(wait_free(kvs_txn_lock(other, &second, 1, 5000)), 0);
    kvs_txn_free(other);
    kvs_txn_free(txn);
    world_expect("cc1", NULL);
}

/* Somebody has pushed the primary lock into the future: not too far, the commit is tried again. */
static void test_pushed_locks(void **state)
{
    (void)state;
    struct kvs_txn_options options = pessimistic;
    options.no_async_commit = options.no_one_pc = true;
    unsigned count = world.server == NULL ? 2 : 1; /* our server refuses such timestamps itself */
    for (unsigned is_far = 0; is_far < count; is_far++) {
        kvs_txn *txn = kvs_txn_begin(world.client, &options);
        assert_int_equal(wait_free(kvs_txn_put(txn, text("far"), text("v"))), 0);
        uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
        struct ghost ghost = {.start_ts = (uint64_t)wait_number(kvs_txn_start_timestamp(txn)),
                              .primary = "far",
                              .for_update_ts = now,
                              .min_commit_ts = now + txn_ts_make(is_far ? 7200 * 1000 : 20, 0)};
        assert_int_equal(ghost_lock(world.client, &ghost, "far"), 0);
        assert_int_equal(wait_free(kvs_txn_commit(txn)), is_far ? KVS_ERR_LOCK_LOST : 0);
        kvs_txn_free(txn);
    }
}

static void test_deadlock(void **state)
{
    (void)state;
    kvs_slice d1 = text("d1");
    kvs_slice d2 = text("d2");
    kvs_txn *a = begin(true);
    kvs_txn *b = begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(a, &d1, 1, 0)), 0);
    assert_int_equal(wait_free(kvs_txn_lock(b, &d2, 1, 0)), 0);
    kvs_future *a_waits = kvs_txn_lock(a, &d2, 1, INT32_MAX);
    kvs_future *b_waits = kvs_txn_lock(b, &d1, 1, INT32_MAX);
    int b_error = 0;
    int a_error = 0;
    while (!kvs_future_is_ready(a_waits) && !kvs_future_is_ready(b_waits))
        wait_free(kvs_future_delay(world.runtime, 1));
    bool b_lost = kvs_future_is_ready(b_waits) && kvs_future_error(b_waits) == KVS_ERR_DEADLOCK;
    if (b_lost) {
        kvs_txn_conflict conflict;
        assert_int_equal(kvs_future_get_txn_conflict(b_waits, &conflict), 0);
        assert_slice_equal(conflict.key, "d1");
    }
    kvs_txn_free(b_lost ? b : a); /* gives its locks back */
    a_error = wait_free(a_waits);
    b_error = wait_free(b_waits);
    assert_int_equal(b_lost ? b_error : a_error, KVS_ERR_DEADLOCK);
    assert_int_equal(b_lost ? a_error : b_error, 0);
    kvs_txn_free(b_lost ? a : b);
}

static void test_dropped_transactions(void **state)
{
    (void)state;
    kvs_slice key = text("x1");
    for (unsigned i = 0; i < 3; i++) {
        kvs_txn *txn = begin(true);
        assert_int_equal(wait_free(kvs_txn_put(txn, key, text("lost"))), 0);
        assert_int_equal(wait_free(kvs_txn_lock(txn, (kvs_slice[]){text("x2")}, 1, 0)), 0);
        kvs_txn_free(txn); /* neither committed nor rolled back */
    }
    world_expect("x1", NULL);
    kvs_txn *txn = begin(false);
    assert_int_equal(wait_free(kvs_txn_put(txn, key, text("lost"))), 0);
    kvs_txn_free(txn);
    txn = begin(false);
    kvs_txn_free(txn);
    world_expect("x1", NULL);
}

static void test_rollback(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        kvs_txn *txn = begin(i == 1);
        assert_int_equal(wait_free(kvs_txn_put(txn, text("r1"), text("x"))), 0);
        assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
        assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_INVALID_ARGUMENT);
        kvs_txn_free(txn);
        world_expect("r1", NULL);
    }
}

/* --- ways to commit -----------------------------------------------------------------------------
 */

static void test_ways_to_commit(void **state)
{
    (void)state;
    txn_world_split(&world, "t4");
    for (unsigned way = 0; way < 16; way++) {
        const struct kvs_txn_options options = {
            .size = sizeof options,
            .no_one_pc = (way & 1) != 0,
            .no_async_commit = (way & 2) != 0,
            .causal_only = (way & 4) != 0,
            .pessimistic = (way & 8) != 0,
        };
        char key[8];
        char value[16];
        kvs_txn *txn = kvs_txn_begin(world.client, &options);
        for (unsigned i = 0; i < 8; i++) {
            snprintf(key, sizeof key, "t%u", i);
            snprintf(value, sizeof value, "way%u", way);
            assert_int_equal(wait_free(kvs_txn_put(txn, text(key), text(value))), 0);
        }
        assert_int_equal(wait_free(kvs_txn_delete(txn, text("t8"))), 0);
        int64_t commit_ts = wait_number(kvs_txn_commit(txn));
        kvs_txn_free(txn);
        /* as of the commit all of it is there, just before nothing is */
        for (unsigned before = 0; before < 2; before++) {
            kvs_snapshot *snapshot = kvs_snapshot_new(world.client, (uint64_t)commit_ts - before);
            for (unsigned i = 0; i < 8; i++) {
                char found[64];
                snprintf(key, sizeof key, "t%u", i);
                int error = wait_value(kvs_snapshot_get(snapshot, text(key)), found);
                if (before == 0)
                    assert_string_equal(found, value);
                else if (error == 0)
                    assert_string_not_equal(found, value);
            }
            kvs_snapshot_free(snapshot);
        }
    }
}

static void test_without_waiting(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        char value[64];
        kvs_txn *txn = begin(i == 1);
        kvs_future *get = kvs_txn_get(txn, text("n1"));
        kvs_future *put = kvs_txn_put(txn, text("n1"), text(i == 0 ? "1" : "2"));
        kvs_future *commit = kvs_txn_commit(txn);
        kvs_txn_free(txn); /* a commit goes on */
        assert_int_equal(wait_free(commit), 0);
        assert_int_equal(wait_free(put), 0);
        assert_int_equal(wait_value(get, value), i == 0 ? KVS_ERR_NOT_FOUND : 0);
        if (i == 1)
            assert_string_equal(value, "1");
        world_expect("n1", i == 0 ? "1" : "2");
    }
}

/* --- limits and misuse --------------------------------------------------------------------------
 */

static void test_limits(void **state)
{
    (void)state;
    struct kvs_txn_options options = {
        .size = sizeof options, .size_bytes_max = 100, .count_max = 3};
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    char large[200];
    memset(large, 'x', sizeof large);
    kvs_slice value = {.data = (const uint8_t *)large, .size = sizeof large};
    assert_int_equal(wait_free(kvs_txn_put(txn, text("z"), value)), KVS_ERR_TXN_TOO_LARGE);
    for (unsigned i = 0; i < 4; i++) {
        char key[4];
        snprintf(key, sizeof key, "z%u", i);
        assert_int_equal(wait_free(kvs_txn_put(txn, text(key), text("v"))),
                         i < 3 ? 0 : KVS_ERR_TXN_TOO_LARGE);
    }
    assert_int_equal(wait_free(kvs_txn_put(txn, text(""), text("v"))), KVS_ERR_INVALID_ARGUMENT);
    kvs_slice long_key = {.data = (const uint8_t *)large, .size = KVS_KEY_SIZE_MAX + 1};
    assert_int_equal(wait_free(kvs_txn_get(txn, long_key)), KVS_ERR_TOO_LARGE);
    assert_int_equal(wait_free(kvs_txn_batch_get(txn, NULL, 2)), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_free(kvs_txn_batch_get(txn, NULL, 0)), 0);
    const kvs_mutation range = {.kind = KVS_MUTATION_REMOVE_RANGE, .key = text("a")};
    assert_int_equal(wait_free(kvs_txn_mutate(txn, &range, 1)), KVS_ERR_UNSUPPORTED);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("z2", "v");
    options = (struct kvs_txn_options){.size = sizeof options, .read_only = true};
    txn = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("z"), text("v"))), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_free(kvs_txn_get(txn, text("z2"))), 0);
    assert_int_equal(wait_number(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    options = (struct kvs_txn_options){.size = sizeof options, .priority = 9};
    txn = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_get(txn, text("z"))), KVS_ERR_INVALID_ARGUMENT);
    kvs_txn_free(txn);
    assert_int_equal(wait_free(kvs_txn_client_open(world.runtime, "kvs://127.0.0.1", NULL)),
                     KVS_ERR_UNSUPPORTED);
    kvs_txn_free(NULL);
    kvs_snapshot_free(NULL);
}

static void test_closed_client(void **state)
{
    (void)state;
    if (world_kind == WORLD_LOG || world_kind == WORLD_ROCKSDB)
        return; /* a directory is for one client, or a store and its clients */
    kvs_txn_client *client = txn_world_client(&world);
    kvs_txn *txn = kvs_txn_begin(client, &pessimistic);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("y"), text("v"))), 0);
    txn_world_close(client);
    assert_int_equal(wait_free(kvs_txn_get(txn, text("y"))), KVS_ERR_CLOSED);
    kvs_txn_free(txn);
}

/* --- other transactions' leavings ---------------------------------------------------------------
 */

static struct ghost make_ghost(const char *primary, uint64_t age_ms)
{
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    return (struct ghost){
        .start_ts = now - (age_ms << KVS_TXN_TS_LOGICAL_BITS),
        .primary = primary,
        .ttl_ms = 3000,
    };
}

static void test_dead_before_its_commit(void **state)
{
    (void)state;
    PUT_ALL("g1=old", "g2=old");
    struct ghost ghost = make_ghost("g1", 0);
    ghost.ttl_ms = 1;
    assert_int_equal(ghost_prewrite(world.client, &ghost, "g1", "new"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "g2", "new"), 0);
    world_expect("g2", "old");
    world_expect("g1", "old");
    PUT_ALL("g1=next", "g2=next"); /* writes get by, too */
    world_expect("g1", "next");
    assert_int_equal(ghost_commit(world.client, &ghost, "g1", ghost.start_ts + 100),
                     -1000 - TXN_ERROR_LOCK_NOT_FOUND);
}

static void test_dead_after_its_commit(void **state)
{
    (void)state;
    char pairs[256];
    PUT_ALL("h1=old", "h2=old", "h3=old");
    struct ghost ghost = make_ghost("h1", 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "h1", "new"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "h2", "new"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "h3", "new"), 0);
    uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(ghost_commit(world.client, &ghost, "h1", commit_ts), 0);
    world_expect("h2", "new"); /* its lock lives on for seconds */
    kvs_txn *txn = begin(false);
    expect_scan(txn, "h", "i", 0, 0, "h1=new h2=new h3=new ", 0);
    const kvs_slice keys[] = {text("h3"), text("h2"), text("h1")};
    assert_int_equal(wait_pairs(kvs_txn_batch_get(txn, keys, 3), pairs, 256, NULL), 0);
    assert_string_equal(pairs, "h3=new h2=new h1=new ");
    kvs_txn_free(txn);
    kvs_snapshot *past = kvs_snapshot_new(world.client, ghost.start_ts);
    assert_int_equal(
        wait_pairs(kvs_snapshot_scan(past, text("h"), text("i"), 0, 0), pairs, 256, NULL), 0);
    assert_string_equal(pairs, "h1=old h2=old h3=old ");
    kvs_snapshot_free(past);
}

/* A reader does not wait for a transaction that lives: it pushes its commit. */
static void test_alive(void **state)
{
    (void)state;
    PUT_ALL("j1=old", "j2=old");
    struct ghost ghost = make_ghost("j1", 0);
    ghost.ttl_ms = 60000;
    ghost.min_commit_ts = ghost.start_ts + 1;
    assert_int_equal(ghost_prewrite(world.client, &ghost, "j1", "new"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "j2", "new"), 0);
    world_expect("j2", "old");
    world_expect("j1", "old");
    kvs_txn *txn = begin(false);
    expect_scan(txn, "j", "k", 0, KVS_OP_FLAG_REVERSE, "j2=old j1=old ", 0);
    kvs_txn_free(txn);
    uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(ghost_commit(world.client, &ghost, "j1", commit_ts), 0);
    world_expect("j2", "new");
}

static void test_dead_in_asynchronous_commit(void **state)
{
    (void)state;
    PUT_ALL("v1=old", "v2=old", "v3=old");
    for (unsigned i = 0; i < 2; i++) { /* all locks are there; one is missing */
        struct ghost ghost = make_ghost("v1", 0);
        ghost.ttl_ms = 1;
        ghost.async = true;
        ghost.min_commit_ts = ghost.start_ts + 1;
        ghost.secondaries[0] = "v2";
        ghost.secondaries[1] = "v3";
        ghost.secondaries_count = 2;
        assert_int_equal(ghost_prewrite(world.client, &ghost, "v1", "new"), 0);
        ghost.secondaries_count = 0;
        assert_int_equal(ghost_prewrite(world.client, &ghost, "v2", "new"), 0);
        if (i == 0)
            assert_int_equal(ghost_prewrite(world.client, &ghost, "v3", "new"), 0);
        ghost_outlive(world.client, &ghost);
        world_expect("v2", "new");
        world_expect("v1", "new");
        world_expect("v3", "new");
        if (i == 0)
            PUT_ALL("v1=new", "v2=new", "v3=new");
    }
}

/* A life that no clock reaches the end of is not over. */
static void test_endless_life(void **state)
{
    (void)state;
    struct ghost ghost = make_ghost("y1", 0);
    ghost.ttl_ms = UINT64_MAX;
    ghost.async = true;
    ghost.min_commit_ts = ghost.start_ts + 1;
    ghost.secondaries[0] = "y2"; /* not prewritten yet */
    ghost.secondaries_count = 1;
    assert_int_equal(ghost_prewrite(world.client, &ghost, "y1", "new"), 0);
    struct kvs_txn_options options = pessimistic;
    options.lock_wait_ms = KVS_TXN_LOCK_NO_WAIT;
    kvs_txn *other = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_put(other, text("y1"), text("o"))), KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_free(other);
    other = begin(false);
    assert_int_equal(wait_free(kvs_txn_put(other, text("y1"), text("o"))), 0);
    kvs_future *commit = kvs_txn_commit(other); /* waits */
    ghost.secondaries_count = 0;
    assert_int_equal(ghost_prewrite(world.client, &ghost, "y2", "new"), 0);
    uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(ghost_commit(world.client, &ghost, "y1", commit_ts), 0);
    assert_int_equal(ghost_commit(world.client, &ghost, "y2", commit_ts), 0);
    assert_int_equal(wait_free(commit), KVS_ERR_WRITE_CONFLICT);
    kvs_txn_free(other);
    world_expect("y2", "new");
}

/* Many small keys take longer than their locks lived if these had the life of few: until the first
 * heartbeat the primary's has to last by itself. */
static void test_life_of_many_keys(void **state)
{
    (void)state;
    char key[16];
    struct ghost ghost = make_ghost("z~", 0);
    ghost.ttl_ms = 60000;
    kvs_txn *txn = begin(false);
    uint64_t start_ts = (uint64_t)wait_number(kvs_txn_start_timestamp(txn));
    for (unsigned i = 0; i < 10001; i++) {
        snprintf(key, sizeof key, "z%05u", i);
        assert_int_equal(wait_free(kvs_txn_put(txn, text(key), text("v"))), 0);
    }
    assert_int_equal(wait_free(kvs_txn_put(txn, text("z~"), text("v"))), 0);
    if (world_kind == WORLD_TIKV ||
        world_kind == WORLD_TIKV_V2) /* parts: it stops before the last */
        assert_int_equal(ghost_prewrite(world.client, &ghost, "z~", "g"), 0);
    kvs_future *commit = kvs_txn_commit(txn);
    if (world_kind == WORLD_TIKV || world_kind == WORLD_TIKV_V2) {
        uint64_t life_ms = 0;
        while (life_ms == 0 && !kvs_future_is_ready(commit))
            life_ms = lock_life_ms(world.client, "z00000", start_ts);
        assert_true(life_ms >= 20000);
        uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
        assert_int_equal(ghost_commit(world.client, &ghost, "z~", commit_ts), 0);
        assert_int_equal(wait_free(commit), KVS_ERR_WRITE_CONFLICT);
    } else {
        assert_int_equal(wait_free(commit), 0);
    }
    kvs_txn_free(txn);
}

static void test_dead_with_pessimistic_locks(void **state)
{
    (void)state;
    struct ghost ghost = make_ghost("u1", 0);
    ghost.ttl_ms = 1;
    ghost.for_update_ts = ghost.start_ts;
    assert_int_equal(ghost_lock(world.client, &ghost, "u1"), 0);
    assert_int_equal(ghost_lock(world.client, &ghost, "u2"), 0);
    ghost_outlive(world.client, &ghost);
    kvs_txn *txn = begin(true);
    /* However long it would wait for a living one. */
    kvs_slice key = text("u2");
    assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, INT32_MAX)), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("u2"), text("v"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("u1"), text("v"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("u1", "v");
}

/* --- housekeeping -------------------------------------------------------------------------------
 */

static void test_cleanup_and_gc(void **state)
{
    (void)state;
    PUT_ALL("e1=1", "e2=1");
    uint64_t first = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    PUT_ALL("e1=2");
    struct ghost ghost = make_ghost("e1", 0);
    ghost.ttl_ms = 1;
    assert_int_equal(ghost_prewrite(world.client, &ghost, "e1", "x"), 0);
    assert_int_equal(ghost_prewrite(world.client, &ghost, "e2", "x"), 0);
    ghost_outlive(world.client, &ghost);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(wait_number(kvs_txn_cleanup_locks(world.client, text("e"), text("f"), now)),
                     2);
    assert_int_equal(wait_number(kvs_txn_cleanup_locks(world.client, text("e"), text("f"), now)),
                     0);
    ghost = make_ghost("e1", 0);
    ghost.ttl_ms = 600000; /* gc does not ask whether it lives */
    assert_int_equal(ghost_prewrite(world.client, &ghost, "e1", "x"), 0);
    now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(wait_number(kvs_txn_gc(world.client, now)), (int64_t)now);
    world_expect("e1", "2");
    world_expect("e2", "1");
    if (world.server == NULL) { /* a cluster does it when it likes */
        kvs_snapshot *past = kvs_snapshot_new(world.client, first);
        assert_int_equal(wait_free(kvs_snapshot_get(past, text("e1"))), KVS_ERR_TXN_TOO_OLD);
        kvs_snapshot_free(past);
    }
    assert_int_equal(wait_free(kvs_txn_gc(world.client, 0)), KVS_ERR_INVALID_ARGUMENT);
    uint64_t in_an_hour = now + txn_ts_make(3600 * 1000, 0);
    assert_int_equal(wait_free(kvs_txn_gc(world.client, in_an_hour)), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_free(kvs_txn_unsafe_destroy_range(world.client, text("e"), text("e2"))),
                     0);
    world_expect("e1", NULL);
    world_expect("e2", "1");
    assert_int_equal(wait_free(kvs_txn_unsafe_destroy_range(world.client, text("e"), text(""))),
                     KVS_ERR_INVALID_ARGUMENT);
}

/* --- the whole ----------------------------------------------------------------------------------
 */

static kvs_future *put_sum(kvs_future *get, void *arg)
{
    kvs_txn *txn = arg;
    char text_of[64];
    kvs_slice value = {0};
    int error = kvs_future_get_value(get, &value);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return get;
    int count = error == 0 ? atoi((const char *)value.data) : 0;
    snprintf(text_of, sizeof text_of, "%d", count + 1);
    kvs_slice bytes = {.data = (const uint8_t *)text_of, .size = strlen(text_of) + 1};
    return kvs_txn_put(txn, text("counter"), bytes);
}

static kvs_future *add_one(kvs_txn *txn, void *arg)
{
    (void)arg;
    return kvs_future_then(kvs_txn_get(txn, text("counter")), put_sum, txn);
}

static int add_one_blocking(kvs_txn *txn, void *arg)
{
    (void)arg;
    kvs_future *done = add_one(txn, NULL);
    int error = kvs_future_wait(done, -1);
    kvs_future_free(done);
    return error;
}

static kvs_future *fail_always(kvs_txn *txn, void *arg)
{
    ++*(unsigned *)arg;
    kvs_future_free(kvs_txn_put(txn, text("never"), text("x")));
    return kvs_txn_get(txn, text("not there"));
}

static void test_run(void **state)
{
    (void)state;
    enum { RUNS = 40 };
    kvs_future *runs[RUNS];
    struct kvs_txn_options txn_options = {.size = sizeof txn_options};
    const struct kvs_txn_run_options options = {
        .size = sizeof options, .attempts_max = 1000, .txn = &txn_options};
    for (unsigned i = 0; i < RUNS; i++)
        runs[i] = kvs_txn_run(world.client, add_one, NULL, &options);
    for (unsigned i = 0; i < RUNS; i++)
        assert_true(wait_number(runs[i]) > 0);
    uint64_t commit_ts = 0;
    assert_int_equal(
        kvs_txn_run_blocking(world.client, add_one_blocking, NULL, &options, &commit_ts), 0);
    assert_true(commit_ts > 0);
    world_expect("counter", "41");
    unsigned calls = 0;
    assert_int_equal(wait_free(kvs_txn_run(world.client, fail_always, &calls, NULL)),
                     KVS_ERR_NOT_FOUND);
    assert_int_equal(calls, 1);
    world_expect("never", NULL);
    struct kvs_txn_run_options wrong = {0};
    assert_int_equal(wait_free(kvs_txn_run(world.client, add_one, NULL, &wrong)),
                     KVS_ERR_INVALID_ARGUMENT);
}

static kvs_future *lock_held(kvs_txn *txn, void *arg)
{
    kvs_slice key = text("x1");
    atomic_fetch_add((atomic_uint *)arg, 1);
    return kvs_txn_lock(txn, &key, 1, KVS_TXN_LOCK_NO_WAIT);
}

/* Between two attempts it has no transaction that would hold the client. */
static void test_run_over_a_close(void **state)
{
    (void)state;
    if (world_kind == WORLD_LOG || world_kind == WORLD_ROCKSDB)
        return; /* a directory is for one client, or a store and its clients */
    kvs_slice key = text("x1");
    kvs_txn_client *client = txn_world_client(&world);
    kvs_txn *holder = kvs_txn_begin(client, &pessimistic);
    assert_int_equal(wait_free(kvs_txn_lock(holder, &key, 1, 0)), 0);
    const struct kvs_txn_run_options options = {
        .size = sizeof options, .attempts_max = 1000, .txn = &pessimistic};
    kvs_future *runs[8];
    atomic_uint calls = 0;
    for (unsigned i = 0; i < 8; i++)
        runs[i] = kvs_txn_run(client, lock_held, &calls, &options);
    while (atomic_load(&calls) < 32)
        wait_free(kvs_future_delay(world.runtime, 1));
    kvs_txn_free(holder);
    txn_world_close(client);
    for (unsigned i = 0; i < 8; i++) {
        int error = wait_free(runs[i]);
        assert_true(error == KVS_ERR_CLOSED || error == 0);
    }
}

/* --- a store and transactions on one engine -----------------------------------------------------
 */

static void test_on_a_store(void **state)
{
    (void)state;
    for (unsigned store_first = 0; store_first < 2; store_first++) {
        void *store = NULL;
        void *clients[2];
        kvs_future *opened = kvs_store_open(world.runtime, "memory:", NULL);
        assert_int_equal(kvs_future_wait(opened, -1), 0);
        kvs_future_get_pointer(opened, &store);
        kvs_future_free(opened);
        for (unsigned i = 0; i < 2; i++) {
            opened = kvs_txn_client_on_store(store);
            assert_int_equal(kvs_future_wait(opened, -1), 0);
            kvs_future_get_pointer(opened, &clients[i]);
            kvs_future_free(opened);
        }
        char value[64];
        const char *const pair = "both=txn";
        put_all(clients[0], &pair, 1);
        assert_int_equal(wait_free(kvs_store_get(store, text("both"))), KVS_ERR_NOT_FOUND);
        assert_int_equal(wait_free(kvs_store_set(store, text("both"), text("raw"))), 0);
        assert_int_equal(get_now(clients[1], "both", value), 0);
        assert_string_equal(value, "txn");
        if (store_first)
            assert_int_equal(wait_free(kvs_store_close(store)), 0);
        txn_world_close(clients[0]);
        assert_int_equal(get_now(clients[1], "both", value), 0);
        txn_world_close(clients[1]);
        if (!store_first)
            assert_int_equal(wait_free(kvs_store_close(store)), 0);
    }
}

int txn_calls_run(enum txn_world_kind on)
{
    world_kind = on;
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_set_up, world_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_own_writes_and_commit),
        TEST(test_all_or_nothing),
        TEST(test_snapshots),
        TEST(test_batches),
        TEST(test_scans_over_own_writes),
        TEST(test_long_scans),
        TEST(test_inserts),
        TEST(test_pessimistic_inserts),
        TEST(test_optimistic_locks),
        TEST(test_pessimistic_locks),
        TEST(test_lock_waits_end),
        TEST(test_cancelled_commit),
        TEST(test_pushed_locks),
        TEST(test_deadlock),
        TEST(test_dropped_transactions),
        TEST(test_rollback),
        TEST(test_ways_to_commit),
        TEST(test_without_waiting),
        TEST(test_limits),
        TEST(test_closed_client),
        TEST(test_dead_before_its_commit),
        TEST(test_dead_after_its_commit),
        TEST(test_share_with_the_dead),
        TEST(test_share_a_key),
        TEST(test_share_rules),
        TEST(test_share_waits),
        TEST(test_share_many),
        TEST(test_share_given_back),
        TEST(test_share_beside_writers),
        TEST(test_alive),
        TEST(test_dead_in_asynchronous_commit),
        TEST(test_endless_life),
        TEST(test_life_of_many_keys),
        TEST(test_dead_with_pessimistic_locks),
        TEST(test_cleanup_and_gc),
        TEST(test_run),
        TEST(test_run_over_a_close),
        TEST(test_on_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
