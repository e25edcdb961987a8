/*
 * client/tikv/region_cache.h: which region, on which store, holds a key: what PD said, until it
 * turns out to be wrong.
 *
 * Regions lie in an array ordered by start key and never overlap: a region that comes in takes the
 * place of all that it touches, unless one of them is newer (its epoch tells). Keys are as they
 * stand in requests: with the keyspace's prefix, not encoded. Every user of a region knows a key in
 * it, so there is no second index by id.
 *
 * A region is forgotten when a server contradicts it (region_cache_drop), or after
 * REGION_LIFE_MS and a random part more, so that a cache heals from what no error tells.
 *
 * Knows no network and no clock. Thread: its owner's loop. Failure: NO_MEMORY, nothing changed.
 */
#ifndef CLIENT_TIKV_REGION_CACHE_H
#define CLIENT_TIKV_REGION_CACHE_H

#include "base/rand.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_PEERS_MAX 16u
#define REGION_LIFE_MS (600u * 1000)
#define REGION_CACHE_MAX 262144u /* further ones push out any: the cache is only a cache */

struct region_peer {
    uint64_t id;
    uint64_t store_id;
};

struct region {
    uint64_t id;
    uint64_t conf_ver;
    uint64_t version;
    uint64_t expires_ms;
    unsigned peers_count;
    unsigned leader;   /* index of the peer that requests go to */
    unsigned switches; /* to another peer, since a leader was named */
    struct region_peer peers[REGION_PEERS_MAX];
    kvs_slice start;
    kvs_slice end; /* empty: no bound */
    uint8_t keys[];
};

struct region_cache {
    struct region **regions; /* ascending by start */
    size_t count;
    size_t capacity;
    struct rand rand;
};

void region_cache_init(struct region_cache *cache, uint64_t seed);
void region_cache_deinit(struct region_cache *cache);

/* What is inserted; leader_id 0 or of no peer: the first peer. */
struct region_info {
    uint64_t id;
    uint64_t conf_ver;
    uint64_t version;
    kvs_slice start;
    kvs_slice end;
    const struct region_peer *peers;
    unsigned peers_count; /* the first REGION_PEERS_MAX are kept; at least 1 */
    uint64_t leader_id;
};

/* Returns 0 (also when a newer one is known and this one is left out), INVALID_ARGUMENT for a
 * region without peers or with end <= start, or NO_MEMORY. */
int region_cache_insert(struct region_cache *cache, const struct region_info *info,
                        uint64_t now_ms);

/* The region that holds `key`; NULL when unknown. Borrowed until the next change. */
struct region *region_cache_find(struct region_cache *cache, kvs_slice key, uint64_t now_ms);
/* The region that holds the keys just below `end` (empty: the last keys of all). */
struct region *region_cache_find_below(struct region_cache *cache, kvs_slice end, uint64_t now_ms);

/* Forgets the region of `key`, if it is still this one in this version. */
void region_cache_drop(struct region_cache *cache, kvs_slice key, uint64_t id, uint64_t version);

/* The leader is at `peer`, as a server said. False when the region is not known as such: drop it.
 */
bool region_cache_set_leader(struct region_cache *cache, kvs_slice key, uint64_t id, uint64_t peer,
                             uint64_t store_id);
/* No word from `store_id`: another peer may know. False when all were tried: drop it. */
bool region_cache_switch_peer(struct region_cache *cache, kvs_slice key, uint64_t id,
                              uint64_t store_id);

static inline const struct region_peer *region_leader(const struct region *region)
{
    return &region->peers[region->leader];
}

static inline bool region_holds(const struct region *region, kvs_slice key)
{
    return slice_compare(region->start, key) <= 0 &&
           (region->end.size == 0 || slice_compare(key, region->end) < 0);
}

#endif
