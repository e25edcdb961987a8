/*
 * runtime/crew.h: a fixed number of threads that do the same work until they are told to leave, and
 * that stay as many when one of them ends.
 *
 * A member's life:
 *   1. it calls work(pool, index), which returns when the pool is closing and nothing is left;
 *   2. it leaves; the crew is joined by crew_join, or, detached, by the last member that leaves.
 * When a job ends its thread (pthread_exit) the cleanup handler of that thread starts another one,
 * which first joins the ended one, then works in its place: same index, same queues. If the system
 * has no thread to give, the handler tries again until it has: queued work is never lost.
 */
#ifndef RUNTIME_CREW_H
#define RUNTIME_CREW_H

#include <kvs/thread_pool.h>
#include <pthread.h>
#include <stdbool.h>

struct crew;

struct crew_member {
    struct crew *crew;
    unsigned index;
    pthread_t thread;      /* guarded by crew->lock once the crew works */
    pthread_t predecessor; /* to be joined by a replacement before it works */
    bool has_predecessor;
};

struct crew {
    kvs_thread_pool *pool;
    void (*work)(kvs_thread_pool *pool, unsigned index);
    void (*free_pool)(kvs_thread_pool *pool); /* set: detached, the last one calls it */
    pthread_mutex_t lock;
    pthread_cond_t all_left;
    unsigned started; /* members[0..started) have or had a thread */
    unsigned present; /* have not left */
    struct crew_member *members;
};

/* Returns 0 or NO_MEMORY; nothing runs yet. */
int crew_init(struct crew *crew, kvs_thread_pool *pool, unsigned count,
              void (*work)(kvs_thread_pool *pool, unsigned index));

/* Starts `count` members; on NO_MEMORY some work already: tell them to leave and join the crew. */
int crew_start(struct crew *crew, unsigned count);

/* To be called before the members are told to leave, by one of them: the last frees the pool. */
void crew_detach(struct crew *crew, void (*free_pool)(kvs_thread_pool *pool));

/* Waits until all have left, which they must have been told. Not by a member. */
void crew_join(struct crew *crew);

/* After crew_join, or inside free_pool. */
void crew_deinit(struct crew *crew);

#endif
