/* client/eventstore/member.c: see the header. */
#include "client/eventstore/member.h"

#include "base/mem.h"
#include "client/events/subscription.h"

#include <stdio.h>

#define ACK_IDS_MAX 256u /* of one message */
/* A server that counts a little differently is no enemy. */
#define IN_FLIGHT_SLACK 64u

struct member {
    kvs_subscription base;
    struct es_listener listener;
    struct es_connection *connection;
    struct kvs_group_subscribe_options options;
    struct es_login login;
    struct task start_task;
    struct buf id; /* of the subscription, as confirmed; empty: it is not */
    bool rejoined; /* and was given nothing since */
    struct batch waiting;
    struct batch given;
    int failed;
    char why[200];
};

static struct member *member_of(kvs_subscription *subscription)
{
    return CONTAINER_OF(subscription, struct member, base);
}

static struct member *member_of_listener(struct es_listener *listener)
{
    return CONTAINER_OF(listener, struct member, listener);
}

static void member_fail(struct member *member, int error, const char *why)
{
    if (member->failed == 0) {
        member->failed = error;
        snprintf(member->why, sizeof member->why, "%s", why);
    }
    es_connection_want_work(member->connection, &member->listener);
}

/* --- the end -----------------------------------------------------------------------------------
 */

static void member_end(struct member *member, int error, const char *why)
{
    batch_deinit(&member->waiting);
    es_connection_remove(member->connection, &member->listener);
    subscription_drop(&member->base, error, why);
}

/* Of a group on a connection that lives on: else the server goes on giving it events. */
static void member_leave(struct member *member)
{
    es_connection_tell(member->connection, &member->listener, ES_UNSUBSCRIBE_FROM_STREAM,
                       &member->login, NULL);
}

static void member_stop(kvs_subscription *subscription)
{
    struct member *member = member_of(subscription);
    member_leave(member);
    member_end(member, 0, "");
}

static void member_on_closed(struct es_listener *listener, int error, const char *why)
{
    member_end(member_of_listener(listener), error, why);
}

static void member_free(kvs_subscription *subscription)
{
    struct member *member = member_of(subscription);
    batch_deinit(&member->given);
    batch_deinit(&member->waiting);
    buf_deinit(&member->id);
    es_login_deinit(&member->login);
    mem_free((void *)(uintptr_t)member->options.stream.data);
    mem_free(member);
}

/* --- acknowledging -----------------------------------------------------------------------------
 */

static void member_send_ids(struct member *member, const struct subscription_ack *ack,
                            const kvs_slice *ids, uint32_t count)
{
    const struct es_list list = {.items = ids, .count = count};
    if (!ack->is_nak) {
        const struct es_persistent_subscription_ack_events wire = {
            .subscription_id = buf_slice(&member->id), .processed_event_ids = list};
        es_connection_tell(member->connection, &member->listener, ES_GROUP_ACK_EVENTS,
                           &member->login, &wire);
        return;
    }
    const struct es_persistent_subscription_nak_events wire = {
        .subscription_id = buf_slice(&member->id),
        .processed_event_ids = list,
        .message = ack->reason.size > 0 ? ack->reason : slice_make(NULL, 0),
        .action = ack->action,
    };
    es_connection_tell(member->connection, &member->listener, ES_GROUP_NAK_EVENTS, &member->login,
                       &wire);
}

/* While it is not connected nothing is said: the server gives the events again. */
static void member_ack(kvs_subscription *subscription, const struct subscription_ack *ack)
{
    struct member *member = member_of(subscription);
    kvs_slice ids[ACK_IDS_MAX];
    uint32_t count = 0;
    for (size_t i = 0; i < ack->count && member->id.size > 0; i++) {
        ids[count++] = slice_make(ack->ids[i].bytes, sizeof ack->ids[i].bytes);
        if (count == ACK_IDS_MAX || i + 1 == ack->count) {
            member_send_ids(member, ack, ids, count);
            count = 0;
        }
    }
}

static void member_ack_batch(struct member *member)
{
    static const struct subscription_ack plain_ack = {.is_nak = false};
    kvs_slice ids[ACK_IDS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < member->given.count && member->id.size > 0; i++) {
        const kvs_event *event = kvs_original_event(&member->given.events[i]);
        ids[count++] = slice_make(event->id.bytes, sizeof event->id.bytes);
        if (count == ACK_IDS_MAX || i + 1 == member->given.count) {
            member_send_ids(member, &plain_ack, ids, count);
            count = 0;
        }
    }
}

