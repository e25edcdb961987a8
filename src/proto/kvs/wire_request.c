/* proto/kvs/wire_request.c: requests to bytes and back. */
#include "proto/kvs/wire.h"
#include "proto/kvs/wire_parts.h"

#define WIRE_FAMILIES 16u

#define MUTATION_FIXED_SIZE 12u /* kind, family, flags, reserved, key_size, value_size */

/* Flags that each opcode knows. */
static const uint8_t flags_known[] = {
    [KVS_OP_SET] = WIRE_FLAG_TTL,
    [KVS_OP_CAS] = WIRE_FLAG_TTL | KVS_OP_FLAG_EXPECT_ABSENT,
    [KVS_OP_SCAN] = KVS_OP_FLAG_REVERSE | KVS_OP_FLAG_KEYS_ONLY | WIRE_FLAG_PAGE,
    [KVS_OP_CHECKPOINT] = 0,
};

/* --- encode ---- */

static uint64_t mutations_size(const kvs_op *op)
{
    uint64_t size = 4;
    for (uint32_t i = 0; i < op->count; i++) {
        const kvs_mutation *mutation = &op->mutations[i];
        size += MUTATION_FIXED_SIZE + mutation->key.size + mutation->value.size;
        size += mutation->ttl_ms != 0 ? 8 : 0;
    }
    return size;
}

static uint64_t body_size(const kvs_op *op)
{
    uint64_t ttl = op->ttl_ms != 0 ? 8 : 0;
    uint64_t size = 4;
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_EXISTS:
    case KVS_OP_REMOVE:
    case KVS_OP_TTL:
    case KVS_OP_CHECKPOINT:
        return op->key.size;
    case KVS_OP_SET:
        return ttl + 4 + op->key.size + op->value.size;
    case KVS_OP_CAS:
        return ttl + 8 + op->key.size + op->expected.size + op->value.size;
    case KVS_OP_BATCH_GET:
        for (uint32_t i = 0; i < op->count; i++)
            size += 4 + op->keys[i].size;
        return size;
    case KVS_OP_BATCH_WRITE:
        return mutations_size(op);
    case KVS_OP_SCAN:
        return 12 + op->key.size + op->end_key.size;
    case KVS_OP_COUNT:
    case KVS_OP_CHECKSUM:
    case KVS_OP_REMOVE_RANGE:
        return 4 + op->key.size + op->end_key.size;
    default:
        return 0;
    }
}

uint64_t wire_request_size(const kvs_op *op)
{
    return WIRE_HEADER_SIZE + body_size(op);
}

static uint8_t *put_mutations(uint8_t *at, const kvs_op *op)
{
    at = wire_put_u32(at, op->count);
    for (uint32_t i = 0; i < op->count; i++) {
        const kvs_mutation *mutation = &op->mutations[i];
        bool ttl = mutation->ttl_ms != 0;
        *at++ = mutation->kind;
        *at++ = mutation->family;
        *at++ = ttl ? WIRE_FLAG_TTL : 0;
        *at++ = 0;
        at = wire_put_u32(at, (uint32_t)mutation->key.size);
        at = wire_put_u32(at, (uint32_t)mutation->value.size);
        if (ttl)
            at = wire_put_u64(at, mutation->ttl_ms);
        at = wire_put_bytes(at, mutation->key);
        at = wire_put_bytes(at, mutation->value);
    }
    return at;
}

static uint8_t *put_keys(uint8_t *at, const kvs_op *op)
{
    at = wire_put_u32(at, op->count);
    for (uint32_t i = 0; i < op->count; i++) {
        at = wire_put_u32(at, (uint32_t)op->keys[i].size);
        at = wire_put_bytes(at, op->keys[i]);
    }
    return at;
}

