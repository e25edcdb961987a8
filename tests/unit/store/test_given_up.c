/*
 * Deadlines and cancelling of calls in this process, while the disk does not answer: stores and
 * event streams. The program has the system's calls for itself, so that every write and sync, and
 * every read that is not answered from memory, waits as long as a test wants it to.
 */
#include "base/fault.h"
#include "contract/engine_fixture.h"

#include <errno.h>
#include <kvs/kvs.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "test.h"
#include "times.h"

/* --- the disk ------------------------------------------------------------------------------- */

static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_changed = PTHREAD_COND_INITIALIZER;
static bool disk_silent;
static unsigned disk_waiters;

static void disk_wait(void)
{
    pthread_mutex_lock(&disk_lock);
    disk_waiters++;
    pthread_cond_broadcast(&disk_changed);
    while (disk_silent)
        pthread_cond_wait(&disk_changed, &disk_lock);
    disk_waiters--;
    pthread_mutex_unlock(&disk_lock);
}

static void disk_set_silent(bool silent)
{
    pthread_mutex_lock(&disk_lock);
    disk_silent = silent;
    pthread_cond_broadcast(&disk_changed);
    pthread_mutex_unlock(&disk_lock);
}

/* Until somebody waits for it. */
static void disk_await_waiter(void)
{
    pthread_mutex_lock(&disk_lock);
    while (disk_waiters == 0)
        pthread_cond_wait(&disk_changed, &disk_lock);
    pthread_mutex_unlock(&disk_lock);
}

int fdatasync(int fd)
{
    disk_wait();
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    disk_wait();
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    disk_wait();
    return syscall(SYS_pread64, fd, data, size, offset);
}

/* Nothing is in the system's memory. */
ssize_t preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags)
{
    (void)fd;
    (void)vectors;
    (void)count;
    (void)offset;
    (void)flags;
    errno = EAGAIN;
    return -1;
}

/* --- a store with two keys, on a disk that is silent ---------------------------------------- */

struct world {
    kvs_runtime *runtime;
    kvs_store *store;
    kvs_events *events; /* of one test */
    kvs_txn_client *txn_client;
    char directory[64];
    char url[80];
};

/* No memory for values that are not of the newest segment: to read them is to wait for the disk. */
#define SEGMENT_SIZE (64u * 1024)

static kvs_store *open_store(struct world *fixture, uint32_t timeout_ms)
{
    const struct kvs_store_options options = {.size = sizeof options,
                                              .cache_size_bytes = 1,
                                              .segment_size_bytes = SEGMENT_SIZE,
                                              .timeout_ms = timeout_ms};
    return opened_by(kvs_store_open(fixture->runtime, fixture->url, &options));
}

static int setup(void **state)
{
    struct world *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/kvs-test-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL || kvs_runtime_new(NULL, &fixture->runtime) != 0)
        return -1;
    snprintf(fixture->url, sizeof fixture->url, "log:%s/store", fixture->directory);
    fixture->store = open_store(fixture, 0);
    assert_int_equal(
        wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("a"), kvs_slice_of("1"))), 0);
    assert_int_equal(
        wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("b"), kvs_slice_of("2"))), 0);
    static const uint8_t large[SEGMENT_SIZE];
    assert_int_equal(wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("z"),
                                                 (kvs_slice){large, sizeof large})),
                     0);
    assert_int_equal(wait_and_free(kvs_store_close(fixture->store)), 0);
    fixture->store = open_store(fixture, 0);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct world *fixture = *state;
    disk_set_silent(false);
    if (fixture->store != NULL)
        wait_and_free(kvs_store_close(fixture->store));
    if (fixture->txn_client != NULL)
        wait_and_free(kvs_txn_client_close(fixture->txn_client));
    if (fixture->events != NULL)
        wait_and_free(kvs_events_close(fixture->events));
    kvs_runtime_free(fixture->runtime);
    directory_remove(fixture->directory);
    free(fixture);
    return 0;
}

static void assert_value(kvs_store *store, const char *key, const char *expected)
{
    kvs_future *future = kvs_store_get(store, kvs_slice_of(key));
    kvs_slice value = {0};
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_int_equal(value.size, strlen(expected));
    assert_memory_equal(value.data, expected, value.size);
    kvs_future_free(future);
}

/* --- operations: each with its inputs in one piece of memory, freed when it is done --------- */

struct owned {
    kvs_op op;
    kvs_slice keys[2];
    kvs_mutation mutations[2];
    char bytes[160];
    int *ret_error; /* under `done_lock` */
};

static pthread_mutex_t done_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_changed = PTHREAD_COND_INITIALIZER;
#define UNDER_WAY 1 /* an error that there is not */

