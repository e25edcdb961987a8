/* server/tikv_service.c: from messages to commands, and from their answers to messages; see the
 * header. Thread: the connection's loop. */
#include "server/tikv_parts.h"

#include "base/mem.h"
#include "proto/protobuf.h"
#include "server/tikv_faults.h"
#include "tikvpb.pb-c.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdarg.h>
#include <stdio.h>

#define SCRATCH_KEPT_MAX (256u * 1024)
#define REPLIES_SIZE (1024u * 1024) /* leave before the end of the turn */
#define REPLIES_KEPT_MAX (64u * 1024)
#define OUTAGE_TICK_MS 10u

/* Answers of this turn to one stream, in wire form. */
struct tikv_replies {
    struct tikv_replies *next;
    struct rpc *rpc; /* held; its user points back */
    struct buf responses;
    struct buf ids;
};

/* X(path, number in BatchCommands, request, run, answers with pairs) */
#define METHODS(X)                                                                                 \
    X("/tikvpb.Tikv/RawGet", 13, kvrpcpb__raw_get_request, tikv_raw_get, false)                    \
    X("/tikvpb.Tikv/RawBatchGet", 14, kvrpcpb__raw_batch_get_request, tikv_raw_batch_get, true)    \
    X("/tikvpb.Tikv/RawPut", 15, kvrpcpb__raw_put_request, tikv_raw_put, false)                    \
    X("/tikvpb.Tikv/RawBatchPut", 16, kvrpcpb__raw_batch_put_request, tikv_raw_batch_put, false)   \
    X("/tikvpb.Tikv/RawDelete", 17, kvrpcpb__raw_delete_request, tikv_raw_delete, false)           \
    X("/tikvpb.Tikv/RawBatchDelete", 18, kvrpcpb__raw_batch_delete_request, tikv_raw_batch_delete, \
      false)                                                                                       \
    X("/tikvpb.Tikv/RawScan", 19, kvrpcpb__raw_scan_request, tikv_raw_scan, true)                  \
    X("/tikvpb.Tikv/RawDeleteRange", 20, kvrpcpb__raw_delete_range_request, tikv_raw_delete_range, \
      false)                                                                                       \
    X("/tikvpb.Tikv/RawBatchScan", 21, kvrpcpb__raw_batch_scan_request, tikv_raw_batch_scan, true) \
    X("/tikvpb.Tikv/RawGetKeyTTL", 0, kvrpcpb__raw_get_key_ttlrequest, tikv_raw_get_key_ttl,       \
      false)                                                                                       \
    X("/tikvpb.Tikv/RawCompareAndSwap", 0, kvrpcpb__raw_casrequest, tikv_raw_cas, false)           \
    X("/tikvpb.Tikv/RawChecksum", 0, kvrpcpb__raw_checksum_request, tikv_raw_checksum, false)      \
    X("/tikvpb.Tikv/RawCoprocessor", 34, kvrpcpb__raw_coprocessor_request, tikv_raw_coprocessor,   \
      false)                                                                                       \
    X("/tikvpb.Tikv/Coprocessor", 22, coprocessor__request, tikv_coprocessor, false)               \
    X("/tikvpb.Tikv/SplitRegion", 0, kvrpcpb__split_region_request, tikv_split_region, false)      \
    X("/tikvpb.Tikv/GetStoreSafeTS", 0, kvrpcpb__store_safe_tsrequest, tikv_store_safe_ts, false)  \
    X("/tikvpb.Tikv/GetHealthFeedback", 39, kvrpcpb__get_health_feedback_request,                  \
      tikv_health_feedback, false)

#define METHOD(path_, number_, request_, run_, pairs_) \
    {.path = path_,                                    \
     .number = number_,                                \
     .request = &request_##__descriptor,               \
     .run = run_,                                      \
     .answers_pairs = pairs_},
#define RPC_METHOD(path_, number_, request_, run_, pairs_) \
    {.path = path_, .kind = RPC_UNARY, .on_message = on_unary},

static void on_unary(struct rpc *rpc, kvs_slice bytes);
static void on_batch(struct rpc *rpc, kvs_slice bytes);

