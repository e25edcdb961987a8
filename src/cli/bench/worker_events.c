/*
 * cli/bench/worker_events.c: one phase of load on event streams (kvs/events.h).
 *
 *   1. the worker's thread makes a runtime that it polls itself, and opens the client;
 *   2. append: each lane has one append of `batch` events under way; read: one page of `page`
 *      events, from the begin of the stream and again; subscribe: each lane is a catch-up
 *      subscription from the begin; live: worker_live.c;
 *   3. when the phase is over, the lanes run out, and the client is closed.
 *
 * All of a worker's lanes share its one connection; there are connections x pipeline of them, for
 * subscriptions as many as connections. What is counted as answered are appends, pages, or events
 * of subscriptions; the events beside that. All workers use one stream. Closed loop only. Thread:
 * the worker's.
 */
#include "cli/bench/worker_events.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/slice.h"
#include "cli/bench/polled.h"
#include "cli/bench/worker_live.h"

#include <stdio.h>

#define FILL_BATCH 100u

struct events_lane {
    struct events_run *run;
    uint64_t start_ns;
    uint32_t count; /* events of the append under way */
    int64_t next;   /* number to read from */
    kvs_subscription *subscription;
};

struct events_run {
    struct worker *worker;
    struct polled polled;
    kvs_events *events;
    struct events_lane *lanes;
    kvs_new_event *batch;
    size_t count;
    size_t under_way; /* lanes */
};

void worker_events_note(struct worker *worker, const char *text)
{
    histogram_bump(&worker->tally.errors, 1);
    if (worker->tally.first_error[0] == '\0')
        snprintf(worker->tally.first_error, TARGET_TEXT_MAX, "%s", text);
}

bool worker_events_may_issue(const struct worker *worker, uint64_t now)
{
    return worker->issued < worker->phase.requests_max && now < worker->phase.deadline_ns &&
           !atomic_load_explicit(&worker->load->stop, memory_order_relaxed); /* only a wish */
}

static enum target_events_kind kind_of(const struct worker *worker)
{
    return worker->phase.fill ? TARGET_EVENTS_APPEND : worker->load->target->events.kind;
}

static kvs_slice stream_name(const struct worker *worker)
{
    return kvs_slice_of(worker->load->target->events.stream);
}

/* --- appends and pages -------------------------------------------------------------------------
 */

static void lane_issue(struct events_lane *lane, uint64_t now);

static void lane_on_page(struct events_lane *lane, kvs_future *future)
{
    struct worker *worker = lane->run->worker;
    void *pointer = NULL;
    if (kvs_future_get_pointer(future, &pointer) != 0)
        return;
    const kvs_event_page *page = pointer;
    worker->tally.events += page->count;
    lane->next = page->is_end ? 0 : page->next_number;
}

static void lane_on_ready(kvs_future *future, void *arg)
{
    struct events_lane *lane = arg;
    struct worker *worker = lane->run->worker;
    uint64_t now = clock_now_ns();
    bool is_read = lane->count == 0;
    int error = kvs_future_error(future);
    worker->in_flight--;
    worker->tally.end_ns = now;
    histogram_record(&worker->tally.latency[is_read ? OPERATION_GET : OPERATION_SET],
                     now - lane->start_ns);
    if (error != 0)
        worker_events_note(worker, kvs_future_error_message(future));
    else if (is_read)
        lane_on_page(lane, future);
    else
        worker->tally.events += lane->count;
    kvs_future_free(future);
    if (worker_events_may_issue(worker, now))
        lane_issue(lane, now);
}

static kvs_future *lane_append(struct events_lane *lane)
{
    struct events_run *run = lane->run;
    struct worker *worker = run->worker;
    const struct load *load = worker->load;
    uint64_t left = worker->phase.requests_max - worker->issued;
    lane->count = worker->phase.fill ? FILL_BATCH : load->target->events.batch;
    if (worker->phase.fill && left < lane->count)
        lane->count = (uint32_t)left;
    worker->issued += worker->phase.fill ? lane->count : 1; /* a fill counts events */
    for (uint32_t i = 0; i < lane->count; i++)
        run->batch[i] = (kvs_new_event){
            .type = kvs_slice_of("kvs-bench"),
            .data = slice_make(load->values + (rand_u64(&worker->rand) & (VALUES_SPREAD - 1)),
                               load->target->value_size),
        };
    return kvs_events_append(run->events, stream_name(worker), KVS_EXPECT_ANY, run->batch,
                             lane->count, NULL);
}

static void lane_issue(struct events_lane *lane, uint64_t now)
{
    struct worker *worker = lane->run->worker;
    kvs_future *future;
    lane->start_ns = now;
    if (kind_of(worker) == TARGET_EVENTS_APPEND) {
        future = lane_append(lane);
    } else {
        worker->issued++;
        lane->count = 0;
        future = kvs_events_read_stream(lane->run->events, stream_name(worker), lane->next,
                                        worker->load->target->events.page, 0, NULL);
    }
    if (future == NULL || kvs_future_on_ready(future, lane_on_ready, lane) != 0) {
        kvs_future_free(future);
        worker_events_note(worker, kvs_error_text(KVS_ERR_NO_MEMORY));
        return;
    }
    worker->in_flight++;
}

/* --- subscriptions -----------------------------------------------------------------------------
 */

