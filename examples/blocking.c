/*
 * examples/blocking.c: the task of all examples, with plain waits.
 *
 * The task: store 1000 keys, read them back, add their values up, remove them.
 * Every call returns a future at once; starting all calls before waiting for the first one lets
 * them travel together. Usage: blocking URL, where URL is memory:, log:DIR or kvs://HOST:PORT.
 */
#include <kvs/kvs.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define KEYS 1000

/* Waits, and ends the program with the future's own words when it failed. */
static void await(kvs_future *future)
{
    if (future == NULL || kvs_future_wait(future, -1) != 0) {
        fprintf(stderr, "blocking: %s\n",
                future != NULL ? kvs_future_error_message(future) : "out of memory");
        exit(1);
    }
}

static kvs_slice key_of(char *text, size_t size, int i)
{
    snprintf(text, size, "example/%04d", i);
    return kvs_slice_of(text);
}

static void store_all(kvs_store *store)
{
    kvs_future *futures[KEYS];
    char key[32];
    char value[32];
    for (int i = 0; i < KEYS; i++) {
        snprintf(value, sizeof value, "%d", i);
        /* Inputs are copied: the arrays may be used again at once. */
        futures[i] = kvs_store_set(store, key_of(key, sizeof key, i), kvs_slice_of(value));
    }
    for (int i = 0; i < KEYS; i++) {
        await(futures[i]);
        kvs_future_free(futures[i]);
    }
}

static int64_t number_of(kvs_slice value)
{
    char text[32];
    snprintf(text, sizeof text, "%.*s", (int)value.size, (const char *)value.data);
    return strtoll(text, NULL, 10);
}

static int64_t sum_all(kvs_store *store)
{
    kvs_future *futures[KEYS];
    char key[32];
    int64_t sum = 0;
    for (int i = 0; i < KEYS; i++)
        futures[i] = kvs_store_get(store, key_of(key, sizeof key, i));
    for (int i = 0; i < KEYS; i++) {
        kvs_slice value;
        await(futures[i]);
        kvs_future_get_value(futures[i], &value); /* the future owns it */
        sum += number_of(value);
        kvs_future_free(futures[i]);
    }
    return sum;
}

static int64_t remove_all(kvs_store *store)
{
    int64_t removed = 0;
    kvs_future *future =
        kvs_store_remove_range(store, kvs_slice_of("example/"), kvs_slice_of("example0"));
    await(future);
    kvs_future_get_number(future, &removed);
    kvs_future_free(future);
    return removed;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: blocking URL, such as memory:\n");
        return 2;
    }
    kvs_runtime *runtime;
    int error = kvs_runtime_new(NULL, &runtime);
    if (error != 0) {
        fprintf(stderr, "blocking: %s\n", kvs_error_text(error));
        return 1;
    }
    void *pointer = NULL;
    kvs_future *opening = kvs_store_open(runtime, argv[1], NULL);
    await(opening);
    kvs_future_get_pointer(opening, &pointer);
    kvs_future_free(opening);
    kvs_store *store = pointer;

    store_all(store);
    int64_t sum = sum_all(store);
    int64_t removed = remove_all(store);
    printf("blocking: stored %d, sum %" PRId64 ", removed %" PRId64 "\n", KEYS, sum, removed);

    kvs_future *closing = kvs_store_close(store);
    await(closing);
    kvs_future_free(closing);
    kvs_runtime_free(runtime);
    return 0;
}
