/* server/tikv_txn_read.c: reads as of a timestamp, and reads of what is kept of keys; see
 * tikv_txn.h. */
#include "server/tikv_txn.h"

#include <kvs/error.h>

/* What a loop does by itself. */
#define LOOP_KEYS_MAX 512u
#define LOCKS_MAX (256u * 1024) /* of one answer */
#define OBSERVED_LOCKS_MAX 1024u

/* False: it has answered. */
static bool fill_read(struct tikv_place *place, struct txn_read *read, uint64_t ts,
                      bool want_commit_ts)
{
    const Kvrpcpb__Context *context = place->context;
    if (!tikv_txn_check_ts(place->command, ts))
        return false;
    *read = (struct txn_read){
        .ts = ts,
        .isolation = (uint8_t)context->isolation_level,
        .want_commit_ts = want_commit_ts,
        .resolved_locks = context->resolved_locks,
        .resolved_locks_count = (uint32_t)context->n_resolved_locks,
        .committed_locks = context->committed_locks,
        .committed_locks_count = (uint32_t)context->n_committed_locks,
    };
    if (context->isolation_level <= KVRPCPB__ISOLATION_LEVEL__RCCheckTS)
        return true;
    tikv_answer_error(place->command, "there is no isolation level %d",
                      (int)context->isolation_level);
    return false;
}

/* With the list that was made for it; NULL: there was no memory. */
static void answer_made(struct tikv_txn *txn, const void *list, const ProtobufCMessage *answer)
{
    if (list != NULL)
        tikv_answer_message(txn->command, answer);
    else
        tikv_fail_no_memory(txn->command);
}

/* --- keys ---------------------------------------------------------------------------------------
 */

static void answer_get(struct tikv_txn *txn)
{
    const struct txn_get *get = &txn->of.get;
    Kvrpcpb__GetResponse answer = KVRPCPB__GET_RESPONSE__INIT;
    if (tikv_txn_answer_error(txn, &get->error))
        return;
    answer.not_found = !get->found;
    answer.value = slice_bytes(get->value);
    answer.commit_ts = get->commit_ts;
    tikv_answer_message(txn->command, &answer.base);
}

static bool find_keys(struct tikv_place *place, const kvs_slice *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!tikv_place_key(place, keys[i]))
            return false;
    }
    if (!tikv_place_region(place))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!tikv_place_has(place, keys[i]))
            return false;
    }
    return true;
}

void tikv_kv_get(struct tikv_command *command)
{
    const Kvrpcpb__GetRequest *request = (const void *)command->request;
    kvs_slice key = bytes_slice(request->key);
    struct tikv_place place;
    struct txn_read read;
    if (!tikv_place_begin_txn(&place, command, request->context) || !find_keys(&place, &key, 1) ||
        !fill_read(&place, &read, request->version, request->need_commit_ts))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_GET, answer_get);
    if (txn == NULL)
        return;
    txn->of.get.read = read;
    txn->of.get.key = key;
    if (key.size > KEY_SIZE_MAX) /* there are no such keys */
        answer_get(txn);
    else
        tikv_txn_read(txn);
}

static void answer_batch_get(struct tikv_txn *txn)
{
    tikv_txn_answer_pairs(txn, &txn->of.batch_get.error);
}

/* `pairs_number` is the field of the answer's pairs. */
static void start_batch_get(struct tikv_place *place, enum txn_command_kind kind,
                            const struct txn_read *read, const ProtobufCBinaryData *bytes,
                            size_t count, uint32_t pairs_number)
{
    const kvs_slice *keys;
    if (!tikv_txn_slices(place->command, bytes, count, &keys) ||
        !tikv_txn_place(place, keys, count))
        return;
    struct tikv_txn *txn = tikv_txn_new(place, kind, answer_batch_get);
    if (txn == NULL)
        return;
    txn->of.batch_get.read = *read;
    txn->of.batch_get.keys = keys;
    txn->of.batch_get.keys_count = (uint32_t)count;
    txn->of.batch_get.sink = tikv_txn_pairs(txn, pairs_number);
    if (count > LOOP_KEYS_MAX)
        tikv_txn_read_on_pool(txn);
    else
        tikv_txn_read(txn);
}

