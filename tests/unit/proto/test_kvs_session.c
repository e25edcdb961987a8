/* The two sessions of the kvs protocol against each other, without sockets. */
#include "base/mem.h"
#include "kvs_frames.h"
#include "proto/kvs/client_session.h"
#include "proto/kvs/server_session.h"

#include "test.h"

#define SEED 20260201u

static struct server_session_options options;

static int set_options(void **state)
{
    (void)state;
    options = (struct server_session_options){
        .limits = frames_limits,
        .idle_timeout_ms = 1000,
        .slow_timeout_ms = 500,
        .unwritten_bytes_max = 4096,
        .large_max = 8,
    };
    print_message("# seed %u\n", SEED);
    return 0;
}

/* A client and a server, and the bytes on their way. */
struct pair {
    struct client_session client;
    struct server_session server;
    struct buf to_server;
    struct buf to_client;
};

static void pair_init(struct pair *pair)
{
    *pair = (struct pair){0};
    assert_int_equal(client_session_init(&pair->client, &pair->to_server), 0);
    server_session_init(&pair->server, &options, 1);
}

static void pair_deinit(struct pair *pair)
{
    client_session_deinit(&pair->client);
    buf_deinit(&pair->to_server);
    buf_deinit(&pair->to_client);
}

static enum server_session_item server_next(struct pair *pair, struct server_session_input *input)
{
    return server_session_next(&pair->server, buf_slice(&pair->to_server), 1, &pair->to_client,
                               input);
}

static enum client_session_item client_next(struct pair *pair, struct client_session_input *input)
{
    return client_session_next(&pair->client, buf_slice(&pair->to_client), &pair->to_server, input);
}

static void pair_open(struct pair *pair)
{
    struct server_session_input request;
    struct client_session_input reply;
    pair_init(pair);
    assert_int_equal(server_next(pair, &request), SERVER_SESSION_ANSWERED);
    buf_consume(&pair->to_server, request.taken);
    assert_int_equal(client_next(pair, &reply), CLIENT_SESSION_OPENED);
    buf_consume(&pair->to_client, reply.taken);
    assert_int_equal(pair->to_server.size + pair->to_client.size, 0);
}

static void hello_tells_the_limits(void **state)
{
    (void)state;
    struct pair pair;
    struct client_session_input input;
    pair_open(&pair);
    assert_int_equal(client_next(&pair, &input), CLIENT_SESSION_NEEDS_BYTES);
    assert_int_equal(input.wanted, 0);
    /* The gap before the last field holds anything. */
    size_t until_gap = offsetof(struct wire_limits, page_size) + sizeof frames_limits.page_size;
    assert_memory_equal(&pair.client.limits, &frames_limits, until_gap);
    assert_int_equal(pair.client.limits.in_flight_bytes_max, frames_limits.in_flight_bytes_max);
    assert_int_equal(pair.client.version, 1);
    pair_deinit(&pair);
}

static void no_request_before_the_hello(void **state)
{
    (void)state;
    struct pair pair;
    kvs_op op = {.kind = KVS_OP_PING};
    uint32_t id;
    pair_init(&pair);
    assert_int_equal(client_session_send(&pair.client, &op, &id, &pair.to_server), KVS_ERR_BUSY);
    pair_deinit(&pair);
}

static int refusal_of(const void *hello, size_t size)
{
    struct pair pair;
    struct server_session_input request;
    struct client_session_input reply;
    pair_init(&pair);
    buf_clear(&pair.to_server);
    assert_int_equal(buf_append(&pair.to_server, hello, size), 0);
    assert_int_equal(server_next(&pair, &request), SERVER_SESSION_ENDED);
    assert_true(server_session_is_done(&pair.server));
    assert_int_equal(server_next(&pair, &request), SERVER_SESSION_ENDED);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_ENDED);
    assert_int_equal(pair.client.error, pair.server.error);
    int error = pair.client.error;
    pair_deinit(&pair);
    return error;
}

