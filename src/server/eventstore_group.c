/*
 * server/eventstore_group.c: persistent subscription groups: making and changing them, and the
 * consumers that this service's connections are.
 *
 * A consumer gets at most as many events as it said and has not acknowledged; they are appended as
 * they come. One that takes nothing for so long that UNWRITTEN_MAX bytes wait is cut off: what it
 * had goes to others, and nothing is lost. A connection that acknowledges faster than its groups
 * look at it is not read meanwhile: who acknowledges what it got, and once, never comes so far.
 */
#include "server/eventstore_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <kvs/error.h>

#define UNWRITTEN_MAX (64u * 1024 * 1024)
#define SLOTS_MAX 10000
#define CONSUMERS_MAX 1024u                 /* of one connection */
#define ACKS_MAX 16384u                     /* ids in one package */
#define ACKS_WAITING_MAX (4u * 1024 * 1024) /* bytes of them that a group has not come to */

/* --- create, update, delete ------------------------------------------------------------------- */

static void on_changed(struct task *task)
{
    static const int64_t results[] = {
        [STREAM_GROUP_OK] = ES_GROUP_SUCCESS,
        [STREAM_GROUP_EXISTS] = ES_GROUP_EXISTS_OR_NOT,
        [STREAM_GROUP_NOT_FOUND] = ES_GROUP_EXISTS_OR_NOT,
        [STREAM_GROUP_FAILED] = ES_GROUP_FAIL,
        [STREAM_GROUP_ACCESS_DENIED] = ES_GROUP_DENIED,
    };
    struct es_request *request = CONTAINER_OF(task, struct es_request, as.op.task);
    struct stream_group_call *group = &request->as.group;
    const char *reason = group->reason;
    if (reason[0] == '\0' && group->outcome == STREAM_GROUP_ACCESS_DENIED)
        reason = "Access Denied";
    const struct es_persistent_subscription_completed message = {
        .result = results[group->outcome],
        .reason = slice_of_string(reason),
    };
    if (group->op.error != 0)
        es_answer_error(request->connection, &request->correlation, group->op.error);
    else
        es_answer(request->connection, request->command + 1, &request->correlation, &message);
    stream_group_call_release(group);
    es_request_end(request);
}

static struct es_request *begin(const struct es_call *call, enum stream_group_action action,
                                kvs_slice stream, kvs_slice group)
{
    struct es_request *request =
        es_request_new(call, on_changed, ES_FRAME_HEAD_SIZE + call->frame->body.size);
    if (request != NULL) {
        request->as.group.action = action;
        request->as.group.stream = stream;
        request->as.group.group = group;
        request->as.group.user = es_call_user(call);
    }
    return request;
}

static void fail(const struct es_call *call, const char *why)
{
    const struct es_persistent_subscription_completed message = {.result = ES_GROUP_FAIL,
                                                                 .reason = slice_of_string(why)};
    es_answer(call->connection, call->frame->command + 1, &call->frame->correlation, &message);
}

/* False: there is no such strategy. Older clients say only whether it is round robin. */
static bool take_settings(const struct es_persistent_subscription_settings *from,
                          struct stream_group_settings *to)
{
    *to = (struct stream_group_settings){
        .resolve_links = from->resolve_link_tos,
        .record_statistics = from->record_statistics,
        .start_from = from->start_from,
        .message_timeout_ms = (int32_t)from->message_timeout_milliseconds,
        .max_retry_count = (int32_t)from->max_retry_count,
        .live_buffer_size = (int32_t)from->live_buffer_size,
        .read_batch_size = (int32_t)from->read_batch_size,
        .buffer_size = (int32_t)from->buffer_size,
        .checkpoint_after_ms = (int32_t)from->checkpoint_after_time,
        .checkpoint_min_count = (int32_t)from->checkpoint_min_count,
        .checkpoint_max_count = (int32_t)from->checkpoint_max_count,
        .subscriber_max_count = (int32_t)from->subscriber_max_count,
        .strategy = from->prefer_round_robin ? STREAM_STRATEGY_ROUND_ROBIN
                                             : STREAM_STRATEGY_DISPATCH_TO_SINGLE,
    };
    if (from->named_consumer_strategy.size == 0)
        return true;
    int strategy = stream_strategy_of_name(from->named_consumer_strategy);
    to->strategy = strategy >= 0 ? (enum stream_strategy)strategy : to->strategy;
    return strategy >= 0;
}

