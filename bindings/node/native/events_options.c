/* native/events_options.c: options of event streams, from objects to structs; see events.h. */
#include "events.h"

#include <stdlib.h>

void texts_free(struct texts *texts)
{
    while (texts->count > 0)
        free(texts->list[--texts->count]);
}

static bool type_error(napi_env env, const char *text)
{
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", text);
    return false;
}

/* A value that must be a string. */
static bool copy_text(napi_env env, napi_value value, const char *what, struct texts *texts,
                      const char **ret_text)
{
    struct arguments one = {.env = env, .values = {value}};
    char *text = NULL;
    if (texts->count == TEXTS_MAX)
        return type_error(env, "too many strings");
    if (!argument_string(&one, 0, what, &text))
        return false;
    texts->list[texts->count++] = text;
    *ret_text = text;
    return true;
}

bool take_text(napi_env env, napi_value object, const char *name, struct texts *texts,
               const char **ret_text)
{
    napi_value value;
    return option_get(env, object, name, &value) &&
           (value == NULL || copy_text(env, value, name, texts, ret_text));
}

bool take_slice(napi_env env, napi_value object, const char *name, struct texts *texts,
                kvs_slice *ret_slice)
{
    const char *text = "";
    if (!take_text(env, object, name, texts, &text))
        return false;
    *ret_slice = kvs_slice_of(text);
    return true;
}

bool take_text_list(napi_env env, napi_value array, struct texts *texts, const char **list,
                    uint32_t max, uint32_t *ret_count)
{
    napi_value value;
    bool is_array = false;
    if (napi_is_array(env, array, &is_array) != napi_ok || !is_array ||
        napi_get_array_length(env, array, ret_count) != napi_ok)
        return type_error(env, "this must be an array of strings");
    if (*ret_count > max)
        return type_error(env, "too many strings in an array");
    for (uint32_t i = 0; i < *ret_count; i++) {
        if (napi_get_element(env, array, i, &value) != napi_ok ||
            !copy_text(env, value, "each element", texts, &list[i]))
            return false;
    }
    return true;
}

static bool take_server_options(napi_env env, napi_value object, struct texts *texts,
                                struct kvs_events_options *options)
{
    return take_text(env, object, "connectionName", texts, &options->connection_name) &&
           take_u32_option(env, object, "connectTimeoutMs", &options->connect_timeout_ms) &&
           take_u32_option(env, object, "attemptTimeoutMs", &options->attempt_timeout_ms) &&
           take_u32_option(env, object, "heartbeatIntervalMs", &options->heartbeat_interval_ms) &&
           take_u32_option(env, object, "heartbeatTimeoutMs", &options->heartbeat_timeout_ms) &&
           take_u32_option(env, object, "reconnectsMax", &options->reconnects_max) &&
           take_u32_option(env, object, "inFlightMax", &options->in_flight_max) &&
           take_flag_option(env, object, "tls", &options->tls) &&
           take_flag_option(env, object, "tlsInsecure", &options->tls_insecure) &&
           take_text(env, object, "tlsCa", texts, &options->tls_ca) &&
           take_text(env, object, "tlsCertificate", texts, &options->tls_certificate) &&
           take_text(env, object, "tlsKey", texts, &options->tls_key) &&
           take_u32_option(env, object, "gossipTimeoutMs", &options->gossip_timeout_ms) &&
           take_u32_option(env, object, "discoverIntervalMs", &options->discover_interval_ms) &&
           take_u32_option(env, object, "discoverAttemptsMax", &options->discover_attempts_max);
}

bool take_events_options(napi_env env, napi_value object, struct texts *texts,
                         struct kvs_events_options *options)
{
    uint32_t sync = 0, preference = 0, http_port = 0;
    if (!take_u32_option(env, object, "timeoutMs", &options->timeout_ms) ||
        !take_text(env, object, "login", texts, &options->login) ||
        !take_text(env, object, "password", texts, &options->password) ||
        !take_server_options(env, object, texts, options) ||
        !take_u32_option(env, object, "httpPort", &http_port) ||
        !take_u32_option(env, object, "nodePreference", &preference) ||
        !take_u32_option(env, object, "sync", &sync) ||
        !take_flag_option(env, object, "mustExist", &options->must_exist))
        return false;
    if (http_port > UINT16_MAX)
        return type_error(env, "httpPort must be a port");
    options->http_port = (uint16_t)http_port;
    options->node_preference = (enum kvs_node_preference)preference;
    options->sync = (int)sync;
    return true;
}

bool take_call_options(napi_env env, napi_value object, struct texts *texts,
                       kvs_call_options *options)
{
    napi_valuetype type;
    *options = (kvs_call_options){.size = sizeof *options};
    if (napi_typeof(env, object, &type) != napi_ok || type != napi_object)
        return true;
    return take_u32_option(env, object, "timeoutMs", &options->timeout_ms) &&
           take_text(env, object, "login", texts, &options->login) &&
           take_text(env, object, "password", texts, &options->password) &&
           take_flag_option(env, object, "anyNode", &options->any_node);
}

bool take_filter(napi_env env, napi_value object, struct texts *texts, struct filter_option *option,
                 const kvs_event_filter **ret_filter)
{
    const char *list[KVS_FILTER_PATTERNS_MAX];
    napi_valuetype type;
    napi_value patterns;
    uint32_t on = 0, kind = 0, count = 0;
    *ret_filter = NULL;
    if (napi_typeof(env, object, &type) != napi_ok || type != napi_object)
        return true;
    option->filter = (kvs_event_filter){.patterns = option->patterns};
    if (!take_u32_option(env, object, "on", &on) || !take_u32_option(env, object, "kind", &kind) ||
        !take_u32_option(env, object, "window", &option->filter.window))
        return false;
    if (!option_get(env, object, "patterns", &patterns))
        return false;
    if (patterns == NULL)
        return type_error(env, "a filter must have patterns");
    if (!take_text_list(env, patterns, texts, list, KVS_FILTER_PATTERNS_MAX, &count))
        return false;
    option->filter.on = (enum kvs_filter_on)on;
    option->filter.kind = (enum kvs_filter_kind)kind;
    option->filter.patterns_count = count;
    for (uint32_t i = 0; i < count; i++)
        option->patterns[i] = kvs_slice_of(list[i]);
    *ret_filter = &option->filter;
    return true;
}

bool take_group_settings(napi_env env, napi_value object, struct texts *texts,
                         kvs_group_settings *settings)
{
    *settings = KVS_GROUP_SETTINGS_INIT;
    return take_flag_option(env, object, "resolveLinks", &settings->resolve_links) &&
           take_flag_option(env, object, "extraStatistics", &settings->extra_statistics) &&
           take_i64_option(env, object, "startFrom", &settings->start_from) &&
           take_u32_option(env, object, "messageTimeoutMs", &settings->message_timeout_ms) &&
           take_u32_option(env, object, "retriesMax", &settings->retries_max) &&
           take_u32_option(env, object, "liveBufferCount", &settings->live_buffer_count) &&
           take_u32_option(env, object, "historyBufferCount", &settings->history_buffer_count) &&
           take_u32_option(env, object, "readBatchCount", &settings->read_batch_count) &&
           take_u32_option(env, object, "checkpointAfterMs", &settings->checkpoint_after_ms) &&
           take_u32_option(env, object, "checkpointCountMin", &settings->checkpoint_count_min) &&
           take_u32_option(env, object, "checkpointCountMax", &settings->checkpoint_count_max) &&
           take_u32_option(env, object, "subscribersMax", &settings->subscribers_max) &&
           take_text(env, object, "strategy", texts, &settings->strategy);
}
