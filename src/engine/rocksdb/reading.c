/*
 * engine/rocksdb/reading.c: snapshots, views, gets and scans; keys and values as they are stored.
 *
 * Each group of writes ends with one RocksDB snapshot, taken by the worker; a view holds a
 * reference to the newest one, so that beginning a view costs a lock of our own and a counter, not
 * RocksDB's mutex. It holds back no space: it is the newest state.
 *
 * A get pins the value where RocksDB has it (block cache or memory table) until the view ends. A
 * view that may not block reads with the tier "block cache": what would need a file is "incomplete"
 * for RocksDB, and ENGINE_WOULD_BLOCK for our caller.
 */
#include "engine/rocksdb/rocksdb_engine.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slice.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define TIER_BLOCK_CACHE 1 /* ReadTier of rocksdb/options.h */

/* --- errors ----------------------------------------------------------------------------------- */

/* How RocksDB's Status prints its codes; the C interface gives no other sign of them. */
static const struct {
    const char *begin;
    int error;
} statuses[] = {
    {"Result incomplete", ENGINE_WOULD_BLOCK},
    {"IO error: No space left on device", KVS_ERR_NO_SPACE},
    {"Corruption", KVS_ERR_CORRUPTION},
    {"NotFound", KVS_ERR_NOT_FOUND},
    {"Not implemented", KVS_ERR_UNSUPPORTED},
    {"Invalid argument", KVS_ERR_CORRUPTION}, /* what we pass is valid: the files are not ours */
};

static int status_error(const char *text)
{
    if (text == NULL)
        return 0;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (strncmp(text, statuses[i].begin, strlen(statuses[i].begin)) == 0)
            return statuses[i].error;
    if (strstr(text, "No space left on device") != NULL)
        return KVS_ERR_NO_SPACE;
    if (strstr(text, "Read-only file system") != NULL)
        return KVS_ERR_READ_ONLY;
    return strstr(text, "Permission denied") != NULL ? KVS_ERR_PERMISSION : KVS_ERR_IO;
}

int rocks_error(char *text)
{
    int error = status_error(text);
    rocksdb_free(text);
    return error;
}

int rocks_error_logged(const struct rocks_engine *rocks, const char *what, char *text)
{
    if (text != NULL)
        log_error("%s: %s: %.500s", rocks->directory, what, text);
    return rocks_error(text);
}

/* --- keys and values -------------------------------------------------------------------------- */

int stored_key_init(struct stored_key *stored, unsigned family, kvs_slice key)
{
    assert(family < ENGINE_FAMILY_COUNT);
    stored->data = stored->room;
    stored->size = 1 + key.size;
    if (stored->size > sizeof stored->room) {
        stored->data = mem_alloc(stored->size);
        if (stored->data == NULL)
            return KVS_ERR_NO_MEMORY;
    }
    stored->data[0] = (char)family;
    if (key.size > 0)
        memcpy(stored->data + 1, key.data, key.size);
    return 0;
}

void stored_key_deinit(struct stored_key *stored)
{
    if (stored->data != stored->room)
        mem_free(stored->data);
}

size_t stored_header_encode(uint8_t header[STORED_HEADER_MAX], uint64_t expires_ms)
{
    header[0] = expires_ms != 0;
    if (expires_ms == 0)
        return 1;
    put_u64(header + 1, expires_ms);
    return STORED_HEADER_MAX;
}

int stored_value_decode(kvs_slice stored, uint64_t *ret_expires_ms, kvs_slice *ret_value)
{
    if (stored.size == 0 || stored.data[0] > 1)
        return KVS_ERR_CORRUPTION;
    size_t header_size = stored.data[0] == 0 ? 1 : STORED_HEADER_MAX;
    if (stored.size < header_size)
        return KVS_ERR_CORRUPTION;
    uint64_t expires_ms = header_size == 1 ? 0 : get_u64(stored.data + 1);
    if (header_size > 1 && expires_ms == 0)
        return KVS_ERR_CORRUPTION;
    *ret_expires_ms = expires_ms;
    *ret_value = slice_make(stored.data + header_size, stored.size - header_size);
    return 0;
}

/* --- snapshots -------------------------------------------------------------------------------- */

struct engine_snapshot *snapshot_new(struct rocks_engine *rocks)
{
    struct engine_snapshot *snapshot = mem_zalloc(sizeof *snapshot);
    if (snapshot == NULL)
        return NULL;
    atomic_init(&snapshot->refs, 1);
    snapshot->db = rocks->db;
    snapshot->may_block = rocksdb_readoptions_create();
    snapshot->in_memory = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(snapshot->in_memory, TIER_BLOCK_CACHE);
    return snapshot;
}

void snapshot_fix(struct engine_snapshot *snapshot)
{
    snapshot->at = rocksdb_create_snapshot(snapshot->db);
    rocksdb_readoptions_set_snapshot(snapshot->may_block, snapshot->at);
    rocksdb_readoptions_set_snapshot(snapshot->in_memory, snapshot->at);
}