static void take_change(const struct es_call *call, enum stream_group_action action)
{
    struct es_persistent_subscription_settings message;
    struct stream_group_settings settings;
    if (!es_call_decode(call, &message))
        return;
    if (!take_settings(&message, &settings)) {
        fail(call, "there is no consumer strategy of this name");
        return;
    }
    struct es_request *request =
        begin(call, action, message.event_stream_id, message.subscription_group_name);
    if (request == NULL)
        return;
    request->as.group.settings = settings;
    streams_group_call(call->connection->at->service->streams, &request->as.group);
}

void es_take_create_group(const struct es_call *call)
{
    take_change(call, STREAM_GROUP_CREATE);
}

void es_take_update_group(const struct es_call *call)
{
    take_change(call, STREAM_GROUP_UPDATE);
}

void es_take_delete_group(const struct es_call *call)
{
    struct es_delete_persistent_subscription message;
    if (!es_call_decode(call, &message))
        return;
    struct es_request *request =
        begin(call, STREAM_GROUP_DELETE, message.event_stream_id, message.subscription_group_name);
    if (request != NULL)
        streams_group_call(call->connection->at->service->streams, &request->as.group);
}

/* --- consumers -------------------------------------------------------------------------------- */

struct es_consumer {
    struct stream_consumer consumer;
    struct es_connection *connection;
    struct es_consumer *next, **link; /* of the connection */
    struct es_id correlation;
    struct es_user *user;
    char *name; /* of the client, for people */
    bool confirmed;
    bool closing;
    bool silent;    /* nobody is to be told that it ended */
    uint8_t text[]; /* stream, "::", group */
};

static struct es_consumer *of(struct stream_consumer *consumer)
{
    return CONTAINER_OF(consumer, struct es_consumer, consumer);
}

static kvs_slice subscription_id(const struct es_consumer *consumer)
{
    return slice_make(consumer->text,
                      consumer->consumer.stream.size + 2 + consumer->consumer.group.size);
}

/* Lost, if its connection ended by itself. */
static void leave(struct es_consumer *consumer)
{
    bool lost = consumer->silent && !consumer->connection->at->draining;
    stream_consumer_close(&consumer->consumer, lost);
}

static void on_confirmed(struct stream_consumer *base)
{
    struct es_consumer *consumer = of(base);
    const struct es_persistent_subscription_confirmation message = {
        .last_commit_position = base->last_position,
        .subscription_id = subscription_id(consumer),
        .has_last_event_number = true,
        .last_event_number = es_number_for(consumer->connection, base->last_number),
    };
    consumer->confirmed = true;
    if (consumer->closing) /* it was said before there was anything to close */
        leave(consumer);
    else
        es_answer(consumer->connection, ES_GROUP_CONFIRMATION, &consumer->correlation, &message);
}

static void on_event(struct stream_consumer *base, const struct stream_event *event,
                     int32_t retry_count)
{
    struct es_consumer *consumer = of(base);
    struct es_connection *connection = consumer->connection;
    struct es_persistent_subscription_event_appeared message = {
        .has_retry_count = true,
        .retry_count = retry_count,
    };
    if (consumer->closing)
        return;
    es_resolved_indexed_fill(connection, &message.event, event);
    es_answer(connection, ES_GROUP_EVENT_APPEARED, &consumer->correlation, &message);
    es_connection_flush(connection);
    es_count(&connection->at->counters.events_sent, 1);
    if (connection_unwritten(&connection->base) > UNWRITTEN_MAX) {
        log_info("connection %s closed: it does not read the events of its group",
                 connection->base.peer);
        connection_close(&connection->base);
    }
}

static void tell_end(struct es_consumer *consumer, enum stream_drop drop)
{
    static const int64_t reasons[] = {
        [STREAM_DROP_CLOSED] = ES_DROP_UNSUBSCRIBED,
        [STREAM_DROP_UNSUBSCRIBED] = ES_DROP_UNSUBSCRIBED,
        [STREAM_DROP_NOT_FOUND] = ES_DROP_NOT_FOUND,
        [STREAM_DROP_ACCESS_DENIED] = ES_DROP_ACCESS_DENIED,
        [STREAM_DROP_TOO_MANY] = ES_DROP_SUBSCRIBER_MAX,
        [STREAM_DROP_FAILED] = ES_DROP_UNSUBSCRIBED,
    };
    const struct es_subscription_dropped message = {.has_reason = true, .reason = reasons[drop]};
    if (drop == STREAM_DROP_FAILED)
        log_warn("a consumer of %.*s is dropped: %s", (int)subscription_id(consumer).size,
                 (const char *)consumer->text, kvs_error_text(consumer->consumer.error));
    es_answer(consumer->connection, ES_SUBSCRIPTION_DROPPED, &consumer->correlation, &message);
}

