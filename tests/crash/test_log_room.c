/*
 * tests/crash/test_log_room.c: who may still write near the end of a disk.
 *
 * The linker sends the question what is free through here (--wrap), and what the compaction thread
 * does, so that it can be held up: for how much is left for removals depends on that.
 */
#include "base/clock.h"
#include "contract/engine_fixture.h"
#include "engine/file.h"
#include "engine/log/emptying.h"
#include "engine/log/hint_file.h"
#include "engine/log/log_engine.h"
#include "pd/tso.h"
#include "test.h"
#include "unit/stream/stream_fixture.h"
#include "unit/txn/txn_fixture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define SEGMENT_SIZE (64u * 1024)
#define KEPT (2u * SEGMENT_SIZE)
#define PLENTY (1024u * SEGMENT_SIZE)
#define VALUE_SIZE 1000u
#define KEYS 300u
#define HELD_MS_MAX 20000u

static const struct engine_kind kind = {.name = "log-room",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = SEGMENT_SIZE};

/* Half of what is kept has room for a step of a scavenge. */
static const struct engine_kind large = {.name = "log-room",
                                         .directory = "kvs",
                                         .open = log_engine_open_blocking,
                                         .segment_size_bytes = 32 * SEGMENT_SIZE};

/* --- the wrapped calls ------------------------------------------------------------------------*/

enum hold { HOLD_NOTHING, HOLD_HINTS, HOLD_BEFORE_MOVES, HOLD_BEHIND_MOVES };

static _Atomic uint64_t space;
static atomic_uint hold; /* where the compaction thread is to wait, ... */
static atomic_uint held; /* ... and where it does */

/* Bytes that a compaction of this test had to move at most before it gave anything back. */
static _Atomic uint64_t moved_max;

static void victims_note(const struct log_engine *log)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < log->compaction.victims_count; i++)
        sum += log->compaction.victims[i].segment->accounts.live_bytes;
    if (sum > atomic_load(&moved_max))
        atomic_store(&moved_max, sum);
}

static void hold_at(unsigned place)
{
    while (atomic_load(&hold) == place) {
        atomic_store(&held, place);
        usleep(1000);
    }
    atomic_store(&held, HOLD_NOTHING);
}

int __real_file_space(const char *path, struct file_space *ret_space);
int __wrap_file_space(const char *path, struct file_space *ret_space);
int __real_hint_file_write(const struct log_engine *log, const struct hint *hint);
int __wrap_hint_file_write(const struct log_engine *log, const struct hint *hint);
int __real_emptying_run(struct log_engine *log);
int __wrap_emptying_run(struct log_engine *log);

int __wrap_file_space(const char *path, struct file_space *ret_space)
{
    int error = __real_file_space(path, ret_space);
    ret_space->free = atomic_load(&space);
    return error;
}

int __wrap_hint_file_write(const struct log_engine *log, const struct hint *hint)
{
    hold_at(HOLD_HINTS);
    return __real_hint_file_write(log, hint);
}

int __wrap_emptying_run(struct log_engine *log)
{
    victims_note(log);
    hold_at(HOLD_BEFORE_MOVES);
    int error = __real_emptying_run(log);
    hold_at(HOLD_BEHIND_MOVES);
    return error;
}

static void wait_until_held(enum hold place)
{
    uint64_t begun_ms = clock_now_ms();
    while (atomic_load(&held) != place && clock_now_ms() - begun_ms < HELD_MS_MAX)
        usleep(1000);
    assert_int_equal(atomic_load(&held), place);
}

/* --- keys -------------------------------------------------------------------------------------*/

static kvs_slice key_of(char text[32], unsigned i)
{
    return slice_make(text, (size_t)snprintf(text, 32, "key %05u", i));
}

static int set(struct fixture *fixture, unsigned i)
{
    static uint8_t value[VALUE_SIZE];
    char text[32];
    return set_wait(fixture, key_of(text, i), slice_make(value, sizeof value));
}

static int remove_key(struct fixture *fixture, unsigned i)
{
    char text[32];
    return remove_wait(fixture, key_of(text, i), NULL);
}

static void begin(struct fixture *fixture, enum hold place)
{
    atomic_store(&space, PLENTY);
    atomic_store(&hold, place);
    atomic_store(&moved_max, 0);
    OK(fixture_init(fixture, &kind));
    OK(fixture_open(fixture));
    for (unsigned i = 0; i < KEYS; i++)
        OK(set(fixture, i));
}

