/* EventStoreDB's TCP protocol over sockets: what each command is answered by. */
#include "unit/server/es_peer.h"
#include "unit/server/server_fixture.h"

#include <stdio.h>

#include "test.h"

#define S(text) slice_of_string(text)
#define EVENTS 1000u

static kvs_server *server;
static struct es_peer peer;

static void begin(bool insecure)
{
    const struct kvs_server_options options = {.eventstore = "127.0.0.1:0", .insecure = insecure};
    server = server_start(&options);
    es_peer_connect(&peer, kvs_server_eventstore_address(server));
}

static void end(void)
{
    es_peer_close(&peer);
    server_stop(server);
}

static void as_admin(void)
{
    struct es_id id = es_peer_ask_as(&peer, ES_AUTHENTICATE, "admin", "changeit", NULL);
    es_peer_expect(&peer, ES_AUTHENTICATED, &id, NULL);
}

/* --- writing and reading ---- */

static void events_are_written_and_read(void **state)
{
    (void)state;
    begin(true);
    struct es_write_events_completed wrote;
    struct es_id id = es_peer_ask_write(&peer, "s", ES_VERSION_NO_STREAM, 3, S("data"));
    es_peer_expect(&peer, ES_WRITE_EVENTS_COMPLETED, &id, &wrote);
    assert_int_equal(wrote.result, ES_SUCCESS);
    assert_int_equal(wrote.first_event_number, 0);
    assert_int_equal(wrote.last_event_number, 2);
    assert_true(wrote.has_commit_position && wrote.commit_position > 0);
    assert_int_equal(wrote.prepare_position, wrote.commit_position);

    struct es_read_stream_events_completed page;
    struct es_resolved_indexed_event event;
    const struct es_read_stream_events read = {.event_stream_id = S("s"), .max_count = 2};
    id = es_peer_ask(&peer, ES_READ_STREAM_FORWARD, &read);
    es_peer_expect(&peer, ES_READ_STREAM_FORWARD_COMPLETED, &id, &page);
    assert_int_equal(page.result, ES_READ_STREAM_SUCCESS);
    assert_int_equal(page.next_event_number, 2);
    assert_int_equal(page.last_event_number, 2);
    assert_int_equal(page.last_commit_position, wrote.commit_position);
    assert_false(page.is_end_of_stream);
    assert_int_equal(page.events.count, 2);
    assert_int_equal(es_list_next(&page.events, &es_resolved_indexed_event_type, &event), 1);
    assert_true(event.has_event);
    assert_false(event.has_link);
    assert_slice_equal(event.event.event_stream_id, "s");
    assert_slice_equal(event.event.event_type, "T");
    assert_slice_equal(event.event.data, "data");
    assert_slice_equal(event.event.metadata, "m");
    assert_int_equal(event.event.event_number, 0);
    assert_int_equal(event.event.created_epoch, es_created_to_unix(event.event.created) / 10000);
    end();
}

static void wrong_versions_say_the_right_one(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(es_peer_write(&peer, "s", ES_VERSION_ANY, 2, S("")), ES_SUCCESS);
    struct es_write_events_completed wrote;
    struct es_id id = es_peer_ask_write(&peer, "s", 7, 1, S(""));
    es_peer_expect(&peer, ES_WRITE_EVENTS_COMPLETED, &id, &wrote);
    assert_int_equal(wrote.result, ES_WRONG_EXPECTED_VERSION);
    assert_int_equal(wrote.first_event_number, -1);
    assert_int_equal(wrote.last_event_number, -1);
    assert_true(wrote.has_current_version);
    assert_int_equal(wrote.current_version, 1);
    struct es_delete_stream_completed deleted;
    const struct es_delete_stream delete = {.event_stream_id = S("s"), .expected_version = 5};
    id = es_peer_ask(&peer, ES_DELETE_STREAM, &delete);
    es_peer_expect(&peer, ES_DELETE_STREAM_COMPLETED, &id, &deleted);
    assert_int_equal(deleted.result, ES_WRONG_EXPECTED_VERSION);
    end();
}

static int64_t read_result(uint8_t command, const char *stream, int64_t from, int64_t count)
{
    struct es_read_stream_events_completed page;
    const struct es_read_stream_events read = {
        .event_stream_id = S(stream), .from_event_number = from, .max_count = count};
    struct es_id id = es_peer_ask(&peer, command, &read);
    es_peer_expect(&peer, command + 1, &id, &page);
    if (page.result != ES_READ_STREAM_SUCCESS) {
        assert_int_equal(page.events.count, 0);
        assert_int_equal(page.next_event_number, -1);
        assert_true(page.is_end_of_stream);
    }
    return page.result;
}

static int64_t event_result(const char *stream, int64_t number)
{
    struct es_read_event_completed answer;
    const struct es_read_event read = {.event_stream_id = S(stream), .event_number = number};
    struct es_id id = es_peer_ask(&peer, ES_READ_EVENT, &read);
    es_peer_expect(&peer, ES_READ_EVENT_COMPLETED, &id, &answer);
    assert_int_equal(answer.event.has_event, answer.result == ES_READ_EVENT_SUCCESS);
    return answer.result;
}