static void owned_on_done(kvs_op *op)
{
    struct owned *owned = op->user;
    pthread_mutex_lock(&done_lock);
    assert_int_equal(*owned->ret_error, UNDER_WAY);
    *owned->ret_error = op->error;
    if (op->error == KVS_ERR_TIMEOUT)
        assert_string_equal(op->message, "not done within its timeout_ms");
    pthread_cond_broadcast(&done_changed);
    kvs_op_release(op);
    free(owned);
    pthread_mutex_unlock(&done_lock);
}

static int await_done(const int *error)
{
    pthread_mutex_lock(&done_lock);
    while (*error == UNDER_WAY)
        pthread_cond_wait(&done_changed, &done_lock);
    int outcome = *error;
    pthread_mutex_unlock(&done_lock);
    return outcome;
}

static kvs_slice copy_text(struct owned *owned, unsigned at, const char *text)
{
    size_t size = strlen(text);
    assert_true(at + size <= sizeof owned->bytes);
    memcpy(owned->bytes + at, text, size);
    return (kvs_slice){(const uint8_t *)owned->bytes + at, size};
}

static struct owned *owned_new(const struct world *fixture, enum kvs_op_kind kind,
                               uint32_t timeout_ms, int *ret_error)
{
    char path[96];
    struct owned *owned = calloc(1, sizeof *owned);
    owned->op = KVS_OP_INIT;
    owned->op.kind = (uint8_t)kind;
    owned->op.timeout_ms = timeout_ms;
    owned->op.on_done = owned_on_done;
    owned->op.user = owned;
    owned->ret_error = ret_error;
    *ret_error = UNDER_WAY;
    snprintf(path, sizeof path, "%s/copy", fixture->directory);
    owned->op.key = copy_text(owned, 0, kind == KVS_OP_CHECKPOINT ? path : "a");
    owned->op.value = copy_text(owned, 100, "new");
    owned->op.expected = copy_text(owned, 110, "1");
    owned->op.end_key = copy_text(owned, 120, "c");
    owned->keys[0] = copy_text(owned, 130, "a");
    owned->keys[1] = copy_text(owned, 140, "b");
    owned->op.keys = owned->keys;
    for (unsigned i = 0; i < 2; i++)
        owned->mutations[i] = (kvs_mutation){
            .kind = KVS_MUTATION_SET, .key = owned->keys[i], .value = owned->op.value};
    owned->op.mutations = owned->mutations;
    owned->op.count = kind == KVS_OP_BATCH_GET || kind == KVS_OP_BATCH_WRITE ? 2 : 0;
    return owned;
}

