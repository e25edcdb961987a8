/*
 * client/remote_store.c and what is under it, against peers that a client should survive: one that
 * is not there, is something else, sends garbage, says nothing, goes away, comes back.
 */
#include "base/clock.h"
#include "scripted_server.h"

#include <kvs/kvs.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"
#include "times.h"

static kvs_runtime *runtime;
static struct scripted_server server;

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

static int open_store(const struct kvs_store_options *options, kvs_store **ret_store, char *message)
{
    kvs_future *future = kvs_store_open(runtime, server.url, options);
    assert_non_null(future);
    int error = kvs_future_wait(future, -1);
    void *pointer = NULL;
    if (error == 0)
        assert_int_equal(kvs_future_get_pointer(future, &pointer), 0);
    *ret_store = pointer;
    if (message != NULL)
        snprintf(message, 400, "%s", kvs_future_error_message(future));
    kvs_future_free(future);
    return error;
}

static kvs_store *open_good(const struct kvs_store_options *options)
{
    const struct kvs_store_options patient = {
        .size = sizeof patient, .connect_timeout_ms = PATIENT_MS, .timeout_ms = PATIENT_MS};
    kvs_store *store;
    char message[400];
    int error = open_store(options != NULL ? options : &patient, &store, message);
    if (error != 0)
        fail_msg("%s", message);
    return store;
}

static void close_store(kvs_store *store)
{
    assert_int_equal(wait_and_free(kvs_store_close(store)), 0);
}

static kvs_future *get(kvs_store *store, const char *key)
{
    return kvs_store_get(store, kvs_slice_of(key));
}

static kvs_future *set(kvs_store *store, const char *key, const char *value)
{
    return kvs_store_set(store, kvs_slice_of(key), kvs_slice_of(value));
}

