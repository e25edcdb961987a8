/*
 * client/link.c: see client/link.h for the states.
 *
 * Each attempt at an address has a struct link_socket of its own, since a libuv handle that is
 * closing cannot be used again. An abandoned one (link->socket points elsewhere) only waits for its
 * callbacks; every callback therefore first asks whether its socket is still the link's.
 */
#include "client/link.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#define READ_SIZE_MIN (64u * 1024)
#define BUFFER_KEPT_MAX (1024u * 1024)

struct link_socket {
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_write_t write;
    struct buf writing; /* in the hands of libuv, but for */
    size_t writing_taken;
    bool is_writing;
    struct link *link;
};

static void link_attempt(struct link *link);

static void link_name(struct link *link, const char *host)
{
    size_t host_size = strlen(host) + 1;
    assert(host_size <= sizeof link->host);
    memmove(link->host, host, host_size);
    bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(link->name, sizeof link->name, is_ipv6 ? "[%s]:%u" : "%s:%u", link->host, link->port);
}

void link_init(struct link *link, struct loop *loop, kvs_thread_pool *pool, const char *host,
               uint16_t port, uint32_t connect_timeout_ms, const struct link_events *events)
{
    *link = (struct link){
        .events = events,
        .loop = loop,
        .pool = pool,
        .connect_timeout_ms = connect_timeout_ms,
        .port = port,
        .rand = rand_seed(clock_now_ns() ^ (uintptr_t)link),
    };
    link_name(link, host);
    uv_timer_init(loop->uv, &link->timer); /* cannot fail */
    link->timer.data = link;
    link->handles = 1;
}

void link_use_tls(struct link *link, struct tls_context *context)
{
    assert(link->state == LINK_IDLE);
    link->tls_context = context;
}

/* --- the end of handles ------------------------------------------------------------------------
 */

static void link_handle_gone(struct link *link)
{
    link->handles--;
    if (link->state == LINK_CLOSING && link->handles == 0 && !link->resolving) {
        link->state = LINK_CLOSED;
        buf_deinit(&link->in);
        buf_deinit(&link->out);
        buf_deinit(&link->sealed);
        buf_deinit(&link->sealed_in);
        link->events->on_closed(link);
    }
}

static void socket_on_closed(uv_handle_t *handle)
{
    struct link_socket *socket = handle->data;
    struct link *link = socket->link;
    buf_deinit(&socket->writing);
    mem_free(socket);
    link_handle_gone(link);
}

static void link_drop_socket(struct link *link)
{
    if (link->socket != NULL)
        uv_close((uv_handle_t *)&link->socket->tcp, socket_on_closed);
    link->socket = NULL;
    buf_clear(&link->in);
    buf_clear(&link->out);
    buf_clear(&link->sealed);
    buf_clear(&link->sealed_in);
    tls_free(link->tls);
    link->tls = NULL;
}

static void link_on_timer_closed(uv_handle_t *handle)
{
    link_handle_gone(handle->data);
}

void link_close(struct link *link)
{
    if (link->state >= LINK_CLOSING)
        return;
    link->state = LINK_CLOSING;
    link_drop_socket(link);
    uv_close((uv_handle_t *)&link->timer, link_on_timer_closed);
}

/* --- loss and back-off -------------------------------------------------------------------------
 */

static void link_on_backoff(uv_timer_t *timer)
{
    link_attempt(timer->data);
}

static uint64_t link_backoff_ms(struct link *link)
{
    uint64_t delay = LINK_BACKOFF_MAX_MS;
    if (link->waits < 16)
        delay = (uint64_t)LINK_BACKOFF_MIN_MS << link->waits;
    if (delay > LINK_BACKOFF_MAX_MS)
        delay = LINK_BACKOFF_MAX_MS;
    link->waits++;
    link->failures++;
    return delay / 2 + rand_below(&link->rand, delay / 2 + 1);
}

static void link_back_off(struct link *link, int error, const char *message)
{
    assert(link->state >= LINK_FINDING && link->state <= LINK_READY);
    /* A peer that takes us in and lets us go at once is no better than one that is not there. */
    if (link->state == LINK_READY &&
        loop_now_ms(link->loop) >= link->ready_ms + LINK_BACKOFF_MAX_MS)
        link->waits = 0;
    link_drop_socket(link);
    link->state = LINK_BACKOFF;
    uv_timer_start(&link->timer, link_on_backoff, link_backoff_ms(link), 0);
    link->events->on_lost(link, error, message);
}

static void link_lost(struct link *link, int error, const char *why)
{
    char message[LINK_NAME_SIZE + 264];
    snprintf(message, sizeof message, "%s: %s", link->name, why);
    link_back_off(link, error, message);
}

