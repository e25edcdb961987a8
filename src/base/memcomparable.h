/*
 * base/memcomparable.h: an encoding of keys that keeps their order, and of which none is the
 * beginning of another; so something may follow it.
 *
 * Groups of eight bytes, the last one padded with zeros (and empty when the key ends with a whole
 * group), each followed by 0xff less the number of padding bytes. It is TiKV's: regions and the
 * records of transactions are cut by it.
 */
#ifndef BASE_MEMCOMPARABLE_H
#define BASE_MEMCOMPARABLE_H

#include "base/slice.h"

static inline size_t memcomparable_size(size_t size)
{
    return (size / 8 + 1) * 9;
}

/* Writes memcomparable_size bytes. */
void memcomparable_encode(kvs_slice key, uint8_t *to);

/* The key of an encoding; `to` has room for encoded.size bytes. Returns 0, or CORRUPTION for what
 * is no encoding. */
int memcomparable_decode(kvs_slice encoded, uint8_t *to, size_t *ret_size);

/* The order of a key's encoding and other bytes, without making it. */
int memcomparable_compare(kvs_slice key, kvs_slice other);

/* The smallest key whose encoding is not below `bound`, which may be any bytes; `to` has room for
 * bound.size + 8. Returns its size. */
size_t memcomparable_at_or_above(kvs_slice bound, uint8_t *to);

#endif
