/*
 * engine/memory/memory.c: the engine without files: for tests the oracle, for users `memory:`.
 *
 * Simple before fast. All data of a moment is a struct engine_snapshot: one immutable tree per
 * family, reference-counted. A view, a snapshot and the engine itself hold references to one.
 *
 * The happy path of a write:
 *   1. any thread adds a chain of writes to the queue and wakes the worker;
 *   2. the worker, a thread of the engine, takes the whole queue as one group;
 *   3. each batch is checked and applied to trees that are not yet visible, sharing most of their
 *      nodes with the current ones; a batch that fails leaves them as they were;
 *   4. the new trees become the current ones;
 *   5. all batches of the group complete on their loops.
 * A read takes a reference to the current trees under the lock and then needs no lock.
 *
 * Failure: only NO_MEMORY, which refuses the batch or read that met it.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/memory/treap.h"
#include "engine/pool_read.h"
#include "engine/worker.h"

#include <assert.h>
#include <pthread.h>

struct engine_snapshot {
    _Atomic uint64_t refs;
    struct treap *trees[ENGINE_FAMILY_COUNT];
};

struct memory_engine {
    struct engine engine;
    kvs_thread_pool *pool;
    struct engine_worker worker;
    _Atomic uint64_t snapshots_taken;

    pthread_mutex_t lock;            /* guards all below */
    struct engine_snapshot *current; /* replaced by the worker only */
    uint64_t writes_count;
    uint64_t groups_count;
    uint64_t compactions_count;
};

static struct memory_engine *memory_of(struct engine *engine)
{
    return CONTAINER_OF(engine, struct memory_engine, engine);
}

/* --- versions of the data ---------------------------------------------------------------------*/

static void trees_ref(struct treap **to, struct treap *const *from)
{
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        to[i] = treap_ref(from[i]);
}

static void trees_unref(struct treap **trees)
{
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++)
        treap_unref(trees[i]);
}

static void snapshot_unref(struct engine_snapshot *snapshot)
{
    /* acq_rel: the last one out sees that the others have read to the end. */
    if (atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    trees_unref(snapshot->trees);
    mem_free(snapshot);
}

static struct engine_snapshot *snapshot_current(struct memory_engine *memory)
{
    pthread_mutex_lock(&memory->lock);
    struct engine_snapshot *snapshot = memory->current;
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed); /* under the lock */
    pthread_mutex_unlock(&memory->lock);
    return snapshot;
}

static int memory_snapshot_take(struct engine *engine, struct engine_snapshot **ret_snapshot)
{
    struct memory_engine *memory = memory_of(engine);
    *ret_snapshot = snapshot_current(memory);
    atomic_fetch_add_explicit(&memory->snapshots_taken, 1, memory_order_relaxed); /* a figure */
    return 0;
}

static void memory_snapshot_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct memory_engine *memory = memory_of(engine);
    atomic_fetch_sub_explicit(&memory->snapshots_taken, 1, memory_order_relaxed); /* a figure */
    snapshot_unref(snapshot);
}

/* --- reading ----------------------------------------------------------------------------------*/

/* A view keeps its data and the time it began: what has expired by then it does not see. */
static int memory_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                             struct engine_view *view)
{
    struct engine_snapshot *data = (struct engine_snapshot *)snapshot;
    if (data == NULL)
        data = snapshot_current(memory_of(engine));
    else /* relaxed: the caller holds a reference */
        atomic_fetch_add_explicit(&data->refs, 1, memory_order_relaxed);
    view->state[0] = data;
    view->state[1] = (void *)(uintptr_t)clock_wall_ms();
    return 0;
}

static void memory_view_end(struct engine_view *view)
{
    snapshot_unref(view->state[0]);
}

static const struct treap *view_tree(const struct engine_view *view, unsigned family)
{
    assert(family < ENGINE_FAMILY_COUNT);
    return ((const struct engine_snapshot *)view->state[0])->trees[family];
}

static bool entry_is_live(const struct entry *entry, uint64_t now_ms)
{
    return entry->expires_ms == 0 || entry->expires_ms > now_ms;
}

static struct entry *find_live(const struct treap *tree, kvs_slice key, uint64_t now_ms)
{
    struct entry *entry = treap_find(tree, key);
    return entry != NULL && entry_is_live(entry, now_ms) ? entry : NULL;
}

static void entry_unpin(void *entry)
{
    entry_unref(entry);
}

static int memory_get(struct engine_view *view, unsigned family, kvs_slice key,
                      kvs_slice *ret_value, struct engine_pin *ret_pin)
{
    struct entry *entry = find_live(view_tree(view, family), key, (uintptr_t)view->state[1]);
    if (entry == NULL)
        return KVS_ERR_NOT_FOUND;
    *ret_value = entry_value(entry);
    if (ret_pin != NULL)
        *ret_pin = (struct engine_pin){.unpin = entry_unpin, .block = entry_ref(entry)};
    return 0;
}

