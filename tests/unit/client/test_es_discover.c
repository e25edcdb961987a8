/*
 * client/eventstore/discover.c and what is under it: what a cluster's gossip says, which node is
 * taken, and finding one by HTTP when some do not answer.
 */
#include "client/eventstore/discover.h"
#include "client/eventstore/gossip.h"
#include "client/eventstore/http.h"
#include "es_script.h"
#include "events_patient.h"

#include <kvs/events.h>
#include <kvs/kvs.h>
#include <kvs/subscription.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

/* --- HTTP --------------------------------------------------------------------------------------
 */

static int parse(const char *text, bool ended, char *body)
{
    struct buf answer = BUF_INIT;
    int status = 0;
    kvs_slice found = {0};
    assert_int_equal(buf_append(&answer, text, strlen(text)), 0);
    int got = http_parse(&answer, ended, &status, &found);
    snprintf(body, 100, "%.*s", (int)found.size, found.size > 0 ? (const char *)found.data : "");
    buf_deinit(&answer);
    return got == 1 ? status : got;
}

static void test_http_answers(void **state)
{
    (void)state;
    char body[100];
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi more", false, body),
                     200);
    assert_string_equal(body, "hi");
    assert_int_equal(parse("HTTP/1.0 404 No\r\n\r\nuntil the end", true, body), 404);
    assert_string_equal(body, "until the end");
    assert_int_equal(parse("HTTP/1.1 204 No Content\r\n\r\n", false, body), 204);
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "4\r\nabcd\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
                           false, body),
                     200);
    assert_string_equal(body, "abcd0123456789");
    /* More is to come, or nothing more comes. */
    static const char *const unfinished[] = {
        "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab"};
    for (size_t i = 0; i < sizeof unfinished / sizeof unfinished[0]; i++) {
        assert_int_equal(parse(unfinished[i], false, body), 0);
        assert_int_equal(parse(unfinished[i], true, body), KVS_ERR_PROTOCOL);
    }
    static const char *const broken[] = {
        "SSH-2.0",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_int_equal(parse(broken[i], false, body), KVS_ERR_PROTOCOL);
}

/* --- gossip ------------------------------------------------------------------------------------
 */

#define MEMBER(state, alive, port)                                                   \
    "{\"state\":\"" state "\",\"isAlive\":" alive ",\"externalTcpIp\":\"10.0.0.1\"," \
    "\"externalTcpPort\":" port ",\"externalSecureTcpPort\":0,"                      \
    "\"httpEndPointIp\":\"10.0.0.1\",\"httpEndPointPort\":2113}"

static int take(const char *json, struct gossip *gossip)
{
    return gossip_parse(slice_make(json, strlen(json)), false, gossip);
}

static uint16_t choose(const char *json, enum kvs_node_preference preference, uint16_t failed_port)
{
    static struct gossip gossip;
    struct rand rand = rand_seed(7);
    struct gossip_node failed = {.host = "10.0.0.1", .port = failed_port};
    assert_int_equal(take(json, &gossip), 0);
    const struct gossip_member *member =
        gossip_choose(&gossip, preference, failed_port != 0 ? &failed : NULL, &rand);
    return member != NULL ? member->tcp.port : 0;
}

static void test_which_node_is_taken(void **state)
{
    (void)state;
    static const char newer[] = "{\"members\":[" MEMBER("Follower", "true", "1") "," MEMBER(
        "Leader", "true", "2") "," MEMBER("ReadOnlyReplica", "true",
                                          "3") "," MEMBER("Leader", "false", "4") "]}";
    assert_int_equal(choose(newer, KVS_NODE_LEADER, 0), 2);
    assert_int_equal(choose(newer, KVS_NODE_FOLLOWER, 0), 1);
    assert_int_equal(choose(newer, KVS_NODE_READ_ONLY_REPLICA, 0), 3);
    assert_int_not_equal(choose(newer, KVS_NODE_RANDOM, 0), 0);
    assert_int_equal(choose(newer, KVS_NODE_LEADER, 2), 1); /* it has just failed */
    static const char older[] =
        "{\"members\":[" MEMBER("Slave", "true", "1") "," MEMBER("Master", "true", "2") "]}";
    assert_int_equal(choose(older, KVS_NODE_LEADER, 0), 2);
    assert_int_equal(choose(older, KVS_NODE_FOLLOWER, 0), 1);
    static const char alone[] = "{\"members\":[" MEMBER("Leader", "true", "2") "]}";
    assert_int_equal(choose(alone, KVS_NODE_LEADER, 2), 2); /* there is no other */
    static const char none[] = "{\"members\":[" MEMBER("Manager", "true", "1") "," MEMBER(
        "ShuttingDown", "true", "2") "," MEMBER("Leader", "true", "0") "]}";
    assert_int_equal(choose(none, KVS_NODE_LEADER, 0), 0);
    static struct gossip gossip;
    assert_int_equal(take("[]", &gossip), KVS_ERR_PROTOCOL);
    assert_int_equal(take("{\"members\":{}}", &gossip), KVS_ERR_PROTOCOL);
    assert_int_equal(take("{\"members\":[1,null,{}]}", &gossip), 0);
}

