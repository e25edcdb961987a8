/* proto/kvs/wire_reply.c: replies to bytes and back. */
#include "proto/kvs/wire.h"
#include "proto/kvs/wire_parts.h"

#include <assert.h>
#include <stdio.h>

/* --- encode ---- */

/* A header whose body is `body`, in one piece. */
static int reply_whole(uint8_t opcode, uint32_t id, int status, uint32_t aux, kvs_slice body,
                       struct buf *out)
{
    if (buf_reserve(out, WIRE_HEADER_SIZE + body.size) != 0)
        return KVS_ERR_NO_MEMORY;
    uint8_t *at = wire_put_header(out->data + out->size, (uint32_t)body.size, id, opcode, 0,
                                  (uint16_t)status, aux);
    wire_put_bytes(at, body);
    out->size += WIRE_HEADER_SIZE + body.size;
    return 0;
}

int wire_reply_begin(uint8_t opcode, uint32_t id, int status, uint32_t aux, struct buf *out,
                     size_t *ret_header)
{
    if (ret_header != NULL)
        *ret_header = out->size;
    return reply_whole(opcode, id, status, aux, slice_make(NULL, 0), out);
}

void wire_reply_finish(struct buf *out, size_t header, uint8_t flags, uint32_t aux)
{
    uint8_t *at = out->data + header;
    size_t body_size = out->size - header - WIRE_HEADER_SIZE;
    assert(body_size <= UINT32_MAX);
    put_u32(at, (uint32_t)body_size);
    at[9] = flags;
    put_u32(at + 12, aux);
}

int wire_reply_value(uint8_t opcode, uint32_t id, kvs_slice value, struct buf *out)
{
    return reply_whole(opcode, id, 0, 0, value, out);
}

int wire_reply_number(uint8_t opcode, uint32_t id, int64_t number, struct buf *out)
{
    uint8_t body[8];
    put_u64(body, (uint64_t)number);
    return reply_whole(opcode, id, 0, 0, slice_make(body, sizeof body), out);
}

int wire_reply_error(uint8_t opcode, uint32_t id, int status, const char *message, struct buf *out)
{
    return reply_whole(opcode, id, status, 0, slice_of_string(message), out);
}

int wire_pair_append(kvs_slice key, kvs_slice value, struct buf *out)
{
    size_t size = 8 + key.size + value.size;
    if (buf_reserve(out, size) != 0)
        return KVS_ERR_NO_MEMORY;
    uint8_t *at = out->data + out->size;
    at = wire_put_u32(wire_put_u32(at, (uint32_t)key.size), (uint32_t)value.size);
    wire_put_bytes(wire_put_bytes(at, key), value);
    out->size += size;
    return 0;
}

int wire_goaway_encode(struct buf *out)
{
    return wire_reply_begin(WIRE_GOAWAY, 0, 0, 0, out, NULL);
}

static int append_found(const kvs_pair *pair, struct buf *out)
{
    if (!pair->found)
        return buf_append_u32(out, WIRE_MISSING);
    int error = buf_append_u32(out, (uint32_t)pair->value.size);
    return error != 0 ? error : buf_append_slice(out, pair->value);
}

/* The pairs of a batch get or a scan's page; whole or not at all. */
static int reply_pairs(const kvs_op *op, uint32_t id, struct buf *out)
{
    size_t header = 0;
    size_t size_before = out->size;
    int error = wire_reply_begin(op->kind, id, 0, 0, out, &header);
    for (size_t i = 0; i < op->pairs_count && error == 0; i++) {
        const kvs_pair *pair = &op->pairs[i];
        error = op->kind == KVS_OP_SCAN ? wire_pair_append(pair->key, pair->value, out)
                                        : append_found(pair, out);
    }
    if (error == 0 && out->size - header > WIRE_BODY_SIZE_SANE)
        error = KVS_ERR_TOO_LARGE;
    if (error != 0) {
        out->size = size_before;
        return error;
    }
    wire_reply_finish(out, header, op->more ? WIRE_FLAG_MORE : 0, (uint32_t)op->pairs_count);
    return 0;
}

int wire_reply_encode(const kvs_op *op, uint32_t id, struct buf *out)
{
    if (op->kind == KVS_OP_CAS && op->error == KVS_ERR_CONDITION_FAILED)
        return reply_whole(op->kind, id, op->error, op->number != 0, op->result, out);
    if (op->error != 0)
        return wire_reply_error(op->kind, id, op->error, op->message, out);
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_STATS:
    case KVS_OP_CHECKSUM:
        return wire_reply_value(op->kind, id, op->result, out);
    case KVS_OP_EXISTS:
        return wire_reply_begin(op->kind, id, 0, op->number != 0, out, NULL);
    case KVS_OP_COUNT:
    case KVS_OP_TTL:
    case KVS_OP_REMOVE_RANGE:
        return wire_reply_number(op->kind, id, op->number, out);
    case KVS_OP_BATCH_GET:
    case KVS_OP_SCAN:
        return reply_pairs(op, id, out);
    default:
        return wire_reply_begin(op->kind, id, 0, 0, out, NULL);
    }
}