/* All that can have to wait, and what it ends with when it is given up in the midst of it. */
static const struct {
    enum kvs_op_kind kind;
    bool is_write;
} kinds[] = {
    {KVS_OP_GET, false},         {KVS_OP_BATCH_GET, false}, {KVS_OP_SCAN, false},
    {KVS_OP_CHECKSUM, false},    {KVS_OP_COUNT, false},     {KVS_OP_SET, true},
    {KVS_OP_REMOVE, true},       {KVS_OP_CAS, true},        {KVS_OP_BATCH_WRITE, true},
    {KVS_OP_REMOVE_RANGE, true}, {KVS_OP_SYNC, false},      {KVS_OP_COMPACT, false},
    {KVS_OP_CHECKPOINT, false},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

/* Keeps all threads of the pool waiting for the disk, so that a count has to wait, too. */
#define POOL_THREADS 4

static void wait_for_disk(void *arg)
{
    (void)arg;
    disk_wait();
}

static void silence(struct world *fixture)
{
    disk_set_silent(true);
    for (unsigned i = 0; i < POOL_THREADS; i++)
        assert_int_equal(
            kvs_thread_pool_submit(kvs_runtime_pool(fixture->runtime), wait_for_disk, NULL), 0);
    pthread_mutex_lock(&disk_lock);
    while (disk_waiters < POOL_THREADS)
        pthread_cond_wait(&disk_changed, &disk_lock);
    pthread_mutex_unlock(&disk_lock);
}

static void test_an_operation_ends_by_its_deadline(void **state)
{
    struct world *fixture = *state;
    silence(fixture);
    for (unsigned i = 0; i < KINDS; i++) {
        int error;
        kvs_store_submit(fixture->store, &owned_new(fixture, kinds[i].kind, 1 + i, &error)->op);
        assert_int_equal(await_done(&error),
                         kinds[i].is_write ? KVS_ERR_OUTCOME_UNKNOWN : KVS_ERR_TIMEOUT);
    }
}

static void test_an_operation_is_cancelled(void **state)
{
    struct world *fixture = *state;
    silence(fixture);
    for (unsigned i = 0; i < KINDS; i++) {
        int error;
        struct owned *owned = owned_new(fixture, kinds[i].kind, UINT32_MAX, &error);
        kvs_store_submit(fixture->store, &owned->op);
        kvs_store_cancel(fixture->store, &owned->op);
        assert_int_equal(await_done(&error),
                         kinds[i].is_write ? KVS_ERR_OUTCOME_UNKNOWN : KVS_ERR_CANCELLED);
    }
}

static void test_a_future_ends_by_its_deadline_or_is_cancelled(void **state)
{
    struct world *fixture = *state;
    silence(fixture);
    for (unsigned i = 0; i < 3 * KINDS; i++) {
        int error;
        bool timed = i % 3 == 0;
        struct owned *owned = owned_new(fixture, kinds[i / 3].kind,
                                        timed        ? 5
                                        : i % 3 == 1 ? 0
                                                     : PATIENT_MS,
                                        &error);
        kvs_future *future = kvs_store_call(fixture->store, &owned->op);
        free(owned); /* inputs are copied */
        if (!timed)
            kvs_future_cancel(future);
        assert_int_equal(kvs_future_wait(future, -1), kinds[i / 3].is_write
                                                          ? KVS_ERR_OUTCOME_UNKNOWN
                                                      : timed ? KVS_ERR_TIMEOUT
                                                              : KVS_ERR_CANCELLED);
        if (kinds[i / 3].is_write)
            assert_non_null(strstr(kvs_future_error_message(future), "done or not"));
        kvs_future_free(future);
    }
}

static void hold_thread(void *arg)
{
    sem_wait(arg);
}

/* The pool has no thread to spare: one that waits without a limit reads itself. */
static void test_a_thread_that_waits_reads(void **state)
{
    struct world *fixture = *state;
    static sem_t held; /* a thread may be in it for a moment longer */
    sem_init(&held, 0, 0);
    for (unsigned i = 0; i < POOL_THREADS; i++)
        assert_int_equal(
            kvs_thread_pool_submit(kvs_runtime_pool(fixture->runtime), hold_thread, &held), 0);
    for (unsigned i = 0; i < KINDS && !kinds[i].is_write && kinds[i].kind != KVS_OP_SYNC; i++) {
        int error;
        struct owned *owned = owned_new(fixture, kinds[i].kind, 0, &error);
        kvs_future *future = kvs_store_call(fixture->store, &owned->op);
        kvs_future *second = kvs_store_call(fixture->store, &owned->op);
        kvs_future *given_up = kvs_store_call(fixture->store, &owned->op);
        free(owned);
        assert_int_equal(kvs_future_wait(future, 5), KVS_ERR_TIMEOUT);
        kvs_future_cancel(given_up);
        assert_int_equal(kvs_future_wait(given_up, -1), KVS_ERR_CANCELLED);
        assert_int_equal(kvs_future_wait(second, -1), 0); /* not the first of the queue */
        assert_int_equal(kvs_future_wait(future, -1), 0);
        kvs_slice value;
        if (kinds[i].kind == KVS_OP_GET && kvs_future_get_value(future, &value) == 0)
            assert_slice_equal(value, "1");
        kvs_future_free(future);
        kvs_future_free(second);
        kvs_future_free(given_up);
    }
    for (unsigned i = 0; i < POOL_THREADS; i++)
        sem_post(&held);
}

/* More than there is room for in views of an engine. */
#define WAITERS 300
#define ANSWER_SECONDS 20

static void *get_from_disk(void *arg)
{
    return (void *)(intptr_t)wait_and_free(kvs_store_get(arg, kvs_slice_of("a")));
}

static void *get_from_memory(void *arg)
{
    return (void *)(intptr_t)wait_and_free(kvs_store_get(arg, kvs_slice_of("not there")));
}

/* Were all of them to read themselves, nobody else could until one of them is done. */
static void test_threads_that_read_leave_room_for_others(void **state)
{
    struct world *fixture = *state;
    pthread_t waiters[WAITERS], asking;
    struct timespec until;
    void *outcome;
    silence(fixture);
    for (unsigned i = 0; i < WAITERS; i++)
        assert_int_equal(pthread_create(&waiters[i], NULL, get_from_disk, fixture->store), 0);
    poll(NULL, 0, 300); /* most have come to where they wait */
    assert_int_equal(pthread_create(&asking, NULL, get_from_memory, fixture->store), 0);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_SECONDS;
    bool is_answered = pthread_timedjoin_np(asking, &outcome, &until) == 0;
    disk_set_silent(false);
    if (!is_answered)
        pthread_join(asking, &outcome);
    assert_int_equal((intptr_t)outcome, KVS_ERR_NOT_FOUND);
    for (unsigned i = 0; i < WAITERS; i++) {
        pthread_join(waiters[i], &outcome);
        assert_int_equal((intptr_t)outcome, 0);
    }
    assert_true(is_answered);
}

static void test_what_is_given_up_may_happen_and_close_waits_for_it(void **state)
{
    struct world *fixture = *state;
    int error;
    disk_set_silent(true);
    kvs_store_submit(fixture->store, &owned_new(fixture, KVS_OP_SET, 1, &error)->op);
    assert_int_equal(await_done(&error), KVS_ERR_OUTCOME_UNKNOWN);
    kvs_future *closed = kvs_store_close(fixture->store);
    disk_await_waiter();
    assert_int_equal(kvs_future_wait(closed, 20), KVS_ERR_TIMEOUT);
    disk_set_silent(false);
    assert_int_equal(wait_and_free(closed), 0);
    fixture->store = open_store(fixture, 0);
    assert_value(fixture->store, "a", "new");
}

/* It would take as long as the disk: what is in flight is waited for, but not that. */
static void test_close_ends_a_compaction(void **state)
{
    struct world *fixture = *state;
    for (unsigned i = 0; i < 3; i++) /* garbage */
        assert_int_equal(
            wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("a"), kvs_slice_of("3"))), 0);
    disk_set_silent(true);
    kvs_future *compacted = kvs_store_compact(fixture->store);
    disk_await_waiter();
    assert_int_equal(kvs_future_wait(compacted, 5), KVS_ERR_TIMEOUT);
    kvs_future *closed = kvs_store_close(fixture->store);
    disk_set_silent(false);
    assert_int_equal(kvs_future_wait(compacted, -1), KVS_ERR_CANCELLED);
    kvs_future_free(compacted);
    assert_int_equal(wait_and_free(closed), 0);
    fixture->store = open_store(fixture, 0);
    assert_value(fixture->store, "a", "3");
}

