/* tests/unit/stream/test_stream_write.c: appends, expected versions, retries, deletion,
 * metadata. */
#include "base/slice.h"
#include "runtime/loop.h"
#include "stream/block.h"
#include "unit/stream/stream_test.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

static int append_at(const char *stream, int64_t expected, unsigned first, unsigned count)
{
    return append_wait(&fixture, stream, expected, first, count, NULL);
}

/* The data of the events of a stream, "d1 d2 d3", and how the read ended. */
static const char *content(const char *stream)
{
    static char text[4096];
    struct stream_read read;
    size_t size = 0;
    text[0] = '\0';
    if (read_forward_wait(&fixture, stream, 0, 100, &read) != 0)
        return "error";
    if (read.outcome == STREAM_NOT_FOUND)
        return "none";
    if (read.outcome == STREAM_DELETED)
        return "deleted";
    for (uint32_t i = 0; i < read.events_count; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%s%.*s", i > 0 ? " " : "",
                                 (int)read.events[i].event.data.size,
                                 (const char *)read.events[i].event.data.data);
    stream_read_release(&read);
    return text;
}

static int64_t last_number(const char *stream)
{
    struct stream_read read = {.kind = STREAM_READ_INFO, .stream = slice_of_string(stream)};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    stream_read_release(&read);
    return read.last_number;
}

static void test_numbers_and_positions(void **state)
{
    struct stream_write write;
    assert_int_equal(append_wait(&fixture, "a", STREAM_NO_STREAM, 1, 3, &write), STREAM_OK);
    assert_int_equal(write.first_number, 0);
    assert_int_equal(write.last_number, 2);
    int64_t position = write.position;
    assert_true(position > 0);
    assert_int_equal(append_wait(&fixture, "b", STREAM_ANY, 4, 1, &write), STREAM_OK);
    assert_int_equal(write.first_number, 0);
    assert_true(write.position > position);
    assert_int_equal(append_wait(&fixture, "a", 2, 5, 2, &write), STREAM_OK);
    assert_int_equal(write.first_number, 3);
    assert_int_equal(write.last_number, 4);
    assert_string_equal(content("a"), "d1 d2 d3 d5 d6");
    position = write.position;
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    assert_int_equal(append_wait(&fixture, "a", 4, 7, 1, &write), STREAM_OK);
    assert_int_equal(write.first_number, 5);
    assert_true(write.position > position);
    assert_string_equal(content("a"), "d1 d2 d3 d5 d6 d7");
}

