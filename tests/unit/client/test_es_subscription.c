/*
 * client/eventstore/catch_up.c and member.c against a scripted server that keeps one stream, "s":
 * catching up, the gap, live events, handlers that keep a batch, lost connections at every point,
 * ends of all kinds; groups with their acknowledgements.
 */
#include "es_script.h"
#include "events_patient.h"

#include <kvs/events.h>
#include <kvs/kvs.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

static kvs_runtime *runtime;
static struct scripted_server server;
static kvs_events *events;

/* What a subscription was told; the handlers' thread writes, the test waits. */
struct watcher {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    kvs_subscription *subscription;
    int64_t next;   /* number that must come next */
    unsigned wrong; /* events that were another */
    unsigned batches;
    bool keep; /* batches, until the test resumes */
    unsigned kept;
    int live; /* how often it was told so */
    int waiting;
    bool dropped;
    int error;
    int32_t retries;
    kvs_event_id last_id;
};

static void watcher_init(struct watcher *watcher, int64_t next)
{
    *watcher = (struct watcher){.next = next};
    pthread_mutex_init(&watcher->lock, NULL);
    pthread_cond_init(&watcher->changed, NULL);
}

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    pthread_mutex_lock(&watcher->lock);
    for (size_t i = 0; i < count; i++) {
        const kvs_event *event = kvs_original_event(&got[i]);
        if (event->number != watcher->next)
            watcher->wrong++;
        watcher->next = event->number < KVS_EVENT_DELETED ? event->number + 1 : event->number;
        watcher->retries += got[i].retry_count;
        watcher->last_id = event->id;
    }
    watcher->batches++;
    bool keep = watcher->keep;
    watcher->kept += keep ? 1 : 0;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
    return !keep;
}

static void on_state(kvs_subscription *subscription, enum kvs_subscription_state state, void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    pthread_mutex_lock(&watcher->lock);
    watcher->live += state == KVS_SUBSCRIPTION_LIVE;
    watcher->waiting += state == KVS_SUBSCRIPTION_WAITING;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct watcher *watcher = arg;
    (void)subscription;
    (void)why;
    pthread_mutex_lock(&watcher->lock);
    assert_false(watcher->dropped);
    watcher->dropped = true;
    watcher->error = error;
    pthread_cond_broadcast(&watcher->changed);
    pthread_mutex_unlock(&watcher->lock);
}

static const struct kvs_subscription_handlers handlers = {
    .on_events = on_events, .on_state = on_state, .on_dropped = on_dropped};

#define await(watcher, condition)                                     \
    do {                                                              \
        pthread_mutex_lock(&(watcher)->lock);                         \
        while (!(condition))                                          \
            pthread_cond_wait(&(watcher)->changed, &(watcher)->lock); \
        pthread_mutex_unlock(&(watcher)->lock);                       \
    } while (0)

static int setup(void **state)
{
    (void)state;
    return kvs_runtime_new(NULL, &runtime);
}

static int teardown(void **state)
{
    (void)state;
    kvs_runtime_free(runtime);
    return 0;
}

static void begin(script_fn *script)
{
    scripted_server_start(&server, script);
    const struct kvs_events_options options = events_patient();
    events = opened_by(kvs_events_open(runtime, es_script_url(&server, ""), &options));
}

static void end(void)
{
    assert_int_equal(wait_and_free(kvs_events_close(events)), 0);
    scripted_server_stop(&server);
}

static void subscribe(struct watcher *watcher, enum kvs_subscribe_from from, int64_t after)
{
    const struct kvs_subscribe_options options = {
        .size = sizeof options,
        .stream = kvs_slice_of("s"),
        .from = from,
        .after_number = after,
        .page_count = 20,
        .buffer_count = 50,
    };
    watcher_init(watcher, from == KVS_SUBSCRIBE_FROM_START ? 0 : after + 1);
    int error = kvs_events_subscribe(events, &options, &handlers, watcher, &watcher->subscription);
    assert_int_equal(error, 0);
}

static void finish(struct watcher *watcher, int error)
{
    await(watcher, watcher->dropped);
    assert_int_equal(watcher->error, error);
    assert_int_equal(watcher->wrong, 0);
    kvs_subscription_free(watcher->subscription);
}

