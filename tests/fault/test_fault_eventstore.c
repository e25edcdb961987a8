/*
 * tests/fault/test_fault_eventstore.c: the server of event streams when memory fails: every k-th
 * allocation of its start, and of serving each kind of request.
 *
 * A start either succeeds or is taken down whole. While it serves, a request may be answered with
 * an error or its connection closed; other connections go on, and the server stops as ever.
 */
#include "base/fault.h"
#include "unit/server/es_peer.h"
#include "unit/server/peer_socket.h"
#include "unit/server/server_fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include "test.h"

#define RUNS_MAX 3000
#define STEP_AFTER 300 /* beyond so many every seventh is tried, or fewer */
#define S(text) slice_of_string(text)

static uint64_t next_k(uint64_t k)
{
    return k < STEP_AFTER ? k + 1 : k + TIMES(7, 7, 29);
}

static bool open_failing(uint64_t k, bool from_then_on)
{
    const struct kvs_server_options options = {
        .size = sizeof options,
        .address = "127.0.0.1:0",
        .eventstore = "127.0.0.1:0",
        .http = "127.0.0.1:0",
        .engine = "memory",
        .threads = 2,
        .pool_threads = 2,
    };
    kvs_server *server = NULL;
    char *message = NULL;
    fault_reset();
    fault_arm(FAULT_ALLOC, k, from_then_on);
    int error = kvs_server_open(&options, &server, &message);
    bool fired = fault_fired() > 0;
    fault_reset();
    if (error != 0) {
        if (!fired)
            fail_msg("k %llu: %s", (unsigned long long)k, message);
        assert_null(server);
        free(message);
    } else {
        server_stop(server);
    }
    return fired;
}

static void every_start_succeeds_or_is_undone(void **state)
{
    (void)state;
    uint64_t k = 1;
    while (k < RUNS_MAX && open_failing(k, k % 2 == 0))
        k = next_k(k);
    assert_in_range(k, 2, RUNS_MAX - 1);
}

static void ask_reads(struct es_peer *peer)
{
    kvs_slice prefix = S("s");
    const struct es_filter filter = {.type = ES_FILTER_PREFIX,
                                     .data = {.items = &prefix, .count = 1}};
    const struct es_read_event event = {.event_stream_id = S("s")};
    const struct es_read_stream_events stream = {
        .event_stream_id = S("s"), .max_count = 10, .resolve_link_tos = true};
    const struct es_read_all_events all = {.max_count = 10};
    const struct es_filtered_read_all_events filtered = {.max_count = 10, .filter = filter};
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("s")};
    const struct es_filtered_subscribe_to_stream filtered_subscribe = {
        .event_stream_id = S(""), .filter = filter, .checkpoint_interval = 2};
    es_peer_ask(peer, ES_READ_EVENT, &event);
    es_peer_ask(peer, ES_READ_STREAM_FORWARD, &stream);
    es_peer_ask(peer, ES_READ_ALL_FORWARD, &all);
    es_peer_ask(peer, ES_FILTERED_READ_ALL_FORWARD, &filtered);
    es_peer_ask(peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
    es_peer_ask(peer, ES_FILTERED_SUBSCRIBE, &filtered_subscribe);
}

static void ask_groups(struct es_peer *peer)
{
    const struct es_persistent_subscription_settings settings = {
        .subscription_group_name = S("g"),
        .event_stream_id = S("s"),
        .message_timeout_milliseconds = 1000,
        .live_buffer_size = 10,
        .read_batch_size = 10,
        .buffer_size = 20,
        .checkpoint_after_time = 100,
        .checkpoint_max_count = 10,
    };
    const struct es_connect_to_persistent_subscription connect = {
        .subscription_id = S("g"), .event_stream_id = S("s"), .allowed_in_flight_messages = 10};
    es_peer_ask(peer, ES_CREATE_GROUP, &settings);
    es_peer_ask(peer, ES_CONNECT_TO_GROUP, &connect);
}

