/* server/tikv_txn_resolve.c: what became of transactions, and what is left of them; see
 * tikv_txn.h. */
#include "server/tikv_txn.h"

#define WAITS_MAX 1024u /* told at once */

/* --- the state of a transaction -----------------------------------------------------------------
 */

/* Clients take it for alive by lock_ttl, and then want the lock. */
static void answer_status(struct tikv_txn *txn)
{
    const struct txn_check_status *status = &txn->of.check_status;
    Kvrpcpb__CheckTxnStatusResponse answer = KVRPCPB__CHECK_TXN_STATUS_RESPONSE__INIT;
    if (tikv_txn_answer_error(txn, &status->error))
        return;
    answer.action = (Kvrpcpb__Action)status->action;
    answer.commit_version = status->commit_ts;
    if (status->lock.start_ts != 0 && status->commit_ts == 0) {
        answer.lock_ttl = status->lock_ttl_ms > 0 ? status->lock_ttl_ms : 1;
        answer.lock_info = tikv_lock_message(command_arena(txn->command), &status->lock);
        if (answer.lock_info == NULL) {
            tikv_fail_no_memory(txn->command);
            return;
        }
    }
    tikv_answer_message(txn->command, &answer.base);
}

void tikv_kv_check_status(struct tikv_command *command)
{
    const Kvrpcpb__CheckTxnStatusRequest *request = (const void *)command->request;
    kvs_slice primary = bytes_slice(request->primary_key);
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_place(&place, &primary, 1) ||
        !tikv_txn_check_commit_ts(command, request->lock_ts) ||
        !tikv_txn_check_ts(command, request->caller_start_ts) ||
        !tikv_txn_check_ts(command, request->current_ts))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_CHECK_STATUS, answer_status);
    if (txn == NULL)
        return;
    struct txn_check_status *status = &txn->of.check_status;
    status->primary = primary;
    status->start_ts = request->lock_ts;
    status->caller_start_ts = request->caller_start_ts;
    status->current_ts = request->current_ts;
    status->rollback_if_not_exist = request->rollback_if_not_exist;
    status->force_sync_commit = request->force_sync_commit;
    status->resolving_pessimistic_lock = request->resolving_pessimistic_lock;
    status->verify_is_primary = request->verify_is_primary;
    tikv_txn_write(txn);
}

static void answer_secondaries(struct tikv_txn *txn)
{
    const struct txn_check_secondaries *check = &txn->of.check_secondaries;
    Kvrpcpb__CheckSecondaryLocksResponse answer = KVRPCPB__CHECK_SECONDARY_LOCKS_RESPONSE__INIT;
    if (tikv_txn_answer_error(txn, &check->error))
        return;
    answer.commit_ts = check->commit_ts;
    answer.n_locks = check->locks_count;
    answer.locks =
        tikv_lock_messages(command_arena(txn->command), check->locks, check->locks_count);
    if (answer.locks != NULL)
        tikv_answer_message(txn->command, &answer.base);
    else
        tikv_fail_no_memory(txn->command);
}

void tikv_kv_check_secondaries(struct tikv_command *command)
{
    const Kvrpcpb__CheckSecondaryLocksRequest *request = (const void *)command->request;
    const kvs_slice *keys;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_slices(command, request->keys, request->n_keys, &keys) ||
        !tikv_txn_place(&place, keys, request->n_keys) ||
        !tikv_txn_check_commit_ts(command, request->start_version))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_CHECK_SECONDARIES, answer_secondaries);
    if (txn == NULL)
        return;
    txn->of.check_secondaries.keys = keys;
    txn->of.check_secondaries.keys_count = (uint32_t)request->n_keys;
    txn->of.check_secondaries.start_ts = request->start_version;
    tikv_txn_write(txn);
}

/* --- resolving locks ----------------------------------------------------------------------------
 */

static void answer_done(struct tikv_txn *txn)
{
    tikv_answer(txn->command, slice_make(NULL, 0));
}

static void answer_resolve(struct tikv_txn *txn)
{
    if (!tikv_txn_answer_error(txn, &txn->of.resolve.error))
        answer_done(txn);
}

/* Of one transaction, or of many. */
static bool take_statuses(struct tikv_command *command, const Kvrpcpb__ResolveLockRequest *request,
                          struct txn_status **ret_statuses, size_t *ret_count)
{
    size_t count = request->n_txn_infos > 0 ? request->n_txn_infos : 1;
    struct txn_status *statuses = arena_alloc(command_arena(command), count * sizeof *statuses);
    if (statuses == NULL) {
        tikv_fail_no_memory(command);
        return false;
    }
    statuses[0] = (struct txn_status){.start_ts = request->start_version,
                                      .commit_ts = request->commit_version};
    for (size_t i = 0; i < request->n_txn_infos; i++)
        statuses[i] = (struct txn_status){.start_ts = request->txn_infos[i]->txn,
                                          .commit_ts = request->txn_infos[i]->status};
    for (size_t i = 0; i < count; i++) {
        if (!tikv_txn_check_commit_ts(command, statuses[i].start_ts) ||
            !tikv_txn_check_commit_ts(command, statuses[i].commit_ts))
            return false;
    }
    *ret_statuses = statuses;
    *ret_count = count;
    return true;
}

