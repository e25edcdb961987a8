/*
 * txn/pessimistic.c: locks that a transaction takes before it writes, and gives back unused.
 *
 * All keys of a request or none. A lock of another transaction: the command waits (txn/wait.h) and
 * runs again from the start.
 *
 * Locks in share mode get along with each other. Who wants one for itself first closes it, so that
 * no more join, and is refused at once, as in TiKV: its client may find one of the holders dead.
 * The next time it waits. The last holder may take it for itself.
 */
#include "base/clock.h"
#include "txn/job.h"

#include <kvs/error.h>

struct locking {
    struct txn_job *job;
    struct txn_pessimistic_lock *command;
    struct engine_view *view;
    const struct txn_mutation *mutation;
    uint32_t at;
    struct record_key *key; /* apart: nobody should clear all of it */
    uint64_t for_update_ts; /* of this key: that of the request, or of a newer commit */
    /* The version that the request does not know of: locked over, by force. 0: none. */
    uint64_t conflict_start_ts;
    uint64_t conflict_ts;
    size_t size; /* of the values so far */
    bool is_failed;
    kvs_slice shared; /* of this key: who shares it already */
    kvs_slice closes; /* of the key that failed: the record of its shared lock */
};

static bool wants_share(const struct txn_mutation *mutation)
{
    return mutation->op == TXN_OP_SHARED_PESSIMISTIC_LOCK;
}

static bool wants_value(const struct txn_pessimistic_lock *command)
{
    return command->return_values || command->check_existence;
}

static int pessimistic_lock_check(struct txn_job *job)
{
    struct txn_pessimistic_lock *command = (struct txn_pessimistic_lock *)(void *)job->command;
    if (command->mutations_count > KVS_BATCH_COUNT_MAX || command->primary.size > KVS_KEY_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    if (command->mutations_count == 0 ||
        (command->wake_mode == TXN_WAKE_FORCE_LOCK && command->mutations_count != 1))
        return KVS_ERR_INVALID_ARGUMENT;
    kvs_slice *keys = arena_alloc(&command->base.arena, command->mutations_count * sizeof *keys);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    bool reads = wants_value(command);
    for (uint32_t i = 0; i < command->mutations_count; i++) {
        bool is_known = command->mutations[i].op == TXN_OP_PESSIMISTIC_LOCK ||
                        command->mutations[i].op == TXN_OP_SHARED_PESSIMISTIC_LOCK;
        if (!is_known || command->mutations[i].op != command->mutations[0].op)
            return KVS_ERR_INVALID_ARGUMENT;
        keys[i] = command->mutations[i].key;
        reads = reads || command->mutations[i].assertion == TXN_ASSERT_NOT_EXIST;
    }
    if (reads)
        pending_raise_max_ts(&job->node->pending, command->for_update_ts);
    uint64_t wait_ms = job->node->wait_default_ms;
    if (command->wait_timeout_ms > 0)
        wait_ms = (uint64_t)command->wait_timeout_ms;
    if (wait_ms > job->node->wait_max_ms)
        wait_ms = job->node->wait_max_ms;
    job->waiter.start_ts = command->start_ts;
    job->waiter.for_update_ts = command->for_update_ts;
    job->waiter.holds_nothing = command->is_first_lock;
    if (command->tag.size <= WAIT_TAG_SIZE_MAX)
        job->waiter.tag = command->tag;
    job->waiter.deadline_ns = clock_now_ns() + wait_ms * 1000000u;
    return job_keys_set(job, keys, command->mutations_count);
}

/* --- refusals --------------------------------------------------------------------------------- */

static void refuse(struct locking *locking, const struct txn_key_error *error)
{
    locking->command->errors[0] = *error;
    locking->is_failed = true;
}

static void refuse_abort(struct locking *locking, const char *text)
{
    struct txn_key_error error;
    txn_error_abort(&error, locking->mutation->key, text);
    refuse(locking, &error);
}

/* It is in nobody's way that the transaction itself is among those that share it. */
static void leave_out_own(struct txn_lock_info *info, uint64_t start_ts)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < info->holders_count; i++) {
        if (info->holders[i].start_ts != start_ts)
            info->holders[kept++] = info->holders[i];
    }
    info->holders_count = kept;
}