/* One request of each kind; made before anything fails. */
static void ask_all(struct es_peer *peer)
{
    const struct es_identify_client identify = {.version = 1, .connection_name = S("fault")};
    const struct es_delete_stream delete = {.event_stream_id = S("s"),
                                            .expected_version = ES_VERSION_ANY};
    const struct es_transaction_start start = {.event_stream_id = S("t"),
                                               .expected_version = ES_VERSION_ANY};
    es_peer_ask_as(peer, ES_AUTHENTICATE, "admin", "changeit", NULL);
    es_peer_ask(peer, ES_IDENTIFY_CLIENT, &identify);
    es_peer_ask_write(peer, "s", ES_VERSION_ANY, 5, S("data"));
    ask_reads(peer);
    ask_groups(peer);
    es_peer_ask(peer, ES_TRANSACTION_START, &start);
    es_peer_ask_write(peer, "s", ES_VERSION_ANY, 5, S("data"));
    es_peer_ask(peer, ES_DELETE_STREAM, &delete);
    es_peer_ask(peer, ES_SCAVENGE_DATABASE, NULL);
}

static void it_serves_on_without_memory(void **state)
{
    (void)state;
    struct es_peer requests = {.next_id = 1};
    ask_all(&requests);
    for (uint64_t k = 1; k < RUNS_MAX; k = next_k(k)) {
        const struct kvs_server_options options = {.eventstore = "127.0.0.1:0"};
        kvs_server *server = server_start(&options);
        fault_reset();
        fault_arm(FAULT_ALLOC, k, k % 2 == 0);
        peer_socket_converse(kvs_server_eventstore_address(server),
                             slice_make(requests.out.data, requests.out.size));
        bool fired = fault_fired() > 0;
        fault_reset();
        struct es_peer peer;
        es_peer_connect(&peer, kvs_server_eventstore_address(server));
        assert_int_equal(es_peer_write(&peer, "after", ES_VERSION_ANY, 1, S("x")), ES_SUCCESS);
        es_peer_close(&peer);
        server_stop(server);
        if (!fired)
            break;
        assert_in_range(k, 1, RUNS_MAX - 8);
    }
    buf_deinit(&requests.out);
}

/* What is answered later over HTTP: with a login, and a group that is there. */
static void it_answers_http_without_memory(void **state)
{
    (void)state;
    static const char asked[] = "POST /subscriptions/s/g/replayParked HTTP/1.1\r\n"
                                "Authorization: Basic YWRtaW46Y2hhbmdlaXQ=\r\n\r\n"
                                "GET /subscriptions HTTP/1.1\r\n"
                                "Authorization: Basic YWRtaW46Y2hhbmdlaXQ=\r\n\r\n"
                                "GET /subscriptions/s/g/info HTTP/1.1\r\n"
                                "Authorization: Basic YWRtaW46Y2hhbmdlaXQ=\r\n\r\n"
                                "GET /gossip HTTP/1.1\r\n\r\n";
    struct buf requests = BUF_INIT;
    assert_int_equal(buf_append(&requests, asked, sizeof asked - 1), 0);
    const struct kvs_server_options options = {.eventstore = "127.0.0.1:0", .http = "127.0.0.1:0"};
    kvs_server *server = server_start(&options);
    struct es_peer peer = {.next_id = 1};
    es_peer_ask_as(&peer, ES_AUTHENTICATE, "admin", "changeit", NULL);
    ask_groups(&peer);
    peer_socket_converse(kvs_server_eventstore_address(server),
                         slice_make(peer.out.data, peer.out.size));
    buf_deinit(&peer.out);
    for (uint64_t k = 1; k < RUNS_MAX; k = next_k(k)) {
        fault_reset();
        fault_arm(FAULT_ALLOC, k, k % 2 == 0);
        peer_socket_converse(kvs_server_http_address(server),
                             slice_make(requests.data, requests.size));
        bool fired = fault_fired() > 0;
        fault_reset();
        if (!fired)
            break;
        assert_in_range(k, 1, RUNS_MAX - 8);
    }
    server_stop(server);
    buf_deinit(&requests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_start_succeeds_or_is_undone),
        cmocka_unit_test(it_serves_on_without_memory),
        cmocka_unit_test(it_answers_http_without_memory),
    };
    return cmocka_run_group_tests_name("fault-eventstore", tests, NULL, NULL);
}
