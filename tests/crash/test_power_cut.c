/*
 * tests/crash/test_power_cut.c: the log engine after a power cut at any moment.
 *
 * A writer does numbered batches over few keys, so that segments fill, die and are compacted, while
 * disk_journal.h notes what reaches the disk when. Then, for many moments, the disk is made as it
 * could be after a cut, and opened: always without damage, with the batches up to some number and
 * nothing of later ones; with --sync=always that number is at least the last acknowledged, with
 * interval at least the last before a sync that was reported done. And: what a full disk, a
 * directory whose syncs fail, and a file whose sync failed leave for a cut.
 */
#include "base/log.h"
#include "contract/engine_fixture.h"
#include "crash/disk_journal.h"
#include "engine/log/log_engine.h"
#include "runtime/thread_pool.h"
#include "test.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define BATCHES 500
#define CUTS 250
#define A_KEYS 37
#define B_KEYS 23
#define VALUE_SIZE_MAX 1600

static const struct engine_kind kind = {.name = "power-cut",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = 64 * 1024};

/* --- the batches ------------------------------------------------------------------------------*/

static kvs_slice make_key(char text[32], char group, unsigned i)
{
    snprintf(text, 32, "%c/%02u", group, i);
    return slice_of_string(text);
}

static size_t make_value(uint8_t value[VALUE_SIZE_MAX], unsigned number)
{
    size_t size = 4 + (number * 131) % (VALUE_SIZE_MAX - 4);
    memcpy(value, &number, 4);
    for (size_t i = 4; i < size; i++)
        value[i] = (uint8_t)(number * 7 + i);
    return size;
}

static int write_batch(struct fixture *fixture, unsigned number)
{
    char texts[3][32];
    uint8_t bytes[VALUE_SIZE_MAX];
    kvs_slice value = slice_make(bytes, make_value(bytes, number));
    kvs_mutation mutations[5] = {
        mutation_set(make_key(texts[0], 'a', number % A_KEYS), value),
        mutation_set(make_key(texts[1], 'b', number * 7 % B_KEYS), value),
        mutation_set(S("last"), slice_make(bytes, 4)),
    };
    uint32_t count = 3;
    if (number % 5 == 0)
        mutations[count++] = mutation_remove(make_key(texts[2], 'a', number * 3 % A_KEYS));
    if (number % 40 == 0)
        mutations[count++] = mutation_remove_range(S("b/"), S("b0"));
    return batch_wait(fixture, mutations, count);
}

/* What the keys hold after the batches 1 .. last: a batch's number, or 0. */
struct expected {
    unsigned a[A_KEYS];
    unsigned b[B_KEYS];
};

static struct expected expect_after(unsigned last)
{
    struct expected expected = {.a = {0}};
    for (unsigned number = 1; number <= last; number++) {
        expected.a[number % A_KEYS] = number;
        expected.b[number * 7 % B_KEYS] = number;
        if (number % 5 == 0)
            expected.a[number * 3 % A_KEYS] = 0;
        if (number % 40 == 0)
            memset(expected.b, 0, sizeof expected.b);
    }
    return expected;
}

static void check_key(struct engine_view *view, char group, unsigned i, unsigned number)
{
    char text[32];
    uint8_t bytes[VALUE_SIZE_MAX];
    kvs_slice value;
    int error = engine_get(view, 0, make_key(text, group, i), &value);
    if (error != (number == 0 ? KVS_ERR_NOT_FOUND : 0))
        fail_msg("%s: %s, but batch %u was the last to %s it", text, kvs_error_name(error), number,
                 number == 0 ? "remove" : "set");
    if (number != 0)
        assert_true(slice_equal(value, slice_make(bytes, make_value(bytes, number))));
}

/* The number of the last batch that is there, and that it is there with all before it. */
static unsigned check_store(struct fixture *fixture)
{
    struct engine_view view;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    unsigned last = 0;
    kvs_slice value;
    if (engine_get(&view, 0, S("last"), &value) == 0)
        memcpy(&last, value.data, 4);
    struct expected expected = expect_after(last);
    for (unsigned i = 0; i < A_KEYS; i++)
        check_key(&view, 'a', i, expected.a[i]);
    for (unsigned i = 0; i < B_KEYS; i++)
        check_key(&view, 'b', i, expected.b[i]);
    engine_view_end(&view);
    return last;
}

