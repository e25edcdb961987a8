/*
 * txn/prewrite.c: the first phase of a commit, and all of it when one phase is enough.
 *
 *   1. each key is checked, its lock, versions and assertion; what is to be written is planned;
 *   2. a transaction that chooses its commit timestamp itself (async commit, one phase) shows its
 *      locks to readers and gets a timestamp above all that were read (txn/pending.h);
 *   3. locks, or at once the versions, are staged.
 * Step 2 comes after all reads: these may have to be done again on the pool.
 *
 * A flush, of a transaction that writes before its end, is a prewrite that may write over locks of
 * its own: docs/txn.md.
 */
#include "txn/job.h"

#include <assert.h>
#include <kvs/error.h>

enum plan_kind {
    PLAN_NOTHING = 0, /* CHECK_NOT_EXISTS */
    PLAN_DONE,        /* prewritten before */
    PLAN_WRITE,
};

struct plan {
    enum plan_kind kind;
    bool had_lock;    /* its own pessimistic lock */
    bool is_amended;  /* that is gone, and nobody has written since the start */
    bool had_flush;   /* its own lock, of an earlier flush */
    bool had_data;    /* whose value is in the data family */
    kvs_slice shared; /* the lock is one of several, in this record */
    uint64_t ttl_ms;
    uint64_t min_commit_ts; /* at least; of DONE: that of its lock, 0 when it is none of async */
};

struct prewrite {
    struct txn_job *job;
    struct txn_prewrite *command;
    struct engine_view *view;
    struct plan *plans;
    uint32_t locked_count;
    struct txn_key_error failure; /* an error that is no lock */
    struct txn_key_error assertion;
    bool was_committed; /* a request that came late: it has succeeded before */
    uint64_t committed_ts;
    /* of one key at a time */
    const struct txn_mutation *mutation;
    struct plan *plan;
    struct record_key *key; /* apart: nobody should clear all of it */
};

static bool is_pessimistic(const struct txn_prewrite *command)
{
    return command->for_update_ts != 0;
}

static bool must_not_exist(const struct txn_mutation *mutation)
{
    return mutation->op == TXN_OP_INSERT || mutation->op == TXN_OP_CHECK_NOT_EXISTS;
}

/* --- what is wrong with the request ----------------------------------------------------------- */

static int mutation_check(const struct txn_node *node, const struct txn_prewrite *command,
                          const struct txn_mutation *mutation)
{
    switch (mutation->op) {
    case TXN_OP_PUT:
    case TXN_OP_INSERT:
        return mutation->value.size > node->value_size_max ? KVS_ERR_TOO_LARGE : 0;
    case TXN_OP_DELETE:
    case TXN_OP_LOCK:
        return 0;
    case TXN_OP_CHECK_NOT_EXISTS:
        return is_pessimistic(command) ? KVS_ERR_INVALID_ARGUMENT : 0;
    case TXN_OP_SHARED_LOCK: /* of what is locked so already */
        return is_pessimistic(command) &&
                       mutation->pessimistic_action == TXN_DO_PESSIMISTIC_CHECK &&
                       !command->use_async_commit && !command->try_one_pc
                   ? 0
                   : KVS_ERR_INVALID_ARGUMENT;
    default:
        return KVS_ERR_INVALID_ARGUMENT;
    }
}

static int prewrite_check(struct txn_job *job)
{
    struct txn_prewrite *command = (struct txn_prewrite *)(void *)job->command;
    if (command->generation != 0 &&
        (is_pessimistic(command) || command->use_async_commit || command->try_one_pc))
        return KVS_ERR_INVALID_ARGUMENT;
    if (command->mutations_count > KVS_BATCH_COUNT_MAX ||
        command->primary.size > KVS_KEY_SIZE_MAX ||
        (command->use_async_commit && command->secondaries_count > RECORD_SECONDARIES_MAX))
        return KVS_ERR_TOO_LARGE;
    for (uint32_t i = 0; i < command->secondaries_count && command->use_async_commit; i++) {
        if (command->secondaries[i].size > KVS_KEY_SIZE_MAX)
            return KVS_ERR_TOO_LARGE;
    }
    kvs_slice *keys = arena_alloc(&command->base.arena, command->mutations_count * sizeof *keys);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < command->mutations_count; i++) {
        const struct txn_mutation *mutation = &command->mutations[i];
        int error = mutation_check(job->node, command, mutation);
        if (error != 0)
            return error;
        keys[i] = mutation->key;
        if (must_not_exist(mutation)) /* what it finds is a read at start_ts */
            pending_raise_max_ts(&job->node->pending, command->start_ts);
    }
    return job_keys_set(job, keys, command->mutations_count);
}

