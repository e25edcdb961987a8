/*
 * tests/contract/test_get_split.c: which gets of a log: store leave their thread.
 *
 * One whose value is in memory, the store's or the system's, is answered where it was asked: by
 * the call itself, or on the loop. One that has to read a file goes to the pool, and only there is
 * a file read, or by a thread that waits without a limit. Counted, not timed: the linker sends
 * reads and what goes to the pool through here (--wrap).
 */
#include "contract/engine_fixture.h"
#include "engine/file.h"
#include "engine/pool_read.h"
#include "runtime/thread_pool.h"
#include "test.h"
#include "times.h"

#include <jansson.h>
#include <kvs/kvs.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define OK(call) assert_int_equal((call), 0)

#define SEGMENT_SIZE (64u * 1024)
#define KEYS 300u
#define VALUE_SIZE 3000u

/* --- the wrapped calls ------------------------------------------------------------------------*/

static struct {
    atomic_uint to_pool;
    atomic_uint reads_by_pool;  /* reads that may wait: there, ... */
    atomic_uint reads_by_asker; /* ... and on the loop, or in the call */
    atomic_uint reads_now;      /* that do not wait */
    atomic_bool is_cold;        /* nothing is in the system's memory; else all is */
} counted;

void __real_pool_read_submit(kvs_thread_pool *pool, struct engine *engine,
                             struct engine_read *read);
void __wrap_pool_read_submit(kvs_thread_pool *pool, struct engine *engine,
                             struct engine_read *read);
int __real_file_read(int fd, void *data, size_t size, uint64_t offset);
int __wrap_file_read(int fd, void *data, size_t size, uint64_t offset);
int __wrap_file_read_now(int fd, void *data, size_t size, uint64_t offset);

static _Atomic(kvs_thread_pool *) pool_of_reads;
static pthread_t main_thread;

void __wrap_pool_read_submit(kvs_thread_pool *pool, struct engine *engine, struct engine_read *read)
{
    atomic_store(&pool_of_reads, pool);
    atomic_fetch_add(&counted.to_pool, 1);
    __real_pool_read_submit(pool, engine, read);
}

int __wrap_file_read(int fd, void *data, size_t size, uint64_t offset)
{
    char thread[32] = "";
    pthread_getname_np(pthread_self(), thread, sizeof thread);
    const kvs_thread_pool *pool = atomic_load(&pool_of_reads);
    if (pool != NULL && pool_is_current(pool))
        atomic_fetch_add(&counted.reads_by_pool, 1);
    else if (pthread_equal(pthread_self(), main_thread) || strcmp(thread, "kvs-loop") == 0)
        atomic_fetch_add(&counted.reads_by_asker, 1);
    /* else it is the engine's own, which makes hints */
    return __real_file_read(fd, data, size, offset);
}

int __wrap_file_read_now(int fd, void *data, size_t size, uint64_t offset)
{
    atomic_fetch_add(&counted.reads_now, 1);
    /* What the system has may go at any time: so it is said here. */
    return atomic_load(&counted.is_cold) ? ENGINE_WOULD_BLOCK
                                         : __real_file_read(fd, data, size, offset);
}

static void count_anew(bool is_cold)
{
    atomic_store(&pool_of_reads, NULL);
    atomic_store(&counted.to_pool, 0);
    atomic_store(&counted.reads_by_pool, 0);
    atomic_store(&counted.reads_by_asker, 0);
    atomic_store(&counted.reads_now, 0);
    atomic_store(&counted.is_cold, is_cold);
}

/* --- a store ----------------------------------------------------------------------------------*/

static struct {
    struct fixture files; /* its directory; the engine in it is opened by the store */
    kvs_runtime *runtime;
    kvs_store *store;
} opened;

static const struct engine_kind kind = {
    .name = "get-split", .directory = "kvs", .open = log_engine_open_blocking};

static void store_open(uint64_t cache_size_bytes)
{
    const struct kvs_store_options options = {.size = sizeof options,
                                              .sync = KVS_SYNC_NEVER,
                                              .segment_size_bytes = SEGMENT_SIZE,
                                              .cache_size_bytes = cache_size_bytes};
    char url[128];
    snprintf(url, sizeof url, "log:%s", opened.files.directory);
    opened.store = opened_by(kvs_store_open(opened.runtime, url, &options));
}

static void value_fill(uint8_t value[VALUE_SIZE], unsigned i)
{
    memset(value, (int)(i % 251), VALUE_SIZE);
}

static kvs_slice key_of(char text[32], unsigned i)
{
    return slice_make(text, (size_t)snprintf(text, 32, "key %05u", i));
}

static uint64_t cache_bytes(void)
{
    kvs_slice text;
    kvs_future *future = kvs_store_stats(opened.store);
    OK(kvs_future_wait(future, -1));
    OK(kvs_future_get_value(future, &text));
    json_t *stats = json_loadb((const char *)text.data, text.size, 0, NULL);
    json_int_t bytes = json_integer_value(json_object_get(stats, "cache_bytes"));
    json_decref(stats);
    kvs_future_free(future);
    return (uint64_t)bytes;
}