void tikv_kv_batch_get(struct tikv_command *command)
{
    const Kvrpcpb__BatchGetRequest *request = (const void *)command->request;
    struct tikv_place place;
    struct txn_read read;
    if (tikv_place_begin_txn(&place, command, request->context) &&
        fill_read(&place, &read, request->version, request->need_commit_ts))
        start_batch_get(&place, TXN_BATCH_GET, &read, request->keys, request->n_keys, 2);
}

/* What a transaction has flushed itself. */
void tikv_kv_buffer_batch_get(struct tikv_command *command)
{
    const Kvrpcpb__BufferBatchGetRequest *request = (const void *)command->request;
    struct tikv_place place;
    if (tikv_place_begin_txn(&place, command, request->context))
        start_batch_get(&place, TXN_BUFFER_GET, &(struct txn_read){.ts = request->version},
                        request->keys, request->n_keys, 3);
}

/* --- ranges -------------------------------------------------------------------------------------
 */

static void answer_scan(struct tikv_txn *txn)
{
    tikv_txn_answer_pairs(txn, &txn->of.scan.error);
}

void tikv_kv_scan(struct tikv_command *command)
{
    const Kvrpcpb__ScanRequest *request = (const void *)command->request;
    kvs_slice from = bytes_slice(request->start_key);
    kvs_slice to = bytes_slice(request->end_key);
    bool reverse = request->reverse;
    struct tikv_place place;
    struct txn_range range;
    struct txn_read read;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_place_range(&place, reverse ? to : from, reverse ? from : to) ||
        !tikv_place_region(&place) || !tikv_txn_range(&place, from, to, reverse, &range) ||
        !fill_read(&place, &read, request->version, false))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_SCAN, answer_scan);
    if (txn == NULL)
        return;
    txn->of.scan.read = read;
    txn->of.scan.range = range;
    txn->of.scan.limit = request->limit;
    txn->of.scan.sink = tikv_txn_pairs(txn, 2);
    txn->of.scan.reverse = reverse;
    txn->of.scan.keys_only = request->key_only;
    txn->of.scan.sample_step = request->sample_step;
    if (request->limit == 0 || txn_range_is_empty(&range))
        answer_scan(txn);
    else if (request->limit > LOOP_KEYS_MAX)
        tikv_txn_read_on_pool(txn);
    else
        tikv_txn_read(txn);
}

/* --- locks --------------------------------------------------------------------------------------
 */

/* The node was asked for one more than there may be. */
static bool has_too_many_locks(const struct tikv_txn *txn)
{
    return txn->of.scan_lock.locks_count > LOCKS_MAX;
}

static void answer_scan_lock(struct tikv_txn *txn)
{
    const struct txn_scan_lock *scan = &txn->of.scan_lock;
    if (has_too_many_locks(txn)) {
        tikv_answer_too_large(txn->command, TIKV_MESSAGE_SIZE_MAX);
        return;
    }
    Kvrpcpb__ScanLockResponse answer = KVRPCPB__SCAN_LOCK_RESPONSE__INIT;
    answer.n_locks = scan->locks_count;
    answer.locks = tikv_lock_messages(command_arena(txn->command), scan->locks, scan->locks_count);
    answer_made(txn, answer.locks, &answer.base);
}

static void start_scan_lock(struct tikv_place *place, const struct txn_range *range,
                            uint64_t max_ts, uint32_t limit, void (*answer)(struct tikv_txn *txn))
{
    if (!tikv_txn_check_ts(place->command, max_ts))
        return;
    struct tikv_txn *txn = tikv_txn_new(place, TXN_SCAN_LOCK, answer);
    if (txn == NULL)
        return;
    txn->of.scan_lock.range = *range;
    txn->of.scan_lock.max_ts = max_ts;
    txn->of.scan_lock.limit = limit > 0 && limit <= LOCKS_MAX ? limit : LOCKS_MAX + 1;
    if (txn_range_is_empty(range))
        answer(txn);
    else
        tikv_txn_read_on_pool(txn);
}

/* The mode of its keys is not looked at, as in TiKV. */
void tikv_kv_scan_lock(struct tikv_command *command)
{
    const Kvrpcpb__ScanLockRequest *request = (const void *)command->request;
    struct tikv_place place;
    struct txn_range range;
    if (tikv_place_begin_txn(&place, command, request->context) && tikv_place_region(&place) &&
        tikv_txn_range(&place, bytes_slice(request->start_key), bytes_slice(request->end_key),
                       false, &range))
        start_scan_lock(&place, &range, request->max_version, request->limit, answer_scan_lock);
}

