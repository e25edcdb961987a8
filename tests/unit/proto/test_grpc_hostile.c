/* src/proto/grpc against peers that break HTTP/2, break gRPC, or are something else altogether. */
#include "grpc_raw.h"

#include "proto/grpc/grpc.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

#define END NGHTTP2_FLAG_END_STREAM

/* --- the server against a client written by hand --- */

struct server {
    struct grpc_conn *conn;
    struct raw_seen seen;
    struct buf in;
    struct buf out;
    int error;
    unsigned calls;
    unsigned ends;
};

/* Answers a message with itself and OK. */
static void server_on_call(struct grpc_conn *conn, struct grpc_call *call)
{
    struct server *server = grpc_conn_user(conn);
    server->calls++;
    grpc_call_expect_one(call);
}

static void server_on_message(struct grpc_call *call, kvs_slice message)
{
    assert_int_equal(grpc_call_send(call, message), 0);
    grpc_call_finish(call, GRPC_OK, slice_make(NULL, 0));
}

static void server_on_end(struct grpc_call *call, const struct grpc_status *status)
{
    (void)status;
    struct server *server = grpc_conn_user(grpc_call_conn(call));
    server->ends++;
}

static const struct grpc_events server_events = {
    .on_call = server_on_call, .on_message = server_on_message, .on_end = server_on_end};

static void server_open(struct server *server)
{
    *server = (struct server){0};
    const struct grpc_config config = {.events = &server_events,
                                       .user = server,
                                       .calls_max = 10,
                                       .message_bytes_max = 1000,
                                       .metadata_bytes_max = 1000};
    assert_int_equal(grpc_conn_new_server(&config, 0, &server->conn), 0);
    raw_seen_init(&server->seen);
    raw_begin(&server->in);
}

/* Feeds what is in server->in byte by byte or whole; reads the answer. */
static const char *server_feed(struct server *server, bool whole)
{
    for (size_t at = 0; at < server->in.size && server->error == 0;) {
        size_t piece = whole ? server->in.size : 1;
        server->error = grpc_conn_receive(server->conn, 0, slice_make(server->in.data + at, piece));
        at += piece;
    }
    buf_clear(&server->in);
    grpc_conn_run(server->conn, 0);
    int error = grpc_conn_send(server->conn, &server->out, SIZE_MAX);
    if (server->error == 0)
        server->error = error;
    raw_seen_take(&server->seen, &server->out);
    return raw_seen_text(&server->seen);
}

static void server_close(struct server *server)
{
    grpc_conn_free(server->conn);
    raw_seen_deinit(&server->seen);
    buf_deinit(&server->in);
    buf_deinit(&server->out);
}

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value; /* one field changed or added */
        const char *answer;
    } rows[] = {
        {":method", "GET", ":status=405;content-length=0;"},
        {"content-type", "text/plain", ":status=415;content-length=0;"},
        {"content-type", "application/grpcx", ":status=415;content-length=0;"},
        {"content-type", "application/grpc+proto", "grpc-status=0;"},
        {"content-type", "application/grpc;x=y", "grpc-status=0;"},
        {":path", "/", "grpc-status=12;"},
        {":path", "/a", "grpc-status=12;"},
        {":path", "//b", "grpc-status=12;"},
        {":path", "/a/", "grpc-status=12;"},
        {":path", "/a/b", "grpc-status=0;"},
        {"grpc-timeout", "1S", "grpc-status=0;"},
        {"grpc-timeout", "S", "grpc-status=13;"},
        {"grpc-timeout", "-1S", "grpc-status=13;"},
        {"grpc-timeout", "123456789S", "grpc-status=13;"},
        {"grpc-timeout", "1x", "grpc-status=13;"},
        {"grpc-encoding", "gzip", "grpc-status=0;"},
        {"Upper-Case", "x", "1:RST(1)"},
        {"connection", "close", "1:RST(1)"},
        {":unknown", "x", "1:RST(1)"},
    };
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        struct server server;
        server_open(&server);
        const char *name = rows[i / 2].name;
        struct buf block = BUF_INIT;
        static const char *const fields[][2] = {{":method", "POST"},
                                                {":scheme", "http"},
                                                {":authority", "x"},
                                                {":path", "/t.T/Echo"},
                                                {"content-type", "application/grpc"}};
        bool changed = false;
        for (size_t k = 0; k < 5; k++) {
            bool this = strcmp(fields[k][0], name) == 0;
            raw_field(&block, fields[k][0], this ? rows[i / 2].value : fields[k][1]);
            changed |= this;
        }
        if (!changed)
            raw_field(&block, name, rows[i / 2].value);
        raw_headers(&server.in, 0, 1, &block);
        raw_message(&server.in, END, 1, 0, "hello");
        const char *text = server_feed(&server, i % 2 == 0);
        if (strstr(text, rows[i / 2].answer) == NULL)
            fail_msg("%s: %s: %s", name, rows[i / 2].value, text);
        assert_int_equal(server.error, 0);
        assert_false(grpc_conn_done(server.conn));
        assert_int_equal(grpc_conn_calls(server.conn), 0);
        buf_deinit(&block);
        server_close(&server);
    }
}

