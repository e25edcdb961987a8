/*
 * cli/bench/worker_live.c: from an append's acknowledgement to its event's being handled.
 *
 *   1. as many subscriptions as the worker has connections begin at the end of the stream, all on
 *      its one connection; 2. when all are live, each lane appends one event, waits until it is
 *      acknowledged and all subscriptions have it, and appends the next one; there are as many
 *      lanes as --pipeline says.
 *
 * An event begins with a stamp: whose it is, its lane and the lane's turn. What is recorded is, of
 * each append, the time to its acknowledgement, and of each delivery the time since that
 * acknowledgement: 0 if the event came before it.
 *
 * Failure: a subscription that ends, or an event that does not come within --timeout, ends the
 * phase with an error. Thread: the worker's.
 */
#include "cli/bench/worker_live.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"
#include "cli/bench/worker_events.h"

#include <stdio.h>

struct live_lane {
    struct live *live;
    uint64_t turn;
    uint64_t start_ns;
    uint64_t acknowledged_ns; /* 0: not yet */
    size_t seen;              /* subscriptions that have the event */
    bool busy;
};

struct live {
    struct worker *worker;
    struct polled *polled;
    kvs_events *events;
    kvs_subscription **subscriptions;
    size_t subscriptions_count;
    size_t subscriptions_open;
    size_t subscriptions_live;
    struct live_lane *lanes;
    size_t lanes_count;
    size_t lanes_busy;
    uint64_t owner; /* in the stamps of this run */
    uint64_t progress_ns;
    uint8_t *data;
    bool ending; /* subscriptions are being stopped */
    bool broken;
};

static void live_break(struct live *live, const char *why)
{
    if (!live->broken)
        worker_events_note(live->worker, why);
    live->broken = true;
}

/* --- lanes ------------------------------------------------------------------------------------ */

static void lane_append(struct live_lane *lane, uint64_t now);

static void lane_look(struct live_lane *lane, uint64_t now)
{
    struct live *live = lane->live;
    if (lane->acknowledged_ns == 0 || lane->seen < live->subscriptions_count)
        return;
    lane->busy = false;
    live->lanes_busy--;
    lane->turn++;
    if (!live->broken && worker_events_may_issue(live->worker, now))
        lane_append(lane, now);
}

static void lane_on_acknowledged(kvs_future *future, void *arg)
{
    struct live_lane *lane = arg;
    struct live *live = lane->live;
    struct worker *worker = live->worker;
    uint64_t now = clock_now_ns();
    worker->in_flight--;
    worker->tally.end_ns = live->progress_ns = now;
    if (kvs_future_error(future) != 0) {
        live_break(live, kvs_future_error_message(future));
    } else {
        histogram_record(&worker->tally.latency[OPERATION_SET], now - lane->start_ns);
        lane->acknowledged_ns = now;
        for (size_t i = 0; i < lane->seen; i++)
            histogram_record(&worker->tally.latency[OPERATION_GET], 0);
        lane_look(lane, now);
    }
    kvs_future_free(future);
}

static void lane_append(struct live_lane *lane, uint64_t now)
{
    struct live *live = lane->live;
    struct worker *worker = live->worker;
    size_t size = worker->load->target->value_size;
    lane->acknowledged_ns = 0;
    lane->seen = 0;
    lane->start_ns = now;
    put_u64(live->data, live->owner);
    put_u32(live->data + 8, (uint32_t)(lane - live->lanes));
    put_u32(live->data + 12, (uint32_t)lane->turn);
    const kvs_new_event event = {
        .type = kvs_slice_of("kvs-bench"),
        .data = slice_make(live->data, size > LIVE_STAMP_SIZE ? size : LIVE_STAMP_SIZE),
    };
    kvs_future *future =
        kvs_events_append(live->events, kvs_slice_of(worker->load->target->events.stream),
                          KVS_EXPECT_ANY, &event, 1, NULL);
    if (future == NULL || kvs_future_on_ready(future, lane_on_acknowledged, lane) != 0) {
        kvs_future_free(future);
        live_break(live, kvs_error_text(KVS_ERR_NO_MEMORY));
        return;
    }
    worker->issued++;
    worker->in_flight++;
    lane->busy = true;
    live->lanes_busy++;
}

/* --- subscriptions ---------------------------------------------------------------------------- */

