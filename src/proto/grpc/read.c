/*
 * proto/grpc/read.c: the receiving half of a call.
 *
 *   1. bytes of a DATA frame come; whole messages in them are delivered where they lie;
 *   2. the rest (an incomplete message, or everything while the call is paused) waits in recv;
 *   3. what was delivered is credited to the peer; what waits for a paused call is not;
 *   4. after the last message the peer's half-close or status is told.
 *
 * Failure modes: a message over the limit, compressed or cut short, one too many or too few: the
 * call ends with a status. Bytes of a call that is over are credited and dropped.
 */
#include "proto/grpc/conn.h"

#include <assert.h>
#include <kvs/error.h>

/* --- credit --- */

/* Credits bytes of the connection's window, unless paused calls hold too many. */
static void conn_credit(struct grpc_conn *conn, size_t size)
{
    conn->credit_withheld += size;
    if (conn->credit_withheld == 0 || conn->lost || conn->held_bytes > conn->config.held_bytes_max)
        return;
    (void)nghttp2_session_consume_connection(conn->session, conn->credit_withheld);
    conn->credit_withheld = 0;
}

static void call_credit(struct grpc_call *call, size_t size)
{
    if (size > 0 && call->stream_id != NO_STREAM && !call->conn->lost)
        (void)nghttp2_session_consume_stream(call->conn->session, call->stream_id, size);
}

static void call_unhold(struct grpc_call *call, size_t size)
{
    size = size < call->held_bytes ? size : call->held_bytes;
    if (size == 0)
        return;
    call->held_bytes -= size;
    call->conn->held_bytes -= size;
    call_credit(call, size);
    conn_credit(call->conn, 0);
}

/* --- messages --- */

/* Acts on what message_parse found. Returns whether to go on with the next. */
static bool call_take_parsed(struct grpc_call *call, enum message_parsed parsed, kvs_slice message)
{
    static const struct grpc_header identity = {
        .name = {(const uint8_t *)"grpc-accept-encoding", 20},
        .value = {(const uint8_t *)"identity", 8}};
    struct grpc_conn *conn = call->conn;
    switch (parsed) {
    case MESSAGE_WHOLE:
        if (call->one_message && call->messages_received > 0) {
            call_fail(call, GRPC_INTERNAL, "more than one message where one is due");
            return false;
        }
        call->messages_received++;
        if (conn->events.on_message != NULL)
            conn->events.on_message(call, message);
        return true;
    case MESSAGE_COMPRESSED:
        if (conn->server && call->to_send == NULL) /* without memory it goes without the hint */
            call->to_send = header_copy_new(slice_make(NULL, 0), &identity, 1);
        call_fail(call, conn->server ? GRPC_UNIMPLEMENTED : GRPC_INTERNAL,
                  "compressed messages are not supported");
        return false;
    case MESSAGE_BAD_FLAG:
        call_fail(call, GRPC_INTERNAL, "malformed message prefix");
        return false;
    case MESSAGE_TOO_LARGE:
        call_fail(call, GRPC_RESOURCE_EXHAUSTED, "message too large");
        return false;
    case MESSAGE_MORE:
        return false;
    }
    return false;
}

/* Delivers the whole messages at the begin of `bytes`. Returns how many bytes those were. */
static size_t call_deliver(struct grpc_call *call, kvs_slice bytes)
{
    size_t done = 0;
    while (call->owned && !call->paused && done < bytes.size) {
        kvs_slice message = {0};
        size_t used = 0;
        enum message_parsed parsed =
            message_parse(slice_make(bytes.data + done, bytes.size - done),
                          call->conn->config.message_bytes_max, &message, &used);
        done += used;
        if (!call_take_parsed(call, parsed, message))
            break;
    }
    return done;
}

