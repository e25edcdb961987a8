/*
 * client/events/api.c: the public calls of kvs/events.h and kvs/subscription.h: they check what
 * they are given, in the same way for every implementation, and start a call.
 */
#include "client/events/check.h"
#include "client/events/compose.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

/* --- calls -------------------------------------------------------------------------------------
 */

static void set_results(kvs_future *future, struct events_call *call)
{
    if (call->has_number)
        future_set_number(future, call->number);
    if (call->error != 0)
        return;
    switch (call->kind) {
    case EVENTS_APPEND:
    case EVENTS_DELETE:
    case EVENTS_TRANSACTION_COMMIT:
        future_set_pointer(future, &call->write);
        break;
    case EVENTS_READ_EVENT:
        future_set_pointer(future, call->batch.events);
        break;
    case EVENTS_READ_STREAM:
    case EVENTS_READ_ALL:
        call->page.events = call->batch.events;
        call->page.count = call->batch.count;
        future_set_pointer(future, &call->page);
        break;
    case EVENTS_GET_USERS:
        future_set_pointer(future, call->users);
        break;
    case EVENTS_LIST_GROUPS:
        future_set_pointer(future, call->groups);
        break;
    case EVENTS_GET_GROUP:
        future_set_pointer(future, call->group);
        break;
    case EVENTS_SCAVENGE:
        future_set_value(future, slice_of_string(call->text));
        break;
    default:
        break;
    }
}

void events_call_finish(struct events_call *call, int error)
{
    call->error = error;
    if (call->done != NULL) {
        call->done(call);
        return;
    }
    kvs_future *future = future_of_payload(call);
    if (call->message[0] != '\0')
        future_set_message(future, call->message);
    set_results(future, call);
    future_complete(future, error);
}

void events_call_fail(struct events_call *call, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(call->message, sizeof call->message, format, args);
    va_end(args);
    events_call_finish(call, error);
}

void events_call_deinit(struct events_call *call)
{
    batch_deinit(&call->batch);
    mem_free(call->users);
    call->users = NULL;
}

/* --- calls that fail before they start ---------------------------------------------------------
 */

struct refusal {
    struct task task;
    int error;
    char message[200];
};

static const struct future_methods refusal_methods = {.payload_size = sizeof(struct refusal)};

kvs_future *events_refuse(kvs_events *events, int error, const char *why)
{
    kvs_future *future = future_new(events->runtime, events->loop, &refusal_methods);
    if (future == NULL)
        return NULL;
    struct refusal *refusal = future_payload(future);
    snprintf(refusal->message, sizeof refusal->message, "%s", why);
    future_set_message(future, refusal->message);
    future_complete(future, error);
    return future;
}

/* What the implementation does not: a deadline. A write gets it first: when there is no memory for
 * it, nothing was written. Reads mostly need none, as they are ready. */
static kvs_future *start_timed(kvs_events *events, kvs_future *future,
                               const struct events_request *request, uint32_t timeout_ms)
{
    struct events_call *call = future_payload(future);
    if (!events_kind_is_write(request->kind)) {
        events->methods->start(events, call, request);
        return kvs_future_is_ready(future) ? future : kvs_future_timeout(future, timeout_ms);
    }
    kvs_future *timed = kvs_future_timeout(future, timeout_ms);
    if (timed != NULL)
        events->methods->start(events, call, request);
    else if (future_decide(future))
        future_complete(future, KVS_ERR_NO_MEMORY);
    return timed;
}

kvs_future *events_start(kvs_events *events, const struct events_request *request)
{
    kvs_future *future = future_new(events->runtime, events->loop, events->methods->call_methods);
    if (future == NULL)
        return NULL;
    struct events_call *call = future_payload(future);
    call->kind = request->kind;
    uint32_t timeout_ms = request->options.timeout_ms;
    if (timeout_ms == 0)
        timeout_ms = events->timeout_ms;
    if (events->methods->keeps_no_time && timeout_ms != 0)
        return start_timed(events, future, request, timeout_ms);
    events->methods->start(events, call, request);
    return future;
}

