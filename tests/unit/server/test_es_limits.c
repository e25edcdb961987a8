/* The server of event streams against peers that misbehave, are silent, or send in odd pieces. */
#include "base/bytes.h"
#include "base/mem.h"
#include "base/rand.h"
#include "unit/server/es_peer.h"
#include "unit/server/server_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define S(text) slice_of_string(text)
#define SEED 20260216u
#define ID "0123456789abcdef"

static kvs_server *server;

static int begin(void **state)
{
    (void)state;
    const struct kvs_server_options options = {
        .eventstore = "127.0.0.1:0", .http = "127.0.0.1:0", .insecure = true};
    server = server_start(&options);
    return 0;
}

static int end(void **state)
{
    (void)state;
    server_stop(server);
    return 0;
}

static kvs_server *patient_server;

/* For the tests of time. */
static int begin_impatient(void **state)
{
    (void)state;
    const struct kvs_server_options options = {.eventstore = "127.0.0.1:0",
                                               .http = "127.0.0.1:0",
                                               .insecure = true,
                                               .heartbeat_interval_ms = 1000,
                                               .heartbeat_timeout_ms = 1000};
    patient_server = server;
    server = server_start(&options);
    return 0;
}

static int end_impatient(void **state)
{
    (void)state;
    server_stop(server);
    server = patient_server;
    return 0;
}

static void connect_peer(struct es_peer *peer)
{
    es_peer_connect(peer, kvs_server_eventstore_address(server));
}

static void ping(struct es_peer *peer)
{
    struct es_id id = es_peer_ask(peer, ES_PING, NULL);
    es_peer_expect(peer, ES_PONG, &id, NULL);
}

static void still_serves(void)
{
    struct es_peer peer;
    connect_peer(&peer);
    ping(&peer);
    es_peer_close(&peer);
}

/* --- pieces ---- */

/* Another connection is served in between: so the first piece has been read, alone. */
static void serve_another(void)
{
    for (unsigned i = 0; i < 2; i++) /* one for each loop */
        still_serves();
}

static void frames_are_put_together(void **state)
{
    (void)state;
    struct es_peer peer;
    struct es_write_events_completed wrote;
    connect_peer(&peer);
    struct es_id id = es_peer_ask_write(&peer, "pieces", ES_VERSION_ANY, 1, S("data"));
    size_t size = peer.out.size;
    es_peer_expect(&peer, ES_WRITE_EVENTS_COMPLETED, &id, &wrote);
    for (size_t cut = 1; cut < size; cut++) {
        id = es_peer_ask_write(&peer, "pieces", ES_VERSION_ANY, 1, S("data"));
        es_peer_send_bytes(&peer, peer.out.data, cut);
        serve_another();
        buf_consume(&peer.out, cut);
        es_peer_expect(&peer, ES_WRITE_EVENTS_COMPLETED, &id, &wrote);
        assert_int_equal(wrote.first_event_number, (int64_t)cut);
    }
    es_peer_close(&peer);
}

static void frames_are_taken_apart(void **state)
{
    (void)state;
    struct es_peer peer;
    struct rand rand = rand_seed(SEED);
    struct es_id ids[500];
    connect_peer(&peer);
    for (unsigned i = 0; i < 500; i++)
        ids[i] = es_peer_ask_write(&peer, "merged", ES_VERSION_ANY, (unsigned)rand_below(&rand, 4),
                                   slice_make("some data", rand_below(&rand, 10)));
    for (size_t sent = 0; sent < peer.out.size;) {
        size_t piece = 1 + (size_t)rand_below(&rand, 3000);
        if (piece > peer.out.size - sent)
            piece = peer.out.size - sent;
        es_peer_send_bytes(&peer, peer.out.data + sent, piece);
        sent += piece;
    }
    buf_clear(&peer.out);
    int64_t next = 0;
    for (unsigned i = 0; i < 500; i++) {
        struct es_write_events_completed wrote;
        es_peer_expect(&peer, ES_WRITE_EVENTS_COMPLETED, &ids[i], &wrote);
        assert_int_equal(wrote.result, ES_SUCCESS);
        assert_int_equal(wrote.first_event_number, next);
        next = wrote.last_event_number + 1;
    }
    es_peer_close(&peer);
}