static uint8_t *put_body(uint8_t *at, const kvs_op *op, uint32_t credit)
{
    switch (op->kind) {
    case KVS_OP_GET:
    case KVS_OP_EXISTS:
    case KVS_OP_REMOVE:
    case KVS_OP_TTL:
    case KVS_OP_CHECKPOINT:
        return wire_put_bytes(at, op->key);
    case KVS_OP_SET:
        at = wire_put_u32(op->ttl_ms != 0 ? wire_put_u64(at, op->ttl_ms) : at,
                          (uint32_t)op->key.size);
        return wire_put_bytes(wire_put_bytes(at, op->key), op->value);
    case KVS_OP_CAS:
        at = wire_put_u32(op->ttl_ms != 0 ? wire_put_u64(at, op->ttl_ms) : at,
                          (uint32_t)op->key.size);
        at = wire_put_u32(at, (uint32_t)op->expected.size);
        at = wire_put_bytes(wire_put_bytes(at, op->key), op->expected);
        return wire_put_bytes(at, op->value);
    case KVS_OP_BATCH_GET:
        return put_keys(at, op);
    case KVS_OP_BATCH_WRITE:
        return put_mutations(at, op);
    case KVS_OP_SCAN:
        at = wire_put_u32(wire_put_u32(at, op->limit), credit);
        /* fall through */
    case KVS_OP_COUNT:
    case KVS_OP_CHECKSUM:
    case KVS_OP_REMOVE_RANGE:
        at = wire_put_u32(at, (uint32_t)op->key.size);
        return wire_put_bytes(wire_put_bytes(at, op->key), op->end_key);
    default:
        return at;
    }
}

int wire_request_encode(const kvs_op *op, uint32_t id, uint32_t credit, struct buf *out)
{
    if (op->kind < KVS_OP_GET || op->kind > KVS_OP_CHECKPOINT)
        return KVS_ERR_INVALID_ARGUMENT;
    uint64_t size = body_size(op);
    if (size > WIRE_BODY_SIZE_SANE)
        return KVS_ERR_TOO_LARGE;
    if (buf_reserve(out, WIRE_HEADER_SIZE + (size_t)size) != 0)
        return KVS_ERR_NO_MEMORY;
    uint8_t known = flags_known[op->kind];
    unsigned flags = op->flags & 7u & known;
    if (op->ttl_ms != 0 && op->kind != KVS_OP_BATCH_WRITE)
        flags |= WIRE_FLAG_TTL & known;
    if ((op->flags & KVS_OP_FLAG_PAGE) != 0)
        flags |= WIRE_FLAG_PAGE & known;
    uint8_t *at = wire_put_header(out->data + out->size, (uint32_t)size, id, op->kind,
                                  (uint8_t)flags, op->family, op->timeout_ms);
    put_body(at, op, credit);
    out->size += WIRE_HEADER_SIZE + (size_t)size;
    return 0;
}

int wire_cancel_encode(uint32_t id, struct buf *out)
{
    if (buf_reserve(out, WIRE_HEADER_SIZE) != 0)
        return KVS_ERR_NO_MEMORY;
    wire_put_header(out->data + out->size, 0, id, WIRE_CANCEL, 0, 0, 0);
    out->size += WIRE_HEADER_SIZE;
    return 0;
}

int wire_credit_encode(uint32_t id, uint32_t bytes, struct buf *out)
{
    if (buf_reserve(out, WIRE_HEADER_SIZE + 4) != 0)
        return KVS_ERR_NO_MEMORY;
    put_u32(wire_put_header(out->data + out->size, 4, id, WIRE_CREDIT, 0, 0, 0), bytes);
    out->size += WIRE_HEADER_SIZE + 4;
    return 0;
}

/* --- decode ---- */

static int invalid(const char **ret_why, const char *why)
{
    *ret_why = why;
    return KVS_ERR_INVALID_ARGUMENT;
}

static int too_large(const char **ret_why, const char *why)
{
    *ret_why = why;
    return KVS_ERR_TOO_LARGE;
}

static int unsupported(const char **ret_why, const char *why)
{
    *ret_why = why;
    return KVS_ERR_UNSUPPORTED;
}

static int check_key(kvs_slice key, const struct wire_limits *limits, const char **ret_why)
{
    if (key.size > limits->key_size_max)
        return too_large(ret_why, "key over the limit");
    if (key.size == 0)
        return invalid(ret_why, "empty key");
    return 0;
}

static int check_value(kvs_slice value, const struct wire_limits *limits, const char **ret_why)
{
    return value.size > limits->value_size_max ? too_large(ret_why, "value over the limit") : 0;
}

static int check_end(const struct wire_reader *reader, const char **ret_why)
{
    return wire_reader_ended_well(reader)
               ? 0
               : invalid(ret_why, "the sizes in the request do not add up");
}

