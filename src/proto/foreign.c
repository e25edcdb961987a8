/* proto/foreign.c: see the header. */
#include "proto/foreign.h"

#include "base/bytes.h"
#include "proto/eventstore/commands.h"
#include "proto/eventstore/frame.h"

#include <kvs/error.h>
#include <stdio.h>

#define REDIS_DIGITS_MAX 7u
#define ES_FIRST_LENGTH_MAX 4096u /* of the package that a client begins with */

static bool begins_with(kvs_slice bytes, const char *text)
{
    size_t size = strlen(text);
    return bytes.size >= size && memcmp(bytes.data, text, size) == 0;
}

/* A record that holds a ClientHello (RFC 8446, 5.1 and 4). More of it is looked at than of others,
 * since a package of EventStoreDB may be as long as its first bytes say. */
static bool is_tls(kvs_slice bytes)
{
    const uint8_t *at = bytes.data;
    return bytes.size >= 10 && at[0] == 0x16 && at[1] == 3 && at[2] >= 1 && at[2] <= 4 &&
           at[3] <= 0x40 && at[5] == 1 && at[6] == 0 && at[9] == 3;
}

static bool is_http(kvs_slice bytes)
{
    static const char *const methods[] = {"GET ",    "HEAD ",    "POST ",  "PUT ",
                                          "DELETE ", "OPTIONS ", "PATCH ", "CONNECT "};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (begins_with(bytes, methods[i]))
            return true;
    }
    return false;
}

/* An array of so many strings; what people type by hand is no concern here. */
static bool is_redis(kvs_slice bytes)
{
    size_t at = 1;
    while (at < bytes.size && at <= REDIS_DIGITS_MAX && bytes.data[at] >= '0' &&
           bytes.data[at] <= '9')
        at++;
    return at > 1 && bytes.data[0] == '*' && at + 1 < bytes.size && bytes.data[at] == '\r' &&
           bytes.data[at + 1] == '\n';
}

static bool is_eventstore(kvs_slice bytes)
{
    if (bytes.size < ES_FRAME_PREFIX_SIZE + 2)
        return false;
    uint32_t length = get_u32(bytes.data);
    uint8_t command = bytes.data[ES_FRAME_PREFIX_SIZE];
    return length >= ES_FRAME_LENGTH_MIN && length <= ES_FIRST_LENGTH_MAX &&
           (command == ES_HEARTBEAT_REQUEST || command == ES_PING ||
            command == ES_IDENTIFY_CLIENT || command == ES_AUTHENTICATE) &&
           bytes.data[ES_FRAME_PREFIX_SIZE + 1] <= ES_FLAG_AUTHENTICATED;
}

enum foreign foreign_recognise(kvs_slice first)
{
    if (is_tls(first))
        return FOREIGN_TLS;
    if (begins_with(first, "PRI * HTTP/2"))
        return FOREIGN_HTTP2;
    if (is_http(first))
        return FOREIGN_HTTP;
    if (begins_with(first, "KVSP"))
        return FOREIGN_KVS;
    if (is_redis(first))
        return FOREIGN_REDIS;
    return is_eventstore(first) ? FOREIGN_EVENTSTORE : FOREIGN_UNKNOWN;
}

const char *foreign_name(enum foreign foreign)
{
    static const char *const names[] = {
        [FOREIGN_UNKNOWN] = "something else",
        [FOREIGN_TLS] = "TLS",
        [FOREIGN_HTTP] = "HTTP",
        [FOREIGN_HTTP2] = "HTTP/2",
        [FOREIGN_REDIS] = "the protocol of Redis",
        [FOREIGN_KVS] = "the kvs protocol",
        [FOREIGN_EVENTSTORE] = "the TCP protocol of EventStoreDB",
    };
    return names[foreign];
}

/* SETTINGS, without which nothing may come, and a GOAWAY whose debug data is the text (RFC 9113,
 * 6.8): what gRPC shows as the reason. */
static int answer_http2(const char *text, struct buf *out)
{
    static const uint8_t settings[9] = {0, 0, 0, 4};
    enum { GOAWAY = 7, HEAD_SIZE = 9, FIXED_SIZE = 8, PROTOCOL_ERROR = 1 };
    uint8_t goaway[HEAD_SIZE + FIXED_SIZE] = {[3] = GOAWAY, [16] = PROTOCOL_ERROR};
    size_t size = FIXED_SIZE + strlen(text);
    goaway[1] = (uint8_t)(size >> 8);
    goaway[2] = (uint8_t)size;
    int error = buf_append(out, settings, sizeof settings);
    if (error == 0)
        error = buf_append(out, goaway, sizeof goaway);
    return error != 0 ? error : buf_append(out, text, strlen(text));
}

int foreign_answer(enum foreign foreign, const char *here, struct buf *out)
{
    static const struct es_id nobody;
    char text[192];
    snprintf(text, sizeof text, "this port of kvs-server speaks %.80s, not %s", here,
             foreign_name(foreign));
    switch (foreign) {
    case FOREIGN_HTTP:
        return buf_printf(out,
                          "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
                          "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                          strlen(text) + 1, text);
    case FOREIGN_HTTP2:
        return answer_http2(text, out);
    case FOREIGN_REDIS:
        return buf_printf(out, "-ERR %s\r\n", text);
    case FOREIGN_EVENTSTORE:
        return es_frame_append(out, ES_BAD_REQUEST, &nobody, NULL, slice_of_string(text));
    default: /* TLS shows the begin of it, or that it is none */
        return buf_printf(out, "%s\n", text);
    }
}