static void what_is_not_there_is_said(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(read_result(ES_READ_STREAM_FORWARD, "none", 0, 1), ES_READ_STREAM_NO_STREAM);
    assert_int_equal(read_result(ES_READ_STREAM_BACKWARD, "none", -1, 1), ES_READ_STREAM_NO_STREAM);
    assert_int_equal(event_result("none", -1), ES_READ_EVENT_NO_STREAM);
    assert_int_equal(es_peer_write(&peer, "s", ES_VERSION_ANY, 1, S("")), ES_SUCCESS);
    assert_int_equal(event_result("s", 0), ES_READ_EVENT_SUCCESS);
    assert_int_equal(event_result("s", -1), ES_READ_EVENT_SUCCESS);
    assert_int_equal(event_result("s", 1), ES_READ_EVENT_NOT_FOUND);
    assert_int_equal(read_result(ES_READ_STREAM_FORWARD, "s", 0, 4097), ES_READ_STREAM_ERROR);
    assert_int_equal(read_result(ES_READ_STREAM_FORWARD, "s", 0, 0), ES_READ_STREAM_ERROR);
    assert_int_equal(read_result(ES_READ_STREAM_FORWARD, "s", 0, -5), ES_READ_STREAM_ERROR);
    const struct es_delete_stream delete = {.event_stream_id = S("s"),
                                            .expected_version = ES_VERSION_ANY,
                                            .hard_delete = true,
                                            .has_hard_delete = true};
    struct es_delete_stream_completed deleted;
    struct es_id id = es_peer_ask(&peer, ES_DELETE_STREAM, &delete);
    es_peer_expect(&peer, ES_DELETE_STREAM_COMPLETED, &id, &deleted);
    assert_int_equal(deleted.result, ES_SUCCESS);
    assert_int_equal(read_result(ES_READ_STREAM_FORWARD, "s", 0, 1), ES_READ_STREAM_STREAM_DELETED);
    assert_int_equal(event_result("s", 0), ES_READ_EVENT_STREAM_DELETED);
    assert_int_equal(es_peer_write(&peer, "s", ES_VERSION_ANY, 1, S("")), ES_STREAM_DELETED);
    end();
}

/* A client that has not said which version it speaks may know only 32 bits of an event's number. */
static void numbers_for_old_clients(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(es_peer_write(&peer, "s", ES_VERSION_ANY, 1, S("x")), ES_SUCCESS);
    const struct es_delete_stream delete = {.event_stream_id = S("s"),
                                            .expected_version = ES_VERSION_ANY,
                                            .hard_delete = true,
                                            .has_hard_delete = true};
    struct es_id id = es_peer_ask(&peer, ES_DELETE_STREAM, &delete);
    es_peer_expect(&peer, ES_DELETE_STREAM_COMPLETED, &id, NULL);
    for (int32_t version = -1; version < 2; version++) {
        int64_t largest = version > 0 ? INT64_MAX : INT32_MAX;
        struct es_read_stream_events_completed page;
        struct es_read_all_events_completed log;
        struct es_resolved_event event;
        if (version >= 0) {
            const struct es_identify_client identify = {.version = version};
            id = es_peer_ask(&peer, ES_IDENTIFY_CLIENT, &identify);
            es_peer_expect(&peer, ES_CLIENT_IDENTIFIED, &id, NULL);
        }
        const struct es_read_stream_events read = {.event_stream_id = S("s"), .max_count = 1};
        id = es_peer_ask(&peer, ES_READ_STREAM_FORWARD, &read);
        es_peer_expect(&peer, ES_READ_STREAM_FORWARD_COMPLETED, &id, &page);
        assert_int_equal(page.result, ES_READ_STREAM_STREAM_DELETED);
        assert_true(page.last_event_number == largest);
        const struct es_read_all_events back = {
            .commit_position = -1, .prepare_position = -1, .max_count = 1};
        id = es_peer_ask(&peer, ES_READ_ALL_BACKWARD, &back);
        es_peer_expect(&peer, ES_READ_ALL_BACKWARD_COMPLETED, &id, &log);
        assert_int_equal(es_list_next(&log.events, &es_resolved_event_type, &event), 1);
        assert_true(event.event.event_number == largest);
    }
    end();
}

