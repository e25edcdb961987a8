/* tests/unit/stream/test_stream_scavenge.c: space is given back, and nothing else changes. */
#include "base/slice.h"
#include "stream/block.h"
#include "unit/stream/stream_test.h"

#include <stdio.h>

struct waited_scavenge {
    struct stream_scavenge scavenge;
    struct latch latch;
};

static void scavenge_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct waited_scavenge, scavenge.op.task)->latch);
}

static uint64_t scavenge(void)
{
    struct waited_scavenge waited = {
        .scavenge.op = {.task.run = scavenge_on_done, .loop = &fixture.engine.loop}};
    latch_init(&waited.latch, 1);
    streams_scavenge(fixture.streams, &waited.scavenge);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    assert_int_equal(waited.scavenge.op.error, 0);
    return waited.scavenge.events_removed;
}

/* The numbers of a stream's events, as a read gives them. */
static const char *numbers(const char *stream, int64_t from)
{
    static char text[1000];
    struct stream_read read;
    size_t size = 0;
    text[0] = '\0';
    assert_int_equal(read_forward_wait(&fixture, stream, from, 1000, &read), 0);
    for (uint32_t i = 0; i < read.events_count; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%lld", i > 0 ? " " : "",
                                 (long long)read.events[i].event.number);
    stream_read_release(&read);
    return text;
}

static unsigned count_all_events(void)
{
    struct stream_read read;
    assert_int_equal(read_all_wait(&fixture, 0, 4096, false, &read), 0);
    assert_true(read.end);
    int64_t before = 0;
    for (uint32_t i = 0; i < read.events_count; i++) {
        assert_true(read.events[i].event.position > before);
        before = read.events[i].event.position;
    }
    uint32_t count = read.events_count;
    stream_read_release(&read);
    return count;
}

static void test_nothing_to_do(void **state)
{
    (void)state;
    assert_int_equal(scavenge(), 0);
    append("a", 0, 10);
    append("b", 10, 10);
    assert_int_equal(scavenge(), 0);
    assert_string_equal(numbers("a", 0), "0 1 2 3 4 5 6 7 8 9");
    assert_int_equal(count_all_events(), 20);
}

static void test_limits(void **state)
{
    (void)state;
    append("count", 0, 10);
    append("truncated", 10, 10);
    append("old", 20, 5);
    atomic_fetch_add(&fixture_wall_ms, 100000);
    append("old", 30, 2);
    append("kept", 40, 5);
    assert_int_equal(metadata_wait(&fixture, "count", "{\"$maxCount\":3}"), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "truncated", "{\"$tb\":8}"), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "old", "{\"$maxAge\":50}"), STREAM_OK);
    append("last", 50, 1);
    assert_int_equal(scavenge(), 7 + 8 + 5);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_string_equal(numbers("count", 7), "7 8 9");
        assert_string_equal(numbers("truncated", 8), "8 9");
        assert_string_equal(numbers("old", 5), "5 6");
        assert_string_equal(numbers("kept", 0), "0 1 2 3 4");
        assert_int_equal(count_all_events(), 3 + 2 + 2 + 5 + 3 + 1);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    /* Numbers go on where they were; what was hidden does not come back. */
    struct stream_write write;
    assert_int_equal(append_wait(&fixture, "count", 9, 60, 1, &write), STREAM_OK);
    assert_int_equal(write.first_number, 10);
    assert_int_equal(metadata_wait(&fixture, "count", "{}"), STREAM_OK);
    assert_string_equal(numbers("count", 0), "7 8 9 10");
    assert_int_equal(scavenge(), 1); /* the metadata before */
}

static void test_deleted(void **state)
{
    (void)state;
    append("soft", 0, 5);
    append("hard", 10, 5);
    append("back", 20, 5);
    assert_int_equal(metadata_wait(&fixture, "hard", "{}"), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "soft", STREAM_ANY, false, NULL), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "hard", STREAM_ANY, true, NULL), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "back", STREAM_ANY, false, NULL), STREAM_OK);
    append("back", 30, 1);
    append("last", 40, 1);
    assert_int_equal(scavenge(), 5 + 6 + 6);
    assert_int_equal(scavenge(), 0);
    assert_int_equal(append_wait(&fixture, "hard", STREAM_ANY, 50, 1, NULL), STREAM_DELETED);
    struct stream_write write;
    assert_int_equal(append_wait(&fixture, "soft", STREAM_NO_STREAM, 50, 1, &write), STREAM_OK);
    assert_int_equal(write.first_number, 5);
    assert_string_equal(numbers("back", 5), "5");
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    assert_string_equal(numbers("soft", 5), "5");
    assert_int_equal(append_wait(&fixture, "hard", STREAM_ANY, 50, 1, NULL), STREAM_DELETED);
}

/* Links of derived streams keep their numbers. */
static void test_derived(void **state)
{
    (void)state;
    append("x-1", 0, 5);
    append("x-2", 10, 5);
    assert_int_equal(delete_wait(&fixture, "x-1", STREAM_ANY, false, NULL), STREAM_OK);
    append("last", 40, 1);
    assert_int_equal(scavenge(), 5);
    assert_string_equal(numbers("$ce-x", 0), "5 6 7 8 9 10"); /* the last one tells of it */
    append("x-2", 50, 1);
    assert_string_equal(numbers("$ce-x", 5), "5 6 7 8 9 10 11");
}

