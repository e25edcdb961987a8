/*
 * tests/crash/test_rocksdb_damage.c: the files of the engine rocksdb, damaged; and what it reads
 * without waiting for a file.
 *
 * Each case takes a copy of the files of a running engine (as after kill -9), flips one bit at a
 * random place, and opens it. Either that fails, or every key has its value, or reading it fails;
 * never a wrong value, never a crash. A bit of the write-ahead log may take the keys with it that
 * were in the log only, one of the manifest all that its tables hold: docs/format/rocksdb.md says
 * when.
 */
#include "base/rand.h"
#include "contract/contract.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define KEYS 400 /* the first half is in table files, the second in the write-ahead log */
#define CASES 80
#define FILES_MAX 32
#define VALUE_SIZE 300
#define PATH_SIZE 400

static const struct engine_kind kind = {.name = "rocksdb-damage",
                                        .directory = "rocksdb",
                                        .open = rocksdb_engine_open_blocking,
                                        .cache_size_bytes = 1024 * 1024};

static kvs_slice key_of(char text[TEXT_SIZE_MAX], unsigned i)
{
    return text_format(text, "key %04u", i);
}

static void keys_write(struct fixture *fixture, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char text[TEXT_SIZE_MAX];
        uint8_t value[VALUE_SIZE];
        bytes_fill(value, sizeof value, i);
        OK(set_wait(fixture, key_of(text, i), slice_make(value, sizeof value)));
    }
}

/* --- files ------------------------------------------------------------------------------------*/

static void file_copy(const char *from, const char *to)
{
    static uint8_t bytes[1 << 20];
    FILE *in = fopen(from, "r");
    FILE *out = fopen(to, "w");
    assert_true(in != NULL && out != NULL);
    for (size_t size; (size = fread(bytes, 1, sizeof bytes, in)) > 0;)
        assert_int_equal(fwrite(bytes, 1, size, out), size);
    fclose(in);
    OK(fclose(out));
}

struct files {
    unsigned count;
    char names[FILES_MAX][64];
};

static void files_list(const char *path, struct files *files)
{
    files->count = 0;
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_type == DT_REG && files->count < FILES_MAX)
            snprintf(files->names[files->count++], 64, "%.63s", entry->d_name);
    closedir(directory);
}

/* Copies the store in `from` to the new directory `to`: its marker and RocksDB's files. */
static void store_copy(const char *from, const char *to, struct files *files)
{
    char source[PATH_SIZE];
    char target[PATH_SIZE];
    OK(mkdir(to, 0755));
    snprintf(source, sizeof source, "%.99s/KVS", from);
    snprintf(target, sizeof target, "%.99s/KVS", to);
    file_copy(source, target);
    snprintf(target, sizeof target, "%.99s/rocksdb", to);
    OK(mkdir(target, 0755));
    snprintf(source, sizeof source, "%.99s/rocksdb", from);
    files_list(source, files);
    for (unsigned i = 0; i < files->count; i++) {
        snprintf(source, sizeof source, "%.99s/rocksdb/%s", from, files->names[i]);
        snprintf(target, sizeof target, "%.99s/rocksdb/%s", to, files->names[i]);
        file_copy(source, target);
    }
}

/* Flips a bit of the file; false when it is empty. */
static bool file_flip(const char *path, struct rand *rand, uint64_t *ret_offset)
{
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    struct stat status;
    OK(fstat(fd, &status));
    bool has_bytes = status.st_size > 0;
    if (has_bytes) {
        *ret_offset = rand_below(rand, (uint64_t)status.st_size);
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, (off_t)*ret_offset), 1);
        byte ^= (uint8_t)(1u << rand_below(rand, 8));
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)*ret_offset), 1);
    }
    close(fd);
    return has_bytes;
}

/* --- damage -----------------------------------------------------------------------------------*/

/* How many keys are missing or cannot be read; a wrong value is a failure, and so is it when one of
 * the first `safe` is missing. */
static unsigned keys_check(struct fixture *fixture, unsigned safe)
{
    unsigned unread = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        char text[TEXT_SIZE_MAX];
        struct buf value;
        int error = get_copy(fixture, 0, key_of(text, i), &value);
        if (error == 0) {
            uint8_t expected[VALUE_SIZE];
            bytes_fill(expected, sizeof expected, i);
            assert_true(slice_equal(buf_slice(&value), slice_make(expected, sizeof expected)));
        } else if (error == KVS_ERR_NOT_FOUND) {
            assert_true(i >= safe);
        }
        unread += error != 0;
        buf_deinit(&value);
    }
    return unread;
}

