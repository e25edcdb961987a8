/* txn/stage.c: what a rule stages for the engine, and the results it gives; see job.h. */
#include "txn/job.h"

#include <kvs/error.h>

#define MUTATIONS_MAX (4u * KVS_BATCH_COUNT_MAX)
#define MUTATION_OVERHEAD 32u
/* No more locks with lists of keys are told in one answer: anybody may write long ones, and ask for
 * them often. */
#define LISTS_SIZE_MAX (128u * 1024 * 1024)

/* --- mutations -------------------------------------------------------------------------------- */

static kvs_mutation *mutation_add(struct txn_job *job)
{
    if (job->mutations_count == job->mutations_room) {
        uint32_t room = job->mutations_room > 0 ? job->mutations_room * 2 : 4;
        kvs_mutation *mutations = arena_alloc(job->scratch, room * sizeof *mutations);
        if (mutations == NULL)
            return NULL;
        if (job->mutations_count > 0)
            memcpy(mutations, job->mutations, job->mutations_count * sizeof *mutations);
        job->mutations = mutations;
        job->mutations_room = room;
    }
    return &job->mutations[job->mutations_count++];
}

static int stage(struct txn_job *job, enum kvs_mutation_kind kind, unsigned family, kvs_slice key,
                 kvs_slice value)
{
    job->mutations_bytes += key.size + value.size + MUTATION_OVERHEAD;
    if (job->mutations_bytes > 2 * (size_t)KVS_BATCH_SIZE_MAX ||
        job->mutations_count == MUTATIONS_MAX)
        return KVS_ERR_TOO_LARGE;
    kvs_slice copy;
    int error = txn_slice_copy(job->scratch, key, &copy);
    kvs_mutation *mutation = error == 0 ? mutation_add(job) : NULL;
    if (mutation == NULL)
        return KVS_ERR_NO_MEMORY;
    *mutation = (kvs_mutation){
        .kind = (uint8_t)kind, .family = (uint8_t)family, .key = copy, .value = value};
    return 0;
}

int job_set(struct txn_job *job, unsigned family, kvs_slice key, kvs_slice value)
{
    return stage(job, KVS_MUTATION_SET, family, key, value);
}

int job_remove(struct txn_job *job, unsigned family, kvs_slice key)
{
    return stage(job, KVS_MUTATION_REMOVE, family, key, (kvs_slice){0});
}

int job_put_shared_lock(struct txn_job *job, const struct record_key *key,
                        const struct lock_record *lock)
{
    kvs_slice shared;
    int error = shared_record_with(job->scratch, lock->shared, lock, &shared);
    return error == 0 ? job_set(job, ENGINE_FAMILY_TXN_LOCK, record_key_slice(key), shared) : error;
}

int job_put_lock(struct txn_job *job, const struct record_key *key, const struct lock_record *lock)
{
    if (lock->shared.size > 0)
        return job_put_shared_lock(job, key, lock);
    size_t size = lock_record_size(lock);
    uint8_t *bytes = arena_alloc(job->scratch, size);
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    lock_record_encode(lock, bytes);
    return job_set(job, ENGINE_FAMILY_TXN_LOCK, record_key_slice(key), slice_make(bytes, size));
}

int job_put_write(struct txn_job *job, struct record_key *key, uint64_t commit_ts,
                  const struct write_record *write)
{
    size_t size = write_record_size(write);
    uint8_t *bytes = arena_alloc(job->scratch, size);
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    write_record_encode(write, bytes);
    newest_raise(&job->node->newest, record_key_slice(key), commit_ts);
    return job_set(job, ENGINE_FAMILY_TXN_WRITE, record_key_at(key, commit_ts),
                   slice_make(bytes, size));
}

int job_remove_write(struct txn_job *job, struct record_key *key, uint64_t commit_ts)
{
    return job_remove(job, ENGINE_FAMILY_TXN_WRITE, record_key_at(key, commit_ts));
}

int job_put_data(struct txn_job *job, struct record_key *key, uint64_t start_ts, kvs_slice value)
{
    return job_set(job, ENGINE_FAMILY_TXN_DATA, record_key_at(key, start_ts), value);
}

int job_remove_data(struct txn_job *job, struct record_key *key, uint64_t start_ts)
{
    return job_remove(job, ENGINE_FAMILY_TXN_DATA, record_key_at(key, start_ts));
}

/* Several may leave a key by one batch, one right after the other: each its own copy of the record
 * would be much. So the first one's is for all. */
static int remove_holder(struct txn_job *job, const struct record_key *key,
                         const struct lock_record *lock)
{
    kvs_mutation *staged = NULL;
    kvs_slice left;
    if (job->left_at < job->mutations_count)
        staged = &job->mutations[job->left_at];
    if (staged == NULL || !slice_equal(staged->key, record_key_slice(key))) {
        int error = txn_slice_copy(job->scratch, lock->shared, &left);
        if (error == 0)
            error = job_set(job, ENGINE_FAMILY_TXN_LOCK, record_key_slice(key), left);
        if (error != 0)
            return error;
        job->left_at = job->mutations_count - 1;
        staged = &job->mutations[job->left_at];
    }
    if (staged->kind != KVS_MUTATION_SET)
        return 0;
    left = shared_record_without((uint8_t *)(uintptr_t)staged->value.data, staged->value.size,
                                 lock->start_ts);
    staged->kind = left.size > 0 ? KVS_MUTATION_SET : KVS_MUTATION_REMOVE;
    staged->value = left;
    return 0;
}

