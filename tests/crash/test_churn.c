/*
 * tests/crash/test_churn.c: small segments that are compacted and merged all the time, beside sets,
 * removals, removed ranges, ends of life, snapshots and checkpoints of several threads, with starts
 * in between; a process in which all this happens is killed now and then. Compared with a model,
 * which is kept in memory that the processes share.
 *
 * Each thread has keys of its own, so it knows what is there. What it is about to do stands in the
 * model before it does it: after a kill either may be there, what was and what was about to be.
 */
#include "base/clock.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "engine/family.h"
#include "test.h"
#include "times.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 3u
#define KEYS_MAX 3000u /* of each thread */
#define VALUE_SIZE_MIN 60u
#define VALUE_SIZE_MAX 360u
#define BATCH 16u
#define ROOM_FOR_TMPDIR 23u /* the fixtures' own directories are below one below it */

/* --- the model --------------------------------------------------------------------------------*/

/* What a key has: a version, 0 for nothing; its end of life is between the two times. */
struct state {
    uint64_t version;
    uint64_t ends_from_ms; /* 0: never */
    uint64_t ends_to_ms;
};

struct key {
    struct state now;
    struct state next; /* counts while it is pending */
    bool is_pending;
};

static struct shared {
    struct key keys[THREADS][KEYS_MAX];
    unsigned keys_count; /* of each thread, in this store */
    uint64_t version;    /* of each process, before it has threads */
    _Atomic unsigned failures;
    char failure[256];
    atomic_bool is_done; /* the threads of a process are */
} * shared;

static void fail_in_thread(const char *what, unsigned thread, unsigned i)
{
    if (atomic_fetch_add(&shared->failures, 1) == 0)
        snprintf(shared->failure, sizeof shared->failure, "%.200s: thread %u, key %u", what, thread,
                 i);
}

static kvs_slice key_of(char text[32], unsigned thread, unsigned i)
{
    return slice_make(text, (size_t)snprintf(text, 32, "thread %u key %06u", thread, i));
}

static unsigned family_of(unsigned i)
{
    return i % 4 == 0 ? ENGINE_FAMILY_TXN_WRITE : 0;
}

/* Begins with the version. */
static kvs_slice value_of(uint8_t value[VALUE_SIZE_MAX], uint64_t version)
{
    size_t size = VALUE_SIZE_MIN + version * 37 % (VALUE_SIZE_MAX - VALUE_SIZE_MIN);
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)(version * 31 + i);
    memcpy(value, &version, sizeof version);
    return slice_make(value, size);
}

/* The version that is in a value; UINT64_MAX: it is none. */
static uint64_t version_in(kvs_slice value)
{
    uint64_t version;
    uint8_t expected[VALUE_SIZE_MAX];
    if (value.size < sizeof version)
        return UINT64_MAX;
    memcpy(&version, value.data, sizeof version);
    return slice_equal(value, value_of(expected, version)) ? version : UINT64_MAX;
}

/* May that have been seen between these times? */
static bool state_allows(const struct state *state, uint64_t seen, uint64_t from_ms, uint64_t to_ms)
{
    if (state->version == 0 || state->ends_from_ms == 0)
        return seen == state->version;
    if (seen == 0)
        return to_ms >= state->ends_from_ms;
    return seen == state->version && from_ms <= state->ends_to_ms;
}

/* --- files that stay --------------------------------------------------------------------------*/

/* Of this process. */
static _Atomic unsigned unlinks_fail_of; /* one of so many; 0: none */
static _Atomic unsigned unlinks_count;

int __real_file_unlink(const char *path);
int __wrap_file_unlink(const char *path);

int __wrap_file_unlink(const char *path)
{
    unsigned nth = atomic_fetch_add(&unlinks_count, 1) + 1;
    unsigned fail_of = unlinks_fail_of;
    if (fail_of > 0 && nth % fail_of == 0 && strstr(path, ".seg") != NULL)
        return KVS_ERR_IO;
    return __real_file_unlink(path);
}

/* --- comparing --------------------------------------------------------------------------------*/

struct look {
    unsigned thread;
    uint64_t seen[KEYS_MAX];
};

static int look_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct look *look = arg;
    char text[32];
    memcpy(text, key.data, key.size);
    text[key.size] = '\0';
    unsigned i = (unsigned)strtoul(text + 13, NULL, 10);
    if (i >= shared->keys_count || look->seen[i] != 0)
        fail_in_thread("a strange key", look->thread, i);
    else
        look->seen[i] = version_in(value);
    return 0;
}

