/* server/eventstore_service.c: connections and their frames; see the header. */
#include "server/eventstore_service.h"

#include "base/log.h"
#include "base/mem.h"
#include "proto/foreign.h"
#include "server/eventstore_parts.h"

#include <assert.h>
#include <kvs/error.h>
#include <unistd.h>

#define IN_FLIGHT_MAX 4096u
#define SPARES_MAX 1024u
#define NAME_SIZE_MAX 256u /* of what a client calls itself */
#define TICK_MS_MAX 500u
#define TICK_MS_MIN 10u
#define KEEPALIVE_S 60u

static const struct connection_methods es_connection_methods;

static struct es_connection *of(const struct connection *base)
{
    return CONTAINER_OF((void *)(uintptr_t)base, struct es_connection, base);
}

/* --- answers ---------------------------------------------------------------------------------- */

void es_answer(struct es_connection *connection, uint8_t command, const struct es_id *correlation,
               const void *message)
{
    if (connection->base.closed)
        return;
    if (es_send(connection_out(&connection->base), command, correlation, NULL, message) != 0)
        connection_close(&connection->base);
}

static void answer_bytes(struct es_connection *connection, uint8_t command,
                         const struct es_id *correlation, kvs_slice bytes)
{
    if (connection->base.closed)
        return;
    if (es_frame_append(connection_out(&connection->base), command, correlation, NULL, bytes) != 0)
        connection_close(&connection->base);
}

void es_answer_text(struct es_connection *connection, uint8_t command,
                    const struct es_id *correlation, const char *text)
{
    answer_bytes(connection, command, correlation, slice_of_string(text));
}

void es_answer_error(struct es_connection *connection, const struct es_id *correlation, int error)
{
    storage_note(&connection->at->service->storage_notes, error, "");
    if (error == KVS_ERR_NO_MEMORY || error == KVS_ERR_BUSY) {
        const struct es_not_handled message = {.reason = ES_TOO_BUSY};
        es_answer(connection, ES_NOT_HANDLED, correlation, &message);
    } else {
        es_answer_text(connection, ES_BAD_REQUEST, correlation, kvs_error_text(error));
    }
}

void es_answer_broken(struct es_connection *connection, size_t begin, int error)
{
    connection->base.out.size = begin;
    log_warn("connection %s closed: an answer could not be written: %s", connection->base.peer,
             kvs_error_text(error));
    connection_close(&connection->base);
}

bool es_call_decode(const struct es_call *call, void *ret_message)
{
    const struct es_command_info *info = es_command_info(call->frame->command);
    if (es_message_decode(call->frame->body, info->body, ret_message) == 0)
        return true;
    es_call_refuse(call, "the body of the package cannot be read");
    return false;
}

void es_call_refuse(const struct es_call *call, const char *why)
{
    es_answer_text(call->connection, ES_BAD_REQUEST, &call->frame->correlation, why);
}

const struct stream_user *es_call_user(const struct es_call *call)
{
    static const struct stream_user anonymous;
    if (call->connection->at->service->options.insecure)
        return NULL;
    return call->user != NULL ? &call->user->user : &anonymous;
}

/* --- requests under way ----------------------------------------------------------------------- */

struct es_request *es_request_new(const struct es_call *call, task_fn *on_done, uint64_t bytes)
{
    struct es_connection *connection = call->connection;
    struct es_service_loop *at = connection->at;
    struct es_request *request = at->spare;
    if (request != NULL) {
        at->spare = request->next;
        at->spares--;
    } else {
        request = mem_alloc(sizeof *request);
    }
    if (request == NULL) {
        es_answer_error(connection, &call->frame->correlation, KVS_ERR_NO_MEMORY);
        return NULL;
    }
    memset(request, 0, sizeof *request);
    request->connection = connection;
    request->correlation = call->frame->correlation;
    request->command = call->frame->command;
    request->pinned = chunk_ref(call->chunk);
    request->user = es_user_ref(call->user);
    request->bytes = bytes;
    request->as.op.loop = at->loop;
    request->as.op.task.run = on_done;
    connection_ref(&connection->base);
    connection->in_flight++;
    connection->in_flight_bytes += bytes;
    return request;
}

