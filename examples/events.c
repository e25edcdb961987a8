/*
 * examples/events.c: an event stream, from the first event to the last, with a subscriber.
 *
 *   1. open; append 500 events in one go, all or none;
 *   2. subscribe from the begin: the handler is called with what is there, then with what comes;
 *   3. append 500 more, one by one, each expecting what the one before it wrote;
 *   4. when the handler has seen all, stop, delete the stream, close.
 *
 * The handler runs on a loop of the runtime and must not block; it returns true when it is done
 * with its events, or false to keep them until kvs_subscription_resume.
 *
 * Usage: events URL, such as memory:, log:DIR or esdb://USER:PASSWORD@HOST:1113.
 */
#include <kvs/kvs.h>

#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENTS 1000
#define STREAM "example"

struct watch {
    sem_t done;
    int64_t seen;
    int64_t sum;
    bool dropped_early;
};

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *events,
                      size_t count, void *arg)
{
    struct watch *watch = arg;
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&events[i]);
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)event->data.size, (const char *)event->data.data);
        watch->sum += atoi(text);
        watch->seen++;
    }
    if (watch->seen == EVENTS)
        kvs_subscription_stop(subscription);
    return true;
}

/* Called once, and nothing after it. */
static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct watch *watch = arg;
    (void)subscription;
    if (error != 0) {
        fprintf(stderr, "events: the subscription ended: %s\n", why);
        watch->dropped_early = true;
    }
    sem_post(&watch->done);
}

/* Waits, says what failed, and frees. */
static int finish(kvs_future *future, void **ret_pointer)
{
    int error = kvs_future_wait(future, -1);
    if (error != 0)
        fprintf(stderr, "events: %s\n", kvs_future_error_message(future));
    else if (ret_pointer != NULL)
        kvs_future_get_pointer(future, ret_pointer);
    kvs_future_free(future);
    return error;
}

static int append(kvs_events *events, int64_t expected, int first, int count)
{
    kvs_new_event batch[EVENTS];
    char texts[EVENTS][12];
    for (int i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], "%d", first + i);
        batch[i] = (kvs_new_event){
            .type = kvs_slice_of("counted"), .data = kvs_slice_of(texts[i]), .is_json = true};
    }
    return finish(
        kvs_events_append(events, kvs_slice_of(STREAM), expected, batch, (size_t)count, NULL),
        NULL);
}

static int run(kvs_events *events, struct watch *watch)
{
    static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                              .on_dropped = on_dropped};
    const struct kvs_subscribe_options options = {.size = sizeof options,
                                                  .stream = kvs_slice_of(STREAM)};
    kvs_subscription *subscription;
    int error = append(events, KVS_EXPECT_NO_STREAM, 0, EVENTS / 2);
    if (error != 0)
        return error;
    error = kvs_events_subscribe(events, &options, &handlers, watch, &subscription);
    if (error != 0)
        return error;
    for (int i = EVENTS / 2; i < EVENTS && error == 0; i++)
        error = append(events, i - 1, i, 1);
    if (error != 0)
        kvs_subscription_stop(subscription);
    sem_wait(&watch->done);
    kvs_subscription_free(subscription);
    if (error != 0 || watch->dropped_early)
        return error != 0 ? error : KVS_ERR_CLOSED;
    return finish(kvs_events_delete(events, kvs_slice_of(STREAM), EVENTS - 1, false, NULL), NULL);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: events URL, such as memory:\n");
        return 2;
    }
    kvs_runtime *runtime;
    if (kvs_runtime_new(NULL, &runtime) != 0) {
        fprintf(stderr, "events: cannot start\n");
        return 1;
    }
    struct watch watch = {.seen = 0};
    void *events = NULL;
    sem_init(&watch.done, 0, 0);
    int error = finish(kvs_events_open(runtime, argv[1], NULL), &events);
    if (error == 0) {
        error = run(events, &watch);
        finish(kvs_events_close(events), NULL);
    }
    kvs_runtime_free(runtime);
    sem_destroy(&watch.done);
    if (error == 0)
        printf("events: appended %d, seen %" PRId64 ", sum %" PRId64 "\n", EVENTS, watch.seen,
               watch.sum);
    return error == 0 ? 0 : 1;
}
