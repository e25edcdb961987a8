/* What the server of event streams does over HTTP beside its pages: telling of groups, replaying
 * what is parked. */
#include "unit/server/es_peer.h"
#include "unit/server/server_fixture.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "test.h"

#define S(text) slice_of_string(text)
#define REPLAY "/subscriptions/a%20b%2Fc/g/replayParked"
/* Logins with their passwords, in base64. */
#define ADMIN "YWRtaW46Y2hhbmdlaXQ=" /* admin:changeit */
#define OPS "b3BzOmNoYW5nZWl0"       /* ops:changeit */
#define WRONG "YWRtaW46d3Jvbmc="     /* admin:wrong */

static kvs_server *server;

static void begin(bool insecure)
{
    const struct kvs_server_options options = {
        .eventstore = "127.0.0.1:0", .http = "127.0.0.1:0", .insecure = insecure};
    server = server_start(&options);
    struct es_peer peer;
    es_peer_connect(&peer, kvs_server_eventstore_address(server));
    const struct es_persistent_subscription_settings settings = {.subscription_group_name = S("g"),
                                                                 .event_stream_id = S("a b/c"),
                                                                 .live_buffer_size = 500,
                                                                 .read_batch_size = 20,
                                                                 .buffer_size = 500,
                                                                 .max_retry_count = 10,
                                                                 .checkpoint_max_count = 1000,
                                                                 .checkpoint_min_count = 10,
                                                                 .prefer_round_robin = true};
    struct es_persistent_subscription_completed made;
    struct es_id id = es_peer_ask_as(&peer, ES_CREATE_GROUP, "admin", "changeit", &settings);
    es_peer_expect(&peer, ES_CREATE_GROUP + 1, &id, &made);
    assert_int_equal(made.result, ES_GROUP_SUCCESS);
    es_peer_close(&peer);
}

/* Sends, says that no more comes, and gathers the answers. */
static const char *talk(const char *request)
{
    static char all[8192];
    size_t size = 0;
    ssize_t got;
    struct es_peer peer;
    es_peer_connect(&peer, kvs_server_http_address(server));
    es_peer_send_bytes(&peer, request, strlen(request));
    assert_int_equal(shutdown(peer.descriptor, SHUT_WR), 0);
    while ((got = recv(peer.descriptor, all + size, sizeof all - 1 - size, 0)) > 0)
        size += (size_t)got;
    assert_int_equal(got, 0);
    all[size] = '\0';
    es_peer_close(&peer);
    return all;
}

static void assert_answers(const char *method, const char *path, const char *authorization,
                           const char *status, const char *within)
{
    char request[2048], expected[32];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nContent-Length: 0\r\n%s%s\r\n", method,
             path, authorization, authorization[0] != '\0' ? "\r\n" : "");
    const char *answer = talk(request);
    snprintf(expected, sizeof expected, "HTTP/1.1 %s ", status);
    if (strncmp(answer, expected, strlen(expected)) != 0 || strstr(answer, within) == NULL)
        fail_msg("%s\n%s", request, answer);
}

static void operators_may(void **state)
{
    (void)state;
    begin(false);
    assert_answers("POST", REPLAY, "Authorization: Basic " ADMIN, "200", "\"Success\"");
    assert_answers("POST", REPLAY, "authorization: BASIC  " OPS, "200", "\"Success\"");
    assert_answers("POST", REPLAY "?stopAt=10", "Authorization: Basic " ADMIN, "200", "Success");
    assert_answers("POST", REPLAY "?x&stopAt=0&y=z", "Authorization: Basic " ADMIN, "200", "");
    server_stop(server);
}