/* Whom it waits for; *ret_lives: all of them may. */
static int wait_for(struct txn_job *job, const struct txn_lock_info *info, bool *ret_lives)
{
    struct waiter *waiter = &job->waiter;
    uint32_t count = info->holders_count;
    uint64_t first_ts = count > 0 ? info->holders[0].start_ts : info->start_ts;
    uint64_t *more_ts = arena_alloc(&job->command->arena, count * sizeof *more_ts);
    if (more_ts == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 1; i < count; i++)
        more_ts[i - 1] = info->holders[i].start_ts;
    if (waiter->lock_ts != first_ts || job->wait_begun_ns == 0)
        job->wait_begun_ns = clock_now_ns();
    waiter->lock_ts = first_ts; /* the oldest */
    waiter->more_ts = more_ts;
    waiter->more_count = count > 0 ? count - 1 : 0;
    *ret_lives = first_ts >= job->node->dead_before_ts;
    return 0;
}

/* The outcome if it may not wait is the lock. */
static int refuse_locked(struct locking *locking, const struct lock_record *lock)
{
    struct txn_job *job = locking->job;
    struct txn_key_error error;
    bool lives;
    int failed =
        txn_error_locked(&error, &locking->command->base.arena, locking->mutation->key, lock);
    if (failed != 0)
        return failed;
    leave_out_own(&error.lock, locking->command->start_ts);
    failed = wait_for(job, &error.lock, &lives);
    if (failed != 0)
        return failed;
    refuse(locking, &error);
    job->wants_wait = locking->command->wait_timeout_ms >= 0 && lives;
    job->waiter.key = locking->mutation->key;
    return 0;
}

static void refuse_conflict(struct locking *locking, uint64_t start_ts, uint64_t commit_ts)
{
    const struct txn_pessimistic_lock *command = locking->command;
    struct txn_key_error error = {
        .kind = TXN_ERROR_WRITE_CONFLICT,
        .reason = TXN_CONFLICT_PESSIMISTIC_RETRY,
        .key = locking->mutation->key,
        .primary = command->primary,
        .start_ts = command->start_ts,
        .conflict_ts = start_ts,
        .conflict_commit_ts = commit_ts,
    };
    refuse(locking, &error);
    /* relaxed: a figure */
    atomic_fetch_add_explicit(&locking->job->node->stat_conflicts, 1, memory_order_relaxed);
}

/* --- results ---------------------------------------------------------------------------------- */

/* The value that a reader at the key's for_update_ts sees. */
static int give_value(struct locking *locking, bool *ret_exists)
{
    struct txn_pessimistic_lock *command = locking->command;
    uint64_t conflict_ts = locking->conflict_ts;
    bool is_forced = command->wake_mode == TXN_WAKE_FORCE_LOCK;
    kvs_slice value = {0};
    *ret_exists = false;
    if (wants_value(command) || conflict_ts != 0 || command->lock_only_if_exists) {
        struct mvcc_version version;
        int error = mvcc_visible(locking->view, locking->key, locking->for_update_ts, &version);
        if (error != 0 && error != KVS_ERR_NOT_FOUND)
            return error;
        *ret_exists = error == 0 && version.write.type == TXN_OP_PUT;
        error = 0;
        if (*ret_exists && (command->return_values || conflict_ts != 0))
            error = mvcc_value(locking->view, locking->key, &version.write, &value);
        locking->size += value.size;
        if (error == 0 && command->size_bytes_max > 0 && locking->size > command->size_bytes_max)
            error = KVS_ERR_TOO_LARGE;
        if (error == 0)
            error = txn_slice_copy(&command->base.arena, value, &value);
        if (error != 0)
            return error;
    }
    if (command->values != NULL)
        command->values[locking->at] = value;
    if (command->not_founds != NULL)
        command->not_founds[locking->at] = !*ret_exists;
    if (is_forced)
        command->lock_results[0] = (struct txn_lock_result){
            .kind =
                conflict_ts != 0 ? TXN_LOCK_RESULT_LOCKED_WITH_CONFLICT : TXN_LOCK_RESULT_NORMAL,
            .existence = *ret_exists,
            .value = value,
            .locked_with_conflict_ts = conflict_ts,
        };
    return 0;
}

/* --- a key ------------------------------------------------------------------------------------ */

/* A key that must not exist does. Who does not know of the version that shows it has to begin anew,
 * rather than to believe that. */
