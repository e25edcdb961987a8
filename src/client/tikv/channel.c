/* client/tikv/channel.c: see client/tikv/channel.h for the life of a channel. */
#include "client/tikv/channel.h"

#include "base/mem.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdio.h>

/* Bytes stop being made when so many wait for the socket. */
#define UNWRITTEN_MAX (1024u * 1024)
/* The largest answer is a page of values, or one value of the largest size, and what is around. */
#define MESSAGE_BYTES_MAX (80u * 1024 * 1024)
#define CALL_WINDOW_BYTES (8u * 1024 * 1024)

static struct channel *channel_of_link(struct link *link)
{
    return CONTAINER_OF(link, struct channel, link);
}

/* --- unary calls --------------------------------------------------------------------------------
 */

static struct unary *unary_of_node(struct list *node)
{
    return list_entry(node, struct unary, node);
}

void unary_deinit(struct unary *unary)
{
    buf_deinit(&unary->request);
    buf_deinit(&unary->reply);
}

static void unary_end(struct unary *unary, const struct unary_result *result)
{
    unary->call = NULL;
    list_remove(&unary->node);
    unary->done(unary, result);
}

void unary_cancel(struct unary *unary)
{
    if (unary->call != NULL)
        grpc_call_cancel(unary->call);
    unary->call = NULL;
    list_remove(&unary->node);
}

/* Both kinds of calls carry a struct call_user: the engine's events ask which one it is. */
static void stream_end(struct channel_stream *stream, const struct unary_result *result)
{
    stream->call = NULL;
    stream->on_end(stream, result);
}

static bool is_stream(const struct grpc_call *call)
{
    return ((uintptr_t)grpc_call_user(call) & 1) != 0;
}

static struct channel_stream *stream_of_call(const struct grpc_call *call)
{
    return (void *)((uintptr_t)grpc_call_user(call) & ~(uintptr_t)1);
}

static int unary_start(struct unary *unary)
{
    struct channel *channel = unary->channel;
    const struct grpc_call_options options = {
        .path = unary->path,
        .deadline_ms = unary->deadline_ms,
        .one_reply = true,
        .user = unary,
    };
    int error = grpc_call_start(channel->grpc, &options, &unary->call);
    if (error == 0)
        error = grpc_call_send(unary->call, buf_slice(&unary->request));
    if (error != 0) {
        if (unary->call != NULL)
            grpc_call_cancel(unary->call);
        unary->call = NULL;
        return error;
    }
    grpc_call_half_close(unary->call);
    buf_deinit(&unary->request);
    return 0;
}

static void unary_refuse(struct unary *unary, int code, const char *message)
{
    const struct unary_result result = {.code = code, .not_processed = true, .message = message};
    unary_end(unary, &result);
}

/* Calls that could not be started yet; at the end of a turn, where `done` may be called. */
static void channel_start_waiting(struct channel *channel)
{
    struct list waiting;
    list_init(&waiting);
    for (struct list *at = channel->calls.next; at != &channel->calls;) {
        struct list *next = at->next;
        if (unary_of_node(at)->call == NULL) {
            list_remove(at);
            list_append(&waiting, at);
        }
        at = next;
    }
    struct list *node;
    while ((node = list_pop(&waiting)) != NULL) {
        struct unary *unary = unary_of_node(node);
        list_append(&channel->calls, node);
        int error = unary_start(unary);
        if (error != 0)
            unary_refuse(unary, GRPC_UNAVAILABLE,
                         error == KVS_ERR_NO_MEMORY ? "no memory for a call"
                                                    : "the peer takes no more calls");
    }
}

void channel_unary(struct channel *channel, struct unary *unary)
{
    assert(!channel->dead && !channel->going);
    unary->channel = channel;
    unary->call = NULL;
    list_append(&channel->calls, &unary->node);
    /* A failure is told by channel_run: nothing ends inside this call. */
    if (channel->ready)
        unary_start(unary);
}

int channel_stream_start(struct channel *channel, struct channel_stream *stream, kvs_slice path)
{
    assert(channel->ready && !channel->dead);
    const struct grpc_call_options options = {
        .path = path,
        .user = (void *)((uintptr_t)stream | 1),
    };
    return grpc_call_start(channel->grpc, &options, &stream->call);
}

/* --- the engine's events ------------------------------------------------------------------------
 */

static void channel_on_message(struct grpc_call *call, kvs_slice message)
{
    if (is_stream(call)) {
        struct channel_stream *stream = stream_of_call(call);
        stream->on_message(stream, message);
        return;
    }
    struct unary *unary = grpc_call_user(call);
    buf_clear(&unary->reply);
    if (buf_append_slice(&unary->reply, message) != 0) {
        grpc_call_cancel(call);
        unary->call = NULL;
        const struct unary_result result = {.code = GRPC_RESOURCE_EXHAUSTED,
                                            .message = "no memory for an answer"};
        unary_end(unary, &result);
    }
}