/* --- what is wrong ---- */

static void assert_ends_with_zero_id(const char *bytes, size_t size)
{
    struct es_peer peer;
    const struct es_id zero = {{0}};
    connect_peer(&peer);
    es_peer_send_bytes(&peer, bytes, size);
    es_peer_expect(&peer, ES_BAD_REQUEST, &zero, NULL);
    assert_true(es_peer_read_end(&peer)); /* an end, not a reset: the reason must arrive */
    es_peer_close(&peer);
}

static void what_is_no_frame_ends_the_connection(void **state)
{
    (void)state;
    assert_ends_with_zero_id("\x00\x00\x00\x00", 4);
    assert_ends_with_zero_id("\x11\x00\x00\x00", 4);
    assert_ends_with_zero_id("\x01\x00\x00\x04", 4);
    assert_ends_with_zero_id("SSH-2.0-OpenSSH_9\r\n", 19);
    assert_ends_with_zero_id("\x14\x00\x00\x00\xf2\x01" ID "\x09x", 24);
    static char flood[300000] = {'\xff', '\xff', '\xff', '\xff'};
    assert_ends_with_zero_id(flood, sizeof flood);
    still_serves();
}

static bool frame_says(const struct es_frame *frame, const char *text)
{
    return memmem(frame->body.data, frame->body.size, text, strlen(text)) != NULL;
}

static void assert_refused(struct es_peer *peer, uint8_t command, const char *body, size_t size)
{
    struct es_id id = {"refused"};
    assert_int_equal(es_frame_append(&peer->out, command, &id, NULL, slice_make(body, size)), 0);
    es_peer_expect(peer, ES_BAD_REQUEST, &id, NULL);
}

static void what_cannot_be_answered_is_refused_and_the_connection_stays(void **state)
{
    (void)state;
    struct es_peer peer;
    connect_peer(&peer);
    for (unsigned command = 0; command < 256; command++) {
        const struct es_command_info *info = es_command_info((uint8_t)command);
        if (info == NULL || !info->from_client)
            assert_refused(&peer, (uint8_t)command, "", 0);
        else if (info->body != NULL)
            assert_refused(&peer, (uint8_t)command, "\x0a\xff", 2);
    }
    assert_refused(&peer, ES_WRITE_EVENTS, "\x0a\x00\x10\x01", 4);                    /* no name */
    assert_refused(&peer, ES_WRITE_EVENTS, "\x0a\x01s\x10\x00\x1a\x03\x0a\x01x", 10); /* its id */
    assert_refused(&peer, ES_READ_STREAM_FORWARD,
                   "\x0a\x01s\x10\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\x01", 16); /* -2 */
    ping(&peer);
    es_peer_close(&peer);
}

/* Millions of events of two bytes: refused before memory is taken for them. */
static void false_counts_cost_nothing(void **state)
{
    (void)state;
    struct es_peer peer;
    size_t size = 4u * 1024 * 1024;
    char *body = mem_alloc(size);
    assert_non_null(body);
    for (size_t i = 0; i < size; i += 2) {
        body[i] = 0x1a;
        body[i + 1] = 0;
    }
    memcpy(body, "\x0a\x02ss", 4);
    connect_peer(&peer);
    assert_refused(&peer, ES_WRITE_EVENTS, body, size);
    mem_free(body);
    ping(&peer);
    es_peer_close(&peer);
}

/* What the blocking pool reads is refused as what the loop reads; nothing of it is written. */
static void one_broken_event_of_many_is_refused(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    struct es_peer peer;
    connect_peer(&peer);
    es_peer_ask_write(&peer, "many", ES_VERSION_ANY, COUNT, S("data"));
    /* The last event's id becomes another field, of the same size. */
    uint8_t *at = peer.out.data + peer.out.size - 1;
    while (memcmp(at, "\x0a\x10", 2) != 0)
        at--;
    at[0] = 0x7a;
    struct es_frame frame;
    es_peer_flush(&peer);
    assert_true(es_peer_frame(&peer, &frame));
    assert_int_equal(frame.command, ES_BAD_REQUEST);
    assert_true(frame_says(&frame, "its id must have 16 bytes"));
    assert_int_equal(es_peer_write(&peer, "many", ES_VERSION_NO_STREAM, COUNT, S("data")),
                     ES_SUCCESS);
    assert_int_equal(es_peer_write(&peer, "many", COUNT - 1, 1, S("data")), ES_SUCCESS);
    es_peer_close(&peer);
}

