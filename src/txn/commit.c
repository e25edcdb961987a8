/* txn/commit.c: the rules that end a transaction on its keys, and those that ask how it ended. */
#include "txn/job.h"

#include <kvs/error.h>

/* --- commit ----------------------------------------------------------------------------------- */

static int commit_without_lock(struct txn_job *job, struct engine_view *view,
                               struct record_key *key, kvs_slice user_key, uint64_t start_ts,
                               struct txn_key_error *ret_error)
{
    (void)job;
    struct mvcc_outcome outcome;
    int error = mvcc_outcome(view, key, start_ts, &outcome);
    if (error == 0 && outcome.fate != MVCC_COMMITTED)
        *ret_error = (struct txn_key_error){
            .kind = TXN_ERROR_LOCK_NOT_FOUND, .key = user_key, .start_ts = start_ts};
    return error;
}

static int commit_lock(struct txn_job *job, struct engine_view *view, struct record_key *key,
                       kvs_slice user_key, const struct lock_record *lock, uint64_t commit_ts)
{
    if (lock->type == TXN_OP_PESSIMISTIC_LOCK) /* left behind: it has nothing to commit */
        return job_remove_lock(job, key, user_key, lock);
    struct write_record write = {
        .type = lock->type, .start_ts = lock->start_ts, .has_value = lock->has_value};
    int error = txn_slice_copy(job->scratch, lock->value, &write.value);
    if (error == 0 && lock->use_async_commit)
        error = mvcc_has_rollback_at(view, key, commit_ts, &write.has_overlapped_rollback);
    if (error == 0)
        error = job_put_write(job, key, commit_ts, &write);
    return error == 0 ? job_remove_lock(job, key, user_key, lock) : error;
}

int commit_held(struct txn_job *job, struct engine_view *view, struct record_key *key,
                kvs_slice user_key, const struct lock_record *lock, uint64_t commit_ts,
                struct txn_key_error *ret_error)
{
    if (commit_ts < lock->min_commit_ts) {
        *ret_error = (struct txn_key_error){.kind = TXN_ERROR_COMMIT_TS_EXPIRED,
                                            .key = user_key,
                                            .start_ts = lock->start_ts,
                                            .commit_ts = commit_ts,
                                            .min_commit_ts = lock->min_commit_ts};
        return 0;
    }
    return commit_lock(job, view, key, user_key, lock, commit_ts);
}

int commit_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key, uint64_t start_ts,
               uint64_t commit_ts, struct txn_key_error *ret_error)
{
    struct record_key key;
    record_key_set(&key, user_key);
    struct lock_record lock;
    int error = mvcc_lock_of(view, record_key_slice(&key), start_ts, &lock);
    if (error == KVS_ERR_NOT_FOUND)
        return commit_without_lock(job, view, &key, user_key, start_ts, ret_error);
    return error == 0 ? commit_held(job, view, &key, user_key, &lock, commit_ts, ret_error) : error;
}

static int commit_check(struct txn_job *job)
{
    struct txn_commit *command = (struct txn_commit *)(void *)job->command;
    return job_keys_set(job, command->keys, command->keys_count);
}

/* One error: nothing of the request happens. */
static void job_refuse(struct txn_job *job)
{
    job->mutations_count = 0;
    job->unlocked_count = 0;
}

static int commit_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_commit *command = (struct txn_commit *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    if (command->commit_ts <= command->start_ts) {
        txn_error_abort(&command->error, (kvs_slice){0},
                        "invalid timestamps: a transaction commits after its start");
        return 0;
    }
    int error = 0;
    for (uint32_t i = 0; i < command->keys_count && error == 0; i++) {
        error = commit_key(job, view, command->keys[i], command->start_ts, command->commit_ts,
                           &command->error);
        if (command->error.kind != TXN_ERROR_NONE) {
            job_refuse(job);
            break;
        }
    }
    return error;
}

const struct txn_rule rule_commit = {.check = commit_check, .run = commit_run};

/* --- rollback --------------------------------------------------------------------------------- */

/* Own lock: takes it away, with its value, and leaves a rollback; of what was committed before it
 * came, nothing. */
