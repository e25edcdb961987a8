/* tests/unit/proto/grpc_pair.c: see the header. */
#include "grpc_pair.h"

#include "base/checksum.h"
#include "base/mem.h"

#include <kvs/error.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

/* --- server --- */

static void serve_many(struct served *served)
{
    static const uint8_t bytes[1000];
    while (served->to_send > 0) {
        int error = grpc_call_send(served->call, slice_make(bytes, sizeof bytes));
        if (error == KVS_ERR_BUSY)
            return;
        assert_int_equal(error, 0);
        served->to_send--;
    }
    struct grpc_call *call = served->call;
    served->call = NULL;
    grpc_call_finish(call, GRPC_OK, slice_make(NULL, 0));
}

static bool method_is(const struct served *served, const char *method)
{
    return strcmp(served->method, method) == 0;
}

static void served_finish(struct served *served, int code, const char *message)
{
    struct grpc_call *call = served->call;
    served->call = NULL;
    grpc_call_finish(call, code, slice_of_string(message));
}

static void server_on_call(struct grpc_conn *conn, struct grpc_call *call)
{
    struct pair *pair = grpc_conn_user(conn);
    struct served *served = calloc(1, sizeof *served); /* not mem_: the tests fail those */
    assert_non_null(served);
    served->next = pair->served;
    pair->served = served;
    pair->served_count++;
    served->call = call;
    served->pair = pair;
    grpc_call_set_user(call, served);
    kvs_slice path = grpc_call_path(call);
    if (path.size < 5 || path.size > 5 + sizeof served->method - 1 ||
        memcmp(path.data, "/t.T/", 5) != 0) {
        served_finish(served, GRPC_UNIMPLEMENTED, "unknown service");
        return;
    }
    memcpy(served->method, path.data + 5, path.size - 5);
    if (pair->pause_new)
        grpc_call_pause(call);
    if (method_is(served, "Echo") || method_is(served, "Fail")) {
        grpc_call_expect_one(call);
    } else if (method_is(served, "Headers")) {
        const struct grpc_header header = {slice_of_string("x-first"), slice_of_string("1")};
        assert_int_equal(grpc_call_send_headers(call, &header, 1), 0);
        assert_int_equal(grpc_call_send_headers(call, &header, 1), KVS_ERR_INVALID_ARGUMENT);
    } else if (method_is(served, "Early")) {
        served_finish(served, GRPC_ABORTED, "no need to hear more");
    } else if (method_is(served, "Many")) {
        served->to_send = pair->many;
        serve_many(served);
    } else if (!method_is(served, "Stream") && !method_is(served, "Count") &&
               !method_is(served, "Hold")) {
        served_finish(served, GRPC_UNIMPLEMENTED, "unknown method");
    }
}

static void server_on_message(struct grpc_call *call, kvs_slice message)
{
    struct served *served = grpc_call_user(call);
    assert_ptr_equal(served->call, call);
    served->messages++;
    served->bytes += message.size;
    if (method_is(served, "Echo")) {
        uint8_t *room;
        assert_int_equal(grpc_call_send_room(call, message.size, &room), 0);
        if (message.size > 0)
            memcpy(room, message.data, message.size);
        served_finish(served, GRPC_OK, "");
    } else if (method_is(served, "Stream")) {
        int error = grpc_call_send(call, message);
        if (error == KVS_ERR_NO_MEMORY)
            served_finish(served, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        else
            assert_int_equal(error, 0);
    } else if (method_is(served, "Fail")) {
        kvs_slice code = grpc_call_metadata_find(call, slice_of_string("code"));
        assert_int_not_equal(code.size, 0);
        served->call = NULL;
        grpc_call_finish(call, atoi((const char *)code.data), message);
    }
}

static void server_on_half_close(struct grpc_call *call)
{
    struct served *served = grpc_call_user(call);
    assert_ptr_equal(served->call, call);
    served->half_closed = true;
    if (method_is(served, "Stream")) {
        served_finish(served, GRPC_OK, "");
    } else if (method_is(served, "Count")) {
        char text[32];
        int size = snprintf(text, sizeof text, "%zu", served->bytes);
        assert_int_equal(grpc_call_send(call, slice_make(text, (size_t)size)), 0);
        served_finish(served, GRPC_OK, "");
    } else if (method_is(served, "Headers")) {
        const struct grpc_header trailer = {slice_of_string("x-last"), slice_of_string("2")};
        served->call = NULL;
        grpc_call_finish_with(call, GRPC_OK, slice_make(NULL, 0), &trailer, 1);
    }
}

static void server_on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct served *served = grpc_call_user(call);
    assert_ptr_equal(served->call, call);
    assert_false(served->ended);
    served->call = NULL;
    served->ended = true;
    served->end_code = status->code;
}

