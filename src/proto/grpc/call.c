/*
 * proto/grpc/call.c: what the owner does with a call, and the sending half of it.
 *
 *   1. a message is framed into the call's queue; the first one submits the server's HEADERS;
 *   2. when nghttp2 has window and turn for the stream it asks for bytes (call_on_read_data), and
 *      writes them straight from the queue to the output (call_on_write_data);
 *   3. behind the last byte the client's END_STREAM goes, or the server's trailers.
 *
 * Failure modes: the queue is full: BUSY, and on_writable later. The call failed: the queue is
 * dropped, the server's status leaves at once.
 */
#include "proto/grpc/conn.h"

#include "base/mem.h"
#include "proto/grpc/timeout.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>

#define HEADERS_MAX 64 /* custom fields of one call or answer, each way */
#define FIELDS_MAX (HEADERS_MAX + 10)

struct fields {
    nghttp2_nv fields[FIELDS_MAX];
    size_t count;
};

/* Strings that outlive the frame: literals and strings of the connection. */
static void fields_add_static(struct fields *fields, const char *name, size_t name_size,
                              const char *value, size_t value_size)
{
    fields->fields[fields->count++] =
        (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                     .value = (uint8_t *)(uintptr_t)value,
                     .namelen = name_size,
                     .valuelen = value_size,
                     .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}
#define FIELDS_ADD(fields, name, value) \
    fields_add_static(fields, name, sizeof(name) - 1, value, sizeof(value) - 1)

static void fields_add_copied(struct fields *fields, kvs_slice name, kvs_slice value)
{
    fields->fields[fields->count++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name.data,
                                                   .value = (uint8_t *)(uintptr_t)value.data,
                                                   .namelen = name.size,
                                                   .valuelen = value.size,
                                                   .flags = NGHTTP2_NV_FLAG_NONE};
}

static void fields_add_headers(struct fields *fields, const struct grpc_header *headers,
                               size_t count)
{
    for (size_t i = 0; i < count; i++)
        fields_add_copied(fields, headers[i].name, headers[i].value);
}

static ssize_t call_on_read_data(nghttp2_session *session, int32_t stream_id, uint8_t *unused,
                                 size_t size_max, uint32_t *flags, nghttp2_data_source *source,
                                 void *arg);

static nghttp2_data_provider call_provider(struct grpc_call *call)
{
    return (nghttp2_data_provider){.source.ptr = call, .read_callback = call_on_read_data};
}

/* --- queries --- */

void grpc_call_set_user(struct grpc_call *call, void *user)
{
    call->user = user;
}

void *grpc_call_user(const struct grpc_call *call)
{
    return call->user;
}

struct grpc_conn *grpc_call_conn(const struct grpc_call *call)
{
    return call->conn;
}

uint64_t grpc_call_deadline_ms(const struct grpc_call *call)
{
    return call->deadline_ms;
}

kvs_slice grpc_call_path(const struct grpc_call *call)
{
    return call->path != NULL ? rcbuf_slice(call->path) : slice_make(NULL, 0);
}

size_t grpc_call_metadata_count(const struct grpc_call *call)
{
    return call->metadata.count;
}

struct grpc_header grpc_call_metadata(const struct grpc_call *call, size_t index)
{
    assert(index < call->metadata.count);
    return metadata_at(&call->metadata, index);
}

kvs_slice grpc_call_metadata_find(const struct grpc_call *call, kvs_slice name)
{
    for (size_t i = 0; i < call->metadata.count; i++) {
        struct grpc_header header = metadata_at(&call->metadata, i);
        if (slice_equal(header.name, name))
            return header.value;
    }
    return slice_make(NULL, 0);
}

/* --- client: start --- */

int call_set_deadline(struct grpc_call *call, uint64_t deadline_ms)
{
    call->deadline_ms = deadline_ms;
    if (deadline_ms == UINT64_MAX)
        return 0;
    return heap_push(&call->conn->deadlines, &call->deadline, deadline_ms);
}

static int call_submit_request(struct grpc_call *call, kvs_slice path,
                               const struct grpc_header *headers, size_t count)
{
    struct grpc_conn *conn = call->conn;
    struct fields fields;
    fields.count = 0;
    FIELDS_ADD(&fields, ":method", "POST");
    if (conn->config.tls)
        FIELDS_ADD(&fields, ":scheme", "https");
    else
        FIELDS_ADD(&fields, ":scheme", "http");
    fields_add_copied(&fields, slice_of_string(":path"), path);
    fields_add_static(&fields, ":authority", 10, conn->authority, strlen(conn->authority));
    FIELDS_ADD(&fields, "content-type", "application/grpc");
    FIELDS_ADD(&fields, "te", "trailers");
    if (conn->user_agent != NULL)
        fields_add_static(&fields, "user-agent", 10, conn->user_agent, strlen(conn->user_agent));
    char timeout[GRPC_TIMEOUT_TEXT_MAX];
    if (call->deadline_ms != UINT64_MAX) {
        uint64_t left = call->deadline_ms > conn->now_ms ? call->deadline_ms - conn->now_ms : 0;
        size_t size = grpc_timeout_format(timeout, left > 0 ? left : 1);
        fields_add_copied(&fields, slice_of_string("grpc-timeout"), slice_make(timeout, size));
    }
    fields_add_headers(&fields, headers, count);

    nghttp2_data_provider provider = call_provider(call);
    int32_t id =
        nghttp2_submit_request(conn->session, NULL, fields.fields, fields.count, &provider, call);
    if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE) {
        conn->ids_used_up = true;
        return KVS_ERR_CLOSED;
    }
    if (id < 0)
        return KVS_ERR_NO_MEMORY;
    call->stream_id = id;
    call->headers_sent = true;
    conn->streams_open++;
    return 0;
}