/* --- a stream that grows -----------------------------------------------------------------------
 */

static atomic_llong last_number; /* of the stream, as the server has it */

/*
 * Serves pages; when it is subscribed to, says `last` as it was a little ago, then appends three
 * events that the subscriber only gets as pushes if it asked in time, and one more at each step.
 */
static void script_stream(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        if (frame.command == ES_READ_STREAM_FORWARD) {
            es_script_page(self, &frame, atomic_load(&last_number));
        } else if (frame.command == ES_SUBSCRIBE_TO_STREAM) {
            /* Two come between the last page and the subscription: nobody pushes those. */
            int64_t last = atomic_fetch_add(&last_number, 2) + 2;
            es_script_confirm(self, &id, last);
            for (int i = 0; i < 3; i++)
                es_script_push(self, &id, atomic_fetch_add(&last_number, 1) + 1);
        } else if (frame.command == ES_UNSUBSCRIBE_FROM_STREAM) {
            scripted_server_step(self);
        } else if (frame.command == ES_DELETE_STREAM) {
            return; /* a test ends the connection by it */
        }
    }
}

static void test_from_the_start_over_the_gap(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 70);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    await(&watcher, watcher.next == 76);
    await(&watcher, watcher.live == 1);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void test_a_stream_that_is_not_there_yet(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, -1);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    await(&watcher, watcher.next == 5);
    kvs_subscription_free(watcher.subscription);
    await(&watcher, watcher.dropped);
    end();
}

static void test_behind_a_number(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 70);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_AFTER, 60);
    await(&watcher, watcher.next == 76);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void test_from_the_end(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 70);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_END, 72);
    await(&watcher, watcher.next == 76);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void test_it_goes_on_after_each_loss(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 70);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    for (int round = 1; round <= 5; round++) {
        await(&watcher, watcher.next == 71 + 5 * round);
        await(&watcher, watcher.live == round);
        if (round < 5) { /* it ends the connection; given up before it is sent again */
            assert_int_equal(
                wait_and_free(kvs_events_delete(events, kvs_slice_of("s"), -2, false, NULL)),
                KVS_ERR_OUTCOME_UNKNOWN);
            await(&watcher, watcher.waiting == round);
        }
    }
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void test_a_kept_batch_holds_the_flow(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 70);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    pthread_mutex_lock(&watcher.lock);
    watcher.keep = true;
    pthread_mutex_unlock(&watcher.lock);
    await(&watcher, watcher.kept > 0 || watcher.next == 76);
    while (true) {
        pthread_mutex_lock(&watcher.lock);
        bool done = watcher.next == 76;
        unsigned kept = watcher.kept;
        pthread_mutex_unlock(&watcher.lock);
        if (done)
            break;
        kvs_subscription_resume(watcher.subscription);
        await(&watcher, watcher.kept > kept);
    }
    assert_true(watcher.batches >= 4); /* pages of 20 */
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

/* Live, it pushes 200 events at once. */
static void script_flood(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        if (frame.command == ES_READ_STREAM_FORWARD) {
            es_script_page(self, &frame, atomic_load(&last_number));
        } else if (frame.command == ES_SUBSCRIBE_TO_STREAM) {
            es_script_confirm(self, &id, atomic_load(&last_number));
        } else if (frame.command == ES_PING) {
            es_script_send(self, ES_PONG, &id, NULL);
            for (int i = 0; i < 200; i++)
                es_script_push(self, &id, 0); /* late ones, of an id nobody waits for */
        }
    }
}

static struct es_id live_id;

static void script_flood_live(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        if (frame.command == ES_READ_STREAM_FORWARD) {
            es_script_page(self, &frame, atomic_load(&last_number));
        } else if (frame.command == ES_SUBSCRIBE_TO_STREAM) {
            live_id = id;
            es_script_confirm(self, &id, atomic_load(&last_number));
        } else if (frame.command == ES_PING) {
            /* More than the buffer takes, while the handler keeps the first of them. */
            for (int i = 0; i < 200; i++)
                es_script_push(self, &live_id, atomic_fetch_add(&last_number, 1) + 1);
            es_script_send(self, ES_PONG, &id, NULL);
        } else if (frame.command == ES_UNSUBSCRIBE_FROM_STREAM) {
            scripted_server_step(self);
        }
    }
}

