/*
 * engine/log/log_engine.c: opening, closing and reading the log engine; see log_engine.h for its
 * parts.
 *
 * Open: 1. the directory is made if need be, locked, and checked to be ours; 2. the log is read
 * (recovery.c); 3. the writer and the compaction threads start. The index may come later
 * (loading.h).
 * Read: enter an epoch, take the version, find the entry, give a pointer to the value in the
 * segment's memory; if that segment is not in memory, read its file: at once if the system has the
 * bytes, else only in a view that may block.
 * Close: 1. compaction and writer stop, what was written is synced; 2. everything is freed.
 *
 * Failure: an open that fails leaves nothing behind but the directory and its lock file.
 */
#include "engine/log/log_engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/mem.h"
#include "engine/directory.h"
#include "engine/file.h"
#include "engine/log/loading.h"
#include "engine/pool_read.h"
#include "engine/ring_read.h"
#include "runtime/thread_pool.h"

#include <assert.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEGMENT_SIZE_DEFAULT (64u * 1024 * 1024)
#define SYNC_INTERVAL_MS_DEFAULT 1000u
#define SLOTS_SIZE (SEGMENT_SLOTS * sizeof(_Atomic(struct segment *)))

static struct log_engine *log_of(struct engine *engine)
{
    return CONTAINER_OF(engine, struct log_engine, engine);
}

/* --- views ------------------------------------------------------------------------------------ */

/* A value read from a file, kept until its view ends. */
struct read_buffer {
    struct read_buffer *next;
    uint8_t bytes[];
};

/* engine_view.state, by its meaning. */
struct log_view {
    const struct version *version; /* NULL: the index was not there yet */
    struct read_buffer *buffers;
    uintptr_t epoch_slot;
    uint64_t wall_ms; /* when it first looked at the clock; 0: not yet */
};

static struct log_view *view_of(struct engine_view *view)
{
    _Static_assert(sizeof(struct log_view) <= sizeof view->state, "state is large enough");
    return (struct log_view *)(void *)view->state;
}

static int log_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                          struct engine_view *view)
{
    struct log_engine *log = log_of(engine);
    struct log_view *mine = view_of(view);
    mine->buffers = NULL;
    mine->wall_ms = 0;
    mine->epoch_slot = epoch_enter(&log->epoch);
    mine->version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    if (snapshot != NULL && mine->version != NULL)
        mine->version = &snapshot->version;
    return 0;
}

/* Has a view that was begun before the index was there see it. */
static inline int view_ready(struct engine_view *view)
{
    struct log_view *mine = view_of(view);
    if (mine->version != NULL)
        return 0;
    return loading_wait(log_of(view->engine), view->may_block, &mine->version);
}

static void buffers_free(struct log_view *view)
{
    while (view->buffers != NULL) {
        struct read_buffer *next = view->buffers->next;
        mem_free(view->buffers);
        view->buffers = next;
    }
}

static void log_view_end(struct engine_view *view)
{
    struct log_view *mine = view_of(view);
    buffers_free(mine);
    epoch_leave(&log_of(view->engine)->epoch, (unsigned)mine->epoch_slot);
}

/* --- reading ---------------------------------------------------------------------------------- */

#define DAMAGE_TELL_MS 1000

/* For the operator, since a reader is told only that it is damaged; once a second, because readers
 * will come again. */
static void damage_tell(struct log_engine *log, const struct segment *segment, uint32_t offset,
                        int error)
{
    uint64_t now = clock_now_ms();
    uint64_t told = atomic_load_explicit(&log->damage_told_ms, memory_order_relaxed);
    if ((told == 0 || now - told >= DAMAGE_TELL_MS) &&
        atomic_compare_exchange_strong_explicit(&log->damage_told_ms, &told, now,
                                                memory_order_relaxed, memory_order_relaxed))
        log_error("%s: segment %u cannot be read at offset %u (%s)", log->directory,
                  segment->number, offset, kvs_error_text(error));
}

static bool was_fetched(const struct engine_view *view, const struct segment *segment,
                        uint32_t offset, uint32_t size)
{
    const struct engine_fetch *fetch = &view->fetch;
    return fetch->data != NULL && fetch->fd == segment->fd && fetch->offset == offset &&
           fetch->size == size;
}

