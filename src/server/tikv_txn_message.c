/* server/tikv_txn_message.c: parts of answers; see tikv_txn.h. All is in the command's arena; bytes
 * stay where the node has put them, until the answer is packed. */
#include "server/tikv_txn.h"

#include "proto/protobuf.h"

#include <kvs/error.h>

#define RETRYABLE_TEXT "the transaction may be tried again"

/* `count` zeroed structs of `size`, and an array of pointers to them. */
static void *message_array(struct arena *arena, size_t count, size_t size, void ***ret_pointers)
{
    char *messages = arena_alloc(arena, count * size);
    void **pointers = arena_alloc(arena, count * sizeof *pointers);
    if (messages == NULL || pointers == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        pointers[i] = messages + i * size;
    *ret_pointers = pointers;
    return messages;
}

/* Whoever holds it, without what they share it with. */
static bool fill_holder(struct arena *arena, Kvrpcpb__LockInfo *message,
                        const struct txn_lock_info *lock)
{
    kvrpcpb__lock_info__init(message);
    message->key = slice_bytes(lock->key);
    message->primary_lock = slice_bytes(lock->primary);
    message->lock_version = lock->start_ts;
    message->lock_ttl = lock->ttl_ms;
    message->txn_size = lock->txn_size;
    message->lock_type = (Kvrpcpb__Op)lock->type;
    message->lock_for_update_ts = lock->for_update_ts;
    message->use_async_commit = lock->use_async_commit;
    message->min_commit_ts = lock->min_commit_ts;
    message->duration_to_last_update_ms = lock->duration_to_last_update_ms;
    if (lock->secondaries_count == 0)
        return true;
    message->secondaries =
        arena_alloc(arena, lock->secondaries_count * sizeof *message->secondaries);
    if (message->secondaries == NULL)
        return false;
    message->n_secondaries = lock->secondaries_count;
    for (uint32_t i = 0; i < lock->secondaries_count; i++)
        message->secondaries[i] = slice_bytes(lock->secondaries[i]);
    return true;
}

static bool fill_lock(struct arena *arena, Kvrpcpb__LockInfo *message,
                      const struct txn_lock_info *lock)
{
    uint32_t count = lock->holders_count;
    if (!fill_holder(arena, message, lock))
        return false;
    if (count == 0)
        return true;
    message->shared_lock_infos = arena_alloc(arena, count * sizeof *message->shared_lock_infos);
    if (message->shared_lock_infos == NULL)
        return false;
    message->n_shared_lock_infos = count;
    for (uint32_t i = 0; i < count; i++) {
        Kvrpcpb__LockInfo holder;
        if (!fill_holder(arena, &holder, &lock->holders[i]))
            return false;
        size_t size = kvrpcpb__lock_info__get_packed_size(&holder);
        uint8_t *bytes = arena_alloc(arena, size);
        if (bytes == NULL)
            return false;
        kvrpcpb__lock_info__pack(&holder, bytes);
        message->shared_lock_infos[i] = slice_bytes(slice_make(bytes, size));
    }
    return true;
}

Kvrpcpb__LockInfo *tikv_lock_message(struct arena *arena, const struct txn_lock_info *lock)
{
    Kvrpcpb__LockInfo *message = arena_alloc(arena, sizeof *message);
    return message != NULL && fill_lock(arena, message, lock) ? message : NULL;
}

Kvrpcpb__LockInfo **tikv_lock_messages(struct arena *arena, const struct txn_lock_info *locks,
                                       size_t count)
{
    void **pointers;
    Kvrpcpb__LockInfo *messages = message_array(arena, count, sizeof *messages, &pointers);
    for (size_t i = 0; i < count && messages != NULL; i++) {
        if (!fill_lock(arena, &messages[i], &locks[i]))
            return NULL;
    }
    return messages != NULL ? (Kvrpcpb__LockInfo **)pointers : NULL;
}

/* --- key errors ---------------------------------------------------------------------------------
 */

/* A member of a KeyError: made in the arena, and its fields. */
#define MEMBER(error_, member_, type_, init_)             \
    type_ *member_ = arena_alloc(arena, sizeof *member_); \
    if (member_ == NULL)                                  \
        return false;                                     \
    init_(member_);                                       \
    (error_)->member_ = member_

static bool fill_conflict(struct arena *arena, Kvrpcpb__KeyError *message,
                          const struct txn_key_error *error)
{
    MEMBER(message, conflict, Kvrpcpb__WriteConflict, kvrpcpb__write_conflict__init);
    conflict->start_ts = error->start_ts;
    conflict->conflict_ts = error->conflict_ts;
    conflict->conflict_commit_ts = error->conflict_commit_ts;
    conflict->key = slice_bytes(error->key);
    conflict->primary = slice_bytes(error->primary);
    conflict->reason = (Kvrpcpb__WriteConflict__Reason)error->reason;
    message->retryable = (char *)RETRYABLE_TEXT;
    return true;
}

Deadlock__WaitForEntry **tikv_wait_messages(struct arena *arena, const struct txn_wait_entry *waits,
                                            size_t count)
{
    void **pointers;
    Deadlock__WaitForEntry *entries = message_array(arena, count, sizeof *entries, &pointers);
    for (size_t i = 0; i < count && entries != NULL; i++) {
        deadlock__wait_for_entry__init(&entries[i]);
        entries[i].txn = waits[i].start_ts;
        entries[i].wait_for_txn = waits[i].wait_for_ts;
        entries[i].key_hash = waits[i].key_hash;
        entries[i].key = slice_bytes(waits[i].key);
        entries[i].resource_group_tag = slice_bytes(waits[i].tag);
    }
    return entries != NULL ? (Deadlock__WaitForEntry **)pointers : NULL;
}

static bool fill_deadlock(struct arena *arena, Kvrpcpb__KeyError *message,
                          const struct txn_key_error *error)
{
    MEMBER(message, deadlock, Kvrpcpb__Deadlock, kvrpcpb__deadlock__init);
    deadlock->lock_ts = error->lock_ts;
    deadlock->lock_key = slice_bytes(error->lock_key);
    deadlock->deadlock_key = slice_bytes(error->deadlock_key);
    deadlock->deadlock_key_hash = error->deadlock_key_hash;
    deadlock->n_wait_chain = error->wait_chain_count;
    deadlock->wait_chain = tikv_wait_messages(arena, error->wait_chain, error->wait_chain_count);
    return deadlock->wait_chain != NULL;
}

static bool fill_expired(struct arena *arena, Kvrpcpb__KeyError *message,
                         const struct txn_key_error *error)
{
    MEMBER(message, commit_ts_expired, Kvrpcpb__CommitTsExpired, kvrpcpb__commit_ts_expired__init);
    commit_ts_expired->start_ts = error->start_ts;
    commit_ts_expired->attempted_commit_ts = error->commit_ts;
    commit_ts_expired->key = slice_bytes(error->key);
    commit_ts_expired->min_commit_ts = error->min_commit_ts;
    return true;
}

static bool fill_assertion(struct arena *arena, Kvrpcpb__KeyError *message,
                           const struct txn_key_error *error)
{
    MEMBER(message, assertion_failed, Kvrpcpb__AssertionFailed, kvrpcpb__assertion_failed__init);
    assertion_failed->start_ts = error->start_ts;
    assertion_failed->key = slice_bytes(error->key);
    assertion_failed->assertion = (Kvrpcpb__Assertion)error->assertion;
    assertion_failed->existing_start_ts = error->existing_start_ts;
    assertion_failed->existing_commit_ts = error->existing_commit_ts;
    return true;
}

static bool fill_exists(struct arena *arena, Kvrpcpb__KeyError *message,
                        const struct txn_key_error *error)
{
    MEMBER(message, already_exist, Kvrpcpb__AlreadyExist, kvrpcpb__already_exist__init);
    already_exist->key = slice_bytes(error->key);
    return true;
}

static bool fill_no_txn(struct arena *arena, Kvrpcpb__KeyError *message,
                        const struct txn_key_error *error)
{
    MEMBER(message, txn_not_found, Kvrpcpb__TxnNotFound, kvrpcpb__txn_not_found__init);
    txn_not_found->start_ts = error->start_ts;
    txn_not_found->primary_key = slice_bytes(error->primary);
    return true;
}

static bool fill_no_lock(struct arena *arena, Kvrpcpb__KeyError *message,
                         const struct txn_key_error *error)
{
    MEMBER(message, txn_lock_not_found, Kvrpcpb__TxnLockNotFound,
           kvrpcpb__txn_lock_not_found__init);
    txn_lock_not_found->key = slice_bytes(error->key);
    message->retryable = (char *)RETRYABLE_TEXT;
    return true;
}

static bool fill_too_large(struct arena *arena, Kvrpcpb__KeyError *message,
                           const struct txn_key_error *error)
{
    MEMBER(message, commit_ts_too_large, Kvrpcpb__CommitTsTooLarge,
           kvrpcpb__commit_ts_too_large__init);
    commit_ts_too_large->commit_ts = error->commit_ts;
    return true;
}

static bool fill_mismatch(struct arena *arena, Kvrpcpb__KeyError *message,
                          const struct txn_key_error *error)
{
    MEMBER(message, primary_mismatch, Kvrpcpb__PrimaryMismatch, kvrpcpb__primary_mismatch__init);
    primary_mismatch->lock_info = tikv_lock_message(arena, &error->lock);
    return primary_mismatch->lock_info != NULL;
}

static bool fill_error(struct arena *arena, Kvrpcpb__KeyError *message,
                       const struct txn_key_error *error)
{
    kvrpcpb__key_error__init(message);
    switch (error->kind) {
    case TXN_ERROR_LOCKED:
        message->locked = tikv_lock_message(arena, &error->lock);
        return message->locked != NULL;
    case TXN_ERROR_WRITE_CONFLICT:
        return fill_conflict(arena, message, error);
    case TXN_ERROR_ALREADY_EXISTS:
        return fill_exists(arena, message, error);
    case TXN_ERROR_DEADLOCK:
        return fill_deadlock(arena, message, error);
    case TXN_ERROR_COMMIT_TS_EXPIRED:
        return fill_expired(arena, message, error);
    case TXN_ERROR_TXN_NOT_FOUND:
        return fill_no_txn(arena, message, error);
    case TXN_ERROR_COMMIT_TS_TOO_LARGE:
        return fill_too_large(arena, message, error);
    case TXN_ERROR_ASSERTION_FAILED:
        return fill_assertion(arena, message, error);
    case TXN_ERROR_PRIMARY_MISMATCH:
        return fill_mismatch(arena, message, error);
    case TXN_ERROR_LOCK_NOT_FOUND:
        return fill_no_lock(arena, message, error);
    default:
        message->abort = (char *)(error->text != NULL ? error->text : "the transaction is aborted");
        return true;
    }
}

static Kvrpcpb__KeyError *tikv_key_error_message(struct arena *arena,
                                                 const struct txn_key_error *error)
{
    Kvrpcpb__KeyError *message = arena_alloc(arena, sizeof *message);
    return message != NULL && fill_error(arena, message, error) ? message : NULL;
}

Kvrpcpb__KeyError **tikv_key_error_messages(struct arena *arena, const struct txn_key_error *errors,
                                            size_t count)
{
    void **pointers;
    Kvrpcpb__KeyError *messages = message_array(arena, count, sizeof *messages, &pointers);
    for (size_t i = 0; i < count && messages != NULL; i++) {
        if (!fill_error(arena, &messages[i], &errors[i]))
            return NULL;
    }
    return messages != NULL ? (Kvrpcpb__KeyError **)pointers : NULL;
}

/* --- pairs --------------------------------------------------------------------------------------
 */

/* A pair with an error has nothing else: the key is in the error. */
static bool fill_pair(struct arena *arena, Kvrpcpb__KvPair *message, const struct txn_pair *pair)
{
    kvrpcpb__kv_pair__init(message);
    if (pair->error.kind != TXN_ERROR_NONE) {
        message->error = tikv_key_error_message(arena, &pair->error);
        return message->error != NULL;
    }
    message->key = slice_bytes(pair->key);
    message->value = slice_bytes(pair->value);
    message->commit_ts = pair->commit_ts;
    return true;
}

static void pairs_begin(struct txn_sink *sink)
{
    struct tikv_pairs *pairs = CONTAINER_OF(sink, struct tikv_pairs, sink);
    rope_deinit(&pairs->body);
}

static int pairs_put(struct txn_sink *sink, const struct txn_pair *pair)
{
    struct tikv_pairs *pairs = CONTAINER_OF(sink, struct tikv_pairs, sink);
    Kvrpcpb__KvPair message;
    if (!fill_pair(pairs->arena, &message, pair))
        return KVS_ERR_NO_MEMORY;
    size_t size = kvrpcpb__kv_pair__get_packed_size(&message);
    uint8_t *to;
    int error =
        tikv_body_room(pairs->service, &pairs->body, protobuf_field_size(pairs->number, size), &to);
    if (error == 0)
        kvrpcpb__kv_pair__pack(&message, protobuf_put_head(to, pairs->number, size));
    return error;
}

struct txn_sink *tikv_txn_pairs(struct tikv_txn *txn, uint32_t number)
{
    txn->pairs = (struct tikv_pairs){
        .sink = {.begin = pairs_begin, .put = pairs_put},
        .service = command_at(txn->command)->service,
        .arena = &txn->of.base.arena,
        .number = number,
    };
    return &txn->pairs.sink;
}

/* --- answers with errors ------------------------------------------------------------------------
 */

bool tikv_txn_answer_error(struct tikv_txn *txn, const struct txn_key_error *error)
{
    if (error->kind == TXN_ERROR_NONE)
        return false;
    Kvrpcpb__KeyError *message = tikv_key_error_message(command_arena(txn->command), error);
    if (message != NULL)
        tikv_answer_key_error(txn->command, message);
    else
        tikv_fail_no_memory(txn->command);
    return true;
}

void tikv_txn_answer_pairs(struct tikv_txn *txn, const struct txn_key_error *error)
{
    if (error->kind == TXN_ERROR_NONE) {
        tikv_answer_rope(txn->command, &txn->pairs.body);
        return;
    }
    rope_deinit(&txn->pairs.body);
    tikv_txn_answer_error(txn, error);
}

bool tikv_txn_answer_errors(struct tikv_txn *txn, const struct txn_key_error *errors, size_t count)
{
    if (count == 0)
        return false;
    Kvrpcpb__PrewriteResponse answer = KVRPCPB__PREWRITE_RESPONSE__INIT; /* others are alike */
    answer.n_errors = count;
    answer.errors = tikv_key_error_messages(command_arena(txn->command), errors, count);
    if (answer.errors != NULL)
        tikv_answer_message(txn->command, &answer.base);
    else
        tikv_fail_no_memory(txn->command);
    return true;
}