static void ping(void)
{
    assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), 0);
}

static void test_a_slow_handler_reads_what_it_missed(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 10);
    begin(script_flood_live);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    await(&watcher, watcher.live == 1);
    pthread_mutex_lock(&watcher.lock);
    watcher.keep = true;
    pthread_mutex_unlock(&watcher.lock);
    ping();
    ping();                            /* the first is answered when all pushes have been read */
    scripted_server_await(&server, 1); /* it has unsubscribed */
    assert_int_equal(watcher.kept, 1);
    pthread_mutex_lock(&watcher.lock);
    watcher.keep = false;
    pthread_mutex_unlock(&watcher.lock);
    kvs_subscription_resume(watcher.subscription);
    await(&watcher, watcher.next == 411);
    await(&watcher, watcher.live == 2);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void test_a_volatile_one_that_is_slow_ends(void **state)
{
    (void)state;
    struct watcher watcher;
    const struct kvs_subscribe_options options = {
        .size = sizeof options,
        .stream = kvs_slice_of("s"),
        .from = KVS_SUBSCRIBE_FROM_END,
        .is_volatile = true,
        .buffer_count = 50,
    };
    atomic_store(&last_number, 10);
    begin(script_flood_live);
    watcher_init(&watcher, 11);
    watcher.keep = true;
    assert_int_equal(
        kvs_events_subscribe(events, &options, &handlers, &watcher, &watcher.subscription), 0);
    await(&watcher, watcher.live == 1);
    ping();
    ping();
    scripted_server_await(&server, 1);
    kvs_subscription_resume(watcher.subscription);
    finish(&watcher, KVS_ERR_BUSY);
    end();
}

static void test_late_pushes_are_nobodys(void **state)
{
    (void)state;
    begin(script_flood);
    ping();
    ping();
    end();
}

/* --- ends --------------------------------------------------------------------------------------
 */

static int64_t end_kind;

static void script_ends(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        const struct es_subscription_dropped dropped = {.has_reason = true, .reason = end_kind};
        const struct es_read_stream_events_completed deleted = {.result =
                                                                    ES_READ_STREAM_STREAM_DELETED};
        if (frame.command == ES_READ_STREAM_FORWARD && end_kind == 100) {
            es_script_send(self, ES_READ_STREAM_FORWARD_COMPLETED, &id, &deleted);
        } else if (frame.command == ES_READ_STREAM_FORWARD) {
            es_script_page(self, &frame, 3);
        } else if (end_kind == 101) {
            es_script_confirm(self, &id, 3);
            es_script_push(self, &id, KVS_EVENT_DELETED);
        } else if (end_kind == 102) {
            es_script_send_text(self, ES_NOT_AUTHENTICATED, &id, "");
        } else if (end_kind == 103) {
            es_script_send_text(self, ES_STREAM_EVENT_APPEARED, &id, "\x0a\xff");
            es_script_confirm(self, &id, 3);
            es_script_send_text(self, ES_STREAM_EVENT_APPEARED, &id, "\x0a\xff");
        } else {
            es_script_send(self, ES_SUBSCRIPTION_DROPPED, &id, &dropped);
        }
    }
}

static void test_ends_say_why(void **state)
{
    (void)state;
    static const struct {
        int64_t kind;
        int error;
    } cases[] = {
        {ES_DROP_ACCESS_DENIED, KVS_ERR_ACCESS_DENIED},
        {ES_DROP_NOT_FOUND, KVS_ERR_NOT_FOUND},
        {100, KVS_ERR_STREAM_DELETED},
        {101, KVS_ERR_STREAM_DELETED},
        {102, KVS_ERR_NOT_AUTHENTICATED},
        {103, KVS_ERR_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct watcher watcher;
        end_kind = cases[i].kind;
        begin(script_ends);
        subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
        await(&watcher, watcher.dropped);
        watcher.wrong = 0; /* the tombstone's number is what it is */
        finish(&watcher, cases[i].error);
        end();
    }
}

static atomic_uint odd_reads; /* of what is before the first event */

/* The stream's tombstone is pushed to who subscribes; a delete ends the connection. */
static void script_tombstone(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        struct es_read_stream_events wire;
        if (frame.command == ES_READ_STREAM_FORWARD) {
            if (es_message_decode(frame.body, &es_read_stream_events_type, &wire) == 0 &&
                wire.from_event_number < 0)
                atomic_fetch_add(&odd_reads, 1);
            es_script_page(self, &frame, 3);
        } else if (frame.command == ES_SUBSCRIBE_TO_STREAM) {
            es_script_confirm(self, &id, 3);
            es_script_push(self, &id, KVS_EVENT_DELETED);
        } else if (frame.command == ES_PING) {
            es_script_send(self, ES_PONG, &id, NULL);
        } else if (frame.command == ES_DELETE_STREAM) {
            return;
        }
    }
}

