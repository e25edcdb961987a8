/* engine/log/hint.c: reading hints; see engine/log/hint.h. They are made in hint_build.c. */
#include "engine/log/hint.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/mem.h"
#include "engine/log/hint_format.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>

/* The last byte is the revision: '1' has one checksum for all, and none for blocks. */
static const uint8_t hint_magic[7] = {'K', 'V', 'S', 'H', 'I', 'N', 'T'};
#define REVISION '2'
#define REVISION_OLD '1'
#define RESTART_SIZE_OLD 8u

void hint_deinit(struct hint *hint)
{
    buf_deinit(&hint->bytes);
    *hint = (struct hint){0};
}

/* --- the header ------------------------------------------------------------------------------- */

void hint_header_encode(uint8_t out[HINT_HEADER_SIZE], const struct hint *hint)
{
    memset(out, 0, HINT_HEADER_SIZE);
    memcpy(out, hint_magic, sizeof hint_magic);
    out[7] = REVISION;
    put_u32(out + 8, hint->binding.segment);
    put_u32(out + 12, hint->binding.size);
    put_u32(out + 16, hint->binding.header_checksum);
    put_u32(out + 20, hint->binding.seal_checksum);
    put_u64(out + 24, hint->sequence_last);
    put_u64(out + 32, hint->set_sequence_min);
    put_u64(out + 40, hint->tombstone_bytes);
    put_u32(out + 48, hint->key_size_max);
    put_u32(out + 52, (uint32_t)hint->items.size);
    put_u32(out + 56, (uint32_t)hint->ranges.size);
    put_u32(out + 60, hint_restarts(hint));
    for (unsigned i = 0; i < HINT_FAMILIES; i++)
        put_u32(out + 64 + (size_t)4 * i, hint->counts[i]);
    put_u64(out + 128, checksum_long(hint->ranges.data, hint->ranges.size + hint->restarts.size));
    put_u32(out + 140, checksum(out, 140));
}

void hint_slices_set(struct hint *hint, size_t items, size_t ranges, size_t restarts)
{
    const uint8_t *body = hint->bytes.data + HINT_HEADER_SIZE;
    hint->items = slice_make(body, items);
    hint->ranges = slice_make(body + items, ranges);
    hint->restarts = slice_make(body + items + ranges, restarts);
}

/* The revision, or 0. */
static uint8_t header_revision(const uint8_t *p)
{
    bool is_ours = memcmp(p, hint_magic, sizeof hint_magic) == 0 &&
                   (p[7] == REVISION || p[7] == REVISION_OLD) &&
                   get_u32(p + 140) == checksum(p, 140);
    return is_ours ? p[7] : 0;
}

uint32_t hint_items_size(const uint8_t header[HINT_HEADER_SIZE])
{
    return header_revision(header) == REVISION ? get_u32(header + 52) : 0;
}

static bool header_decode(const struct buf *bytes, struct hint *hint)
{
    const uint8_t *p = bytes->data;
    uint8_t revision = bytes->size >= HINT_HEADER_SIZE ? header_revision(p) : 0;
    if (revision == 0)
        return false;
    hint->restart_size = revision == REVISION ? HINT_RESTART_SIZE : RESTART_SIZE_OLD;
    hint->binding =
        (struct hint_binding){get_u32(p + 8), get_u32(p + 12), get_u32(p + 16), get_u32(p + 20)};
    hint->sequence_last = get_u64(p + 24);
    hint->set_sequence_min = get_u64(p + 32);
    hint->tombstone_bytes = get_u64(p + 40);
    hint->key_size_max = get_u32(p + 48);
    uint64_t items = get_u32(p + 52);
    uint64_t ranges = get_u32(p + 56);
    uint64_t restarts = (uint64_t)get_u32(p + 60) * hint->restart_size;
    uint64_t count = 0;
    for (unsigned i = 0; i < HINT_FAMILIES; i++)
        count += hint->counts[i] = get_u32(p + 64 + (size_t)4 * i);
    if (HINT_HEADER_SIZE + items + ranges + restarts != bytes->size || count > items ||
        hint->key_size_max > UINT16_MAX || hint->sequence_last > SEQUENCE_MAX)
        return false;
    hint->count = (uint32_t)count;
    hint->bytes = *bytes;
    hint_slices_set(hint, items, ranges, restarts);
    const uint8_t *summed = revision == REVISION ? hint->ranges.data : hint->items.data;
    return get_u64(p + 128) == checksum_long(summed, (size_t)(p + bytes->size - summed));
}

static bool binding_is(const struct hint_binding *a, const struct hint_binding *b)
{
    return a->segment == b->segment && a->size == b->size &&
           a->header_checksum == b->header_checksum && a->seal_checksum == b->seal_checksum;
}