/* --- finding a node ----------------------------------------------------------------------------
 */

static struct scripted_server node;
static struct scripted_server seed;
static kvs_runtime *runtime;

static void script_node(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_expect(self, ES_PING, &frame))
        es_script_send(self, ES_PONG, &frame.correlation, NULL);
}

/* Fails first, then says where the node is. */
static void script_seed(struct scripted_server *self, unsigned number)
{
    char request[64] = {0};
    char json[400], answer[600];
    if (!script_read_exact(self, request, 12) || memcmp(request, "GET /gossip?", 12) != 0)
        return;
    scripted_server_step(self);
    if (number == 0)
        return;
    snprintf(json, sizeof json,
             "{\"members\":[{\"state\":\"Leader\",\"isAlive\":true,\"externalTcpIp\":"
             "\"127.0.0.1\",\"externalTcpPort\":%u}]}",
             node.port);
    int size = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s",
                        number == 1 ? "503 Busy" : "200 OK", strlen(json), json);
    script_send(self, answer, (size_t)size);
    script_read_to_end(self);
}

static void test_a_cluster_is_found(void **state)
{
    (void)state;
    char url[160];
    scripted_server_start(&node, script_node);
    scripted_server_start(&seed, script_seed);
    /* Nobody listens on port 1. */
    snprintf(url, sizeof url, "esdb+discover://127.0.0.1:1,127.0.0.1:%u?discoveryInterval=5",
             seed.port);
    const struct kvs_events_options options = events_patient();
    kvs_events *events = opened_by(kvs_events_open(runtime, url, &options));
    assert_int_equal(atomic_load(&seed.steps), 3);
    assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), 0);
    assert_int_equal(wait_and_free(kvs_events_close(events)), 0);
    scripted_server_stop(&seed);
    scripted_server_stop(&node);
}

/* Followers have no groups; this one has to find out who has. */
static void script_follower(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    struct buf bytes = BUF_INIT;
    const struct es_leader_info info = {
        .has_external_tcp_port = true,
        .external_tcp_address = slice_of_string("127.0.0.1"),
        .external_tcp_port = node.port,
        .http_address = slice_of_string("127.0.0.1"),
    };
    const struct es_not_handled not_ready = {.reason = ES_NOT_READY};
    (void)number;
    if (es_message_append(&bytes, &es_leader_info_type, &info) == 0 && es_script_greet(self) &&
        es_script_expect(self, ES_CONNECT_TO_GROUP, &frame) &&
        es_script_send(self, ES_NOT_HANDLED, &frame.correlation, &not_ready) &&
        es_script_expect(self, ES_CONNECT_TO_GROUP, &frame)) {
        const struct es_not_handled wire = {.reason = ES_NOT_LEADER,
                                            .additional_info = buf_slice(&bytes)};
        es_script_send(self, ES_NOT_HANDLED, &frame.correlation, &wire);
    }
    buf_deinit(&bytes);
    script_read_to_end(self);
}

static void script_leader(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    const struct es_persistent_subscription_confirmation confirmed = {.subscription_id =
                                                                          slice_of_string("s::g")};
    const struct es_persistent_subscription_event_appeared wire = {
        .event = {.has_event = true, .event = es_script_record("s", 0)}};
    (void)number;
    if (!es_script_greet(self) || !es_script_expect(self, ES_CONNECT_TO_GROUP, &frame))
        return;
    es_script_send(self, ES_GROUP_CONFIRMATION, &frame.correlation, &confirmed);
    es_script_send(self, ES_GROUP_EVENT_APPEARED, &frame.correlation, &wire);
    if (es_script_expect(self, ES_GROUP_ACK_EVENTS, &frame))
        scripted_server_step(self);
    script_read_to_end(self);
}

static bool on_events(kvs_subscription *subscription, const kvs_resolved_event *got, size_t count,
                      void *arg)
{
    (void)subscription, (void)got, (void)count, (void)arg;
    return true;
}

static void on_dropped(kvs_subscription *subscription, int error, const char *why, void *arg)
{
    (void)subscription, (void)error, (void)why, (void)arg;
}

