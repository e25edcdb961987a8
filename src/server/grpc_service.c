/* server/grpc_service.c: the connections of a port; see the header. */
#include "server/grpc_service.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/foreign.h"
#include "server/grpc_parts.h"
#include "server/http_request.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>
#include <unistd.h>

#define PREFACE "PRI * HTTP/2.0\r\n" /* how HTTP/2 begins: RFC 9113, section 3.4 */
#define OUT_MAX (256u * 1024)        /* unwritten answers that stop the reading */
#define TURN_OUTS_MAX 16u            /* times as much leaves in a turn at most */
#define TICK_MS 1000u
#define HELLO_TIMEOUT_MS 10000u  /* for the first bytes; and for each whole request of HTTP/1.1 */
#define SLOW_TIMEOUT_MS 60000u   /* a peer that takes no answers */
#define REQUEST_TIMEOUT_MS 1000u /* of silence, when stopping, for the rest of requests */
#define KEEPALIVE_S 60u
#define ASSEMBLING_MAX (128u * 1024 * 1024)

static struct grpc_connection *of(const struct connection *base)
{
    return CONTAINER_OF((void *)(uintptr_t)base, struct grpc_connection, base);
}

/* --- sending: at the end of the turn --- */

void grpc_connection_mark(struct grpc_connection *connection)
{
    if (connection->dirty || connection->base.closed)
        return;
    connection->dirty = true;
    connection_ref(&connection->base);
    connection->next_dirty = connection->at->dirty;
    connection->at->dirty = connection;
}

static void on_timer(uv_timer_t *timer);

