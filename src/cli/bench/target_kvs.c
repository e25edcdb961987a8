/*
 * cli/bench/target_kvs.c: SET and GET in the kvs protocol, by the byte tables of
 * docs/protocol/kvs.md.
 *
 * Requests are written straight into the generator's buffer: a header of 16 bytes whose constant
 * fields prepare has filled in, then key and value. Replies come in any order, each with the id of
 * its request; only their headers are looked at, bodies are passed over as they come.
 */
#include "cli/bench/target.h"

#include "base/bytes.h"
#include "proto/kvs/wire.h"

#include <kvs/error.h>
#include <stdio.h>

/* Offsets in a frame's header. */
enum { HEADER_BODY_SIZE = 0, HEADER_ID = 4, HEADER_OPCODE = 8, HEADER_STATUS = 10 };

enum part { PART_GET, PART_SET };

static void part_init(struct target_part *part, uint8_t opcode, size_t body_size)
{
    memset(part->bytes, 0, sizeof part->bytes);
    put_u32(part->bytes + HEADER_BODY_SIZE, (uint32_t)body_size);
    part->bytes[HEADER_OPCODE] = opcode;
    part->size = WIRE_HEADER_SIZE;
}

static bool kvs_prepare(struct target *target)
{
    size_t set_body_size = 4 + target->key_size + target->value_size;
    if (target->value_size > WIRE_BODY_SIZE_SANE || set_body_size > WIRE_BODY_SIZE_SANE)
        return false;
    part_init(&target->parts[PART_GET], KVS_OP_GET, target->key_size);
    part_init(&target->parts[PART_SET], KVS_OP_SET, set_body_size);
    put_u32(target->parts[PART_SET].bytes + WIRE_HEADER_SIZE, (uint32_t)target->key_size);
    target->parts[PART_SET].size += 4;
    target->request_size_max = WIRE_HEADER_SIZE + set_body_size;
    return true;
}

static int hello_check(const struct target *target, const struct wire_server_hello *hello,
                       char *text)
{
    if (hello->status != 0) {
        snprintf(text, TARGET_TEXT_MAX, "%.150s:%s refuses the connection: %s", target->host,
                 target->port, kvs_error_text(hello->status));
        return hello->status < 0 ? hello->status : KVS_ERR_PROTOCOL;
    }
    if (target->key_size <= hello->limits.key_size_max &&
        target->value_size <= hello->limits.value_size_max)
        return 0;
    snprintf(text, TARGET_TEXT_MAX, "%.120s:%s takes keys up to %u bytes and values up to %u",
             target->host, target->port, hello->limits.key_size_max, hello->limits.value_size_max);
    return KVS_ERR_TOO_LARGE;
}

static int hello_send(int fd)
{
    const struct wire_client_hello hello = {.version_min = WIRE_VERSION_MIN,
                                            .version_max = WIRE_VERSION_MAX};
    struct buf out = BUF_INIT;
    int error = wire_client_hello_encode(&hello, &out);
    if (error == 0)
        error = target_send(fd, out.data, out.size);
    buf_deinit(&out);
    return error;
}

static int kvs_greet(const struct target *target, int fd, char *text)
{
    uint8_t bytes[WIRE_SERVER_HELLO_FIXED + WIRE_SERVER_HELLO_REST_MAX];
    struct wire_server_hello hello;
    size_t size = WIRE_SERVER_HELLO_FIXED, used;
    int error = hello_send(fd);
    if (error == 0)
        error = target_receive(fd, bytes, size);
    if (error != 0)
        return error;
    uint32_t rest = get_u32(bytes + WIRE_SERVER_HELLO_FIXED - sizeof rest);
    if (memcmp(bytes, "KVSP", 4) != 0 || rest > WIRE_SERVER_HELLO_REST_MAX)
        return KVS_ERR_PROTOCOL;
    error = target_receive(fd, bytes + size, rest);
    if (error == 0)
        error = wire_server_hello_decode(slice_make(bytes, size + rest), &hello, &used);
    if (error != 0)
        return error == WIRE_MORE ? KVS_ERR_PROTOCOL : error;
    return hello_check(target, &hello, text);
}

static size_t kvs_encode(const struct target *target, uint8_t *out, enum operation operation,
                         uint32_t id, const uint8_t *key, const uint8_t *value)
{
    bool set = operation == OPERATION_SET;
    const struct target_part *head = &target->parts[set ? PART_SET : PART_GET];
    memcpy(out, head->bytes, WIRE_HEADER_SIZE + 4); /* a GET's key overwrites the last four */
    put_u32(out + HEADER_ID, id);
    uint8_t *at = out + head->size;
    memcpy(at, key, target->key_size);
    at += target->key_size;
    if (set) {
        memcpy(at, value, target->value_size);
        at += target->value_size;
    }
    return (size_t)(at - out);
}

static enum outcome outcome_of_status(int status)
{
    if (status == 0)
        return OUTCOME_OK;
    return status == KVS_ERR_NOT_FOUND ? OUTCOME_MISS : OUTCOME_ERROR;
}

/* Errors are told by the name in the table: it is there at once, the text behind it may not be. */
static void held_set(struct parser *parser, const uint8_t *header)
{
    int status = (int16_t)get_u16(header + HEADER_STATUS);
    parser->held =
        (struct reply){.id = get_u32(header + HEADER_ID), .outcome = outcome_of_status(status)};
    parser->unasked = header[HEADER_OPCODE] >= WIRE_CANCEL; /* GOAWAY */
    if (parser->held.outcome == OUTCOME_ERROR) {
        parser->held.text = (const uint8_t *)kvs_error_name(status);
        parser->held.text_size = strlen(kvs_error_name(status));
    }
}

static int kvs_parse(const struct target *target, struct parser *parser, const uint8_t *data,
                     size_t size, struct reply *replies, size_t replies_max, size_t *ret_count,
                     size_t *ret_used)
{
    size_t at = 0, count = 0;
    int error = 0;
    while (count < replies_max) {
        if (parser->skip == 0) {
            if (size - at < WIRE_HEADER_SIZE)
                break;
            uint32_t body_size = get_u32(data + at + HEADER_BODY_SIZE);
            if (body_size > WIRE_BODY_SIZE_SANE || data[at + HEADER_OPCODE] == 0) {
                error = KVS_ERR_PROTOCOL;
                break;
            }
            held_set(parser, data + at);
            parser->skip = body_size;
            at += WIRE_HEADER_SIZE;
        }
        size_t body = parser->skip < size - at ? (size_t)parser->skip : size - at;
        at += body;
        parser->skip -= body;
        if (parser->skip > 0)
            break;
        if (!parser->unasked)
            replies[count++] = parser->held;
    }
    *ret_count = count;
    *ret_used = at;
    return error;
}

const struct target_methods target_kvs = {
    .kind = "kvs",
    .port = "4000",
    .ordered = false,
    .prepare = kvs_prepare,
    .greet = kvs_greet,
    .encode = kvs_encode,
    .parse = kvs_parse,
};
