/*
 * client/eventstore/ against scripted servers: the greeting, calls and their outcomes, a connection
 * that is lost at every point, another node, heartbeats, bytes that come one by one.
 */
#include "es_script.h"
#include "events_patient.h"

#include <kvs/events.h>
#include <kvs/kvs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

static kvs_runtime *runtime;
static struct scripted_server server;
static struct scripted_server other;

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

static int open_url(const char *url, const struct kvs_events_options *options,
                    kvs_events **ret_events, char *message)
{
    kvs_future *future = kvs_events_open(runtime, url, options);
    assert_non_null(future);
    int error = kvs_future_wait(future, -1);
    void *pointer = NULL;
    if (error == 0)
        assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    *ret_events = pointer;
    snprintf(message, 400, "%s", kvs_future_error_message(future));
    kvs_future_free(future);
    return error;
}

static kvs_events *open_good(const char *rest, const struct kvs_events_options *options)
{
    const struct kvs_events_options patient = events_patient();
    kvs_events *events;
    char message[400];
    if (options == NULL)
        options = &patient;
    if (open_url(es_script_url(&server, rest), options, &events, message) != 0)
        fail_msg("%s", message);
    return events;
}

static void close_events(kvs_events *events)
{
    assert_int_equal(wait_and_free(kvs_events_close(events)), 0);
}

static void assert_said(const char *message, const char *part)
{
    if (strstr(message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", message, part);
}

static kvs_future *append(kvs_events *events, int64_t expected, const char *data)
{
    const kvs_new_event event = {
        .type = kvs_slice_of("happened"), .data = kvs_slice_of(data), .is_json = true};
    return kvs_events_append(events, kvs_slice_of("s"), expected, &event, 1, NULL);
}

/* --- opening -----------------------------------------------------------------------------------
 */

static void assert_open_fails(const char *url, int error, const char *said)
{
    kvs_events *events;
    char message[400];
    int got = open_url(url, NULL, &events, message);
    if (got != error)
        fail_msg("%s: %s: %s", url, kvs_error_name(got), message);
    assert_said(message, said);
}

static void test_urls_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        const char *said;
    } cases[] = {
        {"", "known are"},
        {"http://x", "known are"},
        {"log:", "needs a directory"},
        {"rocksdb:", "rocksdb: needs a directory"},
        {"memory:x", "nothing behind"},
        {"esdb://", "host is missing"},
        {"esdb://h:0", "no port"},
        {"esdb://h:65536", "no port"},
        {"esdb://h:1x", "no port"},
        {"esdb://[::1", "not closed"},
        {"esdb://h,", "host is missing"},
        {"esdb://:p@h", "USER:PASSWORD"},
        {"esdb://u%zz:p@h", "percent-encoded"},
        {"esdb://u%2:p@h", "percent-encoded"},
        {"esdb://h/x", "nothing may stand behind"},
        {"esdb://h?tls", "NAME=VALUE"},
        {"esdb://h?tls=maybe", "true or false"},
        {"esdb://h?color=red", "no option"},
        {"esdb://h?keepAliveInterval=1x", "a number"},
        {"esdb://h?httpPort=65536", "a port"},
        {"esdb://h?httpPort=0", "a port"},
        {"esdb://h?nodePreference=best", "known are leader"},
        {"esdb://h?tlsCa=file", "tlsCaFile"},
        {"esdb://h!", "cannot be part"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_open_fails(cases[i].url, KVS_ERR_INVALID_ARGUMENT, cases[i].said);
}

static void script_none(struct scripted_server *self, unsigned number)
{
    (void)self;
    (void)number;
}

static void script_http(struct scripted_server *self, unsigned number)
{
    (void)number;
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    script_send(self, text, sizeof text - 1);
    script_read_to_end(self);
}

static void script_wrong_password(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    if (es_script_expect(self, ES_AUTHENTICATE, &frame))
        es_script_send_text(self, ES_NOT_AUTHENTICATED, &frame.correlation, "who?");
    script_read_to_end(self);
}

static void script_bad_request(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_id zero = {0};
    es_script_send_text(self, ES_BAD_REQUEST, &zero, "go away\n");
    script_read_to_end(self);
}

static void test_openings_that_fail_say_why(void **state)
{
    (void)state;
    assert_open_fails("esdb://127.0.0.1:1", KVS_ERR_CONNECT, "is the server running?");
    assert_open_fails("esdb://no-such-host.invalid", KVS_ERR_ADDRESS, "no-such-host.invalid");
    scripted_server_start(&server, script_none);
    assert_open_fails(es_script_url(&server, ""), KVS_ERR_CONNECTION_LOST, "127.0.0.1:");
    scripted_server_stop(&server);
    scripted_server_start(&server, script_http);
    assert_open_fails(es_script_url(&server, ""), KVS_ERR_PROTOCOL, "does not speak");
    assert_open_fails(es_script_url(&server, "?tls=true"), KVS_ERR_PROTOCOL, "TLS");
    scripted_server_stop(&server);
    scripted_server_start(&server, script_bad_request);
    assert_open_fails(es_script_url(&server, ""), KVS_ERR_PROTOCOL, "go away?");
    scripted_server_stop(&server);
    scripted_server_start(&server, script_wrong_password);
    char url[100];
    snprintf(url, sizeof url, "esdb://admin:no%%3Ape@127.0.0.1:%u", server.port);
    assert_open_fails(url, KVS_ERR_NOT_AUTHENTICATED, "who?");
    scripted_server_stop(&server);
}

static void script_silent(struct scripted_server *self, unsigned number)
{
    (void)number;
    script_read_to_end(self);
}

static void test_a_silent_server_is_given_up(void **state)
{
    (void)state;
    kvs_events *events;
    char message[400];
    scripted_server_start(&server, script_silent);
    const char *url = es_script_url(&server, "?connectTimeout=50");
    assert_int_equal(open_url(url, NULL, &events, message), KVS_ERR_CONNECT);
    assert_said(message, "within 50 ms");
    scripted_server_stop(&server);
}

/* --- calls -------------------------------------------------------------------------------------
 */

static bool answer_any(struct scripted_server *self, const struct es_frame *frame);

static void script_answers(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame) && answer_any(self, &frame))
        scripted_server_step(self);
}

