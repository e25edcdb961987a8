/*
 * runtime/thread_pool.c and the three kinds behind it: every job runs exactly once, a pool stays as
 * large as it was, references, closing from inside; with faults compiled in, threads and memory
 * that cannot be had.
 */
#include "runtime/thread_pool.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rand.h"
#include "seed.h"

#include <kvs/error.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>

#include "test.h"

#define KINDS 3

static const enum kvs_thread_pool_kind kinds[KINDS] = {
    KVS_THREAD_POOL_SHARED_QUEUE,
    KVS_THREAD_POOL_WORK_STEALING,
    KVS_THREAD_POOL_THREAD_PER_JOB,
};

static kvs_thread_pool *pool_new(int kind, unsigned threads)
{
    kvs_thread_pool *pool = NULL;
    assert_int_equal(kvs_thread_pool_new(kinds[kind], threads, &pool), 0);
    assert_int_equal(kvs_thread_pool_threads(pool), threads);
    return pool;
}

static void test_wrong_arguments(void **state)
{
    (void)state;
    kvs_thread_pool *pool = NULL;
    for (int kind = 0; kind < KINDS; kind++) {
        assert_int_equal(kvs_thread_pool_new(kinds[kind], 0, &pool), KVS_ERR_INVALID_ARGUMENT);
        assert_int_equal(kvs_thread_pool_new(kinds[kind], POOL_THREADS_MAX + 1, &pool),
                         KVS_ERR_INVALID_ARGUMENT);
    }
    assert_int_equal(kvs_thread_pool_new((enum kvs_thread_pool_kind)77, 1, &pool),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_null(pool);
    kvs_thread_pool_unref(NULL);
    pool = pool_new(0, 1);
    assert_int_equal(kvs_thread_pool_submit(pool, NULL, NULL), KVS_ERR_INVALID_ARGUMENT);
    kvs_thread_pool_unref(pool);
}

/* Counts how often each job ran. */
struct counted {
    struct task task;
    atomic_uint runs;
    pthread_t thread;
};

static void counted_run(struct task *task)
{
    struct counted *counted = CONTAINER_OF(task, struct counted, task);
    counted->thread = pthread_self();
    atomic_fetch_add(&counted->runs, 1);
}

static void test_tasks_run_once_and_close_drains(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static struct counted counted[COUNT];
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_thread_pool *pool = pool_new(kind, 3);
        for (int i = 0; i < COUNT; i++) {
            counted[i] = (struct counted){.task.run = counted_run};
            pool_submit_task(pool, &counted[i].task);
        }
        kvs_thread_pool_unref(pool);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(counted[i].runs, 1);
            assert_false(pthread_equal(counted[i].thread, pthread_self()));
        }
    }
}

/* One queue, one thread: the order of submission is the order of running. */
struct ordered {
    atomic_uint next;
    atomic_uint wrong;
};

struct ordered_task {
    struct task task;
    struct ordered *ordered;
    unsigned number;
};

static void ordered_run(struct task *task)
{
    struct ordered_task *one = CONTAINER_OF(task, struct ordered_task, task);
    if (atomic_fetch_add(&one->ordered->next, 1) != one->number)
        atomic_fetch_add(&one->ordered->wrong, 1);
}

static void test_one_thread_keeps_the_order(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct ordered_task tasks[COUNT];
    for (int kind = 0; kind < KINDS; kind++) {
        struct ordered ordered = {0};
        kvs_thread_pool *pool = pool_new(kind, 1);
        for (unsigned i = 0; i < COUNT; i++) {
            tasks[i] = (struct ordered_task){{.run = ordered_run}, &ordered, i};
            pool_submit_task(pool, &tasks[i].task);
        }
        kvs_thread_pool_unref(pool);
        assert_int_equal(ordered.next, COUNT);
        assert_int_equal(ordered.wrong, 0);
    }
}

/* Jobs that meet: each waits until all threads of the pool are inside one at the same time. */
struct meeting {
    pthread_barrier_t barrier;
    atomic_uint met;
};

static void meeting_run(void *arg)
{
    struct meeting *meeting = arg;
    pthread_barrier_wait(&meeting->barrier);
    atomic_fetch_add(&meeting->met, 1);
}