/* Nothing is behind a tombstone, so nothing is asked for while the handler still has it. */
static void test_a_tombstone_is_the_last(void **state)
{
    (void)state;
    struct watcher watcher;
    begin(script_tombstone);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    pthread_mutex_lock(&watcher.lock);
    watcher.keep = true;
    pthread_mutex_unlock(&watcher.lock);
    await(&watcher, watcher.next == 4 || watcher.kept > 0);
    kvs_subscription_resume(watcher.subscription);
    await(&watcher, watcher.next == KVS_EVENT_DELETED);
    assert_int_equal(wait_and_free(kvs_events_delete(events, kvs_slice_of("s"), -2, false, NULL)),
                     KVS_ERR_OUTCOME_UNKNOWN);
    await(&watcher, watcher.waiting == 1);
    ping();
    ping(); /* what it asks for when the connection is back, it has asked for by now */
    assert_int_equal(atomic_load(&odd_reads), 0);
    assert_false(watcher.dropped);
    kvs_subscription_resume(watcher.subscription);
    await(&watcher, watcher.dropped);
    watcher.wrong = 0; /* the tombstone's number is what it is */
    finish(&watcher, KVS_ERR_STREAM_DELETED);
    end();
}

static void test_closing_drops_subscriptions(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&last_number, 70);
    begin(script_stream);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    await(&watcher, watcher.next > 0);
    end();
    finish(&watcher, KVS_ERR_CLOSED);
}

/* --- groups ------------------------------------------------------------------------------------
 */

static int64_t group_drop;
static atomic_int acks;
static atomic_int naks;

/* Pushes two events; the first connection ends when one is acknowledged, then the other comes
 * again, with a retry count. */
static void script_group(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    int64_t next = number == 0 ? 0 : 1;
    const struct es_persistent_subscription_confirmation confirmed = {.subscription_id =
                                                                          slice_of_string("s::g")};
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame)) {
        struct es_id id = frame.correlation;
        struct es_connect_to_persistent_subscription join;
        struct es_persistent_subscription_nak_events nak;
        if (frame.command == ES_CONNECT_TO_GROUP) {
            if (es_message_decode(frame.body, &es_connect_to_persistent_subscription_type, &join) ||
                join.allowed_in_flight_messages != 3 ||
                !slice_equal(join.subscription_id, slice_of_string("g")))
                return;
            es_script_send(self, ES_GROUP_CONFIRMATION, &id, &confirmed);
            for (; next < 2; next++) {
                const struct es_persistent_subscription_event_appeared wire = {
                    .event = {.has_event = true, .event = es_script_record("s", next)},
                    .has_retry_count = true,
                    .retry_count = number,
                };
                es_script_send(self, ES_GROUP_EVENT_APPEARED, &id, &wire);
            }
        } else if (frame.command == ES_GROUP_ACK_EVENTS || frame.command == ES_GROUP_NAK_EVENTS) {
            kvs_slice event_id;
            if (es_message_decode(frame.body, &es_persistent_subscription_nak_events_type, &nak) ||
                !slice_equal(nak.subscription_id, slice_of_string("s::g")))
                return;
            while (es_list_next_text(&nak.processed_event_ids, &event_id) == 1)
                atomic_fetch_add(frame.command == ES_GROUP_ACK_EVENTS ? &acks : &naks, 1);
            scripted_server_step(self);
            if (number == 0)
                return;
        }
    }
}

