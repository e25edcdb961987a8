/*
 * net/connection.c: see the header for the happy path, failures and thread.
 *
 * An idle connection holds no buffers: it reads into its loop's chunk, and gives the buffer of
 * its replies back when they are written.
 */
#include "net/connection.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/foreign.h"

#include <assert.h>
#include <inttypes.h>
#include <kvs/error.h>
#include <stdio.h>
#include <unistd.h>

#define OUT_SIZE_KEPT_MAX (64u * 1024) /* larger buffers are freed after use */
#define PARTIAL_SIZE_MIN (4u * 1024)
#define LINGER_MS 2000u /* for the peer to close its direction after ours */

static void on_tick(uv_timer_t *timer);
static void on_turn_end(struct loop_hook *hook);
static void on_check(struct task *task);

/* --- the connections of a loop ---- */

void connections_init(struct connections *connections, struct loop *loop, uint64_t tick_ms)
{
    *connections = (struct connections){
        .loop = loop,
        .tick_ms = tick_ms,
        .flush.run = on_turn_end,
        .check_task.run = on_check,
    };
    uv_timer_init(loop->uv, &connections->tick); /* cannot fail */
    connections->tick.data = connections;
    loop_add_hook(loop, &connections->flush);
}

void connections_use_tls(struct connections *connections, struct tls_context *context,
                         uint64_t handshake_ms_max)
{
    connections->tls_context = context;
    connections->handshake_ms_max = handshake_ms_max;
}

void connections_share(struct connections *connections, struct connections_memory *memory)
{
    connections->memory = memory;
}

static void on_tick_closed(uv_handle_t *handle)
{
    struct connections *connections = handle->data;
    connections->on_empty(connections, connections->on_empty_arg);
}

static void close_if_empty(struct connections *connections)
{
    if (connections->closing && connections->alive == 0 &&
        !uv_is_closing((uv_handle_t *)&connections->tick))
        uv_close((uv_handle_t *)&connections->tick, on_tick_closed);
}

void connections_close(struct connections *connections,
                       void (*on_empty)(struct connections *connections, void *arg), void *arg)
{
    connections->closing = true;
    connections->on_empty = on_empty;
    connections->on_empty_arg = arg;
    close_if_empty(connections);
}

void connections_deinit(struct connections *connections)
{
    assert(connections->alive == 0);
    if (connections->memory != NULL) {
        atomic_fetch_sub_explicit(&connections->memory->held, connections->held,
                                  memory_order_relaxed);
        atomic_fetch_sub_explicit(&connections->memory->count, connections->counted,
                                  memory_order_relaxed);
    }
    loop_remove_hook(connections->loop, &connections->flush);
    chunk_pool_deinit(&connections->chunks);
    buf_deinit(&connections->plain);
    for (unsigned i = 0; i < connections->outs_count; i++)
        buf_deinit(&connections->outs[i]);
}

static const char *check_time(struct connection *connection, uint64_t now_ms)
{
    if (connection->tls != NULL && !tls_is_ready(connection->tls) &&
        now_ms - connection->opened_ms >= connection->at->handshake_ms_max)
        return "no TLS handshake in time";
    return connection->methods->check_time(connection, now_ms);
}

static uint64_t memory_held(const struct connection *connection)
{
    uint64_t held =
        connection->out.capacity + connection->sending.capacity + connection->sealed.capacity;
    if (connection->partial != NULL)
        held += connection->partial->capacity;
    return held + (connection->methods->held != NULL ? connection->methods->held(connection) : 0);
}

/*
 * Tells the other loops what ours hold. When it is too much in all, closes connections of ours that
 * hold more than the average of all loops' connections, until it is enough.
 */
