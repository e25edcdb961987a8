/*
 * proto/grpc/session.c: what nghttp2 calls while it takes or writes frames.
 *
 * A call as the server sees it: begin_headers makes the struct, header fills it, the end of HEADERS
 * checks it and announces it; DATA goes to read.c; END_STREAM is the half-close; the close of the
 * stream gives the struct back. As the client sees it: the answer's HEADERS, DATA, trailers with
 * the status.
 *
 * nghttp2 has checked what RFC 9113 asks of a request and an answer (pseudo fields, case, order,
 * one set of trailers); a stream that breaks it is reset by nghttp2 and closes here.
 */
#include "proto/grpc/conn.h"
#include "proto/grpc/timeout.h"

#include <kvs/error.h>
#include <stdio.h>

#define HEADER_OVERHEAD 32 /* per field, as RFC 9113 counts SETTINGS_MAX_HEADER_LIST_SIZE */

static bool equal(kvs_slice slice, const char *literal, size_t size)
{
    return slice.size == size && memcmp(slice.data, literal, size) == 0;
}
#define EQUAL(slice, literal) equal(slice, literal, sizeof(literal) - 1)

static struct grpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

/* --- header fields --- */

static int session_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct grpc_conn *conn = arg;
    conn->header_call = NULL;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    if (!conn->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        conn->header_call = call_of(session, frame->hd.stream_id);
        return 0;
    }
    struct grpc_call *call = call_new(conn);
    if (call == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    call->stream_id = frame->hd.stream_id;
    conn->header_call = call;
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

/* "application/grpc", alone or with a subtype or parameters. */
static bool content_type_is_grpc(kvs_slice value)
{
    static const char type[] = "application/grpc";
    const size_t size = sizeof type - 1;
    return value.size >= size && memcmp(value.data, type, size) == 0 &&
           (value.size == size || value.data[size] == '+' || value.data[size] == ';');
}

static void call_take_timeout(struct grpc_call *call, kvs_slice value)
{
    uint64_t timeout_ms;
    if (grpc_timeout_parse(value, &timeout_ms) != 0)
        call->timeout_bad = true;
    else
        call->deadline_ms = call->conn->now_ms + timeout_ms;
}

/* Takes a pseudo field or a field of gRPC itself; false: it is metadata. */
static bool request_take_field(struct grpc_call *call, kvs_slice name, kvs_slice value,
                               nghttp2_rcbuf *value_rcbuf)
{
    if (name.data[0] == ':') {
        if (EQUAL(name, ":path") && call->path == NULL) {
            nghttp2_rcbuf_incref(value_rcbuf);
            call->path = value_rcbuf;
        } else if (EQUAL(name, ":method")) {
            call->method_ok = EQUAL(value, "POST");
        }
        return true;
    }
    if (EQUAL(name, "content-type"))
        call->content_type_ok = content_type_is_grpc(value);
    else if (EQUAL(name, "grpc-timeout"))
        call_take_timeout(call, value);
    else
        return EQUAL(name, "te") || (name.size > 5 && memcmp(name.data, "grpc-", 5) == 0);
    return true;
}

static bool answer_take_field(struct grpc_call *call, kvs_slice name, kvs_slice value)
{
    if (name.data[0] == ':') {
        if (EQUAL(name, ":status") && value.size == 3) /* nghttp2 checked the digits */
            call->http_status = (uint16_t)((value.data[0] - '0') * 100 +
                                           (value.data[1] - '0') * 10 + (value.data[2] - '0'));
        return true;
    }
    if (EQUAL(name, "content-type")) {
        call->content_type_ok = content_type_is_grpc(value);
    } else if (EQUAL(name, "grpc-status")) {
        call->status_code = grpc_code_parse(value);
        call->status_seen = true;
    } else if (EQUAL(name, "grpc-message")) {
        buf_clear(&call->status_text);
        (void)grpc_message_decode(&call->status_text, value); /* without memory: no text */
    } else {
        return name.size > 5 && memcmp(name.data, "grpc-", 5) == 0;
    }
    return true;
}

static int session_on_header(nghttp2_session *session, const nghttp2_frame *frame,
                             nghttp2_rcbuf *name_rcbuf, nghttp2_rcbuf *value_rcbuf, uint8_t flags,
                             void *arg)
{
    (void)session;
    (void)frame;
    (void)flags;
    struct grpc_conn *conn = arg;
    struct grpc_call *call = conn->header_call;
    if (call == NULL)
        return 0;
    kvs_slice name = rcbuf_slice(name_rcbuf);
    kvs_slice value = rcbuf_slice(value_rcbuf);
    call->metadata_bytes += name.size + value.size + HEADER_OVERHEAD;
    if (call->metadata_bytes > conn->config.metadata_bytes_max)
        call->metadata_too_big = true;
    if (name.size == 0 || call->metadata_too_big)
        return 0;
    if (conn->server ? request_take_field(call, name, value, value_rcbuf)
                     : answer_take_field(call, name, value))
        return 0;
    if (metadata_add(&call->metadata, name_rcbuf, value_rcbuf) != 0)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return 0;
}

/* --- whole frames --- */

static bool path_is_method(kvs_slice path)
{
    if (path.size < 4 || path.data[0] != '/')
        return false;
    const uint8_t *slash = memchr(path.data + 1, '/', path.size - 1);
    return slash != NULL && slash != path.data + 1 && slash != path.data + path.size - 1;
}

/* Server: the request's HEADERS are all there. */
static void call_on_request(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (call->metadata_too_big) {
        call_submit_status(call, GRPC_RESOURCE_EXHAUSTED, slice_of_string("metadata too large"));
    } else if (!call->method_ok) {
        call_submit_http_status(call, "405");
    } else if (!call->content_type_ok) {
        call_submit_http_status(call, "415");
    } else if (call->path == NULL || !path_is_method(rcbuf_slice(call->path))) {
        call_submit_status(call, GRPC_UNIMPLEMENTED, slice_of_string("malformed method name"));
    } else if (call->timeout_bad) {
        call_submit_status(call, GRPC_INTERNAL, slice_of_string("malformed grpc-timeout"));
    } else if (call_set_deadline(call, call->deadline_ms) != 0) {
        call_submit_status(call, GRPC_RESOURCE_EXHAUSTED, slice_of_string("out of memory"));
    } else {
        call->owned = true;
        call->announced = true;
        conn->events.on_call(conn, call);
    }
}

/* Client: the answer's HEADERS or trailers are all there. */
static void call_on_answer(struct grpc_call *call, bool end_stream)
{
    struct grpc_conn *conn = call->conn;
    if (!call->owned)
        return;
    if (call->metadata_too_big) {
        call_fail(call, GRPC_RESOURCE_EXHAUSTED, "metadata too large");
        return;
    }
    if (call->http_status < 200 && !call->headers_seen) { /* 1xx: the answer is still to come */
        call->http_status = 0;
        return;
    }
    if (!call->headers_seen && !call->status_seen &&
        (call->http_status != 200 || !call->content_type_ok)) {
        char text[64];
        snprintf(text, sizeof text, "the answer is not gRPC: HTTP status %u%s", call->http_status,
                 call->content_type_ok ? "" : ", wrong content type");
        call_fail(call, grpc_code_from_http_status(call->http_status), text);
        return;
    }
    bool first = !call->headers_seen;
    call->headers_seen = true;
    if (!end_stream && first && conn->events.on_headers != NULL)
        conn->events.on_headers(call);
}

/* END_STREAM came. */
static void call_on_end_stream(struct grpc_call *call)
{
    call->peer_closed = true;
    if (!call->conn->server && !call->status_seen && call->owned) {
        call->status_code = GRPC_INTERNAL;
        buf_clear(&call->status_text);
        (void)buf_printf(&call->status_text, "the stream ended without a status");
    }
    if (call->owned)
        call_read(call);
}

static void conn_on_goaway(struct grpc_conn *conn, const nghttp2_goaway *goaway)
{
    conn->goaway_received = true;
    conn->goaway_is_error = goaway->error_code != NGHTTP2_NO_ERROR;
    if (conn->error_text[0] == '\0')
        snprintf(conn->error_text, sizeof conn->error_text, "the peer sent GOAWAY: %s%s%.*s",
                 nghttp2_http2_strerror(goaway->error_code),
                 goaway->opaque_data_len > 0 ? ": " : "",
                 (int)(goaway->opaque_data_len < 80 ? goaway->opaque_data_len : 80),
                 goaway->opaque_data != NULL ? (const char *)goaway->opaque_data : "");
    if (conn->server)
        return;
    struct list waiting;
    list_init(&waiting);
    list_move(&waiting, &conn->waiting);
    for (struct list *node; (node = list_pop(&waiting)) != NULL;) {
        conn->waiting_count--;
        call_end_text(list_entry(node, struct grpc_call, in_waiting), GRPC_UNAVAILABLE,
                      "the peer is shutting down", true);
    }
    if (conn->events.on_goaway != NULL)
        conn->events.on_goaway(conn);
}

static int session_on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct grpc_conn *conn = arg;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
            conn_on_ping_answered(conn, frame->ping.opaque_data);
        return 0;
    case NGHTTP2_GOAWAY:
        conn_on_goaway(conn, &frame->goaway);
        return 0;
    default:
        return 0;
    }
    struct grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (!conn->server)
            call_on_answer(call, end_stream);
        else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            call_on_request(call);
    }
    if (end_stream)
        call_on_end_stream(call);
    return 0;
}

