/*
 * client/eventstore/connection.h: the connection to an EventStoreDB or a kvs-server: a link, the
 * greeting, heartbeats, and the operation manager, on one loop.
 *
 * The life of a call:
 *   1. es_call_prepare, on the caller's thread: the body of its frame is encoded;
 *   2. es_connection_submit puts it into the loop's mailbox, from where it goes to the operation
 *      manager, and waits;
 *   3. at the end of the turn all that may be in flight is framed, with fresh correlation ids, and
 *      written with one system call;
 *   4. its reply is there: reply_take says whether it is done, or to be sent again, maybe
 *      elsewhere.
 *
 * The life of the connection:
 *   discover (which node) -> TCP, TLS -> Authenticate, IdentifyClient -> READY -> lost -> back-off
 * What was sent and not answered when it is lost goes back to the front of what waits, in order, if
 * sending it twice is right; else it ends in OUTCOME_UNKNOWN. So does a write that was sent and is
 * given up later. A read that is not answered for attempt_timeout_ms is asked again. Subscriptions
 * are told, and go on by themselves.
 *
 * Threads: submit and cancel from any; all else on the loop. Users' functions are called at the end
 * of the turn, or as callbacks of futures; never from within the reading of a frame.
 */
#ifndef CLIENT_EVENTSTORE_CONNECTION_H
#define CLIENT_EVENTSTORE_CONNECTION_H

#include "base/list.h"
#include "client/eventstore/discover.h"
#include "client/eventstore/reply.h"
#include "client/eventstore/request.h"
#include "client/eventstore/slots.h"
#include "client/operations.h"
#include "proto/eventstore/heartbeat.h"

/* Calls of one client that are not done; further ones are answered BUSY. */
#define ES_CALLS_MAX (256u * 1024)
#define ES_CALLS_SIZE_MAX (256u * 1024 * 1024)
#define ES_ATTEMPTS_MAX 16u

struct es_connection;

/* Login and password of a call or a subscription; one piece of memory, NULL for none. */
struct es_login {
    char *memory;
    struct es_credentials credentials;
};

int es_login_copy(struct es_login *login, const char *name, const char *password);
void es_login_deinit(struct es_login *login);
/* For frames: NULL for none. */
static inline const struct es_credentials *es_login_credentials(const struct es_login *login)
{
    return login->memory != NULL ? &login->credentials : NULL;
}

struct es_call {
    struct events_call base;
    struct slot_owner owner;
    struct task task;
    struct operation operation;
    struct es_connection *connection;
    const struct request_wire *wire;
    struct es_login login;
    const struct es_login *shared_login; /* instead, of a subscription; NULL: none */
    struct buf body;
    uint32_t count_max;
    uint32_t timeout_ms;
    uint64_t deadline_ms; /* UINT64_MAX: none */
    int refused;          /* ends with this instead of being sent */
    bool arrived;         /* on the loop */
    bool cancelled;
    bool may_have_happened; /* an attempt was sent, and nobody said what came of it */
    bool expects_number;    /* that its stream ends with a certain event */
};

/* What a subscription is to the connection. */
struct es_listener {
    struct list node;
    struct list work_node;
    struct slot_owner owner;
    bool wants_retry; /* on_ready is called again, a little later */
    /* The connection stands again. */
    void (*on_ready)(struct es_listener *listener);
    /* It does not; the slot is given back already. */
    void (*on_lost)(struct es_listener *listener, int error, const char *why);
    /* At the end of a turn in which es_connection_want_work was called. */
    void (*on_work)(struct es_listener *listener);
    /* The client closes, or has given up: the last call. */
    void (*on_closed)(struct es_listener *listener, int error, const char *why);
};

struct es_connection_config {
    struct loop *loop;
    kvs_thread_pool *pool;
    uint32_t connect_timeout_ms;
    uint32_t attempt_timeout_ms;
    uint32_t timeout_ms;
    uint32_t heartbeat_interval_ms;
    uint32_t heartbeat_timeout_ms;
    uint32_t reconnects_max; /* 0: no limit */
    uint32_t in_flight_max;
    const char *name;             /* kept by the owner */
    const struct es_login *login; /* kept by the owner */
    struct tls_context *tls;      /* kept by the owner; NULL: none */
    struct discover_config discover;
    /* All on the loop. */
    void (*on_event)(struct es_connection *connection, const struct kvs_connection_event *event);
    /* Closed: the memory may be given back. */
    void (*on_closed)(struct es_connection *connection);
};

struct es_connection {
    struct es_connection_config config;
    struct link link;
    struct discover discover;
    struct operations operations;
    struct slots slots;
    struct es_heartbeat heartbeat;
    struct es_id greeting_id;
    bool authenticated; /* this far, on this connection */
    bool identified;
    bool ready;
    bool closing;
    bool link_closed;
    bool discover_closed;
    bool woken;
    bool timers_closing;
    uint64_t paused_until_ms; /* the node does not take calls right now */
    uint64_t heartbeat_checked_ms;
    uint64_t deadline_armed_ms;
    int given_up; /* why it makes no further attempts; 0: it does */
    struct list listeners;
    struct list work;
    struct loop_hook turn_end;
    struct task wake_task;
    struct task start_task;
    struct task close_task;
    unsigned timers;      /* not yet closed */
    uint64_t received_ms; /* when something came last, or the connection was made */
    uv_timer_t deadline_timer;
    uv_timer_t heartbeat_timer;
    char trouble[DISCOVER_WHY_SIZE + 64]; /* the last failure; "" when it is ready */
};

/* Starts on its loop; from any thread. */
void es_connection_start(struct es_connection *connection,
                         const struct es_connection_config *config);
/* Ends all with CLOSED; from any thread. */
void es_connection_close(struct es_connection *connection);

/* Encodes. What goes wrong ends the call once it is submitted. */
void es_call_prepare(struct es_call *call, struct es_connection *connection,
                     const struct events_request *request);
void es_connection_submit(struct es_call *call);
/* The same on the loop, at once; `done` may be called inside. */
void es_connection_submit_here(struct es_call *call);
/* On the loop: it ends soon, with CANCELLED or OUTCOME_UNKNOWN. */
void es_call_cancel(struct es_call *call);
/* Of a call that is not the payload of a future; it is not under way. */
void es_call_deinit(struct es_call *call);
/* On the loop: forgets a call that is under way; `done` is not called. */
void es_call_abandon(struct es_call *call);

/* --- for subscriptions: on the loop --- */

void es_listener_init(struct es_listener *listener);
void es_connection_add(struct es_connection *connection, struct es_listener *listener);
void es_connection_remove(struct es_connection *connection, struct es_listener *listener);
void es_connection_want_work(struct es_connection *connection, struct es_listener *listener);

/* Sends a message that begins an exchange of its own: the listener gets a slot. False: the
 * connection is not ready, or there is no memory, and it is being lost. */
bool es_connection_ask(struct es_connection *connection, struct es_listener *listener,
                       uint8_t command, const struct es_login *login, const void *message);
/* One more message of that exchange; message NULL: without a body. */
bool es_connection_tell(struct es_connection *connection, struct es_listener *listener,
                        uint8_t command, const struct es_login *login, const void *message);
/* The exchange is over: frames that still come are nobody's. */
void es_connection_forget(struct es_connection *connection, struct es_listener *listener);
/* NotHandled is what came of it. on_ready is called again, a little later, or on a connection to
 * the node that takes it: then on_lost is called inside. */
void es_connection_not_handled(struct es_connection *connection, struct es_listener *listener,
                               kvs_slice body);

#endif
