/*
 * proto/kvs/client_session.c: see the header for the happy path and the failures.
 *
 * The table of calls is an array with a free list. An id is the slot, and above it a generation
 * that changes with each use: a stray reply finds another generation and is dropped.
 */
#include "proto/kvs/client_session.h"

#include "base/mem.h"

#include <assert.h>

#define SLOT_BITS 16u
#define SLOTS_MAX (1u << SLOT_BITS)
#define SLOTS_FIRST 64u
#define NO_SLOT UINT32_MAX

int client_session_init(struct client_session *session, struct buf *out)
{
    *session = (struct client_session){.state = CLIENT_SESSION_HELLO, .free_first = NO_SLOT};
    const struct wire_client_hello hello = {
        .version_min = WIRE_VERSION_MIN,
        .version_max = WIRE_VERSION_MAX,
    };
    return wire_client_hello_encode(&hello, out);
}

void client_session_deinit(struct client_session *session)
{
    mem_free(session->calls);
    session->calls = NULL;
    session->calls_capacity = 0;
}

/* --- the table ---- */

static int grow_calls(struct client_session *session)
{
    uint32_t before = session->calls_capacity;
    uint32_t after = before == 0 ? SLOTS_FIRST : before * 2;
    if (after > SLOTS_MAX)
        return KVS_ERR_BUSY;
    struct client_session_call *calls = mem_realloc(session->calls, after * sizeof *calls);
    if (calls == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t slot = before; slot < after; slot++) {
        uint32_t next = slot + 1 < after ? slot + 1 : session->free_first;
        calls[slot] = (struct client_session_call){.next_free = next};
    }
    session->calls = calls;
    session->calls_capacity = after;
    session->free_first = before;
    return 0;
}

static uint32_t call_id(uint32_t slot, uint32_t generation)
{
    return (generation << SLOT_BITS) | slot;
}

static struct client_session_call *find_call(struct client_session *session, uint32_t id)
{
    uint32_t slot = id & (SLOTS_MAX - 1);
    if (slot >= session->calls_capacity)
        return NULL;
    struct client_session_call *call = &session->calls[slot];
    return call->used && call_id(slot, call->generation) == id ? call : NULL;
}

static void free_call(struct client_session *session, struct client_session_call *call)
{
    if (call->opcode == KVS_OP_SCAN) {
        session->scans--;
    } else {
        session->in_flight--;
        session->in_flight_bytes -= call->size_bytes;
    }
    call->used = false;
    call->op = NULL;
    call->generation++;
    call->next_free = session->free_first;
    session->free_first = (uint32_t)(call - session->calls);
}

/* --- what comes in ---- */

static enum client_session_item fail(struct client_session *session, int error)
{
    session->state = CLIENT_SESSION_FAILED;
    session->error = error;
    return CLIENT_SESSION_ENDED;
}

static bool limits_are_usable(const struct wire_limits *limits)
{
    return limits->key_size_max > 0 && limits->in_flight_max > 0 && limits->scans_max > 0 &&
           limits->body_size_max > limits->key_size_max &&
           limits->body_size_max <= WIRE_BODY_SIZE_SANE && limits->in_flight_bytes_max > 0;
}

static enum client_session_item next_hello(struct client_session *session, kvs_slice in,
                                           struct client_session_input *ret)
{
    struct wire_server_hello hello;
    int error = wire_server_hello_decode(in, &hello, &ret->taken);
    if (error == WIRE_MORE) {
        ret->wanted = in.size > 0 ? WIRE_SERVER_HELLO_SIZE : 0;
        return CLIENT_SESSION_NEEDS_BYTES;
    }
    if (error != 0)
        return fail(session, error);
    if (hello.status != 0)
        return fail(session, hello.status);
    if (hello.version < WIRE_VERSION_MIN || hello.version > WIRE_VERSION_MAX)
        return fail(session, KVS_ERR_VERSION);
    if (!limits_are_usable(&hello.limits))
        return fail(session, KVS_ERR_PROTOCOL);
    session->limits = hello.limits;
    session->version = hello.version;
    session->state = CLIENT_SESSION_OPEN;
    return CLIENT_SESSION_OPENED;
}

/* Gives the server new credit for a scan when half of the window has been taken. */
static int give_credit(struct client_session_call *call, const struct wire_frame *frame,
                       struct buf *out)
{
    call->scan_taken += (uint32_t)frame->body.size;
    if (call->scan_taken < CLIENT_SESSION_SCAN_WINDOW / 2)
        return 0;
    int error = wire_credit_encode(frame->id, call->scan_taken, out);
    call->scan_taken = 0;
    return error;
}

