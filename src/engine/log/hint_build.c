/*
 * engine/log/hint_build.c: the hint of a segment from its records.
 *
 *   1. all sets and removes are gathered: a word of the key, behind what all keys have in common,
 *      and the offset; range removals beside them;
 *   2. they are sorted by family and that word, byte by byte (no comparisons: half a million keys
 *      take 10 ms), then those with the same word by the rest of their keys;
 *   3. of each key the last record is written as an item.
 * Failure: the memory of what was gathered is freed; nothing else was touched.
 */
#include "base/bytes.h"
#include "base/mem.h"
#include "engine/log/hint_format.h"
#include "engine/log/range_sweep.h"

#include <kvs/error.h>

#define ITEM_SIZE_MAX (1 + 3 * 5 + 4 + 8) /* but for the key */
#define PREFETCH_AHEAD 16u

struct sort_item {
    uint64_t word;
    uint32_t offset;
    uint32_t family;
};

struct build {
    kvs_slice segment;
    struct hint *hint;
    struct sort_item *items;
    struct sort_item *scratch;
    size_t count;
    size_t capacity;
    kvs_slice head; /* what all keys begin with */
    unsigned families;
    struct range_list ranges;
    struct buf range_records;
    struct buf restarts;
    kvs_slice previous; /* the key of the item written last, ... */
    uint32_t previous_value_size;
    unsigned previous_family;
    uint32_t in_family; /* ... and how many of its family were */
};

static void record_at(const struct build *build, uint32_t offset, struct record *ret_record)
{
    (void)record_parse(slice_make(build->segment.data + offset, build->segment.size - offset),
                       ret_record);
}

/* --- gathering -------------------------------------------------------------------------------- */

static void head_shorten(struct build *build, kvs_slice key)
{
    if (build->count == 0)
        build->head = key;
    size_t same = 0;
    while (same < build->head.size && same < key.size && build->head.data[same] == key.data[same])
        same++;
    build->head.size = same;
}

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
    head_shorten(build, record->key);
    build->items[build->count++] = (struct sort_item){.offset = offset, .family = record->family};
    build->families |= 1u << record->family;
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

/* --- sorting ---------------------------------------------------------------------------------- */

static void words_fill(struct build *build)
{
    size_t skip = build->head.size;
    for (size_t i = 0; i < build->count; i++) {
        struct record record;
        record_at(build, build->items[i].offset, &record);
        uint8_t bytes[8] = {0};
        size_t size = record.key.size - skip;
        if (size > 0)
            memcpy(bytes, record.key.data + skip, size < 8 ? size : 8);
        build->items[i].word = get_u64_be(bytes);
    }
}

/* One byte of all items, stable; `shift` 64: the family. Left out when all have the same. */
static void byte_sort(struct build *build, unsigned shift)
{
    size_t places[256] = {0};
    const struct sort_item *items = build->items;
    size_t count = build->count;
    for (size_t i = 0; i < count; i++)
        places[shift < 64 ? (items[i].word >> shift) & 0xff : items[i].family]++;
    size_t place = 0;
    for (unsigned i = 0; i < 256; i++) {
        if (places[i] == count)
            return;
        size_t here = places[i];
        places[i] = place;
        place += here;
    }
    for (size_t i = 0; i < count; i++)
        build->scratch[places[shift < 64 ? (items[i].word >> shift) & 0xff : items[i].family]++] =
            items[i];
    struct sort_item *sorted = build->scratch;
    build->scratch = build->items;
    build->items = sorted;
}

static int same_word_compare(const struct build *build, const struct sort_item *a,
                             const struct sort_item *b)
{
    struct record x;
    struct record y;
    record_at(build, a->offset, &x);
    record_at(build, b->offset, &y);
    int order = slice_compare(x.key, y.key);
    return order != 0 ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

static void heap_sift(const struct build *build, struct sort_item *items, size_t at, size_t count)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && same_word_compare(build, &items[child], &items[child + 1]) < 0)
            child++;
        if (same_word_compare(build, &items[at], &items[child]) >= 0)
            return;
        struct sort_item moved = items[at];
        items[at] = items[child];
        items[child] = moved;
    }
}

/* Items whose words are the same, by their keys and offsets. A heap: no memory, no worst case. */
static void same_word_sort(const struct build *build, struct sort_item *items, size_t count)
{
    bool sorted = true;
    for (size_t i = 1; i < count && sorted; i++)
        sorted = same_word_compare(build, &items[i - 1], &items[i]) < 0;
    if (sorted)
        return;
    for (size_t i = count / 2; i-- > 0;)
        heap_sift(build, items, i, count);
    for (size_t end = count - 1; end > 0; end--) {
        struct sort_item last = items[end];
        items[end] = items[0];
        items[0] = last;
        heap_sift(build, items, 0, end);
    }
}

static int items_sort(struct build *build)
{
    if (build->count < 2)
        return 0;
    build->scratch = mem_alloc(build->count * sizeof *build->scratch);
    if (build->scratch == NULL)
        return KVS_ERR_NO_MEMORY;
    words_fill(build);
    for (unsigned shift = 0; shift <= 64; shift += 8)
        byte_sort(build, shift);
    for (size_t from = 0, to; from < build->count; from = to) {
        const struct sort_item *first = &build->items[from];
        for (to = from + 1; to < build->count && build->items[to].word == first->word &&
                            build->items[to].family == first->family;)
            to++;
        if (to - from > 1)
            same_word_sort(build, &build->items[from], to - from);
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
    return error != 0 ? error : buf_append_u32(&build->restarts, hint->count);
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
    hint_header_encode(hint->bytes.data, hint);
    return 0;
}

int hint_build(kvs_slice segment, uint32_t number, struct hint *ret_hint)
{
    static const uint8_t header[HINT_HEADER_SIZE] = {0}; /* filled in at the end */
    struct hint hint = {.binding = {.segment = number,
                                    .size = (uint32_t)segment.size,
                                    .header_checksum = get_u32(segment.data + 28)},
                        .set_sequence_min = UINT64_MAX};
    struct build build = {.segment = segment, .hint = &hint, .previous_family = HINT_FAMILIES};
    int error = buf_append(&hint.bytes, header, sizeof header);
    if (error == 0)
        error = records_gather(&build);
    if (error == 0)
        error = items_sort(&build);
    if (error == 0)
        error = items_write(&build);
    if (error == 0)
        error = hint_finish(&build);
    mem_free(build.items);
    mem_free(build.scratch);
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