static int session_on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                           const uint8_t *data, size_t size, void *arg)
{
    (void)flags;
    struct grpc_conn *conn = arg;
    struct grpc_call *call = call_of(session, stream_id);
    if (call != NULL)
        call_on_data(call, slice_make(data, size));
    else
        (void)nghttp2_session_consume_connection(conn->session, size);
    return 0;
}

static int session_on_stream_close(nghttp2_session *session, int32_t stream_id,
                                   uint32_t http2_error, void *arg)
{
    struct grpc_conn *conn = arg;
    struct grpc_call *call = call_of(session, stream_id);
    if (call == NULL)
        return 0;
    call->stream_id = NO_STREAM;
    if (!conn->server)
        conn->streams_open--;
    /* A whole answer that waits in a paused call is still good. */
    if (call->owned && (conn->server || !call->peer_closed)) {
        char text[64];
        snprintf(text, sizeof text, "stream reset: %s", nghttp2_http2_strerror(http2_error));
        call_end_text(call, grpc_code_from_stream_error(http2_error), text,
                      !conn->server && (http2_error == NGHTTP2_REFUSED_STREAM || !call->on_wire));
    } else {
        call_release(call);
    }
    return 0;
}

/* --- frames that leave --- */

static int session_on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct grpc_conn *conn = arg;
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR) {
        char text[96];
        snprintf(text, sizeof text, "the peer broke HTTP/2: %s",
                 nghttp2_http2_strerror(frame->goaway.error_code));
        conn_fail(conn, 0, text);
    }
    if (frame->hd.type != NGHTTP2_HEADERS)
        return 0;
    struct grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL)
        return 0;
    call->on_wire = true;
    /* The whole answer has left before the whole request came: the rest is not wanted. */
    if (conn->server && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && !call->peer_closed)
        call_reset(call, NGHTTP2_NO_ERROR);
    return 0;
}

