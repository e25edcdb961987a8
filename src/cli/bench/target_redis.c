/*
 * cli/bench/target_redis.c: SET and GET in RESP2, the protocol of redis and its kin.
 *
 * A request is an array of bulk strings; everything but key and value is written once, by prepare.
 * A reply is a line ("+OK", "-ERR ...", ":1", "$5", "$-1"), and after "$5" five bytes and CR LF.
 * A line must fit into TARGET_CARRY_MAX bytes; a value may be of any size, and is passed over as it
 * comes. Replies come in the order of the requests.
 */
#include "cli/bench/target.h"

#include <kvs/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { VALUE_SIZE_MAX = 512 << 20 }; /* redis' own limit for a string */

enum part { PART_GET, PART_SET, PART_BETWEEN };

static void part_format(struct target_part *part, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void part_format(struct target_part *part, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    part->size = (size_t)vsnprintf((char *)part->bytes, sizeof part->bytes, format, args);
    va_end(args);
}

static bool redis_prepare(struct target *target)
{
    if (target->value_size > VALUE_SIZE_MAX)
        return false;
    part_format(&target->parts[PART_GET], "*2\r\n$3\r\nGET\r\n$%zu\r\n", target->key_size);
    part_format(&target->parts[PART_SET], "*3\r\n$3\r\nSET\r\n$%zu\r\n", target->key_size);
    part_format(&target->parts[PART_BETWEEN], "\r\n$%zu\r\n", target->value_size);
    target->request_size_max = target->parts[PART_SET].size + target->key_size +
                               target->parts[PART_BETWEEN].size + target->value_size + 2;
    return true;
}

static int redis_greet(const struct target *target, int fd, char *text)
{
    static const char ping[] = "*1\r\n$4\r\nPING\r\n";
    static const char pong[] = "+PONG\r\n";
    char answer[sizeof pong] = "";
    int error = target_send(fd, ping, sizeof ping - 1);
    if (error == 0)
        error = target_receive(fd, answer, sizeof pong - 1);
    if (error == 0 && strcmp(answer, pong) != 0)
        error = KVS_ERR_PROTOCOL; /* not redis, or one that wants a password first */
    return error;
}

static uint8_t *put(uint8_t *out, const void *data, size_t size)
{
    memcpy(out, data, size);
    return out + size;
}

static size_t redis_encode(const struct target *target, uint8_t *out, enum operation operation,
                           uint32_t id, const uint8_t *key, const uint8_t *value)
{
    bool set = operation == OPERATION_SET;
    const struct target_part *head = &target->parts[set ? PART_SET : PART_GET];
    uint8_t *at = put(out, head->bytes, head->size);
    at = put(at, key, target->key_size);
    if (set) {
        at = put(at, target->parts[PART_BETWEEN].bytes, target->parts[PART_BETWEEN].size);
        at = put(at, value, target->value_size);
    }
    at = put(at, "\r\n", 2);
    return (size_t)(at - out);
}

/* The number of a "$" line, -1 to VALUE_SIZE_MAX; anything else is -2. */
static int64_t bulk_size_read(const uint8_t *digits, size_t size)
{
    if (size == 2 && digits[0] == '-' && digits[1] == '1')
        return -1;
    if (size == 0 || size > 9)
        return -2;
    int64_t number = 0;
    for (size_t i = 0; i < size; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return -2;
        number = number * 10 + (digits[i] - '0');
    }
    return number <= VALUE_SIZE_MAX ? number : -2;
}

/* A line without its CR LF. Returns false for what no reply to SET, GET or PING begins with. */
static bool line_read(const uint8_t *line, size_t size, struct reply *reply, uint64_t *ret_skip)
{
    *reply = (struct reply){.outcome = OUTCOME_OK};
    *ret_skip = 0;
    if (size == 0)
        return false;
    switch (line[0]) {
    case '+':
    case ':':
        return true;
    case '-':
        *reply = (struct reply){.outcome = OUTCOME_ERROR, .text = line + 1, .text_size = size - 1};
        return true;
    case '$': {
        int64_t value_size = bulk_size_read(line + 1, size - 1);
        if (value_size == -1)
            reply->outcome = OUTCOME_MISS;
        else if (value_size >= 0)
            *ret_skip = (uint64_t)value_size + 2;
        return value_size >= -1;
    }
    default:
        return false;
    }
}

/* Passes over the value; the CR LF behind it is checked when it comes. */
static bool value_skip(struct parser *parser, const uint8_t **at, const uint8_t *end)
{
    size_t have = (size_t)(end - *at);
    if (parser->skip > 2) {
        size_t body = parser->skip - 2 < have ? (size_t)(parser->skip - 2) : have;
        *at += body;
        have -= body;
        parser->skip -= body;
    }
    while (have > 0 && parser->skip > 0 && parser->skip <= 2) {
        if (**at != (parser->skip == 2 ? '\r' : '\n'))
            return false;
        ++*at;
        have--;
        parser->skip--;
    }
    return true;
}

static int redis_parse(const struct target *target, struct parser *parser, const uint8_t *data,
                       size_t size, struct reply *replies, size_t replies_max, size_t *ret_count,
                       size_t *ret_used)
{
    const uint8_t *at = data, *end = data + size;
    size_t count = 0;
    int error = 0;
    while (error == 0 && at < end && count < replies_max) {
        if (parser->skip == 0) {
            const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
            if (stop == NULL) {
                if (end - at >= TARGET_CARRY_MAX)
                    error = KVS_ERR_PROTOCOL;
                break;
            }
            /* A line that is too long is refused also when it happens to be there whole. */
            if (stop == at || stop - at >= TARGET_CARRY_MAX || stop[-1] != '\r' ||
                !line_read(at, (size_t)(stop - 1 - at), &parser->held, &parser->skip)) {
                error = KVS_ERR_PROTOCOL;
                break;
            }
            at = stop + 1;
        }
        if (!value_skip(parser, &at, end))
            error = KVS_ERR_PROTOCOL;
        else if (parser->skip == 0)
            replies[count++] = parser->held;
    }
    *ret_count = count;
    *ret_used = (size_t)(at - data);
    return error;
}

const struct target_methods target_redis = {
    .kind = "redis",
    .port = "6379",
    .ordered = true,
    .prepare = redis_prepare,
    .greet = redis_greet,
    .encode = redis_encode,
    .parse = redis_parse,
};