/* Fails by hanging (the test's time limit) when the pool has fewer threads than it should. */
static void meet(kvs_thread_pool *pool, unsigned times)
{
    unsigned threads = kvs_thread_pool_threads(pool);
    struct meeting meeting = {0};
    pthread_barrier_init(&meeting.barrier, NULL, threads + 1);
    for (unsigned i = 0; i < times; i++) {
        for (unsigned j = 0; j < threads; j++)
            assert_int_equal(kvs_thread_pool_submit(pool, meeting_run, &meeting), 0);
        pthread_barrier_wait(&meeting.barrier);
    }
    while (atomic_load(&meeting.met) < times * threads)
        sched_yield();
    pthread_barrier_destroy(&meeting.barrier);
}

static void hold(void *arg)
{
    sem_wait(arg);
}

/* What no thread has begun can be taken back, from the begin, the middle and the end of a queue. */
static void test_tasks_are_taken_back(void **state)
{
    (void)state;
    enum { COUNT = 20 };
    static struct counted counted[COUNT];
    sem_t gate;
    sem_init(&gate, 0, 0);
    kvs_thread_pool *pool = pool_new(0, 1);
    assert_int_equal(kvs_thread_pool_submit(pool, hold, &gate), 0);
    for (int i = 0; i < COUNT; i++)
        counted[i] = (struct counted){.task.run = counted_run};
    for (int i = 0; i < COUNT; i++)
        pool_submit_task(pool, &counted[i].task);
    bool gone[COUNT] = {0};
    assert_false(pool_take_back(pool, &counted[COUNT - 1].task)); /* too far back */
    const int order[] = {0, 7, 8, 1, 16, 17};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        assert_true(pool_take_back(pool, &counted[order[i]].task));
        assert_false(pool_take_back(pool, &counted[order[i]].task));
        gone[order[i]] = true;
    }
    assert_true(pool_take_back(pool, &counted[COUNT - 1].task)); /* the last: one comes behind it */
    pool_submit_task(pool, &counted[COUNT - 1].task);
    sem_post(&gate);
    kvs_thread_pool_unref(pool);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(counted[i].runs, !gone[i]);
    sem_destroy(&gate);
}

static void test_all_threads_work_at_once(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_thread_pool *pool = pool_new(kind, 8);
        meet(pool, 20);
        kvs_thread_pool_unref(pool);
    }
}

/* The jobs of one submitting job all land in its thread's own queue; that thread then blocks in the
 * first of them, so the others must come and take the rest. */
static void fan_out_run(void *arg)
{
    void **args = arg;
    kvs_thread_pool *pool = args[0];
    for (unsigned i = 0; i < kvs_thread_pool_threads(pool); i++)
        kvs_thread_pool_submit(pool, meeting_run, args[1]);
}

static void test_idle_threads_take_work_of_a_busy_one(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_thread_pool *pool = pool_new(kind, 6);
        for (int round = 0; round < 50; round++) {
            struct meeting meeting = {0};
            pthread_barrier_init(&meeting.barrier, NULL, 6);
            void *args[] = {pool, &meeting};
            assert_int_equal(kvs_thread_pool_submit(pool, fan_out_run, args), 0);
            while (atomic_load(&meeting.met) < 6)
                sched_yield();
            pthread_barrier_destroy(&meeting.barrier);
        }
        kvs_thread_pool_unref(pool);
    }
}

static atomic_uint exits, destructors;
static pthread_key_t exit_key;

static void exit_key_destroy(void *value)
{
    (void)value;
    atomic_fetch_add(&destructors, 1);
}

static void exiting_run(void *arg)
{
    (void)arg;
    pthread_setspecific(exit_key, &exit_key);
    atomic_fetch_add(&exits, 1);
    pthread_exit(NULL);
}

static void test_job_that_ends_its_thread(void **state)
{
    (void)state;
    pthread_key_create(&exit_key, exit_key_destroy);
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_thread_pool *pool = pool_new(kind, 4);
        atomic_store(&exits, 0);
        atomic_store(&destructors, 0);
        for (int i = 0; i < 40; i++) {
            assert_int_equal(kvs_thread_pool_submit(pool, exiting_run, NULL), 0);
            if (i % 10 == 0)
                meet(pool, 1);
        }
        meet(pool, 2);
        for (int i = 0; i < 10; i++) /* some are still queued when the pool closes */
            assert_int_equal(kvs_thread_pool_submit(pool, exiting_run, NULL), 0);
        kvs_thread_pool_unref(pool);
        assert_int_equal(exits, 50);
        assert_int_equal(destructors, 50); /* the threads are gone, not only accounted for */
    }
    pthread_key_delete(exit_key);
}