/* --- the cuts ---------------------------------------------------------------------------------*/

static void write_all(struct fixture *fixture)
{
    bool always = fixture->options.sync == KVS_SYNC_ALWAYS;
    disk_journal_start(fixture->directory);
    OK(fixture_open(fixture));
    for (unsigned number = 1; number <= BATCHES; number++) {
        OK(write_batch(fixture, number));
        if (always)
            disk_journal_note(number);
        if (number % 90 == 0)
            OK(control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL));
        if (number % 60 == 0) {
            OK(control_wait(fixture, ENGINE_CONTROL_SYNC, NULL));
            disk_journal_note(number);
        }
        if (number % 200 == 0) { /* recovery writes, too */
            OK(fixture_close(fixture));
            if (fixture->options.sync != KVS_SYNC_NEVER)
                disk_journal_note(number);
            OK(fixture_open(fixture));
        }
    }
    disk_journal_stop();
    OK(fixture_close(fixture));
}

static void open_cut(struct fixture *fixture, size_t at)
{
    int error = fixture_open(fixture);
    if (error == 0)
        return;
    fixture->engine = NULL;
    fail_msg("cut before event %zu of %zu: %s: %s", at, disk_journal_length(),
             kvs_error_name(error), fixture->message.text);
}

static void cut_and_open(struct fixture *fixture, struct rand *rand, size_t at)
{
    char directory[128];
    snprintf(directory, sizeof directory, "%s/cut", fixture->root);
    directory_remove(directory);
    uint64_t noted = disk_journal_cut(at, DISK_NAMES_ORDERED, rand, directory);
    const char *own = fixture->options.directory;
    fixture->options.directory = directory;
    for (unsigned again = 0; again < 2; again++) {
        open_cut(fixture, at);
        unsigned last = check_store(fixture);
        if (last < noted)
            fail_msg("cut before event %zu of %zu: batch %u is the last, but %u was safe", at,
                     disk_journal_length(), last, (unsigned)noted);
        /* What was recovered can be built upon. */
        if (again == 0)
            OK(write_batch(fixture, last + 1));
        OK(fixture_close(fixture));
    }
    fixture->options.directory = own;
}

static void cut_often(enum kvs_sync sync)
{
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = sync;
    fixture.options.sync_interval_ms = 5;
    write_all(&fixture);
    size_t length = disk_journal_length();
    for (unsigned i = 0; i < CUTS; i++) /* often near the begin, where files are made */
        cut_and_open(&fixture, &rand, rand_below(&rand, i % 8 == 0 ? 20 : length + 1));
    cut_and_open(&fixture, &rand, length);
    print_message("# %u cuts within %zu events\n", CUTS, length);
    disk_journal_free();
    fixture_deinit(&fixture);
}

static void test_sync_always(void **state)
{
    cut_often(KVS_SYNC_ALWAYS);
}

static void test_sync_interval(void **state)
{
    cut_often(KVS_SYNC_INTERVAL);
}

static void test_sync_never(void **state)
{
    cut_often(KVS_SYNC_NEVER);
}

/* --- a full disk ------------------------------------------------------------------------------*/

#define FULL_CUTS 60u

static atomic_uint refused_count;

static void refused_on_done(struct task *task)
{
    const struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
    atomic_fetch_add(&refused_count, write->op.error == KVS_ERR_NO_SPACE ? 1u : 100u);
}

/* Both in one group: the first one's record is written whole before there is no space. */
static void write_two_refused(struct fixture *fixture)
{
    static const uint8_t value[3000] = {1};
    kvs_mutation mutations[2] = {
        mutation_set(S("refused 1"), slice_make(value, sizeof value)),
        mutation_set(S("refused 2"), slice_make(value, sizeof value)),
    };
    struct engine_write writes[2];
    struct task_list list = {0};
    for (unsigned i = 0; i < 2; i++) {
        writes[i] = (struct engine_write){
            .op = {.task.run = refused_on_done}, .mutations = &mutations[i], .mutations_count = 1};
        task_list_push(&list, &writes[i].op.task);
    }
    disk_journal_fill_disk();
    engine_write_list(fixture->engine, &list);
    while (atomic_load(&refused_count) < 2)
        usleep(100);
    assert_int_equal(atomic_load(&refused_count), 2);
}