static void memory_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys,
                            unsigned count, kvs_slice *ret_values, int *ret_errors,
                            struct engine_pin *ret_pins)
{
    for (unsigned i = 0; i < count; i++)
        ret_errors[i] = memory_get(view, family, keys[i], &ret_values[i],
                                   ret_pins != NULL ? &ret_pins[i] : NULL);
}

static int memory_expiry(struct engine_view *view, unsigned family, kvs_slice key,
                         uint64_t *ret_expires_at_ms)
{
    const struct entry *entry = find_live(view_tree(view, family), key, (uintptr_t)view->state[1]);
    if (entry == NULL)
        return KVS_ERR_NOT_FOUND;
    *ret_expires_at_ms = entry->expires_ms;
    return 0;
}

struct scan {
    engine_scan_fn *each;
    void *arg;
    uint64_t now_ms;
    const struct engine_range *range;
};

static int scan_entry(void *arg, const struct entry *entry)
{
    const struct scan *scan = arg;
    if (!entry_is_live(entry, scan->now_ms))
        return 0;
    kvs_slice value = scan->range->keys_only ? (kvs_slice){0} : entry_value(entry);
    if (scan->range->sizes_only)
        value.data = NULL;
    return scan->each(scan->arg, entry_key(entry), value);
}

static int memory_scan(struct engine_view *view, const struct engine_range *range,
                       engine_scan_fn *each, void *arg)
{
    struct scan scan = {
        .each = each, .arg = arg, .now_ms = (uintptr_t)view->state[1], .range = range};
    return treap_walk(view_tree(view, range->family), range->start, range->end, range->reverse,
                      scan_entry, &scan);
}

struct live_count {
    uint64_t now_ms;
    uint64_t count;
};

static int count_entry(void *arg, const struct entry *entry)
{
    struct live_count *live = arg;
    live->count += entry_is_live(entry, live->now_ms);
    return 0;
}

static uint64_t count_live(const struct treap *tree, kvs_slice start, kvs_slice end,
                           uint64_t now_ms)
{
    struct live_count live = {.now_ms = now_ms};
    treap_walk(tree, start, end, false, count_entry, &live);
    return live.count;
}

static int memory_count(struct engine_view *view, const struct engine_range *range,
                        uint64_t *ret_count)
{
    *ret_count = count_live(view_tree(view, range->family), range->start, range->end,
                            (uintptr_t)view->state[1]);
    return 0;
}

static void memory_read(struct engine *engine, struct engine_read *read)
{
    pool_read_submit(memory_of(engine)->pool, engine, read);
}

/* --- writing: the worker ----------------------------------------------------------------------*/

static int write_check(const struct engine_write *write, struct treap *const *trees,
                       uint64_t now_ms)
{
    for (uint32_t i = 0; i < write->conditions_count; i++) {
        const struct engine_condition *condition = &write->conditions[i];
        const struct entry *entry = find_live(trees[condition->family], condition->key, now_ms);
        if (condition->kind == ENGINE_CONDITION_ABSENT) {
            if (entry != NULL)
                return KVS_ERR_ALREADY_EXISTS;
        } else if (condition->kind == ENGINE_CONDITION_EXISTS) {
            if (entry == NULL)
                return KVS_ERR_NOT_FOUND;
        } else if (entry == NULL || !slice_equal(entry_value(entry), condition->value)) {
            return KVS_ERR_CONDITION_FAILED;
        }
    }
    return 0;
}

static int write_give_previous(struct engine_write *write, struct treap *const *trees,
                               unsigned family, kvs_slice key, uint64_t now_ms)
{
    const struct entry *entry = find_live(trees[family], key, now_ms);
    if (entry == NULL)
        return 0;
    int error = buf_append_slice(&write->previous, entry_value(entry));
    write->previous_found = error == 0;
    return error;
}

/* One mutation of a tree, which is replaced; false: no memory, then it is gone. */
static bool mutation_apply(const kvs_mutation *mutation, struct treap **tree, uint64_t now_ms,
                           uint64_t *removed)
{
    struct treap *before = *tree;
    *tree = NULL;
    switch (mutation->kind) {
    case KVS_MUTATION_SET: {
        uint64_t expires_ms = mutation->ttl_ms > 0 ? now_ms + mutation->ttl_ms : 0;
        return treap_set(before, mutation->key, mutation->value, expires_ms, tree);
    }
    case KVS_MUTATION_REMOVE:
        *removed += find_live(before, mutation->key, now_ms) != NULL;
        return treap_remove(before, mutation->key, tree);
    default:
        assert(mutation->kind == KVS_MUTATION_REMOVE_RANGE);
        *removed += count_live(before, mutation->key, mutation->value, now_ms);
        return treap_remove_range(before, mutation->key, mutation->value, tree);
    }
}