void link_not_found(struct link *link, int error, const char *why)
{
    if (link->state == LINK_FINDING)
        link_back_off(link, error, why);
}

void link_fail(struct link *link, int error, const char *why)
{
    if (link_is_connected(link))
        link_lost(link, error, why);
}

void link_established(struct link *link)
{
    assert(link->state == LINK_GREETING);
    uv_timer_stop(&link->timer);
    link->state = LINK_READY;
    link->ready_ms = loop_now_ms(link->loop);
    link->failures = 0;
}

/* --- reading -----------------------------------------------------------------------------------
 */

static void socket_on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    (void)suggested;
    struct link_socket *socket = handle->data;
    struct link *link = socket->link;
    *ret_buf = uv_buf_init(NULL, 0); /* libuv then reports ENOBUFS */
    if (link->socket != socket)
        return;
    /* The buffer grows with what has come, never with what a peer announces. */
    struct buf *in = link->tls != NULL ? &link->sealed_in : &link->in;
    if (buf_reserve(in, READ_SIZE_MIN) != 0)
        return;
    *ret_buf = uv_buf_init((char *)in->data + in->size, (unsigned)(in->capacity - in->size));
}

static void link_take_bytes(struct link *link, struct link_socket *socket)
{
    size_t taken = link->events->on_bytes(link, buf_slice(&link->in));
    if (link->socket != socket)
        return; /* lost meanwhile, and the buffer cleared */
    buf_consume(&link->in, taken);
    if (link->in.size == 0 && link->in.capacity > BUFFER_KEPT_MAX)
        buf_deinit(&link->in);
}

/* Opens what was read. The protocol is begun when the handshake is done. */
static void link_take_sealed(struct link *link, struct link_socket *socket, size_t size)
{
    bool was_ready = tls_is_ready(link->tls);
    int error =
        tls_receive(link->tls, slice_make(link->sealed_in.data, size), &link->in, &link->sealed);
    if (error == 0 && !was_ready && tls_is_ready(link->tls))
        link->events->on_connected(link);
    if (link->socket != socket)
        return;
    if (link->in.size > 0)
        link_take_bytes(link, socket);
    if (link->socket != socket)
        return;
    char why[256];
    const char *text = error == 0 ? "" : tls_error_text(link->tls);
    snprintf(why, sizeof why, "%s", text[0] != '\0' ? text : kvs_error_text(error));
    link_flush(link); /* the handshake; an alert, which tells the peer why */
    if (error != 0 && link->socket == socket)
        link_lost(link, error, why);
}

static void socket_on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    (void)buffer;
    struct link_socket *socket = stream->data;
    struct link *link = socket->link;
    if (link->socket != socket || count == 0)
        return;
    if (count > 0)
        link->received_bytes += (uint64_t)count;
    if (count > 0 && link->tls != NULL) {
        link_take_sealed(link, socket, (size_t)count);
    } else if (count > 0) {
        link->in.size += (size_t)count;
        link_take_bytes(link, socket);
    } else if (count == UV_EOF) {
        bool in_handshake = link->tls != NULL && !tls_is_ready(link->tls);
        link_lost(link, KVS_ERR_CONNECTION_LOST,
                  in_handshake ? "the server closed the connection within the TLS handshake; does "
                                 "it speak TLS?"
                               : "the server closed the connection");
    } else if (count == UV_ENOBUFS) {
        link_lost(link, KVS_ERR_NO_MEMORY, "no memory to read a reply");
    } else {
        link_lost(link, KVS_ERR_CONNECTION_LOST, uv_strerror((int)count));
    }
}

/* --- writing -----------------------------------------------------------------------------------
 */

size_t link_unwritten(const struct link *link)
{
    size_t size = link->out.size + link->sealed.size;
    if (link->socket != NULL && link->socket->is_writing)
        size += link->socket->writing.size;
    return size;
}

static void socket_on_written(uv_write_t *write, int status)
{
    struct link_socket *socket = write->data;
    struct link *link = socket->link;
    socket->is_writing = false;
    if (status == 0)
        link->sent_bytes += socket->writing.size - socket->writing_taken;
    buf_clear(&socket->writing);
    if (socket->writing.capacity > BUFFER_KEPT_MAX)
        buf_deinit(&socket->writing);
    if (link->socket != socket)
        return;
    if (status != 0)
        link_lost(link, KVS_ERR_CONNECTION_LOST, uv_strerror(status));
}

/* What the system did not take at once is handed to libuv; `out` gets the other buffer. */
static int socket_write_rest(struct link_socket *socket, struct buf *out, size_t taken)
{
    struct buf rest = *out;
    *out = socket->writing;
    buf_clear(out);
    socket->writing = rest;
    socket->writing_taken = taken;
    socket->is_writing = true;
    uv_buf_t buffer = uv_buf_init((char *)rest.data + taken, (unsigned)(rest.size - taken));
    return uv_write(&socket->write, (uv_stream_t *)&socket->tcp, &buffer, 1, socket_on_written);
}

