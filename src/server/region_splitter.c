/* server/region_splitter.c: see the header. */
#include "server/region_splitter.h"

#include "base/log.h"
#include "engine/family.h"
#include "pd/keyspaces.h"
#include "proto/tikv/key.h"
#include "txn/record.h"

#include <assert.h>
#include <kvs/error.h>

#define LOOK_MS 1000u
#define REST_FACTOR 20u           /* of the time that a round took */
#define KEYS_A_READ (256u * 1024) /* after so many a read ends behind its region */
#define RAW_FAMILIES 3u           /* default, write, lock: of API V1; V2 has the first */
#define PREFIX 8u /* bytes of a raw key that a bound in front of it can tell apart */

static void round_go_on(struct region_splitter *splitter);

/* --- where to cut -------------------------------------------------------------------------------
 */

/* Does the region belong to a keyspace? Then its bounds are encodings. */
static bool is_of_keyspace(const struct region_splitter *splitter, const struct region *region)
{
    kvs_slice start = region->start;
    if (start.size < PREFIX + 1 || (start.data[0] != KEY_MODE_RAW && start.data[0] != KEY_MODE_TXN))
        return false;
    uint32_t id =
        (uint32_t)start.data[1] << 16 | (uint32_t)start.data[2] << 8 | (uint32_t)start.data[3];
    return id < splitter->cluster->keyspaces->count;
}

/* The first valid encoding behind all keys that begin like the last one; false when `key` is not
 * behind it. Behind the eight bytes an encoding has 0xff, so that is as far as it can tell. */
static bool encoding_between(const struct region_splitter *splitter, kvs_slice key, uint8_t *to,
                             size_t *ret_size)
{
    size_t size = splitter->previous_size < PREFIX ? splitter->previous_size : PREFIX;
    if (splitter->previous_size > PREFIX && splitter->previous[PREFIX] == 0xff)
        return false;
    key_encode(slice_make(splitter->previous, size), to);
    *ret_size = key_encoded_size(size);
    return slice_compare(slice_make(to, *ret_size), key) <= 0;
}

static void cut_added(struct region_splitter *splitter, size_t size)
{
    splitter->cut_bytes.size += size;
    splitter->cut_ends[splitter->cuts_count++] = splitter->cut_bytes.size;
    splitter->part = (struct region_extent){0};
}

/* Appends a bound between the last raw key and this one, when there may be one. */
static int add_cut(struct region_splitter *splitter, kvs_slice key)
{
    struct buf *bytes = &splitter->cut_bytes;
    size_t size = splitter->is_v2 ? key_encoded_size(key.size) : key.size + 2 * (PREFIX + 1);
    int error = buf_reserve(bytes, size);
    if (error != 0)
        return error;
    uint8_t *to = bytes->data + bytes->size;
    if (splitter->is_v2) {
        key_encode(key, to);
    } else if (splitter->options.raw_bounds) {
        memcpy(to, key.data, key.size);
        size = key.size;
    } else if (!encoding_between(splitter, key, to, &size)) {
        splitter->no_place = true;
        return 0;
    }
    cut_added(splitter, size);
    return 0;
}

/* Appends a bound in front of a transaction's key; bytes that are no encoding are passed over. */
static int add_cut_encoded(struct region_splitter *splitter, kvs_slice encoded)
{
    int error = buf_reserve(&splitter->cut_bytes, encoded.size);
    if (error != 0)
        return error;
    uint8_t *to = splitter->cut_bytes.data + splitter->cut_bytes.size;
    size_t size;
    if (key_decode(encoded, to, &size) != 0)
        return 0;
    memcpy(to, encoded.data, encoded.size);
    cut_added(splitter, encoded.size);
    return 0;
}

/* --- counting, on the pool ----------------------------------------------------------------------
 */

