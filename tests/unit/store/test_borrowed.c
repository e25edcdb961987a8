/*
 * Scans and gets whose results are lent (KVS_OP_FLAG_BORROW): on log: they point into segments, and
 * stay as they are while the store goes on; everywhere they are those of a copy.
 */
#include <kvs/kvs.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "contract/engine_fixture.h"
#include "test.h"

#define KEYS 400u
#define VALUE_SIZE 1024u

struct target {
    const char *scheme;
    uint64_t segment_size;
    uint64_t cache_size;
    bool lends_gets; /* all of them */
    kvs_runtime *runtime;
    kvs_store *store;
    char directory[64];
};

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
    int error = future != NULL ? kvs_future_wait(future, -1) : -1;
    if (error == 0)
        error = kvs_future_get_pointer(future, &store);
    kvs_future_free(future);
    target->store = store;
    bool is_left_out = error == KVS_ERR_UNSUPPORTED && strcmp(target->scheme, "rocksdb") == 0;
    return is_left_out ? 0 : error; /* a build without it: its tests are skipped */
}

static int target_teardown(void **state)
{
    struct target *target = *state;
    int error = target->store != NULL ? wait_and_free(kvs_store_close(target->store)) : 0;
    target->store = NULL;
    kvs_runtime_free(target->runtime);
    directory_remove(target->directory);
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
    for (unsigned first = 0; first < KEYS; first += TIMES(37, 74, 111)) {
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
    unsigned count;
};

static void on_done(kvs_op *op)
{
    struct done *done = op->user;
    pthread_mutex_lock(&done->lock);
    done->count++;
    pthread_cond_signal(&done->changed);
    pthread_mutex_unlock(&done->lock);
}

static void await_done(struct done *done, unsigned count)
{
    pthread_mutex_lock(&done->lock);
    while (done->count < count)
        pthread_cond_wait(&done->changed, &done->lock);
    done->count = 0;
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
        kvs_store_submit(target->store, &op);
        await_done(&done, 1);
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

/* --- gets --- */

static kvs_future *get(const struct target *target, kvs_slice key, unsigned flags)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_GET;
    op.flags = (uint16_t)flags;
    op.key = key;
    kvs_future *future = kvs_store_call(target->store, &op);
    assert_non_null(future);
    return future;
}

/* What the future holds is the value of that key in that generation. */
static void assert_gotten(kvs_future *future, unsigned i, unsigned generation)
{
    uint8_t expected[VALUE_SIZE];
    kvs_slice value;
    value_write(expected, i, generation);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.size, VALUE_SIZE);
    assert_memory_equal(value.data, expected, VALUE_SIZE);
}

static void skip_if_left_out(const struct target *target)
{
    if (target->store == NULL)
        skip();
}

static void test_gets(void **state)
{
    const struct target *target = *state;
    skip_if_left_out(target);
    set_all(target, 1);
    kvs_slice empty = kvs_slice_of("empty");
    assert_int_equal(wait_and_free(kvs_store_set(target->store, empty, (kvs_slice){0})), 0);
    for (unsigned i = 0; i < KEYS; i++) {
        char text[16];
        kvs_future *lent = get(target, key_write(text, i), KVS_OP_FLAG_BORROW);
        kvs_future *copied = get(target, key_write(text, i), 0);
        assert_gotten(lent, i, 1);
        assert_gotten(copied, i, 1);
        kvs_future_free(lent);
        kvs_future_free(copied);
    }
    kvs_slice value;
    kvs_future *future = get(target, empty, KVS_OP_FLAG_BORROW);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.size, 0);
    kvs_future_free(future);
    assert_int_equal(wait_and_free(get(target, kvs_slice_of("not there"), KVS_OP_FLAG_BORROW)),
                     KVS_ERR_NOT_FOUND);
    assert_int_equal(wait_and_free(get(target, (kvs_slice){0}, KVS_OP_FLAG_BORROW)),
                     KVS_ERR_INVALID_ARGUMENT);
}

/* Overwritten, expired, removed, compacted, out of the cache, the store closed: they stay. */
static void test_lent_values_stay(void **state)
{
    enum { GENERATIONS = 4 };
    struct target *target = *state;
    skip_if_left_out(target);
    kvs_future **held = calloc((size_t)GENERATIONS * KEYS, sizeof held[0]);
    char text[16];
    for (unsigned generation = 0; generation < GENERATIONS; generation++) {
        set_all(target, generation);
        for (unsigned i = 0; i < KEYS; i++) {
            kvs_future *future = get(target, key_write(text, i), KVS_OP_FLAG_BORROW);
            assert_int_equal(kvs_future_wait(future, -1), 0);
            held[generation * KEYS + i] = future;
        }
        assert_int_equal(wait_and_free(kvs_store_compact(target->store)), 0);
    }
    uint8_t value[VALUE_SIZE];
    value_write(value, 1000, 9);
    kvs_slice key = kvs_slice_of("short life");
    assert_int_equal(wait_and_free(kvs_store_set_ttl(target->store, key,
                                                     (kvs_slice){value, VALUE_SIZE}, 3600000)),
                     0);
    kvs_future *expired = get(target, key, KVS_OP_FLAG_BORROW);
    assert_int_equal(kvs_future_wait(expired, -1), 0);
    assert_int_equal(
        wait_and_free(kvs_store_set_ttl(target->store, key, (kvs_slice){value, VALUE_SIZE}, 1)), 0);
    kvs_slice none = {0};
    assert_int_equal(wait_and_free(kvs_store_remove_range(target->store, none, none)), 0);
    assert_int_equal(wait_and_free(kvs_store_compact(target->store)), 0);
    assert_int_equal(wait_and_free(kvs_store_close(target->store)), 0);
    target->store = NULL;
    for (unsigned i = 0; i < GENERATIONS * KEYS; i++) {
        assert_gotten(held[i], i % KEYS, i / KEYS);
        kvs_future_free(held[i]);
    }
    assert_gotten(expired, 1000, 9);
    kvs_future_free(expired);
    free(held);
}

