/*
 * runtime/work_stealing_pool.c: a crew in which every thread has a queue of its own, and takes from
 * the others when that is empty.
 *
 * Happy path:
 *   1. a job submits to its own thread's queue, anybody else to the queues in turn;
 *   2. if no thread is searching already, and one is parked, it is called;
 *   3. a thread runs its own queue, oldest first, so that a job that submits itself again starves
 *      nobody; for the same reason it looks at the others' queues now and then;
 *   4. with its own queue empty it searches: it takes half of some other queue (the oldest tasks,
 *      at most STEAL_MAX), keeps the first and queues the rest as its own;
 *   5. with nothing found anywhere it parks.
 *
 * A queue is a chain under a lock of its own, so it has no bound and needs no memory; the lock is
 * nearly always free, which makes it as cheap as the compare-and-swap it replaces.
 *
 * Why no wake-up is lost. All accesses named here are sequentially consistent.
 *   - A submitter first counts its task in, then reads `searching`, then `parked`.
 *   - A thread that parks first raises `parked`, then lowers `searching`, then reads all counts.
 *   So either the submitter sees that nobody searches any more, and then sees the parked thread and
 *   calls it; or the thread, lowering `searching` after that, sees the task. A searcher that stops
 *   because it found something calls another one if it was the last, and there is more.
 */
#include "base/mem.h"
#include "base/rand.h"
#include "runtime/crew.h"
#include "runtime/thread_pool.h"

#include <kvs/error.h>

#define STEAL_MAX 32u
#define STEAL_EVERY 64u /* runs of an own task between two looks at the others */
#define CACHE_LINE 64

struct deque {
    _Alignas(CACHE_LINE) pthread_mutex_t lock;
    struct task_list list;
    atomic_size_t count; /* written under the lock, read by anybody */
    /* the owner's */
    struct rand rand;
    unsigned ticks;
};

struct work_stealing_pool {
    kvs_thread_pool pool;
    struct crew crew;
    struct deque *deques;
    _Alignas(CACHE_LINE) atomic_uint next; /* deque for the next task from outside */
    _Alignas(CACHE_LINE) atomic_uint searching;
    atomic_uint parked;
    atomic_bool closing;
    pthread_mutex_t park_lock; /* guards calls */
    pthread_cond_t called;
    unsigned calls; /* of parked threads, not answered yet; each counts as searching already */
};

static void work_stealing_work(kvs_thread_pool *base, unsigned index);
static void work_stealing_close(kvs_thread_pool *base, bool detached);
static void work_stealing_free(kvs_thread_pool *base);
static void work_stealing_submit(kvs_thread_pool *base, struct task *task);

static const struct pool_methods work_stealing_methods = {
    .submit = work_stealing_submit,
    .close = work_stealing_close,
};

/* Valid on threads of a work stealing pool: pool_is_current says of which. */
static _Thread_local unsigned own_index;

static struct work_stealing_pool *work_stealing_of(kvs_thread_pool *base)
{
    return CONTAINER_OF(base, struct work_stealing_pool, pool);
}

static int work_stealing_init(struct work_stealing_pool *pool, unsigned threads)
{
    pool->pool.methods = &work_stealing_methods;
    pool->pool.threads = threads;
    atomic_init(&pool->pool.references, 1);
    pool->deques = mem_aligned_alloc(CACHE_LINE, threads * sizeof *pool->deques);
    if (pool->deques == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = crew_init(&pool->crew, &pool->pool, threads, work_stealing_work);
    if (error != 0) {
        mem_free(pool->deques);
        return error;
    }
    for (unsigned i = 0; i < threads; i++) {
        pool->deques[i] = (struct deque){.rand = rand_seed(i)};
        pthread_mutex_init(&pool->deques[i].lock, NULL);
    }
    pthread_mutex_init(&pool->park_lock, NULL);
    pthread_cond_init(&pool->called, NULL);
    return 0;
}

int work_stealing_pool_new(unsigned threads, kvs_thread_pool **ret_pool)
{
    struct work_stealing_pool *pool = mem_aligned_alloc(CACHE_LINE, sizeof *pool);
    if (pool == NULL)
        return KVS_ERR_NO_MEMORY;
    *pool = (struct work_stealing_pool){0};
    int error = work_stealing_init(pool, threads);
    if (error != 0) {
        mem_free(pool);
        return error;
    }
    error = crew_start(&pool->crew, threads);
    if (error != 0) {
        work_stealing_close(&pool->pool, false);
        return error;
    }
    *ret_pool = &pool->pool;
    return 0;
}

static bool any_queued(struct work_stealing_pool *pool)
{
    for (unsigned i = 0; i < pool->pool.threads; i++) {
        if (atomic_load(&pool->deques[i].count) > 0)
            return true;
    }
    return false;
}

/* Calls a parked thread unless one searches already. */
static void call_searcher(struct work_stealing_pool *pool)
{
    if (atomic_load(&pool->searching) > 0 || atomic_load(&pool->parked) == 0)
        return;
    pthread_mutex_lock(&pool->park_lock);
    if (atomic_load(&pool->searching) == 0 && atomic_load(&pool->parked) > pool->calls) {
        atomic_fetch_add(&pool->searching, 1); /* on behalf of the one that will wake */
        pool->calls++;
        pthread_cond_signal(&pool->called);
    }
    pthread_mutex_unlock(&pool->park_lock);
}

static void deque_push(struct deque *deque, struct task_list *list, size_t count)
{
    pthread_mutex_lock(&deque->lock);
    task_list_splice(&deque->list, list);
    /* relaxed load: only holders of the lock write it. */
    atomic_store(&deque->count, atomic_load_explicit(&deque->count, memory_order_relaxed) + count);
    pthread_mutex_unlock(&deque->lock);
}

/* Takes the oldest task, and at most half of the others, up to `more_max`, into ret_more. */
static struct task *deque_take(struct deque *deque, size_t more_max, struct task_list *ret_more,
                               size_t *ret_more_count)
{
    if (atomic_load(&deque->count) == 0)
        return NULL;
    pthread_mutex_lock(&deque->lock);
    size_t count = atomic_load_explicit(&deque->count, memory_order_relaxed);
    struct task *task = task_list_pop(&deque->list);
    if (task != NULL) {
        count--;
        size_t more = count / 2 < more_max ? count / 2 : more_max;
        for (size_t i = 0; i < more; i++)
            task_list_push(ret_more, task_list_pop(&deque->list));
        if (ret_more_count != NULL)
            *ret_more_count = more;
        atomic_store(&deque->count, count - more);
    }
    pthread_mutex_unlock(&deque->lock);
    return task;
}

static void work_stealing_submit(kvs_thread_pool *base, struct task *task)
{
    struct work_stealing_pool *pool = work_stealing_of(base);
    unsigned index = own_index;
    if (!pool_is_current(base))
        index =
            atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed) % pool->pool.threads;
    struct task_list list = {0};
    task_list_push(&list, task);
    deque_push(&pool->deques[index], &list, 1);
    call_searcher(pool);
}

