/*
 * kvs/events.h: event streams, asynchronously; where they live is chosen by a URL.
 *
 *   log:DIR            in this process, durable, in the directory DIR (made when missing)
 *   rocksdb:DIR        the same, for streams whose index does not fit in memory (in builds with
 *                      librocksdb, else UNSUPPORTED)
 *   memory:            in this process, gone when closed
 *   esdb://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][?NAME=VALUE[&...]]
 *                      on a kvs-server or an EventStoreDB, by its TCP protocol (port 1113 when left
 *                      out); several are tried in turn until one takes the connection
 *   esdb+discover://[USER:PASSWORD@]HOST[:PORT][,...][?...]
 *                      on a cluster: the hosts (each name's every address) are asked by HTTP (port
 *                      2113) who is in the cluster; the node that the preference asks for is taken
 *
 * USER and PASSWORD are percent-encoded. NAMEs are those of the options, in camel case: tls (true
 * or false), tlsCaFile, tlsVerifyCert, nodePreference (leader, follower, readOnlyReplica, random),
 * connectionName, connectTimeout, defaultDeadline, keepAliveInterval, keepAliveTimeout,
 * gossipTimeout, discoveryInterval, maxDiscoverAttempts, maxReconnects, httpPort; times in
 * milliseconds. An option given both ways: the URL's.
 *
 * Every call may come from any thread, none blocks. Inputs are copied before the call returns.
 * Results are futures (kvs/future.h); "gives a T" means that kvs_future_get_pointer gives a pointer
 * to a constant T that the future owns. Subscriptions stand in kvs/subscription.h.
 *
 * In process nobody is asked who he is: logins are for servers.
 *
 * A connection is kept by itself: lost, it is made again, with back-off, also to another node. What
 * is under way then goes on by itself as far as that is right:
 *   reads            are sent again
 *   appends, metadata  are sent again: the server knows the events by their ids and does not write
 *                    them twice. With KVS_EXPECT_ANY and _EXISTS EventStoreDB knows only recent
 *                    ids, and none after its restart; with a number or NO_STREAM it is exact.
 *                    Refused when sent again, they end in OUTCOME_UNKNOWN: the first attempt may
 *                    have been done (and the stream deleted since, or made again by it). But with
 *                    a number WRONG_EXPECTED_VERSION is sure: the server has compared ids
 *   deletes, transactions, groups, users  end in OUTCOME_UNKNOWN if they were sent
 * Calls wait for a connection until their deadline. What a server does not take now (it is not
 * ready, too busy) is sent again; what only another node takes moves the connection there.
 *
 * A call that is given up, by its deadline or by kvs_future_cancel, is ready at once: with TIMEOUT
 * or CANCELLED, or with OUTCOME_UNKNOWN where it is a change that may happen nonetheless (that was
 * sent, or that the disk of this process is at work on). kvs_events_close waits for the latter.
 *
 * Errors of calls, beside those of each: TIMEOUT, OUTCOME_UNKNOWN, CONNECT, CONNECTION_LOST,
 * ADDRESS, PROTOCOL, CLOSED, CANCELLED, NO_MEMORY, BUSY (too much in flight), ACCESS_DENIED,
 * NOT_AUTHENTICATED (login or password are wrong), INVALID_ARGUMENT, TOO_LARGE; of log: and
 * rocksdb: also IO, NO_SPACE, STORAGE_FAILED, CORRUPTION.
 */
#ifndef KVS_EVENTS_H
#define KVS_EVENTS_H

#include <kvs/event.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_events kvs_events;

enum kvs_node_preference {
    KVS_NODE_LEADER = 0,
    KVS_NODE_FOLLOWER,
    KVS_NODE_READ_ONLY_REPLICA,
    KVS_NODE_RANDOM,
};

enum kvs_connection_state {
    KVS_CONNECTION_CONNECTING = 0, /* the first attempts, or again after a loss */
    KVS_CONNECTION_READY,
    KVS_CONNECTION_LOST,   /* `error` and `why` tell the reason; another attempt follows */
    KVS_CONNECTION_CLOSED, /* for good: by kvs_events_close (error 0), or given up */
};

/* A change of the connection; pointers are valid during the call. */
struct kvs_connection_event {
    enum kvs_connection_state state;
    int error;         /* LOST, CLOSED: ADDRESS (no such host), CONNECT (refused, or no answer),
                            PROTOCOL (no such server), PERMISSION (TLS), NOT_AUTHENTICATED, TIMEOUT
                            (no heartbeat), CONNECTION_LOST */
    const char *why;   /* a line for a person, "" for none */
    const char *node;  /* HOST:PORT it is about, "" before one is known */
    uint32_t failures; /* attempts that failed in a row */
};

