/*
 * tests/crash/test_log_ahead.c: what the log engine does in the background where segments follow
 * one another fast: files that are made ahead, and what was written goes to the disk. And a segment
 * that is full when the disk is.
 *
 * The linker sends some of the engine's calls through here (--wrap). The engine's coarse clock
 * stands still unless a test moves it, so each segment follows the one before fast.
 */
#include "base/log.h"
#include "contract/engine_fixture.h"
#include "engine/file.h"
#include "engine/log/format.h"
#include "engine/log/log_engine.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define SMALL_SIZE (64u * 1024)
#define LARGE_SIZE (16u * 1024 * 1024)
#define MIB (1024u * 1024)

static const struct engine_kind small = {.name = "log-ahead",
                                         .directory = "kvs",
                                         .open = log_engine_open_blocking,
                                         .segment_size_bytes = SMALL_SIZE};
static const struct engine_kind large = {.name = "log-ahead",
                                         .directory = "kvs",
                                         .open = log_engine_open_blocking,
                                         .segment_size_bytes = LARGE_SIZE};

/* --- the wrapped calls ------------------------------------------------------------------------*/

static struct {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    const char *directory; /* of the store that is looked at */
    bool hold_directory;   /* its syncs wait */
    unsigned durable;      /* the last segment whose entry has been synced */
    unsigned begun;        /* the last segment that has a header */
    bool early;            /* one got it before the entry of the one before it was synced */
    unsigned seals;        /* so many that come next find room for half of them */

    int out_error;        /* of writing out */
    unsigned out_segment; /* written out last, ... */
    uint64_t out_to;      /* ... up to where */
    bool out_of_order;
    unsigned outs;
    unsigned forgets;
    unsigned wholes; /* of segments */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Atomic uint64_t coarse_ms = 1000000;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __real_file_sync_directory(const char *path);
int __real_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_write_out(int fd, uint64_t from, uint64_t to);
void __real_file_forget(int fd, uint64_t from, uint64_t to);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_file_sync_directory(const char *path);
int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_write_out(int fd, uint64_t from, uint64_t to);
void __wrap_file_forget(int fd, uint64_t from, uint64_t to);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    if (clock != CLOCK_MONOTONIC_COARSE)
        return __real_clock_gettime(clock, ret_now);
    uint64_t now_ms = atomic_load(&coarse_ms);
    *ret_now = (struct timespec){.tv_sec = (time_t)(now_ms / 1000),
                                 .tv_nsec = (long)(now_ms % 1000) * 1000000};
    return 0;
}

/* 0: no segment's file. */
static unsigned number_of(int fd)
{
    char path[256];
    descriptor_path(fd, path);
    const char *name = strrchr(path, '/');
    return name != NULL && strstr(name, ".seg") != NULL ? (unsigned)strtoul(name + 1, NULL, 10) : 0;
}

static void file_path(const char *directory, unsigned number, char out[128])
{
    snprintf(out, 128, "%s/%010u.seg", directory, number);
}

#define NUMBERS_MAX 200u

/* Of files, or of empty ones only. */
static unsigned files_count(const char *directory, bool empty, unsigned *ret_last)
{
    unsigned count = 0;
    *ret_last = 0;
    for (unsigned number = 1; number < NUMBERS_MAX; number++) {
        char path[128];
        struct stat status;
        file_path(directory, number, path);
        if (stat(path, &status) != 0 || (empty && status.st_size > 0))
            continue;
        *ret_last = number;
        count++;
    }
    return count;
}

int __wrap_file_sync_directory(const char *path)
{
    unsigned last = 0;
    pthread_mutex_lock(&disk.lock);
    while (disk.hold_directory)
        pthread_cond_wait(&disk.changed, &disk.lock);
    pthread_mutex_unlock(&disk.lock);
    files_count(path, false, &last);
    int error = __real_file_sync_directory(path);
    pthread_mutex_lock(&disk.lock);
    if (error == 0 && last > disk.durable)
        disk.durable = last;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
    return error;
}

