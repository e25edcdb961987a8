/*
 * native/events.c: event streams for JavaScript; see addon.h. Functions begin with (id, client,
 * ...), end with an object of struct kvs_call_options' names, or undefined, and the result arrives
 * under the id. src/native.ts has their signatures.
 */
#include "events.h"

#include <stdlib.h>

/* Now nothing more is told of the connection. */
static kvs_future *on_closed(kvs_future *closed, void *watch)
{
    watch_end(watch);
    return closed;
}

static kvs_future *close_events(void *pointer)
{
    struct events_client *client = pointer;
    kvs_future *closed = kvs_events_close(client->events);
    closed = kvs_future_then(closed, on_closed, client->watch);
    free(client);
    return closed;
}

const struct resource_kind events_kind = {.closed = "the client is closed", .close = close_events};

/* --- results --- */

static void write_none(struct call *call, struct writer *writer)
{
    (void)call;
    write_nothing(writer);
}

static const void *result_of(struct call *call)
{
    void *result = NULL;
    kvs_future_get_pointer(call->future, &result);
    return result;
}

static void write_written(struct call *call, struct writer *writer)
{
    const kvs_write_result *result = result_of(call);
    write_number(writer, result->first_number);
    write_number(writer, result->last_number);
    write_position(writer, result->position);
}

static void write_transaction(struct call *call, struct writer *writer)
{
    int64_t number = 0;
    kvs_future_get_number(call->future, &number);
    write_number(writer, number);
}

static void write_one_event(struct call *call, struct writer *writer)
{
    write_events(writer, result_of(call), 1);
}

/* Events, whether this is the end, where to go on. */
static void write_event_page(struct call *call, struct writer *writer)
{
    const kvs_event_page *page = result_of(call);
    write_events(writer, page->events, page->count);
    write_boolean(writer, page->is_end);
    write_number(writer, page->next_number);
    write_position(writer, page->next_position);
}

static void write_metadata(struct call *call, struct writer *writer)
{
    const kvs_stream_metadata *metadata = result_of(call);
    write_number(writer, metadata->version);
    write_bytes(writer, metadata->json);
    write_boolean(writer, metadata->is_deleted);
}

/* How many; of each login, full name, whether disabled, how many groups and these. */
static void write_users(struct call *call, struct writer *writer)
{
    const kvs_user_list *list = result_of(call);
    write_number(writer, (int64_t)list->count);
    for (size_t i = 0; i < list->count; i++) {
        const kvs_user *user = &list->users[i];
        write_bytes(writer, kvs_slice_of(user->login));
        write_bytes(writer, kvs_slice_of(user->full_name != NULL ? user->full_name : ""));
        write_boolean(writer, user->is_disabled);
        write_number(writer, (int64_t)user->groups_count);
        for (size_t g = 0; g < user->groups_count; g++)
            write_bytes(writer, kvs_slice_of(user->groups[g]));
    }
}

static void write_text(struct writer *writer, const char *text)
{
    write_bytes(writer, kvs_slice_of(text != NULL ? text : ""));
}

static void write_group_summary(struct writer *writer, const kvs_group_summary *summary)
{
    write_bytes(writer, summary->stream);
    write_bytes(writer, summary->group);
    write_text(writer, summary->status);
    write_number(writer, summary->last_known);
    write_number(writer, summary->last_checkpoint);
    write_number(writer, (int64_t)summary->total);
    write_number(writer, (int64_t)summary->per_second);
    write_number(writer, summary->connections_count);
    write_number(writer, summary->in_flight);
}

/* How many, and each. */
static void write_groups(struct call *call, struct writer *writer)
{
    const kvs_group_list *list = result_of(call);
    write_number(writer, (int64_t)list->count);
    for (size_t i = 0; i < list->count; i++)
        write_group_summary(writer, &list->groups[i]);
}

static void write_group_settings(struct writer *writer, const kvs_group_settings *settings)
{
    write_boolean(writer, settings->resolve_links);
    write_boolean(writer, settings->extra_statistics);
    write_number(writer, settings->start_from);
    write_number(writer, settings->message_timeout_ms);
    write_number(writer, settings->retries_max);
    write_number(writer, settings->live_buffer_count);
    write_number(writer, settings->history_buffer_count);
    write_number(writer, settings->read_batch_count);
    write_number(writer, settings->checkpoint_after_ms);
    write_number(writer, settings->checkpoint_count_min);
    write_number(writer, settings->checkpoint_count_max);
    write_number(writer, settings->subscribers_max);
    write_text(writer, settings->strategy);
}