static bool conn_has_room(const struct grpc_conn *conn)
{
    return conn->streams_open < nghttp2_session_get_remote_settings(
                                    conn->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

static int call_begin(struct grpc_call *call, const struct grpc_call_options *options)
{
    struct grpc_conn *conn = call->conn;
    call->user = options->user;
    call->one_message = options->one_reply;
    int error =
        call_set_deadline(call, options->deadline_ms != 0 ? options->deadline_ms : UINT64_MAX);
    if (error != 0)
        return error;
    if (list_empty(&conn->waiting) && conn_has_room(conn))
        return call_submit_request(call, options->path, options->headers, options->header_count);
    call->to_send = header_copy_new(options->path, options->headers, options->header_count);
    if (call->to_send == NULL)
        return KVS_ERR_NO_MEMORY;
    list_append(&conn->waiting, &call->in_waiting);
    conn->waiting_count++;
    return 0;
}

static bool path_sendable(kvs_slice path)
{
    if (path.size < 2 || path.data[0] != '/')
        return false;
    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] <= 0x20 || path.data[i] > 0x7e)
            return false;
    }
    return true;
}

int grpc_call_start(struct grpc_conn *conn, const struct grpc_call_options *options,
                    struct grpc_call **ret_call)
{
    if (conn->server || !path_sendable(options->path) || options->header_count > HEADERS_MAX ||
        !metadata_sendable(options->headers, options->header_count))
        return KVS_ERR_INVALID_ARGUMENT;
    if (!grpc_conn_accepts_calls(conn))
        return conn->waiting_count >= conn->config.calls_waiting_max ? KVS_ERR_BUSY
                                                                     : KVS_ERR_CLOSED;
    struct grpc_call *call = call_new(conn);
    if (call == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = call_begin(call, options);
    if (error != 0) {
        call_release(call);
        return error;
    }
    call->owned = true;
    *ret_call = call;
    return 0;
}

void conn_start_waiting(struct grpc_conn *conn)
{
    while (!list_empty(&conn->waiting) && conn_has_room(conn) && !conn->failed && !conn->lost) {
        struct grpc_call *call = list_entry(list_pop(&conn->waiting), struct grpc_call, in_waiting);
        conn->waiting_count--;
        struct header_copy *request = call->to_send;
        call->to_send = NULL;
        int error = call_submit_request(call, request->path, request->headers, request->count);
        mem_free(request);
        if (error != 0)
            call_end_text(call, GRPC_UNAVAILABLE, kvs_error_text(error), true);
    }
}

/* --- sending --- */

size_t grpc_call_send_queued(const struct grpc_call *call)
{
    return call->send.size - call->send_offset + call->send_more.size;
}

/* Server: HEADERS, with the queue behind them. */
static int call_submit_headers(struct grpc_call *call, const struct grpc_header *headers,
                               size_t count)
{
    struct fields fields;
    fields.count = 0;
    FIELDS_ADD(&fields, ":status", "200");
    FIELDS_ADD(&fields, "content-type", "application/grpc");
    fields_add_headers(&fields, headers, count);
    nghttp2_data_provider provider = call_provider(call);
    if (nghttp2_submit_response(call->conn->session, call->stream_id, fields.fields, fields.count,
                                &provider) != 0)
        return KVS_ERR_NO_MEMORY;
    call->headers_sent = true;
    return 0;
}

int grpc_call_send_headers(struct grpc_call *call, const struct grpc_header *headers, size_t count)
{
    if (!call->conn->server || call->headers_sent || !call->owned || count > HEADERS_MAX ||
        !metadata_sendable(headers, count))
        return KVS_ERR_INVALID_ARGUMENT;
    if (call->stream_id == NO_STREAM)
        return 0; /* the end is about to be told */
    return call_submit_headers(call, headers, count);
}

/* There is something to send on a stream that had nothing. */
static void call_wake(struct grpc_call *call)
{
    if (!call->deferred || call->stream_id == NO_STREAM || call->conn->lost)
        return;
    call->deferred = false;
    if (nghttp2_session_resume_data(call->conn->session, call->stream_id) == NGHTTP2_ERR_NOMEM)
        conn_fail(call->conn, KVS_ERR_NO_MEMORY, "out of memory");
}

/* `size` bytes behind what is queued. */
static int queue_room(struct grpc_call *call, size_t size, uint8_t **ret_room)
{
    if (call->send_more.size > 0)
        return rope_room(&call->send_more, size, ret_room);
    if (call->send_offset > call->send.size / 2) {
        buf_consume(&call->send, call->send_offset);
        call->send_offset = 0;
    }
    int error = buf_reserve(&call->send, size);
    if (error != 0)
        return error;
    *ret_room = call->send.data + call->send.size;
    call->send.size += size;
    return 0;
}

/* Queues the prefix of a message of `size` bytes, and room for the first `head_size` of them. */
static int queue_message(struct grpc_call *call, size_t size, size_t head_size, uint8_t **ret_room)
{
    uint8_t *place;
    if (!call->owned || call->closing)
        return KVS_ERR_INVALID_ARGUMENT;
    if (size > UINT32_MAX)
        return KVS_ERR_TOO_LARGE;
    if (grpc_call_send_queued(call) >= call->conn->config.send_queue_bytes_max) {
        call->want_writable = true;
        return KVS_ERR_BUSY;
    }
    if (call->conn->server && !call->headers_sent && call->stream_id != NO_STREAM) {
        int error = call_submit_headers(call, NULL, 0);
        if (error != 0)
            return error;
    }
    int error = queue_room(call, MESSAGE_PREFIX_SIZE + head_size, &place);
    if (error != 0)
        return error;
    message_write_prefix(place, (uint32_t)size);
    call->conn->queued_bytes += MESSAGE_PREFIX_SIZE + head_size;
    *ret_room = place + MESSAGE_PREFIX_SIZE;
    call_wake(call);
    return 0;
}

int grpc_call_send_room(struct grpc_call *call, size_t size, uint8_t **ret_room)
{
    return queue_message(call, size, size, ret_room);
}

int grpc_call_send_rope(struct grpc_call *call, kvs_slice head, struct rope *body, kvs_slice tail)
{
    size_t size = body->size;
    uint8_t *room;
    int error = rope_append(body, tail);
    if (error != 0)
        return error;
    error = queue_message(call, head.size + body->size, head.size, &room);
    if (error != 0) {
        rope_cut(body, size);
        return error;
    }
    if (head.size > 0)
        memcpy(room, head.data, head.size);
    call->conn->queued_bytes += body->size;
    rope_move(&call->send_more, body);
    return 0;
}

int grpc_call_send(struct grpc_call *call, kvs_slice message)
{
    uint8_t *room;
    int error = grpc_call_send_room(call, message.size, &room);
    if (error == 0 && message.size > 0)
        memcpy(room, message.data, message.size);
    return error;
}

/* --- ends, by the owner --- */

void grpc_call_half_close(struct grpc_call *call)
{
    if (!call->owned || call->conn->server)
        return;
    call->closing = true;
    call_wake(call);
}

/* The owner is through with it: no event any more; the stream may still have work. */
static void call_disown(struct grpc_call *call)
{
    call->owned = false;
    list_remove(&call->in_ready);
    call_drop_received(call);
}

void grpc_call_cancel(struct grpc_call *call)
{
    if (!call->owned)
        return;
    call_disown(call);
    call_reset(call, NGHTTP2_CANCEL);
    call_release(call);
}

void grpc_call_finish(struct grpc_call *call, int code, kvs_slice message)
{
    grpc_call_finish_with(call, code, message, NULL, 0);
}

void grpc_call_finish_with(struct grpc_call *call, int code, kvs_slice message,
                           const struct grpc_header *trailers, size_t count)
{
    if (!call->owned || !call->conn->server)
        return;
    if (count > 0 && count <= HEADERS_MAX && metadata_sendable(trailers, count)) {
        mem_free(call->to_send);
        call->to_send = header_copy_new(slice_make(NULL, 0), trailers, count);
    }
    call_disown(call);
    call_submit_status(call, code, message);
    call_release(call);
}

void grpc_call_pause(struct grpc_call *call)
{
    call->paused = true;
}

void grpc_call_resume(struct grpc_call *call)
{
    if (!call->owned || !call->paused)
        return;
    call->paused = false;
    call_put_off(call);
}

bool grpc_call_has_request(const struct grpc_call *call)
{
    return call->peer_closed;
}

void grpc_call_expect_one(struct grpc_call *call)
{
    call->one_message = true;
}

/* --- ends, by the engine --- */

void call_reset(struct grpc_call *call, uint32_t http2_error)
{
    struct grpc_conn *conn = call->conn;
    if (call->stream_id == NO_STREAM || conn->lost || conn->error != 0)
        return;
    if (nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, call->stream_id, http2_error) ==
        NGHTTP2_ERR_NOMEM)
        conn_fail(conn, KVS_ERR_NO_MEMORY, "out of memory");
}

