/* proto/grpc/message.h: the frame around each message: a flag byte, a length, the message. */
#ifndef PROTO_GRPC_MESSAGE_H
#define PROTO_GRPC_MESSAGE_H

#include "base/slice.h"

#include <stdint.h>

#define MESSAGE_PREFIX_SIZE 5u

enum message_parsed {
    MESSAGE_WHOLE,      /* *ret_message is set, *ret_used bytes are done */
    MESSAGE_MORE,       /* not all there yet */
    MESSAGE_COMPRESSED, /* the flag says compressed, which we do not speak */
    MESSAGE_BAD_FLAG,
    MESSAGE_TOO_LARGE, /* known from the prefix, before the message came */
};

/* Looks at the begin of `bytes`; the message is a part of it. */
static inline enum message_parsed message_parse(kvs_slice bytes, uint32_t size_max,
                                                kvs_slice *ret_message, size_t *ret_used)
{
    if (bytes.size > 0 && bytes.data[0] != 0)
        return bytes.data[0] == 1 ? MESSAGE_COMPRESSED : MESSAGE_BAD_FLAG;
    if (bytes.size < MESSAGE_PREFIX_SIZE)
        return MESSAGE_MORE;
    uint32_t size = (uint32_t)bytes.data[1] << 24 | (uint32_t)bytes.data[2] << 16 |
                    (uint32_t)bytes.data[3] << 8 | (uint32_t)bytes.data[4];
    if (size > size_max)
        return MESSAGE_TOO_LARGE;
    if (bytes.size - MESSAGE_PREFIX_SIZE < size)
        return MESSAGE_MORE;
    *ret_message = slice_make(bytes.data + MESSAGE_PREFIX_SIZE, size);
    *ret_used = MESSAGE_PREFIX_SIZE + size;
    return MESSAGE_WHOLE;
}

static inline void message_write_prefix(uint8_t prefix[MESSAGE_PREFIX_SIZE], uint32_t size)
{
    prefix[0] = 0;
    prefix[1] = (uint8_t)(size >> 24);
    prefix[2] = (uint8_t)(size >> 16);
    prefix[3] = (uint8_t)(size >> 8);
    prefix[4] = (uint8_t)size;
}

#endif