/* --- refusals --------------------------------------------------------------------------------- */

/* Before a request is refused: it may be one that was sent twice, and succeeded. */
static int look_for_commit(struct prewrite *prewrite)
{
    struct mvcc_outcome outcome;
    int error = mvcc_outcome(prewrite->view, prewrite->key, prewrite->command->start_ts, &outcome);
    if (error == 0 && outcome.fate == MVCC_COMMITTED) {
        prewrite->was_committed = true;
        prewrite->committed_ts = outcome.commit_ts;
    }
    return error;
}

static int refuse_conflict(struct prewrite *prewrite, const struct mvcc_version *version,
                           enum txn_conflict_reason reason)
{
    const struct txn_prewrite *command = prewrite->command;
    prewrite->failure = (struct txn_key_error){
        .kind = TXN_ERROR_WRITE_CONFLICT,
        .reason = (uint8_t)reason,
        .key = prewrite->mutation->key,
        .primary = command->primary,
        .start_ts = command->start_ts,
        .conflict_ts = version->write.start_ts,
        .conflict_commit_ts = version->commit_ts,
    };
    return version->commit_ts > command->start_ts ? look_for_commit(prewrite) : 0;
}

static int refuse_without_pessimistic_lock(struct prewrite *prewrite)
{
    txn_error_abort(&prewrite->failure, prewrite->mutation->key,
                    "the pessimistic lock of this key is gone");
    return look_for_commit(prewrite);
}

static int refuse_locked(struct prewrite *prewrite, const struct lock_record *lock)
{
    struct txn_prewrite *command = prewrite->command;
    struct txn_key_error *error = &command->errors[prewrite->locked_count++];
    int failed = txn_error_locked(error, &command->base.arena, prewrite->mutation->key, lock);
    if (is_pessimistic(command)) { /* it holds locks itself: the client resolves without waiting */
        error->lock.ttl_ms = 0;
        for (uint32_t i = 0; i < error->lock.holders_count; i++)
            error->lock.holders[i].ttl_ms = 0;
    }
    return failed == 0 ? look_for_commit(prewrite) : failed;
}

static bool is_refused(const struct prewrite *prewrite)
{
    return prewrite->failure.kind != TXN_ERROR_NONE;
}

/* --- step 1: a key ---------------------------------------------------------------------------- */

/* Its time to live and min_commit_ts may have been raised, and others told. */
static void keep_higher(struct plan *plan, const struct lock_record *lock)
{
    if (plan->ttl_ms < lock->ttl_ms)
        plan->ttl_ms = lock->ttl_ms;
    if (plan->min_commit_ts < lock->min_commit_ts)
        plan->min_commit_ts = lock->min_commit_ts;
}

/* A flush meets a lock of its own transaction, which has held the key ever since it was written. */
static void check_own_flush(struct prewrite *prewrite, const struct lock_record *lock)
{
    const struct txn_prewrite *command = prewrite->command;
    const struct txn_mutation *mutation = prewrite->mutation;
    struct plan *plan = prewrite->plan;
    if (lock->generation == 0) {
        txn_error_abort(&prewrite->failure, mutation->key,
                        "the key is prewritten by this transaction, and cannot be flushed");
        return;
    }
    if (lock->generation >= command->generation || mutation->op == TXN_OP_LOCK) {
        plan->kind = PLAN_DONE;
        return;
    }
    if (must_not_exist(mutation) && lock->type == TXN_OP_PUT)
        prewrite->failure =
            (struct txn_key_error){.kind = TXN_ERROR_ALREADY_EXISTS, .key = mutation->key};
    /* Under a LOCK is what was committed. */
    plan->had_flush = lock->type != TXN_OP_LOCK;
    plan->had_data = lock->type == TXN_OP_PUT && !lock->has_value;
    keep_higher(plan, lock);
}