static bool answer_any(struct scripted_server *self, const struct es_frame *frame)
{
    const struct es_id *id = &frame->correlation;
    struct es_write_events write;
    const struct es_read_event_completed read = {
        .event = {.has_event = true, .event = es_script_record("s", 7)}};
    const struct es_delete_stream_completed deleted = {
        .has_commit_position = true, .commit_position = 9, .prepare_position = 9};
    const struct es_transaction_start_completed started = {.transaction_id = 77};
    const struct es_transaction_commit_completed committed = {.first_event_number = 1,
                                                              .last_event_number = 2};
    const struct es_persistent_subscription_completed group = {.result = ES_GROUP_SUCCESS};
    const struct es_scavenge_database_response scavenge = {.scavenge_id = slice_of_string("abc")};
    switch (frame->command) {
    case ES_WRITE_EVENTS:
        if (es_message_decode(frame->body, &es_write_events_type, &write) != 0)
            return false;
        return es_script_append_ok(self, frame, write.expected_version + 1);
    case ES_READ_EVENT:
        return es_script_send(self, ES_READ_EVENT_COMPLETED, id, &read);
    case ES_READ_STREAM_FORWARD:
        return es_script_page(self, frame, 99);
    case ES_DELETE_STREAM:
        return es_script_send(self, ES_DELETE_STREAM_COMPLETED, id, &deleted);
    case ES_TRANSACTION_START:
        return es_script_send(self, ES_TRANSACTION_START_COMPLETED, id, &started);
    case ES_TRANSACTION_WRITE:
        return es_script_send(self, ES_TRANSACTION_WRITE_COMPLETED, id, &started);
    case ES_TRANSACTION_COMMIT:
        return es_script_send(self, ES_TRANSACTION_COMMIT_COMPLETED, id, &committed);
    case ES_CREATE_GROUP:
    case ES_DELETE_GROUP:
    case ES_UPDATE_GROUP:
        return es_script_send(self, (uint8_t)(frame->command + 1), id, &group);
    case ES_SCAVENGE_DATABASE:
        return es_script_send(self, ES_SCAVENGE_DATABASE_RESPONSE, id, &scavenge);
    case ES_PING:
        return es_script_send(self, ES_PONG, id, NULL);
    default:
        return false;
    }
}

