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

#include <kvs/error.h>
#include <kvs/store.h>
#include <stdio.h>

enum {
    HEADER_SIZE = 16,
    HEADER_BODY_SIZE = 0,
    HEADER_ID = 4,
    HEADER_OPCODE = 8,
    HEADER_STATUS = 10,
    CLIENT_HELLO_SIZE = 16,
    SERVER_HELLO_SIZE = 60,
    SERVER_HELLO_FIXED = 20, /* up to and with the size of what follows */
    SERVER_HELLO_REST_MAX = 4096,
    OPCODE_REPLY_MAX = 31,    /* opcodes above are no replies: GOAWAY */
    BODY_SIZE_SANE = 1 << 30, /* no reply is larger */
};

enum part { PART_GET, PART_SET };

static void part_init(struct target_part *part, uint8_t opcode, size_t body_size)
{
    memset(part->bytes, 0, sizeof part->bytes);
    put_u32(part->bytes + HEADER_BODY_SIZE, (uint32_t)body_size);
    part->bytes[HEADER_OPCODE] = opcode;
    part->size = HEADER_SIZE;
}

static bool kvs_prepare(struct target *target)
{
    size_t set_body_size = 4 + target->key_size + target->value_size;
    if (target->value_size > BODY_SIZE_SANE || set_body_size > BODY_SIZE_SANE)
        return false;
    part_init(&target->parts[PART_GET], KVS_OP_GET, target->key_size);
    part_init(&target->parts[PART_SET], KVS_OP_SET, set_body_size);
    put_u32(target->parts[PART_SET].bytes + HEADER_SIZE, (uint32_t)target->key_size);
    target->parts[PART_SET].size += 4;
    target->request_size_max = HEADER_SIZE + set_body_size;
    return true;
}

static int server_hello_check(const struct target *target, const uint8_t *hello, char *text)
{
    int status = (int16_t)get_u16(hello + 6);
    uint32_t key_size_max = get_u32(hello + 20), value_size_max = get_u32(hello + 24);
    if (target->key_size <= key_size_max && target->value_size <= value_size_max && status == 0)
        return 0;
    if (status != 0)
        snprintf(text, TARGET_TEXT_MAX, "%.150s:%s refuses the connection: %s", target->host,
                 target->port, kvs_error_text(status));
    else
        snprintf(text, TARGET_TEXT_MAX, "%.150s:%s takes keys up to %u bytes and values up to %u",
                 target->host, target->port, key_size_max, value_size_max);
    return status < 0 ? status : KVS_ERR_TOO_LARGE;
}

static int kvs_greet(const struct target *target, int fd, char *text)
{
    uint8_t request[CLIENT_HELLO_SIZE] = {'K', 'V', 'S', 'P', 1, 0, 1, 0};
    uint8_t hello[SERVER_HELLO_FIXED + SERVER_HELLO_REST_MAX];
    int error = target_send(fd, request, sizeof request);
    if (error == 0)
        error = target_receive(fd, hello, SERVER_HELLO_FIXED);
    if (error != 0)
        return error;
    uint32_t rest = get_u32(hello + SERVER_HELLO_FIXED - 4);
    if (memcmp(hello, "KVSP", 4) != 0 || rest > SERVER_HELLO_REST_MAX ||
        rest < SERVER_HELLO_SIZE - SERVER_HELLO_FIXED)
        return KVS_ERR_PROTOCOL;
    error = target_receive(fd, hello + SERVER_HELLO_FIXED, rest);
    return error != 0 ? error : server_hello_check(target, hello, text);
}

static size_t kvs_encode(const struct target *target, uint8_t *out, enum operation operation,
                         uint32_t id, const uint8_t *key, const uint8_t *value)
{
    bool set = operation == OPERATION_SET;
    const struct target_part *head = &target->parts[set ? PART_SET : PART_GET];
    memcpy(out, head->bytes, HEADER_SIZE + 4); /* a GET's key overwrites the last four */
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
    parser->unasked = header[HEADER_OPCODE] > OPCODE_REPLY_MAX;
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
            if (size - at < HEADER_SIZE)
                break;
            uint32_t body_size = get_u32(data + at + HEADER_BODY_SIZE);
            if (body_size > BODY_SIZE_SANE || data[at + HEADER_OPCODE] == 0) {
                error = KVS_ERR_PROTOCOL;
                break;
            }
            held_set(parser, data + at);
            parser->skip = body_size;
            at += HEADER_SIZE;
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
    .ordered = false,
    .prepare = kvs_prepare,
    .greet = kvs_greet,
    .encode = kvs_encode,
    .parse = kvs_parse,
};