/* Puts bytes aside that cannot be delivered yet. */
static void call_keep(struct grpc_call *call, kvs_slice bytes)
{
    struct grpc_conn *conn = call->conn;
    if (bytes.size == 0)
        return;
    if (!call->paused && conn->buffered_bytes + bytes.size > conn->config.assembling_bytes_max) {
        call_fail(call, GRPC_RESOURCE_EXHAUSTED, "too many incomplete messages");
    } else if (buf_append_slice(&call->recv, bytes) != 0) {
        call_fail(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else {
        conn->buffered_bytes += bytes.size;
    }
}

void call_on_data(struct grpc_call *call, kvs_slice bytes)
{
    struct grpc_conn *conn = call->conn;
    assert(call->stream_id != NO_STREAM);
    bool direct = call->recv.size == 0;
    size_t done = direct ? call_deliver(call, bytes) : 0;
    if (call->owned)
        call_keep(call, slice_make(bytes.data + done, bytes.size - done));
    if (call->owned && call->paused) {
        call->held_bytes += bytes.size - done;
        conn->held_bytes += bytes.size - done;
        call_credit(call, done);
    } else {
        call_credit(call, bytes.size);
    }
    conn_credit(conn, bytes.size);
    if (call->owned && !direct)
        call_read(call);
}

/* --- the end --- */

static void call_tell_end(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    call->peer_close_told = true;
    if (conn->server) {
        if (call->one_message && call->messages_received == 0)
            call_fail(call, GRPC_INTERNAL, "no message where one is due");
        else if (conn->events.on_half_close != NULL)
            conn->events.on_half_close(call);
        return;
    }
    if (call->status_code == GRPC_OK && call->one_message && call->messages_received == 0) {
        call_fail(call, GRPC_INTERNAL, "no message where one is due");
        return;
    }
    if (call->stream_id != NO_STREAM &&
        nghttp2_session_get_stream_local_close(conn->session, call->stream_id) == 0)
        call_reset(call, NGHTTP2_CANCEL); /* what this end still wanted to say is not wanted */
    const struct grpc_status status = {.code = call->status_code,
                                       .message = buf_slice(&call->status_text),
                                       .from_peer = call->status_seen};
    call_end(call, &status);
}

void call_read(struct grpc_call *call)
{
    if (call->pinned)
        return;
    call->pinned = true;
    size_t done = call_deliver(call, buf_slice(&call->recv));
    if (call->owned) {
        buf_consume(&call->recv, done);
        call->conn->buffered_bytes -= done;
        call_unhold(call, call->paused ? done : call->held_bytes);
    }
    if (call->owned && !call->paused && call->peer_closed && !call->peer_close_told) {
        if (call->recv.size > 0 && (call->conn->server || call->status_code == GRPC_OK))
            call_fail(call, GRPC_INTERNAL, "a message was cut short");
        else
            call_tell_end(call);
    }
    call->pinned = false;
    call_release(call);
}

void call_drop_received(struct grpc_call *call)
{
    call->conn->buffered_bytes -= call->recv.size;
    buf_clear(&call->recv); /* not freed: a message being delivered may lie in it */
    call_unhold(call, call->held_bytes);
}

void call_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct grpc_conn *conn = call->conn;
    if (!call->owned)
        return;
    assert(!conn->sending);
    call->owned = false;
    heap_remove(&conn->deadlines, &call->deadline);
    bool pinned = call->pinned;
    call->pinned = true; /* the handle is good until the event returns */
    if (conn->events.on_end != NULL)
        conn->events.on_end(call, status);
    call->pinned = pinned;
    call_release(call);
}

void call_end_text(struct grpc_call *call, int code, const char *text, bool not_processed)
{
    if (call->conn->sending) {
        call->ended = true;
        call->status_code = code;
        call->end_not_processed = not_processed;
        buf_clear(&call->status_text);
        (void)buf_printf(&call->status_text, "%s", text);
        call_put_off(call);
        return;
    }
    const struct grpc_status status = {
        .code = code, .message = slice_of_string(text), .not_processed = not_processed};
    call_end(call, &status);
}