static void test_no_events(void **state)
{
    struct stream_write write;
    assert_int_equal(append_wait(&fixture, "a", STREAM_NO_STREAM, 1, 0, &write), STREAM_OK);
    assert_int_equal(write.first_number, 0);
    assert_int_equal(write.last_number, -1);
    assert_int_equal(append_at("a", STREAM_ANY, 1, 2), STREAM_OK);
    assert_int_equal(append_wait(&fixture, "a", 1, 1, 0, &write), STREAM_OK);
    assert_int_equal(write.first_number, 2);
    assert_int_equal(write.last_number, 1);
    assert_int_equal(append_at("a", STREAM_ANY, 1, 0), STREAM_OK);
    assert_int_equal(append_at("a", 0, 1, 0), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(append_at("a", STREAM_NO_STREAM, 1, 0), STREAM_WRONG_EXPECTED_VERSION);
}

/* An engine that has a batch safe, and its writes answered, before the call that hands it over is
 * back. */
static struct {
    struct engine_methods methods;
    const struct engine_methods *own;
    task_fn *written;
    sem_t was_written;
} hasty;

static void hasty_on_written(struct task *task)
{
    hasty.written(task);
    sem_post(&hasty.was_written);
}

static void hasty_write(struct engine *engine, struct task_list *writes)
{
    struct task *first = writes->first;
    bool waits = loop_is_current(&fixture.engine.loop) && first != NULL && first->next == NULL;
    if (waits) {
        hasty.written = first->run;
        first->run = hasty_on_written;
    }
    hasty.own->write(engine, writes);
    while (waits && sem_wait(&hasty.was_written) != 0)
        continue;
}

static char answers[8]; /* the first letters of what was answered, in order */

static void note_answer(struct task *task)
{
    const struct stream_write *write = CONTAINER_OF(task, struct stream_write, op.task);
    answers[strlen(answers)] = write->count > 0 ? 's' : 'n';
}

static void write_none_and_some(void *arg)
{
    struct stream_write *writes = arg;
    struct task_list list = {0};
    for (unsigned i = 0; i < 2; i++)
        task_list_push(&list, &writes[i].op.task);
    streams_write_list(fixture.streams, &list);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void test_answers_of_a_stream_keep_their_order(void **state)
{
    struct stream_new_event event = event_of(2, "t", "d");
    struct stream_write writes[2];
    assert_int_equal(append_at("a", STREAM_NO_STREAM, 1, 1), STREAM_OK);
    for (unsigned i = 0; i < 2; i++)
        writes[i] = (struct stream_write){
            .op = {.task.run = note_answer, .loop = &fixture.engine.loop},
            .stream = slice_of_string("a"),
            .expected_version = STREAM_ANY,
            .events = &event,
            .count = i,
        };
    struct engine *engine = fixture.engine.engine;
    sem_init(&hasty.was_written, 0, 0);
    hasty.own = engine->methods;
    hasty.methods = *engine->methods;
    hasty.methods.write = hasty_write;
    engine->methods = &hasty.methods;
    memset(answers, 0, sizeof answers);
    on_loop(&fixture, write_none_and_some, writes);
    assert_int_equal(append_at("b", STREAM_ANY, 3, 1), STREAM_OK); /* behind both */
    on_loop(&fixture, nothing, NULL);
    engine->methods = hasty.own;
    sem_destroy(&hasty.was_written);
    assert_string_equal(answers, "ns");
}

static void test_expected_exactly(void **state)
{
    struct stream_write write;
    assert_int_equal(append_at("a", 0, 1, 1), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(append_at("a", STREAM_NO_STREAM, 1, 2), STREAM_OK);
    assert_int_equal(append_wait(&fixture, "a", 5, 9, 1, &write), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(write.first_number, -1);
    assert_int_equal(write.last_number, -1);
    assert_int_equal(write.current_version, 1);
    /* The right version writes the same events again. */
    assert_int_equal(append_at("a", 1, 1, 2), STREAM_OK);
    assert_string_equal(content("a"), "d1 d2 d1 d2");
    assert_int_equal(append_at("a", -3, 1, 1), STREAM_BAD_REQUEST);
    assert_int_equal(append_at("a", -5, 1, 1), STREAM_BAD_REQUEST);
}

static void test_retries_of_exact(void **state)
{
    struct stream_write write;
    struct stream_write retry;
    assert_int_equal(append_wait(&fixture, "a", STREAM_NO_STREAM, 1, 3, &write), STREAM_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_int_equal(append_wait(&fixture, "a", STREAM_NO_STREAM, 1, 3, &retry), STREAM_OK);
        assert_true(retry.was_there);
        assert_int_equal(retry.first_number, 0);
        assert_int_equal(retry.last_number, 2);
        assert_int_equal(retry.position, write.position);
        assert_int_equal(append_wait(&fixture, "a", 0, 2, 1, &retry), STREAM_OK);
        assert_int_equal(retry.first_number, 1);
        assert_int_equal(retry.last_number, 1);
        assert_int_equal(append_at("a", STREAM_NO_STREAM, 1, 4), STREAM_WRONG_EXPECTED_VERSION);
        assert_int_equal(append_at("a", STREAM_NO_STREAM, 2, 2), STREAM_WRONG_EXPECTED_VERSION);
        assert_int_equal(append_at("a", 0, 9, 1), STREAM_WRONG_EXPECTED_VERSION);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_string_equal(content("a"), "d1 d2 d3");
}

static void test_retries_of_any(void **state)
{
    struct stream_write write;
    struct stream_write retry;
    assert_int_equal(append_at("b", STREAM_ANY, 1, 3), STREAM_OK);
    assert_int_equal(append_wait(&fixture, "a", STREAM_ANY, 1, 3, &write), STREAM_OK);
    assert_int_equal(append_at("a", STREAM_ANY, 11, 1), STREAM_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_int_equal(append_wait(&fixture, "a", STREAM_ANY, 1, 3, &retry), STREAM_OK);
        assert_true(retry.was_there);
        assert_int_equal(retry.first_number, 0);
        assert_int_equal(retry.last_number, 2);
        assert_int_equal(retry.position, write.position);
        assert_int_equal(append_wait(&fixture, "a", STREAM_EXISTS, 2, 2, &retry), STREAM_OK);
        assert_int_equal(retry.first_number, 1);
        /* The first is known, a later one is not. */
        assert_int_equal(append_at("a", STREAM_ANY, 3, 2), STREAM_WRONG_EXPECTED_VERSION);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    assert_string_equal(content("a"), "d1 d2 d3 d11");
    /* The first is not known: written, whatever follows. */
    assert_int_equal(append_at("a", STREAM_ANY, 0, 3), STREAM_OK);
    assert_string_equal(content("a"), "d1 d2 d3 d11 d0 d1 d2");
}

static void test_exists(void **state)
{
    assert_int_equal(append_at("a", STREAM_EXISTS, 1, 1), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(metadata_wait(&fixture, "a", "{}"), STREAM_OK);
    assert_int_equal(append_at("a", STREAM_EXISTS, 1, 1), STREAM_OK);
    assert_int_equal(append_at("a", STREAM_EXISTS, 2, 1), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    assert_int_equal(append_at("a", STREAM_EXISTS, 3, 1), STREAM_DELETED);
}

static void test_soft_delete(void **state)
{
    struct stream_write write;
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL),
                     STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(append_at("a", STREAM_ANY, 1, 3), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", 1, false, NULL), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(delete_wait(&fixture, "a", 7, false, NULL), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(delete_wait(&fixture, "a", 2, false, &write), STREAM_OK);
    assert_true(write.position > 0);
    assert_string_equal(content("a"), "none");
    assert_int_equal(last_number("a"), 2);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    assert_string_equal(content("a"), "none");
    /* Written to again: numbers go on, the old events stay away. */
    assert_int_equal(append_wait(&fixture, "a", STREAM_NO_STREAM, 4, 2, &write), STREAM_OK);
    assert_int_equal(write.first_number, 3);
    assert_int_equal(write.last_number, 4);
    assert_string_equal(content("a"), "d4 d5");
    assert_int_equal(append_at("a", 4, 6, 1), STREAM_OK);
    assert_string_equal(content("a"), "d4 d5 d6");
}

static void test_recreation_keeps_metadata(void **state)
{
    assert_int_equal(append_at("a", STREAM_ANY, 1, 3), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":9223372036854775807,\"mine\":7}"),
                     STREAM_OK);
    assert_string_equal(content("a"), "none");
    assert_int_equal(append_at("a", 2, 4, 1), STREAM_OK);
    assert_string_equal(content("a"), "d4");
    struct stream_read read = {.stream = S("$$a"), .from = STREAM_END};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.outcome, STREAM_OK);
    assert_slice_equal(read.events[0].event.data, "{\"$tb\":3,\"mine\":7}");
    stream_read_release(&read);
}

static void test_metadata_brings_back(void **state)
{
    assert_int_equal(append_at("a", STREAM_ANY, 1, 3), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"x\":1}"), STREAM_OK);
    assert_string_equal(content("a"), "");
    assert_int_equal(append_at("a", 2, 4, 1), STREAM_OK);
    assert_string_equal(content("a"), "d4");
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    /* Its own $tb counts no more than that of the delete: what is gone stays away. */
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$tb\":1,\"x\":2}"), STREAM_OK);
    assert_string_equal(content("a"), "");
    struct stream_read read = {.stream = S("$$a"), .from = STREAM_END};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.events[0].event.number, 5);
    assert_slice_equal(read.events[0].event.data, "{\"$tb\":4,\"x\":2}");
    stream_read_release(&read);
}

/* A write of no events recreates a soft-deleted stream as any other. */
static void test_no_events_bring_back(void **state)
{
    struct stream_write write;
    static const char *const streams[] = {"a", "$$a"};
    assert_int_equal(append_at("a", STREAM_ANY, 1, 2), STREAM_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(metadata_wait(&fixture, "a", "{\"mine\":7,\"$tb\":9223372036854775807}"),
                         STREAM_OK);
        assert_int_equal(append_at("a", STREAM_NO_STREAM, 3, 0), STREAM_WRONG_EXPECTED_VERSION);
        assert_int_equal(append_at("a", 0, 3, 0), STREAM_WRONG_EXPECTED_VERSION);
        assert_int_equal(append_at("a", STREAM_EXISTS, 3, 0), STREAM_DELETED);
        assert_string_equal(content("a"), "none");
        int64_t last = last_number(streams[i]);
        assert_int_equal(append_wait(&fixture, streams[i], STREAM_ANY, 3, 0, &write), STREAM_OK);
        assert_int_equal(write.first_number, last + 1);
        assert_int_equal(write.last_number, last);
        assert_int_equal(write.position, -1);
        for (unsigned reopened = 0; reopened < 2; reopened++) {
            assert_string_equal(content("a"), "");
            struct stream_read read = {.stream = S("$$a"), .from = STREAM_END};
            assert_int_equal(read_event_wait(&fixture, &read), 0);
            assert_int_equal(read.events[0].event.number, 2 * i + 1);
            assert_slice_equal(read.events[0].event.data, "{\"mine\":7,\"$tb\":2}");
            stream_read_release(&read);
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
        }
    }
    /* One that has never had an event, by the number that it is at. */
    assert_int_equal(metadata_wait(&fixture, "b", "{}"), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "b", STREAM_ANY, false, NULL), STREAM_OK);
    assert_int_equal(append_at("b", STREAM_EXISTS, 3, 0), STREAM_DELETED);
    assert_int_equal(append_at("b", STREAM_NO_STREAM, 3, 0), STREAM_OK);
    assert_int_equal(append_at("b", STREAM_EXISTS, 3, 0), STREAM_OK);
    assert_int_equal(append_at("a", 1, 5, 1), STREAM_OK);
    assert_string_equal(content("a"), "d5");
}

/* Who has read that there is no stream can delete a soft-deleted one as such. */
static void test_delete_of_no_stream(void **state)
{
    assert_int_equal(append_at("a", STREAM_ANY, 1, 2), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_NO_STREAM, true, NULL),
                     STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", 0, true, NULL), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_NO_STREAM, false, NULL), STREAM_OK);
    assert_string_equal(content("a"), "none");
    assert_int_equal(delete_wait(&fixture, "a", STREAM_NO_STREAM, true, NULL), STREAM_OK);
    assert_int_equal(append_at("a", STREAM_ANY, 3, 1), STREAM_DELETED);
}

/* What is no JSON has no $tb: it stays as it is, and the stream is there again as a whole. */
static void test_no_json_brings_back_all(void **state)
{
    struct stream_write write;
    assert_int_equal(append_at("a", STREAM_ANY, 1, 2), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    struct stream_new_event event = event_of(900, "$metadata", "no JSON");
    write = (struct stream_write){
        .stream = S("$$a"), .expected_version = 0, .events = &event, .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.last_number, 1);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_string_equal(content("a"), "d1 d2");
        struct stream_read read = {.stream = S("$$a"), .from = STREAM_END};
        assert_int_equal(read_event_wait(&fixture, &read), 0);
        assert_int_equal(read.events[0].event.number, 1);
        assert_slice_equal(read.events[0].event.data, "no JSON");
        stream_read_release(&read);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
}

static void test_hard_delete(void **state)
{
    assert_int_equal(append_at("a", STREAM_ANY, 1, 3), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "a", "{}"), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "a", 0, true, NULL), STREAM_WRONG_EXPECTED_VERSION);
    assert_int_equal(delete_wait(&fixture, "a", 2, true, NULL), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "never", STREAM_NO_STREAM, true, NULL), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "never2", STREAM_ANY, true, NULL), STREAM_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        assert_string_equal(content("a"), "deleted");
        assert_string_equal(content("$$a"), "deleted");
        assert_string_equal(content("never"), "deleted");
        assert_int_equal(last_number("a"), STREAM_NUMBER_DELETED);
        assert_int_equal(append_at("a", STREAM_ANY, 4, 1), STREAM_DELETED);
        assert_int_equal(append_at("a", STREAM_NO_STREAM, 4, 1), STREAM_DELETED);
        assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, true, NULL), STREAM_DELETED);
        assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_DELETED);
        assert_int_equal(metadata_wait(&fixture, "a", "{}"), STREAM_DELETED);
        assert_int_equal(append_at("never2", STREAM_EXISTS, 4, 1), STREAM_DELETED);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
}