static void answer_physical_scan(struct tikv_txn *txn)
{
    const struct txn_scan_lock *scan = &txn->of.scan_lock;
    if (has_too_many_locks(txn)) {
        tikv_answer_too_large(txn->command, TIKV_MESSAGE_SIZE_MAX);
        return;
    }
    Kvrpcpb__PhysicalScanLockResponse answer = KVRPCPB__PHYSICAL_SCAN_LOCK_RESPONSE__INIT;
    answer.n_locks = scan->locks_count;
    answer.locks = tikv_lock_messages(command_arena(txn->command), scan->locks, scan->locks_count);
    answer_made(txn, answer.locks, &answer.base);
}

/* Of the whole store: it has no region. */
void tikv_physical_scan_lock(struct tikv_command *command)
{
    const Kvrpcpb__PhysicalScanLockRequest *request = (const void *)command->request;
    struct tikv_place place;
    struct txn_range range;
    if (tikv_place_begin_txn(&place, command, request->context) &&
        tikv_txn_encode_range(command, bytes_slice(request->start_key), slice_make(NULL, 0),
                              &range))
        start_scan_lock(&place, &range, request->max_ts, request->limit, answer_physical_scan);
}

static void answer_check_observer(struct tikv_txn *txn)
{
    const struct txn_scan_lock *scan = &txn->of.scan_lock;
    Kvrpcpb__CheckLockObserverResponse answer = KVRPCPB__CHECK_LOCK_OBSERVER_RESPONSE__INIT;
    answer.is_clean = scan->locks_count <= OBSERVED_LOCKS_MAX && !has_too_many_locks(txn);
    answer.n_locks = answer.is_clean ? scan->locks_count : 0;
    answer.locks = tikv_lock_messages(command_arena(txn->command), scan->locks, scan->locks_count);
    answer_made(txn, answer.locks, &answer.base);
}

/* Which locks up to max_ts came since the observer was registered? Those that are there now, and no
 * others, want to be resolved: so they are looked for now, and nothing is observed. */
void tikv_check_lock_observer(struct tikv_command *command)
{
    const Kvrpcpb__CheckLockObserverRequest *request = (const void *)command->request;
    struct tikv_place place;
    struct txn_range range;
    if (tikv_place_begin_txn(&place, command, request->context) &&
        tikv_txn_encode_range(command, slice_make(NULL, 0), slice_make(NULL, 0), &range))
        start_scan_lock(&place, &range, request->max_ts, OBSERVED_LOCKS_MAX + 1,
                        answer_check_observer);
}

/* --- all that is kept of a key, for debugging ---------------------------------------------------
 */

static bool fill_mvcc_lock(struct arena *arena, const struct txn_mvcc *mvcc,
                           Kvrpcpb__MvccInfo *message)
{
    if (!mvcc->has_lock)
        return true;
    const struct txn_lock_info *lock = &mvcc->lock;
    Kvrpcpb__MvccLock *made = arena_alloc(arena, sizeof *made);
    ProtobufCBinaryData *secondaries =
        arena_alloc(arena, lock->secondaries_count * sizeof *secondaries);
    if (made == NULL || secondaries == NULL)
        return false;
    kvrpcpb__mvcc_lock__init(made);
    made->type = (Kvrpcpb__Op)lock->type;
    made->start_ts = lock->start_ts;
    made->primary = slice_bytes(lock->primary);
    made->short_value = slice_bytes(mvcc->lock_short_value);
    made->ttl = lock->ttl_ms;
    made->for_update_ts = lock->for_update_ts;
    made->txn_size = lock->txn_size;
    made->use_async_commit = lock->use_async_commit;
    made->n_secondaries = lock->secondaries_count;
    made->secondaries = secondaries;
    for (uint32_t i = 0; i < lock->secondaries_count; i++)
        secondaries[i] = slice_bytes(lock->secondaries[i]);
    message->lock = made;
    return true;
}