/* As segment_read_record, of what was fetched. */
static int record_take(const struct engine_view *view, const struct segment *segment, uint32_t size,
                       uint8_t *buffer, struct record *ret_record)
{
    memcpy(buffer, view->fetch.data, size);
    if (record_decode(slice_make(buffer, size), segment->number, ret_record) != size)
        return KVS_ERR_CORRUPTION;
    return 0;
}

static int value_from_file(struct engine_view *view, const struct segment *segment, uint32_t offset,
                           const struct entry *entry, kvs_slice *ret_value)
{
    struct log_view *mine = view_of(view);
    uint32_t size = entry_record_size(entry);
    struct read_buffer *buffer = mem_alloc(sizeof *buffer + size);
    if (buffer == NULL)
        return KVS_ERR_NO_MEMORY;
    struct record record;
    int error =
        was_fetched(view, segment, offset, size)
            ? record_take(view, segment, size, buffer->bytes, &record)
            : segment_read_record(segment, offset, size, view->may_block, buffer->bytes, &record);
    if (error == ENGINE_WOULD_BLOCK)
        view->fetch = (struct engine_fetch){.fd = segment->fd, .size = size, .offset = offset};
    if (error == 0 && !slice_equal(record.key, entry_key(entry)))
        error = KVS_ERR_CORRUPTION;
    if (error < 0)
        damage_tell(log_of(view->engine), segment, offset, error);
    if (error != 0) {
        mem_free(buffer);
        return error;
    }
    buffer->next = mine->buffers;
    mine->buffers = buffer;
    *ret_value = record.value;
    return 0;
}

/* Where an entry's record is. */
struct place {
    const struct segment *segment;
    uint32_t offset;
    uint8_t *memory; /* of the segment; NULL: only in its file */
};

static struct place entry_place(struct log_engine *log, const struct entry *entry)
{
    /* acquire: pairs with the release in apply_move: the bytes of the copy are there. */
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_acquire);
    const struct segment *segment = segment_at(log, location);
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_acquire);
    return (struct place){segment, location_offset(location), memory};
}

static kvs_slice place_value(const struct place *place, const struct entry *entry)
{
    size_t offset = place->offset + record_value_offset(entry->key_size, entry->expires);
    return slice_make(place->memory + offset, entry->value_size);
}

/* May what is there be lent? What is not published yet may be undone: copies that compaction has
 * just made. */
static inline bool place_is_fixed(const struct place *place)
{
    return place->offset < segment_memory_fixed(place->memory);
}

#define VALUE_PREFETCH_MAX 256u /* a longer one is copied with the processor's own foresight */

/* Whoever asks for a value, and not for a pointer, reads it. */
static void value_fetch(kvs_slice value)
{
    for (size_t at = 0; at < value.size && at < VALUE_PREFETCH_MAX; at += 64)
        __builtin_prefetch(value.data + at);
}

/* Copying less costs no more than to count who reads where, and holds back no segment. */
#define VALUE_PIN_MIN 1024u

/* Inside the view's epoch. */
static inline bool value_pin(const struct place *place, const struct entry *entry,
                             struct engine_pin *ret_pin)
{
    if (ret_pin == NULL || entry->value_size < VALUE_PIN_MIN || !place_is_fixed(place))
        return false;
    segment_memory_ref(place->memory);
    *ret_pin = (struct engine_pin){.unpin = segment_memory_unref, .block = place->memory};
    return true;
}

static int value_get(struct engine_view *view, const struct entry *entry, kvs_slice *ret_value,
                     struct engine_pin *ret_pin)
{
    struct place place = entry_place(log_of(view->engine), entry);
    if (place.memory == NULL)
        return value_from_file(view, place.segment, place.offset, entry, ret_value);
    *ret_value = place_value(&place, entry);
    if (!value_pin(&place, entry, ret_pin))
        value_fetch(*ret_value);
    return 0;
}

/* The time that decides about expiry, one for all reads of a view. */
static uint64_t view_wall_ms(struct log_view *view)
{
    if (view->wall_ms == 0)
        view->wall_ms = clock_wall_ms();
    return view->wall_ms;
}

