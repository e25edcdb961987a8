/* txn/debug.c: all that is kept of a key, for people. */
#include "txn/read.h"

#include <kvs/error.h>

#define WALK_CUT 2 /* above ENGINE_WOULD_BLOCK: never leaves this file */
#define DEBUG_VERSIONS_MAX 4096u

struct debug_walk {
    struct txn_mvcc *mvcc;
    kvs_slice encoded;
    uint32_t writes_room;
    uint32_t values_room;
};

/* Doubles a list in the command's arena when it is full. NULL: no memory. */
static void *list_room(struct txn_mvcc *mvcc, void *list, uint32_t count, uint32_t *room,
                       size_t item_size)
{
    if (count < *room)
        return list;
    uint32_t more = *room > 0 ? *room * 2 : 8;
    void *larger = arena_alloc(&mvcc->base.arena, more * item_size);
    if (larger == NULL)
        return NULL;
    if (count > 0)
        memcpy(larger, list, count * item_size);
    *room = more;
    return larger;
}

static int write_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct debug_walk *walk = arg;
    struct txn_mvcc *mvcc = walk->mvcc;
    kvs_slice encoded;
    uint64_t commit_ts;
    struct write_record write;
    if (!record_key_split(key, &encoded, &commit_ts) || write_record_decode(value, &write) != 0)
        return KVS_ERR_CORRUPTION;
    if (!slice_equal(encoded, walk->encoded) || mvcc->writes_count == DEBUG_VERSIONS_MAX)
        return WALK_CUT;
    mvcc->writes =
        list_room(mvcc, mvcc->writes, mvcc->writes_count, &walk->writes_room, sizeof *mvcc->writes);
    if (mvcc->writes == NULL)
        return KVS_ERR_NO_MEMORY;
    struct txn_mvcc_write *to = &mvcc->writes[mvcc->writes_count++];
    *to = (struct txn_mvcc_write){
        .type = write.type,
        .has_overlapped_rollback = write.has_overlapped_rollback,
        .start_ts = write.start_ts,
        .commit_ts = commit_ts,
    };
    return txn_slice_copy(&mvcc->base.arena, write.value, &to->short_value);
}

static int value_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct debug_walk *walk = arg;
    struct txn_mvcc *mvcc = walk->mvcc;
    kvs_slice encoded;
    uint64_t start_ts;
    if (!record_key_split(key, &encoded, &start_ts))
        return KVS_ERR_CORRUPTION;
    if (!slice_equal(encoded, walk->encoded) || mvcc->values_count == DEBUG_VERSIONS_MAX)
        return WALK_CUT;
    mvcc->values =
        list_room(mvcc, mvcc->values, mvcc->values_count, &walk->values_room, sizeof *mvcc->values);
    if (mvcc->values == NULL)
        return KVS_ERR_NO_MEMORY;
    struct txn_mvcc_value *to = &mvcc->values[mvcc->values_count++];
    to->start_ts = start_ts;
    return txn_slice_copy(&mvcc->base.arena, value, &to->value);
}

static int walk_family(struct debug_walk *walk, struct engine_view *view, unsigned family,
                       engine_scan_fn *each)
{
    struct engine_range range = {.family = (uint8_t)family, .start = walk->encoded};
    int error = engine_scan(view, &range, each, walk);
    return error == WALK_CUT ? 0 : error;
}

static int read_lock(struct txn_mvcc *mvcc, struct engine_view *view, kvs_slice encoded)
{
    struct lock_record lock;
    int error = mvcc_lock(view, encoded, &lock);
    mvcc->has_lock = error == 0;
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error == 0)
        error = txn_lock_info_set(&mvcc->lock, &mvcc->base.arena, mvcc->found_key, &lock);
    return error == 0 ? txn_slice_copy(&mvcc->base.arena, lock.value, &mvcc->lock_short_value)
                      : error;
}

static int read_by_key(struct txn_mvcc *mvcc, struct engine_view *view, kvs_slice encoded)
{
    struct debug_walk walk = {.mvcc = mvcc, .encoded = encoded};
    uint8_t *key = arena_alloc(&mvcc->base.arena, encoded.size);
    size_t size;
    if (key == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = memcomparable_decode(encoded, key, &size);
    if (error != 0)
        return error;
    mvcc->found_key = slice_make(key, size);
    error = read_lock(mvcc, view, encoded);
    if (error == 0)
        error = walk_family(&walk, view, ENGINE_FAMILY_TXN_WRITE, write_each);
    if (error == 0)
        error = walk_family(&walk, view, ENGINE_FAMILY_TXN_DATA, value_each);
    mvcc->found = mvcc->has_lock || mvcc->writes_count > 0 || mvcc->values_count > 0;
    return error;
}

/* The first key of the range that a transaction wrote. */
struct start_search {
    uint64_t start_ts;
    struct record_key *key;
    bool found;
};

static int start_each_lock(void *arg, kvs_slice key, kvs_slice value)
{
    struct start_search *search = arg;
    struct lock_record lock;
    struct lock_record own;
    if (lock_record_decode(value, &lock) != 0)
        return KVS_ERR_CORRUPTION;
    if (!lock_record_find(&lock, search->start_ts, &own))
        return 0;
    search->found = record_key_set_encoded(search->key, key);
    return WALK_CUT;
}

static int start_each_write(void *arg, kvs_slice key, kvs_slice value)
{
    struct start_search *search = arg;
    kvs_slice encoded;
    uint64_t commit_ts;
    struct write_record write;
    if (!record_key_split(key, &encoded, &commit_ts) || write_record_decode(value, &write) != 0)
        return KVS_ERR_CORRUPTION;
    if (write.start_ts != search->start_ts)
        return 0;
    search->found = record_key_set_encoded(search->key, encoded);
    return WALK_CUT;
}

static int read_by_start_ts(struct txn_mvcc *mvcc, struct engine_view *view)
{
    if (!view->may_block)
        return ENGINE_WOULD_BLOCK; /* as long as the range is */
    struct record_key key;
    struct start_search search = {.start_ts = mvcc->start_ts, .key = &key};
    struct engine_range range = {
        .family = ENGINE_FAMILY_TXN_LOCK, .start = mvcc->range.start, .end = mvcc->range.end};
    int error = engine_scan(view, &range, start_each_lock, &search);
    range.family = ENGINE_FAMILY_TXN_WRITE;
    if (error == 0)
        error = engine_scan(view, &range, start_each_write, &search);
    if (error != 0 && error != WALK_CUT)
        return error;
    return search.found ? read_by_key(mvcc, view, record_key_slice(&key)) : 0;
}

int read_mvcc(struct txn_mvcc *mvcc, struct engine_view *view)
{
    mvcc->found = false;
    mvcc->has_lock = false;
    mvcc->writes = NULL;
    mvcc->writes_count = 0;
    mvcc->values = NULL;
    mvcc->values_count = 0;
    if (mvcc->base.kind == TXN_MVCC_BY_START_TS)
        return read_by_start_ts(mvcc, view);
    struct record_key key;
    record_key_set(&key, mvcc->key);
    return read_by_key(mvcc, view, record_key_slice(&key));
}
