/* txn/record.c: see the header. */
#include "txn/record.h"

#include "base/bytes.h"

#include <kvs/error.h>

#define VERSION 1u
#define LOCK_HEADER_SIZE 52u
#define LOCK_GENERATION_SIZE 8u
#define WRITE_HEADER_SIZE 12u

#define LOCK_ASYNC_COMMIT 1u
#define LOCK_HAS_VALUE 2u
#define LOCK_FLUSHED 4u
#define WRITE_OVERLAPPED_ROLLBACK 1u
#define WRITE_HAS_VALUE 2u
#define WRITE_PROTECTED 4u

/* --- keys ------------------------------------------------------------------------------------- */

void record_key_set(struct record_key *to, kvs_slice key)
{
    memcomparable_encode(key, to->bytes);
    to->size = memcomparable_size(key.size);
}

bool record_key_set_encoded(struct record_key *to, kvs_slice encoded)
{
    if (encoded.size == 0 || encoded.size > RECORD_KEY_ENCODED_MAX)
        return false;
    memcpy(to->bytes, encoded.data, encoded.size);
    to->size = encoded.size;
    return true;
}

kvs_slice record_key_at(struct record_key *key, uint64_t ts)
{
    put_u64_be(key->bytes + key->size, ~ts);
    return slice_make(key->bytes, key->size + RECORD_TS_SIZE);
}

bool record_key_split(kvs_slice bytes, kvs_slice *ret_encoded, uint64_t *ret_ts)
{
    if (bytes.size <= RECORD_TS_SIZE || bytes.size > RECORD_KEY_ENCODED_MAX + RECORD_TS_SIZE)
        return false;
    *ret_encoded = slice_make(bytes.data, bytes.size - RECORD_TS_SIZE);
    *ret_ts = ~get_u64_be(bytes.data + ret_encoded->size);
    return true;
}

/* --- locks ------------------------------------------------------------------------------------ */

static size_t secondaries_size(const struct lock_record *record)
{
    if (record->secondaries == NULL)
        return record->secondary_bytes.size;
    size_t size = 0;
    for (uint32_t i = 0; i < record->secondaries_count; i++)
        size += 2 + record->secondaries[i].size;
    return size;
}

size_t lock_record_size(const struct lock_record *record)
{
    return LOCK_HEADER_SIZE + (record->generation != 0 ? LOCK_GENERATION_SIZE : 0) +
           record->primary.size + record->value.size + secondaries_size(record);
}

static uint8_t *put_bytes(uint8_t *to, kvs_slice bytes)
{
    if (bytes.size > 0)
        memcpy(to, bytes.data, bytes.size);
    return to + bytes.size;
}

void lock_record_encode(const struct lock_record *record, uint8_t *to)
{
    memset(to, 0, LOCK_HEADER_SIZE);
    to[0] = VERSION;
    to[1] = record->type;
    to[2] = (uint8_t)((record->use_async_commit ? LOCK_ASYNC_COMMIT : 0) |
                      (record->has_value ? LOCK_HAS_VALUE : 0) |
                      (record->generation != 0 ? LOCK_FLUSHED : 0));
    to[3] = (uint8_t)record->value.size;
    put_u16(to + 4, (uint16_t)record->primary.size);
    put_u64(to + 8, record->start_ts);
    put_u64(to + 16, record->ttl_ms);
    put_u64(to + 24, record->for_update_ts);
    put_u64(to + 32, record->txn_size);
    put_u64(to + 40, record->min_commit_ts);
    put_u32(to + 48, record->secondaries_count);
    to += LOCK_HEADER_SIZE;
    if (record->generation != 0) {
        put_u64(to, record->generation);
        to += LOCK_GENERATION_SIZE;
    }
    to = put_bytes(to, record->primary);
    to = put_bytes(to, record->value);
    if (record->secondaries == NULL) {
        put_bytes(to, record->secondary_bytes);
        return;
    }
    for (uint32_t i = 0; i < record->secondaries_count; i++) {
        put_u16(to, (uint16_t)record->secondaries[i].size);
        to = put_bytes(to + 2, record->secondaries[i]);
    }
}

static bool lock_type_is_known(uint8_t type)
{
    return type == TXN_OP_PUT || type == TXN_OP_DELETE || type == TXN_OP_LOCK ||
           type == TXN_OP_PESSIMISTIC_LOCK;
}

/* Exactly `count` sizes and keys. */
static bool secondaries_are_whole(kvs_slice bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes.size < 2)
            return false;
        size_t size = 2u + get_u16(bytes.data);
        if (bytes.size < size)
            return false;
        bytes = slice_make(bytes.data + size, bytes.size - size);
    }
    return bytes.size == 0;
}