static void test_nobody_writes_to(void **state)
{
    assert_int_equal(append_at("$all", STREAM_ANY, 1, 1), STREAM_ACCESS_DENIED);
    assert_int_equal(append_at("$ce-a", STREAM_ANY, 1, 1), STREAM_ACCESS_DENIED);
    assert_int_equal(append_at("$et-a", STREAM_ANY, 1, 1), STREAM_ACCESS_DENIED);
    assert_int_equal(append_at("$streams", STREAM_ANY, 1, 1), STREAM_ACCESS_DENIED);
    assert_int_equal(append_at("$$$$a", STREAM_ANY, 1, 1), STREAM_ACCESS_DENIED);
    assert_int_equal(append_at("a", STREAM_ANY, 1, 1), STREAM_OK);
    assert_int_equal(delete_wait(&fixture, "$$a", STREAM_ANY, false, NULL), STREAM_ACCESS_DENIED);
    assert_int_equal(metadata_wait(&fixture, "$all", "{}"), STREAM_OK);
    assert_int_equal(metadata_wait(&fixture, "$ce-a", "{}"), STREAM_OK);
}

static void test_bad_requests(void **state)
{
    static uint8_t large[STREAM_EVENT_SIZE_MAX + 1];
    struct stream_new_event event = event_of(1, "T", "");
    event.data = slice_make(large, sizeof large);
    struct stream_write write = {
        .stream = S("a"), .expected_version = STREAM_ANY, .events = &event, .count = 1};
    assert_int_equal(write_event_wait(&fixture, &write), KVS_ERR_TOO_LARGE);
    event.data.size = STREAM_EVENT_SIZE_MAX - 1;
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.outcome, STREAM_OK);
    struct stream_read read = {.stream = S("a"), .from = 0};
    assert_int_equal(read_event_wait(&fixture, &read), 0);
    assert_int_equal(read.events_count, 1);
    assert_int_equal(read.events[0].event.data.size, STREAM_EVENT_SIZE_MAX - 1);
    stream_read_release(&read);
    write.stream = S("");
    assert_int_equal(write_event_wait(&fixture, &write), KVS_ERR_INVALID_ARGUMENT);
    write.stream = slice_make(large, STREAM_NAME_SIZE_MAX + 1);
    assert_int_equal(write_event_wait(&fixture, &write), KVS_ERR_TOO_LARGE);
}

