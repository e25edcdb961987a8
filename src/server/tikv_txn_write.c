/* server/tikv_txn_write.c: the two phases of a commit, and locks before it; see tikv_txn.h. */
#include "server/tikv_txn.h"

/* --- mutations ----------------------------------------------------------------------------------
 */

static bool take_op(struct tikv_command *command, Kvrpcpb__Op op, bool is_lock,
                    struct txn_mutation *mutation)
{
    bool known =
        is_lock ? op == KVRPCPB__OP__PessimisticLock || op == KVRPCPB__OP__SharedPessimisticLock
                : op == KVRPCPB__OP__Put || op == KVRPCPB__OP__Del || op == KVRPCPB__OP__Lock ||
                      op == KVRPCPB__OP__Insert || op == KVRPCPB__OP__CheckNotExists ||
                      op == KVRPCPB__OP__SharedLock;
    mutation->op = (uint8_t)op;
    if (!known)
        tikv_answer_error(command, "a mutation of kind %d is not possible here", (int)op);
    return known;
}

/* Checked in themselves; where they belong is not looked at. */
static bool take_mutations(struct tikv_command *command, Kvrpcpb__Mutation *const *from,
                           size_t count, bool is_lock, struct txn_mutation **ret_mutations,
                           kvs_slice **ret_keys)
{
    struct arena *arena = command_arena(command);
    struct txn_mutation *mutations = arena_zalloc(arena, count * sizeof *mutations);
    kvs_slice *keys = arena_alloc(arena, count * sizeof *keys);
    if (mutations == NULL || keys == NULL) {
        tikv_fail_no_memory(command);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!take_op(command, from[i]->op, is_lock, &mutations[i]))
            return false;
        if (from[i]->assertion > KVRPCPB__ASSERTION__NotExist) {
            tikv_answer_error(command, "there is no assertion %d", (int)from[i]->assertion);
            return false;
        }
        mutations[i].assertion = (uint8_t)from[i]->assertion;
        mutations[i].key = keys[i] = bytes_slice(from[i]->key);
        mutations[i].value = bytes_slice(from[i]->value);
    }
    *ret_mutations = mutations;
    *ret_keys = keys;
    return true;
}

/* False: answered. */
static bool check_sizes(struct tikv_place *place, const struct txn_mutation *mutations,
                        size_t count, kvs_slice primary)
{
    struct tikv_command *command = place->command;
    uint32_t value_max = command_at(command)->service->value_size_max;
    uint64_t entry = 0;
    for (size_t i = 0; i < count; i++) {
        if (mutations[i].value.size > value_max) {
            tikv_answer_error(command, "value of %zu bytes, the limit is %u",
                              mutations[i].value.size, value_max);
            return false;
        }
        entry += mutations[i].key.size + mutations[i].value.size;
    }
    if (entry > TIKV_ENTRY_SIZE_MAX)
        tikv_answer_entry_too_large(command, place->region->id, entry);
    return entry <= TIKV_ENTRY_SIZE_MAX && tikv_place_key_size(place, primary);
}

/* All that mutations have to fulfil, and where they belong. False: answered. */
static bool place_mutations(struct tikv_place *place, Kvrpcpb__Mutation *const *from, size_t count,
                            kvs_slice primary, bool is_lock, struct txn_mutation **ret_mutations)
{
    kvs_slice *keys;
    return take_mutations(place->command, from, count, is_lock, ret_mutations, &keys) &&
           tikv_txn_place(place, keys, count) && check_sizes(place, *ret_mutations, count, primary);
}

static bool check_assertion_level(struct tikv_command *command, Kvrpcpb__AssertionLevel level)
{
    if (level > KVRPCPB__ASSERTION_LEVEL__Strict)
        tikv_answer_error(command, "there is no assertion level %d", (int)level);
    return level <= KVRPCPB__ASSERTION_LEVEL__Strict;
}

/* --- prewrite -----------------------------------------------------------------------------------
 */