/* Several together, some with and some without, with a deadline and without; and again. */
static void test_get_ops(void **state)
{
    enum { OPS = 40 };
    const struct target *target = *state;
    skip_if_left_out(target);
    set_all(target, 2);
    struct done done = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    kvs_op ops[OPS];
    kvs_op *list[OPS];
    char texts[OPS][16];
    for (unsigned i = 0; i < OPS; i++) {
        ops[i] = KVS_OP_INIT;
        list[i] = &ops[i];
        ops[i].kind = KVS_OP_GET;
        ops[i].on_done = on_done;
        ops[i].user = &done;
        ops[i].key = key_write(texts[i], i);
    }
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < OPS; i++) {
            ops[i].flags = (i * (round + 1)) % 5 < 3 ? KVS_OP_FLAG_BORROW : 0;
            ops[i].timeout_ms = i % 3 == 0 ? UINT32_MAX : 0;
        }
        if (round % 2 == 0)
            kvs_store_submit_many(target->store, list, OPS);
        else
            kvs_store_submit_here(target->store, list, OPS);
        await_done(&done, OPS);
        for (unsigned i = 0; i < OPS; i++) {
            uint8_t expected[VALUE_SIZE];
            value_write(expected, i, 2);
            assert_int_equal(ops[i].error, 0);
            assert_int_equal(ops[i].result.size, VALUE_SIZE);
            assert_memory_equal(ops[i].result.data, expected, VALUE_SIZE);
            if (ops[i].flags == 0 || target->lends_gets)
                assert_true(ops[i].borrowed == (ops[i].flags != 0));
            kvs_op_release(&ops[i]);
            assert_false(ops[i].borrowed);
            assert_null(ops[i].result.data);
            kvs_op_release(&ops[i]); /* of nothing */
        }
    }
}

static void *getter_main(void *arg)
{
    struct reader *reader = arg;
    enum { HELD = 50 };
    kvs_future *held[HELD] = {0};
    do {
        unsigned at = reader->scans++ % HELD;
        if (held[at] != NULL) {
            kvs_slice value;
            unsigned generation;
            assert_int_equal(kvs_future_get_value(held[at], &value), 0);
            memcpy(&generation, value.data + 4, 4);
            assert_gotten(held[at], at * 7, generation);
            kvs_future_free(held[at]);
        }
        char text[16];
        held[at] = get(reader->target, key_write(text, at * 7), KVS_OP_FLAG_BORROW);
        assert_int_equal(kvs_future_wait(held[at], -1), 0);
        if (at == 0)
            usleep(50); /* leaves time to compaction, which has a lower priority */
    } while (!atomic_load_explicit(reader->stop, memory_order_relaxed));
    for (unsigned i = 0; i < HELD; i++)
        kvs_future_free(held[i]);
    return NULL;
}

static void beside_writes_and_compaction(const struct target *target, void *(*main)(void *))
{
    _Atomic bool stop = false;
    struct reader readers[2] = {{target, &stop, 0, 0}, {target, &stop, 0, 0}};
    set_all(target, 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_create(&readers[i].thread, NULL, main, &readers[i]);
    for (unsigned generation = 1; generation < 12; generation++) {
        set_all(target, generation);
        if (generation % 3 == 0)
            assert_int_equal(wait_and_free(kvs_store_compact(target->store)), 0);
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(readers[i].thread, NULL);
}

static void test_scans_beside_writes_and_compaction(void **state)
{
    beside_writes_and_compaction(*state, reader_main);
}

static void test_gets_beside_writes_and_compaction(void **state)
{
    skip_if_left_out(*state);
    beside_writes_and_compaction(*state, getter_main);
}

/* log: with a cache for all; for little of it; with more segments than pages have pins. */
static struct target targets[] = {
    {.scheme = "log", .segment_size = 64 << 10, .cache_size = 64 << 20, .lends_gets = true},
    {.scheme = "log", .segment_size = 64 << 10, .cache_size = 192 << 10},
    {.scheme = "log", .segment_size = 4 << 10, .cache_size = 64 << 20},
    {.scheme = "memory", .lends_gets = true},
    {.scheme = "rocksdb", .cache_size = 1 << 20},
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
#define ROWS_OF_GETS(name)                                                        \
    {#name " log", name, target_setup, target_teardown, &targets[0]},             \
        {#name " small cache", name, target_setup, target_teardown, &targets[1]}, \
        {#name " memory", name, target_setup, target_teardown, &targets[3]},      \
    {                                                                             \
#name " rocksdb", name, target_setup, target_teardown, &targets[4]        \
    }
    const struct CMUnitTest tests[] = {
        ROWS(test_same_as_copies),
        ROWS(test_bounds),
        ROWS(test_lent_pairs_stay),
        ROWS(test_ops),
        ROWS(test_scans_beside_writes_and_compaction),
        ROWS_OF_GETS(test_gets),
        ROWS_OF_GETS(test_lent_values_stay),
        ROWS_OF_GETS(test_get_ops),
        ROWS_OF_GETS(test_gets_beside_writes_and_compaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
