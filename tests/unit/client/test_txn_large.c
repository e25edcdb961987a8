/* Transactions that are more than one command takes: of many keys, long ones, large values. In this
 * process and on a server. */
#include "unit/client/txn_case.h"

#include <stdio.h>
#include <string.h>

#include "test.h"

#define KEYS_AT_ONCE 1000u

/* Keys that are padded to `size` bytes. */
struct many {
    unsigned count;
    size_t key_size;
    kvs_slice value;
    char bytes[KEYS_AT_ONCE][KVS_KEY_SIZE_MAX];
    kvs_mutation mutations[KEYS_AT_ONCE];
    kvs_slice keys[KEYS_AT_ONCE];
};

static struct many many;

static unsigned many_take(unsigned from)
{
    unsigned count = many.count - from < KEYS_AT_ONCE ? many.count - from : KEYS_AT_ONCE;
    for (unsigned i = 0; i < count; i++) {
        memset(many.bytes[i], 'x', many.key_size);
        char number[9];
        snprintf(number, sizeof number, "%08u", from + i);
        memcpy(many.bytes[i], number, 8);
        many.keys[i] = (kvs_slice){(const uint8_t *)many.bytes[i], many.key_size};
        many.mutations[i] =
            (kvs_mutation){.kind = KVS_MUTATION_SET, .key = many.keys[i], .value = many.value};
    }
    return count;
}

static void many_put(kvs_txn *txn)
{
    for (unsigned from = 0; from < many.count; from += KEYS_AT_ONCE)
        assert_int_equal(wait_free(kvs_txn_mutate(txn, many.mutations, many_take(from))), 0);
}

static void many_lock(kvs_txn *txn)
{
    for (unsigned from = 0; from < many.count; from += KEYS_AT_ONCE) {
        unsigned count = many_take(from);
        assert_int_equal(wait_free(kvs_txn_lock(txn, many.keys, count, KVS_TXN_LOCK_NO_WAIT)), 0);
    }
}

static unsigned many_there(void)
{
    unsigned there = 0;
    kvs_snapshot *snapshot = kvs_snapshot_new(world.client, KVS_TXN_TS_LATEST);
    for (unsigned from = 0; from < many.count; from += KEYS_AT_ONCE) {
        const kvs_pair *pairs;
        size_t count;
        kvs_future *get = kvs_snapshot_batch_get(snapshot, many.keys, many_take(from));
        assert_int_equal(kvs_future_wait(get, -1), 0);
        assert_int_equal(kvs_future_get_pairs(get, &pairs, &count), 0);
        for (size_t i = 0; i < count; i++)
            there += pairs[i].found && slice_equal(pairs[i].value, many.value);
        kvs_future_free(get);
    }
    kvs_snapshot_free(snapshot);
    return there;
}

/* All of it is committed; and when somebody else's lock is in the way of the last key, none. */
static void commit_many(unsigned count, size_t key_size, size_t value_size)
{
    static uint8_t value[1024 * 1024];
    memset(value, 'v', sizeof value);
    many.count = count;
    many.key_size = key_size;
    many.value = (kvs_slice){value, value_size};
    kvs_txn *txn = world_begin(false);
    many_put(txn);
    wait_number(kvs_txn_start_timestamp(txn));
    kvs_txn *other = world_begin(true); /* the younger one */
    unsigned last = many_take(count - count % KEYS_AT_ONCE - (count % KEYS_AT_ONCE == 0)) - 1;
    assert_int_equal(wait_free(kvs_txn_put(other, many.keys[last], text("o"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), KVS_ERR_WRITE_CONFLICT);
    kvs_txn_free(txn);
    assert_int_equal(wait_free(kvs_txn_rollback(other)), 0);
    kvs_txn_free(other);
    assert_int_equal(many_there(), 0);
    txn = world_begin(false);
    many_put(txn);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    assert_int_equal(many_there(), count);
}

static void test_many_keys(void **state)
{
    (void)state;
    commit_many(KVS_BATCH_COUNT_MAX + 10, 20, 10);
}

static void test_long_keys(void **state)
{
    (void)state;
    commit_many(7500, KVS_KEY_SIZE_MAX, 10);
}

static void test_large_values(void **state)
{
    (void)state;
    commit_many(80, 20, 1024 * 1024);
}

/* They are given back, and can be had by others: by one that waits for all of them, too. */
static void test_many_locks(void **state)
{
    (void)state;
    many.count = KVS_BATCH_COUNT_MAX + 10;
    many.key_size = 20;
    many.value = text("v");
    kvs_txn *txn = world_begin(true);
    many_lock(txn);
    kvs_txn *other = world_begin(false);
    many_put(other);
    kvs_future *commit = kvs_txn_commit(other);
    kvs_txn_free(other);
    assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
    kvs_txn_free(txn);
    assert_int_equal(wait_free(commit), 0);
    assert_int_equal(many_there(), many.count);
    txn = world_begin(true);
    many_lock(txn);
    assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
    kvs_txn_free(txn);
}

#define TESTS(engine)                                                       \
    WORLD_TEST(test_many_keys, engine), WORLD_TEST(test_long_keys, engine), \
        WORLD_TEST(test_large_values, engine), WORLD_TEST(test_many_locks, engine)

int main(void)
{
    const struct CMUnitTest tests[] = {TESTS(log), TESTS(tikv)};
    return cmocka_run_group_tests_name("txn-large", tests, NULL, NULL);
}
