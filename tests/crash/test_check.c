/*
 * tests/crash/test_check.c: a log engine's directory is checked and saved, whole and damaged.
 *
 * Each case takes a copy of the files of a closed store, flips one bit at a random place, and has
 * the copy checked and saved. The check tells of damage exactly when opening the store would, or a
 * key is missing; it changes no file. What is saved has every key whose last record was not hit,
 * and never a value that was not written.
 */
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include "contract/contract.h"
#include "crash/directory_files.h"
#include "engine/file.h"
#include "engine/log/check.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define KEYS 300
#define ROUNDS 4
#define CASES 60
#define PATH_SIZE 300

static const struct engine_kind kind = {.name = "check",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = 64 * 1024};

/* --- a store ----------------------------------------------------------------------------------*/

static kvs_slice key_of(char text[TEXT_SIZE_MAX], unsigned i)
{
    return text_format(text, "key %03u", i);
}

static size_t value_of(uint8_t value[400], unsigned i, unsigned round)
{
    bytes_fill(value, 400, (uint64_t)round * KEYS + i);
    return 100 + (i * 7 + round) % 300;
}

/* Several rounds over all keys; the last removes every tenth. Batches of three keys. */
static void store_write(struct fixture *fixture)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < KEYS; i += 3) {
            kvs_mutation mutations[3];
            char texts[3][TEXT_SIZE_MAX];
            uint8_t values[3][400];
            for (unsigned k = 0; k < 3; k++) {
                kvs_slice key = key_of(texts[k], i + k);
                size_t size = value_of(values[k], i + k, round);
                bool remove = round == ROUNDS - 1 && (i + k) % 10 == 0;
                mutations[k] =
                    remove ? mutation_remove(key) : mutation_set(key, slice_make(values[k], size));
            }
            OK(batch_wait(fixture, mutations, 3));
        }
    }
}

/* How many keys do not have what the last round gave them. Any other value is one of a round
 * before, or a failure. */
static unsigned store_differs_damaged(struct fixture *fixture, unsigned *ret_damaged)
{
    unsigned differ = 0;
    *ret_damaged = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        char text[TEXT_SIZE_MAX];
        struct buf got;
        int error = get_copy(fixture, 0, key_of(text, i), &got);
        *ret_damaged += error == KVS_ERR_CORRUPTION;
        if (error == KVS_ERR_CORRUPTION)
            continue;
        assert_true(error == 0 || error == KVS_ERR_NOT_FOUND);
        unsigned round = ROUNDS;
        for (unsigned r = 0; error == 0 && r < ROUNDS; r++) {
            uint8_t value[400];
            size_t size = value_of(value, i, r);
            if (slice_equal(buf_slice(&got), slice_make(value, size)))
                round = r;
        }
        assert_true(error != 0 || round < ROUNDS);
        differ += i % 10 == 0 ? error == 0 : round != ROUNDS - 1;
        buf_deinit(&got);
    }
    return differ;
}

static unsigned store_differs(struct fixture *fixture)
{
    unsigned damaged;
    unsigned differ = store_differs_damaged(fixture, &damaged);
    assert_int_equal(damaged, 0);
    return differ;
}

/* --- checks -----------------------------------------------------------------------------------*/

struct report {
    struct log_check check;
    char lines[2000];
};

static void report_line(struct log_check *check, const char *line)
{
    struct report *report = CONTAINER_OF(check, struct report, check);
    size_t used = strlen(report->lines);
    snprintf(report->lines + used, sizeof report->lines - used, "%s\n", line);
}

static int check_run(struct fixture *fixture, const char *save_to, struct report *report)
{
    *report = (struct report){.check.say = report_line};
    return log_check_blocking(&report->check, fixture->directory, save_to, fixture->pool,
                              &fixture->message);
}

/* A closed store, and what is in its files. */
static void store_make(struct fixture *fixture, struct files *files)
{
    OK(fixture_init(fixture, &kind));
    OK(fixture_open(fixture));
    store_write(fixture);
    hints_wait(fixture->directory);
    OK(fixture_close(fixture));
    files_read(fixture->directory, files);
}