/* What nobody here knows gets an answer without a command. */
static void answer_nothing(struct tikv_command *command)
{
    tikv_answer(command, slice_make(NULL, 0));
}

/* The methods by themselves come first, in the order of tikv_methods. */
static const struct tikv_method methods[] = {METHODS(METHOD){.number = 255, .run = tikv_empty},
                                             {.number = 0, .run = answer_nothing}};
#define METHODS_COUNT (sizeof methods / sizeof methods[0])
#define METHOD_UNKNOWN (&methods[METHODS_COUNT - 1])

const struct rpc_method tikv_methods[] = {METHODS(RPC_METHOD){
    .path = "/tikvpb.Tikv/BatchCommands", .kind = RPC_STREAM, .on_message = on_batch}};
const size_t tikv_methods_count = sizeof tikv_methods / sizeof tikv_methods[0];

static const struct tikv_method *method_of_number(uint32_t number)
{
    for (size_t i = 0; i < METHODS_COUNT && number != 0; i++) {
        if (methods[i].number == number)
            return &methods[i];
    }
    return METHOD_UNKNOWN;
}

/* --- messages -----------------------------------------------------------------------------------
 */

/* Takes the event's arena, in which the request is. */
static struct tikv_message *message_begin(struct rpc *rpc, bool is_stream)
{
    struct rpc_arena *arena = rpc_take_arena(rpc);
    struct tikv_message *message =
        arena != NULL ? arena_alloc(&arena->arena, sizeof *message) : NULL;
    if (message == NULL) {
        rpc_arena_give(rpc->at, arena);
        rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return NULL;
    }
    struct tikv_service_loop *at = rpc_state(rpc);
    *message = (struct tikv_message){
        .at = at,
        .rpc = rpc,
        .arena = arena,
        .pending = 1,
        .is_stream = is_stream,
        .regions = region_reader_list(&at->regions),
    };
    rpc_hold(rpc);
    return message;
}

static void message_unref(struct tikv_message *message)
{
    if (--message->pending > 0)
        return;
    struct rpc *rpc = message->rpc;
    rpc_arena_give(rpc->at, message->arena);
    rpc_release(rpc);
}

/* All its commands are begun. */
static void message_read(struct tikv_message *message)
{
    if (message->has_view)
        engine_view_end(&message->view);
    message->has_view = false;
    message->regions = NULL;
    message_unref(message);
}

static void command_run(struct tikv_message *message, struct tikv_command *command)
{
    message->pending++;
    command->method->run(command);
}

/* A test has the store away: the connection will be broken in a moment. */
static bool is_away(struct rpc *rpc)
{
    if (!tikv_fault_store_away())
        return false;
    rpc_fail(rpc, GRPC_UNAVAILABLE, "the store is away");
    return true;
}

static void on_unary(struct rpc *rpc, kvs_slice bytes)
{
    if (is_away(rpc))
        return;
    const struct tikv_method *method = &methods[rpc->method - tikv_methods];
    const ProtobufCMessage *request = rpc_unpack(rpc, method->request, bytes);
    struct tikv_message *message = request != NULL ? message_begin(rpc, false) : NULL;
    if (message == NULL)
        return;
    struct tikv_command *command = arena_alloc(&message->arena->arena, sizeof *command);
    if (command == NULL) {
        rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    } else {
        *command = (struct tikv_command){.message = message, .method = method, .request = request};
        command_run(message, command);
    }
    message_read(message);
}

static void on_batch(struct rpc *rpc, kvs_slice bytes)
{
    if (is_away(rpc))
        return;
    const Tikvpb__BatchCommandsRequest *batch =
        rpc_unpack(rpc, &tikvpb__batch_commands_request__descriptor, bytes);
    if (batch == NULL)
        return;
    if (batch->n_requests != batch->n_request_ids) {
        rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "%zu requests with %zu request ids", batch->n_requests,
                 batch->n_request_ids);
        return;
    }
    struct tikv_message *message = message_begin(rpc, true);
    if (message == NULL)
        return;
    struct tikv_command *commands =
        arena_alloc(&message->arena->arena, batch->n_requests * sizeof *commands);
    if (commands == NULL)
        rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < batch->n_requests && !rpc->ended; i++) {
        const Tikvpb__BatchCommandsRequest__Request *request = batch->requests[i];
        commands[i] = (struct tikv_command){
            .message = message,
            .method = method_of_number(request->cmd_case),
            .request = (const ProtobufCMessage *)request->raw_get, /* any of the union */
            .id = batch->request_ids[i],
        };
        command_run(message, &commands[i]);
    }
    message_read(message);
}

