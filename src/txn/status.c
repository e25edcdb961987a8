/*
 * txn/status.c: the rules by which others learn what became of a transaction, and decide it when
 * its client is gone.
 */
#include "txn/job.h"

#include <kvs/error.h>

/* --- heartbeat -------------------------------------------------------------------------------- */

static int heartbeat_check(struct txn_job *job)
{
    return job_keys_set(job, &((struct txn_heartbeat *)(void *)job->command)->primary, 1);
}

static int heartbeat_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_heartbeat *command = (struct txn_heartbeat *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    command->lock_ttl_ms = 0;
    struct record_key key;
    record_key_set(&key, command->primary);
    struct lock_record lock;
    int error = mvcc_lock_of(view, record_key_slice(&key), command->start_ts, &lock);
    if (error == KVS_ERR_NOT_FOUND) {
        command->error = (struct txn_key_error){.kind = TXN_ERROR_TXN_NOT_FOUND,
                                                .key = command->primary,
                                                .primary = command->primary,
                                                .start_ts = command->start_ts};
        return 0;
    }
    if (error != 0)
        return error;
    command->lock_ttl_ms = lock.ttl_ms;
    if (lock.ttl_ms >= command->advise_ttl_ms && lock.min_commit_ts >= command->min_commit_ts)
        return 0;
    if (lock.ttl_ms < command->advise_ttl_ms)
        lock.ttl_ms = command->advise_ttl_ms;
    if (lock.min_commit_ts < command->min_commit_ts)
        lock.min_commit_ts = command->min_commit_ts;
    command->lock_ttl_ms = lock.ttl_ms;
    return job_put_lock(job, &key, &lock);
}

const struct txn_rule rule_heartbeat = {.check = heartbeat_check, .run = heartbeat_run};

/* --- check status ----------------------------------------------------------------------------- */

static int check_status_check(struct txn_job *job)
{
    struct txn_check_status *command = (struct txn_check_status *)(void *)job->command;
    /* All of them were given to a reader who may go by the answer. */
    pending_raise_max_ts(&job->node->pending, command->start_ts);
    pending_raise_max_ts(&job->node->pending, command->caller_start_ts);
    pending_raise_max_ts(&job->node->pending, command->current_ts);
    return job_keys_set(job, &command->primary, 1);
}

static int status_without_lock(struct txn_job *job, struct engine_view *view,
                               struct record_key *key)
{
    struct txn_check_status *command = (struct txn_check_status *)(void *)job->command;
    struct mvcc_outcome outcome;
    int error = mvcc_outcome(view, key, command->start_ts, &outcome);
    if (error != 0 || outcome.fate == MVCC_ROLLED_BACK)
        return error;
    if (outcome.fate == MVCC_COMMITTED) {
        command->commit_ts = outcome.commit_ts;
        return 0;
    }
    if (!command->rollback_if_not_exist) {
        command->error = (struct txn_key_error){.kind = TXN_ERROR_TXN_NOT_FOUND,
                                                .key = command->primary,
                                                .primary = command->primary,
                                                .start_ts = command->start_ts};
        return 0;
    }
    if (command->resolving_pessimistic_lock) {
        command->action = TXN_ACTION_LOCK_NOT_EXIST_DO_NOTHING;
        return 0;
    }
    command->action = TXN_ACTION_LOCK_NOT_EXIST_ROLLBACK;
    return job_put_rollback(job, key, command->start_ts, &outcome, true);
}

static int status_expired(struct txn_job *job, struct engine_view *view, struct record_key *key,
                          const struct lock_record *lock)
{
    struct txn_check_status *command = (struct txn_check_status *)(void *)job->command;
    if (lock->type == TXN_OP_PESSIMISTIC_LOCK && command->resolving_pessimistic_lock) {
        command->action = TXN_ACTION_TTL_EXPIRE_PESSIMISTIC_ROLLBACK;
        return job_remove_lock(job, key, command->primary, lock);
    }
    command->action = TXN_ACTION_TTL_EXPIRE_ROLLBACK;
    struct mvcc_outcome outcome;
    return rollback_key(job, view, command->primary, command->start_ts, true, &outcome);
}

static int status_alive(struct txn_job *job, struct record_key *key, struct lock_record *lock)
{
    struct txn_check_status *command = (struct txn_check_status *)(void *)job->command;
    int error = 0;
    uint64_t caller = command->caller_start_ts;
    bool is_async = lock->use_async_commit && !command->force_sync_commit;
    if (!is_async && lock->min_commit_ts != 0 && caller != TXN_TS_MAX &&
        caller >= lock->min_commit_ts) {
        lock->min_commit_ts = caller + 1 > command->current_ts ? caller + 1 : command->current_ts;
        error = job_put_lock(job, key, lock);
    }
    bool is_pushed = (caller != 0 && lock->min_commit_ts > caller) || caller == TXN_TS_MAX;
    if (!is_async && is_pushed)
        command->action = TXN_ACTION_MIN_COMMIT_TS_PUSHED;
    command->lock_ttl_ms = lock->ttl_ms;
    if (error == 0)
        error = txn_lock_info_set(&command->lock, &command->base.arena, command->primary, lock);
    return error;
}