static int check_absent(struct locking *locking)
{
    struct mvcc_version version;
    if (locking->mutation->assertion != TXN_ASSERT_NOT_EXIST)
        return 0;
    int error = mvcc_visible(locking->view, locking->key, TXN_TS_MAX, &version);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error != 0 || version.write.type != TXN_OP_PUT)
        return error;
    if (locking->conflict_start_ts != 0)
        refuse_conflict(locking, locking->conflict_start_ts, locking->conflict_ts);
    else if (version.commit_ts > locking->command->for_update_ts)
        refuse_conflict(locking, version.write.start_ts, version.commit_ts);
    else
        refuse(locking, &(struct txn_key_error){.kind = TXN_ERROR_ALREADY_EXISTS,
                                                .key = locking->mutation->key});
    return 0;
}

/* It has the lock already: a request that was sent twice, or with a later timestamp. */
static int lock_again(struct locking *locking, struct lock_record *lock)
{
    const struct txn_pessimistic_lock *command = locking->command;
    if (lock->type != TXN_OP_PESSIMISTIC_LOCK) {
        refuse_abort(locking, "the key is prewritten by this transaction");
        return 0;
    }
    bool exists;
    /* It was locked over a newer commit, and the answer got lost. */
    if (command->wake_mode == TXN_WAKE_FORCE_LOCK && lock->for_update_ts > command->for_update_ts) {
        locking->for_update_ts = lock->for_update_ts;
        locking->conflict_ts = lock->for_update_ts;
    }
    int error = check_absent(locking);
    if (error == 0 && !locking->is_failed)
        error = give_value(locking, &exists);
    if (error != 0 || locking->is_failed)
        return error;
    bool is_raised = false;
    if (lock->for_update_ts < command->for_update_ts) {
        lock->for_update_ts = command->for_update_ts;
        lock->primary = command->primary; /* its client may have chosen another by now */
        is_raised = true;
    }
    if (lock->ttl_ms < command->lock_ttl_ms) {
        lock->ttl_ms = command->lock_ttl_ms;
        is_raised = true;
    }
    if (lock->min_commit_ts < command->min_commit_ts) {
        lock->min_commit_ts = command->min_commit_ts;
        is_raised = true;
    }
    return is_raised ? job_put_lock(locking->job, locking->key, lock) : 0;
}

/* Was this transaction rolled back on the key? Then the request is late. */
static int look_for_rollback(struct locking *locking, const struct mvcc_version *newest,
                             bool *ret_is_rolled_back)
{
    uint64_t start_ts = locking->command->start_ts;
    struct mvcc_version version = *newest;
    *ret_is_rolled_back = false;
    if (version.commit_ts > start_ts) {
        int error = mvcc_newest(locking->view, locking->key, start_ts, &version);
        if (error == KVS_ERR_NOT_FOUND)
            return 0;
        if (error != 0)
            return error;
    }
    *ret_is_rolled_back = version.commit_ts == start_ts && (version.write.type == TXN_OP_ROLLBACK ||
                                                            version.write.has_overlapped_rollback);
    return 0;
}

/* By force, it is locked also over a commit that is newer than what was asked for. */
static int check_versions(struct locking *locking)
{
    const struct txn_pessimistic_lock *command = locking->command;
    struct mvcc_version newest;
    uint64_t newest_ts;
    if (command->start_ts <= command->for_update_ts &&
        locking->mutation->assertion != TXN_ASSERT_NOT_EXIST &&
        job_is_newest_below(locking->job, locking->view, locking->key, command->start_ts))
        return 0;
    int error = mvcc_newest_ts(locking->view, locking->key, &newest_ts);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    bool is_older =
        error == 0 && newest_ts < command->start_ts && newest_ts <= command->for_update_ts;
    if (is_older && locking->mutation->assertion != TXN_ASSERT_NOT_EXIST)
        return 0;
    if (error == 0)
        error = mvcc_newest(locking->view, locking->key, TXN_TS_MAX, &newest);
    if (error != 0)
        return error;
    bool is_rolled_back;
    error = look_for_rollback(locking, &newest, &is_rolled_back);
    if (error != 0)
        return error;
    if (newest.commit_ts > command->for_update_ts) {
        if (command->wake_mode != TXN_WAKE_FORCE_LOCK) {
            refuse_conflict(locking, newest.write.start_ts, newest.commit_ts);
            return 0;
        }
        locking->for_update_ts = newest.commit_ts;
        locking->conflict_start_ts = newest.write.start_ts;
        locking->conflict_ts = newest.commit_ts;
    }
    if (is_rolled_back) {
        refuse_abort(locking, "the transaction was rolled back on this key");
        return 0;
    }
    return check_absent(locking);
}

