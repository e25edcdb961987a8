/*
 * pd/region_map.c: see the header.
 *
 * A split: 1. its keys are sorted, and those that are bounds already dropped; 2. a new list shares
 * every region that is not cut and has new ones for the parts; 3. the parts are written; 4. the new
 * list takes the old one's place, and the generation counts on, which the readers see.
 */
#include "pd/region_map.h"

#include "base/bytes.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define REGION_PREFIX "pd/region/"
#define REGION_PREFIX_END "pd/region0" /* '/' + 1 */
#define REGION_PREFIX_SIZE (sizeof(REGION_PREFIX) - 1)
#define REGION_FORMAT 1u
#define REGION_FIXED_SIZE 29u /* format, peer, conf version, version, size of start */
#define REGION_FIRST_ID 2u    /* as in a new cluster of TiKV: store 1, region 2, peer 3 */

struct region_map {
    struct meta_store *store;
    pthread_mutex_t mutex; /* guards the pointer and its reference, not what it points to */
    struct region_list *list;
    _Atomic uint64_t generation;
    uint64_t next_id; /* of changes: one at a time */
};

/* --- regions and lists --- */

static struct region *region_new(uint64_t id, uint64_t peer_id, kvs_slice start, kvs_slice end)
{
    struct region *region = mem_alloc(sizeof *region + start.size + end.size);
    if (region == NULL)
        return NULL;
    uint8_t *bytes = (uint8_t *)(region + 1);
    if (start.size > 0)
        memcpy(bytes, start.data, start.size);
    if (end.size > 0)
        memcpy(bytes + start.size, end.data, end.size);
    *region = (struct region){
        .refs = 1,
        .id = id,
        .peer_id = peer_id,
        .conf_version = 1,
        .version = 1,
        .start = slice_make(bytes, start.size),
        .end = slice_make(bytes + start.size, end.size),
    };
    return region;
}

static void region_unref(struct region *region)
{
    /* acq_rel: whoever frees it sees it as all others left it. */
    if (region != NULL && atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) == 1)
        mem_free(region);
}

static struct region_list *list_new(size_t capacity)
{
    struct region_list *list = mem_zalloc(sizeof *list + 2 * capacity * sizeof(struct region *));
    if (list == NULL)
        return NULL;
    list->refs = 1;
    list->by_key = (struct region **)(list + 1);
    list->by_id = list->by_key + capacity;
    return list;
}

static void list_unref(struct region_list *list)
{
    if (list == NULL || atomic_fetch_sub_explicit(&list->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < list->count; i++)
        region_unref(list->by_key[i]);
    mem_free(list);
}

/* Takes the reference. */
static void list_add(struct region_list *list, struct region *region)
{
    list->by_key[list->count++] = region;
}

static void list_add_shared(struct region_list *list, struct region *region)
{
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed); /* the old list has one */
    list_add(list, region);
}

static int order_by_id(const void *a, const void *b)
{
    const struct region *const *left = a;
    const struct region *const *right = b;
    return ((*left)->id > (*right)->id) - ((*left)->id < (*right)->id);
}

static int order_by_start(const void *a, const void *b)
{
    const struct region *const *left = a;
    const struct region *const *right = b;
    return slice_compare((*left)->start, (*right)->start);
}

static void list_index_ids(struct region_list *list)
{
    memcpy(list->by_id, list->by_key, list->count * sizeof *list->by_id);
    qsort(list->by_id, list->count, sizeof *list->by_id, order_by_id);
}

