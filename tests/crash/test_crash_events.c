/*
 * Our client of event streams over a kvs-server that is killed and started again, many times, under
 * pipelined appends and subscriptions:
 *
 *   every append is acknowledged in the end, with the number that it expected;
 *   a subscription to the stream, and a filtered one to $all, get every event once, in order;
 *   a member of a group gets every event at least once;
 *   a volatile subscription gets what comes while it lasts, without gaps, and can be had again.
 *
 * Each append expects the one before it, so one that was lost, or written twice, shows at once.
 */
#include "crash/events_world.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

#define WINDOW 16
#define KILLS_DEFAULT 8
#define EVENTS_MAX 100000

static struct events_world world;
static kvs_events *events; /* the world's */

/* --- subscribers -------------------------------------------------------------------------------
 */

struct watcher {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    kvs_subscription *subscription;
    bool may_repeat; /* a group's */
    int64_t next;
    uint64_t wrong;
    uint64_t repeated;
    bool *seen;
    int64_t seen_count;
    bool dropped;
    int error;
    char why[200];
};

static void watcher_take(struct watcher *watcher, const kvs_event *event)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)event->number);
    bool same_data =
        event->data.size == strlen(text) && memcmp(event->data.data, text, event->data.size) == 0;
    if (!same_data || event->number < 0 || event->number >= EVENTS_MAX) {
        watcher->wrong++;
        return;
    }
    if (!watcher->may_repeat && event->number != watcher->next)
        watcher->wrong++;
    watcher->next = event->number + 1;
    watcher->repeated += watcher->seen[event->number];
    watcher->seen_count += !watcher->seen[event->number];
    watcher->seen[event->number] = true;
}

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    pthread_mutex_lock(&watcher->lock);
    for (size_t i = 0; i < count; i++)
        watcher_take(watcher, kvs_original_event(&got[i]));
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
    return true;
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    pthread_mutex_lock(&watcher->lock);
    watcher->dropped = true;
    watcher->error = error;
    snprintf(watcher->why, sizeof watcher->why, "%s", why);
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                          .on_dropped = on_dropped};

/* --- a volatile subscription, again and again --------------------------------------------------
 */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool live, over;
    int64_t last; /* of the subscription there is now; -1: none yet */
    uint64_t wrong, begun;
} fresh = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static bool fresh_on_events(kvs_subscription *subscription, const kvs_resolved_event *got,
                            size_t count, void *arg)
{
    (void)subscription;
    (void)arg;
    pthread_mutex_lock(&fresh.lock);
    for (size_t i = 0; i < count; i++) {
        int64_t number = kvs_original_event(&got[i])->number;
        fresh.wrong += fresh.last >= 0 && number != fresh.last + 1;
        fresh.last = number;
    }
    pthread_cond_broadcast(&fresh.changed);
    pthread_mutex_unlock(&fresh.lock);
    return true;
}

static void fresh_on_state(kvs_subscription *subscription, enum kvs_subscription_state state,
                           void *arg)
{
    (void)subscription;
    (void)arg;
    pthread_mutex_lock(&fresh.lock);
    fresh.live = state == KVS_SUBSCRIPTION_LIVE;
    pthread_cond_broadcast(&fresh.changed);
    pthread_mutex_unlock(&fresh.lock);
}

static void fresh_begin(void);

static void fresh_on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    (void)why;
    (void)arg;
    kvs_subscription_free(subscription);
    pthread_mutex_lock(&fresh.lock);
    bool over = fresh.over;
    fresh.live = false;
    fresh.last = -1;
    fresh.wrong += !over && error != KVS_ERR_CONNECTION_LOST;
    pthread_cond_broadcast(&fresh.changed);
    pthread_mutex_unlock(&fresh.lock);
    if (!over)
        fresh_begin();
}

static void fresh_begin(void)
{
    static const struct kvs_subscription_handlers of_fresh = {
        .on_events = fresh_on_events, .on_state = fresh_on_state, .on_dropped = fresh_on_dropped};
    const struct kvs_subscribe_options options = {.size = sizeof options,
                                                  .stream = kvs_slice_of("storm"),
                                                  .from = KVS_SUBSCRIBE_FROM_END,
                                                  .is_volatile = true};
    kvs_subscription *subscription;
    pthread_mutex_lock(&fresh.lock);
    fresh.begun++;
    fresh.last = -1;
    pthread_mutex_unlock(&fresh.lock);
    assert_int_equal(kvs_events_subscribe(events, &options, &of_fresh, NULL, &subscription), 0);
}

static void fresh_wait_live(void)
{
    pthread_mutex_lock(&fresh.lock);
    while (!fresh.live)
        pthread_cond_wait(&fresh.changed, &fresh.lock);
    pthread_mutex_unlock(&fresh.lock);
}

/* Waits for an event that was appended when it was live. */
static void fresh_finish(int64_t number)
{
    pthread_mutex_lock(&fresh.lock);
    while (fresh.last < number)
        pthread_cond_wait(&fresh.changed, &fresh.lock);
    fresh.over = true;
    print_message("# %llu volatile subscriptions\n", (unsigned long long)fresh.begun);
    assert_int_equal(fresh.wrong, 0);
    assert_int_equal(fresh.last, number);
    pthread_mutex_unlock(&fresh.lock);
}