/* --- giving ------------------------------------------------------------------------------------
 */

static void member_on_given(struct member *member)
{
    if (!member->options.manual_ack)
        member_ack_batch(member);
    batch_deinit(&member->given);
}

static void member_resumed(kvs_subscription *subscription)
{
    struct member *member = member_of(subscription);
    member_on_given(member);
    es_connection_want_work(member->connection, &member->listener);
}

static void member_on_work(struct es_listener *listener)
{
    struct member *member = member_of_listener(listener);
    subscription_hold(&member->base); /* a handler may free it */
    if (member->id.size > 0)
        subscription_tell(&member->base, KVS_SUBSCRIPTION_LIVE);
    else if (member->base.told != 0 && !member->connection->ready)
        subscription_tell(&member->base, KVS_SUBSCRIPTION_WAITING);
    while (!subscription_is_giving(&member->base) && !subscription_is_stopping(&member->base) &&
           member->failed == 0 && member->waiting.count > 0) {
        member->given = member->waiting;
        member->waiting = (struct batch){0};
        if (subscription_give(&member->base, member->given.events, member->given.count))
            member_on_given(member);
    }
    if (member->failed != 0 && !subscription_is_giving(&member->base) &&
        !subscription_is_stopping(&member->base)) {
        if (member->id.size > 0)
            member_leave(member);
        member_end(member, member->failed, member->why);
    }
    subscription_release(&member->base);
}

/* --- what the server says ----------------------------------------------------------------------
 */

static void member_join(struct member *member)
{
    const struct es_connect_to_persistent_subscription wire = {
        .subscription_id = member->options.group, /* the protocol's name for it */
        .event_stream_id = member->options.stream,
        .allowed_in_flight_messages = member->options.in_flight,
    };
    buf_clear(&member->id);
    batch_deinit(&member->waiting);
    es_connection_ask(member->connection, &member->listener, ES_CONNECT_TO_GROUP, &member->login,
                      &wire);
}

/* At once, but not over and over. */
static void member_rejoin(struct member *member)
{
    if (member->rejoined) {
        es_connection_forget(member->connection, &member->listener);
        member->listener.wants_retry = true;
        return;
    }
    member->rejoined = true;
    member_join(member);
}

static void member_on_confirmation(struct member *member, kvs_slice body)
{
    struct es_persistent_subscription_confirmation wire;
    if (es_message_decode(body, &es_persistent_subscription_confirmation_type, &wire) != 0 ||
        wire.subscription_id.size == 0) {
        member_fail(member, KVS_ERR_PROTOCOL, "the server's confirmation cannot be read");
        return;
    }
    buf_clear(&member->id);
    if (buf_append_slice(&member->id, wire.subscription_id) != 0)
        member_fail(member, KVS_ERR_NO_MEMORY, kvs_error_text(KVS_ERR_NO_MEMORY));
    es_connection_want_work(member->connection, &member->listener);
}

static void member_on_event(struct member *member, kvs_slice body)
{
    int error = reply_take_group_event(&member->waiting, body);
    member->rejoined = false;
    if (error != 0)
        member_fail(member, error, "an event that the server pushed cannot be kept");
    else if (member->waiting.count > member->options.in_flight + IN_FLIGHT_SLACK)
        member_fail(member, KVS_ERR_PROTOCOL, "the server pushes more events than are in flight");
    es_connection_want_work(member->connection, &member->listener);
}

static void member_on_server_drop(struct member *member, kvs_slice body)
{
    struct es_subscription_dropped wire;
    if (es_message_decode(body, &es_subscription_dropped_type, &wire) != 0)
        wire.reason = ES_DROP_UNSUBSCRIBED;
    buf_clear(&member->id);
    switch (wire.reason) {
    case ES_DROP_ACCESS_DENIED:
        member_fail(member, KVS_ERR_ACCESS_DENIED, kvs_error_text(KVS_ERR_ACCESS_DENIED));
        break;
    case ES_DROP_NOT_FOUND:
    case ES_DROP_GROUP_DELETED:
        member_fail(member, KVS_ERR_NOT_FOUND, "no such group");
        break;
    case ES_DROP_SUBSCRIBER_MAX:
        member_fail(member, KVS_ERR_BUSY, "the group has all the members it may have");
        break;
    default: /* the group was changed, or deleted: joining again tells */
        if (member->options.no_rejoin)
            member_fail(member, KVS_ERR_CONNECTION_LOST, "the group was changed or deleted");
        else
            member_rejoin(member);
    }
}

