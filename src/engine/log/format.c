/* engine/log/format.c: encoding and decoding by docs/format/log.md. */
#include "engine/log/format.h"

#include "base/bytes.h"
#include "base/checksum.h"

#include <kvs/store.h>
#include <stdio.h>

#define FLAG_FAMILY_MASK 0x0fu
#define FLAG_MORE 0x10u
#define FLAG_EXPIRES 0x20u
#define FLAG_UNKNOWN 0xc0u

static const uint8_t segment_magic[8] = {'K', 'V', 'S', 'L', 'O', 'G', '1', '\n'};

void record_encode(uint8_t *out, uint32_t segment, const struct record *record)
{
    bool expires = record->expires_at_ms != 0;
    size_t value_offset = record_value_offset(record->key.size, expires);
    size_t used = value_offset + record->value.size;
    put_u32(out + 4, (uint32_t)record->value.size);
    put_u16(out + 8, (uint16_t)record->key.size);
    out[10] = record->kind;
    out[11] = (uint8_t)((record->family & FLAG_FAMILY_MASK) | (record->more ? FLAG_MORE : 0) |
                        (expires ? FLAG_EXPIRES : 0));
    put_u64(out + 12, record->sequence);
    if (expires)
        put_u64(out + RECORD_HEADER_SIZE, record->expires_at_ms);
    if (record->key.size > 0)
        memcpy(out + value_offset - record->key.size, record->key.data, record->key.size);
    if (record->value.size > 0)
        memcpy(out + value_offset, record->value.data, record->value.size);
    memset(out + used, 0, record_size(record->key.size, record->value.size, expires) - used);
    put_u32(out, checksum_seeded(out + 4, used - 4, segment));
}

static bool record_shape_is_valid(const struct record *record, uint8_t flags)
{
    bool counts = record->kind != RECORD_MARK && record->kind != RECORD_SEAL;
    if ((flags & FLAG_UNKNOWN) != 0 || record->sequence > SEQUENCE_MAX ||
        (counts && record->sequence == 0))
        return false;
    switch (record->kind) {
    case RECORD_SET:
        return record->key.size > 0;
    case RECORD_REMOVE:
        return record->key.size > 0 && record->value.size == 0;
    case RECORD_REMOVE_RANGE:
        return true;
    case RECORD_MARK:
        return record->key.size == 0 && record->value.size == 8 && !record->more;
    case RECORD_SEAL:
        return record->key.size == 0 && record->value.size == 0 && !record->more;
    default:
        return false;
    }
}

size_t record_parse(kvs_slice bytes, struct record *ret_record)
{
    if (bytes.size < RECORD_HEADER_SIZE)
        return 0;
    const uint8_t *p = bytes.data;
    size_t value_size = get_u32(p + 4);
    size_t key_size = get_u16(p + 8);
    uint8_t flags = p[11];
    bool expires = (flags & FLAG_EXPIRES) != 0;
    size_t value_offset = record_value_offset(key_size, expires);
    size_t size = record_size(key_size, value_size, expires);
    if (p[10] == 0 || size > bytes.size)
        return 0;
    struct record record = {
        .kind = p[10],
        .family = flags & FLAG_FAMILY_MASK,
        .more = (flags & FLAG_MORE) != 0,
        .sequence = get_u64(p + 12),
        .expires_at_ms = expires ? get_u64(p + RECORD_HEADER_SIZE) : 0,
        .key = slice_make(p + value_offset - key_size, key_size),
        .value = slice_make(p + value_offset, value_size),
    };
    if (!record_shape_is_valid(&record, flags) || (expires && record.expires_at_ms == 0))
        return 0;
    *ret_record = record;
    return size;
}

size_t record_decode(kvs_slice bytes, uint32_t segment, struct record *ret_record)
{
    struct record record;
    size_t size = record_parse(bytes, &record);
    if (size == 0)
        return 0;
    const uint8_t *end = record.value.data + record.value.size;
    const uint8_t *p = bytes.data;
    if (get_u32(p) != checksum_seeded(p + 4, (size_t)(end - p) - 4, segment))
        return 0;
    *ret_record = record;
    return size;
}

void record_mark_encode(uint8_t out[RECORD_MARK_SIZE], uint32_t segment, uint64_t sequence,
                        uint32_t durable_segment, uint32_t durable_offset)
{
    uint8_t place[8];
    put_u32(place, durable_segment);
    put_u32(place + 4, durable_offset);
    struct record record = {
        .kind = RECORD_MARK, .sequence = sequence, .value = slice_make(place, sizeof place)};
    record_encode(out, segment, &record);
}

bool record_mark_decode(const struct record *record, uint32_t *ret_segment, uint32_t *ret_offset)
{
    if (record->kind != RECORD_MARK || record->value.size != 8)
        return false;
    *ret_segment = get_u32(record->value.data);
    *ret_offset = get_u32(record->value.data + 4);
    return true;
}

void record_seal_encode(uint8_t out[RECORD_SEAL_SIZE], uint32_t segment, uint64_t sequence)
{
    struct record record = {.kind = RECORD_SEAL, .sequence = sequence};
    record_encode(out, segment, &record);
}

void segment_header_encode(uint8_t out[SEGMENT_HEADER_SIZE], uint32_t segment, uint64_t sequence,
                           uint32_t identity)
{
    memset(out, 0, SEGMENT_HEADER_SIZE);
    memcpy(out, segment_magic, sizeof segment_magic);
    put_u32(out + 8, segment);
    put_u64(out + 16, sequence);
    put_u32(out + 24, identity);
    put_u32(out + 28, checksum(out, 28));
}

bool segment_header_decode(kvs_slice bytes, uint32_t segment, uint64_t *ret_sequence)
{
    const uint8_t *p = bytes.data;
    if (bytes.size < SEGMENT_HEADER_SIZE || memcmp(p, segment_magic, sizeof segment_magic) != 0 ||
        get_u32(p + 28) != checksum(p, 28) || get_u32(p + 8) != segment ||
        get_u64(p + 16) > SEQUENCE_MAX)
        return false;
    *ret_sequence = get_u64(p + 16);
    return true;
}

void segment_name_format(uint32_t segment, char out[SEGMENT_NAME_SIZE])
{
    snprintf(out, SEGMENT_NAME_SIZE, "%010u.seg", segment);
}

bool segment_name_parse(const char *name, uint32_t *ret_segment)
{
    uint64_t number = 0;
    for (int i = 0; i < 10; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    if (strcmp(name + 10, ".seg") != 0 || number == 0 || number > UINT32_MAX)
        return false;
    *ret_segment = (uint32_t)number;
    return true;
}