/* The summary, whose count of connections goes for those that come last. */
static void write_group(struct call *call, struct writer *writer)
{
    const kvs_group_info *info = result_of(call);
    write_group_summary(writer, &info->summary);
    write_group_settings(writer, &info->settings);
    write_number(writer, info->read_buffer);
    write_number(writer, info->retry_buffer);
    write_number(writer, info->outstanding);
    write_number(writer, (int64_t)info->parked);
    for (uint32_t i = 0; i < info->summary.connections_count; i++) {
        const kvs_group_connection *connection = &info->connections[i];
        write_text(writer, connection->from);
        write_text(writer, connection->login);
        write_text(writer, connection->name);
        write_number(writer, (int64_t)connection->total);
        write_number(writer, (int64_t)connection->per_second);
        write_number(writer, connection->in_flight);
        write_number(writer, connection->available_slots);
    }
}

static void write_value(struct call *call, struct writer *writer)
{
    kvs_slice value = {0};
    kvs_future_get_value(call->future, &value);
    write_bytes(writer, value);
}

/* --- arguments --- */

/* A call that is being made: its arguments, and how it differs from others. */
struct request {
    struct arguments arguments;
    struct texts texts;
    kvs_call_options options;
    kvs_slice stream;
    struct call *call;
    kvs_events *events;
};

/* (id, client, ..., options), the options being argument `last`. */
static bool begin(struct request *request, napi_env env, napi_callback_info info, unsigned last,
                  call_write_fn *write)
{
    struct arguments *arguments = &request->arguments;
    uint32_t id;
    struct resource *resource;
    request->texts.count = 0;
    request->call = NULL;
    if (!arguments_begin(arguments, env, info) || !argument_u32(arguments, 0, "the id", &id) ||
        (resource = resource_get(env, arguments->values[1], &events_kind)) == NULL)
        return false;
    request->events = ((struct events_client *)resource->pointer)->events;
    if (take_call_options(env, arguments->values[last], &request->texts, &request->options))
        request->call = call_new(arguments->addon, id, resource, write);
    return request->call != NULL;
}

/* The same, with a stream as the third argument. */
static bool begin_stream(struct request *request, napi_env env, napi_callback_info info,
                         unsigned last, call_write_fn *write)
{
    kvs_slice *slices[] = {&request->stream};
    return begin(request, env, info, last, write) &&
           call_take_bytes(request->call, &request->arguments, 2, 1, slices);
}

/* An argument was wrong. */
static napi_value drop(struct request *request)
{
    if (request->call != NULL)
        call_drop(request->call);
    texts_free(&request->texts);
    return NULL;
}

static napi_value submit(struct request *request, kvs_future *future)
{
    call_submit_future(request->call, future);
    texts_free(&request->texts);
    return NULL;
}

/* --- writing --- */

#define FIELDS 4u /* of an event: type, data, metadata, id */

static bool no_such_id(napi_env env)
{
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "the id of an event must be a UUID");
    return false;
}

static bool take_event(napi_env env, struct packed *packed, bool json, kvs_new_event *event)
{
    event->type = packed_next(packed);
    event->data = packed_next(packed);
    event->metadata = packed_next(packed);
    event->is_json = json;
    kvs_slice id = packed_next(packed);
    char text[KVS_EVENT_ID_TEXT_SIZE] = "";
    if (id.size == 0)
        return true;
    if (id.size != sizeof text - 1)
        return no_such_id(env);
    memcpy(text, id.data, id.size);
    return kvs_event_id_parse(text, &event->id) == 0 || no_such_id(env);
}

/* Arguments i to i + 2: `ahead` values, given in ret_ahead, then the four fields of each event;
 * i + 3: a Uint8Array that says which events are JSON. */
