/*
 * engine/log/apply.c: batches into the newest segment's memory and the working trees.
 *
 * A batch: 1. its conditions are checked against the working trees (which hold the batches before
 * it in the group); 2. each mutation that changes anything becomes a record behind the last one;
 * 3. the trees follow. Nothing is on the disk and nothing is visible yet: writer_commit does both.
 *
 * A move: each record that is still live is appended anew and its entry is pointed to the copy.
 * That is visible to readers at once, which is harmless: the bytes are the same, and the old ones
 * stay. Only when it is undone, the copy's readers have to leave before its place is used anew.
 *
 * Failure: NO_MEMORY leaves trees and segment half changed; the writer undoes the whole group.
 * Thread: the writer.
 */
#include "engine/log/log_engine.h"

#include "base/mem.h"
#include "engine/file.h"

#include <assert.h>

struct batch {
    struct log_engine *log;
    struct engine_write *write;
    struct record last; /* the record written last, at `last_offset` */
    uint32_t last_offset;
    bool any;
};

uint64_t apply_write_size(const struct engine_write *write)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < write->mutations_count; i++) {
        const kvs_mutation *mutation = &write->mutations[i];
        size += record_size(mutation->key.size, mutation->value.size, mutation->ttl_ms != 0);
    }
    return size;
}

/* --- records and accounts --------------------------------------------------------------------- */

/* Appends a record to the newest segment's memory; there is room. Returns its offset. */
static uint32_t record_append(struct log_engine *log, const struct record *record)
{
    struct segment *segment = log->newest;
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    size_t size = record_size(record->key.size, record->value.size, record->expires_at_ms != 0);
    assert(segment->size + size <= segment->capacity);
    uint32_t offset = segment->size;
    record_encode(memory + offset, segment->number, record);
    segment->size += (uint32_t)size;
    if (record->kind == RECORD_SET) {
        segment->accounts.live_bytes += size;
        stat_set(&log->stat_live_bytes, stat_get(&log->stat_live_bytes) + size);
        if (record->sequence < segment->accounts.set_sequence_min)
            segment->accounts.set_sequence_min = record->sequence;
        if (record->expires_at_ms != 0)
            life_add(life_of(segment, segment->accounts.lives, record->expires_at_ms), size,
                     record->expires_at_ms);
    } else {
        segment->accounts.tombstone_bytes += size;
    }
    return offset;
}

/* The newest version no longer points to the entry's record. */
static void record_dead(struct log_engine *log, const struct entry *entry)
{
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_relaxed);
    struct segment *segment = segment_at(log, location);
    uint32_t size = entry_record_size(entry);
    assert(segment->accounts.live_bytes >= size);
    segment->accounts.live_bytes -= size;
    stat_set(&log->stat_live_bytes, stat_get(&log->stat_live_bytes) - size);
    if (entry->expires)
        life_of(segment, segment->accounts.lives, entry_expires_at(entry))->bytes -= size;
}

static int entry_unlink(struct log_engine *log, unsigned family, struct entry *entry)
{
    struct tree_root *tree = &log->working.families[family];
    tree->keys--;
    tree->expiring_keys -= entry->expires;
    record_dead(log, entry);
    return tree_entry_retire(&log->tree, entry);
}

static struct entry *entry_live(struct log_engine *log, unsigned family, kvs_slice key)
{
    struct entry *entry = tree_find(log->working.families[family].root, key);
    if (entry != NULL && entry_is_expired(entry, log->group_wall_ms))
        return NULL;
    return entry;
}

/* --- conditions ------------------------------------------------------------------------------- */

/* The value of an entry; from disk into `scratch` when it is not in memory. */
static int entry_value(struct log_engine *log, const struct entry *entry, struct buf *scratch,
                       kvs_slice *ret_value)
{
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_relaxed);
    struct segment *segment = segment_at(log, location);
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_relaxed);
    size_t offset = record_value_offset(entry->key_size, entry->expires);
    if (memory != NULL) {
        *ret_value = slice_make(memory + location_offset(location) + offset, entry->value_size);
        return 0;
    }
    uint32_t size = entry_record_size(entry);
    buf_clear(scratch);
    int error = buf_reserve(scratch, size);
    if (error != 0)
        return error;
    struct record record;
    error =
        segment_read_record(segment, location_offset(location), size, true, scratch->data, &record);
    if (error == 0)
        *ret_value = record.value;
    return error;
}

