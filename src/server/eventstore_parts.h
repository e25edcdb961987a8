/* server/eventstore_parts.h: what the files of the EventStoreDB service share. */
#ifndef SERVER_EVENTSTORE_PARTS_H
#define SERVER_EVENTSTORE_PARTS_H

#include "proto/eventstore/commands.h"
#include "proto/eventstore/heartbeat.h"
#include "server/eventstore_service.h"
#include "stream/group.h"
#include "stream/subscription.h"
#include "stream/users.h"

/* More than this unwritten: nothing more is read, no subscription asks for its next page. */
#define ES_UNWRITTEN_MAX (1024u * 1024)
#define ES_FLUSH_SIZE (256u * 1024) /* replies that grow beyond this leave before the turn ends */

/* Somebody who has logged in; counted, of one loop. */
struct es_user {
    uint32_t refs;
    struct stream_user user;
};

struct es_connection {
    struct connection base;
    struct es_service_loop *at;
    struct es_heartbeat heartbeat;
    uint64_t taken;         /* bytes of whole frames, since the connection began */
    uint64_t received;      /* bytes in all */
    uint64_t written;       /* bytes that the peer's side had taken at the last tick */
    struct es_login *own;   /* of Authenticate, for frames without credentials; NULL: anonymous */
    bool refused;           /* the last Authenticate failed */
    bool ended;             /* the peer sends no more */
    struct es_login *login; /* of the last credentials: under way, or what came of it */
    uint32_t in_flight;
    uint64_t in_flight_bytes;
    struct es_request *reads_first, *reads_last; /* wait for their turn */
    uint64_t waiting_bytes;                      /* of these, of in_flight_bytes: not held yet */
    uint32_t reading;                            /* on the pool */
    bool has_turn;
    struct list turn;  /* of the loop */
    struct list feeds; /* of es_feed: those that wait for longest come first */
    uint32_t feeds_count;
    uint32_t feeds_forgotten; /* whose page is to be read again */
    uint32_t feeds_late;      /* which wait for their turn since a page was forgotten */
    uint64_t kept_bytes;      /* of pages that wait for the peer */
    struct es_consumer *consumers;
    uint32_t consumers_count;
    uint64_t acks_waiting; /* bytes that their groups have not come to, as of the last look */
    uint64_t stuck_ms;     /* since when the peer takes nothing; 0: it does, or there is nothing */
    size_t unwritten_before;
    char *name;      /* as it said of itself; NULL */
    bool identified; /* as version 1 or later: else it takes event numbers for 32 bits wide */
};

/* The number of an event as this client understands it: what tombstones have is the largest of all,
 * and would be -1 if half of it were cut off. */
static inline int64_t es_number_for(const struct es_connection *connection, int64_t number)
{
    return connection->identified || number < INT32_MAX ? number : INT32_MAX;
}

/* One frame that is being answered. */
struct es_call {
    struct es_connection *connection;
    const struct es_frame *frame;
    struct chunk *chunk;  /* where it lies */
    struct es_user *user; /* NULL: anonymous, or nobody is asked */
};

/* What stream/ is to check: NULL when nobody is asked. */
const struct stream_user *es_call_user(const struct es_call *call);

/* One request under way. */
struct es_request {
    union {
        struct op op; /* first of all of them */
        struct stream_write write;
        struct stream_read read;
        struct stream_group_call group;
    } as;
    struct es_connection *connection;
    struct es_request *next; /* of the spares, or of the reads that wait */
    struct es_id correlation;
    uint8_t command;
    struct chunk *pinned; /* the bytes it points into */
    struct es_user *user;
    struct stream_filter *filter;
    struct es_list list;             /* of events, as they came */
    struct stream_new_event *events; /* NULL: the one below */
    struct stream_new_event one_event;
    uint64_t bytes;
    int64_t asked; /* the position or transaction id that the reply repeats */
};

/* --- eventstore_service.c --------------------------------------------------------------------- */

/*
 * A request of this call, with its bytes pinned and counted as `bytes` in flight; `as` is zeroed,
 * op.loop and op.task.run set. NULL: no memory; it was answered so.
 */
struct es_request *es_request_new(const struct es_call *call, task_fn *on_done, uint64_t bytes);
/* Gives all of it back. */
void es_request_end(struct es_request *request);

/* Where the reply of a request goes; NULL: nobody is there any more. */
struct buf *es_request_out(struct es_request *request);

/* Answers; no memory for it closes the connection. message: as the command's table says. */
void es_answer(struct es_connection *connection, uint8_t command, const struct es_id *correlation,
               const void *message);
void es_answer_text(struct es_connection *connection, uint8_t command,
                    const struct es_id *correlation, const char *text);
/* The operation failed with an error of kvs/error.h: NotHandled or BadRequest. */
void es_answer_error(struct es_connection *connection, const struct es_id *correlation, int error);
/* A reply that was begun at `begin` of the output could not be written. */
void es_answer_broken(struct es_connection *connection, size_t begin, int error);

