/* client/tikv/txn_wire.c: requests; answers are txn_answer.c's. See client/tikv/txn_wire.h. */
#include "client/tikv/txn_wire.h"

#include "proto/protobuf.h"

#include <assert.h>
#include <kvs/error.h>

/* What is needed while one request is written. */
struct writer {
    struct arena *arena;
    const struct txn_wire_place *place;
    bool failed; /* no memory */
};

static const struct {
    const char *path;
    uint32_t number;
} methods[] = {
    [TXN_GET] = {"/tikvpb.Tikv/KvGet", 1},
    [TXN_BATCH_GET] = {"/tikvpb.Tikv/KvBatchGet", 7},
    [TXN_SCAN] = {"/tikvpb.Tikv/KvScan", 2},
    [TXN_SCAN_LOCK] = {"/tikvpb.Tikv/KvScanLock", 9},
    [TXN_PREWRITE] = {"/tikvpb.Tikv/KvPrewrite", 3},
    [TXN_COMMIT] = {"/tikvpb.Tikv/KvCommit", 4},
    [TXN_BATCH_ROLLBACK] = {"/tikvpb.Tikv/KvBatchRollback", 8},
    [TXN_PESSIMISTIC_LOCK] = {"/tikvpb.Tikv/KvPessimisticLock", 23},
    [TXN_PESSIMISTIC_ROLLBACK] = {"/tikvpb.Tikv/KVPessimisticRollback", 24},
    [TXN_HEARTBEAT] = {"/tikvpb.Tikv/KvTxnHeartBeat", 26},
    [TXN_CHECK_STATUS] = {"/tikvpb.Tikv/KvCheckTxnStatus", 25},
    [TXN_CHECK_SECONDARIES] = {"/tikvpb.Tikv/KvCheckSecondaryLocks", 33},
    [TXN_RESOLVE_LOCK] = {"/tikvpb.Tikv/KvResolveLock", 10},
};

kvs_slice txn_wire_path(enum txn_command_kind kind)
{
    assert(kind < sizeof methods / sizeof methods[0] && methods[kind].path != NULL);
    return slice_of_string(methods[kind].path);
}

uint32_t txn_wire_number(enum txn_command_kind kind)
{
    return methods[kind].number;
}

/* --- keys ---------------------------------------------------------------------------------------
 */

static ProtobufCBinaryData bytes_of(kvs_slice slice)
{
    return (ProtobufCBinaryData){.len = slice.size, .data = (uint8_t *)(uintptr_t)slice.data};
}

/* With the keyspace's prefix. */
static ProtobufCBinaryData full_key(struct writer *writer, kvs_slice key)
{
    kvs_slice prefix = writer->place->prefix;
    if (prefix.size == 0)
        return bytes_of(key);
    uint8_t *full = arena_alloc(writer->arena, prefix.size + key.size);
    if (full == NULL) {
        writer->failed = true;
        return (ProtobufCBinaryData){0};
    }
    memcpy(full, prefix.data, prefix.size);
    if (key.size > 0)
        memcpy(full + prefix.size, key.data, key.size);
    return (ProtobufCBinaryData){.len = prefix.size + key.size, .data = full};
}

/* The end of a range: without a bound it is where the keyspace ends. */
static ProtobufCBinaryData full_end(struct writer *writer, kvs_slice end)
{
    kvs_slice prefix = writer->place->prefix;
    ProtobufCBinaryData full = full_key(writer, end);
    if (end.size > 0 || prefix.size == 0 || full.data == NULL)
        return full;
    for (size_t i = prefix.size; i-- > 0;) { /* the mode is not 0xff: this ends */
        if (++full.data[i] != 0)
            break;
    }
    return full;
}

