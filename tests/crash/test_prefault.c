/*
 * tests/crash/test_prefault.c: a store that has the memory for all of its cache made when it is
 * opened, and uses it again and again.
 *
 * The linker sends requests for memory of segments, the touching of it, and the opening of files
 * through here (--wrap).
 */
#include "base/log.h"
#include "contract/engine_fixture.h"
#include "engine/log/log_engine.h"
#include "engine/stats.h"
#include "test.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define SEGMENT_SIZE (64u * 1024)
#define SEGMENTS 8u
#define CACHE_SIZE (SEGMENTS * SEGMENT_SIZE)
#define VALUE_SIZE 1000u
#define KEYS 100u
#define BATCH 20u
#define PARTS 3u
#define WARMING_MS_MAX 20000u

static const struct engine_kind kind = {.name = "prefault",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = SEGMENT_SIZE,
                                        .cache_size_bytes = CACHE_SIZE};

/* --- the wrapped calls ------------------------------------------------------------------------*/

static atomic_uint made;         /* memories of a whole segment, ... */
static atomic_uint made_smaller; /* ... and of less: for one that is read */
static _Atomic uint64_t touched;
static atomic_bool no_descriptors; /* for new files */

uint8_t *__real_segment_memory_new(uint32_t capacity);
uint8_t *__wrap_segment_memory_new(uint32_t capacity);
int __real_file_open(const char *path, int flags, int *ret_fd);
int __wrap_file_open(const char *path, int flags, int *ret_fd);
void __real_segment_memory_fault(uint8_t *from, size_t size);
void __wrap_segment_memory_fault(uint8_t *from, size_t size);

uint8_t *__wrap_segment_memory_new(uint32_t capacity)
{
    atomic_fetch_add(capacity == SEGMENT_SIZE ? &made : &made_smaller, 1);
    return __real_segment_memory_new(capacity);
}

int __wrap_file_open(const char *path, int flags, int *ret_fd)
{
    if (atomic_load(&no_descriptors) && (flags & O_CREAT) != 0)
        return KVS_ERR_TOO_MANY_FILES;
    return __real_file_open(path, flags, ret_fd);
}

void __wrap_segment_memory_fault(uint8_t *from, size_t size)
{
    atomic_fetch_add(&touched, size);
    __real_segment_memory_fault(from, size);
}

/* --- helpers ----------------------------------------------------------------------------------*/

static void begin(struct fixture *fixture, enum kvs_sync sync, bool prefaults)
{
    OK(fixture_init(fixture, &kind));
    fixture->options.sync = sync;
    fixture->options.cache_prefault = prefaults;
    atomic_store(&made, 0);
    atomic_store(&touched, 0);
    OK(fixture_open(fixture));
}

static void open_again(struct fixture *fixture)
{
    OK(fixture_close(fixture));
    atomic_store(&made, 0);
    atomic_store(&made_smaller, 0);
    OK(fixture_open(fixture));
}

static void pair_of(char key[32], uint8_t value[VALUE_SIZE], unsigned i, unsigned round)
{
    snprintf(key, 32, "key %u", i);
    memset(value, (int)(i + round), VALUE_SIZE);
}

/* In batches that a segment has room for. */
static void set_some(struct fixture *fixture, unsigned from, unsigned round)
{
    static char keys[BATCH][32];
    static uint8_t values[BATCH][VALUE_SIZE];
    kvs_mutation batch[BATCH];
    for (unsigned i = 0; i < KEYS; i++) {
        unsigned at = i % BATCH;
        pair_of(keys[at], values[at], from + i, round);
        batch[at] = mutation_set(slice_of_string(keys[at]), slice_make(values[at], VALUE_SIZE));
        if (at == BATCH - 1)
            OK(batch_wait(fixture, batch, BATCH));
    }
}

static void check_some(struct fixture *fixture, unsigned from, unsigned round)
{
    for (unsigned i = from; i < from + KEYS; i++) {
        char key[32];
        uint8_t value[VALUE_SIZE];
        struct buf found;
        pair_of(key, value, i, round);
        OK(get_copy(fixture, 0, slice_of_string(key), &found));
        assert_true(slice_equal(buf_slice(&found), slice_make(value, sizeof value)));
        buf_deinit(&found);
    }
}

static uint64_t cached(struct fixture *fixture)
{
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    return stats.cache_bytes;
}

/* --- tests ------------------------------------------------------------------------------------*/