int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset)
{
    unsigned number = offset == 0 ? number_of(fd) : 0;
    pthread_mutex_lock(&disk.lock);
    if (number > 1) {
        disk.early |= number - 1 > disk.durable;
        disk.begun = number > disk.begun ? number : disk.begun;
    }
    bool is_cut =
        disk.seals > 0 && size == RECORD_SEAL_SIZE && ((const uint8_t *)data)[10] == RECORD_SEAL;
    disk.seals -= is_cut;
    pthread_mutex_unlock(&disk.lock);
    int error = __real_file_write(fd, data, is_cut ? size / 2 : size, offset);
    return is_cut ? KVS_ERR_NO_SPACE : error;
}

int __wrap_file_write_out(int fd, uint64_t from, uint64_t to)
{
    unsigned number = number_of(fd);
    pthread_mutex_lock(&disk.lock);
    int error = disk.out_error;
    if (number == disk.out_segment)
        disk.out_of_order |= from != disk.out_to;
    else
        disk.out_of_order |= from != 0 || number != disk.out_segment + 1;
    disk.out_segment = number;
    disk.out_to = to;
    disk.outs++;
    pthread_mutex_unlock(&disk.lock);
    return error != 0 ? error : __real_file_write_out(fd, from, to);
}

void __wrap_file_forget(int fd, uint64_t from, uint64_t to)
{
    bool is_whole = to == UINT32_MAX;
    pthread_mutex_lock(&disk.lock);
    disk.forgets += !is_whole;
    disk.wholes += is_whole;
    disk.out_of_order |= !is_whole && (number_of(fd) != disk.out_segment || to != disk.out_to);
    pthread_mutex_unlock(&disk.lock);
    __real_file_forget(fd, from, to);
}

static unsigned disk_number(const unsigned *what)
{
    pthread_mutex_lock(&disk.lock);
    unsigned number = *what;
    pthread_mutex_unlock(&disk.lock);
    return number;
}

static bool disk_flag(const bool *what)
{
    pthread_mutex_lock(&disk.lock);
    bool flag = *what;
    pthread_mutex_unlock(&disk.lock);
    return flag;
}

static void hold_directory(bool value)
{
    pthread_mutex_lock(&disk.lock);
    disk.hold_directory = value;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
}

/* --- helpers ----------------------------------------------------------------------------------*/

static void begin(struct fixture *fixture, const struct engine_kind *kind, uint64_t cache_size)
{
    pthread_mutex_lock(&disk.lock);
    disk.durable = disk.begun = disk.outs = disk.forgets = disk.wholes = 0;
    disk.early = disk.out_of_order = false;
    disk.out_error = 0;
    disk.out_segment = 1;
    disk.out_to = 0;
    pthread_mutex_unlock(&disk.lock);
    OK(fixture_init(fixture, kind));
    fixture->options.sync = KVS_SYNC_NEVER;
    fixture->options.cache_size_bytes = cache_size;
    OK(fixture_open(fixture));
}

static void open_again(struct fixture *fixture)
{
    int error = fixture_open(fixture);
    if (error != 0) {
        fixture->engine = NULL;
        fail_msg("%s: %s", kvs_error_name(error), fixture->message.text);
    }
}

#define VALUE_MAX (64u * 1024)

static kvs_slice key_of(char text[32], unsigned i)
{
    snprintf(text, 32, "key %06u", i);
    return slice_of_string(text);
}

static void set_key(struct fixture *fixture, unsigned i, size_t size)
{
    static uint8_t value[VALUE_MAX];
    char text[32];
    memset(value, (int)(i % 251), size);
    OK(set_wait(fixture, key_of(text, i), slice_make(value, size)));
}

static void check_keys(struct fixture *fixture, unsigned count, size_t size)
{
    static uint8_t expected[VALUE_MAX];
    for (unsigned i = 0; i < count; i++) {
        char text[32];
        struct buf value;
        memset(expected, (int)(i % 251), size);
        OK(get_copy(fixture, 0, key_of(text, i), &value));
        assert_true(slice_equal(buf_slice(&value), slice_make(expected, size)));
        buf_deinit(&value);
    }
}

/* Sets keys from `next` on, of 1000 bytes, until a segment has been begun. Returns the next one. */
static unsigned set_until_begun(struct fixture *fixture, unsigned next, unsigned segment)
{
    while (disk_number(&disk.begun) < segment)
        set_key(fixture, next++, 1000);
    return next;
}

