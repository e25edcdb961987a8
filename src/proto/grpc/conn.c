/*
 * proto/grpc/conn.c: the life of a connection. The order of a turn is in grpc.h.
 *
 *   1. receive: nghttp2 takes the bytes and calls session.c, which calls the owner's events;
 *   2. run: deadlines that passed, events put off (resumed calls, room in a send queue, calls that
 *      ended while bytes were being written), waiting calls, pings, the steps of a shutdown;
 *   3. send: nghttp2 writes frames; messages go from the call's queue to the output in one copy.
 *
 * Failure modes: an error of the peer makes nghttp2 queue a GOAWAY (conn->failed once it left); an
 * error nghttp2 calls fatal (no memory, bad preface, flood) ends it at once (conn->error).
 * Thread: the loop of the connection.
 */
#include "proto/grpc/conn.h"

#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>

#define FREE_CALLS_MAX 1024
#define KEPT_BUFFER_BYTES_MAX (16 * 1024)
/* Time for calls on their way when a server shuts down, should the ping come back late. */
#define SHUTDOWN_NOTICE_MS 1000
/* Pings of one read must not pass for a flood: nghttp2 counts the answers not yet written. */
#define OUTBOUND_ACKS_MAX 65536
/* RST_STREAMs of a peer: a full house of calls whose deadline passes must be let through. */
#define RESETS_BURST 16384
#define RESETS_PER_SECOND 1024

static const uint8_t ping_shutdown[8] = "shutdown";

#define DEFAULT(field, value)        \
    do {                             \
        if (config->field == 0)      \
            config->field = (value); \
    } while (0)

static void config_fill_defaults(struct grpc_config *config)
{
    DEFAULT(calls_max, 4096);
    DEFAULT(calls_waiting_max, 65536);
    DEFAULT(message_bytes_max, 64u << 20);
    DEFAULT(metadata_bytes_max, 16u << 10);
    DEFAULT(call_window_bytes, 1u << 20);
    DEFAULT(connection_window_bytes, 16u << 20);
    DEFAULT(assembling_bytes_max, 256u << 20);
    DEFAULT(held_bytes_max, 16u << 20);
    DEFAULT(send_queue_bytes_max, 1u << 20);
    DEFAULT(ping_timeout_ms, 3000);
}

static int conn_new_session(struct grpc_conn *conn)
{
    nghttp2_mem memory = pool_memory(&conn->pool);
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int error = session_callbacks_new(&callbacks);
    if (error != 0)
        return error;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return KVS_ERR_NO_MEMORY;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_outbound_ack(option, OUTBOUND_ACKS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(option, RESETS_BURST, RESETS_PER_SECOND);
    int rv = conn->server
                 ? nghttp2_session_server_new3(&conn->session, callbacks, conn, option, &memory)
                 : nghttp2_session_client_new3(&conn->session, callbacks, conn, option, &memory);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return rv == 0 ? 0 : KVS_ERR_NO_MEMORY;
}

/* The first SETTINGS and the connection's window. */
static int conn_announce(struct grpc_conn *conn)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, conn->config.call_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, conn->config.metadata_bytes_max},
        conn->server ? (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                conn->config.calls_max}
                     : (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    int rv = nghttp2_submit_settings(conn->session, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof settings[0]);
    if (rv == 0)
        rv = nghttp2_session_set_local_window_size(conn->session, NGHTTP2_FLAG_NONE, 0,
                                                   (int32_t)conn->config.connection_window_bytes);
    return rv == 0 ? 0 : KVS_ERR_NO_MEMORY;
}

static int conn_new(const struct grpc_config *config, bool server, uint64_t now_ms,
                    struct grpc_conn **ret_conn)
{
    struct grpc_conn *conn = mem_zalloc(sizeof *conn);
    if (conn == NULL)
        return KVS_ERR_NO_MEMORY;
    conn->config = *config;
    config_fill_defaults(&conn->config);
    assert(conn->config.call_window_bytes <= INT32_MAX);
    assert(conn->config.connection_window_bytes <= INT32_MAX);
    conn->events = *config->events;
    conn->server = server;
    conn->now_ms = now_ms;
    conn->received_ms = now_ms;
    list_init(&conn->calls);
    list_init(&conn->ready);
    list_init(&conn->waiting);
    list_init(&conn->free_calls);
    conn->authority = mem_strdup(config->authority != NULL ? config->authority : "localhost");
    conn->user_agent = config->user_agent != NULL ? mem_strdup(config->user_agent) : NULL;
    bool no_memory =
        conn->authority == NULL || (config->user_agent != NULL && conn->user_agent == NULL);
    int error = no_memory ? KVS_ERR_NO_MEMORY : 0;
    if (error == 0)
        error = conn_new_session(conn);
    if (error == 0)
        error = conn_announce(conn);
    if (error != 0) {
        grpc_conn_free(conn);
        return error;
    }
    *ret_conn = conn;
    return 0;
}