static void strangers_are_told_why(void **state)
{
    (void)state;
    static const uint8_t newer[] = {'K', 'V', 'S', 'P', 2, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t crossed[] = {'K', 'V', 'S', 'P', 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(refusal_of(newer, sizeof newer), KVS_ERR_VERSION);
    assert_int_equal(refusal_of(crossed, sizeof crossed), KVS_ERR_PROTOCOL);
    assert_int_equal(refusal_of("GET / HTTP/1.1\r\n", 16), KVS_ERR_PROTOCOL);
    assert_int_equal(refusal_of("X", 1), KVS_ERR_PROTOCOL);

    struct pair pair;
    struct client_session_input reply;
    pair_init(&pair);
    server_session_refuse(&pair.server, KVS_ERR_BUSY, &pair.to_client);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_ENDED);
    assert_int_equal(pair.client.error, KVS_ERR_BUSY);
    pair_deinit(&pair);
}

/* Serves one request from the byte stream: answers it with what random_reply made. */
static void serve_one(struct pair *pair, struct random_op *expected, struct rand *rand)
{
    struct server_session_input input;
    assert_int_equal(server_next(pair, &input), SERVER_SESSION_REQUEST);
    assert_int_equal(input.frame.opcode, expected->op.kind);
    random_reply(expected, rand);
    assert_int_equal(wire_reply_encode(&expected->op, input.frame.id, &pair->to_client), 0);
    buf_consume(&pair->to_server, input.taken);
}

static void requests_and_replies_byte_by_byte(void **state)
{
    (void)state;
    struct rand rand = rand_seed(SEED);
    static struct random_op random;
    struct pair pair;
    pair_open(&pair);
    for (int round = 0; round < 300; round++) {
        struct wire_scratch scratch = {0};
        struct buf whole = BUF_INIT;
        struct client_session_input input;
        uint32_t id;
        random_request(&random, &rand);
        kvs_op asked = random.op;
        assert_int_equal(client_session_send(&pair.client, &asked, &id, &pair.to_server), 0);
        struct server_session_input partial;
        for (size_t size = 0; size < pair.to_server.size; size++) {
            kvs_slice cut = slice_make(pair.to_server.data, size);
            assert_int_equal(server_session_next(&pair.server, cut, 1, &pair.to_client, &partial),
                             SERVER_SESSION_NEEDS_BYTES);
            assert_int_equal(partial.taken, 0);
            assert_true(size == 0 ? partial.wanted == 0 : partial.wanted > size);
        }
        serve_one(&pair, &random, &rand);
        whole = pair.to_client;
        for (size_t size = 0; size < whole.size; size++) {
            pair.to_client.size = size;
            assert_int_equal(client_next(&pair, &input), CLIENT_SESSION_NEEDS_BYTES);
        }
        pair.to_client.size = whole.size;
        assert_int_equal(client_next(&pair, &input), CLIENT_SESSION_REPLY);
        assert_ptr_equal(input.op, &asked);
        assert_true(input.last);
        assert_int_equal(wire_reply_decode(&input.frame, &asked, &scratch), 0);
        assert_int_equal(asked.error, random.op.error);
        assert_int_equal(asked.pairs_count, random.op.pairs_count);
        buf_consume(&pair.to_client, input.taken);
        wire_scratch_deinit(&scratch);
        assert_int_equal(pair.client.in_flight + pair.client.scans, 0);
    }
    pair_deinit(&pair);
}

static void too_large_frames_are_skipped(void **state)
{
    (void)state;
    struct pair pair;
    struct server_session_input input;
    pair_open(&pair);
    uint8_t header[WIRE_HEADER_SIZE] = {0, 0x20, 0, 0, 77, 0, 0, 0, KVS_OP_SET};
    uint8_t chunk[1000] = {0};
    assert_int_equal(buf_append(&pair.to_server, header, sizeof header), 0);
    assert_int_equal(server_next(&pair, &input), SERVER_SESSION_ANSWERED);
    assert_int_equal(input.taken, sizeof header);
    struct wire_frame reply;
    assert_int_equal(wire_frame_decode(buf_slice(&pair.to_client), 4096, &reply), 0);
    assert_int_equal(reply.id, 77);
    assert_int_equal(reply.status, KVS_ERR_TOO_LARGE);
    for (size_t left = 0x2000; left > 0;) {
        size_t size = left < sizeof chunk ? left : sizeof chunk;
        assert_int_equal(
            server_session_next(&pair.server, slice_make(chunk, size), 1, &pair.to_client, &input),
            SERVER_SESSION_ANSWERED);
        assert_int_equal(input.taken, size);
        left -= size;
    }
    buf_clear(&pair.to_server);
    kvs_op ping = {.kind = KVS_OP_PING};
    assert_int_equal(wire_request_encode(&ping, 78, 0, &pair.to_server), 0);
    assert_int_equal(server_next(&pair, &input), SERVER_SESSION_REQUEST);
    assert_int_equal(input.frame.id, 78);
    pair_deinit(&pair);
}

static void garbage_ends_it(void **state)
{
    (void)state;
    struct pair pair;
    struct server_session_input input;
    struct client_session_input reply;
    pair_open(&pair);
    uint8_t garbage[32];
    memset(garbage, 0xee, sizeof garbage);
    assert_int_equal(buf_append(&pair.to_server, garbage, sizeof garbage), 0);
    assert_int_equal(server_next(&pair, &input), SERVER_SESSION_ENDED);
    assert_int_equal(pair.server.error, KVS_ERR_PROTOCOL);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_ENDED);
    assert_int_equal(pair.client.error, KVS_ERR_PROTOCOL);
    pair_deinit(&pair);
}

