/*
 * tests/crash/test_sparse.c: segments that are mostly garbage and not in the cache. Of these,
 * compaction reads only what may live, as it moves it: few bytes, and not those that nobody needs.
 *
 * A store of some segments: one whose records all live, with keys that are removed later; then some
 * with a removal each, whose values are overwritten by one batch, but for each eighth. Reads of the
 * compaction are counted; they fail, one after the other, and so do memory and files; what they are
 * about to move is overwritten and removed under them; and records and hints are spoilt before.
 * Whatever comes of it, each key has its value, or, where the record is spoilt, reading it is
 * CORRUPTION.
 */
#include "base/fault.h"
#include "base/log.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/directory_files.h"
#include "engine/file.h"
#include "engine/log/emptying.h"
#include "test.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define SEGMENT_SIZE (256u * 1024)
#define VALUE_SIZE 4000u
#define KEYS 448u
#define KEPT_EVERY 8u
#define OLD 64u
#define GONE 7u
#define GONE_EVERY (KEYS / GONE)
#define NOBODY UINT32_MAX

static const struct engine_kind kind = {.name = "sparse",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = SEGMENT_SIZE,
                                        .cache_size_bytes = 1};

/* --- what compaction reads --------------------------------------------------------------------*/

enum hold { HOLD_NOTHING, HOLD_BEFORE, HOLD_RECORD };

static struct {
    unsigned fail_at;    /* this read fails; 0: none */
    unsigned fault_at;   /* this point of the world meanwhile, ... */
    unsigned fault;      /* ... of such a kind; 0: none */
    unsigned held_read;  /* of records: where HOLD_RECORD is */
    _Atomic int hold;    /* stops there, ... */
    _Atomic int is_held; /* ... and is there */
    atomic_bool has_run; /* what follows is of the first one */
    bool was_reached;
    uint64_t victims_bytes;
    uint64_t read_bytes;
    unsigned reads;
    unsigned record_reads;
} plan;

static _Thread_local bool is_emptying;

static void hold_at(int place)
{
    while (atomic_load(&plan.hold) == place) {
        atomic_store(&plan.is_held, place);
        usleep(500);
    }
    atomic_store(&plan.is_held, HOLD_NOTHING);
}

#ifdef KVS_FAULTS
static void world_break(void)
{
    if (plan.fault_at > 0)
        fault_arm(plan.fault, plan.fault_at, false);
}

static bool world_mend(void)
{
    bool was_reached = plan.fault_at > 0 && fault_fired() > 0;
    if (plan.fault_at > 0)
        fault_reset();
    return was_reached;
}
#else
static void world_break(void)
{
}

static bool world_mend(void)
{
    return false;
}
#endif

int __real_emptying_run(struct log_engine *log);
int __wrap_emptying_run(struct log_engine *log);
int __real_file_read(int fd, void *data, size_t size, uint64_t offset);
int __wrap_file_read(int fd, void *data, size_t size, uint64_t offset);

int __wrap_emptying_run(struct log_engine *log)
{
    hold_at(HOLD_BEFORE);
    if (atomic_load(&plan.has_run))
        return __real_emptying_run(log);
    for (unsigned i = 0; i < log->compaction.victims_count; i++)
        plan.victims_bytes += log->compaction.victims[i].segment->size;
    is_emptying = true;
    world_break();
    int error = __real_emptying_run(log);
    plan.was_reached = world_mend();
    is_emptying = false;
    atomic_store(&plan.has_run, true);
    return error;
}

int __wrap_file_read(int fd, void *data, size_t size, uint64_t offset)
{
    if (!is_emptying)
        return __real_file_read(fd, data, size, offset);
    plan.read_bytes += size;
    if (++plan.reads == plan.fail_at)
        return KVS_ERR_IO;
    bool is_record = size >= VALUE_SIZE && size < VALUE_SIZE + 64;
    if (is_record && plan.record_reads++ == plan.held_read)
        hold_at(HOLD_RECORD);
    return __real_file_read(fd, data, size, offset);
}

static void wait_until_held(int place)
{
    while (atomic_load(&plan.is_held) != place)
        usleep(500);
}

/* --- keys -------------------------------------------------------------------------------------*/

#define REMOVED 9u

static uint8_t rounds[KEYS]; /* of the value that each has */

static kvs_slice key_of(char text[32], const char *what, unsigned i)
{
    return slice_make(text, (size_t)snprintf(text, 32, "%s %05u", what, i));
}