static bool entry_is_over(struct engine_view *view, const struct entry *entry)
{
    return entry->expires && entry_is_expired(entry, view_wall_ms(view_of(view)));
}

static const struct entry *entry_find(struct engine_view *view, unsigned family, kvs_slice key)
{
    const struct entry *entry = tree_find(view_of(view)->version->families[family].root, key);
    return entry != NULL && !entry_is_over(view, entry) ? entry : NULL;
}

static int log_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
                   struct engine_pin *ret_pin);

/* While the index is being made; where that does not do, waits for it. */
static int early_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
                     struct engine_pin *ret_pin)
{
    struct log_engine *log = log_of(view->engine);
    /* seq_cst: see epoch.c, as for the version. */
    struct loading *loading = atomic_load_explicit(&log->loading, memory_order_seq_cst);
    struct entry *entry;
    int error = loading != NULL ? loading_find(loading, family, key, view->may_block, &entry)
                                : ENGINE_WOULD_BLOCK;
    if (error == 0) {
        error = entry_is_over(view, entry) ? KVS_ERR_NOT_FOUND
                                           : value_get(view, entry, ret_value, ret_pin);
        mem_free(entry);
        return error;
    }
    if (error != ENGINE_WOULD_BLOCK)
        return error;
    error = view_ready(view);
    return error != 0 ? error : log_get(view, family, key, ret_value, ret_pin);
}

static int log_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
                   struct engine_pin *ret_pin)
{
    if (view_of(view)->version == NULL)
        return early_get(view, family, key, ret_value, ret_pin);
    const struct entry *entry = entry_find(view, family, key);
    return entry != NULL ? value_get(view, entry, ret_value, ret_pin) : KVS_ERR_NOT_FOUND;
}

static void log_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys,
                         unsigned count, kvs_slice *ret_values, int *ret_errors,
                         struct engine_pin *ret_pins)
{
    if (view_of(view)->version == NULL) {
        for (unsigned i = 0; i < count; i++) /* a loop must not look for many so slowly */
            ret_errors[i] = i < TREE_FIND_MANY_MAX || view->may_block
                                ? log_get(view, family, keys[i], &ret_values[i],
                                          ret_pins != NULL ? &ret_pins[i] : NULL)
                                : ENGINE_WOULD_BLOCK;
        return;
    }
    const struct node *root = view_of(view)->version->families[family].root;
    struct entry *entries[TREE_FIND_MANY_MAX];
    while (count > 0) {
        unsigned n = count < TREE_FIND_MANY_MAX ? count : TREE_FIND_MANY_MAX;
        tree_find_many(root, keys, n, entries);
        for (unsigned i = 0; i < n; i++) {
            bool found = entries[i] != NULL && !entry_is_over(view, entries[i]);
            struct engine_pin *pin = ret_pins != NULL ? &ret_pins[i] : NULL;
            ret_errors[i] =
                found ? value_get(view, entries[i], &ret_values[i], pin) : KVS_ERR_NOT_FOUND;
        }
        keys += n;
        ret_values += n;
        ret_errors += n;
        ret_pins = ret_pins != NULL ? ret_pins + n : NULL;
        count -= n;
    }
}

static int log_expiry(struct engine_view *view, unsigned family, kvs_slice key,
                      uint64_t *ret_expires_at_ms)
{
    int error = view_ready(view);
    if (error != 0)
        return error;
    const struct entry *entry = entry_find(view, family, key);
    if (entry == NULL)
        return KVS_ERR_NOT_FOUND;
    *ret_expires_at_ms = entry_expires_at(entry);
    return 0;
}

/* --- ranges ----------------------------------------------------------------------------------- */

/*
 * A walk over a range in its direction. Entries and records lie anywhere in memory, so it goes by
 * chunks: 1. the entries of the next leaves are noted and asked for, all at once; 2. their records'
 * places are looked up, and the records asked for; 3. they are given one after the other. Each step
 * finds what the one before has asked for, and the memory is never without a request.
 */
#define WALK_CHUNK 64u
#define WALK_CHUNK_MORE 16u /* when as many have been given as were expected */

