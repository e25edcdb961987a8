/*
 * proto/tikv/key.h: keys as TiKV writes them, and what its API versions allow.
 *
 * PD's region bounds are memcomparable encodings for API V2 and for transactions; for raw data of
 * API V1 they are keys as they are.
 *
 * Keys of API V2 begin with their mode, 'r' for raw and 'x' for transactions, and the three
 * big-endian bytes of their keyspace. No state, any thread.
 */
#ifndef PROTO_TIKV_KEY_H
#define PROTO_TIKV_KEY_H

#include "base/memcomparable.h"

#include <kvs/error.h>
#include <stdbool.h>

#define KEY_SIZE_MAX 8192u
#define KEY_MODE_RAW 'r'
#define KEY_MODE_TXN 'x'
#define KEYSPACE_PREFIX_SIZE 4u
#define KEYSPACE_ID_MAX 0xffffffu
#define KEYSPACE_NONE 0xffffffffu /* the id that stands for no keyspace */

/* Keys as regions are cut by: base/memcomparable.h. */
static inline size_t key_encoded_size(size_t size)
{
    return memcomparable_size(size);
}

static inline void key_encode(kvs_slice key, uint8_t *to)
{
    memcomparable_encode(key, to);
}

static inline int key_decode(kvs_slice encoded, uint8_t *to, size_t *ret_size)
{
    return memcomparable_decode(encoded, to, ret_size) == 0 ? 0 : KVS_ERR_PROTOCOL;
}

static inline int key_encoded_compare(kvs_slice key, kvs_slice other)
{
    return memcomparable_compare(key, other);
}

static inline size_t key_at_or_above(kvs_slice bound, uint8_t *to)
{
    return memcomparable_at_or_above(bound, to);
}

/* 'r' or 'x', and the keyspace; `to` has room for KEYSPACE_PREFIX_SIZE. */
void key_prefix(char mode, uint32_t keyspace, uint8_t *to);

/* May a request of API V2, 'r' or 'x', name this key? */
static inline bool key_has_mode(kvs_slice key, char mode)
{
    return key.size > 0 && key.data[0] == (uint8_t)mode;
}

/* May it name the range from start to end? Both have the mode, or the end is the first key behind
 * all that have. */
bool key_range_has_mode(kvs_slice start, kvs_slice end, char mode);

/* The number of a column family: "", "default", "write", "lock"; API V2 has none but "". Negative:
 * there is none of the name. */
int key_family(const char *name, bool is_v2);

#endif
