/*
 * pd/region_map.h: the regions: how the space of stored keys is cut into pieces.
 *
 * Stored keys are what PD's region bounds are made of: the key as it comes for raw data of API V1,
 * its memcomparable encoding for API V2 and for transactions. There is always at least one region;
 * together they cover everything, from the first one's empty start to the last one's empty end.
 *
 * A list of regions never changes: a split makes a new one. Each loop has a reader, which keeps the
 * newest list it saw; looking for a newer one is one atomic load, so do it once per request and
 * hold the list no longer than until the next look.
 *
 * Splits are durable before they are visible. As in TiKV, the part on the right keeps the id, and
 * all parts get the version of the whole plus the number of cuts.
 *
 * Threads: a reader belongs to its loop; the other functions may be called from any thread.
 */
#ifndef PD_REGION_MAP_H
#define PD_REGION_MAP_H

#include "base/slice.h"
#include "pd/meta_store.h"

#include <stdatomic.h>

#define STORE_ID 1u /* the only store */
#define REGION_KEY_SIZE_MAX (64u * 1024)
#define REGION_SPLIT_KEYS_MAX 65536u

struct region {
    _Atomic uint32_t refs; /* of lists */
    uint64_t id;
    uint64_t peer_id; /* on STORE_ID; always the leader */
    uint64_t conf_version;
    uint64_t version;
    kvs_slice start; /* first key */
    kvs_slice end;   /* first key behind it; empty: no bound */
};

struct region_list {
    _Atomic uint32_t refs;
    size_t count;
    struct region **by_key; /* ascending */
    struct region **by_id;  /* ascending */
};

struct region_map;

struct region_reader {
    struct region_map *map;
    const struct region_list *list;
    uint64_t generation;
};

void region_reader_init(struct region_reader *reader, struct region_map *map);
void region_reader_deinit(struct region_reader *reader);
/* The newest list; valid until the next call with this reader. */
const struct region_list *region_reader_list(struct region_reader *reader);

/* Index of the region that has the key. */
size_t region_list_index(const struct region_list *list, kvs_slice key);
static inline const struct region *region_find(const struct region_list *list, kvs_slice key)
{
    return list->by_key[region_list_index(list, key)];
}
/* The region before the one that has the key: the one that ends at it when the key is a bound. NULL
 * for a key of the first region. */
const struct region *region_find_before(const struct region_list *list, kvs_slice key);
const struct region *region_by_id(const struct region_list *list, uint64_t id);

static inline bool region_has(const struct region *region, kvs_slice key)
{
    return slice_compare(key, region->start) >= 0 &&
           (region->end.size == 0 || slice_compare(key, region->end) < 0);
}

/* A split under way. The first four are the caller's. */
struct region_split {
    const kvs_slice *keys; /* stored keys, in any order; borrowed until done */
    size_t count;
    uint64_t region_id; /* all keys must be of this region, at this version; 0: of any */
    uint64_t version;
    /* On `loop`. INVALID_ARGUMENT: an empty key, one over REGION_KEY_SIZE_MAX, or too many keys;
     * CONDITION_FAILED: the region is not there any more, has another version, or does not have a
     * key; NO_MEMORY; errors of the engine. Keys that are bounds already are left out. */
    void (*done)(struct region_split *split, int error);

    struct meta_change change;
    struct region_map *map;
    struct region_list *made;
    uint64_t next_id;
};

void region_map_split(struct region_map *map, struct loop *loop, struct region_split *split);

/* Reads the regions, or makes the first one. On failure a reason is in ret_message. */
int region_map_open_blocking(struct meta_store *store, struct region_map **ret_map,
                             struct engine_message *ret_message);
/* For the opening, while nobody else has the map. */
int region_map_split_blocking(struct region_map *map, const kvs_slice *keys, size_t count);
void region_map_free(struct region_map *map);

/* Appends the memcomparable encoding: groups of eight bytes, padded with zeros, each followed by
 * 0xff less the number of padding bytes. */
int region_key_encode(struct buf *out, kvs_slice key);

#endif