static void on_dropped(struct stream_consumer *base, enum stream_drop drop)
{
    struct es_consumer *consumer = of(base);
    struct es_connection *connection = consumer->connection;
    if (!consumer->silent && !connection->base.closed)
        tell_end(consumer, drop);
    *consumer->link = consumer->next;
    if (consumer->next != NULL)
        consumer->next->link = consumer->link;
    connection->consumers_count--;
    es_user_unref(consumer->user);
    mem_free(consumer->name);
    mem_free(consumer);
    connection_unref(&connection->base);
}

static struct es_consumer *consumer_new(const struct es_call *call, kvs_slice stream,
                                        kvs_slice group, int64_t slots)
{
    struct es_connection *connection = call->connection;
    struct es_consumer *consumer = NULL;
    if (connection->consumers_count < CONSUMERS_MAX)
        consumer = mem_alloc(sizeof *consumer + stream.size + 2 + group.size);
    if (consumer == NULL)
        return NULL;
    memset(consumer, 0, sizeof *consumer);
    memcpy(consumer->text, stream.data, stream.size);
    memcpy(consumer->text + stream.size, "::", 2);
    memcpy(consumer->text + stream.size + 2, group.data, group.size);
    consumer->connection = connection;
    consumer->correlation = call->frame->correlation;
    consumer->user = es_user_ref(call->user);
    consumer->name = mem_strdup(connection->name != NULL ? connection->name : "");
    consumer->consumer = (struct stream_consumer){
        .loop = connection->at->loop,
        .stream = slice_make(consumer->text, stream.size),
        .group = slice_make(consumer->text + stream.size + 2, group.size),
        .slots = (int32_t)(slots < 1           ? 1
                           : slots > SLOTS_MAX ? SLOTS_MAX
                                               : slots),
        .user = es_call_user(call),
        .from = slice_of_string(connection->base.peer),
        .name = slice_of_string(consumer->name != NULL ? consumer->name : ""),
        .on_confirmed = on_confirmed,
        .on_event = on_event,
        .on_dropped = on_dropped,
    };
    return consumer;
}

void es_take_connect_group(const struct es_call *call)
{
    struct es_connect_to_persistent_subscription message;
    struct es_connection *connection = call->connection;
    if (!es_call_decode(call, &message))
        return;
    kvs_slice stream = message.event_stream_id, group = message.subscription_id;
    if (stream.size == 0 || stream.size > STREAM_NAME_SIZE_MAX || group.size == 0 ||
        group.size > STREAM_NAME_SIZE_MAX) {
        es_call_refuse(call, "the names of a stream and of a group have 1 to 4096 bytes");
        return;
    }
    struct es_consumer *consumer =
        consumer_new(call, stream, group, message.allowed_in_flight_messages);
    if (consumer == NULL) {
        es_answer_error(connection, &call->frame->correlation, KVS_ERR_NO_MEMORY);
        return;
    }
    consumer->next = connection->consumers;
    consumer->link = &connection->consumers;
    if (connection->consumers != NULL)
        connection->consumers->link = &consumer->next;
    connection->consumers = consumer;
    connection->consumers_count++;
    connection_ref(&connection->base);
    streams_consume(connection->at->service->streams, &consumer->consumer);
}

/* --- acknowledgements ------------------------------------------------------------------------- */

static struct es_consumer *find(struct es_connection *connection, const struct es_id *correlation)
{
    struct es_consumer *consumer = connection->consumers;
    while (consumer != NULL && !es_id_equal(&consumer->correlation, correlation))
        consumer = consumer->next;
    return consumer;
}

/*
 * Whom an acknowledgement is of: the consumer with its correlation id. The Rust client gives each
 * package an id of its own: then those of the connection with the name that it says; ids that one
 * of them does not have are passed over.
 */
static bool is_meant(const struct es_consumer *consumer, const struct es_consumer *own,
                     kvs_slice name)
{
    bool takes = consumer->confirmed && !consumer->closing;
    return takes && (own != NULL ? consumer == own : slice_equal(subscription_id(consumer), name));
}