/* The lane whose event this is; NULL: somebody else's. */
static struct live_lane *lane_of(struct live *live, kvs_slice data)
{
    if (data.size < LIVE_STAMP_SIZE || get_u64(data.data) != live->owner)
        return NULL;
    uint32_t index = get_u32(data.data + 8);
    struct live_lane *lane = index < live->lanes_count ? &live->lanes[index] : NULL;
    return lane != NULL && lane->busy && (uint32_t)lane->turn == get_u32(data.data + 12) ? lane
                                                                                         : NULL;
}

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *events,
                      size_t count, void *arg)
{
    struct live *live = arg;
    struct worker *worker = live->worker;
    (void)subscription;
    for (size_t i = 0; i < count; i++) {
        struct live_lane *lane =
            events[i].event != NULL ? lane_of(live, events[i].event->data) : NULL;
        if (lane == NULL)
            continue;
        uint64_t now = clock_now_ns();
        worker->tally.events++;
        worker->tally.end_ns = live->progress_ns = now;
        lane->seen++;
        if (lane->acknowledged_ns != 0)
            histogram_record(&worker->tally.latency[OPERATION_GET], now - lane->acknowledged_ns);
        lane_look(lane, now);
    }
    return true;
}

static void on_state(kvs_subscription *subscription, enum kvs_subscription_state state, void *arg)
{
    struct live *live = arg;
    (void)subscription;
    live->subscriptions_live += state == KVS_SUBSCRIPTION_LIVE;
    live->progress_ns = clock_now_ns();
    if (state == KVS_SUBSCRIPTION_WAITING)
        live_break(live, "the connection of a subscription was lost");
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct live *live = arg;
    (void)subscription;
    live->subscriptions_open--;
    if (!live->ending)
        live_break(live, error != 0 ? why : "a subscription ended");
}

static int subscribe_all(struct live *live)
{
    static const struct kvs_subscription_handlers handlers = {
        .on_events = on_events, .on_state = on_state, .on_dropped = on_dropped};
    const struct kvs_subscribe_options options = {
        .size = sizeof options,
        .stream = kvs_slice_of(live->worker->load->target->events.stream),
        .from = KVS_SUBSCRIBE_FROM_END,
    };
    for (size_t i = 0; i < live->subscriptions_count; i++) {
        int error =
            kvs_events_subscribe(live->events, &options, &handlers, live, &live->subscriptions[i]);
        if (error != 0)
            return error;
        live->subscriptions_open++;
    }
    return 0;
}

static void unsubscribe_all(struct live *live)
{
    live->ending = true;
    for (size_t i = 0; i < live->subscriptions_count; i++)
        kvs_subscription_free(live->subscriptions[i]);
    while (live->subscriptions_open > 0)
        polled_turn(live->polled, -1);
}

/* --- the phase -------------------------------------------------------------------------------- */

/* Turns; breaks the phase when nothing has come for too long. */
static void live_turn(struct live *live)
{
    polled_turn(live->polled, 100); /* what does not come says nothing */
    if (clock_now_ns() - live->progress_ns > live->worker->load->timeout_ns)
        live_break(live, "an event was not delivered in time");
}

static void live_measure(struct live *live)
{
    live->progress_ns = clock_now_ns();
    while (live->subscriptions_live < live->subscriptions_count && !live->broken)
        live_turn(live);
    uint64_t now = clock_now_ns();
    for (size_t i = 0; i < live->lanes_count && !live->broken; i++) {
        if (worker_events_may_issue(live->worker, now))
            lane_append(&live->lanes[i], now);
    }
    while (live->lanes_busy > 0 && !live->broken)
        live_turn(live);
    while (live->worker->in_flight > 0) /* their futures point here; they have deadlines */
        polled_turn(live->polled, -1);
}

static int live_init(struct live *live)
{
    struct worker *worker = live->worker;
    size_t size = worker->load->target->value_size;
    live->subscriptions_count = worker->busy_count;
    live->lanes_count = worker->phase.depth;
    live->owner = rand_u64(&worker->rand) ^ clock_now_ns(); /* also not that of an earlier run */
    live->subscriptions = mem_zalloc(live->subscriptions_count * sizeof live->subscriptions[0]);
    live->lanes = mem_zalloc(live->lanes_count * sizeof live->lanes[0]);
    live->data = mem_zalloc(size > LIVE_STAMP_SIZE ? size : LIVE_STAMP_SIZE);
    if (live->subscriptions == NULL || live->lanes == NULL || live->data == NULL)
        return KVS_ERR_NO_MEMORY;
    if (size > 0)
        memcpy(live->data, worker->load->values, size);
    for (size_t i = 0; i < live->lanes_count; i++)
        live->lanes[i].live = live;
    return 0;
}

int worker_live_run(struct worker *worker, struct polled *polled, kvs_events *events,
                    char text[TARGET_TEXT_MAX])
{
    struct live live = {.worker = worker, .polled = polled, .events = events};
    int error = live_init(&live);
    if (error == 0)
        error = subscribe_all(&live);
    if (error == 0)
        live_measure(&live);
    else
        snprintf(text, TARGET_TEXT_MAX, "%s", kvs_error_text(error));
    if (live.subscriptions != NULL)
        unsubscribe_all(&live);
    mem_free(live.subscriptions);
    mem_free(live.lanes);
    mem_free(live.data);
    return error;
}
