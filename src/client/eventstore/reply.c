/* client/eventstore/reply.c: see the header. */
#include "client/eventstore/reply.h"

#include <stdio.h>

#define TEXT_SHOWN_MAX 120 /* of what a server says, in a message of ours */

/* --- ends --------------------------------------------------------------------------------------
 */

static enum reply_step done(struct events_call *call, int error)
{
    call->error = error;
    return REPLY_DONE;
}

/* The server's own words, made printable. */
static enum reply_step done_because(struct events_call *call, int error, const char *what,
                                    kvs_slice text)
{
    char shown[TEXT_SHOWN_MAX + 1];
    size_t size = text.size < TEXT_SHOWN_MAX ? text.size : TEXT_SHOWN_MAX;
    while (size > 0 && (text.data[size - 1] == '.' || text.data[size - 1] == '\n'))
        size--; /* ours may go on */
    for (size_t i = 0; i < size; i++)
        shown[i] = text.data[i] >= ' ' && text.data[i] != 0x7f ? (char)text.data[i] : '?';
    shown[size] = '\0';
    snprintf(call->message, sizeof call->message, "%s%s%s", what, size > 0 ? ": " : "", shown);
    return done(call, error);
}

static enum reply_step broken(struct events_call *call)
{
    batch_deinit(&call->batch);
    return done_because(call, KVS_ERR_PROTOCOL, "the server's reply does not fit the request",
                        slice_make(NULL, 0));
}

/* --- events ------------------------------------------------------------------------------------
 */

static int take_record(const struct es_event_record *wire, kvs_event *ret_event)
{
    if (wire->event_id.size != sizeof ret_event->id.bytes)
        return KVS_ERR_PROTOCOL;
    *ret_event = (kvs_event){
        .stream = wire->event_stream_id,
        .type = wire->event_type,
        .data = wire->data,
        .metadata = wire->metadata,
        .number = wire->event_number,
        .is_json = wire->data_content_type == ES_CONTENT_JSON,
    };
    memcpy(ret_event->id.bytes, wire->event_id.data, sizeof ret_event->id.bytes);
    if (wire->has_created_epoch)
        ret_event->created_ms = wire->created_epoch;
    else if (wire->has_created)
        ret_event->created_ms = es_created_to_unix(wire->created) / 10000;
    return 0;
}

/* An event that is there but empty is one that is not there: old servers write it so. */
static bool is_record(bool has, const struct es_event_record *wire)
{
    return has && (wire->event_stream_id.size > 0 || wire->event_id.size > 0);
}

/* Returns 1, 0 when neither event nor link is there, or an error. */
static int add_event(struct batch *batch, const struct es_resolved_event *wire,
                     kvs_position position, int32_t retry_count, bool deep)
{
    kvs_event event, link;
    bool has_event = is_record(wire->has_event, &wire->event);
    bool has_link = is_record(wire->has_link, &wire->link);
    if (!has_event && !has_link)
        return 0;
    if ((has_event && take_record(&wire->event, &event) != 0) ||
        (has_link && take_record(&wire->link, &link) != 0))
        return KVS_ERR_PROTOCOL;
    int error = batch_add(batch, has_event ? &event : NULL, has_link ? &link : NULL, position,
                          retry_count, deep);
    return error != 0 ? error : 1;
}

static void widen(const struct es_resolved_indexed_event *wire, struct es_resolved_event *ret_wire)
{
    *ret_wire = (struct es_resolved_event){
        .event = wire->event,
        .has_event = wire->has_event,
        .link = wire->link,
        .has_link = wire->has_link,
    };
}

/* A list of resolved_event, or of resolved_indexed_event. */
static int take_events(struct events_call *call, struct es_list list, bool is_all,
                       uint32_t count_max)
{
    if (list.count > count_max)
        return KVS_ERR_PROTOCOL;
    int error = batch_reserve(&call->batch, list.count);
    while (error == 0) {
        struct es_resolved_event wire;
        struct es_resolved_indexed_event indexed;
        int got = is_all ? es_list_next(&list, &es_resolved_event_type, &wire)
                         : es_list_next(&list, &es_resolved_indexed_event_type, &indexed);
        if (got != 1)
            return got;
        kvs_position position = KVS_POSITION_END;
        if (is_all)
            position = (kvs_position){wire.commit_position, wire.prepare_position};
        else
            widen(&indexed, &wire);
        int added = add_event(&call->batch, &wire, position, 0, false);
        error = added == 0 ? KVS_ERR_PROTOCOL : added < 0 ? added : 0;
    }
    return error;
}

