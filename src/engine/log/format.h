/*
 * engine/log/format.h: the bytes of segments and records; docs/format/log.md is the contract.
 *
 * Pure functions over memory. Every size read from the bytes is checked against the bytes that are
 * there before it is used.
 */
#ifndef ENGINE_LOG_FORMAT_H
#define ENGINE_LOG_FORMAT_H

#include "base/slice.h"

#include <stddef.h>

#define SEGMENT_HEADER_SIZE 32u
#define SEGMENT_NAME_SIZE 15 /* "0000000001.seg" and NUL */
#define RECORD_HEADER_SIZE 20u
#define RECORD_ALIGNMENT 8u
#define RECORD_SIZE_MIN 24u
#define RECORD_MARK_SIZE 32u
#define RECORD_SEAL_SIZE 24u
#define SEQUENCE_MAX (UINT64_MAX >> 1)

enum record_kind {
    RECORD_SET = 1,
    RECORD_REMOVE = 2,
    RECORD_REMOVE_RANGE = 3,
    RECORD_MARK = 4,
    RECORD_SEAL = 5,
};

struct record {
    uint8_t kind;
    uint8_t family;
    bool more;
    uint64_t sequence;
    uint64_t expires_at_ms; /* 0: never */
    kvs_slice key;
    kvs_slice value;
};

/* Offset of the value in a record, from the record's begin. */
static inline size_t record_value_offset(size_t key_size, bool expires)
{
    return RECORD_HEADER_SIZE + (expires ? 8u : 0u) + key_size;
}

/* Bytes of a record in the file, padding included. */
static inline size_t record_size(size_t key_size, size_t value_size, bool expires)
{
    size_t size = record_value_offset(key_size, expires) + value_size;
    return (size + RECORD_ALIGNMENT - 1) & ~(size_t)(RECORD_ALIGNMENT - 1);
}

/* Writes a record (record_size bytes, padding zeroed) to `out`, which must not overlap its
 * slices. */
void record_encode(uint8_t *out, uint32_t segment, const struct record *record);

/*
 * Reads the record at the begin of `bytes`. Returns its size with padding, with slices into
 * `bytes`; 0 when these bytes are no valid record of this segment.
 */
size_t record_decode(kvs_slice bytes, uint32_t segment, struct record *ret_record);

/* The same without looking at the checksum: for bytes that this process wrote or has checked. */
size_t record_parse(kvs_slice bytes, struct record *ret_record);

/* A mark's content. False when the value is not one. */
bool record_mark_decode(const struct record *record, uint32_t *ret_segment, uint32_t *ret_offset);
void record_mark_encode(uint8_t out[RECORD_MARK_SIZE], uint32_t segment, uint64_t sequence,
                        uint32_t durable_segment, uint32_t durable_offset);
void record_seal_encode(uint8_t out[RECORD_SEAL_SIZE], uint32_t segment, uint64_t sequence);

/* `identity`: random, so that two files that ever had this number are told apart. */
void segment_header_encode(uint8_t out[SEGMENT_HEADER_SIZE], uint32_t segment, uint64_t sequence,
                           uint32_t identity);
bool segment_header_decode(kvs_slice bytes, uint32_t segment, uint64_t *ret_sequence);

void segment_name_format(uint32_t segment, char out[SEGMENT_NAME_SIZE]);
/* False when it is not the name of a segment. */
bool segment_name_parse(const char *name, uint32_t *ret_segment);

#endif
