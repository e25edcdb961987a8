/* txn/mvcc.c: see the header. */
#include "txn/mvcc.h"

#include <kvs/error.h>

#define WALK_ENOUGH 2 /* above ENGINE_WOULD_BLOCK: never leaves this file */

int mvcc_lock(struct engine_view *view, kvs_slice encoded, struct lock_record *ret_lock)
{
    kvs_slice bytes;
    int error = engine_get(view, ENGINE_FAMILY_TXN_LOCK, encoded, &bytes);
    return error == 0 ? lock_record_decode(bytes, ret_lock) : error;
}

int mvcc_lock_for_read(struct engine_view *view, kvs_slice encoded, struct lock_record *ret_lock)
{
    kvs_slice bytes;
    int error = engine_get(view, ENGINE_FAMILY_TXN_LOCK, encoded, &bytes);
    if (error == 0 && lock_record_is_shared(bytes))
        error = KVS_ERR_NOT_FOUND;
    return error == 0 ? lock_record_decode(bytes, ret_lock) : error;
}

int mvcc_lock_of(struct engine_view *view, kvs_slice encoded, uint64_t start_ts,
                 struct lock_record *ret_lock)
{
    struct lock_record lock;
    int error = mvcc_lock(view, encoded, &lock);
    if (error == 0 && !lock_record_find(&lock, start_ts, ret_lock))
        error = KVS_ERR_NOT_FOUND;
    return error;
}

/* --- walking over the versions of a key ------------------------------------------------------- */

struct walk {
    kvs_slice encoded;
    /* True: this is it. */
    bool (*is_wanted)(struct walk *walk, uint64_t commit_ts, const struct write_record *write);
    uint64_t start_ts;
    bool found;
    bool overlaps;
    struct mvcc_version *version;
};

static void version_set(struct mvcc_version *version, uint64_t commit_ts,
                        const struct write_record *write)
{
    version->commit_ts = commit_ts;
    version->write = *write;
    if (write->value.size > 0)
        memcpy(version->value, write->value.data, write->value.size);
    version->write.value = slice_make(version->value, write->value.size);
}

static int walk_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct walk *walk = arg;
    kvs_slice encoded;
    uint64_t commit_ts;
    if (!record_key_split(key, &encoded, &commit_ts))
        return KVS_ERR_CORRUPTION;
    if (!slice_equal(encoded, walk->encoded))
        return WALK_ENOUGH;
    struct write_record write;
    int error = write_record_decode(value, &write);
    if (error != 0)
        return error;
    if (!walk->is_wanted(walk, commit_ts, &write))
        return 0;
    walk->found = true;
    version_set(walk->version, commit_ts, &write);
    return WALK_ENOUGH;
}

static int walk_run(struct walk *walk, struct engine_view *view, struct record_key *key,
                    uint64_t ts)
{
    walk->encoded = record_key_slice(key);
    struct engine_range range = {.family = ENGINE_FAMILY_TXN_WRITE,
                                 .start = record_key_at(key, ts)};
    int error = engine_scan(view, &range, walk_each, walk);
    if (error != 0 && error != WALK_ENOUGH)
        return error;
    return walk->found ? 0 : KVS_ERR_NOT_FOUND;
}

static bool is_any(struct walk *walk, uint64_t commit_ts, const struct write_record *write)
{
    (void)walk;
    (void)commit_ts;
    (void)write;
    return true;
}

static bool is_data(struct walk *walk, uint64_t commit_ts, const struct write_record *write)
{
    (void)walk;
    (void)commit_ts;
    return write->type == TXN_OP_PUT || write->type == TXN_OP_DELETE;
}

struct newest {
    kvs_slice encoded;
    bool found;
    uint64_t commit_ts;
};

static int newest_each(void *arg, kvs_slice key, kvs_slice value)
{
    (void)value;
    struct newest *newest = arg;
    kvs_slice encoded;
    if (!record_key_split(key, &encoded, &newest->commit_ts))
        return KVS_ERR_CORRUPTION;
    newest->found = slice_equal(encoded, newest->encoded);
    return WALK_ENOUGH;
}