int reply_take_event(struct batch *batch, kvs_slice body)
{
    struct es_stream_event_appeared wire;
    if (es_message_decode(body, &es_stream_event_appeared_type, &wire) != 0)
        return KVS_ERR_PROTOCOL;
    kvs_position position = {wire.event.commit_position, wire.event.prepare_position};
    int added = add_event(batch, &wire.event, position, 0, true);
    return added == 0 ? KVS_ERR_PROTOCOL : added < 0 ? added : 0;
}

int reply_take_group_event(struct batch *batch, kvs_slice body)
{
    struct es_persistent_subscription_event_appeared wire;
    struct es_resolved_event event;
    if (es_message_decode(body, &es_persistent_subscription_event_appeared_type, &wire) != 0)
        return KVS_ERR_PROTOCOL;
    widen(&wire.event, &event);
    int32_t retry_count = wire.has_retry_count ? (int32_t)wire.retry_count : 0;
    int added = add_event(batch, &event, KVS_POSITION_END, retry_count, true);
    return added == 0 ? KVS_ERR_PROTOCOL : added < 0 ? added : 0;
}

/* --- replies to writes -------------------------------------------------------------------------
 */

static enum reply_step write_outcome(struct events_call *call, int64_t result, kvs_slice text)
{
    switch (result) {
    case ES_SUCCESS:
        return done(call, 0);
    case ES_PREPARE_TIMEOUT:
    case ES_COMMIT_TIMEOUT:
    case ES_FORWARD_TIMEOUT:
        return REPLY_AGAIN;
    case ES_WRONG_EXPECTED_VERSION:
        return done_because(call, KVS_ERR_WRONG_EXPECTED_VERSION,
                            kvs_error_text(KVS_ERR_WRONG_EXPECTED_VERSION), text);
    case ES_STREAM_DELETED:
        return done(call, KVS_ERR_STREAM_DELETED);
    case ES_INVALID_TRANSACTION: /* the server's text says the same in other words */
        return done_because(call, KVS_ERR_NOT_FOUND, "no such transaction", slice_make(NULL, 0));
    case ES_ACCESS_DENIED:
        return done(call, KVS_ERR_ACCESS_DENIED);
    default:
        return broken(call);
    }
}

static kvs_position position_of(bool has, int64_t commit, int64_t prepare)
{
    return has ? (kvs_position){commit, prepare} : KVS_POSITION_END;
}

static enum reply_step take_write(struct events_call *call, kvs_slice body)
{
    struct es_write_events_completed wire;
    if (es_message_decode(body, &es_write_events_completed_type, &wire) != 0)
        return broken(call);
    call->write = (kvs_write_result){
        .first_number = wire.first_event_number,
        .last_number = wire.last_event_number,
        .position =
            position_of(wire.has_commit_position, wire.commit_position, wire.prepare_position),
    };
    call->has_number = wire.result == ES_WRONG_EXPECTED_VERSION && wire.has_current_version;
    call->number = wire.current_version;
    return write_outcome(call, wire.result, wire.message);
}

static enum reply_step take_delete(struct events_call *call, kvs_slice body)
{
    struct es_delete_stream_completed wire;
    if (es_message_decode(body, &es_delete_stream_completed_type, &wire) != 0)
        return broken(call);
    call->write = (kvs_write_result){
        .first_number = -1,
        .last_number = -1,
        .position =
            position_of(wire.has_commit_position, wire.commit_position, wire.prepare_position),
    };
    call->has_number = wire.result == ES_WRONG_EXPECTED_VERSION && wire.has_current_version;
    call->number = wire.current_version;
    return write_outcome(call, wire.result, wire.message);
}