void es_request_end(struct es_request *request)
{
    struct es_connection *connection = request->connection;
    struct es_service_loop *at = connection->at;
    chunk_unref(request->pinned);
    es_user_unref(request->user);
    stream_filter_free(request->filter);
    mem_free(request->events);
    connection->in_flight--;
    connection->in_flight_bytes -= request->bytes;
    if (at->spares < SPARES_MAX) {
        request->next = at->spare;
        at->spare = request;
        at->spares++;
    } else {
        mem_free(request);
    }
    if (!connection->base.closed) {
        es_connection_flush(connection);
        es_connection_close_when_done(connection);
        connection_check(&connection->base);
    }
    connection_unref(&connection->base);
}

struct buf *es_request_out(struct es_request *request)
{
    struct connection *base = &request->connection->base;
    return base->closed ? NULL : connection_out(base);
}

void es_connection_flush(struct es_connection *connection)
{
    if (connection->base.out.size >= ES_FLUSH_SIZE)
        connection_flush(&connection->base);
}

/* --- frames ----------------------------------------------------------------------------------- */

static void take_identify(const struct es_call *call)
{
    struct es_identify_client message;
    struct es_connection *connection = call->connection;
    if (!es_call_decode(call, &message))
        return;
    connection->identified = message.version > 0;
    size_t size = message.connection_name.size;
    char *name = mem_printf("%.*s", (int)(size < NAME_SIZE_MAX ? size : NAME_SIZE_MAX),
                            size > 0 ? (const char *)message.connection_name.data : "");
    if (name != NULL) {
        mem_free(connection->name);
        connection->name = name;
    }
    answer_bytes(connection, ES_CLIENT_IDENTIFIED, &call->frame->correlation, slice_make(NULL, 0));
}

static void take_authenticate(const struct es_call *call)
{
    struct es_connection *connection = call->connection;
    es_login_own(connection);
    connection->refused = false;
    answer_bytes(connection, ES_AUTHENTICATED, &call->frame->correlation, slice_make(NULL, 0));
}

static void take_unsubscribe(const struct es_call *call)
{
    const struct es_id *correlation = &call->frame->correlation;
    if (es_feed_unsubscribe(call->connection, correlation) ||
        es_consumer_unsubscribe(call->connection, correlation))
        return;
    /* It is gone already: whoever asks wants to hear that it is. */
    const struct es_subscription_dropped dropped = {.has_reason = true,
                                                    .reason = ES_DROP_UNSUBSCRIBED};
    es_answer(call->connection, ES_SUBSCRIPTION_DROPPED, correlation, &dropped);
}

/* What each command is answered by. */
static void (*const takers[256])(const struct es_call *call) = {
    [ES_WRITE_EVENTS] = es_take_write_events,
    [ES_DELETE_STREAM] = es_take_delete_stream,
    [ES_TRANSACTION_START] = es_take_transaction_start,
    [ES_TRANSACTION_WRITE] = es_take_transaction_write,
    [ES_TRANSACTION_COMMIT] = es_take_transaction_commit,
    [ES_READ_EVENT] = es_take_read_event,
    [ES_READ_STREAM_FORWARD] = es_take_read_stream,
    [ES_READ_STREAM_BACKWARD] = es_take_read_stream,
    [ES_READ_ALL_FORWARD] = es_take_read_all,
    [ES_READ_ALL_BACKWARD] = es_take_read_all,
    [ES_FILTERED_READ_ALL_FORWARD] = es_take_filtered_read_all,
    [ES_FILTERED_READ_ALL_BACKWARD] = es_take_filtered_read_all,
    [ES_SUBSCRIBE_TO_STREAM] = es_take_subscribe,
    [ES_FILTERED_SUBSCRIBE] = es_take_filtered_subscribe,
    [ES_UNSUBSCRIBE_FROM_STREAM] = take_unsubscribe,
    [ES_CREATE_GROUP] = es_take_create_group,
    [ES_UPDATE_GROUP] = es_take_update_group,
    [ES_DELETE_GROUP] = es_take_delete_group,
    [ES_CONNECT_TO_GROUP] = es_take_connect_group,
    [ES_GROUP_ACK_EVENTS] = es_take_group_ack,
    [ES_GROUP_NAK_EVENTS] = es_take_group_nak,
    [ES_SCAVENGE_DATABASE] = es_take_scavenge,
    [ES_AUTHENTICATE] = take_authenticate,
};

