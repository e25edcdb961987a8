/*
 * Threads that wait for each of their writes, on one log: store, where threads that submit write:
 * nobody's write is lost or forgotten while the role of the writer goes around, also when segments
 * end, and syncs and compactions are asked for meanwhile, which is the engine's thread's work.
 */
#include <kvs/kvs.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contract/engine_fixture.h"
#include "test.h"

#define THREADS_MAX 8u
#define ROUNDS 2000u
#define LIMIT_MS 30000 /* a write that takes so long was forgotten */
#define VALUE_SIZE 200u

static kvs_runtime *runtime;
static kvs_store *store;
static char directory[64];
static atomic_uint writing; /* threads that are not done */

static void open_store(enum kvs_sync sync)
{
    struct kvs_store_options options = {
        .size = sizeof options, .sync = sync, .segment_size_bytes = 128 << 10};
    char url[128];
    snprintf(url, sizeof url, "log:%s", directory);
    store = opened_by(kvs_store_open(runtime, url, &options));
}

static void value_write(char value[VALUE_SIZE], unsigned thread, unsigned round)
{
    memset(value, 'a' + (int)thread, VALUE_SIZE);
    snprintf(value, VALUE_SIZE, "%u of %u", round, thread);
}

static kvs_slice key_write(char text[16], unsigned thread, unsigned round)
{
    int size = snprintf(text, 16, "%u/%u", thread, round % 100);
    return (kvs_slice){.data = (const uint8_t *)text, .size = (size_t)size};
}

static void assert_stored(unsigned thread, unsigned round)
{
    char text[16], value[VALUE_SIZE];
    kvs_slice got;
    value_write(value, thread, round);
    kvs_future *future = kvs_store_get(store, key_write(text, thread, round));
    assert_int_equal(kvs_future_wait(future, LIMIT_MS), 0);
    assert_int_equal(kvs_future_get_value(future, &got), 0);
    assert_int_equal(got.size, VALUE_SIZE);
    assert_memory_equal(got.data, value, VALUE_SIZE);
    kvs_future_free(future);
}

static void *writer_main(void *arg)
{
    unsigned thread = (unsigned)(uintptr_t)arg;
    for (unsigned round = 0; round < ROUNDS; round++) {
        char text[16], value[VALUE_SIZE];
        value_write(value, thread, round);
        kvs_slice bytes = {.data = (const uint8_t *)value, .size = sizeof value};
        assert_int_equal(wait_and_free(kvs_store_set(store, key_write(text, thread, round), bytes)),
                         0);
        assert_stored(thread, round);
    }
    atomic_fetch_sub(&writing, 1);
    return NULL;
}

static void write_side_by_side(enum kvs_sync sync, unsigned count)
{
    pthread_t threads[THREADS_MAX];
    open_store(sync);
    atomic_store(&writing, count);
    for (uintptr_t i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer_main, (void *)i), 0);
    for (unsigned i = 0; atomic_load(&writing) > 0; i++) {
        kvs_future *asked = i % 100 == 99 ? kvs_store_compact(store) : kvs_store_sync(store);
        assert_int_equal(wait_and_free(asked), 0);
    }
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);

    open_store(sync);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned round = ROUNDS - 100; round < ROUNDS; round++)
            assert_stored(i, round);
    }
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/kvs-test-XXXXXX");
    return mkdtemp(directory) != NULL ? kvs_runtime_new(NULL, &runtime) : -1;
}

static int teardown(void **state)
{
    (void)state;
    kvs_runtime_free(runtime);
    directory_remove(directory);
    return 0;
}

static void test_never(void **state)
{
    (void)state;
    write_side_by_side(KVS_SYNC_NEVER, THREADS_MAX);
}

static void test_never_alone(void **state)
{
    (void)state;
    write_side_by_side(KVS_SYNC_NEVER, 1);
}

static void test_interval(void **state)
{
    (void)state;
    write_side_by_side(KVS_SYNC_INTERVAL, THREADS_MAX);
}

static void test_always(void **state)
{
    (void)state;
    write_side_by_side(KVS_SYNC_ALWAYS, THREADS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_never, setup, teardown),
        cmocka_unit_test_setup_teardown(test_never_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interval, setup, teardown),
        cmocka_unit_test_setup_teardown(test_always, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
