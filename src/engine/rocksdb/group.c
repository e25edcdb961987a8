/*
 * engine/rocksdb/group.c: the worker: batches, their preconditions, one write for all that wait.
 *
 * The happy path:
 *   1. the worker takes all writes that wait, and cuts them into groups of about 2 MiB;
 *   2. batch after batch is checked and added to one RocksDB write batch;
 *   3. that is written, with one sync when the policy is "always";
 *   4. a snapshot of the new state becomes what views begin on;
 *   5. all ops of the group complete on their loops.
 *
 * A batch may ask what is there (preconditions, the value before, how many keys it removes), and
 * must see what batches before it in its group do, which RocksDB does not have yet. So when any
 * batch of a group asks, the group keeps what it has done so far in trees beside the write batch,
 * and looks there first. A removed key is there as one that expired long ago.
 *
 * A range is removed key by key when it holds few, and else by one range tombstone: RocksDB reads
 * around many of those slowly.
 *
 * Failure: a batch that fails is taken out of the group, which goes on. When the write fails, all
 * ops of the group fail; if it was not for want of space, the engine takes no more writes.
 */
#include "engine/rocksdb/rocksdb_engine.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/slice.h"
#include "engine/memory/treap.h"

#include <assert.h>
#include <string.h>

#define GROUP_SIZE_MAX (2u * 1024 * 1024) /* then it is written: its first op has waited enough */
#define REMOVE_ONE_BY_ONE_MAX 16u
#define REMOVED_MS 1 /* the end of life of what the group has removed */

/* A range that the group removes by a tombstone; its bounds are the op's. */
struct removed_range {
    unsigned family;
    kvs_slice start;
    kvs_slice end;
};

struct group {
    struct rocks_engine *rocks;
    rocksdb_writebatch_t *batch;
    struct engine_snapshot *next; /* what is current when the group is written */
    struct task_list done;
    size_t size_bytes;
    uint64_t now_ms;
    bool asks; /* some batch asks what is there: trees and ranges are kept */
    struct treap *trees[ENGINE_FAMILY_COUNT]; /* over the ranges, which are over the database */
    struct removed_range *ranges;
    size_t ranges_count;
    size_t ranges_room;
};

/* --- what is there, the group's batches included ---------------------------------------------- */

/* What a key has: in the group's trees or pinned in RocksDB. */
struct found {
    bool stored; /* in the trees or in RocksDB, expired perhaps */
    bool live;
    kvs_slice value;
    rocksdb_pinnableslice_t *pin;
};

static void found_deinit(struct found *found)
{
    if (found->pin != NULL)
        rocksdb_pinnableslice_destroy(found->pin);
}

static bool range_has(const struct removed_range *range, unsigned family, kvs_slice key)
{
    return range->family == family && slice_compare(range->start, key) <= 0 &&
           (range->end.size == 0 || slice_compare(key, range->end) < 0);
}

static bool group_has_removed(const struct group *group, unsigned family, kvs_slice key)
{
    for (size_t i = 0; i < group->ranges_count; i++)
        if (range_has(&group->ranges[i], family, key))
            return true;
    return false;
}

static int found_in_database(struct group *group, unsigned family, kvs_slice key,
                             struct found *found)
{
    struct stored_key stored;
    int error = stored_key_init(&stored, family, key);
    if (error != 0)
        return error;
    char *text = NULL;
    found->pin =
        rocksdb_get_pinned(group->rocks->db, group->rocks->newest, stored.data, stored.size, &text);
    stored_key_deinit(&stored);
    if (found->pin == NULL)
        return rocks_error_logged(group->rocks, "reading before a write", text);
    size_t size;
    const char *data = rocksdb_pinnableslice_value(found->pin, &size);
    uint64_t expires_ms;
    error = stored_value_decode(slice_make(data, size), &expires_ms, &found->value);
    if (error != 0) {
        found_deinit(found);
        return error;
    }
    found->stored = true;
    found->live = !is_over(expires_ms, group->now_ms);
    return 0;
}