static void join(struct watcher *watcher, bool manual_ack)
{
    const struct kvs_group_subscribe_options options = {
        .size = sizeof options,
        .stream = kvs_slice_of("s"),
        .group = kvs_slice_of("g"),
        .in_flight = 3,
        .manual_ack = manual_ack,
    };
    watcher_init(watcher, 0);
    int error =
        kvs_events_subscribe_group(events, &options, &handlers, watcher, &watcher->subscription);
    assert_int_equal(error, 0);
}

static void test_a_group_gives_again_what_was_not_acknowledged(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&acks, 0);
    atomic_store(&naks, 0);
    begin(script_group);
    join(&watcher, true);
    await(&watcher, watcher.next == 2);
    kvs_event_id id = watcher.last_id;
    assert_int_equal(kvs_subscription_ack(watcher.subscription, &id, 1), 0);
    scripted_server_await(&server, 1);
    await(&watcher, watcher.live == 2); /* the second connection */
    await(&watcher, watcher.retries == 1);
    watcher.wrong = 0; /* it came again */
    assert_int_equal(kvs_subscription_nak(watcher.subscription, &id, 1, KVS_NAK_PARK, "no use"), 0);
    scripted_server_await(&server, 2);
    assert_int_equal(atomic_load(&acks), 1);
    assert_int_equal(atomic_load(&naks), 1);
    assert_int_equal(watcher.waiting, 1);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void test_a_group_acknowledges_by_itself(void **state)
{
    (void)state;
    struct watcher watcher;
    atomic_store(&acks, 0);
    begin(script_group);
    join(&watcher, false);
    await(&watcher, watcher.retries >= 1 || watcher.next == 2);
    scripted_server_await(&server, 2);
    assert_true(atomic_load(&acks) >= 2);
    watcher.wrong = 0;
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

static void script_group_drops(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    unsigned joins = 0;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_expect(self, ES_CONNECT_TO_GROUP, &frame)) {
        /* A group that was changed drops everybody; then it is gone. */
        int64_t reason =
            group_drop == ES_DROP_UNSUBSCRIBED && joins++ > 0 ? ES_DROP_NOT_FOUND : group_drop;
        const struct es_subscription_dropped wire = {.has_reason = true, .reason = reason};
        es_script_send(self, ES_SUBSCRIPTION_DROPPED, &frame.correlation, &wire);
    }
}

static void test_ends_of_a_member(void **state)
{
    (void)state;
    static const int errors[] = {
        [ES_DROP_UNSUBSCRIBED] = KVS_ERR_NOT_FOUND, [ES_DROP_ACCESS_DENIED] = KVS_ERR_ACCESS_DENIED,
        [ES_DROP_NOT_FOUND] = KVS_ERR_NOT_FOUND,    [ES_DROP_GROUP_DELETED] = KVS_ERR_NOT_FOUND,
        [ES_DROP_SUBSCRIBER_MAX] = KVS_ERR_BUSY,
    };
    for (group_drop = 0; group_drop <= ES_DROP_SUBSCRIBER_MAX; group_drop++) {
        struct watcher watcher;
        begin(script_group_drops);
        join(&watcher, false);
        finish(&watcher, errors[group_drop]);
        end();
    }
}

/* Takes each member in, or does not, and lets go of it at once. */
static void script_group_takes_nobody(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    const struct es_persistent_subscription_confirmation confirmed = {.subscription_id =
                                                                          slice_of_string("s::g")};
    const struct es_subscription_dropped dropped = {.has_reason = true,
                                                    .reason = ES_DROP_UNSUBSCRIBED};
    (void)number;
    if (!es_script_greet(self))
        return;
    for (unsigned joins = 0; es_script_expect(self, ES_CONNECT_TO_GROUP, &frame); joins++) {
        scripted_server_step(self);
        if (joins % 2 == 1)
            es_script_send(self, ES_GROUP_CONFIRMATION, &frame.correlation, &confirmed);
        es_script_send(self, ES_SUBSCRIPTION_DROPPED, &frame.correlation, &dropped);
    }
}

