/*
 * Scans whose pairs are lent (KVS_OP_FLAG_BORROW): on log: they point into segments, and stay as
 * they are while the store goes on; everywhere they are those of a scan with copies.
 */
#include <kvs/kvs.h>

#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

#define KEYS 400u
#define VALUE_SIZE 1000u

struct target {
    const char *scheme;
    uint64_t segment_size;
    uint64_t cache_size;
    kvs_runtime *runtime;
    kvs_store *store;
    char directory[64];
};

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static int wait_and_free(kvs_future *future)
{
    assert_non_null(future);
    int error = kvs_future_wait(future, -1);
    kvs_future_free(future);
    return error;
}

static int target_setup(void **state)
{
    struct target *target = *state;
    snprintf(target->directory, sizeof target->directory, "/tmp/kvs-test-XXXXXX");
    if (mkdtemp(target->directory) == NULL || kvs_runtime_new(NULL, &target->runtime) != 0)
        return -1;
    struct kvs_store_options options = {.size = sizeof options,
                                        .sync = KVS_SYNC_NEVER,
                                        .segment_size_bytes = target->segment_size,
                                        .cache_size_bytes = target->cache_size};
    char url[128];
    bool in_memory = strcmp(target->scheme, "memory") == 0;
    snprintf(url, sizeof url, "%s:%s", target->scheme, in_memory ? "" : target->directory);
    kvs_future *future = kvs_store_open(target->runtime, url, &options);
    void *store = NULL;
    if (future == NULL || kvs_future_wait(future, -1) != 0 ||
        kvs_future_get_pointer(future, &store) != 0)
        return -1;
    kvs_future_free(future);
    target->store = store;
    return 0;
}

static int target_teardown(void **state)
{
    struct target *target = *state;
    int error = target->store != NULL ? wait_and_free(kvs_store_close(target->store)) : 0;
    target->store = NULL;
    kvs_runtime_free(target->runtime);
    nftw(target->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    return error;
}

static kvs_slice key_write(char text[16], unsigned i)
{
    snprintf(text, 16, "key%06u", i);
    return kvs_slice_of(text);
}

/* A value tells its key and its generation, and is the same from one end to the other. */
static void value_write(uint8_t value[VALUE_SIZE], unsigned i, unsigned generation)
{
    for (unsigned at = 0; at + 8 <= VALUE_SIZE; at += 8) {
        memcpy(value + at, &i, 4);
        memcpy(value + at + 4, &generation, 4);
    }
}

static void assert_pair(const kvs_pair *pair, unsigned i, unsigned generation)
{
    char text[16];
    uint8_t expected[VALUE_SIZE];
    kvs_slice key = key_write(text, i);
    value_write(expected, i, generation);
    assert_true(pair->found);
    assert_int_equal(pair->key.size, key.size);
    assert_memory_equal(pair->key.data, key.data, key.size);
    assert_int_equal(pair->value.size, VALUE_SIZE);
    assert_memory_equal(pair->value.data, expected, VALUE_SIZE);
}

static void set_all(const struct target *target, unsigned generation)
{
    kvs_future *sets[KEYS];
    for (unsigned i = 0; i < KEYS; i++) {
        char text[16];
        uint8_t value[VALUE_SIZE];
        unsigned key = i * 7 % KEYS;
        value_write(value, key, generation);
        sets[i] =
            kvs_store_set(target->store, key_write(text, key), (kvs_slice){value, VALUE_SIZE});
    }
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(wait_and_free(sets[i]), 0);
}

static kvs_future *scan(const struct target *target, uint32_t limit, unsigned flags,
                        const kvs_pair **ret_pairs, size_t *ret_count)
{
    kvs_slice none = {0};
    kvs_future *future = kvs_store_scan(target->store, none, none, limit, flags);
    assert_non_null(future);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pairs(future, ret_pairs, ret_count), 0);
    return future;
}

