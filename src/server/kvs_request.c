/*
 * server/kvs_request.c: requests that the store answers.
 *
 * 1. kv_request_start decodes the frame into an op and gathers it.
 * 2. kv_requests_submit, at the end of the turn, hands all gathered ops to the store at once.
 * 3. on_done appends the reply and gives the request back to the loop's spares.
 *
 * A write points into the bytes as they were read: they are gone within a group commit. Anything
 * that may take long has its own copy, so that it does not hold a whole chunk.
 * Thread: the connection's loop.
 */
#include "server/kvs_parts.h"

#include "base/log.h"
#include "base/mem.h"

#include <assert.h>

#define SPARES_MAX 4096u

static void on_done(kvs_op *op);

static bool is_write(uint8_t kind)
{
    return kind == KVS_OP_SET || kind == KVS_OP_REMOVE || kind == KVS_OP_CAS ||
           kind == KVS_OP_BATCH_WRITE || kind == KVS_OP_REMOVE_RANGE;
}

/* Replies that hold values. Nobody knows how large before they are there. */
static bool is_large(const struct kv_request *request)
{
    uint8_t kind = request->op.kind;
    return kind == KVS_OP_GET || kind == KVS_OP_BATCH_GET || kind == KVS_OP_CAS;
}

static struct kv_request *take_spare(struct kv_service_loop *at)
{
    struct kv_request *request = at->spare;
    if (request == NULL)
        return mem_zalloc(sizeof *request);
    at->spare = request->next;
    at->spares--;
    return request;
}

static void give_spare(struct kv_service_loop *at, struct kv_request *request)
{
    if (request->pinned != NULL)
        chunk_unref(request->pinned);
    mem_free(request->copy);
    request->pinned = NULL;
    request->copy = NULL;
    if (request->scratch.capacity > 4096)
        wire_scratch_deinit(&request->scratch);
    if (at->spares >= SPARES_MAX) {
        wire_scratch_deinit(&request->scratch);
        mem_free(request);
        return;
    }
    request->next = at->spare;
    at->spare = request;
    at->spares++;
}

void kv_requests_free_spares(struct kv_service_loop *at)
{
    while (at->spare != NULL) {
        struct kv_request *request = at->spare;
        at->spare = request->next;
        wire_scratch_deinit(&request->scratch);
        mem_free(request);
    }
}

static void link_timed(struct kv_service_loop *at, struct kv_request *request)
{
    request->timed_next = at->timed;
    request->timed_link = &at->timed;
    if (at->timed != NULL)
        at->timed->timed_link = &request->timed_next;
    at->timed = request;
    kv_service_watch_deadlines(at);
}

static void unlink_timed(struct kv_request *request)
{
    if (request->timed_link == NULL)
        return;
    *request->timed_link = request->timed_next;
    if (request->timed_next != NULL)
        request->timed_next->timed_link = request->timed_link;
    request->timed_link = NULL;
}

static void link_request(struct kv_connection *connection, struct kv_request *request)
{
    request->next = connection->requests;
    request->link = &connection->requests;
    if (connection->requests != NULL)
        connection->requests->link = &request->next;
    connection->requests = request;
    connection_ref(&connection->base);
    server_session_begin(&connection->session, request->bytes, is_large(request));
}

static void unlink_request(struct kv_request *request)
{
    *request->link = request->next;
    if (request->next != NULL)
        request->next->link = request->link;
    server_session_end(&request->connection->session, request->bytes, is_large(request));
}

/* Makes the frame's bytes last as long as the request. */
static int keep_bytes(struct kv_request *request, struct wire_frame *frame, struct chunk *chunk)
{
    if (is_write(frame->opcode)) {
        request->pinned = chunk_ref(chunk);
    } else if (frame->body.size > 0) {
        request->copy = mem_copy(frame->body.data, frame->body.size);
        if (request->copy == NULL)
            return KVS_ERR_NO_MEMORY;
        frame->body.data = request->copy;
    }
    return 0;
}