/* Decodes the frame's message; false: it is none, and was answered so. */
bool es_call_decode(const struct es_call *call, void *ret_message);
void es_call_refuse(const struct es_call *call, const char *why);

/* Leaves early when much has gathered. */
void es_connection_flush(struct es_connection *connection);
/* To be called when something that a closing connection waits for is gone. */
void es_connection_close_when_done(struct es_connection *connection);

static inline void es_count(_Atomic uint64_t *counter, uint64_t more)
{
    /* relaxed: one writer; readers want a recent number, ordered with nothing. */
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + more, memory_order_relaxed);
}

static inline enum es_operation_result es_operation_result_of(enum stream_outcome outcome)
{
    switch (outcome) {
    case STREAM_OK:
        return ES_SUCCESS;
    case STREAM_DELETED:
        return ES_STREAM_DELETED;
    case STREAM_ACCESS_DENIED:
        return ES_ACCESS_DENIED;
    case STREAM_INVALID_TRANSACTION:
        return ES_INVALID_TRANSACTION;
    default:
        return ES_WRONG_EXPECTED_VERSION;
    }
}

/* --- eventstore_login.c ----------------------------------------------------------------------- */

enum es_who {
    ES_WHO_KNOWN,   /* *ret_user, perhaps NULL */
    ES_WHO_REFUSED, /* wrong credentials */
    ES_WHO_LATER,   /* being asked for: look at the frame again when the connection is checked */
    ES_WHO_FAILED,  /* *ret_error */
};

enum es_who es_who_asks(struct es_connection *connection, const struct es_frame *frame,
                        struct es_user **ret_user, int *ret_error);
bool es_login_is_pending(const struct es_connection *connection);
/* The last credentials, which were right, are the connection's own from now on. */
void es_login_own(struct es_connection *connection);
void es_logins_forget(struct es_connection *connection);

static inline struct es_user *es_user_ref(struct es_user *user)
{
    if (user != NULL)
        user->refs++;
    return user;
}

void es_user_unref(struct es_user *user);

/* --- eventstore_write.c, eventstore_read.c ---------------------------------------------------- */

void es_take_write_events(const struct es_call *call);
void es_take_delete_stream(const struct es_call *call);
void es_take_transaction_start(const struct es_call *call);
void es_take_transaction_write(const struct es_call *call);
void es_take_transaction_commit(const struct es_call *call);

void es_take_read_event(const struct es_call *call);
void es_take_read_stream(const struct es_call *call);
void es_take_read_all(const struct es_call *call);
void es_take_filtered_read_all(const struct es_call *call);

/* A filter as the wire has it. Returns 0, or an error with *ret_why. */
int es_filter_make(const struct es_filter *filter, struct stream_filter **ret_filter,
                   const char **ret_why);
void es_resolved_indexed_fill(const struct es_connection *connection,
                              struct es_resolved_indexed_event *to,
                              const struct stream_event *event);
void es_resolved_fill(const struct es_connection *connection, struct es_resolved_event *to,
                      const struct stream_event *event);

/* --- eventstore_queue.c: reads that are not answered on the spot ------------------------------ */

/* It is read when its turn comes; then its task is called, which calls es_read_done. */
void es_read_wait(struct es_request *request);
void es_read_done(struct es_request *request);
/* The connection may have become able to read more: it joins those that take turns. */
void es_reads_check(struct es_connection *connection);
/* ... and whose turn it is goes on. */
void es_reads_start(struct es_connection *connection);
/* The connection is closed. */
void es_reads_end(struct es_connection *connection);

/* --- eventstore_feed.c: subscriptions to streams and to the log ------------------------------- */

void es_take_subscribe(const struct es_call *call);
void es_take_filtered_subscribe(const struct es_call *call);
/* False: there is no feed with this id. */
bool es_feed_unsubscribe(struct es_connection *connection, const struct es_id *correlation);
/* The peer has taken something, or some time has passed: on with what waits for that. */
void es_feeds_resume(struct es_connection *connection);
void es_feeds_end(struct es_connection *connection);

/* --- eventstore_group.c: persistent subscriptions --------------------------------------------- */

void es_take_create_group(const struct es_call *call);
void es_take_update_group(const struct es_call *call);
void es_take_delete_group(const struct es_call *call);
void es_take_connect_group(const struct es_call *call);
void es_take_group_ack(const struct es_call *call);
void es_take_group_nak(const struct es_call *call);
/* Do so many acknowledgements wait that no more are taken? */
bool es_acks_are_many(const struct es_connection *connection);
/* Some time has passed: they may have been looked at. */
void es_acks_resume(struct es_connection *connection);
bool es_consumer_unsubscribe(struct es_connection *connection, const struct es_id *correlation);
void es_consumers_end(struct es_connection *connection);

/* --- eventstore_admin.c ----------------------------------------------------------------------- */

void es_take_scavenge(const struct es_call *call);
/* A scavenge that runs on this loop is told to stop. */
void es_scavenge_stop(struct es_service_loop *at);
void es_service_loop_done_when_empty(struct es_service_loop *at);

#endif