static void test_metadata_too_large(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    struct buf block = BUF_INIT;
    raw_request_fields(&block, "/t.T/Echo");
    char value[901];
    memset(value, 'x', 900);
    value[900] = '\0';
    raw_field(&block, "x-large", value);
    raw_headers(&server.in, 0, 1, &block);
    const char *text = server_feed(&server, true);
    assert_non_null(strstr(text, "grpc-status=8;grpc-message=metadata too large;)END"));
    assert_non_null(strstr(text, "1:RST(0)"));
    assert_int_equal(server.calls, 0);
    buf_deinit(&block);
    server_close(&server);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *payload;
        size_t size;
        const char *answer;
    } rows[] = {
        {"\0\0\0\0\1x", 6, "grpc-status=0;"},
        {"\0\0\0\0\0", 5, "grpc-status=0;"},
        {"\1\0\0\0\1x", 6,
         "grpc-status=12;grpc-message=compressed messages are not supported;"
         "grpc-accept-encoding=identity;"},
        {"\2\0\0\0\1x", 6, "grpc-status=13;"},
        {"\0\0\0\0\2x", 6, "grpc-status=13;grpc-message=a message was cut short;"},
        {"\0\0\0", 3, "grpc-status=13;grpc-message=a message was cut short;"},
        {"", 0, "grpc-status=13;grpc-message=no message where one is due;"},
        {"\0\0\0\3\351", 5, "grpc-status=8;grpc-message=message too large;"},
        {"\0\377\377\377\377", 5, "grpc-status=8;grpc-message=message too large;"},
    };
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        struct server server;
        server_open(&server);
        raw_request(&server.in, 0, 1, "/t.T/Echo");
        raw_frame(&server.in, NGHTTP2_DATA, END, 1, rows[i / 2].payload, rows[i / 2].size);
        const char *text = server_feed(&server, i % 2 == 0);
        if (strstr(text, rows[i / 2].answer) == NULL)
            fail_msg("row %zu: %s", i / 2, text);
        assert_int_equal(grpc_conn_calls(server.conn), 0);
        server_close(&server);
    }
}

