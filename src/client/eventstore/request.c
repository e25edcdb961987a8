/* client/eventstore/request.c: see the header. */
#include "client/eventstore/request.h"
#include <assert.h>

/* Our numbers are the protocol's. */
static_assert((int)KVS_FILTER_ON_TYPE == (int)ES_FILTER_EVENT_TYPE, "the same numbers");
static_assert((int)KVS_FILTER_PREFIX == (int)ES_FILTER_PREFIX, "the same numbers");
static_assert(KVS_EXPECT_EXISTS == ES_VERSION_STREAM_EXISTS, "the same numbers");

const struct request_wire *request_wire_of(const struct events_request *request)
{
    static const struct request_wire wires[EVENTS_GET_GROUP + 1] = {
        [EVENTS_APPEND] = {ES_WRITE_EVENTS, ES_WRITE_EVENTS_COMPLETED, true},
        [EVENTS_DELETE] = {ES_DELETE_STREAM, ES_DELETE_STREAM_COMPLETED, false},
        [EVENTS_TRANSACTION_START] = {ES_TRANSACTION_START, ES_TRANSACTION_START_COMPLETED, false},
        [EVENTS_TRANSACTION_WRITE] = {ES_TRANSACTION_WRITE, ES_TRANSACTION_WRITE_COMPLETED, false},
        [EVENTS_TRANSACTION_COMMIT] = {ES_TRANSACTION_COMMIT, ES_TRANSACTION_COMMIT_COMPLETED,
                                       false},
        [EVENTS_READ_EVENT] = {ES_READ_EVENT, ES_READ_EVENT_COMPLETED, true},
        [EVENTS_READ_STREAM] = {ES_READ_STREAM_FORWARD, ES_READ_STREAM_FORWARD_COMPLETED, true},
        [EVENTS_READ_ALL] = {ES_READ_ALL_FORWARD, ES_READ_ALL_FORWARD_COMPLETED, true},
        [EVENTS_CREATE_GROUP] = {ES_CREATE_GROUP, ES_CREATE_GROUP_COMPLETED, false},
        [EVENTS_UPDATE_GROUP] = {ES_UPDATE_GROUP, ES_UPDATE_GROUP_COMPLETED, false},
        [EVENTS_DELETE_GROUP] = {ES_DELETE_GROUP, ES_DELETE_GROUP_COMPLETED, false},
        [EVENTS_SCAVENGE] = {ES_SCAVENGE_DATABASE, ES_SCAVENGE_DATABASE_RESPONSE, false},
        [EVENTS_PING] = {ES_PING, ES_PONG, true},
    };
    static const struct request_wire stream_backward = {ES_READ_STREAM_BACKWARD,
                                                        ES_READ_STREAM_BACKWARD_COMPLETED, true};
    static const struct request_wire all_backward = {ES_READ_ALL_BACKWARD,
                                                     ES_READ_ALL_BACKWARD_COMPLETED, true};
    static const struct request_wire filtered_forward = {
        ES_FILTERED_READ_ALL_FORWARD, ES_FILTERED_READ_ALL_FORWARD_COMPLETED, true};
    static const struct request_wire filtered_backward = {
        ES_FILTERED_READ_ALL_BACKWARD, ES_FILTERED_READ_ALL_BACKWARD_COMPLETED, true};
    bool backward = (request->flags & KVS_READ_BACKWARD) != 0;
    if (request->kind == EVENTS_READ_ALL && request->filter != NULL)
        return backward ? &filtered_backward : &filtered_forward;
    if (request->kind == EVENTS_READ_ALL && backward)
        return &all_backward;
    if (request->kind == EVENTS_READ_STREAM && backward)
        return &stream_backward;
    const struct request_wire *wire = &wires[request->kind];
    return wire->command != 0 ? wire : NULL;
}

void request_set_filter(const kvs_event_filter *filter, struct es_filter *ret_filter)
{
    *ret_filter = (struct es_filter){
        .context = filter->on,
        .type = filter->kind,
        .data = {.items = filter->patterns, .count = (uint32_t)filter->patterns_count},
    };
}

/* --- bodies ------------------------------------------------------------------------------------
 */

/* Events one by one, as field `number` of the message that was appended before. */
static int encode_events(const struct events_request *request, uint8_t number, struct buf *body)
{
    int error = 0;
    for (uint32_t i = 0; i < request->count && error == 0; i++) {
        const kvs_new_event *event = &request->new_events[i];
        static const kvs_event_id none;
        kvs_event_id id = event->id;
        if (memcmp(&id, &none, sizeof id) == 0)
            id = kvs_event_id_random();
        int content = event->is_json ? ES_CONTENT_JSON : ES_CONTENT_BINARY;
        const struct es_new_event wire = {
            .event_id = slice_make(id.bytes, sizeof id.bytes),
            .event_type = event->type,
            .data_content_type = content,
            .metadata_content_type = content,
            .data = event->data,
            .metadata = event->metadata.size > 0 ? event->metadata : slice_make(NULL, 0),
        };
        error = es_field_append(body, number, &es_new_event_type, &wire);
    }
    return error;
}

static int encode_append(const struct events_request *request, struct buf *body)
{
    const struct es_write_events wire = {
        .event_stream_id = request->stream,
        .expected_version = request->number,
        .require_leader = !request->options.any_node,
    };
    int error = es_message_append(body, &es_write_events_type, &wire);
    return error != 0 ? error : encode_events(request, 3, body);
}