/* Pages of the log forward, then backward, until there is nothing: each event once each way. */
static void the_log_has_two_ends(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(es_peer_write(&peer, "a", ES_VERSION_ANY, 40, S("x")), ES_SUCCESS);
    assert_int_equal(es_peer_write(&peer, "b", ES_VERSION_ANY, 40, S("x")), ES_SUCCESS);
    unsigned seen[2] = {0};
    for (unsigned way = 0; way < 2; way++) {
        struct es_read_all_events read = {.max_count = 7};
        if (way == 1)
            read.commit_position = read.prepare_position = -1;
        int64_t last = way == 0 ? 0 : INT64_MAX;
        for (;;) {
            struct es_read_all_events_completed page;
            uint8_t command = way == 0 ? ES_READ_ALL_FORWARD : ES_READ_ALL_BACKWARD;
            struct es_id id = es_peer_ask(&peer, command, &read);
            es_peer_expect(&peer, command + 1, &id, &page);
            assert_int_equal(page.result, ES_READ_ALL_SUCCESS);
            if (page.events.count == 0)
                break;
            struct es_resolved_event event;
            while (es_list_next(&page.events, &es_resolved_event_type, &event) == 1) {
                assert_true(way == 0 ? event.commit_position > last : event.commit_position < last);
                last = event.commit_position;
                seen[way] += event.event.event_stream_id.data[0] != '$';
            }
            read.commit_position = page.next_commit_position;
            read.prepare_position = page.next_prepare_position;
        }
    }
    assert_int_equal(seen[0], 80);
    assert_int_equal(seen[1], 80);
    const struct es_read_all_events from_end = {
        .commit_position = -1, .prepare_position = -1, .max_count = 1};
    struct es_read_all_events_completed at_end;
    struct es_id end_id = es_peer_ask(&peer, ES_READ_ALL_FORWARD, &from_end);
    es_peer_expect(&peer, ES_READ_ALL_FORWARD_COMPLETED, &end_id, &at_end);
    assert_int_equal(at_end.events.count, 0);
    assert_true(at_end.next_commit_position == at_end.commit_position);
    const struct es_read_all_events wrong = {
        .commit_position = 3, .prepare_position = 5, .max_count = 1};
    struct es_read_all_events_completed page;
    struct es_id id = es_peer_ask(&peer, ES_READ_ALL_FORWARD, &wrong);
    es_peer_expect(&peer, ES_READ_ALL_FORWARD_COMPLETED, &id, &page);
    assert_int_equal(page.result, ES_READ_ALL_ERROR);
    end();
}

static void filtered_reads(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(es_peer_write(&peer, "apple-1", ES_VERSION_ANY, 5, S("x")), ES_SUCCESS);
    assert_int_equal(es_peer_write(&peer, "pear-1", ES_VERSION_ANY, 5, S("x")), ES_SUCCESS);
    kvs_slice prefix = S("pear-");
    struct es_filtered_read_all_events read = {
        .max_count = 100,
        .has_max_search_window = true,
        .max_search_window = 1000,
        .filter = {.context = ES_FILTER_STREAM_ID,
                   .type = ES_FILTER_PREFIX,
                   .data = {.items = &prefix, .count = 1}},
    };
    struct es_filtered_read_all_events_completed page;
    struct es_resolved_event event;
    struct es_id id = es_peer_ask(&peer, ES_FILTERED_READ_ALL_FORWARD, &read);
    es_peer_expect(&peer, ES_FILTERED_READ_ALL_FORWARD_COMPLETED, &id, &page);
    assert_int_equal(page.events.count, 5);
    while (es_list_next(&page.events, &es_resolved_event_type, &event) == 1)
        assert_slice_equal(event.event.event_stream_id, "pear-1");
    read.commit_position = read.prepare_position = -1;
    id = es_peer_ask(&peer, ES_FILTERED_READ_ALL_BACKWARD, &read);
    es_peer_expect(&peer, ES_FILTERED_READ_ALL_BACKWARD_COMPLETED, &id, &page);
    assert_int_equal(page.events.count, 5);
    /* Without a pattern all pass, whatever is said of it. */
    read.filter.data.count = 0;
    for (int64_t type = ES_FILTER_REGEX; type <= ES_FILTER_PREFIX; type++) {
        read.filter.type = type;
        id = es_peer_ask(&peer, ES_FILTERED_READ_ALL_BACKWARD, &read);
        es_peer_expect(&peer, ES_FILTERED_READ_ALL_BACKWARD_COMPLETED, &id, &page);
        assert_true(page.events.count >= 10);
    }
    end();
}

static void transactions(void **state)
{
    (void)state;
    begin(true);
    const struct es_transaction_start start = {.event_stream_id = S("t"),
                                               .expected_version = ES_VERSION_NO_STREAM};
    struct es_transaction_start_completed started;
    struct es_id id = es_peer_ask(&peer, ES_TRANSACTION_START, &start);
    es_peer_expect(&peer, ES_TRANSACTION_START_COMPLETED, &id, &started);
    assert_int_equal(started.result, ES_SUCCESS);
    uint8_t event_id[16] = {1};
    const struct es_new_event event = {
        .event_id = slice_make(event_id, 16), .event_type = S("T"), .data = S("d")};
    const struct es_transaction_write write = {.transaction_id = started.transaction_id,
                                               .events = {.items = &event, .count = 1}};
    struct es_transaction_write_completed wrote;
    for (unsigned i = 0; i < 2; i++) {
        id = es_peer_ask(&peer, ES_TRANSACTION_WRITE, &write);
        es_peer_expect(&peer, ES_TRANSACTION_WRITE_COMPLETED, &id, &wrote);
        assert_int_equal(wrote.result, ES_SUCCESS);
        assert_int_equal(wrote.transaction_id, started.transaction_id);
    }
    assert_int_equal(event_result("t", 0), ES_READ_EVENT_NO_STREAM);
    const struct es_transaction_commit commit = {.transaction_id = started.transaction_id};
    struct es_transaction_commit_completed committed;
    id = es_peer_ask(&peer, ES_TRANSACTION_COMMIT, &commit);
    es_peer_expect(&peer, ES_TRANSACTION_COMMIT_COMPLETED, &id, &committed);
    assert_int_equal(committed.result, ES_SUCCESS);
    assert_int_equal(committed.first_event_number, 0);
    assert_int_equal(committed.last_event_number, 1);
    assert_int_equal(event_result("t", 1), ES_READ_EVENT_SUCCESS);
    const struct es_transaction_commit unknown = {.transaction_id = 123456789};
    id = es_peer_ask(&peer, ES_TRANSACTION_COMMIT, &unknown);
    es_peer_expect(&peer, ES_TRANSACTION_COMMIT_COMPLETED, &id, &committed);
    assert_int_equal(committed.result, ES_INVALID_TRANSACTION);
    end();
}

