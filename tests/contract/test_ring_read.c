/*
 * tests/contract/test_ring_read.c: reads by io_uring (engine/ring_read.h) of values that are
 * neither in the engine's memory nor in the system's: right, all at once, while segments are
 * compacted away, of damaged files, and when memory or the ring fails. Skipped where io_uring is
 * not to be had.
 */
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "engine/pool_read.h"
#include "test.h"

#include <kvs/kvs.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEYS 1500
#define VALUE_SIZE_MAX 3000
#define LARGE_SIZE (1024 * 1024)
#define AT_ONCE 400

static char directory[] = "/tmp/kvs-ring-XXXXXX";
static kvs_runtime *runtime;
static kvs_store *store;
static _Atomic unsigned pool_reads; /* reads that went to the pool */

void __real_pool_read_submit(kvs_thread_pool *pool, struct engine *engine,
                             struct engine_read *read);
void __wrap_pool_read_submit(kvs_thread_pool *pool, struct engine *engine,
                             struct engine_read *read);

void __wrap_pool_read_submit(kvs_thread_pool *pool, struct engine *engine, struct engine_read *read)
{
    atomic_fetch_add(&pool_reads, 1);
    __real_pool_read_submit(pool, engine, read);
}

static kvs_slice key_of(char text[16], unsigned key)
{
    snprintf(text, 16, "key %06u", key % 1000000);
    return slice_of_string(text);
}

static kvs_slice value_of(uint8_t bytes[VALUE_SIZE_MAX], unsigned key, unsigned round)
{
    struct rand rand = rand_seed((uint64_t)key << 32 | round);
    size_t size = 8 + rand_below(&rand, VALUE_SIZE_MAX - 8);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)rand_u64(&rand);
    return slice_make(bytes, size);
}

static void write_all(unsigned round)
{
    for (unsigned key = 0; key < KEYS; key++) {
        char text[16];
        uint8_t bytes[VALUE_SIZE_MAX];
        kvs_future *future = kvs_store_set(store, key_of(text, key), value_of(bytes, key, round));
        if (key % 100 == 99)
            assert_int_equal(kvs_future_wait(future, -1), 0);
        kvs_future_free(future);
    }
}

/* Segments go from the system's memory, so that a read has to wait for the disk. */
static void make_cold(void)
{
    assert_int_equal(wait_and_free(kvs_store_sync(store)), 0);
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char path[300];
        snprintf(path, sizeof path, "%s/%.200s", directory, entry->d_name);
        int fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        fdatasync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
    closedir(entries);
}

static int open_store(enum kvs_file_io file_io)
{
    struct kvs_store_options options = {.size = sizeof options,
                                        .sync = KVS_SYNC_NEVER,
                                        .segment_size_bytes = 64 * 1024,
                                        .cache_size_bytes = 1,
                                        .file_io = file_io};
    char url[64];
    void *opened = NULL;
    snprintf(url, sizeof url, "log:%s", directory);
    kvs_future *future = kvs_store_open(runtime, url, &options);
    int error = kvs_future_wait(future, -1);
    if (error == 0)
        kvs_future_get_pointer(future, &opened);
    kvs_future_free(future);
    store = opened;
    return error;
}

/* Reads that begin together; those of `round` or, when writers are at work, of the next one. */
static void read_many(unsigned round, bool or_next, struct rand *rand)
{
    kvs_future *futures[AT_ONCE];
    unsigned keys[AT_ONCE];
    for (unsigned i = 0; i < AT_ONCE; i++) {
        char text[16];
        keys[i] = (unsigned)rand_below(rand, KEYS);
        futures[i] = kvs_store_get(store, key_of(text, keys[i]));
    }
    for (unsigned i = 0; i < AT_ONCE; i++) {
        uint8_t bytes[VALUE_SIZE_MAX];
        kvs_slice value;
        assert_int_equal(kvs_future_wait(futures[i], -1), 0);
        assert_int_equal(kvs_future_get_value(futures[i], &value), 0);
        bool right = slice_equal(value, value_of(bytes, keys[i], round)) ||
                     (or_next && slice_equal(value, value_of(bytes, keys[i], round + 1)));
        assert_true(right);
        kvs_future_free(futures[i]);
    }
}

static void test_cold_gets(void **state)
{
    struct rand rand = rand_seed(test_seed());
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        make_cold();
        atomic_store(&pool_reads, 0);
        read_many(1, false, &rand);
        assert_int_equal(atomic_load(&pool_reads), 0);
    }
}

static void test_cold_batch(void **state)
{
    char texts[60][16];
    kvs_slice keys[60];
    const kvs_pair *pairs;
    size_t count;
    (void)state;
    for (unsigned i = 0; i < 60; i++)
        keys[i] = key_of(texts[i], i * 24);
    make_cold();
    kvs_future *future = kvs_store_batch_get(store, keys, 60);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    assert_int_equal(count, 60);
    for (unsigned i = 0; i < 60; i++) {
        uint8_t bytes[VALUE_SIZE_MAX];
        assert_true(slice_equal(pairs[i].value, value_of(bytes, i * 24, 1)));
    }
    kvs_future_free(future);
}