/* So much is left; the engine has looked. */
static void leave(struct fixture *fixture, uint64_t left)
{
    atomic_store(&space, left);
    int error = 0;
    for (unsigned i = 0; i < 2 * PLENTY / VALUE_SIZE && error == 0; i++)
        error = set(fixture, KEYS);
    assert_int_equal(error, KVS_ERR_NO_SPACE);
}

/* --- tests ------------------------------------------------------------------------------------*/

static void test_removals_have_half(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, HOLD_NOTHING);
    leave(&fixture, KEPT);
    OK(remove_key(&fixture, 0));
    leave(&fixture, KEPT / 2 + 100);
    OK(remove_key(&fixture, 1));
    fixture_deinit(&fixture);
}

/* A hint that is being written takes space, and gives nothing back. */
static void test_removals_beside_a_hint(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, HOLD_HINTS);
    wait_until_held(HOLD_HINTS);
    leave(&fixture, KEPT / 4);
    assert_int_equal(remove_key(&fixture, 0), KVS_ERR_NO_SPACE);
    atomic_store(&hold, HOLD_NOTHING);
    fixture_deinit(&fixture);
}

/* What a compaction still has to move is left for it, and no more. */
static void test_removals_beside_a_compaction(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, HOLD_BEFORE_MOVES);
    for (unsigned i = 0; i < KEYS; i++) {
        if (i % 4 > 0)
            OK(remove_key(&fixture, i));
    }
    wait_until_held(HOLD_BEFORE_MOVES);
    leave(&fixture, VALUE_SIZE / 2);
    assert_int_equal(remove_key(&fixture, 0), KVS_ERR_NO_SPACE);
    leave(&fixture, KEPT / 2 + 100);
    OK(remove_key(&fixture, 0));
    atomic_store(&hold, HOLD_BEHIND_MOVES);
    wait_until_held(HOLD_BEHIND_MOVES);
    leave(&fixture, VALUE_SIZE / 2);
    OK(remove_key(&fixture, 4));
    atomic_store(&hold, HOLD_NOTHING);
    fixture_deinit(&fixture);
}

/* Several segments go together where there is room for what lives in all of them: not the first,
 * which has a little too much of that, and another one. */
static void test_segments_fit(void **state)
{
    (void)state;
    struct fixture fixture;
    begin(&fixture, HOLD_HINTS);
    wait_until_held(HOLD_HINTS);
    for (unsigned i = 0; i < KEYS; i++) {
        if (i % 62 < (i < 62 ? 30 : 37))
            OK(remove_key(&fixture, i));
    }
    atomic_store(&space, SEGMENT_SIZE * 13 / 16);
    atomic_store(&hold, HOLD_NOTHING);
    uint64_t begun_ms = clock_now_ms();
    while (atomic_load(&moved_max) == 0 && clock_now_ms() - begun_ms < HELD_MS_MAX)
        usleep(1000);
    fixture_deinit(&fixture);
    print_message("# %u bytes to move\n", (unsigned)atomic_load(&moved_max));
    assert_in_range(atomic_load(&moved_max), 1, SEGMENT_SIZE * 13 / 16);
}

static uint64_t disk_bytes(const struct fixture *fixture)
{
    struct engine_stats stats;
    engine_stats(fixture->engine, &stats);
    return stats.disk_bytes;
}

/* Zeros for batches to come would take what is kept for removals. */
static void test_nothing_ahead(void **state)
{
    (void)state;
    struct fixture fixture;
    uint64_t ahead_max = 0;
    begin(&fixture, HOLD_HINTS);
    atomic_store(&space, KEPT * 2);
    for (unsigned i = 0; i < 8 * KEYS; i++) {
        OK(set(&fixture, KEYS + i));
        if (i < 5 * KEYS) /* it has not looked yet */
            continue;
        uint64_t files = directory_size(fixture.directory);
        uint64_t used = disk_bytes(&fixture);
        if (files > used && files - used > ahead_max)
            ahead_max = files - used;
    }
    print_message("# %u bytes ahead\n", (unsigned)ahead_max);
    assert_true(ahead_max < SEGMENT_SIZE / 4);
    atomic_store(&hold, HOLD_NOTHING);
    fixture_deinit(&fixture);
}

struct waited_scavenge {
    struct stream_scavenge scavenge;
    struct latch latch;
};

static void scavenge_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct waited_scavenge, scavenge.op.task)->latch);
}