static void the_server_stops_reading_at_its_limits(void **state)
{
    (void)state;
    struct server_session session;
    server_session_init(&session, &options, 1);
    for (uint32_t i = 0; i < options.limits.in_flight_max; i++) {
        assert_true(server_session_wants_bytes(&session, 0));
        server_session_begin(&session, 16, false);
    }
    assert_false(server_session_wants_bytes(&session, 0));
    server_session_end(&session, 16, false);
    assert_true(server_session_wants_bytes(&session, 0));
    assert_false(server_session_wants_bytes(&session, options.unwritten_bytes_max));
    server_session_begin(&session, 16, false);
    while (session.in_flight > 0)
        server_session_end(&session, 16, false);
    server_session_begin(&session, options.limits.in_flight_bytes_max, false);
    assert_false(server_session_wants_bytes(&session, 0));
    server_session_end(&session, options.limits.in_flight_bytes_max, false);
    for (uint32_t i = 0; i < options.large_max; i++) {
        assert_true(server_session_wants_bytes(&session, 0));
        server_session_begin(&session, 16, true);
    }
    assert_false(server_session_wants_bytes(&session, 0));
    server_session_end(&session, 16, true);
    assert_true(server_session_wants_bytes(&session, 0));
}

static void the_client_keeps_to_the_limits(void **state)
{
    (void)state;
    struct pair pair;
    uint32_t id;
    pair_open(&pair);
    kvs_op gets[9], scans[3];
    for (size_t i = 0; i < 9; i++) {
        gets[i] = (kvs_op){.kind = KVS_OP_GET, .key = slice_make("k", 1)};
        assert_int_equal(client_session_send(&pair.client, &gets[i], &id, &pair.to_server),
                         i < 8 ? 0 : KVS_ERR_BUSY);
    }
    for (size_t i = 0; i < 3; i++) {
        scans[i] = (kvs_op){.kind = KVS_OP_SCAN};
        assert_int_equal(client_session_send(&pair.client, &scans[i], &id, &pair.to_server),
                         i < 2 ? 0 : KVS_ERR_BUSY);
    }
    size_t pending = 0;
    while (client_session_take_pending(&pair.client) != NULL)
        pending++;
    assert_int_equal(pending, 10);
    assert_int_equal(pair.client.in_flight + pair.client.scans, 0);
    uint8_t long_key[41] = {0};
    kvs_op large = {.kind = KVS_OP_GET, .key = {long_key, sizeof long_key}};
    assert_int_equal(client_session_send(&pair.client, &large, &id, &pair.to_server),
                     KVS_ERR_TOO_LARGE);
    pair_deinit(&pair);
}

static void a_cancelled_call_is_forgotten_and_its_reply_ignored(void **state)
{
    (void)state;
    struct pair pair;
    struct server_session_input request;
    struct client_session_input reply;
    kvs_op op = {.kind = KVS_OP_PING};
    uint32_t id, next_id;
    pair_open(&pair);
    assert_int_equal(client_session_send(&pair.client, &op, &id, &pair.to_server), 0);
    assert_int_equal(client_session_cancel(&pair.client, id, &pair.to_server), 0);
    assert_int_equal(server_next(&pair, &request), SERVER_SESSION_REQUEST);
    buf_consume(&pair.to_server, request.taken);
    assert_int_equal(server_next(&pair, &request), SERVER_SESSION_CONTROL);
    assert_int_equal(request.frame.opcode, WIRE_CANCEL);
    assert_int_equal(request.frame.id, id);
    buf_consume(&pair.to_server, request.taken);
    assert_int_equal(wire_reply_error(KVS_OP_PING, id, KVS_ERR_CANCELLED, "", &pair.to_client), 0);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_IGNORED);
    buf_consume(&pair.to_client, reply.taken);
    assert_int_equal(client_session_send(&pair.client, &op, &next_id, &pair.to_server), 0);
    assert_int_not_equal(id, next_id);
    assert_int_equal(wire_reply_error(KVS_OP_PING, id, KVS_ERR_CANCELLED, "", &pair.to_client), 0);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_ENDED); /* nobody asked this */
    assert_int_equal(pair.client.error, KVS_ERR_PROTOCOL);
    pair_deinit(&pair);
}

