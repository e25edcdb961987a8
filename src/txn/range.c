/*
 * txn/range.c: the rules over ranges, in steps of JOB_STEP_KEYS_MAX keys.
 *
 * A step finds keys on the pool, without latches; then it latches these, looks again, and writes
 * one batch. So a region of a million locks holds up nobody for long.
 */
#include "txn/job.h"

#include <assert.h>
#include <kvs/error.h>
#include <stdlib.h>

#define WALK_CUT 2 /* above ENGINE_WOULD_BLOCK: never leaves this file */
#define WALK_FULL 3
#define STEP_WALK_MAX 65536u  /* records that one view is kept for */
#define GC_VERSIONS_MAX 4096u /* that one step removes */
#define GC_BYTES_MAX (4u * 1024 * 1024)
#define LEAVE_BYTES_MAX (4u * 1024 * 1024) /* shared locks that one step writes anew, about */

/* --- finding keys ----------------------------------------------------------------------------- */

struct finder {
    struct txn_job *job;
    kvs_slice *keys;
    uint32_t count;
    uint32_t walked;
    bool (*wants_lock)(struct txn_job *job, const struct lock_record *lock);
    struct record_key last; /* the encoded key the walk is at */
};

/* Adds the user's key of an encoded one. */
static int finder_add(struct finder *finder, kvs_slice encoded)
{
    uint8_t *bytes = arena_alloc(finder->job->scratch, encoded.size);
    size_t size;
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    if (memcomparable_decode(encoded, bytes, &size) != 0)
        return KVS_ERR_CORRUPTION;
    finder->keys[finder->count++] = slice_make(bytes, size);
    return 0;
}

static int finder_each_lock(void *arg, kvs_slice key, kvs_slice value)
{
    struct finder *finder = arg;
    struct lock_record lock;
    if (key.size > RECORD_KEY_ENCODED_MAX || lock_record_decode(value, &lock) != 0)
        return KVS_ERR_CORRUPTION;
    int error = finder->wants_lock(finder->job, &lock) ? finder_add(finder, key) : 0;
    if (error == 0 && (finder->count == JOB_STEP_KEYS_MAX || ++finder->walked == STEP_WALK_MAX)) {
        record_key_set_encoded(&finder->last, key);
        error = WALK_CUT;
    }
    return error;
}

/* Remembers where the next step begins: behind everything of `last`. */
static int job_set_next(struct txn_job *job, const struct record_key *last)
{
    if (job->next == NULL)
        job->next = arena_alloc(&job->command->arena, sizeof *job->next);
    if (job->next == NULL)
        return KVS_ERR_NO_MEMORY;
    memcpy(job->next->bytes, last->bytes, last->size);
    memset(job->next->bytes + last->size, 0xff, RECORD_TS_SIZE);
    job->next->size = last->size + RECORD_TS_SIZE;
    return 0;
}

static int find(struct txn_job *job, struct engine_view *view, const struct txn_range *range,
                unsigned family, engine_scan_fn *each, struct finder *finder)
{
    finder->job = job;
    finder->keys = arena_alloc(job->scratch, JOB_STEP_KEYS_MAX * sizeof *finder->keys);
    if (finder->keys == NULL)
        return KVS_ERR_NO_MEMORY;
    struct engine_range walk = {.family = (uint8_t)family,
                                .start =
                                    job->next != NULL ? record_key_slice(job->next) : range->start,
                                .end = range->end};
    int error = engine_scan(view, &walk, each, finder);
    job->is_last_step = error != WALK_CUT;
    if (error == WALK_CUT)
        error = job_set_next(job, &finder->last);
    job->keys = finder->keys;
    job->keys_count = finder->count;
    return error;
}

/* What is left of locks that many share is long: the step ends with this key, when it is enough for
 * one batch. */
static int cut_step(struct txn_job *job, uint32_t i)
{
    struct record_key key;
    if (job->mutations_bytes < LEAVE_BYTES_MAX || i + 1 == job->keys_count)
        return 0;
    record_key_set(&key, job->keys[i]);
    job->keys_count = i + 1;
    job->is_last_step = false;
    return job_set_next(job, &key);
}

static int range_check(struct txn_job *job)
{
    (void)job;
    return 0;
}

/* --- resolve ---------------------------------------------------------------------------------- */

static const struct txn_status *status_of(const struct txn_resolve_lock *command, uint64_t start_ts)
{
    for (uint32_t i = 0; i < command->txns_count; i++) {
        if (command->txns[i].start_ts == start_ts)
            return &command->txns[i];
    }
    return NULL;
}