static void trusted_writes_are_for_nodes(void **state)
{
    (void)state;
    struct es_peer peer;
    struct es_frame frame;
    connect_peer(&peer);
    es_peer_send_bytes(&peer, "\x12\x00\x00\x00\x82\x02" ID, 22);
    assert_true(es_peer_frame(&peer, &frame));
    assert_int_equal(frame.command, ES_BAD_REQUEST);
    assert_true(es_peer_read_end(&peer));
    es_peer_close(&peer);
}

static void odds_and_ends(void **state)
{
    (void)state;
    struct es_peer peer;
    connect_peer(&peer);
    const struct es_identify_client identify = {.version = 1, .connection_name = S("test")};
    struct es_id id = es_peer_ask(&peer, ES_IDENTIFY_CLIENT, &identify);
    es_peer_expect(&peer, ES_CLIENT_IDENTIFIED, &id, NULL);
    id = es_peer_ask(&peer, ES_HEARTBEAT_REQUEST, NULL);
    es_peer_expect(&peer, ES_HEARTBEAT_RESPONSE, &id, NULL);
    /* An end to what is not there is answered: the client waits for it. */
    struct es_subscription_dropped dropped;
    id = es_peer_ask(&peer, ES_UNSUBSCRIBE_FROM_STREAM, NULL);
    es_peer_expect(&peer, ES_SUBSCRIPTION_DROPPED, &id, &dropped);
    assert_int_equal(dropped.reason, ES_DROP_UNSUBSCRIBED);
    /* Acknowledgements of a group that is not there are passed over. */
    const struct es_persistent_subscription_ack_events ack = {.subscription_id = S("s::g")};
    es_peer_ask(&peer, ES_GROUP_ACK_EVENTS, &ack);
    ping(&peer);
    es_peer_close(&peer);
}

/* Connections that go away in the middle of everything. */
static void cut_connections_are_cleaned_up(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        struct es_peer peer;
        connect_peer(&peer);
        for (unsigned i = 0; i < 20; i++) {
            const struct es_subscribe_to_stream subscribe = {.event_stream_id =
                                                                 i % 2 == 0 ? S("cut") : S("")};
            es_peer_ask_write(&peer, "cut", ES_VERSION_ANY, 3, S("data"));
            es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
        }
        es_peer_send_bytes(&peer, peer.out.data, peer.out.size - round);
        if (round % 2 == 0) {
            const struct linger reset = {.l_onoff = 1};
            setsockopt(peer.descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        }
        es_peer_close(&peer);
    }
    still_serves();
}

/* --- sizes ---- */

#define EVENT_MAX (16u * 1024 * 1024 - 10000) /* of type, data and metadata */

static void events_over_the_limits_are_refused(void **state)
{
    (void)state;
    struct es_peer peer;
    size_t largest = EVENT_MAX - 2; /* beside "T" and "m" */
    uint8_t *data = mem_zalloc(largest + 1);
    assert_non_null(data);
    connect_peer(&peer);
    struct es_id id =
        es_peer_ask_write(&peer, "large", ES_VERSION_ANY, 1, slice_make(data, largest + 1));
    struct es_frame frame;
    es_peer_flush(&peer);
    assert_true(es_peer_frame(&peer, &frame));
    assert_int_equal(frame.command, ES_BAD_REQUEST);
    assert_true(es_id_equal(&frame.correlation, &id));
    assert_true(frame_says(&frame, "less than 16 MiB"));
    assert_int_equal(
        es_peer_write(&peer, "large", ES_VERSION_NO_STREAM, 1, slice_make(data, largest)),
        ES_SUCCESS);
    /* One of several: none is written. */
    es_peer_ask_write(&peer, "large", 0, 1, S("x"));
    id = es_peer_ask_write(&peer, "large", 1, 2, slice_make(data, largest + 1));
    es_peer_flush(&peer);
    for (unsigned i = 0; i < 2; i++) { /* in either order */
        assert_true(es_peer_frame(&peer, &frame));
        assert_int_equal(frame.command, es_id_equal(&frame.correlation, &id)
                                            ? ES_BAD_REQUEST
                                            : ES_WRITE_EVENTS_COMPLETED);
    }
    assert_int_equal(es_peer_write(&peer, "large", 1, 1, S("x")), ES_SUCCESS);
    es_peer_close(&peer);
    mem_free(data);
}

