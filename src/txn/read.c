/* txn/read.c: reads of single keys, and what comes before all reads; see read.h and pending.h. */
#include "txn/read.h"

#include <kvs/error.h>
#include <stdlib.h>

bool txn_kind_is_read(uint8_t kind)
{
    return kind == TXN_GET || kind == TXN_BATCH_GET || kind == TXN_BUFFER_GET || kind == TXN_SCAN ||
           kind == TXN_SCAN_LOCK || kind == TXN_MVCC_BY_KEY || kind == TXN_MVCC_BY_START_TS;
}

static const struct txn_read *read_of(const struct txn_command *command)
{
    switch (command->kind) {
    case TXN_GET:
        return &((const struct txn_get *)(const void *)command)->read;
    case TXN_BATCH_GET:
        return &((const struct txn_batch_get *)(const void *)command)->read;
    case TXN_SCAN:
        return &((const struct txn_scan *)(const void *)command)->read;
    default:
        return NULL;
    }
}

/* --- before the view -------------------------------------------------------------------------- */

static int keys_check(const kvs_slice *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (keys[i].size > KVS_KEY_SIZE_MAX)
            return KVS_ERR_TOO_LARGE;
    }
    return 0;
}

int txn_read_check(const struct txn_command *command)
{
    const struct txn_batch_get *batch = (const struct txn_batch_get *)(const void *)command;
    switch (command->kind) {
    case TXN_GET:
        return keys_check(&((const struct txn_get *)(const void *)command)->key, 1);
    case TXN_BATCH_GET:
    case TXN_BUFFER_GET:
        return batch->keys_count > KVS_BATCH_COUNT_MAX ? KVS_ERR_TOO_LARGE
                                                       : keys_check(batch->keys, batch->keys_count);
    case TXN_MVCC_BY_KEY:
        return keys_check(&((const struct txn_mvcc *)(const void *)command)->key, 1);
    default:
        return 0;
    }
}

static bool has_ts(const uint64_t *list, uint32_t count, uint64_t ts)
{
    for (uint32_t i = 0; i < count; i++) {
        if (list[i] == ts)
            return true;
    }
    return false;
}

enum read_lock_effect read_lock_effect(const struct txn_read *read, const struct lock_record *lock,
                                       kvs_slice key)
{
    /* One that wants to be told of all that is newer meets locks of any time. */
    bool is_checked = read->isolation == TXN_ISOLATION_RC_CHECK_TS;
    if (read->isolation == TXN_ISOLATION_READ_COMMITTED ||
        (lock->type != TXN_OP_PUT && lock->type != TXN_OP_DELETE))
        return READ_LOCK_NONE;
    if (!is_checked && (lock->start_ts > read->ts || lock->min_commit_ts > read->ts))
        return READ_LOCK_NONE;
    /* The newest value, from where the transaction decides: it has not committed. */
    if (!is_checked && read->ts == TXN_TS_MAX && !lock->use_async_commit &&
        slice_equal(key, lock->primary))
        return READ_LOCK_NONE;
    if (has_ts(read->resolved_locks, read->resolved_locks_count, lock->start_ts))
        return READ_LOCK_NONE;
    if (!read->want_commit_ts &&
        has_ts(read->committed_locks, read->committed_locks_count, lock->start_ts))
        return READ_LOCK_SHOWS;
    return is_checked ? READ_LOCK_CONFLICT : READ_LOCK_BLOCKS;
}

/* What one look into the table of pending locks gathers. */
struct gathering {
    struct txn_command *command;
    const struct txn_read *read; /* NULL: all locks up to max_ts */
    uint64_t max_ts;
    struct txn_range range; /* empty for reads of keys */
    struct read_hidden_lock *first;
    uint32_t count;
};

static bool gathering_wants(const struct gathering *gathering, const struct pending_lock *pending)
{
    const struct txn_range *range = &gathering->range;
    if (range->start.size > 0 && memcomparable_compare(pending->key, range->start) < 0)
        return false;
    if (range->end.size > 0 && memcomparable_compare(pending->key, range->end) >= 0)
        return false;
    if (gathering->read == NULL)
        return pending->lock.start_ts <= gathering->max_ts;
    /* Not decided yet, whatever the reader was told; and a lock of one phase counts as async. */
    struct lock_record lock = pending->lock;
    lock.use_async_commit = true;
    return read_lock_effect(gathering->read, &lock, pending->key) != READ_LOCK_NONE;
}