static void watch_timer(struct grpc_port_loop *at, uint64_t due_ms)
{
    if (due_ms >= at->timer_ms || uv_is_closing((uv_handle_t *)&at->timer))
        return;
    uint64_t now_ms = loop_now_ms(at->loop);
    at->timer_ms = due_ms;
    uv_timer_start(&at->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* A stream or an answer may go on: outside of the end of the turn, so that what its messages begin
 * still reaches the hooks of this turn. */
static void resume_soon(struct grpc_port_loop *at)
{
    if (at->resume_posted)
        return;
    at->resume_posted = true;
    loop_post(at->loop, &at->resume);
}

static void log_end(const struct grpc_connection *connection)
{
    const char *why = grpc_conn_error_text(connection->conn);
    enum log_level level = grpc_conn_peer_goes(connection->conn) ? LOG_DEBUG : LOG_INFO;
    if (why[0] != '\0')
        log_line(level, "connection %s (%s) closed: %s", connection->base.peer,
                 connection->at->port->name, why);
}

static void send_all(struct grpc_connection *connection)
{
    struct connection *base = &connection->base;
    if (connection->conn == NULL || base->closed || base->finishing)
        return;
    int error = 0;
    unsigned outs = 0;
    do {
        struct buf *out = connection_out(base);
        error = grpc_conn_send(connection->conn, out, OUT_MAX);
        if (out->size < OUT_MAX)
            break;
        connection_flush(base);
    } while (error == 0 && !base->closed && connection_unwritten(base) == 0 &&
             ++outs < TURN_OUTS_MAX);
    if (base->closed)
        return;
    connection->has_more = outs == TURN_OUTS_MAX;
    if (connection->paused > 0 || connection->has_more)
        resume_soon(connection->at);
    if (error != 0 || grpc_conn_done(connection->conn)) {
        log_end(connection);
        connection_finish(base);
        return;
    }
    watch_timer(connection->at, grpc_conn_timer(connection->conn));
}

static void on_flush(struct loop_hook *hook)
{
    struct grpc_port_loop *at = CONTAINER_OF(hook, struct grpc_port_loop, flush);
    struct grpc_connection *connection = at->dirty;
    at->dirty = NULL;
    while (connection != NULL) {
        struct grpc_connection *next = connection->next_dirty;
        connection->dirty = false;
        send_all(connection);
        connection_unref(&connection->base);
        connection = next;
    }
}

/* --- time --- */

static void run(struct grpc_connection *connection, uint64_t now_ms)
{
    if (grpc_conn_run(connection->conn, now_ms) == KVS_ERR_TIMEOUT) {
        connection_close(&connection->base);
        return;
    }
    if (grpc_conn_takes_no_more(connection->conn))
        rpcs_drain(connection); /* streams that were on their way, and ask nothing */
    grpc_connection_mark(connection);
}

static void on_timer(uv_timer_t *timer)
{
    struct grpc_port_loop *at = timer->data;
    uint64_t now_ms = loop_now_ms(at->loop);
    at->timer_ms = UINT64_MAX;
    struct connection *next;
    for (struct connection *base = at->connections.first; base != NULL; base = next) {
        next = base->next;
        struct grpc_connection *connection = of(base);
        if (connection->conn == NULL)
            continue;
        uint64_t due_ms = grpc_conn_timer(connection->conn);
        if (due_ms <= now_ms)
            run(connection, now_ms); /* its next time is looked at when it sends */
        else
            watch_timer(at, due_ms);
    }
}

static void on_resume(struct task *task)
{
    struct grpc_port_loop *at = CONTAINER_OF(task, struct grpc_port_loop, resume);
    at->resume_posted = false;
    struct connection *next;
    for (struct connection *base = at->connections.first; base != NULL; base = next) {
        next = base->next;
        if (of(base)->has_more)
            grpc_connection_mark(of(base));
        if (of(base)->paused > 0 && rpcs_resume(of(base)))
            run(of(base), loop_now_ms(at->loop));
    }
}

/* The peer reads and even talks, but opens no window for answers. */
static bool is_stuck(struct grpc_connection *connection, uint64_t now_ms)
{
    if (connection->conn == NULL)
        return false;
    uint64_t sent = grpc_conn_sent_bytes(connection->conn);
    if (sent != connection->sent_before || grpc_conn_queued_bytes(connection->conn) == 0)
        connection->sent_ms = now_ms;
    connection->sent_before = sent;
    return now_ms - connection->sent_ms >= SLOW_TIMEOUT_MS;
}

static uint64_t hello_ms_max(const struct grpc_port *port)
{
    return port->handshake_ms_max != 0 ? port->handshake_ms_max : HELLO_TIMEOUT_MS;
}

static const char *check_time(struct connection *base, uint64_t now_ms)
{
    struct grpc_connection *connection = of(base);
    size_t unwritten = connection_unwritten(base);
    if (unwritten < connection->unwritten_before)
        connection->active_ms = now_ms;
    connection->unwritten_before = unwritten;
    uint64_t still_ms = now_ms - connection->active_ms;
    if (connection->answering)
        return NULL;
    if (connection->at->draining && connection->conn != NULL && still_ms >= REQUEST_TIMEOUT_MS)
        rpcs_give_up(connection);
    if (connection->speaks != SPEAKS_HTTP2 && still_ms >= hello_ms_max(connection->at->port))
        return "it asked nothing for too long";
    if ((unwritten > 0 && still_ms >= SLOW_TIMEOUT_MS) || is_stuck(connection, now_ms))
        return "it does not read its answers";
    return NULL;
}

static size_t held(const struct connection *base)
{
    const struct grpc_connection *connection =
        CONTAINER_OF((void *)(uintptr_t)base, struct grpc_connection, base);
    if (connection->conn == NULL)
        return 0;
    return grpc_conn_received_bytes(connection->conn) + grpc_conn_queued_bytes(connection->conn);
}

/* --- plain HTTP/1.1 --- */

static const struct http_route *find_route(const struct grpc_port *port, kvs_slice path)
{
    for (size_t i = 0; i < port->routes_count; i++) {
        const struct http_route *route = &port->routes[i];
        kvs_slice wanted = slice_of_string(route->path);
        kvs_slice asked = path;
        if (route->take != NULL && asked.size > wanted.size && asked.data[wanted.size] == '/')
            asked.size = wanted.size;
        if (slice_equal(asked, wanted))
            return route;
    }
    return NULL;
}

struct grpc_port_loop *http_port_of(const struct grpc_connection *connection)
{
    return connection->at;
}

static void send_answer(struct grpc_connection *connection, const struct http_answer *answer)
{
    struct connection *base = &connection->base;
    if (base->closed || base->finishing)
        return;
    if (http_answer_append(connection_out(base), answer) != 0)
        connection_close(base);
    else if (!answer->keep_alive)
        connection_finish(base);
}

struct connection *http_connection_of(struct grpc_connection *connection)
{
    return &connection->base;
}

static void reply(struct grpc_connection *connection, struct http_answer *answer)
{
    struct connection *base = &connection->base;
    assert(connection->answering);
    answer->keep_alive = connection->keep_alive && !connection->at->draining;
    answer->head = connection->head;
    connection->answering = false;
    connection->active_ms = loop_now_ms(connection->at->loop);
    send_answer(connection, answer);
    connection_check(base);
    connection_unref(base);
}

void http_reply(struct grpc_connection *connection, int status, kvs_slice body)
{
    struct http_answer answer = {
        .status = status, .type = "application/json; charset=utf-8", .body = body};
    reply(connection, &answer);
}

void http_reply_other(struct grpc_connection *connection, const char *methods)
{
    struct http_answer answer = {.status = 405, .type = "text/plain", .allow = methods};
    reply(connection, &answer);
}

static void make_page(struct grpc_connection *connection, const struct http_route *route,
                      struct http_answer *answer)
{
    struct grpc_port_loop *at = connection->at;
    struct buf body = BUF_INIT;
    at->asking = &connection->base;
    answer->status = route->answer(at, &body);
    at->asking = NULL;
    answer->type = route->type;
    answer->body = buf_slice(&body);
    send_answer(connection, answer);
    buf_deinit(&body);
}

static const char *methods_of(const struct http_route *route)
{
    return route->take != NULL ? route->methods : "GET, HEAD";
}

/* Is it one of a list with commas? Tokens have none themselves. */
static bool is_among(kvs_slice method, const char *methods)
{
    const char *at = memmem(methods, strlen(methods), method.data, method.size);
    return at != NULL && (at == methods || at[-1] == ' ') &&
           (at[method.size] == ',' || at[method.size] == '\0');
}

/* Whoever looks around is told what there is. */
static void answer_not_found(struct grpc_connection *connection, struct http_answer *answer)
{
    const struct grpc_port *port = connection->at->port;
    struct buf body = BUF_INIT;
    int error = buf_printf(&body, "not found; this is kvs-server (%s)%s\n", port->name,
                           port->grpc_off ? "" : ", which speaks gRPC here");
    for (size_t i = 0; i < port->routes_count && error == 0; i++)
        error = buf_printf(&body, "%s %s%s\n", methods_of(&port->routes[i]), port->routes[i].path,
                           port->routes[i].take != NULL ? "..." : "");
    answer->status = 404;
    if (error == 0)
        answer->body = buf_slice(&body);
    send_answer(connection, answer);
    buf_deinit(&body);
}

static void answer_http(struct grpc_connection *connection, const struct http_request *request)
{
    const struct http_route *route = find_route(connection->at->port, request->path);
    bool takes = route != NULL && route->take != NULL;
    bool head = slice_equal(request->method, slice_of_string("HEAD"));
    struct http_answer answer = {
        .type = "text/plain",
        .keep_alive = request->keep_alive && !connection->at->draining,
        .head = head,
    };
    if (route == NULL) {
        answer_not_found(connection, &answer);
    } else if (!is_among(request->method, methods_of(route))) {
        answer.status = 405;
        answer.allow = methods_of(route);
        send_answer(connection, &answer);
    } else if (takes) {
        connection->answering = true;
        connection->keep_alive = request->keep_alive;
        connection->head = head;
        connection_ref(&connection->base);
        route->take(connection, request);
    } else {
        make_page(connection, route, &answer);
    }
}

static bool wants_bytes(const struct connection *base)
{
    return connection_unwritten(base) < OUT_MAX && !of(base)->answering;
}

static size_t take_http(struct grpc_connection *connection, kvs_slice bytes)
{
    struct connection *base = &connection->base;
    size_t taken = 0;
    const struct http_answer bad = {
        .status = 400,
        .type = "text/plain",
        .body = slice_of_string("cannot read the request: here it is HTTP/1.1 without a body\n")};
    while (!base->closed && !base->finishing && wants_bytes(base)) {
        struct http_request request;
        size_t size = 0;
        enum http_parsed parsed =
            http_request_parse(slice_make(bytes.data + taken, bytes.size - taken), &request, &size);
        if (parsed == HTTP_NEEDS_BYTES)
            break;
        if (parsed == HTTP_REQUEST)
            answer_http(connection, &request);
        else
            send_answer(connection, &bad); /* what follows cannot be told apart: it ends */
        taken += size;
    }
    if (taken > 0) /* a part of a request is no sign of life: it may come byte by byte */
        connection->active_ms = loop_now_ms(connection->at->loop);
    return base->finishing ? bytes.size : taken;
}

/* --- what a connection brings --- */

static enum grpc_speaks recognise(const struct grpc_port *port, kvs_slice bytes)
{
    size_t size = sizeof(PREFACE) - 1;
    if (port->grpc_off || memcmp(bytes.data, PREFACE, bytes.size < size ? bytes.size : size) != 0)
        return SPEAKS_HTTP1;
    return bytes.size < size ? SPEAKS_UNKNOWN : SPEAKS_HTTP2;
}

static int begin_http2(struct grpc_connection *connection)
{
    const struct grpc_config config = {
        .events = &rpc_events,
        .user = connection,
        .message_bytes_max = connection->at->port->message_bytes_max,
        .assembling_bytes_max = ASSEMBLING_MAX,
        .send_queue_bytes_max = SIZE_MAX / 4, /* rpc.c pauses streams instead */
    };
    int error = grpc_conn_new_server(&config, loop_now_ms(connection->at->loop), &connection->conn);
    if (error == 0 && connection->at->draining)
        grpc_conn_shutdown(connection->conn);
    return error;
}

/* Its first bytes are neither HTTP/2 nor HTTP/1.1, or not for a port that has but the latter. */
static bool end_foreign(struct grpc_connection *connection, kvs_slice bytes)
{
    const struct grpc_port *port = connection->at->port;
    unsigned own = 1u << FOREIGN_HTTP | (port->grpc_off ? 0 : 1u << FOREIGN_HTTP2);
    char here[64];
    snprintf(here, sizeof here, port->grpc_off ? "HTTP" : "gRPC (%s)", port->name);
    return connection_end_foreign(&connection->base, bytes, own, here);
}

static size_t on_bytes(struct connection *base, struct chunk *chunk, kvs_slice bytes,
                       size_t *ret_wanted)
{
    (void)chunk;
    struct grpc_connection *connection = of(base);
    uint64_t now_ms = loop_now_ms(connection->at->loop);
    if (connection->speaks == SPEAKS_UNKNOWN) {
        if (end_foreign(connection, bytes))
            return bytes.size;
        connection->speaks = recognise(connection->at->port, bytes);
        if (connection->speaks == SPEAKS_HTTP2 && begin_http2(connection) != 0) {
            connection_close(base);
            return bytes.size;
        }
    }
    if (connection->speaks == SPEAKS_UNKNOWN) {
        *ret_wanted = sizeof(PREFACE) - 1;
        return 0;
    }
    if (connection->speaks == SPEAKS_HTTP1)
        return take_http(connection, bytes);
    connection->active_ms = now_ms;
    /* An error leaves a GOAWAY to be sent, and ends the connection at the end of the turn. */
    grpc_conn_receive(connection->conn, now_ms, bytes);
    run(connection, now_ms);
    return bytes.size;
}

static void on_end(struct connection *base)
{
    if (of(base)->answering)
        of(base)->keep_alive = false;
    else
        connection_finish(base); /* what is answered already still leaves */
}

static void on_written(struct connection *base)
{
    of(base)->active_ms = loop_now_ms(of(base)->at->loop);
    grpc_connection_mark(of(base));
}

static void on_closed(struct connection *base)
{
    struct grpc_connection *connection = of(base);
    if (connection->conn != NULL)
        grpc_conn_lost(connection->conn, "connection lost");
    /* relaxed: a count. */
    atomic_fetch_sub_explicit(&connection->at->port->connections, 1, memory_order_relaxed);
}

static void free_connection(struct connection *base)
{
    struct grpc_connection *connection = of(base);
    assert(connection->rpcs == NULL);
    grpc_conn_free(connection->conn);
    mem_free(connection);
}

static const struct connection_methods grpc_connection_methods = {
    .on_bytes = on_bytes,
    .wants_bytes = wants_bytes,
    .on_end = on_end,
    .on_written = on_written,
    .check_time = check_time,
    .held = held,
    .on_closed = on_closed,
    .free = free_connection,
};

/* --- a port's part of a loop --- */

void grpc_port_loop_init(struct grpc_port_loop *at, struct grpc_port *port, struct loop *loop,
                         void *state)
{
    *at = (struct grpc_port_loop){
        .port = port,
        .loop = loop,
        .state = state,
        .flush.run = on_flush,
        .resume.run = on_resume,
        .timer_ms = UINT64_MAX,
    };
    uv_timer_init(loop->uv, &at->timer); /* cannot fail */
    at->timer.data = at;
    loop_add_hook(loop, &at->flush);
    connections_init(&at->connections, loop, TICK_MS);
    connections_share(&at->connections, port->memory);
    if (port->tls != NULL)
        connections_use_tls(&at->connections, port->tls, port->handshake_ms_max);
}

void grpc_port_connect(struct grpc_port_loop *at, int descriptor, const char *peer)
{
    struct grpc_port *port = at->port;
    uint32_t before = atomic_fetch_add_explicit(&port->connections, 1, memory_order_relaxed);
    struct grpc_connection *connection = NULL;
    if (!at->draining && before < port->connections_max)
        connection = mem_zalloc(sizeof *connection);
    if (connection == NULL) {
        close(descriptor);
        atomic_fetch_sub_explicit(&port->connections, 1, memory_order_relaxed);
        return;
    }
    connection->at = at;
    connection->active_ms = loop_now_ms(at->loop);
    connection->sent_ms = connection->active_ms;
    connection_open(&at->connections, &connection->base, &grpc_connection_methods, descriptor,
                    peer);
    if (connection->base.closed)
        return;
    uv_tcp_keepalive(&connection->base.tcp, 1, KEEPALIVE_S);
    connection_start(&connection->base);
}

void grpc_port_loop_drain(struct grpc_port_loop *at)
{
    at->draining = true;
    struct connection *next;
    for (struct connection *base = at->connections.first; base != NULL; base = next) {
        next = base->next;
        struct grpc_connection *connection = of(base);
        if (connection->answering)
            continue; /* its answer ends it */
        if (connection->conn == NULL) {
            connection_finish(base);
            continue;
        }
        grpc_conn_shutdown(connection->conn);
        rpcs_drain(connection);
        grpc_connection_mark(connection);
    }
}

void grpc_port_loop_cut(struct grpc_port_loop *at)
{
    struct connection *next;
    for (struct connection *base = at->connections.first; base != NULL; base = next) {
        next = base->next;
        connection_close(base);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct grpc_port_loop *at = handle->data;
    at->on_empty(at, at->on_empty_arg);
}

static void on_connections_empty(struct connections *connections, void *arg)
{
    (void)connections;
    struct grpc_port_loop *at = arg;
    uv_close((uv_handle_t *)&at->timer, on_timer_closed);
}

void grpc_port_loop_close(struct grpc_port_loop *at,
                          void (*on_empty)(struct grpc_port_loop *at, void *arg), void *arg)
{
    at->on_empty = on_empty;
    at->on_empty_arg = arg;
    connections_close(&at->connections, on_connections_empty, at);
}

void grpc_port_loop_deinit(struct grpc_port_loop *at)
{
    connections_deinit(&at->connections);
    loop_remove_hook(at->loop, &at->flush);
    rpc_arena_give(at, at->arena);
    at->arena = NULL;
    rpc_arenas_free(at);
}