static kvs_slice value_of(uint8_t value[VALUE_SIZE], unsigned i, unsigned round)
{
    for (unsigned at = 0; at < VALUE_SIZE; at++)
        value[at] = (uint8_t)(i * 7 + round * 31 + at * (1 + i % 5));
    return slice_make(value, VALUE_SIZE);
}

static void set(struct fixture *fixture, const char *what, unsigned i, unsigned round)
{
    char text[32];
    uint8_t value[VALUE_SIZE];
    OK(set_wait(fixture, key_of(text, what, i), value_of(value, i, round)));
}

/* What is there then, but for garbage, with all hints. */
static void store_make(struct files *files)
{
    struct fixture fixture;
    char text[32];
    OK(fixture_init(&fixture, &kind));
    OK(fixture_open(&fixture));
    for (unsigned i = 0; i < GONE; i++)
        OK(set_wait(&fixture, key_of(text, "gone", i), S("back again")));
    for (unsigned i = 0; i < OLD; i++)
        set(&fixture, "old", i, 0);
    for (unsigned i = 0; i < KEYS; i++) {
        set(&fixture, "key", i, 0);
        if (i % GONE_EVERY == GONE_EVERY / 2)
            OK(remove_wait(&fixture, key_of(text, "gone", i / GONE_EVERY), NULL));
    }
    hints_wait(fixture.directory);
    OK(fixture_close(&fixture));
    files_read(fixture.directory, files);
    fixture_deinit(&fixture);
}

static void open_again(struct fixture *fixture, const struct files *files, uint64_t cache_size)
{
    memset(&plan, 0, sizeof plan);
    memset(rounds, 0, sizeof rounds);
    directory_remove(fixture->directory);
    files_write(fixture->directory, files);
    fixture->options.cache_size_bytes = cache_size;
    OK(fixture_open(fixture));
}

/* All but each eighth. */
static void make_garbage(struct fixture *fixture)
{
    static char texts[KEYS][32];
    static uint8_t values[KEYS][VALUE_SIZE];
    static kvs_mutation mutations[KEYS];
    unsigned count = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        if (i % KEPT_EVERY == 0)
            continue;
        rounds[i] = 1;
        mutations[count] =
            mutation_set(key_of(texts[count], "key", i), value_of(values[count], i, 1));
        count++;
    }
    OK(batch_wait(fixture, mutations, count));
}

static void check_value(struct fixture *fixture, const char *what, unsigned i, unsigned round,
                        bool may_be_spoilt)
{
    char text[32];
    uint8_t value[VALUE_SIZE];
    struct buf found;
    int error = get_copy(fixture, 0, key_of(text, what, i), &found);
    bool is_right = error == 0 && slice_equal(buf_slice(&found), value_of(value, i, round));
    if (!is_right && !(error == KVS_ERR_NOT_FOUND && round == REMOVED) &&
        !(error == KVS_ERR_CORRUPTION && may_be_spoilt))
        fail_msg("%s: %s, not that of round %u", text, kvs_error_name(error), round);
    buf_deinit(&found);
}

/* NOBODY: no key's record is spoilt. */
static void check_all(struct fixture *fixture, unsigned spoilt)
{
    char text[32];
    struct buf found;
    for (unsigned i = 0; i < KEYS; i++)
        check_value(fixture, "key", i, rounds[i], i == spoilt);
    for (unsigned i = 0; i < OLD; i++)
        check_value(fixture, "old", i, 0, false);
    for (unsigned i = 0; i < GONE; i++)
        assert_int_equal(get_copy(fixture, 0, key_of(text, "gone", i), &found), KVS_ERR_NOT_FOUND);
}

static void check_and_reopen(struct fixture *fixture, unsigned spoilt)
{
    check_all(fixture, spoilt);
    OK(fixture_close(fixture));
    OK(fixture_open(fixture));
    check_all(fixture, spoilt);
    OK(fixture_close(fixture));
}

struct request {
    struct fixture *fixture;
    pthread_t thread;
    int error;
};

static void *request_run(void *arg)
{
    struct request *request = arg;
    request->error = control_wait(request->fixture, ENGINE_CONTROL_COMPACT, NULL);
    return NULL;
}

/* One compaction that is about to begin, when all garbage is there. */
static void compact_begin(struct request *request, struct fixture *fixture)
{
    atomic_store(&plan.hold, HOLD_BEFORE);
    make_garbage(fixture);
    *request = (struct request){.fixture = fixture};
    OK(pthread_create(&request->thread, NULL, request_run, request));
    wait_until_held(HOLD_BEFORE);
}

