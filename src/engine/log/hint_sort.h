/* engine/log/hint_sort.h: the records of a segment in the order of their keys, for its hint. */
#ifndef ENGINE_LOG_HINT_SORT_H
#define ENGINE_LOG_HINT_SORT_H

#include "base/slice.h"

struct sort_item {
    uint64_t word;   /* of the key, used while sorting */
    uint32_t offset; /* of a record in the segment that record_parse accepts */
    uint32_t family;
};

/* Sorts by family and key; records of the same key keep their order, and have the same word. The
 * time is bounded by the bytes of all keys. Returns 0 or KVS_ERR_NO_MEMORY. */
int hint_sort(kvs_slice segment, struct sort_item *items, size_t count);

#endif