/* What breaks HTTP/2 itself ends the connection with the code RFC 9113 names. */
static void test_broken_http2(void **state)
{
    (void)state;
    struct row {
        uint8_t type, flags;
        uint32_t stream;
        const char *payload;
        size_t size;
        unsigned code;
    };
    static const struct row rows[] = {
        {NGHTTP2_DATA, 0, 0, "x", 1, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_DATA, 0, 7, "x", 1, NGHTTP2_PROTOCOL_ERROR}, /* idle */
        {NGHTTP2_HEADERS, 4, 2, "\x82", 1, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_HEADERS, 4, 0, "\x82", 1, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_HEADERS, 4, 3, "\xff\xff\xff\xff\xff\xff", 6, NGHTTP2_COMPRESSION_ERROR},
        {NGHTTP2_HEADERS, 4, 3, "\xbf", 1, NGHTTP2_COMPRESSION_ERROR},
        {NGHTTP2_CONTINUATION, 4, 1, "\x82", 1, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_SETTINGS, 0, 0, "12345", 5, NGHTTP2_FRAME_SIZE_ERROR},
        {NGHTTP2_SETTINGS, 0, 1, "", 0, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_SETTINGS, 0, 0, "\0\4\xff\xff\xff\xff", 6, NGHTTP2_FLOW_CONTROL_ERROR},
        {NGHTTP2_SETTINGS, 0, 0, "\0\5\0\0\0\1", 6, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4, NGHTTP2_FLOW_CONTROL_ERROR},
        {NGHTTP2_WINDOW_UPDATE, 0, 0, "\0\0\1", 3, NGHTTP2_FRAME_SIZE_ERROR},
        {NGHTTP2_RST_STREAM, 0, 0, "\0\0\0\0", 4, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_RST_STREAM, 0, 9, "\0\0\0\0", 4, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_PING, 0, 0, "1234567", 7, NGHTTP2_FRAME_SIZE_ERROR},
        {NGHTTP2_PING, 0, 1, "12345678", 8, NGHTTP2_PROTOCOL_ERROR},
        {NGHTTP2_GOAWAY, 0, 0, "1234", 4, NGHTTP2_FRAME_SIZE_ERROR},
        {NGHTTP2_PUSH_PROMISE, 4, 1, "\0\0\0\2\x82", 5, NGHTTP2_PROTOCOL_ERROR},
    };
    for (size_t i = 0; i < 2 * sizeof rows / sizeof rows[0]; i++) {
        const struct row *row = &rows[i / 2];
        struct server server;
        server_open(&server);
        raw_request(&server.in, 0, 1, "/t.T/Echo"); /* a call that is open */
        raw_frame(&server.in, row->type, row->flags, row->stream, row->payload, row->size);
        raw_request(&server.in, 0, 3, "/t.T/Echo"); /* not looked at any more */
        const char *text = server_feed(&server, i % 2 == 0);
        char expected[32];
        snprintf(expected, sizeof expected, "0:GOAWAY(%u)", row->code);
        if (strstr(text, expected) == NULL)
            fail_msg("row %zu: %s", i / 2, text);
        assert_true(grpc_conn_done(server.conn));
        assert_int_not_equal(grpc_conn_error_text(server.conn)[0], '\0');
        grpc_conn_lost(server.conn, "closed");
        assert_int_equal(server.calls, 1);
        assert_int_equal(server.ends, 1);
        server_close(&server);
    }
}

static void test_not_http2(void **state)
{
    (void)state;
    static const char *const greetings[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02",
                                            "PRI * HTTP/2.0\r\n\r\nSM\r\nXX",
                                            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                            "\0\0\0\6\0\0\0\0\0"};
    for (size_t i = 0; i < 2 * sizeof greetings / sizeof greetings[0]; i++) {
        struct server server;
        server_open(&server);
        buf_clear(&server.in);
        size_t size = i / 2 == 3 ? 24 + 9 : strlen(greetings[i / 2]);
        assert_int_equal(buf_append(&server.in, greetings[i / 2], size), 0);
        server_feed(&server, i % 2 == 0);
        assert_true(grpc_conn_done(server.conn));
        if (i / 2 < 3)
            assert_int_equal(server.error, KVS_ERR_PROTOCOL);
        server_close(&server);
    }
}

/* Pings never end a connection. */
static void test_ping_flood(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    for (int i = 0; i < 20000; i++)
        raw_frame(&server.in, NGHTTP2_PING, 0, 0, "12345678", 8);
    raw_request(&server.in, 0, 1, "/t.T/Echo");
    raw_message(&server.in, END, 1, 0, "hello");
    const char *text = server_feed(&server, true);
    assert_int_equal(server.error, 0);
    assert_int_equal(server.seen.ping_acks, 20000);
    assert_null(strstr(text, "GOAWAY"));
    assert_non_null(strstr(text, "grpc-status=0;"));
    server_close(&server);
}

/* Clients in Go say goodbye with a stream that is not ours; that is no mistake worth a word. */
static void test_farewells(void **state)
{
    (void)state;
    static const char *const streams[] = {"\0\0\0\0", "\0\0\0\1", "\x7f\xff\xff\xff"};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        struct server server;
        uint8_t payload[11] = {0};
        memcpy(payload, streams[i], 4);
        memcpy(payload + 8, "bye", 3);
        server_open(&server);
        raw_request(&server.in, 0, 1, "/t.T/Echo");
        raw_message(&server.in, END, 1, 0, "hello");
        raw_frame(&server.in, NGHTTP2_GOAWAY, 0, 0, payload, sizeof payload);
        server_feed(&server, true);
        assert_int_equal(server.calls, 1);
        assert_true(grpc_conn_peer_goes(server.conn));
        assert_string_equal(grpc_conn_error_text(server.conn),
                            "the peer sent GOAWAY: NO_ERROR: bye");
        grpc_conn_lost(server.conn, "closed");
        server_close(&server);
    }
}