void tikv_kv_resolve_lock(struct tikv_command *command)
{
    const Kvrpcpb__ResolveLockRequest *request = (const void *)command->request;
    const kvs_slice *keys;
    struct txn_status *statuses;
    size_t count;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_slices(command, request->keys, request->n_keys, &keys) ||
        !tikv_txn_place(&place, keys, request->n_keys) ||
        !take_statuses(command, request, &statuses, &count))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_RESOLVE_LOCK, answer_resolve);
    if (txn == NULL || !tikv_txn_whole_region(&place, &txn->of.resolve.range))
        return;
    if (request->n_txn_infos == 0) { /* else all of the region, as in TiKV */
        txn->of.resolve.keys = keys;
        txn->of.resolve.keys_count = (uint32_t)request->n_keys;
    }
    txn->of.resolve.txns = statuses;
    txn->of.resolve.txns_count = (uint32_t)count;
    tikv_txn_write(txn);
}

/* --- ranges that go -----------------------------------------------------------------------------
 */

static void delete_range(struct tikv_place *place, const struct txn_range *range)
{
    struct tikv_txn *txn = tikv_txn_new(place, TXN_DELETE_RANGE, answer_done);
    if (txn == NULL)
        return;
    txn->of.delete_range.range = *range;
    if (txn_range_is_empty(range))
        answer_done(txn);
    else
        tikv_txn_write(txn);
}

void tikv_kv_delete_range(struct tikv_command *command)
{
    const Kvrpcpb__DeleteRangeRequest *request = (const void *)command->request;
    kvs_slice start = bytes_slice(request->start_key);
    kvs_slice end = bytes_slice(request->end_key);
    struct tikv_place place;
    struct txn_range range;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_place_range(&place, start, end) || !tikv_place_region(&place) ||
        (end.size > 0 && !tikv_place_has_end(&place, end)) ||
        !tikv_txn_range(&place, start, end, false, &range))
        return;
    if (request->notify_only)
        tikv_answer(command, slice_make(NULL, 0));
    else
        delete_range(&place, &range);
}

/* Of the whole store: it has no region, and asks for both bounds. */
void tikv_unsafe_destroy_range(struct tikv_command *command)
{
    const Kvrpcpb__UnsafeDestroyRangeRequest *request = (const void *)command->request;
    kvs_slice start = bytes_slice(request->start_key);
    kvs_slice end = bytes_slice(request->end_key);
    struct tikv_place place;
    struct txn_range range;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_encode_range(command, start, end, &range))
        return;
    if (start.size == 0 && end.size == 0)
        tikv_answer_error(command, "the range to be destroyed has no bounds");
    else
        delete_range(&place, &range);
}

/* --- the rest -----------------------------------------------------------------------------------
 */

/* As in TiKV: the store follows PD's safe point by itself. */
void tikv_kv_gc(struct tikv_command *command)
{
    if (command->message->is_stream)
        tikv_answer_error(command, "GC follows the safe point of PD and is not asked for");
    else
        tikv_fail(command, GRPC_UNIMPLEMENTED,
                  "GC follows the safe point of PD and is not asked for");
}

static bool begin(struct tikv_command *command, const Kvrpcpb__Context *context)
{
    struct tikv_place place;
    return tikv_place_begin_txn(&place, command, context);
}

/* See tikv_check_lock_observer. */
void tikv_lock_observer(struct tikv_command *command)
{
    const Kvrpcpb__RegisterLockObserverRequest *request = (const void *)command->request;
    if (begin(command, request->context)) /* removing is alike */
        tikv_answer(command, slice_make(NULL, 0));
}

void tikv_lock_wait_info(struct tikv_command *command)
{
    const Kvrpcpb__GetLockWaitInfoRequest *request = (const void *)command->request;
    Kvrpcpb__GetLockWaitInfoResponse answer = KVRPCPB__GET_LOCK_WAIT_INFO_RESPONSE__INIT;
    struct arena *arena = command_arena(command);
    struct txn_wait_entry *waits;
    uint32_t count;
    if (!begin(command, request->context))
        return;
    if (txn_node_waits(command_at(command)->service->txn, WAITS_MAX, arena, &waits, &count) == 0)
        answer.entries = tikv_wait_messages(arena, waits, count);
    if (answer.entries == NULL) {
        tikv_fail_no_memory(command);
        return;
    }
    answer.n_entries = count;
    tikv_answer_message(command, &answer.base);
}

/* What is told here is looked up anew by whoever needs it. */
void tikv_broadcast_status(struct tikv_command *command)
{
    const Kvrpcpb__BroadcastTxnStatusRequest *request = (const void *)command->request;
    if (begin(command, request->context))
        tikv_answer(command, slice_make(NULL, 0));
}