static void member_on_frame(struct slot_owner *owner, const struct es_frame *frame)
{
    struct member *member = CONTAINER_OF(owner, struct member, listener.owner);
    switch (frame->command) {
    case ES_GROUP_CONFIRMATION:
        member_on_confirmation(member, frame->body);
        break;
    case ES_GROUP_EVENT_APPEARED:
        member_on_event(member, frame->body);
        break;
    case ES_SUBSCRIPTION_DROPPED:
        member_on_server_drop(member, frame->body);
        break;
    case ES_NOT_HANDLED:
        es_connection_not_handled(member->connection, &member->listener, frame->body);
        break;
    case ES_NOT_AUTHENTICATED:
        member_fail(member, KVS_ERR_NOT_AUTHENTICATED, kvs_error_text(KVS_ERR_NOT_AUTHENTICATED));
        break;
    case ES_BAD_REQUEST:
        member_fail(member, KVS_ERR_INVALID_ARGUMENT, "the server refused the subscription");
        break;
    default:
        member_fail(member, KVS_ERR_PROTOCOL, "the server sent what belongs to no subscription");
    }
}

/* --- the connection ----------------------------------------------------------------------------
 */

static void member_on_ready(struct es_listener *listener)
{
    struct member *member = member_of_listener(listener);
    listener->wants_retry = false;
    if (member->failed == 0) /* it ends when its handler is done */
        member_join(member);
}

static void member_on_lost(struct es_listener *listener, int error, const char *why)
{
    struct member *member = member_of_listener(listener);
    bool joined = member->id.size > 0;
    (void)error;
    buf_clear(&member->id);
    batch_deinit(&member->waiting);
    listener->wants_retry = false;
    if (member->options.no_rejoin && joined)
        member_fail(member, KVS_ERR_CONNECTION_LOST, why);
    es_connection_want_work(member->connection, listener);
}

static void member_on_start(struct task *task)
{
    struct member *member = CONTAINER_OF(task, struct member, start_task);
    if (!subscription_has_ended(&member->base)) /* stopped before it began */
        es_connection_add(member->connection, &member->listener);
    subscription_release(&member->base);
}

static const struct subscription_methods member_methods = {
    .is_group = true,
    .resumed = member_resumed,
    .stop = member_stop,
    .ack = member_ack,
    .free = member_free,
};

int member_start(struct es_connection *connection,
                 const struct kvs_group_subscribe_options *options,
                 const struct kvs_subscription_handlers *handlers, void *arg,
                 kvs_subscription **ret_subscription)
{
    struct member *member = mem_zalloc(sizeof *member);
    uint8_t *names = mem_alloc(options->stream.size + options->group.size);
    if (member == NULL || names == NULL) {
        mem_free(member);
        mem_free(names);
        return KVS_ERR_NO_MEMORY;
    }
    memcpy(names, options->stream.data, options->stream.size);
    memcpy(names + options->stream.size, options->group.data, options->group.size);
    subscription_init(&member->base, &member_methods, connection->config.loop, handlers, arg);
    member->connection = connection;
    member->options = *options;
    member->options.stream.data = names;
    member->options.group.data = names + options->stream.size;
    member->options.login = member->options.password = NULL;
    member->listener = (struct es_listener){
        .owner.on_frame = member_on_frame,
        .on_ready = member_on_ready,
        .on_lost = member_on_lost,
        .on_work = member_on_work,
        .on_closed = member_on_closed,
    };
    es_listener_init(&member->listener);
    if (es_login_copy(&member->login, options->login, options->password) != 0) {
        member_free(&member->base);
        return KVS_ERR_NO_MEMORY;
    }
    *ret_subscription = &member->base;
    subscription_hold(&member->base); /* the task's */
    member->start_task.run = member_on_start;
    loop_post(connection->config.loop, &member->start_task);
    return 0;
}
