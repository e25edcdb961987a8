/*
 * runtime/shared_queue_pool.c: a crew that takes tasks from one queue, in order of submission.
 *
 * Happy path:
 *   1. submit appends the task under the lock; if more threads sleep than have been called, it
 *      calls one;
 *   2. a thread takes the first task, and runs it without the lock;
 *   3. with nothing queued it sleeps on the condition.
 * Calls are counted, so that a burst of submissions wakes as many threads as there is work for, and
 * a thread that was called but does not run yet is not called again: it will find the queue.
 */
#include "base/mem.h"
#include "runtime/crew.h"
#include "runtime/thread_pool.h"

#include <kvs/error.h>

struct shared_queue_pool {
    kvs_thread_pool pool;
    struct crew crew;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t filled;
    struct task_list queue;
    unsigned sleeping;
    unsigned called; /* of the sleeping ones */
    bool closing;
};

static void shared_queue_work(kvs_thread_pool *base, unsigned index);
static void shared_queue_close(kvs_thread_pool *base, bool detached);
static void shared_queue_submit(kvs_thread_pool *base, struct task *task);
static bool shared_queue_take_back(kvs_thread_pool *base, const struct task *task);

static const struct pool_methods shared_queue_methods = {
    .submit = shared_queue_submit,
    .take_back = shared_queue_take_back,
    .close = shared_queue_close,
};

static struct shared_queue_pool *shared_queue_of(kvs_thread_pool *base)
{
    return CONTAINER_OF(base, struct shared_queue_pool, pool);
}

int shared_queue_pool_new(unsigned threads, kvs_thread_pool **ret_pool)
{
    struct shared_queue_pool *pool = mem_zalloc(sizeof *pool);
    if (pool == NULL)
        return KVS_ERR_NO_MEMORY;
    pool->pool.methods = &shared_queue_methods;
    pool->pool.threads = threads;
    atomic_init(&pool->pool.references, 1);
    int error = crew_init(&pool->crew, &pool->pool, threads, shared_queue_work);
    if (error != 0) {
        mem_free(pool);
        return error;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->filled, NULL);
    error = crew_start(&pool->crew, threads);
    if (error != 0) {
        shared_queue_close(&pool->pool, false);
        return error;
    }
    *ret_pool = &pool->pool;
    return 0;
}

static void shared_queue_submit(kvs_thread_pool *base, struct task *task)
{
    struct shared_queue_pool *pool = shared_queue_of(base);
    pthread_mutex_lock(&pool->lock);
    task_list_push(&pool->queue, task);
    bool call = pool->sleeping > pool->called;
    if (call) {
        pool->called++;
        pthread_cond_signal(&pool->filled);
    }
    pthread_mutex_unlock(&pool->lock);
}

#define TAKE_BACK_WITHIN 16u /* tasks looked at: the lock is everybody's */

/* A thread that was called for it finds nothing, and sleeps again. */
static bool shared_queue_take_back(kvs_thread_pool *base, const struct task *task)
{
    struct shared_queue_pool *pool = shared_queue_of(base);
    pthread_mutex_lock(&pool->lock);
    bool taken = task_list_remove(&pool->queue, task, TAKE_BACK_WITHIN);
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

/* The next task; NULL when the pool is closing and none is left. */
static struct task *shared_queue_take(struct shared_queue_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->queue.first == NULL && !pool->closing) {
        pool->sleeping++;
        pthread_cond_wait(&pool->filled, &pool->lock);
        pool->sleeping--;
        /* Whoever wakes answers a call, even if it was meant for another: that one wakes too. */
        if (pool->called > 0)
            pool->called--;
    }
    struct task *task = task_list_pop(&pool->queue);
    pthread_mutex_unlock(&pool->lock);
    return task;
}

static void shared_queue_work(kvs_thread_pool *base, unsigned index)
{
    (void)index;
    struct shared_queue_pool *pool = shared_queue_of(base);
    struct task *task;
    while ((task = shared_queue_take(pool)) != NULL)
        task->run(task);
}

static void shared_queue_free(kvs_thread_pool *base)
{
    struct shared_queue_pool *pool = shared_queue_of(base);
    crew_deinit(&pool->crew);
    pthread_cond_destroy(&pool->filled);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

static void shared_queue_close(kvs_thread_pool *base, bool detached)
{
    struct shared_queue_pool *pool = shared_queue_of(base);
    if (detached)
        crew_detach(&pool->crew, shared_queue_free);
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->filled);
    pthread_mutex_unlock(&pool->lock);
    if (detached)
        return;
    crew_join(&pool->crew);
    shared_queue_free(base);
}
