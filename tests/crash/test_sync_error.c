/*
 * tests/crash/test_sync_error.c: a sync that failed is told by everybody who relies on it.
 *
 * The system tells it once to each opening of a file, and then the file counts as written. The
 * linker sends file_sync through here (--wrap), which does the same to segments: what it has told
 * it notes in the opening itself, as its place for reads, which the engine does not use.
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

static const struct engine_kind kind = {.name = "sync-error",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = 64u * 1024};

static atomic_bool fails;

int __real_file_sync(int fd);
int __wrap_file_sync(int fd);

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

int main(void)
{
    fixtures_in_memory();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_backup_hides_no_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