static void channel_on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct channel *channel = grpc_conn_user(grpc_call_conn(call));
    char message[LINK_NAME_SIZE + 200];
    snprintf(message, sizeof message, "%s: %s%s%.*s", channel->link.name,
             grpc_code_name(status->code), status->message.size > 0 ? ": " : "",
             (int)(status->message.size < 160 ? status->message.size : 160),
             (const char *)status->message.data);
    struct unary_result result = {
        .code = status->code,
        .from_peer = status->from_peer,
        .not_processed = status->not_processed,
        .message = message,
    };
    if (is_stream(call)) {
        stream_end(stream_of_call(call), &result);
        return;
    }
    struct unary *unary = grpc_call_user(call);
    result.reply = buf_slice(&unary->reply);
    unary_end(unary, &result);
}

static void channel_on_writable(struct grpc_call *call)
{
    if (is_stream(call))
        stream_of_call(call)->on_writable(stream_of_call(call));
}

static void channel_on_goaway(struct grpc_conn *conn)
{
    struct channel *channel = grpc_conn_user(conn);
    if (channel->going)
        return;
    channel->going = true;
    if (channel->ready || !grpc_conn_peer_refuses(conn))
        channel->events->on_going(channel); /* else it is lost, when the bytes are read */
}

static const struct grpc_events channel_grpc_events = {
    .on_message = channel_on_message,
    .on_end = channel_on_end,
    .on_writable = channel_on_writable,
    .on_goaway = channel_on_goaway,
};

/* --- the end ------------------------------------------------------------------------------------
 */

/* Every call ends; what they start in turn goes elsewhere, since the channel is dead. */
static void channel_end_calls(struct channel *channel, const char *why)
{
    channel->dead = true;
    if (channel->grpc != NULL)
        grpc_conn_lost(channel->grpc, why);
    while (!list_empty(&channel->calls))
        unary_refuse(unary_of_node(channel->calls.next), GRPC_UNAVAILABLE, why);
}

void channel_close(struct channel *channel)
{
    if (channel->in_engine) {
        channel->close_asked = true;
        return;
    }
    if (!channel->dead)
        channel_end_calls(channel, "closed");
    link_close(&channel->link);
}

static void channel_on_lost(struct link *link, int error, const char *why)
{
    struct channel *channel = channel_of_link(link);
    if (channel->dead)
        return;
    channel_end_calls(channel, why);
    channel->events->on_lost(channel, error, why);
    channel_close(channel);
}

static void channel_on_link_closed(struct link *link)
{
    struct channel *channel = channel_of_link(link);
    grpc_conn_free(channel->grpc);
    tls_free(channel->tls);
    channel->grpc = NULL;
    channel->tls = NULL;
    channel->events->on_closed(channel);
}

/* --- bytes --------------------------------------------------------------------------------------
 */

static void channel_fail_grpc(struct channel *channel, int error)
{
    const char *why = grpc_conn_error_text(channel->grpc);
    if (!channel->ready && error == KVS_ERR_PROTOCOL)
        why = "what listens there does not speak gRPC";
    link_fail(&channel->link, error, why[0] != '\0' ? why : kvs_error_text(error));
}

static void channel_take_plain(struct channel *channel, kvs_slice bytes)
{
    uint64_t now_ms = loop_now_ms(channel->link.loop);
    channel->in_engine = true;
    int error = grpc_conn_receive(channel->grpc, now_ms, bytes);
    channel->in_engine = false;
    if (channel->close_asked)
        channel_close(channel);
    if (channel->dead)
        return;
    if (error != 0) {
        channel_fail_grpc(channel, error);
        return;
    }
    if (!channel->ready && grpc_conn_peer_refuses(channel->grpc)) {
        link_fail(&channel->link, KVS_ERR_PROTOCOL, grpc_conn_error_text(channel->grpc));
        return;
    }
    /* Of a peer that begins with anything but HTTP/2 the engine has something to say. */
    bool is_peer =
        grpc_conn_accepts_calls(channel->grpc) && grpc_conn_error_text(channel->grpc)[0] == '\0';
    if (!channel->ready && bytes.size > 0 && is_peer) {
        channel->ready = true;
        link_established(&channel->link);
        channel->events->on_ready(channel);
    }
}

