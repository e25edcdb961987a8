/* See txn_shares.h: on whatever kind of data world_kind says. */
#include "unit/client/txn_shares.h"

#include "unit/client/txn_case.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "times.h"

#define FOR_EVER INT32_MAX

static int share(kvs_txn *txn, const char *key)
{
    const kvs_slice keys[] = {text(key)};
    return wait_free(kvs_txn_lock_shared(txn, keys, 1, 0));
}

static int put(kvs_txn *txn, const char *key, const char *value)
{
    return wait_free(kvs_txn_put(txn, text(key), text(value)));
}

/* One that has written `own`, and shares `key`. */
static kvs_txn *sharer(const char *own, const char *key)
{
    kvs_txn *txn = world_begin(true);
    assert_int_equal(put(txn, own, "shared"), 0);
    assert_int_equal(share(txn, key), 0);
    return txn;
}

static void commit(kvs_txn *txn)
{
    wait_number(kvs_txn_commit(txn));
    kvs_txn_free(txn);
}

static void rollback(kvs_txn *txn)
{
    assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
    kvs_txn_free(txn);
}

/* Those that nobody hears of any more, one of which has a while to live. */
void test_share_with_the_dead(void **state)
{
    (void)state;
    kvs_slice key = text("sh");
    const char *const old[] = {"sh=old"};
    put_all(world.client, old, 1);
    struct ghost ghosts[2];
    for (unsigned i = 0; i < 2; i++) {
        uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
        ghosts[i] = (struct ghost){.start_ts = now,
                                   .primary = i == 0 ? "sh1" : "sh2",
                                   .ttl_ms = i == 0 ? 1 : 1500,
                                   .for_update_ts = now};
        assert_int_equal(ghost_lock(world.client, &ghosts[i], ghosts[i].primary), 0);
        ghosts[i].shares = true;
        assert_int_equal(ghost_lock(world.client, &ghosts[i], "sh"), 0);
    }
    world_expect("sh", "old");
    commit(sharer("own", "sh"));
    kvs_txn *txn = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, 100)), KVS_ERR_LOCK_TIMEOUT);
    assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, FOR_EVER)), 0);
    kvs_txn_free(txn);
}

void test_share_a_key(void **state)
{
    (void)state;
    const char *const old[] = {"k=old"};
    put_all(world.client, old, 1);
    kvs_txn *one = sharer("one", "k");
    kvs_txn *two = sharer("two", "k");
    world_expect("k", "old");
    kvs_txn *writer = world_begin(true);
    kvs_future *refused = kvs_txn_put(writer, text("k"), text("new"));
    assert_int_equal(kvs_future_wait(refused, -1), KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_conflict conflict;
    assert_int_equal(kvs_future_get_txn_conflict(refused, &conflict), 0);
    assert_slice_equal(conflict.key, "k");
    kvs_future_free(refused);
    commit(one);
    assert_int_equal(put(writer, "k", "new"), KVS_ERR_LOCK_TIMEOUT);
    rollback(two);
    assert_int_equal(put(writer, "k", "new"), 0);
    kvs_txn *late = world_begin(true);
    assert_int_equal(put(late, "late", "v"), 0);
    assert_int_equal(share(late, "k"), KVS_ERR_LOCK_TIMEOUT);
    commit(writer);
    assert_int_equal(share(late, "k"), 0); /* as it is now */
    commit(late);
    world_expect("one", "shared");
    world_expect("two", NULL);
    world_expect("k", "new");
    world_expect("late", "v");
}

/* What a transaction may do with a key that it shares, and when it may share one. */
void test_share_rules(void **state)
{
    (void)state;
    const kvs_slice key = text("k");
    char value[64];
    kvs_txn *txn = world_begin(true);
    kvs_future *first = kvs_txn_lock_shared(txn, &key, 1, 0);
    assert_int_equal(kvs_future_wait(first, -1), KVS_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(kvs_future_error_message(first), "for itself"));
    kvs_future_free(first);
    assert_int_equal(put(txn, "own", "1"), 0);
    assert_int_equal(share(txn, "k"), 0);
    assert_int_equal(share(txn, "k"), 0);
    assert_int_equal(put(txn, "k", "v"), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_free(kvs_txn_insert(txn, key, text("v"))), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_free(kvs_txn_delete(txn, key)), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, 0)), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_value(kvs_txn_get_for_update(txn, key), value), KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(wait_value(kvs_txn_get(txn, key), value), KVS_ERR_NOT_FOUND);
    assert_int_equal(share(txn, "own"), 0); /* it is locked already, for itself */
    assert_int_equal(put(txn, "own", "2"), 0);
    kvs_txn *other = sharer("other", "k");
    commit(txn);
    commit(other);
    world_expect("own", "2");
    world_expect("k", NULL);
    txn = world_begin(false); /* optimistic: as a lock for itself */
    assert_int_equal(share(txn, "k"), 0);
    assert_int_equal(put(txn, "k", "mine"), 0);
    commit(txn);
    txn = world_begin(false);
    assert_int_equal(share(txn, "k"), 0);
    const char *const newer[] = {"k=newer"};
    put_all(world.client, newer, 1);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_WRITE_CONFLICT);
    kvs_txn_free(txn);
    const struct kvs_txn_options read_only = {
        .size = sizeof read_only, .pessimistic = true, .read_only = true};
    txn = kvs_txn_begin(world.client, &read_only);
    assert_int_equal(share(txn, "k"), KVS_ERR_INVALID_ARGUMENT);
    kvs_txn_free(txn);
}