/* --- who asks ---- */

static void logins(void **state)
{
    (void)state;
    begin(false);
    struct es_id id = es_peer_ask(&peer, ES_AUTHENTICATE, NULL);
    es_peer_expect(&peer, ES_NOT_AUTHENTICATED, &id, NULL);
    /* Behind a failed login everything without credentials of its own is refused. */
    const struct es_read_event read = {.event_stream_id = S("s")};
    id = es_peer_ask(&peer, ES_READ_EVENT, &read);
    es_peer_expect(&peer, ES_NOT_AUTHENTICATED, &id, NULL);
    id = es_peer_ask_as(&peer, ES_READ_EVENT, "admin", "changeit", &read);
    es_peer_expect(&peer, ES_READ_EVENT_COMPLETED, &id, NULL);
    id = es_peer_ask_as(&peer, ES_AUTHENTICATE, "admin", "wrong", NULL);
    es_peer_expect(&peer, ES_NOT_AUTHENTICATED, &id, NULL);
    as_admin();
    id = es_peer_ask(&peer, ES_READ_EVENT, &read);
    es_peer_expect(&peer, ES_READ_EVENT_COMPLETED, &id, NULL);
    id = es_peer_ask_as(&peer, ES_READ_EVENT, "nobody", "knows", &read);
    es_peer_expect(&peer, ES_NOT_AUTHENTICATED, &id, NULL);
    end();
}

/* --- users that change under a connection ---- */

/* What the last event of $user-ops says, as text. */
static void read_ops(struct es_peer *admin, char text[1000])
{
    struct es_read_event_completed completed;
    const struct es_read_event read = {.event_stream_id = S("$user-ops"), .event_number = -1};
    struct es_id id = es_peer_ask(admin, ES_READ_EVENT, &read);
    es_peer_expect(admin, ES_READ_EVENT_COMPLETED, &id, &completed);
    assert_int_equal(completed.result, ES_READ_EVENT_SUCCESS);
    kvs_slice data = completed.event.event.data;
    assert_true(data.size < 1000);
    memcpy(text, data.data, data.size);
    text[data.size] = '\0';
}

/* Another last event. */
static void write_ops(struct es_peer *admin, const char *text)
{
    assert_int_equal(es_peer_write(admin, "$user-ops", ES_VERSION_ANY, 1, slice_of_string(text)),
                     ES_SUCCESS);
}

static void delete_ops(struct es_peer *admin)
{
    const struct es_delete_stream delete = {.event_stream_id = S("$user-ops"),
                                            .expected_version = ES_VERSION_ANY};
    struct es_id id = es_peer_ask(admin, ES_DELETE_STREAM, &delete);
    es_peer_expect(admin, ES_DELETE_STREAM_COMPLETED, &id, NULL);
}

/* What is answered to a frame of the connection's user, and to one with his old password. */
static void expect_asked(uint8_t bare, uint8_t with_password)
{
    const struct es_read_event read = {.event_stream_id = S("s")};
    struct es_id id = es_peer_ask(&peer, ES_READ_EVENT, &read);
    es_peer_expect(&peer, bare, &id, NULL);
    id = es_peer_ask_as(&peer, ES_READ_EVENT, "ops", "changeit", &read);
    es_peer_expect(&peer, with_password, &id, NULL);
}

static void replace(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from);
    char rest[1000];
    assert_non_null(at);
    snprintf(rest, sizeof rest, "%s%s", to, at + strlen(from));
    snprintf(at, 1000 - (size_t)(at - text), "%s", rest);
}