static enum reply_step take_transaction(struct events_call *call, kvs_slice body)
{
    /* The completions of a start and of a write say the same. */
    struct es_transaction_start_completed wire;
    if (es_message_decode(body, &es_transaction_start_completed_type, &wire) != 0)
        return broken(call);
    call->has_number = wire.result == ES_SUCCESS;
    call->number = wire.transaction_id;
    return write_outcome(call, wire.result, wire.message);
}

static enum reply_step take_commit(struct events_call *call, kvs_slice body)
{
    struct es_transaction_commit_completed wire;
    if (es_message_decode(body, &es_transaction_commit_completed_type, &wire) != 0)
        return broken(call);
    call->write = (kvs_write_result){
        .first_number = wire.first_event_number,
        .last_number = wire.last_event_number,
        .position =
            position_of(wire.has_commit_position, wire.commit_position, wire.prepare_position),
    };
    return write_outcome(call, wire.result, wire.message);
}

/* --- replies to reads --------------------------------------------------------------------------
 */

static enum reply_step take_error(struct events_call *call, int error)
{
    if (error == KVS_ERR_NO_MEMORY) {
        batch_deinit(&call->batch);
        return done(call, error);
    }
    return broken(call);
}

static enum reply_step take_read_event(struct events_call *call, kvs_slice body)
{
    struct es_read_event_completed wire;
    if (es_message_decode(body, &es_read_event_completed_type, &wire) != 0)
        return broken(call);
    struct es_resolved_event event;
    int added;
    switch (wire.result) {
    case ES_READ_EVENT_SUCCESS:
        widen(&wire.event, &event);
        added = add_event(&call->batch, &event, KVS_POSITION_END, 0, false);
        if (added < 0)
            return take_error(call, added);
        /* Success without an event: the metadata of a stream that has none. */
        return done(call, added == 1 ? 0 : KVS_ERR_NOT_FOUND);
    case ES_READ_EVENT_NOT_FOUND:
        return done_because(call, KVS_ERR_NOT_FOUND, "no such event", wire.error);
    case ES_READ_EVENT_NO_STREAM:
        return done(call, KVS_ERR_NO_STREAM);
    case ES_READ_EVENT_STREAM_DELETED:
        return done(call, KVS_ERR_STREAM_DELETED);
    case ES_READ_EVENT_ERROR:
        return done_because(call, KVS_ERR_IO, "the server failed to read", wire.error);
    case ES_READ_EVENT_ACCESS_DENIED:
        return done(call, KVS_ERR_ACCESS_DENIED);
    default:
        return broken(call);
    }
}

static enum reply_step take_read_stream(struct events_call *call, kvs_slice body,
                                        uint32_t count_max)
{
    struct es_read_stream_events_completed wire;
    int error = es_message_decode(body, &es_read_stream_events_completed_type, &wire);
    if (error != 0)
        return broken(call);
    call->page = (kvs_event_page){
        .is_end = wire.is_end_of_stream,
        .next_number = wire.next_event_number,
        .last_number = wire.last_event_number,
        .next_position = KVS_POSITION_END,
    };
    switch (wire.result) {
    case ES_READ_STREAM_SUCCESS:
        error = take_events(call, wire.events, false, count_max);
        return error != 0 ? take_error(call, error) : done(call, 0);
    case ES_READ_STREAM_NO_STREAM:
        return done(call, KVS_ERR_NO_STREAM);
    case ES_READ_STREAM_STREAM_DELETED:
        return done(call, KVS_ERR_STREAM_DELETED);
    case ES_READ_STREAM_ERROR:
        return done_because(call, KVS_ERR_IO, "the server failed to read", wire.error);
    case ES_READ_STREAM_ACCESS_DENIED:
        return done(call, KVS_ERR_ACCESS_DENIED);
    default:
        return broken(call); /* "not modified" was not asked for */
    }
}