static ProtobufCBinaryData *full_keys(struct writer *writer, const kvs_slice *keys, size_t count)
{
    ProtobufCBinaryData *full = arena_alloc(writer->arena, (count + 1) * sizeof full[0]);
    if (full == NULL) {
        writer->failed = true;
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        full[i] = full_key(writer, keys[i]);
    return full;
}

/* --- context ------------------------------------------------------------------------------------
 */

struct context_parts {
    Kvrpcpb__Context context;
    Metapb__RegionEpoch epoch;
    Metapb__Peer peer;
};

static Kvrpcpb__Context *make_context(struct context_parts *parts,
                                      const struct txn_wire_place *place, unsigned priority)
{
    static const Kvrpcpb__CommandPri priorities[] = {
        KVRPCPB__COMMAND_PRI__Normal, KVRPCPB__COMMAND_PRI__Low, KVRPCPB__COMMAND_PRI__High};
    kvrpcpb__context__init(&parts->context);
    metapb__region_epoch__init(&parts->epoch);
    metapb__peer__init(&parts->peer);
    parts->epoch.conf_ver = place->conf_ver;
    parts->epoch.version = place->version;
    parts->peer.id = place->peer_id;
    parts->peer.store_id = place->store_id;
    parts->context.region_id = place->region_id;
    parts->context.region_epoch = &parts->epoch;
    parts->context.peer = &parts->peer;
    parts->context.cluster_id = place->cluster_id;
    parts->context.max_execution_duration_ms = place->max_execution_ms;
    parts->context.priority = priorities[priority < 3 ? priority : 0];
    parts->context.api_version = place->is_v2 ? KVRPCPB__APIVERSION__V2 : KVRPCPB__APIVERSION__V1;
    parts->context.keyspace_id = place->is_v2 ? place->keyspace_id : 0;
    return &parts->context;
}

static void set_read(Kvrpcpb__Context *context, const struct txn_read *read)
{
    context->isolation_level = (Kvrpcpb__IsolationLevel)read->isolation;
    context->resolved_locks = (uint64_t *)(uintptr_t)read->resolved_locks;
    context->n_resolved_locks = read->resolved_locks_count;
    context->committed_locks = (uint64_t *)(uintptr_t)read->committed_locks;
    context->n_committed_locks = read->committed_locks_count;
}

/* --- packing ------------------------------------------------------------------------------------
 */

/* Where a message goes. */
struct packer {
    struct writer writer;
    struct txn_call *call;
    Kvrpcpb__Context *context;
    struct buf *message;
    bool as_command;
};

static int pack(struct packer *packer, const ProtobufCMessage *message)
{
    if (packer->writer.failed)
        return KVS_ERR_NO_MEMORY;
    struct buf *to = packer->message;
    size_t size = protobuf_c_message_get_packed_size(message);
    uint32_t number = methods[packer->call->command.base.kind].number;
    size_t wrapped = protobuf_field_size(number, size);
    int error = buf_reserve(to, packer->as_command ? protobuf_field_size(1, wrapped) : size);
    if (error != 0)
        return error;
    uint8_t *at = to->data + to->size;
    if (packer->as_command) {
        at = protobuf_put_head(at, 1, wrapped);
        at = protobuf_put_head(at, number, size);
    }
    at += protobuf_c_message_pack(message, at);
    to->size = (size_t)(at - to->data);
    return 0;
}

/* --- reads --------------------------------------------------------------------------------------
 */

static int write_get(struct packer *packer)
{
    const struct txn_get *get = &packer->call->command.get;
    Kvrpcpb__GetRequest request = KVRPCPB__GET_REQUEST__INIT;
    set_read(packer->context, &get->read);
    request.context = packer->context;
    request.key = full_key(&packer->writer, get->key);
    request.version = get->read.ts;
    return pack(packer, &request.base);
}

static int write_batch_get(struct packer *packer)
{
    const struct txn_batch_get *get = &packer->call->command.batch_get;
    Kvrpcpb__BatchGetRequest request = KVRPCPB__BATCH_GET_REQUEST__INIT;
    set_read(packer->context, &get->read);
    request.context = packer->context;
    request.keys = full_keys(&packer->writer, get->keys, get->keys_count);
    request.n_keys = get->keys_count;
    request.version = get->read.ts;
    return pack(packer, &request.base);
}

static int write_scan(struct packer *packer)
{
    struct txn_call *call = packer->call;
    struct txn_scan *scan = &call->command.scan;
    uint32_t limit_max = packer->writer.place->scan_limit_max;
    Kvrpcpb__ScanRequest request = KVRPCPB__SCAN_REQUEST__INIT;
    if (limit_max != 0 && scan->limit > limit_max)
        scan->limit = limit_max;
    set_read(packer->context, &scan->read);
    ProtobufCBinaryData low = full_key(&packer->writer, call->start);
    ProtobufCBinaryData high = full_end(&packer->writer, call->end);
    request.context = packer->context;
    request.start_key = scan->reverse ? high : low;
    request.end_key = scan->reverse ? low : high;
    request.limit = scan->limit;
    request.version = scan->read.ts;
    request.key_only = scan->keys_only;
    request.reverse = scan->reverse;
    return pack(packer, &request.base);
}

static int write_scan_lock(struct packer *packer)
{
    const struct txn_call *call = packer->call;
    Kvrpcpb__ScanLockRequest request = KVRPCPB__SCAN_LOCK_REQUEST__INIT;
    request.context = packer->context;
    request.max_version = call->command.scan_lock.max_ts;
    request.start_key = full_key(&packer->writer, call->start);
    request.end_key = full_end(&packer->writer, call->end);
    request.limit = call->command.scan_lock.limit;
    return pack(packer, &request.base);
}

/* --- writes -------------------------------------------------------------------------------------
 */

static Kvrpcpb__Mutation **make_mutations(struct writer *writer,
                                          const struct txn_mutation *mutations, uint32_t count)
{
    Kvrpcpb__Mutation *made = arena_alloc(writer->arena, (count + 1) * sizeof made[0]);
    Kvrpcpb__Mutation **pointers = arena_alloc(writer->arena, (count + 1) * sizeof pointers[0]);
    if (made == NULL || pointers == NULL) {
        writer->failed = true;
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        kvrpcpb__mutation__init(&made[i]);
        made[i].op = (Kvrpcpb__Op)mutations[i].op;
        made[i].key = full_key(writer, mutations[i].key);
        made[i].value = bytes_of(mutations[i].value);
        made[i].assertion = (Kvrpcpb__Assertion)mutations[i].assertion;
        pointers[i] = &made[i];
    }
    return pointers;
}

static void set_actions(struct writer *writer, const struct txn_prewrite *prewrite,
                        Kvrpcpb__PrewriteRequest *request)
{
    uint32_t count = prewrite->mutations_count;
    request->pessimistic_actions =
        arena_alloc(writer->arena, (count + 1) * sizeof request->pessimistic_actions[0]);
    if (request->pessimistic_actions == NULL) {
        writer->failed = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        request->pessimistic_actions[i] =
            (Kvrpcpb__PrewriteRequest__PessimisticAction)prewrite->mutations[i].pessimistic_action;
    request->n_pessimistic_actions = count;
}

static int write_prewrite(struct packer *packer)
{
    const struct txn_prewrite *prewrite = &packer->call->command.prewrite;
    struct writer *writer = &packer->writer;
    Kvrpcpb__PrewriteRequest request = KVRPCPB__PREWRITE_REQUEST__INIT;
    request.context = packer->context;
    request.context->is_retry_request = prewrite->is_retry;
    request.mutations = make_mutations(writer, prewrite->mutations, prewrite->mutations_count);
    request.n_mutations = request.mutations != NULL ? prewrite->mutations_count : 0;
    request.primary_lock = full_key(writer, prewrite->primary);
    request.start_version = prewrite->start_ts;
    request.lock_ttl = prewrite->lock_ttl_ms;
    request.txn_size = prewrite->txn_size;
    request.for_update_ts = prewrite->for_update_ts;
    request.min_commit_ts = prewrite->min_commit_ts;
    request.max_commit_ts = prewrite->max_commit_ts;
    request.use_async_commit = prewrite->use_async_commit;
    request.try_one_pc = prewrite->try_one_pc;
    if (prewrite->secondaries_count > 0) {
        request.secondaries = full_keys(writer, prewrite->secondaries, prewrite->secondaries_count);
        request.n_secondaries = prewrite->secondaries_count;
    }
    if (prewrite->for_update_ts != 0)
        set_actions(writer, prewrite, &request);
    return pack(packer, &request.base);
}

static int write_commit(struct packer *packer)
{
    const struct txn_commit *commit = &packer->call->command.commit;
    Kvrpcpb__CommitRequest request = KVRPCPB__COMMIT_REQUEST__INIT;
    request.context = packer->context;
    request.start_version = commit->start_ts;
    request.keys = full_keys(&packer->writer, commit->keys, commit->keys_count);
    request.n_keys = commit->keys_count;
    request.commit_version = commit->commit_ts;
    return pack(packer, &request.base);
}

static int write_rollback(struct packer *packer)
{
    const struct txn_batch_rollback *rollback = &packer->call->command.rollback;
    Kvrpcpb__BatchRollbackRequest request = KVRPCPB__BATCH_ROLLBACK_REQUEST__INIT;
    request.context = packer->context;
    request.start_version = rollback->start_ts;
    request.keys = full_keys(&packer->writer, rollback->keys, rollback->keys_count);
    request.n_keys = rollback->keys_count;
    return pack(packer, &request.base);
}

static int write_lock(struct packer *packer)
{
    const struct txn_pessimistic_lock *lock = &packer->call->command.lock;
    struct writer *writer = &packer->writer;
    Kvrpcpb__PessimisticLockRequest request = KVRPCPB__PESSIMISTIC_LOCK_REQUEST__INIT;
    request.context = packer->context;
    request.mutations = make_mutations(writer, lock->mutations, lock->mutations_count);
    request.n_mutations = request.mutations != NULL ? lock->mutations_count : 0;
    request.primary_lock = full_key(writer, lock->primary);
    request.start_version = lock->start_ts;
    request.lock_ttl = lock->lock_ttl_ms;
    request.for_update_ts = lock->for_update_ts;
    request.is_first_lock = lock->is_first_lock;
    request.wait_timeout = lock->wait_timeout_ms;
    request.return_values = lock->return_values;
    request.check_existence = lock->check_existence;
    request.min_commit_ts = lock->min_commit_ts;
    return pack(packer, &request.base);
}

static int write_pessimistic_rollback(struct packer *packer)
{
    const struct txn_pessimistic_rollback *rollback = &packer->call->command.pessimistic_rollback;
    Kvrpcpb__PessimisticRollbackRequest request = KVRPCPB__PESSIMISTIC_ROLLBACK_REQUEST__INIT;
    request.context = packer->context;
    request.start_version = rollback->start_ts;
    request.for_update_ts = rollback->for_update_ts;
    request.keys = full_keys(&packer->writer, rollback->keys, rollback->keys_count);
    request.n_keys = rollback->keys_count;
    return pack(packer, &request.base);
}

static int write_heartbeat(struct packer *packer)
{
    const struct txn_heartbeat *heartbeat = &packer->call->command.heartbeat;
    Kvrpcpb__TxnHeartBeatRequest request = KVRPCPB__TXN_HEART_BEAT_REQUEST__INIT;
    request.context = packer->context;
    request.primary_lock = full_key(&packer->writer, heartbeat->primary);
    request.start_version = heartbeat->start_ts;
    request.advise_lock_ttl = heartbeat->advise_ttl_ms;
    request.min_commit_ts = heartbeat->min_commit_ts;
    return pack(packer, &request.base);
}

static int write_check_status(struct packer *packer)
{
    const struct txn_check_status *check = &packer->call->command.check_status;
    Kvrpcpb__CheckTxnStatusRequest request = KVRPCPB__CHECK_TXN_STATUS_REQUEST__INIT;
    request.context = packer->context;
    request.primary_key = full_key(&packer->writer, check->primary);
    request.lock_ts = check->start_ts;
    request.caller_start_ts = check->caller_start_ts;
    request.current_ts = check->current_ts;
    request.rollback_if_not_exist = check->rollback_if_not_exist;
    request.force_sync_commit = check->force_sync_commit;
    request.resolving_pessimistic_lock = check->resolving_pessimistic_lock;
    request.verify_is_primary = check->verify_is_primary;
    return pack(packer, &request.base);
}

static int write_check_secondaries(struct packer *packer)
{
    const struct txn_check_secondaries *check = &packer->call->command.check_secondaries;
    Kvrpcpb__CheckSecondaryLocksRequest request = KVRPCPB__CHECK_SECONDARY_LOCKS_REQUEST__INIT;
    request.context = packer->context;
    request.keys = full_keys(&packer->writer, check->keys, check->keys_count);
    request.n_keys = check->keys_count;
    request.start_version = check->start_ts;
    return pack(packer, &request.base);
}

static int write_resolve_lock(struct packer *packer)
{
    const struct txn_resolve_lock *resolve = &packer->call->command.resolve_lock;
    assert(resolve->txns_count == 1);
    Kvrpcpb__ResolveLockRequest request = KVRPCPB__RESOLVE_LOCK_REQUEST__INIT;
    request.context = packer->context;
    request.start_version = resolve->txns[0].start_ts;
    request.commit_version = resolve->txns[0].commit_ts;
    request.keys = full_keys(&packer->writer, resolve->keys, resolve->keys_count);
    request.n_keys = resolve->keys_count;
    return pack(packer, &request.base);
}

int txn_wire_write(struct txn_call *call, const struct txn_wire_place *place, struct buf *message,
                   bool as_command)
{
    static int (*const writers[])(struct packer * packer) = {
        [TXN_GET] = write_get,
        [TXN_BATCH_GET] = write_batch_get,
        [TXN_SCAN] = write_scan,
        [TXN_SCAN_LOCK] = write_scan_lock,
        [TXN_PREWRITE] = write_prewrite,
        [TXN_COMMIT] = write_commit,
        [TXN_BATCH_ROLLBACK] = write_rollback,
        [TXN_PESSIMISTIC_LOCK] = write_lock,
        [TXN_PESSIMISTIC_ROLLBACK] = write_pessimistic_rollback,
        [TXN_HEARTBEAT] = write_heartbeat,
        [TXN_CHECK_STATUS] = write_check_status,
        [TXN_CHECK_SECONDARIES] = write_check_secondaries,
        [TXN_RESOLVE_LOCK] = write_resolve_lock,
    };
    struct context_parts parts;
    struct packer packer = {
        .writer = {.arena = &call->command.base.arena, .place = place},
        .call = call,
        .context = make_context(&parts, place, call->priority),
        .message = message,
        .as_command = as_command,
    };
    return writers[call->command.base.kind](&packer);
}