static bool ranges_are_valid(const struct hint *hint)
{
    kvs_slice rest = hint->ranges;
    struct record record;
    while (rest.size > 0) {
        size_t size = record_decode(rest, hint->binding.segment, &record);
        if (size == 0 || record.kind != RECORD_REMOVE_RANGE)
            return false;
        rest = slice_make(rest.data + size, rest.size - size);
    }
    return true;
}

static uint32_t restart_at(const struct hint *hint, uint32_t restart)
{
    return get_u32(hint->restarts.data + (size_t)hint->restart_size * restart);
}

/* How many items are before it. */
static uint32_t restart_count(const struct hint *hint, uint32_t restart)
{
    return get_u32(hint->restarts.data + (size_t)hint->restart_size * restart + 4);
}

/* Where each family's items must begin a block follows from their numbers. */
static bool restarts_are_valid(const struct hint *hint)
{
    uint32_t restarts = hint_restarts(hint);
    uint32_t restart = 0;
    uint32_t before = 0;
    for (unsigned family = 0; family < HINT_FAMILIES; family++) {
        for (uint32_t i = 0; i < hint->counts[family]; i += HINT_RESTART_EVERY, restart++) {
            if (restart >= restarts || restart_count(hint, restart) != before + i ||
                restart_at(hint, restart) >= hint->items.size ||
                (restart == 0 && restart_at(hint, restart) != 0) ||
                (restart > 0 && restart_at(hint, restart) <= restart_at(hint, restart - 1)))
                return false;
        }
        before += hint->counts[family];
    }
    return restart == restarts && (restarts > 0 || hint->items.size == 0);
}

static bool blocks_are_right(const struct hint *hint)
{
    if (hint_is_old(hint)) /* one checksum for all has been right */
        return true;
    for (uint32_t i = 0; i < hint_restarts(hint); i++) {
        struct hint_block block = hint_block(hint, i);
        if (!hint_block_is_right(hint, i, slice_make(hint->items.data + block.at, block.size)))
            return false;
    }
    return true;
}

int hint_check_items(struct hint *hint)
{
    if (!blocks_are_right(hint))
        return KVS_ERR_CORRUPTION;
    struct hint_cursor cursor;
    int error = hint_cursor_init(&cursor, hint);
    if (error != 0)
        return error;
    uint32_t offset = UINT32_MAX;
    hint->runs = 0;
    while (hint_cursor_next(&cursor)) {
        hint->runs += cursor.item.offset < offset;
        offset = cursor.item.offset;
    }
    bool valid = !cursor.is_bad && cursor.next == hint->count && cursor.at == hint->items.size &&
                 cursor.restart == hint_restarts(hint);
    hint_cursor_deinit(&cursor);
    return valid ? 0 : KVS_ERR_CORRUPTION;
}

static bool frame_is_valid(const struct buf *bytes, const struct hint_binding *expected,
                           struct hint *hint)
{
    return header_decode(bytes, hint) && binding_is(&hint->binding, expected) &&
           ranges_are_valid(hint) && restarts_are_valid(hint);
}

bool hint_take_frame(struct buf *bytes, const struct hint_binding *expected, struct hint *ret_hint)
{
    struct hint hint = {0};
    if (!frame_is_valid(bytes, expected, &hint))
        return false;
    *bytes = BUF_INIT;
    *ret_hint = hint;
    return true;
}

int hint_take(struct buf *bytes, const struct hint_binding *expected, struct hint *ret_hint)
{
    struct hint hint = {0};
    int error =
        frame_is_valid(bytes, expected, &hint) ? hint_check_items(&hint) : KVS_ERR_CORRUPTION;
    if (error != 0)
        return error;
    *bytes = BUF_INIT;
    *ret_hint = hint;
    return 0;
}

bool hint_is_old(const struct hint *hint)
{
    return hint->restart_size == RESTART_SIZE_OLD;
}

bool hint_is_same(const struct hint *a, const struct hint *b)
{
    return binding_is(&a->binding, &b->binding) && a->sequence_last == b->sequence_last &&
           a->set_sequence_min == b->set_sequence_min && a->tombstone_bytes == b->tombstone_bytes &&
           a->key_size_max == b->key_size_max &&
           memcmp(a->counts, b->counts, sizeof a->counts) == 0 && slice_equal(a->items, b->items) &&
           slice_equal(a->ranges, b->ranges);
}

/* --- blocks ----------------------------------------------------------------------------------- */

struct hint_block hint_block(const struct hint *hint, uint32_t restart)
{
    bool is_last = restart + 1 == hint_restarts(hint);
    uint32_t at = restart_at(hint, restart);
    uint32_t end = is_last ? (uint32_t)hint->items.size : restart_at(hint, restart + 1);
    uint32_t count = is_last ? hint->count : restart_count(hint, restart + 1);
    return (struct hint_block){at, end - at, count - restart_count(hint, restart)};
}