/* On a loop of the runtime; kvs/runtime.h says what it may do. */
typedef void kvs_connection_fn(kvs_events *events, const struct kvs_connection_event *event,
                               void *arg);

/* Zero means the default in every field. Set size = sizeof(struct kvs_events_options). Strings are
 * copied. */
struct kvs_events_options {
    uint32_t size;
    uint32_t timeout_ms; /* deadline of a call that sets none; default 30000, in process none */
    const char *login;   /* default: the URL's */
    const char *password;
    kvs_connection_fn *on_connection; /* may be NULL */
    void *on_connection_arg;
    /* esdb:// */
    const char *connection_name;    /* for the server's lists; default "kvs" */
    uint32_t connect_timeout_ms;    /* TCP, TLS and greeting together; default 5000 */
    uint32_t attempt_timeout_ms;    /* without an answer a call is sent again; default 7000 */
    uint32_t heartbeat_interval_ms; /* without a byte from the server; default 5000 */
    uint32_t heartbeat_timeout_ms;  /* then, until the connection is lost; default 10000 */
    uint32_t reconnects_max;        /* attempts in a row before it gives up; default: no limit */
    uint32_t in_flight_max;         /* calls that are sent and not answered; default 2048 */
    bool tls;
    bool tls_insecure;           /* takes any certificate: for tests */
    const char *tls_ca;          /* authorities to trust; default those of the system */
    const char *tls_certificate; /* who this client is, for servers that ask */
    const char *tls_key;
    uint16_t http_port; /* for what the TCP protocol has no command for; default 2113 */
    /* esdb+discover:// */
    enum kvs_node_preference node_preference;
    uint32_t gossip_timeout_ms;     /* for one node's answer; default 3000 */
    uint32_t discover_interval_ms;  /* between rounds; default 500 */
    uint32_t discover_attempts_max; /* rounds before an attempt has failed; default 10 */
    /* log: and rocksdb: */
    int sync;        /* enum kvs_sync of kvs/store.h */
    bool must_exist; /* fail with NO_DIRECTORY when DIR has no store yet, and make none */
};

/*
 * Opens. The future gives a kvs_events *, not const: the caller owns it from then on and closes it
 * with kvs_events_close. esdb:// becomes ready when the first connection stands and the login is
 * accepted, or with the reason why the first attempt (with several hosts: each of them) failed.
 * Errors: INVALID_ARGUMENT (the URL or an option; the message says which), ADDRESS, CONNECT,
 * PROTOCOL, PERMISSION, NOT_AUTHENTICATED, TIMEOUT; in process those of kvs_store_open.
 */
kvs_future *kvs_events_open(kvs_runtime *runtime, const char *url,
                            const struct kvs_events_options *options);

/*
 * Closes: calls that are under way end with CLOSED (OUTCOME_UNKNOWN for writes that were sent),
 * subscriptions are dropped with CLOSED; then it is freed and the future ready. No call may begin
 * after this one; handles of subscriptions are freed as always.
 */
kvs_future *kvs_events_close(kvs_events *events);

/* How a single call differs from the others; NULL stands for all zero. */
typedef struct kvs_call_options {
    uint32_t size;       /* sizeof(kvs_call_options) */
    uint32_t timeout_ms; /* 0: the client's */
    const char *login;   /* in the name of this user; NULL: the client's */
    const char *password;
    bool any_node; /* also a node that is not the leader may carry it out */
} kvs_call_options;

/* --- writing ---------------------------------------------------------------------------------- */

typedef struct kvs_write_result {
    int64_t first_number; /* of the first event written; deletes: -1 */
    int64_t last_number;  /* what the next append may expect; deletes: -1 */
    kvs_position position;
} kvs_write_result;

/*
 * Appends `count` events (0 is fine), all or none. Gives a kvs_write_result. Errors:
 * WRONG_EXPECTED_VERSION (kvs_future_get_number then gives the stream's last number if the server
 * told it), STREAM_DELETED.
 */
kvs_future *kvs_events_append(kvs_events *events, kvs_slice stream, int64_t expected_version,
                              const kvs_new_event *new_events, size_t count,
                              const kvs_call_options *call);

/*
 * Deletes a stream: softly (it can be written to again, numbers go on) or, `hard`, for good. Gives
 * a kvs_write_result. Errors: as append.
 */
kvs_future *kvs_events_delete(kvs_events *events, kvs_slice stream, int64_t expected_version,
                              bool hard, const kvs_call_options *call);

/*
 * An explicit transaction: events of several calls that become visible together. start gives a
 * number, the transaction; it lives on the server, and may be left. commit gives a
 * kvs_write_result; the expected version is looked at then. Errors: as append; NOT_FOUND: no such
 * transaction; TOO_LARGE: a kvs-server, and a store in process, commit at most 64 MiB of events, of
 * which each counts 48 bytes more.
 */