/* Others may have been told of what it was raised to. */
static void keep_higher(struct lock_record *lock, const struct lock_record *held)
{
    if (lock->ttl_ms < held->ttl_ms)
        lock->ttl_ms = held->ttl_ms;
    if (lock->for_update_ts < held->for_update_ts)
        lock->for_update_ts = held->for_update_ts;
    if (lock->min_commit_ts < held->min_commit_ts)
        lock->min_commit_ts = held->min_commit_ts;
}

/* `held`: its own part of the shared lock that it takes for itself now; or NULL. */
static int lock_anew(struct locking *locking, const struct lock_record *held)
{
    struct txn_pessimistic_lock *command = locking->command;
    int error = check_versions(locking);
    if (error != 0 || locking->is_failed)
        return error;
    bool exists;
    error = give_value(locking, &exists);
    if (error == 0 && command->lock_only_if_exists && !exists && locking->conflict_ts != 0)
        refuse_conflict(locking, locking->conflict_start_ts, locking->conflict_ts);
    if (error != 0 || (command->lock_only_if_exists && !exists))
        return error;
    locking->job->has_key =
        locking->job->has_key || slice_equal(locking->mutation->key, locking->job->waiter.key);
    struct lock_record lock = {
        .type = TXN_OP_PESSIMISTIC_LOCK,
        .primary = command->primary,
        .start_ts = command->start_ts,
        .ttl_ms = command->lock_ttl_ms,
        .for_update_ts = locking->for_update_ts,
        .min_commit_ts = command->min_commit_ts,
        .shared = locking->shared,
    };
    if (held != NULL)
        keep_higher(&lock, held);
    return wants_share(locking->mutation) ? job_put_shared_lock(locking->job, locking->key, &lock)
                                          : job_put_lock(locking->job, locking->key, &lock);
}

/* In share mode, of a key that others have locked so. */
static int lock_shared(struct locking *locking, const struct lock_record *lock)
{
    struct lock_record own;
    if (lock_record_find(lock, locking->command->start_ts, &own))
        return lock_again(locking, &own);
    if (lock->is_closed || !shared_record_has_room(lock, locking->command->primary.size))
        return refuse_locked(locking, lock);
    locking->shared = lock->shared;
    return lock_anew(locking, NULL);
}

/* For itself, of a key that is locked in share mode. */
static int lock_upgrade(struct locking *locking, const struct lock_record *lock)
{
    struct lock_record own;
    bool is_holder = lock_record_find(lock, locking->command->start_ts, &own);
    if (is_holder && own.type != TXN_OP_PESSIMISTIC_LOCK) {
        refuse_abort(locking, "the key is prewritten by this transaction");
        return 0;
    }
    if (is_holder && lock->holders_count == 1)
        return lock_anew(locking, &own);
    int error = refuse_locked(locking, lock);
    if (error == 0 && !lock->is_closed) {
        locking->closes = lock->shared;
        locking->job->wants_wait = false;
    }
    return error;
}

static int lock_key(struct locking *locking)
{
    record_key_set(locking->key, locking->mutation->key);
    locking->for_update_ts = locking->command->for_update_ts;
    locking->conflict_start_ts = 0;
    locking->conflict_ts = 0;
    locking->shared = (kvs_slice){0};
    struct lock_record lock;
    int error = mvcc_lock(locking->view, record_key_slice(locking->key), &lock);
    if (error == KVS_ERR_NOT_FOUND)
        return lock_anew(locking, NULL);
    if (error != 0)
        return error;
    if (lock.type == TXN_OP_SHARED_LOCK)
        return wants_share(locking->mutation) ? lock_shared(locking, &lock)
                                              : lock_upgrade(locking, &lock);
    return lock.start_ts == locking->command->start_ts ? lock_again(locking, &lock)
                                                       : refuse_locked(locking, &lock);
}

/* --- the rule --------------------------------------------------------------------------------- */