/* The ids as one array; NULL: they are none, or there is no memory, and it was answered. */
static uint8_t *take_ids(const struct es_call *call, struct es_list list)
{
    uint32_t count = list.count;
    uint8_t *ids = count <= ACKS_MAX ? mem_alloc(count * 16 + 1) : NULL;
    if (ids == NULL) {
        es_call_refuse(call, "too many ids in one package");
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        kvs_slice id;
        if (es_list_next_text(&list, &id) != 1 || id.size != 16) {
            es_call_refuse(call, "an event id has 16 bytes");
            mem_free(ids);
            return NULL;
        }
        memcpy(ids + (size_t)i * 16, id.data, 16);
    }
    return ids;
}

bool es_acks_are_many(const struct es_connection *connection)
{
    return connection->acks_waiting >= ACKS_WAITING_MAX;
}

static void acks_look(struct es_connection *connection)
{
    connection->acks_waiting = 0;
    for (struct es_consumer *at = connection->consumers; at != NULL; at = at->next)
        connection->acks_waiting += stream_consumer_acks_waiting(&at->consumer);
}

void es_acks_resume(struct es_connection *connection)
{
    bool were_many = es_acks_are_many(connection);
    if (connection->acks_waiting == 0)
        return;
    acks_look(connection);
    if (were_many && !es_acks_are_many(connection))
        connection_check(&connection->base);
}

/* One package of many ids may be for many consumers: those behind the bound get them again. */
static bool is_taken(struct es_connection *connection, uint32_t count)
{
    connection->acks_waiting += (uint64_t)count * 16;
    return connection->acks_waiting < 2 * ACKS_WAITING_MAX;
}

void es_take_group_ack(const struct es_call *call)
{
    struct es_persistent_subscription_ack_events message;
    if (!es_call_decode(call, &message))
        return;
    uint8_t *ids = take_ids(call, message.processed_event_ids);
    if (ids == NULL)
        return;
    const struct es_consumer *own = find(call->connection, &call->frame->correlation);
    /* Without memory for it the events are given again: that is what a time-out does, too. */
    for (struct es_consumer *at = call->connection->consumers; at != NULL; at = at->next) {
        if (is_meant(at, own, message.subscription_id) &&
            is_taken(call->connection, message.processed_event_ids.count))
            stream_consumer_ack(&at->consumer, ids, message.processed_event_ids.count);
    }
    mem_free(ids);
    acks_look(call->connection);
}

void es_take_group_nak(const struct es_call *call)
{
    static const enum stream_nak actions[] = {
        [ES_NAK_UNKNOWN] = STREAM_NAK_UNKNOWN, [ES_NAK_PARK] = STREAM_NAK_PARK,
        [ES_NAK_RETRY] = STREAM_NAK_RETRY,     [ES_NAK_SKIP] = STREAM_NAK_SKIP,
        [ES_NAK_STOP] = STREAM_NAK_STOP,
    };
    struct es_persistent_subscription_nak_events message;
    if (!es_call_decode(call, &message))
        return;
    uint8_t *ids = take_ids(call, message.processed_event_ids);
    if (ids == NULL)
        return;
    const struct es_consumer *own = find(call->connection, &call->frame->correlation);
    bool known = message.action >= 0 && message.action <= ES_NAK_STOP;
    enum stream_nak action = known ? actions[message.action] : STREAM_NAK_UNKNOWN;
    for (struct es_consumer *at = call->connection->consumers; at != NULL; at = at->next) {
        if (is_meant(at, own, message.subscription_id) &&
            is_taken(call->connection, message.processed_event_ids.count))
            stream_consumer_nak(&at->consumer, ids, message.processed_event_ids.count, action,
                                message.message);
    }
    mem_free(ids);
    acks_look(call->connection);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void close_consumer(struct es_consumer *consumer)
{
    if (consumer->closing)
        return;
    consumer->closing = true;
    if (consumer->confirmed)
        leave(consumer);
}

bool es_consumer_unsubscribe(struct es_connection *connection, const struct es_id *correlation)
{
    struct es_consumer *consumer = find(connection, correlation);
    if (consumer != NULL)
        close_consumer(consumer);
    return consumer != NULL;
}

void es_consumers_end(struct es_connection *connection)
{
    for (struct es_consumer *consumer = connection->consumers; consumer != NULL;
         consumer = consumer->next) {
        consumer->silent = true;
        close_consumer(consumer);
    }
}
