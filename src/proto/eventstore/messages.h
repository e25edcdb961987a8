/*
 * proto/eventstore/messages.h: the messages of the EventStoreDB TCP protocol as C structs, and the
 * tables that codec.h reads and writes them by. schema/eventstore.proto says the same in protobuf's
 * own words, docs/protocol/eventstore.md what they are for.
 *
 * A message is a list of rows; S is its own name. F(S, number, presence, kind, name) for numbers
 * and texts, M(S, number, presence, type, name) for a message inside, L(S, number, type, name) for
 * any number of them, T(S, number, name) for any number of texts. Optional numbers and messages
 * have a bool has_NAME beside them, optional texts are absent when their data is NULL.
 */
#ifndef PROTO_EVENTSTORE_MESSAGES_H
#define PROTO_EVENTSTORE_MESSAGES_H

#include "proto/eventstore/codec.h"

/* clang-format off */
/* --- events ---- */
#define ES_ROWS_new_event(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_id) F(S, 2, REQUIRED, BYTES, event_type) \
    F(S, 3, REQUIRED, INT32, data_content_type) F(S, 4, REQUIRED, INT32, metadata_content_type) \
    F(S, 5, REQUIRED, BYTES, data) F(S, 6, OPTIONAL, BYTES, metadata)
#define ES_ROWS_event_record(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, INT64, event_number) \
    F(S, 3, REQUIRED, BYTES, event_id) F(S, 4, REQUIRED, BYTES, event_type) \
    F(S, 5, REQUIRED, INT32, data_content_type) F(S, 6, REQUIRED, INT32, metadata_content_type) \
    F(S, 7, REQUIRED, BYTES, data) F(S, 8, OPTIONAL, BYTES, metadata) \
    F(S, 9, OPTIONAL, INT64, created) F(S, 10, OPTIONAL, INT64, created_epoch)
#define ES_ROWS_resolved_indexed_event(S, F, M, L, T) \
    M(S, 1, OPTIONAL, event_record, event) M(S, 2, OPTIONAL, event_record, link)
#define ES_ROWS_resolved_event(S, F, M, L, T) \
    M(S, 1, OPTIONAL, event_record, event) M(S, 2, OPTIONAL, event_record, link) \
    F(S, 3, REQUIRED, INT64, commit_position) F(S, 4, REQUIRED, INT64, prepare_position)

/* --- writes ---- */
#define ES_ROWS_write_events(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, INT64, expected_version) \
    L(S, 3, new_event, events) F(S, 4, REQUIRED, BOOL, require_leader)
#define ES_ROWS_write_events_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, result) F(S, 2, OPTIONAL, BYTES, message) \
    F(S, 3, REQUIRED, INT64, first_event_number) F(S, 4, REQUIRED, INT64, last_event_number) \
    F(S, 5, OPTIONAL, INT64, prepare_position) F(S, 6, OPTIONAL, INT64, commit_position) \
    F(S, 7, OPTIONAL, INT64, current_version)
#define ES_ROWS_delete_stream(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, INT64, expected_version) \
    F(S, 3, REQUIRED, BOOL, require_leader) F(S, 4, OPTIONAL, BOOL, hard_delete)
#define ES_ROWS_delete_stream_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, result) F(S, 2, OPTIONAL, BYTES, message) \
    F(S, 3, OPTIONAL, INT64, prepare_position) F(S, 4, OPTIONAL, INT64, commit_position) \
    F(S, 5, OPTIONAL, INT64, current_version)
#define ES_ROWS_transaction_start(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, INT64, expected_version) \
    F(S, 3, REQUIRED, BOOL, require_leader)
#define ES_ROWS_transaction_start_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, transaction_id) F(S, 2, REQUIRED, INT32, result) \
    F(S, 3, OPTIONAL, BYTES, message)
#define ES_ROWS_transaction_write(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, transaction_id) L(S, 2, new_event, events) \
    F(S, 3, REQUIRED, BOOL, require_leader)
#define ES_ROWS_transaction_write_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, transaction_id) F(S, 2, REQUIRED, INT32, result) \
    F(S, 3, OPTIONAL, BYTES, message)
#define ES_ROWS_transaction_commit(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, transaction_id) F(S, 2, REQUIRED, BOOL, require_leader)
#define ES_ROWS_transaction_commit_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, transaction_id) F(S, 2, REQUIRED, INT32, result) \
    F(S, 3, OPTIONAL, BYTES, message) F(S, 4, REQUIRED, INT64, first_event_number) \
    F(S, 5, REQUIRED, INT64, last_event_number) F(S, 6, OPTIONAL, INT64, prepare_position) \
    F(S, 7, OPTIONAL, INT64, commit_position)