int rollback_held(struct txn_job *job, struct engine_view *view, struct record_key *key,
                  kvs_slice user_key, const struct lock_record *lock, bool is_protected,
                  struct mvcc_outcome *ret_outcome)
{
    int error = mvcc_outcome(view, key, lock->start_ts, ret_outcome);
    if (error == 0 && ret_outcome->fate == MVCC_COMMITTED)
        return job_remove_lock(job, key, user_key, lock);
    if (error == 0 && lock->type == TXN_OP_PUT && !lock->has_value)
        error = job_remove_data(job, key, lock->start_ts);
    /* A late request of a pessimistic transaction must meet the rollback of its primary. */
    if (lock->for_update_ts != 0 && slice_equal(user_key, lock->primary))
        is_protected = true;
    if (error == 0 && ret_outcome->fate == MVCC_UNKNOWN)
        error = job_put_rollback(job, key, lock->start_ts, ret_outcome, is_protected);
    if (error == 0 && !is_protected)
        error = job_collapse_rollback(job, view, key, lock->start_ts);
    return error == 0 ? job_remove_lock(job, key, user_key, lock) : error;
}

/* No lock of its own: a rollback keeps a prewrite that is late from succeeding. */
static int rollback_missing(struct txn_job *job, struct engine_view *view, struct record_key *key,
                            uint64_t start_ts, bool is_protected, struct mvcc_outcome *ret_outcome)
{
    int error = mvcc_outcome(view, key, start_ts, ret_outcome);
    if (error != 0 || ret_outcome->fate != MVCC_UNKNOWN)
        return error;
    error = job_put_rollback(job, key, start_ts, ret_outcome, is_protected);
    if (error == 0 && !is_protected)
        error = job_collapse_rollback(job, view, key, start_ts);
    return error;
}

int rollback_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key,
                 uint64_t start_ts, bool is_protected, struct mvcc_outcome *ret_outcome)
{
    struct record_key key;
    record_key_set(&key, user_key);
    struct lock_record lock;
    ret_outcome->fate = MVCC_UNKNOWN;
    int error = mvcc_lock_of(view, record_key_slice(&key), start_ts, &lock);
    if (error == 0)
        return rollback_held(job, view, &key, user_key, &lock, is_protected, ret_outcome);
    if (error != KVS_ERR_NOT_FOUND)
        return error;
    return rollback_missing(job, view, &key, start_ts, is_protected, ret_outcome);
}

static int batch_rollback_check(struct txn_job *job)
{
    struct txn_batch_rollback *command = (struct txn_batch_rollback *)(void *)job->command;
    return job_keys_set(job, command->keys, command->keys_count);
}

static int batch_rollback_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_batch_rollback *command = (struct txn_batch_rollback *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    for (uint32_t i = 0; i < command->keys_count; i++) {
        struct mvcc_outcome outcome;
        int error = rollback_key(job, view, command->keys[i], command->start_ts, false, &outcome);
        if (error != 0)
            return error;
        if (outcome.fate == MVCC_COMMITTED) {
            txn_error_abort(&command->error, command->keys[i],
                            "the transaction has committed: it cannot be rolled back");
            command->error.start_ts = command->start_ts;
            command->error.commit_ts = outcome.commit_ts;
            job_refuse(job);
            return 0;
        }
    }
    return 0;
}

const struct txn_rule rule_batch_rollback = {.check = batch_rollback_check,
                                             .run = batch_rollback_run};

/* --- cleanup: the rollback of old clients ----------------------------------------------------- */

static int cleanup_check(struct txn_job *job)
{
    return job_keys_set(job, &((struct txn_cleanup *)(void *)job->command)->key, 1);
}

static int cleanup_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_cleanup *command = (struct txn_cleanup *)(void *)job->command;
    command->commit_ts = 0;
    command->error = (struct txn_key_error){0};
    struct record_key key;
    record_key_set(&key, command->key);
    struct lock_record lock;
    int error = mvcc_lock_of(view, record_key_slice(&key), command->start_ts, &lock);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return error;
    bool is_alive = error == 0 && command->current_ts != 0 &&
                    !lock_record_is_expired(&lock, command->current_ts);
    if (is_alive)
        return txn_error_locked(&command->error, &command->base.arena, command->key, &lock);
    struct mvcc_outcome outcome;
    error = rollback_key(job, view, command->key, command->start_ts, true, &outcome);
    if (error == 0 && outcome.fate == MVCC_COMMITTED)
        command->commit_ts = outcome.commit_ts;
    return error;
}

const struct txn_rule rule_cleanup = {.check = cleanup_check, .run = cleanup_run};