/* The last file that has an entry, by the job that sees to that: others sync the directory, too. */
static unsigned made_to(const struct fixture *fixture)
{
    struct log_engine *log = CONTAINER_OF(fixture->engine, struct log_engine, engine);
    pthread_mutex_lock(&log->preparation.mutex);
    while (log->entry_sync.is_running)
        pthread_cond_wait(&log->preparation.changed, &log->preparation.mutex);
    OK(log->entry_sync.error);
    unsigned segment = log->entry_sync.segment;
    pthread_mutex_unlock(&log->preparation.mutex);
    return segment;
}

/* Until files behind the newest one have been made: a segment that follows while the job runs
 * begins none. */
static unsigned set_until_made(struct fixture *fixture, unsigned next)
{
    do
        next = set_until_begun(fixture, next, disk_number(&disk.begun) + 1);
    while (made_to(fixture) <= disk_number(&disk.begun) + 1);
    return next;
}

static void run(const char *format, const struct fixture *fixture)
{
    char command[512];
    snprintf(command, sizeof command, format, fixture->directory, fixture->directory,
             fixture->directory);
    OK(system(command));
}

/* --- files made ahead -------------------------------------------------------------------------*/

/* Sets go on while the directory is being synced, as far as entries are on the disk; never does a
 * segment begin before the entry of the one before is. At the close what is left of them goes. */
static void test_sets_wait_for_no_entry(void **state)
{
    struct fixture fixture;
    unsigned last;
    begin(&fixture, &small, 0);
    unsigned next = set_until_made(&fixture, 0);
    unsigned durable = made_to(&fixture);
    hold_directory(true);
    next = set_until_begun(&fixture, next, durable);
    assert_int_equal(disk_number(&disk.begun), durable);
    hold_directory(false);
    next = set_until_begun(&fixture, next, durable + 12);
    assert_false(disk_flag(&disk.early));
    check_keys(&fixture, next, 1000);
    OK(fixture_close(&fixture));
    assert_int_equal(files_count(fixture.directory, true, &last), 0);
    open_again(&fixture);
    check_keys(&fixture, next, 1000);
    fixture_deinit(&fixture);
}

/* After a kill they are there, also without the first of them, as a power cut may leave them. */
static void killed(bool without_first)
{
    struct fixture fixture;
    unsigned last;
    begin(&fixture, &small, 0);
    unsigned next = set_until_made(&fixture, 0);
    run("cp -a '%s' '%s.kept'", &fixture);
    OK(fixture_close(&fixture));
    run("rm -rf '%s' && mv '%s.kept' '%s'", &fixture);
    unsigned empty = files_count(fixture.directory, true, &last);
    assert_true(empty >= 2);
    if (without_first) {
        char path[128];
        file_path(fixture.directory, disk_number(&disk.begun) + 1, path);
        OK(unlink(path));
    }
    open_again(&fixture);
    assert_string_equal(fixture.message.text, "");
    check_keys(&fixture, next, 1000);
    assert_int_equal(files_count(fixture.directory, true, &last), 0);
    next = set_until_begun(&fixture, next, disk_number(&disk.begun) + 12);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, next, 1000);
    fixture_deinit(&fixture);
}

static void test_killed(void **state)
{
    killed(false);
}

static void test_killed_without_the_first(void **state)
{
    killed(true);
}

/* --- writing out ------------------------------------------------------------------------------*/

/* 8 MiB in 20 ms, and then as much as it takes until a later segment is written out. */
static unsigned set_fast(struct fixture *fixture, unsigned next, unsigned segment)
{
    for (unsigned i = 0; i < 8 * MIB / VALUE_MAX; i++)
        set_key(fixture, next++, VALUE_MAX);
    atomic_fetch_add(&coarse_ms, 20);
    while (disk_number(&disk.out_segment) < segment)
        set_key(fixture, next++, VALUE_MAX);
    return next;
}

/* From front to back, one segment after the other; what is in the cache the system forgets. */
static void test_written_out(void **state)
{
    struct fixture fixture;
    begin(&fixture, &large, 1024ull * MIB);
    unsigned next = set_fast(&fixture, 0, 2);
    check_keys(&fixture, next, VALUE_MAX);
    OK(fixture_close(&fixture));
    assert_false(disk_flag(&disk.out_of_order));
    assert_true(disk_number(&disk.forgets) >= 4);
    open_again(&fixture);
    check_keys(&fixture, next, VALUE_MAX);
    fixture_deinit(&fixture);
}