static void test_flipped_bits(void **state)
{
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    keys_write(&fixture, 0, KEYS / 2);
    OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
    keys_write(&fixture, KEYS / 2, KEYS);
    char image[PATH_SIZE];
    struct files files;
    snprintf(image, sizeof image, "%s/image", fixture.root);
    store_copy(fixture.directory, image, &files);
    OK(fixture_close(&fixture));
    unsigned refused = 0;
    unsigned told = 0;
    unsigned fine = 0;
    for (unsigned i = 0; i < CASES; i++) {
        directory_remove(fixture.directory);
        store_copy(image, fixture.directory, &files);
        const char *name = files.names[i % files.count];
        char path[PATH_SIZE];
        uint64_t offset = 0;
        snprintf(path, sizeof path, "%s/rocksdb/%s", fixture.directory, name);
        if (!file_flip(path, &rand, &offset))
            continue;
        if (fixture_open(&fixture) != 0) {
            fixture.engine = NULL;
            assert_string_not_equal(fixture.message.text, "");
            refused++;
            continue;
        }
        unsigned safe = strstr(name, ".log") != NULL        ? KEYS / 2
                        : strncmp(name, "MANIFEST", 8) == 0 ? 0
                                                            : KEYS;
        unsigned unread = keys_check(&fixture, safe);
        if (unread > 0)
            printf("# %s, byte %llu: %u keys not read\n", name, (unsigned long long)offset, unread);
        *(unread > 0 ? &told : &fine) += 1;
        OK(fixture_close(&fixture));
    }
    printf("# %u not opened, %u with keys that could not be read, %u with all keys\n", refused,
           told, fine);
    assert_true(refused > 0);
    fixture_deinit(&fixture);
}

static void test_current_is_missing(void **state)
{
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    keys_write(&fixture, 0, 10);
    OK(fixture_close(&fixture));
    char path[PATH_SIZE];
    char hidden[PATH_SIZE];
    snprintf(path, sizeof path, "%s/rocksdb/CURRENT", fixture.directory);
    snprintf(hidden, sizeof hidden, "%s/CURRENT", fixture.root);
    OK(rename(path, hidden));
    assert_int_equal(fixture_open(&fixture), KVS_ERR_CORRUPTION);
    assert_non_null(strstr(fixture.message.text, "CURRENT"));
    OK(rename(hidden, path));
    OK(fixture_open(&fixture));
    assert_int_equal(count_all(&fixture, 0), 10);
    fixture_deinit(&fixture);
}

/* Whichever file cannot be opened for want of descriptors, that is what is told. */
static void test_few_files(void **state)
{
    struct fixture fixture;
    struct rlimit limit;
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    keys_write(&fixture, 0, KEYS);
    OK(fixture_close(&fixture));
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    struct rlimit few = limit;
    unsigned by_rocksdb = 0;
    int error = KVS_ERR_TOO_MANY_FILES;
    few.rlim_cur = (rlim_t)open("/dev/null", O_RDONLY); /* the first that is free */
    close((int)few.rlim_cur);
    for (; error == KVS_ERR_TOO_MANY_FILES; few.rlim_cur++) {
        OK(setrlimit(RLIMIT_NOFILE, &few));
        error = fixture_open(&fixture);
        OK(setrlimit(RLIMIT_NOFILE, &limit));
        by_rocksdb += error != 0 && strstr(fixture.message.text, "RocksDB says") != NULL;
    }
    if (error != 0)
        fail_msg("%s", fixture.message.text);
    assert_true(by_rocksdb > 0);
    assert_int_equal(keys_check(&fixture, KEYS), 0);
    fixture_deinit(&fixture);
}

/* --- reads that do not wait -------------------------------------------------------------------*/

static unsigned count_would_block(struct fixture *fixture)
{
    unsigned blocked = 0;
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, false, &view));
    for (unsigned i = 0; i < KEYS; i++) {
        char text[TEXT_SIZE_MAX];
        kvs_slice value;
        int error = engine_get(&view, 0, key_of(text, i), &value);
        assert_true(error == 0 || error == ENGINE_WOULD_BLOCK);
        blocked += error == ENGINE_WOULD_BLOCK;
    }
    engine_view_end(&view);
    return blocked;
}

static int stop_at_once(void *arg, kvs_slice key, kvs_slice value)
{
    return 1;
}

static void test_would_block(void **state)
{
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    keys_write(&fixture, 0, KEYS);
    assert_int_equal(count_would_block(&fixture), 0); /* in the memory table */
    OK(fixture_close(&fixture));
    OK(fixture_open(&fixture));
    assert_int_equal(count_would_block(&fixture), KEYS); /* in a file that nobody has read */
    struct engine_view view;
    OK(engine_view_begin(fixture.engine, NULL, false, &view));
    struct engine_range range = {0};
    uint64_t count;
    assert_int_equal(engine_scan(&view, &range, stop_at_once, NULL), ENGINE_WOULD_BLOCK);
    assert_int_equal(engine_count(&view, &range, &count), ENGINE_WOULD_BLOCK);
    engine_view_end(&view);
    assert_int_equal(keys_check(&fixture, KEYS), 0);
    assert_int_equal(count_would_block(&fixture), 0); /* in the block cache now */
    fixture_deinit(&fixture);
}

int main(void)
{
    fixtures_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_would_block),
        cmocka_unit_test(test_current_is_missing),
        cmocka_unit_test(test_few_files),
        cmocka_unit_test(test_flipped_bits),
    };
    return cmocka_run_group_tests_name("rocksdb-damage", tests, NULL, NULL);
}