int mvcc_newest_ts(struct engine_view *view, struct record_key *key, uint64_t *ret_commit_ts)
{
    struct newest newest = {.encoded = record_key_slice(key)};
    struct engine_range range = {.family = ENGINE_FAMILY_TXN_WRITE,
                                 .keys_only = true,
                                 .start = record_key_at(key, TXN_TS_MAX)};
    int error = engine_scan(view, &range, newest_each, &newest);
    if (error != 0 && error != WALK_ENOUGH)
        return error;
    *ret_commit_ts = newest.commit_ts;
    return newest.found ? 0 : KVS_ERR_NOT_FOUND;
}

int mvcc_newest(struct engine_view *view, struct record_key *key, uint64_t ts,
                struct mvcc_version *ret_version)
{
    struct walk walk = {.is_wanted = is_any, .version = ret_version};
    return walk_run(&walk, view, key, ts);
}

int mvcc_visible(struct engine_view *view, struct record_key *key, uint64_t ts,
                 struct mvcc_version *ret_version)
{
    struct walk walk = {.is_wanted = is_data, .version = ret_version};
    return walk_run(&walk, view, key, ts);
}

int mvcc_exists(struct engine_view *view, struct record_key *key, uint64_t ts, bool *ret_exists)
{
    struct mvcc_version version;
    int error = mvcc_visible(view, key, ts, &version);
    if (error != 0 && error != KVS_ERR_NOT_FOUND)
        return error;
    *ret_exists = error == 0 && version.write.type == TXN_OP_PUT;
    return 0;
}

int mvcc_value(struct engine_view *view, struct record_key *key, const struct write_record *write,
               kvs_slice *ret_value)
{
    if (write->has_value) {
        *ret_value = write->value;
        return 0;
    }
    kvs_slice at = record_key_at(key, write->start_ts);
    int error = engine_get(view, ENGINE_FAMILY_TXN_DATA, at, ret_value);
    return error == KVS_ERR_NOT_FOUND ? KVS_ERR_CORRUPTION : error;
}

/* --- what became of a transaction ------------------------------------------------------------- */

/* From the newest version down to that at start_ts: a transaction commits after it starts. */
static bool is_outcome(struct walk *walk, uint64_t commit_ts, const struct write_record *write)
{
    if (write->start_ts == walk->start_ts || commit_ts < walk->start_ts)
        return true;
    walk->overlaps = commit_ts == walk->start_ts;
    return walk->overlaps;
}

int mvcc_outcome(struct engine_view *view, struct record_key *key, uint64_t start_ts,
                 struct mvcc_outcome *ret_outcome)
{
    struct walk walk = {
        .is_wanted = is_outcome, .start_ts = start_ts, .version = &ret_outcome->version};
    ret_outcome->fate = MVCC_UNKNOWN;
    ret_outcome->commit_ts = 0;
    ret_outcome->has_overlap = false;
    int error = walk_run(&walk, view, key, TXN_TS_MAX);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error != 0)
        return error;
    const struct mvcc_version *version = &ret_outcome->version;
    if (version->write.start_ts == start_ts && version->commit_ts >= start_ts) {
        ret_outcome->fate =
            version->write.type == TXN_OP_ROLLBACK ? MVCC_ROLLED_BACK : MVCC_COMMITTED;
        ret_outcome->commit_ts = version->commit_ts;
    } else if (walk.overlaps && version->write.has_overlapped_rollback) {
        ret_outcome->fate = MVCC_ROLLED_BACK;
    } else {
        ret_outcome->has_overlap = walk.overlaps;
    }
    return 0;
}

int mvcc_has_rollback_at(struct engine_view *view, struct record_key *key, uint64_t ts,
                         bool *ret_has_rollback)
{
    kvs_slice bytes;
    struct write_record write;
    *ret_has_rollback = false;
    int error = engine_get(view, ENGINE_FAMILY_TXN_WRITE, record_key_at(key, ts), &bytes);
    if (error == 0)
        error = write_record_decode(bytes, &write);
    if (error == 0)
        *ret_has_rollback = write.type == TXN_OP_ROLLBACK || write.has_overlapped_rollback;
    return error == KVS_ERR_NOT_FOUND ? 0 : error;
}
