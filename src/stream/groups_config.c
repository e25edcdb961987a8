/*
 * stream/groups_config.c: the groups there are, as the last event of $persistentSubscriptionConfig
 * tells, in JSON.
 *
 * `startAt` is ours: the number at which a group began that was made to start with what comes: so
 * nothing that came before its first checkpoint is lost by a restart.
 */
#include "stream/groups.h"
#include "stream/json_text.h"

#include "base/log.h"

#define READ_BATCH_MAX 4096
#define BUFFER_SIZE_MAX 100000

void stream_group_settings_default(struct stream_group_settings *settings)
{
    *settings = (struct stream_group_settings){
        .start_from = STREAM_END,
        .message_timeout_ms = 30000,
        .max_retry_count = 10,
        .live_buffer_size = 500,
        .read_batch_size = 20,
        .buffer_size = 500,
        .checkpoint_after_ms = 2000,
        .checkpoint_min_count = 10,
        .checkpoint_max_count = 1000,
    };
}

const char *group_settings_problem(const struct stream_group_settings *settings)
{
    if (settings->start_from < STREAM_END)
        return "start from must be -1, for the end, or an event number";
    if (settings->read_batch_size < 1 || settings->read_batch_size > READ_BATCH_MAX)
        return "read batch size must be between 1 and 4096";
    if (settings->buffer_size <= settings->read_batch_size)
        return "buffer size must be larger than read batch size";
    if (settings->buffer_size > BUFFER_SIZE_MAX)
        return "buffer size must be at most 100000";
    if (settings->message_timeout_ms < 0 || settings->max_retry_count < 0 ||
        settings->checkpoint_after_ms < 0 || settings->checkpoint_min_count < 0 ||
        settings->checkpoint_max_count < 0 || settings->subscriber_max_count < 0 ||
        settings->live_buffer_size < 0)
        return "times, counts and sizes must not be negative";
    if (stream_strategy_name(settings->strategy) == NULL)
        return "no such consumer strategy";
    return NULL;
}

/* --- writing ---------------------------------------------------------------------------------- */

static json_t *entry_of(const struct group *group, const struct stream_group_settings *settings,
                        int64_t start_at)
{
    json_t *entry = json_pack(
        "{s:b, s:b, s:i, s:I, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:s}",
        "resolveLinkTos", settings->resolve_links, "extraStatistics", settings->record_statistics,
        "messageTimeout", settings->message_timeout_ms, "startFrom",
        (json_int_t)settings->start_from, "startAt", (json_int_t)start_at, "liveBufferSize",
        settings->live_buffer_size, "historyBufferSize", settings->buffer_size, "maxRetryCount",
        settings->max_retry_count, "readBatchSize", settings->read_batch_size, "checkPointAfter",
        settings->checkpoint_after_ms, "minCheckPointCount", settings->checkpoint_min_count,
        "maxCheckPointCount", settings->checkpoint_max_count, "maxSubscriberCount",
        settings->subscriber_max_count, "preferRoundRobin",
        settings->strategy == STREAM_STRATEGY_ROUND_ROBIN, "namedConsumerStrategy",
        stream_strategy_name(settings->strategy));
    int error = json_object_set_new(entry, "stream", json_text(group->stream));
    if (error == 0)
        error = json_object_set_new(entry, "group", json_text(group->name));
    if (error == 0)
        return entry;
    json_decref(entry);
    return NULL;
}

/* NULL: no memory. */
static json_t *entries_of(const struct groups *groups, const struct group_change *change)
{
    json_t *entries = json_array();
    for (const struct list *at = groups->all.next; at != &groups->all; at = at->next) {
        const struct group *group = list_entry(at, struct group, node);
        bool changed = group == change->group;
        const struct stream_group_settings *settings =
            changed ? change->settings : &group->settings;
        if (settings == NULL)
            continue;
        int64_t start_at = changed ? change->start_at : group->start_at;
        if (json_array_append_new(entries, entry_of(group, settings, start_at)) != 0) {
            json_decref(entries);
            return NULL;
        }
    }
    return entries;
}