/* Who was authenticated has the rights that he has now. */
static void a_connection_has_its_users_rights(void **state)
{
    (void)state;
    char as_it_was[1000], text[1000];
    struct es_peer admin;
    begin(false);
    es_peer_connect(&admin, kvs_server_eventstore_address(server));
    struct es_id id = es_peer_ask_as(&admin, ES_AUTHENTICATE, "admin", "changeit", NULL);
    es_peer_expect(&admin, ES_AUTHENTICATED, &id, NULL);
    id = es_peer_ask_as(&peer, ES_AUTHENTICATE, "ops", "changeit", NULL);
    es_peer_expect(&peer, ES_AUTHENTICATED, &id, NULL);
    expect_asked(ES_READ_EVENT_COMPLETED, ES_READ_EVENT_COMPLETED);
    read_ops(&admin, as_it_was);
    memcpy(text, as_it_was, sizeof text);
    replace(text, "\"Disabled\":false", "\"Disabled\":true");
    for (int i = 0; i < 3; i++) {
        write_ops(&admin, text);
        expect_asked(ES_NOT_AUTHENTICATED, ES_NOT_AUTHENTICATED);
        write_ops(&admin, as_it_was);
        expect_asked(ES_READ_EVENT_COMPLETED, ES_READ_EVENT_COMPLETED);
    }
    /* Another password: he has shown one before. */
    memcpy(text, as_it_was, sizeof text);
    replace(text, "\"Salt\":\"", "\"Salt\":\"AAAA");
    write_ops(&admin, text);
    expect_asked(ES_READ_EVENT_COMPLETED, ES_NOT_AUTHENTICATED);
    /* Other rights. */
    memcpy(text, as_it_was, sizeof text);
    replace(text, "$ops", "$admins");
    write_ops(&admin, text);
    const struct es_read_all_events all = {.max_count = 1};
    struct es_read_all_events_completed page;
    id = es_peer_ask(&peer, ES_READ_ALL_FORWARD, &all);
    es_peer_expect(&peer, ES_READ_ALL_FORWARD_COMPLETED, &id, &page);
    assert_int_equal(page.result, ES_READ_ALL_SUCCESS);
    write_ops(&admin, as_it_was);
    id = es_peer_ask(&peer, ES_READ_ALL_FORWARD, &all);
    es_peer_expect(&peer, ES_READ_ALL_FORWARD_COMPLETED, &id, &page);
    assert_int_equal(page.result, ES_READ_ALL_ACCESS_DENIED);
    /* Deleted. */
    delete_ops(&admin);
    expect_asked(ES_NOT_AUTHENTICATED, ES_NOT_AUTHENTICATED);
    /* Another one of his name is not he. */
    write_ops(&admin, as_it_was);
    expect_asked(ES_NOT_AUTHENTICATED, ES_READ_EVENT_COMPLETED);
    es_peer_close(&admin);
    end();
}

/* Nothing is asked between the end of one user and the begin of another one of his name. */
static void another_user_of_the_name_is_not_he(void **state)
{
    (void)state;
    char as_it_was[1000];
    struct es_peer admin;
    begin(false);
    es_peer_connect(&admin, kvs_server_eventstore_address(server));
    struct es_id id = es_peer_ask_as(&admin, ES_AUTHENTICATE, "admin", "changeit", NULL);
    es_peer_expect(&admin, ES_AUTHENTICATED, &id, NULL);
    read_ops(&admin, as_it_was);
    for (int i = 0; i < 3; i++) {
        id = es_peer_ask_as(&peer, ES_AUTHENTICATE, "ops", "changeit", NULL);
        es_peer_expect(&peer, ES_AUTHENTICATED, &id, NULL);
        write_ops(&admin, as_it_was); /* a change of him */
        expect_asked(ES_READ_EVENT_COMPLETED, ES_READ_EVENT_COMPLETED);
        delete_ops(&admin);
        write_ops(&admin, as_it_was);
        expect_asked(ES_NOT_AUTHENTICATED, ES_READ_EVENT_COMPLETED);
    }
    es_peer_close(&admin);
    end();
}

/* Each request has credentials of its own, all are sent at once: answers come in order. */
static void logins_do_not_overtake(void **state)
{
    (void)state;
    begin(false);
    struct es_id ids[60];
    const struct es_read_event read = {.event_stream_id = S("s")};
    for (unsigned i = 0; i < 60; i++)
        ids[i] = es_peer_ask_as(&peer, ES_READ_EVENT, i % 3 == 1 ? "ops" : "admin",
                                i % 3 == 2 ? "wrong" : "changeit", &read);
    for (unsigned i = 0; i < 60; i++)
        es_peer_expect(&peer, i % 3 == 2 ? ES_NOT_AUTHENTICATED : ES_READ_EVENT_COMPLETED, &ids[i],
                       NULL);
    end();
}

static void strangers_may_not(void **state)
{
    (void)state;
    begin(false);
    struct es_read_all_events_completed page;
    const struct es_read_all_events read = {.max_count = 10};
    struct es_id id = es_peer_ask(&peer, ES_READ_ALL_FORWARD, &read);
    es_peer_expect(&peer, ES_READ_ALL_FORWARD_COMPLETED, &id, &page);
    assert_int_equal(page.result, ES_READ_ALL_ACCESS_DENIED);
    assert_int_equal(es_peer_write(&peer, "$secret", ES_VERSION_ANY, 1, S("")), ES_ACCESS_DENIED);
    struct es_subscription_dropped dropped;
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("")};
    id = es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
    es_peer_expect(&peer, ES_SUBSCRIPTION_DROPPED, &id, &dropped);
    assert_int_equal(dropped.reason, ES_DROP_ACCESS_DENIED);
    struct es_scavenge_database_response scavenge;
    id = es_peer_ask(&peer, ES_SCAVENGE_DATABASE, NULL);
    es_peer_expect(&peer, ES_SCAVENGE_DATABASE_RESPONSE, &id, &scavenge);
    assert_int_equal(scavenge.result, ES_SCAVENGE_UNAUTHORIZED);
    as_admin();
    id = es_peer_ask(&peer, ES_SCAVENGE_DATABASE, NULL);
    es_peer_expect(&peer, ES_SCAVENGE_DATABASE_RESPONSE, &id, &scavenge);
    assert_int_equal(scavenge.result, ES_SCAVENGE_STARTED);
    assert_int_equal(scavenge.scavenge_id.size, 36);
    end();
}