struct range_walk {
    struct log_engine *log;
    const struct engine_range *range;
    struct tree_cursor cursor; /* behind the chunk */
    uint64_t wall_ms;
    uint32_t expected; /* behind the chunk; 0: unknown */
    bool has_places;   /* else no values are wanted */
    unsigned count;    /* of the chunk */
    unsigned next;
    const struct entry *entries[WALK_CHUNK];
    struct place places[WALK_CHUNK];
};

static void walk_begin(struct range_walk *walk, struct engine_view *view,
                       const struct engine_range *range)
{
    const struct tree_root *tree = &view_of(view)->version->families[range->family];
    walk->log = log_of(view->engine);
    walk->range = range;
    walk->wall_ms = view_wall_ms(view_of(view));
    walk->expected = range->expected;
    walk->has_places = !range->keys_only && !range->sizes_only;
    walk->count = 0;
    walk->next = 0;
    if (range->reverse)
        tree_seek_before(&walk->cursor, tree->root, range->end);
    else
        tree_seek(&walk->cursor, tree->root, range->start);
}

static unsigned walk_chunk_size(struct range_walk *walk)
{
    if (walk->range->expected == 0)
        return WALK_CHUNK;
    unsigned size = walk->expected < WALK_CHUNK ? walk->expected : WALK_CHUNK;
    walk->expected -= size;
    return size > 0 ? size : WALK_CHUNK_MORE;
}

/* Step 1 for the leaf that the cursor is in; it goes on behind what was taken. */
static void walk_take_leaf(struct range_walk *walk, unsigned max)
{
    struct tree_cursor *cursor = &walk->cursor;
    const struct node *leaf = cursor->nodes[cursor->depth - 1];
    int step = walk->range->reverse ? -1 : 1;
    int position = cursor->positions[cursor->depth - 1];
    unsigned left = step > 0 ? (unsigned)(leaf->count - position) : (unsigned)position + 1;
    unsigned count = left < max - walk->count ? left : max - walk->count;
    tree_cursor_prefetch_next_leaf(cursor, step);
    for (unsigned i = 0; i < count; i++, position += step) {
        const struct entry *entry = leaf->items[position];
        walk->entries[walk->count++] = entry;
        __builtin_prefetch(entry);
        __builtin_prefetch((const char *)entry +
                           (walk->has_places ? sizeof *entry - 1 : sizeof *entry + 15));
    }
    cursor->positions[cursor->depth - 1] = (uint16_t)(position - step);
    tree_cursor_step(cursor, step);
}

static bool walk_is_beyond(const struct range_walk *walk, const struct entry *entry)
{
    const struct engine_range *range = walk->range;
    if (range->reverse)
        return slice_compare(entry_key(entry), range->start) < 0;
    return range->end.size > 0 && slice_compare(entry_key(entry), range->end) >= 0;
}

/* If the last of the chunk is in the range, all are. */
static void walk_cut(struct range_walk *walk)
{
    while (walk->count > 0 && walk_is_beyond(walk, walk->entries[walk->count - 1])) {
        walk->count--;
        walk->cursor.depth = 0; /* nothing can follow */
    }
}

/* Lines that hold none of it are asked for twice: that is cheaper than to find out. */
static void record_prefetch(const uint8_t *from, size_t size)
{
    size_t last = size < VALUE_PREFETCH_MAX ? size : VALUE_PREFETCH_MAX;
    for (size_t at = 0; at < VALUE_PREFETCH_MAX; at += 64)
        __builtin_prefetch(from + (at < last ? at : last));
}

/* Step 2. Keys are taken from the records, too, next to the values: it is a line less for each. */
static void walk_find_places(struct range_walk *walk)
{
    for (unsigned i = 0; i < walk->count; i++) {
        const struct entry *entry = walk->entries[i];
        struct place *place = &walk->places[i];
        *place = entry_place(walk->log, entry);
        if (place->memory == NULL)
            continue;
        record_prefetch(place_value(place, entry).data - entry->key_size,
                        entry->key_size + entry->value_size);
    }
}

