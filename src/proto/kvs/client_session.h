/*
 * proto/kvs/client_session.h: the client's end of one kvs connection, without I/O.
 *
 * 1. client_session_init appends the hello to `out`.
 * 2. The connection gives the bytes it has to client_session_next, again and again until it answers
 *    NEEDS_BYTES: first comes HELLO with the server's limits, then REPLY for replies.
 * 3. client_session_send gives an op an id, appends its request and remembers it (the op itself is
 *    only borrowed, and read again when its reply is decoded).
 * 4. The last reply of an op takes it off the table. After a loss client_session_take_pending gives
 *    those that had no answer; after two GOING they are known not to have been
 *    carried out.
 *
 * Failure: KVS_ERR_PROTOCOL, VERSION, BUSY or NO_MEMORY in session->error; the connection is then
 * to be closed. Deadlines are the owner's. Thread: the connection's loop.
 */
#ifndef PROTO_KVS_CLIENT_SESSION_H
#define PROTO_KVS_CLIENT_SESSION_H

#include "proto/kvs/wire.h"

/* Bytes of a scan that may be on their way: given at its begin, and again as frames are taken. */
#define CLIENT_SESSION_SCAN_WINDOW (1024u * 1024)

enum client_session_state {
    CLIENT_SESSION_HELLO,
    CLIENT_SESSION_OPEN,
    CLIENT_SESSION_GOAWAY, /* the server takes no more requests; replies still come */
    CLIENT_SESSION_FAILED,
};

struct client_session_call {
    kvs_op *op;          /* NULL: free, or given up with its reply still to come */
    uint64_t size_bytes; /* of its request */
    uint32_t generation; /* upper half of the id */
    uint32_t next_free;
    uint32_t scan_taken; /* bytes of a scan taken since the last credit */
    uint8_t opcode;
    bool used;
};

struct client_session {
    enum client_session_state state;
    int error;
    uint16_t version;
    struct wire_limits limits;         /* the server's, from HELLO on */
    struct client_session_call *calls; /* by the lower 16 bits of the id */
    uint32_t calls_capacity;
    uint32_t free_first;
    uint32_t in_flight;
    uint32_t scans;
    uint64_t in_flight_bytes;
    uint32_t take_next; /* of client_session_take_pending */
};

enum client_session_item {
    CLIENT_SESSION_NEEDS_BYTES, /* nothing whole is left */
    CLIENT_SESSION_OPENED,      /* the server's hello: limits are known; requests may be sent */
    CLIENT_SESSION_REPLY,       /* ret->op, ret->frame, ret->last */
    CLIENT_SESSION_IGNORED,     /* a reply nobody waits for any more: go on */
    CLIENT_SESSION_GOING, /* GOAWAY came; a second one: all that the server read is answered */
    CLIENT_SESSION_ENDED, /* FAILED: session->error; no further bytes are looked at */
};

struct client_session_input {
    struct wire_frame frame; /* decode with wire_reply_decode; valid as long as the bytes given */
    kvs_op *op;
    bool last;     /* no further frame for this op: it is off the table */
    size_t taken;  /* bytes of the input that are done with */
    size_t wanted; /* NEEDS_BYTES: size of the unfinished item, header and all; 0 when none begun */
};

/* Returns 0 or KVS_ERR_NO_MEMORY. */
int client_session_init(struct client_session *session, struct buf *out);
void client_session_deinit(struct client_session *session);

/* `out` gets credits for scans. */
enum client_session_item client_session_next(struct client_session *session, kvs_slice in,
                                             struct buf *out, struct client_session_input *ret);

/* Does the server's window have room for this op now? (Else wait for a reply.) */
bool client_session_has_room(const struct client_session *session, const kvs_op *op);

/*
 * Appends the request. Returns 0; KVS_ERR_BUSY when there is no room or no hello yet, CLOSED after
 * GOAWAY or failure, TOO_LARGE over the server's limits, NO_MEMORY: then nothing has changed.
 */
int client_session_send(struct client_session *session, kvs_op *op, uint32_t *ret_id,
                        struct buf *out);

/* Gives the op of an id up: asks the server to cancel it, and forgets the op at once; a reply to
 * come is ignored. Returns 0 or KVS_ERR_NO_MEMORY (forgotten nonetheless). */
int client_session_cancel(struct client_session *session, uint32_t id, struct buf *out);

/* After the connection is lost: the next op without its last reply, taken off; NULL when none is
 * left. */
kvs_op *client_session_take_pending(struct client_session *session);

#endif