int lock_record_decode(kvs_slice bytes, struct lock_record *ret_record)
{
    const uint8_t *p = bytes.data;
    if (bytes.size < LOCK_HEADER_SIZE || p[0] != VERSION || !lock_type_is_known(p[1]) ||
        (p[2] & ~(LOCK_ASYNC_COMMIT | LOCK_HAS_VALUE | LOCK_FLUSHED)) != 0 || get_u16(p + 6) != 0)
        return KVS_ERR_CORRUPTION;
    size_t header = LOCK_HEADER_SIZE;
    uint64_t generation = 0;
    if ((p[2] & LOCK_FLUSHED) != 0) {
        header += LOCK_GENERATION_SIZE;
        generation = bytes.size >= header ? get_u64(p + LOCK_HEADER_SIZE) : 0;
        if (generation == 0)
            return KVS_ERR_CORRUPTION;
    }
    bool has_value = (p[2] & LOCK_HAS_VALUE) != 0;
    size_t primary_size = get_u16(p + 4);
    size_t value_size = p[3];
    size_t fixed = header + primary_size + value_size;
    if (bytes.size < fixed || (!has_value && value_size > 0) || (has_value && p[1] != TXN_OP_PUT) ||
        primary_size > KVS_KEY_SIZE_MAX)
        return KVS_ERR_CORRUPTION;
    kvs_slice secondaries = slice_make(p + fixed, bytes.size - fixed);
    uint32_t count = get_u32(p + 48);
    if (count > RECORD_SECONDARIES_MAX || !secondaries_are_whole(secondaries, count))
        return KVS_ERR_CORRUPTION;
    *ret_record = (struct lock_record){
        .type = p[1],
        .use_async_commit = (p[2] & LOCK_ASYNC_COMMIT) != 0,
        .has_value = has_value,
        .generation = generation,
        .primary = slice_make(p + header, primary_size),
        .value = slice_make(p + header + primary_size, value_size),
        .start_ts = get_u64(p + 8),
        .ttl_ms = get_u64(p + 16),
        .for_update_ts = get_u64(p + 24),
        .txn_size = get_u64(p + 32),
        .min_commit_ts = get_u64(p + 40),
        .secondaries_count = count,
        .secondary_bytes = secondaries,
    };
    return 0;
}

const kvs_slice *lock_record_secondaries(const struct lock_record *record, struct arena *arena)
{
    if (record->secondaries != NULL)
        return record->secondaries;
    kvs_slice *list = arena_alloc(arena, record->secondaries_count * sizeof *list);
    if (list == NULL)
        return NULL;
    const uint8_t *p = record->secondary_bytes.data;
    for (uint32_t i = 0; i < record->secondaries_count; i++) {
        list[i] = slice_make(p + 2, get_u16(p));
        p += 2 + list[i].size;
    }
    return list;
}

/* --- writes ----------------------------------------------------------------------------------- */

size_t write_record_size(const struct write_record *record)
{
    return WRITE_HEADER_SIZE + record->value.size;
}

void write_record_encode(const struct write_record *record, uint8_t *to)
{
    to[0] = VERSION;
    to[1] = record->type;
    to[2] = (uint8_t)((record->has_overlapped_rollback ? WRITE_OVERLAPPED_ROLLBACK : 0) |
                      (record->has_value ? WRITE_HAS_VALUE : 0) |
                      (record->is_protected ? WRITE_PROTECTED : 0));
    to[3] = (uint8_t)record->value.size;
    put_u64(to + 4, record->start_ts);
    put_bytes(to + WRITE_HEADER_SIZE, record->value);
}

int write_record_decode(kvs_slice bytes, struct write_record *ret_record)
{
    const uint8_t *p = bytes.data;
    if (bytes.size < WRITE_HEADER_SIZE || p[0] != VERSION || p[1] > TXN_OP_ROLLBACK ||
        (p[2] & ~(WRITE_OVERLAPPED_ROLLBACK | WRITE_HAS_VALUE | WRITE_PROTECTED)) != 0 ||
        bytes.size != WRITE_HEADER_SIZE + (size_t)p[3])
        return KVS_ERR_CORRUPTION;
    bool has_value = (p[2] & WRITE_HAS_VALUE) != 0;
    if ((!has_value && p[3] > 0) || (has_value && p[1] != TXN_OP_PUT))
        return KVS_ERR_CORRUPTION;
    *ret_record = (struct write_record){
        .type = p[1],
        .has_overlapped_rollback = (p[2] & WRITE_OVERLAPPED_ROLLBACK) != 0,
        .has_value = has_value,
        .is_protected = (p[2] & WRITE_PROTECTED) != 0,
        .start_ts = get_u64(p + 4),
        .value = slice_make(p + WRITE_HEADER_SIZE, p[3]),
    };
    return 0;
}