static void buffer_empty(struct buf *buf)
{
    buf_clear(buf);
    if (buf->capacity > BUFFER_KEPT_MAX)
        buf_deinit(buf);
}

/* What is to be written now; NULL: the link is lost. */
static struct buf *link_sealed(struct link *link)
{
    if (link->tls == NULL)
        return &link->out;
    if (tls_is_ready(link->tls) && link->out.size > 0) {
        int error = tls_send(link->tls, buf_slice(&link->out), &link->sealed);
        buffer_empty(&link->out);
        if (error != 0) {
            link_lost(link, error, "no memory to seal a request");
            return NULL;
        }
    }
    return &link->sealed;
}

void link_flush(struct link *link)
{
    struct link_socket *socket = link->socket;
    if (!link_is_connected(link) || socket->is_writing)
        return;
    struct buf *out = link_sealed(link);
    if (out == NULL || out->size == 0)
        return;
    uv_buf_t buffer = uv_buf_init((char *)out->data, (unsigned)out->size);
    int written = uv_try_write((uv_stream_t *)&socket->tcp, &buffer, 1);
    if (written == UV_EAGAIN)
        written = 0;
    if (written > 0)
        link->sent_bytes += (unsigned)written;
    if (written >= 0 && (size_t)written == out->size) {
        buffer_empty(out);
        return;
    }
    int status = written < 0 ? written : socket_write_rest(socket, out, (size_t)written);
    if (status < 0) {
        socket->is_writing = false;
        link_lost(link, KVS_ERR_CONNECTION_LOST, uv_strerror(status));
    }
}

/* --- connecting --------------------------------------------------------------------------------
 */

static void link_connect_next(struct link *link);
static void link_resolve(struct link *link);

/* The time of the attempt is over, or of its part for one of several addresses. */
static void link_on_attempt_timeout(uv_timer_t *timer)
{
    struct link *link = timer->data;
    char why[96];
    if (link->state == LINK_CONNECTING && link->address_next < link->resolve.count) {
        link->attempt_status = UV_ETIMEDOUT;
        link_drop_socket(link);
        link_connect_next(link);
        return;
    }
    const char *what = link->state == LINK_RESOLVING    ? "its name was not resolved"
                       : link->state == LINK_CONNECTING ? "no connection"
                                                        : "no hello";
    snprintf(why, sizeof why, "%s within %u ms", what, link->connect_timeout_ms);
    link_lost(link, KVS_ERR_CONNECT, why);
}

/* What is left of the attempt's time, in so many parts. */
static void link_arm_attempt(struct link *link, unsigned parts)
{
    uint64_t now_ms = loop_now_ms(link->loop);
    uint64_t left_ms = link->attempt_until_ms > now_ms ? link->attempt_until_ms - now_ms : 0;
    uv_timer_start(&link->timer, link_on_attempt_timeout, left_ms / parts, 0);
}

/* Says hello for TLS; the protocol waits. */
static void link_begin_tls(struct link *link)
{
    int error = tls_new(link->tls_context, link->host, &link->tls);
    if (error == 0)
        error = tls_receive(link->tls, slice_make(NULL, 0), &link->in, &link->sealed);
    if (error != 0)
        link_lost(link, error, "no memory for a connection");
    else
        link_flush(link);
}

/*
 * Nobody listens, and the system chose the very port it connects to: on one machine, by TCP's
 * simultaneous open, such a socket is connected to itself, hears its own words, and keeps the
 * server from its port.
 */
static bool socket_is_its_own_peer(const struct link_socket *socket)
{
    struct sockaddr_storage here = {0}, there = {0};
    int here_size = sizeof here, there_size = sizeof there;
    return uv_tcp_getsockname(&socket->tcp, (struct sockaddr *)&here, &here_size) == 0 &&
           uv_tcp_getpeername(&socket->tcp, (struct sockaddr *)&there, &there_size) == 0 &&
           here_size == there_size && memcmp(&here, &there, (size_t)here_size) == 0;
}