/* Calls opened and reset at once: a full house of them passes, an endless stream does not. */
static void test_reset_flood(void **state)
{
    (void)state;
    struct server server;
    server_open(&server);
    uint32_t stream = 1;
    const char *text = "";
    for (int round = 0; round < 40 && !grpc_conn_done(server.conn); round++) {
        for (int i = 0; i < 1000; i++, stream += 2) {
            raw_request(&server.in, 0, stream, "/t.T/Echo");
            raw_frame(&server.in, NGHTTP2_RST_STREAM, 0, stream, "\0\0\0\x8", 4);
        }
        text = server_feed(&server, true);
        assert_int_equal(grpc_conn_calls(server.conn), 0);
        if (round < 10)
            assert_false(grpc_conn_done(server.conn));
    }
    assert_true(grpc_conn_done(server.conn));
    assert_non_null(strstr(text, "0:GOAWAY("));
    server_close(&server);
}

/* --- the client against a server written by hand --- */

struct client {
    struct grpc_conn *conn;
    struct grpc_call *calls[3];
    struct raw_seen seen;
    struct buf in;
    struct buf out;
    unsigned messages;
    unsigned ends;
    int codes[3];
    bool not_processed[3];
    char message[200];
};

static void client_on_message(struct grpc_call *call, kvs_slice message)
{
    (void)message;
    struct client *client = grpc_conn_user(grpc_call_conn(call));
    client->messages++;
}

static void client_on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct client *client = grpc_conn_user(grpc_call_conn(call));
    for (int i = 0; i < 3; i++) {
        if (client->calls[i] != call)
            continue;
        client->calls[i] = NULL;
        client->codes[i] = status->code;
        client->not_processed[i] = status->not_processed;
    }
    snprintf(client->message, sizeof client->message, "%.*s", (int)status->message.size,
             (const char *)status->message.data);
    client->ends++;
}

static const struct grpc_events client_events = {.on_message = client_on_message,
                                                 .on_end = client_on_end};

/* Three calls are open: the streams 1, 3 and 5. */
static void client_open(struct client *client)
{
    *client = (struct client){.codes = {-1, -1, -1}};
    const struct grpc_config config = {.events = &client_events,
                                       .user = client,
                                       .message_bytes_max = 1000,
                                       .metadata_bytes_max = 1000};
    assert_int_equal(grpc_conn_new_client(&config, 0, &client->conn), 0);
    raw_seen_init(&client->seen);
    const struct grpc_call_options options = {.path = slice_of_string("/t.T/Echo"),
                                              .one_reply = true};
    for (int i = 0; i < 3; i++)
        assert_int_equal(grpc_call_start(client->conn, &options, &client->calls[i]), 0);
    assert_int_equal(grpc_conn_send(client->conn, &client->out, SIZE_MAX), 0);
    raw_seen_take(&client->seen, &client->out);
    raw_frame(&client->in, NGHTTP2_SETTINGS, 0, 0, "", 0);
}

static void client_feed(struct client *client, bool whole)
{
    int error = 0;
    for (size_t at = 0; at < client->in.size && error == 0;) {
        size_t piece = whole ? client->in.size : 1;
        error = grpc_conn_receive(client->conn, 0, slice_make(client->in.data + at, piece));
        at += piece;
    }
    buf_clear(&client->in);
    grpc_conn_run(client->conn, 0);
    (void)grpc_conn_send(client->conn, &client->out, SIZE_MAX);
    raw_seen_take(&client->seen, &client->out);
}

static void client_close(struct client *client)
{
    grpc_conn_free(client->conn);
    raw_seen_deinit(&client->seen);
    buf_deinit(&client->in);
    buf_deinit(&client->out);
}

/* What comes after the answer's HEADERS. */
enum then { NOTHING, TRAILERS, NO_TRAILERS, COMPRESSED, TOO_LARGE, CUT, TWO };