/* The open makes all there will be: of several times the cache that is written then, next to
 * nothing needs more. */
static void memory_is_used_again(enum kvs_sync sync, unsigned times)
{
    struct fixture fixture;
    begin(&fixture, sync, true);
    assert_int_equal(atomic_load(&made), SEGMENTS);
    assert_int_equal(atomic_load(&touched), (SEGMENTS - 1) * SEGMENT_SIZE); /* the newest is new */
    unsigned rounds = times * CACHE_SIZE / (KEYS * VALUE_SIZE);
    for (unsigned round = 0; round < rounds; round++)
        set_some(&fixture, 0, round);
    check_some(&fixture, 0, rounds - 1);
    assert_true(atomic_load(&made) <= SEGMENTS + 2); /* a cache that is full has one more */
    assert_true(cached(&fixture) <= CACHE_SIZE + SEGMENT_SIZE);
    open_again(&fixture);
    check_some(&fixture, 0, rounds - 1);
    fixture_deinit(&fixture);
}

static void test_memory_is_used_again(void **state)
{
    memory_is_used_again(KVS_SYNC_NEVER, 15);
}

/* What a segment's memory held before it held another must not get to its file. */
static void test_memory_is_used_again_synced(void **state)
{
    memory_is_used_again(KVS_SYNC_ALWAYS, 3);
}

static void test_without_it_memory_comes_as_it_is_needed(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_NEVER, false);
    assert_int_equal(atomic_load(&made), 1);
    assert_int_equal(atomic_load(&touched), 0);
    fixture_deinit(&fixture);
}

/* Segments that cannot be begun take no memory with them. */
static void test_refused_segments_keep_their_memory(void **state)
{
    static char value[SEGMENT_SIZE / 2];
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_ALWAYS, true); /* no file is made ahead */
    OK(set_wait(&fixture, S("key"), slice_make(value, sizeof value)));
    atomic_store(&no_descriptors, true);
    for (unsigned i = 0; i < 3 * SEGMENTS; i++)
        assert_int_equal(set_wait(&fixture, S("key"), slice_make(value, sizeof value)),
                         KVS_ERR_TOO_MANY_FILES);
    atomic_store(&no_descriptors, false);
    for (unsigned round = 0; round < 3; round++)
        set_some(&fixture, 0, round);
    check_some(&fixture, 0, 2);
    assert_int_equal(atomic_load(&made), SEGMENTS);
    fixture_deinit(&fixture);
}

/* Segments that an open has left in their files are read into memory that is there. */
static void test_what_was_there_comes_into_that_memory(void **state)
{
    struct fixture fixture;
    begin(&fixture, KVS_SYNC_NEVER, true);
    for (unsigned part = 0; part < PARTS; part++)
        set_some(&fixture, part * KEYS, part);
    open_again(&fixture);
    for (unsigned ms = 0; cached(&fixture) < PARTS * KEYS * VALUE_SIZE && ms < WARMING_MS_MAX; ms++)
        usleep(1000);
    assert_true(cached(&fixture) >= PARTS * KEYS * VALUE_SIZE);
    assert_int_equal(atomic_load(&made), SEGMENTS);
    assert_int_equal(atomic_load(&made_smaller), 0);
    for (unsigned part = 0; part < PARTS; part++)
        check_some(&fixture, part * KEYS, part);
    fixture_deinit(&fixture);
}

static void test_more_than_the_machine_has_is_refused(void **state)
{
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    fixture.options.cache_size_bytes = UINT64_MAX;
    fixture.options.cache_prefault = true;
    assert_int_equal(fixture_open(&fixture), KVS_ERR_NO_MEMORY);
    assert_non_null(strstr(fixture.message.text, "no memory for a cache"));
    fixture.engine = NULL;
    fixture.options.cache_prefault = false;
    OK(fixture_open(&fixture));
    fixture_deinit(&fixture);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_used_again),
        cmocka_unit_test(test_memory_is_used_again_synced),
        cmocka_unit_test(test_without_it_memory_comes_as_it_is_needed),
        cmocka_unit_test(test_refused_segments_keep_their_memory),
        cmocka_unit_test(test_what_was_there_comes_into_that_memory),
        cmocka_unit_test(test_more_than_the_machine_has_is_refused),
    };
    log_set_level(LOG_SILENT);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return tests_end(cmocka_run_group_tests(tests, NULL, NULL));
}