/* grpc-status, grpc-message and the owner's trailers. The strings live as long as the call. */
static void fields_add_status(struct fields *fields, const struct grpc_call *call)
{
    static const char codes[GRPC_CODE_MAX + 1][3] = {
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};
    int code = call->status_code;
    const char *text = codes[code >= 0 && code <= GRPC_CODE_MAX ? code : GRPC_UNKNOWN];
    fields_add_static(fields, "grpc-status", 11, text, strlen(text));
    if (call->status_text.size > 0)
        fields_add_copied(fields, slice_of_string("grpc-message"), buf_slice(&call->status_text));
    if (call->to_send != NULL)
        fields_add_headers(fields, call->to_send->headers, call->to_send->count);
}

static int call_submit_trailers_only(struct grpc_call *call)
{
    struct fields fields;
    fields.count = 0;
    FIELDS_ADD(&fields, ":status", "200");
    FIELDS_ADD(&fields, "content-type", "application/grpc");
    fields_add_status(&fields, call);
    call->headers_sent = true;
    return nghttp2_submit_response(call->conn->session, call->stream_id, fields.fields,
                                   fields.count, NULL);
}

void call_submit_status(struct grpc_call *call, int code, kvs_slice message)
{
    if (call->stream_id == NO_STREAM || call->conn->lost)
        return;
    call->status_code = code;
    buf_clear(&call->status_text);
    (void)grpc_message_encode(&call->status_text, message); /* without memory: no text */
    call->closing = true;
    call->trailers_due = true;
    if (call->headers_sent)
        call_wake(call);
    else if (call_submit_trailers_only(call) != 0)
        call_reset(call, NGHTTP2_INTERNAL_ERROR);
}

