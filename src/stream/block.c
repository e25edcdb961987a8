/* stream/block.c: see the header. */
#include "stream/block.h"

#define BLOCK_TRAILER_SIZE 20u
#define BLOCK_MAGIC 0x31425645u /* "EVB1" */
#define BLOCK_STREAM_SIZE 16u
#define BLOCK_TABLE_ENTRY_SIZE 8u

#define RUN_HEADER_SIZE 16u
#define RUN_CONSECUTIVE 1u
#define RUN_LISTED 2u

#define EVENT_FLAG_JSON 1u

/* --- blocks: reading -------------------------------------------------------------------------- */

int block_parse(kvs_slice key, kvs_slice value, struct block *ret_block)
{
    if (key.size != LOG_KEY_SIZE || value.size < BLOCK_TRAILER_SIZE || value.size > UINT32_MAX)
        return KVS_ERR_CORRUPTION;
    const uint8_t *trailer = value.data + value.size - BLOCK_TRAILER_SIZE;
    struct block block = {
        .bytes = value,
        .position = (int64_t)get_u64_be(key.data),
        .count = get_u32(trailer),
        .streams_count = get_u32(trailer + 4),
        .streams_at = get_u32(trailer + 8),
        .table_at = get_u32(trailer + 12),
    };
    uint64_t streams_end = block.streams_at + (uint64_t)block.streams_count * BLOCK_STREAM_SIZE;
    uint64_t table_end = block.table_at + (uint64_t)block.count * BLOCK_TABLE_ENTRY_SIZE;
    if (get_u32(trailer + 16) != BLOCK_MAGIC || streams_end != block.table_at ||
        table_end != value.size - BLOCK_TRAILER_SIZE)
        return KVS_ERR_CORRUPTION;
    *ret_block = block;
    return 0;
}

static const uint8_t *table_entry(const struct block *block, uint32_t i)
{
    return block->bytes.data + block->table_at + (size_t)i * BLOCK_TABLE_ENTRY_SIZE;
}

int64_t block_position(const struct block *block, uint32_t i)
{
    return block->position + (int64_t)get_u32(table_entry(block, i));
}

static bool part_of(const uint8_t *bytes, uint64_t limit, uint64_t at, uint64_t size,
                    kvs_slice *ret_part)
{
    if (at + size > limit)
        return false;
    *ret_part = slice_make(bytes + at, size);
    return true;
}

/* Decodes the event at `at`, whose parts must lie before `limit`, and whose streams are these. */
static int event_decode(const uint8_t *bytes, uint64_t limit, uint64_t at, kvs_slice streams,
                        struct stream_record *ret_record, uint64_t *ret_stream_id)
{
    kvs_slice header;
    if (!part_of(bytes, limit, at, BLOCK_EVENT_HEADER_SIZE, &header))
        return KVS_ERR_CORRUPTION;
    uint64_t of_stream = (uint64_t)get_u32(header.data + 32) * BLOCK_STREAM_SIZE;
    if (of_stream >= streams.size)
        return KVS_ERR_CORRUPTION;
    const uint8_t *stream = streams.data + of_stream;
    struct stream_record record = {
        .number = (int64_t)get_u64(header.data),
        .created_100ns = (int64_t)get_u64(header.data + 8),
        .is_json = (header.data[36] & EVENT_FLAG_JSON) != 0,
    };
    memcpy(record.id, header.data + 16, sizeof record.id);
    uint32_t type_size = get_u16(header.data + 38);
    uint32_t data_size = get_u32(header.data + 40);
    uint32_t metadata_size = get_u32(header.data + 44);
    at += BLOCK_EVENT_HEADER_SIZE;
    if (!part_of(bytes, limit, at, type_size, &record.type) ||
        !part_of(bytes, limit, at + type_size, data_size, &record.data) ||
        !part_of(bytes, limit, at + type_size + data_size, metadata_size, &record.metadata) ||
        !part_of(bytes, limit, get_u32(stream + 8), get_u32(stream + 12), &record.stream))
        return KVS_ERR_CORRUPTION;
    *ret_record = record;
    *ret_stream_id = get_u64(stream);
    return 0;
}