static bool lane_on_events(kvs_subscription *subscription, const kvs_resolved_event *events,
                           size_t count, void *arg)
{
    struct events_lane *lane = arg;
    struct worker *worker = lane->run->worker;
    uint64_t now = clock_now_ns();
    (void)events;
    /* Each event's share of the time since the batch before. */
    for (size_t i = 0; i < count; i++)
        histogram_record(&worker->tally.latency[OPERATION_GET], (now - lane->start_ns) / count);
    lane->start_ns = now;
    worker->issued += count;
    worker->tally.events += count;
    worker->tally.end_ns = now;
    if (!worker_events_may_issue(worker, now))
        kvs_subscription_stop(subscription);
    return true;
}

static void lane_on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    struct events_lane *lane = arg;
    (void)subscription;
    if (error != 0)
        worker_events_note(lane->run->worker, why);
    lane->run->under_way--;
}

static void lane_subscribe(struct events_lane *lane, uint64_t now)
{
    static const struct kvs_subscription_handlers handlers = {.on_events = lane_on_events,
                                                              .on_dropped = lane_on_dropped};
    struct worker *worker = lane->run->worker;
    const struct kvs_subscribe_options options = {
        .size = sizeof options,
        .stream = stream_name(worker),
        .page_count = worker->load->target->events.page,
    };
    lane->start_ns = now;
    int error =
        kvs_events_subscribe(lane->run->events, &options, &handlers, lane, &lane->subscription);
    if (error != 0)
        worker_events_note(worker, kvs_error_text(error));
    else
        lane->run->under_way++;
}

/* --- the client --------------------------------------------------------------------------------
 */

static int run_open(struct events_run *run, const struct target *target, char *text)
{
    const struct kvs_events_options options = {
        .size = sizeof options,
        .connection_name = "kvs-bench",
        .tls = target->tls.ca != NULL || target->tls.certificate != NULL,
        .tls_ca = target->tls.ca,
        .tls_certificate = target->tls.certificate,
        .tls_key = target->tls.key,
    };
    int error = polled_open(&run->polled, text);
    if (error != 0)
        return error;
    void *events = NULL;
    error = polled_finish(&run->polled, kvs_events_open(run->polled.runtime, target->url, &options),
                          &events, NULL, text);
    run->events = events;
    return error;
}

static void run_close(struct events_run *run)
{
    char text[TARGET_TEXT_MAX];
    if (run->events != NULL)
        polled_finish(&run->polled, kvs_events_close(run->events), NULL, NULL, text);
    polled_close(&run->polled);
    run->worker->tally.polls += run->polled.turns;
    mem_free(run->lanes);
    mem_free(run->batch);
}

int worker_events_check(const struct target *target, char text[TARGET_TEXT_MAX])
{
    struct worker *worker = mem_zalloc(sizeof *worker); /* turns are counted */
    struct events_run run = {.worker = worker};
    int error = worker != NULL ? run_open(&run, target, text) : KVS_ERR_NO_MEMORY;
    if (worker != NULL)
        run_close(&run);
    mem_free(worker);
    return error;
}

static int make_lanes(struct events_run *run)
{
    const struct worker *worker = run->worker;
    uint32_t batch = worker->load->target->events.batch;
    bool subscribes = kind_of(worker) == TARGET_EVENTS_SUBSCRIBE;
    run->count = worker->busy_count * (subscribes ? 1 : worker->phase.depth);
    run->lanes = mem_zalloc(run->count * sizeof run->lanes[0]);
    run->batch = mem_alloc((batch > FILL_BATCH ? batch : FILL_BATCH) * sizeof run->batch[0]);
    if (run->lanes == NULL || run->batch == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < run->count; i++)
        run->lanes[i].run = run;
    return 0;
}

static void run_subscriptions(struct events_run *run)
{
    bool stopped = false;
    for (size_t i = 0; i < run->count; i++)
        lane_subscribe(&run->lanes[i], clock_now_ns());
    while (run->under_way > 0) {
        polled_turn(&run->polled, 10); /* the end of the phase is nothing that a descriptor tells */
        if (stopped || worker_events_may_issue(run->worker, clock_now_ns()))
            continue;
        for (size_t i = 0; i < run->count; i++)
            kvs_subscription_stop(run->lanes[i].subscription);
        stopped = true;
    }
    for (size_t i = 0; i < run->count; i++)
        kvs_subscription_free(run->lanes[i].subscription);
}

static void run_calls(struct events_run *run)
{
    uint64_t now = clock_now_ns();
    for (size_t i = 0; i < run->count && worker_events_may_issue(run->worker, now); i++)
        lane_issue(&run->lanes[i], now);
    while (run->worker->in_flight > 0)
        polled_turn(&run->polled, -1);
}

void worker_events_run(struct worker *worker)
{
    char text[TARGET_TEXT_MAX] = "out of memory";
    struct events_run run = {.worker = worker};
    int error = worker->phase.interval_ns > 0 ? KVS_ERR_UNSUPPORTED : 0;
    if (error != 0)
        snprintf(text, sizeof text, "a fixed rate cannot be asked of this kind of target");
    if (error == 0)
        error = run_open(&run, worker->load->target, text);
    bool is_live = kind_of(worker) == TARGET_EVENTS_LIVE;
    if (error == 0)
        error = is_live ? worker_live_run(worker, &run.polled, run.events, text) : make_lanes(&run);
    if (error != 0)
        worker_events_note(worker, text);
    else if (kind_of(worker) == TARGET_EVENTS_SUBSCRIBE)
        run_subscriptions(&run);
    else if (!is_live)
        run_calls(&run);
    run_close(&run);
}
