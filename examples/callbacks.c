/*
 * examples/callbacks.c: the task of all examples (see blocking.c), with a callback for each call.
 *
 * Callbacks run one at a time on the runtime's loop, so the struct below needs no lock; the main
 * thread only waits for the end. Usage: callbacks URL.
 */
#include <kvs/kvs.h>

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS 1000

struct task {
    kvs_store *store;
    int pending; /* calls of the current step without their answer */
    int stored;
    int64_t sum;
    int64_t removed;
    char failure[256]; /* the first one; "" for none */
    sem_t ended;
};

static void start(struct task *task, kvs_future *future, kvs_future_fn *fn)
{
    task->pending++;
    if (future == NULL || kvs_future_on_ready(future, fn, task) != 0) {
        fprintf(stderr, "callbacks: out of memory\n");
        exit(1);
    }
}

/* One answer of a step has come. True: it was the last one, and all went well. */
static bool step_ended(struct task *task, kvs_future *future)
{
    if (kvs_future_error(future) != 0 && task->failure[0] == '\0')
        snprintf(task->failure, sizeof task->failure, "%s", kvs_future_error_message(future));
    kvs_future_free(future);
    if (--task->pending > 0)
        return false;
    if (task->failure[0] == '\0')
        return true;
    sem_post(&task->ended);
    return false;
}

static void on_removed(kvs_future *future, void *arg)
{
    struct task *task = arg;
    kvs_future_get_number(future, &task->removed);
    if (step_ended(task, future))
        sem_post(&task->ended);
}

static void on_got(kvs_future *future, void *arg)
{
    struct task *task = arg;
    kvs_slice value;
    if (kvs_future_get_value(future, &value) == 0) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
        task->sum += strtoll(text, NULL, 10);
    }
    if (step_ended(task, future))
        start(
            task,
            kvs_store_remove_range(task->store, kvs_slice_of("example/"), kvs_slice_of("example0")),
            on_removed);
}

static void on_set(kvs_future *future, void *arg)
{
    struct task *task = arg;
    task->stored += kvs_future_error(future) == 0;
    if (!step_ended(task, future))
        return;
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "example/%04d", i);
        start(task, kvs_store_get(task->store, kvs_slice_of(key)), on_got);
    }
}

static void on_opened(kvs_future *future, void *arg)
{
    struct task *task = arg;
    void *store;
    if (kvs_future_get_pointer(future, &store) == 0)
        task->store = store;
    if (!step_ended(task, future))
        return;
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        char value[32];
        snprintf(key, sizeof key, "example/%04d", i);
        snprintf(value, sizeof value, "%d", i);
        start(task, kvs_store_set(task->store, kvs_slice_of(key), kvs_slice_of(value)), on_set);
    }
}

static void on_closed(kvs_future *future, void *arg)
{
    struct task *task = arg;
    if (step_ended(task, future))
        sem_post(&task->ended);
}

int main(int argc, char **argv)
{
    struct task task = {0};
    kvs_runtime *runtime;
    if (argc != 2 || kvs_runtime_new(NULL, &runtime) != 0) {
        fprintf(stderr, "usage: callbacks URL, such as memory:\n");
        return 2;
    }
    sem_init(&task.ended, 0, 0);
    start(&task, kvs_store_open(runtime, argv[1], NULL), on_opened);
    sem_wait(&task.ended);
    if (task.failure[0] != '\0')
        fprintf(stderr, "callbacks: %s\n", task.failure);
    else
        printf("callbacks: stored %d, sum %" PRId64 ", removed %" PRId64 "\n", task.stored,
               task.sum, task.removed);
    int status = task.failure[0] != '\0';
    if (task.store != NULL) {
        start(&task, kvs_store_close(task.store), on_closed);
        sem_wait(&task.ended);
    }
    kvs_runtime_free(runtime);
    sem_destroy(&task.ended);
    return status;
}