static int gathering_each(void *arg, const struct pending_lock *pending)
{
    struct gathering *gathering = arg;
    if (!gathering_wants(gathering, pending))
        return 0;
    struct arena *arena = &gathering->command->arena;
    struct read_hidden_lock *hidden = arena_zalloc(arena, sizeof *hidden);
    if (hidden == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = txn_lock_info_set(&hidden->lock, arena, pending->key, &pending->lock);
    if (error != 0)
        return error;
    hidden->key = hidden->lock.key;
    hidden->next = gathering->first;
    gathering->first = hidden;
    gathering->count++;
    return 0;
}

static int hidden_compare(const void *a, const void *b)
{
    const struct read_hidden_lock *const *first = a;
    const struct read_hidden_lock *const *second = b;
    return slice_compare((*first)->key, (*second)->key);
}

/* Makes what was gathered a sorted list in command->reserved[0]. */
static int hidden_set(struct gathering *gathering)
{
    struct txn_command *command = gathering->command;
    if (gathering->count == 0)
        return 0;
    struct read_hidden *hidden = arena_alloc(&command->arena, sizeof *hidden);
    if (hidden == NULL)
        return KVS_ERR_NO_MEMORY;
    hidden->locks = arena_alloc(&command->arena, gathering->count * sizeof *hidden->locks);
    if (hidden->locks == NULL)
        return KVS_ERR_NO_MEMORY;
    hidden->count = 0;
    for (struct read_hidden_lock *lock = gathering->first; lock != NULL; lock = lock->next)
        hidden->locks[hidden->count++] = lock;
    qsort((void *)hidden->locks, hidden->count, sizeof *hidden->locks, hidden_compare);
    command->reserved[0] = hidden;
    return 0;
}

static int gather(struct txn_node *node, struct gathering *gathering)
{
    struct txn_command *command = gathering->command;
    int error = 0;
    if (command->kind == TXN_GET) {
        error = pending_find(&node->pending, ((struct txn_get *)(void *)command)->key,
                             gathering_each, gathering);
    } else if (command->kind == TXN_BATCH_GET) {
        const struct txn_batch_get *batch = (const struct txn_batch_get *)(const void *)command;
        for (uint32_t i = 0; i < batch->keys_count && error == 0; i++)
            error = pending_find(&node->pending, batch->keys[i], gathering_each, gathering);
    } else {
        error = pending_walk(&node->pending, gathering_each, gathering);
    }
    return error == 0 ? hidden_set(gathering) : error;
}

int txn_read_prepare(struct txn_node *node, struct txn_command *command)
{
    struct gathering gathering = {.command = command, .read = read_of(command)};
    command->reserved[0] = NULL;
    if (command->kind == TXN_SCAN) {
        gathering.range = ((struct txn_scan *)(void *)command)->range;
    } else if (command->kind == TXN_SCAN_LOCK) {
        gathering.range = ((struct txn_scan_lock *)(void *)command)->range;
        gathering.max_ts = ((struct txn_scan_lock *)(void *)command)->max_ts;
    } else if (gathering.read == NULL) {
        return 0;
    }
    uint64_t ts = gathering.read != NULL ? gathering.read->ts : gathering.max_ts;
    pending_raise_max_ts(&node->pending, ts);
    int error = pending_is_empty(&node->pending) ? 0 : gather(node, &gathering);
    /* A lock may be older than what it commits at. */
    if (error == 0 && pending_is_doubtful(&node->pending, gathering.read != NULL ? ts : TXN_TS_MAX))
        error = KVS_ERR_STORAGE_FAILED;
    return error;
}

/* In reserved[1]: it has waited. */
bool txn_read_should_wait(const struct txn_command *command)
{
    bool has_keys = command->kind == TXN_GET || command->kind == TXN_BATCH_GET;
    return has_keys && command->reserved[0] != NULL && command->reserved[1] == NULL;
}

void txn_read_set_waited(struct txn_command *command)
{
    command->reserved[1] = command;
}

int txn_read_hidden_keys(struct txn_command *command, kvs_slice **ret_keys, uint32_t *ret_count)
{
    *ret_count = 0;
    if (!txn_read_should_wait(command))
        return 0;
    const struct read_hidden *hidden = command->reserved[0];
    *ret_keys = arena_alloc(&command->arena, hidden->count * sizeof **ret_keys);
    if (*ret_keys == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < hidden->count; i++)
        (*ret_keys)[(*ret_count)++] = hidden->locks[i]->key;
    return 0;
}

const struct read_hidden_lock *read_hidden_find(const struct txn_command *command, kvs_slice key)
{
    const struct read_hidden *hidden = command->reserved[0];
    uint32_t low = 0;
    uint32_t high = hidden != NULL ? hidden->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = slice_compare(hidden->locks[middle]->key, key);
        if (order == 0)
            return hidden->locks[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* --- one key ---------------------------------------------------------------------------------- */

void read_conflict_set(struct txn_key_error *error, const struct txn_read *read, kvs_slice key,
                       kvs_slice primary, uint64_t conflict_ts, uint64_t conflict_commit_ts)
{
    *error = (struct txn_key_error){
        .kind = TXN_ERROR_WRITE_CONFLICT,
        .reason = TXN_CONFLICT_RC_CHECK_TS,
        .key = key,
        .primary = primary,
        .start_ts = read->ts,
        .conflict_ts = conflict_ts,
        .conflict_commit_ts = conflict_commit_ts,
    };
}

static struct txn_sink *sink_of(const struct txn_command *command)
{
    if (command->kind != TXN_BATCH_GET && command->kind != TXN_BUFFER_GET)
        return NULL;
    return ((const struct txn_batch_get *)(const void *)command)->sink;
}

/* For a sink what lies in the view lives long enough. */
static int copy_value(struct txn_command *command, kvs_slice value, bool is_of_view,
                      struct txn_pair *pair)
{
    if (is_of_view && sink_of(command) != NULL) {
        pair->value = value;
        return 0;
    }
    return txn_slice_copy(&command->arena, value, &pair->value);
}

/* Of a lock that is a PUT. */
static int lock_value(struct engine_view *view, struct record_key *record,
                      const struct lock_record *lock, kvs_slice *ret_value)
{
    const struct write_record write = {
        .start_ts = lock->start_ts, .has_value = lock->has_value, .value = lock->value};
    return mvcc_value(view, record, &write, ret_value);
}

/* What a lock with this effect makes of the read; *ret_done: no version has to be looked for. */
static int read_key_lock(struct txn_command *command, const struct txn_read *read,
                         struct engine_view *view, struct record_key *record,
                         const struct lock_record *lock, struct txn_pair *pair, bool *ret_found,
                         struct txn_key_error *request_error, bool *ret_done)
{
    enum read_lock_effect effect = read_lock_effect(read, lock, pair->key);
    *ret_done = effect != READ_LOCK_NONE;
    if (effect == READ_LOCK_BLOCKS)
        return txn_error_locked(&pair->error, &command->arena, pair->key, lock);
    if (effect == READ_LOCK_CONFLICT) {
        kvs_slice primary;
        int error = txn_slice_copy(&command->arena, lock->primary, &primary);
        if (error == 0)
            read_conflict_set(request_error, read, pair->key, primary, lock->start_ts, 0);
        return error;
    }
    if (effect == READ_LOCK_SHOWS && lock->type == TXN_OP_PUT) {
        kvs_slice value;
        int error = lock_value(view, record, lock, &value);
        *ret_found = error == 0;
        return error == 0 ? copy_value(command, value, true, pair) : error;
    }
    return 0;
}

static int read_key_version(struct txn_command *command, const struct txn_read *read,
                            struct engine_view *view, struct record_key *record,
                            struct txn_pair *pair, bool *ret_found,
                            struct txn_key_error *request_error)
{
    struct mvcc_version version;
    if (read->isolation == TXN_ISOLATION_RC_CHECK_TS) {
        int error = mvcc_newest(view, record, TXN_TS_MAX, &version);
        if (error != 0 && error != KVS_ERR_NOT_FOUND)
            return error;
        if (error == 0 && version.commit_ts > read->ts) {
            read_conflict_set(request_error, read, pair->key, (kvs_slice){0},
                              version.write.start_ts, version.commit_ts);
            return 0;
        }
    }
    int error = mvcc_visible(view, record, read->ts, &version);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error != 0 || version.write.type != TXN_OP_PUT)
        return error;
    kvs_slice value;
    error = mvcc_value(view, record, &version.write, &value);
    if (error == 0)
        error = copy_value(command, value, !version.write.has_value, pair);
    *ret_found = error == 0;
    pair->commit_ts = read->want_commit_ts ? version.commit_ts : 0;
    return error;
}

int read_key(struct txn_command *command, const struct txn_read *read, struct engine_view *view,
             kvs_slice key, struct txn_pair *ret_pair, bool *ret_found,
             struct txn_key_error *request_error)
{
    *ret_pair = (struct txn_pair){.key = key};
    *ret_found = false;
    const struct read_hidden_lock *hidden = read_hidden_find(command, key);
    if (hidden != NULL && read->isolation == TXN_ISOLATION_RC_CHECK_TS) {
        read_conflict_set(request_error, read, key, hidden->lock.primary, hidden->lock.start_ts, 0);
        return 0;
    }
    if (hidden != NULL) {
        ret_pair->error.kind = TXN_ERROR_LOCKED;
        ret_pair->error.key = hidden->key;
        ret_pair->error.lock = hidden->lock;
        return 0;
    }
    struct record_key record;
    record_key_set(&record, key);
    struct lock_record lock;
    bool is_done = false;
    int error = mvcc_lock_for_read(view, record_key_slice(&record), &lock);
    if (error == 0)
        error = read_key_lock(command, read, view, &record, &lock, ret_pair, ret_found,
                              request_error, &is_done);
    else if (error == KVS_ERR_NOT_FOUND)
        error = 0;
    if (error == 0 && !is_done)
        error = read_key_version(command, read, view, &record, ret_pair, ret_found, request_error);
    return error;
}

/* What the transaction itself has written so far: its locks. */
static int read_own_write(struct txn_batch_get *batch, struct engine_view *view, kvs_slice key,
                          struct txn_pair *ret_pair, bool *ret_found)
{
    *ret_pair = (struct txn_pair){.key = key};
    *ret_found = false;
    struct record_key record;
    record_key_set(&record, key);
    struct lock_record lock;
    int error = mvcc_lock_for_read(view, record_key_slice(&record), &lock);
    if (error == KVS_ERR_NOT_FOUND)
        return 0;
    if (error != 0 || lock.start_ts != batch->read.ts ||
        (lock.type != TXN_OP_PUT && lock.type != TXN_OP_DELETE))
        return error;
    kvs_slice value = {0};
    if (lock.type == TXN_OP_PUT)
        error = lock_value(view, &record, &lock, &value);
    if (error == 0)
        error = copy_value(&batch->base, value, true, ret_pair);
    *ret_found = error == 0;
    return error;
}

/* --- the commands ----------------------------------------------------------------------------- */

static int read_get(struct txn_get *get, struct engine_view *view)
{
    struct txn_pair pair;
    get->found = false;
    get->error = (struct txn_key_error){0};
    struct txn_key_error request_error = {0};
    int error =
        read_key(&get->base, &get->read, view, get->key, &pair, &get->found, &request_error);
    get->value = pair.value;
    get->commit_ts = pair.commit_ts;
    get->error = request_error.kind != TXN_ERROR_NONE ? request_error : pair.error;
    return error;
}

static int read_batch_get(struct txn_batch_get *batch, struct engine_view *view)
{
    if (!view->may_block && batch->keys_count > READ_ON_SPOT_COUNT_MAX)
        return ENGINE_WOULD_BLOCK;
    struct txn_sink *sink = batch->sink;
    struct txn_pair given;
    batch->error = (struct txn_key_error){0};
    batch->pairs_count = 0;
    batch->pairs = NULL;
    if (sink != NULL)
        sink->begin(sink);
    else
        batch->pairs = arena_alloc(&batch->base.arena, batch->keys_count * sizeof *batch->pairs);
    if (sink == NULL && batch->pairs == NULL)
        return KVS_ERR_NO_MEMORY;
    size_t size = 0;
    for (uint32_t i = 0; i < batch->keys_count; i++) {
        struct txn_pair *pair = sink != NULL ? &given : &batch->pairs[batch->pairs_count];
        bool found;
        int error = batch->base.kind == TXN_BUFFER_GET
                        ? read_own_write(batch, view, batch->keys[i], pair, &found)
                        : read_key(&batch->base, &batch->read, view, batch->keys[i], pair, &found,
                                   &batch->error);
        if (error != 0 || batch->error.kind != TXN_ERROR_NONE)
            return error;
        bool is_given = found || pair->error.kind != TXN_ERROR_NONE;
        error = is_given && sink != NULL ? sink->put(sink, pair) : 0;
        if (error != 0)
            return error;
        batch->pairs_count += is_given;
        size += pair->value.size;
        if (batch->size_bytes_max > 0 && size > batch->size_bytes_max) /* a key may come often */
            return KVS_ERR_TOO_LARGE;
        if (size > READ_ON_SPOT_SIZE_MAX && !view->may_block)
            return ENGINE_WOULD_BLOCK;
    }
    return 0;
}

int txn_read_run(struct txn_node *node, struct txn_command *command, struct engine_view *view)
{
    const struct txn_read *read = read_of(command);
    if (read != NULL && node_is_past(node, read->ts))
        return KVS_ERR_TXN_TOO_OLD;
    switch (command->kind) {
    case TXN_GET:
        return read_get((struct txn_get *)(void *)command, view);
    case TXN_BATCH_GET:
    case TXN_BUFFER_GET:
        return read_batch_get((struct txn_batch_get *)(void *)command, view);
    case TXN_SCAN:
        return read_scan((struct txn_scan *)(void *)command, view);
    case TXN_SCAN_LOCK:
        return read_scan_lock((struct txn_scan_lock *)(void *)command, view);
    default:
        return read_mvcc((struct txn_mvcc *)(void *)command, view);
    }
}