/* What was refused for lack of space is not there after a power cut either. */
static void test_refused_for_space(void **state)
{
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    char directory[128];
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = KVS_SYNC_ALWAYS;
    disk_journal_start(fixture.directory);
    OK(fixture_open(&fixture));
    OK(set_wait(&fixture, S("there"), S("before")));
    write_two_refused(&fixture);
    size_t refused = disk_journal_length();
    disk_journal_stop();
    OK(fixture_close(&fixture));
    snprintf(directory, sizeof directory, "%s/cut", fixture.root);
    fixture.options.directory = directory;
    for (unsigned i = 0; i < FULL_CUTS; i++) {
        kvs_slice value;
        struct engine_view view;
        directory_remove(directory);
        disk_journal_cut(refused, DISK_NAMES_ORDERED, &rand, directory);
        open_cut(&fixture, refused);
        OK(engine_view_begin(fixture.engine, NULL, true, &view));
        OK(engine_get(&view, 0, S("there"), &value));
        assert_int_equal(engine_get(&view, 0, S("refused 1"), &value), KVS_ERR_NOT_FOUND);
        assert_int_equal(engine_get(&view, 0, S("refused 2"), &value), KVS_ERR_NOT_FOUND);
        engine_view_end(&view);
        OK(fixture_close(&fixture));
    }
    disk_journal_free();
    fixture_deinit(&fixture);
}

/* --- a file whose sync failed -----------------------------------------------------------------*/

#define DOUBTED_SIZE 3000u

static void check_value(struct engine_view *view, kvs_slice key, kvs_slice expected)
{
    kvs_slice value;
    OK(engine_get(view, 0, key, &value));
    assert_true(slice_equal(value, expected));
}

/* The system does not write it again, but reads it as if it were there. A store that was opened
 * after that, and goes on, must not build upon it. */
static void test_sync_failed(void **state)
{
    static const uint8_t bytes[DOUBTED_SIZE] = {1};
    kvs_slice value = slice_make(bytes, sizeof bytes);
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    char directory[128];
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = KVS_SYNC_INTERVAL;
    fixture.options.sync_interval_ms = 3600u * 1000;
    disk_journal_start(fixture.directory);
    OK(fixture_open(&fixture));
    OK(set_wait(&fixture, S("before"), value));
    OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    OK(set_wait(&fixture, S("doubted"), value));
    disk_journal_fail_syncs(true);
    assert_int_equal(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL), KVS_ERR_IO);
    assert_int_equal(fixture_close(&fixture), KVS_ERR_STORAGE_FAILED);
    disk_journal_fail_syncs(false);

    OK(fixture_open(&fixture));
    for (unsigned i = 0; i < 2; i++) { /* the second has the mark of the first sync before it */
        OK(set_wait(&fixture, S("after"), value));
        OK(control_wait(&fixture, ENGINE_CONTROL_SYNC, NULL));
    }
    size_t synced = disk_journal_length();
    disk_journal_stop();
    OK(fixture_close(&fixture));

    snprintf(directory, sizeof directory, "%s/cut", fixture.root);
    fixture.options.directory = directory;
    disk_journal_cut(synced, DISK_NAMES_ORDERED, &rand, directory);
    open_cut(&fixture, synced);
    struct engine_view view;
    OK(engine_view_begin(fixture.engine, NULL, true, &view));
    check_value(&view, S("before"), value);
    check_value(&view, S("doubted"), value);
    check_value(&view, S("after"), value);
    engine_view_end(&view);
    OK(fixture_close(&fixture));
    disk_journal_free();
    fixture_deinit(&fixture);
}

/* --- a directory whose syncs fail -------------------------------------------------------------*/

#define ROWS 500u
#define ROW_SIZE 1000u
#define ROW_CUTS 60u