/* Who wants the key for itself waits for all that share it; who wants to share it then, for that
 * one. */
void test_share_waits(void **state)
{
    (void)state;
    const kvs_slice key = text("k");
    kvs_txn *sharers[] = {sharer("one", "k"), sharer("two", "k")};
    kvs_txn *alone = world_begin(true);
    kvs_txn *late = world_begin(true);
    kvs_future *locked = kvs_txn_lock(alone, &key, 1, FOR_EVER);
    assert_int_equal(put(late, "late", "v"), 0);
    int error;
    do { /* until it has closed the lock */
        kvs_txn *joining = world_begin(true);
        assert_int_equal(put(joining, "joining", "v"), 0);
        error = share(joining, "k");
        rollback(joining);
    } while (error == 0);
    assert_int_equal(error, KVS_ERR_LOCK_TIMEOUT);
    assert_int_equal(share(sharers[0], "k"), 0); /* it has its part */
    kvs_future *shared = kvs_txn_lock_shared(late, &key, 1, FOR_EVER);
    commit(sharers[0]);
    assert_int_equal(kvs_future_wait(locked, 50), KVS_ERR_TIMEOUT);
    assert_false(kvs_future_is_ready(shared));
    commit(sharers[1]);
    assert_int_equal(wait_free(locked), 0);
    assert_int_equal(put(alone, "k", "alone"), 0);
    assert_false(kvs_future_is_ready(shared));
    commit(alone);
    assert_int_equal(wait_free(shared), 0);
    commit(late);
    world_expect("k", "alone");
    world_expect("late", "v");
}

/* Of several regions, without waiting for anything but the commit; and the last of many. */
void test_share_many(void **state)
{
    (void)state;
    const kvs_slice keys[] = {text("m9"), text("m1"), text("m5"), text("m1"), text("own2")};
    txn_world_split(&world, "m3");
    txn_world_split(&world, "m7");
    for (unsigned round = 0; round < 3; round++) {
        kvs_txn *txns[3];
        kvs_future *calls[3][3];
        for (unsigned i = 0; i < 3; i++) {
            const char own[] = {'o', 'w', 'n', (char)('0' + i), '\0'};
            txns[i] = world_begin(true);
            calls[i][0] = kvs_txn_put(txns[i], text(own), text("v"));
            calls[i][1] = kvs_txn_lock_shared(txns[i], keys, 4, FOR_EVER);
            calls[i][2] = kvs_txn_commit(txns[i]);
        }
        for (unsigned i = 0; i < 9; i++)
            assert_int_equal(wait_free(calls[i / 3][i % 3]), 0);
        for (unsigned i = 0; i < 3; i++)
            kvs_txn_free(txns[i]);
    }
    kvs_txn *txn = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(txn, keys, 5, FOR_EVER)), 0);
    commit(txn);
    world_expect("own0", "v");
    world_expect("own2", "v");
    world_expect("m5", NULL);
}

