/*
 * proto/eventstore/commands.h: the commands of the EventStoreDB TCP protocol: what a frame is for,
 * who may send it, and what its body says. Both sides read the same table.
 */
#ifndef PROTO_EVENTSTORE_COMMANDS_H
#define PROTO_EVENTSTORE_COMMANDS_H

#include "proto/eventstore/frame.h"
#include "proto/eventstore/messages.h"

/* X(number, NAME, "Name", who sends it, message or 0): CLIENT, SERVER, BOTH, or NODE for what only
 * nodes of a cluster say to each other. */
/* clang-format off */
#define ES_COMMANDS(X) \
    X(0x01, HEARTBEAT_REQUEST, "HeartbeatRequest", BOTH, 0) \
    X(0x02, HEARTBEAT_RESPONSE, "HeartbeatResponse", BOTH, 0) \
    X(0x03, PING, "Ping", CLIENT, 0) \
    X(0x04, PONG, "Pong", SERVER, 0) \
    X(0x05, PREPARE_ACK, "PrepareAck", NODE, 0) \
    X(0x06, COMMIT_ACK, "CommitAck", NODE, 0) \
    X(0x07, FOLLOWER_ASSIGNMENT, "FollowerAssignment", NODE, 0) \
    X(0x08, CLONE_ASSIGNMENT, "CloneAssignment", NODE, 0) \
    X(0x09, DROP_SUBSCRIPTION, "DropSubscription", NODE, 0) \
    X(0x10, SUBSCRIBE_REPLICA, "SubscribeReplica", NODE, 0) \
    X(0x11, REPLICA_LOG_POSITION_ACK, "ReplicaLogPositionAck", NODE, 0) \
    X(0x12, CREATE_CHUNK, "CreateChunk", NODE, 0) \
    X(0x13, RAW_CHUNK_BULK, "RawChunkBulk", NODE, 0) \
    X(0x14, DATA_CHUNK_BULK, "DataChunkBulk", NODE, 0) \
    X(0x15, REPLICA_SUBSCRIPTION_RETRY, "ReplicaSubscriptionRetry", NODE, 0) \
    X(0x16, REPLICA_SUBSCRIBED, "ReplicaSubscribed", NODE, 0) \
    X(0x17, LEADER_REPLICATED_TO, "LeaderReplicatedTo", NODE, 0) \
    X(0x82, WRITE_EVENTS, "WriteEvents", CLIENT, &es_write_events_type) \
    X(0x83, WRITE_EVENTS_COMPLETED, "WriteEventsCompleted", SERVER, \
      &es_write_events_completed_type) \
    X(0x84, TRANSACTION_START, "TransactionStart", CLIENT, &es_transaction_start_type) \
    X(0x85, TRANSACTION_START_COMPLETED, "TransactionStartCompleted", SERVER, \
      &es_transaction_start_completed_type) \
    X(0x86, TRANSACTION_WRITE, "TransactionWrite", CLIENT, &es_transaction_write_type) \
    X(0x87, TRANSACTION_WRITE_COMPLETED, "TransactionWriteCompleted", SERVER, \
      &es_transaction_write_completed_type) \
    X(0x88, TRANSACTION_COMMIT, "TransactionCommit", CLIENT, &es_transaction_commit_type) \
    X(0x89, TRANSACTION_COMMIT_COMPLETED, "TransactionCommitCompleted", SERVER, \
      &es_transaction_commit_completed_type) \
    X(0x8a, DELETE_STREAM, "DeleteStream", CLIENT, &es_delete_stream_type) \
    X(0x8b, DELETE_STREAM_COMPLETED, "DeleteStreamCompleted", SERVER, \
      &es_delete_stream_completed_type) \
    X(0xb0, READ_EVENT, "ReadEvent", CLIENT, &es_read_event_type) \
    X(0xb1, READ_EVENT_COMPLETED, "ReadEventCompleted", SERVER, &es_read_event_completed_type) \
    X(0xb2, READ_STREAM_FORWARD, "ReadStreamEventsForward", CLIENT, &es_read_stream_events_type) \
    X(0xb3, READ_STREAM_FORWARD_COMPLETED, "ReadStreamEventsForwardCompleted", SERVER, \
      &es_read_stream_events_completed_type) \
    X(0xb4, READ_STREAM_BACKWARD, "ReadStreamEventsBackward", CLIENT, \
      &es_read_stream_events_type) \
    X(0xb5, READ_STREAM_BACKWARD_COMPLETED, "ReadStreamEventsBackwardCompleted", SERVER, \
      &es_read_stream_events_completed_type) \
    X(0xb6, READ_ALL_FORWARD, "ReadAllEventsForward", CLIENT, &es_read_all_events_type) \
    X(0xb7, READ_ALL_FORWARD_COMPLETED, "ReadAllEventsForwardCompleted", SERVER, \
      &es_read_all_events_completed_type) \
    X(0xb8, READ_ALL_BACKWARD, "ReadAllEventsBackward", CLIENT, &es_read_all_events_type) \
    X(0xb9, READ_ALL_BACKWARD_COMPLETED, "ReadAllEventsBackwardCompleted", SERVER, \
      &es_read_all_events_completed_type) \
    X(0xba, FILTERED_READ_ALL_FORWARD, "FilteredReadAllEventsForward", CLIENT, \
      &es_filtered_read_all_events_type) \
    X(0xbb, FILTERED_READ_ALL_FORWARD_COMPLETED, "FilteredReadAllEventsForwardCompleted", SERVER, \
      &es_filtered_read_all_events_completed_type) \
    X(0xbc, FILTERED_READ_ALL_BACKWARD, "FilteredReadAllEventsBackward", CLIENT, \
      &es_filtered_read_all_events_type) \
    X(0xbe, FILTERED_READ_ALL_BACKWARD_COMPLETED, "FilteredReadAllEventsBackwardCompleted", \
      SERVER, &es_filtered_read_all_events_completed_type) \
    X(0xc0, SUBSCRIBE_TO_STREAM, "SubscribeToStream", CLIENT, &es_subscribe_to_stream_type) \
    X(0xc1, SUBSCRIPTION_CONFIRMATION, "SubscriptionConfirmation", SERVER, \
      &es_subscription_confirmation_type) \
    X(0xc2, STREAM_EVENT_APPEARED, "StreamEventAppeared", SERVER, &es_stream_event_appeared_type) \
    X(0xc3, UNSUBSCRIBE_FROM_STREAM, "UnsubscribeFromStream", CLIENT, 0) \
    X(0xc4, SUBSCRIPTION_DROPPED, "SubscriptionDropped", SERVER, &es_subscription_dropped_type) \
    X(0xc5, CONNECT_TO_GROUP, "ConnectToPersistentSubscription", CLIENT, \
      &es_connect_to_persistent_subscription_type) \
    X(0xc6, GROUP_CONFIRMATION, "PersistentSubscriptionConfirmation", SERVER, \
      &es_persistent_subscription_confirmation_type) \
    X(0xc7, GROUP_EVENT_APPEARED, "PersistentSubscriptionStreamEventAppeared", SERVER, \
      &es_persistent_subscription_event_appeared_type) \
    X(0xc8, CREATE_GROUP, "CreatePersistentSubscription", CLIENT, \
      &es_persistent_subscription_settings_type) \
    X(0xc9, CREATE_GROUP_COMPLETED, "CreatePersistentSubscriptionCompleted", SERVER, \
      &es_persistent_subscription_completed_type) \
    X(0xca, DELETE_GROUP, "DeletePersistentSubscription", CLIENT, \
      &es_delete_persistent_subscription_type) \
    X(0xcb, DELETE_GROUP_COMPLETED, "DeletePersistentSubscriptionCompleted", SERVER, \
      &es_persistent_subscription_completed_type) \
    X(0xcc, GROUP_ACK_EVENTS, "PersistentSubscriptionAckEvents", CLIENT, \
      &es_persistent_subscription_ack_events_type) \
    X(0xcd, GROUP_NAK_EVENTS, "PersistentSubscriptionNakEvents", CLIENT, \
      &es_persistent_subscription_nak_events_type) \
    X(0xce, UPDATE_GROUP, "UpdatePersistentSubscription", CLIENT, \
      &es_persistent_subscription_settings_type) \
    X(0xcf, UPDATE_GROUP_COMPLETED, "UpdatePersistentSubscriptionCompleted", SERVER, \
      &es_persistent_subscription_completed_type) \
    X(0xd0, SCAVENGE_DATABASE, "ScavengeDatabase", CLIENT, 0) \
    X(0xd1, SCAVENGE_DATABASE_RESPONSE, "ScavengeDatabaseResponse", SERVER, \
      &es_scavenge_database_response_type) \
    X(0xd2, FILTERED_SUBSCRIBE, "FilteredSubscribeToStream", CLIENT, \
      &es_filtered_subscribe_to_stream_type) \
    X(0xd3, CHECKPOINT_REACHED, "CheckpointReached", SERVER, &es_checkpoint_reached_type) \
    X(0xf0, BAD_REQUEST, "BadRequest", BOTH, 0) \
    X(0xf1, NOT_HANDLED, "NotHandled", SERVER, &es_not_handled_type) \
    X(0xf2, AUTHENTICATE, "Authenticate", CLIENT, 0) \
    X(0xf3, AUTHENTICATED, "Authenticated", SERVER, 0) \
    X(0xf4, NOT_AUTHENTICATED, "NotAuthenticated", SERVER, 0) \
    X(0xf5, IDENTIFY_CLIENT, "IdentifyClient", CLIENT, &es_identify_client_type) \
    X(0xf6, CLIENT_IDENTIFIED, "ClientIdentified", SERVER, 0)
/* clang-format on */

enum es_command {
#define ES_COMMAND_NUMBER(number, NAME, name, from, type) ES_##NAME = (number),
    ES_COMMANDS(ES_COMMAND_NUMBER)
#undef ES_COMMAND_NUMBER
};

struct es_command_info {
    const char *name;
    bool from_client;
    bool from_server;
    const struct es_message_type *body; /* NULL: none, a text, or any bytes */
};

/* NULL: there is no such command. */
const struct es_command_info *es_command_info(uint8_t command);

/* A whole frame with one message, which is as its command's table says. Returns 0, NO_MEMORY or
 * TOO_LARGE; then nothing was appended. */
int es_send(struct buf *out, uint8_t command, const struct es_id *correlation,
            const struct es_credentials *credentials, const void *message);

#endif
