/*
 * kvs/subscription.h: events as they come, of a stream, of $all, or as a member of a persistent
 * subscription group.
 *
 * A subscription reads what is there and then goes on with what is appended, in order, without loss
 * or repetition; a lost connection is made again and it goes on where it stopped. A group is kept
 * by the server, which gives each event to one of the group's members, until it is acknowledged:
 * an event may come again, then with a retry_count.
 *
 * Handlers run on one loop of the runtime, one at a time; kvs/runtime.h says what they may do.
 * Flow: on_events gets a batch. If it returns true, the batch is done. If it returns false, the
 * batch, and the memory of its events, is kept until kvs_subscription_resume, to be called once for
 * it, on any thread, also before on_events has returned. Meanwhile nothing else is given and memory
 * stays bounded: what the server has further to say is left there (and read again later), or, of a
 * group, was not sent.
 */
#ifndef KVS_SUBSCRIPTION_H
#define KVS_SUBSCRIPTION_H

#include <kvs/events.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_subscription kvs_subscription;

enum kvs_subscription_state {
    KVS_SUBSCRIPTION_CATCHING_UP = 1, /* reads what was there; again after it fell behind */
    KVS_SUBSCRIPTION_LIVE,            /* all that was there has been given; groups: connected */
    KVS_SUBSCRIPTION_WAITING,         /* the connection is lost; it goes on by itself */
};

struct kvs_subscription_handlers {
    /* See above. */
    bool (*on_events)(kvs_subscription *subscription, const kvs_resolved_event *events,
                      size_t count, void *arg);
    /* May be NULL. */
    void (*on_state)(kvs_subscription *subscription, enum kvs_subscription_state state, void *arg);
    /* May be NULL. With a filter: all up to here was looked at, resume from here. */
    void (*on_checkpoint)(kvs_subscription *subscription, kvs_position position, void *arg);
    /*
     * The end: called exactly once, and nothing after it. error 0: it was stopped. Else CLOSED,
     * ACCESS_DENIED, NOT_AUTHENTICATED, STREAM_DELETED (after all events were given), NOT_FOUND (no
     * such group, or it was deleted), BUSY (the group has all the members it may have; a volatile
     * subscription was too slow), CONNECTION_LOST (volatile), INVALID_ARGUMENT, PROTOCOL,
     * NO_MEMORY. `why` is a line for a person, valid during the call.
     */
    void (*on_dropped)(kvs_subscription *subscription, int error, const char *why, void *arg);
};

enum kvs_subscribe_from {
    KVS_SUBSCRIBE_FROM_START = 0,
    KVS_SUBSCRIBE_FROM_END, /* only what is appended after on_state(LIVE) */
    KVS_SUBSCRIBE_AFTER,    /* behind after_number or after_position, what was handled last */
};

/* Zero means the default in every field. Set size = sizeof(struct kvs_subscribe_options). */
struct kvs_subscribe_options {
    uint32_t size;
    kvs_slice stream; /* empty: $all */
    enum kvs_subscribe_from from;
    int64_t after_number;        /* AFTER, of a stream */
    kvs_position after_position; /* AFTER, of $all */
    bool resolve_links;
    bool is_volatile; /* FROM_END only: ends when the connection is lost or the handler too slow
                         for the buffer, instead of reading what it missed */
    const kvs_event_filter *filter; /* $all only; copied */
    uint32_t checkpoint_interval;   /* filter: events looked at between checkpoints; default 1000 */
    uint32_t page_count;            /* events per read while catching up; default 512 */
    uint32_t buffer_count;          /* live events kept while the handler is busy; default 4096 */
    uint32_t buffer_size_bytes;     /* and their bytes; default 8 MiB */
    const char *login;
    const char *password;
};

/*
 * Starts; *ret_subscription is set before any handler is called. Returns 0, INVALID_ARGUMENT or
 * NO_MEMORY: then no handler is called. Everything later ends in on_dropped.
 */
int kvs_events_subscribe(kvs_events *events, const struct kvs_subscribe_options *options,
                         const struct kvs_subscription_handlers *handlers, void *arg,
                         kvs_subscription **ret_subscription);

/* Joins a group. Zero means the default in every field. */
struct kvs_group_subscribe_options {
    uint32_t size;
    kvs_slice stream;
    kvs_slice group;
    uint32_t in_flight; /* events given and not acknowledged; default 10 */
    bool manual_ack;    /* acknowledged by kvs_subscription_ack, not when the batch is done */
    bool no_rejoin;     /* ends with CONNECTION_LOST instead of joining again */
    const char *login;
    const char *password;
};

/* As kvs_events_subscribe. */
int kvs_events_subscribe_group(kvs_events *events,
                               const struct kvs_group_subscribe_options *options,
                               const struct kvs_subscription_handlers *handlers, void *arg,
                               kvs_subscription **ret_subscription);

/* The batch that on_events kept is done. Any thread. */
void kvs_subscription_resume(kvs_subscription *subscription);

/* Asks for the end: after the handler that runs now only on_dropped is called. Any thread. */
void kvs_subscription_stop(kvs_subscription *subscription);

/*
 * Gives the handle back, exactly once; stops the subscription if it has not ended. on_dropped is
 * still called. Any thread, also in handlers. NULL is allowed.
 */
void kvs_subscription_free(kvs_subscription *subscription);

