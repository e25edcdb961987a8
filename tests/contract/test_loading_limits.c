/*
 * tests/contract/test_loading_limits.c: what a store that is still being loaded leaves to others,
 * and what it says when memory does not suffice (loading_world.h).
 */
#include "base/fault.h"
#include "base/log.h"
#include "contract/loading_world.h"
#include "engine/log/hint.h"
#include "engine/log/log_engine.h"
#include "engine/log/segment.h"
#include "engine/log/tree.h"
#include "fault/stride.h"
#include "test.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

/* --- what a loop leaves to the pool ----------------------------------------------------------- */

static int get_on_loop(const struct world *world, kvs_slice key)
{
    struct engine_view view;
    kvs_slice value;
    OK(engine_view_begin(world->fixture.engine, NULL, false, &view));
    int error = engine_get(&view, 0, key, &value);
    engine_view_end(&view);
    return error;
}

/* Of many keys at once it looks for the first few. */
static void test_many_keys_on_a_loop(void **state)
{
    enum { COUNT = 3 * TREE_FIND_MANY_MAX };
    struct world world;
    char texts[COUNT][KEY_TEXT];
    kvs_slice keys[COUNT];
    kvs_slice values[COUNT];
    int errors[COUNT];
    struct engine_view view;
    world_begin(&world);
    world_open(&world, 0);
    for (unsigned i = 0; i < COUNT; i++)
        keys[i] = key_of(texts[i], i);
    OK(engine_view_begin(world.fixture.engine, NULL, false, &view));
    engine_get_many(&view, 0, keys, COUNT, values, errors, NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        int there = world.numbers[0][i] != 0 ? 0 : KVS_ERR_NOT_FOUND;
        assert_int_equal(errors[i], i < TREE_FIND_MANY_MAX ? there : ENGINE_WOULD_BLOCK);
    }
    engine_view_end(&view);
    world_end(&world);
}

/* Empty, with a file for each key that is set. */
static void world_begin_empty(struct world *world)
{
    fault_gate_remove();
    memset(world, 0, sizeof *world);
    OK(fixture_init(&world->fixture, &loading_kind));
    OK(fixture_open(&world->fixture));
}

static void segments_fill(struct world *world, unsigned first, unsigned end)
{
    static const uint8_t value[40 * 1024];
    char text[KEY_TEXT];
    for (unsigned key = first; key < end; key++)
        OK(set_wait(&world->fixture, key_of(text, key), slice_make(value, sizeof value)));
}

/* Each range has a key, beside one that stays: there is too little garbage to be compacted. */
static void ranges_fill(struct world *world, unsigned first, unsigned end)
{
    static const uint8_t value[500];
    for (unsigned i = first; i < end; i++) {
        char texts[3][KEY_TEXT];
        snprintf(texts[0], KEY_TEXT, "range %05u", i);
        snprintf(texts[1], KEY_TEXT, "range %05u-", i);
        snprintf(texts[2], KEY_TEXT, "stays %05u", i);
        const kvs_mutation mutations[] = {
            mutation_set(slice_of_string(texts[0]), S("")),
            mutation_set(slice_of_string(texts[2]), slice_make(value, sizeof value)),
            mutation_remove_range(slice_of_string(texts[0]), slice_of_string(texts[1]))};
        OK(batch_wait(&world->fixture, mutations, 3));
    }
}

/* Closed and opened again: what a loop is told of a key then, and whoever may wait. */
static void expect_loop_told(struct world *world, kvs_slice key, int expected)
{
    hints_wait(world->fixture.directory);
    OK(fixture_close(&world->fixture));
    world_open(world, 0);
    struct buf value = BUF_INIT;
    assert_int_equal(get_on_loop(world, key), expected);
    OK(get_copy(&world->fixture, 0, key, &value));
    buf_deinit(&value);
    assert_true(is_loading(world));
    fault_gate_remove();
    OK(fixture_close(&world->fixture));
    OK(fixture_open(&world->fixture));
}