/* Whatever was asked for, a page ends with the event that fills 4 MiB; the next goes on. */
static void pages_are_bounded_in_bytes(void **state)
{
    (void)state;
    struct es_peer peer;
    uint8_t *data = mem_zalloc(1024 * 1024);
    assert_non_null(data);
    connect_peer(&peer);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(
            es_peer_write(&peer, "paged", ES_VERSION_ANY, 1, slice_make(data, 1024 * 1024)),
            ES_SUCCESS);
    struct es_read_stream_events read = {.event_stream_id = S("paged"), .max_count = 4096};
    struct es_read_stream_events_completed page = {0};
    unsigned pages = 0;
    for (int64_t next = 0; !page.is_end_of_stream; pages++) {
        read.from_event_number = next;
        struct es_id id = es_peer_ask(&peer, ES_READ_STREAM_FORWARD, &read);
        es_peer_expect(&peer, ES_READ_STREAM_FORWARD_COMPLETED, &id, &page);
        assert_int_equal(page.result, ES_READ_STREAM_SUCCESS);
        assert_in_range(page.events.count, 1, 5);
        assert_int_equal(page.next_event_number, next + (int64_t)page.events.count);
        assert_int_equal(page.last_event_number, 19);
        next = page.next_event_number;
        assert_int_equal(page.is_end_of_stream, next == 20);
    }
    assert_in_range(pages, 4, 7);
    es_peer_close(&peer);
    mem_free(data);
}

/* --- many ---- */

#define HANGING 1000u
#define HANGING_MEMORY_MAX (64u * 1024 * 1024) /* of both ends, which are in this process */

static size_t resident(void)
{
    unsigned long total, pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &total, &pages), 2);
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static bool has_descriptors(unsigned count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= count;
}

/* They say who they are, every other one begins with the largest frame there can be, and nothing
 * more comes: they cost little, others are served, and they are closed in the end. */
static void those_who_hang_cost_little(void **state)
{
    (void)state;
    static struct es_peer peers[HANGING];
    const struct es_identify_client identify = {.version = 1, .connection_name = S("hanging")};
    if (!has_descriptors(2 * HANGING + 200))
        skip();
    still_serves();
    size_t before = resident();
    for (unsigned i = 0; i < HANGING; i++) {
        connect_peer(&peers[i]);
        es_peer_ask(&peers[i], ES_IDENTIFY_CLIENT, &identify);
        if (i % 2 == 0)
            assert_int_equal(
                buf_append(&peers[i].out, "\x00\x00\x00\x04\x82\x00" ID "some of it", 32), 0);
        es_peer_flush(&peers[i]);
        buf_deinit(&peers[i].out);
    }
    still_serves();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* their memory is not ours */
    assert_in_range(resident(), 0, before + HANGING_MEMORY_MAX);
#endif
    (void)before;
    for (unsigned i = 0; i < HANGING; i++) {
        assert_true(es_peer_read_end(&peers[i]));
        es_peer_close(&peers[i]);
    }
    still_serves();
}

/* --- time ---- */

static void the_silent_are_asked_and_closed(void **state)
{
    (void)state;
    struct es_peer peer;
    struct es_frame frame;
    connect_peer(&peer);
    peer.keeps_heartbeats = true;
    assert_true(es_peer_frame(&peer, &frame));
    assert_int_equal(frame.command, ES_HEARTBEAT_REQUEST);
    assert_true(es_peer_read_end(&peer));
    es_peer_close(&peer);
}

/* --- pages ---- */

static void get_page(const char *path, struct buf *answer)
{
    struct es_peer peer;
    char request[128];
    es_peer_connect(&peer, kvs_server_http_address(server));
    int size =
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nConnection: close\r\n\r\n", path);
    es_peer_send_bytes(&peer, request, (size_t)size);
    assert_int_equal(buf_reserve(answer, 65536), 0);
    ssize_t got;
    while ((got = recv(peer.descriptor, answer->data + answer->size, 65535 - answer->size, 0)) > 0)
        answer->size += (size_t)got;
    answer->data[answer->size] = '\0';
    es_peer_close(&peer);
}