static void scans_get_credit_as_they_are_taken(void **state)
{
    (void)state;
    struct pair pair;
    struct client_session_input reply;
    struct server_session_input request;
    kvs_op op = {.kind = KVS_OP_SCAN};
    uint32_t id;
    options.limits.body_size_max = 1024 * 1024;
    pair_open(&pair);
    assert_int_equal(client_session_send(&pair.client, &op, &id, &pair.to_server), 0);
    buf_clear(&pair.to_server);
    static uint8_t value[CLIENT_SESSION_SCAN_WINDOW / 4];
    uint32_t credit = 0;
    for (int i = 0; i < 4; i++) {
        size_t header;
        buf_clear(&pair.to_client);
        assert_int_equal(wire_reply_begin(KVS_OP_SCAN, id, 0, 0, &pair.to_client, &header), 0);
        assert_int_equal(
            wire_pair_append(slice_make("k", 1), slice_make(value, sizeof value), &pair.to_client),
            0);
        wire_reply_finish(&pair.to_client, header, i < 3 ? WIRE_FLAG_FOLLOWS : WIRE_FLAG_MORE, 1);
        assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_REPLY);
        assert_int_equal(reply.last, i == 3);
        if (pair.to_server.size == 0)
            continue;
        uint32_t bytes;
        assert_int_equal(server_next(&pair, &request), SERVER_SESSION_CONTROL);
        assert_int_equal(wire_credit_decode(&request.frame, &bytes), 0);
        assert_int_equal(request.frame.id, id);
        credit += bytes;
        buf_clear(&pair.to_server);
    }
    assert_int_equal(credit, 2 * (sizeof value + 9));
    assert_int_equal(pair.client.scans, 0);
    pair_deinit(&pair);
    options.limits.body_size_max = frames_limits.body_size_max;
}

static void goaway_is_said_at_begin_and_end(void **state)
{
    (void)state;
    struct pair pair;
    struct server_session_input request;
    struct client_session_input reply;
    kvs_op op = {.kind = KVS_OP_PING};
    uint32_t id;
    pair_open(&pair);
    server_session_begin(&pair.server, 16, false);
    server_session_drain(&pair.server, &pair.to_client);
    server_session_drain(&pair.server, &pair.to_client);
    assert_int_equal(pair.to_client.size, WIRE_HEADER_SIZE);
    assert_false(server_session_is_done(&pair.server));
    assert_false(server_session_wants_bytes(&pair.server, 0));
    assert_int_equal(server_next(&pair, &request), SERVER_SESSION_ENDED);
    server_session_end(&pair.server, 16, false);
    assert_true(server_session_is_done(&pair.server));
    server_session_finish(&pair.server, &pair.to_client);
    server_session_finish(&pair.server, &pair.to_client);
    assert_int_equal(pair.to_client.size, 2 * WIRE_HEADER_SIZE);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_GOING);
    assert_int_equal(client_next(&pair, &reply), CLIENT_SESSION_GOING);
    assert_int_equal(client_session_send(&pair.client, &op, &id, &pair.to_server), KVS_ERR_CLOSED);
    pair_deinit(&pair);
}

static void time_outs_are_counted_from_the_last_sign(void **state)
{
    (void)state;
    struct server_session session;
    server_session_init(&session, &options, 1000);
    assert_null(server_session_check_time(&session, 1999));
    session.state = SERVER_SESSION_OPEN;
    session.active_ms = 20000;
    assert_null(server_session_check_time(&session, 20999));
    assert_string_equal(server_session_check_time(&session, 21000), "idle");
    session.in_flight = 1;
    assert_null(server_session_check_time(&session, 40000));
    server_session_note_unwritten(&session, 100, false, 40000);
    server_session_note_unwritten(&session, 100, false, 40300);
    assert_null(server_session_check_time(&session, 40499));
    assert_non_null(server_session_check_time(&session, 40500));
    server_session_note_unwritten(&session, 90, true, 40500);
    assert_null(server_session_check_time(&session, 40900));
    server_session_note_unwritten(&session, 0, true, 40900);
    assert_null(server_session_check_time(&session, 50000));

    options.idle_timeout_ms = 0;
    server_session_init(&session, &options, 1000);
    assert_null(server_session_check_time(&session, 10999));
    assert_string_equal(server_session_check_time(&session, 11000), "no hello");
    options.idle_timeout_ms = 1000;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_tells_the_limits),
        cmocka_unit_test(no_request_before_the_hello),
        cmocka_unit_test(strangers_are_told_why),
        cmocka_unit_test(requests_and_replies_byte_by_byte),
        cmocka_unit_test(too_large_frames_are_skipped),
        cmocka_unit_test(garbage_ends_it),
        cmocka_unit_test(the_server_stops_reading_at_its_limits),
        cmocka_unit_test(the_client_keeps_to_the_limits),
        cmocka_unit_test(a_cancelled_call_is_forgotten_and_its_reply_ignored),
        cmocka_unit_test(scans_get_credit_as_they_are_taken),
        cmocka_unit_test(goaway_is_said_at_begin_and_end),
        cmocka_unit_test(time_outs_are_counted_from_the_last_sign),
    };
    return cmocka_run_group_tests_name("proto/kvs sessions", tests, set_options, NULL);
}