/* --- subscriptions ---- */

static void expect_event(struct es_peer *from, const struct es_id *id, int64_t number)
{
    struct es_stream_event_appeared message;
    es_peer_expect(from, ES_STREAM_EVENT_APPEARED, id, &message);
    assert_int_equal(message.event.event.event_number, number);
}

/* Behind the confirmed number everything comes, in order; before it nothing. */
static void subscriptions_begin_exactly(void **state)
{
    (void)state;
    begin(true);
    struct es_peer writer;
    es_peer_connect(&writer, kvs_server_eventstore_address(server));
    for (unsigned i = 0; i < EVENTS; i++)
        es_peer_ask_write(&writer, "s", ES_VERSION_ANY, 1, S("x"));
    es_peer_flush(&writer); /* they are written while the other subscribes */
    struct es_subscription_confirmation confirmed;
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("s")};
    struct es_id id = es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
    es_peer_expect(&peer, ES_SUBSCRIPTION_CONFIRMATION, &id, &confirmed);
    assert_true(confirmed.has_last_event_number);
    for (int64_t number = confirmed.last_event_number + 1; number < EVENTS; number++)
        expect_event(&peer, &id, number);
    struct es_id ping = es_peer_ask(&peer, ES_PING, NULL);
    es_peer_expect(&peer, ES_PONG, &ping, NULL);

    struct es_subscription_dropped dropped;
    assert_int_equal(es_frame_append(&peer.out, ES_UNSUBSCRIBE_FROM_STREAM, &id, NULL, S("")), 0);
    es_peer_expect(&peer, ES_SUBSCRIPTION_DROPPED, &id, &dropped);
    assert_int_equal(dropped.reason, ES_DROP_UNSUBSCRIBED);
    es_peer_close(&writer);
    end();
}

static void the_log_can_be_subscribed_to(void **state)
{
    (void)state;
    begin(true);
    struct es_subscription_confirmation confirmed;
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("")};
    struct es_id id = es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
    es_peer_expect(&peer, ES_SUBSCRIPTION_CONFIRMATION, &id, &confirmed);
    assert_false(confirmed.has_last_event_number);
    struct es_peer writer;
    es_peer_connect(&writer, kvs_server_eventstore_address(server));
    assert_int_equal(es_peer_write(&writer, "a", ES_VERSION_ANY, 2, S("x")), ES_SUCCESS);
    int64_t last = confirmed.last_commit_position;
    for (int64_t number = 0; number < 2; number++) {
        struct es_stream_event_appeared message;
        es_peer_expect(&peer, ES_STREAM_EVENT_APPEARED, &id, &message);
        assert_int_equal(message.event.event.event_number, number);
        assert_true(message.event.commit_position > last);
        last = message.event.commit_position;
    }
    es_peer_close(&writer);
    end();
}

static void filtered_subscriptions_tell_how_far_they_are(void **state)
{
    (void)state;
    begin(true);
    kvs_slice prefix = S("mine-");
    const struct es_filtered_subscribe_to_stream subscribe = {
        .event_stream_id = S(""),
        .filter = {.context = ES_FILTER_STREAM_ID,
                   .type = ES_FILTER_PREFIX,
                   .data = {.items = &prefix, .count = 1}},
        .checkpoint_interval = 10,
    };
    struct es_subscription_confirmation confirmed;
    struct es_id id = es_peer_ask(&peer, ES_FILTERED_SUBSCRIBE, &subscribe);
    es_peer_expect(&peer, ES_SUBSCRIPTION_CONFIRMATION, &id, &confirmed);
    struct es_peer writer;
    es_peer_connect(&writer, kvs_server_eventstore_address(server));
    assert_int_equal(es_peer_write(&writer, "others", ES_VERSION_ANY, 25, S("x")), ES_SUCCESS);
    assert_int_equal(es_peer_write(&writer, "mine-1", ES_VERSION_ANY, 1, S("x")), ES_SUCCESS);
    unsigned checkpoints = 0;
    struct es_frame frame;
    do {
        assert_true(es_peer_frame(&peer, &frame));
        assert_true(es_id_equal(&frame.correlation, &id));
        checkpoints += frame.command == ES_CHECKPOINT_REACHED;
    } while (frame.command != ES_STREAM_EVENT_APPEARED);
    assert_true(checkpoints >= 1);
    es_peer_close(&writer);
    end();
}

