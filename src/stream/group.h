/*
 * stream/group.h: persistent subscription groups: consumers that share the events of a stream, each
 * event being done when it is acknowledged.
 *
 * The group reads its stream from its checkpoint on, deals the events out to its consumers by its
 * strategy, each up to as many as it has room for, and gives an event again that was refused or not
 * acknowledged in time. What has failed too often is parked: a link in the group's parked stream,
 * from where it can be replayed. What is done up to where is kept as the checkpoint, in a stream
 * too; so a restart repeats events, but never leaves one out.
 *
 * Groups live on the loop of streams_options. Functions may be called from any thread; consumers'
 * callbacks run on the consumer's loop.
 */
#ifndef STREAM_GROUP_H
#define STREAM_GROUP_H

#include "base/list.h"
#include "stream/stream.h"

enum stream_strategy {
    STREAM_STRATEGY_ROUND_ROBIN = 0,
    STREAM_STRATEGY_DISPATCH_TO_SINGLE,
    STREAM_STRATEGY_PINNED,
    STREAM_STRATEGY_PINNED_BY_CORRELATION,
};

/* "RoundRobin" and so on. NULL, -1: no such. */
const char *stream_strategy_name(enum stream_strategy strategy);
int stream_strategy_of_name(kvs_slice name);

struct stream_group_settings {
    bool resolve_links;
    bool record_statistics;
    int64_t start_from; /* number of the first event to give; STREAM_END: what comes from now on */
    int32_t message_timeout_ms; /* 0: none */
    int32_t max_retry_count;    /* then it is parked */
    int32_t live_buffer_size;   /* kept as told; the group reads as consumers have room */
    int32_t read_batch_size;
    int32_t buffer_size;
    int32_t checkpoint_after_ms;
    int32_t checkpoint_min_count;
    int32_t checkpoint_max_count;
    int32_t subscriber_max_count; /* 0: any number */
    enum stream_strategy strategy;
};

/* What a client that says nothing gets. */
void stream_group_settings_default(struct stream_group_settings *settings);

enum stream_group_action {
    STREAM_GROUP_CREATE = 0,
    STREAM_GROUP_UPDATE, /* consumers are dropped */
    STREAM_GROUP_DELETE, /* likewise */
    STREAM_GROUP_REPLAY, /* parked events are given again: the oldest stop_at of them (0: all) */
    STREAM_GROUP_INFO,   /* of one group, of a stream's (empty group), or of all (empty stream) */
};

enum stream_group_outcome {
    STREAM_GROUP_OK = 0,
    STREAM_GROUP_EXISTS,
    STREAM_GROUP_NOT_FOUND,
    STREAM_GROUP_FAILED, /* `reason` says what is wrong */
    STREAM_GROUP_ACCESS_DENIED,
};

struct stream_consumer_info {
    kvs_slice from;
    kvs_slice user;
    kvs_slice name;
    uint64_t total;
    uint64_t per_second;
    uint64_t since_measured; /* given since per_second was measured */
    int32_t available_slots;
    int32_t in_flight;
};

struct stream_group_info {
    kvs_slice stream;
    kvs_slice group;
    struct stream_group_settings settings;
    const char *status;      /* "Live", "Behind", "NotReady", "ReplayingParkedMessages" */
    int64_t last_checkpoint; /* number; -1: none */
    int64_t last_known;      /* number of the stream's last event, as far as it is known; -1 */
    uint64_t total;          /* given out since the open */
    uint64_t per_second;     /* over the last second or so */
    uint64_t since_measured; /* given out since then */
    uint32_t read_buffer;
    uint32_t retry_buffer;
    uint32_t in_flight;
    uint32_t outstanding;
    int64_t parked;
    const struct stream_consumer_info *consumers;
    uint32_t consumers_count;
};

struct stream_group_call {
    struct op op;

    /* the request */
    enum stream_group_action action;
    kvs_slice stream;
    kvs_slice group;
    struct stream_group_settings settings; /* create, update */
    int64_t stop_at;
    const struct stream_user *user; /* an operator; for info anybody who has logged in */

    /* the result; it lives until stream_group_call_release */
    enum stream_group_outcome outcome;
    char reason[128];
    struct stream_group_info *infos;
    uint32_t infos_count;

    /* the streams' own */
    struct arena arena;
    struct streams *streams;
    struct task task;
    void *state[2];
};

void streams_group_call(struct streams *streams, struct stream_group_call *call);
void stream_group_call_release(struct stream_group_call *call);

/* --- consumers -------------------------------------------------------------------------------- */

enum stream_drop {
    STREAM_DROP_CLOSED = 0,   /* by stream_consumer_close */
    STREAM_DROP_UNSUBSCRIBED, /* the group was changed or deleted */
    STREAM_DROP_NOT_FOUND,
    STREAM_DROP_ACCESS_DENIED,
    STREAM_DROP_TOO_MANY, /* subscriber_max_count */
    STREAM_DROP_FAILED,   /* `error` says why */
};

enum stream_nak {
    STREAM_NAK_UNKNOWN = 0, /* as retry */
    STREAM_NAK_PARK,
    STREAM_NAK_RETRY,
    STREAM_NAK_SKIP, /* as acknowledged */
    STREAM_NAK_STOP, /* likewise: in EventStoreDB it stops nothing */
};

struct stream_delivery; /* the group's, counted */

struct stream_consumer {
    /* the request: borrowed until on_confirmed or on_dropped; `loop` and callbacks stay */
    struct loop *loop;
    kvs_slice stream;
    kvs_slice group;
    int32_t slots; /* events that are given without an acknowledgement */
    const struct stream_user *user;
    kvs_slice from; /* an address, for people */
    kvs_slice name;
    void (*on_confirmed)(struct stream_consumer *consumer);
    /* An event, to be acknowledged by the id of its original. It lives for the call. */
    void (*on_event)(struct stream_consumer *consumer, const struct stream_event *event,
                     int32_t retry_count);
    /* The last call. */
    void (*on_dropped)(struct stream_consumer *consumer, enum stream_drop drop);

    /* known from on_confirmed on */
    int64_t last_number;
    int64_t last_position;
    int error;

    /* the streams' own */
    struct streams *streams;
    void *member;
    struct task task;
};

void streams_consume(struct streams *streams, struct stream_consumer *consumer);
/* On the consumer's loop, between on_confirmed and on_dropped. `ids`: count times 16 bytes, copied.
 * NO_MEMORY: nothing was done. Unknown ids are passed over. */
int stream_consumer_ack(struct stream_consumer *consumer, const uint8_t *ids, uint32_t count);
int stream_consumer_nak(struct stream_consumer *consumer, const uint8_t *ids, uint32_t count,
                        enum stream_nak action, kvs_slice reason);
/* Bytes of those that the group has not come to yet: who sends for others should wait. */
uint64_t stream_consumer_acks_waiting(const struct stream_consumer *consumer);
/* On its loop, once; what it had not acknowledged goes to others, as given once more. `lost`: it
 * may have broken down at an event, so these count as refused: who gets the event next breaks down,
 * too, and it is parked in the end. on_dropped comes. */
void stream_consumer_close(struct stream_consumer *consumer, bool lost);

#endif
