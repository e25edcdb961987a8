/* engine/log/hint_format.h: what reading and making hints share; for hint.c and hint_build.c. */
#ifndef ENGINE_LOG_HINT_FORMAT_H
#define ENGINE_LOG_HINT_FORMAT_H

#include "engine/log/hint.h"

/* The first byte of an item. */
#define HINT_ITEM_REMOVE 0x01u
#define HINT_ITEM_EXPIRES 0x02u
#define HINT_ITEM_SIZES 0x04u
#define HINT_ITEM_SHARED_SHIFT 3
#define HINT_ITEM_SHARED_MAX 31u

/* Bytes of an item's offset, which counts in RECORD_ALIGNMENT. */
static inline unsigned hint_offset_width(uint32_t segment_size)
{
    return segment_size / RECORD_ALIGNMENT < (1u << 24) ? 3 : 4;
}

/* Of a hint whose bytes and slices are there. */
void hint_header_encode(uint8_t out[HINT_HEADER_SIZE], const struct hint *hint);
/* The parts of hint->bytes behind the header, by their sizes. */
void hint_slices_set(struct hint *hint, size_t items, size_t ranges, size_t restarts);

#endif