/*
 * Clients in Go end with a GOAWAY that names a stream of their own, or the last possible one, where
 * RFC 9113 (6.8) wants one of ours. For nghttp2 that breaks the connection, which is over anyway:
 * it is noted as the farewell that it is.
 */
static int session_on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                                    void *arg)
{
    (void)session;
    struct grpc_conn *conn = arg;
    if (frame->hd.type == NGHTTP2_GOAWAY && code == NGHTTP2_ERR_PROTO && conn->server)
        conn_on_goaway(conn, &frame->goaway);
    return 0;
}

/* nghttp2 describes the last mistake of the peer in words. */
static int session_on_error(nghttp2_session *session, int code, const char *text, size_t size,
                            void *arg)
{
    (void)session;
    (void)code;
    struct grpc_conn *conn = arg;
    if (conn->error_text[0] == '\0')
        snprintf(conn->error_text, sizeof conn->error_text, "%.*s", (int)size, text);
    return 0;
}

int session_callbacks_new(nghttp2_session_callbacks **ret_callbacks)
{
    nghttp2_session_callbacks *callbacks;
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        return KVS_ERR_NO_MEMORY;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, session_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, session_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, session_on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, session_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, session_on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, session_on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, call_on_write_data);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks,
                                                                 session_on_invalid_frame);
    nghttp2_session_callbacks_set_error_callback2(callbacks, session_on_error);
    *ret_callbacks = callbacks;
    return 0;
}