static void page_says(const char *path, const char *status, const char *text)
{
    struct buf answer = BUF_INIT;
    get_page(path, &answer);
    assert_non_null(strstr((const char *)answer.data, status));
    assert_non_null(strstr((const char *)answer.data, text));
    buf_deinit(&answer);
}

/* Of bytes that wait for peers, in all connections. */
static uint64_t unwritten(void)
{
    static const char name[] = "\"unwrittenBytes\":";
    struct buf answer = BUF_INIT;
    get_page("/stats", &answer);
    const char *found = strstr((const char *)answer.data, name);
    assert_non_null(found);
    uint64_t bytes = strtoull(found + sizeof name - 1, NULL, 10);
    buf_deinit(&answer);
    return bytes;
}

#define SLOW_EVENTS 2000u
#define SLOW_EVENT_SIZE 16384u /* 31 MiB in all */

/* While a subscriber does not read, a page of what is written waits for it, and not all of it; then
 * it gets everything. */
static void slow_subscribers_cost_little(void **state)
{
    (void)state;
    static uint8_t data[SLOW_EVENT_SIZE];
    struct es_peer peer, writer;
    struct es_subscription_confirmation confirmed;
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("slow")};
    connect_peer(&peer);
    connect_peer(&writer);
    struct es_id id = es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
    es_peer_expect(&peer, ES_SUBSCRIPTION_CONFIRMATION, &id, &confirmed);
    for (unsigned i = 0; i < SLOW_EVENTS / 10; i++)
        assert_int_equal(
            es_peer_write(&writer, "slow", ES_VERSION_ANY, 10, slice_make(data, sizeof data)),
            ES_SUCCESS);
    while (unwritten() == 0) /* until a tick has looked */
        ping(&writer);
    assert_true(unwritten() <= 4u * 1024 * 1024);
    for (int64_t number = 0; number < SLOW_EVENTS; number++) {
        struct es_stream_event_appeared message;
        es_peer_expect(&peer, ES_STREAM_EVENT_APPEARED, &id, &message);
        assert_int_equal(message.event.event.event_number, number);
    }
    es_peer_close(&peer);
    es_peer_close(&writer);
}

#define CHECKPOINTS 400000u /* 12 MB in all, of which the system may take 4 */

/* Asks for a checkpoint at every event, and is given none. */
static struct es_id subscribe_to_nothing(struct es_peer *peer)
{
    static const kvs_slice prefixes[] = {{(const uint8_t *)"nothing", 7}};
    const struct es_filtered_subscribe_to_stream subscribe = {
        .filter = {.context = ES_FILTER_STREAM_ID,
                   .type = ES_FILTER_PREFIX,
                   .data = {.items = prefixes, .count = 1}},
        .checkpoint_interval = 1,
    };
    connect_peer(peer);
    struct es_id id = es_peer_ask(peer, ES_FILTERED_SUBSCRIBE, &subscribe);
    es_peer_expect(peer, ES_SUBSCRIPTION_CONFIRMATION, &id, NULL);
    return id;
}

/* Returns how many came until the one of that position, which is the last. */
static uint64_t checkpoints_until(struct es_peer *peer, const struct es_id *id, int64_t position)
{
    struct es_checkpoint_reached message = {0};
    uint64_t count = 0;
    while (message.commit_position < position) {
        int64_t before = message.commit_position;
        es_peer_expect(peer, ES_CHECKPOINT_REACHED, id, &message);
        assert_true(message.commit_position > before);
        count++;
    }
    return count;
}