static void test_large_writes_are_whole(void **state)
{
    enum { COUNT = 300 };
    static uint8_t data[4096];
    static struct stream_new_event events[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        events[i] = event_of(i, "T", "");
        events[i].data = slice_make(data, sizeof data);
    }
    struct stream_write write = {
        .stream = S("a-1"), .expected_version = STREAM_NO_STREAM, .events = events, .count = COUNT};
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.last_number, COUNT - 1);
    struct stream_write retry = write;
    assert_int_equal(write_event_wait(&fixture, &retry), 0);
    assert_true(retry.was_there);
    assert_int_equal(retry.position, write.position);
    struct stream_read read;
    int64_t next = 0;
    unsigned count = 0;
    do {
        assert_int_equal(read_forward_wait(&fixture, "a-1", next, 64, &read), 0);
        for (uint32_t i = 0; i < read.events_count; i++, count++)
            assert_int_equal(read.events[i].event.number, count);
        next = read.next;
        stream_read_release(&read);
    } while (!read.end);
    assert_int_equal(count, COUNT);
}

/* A write that is refused, and the thread that answers it. */
struct refused {
    struct stream_write write;
    pthread_t thread;
    sem_t answered;
};

static void refused_on_done(struct task *task)
{
    struct refused *refused = CONTAINER_OF(task, struct refused, write.op.task);
    refused->thread = pthread_self();
    sem_post(&refused->answered);
}