static bool reaches(const struct region_splitter *splitter, const struct region_extent *extent,
                    unsigned share)
{
    const struct region_splitter_options *options = &splitter->options;
    return (options->keys_max > 0 && extent->keys * share >= options->keys_max) ||
           (options->bytes_max > 0 && extent->bytes * share >= options->bytes_max);
}

static bool is_over(const struct region_splitter *splitter)
{
    const struct region_splitter_options *options = &splitter->options;
    return (options->keys_max > 0 && splitter->total.keys > options->keys_max) ||
           (options->bytes_max > 0 && splitter->total.bytes > options->bytes_max);
}

/* Counts a record. It begins a part of its own when what is before it is enough for one. */
static int count(struct region_splitter *splitter, kvs_slice key, uint64_t keys, uint64_t bytes,
                 int (*cut)(struct region_splitter *splitter, kvs_slice key))
{
    if (atomic_load_explicit(&splitter->closing, memory_order_relaxed))
        return KVS_ERR_CANCELLED;
    if (cut != NULL && splitter->part.bytes > 0 && reaches(splitter, &splitter->part, 2)) {
        int error =
            splitter->cuts_count < SPLITTER_CUTS_MAX ? cut(splitter, key) : KVS_ERR_TOO_LARGE;
        if (error != 0)
            return error;
    }
    splitter->total.keys += keys;
    splitter->total.bytes += bytes;
    splitter->part.keys += keys;
    splitter->part.bytes += bytes;
    return 0;
}

static int on_key(void *arg, kvs_slice key, kvs_slice value)
{
    struct region_splitter *splitter = arg;
    int error = count(splitter, key, 1, key.size + value.size, add_cut);
    if (error != 0)
        return error;
    size_t size = key.size < PREFIX + 1 ? key.size : PREFIX + 1;
    if (size > 0)
        memcpy(splitter->previous, key.data, size);
    splitter->previous_size = key.size;
    return 0;
}

/* A version of a transaction's key: versions stay together, and count as one key. */
static int on_version(void *arg, kvs_slice key, kvs_slice value)
{
    struct region_splitter *splitter = arg;
    kvs_slice encoded;
    uint64_t ts;
    if (!record_key_split(key, &encoded, &ts))
        return 0; /* reads tell of it */
    bool is_new = !slice_equal(encoded, slice_make(splitter->previous, splitter->previous_size));
    int error = count(splitter, encoded, is_new && splitter->counts_keys ? 1 : 0,
                      key.size + value.size, is_new ? add_cut_encoded : NULL);
    if (error != 0 || !is_new)
        return error;
    memcpy(splitter->previous, encoded.data, encoded.size);
    splitter->previous_size = encoded.size;
    return 0;
}

/* What would be left behind the last of the cuts since `before` is little: it stays with the part
 * in front of it. */
static void join_last_part(struct region_splitter *splitter, size_t before)
{
    if (splitter->cuts_count <= before + 1 || reaches(splitter, &splitter->part, 4))
        return;
    splitter->cuts_count--;
    splitter->cut_bytes.size = splitter->cut_ends[splitter->cuts_count - 1];
}

static int measure(struct region_splitter *splitter, struct engine_view *view,
                   const struct engine_range *range,
                   int (*each)(void *arg, kvs_slice key, kvs_slice value))
{
    size_t before = splitter->cuts_count;
    splitter->part = (struct region_extent){0};
    splitter->previous_size = 0;
    int error = engine_scan(view, range, each, splitter);
    if (error == 0)
        join_last_part(splitter, before);
    return error;
}

static int measure_family(struct region_splitter *splitter, struct engine_view *view,
                          const struct region *region, unsigned family)
{
    struct engine_range range = {
        .family = (uint8_t)family, .sizes_only = true, .start = region->start, .end = region->end};
    uint8_t *keys = NULL;
    struct buf bounds = BUF_INIT;
    if (splitter->is_v2) {
        size_t room = region->start.size + 8;
        int error = buf_reserve(&bounds, room + region->end.size + 8);
        if (error != 0)
            return error;
        keys = bounds.data;
        range.start = slice_make(keys, key_at_or_above(region->start, keys));
        range.end = slice_make(keys + room, key_at_or_above(region->end, keys + room));
    }
    int error = measure(splitter, view, &range, on_key);
    buf_deinit(&bounds);
    return error;
}