void kv_request_start(struct kv_connection *connection, const struct wire_frame *frame,
                      struct chunk *chunk)
{
    struct kv_service_loop *at = connection->at;
    struct kv_request *request = take_spare(at);
    if (request == NULL) {
        kv_answer_error(connection, frame->opcode, frame->id, KVS_ERR_NO_MEMORY, "");
        return;
    }
    struct wire_frame kept = *frame;
    const char *why = "";
    request->op.size = sizeof request->op;
    int error = keep_bytes(request, &kept, chunk);
    if (error == 0)
        error = wire_request_decode(&kept, &at->service->session.limits, &request->op,
                                    &request->scratch, NULL, &why);
    if (error != 0 || frame->opcode == KVS_OP_PING) {
        give_spare(at, request);
        if (error == 0)
            error = wire_reply_begin(KVS_OP_PING, frame->id, 0, 0,
                                     connection_out(&connection->base), NULL);
        if (error != 0)
            kv_answer_error(connection, frame->opcode, frame->id, error, why);
        return;
    }
    request->connection = connection;
    request->id = frame->id;
    request->bytes = WIRE_HEADER_SIZE + frame->body.size;
    request->answered = false;
    request->timed_link = NULL;
    request->op.on_done = on_done;
    link_request(connection, request);
    if (frame->aux != 0) {
        request->deadline_ms = loop_now_ms(at->loop) + frame->aux;
        link_timed(at, request);
    }
    at->gathered[at->gathered_count++] = &request->op;
    if (at->gathered_count == KV_SERVICE_GATHERED_MAX)
        kv_requests_submit(at);
}

void kv_requests_submit(struct kv_service_loop *at)
{
    if (at->gathered_count == 0)
        return;
    unsigned count = at->gathered_count;
    at->gathered_count = 0;
    store_submit(at->service->store, at->gathered, count, at->loop);
}

/* The store's numbers, with the server's in front. */
static int reply_stats(struct kv_request *request, struct buf *out)
{
    const kvs_slice store = request->op.result; /* a JSON object */
    struct buf json = BUF_INIT;
    int error = kv_stats_begin(request->connection->at->service, &json);
    if (error == 0 && store.size > 2)
        error = buf_append(&json, ",", 1);
    if (error == 0 && store.size > 0)
        error = buf_append(&json, store.data + 1, store.size - 1);
    if (error == 0)
        error = wire_reply_value(KVS_OP_STATS, request->id, buf_slice(&json), out);
    buf_deinit(&json);
    return error;
}

static int reply(struct kv_request *request)
{
    const kvs_op *op = &request->op;
    struct buf *out = connection_out(&request->connection->base);
    if (op->kind == KVS_OP_STATS && op->error == 0)
        return reply_stats(request, out);
    uint32_t body_size_max = request->connection->session.options->limits.body_size_max;
    size_t header = out->size;
    int error = wire_reply_encode(op, request->id, out);
    if (error == KVS_ERR_TOO_LARGE ||
        (error == 0 && out->size - header - WIRE_HEADER_SIZE > body_size_max)) {
        out->size = header;
        error = wire_reply_error(op->kind, request->id, KVS_ERR_TOO_LARGE,
                                 "the answer is over the limit: ask for less", out);
    }
    return error;
}

static void on_done(kvs_op *op)
{
    struct kv_request *request = CONTAINER_OF(op, struct kv_request, op);
    struct kv_connection *connection = request->connection;
    struct kv_service_loop *at = connection->at;
    if (op->error != 0)
        storage_note(&at->service->storage_notes, op->error, op->message);
    if (!request->answered && reply(request) != 0)
        connection_close(&connection->base);
    kvs_op_release(op);
    unlink_timed(request);
    unlink_request(request);
    give_spare(at, request);
    if (!connection->base.closed) {
        kv_connection_close_when_done(connection);
        connection_check(&connection->base);
    }
    connection_unref(&connection->base);
}

/* Answers now; what becomes of the op is dropped later. */
static void answer_early(struct kv_request *request, int error)
{
    if (request->answered)
        return;
    if (is_write(request->op.kind))
        error = KVS_ERR_OUTCOME_UNKNOWN;
    request->answered = true;
    kv_answer_error(request->connection, request->op.kind, request->id, error, "");
    store_cancel(request->connection->at->service->store, &request->op);
}

void kv_request_cancel(struct kv_connection *connection, uint32_t id)
{
    for (struct kv_request *request = connection->requests; request != NULL;
         request = request->next) {
        if (request->id == id && !request->answered) {
            kv_requests_submit(connection->at); /* the store can cancel only what it has */
            answer_early(request, KVS_ERR_CANCELLED);
            return;
        }
    }
}

void kv_requests_check_deadlines(struct kv_service_loop *at)
{
    uint64_t now_ms = loop_now_ms(at->loop);
    struct kv_request *next;
    for (struct kv_request *request = at->timed; request != NULL; request = next) {
        next = request->timed_next;
        if (request->deadline_ms > now_ms)
            continue;
        unlink_timed(request);
        answer_early(request, KVS_ERR_TIMEOUT);
    }
}