/* --- reads ---- */
#define ES_ROWS_read_event(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, INT64, event_number) \
    F(S, 3, REQUIRED, BOOL, resolve_link_tos) F(S, 4, REQUIRED, BOOL, require_leader)
#define ES_ROWS_read_event_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, result) M(S, 2, REQUIRED, resolved_indexed_event, event) \
    F(S, 3, OPTIONAL, BYTES, error)
#define ES_ROWS_read_stream_events(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, INT64, from_event_number) \
    F(S, 3, REQUIRED, INT32, max_count) F(S, 4, REQUIRED, BOOL, resolve_link_tos) \
    F(S, 5, REQUIRED, BOOL, require_leader)
#define ES_ROWS_read_stream_events_completed(S, F, M, L, T) \
    L(S, 1, resolved_indexed_event, events) F(S, 2, REQUIRED, INT32, result) \
    F(S, 3, REQUIRED, INT64, next_event_number) F(S, 4, REQUIRED, INT64, last_event_number) \
    F(S, 5, REQUIRED, BOOL, is_end_of_stream) F(S, 6, REQUIRED, INT64, last_commit_position) \
    F(S, 7, OPTIONAL, BYTES, error)
#define ES_ROWS_read_all_events(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, commit_position) F(S, 2, REQUIRED, INT64, prepare_position) \
    F(S, 3, REQUIRED, INT32, max_count) F(S, 4, REQUIRED, BOOL, resolve_link_tos) \
    F(S, 5, REQUIRED, BOOL, require_leader)
#define ES_ROWS_read_all_events_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, commit_position) F(S, 2, REQUIRED, INT64, prepare_position) \
    L(S, 3, resolved_event, events) F(S, 4, REQUIRED, INT64, next_commit_position) \
    F(S, 5, REQUIRED, INT64, next_prepare_position) F(S, 6, OPTIONAL, INT32, result) \
    F(S, 7, OPTIONAL, BYTES, error)
#define ES_ROWS_filter(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, context) F(S, 2, REQUIRED, INT32, type) T(S, 3, data)
#define ES_ROWS_filtered_read_all_events(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, commit_position) F(S, 2, REQUIRED, INT64, prepare_position) \
    F(S, 3, REQUIRED, INT32, max_count) F(S, 4, OPTIONAL, INT32, max_search_window) \
    F(S, 5, REQUIRED, BOOL, resolve_link_tos) F(S, 6, REQUIRED, BOOL, require_leader) \
    M(S, 7, REQUIRED, filter, filter)
#define ES_ROWS_filtered_read_all_events_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, commit_position) F(S, 2, REQUIRED, INT64, prepare_position) \
    L(S, 3, resolved_event, events) F(S, 4, REQUIRED, INT64, next_commit_position) \
    F(S, 5, REQUIRED, INT64, next_prepare_position) F(S, 6, REQUIRED, BOOL, is_end_of_stream) \
    F(S, 7, OPTIONAL, INT32, result) F(S, 8, OPTIONAL, BYTES, error)

/* --- subscriptions ---- */
#define ES_ROWS_subscribe_to_stream(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, BOOL, resolve_link_tos)
#define ES_ROWS_filtered_subscribe_to_stream(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, event_stream_id) F(S, 2, REQUIRED, BOOL, resolve_link_tos) \
    M(S, 3, REQUIRED, filter, filter) F(S, 4, REQUIRED, INT32, checkpoint_interval)
#define ES_ROWS_subscription_confirmation(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, last_commit_position) F(S, 2, OPTIONAL, INT64, last_event_number)
#define ES_ROWS_stream_event_appeared(S, F, M, L, T) \
    M(S, 1, REQUIRED, resolved_event, event)
#define ES_ROWS_checkpoint_reached(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, commit_position) F(S, 2, REQUIRED, INT64, prepare_position)
#define ES_ROWS_subscription_dropped(S, F, M, L, T) \
    F(S, 1, OPTIONAL, INT32, reason)