/* The port is free as soon as the socket is closed. */
static void socket_leave_no_trace(const struct link_socket *socket)
{
    const struct linger at_once = {.l_onoff = 1};
    int descriptor;
    if (uv_fileno((const uv_handle_t *)&socket->tcp, &descriptor) == 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/* Where the system knows no such bound its own holds. */
static void socket_bound_silence(const struct link_socket *socket)
{
    const unsigned silence_ms = LINK_SILENCE_MAX_MS;
    int descriptor;
    if (uv_fileno((const uv_handle_t *)&socket->tcp, &descriptor) == 0)
        setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
}

static void socket_on_connected(uv_connect_t *connect, int status)
{
    struct link_socket *socket = connect->data;
    struct link *link = socket->link;
    if (link->socket != socket)
        return;
    if (status == 0 && socket_is_its_own_peer(socket)) {
        socket_leave_no_trace(socket);
        status = UV_ECONNREFUSED;
    }
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&socket->tcp, socket_on_alloc, socket_on_read);
    if (status != 0) {
        link->attempt_status = status;
        link_drop_socket(link);
        link_connect_next(link);
        return;
    }
    uv_tcp_nodelay(&socket->tcp, 1); /* a failure costs time, nothing else; the same below */
    uv_tcp_keepalive(&socket->tcp, 1, 60);
    socket_bound_silence(socket);
    link->state = LINK_GREETING;
    link_arm_attempt(link, 1);
    if (link->tls_context != NULL)
        link_begin_tls(link);
    else
        link->events->on_connected(link);
}

static int link_connect(struct link *link, const struct sockaddr *address)
{
    struct link_socket *socket = mem_zalloc(sizeof *socket);
    if (socket == NULL)
        return UV_ENOMEM;
    int status = uv_tcp_init(link->loop->uv, &socket->tcp);
    if (status != 0) {
        mem_free(socket);
        return status;
    }
    socket->link = link;
    socket->tcp.data = socket->connect.data = socket->write.data = socket;
    link->socket = socket;
    link->handles++;
    status = uv_tcp_connect(&socket->connect, &socket->tcp, address, socket_on_connected);
    if (status != 0)
        link_drop_socket(link);
    return status;
}

/* Tries the addresses in turn; after the last one the attempt has failed. */
static void link_connect_next(struct link *link)
{
    link->state = LINK_CONNECTING;
    while (link->address_next < link->resolve.count) {
        const struct sockaddr_storage *address = &link->resolve.addresses[link->address_next];
        link_arm_attempt(link, link->resolve.count - link->address_next++);
        link->attempt_status = link_connect(link, (const struct sockaddr *)address);
        if (link->attempt_status == 0)
            return;
    }
    char why[128];
    bool refused = link->attempt_status == UV_ECONNREFUSED;
    snprintf(why, sizeof why, "cannot connect: %s%s", uv_strerror(link->attempt_status),
             refused ? "; is the server running?" : "");
    link_lost(link, KVS_ERR_CONNECT, why);
}

static void link_on_resolved(struct resolve *resolve)
{
    struct link *link = CONTAINER_OF(resolve, struct link, resolve);
    link->resolving = false;
    if (link->state == LINK_CLOSING && link->handles == 0) {
        link->handles++;
        link_handle_gone(link); /* the link may be no more */
        return;
    }
    if (link->state != LINK_RESOLVING)
        return; /* too late */
    if (strcmp(link->resolving_host, link->host) != 0 || resolve->port != link->port) {
        link_resolve(link); /* it was asked for another peer */
        return;
    }
    if (resolve->error != 0) {
        char why[128];
        snprintf(why, sizeof why, "cannot resolve the name: %s", resolve->why);
        link_lost(link, resolve->error, why);
        return;
    }
    link_connect_next(link);
}

static void link_resolve(struct link *link)
{
    if (link->resolving)
        return; /* the answer to an earlier attempt is still to come */
    memcpy(link->resolving_host, link->host, sizeof link->host);
    link->resolve.loop = link->loop;
    link->resolve.done = link_on_resolved;
    link->resolve.host = link->resolving_host; /* read by a thread of the pool */
    link->resolve.port = link->port;
    if (resolve_numeric(&link->resolve)) {
        link_connect_next(link);
        return;
    }
    link->resolving = true;
    resolve_start(&link->resolve, link->pool);
}

void link_set_address(struct link *link, const char *host, uint16_t port)
{
    assert(link->state == LINK_FINDING || link->state == LINK_IDLE);
    link->port = port;
    link_name(link, host);
}

void link_found(struct link *link)
{
    if (link->state != LINK_FINDING)
        return;
    link->state = LINK_RESOLVING;
    link->address_next = 0;
    link->attempt_until_ms = loop_now_ms(link->loop) + link->connect_timeout_ms;
    link_arm_attempt(link, 1);
    link_resolve(link);
}

static void link_attempt(struct link *link)
{
    link->state = LINK_FINDING;
    if (link->events->on_attempt == NULL || link->events->on_attempt(link))
        link_found(link);
}

void link_start(struct link *link)
{
    assert(link->state == LINK_IDLE);
    /* In a later turn, so that no callback comes out of this call. */
    link->state = LINK_BACKOFF;
    uv_timer_start(&link->timer, link_on_backoff, 0, 0);
}