static void assert_left_to_pool(struct stream_write write)
{
    struct refused refused = {.write = write};
    refused.write.op.task.run = refused_on_done;
    struct streams_stats before, after;
    streams_stats(fixture.streams, &before);
    assert_int_equal(sem_init(&refused.answered, 0, 0), 0);
    streams_write(fixture.streams, &refused.write);
    while (sem_wait(&refused.answered) != 0)
        continue;
    sem_destroy(&refused.answered);
    streams_stats(fixture.streams, &after);
    assert_int_equal(after.appends, before.appends + 1);
    assert_int_equal(refused.write.op.error, 0);
    assert_int_equal(refused.write.outcome, STREAM_WRONG_EXPECTED_VERSION);
    assert_false(pthread_equal(refused.thread, pthread_self()));
}

/* The threads that hand writes over are loops, with others to serve. */
static void test_large_writes_go_to_the_pool(void **state)
{
    enum { COUNT = 1200 };
    static uint8_t data[1024 * 1024 + 1];
    static struct stream_new_event events[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        events[i] = event_of(i, "T", "");
    struct stream_write write = {
        .stream = S("a"), .expected_version = 7, .events = events, .count = COUNT};
    assert_left_to_pool(write);
    struct stream_new_event large = event_of(1, "T", "");
    large.data = slice_make(data, sizeof data);
    write.events = &large;
    write.count = 1;
    assert_left_to_pool(write);
    write.kind = STREAM_WRITE_TRANSACTION_START;
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    write.kind = STREAM_WRITE_TRANSACTION_APPEND;
    write.count = COUNT / 2;
    for (unsigned i = 0; i < 2; i++) {
        write.events = events + i * write.count;
        assert_int_equal(write_event_wait(&fixture, &write), 0);
        assert_int_equal(write.outcome, STREAM_OK);
    }
    write.kind = STREAM_WRITE_TRANSACTION_COMMIT;
    write.events = NULL;
    write.count = 0;
    assert_left_to_pool(write);
}

/* Events that are read from something else first. */
struct loaded {
    struct refused refused;
    pthread_t thread;
    unsigned times;
    int error;
};

static int loaded_load(struct stream_write *write)
{
    enum { COUNT = 1200 };
    static struct stream_new_event events[COUNT];
    struct loaded *loaded = CONTAINER_OF(write, struct loaded, refused.write);
    loaded->thread = pthread_self();
    loaded->times++;
    for (unsigned i = 0; i < COUNT; i++)
        events[i] = event_of(i, "T", "");
    write->events = events;
    write->count = COUNT;
    return loaded->error;
}

static struct stream_write loaded_write(int error)
{
    struct loaded loaded = {
        .refused.write = {.op.task.run = refused_on_done, .stream = S("a"), .expected_version = -1},
        .error = error};
    loaded.refused.write.load_events = loaded_load;
    assert_int_equal(sem_init(&loaded.refused.answered, 0, 0), 0);
    streams_write(fixture.streams, &loaded.refused.write);
    while (sem_wait(&loaded.refused.answered) != 0)
        continue;
    sem_destroy(&loaded.refused.answered);
    assert_int_equal(loaded.times, 1);
    assert_false(pthread_equal(loaded.thread, pthread_self()));
    return loaded.refused.write;
}

/* Once, by the pool, in the turn of its write. */
static void test_events_are_loaded_by_the_pool(void **state)
{
    (void)state;
    assert_int_equal(loaded_write(KVS_ERR_PROTOCOL).op.error, KVS_ERR_PROTOCOL);
    struct stream_write write = loaded_write(0);
    assert_int_equal(write.op.error, 0);
    assert_int_equal(write.first_number, 0);
    assert_int_equal(write.last_number, 1199);
    write = loaded_write(0);
    assert_true(write.was_there);
    assert_int_equal(append_at("a", 1199, 5000, 1), STREAM_OK);
}

static struct latch many_latch;

static void many_on_done(struct task *task)
{
    (void)task;
    latch_down(&many_latch);
}

/* Many at once: those to one stream are done in order, each upon the one before. */
static void test_many_at_once(void **state)
{
    enum { COUNT = 2000, STREAMS = 7 };
    static struct stream_write writes[COUNT];
    static struct stream_new_event events[COUNT];
    static char names[STREAMS][16];
    struct task_list list = {0};
    latch_init(&many_latch, COUNT);
    for (unsigned i = 0; i < STREAMS; i++)
        snprintf(names[i], sizeof names[i], "many-%u", i);
    for (unsigned i = 0; i < COUNT; i++) {
        events[i] = event_of(i, "T", "x");
        writes[i] = (struct stream_write){
            .op = {.task.run = many_on_done, .loop = &fixture.engine.loop},
            .stream = slice_of_string(names[i % STREAMS]),
            .expected_version = (int64_t)(i / STREAMS) - 1,
            .events = &events[i],
            .count = 1,
        };
        task_list_push(&list, &writes[i].op.task);
        if (i % 31 == 0)
            streams_write_list(fixture.streams, &list);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&many_latch);
    latch_deinit(&many_latch);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(writes[i].op.error, 0);
        assert_int_equal(writes[i].outcome, STREAM_OK);
        assert_int_equal(writes[i].first_number, i / STREAMS);
        assert_true(i == 0 || writes[i].position > writes[i - 1].position);
    }
}

