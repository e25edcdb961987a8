/*
 * engine/log/hint_build.c: the hint of a segment from its records.
 *
 *   1. all sets and removes are gathered; range removals beside them;
 *   2. they are sorted by family and key (hint_sort.c);
 *   3. of each key the last record is written as an item.
 * Failure: the memory of what was gathered is freed; nothing else was touched.
 */
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/mem.h"
#include "engine/log/hint_format.h"
#include "engine/log/hint_sort.h"
#include "engine/log/range_sweep.h"

#include <kvs/error.h>

#define ITEM_SIZE_MAX (1 + 3 * 5 + 4 + 8) /* but for the key */
#define PREFETCH_AHEAD 16u

struct build {
    kvs_slice segment;
    struct hint *hint;
    struct sort_item *items;
    size_t count;
    size_t capacity;
    struct range_list ranges;
    struct buf range_records;
    struct buf restarts;
    kvs_slice previous; /* the key of the item written last, ... */
    uint32_t previous_value_size;
    uint32_t previous_offset;
    unsigned previous_family;
    uint32_t in_family; /* ... and how many of its family were */
};

static void record_at(const struct build *build, uint32_t offset, struct record *ret_record)
{
    (void)record_parse(slice_make(build->segment.data + offset, build->segment.size - offset),
                       ret_record);
}

/* --- gathering -------------------------------------------------------------------------------- */

static int item_gather(struct build *build, const struct record *record, uint32_t offset)
{
    if (build->count == build->capacity) {
        size_t capacity = build->capacity > 0 ? 2 * build->capacity : 1024;
        struct sort_item *items = mem_realloc(build->items, capacity * sizeof *items);
        if (items == NULL)
            return KVS_ERR_NO_MEMORY;
        build->items = items;
        build->capacity = capacity;
    }
    build->items[build->count++] = (struct sort_item){.offset = offset, .family = record->family};
    if (record->key.size > build->hint->key_size_max)
        build->hint->key_size_max = (uint32_t)record->key.size;
    return 0;
}

/* Written anew, since the padding of the one in the segment may hold anything. */
static int range_gather(struct build *build, const struct record *record, size_t size)
{
    struct buf *records = &build->range_records;
    if (buf_reserve(records, size) != 0)
        return KVS_ERR_NO_MEMORY;
    record_encode(records->data + records->size, build->hint->binding.segment, record);
    records->size += size;
    return range_list_add(&build->ranges, record);
}

static int record_gather(struct build *build, const struct record *record, uint32_t offset,
                         size_t size)
{
    struct hint *hint = build->hint;
    if (record->kind <= RECORD_REMOVE_RANGE && record->sequence > hint->sequence_last)
        hint->sequence_last = record->sequence;
    switch (record->kind) {
    case RECORD_SET:
        if (record->sequence < hint->set_sequence_min)
            hint->set_sequence_min = record->sequence;
        return item_gather(build, record, offset);
    case RECORD_REMOVE:
        hint->tombstone_bytes += size;
        return item_gather(build, record, offset);
    case RECORD_REMOVE_RANGE:
        hint->tombstone_bytes += size;
        return range_gather(build, record, size);
    case RECORD_SEAL:
        hint->binding.seal_checksum = get_u32(build->segment.data + offset);
        return 0;
    default:
        return 0;
    }
}

