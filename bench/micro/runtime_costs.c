/*
 * bench/micro/runtime_costs.c: what a job costs in each kind of pool, and what futures cost. Each
 * figure is the best of several runs, since other work on the machine can only add to it.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/future.h"
#include "runtime/runtime.h"
#include "runtime/thread_pool.h"

#include <semaphore.h>
#include <stdio.h>

#define RUNS 5
#define THREADS 4

static kvs_thread_pool *pool;
static kvs_runtime *runtime;
static atomic_ulong jobs_run;
static sem_t done;

/* Best nanoseconds of one of `count` under `run`. */
static double best_ns(void (*run)(unsigned long count), unsigned long count)
{
    double best = 0;
    for (int i = 0; i < RUNS; i++) {
        uint64_t begin_ns = clock_now_ns();
        run(count);
        double ns = (double)(clock_now_ns() - begin_ns) / (double)count;
        if (i == 0 || ns < best)
            best = ns;
    }
    return best;
}

static void done_wait(void)
{
    while (sem_wait(&done) != 0) {
    }
}

/* --- pools --- */

static enum kvs_thread_pool_kind kind;

static void pool_open(void)
{
    if (kvs_thread_pool_new(kind, THREADS, &pool) != 0)
        fprintf(stderr, "no pool\n");
}

static void job_nothing(void *arg)
{
    (void)arg;
    atomic_fetch_add_explicit(&jobs_run, 1, memory_order_relaxed);
}

static void job_tell(void *arg)
{
    (void)arg;
    sem_post(&done);
}

/* Submits the two halves of what is left, so that all work comes from the pool's own threads. */
static void job_split(void *arg)
{
    uintptr_t left = (uintptr_t)arg - 1;
    atomic_fetch_add_explicit(&jobs_run, 1, memory_order_relaxed);
    if (left / 2 > 0)
        kvs_thread_pool_submit(pool, job_split, (void *)(left / 2));
    if (left - left / 2 > 0)
        kvs_thread_pool_submit(pool, job_split, (void *)(left - left / 2));
}

static void jobs_from_outside(unsigned long count)
{
    pool_open();
    for (unsigned long i = 0; i < count; i++)
        kvs_thread_pool_submit(pool, job_nothing, NULL);
    kvs_thread_pool_unref(pool);
}

static void task_nothing(struct task *task)
{
    (void)task;
    atomic_fetch_add_explicit(&jobs_run, 1, memory_order_relaxed);
}

static void tasks_from_outside(unsigned long count)
{
    struct task *tasks = mem_alloc(count * sizeof *tasks);
    pool_open();
    for (unsigned long i = 0; tasks != NULL && i < count; i++) {
        tasks[i].run = task_nothing;
        pool_submit_task(pool, &tasks[i]);
    }
    kvs_thread_pool_unref(pool);
    mem_free(tasks);
}

static void jobs_from_jobs(unsigned long count)
{
    pool_open();
    kvs_thread_pool_submit(pool, job_split, (void *)count);
    kvs_thread_pool_unref(pool);
}

static void jobs_one_by_one(unsigned long count)
{
    pool_open();
    for (unsigned long i = 0; i < count; i++) {
        kvs_thread_pool_submit(pool, job_tell, NULL);
        done_wait();
    }
    kvs_thread_pool_unref(pool);
}

static void measure_pools(void)
{
    static const char *const names[] = {"shared queue", "work stealing", "thread per job"};
    printf("%d threads, thousand jobs a second; microseconds from submit to done\n", THREADS);
    printf("%-16s%10s%10s%10s%14s\n", "", "tasks", "jobs", "of jobs", "one by one");
    for (int i = 0; i < 3; i++) {
        kind = (enum kvs_thread_pool_kind)i;
        unsigned long count = kind == KVS_THREAD_POOL_THREAD_PER_JOB ? 5000 : 500000;
        double tasks = best_ns(tasks_from_outside, count);
        double jobs = best_ns(jobs_from_outside, count);
        double of_jobs = best_ns(jobs_from_jobs, count);
        double one_by_one = best_ns(jobs_one_by_one, count / 50);
        printf("%-16s%10.0f%10.0f%10.0f%14.1f\n", names[i], 1e6 / tasks, 1e6 / jobs, 1e6 / of_jobs,
               one_by_one / 1e3);
    }
}

/* --- futures --- */

static const struct future_methods plain_methods = {.payload_size = 64};

static kvs_future *plain_new(void)
{
    return future_new(runtime, NULL, &plain_methods);
}

static void on_ready(kvs_future *future, void *arg)
{
    (void)arg;
    kvs_future_free(future);
    sem_post(&done);
}

static void job_complete(void *future)
{
    future_complete(future, 0);
}

static kvs_future *then_itself(kvs_future *future, void *arg)
{
    (void)arg;
    return future;
}

static void futures_here(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        kvs_future *future = plain_new();
        future_complete(future, 0);
        kvs_future_wait(future, -1);
        kvs_future_free(future);
    }
}

static void futures_by_pool(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        kvs_future *future = plain_new();
        kvs_thread_pool_submit(kvs_runtime_pool(runtime), job_complete, future);
        kvs_future_wait(future, -1);
        kvs_future_free(future);
    }
}

static void callbacks_one_by_one(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        kvs_future *future = plain_new();
        kvs_future_on_ready(future, on_ready, NULL);
        future_complete(future, 0);
        done_wait();
    }
}

static void callbacks_streamed(unsigned long count)
{
    for (unsigned long i = 0; i < count; i++) {
        kvs_future *future = plain_new();
        kvs_future_on_ready(future, on_ready, NULL);
        future_complete(future, 0);
    }
    for (unsigned long i = 0; i < count; i++)
        done_wait();
}

#define CHAIN 100

static void chains_of_then(unsigned long count)
{
    for (unsigned long i = 0; i < count / CHAIN; i++) {
        kvs_future *first = plain_new();
        kvs_future *future = first;
        for (int j = 0; j < CHAIN; j++)
            future = kvs_future_then(future, then_itself, NULL);
        future_complete(first, 0);
        kvs_future_wait(future, -1);
        kvs_future_free(future);
    }
}

static void measure_futures(void)
{
    printf("\nnanoseconds a future\n");
    printf("%-48s%8.0f\n", "made, completed, waited for, freed on one thread",
           best_ns(futures_here, 500000));
    printf("%-48s%8.0f\n", "completed by the pool, waited for", best_ns(futures_by_pool, 20000));
    printf("%-48s%8.0f\n", "callback on a loop, one by one", best_ns(callbacks_one_by_one, 20000));
    printf("%-48s%8.0f\n", "callback on a loop, streamed", best_ns(callbacks_streamed, 200000));
    printf("%-48s%8.0f\n", "then, a link of a chain of 100", best_ns(chains_of_then, 100000));
}

int main(void)
{
    sem_init(&done, 0, 0);
    if (kvs_runtime_new(NULL, &runtime) != 0)
        return 1;
    measure_pools();
    measure_futures();
    kvs_runtime_free(runtime);
    return 0;
}