/* --- persistent subscriptions: creating and updating say the same ---- */
#define ES_ROWS_persistent_subscription_settings(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, subscription_group_name) F(S, 2, REQUIRED, BYTES, event_stream_id) \
    F(S, 3, REQUIRED, BOOL, resolve_link_tos) F(S, 4, REQUIRED, INT64, start_from) \
    F(S, 5, REQUIRED, INT32, message_timeout_milliseconds) \
    F(S, 6, REQUIRED, BOOL, record_statistics) F(S, 7, REQUIRED, INT32, live_buffer_size) \
    F(S, 8, REQUIRED, INT32, read_batch_size) F(S, 9, REQUIRED, INT32, buffer_size) \
    F(S, 10, REQUIRED, INT32, max_retry_count) F(S, 11, REQUIRED, BOOL, prefer_round_robin) \
    F(S, 12, REQUIRED, INT32, checkpoint_after_time) \
    F(S, 13, REQUIRED, INT32, checkpoint_max_count) \
    F(S, 14, REQUIRED, INT32, checkpoint_min_count) \
    F(S, 15, REQUIRED, INT32, subscriber_max_count) \
    F(S, 16, OPTIONAL, BYTES, named_consumer_strategy)
#define ES_ROWS_delete_persistent_subscription(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, subscription_group_name) F(S, 2, REQUIRED, BYTES, event_stream_id)
#define ES_ROWS_persistent_subscription_completed(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, result) F(S, 2, OPTIONAL, BYTES, reason)
#define ES_ROWS_connect_to_persistent_subscription(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, subscription_id) F(S, 2, REQUIRED, BYTES, event_stream_id) \
    F(S, 3, REQUIRED, INT32, allowed_in_flight_messages)
#define ES_ROWS_persistent_subscription_confirmation(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT64, last_commit_position) F(S, 2, REQUIRED, BYTES, subscription_id) \
    F(S, 3, OPTIONAL, INT64, last_event_number)
#define ES_ROWS_persistent_subscription_event_appeared(S, F, M, L, T) \
    M(S, 1, REQUIRED, resolved_indexed_event, event) F(S, 2, OPTIONAL, INT32, retry_count)
#define ES_ROWS_persistent_subscription_ack_events(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, subscription_id) T(S, 2, processed_event_ids)
#define ES_ROWS_persistent_subscription_nak_events(S, F, M, L, T) \
    F(S, 1, REQUIRED, BYTES, subscription_id) T(S, 2, processed_event_ids) \
    F(S, 3, OPTIONAL, BYTES, message) F(S, 4, REQUIRED, INT32, action)

/* --- the connection and the node ---- */
#define ES_ROWS_not_handled(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, reason) F(S, 2, OPTIONAL, BYTES, additional_info)
#define ES_ROWS_leader_info(S, F, M, L, T) \
    F(S, 1, OPTIONAL, BYTES, external_tcp_address) F(S, 2, OPTIONAL, INT32, external_tcp_port) \
    F(S, 3, REQUIRED, BYTES, http_address) F(S, 4, REQUIRED, INT32, http_port) \
    F(S, 5, OPTIONAL, BYTES, external_secure_tcp_address) \
    F(S, 6, OPTIONAL, INT32, external_secure_tcp_port)
#define ES_ROWS_scavenge_database_response(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, result) F(S, 2, OPTIONAL, BYTES, scavenge_id)
#define ES_ROWS_identify_client(S, F, M, L, T) \
    F(S, 1, REQUIRED, INT32, version) F(S, 2, OPTIONAL, BYTES, connection_name)

/* Those inside others first. */
#define ES_MESSAGE_TYPES(X) \
    X(new_event) X(event_record) X(resolved_indexed_event) X(resolved_event) \
    X(write_events) X(write_events_completed) X(delete_stream) X(delete_stream_completed) \
    X(transaction_start) X(transaction_start_completed) X(transaction_write) \
    X(transaction_write_completed) X(transaction_commit) X(transaction_commit_completed) \
    X(read_event) X(read_event_completed) X(read_stream_events) X(read_stream_events_completed) \
    X(read_all_events) X(read_all_events_completed) X(filter) X(filtered_read_all_events) \
    X(filtered_read_all_events_completed) X(subscribe_to_stream) \
    X(filtered_subscribe_to_stream) X(subscription_confirmation) X(stream_event_appeared) \
    X(checkpoint_reached) X(subscription_dropped) X(persistent_subscription_settings) \
    X(delete_persistent_subscription) X(persistent_subscription_completed) \
    X(connect_to_persistent_subscription) X(persistent_subscription_confirmation) \
    X(persistent_subscription_event_appeared) X(persistent_subscription_ack_events) \
    X(persistent_subscription_nak_events) X(not_handled) X(leader_info) \
    X(scavenge_database_response) X(identify_client)