static int look_run(struct engine *engine, const struct engine_snapshot *snapshot,
                    struct look *look)
{
    char start[32];
    char end[32];
    struct engine_view view;
    int error = engine_view_begin(engine, snapshot, true, &view);
    if (error != 0)
        return error;
    for (unsigned family = 0; family < ENGINE_FAMILY_COUNT && error == 0; family++) {
        struct engine_range range = {.family = (uint8_t)family,
                                     .start = key_of(start, look->thread, 0),
                                     .end = key_of(end, look->thread, shared->keys_count)};
        error = engine_scan(&view, &range, look_each, look);
    }
    engine_view_end(&view);
    return error;
}

/* The thread's keys as an engine, or a snapshot, has them, and as they should be. */
static void compare(struct engine *engine, const struct engine_snapshot *snapshot,
                    const struct state *expected, unsigned thread, const char *what)
{
    struct look *look = calloc(1, sizeof *look);
    look->thread = thread;
    uint64_t from_ms = clock_wall_ms();
    if (look_run(engine, snapshot, look) != 0)
        fail_in_thread("a scan fails", thread, 0);
    uint64_t to_ms = clock_wall_ms();
    for (unsigned i = 0; i < shared->keys_count; i++)
        if (!state_allows(&expected[i], look->seen[i], from_ms, to_ms))
            fail_in_thread(what, thread, i);
    free(look);
}

static struct state *states_of(unsigned thread)
{
    struct state *states = calloc(shared->keys_count, sizeof *states);
    for (unsigned i = 0; i < shared->keys_count; i++)
        states[i] = shared->keys[thread][i].now;
    return states;
}

static void compare_now(struct engine *engine, unsigned thread, const char *what)
{
    struct state *states = states_of(thread);
    compare(engine, NULL, states, thread, what);
    free(states);
}

/* After a start: what was pending has happened or not. */
static void resolve(struct engine *engine, unsigned thread)
{
    struct look *look = calloc(1, sizeof *look);
    look->thread = thread;
    uint64_t from_ms = clock_wall_ms();
    if (look_run(engine, NULL, look) != 0)
        fail_in_thread("a first scan fails", thread, 0);
    uint64_t to_ms = clock_wall_ms();
    for (unsigned i = 0; i < shared->keys_count; i++) {
        struct key *key = &shared->keys[thread][i];
        uint64_t seen = look->seen[i];
        bool was = state_allows(&key->now, seen, from_ms, to_ms);
        bool is = key->is_pending && state_allows(&key->next, seen, from_ms, to_ms);
        if (!was && !is)
            fail_in_thread("after a start", thread, i);
        if (key->is_pending && is)
            key->now = seen == 0 ? (struct state){0} : key->next;
        else if (key->is_pending && seen == 0)
            key->now = (struct state){0};
        key->is_pending = false;
    }
    free(look);
}

/* --- a thread that writes ---------------------------------------------------------------------*/

struct worker {
    struct fixture *fixture;
    unsigned index;
    unsigned steps;
    uint64_t version;
    struct rand rand;
    struct engine_snapshot *snapshot;
    struct state *snapshot_states;
    pthread_t thread;
};

static void pending_set(struct key *key, struct state next)
{
    key->next = next;
    atomic_signal_fence(memory_order_seq_cst); /* the process may be killed anywhere */
    key->is_pending = true;
}

static void pending_end(struct key *key, uint64_t ttl_ms)
{
    if (ttl_ms != 0)
        key->next.ends_to_ms = clock_wall_ms() + ttl_ms;
    key->now = key->next;
    atomic_signal_fence(memory_order_seq_cst);
    key->is_pending = false;
}

/* Keys in a row, or anywhere: so there are segments in order, and others. */
static void batch_step(struct worker *worker)
{
    struct key *keys = shared->keys[worker->index];
    kvs_mutation mutations[BATCH];
    char texts[BATCH][32];
    uint8_t values[BATCH][VALUE_SIZE_MAX];
    unsigned count = 1 + (unsigned)rand_below(&worker->rand, BATCH);
    unsigned stride = rand_below(&worker->rand, 2) == 0 ? 1 : 7;
    unsigned first = (unsigned)rand_below(&worker->rand, shared->keys_count);
    uint64_t now_ms = clock_wall_ms();
    for (unsigned n = 0; n < count; n++) {
        unsigned i = (first + n * stride) % shared->keys_count;
        unsigned what = (unsigned)rand_below(&worker->rand, 20);
        kvs_mutation *mutation = &mutations[n];
        *mutation = (kvs_mutation){.kind = what < 3 ? KVS_MUTATION_REMOVE : KVS_MUTATION_SET,
                                   .family = (uint8_t)family_of(i),
                                   .key = key_of(texts[n], worker->index, i)};
        struct state next = {0};
        if (what >= 3) {
            next.version = worker->version += THREADS;
            mutation->value = value_of(values[n], next.version);
            mutation->ttl_ms = what < 6 ? 1 + rand_below(&worker->rand, 100) : 0;
            if (what < 6) {
                next.ends_from_ms = now_ms + mutation->ttl_ms;
                next.ends_to_ms = UINT64_MAX; /* until it is known when it was written */
            }
        }
        pending_set(&keys[i], next);
    }
    int error = batch_wait(worker->fixture, mutations, count);
    if (error != 0)
        fail_in_thread("a batch fails", worker->index, first);
    for (unsigned n = 0; n < count; n++)
        pending_end(&keys[(first + n * stride) % shared->keys_count], mutations[n].ttl_ms);
}