/* Each row: the fields of the answer's HEADERS, "name=value" split by |, and what follows. */
static const struct {
    const char *headers;
    enum then then;
    int code;
    const char *message;
} answer_rows[] = {
    {":status=200|content-type=application/grpc|grpc-status=5|grpc-message=a%20b%", NOTHING,
     GRPC_NOT_FOUND, "a b%"},
    {":status=200|content-type=application/grpc|grpc-status=99", NOTHING, GRPC_UNKNOWN, ""},
    {":status=200|content-type=application/grpc|grpc-status=abc", NOTHING, GRPC_UNKNOWN, ""},
    {":status=200|content-type=application/grpc|grpc-status=0", NOTHING, GRPC_INTERNAL,
     "no message where one is due"},
    {":status=503|content-type=application/grpc|grpc-status=7", NOTHING, GRPC_PERMISSION_DENIED,
     ""},
    {":status=404|content-type=text/plain", NOTHING, GRPC_UNIMPLEMENTED,
     "the answer is not gRPC: HTTP status 404, wrong content type"},
    {":status=503", NOTHING, GRPC_UNAVAILABLE, NULL},
    {":status=401", NOTHING, GRPC_UNAUTHENTICATED, NULL},
    {":status=403", NOTHING, GRPC_PERMISSION_DENIED, NULL},
    {":status=400", NOTHING, GRPC_INTERNAL, NULL},
    {":status=301", NOTHING, GRPC_UNKNOWN, NULL},
    {":status=200|content-type=text/html", NOTHING, GRPC_UNKNOWN, NULL},
    {":status=200|content-type=application/grpc", TRAILERS, GRPC_OK, ""},
    {":status=200|content-type=application/grpc+proto", TRAILERS, GRPC_OK, ""},
    {":status=200|content-type=application/grpc", NO_TRAILERS, GRPC_INTERNAL,
     "the stream ended without a status"},
    {":status=200|content-type=application/grpc", COMPRESSED, GRPC_INTERNAL,
     "compressed messages are not supported"},
    {":status=200|content-type=application/grpc", TOO_LARGE, GRPC_RESOURCE_EXHAUSTED,
     "message too large"},
    {":status=200|content-type=application/grpc", CUT, GRPC_INTERNAL, "a message was cut short"},
    {":status=200|content-type=application/grpc", TWO, GRPC_INTERNAL,
     "more than one message where one is due"},
};

/* Writes the answer of a row to the client's input. */
static void write_answer(struct buf *in, const char *headers, enum then then)
{
    struct buf block = BUF_INIT;
    char fields[200];
    snprintf(fields, sizeof fields, "%s", headers);
    for (char *left = fields, *field; (field = strsep(&left, "|")) != NULL;) {
        char *value = strchr(field, '=');
        *value++ = '\0';
        raw_field(&block, field, value);
    }
    raw_headers(in, then == NOTHING ? END : 0, 1, &block);
    if (then == COMPRESSED)
        raw_message(in, 0, 1, 1, "x");
    else if (then == TOO_LARGE)
        raw_frame(in, NGHTTP2_DATA, 0, 1, "\0\0\0\3\351", 5);
    else if (then == CUT)
        raw_frame(in, NGHTTP2_DATA, 0, 1, "\0\0\0\0\3x", 6);
    else if (then != NOTHING)
        raw_message(in, then == NO_TRAILERS ? END : 0, 1, 0, "x");
    if (then == TWO)
        raw_message(in, 0, 1, 0, "y");
    buf_clear(&block);
    raw_field(&block, "grpc-status", "0");
    if (then != NOTHING && then != NO_TRAILERS)
        raw_headers(in, END, 1, &block);
    buf_deinit(&block);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2 * sizeof answer_rows / sizeof answer_rows[0]; i++) {
        struct client client;
        client_open(&client);
        write_answer(&client.in, answer_rows[i / 2].headers, answer_rows[i / 2].then);
        client_feed(&client, i % 2 == 0);
        if (client.codes[0] != answer_rows[i / 2].code)
            fail_msg("row %zu: %d %s", i / 2, client.codes[0], client.message);
        if (answer_rows[i / 2].message != NULL)
            assert_string_equal(client.message, answer_rows[i / 2].message);
        assert_int_equal(client.ends, 1);
        assert_non_null(strstr(raw_seen_text(&client.seen), "1:RST(8)"));
        assert_false(grpc_conn_done(client.conn));
        client_close(&client);
    }
}

