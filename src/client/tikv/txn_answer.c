/*
 * client/tikv/txn_answer.c: TiKV's answers as results of commands; see client/tikv/txn_wire.h.
 *
 * An answer is decoded by the generated code into the command's arena; what the results name lies
 * there. Repeated fields become arrays of ours.
 */
#include "client/tikv/txn_wire.h"

#include "proto/protobuf.h"

#include <kvs/error.h>

#include <string.h>

struct taker {
    struct arena *arena;
    kvs_slice prefix;
    int error; /* the first one */
};

static void *arena_allocate(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void arena_ignore(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

/* NULL: it is none, or no memory; which, nobody says. */
static ProtobufCMessage *message_of(struct arena *arena, const ProtobufCMessageDescriptor *type,
                                    kvs_slice bytes)
{
    ProtobufCAllocator allocator = {
        .alloc = arena_allocate, .free = arena_ignore, .allocator_data = arena};
    return protobuf_c_message_unpack(type, &allocator, bytes.size, bytes.data);
}

static kvs_slice slice_of(ProtobufCBinaryData bytes)
{
    return slice_make(bytes.data, bytes.len);
}

/* Without the keyspace's prefix. An empty key stays one: it was left out. */
static kvs_slice take_key(struct taker *taker, ProtobufCBinaryData bytes)
{
    kvs_slice key = slice_of(bytes);
    if (taker->prefix.size == 0 || key.size == 0)
        return key;
    if (key.size < taker->prefix.size ||
        memcmp(key.data, taker->prefix.data, taker->prefix.size) != 0) {
        taker->error = KVS_ERR_PROTOCOL;
        return slice_make(NULL, 0);
    }
    return slice_make(key.data + taker->prefix.size, key.size - taker->prefix.size);
}

static void *take_array(struct taker *taker, size_t count, size_t size)
{
    void *array = arena_zalloc(taker->arena, (count + 1) * size);
    if (array == NULL)
        taker->error = KVS_ERR_NO_MEMORY;
    return array;
}

/* Whoever holds it, without what they share it with: those have nothing to share themselves. */
static struct txn_lock_info take_holder(struct taker *taker, const Kvrpcpb__LockInfo *lock)
{
    struct txn_lock_info info = {0};
    kvs_slice *secondaries = take_array(taker, lock->n_secondaries, sizeof *secondaries);
    if (secondaries == NULL)
        return info;
    for (size_t i = 0; i < lock->n_secondaries; i++)
        secondaries[i] = take_key(taker, lock->secondaries[i]);
    info = (struct txn_lock_info){
        .key = take_key(taker, lock->key),
        .primary = take_key(taker, lock->primary_lock),
        .start_ts = lock->lock_version,
        .ttl_ms = lock->lock_ttl,
        .txn_size = lock->txn_size,
        .for_update_ts = lock->lock_for_update_ts,
        .min_commit_ts = lock->min_commit_ts,
        .type = (uint8_t)lock->lock_type,
        .use_async_commit = lock->use_async_commit,
        .secondaries = secondaries,
        .secondaries_count = (uint32_t)lock->n_secondaries,
        .duration_to_last_update_ms = lock->duration_to_last_update_ms,
    };
    return info;
}

static struct txn_lock_info take_lock(struct taker *taker, const Kvrpcpb__LockInfo *lock)
{
    struct txn_lock_info info = take_holder(taker, lock);
    size_t count = lock->n_shared_lock_infos;
    if (count == 0 || taker->error != 0)
        return info;
    info.holders = take_array(taker, count, sizeof *info.holders);
    for (size_t i = 0; i < count && taker->error == 0; i++) {
        const Kvrpcpb__LockInfo *holder = (const void *)message_of(
            taker->arena, &kvrpcpb__lock_info__descriptor, slice_of(lock->shared_lock_infos[i]));
        if (holder == NULL) {
            taker->error = KVS_ERR_PROTOCOL;
            break;
        }
        info.holders[i] = take_holder(taker, holder);
        info.holders_count++;
    }
    return info;
}

static void take_locks(struct taker *taker, Kvrpcpb__LockInfo **from, size_t count,
                       struct txn_lock_info **ret_locks, uint32_t *ret_count)
{
    *ret_locks = take_array(taker, count, sizeof **ret_locks);
    if (*ret_locks == NULL)
        return;
    for (size_t i = 0; i < count && taker->error == 0; i++)
        (*ret_locks)[i] = take_lock(taker, from[i]);
    *ret_count = (uint32_t)count;
}

/* --- key errors ---------------------------------------------------------------------------------
 */

static void take_conflict(struct taker *taker, const Kvrpcpb__WriteConflict *from,
                          struct txn_key_error *to)
{
    to->kind = TXN_ERROR_WRITE_CONFLICT;
    to->reason = (uint8_t)from->reason;
    to->key = take_key(taker, from->key);
    to->primary = take_key(taker, from->primary);
    to->start_ts = from->start_ts;
    to->conflict_ts = from->conflict_ts;
    to->conflict_commit_ts = from->conflict_commit_ts;
}

static void take_deadlock(struct taker *taker, const Kvrpcpb__Deadlock *from,
                          struct txn_key_error *to)
{
    to->kind = TXN_ERROR_DEADLOCK;
    to->lock_ts = from->lock_ts;
    to->lock_key = take_key(taker, from->lock_key);
    to->deadlock_key = take_key(taker, from->deadlock_key);
    to->deadlock_key_hash = from->deadlock_key_hash;
}

static void take_rare_error(struct taker *taker, const Kvrpcpb__KeyError *from,
                            struct txn_key_error *to)
{
    if (from->commit_ts_expired != NULL) {
        to->kind = TXN_ERROR_COMMIT_TS_EXPIRED;
        to->key = take_key(taker, from->commit_ts_expired->key);
        to->start_ts = from->commit_ts_expired->start_ts;
        to->commit_ts = from->commit_ts_expired->attempted_commit_ts;
        to->min_commit_ts = from->commit_ts_expired->min_commit_ts;
    } else if (from->txn_not_found != NULL) {
        to->kind = TXN_ERROR_TXN_NOT_FOUND;
        to->start_ts = from->txn_not_found->start_ts;
        to->primary = take_key(taker, from->txn_not_found->primary_key);
    } else if (from->commit_ts_too_large != NULL) {
        to->kind = TXN_ERROR_COMMIT_TS_TOO_LARGE;
        to->commit_ts = from->commit_ts_too_large->commit_ts;
    } else if (from->assertion_failed != NULL) {
        to->kind = TXN_ERROR_ASSERTION_FAILED;
        to->key = take_key(taker, from->assertion_failed->key);
        to->start_ts = from->assertion_failed->start_ts;
        to->assertion = (uint8_t)from->assertion_failed->assertion;
        to->existing_start_ts = from->assertion_failed->existing_start_ts;
        to->existing_commit_ts = from->assertion_failed->existing_commit_ts;
    } else if (from->primary_mismatch != NULL) {
        to->kind = TXN_ERROR_PRIMARY_MISMATCH;
        if (from->primary_mismatch->lock_info != NULL)
            to->lock = take_lock(taker, from->primary_mismatch->lock_info);
    } else if (from->txn_lock_not_found != NULL) {
        to->kind = TXN_ERROR_LOCK_NOT_FOUND;
        to->key = take_key(taker, from->txn_lock_not_found->key);
    } else {
        to->kind = TXN_ERROR_ABORT; /* also what came after us */
    }
}

static struct txn_key_error take_error(struct taker *taker, const Kvrpcpb__KeyError *from)
{
    struct txn_key_error to = {0};
    if (from == NULL)
        return to;
    bool has_abort = from->abort != NULL && from->abort[0] != '\0';
    bool has_retryable = from->retryable != NULL && from->retryable[0] != '\0';
    if (has_abort || has_retryable)
        to.text = has_abort ? from->abort : from->retryable;
    if (from->locked != NULL) {
        to.kind = TXN_ERROR_LOCKED;
        to.lock = take_lock(taker, from->locked);
    } else if (from->conflict != NULL) {
        take_conflict(taker, from->conflict, &to);
    } else if (from->already_exist != NULL) {
        to.kind = TXN_ERROR_ALREADY_EXISTS;
        to.key = take_key(taker, from->already_exist->key);
    } else if (from->deadlock != NULL) {
        take_deadlock(taker, from->deadlock, &to);
    } else {
        take_rare_error(taker, from, &to);
    }
    return to;
}

static void take_errors(struct taker *taker, Kvrpcpb__KeyError **from, size_t count,
                        struct txn_key_error **ret_errors, uint32_t *ret_count)
{
    *ret_errors = take_array(taker, count, sizeof **ret_errors);
    if (*ret_errors == NULL)
        return;
    for (size_t i = 0; i < count && taker->error == 0; i++)
        (*ret_errors)[i] = take_error(taker, from[i]);
    *ret_count = (uint32_t)count;
}

static void take_pairs(struct taker *taker, Kvrpcpb__KvPair **from, size_t count,
                       struct txn_pair **ret_pairs, uint32_t *ret_count)
{
    *ret_pairs = take_array(taker, count, sizeof **ret_pairs);
    if (*ret_pairs == NULL)
        return;
    for (size_t i = 0; i < count && taker->error == 0; i++)
        (*ret_pairs)[i] = (struct txn_pair){
            .key = take_key(taker, from[i]->key),
            .value = slice_of(from[i]->value),
            .commit_ts = from[i]->commit_ts,
            .error = take_error(taker, from[i]->error),
        };
    *ret_count = (uint32_t)count;
}

/* --- answers ------------------------------------------------------------------------------------
 */

static void take_get(struct taker *taker, const ProtobufCMessage *message, struct txn_call *call)
{
    const Kvrpcpb__GetResponse *response = (const void *)message;
    struct txn_get *get = &call->command.get;
    get->error = take_error(taker, response->error);
    get->found = !response->not_found;
    get->value = slice_of(response->value);
    get->commit_ts = response->commit_ts;
}

/* With an error of the whole, a pair has it, too. */
static void take_batch_get(struct taker *taker, const ProtobufCMessage *message,
                           struct txn_call *call)
{
    const Kvrpcpb__BatchGetResponse *response = (const void *)message;
    struct txn_batch_get *get = &call->command.batch_get;
    get->error = take_error(taker, response->error);
    take_pairs(taker, response->pairs, response->n_pairs, &get->pairs, &get->pairs_count);
}

static void take_scan(struct taker *taker, const ProtobufCMessage *message, struct txn_call *call)
{
    const Kvrpcpb__ScanResponse *response = (const void *)message;
    struct txn_scan *scan = &call->command.scan;
    scan->error = take_error(taker, response->error);
    take_pairs(taker, response->pairs, response->n_pairs, &scan->pairs, &scan->pairs_count);
    scan->more = scan->pairs_count >= scan->limit;
}

static void take_scan_lock(struct taker *taker, const ProtobufCMessage *message,
                           struct txn_call *call)
{
    const Kvrpcpb__ScanLockResponse *response = (const void *)message;
    struct txn_scan_lock *scan = &call->command.scan_lock;
    take_locks(taker, response->locks, response->n_locks, &scan->locks, &scan->locks_count);
    if (response->error != NULL)
        taker->error = KVS_ERR_IO;
}

static void take_prewrite(struct taker *taker, const ProtobufCMessage *message,
                          struct txn_call *call)
{
    const Kvrpcpb__PrewriteResponse *response = (const void *)message;
    struct txn_prewrite *prewrite = &call->command.prewrite;
    take_errors(taker, response->errors, response->n_errors, &prewrite->errors,
                &prewrite->errors_count);
    prewrite->min_commit_ts_found = response->min_commit_ts;
    prewrite->one_pc_commit_ts = response->one_pc_commit_ts;
}

static void take_commit(struct taker *taker, const ProtobufCMessage *message, struct txn_call *call)
{
    const Kvrpcpb__CommitResponse *response = (const void *)message;
    call->command.commit.error = take_error(taker, response->error);
}

static void take_rollback(struct taker *taker, const ProtobufCMessage *message,
                          struct txn_call *call)
{
    const Kvrpcpb__BatchRollbackResponse *response = (const void *)message;
    call->command.rollback.error = take_error(taker, response->error);
}

/* Values and not_founds are one for each mutation, or not there. */
static void take_lock_answer(struct taker *taker, const ProtobufCMessage *message,
                             struct txn_call *call)
{
    const Kvrpcpb__PessimisticLockResponse *response = (const void *)message;
    struct txn_pessimistic_lock *lock = &call->command.lock;
    take_errors(taker, response->errors, response->n_errors, &lock->errors, &lock->errors_count);
    if (taker->error != 0 || lock->errors_count > 0)
        return;
    size_t count = lock->mutations_count;
    bool wants_founds = lock->return_values || lock->check_existence;
    if ((wants_founds && response->n_not_founds != count) ||
        (lock->return_values && response->n_values != count)) {
        taker->error = KVS_ERR_PROTOCOL;
        return;
    }
    lock->not_founds = take_array(taker, count, sizeof lock->not_founds[0]);
    lock->values = take_array(taker, count, sizeof lock->values[0]);
    for (size_t i = 0; taker->error == 0 && i < count; i++) {
        if (wants_founds)
            lock->not_founds[i] = response->not_founds[i];
        if (lock->return_values)
            lock->values[i] = slice_of(response->values[i]);
    }
}

static void take_pessimistic_rollback(struct taker *taker, const ProtobufCMessage *message,
                                      struct txn_call *call)
{
    const Kvrpcpb__PessimisticRollbackResponse *response = (const void *)message;
    if (response->n_errors > 0)
        call->command.pessimistic_rollback.error = take_error(taker, response->errors[0]);
}

static void take_heartbeat(struct taker *taker, const ProtobufCMessage *message,
                           struct txn_call *call)
{
    const Kvrpcpb__TxnHeartBeatResponse *response = (const void *)message;
    call->command.heartbeat.error = take_error(taker, response->error);
    call->command.heartbeat.lock_ttl_ms = response->lock_ttl;
}

static void take_check_status(struct taker *taker, const ProtobufCMessage *message,
                              struct txn_call *call)
{
    const Kvrpcpb__CheckTxnStatusResponse *response = (const void *)message;
    struct txn_check_status *check = &call->command.check_status;
    check->error = take_error(taker, response->error);
    check->lock_ttl_ms = response->lock_ttl;
    check->commit_ts = response->commit_version;
    check->action = (uint8_t)response->action;
    if (response->lock_info != NULL) {
        check->lock = take_lock(taker, response->lock_info);
    } else { /* an old store does not tell */
        check->lock.start_ts = check->start_ts;
        check->lock.ttl_ms = check->lock_ttl_ms;
    }
}

static void take_check_secondaries(struct taker *taker, const ProtobufCMessage *message,
                                   struct txn_call *call)
{
    const Kvrpcpb__CheckSecondaryLocksResponse *response = (const void *)message;
    struct txn_check_secondaries *check = &call->command.check_secondaries;
    check->error = take_error(taker, response->error);
    check->commit_ts = response->commit_ts;
    take_locks(taker, response->locks, response->n_locks, &check->locks, &check->locks_count);
}

static void take_resolve_lock(struct taker *taker, const ProtobufCMessage *message,
                              struct txn_call *call)
{
    const Kvrpcpb__ResolveLockResponse *response = (const void *)message;
    call->command.resolve_lock.error = take_error(taker, response->error);
}

static const struct {
    const ProtobufCMessageDescriptor *descriptor;
    void (*take)(struct taker *taker, const ProtobufCMessage *message, struct txn_call *call);
} answers[] = {
    [TXN_GET] = {&kvrpcpb__get_response__descriptor, take_get},
    [TXN_BATCH_GET] = {&kvrpcpb__batch_get_response__descriptor, take_batch_get},
    [TXN_SCAN] = {&kvrpcpb__scan_response__descriptor, take_scan},
    [TXN_SCAN_LOCK] = {&kvrpcpb__scan_lock_response__descriptor, take_scan_lock},
    [TXN_PREWRITE] = {&kvrpcpb__prewrite_response__descriptor, take_prewrite},
    [TXN_COMMIT] = {&kvrpcpb__commit_response__descriptor, take_commit},
    [TXN_BATCH_ROLLBACK] = {&kvrpcpb__batch_rollback_response__descriptor, take_rollback},
    [TXN_PESSIMISTIC_LOCK] = {&kvrpcpb__pessimistic_lock_response__descriptor, take_lock_answer},
    [TXN_PESSIMISTIC_ROLLBACK] = {&kvrpcpb__pessimistic_rollback_response__descriptor,
                                  take_pessimistic_rollback},
    [TXN_HEARTBEAT] = {&kvrpcpb__txn_heart_beat_response__descriptor, take_heartbeat},
    [TXN_CHECK_STATUS] = {&kvrpcpb__check_txn_status_response__descriptor, take_check_status},
    [TXN_CHECK_SECONDARIES] = {&kvrpcpb__check_secondary_locks_response__descriptor,
                               take_check_secondaries},
    [TXN_RESOLVE_LOCK] = {&kvrpcpb__resolve_lock_response__descriptor, take_resolve_lock},
};

/* The region error is field 1 of every answer. */
static int find_region_error(kvs_slice body, kvs_slice *ret_error)
{
    struct protobuf_reader reader = protobuf_read(body);
    struct protobuf_field field;
    *ret_error = slice_make(NULL, 0);
    while (protobuf_next(&reader, &field)) {
        if (field.number == 1 && field.type == PROTOBUF_BYTES)
            *ret_error = field.bytes;
    }
    return reader.broken ? KVS_ERR_PROTOCOL : 0;
}

int txn_wire_read(struct txn_call *call, const struct txn_wire_place *place, kvs_slice body,
                  kvs_slice *ret_region_error)
{
    struct arena *arena = &call->command.base.arena;
    int error = find_region_error(body, ret_region_error);
    if (error != 0 || ret_region_error->data != NULL)
        return error;
    unsigned kind = call->command.base.kind;
    ProtobufCMessage *message = message_of(arena, answers[kind].descriptor, body);
    if (message == NULL)
        return KVS_ERR_PROTOCOL;
    struct taker taker = {.arena = arena, .prefix = place->prefix};
    answers[kind].take(&taker, message, call);
    return taker.error;
}
