/*
 * tests/contract/engine_fixture.h: an engine in a fresh directory, and calls that wait for it.
 *
 * Shared by all tests that speak to an engine through engine.h. Nothing in here asserts, so that
 * helper threads may use it too (cmocka's asserts are for the test's own thread): every call
 * returns the engine's error.
 */
#ifndef TESTS_CONTRACT_ENGINE_FIXTURE_H
#define TESTS_CONTRACT_ENGINE_FIXTURE_H

#include "engine/engine.h"
#include "runtime/loop.h"
#include "seed.h"

#include <pthread.h>

struct engine_kind {
    const char *name;      /* of the test program */
    const char *directory; /* the name that engine_directory_probe_blocking tells, or NULL */
    int (*open)(const struct engine_options *options, struct engine **ret_engine,
                struct engine_message *ret_message);
    uint64_t segment_size_bytes; /* 0: as usual */
    uint64_t cache_size_bytes;
    bool cache_prefault;
    enum kvs_sync sync;
    bool callers_write;
};

struct fixture {
    const struct engine_kind *kind;
    kvs_thread_pool *pool;
    struct loop loop; /* on a thread of its own; completes what the fixture submits */
    struct engine_options options;
    struct engine_message message;
    struct engine *engine; /* NULL while closed */
    char root[64];         /* removed with all that is in it */
    char directory[80];
};

/* For tests that sync very often and need no real disk for it: files go to memory, unless TMPDIR
 * says where. Before the first fixture. */
void fixtures_in_memory(void);

/* The exit status of a program. After a failure it ends at once: threads of the test still run. */
int tests_end(int failed);

/* A fresh directory below TMPDIR, a pool and a loop; the engine is not open yet. */
int fixture_init(struct fixture *fixture, const struct engine_kind *kind);
int fixture_open(struct fixture *fixture);
int fixture_close(struct fixture *fixture);
void fixture_deinit(struct fixture *fixture); /* closes when open */
bool fixture_can(const struct fixture *fixture, unsigned capabilities);

/* The name of an open file; "" when there is none. */
void descriptor_path(int fd, char path[256]);
void directory_remove(const char *path);
uint64_t directory_size(const char *path); /* of all files below it; one thread at a time */

/* --- waiting ----------------------------------------------------------------------------------*/

/* Counts down; waiters go on when it is at 0. */
struct latch {
    pthread_mutex_t lock;
    pthread_cond_t zero;
    unsigned count;
};

void latch_init(struct latch *latch, unsigned count);
void latch_down(struct latch *latch);
void latch_wait(struct latch *latch);
void latch_deinit(struct latch *latch);

/* A write with what its completion needs; write.op.task.run is set by pending_write_init. */
struct pending_write {
    struct engine_write write;
    struct latch *latch;
    pthread_t completed_on;
};

void pending_write_init(struct pending_write *pending, struct latch *latch, struct loop *loop,
                        const kvs_mutation *mutations, uint32_t count);

/* --- calls that wait --------------------------------------------------------------------------*/

/* Fills *write's results; the caller frees write->previous. */
int write_wait(struct fixture *fixture, struct engine_write *write);
int batch_wait(struct fixture *fixture, const kvs_mutation *mutations, uint32_t count);
int set_wait(struct fixture *fixture, kvs_slice key, kvs_slice value);
int remove_wait(struct fixture *fixture, kvs_slice key, uint64_t *ret_removed);
int control_wait(struct fixture *fixture, enum engine_control_kind kind, const char *path);

/* A copy of a value as a fresh view sees it: the caller frees *ret_value. */
int get_copy(struct fixture *fixture, unsigned family, kvs_slice key, struct buf *ret_value);
uint64_t count_all(struct fixture *fixture, unsigned family);

/* All pairs of a range, copied. */
struct pairs {
    struct buf bytes;
    size_t count;
    size_t room;
    struct {
        size_t key_size;
        size_t value_size;
        size_t at; /* in bytes */
    } * list;
};

int pairs_scan(struct engine_view *view, const struct engine_range *range, struct pairs *ret_pairs);
kvs_slice pairs_key(const struct pairs *pairs, size_t i);
kvs_slice pairs_value(const struct pairs *pairs, size_t i);
void pairs_deinit(struct pairs *pairs);

/* --- writing tests briefly --------------------------------------------------------------------*/

#define S(text) slice_make((text), sizeof(text) - 1)

static inline kvs_mutation mutation_set(kvs_slice key, kvs_slice value)
{
    return (kvs_mutation){.kind = KVS_MUTATION_SET, .key = key, .value = value};
}

static inline kvs_mutation mutation_set_in(unsigned family, kvs_slice key, kvs_slice value)
{
    return (kvs_mutation){
        .kind = KVS_MUTATION_SET, .family = (uint8_t)family, .key = key, .value = value};
}

static inline kvs_mutation mutation_remove(kvs_slice key)
{
    return (kvs_mutation){.kind = KVS_MUTATION_REMOVE, .key = key};
}

static inline kvs_mutation mutation_remove_range(kvs_slice start, kvs_slice end)
{
    return (kvs_mutation){.kind = KVS_MUTATION_REMOVE_RANGE, .key = start, .value = end};
}

#endif
