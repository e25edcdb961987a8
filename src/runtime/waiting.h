/*
 * runtime/waiting.h: a thread waits until something is done on another one.
 *
 * For opening, closing and offline tools, which have a thread of their own: never on a loop.
 *   struct waiting waiting = WAITING_INIT;
 *   begin something whose callback calls waiting_end(&waiting);
 *   waiting_for_end(&waiting);
 * The callback's last touch of the struct is inside waiting_end; after waiting_for_end it may be
 * gone.
 */
#ifndef RUNTIME_WAITING_H
#define RUNTIME_WAITING_H

#include <pthread.h>
#include <stdbool.h>

struct waiting {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool over; /* under the mutex */
};

#define WAITING_INIT                                                            \
    (struct waiting)                                                            \
    {                                                                           \
        .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER \
    }

static inline void waiting_end(struct waiting *waiting)
{
    pthread_mutex_lock(&waiting->mutex);
    waiting->over = true;
    pthread_cond_signal(&waiting->changed);
    pthread_mutex_unlock(&waiting->mutex);
}

/* Once. */
static inline void waiting_for_end(struct waiting *waiting)
{
    pthread_mutex_lock(&waiting->mutex);
    while (!waiting->over)
        pthread_cond_wait(&waiting->changed, &waiting->mutex);
    pthread_mutex_unlock(&waiting->mutex);
    pthread_cond_destroy(&waiting->changed);
    pthread_mutex_destroy(&waiting->mutex);
}

#endif