/* Ends its thread with tasks left in that thread's own queue. */
static void submit_and_exit_run(void *arg)
{
    void **args = arg;
    for (int i = 0; i < 20; i++)
        pool_submit_task(args[0], &((struct counted *)args[1])[i].task);
    pthread_exit(NULL);
}

static void test_queue_of_an_ended_thread_is_run(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        for (unsigned threads = 1; threads <= 2; threads++) {
            struct counted counted[20];
            for (int i = 0; i < 20; i++)
                counted[i] = (struct counted){.task.run = counted_run};
            kvs_thread_pool *pool = pool_new(kind, threads);
            void *args[] = {pool, counted};
            assert_int_equal(kvs_thread_pool_submit(pool, submit_and_exit_run, args), 0);
            kvs_thread_pool_unref(pool);
            for (int i = 0; i < 20; i++)
                assert_int_equal(counted[i].runs, 1);
        }
    }
}

/* A tree of jobs: each submits two until the depth is reached. */
struct tree {
    kvs_thread_pool *pool;
    atomic_uint leaves;
};

struct tree_job {
    struct tree *tree;
    int depth;
};

static void tree_run(void *arg)
{
    struct tree_job *job = arg;
    if (job->depth == 0) {
        atomic_fetch_add(&job->tree->leaves, 1);
    } else {
        for (int i = 0; i < 2; i++) {
            struct tree_job *child = mem_alloc(sizeof *child);
            *child = (struct tree_job){job->tree, job->depth - 1};
            kvs_thread_pool_submit(job->tree->pool, tree_run, child);
        }
    }
    mem_free(job);
}

static void test_close_waits_for_jobs_of_jobs(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        struct tree tree = {.pool = pool_new(kind, 4)};
        struct tree_job *root = mem_alloc(sizeof *root);
        *root = (struct tree_job){&tree, kind == 2 ? 6 : 11};
        assert_int_equal(kvs_thread_pool_submit(tree.pool, tree_run, root), 0);
        kvs_thread_pool_unref(tree.pool);
        assert_int_equal(tree.leaves, kind == 2 ? 64 : 2048);
    }
}

/* 100 threads share a pool, each with its own reference, and submit at random; some jobs end their
 * thread, some submit another job. */
#define SHARERS 100
#define SHARER_JOBS 60

static struct {
    kvs_thread_pool *pool;
    atomic_uint runs;
    _Atomic uint64_t seed; /* of the next thread */
} shared;

static void shared_run(void *arg)
{
    atomic_fetch_add(&shared.runs, 1);
    uint64_t dice = (uint64_t)(uintptr_t)arg;
    if (dice % 16 == 0)
        kvs_thread_pool_submit(shared.pool, shared_run, (void *)(uintptr_t)3);
    if (dice % 64 == 5)
        pthread_exit(NULL);
}

static void *sharer_main(void *arg)
{
    kvs_thread_pool *pool = arg;
    struct rand rand = rand_seed(atomic_fetch_add(&shared.seed, 1));
    unsigned expected = 0;
    for (int i = 0; i < SHARER_JOBS; i++) {
        uint64_t dice = rand_below(&rand, 1000);
        if (kvs_thread_pool_submit(pool, shared_run, (void *)(uintptr_t)dice) == 0)
            expected += dice % 16 == 0 ? 2 : 1;
    }
    kvs_thread_pool_unref(pool);
    return (void *)(uintptr_t)expected;
}

static void test_hundred_threads_share_a_pool(void **state)
{
    (void)state;
    atomic_store(&shared.seed, test_seed());
    for (int kind = 0; kind < KINDS; kind++) {
        shared.pool = pool_new(kind, 4);
        atomic_store(&shared.runs, 0);
        pthread_t threads[SHARERS];
        for (int i = 0; i < SHARERS; i++)
            assert_int_equal(
                pthread_create(&threads[i], NULL, sharer_main, kvs_thread_pool_ref(shared.pool)),
                0);
        unsigned expected = 0;
        for (int i = 0; i < SHARERS; i++) {
            void *one;
            pthread_join(threads[i], &one);
            expected += (unsigned)(uintptr_t)one;
        }
        meet(shared.pool, 1);
        kvs_thread_pool_unref(shared.pool);
        assert_int_equal(shared.runs, expected);
    }
}