static kvs_future *check_and_start(kvs_events *events, struct events_request *request,
                                   const kvs_call_options *options)
{
    char why[160];
    int error = check_call_options(options, &request->options, why);
    if (error == 0)
        error = check_request(request, why);
    return error != 0 ? events_refuse(events, error, why) : events_start(events, request);
}

/* --- writing -----------------------------------------------------------------------------------
 */

kvs_future *kvs_events_append(kvs_events *events, kvs_slice stream, int64_t expected_version,
                              const kvs_new_event *new_events, size_t count,
                              const kvs_call_options *call)
{
    if (count > KVS_APPEND_COUNT_MAX)
        return events_refuse(events, KVS_ERR_TOO_LARGE, "more events than one append may have");
    struct events_request request = {
        .kind = EVENTS_APPEND,
        .stream = stream,
        .number = expected_version,
        .new_events = new_events,
        .count = (uint32_t)count,
    };
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_delete(kvs_events *events, kvs_slice stream, int64_t expected_version,
                              bool hard, const kvs_call_options *call)
{
    struct events_request request = {
        .kind = EVENTS_DELETE, .stream = stream, .number = expected_version, .hard = hard};
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_transaction_start(kvs_events *events, kvs_slice stream,
                                         int64_t expected_version, const kvs_call_options *call)
{
    struct events_request request = {
        .kind = EVENTS_TRANSACTION_START, .stream = stream, .number = expected_version};
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_transaction_write(kvs_events *events, int64_t transaction,
                                         const kvs_new_event *new_events, size_t count,
                                         const kvs_call_options *call)
{
    if (count > KVS_APPEND_COUNT_MAX)
        return events_refuse(events, KVS_ERR_TOO_LARGE, "more events than one write may have");
    struct events_request request = {
        .kind = EVENTS_TRANSACTION_WRITE,
        .number = transaction,
        .new_events = new_events,
        .count = (uint32_t)count,
    };
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_transaction_commit(kvs_events *events, int64_t transaction,
                                          const kvs_call_options *call)
{
    struct events_request request = {.kind = EVENTS_TRANSACTION_COMMIT, .number = transaction};
    return check_and_start(events, &request, call);
}

/* --- reading -----------------------------------------------------------------------------------
 */

kvs_future *kvs_events_read_event(kvs_events *events, kvs_slice stream, int64_t number,
                                  unsigned flags, const kvs_call_options *call)
{
    struct events_request request = {
        .kind = EVENTS_READ_EVENT, .stream = stream, .number = number, .count = 1, .flags = flags};
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_read_stream(kvs_events *events, kvs_slice stream, int64_t from,
                                   uint32_t count, unsigned flags, const kvs_call_options *call)
{
    struct events_request request = {.kind = EVENTS_READ_STREAM,
                                     .stream = stream,
                                     .number = from,
                                     .count = count,
                                     .flags = flags};
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_read_all(kvs_events *events, kvs_position from, uint32_t count,
                                unsigned flags, const kvs_event_filter *filter,
                                const kvs_call_options *call)
{
    struct events_request request = {.kind = EVENTS_READ_ALL,
                                     .position = from,
                                     .count = count,
                                     .flags = flags,
                                     .filter = filter};
    return check_and_start(events, &request, call);
}

/* --- groups, upkeep ----------------------------------------------------------------------------
 */

static kvs_future *start_group_call(kvs_events *events, enum events_kind kind, kvs_slice stream,
                                    kvs_slice group, const kvs_group_settings *settings,
                                    const kvs_call_options *call)
{
    struct events_request request = {
        .kind = kind, .stream = stream, .group = group, .settings = settings};
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_create_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                    const kvs_group_settings *settings,
                                    const kvs_call_options *call)
{
    return start_group_call(events, EVENTS_CREATE_GROUP, stream, group, settings, call);
}

kvs_future *kvs_events_update_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                    const kvs_group_settings *settings,
                                    const kvs_call_options *call)
{
    return start_group_call(events, EVENTS_UPDATE_GROUP, stream, group, settings, call);
}

kvs_future *kvs_events_delete_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                    const kvs_call_options *call)
{
    return start_group_call(events, EVENTS_DELETE_GROUP, stream, group, NULL, call);
}

kvs_future *kvs_events_replay_parked(kvs_events *events, kvs_slice stream, kvs_slice group,
                                     const kvs_call_options *call)
{
    return start_group_call(events, EVENTS_REPLAY_PARKED, stream, group, NULL, call);
}

kvs_future *kvs_events_list_groups(kvs_events *events, kvs_slice stream,
                                   const kvs_call_options *call)
{
    return start_group_call(events, EVENTS_LIST_GROUPS, stream, (kvs_slice){0}, NULL, call);
}

kvs_future *kvs_events_get_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                 const kvs_call_options *call)
{
    return start_group_call(events, EVENTS_GET_GROUP, stream, group, NULL, call);
}

kvs_future *kvs_events_scavenge(kvs_events *events, const kvs_call_options *call)
{
    struct events_request request = {.kind = EVENTS_SCAVENGE};
    return check_and_start(events, &request, call);
}

kvs_future *kvs_events_ping(kvs_events *events, const kvs_call_options *call)
{
    struct events_request request = {.kind = EVENTS_PING};
    return check_and_start(events, &request, call);
}

/* --- metadata, users ---------------------------------------------------------------------------
 */

kvs_future *kvs_events_get_metadata(kvs_events *events, kvs_slice stream,
                                    const kvs_call_options *call)
{
    kvs_call_options options;
    char why[160];
    int error = check_call_options(call, &options, why);
    if (error == 0)
        error = check_stream(stream, why);
    return error != 0 ? events_refuse(events, error, why)
                      : compose_get_metadata(events, stream, &options);
}

kvs_future *kvs_events_set_metadata(kvs_events *events, kvs_slice stream, int64_t expected_version,
                                    kvs_slice json, const kvs_call_options *call)
{
    kvs_call_options options;
    char why[160];
    int error = check_call_options(call, &options, why);
    if (error == 0)
        error = check_stream(stream, why);
    if (error == 0)
        error = check_json_object(json, why);
    return error != 0 ? events_refuse(events, error, why)
                      : compose_set_metadata(events, stream, expected_version, json, &options);
}

kvs_future *kvs_events_change_user(kvs_events *events, enum kvs_user_change change,
                                   const kvs_user *user, const kvs_call_options *call)
{
    struct events_request request = {
        .kind = EVENTS_CHANGE_USER, .user_change = change, .user = user};
    char why[160];
    int error = check_call_options(call, &request.options, why);
    if (error == 0)
        error = check_user(change, user, why);
    if (error != 0)
        return events_refuse(events, error, why);
    return events->methods->has_users ? events_start(events, &request)
                                      : compose_change_user(events, &request);
}

kvs_future *kvs_events_get_users(kvs_events *events, const char *login,
                                 const kvs_call_options *call)
{
    const kvs_user user = {.login = login};
    struct events_request request = {.kind = EVENTS_GET_USERS,
                                     .user = login != NULL ? &user : NULL};
    char why[160];
    int error = check_call_options(call, &request.options, why);
    if (error == 0 && login != NULL)
        error = check_user(KVS_USER_DELETE, &user, why);
    if (error != 0)
        return events_refuse(events, error, why);
    return events->methods->has_users ? events_start(events, &request)
                                      : compose_get_users(events, &request);
}

/* --- subscriptions -----------------------------------------------------------------------------
 */

int kvs_events_subscribe(kvs_events *events, const struct kvs_subscribe_options *options,
                         const struct kvs_subscription_handlers *handlers, void *arg,
                         kvs_subscription **ret_subscription)
{
    struct kvs_subscribe_options checked;
    int error = check_subscribe(options, handlers, &checked);
    if (error != 0)
        return error;
    return events->methods->subscribe(events, &checked, handlers, arg, ret_subscription);
}

int kvs_events_subscribe_group(kvs_events *events,
                               const struct kvs_group_subscribe_options *options,
                               const struct kvs_subscription_handlers *handlers, void *arg,
                               kvs_subscription **ret_subscription)
{
    struct kvs_group_subscribe_options checked;
    int error = check_subscribe_group(options, handlers, &checked);
    if (error != 0)
        return error;
    return events->methods->subscribe_group(events, &checked, handlers, arg, ret_subscription);
}