static int condition_check(struct log_engine *log, const struct engine_condition *condition,
                           struct buf *scratch)
{
    struct entry *entry = entry_live(log, condition->family, condition->key);
    switch (condition->kind) {
    case ENGINE_CONDITION_EXISTS:
        return entry != NULL ? 0 : KVS_ERR_NOT_FOUND;
    case ENGINE_CONDITION_ABSENT:
        return entry == NULL ? 0 : KVS_ERR_ALREADY_EXISTS;
    case ENGINE_CONDITION_EQUALS: {
        if (entry == NULL || entry->value_size != condition->value.size)
            return KVS_ERR_CONDITION_FAILED;
        kvs_slice value;
        int error = entry_value(log, entry, scratch, &value);
        if (error != 0)
            return error;
        return slice_equal(value, condition->value) ? 0 : KVS_ERR_CONDITION_FAILED;
    }
    default:
        return KVS_ERR_INVALID_ARGUMENT;
    }
}

static int previous_keep(struct log_engine *log, struct engine_write *write, unsigned family,
                         kvs_slice key)
{
    struct entry *entry = entry_live(log, family, key);
    write->previous_found = entry != NULL;
    if (entry == NULL)
        return 0;
    struct buf scratch = BUF_INIT;
    kvs_slice value;
    int error = entry_value(log, entry, &scratch, &value);
    if (error == 0)
        error = buf_append_slice(&write->previous, value);
    buf_deinit(&scratch);
    return error;
}

static int conditions_check(struct log_engine *log, struct engine_write *write)
{
    bool want = (write->flags & ENGINE_WRITE_WANT_PREVIOUS) != 0;
    struct buf scratch = BUF_INIT;
    int error = 0;
    for (uint32_t i = 0; i < write->conditions_count && error == 0; i++)
        error = condition_check(log, &write->conditions[i], &scratch);
    if (error != 0 && want) {
        const struct engine_condition *first = &write->conditions[0];
        int failed = previous_keep(log, write, first->family, first->key);
        error = failed != 0 ? failed : error;
    }
    buf_deinit(&scratch);
    if (error == 0 && want && write->mutations_count > 0)
        error = previous_keep(log, write, write->mutations[0].family, write->mutations[0].key);
    return error;
}

/* --- mutations -------------------------------------------------------------------------------- */

static uint32_t batch_append(struct batch *batch, struct record *record)
{
    record->sequence = ++batch->log->working.sequence;
    batch->last = *record;
    batch->last_offset = record_append(batch->log, record);
    batch->log->newest->accounts.batch_bytes += batch->log->newest->size - batch->last_offset;
    batch->any = true;
    return batch->last_offset;
}

static int apply_set(struct batch *batch, const kvs_mutation *mutation, bool more)
{
    struct log_engine *log = batch->log;
    struct record record = {
        .kind = RECORD_SET,
        .family = mutation->family,
        .more = more,
        .expires_at_ms = mutation->ttl_ms != 0 ? log->group_wall_ms + mutation->ttl_ms : 0,
        .key = mutation->key,
        .value = mutation->value,
    };
    uint32_t offset = batch_append(batch, &record);
    uint64_t location = location_make(log->newest->slot, offset);
    struct entry *entry = tree_entry_new(&log->tree, record.key, record.expires_at_ms,
                                         (uint32_t)record.value.size, record.sequence, location);
    if (entry == NULL)
        return KVS_ERR_NO_MEMORY;
    segment_entry_added(log, location);
    struct tree_root *tree = &log->working.families[mutation->family];
    struct entry *replaced;
    int error = tree_insert(&log->tree, &tree->root, entry, &replaced);
    if (error != 0)
        return error;
    tree->keys++;
    tree->expiring_keys += entry->expires;
    return replaced != NULL ? entry_unlink(log, mutation->family, replaced) : 0;
}

static int apply_remove(struct batch *batch, const kvs_mutation *mutation, bool more)
{
    struct log_engine *log = batch->log;
    struct tree_root *tree = &log->working.families[mutation->family];
    struct entry *entry;
    int error = tree_remove(&log->tree, &tree->root, mutation->key, &entry);
    if (error != 0 || entry == NULL)
        return error;
    struct record record = {
        .kind = RECORD_REMOVE, .family = mutation->family, .more = more, .key = mutation->key};
    batch_append(batch, &record);
    batch->write->removed_count += !entry_is_expired(entry, log->group_wall_ms);
    return entry_unlink(log, mutation->family, entry);
}

