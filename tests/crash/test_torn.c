/*
 * tests/crash/test_torn.c: the log engine's files, torn at the end or damaged elsewhere.
 *
 * Each case takes a copy of the files of a running engine (as after kill -9), spoils it at a random
 * place, and opens it. Batches carry numbers, so what is there can be told from what should be:
 *   torn tail         opens, with the batches up to some number, each whole
 *   damage elsewhere  CORRUPTION that names the segment and the offset, the files unchanged; or,
 *                     when a hint spares reading the segment, CORRUPTION of the values that were
 *                     hit; or, where nothing that counts was hit, all batches
 * Never: a missing batch in the middle, half a batch, a crash.
 */
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define BATCHES 120
#define BATCH_KEYS 4
#define CASES 60
#define FILES_MAX 64
#define CLOSING_MARK_SIZE 32 /* see docs/format/log.md */
#define PATH_SIZE 256

static const struct engine_kind kind = {.name = "torn",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = 64 * 1024};

static kvs_slice batch_key(char text[48], unsigned number, unsigned i)
{
    snprintf(text, 48, "batch/%03u/%u", number, i);
    return slice_of_string(text);
}

static size_t batch_value(uint8_t value[2000], unsigned number, unsigned i)
{
    struct rand rand = rand_seed(number * BATCH_KEYS + i);
    size_t size = 1 + rand_below(&rand, 1999);
    for (size_t at = 0; at < size; at++)
        value[at] = (uint8_t)rand_u64(&rand);
    return size;
}

/* Batches [first, last), one after the other, so that each is a group of its own. */
static void write_batches(struct fixture *fixture, unsigned first, unsigned last)
{
    for (unsigned number = first; number < last; number++) {
        kvs_mutation mutations[BATCH_KEYS];
        char texts[BATCH_KEYS][48];
        static uint8_t values[BATCH_KEYS][2000];
        for (unsigned i = 0; i < BATCH_KEYS; i++)
            mutations[i] = mutation_set(batch_key(texts[i], number, i),
                                        slice_make(values[i], batch_value(values[i], number, i)));
        OK(batch_wait(fixture, mutations, BATCH_KEYS));
    }
}

/* The number of batches that are there: 0, 1, ... without a gap, each whole. Values that are
 * damaged count as there, and are counted, where the caller expects any. */
static unsigned read_batches_damaged(struct fixture *fixture, unsigned *ret_damaged)
{
    unsigned damaged = 0;
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    unsigned there = 0;
    bool ended = false;
    for (unsigned number = 0; number < BATCHES; number++) {
        unsigned found = 0;
        for (unsigned i = 0; i < BATCH_KEYS; i++) {
            char text[48];
            uint8_t expected[2000];
            kvs_slice value;
            int error = engine_get(&view, 0, batch_key(text, number, i), &value);
            if (error == KVS_ERR_NOT_FOUND)
                continue;
            found++;
            damaged += error == KVS_ERR_CORRUPTION;
            if (error == KVS_ERR_CORRUPTION && ret_damaged != NULL)
                continue;
            assert_int_equal(error, 0);
            assert_true(slice_equal(value, slice_make(expected, batch_value(expected, number, i))));
        }
        assert_true(found == 0 || found == BATCH_KEYS);
        assert_false(ended && found > 0);
        ended = ended || found == 0;
        there += found > 0;
    }
    engine_view_end(&view);
    if (ret_damaged != NULL)
        *ret_damaged = damaged;
    return there;
}

static unsigned read_batches(struct fixture *fixture)
{
    return read_batches_damaged(fixture, NULL);
}

/* --- files ------------------------------------------------------------------------------------*/

