/*
 * Appends and subscriptions of every kind while the server is killed and started again, together
 * with other clients that do the same on the same stream.
 *
 * At the end: every acknowledged event is there, with its number, and no event twice; the catch-up
 * subscriptions had every event once, in order; each volatile one had what came while it lasted,
 * without gaps, and the last one goes to the end; the members of this client's group had every
 * event.
 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW = 8, EVENTS_MAX = 1000000, END_SECONDS_MAX = 60, LIVE_MAX = 100 };

struct acknowledged {
    kvs_event_id id;
    int64_t number;
};

static struct {
    pthread_mutex_t lock; /* of all below: handlers and the main thread */
    kvs_event_id *ids;    /* by number, as the stream's subscription gave them */
    int64_t next, next_of_all;
    long ends;         /* appenders that have ended */
    int64_t wrong;     /* out of order, or with a gap */
    int64_t last_live; /* of the newest volatile subscription */
    unsigned lives;
    bool *given;
    int64_t given_count;
    bool over;
    int error; /* a subscription that should last has ended */
    char why[TEXT_MAX];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct acknowledged *acks;
static int64_t acks_count;

/* --- subscriptions -----------------------------------------------------------------------------
 */

static bool is_mine(const kvs_event *event)
{
    struct text room;
    kvs_slice stream = stream_in(&room, "load");
    return event->stream.size == stream.size &&
           memcmp(event->stream.data, stream.data, stream.size) == 0 && event->number < EVENTS_MAX;
}

static void see(const kvs_event *event)
{
    seen.wrong += event->number != seen.next;
    seen.next = event->number + 1;
    seen.ids[event->number] = event->id;
    seen.ends += event->type.size == 3;
}

static void see_of_all(const kvs_event *event)
{
    seen.wrong += event->number != seen.next_of_all;
    seen.next_of_all = event->number + 1;
}

static void see_live(const kvs_event *event)
{
    seen.wrong += seen.last_live >= 0 && event->number != seen.last_live + 1;
    seen.last_live = event->number;
}

static void see_given(const kvs_event *event)
{
    seen.given_count += !seen.given[event->number];
    seen.given[event->number] = true;
}

struct kind {
    void (*see)(const kvs_event *event);
    bool is_volatile;
};

static const struct kind kinds[] = {{see, false}, {see_of_all, false}, {see_live, true}};
static const struct kind of_group = {see_given, false};

static void subscribe(const struct kind *kind);

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    const struct kind *kind = arg;
    (void)subscription;
    pthread_mutex_lock(&seen.lock);
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&got[i]);
        if (is_mine(event))
            kind->see(event);
    }
    pthread_mutex_unlock(&seen.lock);
    return true;
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    const struct kind *kind = arg;
    kvs_subscription_free(subscription);
    pthread_mutex_lock(&seen.lock);
    bool again = kind->is_volatile && error == KVS_ERR_CONNECTION_LOST && !seen.over;
    if (!again && !seen.over) {
        seen.error = error;
        snprintf(seen.why, sizeof seen.why, "%s", why);
    }
    pthread_mutex_unlock(&seen.lock);
    if (again)
        subscribe(kind);
}

static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                          .on_dropped = on_dropped};

static void subscribe(const struct kind *kind)
{
    struct text room;
    kvs_subscription *subscription; /* on_dropped gives it back */
    struct kvs_subscribe_options options = {.size = sizeof options,
                                            .is_volatile = kind->is_volatile};
    if (kind->see != see_of_all)
        options.stream = stream_in(&room, "load");
    if (kind->is_volatile) {
        options.from = KVS_SUBSCRIBE_FROM_END;
        pthread_mutex_lock(&seen.lock);
        seen.last_live = -1;
        seen.lives++;
        pthread_mutex_unlock(&seen.lock);
    }
    if (kvs_events_subscribe(client_events(), &options, &handlers, (void *)kind, &subscription) !=
        0)
        abort();
}

static void join_group(void)
{
    struct text stream, group;
    kvs_subscription *subscription;
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.start_from = 0;
    snprintf(group.bytes, TEXT_MAX, "group-%d", (int)getpid());
    const struct kvs_group_subscribe_options options = {.size = sizeof options,
                                                        .stream = stream_in(&stream, "load"),
                                                        .group = kvs_slice_of(group.bytes),
                                                        .in_flight = 50};
    int error = KVS_ERR_OUTCOME_UNKNOWN; /* the server may be killed as soon as we begin */
    while (error == KVS_ERR_OUTCOME_UNKNOWN) {
        kvs_future *made = kvs_events_create_group(client_events(), options.stream, options.group,
                                                   &settings, NULL);
        error = kvs_future_wait(made, -1);
        if (error != 0 && error != KVS_ERR_OUTCOME_UNKNOWN && error != KVS_ERR_ALREADY_EXISTS)
            fail("%s", kvs_future_error_message(made));
        kvs_future_free(made);
    }
    error = kvs_events_subscribe_group(client_events(), &options, &handlers, (void *)&of_group,
                                       &subscription);
    CHECK(error == 0, "%s", kvs_error_text(error));
}