static void watcher_init(struct watcher *watcher)
{
    pthread_mutex_init(&watcher->lock, NULL);
    pthread_cond_init(&watcher->changed, NULL);
    watcher->seen = calloc(EVENTS_MAX, sizeof *watcher->seen);
    assert_non_null(watcher->seen);
}

/* Waits until all are there, stops, and looks at what came. */
static void watcher_finish(struct watcher *watcher, const char *name, int64_t count)
{
    pthread_mutex_lock(&watcher->lock);
    while (watcher->seen_count < count && !watcher->dropped)
        pthread_cond_wait(&watcher->changed, &watcher->lock);
    if (watcher->dropped)
        fail_msg("%s was dropped: %s (%s)", name, watcher->why, kvs_error_name(watcher->error));
    pthread_mutex_unlock(&watcher->lock);
    kvs_subscription_stop(watcher->subscription);
    pthread_mutex_lock(&watcher->lock);
    while (!watcher->dropped)
        pthread_cond_wait(&watcher->changed, &watcher->lock);
    pthread_mutex_unlock(&watcher->lock);
    kvs_subscription_free(watcher->subscription);
    print_message("# %s: %lld events, %llu again\n", name, (long long)watcher->seen_count,
                  (unsigned long long)watcher->repeated);
    assert_int_equal(watcher->wrong, 0);
    assert_true(watcher->may_repeat || watcher->repeated == 0);
    free(watcher->seen);
}

/* --- appends -----------------------------------------------------------------------------------
 */

static kvs_future *append(int64_t number)
{
    char data[24];
    snprintf(data, sizeof data, "%lld", (long long)number);
    const kvs_new_event event = {
        .type = kvs_slice_of("counted"), .data = kvs_slice_of(data), .is_json = true};
    return kvs_events_append(events, kvs_slice_of("storm"), number - 1, &event, 1, NULL);
}

static void finish_append(kvs_future *future, int64_t number)
{
    void *pointer = NULL;
    assert_non_null(future);
    if (kvs_future_wait(future, -1) != 0)
        fail_msg("append %lld: %s (%s)", (long long)number, kvs_future_error_message(future),
                 kvs_error_name(kvs_future_error(future)));
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    assert_int_equal(((const kvs_write_result *)pointer)->last_number, number);
    kvs_future_free(future);
}

/* Returns how many events there are. */
static int64_t storm(unsigned kills)
{
    kvs_future *window[WINDOW];
    int64_t issued = 0, done = 0;
    int64_t next_kill = 100;
    while (kills > 0 || done < issued) {
        while (kills > 0 && issued < done + WINDOW && issued < EVENTS_MAX) {
            window[issued % WINDOW] = append(issued);
            issued++;
        }
        if (kills > 0 && done >= next_kill) {
            kills--;
            server_process_end(&world.server,
                               rand_below(&world.random, 4) == 0 ? SIGTERM : SIGKILL);
            events_world_start_server(&world);
            next_kill = done + 20 + (int64_t)rand_below(&world.random, 300);
        }
        finish_append(window[done % WINDOW], done);
        done++;
    }
    return done;
}

static void test_reconnect_storm(void **state)
{
    (void)state;
    static struct watcher by_stream, by_all, by_group = {.may_repeat = true};
    const char *wanted = getenv("KVS_TEST_KILLS");
    kvs_slice stream = kvs_slice_of("storm"), group = kvs_slice_of("g");
    const kvs_event_filter filter = {
        .kind = KVS_FILTER_PREFIX, .patterns = &stream, .patterns_count = 1};
    const struct kvs_subscribe_options of_stream = {.size = sizeof of_stream, .stream = stream};
    const struct kvs_subscribe_options of_all = {.size = sizeof of_all, .filter = &filter};
    const struct kvs_group_subscribe_options of_group = {
        .size = sizeof of_group, .stream = stream, .group = group, .in_flight = 50};
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.start_from = 0;
    assert_int_equal(wait_and_free(kvs_events_create_group(events, stream, group, &settings, NULL)),
                     0);
    watcher_init(&by_stream);
    watcher_init(&by_all);
    watcher_init(&by_group);
    assert_int_equal(
        kvs_events_subscribe(events, &of_stream, &handlers, &by_stream, &by_stream.subscription),
        0);
    assert_int_equal(
        kvs_events_subscribe(events, &of_all, &handlers, &by_all, &by_all.subscription), 0);
    assert_int_equal(
        kvs_events_subscribe_group(events, &of_group, &handlers, &by_group, &by_group.subscription),
        0);
    fresh_begin();
    int64_t count = storm(wanted != NULL ? (unsigned)atoi(wanted) : KILLS_DEFAULT);
    fresh_wait_live();
    finish_append(append(count), count);
    fresh_finish(count);
    count++;
    print_message("# %lld events appended\n", (long long)count);
    watcher_finish(&by_stream, "the stream", count);
    watcher_finish(&by_all, "$all, filtered", count);
    watcher_finish(&by_group, "the group", count);
}

static int setup(void **state)
{
    (void)state;
    events_world_open(&world, false);
    events = world.events;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return events_world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reconnect_storm)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