/* What cannot be written out is not forgotten, and nobody else hears of it. */
static void test_not_written_out(void **state)
{
    struct fixture fixture;
    begin(&fixture, &large, 1024ull * MIB);
    disk.out_error = KVS_ERR_IO;
    unsigned next = 0;
    for (; next < 8 * MIB / VALUE_MAX; next++)
        set_key(&fixture, next, VALUE_MAX);
    atomic_fetch_add(&coarse_ms, 20);
    while (disk_number(&disk.outs) < 2)
        set_key(&fixture, next++, VALUE_MAX);
    OK(fixture_close(&fixture));
    assert_int_equal(disk_number(&disk.forgets), 0);
    open_again(&fixture);
    check_keys(&fixture, next, VALUE_MAX);
    fixture_deinit(&fixture);
}

/* With a full cache values are read from the file: the system may keep it. */
static void test_small_cache(void **state)
{
    struct fixture fixture;
    begin(&fixture, &large, MIB);
    unsigned next = set_fast(&fixture, 0, 2);
    check_keys(&fixture, next, VALUE_MAX);
    OK(fixture_close(&fixture));
    assert_int_equal(disk_number(&disk.forgets), 0);
    fixture_deinit(&fixture);
}

/* What a former run wrote is not in the cache yet, and is read for it. */
static void test_former_run(void **state)
{
    struct fixture fixture;
    begin(&fixture, &small, 1024ull * MIB);
    unsigned next = set_until_begun(&fixture, 0, 12);
    OK(fixture_close(&fixture));
    fixture.options.segment_size_bytes = 512 * MIB; /* so two behind the newest one is far enough */
    open_again(&fixture);
    for (unsigned i = 0; i < 8 * MIB / VALUE_MAX; i++)
        set_key(&fixture, next + i, VALUE_MAX);
    atomic_fetch_add(&coarse_ms, 20);
    unsigned outs = disk_number(&disk.outs);
    for (unsigned i = 0; disk_number(&disk.outs) < outs + 4; i++)
        set_key(&fixture, next + i, VALUE_MAX);
    OK(fixture_close(&fixture));
    assert_int_equal(disk_number(&disk.wholes), 0);
    fixture_deinit(&fixture);
}

/* --- a full disk ------------------------------------------------------------------------------*/

/* The next segment has begun, and the seal of the full one finds no room: a set is refused, and
 * nothing else happens. */
static void seal_without_room(enum kvs_sync sync, unsigned refused)
{
    static uint8_t value[1000];
    struct fixture fixture;
    begin(&fixture, &small, MIB);
    OK(fixture_close(&fixture));
    fixture.options.sync = sync;
    OK(fixture_open(&fixture));
    unsigned next = sync == KVS_SYNC_ALWAYS ? 0 : set_until_made(&fixture, 0);
    for (unsigned i = 0; i < refused; i++) {
        char text[32];
        int error;
        pthread_mutex_lock(&disk.lock);
        disk.seals = 1;
        pthread_mutex_unlock(&disk.lock);
        do {
            memset(value, (int)(next % 251), sizeof value);
            error = set_wait(&fixture, key_of(text, next), slice_make(value, sizeof value));
            next += error == 0;
        } while (error == 0);
        assert_int_equal(error, KVS_ERR_NO_SPACE);
        assert_int_equal(disk_number(&disk.seals), 0);
        if (i % 2 == 0)
            continue;
        for (unsigned k = 0; k < 100; k++)
            set_key(&fixture, next++, sizeof value);
    }
    check_keys(&fixture, next, sizeof value);
    OK(fixture_close(&fixture));
    open_again(&fixture);
    check_keys(&fixture, next, sizeof value);
    fixture_deinit(&fixture);
}

static void test_seal_without_room(void **state)
{
    (void)state;
    for (unsigned refused = 1; refused < 5; refused++) {
        seal_without_room(KVS_SYNC_ALWAYS, refused);
        seal_without_room(KVS_SYNC_NEVER, refused);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets_wait_for_no_entry),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_killed_without_the_first),
        cmocka_unit_test(test_written_out),
        cmocka_unit_test(test_not_written_out),
        cmocka_unit_test(test_small_cache),
        cmocka_unit_test(test_former_run),
        cmocka_unit_test(test_seal_without_room),
    };
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return tests_end(cmocka_run_group_tests(tests, NULL, NULL));
}