static void test_resets(void **state)
{
    (void)state;
    static const struct {
        uint8_t error;
        int code;
    } rows[] = {{NGHTTP2_NO_ERROR, GRPC_INTERNAL},
                {NGHTTP2_PROTOCOL_ERROR, GRPC_INTERNAL},
                {NGHTTP2_REFUSED_STREAM, GRPC_UNAVAILABLE},
                {NGHTTP2_CANCEL, GRPC_CANCELLED},
                {NGHTTP2_ENHANCE_YOUR_CALM, GRPC_RESOURCE_EXHAUSTED},
                {NGHTTP2_INADEQUATE_SECURITY, GRPC_PERMISSION_DENIED},
                {200, GRPC_INTERNAL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client client;
        client_open(&client);
        const uint8_t payload[4] = {0, 0, 0, rows[i].error};
        raw_frame(&client.in, NGHTTP2_RST_STREAM, 0, 3, payload, 4);
        client_feed(&client, true);
        assert_int_equal(client.codes[1], rows[i].code);
        assert_int_equal(client.not_processed[1], rows[i].error == NGHTTP2_REFUSED_STREAM);
        assert_int_equal(client.ends, 1);
        client_close(&client);
    }
}

/* A GOAWAY in the middle: what is above its stream was not processed, the rest goes on. */
static void test_goaway(void **state)
{
    (void)state;
    struct client client;
    client_open(&client);
    raw_frame(&client.in, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\1\0\0\0\0bye", 11);
    client_feed(&client, false);
    assert_int_equal(client.ends, 2);
    for (int i = 1; i < 3; i++) {
        assert_int_equal(client.codes[i], GRPC_UNAVAILABLE);
        assert_true(client.not_processed[i]);
    }
    assert_false(grpc_conn_accepts_calls(client.conn));
    assert_false(grpc_conn_done(client.conn));
    struct buf block = BUF_INIT;
    raw_field(&block, ":status", "200");
    raw_field(&block, "content-type", "application/grpc");
    raw_field(&block, "grpc-status", "5");
    raw_headers(&client.in, END, 1, &block);
    client_feed(&client, false);
    assert_int_equal(client.codes[0], GRPC_NOT_FOUND);
    assert_true(grpc_conn_done(client.conn));
    assert_non_null(strstr(grpc_conn_error_text(client.conn), "bye"));
    buf_deinit(&block);
    client_close(&client);
}

/* An informational answer first; then the real one. */
static void test_informational_answer(void **state)
{
    (void)state;
    struct client client;
    client_open(&client);
    struct buf block = BUF_INIT;
    raw_field(&block, ":status", "103");
    raw_headers(&client.in, 0, 1, &block);
    buf_clear(&block);
    raw_field(&block, ":status", "200");
    raw_field(&block, "content-type", "application/grpc");
    raw_headers(&client.in, 0, 1, &block);
    raw_message(&client.in, 0, 1, 0, "x");
    buf_clear(&block);
    raw_field(&block, "grpc-status", "0");
    raw_headers(&client.in, END, 1, &block);
    client_feed(&client, true);
    assert_int_equal(client.codes[0], GRPC_OK);
    assert_int_equal(client.messages, 1);
    buf_deinit(&block);
    client_close(&client);
}

/* The peer is no HTTP/2 server, or breaks off. */
static void test_not_a_server(void **state)
{
    (void)state;
    static const char *const answers[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                          "\x15\x03\x03\x00\x02", "-ERR unknown command\r\n"};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct client client;
        client_open(&client);
        buf_clear(&client.in);
        assert_int_equal(buf_append(&client.in, answers[i], strlen(answers[i])), 0);
        client_feed(&client, true);
        grpc_conn_lost(client.conn, "closed by the peer");
        assert_int_equal(client.ends, 3);
        for (int k = 0; k < 3; k++)
            assert_int_equal(client.codes[k], GRPC_UNAVAILABLE);
        client_close(&client);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),     cmocka_unit_test(test_metadata_too_large),
        cmocka_unit_test(test_messages),     cmocka_unit_test(test_broken_http2),
        cmocka_unit_test(test_not_http2),    cmocka_unit_test(test_ping_flood),
        cmocka_unit_test(test_reset_flood),  cmocka_unit_test(test_answers),
        cmocka_unit_test(test_resets),       cmocka_unit_test(test_goaway),
        cmocka_unit_test(test_farewells),    cmocka_unit_test(test_informational_answer),
        cmocka_unit_test(test_not_a_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