static void test_a_member_that_is_not_kept_takes_its_time(void **state)
{
    (void)state;
    struct watcher watcher;
    begin(script_group_takes_nobody);
    join(&watcher, false);
    scripted_server_await(&server, 2);
    usleep(300 * 1000);
    int joins = atomic_load(&server.steps);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
    if (joins > 10)
        fail_msg("joined %d times", joins);
}

/* --- checkpoints -------------------------------------------------------------------------------
 */

typedef void checkpoint_fn(kvs_subscription *subscription, kvs_position position, void *arg);

/* To what begins with "x"; the first of it is to have this number. */
static void subscribe_filtered(struct watcher *watcher, int64_t next, checkpoint_fn *on_checkpoint)
{
    struct kvs_subscription_handlers with_checkpoint = handlers;
    const kvs_slice prefix = slice_of_string("x");
    const kvs_event_filter filter = {
        .kind = KVS_FILTER_PREFIX, .patterns = &prefix, .patterns_count = 1};
    const struct kvs_subscribe_options options = {.size = sizeof options, .filter = &filter};
    with_checkpoint.on_checkpoint = on_checkpoint;
    watcher_init(watcher, next);
    assert_int_equal(
        kvs_events_subscribe(events, &options, &with_checkpoint, watcher, &watcher->subscription),
        0);
}

/* Where EventStoreDB's pages lead: behind a record, and into a transaction; then ours. */
static const kvs_position page_ends[] = {{500, 0}, {700, 650}, {900, 900}};
#define PAGES 3u

static kvs_position noted[PAGES];
static atomic_uint noted_count;

static void on_noted_checkpoint(kvs_subscription *subscription, kvs_position position, void *arg)
{
    (void)subscription;
    (void)arg;
    unsigned count = atomic_load(&noted_count);
    if (count < PAGES)
        noted[count] = position;
    atomic_store(&noted_count, count + 1);
}

static void script_pages_of_nothing(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    if (!es_script_greet(self))
        return;
    for (unsigned i = 0; i < PAGES; i++) {
        const struct es_filtered_read_all_events_completed page = {
            .next_commit_position = page_ends[i].commit,
            .next_prepare_position = page_ends[i].prepare,
        };
        if (!es_script_expect(self, ES_FILTERED_READ_ALL_FORWARD, &frame))
            return;
        es_script_send(self, ES_FILTERED_READ_ALL_FORWARD_COMPLETED, &frame.correlation, &page);
    }
    script_read_to_end(self);
}

static kvs_position told_last;
static atomic_bool told_back;

static void on_ordered_checkpoint(kvs_subscription *subscription, kvs_position position, void *arg)
{
    (void)subscription;
    (void)arg;
    if (kvs_position_compare(position, told_last) < 0)
        atomic_store(&told_back, true);
    told_last = position;
    if (position.commit == 500)
        scripted_server_step(&server);
}

static bool send_empty_page(struct scripted_server *self, int64_t next)
{
    struct es_frame frame;
    const struct es_filtered_read_all_events_completed page = {
        .next_commit_position = next, .next_prepare_position = next, .is_end_of_stream = true};
    return es_script_expect(self, ES_FILTERED_READ_ALL_FORWARD, &frame) &&
           es_script_send(self, ES_FILTERED_READ_ALL_FORWARD_COMPLETED, &frame.correlation, &page);
}

/* What comes before it, the confirmation, and what comes until then. */
static bool send_subscribed(struct scripted_server *self, int64_t next, struct es_id *ret_id)
{
    struct es_frame frame;
    if (!send_empty_page(self, next) || !es_script_expect(self, ES_FILTERED_SUBSCRIBE, &frame))
        return false;
    *ret_id = frame.correlation;
    return es_script_confirm(self, ret_id, next - 1) && send_empty_page(self, next);
}

static const struct es_checkpoint_reached at_200 = {200, 200};

/* Ends the subscription right behind a checkpoint; after that events are further on. */
static void script_ends_behind_a_checkpoint(struct scripted_server *self, unsigned number)
{
    (void)number;
    const struct es_subscription_dropped dropped = {.has_reason = true,
                                                    .reason = ES_DROP_UNSUBSCRIBED};
    struct es_id id;
    struct buf both = BUF_INIT;
    if (!es_script_greet(self) || !send_subscribed(self, 100, &id))
        return;
    if (es_send(&both, ES_CHECKPOINT_REACHED, &id, NULL, &at_200) == 0 &&
        es_send(&both, ES_SUBSCRIPTION_DROPPED, &id, NULL, &dropped) == 0)
        script_send_buf(self, &both);
    if (!send_subscribed(self, 500, &id))
        return;
    scripted_server_await(self, 2); /* it is live, and the page's checkpoint is told */
    if (es_script_push(self, &id, 600))
        script_read_to_end(self);
}

