/*
 * proto/grpc/conn.h: what the files of this folder share: the structs behind the handles.
 *
 *   conn.c    life of the connection: new, receive, run, send, lost, shutdown
 *   session.c what nghttp2 calls: header fields, data, ends of streams
 *   call.c    what the owner calls on a call, and the sending half of it
 *   pool.c    memory for nghttp2
 *   read.c    the receiving half: messages out of bytes, credit, end of a call
 *
 * A call's struct lives while its stream does or while the owner has the handle (owned); when both
 * are over call_release puts it on the free list.
 */
#ifndef PROTO_GRPC_CONN_H
#define PROTO_GRPC_CONN_H

#include "base/heap.h"
#include "base/list.h"
#include "base/rope.h"
#include "proto/grpc/message.h"
#include "proto/grpc/metadata.h"
#include "proto/grpc/pool.h"

#define NO_STREAM (-1)

struct grpc_call {
    struct grpc_conn *conn;
    struct list in_calls;   /* conn->calls, or conn->free_calls */
    struct list in_ready;   /* conn->ready: events put off to grpc_conn_run */
    struct list in_waiting; /* conn->waiting: client, no stream yet */
    struct heap_node deadline;
    uint64_t deadline_ms; /* UINT64_MAX: none */
    void *user;
    int32_t stream_id;

    bool owned;         /* the owner has the handle: events may be called */
    bool announced;     /* server: on_call was called */
    bool one_message;   /* exactly one received message is due */
    bool headers_sent;  /* server: HEADERS were submitted. Client: the request was. */
    bool on_wire;       /* client: the request's HEADERS left */
    bool headers_seen;  /* client: the answer's HEADERS came */
    bool closing;       /* nothing more is queued: half-close, or finish */
    bool trailers_due;  /* server: a status follows the queue */
    bool deferred;      /* nghttp2 asked for bytes and there were none */
    bool want_writable; /* BUSY was said */
    bool paused;
    bool peer_closed;      /* END_STREAM came */
    bool peer_close_told;  /* and the owner knows */
    bool metadata_too_big; /* headers over the limit */
    bool timeout_bad;      /* grpc-timeout cannot be read */
    bool ended;            /* end_* below hold how it ended, to be told by run */
    bool pinned;           /* in use further up the stack: must not be released */
    bool end_not_processed;

    uint16_t http_status;
    bool content_type_ok;
    bool method_ok;
    bool status_seen;
    int status_code;             /* received (client) or to be sent (server) */
    struct buf status_text;      /* received and decoded, or to be sent and encoded */
    struct header_copy *to_send; /* client: of a waiting call; server: trailers */

    struct buf send; /* framed messages */
    size_t send_offset;
    struct rope send_more; /* ... behind those, from one on that came as a rope */
    size_t frame_pending;  /* promised to nghttp2 in a DATA frame that is not written yet */
    struct buf recv;       /* begins with a message prefix; incomplete, or paused */
    size_t held_bytes;     /* received while paused, not credited to the stream */
    uint64_t messages_received;

    nghttp2_rcbuf *path;
    struct metadata metadata;
    size_t metadata_bytes;
};

struct grpc_conn {
    nghttp2_session *session;
    struct grpc_config config; /* defaults filled in */
    struct grpc_events events;
    char *authority;
    char *user_agent;
    bool server;
    bool lost;
    bool failed;  /* given up: the GOAWAY with the reason has left, or error is set */
    bool sending; /* inside nghttp2_session_mem_send: events are put off */
    bool goaway_received;
    bool goaway_is_error; /* it gave another code than NO_ERROR */
    bool shutting_down;
    bool shutdown_final; /* the GOAWAY with the last stream was submitted */
    bool ids_used_up;
    bool ping_outstanding;

    uint64_t now_ms;
    uint64_t received_ms; /* last sign of life */
    uint64_t pinged_ms;
    uint64_t shutdown_ms;

    struct list calls;
    struct list ready;
    struct list waiting;
    struct list free_calls;
    size_t calls_count;
    size_t waiting_count;
    size_t free_count;
    size_t streams_open; /* client: submitted and not closed */
    struct heap deadlines;

    struct grpc_call *header_call; /* whose header block is being read; NULL: nobody's */
    struct pool pool;              /* nghttp2's small memory */

    size_t queued_bytes;    /* in send of all calls */
    uint64_t sent_bytes;    /* that were in send, and left */
    size_t buffered_bytes;  /* in recv of all calls */
    size_t held_bytes;      /* of all calls */
    size_t credit_withheld; /* of the connection's window, while held_bytes is over the limit */

    struct buf *out; /* during grpc_conn_send */
    size_t out_size_max;
    int error; /* fatal: nothing can be received or sent any more */
    char error_text[160];
};

/* --- conn.c --- */

/* The connection is over; `error` 0: a GOAWAY says so. The first text stays. */
void conn_fail(struct grpc_conn *conn, int error, const char *text);
void conn_on_ping_answered(struct grpc_conn *conn, const uint8_t opaque[8]);
/* A call from the free list or fresh, in conn->calls, not owned. NULL without memory. */
struct grpc_call *call_new(struct grpc_conn *conn);
/* Gives the struct back when neither stream nor owner needs it. */
void call_release(struct grpc_call *call);
void call_put_off(struct grpc_call *call); /* to the ready list */

/* --- session.c --- */

/* Fills the callbacks in. Returns 0 or NO_MEMORY. */
int session_callbacks_new(nghttp2_session_callbacks **ret_callbacks);

/* --- call.c --- */

/* Client: starts waiting calls while the peer allows more streams. */
void conn_start_waiting(struct grpc_conn *conn);
/* Is (or may become) the deadline of the call? */
int call_set_deadline(struct grpc_call *call, uint64_t deadline_ms);
/* RST_STREAM, if there is a stream. */
void call_reset(struct grpc_call *call, uint32_t http2_error);
/* Server: queues status and trailers behind what is queued. */
void call_submit_status(struct grpc_call *call, int code, kvs_slice message);
/* Server: answers with a bare HTTP status. */
void call_submit_http_status(struct grpc_call *call, const char *http_status);
/* This end gives the call up: the peer gets a status (server) or a reset, the owner on_end. */
void call_fail(struct grpc_call *call, int code, const char *text);
/* nghttp2 writes bytes that it has taken, of any stream. */
int call_on_write_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                       size_t size, nghttp2_data_source *source, void *arg);

/* --- read.c --- */

/* Bytes of a DATA frame. */
void call_on_data(struct grpc_call *call, kvs_slice bytes);
/* Delivers what can be: messages, half-close, the end of the peer's side. */
void call_read(struct grpc_call *call);
/* The owner's last event; the handle is dead afterwards. Not inside nghttp2_session_mem_send. */
void call_end(struct grpc_call *call, const struct grpc_status *status);
void call_end_text(struct grpc_call *call, int code, const char *text, bool not_processed);
/* Drops received bytes and their accounting. */
void call_drop_received(struct grpc_call *call);

#endif