/* Records of transactions begin with their keys' encodings, as regions do. Values that are long
 * have a family of their own; each key is counted where its versions are. */
static int measure_versions(struct region_splitter *splitter, struct engine_view *view,
                            const struct region *region, enum engine_family family)
{
    struct engine_range range = {
        .family = (uint8_t)family, .sizes_only = true, .start = region->start, .end = region->end};
    splitter->counts_keys = family == ENGINE_FAMILY_TXN_WRITE;
    return measure(splitter, view, &range, on_version);
}

/* Cuts are left when the region is over the bound. */
static int measure_region(struct region_splitter *splitter, struct engine_view *view,
                          const struct region *region)
{
    splitter->is_v2 = is_of_keyspace(splitter, region);
    splitter->total = (struct region_extent){0};
    splitter->no_place = false;
    splitter->region_id = region->id;
    splitter->region_version = region->version;
    if (splitter->is_v2 && region->start.data[0] == KEY_MODE_RAW && !splitter->options.raw_bounds)
        return 0;
    int error = 0;
    for (unsigned family = 0; family < (splitter->is_v2 ? 1u : RAW_FAMILIES) && error == 0;
         family++)
        error = measure_family(splitter, view, region, family);
    if (error == 0)
        error = measure_versions(splitter, view, region, ENGINE_FAMILY_TXN_WRITE);
    if (error == 0)
        error = measure_versions(splitter, view, region, ENGINE_FAMILY_TXN_DATA);
    if (error == KVS_ERR_TOO_LARGE) /* as many cuts as fit: the rest is for the next round */
        return 0;
    if (is_over(splitter) && splitter->cuts_count == 0 && splitter->no_place)
        splitter->stuck = true;
    if (!is_over(splitter))
        splitter->cuts_count = 0;
    return error;
}

static int on_pool(struct engine_read *read, struct engine_view *view)
{
    struct region_splitter *splitter = CONTAINER_OF(read, struct region_splitter, read);
    uint64_t seen = 0;
    while (!splitter->at_end && seen < KEYS_A_READ && splitter->cuts_count == 0) {
        const struct region *region = region_find(splitter->list, buf_slice(&splitter->at));
        buf_clear(&splitter->cut_bytes);
        int error = measure_region(splitter, view, region);
        seen += splitter->total.keys;
        buf_clear(&splitter->at);
        splitter->at_end = region->end.size == 0;
        if (error == 0)
            error = buf_append_slice(&splitter->at, region->end);
        if (error != 0)
            return error;
    }
    return 0;
}

/* --- rounds, on the loop ------------------------------------------------------------------------
 */

static void on_timer(uv_timer_t *timer);

static void on_timer_closed(uv_handle_t *handle)
{
    struct region_splitter *splitter = handle->data;
    splitter->on_closed(splitter->arg);
}

static void close_when_idle(struct region_splitter *splitter)
{
    if (!splitter->busy)
        uv_close((uv_handle_t *)&splitter->timer, on_timer_closed);
}

static void round_end(struct region_splitter *splitter, int error)
{
    splitter->busy = false;
    if (atomic_load_explicit(&splitter->closing, memory_order_relaxed)) {
        close_when_idle(splitter);
        return;
    }
    if (error != 0)
        log_warn("regions are not looked at: %s", kvs_error_text(error));
    if (splitter->stuck && !splitter->complained) {
        log_info("a region is over its bound, and its keys have their first 8 bytes in common: it "
                 "is cut only with --split-raw");
        splitter->complained = true;
    }
    uint64_t rest_ms = (loop_now_ms(splitter->loop) - splitter->round_ms) * REST_FACTOR;
    uv_timer_start(&splitter->timer, on_timer, rest_ms > LOOK_MS ? rest_ms : LOOK_MS, 0);
}