static kvs_new_event *take_new_events(struct request *request, unsigned i, unsigned ahead,
                                      kvs_slice *ret_ahead, size_t *ret_count)
{
    napi_env env = request->arguments.env;
    napi_typedarray_type type;
    size_t count = 0;
    void *json = NULL;
    struct packed packed;
    kvs_new_event *events;
    if (!call_take_packed(request->call, &request->arguments, i,
                          KVS_APPEND_COUNT_MAX * FIELDS + ahead, &packed))
        return NULL;
    if (napi_get_typedarray_info(env, request->arguments.values[i + 3], &type, &count, &json, NULL,
                                 NULL) != napi_ok ||
        type != napi_uint8_array || packed.count != count * FIELDS + ahead) {
        napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "events have four fields each");
        return NULL;
    }
    if ((events = packed_table(request->call, &packed, count * sizeof *events)) == NULL)
        return NULL;
    for (unsigned k = 0; k < ahead; k++)
        ret_ahead[k] = packed_next(&packed);
    for (size_t k = 0; k < count; k++) {
        if (!take_event(env, &packed, ((const uint8_t *)json)[k] != 0, &events[k]))
            return NULL;
    }
    *ret_count = count;
    return events;
}

/* (id, client, expected, bytes, sizes, count, json, options): the stream is packed first */
static napi_value append_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t expected;
    size_t count;
    const kvs_new_event *events;
    if (!begin(&request, env, info, 7, write_written) ||
        !argument_i64(&request.arguments, 2, "the expected version", &expected) ||
        (events = take_new_events(&request, 3, 1, &request.stream, &count)) == NULL)
        return drop(&request);
    return submit(&request, kvs_events_append(request.events, request.stream, expected, events,
                                              count, &request.options));
}

/* (id, client, stream, expected, hard, options) */
static napi_value delete_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t expected;
    if (!begin_stream(&request, env, info, 5, write_written) ||
        !argument_i64(&request.arguments, 3, "the expected version", &expected))
        return drop(&request);
    return submit(&request,
                  kvs_events_delete(request.events, request.stream, expected,
                                    argument_boolean(&request.arguments, 4), &request.options));
}

/* (id, client, stream, expected, options) */
static napi_value transaction_start_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t expected;
    if (!begin_stream(&request, env, info, 4, write_transaction) ||
        !argument_i64(&request.arguments, 3, "the expected version", &expected))
        return drop(&request);
    return submit(&request, kvs_events_transaction_start(request.events, request.stream, expected,
                                                         &request.options));
}

/* (id, client, transaction, bytes, sizes, count, json, options) */
static napi_value transaction_write_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t transaction;
    size_t count;
    const kvs_new_event *events;
    if (!begin(&request, env, info, 7, write_none) ||
        !argument_i64(&request.arguments, 2, "the transaction's number", &transaction) ||
        (events = take_new_events(&request, 3, 0, NULL, &count)) == NULL)
        return drop(&request);
    return submit(&request, kvs_events_transaction_write(request.events, transaction, events, count,
                                                         &request.options));
}

/* (id, client, transaction, options) */
static napi_value transaction_commit_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t transaction;
    if (!begin(&request, env, info, 3, write_written) ||
        !argument_i64(&request.arguments, 2, "the transaction's number", &transaction))
        return drop(&request);
    return submit(&request,
                  kvs_events_transaction_commit(request.events, transaction, &request.options));
}

/* --- reading --- */

/* (id, client, stream, number, flags, options) */
static napi_value read_event_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t number;
    uint32_t flags;
    if (!begin_stream(&request, env, info, 5, write_one_event) ||
        !argument_i64(&request.arguments, 3, "the number", &number) ||
        !argument_u32(&request.arguments, 4, "the flags", &flags))
        return drop(&request);
    return submit(&request, kvs_events_read_event(request.events, request.stream, number, flags,
                                                  &request.options));
}

/* (id, client, stream, from, count, flags, options) */
static napi_value read_stream_js(napi_env env, napi_callback_info info)
{
    struct request request;
    int64_t from;
    uint32_t count, flags;
    if (!begin_stream(&request, env, info, 6, write_event_page) ||
        !argument_i64(&request.arguments, 3, "from", &from) ||
        !argument_u32(&request.arguments, 4, "maxCount or pageSize", &count) ||
        !argument_u32(&request.arguments, 5, "the flags", &flags))
        return drop(&request);
    return submit(&request, kvs_events_read_stream(request.events, request.stream, from, count,
                                                   flags, &request.options));
}

/* (id, client, commit, prepare, count, flags, filter, options) */
static napi_value read_all_js(napi_env env, napi_callback_info info)
{
    struct request request;
    struct filter_option option;
    const kvs_event_filter *filter;
    kvs_position from;
    uint32_t count, flags;
    if (!begin(&request, env, info, 7, write_event_page) ||
        !argument_i64(&request.arguments, 2, "from's commit", &from.commit) ||
        !argument_i64(&request.arguments, 3, "from's prepare", &from.prepare) ||
        !argument_u32(&request.arguments, 4, "maxCount or pageSize", &count) ||
        !argument_u32(&request.arguments, 5, "the flags", &flags) ||
        !take_filter(env, request.arguments.values[6], &request.texts, &option, &filter))
        return drop(&request);
    return submit(&request, kvs_events_read_all(request.events, from, count, flags, filter,
                                                &request.options));
}