static void answer_prewrite(struct tikv_txn *txn)
{
    const struct txn_prewrite *prewrite = &txn->of.prewrite;
    Kvrpcpb__PrewriteResponse answer = KVRPCPB__PREWRITE_RESPONSE__INIT;
    if (tikv_txn_answer_errors(txn, prewrite->errors, prewrite->errors_count))
        return;
    answer.min_commit_ts = prewrite->min_commit_ts_found;
    answer.one_pc_commit_ts = prewrite->one_pc_commit_ts;
    tikv_answer_message(txn->command, &answer.base);
}

/* What a pessimistic transaction does about each key. */
static bool take_actions(struct tikv_command *command, const Kvrpcpb__PrewriteRequest *request,
                         struct txn_mutation *mutations)
{
    for (size_t i = 0; i < request->n_pessimistic_actions && i < request->n_mutations; i++) {
        int action = (int)request->pessimistic_actions[i];
        if (action < TXN_SKIP_PESSIMISTIC_CHECK || action > TXN_DO_CONSTRAINT_CHECK) {
            tikv_answer_error(command, "there is no pessimistic action %d", action);
            return false;
        }
        mutations[i].pessimistic_action = (uint8_t)action;
    }
    for (size_t i = 0; i < request->n_for_update_ts_constraints; i++) {
        uint32_t index = request->for_update_ts_constraints[i]->index;
        if (index >= request->n_mutations) {
            tikv_answer_error(command, "a constraint for mutation %u of %zu", index,
                              request->n_mutations);
            return false;
        }
        mutations[index].expected_for_update_ts =
            request->for_update_ts_constraints[i]->expected_for_update_ts;
    }
    return true;
}

static void fill_prewrite(struct txn_prewrite *prewrite, const Kvrpcpb__PrewriteRequest *request)
{
    prewrite->mutations_count = (uint32_t)request->n_mutations;
    prewrite->primary = bytes_slice(request->primary_lock);
    prewrite->start_ts = request->start_version;
    prewrite->lock_ttl_ms = request->lock_ttl;
    prewrite->txn_size = request->txn_size;
    prewrite->for_update_ts = request->for_update_ts;
    prewrite->min_commit_ts = request->min_commit_ts;
    prewrite->max_commit_ts = request->max_commit_ts;
    prewrite->assertion_level = (uint8_t)request->assertion_level;
    prewrite->use_async_commit = request->use_async_commit;
    prewrite->try_one_pc = request->try_one_pc;
    prewrite->skip_constraint_check = request->skip_constraint_check;
    prewrite->is_retry = request->context != NULL && request->context->is_retry_request;
}

void tikv_kv_prewrite(struct tikv_command *command)
{
    const Kvrpcpb__PrewriteRequest *request = (const void *)command->request;
    struct txn_mutation *mutations;
    const kvs_slice *secondaries;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !place_mutations(&place, request->mutations, request->n_mutations,
                         bytes_slice(request->primary_lock), false, &mutations) ||
        !take_actions(command, request, mutations) ||
        !tikv_txn_slices(command, request->secondaries, request->n_secondaries, &secondaries) ||
        !tikv_txn_check_commit_ts(command, request->start_version) ||
        !tikv_txn_check_commit_ts(command, request->for_update_ts) ||
        !tikv_txn_check_commit_ts(command, request->min_commit_ts) ||
        !check_assertion_level(command, request->assertion_level))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_PREWRITE, answer_prewrite);
    if (txn == NULL)
        return;
    fill_prewrite(&txn->of.prewrite, request);
    txn->of.prewrite.mutations = mutations;
    if (request->use_async_commit) { /* some clients send them always */
        txn->of.prewrite.secondaries = secondaries;
        txn->of.prewrite.secondaries_count = (uint32_t)request->n_secondaries;
    }
    tikv_txn_write(txn);
}

static void answer_flush(struct tikv_txn *txn)
{
    const struct txn_prewrite *flush = &txn->of.prewrite;
    if (!tikv_txn_answer_errors(txn, flush->errors, flush->errors_count))
        tikv_answer(txn->command, slice_make(NULL, 0));
}

