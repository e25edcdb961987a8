/* client/tikv/region_cache.c: an ordered array of regions; see client/tikv/region_cache.h. */
#include "client/tikv/region_cache.h"

#include "base/mem.h"

#include <kvs/error.h>

void region_cache_init(struct region_cache *cache, uint64_t seed)
{
    *cache = (struct region_cache){.rand = rand_seed(seed)};
}

static void cache_remove(struct region_cache *cache, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        mem_free(cache->regions[i]);
    if (to > from)
        memmove(cache->regions + from, cache->regions + to,
                (cache->count - to) * sizeof cache->regions[0]);
    cache->count -= to - from;
}

void region_cache_deinit(struct region_cache *cache)
{
    cache_remove(cache, 0, cache->count);
    mem_free(cache->regions);
    *cache = (struct region_cache){0};
}

/* --- finding ------------------------------------------------------------------------------------
 */

/* How many regions start at or below `key`; below it when `strict`. */
static size_t cache_rank(const struct region_cache *cache, kvs_slice key, bool strict)
{
    size_t low = 0;
    size_t high = cache->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_compare(cache->regions[middle]->start, key);
        if (order < 0 || (order == 0 && !strict))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct region *cache_live(struct region_cache *cache, size_t index, uint64_t now_ms)
{
    if (cache->regions[index]->expires_ms > now_ms)
        return cache->regions[index];
    cache_remove(cache, index, index + 1);
    return NULL;
}

struct region *region_cache_find(struct region_cache *cache, kvs_slice key, uint64_t now_ms)
{
    size_t rank = cache_rank(cache, key, false);
    if (rank == 0 || !region_holds(cache->regions[rank - 1], key))
        return NULL;
    return cache_live(cache, rank - 1, now_ms);
}

struct region *region_cache_find_below(struct region_cache *cache, kvs_slice end, uint64_t now_ms)
{
    size_t rank = end.size == 0 ? cache->count : cache_rank(cache, end, true);
    if (rank == 0)
        return NULL;
    const struct region *region = cache->regions[rank - 1];
    bool reaches = region->end.size == 0 || (end.size > 0 && slice_compare(end, region->end) <= 0);
    return reaches ? cache_live(cache, rank - 1, now_ms) : NULL;
}

/* --- changing -----------------------------------------------------------------------------------
 */

static struct region *region_new(struct region_cache *cache, const struct region_info *info,
                                 uint64_t now_ms)
{
    struct region *region = mem_alloc(sizeof *region + info->start.size + info->end.size);
    if (region == NULL)
        return NULL;
    *region = (struct region){
        .id = info->id,
        .conf_ver = info->conf_ver,
        .version = info->version,
        .expires_ms = now_ms + REGION_LIFE_MS + rand_below(&cache->rand, REGION_LIFE_MS / 8),
        .peers_count = info->peers_count < REGION_PEERS_MAX ? info->peers_count : REGION_PEERS_MAX,
        .start = slice_make(region->keys, info->start.size),
        .end = slice_make(region->keys + info->start.size, info->end.size),
    };
    if (info->start.size > 0)
        memcpy(region->keys, info->start.data, info->start.size);
    if (info->end.size > 0)
        memcpy(region->keys + info->start.size, info->end.data, info->end.size);
    for (unsigned i = 0; i < region->peers_count; i++) {
        region->peers[i] = info->peers[i];
        if (info->peers[i].id == info->leader_id)
            region->leader = i;
    }
    return region;
}

static int cache_reserve(struct region_cache *cache)
{
    if (cache->count < cache->capacity)
        return 0;
    size_t capacity = cache->capacity > 0 ? cache->capacity * 2 : 16;
    struct region **regions = mem_realloc(cache->regions, capacity * sizeof regions[0]);
    if (regions == NULL)
        return KVS_ERR_NO_MEMORY;
    cache->regions = regions;
    cache->capacity = capacity;
    return 0;
}

/* Versions grow with every split and merge of a region and are handed on to its parts, so of two
 * that overlap the one with the larger version is the newer one. */
static bool is_newer(const struct region *known, const struct region_info *info)
{
    return known->version > info->version ||
           (known->id == info->id && known->version == info->version &&
            known->conf_ver > info->conf_ver);
}

int region_cache_insert(struct region_cache *cache, const struct region_info *info, uint64_t now_ms)
{
    if (info->peers_count == 0 ||
        (info->end.size > 0 && slice_compare(info->start, info->end) >= 0))
        return KVS_ERR_INVALID_ARGUMENT;
    size_t from = cache_rank(cache, info->start, false);
    if (from > 0) {
        const struct region *before = cache->regions[from - 1];
        if (before->end.size == 0 || slice_compare(info->start, before->end) < 0)
            from--; /* it reaches into the new one */
    }
    size_t to = info->end.size == 0 ? cache->count : cache_rank(cache, info->end, true);
    for (size_t i = from; i < to; i++) {
        if (is_newer(cache->regions[i], info) && cache->regions[i]->expires_ms > now_ms)
            return 0;
    }
    struct region *region = region_new(cache, info, now_ms);
    if (region == NULL || cache_reserve(cache) != 0) {
        mem_free(region);
        return KVS_ERR_NO_MEMORY;
    }
    cache_remove(cache, from, to);
    memmove(cache->regions + from + 1, cache->regions + from,
            (cache->count - from) * sizeof cache->regions[0]);
    cache->regions[from] = region;
    cache->count++;
    if (cache->count > REGION_CACHE_MAX) {
        size_t victim = rand_below(&cache->rand, cache->count - 1);
        victim += victim >= from; /* not the new one */
        cache_remove(cache, victim, victim + 1);
    }
    return 0;
}

static struct region *cache_find_id(struct region_cache *cache, kvs_slice key, uint64_t id)
{
    struct region *region = region_cache_find(cache, key, 0);
    return region != NULL && region->id == id ? region : NULL;
}

void region_cache_drop(struct region_cache *cache, kvs_slice key, uint64_t id, uint64_t version)
{
    const struct region *region = cache_find_id(cache, key, id);
    if (region == NULL || region->version != version)
        return;
    size_t index = cache_rank(cache, key, false) - 1;
    cache_remove(cache, index, index + 1);
}

bool region_cache_set_leader(struct region_cache *cache, kvs_slice key, uint64_t id, uint64_t peer,
                             uint64_t store_id)
{
    struct region *region = cache_find_id(cache, key, id);
    for (unsigned i = 0; region != NULL && i < region->peers_count; i++) {
        if (region->peers[i].id == peer && region->peers[i].store_id == store_id) {
            region->leader = i;
            region->switches = 0;
            return true;
        }
    }
    return false;
}

bool region_cache_switch_peer(struct region_cache *cache, kvs_slice key, uint64_t id,
                              uint64_t store_id)
{
    struct region *region = cache_find_id(cache, key, id);
    if (region == NULL)
        return false;
    if (region_leader(region)->store_id != store_id)
        return true; /* somebody else has switched */
    if (++region->switches >= region->peers_count)
        return false;
    region->leader = (region->leader + 1) % region->peers_count;
    return true;
}