static int apply_remove_range(struct batch *batch, const kvs_mutation *mutation, bool more)
{
    struct log_engine *log = batch->log;
    struct tree_root *tree = &log->working.families[mutation->family];
    kvs_slice end = mutation->value;
    bool any = false;
    for (;;) {
        struct tree_cursor cursor;
        tree_seek(&cursor, tree->root, mutation->key);
        struct entry *entry = tree_cursor_entry(&cursor);
        if (entry == NULL || (end.size > 0 && slice_compare(entry_key(entry), end) >= 0))
            break;
        int error = tree_remove(&log->tree, &tree->root, entry_key(entry), &entry);
        if (error != 0)
            return error;
        batch->write->removed_count += !entry_is_expired(entry, log->group_wall_ms);
        error = entry_unlink(log, mutation->family, entry);
        if (error != 0)
            return error;
        any = true;
    }
    if (!any)
        return 0;
    struct record record = {.kind = RECORD_REMOVE_RANGE,
                            .family = mutation->family,
                            .more = more,
                            .key = mutation->key,
                            .value = end};
    batch_append(batch, &record);
    return 0;
}

/* Mutations that change nothing leave no record, so the last record may promise more: take it
 * back. */
static void batch_close(struct batch *batch)
{
    if (!batch->any || !batch->last.more)
        return;
    batch->last.more = false;
    uint8_t *memory = atomic_load_explicit(&batch->log->newest->memory, memory_order_relaxed);
    record_encode(memory + batch->last_offset, batch->log->newest->number, &batch->last);
}

/* As writes_prefetch, for a batch of many. */
static void mutations_prefetch(struct log_engine *log, const struct engine_write *write,
                               uint32_t from)
{
    const struct node *roots[TREE_FIND_MANY_MAX];
    kvs_slice keys[TREE_FIND_MANY_MAX];
    unsigned count = 0;
    for (uint32_t i = from; i < write->mutations_count && count < TREE_FIND_MANY_MAX; i++) {
        roots[count] = log->working.families[write->mutations[i].family].root;
        keys[count++] = write->mutations[i].key;
    }
    tree_prefetch_change(&log->tree, roots, keys, count);
}

int apply_write(struct log_engine *log, struct engine_write *write)
{
    write->removed_count = 0;
    write->previous_found = false;
    write->previous = BUF_INIT;
    int error = conditions_check(log, write);
    if (error != 0)
        return error;
    struct batch batch = {.log = log, .write = write};
    for (uint32_t i = 0; i < write->mutations_count && error == 0; i++) {
        const kvs_mutation *mutation = &write->mutations[i];
        bool more = i + 1 < write->mutations_count;
        if (write->mutations_count > TREE_FIND_MANY_MAX && i % TREE_FIND_MANY_MAX == 0)
            mutations_prefetch(log, write, i);
        if (mutation->kind == KVS_MUTATION_SET)
            error = apply_set(&batch, mutation, more);
        else if (mutation->kind == KVS_MUTATION_REMOVE)
            error = apply_remove(&batch, mutation, more);
        else
            error = apply_remove_range(&batch, mutation, more);
    }
    batch_close(&batch);
    return error;
}

/* --- moves ------------------------------------------------------------------------------------ */

#define MOVE_PREFETCH_MAX 256u /* a longer record is copied with the processor's own foresight */

static int move_tombstone(struct log_engine *log, unsigned family, kvs_slice key)
{
    struct record record = {.kind = RECORD_REMOVE,
                            .family = (uint8_t)family,
                            .sequence = ++log->working.sequence,
                            .key = key};
    record_append(log, &record);
    return 0;
}

