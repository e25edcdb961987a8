/* client/events/local.c: opening, closing, and the calls; see client/events/local.h. */
#include "client/events/local_parts.h"

#include "base/mem.h"
#include "runtime/runtime.h"
#include "runtime/thread_pool.h"
#include "stream/group.h"
#include "stream/users.h"

#include <stdio.h>

/* The call that is the payload of a future. */
struct local_call {
    struct events_call base;
    struct local_events *local;
    struct task task;
    struct arena inputs;
    bool reading; /* `read` holds memory */
    struct stream_write write;
    struct stream_read read;
    struct stream_filter *filter;
    struct stream_group_call group;
    bool grouping;
    struct stream_user_call user;
    bool using;
    struct stream_scavenge scavenge;
};

static void local_call_free(void *payload)
{
    struct local_call *call = payload;
    events_call_deinit(&call->base);
    if (call->reading)
        stream_read_release(&call->read);
    if (call->grouping)
        stream_group_call_release(&call->group);
    if (call->using)
        stream_user_call_release(&call->user);
    stream_filter_free(call->filter);
    arena_deinit(&call->inputs);
}

/* The streams cannot be made to let go of what they have: the future does not wait for it, the
 * payload does. */
static void local_call_cancel(kvs_future *future)
{
    const struct local_call *call = future_payload(future);
    if (events_kind_is_write(call->base.kind))
        future_give_up(future, KVS_ERR_OUTCOME_UNKNOWN,
                       "given up while it was being carried out: it may be done or not");
    else
        future_give_up(future, KVS_ERR_CANCELLED, "");
}

static const struct future_methods local_call_methods = {
    .payload_size = sizeof(struct local_call),
    .cancel = local_call_cancel,
    .free = local_call_free,
};

/* --- ends --------------------------------------------------------------------------------------
 */

int local_error_of(enum stream_outcome outcome)
{
    switch (outcome) {
    case STREAM_OK:
        return 0;
    case STREAM_WRONG_EXPECTED_VERSION:
        return KVS_ERR_WRONG_EXPECTED_VERSION;
    case STREAM_DELETED:
        return KVS_ERR_STREAM_DELETED;
    case STREAM_NOT_FOUND:
        return KVS_ERR_NO_STREAM;
    case STREAM_EVENT_NOT_FOUND:
    case STREAM_INVALID_TRANSACTION:
        return KVS_ERR_NOT_FOUND;
    case STREAM_ACCESS_DENIED:
        return KVS_ERR_ACCESS_DENIED;
    case STREAM_BAD_REQUEST:
        break;
    }
    return KVS_ERR_INVALID_ARGUMENT;
}

/* The future may be freed by its user at once: what follows needs only `local`. */
static void call_finish(struct local_call *call, int error, const char *message)
{
    struct local_events *local = call->local;
    if (future_decide(future_of_payload(call))) {
        if (message != NULL)
            snprintf(call->base.message, sizeof call->base.message, "%s", message);
        events_call_finish(&call->base, error);
    }
    local_release(local);
}

static kvs_position position_of(int64_t position)
{
    return (kvs_position){position, position};
}

static void call_on_write(struct task *task)
{
    struct local_call *call = CONTAINER_OF(task, struct local_call, write.op.task);
    const struct stream_write *write = &call->write;
    int error = write->op.error != 0 ? write->op.error : local_error_of(write->outcome);
    bool is_delete = call->base.kind == EVENTS_DELETE;
    call->base.write = (kvs_write_result){
        .first_number = is_delete ? -1 : write->first_number,
        .last_number = is_delete ? -1 : write->last_number,
        .position = position_of(write->position),
    };
    if (error == KVS_ERR_WRONG_EXPECTED_VERSION) {
        call->base.has_number = true;
        call->base.number = write->current_version;
    } else if (call->base.kind == EVENTS_TRANSACTION_START && error == 0) {
        call->base.has_number = true;
        call->base.number = (int64_t)write->transaction;
    }
    call_finish(call, error, error == KVS_ERR_NOT_FOUND ? "no such transaction" : NULL);
}

/* --- events ------------------------------------------------------------------------------------
 */

static kvs_event event_of(const struct stream_record *record)
{
    kvs_event event = {
        .stream = record->stream,
        .type = record->type,
        .data = record->data,
        .metadata = record->metadata,
        .number = record->number,
        .created_ms = record->created_100ns / 10000,
        .is_json = record->is_json,
    };
    memcpy(event.id.bytes, record->id, sizeof event.id.bytes);
    return event;
}

