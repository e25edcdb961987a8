/* tests/unit/stream/stream_fixture.c: see the header. */
#include "unit/stream/stream_fixture.h"

#include "base/bytes.h"
#include "base/slice.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

const struct engine_kind stream_engines[STREAM_ENGINES] = {
    {.name = "memory", .open = memory_engine_open_blocking},
    {.name = "log", .open = log_engine_open_blocking},
    {.name = "cold",
     .open = log_engine_open_blocking,
     .segment_size_bytes = 64 * 1024,
     .cache_size_bytes = 64 * 1024},
#ifdef KVS_ROCKSDB
    {.name = "rocksdb", .open = rocksdb_engine_open_blocking, .cache_size_bytes = 8 * 1024 * 1024},
#endif
};

_Atomic uint64_t fixture_wall_ms = 1780000000000;

static uint64_t wall_ms(void)
{
    return atomic_load(&fixture_wall_ms);
}

int stream_fixture_init(struct stream_fixture *fixture, const struct engine_kind *kind)
{
    fixtures_in_memory();
    /* Small blocks are joined often, so that all tests see it beside what they do. */
    *fixture = (struct stream_fixture){.options = {.wall_ms = wall_ms, .join_blocks = 7}};
    return fixture_init(&fixture->engine, kind);
}

int stream_fixture_open(struct stream_fixture *fixture)
{
    int error = 0;
    if (fixture->engine.engine == NULL)
        error = fixture_open(&fixture->engine);
    if (error != 0)
        return error;
    fixture->options.engine = fixture->engine.engine;
    fixture->options.loop = &fixture->engine.loop;
    return streams_open_blocking(&fixture->options, &fixture->streams, &fixture->engine.message);
}

static void on_closed(void *arg)
{
    latch_down(arg);
}

struct closing {
    struct streams *streams;
    struct latch latch;
};

static void begin_close(void *arg)
{
    struct closing *closing = arg;
    streams_close(closing->streams, on_closed, &closing->latch);
}

int stream_fixture_close(struct stream_fixture *fixture)
{
    struct closing closing = {.streams = fixture->streams};
    if (fixture->streams != NULL) {
        latch_init(&closing.latch, 1);
        on_loop(fixture, begin_close, &closing);
        latch_wait(&closing.latch);
        latch_deinit(&closing.latch);
        fixture->streams = NULL;
    }
    return fixture->engine.engine != NULL ? fixture_close(&fixture->engine) : 0;
}

int stream_fixture_reopen(struct stream_fixture *fixture)
{
    /* What the memory engine has is gone with it: there only the streams are closed. */
    if (fixture->engine.kind == &stream_engines[0]) {
        struct engine *engine = fixture->engine.engine;
        fixture->engine.engine = NULL;
        int error = stream_fixture_close(fixture);
        fixture->engine.engine = engine;
        return error != 0 ? error : stream_fixture_open(fixture);
    }
    int error = stream_fixture_close(fixture);
    return error != 0 ? error : stream_fixture_open(fixture);
}

void stream_fixture_deinit(struct stream_fixture *fixture)
{
    stream_fixture_close(fixture);
    fixture_deinit(&fixture->engine);
}

/* --- waiting ---------------------------------------------------------------------------------- */

struct call {
    struct task task;
    struct latch latch;
    void (*run)(void *arg);
    void *arg;
};

static void call_run(struct task *task)
{
    struct call *call = CONTAINER_OF(task, struct call, task);
    call->run(call->arg);
    latch_down(&call->latch);
}

void on_loop(struct stream_fixture *fixture, void (*run)(void *arg), void *arg)
{
    struct call call = {.task.run = call_run, .run = run, .arg = arg};
    latch_init(&call.latch, 1);
    loop_post(&fixture->engine.loop, &call.task);
    latch_wait(&call.latch);
    latch_deinit(&call.latch);
}

struct waited_write {
    struct stream_write write;
    struct latch latch;
};

static void write_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct waited_write, write.op.task)->latch);
}

int write_event_wait(struct stream_fixture *fixture, struct stream_write *write)
{
    struct waited_write waited = {.write = *write};
    waited.write.op.task.run = write_on_done;
    waited.write.op.loop = &fixture->engine.loop;
    latch_init(&waited.latch, 1);
    streams_write(fixture->streams, &waited.write);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    *write = waited.write;
    return write->op.error;
}

struct waited_read {
    struct stream_read read;
    struct latch latch;
};