/* A lock of its own that others share. True: it is as it was asked for. */
static bool check_shared(struct prewrite *prewrite, const struct lock_record *own)
{
    bool is_shared = prewrite->mutation->op == TXN_OP_SHARED_LOCK;
    if (own->shared.size > 0 && !is_shared)
        txn_error_abort(&prewrite->failure, prewrite->mutation->key,
                        "the key is locked in share mode, and cannot be written");
    prewrite->plan->shared = own->shared;
    return own->shared.size == 0 || is_shared;
}

/* A lock is there. */
static int check_lock(struct prewrite *prewrite, const struct lock_record *there)
{
    const struct txn_prewrite *command = prewrite->command;
    const struct txn_mutation *mutation = prewrite->mutation;
    struct plan *plan = prewrite->plan;
    struct lock_record own;
    if (!lock_record_find(there, command->start_ts, &own)) {
        if (is_pessimistic(command) && mutation->pessimistic_action == TXN_DO_PESSIMISTIC_CHECK)
            return refuse_without_pessimistic_lock(prewrite);
        plan->kind = PLAN_NOTHING;
        return refuse_locked(prewrite, there);
    }
    const struct lock_record *lock = &own;
    if (!check_shared(prewrite, lock))
        return 0;
    if (lock->type != TXN_OP_PESSIMISTIC_LOCK && command->generation != 0) {
        check_own_flush(prewrite, lock);
        return 0;
    }
    if (lock->type != TXN_OP_PESSIMISTIC_LOCK) {
        plan->kind = PLAN_DONE;
        plan->min_commit_ts = lock->use_async_commit ? lock->min_commit_ts : 0;
        return 0;
    }
    if (!is_pessimistic(command)) {
        txn_error_abort(&prewrite->failure, mutation->key,
                        "the key has a pessimistic lock of this optimistic transaction");
        return 0;
    }
    if (mutation->expected_for_update_ts != 0 &&
        mutation->expected_for_update_ts != lock->for_update_ts)
        return refuse_without_pessimistic_lock(prewrite);
    plan->had_lock = true;
    keep_higher(plan, lock);
    return 0;
}

