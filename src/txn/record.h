/*
 * txn/record.h: keys and records of transactions as they lie in an engine: docs/format/txn.md.
 *
 * Decoding borrows from the bytes. Bytes that are no record end in CORRUPTION.
 */
#ifndef TXN_RECORD_H
#define TXN_RECORD_H

#include "base/memcomparable.h"
#include "txn/command.h"

#include <kvs/store.h>

#define RECORD_TS_SIZE 8u
#define RECORD_KEY_ENCODED_MAX ((KVS_KEY_SIZE_MAX / 8 + 1) * 9)
#define RECORD_VALUE_INLINE_MAX 255u
#define RECORD_SECONDARIES_MAX 65536u
#define RECORD_HOLDERS_MAX 1024u
#define RECORD_HOLDERS_SIZE_MAX (256u * 1024)

/* An encoded key with room for a timestamp behind it. */
struct record_key {
    size_t size; /* of the encoding */
    uint8_t bytes[RECORD_KEY_ENCODED_MAX + RECORD_TS_SIZE];
};

struct lock_record {
    uint8_t type; /* enum txn_op: PUT, DELETE, LOCK, PESSIMISTIC_LOCK or SHARED_LOCK */
    bool use_async_commit;
    bool has_value;
    uint64_t generation; /* of the flush that wrote it; 0: none did */
    kvs_slice primary;
    kvs_slice value;
    uint64_t start_ts;
    uint64_t ttl_ms;
    uint64_t for_update_ts;
    uint64_t txn_size;
    uint64_t min_commit_ts;
    uint32_t secondaries_count;
    const kvs_slice *secondaries; /* NULL when decoded: then they are in secondary_bytes */
    kvs_slice secondary_bytes;
    /* SHARED_LOCK, which has nothing of the above, and each of its holders: the record of all. */
    kvs_slice shared;
    uint32_t holders_count; /* SHARED_LOCK */
    bool is_closed;         /* SHARED_LOCK: nobody joins any more */
};

struct write_record {
    uint8_t type; /* PUT, DELETE, LOCK or ROLLBACK */
    bool has_overlapped_rollback;
    bool has_value;
    bool is_protected;
    uint64_t start_ts;
    kvs_slice value;
};

/* The key has at most KVS_KEY_SIZE_MAX bytes. */
void record_key_set(struct record_key *to, kvs_slice key);
/* A key that is encoded already; false: it is none, or too long. */
bool record_key_set_encoded(struct record_key *to, kvs_slice encoded);

static inline kvs_slice record_key_slice(const struct record_key *key)
{
    return slice_make(key->bytes, key->size);
}

/* The key of a version. It is the same memory for every timestamp. */
kvs_slice record_key_at(struct record_key *key, uint64_t ts);

/* Splits a version's key; false: it is none. */
bool record_key_split(kvs_slice bytes, kvs_slice *ret_encoded, uint64_t *ret_ts);

size_t lock_record_size(const struct lock_record *record);
void lock_record_encode(const struct lock_record *record, uint8_t *to);
int lock_record_decode(kvs_slice bytes, struct lock_record *ret_record);
/* Of bytes that are a lock record: a SHARED_LOCK, without looking at its holders? */
bool lock_record_is_shared(kvs_slice bytes);
/* Who has the lock, one after the other: of a SHARED_LOCK its holders, by start_ts; else it alone.
 * *at begins with 0. The record has been decoded. */
bool lock_record_next(const struct lock_record *record, size_t *at, struct lock_record *ret_holder);
/* The lock of one transaction, if it is among them. */
bool lock_record_find(const struct lock_record *record, uint64_t start_ts,
                      struct lock_record *ret_holder);
/* May another one join, whose primary has that size? */
bool shared_record_has_room(const struct lock_record *shared, size_t primary_size);
/* The record of a shared lock with this holder, a LOCK or PESSIMISTIC_LOCK, in place of an older
 * one of its transaction. `shared` is decoded, or empty: the first one. 0, NO_MEMORY, or TOO_LARGE:
 * its primary is longer than that of the older one, and there is no room. */
int shared_record_with(struct arena *arena, kvs_slice shared, const struct lock_record *holder,
                       kvs_slice *ret_shared);
/* In place: what is left without that transaction; empty: nobody. */
kvs_slice shared_record_without(uint8_t *bytes, size_t size, uint64_t start_ts);
/* In place: is_closed. */
void shared_record_close(uint8_t *bytes);
/* The secondaries of a decoded record, borrowed too. NULL: no memory. */
const kvs_slice *lock_record_secondaries(const struct lock_record *record, struct arena *arena);

/* Is its time over? It lives up to the end of its last millisecond. */
static inline bool lock_record_is_expired(const struct lock_record *record, uint64_t current_ts)
{
    uint64_t start_ms = txn_ts_physical_ms(record->start_ts);
    uint64_t now_ms = txn_ts_physical_ms(current_ts);
    return now_ms > start_ms && now_ms - start_ms > record->ttl_ms;
}

size_t write_record_size(const struct write_record *record);
void write_record_encode(const struct write_record *record, uint8_t *to);
int write_record_decode(kvs_slice bytes, struct write_record *ret_record);

#endif
