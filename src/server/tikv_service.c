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
#define ROPE_COPIED_MAX (64u * 1024) /* a shorter one leaves together with other answers */
#define OUTAGE_TICK_MS 10u
#define ANSWERS_BYTES_MIN (2ull * TIKV_ANSWER_LARGE) /* else one alone could be told to wait */

/* Answers of this turn to one stream, in wire form. */
struct tikv_replies {
    struct tikv_replies *next;
    struct rpc *rpc; /* held; its user points back */
    struct buf responses;
    struct buf ids;
};

/* X(name, number in BatchCommands, request, run, where its errors are) */
#define METHODS(X)                                                                                 \
    X(KvGet, 1, get_request, tikv_kv_get, KEY)                                                     \
    X(KvScan, 2, scan_request, tikv_kv_scan, SCAN)                                                 \
    X(KvPrewrite, 3, prewrite_request, tikv_kv_prewrite, KEYS)                                     \
    X(KvCommit, 4, commit_request, tikv_kv_commit, KEY)                                            \
    X(KvCleanup, 6, cleanup_request, tikv_kv_cleanup, KEY)                                         \
    X(KvBatchGet, 7, batch_get_request, tikv_kv_batch_get, BATCH_GET)                              \
    X(KvBatchRollback, 8, batch_rollback_request, tikv_kv_batch_rollback, KEY)                     \
    X(KvScanLock, 9, scan_lock_request, tikv_kv_scan_lock, KEY)                                    \
    X(KvResolveLock, 10, resolve_lock_request, tikv_kv_resolve_lock, KEY)                          \
    X(KvGC, 11, gcrequest, tikv_kv_gc, KEY)                                                        \
    X(KvDeleteRange, 12, delete_range_request, tikv_kv_delete_range, TEXT)                         \
    X(KvPessimisticLock, 23, pessimistic_lock_request, tikv_kv_pessimistic_lock, KEYS)             \
    X(KVPessimisticRollback, 24, pessimistic_rollback_request, tikv_kv_pessimistic_rollback, KEYS) \
    X(KvCheckTxnStatus, 25, check_txn_status_request, tikv_kv_check_status, KEY)                   \
    X(KvTxnHeartBeat, 26, txn_heart_beat_request, tikv_kv_heart_beat, KEY)                         \
    X(KvCheckSecondaryLocks, 33, check_secondary_locks_request, tikv_kv_check_secondaries, KEY)    \
    X(KvFlush, 37, flush_request, tikv_kv_flush, KEYS)                                             \
    X(KvBufferBatchGet, 38, buffer_batch_get_request, tikv_kv_buffer_batch_get, KEY)               \
    X(UnsafeDestroyRange, 0, unsafe_destroy_range_request, tikv_unsafe_destroy_range, TEXT)        \
    X(PhysicalScanLock, 0, physical_scan_lock_request, tikv_physical_scan_lock, TEXT_1)            \
    X(RegisterLockObserver, 0, register_lock_observer_request, tikv_lock_observer, TEXT_1)         \
    X(CheckLockObserver, 0, check_lock_observer_request, tikv_check_lock_observer, TEXT_1)         \
    X(RemoveLockObserver, 0, remove_lock_observer_request, tikv_lock_observer, TEXT_1)             \
    X(GetLockWaitInfo, 0, get_lock_wait_info_request, tikv_lock_wait_info, TEXT)                   \
    X(BroadcastTxnStatus, 40, broadcast_txn_status_request, tikv_broadcast_status, TEXT)           \
    X(MvccGetByKey, 0, mvcc_get_by_key_request, tikv_mvcc_by_key, TEXT)                            \
    X(MvccGetByStartTs, 0, mvcc_get_by_start_ts_request, tikv_mvcc_by_start_ts, TEXT)              \
    X(RawGet, 13, raw_get_request, tikv_raw_get, TEXT)                                             \
    X(RawBatchGet, 14, raw_batch_get_request, tikv_raw_batch_get, PAIR)                            \
    X(RawPut, 15, raw_put_request, tikv_raw_put, TEXT)                                             \
    X(RawBatchPut, 16, raw_batch_put_request, tikv_raw_batch_put, TEXT)                            \
    X(RawDelete, 17, raw_delete_request, tikv_raw_delete, TEXT)                                    \
    X(RawBatchDelete, 18, raw_batch_delete_request, tikv_raw_batch_delete, TEXT)                   \
    X(RawScan, 19, raw_scan_request, tikv_raw_scan, PAIR)                                          \
    X(RawDeleteRange, 20, raw_delete_range_request, tikv_raw_delete_range, TEXT)                   \
    X(RawBatchScan, 21, raw_batch_scan_request, tikv_raw_batch_scan, PAIR)                         \
    X(RawGetKeyTTL, 0, raw_get_key_ttlrequest, tikv_raw_get_key_ttl, TEXT)                         \
    X(RawCompareAndSwap, 0, raw_casrequest, tikv_raw_cas, TEXT)                                    \
    X(RawChecksum, 0, raw_checksum_request, tikv_raw_checksum, TEXT)                               \
    X(RawCoprocessor, 34, raw_coprocessor_request, tikv_raw_coprocessor, TEXT)                     \
    X(SplitRegion, 0, split_region_request, tikv_split_region, TEXT)                               \
    X(GetStoreSafeTS, 0, store_safe_tsrequest, tikv_store_safe_ts, TEXT)                           \
    X(GetHealthFeedback, 39, get_health_feedback_request, tikv_health_feedback, TEXT)