int local_add_event(struct batch *batch, const struct stream_event *from, int32_t retry_count,
                    bool deep)
{
    kvs_event event, link;
    if (from->has_event)
        event = event_of(&from->event);
    if (from->has_link)
        link = event_of(&from->link);
    return batch_add(batch, from->has_event ? &event : NULL, from->has_link ? &link : NULL,
                     position_of(stream_event_original(from)->position), retry_count, deep);
}

static void call_finish_read(struct local_call *call)
{
    struct stream_read *read = &call->read;
    int error = read->op.error != 0 ? read->op.error : local_error_of(read->outcome);
    struct batch *batch = &call->base.batch;
    call->reading = true;
    if (error == 0)
        error = batch_reserve(batch, read->events_count);
    for (uint32_t i = 0; i < read->events_count && error == 0; i++)
        error = local_add_event(batch, &read->events[i], 0, false);
    bool is_all = call->base.kind == EVENTS_READ_ALL;
    for (uint32_t i = 0; i < batch->count && !is_all; i++)
        batch->events[i].position = KVS_POSITION_END;
    if (error == 0 && call->base.kind == EVENTS_READ_EVENT && batch->count == 0)
        error = KVS_ERR_NOT_FOUND;
    call->base.page = (kvs_event_page){
        .is_end = read->end,
        .next_number = is_all ? -1 : read->next,
        .last_number = is_all ? -1 : read->last_number,
        .next_position = is_all ? position_of(read->next) : KVS_POSITION_END,
    };
    const char *message = error == KVS_ERR_NOT_FOUND                          ? "no such event"
                          : read->outcome == STREAM_BAD_REQUEST && error != 0 ? read->message
                                                                              : NULL;
    call_finish(call, error, message);
}

static void call_on_read(struct task *task)
{
    call_finish_read(CONTAINER_OF(task, struct local_call, read.op.task));
}

/* --- requests ----------------------------------------------------------------------------------
 */

/* What cannot begin ends on the loop, as everything does. */
static void call_on_refused(struct task *task)
{
    struct local_call *call = CONTAINER_OF(task, struct local_call, task);
    call_finish(call, call->base.error, NULL); /* call_refuse has set the message */
}

static void call_refuse(struct local_call *call, int error, const char *why)
{
    call->base.error = error;
    snprintf(call->base.message, sizeof call->base.message, "%s", why);
    call->task.run = call_on_refused;
    loop_post(call->local->base.loop, &call->task);
}

static bool copy_slice(struct local_call *call, kvs_slice from, kvs_slice *ret_slice)
{
    const void *copy = arena_copy(&call->inputs, from);
    *ret_slice = slice_make(copy, from.size);
    return copy != NULL;
}

static bool copy_events(struct local_call *call, const struct events_request *request)
{
    static const kvs_event_id none;
    struct stream_new_event *events =
        arena_alloc(&call->inputs, request->count * sizeof *events + 1);
    if (events == NULL)
        return false;
    for (uint32_t i = 0; i < request->count; i++) {
        const kvs_new_event *from = &request->new_events[i];
        kvs_event_id id = from->id;
        if (memcmp(&id, &none, sizeof id) == 0)
            id = kvs_event_id_random();
        events[i] = (struct stream_new_event){.is_json = from->is_json};
        memcpy(events[i].id, id.bytes, sizeof events[i].id);
        if (!copy_slice(call, from->type, &events[i].type) ||
            !copy_slice(call, from->data, &events[i].data) ||
            !copy_slice(call, from->metadata, &events[i].metadata))
            return false;
    }
    call->write.events = events;
    call->write.count = request->count;
    return true;
}

static void start_write(struct local_call *call, const struct events_request *request)
{
    static const enum stream_write_kind kinds[] = {
        [EVENTS_APPEND] = STREAM_WRITE_APPEND,
        [EVENTS_DELETE] = STREAM_WRITE_DELETE,
        [EVENTS_TRANSACTION_START] = STREAM_WRITE_TRANSACTION_START,
        [EVENTS_TRANSACTION_WRITE] = STREAM_WRITE_TRANSACTION_APPEND,
        [EVENTS_TRANSACTION_COMMIT] = STREAM_WRITE_TRANSACTION_COMMIT,
    };
    call->write = (struct stream_write){
        .op = {.task.run = call_on_write, .loop = call->local->base.loop},
        .kind = request->hard ? STREAM_WRITE_TOMBSTONE : kinds[request->kind],
        .expected_version = request->number,
        .transaction = (uint64_t)request->number,
    };
    if (!copy_slice(call, request->stream, &call->write.stream) || !copy_events(call, request))
        call_refuse(call, KVS_ERR_NO_MEMORY, "");
    else
        streams_write(call->local->streams, &call->write);
}