int job_remove_lock(struct txn_job *job, const struct record_key *key, kvs_slice user_key,
                    const struct lock_record *lock)
{
    if (job->unlocked_count == job->unlocked_room) {
        uint32_t room = job->unlocked_room > 0 ? job->unlocked_room * 2 : 4;
        kvs_slice *unlocked = arena_alloc(job->scratch, room * sizeof *unlocked);
        if (unlocked == NULL)
            return KVS_ERR_NO_MEMORY;
        if (job->unlocked_count > 0)
            memcpy(unlocked, job->unlocked, job->unlocked_count * sizeof *unlocked);
        job->unlocked = unlocked;
        job->unlocked_room = room;
    }
    job->unlocked[job->unlocked_count++] = user_key;
    if (lock->shared.size > 0)
        return remove_holder(job, key, lock);
    return job_remove(job, ENGINE_FAMILY_TXN_LOCK, record_key_slice(key));
}

int job_put_rollback(struct txn_job *job, struct record_key *key, uint64_t start_ts,
                     const struct mvcc_outcome *outcome, bool is_protected)
{
    struct write_record write = {
        .type = TXN_OP_ROLLBACK, .is_protected = is_protected, .start_ts = start_ts};
    if (outcome->has_overlap) {
        write = outcome->version.write;
        write.has_overlapped_rollback = true;
    }
    return job_put_write(job, key, start_ts, &write);
}

int job_collapse_rollback(struct txn_job *job, struct engine_view *view, struct record_key *key,
                          uint64_t start_ts)
{
    struct mvcc_version version;
    int error = mvcc_newest(view, key, start_ts, &version);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error != 0 || version.write.type != TXN_OP_ROLLBACK || version.write.is_protected ||
        version.commit_ts == start_ts)
        return error;
    return job_remove_write(job, key, version.commit_ts);
}

int job_keys_set(struct txn_job *job, const kvs_slice *keys, uint32_t count)
{
    if (count > KVS_BATCH_COUNT_MAX)
        return KVS_ERR_TOO_LARGE;
    for (uint32_t i = 0; i < count; i++) {
        if (keys[i].size > KVS_KEY_SIZE_MAX)
            return KVS_ERR_TOO_LARGE;
    }
    job->keys = keys;
    job->keys_count = count;
    return 0;
}

/* --- results ---------------------------------------------------------------------------------- */

int txn_slice_copy(struct arena *arena, kvs_slice bytes, kvs_slice *ret_copy)
{
    const void *copy = arena_copy(arena, bytes);
    if (copy == NULL)
        return KVS_ERR_NO_MEMORY;
    *ret_copy = slice_make(copy, bytes.size);
    return 0;
}

/* The key is copied already. */
static int exclusive_info_set(struct txn_lock_info *info, struct arena *arena, kvs_slice key,
                              const struct lock_record *lock)
{
    *info = (struct txn_lock_info){
        .start_ts = lock->start_ts,
        .ttl_ms = lock->ttl_ms,
        .txn_size = lock->txn_size,
        .for_update_ts = lock->for_update_ts,
        .min_commit_ts = lock->min_commit_ts,
        .type = lock->type,
        .use_async_commit = lock->use_async_commit,
        .secondaries_count = lock->secondaries_count,
        .key = key,
    };
    int error = txn_slice_copy(arena, lock->primary, &info->primary);
    if (error != 0 || lock->secondaries_count == 0)
        return error;
    if (arena->bytes > LISTS_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    const kvs_slice *from = lock_record_secondaries(lock, arena);
    kvs_slice *to = arena_alloc(arena, lock->secondaries_count * sizeof *to);
    if (from == NULL || to == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < lock->secondaries_count && error == 0; i++)
        error = txn_slice_copy(arena, from[i], &to[i]);
    info->secondaries = to;
    return error;
}

static int shared_info_set(struct txn_lock_info *info, struct arena *arena, kvs_slice key,
                           const struct lock_record *lock, uint64_t max_ts)
{
    struct lock_record holder;
    size_t at = 0;
    int error = 0;
    *info = (struct txn_lock_info){.key = key, .type = TXN_OP_SHARED_LOCK};
    if (arena->bytes > LISTS_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    info->holders = arena_alloc(arena, lock->holders_count * sizeof *info->holders);
    if (info->holders == NULL)
        return KVS_ERR_NO_MEMORY;
    while (error == 0 && lock_record_next(lock, &at, &holder)) {
        if (holder.start_ts <= max_ts)
            error = exclusive_info_set(&info->holders[info->holders_count++], arena, key, &holder);
    }
    return error;
}

int txn_lock_info_up_to(struct txn_lock_info *info, struct arena *arena, kvs_slice key,
                        const struct lock_record *lock, uint64_t max_ts)
{
    kvs_slice copy;
    int error = txn_slice_copy(arena, key, &copy);
    if (error != 0)
        return error;
    return lock->type == TXN_OP_SHARED_LOCK ? shared_info_set(info, arena, copy, lock, max_ts)
                                            : exclusive_info_set(info, arena, copy, lock);
}

int txn_lock_info_set(struct txn_lock_info *info, struct arena *arena, kvs_slice key,
                      const struct lock_record *lock)
{
    return txn_lock_info_up_to(info, arena, key, lock, TXN_TS_MAX);
}

int txn_error_locked(struct txn_key_error *error, struct arena *arena, kvs_slice key,
                     const struct lock_record *lock)
{
    *error = (struct txn_key_error){.kind = TXN_ERROR_LOCKED};
    int failed = txn_lock_info_set(&error->lock, arena, key, lock);
    error->key = error->lock.key;
    return failed;
}

void txn_error_abort(struct txn_key_error *error, kvs_slice key, const char *text)
{
    *error = (struct txn_key_error){.kind = TXN_ERROR_ABORT, .key = key, .text = text};
}