static int decode_set(struct wire_reader *reader, uint8_t flags, const struct wire_limits *limits,
                      kvs_op *op, const char **ret_why)
{
    op->ttl_ms = (flags & WIRE_FLAG_TTL) != 0 ? wire_read_u64(reader) : 0;
    uint32_t key_size = wire_read_u32(reader);
    uint32_t expected_size = op->kind == KVS_OP_CAS ? wire_read_u32(reader) : 0;
    op->key = wire_read_slice(reader, key_size);
    op->expected = wire_read_slice(reader, expected_size);
    op->value = wire_read_rest(reader);
    int error = check_end(reader, ret_why);
    if (error == 0)
        error = check_key(op->key, limits, ret_why);
    if (error == 0)
        error = check_value(op->expected, limits, ret_why);
    if (error == 0)
        error = check_value(op->value, limits, ret_why);
    if (error == 0 && (op->flags & KVS_OP_FLAG_EXPECT_ABSENT) != 0 && op->expected.size > 0)
        error = invalid(ret_why, "EXPECT_ABSENT with an expected value");
    return error;
}

/* The number of elements, each of at least `size_min` bytes: so a count costs its sender. */
static int decode_count(struct wire_reader *reader, size_t size_min,
                        const struct wire_limits *limits, uint32_t *ret_count, const char **ret_why)
{
    uint32_t count = wire_read_u32(reader);
    if (count > limits->batch_count_max)
        return too_large(ret_why, "too many elements in the batch");
    if (reader->failed || count > reader->left / size_min)
        return invalid(ret_why, "the sizes in the request do not add up");
    *ret_count = count;
    return 0;
}

static int decode_keys(struct wire_reader *reader, const struct wire_limits *limits, kvs_op *op,
                       struct wire_scratch *scratch, const char **ret_why)
{
    uint32_t count = 0;
    int error = decode_count(reader, 4, limits, &count, ret_why);
    if (error != 0)
        return error;
    kvs_slice *keys = wire_scratch_take(scratch, count * sizeof *keys);
    if (keys == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count && error == 0; i++) {
        uint32_t size = wire_read_u32(reader);
        keys[i] = wire_read_slice(reader, size);
        error = reader->failed ? check_end(reader, ret_why) : check_key(keys[i], limits, ret_why);
    }
    op->keys = keys;
    op->count = count;
    return error != 0 ? error : check_end(reader, ret_why);
}

static int check_mutation(const kvs_mutation *mutation, uint8_t flags,
                          const struct wire_limits *limits, const char **ret_why)
{
    if (mutation->family >= WIRE_FAMILIES)
        return unsupported(ret_why, "no such column family");
    if ((flags & ~WIRE_FLAG_TTL) != 0 || (flags != 0 && mutation->kind != KVS_MUTATION_SET))
        return unsupported(ret_why, "unknown flag of a mutation");
    switch (mutation->kind) {
    case KVS_MUTATION_SET:
        if (mutation->value.size > limits->value_size_max)
            return too_large(ret_why, "value over the limit");
        return check_key(mutation->key, limits, ret_why);
    case KVS_MUTATION_REMOVE:
        if (mutation->value.size > 0)
            return invalid(ret_why, "a remove with a value");
        return check_key(mutation->key, limits, ret_why);
    case KVS_MUTATION_REMOVE_RANGE:
        if (mutation->key.size > limits->key_size_max ||
            mutation->value.size > limits->key_size_max)
            return too_large(ret_why, "key over the limit");
        return 0;
    default:
        return unsupported(ret_why, "unknown kind of mutation");
    }
}

static int decode_mutation(struct wire_reader *reader, const struct wire_limits *limits,
                           kvs_mutation *mutation, const char **ret_why)
{
    const uint8_t *fixed = wire_read_bytes(reader, MUTATION_FIXED_SIZE);
    if (fixed == NULL)
        return check_end(reader, ret_why);
    uint8_t flags = fixed[2];
    *mutation = (kvs_mutation){.kind = fixed[0], .family = fixed[1]};
    if (fixed[3] != 0)
        return unsupported(ret_why, "reserved byte of a mutation is not 0");
    mutation->ttl_ms = (flags & WIRE_FLAG_TTL) != 0 ? wire_read_u64(reader) : 0;
    mutation->key = wire_read_slice(reader, get_u32(fixed + 4));
    mutation->value = wire_read_slice(reader, get_u32(fixed + 8));
    if (reader->failed)
        return check_end(reader, ret_why);
    return check_mutation(mutation, flags, limits, ret_why);
}