static void test_same_as_copies(void **state)
{
    const struct target *target = *state;
    set_all(target, 1);
    const unsigned flags[] = {0, KVS_OP_FLAG_REVERSE, KVS_OP_FLAG_KEYS_ONLY, KVS_OP_FLAG_PAGE};
    const uint32_t limits[] = {0, 1, 2, 63, 64, 65, 200, KEYS, KEYS + 1, 100000};
    for (unsigned f = 0; f < 4; f++) {
        for (unsigned l = 0; l < sizeof limits / sizeof limits[0]; l++) {
            const kvs_pair *copied, *lent;
            size_t copied_count, lent_count;
            kvs_future *one = scan(target, limits[l], flags[f], &copied, &copied_count);
            kvs_future *other =
                scan(target, limits[l], flags[f] | KVS_OP_FLAG_BORROW, &lent, &lent_count);
            assert_int_equal(copied_count, lent_count);
            for (size_t i = 0; i < copied_count; i++) {
                assert_int_equal(copied[i].key.size, lent[i].key.size);
                assert_memory_equal(copied[i].key.data, lent[i].key.data, lent[i].key.size);
                assert_int_equal(copied[i].value.size, lent[i].value.size);
                assert_memory_equal(copied[i].value.data, lent[i].value.data, lent[i].value.size);
            }
            kvs_future_free(one);
            kvs_future_free(other);
        }
    }
}

static void test_bounds(void **state)
{
    const struct target *target = *state;
    set_all(target, 1);
    for (unsigned first = 0; first < KEYS; first += 37) {
        for (unsigned count = 0; first + count <= KEYS; count += 41) {
            char from[16], to[16];
            kvs_slice start = key_write(from, first);
            kvs_slice end = key_write(to, first + count);
            for (unsigned reverse = 0; reverse < 2; reverse++) {
                const kvs_pair *pairs;
                size_t found;
                kvs_future *future =
                    kvs_store_scan(target->store, start, end, KEYS,
                                   KVS_OP_FLAG_BORROW | (reverse != 0 ? KVS_OP_FLAG_REVERSE : 0));
                assert_int_equal(kvs_future_wait(future, -1), 0);
                assert_int_equal(kvs_future_get_pairs(future, &pairs, &found), 0);
                assert_int_equal(found, count);
                for (unsigned i = 0; i < count; i++)
                    assert_pair(&pairs[i], reverse != 0 ? first + count - 1 - i : first + i, 1);
                kvs_future_free(future);
            }
        }
    }
}

/* Overwritten, compacted, thrown out of the cache, the store closed: they stay. */
static void test_lent_pairs_stay(void **state)
{
    struct target *target = *state;
    kvs_future *held[4];
    const kvs_pair *pairs[4];
    size_t counts[4];
    for (unsigned generation = 0; generation < 4; generation++) {
        set_all(target, generation);
        held[generation] =
            scan(target, KEYS, KVS_OP_FLAG_BORROW, &pairs[generation], &counts[generation]);
        assert_int_equal(counts[generation], KEYS);
        assert_int_equal(wait_and_free(kvs_store_compact(target->store)), 0);
    }
    kvs_slice none = {0};
    assert_int_equal(wait_and_free(kvs_store_remove_range(target->store, none, none)), 0);
    assert_int_equal(wait_and_free(kvs_store_compact(target->store)), 0);
    assert_int_equal(wait_and_free(kvs_store_close(target->store)), 0);
    target->store = NULL;
    for (unsigned generation = 0; generation < 4; generation++) {
        for (unsigned i = 0; i < KEYS; i++)
            assert_pair(&pairs[generation][i], i, generation);
        kvs_future_free(held[generation]);
    }
}

struct done {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is;
};

static void on_done(kvs_op *op)
{
    struct done *done = op->user;
    pthread_mutex_lock(&done->lock);
    done->is = true;
    pthread_cond_signal(&done->changed);
    pthread_mutex_unlock(&done->lock);
}

