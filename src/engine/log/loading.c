/* engine/log/loading.c: see engine/log/loading.h. */
#include "engine/log/loading.h"

#include "base/fault.h"
#include "base/mem.h"
#include "engine/log/hint_file.h"
#include "engine/log/merge.h"
#include "engine/log/overlap.h"
#include "engine/log/range_sweep.h"
#include "engine/log/team.h"
#include "engine/log/upkeep.h"
#include "engine/pool_read.h"
#include "runtime/futex.h"

#include <unistd.h>

#define BYTES_PER_HAND (1024u * 1024)

/* What a loop may go through for one key; more of them are for the pool. */
#define LOOP_SOURCES_MAX 64u
#define LOOP_RANGES_MAX 1024u

/* A segment and what is known of its keys. */
struct source {
    struct segment *segment;
    struct hint hint; /* its items may not be there: then `fd` has them */
    int fd;
    struct hint made; /* from the records, where the hint did not count */
    /* Which of the two has all its items; NULL: none yet. Released by who read them. */
    _Atomic(const struct hint *) whole;
    int error;
};

struct loading {
    struct log_engine *log;
    struct range_list ranges; /* of all segments; set before anybody looks for a key */
    _Atomic size_t next;      /* how many sources have found a hand, the newest first */
    size_t count;
    struct source sources[];
};

struct loading *loading_new(size_t count)
{
    return mem_zalloc(sizeof(struct loading) + count * sizeof(struct source));
}

void loading_add(struct loading *loading, struct segment *segment, struct hint *hint, int fd)
{
    struct source *source = &loading->sources[loading->count++];
    source->segment = segment;
    source->hint = *hint;
    source->fd = fd;
    *hint = (struct hint){0};
    atomic_init(&source->whole, fd < 0 ? &source->hint : NULL);
}

void loading_free(struct loading *loading)
{
    if (loading == NULL)
        return;
    for (size_t i = 0; i < loading->count; i++) {
        struct source *source = &loading->sources[i];
        if (source->fd >= 0)
            close(source->fd);
        hint_deinit(&source->hint);
        hint_deinit(&source->made);
    }
    range_list_deinit(&loading->ranges);
    mem_free(loading);
}

static bool range_has(const struct range_removal *range, unsigned family, kvs_slice key)
{
    return range->family == family && slice_compare(range->start, key) <= 0 &&
           (range->end.size == 0 || slice_compare(key, range->end) < 0);
}

int loading_begin(struct loading *loading, struct log_engine *log)
{
    loading->log = log;
    atomic_store_explicit(&log->loading, loading, memory_order_seq_cst);
    for (size_t i = 0; i < loading->count; i++) {
        int error = range_list_add_all(&loading->ranges, loading->sources[i].hint.ranges);
        if (error != 0)
            return error;
    }
    return 0;
}

bool loading_is_small(const struct loading *loading)
{
    uint64_t items = 0;
    for (size_t i = 0; i < loading->count; i++)
        items += loading->sources[i].hint.count;
    return items <= LOADING_SMALL_ITEMS && !fault_gate_is_there();
}

/* --- making the index ------------------------------------------------------------------------- */

static bool is_closing(struct log_engine *log)
{
    /* relaxed: a wish. */
    return atomic_load_explicit(&log->closing, memory_order_relaxed);
}

static void source_read(struct log_engine *log, struct source *source)
{
    const struct hint *whole = &source->hint;
    int error = hint_file_read_items(source->fd, &source->hint);
    if (error != 0 && error != KVS_ERR_NO_MEMORY) {
        whole = &source->made;
        source->segment->hint = SEGMENT_HINT_BAD;
        error = upkeep_list(log, source->segment, &source->made);
    }
    source->error = error;
    if (error == 0) /* release: pairs with the acquire in search_init: its items are there. */
        atomic_store_explicit(&source->whole, whole, memory_order_release);
}

static void sources_work(void *arg, unsigned i)
{
    struct loading *loading = arg;
    (void)i;
    size_t next;
    while ((next = atomic_fetch_add_explicit(&loading->next, 1, memory_order_relaxed)) <
           loading->count) {
        struct source *source = &loading->sources[loading->count - 1 - next];
        if (is_closing(loading->log))
            return;
        if (atomic_load_explicit(&source->whole, memory_order_relaxed) != NULL)
            continue;
        fault_gate_pass();
        source_read(loading->log, source);
    }
}

static int sources_read(struct loading *loading)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < loading->count; i++)
        bytes += loading->sources[i].hint.items.size;
    team_run(team_count(bytes, BYTES_PER_HAND), sources_work, loading);
    for (size_t i = 0; i < loading->count; i++) {
        if (loading->sources[i].error != 0)
            return loading->sources[i].error;
    }
    return is_closing(loading->log) ? KVS_ERR_CANCELLED : 0;
}

