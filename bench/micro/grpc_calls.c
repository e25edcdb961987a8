/*
 * bench/micro/grpc_calls.c: unary calls through the gRPC client engine and the server engine,
 * joined in memory on one core: what the engines themselves cost.
 *
 *   grpc_calls [SECONDS [IN_FLIGHT [BYTES [stream]]]]      (default 3 64 100)
 *
 * With "stream" the messages go through one two-way stream instead of a call each.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "proto/grpc/grpc.h"
#include "usage.h"

#include <stdio.h>
#include <stdlib.h>

static struct grpc_conn *client;
static uint8_t payload[1 << 20];
static size_t payload_size = 100;
static uint64_t done;
static bool streaming;
static bool stopping;

static void server_on_call(struct grpc_conn *conn, struct grpc_call *call)
{
    (void)conn;
    if (!streaming)
        grpc_call_expect_one(call);
}

static void server_on_message(struct grpc_call *call, kvs_slice message)
{
    uint8_t *room;
    if (grpc_call_send_room(call, message.size, &room) != 0)
        abort();
    memcpy(room, message.data, message.size);
    if (!streaming)
        grpc_call_finish(call, GRPC_OK, slice_make(NULL, 0));
}

static void start_call(void)
{
    struct grpc_call *call;
    const struct grpc_call_options options = {.path = slice_of_string("/tikvpb.Tikv/RawGet"),
                                              .deadline_ms = clock_now_ms() + 2000,
                                              .one_reply = true};
    if (grpc_call_start(client, &options, &call) != 0 ||
        grpc_call_send(call, slice_make(payload, payload_size)) != 0)
        abort();
    grpc_call_half_close(call);
}

static void client_on_end(struct grpc_call *call, const struct grpc_status *status)
{
    (void)call;
    if (stopping)
        return;
    if (status->code != GRPC_OK)
        abort();
    done++;
    start_call();
}

static void client_on_message(struct grpc_call *call, kvs_slice message)
{
    if (!streaming)
        return;
    done++;
    if (grpc_call_send(call, message) != 0)
        abort();
}

static void start_stream(int in_flight)
{
    struct grpc_call *call;
    const struct grpc_call_options options = {.path =
                                                  slice_of_string("/tikvpb.Tikv/BatchCommands")};
    if (grpc_call_start(client, &options, &call) != 0)
        abort();
    for (int i = 0; i < in_flight; i++) {
        if (grpc_call_send(call, slice_make(payload, payload_size)) != 0)
            abort();
    }
}

/* Moves everything that is ready from one engine to the other. */
static void move(struct grpc_conn *from, struct grpc_conn *to, struct buf *bytes, uint64_t now_ms)
{
    if (grpc_conn_run(from, now_ms) != 0 || grpc_conn_send(from, bytes, 256 * 1024) != 0 ||
        grpc_conn_receive(to, now_ms, buf_slice(bytes)) != 0)
        abort();
    buf_clear(bytes);
}

static const char usage_text[] = "grpc_calls [SECONDS [IN_FLIGHT [BYTES [stream]]]]";

int main(int argc, char **argv)
{
    usage_check(argc, argv, 0, usage_text);
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    int in_flight = argc > 2 ? atoi(argv[2]) : 64;
    payload_size = argc > 3 ? (size_t)atol(argv[3]) : 100;
    streaming = argc > 4 && strcmp(argv[4], "stream") == 0;
    if (seconds <= 0 || in_flight < 1 || payload_size > sizeof payload) {
        fprintf(stderr, "usage: %s\n", usage_text);
        return 2;
    }
    const struct grpc_events server_events = {.on_call = server_on_call,
                                              .on_message = server_on_message};
    const struct grpc_events client_events = {.on_message = client_on_message,
                                              .on_end = client_on_end};
    const struct grpc_config server_config = {.events = &server_events};
    const struct grpc_config client_config = {.events = &client_events};
    struct grpc_conn *server;
    if (grpc_conn_new_server(&server_config, clock_now_ms(), &server) != 0 ||
        grpc_conn_new_client(&client_config, clock_now_ms(), &client) != 0)
        abort();
    struct buf bytes = BUF_INIT;
    if (streaming)
        start_stream(in_flight);
    else
        for (int i = 0; i < in_flight; i++)
            start_call();
    uint64_t begin = clock_now_ns();
    uint64_t end = begin + (uint64_t)(seconds * 1e9);
    uint64_t now;
    while ((now = clock_now_ns()) < end) {
        move(client, server, &bytes, now / 1000000);
        move(server, client, &bytes, now / 1000000);
    }
    double took = (double)(clock_now_ns() - begin) * 1e-9;
    printf("%d in flight, %zu bytes: %.0f %s/s\n", in_flight, payload_size, (double)done / took,
           streaming ? "messages" : "calls");
    stopping = true;
    grpc_conn_free(client);
    grpc_conn_free(server);
    buf_deinit(&bytes);
    return 0;
}