/* How many events it removed. */
static uint64_t scavenge(struct stream_fixture *fixture)
{
    struct waited_scavenge waited = {
        .scavenge.op = {.task.run = scavenge_on_done, .loop = &fixture->engine.loop}};
    latch_init(&waited.latch, 1);
    streams_scavenge(fixture->streams, &waited.scavenge);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    OK(waited.scavenge.op.error);
    return waited.scavenge.events_removed;
}

/* What is left of a block of events is written anew. */
static void test_scavenge(void **state)
{
    (void)state;
    static uint8_t data[8000];
    struct stream_fixture fixture;
    atomic_store(&space, PLENTY);
    atomic_store(&hold, HOLD_NOTHING);
    OK(stream_fixture_init(&fixture, &large));
    OK(stream_fixture_open(&fixture));
    OK(append_wait(&fixture, "few", STREAM_ANY, 0, 10, NULL));
    OK(metadata_wait(&fixture, "few", "{\"$maxCount\":3}"));
    atomic_store(&space, 32 * KEPT);
    int error = 0;
    for (unsigned i = 0; i < PLENTY / sizeof data && error == 0; i++) {
        struct stream_new_event event = event_of(100 + i, "T", "");
        event.data = slice_make(data, sizeof data);
        struct stream_write write = {
            .stream = S("many"), .expected_version = STREAM_ANY, .events = &event, .count = 1};
        error = write_event_wait(&fixture, &write);
    }
    assert_int_equal(error, KVS_ERR_NO_SPACE);
    assert_int_equal(scavenge(&fixture), 7);
    stream_fixture_deinit(&fixture);
}

/* What was prewritten can be ended, else readers would wait for it until there is space. */
static void test_transactions_end(void **state)
{
    (void)state;
    static uint8_t value[VALUE_SIZE];
    struct txn_fixture fixture;
    atomic_store(&space, PLENTY);
    atomic_store(&hold, HOLD_NOTHING);
    OK(txn_fixture_init(&fixture, &kind));
    struct txn_mutation put = txn_put_of(S("put"), S("value"));
    struct txn_mutation back = txn_put_of(S("back"), S("value"));
    OK(txn_prewrite_one(&fixture, &put, 10));
    OK(txn_prewrite_one(&fixture, &back, 11));
    atomic_store(&space, KEPT);
    int result = 0;
    for (unsigned i = 0; i < 2 * PLENTY / VALUE_SIZE && result == 0; i++) {
        char text[32];
        struct txn_mutation more = txn_put_of(key_of(text, i), slice_make(value, sizeof value));
        result = txn_prewrite_one(&fixture, &more, 20);
    }
    assert_int_equal(result, KVS_ERR_NO_SPACE);
    OK(txn_commit_one(&fixture, S("put"), 10, 12));
    OK(txn_rollback_one(&fixture, S("back"), 11));
    assert_string_equal(txn_see(&fixture, S("put"), 100), "value");
    assert_string_equal(txn_see(&fixture, S("back"), 100), "-");
    txn_fixture_deinit(&fixture);
}

struct waited_take {
    struct tso_request request;
    struct latch latch;
};

static void on_taken(struct tso_request *request)
{
    latch_down(&CONTAINER_OF(request, struct waited_take, request)->latch);
}

/* A transaction that only reads needs one, too, and their bound on the disk is moved for it. */
static void test_timestamps_are_given(void **state)
{
    (void)state;
    struct fixture fixture;
    struct meta_store store;
    struct tso *tso;
    begin(&fixture, HOLD_NOTHING);
    leave(&fixture, KEPT / 4);
    meta_store_init(&store, fixture.engine);
    OK(tso_open_blocking(&store, NULL, &tso));
    struct waited_take waited = {.request = {.count = 1, .loop = &fixture.loop, .done = on_taken}};
    latch_init(&waited.latch, 1);
    tso_wait(tso, &waited.request);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    tso_free(tso);
    meta_store_deinit(&store);
    OK(waited.request.error);
    fixture_deinit(&fixture);
}

int main(void)
{
    fixtures_in_memory();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_removals_have_half),
        cmocka_unit_test(test_removals_beside_a_hint),
        cmocka_unit_test(test_removals_beside_a_compaction),
        cmocka_unit_test(test_segments_fit),
        cmocka_unit_test(test_nothing_ahead),
        cmocka_unit_test(test_scavenge),
        cmocka_unit_test(test_transactions_end),
        cmocka_unit_test(test_timestamps_are_given),
    };
    return cmocka_run_group_tests_name("log_room", tests, NULL, NULL);
}