static enum reply_step all_outcome(struct events_call *call, int64_t result, kvs_slice text,
                                   struct es_list list, uint32_t count_max)
{
    int error;
    switch (result) {
    case ES_READ_ALL_SUCCESS:
        error = take_events(call, list, true, count_max);
        return error != 0 ? take_error(call, error) : done(call, 0);
    case ES_READ_ALL_ERROR:
        return done_because(call, KVS_ERR_IO, "the server failed to read", text);
    case ES_READ_ALL_ACCESS_DENIED:
        return done(call, KVS_ERR_ACCESS_DENIED);
    default:
        return broken(call);
    }
}

static enum reply_step take_read_all(struct events_call *call, kvs_slice body, uint32_t count_max)
{
    struct es_read_all_events_completed wire;
    if (es_message_decode(body, &es_read_all_events_completed_type, &wire) != 0)
        return broken(call);
    call->page = (kvs_event_page){
        /* It has no flag of its own. A page of nothing may lead on, too: behind events that
         * EventStoreDB keeps for itself. */
        .is_end = wire.events.count == 0 && wire.next_commit_position == wire.commit_position &&
                  wire.next_prepare_position == wire.prepare_position,
        .next_number = -1,
        .last_number = -1,
        .next_position = {wire.next_commit_position, wire.next_prepare_position},
    };
    return all_outcome(call, wire.result, wire.error, wire.events, count_max);
}

static enum reply_step take_read_filtered(struct events_call *call, kvs_slice body,
                                          uint32_t count_max)
{
    struct es_filtered_read_all_events_completed wire;
    if (es_message_decode(body, &es_filtered_read_all_events_completed_type, &wire) != 0)
        return broken(call);
    call->page = (kvs_event_page){
        .is_end = wire.is_end_of_stream,
        .next_number = -1,
        .last_number = -1,
        .next_position = {wire.next_commit_position, wire.next_prepare_position},
    };
    return all_outcome(call, wire.result, wire.error, wire.events, count_max);
}

/* --- the rest ----------------------------------------------------------------------------------
 */

static enum reply_step take_group(struct events_call *call, kvs_slice body)
{
    struct es_persistent_subscription_completed wire;
    if (es_message_decode(body, &es_persistent_subscription_completed_type, &wire) != 0)
        return broken(call);
    bool creates = call->kind == EVENTS_CREATE_GROUP;
    switch (wire.result) {
    case ES_GROUP_SUCCESS:
        return done(call, 0);
    case ES_GROUP_EXISTS_OR_NOT: /* so does its reason */
        return done_because(call, creates ? KVS_ERR_ALREADY_EXISTS : KVS_ERR_NOT_FOUND,
                            creates ? "the group exists" : "no such group", slice_make(NULL, 0));
    case ES_GROUP_FAIL:
        return done_because(call, KVS_ERR_INVALID_ARGUMENT, "the server refused", wire.reason);
    case ES_GROUP_DENIED:
        return done(call, KVS_ERR_ACCESS_DENIED);
    default:
        return broken(call);
    }
}

static enum reply_step take_scavenge(struct events_call *call, kvs_slice body)
{
    struct es_scavenge_database_response wire;
    if (es_message_decode(body, &es_scavenge_database_response_type, &wire) != 0)
        return broken(call);
    size_t size =
        wire.scavenge_id.size < sizeof call->text ? wire.scavenge_id.size : sizeof call->text - 1;
    if (size > 0)
        memcpy(call->text, wire.scavenge_id.data, size);
    call->text[size] = '\0';
    switch (wire.result) {
    case ES_SCAVENGE_STARTED:
        return done(call, 0);
    case ES_SCAVENGE_IN_PROGRESS:
        return done_because(call, KVS_ERR_BUSY, "a scavenge is running", slice_make(NULL, 0));
    case ES_SCAVENGE_UNAUTHORIZED:
        return done(call, KVS_ERR_ACCESS_DENIED);
    default:
        return broken(call);
    }
}