/* Sent again before the first one is safe: both are told the same. */
static void test_retries_on_their_way(void **state)
{
    enum { COUNT = 600 };
    static struct stream_new_event events[COUNT];
    struct stream_write writes[3];
    struct task_list list = {0};
    latch_init(&many_latch, 3);
    for (unsigned i = 0; i < COUNT; i++)
        events[i] = event_of(i, "T", "x");
    for (unsigned i = 0; i < 3; i++) {
        writes[i] = (struct stream_write){
            .op = {.task.run = many_on_done, .loop = &fixture.engine.loop},
            .stream = S("a"),
            .expected_version = STREAM_NO_STREAM,
            .events = events,
            .count = COUNT,
        };
        task_list_push(&list, &writes[i].op.task);
    }
    streams_write_list(fixture.streams, &list);
    latch_wait(&many_latch);
    latch_deinit(&many_latch);
    assert_true(writes[0].position > 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(writes[i].op.error, 0);
        assert_int_equal(writes[i].outcome, STREAM_OK);
        assert_int_equal(writes[i].was_there, i > 0);
        assert_int_equal(writes[i].first_number, 0);
        assert_int_equal(writes[i].last_number, COUNT - 1);
        assert_int_equal(writes[i].position, writes[0].position);
    }
}

static void assert_whole(const char *stream, unsigned first, unsigned step, unsigned count)
{
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, stream, 0, 4096, &read), 0);
    assert_int_equal(read.events_count, count);
    for (unsigned i = 0; i < count; i++) {
        struct stream_new_event wanted = event_of(first + i * step, "t", "{}");
        assert_int_equal(read.events[i].event.number, i);
        assert_memory_equal(read.events[i].event.id, wanted.id, 16);
    }
    stream_read_release(&read);
}