int block_event(const struct block *block, uint32_t i, struct stream_record *ret_record,
                uint64_t *ret_stream_id)
{
    const uint8_t *bytes = block->bytes.data;
    kvs_slice streams =
        slice_make(bytes + block->streams_at, (size_t)block->streams_count * BLOCK_STREAM_SIZE);
    int error = event_decode(bytes, block->streams_at, get_u32(table_entry(block, i) + 4), streams,
                             ret_record, ret_stream_id);
    if (error == 0)
        ret_record->position = block_position(block, i);
    return error;
}

uint32_t block_seek(const struct block *block, int64_t position)
{
    uint32_t low = 0;
    uint32_t high = block->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block_position(block, middle) < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#define PREFETCH_MAX 512u /* a longer event is copied with the processor's own foresight */

void block_prefetch(const struct block *block, uint32_t i)
{
    if (i >= block->count)
        return;
    uint32_t at = get_u32(table_entry(block, i) + 4);
    uint32_t end =
        i + 1 < block->count ? get_u32(table_entry(block, i + 1) + 4) : block->streams_at;
    if (end > block->streams_at)
        return; /* damaged: whoever reads it will say so */
    if (end > at && end - at > PREFETCH_MAX)
        end = at + PREFETCH_MAX;
    for (; at < end; at += 64)
        __builtin_prefetch(block->bytes.data + at);
}

/* --- blocks: writing -------------------------------------------------------------------------- */

void block_builder_deinit(struct block_builder *builder)
{
    buf_deinit(&builder->bytes);
    buf_deinit(&builder->streams);
    buf_deinit(&builder->table);
    *builder = (struct block_builder){0};
}

int block_add_stream(struct block_builder *builder, uint64_t id, kvs_slice name,
                     uint32_t *ret_index)
{
    uint8_t entry[BLOCK_STREAM_SIZE];
    put_u64(entry, id);
    put_u32(entry + 8, (uint32_t)builder->bytes.size);
    put_u32(entry + 12, (uint32_t)name.size);
    int error = buf_reserve(&builder->streams, sizeof entry);
    if (error == 0)
        error = buf_append_slice(&builder->bytes, name);
    if (error != 0)
        return error;
    (void)buf_append(&builder->streams, entry, sizeof entry); /* there is room */
    *ret_index = builder->streams_count++;
    return 0;
}

int block_add(struct block_builder *builder, uint32_t stream, int64_t number, int64_t position,
              int64_t created_100ns, const struct stream_new_event *event)
{
    if (builder->count == 0 && builder->position == 0)
        builder->position = position;
    struct buf *bytes = &builder->bytes;
    size_t size = event->type.size + event->data.size + event->metadata.size;
    int error = buf_reserve(bytes, BLOCK_EVENT_HEADER_SIZE + size);
    if (error == 0)
        error = buf_reserve(&builder->table, BLOCK_TABLE_ENTRY_SIZE);
    if (error != 0)
        return error;
    (void)buf_append_u32(&builder->table, (uint32_t)(position - builder->position));
    (void)buf_append_u32(&builder->table, (uint32_t)bytes->size);
    uint8_t *header = bytes->data + bytes->size;
    put_u64(header, (uint64_t)number);
    put_u64(header + 8, (uint64_t)created_100ns);
    memcpy(header + 16, event->id, sizeof event->id);
    put_u32(header + 32, stream);
    header[36] = event->is_json ? EVENT_FLAG_JSON : 0;
    header[37] = 0;
    put_u16(header + 38, (uint16_t)event->type.size);
    put_u32(header + 40, (uint32_t)event->data.size);
    put_u32(header + 44, (uint32_t)event->metadata.size);
    bytes->size += BLOCK_EVENT_HEADER_SIZE;
    (void)buf_append_slice(bytes, event->type);
    (void)buf_append_slice(bytes, event->data);
    (void)buf_append_slice(bytes, event->metadata);
    builder->count++;
    return 0;
}

int block_builder_event(const struct block_builder *builder, int64_t position,
                        struct stream_record *ret_record)
{
    uint32_t low = 0;
    uint32_t high = builder->count;
    int64_t delta = position - builder->position;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (get_u32(builder->table.data + (size_t)middle * BLOCK_TABLE_ENTRY_SIZE) < delta)
            low = middle + 1;
        else
            high = middle;
    }
    const uint8_t *entry = builder->table.data + (size_t)low * BLOCK_TABLE_ENTRY_SIZE;
    if (low == builder->count || get_u32(entry) != delta)
        return KVS_ERR_NOT_FOUND;
    uint64_t stream_id;
    int error = event_decode(builder->bytes.data, builder->bytes.size, get_u32(entry + 4),
                             buf_slice(&builder->streams), ret_record, &stream_id);
    if (error == 0)
        ret_record->position = position;
    return error;
}