static void test_the_default_of_a_store(void **state)
{
    struct world *fixture = *state;
    int error;
    wait_and_free(kvs_store_close(fixture->store));
    fixture->store = open_store(fixture, 3);
    disk_set_silent(true);
    assert_int_equal(wait_and_free(kvs_store_get(fixture->store, kvs_slice_of("a"))),
                     KVS_ERR_TIMEOUT);
    assert_int_equal(
        wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("c"), kvs_slice_of("3"))),
        KVS_ERR_OUTCOME_UNKNOWN);
    kvs_store_submit(fixture->store, &owned_new(fixture, KVS_OP_REMOVE, 0, &error)->op);
    assert_int_equal(await_done(&error), KVS_ERR_OUTCOME_UNKNOWN);
    disk_set_silent(false);
}

/* --- a disk that answers -------------------------------------------------------------------- */

static void expect_done(struct world *fixture, kvs_op *op, int expected)
{
    kvs_store_submit(fixture->store, op);
    while (*(_Atomic int *)op->user == UNDER_WAY)
        poll(NULL, 0, 0);
    assert_int_equal(op->error, expected);
}

static void note_done(kvs_op *op)
{
    atomic_store((_Atomic int *)op->user, op->error);
}

/* What an op gives does not depend on whether it has a deadline. */
static void test_results_arrive(void **state)
{
    struct world *fixture = *state;
    for (uint32_t timeout_ms = 0; timeout_ms <= PATIENT_MS; timeout_ms += PATIENT_MS) {
        for (unsigned i = 0; i < KINDS; i++) {
            int error;
            _Atomic int done = UNDER_WAY;
            struct owned *owned = owned_new(fixture, kinds[i].kind, timeout_ms, &error);
            kvs_op *op = &owned->op;
            op->on_done = note_done;
            op->user = &done;
            if (op->kind == KVS_OP_REMOVE_RANGE)
                op->key = copy_text(owned, 150, "b");
            if (op->kind == KVS_OP_CAS)
                op->expected = op->value; /* not what is there */
            expect_done(fixture, op, op->kind == KVS_OP_CAS ? KVS_ERR_CONDITION_FAILED : 0);
            if (op->kind == KVS_OP_GET)
                assert_slice_equal(op->result, "1");
            if (op->kind == KVS_OP_BATCH_GET || op->kind == KVS_OP_SCAN) {
                assert_int_equal(op->pairs_count, 2);
                assert_slice_equal(op->pairs[1].value, "2");
            }
            if (op->kind == KVS_OP_COUNT)
                assert_int_equal(op->number, 2);
            if (op->kind == KVS_OP_CHECKSUM)
                assert_int_equal(op->result.size, 24);
            if (op->kind == KVS_OP_CAS) {
                assert_int_equal(op->number, 0); /* removed before */
                assert_int_equal(op->result.size, 0);
            }
            if (op->kind == KVS_OP_REMOVE_RANGE)
                assert_int_equal(op->number, 1);
            kvs_op_release(op);
            free(owned);
        }
        assert_int_equal(
            wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("a"), kvs_slice_of("1"))), 0);
        assert_int_equal(
            wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("b"), kvs_slice_of("2"))), 0);
        char copy[96];
        snprintf(copy, sizeof copy, "%s/copy", fixture->directory);
        directory_remove(copy);
    }
}