/* Events that come one by one share keys of the index, also across a restart. */
static void test_runs_grow(void **state)
{
    (void)state;
    enum { ALONE = 150, SHARED = 300 };
    uint64_t begin = count_all(&fixture.engine, STREAM_FAMILY_INDEX);
    for (unsigned i = 0; i < ALONE; i++) {
        assert_int_equal(append_at("alone", STREAM_ANY, i, 1), STREAM_OK);
        if (i == ALONE / 2)
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    /* the stream, $streams and $et-t, as many as can hold it */
    assert_int_equal(count_all(&fixture.engine, STREAM_FAMILY_INDEX) - begin, 3);
    begin = count_all(&fixture.engine, STREAM_FAMILY_INDEX);
    for (unsigned i = 0; i < SHARED; i++) {
        assert_int_equal(append_at(i % 2 == 0 ? "even" : "odd", (int)(i / 2) - 1, 1000 + i, 1), 0);
        if (i == SHARED / 2)
            assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    /* 150 events each, 65 in a run */
    assert_int_equal(count_all(&fixture.engine, STREAM_FAMILY_INDEX) - begin, 6);
    assert_whole("alone", 0, 1, ALONE);
    assert_whole("even", 1000, 2, SHARED / 2);
    assert_whole("odd", 1001, 2, SHARED / 2);
    assert_int_equal(stream_fixture_reopen(&fixture), 0);
    assert_whole("even", 1000, 2, SHARED / 2);
    assert_int_equal(append_at("even", SHARED / 2 - 1, 5000, 1), STREAM_OK);
}

/* Metadata that is not marked as JSON says nothing, as in EventStoreDB; it is what was written last
 * all the same. */
static void test_metadata_that_is_no_json(void **state)
{
    (void)state;
    append_at("a", STREAM_ANY, 1, 3);
    assert_int_equal(metadata_wait(&fixture, "a", "{\"$maxCount\":2}"), STREAM_OK);
    struct stream_new_event event = event_of(900, "$metadata", "{\"$maxCount\":1}");
    struct stream_write write = {
        .stream = S("$$a"), .expected_version = STREAM_ANY, .events = &event, .count = 1};
    event.is_json = false;
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    assert_int_equal(write.outcome, STREAM_OK);
    for (unsigned reopened = 0; reopened < 2; reopened++) {
        struct stream_read read;
        assert_int_equal(read_forward_wait(&fixture, "a", 0, 10, &read), 0);
        assert_int_equal(read.events_count, 3);
        stream_read_release(&read);
        assert_int_equal(stream_fixture_reopen(&fixture), 0);
    }
    /* It brings a deleted stream back, though its $tb is none. */
    assert_int_equal(delete_wait(&fixture, "a", STREAM_ANY, false, NULL), STREAM_OK);
    event = event_of(901, "$metadata", "{\"$tb\":1}");
    event.is_json = false;
    assert_int_equal(write_event_wait(&fixture, &write), 0);
    append_at("a", STREAM_ANY, 10, 1);
    struct stream_read read;
    assert_int_equal(read_forward_wait(&fixture, "a", 0, 10, &read), 0);
    assert_int_equal(read.events_count, 1);
    assert_int_equal(read.events[0].event.number, 3);
    stream_read_release(&read);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_metadata_that_is_no_json),
        TEST(test_numbers_and_positions),
        TEST(test_no_events),
        TEST(test_answers_of_a_stream_keep_their_order),
        TEST(test_expected_exactly),
        TEST(test_retries_of_exact),
        TEST(test_retries_of_any),
        TEST(test_exists),
        TEST(test_soft_delete),
        TEST(test_delete_of_no_stream),
        TEST(test_recreation_keeps_metadata),
        TEST(test_no_events_bring_back),
        TEST(test_no_json_brings_back_all),
        TEST(test_metadata_brings_back),
        TEST(test_hard_delete),
        TEST(test_nobody_writes_to),
        TEST(test_bad_requests),
        TEST(test_large_writes_are_whole),
        TEST(test_large_writes_go_to_the_pool),
        TEST(test_events_are_loaded_by_the_pool),
        TEST(test_many_at_once),
        TEST(test_retries_on_their_way),
        TEST(test_runs_grow),
    };
    return stream_tests_run("stream-write", tests, sizeof tests / sizeof tests[0]);
}
