/*
 * server/eventstore_group_info.c: what persistent subscription groups are doing, as JSON with the
 * members that clients of EventStoreDB look for.
 *
 * A number of an event stands in two members: as a number, as old servers gave it (-1: none yet),
 * and as text, as newer ones do (null: none yet). parkedMessageUri and getMessagesUri are there for
 * whoever expects them; nothing is served at them.
 */
#include "server/eventstore_http.h"

#include "server/http_request.h"
#include "stream/json_text.h"

#include <inttypes.h>
#include <kvs/error.h>
#include <stdio.h>

/* --- links ------------------------------------------------------------------------------------ */

/* base BEFORE stream BETWEEN group BEHIND; NULL: no memory. */
static json_t *url_of(const char *base, const char *before, const struct stream_group_info *info,
                      const char *between, const char *behind)
{
    struct buf url = BUF_INIT;
    int error = buf_printf(&url, "%s%s", base, before);
    if (error == 0)
        error = http_append_part(&url, info->stream);
    if (error == 0)
        error = buf_printf(&url, "%s", between);
    if (error == 0)
        error = http_append_part(&url, info->group);
    if (error == 0)
        error = buf_printf(&url, "%s", behind);
    json_t *text = error == 0 ? json_stringn((const char *)url.data, url.size) : NULL;
    buf_deinit(&url);
    return text;
}

static json_t *group_url(const char *base, const struct stream_group_info *info, const char *what)
{
    return url_of(base, "/subscriptions/", info, "/", what);
}

static json_t *link_to(json_t *url, const char *rel)
{
    return json_pack("{s:o, s:s}", "href", url, "rel", rel);
}

/* --- what lists and details have in common ---------------------------------------------------- */

static json_t *position_text(int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    return number < 0 ? json_null() : json_string(text);
}

static json_t *summary_new(const char *base, const struct stream_group_info *info)
{
    return json_pack("{s:o, s:o, s:s, s:I, s:I, s:I, s:o, s:I, s:o, s:o, s:o, s:i}",
                     "eventStreamId", json_text(info->stream), "groupName", json_text(info->group),
                     "status", info->status, "averageItemsPerSecond", (json_int_t)info->per_second,
                     "totalItemsProcessed", (json_int_t)info->total, "lastProcessedEventNumber",
                     (json_int_t)info->last_checkpoint, "lastCheckpointedEventPosition",
                     position_text(info->last_checkpoint), "lastKnownEventNumber",
                     (json_int_t)info->last_known, "lastKnownEventPosition",
                     position_text(info->last_known), "parkedMessageUri",
                     url_of(base, "/streams/%24persistentsubscription-", info, "%3A%3A", "-parked"),
                     "getMessagesUri", group_url(base, info, "/1"), "totalInFlightMessages",
                     (int)info->in_flight);
}

static int summary_append(struct buf *to, const char *base, const struct stream_group_info *info)
{
    json_t *summary = summary_new(base, info);
    json_t *links = json_pack("[o]", link_to(group_url(base, info, "/info"), "detail"));
    bool ok = json_object_set_new(summary, "links", links) == 0;
    ok &= json_object_set_new(summary, "connectionCount", json_integer(info->consumers_count)) == 0;
    if (ok)
        return json_append(summary, to);
    json_decref(summary);
    return KVS_ERR_NO_MEMORY;
}

int group_summaries_append(struct buf *to, const char *base, const struct stream_group_info *infos,
                           uint32_t count)
{
    int error = buf_printf(to, "[");
    for (uint32_t i = 0; i < count && error == 0; i++) {
        error = i > 0 ? buf_printf(to, ",") : 0;
        if (error == 0)
            error = summary_append(to, base, &infos[i]);
    }
    return error != 0 ? error : buf_printf(to, "]");
}

/* --- details ---------------------------------------------------------------------------------- */

static json_t *config_new(const struct stream_group_settings *settings)
{
    const char *strategy = stream_strategy_name(settings->strategy);
    char start[24];
    snprintf(start, sizeof start, "%" PRId64, settings->start_from);
    return json_pack(
        "{s:b, s:I, s:s, s:i, s:b, s:i, s:i, s:i, s:i, s:b, s:i, s:i, s:i, s:i, s:s}",
        "resolveLinktos", (int)settings->resolve_links, "startFrom",
        (json_int_t)settings->start_from, "startPosition", start, "messageTimeoutMilliseconds",
        (int)settings->message_timeout_ms, "extraStatistics", (int)settings->record_statistics,
        "maxRetryCount", (int)settings->max_retry_count, "liveBufferSize",
        (int)settings->live_buffer_size, "bufferSize", (int)settings->buffer_size, "readBatchSize",
        (int)settings->read_batch_size, "preferRoundRobin",
        settings->strategy == STREAM_STRATEGY_ROUND_ROBIN, "checkPointAfterMilliseconds",
        (int)settings->checkpoint_after_ms, "minCheckPointCount",
        (int)settings->checkpoint_min_count, "maxCheckPointCount",
        (int)settings->checkpoint_max_count, "maxSubscriberCount",
        (int)settings->subscriber_max_count, "namedConsumerStrategy", strategy);
}

static json_t *connection_new(const struct stream_consumer_info *consumer)
{
    return json_pack(
        "{s:o, s:o, s:o, s:I, s:I, s:I, s:i, s:i, s:[]}", "from", json_text(consumer->from),
        "username", json_text(consumer->user), "connectionName", json_text(consumer->name),
        "averageItemsPerSecond", (json_int_t)consumer->per_second, "totalItemsProcessed",
        (json_int_t)consumer->total, "countSinceLastMeasurement",
        (json_int_t)consumer->since_measured, "availableSlots", (int)consumer->available_slots,
        "inFlightMessages", (int)consumer->in_flight, "extraStatistics");
}

static json_t *connections_new(const struct stream_group_info *info)
{
    json_t *connections = json_array();
    for (uint32_t i = 0; i < info->consumers_count; i++) {
        if (json_array_append_new(connections, connection_new(&info->consumers[i])) != 0) {
            json_decref(connections);
            return NULL;
        }
    }
    return connections;
}

static json_t *counts_new(const struct stream_group_info *info)
{
    return json_pack("{s:I, s:i, s:i, s:i, s:i, s:I}", "countSinceLastMeasurement",
                     (json_int_t)info->since_measured, "readBufferCount", (int)info->read_buffer,
                     "liveBufferCount", 0, "retryBufferCount", (int)info->retry_buffer,
                     "outstandingMessagesCount", (int)info->outstanding, "parkedMessageCount",
                     (json_int_t)info->parked);
}

int group_info_append(struct buf *to, const char *base, const struct stream_group_info *info)
{
    json_t *details = summary_new(base, info);
    json_t *links = json_pack("[o, o]", link_to(group_url(base, info, "/info"), "detail"),
                              link_to(group_url(base, info, "/replayParked"), "replayParked"));
    json_t *counts = counts_new(info);
    bool ok = json_object_set_new(details, "links", links) == 0;
    ok &= json_object_set_new(details, "config", config_new(&info->settings)) == 0;
    ok &= json_object_set_new(details, "connections", connections_new(info)) == 0;
    ok &= json_object_update(details, counts) == 0;
    json_decref(counts);
    if (ok)
        return json_append(details, to);
    json_decref(details);
    return KVS_ERR_NO_MEMORY;
}
