/*
 * proto/grpc/grpc.h: gRPC over HTTP/2, both sides, without I/O.
 *
 * A grpc_conn is one end of one connection. Bytes and time go in, bytes, events and the next timer
 * come out; what carries the bytes (a socket, TLS, a test) is the owner's business:
 *
 *   1. the owner reads bytes and calls grpc_conn_receive; events of the calls come from inside;
 *   2. once per turn it calls grpc_conn_run: deadlines, pings, events put off;
 *   3. then grpc_conn_send fills the output buffer with all that is ready to leave;
 *   4. it waits for bytes, or until grpc_conn_timer;
 *   5. when grpc_conn_done, or when the transport ended, it writes what is left, calls
 *      grpc_conn_lost (every open call ends) and grpc_conn_free.
 *
 * A call goes: start (client) or on_call (server), messages both ways in any order, half-close
 * (client), finish (server), on_end (client).
 *
 * Failures. What one call does wrong (size, compression, deadline, cancel) ends that call with a
 * status; what the peer does wrong to HTTP/2 ends the connection: a GOAWAY is left to be sent, and
 * grpc_conn_done becomes true. Out of memory ends the call or, inside HTTP/2, the connection.
 *
 * Thread: one; a connection and its calls belong to one loop. There is no global state.
 *
 * Events are called only from inside grpc_conn_receive, grpc_conn_run and grpc_conn_lost. Inside an
 * event every grpc_call_* function may be called, for any call of the connection; the
 * grpc_conn_* functions that move bytes, run or free may not.
 */
#ifndef PROTO_GRPC_GRPC_H
#define PROTO_GRPC_GRPC_H

#include "proto/grpc/status.h"

#include <stdbool.h>

struct rope;
struct grpc_conn;
struct grpc_call;

/* One metadata entry. Names are lower case; values of names that end in -bin are base64 text, as on
 * the wire. */
struct grpc_header {
    kvs_slice name;
    kvs_slice value;
};

/* How a call ended. The message is borrowed for the event. */
struct grpc_status {
    int code; /* enum grpc_code */
    kvs_slice message;
    bool from_peer;     /* the peer's application said it; otherwise this end concluded it */
    bool not_processed; /* the peer certainly did not see or begin it: safe to send elsewhere */
};

/*
 * The events. NULL members are not called. `user` of a call is the owner's pointer.
 *
 * A call handle is the owner's from grpc_call_start or on_call until one of: grpc_call_finish or
 * grpc_call_cancel is called, on_end returns. After that it must not be used, and no event comes
 * for it. Slices are borrowed for the event.
 */
struct grpc_events {
    /* Server: a call has come. Path and metadata can be read, the answer may begin at once. */
    void (*on_call)(struct grpc_conn *conn, struct grpc_call *call);
    /* Client: the peer's first metadata came (not in an answer that is only a status). */
    void (*on_headers)(struct grpc_call *call);
    /* One whole message. */
    void (*on_message)(struct grpc_call *call, kvs_slice message);
    /* Server: the peer sends no more messages. */
    void (*on_half_close)(struct grpc_call *call);
    /* Client: the call is over. Server: it ended before grpc_call_finish: cancelled by the peer,
     * deadline, limit, connection lost. Exactly once, the last event. */
    void (*on_end)(struct grpc_call *call, const struct grpc_status *status);
    /* After grpc_call_send returned BUSY: there is room again. */
    void (*on_writable)(struct grpc_call *call);
    /* Client: the peer takes no new calls on this connection; open ones may go on. */
    void (*on_goaway)(struct grpc_conn *conn);
};

/* Limits; 0 takes the default, which is given. */
struct grpc_config {
    const struct grpc_events *events; /* outlives the connection */
    void *user;

