/*
 * tests/crash/test_churn.c: small segments that are compacted and merged all the time, beside sets,
 * removals, removed ranges, ends of life, snapshots and checkpoints of one thread or several, with
 * starts in between. Compactions fail or are cut short at any place, and the process in which all
 * this happens is killed at any place. Compared with a model, which is kept in memory that the
 * processes share.
 *
 * Each thread has keys of its own, so it knows what is there. What it is about to do stands in the
 * model before it does it: after a kill either may be there, what was or what was about to be, and
 * of a batch not a part only.
 *
 * A store has a seed, and is short: what goes wrong needs few segments and an early failure, and
 * there is one first failure in each life. Each life draws which of the steps it does, and how
 * often. The wall clock is the test's own, so that lives of keys end at once and at any place.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "engine/family.h"
#include "engine/file.h"
#include "engine/log/segment.h"
#include "test.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 3u
#define KEYS_MAX 3000u /* of each thread */
#define VALUE_SIZE_MIN 20u
#define VALUE_SIZE_MAX 360u
#define BATCH 16u
#define LIVES_MAX 4u
#define STORES 200u
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
    unsigned keys_count;     /* of each thread, in this store */
    unsigned value_size_max; /* likewise */
    uint64_t version;        /* of each process, before it has threads */
    _Atomic uint64_t wall_ms;
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
    size_t size = VALUE_SIZE_MIN + version * 37 % (shared->value_size_max - VALUE_SIZE_MIN);
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

/* --- time and failures ------------------------------------------------------------------------*/

/* Which calls of a kind: the `first`, and then each `every`th. */
struct schedule {
    unsigned first; /* 0: none */
    unsigned every;
    _Atomic unsigned calls;
};

/* What this process will meet. */
static struct {
    struct schedule kill;      /* before, or within, a call that changes files */
    struct schedule removals;  /* of segments: the file, or then the directory's sync */
    struct schedule reads;     /* by the compaction thread */
    int error;                 /* of both of them */
    _Atomic bool is_cancelled; /* compactions that are asked for */
    unsigned read_by_records;  /* of segments, of four: whatever their garbage; 0: as usual */
} plan;

static _Thread_local bool syncs_removal;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __real_file_read(int fd, void *data, size_t size, uint64_t offset);
int __real_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __real_file_sync(int fd);
int __real_file_truncate(int fd, uint64_t size);
int __real_file_rename(const char *from, const char *to);
int __real_file_unlink(const char *path);
int __real_file_sync_directory(const char *path);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
void __wrap_thread_step_back(void);
bool __real_wanted_is_sparse(const struct segment *segment);
bool __wrap_wanted_is_sparse(const struct segment *segment);
int __wrap_file_read(int fd, void *data, size_t size, uint64_t offset);
int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset);
int __wrap_file_sync(int fd);
int __wrap_file_truncate(int fd, uint64_t size);
int __wrap_file_rename(const char *from, const char *to);
int __wrap_file_unlink(const char *path);
int __wrap_file_sync_directory(const char *path);