int block_finish(struct block_builder *builder)
{
    struct buf *bytes = &builder->bytes;
    uint8_t trailer[BLOCK_TRAILER_SIZE];
    put_u32(trailer, builder->count);
    put_u32(trailer + 4, builder->streams_count);
    put_u32(trailer + 8, (uint32_t)bytes->size);
    put_u32(trailer + 12, (uint32_t)(bytes->size + builder->streams.size));
    put_u32(trailer + 16, BLOCK_MAGIC);
    int error = buf_reserve(bytes, builder->streams.size + builder->table.size + sizeof trailer);
    if (error != 0)
        return error;
    (void)buf_append_slice(bytes, buf_slice(&builder->streams));
    (void)buf_append_slice(bytes, buf_slice(&builder->table));
    (void)buf_append(bytes, trailer, sizeof trailer);
    return 0;
}

/* --- runs ------------------------------------------------------------------------------------- */

int run_parse(kvs_slice key, kvs_slice value, struct run *ret_run)
{
    if (key.size != INDEX_KEY_SIZE || value.size < RUN_HEADER_SIZE)
        return KVS_ERR_CORRUPTION;
    struct run run = {
        .stream_id = get_u64_be(key.data),
        .first_number = (int64_t)get_u64_be(key.data + 8),
        .count = get_u32(value.data + 4),
        .listed = value.data[0] == RUN_LISTED,
        .first_position = (int64_t)get_u64(value.data + 8),
        .deltas = slice_make(value.data + RUN_HEADER_SIZE, value.size - RUN_HEADER_SIZE),
    };
    bool kind_is_known = value.data[0] == RUN_CONSECUTIVE || run.listed;
    if (!kind_is_known || run.count == 0 || run.first_number < 0 || run.first_position <= 0 ||
        run.first_number > INT64_MAX - (int64_t)run.count + 1 ||
        run.first_position > INT64_MAX - (int64_t)run.count)
        return KVS_ERR_CORRUPTION;
    *ret_run = run;
    return 0;
}

void run_walk_begin(struct run_walk *walk, const struct run *run)
{
    *walk = (struct run_walk){.run = run, .position = run->first_position, .deltas = run->deltas};
}

/* Takes a varint off the begin; false: there is none. */
static bool varint_take(kvs_slice *bytes, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes->size && i < 10; i++) {
        value |= (uint64_t)(bytes->data[i] & 0x7f) << (7 * i);
        if (bytes->data[i] < 0x80) {
            *bytes = slice_make(bytes->data + i + 1, bytes->size - i - 1);
            *ret_value = value;
            return true;
        }
    }
    return false;
}

bool run_walk_next(struct run_walk *walk)
{
    uint64_t delta = 1;
    walk->at++;
    if (walk->at >= walk->run->count)
        return true;
    if (walk->run->listed && !varint_take(&walk->deltas, &delta))
        return false;
    if (delta == 0 || delta > (uint64_t)(INT64_MAX - walk->position))
        return false;
    walk->position += (int64_t)delta;
    return true;
}

static int varint_append(struct buf *to, uint64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[size++] = (uint8_t)(value | 0x80);
    bytes[size++] = (uint8_t)value;
    return buf_append(to, bytes, size);
}

