/*
 * tests/crash/test_sync_error.c: a sync that failed is told by everybody who relies on it.
 *
 * The system tells it once to each opening of a file, and then the file counts as written. The
 * linker sends file_sync through here (--wrap), which does the same to segments: what it has told
 * it notes in the opening itself, as its place for reads, which the engine does not use. A sync
 * that could not even begin, for want of a descriptor for the directory, is another thing.
 */
#include "contract/engine_fixture.h"
#include "engine/file.h"
#include "test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define TOLD 7
#define TRIES_MS 2500u
#define SEGMENT_SIZE (64u * 1024)

static const struct engine_kind kind = {.name = "sync-error",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = SEGMENT_SIZE};

static atomic_bool fails;
static atomic_bool no_descriptors;
static atomic_uint refused; /* syncs of the directory, for want of them */

int __real_file_sync(int fd);
int __wrap_file_sync(int fd);
int __real_file_sync_directory(const char *path);
int __wrap_file_sync_directory(const char *path);

static bool is_segment(int fd)
{
    char path[256];
    descriptor_path(fd, path);
    return strstr(path, ".seg") != NULL;
}

int __wrap_file_sync(int fd)
{
    if (!atomic_load(&fails) || !is_segment(fd) || lseek(fd, 0, SEEK_CUR) == TOLD)
        return __real_file_sync(fd);
    lseek(fd, TOLD, SEEK_SET);
    return KVS_ERR_IO;
}

int __wrap_file_sync_directory(const char *path)
{
    if (!atomic_load(&no_descriptors))
        return __real_file_sync_directory(path);
    atomic_fetch_add(&refused, 1);
    return KVS_ERR_TOO_MANY_FILES;
}

/* Nor does a backup hide it from the store, whichever of the two syncs first. */
static void test_backup_hides_no_error(void **state)
{
    struct fixture fixture;
    char path[100];
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = KVS_SYNC_NEVER;
    OK(fixture_open(&fixture));
    OK(set_wait(&fixture, S("key"), S("value")));
    snprintf(path, sizeof path, "%s/backup", fixture.root);
    atomic_store(&fails, true);
    int backup_error = control_wait(&fixture, ENGINE_CONTROL_CHECKPOINT, path);
    int sync_error = control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL);
    int set_error = set_wait(&fixture, S("key"), S("later"));
    atomic_store(&fails, false);
    assert_int_not_equal(backup_error, 0);
    assert_int_not_equal(sync_error, 0);
    assert_int_equal(set_error, KVS_ERR_STORAGE_FAILED);
    assert_int_not_equal(fixture_close(&fixture), 0);
    fixture_deinit(&fixture);
}

/* Writes go on when the program around the store has closed some of its files. */
static void test_want_of_descriptors_passes(void **state)
{
    static char value[SEGMENT_SIZE / 2];
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = KVS_SYNC_NEVER;
    OK(fixture_open(&fixture));
    OK(set_wait(&fixture, S("key"), slice_make(value, sizeof value)));
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    atomic_store(&no_descriptors, true);
    /* The next segment's, whose entry is to be synced then. */
    OK(set_wait(&fixture, S("key"), slice_make(value, sizeof value)));
    assert_int_equal(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL), KVS_ERR_TOO_MANY_FILES);
    OK(set_wait(&fixture, S("key"), S("small")));
    atomic_store(&no_descriptors, false);
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    OK(set_wait(&fixture, S("key"), S("later")));
    OK(fixture_close(&fixture));
    fixture_deinit(&fixture);
}

/* Nor is it tried all the time, by a compaction that waits for what it would take to be synced. */
static void test_want_of_descriptors_is_waited_for(void **state)
{
    static char value[SEGMENT_SIZE / 4];
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = KVS_SYNC_NEVER;
    fixture.options.sync_interval_ms = 200;
    OK(fixture_open(&fixture));
    OK(set_wait(&fixture, S("key"), slice_make(value, sizeof value)));
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    atomic_store(&no_descriptors, true);
    atomic_store(&refused, 0);
    for (unsigned i = 0; i < 4; i++) /* the last one in the next segment; the rest is garbage */
        OK(set_wait(&fixture, S("key"), slice_make(value, sizeof value)));
    usleep(TRIES_MS * 1000);
    unsigned tries = atomic_load(&refused);
    printf("# %u tries in %u ms\n", tries, TRIES_MS);
    assert_true(tries >= 2 && tries < 50);
    atomic_store(&no_descriptors, false);
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    OK(fixture_close(&fixture));
    fixture_deinit(&fixture);
}

int main(void)
{
    fixtures_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backup_hides_no_error),
        cmocka_unit_test(test_want_of_descriptors_passes),
        cmocka_unit_test(test_want_of_descriptors_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