static int make_filter(struct local_call *call, const struct events_request *request)
{
    const kvs_event_filter *filter = request->filter;
    if (filter == NULL)
        return 0;
    int error =
        stream_filter_new((enum stream_filter_subject)filter->on, filter->kind == KVS_FILTER_REGEX,
                          filter->patterns, (uint32_t)filter->patterns_count, &call->filter);
    call->read.filter = call->filter;
    call->read.search_window = filter->window != 0 ? filter->window : KVS_EVENTS_PAGE_MAX;
    return error;
}

static void start_read(struct local_call *call, const struct events_request *request)
{
    bool backward = (request->flags & KVS_READ_BACKWARD) != 0;
    bool is_all = request->kind == EVENTS_READ_ALL;
    call->read = (struct stream_read){
        .op = {.task.run = call_on_read, .loop = call->local->base.loop},
        .kind = is_all ? (backward ? STREAM_READ_ALL_BACKWARD : STREAM_READ_ALL_FORWARD)
                       : (backward ? STREAM_READ_BACKWARD : STREAM_READ_FORWARD),
        .flags = request->flags & KVS_READ_RESOLVE_LINKS ? STREAM_READ_RESOLVE_LINKS : 0,
        .from = is_all ? request->position.commit : request->number,
        .count = request->count,
    };
    if (request->kind == EVENTS_READ_EVENT)
        call->read.kind = STREAM_READ_EVENT;
    int error = make_filter(call, request);
    if (error == 0 && !copy_slice(call, request->stream, &call->read.stream))
        error = KVS_ERR_NO_MEMORY;
    if (error != 0) /* the rest was checked before */
        call_refuse(call, error,
                    error == KVS_ERR_INVALID_ARGUMENT
                        ? "the filter's regular expression is not one that is understood here"
                        : "");
    else if (streams_read_answer(call->local->streams, &call->read))
        call_finish_read(call);
    else
        streams_read(call->local->streams, &call->read);
}

/* --- groups ------------------------------------------------------------------------------------
 */

/* What an info call asked for. */
static int take_infos(struct local_call *call)
{
    struct events_call *base = &call->base;
    if (base->kind == EVENTS_LIST_GROUPS)
        return local_group_list(&base->batch.arena, &call->group, &base->groups);
    if (base->kind == EVENTS_GET_GROUP)
        return local_group_info(&base->batch.arena, &call->group.infos[0], &base->group);
    return 0;
}

static void call_on_group(struct task *task)
{
    struct local_call *call = CONTAINER_OF(task, struct local_call, group.op.task);
    static const int errors[] = {
        [STREAM_GROUP_OK] = 0,
        [STREAM_GROUP_EXISTS] = KVS_ERR_ALREADY_EXISTS,
        [STREAM_GROUP_NOT_FOUND] = KVS_ERR_NOT_FOUND,
        [STREAM_GROUP_FAILED] = KVS_ERR_INVALID_ARGUMENT,
        [STREAM_GROUP_ACCESS_DENIED] = KVS_ERR_ACCESS_DENIED,
    };
    int error = call->group.op.error != 0 ? call->group.op.error : errors[call->group.outcome];
    if (error == 0)
        error = take_infos(call);
    const char *message = error == KVS_ERR_NOT_FOUND          ? "no such group"
                          : error == KVS_ERR_ALREADY_EXISTS   ? "the group exists"
                          : error == KVS_ERR_INVALID_ARGUMENT ? call->group.reason
                                                              : NULL;
    call_finish(call, error, message);
}

