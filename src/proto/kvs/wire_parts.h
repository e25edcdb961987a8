/* proto/kvs/wire_parts.h: what the codec's files share: reading a body, and header bytes. */
#ifndef PROTO_KVS_WIRE_PARTS_H
#define PROTO_KVS_WIRE_PARTS_H

#include "base/bytes.h"
#include "proto/kvs/wire.h"

/* Room for `size` bytes, what was there is given up; NULL when there is no memory. */
void *wire_scratch_take(struct wire_scratch *scratch, size_t size);

/* Reads a body from its begin. Past its end it gives zeroes and empty slices, and remembers. */
struct wire_reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static inline struct wire_reader wire_reader_of(kvs_slice body)
{
    return (struct wire_reader){.at = body.data, .left = body.size};
}

static inline const uint8_t *wire_read_bytes(struct wire_reader *reader, size_t size)
{
    if (size > reader->left) {
        reader->failed = true;
        reader->left = 0;
        return NULL;
    }
    const uint8_t *at = reader->at;
    reader->at += size;
    reader->left -= size;
    return at;
}

static inline uint32_t wire_read_u32(struct wire_reader *reader)
{
    const uint8_t *at = wire_read_bytes(reader, 4);
    return at != NULL ? get_u32(at) : 0;
}

static inline uint64_t wire_read_u64(struct wire_reader *reader)
{
    const uint8_t *at = wire_read_bytes(reader, 8);
    return at != NULL ? get_u64(at) : 0;
}

static inline kvs_slice wire_read_slice(struct wire_reader *reader, size_t size)
{
    const uint8_t *at = wire_read_bytes(reader, size);
    return at != NULL ? slice_make(at, size) : slice_make(NULL, 0);
}

static inline kvs_slice wire_read_rest(struct wire_reader *reader)
{
    return wire_read_slice(reader, reader->left);
}

static inline bool wire_reader_ended_well(const struct wire_reader *reader)
{
    return !reader->failed && reader->left == 0;
}

static inline uint8_t *wire_put_header(uint8_t *at, uint32_t body_size, uint32_t id, uint8_t opcode,
                                       uint8_t flags, uint16_t status, uint32_t aux)
{
    put_u32(at, body_size);
    put_u32(at + 4, id);
    at[8] = opcode;
    at[9] = flags;
    put_u16(at + 10, status);
    put_u32(at + 12, aux);
    return at + WIRE_HEADER_SIZE;
}

static inline uint8_t *wire_put_bytes(uint8_t *at, kvs_slice slice)
{
    if (slice.size > 0)
        memcpy(at, slice.data, slice.size);
    return at + slice.size;
}

static inline uint8_t *wire_put_u32(uint8_t *at, uint32_t value)
{
    put_u32(at, value);
    return at + 4;
}

static inline uint8_t *wire_put_u64(uint8_t *at, uint64_t value)
{
    put_u64(at, value);
    return at + 8;
}

#endif