static int compact_end(struct request *request)
{
    atomic_store(&plan.hold, HOLD_NOTHING);
    OK(pthread_join(request->thread, NULL));
    return request->error;
}

/* --- tests ------------------------------------------------------------------------------------*/

static struct files made;

static void test_less_is_read(void **state)
{
    (void)state;
    struct fixture fixture;
    struct request request;
    OK(fixture_init(&fixture, &kind));
    open_again(&fixture, &made, 1);
    compact_begin(&request, &fixture);
    OK(compact_end(&request));
    printf("# %llu of %llu bytes were read\n", (unsigned long long)plan.read_bytes,
           (unsigned long long)plan.victims_bytes);
    assert_true(plan.victims_bytes > SEGMENT_SIZE / 2);
    assert_true(plan.read_bytes > plan.victims_bytes / KEPT_EVERY / 2);
    assert_true(plan.read_bytes < plan.victims_bytes / 4);
    check_and_reopen(&fixture, NOBODY);
    fixture_deinit(&fixture);
}

/* Some segments at once, and some that are in the cache. */
static void test_reads_fail(void **state)
{
    (void)state;
    struct fixture fixture;
    struct request request;
    unsigned failed = 0;
    OK(fixture_init(&fixture, &kind));
    for (unsigned k = 1;; k += TIMES(1, 3, 7)) {
        open_again(&fixture, &made, 5 * SEGMENT_SIZE);
        compact_begin(&request, &fixture);
        plan.fail_at = k;
        int error = compact_end(&request);
        assert_true(error == 0 || error == KVS_ERR_IO);
        failed += error != 0;
        bool was_reached = plan.reads >= k;
        check_and_reopen(&fixture, NOBODY);
        if (!was_reached)
            break;
    }
    printf("# %u failures\n", failed);
    assert_true(failed > 0);
    fixture_deinit(&fixture);
}

/* At each point, in turn with hardly any cache and with some. Returns how often it showed. */
static unsigned world_fails(struct fixture *fixture, enum fault_kind fault, unsigned every)
{
    struct request request;
    unsigned failed = 0;
    for (unsigned k = 1;; k += every) {
        open_again(fixture, &made, k % 2 == 0 ? 1 : 5 * SEGMENT_SIZE);
        compact_begin(&request, fixture);
        plan.fault = fault;
        plan.fault_at = k;
        int error = compact_end(&request);
        assert_true(error == 0 || error == KVS_ERR_NO_MEMORY || error == KVS_ERR_NO_SPACE);
        failed += error != 0;
        bool was_reached = plan.was_reached;
        check_and_reopen(fixture, NOBODY);
        if (!was_reached)
            return failed;
    }
}

static void test_world_fails(void **state)
{
    (void)state;
    struct fixture fixture;
#ifndef KVS_FAULTS
    skip();
#endif
    OK(fixture_init(&fixture, &kind));
    unsigned allocs = world_fails(&fixture, FAULT_ALLOC, TIMES(1, 2, 5));
    unsigned opens = world_fails(&fixture, FAULT_FILE_OPEN, 1);
    unsigned writes = world_fails(&fixture, FAULT_FILE_SPACE, 1);
    printf("# %u failures of memory, %u of opens, %u of space\n", allocs, opens, writes);
    assert_true(allocs > 0 && writes > 0);
    assert_int_equal(opens, 0); /* without its hint, a file is read as a whole */
    fixture_deinit(&fixture);
}

/* As they were before. */
static void check_kept(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct engine_view view;
    char text[32];
    uint8_t value[VALUE_SIZE];
    kvs_slice found;
    OK(engine_view_begin(engine, snapshot, true, &view));
    for (unsigned i = 0; i < KEYS; i += KEPT_EVERY) {
        OK(engine_get(&view, 0, key_of(text, "key", i), &found));
        assert_true(slice_equal(found, value_of(value, i, 0)));
    }
    engine_view_end(&view);
}