/* On success the caller deinits *ret_found. */
static int group_find(struct group *group, unsigned family, kvs_slice key, struct found *ret_found)
{
    *ret_found = (struct found){0};
    const struct entry *entry = treap_find(group->trees[family], key);
    if (entry != NULL) {
        ret_found->stored = true;
        ret_found->live = !is_over(entry->expires_ms, group->now_ms);
        ret_found->value = entry_value(entry);
        return 0;
    }
    if (group_has_removed(group, family, key))
        return 0;
    return found_in_database(group, family, key, ret_found);
}

/* Notes what a key has from here on, for those who ask. */
static int group_note(struct group *group, unsigned family, kvs_slice key, kvs_slice value,
                      uint64_t expires_ms)
{
    if (!group->asks)
        return 0;
    struct treap *before = group->trees[family];
    group->trees[family] = NULL;
    return treap_set(before, key, value, expires_ms, &group->trees[family]) ? 0 : KVS_ERR_NO_MEMORY;
}

/* --- mutations -------------------------------------------------------------------------------- */

static void batch_put(struct group *group, const kvs_mutation *mutation, uint64_t expires_ms)
{
    const char family = (char)mutation->family;
    uint8_t header[STORED_HEADER_MAX];
    size_t header_size = stored_header_encode(header, expires_ms);
    const char *key[] = {&family, (const char *)mutation->key.data};
    const size_t key_sizes[] = {1, mutation->key.size};
    const char *value[] = {(const char *)header,
                           mutation->value.size > 0 ? (const char *)mutation->value.data : ""};
    const size_t value_sizes[] = {header_size, mutation->value.size};
    rocksdb_writebatch_putv(group->batch, 2, key, key_sizes, 2, value, value_sizes);
}

static void batch_delete(struct group *group, unsigned family_number, kvs_slice key)
{
    const char family = (char)family_number;
    const char *parts[] = {&family, (const char *)key.data};
    const size_t sizes[] = {1, key.size};
    rocksdb_writebatch_deletev(group->batch, 2, parts, sizes);
}

static int mutation_set(struct group *group, const kvs_mutation *mutation)
{
    uint64_t expires_ms = mutation->ttl_ms > 0 ? group->now_ms + mutation->ttl_ms : 0;
    batch_put(group, mutation, expires_ms);
    return group_note(group, mutation->family, mutation->key, mutation->value, expires_ms);
}

static int mutation_remove(struct group *group, const kvs_mutation *mutation, uint64_t *removed)
{
    struct found found;
    int error = group_find(group, mutation->family, mutation->key, &found);
    if (error != 0)
        return error;
    found_deinit(&found);
    if (!found.stored)
        return 0;
    *removed += found.live;
    batch_delete(group, mutation->family, mutation->key);
    return group_note(group, mutation->family, mutation->key, (kvs_slice){0}, REMOVED_MS);
}

/* The keys of a range that the database has, beneath what the group has done. */
struct range_walk {
    struct group *group;
    unsigned family;
    const struct treap *tree; /* of the family, before the removal */
    uint64_t live;
    size_t stored;
};

static int range_walk_database(void *arg, kvs_slice key, uint64_t expires_ms, kvs_slice value)
{
    struct range_walk *walk = arg;
    if (treap_find(walk->tree, key) != NULL || group_has_removed(walk->group, walk->family, key))
        return 0;
    walk->live += !is_over(expires_ms, walk->group->now_ms);
    if (++walk->stored > REMOVE_ONE_BY_ONE_MAX)
        return 0;
    batch_delete(walk->group, walk->family, key);
    return group_note(walk->group, walk->family, key, (kvs_slice){0}, REMOVED_MS);
}