bool hint_block_is_right(const struct hint *hint, uint32_t restart, kvs_slice bytes)
{
    const uint8_t *p = hint->restarts.data + (size_t)hint->restart_size * restart;
    return get_u32(p + 8) == checksum(bytes.data, bytes.size);
}

void hint_family_restarts(const struct hint *hint, unsigned family, uint32_t *ret_from,
                          uint32_t *ret_to)
{
    uint32_t from = 0;
    for (unsigned i = 0; i < family; i++)
        from += hint_count_restarts(hint->counts[i]);
    *ret_from = from;
    *ret_to = from + hint_count_restarts(hint->counts[family]);
}

/* Runs of 32 records and more are read from front to back as well as longer ones: 1,000,000 values
 * of 100 bytes, scans of 100 (docs/architecture.md, choice 23). A few begin and end anywhere. */
#define RUN_COUNT_MIN 32u
#define RUNS_FREE 4u
/* From here on a record alone is worth an access to the disk. */
#define SCATTERED_SIZE_MAX (16u * 1024)

bool hint_has_small_records(const struct hint *hint)
{
    return hint->binding.size / hint->count < SCATTERED_SIZE_MAX;
}

bool hint_is_scattered(const struct hint *hint)
{
    return hint->runs > RUNS_FREE + hint->count / RUN_COUNT_MIN && hint_has_small_records(hint);
}

/* --- the cursor ------------------------------------------------------------------------------- */

int hint_cursor_init(struct hint_cursor *cursor, const struct hint *hint)
{
    *cursor =
        (struct hint_cursor){.hint = hint, .window = hint->items, .family_end = hint->counts[0]};
    cursor->key = mem_alloc((size_t)hint->key_size_max + 1);
    return cursor->key != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

void hint_cursor_deinit(struct hint_cursor *cursor)
{
    mem_free(cursor->key);
    cursor->key = NULL;
}

static bool varint_get(kvs_slice bytes, size_t *at, uint32_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 35 && *at < bytes.size; shift += 7) {
        uint8_t byte = bytes.data[(*at)++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret_value = (uint32_t)value;
            return value <= UINT32_MAX;
        }
    }
    return false;
}

/* The parts of an item before the rest of its key. */
struct item_head {
    bool has_sizes;
    uint32_t shared;
    uint32_t key_size;
    size_t at; /* behind it */
};

static bool item_head_decode(const struct hint_cursor *cursor, struct item_head *head,
                             struct hint_item *item)
{
    kvs_slice bytes = cursor->window;
    size_t at = cursor->at - cursor->window_at;
    if (at >= bytes.size)
        return false;
    uint8_t control = bytes.data[at++];
    item->kind = (control & HINT_ITEM_REMOVE) != 0 ? RECORD_REMOVE : RECORD_SET;
    bool expires = (control & HINT_ITEM_EXPIRES) != 0;
    head->has_sizes = (control & HINT_ITEM_SIZES) != 0;
    head->shared = control >> HINT_ITEM_SHARED_SHIFT;
    uint32_t more = 0;
    if (head->shared == HINT_ITEM_SHARED_MAX && !varint_get(bytes, &at, &more))
        return false;
    if (more > UINT16_MAX)
        return false;
    head->shared += more;
    head->key_size = (uint32_t)item->key.size;
    if (head->has_sizes &&
        (!varint_get(bytes, &at, &head->key_size) || !varint_get(bytes, &at, &item->value_size)))
        return false;
    unsigned width = hint_offset_width(cursor->hint->binding.size);
    if (bytes.size - at < width + (expires ? 8u : 0u))
        return false;
    uint64_t unit = (uint64_t)bytes.data[at] | (uint64_t)bytes.data[at + 1] << 8 |
                    (uint64_t)bytes.data[at + 2] << 16;
    if (width == 4)
        unit |= (uint64_t)bytes.data[at + 3] << 24;
    at += width;
    if (unit > UINT32_MAX / RECORD_ALIGNMENT)
        return false;
    item->offset = (uint32_t)unit * RECORD_ALIGNMENT;
    item->expires_at_ms = expires ? get_u64(bytes.data + at) : 0;
    head->at = at + (expires ? 8u : 0u) + cursor->window_at;
    return !expires || item->expires_at_ms != 0;
}

static bool restart_is_right(struct hint_cursor *cursor, const struct item_head *head)
{
    const struct hint *hint = cursor->hint;
    if (!head->has_sizes || head->shared != 0 || cursor->restart >= hint_restarts(hint))
        return false;
    uint32_t restart = cursor->restart++;
    return restart_at(hint, restart) == cursor->at && restart_count(hint, restart) == cursor->next;
}