/* Writes of one thread are applied in its order, with and without deadlines in turn. */
static void test_order(void **state)
{
    struct world *fixture = *state;
    enum { OPS = 300 };
    static int errors[OPS];
    kvs_op *ops[OPS];
    for (unsigned i = 0; i < OPS; i++) {
        bool is_read = i % 5 == 3;
        struct owned *owned = owned_new(fixture, is_read ? KVS_OP_GET : KVS_OP_SET,
                                        i % 3 == 0 ? 0 : PATIENT_MS, &errors[i]);
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        owned->op.value = copy_text(owned, 100, text);
        ops[i] = &owned->op;
    }
    for (unsigned i = 0; i < OPS; i += 50)
        kvs_store_submit_many(fixture->store, ops + i, 50);
    for (unsigned i = 0; i < OPS; i++)
        assert_int_equal(await_done(&errors[i]), 0);
    assert_value(fixture->store, "a", "299");
}

/* Bad requests, and no memory, with a deadline as without. */
static void test_refused(void **state)
{
    struct world *fixture = *state;
    int error;
    struct owned *owned = owned_new(fixture, KVS_OP_SET, 1000, &error);
    owned->op.key.size = 0;
    kvs_store_submit(fixture->store, &owned->op);
    assert_int_equal(await_done(&error), KVS_ERR_INVALID_ARGUMENT);
    owned = owned_new(fixture, KVS_OP_GET, 1000, &error);
    owned->op.flags = 0x8000;
    kvs_store_submit(fixture->store, &owned->op);
    assert_int_equal(await_done(&error), KVS_ERR_INVALID_ARGUMENT);
}

#ifdef KVS_FAULTS
static void test_no_memory(void **state)
{
    struct world *fixture = *state;
    for (unsigned i = 0; i < KINDS; i++) {
        if (kinds[i].kind == KVS_OP_CHECKPOINT || kinds[i].kind == KVS_OP_COMPACT)
            continue; /* fault/ has them */
        bool fired = true;
        for (unsigned k = 1; fired; k++) {
            int error;
            struct owned *owned = owned_new(fixture, kinds[i].kind, PATIENT_MS, &error);
            fault_arm(FAULT_ALLOC, k, false);
            kvs_store_submit(fixture->store, &owned->op);
            int outcome = await_done(&error);
            fired = fault_fired() > 0;
            fault_reset();
            bool fine = outcome == 0 || outcome == KVS_ERR_NO_MEMORY ||
                        outcome == KVS_ERR_NOT_FOUND || outcome == KVS_ERR_CONDITION_FAILED;
            if (!fine)
                fail_msg("kind %u, allocation %u: %s", kinds[i].kind, k, kvs_error_text(outcome));
        }
    }
}
#endif

/* Who is faster: the disk, the deadline, a cancel? Each op ends once, whatever comes first. */
#define RACES 400

struct race {
    struct world *fixture;
    pthread_mutex_t lock;
    unsigned submitted;
    kvs_op ops[RACES];
    char keys[RACES][8];
    bool done[RACES];
    unsigned done_count;
};

static void race_on_done(kvs_op *op)
{
    struct race *race = op->user;
    pthread_mutex_lock(&race->lock);
    assert_false(race->done[op - race->ops]);
    race->done[op - race->ops] = true;
    race->done_count++;
    pthread_mutex_unlock(&race->lock);
}

static void *race_cancel(void *arg)
{
    struct race *race = arg;
    for (unsigned i = 0; i < RACES;) {
        pthread_mutex_lock(&race->lock);
        if (i < race->submitted) {
            if (!race->done[i] && i % 3 == 0)
                kvs_store_cancel(race->fixture->store, &race->ops[i]);
            i++;
        }
        pthread_mutex_unlock(&race->lock);
    }
    return NULL;
}

static void test_races(void **state)
{
    struct race *race = calloc(1, sizeof *race);
    race->fixture = *state;
    pthread_mutex_init(&race->lock, NULL);
    pthread_t canceller;
    assert_int_equal(pthread_create(&canceller, NULL, race_cancel, race), 0);
    for (unsigned i = 0; i < RACES; i++) {
        kvs_op *op = &race->ops[i];
        snprintf(race->keys[i], sizeof race->keys[i], "%u", i);
        *op = KVS_OP_INIT;
        op->kind = i % 2 ? KVS_OP_SET : i % 4 ? KVS_OP_GET : KVS_OP_SCAN;
        op->key = kvs_slice_of(i % 2 ? race->keys[i] : "a");
        op->value = kvs_slice_of("v");
        op->timeout_ms = 1 + i % 4;
        op->on_done = race_on_done;
        op->user = race;
        if (i % 64 == 0)
            disk_set_silent(i % 128 == 0);
        kvs_store_submit(race->fixture->store, op);
        pthread_mutex_lock(&race->lock);
        race->submitted++;
        pthread_mutex_unlock(&race->lock);
    }
    disk_set_silent(false);
    pthread_join(canceller, NULL);
    for (unsigned done = 0; done < RACES; poll(NULL, 0, 1)) {
        pthread_mutex_lock(&race->lock);
        done = race->done_count;
        pthread_mutex_unlock(&race->lock);
    }
    for (unsigned i = 0; i < RACES; i++) {
        int error = race->ops[i].error;
        assert_true(error == 0 || error == KVS_ERR_TIMEOUT || error == KVS_ERR_CANCELLED ||
                    error == KVS_ERR_OUTCOME_UNKNOWN);
        kvs_op_release(&race->ops[i]);
    }
    pthread_mutex_destroy(&race->lock);
    free(race);
}