enum kvs_nak_action {
    KVS_NAK_UNKNOWN = 0, /* the server decides */
    KVS_NAK_PARK,        /* put aside, to be replayed one day */
    KVS_NAK_RETRY,
    KVS_NAK_SKIP,
    KVS_NAK_STOP, /* as skip, in EventStoreDB too: it does not come again, and nothing stops */
};

/*
 * Manual_ack: the events, named by the ids of their original events, are handled, or were not.
 * After a lost connection they come again anyway: ids that the server does not know are ignored.
 * Returns 0, INVALID_ARGUMENT (not a group), NO_MEMORY. Any thread.
 */
int kvs_subscription_ack(kvs_subscription *subscription, const kvs_event_id *ids, size_t count);
int kvs_subscription_nak(kvs_subscription *subscription, const kvs_event_id *ids, size_t count,
                         enum kvs_nak_action action, const char *reason);

/* --- groups ----------------------------------------------------------------------------------- */

/* Start from KVS_GROUP_SETTINGS_INIT. Counts are of events. */
typedef struct kvs_group_settings {
    uint32_t size;
    bool resolve_links;
    bool extra_statistics;
    int64_t start_from;          /* number of the first event, -1: only new ones; see below */
    uint32_t message_timeout_ms; /* then an event is given again; 0: never */
    uint32_t retries_max;        /* then it is parked */
    uint32_t live_buffer_count;
    uint32_t history_buffer_count;
    uint32_t read_batch_count; /* less than history_buffer_count */
    uint32_t checkpoint_after_ms;
    uint32_t checkpoint_count_min;
    uint32_t checkpoint_count_max;
    uint32_t subscribers_max; /* 0: no limit */
    const char *strategy;     /* NULL: RoundRobin. DispatchToSingle, Pinned, PinnedByCorrelation */
} kvs_group_settings;

#ifdef __cplusplus
#define KVS_GROUP_SETTINGS_INIT                                                                \
    (kvs_group_settings{sizeof(kvs_group_settings), false, false, -1, 30000, 10, 500, 500, 20, \
                        2000, 10, 1000, 0, nullptr})
#else
#define KVS_GROUP_SETTINGS_INIT                               \
    ((kvs_group_settings){.size = sizeof(kvs_group_settings), \
                          .start_from = -1,                   \
                          .message_timeout_ms = 30000,        \
                          .retries_max = 10,                  \
                          .live_buffer_count = 500,           \
                          .history_buffer_count = 500,        \
                          .read_batch_count = 20,             \
                          .checkpoint_after_ms = 2000,        \
                          .checkpoint_count_min = 10,         \
                          .checkpoint_count_max = 1000})
#endif

/* Operators and administrators may. Errors: ALREADY_EXISTS (create), NOT_FOUND (the others). An
 * update ends nothing: members join again by themselves, and what was not acknowledged comes
 * again. start_from counts only while the group has no checkpoint. In an update a number has it
 * begin there; -1 leaves it where it was to begin, on a kvs-server and in process, while
 * EventStoreDB begins with what is new. */
kvs_future *kvs_events_create_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                    const kvs_group_settings *settings,
                                    const kvs_call_options *call);
kvs_future *kvs_events_update_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                    const kvs_group_settings *settings,
                                    const kvs_call_options *call);
kvs_future *kvs_events_delete_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                    const kvs_call_options *call);

/* Gives the parked events to the group's members again, each as the link to it that was parked. By
 * HTTP, for want of a command in the TCP protocol: a kvs-server serves it on the port of --http. */
kvs_future *kvs_events_replay_parked(kvs_events *events, kvs_slice stream, kvs_slice group,
                                     const kvs_call_options *call);

/* What a group is doing, in short. Texts live as long as the future. */
typedef struct kvs_group_summary {
    kvs_slice stream;
    kvs_slice group;
    const char *status; /* as the server says: Live, Behind, NotReady, ... */
    int64_t last_known; /* number of the stream's last event, as far as it knows; -1: none */
    /* All up to here is done, and safe so; -1: none yet. Of $all both are -1. */
    int64_t last_checkpoint;
    uint64_t total;      /* events given since the server began */
    uint64_t per_second; /* lately */
    uint32_t connections_count;
    uint32_t in_flight; /* given, and not acknowledged */
} kvs_group_summary;

typedef struct kvs_group_list {
    const kvs_group_summary *groups;
    size_t count;
} kvs_group_list;

typedef struct kvs_group_connection {
    const char *from;  /* an address; "" in process */
    const char *login; /* "": none */
    const char *name;
    uint64_t total;
    uint64_t per_second;
    uint32_t in_flight;
    uint32_t available_slots; /* events it would take now */
} kvs_group_connection;

typedef struct kvs_group_info {
    kvs_group_summary summary;
    kvs_group_settings settings;
    uint32_t read_buffer;  /* events read and not given yet */
    uint32_t retry_buffer; /* to be given again */
    uint32_t outstanding;  /* in flight, to be given again, or being parked */
    uint64_t parked;
    const kvs_group_connection *connections; /* summary.connections_count */
} kvs_group_info;

/* The groups of a stream, or with an empty one all. Gives a kvs_group_list. Anybody who has logged
 * in may. By HTTP, as kvs_events_replay_parked, of at most 16 MiB. */
kvs_future *kvs_events_list_groups(kvs_events *events, kvs_slice stream,
                                   const kvs_call_options *call);
/* Gives a kvs_group_info. Likewise. Errors: NOT_FOUND. */
kvs_future *kvs_events_get_group(kvs_events *events, kvs_slice stream, kvs_slice group,
                                 const kvs_call_options *call);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