/* --- appends -----------------------------------------------------------------------------------
 */

static kvs_future *append(kvs_event_id id, const char *type)
{
    struct text stream;
    const kvs_new_event event = {
        .id = id, .type = kvs_slice_of(type), .data = kvs_slice_of("{}"), .is_json = true};
    return kvs_events_append(client_events(), stream_in(&stream, "load"), KVS_EXPECT_ANY, &event, 1,
                             NULL);
}

/* An append ends well: this client sends it again for as long as its deadline allows. */
static void finish_append(kvs_future *future, kvs_event_id id)
{
    const kvs_write_result *wrote = pointer_of(future);
    CHECK(acks_count < EVENTS_MAX, "too many events");
    acks[acks_count++] = (struct acknowledged){.id = id, .number = wrote->last_number};
    kvs_future_free(future);
}

static void append_all(long seconds)
{
    kvs_event_id ids[WINDOW];
    kvs_future *window[WINDOW];
    int64_t issued = 0, finished = 0;
    time_t end = time(NULL) + seconds;
    while (time(NULL) < end || finished < issued) {
        while (time(NULL) < end && issued < finished + WINDOW) {
            ids[issued % WINDOW] = kvs_event_id_random();
            window[issued % WINDOW] = append(ids[issued % WINDOW], "Happened");
            issued++;
        }
        finish_append(window[finished % WINDOW], ids[finished % WINDOW]);
        finished++;
    }
    kvs_event_id last = kvs_event_id_random();
    finish_append(append(last, "End"), last);
}

/* --- the end -----------------------------------------------------------------------------------
 */

static bool has_all(long parties, int64_t count)
{
    pthread_mutex_lock(&seen.lock);
    bool all = seen.error != 0 ||
               (seen.ends >= parties && seen.next >= count && seen.next_of_all >= count &&
                seen.given_count >= count && seen.last_live >= count - 1);
    pthread_mutex_unlock(&seen.lock);
    return all;
}

static int64_t stream_count(void)
{
    struct text stream;
    kvs_future *future =
        kvs_events_read_event(client_events(), stream_in(&stream, "load"), KVS_EVENT_LAST, 0, NULL);
    int64_t count = kvs_original_event(pointer_of(future))->number + 1;
    kvs_future_free(future);
    return count;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(kvs_event_id));
}

static void check_ids(int64_t count)
{
    for (int64_t i = 0; i < acks_count; i++)
        CHECK(acks[i].number < count &&
                  memcmp(&seen.ids[acks[i].number], &acks[i].id, sizeof acks[i].id) == 0,
              "the acknowledged event %lld is not there", (long long)acks[i].number);
    qsort(seen.ids, (size_t)count, sizeof seen.ids[0], compare_ids);
    for (int64_t i = 1; i < count; i++)
        CHECK(compare_ids(&seen.ids[i - 1], &seen.ids[i]) != 0, "an event is there twice");
}

void load(void)
{
    long seconds = word_number(0), parties = word_number(1);
    seen.ids = calloc(EVENTS_MAX, sizeof seen.ids[0]);
    seen.given = calloc(EVENTS_MAX, sizeof seen.given[0]);
    acks = calloc(EVENTS_MAX, sizeof acks[0]);
    CHECK(seen.ids != NULL && seen.given != NULL && acks != NULL, "no memory");
    join_group();
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        subscribe(&kinds[i]);
    printf("ready\n");
    fflush(stdout);
    append_all(seconds);
    time_t end = time(NULL) + END_SECONDS_MAX;
    while (!has_all(parties, 0) && time(NULL) < end)
        usleep(20000);
    int64_t count = stream_count();
    while (!has_all(parties, count) && time(NULL) < end)
        usleep(20000);
    pthread_mutex_lock(&seen.lock);
    seen.over = true;
    pthread_mutex_unlock(&seen.lock);
    CHECK(seen.error == 0, "a subscription ended: %s", seen.why);
    CHECK(seen.next == count && seen.next_of_all == count && seen.given_count == count &&
              seen.last_live == count - 1 && seen.ends == parties,
          "of %lld events %lld came, %lld of the log, %lld to the group, live up to %lld, %ld ends",
          (long long)count, (long long)seen.next, (long long)seen.next_of_all,
          (long long)seen.given_count, (long long)seen.last_live, seen.ends);
    CHECK(seen.wrong == 0, "%lld events came out of order", (long long)seen.wrong);
    check_ids(count);
    printf("# %lld events, %lld acknowledged here, %u live subscriptions\n", (long long)count,
           (long long)acks_count, seen.lives);
}