/* What the writer has done in the background comes through here. */
static pthread_mutex_t jobs_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next three */
static struct task *directory_job;
static struct task *sync_job; /* of data, and of the directory with it: waits */
static kvs_thread_pool *sync_job_pool;
static void (*directory_job_run)(struct task *task);
static atomic_uint directory_jobs;

void __real_pool_submit_task(kvs_thread_pool *pool, struct task *task);
void __wrap_pool_submit_task(kvs_thread_pool *pool, struct task *task);

static void directory_job_fail(struct task *task)
{
    atomic_fetch_add(&directory_jobs, 1);
    disk_journal_fail_directory_sync();
    directory_job_run(task);
}

void __wrap_pool_submit_task(kvs_thread_pool *pool, struct task *task)
{
    pthread_mutex_lock(&jobs_lock);
    bool waits = task == sync_job;
    if (waits)
        sync_job_pool = pool;
    if (task == directory_job) {
        directory_job_run = task->run;
        task->run = directory_job_fail;
    }
    pthread_mutex_unlock(&jobs_lock);
    if (!waits)
        __real_pool_submit_task(pool, task);
}

/* Of this engine from now on; NULL: of none, and what has waited goes on. */
static void jobs_take(struct log_engine *log)
{
    pthread_mutex_lock(&jobs_lock);
    struct task *waiting = sync_job;
    kvs_thread_pool *pool = sync_job_pool;
    directory_job = log != NULL ? &log->entry_sync.job : NULL;
    sync_job = log != NULL ? &log->background.job : NULL;
    sync_job_pool = NULL;
    pthread_mutex_unlock(&jobs_lock);
    if (pool != NULL)
        pool_submit_task(pool, waiting);
}

/* All keys up to some one, which is told, and none behind it. */
static unsigned rows_count(struct fixture *fixture)
{
    struct engine_view view;
    char text[32];
    kvs_slice value;
    unsigned count = 0;
    OK(engine_view_begin(fixture->engine, NULL, true, &view));
    while (count < ROWS && engine_get(&view, 0, make_key(text, 'r', count), &value) == 0)
        count++;
    for (unsigned row = count; row < ROWS; row++)
        assert_int_equal(engine_get(&view, 0, make_key(text, 'r', row), &value), KVS_ERR_NOT_FOUND);
    engine_view_end(&view);
    return count;
}

/* What brings the names of segments to the disk behind the writer's back fails. No write fails for
 * it, and no segment is lost from between others, although the disk forgets any names that it may.
 * Meanwhile no data is synced, which would bring the names, too. */
static void test_directory_sync_fails(void **state)
{
    static const uint8_t value[ROW_SIZE] = {1};
    struct rand rand = rand_seed(test_seed());
    struct fixture fixture;
    char directory[128];
    char text[32];
    OK(fixture_init(&fixture, &kind));
    fixture.options.sync = KVS_SYNC_NEVER;
    disk_journal_start(fixture.directory);
    OK(fixture_open(&fixture));
    jobs_take(CONTAINER_OF(fixture.engine, struct log_engine, engine));
    for (unsigned row = 0; row < ROWS; row++)
        OK(set_wait(&fixture, make_key(text, 'r', row), slice_make(value, sizeof value)));
    assert_int_equal(rows_count(&fixture), ROWS);
    disk_journal_stop();
    jobs_take(NULL);
    OK(fixture_close(&fixture));
    assert_true(atomic_load(&directory_jobs) >= 4);
    snprintf(directory, sizeof directory, "%s/cut", fixture.root);
    fixture.options.directory = directory;
    for (unsigned i = 0; i < ROW_CUTS; i++) {
        size_t at = rand_below(&rand, disk_journal_length() + 1);
        directory_remove(directory);
        disk_journal_cut(at, DISK_NAMES_ALONE, &rand, directory);
        open_cut(&fixture, at);
        (void)rows_count(&fixture);
        OK(fixture_close(&fixture));
    }
    disk_journal_free();
    fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync_always), cmocka_unit_test(test_sync_interval),
        cmocka_unit_test(test_sync_never),  cmocka_unit_test(test_refused_for_space),
        cmocka_unit_test(test_sync_failed), cmocka_unit_test(test_directory_sync_fails),
    };
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    return tests_end(cmocka_run_group_tests(tests, NULL, NULL));
}