/* KEYS values; the newest segment, which is always in memory, has others. So is the one before it,
 * until it has its hint. */
static void begin(uint64_t cache_size_bytes)
{
    OK(fixture_init(&opened.files, &kind));
    OK(kvs_runtime_new(NULL, &opened.runtime));
    store_open(cache_size_bytes);
    for (unsigned i = 0; i < KEYS + 30; i++) {
        char text[32];
        uint8_t value[VALUE_SIZE];
        value_fill(value, i);
        OK(wait_and_free(
            kvs_store_set(opened.store, key_of(text, i), slice_make(value, VALUE_SIZE))));
    }
    while (cache_size_bytes < SEGMENT_SIZE && cache_bytes() > SEGMENT_SIZE)
        usleep(1000);
}

static void end(void)
{
    OK(wait_and_free(kvs_store_close(opened.store)));
    kvs_runtime_free(opened.runtime);
    fixture_deinit(&opened.files);
}

static void check_value(kvs_slice found, unsigned i)
{
    uint8_t value[VALUE_SIZE];
    value_fill(value, i);
    assert_int_equal(found.size, VALUE_SIZE);
    assert_memory_equal(found.data, value, VALUE_SIZE);
}

/* Gets all by futures; how many were ready when the call returned. */
static unsigned get_by_futures(int64_t wait_ms)
{
    unsigned ready = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        char text[32];
        kvs_slice found;
        kvs_future *future = kvs_store_get(opened.store, key_of(text, i));
        ready += kvs_future_is_ready(future);
        OK(kvs_future_wait(future, wait_ms));
        OK(kvs_future_get_value(future, &found));
        check_value(found, i);
        kvs_future_free(future);
    }
    return ready;
}

struct get {
    kvs_op op;
    char text[32];
    sem_t *done;
};

static void get_on_done(kvs_op *op)
{
    sem_post(((struct get *)(void *)op)->done);
}

/* The same by operations, submitted together: what a server does with what it has read. */
static void get_by_operations(void)
{
    static struct get gets[KEYS];
    kvs_op *ops[KEYS];
    sem_t done;
    sem_init(&done, 0, 0);
    for (unsigned i = 0; i < KEYS; i++) {
        gets[i] = (struct get){.op = KVS_OP_INIT, .done = &done};
        gets[i].op.kind = KVS_OP_GET;
        gets[i].op.key = key_of(gets[i].text, i);
        gets[i].op.on_done = get_on_done;
        ops[i] = &gets[i].op;
    }
    kvs_store_submit_many(opened.store, ops, KEYS);
    for (unsigned i = 0; i < KEYS; i++)
        while (sem_wait(&done) != 0)
            ;
    for (unsigned i = 0; i < KEYS; i++) {
        OK(gets[i].op.error);
        check_value(gets[i].op.result, i);
        kvs_op_release(&gets[i].op);
    }
    sem_destroy(&done);
}

/* --- tests ------------------------------------------------------------------------------------*/

static void test_in_the_cache(void **state)
{
    begin(64u << 20);
    count_anew(true); /* so who looked at a file would be found out */
    assert_int_equal(get_by_futures(PATIENT_MS), KEYS);
    get_by_operations();
    assert_int_equal(counted.to_pool, 0);
    assert_int_equal(counted.reads_now, 0);
    assert_int_equal(counted.reads_by_pool + counted.reads_by_asker, 0);
    end();
}

static void test_in_the_systems_memory(void **state)
{
    begin(1);
    count_anew(false);
    assert_int_equal(get_by_futures(PATIENT_MS), KEYS);
    get_by_operations();
    assert_int_equal(counted.to_pool, 0);
    assert_int_equal(counted.reads_now, 2 * KEYS);
    assert_int_equal(counted.reads_by_pool + counted.reads_by_asker, 0);
    end();
}

static void test_on_the_disk(void **state)
{
    begin(1);
    count_anew(true);
    (void)get_by_futures(PATIENT_MS);
    assert_int_equal(counted.to_pool, KEYS);
    assert_int_equal(counted.reads_by_pool, KEYS);
    get_by_operations();
    assert_int_equal(counted.to_pool, 2 * KEYS);
    assert_int_equal(counted.reads_by_pool, 2 * KEYS);
    assert_int_equal(counted.reads_by_asker, 0);
    (void)get_by_futures(-1);
    assert_int_equal(counted.to_pool, 3 * KEYS);
    assert_int_equal(counted.reads_by_pool + counted.reads_by_asker, 3 * KEYS);
    end();
}

int main(void)
{
    fixtures_in_memory();
    main_thread = pthread_self();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_the_cache),
        cmocka_unit_test(test_in_the_systems_memory),
        cmocka_unit_test(test_on_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