/* Blocks of lone events become few. */
static void test_small_blocks_are_joined(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200; i++)
        append("a", i, 1);
    assert_int_equal(scavenge(), 0);
    assert_true(count_all(&fixture.engine, STREAM_FAMILY_LOG) < 20);
    assert_int_equal(count_all_events(), 200);
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, "a", 0, 500, &read), 0);
    assert_int_equal(read.events_count, 200);
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(read.events[i].event.number, i);
    stream_read_release(&read);
    append("a", 1000, 1);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    append("a", 1001, 1);
    assert_int_equal(count_all_events(), 202);
}

static void test_space_is_given_back(void **state)
{
    if (*state == &stream_engines[0])
        return; /* memory has no files */
    for (unsigned i = 0; i < 3000; i++)
        append(i % 10 == 0 ? "kept" : "gone", i * 64, 64);
    assert_int_equal(metadata_wait(&fixture, "gone", "{\"$tb\":9223372036854775807}"), STREAM_OK);
    append("last", 0, 1);
    uint64_t before = directory_size(fixture.engine.directory);
    assert_int_equal(scavenge(), 2700 * 64);
    uint64_t after = directory_size(fixture.engine.directory);
    assert_true(after < before);
    if (*state == &stream_engines[2]) /* with segments small enough to see it well */
        assert_true(after < before / 3);
    /* Almost nothing is left of the stream in the index. */
    assert_true(count_all(&fixture.engine, STREAM_FAMILY_INDEX) < 4000);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    struct stream_read read;
    int64_t count = 0;
    int64_t from = 0;
    do {
        assert_int_equal(read_forward_wait(&fixture, "kept", from, 4096, &read), 0);
        count += read.events_count;
        from = read.next;
        stream_read_release(&read);
    } while (!read.end);
    assert_int_equal(count, 300 * 64);
}

/* --- how much at once ------------------------------------------------------------------------- */

static struct engine_methods looking_methods;
static const struct engine_methods *engine_own_methods;
static uint32_t _Atomic mutations_most;

/* The engine's own, which notes the largest batch. */
static void looking_write(struct engine *engine, struct task_list *writes)
{
    for (struct task *task = writes->first; task != NULL; task = task->next) {
        const struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
        if (write->mutations_count > mutations_most)
            mutations_most = write->mutations_count;
    }
    engine_own_methods->write(engine, writes);
}

static int setup_looking(void **state)
{
    int error = setup(state);
    if (error != 0)
        return error;
    struct engine *engine = fixture.engine.engine;
    engine_own_methods = engine->methods;
    looking_methods = *engine->methods;
    looking_methods.write = looking_write;
    engine->methods = &looking_methods;
    return 0;
}

/* A stream of which much is in the index: its writer, and all who wait for theirs, are not held by
 * one batch for all of it. */
static void test_index_in_pieces(void **state)
{
    enum { RUNS = 5000, RUNS_AT_ONCE = 4096 };
    if (*state != &stream_engines[1])
        return;
    for (unsigned i = 0; i < RUNS; i++) { /* too many to be listed, and not side by side */
        append("long", i * 64, 64);
        append("other", i, 1);
    }
    append("zz", 0, 1);
    assert_int_equal(metadata_wait(&fixture, "long", "{\"$maxCount\":1}"), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "zz", "{\"$maxCount\":1}"), STREAM_OK);
    append("zz", 1, 64);
    append("last", 0, 1);
    append("zz", 65, 1);
    mutations_most = 0;
    uint64_t index_before = count_all(&fixture.engine, STREAM_FAMILY_INDEX);
    assert_int_equal(scavenge(), RUNS * 64 - 1 + 65);
    assert_true(mutations_most > 1000 && mutations_most <= RUNS_AT_ONCE);
    assert_true(count_all(&fixture.engine, STREAM_FAMILY_INDEX) <= index_before - (RUNS - 1));
    assert_string_equal(numbers("long", RUNS * 64 - 10), "319999");
    assert_string_equal(numbers("zz", 60), "65");
    append("long", RUNS * 64, 1);
    assert_string_equal(numbers("long", RUNS * 64 - 10), "320000");
}

/* Events that come one by one do not stay in a block each, whatever happens beside. */
static void test_joined_by_itself(void **state)
{
    (void)state;
    enum { ENOUGH = 100000 };
    unsigned count = 0;
    while (count < 100 ||
           (count_all(&fixture.engine, STREAM_FAMILY_LOG) > count / 4 && count < ENOUGH)) {
        append(count % 3 == 0 ? "a" : "b", count, 1);
        count++;
        if (count % 40 == 0)
            assert_int_equal(scavenge(), 0); /* nothing is dead; waits for a join, if one runs */
        if (count % 90 == 0)
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_true(count < ENOUGH);
    struct streams_stats stats;
    streams_stats(fixture.streams, &stats);
    assert_true(count < 90 || stats.last_position == (int64_t)count);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    int64_t from = 1;
    for (unsigned seen = 0; seen < count;) {
        struct stream_read read;
        assert_int_equal(read_all_wait(&fixture, from, 100, false, &read), 0);
        assert_true(read.events_count > 0);
        for (uint32_t i = 0; i < read.events_count; i++, seen++) {
            assert_int_equal(read.events[i].event.position, seen + 1);
            assert_int_equal(get_u32(read.events[i].event.id), seen);
        }
        from = read.next;
        stream_read_release(&read);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_to_do),
        TEST(test_limits),
        TEST(test_deleted),
        TEST(test_derived),
        TEST(test_small_blocks_are_joined),
        TEST(test_joined_by_itself),
        TEST(test_space_is_given_back),
        cmocka_unit_test_setup_teardown(test_index_in_pieces, setup_looking, teardown),
    };
    return stream_tests_run("stream-scavenge", tests, sizeof tests / sizeof tests[0]);
}