static int range_walk_tree(void *arg, const struct entry *entry)
{
    struct range_walk *walk = arg;
    if (entry->expires_ms == REMOVED_MS)
        return 0; /* deleted in the batch already */
    walk->live += !is_over(entry->expires_ms, walk->group->now_ms);
    batch_delete(walk->group, walk->family, entry_key(entry));
    return group_note(walk->group, walk->family, entry_key(entry), (kvs_slice){0}, REMOVED_MS);
}

/* Is there nothing beneath the trees, because the group has removed all of it? */
static bool range_is_removed(const struct group *group, unsigned family, kvs_slice start,
                             kvs_slice end)
{
    for (size_t i = 0; i < group->ranges_count; i++) {
        const struct removed_range *range = &group->ranges[i];
        if (range->family == family && slice_compare(range->start, start) <= 0 &&
            (range->end.size == 0 || (end.size > 0 && slice_compare(end, range->end) <= 0)))
            return true;
    }
    return false;
}

static int ranges_add(struct group *group, unsigned family, kvs_slice start, kvs_slice end)
{
    if (group->ranges_count == group->ranges_room) {
        size_t room = group->ranges_room > 0 ? 2 * group->ranges_room : 8;
        void *ranges = mem_realloc(group->ranges, room * sizeof *group->ranges);
        if (ranges == NULL)
            return KVS_ERR_NO_MEMORY;
        group->ranges = ranges;
        group->ranges_room = room;
    }
    group->ranges[group->ranges_count++] = (struct removed_range){family, start, end};
    return 0;
}

/* One tombstone for the whole range, behind what was added for its first keys. */
static int range_entomb(struct group *group, unsigned family, kvs_slice start, kvs_slice end)
{
    struct stored_key first;
    struct stored_key behind;
    int error = stored_key_init(&first, family, start);
    if (error != 0)
        return error;
    error = stored_key_init(&behind, family, end);
    if (error == 0) {
        if (end.size == 0)
            behind.data[0]++;
        rocksdb_writebatch_delete_range(group->batch, first.data, first.size, behind.data,
                                        behind.size);
        stored_key_deinit(&behind);
    }
    stored_key_deinit(&first);
    return error != 0 ? error : ranges_add(group, family, start, end);
}

static int mutation_remove_range(struct group *group, const kvs_mutation *mutation,
                                 uint64_t *removed)
{
    unsigned family = mutation->family;
    const struct engine_range range = {
        .family = mutation->family, .start = mutation->key, .end = mutation->value};
    if (range.end.size > 0 && slice_compare(range.start, range.end) >= 0)
        return 0;
    struct treap *before = treap_ref(group->trees[family]); /* walked while the tree changes */
    struct range_walk walk = {.group = group, .family = family, .tree = before};
    int error = 0;
    if (!range_is_removed(group, family, range.start, range.end))
        error = stored_scan(group->rocks->db, NULL, true, &range, range_walk_database, &walk);
    if (error == 0)
        error = treap_walk(before, range.start, range.end, false, range_walk_tree, &walk);
    treap_unref(before);
    if (error == 0 && walk.stored > REMOVE_ONE_BY_ONE_MAX)
        error = range_entomb(group, family, range.start, range.end);
    *removed += walk.live;
    return error;
}

static int mutation_apply(struct group *group, const kvs_mutation *mutation, uint64_t *removed)
{
    assert(mutation->family < ENGINE_FAMILY_COUNT);
    switch (mutation->kind) {
    case KVS_MUTATION_SET:
        return mutation_set(group, mutation);
    case KVS_MUTATION_REMOVE:
        return mutation_remove(group, mutation, removed);
    default:
        assert(mutation->kind == KVS_MUTATION_REMOVE_RANGE);
        return mutation_remove_range(group, mutation, removed);
    }
}

/* --- batches ---------------------------------------------------------------------------------- */