/* --- decode ---- */

static void set_message(kvs_op *op, kvs_slice text)
{
    snprintf(op->message, sizeof op->message, "%.*s", (int)(text.size < 159 ? text.size : 159),
             text.size > 0 ? (const char *)text.data : "");
}

static int decode_values(const struct wire_frame *frame, kvs_op *op, struct wire_scratch *scratch)
{
    if (frame->aux != op->count)
        return KVS_ERR_PROTOCOL;
    kvs_pair *pairs = wire_scratch_take(scratch, op->count * sizeof *pairs);
    if (pairs == NULL)
        return KVS_ERR_NO_MEMORY;
    struct wire_reader reader = wire_reader_of(frame->body);
    for (uint32_t i = 0; i < op->count; i++) {
        uint32_t size = wire_read_u32(&reader);
        bool found = size != WIRE_MISSING;
        pairs[i] = (kvs_pair){.key = op->keys[i], .found = found};
        if (found)
            pairs[i].value = wire_read_slice(&reader, size);
    }
    if (!wire_reader_ended_well(&reader))
        return KVS_ERR_PROTOCOL;
    op->pairs = pairs;
    op->pairs_count = op->count;
    return 0;
}

static int decode_pairs(const struct wire_frame *frame, kvs_op *op, struct wire_scratch *scratch)
{
    size_t count = frame->aux;
    if (count > frame->body.size / 8)
        return KVS_ERR_PROTOCOL;
    kvs_pair *pairs = wire_scratch_take(scratch, count * sizeof *pairs);
    if (pairs == NULL)
        return KVS_ERR_NO_MEMORY;
    struct wire_reader reader = wire_reader_of(frame->body);
    for (size_t i = 0; i < count; i++) {
        uint32_t key_size = wire_read_u32(&reader);
        uint32_t value_size = wire_read_u32(&reader);
        pairs[i].key = wire_read_slice(&reader, key_size);
        pairs[i].value = wire_read_slice(&reader, value_size);
        pairs[i].found = true;
    }
    if (!wire_reader_ended_well(&reader))
        return KVS_ERR_PROTOCOL;
    op->pairs = pairs;
    op->pairs_count = count;
    op->more = (frame->flags & WIRE_FLAG_MORE) != 0;
    return 0;
}

static int decode_failure(const struct wire_frame *frame, kvs_op *op)
{
    if (op->kind == KVS_OP_CAS && frame->status == KVS_ERR_CONDITION_FAILED) {
        op->number = frame->aux != 0;
        op->result = frame->body;
        op->message[0] = '\0';
    } else {
        set_message(op, frame->body);
    }
    op->error = frame->status;
    return 0;
}

static int decode_success(const struct wire_frame *frame, kvs_op *op, struct wire_scratch *scratch)
{
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_STATS:
        op->result = frame->body;
        return 0;
    case KVS_OP_CHECKSUM:
        if (frame->body.size != 24)
            return KVS_ERR_PROTOCOL;
        op->result = frame->body;
        return 0;
    case KVS_OP_EXISTS:
        op->number = frame->aux != 0;
        return 0;
    case KVS_OP_COUNT:
    case KVS_OP_TTL:
    case KVS_OP_REMOVE_RANGE:
        if (frame->body.size != 8)
            return KVS_ERR_PROTOCOL;
        op->number = (int64_t)get_u64(frame->body.data);
        return 0;
    case KVS_OP_BATCH_GET:
        return decode_values(frame, op, scratch);
    case KVS_OP_SCAN:
        return decode_pairs(frame, op, scratch);
    default:
        return frame->body.size == 0 ? 0 : KVS_ERR_PROTOCOL;
    }
}

int wire_reply_decode(const struct wire_frame *frame, kvs_op *op, struct wire_scratch *scratch)
{
    if (frame->opcode != op->kind || frame->status > 0)
        return KVS_ERR_PROTOCOL;
    if (frame->status < 0)
        return decode_failure(frame, op);
    int error = decode_success(frame, op, scratch);
    if (error == 0) {
        op->error = 0;
        op->message[0] = '\0';
    }
    return error;
}