static void assert_reads_are_answered(kvs_events *events)
{
    void *pointer;
    kvs_future *future = kvs_events_read_event(events, kvs_slice_of("s"), 7, 0, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    const kvs_resolved_event *resolved = pointer;
    assert_null(resolved->link);
    const kvs_event *event = kvs_original_event(resolved);
    assert_int_equal(event->number, 7);
    assert_slice_equal(event->stream, "s");
    assert_slice_equal(event->type, "happened");
    assert_slice_equal(event->data, "7");
    assert_true(event->is_json);
    assert_int_equal(event->created_ms, 1700000000007);
    kvs_future_free(future);

    future = kvs_events_read_stream(events, kvs_slice_of("s"), 95, 10, 0, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    const kvs_event_page *page = pointer;
    assert_int_equal(page->count, 5);
    assert_int_equal(page->events[4].event->number, 99);
    assert_true(page->is_end);
    assert_int_equal(page->next_number, 100);
    kvs_future_free(future);
}

static void test_calls_are_answered(void **state)
{
    (void)state;
    scripted_server_start(&server, script_answers);
    kvs_events *events = open_good("", NULL);
    void *pointer;
    kvs_future *future = append(events, 41, "{}");
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    const kvs_write_result *write = pointer;
    assert_int_equal(write->first_number, 42);
    assert_int_equal(write->position.commit, 4300);
    kvs_future_free(future);
    assert_reads_are_answered(events);

    int64_t transaction;
    future = kvs_events_transaction_start(events, kvs_slice_of("s"), KVS_EXPECT_ANY, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_number(future, &transaction), 0);
    assert_int_equal(transaction, 77);
    kvs_future_free(future);
    assert_int_equal(wait_and_free(kvs_events_transaction_write(events, 77, NULL, 0, NULL)), 0);
    assert_int_equal(wait_and_free(kvs_events_transaction_commit(events, 77, NULL)), 0);
    kvs_slice s = kvs_slice_of("s"), g = kvs_slice_of("g");
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    assert_int_equal(wait_and_free(kvs_events_delete(events, s, 5, true, NULL)), 0);
    assert_int_equal(wait_and_free(kvs_events_create_group(events, s, g, &settings, NULL)), 0);
    assert_int_equal(wait_and_free(kvs_events_update_group(events, s, g, &settings, NULL)), 0);
    assert_int_equal(wait_and_free(kvs_events_delete_group(events, s, g, NULL)), 0);
    assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), 0);
    future = kvs_events_scavenge(events, NULL);
    kvs_slice value;
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_value(future, &value), 0);
    assert_slice_equal(value, "abc");
    kvs_future_free(future);
    close_events(events);
    scripted_server_stop(&server);
}

/* Answers each read of $all with a page of nothing, which leads behind what EventStoreDB keeps for
 * itself; there is no more at 200. */
static void script_hides_events(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    struct es_read_all_events read;
    (void)number;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame) &&
           (frame.command == ES_READ_ALL_FORWARD || frame.command == ES_READ_ALL_BACKWARD) &&
           es_message_decode(frame.body, &es_read_all_events_type, &read) == 0) {
        const struct es_read_all_events_completed page = {
            .commit_position = read.commit_position,
            .prepare_position = read.prepare_position,
            .next_commit_position = frame.command == ES_READ_ALL_FORWARD ? 200 : 0,
        };
        es_script_send(self, (uint8_t)(frame.command + 1), &frame.correlation, &page);
    }
}