static void assert_said(const char *message, const char *part)
{
    if (strstr(message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", message, part);
}

static void script_echo(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frame;
    if (!script_hello(self))
        return;
    while (script_read_frame(self, &frame)) {
        scripted_server_step(self);
        if (frame.opcode < WIRE_CANCEL &&
            !script_reply(self, &frame, 0, frame.opcode == 1 ? "v" : ""))
            return;
    }
}

/* --- opening: who is there? --------------------------------------------------------------------
 */

static void script_none(struct scripted_server *self, unsigned number)
{
    (void)self;
    (void)number;
}

static void assert_open_fails(const struct kvs_store_options *options, int error, const char *said)
{
    kvs_store *store;
    char message[400];
    assert_int_equal(open_store(options, &store, message), error);
    assert_said(message, said);
    char name[32];
    snprintf(name, sizeof name, "127.0.0.1:%u", server.port);
    assert_said(message, name);
}

static void test_refused(void **state)
{
    (void)state;
    scripted_server_start(&server, script_none);
    scripted_server_stop(&server); /* its port is free now */
    assert_open_fails(NULL, KVS_ERR_CONNECT, "connection refused; is the server running?");
    struct kvs_store_options options = {.size = sizeof options, .connections = 5};
    assert_open_fails(&options, KVS_ERR_CONNECT, "connection refused");
}

static void test_closes_at_once(void **state)
{
    (void)state;
    scripted_server_start(&server, script_none);
    assert_open_fails(NULL, KVS_ERR_CONNECTION_LOST, "");
    scripted_server_stop(&server);
}

static void script_http(struct scripted_server *self, unsigned number)
{
    (void)number;
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    script_send(self, text, sizeof text - 1);
    script_read_to_end(self);
}

static void test_another_protocol(void **state)
{
    (void)state;
    scripted_server_start(&server, script_http);
    assert_open_fails(NULL, KVS_ERR_PROTOCOL, "is this the address of a kvs-server?");
    scripted_server_stop(&server);
}

static void script_other_version(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_server_hello hello = {
        .status = KVS_ERR_VERSION, .version_min = 7, .version_max = 9, .limits = self->limits};
    struct buf out = BUF_INIT;
    wire_server_hello_encode(&hello, &out);
    script_send_buf(self, &out);
    script_read_to_end(self);
}

static void test_another_version(void **state)
{
    (void)state;
    scripted_server_start(&server, script_other_version);
    assert_open_fails(NULL, KVS_ERR_VERSION, "no protocol version");
    scripted_server_stop(&server);
}

static void script_silent(struct scripted_server *self, unsigned number)
{
    (void)number;
    script_read_to_end(self);
}

static void test_silent_peer(void **state)
{
    (void)state;
    scripted_server_start(&server, script_silent);
    struct kvs_store_options options = {.size = sizeof options, .connect_timeout_ms = 300};
    assert_open_fails(&options, KVS_ERR_CONNECT, "no hello within 300 ms");
    scripted_server_stop(&server);
}

static void test_names(void **state)
{
    (void)state;
    /* A label of more than 63 letters: the resolver refuses it without asking anybody. */
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl";
    snprintf(server.url, sizeof server.url, "kvs://%s:1", letters);
    kvs_store *store;
    char message[400];
    assert_int_equal(open_store(NULL, &store, message), KVS_ERR_ADDRESS);
    assert_said(message, "ijkl:1: cannot resolve the name");
    scripted_server_start(&server, script_echo);
    snprintf(server.url, sizeof server.url, "kvs://localhost:%u", server.port);
    store = open_good(NULL);
    assert_int_equal(wait_and_free(get(store, "k")), 0);
    close_store(store);
    scripted_server_stop(&server);
    snprintf(server.url, sizeof server.url, "etcd://127.0.0.1");
    assert_int_equal(open_store(NULL, &store, message), KVS_ERR_INVALID_ARGUMENT);
    assert_said(message, "\"etcd:\" is no known kind of store");
}

/* --- under way ---------------------------------------------------------------------------------
 */

static void script_garbage(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frame;
    if (!script_hello(self) || !script_read_frame(self, &frame))
        return;
    uint8_t garbage[300];
    memset(garbage, 0xff, sizeof garbage);
    script_send(self, garbage, sizeof garbage);
    script_read_to_end(self);
}

static void test_garbage_after_hello(void **state)
{
    (void)state;
    scripted_server_start(&server, script_garbage);
    kvs_store *store = open_good(NULL);
    kvs_future *future = get(store, "k");
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_PROTOCOL);
    assert_said(kvs_future_error_message(future), "does not speak the kvs protocol");
    kvs_future_free(future);
    assert_int_equal(wait_and_free(set(store, "k", "v")), KVS_ERR_OUTCOME_UNKNOWN);
    close_store(store);
    scripted_server_stop(&server);
}

/* Well-formed frames that do not answer the question. */
static void script_wrong_answers(struct scripted_server *self, unsigned number)
{
    struct wire_frame frame;
    if (!script_hello(self) || !script_read_frame(self, &frame))
        return;
    struct buf out = BUF_INIT;
    if (number % 3 == 0)
        wire_reply_value(frame.opcode, frame.id, slice_of_string("not 8 bytes"), &out);
    else if (number % 3 == 1)
        wire_reply_number(frame.opcode, frame.id + 1, 1, &out);
    else
        wire_reply_number(KVS_OP_GET, frame.id, 1, &out);
    script_send_buf(self, &out);
    script_read_to_end(self);
}

static void test_wrong_answers(void **state)
{
    (void)state;
    scripted_server_start(&server, script_wrong_answers);
    kvs_store *store = open_good(NULL);
    kvs_slice none = {0};
    assert_int_equal(wait_and_free(kvs_store_count(store, none, none)), KVS_ERR_PROTOCOL);
    assert_int_equal(wait_and_free(kvs_store_remove_range(store, none, none)),
                     KVS_ERR_OUTCOME_UNKNOWN);
    close_store(store);
    scripted_server_stop(&server);
}

/* The first connection reads two requests and dies; those after it answer. */
static void script_dies_once(struct scripted_server *self, unsigned number)
{
    struct wire_frame frame;
    if (number > 0) {
        script_echo(self, number);
        return;
    }
    if (!script_hello(self))
        return;
    for (int i = 0; i < 2 && script_read_frame(self, &frame); i++)
        ;
    scripted_server_await(self, 1);
}

static void test_reads_survive_and_sent_writes_do_not(void **state)
{
    (void)state;
    scripted_server_start(&server, script_dies_once);
    server.limits.in_flight_max = 2;
    kvs_store *store = open_good(NULL);
    kvs_future *read = get(store, "k");
    kvs_future *sent = set(store, "k", "1");
    kvs_future *unsent[10]; /* beyond the server's window: these wait in the client */
    for (int i = 0; i < 10; i++)
        unsent[i] = set(store, "k", "2");
    scripted_server_step(&server);
    assert_int_equal(kvs_future_wait(read, -1), 0);
    kvs_slice value;
    assert_int_equal(kvs_future_get_value(read, &value), 0);
    assert_slice_equal(value, "v");
    kvs_future_free(read);
    assert_int_equal(kvs_future_wait(sent, -1), KVS_ERR_OUTCOME_UNKNOWN);
    assert_true(kvs_error_maybe_committed(kvs_future_error(sent)));
    assert_said(kvs_future_error_message(sent), "127.0.0.1:");
    kvs_future_free(sent);
    for (int i = 0; i < 10; i++)
        assert_int_equal(wait_and_free(unsent[i]), 0);
    assert_int_equal(atomic_load(&server.connections), 2);
    close_store(store);
    scripted_server_stop(&server);
}

/* Says that it goes, and that what it read is answered: so what it left was not carried out. */
static void script_goes_away(struct scripted_server *self, unsigned number)
{
    struct wire_frame frame;
    if (number > 0) {
        script_echo(self, number);
        return;
    }
    if (!script_hello(self) || !script_read_frame(self, &frame))
        return;
    struct buf out = BUF_INIT;
    wire_goaway_encode(&out);
    wire_goaway_encode(&out);
    script_send_buf(self, &out);
}

static void test_goaway(void **state)
{
    (void)state;
    scripted_server_start(&server, script_goes_away);
    kvs_store *store = open_good(NULL);
    assert_int_equal(wait_and_free(set(store, "k", "v")), 0);
    close_store(store);
    scripted_server_stop(&server);
}

#define WINDOW 3
#define WINDOWS 70

/* Answers when as many wait as may, and looks whether more came before that: a step each time. */
static void script_window(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frames[WINDOW];
    bool answers = script_hello(self);
    while (answers) {
        char byte;
        for (int i = 0; i < WINDOW; i++) {
            if (!script_read_frame(self, &frames[i]))
                return;
        }
        if (recv(self->connection, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
            scripted_server_step(self);
        for (int i = 0; i < WINDOW; i++)
            answers &= script_reply(self, &frames[i], 0, frames[i].opcode == 1 ? "v" : "");
    }
}

static void test_window_is_kept(void **state)
{
    (void)state;
    scripted_server_start(&server, script_window);
    server.limits.in_flight_max = WINDOW;
    kvs_store *store = open_good(NULL);
    kvs_future *futures[WINDOW * WINDOWS];
    for (int i = 0; i < WINDOW * WINDOWS; i++)
        futures[i] = i % 2 ? set(store, "k", "v") : get(store, "k");
    for (int i = 0; i < WINDOW * WINDOWS; i++)
        assert_int_equal(wait_and_free(futures[i]), 0);
    close_store(store);
    scripted_server_stop(&server);
    assert_int_equal(atomic_load(&server.steps), 0);
}

/* Never answers the first request of a connection, but all others. */
static void script_forgets_one(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frame;
    uint32_t forgotten_id = 0;
    bool forgotten = false;
    if (!script_hello(self))
        return;
    while (script_read_frame(self, &frame)) {
        if (frame.opcode == WIRE_CANCEL) {
            if (frame.id != forgotten_id)
                continue; /* it has crossed the answer */
            scripted_server_step(self);
            struct wire_frame late = {.opcode = KVS_OP_GET, .id = frame.id};
            script_reply(self, &late, KVS_ERR_CANCELLED, "late");
        } else if (!forgotten) {
            forgotten = true;
            forgotten_id = frame.id;
            scripted_server_step(self);
        } else {
            script_reply(self, &frame, 0, "");
        }
    }
}

static void test_deadline_of_a_read(void **state)
{
    (void)state;
    scripted_server_start(&server, script_forgets_one);
    kvs_store *store = open_good(NULL);
    kvs_op request = KVS_OP_INIT;
    request.kind = KVS_OP_GET;
    request.key = kvs_slice_of("k");
    request.timeout_ms = 40;
    kvs_future *future = kvs_store_call(store, &request);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_TIMEOUT);
    assert_said(kvs_future_error_message(future), "no answer in time");
    kvs_future_free(future);
    scripted_server_await(&server, 2); /* the server was told, and its late answer is ignored */
    assert_int_equal(wait_and_free(get(store, "k")), 0);
    close_store(store);
    scripted_server_stop(&server);
}

static void test_deadline_of_a_write(void **state)
{
    (void)state;
    scripted_server_start(&server, script_silent);
    server.script = script_forgets_one;
    kvs_store *store = open_good(NULL);
    kvs_op request = KVS_OP_INIT;
    request.kind = KVS_OP_SET;
    request.key = kvs_slice_of("k");
    request.timeout_ms = 30;
    assert_int_equal(wait_and_free(kvs_store_call(store, &request)), KVS_ERR_OUTCOME_UNKNOWN);
    close_store(store);
    scripted_server_stop(&server);
}

static void test_deadline_while_not_connected(void **state)
{
    (void)state;
    scripted_server_start(&server, script_dies_once);
    struct kvs_store_options options = {.size = sizeof options, .timeout_ms = 60};
    kvs_store *store = open_good(&options);
    scripted_server_stop(&server);
    kvs_future *future = set(store, "k", "v");
    int error = kvs_future_wait(future, -1);
    assert_true(error == KVS_ERR_TIMEOUT || error == KVS_ERR_OUTCOME_UNKNOWN);
    kvs_future_free(future);
    bool refused = false;
    while (!refused) { /* by now the loss is known, soon that nobody is there any more */
        future = set(store, "k", "v");
        assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_TIMEOUT);
        refused = strstr(kvs_future_error_message(future), "connection refused") != NULL;
        kvs_future_free(future);
    }
    close_store(store);
}

static void test_cancel(void **state)
{
    (void)state;
    scripted_server_start(&server, script_forgets_one);
    kvs_store *store = open_good(NULL);
    kvs_future *future = get(store, "k");
    scripted_server_await(&server, 1); /* it is sent */
    kvs_future_cancel(future);
    kvs_future_cancel(future);
    assert_int_equal(kvs_future_wait(future, -1), KVS_ERR_CANCELLED);
    scripted_server_await(&server, 2);
    kvs_future_cancel(future);
    kvs_future_free(future);
    for (int i = 0; i < 300; i++) { /* at any moment: before it is sent, after it is answered */
        future = get(store, "k");
        if (i % 3 == 0)
            kvs_future_cancel(future);
        if (i % 3 != 1)
            kvs_future_wait(future, -1);
        kvs_future_free(future);
    }
    close_store(store);
    scripted_server_stop(&server);
}

/* Answers only when told. */
static void script_waits(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frame;
    if (!script_hello(self) || !script_read_frame(self, &frame))
        return;
    scripted_server_step(self);
    scripted_server_await(self, 2);
    script_reply(self, &frame, 0, "");
    script_read_to_end(self);
}

static void test_close_lets_in_flight_finish(void **state)
{
    (void)state;
    scripted_server_start(&server, script_waits);
    kvs_store *store = open_good(NULL);
    kvs_future *future = set(store, "k", "v");
    scripted_server_await(&server, 1);
    kvs_future *closing = kvs_store_close(store);
    assert_int_equal(kvs_future_wait(closing, 20), KVS_ERR_TIMEOUT);
    scripted_server_step(&server);
    assert_int_equal(wait_and_free(closing), 0);
    assert_int_equal(wait_and_free(future), 0);
    scripted_server_stop(&server);
}

static void test_close_while_the_server_is_gone(void **state)
{
    (void)state;
    scripted_server_start(&server, script_waits);
    kvs_store *store = open_good(NULL);
    kvs_future *sent = set(store, "k", "v");
    scripted_server_await(&server, 1);
    kvs_future *more[5];
    for (int i = 0; i < 5; i++)
        more[i] = get(store, "k");
    kvs_future *closing = kvs_store_close(store);
    scripted_server_stop(&server);
    assert_int_equal(wait_and_free(closing), 0);
    int error = wait_and_free(sent);
    assert_true(error == 0 || error == KVS_ERR_OUTCOME_UNKNOWN);
    for (int i = 0; i < 5; i++)
        assert_int_equal(wait_and_free(more[i]), KVS_ERR_CLOSED);
}

/* A page in frames, with credit asked for on the way. */
static void script_scan(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frame;
    static char value[200 * 1024];
    memset(value, 'v', sizeof value);
    if (!script_hello(self) || !script_read_frame(self, &frame))
        return;
    uint32_t id = frame.id;
    for (int i = 0; i < 8; i++) {
        struct buf out = BUF_INIT;
        size_t header;
        char key[8];
        snprintf(key, sizeof key, "k%d", i);
        wire_reply_begin(KVS_OP_SCAN, id, 0, 0, &out, &header);
        wire_pair_append(slice_of_string(key), slice_make(value, sizeof value), &out);
        wire_reply_finish(&out, header, i < 7 ? WIRE_FLAG_FOLLOWS : WIRE_FLAG_MORE, 1);
        script_send_buf(self, &out);
        if (number == 0 && i == 3)
            return; /* dies in the middle: the client begins anew */
    }
    while (script_read_frame(self, &frame) && frame.opcode == WIRE_CREDIT)
        scripted_server_step(self);
}

static void test_scan_in_frames(void **state)
{
    (void)state;
    scripted_server_start(&server, script_scan);
    kvs_store *store = open_good(NULL);
    kvs_slice none = {0};
    kvs_future *future = kvs_store_scan(store, none, none, 8, 0);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    const kvs_pair *pairs;
    size_t count;
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    assert_int_equal(count, 8);
    assert_slice_equal(pairs[0].key, "k0");
    assert_slice_equal(pairs[7].key, "k7");
    assert_int_equal(pairs[7].value.size, 200 * 1024);
    kvs_future_free(future);
    scripted_server_await(&server, 1);
    close_store(store);
    scripted_server_stop(&server);
}

/* Sends pairs for ever. */
static void script_endless_scan(struct scripted_server *self, unsigned number)
{
    (void)number;
    struct wire_frame frame;
    static char value[100 * 1024];
    if (!script_hello(self) || !script_read_frame(self, &frame))
        return;
    bool sent = true;
    while (sent) {
        struct buf out = BUF_INIT;
        size_t header;
        wire_reply_begin(KVS_OP_SCAN, frame.id, 0, 0, &out, &header);
        wire_pair_append(slice_of_string("k"), slice_make(value, sizeof value), &out);
        wire_reply_finish(&out, header, WIRE_FLAG_FOLLOWS, 1);
        sent = script_send_buf(self, &out);
    }
}

static void test_endless_scans(void **state)
{
    (void)state;
    scripted_server_start(&server, script_endless_scan);
    kvs_store *store = open_good(NULL);
    kvs_slice none = {0};
    assert_int_equal(wait_and_free(kvs_store_scan(store, none, none, 5, 0)), KVS_ERR_PROTOCOL);
    assert_int_equal(wait_and_free(kvs_store_scan(store, none, none, 0, 0)), KVS_ERR_PROTOCOL);
    kvs_op page = KVS_OP_INIT; /* which the client ends by itself */
    page.kind = KVS_OP_SCAN;
    page.limit = 1000;
    page.flags = KVS_OP_FLAG_PAGE;
    kvs_future *future = kvs_store_call(store, &page);
    assert_int_equal(kvs_future_wait(future, -1), 0);
    const kvs_pair *pairs;
    size_t count = 0;
    assert_int_equal(kvs_future_get_pairs(future, &pairs, &count), 0);
    assert_int_equal(count, 11);
    kvs_future_free(future);
    close_store(store);
    scripted_server_stop(&server);
}

/* Greets, and is gone. */
static void script_only_greets(struct scripted_server *self, unsigned number)
{
    (void)number;
    script_hello(self);
    scripted_server_step(self);
}

/* It stands each time, and is lost at once: that is no reason to try ever faster. */
static void test_a_server_that_only_greets_is_left_alone(void **state)
{
    (void)state;
    scripted_server_start(&server, script_only_greets);
    uint64_t began_ms = clock_now_ms();
    kvs_store *store = open_good(NULL);
    scripted_server_await(&server, 8);
    uint64_t took_ms = clock_now_ms() - began_ms;
    close_store(store);
    scripted_server_stop(&server);
    if (took_ms < 1200) /* waits double from 20 ms, with a random half: 1270 ms at least */
        fail_msg("8 connections in %llu ms", (unsigned long long)took_ms);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_refused),
        TEST(test_closes_at_once),
        TEST(test_another_protocol),
        TEST(test_another_version),
        TEST(test_silent_peer),
        TEST(test_names),
        TEST(test_garbage_after_hello),
        TEST(test_wrong_answers),
        TEST(test_reads_survive_and_sent_writes_do_not),
        TEST(test_goaway),
        TEST(test_window_is_kept),
        TEST(test_deadline_of_a_read),
        TEST(test_deadline_of_a_write),
        TEST(test_deadline_while_not_connected),
        TEST(test_cancel),
        TEST(test_close_lets_in_flight_finish),
        TEST(test_close_while_the_server_is_gone),
        TEST(test_scan_in_frames),
        TEST(test_endless_scans),
        TEST(test_a_server_that_only_greets_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
