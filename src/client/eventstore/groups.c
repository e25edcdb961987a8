/* client/eventstore/groups.c: see the header. */
#include "client/eventstore/groups.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

/* --- members ---------------------------------------------------------------------------------- */

static json_t *tree_of(kvs_slice json, int *ret_error)
{
    json_error_t reason;
    json_t *tree = json_loadb((const char *)json.data, json.size, 0, &reason);
    bool no_memory = tree == NULL && json_error_code(&reason) == json_error_out_of_memory;
    *ret_error = tree != NULL ? 0 : no_memory ? KVS_ERR_NO_MEMORY : KVS_ERR_PROTOCOL;
    return tree;
}

static bool take_text(const json_t *object, const char *name, struct arena *arena,
                      const char **ret_text)
{
    const json_t *value = json_object_get(object, name);
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    *ret_text = arena_copy(arena, slice_make(text, strlen(text) + 1));
    return *ret_text != NULL;
}

static bool take_name(const json_t *object, const char *name, struct arena *arena,
                      kvs_slice *ret_name)
{
    const char *text;
    bool taken = take_text(object, name, arena, &text);
    *ret_name = taken ? slice_of_string(text) : (kvs_slice){0};
    return taken;
}

/* Rates may come with a fraction. */
static uint64_t take_count(const json_t *object, const char *name)
{
    double number = json_number_value(json_object_get(object, name));
    return number >= 1 && number <= 9007199254740992.0 ? (uint64_t)number : 0;
}

static uint32_t take_small(const json_t *object, const char *name)
{
    uint64_t number = take_count(object, name);
    return number <= INT32_MAX ? (uint32_t)number : INT32_MAX;
}

/* Newer servers have it as text, or null; older ones as a number only. */
static int64_t take_number(const json_t *object, const char *new_name, const char *old_name)
{
    const json_t *value = json_object_get(object, new_name);
    if (value == NULL)
        value = json_object_get(object, old_name);
    if (json_is_integer(value))
        return json_integer_value(value) >= 0 ? json_integer_value(value) : -1;
    if (!json_is_string(value))
        return -1;
    const char *text = json_string_value(value);
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    return end > text && *end == '\0' && errno == 0 && number >= 0 ? number : -1;
}

static bool take_summary(const json_t *json, struct arena *arena, kvs_group_summary *ret_summary)
{
    *ret_summary = (kvs_group_summary){
        .last_known = take_number(json, "lastKnownEventPosition", "lastKnownEventNumber"),
        .last_checkpoint =
            take_number(json, "lastCheckpointedEventPosition", "lastProcessedEventNumber"),
        .total = take_count(json, "totalItemsProcessed"),
        .per_second = take_count(json, "averageItemsPerSecond"),
        .connections_count = take_small(json, "connectionCount"),
        .in_flight = take_small(json, "totalInFlightMessages"),
    };
    return take_name(json, "eventStreamId", arena, &ret_summary->stream) &&
           take_name(json, "groupName", arena, &ret_summary->group) &&
           take_text(json, "status", arena, &ret_summary->status);
}

static bool is_group(const json_t *json)
{
    return json_is_string(json_object_get(json, "eventStreamId")) &&
           json_is_string(json_object_get(json, "groupName"));
}

/* --- lists ------------------------------------------------------------------------------------ */

static int list_of(const json_t *json, struct arena *arena, kvs_group_list **ret_list)
{
    size_t count = json_array_size(json);
    if (!json_is_array(json))
        return KVS_ERR_PROTOCOL;
    kvs_group_list *list = arena_alloc(arena, sizeof *list);
    kvs_group_summary *groups = arena_alloc(arena, count * sizeof *groups);
    if (list == NULL || groups == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (!is_group(json_array_get(json, i)))
            return KVS_ERR_PROTOCOL;
        if (!take_summary(json_array_get(json, i), arena, &groups[i]))
            return KVS_ERR_NO_MEMORY;
    }
    *list = (kvs_group_list){groups, count};
    *ret_list = list;
    return 0;
}