static int encode_transaction_write(const struct events_request *request, struct buf *body)
{
    const struct es_transaction_write wire = {
        .transaction_id = request->number,
        .require_leader = !request->options.any_node,
    };
    int error = es_message_append(body, &es_transaction_write_type, &wire);
    return error != 0 ? error : encode_events(request, 2, body);
}

static int encode_transaction(const struct events_request *request, struct buf *body)
{
    bool require_leader = !request->options.any_node;
    if (request->kind == EVENTS_TRANSACTION_COMMIT) {
        const struct es_transaction_commit wire = {.transaction_id = request->number,
                                                   .require_leader = require_leader};
        return es_message_append(body, &es_transaction_commit_type, &wire);
    }
    const struct es_transaction_start wire = {
        .event_stream_id = request->stream,
        .expected_version = request->number,
        .require_leader = require_leader,
    };
    return es_message_append(body, &es_transaction_start_type, &wire);
}

static int encode_delete(const struct events_request *request, struct buf *body)
{
    const struct es_delete_stream wire = {
        .event_stream_id = request->stream,
        .expected_version = request->number,
        .require_leader = !request->options.any_node,
        .has_hard_delete = true,
        .hard_delete = request->hard,
    };
    return es_message_append(body, &es_delete_stream_type, &wire);
}

static int encode_read_stream(const struct events_request *request, struct buf *body)
{
    bool resolve = (request->flags & KVS_READ_RESOLVE_LINKS) != 0;
    if (request->kind == EVENTS_READ_EVENT) {
        const struct es_read_event wire = {
            .event_stream_id = request->stream,
            .event_number = request->number,
            .resolve_link_tos = resolve,
            .require_leader = !request->options.any_node,
        };
        return es_message_append(body, &es_read_event_type, &wire);
    }
    const struct es_read_stream_events wire = {
        .event_stream_id = request->stream,
        .from_event_number = request->number,
        .max_count = request->count,
        .resolve_link_tos = resolve,
        .require_leader = !request->options.any_node,
    };
    return es_message_append(body, &es_read_stream_events_type, &wire);
}

static int encode_read_all(const struct events_request *request, struct buf *body)
{
    bool resolve = (request->flags & KVS_READ_RESOLVE_LINKS) != 0;
    if (request->filter == NULL) {
        const struct es_read_all_events wire = {
            .commit_position = request->position.commit,
            .prepare_position = request->position.prepare,
            .max_count = request->count,
            .resolve_link_tos = resolve,
            .require_leader = !request->options.any_node,
        };
        return es_message_append(body, &es_read_all_events_type, &wire);
    }
    uint32_t window = request->filter->window;
    struct es_filtered_read_all_events wire = {
        .commit_position = request->position.commit,
        .prepare_position = request->position.prepare,
        .max_count = request->count,
        .has_max_search_window = true,
        .max_search_window = window != 0 ? window : KVS_EVENTS_PAGE_MAX,
        .resolve_link_tos = resolve,
        .require_leader = !request->options.any_node,
    };
    request_set_filter(request->filter, &wire.filter);
    return es_message_append(body, &es_filtered_read_all_events_type, &wire);
}

static int encode_group(const struct events_request *request, struct buf *body)
{
    if (request->kind == EVENTS_DELETE_GROUP) {
        const struct es_delete_persistent_subscription wire = {
            .subscription_group_name = request->group, .event_stream_id = request->stream};
        return es_message_append(body, &es_delete_persistent_subscription_type, &wire);
    }
    const kvs_group_settings *settings = request->settings;
    const char *strategy = settings->strategy != NULL ? settings->strategy : "RoundRobin";
    const struct es_persistent_subscription_settings wire = {
        .subscription_group_name = request->group,
        .event_stream_id = request->stream,
        .resolve_link_tos = settings->resolve_links,
        .start_from = settings->start_from,
        .message_timeout_milliseconds = settings->message_timeout_ms,
        .record_statistics = settings->extra_statistics,
        .live_buffer_size = settings->live_buffer_count,
        .read_batch_size = settings->read_batch_count,
        .buffer_size = settings->history_buffer_count,
        .max_retry_count = settings->retries_max,
        .prefer_round_robin = strcmp(strategy, "RoundRobin") == 0,
        .checkpoint_after_time = settings->checkpoint_after_ms,
        .checkpoint_max_count = settings->checkpoint_count_max,
        .checkpoint_min_count = settings->checkpoint_count_min,
        .subscriber_max_count = settings->subscribers_max,
        .named_consumer_strategy = slice_of_string(strategy),
    };
    return es_message_append(body, &es_persistent_subscription_settings_type, &wire);
}

int request_encode(const struct events_request *request, struct buf *body)
{
    switch (request->kind) {
    case EVENTS_APPEND:
        return encode_append(request, body);
    case EVENTS_DELETE:
        return encode_delete(request, body);
    case EVENTS_TRANSACTION_START:
    case EVENTS_TRANSACTION_COMMIT:
        return encode_transaction(request, body);
    case EVENTS_TRANSACTION_WRITE:
        return encode_transaction_write(request, body);
    case EVENTS_READ_EVENT:
    case EVENTS_READ_STREAM:
        return encode_read_stream(request, body);
    case EVENTS_READ_ALL:
        return encode_read_all(request, body);
    case EVENTS_CREATE_GROUP:
    case EVENTS_UPDATE_GROUP:
    case EVENTS_DELETE_GROUP:
        return encode_group(request, body);
    default:
        return 0; /* no body */
    }
}