static int records_gather(struct build *build)
{
    uint32_t offset = SEGMENT_HEADER_SIZE;
    while (offset < build->segment.size) {
        struct record record;
        kvs_slice rest = slice_make(build->segment.data + offset, build->segment.size - offset);
        size_t size = record_parse(rest, &record);
        if (size == 0)
            return KVS_ERR_CORRUPTION;
        int error = record_gather(build, &record, offset, size);
        if (error != 0)
            return error;
        offset += (uint32_t)size;
    }
    return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static uint8_t *varint_put(uint8_t *p, size_t value)
{
    for (; value >= 0x80; value >>= 7)
        *p++ = (uint8_t)(value | 0x80);
    *p++ = (uint8_t)value;
    return p;
}

static int restart_add(struct build *build)
{
    struct hint *hint = build->hint;
    size_t at = hint->bytes.size - HINT_HEADER_SIZE;
    if (at > UINT32_MAX)
        return KVS_ERR_TOO_LARGE;
    int error = buf_append_u32(&build->restarts, (uint32_t)at);
    if (error == 0)
        error = buf_append_u32(&build->restarts, hint->count);
    /* Filled in at the end: the block's checksum. */
    return error != 0 ? error : buf_append_u32(&build->restarts, 0);
}

static size_t shared_size(kvs_slice a, kvs_slice b)
{
    size_t size = 0;
    while (size < a.size && size < b.size && a.data[size] == b.data[size])
        size++;
    return size;
}

static int item_write(struct build *build, const struct record *record, uint32_t offset)
{
    struct buf *bytes = &build->hint->bytes;
    if (record->family != build->previous_family)
        build->in_family = 0;
    bool restart = build->in_family++ % HINT_RESTART_EVERY == 0;
    if (restart && restart_add(build) != 0)
        return KVS_ERR_NO_MEMORY;
    if (buf_reserve(bytes, ITEM_SIZE_MAX + record->key.size) != 0)
        return KVS_ERR_NO_MEMORY;
    size_t shared = restart ? 0 : shared_size(build->previous, record->key);
    bool sizes = restart || record->key.size != build->previous.size ||
                 record->value.size != build->previous_value_size;
    uint8_t *p = bytes->data + bytes->size;
    size_t shown = shared < HINT_ITEM_SHARED_MAX ? shared : HINT_ITEM_SHARED_MAX;
    *p++ = (uint8_t)((record->kind == RECORD_REMOVE ? HINT_ITEM_REMOVE : 0) |
                     (record->expires_at_ms != 0 ? HINT_ITEM_EXPIRES : 0) |
                     (sizes ? HINT_ITEM_SIZES : 0) | shown << HINT_ITEM_SHARED_SHIFT);
    if (shown == HINT_ITEM_SHARED_MAX)
        p = varint_put(p, shared - shown);
    if (sizes) {
        p = varint_put(p, record->key.size);
        p = varint_put(p, record->value.size);
    }
    put_u32(p, offset / RECORD_ALIGNMENT);
    p += hint_offset_width(build->hint->binding.size);
    if (record->expires_at_ms != 0) {
        put_u64(p, record->expires_at_ms);
        p += 8;
    }
    memcpy(p, record->key.data + shared, record->key.size - shared);
    bytes->size = (size_t)(p - bytes->data) + record->key.size - shared;
    build->previous = record->key;
    build->previous_value_size = (uint32_t)record->value.size;
    build->previous_family = record->family;
    build->hint->runs += offset < build->previous_offset;
    build->previous_offset = offset;
    build->hint->counts[record->family]++;
    build->hint->count++;
    return 0;
}

/* A key that a younger range removal of this segment has needs no item: what older segments say of
 * it is older, too, and that removal has it as well. */
static int item_consider(struct build *build, struct range_sweep *sweep,
                         const struct record *record, uint32_t offset)
{
    uint64_t removed;
    int error = range_sweep_at(sweep, record->family, record->key, &removed);
    if (error != 0 || removed > record->sequence)
        return error;
    return item_write(build, record, offset);
}

static int items_write(struct build *build)
{
    struct range_sweep sweep;
    range_list_sort(&build->ranges);
    int error = range_sweep_init(&sweep, &build->ranges);
    for (size_t i = 0; i < build->count && error == 0; i++) {
        struct record record;
        struct record next;
        const struct sort_item *item = &build->items[i];
        if (i + PREFETCH_AHEAD < build->count)
            __builtin_prefetch(build->segment.data + build->items[i + PREFETCH_AHEAD].offset);
        record_at(build, item->offset, &record);
        if (i + 1 < build->count && item[1].word == item->word && item[1].family == item->family) {
            record_at(build, item[1].offset, &next);
            if (slice_equal(next.key, record.key))
                continue; /* there is a later one */
        }
        error = item_consider(build, &sweep, &record, item->offset);
    }
    range_sweep_deinit(&sweep);
    return error;
}

static void blocks_sum(struct hint *hint)
{
    uint8_t *restarts = hint->bytes.data + HINT_HEADER_SIZE + hint->items.size + hint->ranges.size;
    for (uint32_t i = 0; i < hint_restarts(hint); i++) {
        struct hint_block block = hint_block(hint, i);
        put_u32(restarts + (size_t)HINT_RESTART_SIZE * i + 8,
                checksum(hint->items.data + block.at, block.size));
    }
}

static int hint_finish(struct build *build)
{
    struct hint *hint = build->hint;
    size_t items = hint->bytes.size - HINT_HEADER_SIZE;
    size_t ranges = build->range_records.size;
    size_t restarts = build->restarts.size;
    if (items > UINT32_MAX || ranges > UINT32_MAX || restarts > UINT32_MAX)
        return KVS_ERR_TOO_LARGE;
    int error = buf_append_slice(&hint->bytes, buf_slice(&build->range_records));
    if (error == 0)
        error = buf_append_slice(&hint->bytes, buf_slice(&build->restarts));
    if (error != 0)
        return error;
    hint_slices_set(hint, items, ranges, restarts);
    blocks_sum(hint);
    hint_header_encode(hint->bytes.data, hint);
    return 0;
}

int hint_build(kvs_slice segment, uint32_t number, struct hint *ret_hint)
{
    static const uint8_t header[HINT_HEADER_SIZE] = {0}; /* filled in at the end */
    struct hint hint = {.binding = {.segment = number,
                                    .size = (uint32_t)segment.size,
                                    .header_checksum = get_u32(segment.data + 28)},
                        .set_sequence_min = UINT64_MAX,
                        .restart_size = HINT_RESTART_SIZE};
    struct build build = {.segment = segment,
                          .hint = &hint,
                          .previous_family = HINT_FAMILIES,
                          .previous_offset = UINT32_MAX};
    int error = buf_append(&hint.bytes, header, sizeof header);
    if (error == 0)
        error = records_gather(&build);
    if (error == 0)
        error = hint_sort(segment, build.items, build.count);
    if (error == 0)
        error = items_write(&build);
    if (error == 0)
        error = hint_finish(&build);
    mem_free(build.items);
    range_list_deinit(&build.ranges);
    buf_deinit(&build.range_records);
    buf_deinit(&build.restarts);
    if (error != 0) {
        hint_deinit(&hint);
        return error;
    }
    *ret_hint = hint;
    return 0;
}