int grpc_conn_new_server(const struct grpc_config *config, uint64_t now_ms,
                         struct grpc_conn **ret_conn)
{
    return conn_new(config, true, now_ms, ret_conn);
}

int grpc_conn_new_client(const struct grpc_config *config, uint64_t now_ms,
                         struct grpc_conn **ret_conn)
{
    return conn_new(config, false, now_ms, ret_conn);
}

static void call_free(struct grpc_call *call)
{
    buf_deinit(&call->send);
    buf_deinit(&call->recv);
    buf_deinit(&call->status_text);
    rope_deinit(&call->send_more);
    metadata_deinit(&call->metadata);
    mem_free(call);
}

void grpc_conn_free(struct grpc_conn *conn)
{
    if (conn == NULL)
        return;
    grpc_conn_lost(conn, "connection closed");
    for (struct list *node; (node = list_pop(&conn->free_calls)) != NULL;)
        call_free(list_entry(node, struct grpc_call, in_calls));
    if (conn->session != NULL)
        nghttp2_session_del(conn->session);
    pool_deinit(&conn->pool);
    heap_deinit(&conn->deadlines);
    mem_free(conn->authority);
    mem_free(conn->user_agent);
    mem_free(conn);
}

void conn_fail(struct grpc_conn *conn, int error, const char *text)
{
    conn->failed = true;
    if (conn->error == 0)
        conn->error = error;
    if (conn->error_text[0] == '\0')
        snprintf(conn->error_text, sizeof conn->error_text, "%s", text);
}

/* The code of a fatal error of nghttp2; the connection is over. */
static int conn_fail_fatally(struct grpc_conn *conn, ssize_t rv)
{
    int error = rv == NGHTTP2_ERR_NOMEM ? KVS_ERR_NO_MEMORY : KVS_ERR_PROTOCOL;
    conn_fail(conn, error, nghttp2_strerror((int)rv));
    return conn->error;
}

int grpc_conn_receive(struct grpc_conn *conn, uint64_t now_ms, kvs_slice bytes)
{
    conn->now_ms = now_ms;
    conn->received_ms = now_ms;
    conn->ping_outstanding = false;
    if (conn->lost)
        return KVS_ERR_CLOSED;
    if (conn->error != 0)
        return conn->error;
    ssize_t rv = nghttp2_session_mem_recv(conn->session, bytes.data, bytes.size);
    if (rv < 0)
        return conn_fail_fatally(conn, rv);
    conn_start_waiting(conn);
    return conn->error;
}

int grpc_conn_send(struct grpc_conn *conn, struct buf *out, size_t size_max)
{
    if (conn->lost || conn->error != 0)
        return conn->error;
    conn->out = out;
    conn->out_size_max = size_max;
    conn->sending = true;
    ssize_t rv = 0;
    int error = 0;
    while (error == 0 && out->size < size_max) {
        const uint8_t *bytes;
        rv = nghttp2_session_mem_send(conn->session, &bytes);
        if (rv <= 0)
            break;
        error = buf_append(out, bytes, (size_t)rv);
    }
    conn->sending = false;
    conn->out = NULL;
    if (error != 0)
        rv = NGHTTP2_ERR_NOMEM;
    return rv < 0 ? conn_fail_fatally(conn, rv) : conn->error;
}

bool grpc_conn_wants_send(const struct grpc_conn *conn)
{
    return !conn->lost && conn->error == 0 && nghttp2_session_want_write(conn->session) != 0;
}

/* --- time --- */

static void run_deadlines(struct grpc_conn *conn)
{
    struct heap_node *node;
    while ((node = heap_first(&conn->deadlines)) != NULL && node->key <= conn->now_ms) {
        struct grpc_call *call = list_entry(node, struct grpc_call, deadline);
        heap_remove(&conn->deadlines, node);
        if (call->owned)
            call_fail(call, GRPC_DEADLINE_EXCEEDED, "deadline exceeded");
        else /* finished, but the peer does not take the rest */
            call_reset(call, NGHTTP2_CANCEL);
    }
}