static void take_node(kvs_slice info, bool is_tls, struct reply_node *ret_node)
{
    struct es_leader_info wire;
    if (es_message_decode(info, &es_leader_info_type, &wire) != 0)
        return;
    kvs_slice host = wire.external_tcp_address;
    int64_t port = wire.external_tcp_port;
    if (is_tls && wire.external_secure_tcp_address.size > 0) {
        host = wire.external_secure_tcp_address;
        port = wire.external_secure_tcp_port;
    }
    if (host.size == 0 || host.size >= sizeof ret_node->host || port < 1 || port > UINT16_MAX ||
        memchr(host.data, '\0', host.size) != NULL)
        return;
    memcpy(ret_node->host, host.data, host.size);
    ret_node->host[host.size] = '\0';
    ret_node->port = (uint16_t)port;
}

enum reply_step reply_take_not_handled(kvs_slice body, bool is_tls, struct reply_node *ret_node)
{
    struct es_not_handled wire;
    ret_node->host[0] = '\0';
    if (es_message_decode(body, &es_not_handled_type, &wire) != 0)
        return REPLY_DONE;
    if (wire.reason != ES_NOT_LEADER && wire.reason != ES_IS_READ_ONLY)
        return REPLY_LATER;
    take_node(wire.additional_info, is_tls, ret_node);
    return REPLY_ELSEWHERE;
}

/* Replies whose events stay where they are need a copy that stays. */
static bool has_events(uint8_t command)
{
    return command >= ES_READ_EVENT_COMPLETED && command <= ES_FILTERED_READ_ALL_BACKWARD_COMPLETED;
}

static enum reply_step take_body(struct events_call *call, uint8_t command, kvs_slice body,
                                 uint32_t count_max)
{
    switch (command) {
    case ES_WRITE_EVENTS_COMPLETED:
        return take_write(call, body);
    case ES_DELETE_STREAM_COMPLETED:
        return take_delete(call, body);
    case ES_TRANSACTION_START_COMPLETED:
    case ES_TRANSACTION_WRITE_COMPLETED:
        return take_transaction(call, body);
    case ES_TRANSACTION_COMMIT_COMPLETED:
        return take_commit(call, body);
    case ES_READ_EVENT_COMPLETED:
        return take_read_event(call, body);
    case ES_READ_STREAM_FORWARD_COMPLETED:
    case ES_READ_STREAM_BACKWARD_COMPLETED:
        return take_read_stream(call, body, count_max);
    case ES_READ_ALL_FORWARD_COMPLETED:
    case ES_READ_ALL_BACKWARD_COMPLETED:
        return take_read_all(call, body, count_max);
    case ES_FILTERED_READ_ALL_FORWARD_COMPLETED:
    case ES_FILTERED_READ_ALL_BACKWARD_COMPLETED:
        return take_read_filtered(call, body, count_max);
    case ES_CREATE_GROUP_COMPLETED:
    case ES_UPDATE_GROUP_COMPLETED:
    case ES_DELETE_GROUP_COMPLETED:
        return take_group(call, body);
    case ES_SCAVENGE_DATABASE_RESPONSE:
        return take_scavenge(call, body);
    default:
        return done(call, 0); /* Pong */
    }
}

enum reply_step reply_take(struct events_call *call, const struct reply_question *question,
                           const struct es_frame *frame, struct reply_node *ret_node)
{
    enum reply_step step;
    switch (frame->command) {
    case ES_BAD_REQUEST:
        return done_because(call, KVS_ERR_INVALID_ARGUMENT, "the server refused", frame->body);
    case ES_NOT_AUTHENTICATED:
        return done_because(call, KVS_ERR_NOT_AUTHENTICATED,
                            kvs_error_text(KVS_ERR_NOT_AUTHENTICATED), frame->body);
    case ES_NOT_HANDLED:
        step = reply_take_not_handled(frame->body, question->is_tls, ret_node);
        return step != REPLY_DONE ? step : broken(call);
    default:
        break;
    }
    if (frame->command != question->command)
        return broken(call);
    kvs_slice body = frame->body;
    if (has_events(frame->command)) {
        body = batch_copy(&call->batch, frame->body);
        if (body.data == NULL)
            return done(call, KVS_ERR_NO_MEMORY);
    }
    return take_body(call, frame->command, body, question->count_max);
}