void tikv_kv_flush(struct tikv_command *command)
{
    const Kvrpcpb__FlushRequest *request = (const void *)command->request;
    struct txn_mutation *mutations;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !place_mutations(&place, request->mutations, request->n_mutations,
                         bytes_slice(request->primary_key), false, &mutations) ||
        !tikv_txn_check_commit_ts(command, request->start_ts) ||
        !tikv_txn_check_commit_ts(command, request->min_commit_ts) ||
        !check_assertion_level(command, request->assertion_level))
        return;
    if (request->generation == 0) {
        tikv_answer_error(command, "a flush has a generation, from 1");
        return;
    }
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_PREWRITE, answer_flush);
    if (txn == NULL)
        return;
    struct txn_prewrite *flush = &txn->of.prewrite;
    flush->mutations = mutations;
    flush->mutations_count = (uint32_t)request->n_mutations;
    flush->primary = bytes_slice(request->primary_key);
    flush->start_ts = request->start_ts;
    flush->lock_ttl_ms = request->lock_ttl;
    flush->generation = request->generation;
    flush->assertion_level = (uint8_t)request->assertion_level;
    flush->txn_size = UINT64_MAX;                 /* unknown: whole regions are to be resolved */
    flush->min_commit_ts = request->start_ts + 1; /* readers may push it only if it is not 0 */
    if (flush->min_commit_ts < request->min_commit_ts)
        flush->min_commit_ts = request->min_commit_ts;
    tikv_txn_write(txn);
}

/* --- commit and rollback ------------------------------------------------------------------------
 */

static void answer_commit(struct tikv_txn *txn)
{
    Kvrpcpb__CommitResponse answer = KVRPCPB__COMMIT_RESPONSE__INIT;
    if (tikv_txn_answer_error(txn, &txn->of.commit.error))
        return;
    answer.commit_version = txn->of.commit.commit_ts;
    tikv_answer_message(txn->command, &answer.base);
}

void tikv_kv_commit(struct tikv_command *command)
{
    const Kvrpcpb__CommitRequest *request = (const void *)command->request;
    const kvs_slice *keys;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_slices(command, request->keys, request->n_keys, &keys) ||
        !tikv_txn_place(&place, keys, request->n_keys) ||
        !tikv_txn_check_commit_ts(command, request->commit_version))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_COMMIT, answer_commit);
    if (txn == NULL)
        return;
    txn->of.commit.keys = keys;
    txn->of.commit.keys_count = (uint32_t)request->n_keys;
    txn->of.commit.start_ts = request->start_version;
    txn->of.commit.commit_ts = request->commit_version;
    tikv_txn_write(txn);
}

static void answer_done(struct tikv_txn *txn)
{
    tikv_answer(txn->command, slice_make(NULL, 0));
}

static void answer_rollback(struct tikv_txn *txn)
{
    if (!tikv_txn_answer_error(txn, &txn->of.rollback.error))
        answer_done(txn);
}

void tikv_kv_batch_rollback(struct tikv_command *command)
{
    const Kvrpcpb__BatchRollbackRequest *request = (const void *)command->request;
    const kvs_slice *keys;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_slices(command, request->keys, request->n_keys, &keys) ||
        !tikv_txn_place(&place, keys, request->n_keys) ||
        !tikv_txn_check_commit_ts(command, request->start_version))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_BATCH_ROLLBACK, answer_rollback);
    if (txn == NULL)
        return;
    txn->of.rollback.keys = keys;
    txn->of.rollback.keys_count = (uint32_t)request->n_keys;
    txn->of.rollback.start_ts = request->start_version;
    tikv_txn_write(txn);
}

static void answer_cleanup(struct tikv_txn *txn)
{
    Kvrpcpb__CleanupResponse answer = KVRPCPB__CLEANUP_RESPONSE__INIT;
    if (tikv_txn_answer_error(txn, &txn->of.cleanup.error))
        return;
    answer.commit_version = txn->of.cleanup.commit_ts;
    tikv_answer_message(txn->command, &answer.base);
}

