/* engine/worker.c: see worker.h. */
#include "engine/worker.h"

#include "base/clock.h"
#include "runtime/thread.h"

#include <time.h>

/* Sleeps until woken or `until_ms` (0: no limit); holds the lock before and after. */
static void worker_wait(struct engine_worker *worker, uint64_t until_ms)
{
    if (until_ms == 0) {
        pthread_cond_wait(&worker->wake, &worker->lock);
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000};
    pthread_cond_timedwait(&worker->wake, &worker->lock, &until);
}

static bool worker_is_idle(const struct engine_worker *worker)
{
    return worker->writes.first == NULL && worker->controls.first == NULL;
}

static void *worker_thread(void *arg)
{
    struct engine_worker *worker = arg;
    uint64_t until_ms = 0;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        bool is_due = until_ms != 0 && clock_now_ms() >= until_ms;
        if (worker_is_idle(worker) && !is_due) {
            if (worker->closing)
                break;
            worker_wait(worker, until_ms);
            continue;
        }
        struct task_list writes = worker->writes;
        struct task_list controls = worker->controls;
        worker->writes = worker->controls = (struct task_list){0};
        pthread_mutex_unlock(&worker->lock);
        until_ms = worker->run(worker, &writes, &controls);
        pthread_mutex_lock(&worker->lock);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

int engine_worker_start(struct engine_worker *worker, const char *thread_name)
{
    pthread_condattr_t attributes; /* none of these can fail on Linux */
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&worker->lock, NULL);
    int error = thread_start(&worker->thread, thread_name, worker_thread, worker);
    if (error != 0) {
        pthread_cond_destroy(&worker->wake);
        pthread_mutex_destroy(&worker->lock);
    }
    return error;
}

void engine_worker_stop(struct engine_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->closing = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->wake);
    pthread_mutex_destroy(&worker->lock);
}

void engine_worker_write(struct engine_worker *worker, struct task_list *writes)
{
    pthread_mutex_lock(&worker->lock);
    task_list_splice(&worker->writes, writes);
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}

void engine_worker_control(struct engine_worker *worker, struct engine_control *control)
{
    pthread_mutex_lock(&worker->lock);
    task_list_push(&worker->controls, &control->op.task);
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
}
