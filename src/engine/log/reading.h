/*
 * engine/log/reading.h: what reads of single keys (reading.c) and of ranges (range.c) share.
 *
 * A view enters an epoch and takes a version; an entry of that version says where its record is: a
 * pointer into the segment's memory, or, where that was dropped for the cache's limit, bytes of its
 * file, which are read at once if the system has them, else only in a view that may block.
 * Thread: any; a view is one thread's.
 */
#ifndef ENGINE_LOG_READING_H
#define ENGINE_LOG_READING_H

#include "base/clock.h"
#include "engine/log/loading.h"
#include "engine/log/log_engine.h"

/* --- views ------------------------------------------------------------------------------------ */

static inline struct log_engine *log_of(struct engine *engine)
{
    return CONTAINER_OF(engine, struct log_engine, engine);
}

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

static inline struct log_view *view_of(struct engine_view *view)
{
    _Static_assert(sizeof(struct log_view) <= sizeof view->state, "state is large enough");
    return (struct log_view *)(void *)view->state;
}

/* Has a view that was begun before the index was there see it. */
static inline int view_ready(struct engine_view *view)
{
    struct log_view *mine = view_of(view);
    if (mine->version != NULL)
        return 0;
    return loading_wait(log_of(view->engine), view->may_block, &mine->version);
}

/* The time that decides about expiry, one for all reads of a view. */
static inline uint64_t view_wall_ms(struct log_view *view)
{
    if (view->wall_ms == 0)
        view->wall_ms = clock_wall_ms();
    return view->wall_ms;
}

/* --- where records are ------------------------------------------------------------------------ */

/* Where an entry's record is. */
struct place {
    const struct segment *segment;
    uint32_t offset;
    uint8_t *memory; /* of the segment; NULL: only in its file */
};

static inline struct place entry_place(struct log_engine *log, const struct entry *entry)
{
    /* acquire: pairs with the release in apply_move: the bytes of the copy are there. */
    uint64_t location = atomic_load_explicit(&entry->location, memory_order_acquire);
    const struct segment *segment = segment_at(log, location);
    uint8_t *memory = atomic_load_explicit(&segment->memory, memory_order_acquire);
    return (struct place){segment, location_offset(location), memory};
}

static inline kvs_slice place_value(const struct place *place, const struct entry *entry)
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

/* The value of a record in a file, which lives as long as the view. ENGINE_WOULD_BLOCK. */
int value_from_file(struct engine_view *view, const struct segment *segment, uint32_t offset,
                    const struct entry *entry, kvs_slice *ret_value);

#define READ_AHEAD_COUNT 128u

/* Records that are about to be read from files, one after the other: the system is asked for all of
 * them first, so that the disk has many requests at a time and not one. After a compaction keys
 * that follow each other lie in a few files, in each side by side: so it goes by place, and asks
 * for neighbours together. */
struct read_ahead {
    unsigned count;
    uint32_t size; /* of all */
    struct file_piece {
        int fd;
        uint32_t from, to;
    } pieces[READ_AHEAD_COUNT]; /* by file, then by place */
};

/* At most READ_AHEAD_COUNT. */
void read_ahead_add(struct read_ahead *ahead, const struct place *place, const struct entry *entry);
/* After the last one. */
void read_ahead_ask(struct read_ahead *ahead);

/* --- of the engine's methods ------------------------------------------------------------------ */

int log_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                   struct engine_view *view);
void log_view_end(struct engine_view *view);
int log_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
            struct engine_pin *ret_pin);
void log_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys, unsigned count,
                  kvs_slice *ret_values, int *ret_errors, struct engine_pin *ret_pins);
int log_expiry(struct engine_view *view, unsigned family, kvs_slice key,
               uint64_t *ret_expires_at_ms);
int log_scan(struct engine_view *view, const struct engine_range *range, engine_scan_fn *each,
             void *arg);
int log_count(struct engine_view *view, const struct engine_range *range, uint64_t *ret_count);

#endif