static bool walk_fill(struct range_walk *walk)
{
    unsigned size = walk_chunk_size(walk);
    walk->next = 0;
    walk->count = 0;
    while (walk->count < size && walk->cursor.depth > 0)
        walk_take_leaf(walk, size);
    walk_cut(walk);
    if (walk->has_places)
        walk_find_places(walk);
    return walk->count > 0;
}

/* The position in the chunk of the next entry that has not expired; -1 at the end of the range. */
static inline int walk_next(struct range_walk *walk)
{
    while (walk->next < walk->count || walk_fill(walk)) {
        unsigned i = walk->next++;
        if (!entry_is_expired(walk->entries[i], walk->wall_ms))
            return (int)i;
    }
    return -1;
}

#define PIN_PROBES 8u

/* Holds a segment's memory, if it does not yet and there is room. Inside the view's epoch. */
static inline bool pins_hold(struct engine_pins *pins, const struct place *place)
{
    for (unsigned i = 0; i < PIN_PROBES; i++) {
        void **block = &pins->blocks[(place->segment->slot + i) % ENGINE_PINS_MAX];
        if (*block == place->memory)
            return true;
        if (*block == NULL) {
            segment_memory_ref(place->memory);
            *block = place->memory;
            pins->unpin = segment_memory_unref;
            return true;
        }
    }
    return false;
}

/* For whoever wants it in a view, where the value is not in memory. */
static int give_from_file(struct engine_view *view, const struct entry *entry,
                          const struct place *place, struct engine_pins *pins, engine_scan_fn *each,
                          void *arg)
{
    struct log_view *mine = view_of(view);
    kvs_slice value;
    int error = value_from_file(view, place->segment, place->offset, entry, &value);
    if (error != 0)
        return error;
    if (pins != NULL)
        pins->lasting = false;
    error = each(arg, entry_key(entry), value);
    struct read_buffer *buffer = mine->buffers; /* valid during the call only */
    mine->buffers = buffer->next;
    mem_free(buffer);
    return error;
}

static inline int walk_give(struct range_walk *walk, unsigned i, struct engine_view *view,
                            engine_scan_fn *each, void *arg)
{
    const struct engine_range *range = walk->range;
    const struct entry *entry = walk->entries[i];
    if (!walk->has_places) {
        size_t size = range->sizes_only ? entry->value_size : 0;
        return each(arg, entry_key(entry), (kvs_slice){.data = NULL, .size = size});
    }
    const struct place *place = &walk->places[i];
    if (place->memory == NULL)
        return give_from_file(view, entry, place, range->pins, each, arg);
    if (range->pins != NULL)
        range->pins->lasting = place_is_fixed(place) && pins_hold(range->pins, place);
    kvs_slice value = place_value(place, entry);
    return each(arg, slice_make(value.data - entry->key_size, entry->key_size), value);
}

static int log_scan(struct engine_view *view, const struct engine_range *range,
                    engine_scan_fn *each, void *arg)
{
    struct range_walk walk;
    int error = view_ready(view);
    if (error != 0)
        return error;
    walk_begin(&walk, view, range);
    for (int i; error == 0 && (i = walk_next(&walk)) >= 0;)
        error = walk_give(&walk, (unsigned)i, view, each, arg);
    return error;
}

static int log_count(struct engine_view *view, const struct engine_range *range,
                     uint64_t *ret_count)
{
    int error = view_ready(view);
    if (error != 0)
        return error;
    const struct tree_root *tree = &view_of(view)->version->families[range->family];
    if (range->start.size == 0 && range->end.size == 0 && tree->expiring_keys == 0) {
        *ret_count = tree->keys;
        return 0;
    }
    struct engine_range forward = *range;
    forward.reverse = false;
    forward.keys_only = true;
    struct range_walk walk;
    walk_begin(&walk, view, &forward);
    uint64_t count = 0;
    while (walk_next(&walk) >= 0)
        count++;
    *ret_count = count;
    return 0;
}

static void log_read(struct engine *engine, struct engine_read *read)
{
    struct log_engine *log = log_of(engine);
    if (!read->again && loading_park(log, read))
        return;
    if (log->ring != NULL && read->again)
        ring_read_submit(log->ring, read);
    else
        pool_read_submit(log->pool, engine, read);
}