static bool schedule_hits(struct schedule *schedule)
{
    unsigned nth = atomic_fetch_add(&schedule->calls, 1) + 1;
    return schedule->first != 0 && nth >= schedule->first &&
           (nth - schedule->first) % schedule->every == 0;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void may_die(void)
{
    if (schedule_hits(&plan.kill))
        die();
}

/* On the thread of a compaction. */
static bool compaction_meets(struct schedule *schedule)
{
    char name[16];
    return schedule->first != 0 && prctl(PR_GET_NAME, name) == 0 &&
           strcmp(name, "kvs-compaction") == 0 && schedule_hits(schedule);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    if (clock != CLOCK_REALTIME || shared == NULL)
        return __real_clock_gettime(clock, ret_now);
    uint64_t now_ms = atomic_load(&shared->wall_ms);
    *ret_now = (struct timespec){.tv_sec = (time_t)(now_ms / 1000),
                                 .tv_nsec = (long)(now_ms % 1000) * 1000000};
    return 0;
}

/* On a busy machine a compaction would hardly begin while others write. */
void __wrap_thread_step_back(void)
{
}

/* Records are small here. */
bool __wrap_wanted_is_sparse(const struct segment *segment)
{
    bool could_be = atomic_load_explicit(&segment->memory, memory_order_relaxed) == NULL &&
                    segment->hint == SEGMENT_HINT_THERE;
    return plan.read_by_records > 0 ? could_be && segment->number % 4 < plan.read_by_records
                                    : __real_wanted_is_sparse(segment);
}

int __wrap_file_read(int fd, void *data, size_t size, uint64_t offset)
{
    if (compaction_meets(&plan.reads))
        return plan.error;
    return __real_file_read(fd, data, size, offset);
}

int __wrap_file_write(int fd, const void *data, size_t size, uint64_t offset)
{
    if (schedule_hits(&plan.kill)) {
        (void)__real_file_write(fd, data, size / 2, offset);
        die();
    }
    return __real_file_write(fd, data, size, offset);
}

int __wrap_file_sync(int fd)
{
    may_die();
    return __real_file_sync(fd);
}

int __wrap_file_truncate(int fd, uint64_t size)
{
    may_die();
    return __real_file_truncate(fd, size);
}

int __wrap_file_rename(const char *from, const char *to)
{
    may_die();
    return __real_file_rename(from, to);
}

int __wrap_file_unlink(const char *path)
{
    may_die();
    bool is_segment = strstr(path, ".seg") != NULL;
    if (is_segment && compaction_meets(&plan.removals))
        return plan.error;
    int error = __real_file_unlink(path);
    syncs_removal = is_segment && error == 0;
    return error;
}

int __wrap_file_sync_directory(const char *path)
{
    may_die();
    bool fails = syncs_removal && compaction_meets(&plan.removals);
    syncs_removal = false;
    return fails ? plan.error : __real_file_sync_directory(path);
}

static unsigned below(struct rand *rand, unsigned bound)
{
    return (unsigned)rand_below(rand, bound);
}

/* From 1 on; small ones as often as large ones, up to 2 to the power of `bits`. */
static unsigned any_size(struct rand *rand, unsigned bits)
{
    return 1 + below(rand, 1u << below(rand, bits + 1));
}

static void schedule_draw(struct schedule *schedule, struct rand *rand, unsigned bits)
{
    schedule->first = below(rand, 2) == 0 ? any_size(rand, bits) : 1 + below(rand, 1u << bits);
    schedule->every = below(rand, 2) == 0 ? 1 : any_size(rand, bits + 6);
}

static void plan_draw(struct rand *rand)
{
    if (below(rand, 2) == 0)
        schedule_draw(&plan.kill, rand, 12);
    if (below(rand, 4) != 0)
        schedule_draw(&plan.removals, rand, 5);
    if (below(rand, 6) == 0)
        schedule_draw(&plan.reads, rand, 8);
    plan.error = below(rand, 2) == 0 ? KVS_ERR_IO : KVS_ERR_NO_MEMORY;
    plan.read_by_records = below(rand, 5);
}

/* --- comparing --------------------------------------------------------------------------------*/

/* What an engine, or a snapshot, has of a thread's keys. */
struct look {
    unsigned thread;
    uint64_t from_ms;
    uint64_t to_ms;
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

/* To be freed by free. */
static struct look *look_take(struct engine *engine, const struct engine_snapshot *snapshot,
                              unsigned thread)
{
    struct look *look = calloc(1, sizeof *look);
    look->thread = thread;
    look->from_ms = clock_wall_ms();
    if (look_run(engine, snapshot, look) != 0)
        fail_in_thread("a scan fails", thread, 0);
    look->to_ms = clock_wall_ms();
    return look;
}

static bool look_fits(const struct look *look, unsigned i, const struct state *state)
{
    return state_allows(state, look->seen[i], look->from_ms, look->to_ms);
}

/* The thread's keys as an engine, or a snapshot, has them, and as they should be. */
static void compare(struct engine *engine, const struct engine_snapshot *snapshot,
                    const struct state *expected, unsigned thread, const char *what)
{
    struct look *look = look_take(engine, snapshot, thread);
    for (unsigned i = 0; i < shared->keys_count; i++)
        if (!look_fits(look, i, &expected[i]))
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

/* After a start: what was pending has happened or not, all of it. */
static void resolve(struct engine *engine, unsigned thread)
{
    struct look *look = look_take(engine, NULL, thread);
    unsigned done = 0;
    unsigned not_done = 0;
    for (unsigned i = 0; i < shared->keys_count; i++) {
        struct key *key = &shared->keys[thread][i];
        bool was = look_fits(look, i, &key->now);
        bool is = key->is_pending && look_fits(look, i, &key->next);
        if (!was && !is)
            fail_in_thread("after a start", thread, i);
        if (key->is_pending) {
            done += !was;
            not_done += !is;
            if (look->seen[i] == 0)
                key->now = (struct state){0};
            else if (is)
                key->now = key->next;
        }
        key->is_pending = false;
    }
    if (done > 0 && not_done > 0)
        fail_in_thread("half a batch after a start", thread, done);
    free(look);
}

/* --- a thread that writes ---------------------------------------------------------------------*/

#define STEP_KINDS 9u

struct worker {
    struct fixture *fixture;
    unsigned index;
    unsigned step;
    unsigned steps;
    const unsigned *weights; /* of the kinds of steps */
    bool in_layers;          /* see weights_draw */
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

struct batch {
    kvs_mutation mutations[BATCH];
    struct key *keys[BATCH];
    char texts[BATCH][32];
    uint8_t values[BATCH][VALUE_SIZE_MAX];
    unsigned count;
};

static void batch_remove(struct worker *worker, struct batch *batch, unsigned i)
{
    unsigned n = batch->count++;
    batch->keys[n] = &shared->keys[worker->index][i];
    batch->mutations[n] = mutation_remove(key_of(batch->texts[n], worker->index, i));
    batch->mutations[n].family = (uint8_t)family_of(i);
    pending_set(batch->keys[n], (struct state){0});
}

/* A time to live of 0: for ever. */
static void batch_set(struct worker *worker, struct batch *batch, unsigned i, uint64_t ttl_ms)
{
    unsigned n = batch->count++;
    struct state next = {.version = worker->version += THREADS};
    if (ttl_ms != 0) {
        next.ends_from_ms = clock_wall_ms() + ttl_ms;
        next.ends_to_ms = UINT64_MAX; /* until it is known when it was written */
    }
    batch->keys[n] = &shared->keys[worker->index][i];
    batch->mutations[n] = mutation_set_in(family_of(i), key_of(batch->texts[n], worker->index, i),
                                          value_of(batch->values[n], next.version));
    batch->mutations[n].ttl_ms = ttl_ms;
    pending_set(batch->keys[n], next);
}

static void batch_write(struct worker *worker, struct batch *batch)
{
    if (batch->count > 0 && batch_wait(worker->fixture, batch->mutations, batch->count) != 0)
        fail_in_thread("a batch fails", worker->index, batch->count);
    for (unsigned n = 0; n < batch->count; n++)
        pending_end(batch->keys[n], batch->mutations[n].ttl_ms);
    batch->count = 0;
}

/* Keys in a row, or anywhere: so there are segments in order, and others. */
static void batch_step(struct worker *worker)
{
    struct batch batch = {.count = 0};
    unsigned count = 1 + below(&worker->rand, BATCH);
    unsigned stride = below(&worker->rand, 2) == 0 ? 1 : 7;
    unsigned first = below(&worker->rand, shared->keys_count);
    for (unsigned n = 0; n < count; n++) {
        unsigned i = (first + n * stride) % shared->keys_count;
        unsigned what = below(&worker->rand, 20);
        if (what < 3)
            batch_remove(worker, &batch, i);
        else
            batch_set(worker, &batch, i, what < 9 ? 1 + rand_below(&worker->rand, 100) : 0);
    }
    batch_write(worker, &batch);
}

static bool is_there(const struct key *key)
{
    return key->now.version != 0 &&
           (key->now.ends_from_ms == 0 || clock_wall_ms() <= key->now.ends_to_ms);
}

/* Keys at equal distances, in their order, of those that are not there, or of those
 * that are: segments that lie over many keys, without garbage, or with. */
static void run_step(struct worker *worker)
{
    struct batch batch = {.count = 0};
    struct key *keys = shared->keys[worker->index];
    unsigned stride = (worker->in_layers ? 4u : 1u) << below(&worker->rand, 6);
    bool is_thin = worker->in_layers && worker->step == 0; /* over all of the keys */
    stride = is_thin ? 64 : stride;
    unsigned from = is_thin || below(&worker->rand, 4) != 0
                        ? below(&worker->rand, stride)
                        : below(&worker->rand, shared->keys_count);
    bool fresh = worker->in_layers || below(&worker->rand, 4) != 0;
    uint64_t ttl_ms =
        !worker->in_layers && below(&worker->rand, 2) == 0 ? any_size(&worker->rand, 7) : 0;
    unsigned count = 16u << (worker->step == 1 ? 0 : below(&worker->rand, 6));
    for (unsigned i = from; i < shared->keys_count && count > 0; i += stride) {
        if (is_there(&keys[i]) == fresh)
            continue;
        count--;
        batch_set(worker, &batch, i, ttl_ms);
        if (batch.count == BATCH)
            batch_write(worker, &batch);
    }
    batch_write(worker, &batch);
}

/* Of those of a family: they will be removed, or have been. */
static void keys_removed(struct key *keys, unsigned from, unsigned to, unsigned family,
                         bool is_done)
{
    for (unsigned i = from; i < to; i++) {
        if (family_of(i) != family)
            continue;
        if (is_done)
            pending_end(&keys[i], 0);
        else
            pending_set(&keys[i], (struct state){0});
    }
}

static void range_step(struct worker *worker)
{
    struct key *keys = shared->keys[worker->index];
    char start[32];
    char end[32];
    unsigned from = below(&worker->rand, shared->keys_count);
    while (from + 1 < shared->keys_count && !is_there(&keys[from]))
        from++;
    unsigned to = from + any_size(&worker->rand, 5);
    unsigned family = family_of(from);
    to = to < shared->keys_count ? to : shared->keys_count;
    keys_removed(keys, from, to, family, false);
    kvs_mutation mutation =
        mutation_remove_range(key_of(start, worker->index, from), key_of(end, worker->index, to));
    mutation.family = (uint8_t)family;
    if (batch_wait(worker->fixture, &mutation, 1) != 0)
        fail_in_thread("a range cannot be removed", worker->index, from);
    keys_removed(keys, from, to, family, true);
}

static void time_step(struct worker *worker)
{
    atomic_fetch_add(&shared->wall_ms, any_size(&worker->rand, 8));
}

static void scan_step(struct worker *worker)
{
    compare_now(worker->fixture->engine, worker->index, "a scan");
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
    bool may_fail = plan.removals.first != 0 || plan.reads.first != 0;
    if (error != 0 && !(error == plan.error && may_fail) &&
        !(error == KVS_ERR_CANCELLED && atomic_load(&plan.is_cancelled)))
        fail_in_thread(kvs_error_text(error), 0, 0);
}

static void compact_step(struct worker *worker)
{
    compact(worker->fixture);
}

static const struct {
    void (*run)(struct worker *worker);
    unsigned weight_max;
} steps[STEP_KINDS] = {
    {batch_step, 128},  {run_step, 32},     {range_step, 16},
    {time_step, 16},    {compact_step, 2},  {scan_step, 2},
    {snapshot_step, 3}, {compact_step, 16}, {checkpoint_step, 1},
};

/* Half of the kinds, each as often as may be; or what leaves segments that lie in order over the
 * same keys, and are merged. */
static void weights_draw(unsigned weights[STEP_KINDS], struct rand *rand, bool in_layers)
{
    memset(weights, 0, STEP_KINDS * sizeof *weights);
    if (in_layers) {
        weights[1] = 2 + below(rand, 4);
        weights[2] = 2;
        return;
    }
    for (unsigned i = 0; i < STEP_KINDS; i++)
        weights[i] = below(rand, 2) * below(rand, steps[i].weight_max + 1);
    weights[below(rand, 2)] += 8; /* something is written in any case */
}

static unsigned step_draw(struct worker *worker)
{
    unsigned sum = 0;
    if (worker->in_layers && worker->step < 4)
        return 1 + worker->step / 2;
    for (unsigned i = 0; i < STEP_KINDS; i++)
        sum += worker->weights[i];
    unsigned what = below(&worker->rand, sum);
    unsigned kind = 0;
    while (what >= worker->weights[kind])
        what -= worker->weights[kind++];
    return kind;
}

static void *worker_run(void *arg)
{
    struct worker *worker = arg;
    for (; worker->step < worker->steps && atomic_load(&shared->failures) == 0; worker->step++)
        steps[step_draw(worker)].run(worker);
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

/* A compaction may be under way when it is over. */
static void threads_run(struct fixture *fixture, struct rand *rand)
{
    struct worker workers[THREADS];
    unsigned weights[STEP_KINDS];
    pthread_t compactor;
    bool in_layers = shared->keys_count >= KEYS_MAX / 4 && below(rand, 2) == 0;
    weights_draw(weights, rand, in_layers);
    unsigned count = in_layers || below(rand, 2) == 0 ? 1 : THREADS;
    unsigned steps_count = in_layers ? 8 + below(rand, 32) : any_size(rand, 8);
    unsigned first = below(rand, THREADS);
    bool compacts_always = !in_layers && below(rand, 4) == 0;
    atomic_store(&shared->is_done, false);
    for (unsigned n = 0; n < count; n++) {
        unsigned i = (first + n) % THREADS;
        workers[n] = (struct worker){.fixture = fixture,
                                     .index = i,
                                     .steps = steps_count,
                                     .weights = weights,
                                     .in_layers = in_layers,
                                     .version = shared->version + i,
                                     .rand = rand_seed(rand_u64(rand))};
        pthread_create(&workers[n].thread, NULL, worker_run, &workers[n]);
    }
    if (compacts_always)
        pthread_create(&compactor, NULL, compactor_run, fixture);
    for (unsigned n = 0; n < count; n++)
        pthread_join(workers[n].thread, NULL);
    atomic_store(&shared->is_done, true);
    if (below(rand, 4) == 0) {
        atomic_store(&plan.is_cancelled, true);
        engine_compact_no_more(fixture->engine);
    }
    if (compacts_always)
        pthread_join(compactor, NULL);
    for (unsigned n = below(rand, 4); n > 0; n--) {
        atomic_fetch_add(&shared->wall_ms, any_size(rand, 8));
        compact(fixture);
    }
}

/* Each start with other sizes. */
static void options_choose(struct engine_options *options, struct rand *rand)
{
    static const uint64_t sizes[] = {4096, 4096, 4096, 8192, 16384, 65536};
    static const enum kvs_sync syncs[] = {KVS_SYNC_NEVER, KVS_SYNC_INTERVAL, KVS_SYNC_ALWAYS};
    options->segment_size_bytes = sizes[below(rand, 6)];
    options->cache_size_bytes = options->segment_size_bytes << (2 + 2 * below(rand, 5));
    options->sync = syncs[below(rand, 3)];
    options->sync_interval_ms = 1 + below(rand, 50);
    options->callers_write = below(rand, 2) == 0;
    options->cache_prefault = below(rand, 2) == 0;
}

/* The last one only looks. */
static int process_run(const char *directory, uint64_t seed, bool is_last)
{
    static const struct engine_kind kind = {.name = "churn", .open = log_engine_open_blocking};
    struct rand rand = rand_seed(seed);
    struct fixture fixture;
    if (fixture_init(&fixture, &kind) != 0)
        return 2;
    snprintf(fixture.directory, sizeof fixture.directory, "%s", directory);
    options_choose(&fixture.options, &rand);
    if (!is_last)
        plan_draw(&rand);
    if (fixture_open(&fixture) != 0) {
        fail_in_thread(fixture.message.text, 0, 0);
        return 1;
    }
    for (unsigned i = 0; i < THREADS; i++)
        resolve(fixture.engine, i);
    if (!is_last)
        threads_run(&fixture, &rand);
    if (fixture_close(&fixture) != 0)
        fail_in_thread("closing fails", 0, 0);
    fixture_deinit(&fixture);
    return atomic_load(&shared->failures) == 0 ? 0 : 1;
}

static void life_run(const char *directory, uint64_t store, uint64_t seed, bool is_last)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        exit(process_run(directory, seed, is_last));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    bool is_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !is_last;
    bool is_fine = is_killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (atomic_load(&shared->failures) > 0 || !is_fine)
        fail_msg("--seed %llu: %s", (unsigned long long)store,
                 atomic_load(&shared->failures) > 0 ? shared->failure : "it ends at once");
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
    memset(shared, 0, sizeof *shared);
    shared->version = THREADS;
    shared->wall_ms = 1000000;
    shared->keys_count = KEYS_MAX >> below(&rand, 1 + below(&rand, 6));
    shared->value_size_max = VALUE_SIZE_MIN + any_size(&rand, 8);
    unsigned lives = 1 + below(&rand, LIVES_MAX);
    for (unsigned i = 0; i <= lives; i++)
        life_run(directory, seed, rand_u64(&rand), i == lives);
    setenv("TMPDIR", temporary, 1);
    directory_remove(root);
}

static struct {
    uint64_t seed; /* 0: any */
    uint64_t times;
} arguments = {.times = 1};

static void test_nothing_is_lost_and_nothing_is_back(void **state)
{
    uint64_t seed = arguments.seed != 0 ? arguments.seed : test_seed();
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t from_ms = clock_now_ms();
    uint64_t to_ms = from_ms + (seconds != NULL ? 1000 * strtoull(seconds, NULL, 10) : 0);
    uint64_t count = 0;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    if (arguments.seed != 0) {
        for (; count < arguments.times; count++)
            store_run(seed);
    } else {
        for (; count < TIMES(STORES, STORES / 4, STORES / 8) || clock_now_ms() < to_ms; count++)
            store_run(seed + count);
    }
    printf("# %llu stores in %llu ms\n", (unsigned long long)count,
           (unsigned long long)(clock_now_ms() - from_ms));
    munmap(shared, sizeof *shared);
}

static void argument(int argc, char **argv, const char *name, uint64_t *value)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            *value = strtoull(argv[i + 1], NULL, 0);
    }
}

int main(int argc, char **argv)
{
    fixtures_in_memory();
    log_set_level(LOG_SILENT); /* of failures */
    argument(argc, argv, "--seed", &arguments.seed);
    argument(argc, argv, "--times", &arguments.times);
    const char *temporary = getenv("TMPDIR");
    if (temporary == NULL || strlen(temporary) >= ROOM_FOR_TMPDIR)
        setenv("TMPDIR", "/tmp", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost_and_nothing_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