struct files {
    char names[FILES_MAX][32]; /* of segments, in order */
    size_t count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Those that were made ahead are empty, and left out. */
static struct files list_segments(const char *path)
{
    struct files files = {.count = 0};
    DIR *directory = opendir(path);
    assert_non_null(directory);
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;
        if (strstr(entry->d_name, ".seg") == NULL ||
            fstatat(dirfd(directory), entry->d_name, &status, 0) != 0 || status.st_size == 0)
            continue;
        assert_true(files.count < FILES_MAX);
        snprintf(files.names[files.count++], 32, "%.31s", entry->d_name);
    }
    closedir(directory);
    qsort(files.names, files.count, sizeof files.names[0], compare_names);
    return files;
}

static uint8_t *file_load(const char *path, size_t *ret_size)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    OK(fstat(fd, &status));
    uint8_t *bytes = malloc((size_t)status.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)status.st_size), status.st_size);
    close(fd);
    *ret_size = (size_t)status.st_size;
    return bytes;
}

static void file_store(const char *path, const uint8_t *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

/* --- cases ------------------------------------------------------------------------------------*/

struct torn {
    struct fixture fixture; /* runs, or was closed; its files are copied for each case */
    struct fixture copy;
    struct rand rand;
    uint64_t seed;
};

static void torn_init(struct torn *torn, enum kvs_sync sync)
{
    torn->seed = test_seed();
    torn->rand = rand_seed(torn->seed);
    OK(fixture_init(&torn->fixture, &kind));
    OK(fixture_init(&torn->copy, &kind));
    torn->fixture.options.sync = sync;
    OK(fixture_open(&torn->fixture));
    write_batches(&torn->fixture, 0, BATCHES);
}

static void torn_copy(struct torn *torn)
{
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", torn->copy.directory,
             torn->fixture.directory, torn->copy.directory);
    OK(system(command));
}

static void torn_deinit(struct torn *torn)
{
    fixture_deinit(&torn->fixture);
    fixture_deinit(&torn->copy);
}

static void segment_path(const struct torn *torn, const char *name, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/%s", torn->copy.directory, name);
}

/* Where the log's last bytes end: behind them the file has only zeros, prepared for more. */
static size_t data_end(const uint8_t *bytes, size_t size)
{
    while (size > 0 && bytes[size - 1] == 0)
        size--;
    return size;
}

/* Opens the spoilt copy, which must work; the batches that are there. More can be written. */
static unsigned open_torn(struct torn *torn)
{
    struct fixture *copy = &torn->copy;
    int error = fixture_open(copy);
    if (error != 0) {
        copy->engine = NULL;
        fail_msg("open: %s: %s", kvs_error_name(error), copy->message.text);
    }
    unsigned there = read_batches(copy);
    write_batches(copy, there, BATCHES);
    OK(fixture_close(copy));
    OK(fixture_open(copy));
    assert_int_equal(read_batches(copy), BATCHES);
    OK(fixture_close(copy));
    return there;
}

static void test_as_killed(void **state)
{
    for (enum kvs_sync sync = KVS_SYNC_ALWAYS; sync <= KVS_SYNC_NEVER; sync++) {
        struct torn torn;
        torn_init(&torn, sync);
        torn_copy(&torn);
        assert_int_equal(open_torn(&torn), BATCHES);
        torn_deinit(&torn);
    }
}

/* The newest segment ends early, or from some place on holds bytes that were never written. What
 * had been synced before a later sync was noted may be reported as damage instead. */
static void test_torn_tail(void **state)
{
    struct torn torn;
    torn_init(&torn, KVS_SYNC_NEVER);
    unsigned lowest = BATCHES;
    for (unsigned i = 0; i < CASES; i++) {
        torn_copy(&torn);
        struct files files = list_segments(torn.copy.directory);
        char path[PATH_SIZE];
        segment_path(&torn, files.names[files.count - 1], path);
        size_t size;
        uint8_t *bytes = file_load(path, &size);
        size_t end = data_end(bytes, size);
        size_t at = rand_below(&torn.rand, end + 1);
        if (i % 3 == 0) {
            size = at;
        } else {
            for (size_t k = at; k < end; k++)
                bytes[k] = i % 3 == 1 ? 0 : (uint8_t)rand_u64(&torn.rand);
        }
        file_store(path, bytes, size);
        free(bytes);
        unsigned there = open_torn(&torn);
        lowest = there < lowest ? there : lowest;
    }
    assert_true(lowest > 0 && lowest < BATCHES);
    torn_deinit(&torn);
}