static int resolve_check(struct txn_job *job)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    command->error = (struct txn_key_error){0};
    if (command->keys_count > 0 && command->txns_count != 1)
        return KVS_ERR_INVALID_ARGUMENT;
    for (uint32_t i = 0; i < command->txns_count; i++) {
        const struct txn_status *status = &command->txns[i];
        if (status->commit_ts != 0 && status->commit_ts <= status->start_ts)
            txn_error_abort(&command->error, (kvs_slice){0},
                            "invalid timestamps: a transaction commits after its start");
    }
    return job_keys_set(job, command->keys, command->keys_count);
}

static bool resolve_wants(struct txn_job *job, const struct lock_record *lock)
{
    const struct txn_resolve_lock *command = (const struct txn_resolve_lock *)(void *)job->command;
    struct lock_record holder;
    size_t at = 0;
    while (lock_record_next(lock, &at, &holder)) {
        if (status_of(command, holder.start_ts) != NULL)
            return true;
    }
    return false;
}

static int resolve_find(struct txn_job *job, struct engine_view *view)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    struct finder finder = {.wants_lock = resolve_wants};
    if (command->error.kind != TXN_ERROR_NONE)
        return 0;
    return find(job, view, &command->range, ENGINE_FAMILY_TXN_LOCK, finder_each_lock, &finder);
}

/* It was to be rolled back. */
static void check_outcome(struct txn_resolve_lock *command, kvs_slice key, uint64_t start_ts,
                          const struct mvcc_outcome *outcome)
{
    if (outcome->fate != MVCC_COMMITTED)
        return;
    txn_error_abort(&command->error, key,
                    "the transaction has committed: it cannot be rolled back");
    command->error.start_ts = start_ts;
    command->error.commit_ts = outcome->commit_ts;
}

static int resolve_key(struct txn_job *job, struct engine_view *view, kvs_slice key,
                       const struct txn_status *status)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    if (status->commit_ts != 0)
        return commit_key(job, view, key, status->start_ts, status->commit_ts, &command->error);
    struct mvcc_outcome outcome;
    int error = rollback_key(job, view, key, status->start_ts, false, &outcome);
    if (error == 0)
        check_outcome(command, key, status->start_ts, &outcome);
    return error;
}

static int resolve_held(struct txn_job *job, struct engine_view *view, struct record_key *key,
                        kvs_slice user_key, const struct lock_record *lock, uint64_t commit_ts)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    if (commit_ts != 0)
        return commit_held(job, view, key, user_key, lock, commit_ts, &command->error);
    struct mvcc_outcome outcome = {.fate = MVCC_UNKNOWN};
    int error = rollback_held(job, view, key, user_key, lock, false, &outcome);
    if (error == 0)
        check_outcome(command, user_key, lock->start_ts, &outcome);
    return error;
}

static void resolve_refuse(struct txn_job *job)
{
    job->mutations_count = 0;
    job->unlocked_count = 0;
    job->is_last_step = true;
}

static int resolve_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    int error = 0;
    for (uint32_t i = 0; i < job->keys_count && error == 0; i++) {
        if (command->error.kind != TXN_ERROR_NONE)
            break;
        error = resolve_key(job, view, job->keys[i], &command->txns[0]);
    }
    if (command->error.kind != TXN_ERROR_NONE)
        resolve_refuse(job);
    return error;
}

/* The lock may have changed since it was found. */
static int resolve_found(struct txn_job *job, struct engine_view *view, kvs_slice user_key)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    struct record_key key;
    record_key_set(&key, user_key);
    struct lock_record lock;
    struct lock_record holder;
    size_t at = 0;
    int error = mvcc_lock(view, record_key_slice(&key), &lock);
    while (error == 0 && command->error.kind == TXN_ERROR_NONE &&
           lock_record_next(&lock, &at, &holder)) {
        const struct txn_status *status = status_of(command, holder.start_ts);
        if (status != NULL)
            error = resolve_held(job, view, &key, user_key, &holder, status->commit_ts);
    }
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}

static int resolve_range_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_resolve_lock *command = (struct txn_resolve_lock *)(void *)job->command;
    for (uint32_t i = 0; i < job->keys_count; i++) {
        int error = resolve_found(job, view, job->keys[i]);
        if (error != 0)
            return error;
        if (command->error.kind != TXN_ERROR_NONE) {
            resolve_refuse(job);
            return txn_slice_copy(&command->base.arena, command->error.key, &command->error.key);
        }
        error = cut_step(job, i);
        if (error != 0)
            return error;
    }
    return 0;
}