/* When the newest version was committed; 0: there is none, or none as new as the transaction. */
static int newest_since_start(struct prewrite *prewrite, uint64_t *ret_ts)
{
    *ret_ts = 0;
    if (job_is_newest_below(prewrite->job, prewrite->view, prewrite->key,
                            prewrite->command->start_ts))
        return 0;
    uint64_t newest_ts;
    int error = mvcc_newest_ts(prewrite->view, prewrite->key, &newest_ts);
    if (error == 0 && newest_ts >= prewrite->command->start_ts)
        *ret_ts = newest_ts;
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

/* The pessimistic lock is gone; if nobody can have written since, its absence changes nothing. */
static int amend_lock(struct prewrite *prewrite)
{
    uint64_t newest_ts;
    int error = newest_since_start(prewrite, &newest_ts);
    if (error == 0 && newest_ts != 0)
        return refuse_without_pessimistic_lock(prewrite);
    prewrite->plan->is_amended = error == 0;
    return error;
}

/* A key whose versions nobody wants to be looked at: the request may still be one that was sent
 * twice, the first of which comes last, when others have built on the second. */
static int check_late(struct prewrite *prewrite)
{
    uint64_t newest_ts;
    int error = newest_since_start(prewrite, &newest_ts);
    return error == 0 && newest_ts > prewrite->command->start_ts ? look_for_commit(prewrite)
                                                                 : error;
}

static bool skips_version_check(const struct prewrite *prewrite)
{
    const struct txn_prewrite *command = prewrite->command;
    if (!is_pessimistic(command))
        return command->skip_constraint_check;
    switch (prewrite->mutation->pessimistic_action) {
    case TXN_DO_PESSIMISTIC_CHECK:
        return true;
    case TXN_DO_CONSTRAINT_CHECK:
        return false;
    default: /* only a request that was sent twice may meet what came after the first */
        return !command->is_retry;
    }
}

/* Does this version, or one that a lock or rollback hides, mean that the key exists? */
static int version_exists(struct prewrite *prewrite, const struct mvcc_version *version,
                          bool *ret_exists)
{
    *ret_exists = version->write.type == TXN_OP_PUT;
    if (version->write.type == TXN_OP_PUT || version->write.type == TXN_OP_DELETE ||
        version->commit_ts == 0)
        return 0;
    return mvcc_exists(prewrite->view, prewrite->key, version->commit_ts - 1, ret_exists);
}

/* What one version says about going on; *ret_is_passed: look at the next older one. */
static int check_version(struct prewrite *prewrite, const struct mvcc_version *version,
                         bool *ret_is_passed)
{
    const struct txn_prewrite *command = prewrite->command;
    const struct txn_mutation *mutation = prewrite->mutation;
    *ret_is_passed = false;
    if (version->commit_ts == command->start_ts &&
        (version->write.type == TXN_OP_ROLLBACK || version->write.has_overlapped_rollback))
        return refuse_conflict(prewrite, version, TXN_CONFLICT_SELF_ROLLED_BACK);
    if (!is_pessimistic(command)) {
        if (version->commit_ts > command->start_ts)
            return refuse_conflict(prewrite, version, TXN_CONFLICT_OPTIMISTIC);
    } else {
        if (mutation->pessimistic_action == TXN_DO_CONSTRAINT_CHECK &&
            version->commit_ts > command->start_ts)
            return refuse_conflict(prewrite, version, TXN_CONFLICT_LAZY_UNIQUENESS_CHECK);
        if (version->commit_ts > command->for_update_ts) {
            *ret_is_passed = version->write.type == TXN_OP_ROLLBACK;
            return *ret_is_passed ? 0 : refuse_without_pessimistic_lock(prewrite);
        }
    }
    if (!must_not_exist(mutation))
        return 0;
    bool exists;
    int error = version_exists(prewrite, version, &exists);
    if (error == 0 && exists)
        prewrite->failure =
            (struct txn_key_error){.kind = TXN_ERROR_ALREADY_EXISTS, .key = mutation->key};
    return error;
}

static bool asserts(const struct prewrite *prewrite)
{
    return prewrite->mutation->assertion != TXN_ASSERT_NONE &&
           prewrite->command->assertion_level != TXN_ASSERT_OFF;
}

/* *ret_found: a version is there, in `version`; not told when nobody asks for it. */
static int check_versions(struct prewrite *prewrite, struct mvcc_version *version, bool *ret_found)
{
    uint64_t ts = TXN_TS_MAX;
    bool is_passed = true;
    *ret_found = false;
    if (!must_not_exist(prewrite->mutation) && !asserts(prewrite)) {
        uint64_t newest_ts; /* of most keys it is older than the transaction, whatever it says */
        int error = newest_since_start(prewrite, &newest_ts);
        if (error != 0 || newest_ts == 0)
            return error;
    }
    while (is_passed) {
        int error = mvcc_newest(prewrite->view, prewrite->key, ts, version);
        if (error == KVS_ERR_NOT_FOUND)
            return 0;
        if (error == 0)
            error = check_version(prewrite, version, &is_passed);
        if (error != 0)
            return error;
        ts = version->commit_ts - 1; /* passed: it is above for_update_ts, and so above 0 */
    }
    *ret_found = true;
    return 0;
}

/* Of keys whose versions nobody has looked at: only what is asked strictly, and what was to be
 * under a lock that is gone. */
static bool assertion_is_due(const struct prewrite *prewrite, bool was_read)
{
    return asserts(prewrite) && prewrite->assertion.kind == TXN_ERROR_NONE &&
           (was_read || prewrite->plan->is_amended ||
            prewrite->command->assertion_level == TXN_ASSERT_STRICT);
}

/* The key is not as the client believes. It may be so because the transaction is over already,
 * which tells more: the client takes a failed assertion for a fault of its own. */
static int fail_assertion(struct prewrite *prewrite, bool was_checked, bool found,
                          const struct mvcc_version *version)
{
    struct mvcc_version newest;
    bool is_there;
    int error = was_checked ? 0 : check_versions(prewrite, &newest, &is_there);
    if (error != 0 || is_refused(prewrite) || prewrite->was_committed)
        return error;
    prewrite->assertion = (struct txn_key_error){
        .kind = TXN_ERROR_ASSERTION_FAILED,
        .assertion = prewrite->mutation->assertion,
        .key = prewrite->mutation->key,
        .start_ts = prewrite->command->start_ts,
        .existing_start_ts = found ? version->write.start_ts : 0,
        .existing_commit_ts = found ? version->commit_ts : 0,
    };
    return 0;
}

/* What the client believes about the key. A failure counts only when nothing else is wrong. */
static int check_assertion(struct prewrite *prewrite, bool was_read, bool found,
                           struct mvcc_version *version)
{
    if (!assertion_is_due(prewrite, was_read))
        return 0;
    int error = 0;
    if (!was_read ||
        (found && version->write.type != TXN_OP_PUT && version->write.type != TXN_OP_DELETE)) {
        error = mvcc_visible(prewrite->view, prewrite->key, TXN_TS_MAX, version);
        found = error == 0;
        if (error == KVS_ERR_NOT_FOUND)
            error = 0;
    }
    bool exists = found && version->write.type == TXN_OP_PUT;
    if (error != 0 || exists == (prewrite->mutation->assertion == TXN_ASSERT_EXIST))
        return error;
    return fail_assertion(prewrite, was_read || prewrite->plan->is_amended, found, version);
}

/* The lock, if there is one, allows the write: what else is to be looked at? */
static int check_committed(struct prewrite *prewrite)
{
    struct mvcc_version version;
    bool found = false;
    bool was_read = !skips_version_check(prewrite);
    int error = 0;
    if (was_read)
        error = check_versions(prewrite, &version, &found);
    else if (!prewrite->plan->had_lock)
        error = check_late(prewrite);
    if (error == 0 && !is_refused(prewrite))
        error = check_assertion(prewrite, was_read, found, &version);
    return error;
}

static int check_key(struct prewrite *prewrite)
{
    struct txn_prewrite *command = prewrite->command;
    struct plan *plan = prewrite->plan;
    *plan = (struct plan){.kind = PLAN_WRITE,
                          .ttl_ms = command->lock_ttl_ms,
                          .min_commit_ts = command->min_commit_ts};
    record_key_set(prewrite->key, prewrite->mutation->key);
    struct lock_record lock;
    uint32_t locked_before = prewrite->locked_count;
    int error = mvcc_lock(prewrite->view, record_key_slice(prewrite->key), &lock);
    if (error == 0)
        error = check_lock(prewrite, &lock);
    else if (error == KVS_ERR_NOT_FOUND)
        error = is_pessimistic(command) &&
                        prewrite->mutation->pessimistic_action == TXN_DO_PESSIMISTIC_CHECK
                    ? amend_lock(prewrite)
                    : 0;
    if (error != 0 || is_refused(prewrite) || plan->kind == PLAN_DONE ||
        prewrite->locked_count > locked_before)
        return error;
    if (!plan->had_flush)
        error = check_committed(prewrite);
    if (prewrite->mutation->op == TXN_OP_CHECK_NOT_EXISTS)
        plan->kind = PLAN_NOTHING;
    return error;
}

/* --- step 2: a timestamp of its own choice ---------------------------------------------------- */

static uint8_t lock_type_of(const struct txn_mutation *mutation)
{
    switch (mutation->op) {
    case TXN_OP_INSERT:
        return TXN_OP_PUT;
    case TXN_OP_SHARED_LOCK:
        return TXN_OP_LOCK;
    default:
        return mutation->op;
    }
}

static bool is_inline(const struct txn_mutation *mutation)
{
    return lock_type_of(mutation) == TXN_OP_PUT && mutation->value.size <= RECORD_VALUE_INLINE_MAX;
}

static struct lock_record lock_of(const struct prewrite *prewrite, uint32_t i, bool is_async)
{
    const struct txn_prewrite *command = prewrite->command;
    const struct txn_mutation *mutation = &command->mutations[i];
    struct lock_record lock = {
        .type = lock_type_of(mutation),
        .use_async_commit = is_async,
        .has_value = is_inline(mutation),
        .generation = command->generation,
        .primary = command->primary,
        .start_ts = command->start_ts,
        .ttl_ms = prewrite->plans[i].ttl_ms,
        .for_update_ts = command->for_update_ts,
        .txn_size = command->txn_size,
        .min_commit_ts = prewrite->plans[i].min_commit_ts,
        .shared = prewrite->plans[i].shared,
    };
    if (lock.has_value)
        lock.value = mutation->value;
    if (is_async && slice_equal(mutation->key, command->primary)) {
        lock.secondaries_count = command->secondaries_count;
        lock.secondaries = command->secondaries;
    }
    return lock;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The locks that readers see until the engine shows them, and the least timestamps they may commit
 * at. *ret_highest: of all keys; 0: the request has to fall back to two phases. */
static int choose_timestamps(struct prewrite *prewrite, uint64_t *ret_highest)
{
    struct txn_job *job = prewrite->job;
    const struct txn_prewrite *command = prewrite->command;
    uint64_t least = max_u64(command->start_ts, command->for_update_ts) + 1;
    uint64_t highest = 0;
    *ret_highest = 0;
    job->pending = arena_alloc(job->scratch, command->mutations_count * sizeof *job->pending);
    if (job->pending == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < command->mutations_count; i++) {
        struct plan *plan = &prewrite->plans[i];
        if (plan->kind == PLAN_DONE) {
            if (plan->min_commit_ts == 0 || command->try_one_pc) {
                job->pending_count = 0;
                return 0; /* it fell back before */
            }
            highest = max_u64(highest, plan->min_commit_ts);
        }
        if (plan->kind == PLAN_NOTHING) /* to answer 0 would be to fall back, without any lock */
            highest = max_u64(highest, max_u64(plan->min_commit_ts, least));
        if (plan->kind != PLAN_WRITE)
            continue;
        plan->min_commit_ts = max_u64(plan->min_commit_ts, least);
        job->pending[job->pending_count++] = (struct pending_lock){
            .key = command->mutations[i].key,
            .lock = lock_of(prewrite, i, command->use_async_commit && !command->try_one_pc)};
    }
    pending_publish(&job->node->pending, job->pending, job->pending_count);
    uint32_t at = 0;
    for (uint32_t i = 0; i < command->mutations_count; i++) {
        if (prewrite->plans[i].kind != PLAN_WRITE)
            continue;
        uint64_t chosen = job->pending[at++].lock.min_commit_ts;
        prewrite->plans[i].min_commit_ts = chosen;
        highest = max_u64(highest, chosen);
    }
    if (command->max_commit_ts != 0 && highest > command->max_commit_ts)
        return 0;
    *ret_highest = highest;
    return 0;
}

/* As if it had not been asked for. */
static void fall_back(struct prewrite *prewrite)
{
    struct txn_job *job = prewrite->job;
    pending_withdraw(&job->node->pending, job->pending, job->pending_count);
    job->pending_count = 0;
}

/* --- step 3: what is written ------------------------------------------------------------------ */

static int stage_value(struct prewrite *prewrite, uint32_t i)
{
    const struct txn_mutation *mutation = &prewrite->command->mutations[i];
    if (lock_type_of(mutation) != TXN_OP_PUT || is_inline(mutation))
        return prewrite->plans[i].had_data
                   ? job_remove_data(prewrite->job, prewrite->key, prewrite->command->start_ts)
                   : 0;
    return job_put_data(prewrite->job, prewrite->key, prewrite->command->start_ts, mutation->value);
}

static int stage_version(struct prewrite *prewrite, uint32_t i, uint64_t commit_ts)
{
    const struct txn_mutation *mutation = &prewrite->command->mutations[i];
    const struct plan *plan = &prewrite->plans[i];
    struct write_record write = {.type = lock_type_of(mutation),
                                 .start_ts = prewrite->command->start_ts,
                                 .has_value = is_inline(mutation)};
    if (write.has_value)
        write.value = mutation->value;
    int error = 0;
    /* Else nothing stands above start_ts: that was checked. */
    if (is_pessimistic(prewrite->command) || prewrite->command->skip_constraint_check)
        error = mvcc_has_rollback_at(prewrite->view, prewrite->key, commit_ts,
                                     &write.has_overlapped_rollback);
    if (error == 0)
        error = job_put_write(prewrite->job, prewrite->key, commit_ts, &write);
    if (error == 0 && plan->had_lock) {
        const struct lock_record lock = lock_of(prewrite, i, false);
        error = job_remove_lock(prewrite->job, prewrite->key, mutation->key, &lock);
    }
    return error;
}

static int stage_all(struct prewrite *prewrite, bool is_async, uint64_t one_pc_commit_ts)
{
    struct txn_prewrite *command = prewrite->command;
    int error = 0;
    for (uint32_t i = 0; i < command->mutations_count && error == 0; i++) {
        if (prewrite->plans[i].kind != PLAN_WRITE)
            continue;
        record_key_set(prewrite->key, command->mutations[i].key);
        error = stage_value(prewrite, i);
        if (error == 0 && one_pc_commit_ts != 0) {
            error = stage_version(prewrite, i, one_pc_commit_ts);
        } else if (error == 0) {
            struct lock_record lock = lock_of(prewrite, i, is_async);
            error = job_put_lock(prewrite->job, prewrite->key, &lock);
        }
    }
    return error;
}

/* --- the rule --------------------------------------------------------------------------------- */

static void refuse(struct prewrite *prewrite, const struct txn_key_error *failure)
{
    struct txn_prewrite *command = prewrite->command;
    command->errors[0] = *failure;
    command->errors_count = 1;
    if (failure->kind == TXN_ERROR_WRITE_CONFLICT)
        /* relaxed: a figure */
        atomic_fetch_add_explicit(&prewrite->job->node->stat_conflicts, 1, memory_order_relaxed);
}

/* All keys are checked. True: nothing is to be written. */
static bool is_settled(struct prewrite *prewrite)
{
    struct txn_prewrite *command = prewrite->command;
    if (prewrite->was_committed) {
        if (command->try_one_pc)
            command->one_pc_commit_ts = prewrite->committed_ts;
        if (command->use_async_commit)
            command->min_commit_ts_found = prewrite->committed_ts;
        return true;
    }
    if (is_refused(prewrite))
        refuse(prewrite, &prewrite->failure);
    else if (prewrite->locked_count > 0)
        command->errors_count = prewrite->locked_count;
    else if (prewrite->assertion.kind != TXN_ERROR_NONE)
        refuse(prewrite, &prewrite->assertion);
    return command->errors_count > 0;
}

static int write_out(struct prewrite *prewrite)
{
    struct txn_prewrite *command = prewrite->command;
    uint64_t *least = arena_alloc(prewrite->job->scratch, command->mutations_count * sizeof *least);
    if (least == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < command->mutations_count; i++)
        least[i] = prewrite->plans[i].min_commit_ts;
    uint64_t highest = 0;
    int error = choose_timestamps(prewrite, &highest);
    if (error != 0)
        return error;
    if (highest == 0) {
        fall_back(prewrite);
        for (uint32_t i = 0; i < command->mutations_count; i++)
            prewrite->plans[i].min_commit_ts = least[i];
        return stage_all(prewrite, false, 0);
    }
    command->one_pc_commit_ts = command->try_one_pc ? highest : 0;
    command->min_commit_ts_found = command->use_async_commit ? highest : 0;
    return stage_all(prewrite, true, command->one_pc_commit_ts);
}

static int prewrite_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_prewrite *command = (struct txn_prewrite *)(void *)job->command;
    struct record_key key;
    struct prewrite prewrite = {.job = job, .command = command, .view = view, .key = &key};
    command->errors_count = 0;
    command->min_commit_ts_found = 0;
    command->one_pc_commit_ts = 0;
    if (node_is_past(job->node, command->start_ts))
        return KVS_ERR_TXN_TOO_OLD; /* a conflict may have been removed */
    uint32_t count = command->mutations_count > 0 ? command->mutations_count : 1;
    command->errors = arena_alloc(&command->base.arena, count * sizeof *command->errors);
    prewrite.plans = arena_alloc(job->scratch, count * sizeof *prewrite.plans);
    if (command->errors == NULL || prewrite.plans == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < command->mutations_count; i++) {
        prewrite.mutation = &command->mutations[i];
        prewrite.plan = &prewrite.plans[i];
        int error = check_key(&prewrite);
        if (error != 0)
            return error;
        if (prewrite.was_committed || is_refused(&prewrite))
            break;
    }
    if (is_settled(&prewrite))
        return 0;
    if (command->use_async_commit || command->try_one_pc)
        return write_out(&prewrite);
    return stage_all(&prewrite, false, 0);
}

const struct txn_rule rule_prewrite = {.check = prewrite_check, .run = prewrite_run};