void call_submit_http_status(struct grpc_call *call, const char *http_status)
{
    struct fields fields;
    fields.count = 0;
    fields_add_static(&fields, ":status", 7, http_status, strlen(http_status));
    FIELDS_ADD(&fields, "content-length", "0");
    call->headers_sent = true;
    if (nghttp2_submit_response(call->conn->session, call->stream_id, fields.fields, fields.count,
                                NULL) != 0)
        call_reset(call, NGHTTP2_INTERNAL_ERROR);
}

/* Of the next `size` bytes to leave: those that lie in call->send. */
static size_t first_part(const struct grpc_call *call, size_t size)
{
    size_t first = call->send.size - call->send_offset;
    return first < size ? first : size;
}

void call_fail(struct grpc_call *call, int code, const char *text)
{
    struct grpc_conn *conn = call->conn;
    heap_remove(&conn->deadlines, &call->deadline);
    list_remove(&call->in_ready);
    call_drop_received(call);
    if (conn->server) {
        conn->queued_bytes -= grpc_call_send_queued(call) - call->frame_pending;
        size_t first = first_part(call, call->frame_pending);
        call->send.size = call->send_offset + first;
        rope_cut(&call->send_more, call->frame_pending - first);
        call_submit_status(call, code, slice_of_string(text));
    } else {
        call_reset(call, NGHTTP2_CANCEL);
    }
    call_end_text(call, code, text, !conn->server && !call->on_wire);
}