    uint32_t calls_max;          /* server: calls the peer may have open: 4096 */
    uint32_t calls_waiting_max;  /* client: calls over the peer's limit that wait here: 65536 */
    uint32_t message_bytes_max;  /* a received message: 64 MiB */
    uint32_t metadata_bytes_max; /* all headers of a received call: 16 KiB */
    uint32_t call_window_bytes;  /* what the peer may send ahead per call: 1 MiB */
    uint32_t connection_window_bytes; /* and in all: 16 MiB */
    size_t assembling_bytes_max;      /* incomplete messages of all calls: 256 MiB */
    size_t held_bytes_max;       /* bytes of paused calls before the whole peer waits: 16 MiB */
    size_t send_queue_bytes_max; /* per call; at or above it grpc_call_send says BUSY: 1 MiB */
    uint32_t ping_interval_ms;   /* silence after which a ping is sent; 0: never */
    uint32_t ping_timeout_ms;    /* silence after a ping that ends the connection: 3000 */
    const char *authority;       /* client: host:port for :authority; copied; "localhost" */
    const char *user_agent;      /* client: copied; none: each field costs time */
    bool tls;                    /* client: :scheme https */
};

/* --- connection --- */

/* Returns 0 or NO_MEMORY. The time is monotonic milliseconds, as everywhere here. */
int grpc_conn_new_server(const struct grpc_config *config, uint64_t now_ms,
                         struct grpc_conn **ret_conn);
int grpc_conn_new_client(const struct grpc_config *config, uint64_t now_ms,
                         struct grpc_conn **ret_conn);

/* Frees it; runs grpc_conn_lost first. NULL is fine. */
void grpc_conn_free(struct grpc_conn *conn);

/* Takes all of `bytes` (borrowed for the call). Returns 0, or PROTOCOL or NO_MEMORY: then the
 * connection is done; grpc_conn_send may still have a GOAWAY. */
int grpc_conn_receive(struct grpc_conn *conn, uint64_t now_ms, kvs_slice bytes);

/* Passes time and delivers events that were put off. Returns 0, or TIMEOUT when the peer left a
 * ping unanswered: the connection is dead. */
int grpc_conn_run(struct grpc_conn *conn, uint64_t now_ms);

/* Appends what is ready to leave to `out`; stops once out->size >= size_max (and may pass that by
 * one frame, 16 KiB). Returns 0 or NO_MEMORY, PROTOCOL: the connection is done. */
int grpc_conn_send(struct grpc_conn *conn, struct buf *out, size_t size_max);

/* Is there more to send? After grpc_conn_send: it stopped at size_max. An owner whose output the
 * peer does not take stops calling grpc_conn_receive: that bounds what gathers here. */
bool grpc_conn_wants_send(const struct grpc_conn *conn);

/* Bytes of received messages that are incomplete, or of paused calls. */
size_t grpc_conn_received_bytes(const struct grpc_conn *conn);

/* Bytes of messages to send that wait for the peer's windows, also of calls that are finished: the
 * owner bounds them by beginning no more calls. And how many have left since the beginning. */
size_t grpc_conn_queued_bytes(const struct grpc_conn *conn);
uint64_t grpc_conn_sent_bytes(const struct grpc_conn *conn);

/* When grpc_conn_run must be called next; UINT64_MAX: when bytes come. A time in the past: soon. */
uint64_t grpc_conn_timer(const struct grpc_conn *conn);

/* Nothing left to read or write, after an error or a graceful end. */
bool grpc_conn_done(const struct grpc_conn *conn);

/* The transport is gone: every open call ends with UNAVAILABLE and `reason` (borrowed). Nothing may
 * be started afterwards; only grpc_conn_free remains. */
void grpc_conn_lost(struct grpc_conn *conn, const char *reason);

/*
 * Graceful end. Server: tells the peer to start no more calls, takes those already on their way,
 * goes on with all of them. Client: starts no more. grpc_conn_done becomes true when the last call
 * is over and all is sent.
 */
void grpc_conn_shutdown(struct grpc_conn *conn);
/* Of a server that shuts down: what was on its way has come. */
bool grpc_conn_takes_no_more(const struct grpc_conn *conn);

/* Client: may a call be started now (no GOAWAY, not lost, the waiting room not full)? */
bool grpc_conn_accepts_calls(const struct grpc_conn *conn);

/* Calls open or waiting, both sides. */
size_t grpc_conn_calls(const struct grpc_conn *conn);

void *grpc_conn_user(const struct grpc_conn *conn);