/* What needs no user. False: it is something else. */
static bool take_plain(const struct es_call *call)
{
    struct es_connection *connection = call->connection;
    const struct es_frame *frame = call->frame;
    switch (frame->command) {
    case ES_HEARTBEAT_REQUEST:
        answer_bytes(connection, ES_HEARTBEAT_RESPONSE, &frame->correlation, slice_make(NULL, 0));
        return true;
    case ES_HEARTBEAT_RESPONSE:
        return true;
    case ES_PING:
        answer_bytes(connection, ES_PONG, &frame->correlation, frame->body);
        return true;
    case ES_IDENTIFY_CLIENT:
        take_identify(call);
        return true;
    case ES_BAD_REQUEST:
        log_info("connection %s complains: %.*s", connection->base.peer,
                 (int)(frame->body.size < 200 ? frame->body.size : 200),
                 (const char *)frame->body.data);
        return true;
    default:
        if (takers[frame->command] != NULL)
            return false;
        es_call_refuse(call, "clients do not send this command");
        return true;
    }
}

static void end_with(struct es_connection *connection, const struct es_id *correlation,
                     const char *why)
{
    log_info("connection %s closed: %s", connection->base.peer, why);
    es_answer_text(connection, ES_BAD_REQUEST, correlation, why);
    connection_finish(&connection->base);
}

/* False: it is to be looked at again later. */
static bool take_frame(struct es_connection *connection, const struct es_frame *frame,
                       struct chunk *chunk)
{
    struct es_call call = {.connection = connection, .frame = frame, .chunk = chunk};
    int error = 0;
    if ((frame->flags & ES_FLAG_TRUSTED_WRITE) != 0) {
        end_with(connection, &frame->correlation, "only nodes of a cluster send trusted writes");
        return true;
    }
    if (take_plain(&call))
        return true;
    switch (es_who_asks(connection, frame, &call.user, &error)) {
    case ES_WHO_KNOWN:
        es_count(&connection->at->counters.calls, 1);
        takers[frame->command](&call);
        break;
    case ES_WHO_REFUSED:
        if (frame->command == ES_AUTHENTICATE)
            connection->refused = true;
        es_answer_text(connection, ES_NOT_AUTHENTICATED, &frame->correlation, "Not authenticated");
        break;
    case ES_WHO_FAILED:
        es_answer_error(connection, &frame->correlation, error);
        break;
    case ES_WHO_LATER:
        return false;
    }
    return true;
}

/* --- what a connection brings ----------------------------------------------------------------- */

static bool wants_bytes(const struct connection *base)
{
    const struct es_connection *connection = of(base);
    return !connection->at->draining && !connection->ended && !es_login_is_pending(connection) &&
           connection->in_flight < IN_FLIGHT_MAX && !es_acks_are_many(connection) &&
           connection->in_flight_bytes < connection->at->service->options.in_flight_bytes_max &&
           connection_unwritten(base) < ES_UNWRITTEN_MAX;
}

static size_t on_bytes(struct connection *base, struct chunk *chunk, kvs_slice bytes,
                       size_t *ret_wanted)
{
    struct es_connection *connection = of(base);
    uint64_t before = connection->received;
    uint64_t requests = 0;
    size_t taken = 0;
    connection->received = connection->taken + bytes.size;
    if (connection->taken == 0 && connection_end_foreign(base, bytes, 1u << FOREIGN_EVENTSTORE,
                                                         foreign_name(FOREIGN_EVENTSTORE)))
        return bytes.size;
    while (!base->closed && !base->finishing && wants_bytes(base)) {
        struct es_frame frame;
        const char *why = "";
        size_t size = 0;
        kvs_slice rest = slice_make(bytes.data + taken, bytes.size - taken);
        int error = es_frame_decode(rest, ES_FRAME_LENGTH_MAX, &frame, &size, &why);
        if (error == ES_MORE) {
            *ret_wanted = size;
            break;
        }
        if (error != 0) {
            static const struct es_id nobody;
            end_with(connection, &nobody, why);
            break;
        }
        if (!take_frame(connection, &frame, chunk))
            break;
        taken += size;
        requests++;
        es_connection_flush(connection);
    }
    connection->taken += taken;
    es_count(&connection->at->counters.requests, requests);
    es_count(&connection->at->counters.received, connection->received - before);
    return taken;
}