static void saved_path(const struct fixture *fixture, char path[PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/saved", fixture->root);
}

/* Opens what was saved, and says how many keys are not as they were last. */
static unsigned saved_differs(struct fixture *fixture)
{
    char path[PATH_SIZE];
    const char *directory = fixture->options.directory;
    saved_path(fixture, path);
    fixture->options.directory = path;
    OK(fixture_open(fixture));
    unsigned differ = store_differs(fixture);
    OK(fixture_close(fixture));
    fixture->options.directory = directory;
    return differ;
}

static void test_whole(void **state)
{
    struct fixture fixture;
    struct files files;
    struct report report;
    char path[PATH_SIZE];
    store_make(&fixture, &files);
    saved_path(&fixture, path);
    OK(check_run(&fixture, NULL, &report));
    assert_string_equal(report.lines, "");
    assert_int_equal(report.check.damages, 0);
    assert_int_equal(report.check.keys, KEYS - KEYS / 10);
    assert_int_equal(report.check.unfinished_bytes, 0);
    assert_true(report.check.segments > 1 && report.check.records >= report.check.keys);
    assert_true(access(path, F_OK) != 0);
    OK(check_run(&fixture, path, &report));
    assert_int_equal(report.check.saved, KEYS - KEYS / 10);
    assert_int_equal(saved_differs(&fixture), 0);
    assert_same_files(fixture.directory, &files);
    assert_int_equal(check_run(&fixture, path, &report), KVS_ERR_ALREADY_EXISTS);
    files_free(&files);
    fixture_deinit(&fixture);
}

static void test_refused(void **state)
{
    struct fixture fixture;
    struct report report;
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    assert_int_equal(check_run(&fixture, NULL, &report), KVS_ERR_LOCKED);
    assert_string_not_equal(fixture.message.text, "");
    OK(fixture_close(&fixture));
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/KVS", fixture.directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("engine: another\nformat: 1\n", file);
    OK(fclose(file));
    assert_int_equal(check_run(&fixture, NULL, &report), KVS_ERR_WRONG_ENGINE);
    OK(unlink(path)); /* without it the data is still there */
    OK(check_run(&fixture, NULL, &report));
    assert_int_equal(report.check.damages, 1);
    /* But perhaps not all: so it does not open, and nobody marks it. */
    assert_int_equal(fixture_open(&fixture), KVS_ERR_CORRUPTION);
    assert_non_null(strstr(fixture.message.text, "--repair"));
    fixture.engine = NULL;
    assert_int_equal(access(path, F_OK), -1);
    fixture_deinit(&fixture);
}

/* Files are opened as those of another user, or as on a file system that is mounted for reading. */
static int writing_fails;

int __real_file_open(const char *path, int flags, int *ret_fd);
int __wrap_file_open(const char *path, int flags, int *ret_fd);

int __wrap_file_open(const char *path, int flags, int *ret_fd)
{
    if (writing_fails != 0 && (flags & O_ACCMODE) != O_RDONLY)
        return writing_fails;
    return __real_file_open(path, flags, ret_fd);
}

static int check_run_unwritten(struct fixture *fixture, int error_of_writing, struct report *report)
{
    writing_fails = error_of_writing;
    int error = check_run(fixture, NULL, report);
    writing_fails = 0;
    return error;
}

static void test_unwritten(void **state)
{
    struct fixture fixture;
    struct files files;
    struct report report;
    store_make(&fixture, &files);
    OK(check_run_unwritten(&fixture, KVS_ERR_PERMISSION, &report));
    OK(check_run_unwritten(&fixture, KVS_ERR_READ_ONLY, &report));
    assert_string_equal(report.lines, "");
    assert_int_equal(report.check.keys, KEYS - KEYS / 10);
    assert_same_files(fixture.directory, &files);
    OK(fixture_open(&fixture));
    assert_int_equal(check_run_unwritten(&fixture, KVS_ERR_READ_ONLY, &report), KVS_ERR_LOCKED);
    OK(fixture_close(&fixture));

    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/LOCK", fixture.directory);
    OK(unlink(path));
    OK(check_run_unwritten(&fixture, KVS_ERR_READ_ONLY, &report));
    assert_non_null(strstr(report.lines, "note: "));
    assert_non_null(strstr(report.lines, "LOCK"));
    assert_string_equal(fixture.message.text, "");
    assert_int_equal(report.check.damages, 0);
    assert_int_equal(report.check.keys, KEYS - KEYS / 10);
    assert_true(access(path, F_OK) != 0);
    files_free(&files);
    fixture_deinit(&fixture);
}

/* Flips a bit, checks and saves, and compares with what opening says. */
static void flipped_case(struct fixture *fixture, struct files *files, struct rand *rand,
                         unsigned *ret_damaged)
{
    char path[PATH_SIZE];
    saved_path(fixture, path);
    directory_remove(path);
    directory_remove(fixture->directory);
    struct file *file;
    do
        file = &files->list[rand_below(rand, files->count)];
    while (strstr(file->name, ".seg") == NULL && strstr(file->name, ".hint") == NULL);
    bool is_hint = strstr(file->name, ".hint") != NULL;
    size_t offset = (size_t)rand_below(rand, file->size);
    uint8_t bit = (uint8_t)(1u << rand_below(rand, 8));
    file->bytes[offset] ^= bit;
    files_write(fixture->directory, files);

    struct report report;
    OK(check_run(fixture, path, &report));
    assert_same_files(fixture->directory, files);
    unsigned differ = saved_differs(fixture);
    unsigned wrong = 0;
    unsigned damaged = 0; /* values, told of when they are read */
    int error = fixture_open(fixture);
    if (error != 0) {
        fixture->engine = NULL;
    } else {
        wrong = store_differs_damaged(fixture, &damaged);
        OK(fixture_close(fixture));
    }
    bool is_told = report.check.damages > 0;
    if ((error != 0 && !is_told) || (damaged > 0 && !is_told) || (differ > 0 && !is_told) ||
        wrong > 0 || damaged > 3)
        fail_msg("%s, offset %zu, bit %u: open says %s, the check %llu damages, %u saved keys "
                 "differ, %u are wrong, %u damaged:\n%s",
                 file->name, offset, bit, kvs_error_name(error),
                 (unsigned long long)report.check.damages, differ, wrong, damaged, report.lines);
    if (is_hint) { /* not believed: the segment is read */
        assert_true(error == 0 && !is_told && damaged == 0);
        assert_non_null(strstr(report.lines, file->name));
    }
    if (report.check.damages > 0) {
        assert_non_null(strstr(report.lines, file->name));
        assert_true(differ <= 3); /* one record; or a seal or a header and none */
        ++*ret_damaged;
    }
    file->bytes[offset] ^= bit;
}

static void test_flipped_bits(void **state)
{
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    struct files files;
    unsigned damaged = 0;
    store_make(&fixture, &files);
    for (unsigned i = 0; i < CASES; i++)
        flipped_case(&fixture, &files, &rand, &damaged);
    printf("# %u of %u cases damaged\n", damaged, CASES);
    assert_true(damaged > CASES / 4);
    files_free(&files);
    fixture_deinit(&fixture);
}

/* The oldest segment with a higher number than that. */
static struct file *segment_after(struct files *files, const char *name)
{
    struct file *found = NULL;
    for (unsigned i = 0; i < files->count; i++) {
        struct file *file = &files->list[i];
        if (strstr(file->name, ".seg") != NULL && strcmp(file->name, name) > 0 &&
            (found == NULL || strcmp(file->name, found->name) < 0))
            found = file;
    }
    assert_non_null(found);
    assert_true(found->size > 40000);
    return found;
}

#define SINGLES 1000

/* Keys that are written once: nothing is compacted. */
static void singles_write(struct fixture *fixture)
{
    for (unsigned i = 0; i < SINGLES; i++) {
        char text[TEXT_SIZE_MAX];
        uint8_t value[200];
        bytes_fill(value, sizeof value, i);
        OK(set_wait(fixture, text_format(text, "single %u", i), slice_make(value, sizeof value)));
    }
}

static unsigned singles_missing(struct fixture *fixture)
{
    unsigned missing = 0;
    for (unsigned i = 0; i < SINGLES; i++) {
        char text[TEXT_SIZE_MAX];
        uint8_t value[200];
        struct buf got;
        bytes_fill(value, sizeof value, i);
        int error = get_copy(fixture, 0, text_format(text, "single %u", i), &got);
        assert_true(error == 0 || error == KVS_ERR_NOT_FOUND);
        assert_true(error != 0 || slice_equal(buf_slice(&got), slice_make(value, sizeof value)));
        missing += error != 0;
        buf_deinit(&got);
    }
    return missing;
}

/* A hole of a kilobyte in the middle of one file, and only half of another. */
static void test_holes(void **state)
{
    struct fixture fixture;
    struct files files;
    struct report report;
    char path[PATH_SIZE];
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    singles_write(&fixture);
    OK(fixture_close(&fixture));
    files_read(fixture.directory, &files);
    saved_path(&fixture, path);
    struct file *first = segment_after(&files, "");
    struct file *second = segment_after(&files, first->name);
    memset(first->bytes + 20000, 0x55, 1024);
    size_t cut = second->size - 30000;
    second->size = 30000;
    directory_remove(fixture.directory);
    files_write(fixture.directory, &files);
    OK(check_run(&fixture, path, &report));
    assert_true(report.check.damages >= 2);
    assert_true(report.check.lost_bytes >= 1024);
    assert_non_null(strstr(report.lines, first->name));
    assert_non_null(strstr(report.lines, second->name));
    assert_same_files(fixture.directory, &files);
    fixture.options.directory = path;
    OK(fixture_open(&fixture));
    unsigned missing = singles_missing(&fixture);
    assert_true(missing >= 1024 / 240 && missing <= (1024 + cut) / 200 + 4);
    assert_int_equal(report.check.saved, SINGLES - missing);
    files_free(&files);
    fixture_deinit(&fixture);
}

#ifdef KVS_FAULTS
/* What is left of a repair that failed is the whole, or nothing that opens as a store. */
static bool left_is_whole_or_closed(struct fixture *fixture, const char *path)
{
    char mark[PATH_SIZE + 8];
    snprintf(mark, sizeof mark, "%s/KVS", path);
    if (access(mark, F_OK) == 0)
        return saved_differs(fixture) == 0;
    const char *directory = fixture->options.directory;
    fixture->options.directory = path;
    fixture->options.must_exist = true;
    int error = fixture_open(fixture);
    fixture->options.directory = directory;
    fixture->options.must_exist = false;
    if (error == 0)
        return false;
    fixture->engine = NULL;
    return error == KVS_ERR_NO_DIRECTORY ||
           (error == KVS_ERR_CORRUPTION && strstr(fixture->message.text, "no file KVS") != NULL);
}

/* Each allocation and each file operation fails in turn: an error, or a report of damage; the files
 * stay as they were. */
static void test_faults(void **state)
{
    struct fixture fixture;
    struct files files;
    struct report report;
    char path[PATH_SIZE];
    bool every = getenv("KVS_TEST_EVERY") != NULL;
    store_make(&fixture, &files);
    saved_path(&fixture, path);
    static const enum fault_kind kinds[] = {FAULT_ALLOC,      FAULT_FILE_OPEN,  FAULT_FILE_READ,
                                            FAULT_FILE_WRITE, FAULT_FILE_SPACE, FAULT_FILE_SHORT,
                                            FAULT_FILE_SYNC,  FAULT_FILE_RENAME};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        unsigned told = 0;
        unsigned refused = 0;
        bool fired = true;
        for (uint64_t k = 1; fired; k += every ? 1 : 1 + k / 20) {
            directory_remove(path);
            fault_reset();
            fault_arm(kinds[i], k, false);
            int error = check_run(&fixture, path, &report);
            fired = fault_fired() > 0;
            fault_reset();
            if (error != 0) {
                assert_string_not_equal(fixture.message.text, "");
                assert_true(left_is_whole_or_closed(&fixture, path));
                refused += report.check.saved > 0;
            }
            told += error != 0 || report.check.damages > 0;
        }
        assert_true(told > 0);
        if (kinds[i] == FAULT_FILE_WRITE || kinds[i] == FAULT_FILE_SYNC)
            assert_true(refused > 0);
        assert_same_files(fixture.directory, &files);
    }
    files_free(&files);
    fixture_deinit(&fixture);
}
#endif

int main(void)
{
    fixtures_in_memory();
    log_set_level(LOG_SILENT); /* of faults */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_unwritten),    cmocka_unit_test(test_holes),
        cmocka_unit_test(test_flipped_bits),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };
    return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