static int condition_check(struct group *group, const struct engine_condition *condition)
{
    struct found found;
    int error = group_find(group, condition->family, condition->key, &found);
    if (error != 0)
        return error;
    if (condition->kind == ENGINE_CONDITION_ABSENT)
        error = found.live ? KVS_ERR_ALREADY_EXISTS : 0;
    else if (condition->kind == ENGINE_CONDITION_EXISTS)
        error = found.live ? 0 : KVS_ERR_NOT_FOUND;
    else if (!found.live || !slice_equal(found.value, condition->value))
        error = KVS_ERR_CONDITION_FAILED;
    found_deinit(&found);
    return error;
}

/* A condition that does not hold, as opposed to one that could not be looked at. */
static bool is_refusal(int error)
{
    return error == KVS_ERR_ALREADY_EXISTS || error == KVS_ERR_NOT_FOUND ||
           error == KVS_ERR_CONDITION_FAILED;
}

static int write_give_previous(struct group *group, struct engine_write *write, unsigned family,
                               kvs_slice key)
{
    struct found found;
    int error = group_find(group, family, key, &found);
    if (error != 0)
        return error;
    if (found.live) {
        error = buf_append_slice(&write->previous, found.value);
        write->previous_found = error == 0;
    }
    found_deinit(&found);
    return error;
}

static int write_check(struct group *group, struct engine_write *write)
{
    int error = 0;
    for (uint32_t i = 0; i < write->conditions_count && error == 0; i++)
        error = condition_check(group, &write->conditions[i]);
    if ((write->flags & ENGINE_WRITE_WANT_PREVIOUS) == 0 || (error != 0 && !is_refusal(error)))
        return error;
    int failed = 0;
    if (error != 0)
        failed = write_give_previous(group, write, write->conditions[0].family,
                                     write->conditions[0].key);
    else if (write->mutations_count > 0)
        failed =
            write_give_previous(group, write, write->mutations[0].family, write->mutations[0].key);
    return failed != 0 ? failed : error;
}

static int write_apply(struct group *group, struct engine_write *write)
{
    int error = write_check(group, write);
    uint64_t removed = 0;
    for (uint32_t i = 0; i < write->mutations_count && error == 0; i++)
        error = mutation_apply(group, &write->mutations[i], &removed);
    if (error == 0)
        write->removed_count = removed;
    return error;
}

static void trees_unref(struct treap **trees)
{
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        treap_unref(trees[i]);
}

/* Adds a batch to the group: wholly, or not at all. */
static void group_add(struct group *group, struct engine_write *write)
{
    struct treap *trees[ENGINE_FAMILY_COUNT];
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        trees[i] = treap_ref(group->trees[i]);
    size_t ranges_count = group->ranges_count;
    rocksdb_writebatch_set_save_point(group->batch);
    int error = write_apply(group, write);
    char *text = NULL;
    if (error == 0) {
        rocksdb_writebatch_pop_save_point(group->batch, &text);
    } else {
        rocksdb_writebatch_rollback_to_save_point(group->batch, &text);
        trees_unref(group->trees);
        memcpy(group->trees, trees, sizeof trees);
        memset((void *)trees, 0, sizeof trees);
        group->ranges_count = ranges_count;
    }
    assert(text == NULL && "the save point was set above");
    trees_unref(trees);
    if (error != 0 && !is_refusal(error)) {
        buf_deinit(&write->previous);
        write->previous_found = false;
    }
    write->op.error = error;
}

/* --- groups ----------------------------------------------------------------------------------- */

static void group_complete(struct group *group, int error)
{
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    while ((task = task_list_pop(&group->done)) != NULL) {
        struct op *op = CONTAINER_OF(task, struct op, task);
        if (error != 0) {
            struct engine_write *write = CONTAINER_OF(op, struct engine_write, op);
            buf_deinit(&write->previous);
            write->previous_found = false;
        }
        completions_add(&completions, op, error != 0 ? error : op->error);
    }
    completions_flush(&completions);
}

