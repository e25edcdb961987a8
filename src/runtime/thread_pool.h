/*
 * runtime/thread_pool.h: pools as the other layers use them (tasks instead of jobs), and the small
 * table of methods behind which the three kinds stand.
 *
 * A task is embedded in what it works on, so handing it over allocates nothing and cannot fail. Its
 * memory stays the embedder's, who may free it inside task->run.
 *
 * The life of a pool:
 *   1. new makes the kind's structure and its threads, with one reference;
 *   2. submit queues a task and wakes a thread when that is needed;
 *   3. the last unref, outside the pool, calls close: the threads run what is queued, end, are
 *      joined, and the structure is freed;
 *   4. the last unref inside a job of the pool calls close with `detached`: it returns at once, and
 *      the last thread that leaves frees the structure.
 */
#ifndef RUNTIME_THREAD_POOL_H
#define RUNTIME_THREAD_POOL_H

#include "runtime/task.h"

#include <kvs/thread_pool.h>

#include <stdatomic.h>
#include <stdbool.h>

#define POOL_THREADS_MAX 1024u

/* Has task->run called on a thread of the pool, never inside this call. Any thread that holds a
 * reference, and any job of the pool. */
void pool_submit_task(kvs_thread_pool *pool, struct task *task);

/* Takes back a task that no thread has begun: true, then it is the caller's again. False: one has,
 * it never was here, or it cannot be found soon. Any thread that holds a reference. */
bool pool_take_back(kvs_thread_pool *pool, const struct task *task);

/* Is this a thread of the pool, inside a job? */
bool pool_is_current(const kvs_thread_pool *pool);

/* --- for the kinds ---------------------------------------------------------------------------- */

struct pool_methods {
    void (*submit)(kvs_thread_pool *pool, struct task *task);
    bool (*take_back)(kvs_thread_pool *pool, const struct task *task); /* NULL: never */
    void (*close)(kvs_thread_pool *pool, bool detached); /* frees the pool, see above */
};

/* First member of each kind's structure. */
struct kvs_thread_pool {
    const struct pool_methods *methods;
    unsigned threads;
    atomic_uint references;
    atomic_uint helpers; /* threads of others that do what waits here; zero at first */
};

/* Each makes a pool with all its threads, or none. 0 or NO_MEMORY. */
int shared_queue_pool_new(unsigned threads, kvs_thread_pool **ret_pool);
int work_stealing_pool_new(unsigned threads, kvs_thread_pool **ret_pool);
int thread_per_job_pool_new(unsigned threads, kvs_thread_pool **ret_pool);

/* Marks the calling thread as one of the pool (NULL: of none any more). */
void pool_set_current(kvs_thread_pool *pool);

#endif