/* `entry` is what the tree has for the key, or had before this move. */
static int move_set(struct log_engine *log, const struct move_item *item, struct record *record,
                    struct entry *entry)
{
    struct tree_root *tree = &log->working.families[record->family];
    bool keep_removes = item->victim->keep_removes;
    uint64_t from = location_make(item->victim->segment->slot, item->offset);
    if (entry == NULL && victim_owes(item->victim, record->expires_at_ms != 0))
        return move_tombstone(log, record->family, record->key);
    if (entry == NULL || atomic_load_explicit(&entry->location, memory_order_relaxed) != from)
        return 0;
    if (entry_is_expired(entry, log->group_wall_ms)) {
        int error = tree_remove(&log->tree, &tree->root, record->key, &entry);
        if (error != 0)
            return error;
        error = entry_unlink(log, record->family, entry);
        if (error == 0 && !keep_removes)
            log->working.sequence++; /* no record, but a version of its own */
        if (error != 0 || !keep_removes)
            return error;
        return move_tombstone(log, record->family, record->key);
    }
    if (pointer_vector_push(&log->moved, (uintptr_t)entry) != 0)
        return KVS_ERR_NO_MEMORY;
    if (pointer_vector_push(&log->moved_from, from) != 0) {
        log->moved.count--;
        return KVS_ERR_NO_MEMORY;
    }
    record->more = false;
    record->sequence = ++log->working.sequence;
    uint64_t to = location_make(log->newest->slot, record_append(log, record));
    record_dead(log, entry);
    segment_entry_added(log, to);
    /* release: pairs with the readers' acquire, so that they find the bytes of the copy. */
    atomic_store_explicit(&entry->location, to, memory_order_release);
    segment_entry_gone(log, from);
    return 0;
}

/* Does a segment that stays hold a set older than a range removal? Of the victims that go, only
 * those could that are older than the one with the removal, and their files go before its own,
 * unless they go in any order. */
static bool older_set_exists(const struct log_engine *log, uint64_t sequence)
{
    const struct compaction *compaction = &log->compaction;
    for (const struct segment *at = log->oldest; at != NULL; at = at->next) {
        if ((!at->is_victim || compaction->in_any_order) &&
            at->accounts.set_sequence_min < sequence)
            return true;
    }
    for (unsigned i = 0; i < compaction->victims_count; i++) {
        const struct victim *victim = &compaction->victims[i];
        if (victim->stays && victim->segment->accounts.set_sequence_min < sequence)
            return true;
    }
    return false;
}

static int move_record(struct log_engine *log, const struct move_item *item, struct record *record,
                       struct entry *entry)
{
    if (record->kind == RECORD_SET)
        return move_set(log, item, record, entry);
    if (record->kind == RECORD_REMOVE) {
        if (item->victim->keep_removes &&
            tree_find(log->working.families[record->family].root, record->key) == NULL)
            return move_tombstone(log, record->family, record->key);
    } else if (record->kind == RECORD_REMOVE_RANGE) {
        record->more = false;
        if (older_set_exists(log, record->sequence))
            record_append(log, record); /* with its own sequence number */
    }
    return 0;
}

/* They lie anywhere in the victims' memory. */
static void records_prefetch(const struct move *move, uint32_t from)
{
    for (uint32_t i = from; i < move->count && i < from + TREE_FIND_MANY_MAX; i++) {
        const struct move_item *item = &move->items[i];
        for (uint32_t at = 0; at < item->size && at < MOVE_PREFETCH_MAX; at += 64)
            __builtin_prefetch(item->bytes + at);
    }
}

/* Parses the next records of a move, as far as they are of one family, and looks their keys up side
 * by side. Returns how many; 0: damaged, though checked by emptying.c. */
static unsigned move_find(struct log_engine *log, const struct move *move, uint32_t from,
                          struct record *records, struct entry **entries)
{
    kvs_slice keys[TREE_FIND_MANY_MAX];
    unsigned count = 0;
    while (count < TREE_FIND_MANY_MAX && from + count < move->count) {
        const struct move_item *item = &move->items[from + count];
        if (record_parse(slice_make(item->bytes, item->size), &records[count]) == 0)
            return 0;
        if (records[count].family != records[0].family)
            break;
        keys[count] = records[count].key;
        count++;
    }
    tree_find_many(log->working.families[records[0].family].root, keys, count, entries);
    return count;
}

int apply_move(struct log_engine *log, struct move *move)
{
    records_prefetch(move, 0);
    for (uint32_t i = 0; i < move->count;) {
        struct record records[TREE_FIND_MANY_MAX];
        struct entry *entries[TREE_FIND_MANY_MAX];
        unsigned count = move_find(log, move, i, records, entries);
        if (count == 0)
            return KVS_ERR_CORRUPTION;
        records_prefetch(move, i + count);
        for (unsigned n = 0; n < count; n++, i++) {
            int error = move_record(log, &move->items[i], &records[n], entries[n]);
            if (error != 0)
                return error;
        }
    }
    return 0;
}