int run_add(struct run_builder *builder, int64_t position)
{
    if (builder->count == 0) {
        builder->first_position = position;
    } else if (builder->listed || position != builder->last_position + 1) {
        if (builder->count >= RUN_LISTED_COUNT_MAX)
            return 1;
        size_t before = builder->deltas.size;
        int error = 0;
        for (uint32_t i = 1; !builder->listed && i < builder->count && error == 0; i++)
            error = varint_append(&builder->deltas, 1);
        if (error == 0)
            error = varint_append(&builder->deltas, (uint64_t)(position - builder->last_position));
        if (error != 0) {
            builder->deltas.size = before;
            return error;
        }
        builder->listed = true;
    }
    builder->last_position = position;
    builder->count++;
    return 0;
}

static bool tail_can_grow(bool listed, uint32_t count, size_t deltas_size)
{
    return listed ? deltas_size < RUN_TAIL_DELTAS_MAX : count < RUN_TAIL_COUNT_MAX;
}

int run_tail_load(struct run_tail *tail, const struct run *run)
{
    *tail = (struct run_tail){0};
    if (!tail_can_grow(run->listed, run->count, run->deltas.size) ||
        run->first_number > INT64_MAX - (int64_t)run->count - 1)
        return 0;
    struct run_walk walk;
    run_walk_begin(&walk, run);
    if (!run->listed) {
        walk.position += run->count - 1;
    } else {
        while (walk.at + 1 < run->count)
            if (!run_walk_next(&walk))
                return KVS_ERR_CORRUPTION;
        if (walk.deltas.size > 0)
            return KVS_ERR_CORRUPTION;
        memcpy(tail->deltas, run->deltas.data, run->deltas.size);
        tail->deltas_size = (uint8_t)run->deltas.size;
    }
    tail->first_number = run->first_number;
    tail->first_position = run->first_position;
    tail->last_position = walk.position;
    tail->count = run->count;
    tail->listed = run->listed;
    return 0;
}

void run_tail_keep(struct run_tail *tail, const struct run_builder *builder)
{
    *tail = (struct run_tail){0};
    if (!tail_can_grow(builder->listed, builder->count, builder->deltas.size) ||
        builder->first_number == STREAM_NUMBER_DELETED)
        return;
    tail->first_number = builder->first_number;
    tail->first_position = builder->first_position;
    tail->last_position = builder->last_position;
    tail->count = builder->count;
    tail->listed = builder->listed;
    tail->deltas_size = (uint8_t)builder->deltas.size;
    if (builder->deltas.size > 0)
        memcpy(tail->deltas, builder->deltas.data, builder->deltas.size);
}

bool run_tail_fits(const struct run_tail *tail, int64_t number, int64_t position)
{
    if (tail->count == 0 || number != tail->first_number + (int64_t)tail->count)
        return false;
    /* A row that is interrupted is listed from then on: a byte for each event so far. */
    return tail->listed || position - 1 == tail->last_position || tail->count < RUN_TAIL_DELTAS_MAX;
}

int run_tail_resume(const struct run_tail *tail, struct run_builder *builder)
{
    int error = buf_append(&builder->deltas, tail->deltas, tail->deltas_size);
    if (error != 0)
        return error;
    builder->first_number = tail->first_number;
    builder->first_position = tail->first_position;
    builder->last_position = tail->last_position;
    builder->count = tail->count;
    builder->listed = tail->listed;
    return 0;
}

int run_encode(const struct run_builder *builder, struct buf *to)
{
    uint8_t header[RUN_HEADER_SIZE] = {builder->listed ? RUN_LISTED : RUN_CONSECUTIVE};
    put_u32(header + 4, builder->count);
    put_u64(header + 8, (uint64_t)builder->first_position);
    int error = buf_reserve(to, sizeof header + builder->deltas.size);
    if (error != 0)
        return error;
    (void)buf_append(to, header, sizeof header);
    return buf_append_slice(to, buf_slice(&builder->deltas));
}