static void range_step(struct worker *worker)
{
    struct key *keys = shared->keys[worker->index];
    char start[32];
    char end[32];
    unsigned from = (unsigned)rand_below(&worker->rand, shared->keys_count);
    unsigned to = from + 1 + (unsigned)rand_below(&worker->rand, 24);
    unsigned family = rand_below(&worker->rand, 4) == 0 ? ENGINE_FAMILY_TXN_WRITE : 0;
    to = to < shared->keys_count ? to : shared->keys_count;
    for (unsigned i = from; i < to; i++)
        if (family_of(i) == family)
            pending_set(&keys[i], (struct state){0});
    kvs_mutation mutation =
        mutation_remove_range(key_of(start, worker->index, from), key_of(end, worker->index, to));
    mutation.family = (uint8_t)family;
    if (batch_wait(worker->fixture, &mutation, 1) != 0)
        fail_in_thread("a range cannot be removed", worker->index, from);
    for (unsigned i = from; i < to; i++)
        if (family_of(i) == family)
            pending_end(&keys[i], 0);
}

/* Takes one, or looks at the one that was taken long ago and lets it go. */
static void snapshot_step(struct worker *worker)
{
    struct engine *engine = worker->fixture->engine;
    if (worker->snapshot == NULL) {
        worker->snapshot_states = states_of(worker->index);
        if (engine_snapshot_take(engine, &worker->snapshot) == 0)
            return;
        fail_in_thread("a snapshot cannot be taken", worker->index, 0);
    } else {
        compare(engine, worker->snapshot, worker->snapshot_states, worker->index, "a snapshot");
        engine_snapshot_release(engine, worker->snapshot);
    }
    worker->snapshot = NULL;
    free(worker->snapshot_states);
}

/* The others go on meanwhile, so only the thread's own keys are known. */
static void checkpoint_step(struct worker *worker)
{
    char path[96];
    snprintf(path, sizeof path, "%s/copy %u", worker->fixture->root, worker->index);
    if (control_wait(worker->fixture, ENGINE_CONTROL_CHECKPOINT, path) != 0) {
        fail_in_thread("a checkpoint fails", worker->index, 0);
        return;
    }
    struct engine_options options = worker->fixture->options;
    struct engine_message message;
    struct engine *copy;
    options.directory = path;
    if (log_engine_open_blocking(&options, &copy, &message) != 0) {
        fail_in_thread("a copy cannot be opened", worker->index, 0);
    } else {
        compare_now(copy, worker->index, "a copy");
        if (engine_close_blocking(copy) != 0)
            fail_in_thread("a copy cannot be closed", worker->index, 0);
    }
    directory_remove(path);
}

static void compact(struct fixture *fixture)
{
    int error = control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL);
    if (error != 0 && (error != KVS_ERR_IO || unlinks_fail_of == 0))
        fail_in_thread("a compaction fails", 0, 0);
}

static void *worker_run(void *arg)
{
    struct worker *worker = arg;
    for (unsigned step = 0; step < worker->steps && atomic_load(&shared->failures) == 0; step++) {
        unsigned what = (unsigned)rand_below(&worker->rand, 200);
        if (what == 0)
            checkpoint_step(worker);
        else if (what < 4)
            snapshot_step(worker);
        else if (what < 6)
            compare_now(worker->fixture->engine, worker->index, "a scan");
        else if (what == 6)
            compact(worker->fixture);
        else if (what < 30)
            range_step(worker);
        else
            batch_step(worker);
    }
    if (worker->snapshot != NULL)
        snapshot_step(worker);
    return NULL;
}

static void *compactor_run(void *arg)
{
    struct fixture *fixture = arg;
    while (!atomic_load(&shared->is_done) && atomic_load(&shared->failures) == 0)
        compact(fixture);
    return NULL;
}

/* --- a process --------------------------------------------------------------------------------*/