static size_t channel_on_bytes(struct link *link, kvs_slice in)
{
    struct channel *channel = channel_of_link(link);
    if (channel->tls == NULL) {
        channel_take_plain(channel, in);
        return in.size;
    }
    struct buf plain = BUF_INIT;
    int error = tls_receive(channel->tls, in, &plain, &link->out);
    if (plain.size > 0)
        channel_take_plain(channel, buf_slice(&plain));
    buf_deinit(&plain);
    if (error != 0 && !channel->dead) {
        const char *why = tls_error_text(channel->tls);
        link_flush(link); /* an alert tells the peer why */
        if (!channel->dead)
            link_fail(link, error, why[0] != '\0' ? why : kvs_error_text(error));
    }
    return in.size;
}

static void channel_on_connected(struct link *link)
{
    struct channel *channel = channel_of_link(link);
    const struct grpc_config config = {
        .events = &channel_grpc_events,
        .user = channel,
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .call_window_bytes = CALL_WINDOW_BYTES,
        .ping_interval_ms = CHANNEL_PING_INTERVAL_MS,
        .ping_timeout_ms = CHANNEL_PING_TIMEOUT_MS,
        .authority = link->name,
        .tls = channel->tls_context != NULL,
    };
    int error = grpc_conn_new_client(&config, loop_now_ms(link->loop), &channel->grpc);
    if (error == 0 && channel->tls_context != NULL) {
        error = tls_new(channel->tls_context, link->host, &channel->tls);
        if (error == 0)
            error = tls_receive(channel->tls, slice_make(NULL, 0), &link->in, &link->out);
    }
    if (error != 0)
        link_fail(link, error, "no memory for a connection");
}

/* As much as the socket is likely to take. */
static int channel_seal(struct channel *channel)
{
    struct link *link = &channel->link;
    if (channel->tls == NULL)
        return grpc_conn_send(channel->grpc, &link->out, UNWRITTEN_MAX);
    if (!tls_is_ready(channel->tls))
        return 0;
    struct buf plain = BUF_INIT;
    int error = grpc_conn_send(channel->grpc, &plain, UNWRITTEN_MAX);
    if (error == 0)
        error = tls_send(channel->tls, buf_slice(&plain), &link->out);
    buf_deinit(&plain);
    return error;
}

void channel_run(struct channel *channel, uint64_t now_ms)
{
    if (channel->dead || channel->grpc == NULL || !link_is_connected(&channel->link))
        return;
    if (channel->ready && !channel->going)
        channel_start_waiting(channel);
    if (channel->dead)
        return;
    channel->in_engine = true;
    int error = grpc_conn_run(channel->grpc, now_ms);
    channel->in_engine = false;
    if (channel->close_asked)
        channel_close(channel);
    if (channel->dead)
        return;
    if (error == KVS_ERR_TIMEOUT) {
        link_fail(&channel->link, KVS_ERR_CONNECTION_LOST, "no sign of life");
        return;
    }
    if (link_unwritten(&channel->link) < UNWRITTEN_MAX)
        error = channel_seal(channel);
    link_flush(&channel->link);
    if (channel->dead)
        return;
    if (error != 0)
        channel_fail_grpc(channel, error);
    else if (grpc_conn_done(channel->grpc) && !channel->ready)
        channel_fail_grpc(channel, KVS_ERR_PROTOCOL);
    else if (grpc_conn_done(channel->grpc))
        link_fail(&channel->link, KVS_ERR_CONNECTION_LOST, "the server is going down");
}

uint64_t channel_timer(const struct channel *channel)
{
    if (channel->dead || channel->grpc == NULL)
        return UINT64_MAX;
    /* What the socket did not take goes on when it is written; the loop turns then. */
    bool can_send = link_unwritten(&channel->link) < UNWRITTEN_MAX;
    if (can_send && link_is_connected(&channel->link) && channel->ready &&
        grpc_conn_wants_send(channel->grpc))
        return 0;
    return grpc_conn_timer(channel->grpc);
}

/* --- opening ------------------------------------------------------------------------------------
 */

static const struct link_events channel_link_events = {
    .on_connected = channel_on_connected,
    .on_bytes = channel_on_bytes,
    .on_lost = channel_on_lost,
    .on_closed = channel_on_link_closed,
};

void channel_open(struct channel *channel, struct loop *loop, kvs_thread_pool *pool,
                  const char *host, uint16_t port, struct tls_context *tls_context,
                  uint32_t connect_timeout_ms, const struct channel_events *events, void *owner)
{
    channel->events = events;
    channel->owner = owner;
    channel->tls_context = tls_context;
    list_init(&channel->calls);
    link_init(&channel->link, loop, pool, host, port, connect_timeout_ms, &channel_link_events);
    link_start(&channel->link);
}