/* Applies a batch to the trees: wholly, or not at all. */
static int write_apply(struct engine_write *write, struct treap **trees, uint64_t now_ms)
{
    write->previous_found = false;
    write->previous = BUF_INIT;
    write->removed_count = 0;
    bool want_previous = (write->flags & ENGINE_WRITE_WANT_PREVIOUS) != 0;
    int error = write_check(write, trees, now_ms);
    if (error != 0) {
        const struct engine_condition *first = &write->conditions[0];
        if (want_previous && write_give_previous(write, trees, first->family, first->key, now_ms))
            return KVS_ERR_NO_MEMORY;
        return error;
    }
    if (want_previous && write->mutations_count > 0)
        error = write_give_previous(write, trees, write->mutations[0].family,
                                    write->mutations[0].key, now_ms);
    struct treap *changed[ENGINE_FAMILY_COUNT];
    trees_ref(changed, trees);
    uint64_t removed = 0;
    for (uint32_t i = 0; i < write->mutations_count && error == 0; i++) {
        const kvs_mutation *mutation = &write->mutations[i];
        assert(mutation->family < ENGINE_FAMILY_COUNT);
        if (!mutation_apply(mutation, &changed[mutation->family], now_ms, &removed))
            error = KVS_ERR_NO_MEMORY;
    }
    if (error != 0) {
        trees_unref(changed);
        buf_deinit(&write->previous);
        write->previous_found = false;
        return error;
    }
    trees_unref(trees);
    memcpy(trees, changed, sizeof changed);
    write->removed_count = removed;
    return 0;
}

/* Makes trees the current ones; takes them. */
static void memory_publish(struct memory_engine *memory, struct engine_snapshot *next)
{
    pthread_mutex_lock(&memory->lock);
    struct engine_snapshot *last = memory->current;
    memory->current = next;
    pthread_mutex_unlock(&memory->lock);
    snapshot_unref(last);
}

/* A copy of what is current, which costs as many references as there are families. */
static struct engine_snapshot *memory_next(struct memory_engine *memory)
{
    struct engine_snapshot *next = mem_zalloc(sizeof *next);
    if (next == NULL)
        return NULL;
    atomic_init(&next->refs, 1);
    if (memory->current != NULL)
        trees_ref(next->trees, memory->current->trees);
    return next;
}

static void memory_write_group(struct memory_engine *memory, struct task_list *writes,
                               struct completions *completions)
{
    if (writes->first == NULL)
        return;
    struct engine_snapshot *next = memory_next(memory);
    uint64_t now_ms = clock_wall_ms();
    uint64_t count = 0;
    struct task_list done = *writes;
    for (struct task *task = done.first; task != NULL; task = task->next, count++) {
        struct engine_write *write = CONTAINER_OF(task, struct engine_write, op.task);
        write->op.error =
            next != NULL ? write_apply(write, next->trees, now_ms) : KVS_ERR_NO_MEMORY;
    }
    if (next != NULL)
        memory_publish(memory, next);
    pthread_mutex_lock(&memory->lock);
    memory->writes_count += count;
    memory->groups_count++;
    pthread_mutex_unlock(&memory->lock);
    struct task *task;
    while ((task = task_list_pop(&done)) != NULL) {
        struct op *op = CONTAINER_OF(task, struct op, task);
        completions_add(completions, op, op->error);
    }
}

/* --- maintenance: the worker too --------------------------------------------------------------*/

struct expired {
    uint64_t now_ms;
    struct treap *kept;
    bool no_memory;
};

static int expired_remove(void *arg, const struct entry *entry)
{
    struct expired *expired = arg;
    if (entry_is_live(entry, expired->now_ms))
        return 0;
    struct treap *kept = expired->kept;
    expired->kept = NULL;
    expired->no_memory = !treap_remove(kept, entry_key(entry), &expired->kept);
    return expired->no_memory;
}

/* The space of dead records: here only expired keys still have some. */
static int memory_compact(struct memory_engine *memory)
{
    struct engine_snapshot *next = memory_next(memory);
    if (next == NULL)
        return KVS_ERR_NO_MEMORY;
    uint64_t now_ms = clock_wall_ms();
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++) {
        struct expired expired = {.now_ms = now_ms, .kept = next->trees[i]};
        /* The tree that is walked is the current one, which stays as it is. */
        treap_walk(memory->current->trees[i], (kvs_slice){0}, (kvs_slice){0}, false, expired_remove,
                   &expired);
        next->trees[i] = expired.kept;
        if (expired.no_memory) {
            snapshot_unref(next);
            return KVS_ERR_NO_MEMORY;
        }
    }
    memory_publish(memory, next);
    pthread_mutex_lock(&memory->lock);
    memory->compactions_count++;
    pthread_mutex_unlock(&memory->lock);
    return 0;
}