int groups_parse_list(kvs_slice json, struct arena *arena, kvs_group_list **ret_list)
{
    int error;
    json_t *parsed = tree_of(json, &error);
    if (error == 0)
        error = list_of(parsed, arena, ret_list);
    json_decref(parsed);
    return error;
}

/* --- details ---------------------------------------------------------------------------------- */

static bool take_settings(const json_t *json, struct arena *arena, kvs_group_settings *ret_settings)
{
    const json_t *start = json_object_get(json, "startFrom");
    *ret_settings = (kvs_group_settings){
        .size = sizeof *ret_settings,
        .resolve_links = json_is_true(json_object_get(json, "resolveLinktos")),
        .extra_statistics = json_is_true(json_object_get(json, "extraStatistics")),
        .start_from = json_integer_value(start) >= 0 ? json_integer_value(start) : -1,
        .message_timeout_ms = take_small(json, "messageTimeoutMilliseconds"),
        .retries_max = take_small(json, "maxRetryCount"),
        .live_buffer_count = take_small(json, "liveBufferSize"),
        .history_buffer_count = take_small(json, "bufferSize"),
        .read_batch_count = take_small(json, "readBatchSize"),
        .checkpoint_after_ms = take_small(json, "checkPointAfterMilliseconds"),
        .checkpoint_count_min = take_small(json, "minCheckPointCount"),
        .checkpoint_count_max = take_small(json, "maxCheckPointCount"),
        .subscribers_max = take_small(json, "maxSubscriberCount"),
    };
    return take_text(json, "namedConsumerStrategy", arena, &ret_settings->strategy);
}

static bool take_connection(const json_t *json, struct arena *arena,
                            kvs_group_connection *ret_connection)
{
    *ret_connection = (kvs_group_connection){
        .total = take_count(json, "totalItemsProcessed"),
        .per_second = take_count(json, "averageItemsPerSecond"),
        .in_flight = take_small(json, "inFlightMessages"),
        .available_slots = take_small(json, "availableSlots"),
    };
    return take_text(json, "from", arena, &ret_connection->from) &&
           take_text(json, "username", arena, &ret_connection->login) &&
           take_text(json, "connectionName", arena, &ret_connection->name);
}

static bool take_connections(const json_t *json, struct arena *arena, kvs_group_info *info)
{
    size_t count = json_array_size(json);
    kvs_group_connection *connections = arena_alloc(arena, count * sizeof *connections);
    info->connections = connections;
    info->summary.connections_count = (uint32_t)count;
    if (connections == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!take_connection(json_array_get(json, i), arena, &connections[i]))
            return false;
    }
    return true;
}

static int info_of(const json_t *json, struct arena *arena, kvs_group_info **ret_info)
{
    if (!is_group(json))
        return KVS_ERR_PROTOCOL;
    kvs_group_info *info = arena_alloc(arena, sizeof *info);
    if (info == NULL)
        return KVS_ERR_NO_MEMORY;
    *info = (kvs_group_info){
        .read_buffer = take_small(json, "readBufferCount"),
        .retry_buffer = take_small(json, "retryBufferCount"),
        .outstanding = take_small(json, "outstandingMessagesCount"),
        .parked = take_count(json, "parkedMessageCount"),
    };
    bool taken = take_summary(json, arena, &info->summary) &&
                 take_settings(json_object_get(json, "config"), arena, &info->settings) &&
                 take_connections(json_object_get(json, "connections"), arena, info);
    *ret_info = info;
    return taken ? 0 : KVS_ERR_NO_MEMORY;
}

int groups_parse_info(kvs_slice json, struct arena *arena, kvs_group_info **ret_info)
{
    int error;
    json_t *parsed = tree_of(json, &error);
    if (error == 0)
        error = info_of(parsed, arena, ret_info);
    json_decref(parsed);
    return error;
}