static void on_split(struct region_split *split, int error)
{
    struct region_splitter *splitter = CONTAINER_OF(split, struct region_splitter, split);
    if (error == 0)
        log_info("region %llu was cut into %zu", (unsigned long long)splitter->region_id,
                 splitter->cuts_count + 1);
    if (error == 0 || error == KVS_ERR_CONDITION_FAILED)
        round_go_on(splitter);
    else
        round_end(splitter, error);
}

static void on_read(struct task *task)
{
    struct region_splitter *splitter = CONTAINER_OF(task, struct region_splitter, read.op.task);
    int error = splitter->read.op.error;
    if (error != 0 || splitter->cuts_count == 0) {
        if (error != 0)
            round_end(splitter, error);
        else
            round_go_on(splitter);
        return;
    }
    size_t begin = 0;
    for (size_t i = 0; i < splitter->cuts_count; i++) {
        splitter->cuts[i] =
            slice_make(splitter->cut_bytes.data + begin, splitter->cut_ends[i] - begin);
        begin = splitter->cut_ends[i];
    }
    splitter->split = (struct region_split){
        .keys = splitter->cuts,
        .count = splitter->cuts_count,
        .region_id = splitter->region_id,
        .version = splitter->region_version,
        .done = on_split,
    };
    region_map_split(splitter->cluster->regions, splitter->loop, &splitter->split);
}

static void round_go_on(struct region_splitter *splitter)
{
    if (splitter->at_end || atomic_load_explicit(&splitter->closing, memory_order_relaxed)) {
        round_end(splitter, 0);
        return;
    }
    splitter->cuts_count = 0;
    splitter->list = region_reader_list(&splitter->reader);
    splitter->read = (struct engine_read){.run = on_pool};
    splitter->read.op.task.run = on_read;
    splitter->read.op.loop = splitter->loop;
    engine_read(splitter->cluster->engine, &splitter->read);
}

static void on_timer(uv_timer_t *timer)
{
    struct region_splitter *splitter = timer->data;
    struct engine_stats stats;
    engine_stats(splitter->cluster->engine, &stats);
    if (stats.writes == splitter->writes_seen) {
        uv_timer_start(&splitter->timer, on_timer, LOOK_MS, 0);
        return;
    }
    splitter->writes_seen = stats.writes;
    splitter->round_ms = loop_now_ms(splitter->loop);
    splitter->busy = true;
    splitter->at_end = false;
    splitter->stuck = false;
    buf_clear(&splitter->at);
    round_go_on(splitter);
}

void region_splitter_start(struct region_splitter *splitter, struct cluster *cluster,
                           struct loop *loop, const struct region_splitter_options *options)
{
    *splitter = (struct region_splitter){.options = *options, .cluster = cluster, .loop = loop};
    splitter->writes_seen = UINT64_MAX; /* the first round looks at what is there */
    region_reader_init(&splitter->reader, cluster->regions);
    uv_timer_init(loop->uv, &splitter->timer); /* cannot fail */
    splitter->timer.data = splitter;
    uv_timer_start(&splitter->timer, on_timer, 0, 0);
}

void region_splitter_close(struct region_splitter *splitter, void (*on_closed)(void *arg),
                           void *arg)
{
    assert(splitter->on_closed == NULL);
    splitter->on_closed = on_closed;
    splitter->arg = arg;
    atomic_store_explicit(&splitter->closing, true, memory_order_relaxed);
    close_when_idle(splitter);
}

void region_splitter_deinit(struct region_splitter *splitter)
{
    region_reader_deinit(&splitter->reader);
    buf_deinit(&splitter->at);
    buf_deinit(&splitter->cut_bytes);
}