/* --- metadata, groups, users, upkeep --- */

/* (id, client, stream, options) */
static napi_value get_metadata_js(napi_env env, napi_callback_info info)
{
    struct request request;
    if (!begin_stream(&request, env, info, 3, write_metadata))
        return drop(&request);
    return submit(&request,
                  kvs_events_get_metadata(request.events, request.stream, &request.options));
}

/* (id, client, stream, json, expected, options) */
static napi_value set_metadata_js(napi_env env, napi_callback_info info)
{
    struct request request;
    kvs_slice json, *slices[] = {&request.stream, &json};
    int64_t expected;
    if (!begin(&request, env, info, 5, write_written) ||
        !call_take_bytes(request.call, &request.arguments, 2, 2, slices) ||
        !argument_i64(&request.arguments, 4, "the expected version", &expected))
        return drop(&request);
    return submit(&request, kvs_events_set_metadata(request.events, request.stream, expected, json,
                                                    &request.options));
}

/* (id, client, stream, group, settings, options) */
static napi_value set_group(napi_env env, napi_callback_info info, bool create)
{
    struct request request;
    kvs_group_settings settings;
    kvs_slice group, *slices[] = {&request.stream, &group};
    if (!begin(&request, env, info, 5, write_none) ||
        !call_take_bytes(request.call, &request.arguments, 2, 2, slices) ||
        !take_group_settings(env, request.arguments.values[4], &request.texts, &settings))
        return drop(&request);
    return submit(&request,
                  (create ? kvs_events_create_group : kvs_events_update_group)(
                      request.events, request.stream, group, &settings, &request.options));
}

static napi_value create_group_js(napi_env env, napi_callback_info info)
{
    return set_group(env, info, true);
}

static napi_value update_group_js(napi_env env, napi_callback_info info)
{
    return set_group(env, info, false);
}

typedef kvs_future *group_fn(kvs_events *events, kvs_slice stream, kvs_slice group,
                             const kvs_call_options *call);

/* (id, client, stream, group, options) */
static napi_value of_group(napi_env env, napi_callback_info info, group_fn *fn,
                           call_write_fn *write)
{
    struct request request;
    kvs_slice group, *slices[] = {&request.stream, &group};
    if (!begin(&request, env, info, 4, write) ||
        !call_take_bytes(request.call, &request.arguments, 2, 2, slices))
        return drop(&request);
    return submit(&request, fn(request.events, request.stream, group, &request.options));
}

static napi_value delete_group_js(napi_env env, napi_callback_info info)
{
    return of_group(env, info, kvs_events_delete_group, write_none);
}

static napi_value replay_parked_js(napi_env env, napi_callback_info info)
{
    return of_group(env, info, kvs_events_replay_parked, write_none);
}

static napi_value get_group_js(napi_env env, napi_callback_info info)
{
    return of_group(env, info, kvs_events_get_group, write_group);
}

/* (id, client, stream or null: of all, options) */
static napi_value list_groups_js(napi_env env, napi_callback_info info)
{
    struct request request;
    if (!begin_stream(&request, env, info, 3, write_groups))
        return drop(&request);
    return submit(&request,
                  kvs_events_list_groups(request.events, request.stream, &request.options));
}

/* (id, client, change, user, options) */
static napi_value change_user_js(napi_env env, napi_callback_info info)
{
    struct request request;
    kvs_user user = {0};
    const char *groups[32];
    uint32_t change, count = 0;
    napi_value list;
    if (!begin(&request, env, info, 4, write_none) ||
        !argument_u32(&request.arguments, 2, "the change", &change) ||
        !take_text(env, request.arguments.values[3], "login", &request.texts, &user.login) ||
        !take_text(env, request.arguments.values[3], "fullName", &request.texts, &user.full_name) ||
        !take_text(env, request.arguments.values[3], "password", &request.texts, &user.password) ||
        !option_get(env, request.arguments.values[3], "groups", &list) ||
        (list != NULL && !take_text_list(env, list, &request.texts, groups, 32, &count)))
        return drop(&request);
    user.groups = groups;
    user.groups_count = count;
    return submit(&request, kvs_events_change_user(request.events, (enum kvs_user_change)change,
                                                   &user, &request.options));
}