/* --- snapshots -------------------------------------------------------------------------------- */

static int log_snapshot_take(struct engine *engine, struct engine_snapshot **ret_snapshot)
{
    struct log_engine *log = log_of(engine);
    struct engine_snapshot *snapshot = mem_zalloc(sizeof *snapshot);
    if (snapshot == NULL)
        return KVS_ERR_NO_MEMORY;
    snapshot->log = log;
    pthread_mutex_lock(&log->snapshots_mutex);
    const struct version *version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    if (version != NULL) /* else it gets the first one when that is there */
        snapshot->version = *version;
    snapshot->older = log->snapshots;
    if (snapshot->older != NULL)
        snapshot->older->newer = snapshot;
    log->snapshots = snapshot;
    pthread_mutex_unlock(&log->snapshots_mutex);
    stat_add(&log->stat_snapshots, 1);
    *ret_snapshot = snapshot;
    return 0;
}

static void snapshot_on_release(struct task *task)
{
    struct engine_snapshot *snapshot = CONTAINER_OF(task, struct engine_snapshot, release);
    version_release(snapshot->log, snapshot);
}

static void log_snapshot_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct log_engine *log = log_of(engine);
    atomic_fetch_sub_explicit(&log->stat_snapshots, 1, memory_order_relaxed);
    snapshot->release.run = snapshot_on_release;
    writer_request(log, &snapshot->release);
}

/* --- writes and control ----------------------------------------------------------------------- */

static void log_write(struct engine *engine, struct task_list *writes)
{
    writer_submit(log_of(engine), writes);
}

struct control_request {
    struct task task;
    struct log_engine *log;
};

static void control_run(struct task *task)
{
    struct control_request *request = CONTAINER_OF(task, struct control_request, task);
    struct engine_control *control =
        (struct engine_control *)(void *)((char *)request - offsetof(struct engine_control, state));
    struct log_engine *log = request->log;
    if (control->kind == ENGINE_CONTROL_SYNC) {
        writer_sync(log, control);
    } else if (control->kind == ENGINE_CONTROL_COMPACT) {
        writer_compact(log, control);
    } else {
        writer_checkpoint(log, control);
    }
}

static void log_control(struct engine *engine, struct engine_control *control)
{
    struct control_request *request = (struct control_request *)(void *)control->state;
    _Static_assert(sizeof(struct control_request) <= sizeof control->state,
                   "state is large enough");
    request->log = log_of(engine);
    request->task.run = control_run;
    writer_request(request->log, &request->task);
}

static void log_stats(struct engine *engine, struct engine_stats *ret_stats)
{
    struct log_engine *log = log_of(engine);
    struct engine_view view;
    log_view_begin(engine, NULL, &view);
    const struct version *version = view_of(&view)->version;
    uint64_t keys = 0;
    for (unsigned i = 0; version != NULL && i < ENGINE_FAMILY_COUNT; i++)
        keys += version->families[i].keys;
    view.engine = engine;
    log_view_end(&view);
    *ret_stats = (struct engine_stats){
        .keys = keys,
        .live_bytes = stat_get(&log->stat_live_bytes),
        .disk_bytes = stat_get(&log->stat_disk_bytes) + stat_get(&log->stat_held_bytes),
        .cache_bytes = stat_get(&log->stat_cache_bytes),
        .index_bytes = stat_get(&log->stat_index_bytes),
        .segments = stat_get(&log->stat_segments),
        .snapshots = stat_get(&log->stat_snapshots),
        .writes = stat_get(&log->stat_writes),
        .groups = stat_get(&log->stat_groups),
        .syncs = stat_get(&log->stat_syncs),
        .compactions = stat_get(&log->stat_compactions),
        .compacted_bytes = stat_get(&log->stat_compacted_bytes),
        .compacting = stat_get(&log->stat_compacting) != 0,
        /* relaxed: a figure. */
        .loading = atomic_load_explicit(&log->loaded, memory_order_relaxed) == 0,
        .failed = atomic_load_explicit(&log->failed, memory_order_relaxed),
    };
}

/* --- closing ---------------------------------------------------------------------------------- */