/* The last reference is given back by a job of the pool; jobs behind it still run. */
struct inner {
    kvs_thread_pool *pool;
    sem_t go;
    atomic_uint runs;
};

static void inner_count(void *arg)
{
    struct inner *inner = arg;
    atomic_fetch_add(&inner->runs, 1);
}

static void inner_unref(void *arg)
{
    struct inner *inner = arg;
    while (sem_wait(&inner->go) != 0) {
    }
    for (int i = 0; i < 10; i++)
        kvs_thread_pool_submit(inner->pool, inner_count, inner);
    kvs_thread_pool_unref(inner->pool);
    atomic_fetch_add(&inner->runs, 1);
}

static void inner_unref_and_exit(void *arg)
{
    inner_unref(arg);
    pthread_exit(NULL);
}

static void test_last_reference_in_a_job(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS * 4; i++) {
        struct inner inner = {.pool = pool_new(i % KINDS, i % 2 == 0 ? 1 : 4)};
        sem_init(&inner.go, 0, 0);
        kvs_job_fn *run = i < KINDS * 2 ? inner_unref : inner_unref_and_exit;
        assert_int_equal(kvs_thread_pool_submit(inner.pool, run, &inner), 0);
        for (int j = 0; j < 10; j++)
            assert_int_equal(kvs_thread_pool_submit(inner.pool, inner_count, &inner), 0);
        sem_post(&inner.go); /* from here on the pool is the job's */
        while (atomic_load(&inner.runs) < 21)
            sched_yield();
        sem_destroy(&inner.go);
    }
}

#ifdef KVS_FAULTS

static void test_no_memory_no_threads(void **state)
{
    (void)state;
    const enum fault_kind faults[] = {FAULT_ALLOC, FAULT_THREAD_START};
    for (int kind = 0; kind < KINDS; kind++) {
        for (int fault = 0; fault < 2; fault++) {
            for (uint64_t at = 1;; at++) {
                kvs_thread_pool *pool = NULL;
                fault_reset();
                fault_arm(faults[fault], at, false);
                int error = kvs_thread_pool_new(kinds[kind], 3, &pool);
                bool failed = fault_fired() > 0;
                fault_reset();
                if (!failed) {
                    assert_int_equal(error, 0);
                    kvs_thread_pool_unref(pool);
                    break;
                }
                assert_int_equal(error, KVS_ERR_NO_MEMORY);
                assert_null(pool);
            }
        }
    }
}

static void test_job_without_memory(void **state)
{
    (void)state;
    kvs_thread_pool *pool = pool_new(0, 1);
    fault_arm(FAULT_ALLOC, 1, false);
    assert_int_equal(kvs_thread_pool_submit(pool, inner_count, NULL), KVS_ERR_NO_MEMORY);
    fault_reset();
    kvs_thread_pool_unref(pool);
}

/* No thread is to be had for a while, when a job has ended its own, or needs its own. */
static void test_threads_come_back_later(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_thread_pool *pool = pool_new(kind, 2);
        fault_reset();
        fault_arm(FAULT_THREAD_START, 1, true);
        for (int i = 0; i < 4; i++)
            assert_int_equal(kvs_thread_pool_submit(pool, exiting_run, NULL), 0);
        while (fault_fired() < 3)
            sched_yield();
        fault_reset();
        meet(pool, 3);
        kvs_thread_pool_unref(pool);
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_arguments),
        cmocka_unit_test(test_tasks_run_once_and_close_drains),
        cmocka_unit_test(test_one_thread_keeps_the_order),
        cmocka_unit_test(test_tasks_are_taken_back),
        cmocka_unit_test(test_all_threads_work_at_once),
        cmocka_unit_test(test_idle_threads_take_work_of_a_busy_one),
        cmocka_unit_test(test_job_that_ends_its_thread),
        cmocka_unit_test(test_queue_of_an_ended_thread_is_run),
        cmocka_unit_test(test_close_waits_for_jobs_of_jobs),
        cmocka_unit_test(test_hundred_threads_share_a_pool),
        cmocka_unit_test(test_last_reference_in_a_job),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_no_memory_no_threads),
        cmocka_unit_test(test_job_without_memory),
        cmocka_unit_test(test_threads_come_back_later),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