/* Time passes on a loop that only turns when it is polled, too. */
static void test_polled(void **state)
{
    struct world *fixture = *state;
    kvs_runtime *own = fixture->runtime;
    wait_and_free(kvs_store_close(fixture->store));
    assert_int_equal(kvs_runtime_new_polled(NULL, &fixture->runtime), 0);
    kvs_future *future = kvs_store_open(fixture->runtime, fixture->url, NULL);
    kvs_store *store = NULL;
    for (int step = 0; step < 3; step++) {
        while (!kvs_future_is_ready(future)) {
            struct pollfd fd = {.fd = kvs_runtime_fd(fixture->runtime), .events = POLLIN};
            poll(&fd, 1, kvs_runtime_poll_timeout_ms(fixture->runtime));
            kvs_runtime_poll(fixture->runtime);
        }
        assert_int_equal(kvs_future_error(future), step == 1 ? KVS_ERR_OUTCOME_UNKNOWN : 0);
        if (step == 0) {
            assert_int_equal(kvs_future_get_pointer(future, (void **)&store), 0);
            kvs_future_free(future);
            disk_set_silent(true);
            kvs_op op = KVS_OP_INIT;
            op.kind = KVS_OP_SET;
            op.key = op.value = kvs_slice_of("polled");
            op.timeout_ms = 2;
            future = kvs_store_call(store, &op);
        } else if (step == 1) {
            kvs_future_free(future);
            disk_set_silent(false);
            future = kvs_store_close(store);
        }
    }
    kvs_future_free(future);
    kvs_runtime_free(fixture->runtime);
    fixture->runtime = own;
    fixture->store = NULL;
}

/* --- event streams -------------------------------------------------------------------------- */

enum { APPEND, DELETE, READ, METADATA, SET_METADATA, GROUP, SCAVENGE, EVENT_CALLS };

/* On a stream that is there, and a group that is not. */
static kvs_future *start_call(kvs_events *events, int call, const char *name, uint32_t timeout_ms)
{
    const kvs_call_options with_time = {.size = sizeof with_time, .timeout_ms = timeout_ms};
    const kvs_call_options *options = &with_time;
    kvs_slice stream = kvs_slice_of(name);
    const kvs_new_event event = {.id = kvs_event_id_random(), .type = kvs_slice_of("t")};
    const kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    switch (call) {
    case APPEND:
        return kvs_events_append(events, stream, KVS_EXPECT_ANY, &event, 1, options);
    case DELETE:
        return kvs_events_delete(events, stream, KVS_EXPECT_ANY, false, options);
    case READ:
        return kvs_events_read_stream(events, stream, 0, 10, 0, options);
    case METADATA:
        return kvs_events_get_metadata(events, stream, options);
    case SET_METADATA:
        return kvs_events_set_metadata(events, stream, KVS_EXPECT_ANY, kvs_slice_of("{}"), options);
    case GROUP:
        return kvs_events_create_group(events, stream, kvs_slice_of("g"), &settings, options);
    default:
        return kvs_events_scavenge(events, options);
    }
}

static void open_events(struct world *fixture, uint32_t timeout_ms)
{
    char url[96];
    const struct kvs_events_options options = {.size = sizeof options, .timeout_ms = timeout_ms};
    snprintf(url, sizeof url, "log:%s/events", fixture->directory);
    fixture->events = opened_by(kvs_events_open(fixture->runtime, url, &options));
}

/* Reads of what is in memory are answered; all else is given up. */
static void test_event_streams(void **state)
{
    struct world *fixture = *state;
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g"};
    open_events(fixture, 0);
    for (int i = 0; i < 3 * EVENT_CALLS; i++) {
        int call = i / 3;
        const char *name = names[call];
        bool by_time = i % 3 == 1;
        if (i % 3 == 0 || call == DELETE)
            assert_int_equal(wait_and_free(start_call(fixture->events, APPEND, name, 0)), 0);
        if (call >= GROUP && i % 3 != (call == GROUP ? 0 : 1))
            continue;     /* the first may be done, or go on */
        if (i % 3 == 2) { /* a disk that answers */
            int error = wait_and_free(start_call(fixture->events, call, name, PATIENT_MS));
            assert_int_equal(error, 0);
            continue;
        }
        disk_set_silent(true);
        kvs_future *future = start_call(fixture->events, call, name, by_time ? 3 : 0);
        if (!by_time)
            kvs_future_cancel(future);
        int error = kvs_future_wait(future, -1);
        if (call == READ || call == METADATA) /* may be in memory */
            assert_true(error == 0 || error == (by_time ? KVS_ERR_TIMEOUT : KVS_ERR_CANCELLED));
        else
            assert_int_equal(error, KVS_ERR_OUTCOME_UNKNOWN);
        kvs_future_free(future);
        disk_set_silent(false);
    }
    assert_int_equal(wait_and_free(kvs_events_close(fixture->events)), 0);
    open_events(fixture, 3);
    disk_set_silent(true);
    assert_int_equal(wait_and_free(start_call(fixture->events, APPEND, "a", 0)),
                     KVS_ERR_OUTCOME_UNKNOWN);
    disk_set_silent(false);
}