static int memory_run_control(struct memory_engine *memory, const struct engine_control *control)
{
    switch (control->kind) {
    case ENGINE_CONTROL_SYNC:
        return 0;
    case ENGINE_CONTROL_COMPACT:
        return memory_compact(memory);
    default:
        return KVS_ERR_UNSUPPORTED;
    }
}

static uint64_t memory_run(struct engine_worker *worker, struct task_list *writes,
                           struct task_list *controls)
{
    struct memory_engine *memory = CONTAINER_OF(worker, struct memory_engine, worker);
    struct completions completions = COMPLETIONS_INIT;
    struct task *task;
    memory_write_group(memory, writes, &completions);
    while ((task = task_list_pop(controls)) != NULL) {
        struct engine_control *control = CONTAINER_OF(task, struct engine_control, op.task);
        completions_add(&completions, &control->op, memory_run_control(memory, control));
    }
    completions_flush(&completions);
    return 0;
}

/* --- submission, statistics, life -------------------------------------------------------------*/

static void memory_write(struct engine *engine, struct task_list *writes)
{
    engine_worker_write(&memory_of(engine)->worker, writes);
}

static void memory_control(struct engine *engine, struct engine_control *control)
{
    engine_worker_control(&memory_of(engine)->worker, control);
}

static void memory_stats(struct engine *engine, struct engine_stats *ret_stats)
{
    struct memory_engine *memory = memory_of(engine);
    *ret_stats = (struct engine_stats){0};
    pthread_mutex_lock(&memory->lock);
    for (unsigned i = 0; i < ENGINE_FAMILY_COUNT; i++) {
        ret_stats->keys += treap_count(memory->current->trees[i]);
        ret_stats->live_bytes += treap_bytes(memory->current->trees[i]);
    }
    ret_stats->own_keys = treap_count(memory->current->trees[ENGINE_FAMILY_DEFAULT]);
    ret_stats->writes = memory->writes_count;
    ret_stats->groups = memory->groups_count;
    ret_stats->compactions = memory->compactions_count;
    pthread_mutex_unlock(&memory->lock);
    ret_stats->cache_bytes = ret_stats->live_bytes;
    /* relaxed: a figure */
    ret_stats->snapshots = atomic_load_explicit(&memory->snapshots_taken, memory_order_relaxed);
}

static int memory_close_blocking(struct engine *engine)
{
    struct memory_engine *memory = memory_of(engine);
    engine_worker_stop(&memory->worker);
    snapshot_unref(memory->current);
    pthread_mutex_destroy(&memory->lock);
    kvs_thread_pool_unref(memory->pool);
    mem_free(memory);
    return 0;
}

static const struct engine_methods memory_methods = {
    .name = "memory",
    .view_begin = memory_view_begin,
    .view_end = memory_view_end,
    .get = memory_get,
    .get_many = memory_get_many,
    .expiry = memory_expiry,
    .scan = memory_scan,
    .count = memory_count,
    .snapshot_take = memory_snapshot_take,
    .snapshot_release = memory_snapshot_release,
    .read = memory_read,
    .write = memory_write,
    .control = memory_control,
    .stats = memory_stats,
    .close_blocking = memory_close_blocking,
};

int memory_engine_open_blocking(const struct engine_options *options, struct engine **ret_engine,
                                struct engine_message *ret_message)
{
    ret_message->text[0] = '\0';
    struct memory_engine *memory = mem_zalloc(sizeof *memory);
    if (memory == NULL)
        return KVS_ERR_NO_MEMORY;
    memory->current = memory_next(memory);
    if (memory->current == NULL) {
        mem_free(memory);
        return KVS_ERR_NO_MEMORY;
    }
    memory->engine =
        (struct engine){.methods = &memory_methods, .capabilities = ENGINE_CAP_IN_MEMORY};
    pthread_mutex_init(&memory->lock, NULL); /* cannot fail on Linux */
    memory->worker.run = memory_run;
    int error = engine_worker_start(&memory->worker, "kvs-memory");
    if (error != 0) {
        snapshot_unref(memory->current);
        pthread_mutex_destroy(&memory->lock);
        mem_free(memory);
        return error;
    }
    memory->pool = kvs_thread_pool_ref(options->pool);
    *ret_engine = &memory->engine;
    return 0;
}