size_t region_list_index(const struct region_list *list, kvs_slice key)
{
    size_t low = 0; /* the first region's start is empty: it is never after the key */
    size_t high = list->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (slice_compare(list->by_key[middle]->start, key) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const struct region *region_find_before(const struct region_list *list, kvs_slice key)
{
    size_t index = region_list_index(list, key);
    return index > 0 ? list->by_key[index - 1] : NULL;
}

const struct region *region_by_id(const struct region_list *list, uint64_t id)
{
    size_t low = 0;
    size_t high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->by_id[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->count && list->by_id[low]->id == id ? list->by_id[low] : NULL;
}

/* --- readers --- */

static struct region_list *map_take_list(struct region_map *map, uint64_t *ret_generation)
{
    pthread_mutex_lock(&map->mutex);
    struct region_list *list = map->list;
    atomic_fetch_add_explicit(&list->refs, 1, memory_order_relaxed); /* the map has one */
    *ret_generation = atomic_load_explicit(&map->generation, memory_order_relaxed);
    pthread_mutex_unlock(&map->mutex);
    return list;
}

void region_reader_init(struct region_reader *reader, struct region_map *map)
{
    *reader = (struct region_reader){.map = map};
    reader->list = map_take_list(map, &reader->generation);
}

void region_reader_deinit(struct region_reader *reader)
{
    list_unref((struct region_list *)(uintptr_t)reader->list);
    reader->list = NULL;
}

const struct region_list *region_reader_list(struct region_reader *reader)
{
    /* acquire: pairs with publish; the list itself comes under the mutex. */
    if (atomic_load_explicit(&reader->map->generation, memory_order_acquire) !=
        reader->generation) {
        region_reader_deinit(reader);
        reader->list = map_take_list(reader->map, &reader->generation);
    }
    return reader->list;
}

/* --- splitting --- */

static int order_keys(const void *a, const void *b)
{
    return slice_compare(*(const kvs_slice *)a, *(const kvs_slice *)b);
}

/* Sorted, each once; in the batch's arena. */
static int sort_keys(struct region_split *split, struct meta_batch *batch, kvs_slice **ret_keys,
                     size_t *ret_count)
{
    if (split->count > REGION_SPLIT_KEYS_MAX)
        return KVS_ERR_INVALID_ARGUMENT;
    for (size_t i = 0; i < split->count; i++) {
        if (split->keys[i].size == 0 || split->keys[i].size > REGION_KEY_SIZE_MAX)
            return KVS_ERR_INVALID_ARGUMENT;
    }
    kvs_slice all = slice_make(split->keys, split->count * sizeof *split->keys);
    kvs_slice *keys = arena_copy(&batch->arena, all);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    qsort(keys, split->count, sizeof *keys, order_keys);
    size_t count = 0;
    for (size_t i = 0; i < split->count; i++) {
        if (count == 0 || !slice_equal(keys[count - 1], keys[i]))
            keys[count++] = keys[i];
    }
    *ret_keys = keys;
    *ret_count = count;
    return 0;
}

static int check_region(const struct region_split *split, const kvs_slice *keys, size_t count)
{
    if (split->region_id == 0)
        return 0;
    const struct region *region = region_by_id(split->map->list, split->region_id);
    if (region == NULL || region->version != split->version)
        return KVS_ERR_CONDITION_FAILED;
    bool inside =
        count == 0 || (region_has(region, keys[0]) && region_has(region, keys[count - 1]));
    return inside ? 0 : KVS_ERR_CONDITION_FAILED;
}

static void write_region(const struct region *region, struct meta_batch *batch)
{
    uint8_t key[REGION_PREFIX_SIZE + 8];
    memcpy(key, REGION_PREFIX, REGION_PREFIX_SIZE);
    put_u64_be(key + REGION_PREFIX_SIZE, region->id);
    size_t size = REGION_FIXED_SIZE + region->start.size + region->end.size;
    uint8_t *value = arena_alloc(&batch->arena, size);
    if (value == NULL) {
        batch->error = KVS_ERR_NO_MEMORY;
        return;
    }
    value[0] = REGION_FORMAT;
    put_u64(value + 1, region->peer_id);
    put_u64(value + 9, region->conf_version);
    put_u64(value + 17, region->version);
    put_u32(value + 25, (uint32_t)region->start.size);
    memcpy(value + REGION_FIXED_SIZE, region->start.data, region->start.size + region->end.size);
    meta_put(batch, slice_make(key, sizeof key), slice_make(value, size));
}

/* The parts of `whole`, cut at the keys. */
static void cut_region(struct region_split *split, const struct region *whole,
                       const kvs_slice *keys, size_t count, struct meta_batch *batch)
{
    for (size_t i = 0; i <= count && batch->error == 0; i++) {
        bool last = i == count;
        uint64_t id = last ? whole->id : split->next_id;
        uint64_t peer_id = last ? whole->peer_id : split->next_id + 1;
        struct region *part = region_new(id, peer_id, i == 0 ? whole->start : keys[i - 1],
                                         last ? whole->end : keys[i]);
        if (part == NULL) {
            batch->error = KVS_ERR_NO_MEMORY;
            return;
        }
        split->next_id += last ? 0 : 2;
        part->conf_version = whole->conf_version;
        part->version = whole->version + count;
        list_add(split->made, part);
        write_region(part, batch);
    }
}

static int build_list(struct region_split *split, const kvs_slice *keys, size_t count,
                      struct meta_batch *batch)
{
    const struct region_list *old = split->map->list;
    split->made = list_new(old->count + count);
    if (split->made == NULL)
        return KVS_ERR_NO_MEMORY;
    size_t next = 0;
    for (size_t i = 0; i < old->count && batch->error == 0; i++) {
        struct region *region = old->by_key[i];
        if (next < count && slice_equal(keys[next], region->start))
            next++; /* a bound already */
        size_t begin = next;
        while (next < count && region_has(region, keys[next]))
            next++;
        if (next == begin)
            list_add_shared(split->made, region);
        else
            cut_region(split, region, keys + begin, next - begin, batch);
    }
    if (batch->error == 0)
        list_index_ids(split->made);
    return batch->error;
}

static int split_prepare(struct meta_change *change, struct meta_batch *batch)
{
    struct region_split *split = CONTAINER_OF(change, struct region_split, change);
    kvs_slice *keys;
    size_t count;
    split->next_id = split->map->next_id;
    int error = sort_keys(split, batch, &keys, &count);
    if (error == 0)
        error = check_region(split, keys, count);
    return error == 0 ? build_list(split, keys, count, batch) : error;
}

static void split_publish(struct meta_change *change)
{
    struct region_split *split = CONTAINER_OF(change, struct region_split, change);
    struct region_map *map = split->map;
    map->next_id = split->next_id;
    pthread_mutex_lock(&map->mutex);
    struct region_list *old = map->list;
    map->list = split->made;
    split->made = NULL;
    /* release: pairs with region_reader_list. */
    atomic_fetch_add_explicit(&map->generation, 1, memory_order_release);
    pthread_mutex_unlock(&map->mutex);
    list_unref(old);
}

static void split_done(struct meta_change *change, int error)
{
    struct region_split *split = CONTAINER_OF(change, struct region_split, change);
    list_unref(split->made);
    split->made = NULL;
    split->done(split, error);
}

void region_map_split(struct region_map *map, struct loop *loop, struct region_split *split)
{
    split->map = map;
    split->made = NULL;
    split->change = (struct meta_change){
        .prepare = split_prepare, .publish = split_publish, .done = split_done};
    meta_store_change(map->store, loop, &split->change);
}

int region_map_split_blocking(struct region_map *map, const kvs_slice *keys, size_t count)
{
    struct region_split split = {.keys = keys, .count = count, .map = map};
    struct meta_batch batch = {.count = 0};
    int error = split_prepare(&split.change, &batch);
    if (error == 0)
        error = meta_write_blocking(map->store, &batch);
    if (error == 0)
        split_publish(&split.change);
    meta_batch_deinit(&batch);
    list_unref(split.made);
    return error;
}

/* --- opening --- */

struct loading {
    struct region_list *list;
    size_t capacity;
    uint64_t id_max;
};

static int load_region(struct loading *loading, kvs_slice key, kvs_slice value)
{
    if (key.size != REGION_PREFIX_SIZE + 8 || value.size < REGION_FIXED_SIZE ||
        value.data[0] != REGION_FORMAT || get_u32(value.data + 25) > value.size - REGION_FIXED_SIZE)
        return KVS_ERR_CORRUPTION;
    size_t start_size = get_u32(value.data + 25);
    const uint8_t *bytes = value.data + REGION_FIXED_SIZE;
    struct region *region =
        region_new(get_u64_be(key.data + REGION_PREFIX_SIZE), get_u64(value.data + 1),
                   slice_make(bytes, start_size),
                   slice_make(bytes + start_size, value.size - REGION_FIXED_SIZE - start_size));
    if (region == NULL)
        return KVS_ERR_NO_MEMORY;
    region->conf_version = get_u64(value.data + 9);
    region->version = get_u64(value.data + 17);
    uint64_t larger = region->id > region->peer_id ? region->id : region->peer_id;
    if (larger > loading->id_max)
        loading->id_max = larger;
    list_add(loading->list, region);
    return 0;
}

static int load_each(void *arg, kvs_slice key, kvs_slice value)
{
    struct loading *loading = arg;
    if (loading->list->count == loading->capacity) {
        struct region_list *grown = list_new(loading->capacity * 2);
        if (grown == NULL)
            return KVS_ERR_NO_MEMORY;
        for (size_t i = 0; i < loading->list->count; i++)
            list_add_shared(grown, loading->list->by_key[i]);
        list_unref(loading->list);
        loading->list = grown;
        loading->capacity *= 2;
    }
    return load_region(loading, key, value);
}

/* Everything is covered, once, and each id is there once. */
static bool list_is_whole(const struct region_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct region *region = list->by_key[i];
        bool last = i + 1 == list->count;
        bool joins =
            i == 0 ? region->start.size == 0 : slice_equal(list->by_key[i - 1]->end, region->start);
        if (!joins || last != (region->end.size == 0) || region->id == 0)
            return false;
    }
    return list->count > 0;
}

static int load_regions(struct region_map *map, struct loading *loading)
{
    const struct engine_range range = {
        .family = META_FAMILY,
        .start = slice_of_string(REGION_PREFIX),
        .end = slice_of_string(REGION_PREFIX_END),
    };
    struct engine_view view;
    int error = engine_view_begin(map->store->engine, NULL, true, &view);
    if (error != 0)
        return error;
    error = engine_scan(&view, &range, load_each, loading);
    engine_view_end(&view);
    qsort(loading->list->by_key, loading->list->count, sizeof(struct region *), order_by_start);
    if (error == 0 && loading->list->count > 0 && !list_is_whole(loading->list))
        error = KVS_ERR_CORRUPTION;
    return error;
}

static int make_first_region(struct region_map *map, struct region_list *list)
{
    struct region *region =
        region_new(REGION_FIRST_ID, REGION_FIRST_ID + 1, slice_make(NULL, 0), slice_make(NULL, 0));
    if (region == NULL)
        return KVS_ERR_NO_MEMORY;
    list_add(list, region);
    struct meta_batch batch = {.count = 0};
    write_region(region, &batch);
    return meta_write_blocking(map->store, &batch);
}

static int fill_map(struct region_map *map)
{
    struct loading loading = {.list = list_new(16), .capacity = 16, .id_max = REGION_FIRST_ID + 1};
    if (loading.list == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = load_regions(map, &loading);
    if (error == 0 && loading.list->count == 0)
        error = make_first_region(map, loading.list);
    if (error == 0)
        list_index_ids(loading.list);
    map->list = loading.list;
    map->next_id = loading.id_max + 1;
    return error;
}

int region_map_open_blocking(struct meta_store *store, struct region_map **ret_map,
                             struct engine_message *ret_message)
{
    struct region_map *map = mem_zalloc(sizeof *map);
    if (map == NULL)
        return KVS_ERR_NO_MEMORY;
    map->store = store;
    pthread_mutex_init(&map->mutex, NULL);
    int error = fill_map(map);
    if (error != 0) {
        snprintf(ret_message->text, sizeof ret_message->text, "cannot read the regions: %s",
                 error == KVS_ERR_CORRUPTION ? "they do not fit together" : kvs_error_text(error));
        region_map_free(map);
        return error;
    }
    *ret_map = map;
    return 0;
}

void region_map_free(struct region_map *map)
{
    if (map == NULL)
        return;
    list_unref(map->list);
    pthread_mutex_destroy(&map->mutex);
    mem_free(map);
}

/* --- keys --- */

int region_key_encode(struct buf *out, kvs_slice key)
{
    size_t groups = key.size / 8 + 1;
    int error = buf_reserve(out, groups * 9);
    for (size_t i = 0; i < groups && error == 0; i++) {
        uint8_t group[9] = {0};
        size_t left = key.size - i * 8;
        size_t size = left < 8 ? left : 8;
        if (size > 0)
            memcpy(group, key.data + i * 8, size);
        group[8] = (uint8_t)(0xffu - (8 - size));
        error = buf_append(out, group, sizeof group);
    }
    return error;
}