struct engine_view *tikv_view(struct tikv_message *message)
{
    if (!message->has_view &&
        engine_view_begin(message->at->service->engine, NULL, false, &message->view) == 0)
        message->has_view = true;
    return message->has_view ? &message->view : NULL;
}

/* --- answers ------------------------------------------------------------------------------------
 */

static struct tikv_replies *replies_take(struct rpc *rpc)
{
    struct tikv_service_loop *at = rpc_state(rpc);
    struct tikv_replies *replies = at->spare;
    if (replies != NULL)
        at->spare = replies->next;
    else
        replies = mem_zalloc(sizeof *replies);
    if (replies == NULL)
        return NULL;
    replies->rpc = rpc;
    replies->next = at->dirty;
    at->dirty = replies;
    rpc->user = replies;
    rpc_hold(rpc);
    return replies;
}

static void replies_send(struct tikv_replies *replies)
{
    if (replies->ids.size == 0)
        return;
    size_t size = replies->responses.size + protobuf_field_size(2, replies->ids.size);
    uint8_t *to = rpc_send_room(replies->rpc, size);
    if (to != NULL) {
        to = protobuf_put_raw(to, buf_slice(&replies->responses));
        to = protobuf_put_head(to, 2, replies->ids.size);
        protobuf_put_raw(to, buf_slice(&replies->ids));
    }
    buf_clear(&replies->responses);
    buf_clear(&replies->ids);
    if (replies->responses.capacity > REPLIES_KEPT_MAX)
        buf_deinit(&replies->responses);
}

static void on_flush(struct loop_hook *hook)
{
    struct tikv_service_loop *at = CONTAINER_OF(hook, struct tikv_service_loop, flush);
    tikv_writes_submit(at);
    while (at->dirty != NULL) {
        struct tikv_replies *replies = at->dirty;
        struct rpc *rpc = replies->rpc;
        at->dirty = replies->next;
        replies_send(replies);
        rpc->user = NULL;
        rpc_release(rpc);
        replies->next = at->spare;
        at->spare = replies;
    }
}

/* One Response of a BatchCommandsResponse, and its id. */
static int append_reply(struct tikv_replies *replies, const struct tikv_command *command,
                        kvs_slice body)
{
    uint32_t number = command->method->number;
    size_t inner = number != 0 ? protobuf_field_size(number, body.size) : 0;
    size_t size = protobuf_field_size(1, inner);
    if (buf_reserve(&replies->responses, size) != 0 ||
        buf_reserve(&replies->ids, PROTOBUF_VARINT_MAX) != 0)
        return KVS_ERR_NO_MEMORY;
    uint8_t *to = replies->responses.data + replies->responses.size;
    to = protobuf_put_head(to, 1, inner);
    if (number != 0)
        protobuf_put_raw(protobuf_put_head(to, number, body.size), body);
    replies->responses.size += size;
    uint8_t *id = replies->ids.data + replies->ids.size;
    replies->ids.size += (size_t)(protobuf_put_varint(id, command->id) - id);
    if (replies->responses.size >= REPLIES_SIZE)
        replies_send(replies);
    return 0;
}

