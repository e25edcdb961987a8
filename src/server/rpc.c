/*
 * server/rpc.c: calls: from the engine's events to the methods, and their answers back; see
 * grpc_service.h.
 */
#include "base/mem.h"
#include "server/grpc_parts.h"

#include "health.pb-c.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdarg.h>
#include <stdio.h>

#define SPARES_MAX 32u
#define STREAM_QUEUE_MAX (1024u * 1024)         /* unsent bytes that pause a stream */
#define ANSWERS_MAX_DEFAULT (64u * 1024 * 1024) /* those of a connection that pause its calls */
#define RESUMED_MAX 16u                         /* calls begun in a turn: each may answer much */
/* What a message may take when it is decoded: pieces of 2 bytes become structs of 100. */
#define UNPACKED_BYTES_MAX(size) (64u * 1024 * 1024 + 4 * (size))

/* --- arenas --- */

static void *allocator_alloc(void *of, size_t size)
{
    struct rpc_arena *arena = of;
    void *memory = NULL;
    if (size <= arena->bytes_max && arena->arena.bytes <= arena->bytes_max - size)
        memory = arena_alloc(&arena->arena, size);
    arena->refused |= memory == NULL;
    return memory;
}

static void allocator_free(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

static struct rpc_arena *rpc_arena_new(struct grpc_port_loop *at)
{
    struct rpc_arena *arena = at->spares;
    if (arena != NULL) {
        at->spares = arena->next;
        at->spares_count--;
        return arena;
    }
    arena = mem_zalloc(sizeof *arena);
    if (arena != NULL)
        arena->allocator = (ProtobufCAllocator){
            .alloc = allocator_alloc, .free = allocator_free, .allocator_data = arena};
    return arena;
}

static void arena_free(struct rpc_arena *arena)
{
    arena_deinit(&arena->arena);
    mem_free(arena);
}

void rpc_arena_give(struct grpc_port_loop *at, struct rpc_arena *arena)
{
    if (arena == NULL)
        return;
    if (at->spares_count >= SPARES_MAX) {
        arena_free(arena);
        return;
    }
    arena_reset(&arena->arena);
    arena->next = at->spares;
    at->spares = arena;
    at->spares_count++;
}

void rpc_arenas_free(struct grpc_port_loop *at)
{
    struct rpc_arena *next;
    for (struct rpc_arena *arena = at->spares; arena != NULL; arena = next) {
        next = arena->next;
        arena_free(arena);
    }
    at->spares = NULL;
}

static struct rpc_arena *event_arena(struct rpc *rpc)
{
    assert(rpc->in_event);
    if (rpc->at->arena == NULL)
        rpc->at->arena = rpc_arena_new(rpc->at);
    return rpc->at->arena;
}

struct rpc_arena *rpc_take_arena(struct rpc *rpc)
{
    struct rpc_arena *arena = event_arena(rpc);
    rpc->at->arena = NULL;
    return arena;
}

void *rpc_alloc(struct rpc *rpc, size_t size)
{
    struct rpc_arena *arena = event_arena(rpc);
    return arena != NULL ? arena_alloc(&arena->arena, size) : NULL;
}

void *rpc_unpack(struct rpc *rpc, const ProtobufCMessageDescriptor *type, kvs_slice message)
{
    struct rpc_arena *arena = event_arena(rpc);
    if (arena == NULL) {
        rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return NULL;
    }
    arena->bytes_max = UNPACKED_BYTES_MAX(message.size);
    arena->refused = false;
    void *unpacked = protobuf_c_message_unpack(type, &arena->allocator, message.size, message.data);
    if (unpacked == NULL && arena->refused)
        rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED,
                 "no memory for all parts of the request: send fewer");
    else if (unpacked == NULL)
        rpc_fail(rpc, GRPC_INTERNAL, "cannot decode the request");
    return unpacked;
}

/* --- the life of an rpc --- */

static void free_if_over(struct rpc *rpc)
{
    if (rpc->call != NULL || rpc->holds > 0 || rpc->in_event)
        return;
    struct grpc_connection *connection = rpc->connection;
    *rpc->link = rpc->next;
    if (rpc->next != NULL)
        rpc->next->link = rpc->link;
    mem_free(rpc);
    connection_unref(&connection->base);
}

static void pause_rpc(struct rpc *rpc)
{
    rpc->paused = true;
    rpc->connection->paused++;
    grpc_call_pause(rpc->call);
}

static void set_ended(struct rpc *rpc)
{
    rpc->call = NULL;
    rpc->ended = true;
    if (rpc->paused)
        rpc->connection->paused--;
    rpc->paused = false;
}