static void check_memory(struct connections *connections)
{
    struct connections_memory *memory = connections->memory;
    uint64_t held = 0;
    for (struct connection *connection = connections->first; connection != NULL;
         connection = connection->next)
        held += memory_held(connection);
    /* unsigned: what was given back wraps around, and the sum is right again */
    uint64_t change = held - connections->held;
    uint64_t all = change + atomic_fetch_add_explicit(&memory->held, change, memory_order_relaxed);
    connections->held = held;
    uint64_t more = connections->count - connections->counted;
    uint64_t count = more + atomic_fetch_add_explicit(&memory->count, more, memory_order_relaxed);
    connections->counted = connections->count;
    uint64_t average = count > 0 ? all / count : 0;
    struct connection *next;
    for (struct connection *connection = connections->first;
         connection != NULL && all > memory->max; connection = next) {
        next = connection->next;
        uint64_t own = memory_held(connection);
        if (own == 0 || own < average)
            continue;
        log_warn("connection %s closed: it holds %" PRIu64 " bytes, and all together %" PRIu64
                 ", which is more than --connections-memory",
                 connection->peer, own, all);
        all -= own;
        connection_close(connection);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct connections *connections = timer->data;
    uint64_t now_ms = loop_now_ms(connections->loop);
    if (connections->memory != NULL)
        check_memory(connections);
    struct connection *next;
    for (struct connection *connection = connections->first; connection != NULL;
         connection = next) {
        next = connection->next;
        if (connection->shut && now_ms - connection->finish_ms >= LINGER_MS) {
            connection_close(connection);
            continue;
        }
        const char *why = check_time(connection, now_ms);
        if (why == NULL)
            continue;
        log_info("connection %s closed: %s", connection->peer, why);
        connection_close(connection);
    }
    if (connections->first == NULL) /* a loop without connections sleeps */
        uv_timer_stop(timer);
}

/* --- life of a connection ---- */

void connection_open(struct connections *connections, struct connection *connection,
                     const struct connection_methods *methods, int descriptor, const char *peer)
{
    assert(!connections->closing);
    connection->methods = methods;
    connection->at = connections;
    connection->refs = 1;
    snprintf(connection->peer, sizeof connection->peer, "%s", peer);
    connection->next = connections->first;
    connection->link = &connections->first;
    if (connections->first != NULL)
        connections->first->link = &connection->next;
    connections->first = connection;
    connections->count++;
    connections->alive++;
    if (!uv_is_active((uv_handle_t *)&connections->tick))
        uv_timer_start(&connections->tick, on_tick, connections->tick_ms, connections->tick_ms);
    uv_tcp_init(connections->loop->uv, &connection->tcp); /* makes no socket: cannot fail */
    connection->tcp.data = connection;
    if (uv_tcp_open(&connection->tcp, descriptor) != 0) {
        close(descriptor);
        connection_close(connection);
        return;
    }
    uv_tcp_nodelay(&connection->tcp, 1); /* replies are gathered already */
    connection->opened_ms = loop_now_ms(connections->loop);
    if (connections->tls_context != NULL &&
        tls_new(connections->tls_context, NULL, &connection->tls) != 0)
        connection_close(connection);
}

void connection_unref(struct connection *connection)
{
    struct connections *connections = connection->at;
    assert(connection->refs > 0);
    if (--connection->refs > 0)
        return;
    assert(connection->closed);
    buf_deinit(&connection->out);
    buf_deinit(&connection->sending);
    buf_deinit(&connection->sealed);
    tls_free(connection->tls);
    connections->alive--;
    connection->methods->free(connection);
    close_if_empty(connections);
}

static void on_closed(uv_handle_t *handle)
{
    connection_unref(handle->data);
}

void connection_close(struct connection *connection)
{
    struct connections *connections = connection->at;
    if (connection->closed)
        return;
    connection->closed = true;
    *connection->link = connection->next;
    if (connection->next != NULL)
        connection->next->link = connection->link;
    connections->count--;
    if (connection->partial != NULL)
        chunk_unref(connection->partial);
    connection->partial = NULL;
    connection->methods->on_closed(connection);
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void on_shut(uv_shutdown_t *request, int status)
{
    struct connection *connection = request->handle->data;
    if (status != 0 || connection->ended)
        connection_close(connection);
}

static void tell_end(struct connection *connection)
{
    if (connection->tls == NULL || connection->told_end || !tls_is_ready(connection->tls))
        return;
    connection->told_end = true;
    if (tls_end(connection->tls, &connection->sealed) == 0)
        connection_flush(connection);
    else
        connection_close(connection);
}

/* Once all is written: closes our direction; the peer's end of file then closes the rest. */
static void shut_when_written(struct connection *connection)
{
    if (!connection->finishing || connection->shut || connection->closed ||
        connection_unwritten(connection) > 0)
        return;
    tell_end(connection);
    if (connection->closed || connection_unwritten(connection) > 0)
        return;
    connection->shut = true;
    connection->finish_ms = loop_now_ms(connection->at->loop);
    if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shut) != 0)
        connection_close(connection);
}

