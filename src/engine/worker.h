/*
 * engine/worker.h: the one thread of an engine that applies its writes, with the queues before it.
 *
 * Any thread submits; the worker takes all that waits and hands it to `run` as one group, again and
 * again. Writes are in the order in which each thread submitted them.
 */
#ifndef ENGINE_WORKER_H
#define ENGINE_WORKER_H

#include "engine/engine.h"

#include <pthread.h>

struct engine_worker {
    /* Called on the worker's thread with what was submitted, or with nothing when its time has
     * come. Returns when to call it again at the latest (clock_now_ms; 0: no limit). */
    uint64_t (*run)(struct engine_worker *worker, struct task_list *writes,
                    struct task_list *controls);
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the queues are not empty, or closing is set */
    struct task_list writes;
    struct task_list controls;
    bool closing;
};

/* Starts the thread; `run` is set. NO_MEMORY. */
int engine_worker_start(struct engine_worker *worker, const char *thread_name);
/* Lets it finish what was submitted, and joins it. */
void engine_worker_stop(struct engine_worker *worker);

void engine_worker_write(struct engine_worker *worker, struct task_list *writes);
void engine_worker_control(struct engine_worker *worker, struct engine_control *control);

#endif