static void finish(struct rpc *rpc, enum grpc_code code, kvs_slice text)
{
    struct grpc_call *call = rpc->call;
    if (call == NULL)
        return;
    set_ended(rpc);
    grpc_call_finish(call, code, text);
    grpc_connection_mark(rpc->connection);
}

/* Of a stream: ends it when the client has said its last, or we stop, and all is answered. */
static void finish_if_idle(struct rpc *rpc)
{
    if (rpc->method->kind != RPC_STREAM || rpc->holds > 0 || rpc->in_event)
        return;
    if (rpc->half_closed)
        finish(rpc, GRPC_OK, slice_make(NULL, 0));
    else if (rpc->at->draining)
        finish(rpc, GRPC_UNAVAILABLE, slice_of_string("the server is stopping"));
}

void rpc_hold(struct rpc *rpc)
{
    rpc->holds++;
}

void rpc_release(struct rpc *rpc)
{
    assert(rpc->holds > 0);
    rpc->holds--;
    if (rpc->method->kind == RPC_UNARY && rpc->holds == 0 && !rpc->in_event)
        rpc_fail(rpc, GRPC_INTERNAL, "no answer was made"); /* when it has not ended */
    finish_if_idle(rpc);
    free_if_over(rpc);
}

void rpcs_drain(struct grpc_connection *connection)
{
    struct rpc *next;
    for (struct rpc *rpc = connection->rpcs; rpc != NULL; rpc = next) {
        next = rpc->next;
        finish_if_idle(rpc);
        free_if_over(rpc);
    }
}

void rpcs_give_up(struct grpc_connection *connection)
{
    struct rpc *next;
    for (struct rpc *rpc = connection->rpcs; rpc != NULL; rpc = next) {
        next = rpc->next;
        if (rpc->method->kind != RPC_UNARY || rpc->holds > 0 || rpc->call == NULL ||
            grpc_call_has_request(rpc->call))
            continue;
        finish(rpc, GRPC_UNAVAILABLE, slice_of_string("the server is stopping"));
        free_if_over(rpc);
    }
}

/* --- answers --- */

void rpc_fail(struct rpc *rpc, enum grpc_code code, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    finish(rpc, code, slice_of_string(text));
}

/* False: the message was not queued, and the call has failed. */
static bool was_queued(struct rpc *rpc, int error)
{
    if (error != 0) {
        rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, "%s", kvs_error_text(error));
        return false;
    }
    rpc->sent = true;
    grpc_connection_mark(rpc->connection);
    if (rpc->method->kind == RPC_STREAM && !rpc->paused &&
        grpc_call_send_queued(rpc->call) > STREAM_QUEUE_MAX)
        pause_rpc(rpc);
    return true;
}

uint8_t *rpc_send_room(struct rpc *rpc, size_t size)
{
    uint8_t *room;
    if (rpc->ended)
        return NULL;
    return was_queued(rpc, grpc_call_send_room(rpc->call, size, &room)) ? room : NULL;
}

void rpc_send_rope(struct rpc *rpc, kvs_slice head, struct rope *body, kvs_slice tail)
{
    if (!rpc->ended)
        was_queued(rpc, grpc_call_send_rope(rpc->call, head, body, tail));
    rope_deinit(body);
}

void rpc_send(struct rpc *rpc, kvs_slice message)
{
    uint8_t *room = rpc_send_room(rpc, message.size);
    if (room != NULL && message.size > 0)
        memcpy(room, message.data, message.size);
}

void rpc_send_message(struct rpc *rpc, const ProtobufCMessage *message)
{
    if (rpc->ended)
        return;
    uint8_t *room = rpc_send_room(rpc, protobuf_c_message_get_packed_size(message));
    if (room != NULL)
        protobuf_c_message_pack(message, room);
}

void rpc_reply(struct rpc *rpc, kvs_slice message)
{
    rpc_send(rpc, message);
    finish(rpc, GRPC_OK, slice_make(NULL, 0));
}

void rpc_reply_message(struct rpc *rpc, const ProtobufCMessage *message)
{
    rpc_send_message(rpc, message);
    finish(rpc, GRPC_OK, slice_make(NULL, 0));
}

void rpc_reply_rope(struct rpc *rpc, struct rope *body)
{
    rpc_send_rope(rpc, slice_make(NULL, 0), body, slice_make(NULL, 0));
    finish(rpc, GRPC_OK, slice_make(NULL, 0));
}

/* So many answers wait for the peer's windows that no more are made. */
static bool has_many_answers(const struct grpc_connection *connection)
{
    uint64_t max = connection->at->port->answers_bytes_max;
    return grpc_conn_queued_bytes(connection->conn) > (max != 0 ? max : ANSWERS_MAX_DEFAULT);
}