#define METHOD(name_, number_, request_, run_, errors_) \
    {.path = "/tikvpb.Tikv/" #name_,                    \
     .number = number_,                                 \
     .request = &kvrpcpb__##request_##__descriptor,     \
     .run = run_,                                       \
     .error_place = TIKV_ERROR_##errors_},
#define RPC_METHOD(name_, number_, request_, run_, errors_) \
    {.path = "/tikvpb.Tikv/" #name_, .kind = RPC_UNARY, .on_message = on_unary},
#define COPROCESSOR_PATH "/tikvpb.Tikv/Coprocessor"

static void on_unary(struct rpc *rpc, kvs_slice bytes);
static void on_batch(struct rpc *rpc, kvs_slice bytes);

/* What nobody here knows gets an answer without a command. */
static void answer_nothing(struct tikv_command *command)
{
    tikv_answer(command, slice_make(NULL, 0));
}

/* The methods by themselves come first, in the order of tikv_methods. */
static const struct tikv_method methods[] = {
    METHODS(METHOD){.path = COPROCESSOR_PATH,
                    .number = 22,
                    .request = &coprocessor__request__descriptor,
                    .run = tikv_coprocessor},
    {.number = 255, .run = tikv_empty},
    {.number = 0, .run = answer_nothing}};
#define METHODS_COUNT (sizeof methods / sizeof methods[0])
#define METHOD_UNKNOWN (&methods[METHODS_COUNT - 1])

const struct rpc_method tikv_methods[] = {
    METHODS(RPC_METHOD){.path = COPROCESSOR_PATH, .kind = RPC_UNARY, .on_message = on_unary},
    {.path = "/tikvpb.Tikv/BatchCommands", .kind = RPC_STREAM, .on_message = on_batch}};
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
    message->at->writes_bytes -= message->charged;
    rpc_arena_give(rpc->at, message->arena);
    rpc_release(rpc);
}

/* A message over the bound goes alone. */
bool tikv_message_charge(struct tikv_message *message)
{
    struct tikv_service_loop *at = message->at;
    if (message->charged > 0)
        return true;
    size_t bytes = message->arena->arena.bytes;
    if (at->writes_bytes > 0 && at->writes_bytes + bytes > TIKV_WRITES_BYTES_MAX)
        return false;
    message->charged = bytes;
    at->writes_bytes += bytes;
    return true;
}

/* All its commands are begun. */
static void message_read(struct tikv_message *message)
{
    if (message->has_view)
        txn_view_end(&message->view);
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

struct txn_view *tikv_txn_view(struct tikv_message *message)
{
    if (!message->has_view && txn_view_begin(message->at->service->txn, &message->view) == 0)
        message->has_view = true;
    return message->has_view ? &message->view : NULL;
}

struct engine_view *tikv_view(struct tikv_message *message)
{
    struct txn_view *view = tikv_txn_view(message);
    return view != NULL ? &view->view : NULL;
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
    tikv_txn_submit(at);
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

/* As append_reply and replies_send, of one answer alone. */
static void send_reply_rope(const struct tikv_command *command, struct rope *body)
{
    uint8_t head[4 * PROTOBUF_VARINT_MAX];
    uint8_t tail[3 * PROTOBUF_VARINT_MAX];
    uint32_t number = command->method->number;
    uint8_t *at = protobuf_put_head(head, 1, protobuf_field_size(number, body->size));
    at = protobuf_put_head(at, number, body->size);
    uint8_t *end = protobuf_put_head(tail, 2, protobuf_varint_size(command->id));
    end = protobuf_put_varint(end, command->id);
    rpc_send_rope(command->message->rpc, slice_make(head, (size_t)(at - head)), body,
                  slice_make(tail, (size_t)(end - tail)));
}

void tikv_answer_rope(struct tikv_command *command, struct rope *body)
{
    struct tikv_message *message = command->message;
    struct buf *scratch = &command_at(command)->scratch;
    size_t size = body->size;
    buf_clear(scratch);
    if (size <= ROPE_COPIED_MAX && buf_reserve(scratch, size) == 0) {
        rope_take(body, size, scratch->data);
        rope_deinit(body);
        scratch->size = size;
        tikv_answer(command, buf_slice(scratch));
        return;
    }
    if (message->is_stream)
        send_reply_rope(command, body);
    else
        rpc_reply_rope(message->rpc, body);
    message_unref(message);
}

void tikv_service_bound_answers(struct tikv_service *service, uint64_t memory_bytes_max)
{
    /* A little more than connections may hold: they are closed before others are refused. */
    service->answers.bytes_max = memory_bytes_max + memory_bytes_max / 4;
    if (service->answers.bytes_max < ANSWERS_BYTES_MIN)
        service->answers.bytes_max = ANSWERS_BYTES_MIN;
    service->answer_size_max = TIKV_ANSWER_LARGE;
    if (memory_bytes_max / 2 > TIKV_ANSWER_LARGE)
        service->answer_size_max = memory_bytes_max / 2 < TIKV_ANSWER_SIZE_MAX
                                       ? (size_t)memory_bytes_max / 2
                                       : TIKV_ANSWER_SIZE_MAX;
}

int tikv_body_room(struct tikv_service *service, struct rope *body, size_t size, uint8_t **ret_room)
{
    struct rope_budget *answers = &service->answers;
    if (body->size + size > service->answer_size_max)
        return KVS_ERR_TOO_LARGE;
    /* relaxed: as exact as it need be */
    if (body->size + size > TIKV_ANSWER_LARGE &&
        atomic_load_explicit(&answers->bytes, memory_order_relaxed) > answers->bytes_max / 5 * 3)
        return KVS_ERR_BUSY;
    body->budget = answers;
    return rope_room(body, size, ret_room);
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
    if (size > TIKV_MESSAGE_SIZE_MAX) {
        tikv_answer_too_large(command, TIKV_MESSAGE_SIZE_MAX);
        return;
    }
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

static void answer_text(struct tikv_command *command, char *text)
{
    if (command->method->error_place == TIKV_ERROR_TEXT_1) {
        Kvrpcpb__PhysicalScanLockResponse answer = KVRPCPB__PHYSICAL_SCAN_LOCK_RESPONSE__INIT;
        answer.error = text;
        tikv_answer_message(command, &answer.base);
    } else {
        Kvrpcpb__RawPutResponse answer = KVRPCPB__RAW_PUT_RESPONSE__INIT;
        answer.error = text;
        tikv_answer_message(command, &answer.base);
    }
}

/* Answers of one shape are alike on the wire: one stands for all. */
void tikv_answer_key_error(struct tikv_command *command, Kvrpcpb__KeyError *error)
{
    Kvrpcpb__KvPair pair = KVRPCPB__KV_PAIR__INIT;
    Kvrpcpb__KvPair *pairs[] = {&pair};
    pair.error = error;
    switch (command->method->error_place) {
    case TIKV_ERROR_PAIR: {
        Kvrpcpb__RawBatchGetResponse answer = KVRPCPB__RAW_BATCH_GET_RESPONSE__INIT;
        answer.n_pairs = 1;
        answer.pairs = pairs;
        tikv_answer_message(command, &answer.base);
        return;
    }
    case TIKV_ERROR_BATCH_GET: {
        Kvrpcpb__BatchGetResponse answer = KVRPCPB__BATCH_GET_RESPONSE__INIT;
        answer.error = error;
        answer.n_pairs = 1;
        answer.pairs = pairs;
        tikv_answer_message(command, &answer.base);
        return;
    }
    case TIKV_ERROR_SCAN: {
        Kvrpcpb__ScanResponse answer = KVRPCPB__SCAN_RESPONSE__INIT;
        answer.error = error;
        answer.n_pairs = 1;
        answer.pairs = pairs;
        tikv_answer_message(command, &answer.base);
        return;
    }
    default: { /* one, or a list of one */
        Kvrpcpb__GetResponse answer = KVRPCPB__GET_RESPONSE__INIT;
        answer.error = error;
        tikv_answer_message(command, &answer.base);
    }
    }
}

void tikv_answer_error(struct tikv_command *command, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    enum tikv_error_place place = command->method->error_place;
    if (place == TIKV_ERROR_TEXT || place == TIKV_ERROR_TEXT_1) {
        answer_text(command, text);
        return;
    }
    Kvrpcpb__KeyError error = KVRPCPB__KEY_ERROR__INIT;
    error.abort = text;
    tikv_answer_key_error(command, &error);
}

void tikv_answer_too_large(struct tikv_command *command, size_t size_max)
{
    tikv_answer_error(command, "the answer is over %zu bytes: ask for less", size_max);
}

void tikv_answer_read_error(struct tikv_command *command, int error)
{
    if (error == KVS_ERR_TOO_LARGE)
        tikv_answer_too_large(command, command_at(command)->service->answer_size_max);
    else if (error == KVS_ERR_BUSY)
        tikv_answer_busy(command, "the answers under way are too large");
    else
        tikv_answer_engine_error(command, error);
}

void tikv_note_storage(struct tikv_command *command, int error)
{
    storage_note(&command_at(command)->service->storage_notes, error, "");
}

void tikv_answer_engine_error(struct tikv_command *command, int error)
{
    tikv_note_storage(command, error);
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
    txn_node_cancel_waits(at->service->txn);
}

void tikv_service_loop_close(struct tikv_service_loop *at)
{
    tikv_service_loop_drain(at);
    uv_close((uv_handle_t *)&at->delay_timer, NULL);
    uv_close((uv_handle_t *)&at->outage_timer, NULL);
}

void tikv_service_loop_deinit(struct tikv_service_loop *at)
{
    assert(at->dirty == NULL && at->writes.first == NULL && at->txns.first == NULL);
    assert(at->reads.count == 0 && at->writes_bytes == 0);
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