static bool fill_mvcc_writes(struct arena *arena, const struct txn_mvcc *mvcc,
                             Kvrpcpb__MvccInfo *message)
{
    size_t count = mvcc->writes_count;
    Kvrpcpb__MvccWrite *writes = arena_alloc(arena, count * sizeof *writes);
    message->writes = arena_alloc(arena, count * sizeof(Kvrpcpb__MvccWrite *));
    if (writes == NULL || message->writes == NULL)
        return false;
    message->n_writes = count;
    for (size_t i = 0; i < count; i++) {
        kvrpcpb__mvcc_write__init(&writes[i]);
        writes[i].type = (Kvrpcpb__Op)mvcc->writes[i].type;
        writes[i].start_ts = mvcc->writes[i].start_ts;
        writes[i].commit_ts = mvcc->writes[i].commit_ts;
        writes[i].short_value = slice_bytes(mvcc->writes[i].short_value);
        writes[i].has_overlapped_rollback = mvcc->writes[i].has_overlapped_rollback;
        message->writes[i] = &writes[i];
    }
    return true;
}

static bool fill_mvcc_values(struct arena *arena, const struct txn_mvcc *mvcc,
                             Kvrpcpb__MvccInfo *message)
{
    size_t count = mvcc->values_count;
    Kvrpcpb__MvccValue *values = arena_alloc(arena, count * sizeof *values);
    message->values = arena_alloc(arena, count * sizeof(Kvrpcpb__MvccValue *));
    if (values == NULL || message->values == NULL)
        return false;
    message->n_values = count;
    for (size_t i = 0; i < count; i++) {
        kvrpcpb__mvcc_value__init(&values[i]);
        values[i].start_ts = mvcc->values[i].start_ts;
        values[i].value = slice_bytes(mvcc->values[i].value);
        message->values[i] = &values[i];
    }
    return true;
}

static bool fill_mvcc(struct tikv_txn *txn, Kvrpcpb__MvccInfo *message)
{
    struct arena *arena = command_arena(txn->command);
    const struct txn_mvcc *mvcc = &txn->of.mvcc;
    kvrpcpb__mvcc_info__init(message);
    if (fill_mvcc_lock(arena, mvcc, message) && fill_mvcc_writes(arena, mvcc, message) &&
        fill_mvcc_values(arena, mvcc, message))
        return true;
    tikv_fail_no_memory(txn->command);
    return false;
}

static void answer_mvcc_by_key(struct tikv_txn *txn)
{
    Kvrpcpb__MvccInfo info;
    Kvrpcpb__MvccGetByKeyResponse answer = KVRPCPB__MVCC_GET_BY_KEY_RESPONSE__INIT;
    if (!fill_mvcc(txn, &info))
        return;
    answer.info = &info;
    tikv_answer_message(txn->command, &answer.base);
}

void tikv_mvcc_by_key(struct tikv_command *command)
{
    const Kvrpcpb__MvccGetByKeyRequest *request = (const void *)command->request;
    kvs_slice key = bytes_slice(request->key);
    struct tikv_place place;
    if (!tikv_place_begin_txn(&place, command, request->context) ||
        !tikv_txn_place(&place, &key, 1))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_MVCC_BY_KEY, answer_mvcc_by_key);
    if (txn == NULL)
        return;
    txn->of.mvcc.key = key;
    tikv_txn_read_on_pool(txn);
}

static void answer_mvcc_by_start_ts(struct tikv_txn *txn)
{
    Kvrpcpb__MvccInfo info;
    Kvrpcpb__MvccGetByStartTsResponse answer = KVRPCPB__MVCC_GET_BY_START_TS_RESPONSE__INIT;
    if (!fill_mvcc(txn, &info))
        return;
    if (txn->of.mvcc.found) {
        answer.key = slice_bytes(txn->of.mvcc.found_key);
        answer.info = &info;
    }
    tikv_answer_message(txn->command, &answer.base);
}

void tikv_mvcc_by_start_ts(struct tikv_command *command)
{
    const Kvrpcpb__MvccGetByStartTsRequest *request = (const void *)command->request;
    struct tikv_place place;
    struct txn_range range;
    if (!tikv_place_begin_txn(&place, command, request->context) || !tikv_place_region(&place) ||
        !tikv_txn_whole_region(&place, &range))
        return;
    struct tikv_txn *txn = tikv_txn_new(&place, TXN_MVCC_BY_START_TS, answer_mvcc_by_start_ts);
    if (txn == NULL)
        return;
    txn->of.mvcc.range = range;
    txn->of.mvcc.start_ts = request->start_ts;
    tikv_txn_read_on_pool(txn);
}