static void threads_run(struct fixture *fixture, struct rand *rand, unsigned steps)
{
    struct worker workers[THREADS];
    pthread_t compactor;
    atomic_store(&shared->is_done, false);
    bool compacts_always = rand_below(rand, 2) == 0;
    if (compacts_always)
        pthread_create(&compactor, NULL, compactor_run, fixture);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.fixture = fixture,
                                     .index = i,
                                     .steps = steps,
                                     .version = shared->version + i,
                                     .rand = rand_seed(rand_u64(rand))};
        pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    atomic_store(&shared->is_done, true);
    if (compacts_always)
        pthread_join(compactor, NULL);
    compact(fixture);
}

/* Each start with other sizes. */
static void options_choose(struct engine_options *options, struct rand *rand)
{
    static const uint64_t sizes[] = {4096, 8192, 16384, 65536};
    static const enum kvs_sync syncs[] = {KVS_SYNC_NEVER, KVS_SYNC_INTERVAL, KVS_SYNC_ALWAYS};
    options->segment_size_bytes = sizes[rand_below(rand, 4)];
    options->cache_size_bytes = options->segment_size_bytes << (2 + 2 * rand_below(rand, 5));
    options->sync = syncs[rand_below(rand, 3)];
    options->sync_interval_ms = 1 + (uint32_t)rand_below(rand, 50);
    options->callers_write = rand_below(rand, 2) == 0;
}

static int process_run(const char *directory, uint64_t seed, unsigned steps)
{
    static const struct engine_kind kind = {.name = "churn", .open = log_engine_open_blocking};
    struct rand rand = rand_seed(seed);
    struct fixture fixture;
    if (fixture_init(&fixture, &kind) != 0)
        return 2;
    snprintf(fixture.directory, sizeof fixture.directory, "%s", directory);
    options_choose(&fixture.options, &rand);
    if (fixture_open(&fixture) != 0) {
        fail_in_thread(fixture.message.text, 0, 0);
        return 1;
    }
    for (unsigned i = 0; i < THREADS; i++)
        resolve(fixture.engine, i);
    unlinks_fail_of = rand_below(&rand, 3) == 0 ? 3 + (unsigned)rand_below(&rand, 30) : 0;
    threads_run(&fixture, &rand, (steps >> rand_below(&rand, 6)) + 1);
    if (fixture_close(&fixture) != 0)
        fail_in_thread("closing fails", 0, 0);
    fixture_deinit(&fixture);
    return atomic_load(&shared->failures) == 0 ? 0 : 1;
}

static void round_run(const char *directory, struct rand *rand, unsigned steps)
{
    uint64_t seed = rand_u64(rand);
    bool is_killed = rand_below(rand, 3) != 0;
    unsigned after_us = (unsigned)rand_below(rand, TIMES(200000, 800000, 1600000));
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        exit(process_run(directory, seed, steps));
    if (is_killed) {
        usleep(after_us);
        kill(child, SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (atomic_load(&shared->failures) > 0)
        fail_msg("%s", shared->failure);
    bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && is_killed;
    assert_true(was_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    shared->version += 10000000;
}

static void store_run(uint64_t seed)
{
    struct rand rand = rand_seed(seed);
    char root[48];
    char temporary[ROOM_FOR_TMPDIR];
    snprintf(temporary, sizeof temporary, "%s", getenv("TMPDIR"));
    snprintf(root, sizeof root, "%s/kvs-churn-XXXXXX", temporary);
    assert_non_null(mkdtemp(root));
    setenv("TMPDIR", root, 1); /* what killed processes leave goes with it */
    char directory[64];
    snprintf(directory, sizeof directory, "%s/data", root);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    memset(shared, 0, sizeof *shared);
    shared->version = THREADS;
    shared->keys_count = KEYS_MAX >> rand_below(&rand, 6);
    for (unsigned round = 0; round < TIMES(6, 4, 3); round++)
        round_run(directory, &rand, TIMES(1500, 500, 300));
    munmap(shared, sizeof *shared);
    setenv("TMPDIR", temporary, 1);
    directory_remove(root);
}

/* Small stores, all of which is compacted at once, and larger ones. */
static void test_nothing_is_lost_and_nothing_is_back(void **state)
{
    uint64_t seed = test_seed();
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t until_ms = clock_now_ms() + (seconds != NULL ? 1000 * strtoull(seconds, NULL, 10) : 0);
    for (unsigned i = 0; i < TIMES(5, 3, 2) || clock_now_ms() < until_ms; i++)
        store_run(seed + i);
}

int main(void)
{
    fixtures_in_memory();
    const char *temporary = getenv("TMPDIR");
    if (temporary == NULL || strlen(temporary) >= ROOM_FOR_TMPDIR)
        setenv("TMPDIR", "/tmp", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost_and_nothing_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