static void mark_dirty(struct connection *connection)
{
    if (connection->dirty)
        return;
    connection->dirty = true;
    connection_ref(connection);
    connection->next_dirty = connection->at->dirty;
    connection->at->dirty = connection;
}

static void start_reading(struct connection *connection);

void connection_finish(struct connection *connection)
{
    if (connection->finishing || connection->closed)
        return;
    connection->finishing = true;
    start_reading(connection); /* drops what comes, to see the end */
    mark_dirty(connection);
}

/* --- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct connection *connection = handle->data;
    struct chunk *partial = connection->tls == NULL ? connection->partial : NULL;
    if (partial != NULL) {
        ret_buffer->base = (char *)partial->data + connection->partial_used;
        ret_buffer->len = partial->capacity - connection->partial_used;
        return;
    }
    kvs_slice region = chunk_pool_region(&connection->at->chunks);
    *ret_buffer = uv_buf_init((char *)(uintptr_t)region.data, (unsigned)region.size);
}

/*
 * How much room to give an item of `wanted` bytes of which `have` are there: it grows with what
 * has really come, so that a size alone costs its sender's peer nothing.
 */
static size_t partial_capacity(size_t have, size_t wanted)
{
    size_t grown = have * 8 > PARTIAL_SIZE_MIN ? have * 8 : PARTIAL_SIZE_MIN;
    size_t capacity = wanted > have && wanted < grown ? wanted : grown;
    return capacity > PARTIAL_SIZE_MIN ? capacity : PARTIAL_SIZE_MIN;
}

/* Keeps the bytes that are not done with. False: no memory. */
static bool keep_partial(struct connection *connection, kvs_slice rest, size_t wanted)
{
    struct chunk *partial = connection->partial;
    /* 2: the connection's own, and that of give_bytes; nobody else looks at the bytes. */
    if (partial != NULL && partial->refs == 2 && partial->capacity > rest.size &&
        (partial->capacity >= wanted || rest.size < partial->capacity / 2)) {
        memmove(partial->data, rest.data, rest.size);
        connection->partial_used = rest.size;
        return true;
    }
    struct chunk *grown = chunk_new(partial_capacity(rest.size, wanted));
    if (grown == NULL)
        return false;
    memcpy(grown->data, rest.data, rest.size);
    if (partial != NULL)
        chunk_unref(partial);
    connection->partial = grown;
    connection->partial_used = rest.size;
    return true;
}

/* Gives bytes in `chunk` (the partial, when there is one) to the protocol; keeps what it leaves. */
static void give_bytes(struct connection *connection, struct chunk *chunk, kvs_slice bytes)
{
    size_t wanted = 0;
    chunk_ref(chunk); /* the call may close the connection, and give the partial back with it */
    size_t taken = connection->methods->on_bytes(connection, chunk, bytes, &wanted);
    assert(taken <= bytes.size);
    kvs_slice rest = slice_make(bytes.data + taken, bytes.size - taken);
    if (connection->closed) {
        /* nothing is kept */
    } else if (rest.size > 0 && !connection->finishing) {
        if (!keep_partial(connection, rest, wanted))
            connection_close(connection);
    } else if (connection->partial != NULL) {
        chunk_unref(connection->partial);
        connection->partial = NULL;
    }
    chunk_unref(chunk);
}

static void stop_reading(struct connection *connection)
{
    if (connection->reading)
        uv_read_stop((uv_stream_t *)&connection->tcp);
    connection->reading = false;
}

static void on_end(struct connection *connection)
{
    connection->ended = true;
    stop_reading(connection);
    if (connection->shut)
        connection_close(connection);
    else if (!connection->finishing)
        connection->methods->on_end(connection);
}

/* Opened bytes, behind those of an unfinished item. They are copied, so that the protocol can keep
 * them as long as it likes. */