static bool take_settings(const kvs_group_settings *from,
                          struct stream_group_settings *ret_settings)
{
    int strategy = from->strategy != NULL ? stream_strategy_of_name(slice_of_string(from->strategy))
                                          : STREAM_STRATEGY_ROUND_ROBIN;
    *ret_settings = (struct stream_group_settings){
        .resolve_links = from->resolve_links,
        .record_statistics = from->extra_statistics,
        .start_from = from->start_from,
        .message_timeout_ms = (int32_t)from->message_timeout_ms,
        .max_retry_count = (int32_t)from->retries_max,
        .live_buffer_size = (int32_t)from->live_buffer_count,
        .read_batch_size = (int32_t)from->read_batch_count,
        .buffer_size = (int32_t)from->history_buffer_count,
        .checkpoint_after_ms = (int32_t)from->checkpoint_after_ms,
        .checkpoint_min_count = (int32_t)from->checkpoint_count_min,
        .checkpoint_max_count = (int32_t)from->checkpoint_count_max,
        .subscriber_max_count = (int32_t)from->subscribers_max,
        .strategy = (enum stream_strategy)strategy,
    };
    return strategy >= 0;
}

static void start_group(struct local_call *call, const struct events_request *request)
{
    static const enum stream_group_action actions[] = {
        [EVENTS_CREATE_GROUP] = STREAM_GROUP_CREATE, [EVENTS_UPDATE_GROUP] = STREAM_GROUP_UPDATE,
        [EVENTS_DELETE_GROUP] = STREAM_GROUP_DELETE, [EVENTS_REPLAY_PARKED] = STREAM_GROUP_REPLAY,
        [EVENTS_LIST_GROUPS] = STREAM_GROUP_INFO,    [EVENTS_GET_GROUP] = STREAM_GROUP_INFO,
    };
    call->group = (struct stream_group_call){
        .op = {.task.run = call_on_group, .loop = call->local->base.loop},
        .action = actions[request->kind],
    };
    if (request->settings != NULL && !take_settings(request->settings, &call->group.settings)) {
        call_refuse(call, KVS_ERR_INVALID_ARGUMENT, "settings: there is no such strategy");
        return;
    }
    if (!copy_slice(call, request->stream, &call->group.stream) ||
        !copy_slice(call, request->group, &call->group.group)) {
        call_refuse(call, KVS_ERR_NO_MEMORY, "");
        return;
    }
    call->grouping = true;
    streams_group_call(call->local->streams, &call->group);
}

/* --- users -------------------------------------------------------------------------------------
 */

/* A list in one piece: the list, the users, their groups, all texts. */
static kvs_user_list *list_users(const struct stream_user_call *from)
{
    size_t groups = 0, texts = 0;
    for (uint32_t i = 0; i < from->details_count; i++) {
        const struct stream_user_details *details = &from->details[i];
        groups += details->groups_count;
        texts += details->login.size + details->full_name.size + 2;
        for (uint32_t j = 0; j < details->groups_count; j++)
            texts += details->groups[j].size + 1;
    }
    kvs_user_list *list = mem_alloc(sizeof *list + from->details_count * sizeof(kvs_user) +
                                    groups * sizeof(char *) + texts);
    if (list == NULL)
        return NULL;
    kvs_user *users = (kvs_user *)(list + 1);
    const char **names = (const char **)(users + from->details_count);
    char *at = (char *)(names + groups);
    *list = (kvs_user_list){users, from->details_count};
    for (uint32_t i = 0; i < from->details_count; i++) {
        const struct stream_user_details *details = &from->details[i];
        users[i] = (kvs_user){.groups = names,
                              .groups_count = details->groups_count,
                              .is_disabled = details->disabled};
        users[i].login = at;
        at += snprintf(at, details->login.size + 1, "%.*s", (int)details->login.size,
                       (const char *)details->login.data) +
              1;
        users[i].full_name = at;
        at += snprintf(at, details->full_name.size + 1, "%.*s", (int)details->full_name.size,
                       (const char *)details->full_name.data) +
              1;
        for (uint32_t j = 0; j < details->groups_count; j++) {
            *names++ = at;
            at += snprintf(at, details->groups[j].size + 1, "%.*s", (int)details->groups[j].size,
                           (const char *)details->groups[j].data) +
                  1;
        }
    }
    return list;
}