static int decode_mutations(struct wire_reader *reader, const struct wire_limits *limits,
                            kvs_op *op, struct wire_scratch *scratch, const char **ret_why)
{
    uint32_t count = 0;
    int error = decode_count(reader, MUTATION_FIXED_SIZE, limits, &count, ret_why);
    if (error != 0)
        return error;
    kvs_mutation *mutations = wire_scratch_take(scratch, count * sizeof *mutations);
    if (mutations == NULL)
        return KVS_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count && error == 0; i++)
        error = decode_mutation(reader, limits, &mutations[i], ret_why);
    op->mutations = mutations;
    op->count = count;
    return error != 0 ? error : check_end(reader, ret_why);
}

static int decode_range(struct wire_reader *reader, const struct wire_limits *limits, kvs_op *op,
                        uint32_t *ret_credit, const char **ret_why)
{
    uint32_t credit = 0;
    if (op->kind == KVS_OP_SCAN) {
        op->limit = wire_read_u32(reader);
        credit = wire_read_u32(reader);
    }
    uint32_t start_size = wire_read_u32(reader);
    op->key = wire_read_slice(reader, start_size);
    op->end_key = wire_read_rest(reader);
    int error = check_end(reader, ret_why);
    if (error != 0)
        return error;
    if (op->key.size > limits->key_size_max || op->end_key.size > limits->key_size_max)
        return too_large(ret_why, "key over the limit");
    if (ret_credit != NULL)
        *ret_credit = credit;
    return 0;
}

static void clear_request(kvs_op *op)
{
    const kvs_slice none = {0};
    op->limit = 0;
    op->count = 0;
    op->key = op->value = op->end_key = op->expected = none;
    op->ttl_ms = 0;
    op->keys = NULL;
    op->mutations = NULL;
}

int wire_request_decode(const struct wire_frame *frame, const struct wire_limits *limits,
                        kvs_op *op, struct wire_scratch *scratch, uint32_t *ret_credit,
                        const char **ret_why)
{
    *ret_why = "";
    clear_request(op);
    op->kind = frame->opcode;
    op->family = frame->family;
    op->flags = frame->flags & 7u;
    if ((frame->flags & WIRE_FLAG_PAGE) != 0)
        op->flags |= KVS_OP_FLAG_PAGE;
    op->timeout_ms = frame->aux;
    if (frame->opcode < KVS_OP_GET || frame->opcode > KVS_OP_CHECKPOINT)
        return unsupported(ret_why, "unknown opcode");
    if ((frame->flags & ~flags_known[frame->opcode]) != 0)
        return unsupported(ret_why, "unknown flag");
    if (frame->reserved != 0)
        return unsupported(ret_why, "reserved byte is not 0");
    if (frame->family >= WIRE_FAMILIES)
        return unsupported(ret_why, "no such column family");
    struct wire_reader reader = wire_reader_of(frame->body);
    switch (frame->opcode) {
    case KVS_OP_GET:
    case KVS_OP_EXISTS:
    case KVS_OP_REMOVE:
    case KVS_OP_TTL:
    case KVS_OP_CHECKPOINT:
        op->key = frame->body;
        return check_key(op->key, limits, ret_why);
    case KVS_OP_SET:
    case KVS_OP_CAS:
        return decode_set(&reader, frame->flags, limits, op, ret_why);
    case KVS_OP_BATCH_GET:
        return decode_keys(&reader, limits, op, scratch, ret_why);
    case KVS_OP_BATCH_WRITE:
        return decode_mutations(&reader, limits, op, scratch, ret_why);
    case KVS_OP_SCAN:
    case KVS_OP_COUNT:
    case KVS_OP_CHECKSUM:
    case KVS_OP_REMOVE_RANGE:
        return decode_range(&reader, limits, op, ret_credit, ret_why);
    default:
        return check_end(&reader, ret_why);
    }
}

int wire_credit_decode(const struct wire_frame *frame, uint32_t *ret_bytes)
{
    if (frame->body.size != 4)
        return KVS_ERR_PROTOCOL;
    *ret_bytes = get_u32(frame->body.data);
    return 0;
}