/* Takes from the first other queue, from a random one on, that has something. *ret_more_count is
 * the number of further tasks, at most `more_max`, that went into the thief's own queue. */
static struct task *steal(struct work_stealing_pool *pool, unsigned index, size_t more_max,
                          size_t *ret_more_count)
{
    unsigned threads = pool->pool.threads;
    struct deque *own = &pool->deques[index];
    unsigned start = (unsigned)rand_below(&own->rand, threads);
    for (unsigned i = 0; i < threads; i++) {
        unsigned victim = (start + i) % threads;
        struct task_list more = {0};
        struct task *task = NULL;
        *ret_more_count = 0;
        if (victim != index)
            task = deque_take(&pool->deques[victim], more_max, &more, ret_more_count);
        if (task == NULL)
            continue;
        if (*ret_more_count > 0)
            deque_push(own, &more, *ret_more_count);
        return task;
    }
    return NULL;
}

/* Parks until called; false when the pool is closing and nothing is queued. The caller counts as
 * searching before and after. */
static bool park(struct work_stealing_pool *pool)
{
    pthread_mutex_lock(&pool->park_lock);
    atomic_fetch_add(&pool->parked, 1);
    atomic_fetch_sub(&pool->searching, 1);
    bool stay = true;
    if (any_queued(pool)) {
        atomic_fetch_add(&pool->searching, 1);
    } else {
        while (pool->calls == 0 && !atomic_load(&pool->closing))
            pthread_cond_wait(&pool->called, &pool->park_lock);
        if (pool->calls > 0)
            pool->calls--;
        else
            atomic_fetch_add(&pool->searching, 1);
        stay = !atomic_load(&pool->closing) || any_queued(pool);
    }
    atomic_fetch_sub(&pool->parked, 1);
    pthread_mutex_unlock(&pool->park_lock);
    return stay;
}

/* Looks everywhere until there is a task; NULL when the pool is closing and none is left. */
static struct task *search(struct work_stealing_pool *pool, unsigned index)
{
    atomic_fetch_add(&pool->searching, 1);
    struct task *task = NULL;
    size_t more_count = 0;
    do {
        task = deque_take(&pool->deques[index], 0, NULL, NULL);
        if (task == NULL)
            task = steal(pool, index, STEAL_MAX - 1, &more_count);
    } while (task == NULL && park(pool));
    bool last = atomic_fetch_sub(&pool->searching, 1) == 1;
    /* Submitters that saw us search called nobody; and what we queued again may have been missed
     * by one that parks. */
    if (task != NULL && (more_count > 0 || (last && any_queued(pool))))
        call_searcher(pool);
    return task;
}

static struct task *next_task(struct work_stealing_pool *pool, unsigned index)
{
    struct deque *own = &pool->deques[index];
    struct task *task = NULL;
    if (++own->ticks % STEAL_EVERY == 0) {
        size_t none;
        task = steal(pool, index, 0, &none);
    }
    if (task == NULL)
        task = deque_take(own, 0, NULL, NULL);
    return task != NULL ? task : search(pool, index);
}

static void work_stealing_work(kvs_thread_pool *base, unsigned index)
{
    struct work_stealing_pool *pool = work_stealing_of(base);
    own_index = index;
    struct task *task;
    while ((task = next_task(pool, index)) != NULL)
        task->run(task);
}

static void work_stealing_free(kvs_thread_pool *base)
{
    struct work_stealing_pool *pool = work_stealing_of(base);
    crew_deinit(&pool->crew);
    for (unsigned i = 0; i < pool->pool.threads; i++)
        pthread_mutex_destroy(&pool->deques[i].lock);
    pthread_cond_destroy(&pool->called);
    pthread_mutex_destroy(&pool->park_lock);
    mem_free(pool->deques);
    mem_free(pool);
}

static void work_stealing_close(kvs_thread_pool *base, bool detached)
{
    struct work_stealing_pool *pool = work_stealing_of(base);
    if (detached)
        crew_detach(&pool->crew, work_stealing_free);
    pthread_mutex_lock(&pool->park_lock);
    atomic_store(&pool->closing, true);
    pthread_cond_broadcast(&pool->called);
    pthread_mutex_unlock(&pool->park_lock);
    if (detached)
        return;
    crew_join(&pool->crew);
    work_stealing_free(base);
}