static void call_on_user(struct task *task)
{
    struct local_call *call = CONTAINER_OF(task, struct local_call, user.op.task);
    static const int errors[] = {
        [STREAM_USER_OK] = 0,
        [STREAM_USER_WRONG] = KVS_ERR_NOT_AUTHENTICATED,
        [STREAM_USER_NOT_FOUND] = KVS_ERR_NOT_FOUND,
        [STREAM_USER_EXISTS] = KVS_ERR_ALREADY_EXISTS,
        [STREAM_USER_ACCESS_DENIED] = KVS_ERR_ACCESS_DENIED,
        [STREAM_USER_BAD_REQUEST] = KVS_ERR_INVALID_ARGUMENT,
    };
    int error = call->user.op.error != 0 ? call->user.op.error : errors[call->user.outcome];
    if (error == 0 && call->base.kind == EVENTS_GET_USERS) {
        call->base.users = list_users(&call->user);
        error = call->base.users != NULL ? 0 : KVS_ERR_NO_MEMORY;
    }
    const char *message = error == KVS_ERR_NOT_FOUND        ? "no such user"
                          : error == KVS_ERR_ALREADY_EXISTS ? "the user exists"
                                                            : NULL;
    call_finish(call, error, message);
}

static bool copy_user(struct local_call *call, const kvs_user *user)
{
    const char *full_name = user->full_name != NULL ? user->full_name : "";
    const char *password = user->password != NULL ? user->password : "";
    kvs_slice *groups = arena_alloc(&call->inputs, user->groups_count * sizeof *groups + 1);
    if (groups == NULL)
        return false;
    for (size_t i = 0; i < user->groups_count; i++) {
        if (!copy_slice(call, slice_of_string(user->groups[i]), &groups[i]))
            return false;
    }
    call->user.groups = groups;
    call->user.groups_count = (uint32_t)user->groups_count;
    return copy_slice(call, slice_of_string(user->login), &call->user.login) &&
           copy_slice(call, slice_of_string(full_name), &call->user.full_name) &&
           copy_slice(call, slice_of_string(password), &call->user.password);
}

static void start_user(struct local_call *call, const struct events_request *request)
{
    static const enum stream_user_action actions[] = {
        [KVS_USER_CREATE] = STREAM_USER_CREATE,           [KVS_USER_UPDATE] = STREAM_USER_UPDATE,
        [KVS_USER_PASSWORD] = STREAM_USER_RESET_PASSWORD, [KVS_USER_ENABLE] = STREAM_USER_ENABLE,
        [KVS_USER_DISABLE] = STREAM_USER_DISABLE,         [KVS_USER_DELETE] = STREAM_USER_DELETE,
    };
    call->user = (struct stream_user_call){
        .op = {.task.run = call_on_user, .loop = call->local->base.loop},
        .action =
            request->kind == EVENTS_GET_USERS ? STREAM_USER_DETAILS : actions[request->user_change],
    };
    if (request->user != NULL && !copy_user(call, request->user)) {
        call_refuse(call, KVS_ERR_NO_MEMORY, "");
        return;
    }
    call->user.new_password = call->user.password;
    call->using = true;
    streams_user_call(call->local->streams, &call->user);
}

/* --- upkeep ------------------------------------------------------------------------------------
 */

static void call_on_scavenge(struct task *task)
{
    struct local_call *call = CONTAINER_OF(task, struct local_call, scavenge.op.task);
    snprintf(call->base.text, sizeof call->base.text, "%llu events, %llu bytes",
             (unsigned long long)call->scavenge.events_removed,
             (unsigned long long)call->scavenge.bytes_removed);
    call_finish(call, call->scavenge.op.error, NULL);
}

static void start_scavenge(struct local_call *call)
{
    call->scavenge = (struct stream_scavenge){
        .op = {.task.run = call_on_scavenge, .loop = call->local->base.loop}};
    streams_scavenge(call->local->streams, &call->scavenge);
}

static void local_start(kvs_events *events, struct events_call *base,
                        const struct events_request *request)
{
    struct local_call *call = CONTAINER_OF(base, struct local_call, base);
    call->local = local_of(events);
    atomic_fetch_add(&call->local->calls, 1);
    switch (request->kind) {
    case EVENTS_APPEND:
    case EVENTS_DELETE:
    case EVENTS_TRANSACTION_START:
    case EVENTS_TRANSACTION_WRITE:
    case EVENTS_TRANSACTION_COMMIT:
        start_write(call, request);
        break;
    case EVENTS_READ_EVENT:
    case EVENTS_READ_STREAM:
    case EVENTS_READ_ALL:
        start_read(call, request);
        break;
    case EVENTS_CREATE_GROUP:
    case EVENTS_UPDATE_GROUP:
    case EVENTS_DELETE_GROUP:
    case EVENTS_REPLAY_PARKED:
    case EVENTS_LIST_GROUPS:
    case EVENTS_GET_GROUP:
        start_group(call, request);
        break;
    case EVENTS_CHANGE_USER:
    case EVENTS_GET_USERS:
        start_user(call, request);
        break;
    case EVENTS_SCAVENGE:
        start_scavenge(call);
        break;
    case EVENTS_PING:
        call_refuse(call, 0, ""); /* there is nobody to ask */
        break;
    }
}