static bool all_ends(kvs_events *events, kvs_position from, unsigned flags)
{
    void *pointer;
    kvs_future *future = kvs_events_read_all(events, from, 1, flags, NULL, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    const kvs_event_page *page = pointer;
    assert_int_equal(page->count, 0);
    bool ends = page->is_end;
    kvs_future_free(future);
    return ends;
}

static void test_a_page_of_nothing_is_not_the_end(void **state)
{
    (void)state;
    scripted_server_start(&server, script_hides_events);
    kvs_events *events = open_good("", NULL);
    assert_false(all_ends(events, KVS_POSITION_START, 0));
    assert_true(all_ends(events, (kvs_position){200, 0}, 0));
    assert_false(all_ends(events, (kvs_position){200, 0}, KVS_READ_BACKWARD));
    assert_true(all_ends(events, (kvs_position){0, 0}, KVS_READ_BACKWARD));
    close_events(events);
    scripted_server_stop(&server);
}

static void test_misuse_is_refused_before_it_is_sent(void **state)
{
    (void)state;
    scripted_server_start(&server, script_answers);
    kvs_events *events = open_good("", NULL);
    kvs_slice s = kvs_slice_of("s"), none = {0};
    kvs_new_event event = {.type = kvs_slice_of("t")};
    kvs_new_event untyped = {.data = kvs_slice_of("d")};
    kvs_new_event large = {.type = kvs_slice_of("t"), .data = {s.data, KVS_EVENT_SIZE_MAX}};
    kvs_call_options unsized = {0};
    kvs_group_settings settings = KVS_GROUP_SETTINGS_INIT;
    settings.read_batch_count = settings.history_buffer_count;
    kvs_future *refused[] = {
        kvs_events_append(events, none, -2, &event, 1, NULL),
        kvs_events_append(events, s, -3, &event, 1, NULL),
        kvs_events_append(events, s, -2, &untyped, 1, NULL),
        kvs_events_append(events, s, -2, NULL, 1, NULL),
        kvs_events_append(events, s, -2, &event, 1, &unsized),
        kvs_events_read_event(events, s, -2, 0, NULL),
        kvs_events_read_stream(events, s, -1, 1, 0, NULL),
        kvs_events_read_stream(events, s, 0, 0, 0, NULL),
        kvs_events_read_stream(events, s, 0, KVS_EVENTS_PAGE_MAX + 1, 0, NULL),
        kvs_events_read_stream(events, s, 0, 1, 64, NULL),
        kvs_events_read_all(events, (kvs_position){-1, 0}, 1, 0, NULL, NULL),
        kvs_events_read_all(events, (kvs_position){1, 2}, 1, 0, NULL, NULL),
        kvs_events_read_all(events, KVS_POSITION_START, 1, 0, &(kvs_event_filter){0}, NULL),
        kvs_events_create_group(events, s, none, NULL, NULL),
        kvs_events_create_group(events, s, s, &settings, NULL),
        kvs_events_set_metadata(events, s, -2, kvs_slice_of("[1]"), NULL),
        kvs_events_set_metadata(events, s, -2, kvs_slice_of("{"), NULL),
        kvs_events_change_user(events, KVS_USER_CREATE, &(kvs_user){.login = "x"}, NULL),
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int error = wait_and_free(refused[i]);
        if (error != KVS_ERR_INVALID_ARGUMENT)
            fail_msg("case %zu: %s", i, kvs_error_name(error));
    }
    assert_int_equal(wait_and_free(kvs_events_append(events, s, -2, &large, 1, NULL)),
                     KVS_ERR_TOO_LARGE);
    assert_int_equal(atomic_load(&server.steps), 0);
    close_events(events);
    scripted_server_stop(&server);
}

/* --- outcomes ----------------------------------------------------------------------------------
 */

static int64_t script_result;

static void script_write_result(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    if (!es_script_greet(self))
        return;
    while (es_script_expect(self, ES_WRITE_EVENTS, &frame)) {
        const struct es_write_events_completed done = {
            .result = script_result,
            .message = slice_of_string("in its own words\x01"),
            .first_event_number = -1,
            .last_event_number = -1,
            .has_current_version = true,
            .current_version = 12,
        };
        es_script_send(self, ES_WRITE_EVENTS_COMPLETED, &frame.correlation, &done);
    }
}

static void test_outcomes_of_a_write(void **state)
{
    (void)state;
    static const int errors[] = {
        [ES_WRONG_EXPECTED_VERSION] = KVS_ERR_WRONG_EXPECTED_VERSION,
        [ES_STREAM_DELETED] = KVS_ERR_STREAM_DELETED,
        [ES_INVALID_TRANSACTION] = KVS_ERR_NOT_FOUND,
        [ES_ACCESS_DENIED] = KVS_ERR_ACCESS_DENIED,
        [ES_ACCESS_DENIED + 1] = KVS_ERR_OUTCOME_UNKNOWN, /* a result that nobody knows */
    };
    for (int i = ES_WRONG_EXPECTED_VERSION; i <= ES_ACCESS_DENIED + 1; i++) {
        script_result = i;
        scripted_server_start(&server, script_write_result);
        kvs_events *events = open_good("", NULL);
        kvs_future *future = append(events, 3, "{}");
        int64_t current = 0;
        assert_int_equal(kvs_future_wait(future, -1), errors[i]);
        if (i == ES_WRONG_EXPECTED_VERSION) {
            assert_said(kvs_future_error_message(future), "in its own words?");
            kvs_future_get_number(future, &current);
            assert_int_equal(current, 12);
        }
        kvs_future_free(future);
        close_events(events);
        scripted_server_stop(&server);
    }
}

/* Refuses the first two times, then a little indecisive, then answers. */
static void script_not_ready(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    const struct es_not_handled not_ready = {.reason = ES_NOT_READY};
    const struct es_not_handled busy = {.reason = ES_TOO_BUSY};
    const struct es_write_events_completed timeout = {.result = ES_COMMIT_TIMEOUT};
    uint8_t first_event[16];
    struct es_id ids[4];
    if (!es_script_greet(self))
        return;
    for (unsigned i = 0; i < 4; i++) {
        struct es_write_events write;
        struct es_new_event event;
        if (!es_script_expect(self, ES_WRITE_EVENTS, &frame) ||
            es_message_decode(frame.body, &es_write_events_type, &write) != 0 ||
            es_list_next(&write.events, &es_new_event_type, &event) != 1)
            return;
        ids[i] = frame.correlation;
        if (i == 0)
            memcpy(first_event, event.event_id.data, sizeof first_event);
        /* The same event, under an id of its own each time. */
        if (memcmp(first_event, event.event_id.data, sizeof first_event) != 0 ||
            (i > 0 && es_id_equal(&ids[i], &ids[i - 1])))
            return;
        if (i == 0)
            es_script_send(self, ES_NOT_HANDLED, &frame.correlation, &not_ready);
        else if (i == 1)
            es_script_send(self, ES_NOT_HANDLED, &frame.correlation, &busy);
        else if (i == 2)
            es_script_send(self, ES_WRITE_EVENTS_COMPLETED, &frame.correlation, &timeout);
        else
            es_script_append_ok(self, &frame, 4);
    }
    script_read_to_end(self);
}

static void test_what_a_node_does_not_take_is_sent_again(void **state)
{
    (void)state;
    scripted_server_start(&server, script_not_ready);
    kvs_events *events = open_good("", NULL);
    assert_int_equal(wait_and_free(append(events, 3, "{}")), 0);
    close_events(events);
    scripted_server_stop(&server);
}

#define REFUSED 3u
static atomic_bool refused_in_order;

static bool read_write(struct scripted_server *self, struct es_id *ret_id, kvs_event_id *ret_event)
{
    struct es_frame frame;
    struct es_write_events write;
    struct es_new_event event;
    if (!es_script_expect(self, ES_WRITE_EVENTS, &frame) ||
        es_message_decode(frame.body, &es_write_events_type, &write) != 0 ||
        es_list_next(&write.events, &es_new_event_type, &event) != 1)
        return false;
    *ret_id = frame.correlation;
    memcpy(ret_event->bytes, event.event_id.data, sizeof ret_event->bytes);
    return true;
}

/* Takes none of what it was sent at once; then all of it. */
static void script_none_is_taken(struct scripted_server *self, unsigned number)
{
    (void)number;
    const struct es_not_handled not_ready = {.reason = ES_NOT_READY};
    const struct es_write_events_completed done = {.result = ES_SUCCESS};
    struct es_id ids[REFUSED];
    kvs_event_id events[REFUSED], again;
    bool goes_on = es_script_greet(self), in_order = true;
    for (unsigned i = 0; i < REFUSED && goes_on; i++)
        goes_on = read_write(self, &ids[i], &events[i]);
    for (unsigned i = 0; i < REFUSED && goes_on; i++)
        es_script_send(self, ES_NOT_HANDLED, &ids[i], &not_ready);
    for (unsigned i = 0; i < REFUSED && goes_on; i++) {
        goes_on = read_write(self, &ids[i], &again);
        in_order = in_order && memcmp(&again, &events[i], sizeof again) == 0;
    }
    atomic_store(&refused_in_order, in_order && goes_on);
    for (unsigned i = 0; i < REFUSED; i++)
        es_script_send(self, ES_WRITE_EVENTS_COMPLETED, &ids[i], &done);
    script_read_to_end(self);
}

static void test_what_a_node_does_not_take_keeps_its_order(void **state)
{
    (void)state;
    kvs_future *futures[REFUSED];
    scripted_server_start(&server, script_none_is_taken);
    kvs_events *events = open_good("", NULL);
    for (unsigned i = 0; i < REFUSED; i++)
        futures[i] = append(events, (int)i, "{}");
    for (unsigned i = 0; i < REFUSED; i++)
        assert_int_equal(wait_and_free(futures[i]), 0);
    assert_true(atomic_load(&refused_in_order));
    close_events(events);
    scripted_server_stop(&server);
}

static void script_not_leader(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    struct es_leader_info info = {
        .has_external_tcp_port = true,
        .external_tcp_address = slice_of_string("127.0.0.1"),
        .external_tcp_port = other.port,
        .http_address = slice_of_string("127.0.0.1"),
    };
    struct buf bytes = BUF_INIT;
    if (es_message_append(&bytes, &es_leader_info_type, &info) != 0 || !es_script_greet(self))
        return;
    const struct es_not_handled wire = {.reason = ES_NOT_LEADER,
                                        .additional_info = buf_slice(&bytes)};
    while (es_script_read(self, &frame))
        es_script_send(self, ES_NOT_HANDLED, &frame.correlation, &wire);
    buf_deinit(&bytes);
}

static void test_what_the_leader_alone_takes_goes_there(void **state)
{
    (void)state;
    scripted_server_start(&other, script_answers);
    scripted_server_start(&server, script_not_leader);
    kvs_events *events = open_good("", NULL);
    assert_int_equal(wait_and_free(append(events, 3, "{}")), 0);
    assert_int_equal(wait_and_free(append(events, 4, "{}")), 0);
    assert_int_equal(atomic_load(&server.connections), 1);
    close_events(events);
    scripted_server_stop(&server);
    scripted_server_stop(&other);
}

/* --- a connection that is lost -----------------------------------------------------------------
 */

/* The first connection ends when three calls have come; the second one answers. */
static void script_lost_after_three(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    if (number > 0) {
        script_answers(self, number);
        return;
    }
    if (!es_script_greet(self))
        return;
    for (unsigned i = 0; i < 3; i++)
        es_script_read(self, &frame);
}

static void test_a_lost_connection(void **state)
{
    (void)state;
    scripted_server_start(&server, script_lost_after_three);
    kvs_events *events = open_good("", NULL);
    kvs_future *first = append(events, 0, "{}");
    kvs_future *second = append(events, 1, "{}");
    kvs_future *deleted = kvs_events_delete(events, kvs_slice_of("s"), -2, false, NULL);
    assert_int_equal(wait_and_free(first), 0);
    assert_int_equal(wait_and_free(second), 0);
    assert_int_equal(kvs_future_wait(deleted, -1), KVS_ERR_OUTCOME_UNKNOWN);
    kvs_future_free(deleted);
    close_events(events);
    scripted_server_stop(&server);
}

/* The first connection ends when a write has come; the second one refuses it. */
static void script_refuses_when_sent_again(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    if (number > 0) {
        script_write_result(self, number);
        return;
    }
    if (es_script_greet(self))
        es_script_expect(self, ES_WRITE_EVENTS, &frame);
}

/* Only with a number did the server compare what is there with what is sent. */
static void test_a_refusal_when_sent_again(void **state)
{
    (void)state;
    static const struct {
        int64_t expected;
        int result;
        int error;
    } cases[] = {
        {3, ES_WRONG_EXPECTED_VERSION, KVS_ERR_WRONG_EXPECTED_VERSION},
        {KVS_EXPECT_NO_STREAM, ES_WRONG_EXPECTED_VERSION, KVS_ERR_OUTCOME_UNKNOWN},
        {KVS_EXPECT_ANY, ES_STREAM_DELETED, KVS_ERR_OUTCOME_UNKNOWN},
        {3, ES_STREAM_DELETED, KVS_ERR_OUTCOME_UNKNOWN},
        {3, ES_ACCESS_DENIED, KVS_ERR_OUTCOME_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        script_result = cases[i].result;
        scripted_server_start(&server, script_refuses_when_sent_again);
        kvs_events *events = open_good("", NULL);
        assert_int_equal(wait_and_free(append(events, cases[i].expected, "{}")), cases[i].error);
        close_events(events);
        scripted_server_stop(&server);
    }
}

/* Greets, and never answers anything. */
static void script_greets(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    if (!es_script_greet(self))
        return;
    while (es_script_read(self, &frame))
        scripted_server_step(self);
}

static void test_deadlines_and_cancelling(void **state)
{
    (void)state;
    scripted_server_start(&server, script_greets);
    kvs_events *events = open_good("", NULL);
    const kvs_call_options soon = {.size = sizeof soon, .timeout_ms = 30};
    kvs_new_event event = {.type = kvs_slice_of("t")};
    kvs_slice s = kvs_slice_of("s");
    assert_int_equal(wait_and_free(kvs_events_read_event(events, s, 0, 0, &soon)), KVS_ERR_TIMEOUT);
    /* It was sent: whether it was written, nobody knows. */
    assert_int_equal(wait_and_free(kvs_events_append(events, s, -2, &event, 1, &soon)),
                     KVS_ERR_OUTCOME_UNKNOWN);
    kvs_future *read = kvs_events_read_event(events, s, 0, 0, NULL);
    kvs_future *write = kvs_events_append(events, s, -2, &event, 1, NULL);
    scripted_server_await(&server, 4);
    kvs_future_cancel(read);
    kvs_future_cancel(write);
    assert_int_equal(wait_and_free(read), KVS_ERR_CANCELLED);
    assert_int_equal(wait_and_free(write), KVS_ERR_OUTCOME_UNKNOWN);
    /* What is under way when it closes ends. */
    read = kvs_events_read_event(events, s, 0, 0, NULL);
    write = kvs_events_append(events, s, -2, &event, 1, NULL);
    scripted_server_await(&server, 6);
    close_events(events);
    assert_int_equal(wait_and_free(read), KVS_ERR_CLOSED);
    assert_int_equal(wait_and_free(write), KVS_ERR_OUTCOME_UNKNOWN);
    scripted_server_stop(&server);
}

/* Who gets no answer is told whether anything comes at all. */
static void test_silence_is_told(void **state)
{
    (void)state;
    scripted_server_start(&server, script_greets);
    kvs_events *events = open_good("", NULL);
    const kvs_call_options soon = {.size = sizeof soon, .timeout_ms = 600};
    kvs_future *read = kvs_events_read_event(events, kvs_slice_of("s"), 0, 0, &soon);
    assert_int_equal(kvs_future_wait(read, -1), KVS_ERR_TIMEOUT);
    char expected[100];
    snprintf(expected, sizeof expected, "127.0.0.1:%u: no answer in time; nothing has come from",
             server.port);
    const char *why = kvs_future_error_message(read);
    if (strstr(why, expected) != why)
        fail_msg("%s", why);
    kvs_future_free(read);
    close_events(events);
    scripted_server_stop(&server);
}

/* What comes after the first: an answer that came too late for its attempt is not the last. */
static void script_answers_second_attempt(struct scripted_server *self, unsigned number)
{
    struct es_frame first, later;
    (void)number;
    if (!es_script_greet(self) || !es_script_read(self, &first))
        return;
    while (es_script_read(self, &later))
        answer_any(self, &later);
}

static void test_a_read_without_an_answer_is_asked_again(void **state)
{
    (void)state;
    scripted_server_start(&server, script_answers_second_attempt);
    const struct kvs_events_options options = {.size = sizeof options, .attempt_timeout_ms = 30};
    kvs_events *events = open_good("", &options);
    kvs_future *read = kvs_events_read_event(events, kvs_slice_of("s"), 0, 0, NULL);
    assert_int_equal(wait_and_free(read), 0);
    close_events(events);
    scripted_server_stop(&server);
}

static void test_it_gives_up_when_it_is_told_to(void **state)
{
    (void)state;
    scripted_server_start(&server, script_greets);
    kvs_events *events = open_good("?maxReconnects=3", NULL);
    kvs_future *read = kvs_events_read_event(events, kvs_slice_of("s"), 0, 0, NULL);
    scripted_server_await(&server, 1);
    scripted_server_stop(&server);
    assert_int_equal(kvs_future_wait(read, -1), KVS_ERR_CONNECT);
    assert_said(kvs_future_error_message(read), "cannot connect");
    kvs_future_free(read);
    assert_int_equal(wait_and_free(kvs_events_ping(events, NULL)), KVS_ERR_CLOSED);
    close_events(events);
}

/* --- users -------------------------------------------------------------------------------------
 */

static void script_credentials(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    if (!es_script_expect(self, ES_AUTHENTICATE, &frame) || !frame.has_credentials ||
        !slice_equal(frame.credentials.login, slice_of_string("ad:min")) ||
        !slice_equal(frame.credentials.password, slice_of_string("change@it")))
        return;
    es_script_send(self, ES_AUTHENTICATED, &frame.correlation, NULL);
    if (!es_script_greet(self) || !es_script_expect(self, ES_WRITE_EVENTS, &frame) ||
        frame.has_credentials || !es_script_append_ok(self, &frame, 0))
        return;
    if (es_script_expect(self, ES_WRITE_EVENTS, &frame) && frame.has_credentials &&
        slice_equal(frame.credentials.login, slice_of_string("joe")))
        es_script_send_text(self, ES_NOT_AUTHENTICATED, &frame.correlation, "who is joe?");
    script_read_to_end(self);
}

static void test_credentials(void **state)
{
    (void)state;
    kvs_events *events;
    char message[400], url[100];
    scripted_server_start(&server, script_credentials);
    snprintf(url, sizeof url, "esdb://ad%%3amin:change%%40it@127.0.0.1:%u", server.port);
    if (open_url(url, NULL, &events, message) != 0)
        fail_msg("%s", message);
    assert_int_equal(wait_and_free(append(events, -1, "{}")), 0);
    const kvs_call_options joe = {.size = sizeof joe, .login = "joe", .password = "x"};
    kvs_new_event event = {.type = kvs_slice_of("t")};
    kvs_future *future = kvs_events_append(events, kvs_slice_of("s"), -2, &event, 1, &joe);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_NOT_AUTHENTICATED);
    assert_said(kvs_future_error_message(future), "who is joe?");
    kvs_future_free(future);
    close_events(events);
    scripted_server_stop(&server);
}

/* Lists logins, one of them by a record that is only a link, and knows none of the users. */
static void script_odd_users(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    struct es_resolved_indexed_event events[3];
    memset(events, 0, sizeof events);
    for (int i = 0; i < 3; i++) {
        struct es_event_record record = es_script_record("$users", i);
        record.data = slice_of_string(i == 2 ? "joe" : "ann");
        *(i == 0 ? &events[i].link : &events[i].event) = record;
        *(i == 0 ? &events[i].has_link : &events[i].has_event) = true;
    }
    const struct es_read_stream_events_completed page = {
        .events = {.items = events, .count = 3},
        .result = ES_READ_STREAM_SUCCESS,
        .next_event_number = 3,
        .last_event_number = 2,
        .is_end_of_stream = true,
    };
    if (!es_script_greet(self) || !es_script_expect(self, ES_READ_STREAM_FORWARD, &frame) ||
        !es_script_send(self, ES_READ_STREAM_FORWARD_COMPLETED, &frame.correlation, &page))
        return;
    const struct es_read_event_completed none = {.result = ES_READ_EVENT_NO_STREAM};
    while (es_script_read(self, &frame) && frame.command == ES_READ_EVENT) {
        scripted_server_step(self);
        es_script_send(self, ES_READ_EVENT_COMPLETED, &frame.correlation, &none);
    }
}

static void test_a_list_of_users_with_links_in_it(void **state)
{
    (void)state;
    void *pointer;
    scripted_server_start(&server, script_odd_users);
    kvs_events *events = open_good("", NULL);
    kvs_future *future = kvs_events_get_users(events, NULL, NULL);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    assert_int_equal(((const kvs_user_list *)pointer)->count, 0);
    kvs_future_free(future);
    assert_int_equal(atomic_load(&server.steps), 2); /* ann and joe were looked for */
    close_events(events);
    scripted_server_stop(&server);
}

/* --- heartbeats, bytes -------------------------------------------------------------------------
 */

/* Asks, is asked; then, on the first connection, is silent. */
static void script_heartbeats(struct scripted_server *self, unsigned number)
{
    struct es_frame frame;
    struct es_id id = {.bytes = {1, 2, 3}};
    if (!es_script_greet(self))
        return;
    es_script_send(self, ES_HEARTBEAT_REQUEST, &id, NULL);
    for (;;) {
        uint8_t head[ES_FRAME_HEAD_SIZE];
        if (!script_read_exact(self, head, sizeof head))
            return;
        if (head[4] == ES_HEARTBEAT_RESPONSE && memcmp(head + 6, id.bytes, sizeof id.bytes) == 0)
            scripted_server_step(self);
        if (head[4] == ES_HEARTBEAT_REQUEST)
            break;
    }
    scripted_server_step(self);
    if (number == 0)
        script_read_to_end(self);
    else if (es_script_read(self, &frame))
        answer_any(self, &frame);
}

static atomic_int lost_by_timeout;

static void on_connection(kvs_events *events, const struct kvs_connection_event *event, void *arg)
{
    (void)events;
    (void)arg;
    if (event->state == KVS_CONNECTION_LOST && event->error == KVS_ERR_TIMEOUT &&
        strstr(event->why, "heartbeat") != NULL)
        atomic_fetch_add(&lost_by_timeout, 1);
}

static void test_heartbeats(void **state)
{
    (void)state;
    scripted_server_start(&server, script_heartbeats);
    const struct kvs_events_options options = {
        .size = sizeof options, .heartbeat_timeout_ms = 60, .on_connection = on_connection};
    kvs_events *events = open_good("?keepAliveInterval=40", &options);
    scripted_server_await(&server, 4); /* two connections, each asked and answered */
    assert_true(atomic_load(&lost_by_timeout) >= 1);
    close_events(events);
    scripted_server_stop(&server);
}

/* Everything in pieces of `script_result` bytes. */
static void script_pieces(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct es_frame frame;
    struct buf out = BUF_INIT;
    if (!es_script_greet(self))
        return;
    for (unsigned i = 0; i < 3 && es_script_expect(self, ES_READ_EVENT, &frame); i++) {
        const struct es_read_event_completed read = {
            .event = {.has_event = true, .event = es_script_record("s", i)}};
        es_send(&out, ES_READ_EVENT_COMPLETED, &frame.correlation, NULL, &read);
    }
    for (size_t at = 0; at < out.size;) {
        size_t size = out.size - at < (size_t)script_result ? out.size - at : (size_t)script_result;
        script_send(self, out.data + at, size);
        at += size;
    }
    buf_deinit(&out);
    script_read_to_end(self);
}

/* The answers to the client's own belong to nobody, and harm nobody. */
static void test_answers_to_heartbeats(void **state)
{
    (void)state;
    scripted_server_start(&server, script_answers);
    atomic_store(&es_script_heartbeats, 0);
    kvs_events *events = open_good("?keepAliveInterval=20", NULL);
    while (atomic_load(&es_script_heartbeats) < 5)
        usleep(1000);
    assert_int_equal(wait_and_free(append(events, 3, "{}")), 0);
    assert_int_equal(atomic_load(&server.connections), 1);
    close_events(events);
    scripted_server_stop(&server);
}

static void test_frames_in_pieces(void **state)
{
    (void)state;
    for (script_result = 1; script_result < 100; script_result += script_result < 30 ? 1 : 9) {
        scripted_server_start(&server, script_pieces);
        kvs_events *events = open_good("", NULL);
        kvs_future *reads[3];
        for (int i = 0; i < 3; i++)
            reads[i] = kvs_events_read_event(events, kvs_slice_of("s"), i, 0, NULL);
        for (int i = 0; i < 3; i++) {
            void *pointer;
            assert_int_equal(kvs_future_wait(reads[i], -1), 0);
            assert_int_equal(kvs_future_get_pointer(reads[i], &pointer), 0);
            assert_int_equal(kvs_original_event(pointer)->number, i);
            kvs_future_free(reads[i]);
        }
        close_events(events);
        scripted_server_stop(&server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls_that_are_none),
        cmocka_unit_test(test_openings_that_fail_say_why),
        cmocka_unit_test(test_a_silent_server_is_given_up),
        cmocka_unit_test(test_calls_are_answered),
        cmocka_unit_test(test_a_page_of_nothing_is_not_the_end),
        cmocka_unit_test(test_misuse_is_refused_before_it_is_sent),
        cmocka_unit_test(test_outcomes_of_a_write),
        cmocka_unit_test(test_what_a_node_does_not_take_is_sent_again),
        cmocka_unit_test(test_what_a_node_does_not_take_keeps_its_order),
        cmocka_unit_test(test_what_the_leader_alone_takes_goes_there),
        cmocka_unit_test(test_a_lost_connection),
        cmocka_unit_test(test_a_refusal_when_sent_again),
        cmocka_unit_test(test_deadlines_and_cancelling),
        cmocka_unit_test(test_silence_is_told),
        cmocka_unit_test(test_a_read_without_an_answer_is_asked_again),
        cmocka_unit_test(test_it_gives_up_when_it_is_told_to),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_a_list_of_users_with_links_in_it),
        cmocka_unit_test(test_heartbeats),
        cmocka_unit_test(test_answers_to_heartbeats),
        cmocka_unit_test(test_frames_in_pieces),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