/* What the hints' headers do not tell. */
static void source_count_in(const struct source *source, const struct hint *hint)
{
    struct segment *segment = source->segment;
    bool is_scattered = hint_is_scattered(hint);
    segment->accounts.batch_bytes = is_scattered ? segment->size : 0;
    segment->is_scattered = is_scattered && segment->hint == SEGMENT_HINT_THERE;
    segment->span = key_span_of(hint);
}

static int index_make(struct loading *loading)
{
    int error = sources_read(loading);
    if (error != 0)
        return error;
    fault_gate_pass();
    struct merge_input *inputs = mem_zalloc((loading->count + 1) * sizeof *inputs);
    if (inputs == NULL)
        return KVS_ERR_NO_MEMORY;
    for (size_t i = 0; i < loading->count; i++) {
        const struct source *source = &loading->sources[i];
        const struct hint *hint = atomic_load_explicit(&source->whole, memory_order_relaxed);
        source_count_in(source, hint);
        inputs[i] = (struct merge_input){.hint = hint, .segment = source->segment};
    }
    error = merge_run(loading->log, inputs, loading->count);
    mem_free(inputs);
    return error;
}

/* --- showing it ------------------------------------------------------------------------------- */

static int version_show(struct log_engine *log)
{
    struct version *version = slab_alloc(&log->slab, sizeof *version);
    if (version == NULL)
        return KVS_ERR_NO_MEMORY;
    log->first = *version = log->working;
    pthread_mutex_lock(&log->snapshots_mutex);
    for (struct engine_snapshot *at = log->snapshots; at != NULL; at = at->older)
        at->version = *version;
    /* seq_cst: see epoch.c; and release, so that readers see what the roots lead to. */
    atomic_store_explicit(&log->version, version, memory_order_seq_cst);
    pthread_mutex_unlock(&log->snapshots_mutex);
    return 0;
}

/* From here on nobody waits any more, and nobody new finds `loading`. */
static void loading_end(struct log_engine *log, struct loading *loading, int error)
{
    pthread_mutex_lock(&log->snapshots_mutex);
    log->load_error = error;
    atomic_store_explicit(&log->loading, NULL, memory_order_seq_cst);
    /* release: pairs with the acquire in loading_wait: `first` and load_error are there. */
    atomic_store_explicit(&log->loaded, 1, memory_order_release);
    struct task_list parked = log->parked;
    log->parked = (struct task_list){0};
    pthread_mutex_unlock(&log->snapshots_mutex);
    futex_wake_all(&log->loaded);
    version_defer_loading(log, loading);
    struct task *task;
    while ((task = task_list_pop(&parked)) != NULL)
        pool_read_submit(log->pool, &log->engine, CONTAINER_OF(task, struct engine_read, op.task));
}

int loading_run(struct log_engine *log)
{
    struct loading *loading = atomic_load_explicit(&log->loading, memory_order_relaxed);
    if (loading == NULL)
        return 0;
    log->tree.birth = 1;
    log->tree.undoable = false;
    int error = index_make(loading);
    log->tree.undoable = true;
    fault_gate_pass();
    if (error == 0)
        error = version_show(log);
    segments_count(log);
    loading_end(log, loading, error);
    return error;
}

/* --- who waits -------------------------------------------------------------------------------- */

int loading_wait(struct log_engine *log, bool may_block, const struct version **ret_version)
{
    while (atomic_load_explicit(&log->loaded, memory_order_acquire) == 0) {
        if (!may_block)
            return ENGINE_WOULD_BLOCK;
        futex_wait(&log->loaded, 0, -1);
    }
    if (log->load_error != 0)
        return log->load_error;
    *ret_version = &log->first;
    return 0;
}

bool loading_park(struct log_engine *log, struct engine_read *read)
{
    if (atomic_load_explicit(&log->loaded, memory_order_acquire) != 0)
        return false;
    pthread_mutex_lock(&log->snapshots_mutex);
    bool waits = atomic_load_explicit(&log->loaded, memory_order_relaxed) == 0;
    if (waits)
        task_list_push(&log->parked, &read->op.task);
    pthread_mutex_unlock(&log->snapshots_mutex);
    return waits;
}

/* --- looking for a key ------------------------------------------------------------------------ */

/* In one source. */
struct search {
    const struct source *source;
    const struct hint *hint;
    bool is_whole;
    bool may_block;
    bool looks_outside; /* whether the key is before the first block, or in the last one, first */
    bool is_inside;     /* that was in vain */
    unsigned family;
    kvs_slice key;
    struct hint_cursor cursor;
    struct buf block; /* that the cursor is in, unless the hint is whole */
};

static int search_init(struct search *search, const struct source *source)
{
    const struct hint *whole = atomic_load_explicit(&source->whole, memory_order_acquire);
    search->source = source;
    search->is_whole = whole != NULL;
    search->hint = whole != NULL ? whole : &source->hint;
    search->block = BUF_INIT;
    return hint_cursor_init(&search->cursor, search->hint);
}

static void search_deinit(struct search *search)
{
    hint_cursor_deinit(&search->cursor);
    buf_deinit(&search->block);
}