static void segments_free_all(struct log_engine *log)
{
    if (log->slots == NULL)
        return;
    for (uint32_t i = 0; i < SEGMENT_SLOTS; i++) {
        struct segment *segment = atomic_load_explicit(&log->slots[i], memory_order_relaxed);
        if (segment != NULL)
            segment_destroy(log, segment);
    }
    struct segment *emptied = atomic_load_explicit(&log->compaction.emptied, memory_order_acquire);
    while (emptied != NULL) {
        struct segment *next = emptied->next;
        close(emptied->fd);
        mem_free(emptied);
        emptied = next;
    }
    mem_free(log->compaction.pace.path);
}

/* Also of an engine that was opened only in part. All threads are gone. */
void log_engine_free(struct log_engine *log)
{
    for (struct limbo *limbo = log->limbo_first; limbo != NULL;) {
        struct limbo *next = limbo->next;
        pointer_vector_deinit(&limbo->objects);
        segment_memory_unref(limbo->memory);
        loading_free(limbo->loading);
        mem_free(limbo); /* its segment is still in its slot */
        limbo = next;
    }
    loading_free(atomic_load_explicit(&log->loading, memory_order_relaxed));
    segments_free_all(log);
    for (unsigned i = 0; i < log->spares_count; i++)
        segment_memory_unref(log->spares[i].memory);
    segment_memory_unref(log->compaction.memory);
    slab_deinit(&log->slab);
    pointer_vector_deinit(&log->tree.born);
    pointer_vector_deinit(&log->tree.retired);
    pointer_vector_deinit(&log->moved);
    pointer_vector_deinit(&log->moved_from);
    pointer_vector_deinit(&log->unlinked);
    pthread_mutex_destroy(&log->snapshots_mutex);
    pthread_mutex_destroy(&log->writing);
    pthread_mutex_destroy(&log->preparation.mutex);
    pthread_cond_destroy(&log->preparation.changed);
    if (log->lock_fd >= 0)
        close(log->lock_fd); /* which unlocks */
    kvs_thread_pool_unref(log->background_pool);
    kvs_thread_pool_unref(log->urgent_pool);
    kvs_thread_pool_unref(log->pool);
    if (log->slots != NULL)
        munmap((void *)log->slots, SLOTS_SIZE);
    mem_free(log->directory);
    mem_free(log);
}

static int log_close_blocking(struct engine *engine)
{
    struct log_engine *log = log_of(engine);
    atomic_store_explicit(&log->closing, true, memory_order_relaxed);
    ring_reads_free(log->ring);
    compaction_stop(log);
    int error = writer_stop(log);
    assert(log->snapshots == NULL && "a snapshot outlived its engine");
    log_engine_free(log);
    return error;
}

/* --- opening ---------------------------------------------------------------------------------- */

static const struct engine_methods log_methods = {
    .name = LOG_ENGINE_NAME,
    .view_begin = log_view_begin,
    .view_end = log_view_end,
    .get = log_get,
    .get_many = log_get_many,
    .expiry = log_expiry,
    .scan = log_scan,
    .count = log_count,
    .snapshot_take = log_snapshot_take,
    .snapshot_release = log_snapshot_release,
    .read = log_read,
    .write = log_write,
    .control = log_control,
    .stats = log_stats,
    .close_blocking = log_close_blocking,
};