void tikv_answer(struct tikv_command *command, kvs_slice body)
{
    struct tikv_message *message = command->message;
    struct rpc *rpc = message->rpc;
    if (!message->is_stream) {
        rpc_reply(rpc, body);
    } else if (!rpc->ended) {
        struct tikv_replies *replies = rpc->user != NULL ? rpc->user : replies_take(rpc);
        if (replies == NULL || append_reply(replies, command, body) != 0)
            rpc_fail(rpc, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    }
    message_unref(message);
}

void tikv_fail(struct tikv_command *command, enum grpc_code code, const char *text)
{
    struct tikv_message *message = command->message;
    rpc_fail(message->rpc, code, "%s", text);
    message_unref(message);
}

void tikv_fail_no_memory(struct tikv_command *command)
{
    tikv_fail(command, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

void tikv_answer_message(struct tikv_command *command, const ProtobufCMessage *message)
{
    struct buf *scratch = &command_at(command)->scratch;
    buf_clear(scratch);
    size_t size = protobuf_c_message_get_packed_size(message);
    if (buf_reserve(scratch, size) != 0) {
        tikv_fail_no_memory(command);
        return;
    }
    protobuf_c_message_pack(message, scratch->data);
    scratch->size = size;
    tikv_answer(command, buf_slice(scratch));
    if (scratch->capacity > SCRATCH_KEPT_MAX)
        buf_deinit(scratch);
}

void tikv_answer_error(struct tikv_command *command, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!command->method->answers_pairs) { /* all others have it at the same place */
        Kvrpcpb__RawPutResponse answer = KVRPCPB__RAW_PUT_RESPONSE__INIT;
        answer.error = text;
        tikv_answer_message(command, &answer.base);
        return;
    }
    Kvrpcpb__KeyError error = KVRPCPB__KEY_ERROR__INIT;
    Kvrpcpb__KvPair pair = KVRPCPB__KV_PAIR__INIT;
    Kvrpcpb__KvPair *pairs[] = {&pair};
    Kvrpcpb__RawBatchGetResponse answer = KVRPCPB__RAW_BATCH_GET_RESPONSE__INIT;
    error.abort = text;
    pair.error = &error;
    answer.n_pairs = 1;
    answer.pairs = pairs;
    tikv_answer_message(command, &answer.base);
}

void tikv_answer_engine_error(struct tikv_command *command, int error)
{
    if (error == KVS_ERR_NO_SPACE)
        tikv_answer_disk_full(command);
    else if (error == KVS_ERR_BUSY)
        tikv_answer_busy(command, "the engine has too much to write");
    else if (error == KVS_ERR_NO_MEMORY)
        tikv_fail_no_memory(command);
    else
        tikv_answer_error(command, "%s", kvs_error_text(error));
}

/* --- a loop's part ------------------------------------------------------------------------------
 */

static void on_outage(uv_timer_t *timer)
{
    struct tikv_service_loop *at = timer->data;
    if (at->port != NULL && tikv_fault_store_away())
        grpc_port_loop_cut(at->port);
}

void tikv_service_loop_init(struct tikv_service_loop *at, struct tikv_service *service,
                            struct loop *loop)
{
    *at = (struct tikv_service_loop){
        .service = service, .loop = loop, .flush.run = on_flush, .delayed = HEAP_INIT};
    region_reader_init(&at->regions, service->cluster->regions);
    uv_timer_init(loop->uv, &at->delay_timer); /* cannot fail */
    uv_timer_init(loop->uv, &at->outage_timer);
    at->delay_timer.data = at;
    at->outage_timer.data = at;
    if (tikv_fault_store_goes())
        uv_timer_start(&at->outage_timer, on_outage, OUTAGE_TICK_MS, OUTAGE_TICK_MS);
    loop_add_hook(loop, &at->flush);
}

void tikv_service_loop_drain(struct tikv_service_loop *at)
{
    at->closing = true;
    tikv_delayed_run(at);
}

void tikv_service_loop_close(struct tikv_service_loop *at)
{
    tikv_service_loop_drain(at);
    uv_close((uv_handle_t *)&at->delay_timer, NULL);
    uv_close((uv_handle_t *)&at->outage_timer, NULL);
}

void tikv_service_loop_deinit(struct tikv_service_loop *at)
{
    assert(at->dirty == NULL && at->writes.first == NULL && at->reads == 0);
    loop_remove_hook(at->loop, &at->flush);
    while (at->spare != NULL) {
        struct tikv_replies *replies = at->spare;
        at->spare = replies->next;
        buf_deinit(&replies->responses);
        buf_deinit(&replies->ids);
        mem_free(replies);
    }
    buf_deinit(&at->scratch);
    heap_deinit(&at->delayed);
    region_reader_deinit(&at->regions);
}
