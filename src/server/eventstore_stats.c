/* server/eventstore_stats.c: see the header. */
#include "server/eventstore_stats.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <kvs/error.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Ten days, and at most as many as there are then at the default interval. */
#define METADATA "{\"$maxAge\":864000,\"$maxCount\":28800}"

/* --- the object ------------------------------------------------------------------------------- */

void es_time_format(uint64_t wall_ms, char text[32])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t size = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + size, 32 - size, ".%03uZ", (unsigned)(wall_ms % 1000));
}

struct totals {
    uint64_t requests, calls, received, sent, unwritten, events_sent;
};

static struct totals add_up(struct es_service *service)
{
    struct totals totals = {0};
    for (unsigned i = 0; i < service->loops_count; i++) {
        struct es_service_counters *counters = service->counters[i];
        /* relaxed: recent numbers for people, ordered with nothing. */
        totals.requests += atomic_load_explicit(&counters->requests, memory_order_relaxed);
        totals.calls += atomic_load_explicit(&counters->calls, memory_order_relaxed);
        totals.received += atomic_load_explicit(&counters->received, memory_order_relaxed);
        totals.sent += atomic_load_explicit(&counters->sent, memory_order_relaxed);
        totals.unwritten += atomic_load_explicit(&counters->unwritten, memory_order_relaxed);
        totals.events_sent += atomic_load_explicit(&counters->events_sent, memory_order_relaxed);
    }
    return totals;
}

static int append_process(struct es_service *service, struct buf *body)
{
    struct rusage usage = {0};
    char started[32];
    struct totals totals = add_up(service);
    getrusage(RUSAGE_SELF, &usage);
    es_time_format(service->started_wall_ms, started);
    return buf_printf(
        body,
        "\"proc\":{\"startTime\":\"%s\",\"id\":%d,\"memPeak\":%ld,\"cpuSeconds\":%ld.%02ld,"
        "\"tcp\":{\"connections\":%u,\"connectionsOpened\":%" PRIu64
        ",\"connectionsRefused\":%" PRIu64 ",\"receivedBytes\":%" PRIu64 ",\"sentBytes\":%" PRIu64
        ",\"unwrittenBytes\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"eventsSent\":%" PRIu64 "}}",
        started, (int)getpid(), usage.ru_maxrss * 1024, usage.ru_utime.tv_sec,
        usage.ru_utime.tv_usec / 10000,
        atomic_load_explicit(&service->connections, memory_order_relaxed),
        atomic_load_explicit(&service->connections_opened, memory_order_relaxed),
        atomic_load_explicit(&service->connections_refused, memory_order_relaxed), totals.received,
        totals.sent, totals.unwritten, totals.requests, totals.events_sent);
}

int es_stats_append(struct es_service *service, struct buf *to)
{
    struct streams_stats stats;
    streams_stats(service->streams, &stats);
    int error = buf_printf(to, "{");
    if (error == 0)
        error = append_process(service, to);
    if (error != 0)
        return error;
    return buf_printf(to,
                      ",\"es\":{\"appends\":%" PRIu64 ",\"eventsAppended\":%" PRIu64
                      ",\"batches\":%" PRIu64 ",\"joins\":%" PRIu64 ",\"reads\":%" PRIu64
                      ",\"eventsRead\":%" PRIu64 ",\"retriesFound\":%" PRIu64
                      ",\"subscriptions\":%" PRIu64 ",\"persistentSubscriptions\":%" PRIu64
                      ",\"streamsCached\":%" PRIu64 ",\"lastPosition\":%" PRId64 "}}",
                      stats.appends, stats.events, stats.batches, stats.joins, stats.reads,
                      stats.events_read, stats.retries_found, stats.subscriptions, stats.groups,
                      stats.streams_cached, stats.last_position);
}

/* --- as events -------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *timer)
{
    struct es_stats *stats = CONTAINER_OF((uv_timer_t *)timer, struct es_stats, timer);
    buf_deinit(&stats->body);
    stats->on_closed(stats->arg);
}

static void append_statistics(struct es_stats *stats);

static void on_written(struct task *task)
{
    struct es_stats *stats = CONTAINER_OF(task, struct es_stats, write.op.task);
    int error = stats->write.op.error;
    bool was_metadata = !stats->described;
    stats->busy = false;
    stats->described |= error == 0; /* what it had already is somebody's wish, and stays */
    if (error != 0 && !stats->complained)
        log_warn("statistics cannot be written to %s: %s", stats->stream, kvs_error_text(error));
    stats->complained = error != 0;
    if (stats->closing)
        uv_close((uv_handle_t *)&stats->timer, on_timer_closed);
    else if (was_metadata && error == 0)
        append_statistics(stats);
}

static void append(struct es_stats *stats, const char *stream, int64_t expected, const char *type)
{
    memcpy(stats->event.id, &stats->service->instance, 8);
    memcpy(stats->event.id + 8, &stats->count, 8);
    stats->count++;
    stats->event.is_json = true;
    stats->event.type = slice_of_string(type);
    stats->event.data = buf_slice(&stats->body);
    stats->write = (struct stream_write){.op = {.task.run = on_written, .loop = stats->loop},
                                         .stream = slice_of_string(stream),
                                         .expected_version = expected,
                                         .events = &stats->event,
                                         .count = 1};
    stats->busy = true;
    streams_write(stats->service->streams, &stats->write);
}

static void append_statistics(struct es_stats *stats)
{
    stats->calls = add_up(stats->service).calls; /* some may have come while metadata was written */
    buf_clear(&stats->body);
    if (es_stats_append(stats->service, &stats->body) == 0)
        append(stats, stats->stream + 2, STREAM_ANY, "$statsCollected");
}

static void append_metadata(struct es_stats *stats)
{
    buf_clear(&stats->body);
    if (buf_append_slice(&stats->body, slice_of_string(METADATA)) == 0)
        append(stats, stats->stream, STREAM_NO_STREAM, "$metadata");
}

static void on_timer(uv_timer_t *timer)
{
    struct es_stats *stats = CONTAINER_OF(timer, struct es_stats, timer);
    uint64_t calls = add_up(stats->service).calls;
    if (stats->busy || calls == stats->calls)
        return;
    stats->calls = calls;
    if (stats->described)
        append_statistics(stats);
    else
        append_metadata(stats);
}

void es_stats_start(struct es_stats *stats, struct es_service *service, struct loop *loop,
                    uint64_t interval_ms)
{
    *stats = (struct es_stats){.service = service, .loop = loop, .interval_ms = interval_ms};
    if (interval_ms == 0)
        return;
    const char *address =
        service->http_address[0] != '\0' ? service->http_address : service->tcp_address;
    snprintf(stats->stream, sizeof stats->stream, "$$$stats-%s", address);
    uv_timer_init(loop->uv, &stats->timer); /* cannot fail */
    uv_timer_start(&stats->timer, on_timer, interval_ms, interval_ms);
}

void es_stats_close(struct es_stats *stats, void (*on_closed)(void *arg), void *arg)
{
    stats->on_closed = on_closed;
    stats->arg = arg;
    stats->closing = true;
    if (stats->interval_ms == 0)
        on_closed(arg);
    else if (!stats->busy)
        uv_close((uv_handle_t *)&stats->timer, on_timer_closed);
    else
        uv_timer_stop(&stats->timer);
}