void snapshot_unref(struct engine_snapshot *snapshot)
{
    /* acq_rel: the last one out sees that the others have read to the end. */
    if (atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (snapshot->at != NULL)
        rocksdb_release_snapshot(snapshot->db, snapshot->at);
    rocksdb_readoptions_destroy(snapshot->may_block);
    rocksdb_readoptions_destroy(snapshot->in_memory);
    mem_free(snapshot);
}

void snapshot_publish(struct rocks_engine *rocks, struct engine_snapshot *snapshot)
{
    pthread_mutex_lock(&rocks->lock);
    struct engine_snapshot *last = rocks->current;
    rocks->current = snapshot;
    pthread_mutex_unlock(&rocks->lock);
    if (last != NULL)
        snapshot_unref(last);
}

static struct engine_snapshot *snapshot_current(struct rocks_engine *rocks)
{
    pthread_mutex_lock(&rocks->lock);
    struct engine_snapshot *snapshot = rocks->current;
    atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed); /* under the lock */
    pthread_mutex_unlock(&rocks->lock);
    return snapshot;
}

int rocks_snapshot_take(struct engine *engine, struct engine_snapshot **ret_snapshot)
{
    struct rocks_engine *rocks = rocks_of(engine);
    *ret_snapshot = snapshot_current(rocks);
    rocks_count_up(&rocks->snapshots_taken, 1);
    return 0;
}

void rocks_snapshot_release(struct engine *engine, struct engine_snapshot *snapshot)
{
    atomic_fetch_sub_explicit(&rocks_of(engine)->snapshots_taken, 1, memory_order_relaxed);
    snapshot_unref(snapshot);
}

/* --- views ------------------------------------------------------------------------------------ */

/* A value that RocksDB keeps where it is for us. */
struct pin {
    struct pin *next;
    rocksdb_pinnableslice_t *value;
};

/* engine_view.state, by its meaning. */
struct rocks_view {
    struct engine_snapshot *snapshot;
    struct pin *pins;
    uint64_t wall_ms; /* what has expired by then is not seen */
};

static struct rocks_view *view_of(struct engine_view *view)
{
    _Static_assert(sizeof(struct rocks_view) <= sizeof view->state, "state is large enough");
    return (struct rocks_view *)(void *)view->state;
}

int rocks_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                     struct engine_view *view)
{
    struct engine_snapshot *data = (struct engine_snapshot *)snapshot;
    if (data == NULL)
        data = snapshot_current(rocks_of(engine));
    else /* relaxed: the caller holds a reference */
        atomic_fetch_add_explicit(&data->refs, 1, memory_order_relaxed);
    *view_of(view) = (struct rocks_view){.snapshot = data, .wall_ms = clock_wall_ms()};
    return 0;
}

void rocks_view_end(struct engine_view *view)
{
    struct rocks_view *mine = view_of(view);
    for (struct pin *pin = mine->pins; pin != NULL;) {
        struct pin *next = pin->next;
        rocksdb_pinnableslice_destroy(pin->value);
        mem_free(pin);
        pin = next;
    }
    snapshot_unref(mine->snapshot);
}

/* Pins what RocksDB has for a key: NULL in *ret_pin when there is nothing. */
static int view_pin(struct engine_view *view, unsigned family, kvs_slice key, struct pin **ret_pin)
{
    const struct engine_snapshot *snapshot = view_of(view)->snapshot;
    struct stored_key stored;
    int error = stored_key_init(&stored, family, key);
    if (error != 0)
        return error;
    struct pin *pin = mem_alloc(sizeof *pin);
    if (pin == NULL) {
        stored_key_deinit(&stored);
        return KVS_ERR_NO_MEMORY;
    }
    char *text = NULL;
    pin->value = rocksdb_get_pinned(snapshot->db,
                                    view->may_block ? snapshot->may_block : snapshot->in_memory,
                                    stored.data, stored.size, &text);
    stored_key_deinit(&stored);
    if (pin->value == NULL) {
        mem_free(pin);
        pin = NULL;
    }
    *ret_pin = pin;
    return rocks_error(text);
}

static int view_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
                    uint64_t *ret_expires_ms)
{
    struct rocks_view *mine = view_of(view);
    struct pin *pin;
    int error = view_pin(view, family, key, &pin);
    if (error != 0)
        return error;
    if (pin == NULL)
        return KVS_ERR_NOT_FOUND;
    pin->next = mine->pins;
    mine->pins = pin;
    size_t size;
    const char *data = rocksdb_pinnableslice_value(pin->value, &size);
    uint64_t expires_ms;
    kvs_slice value;
    error = stored_value_decode(slice_make(data, size), &expires_ms, &value);
    if (error != 0)
        return error;
    if (is_over(expires_ms, mine->wall_ms))
        return KVS_ERR_NOT_FOUND;
    *ret_value = value;
    *ret_expires_ms = expires_ms;
    return 0;
}