static enum client_session_item next_reply(struct client_session *session, struct buf *out,
                                           struct client_session_input *ret)
{
    const struct wire_frame *frame = &ret->frame;
    struct client_session_call *call = find_call(session, frame->id);
    if (call == NULL || call->opcode != frame->opcode || frame->status > 0)
        return fail(session, KVS_ERR_PROTOCOL);
    bool follows = call->opcode == KVS_OP_SCAN && frame->status == 0 &&
                   (frame->flags & WIRE_FLAG_FOLLOWS) != 0;
    ret->op = call->op;
    ret->last = !follows;
    if (follows && call->op != NULL && give_credit(call, frame, out) != 0)
        return fail(session, KVS_ERR_NO_MEMORY);
    if (!follows)
        free_call(session, call);
    return ret->op != NULL ? CLIENT_SESSION_REPLY : CLIENT_SESSION_IGNORED;
}

static enum client_session_item next_going(struct client_session *session,
                                           const struct wire_frame *frame)
{
    if (frame->status != 0)
        return fail(session, frame->status < 0 ? frame->status : KVS_ERR_PROTOCOL);
    session->state = CLIENT_SESSION_GOAWAY;
    return CLIENT_SESSION_GOING;
}

enum client_session_item client_session_next(struct client_session *session, kvs_slice in,
                                             struct buf *out, struct client_session_input *ret)
{
    *ret = (struct client_session_input){0};
    if (session->state == CLIENT_SESSION_FAILED)
        return CLIENT_SESSION_ENDED;
    if (session->state == CLIENT_SESSION_HELLO)
        return next_hello(session, in, ret);
    int error = wire_frame_decode(in, session->limits.body_size_max, &ret->frame);
    if (error == WIRE_MORE) {
        if (in.size >= WIRE_HEADER_SIZE)
            ret->wanted = WIRE_HEADER_SIZE + ret->frame.body.size;
        else
            ret->wanted = in.size > 0 ? WIRE_HEADER_SIZE : 0;
        return CLIENT_SESSION_NEEDS_BYTES;
    }
    if (error != 0)
        return fail(session, KVS_ERR_PROTOCOL);
    ret->taken = WIRE_HEADER_SIZE + ret->frame.body.size;
    if (ret->frame.opcode == WIRE_GOAWAY)
        return next_going(session, &ret->frame);
    return next_reply(session, out, ret);
}

/* --- what goes out ---- */

bool client_session_has_room(const struct client_session *session, const kvs_op *op)
{
    if (session->state != CLIENT_SESSION_OPEN)
        return false;
    if (op->kind == KVS_OP_SCAN)
        return session->scans < session->limits.scans_max;
    if (session->in_flight == 0)
        return true; /* one request may be as large as body_size_max allows */
    return session->in_flight < session->limits.in_flight_max &&
           session->in_flight < SLOTS_MAX / 2 &&
           session->in_flight_bytes + wire_request_size(op) <= session->limits.in_flight_bytes_max;
}

static int check_sizes(const struct client_session *session, const kvs_op *op)
{
    const struct wire_limits *limits = &session->limits;
    bool large = op->key.size > limits->key_size_max || op->end_key.size > limits->key_size_max ||
                 op->value.size > limits->value_size_max ||
                 op->expected.size > limits->value_size_max ||
                 op->count > limits->batch_count_max ||
                 wire_request_size(op) - WIRE_HEADER_SIZE > limits->body_size_max;
    return large ? KVS_ERR_TOO_LARGE : 0;
}

static void begin_call(struct client_session *session, struct client_session_call *call, kvs_op *op)
{
    session->free_first = call->next_free;
    call->op = op;
    call->opcode = op->kind;
    call->size_bytes = wire_request_size(op);
    call->scan_taken = 0;
    call->used = true;
    if (op->kind == KVS_OP_SCAN) {
        session->scans++;
    } else {
        session->in_flight++;
        session->in_flight_bytes += call->size_bytes;
    }
}

int client_session_send(struct client_session *session, kvs_op *op, uint32_t *ret_id,
                        struct buf *out)
{
    if (session->state >= CLIENT_SESSION_GOAWAY)
        return KVS_ERR_CLOSED;
    if (!client_session_has_room(session, op))
        return KVS_ERR_BUSY;
    int error = check_sizes(session, op);
    if (error == 0 && session->free_first == NO_SLOT)
        error = grow_calls(session);
    if (error != 0)
        return error;
    uint32_t slot = session->free_first;
    uint32_t id = call_id(slot, session->calls[slot].generation);
    error = wire_request_encode(op, id, CLIENT_SESSION_SCAN_WINDOW, out);
    if (error != 0)
        return error;
    begin_call(session, &session->calls[slot], op);
    *ret_id = id;
    return 0;
}

int client_session_cancel(struct client_session *session, uint32_t id, struct buf *out)
{
    struct client_session_call *call = find_call(session, id);
    if (call == NULL || call->op == NULL)
        return 0;
    call->op = NULL;
    return session->state == CLIENT_SESSION_FAILED ? 0 : wire_cancel_encode(id, out);
}

kvs_op *client_session_take_pending(struct client_session *session)
{
    while (session->take_next < session->calls_capacity) {
        struct client_session_call *call = &session->calls[session->take_next++];
        kvs_op *op = call->op;
        if (call->used)
            free_call(session, call);
        if (op != NULL)
            return op;
    }
    return NULL;
}