static int results_make(struct txn_pessimistic_lock *command)
{
    struct arena *arena = &command->base.arena;
    uint32_t count = command->mutations_count;
    bool is_forced = command->wake_mode == TXN_WAKE_FORCE_LOCK;
    command->errors_count = 0;
    command->values = NULL;
    command->not_founds = NULL;
    command->lock_results = NULL;
    command->errors = arena_zalloc(arena, sizeof *command->errors);
    if (command->errors == NULL)
        return KVS_ERR_NO_MEMORY;
    if (is_forced) {
        command->lock_results = arena_zalloc(arena, sizeof *command->lock_results);
        return command->lock_results != NULL ? 0 : KVS_ERR_NO_MEMORY;
    }
    if (command->return_values) {
        command->values = arena_zalloc(arena, count * sizeof *command->values);
        if (command->values == NULL)
            return KVS_ERR_NO_MEMORY;
    }
    if (wants_value(command)) {
        command->not_founds = arena_zalloc(arena, count * sizeof *command->not_founds);
        if (command->not_founds == NULL)
            return KVS_ERR_NO_MEMORY;
    }
    return 0;
}

/* The only thing that a request which fails writes. */
static int close_shared(struct locking *locking)
{
    kvs_slice copy;
    int error = txn_slice_copy(locking->job->scratch, locking->closes, &copy);
    if (error != 0)
        return error;
    shared_record_close((uint8_t *)(uintptr_t)copy.data);
    return job_set(locking->job, ENGINE_FAMILY_TXN_LOCK, record_key_slice(locking->key), copy);
}

static int pessimistic_lock_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_pessimistic_lock *command = (struct txn_pessimistic_lock *)(void *)job->command;
    int error = node_is_past(job->node, command->start_ts) ? KVS_ERR_TXN_TOO_OLD : 0;
    if (error == 0)
        error = results_make(command);
    if (error != 0)
        return error;
    struct record_key key;
    struct locking locking = {.job = job, .command = command, .view = view, .key = &key};
    if (command->lock_only_if_exists && !command->return_values) {
        locking.mutation = &command->mutations[0];
        refuse_abort(&locking, "lock_only_if_exists needs return_values");
    }
    for (uint32_t i = 0; i < command->mutations_count && error == 0 && !locking.is_failed; i++) {
        locking.at = i;
        locking.mutation = &command->mutations[i];
        error = lock_key(&locking);
    }
    if (error != 0 || !locking.is_failed)
        return error;
    job->mutations_count = 0;
    job->has_key = false;
    command->errors_count = 1;
    command->values = NULL;
    command->not_founds = NULL;
    if (command->lock_results != NULL)
        command->lock_results[0] = (struct txn_lock_result){.kind = TXN_LOCK_RESULT_FAILED};
    return locking.closes.size > 0 ? close_shared(&locking) : 0;
}

const struct txn_rule rule_pessimistic_lock = {.check = pessimistic_lock_check,
                                               .run = pessimistic_lock_run};

/* --- giving back ------------------------------------------------------------------------------ */

int pessimistic_rollback_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key,
                             uint64_t start_ts, uint64_t for_update_ts)
{
    struct record_key key;
    record_key_set(&key, user_key);
    struct lock_record lock;
    int error = mvcc_lock_of(view, record_key_slice(&key), start_ts, &lock);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error != 0 || lock.type != TXN_OP_PESSIMISTIC_LOCK || lock.for_update_ts > for_update_ts)
        return error;
    return job_remove_lock(job, &key, user_key, &lock);
}

static int pessimistic_rollback_check(struct txn_job *job)
{
    struct txn_pessimistic_rollback *command =
        (struct txn_pessimistic_rollback *)(void *)job->command;
    return job_keys_set(job, command->keys, command->keys_count);
}

static int pessimistic_rollback_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_pessimistic_rollback *command =
        (struct txn_pessimistic_rollback *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    int error = 0;
    for (uint32_t i = 0; i < job->keys_count && error == 0; i++) {
        /* Not staged: it does no harm twice, nor if the rest fails. */
        if (!wait_room_is_empty(&job->node->room))
            wait_roll_back(&job->node->room, job->keys[i], command->start_ts,
                           command->for_update_ts);
        error = pessimistic_rollback_key(job, view, job->keys[i], command->start_ts,
                                         command->for_update_ts);
    }
    return error;
}

const struct txn_rule rule_pessimistic_rollback = {.check = pessimistic_rollback_check,
                                                   .run = pessimistic_rollback_run};