static void others_may_not(void **state)
{
    (void)state;
    begin(false);
    const char *const wrong[] = {
        "",
        "Authorization:",
        "Authorization: Basic",
        "Authorization: Basic ",
        "Authorization: Basic " WRONG,
        "Authorization: Basic YWRtaW4=",     /* no colon */
        "Authorization: Basic OmNoYW5nZWl0", /* nobody */
        "Authorization: Basic ====",
        "Authorization: Basic =",
        "Authorization: Basic !" ADMIN,
        "Authorization: Bearer " ADMIN,
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_answers("POST", REPLAY, wrong[i], "401", "WWW-Authenticate: Basic");
    static char large[1600] = "Authorization: Basic ";
    memset(large + strlen(large), 'A', 1500); /* zeros */
    assert_answers("POST", REPLAY, large, "401", "");
    server_stop(server);
}

static void nobody_is_asked_when_insecure(void **state)
{
    (void)state;
    begin(true);
    assert_answers("POST", REPLAY, "", "200", "Success");
    assert_answers("POST", REPLAY, "Authorization: Basic " WRONG, "200", "Success");
    server_stop(server);
}

static void what_is_not_there_is_said(void **state)
{
    (void)state;
    begin(true);
    const char *const missing[] = {
        "/subscriptions/",
        "/subscriptions/a%20b%2Fc/g",
        "/subscriptions/a%20b%2Fc/g/",
        "/subscriptions/a%20b%2Fc/g/replayParked/",
        "/subscriptions/a%20b%2Fc/other/replayParked",
        "/subscriptions/other/g/replayParked",
        "/subscriptions//g/replayParked",
        "/subscriptions/a%20b%2Fc//replayParked",
        "/subscriptions/a%2/g/replayParked",
        "/subscriptions/a%xx/g/replayParked",
        "/subscription/a/g/replayParked",
    };
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        assert_answers("POST", missing[i], "", "404", "");
    assert_answers("POST", REPLAY "?stopAt=", "", "400", "stopAt");
    assert_answers("POST", REPLAY "?stopAt=-1", "", "400", "stopAt");
    assert_answers("POST", REPLAY "?stopAt=99999999999999999999999999999999999", "", "400", "");
    assert_answers("GET", REPLAY, "", "405", "Allow: POST\r\n");
    assert_answers("POST", "/ping", "", "405", "Allow: GET, HEAD\r\n");
    server_stop(server);
}

/* Whoever has logged in may look at groups. */
static void groups_are_told_to_users(void **state)
{
    (void)state;
    begin(false);
    const char *const paths[] = {"/subscriptions", "/subscriptions/a%20b%2Fc",
                                 "/subscriptions/a%20b%2Fc/g/info"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_answers("GET", paths[i], "Authorization: Basic " OPS, "200",
                       "\"eventStreamId\":\"a b/c\",\"groupName\":\"g\"");
        assert_answers("GET", paths[i], "", "401", "WWW-Authenticate: Basic");
        assert_answers("GET", paths[i], "Authorization: Basic " WRONG, "401", "wrong login");
        assert_answers("POST", paths[i], "Authorization: Basic " ADMIN, "405",
                       "Allow: GET, HEAD\r\n");
    }
    server_stop(server);
}

static void groups_are_told_as_clients_expect(void **state)
{
    (void)state;
    begin(true);
    const char *const members[] = {
        "\"config\":{\"resolveLinktos\":false,\"startFrom\":0,\"startPosition\":\"0\",",
        "\"messageTimeoutMilliseconds\":0,\"extraStatistics\":false,\"maxRetryCount\":10,"
        "\"liveBufferSize\":500,\"bufferSize\":500,\"readBatchSize\":20,"
        "\"preferRoundRobin\":true,\"checkPointAfterMilliseconds\":0,\"minCheckPointCount\":10,"
        "\"maxCheckPointCount\":1000,\"maxSubscriberCount\":0,"
        "\"namedConsumerStrategy\":\"RoundRobin\"}",
        "\"connections\":[]",
        "\"lastProcessedEventNumber\":-1,\"lastCheckpointedEventPosition\":null,",
        "\"lastKnownEventNumber\":-1,\"lastKnownEventPosition\":null,",
        "\"averageItemsPerSecond\":0,\"totalItemsProcessed\":0,",
        "\"countSinceLastMeasurement\":0",
        "\"readBufferCount\":0",
        "\"liveBufferCount\":0",
        "\"retryBufferCount\":0",
        "\"totalInFlightMessages\":0",
        "\"outstandingMessagesCount\":0",
        "\"parkedMessageCount\":0",
        "/subscriptions/a%20b%2Fc/g/info\",\"rel\":\"detail\"}",
        "/subscriptions/a%20b%2Fc/g/replayParked\",\"rel\":\"replayParked\"}",
        "/streams/%24persistentsubscription-a%20b%2Fc%3A%3Ag-parked\"",
        "\"getMessagesUri\":\"http://127.0.0.1:",
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        assert_answers("GET", "/subscriptions/a%20b%2Fc/g/info", "", "200", members[i]);
    assert_answers("GET", "/subscriptions?embed=x", "", "200", "\"connectionCount\":0}]");
    assert_answers("GET", "/subscriptions/none", "", "404", "\r\n\r\n[]\n");
    assert_answers("GET", "/subscriptions/a%20b%2Fc/none/info", "", "404", "no such group");
    const char *head = talk("HEAD /subscriptions HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(head, "HTTP/1.1 200 OK\r\n"));
    assert_string_equal(strstr(head, "\r\n\r\n"), "\r\n\r\n");
    server_stop(server);
}

/* Answers come in the order of their requests, though the first of them takes a while. */
static void requests_wait_for_their_turn(void **state)
{
    (void)state;
    begin(false);
    const char *answers = talk("POST " REPLAY " HTTP/1.1\r\nAuthorization: Basic " ADMIN "\r\n\r\n"
                               "HEAD /health/live HTTP/1.1\r\n\r\n"
                               "POST " REPLAY " HTTP/1.1\r\n\r\n"
                               "GET /ping HTTP/1.1\r\nConnection: close\r\n\r\n");
    const char *first = strstr(answers, "HTTP/1.1 200 OK");
    const char *second = strstr(answers, "HTTP/1.1 204 ");
    const char *third = strstr(answers, "HTTP/1.1 401 ");
    const char *last = strstr(answers, "\"text\"");
    assert_true(first == answers && second > first && third > second && last > third);
    server_stop(server);
}

/* The server stops while it answers, and connections end in the middle. */
static void closing_while_asked(void **state)
{
    (void)state;
    static const char request[] =
        "POST " REPLAY " HTTP/1.1\r\nAuthorization: Basic " ADMIN "\r\n\r\n";
    begin(false);
    struct es_peer peers[20];
    for (unsigned i = 0; i < 20; i++) {
        es_peer_connect(&peers[i], kvs_server_http_address(server));
        es_peer_send_bytes(&peers[i], request, sizeof request - 1);
        if (i % 2 == 0)
            es_peer_close(&peers[i]);
    }
    server_stop(server);
    for (unsigned i = 1; i < 20; i += 2)
        es_peer_close(&peers[i]);
}

/* --- gossip ---- */

static void assert_gossip(const struct kvs_server_options *options, const char *state_name,
                          const char *host)
{
    char expected[3][128];
    server = server_start(options);
    const char *tcp_port = strrchr(kvs_server_eventstore_address(server), ':') + 1;
    const char *http_port = strrchr(kvs_server_http_address(server), ':') + 1;
    snprintf(expected[0], 128, "\"state\":\"%s\"", state_name);
    snprintf(expected[1], 128, "\"externalTcpIp\":\"%s\",\"externalTcpPort\":%s,", host, tcp_port);
    snprintf(expected[2], 128, "\"httpEndPointIp\":\"%s\",\"httpEndPointPort\":%s,", host,
             http_port);
    for (unsigned i = 0; i < 3; i++)
        assert_answers("GET", "/gossip?format=json", "", "200", expected[i]);
    server_stop(server);
}

static void gossip_sends_clients_where_they_can_go(void **state)
{
    (void)state;
    struct kvs_server_options options = {.eventstore = "127.0.0.1:0", .http = "127.0.0.1:0"};
    assert_gossip(&options, "Leader", "127.0.0.1");
    options.eventstore = options.http = "0.0.0.0:0"; /* which connects to 127.0.0.1 */
    assert_gossip(&options, "Leader", "127.0.0.1");
    options.advertise = "events.example.com";
    options.gossip_master = true;
    assert_gossip(&options, "Master", "events.example.com");
}

/* Also for connections that end before anybody looks: the first one has asked for a group. */
static void what_was_sent_is_counted(void **state)
{
    static const char member[] = "\"sentBytes\":";
    const char *answer;
    (void)state;
    begin(true);
    do
        answer = talk("GET /stats HTTP/1.1\r\n\r\n");
    while (strstr(answer, "\"connections\":0,") == NULL);
    const char *sent = strstr(answer, member);
    assert_non_null(sent);
    assert_true(strtoull(sent + strlen(member), NULL, 10) >= ES_FRAME_HEAD_SIZE);
    server_stop(server);
}

static void assert_no_start(const struct kvs_server_options *options, const char *within)
{
    struct kvs_server_options more = *options;
    char *message = NULL;
    more.size = sizeof more;
    more.address = "127.0.0.1:0";
    more.engine = "memory";
    more.directory = "/nowhere";
    assert_int_equal(kvs_server_open(&more, &server, &message), KVS_ERR_INVALID_ARGUMENT);
    assert_non_null(message);
    if (strstr(message, within) == NULL)
        fail_msg("%s", message);
    free(message);
}

static void wrong_advertisements_do_not_start(void **state)
{
    (void)state;
    static char large[300];
    memset(large, 'a', sizeof large - 1);
    const char *const hosts[] = {"", "a b", "a\"b", "[::1]:2113", "a/b", large};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        assert_no_start(&(struct kvs_server_options){.http = "127.0.0.1:0", .advertise = hosts[i]},
                        "--advertise");
    assert_no_start(&(struct kvs_server_options){.advertise = "a"}, "--http) and PD (--tikv)");
    assert_no_start(&(struct kvs_server_options){.tikv = "127.0.0.1:0", .advertise = "[::1]"},
                    "--advertise");
    assert_no_start(
        &(struct kvs_server_options){.eventstore = "127.0.0.1:0", .gossip_master = true}, "--http");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_may),
        cmocka_unit_test(others_may_not),
        cmocka_unit_test(nobody_is_asked_when_insecure),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(groups_are_told_to_users),
        cmocka_unit_test(groups_are_told_as_clients_expect),
        cmocka_unit_test(requests_wait_for_their_turn),
        cmocka_unit_test(closing_while_asked),
        cmocka_unit_test(gossip_sends_clients_where_they_can_go),
        cmocka_unit_test(what_was_sent_is_counted),
        cmocka_unit_test(wrong_advertisements_do_not_start),
    };
    return cmocka_run_group_tests_name("server/eventstore http", tests, NULL, NULL);
}