/* Tells of a checkpoint while it owes the page that leads behind that. */
static void script_checkpoint_before_a_page(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    if (!es_script_greet(self) || !send_empty_page(self, 100) ||
        !es_script_expect(self, ES_FILTERED_SUBSCRIBE, &frame))
        return;
    struct es_id id = frame.correlation;
    if (!es_script_confirm(self, &id, 99) ||
        !es_script_send(self, ES_CHECKPOINT_REACHED, &id, &at_200) || !send_empty_page(self, 500))
        return;
    scripted_server_await(self, 2); /* likewise: else the event takes the checkpoint's place */
    if (es_script_push(self, &id, 600))
        script_read_to_end(self);
}

/* Until event 600: all that are told lead further. */
static void checkpoints_lead_on(script_fn *script, int lives)
{
    struct watcher watcher;
    told_last = KVS_POSITION_START;
    begin(script);
    subscribe_filtered(&watcher, 600, on_ordered_checkpoint);
    await(&watcher, watcher.live == lives);
    scripted_server_step(&server);
    await(&watcher, watcher.next == 601);
    kvs_subscription_free(watcher.subscription);
    await(&watcher, watcher.dropped);
    end();
    assert_false(atomic_load(&told_back));
    assert_int_equal(told_last.commit, 500);
}

static void test_checkpoints_do_not_go_back(void **state)
{
    (void)state;
    checkpoints_lead_on(script_ends_behind_a_checkpoint, 2);
    checkpoints_lead_on(script_checkpoint_before_a_page, 1);
}

static atomic_llong resumed_from;

/* One event, at position 100, then nothing up to 900; a checkpoint, and the connection ends. */
static void script_far_behind_an_event(struct scripted_server *self, unsigned number)
{
    const struct es_checkpoint_reached reached = {.commit_position = 1500,
                                                  .prepare_position = 1500};
    const struct es_resolved_event event = {.has_event = true,
                                            .event = es_script_record("x", 0),
                                            .commit_position = 100,
                                            .prepare_position = 100};
    const struct es_filtered_read_all_events_completed page = {
        .events = {.items = &event, .count = 1},
        .next_commit_position = 900,
        .next_prepare_position = 900,
        .is_end_of_stream = true};
    struct es_filtered_read_all_events read;
    struct es_frame frame;
    struct es_id id;
    if (!es_script_greet(self) || !es_script_expect(self, ES_FILTERED_READ_ALL_FORWARD, &frame))
        return;
    if (number > 0) {
        if (es_message_decode(frame.body, &es_filtered_read_all_events_type, &read) == 0)
            atomic_store(&resumed_from, read.commit_position);
        scripted_server_step(self);
        script_read_to_end(self);
        return;
    }
    es_script_send(self, ES_FILTERED_READ_ALL_FORWARD_COMPLETED, &frame.correlation, &page);
    if (!es_script_expect(self, ES_FILTERED_SUBSCRIBE, &frame))
        return;
    id = frame.correlation;
    if (es_script_confirm(self, &id, 899) && send_empty_page(self, 900) &&
        es_script_send(self, ES_CHECKPOINT_REACHED, &id, &reached))
        scripted_server_await(self, 1);
}

static void on_far_checkpoint(kvs_subscription *subscription, kvs_position position, void *arg)
{
    (void)subscription;
    (void)arg;
    if (position.commit == 1500)
        scripted_server_step(&server);
}

/* What was looked at, and had nothing of the filter's, is not looked at again. */
static void test_it_goes_on_behind_its_checkpoint(void **state)
{
    (void)state;
    struct watcher watcher;
    begin(script_far_behind_an_event);
    subscribe_filtered(&watcher, 0, on_far_checkpoint);
    scripted_server_await(&server, 2);
    kvs_subscription_free(watcher.subscription);
    await(&watcher, watcher.dropped);
    end();
    assert_int_equal(watcher.next, 1);
    assert_int_equal(atomic_load(&resumed_from), 1500);
}