/* Keys grow: with all shared bytes told, the first one that is not decides. */
static bool key_take(struct hint_cursor *cursor, const struct item_head *head, bool is_first)
{
    struct hint_item *item = &cursor->item;
    kvs_slice bytes = cursor->window;
    size_t at = head->at - cursor->window_at;
    uint32_t shared = head->shared;
    if (head->key_size == 0 || head->key_size > cursor->hint->key_size_max ||
        shared >= head->key_size || shared > item->key.size ||
        head->key_size - shared > bytes.size - at)
        return false;
    kvs_slice rest = slice_make(bytes.data + at, head->key_size - shared);
    kvs_slice before = slice_make(cursor->key + shared, item->key.size - shared);
    if (!is_first && slice_compare(before, rest) >= 0)
        return false;
    memcpy(cursor->key + shared, rest.data, rest.size);
    item->key = slice_make(cursor->key, head->key_size);
    cursor->at = head->at + rest.size;
    return true;
}

static bool item_decode(struct hint_cursor *cursor)
{
    const struct hint *hint = cursor->hint;
    struct hint_item *item = &cursor->item;
    struct item_head head;
    uint32_t in_family = cursor->next - (cursor->family_end - hint->counts[cursor->family]);
    if (!item_head_decode(cursor, &head, item) ||
        (in_family % HINT_RESTART_EVERY == 0 && !restart_is_right(cursor, &head)) ||
        !key_take(cursor, &head, in_family == 0))
        return false;
    item->family = (uint8_t)cursor->family;
    size_t size = record_size(item->key.size, item->value_size, item->expires_at_ms != 0);
    return item->offset >= SEGMENT_HEADER_SIZE && item->offset <= hint->binding.size &&
           size <= hint->binding.size - item->offset;
}

bool hint_cursor_next(struct hint_cursor *cursor)
{
    const struct hint *hint = cursor->hint;
    if (cursor->next >= hint->count || cursor->is_bad)
        return false;
    while (cursor->next == cursor->family_end)
        cursor->family_end += hint->counts[++cursor->family];
    if (!item_decode(cursor)) {
        cursor->is_bad = true;
        return false;
    }
    cursor->next++;
    return true;
}

bool hint_cursor_restart(struct hint_cursor *cursor, uint32_t restart)
{
    const struct hint *hint = cursor->hint;
    cursor->at = restart_at(hint, restart);
    cursor->next = restart_count(hint, restart);
    cursor->restart = restart;
    cursor->family = 0;
    cursor->family_end = hint->counts[0];
    cursor->item.key.size = 0;
    while (cursor->family_end <= cursor->next && cursor->family + 1 < HINT_FAMILIES)
        cursor->family_end += hint->counts[++cursor->family];
    return hint_cursor_next(cursor);
}

bool hint_cursor_enter(struct hint_cursor *cursor, uint32_t restart, kvs_slice block)
{
    cursor->window = block;
    cursor->window_at = restart_at(cursor->hint, restart);
    return hint_cursor_restart(cursor, restart);
}

static bool item_is_less(const struct hint_item *item, unsigned family, kvs_slice key)
{
    if (item->family != family)
        return item->family < family;
    return slice_compare(item->key, key) < 0;
}

bool hint_cursor_seek(struct hint_cursor *cursor, unsigned family, kvs_slice key)
{
    uint32_t low = 0; /* restarts below it are known to be less */
    uint32_t high = hint_restarts(cursor->hint);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (!hint_cursor_restart(cursor, middle))
            return false;
        if (item_is_less(&cursor->item, family, key))
            low = middle + 1;
        else
            high = middle;
    }
    bool any = low > 0 ? hint_cursor_restart(cursor, low - 1) : hint_cursor_next(cursor);
    if (low == 0 && hint_restarts(cursor->hint) > 0)
        any = hint_cursor_restart(cursor, 0);
    while (any && item_is_less(&cursor->item, family, key))
        any = hint_cursor_next(cursor);
    return any;
}

/* --- names ------------------------------------------------------------------------------------ */

void hint_name_format(uint32_t segment, bool is_new, char out[HINT_NAME_SIZE])
{
    snprintf(out, HINT_NAME_SIZE, "%010u.hint%s", segment, is_new ? ".new" : "");
}

bool hint_name_parse(const char *name, bool *ret_is_new, uint32_t *ret_segment)
{
    char expected[HINT_NAME_SIZE];
    size_t size = strlen(name);
    if (size != 15 && size != 19)
        return false;
    uint64_t number = 0;
    for (int i = 0; i < 10; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    if (number == 0 || number > UINT32_MAX)
        return false;
    hint_name_format((uint32_t)number, size == 19, expected);
    if (strcmp(name, expected) != 0)
        return false;
    *ret_is_new = size == 19;
    *ret_segment = (uint32_t)number;
    return true;
}