const struct txn_rule rule_resolve_lock = {.check = resolve_check, .run = resolve_run};
const struct txn_rule rule_resolve_lock_range = {
    .check = resolve_check, .run = resolve_range_run, .find = resolve_find};

/* --- pessimistic rollback --------------------------------------------------------------------- */

static bool pessimistic_rollback_wants(struct txn_job *job, const struct lock_record *lock)
{
    const struct txn_pessimistic_rollback *command =
        (const struct txn_pessimistic_rollback *)(const void *)job->command;
    struct lock_record own;
    return lock_record_find(lock, command->start_ts, &own) && own.type == TXN_OP_PESSIMISTIC_LOCK &&
           own.for_update_ts <= command->for_update_ts;
}

static int pessimistic_rollback_find(struct txn_job *job, struct engine_view *view)
{
    struct txn_pessimistic_rollback *command =
        (struct txn_pessimistic_rollback *)(void *)job->command;
    struct finder finder = {.wants_lock = pessimistic_rollback_wants};
    return find(job, view, &command->range, ENGINE_FAMILY_TXN_LOCK, finder_each_lock, &finder);
}

static int pessimistic_rollback_range_run(struct txn_job *job, struct engine_view *view)
{
    struct txn_pessimistic_rollback *command =
        (struct txn_pessimistic_rollback *)(void *)job->command;
    int error = 0;
    for (uint32_t i = 0; i < job->keys_count && error == 0; i++) {
        error = pessimistic_rollback_key(job, view, job->keys[i], command->start_ts,
                                         command->for_update_ts);
        if (error == 0)
            error = cut_step(job, i);
    }
    return error;
}

const struct txn_rule rule_pessimistic_rollback_range = {
    .check = range_check, .run = pessimistic_rollback_range_run, .find = pessimistic_rollback_find};

/* --- delete range ----------------------------------------------------------------------------- */

/* Under all latches: a command that has read a record of the range must not write what follows
 * from it afterwards. */
static int delete_range_check(struct txn_job *job)
{
    job->latches_all = true;
    return 0;
}

static int delete_range_run(struct txn_job *job, struct engine_view *view)
{
    (void)view;
    const struct txn_range *range = &((struct txn_delete_range *)(void *)job->command)->range;
    kvs_mutation *mutations = arena_zalloc(job->scratch, 3 * sizeof *mutations);
    if (mutations == NULL)
        return KVS_ERR_NO_MEMORY;
    for (unsigned i = 0; i < 3; i++)
        mutations[i] = (kvs_mutation){.kind = KVS_MUTATION_REMOVE_RANGE,
                                      .family = (uint8_t)(ENGINE_FAMILY_TXN_DATA + i),
                                      .key = range->start,
                                      .value = range->end};
    job->mutations = mutations;
    job->mutations_count = 3;
    job->mutations_room = 3;
    job->unlocks_all = true;
    return 0;
}

const struct txn_rule rule_delete_range = {.check = delete_range_check, .run = delete_range_run};

/* --- garbage collection ----------------------------------------------------------------------- */

/* Walks over the versions of one key, newest first, and tells which nobody can read. */
struct gc_walk {
    struct txn_job *job;
    struct record_key *key;
    uint64_t safe_point;
    bool is_decided; /* the newest PUT or DELETE at or below the safe point was met */
    bool has_tombstone;
    uint64_t tombstone_ts;
    uint32_t removed;
};

/* Enough for one batch. */
static bool gc_is_full(const struct txn_job *job, uint32_t removed)
{
    return removed >= GC_VERSIONS_MAX || job->mutations_bytes >= GC_BYTES_MAX;
}

static int gc_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct gc_walk *walk = arg;
    kvs_slice encoded;
    uint64_t commit_ts;
    struct write_record write;
    if (!record_key_split(key, &encoded, &commit_ts))
        return KVS_ERR_CORRUPTION;
    if (!slice_equal(encoded, record_key_slice(walk->key)))
        return WALK_CUT;
    if (write_record_decode(value, &write) != 0)
        return KVS_ERR_CORRUPTION;
    bool is_data = write.type == TXN_OP_PUT || write.type == TXN_OP_DELETE;
    if (is_data && !walk->is_decided) {
        walk->is_decided = true;
        walk->has_tombstone = write.type == TXN_OP_DELETE;
        walk->tombstone_ts = commit_ts;
        return 0; /* a PUT stays; a DELETE goes when nothing older is left */
    }
    int error = job_remove_write(walk->job, walk->key, commit_ts);
    if (error == 0 && write.type == TXN_OP_PUT && !write.has_value)
        error = job_remove_data(walk->job, walk->key, write.start_ts);
    walk->removed++;
    return error == 0 && gc_is_full(walk->job, walk->removed) ? WALK_FULL : error;
}