void es_connection_close_when_done(struct es_connection *connection)
{
    if ((connection->ended || connection->at->draining) && connection->in_flight == 0 &&
        !connection->base.closed)
        connection_finish(&connection->base);
}

static void on_end(struct connection *base)
{
    struct es_connection *connection = of(base);
    connection->ended = true;
    es_feeds_end(connection);
    es_consumers_end(connection);
    es_connection_close_when_done(connection);
}

static void on_written(struct connection *base)
{
    es_feeds_resume(of(base));
    es_reads_start(of(base));
}

/* The sum of all connections, as of their last ticks. */
static void note_unwritten(struct es_connection *connection, size_t unwritten)
{
    es_count(&connection->at->counters.unwritten,
             (uint64_t)unwritten - (uint64_t)connection->unwritten_before);
    connection->unwritten_before = unwritten;
}

static bool is_stuck(struct es_connection *connection, uint64_t now_ms)
{
    size_t unwritten = connection_unwritten(&connection->base);
    bool moves = unwritten == 0 || unwritten < connection->unwritten_before;
    note_unwritten(connection, unwritten);
    if (moves)
        connection->stuck_ms = 0;
    else if (connection->stuck_ms == 0)
        connection->stuck_ms = now_ms;
    return connection->stuck_ms != 0 &&
           now_ms - connection->stuck_ms >= connection->at->service->options.slow_timeout_ms;
}

/* What the socket has taken since it was noted last. */
static void note_written(struct es_connection *connection)
{
    uint64_t written = connection_written(&connection->base);
    es_count(&connection->at->counters.sent, written - connection->written);
    connection->written = written;
}

static const char *check_time(struct connection *base, uint64_t now_ms)
{
    struct es_connection *connection = of(base);
    static const struct es_id heartbeat_id = {"kvs heartbeat"};
    note_written(connection);
    uint64_t written = connection->written;
    if (is_stuck(connection, now_ms))
        return "it does not read what it is sent";
    const struct es_heartbeat_traffic traffic = {
        .received = connection->received,
        .queued = written + connection_unwritten(base),
        .written = written,
        .reading = base->reading,
    };
    if (connection->feeds_forgotten > 0 || connection->kept_bytes > 0)
        es_feeds_resume(connection);
    es_acks_resume(connection);
    switch (es_heartbeat_check(&connection->heartbeat, &traffic, now_ms)) {
    case ES_HEARTBEAT_ASK:
        answer_bytes(connection, ES_HEARTBEAT_REQUEST, &heartbeat_id, slice_make(NULL, 0));
        return NULL;
    case ES_HEARTBEAT_DEAD:
        return "it does not answer heartbeats";
    default:
        return NULL;
    }
}

static size_t held(const struct connection *base)
{
    const struct es_connection *connection =
        CONTAINER_OF((void *)(uintptr_t)base, struct es_connection, base);
    return connection->in_flight_bytes - connection->waiting_bytes + connection->kept_bytes +
           connection->acks_waiting;
}

/* --- life of a connection --------------------------------------------------------------------- */

static void on_closed(struct connection *base)
{
    struct es_connection *connection = of(base);
    es_reads_end(connection);
    es_feeds_end(connection);
    es_consumers_end(connection);
    note_unwritten(connection, 0);
    note_written(connection);
    /* relaxed: a count. */
    atomic_fetch_sub_explicit(&connection->at->service->connections, 1, memory_order_relaxed);
}

static void free_connection(struct connection *base)
{
    struct es_connection *connection = of(base);
    assert(connection->in_flight == 0);
    es_logins_forget(connection);
    mem_free(connection->name);
    mem_free(connection);
}

static const struct connection_methods es_connection_methods = {
    .on_bytes = on_bytes,
    .wants_bytes = wants_bytes,
    .on_end = on_end,
    .on_written = on_written,
    .check_time = check_time,
    .held = held,
    .on_closed = on_closed,
    .free = free_connection,
};