/* Nothing outlives its view: what RocksDB pins has to be given back before RocksDB is closed. */
int rocks_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
              struct engine_pin *ret_pin)
{
    (void)ret_pin;
    uint64_t expires_ms;
    return view_get(view, family, key, ret_value, &expires_ms);
}

void rocks_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys,
                    unsigned count, kvs_slice *ret_values, int *ret_errors,
                    struct engine_pin *ret_pins)
{
    (void)ret_pins;
    for (unsigned i = 0; i < count; i++)
        ret_errors[i] = rocks_get(view, family, keys[i], &ret_values[i], NULL);
}

int rocks_expiry(struct engine_view *view, unsigned family, kvs_slice key,
                 uint64_t *ret_expires_at_ms)
{
    kvs_slice value;
    return view_get(view, family, key, &value, ret_expires_at_ms);
}

/* --- ranges ----------------------------------------------------------------------------------- */

static bool range_is_empty(const struct engine_range *range)
{
    return range->end.size > 0 && slice_compare(range->start, range->end) >= 0;
}

static int stored_walk(rocksdb_iterator_t *iterator, bool reverse, stored_scan_fn *each, void *arg)
{
    if (reverse)
        rocksdb_iter_seek_to_last(iterator);
    else
        rocksdb_iter_seek_to_first(iterator);
    int error = 0;
    while (error == 0 && rocksdb_iter_valid(iterator)) {
        size_t key_size;
        size_t size;
        const char *key = rocksdb_iter_key(iterator, &key_size);
        const char *data = rocksdb_iter_value(iterator, &size);
        uint64_t expires_ms;
        kvs_slice value;
        error = stored_value_decode(slice_make(data, size), &expires_ms, &value);
        if (error == 0)
            error = each(arg, slice_make(key + 1, key_size - 1), expires_ms, value);
        if (error != 0)
            break;
        if (reverse)
            rocksdb_iter_prev(iterator);
        else
            rocksdb_iter_next(iterator);
    }
    if (error != 0)
        return error;
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    return rocks_error(text);
}

int stored_scan(rocksdb_t *db, const rocksdb_snapshot_t *at, bool may_block,
                const struct engine_range *range, stored_scan_fn *each, void *arg)
{
    if (range_is_empty(range))
        return 0;
    /* The family's byte is never the last there is: its end is the next one's begin. */
    struct stored_key lower;
    struct stored_key upper;
    int error = stored_key_init(&lower, range->family, range->start);
    if (error != 0)
        return error;
    error = stored_key_init(&upper, range->family, range->end);
    if (error != 0) {
        stored_key_deinit(&lower);
        return error;
    }
    if (range->end.size == 0)
        upper.data[0]++;
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_snapshot(options, at);
    if (!may_block)
        rocksdb_readoptions_set_read_tier(options, TIER_BLOCK_CACHE);
    rocksdb_readoptions_set_iterate_lower_bound(options, lower.data, lower.size);
    rocksdb_readoptions_set_iterate_upper_bound(options, upper.data, upper.size);
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(db, options);
    error = stored_walk(iterator, range->reverse, each, arg);
    rocksdb_iter_destroy(iterator);
    rocksdb_readoptions_destroy(options);
    stored_key_deinit(&upper);
    stored_key_deinit(&lower);
    return error;
}

struct scan {
    const struct engine_range *range;
    engine_scan_fn *each;
    void *arg;
    uint64_t wall_ms;
};

static int scan_each(void *arg, kvs_slice key, uint64_t expires_ms, kvs_slice value)
{
    const struct scan *scan = arg;
    if (is_over(expires_ms, scan->wall_ms))
        return 0;
    if (scan->range->keys_only)
        value = (kvs_slice){0};
    if (scan->range->sizes_only)
        value.data = NULL;
    return scan->each(scan->arg, key, value);
}

int rocks_scan(struct engine_view *view, const struct engine_range *range, engine_scan_fn *each,
               void *arg)
{
    const struct rocks_view *mine = view_of(view);
    struct scan scan = {.range = range, .each = each, .arg = arg, .wall_ms = mine->wall_ms};
    return stored_scan(mine->snapshot->db, mine->snapshot->at, view->may_block, range, scan_each,
                       &scan);
}

static int count_each(void *arg, kvs_slice key, kvs_slice value)
{
    ++*(uint64_t *)arg;
    return 0;
}

int rocks_count(struct engine_view *view, const struct engine_range *range, uint64_t *ret_count)
{
    struct engine_range forward = *range;
    forward.reverse = false;
    uint64_t count = 0;
    int error = rocks_scan(view, &forward, count_each, &count);
    if (error == 0)
        *ret_count = count;
    return error;
}
