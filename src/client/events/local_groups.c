/* client/events/local_groups.c: what groups are doing, in process; see client/events/local.h. */
#include "client/events/local_parts.h"

static bool copy_slice(struct arena *arena, kvs_slice from, kvs_slice *to)
{
    const void *copy = arena_copy(arena, from);
    *to = slice_make(copy, from.size);
    return copy != NULL;
}

static bool copy_string(struct arena *arena, kvs_slice from, const char **to)
{
    char *copy = arena_alloc(arena, from.size + 1);
    if (copy == NULL)
        return false;
    if (from.size > 0)
        memcpy(copy, from.data, from.size);
    copy[from.size] = '\0';
    *to = copy;
    return true;
}

static bool copy_summary(struct arena *arena, const struct stream_group_info *from,
                         kvs_group_summary *to)
{
    *to = (kvs_group_summary){
        .status = from->status,
        .last_known = from->last_known,
        .last_checkpoint = from->last_checkpoint,
        .total = from->total,
        .per_second = from->per_second,
        .connections_count = from->consumers_count,
        .in_flight = from->in_flight,
    };
    return copy_slice(arena, from->stream, &to->stream) &&
           copy_slice(arena, from->group, &to->group);
}

int local_group_list(struct arena *arena, const struct stream_group_call *from,
                     kvs_group_list **ret_list)
{
    kvs_group_list *list = arena_alloc(arena, sizeof *list);
    kvs_group_summary *groups = arena_alloc(arena, from->infos_count * sizeof *groups);
    if (list == NULL || groups == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < from->infos_count; i++) {
        if (!copy_summary(arena, &from->infos[i], &groups[i]))
            return KVS_ERR_NO_MEMORY;
    }
    *list = (kvs_group_list){groups, from->infos_count};
    *ret_list = list;
    return 0;
}

static bool copy_connections(struct arena *arena, const struct stream_group_info *from,
                             kvs_group_info *to)
{
    kvs_group_connection *connections =
        arena_alloc(arena, from->consumers_count * sizeof *connections);
    to->connections = connections;
    if (connections == NULL)
        return false;
    for (uint32_t i = 0; i < from->consumers_count; i++) {
        const struct stream_consumer_info *consumer = &from->consumers[i];
        connections[i] = (kvs_group_connection){
            .total = consumer->total,
            .per_second = consumer->per_second,
            .in_flight = (uint32_t)consumer->in_flight,
            .available_slots = (uint32_t)consumer->available_slots,
        };
        if (!copy_string(arena, consumer->from, &connections[i].from) ||
            !copy_string(arena, consumer->user, &connections[i].login) ||
            !copy_string(arena, consumer->name, &connections[i].name))
            return false;
    }
    return true;
}

static kvs_group_settings settings_of(const struct stream_group_settings *from)
{
    return (kvs_group_settings){
        .size = sizeof(kvs_group_settings),
        .resolve_links = from->resolve_links,
        .extra_statistics = from->record_statistics,
        .start_from = from->start_from,
        .message_timeout_ms = (uint32_t)from->message_timeout_ms,
        .retries_max = (uint32_t)from->max_retry_count,
        .live_buffer_count = (uint32_t)from->live_buffer_size,
        .history_buffer_count = (uint32_t)from->buffer_size,
        .read_batch_count = (uint32_t)from->read_batch_size,
        .checkpoint_after_ms = (uint32_t)from->checkpoint_after_ms,
        .checkpoint_count_min = (uint32_t)from->checkpoint_min_count,
        .checkpoint_count_max = (uint32_t)from->checkpoint_max_count,
        .subscribers_max = (uint32_t)from->subscriber_max_count,
        .strategy = stream_strategy_name(from->strategy),
    };
}

int local_group_info(struct arena *arena, const struct stream_group_info *from,
                     kvs_group_info **ret_info)
{
    kvs_group_info *info = arena_alloc(arena, sizeof *info);
    if (info == NULL)
        return KVS_ERR_NO_MEMORY;
    *info = (kvs_group_info){
        .settings = settings_of(&from->settings),
        .read_buffer = from->read_buffer,
        .retry_buffer = from->retry_buffer,
        .outstanding = from->outstanding,
        .parked = from->parked > 0 ? (uint64_t)from->parked : 0,
    };
    if (!copy_summary(arena, from, &info->summary) || !copy_connections(arena, from, info))
        return KVS_ERR_NO_MEMORY;
    *ret_info = info;
    return 0;
}