/* --- closing -----------------------------------------------------------------------------------
 */

static void local_on_engine_closed(struct task *task)
{
    struct local_events *local = CONTAINER_OF(task, struct local_events, close_task);
    void (*closed)(void *) = local->closed;
    void *arg = local->closed_arg;
    mem_free(local);
    closed(arg);
}

static void local_close_engine_blocking(struct task *task)
{
    struct local_events *local = CONTAINER_OF(task, struct local_events, close_task);
    local->close_error = engine_close_blocking(local->engine);
    local->close_task.run = local_on_engine_closed;
    loop_post(local->base.loop, &local->close_task);
}

static void local_on_streams_closed(void *arg)
{
    struct local_events *local = arg;
    local->close_task.run = local_close_engine_blocking;
    pool_submit_task(local->pool, &local->close_task);
}

/* All calls have ended, all subscriptions are closed. */
static void local_on_idle(struct task *task)
{
    struct local_events *local = CONTAINER_OF(task, struct local_events, close_task);
    streams_close(local->streams, local_on_streams_closed, local);
}

void local_release(struct local_events *local)
{
    /* acq_rel: the last one sees what all others did. */
    if (atomic_fetch_sub_explicit(&local->calls, 1, memory_order_acq_rel) > 1)
        return;
    local->close_task.run = local_on_idle;
    loop_post(local->base.loop, &local->close_task);
}

static void local_on_close(struct task *task)
{
    struct local_events *local = CONTAINER_OF(task, struct local_events, close_task);
    local->closing = true;
    struct list *node;
    while ((node = list_pop(&local->subscriptions)) != NULL) {
        struct local_listener *listener = list_entry(node, struct local_listener, node);
        listener->close(listener);
    }
    local_release(local);
}

static void local_close(kvs_events *events, void (*closed)(void *arg), void *arg)
{
    struct local_events *local = local_of(events);
    local->closed = closed;
    local->closed_arg = arg;
    local->close_task.run = local_on_close;
    loop_post(events->loop, &local->close_task);
}

static const struct events_methods local_methods = {
    .call_methods = &local_call_methods,
    .has_users = true,
    .keeps_no_time = true,
    .start = local_start,
    .subscribe = local_subscribe,
    .subscribe_group = local_subscribe_group,
    .close = local_close,
};

/* --- opening -----------------------------------------------------------------------------------
 */

static int open_engine_blocking(const struct local_options *options, struct engine **ret_engine,
                                struct engine_message *ret_message)
{
    const struct engine_options engine_options = {
        .pool = kvs_runtime_pool(options->runtime),
        .directory = options->directory,
        .sync = options->sync,
        .must_exist = options->must_exist,
    };
    return options->open_engine(&engine_options, ret_engine, ret_message);
}

int local_open_blocking(const struct local_options *options, kvs_events **ret_events,
                        struct engine_message *ret_message)
{
    struct local_events *local = mem_zalloc(sizeof *local);
    if (local == NULL)
        return KVS_ERR_NO_MEMORY;
    local->base = (kvs_events){.methods = &local_methods,
                               .runtime = options->runtime,
                               .loop = options->loop,
                               .timeout_ms = options->timeout_ms};
    local->pool = kvs_runtime_pool(options->runtime);
    list_init(&local->subscriptions);
    atomic_init(&local->calls, 1);
    int error = open_engine_blocking(options, &local->engine, ret_message);
    if (error != 0) {
        mem_free(local);
        return error;
    }
    const struct streams_options streams_options = {.engine = local->engine, .loop = options->loop};
    error = streams_open_blocking(&streams_options, &local->streams, ret_message);
    if (error != 0) {
        engine_close_blocking(local->engine);
        mem_free(local);
        return error;
    }
    *ret_events = &local->base;
    return 0;
}