static void run_put_off(struct grpc_conn *conn, struct grpc_call *call)
{
    if (call->ended) {
        const struct grpc_status status = {.code = call->status_code,
                                           .message = buf_slice(&call->status_text),
                                           .not_processed = call->end_not_processed};
        call_end(call, &status);
        return;
    }
    /* An event may end the call: the struct must live until all is told. */
    call->pinned = true;
    if (call->want_writable && call->owned &&
        grpc_call_send_queued(call) <= conn->config.send_queue_bytes_max / 2) {
        call->want_writable = false;
        if (conn->events.on_writable != NULL)
            conn->events.on_writable(call);
    }
    call->pinned = false;
    call_read(call);
}

static void run_ready(struct grpc_conn *conn)
{
    struct list now;
    list_init(&now);
    list_move(&now, &conn->ready);
    for (struct list *node; (node = list_pop(&now)) != NULL;)
        run_put_off(conn, list_entry(node, struct grpc_call, in_ready));
}

static int run_pings(struct grpc_conn *conn)
{
    if (conn->config.ping_interval_ms == 0)
        return 0;
    if (conn->ping_outstanding && conn->now_ms - conn->pinged_ms >= conn->config.ping_timeout_ms) {
        conn_fail(conn, KVS_ERR_TIMEOUT, "the peer does not answer pings");
        return KVS_ERR_TIMEOUT;
    }
    if (!conn->ping_outstanding &&
        conn->now_ms - conn->received_ms >= conn->config.ping_interval_ms &&
        nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL) == 0) {
        conn->ping_outstanding = true;
        conn->pinged_ms = conn->now_ms;
    }
    return 0;
}

void conn_on_ping_answered(struct grpc_conn *conn, const uint8_t opaque[8])
{
    if (conn->shutting_down && memcmp(opaque, ping_shutdown, sizeof ping_shutdown) == 0)
        conn->shutdown_ms = conn->now_ms;
}

static void run_shutdown(struct grpc_conn *conn)
{
    if (!conn->shutting_down || conn->shutdown_final)
        return;
    if (conn->server ? conn->now_ms < conn->shutdown_ms : !list_empty(&conn->calls))
        return;
    int32_t last = conn->server ? nghttp2_session_get_last_proc_stream_id(conn->session) : 0;
    if (nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) ==
        0)
        conn->shutdown_final = true;
}

void grpc_conn_shutdown(struct grpc_conn *conn)
{
    if (conn->shutting_down || conn->lost)
        return;
    conn->shutting_down = true;
    conn->shutdown_ms = conn->now_ms;
    if (!conn->server)
        return;
    /* Two steps, so that calls already on their way are not refused (RFC 9113, 6.8). */
    if (nghttp2_submit_shutdown_notice(conn->session) == 0 &&
        nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, ping_shutdown) == 0)
        conn->shutdown_ms = conn->now_ms + SHUTDOWN_NOTICE_MS;
}

bool grpc_conn_takes_no_more(const struct grpc_conn *conn)
{
    return conn->server && conn->shutdown_final;
}

int grpc_conn_run(struct grpc_conn *conn, uint64_t now_ms)
{
    conn->now_ms = now_ms;
    if (conn->lost)
        return 0;
    run_deadlines(conn);
    run_ready(conn);
    conn_start_waiting(conn);
    run_shutdown(conn);
    return run_pings(conn);
}

size_t grpc_conn_received_bytes(const struct grpc_conn *conn)
{
    return conn->buffered_bytes + conn->held_bytes;
}

size_t grpc_conn_queued_bytes(const struct grpc_conn *conn)
{
    return conn->queued_bytes;
}

uint64_t grpc_conn_sent_bytes(const struct grpc_conn *conn)
{
    return conn->sent_bytes;
}

uint64_t grpc_conn_timer(const struct grpc_conn *conn)
{
    if (conn->lost)
        return UINT64_MAX;
    if (!list_empty(&conn->ready))
        return conn->now_ms;
    const struct heap_node *first = heap_first(&conn->deadlines);
    uint64_t timer = first != NULL ? first->key : UINT64_MAX;
    if (conn->config.ping_interval_ms != 0) {
        uint64_t ping = conn->ping_outstanding ? conn->pinged_ms + conn->config.ping_timeout_ms
                                               : conn->received_ms + conn->config.ping_interval_ms;
        timer = ping < timer ? ping : timer;
    }
    if (conn->shutting_down && !conn->shutdown_final &&
        (conn->server || list_empty(&conn->calls)) && conn->shutdown_ms < timer)
        timer = conn->shutdown_ms;
    return timer;
}

