/*
 * tests/unit/stream/stream_fixture.h: event streams over an engine in a fresh directory, and calls
 * that wait. Nothing asserts but where it is said: helper threads and fault tests use it too.
 */
#ifndef TESTS_UNIT_STREAM_FIXTURE_H
#define TESTS_UNIT_STREAM_FIXTURE_H

#include "contract/engine_fixture.h"
#include "stream/stream.h"

#include <stdatomic.h>

struct stream_fixture {
    struct fixture engine;
    struct streams *streams; /* NULL while closed */
    struct streams_options options;
};

/* "memory", "log", and "cold": log with tiny segments and hardly any cache, so that reads go to
 * files and turns to the pool. */
extern const struct engine_kind stream_engines[];
#ifdef KVS_ROCKSDB
#define STREAM_ENGINES 4
#else
#define STREAM_ENGINES 3
#endif

int stream_fixture_init(struct stream_fixture *fixture, const struct engine_kind *kind);
int stream_fixture_open(struct stream_fixture *fixture);
int stream_fixture_close(struct stream_fixture *fixture);
int stream_fixture_reopen(struct stream_fixture *fixture);
void stream_fixture_deinit(struct stream_fixture *fixture);

/* The clock of the streams: starts at some time in 2026; tests move it. */
extern _Atomic uint64_t fixture_wall_ms;

/* Wait until it is done; op.error. */
int write_event_wait(struct stream_fixture *fixture, struct stream_write *write);
/* Answered on the spot if it can be, else on the pool. The caller releases it. */
int read_event_wait(struct stream_fixture *fixture, struct stream_read *read);

/* An event whose id is made of this number. */
struct stream_new_event event_of(unsigned id, const char *type, const char *data);

/* Appends events with the ids first, first + 1, ...; the whole result is in *ret_write. */
int append_wait(struct stream_fixture *fixture, const char *stream, int64_t expected,
                unsigned first, unsigned count, struct stream_write *ret_write);
int metadata_wait(struct stream_fixture *fixture, const char *stream, const char *json);
int delete_wait(struct stream_fixture *fixture, const char *stream, int64_t expected, bool hard,
                struct stream_write *ret_write);
int read_forward_wait(struct stream_fixture *fixture, const char *stream, int64_t from,
                      uint32_t count, struct stream_read *ret_read);
int read_all_wait(struct stream_fixture *fixture, int64_t from, uint32_t count, bool backward,
                  struct stream_read *ret_read);

/* Runs each test on each engine, all as one group; the tests' setup finds its engine in *state. */
struct CMUnitTest;
int stream_tests_run(const char *name, const struct CMUnitTest *tests, size_t count);

/* Runs a function on the fixture's loop and waits for its end. */
void on_loop(struct stream_fixture *fixture, void (*run)(void *arg), void *arg);

#endif