/* Checkpoints wait for a subscriber that does not read as events do: the last one tells all. */
static void checkpoints_cost_little(void **state)
{
    (void)state;
    struct es_peer slow, quick, writer;
    struct es_write_events_completed wrote;
    struct es_id slow_id = subscribe_to_nothing(&slow);
    int size = 65536;
    assert_int_equal(setsockopt(slow.descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    struct es_id quick_id = subscribe_to_nothing(&quick);
    connect_peer(&writer);
    for (unsigned i = 0; i < CHECKPOINTS / 4000; i++) {
        struct es_id id = es_peer_ask_write(&writer, "much", ES_VERSION_ANY, 4000, S(""));
        es_peer_expect(&writer, ES_WRITE_EVENTS_COMPLETED, &id, &wrote);
    }
    checkpoints_until(&quick, &quick_id, wrote.commit_position);
    while (unwritten() == 0) /* until a tick has looked */
        ping(&writer);
    assert_in_range(unwritten(), 0, 4u * 1024 * 1024);
    checkpoints_until(&slow, &slow_id, wrote.commit_position);
    es_peer_close(&slow);
    es_peer_close(&quick);
    es_peer_close(&writer);
}

/* Each event is more than a connection takes before it waits for its peer. */
static void subscriptions_take_turns(void **state)
{
    (void)state;
    enum { COUNT = 16, SUBSCRIPTIONS = 3, SIZE = 2 * 1024 * 1024, AHEAD_MAX = 8 };
    static uint8_t data[SIZE];
    struct es_peer peer, writer;
    struct es_id ids[SUBSCRIPTIONS];
    unsigned got[SUBSCRIPTIONS] = {0};
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("turns")};
    connect_peer(&peer);
    connect_peer(&writer);
    for (unsigned i = 0; i < SUBSCRIPTIONS; i++) {
        ids[i] = es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
        es_peer_expect(&peer, ES_SUBSCRIPTION_CONFIRMATION, &ids[i], NULL);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(
            es_peer_write(&writer, "turns", ES_VERSION_ANY, 1, slice_make(data, sizeof data)),
            ES_SUCCESS);
    for (unsigned n = 0; n < COUNT * SUBSCRIPTIONS; n++) {
        struct es_frame frame;
        unsigned which = 0;
        assert_true(es_peer_frame(&peer, &frame));
        assert_int_equal(frame.command, ES_STREAM_EVENT_APPEARED);
        while (!es_id_equal(&ids[which], &frame.correlation))
            assert_in_range(++which, 0, SUBSCRIPTIONS - 1);
        got[which]++;
        for (unsigned i = 0; i < SUBSCRIPTIONS; i++)
            assert_true(got[i] + AHEAD_MAX >= got[which]);
        for (unsigned i = 0; i < 5; i++) /* meanwhile the next page is there */
            assert_int_equal(
                es_peer_write(&writer, "meanwhile", ES_VERSION_ANY, 1, slice_make(data, 1)),
                ES_SUCCESS);
    }
    es_peer_close(&peer);
    es_peer_close(&writer);
}

static void pages(void **state)
{
    (void)state;
    page_says("/ping", "200 OK", "\"text\"");
    page_says("/info", "200 OK", "\"state\":\"leader\"");
    page_says("/health/live", "204 ", "");
    page_says("/gossip?format=json", "200 OK", "\"state\":\"Leader\"");
    page_says("/gossip", "200 OK", strrchr(kvs_server_eventstore_address(server), ':') + 1);
    page_says("/stats", "200 OK", "\"requests\"");
    page_says("/streams/s", "404 ", "");
}

#define IMPATIENT(test) cmocka_unit_test_setup_teardown(test, begin_impatient, end_impatient)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_put_together),
        cmocka_unit_test(frames_are_taken_apart),
        cmocka_unit_test(what_is_no_frame_ends_the_connection),
        cmocka_unit_test(what_cannot_be_answered_is_refused_and_the_connection_stays),
        cmocka_unit_test(false_counts_cost_nothing),
        cmocka_unit_test(one_broken_event_of_many_is_refused),
        cmocka_unit_test(trusted_writes_are_for_nodes),
        cmocka_unit_test(odds_and_ends),
        cmocka_unit_test(cut_connections_are_cleaned_up),
        cmocka_unit_test(events_over_the_limits_are_refused),
        cmocka_unit_test(pages_are_bounded_in_bytes),
        IMPATIENT(those_who_hang_cost_little),
        IMPATIENT(the_silent_are_asked_and_closed),
        cmocka_unit_test(pages),
        cmocka_unit_test(slow_subscribers_cost_little),
        cmocka_unit_test(checkpoints_cost_little),
        cmocka_unit_test(subscriptions_take_turns),
    };
    return cmocka_run_group_tests_name("server/eventstore limits", tests, begin, end);
}