static void test_many_segments_on_a_loop(void **state)
{
    struct world world;
    char text[KEY_TEXT];
    world_begin_empty(&world);
    segments_fill(&world, 0, 50);
    expect_loop_told(&world, key_of(text, 1), 0);
    segments_fill(&world, 50, 70);
    expect_loop_told(&world, key_of(text, 1), ENGINE_WOULD_BLOCK);
    world_end(&world);
}

static void test_many_ranges_on_a_loop(void **state)
{
    struct world world;
    char text[KEY_TEXT];
    world_begin_empty(&world);
    segments_fill(&world, 0, 2);
    ranges_fill(&world, 0, 1000);
    expect_loop_told(&world, key_of(text, 1), 0);
    ranges_fill(&world, 1000, 1100);
    expect_loop_told(&world, key_of(text, 1), ENGINE_WOULD_BLOCK);
    world_end(&world);
}

/* --- what is left to others ------------------------------------------------------------------- */

/* The descriptors of hints that are open: how many, and the greatest. */
static unsigned hints_open(int *ret_greatest)
{
    unsigned count = 0;
    *ret_greatest = -1;
    for (int fd = 0; fd < 1024; fd++) {
        char path[256];
        descriptor_path(fd, path);
        if (strstr(path, ".hint") == NULL)
            continue;
        *ret_greatest = fd;
        count++;
    }
    return count;
}

/* Hints whose items wait to be read have half of the descriptors at most. */
static void test_descriptors_are_left(void **state)
{
    struct world world;
    struct rlimit before;
    int greatest;
    int greatest_now;
    world_begin(&world);
    OK(getrlimit(RLIMIT_NOFILE, &before));
    world_open(&world, 0);
    unsigned count = hints_open(&greatest);
    assert_true(count >= 4);
    fault_gate_remove();
    OK(fixture_close(&world.fixture));
    struct rlimit few = {.rlim_cur = 2 * ((rlim_t)greatest - count / 2),
                         .rlim_max = before.rlim_max};
    OK(setrlimit(RLIMIT_NOFILE, &few));
    world_open(&world, 0);
    unsigned count_now = hints_open(&greatest_now);
    assert_in_range(count_now, 1, count - 1);
    assert_true((rlim_t)greatest_now <= few.rlim_cur / 2);
    check_gets(&world, NULL);
    assert_true(is_loading(&world));
    fault_gate_remove();
    check_all(&world);
    OK(setrlimit(RLIMIT_NOFILE, &before));
    world_end(&world);
}

/* --- without memory --------------------------------------------------------------------------- */

/* The writer may make one anew as soon as it finds the time. */
static unsigned bad_hints(const struct world *world)
{
    struct log_engine *log = CONTAINER_OF(world->fixture.engine, struct log_engine, engine);
    unsigned count = 0;
    pthread_mutex_lock(&log->writing);
    for (struct segment *at = log->oldest; at != NULL; at = at->next)
        count += at->hint == SEGMENT_HINT_BAD;
    pthread_mutex_unlock(&log->writing);
    return count;
}

/* A hint for which there is no memory says nothing against its file: the open says what it lacks,
 * and does not go on without the hint. */
static void test_open_without_memory(void **state)
{
    struct world world;
    unsigned refused = 0;
    world_begin(&world);
    fault_arm(FAULT_ALLOC, UINT64_MAX, false);
    OK(fixture_open(&world.fixture));
    uint64_t hits = fault_hits(FAULT_ALLOC);
    fault_reset();
    OK(fixture_close(&world.fixture));
    uint64_t stride = fault_stride(hits, TIMES(200, 60, 60));
    for (uint64_t k = 1 + rand_below(&world.rand, stride); k <= hits; k += stride) {
        fault_arm(FAULT_ALLOC, k, false);
        int error = fixture_open(&world.fixture);
        fault_reset();
        if (error != 0) {
            assert_int_equal(error, KVS_ERR_NO_MEMORY);
            world.fixture.engine = NULL;
            refused++;
            continue;
        }
        assert_int_equal(bad_hints(&world), 0);
        check_many(&world);
        OK(fixture_close(&world.fixture));
    }
    print_message("# %llu allocations, %u times no memory\n", (unsigned long long)hits, refused);
    assert_true(refused > 0);
    OK(fixture_open(&world.fixture));
    check_all(&world);
    world_end(&world);
}

