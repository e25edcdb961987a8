/*
 * runtime/thread_pool.c: what all kinds of pools share: references, jobs, and which pool a thread
 * belongs to. See runtime/thread_pool.h for the life of a pool.
 *
 * A public job is a function and an argument, so it needs a small allocation, which is given back
 * before the function is called: a job that ends its thread leaks nothing.
 */
#include "runtime/thread_pool.h"

#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>

/* Set while a thread works for a pool: the last unref must not wait for the thread it runs on. */
static _Thread_local kvs_thread_pool *current_pool;

int kvs_thread_pool_new(enum kvs_thread_pool_kind kind, unsigned threads,
                        kvs_thread_pool **ret_pool)
{
    if (threads < 1 || threads > POOL_THREADS_MAX || ret_pool == NULL)
        return KVS_ERR_INVALID_ARGUMENT;
    switch (kind) {
    case KVS_THREAD_POOL_SHARED_QUEUE:
        return shared_queue_pool_new(threads, ret_pool);
    case KVS_THREAD_POOL_WORK_STEALING:
        return work_stealing_pool_new(threads, ret_pool);
    case KVS_THREAD_POOL_THREAD_PER_JOB:
        return thread_per_job_pool_new(threads, ret_pool);
    }
    return KVS_ERR_INVALID_ARGUMENT;
}

struct job {
    struct task task;
    kvs_job_fn *run;
    void *arg;
};

static void job_run(struct task *task)
{
    struct job *job = CONTAINER_OF(task, struct job, task);
    kvs_job_fn *run = job->run;
    void *arg = job->arg;
    mem_free(job);
    run(arg);
}

int kvs_thread_pool_submit(kvs_thread_pool *pool, kvs_job_fn *run, void *arg)
{
    if (pool == NULL || run == NULL)
        return KVS_ERR_INVALID_ARGUMENT;
    struct job *job = mem_alloc(sizeof *job);
    if (job == NULL)
        return KVS_ERR_NO_MEMORY;
    *job = (struct job){.task.run = job_run, .run = run, .arg = arg};
    pool_submit_task(pool, &job->task);
    return 0;
}

void pool_submit_task(kvs_thread_pool *pool, struct task *task)
{
    pool->methods->submit(pool, task);
}

bool pool_take_back(kvs_thread_pool *pool, const struct task *task)
{
    return pool->methods->take_back != NULL && pool->methods->take_back(pool, task);
}

unsigned kvs_thread_pool_threads(const kvs_thread_pool *pool)
{
    return pool->threads;
}

kvs_thread_pool *kvs_thread_pool_ref(kvs_thread_pool *pool)
{
    /* relaxed: who adds a reference has one already. */
    unsigned before = atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    assert(before > 0);
    (void)before;
    return pool;
}

void kvs_thread_pool_unref(kvs_thread_pool *pool)
{
    if (pool == NULL)
        return;
    /* acq_rel: what every holder did to the pool happens before the last one closes it. */
    unsigned before = atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before == 1)
        pool->methods->close(pool, pool_is_current(pool));
}

void pool_set_current(kvs_thread_pool *pool)
{
    current_pool = pool;
}

bool pool_is_current(const kvs_thread_pool *pool)
{
    return current_pool == pool;
}