/* It does not read while much is written: then it gets all of it, in order. */
static void slow_subscribers_lose_nothing(void **state)
{
    (void)state;
    begin(true);
    static uint8_t data[16384];
    struct es_subscription_confirmation confirmed;
    const struct es_subscribe_to_stream subscribe = {.event_stream_id = S("s")};
    struct es_id ids[3];
    for (unsigned i = 0; i < 3; i++) {
        ids[i] = es_peer_ask(&peer, ES_SUBSCRIBE_TO_STREAM, &subscribe);
        es_peer_expect(&peer, ES_SUBSCRIPTION_CONFIRMATION, &ids[i], &confirmed);
    }
    struct es_peer writer;
    es_peer_connect(&writer, kvs_server_eventstore_address(server));
    for (unsigned i = 0; i < EVENTS / 10; i++)
        assert_int_equal(
            es_peer_write(&writer, "s", ES_VERSION_ANY, 10, slice_make(data, sizeof data)),
            ES_SUCCESS);
    int64_t next[3] = {0};
    for (unsigned i = 0; i < 3 * EVENTS; i++) {
        struct es_frame frame;
        struct es_stream_event_appeared message;
        assert_true(es_peer_frame(&peer, &frame));
        assert_int_equal(frame.command, ES_STREAM_EVENT_APPEARED);
        unsigned which = 0;
        while (!es_id_equal(&frame.correlation, &ids[which]))
            which++;
        assert_int_equal(es_message_decode(frame.body, &es_stream_event_appeared_type, &message),
                         0);
        assert_int_equal(message.event.event.event_number, next[which]++);
    }
    es_peer_close(&writer);
    end();
}

/* --- groups ---- */

static const struct es_persistent_subscription_settings group_settings = {
    .subscription_group_name = {(const uint8_t *)"g", 1},
    .event_stream_id = {(const uint8_t *)"s", 1},
    .message_timeout_milliseconds = 30000,
    .live_buffer_size = 500,
    .read_batch_size = 20,
    .buffer_size = 500,
    .max_retry_count = 10,
    .prefer_round_robin = true,
    .checkpoint_after_time = 1000,
    .checkpoint_max_count = 1000,
    .checkpoint_min_count = 10,
};

static int64_t change_group(uint8_t command, const void *message)
{
    struct es_persistent_subscription_completed answer;
    struct es_id id = es_peer_ask(&peer, command, message);
    es_peer_expect(&peer, command + 1, &id, &answer);
    return answer.result;
}

static const struct es_connect_to_persistent_subscription connect_to_group = {
    .subscription_id = {(const uint8_t *)"g", 1},
    .event_stream_id = {(const uint8_t *)"s", 1},
    .allowed_in_flight_messages = 2,
};

/* Deleting it drops its consumer, whose id is given. */
static void delete_group(const struct es_id *consumer)
{
    struct es_subscription_dropped dropped;
    const struct es_delete_persistent_subscription delete = {.subscription_group_name = S("g"),
                                                             .event_stream_id = S("s")};
    struct es_id deleting = es_peer_ask(&peer, ES_DELETE_GROUP, &delete);
    es_peer_flush(&peer);
    for (unsigned i = 0; i < 2; i++) { /* in either order */
        struct es_frame frame;
        assert_true(es_peer_frame(&peer, &frame));
        assert_true(es_id_equal(&frame.correlation, consumer) ||
                    es_id_equal(&frame.correlation, &deleting));
        if (frame.command == ES_SUBSCRIPTION_DROPPED)
            assert_int_equal(es_message_decode(frame.body, &es_subscription_dropped_type, &dropped),
                             0);
    }
    assert_int_equal(change_group(ES_DELETE_GROUP, &delete), ES_GROUP_EXISTS_OR_NOT);
    struct es_id id = es_peer_ask(&peer, ES_CONNECT_TO_GROUP, &connect_to_group);
    es_peer_expect(&peer, ES_SUBSCRIPTION_DROPPED, &id, &dropped);
    assert_int_equal(dropped.reason, ES_DROP_NOT_FOUND);
}

static void groups(void **state)
{
    (void)state;
    begin(true);
    struct es_persistent_subscription_settings wrong = group_settings;
    wrong.named_consumer_strategy = S("NoSuchStrategy");
    assert_int_equal(change_group(ES_CREATE_GROUP, &wrong), ES_GROUP_FAIL);
    assert_int_equal(change_group(ES_CREATE_GROUP, &group_settings), ES_GROUP_SUCCESS);
    assert_int_equal(change_group(ES_CREATE_GROUP, &group_settings), ES_GROUP_EXISTS_OR_NOT);
    assert_int_equal(es_peer_write(&peer, "s", ES_VERSION_ANY, 5, S("x")), ES_SUCCESS);

    struct es_persistent_subscription_confirmation confirmed;
    struct es_id id = es_peer_ask(&peer, ES_CONNECT_TO_GROUP, &connect_to_group);
    es_peer_expect(&peer, ES_GROUP_CONFIRMATION, &id, &confirmed);
    assert_slice_equal(confirmed.subscription_id, "s::g");
    uint8_t ids[5][16];
    for (int64_t number = 0; number < 5; number++) {
        struct es_persistent_subscription_event_appeared message;
        es_peer_expect(&peer, ES_GROUP_EVENT_APPEARED, &id, &message);
        assert_int_equal(message.event.event.event_number, number);
        memcpy(ids[number], message.event.event.event_id.data, 16);
        if (number % 2 == 0)
            continue; /* two are in flight: acknowledged together they make room for two */
        kvs_slice both[2] = {slice_make(ids[number - 1], 16), slice_make(ids[number], 16)};
        const struct es_persistent_subscription_ack_events ack = {
            .subscription_id = S("s::g"), .processed_event_ids = {.items = both, .count = 2}};
        /* Once as most do it, once as the Rust client: with an id of its own. */
        if (number == 1)
            assert_int_equal(es_send(&peer.out, ES_GROUP_ACK_EVENTS, &id, NULL, &ack), 0);
        else
            es_peer_ask(&peer, ES_GROUP_ACK_EVENTS, &ack);
    }
    /* The last is refused, and comes again. */
    kvs_slice last = slice_make(ids[4], 16);
    const struct es_persistent_subscription_nak_events nak = {
        .subscription_id = S("s::g"),
        .processed_event_ids = {.items = &last, .count = 1},
        .action = ES_NAK_RETRY};
    assert_int_equal(es_send(&peer.out, ES_GROUP_NAK_EVENTS, &id, NULL, &nak), 0);
    struct es_persistent_subscription_event_appeared again;
    es_peer_expect(&peer, ES_GROUP_EVENT_APPEARED, &id, &again);
    assert_int_equal(again.event.event.event_number, 4);
    assert_int_equal(again.retry_count, 1);

    delete_group(&id);
    end();
}

