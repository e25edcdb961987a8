/*
 * kvs/thread_pool.h: pools of threads for work that may block.
 *
 * Three kinds stand behind one interface, so that a program can choose by measurement:
 *   thread per job   a new thread for every job, at most `threads` at once (further jobs wait)
 *   shared queue     a fixed set of threads that take jobs from one queue, in order of submission
 *   work stealing    a fixed set of threads, each with a queue; an idle thread takes from others
 *
 * A pool is reference-counted: many threads and runtimes may share one. Jobs are run exactly once.
 */
#ifndef KVS_THREAD_POOL_H
#define KVS_THREAD_POOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_thread_pool kvs_thread_pool;

enum kvs_thread_pool_kind {
    KVS_THREAD_POOL_SHARED_QUEUE = 0,
    KVS_THREAD_POOL_WORK_STEALING = 1,
    KVS_THREAD_POOL_THREAD_PER_JOB = 2,
};

/*
 * A job. It may block, submit more jobs, and even end its thread with pthread_exit: the pool then
 * starts another thread, so it stays as large as it was. It must not be cancelled from outside.
 */
typedef void kvs_job_fn(void *arg);

/*
 * Makes a pool of `threads` threads (1..1024) with one reference, which the caller owns.
 * Errors: KVS_ERR_INVALID_ARGUMENT, KVS_ERR_NO_MEMORY (no thread could be started).
 */
int kvs_thread_pool_new(enum kvs_thread_pool_kind kind, unsigned threads,
                        kvs_thread_pool **ret_pool);

/*
 * Hands a job to the pool; never runs it inside the call. Any thread, also a thread of the pool.
 * Errors: KVS_ERR_NO_MEMORY; the job then never runs.
 */
int kvs_thread_pool_submit(kvs_thread_pool *pool, kvs_job_fn *run, void *arg);

/* Number of threads that the pool keeps. Any thread. */
unsigned kvs_thread_pool_threads(const kvs_thread_pool *pool);

/* One more reference; returns its argument. Any thread that holds one. */
kvs_thread_pool *kvs_thread_pool_ref(kvs_thread_pool *pool);

/*
 * Gives a reference back. The last one waits until all jobs submitted before have run, then frees
 * the pool; when the last one is given back by a job of the pool itself, the pool is freed as soon
 * as that job and the rest have ended. NULL is allowed.
 */
void kvs_thread_pool_unref(kvs_thread_pool *pool);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