/* The fault points stand for what RocksDB's file calls may answer. */
static int database_write(struct rocks_engine *rocks, rocksdb_writebatch_t *batch)
{
    if (fault_hit(FAULT_FILE_SPACE))
        return KVS_ERR_NO_SPACE;
    if (fault_hit(FAULT_FILE_WRITE) ||
        (rocks->sync == KVS_SYNC_ALWAYS && fault_hit(FAULT_FILE_SYNC)))
        return KVS_ERR_IO;
    char *text = NULL;
    rocksdb_write(rocks->db, rocks->write_options, batch, &text);
    return rocks_error_logged(rocks, "writing", text);
}

static int group_write(struct group *group)
{
    struct rocks_engine *rocks = group->rocks;
    if (rocksdb_writebatch_count(group->batch) == 0) /* answers only */
        return 0;
    int error = database_write(rocks, group->batch);
    if (error != 0 && error != KVS_ERR_NO_SPACE)
        rocks_fail(rocks, "writing", error);
    if (error != 0)
        return error;
    rocks_count_up(&rocks->groups, 1);
    if (rocks->sync == KVS_SYNC_ALWAYS)
        rocks_count_up(&rocks->syncs, 1);
    else if (rocks->sync == KVS_SYNC_INTERVAL && rocks->sync_due_ms == 0)
        rocks->sync_due_ms = clock_now_ms() + rocks->sync_interval_ms;
    snapshot_fix(group->next);
    snapshot_publish(rocks, group->next);
    group->next = NULL;
    return 0;
}

static void group_end(struct group *group)
{
    int error = group_write(group);
    if (group->next != NULL)
        snapshot_unref(group->next);
    trees_unref(group->trees);
    mem_free(group->ranges);
    rocksdb_writebatch_destroy(group->batch);
    group_complete(group, error);
}

static bool write_asks(const struct engine_write *write)
{
    if (write->conditions_count > 0 || (write->flags & ENGINE_WRITE_WANT_PREVIOUS) != 0)
        return true;
    for (uint32_t i = 0; i < write->mutations_count; i++)
        if (write->mutations[i].kind != KVS_MUTATION_SET)
            return true;
    return false;
}

static size_t write_size(const struct engine_write *write)
{
    size_t size = 0;
    for (uint32_t i = 0; i < write->mutations_count; i++)
        size += write->mutations[i].key.size + write->mutations[i].value.size + 32;
    return size;
}

/* Moves a group's share of the writes to group->done. */
static void group_cut(struct group *group, struct task_list *writes)
{
    uint64_t count = 0;
    while (writes->first != NULL && group->size_bytes < GROUP_SIZE_MAX) {
        struct task *task = task_list_pop(writes);
        struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
        write->previous_found = false;
        write->previous = BUF_INIT;
        write->removed_count = 0;
        group->asks = group->asks || write_asks(write);
        group->size_bytes += write_size(write);
        task_list_push(&group->done, task);
        count++;
    }
    rocks_count_up(&group->rocks->writes, count);
}

static void group_run(struct rocks_engine *rocks, struct task_list *writes)
{
    struct group group = {.rocks = rocks, .now_ms = clock_wall_ms()};
    group_cut(&group, writes);
    group.next = rocks_has_failed(rocks) ? NULL : snapshot_new(rocks);
    if (group.next == NULL) {
        group_complete(&group,
                       rocks_has_failed(rocks) ? KVS_ERR_STORAGE_FAILED : KVS_ERR_NO_MEMORY);
        return;
    }
    group.batch = rocksdb_writebatch_create();
    for (struct task *task = group.done.first; task != NULL; task = task->next)
        group_add(&group, CONTAINER_OF(task, struct engine_write, op.task));
    group_end(&group);
}

void groups_write(struct rocks_engine *rocks, struct task_list *writes)
{
    while (writes->first != NULL)
        group_run(rocks, writes);
}