void es_service_connect(void *arg, int descriptor, const char *peer)
{
    struct es_service_loop *at = arg;
    struct es_service *service = at->service;
    const struct es_service_options *options = &service->options;
    uint32_t before = atomic_fetch_add_explicit(&service->connections, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&service->connections_opened, 1, memory_order_relaxed);
    struct es_connection *connection = NULL;
    if (!at->draining && before < options->connections_max)
        connection = mem_zalloc(sizeof *connection);
    if (connection == NULL) {
        close(descriptor);
        atomic_fetch_sub_explicit(&service->connections, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&service->connections_refused, 1, memory_order_relaxed);
        return;
    }
    connection->at = at;
    list_init(&connection->feeds);
    es_heartbeat_init(&connection->heartbeat, options->heartbeat_interval_ms,
                      options->heartbeat_timeout_ms, loop_now_ms(at->loop));
    connection_open(&at->connections, &connection->base, &es_connection_methods, descriptor, peer);
    if (connection->base.closed)
        return;
    uv_tcp_keepalive(&connection->base.tcp, 1, KEEPALIVE_S);
    connection_start(&connection->base);
}

/* --- a loop's part of the service ------------------------------------------------------------- */

static void on_submit(struct loop_hook *hook)
{
    struct es_service_loop *at = CONTAINER_OF(hook, struct es_service_loop, submit);
    if (at->writes.first != NULL)
        streams_write_list(at->service->streams, &at->writes);
}

static uint64_t tick_ms(const struct es_service_options *options)
{
    uint64_t tick = options->heartbeat_timeout_ms / 4;
    return tick > TICK_MS_MAX ? TICK_MS_MAX : tick < TICK_MS_MIN ? TICK_MS_MIN : tick;
}

void es_service_loop_init(struct es_service_loop *at, struct es_service *service, struct loop *loop)
{
    *at = (struct es_service_loop){
        .service = service,
        .loop = loop,
        .submit.run = on_submit,
    };
    list_init(&at->turns);
    service->counters[loop->index] = &at->counters;
    loop_add_hook(loop, &at->submit); /* before the connections' own: answers leave in this turn */
    connections_init(&at->connections, loop, tick_ms(&service->options));
    connections_share(&at->connections, service->options.memory);
    if (service->tls != NULL)
        connections_use_tls(&at->connections, service->tls, service->options.handshake_ms_max);
}

void es_service_loop_drain(struct es_service_loop *at)
{
    at->draining = true;
    es_scavenge_stop(at);
    struct connection *next;
    for (struct connection *base = at->connections.first; base != NULL; base = next) {
        next = base->next;
        /* Without a word: a client that is told that its subscription was dropped gives it up, one
         * whose connection ends comes back. */
        es_feeds_end(of(base));
        es_consumers_end(of(base));
        es_connection_close_when_done(of(base));
    }
}

void es_service_loop_cut(struct es_service_loop *at)
{
    struct connection *next;
    for (struct connection *base = at->connections.first; base != NULL; base = next) {
        next = base->next;
        connection_close(base);
    }
}

void es_service_loop_done_when_empty(struct es_service_loop *at)
{
    if (!at->connections_gone || at->scavenge_running || at->on_empty == NULL)
        return;
    void (*on_empty)(void *arg) = at->on_empty;
    at->on_empty = NULL;
    on_empty(at->on_empty_arg);
}

static void on_connections_empty(struct connections *connections, void *arg)
{
    (void)connections;
    struct es_service_loop *at = arg;
    at->connections_gone = true;
    es_service_loop_done_when_empty(at);
}

void es_service_loop_close(struct es_service_loop *at, void (*on_empty)(void *arg), void *arg)
{
    at->on_empty = on_empty;
    at->on_empty_arg = arg;
    connections_close(&at->connections, on_connections_empty, at);
}

void es_service_loop_deinit(struct es_service_loop *at)
{
    assert(at->writes.first == NULL);
    connections_deinit(&at->connections);
    loop_remove_hook(at->loop, &at->submit);
    while (at->spare != NULL) {
        struct es_request *request = at->spare;
        at->spare = request->next;
        mem_free(request);
    }
}