int groups_config_write(const struct groups *groups, const struct group_change *change,
                        kvs_slice by, struct buf *to)
{
    json_t *entries = entries_of(groups, change);
    if (entries == NULL)
        return KVS_ERR_NO_MEMORY;
    json_t *config =
        json_pack("{s:s, s:i, s:o}", "version", "2", "maxCount", 0, "entries", entries);
    int error =
        json_object_set_new(config, "updated", json_time((int64_t)groups->streams->wall_ms()));
    if (error == 0)
        error = json_object_set_new(config, "updatedBy", json_text(by));
    if (error != 0) {
        json_decref(config);
        return KVS_ERR_NO_MEMORY;
    }
    return json_append(config, to);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void number_of(const json_t *entry, const char *key, int32_t *number)
{
    const json_t *value = json_object_get(entry, key);
    json_int_t found = json_integer_value(value);
    if (json_is_integer(value) && found >= 0 && found <= INT32_MAX)
        *number = (int32_t)found;
}

static void settings_of_entry(const json_t *entry, struct stream_group_settings *settings)
{
    stream_group_settings_default(settings);
    settings->resolve_links = json_is_true(json_object_get(entry, "resolveLinkTos"));
    settings->record_statistics = json_is_true(json_object_get(entry, "extraStatistics"));
    const json_t *start = json_object_get(entry, "startFrom");
    if (json_is_integer(start))
        settings->start_from = json_integer_value(start);
    number_of(entry, "messageTimeout", &settings->message_timeout_ms);
    number_of(entry, "liveBufferSize", &settings->live_buffer_size);
    number_of(entry, "historyBufferSize", &settings->buffer_size);
    number_of(entry, "maxRetryCount", &settings->max_retry_count);
    number_of(entry, "readBatchSize", &settings->read_batch_size);
    number_of(entry, "checkPointAfter", &settings->checkpoint_after_ms);
    number_of(entry, "minCheckPointCount", &settings->checkpoint_min_count);
    number_of(entry, "maxCheckPointCount", &settings->checkpoint_max_count);
    number_of(entry, "maxSubscriberCount", &settings->subscriber_max_count);
    int strategy = stream_strategy_of_name(json_text_of(entry, "namedConsumerStrategy"));
    settings->strategy =
        strategy >= 0 ? (enum stream_strategy)strategy : STREAM_STRATEGY_ROUND_ROBIN;
}

static int entry_read(struct groups *groups, const json_t *entry)
{
    struct stream_group_settings settings;
    kvs_slice stream = json_text_of(entry, "stream");
    kvs_slice name = json_text_of(entry, "group");
    settings_of_entry(entry, &settings);
    bool usable = stream.size > 0 && stream.size <= STREAM_NAME_SIZE_MAX && name.size > 0 &&
                  name.size <= GROUP_NAME_SIZE_MAX && group_settings_problem(&settings) == NULL &&
                  groups_find(groups, stream, name) == NULL;
    if (!usable) {
        log_warn("an entry of %s is not understood and left out", GROUP_CONFIG_STREAM);
        return 0;
    }
    struct group *group;
    int error = group_new(groups, stream, name, &group);
    if (error != 0)
        return error;
    const json_t *start_at = json_object_get(entry, "startAt");
    group->settings = settings;
    group->start_at =
        json_is_integer(start_at) ? json_integer_value(start_at) : settings.start_from;
    if (group->start_at < 0)
        group->start_at = 0;
    return 0;
}

int groups_config_read(struct groups *groups, kvs_slice text)
{
    json_error_t reason;
    json_t *config = json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL, &reason);
    if (config == NULL && json_error_code(&reason) == json_error_out_of_memory)
        return KVS_ERR_NO_MEMORY;
    const json_t *entries = json_object_get(config, "entries");
    size_t count = json_array_size(entries);
    if (!json_is_array(entries))
        log_warn("%s is not understood: no persistent subscriptions", GROUP_CONFIG_STREAM);
    int error = 0;
    for (size_t i = 0; i < count && i < GROUPS_MAX && error == 0; i++)
        error = entry_read(groups, json_array_get(entries, i));
    json_decref(config);
    return error;
}
