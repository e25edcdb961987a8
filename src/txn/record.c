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
#define SHARED_HEADER_SIZE 8u
#define SHARED_CLOSED 1u
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
    if (record->type == TXN_OP_SHARED_LOCK)
        return record->shared.size;
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
    if (record->type == TXN_OP_SHARED_LOCK) {
        put_bytes(to, record->shared);
        return;
    }
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

static int exclusive_record_decode(kvs_slice bytes, struct lock_record *ret_record)
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

/* --- shared locks ----------------------------------------------------------------------------- */

/* The holder at an offset; false: there is none, or it is not whole. */
static bool holder_at(kvs_slice shared, size_t at, kvs_slice *ret_bytes, size_t *ret_next)
{
    if (at > shared.size || shared.size - at < 4)
        return false;
    size_t size = get_u32(shared.data + at);
    if (shared.size - at - 4 < size)
        return false;
    *ret_bytes = slice_make(shared.data + at + 4, size);
    *ret_next = at + 4 + size;
    return true;
}

static bool holder_is_plain(const struct lock_record *holder)
{
    return (holder->type == TXN_OP_LOCK || holder->type == TXN_OP_PESSIMISTIC_LOCK) &&
           !holder->use_async_commit && holder->generation == 0 && holder->secondaries_count == 0;
}

static int shared_record_decode(kvs_slice bytes, struct lock_record *ret_record)
{
    const uint8_t *p = bytes.data;
    if (bytes.size < SHARED_HEADER_SIZE || p[0] != VERSION || (p[2] & ~SHARED_CLOSED) != 0 ||
        p[3] != 0)
        return KVS_ERR_CORRUPTION;
    uint32_t count = get_u32(p + 4);
    if (count == 0 || count > RECORD_HOLDERS_MAX)
        return KVS_ERR_CORRUPTION;
    size_t at = SHARED_HEADER_SIZE;
    struct lock_record holder = {0};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t before_ts = holder.start_ts;
        kvs_slice part;
        if (!holder_at(bytes, at, &part, &at) || exclusive_record_decode(part, &holder) != 0 ||
            !holder_is_plain(&holder) || (i > 0 && holder.start_ts <= before_ts))
            return KVS_ERR_CORRUPTION;
    }
    if (at != bytes.size)
        return KVS_ERR_CORRUPTION;
    *ret_record = (struct lock_record){.type = TXN_OP_SHARED_LOCK,
                                       .shared = bytes,
                                       .holders_count = count,
                                       .is_closed = (p[2] & SHARED_CLOSED) != 0};
    return 0;
}

bool lock_record_is_shared(kvs_slice bytes)
{
    return bytes.size >= 2 && bytes.data[1] == TXN_OP_SHARED_LOCK;
}

int lock_record_decode(kvs_slice bytes, struct lock_record *ret_record)
{
    return lock_record_is_shared(bytes) ? shared_record_decode(bytes, ret_record)
                                        : exclusive_record_decode(bytes, ret_record);
}

bool lock_record_next(const struct lock_record *record, size_t *at, struct lock_record *ret_holder)
{
    kvs_slice part;
    if (record->type != TXN_OP_SHARED_LOCK) {
        *ret_holder = *record;
        return (*at)++ == 0;
    }
    if (*at == 0)
        *at = SHARED_HEADER_SIZE;
    if (!holder_at(record->shared, *at, &part, at) ||
        exclusive_record_decode(part, ret_holder) != 0)
        return false;
    ret_holder->shared = record->shared;
    return true;
}

bool lock_record_find(const struct lock_record *record, uint64_t start_ts,
                      struct lock_record *ret_holder)
{
    size_t at = 0;
    while (lock_record_next(record, &at, ret_holder)) {
        if (ret_holder->start_ts == start_ts)
            return true;
    }
    return false;
}

/* Where the holder is, or would be: [*ret_from, *ret_to). */
static void holder_place(kvs_slice shared, uint64_t start_ts, size_t *ret_from, size_t *ret_to)
{
    size_t at = SHARED_HEADER_SIZE;
    size_t next;
    kvs_slice part;
    struct lock_record holder;
    while (holder_at(shared, at, &part, &next) && exclusive_record_decode(part, &holder) == 0 &&
           holder.start_ts < start_ts)
        at = next;
    bool is_there = holder_at(shared, at, &part, &next) &&
                    exclusive_record_decode(part, &holder) == 0 && holder.start_ts == start_ts;
    *ret_from = at;
    *ret_to = is_there ? next : at;
}

bool shared_record_has_room(const struct lock_record *shared, size_t primary_size)
{
    return shared->holders_count < RECORD_HOLDERS_MAX &&
           shared->shared.size + 4 + LOCK_HEADER_SIZE + primary_size <= RECORD_HOLDERS_SIZE_MAX;
}

int shared_record_with(struct arena *arena, kvs_slice shared, const struct lock_record *holder,
                       kvs_slice *ret_shared)
{
    static const uint8_t first[SHARED_HEADER_SIZE] = {VERSION, TXN_OP_SHARED_LOCK};
    if (shared.size == 0)
        shared = slice_make(first, sizeof first);
    size_t from;
    size_t to;
    holder_place(shared, holder->start_ts, &from, &to);
    uint32_t count = get_u32(shared.data + 4) + (from == to);
    size_t holder_size = lock_record_size(holder);
    size_t size = shared.size - (to - from) + 4 + holder_size;
    if (size > shared.size && size > RECORD_HOLDERS_SIZE_MAX)
        return KVS_ERR_TOO_LARGE;
    uint8_t *bytes = arena_alloc(arena, size);
    if (bytes == NULL)
        return KVS_ERR_NO_MEMORY;
    memcpy(bytes, shared.data, from);
    put_u32(bytes + 4, count);
    put_u32(bytes + from, (uint32_t)holder_size);
    lock_record_encode(holder, bytes + from + 4);
    if (shared.size > to)
        memcpy(bytes + from + 4 + holder_size, shared.data + to, shared.size - to);
    *ret_shared = slice_make(bytes, size);
    return 0;
}

kvs_slice shared_record_without(uint8_t *bytes, size_t size, uint64_t start_ts)
{
    size_t from;
    size_t to;
    holder_place(slice_make(bytes, size), start_ts, &from, &to);
    if (from == to)
        return slice_make(bytes, size);
    uint32_t count = get_u32(bytes + 4) - 1;
    if (count == 0)
        return slice_make(NULL, 0);
    put_u32(bytes + 4, count);
    memmove(bytes + from, bytes + to, size - to);
    return slice_make(bytes, size - (to - from));
}

void shared_record_close(uint8_t *bytes)
{
    bytes[2] |= SHARED_CLOSED;
}

/* --- secondaries ------------------------------------------------------------------------------ */

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
