/*
 * examples/composed.c: the task of all examples (see blocking.c) as one future made of futures.
 *
 *   open, then  set 1000 keys (all), then  get 1000 keys (all), map to their sum,
 *         then  remove the range, the whole within 30 seconds (timeout)
 *
 * Each step says what comes next and returns; a failure anywhere passes through to the end. Freeing
 * the last future frees all that it was made of. Usage: composed URL.
 */
#include <kvs/kvs.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS 1000

struct task {
    kvs_runtime *runtime;
    kvs_store *store;
    int64_t sum;
};

static kvs_slice key_of(char *text, size_t size, int i)
{
    snprintf(text, size, "example/%04d", i);
    return kvs_slice_of(text);
}

/* Given the opened store: sets all keys at once. Returning the argument passes a failure on. */
static kvs_future *set_all(kvs_future *opened, void *arg)
{
    struct task *task = arg;
    void *store;
    if (kvs_future_get_pointer(opened, &store) != 0)
        return opened;
    task->store = store;
    kvs_future *futures[KEYS];
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        char value[32];
        snprintf(value, sizeof value, "%d", i);
        futures[i] = kvs_store_set(task->store, key_of(key, sizeof key, i), kvs_slice_of(value));
    }
    return kvs_future_all(task->runtime, futures, KEYS);
}

static kvs_future *get_all(kvs_future *set, void *arg)
{
    struct task *task = arg;
    if (kvs_future_error(set) != 0)
        return set;
    kvs_future *futures[KEYS];
    for (int i = 0; i < KEYS; i++) {
        char key[32];
        futures[i] = kvs_store_get(task->store, key_of(key, sizeof key, i));
    }
    return kvs_future_all(task->runtime, futures, KEYS);
}

/* One pass over results that are all there: no waiting, so a map rather than a then. */
static int sum_up(kvs_future *all, void *arg, void **ret_pointer)
{
    (void)ret_pointer;
    struct task *task = arg;
    for (size_t i = 0; i < KEYS; i++) {
        kvs_slice value;
        int error = kvs_future_get_value(kvs_future_input(all, i), &value);
        if (error != 0)
            return error;
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
        task->sum += strtoll(text, NULL, 10);
    }
    return 0;
}

static kvs_future *remove_all(kvs_future *summed, void *arg)
{
    struct task *task = arg;
    if (kvs_future_error(summed) != 0)
        return summed;
    return kvs_store_remove_range(task->store, kvs_slice_of("example/"), kvs_slice_of("example0"));
}

int main(int argc, char **argv)
{
    struct task task = {0};
    if (argc != 2 || kvs_runtime_new(NULL, &task.runtime) != 0) {
        fprintf(stderr, "usage: composed URL, such as memory:\n");
        return 2;
    }
    kvs_future *whole = kvs_store_open(task.runtime, argv[1], NULL);
    whole = kvs_future_then(whole, set_all, &task);
    whole = kvs_future_then(whole, get_all, &task);
    whole = kvs_future_map(whole, sum_up, &task, NULL);
    whole = kvs_future_then(whole, remove_all, &task);
    whole = kvs_future_timeout(whole, 30000);

    int64_t removed = 0;
    int status = whole == NULL || kvs_future_wait(whole, -1) != 0;
    if (status != 0) {
        fprintf(stderr, "composed: %s\n",
                whole != NULL ? kvs_future_error_message(whole) : "out of memory");
    } else {
        kvs_future_get_number(whole, &removed);
        printf("composed: stored %d, sum %" PRId64 ", removed %" PRId64 "\n", KEYS, task.sum,
               removed);
    }
    kvs_future_free(whole);
    if (task.store != NULL) {
        kvs_future *closing = kvs_store_close(task.store);
        kvs_future_wait(closing, -1);
        kvs_future_free(closing);
    }
    kvs_runtime_free(task.runtime);
    return status;
}
