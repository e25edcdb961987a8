/* runtime/crew.c: see runtime/crew.h. */
#include "runtime/crew.h"

#include "base/mem.h"
#include "runtime/thread.h"
#include "runtime/thread_pool.h"

#include <kvs/error.h>
#include <time.h>

#define RESTART_DELAY_MS 5

static void *member_main(void *arg);

int crew_init(struct crew *crew, kvs_thread_pool *pool, unsigned count,
              void (*work)(kvs_thread_pool *pool, unsigned index))
{
    *crew = (struct crew){.pool = pool, .work = work};
    crew->members = mem_zalloc(count * sizeof *crew->members);
    if (crew->members == NULL)
        return KVS_ERR_NO_MEMORY;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->all_left, NULL);
    return 0;
}

int crew_start(struct crew *crew, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct crew_member *member = &crew->members[i];
        *member = (struct crew_member){.crew = crew, .index = i};
        pthread_mutex_lock(&crew->lock);
        int error = thread_start(&member->thread, "kvs-pool", member_main, member);
        if (error == 0)
            crew->started = crew->present = i + 1;
        pthread_mutex_unlock(&crew->lock);
        if (error != 0)
            return error;
    }
    return 0;
}

void crew_detach(struct crew *crew, void (*free_pool)(kvs_thread_pool *pool))
{
    pthread_mutex_lock(&crew->lock);
    crew->free_pool = free_pool;
    pthread_mutex_unlock(&crew->lock);
}

static void crew_join_threads(struct crew *crew, pthread_t except)
{
    for (unsigned i = 0; i < crew->started; i++) {
        if (!pthread_equal(crew->members[i].thread, except))
            pthread_join(crew->members[i].thread, NULL);
    }
}

void crew_join(struct crew *crew)
{
    /* First all must have left: until then a member's thread may still be replaced. */
    pthread_mutex_lock(&crew->lock);
    while (crew->present > 0)
        pthread_cond_wait(&crew->all_left, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
    crew_join_threads(crew, pthread_self());
}

void crew_deinit(struct crew *crew)
{
    pthread_cond_destroy(&crew->all_left);
    pthread_mutex_destroy(&crew->lock);
    mem_free(crew->members);
}

static void member_leave(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    bool last = --crew->present == 0;
    void (*free_pool)(kvs_thread_pool *) = crew->free_pool;
    if (last)
        pthread_cond_signal(&crew->all_left);
    pthread_mutex_unlock(&crew->lock);
    if (!last || free_pool == NULL)
        return;
    crew_join_threads(crew, pthread_self());
    pthread_detach(pthread_self());
    free_pool(crew->pool);
}

/* Cleanup handler: a job ends this thread. */
static void member_replace(void *arg)
{
    struct crew_member *member = arg;
    member->predecessor = pthread_self();
    member->has_predecessor = true;
    pthread_t thread; /* the new one writes it down itself: it may be ahead of us */
    while (thread_start(&thread, "kvs-pool", member_main, member) != 0)
        nanosleep(&(struct timespec){.tv_nsec = RESTART_DELAY_MS * 1000000L}, NULL);
}

static void *member_main(void *arg)
{
    struct crew_member *member = arg;
    struct crew *crew = member->crew;
    pthread_mutex_lock(&crew->lock);
    member->thread = pthread_self();
    pthread_mutex_unlock(&crew->lock);
    if (member->has_predecessor)
        pthread_join(member->predecessor, NULL);
    pool_set_current(crew->pool);
    pthread_cleanup_push(member_replace, member);
    crew->work(crew->pool, member->index);
    pthread_cleanup_pop(0);
    member_leave(crew);
    return NULL;
}