static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int log_engine_new(const struct engine_options *options, struct log_engine **ret_log)
{
    struct log_engine *log = mem_aligned_alloc(64, sizeof *log);
    if (log == NULL)
        return KVS_ERR_NO_MEMORY;
    memset(log, 0, sizeof *log);
    log->engine.methods = &log_methods;
    log->engine.capabilities = ENGINE_CAP_DURABLE | ENGINE_CAP_CHECKPOINT;
    log->lock_fd = -1;
    log->sync = options->sync;
    log->sync_interval_ms =
        options->sync_interval_ms != 0 ? options->sync_interval_ms : SYNC_INTERVAL_MS_DEFAULT;
    uint64_t segment_size =
        options->segment_size_bytes != 0 ? options->segment_size_bytes : SEGMENT_SIZE_DEFAULT;
    if (segment_size < SEGMENT_SIZE_MIN)
        segment_size = SEGMENT_SIZE_MIN;
    segment_size -= segment_size % FILE_BLOCK_SIZE;
    log->segment_size = segment_size < SEGMENT_SIZE_MAX ? (uint32_t)segment_size : SEGMENT_SIZE_MAX;
    log->cache_size_max =
        options->cache_size_bytes != 0 ? options->cache_size_bytes : machine_memory_bytes() / 4;
    log->rand = rand_seed(clock_wall_ms() ^ clock_now_ns() ^ (uintptr_t)log);
    epoch_init(&log->epoch);
    mailbox_init(&log->writes);
    mailbox_init(&log->requests);
    slab_init(&log->slab);
    log->tree.slab = &log->slab;
    pthread_mutex_init(&log->snapshots_mutex, NULL);
    pthread_mutex_init(&log->writing, NULL);
    log->callers_write = options->callers_write && options->sync != KVS_SYNC_ALWAYS;
    pthread_mutex_init(&log->preparation.mutex, NULL);
    condition_init(&log->preparation.changed);
    log->pool = kvs_thread_pool_ref(options->pool);
    log->directory = mem_strdup(options->directory);
    /* Mapped, so that slots which are never used take no memory. */
    void *slots =
        mmap(NULL, SLOTS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    log->slots = slots != MAP_FAILED ? slots : NULL;
    if (log->directory == NULL || log->slots == NULL) {
        log_engine_free(log);
        return KVS_ERR_NO_MEMORY;
    }
    *ret_log = log;
    return 0;
}

/* The index, if that is little work; else the writer's thread begins with it. */
static int index_first(struct log_engine *log)
{
    for (struct segment *at = log->oldest; at != NULL; at = at->next)
        segment_fix(at);
    segments_count(log);
    if (!loading_is_small(atomic_load_explicit(&log->loading, memory_order_relaxed)))
        return 0;
    int error = loading_run(log);
    version_reclaim_all(log);
    return error;
}

/* auto: the pool, which was measured to be as fast with enough threads; docs/architecture.md. */
static int ring_start(struct log_engine *log, enum kvs_file_io file_io,
                      struct engine_message *message)
{
    if (file_io != KVS_FILE_IO_URING)
        return 0;
    int error = ring_reads_new(&log->engine, log->pool, &log->ring);
    if (error == 0)
        log_info("%s: gets that wait for a file go by io_uring", log->directory);
    if (error == KVS_ERR_UNSUPPORTED)
        return engine_directory_fail(message, error, log->directory,
                                     "io_uring is not to be had here; use another file I/O");
    return error;
}

int log_engine_open_blocking(const struct engine_options *options, struct engine **ret_engine,
                             struct engine_message *ret_message)
{
    const char *directory = options->directory;
    ret_message->text[0] = '\0';
    if (strlen(directory) + 1 + SEGMENT_NAME_SIZE > SEGMENT_PATH_SIZE)
        return engine_directory_fail(ret_message, KVS_ERR_INVALID_ARGUMENT, directory,
                                     "has too long a name");
    struct log_engine *log;
    int error = log_engine_new(options, &log);
    if (error != 0)
        return engine_directory_fail(ret_message, error, directory, "cannot be opened");
    error = engine_directory_open_blocking(options, LOG_ENGINE_NAME, &log->lock_fd, ret_message);
    if (error == 0)
        error = recovery_run(log, ret_message);
    if (error == 0)
        error = index_first(log);
    if (error == 0)
        error = kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &log->background_pool);
    if (error == 0)
        error =
            kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, URGENT_THREADS, &log->urgent_pool);
    if (error == 0)
        error = writer_start(log);
    if (error == 0)
        error = ring_start(log, options->file_io, ret_message);
    if (error == 0)
        error = compaction_start(log);
    if (error != 0) {
        if (ret_message->text[0] == '\0')
            engine_directory_fail(ret_message, error, directory, "cannot be opened");
        atomic_store_explicit(&log->closing, true, memory_order_relaxed);
        ring_reads_free(log->ring);
        (void)writer_stop(log);
        log_engine_free(log);
        return error;
    }
    *ret_engine = &log->engine;
    return 0;
}