#define ES_MEMBER_INT64 int64_t
#define ES_MEMBER_INT32 int64_t
#define ES_MEMBER_BOOL bool
#define ES_MEMBER_BYTES kvs_slice
#define ES_HAS_REQUIRED_INT64(name)
#define ES_HAS_REQUIRED_INT32(name)
#define ES_HAS_REQUIRED_BOOL(name)
#define ES_HAS_REQUIRED_BYTES(name)
#define ES_HAS_REQUIRED_MESSAGE(name)
#define ES_HAS_OPTIONAL_INT64(name) bool has_##name;
#define ES_HAS_OPTIONAL_INT32(name) bool has_##name;
#define ES_HAS_OPTIONAL_BOOL(name) bool has_##name;
#define ES_HAS_OPTIONAL_BYTES(name)
#define ES_HAS_OPTIONAL_MESSAGE(name) bool has_##name;
#define ES_MEMBER_F(S, number, presence, kind, name) \
    ES_MEMBER_##kind name; ES_HAS_##presence##_##kind(name)
#define ES_MEMBER_M(S, number, presence, type, name) \
    struct es_##type name; ES_HAS_##presence##_MESSAGE(name)
#define ES_MEMBER_L(S, number, type, name) struct es_list name;
#define ES_MEMBER_T(S, number, name) struct es_list name;
#define ES_STRUCT(name) \
    struct es_##name { \
        ES_ROWS_##name(name, ES_MEMBER_F, ES_MEMBER_M, ES_MEMBER_L, ES_MEMBER_T) \
    }; \
    extern const struct es_message_type es_##name##_type;
ES_MESSAGE_TYPES(ES_STRUCT)
/* clang-format on */

/* --- numbers with names ---- */

#define ES_CONTENT_JSON 1
#define ES_CONTENT_BINARY 0

/* Expected versions; 0 and up is the number of the stream's last event. */
enum { ES_VERSION_NO_STREAM = -1, ES_VERSION_ANY = -2, ES_VERSION_STREAM_EXISTS = -4 };
#define ES_EVENT_NUMBER_DELETED INT64_MAX /* of a tombstone */

enum es_operation_result {
    ES_SUCCESS,
    ES_PREPARE_TIMEOUT,
    ES_COMMIT_TIMEOUT,
    ES_FORWARD_TIMEOUT,
    ES_WRONG_EXPECTED_VERSION,
    ES_STREAM_DELETED,
    ES_INVALID_TRANSACTION,
    ES_ACCESS_DENIED,
};

enum es_read_event_result {
    ES_READ_EVENT_SUCCESS,
    ES_READ_EVENT_NOT_FOUND,
    ES_READ_EVENT_NO_STREAM,
    ES_READ_EVENT_STREAM_DELETED,
    ES_READ_EVENT_ERROR,
    ES_READ_EVENT_ACCESS_DENIED,
};

enum es_read_stream_result {
    ES_READ_STREAM_SUCCESS,
    ES_READ_STREAM_NO_STREAM,
    ES_READ_STREAM_STREAM_DELETED,
    ES_READ_STREAM_NOT_MODIFIED,
    ES_READ_STREAM_ERROR,
    ES_READ_STREAM_ACCESS_DENIED,
};

enum es_read_all_result {
    ES_READ_ALL_SUCCESS,
    ES_READ_ALL_NOT_MODIFIED,
    ES_READ_ALL_ERROR,
    ES_READ_ALL_ACCESS_DENIED,
};

enum es_filter_context { ES_FILTER_STREAM_ID, ES_FILTER_EVENT_TYPE };
enum es_filter_type { ES_FILTER_REGEX, ES_FILTER_PREFIX };

enum es_drop_reason {
    ES_DROP_UNSUBSCRIBED,
    ES_DROP_ACCESS_DENIED,
    ES_DROP_NOT_FOUND,
    ES_DROP_GROUP_DELETED,
    ES_DROP_SUBSCRIBER_MAX,
};

/* Of persistent_subscription_completed; 1 means ALREADY_EXISTS after a create, DOES_NOT_EXIST
 * after an update or a delete. */
enum es_group_result { ES_GROUP_SUCCESS, ES_GROUP_EXISTS_OR_NOT, ES_GROUP_FAIL, ES_GROUP_DENIED };

enum es_nak_action { ES_NAK_UNKNOWN, ES_NAK_PARK, ES_NAK_RETRY, ES_NAK_SKIP, ES_NAK_STOP };

enum es_not_handled_reason { ES_NOT_READY, ES_TOO_BUSY, ES_NOT_LEADER, ES_IS_READ_ONLY };

enum es_scavenge_result { ES_SCAVENGE_STARTED, ES_SCAVENGE_IN_PROGRESS, ES_SCAVENGE_UNAUTHORIZED };

/* --- times ---- */

/* `created` counts 100 ns since the year 1; its two upper bits say how (UTC). */
int64_t es_created_from_unix(int64_t unix_100ns);
int64_t es_created_to_unix(int64_t created);

#endif