/* --- the end --- */

bool grpc_conn_done(const struct grpc_conn *conn)
{
    if (conn->lost || conn->error != 0)
        return true;
    if (nghttp2_session_want_read(conn->session) || nghttp2_session_want_write(conn->session))
        return false;
    return conn->failed || list_empty(&conn->calls);
}

void grpc_conn_lost(struct grpc_conn *conn, const char *reason)
{
    if (conn->lost)
        return;
    conn->lost = true;
    if (conn->error_text[0] == '\0')
        snprintf(conn->error_text, sizeof conn->error_text, "%s", reason);
    for (struct list *node; (node = list_pop(&conn->calls)) != NULL;) {
        struct grpc_call *call = list_entry(node, struct grpc_call, in_calls);
        list_append(&conn->calls, node); /* call_release takes it out */
        call->stream_id = NO_STREAM;
        if (call->owned)
            call_end_text(call, GRPC_UNAVAILABLE, reason, !conn->server && !call->on_wire);
        else
            call_release(call);
    }
}

bool grpc_conn_accepts_calls(const struct grpc_conn *conn)
{
    return !conn->server && !conn->lost && !conn->failed && !conn->shutting_down &&
           !conn->goaway_received && !conn->ids_used_up &&
           conn->waiting_count < conn->config.calls_waiting_max;
}

size_t grpc_conn_calls(const struct grpc_conn *conn)
{
    return conn->calls_count;
}

void *grpc_conn_user(const struct grpc_conn *conn)
{
    return conn->config.user;
}

bool grpc_conn_peer_goes(const struct grpc_conn *conn)
{
    return conn->goaway_received;
}

bool grpc_conn_peer_refuses(const struct grpc_conn *conn)
{
    return conn->goaway_received && conn->goaway_is_error;
}

const char *grpc_conn_error_text(const struct grpc_conn *conn)
{
    return conn->error_text;
}

/* --- structs of calls --- */

struct grpc_call *call_new(struct grpc_conn *conn)
{
    struct grpc_call *call;
    struct list *node = list_pop(&conn->free_calls);
    if (node != NULL) {
        call = list_entry(node, struct grpc_call, in_calls);
        conn->free_count--;
    } else {
        call = mem_zalloc(sizeof *call);
        if (call == NULL)
            return NULL;
    }
    call->conn = conn;
    list_init(&call->in_ready);
    list_init(&call->in_waiting);
    list_append(&conn->calls, &call->in_calls);
    conn->calls_count++;
    call->stream_id = NO_STREAM;
    call->deadline_ms = UINT64_MAX;
    return call;
}

/* Everything to zero but the memory that the next call can use. */
static void call_recycle(struct grpc_call *call)
{
    struct buf send = call->send;
    struct buf recv = call->recv;
    struct buf status_text = call->status_text;
    metadata_clear(&call->metadata);
    struct metadata metadata = call->metadata;
    rope_deinit(&call->send_more);
    if (send.capacity > KEPT_BUFFER_BYTES_MAX)
        buf_deinit(&send);
    if (recv.capacity > KEPT_BUFFER_BYTES_MAX)
        buf_deinit(&recv);
    buf_clear(&send);
    buf_clear(&recv);
    buf_clear(&status_text);
    *call = (struct grpc_call){
        .send = send, .recv = recv, .status_text = status_text, .metadata = metadata};
}

void call_release(struct grpc_call *call)
{
    struct grpc_conn *conn = call->conn;
    if (call->owned || call->stream_id != NO_STREAM || call->pinned)
        return;
    call_drop_received(call);
    conn->queued_bytes -= grpc_call_send_queued(call);
    if (conn->header_call == call)
        conn->header_call = NULL;
    heap_remove(&conn->deadlines, &call->deadline);
    list_remove(&call->in_ready);
    list_remove(&call->in_calls);
    conn->calls_count--;
    if (!list_empty(&call->in_waiting)) {
        list_remove(&call->in_waiting);
        conn->waiting_count--;
    }
    mem_free(call->to_send);
    if (call->path != NULL)
        nghttp2_rcbuf_decref(call->path);
    call_recycle(call);
    if (conn->free_count >= FREE_CALLS_MAX) {
        call_free(call);
        return;
    }
    list_append(&conn->free_calls, &call->in_calls);
    conn->free_count++;
}

void call_put_off(struct grpc_call *call)
{
    if (list_empty(&call->in_ready))
        list_append(&call->conn->ready, &call->in_ready);
}