static void server_on_writable(struct grpc_call *call)
{
    struct served *served = grpc_call_user(call);
    assert_ptr_equal(served->call, call);
    serve_many(served);
}

static const struct grpc_events server_events = {.on_call = server_on_call,
                                                 .on_message = server_on_message,
                                                 .on_half_close = server_on_half_close,
                                                 .on_end = server_on_end,
                                                 .on_writable = server_on_writable};

/* --- client --- */

static void outcome_note_metadata(struct outcome *outcome)
{
    size_t used = 0;
    outcome->metadata[0] = '\0';
    for (size_t i = 0; i < grpc_call_metadata_count(outcome->call); i++) {
        struct grpc_header header = grpc_call_metadata(outcome->call, i);
        int size = snprintf(outcome->metadata + used, sizeof outcome->metadata - used, "%.*s=%.*s;",
                            (int)header.name.size, (const char *)header.name.data,
                            (int)header.value.size, (const char *)header.value.data);
        used += (size_t)size;
        assert_true(used < sizeof outcome->metadata);
    }
}

static void client_on_headers(struct grpc_call *call)
{
    struct outcome *outcome = grpc_call_user(call);
    outcome->headers++;
}

uint32_t messages_sum(uint32_t sum, kvs_slice message)
{
    const void *bytes = message.size > 0 ? (const void *)message.data : "";
    return checksum_seeded(bytes, message.size, (uint64_t)sum << 32 | message.size);
}

static void client_on_message(struct grpc_call *call, kvs_slice message)
{
    struct outcome *outcome = grpc_call_user(call);
    assert_ptr_equal(outcome->call, call);
    outcome->messages++;
    outcome->bytes += message.size;
    outcome->sum = messages_sum(outcome->sum, message);
    buf_clear(&outcome->last);
    int error = buf_append_slice(&outcome->last, message);
    assert_true(error == 0 || error == KVS_ERR_NO_MEMORY);
    if (outcome->cancel_on_message) {
        outcome->call = NULL;
        grpc_call_cancel(call);
    }
}

static void client_on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct outcome *outcome = grpc_call_user(call);
    assert_ptr_equal(outcome->call, call);
    outcome_note_metadata(outcome);
    outcome->ended++;
    outcome->code = status->code;
    outcome->from_peer = status->from_peer;
    outcome->not_processed = status->not_processed;
    snprintf(outcome->message, sizeof outcome->message, "%.*s", (int)status->message.size,
             (const char *)status->message.data);
    outcome->call = NULL;
}

static void client_on_writable(struct grpc_call *call)
{
    struct outcome *outcome = grpc_call_user(call);
    outcome->writable++;
}

static void client_on_goaway(struct grpc_conn *conn)
{
    struct pair *pair = grpc_conn_user(conn);
    pair->goaways++;
}

static const struct grpc_events client_events = {.on_headers = client_on_headers,
                                                 .on_message = client_on_message,
                                                 .on_end = client_on_end,
                                                 .on_writable = client_on_writable,
                                                 .on_goaway = client_on_goaway};

/* --- the wire --- */

void pair_init(struct pair *pair, uint64_t seed)
{
    *pair = (struct pair){.now_ms = 1000000, .rand = rand_seed(seed)};
    pair->client_config = (struct grpc_config){.events = &client_events, .user = pair};
    pair->server_config = (struct grpc_config){.events = &server_events, .user = pair};
}