/* The same op, again and again, with and without. */
static void test_ops(void **state)
{
    const struct target *target = *state;
    set_all(target, 3);
    struct done done = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_SCAN;
    op.on_done = on_done;
    op.user = &done;
    for (unsigned round = 0; round < 6; round++) {
        bool borrows = round % 2 == 0;
        op.flags = borrows ? KVS_OP_FLAG_BORROW : 0;
        op.limit = round < 4 ? 100 : 0;
        done.is = false;
        kvs_store_submit(target->store, &op);
        pthread_mutex_lock(&done.lock);
        while (!done.is)
            pthread_cond_wait(&done.changed, &done.lock);
        pthread_mutex_unlock(&done.lock);
        assert_int_equal(op.error, 0);
        assert_true(op.borrowed == borrows);
        assert_int_equal(op.pairs_count, op.limit == 100 ? 100 : KEYS);
        assert_true(op.more == (op.limit == 100));
        for (unsigned i = 0; i < op.pairs_count; i++)
            assert_pair(&op.pairs[i], i, 3);
        kvs_op_release(&op);
        assert_false(op.borrowed);
        assert_null(op.pairs);
    }
}

struct reader {
    const struct target *target;
    _Atomic bool *stop;
    pthread_t thread;
    unsigned scans;
};

static void *reader_main(void *arg)
{
    struct reader *reader = arg;
    enum { HELD = 5 };
    kvs_future *held[HELD] = {0};
    do {
        const kvs_pair *pairs;
        size_t count;
        unsigned at = reader->scans++ % HELD;
        if (held[at] != NULL) {
            assert_int_equal(kvs_future_get_pairs(held[at], &pairs, &count), 0);
            assert_int_equal(count, 150);
            for (unsigned i = 0; i < count; i++) {
                unsigned generation;
                memcpy(&generation, pairs[i].value.data + 4, 4);
                assert_pair(&pairs[i], i, generation);
            }
            kvs_future_free(held[at]);
        }
        held[at] = scan(reader->target, 150, KVS_OP_FLAG_BORROW, &pairs, &count);
        usleep(50); /* leaves time to compaction, which has a lower priority */
    } while (!atomic_load_explicit(reader->stop, memory_order_relaxed));
    for (unsigned i = 0; i < HELD; i++)
        kvs_future_free(held[i]);
    return NULL;
}

static void test_beside_writes_and_compaction(void **state)
{
    const struct target *target = *state;
    _Atomic bool stop = false;
    struct reader readers[2] = {{target, &stop, 0, 0}, {target, &stop, 0, 0}};
    set_all(target, 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]);
    for (unsigned generation = 1; generation < 12; generation++) {
        set_all(target, generation);
        if (generation % 3 == 0)
            assert_int_equal(wait_and_free(kvs_store_compact(target->store)), 0);
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(readers[i].thread, NULL);
}

/* log: with a cache for all; for little of it; with more segments than there are pins. */
static struct target targets[] = {
    {.scheme = "log", .segment_size = 64 << 10, .cache_size = 64 << 20},
    {.scheme = "log", .segment_size = 64 << 10, .cache_size = 192 << 10},
    {.scheme = "log", .segment_size = 4 << 10, .cache_size = 64 << 20},
    {.scheme = "memory"},
};

int main(void)
{
#define ROWS(name)                                                                  \
    {#name " log", name, target_setup, target_teardown, &targets[0]},               \
        {#name " small cache", name, target_setup, target_teardown, &targets[1]},   \
        {#name " many segments", name, target_setup, target_teardown, &targets[2]}, \
    {                                                                               \
#name " memory", name, target_setup, target_teardown, &targets[3]           \
    }
    const struct CMUnitTest tests[] = {
        ROWS(test_same_as_copies),
        ROWS(test_bounds),
        ROWS(test_lent_pairs_stay),
        ROWS(test_ops),
        ROWS(test_beside_writes_and_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
