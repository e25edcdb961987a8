/*
 * proto/protobuf.h: the wire form of protobuf, field by field, for the messages that a client
 * or server reads and writes a hundred thousand times a second. Others use the generated code.
 *
 * Writing: the caller has made room for all; each function returns where to go on. Reading: fields
 * come in the order of the wire; bytes are borrowed from the input.
 */
#ifndef PROTO_PROTOBUF_H
#define PROTO_PROTOBUF_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum { PROTOBUF_VARINT = 0, PROTOBUF_FIXED64 = 1, PROTOBUF_BYTES = 2, PROTOBUF_FIXED32 = 5 };

#define PROTOBUF_VARINT_MAX 10u

/* --- writing --- */

static inline size_t protobuf_varint_size(uint64_t value)
{
    unsigned bits = 64u - (unsigned)__builtin_clzll(value | 1);
    return (bits * 9 + 64) / 64; /* a seventh, rounded up, without a division */
}

static inline uint8_t *protobuf_put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static inline uint8_t *protobuf_put_tag(uint8_t *at, uint32_t number, unsigned type)
{
    return protobuf_put_varint(at, (uint64_t)number << 3 | type);
}

static inline size_t protobuf_tag_size(uint32_t number)
{
    return number < 16 ? 1 : protobuf_varint_size((uint64_t)number << 3);
}

/* A number field; nothing for 0, as proto3 wants it. */
static inline uint8_t *protobuf_put_number(uint8_t *at, uint32_t number, uint64_t value)
{
    if (value == 0)
        return at;
    return protobuf_put_varint(protobuf_put_tag(at, number, PROTOBUF_VARINT), value);
}

static inline size_t protobuf_number_size(uint32_t number, uint64_t value)
{
    if (value == 0)
        return 0;
    return protobuf_tag_size(number) + protobuf_varint_size(value);
}

/* The head of a bytes or message field. */
static inline uint8_t *protobuf_put_head(uint8_t *at, uint32_t number, size_t size)
{
    return protobuf_put_varint(protobuf_put_tag(at, number, PROTOBUF_BYTES), size);
}

/* A bytes or message field in all. */
static inline size_t protobuf_field_size(uint32_t number, size_t size)
{
    return protobuf_tag_size(number) + protobuf_varint_size(size) + size;
}

static inline uint8_t *protobuf_put_raw(uint8_t *at, kvs_slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

/* --- reading --- */

struct protobuf_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool broken; /* the bytes are no protobuf */
};

struct protobuf_field {
    uint32_t number;
    unsigned type;
    uint64_t value;  /* of numbers */
    kvs_slice bytes; /* of bytes, strings and messages */
};

static inline struct protobuf_reader protobuf_read(kvs_slice bytes)
{
    return (struct protobuf_reader){.at = bytes.data, .end = bytes.data + bytes.size};
}

static inline bool protobuf_get_varint(struct protobuf_reader *reader, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    reader->broken = true;
    return false;
}

/* False at the end, or when the bytes are broken. */
static inline bool protobuf_next(struct protobuf_reader *reader, struct protobuf_field *ret_field)
{
    uint64_t tag;
    if (reader->at == reader->end || reader->broken || !protobuf_get_varint(reader, &tag))
        return false;
    *ret_field = (struct protobuf_field){.number = (uint32_t)(tag >> 3), .type = tag & 7};
    size_t left = (size_t)(reader->end - reader->at);
    uint64_t size = 0;
    switch (ret_field->type) {
    case PROTOBUF_VARINT:
        return protobuf_get_varint(reader, &ret_field->value);
    case PROTOBUF_BYTES:
        if (!protobuf_get_varint(reader, &size))
            return false;
        left = (size_t)(reader->end - reader->at);
        break;
    case PROTOBUF_FIXED64:
        size = 8;
        break;
    case PROTOBUF_FIXED32:
        size = 4;
        break;
    default:
        size = UINT64_MAX; /* groups are not in proto3 */
    }
    if (size > left) {
        reader->broken = true;
        return false;
    }
    ret_field->bytes = slice_make(reader->at, (size_t)size);
    reader->at += size;
    return true;
}

#endif