void pair_open(struct pair *pair)
{
    assert_int_equal(grpc_conn_new_client(&pair->client_config, pair->now_ms, &pair->client), 0);
    assert_int_equal(grpc_conn_new_server(&pair->server_config, pair->now_ms, &pair->server), 0);
}

void pair_close(struct pair *pair)
{
    grpc_conn_free(pair->client);
    grpc_conn_free(pair->server);
    while (pair->served != NULL) {
        struct served *served = pair->served;
        pair->served = served->next;
        free(served);
    }
    buf_deinit(&pair->to_client);
    buf_deinit(&pair->to_server);
}

/* Gives `bytes` to the connection in pieces, each in memory of its own for the sanitizer. */
static int deliver(struct pair *pair, struct grpc_conn *conn, struct buf *bytes)
{
    size_t at = 0;
    int error = 0;
    while (at < bytes->size && error == 0) {
        size_t left = bytes->size - at;
        size_t piece = left;
        if (!pair->whole) {
            uint64_t kind = rand_below(&pair->rand, 4);
            size_t bound = kind == 0 ? 8 : kind == 1 ? 100 : kind == 2 ? 3000 : 100000;
            piece = 1 + rand_below(&pair->rand, bound);
            piece = piece < left ? piece : left;
        }
        uint8_t *copy = mem_copy(bytes->data + at, piece);
        assert_non_null(copy);
        error = grpc_conn_receive(conn, pair->now_ms, slice_make(copy, piece));
        mem_free(copy);
        at += piece;
    }
    buf_clear(bytes);
    return error;
}

static size_t random_size_max(struct pair *pair)
{
    return pair->whole ? SIZE_MAX : 1 + rand_below(&pair->rand, 100000);
}

bool pair_step(struct pair *pair)
{
    grpc_conn_run(pair->client, pair->now_ms);
    grpc_conn_run(pair->server, pair->now_ms);
    (void)grpc_conn_send(pair->client, &pair->to_server, random_size_max(pair));
    (void)grpc_conn_send(pair->server, &pair->to_client, random_size_max(pair));
    if (pair->to_server.size == 0 && pair->to_client.size == 0)
        return grpc_conn_timer(pair->client) <= pair->now_ms ||
               grpc_conn_timer(pair->server) <= pair->now_ms;
    if (pair->to_server.size > 0)
        pair->server_error = deliver(pair, pair->server, &pair->to_server);
    if (pair->to_client.size > 0)
        pair->client_error = deliver(pair, pair->client, &pair->to_client);
    return true;
}

void pair_pump(struct pair *pair)
{
    unsigned rounds = 0;
    while (pair_step(pair))
        assert_true(++rounds < 1000000);
}

void pair_advance(struct pair *pair, uint64_t ms)
{
    pair->now_ms += ms;
}

int pair_start(struct pair *pair, struct outcome *outcome, const char *method, uint64_t timeout_ms)
{
    char path[64];
    snprintf(path, sizeof path, "/t.T/%s", method);
    *outcome = (struct outcome){.pair = pair, .code = -1};
    const struct grpc_call_options options = {.path = slice_of_string(path),
                                              .deadline_ms =
                                                  timeout_ms > 0 ? pair->now_ms + timeout_ms : 0,
                                              .user = outcome};
    return grpc_call_start(pair->client, &options, &outcome->call);
}

void pair_unary(struct pair *pair, struct outcome *outcome, const char *method, const void *data,
                size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/t.T/%s", method);
    *outcome = (struct outcome){.pair = pair, .code = -1};
    const struct grpc_call_options options = {
        .path = slice_of_string(path), .one_reply = true, .user = outcome};
    assert_int_equal(grpc_call_start(pair->client, &options, &outcome->call), 0);
    assert_int_equal(grpc_call_send(outcome->call, slice_make(data, size)), 0);
    grpc_call_half_close(outcome->call);
}

void outcome_deinit(struct outcome *outcome)
{
    buf_deinit(&outcome->last);
}