/* To the first item of a block. What cannot be read, or is no block, is left to who makes the
 * index. */
static int search_enter(struct search *search, uint32_t restart)
{
    if (search->is_whole)
        return hint_cursor_restart(&search->cursor, restart) ? 0 : ENGINE_WOULD_BLOCK;
    int error = hint_file_read_block(search->source->fd, search->hint, restart, search->may_block,
                                     &search->block);
    if (error == KVS_ERR_NO_MEMORY)
        return error;
    if (error != 0)
        return ENGINE_WOULD_BLOCK;
    return hint_cursor_enter(&search->cursor, restart, buf_slice(&search->block))
               ? 0
               : ENGINE_WOULD_BLOCK;
}

/* First keys of blocks below `low` are not greater, those from `high` on are. */
struct search_rest {
    uint32_t low;
    uint32_t high;
};

static int search_step(struct search *search, struct search_rest *rest, uint32_t restart)
{
    int error = search_enter(search, restart);
    if (error != 0)
        return error;
    if (slice_compare(search->cursor.item.key, search->key) <= 0)
        rest->low = restart + 1;
    else
        rest->high = restart;
    return 0;
}

/* Two blocks say whether the key lies in the segment at all, as it mostly does not where segments
 * follow one another in the order of keys. */
static int search_outside(struct search *search, struct search_rest *rest)
{
    int error = search_step(search, rest, rest->low);
    if (error == 0 && rest->low < rest->high)
        error = search_step(search, rest, rest->high - 1);
    search->is_inside = rest->low < rest->high;
    return error;
}

/* The last block of the family whose first key is not greater; NOT_FOUND: there is none. */
static int search_block(struct search *search, uint32_t *ret_restart)
{
    struct search_rest rest;
    int error = 0;
    hint_family_restarts(search->hint, search->family, &rest.low, &rest.high);
    uint32_t first = rest.low;
    if (search->looks_outside && rest.low < rest.high)
        error = search_outside(search, &rest);
    while (rest.low < rest.high && error == 0)
        error = search_step(search, &rest, rest.low + (rest.high - rest.low) / 2);
    if (error != 0)
        return error;
    *ret_restart = rest.low - 1;
    return rest.low > first ? 0 : KVS_ERR_NOT_FOUND;
}

/* Leaves the cursor at the item of the key. */
static int search_run(struct search *search)
{
    uint32_t restart;
    int error = search_block(search, &restart);
    if (error == 0)
        error = search_enter(search, restart);
    if (error != 0)
        return error;
    uint32_t left = hint_block(search->hint, restart).count;
    int order;
    while ((order = slice_compare(search->cursor.item.key, search->key)) < 0) {
        if (--left == 0)
            return KVS_ERR_NOT_FOUND;
        if (!hint_cursor_next(&search->cursor))
            return ENGINE_WOULD_BLOCK;
    }
    return order == 0 ? 0 : KVS_ERR_NOT_FOUND;
}

/* As merge.c decides of the newest item of a key. */
static bool is_removed(const struct loading *loading, const struct hint *hint,
                       const struct hint_item *item)
{
    if (item->kind == RECORD_REMOVE)
        return true;
    for (size_t i = 0; i < loading->ranges.count; i++) {
        const struct range_removal *range = &loading->ranges.ranges[i];
        if (range->sequence > hint->sequence_last && range_has(range, item->family, item->key))
            return true;
    }
    return false;
}

static int entry_make(const struct search *search, struct entry **ret_entry)
{
    const struct hint_item *item = &search->cursor.item;
    struct entry *entry = mem_alloc(tree_entry_size(item->key, item->expires_at_ms));
    if (entry == NULL)
        return KVS_ERR_NO_MEMORY;
    tree_entry_init(entry, item->key, item->expires_at_ms, item->value_size,
                    search->hint->sequence_last,
                    location_make(search->source->segment->slot, item->offset));
    *ret_entry = entry;
    return 0;
}

int loading_find(struct loading *loading, unsigned family, kvs_slice key, bool may_block,
                 struct entry **ret_entry)
{
    int error = KVS_ERR_NOT_FOUND;
    if (!may_block &&
        (loading->count > LOOP_SOURCES_MAX || loading->ranges.count > LOOP_RANGES_MAX))
        return ENGINE_WOULD_BLOCK;
    size_t in_vain = 0;
    for (size_t i = loading->count; i-- > 0 && error == KVS_ERR_NOT_FOUND;) {
        struct search search = {.may_block = may_block, .family = family, .key = key};
        search.looks_outside = in_vain <= (loading->count - i) / 2;
        error = search_init(&search, &loading->sources[i]);
        if (error == 0)
            error = search_run(&search);
        in_vain += search.is_inside;
        bool removed = error == 0 && is_removed(loading, search.hint, &search.cursor.item);
        if (error == 0 && !removed)
            error = entry_make(&search, ret_entry);
        search_deinit(&search);
        if (removed)
            return KVS_ERR_NOT_FOUND;
    }
    return error;
}