/* A checkpoint is before all that comes, and a position that EventStoreDB can read from: its
 * commit position is where a record begins, as that of the page's end. */
static void test_checkpoints_are_positions_to_read_from(void **state)
{
    (void)state;
    static const kvs_position expected[PAGES] = {{500, 0}, {700, 649}, {900, 899}};
    struct watcher watcher;
    atomic_store(&noted_count, 0);
    begin(script_pages_of_nothing);
    subscribe_filtered(&watcher, 0, on_noted_checkpoint);
    while (atomic_load(&noted_count) < PAGES)
        usleep(1000);
    kvs_subscription_free(watcher.subscription);
    await(&watcher, watcher.dropped);
    end();
    for (unsigned i = 0; i < PAGES; i++) {
        assert_int_equal(noted[i].commit, expected[i].commit);
        assert_int_equal(noted[i].prepare, expected[i].prepare);
    }
}

static void test_misuse_of_subscriptions(void **state)
{
    (void)state;
    struct watcher watcher;
    kvs_subscription *none;
    kvs_event_id id = {0};
    struct kvs_subscribe_options options = {.size = sizeof options, .is_volatile = true};
    struct kvs_group_subscribe_options group = {.size = sizeof group};
    atomic_store(&last_number, 3);
    begin(script_stream);
    assert_int_equal(kvs_events_subscribe(events, &options, &handlers, NULL, &none),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(kvs_events_subscribe(events, NULL, &handlers, NULL, &none),
                     KVS_ERR_INVALID_ARGUMENT);
    options.is_volatile = false;
    assert_int_equal(kvs_events_subscribe(events, &options, NULL, NULL, &none),
                     KVS_ERR_INVALID_ARGUMENT);
    options.from = KVS_SUBSCRIBE_AFTER; /* nothing can be behind the last position there is */
    options.after_position = (kvs_position){INT64_MAX, 0};
    assert_int_equal(kvs_events_subscribe(events, &options, &handlers, NULL, &none),
                     KVS_ERR_INVALID_ARGUMENT);
    assert_int_equal(kvs_events_subscribe_group(events, &group, &handlers, NULL, &none),
                     KVS_ERR_INVALID_ARGUMENT);
    subscribe(&watcher, KVS_SUBSCRIBE_FROM_START, 0);
    assert_int_equal(kvs_subscription_ack(watcher.subscription, &id, 1), KVS_ERR_INVALID_ARGUMENT);
    kvs_subscription_resume(watcher.subscription); /* nothing is kept: nothing happens */
    kvs_subscription_stop(watcher.subscription);
    kvs_subscription_stop(watcher.subscription);
    finish(&watcher, 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_the_start_over_the_gap),
        cmocka_unit_test(test_a_stream_that_is_not_there_yet),
        cmocka_unit_test(test_behind_a_number),
        cmocka_unit_test(test_from_the_end),
        cmocka_unit_test(test_it_goes_on_after_each_loss),
        cmocka_unit_test(test_a_kept_batch_holds_the_flow),
        cmocka_unit_test(test_a_slow_handler_reads_what_it_missed),
        cmocka_unit_test(test_a_volatile_one_that_is_slow_ends),
        cmocka_unit_test(test_late_pushes_are_nobodys),
        cmocka_unit_test(test_ends_say_why),
        cmocka_unit_test(test_a_tombstone_is_the_last),
        cmocka_unit_test(test_closing_drops_subscriptions),
        cmocka_unit_test(test_a_group_gives_again_what_was_not_acknowledged),
        cmocka_unit_test(test_a_group_acknowledges_by_itself),
        cmocka_unit_test(test_ends_of_a_member),
        cmocka_unit_test(test_a_member_that_is_not_kept_takes_its_time),
        cmocka_unit_test(test_checkpoints_are_positions_to_read_from),
        cmocka_unit_test(test_checkpoints_do_not_go_back),
        cmocka_unit_test(test_it_goes_on_behind_its_checkpoint),
        cmocka_unit_test(test_misuse_of_subscriptions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