static int check_status_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_check_status *command = (struct txn_check_status *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    command->lock = (struct txn_lock_info){0};
    command->lock_ttl_ms = 0;
    command->commit_ts = 0;
    command->action = TXN_ACTION_NONE;
    struct record_key key;
    record_key_set(&key, command->primary);
    struct lock_record lock;
    int error = mvcc_lock_of(view, record_key_slice(&key), command->start_ts, &lock);
    if (error == KVS_ERR_NOT_FOUND)
        return status_without_lock(job, view, &key);
    if (error != 0)
        return error;
    if (command->verify_is_primary && !slice_equal(lock.primary, command->primary)) {
        if (lock.type == TXN_OP_PESSIMISTIC_LOCK && !command->resolving_pessimistic_lock) {
            /* It was locked by a request that named another primary, and is no sign of life. While
             * nothing is decided it stays: its transaction may be about to prewrite the key. */
            error = status_without_lock(job, view, &key);
            if (error != 0 || command->error.kind != TXN_ERROR_NONE)
                return error;
            return job_remove_lock(job, &key, command->primary, &lock);
        }
        error = txn_error_locked(&command->error, &command->base.arena, command->primary, &lock);
        command->error.kind = TXN_ERROR_PRIMARY_MISMATCH;
        return error;
    }
    struct mvcc_outcome outcome;
    error = mvcc_outcome(view, &key, command->start_ts, &outcome);
    if (error != 0)
        return error;
    if (outcome.fate != MVCC_UNKNOWN) {
        /* A request to lock by force came after the end of its transaction, and perhaps one to
         * prewrite. */
        command->commit_ts = outcome.fate == MVCC_COMMITTED ? outcome.commit_ts : 0;
        return rollback_key(job, view, command->primary, command->start_ts, true, &outcome);
    }
    bool is_async = lock.use_async_commit && !command->force_sync_commit;
    if (!is_async && lock_record_is_expired(&lock, command->current_ts))
        return status_expired(job, view, &key, &lock);
    return status_alive(job, &key, &lock);
}

const struct txn_rule rule_check_status = {.check = check_status_check, .run = check_status_run};

/* --- check secondaries ------------------------------------------------------------------------ */

static int check_secondaries_check(struct txn_job *job)
{
    struct txn_check_secondaries *command = (struct txn_check_secondaries *)(void *)job->command;
    pending_raise_max_ts(&job->node->pending, command->start_ts);
    return job_keys_set(job, command->keys, command->keys_count);
}

/* *ret_is_decided: the others need not be looked at. */
static int check_secondary(struct txn_job *job, struct engine_view *view, kvs_slice user_key,
                           bool *ret_is_decided)
{
    struct txn_check_secondaries *command = (struct txn_check_secondaries *)(void *)job->command;
    struct record_key key;
    record_key_set(&key, user_key);
    struct lock_record lock;
    int error = mvcc_lock_of(view, record_key_slice(&key), command->start_ts, &lock);
    bool is_own = error == 0;
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return error;
    if (is_own && lock.type != TXN_OP_PESSIMISTIC_LOCK)
        return txn_lock_info_set(&command->locks[command->locks_count++], &command->base.arena,
                                 user_key, &lock);
    *ret_is_decided = true;
    struct mvcc_outcome outcome;
    error = mvcc_outcome(view, &key, command->start_ts, &outcome);
    if (error == 0 && is_own)
        error = job_remove_lock(job, &key, user_key, &lock);
    command->locks_count = 0;
    if (error == 0 && outcome.fate == MVCC_COMMITTED)
        command->commit_ts = outcome.commit_ts;
    else if (error == 0 && outcome.fate == MVCC_UNKNOWN)
        error = job_put_rollback(job, &key, command->start_ts, &outcome, true);
    return error;
}

static int check_secondaries_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_check_secondaries *command = (struct txn_check_secondaries *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    command->commit_ts = 0;
    command->locks_count = 0;
    command->locks =
        arena_alloc(&command->base.arena, command->keys_count * sizeof *command->locks);
    if (command->locks == NULL)
        return KVS_ERR_NO_MEMORY;
    bool is_decided = false;
    int error = 0;
    for (uint32_t i = 0; i < command->keys_count && error == 0 && !is_decided; i++)
        error = check_secondary(job, view, command->keys[i], &is_decided);
    return error;
}

const struct txn_rule rule_check_secondaries = {.check = check_secondaries_check,
                                                .run = check_secondaries_run};