kvs_future *kvs_events_transaction_start(kvs_events *events, kvs_slice stream,
                                         int64_t expected_version, const kvs_call_options *call);
kvs_future *kvs_events_transaction_write(kvs_events *events, int64_t transaction,
                                         const kvs_new_event *new_events, size_t count,
                                         const kvs_call_options *call);
kvs_future *kvs_events_transaction_commit(kvs_events *events, int64_t transaction,
                                          const kvs_call_options *call);

/* --- reading ---------------------------------------------------------------------------------- */

#define KVS_READ_RESOLVE_LINKS 1u
#define KVS_READ_BACKWARD 2u

/* One event; number KVS_EVENT_LAST: the last. Gives a kvs_resolved_event. Errors: NO_STREAM,
 * STREAM_DELETED, NOT_FOUND. */
kvs_future *kvs_events_read_event(kvs_events *events, kvs_slice stream, int64_t number,
                                  unsigned flags, const kvs_call_options *call);

typedef struct kvs_event_page {
    const kvs_resolved_event *events;
    size_t count;               /* may be less than asked for, also 0, before the end */
    bool is_end;                /* nothing more in this direction, now */
    int64_t next_number;        /* streams: where to go on; forward at the end: the next to come */
    int64_t last_number;        /* streams: of the last event */
    kvs_position next_position; /* $all: where to go on */
} kvs_event_page;

/* Up to `count` (1 to KVS_EVENTS_PAGE_MAX) events of a stream from number `from` on, in order, or
 * backwards. Gives a kvs_event_page. Errors: NO_STREAM, STREAM_DELETED. */
kvs_future *kvs_events_read_stream(kvs_events *events, kvs_slice stream, int64_t from,
                                   uint32_t count, unsigned flags, const kvs_call_options *call);

/* The same of $all: forward the events at `from` and behind, backward those before it. `filter`
 * NULL: all. Gives a kvs_event_page. */
kvs_future *kvs_events_read_all(kvs_events *events, kvs_position from, uint32_t count,
                                unsigned flags, const kvs_event_filter *filter,
                                const kvs_call_options *call);

/* --- metadata, users, upkeep ------------------------------------------------------------------ */

typedef struct kvs_stream_metadata {
    int64_t version; /* the metadata's own number, to be expected by the next set; -1: none */
    kvs_slice json;  /* an object; empty when there is none */
    bool is_deleted; /* the stream is deleted for good */
} kvs_stream_metadata;

/* Metadata is a JSON object: $maxCount, $maxAge (seconds), $tb (the first number kept),
 * $cacheControl, $acl {$r, $w, $d, $mr, $mw}, and the user's own. get gives a kvs_stream_metadata,
 * set a kvs_write_result; `expected_version` is the metadata's. */
kvs_future *kvs_events_get_metadata(kvs_events *events, kvs_slice stream,
                                    const kvs_call_options *call);
kvs_future *kvs_events_set_metadata(kvs_events *events, kvs_slice stream, int64_t expected_version,
                                    kvs_slice json, const kvs_call_options *call);

enum kvs_user_change {
    KVS_USER_CREATE = 1, /* login, full_name, groups, password. ALREADY_EXISTS */
    KVS_USER_UPDATE,     /* login, full_name, groups */
    KVS_USER_PASSWORD,   /* login, password */
    KVS_USER_ENABLE,     /* login; the same for the next two */
    KVS_USER_DISABLE,
    KVS_USER_DELETE,
};

/* Strings of UTF-8, borrowed. Members of the group $admins may do everything, those of $ops run
 * the server and its persistent subscriptions. */
typedef struct kvs_user {
    const char *login;
    const char *full_name;
    const char *const *groups;
    size_t groups_count;
    const char *password; /* NULL in what is read */
    bool is_disabled;     /* in what is read */
} kvs_user;

typedef struct kvs_user_list {
    const kvs_user *users;
    size_t count;
} kvs_user_list;

/* Only administrators may. Errors: NOT_FOUND, ALREADY_EXISTS. */
kvs_future *kvs_events_change_user(kvs_events *events, enum kvs_user_change change,
                                   const kvs_user *user, const kvs_call_options *call);
/* Gives a kvs_user_list: that one, or with NULL all. */
kvs_future *kvs_events_get_users(kvs_events *events, const char *login,
                                 const kvs_call_options *call);

/* Gives back the space of what is deleted: a server has begun when the future is ready, in process
 * it is done. Gives a value, the id of the scavenge, or what it did. BUSY: one is running. */
kvs_future *kvs_events_scavenge(kvs_events *events, const kvs_call_options *call);

/* A round trip. */
kvs_future *kvs_events_ping(kvs_events *events, const kvs_call_options *call);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#include <kvs/subscription.h>
#endif