/* It breaks whoever gets it: in the end it is parked. */
static void events_of_lost_connections_are_parked(void **state)
{
    (void)state;
    begin(true);
    struct es_persistent_subscription_settings settings = group_settings;
    settings.max_retry_count = 1;
    assert_int_equal(change_group(ES_CREATE_GROUP, &settings), ES_GROUP_SUCCESS);
    assert_int_equal(es_peer_write(&peer, "s", ES_VERSION_ANY, 1, S("x")), ES_SUCCESS);
    struct es_persistent_subscription_event_appeared message;
    for (int64_t i = 0; i < 2; i++) {
        struct es_id id = es_peer_ask(&peer, ES_CONNECT_TO_GROUP, &connect_to_group);
        es_peer_expect(&peer, ES_GROUP_CONFIRMATION, &id, NULL);
        es_peer_expect(&peer, ES_GROUP_EVENT_APPEARED, &id, &message);
        assert_int_equal(message.event.event.event_number, 0);
        assert_int_equal(message.retry_count, i);
        es_peer_close(&peer);
        es_peer_connect(&peer, kvs_server_eventstore_address(server));
    }
    while (event_result("$persistentsubscription-s::g-parked", 0) != ES_READ_EVENT_SUCCESS)
        ;
    struct es_id id = es_peer_ask(&peer, ES_CONNECT_TO_GROUP, &connect_to_group);
    es_peer_expect(&peer, ES_GROUP_CONFIRMATION, &id, NULL);
    es_peer_ask_write(&peer, "s", ES_VERSION_ANY, 1, S("y"));
    es_peer_flush(&peer);
    struct es_frame frame;
    do
        assert_true(es_peer_frame(&peer, &frame));
    while (frame.command != ES_GROUP_EVENT_APPEARED);
    assert_int_equal(
        es_message_decode(frame.body, &es_persistent_subscription_event_appeared_type, &message),
        0);
    assert_int_equal(message.event.event.event_number, 1);
    assert_int_equal(message.retry_count, 0);
    end();
}

/* --- restart ---- */

static void what_was_acknowledged_is_there_after_a_restart(void **state)
{
    (void)state;
    char directory[64];
    directory_make(directory);
    const struct kvs_server_options options = {
        .eventstore = "127.0.0.1:0", .insecure = true, .engine = "kvs", .directory = directory};
    for (int64_t round = 0; round < 3; round++) {
        server = server_start(&options);
        es_peer_connect(&peer, kvs_server_eventstore_address(server));
        assert_int_equal(es_peer_write(&peer, "s", round * 10 - 1, 10, S("x")), ES_SUCCESS);
        assert_int_equal(event_result("s", round * 10 + 9), ES_READ_EVENT_SUCCESS);
        assert_int_equal(event_result("s", 0), ES_READ_EVENT_SUCCESS);
        end();
    }
    directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_written_and_read),
        cmocka_unit_test(wrong_versions_say_the_right_one),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(numbers_for_old_clients),
        cmocka_unit_test(the_log_has_two_ends),
        cmocka_unit_test(filtered_reads),
        cmocka_unit_test(transactions),
        cmocka_unit_test(logins),
        cmocka_unit_test(another_user_of_the_name_is_not_he),
        cmocka_unit_test(logins_do_not_overtake),
        cmocka_unit_test(a_connection_has_its_users_rights),
        cmocka_unit_test(strangers_may_not),
        cmocka_unit_test(subscriptions_begin_exactly),
        cmocka_unit_test(the_log_can_be_subscribed_to),
        cmocka_unit_test(filtered_subscriptions_tell_how_far_they_are),
        cmocka_unit_test(slow_subscribers_lose_nothing),
        cmocka_unit_test(groups),
        cmocka_unit_test(events_of_lost_connections_are_parked),
        cmocka_unit_test(what_was_acknowledged_is_there_after_a_restart),
    };
    return cmocka_run_group_tests_name("server/eventstore", tests, NULL, NULL);
}