/* --- transactions --------------------------------------------------------------------------- */

enum {
    TXN_GET,
    TXN_BATCH_GET,
    TXN_SCAN,
    TXN_GET_FOR_UPDATE,
    TXN_PUT,
    TXN_LOCK,
    TXN_COMMIT,
    TXN_COMMIT_IN_TWO_PHASES,
    TXN_CALLS
};

static kvs_future *start_txn_call(kvs_txn *txn, int call)
{
    const kvs_slice keys[] = {kvs_slice_of("k1"), kvs_slice_of("k2")};
    switch (call) {
    case TXN_GET:
        return kvs_txn_get(txn, keys[0]);
    case TXN_BATCH_GET:
        return kvs_txn_batch_get(txn, keys, 2);
    case TXN_SCAN:
        return kvs_txn_scan(txn, (kvs_slice){0}, (kvs_slice){0}, 10, 0);
    case TXN_GET_FOR_UPDATE:
        return kvs_txn_get_for_update(txn, keys[0]);
    case TXN_PUT:
        return kvs_txn_put(txn, keys[0], keys[1]);
    case TXN_LOCK:
        return kvs_txn_lock(txn, keys, 2, 0);
    default:
        return kvs_txn_commit(txn);
    }
}

/* k1 and k2 are there, on the disk alone; the store is closed. */
static void write_txn_keys(struct world *fixture)
{
    static const uint8_t large[SEGMENT_SIZE];
    fixture->txn_client = opened_by(kvs_txn_client_on_store(fixture->store));
    kvs_txn *txn = kvs_txn_begin(fixture->txn_client, NULL);
    kvs_future_free(kvs_txn_put(txn, kvs_slice_of("k1"), (kvs_slice){large, 1000}));
    kvs_future_free(kvs_txn_put(txn, kvs_slice_of("k2"), (kvs_slice){large, 1000}));
    assert_int_equal(wait_and_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    assert_int_equal(wait_and_free(kvs_store_set(fixture->store, kvs_slice_of("z"),
                                                 (kvs_slice){large, sizeof large})),
                     0);
    assert_int_equal(wait_and_free(kvs_txn_client_close(fixture->txn_client)), 0);
    fixture->txn_client = NULL;
    assert_int_equal(wait_and_free(kvs_store_close(fixture->store)), 0);
    fixture->store = NULL;
}

static void test_transactions(void **state)
{
    struct world *fixture = *state;
    write_txn_keys(fixture);
    fixture->store = open_store(fixture, 0);
    fixture->txn_client = opened_by(kvs_txn_client_on_store(fixture->store));
    for (int i = 0; i < 2 * TXN_CALLS; i++) {
        int call = i / 2;
        bool by_time = i % 2 == 1;
        bool is_commit = call == TXN_COMMIT || call == TXN_COMMIT_IN_TWO_PHASES;
        const struct kvs_txn_options options = {
            .size = sizeof options,
            .pessimistic = call >= TXN_GET_FOR_UPDATE && !is_commit,
            .no_async_commit = call == TXN_COMMIT_IN_TWO_PHASES,
            .no_one_pc = call == TXN_COMMIT_IN_TWO_PHASES,
        };
        kvs_txn *txn = kvs_txn_begin(fixture->txn_client, &options);
        if (is_commit)
            assert_int_equal(wait_and_free(kvs_txn_put(txn, kvs_slice_of("k3"), kvs_slice_of("v"))),
                             0);
        disk_set_silent(true);
        kvs_future *future = start_txn_call(txn, call);
        disk_await_waiter(); /* it is under way */
        if (by_time)
            future = kvs_future_timeout(future, 1);
        else
            kvs_future_cancel(future);
        int error = kvs_future_wait(future, -1);
        int given_up = by_time ? KVS_ERR_TIMEOUT : KVS_ERR_CANCELLED;
        assert_int_equal(error, call == TXN_COMMIT ? KVS_ERR_OUTCOME_UNKNOWN : given_up);
        kvs_future_free(future);
        if (call == TXN_PUT) { /* what was given up must not happen behind its user's back */
            future = kvs_txn_commit(txn);
            disk_set_silent(false);
            assert_int_equal(wait_and_free(future), KVS_ERR_CANCELLED);
        }
        kvs_txn_free(txn);
        disk_set_silent(false);
    }
}

/* The time that the transaction, or else the client, was given is that of each call. */
static void test_the_time_of_transactions(void **state)
{
    struct world *fixture = *state;
    write_txn_keys(fixture);
    for (int i = 0; i < 2 * TXN_CALLS; i++) {
        int call = i / 2;
        bool by_client = i % 2 == 1;
        bool is_commit = call == TXN_COMMIT || call == TXN_COMMIT_IN_TWO_PHASES;
        const struct kvs_store_options store_options = {.size = sizeof store_options,
                                                        .cache_size_bytes = 1,
                                                        .segment_size_bytes = SEGMENT_SIZE,
                                                        .timeout_ms = by_client ? 3 : PATIENT_MS};
        const struct kvs_txn_options options = {
            .size = sizeof options,
            .timeout_ms = by_client ? 0 : 3,
            .pessimistic = call >= TXN_GET_FOR_UPDATE && !is_commit,
            .no_async_commit = call == TXN_COMMIT_IN_TWO_PHASES,
            .no_one_pc = call == TXN_COMMIT_IN_TWO_PHASES,
        };
        fixture->txn_client =
            opened_by(kvs_txn_client_open(fixture->runtime, fixture->url, &store_options));
        kvs_txn *txn = kvs_txn_begin(fixture->txn_client, &options);
        if (is_commit)
            assert_int_equal(wait_and_free(kvs_txn_put(txn, kvs_slice_of("k3"), kvs_slice_of("v"))),
                             0);
        disk_set_silent(true);
        kvs_future *future = start_txn_call(txn, call);
        int error = kvs_future_wait(future, -1);
        bool may_be_done = call == TXN_COMMIT;
        if (!(error == KVS_ERR_TIMEOUT || (may_be_done && error == KVS_ERR_OUTCOME_UNKNOWN)))
            fail_msg("call %d, by the %s: %s", call, by_client ? "client" : "transaction",
                     kvs_error_text(error));
        kvs_future_free(future);
        kvs_txn_free(txn);
        disk_set_silent(false);
        wait_and_free(kvs_txn_client_close(fixture->txn_client));
        fixture->txn_client = NULL;
    }
}

/* Of a lock, which it would remove; where is none, at any moment, all threads of the pool busy. */
static void test_garbage_collection(void **state)
{
    struct world *fixture = *state;
    fixture->txn_client = opened_by(kvs_txn_client_on_store(fixture->store));
    const struct kvs_txn_options options = {.size = sizeof options, .pessimistic = true};
    kvs_txn *txn = kvs_txn_begin(fixture->txn_client, &options);
    const kvs_slice key = kvs_slice_of("k");
    assert_int_equal(wait_and_free(kvs_txn_lock(txn, &key, 1, 0)), 0);
    int64_t now = 0;
    kvs_future *time = kvs_txn_current_timestamp(fixture->txn_client);
    assert_int_equal(kvs_future_wait(time, -1), 0);
    assert_int_equal(kvs_future_get_number(time, &now), 0);
    kvs_future_free(time);
    disk_set_silent(true);
    kvs_future *future = kvs_txn_gc(fixture->txn_client, (uint64_t)now);
    disk_await_waiter();
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_wait(future, 60000), KVS_ERR_CANCELLED);
    kvs_future_free(future);
    kvs_future *gets[16];
    for (unsigned i = 0; i < 16; i++)
        gets[i] = kvs_store_get(fixture->store, kvs_slice_of("a"));
    for (unsigned i = 0; i < 5000; i++) {
        future = kvs_txn_gc(fixture->txn_client, 1);
        for (volatile unsigned spins = i % 1000 * 4; spins > 0; spins--)
            ;
        kvs_future_cancel(future);
        assert_int_equal(kvs_future_wait(future, 60000), KVS_ERR_CANCELLED);
        kvs_future_free(future);
    }
    disk_set_silent(false);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(wait_and_free(gets[i]), 0);
    kvs_txn_free(txn);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_an_operation_ends_by_its_deadline),
        TEST(test_an_operation_is_cancelled),
        TEST(test_a_future_ends_by_its_deadline_or_is_cancelled),
        TEST(test_what_is_given_up_may_happen_and_close_waits_for_it),
        TEST(test_a_thread_that_waits_reads),
        TEST(test_threads_that_read_leave_room_for_others),
        TEST(test_close_ends_a_compaction),
        TEST(test_the_default_of_a_store),
        TEST(test_results_arrive),
        TEST(test_order),
        TEST(test_refused),
#ifdef KVS_FAULTS
        TEST(test_no_memory),
#endif
        TEST(test_races),
        TEST(test_polled),
        TEST(test_event_streams),
        TEST(test_the_time_of_transactions),
        TEST(test_transactions),
        TEST(test_garbage_collection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