/* (id, client, {login}, options) */
static napi_value get_users_js(napi_env env, napi_callback_info info)
{
    struct request request;
    const char *login = NULL;
    if (!begin(&request, env, info, 3, write_users) ||
        !take_text(env, request.arguments.values[2], "login", &request.texts, &login))
        return drop(&request);
    return submit(&request, kvs_events_get_users(request.events, login, &request.options));
}

/* (id, client, options) */
static napi_value scavenge_js(napi_env env, napi_callback_info info)
{
    struct request request;
    if (!begin(&request, env, info, 2, write_value))
        return drop(&request);
    return submit(&request, kvs_events_scavenge(request.events, &request.options));
}

/* (id, client, options) */
static napi_value ping_js(napi_env env, napi_callback_info info)
{
    struct request request;
    if (!begin(&request, env, info, 2, write_none))
        return drop(&request);
    return submit(&request, kvs_events_ping(request.events, &request.options));
}

/* --- open, close --- */

static void write_opened(struct call *call, struct writer *writer)
{
    struct events_client *client = malloc(sizeof *client);
    void *events = NULL;
    kvs_future_get_pointer(call->future, &events);
    if (client == NULL) {
        kvs_future *closed = kvs_events_close(events);
        kvs_future_wait(closed, -1);
        kvs_future_free(closed);
        write_failed(writer);
        return;
    }
    *client = (struct events_client){events, call->watch};
    call->watch = NULL;
    write_new_resource(call, writer, &events_kind, client);
}

/* (id, url, options) */
static napi_value open_js(napi_env env, napi_callback_info info)
{
    struct arguments arguments;
    struct kvs_events_options options = {.size = sizeof options};
    struct texts texts = {.count = 0};
    uint32_t id;
    char *url = NULL;
    struct call *call = NULL;
    if (arguments_begin(&arguments, env, info) && argument_u32(&arguments, 0, "the id", &id) &&
        argument_string(&arguments, 1, "the URL", &url) &&
        take_events_options(env, arguments.values[2], &texts, &options) &&
        addon_runtime(arguments.addon) != NULL)
        call = call_new(arguments.addon, id, NULL, write_opened);
    if (call != NULL) {
        call->watch = watch_new();
        options.on_connection = watch_on_connection;
        options.on_connection_arg = call->watch;
        call_submit_future(call, call->watch != NULL
                                     ? kvs_events_open(arguments.addon->runtime, url, &options)
                                     : NULL);
    }
    texts_free(&texts);
    free(url);
    return NULL;
}

static napi_value close_js(napi_env env, napi_callback_info info)
{
    return resource_close_js(env, info, &events_kind);
}

bool events_define(napi_env env, napi_value exports)
{
    static const napi_property_descriptor functions[] = {
        FUNCTION("eventsOpen", open_js),
        FUNCTION("eventsClose", close_js),
        FUNCTION("eventsAppend", append_js),
        FUNCTION("eventsDelete", delete_js),
        FUNCTION("eventsTransactionStart", transaction_start_js),
        FUNCTION("eventsTransactionWrite", transaction_write_js),
        FUNCTION("eventsTransactionCommit", transaction_commit_js),
        FUNCTION("eventsReadEvent", read_event_js),
        FUNCTION("eventsReadStream", read_stream_js),
        FUNCTION("eventsReadAll", read_all_js),
        FUNCTION("eventsGetMetadata", get_metadata_js),
        FUNCTION("eventsSetMetadata", set_metadata_js),
        FUNCTION("eventsCreateGroup", create_group_js),
        FUNCTION("eventsUpdateGroup", update_group_js),
        FUNCTION("eventsDeleteGroup", delete_group_js),
        FUNCTION("eventsReplayParked", replay_parked_js),
        FUNCTION("eventsGetGroup", get_group_js),
        FUNCTION("eventsListGroups", list_groups_js),
        FUNCTION("eventsChangeUser", change_user_js),
        FUNCTION("eventsGetUsers", get_users_js),
        FUNCTION("eventsScavenge", scavenge_js),
        FUNCTION("eventsPing", ping_js),
        FUNCTION("eventsWatch", watch_js),
    };
    return define_functions(env, exports, functions, sizeof functions / sizeof functions[0]);
}