void tikv_kv_cleanup(struct tikv_command *command)
{
    const Kvrpcpb__CleanupRequest *request = (const void *)command->request;
    kvs_slice key = bytes_slice(request->key);
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_place(&place, &key, 1) ||
        !tikv_txn_check_commit_ts(command, request->start_version))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_CLEANUP, answer_cleanup);
    if (txn == NULL)
        return;
    txn->of.cleanup.key = key;
    txn->of.cleanup.start_ts = request->start_version;
    txn->of.cleanup.current_ts = request->current_ts;
    tikv_txn_write(txn);
}

/* --- pessimistic locks --------------------------------------------------------------------------
 */

/* Values and what was found, as asked for: one for each mutation. */
static bool fill_found(struct arena *arena, const struct txn_pessimistic_lock *lock,
                       Kvrpcpb__PessimisticLockResponse *answer)
{
    size_t count = lock->mutations_count;
    if (lock->not_founds != NULL) {
        answer->not_founds = arena_alloc(arena, count * sizeof *answer->not_founds);
        if (answer->not_founds == NULL)
            return false;
        answer->n_not_founds = count;
        for (size_t i = 0; i < count; i++)
            answer->not_founds[i] = lock->not_founds[i];
    }
    if (lock->values != NULL) {
        answer->values = arena_alloc(arena, count * sizeof *answer->values);
        if (answer->values == NULL)
            return false;
        answer->n_values = count;
        for (size_t i = 0; i < count; i++)
            answer->values[i] = slice_bytes(lock->values[i]);
    }
    return true;
}

static bool fill_lock_results(struct arena *arena, const struct txn_pessimistic_lock *lock,
                              Kvrpcpb__PessimisticLockResponse *answer)
{
    size_t count = lock->lock_results != NULL ? lock->mutations_count : 0;
    Kvrpcpb__PessimisticLockKeyResult *results = arena_alloc(arena, count * sizeof *results);
    answer->results = arena_alloc(arena, count * sizeof(Kvrpcpb__PessimisticLockKeyResult *));
    if (results == NULL || answer->results == NULL)
        return false;
    answer->n_results = count;
    for (size_t i = 0; i < count; i++) {
        const struct txn_lock_result *from = &lock->lock_results[i];
        kvrpcpb__pessimistic_lock_key_result__init(&results[i]);
        results[i].type = (Kvrpcpb__PessimisticLockKeyResultType)from->kind;
        results[i].value = slice_bytes(from->value);
        results[i].existence = from->existence;
        results[i].locked_with_conflict_ts = from->locked_with_conflict_ts;
        answer->results[i] = &results[i];
    }
    return true;
}

static void answer_lock(struct tikv_txn *txn)
{
    struct arena *arena = command_arena(txn->command);
    const struct txn_pessimistic_lock *lock = &txn->of.lock;
    Kvrpcpb__PessimisticLockResponse answer = KVRPCPB__PESSIMISTIC_LOCK_RESPONSE__INIT;
    bool filled = fill_lock_results(arena, lock, &answer);
    if (lock->errors_count > 0) {
        answer.n_errors = lock->errors_count;
        answer.errors = tikv_key_error_messages(arena, lock->errors, lock->errors_count);
        filled = filled && answer.errors != NULL;
    } else {
        filled = filled && fill_found(arena, lock, &answer);
    }
    if (filled)
        tikv_answer_message(txn->command, &answer.base);
    else
        tikv_fail_no_memory(txn->command);
}