/* --- what nghttp2 asks for --- */

static int call_submit_trailers(struct grpc_call *call)
{
    struct fields fields;
    fields.count = 0;
    fields_add_status(&fields, call);
    call->trailers_due = false;
    return nghttp2_submit_trailer(call->conn->session, call->stream_id, fields.fields,
                                  fields.count);
}

static ssize_t call_on_read_data(nghttp2_session *session, int32_t stream_id, uint8_t *unused,
                                 size_t size_max, uint32_t *flags, nghttp2_data_source *source,
                                 void *arg)
{
    (void)session;
    (void)stream_id;
    (void)unused;
    (void)arg;
    struct grpc_call *call = source->ptr;
    size_t queued = grpc_call_send_queued(call);
    if (queued == 0 && !call->closing) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (queued <= size_max && call->closing) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->trailers_due) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (call_submit_trailers(call) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    call->frame_pending = queued < size_max ? queued : size_max;
    return (ssize_t)call->frame_pending;
}

int call_on_write_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header,
                       size_t size, nghttp2_data_source *source, void *arg)
{
    (void)session;
    (void)frame;
    struct grpc_conn *conn = arg;
    struct grpc_call *call = source->ptr;
    const size_t header_size = 9;
    if (conn->out->size >= conn->out_size_max)
        return NGHTTP2_ERR_WOULDBLOCK;
    if (buf_reserve(conn->out, header_size + size) != 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    uint8_t *place = conn->out->data + conn->out->size;
    memcpy(place, header, header_size);
    size_t first = first_part(call, size);
    if (first > 0)
        memcpy(place + header_size, call->send.data + call->send_offset, first);
    rope_take(&call->send_more, size - first, place + header_size + first);
    conn->out->size += header_size + size;
    call->send_offset += first;
    conn->queued_bytes -= size;
    conn->sent_bytes += size;
    call->frame_pending = 0;
    if (call->send_offset == call->send.size) {
        buf_clear(&call->send);
        call->send_offset = 0;
    }
    if (call->want_writable && grpc_call_send_queued(call) <= conn->config.send_queue_bytes_max / 2)
        call_put_off(call);
    return 0;
}