/* *ret_is_done: the key needs no further step. */
static int gc_key(struct txn_job *job, struct engine_view *view, kvs_slice user_key,
                  uint32_t *removed, bool *ret_is_done)
{
    struct txn_gc *command = (struct txn_gc *)(void *)job->command;
    struct record_key key;
    struct record_key from;
    record_key_set(&key, user_key);
    record_key_set(&from, user_key);
    struct gc_walk walk = {.job = job, .key = &key, .safe_point = command->safe_point};
    struct engine_range range = {.family = ENGINE_FAMILY_TXN_WRITE,
                                 .start = record_key_at(&from, command->safe_point)};
    int error = engine_scan(view, &range, gc_each, &walk);
    *ret_is_done = error != WALK_FULL;
    if (error == WALK_CUT || error == WALK_FULL)
        error = 0;
    if (error == 0 && *ret_is_done && walk.has_tombstone) {
        error = job_remove_write(job, &key, walk.tombstone_ts);
        walk.removed++;
    }
    *removed += walk.removed;
    return error;
}

/* Keys that have something to remove: more than one version at or below the safe point, or one that
 * is no PUT. */
struct gc_finder {
    struct finder finder;
    uint64_t safe_point;
    uint32_t versions; /* of the last key, at or below the safe point */
    bool is_added;
};

static int gc_find_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct gc_finder *gc = arg;
    struct finder *finder = &gc->finder;
    kvs_slice encoded;
    uint64_t commit_ts;
    struct write_record write;
    if (!record_key_split(key, &encoded, &commit_ts) || write_record_decode(value, &write) != 0)
        return KVS_ERR_CORRUPTION;
    if (!slice_equal(encoded, record_key_slice(&finder->last))) {
        if (finder->count == JOB_STEP_KEYS_MAX || finder->walked >= STEP_WALK_MAX)
            return WALK_CUT;
        record_key_set_encoded(&finder->last, encoded);
        gc->versions = 0;
        gc->is_added = false;
    }
    finder->walked++;
    if (commit_ts > gc->safe_point || gc->is_added)
        return 0;
    gc->versions++;
    if (gc->versions == 1 && write.type == TXN_OP_PUT)
        return 0;
    gc->is_added = true;
    return finder_add(finder, encoded);
}

static int gc_check(struct txn_job *job)
{
    uint64_t safe_point = ((struct txn_gc *)(void *)job->command)->safe_point;
    _Atomic uint64_t *raised = &job->node->safe_point;
    /* release: see node_is_past. */
    uint64_t now = atomic_load_explicit(raised, memory_order_relaxed);
    while (now < safe_point &&
           !atomic_compare_exchange_weak_explicit(raised, &now, safe_point, memory_order_release,
                                                  memory_order_relaxed)) {
    }
    return 0;
}

static int gc_find(struct txn_job *job, struct engine_view *view)
{
    struct txn_gc *command = (struct txn_gc *)(void *)job->command;
    struct gc_finder gc = {.safe_point = command->safe_point};
    return find(job, view, &command->range, ENGINE_FAMILY_TXN_WRITE, gc_find_each, &gc.finder);
}

static int gc_run(struct txn_job *job, struct engine_view *view)
{
    uint32_t removed = 0;
    int error = 0;
    for (uint32_t i = 0; i < job->keys_count && error == 0; i++) {
        bool is_done;
        error = gc_key(job, view, job->keys[i], &removed, &is_done);
        if (error != 0 || (is_done && !gc_is_full(job, removed)))
            continue;
        struct record_key key;
        record_key_set(&key, job->keys[i]);
        job->is_last_step = false;
        error = job_set_next(job, &key);
        if (error == 0 && !is_done)
            job->next->size = key.size; /* the same key again */
        break;
    }
    job->removed_versions = removed;
    return error;
}

const struct txn_rule rule_gc = {.check = gc_check, .run = gc_run, .find = gc_find};