static void give_plain(struct connection *connection, kvs_slice plain)
{
    struct chunk *partial = connection->partial;
    size_t used = partial != NULL ? connection->partial_used : 0;
    struct chunk *chunk = partial;
    if (partial == NULL || partial->capacity - used < plain.size) {
        chunk = chunk_new(used + plain.size);
        if (chunk == NULL) {
            connection_close(connection);
            return;
        }
        if (used > 0)
            memcpy(chunk->data, partial->data, used);
        if (partial != NULL) {
            chunk_unref(partial);
            connection->partial = chunk;
        }
    }
    memcpy(chunk->data + used, plain.data, plain.size);
    if (partial != NULL)
        connection->partial_used = used + plain.size;
    give_bytes(connection, chunk, slice_make(chunk->data, used + plain.size));
    if (partial == NULL)
        chunk_unref(chunk);
}

bool connection_end_foreign(struct connection *connection, kvs_slice bytes, unsigned own,
                            const char *here)
{
    enum foreign foreign = foreign_recognise(bytes);
    if (foreign == FOREIGN_UNKNOWN || (own >> foreign & 1) != 0)
        return false;
    bool clear = connection->tls != NULL && !connection->met; /* text where TLS is spoken */
    log_info("connection %s closed: it speaks %s%s, and this port %s", connection->peer,
             foreign_name(foreign), clear ? " in clear text" : "", here);
    if (clear)
        connection->told_end = true; /* TLS has nothing to say */
    struct buf *out = clear ? &connection->sealed : connection_out(connection);
    if (foreign_answer(foreign, here, out) != 0)
        connection_close(connection);
    else
        connection_finish(connection);
    return true;
}

static void on_sealed(struct connection *connection, kvs_slice bytes)
{
    if (!connection->met &&
        connection_end_foreign(connection, bytes, 1u << FOREIGN_TLS, foreign_name(FOREIGN_TLS)))
        return;
    connection->met = true;
    struct buf *plain = &connection->at->plain;
    int error = tls_receive(connection->tls, bytes, plain, &connection->sealed);
    if (connection->sealed.size > 0 || tls_is_ready(connection->tls))
        mark_dirty(connection); /* replies may have waited for the handshake */
    if (plain->size > 0)
        give_plain(connection, buf_slice(plain));
    buf_clear(plain);
    if (error == 0 || connection->closed || connection->finishing)
        return;
    if (error == KVS_ERR_CONNECTION_LOST) {
        on_end(connection);
        return;
    }
    log_info("connection %s closed: %s", connection->peer,
             error == KVS_ERR_NO_MEMORY ? kvs_error_text(error) : tls_error_text(connection->tls));
    connection->told_end = true;
    connection_finish(connection); /* after the alert, which tells the peer why */
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;
    if (size == UV_EOF) {
        on_end(connection);
    } else if (size < 0) {
        connection_close(connection);
    } else if (size > 0 && !connection->finishing) {
        struct chunk *partial = connection->partial;
        if (connection->tls != NULL) {
            on_sealed(connection, slice_make(buffer->base, (size_t)size));
        } else if (partial != NULL) {
            connection->partial_used += (size_t)size;
            give_bytes(connection, partial, slice_make(partial->data, connection->partial_used));
        } else {
            struct chunk_pool *pool = &connection->at->chunks;
            struct chunk *chunk = pool->current;
            chunk_pool_advance(pool, (size_t)size);
            give_bytes(connection, chunk, slice_make(buffer->base, (size_t)size));
        }
        if (!connection->closed && !connection->finishing &&
            !connection->methods->wants_bytes(connection))
            stop_reading(connection);
    }
}

static void start_reading(struct connection *connection)
{
    if (connection->reading || connection->ended || connection->closed)
        return;
    if (uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read) != 0) {
        connection_close(connection);
        return;
    }
    connection->reading = true;
}

void connection_start(struct connection *connection)
{
    start_reading(connection);
}

void connection_check(struct connection *connection)
{
    struct connections *connections = connection->at;
    if (connection->reading || connection->checked || connection->closed)
        return;
    connection->checked = true;
    connection_ref(connection);
    connection->next_checked = connections->checked;
    connections->checked = connection;
    if (!connections->check_posted) {
        connections->check_posted = true;
        loop_post(connections->loop, &connections->check_task);
    }
}