/* The same of items that are read later: the first allocation behind the gate is for them. */
static void test_items_without_memory(void **state)
{
    struct world world;
    struct files files;
    struct buf value;
    char text[KEY_TEXT];
    world_begin(&world);
    files_read(world.fixture.directory, &files);
    log_set_level(LOG_SILENT);
    world_open(&world, 0);
    while (!fault_gate_holds())
        sched_yield();
    fault_arm(FAULT_ALLOC, 1, false);
    fault_gate_remove();
    while (is_loading(&world))
        sched_yield();
    assert_int_equal(fault_fired(), 1);
    fault_reset();
    assert_int_equal(get_copy(&world.fixture, 0, key_of(text, 4), &value), KVS_ERR_NO_MEMORY);
    assert_int_equal(set_wait(&world.fixture, S("key"), S("value")), KVS_ERR_STORAGE_FAILED);
    assert_int_equal(fixture_close(&world.fixture), KVS_ERR_STORAGE_FAILED);
    assert_unchanged(&world, &files);
    files_free(&files);
    log_set_level(LOG_ERROR);
    OK(fixture_open(&world.fixture));
    check_all(&world);
    world_end(&world);
}

#define NUMBERS_MAX 65536u

static _Atomic bool hints_there[NUMBERS_MAX]; /* by the segment's number */
static _Atomic unsigned hints_made_anew;

int __real_hint_build(kvs_slice segment, uint32_t number, struct hint *ret_hint);
int __wrap_hint_build(kvs_slice segment, uint32_t number, struct hint *ret_hint);
int __wrap_hint_build(kvs_slice segment, uint32_t number, struct hint *ret_hint)
{
    hints_made_anew += number < NUMBERS_MAX && hints_there[number];
    return __real_hint_build(segment, number, ret_hint);
}

/* How many there are. */
static unsigned hints_find(const struct world *world)
{
    struct log_engine *log = CONTAINER_OF(world->fixture.engine, struct log_engine, engine);
    unsigned count = 0;
    pthread_mutex_lock(&log->writing);
    for (const struct segment *at = log->oldest; at != NULL; at = at->next) {
        assert_true(at->number < NUMBERS_MAX);
        hints_there[at->number] = at->hint == SEGMENT_HINT_THERE;
        count += hints_there[at->number];
    }
    pthread_mutex_unlock(&log->writing);
    return count;
}

/* And of a compaction: it does not make a hint that is there anew from the segment's records, which
 * takes more. A failure may hit another job, or one that bears it: each try has something to
 * compact, and there are as many as it takes. */
static void test_compaction_without_memory(void **state)
{
    struct world world;
    unsigned refused = 0;
    unsigned tries = 0;
    (void)state;
    world_begin(&world);
    OK(fixture_open(&world.fixture));
    check_all(&world);
    hints_made_anew = 0;
    while (refused < 40) {
        batches_random(&world, 300);
        unsigned hints = hints_find(&world);
        fault_arm(FAULT_ALLOC, 1 + tries++ % 16, false);
        int error = control_wait(&world.fixture, ENGINE_CONTROL_COMPACT, NULL);
        fault_reset();
        assert_true(error == 0 || error == KVS_ERR_NO_MEMORY);
        assert_int_equal(hints_made_anew, 0);
        refused += error != 0 && hints > 1;
    }
    print_message("# %u times no memory in %u tries\n", refused, tries);
    check_all(&world);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_keys_on_a_loop),
        cmocka_unit_test(test_many_segments_on_a_loop),
        cmocka_unit_test(test_many_ranges_on_a_loop),
        cmocka_unit_test(test_descriptors_are_left),
        cmocka_unit_test(test_open_without_memory),
        cmocka_unit_test(test_items_without_memory),
        cmocka_unit_test(test_compaction_without_memory),
    };
    fixtures_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
