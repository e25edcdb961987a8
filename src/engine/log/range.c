/*
 * engine/log/range.c: scans and counts.
 *
 * A walk over a range in its direction. Entries and records lie anywhere in memory, so it goes by
 * chunks: 1. the entries of the next leaves are noted and asked for, all at once; 2. their records'
 * places are looked up, and the records asked for; 3. they are given one after the other. Each step
 * finds what the one before has asked for, and the memory is never without a request.
 */
#include "engine/log/reading.h"

#include "base/mem.h"

#define WALK_CHUNK 64u
#define WALK_CHUNK_OF_FILES READ_AHEAD_COUNT /* the more at once, the more lie side by side */
#define WALK_CHUNK_MORE 16u                  /* when as many have been given as were expected */

struct range_walk {
    struct log_engine *log;
    const struct engine_range *range;
    struct tree_cursor cursor; /* behind the chunk */
    uint64_t wall_ms;
    uint32_t expected; /* behind the chunk; 0: unknown */
    bool has_places;   /* else no values are wanted */
    bool may_block;    /* so the system is asked for what lies in files */
    unsigned count;    /* of the chunk */
    unsigned next;
    const struct entry *entries[WALK_CHUNK_OF_FILES];
    struct place places[WALK_CHUNK_OF_FILES];
};

static void walk_begin(struct range_walk *walk, struct engine_view *view,
                       const struct engine_range *range)
{
    const struct tree_root *tree = &view_of(view)->version->families[range->family];
    walk->log = log_of(view->engine);
    walk->range = range;
    walk->wall_ms = view_wall_ms(view_of(view));
    walk->expected = range->expected;
    walk->may_block = view->may_block;
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
    unsigned most = walk->may_block ? WALK_CHUNK_OF_FILES : WALK_CHUNK;
    if (walk->range->expected == 0)
        return most;
    unsigned size = walk->expected < most ? walk->expected : most;
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
    struct read_ahead ahead;
    ahead.count = ahead.size = 0; /* the rest is filled as it is needed */
    for (unsigned i = 0; i < walk->count; i++) {
        const struct entry *entry = walk->entries[i];
        struct place *place = &walk->places[i];
        *place = entry_place(walk->log, entry);
        if (place->memory != NULL)
            record_prefetch(place_value(place, entry).data - entry->key_size,
                            entry->key_size + entry->value_size);
        else if (walk->may_block)
            read_ahead_add(&ahead, place, entry);
    }
    read_ahead_ask(&ahead);
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

int log_scan(struct engine_view *view, const struct engine_range *range, engine_scan_fn *each,
             void *arg)
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

int log_count(struct engine_view *view, const struct engine_range *range, uint64_t *ret_count)
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