/* A member that asked a follower is sent to the leader; one that does not join again, too: it has
 * not joined yet. One that was to ask later does soon, however rare heartbeats are. */
static void test_a_member_goes_to_the_leader(void **state)
{
    (void)state;
    static const struct kvs_subscription_handlers handlers = {.on_events = on_events,
                                                              .on_dropped = on_dropped};
    struct kvs_group_subscribe_options member = {
        .size = sizeof member, .stream = kvs_slice_of("s"), .group = kvs_slice_of("g")};
    struct kvs_events_options options = events_patient();
    options.heartbeat_interval_ms = options.heartbeat_timeout_ms = 3600 * 1000;
    for (unsigned i = 0; i < 2; i++) {
        void *events = NULL;
        kvs_subscription *subscription = NULL;
        scripted_server_start(&node, script_leader);
        scripted_server_start(&seed, script_follower);
        kvs_future *future = kvs_events_open(runtime, es_script_url(&seed, ""), &options);
        assert_int_equal(kvs_future_wait(future, -1), 0);
        assert_int_equal(kvs_future_get_pointer(future, &events), 0);
        kvs_future_free(future);
        member.no_rejoin = i == 1;
        assert_int_equal(
            kvs_events_subscribe_group(events, &member, &handlers, NULL, &subscription), 0);
        scripted_server_await(&node, 1);
        kvs_subscription_free(subscription);
        future = kvs_events_close(events);
        assert_int_equal(kvs_future_wait(future, -1), 0);
        kvs_future_free(future);
        scripted_server_stop(&seed);
        scripted_server_stop(&node);
    }
}

static void test_a_cluster_that_is_not_there(void **state)
{
    (void)state;
    kvs_future *future = kvs_events_open(
        runtime, "esdb+discover://127.0.0.1:1?discoveryInterval=5&maxDiscoverAttempts=3", NULL);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CONNECT);
    assert_non_null(strstr(kvs_future_error_message(future), "no node of the cluster"));
    assert_non_null(strstr(kvs_future_error_message(future), "127.0.0.1:1"));
    kvs_future_free(future);
    /* Each that was asked is named. */
    future = kvs_events_open(runtime,
                             "esdb+discover://127.0.0.1:1,127.0.0.1:2?maxDiscoverAttempts=1", NULL);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CONNECT);
    assert_non_null(strstr(kvs_future_error_message(future), "127.0.0.1:1: cannot connect"));
    assert_non_null(strstr(kvs_future_error_message(future), "127.0.0.1:2: cannot connect"));
    kvs_future_free(future);
    /* Given up in the middle. */
    kvs_future_free(
        kvs_events_open(runtime, "esdb+discover://127.0.0.1:1?discoveryInterval=60000", NULL));
}

/* Of several hosts none is there, or they are something else: each is named, and why. */
static void test_hosts_that_are_not_there(void **state)
{
    (void)state;
    const char *url = "esdb://127.0.0.1:1,nowhere.invalid,127.0.0.1:2";
    kvs_future *future = kvs_events_open(runtime, url, NULL);
    assert_int_not_equal(kvs_future_wait(future, -1), 0);
    const char *why = kvs_future_error_message(future);
    const char *first = strstr(why, "127.0.0.1:1: cannot connect");
    const char *second = strstr(why, "; nowhere.invalid:1113: cannot resolve");
    const char *third = strstr(why, "; 127.0.0.1:2: cannot connect");
    if (first != why || second < first || third < second)
        fail_msg("%s", why);
    kvs_future_free(future);
}

static void test_more_than_a_message_has_room_for(void **state)
{
    (void)state;
    char why[DISCOVER_WHY_SIZE] = "", name[300];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < 10; i++) {
        name[0] = (char)('0' + i);
        discover_add_why(why, name);
        assert_true(strlen(why) < sizeof why);
    }
    assert_int_equal(why[0], '0');
    assert_memory_equal(why + 299, "; 1aaa", 6);
    assert_string_equal(why + sizeof why - 6, "aa...");
}

static int setup(void **state)
{
    (void)state;
    return kvs_runtime_new(NULL, &runtime);
}

static int teardown(void **state)
{
    (void)state;
    kvs_runtime_free(runtime);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_answers),
        cmocka_unit_test(test_which_node_is_taken),
        cmocka_unit_test(test_a_cluster_is_found),
        cmocka_unit_test(test_a_member_goes_to_the_leader),
        cmocka_unit_test(test_a_cluster_that_is_not_there),
        cmocka_unit_test(test_hosts_that_are_not_there),
        cmocka_unit_test(test_more_than_a_message_has_room_for),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