static void check_unchanged(const char *path, const uint8_t *bytes, size_t size)
{
    size_t now_size;
    uint8_t *now = file_load(path, &now_size);
    assert_int_equal(now_size, size);
    assert_memory_equal(now, bytes, size);
    free(now);
}

/* True when the damage was reported, false when all is there. */
static bool open_damaged(struct torn *torn, const char *name, const uint8_t *bytes, size_t size)
{
    struct fixture *copy = &torn->copy;
    int error = fixture_open(copy);
    if (error == 0) {
        unsigned damaged;
        unsigned there = read_batches_damaged(copy, &damaged);
        OK(fixture_close(copy));
        if (damaged > 0) {
            assert_true(damaged <= 20); /* those that 600 bytes may touch */
            return true;
        }
        if (there < BATCHES)
            fail_msg("%s: %u of %u batches are there, and no word of it: %s", name, there, BATCHES,
                     copy->message.text);
        return false;
    }
    copy->engine = NULL;
    assert_int_equal(error, KVS_ERR_CORRUPTION);
    char number[16];
    snprintf(number, sizeof number, "%ld", strtol(name, NULL, 10));
    if (strstr(copy->message.text, number) == NULL || strstr(copy->message.text, "offset") == NULL)
        fail_msg("the message names no segment and offset: %s", copy->message.text);
    char path[PATH_SIZE];
    segment_path(torn, name, path);
    check_unchanged(path, bytes, size);
    return true;
}

/* One bit, or a run of bytes, anywhere in what was synced, but for the mark that a close leaves at
 * the end: without that, the last batches cannot be told from writes that were not finished. */
static void test_damage(void **state)
{
    struct torn torn;
    torn_init(&torn, KVS_SYNC_ALWAYS);
    OK(fixture_close(&torn.fixture));
    unsigned reported = 0;
    for (unsigned i = 0; i < CASES; i++) {
        torn_copy(&torn);
        struct files files = list_segments(torn.copy.directory);
        assert_true(files.count > 3);
        const char *name = files.names[rand_below(&torn.rand, files.count)];
        char path[PATH_SIZE];
        segment_path(&torn, name, path);
        size_t size;
        uint8_t *bytes = file_load(path, &size);
        size_t end = size - CLOSING_MARK_SIZE; /* a closed store has no zeros behind its end */
        size_t at = rand_below(&torn.rand, end);
        if (i % 2 == 0) {
            bytes[at] ^= (uint8_t)(1u << rand_below(&torn.rand, 8));
        } else {
            for (size_t k = at; k < at + 600 && k < end; k++)
                bytes[k] = 0;
        }
        file_store(path, bytes, size);
        reported += open_damaged(&torn, name, bytes, size);
        free(bytes);
    }
    print_message("# %u of %u damages reported, the others hit nothing\n", reported, CASES);
    assert_true(reported > CASES / 2);
    torn_deinit(&torn);
}

/* A segment that is missing, shorter, or empty, and not the newest. */
static void test_segment_lost(void **state)
{
    struct torn torn;
    torn_init(&torn, KVS_SYNC_ALWAYS);
    for (unsigned i = 0; i < 12; i++) {
        torn_copy(&torn);
        struct files files = list_segments(torn.copy.directory);
        const char *name = files.names[rand_below(&torn.rand, files.count - 1)];
        char path[PATH_SIZE];
        segment_path(&torn, name, path);
        size_t size;
        uint8_t *bytes = file_load(path, &size);
        size_t left = i % 2 == 0 ? 0 : rand_below(&torn.rand, size - 40);
        file_store(path, bytes, left);
        assert_true(open_damaged(&torn, name, bytes, left));
        free(bytes);
    }
    torn_deinit(&torn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_killed),
        cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_segment_lost),
    };
    fixtures_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