static void read_on_done(struct task *task)
{
    latch_down(&CONTAINER_OF(task, struct waited_read, read.op.task)->latch);
}

int read_event_wait(struct stream_fixture *fixture, struct stream_read *read)
{
    if (streams_read_answer(fixture->streams, read))
        return read->op.error;
    struct waited_read waited = {.read = *read};
    waited.read.op.task.run = read_on_done;
    waited.read.op.loop = &fixture->engine.loop;
    latch_init(&waited.latch, 1);
    streams_read(fixture->streams, &waited.read);
    latch_wait(&waited.latch);
    latch_deinit(&waited.latch);
    *read = waited.read;
    return read->op.error;
}

/* --- brief calls ------------------------------------------------------------------------------ */

struct stream_new_event event_of(unsigned id, const char *type, const char *data)
{
    struct stream_new_event event = {
        .type = slice_of_string(type), .data = slice_of_string(data), .is_json = data[0] == '{'};
    put_u32(event.id, id);
    return event;
}

int append_wait(struct stream_fixture *fixture, const char *stream, int64_t expected,
                unsigned first, unsigned count, struct stream_write *ret_write)
{
    struct stream_new_event events[64];
    char data[64][16];
    struct stream_write write = {.stream = slice_of_string(stream),
                                 .expected_version = expected,
                                 .events = events,
                                 .count = count < 64 ? count : 64};
    for (unsigned i = 0; i < write.count; i++) {
        snprintf(data[i], sizeof data[i], "d%u", first + i);
        events[i] = event_of(first + i, "T", data[i]);
    }
    int error = write_event_wait(fixture, &write);
    if (ret_write != NULL)
        *ret_write = write;
    return error != 0 ? error : (int)write.outcome;
}

int metadata_wait(struct stream_fixture *fixture, const char *stream, const char *json)
{
    static atomic_uint next = 1000000;
    char name[300];
    snprintf(name, sizeof name, "$$%s", stream);
    struct stream_new_event event = event_of(atomic_fetch_add(&next, 1), "$metadata", json);
    struct stream_write write = {.stream = slice_of_string(name),
                                 .expected_version = STREAM_ANY,
                                 .events = &event,
                                 .count = 1};
    int error = write_event_wait(fixture, &write);
    return error != 0 ? error : (int)write.outcome;
}

int delete_wait(struct stream_fixture *fixture, const char *stream, int64_t expected, bool hard,
                struct stream_write *ret_write)
{
    struct stream_write write = {.kind = hard ? STREAM_WRITE_TOMBSTONE : STREAM_WRITE_DELETE,
                                 .stream = slice_of_string(stream),
                                 .expected_version = expected};
    int error = write_event_wait(fixture, &write);
    if (ret_write != NULL)
        *ret_write = write;
    return error != 0 ? error : (int)write.outcome;
}

int read_forward_wait(struct stream_fixture *fixture, const char *stream, int64_t from,
                      uint32_t count, struct stream_read *ret_read)
{
    *ret_read = (struct stream_read){.kind = STREAM_READ_FORWARD,
                                     .stream = slice_of_string(stream),
                                     .from = from,
                                     .count = count};
    return read_event_wait(fixture, ret_read);
}

int read_all_wait(struct stream_fixture *fixture, int64_t from, uint32_t count, bool backward,
                  struct stream_read *ret_read)
{
    *ret_read =
        (struct stream_read){.kind = backward ? STREAM_READ_ALL_BACKWARD : STREAM_READ_ALL_FORWARD,
                             .from = from,
                             .count = count};
    return read_event_wait(fixture, ret_read);
}

int stream_tests_run(const char *name, const struct CMUnitTest *tests, size_t count)
{
    struct CMUnitTest *all = calloc(count * STREAM_ENGINES, sizeof *all);
    static char names[256][80];
    size_t used = 0;
    for (size_t engine = 0; engine < STREAM_ENGINES && all != NULL; engine++) {
        for (size_t i = 0; i < count && used < 256; i++, used++) {
            all[used] = tests[i];
            snprintf(names[used], sizeof names[used], "%s %s", tests[i].name,
                     stream_engines[engine].name);
            all[used].name = names[used];
            all[used].initial_state = (void *)(uintptr_t)&stream_engines[engine];
        }
    }
    int failed = all != NULL ? _cmocka_run_group_tests(name, all, used, NULL, NULL) : 1;
    free(all);
    return failed;
}