/* Why the connection ended, for the log; "" while there is no reason. The connection owns it. */
const char *grpc_conn_error_text(const struct grpc_conn *conn);
/* The peer has said that it goes; and because of an error, which the text above tells. */
bool grpc_conn_peer_goes(const struct grpc_conn *conn);
bool grpc_conn_peer_refuses(const struct grpc_conn *conn);

/* --- calls, both sides --- */

void grpc_call_set_user(struct grpc_call *call, void *user);
void *grpc_call_user(const struct grpc_call *call);
struct grpc_conn *grpc_call_conn(const struct grpc_call *call);

/* Absolute, on the connection's clock; UINT64_MAX: none. */
uint64_t grpc_call_deadline_ms(const struct grpc_call *call);

/* Received metadata without the fields of gRPC itself (client: of headers and trailers together).
 * Valid until the handle dies. The first entry of a name, or data NULL. */
size_t grpc_call_metadata_count(const struct grpc_call *call);
struct grpc_header grpc_call_metadata(const struct grpc_call *call, size_t index);
kvs_slice grpc_call_metadata_find(const struct grpc_call *call, kvs_slice name);

/*
 * Queues one message, copied. Returns 0; BUSY when the call's queue is full (nothing queued,
 * on_writable will come); TOO_LARGE over 4 GiB; NO_MEMORY; INVALID_ARGUMENT after the half-close.
 */
int grpc_call_send(struct grpc_call *call, kvs_slice message);

/* The same without the copy: *ret_room takes exactly `size` bytes, which must be written before any
 * other function of the connection is called. */
int grpc_call_send_room(struct grpc_call *call, size_t size, uint8_t **ret_room);

/* The same of a large message, whose body comes between two short parts: its pieces are taken, not
 * copied, and freed as they leave. After an error the body is still the caller's. */
int grpc_call_send_rope(struct grpc_call *call, kvs_slice head, struct rope *body, kvs_slice tail);

/* Bytes queued that HTTP/2 has not taken yet. */
size_t grpc_call_send_queued(const struct grpc_call *call);

/*
 * While paused no message is delivered, and the peer may send at most the call's window; resumed,
 * they come from the next grpc_conn_run. Deadline and cancellation end a paused call all the same.
 */
void grpc_call_pause(struct grpc_call *call);
void grpc_call_resume(struct grpc_call *call);

/* --- client --- */

struct grpc_call_options {
    kvs_slice path;                    /* "/package.Service/Method" */
    uint64_t deadline_ms;              /* absolute; 0: none */
    const struct grpc_header *headers; /* copied */
    size_t header_count;
    bool one_reply; /* exactly one message must come with OK; else the call ends INTERNAL */
    void *user;
};

/* Returns 0; CLOSED when the connection takes no more calls, BUSY when too many wait,
 * INVALID_ARGUMENT for a path or header that cannot be sent, NO_MEMORY. */
int grpc_call_start(struct grpc_conn *conn, const struct grpc_call_options *options,
                    struct grpc_call **ret_call);

/* No more messages from this end. */
void grpc_call_half_close(struct grpc_call *call);

/* Gives the call up: no event comes any more, the handle is dead. Also on the server, where it
 * resets the stream without a status. */
void grpc_call_cancel(struct grpc_call *call);

/* --- server --- */

/* As the peer sent it. Valid until the handle dies. */
kvs_slice grpc_call_path(const struct grpc_call *call);

/* Has the whole request come? Also while the call is paused, and has not been told. */
bool grpc_call_has_request(const struct grpc_call *call);

/* Said in on_call: exactly one request message is due; anything else is answered INTERNAL. */
void grpc_call_expect_one(struct grpc_call *call);

/* Sends the headers with `headers` (copied) now; without it they leave with the first message.
 * INVALID_ARGUMENT when they have left. */
int grpc_call_send_headers(struct grpc_call *call, const struct grpc_header *headers, size_t count);

/*
 * Ends the call after what was queued with a status; `message` and `trailers` are copied. The
 * handle is dead, whatever happens: without memory for the text the code goes alone.
 */
void grpc_call_finish(struct grpc_call *call, int code, kvs_slice message);
void grpc_call_finish_with(struct grpc_call *call, int code, kvs_slice message,
                           const struct grpc_header *trailers, size_t count);

#endif