/* By a rollback, by freeing the transaction, by a commit that fails. */
void test_share_given_back(void **state)
{
    (void)state;
    const kvs_slice key = text("k");
    rollback(sharer("own", "k"));
    kvs_txn *txn = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, 0)), 0);
    kvs_txn_free(txn);
    kvs_txn_free(sharer("own", "k2"));
    const kvs_slice second = text("k2");
    txn = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(txn, &second, 1, FOR_EVER)), 0);
    kvs_txn_free(txn);
    txn = sharer("own3", "k3");
    kvs_txn *holder = world_begin(true);
    assert_int_equal(put(holder, "held", "v"), 0);
    kvs_future *waits = kvs_txn_put(txn, text("held"), text("w"));
    assert_int_equal(wait_free(waits), KVS_ERR_LOCK_TIMEOUT);
    kvs_slice held = text("held");
    waits = kvs_txn_lock_shared(txn, &held, 1, FOR_EVER);
    kvs_future_cancel(waits);
    assert_int_equal(wait_free(waits), KVS_ERR_CANCELLED);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_CANCELLED);
    kvs_txn_free(txn);
    commit(holder);
    const kvs_slice third[] = {text("held"), text("k3"), text("own3")};
    txn = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_lock(txn, third, 3, FOR_EVER)), 0);
    kvs_txn_free(txn);
    world_expect("own3", NULL);
}

/* --- beside writers: what is shared stays as it is until the commit --- */

#define SHARERS 3u

struct worker {
    char own[8];
    char copied[64]; /* what it read while it shared the key */
    bool writes;
    int error;
    unsigned wrong;
};

static int share_and_copy(kvs_txn *txn, void *arg)
{
    struct worker *worker = arg;
    int error = put(txn, worker->own, "");
    if (error == 0)
        error = share(txn, "config");
    kvs_snapshot *newest = kvs_snapshot_new(world.client, KVS_TXN_TS_LATEST);
    if (error == 0)
        error = wait_value(kvs_snapshot_get(newest, text("config")), worker->copied);
    kvs_snapshot_free(newest);
    return error == 0 ? put(txn, worker->own, worker->copied) : error;
}

static int count_up(kvs_txn *txn, void *arg)
{
    char value[64];
    (void)arg;
    int error = wait_value(kvs_txn_get_for_update(txn, text("config")), value);
    if (error != 0)
        return error;
    snprintf(value, sizeof value, "%d", atoi(value) + 1);
    return put(txn, "config", value);
}

static bool is_as_copied(const struct worker *worker, uint64_t commit_ts)
{
    char value[64];
    kvs_snapshot *then = kvs_snapshot_new(world.client, commit_ts);
    int error = wait_value(kvs_snapshot_get(then, text("config")), value);
    kvs_snapshot_free(then);
    return error == 0 && strcmp(value, worker->copied) == 0;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    const struct kvs_txn_options options = {.size = sizeof options, .pessimistic = true};
    const struct kvs_txn_run_options run = {.size = sizeof run, .txn = &options};
    for (unsigned i = 0; i < TIMES(40, 10, 10) && worker->error == 0; i++) {
        uint64_t commit_ts = 0;
        worker->error = kvs_txn_run_blocking(
            world.client, worker->writes ? count_up : share_and_copy, worker, &run, &commit_ts);
        if (worker->error == 0 && !worker->writes && !is_as_copied(worker, commit_ts))
            worker->wrong++;
    }
    return NULL;
}

void test_share_beside_writers(void **state)
{
    (void)state;
    char value[64];
    char expected[16];
    const char *const first[] = {"config=0"};
    struct worker workers[SHARERS + 1] = {0};
    pthread_t threads[SHARERS + 1];
    put_all(world.client, first, 1);
    for (unsigned i = 0; i <= SHARERS; i++) {
        workers[i].writes = i == SHARERS;
        snprintf(workers[i].own, sizeof workers[i].own, "own%u", i);
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i <= SHARERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].error, 0);
        assert_int_equal(workers[i].wrong, 0);
    }
    assert_int_equal(get_now(world.client, "config", value), 0);
    snprintf(expected, sizeof expected, "%d", TIMES(40, 10, 10));
    assert_string_equal(value, expected);
}