static bool must_stay_paused(const struct rpc *rpc)
{
    return rpc->method->kind == RPC_UNARY ? has_many_answers(rpc->connection)
                                          : grpc_call_send_queued(rpc->call) > STREAM_QUEUE_MAX / 2;
}

/* The oldest first: they stand last in the list. */
bool rpcs_resume(struct grpc_connection *connection)
{
    struct rpc *oldest[RESUMED_MAX];
    size_t count = 0;
    for (struct rpc *rpc = connection->rpcs; rpc != NULL; rpc = rpc->next) {
        if (rpc->paused && !must_stay_paused(rpc))
            oldest[count++ % RESUMED_MAX] = rpc;
    }
    size_t resumed = count < RESUMED_MAX ? count : RESUMED_MAX;
    for (size_t i = 1; i <= resumed; i++) {
        struct rpc *rpc = oldest[(count - i) % RESUMED_MAX];
        rpc->paused = false;
        connection->paused--;
        grpc_call_resume(rpc->call);
    }
    return resumed > 0;
}

/* --- health: every port has it --- */

static void health_check(struct rpc *rpc, kvs_slice message)
{
    (void)message; /* whichever service is asked for: all of the server serves */
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    rpc_reply_message(rpc, &response.base);
}

static const struct rpc_method health_method = {
    .path = "/grpc.health.v1.Health/Check", .kind = RPC_UNARY, .on_message = health_check};

/* --- events of the engine --- */

static const struct rpc_method *find_method(const struct grpc_port *port, kvs_slice path)
{
    for (size_t i = 0; i < port->methods_count; i++) {
        if (slice_equal(path, slice_of_string(port->methods[i].path)))
            return &port->methods[i];
    }
    return slice_equal(path, slice_of_string(health_method.path)) ? &health_method : NULL;
}

static void on_call(struct grpc_conn *conn, struct grpc_call *call)
{
    struct grpc_connection *connection = grpc_conn_user(conn);
    kvs_slice path = grpc_call_path(call);
    const struct rpc_method *method = find_method(connection->at->port, path);
    char text[160];
    if (method == NULL) {
        int size = snprintf(text, sizeof text, "unknown method %.*s",
                            (int)(path.size < 120 ? path.size : 120), (const char *)path.data);
        grpc_call_finish(call, GRPC_UNIMPLEMENTED, slice_make(text, (size_t)size));
        return;
    }
    struct rpc *rpc = mem_zalloc(sizeof *rpc);
    if (rpc == NULL) {
        grpc_call_finish(call, GRPC_RESOURCE_EXHAUSTED, slice_of_string("out of memory"));
        return;
    }
    rpc->method = method;
    rpc->at = connection->at;
    rpc->connection = connection;
    rpc->call = call;
    rpc->link = &connection->rpcs;
    rpc->next = connection->rpcs;
    if (rpc->next != NULL)
        rpc->next->link = &rpc->next;
    connection->rpcs = rpc;
    connection_ref(&connection->base);
    grpc_call_set_user(call, rpc);
    if (method->kind != RPC_UNARY)
        return;
    grpc_call_expect_one(call);
    if (connection->paused > 0 || has_many_answers(connection))
        pause_rpc(rpc);
}

static void on_message(struct grpc_call *call, kvs_slice message)
{
    struct rpc *rpc = grpc_call_user(call);
    struct grpc_port_loop *at = rpc->at;
    rpc->in_event = true;
    rpc->method->on_message(rpc, message);
    rpc->in_event = false;
    if (at->arena != NULL)
        arena_reset(&at->arena->arena);
    if (rpc->method->kind == RPC_UNARY && rpc->holds == 0)
        rpc_fail(rpc, GRPC_INTERNAL, "no answer was made"); /* when it has not ended */
    finish_if_idle(rpc);
    free_if_over(rpc);
}

static void on_half_close(struct grpc_call *call)
{
    struct rpc *rpc = grpc_call_user(call);
    rpc->half_closed = true;
    finish_if_idle(rpc);
    free_if_over(rpc);
}

static void on_end(struct grpc_call *call, const struct grpc_status *status)
{
    (void)status;
    struct rpc *rpc = grpc_call_user(call);
    set_ended(rpc);
    if (rpc->method->on_end != NULL) {
        rpc->in_event = true;
        rpc->method->on_end(rpc);
        rpc->in_event = false;
    }
    free_if_over(rpc);
}

const struct grpc_events rpc_events = {
    .on_call = on_call,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_end = on_end,
};
