/*
 * proto/kvs/server_session.h: the server's end of one kvs connection, without I/O.
 *
 * 1. The connection gives the bytes it has to server_session_next, which takes one item off their
 *    begin and says what it was; what the session answers by itself goes to `out`.
 * 2. A request is counted in flight from server_session_begin to server_session_end.
 * 3. server_session_wants_bytes says whether to go on; while it does not, the socket is not read.
 * 4. server_session_check_time says whether the connection has outlived a time-out.
 *
 * Failure: no memory for an answer ends the session, as losing one answer would leave the client
 * waiting. Thread: the connection's loop.
 */
#ifndef PROTO_KVS_SERVER_SESSION_H
#define PROTO_KVS_SERVER_SESSION_H

#include "proto/foreign.h"
#include "proto/kvs/wire.h"

#define SERVER_SESSION_HELLO_TIMEOUT_MS 10000u

enum server_session_state {
    SERVER_SESSION_HELLO, /* waits for the client's */
    SERVER_SESSION_OPEN,
    SERVER_SESSION_DRAINING, /* GOAWAY said or the client's direction closed: takes no requests */
    SERVER_SESSION_FAILED,   /* to be closed when `out` is written */
};

struct server_session_options {
    struct wire_limits limits;
    uint32_t idle_timeout_ms;     /* 0: none */
    uint32_t slow_timeout_ms;     /* replies are unread for so long; 0: none */
    uint64_t unwritten_bytes_max; /* of replies, before reading stops */
    uint32_t large_max;           /* requests under way whose replies may be large, likewise */
};

struct server_session {
    const struct server_session_options *options; /* shared by all sessions of a server */
    enum server_session_state state;
    int error;            /* why it failed: VERSION, PROTOCOL, BUSY, NO_MEMORY */
    enum foreign foreign; /* PROTOCOL: what the peer speaks instead, if that is known */
    uint32_t in_flight;
    uint32_t large; /* of them: their replies may be as large as a value or a batch */
    uint32_t scans;
    uint64_t in_flight_bytes;
    bool going;          /* GOAWAY was said, and is to be said again at the end */
    uint64_t skip_bytes; /* rest of the body of a frame that was too large */
    uint64_t opened_ms;
    uint64_t active_ms; /* last whole request */
    uint64_t
        write_stuck_ms; /* since when replies have been waiting for the peer; 0: they are not */
};

enum server_session_item {
    SERVER_SESSION_NEEDS_BYTES, /* nothing whole is left */
    SERVER_SESSION_REQUEST,     /* ret->frame, an opcode of enum kvs_op_kind or one unknown */
    SERVER_SESSION_CONTROL,     /* ret->frame: CANCEL or CREDIT */
    SERVER_SESSION_ANSWERED,    /* the session dealt with it: go on */
    SERVER_SESSION_ENDED,       /* state FAILED or DRAINING: no further bytes are looked at */
};

struct server_session_input {
    struct wire_frame frame;
    size_t taken;  /* bytes of the input that are done with */
    size_t wanted; /* NEEDS_BYTES: size of the unfinished item, header and all; 0 when none begun */
};

void server_session_init(struct server_session *session,
                         const struct server_session_options *options, uint64_t now_ms);

enum server_session_item server_session_next(struct server_session *session, kvs_slice in,
                                             uint64_t now_ms, struct buf *out,
                                             struct server_session_input *ret);

/* Answers the hello to come, or already there, with a refusal (BUSY), and ends. */
void server_session_refuse(struct server_session *session, int status, struct buf *out);

/* Says GOAWAY and takes no more requests. */
void server_session_drain(struct server_session *session, struct buf *out);

/* Says GOAWAY again, when it was said and all is answered: the last bytes before closing. */
void server_session_finish(struct server_session *session, struct buf *out);

/* The client closed its direction. */
void server_session_end_of_input(struct server_session *session);

/* `large`: the reply may be as large as a value or a batch. */
static inline void server_session_begin(struct server_session *session, size_t bytes, bool large)
{
    session->in_flight++;
    session->in_flight_bytes += bytes;
    session->large += large;
}

static inline void server_session_end(struct server_session *session, size_t bytes, bool large)
{
    session->in_flight--;
    session->in_flight_bytes -= bytes;
    session->large -= large;
}

/* May another request be taken? unwritten: bytes of replies not yet taken by the socket. */
static inline bool server_session_wants_bytes(const struct server_session *session,
                                              uint64_t unwritten_bytes)
{
    const struct server_session_options *options = session->options;
    return session->state <= SERVER_SESSION_OPEN &&
           session->in_flight < options->limits.in_flight_max &&
           session->large < options->large_max &&
           session->in_flight_bytes < options->limits.in_flight_bytes_max &&
           unwritten_bytes < options->unwritten_bytes_max;
}

/* Is there nothing left to wait for before closing? */
static inline bool server_session_is_done(const struct server_session *session)
{
    return session->state == SERVER_SESSION_FAILED ||
           (session->state == SERVER_SESSION_DRAINING && session->in_flight == 0 &&
            session->scans == 0);
}

/* Tells whether replies are waiting for the peer to read, and when that changes. */
void server_session_note_unwritten(struct server_session *session, uint64_t unwritten_bytes,
                                   bool progress, uint64_t now_ms);

/* NULL, or why the connection is to be closed now ("idle for 60 s", say). */
const char *server_session_check_time(const struct server_session *session, uint64_t now_ms);

#endif