/* The keys of what is about to be moved are set, removed, and removed and set. */
static void test_writes_come_in_between(void **state)
{
    (void)state;
    struct fixture fixture;
    struct request request;
    struct engine_snapshot *snapshot;
    char text[32];
    OK(fixture_init(&fixture, &kind));
    for (unsigned record = 0; record < 8; record += 3) {
        open_again(&fixture, &made, 5 * SEGMENT_SIZE);
        compact_begin(&request, &fixture);
        OK(engine_snapshot_take(fixture.engine, &snapshot));
        plan.held_read = record;
        atomic_store(&plan.hold, HOLD_RECORD);
        wait_until_held(HOLD_RECORD);
        for (unsigned i = 0; i < KEYS; i += KEPT_EVERY) {
            unsigned what = i / KEPT_EVERY % 4;
            if (what % 2 == 1)
                OK(remove_wait(&fixture, key_of(text, "key", i), NULL));
            if (what >= 2)
                set(&fixture, "key", i, 2);
            rounds[i] = what >= 2 ? 2 : what == 1 ? REMOVED : 0;
        }
        OK(set_wait(&fixture, key_of(text, "gone", 1), S("back again")));
        OK(remove_wait(&fixture, key_of(text, "gone", 1), NULL));
        OK(compact_end(&request));
        check_kept(fixture.engine, snapshot);
        engine_snapshot_release(fixture.engine, snapshot);
        OK(control_wait(&fixture, ENGINE_CONTROL_COMPACT, NULL));
        check_and_reopen(&fixture, NOBODY);
    }
    fixture_deinit(&fixture);
}

static void byte_spoil(const struct fixture *fixture, const char *name, size_t at)
{
    char path[200];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", fixture->directory, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte = (uint8_t)~byte;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static bool is_there(const struct fixture *fixture, const char *name)
{
    char path[200];
    struct stat facts;
    snprintf(path, sizeof path, "%s/%s", fixture->directory, name);
    return stat(path, &facts) == 0;
}

/* Compacts with a spoilt byte; is the segment gone? */
static bool spoilt_run(struct fixture *fixture, const char *name, const char *segment, size_t at,
                       unsigned key)
{
    struct request request;
    open_again(fixture, &made, 1);
    compact_begin(&request, fixture);
    byte_spoil(fixture, name, at);
    int error = compact_end(&request);
    assert_true(error == 0 || error == KVS_ERR_CORRUPTION);
    bool is_gone = !is_there(fixture, segment);
    check_and_reopen(fixture, key);
    return is_gone;
}

/* What cannot be read any more stays where it is; what nobody needs is given back. */
static void test_spoilt_records(void **state)
{
    (void)state;
    struct fixture fixture;
    struct rand rand = rand_seed(test_seed());
    unsigned cases[3] = {0};
    OK(fixture_init(&fixture, &kind));
    const struct file *file = file_find(&made, "0000000004.seg");
    assert_non_null(file);
    struct record record;
    for (size_t at = SEGMENT_HEADER_SIZE, size = 0; at < file->size; at += size) {
        size = record_decode(slice_make(file->bytes + at, file->size - at), 4, &record);
        assert_true(size > 0);
        if (record.kind != RECORD_SET && record.kind != RECORD_REMOVE)
            continue;
        size_t end = (size_t)(record.value.data + record.value.size - file->bytes);
        unsigned key = record.kind == RECORD_SET
                           ? (unsigned)strtoul((char *)record.key.data + 4, NULL, 10)
                           : 0;
        bool is_removal = record.kind == RECORD_REMOVE;
        bool lives = is_removal || key % KEPT_EVERY == 0;
        bool is_gone =
            spoilt_run(&fixture, file->name, file->name, at + rand_below(&rand, end - at),
                       lives && !is_removal ? key : NOBODY);
        assert_int_equal(is_gone, !lives);
        cases[is_removal ? 2 : lives]++;
    }
    printf("# %u dead, %u living, %u removals\n", cases[0], cases[1], cases[2]);
    assert_true(cases[0] > 30 && cases[1] > 4 && cases[2] > 0);
    fixture_deinit(&fixture);
}

/* Then all of the segment is read. */
static void test_spoilt_hint(void **state)
{
    (void)state;
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    const struct file *file = file_find(&made, "0000000004.hint");
    assert_non_null(file);
    for (size_t at = 0; at < file->size; at += TIMES(37, 89, 211))
        assert_true(spoilt_run(&fixture, file->name, "0000000004.seg", at, NOBODY));
    fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_less_is_read),   cmocka_unit_test(test_reads_fail),
        cmocka_unit_test(test_world_fails),    cmocka_unit_test(test_writes_come_in_between),
        cmocka_unit_test(test_spoilt_records), cmocka_unit_test(test_spoilt_hint),
    };
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    store_make(&made);
    int failed = cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
    files_free(&made);
    return tests_end(failed);
}
