/*
 * runtime/thread_per_job_pool.c: a fresh thread for every job, at most so many at once.
 *
 * Happy path:
 *   1. submit queues the task and calls the starter, a thread that never runs a job itself;
 *   2. the starter takes a free slot and starts a thread for the task;
 *   3. the job's thread runs it, and reports its slot as ended, also when the job ends the thread
 *      (pthread_exit): the report is a cleanup handler;
 *   4. the starter joins it, and the slot is free again.
 *
 * Failure: when the system has no thread to give, the task goes back to the head of the queue, and
 * the starter tries again when a job has ended, or after a while.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "runtime/thread.h"
#include "runtime/thread_pool.h"

#include <assert.h>
#include <kvs/error.h>

#define RESTART_DELAY_MS 5

struct job_slot {
    struct job_slot *next; /* in the list of free or of ended slots */
    struct thread_per_job_pool *pool;
    struct task *task;
    pthread_t thread;
};

struct thread_per_job_pool {
    kvs_thread_pool pool;
    pthread_t starter;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    struct task_list queue;
    struct job_slot *free;
    struct job_slot *ended;
    unsigned busy; /* slots that are neither free nor joined */
    bool closing;
    bool detached;
    struct job_slot slots[];
};

static void *starter_main(void *arg);
static void thread_per_job_close(kvs_thread_pool *base, bool detached);
static void thread_per_job_free(struct thread_per_job_pool *pool);
static void thread_per_job_submit(kvs_thread_pool *base, struct task *task);

static const struct pool_methods thread_per_job_methods = {
    .submit = thread_per_job_submit,
    .close = thread_per_job_close,
};

static struct thread_per_job_pool *thread_per_job_of(kvs_thread_pool *base)
{
    return CONTAINER_OF(base, struct thread_per_job_pool, pool);
}

int thread_per_job_pool_new(unsigned threads, kvs_thread_pool **ret_pool)
{
    struct thread_per_job_pool *pool = mem_zalloc(sizeof *pool + threads * sizeof pool->slots[0]);
    if (pool == NULL)
        return KVS_ERR_NO_MEMORY;
    pool->pool.methods = &thread_per_job_methods;
    pool->pool.threads = threads;
    atomic_init(&pool->pool.references, 1);
    for (unsigned i = 0; i < threads; i++) {
        pool->slots[i] = (struct job_slot){.next = pool->free, .pool = pool};
        pool->free = &pool->slots[i];
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    int error = thread_start(&pool->starter, "kvs-job", starter_main, pool);
    if (error != 0) {
        thread_per_job_free(pool);
        return error;
    }
    *ret_pool = &pool->pool;
    return 0;
}

static void thread_per_job_submit(kvs_thread_pool *base, struct task *task)
{
    struct thread_per_job_pool *pool = thread_per_job_of(base);
    pthread_mutex_lock(&pool->lock);
    task_list_push(&pool->queue, task);
    if (pool->free != NULL)
        pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

/* Cleanup handler: the job is done, or ends its thread. */
static void job_thread_report(void *arg)
{
    struct job_slot *slot = arg;
    struct thread_per_job_pool *pool = slot->pool;
    pthread_mutex_lock(&pool->lock);
    slot->next = pool->ended;
    pool->ended = slot;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

static void *job_thread_main(void *arg)
{
    struct job_slot *slot = arg;
    pool_set_current(&slot->pool->pool);
    pthread_cleanup_push(job_thread_report, slot);
    slot->task->run(slot->task);
    pthread_cleanup_pop(1);
    return NULL;
}

/* Joins the threads whose jobs have ended. Gives up the lock while it waits for one. */
static void starter_join_ended(struct thread_per_job_pool *pool)
{
    struct job_slot *slot;
    while ((slot = pool->ended) != NULL) {
        pool->ended = slot->next;
        pthread_mutex_unlock(&pool->lock);
        pthread_join(slot->thread, NULL);
        pthread_mutex_lock(&pool->lock);
        slot->next = pool->free;
        pool->free = slot;
        pool->busy--;
    }
}

/* Starts a thread for the first task; false, with the queue as it was, when there is none to have.
 */
static bool starter_start_one(struct thread_per_job_pool *pool)
{
    struct job_slot *slot = pool->free;
    slot->task = task_list_pop(&pool->queue);
    int error = thread_start(&slot->thread, NULL, job_thread_main, slot);
    if (error != 0) {
        struct task_list again = {0};
        task_list_push(&again, slot->task);
        task_list_splice(&again, &pool->queue);
        pool->queue = again;
        return false;
    }
    pool->free = slot->next;
    pool->busy++;
    return true;
}

static void starter_wait_a_little(struct thread_per_job_pool *pool)
{
    uint64_t until_ns = clock_now_ns() + RESTART_DELAY_MS * 1000000u;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    pthread_cond_timedwait(&pool->changed, &pool->lock, &until);
}

static void *starter_main(void *arg)
{
    struct thread_per_job_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        starter_join_ended(pool);
        if (pool->queue.first != NULL && pool->free != NULL) {
            if (!starter_start_one(pool))
                starter_wait_a_little(pool);
        } else if (pool->closing && pool->queue.first == NULL && pool->busy == 0) {
            break;
        } else {
            pthread_cond_wait(&pool->changed, &pool->lock);
        }
    }
    bool detached = pool->detached;
    pthread_mutex_unlock(&pool->lock);
    if (detached) {
        pthread_detach(pthread_self());
        thread_per_job_free(pool);
    }
    return NULL;
}

static void thread_per_job_free(struct thread_per_job_pool *pool)
{
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool);
}

static void thread_per_job_close(kvs_thread_pool *base, bool detached)
{
    struct thread_per_job_pool *pool = thread_per_job_of(base);
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pool->detached = detached;
    pthread_cond_signal(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    if (detached)
        return;
    pthread_join(pool->starter, NULL);
    thread_per_job_free(pool);
}