/* Larger than what the ring fetches. */
static void test_large_value(void **state)
{
    uint8_t *bytes = calloc(1, LARGE_SIZE);
    kvs_slice value;
    (void)state;
    assert_non_null(bytes);
    memset(bytes, 7, LARGE_SIZE);
    assert_int_equal(wait_and_free(kvs_store_set(store, S("large"), slice_make(bytes, LARGE_SIZE))),
                     0);
    assert_int_equal(wait_and_free(kvs_store_set(store, S("behind"), S("it"))), 0); /* seals it */
    make_cold();
    kvs_future *future = kvs_store_get(store, S("large"));
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_true(slice_equal(value, slice_make(bytes, LARGE_SIZE)));
    kvs_future_free(future);
    free(bytes);
}

static void *writer(void *arg)
{
    (void)arg;
    for (unsigned key = 0; key < KEYS; key++) {
        char text[16];
        uint8_t bytes[VALUE_SIZE_MAX];
        wait_and_free(kvs_store_set(store, key_of(text, key), value_of(bytes, key, 2)));
        if (key % 300 == 299)
            wait_and_free(kvs_store_compact(store));
    }
    return NULL;
}

/* Segments are emptied and removed under the reads. */
static void test_while_compacting(void **state)
{
    struct rand rand = rand_seed(test_seed());
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, writer, NULL), 0);
    for (unsigned i = 0; i < 8; i++) {
        make_cold();
        read_many(1, true, &rand);
    }
    pthread_join(thread, NULL);
    make_cold();
    read_many(2, false, &rand);
}

#ifdef KVS_FAULTS
/* Each allocation fails, or a read of a file: the value, or the error. */
static void test_faults(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_ALLOC, FAULT_FILE_READ};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t k = 1; k < 12; k++) {
            char text[16];
            uint8_t bytes[VALUE_SIZE_MAX];
            kvs_slice value;
            unsigned key = (unsigned)(k * 101 + i * 50);
            make_cold();
            fault_reset();
            fault_arm(kinds[i], k, false);
            kvs_future *future = kvs_store_get(store, key_of(text, key));
            int error = kvs_future_wait(future, -1);
            fault_reset();
            if (error == 0 && kvs_future_get_value(future, &value) == 0)
                assert_true(slice_equal(value, value_of(bytes, key, 2)));
            else
                assert_true(error == KVS_ERR_NO_MEMORY || error == KVS_ERR_IO);
            kvs_future_free(future);
        }
    }
}
#endif

static void spoil(const char *path)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    off_t size = lseek(fd, 0, SEEK_END);
    for (off_t at = 40; at + 4 < size; at += 64)
        assert_int_equal(pwrite(fd, "\xa5\x5a\xa5\x5a", 4, at), 4);
    close(fd);
}

/* All of every fifth segment is spoilt: what lies there is CORRUPTION, the rest is right. */
static void test_damage(void **state)
{
    unsigned damaged = 0;
    (void)state;
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        char path[300];
        snprintf(path, sizeof path, "%s/%.200s", directory, entry->d_name);
        if (strstr(entry->d_name, ".seg") != NULL && strtoul(entry->d_name, NULL, 10) % 5 == 0)
            spoil(path);
    }
    closedir(entries);
    make_cold();
    for (unsigned key = 0; key < KEYS; key++) {
        char text[16];
        uint8_t bytes[VALUE_SIZE_MAX];
        kvs_slice value;
        kvs_future *future = kvs_store_get(store, key_of(text, key));
        int error = kvs_future_wait(future, -1);
        damaged += error == KVS_ERR_CORRUPTION;
        if (error != KVS_ERR_CORRUPTION) {
            assert_int_equal(error, 0);
            assert_int_equal(kvs_future_get_value(future, &value), 0);
            assert_true(slice_equal(value, value_of(bytes, key, 2)));
        }
        kvs_future_free(future);
    }
    printf("# %u of %u keys damaged\n", damaged, KEYS);
    assert_in_range(damaged, 1, KEYS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cold_gets),   cmocka_unit_test(test_cold_batch),
        cmocka_unit_test(test_large_value), cmocka_unit_test(test_while_compacting),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_faults),
#endif
        cmocka_unit_test(test_damage),
    };
    log_set_level(LOG_SILENT);
    if (mkdtemp(directory) == NULL || kvs_runtime_new(NULL, &runtime) != 0)
        return 1;
    int error = open_store(KVS_FILE_IO_URING);
    if (error == KVS_ERR_UNSUPPORTED) {
        printf("1..0 # SKIP io_uring is not to be had here\n");
        return 0;
    }
    if (error != 0)
        return 1;
    write_all(1);
    int failed = cmocka_run_group_tests_name("ring-read", tests, NULL, NULL);
    wait_and_free(kvs_store_close(store));
    kvs_runtime_free(runtime);
    directory_remove(directory);
    return failed;
}