static void check_one(struct connection *connection)
{
    if (connection->closed || connection->finishing ||
        !connection->methods->wants_bytes(connection))
        return;
    if (connection->partial != NULL && connection->partial_used > 0)
        give_bytes(connection, connection->partial,
                   slice_make(connection->partial->data, connection->partial_used));
    if (!connection->closed && !connection->finishing &&
        connection->methods->wants_bytes(connection))
        start_reading(connection);
}

static void on_check(struct task *task)
{
    struct connections *connections = CONTAINER_OF(task, struct connections, check_task);
    struct connection *connection = connections->checked;
    connections->checked = NULL;
    connections->check_posted = false;
    while (connection != NULL) {
        struct connection *next = connection->next_checked;
        connection->checked = false;
        check_one(connection);
        connection_unref(connection);
        connection = next;
    }
}

/* --- writing ---- */

struct buf *connection_out(struct connection *connection)
{
    struct connections *connections = connection->at;
    mark_dirty(connection);
    if (connection->out.data == NULL && connections->outs_count > 0)
        connection->out = connections->outs[--connections->outs_count];
    return &connection->out;
}

static void give_back(struct connections *connections, struct buf *buffer)
{
    if (buffer->data != NULL && buffer->capacity <= OUT_SIZE_KEPT_MAX &&
        connections->outs_count < CONNECTION_OUTS_MAX) {
        buf_clear(buffer);
        connections->outs[connections->outs_count++] = *buffer;
        *buffer = BUF_INIT;
    } else {
        buf_deinit(buffer);
    }
}

static void on_write(uv_write_t *request, int status)
{
    struct connection *connection = request->handle->data;
    buf_deinit(&connection->sending);
    if (connection->closed)
        return;
    if (status != 0) {
        connection_close(connection);
        return;
    }
    mark_dirty(connection);
    connection->methods->on_written(connection);
}

/* The socket has taken `written` bytes of `from`: libuv waits for it to take the rest. */
static void send_rest(struct connection *connection, struct buf *from, size_t written)
{
    connection->sending = *from;
    *from = BUF_INIT;
    uv_buf_t rest = uv_buf_init((char *)connection->sending.data + written,
                                (unsigned)(connection->sending.size - written));
    if (uv_write(&connection->write, (uv_stream_t *)&connection->tcp, &rest, 1, on_write) != 0) {
        buf_deinit(&connection->sending);
        connection_close(connection);
    }
}

/* Seals the replies; before the handshake is done they wait, or go nowhere when there is nobody to
 * wait for. False: no memory. */
static bool seal(struct connection *connection)
{
    struct buf *out = &connection->out;
    int error = 0;
    if (!tls_is_ready(connection->tls)) {
        if (connection->finishing)
            buf_clear(out);
        return true;
    }
    if (out->size > 0)
        error = tls_send(connection->tls, buf_slice(out), &connection->sealed);
    buf_clear(out);
    give_back(connection->at, out);
    return error == 0;
}

void connection_flush(struct connection *connection)
{
    struct buf *out = &connection->out;
    if (connection->closed) {
        give_back(connection->at, out);
        return;
    }
    if (connection->tls != NULL && connection->sending.size == 0) {
        if (!seal(connection)) {
            connection_close(connection);
            return;
        }
        out = &connection->sealed;
    }
    if (out->size == 0)
        give_back(connection->at, out);
    if (out->size == 0 || connection->sending.size > 0)
        return;
    uv_buf_t all = uv_buf_init((char *)out->data, (unsigned)out->size);
    int wrote = uv_try_write((uv_stream_t *)&connection->tcp, &all, 1);
    if (wrote == UV_EAGAIN)
        wrote = 0;
    connection->sent += out->size;
    if (wrote < 0)
        connection_close(connection);
    else if ((size_t)wrote == out->size)
        give_back(connection->at, out);
    else
        send_rest(connection, out, (size_t)wrote);
}

static void on_turn_end(struct loop_hook *hook)
{
    struct connections *connections = CONTAINER_OF(hook, struct connections, flush);
    struct connection *connection = connections->dirty;
    connections->dirty = NULL;
    while (connection != NULL) {
        struct connection *next = connection->next_dirty;
        connection->dirty = false;
        connection_flush(connection);
        shut_when_written(connection);
        if (!connection->reading && !connection->closed && !connection->finishing &&
            connection->methods->wants_bytes(connection))
            connection_check(connection);
        connection_unref(connection);
        connection = next;
    }
}