static void fill_pessimistic_lock(struct txn_pessimistic_lock *lock,
                                  const Kvrpcpb__PessimisticLockRequest *request)
{
    lock->mutations_count = (uint32_t)request->n_mutations;
    lock->primary = bytes_slice(request->primary_lock);
    lock->start_ts = request->start_version;
    lock->lock_ttl_ms = request->lock_ttl;
    lock->for_update_ts = request->for_update_ts;
    lock->min_commit_ts = request->min_commit_ts;
    lock->wait_timeout_ms = request->wait_timeout;
    lock->wake_mode =
        request->wake_up_mode == KVRPCPB__PESSIMISTIC_LOCK_WAKE_UP_MODE__WakeUpModeForceLock
            ? TXN_WAKE_FORCE_LOCK
            : TXN_WAKE_NORMAL;
    lock->is_first_lock = request->is_first_lock;
    lock->return_values = request->return_values;
    lock->check_existence = request->check_existence;
    lock->lock_only_if_exists = request->lock_only_if_exists;
}

void tikv_kv_pessimistic_lock(struct tikv_command *command)
{
    const Kvrpcpb__PessimisticLockRequest *request = (const void *)command->request;
    struct txn_mutation *mutations;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !place_mutations(&place, request->mutations, request->n_mutations,
                         bytes_slice(request->primary_lock), true, &mutations) ||
        !tikv_txn_check_commit_ts(command, request->start_version) ||
        !tikv_txn_check_commit_ts(command, request->for_update_ts) ||
        !tikv_txn_check_commit_ts(command, request->min_commit_ts))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_PESSIMISTIC_LOCK, answer_lock);
    if (txn == NULL)
        return;
    fill_pessimistic_lock(&txn->of.lock, request);
    if (request->context != NULL)
        txn->of.lock.tag = bytes_slice(request->context->resource_group_tag);
    txn->of.lock.size_bytes_max = TIKV_MESSAGE_SIZE_MAX;
    txn->of.lock.mutations = mutations;
    tikv_txn_write(txn);
}

static void answer_pessimistic_rollback(struct tikv_txn *txn)
{
    const struct txn_key_error *error = &txn->of.pessimistic_rollback.error;
    if (!tikv_txn_answer_errors(txn, error, error->kind != TXN_ERROR_NONE))
        answer_done(txn);
}

void tikv_kv_pessimistic_rollback(struct tikv_command *command)
{
    const Kvrpcpb__PessimisticRollbackRequest *request = (const void *)command->request;
    const kvs_slice *keys;
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_slices(command, request->keys, request->n_keys, &keys) ||
        !tikv_txn_place(&place, keys, request->n_keys))
        return;
    struct tikv_txn *txn =
        tikv_txn_new(&place, TXN_PESSIMISTIC_ROLLBACK, answer_pessimistic_rollback);
    if (txn == NULL || !tikv_txn_whole_region(&place, &txn->of.pessimistic_rollback.range))
        return;
    txn->of.pessimistic_rollback.keys = keys;
    txn->of.pessimistic_rollback.keys_count = (uint32_t)request->n_keys;
    txn->of.pessimistic_rollback.start_ts = request->start_version;
    txn->of.pessimistic_rollback.for_update_ts = request->for_update_ts;
    tikv_txn_write(txn);
}

static void answer_heart_beat(struct tikv_txn *txn)
{
    Kvrpcpb__TxnHeartBeatResponse answer = KVRPCPB__TXN_HEART_BEAT_RESPONSE__INIT;
    if (tikv_txn_answer_error(txn, &txn->of.heartbeat.error))
        return;
    answer.lock_ttl = txn->of.heartbeat.lock_ttl_ms;
    tikv_answer_message(txn->command, &answer.base);
}

void tikv_kv_heart_beat(struct tikv_command *command)
{
    const Kvrpcpb__TxnHeartBeatRequest *request = (const void *)command->request;
    kvs_slice primary = bytes_slice(request->primary_lock);
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_place(&place, &primary, 1) ||
        !tikv_txn_check_commit_ts(command, request->min_commit_ts))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_HEARTBEAT, answer_heart_beat);
    if (txn == NULL)
        return;
    txn->of.heartbeat.primary = primary;
    txn->of.heartbeat.start_ts = request->start_version;
    txn->of.heartbeat.advise_ttl_ms = request->advise_lock_ttl;
    txn->of.heartbeat.min_commit_ts = request->min_commit_ts;
    tikv_txn_write(txn);
}
