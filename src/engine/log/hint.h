/*
 * engine/log/hint.h: what a segment says of its keys, in their order; docs/format/log.md, "Hint".
 *
 * The same bytes whether they were read from a hint's file or made from the records of a segment
 * that has none: so a start has one way to go on with both. Pure functions over memory.
 *
 * A hint can be taken in two steps: all but its items, which is little, and then these; between the
 * two, single blocks of items can be checked and searched.
 */
#ifndef ENGINE_LOG_HINT_H
#define ENGINE_LOG_HINT_H

#include "base/buf.h"
#include "engine/log/format.h"

#define HINT_HEADER_SIZE 144u
#define HINT_NAME_SIZE 20 /* "0000000001.hint.new" and NUL */
#define HINT_FAMILIES 16u
#define HINT_RESTART_EVERY 256u
#define HINT_RESTART_SIZE 12u

/* What ties a hint to its segment. */
struct hint_binding {
    uint32_t segment;
    uint32_t size; /* with the seal */
    uint32_t header_checksum;
    uint32_t seal_checksum; /* 0: not sealed yet; never in a file */
};

struct hint {
    struct hint_binding binding;
    uint64_t sequence_last;    /* highest of the segment's records; 0 for none */
    uint64_t set_sequence_min; /* lowest of its sets; UINT64_MAX for none */
    uint64_t tombstone_bytes;  /* of its removes and range removals */
    uint32_t key_size_max;
    uint32_t counts[HINT_FAMILIES]; /* items of each family */
    uint32_t count;                 /* of all */
    uint32_t runs;    /* of records that stand in the segment in the order of their keys; known
                         when the items are checked */
    kvs_slice items;  /* these three are parts of `bytes` */
    kvs_slice ranges; /* records of range removals */
    kvs_slice restarts;
    uint32_t restart_size; /* bytes of each */
    struct buf bytes;      /* header and all, as in the file */
};

void hint_deinit(struct hint *hint);

/* Makes the hint of a segment from its bytes, from the header to behind its last record; they have
 * been checked. NO_MEMORY; TOO_LARGE: it would be more than 4 GiB; CORRUPTION: they had not. */
int hint_build(kvs_slice segment, uint32_t number, struct hint *ret_hint);

/* Takes the bytes of a file; every rule of the format is checked. CORRUPTION: they do not count;
 * NO_MEMORY: who knows. An error leaves them to the caller. */
int hint_take(struct buf *bytes, const struct hint_binding *expected, struct hint *ret_hint);

/* The first step: checks all but the items, whose bytes need not be there yet. How many these are,
 * behind the header, is told by hint_items_size: 0 for a header that is none, and for an old one,
 * which has one checksum for all. */
uint32_t hint_items_size(const uint8_t header[HINT_HEADER_SIZE]);
bool hint_take_frame(struct buf *bytes, const struct hint_binding *expected, struct hint *ret_hint);
/* The second: the items have come. CORRUPTION: they do not count; NO_MEMORY. */
int hint_check_items(struct hint *hint);

/* Of the revision before, which is to be made anew? */
bool hint_is_old(const struct hint *hint);

/* Do two hints say the same of their segments? */
bool hint_is_same(const struct hint *a, const struct hint *b);

/* Is it worth while to have neighbours among the keys side by side? Of one that has items. */
bool hint_has_small_records(const struct hint *hint);
/* Do neighbours among the keys lie anywhere in the segment, and would it be worth while to write
 * its records in the order of their keys? */
bool hint_is_scattered(const struct hint *hint);

/* --- reading in order ------------------------------------------------------------------------- */

struct hint_item {
    uint8_t kind; /* RECORD_SET or RECORD_REMOVE */
    uint8_t family;
    uint32_t offset; /* of the record in the segment */
    uint32_t value_size;
    uint64_t expires_at_ms; /* 0: never */
    kvs_slice key;          /* valid until the cursor moves */
};

struct hint_cursor {
    const struct hint *hint;
    kvs_slice window;    /* the items that are there, ... */
    size_t window_at;    /* ... and where they begin in hint->items */
    size_t at;           /* in hint->items */
    uint32_t next;       /* index of the item there */
    uint32_t family_end; /* index of the first item behind this family */
    uint32_t restart;    /* index of the next restart */
    unsigned family;
    bool is_bad;  /* ended by bytes that are no item */
    uint8_t *key; /* of the last item; room for the longest */
    struct hint_item item;
};

/* Before the first item. NO_MEMORY. */
int hint_cursor_init(struct hint_cursor *cursor, const struct hint *hint);
void hint_cursor_deinit(struct hint_cursor *cursor);
/* To the next item: cursor->item. False at the end. */
bool hint_cursor_next(struct hint_cursor *cursor);
/* To the first item that is not less; false when there is none. */
bool hint_cursor_seek(struct hint_cursor *cursor, unsigned family, kvs_slice key);
/* To the item of a restart. */
bool hint_cursor_restart(struct hint_cursor *cursor, uint32_t restart);
static inline uint32_t hint_restarts(const struct hint *hint)
{
    return (uint32_t)(hint->restarts.size / hint->restart_size);
}

/* --- blocks: the items from one restart to the next ------------------------------------------- */

struct hint_block {
    uint32_t at; /* in hint->items */
    uint32_t size;
    uint32_t count; /* of items */
};

static inline uint32_t hint_count_restarts(uint32_t count)
{
    return count / HINT_RESTART_EVERY + (count % HINT_RESTART_EVERY != 0);
}

struct hint_block hint_block(const struct hint *hint, uint32_t restart);
/* Are these the bytes of the block? Not of an old hint. */
bool hint_block_is_right(const struct hint *hint, uint32_t restart, kvs_slice bytes);
/* The restarts of a family: from *ret_from up to, and without, *ret_to. */
void hint_family_restarts(const struct hint *hint, unsigned family, uint32_t *ret_from,
                          uint32_t *ret_to);
/* To the item of a restart, whose block alone is there. */
bool hint_cursor_enter(struct hint_cursor *cursor, uint32_t restart, kvs_slice block);

/* "0000000001.hint", for `is_new` with ".new" behind. */
void hint_name_format(uint32_t segment, bool is_new, char out[HINT_NAME_SIZE]);
bool hint_name_parse(const char *name, bool *ret_is_new, uint32_t *ret_segment);

#endif
