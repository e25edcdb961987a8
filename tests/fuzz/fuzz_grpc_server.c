/*
 * The gRPC server engine against a client of arbitrary bytes. The first byte chooses how the
 * handlers behave and whether the preface is given; the rest is what the client sends, in pieces,
 * while time passes and answers leave.
 */
#include "base/rand.h"
#include "fuzz/target.h"
#include "proto/grpc/grpc.h"

#include <stdlib.h>

#define CALLS_MAX 16

enum { WITH_PREFACE = 1, PAUSE = 2, HOLD = 4, EXPECT_ONE = 8, SHUTDOWN = 16, EARLY = 32 };

struct state {
    unsigned behaviour;
    struct grpc_call *open[2 * CALLS_MAX]; /* announced and not over */
};

static size_t place_of(const struct state *state, const struct grpc_call *call)
{
    for (size_t i = 0; i < 2 * CALLS_MAX; i++) {
        if (state->open[i] == call)
            return i;
    }
    abort(); /* an event of a call that is over, or too many calls */
}

static void finish(struct state *state, struct grpc_call *call, int code)
{
    static const struct grpc_header trailer = {{(const uint8_t *)"x-trailer", 9},
                                               {(const uint8_t *)"v", 1}};
    state->open[place_of(state, call)] = NULL;
    grpc_call_finish_with(call, code, grpc_call_path(call), &trailer, 1);
}

static void on_call(struct grpc_conn *conn, struct grpc_call *call)
{
    struct state *state = grpc_conn_user(conn);
    state->open[place_of(state, NULL)] = call;
    require(grpc_call_path(call).size >= 4);
    for (size_t i = 0; i < grpc_call_metadata_count(call); i++)
        require(grpc_call_metadata(call, i).name.size > 0);
    if ((state->behaviour & PAUSE) != 0)
        grpc_call_pause(call);
    if ((state->behaviour & EXPECT_ONE) != 0)
        grpc_call_expect_one(call);
    if ((state->behaviour & EARLY) != 0)
        finish(state, call, GRPC_ABORTED);
}

static void on_message(struct grpc_call *call, kvs_slice message)
{
    struct state *state = grpc_conn_user(grpc_call_conn(call));
    (void)place_of(state, call);
    (void)grpc_call_send(call, message);
    if (message.size > 2 && message.data[0] == 'c') {
        state->open[place_of(state, call)] = NULL;
        grpc_call_cancel(call);
    }
}

static void on_half_close(struct grpc_call *call)
{
    struct state *state = grpc_conn_user(grpc_call_conn(call));
    (void)place_of(state, call);
    if ((state->behaviour & HOLD) == 0)
        finish(state, call, GRPC_OK);
}

static void on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct state *state = grpc_conn_user(grpc_call_conn(call));
    state->open[place_of(state, call)] = NULL;
    require(status->code != GRPC_OK);
}

static void on_writable(struct grpc_call *call)
{
    (void)place_of(grpc_conn_user(grpc_call_conn(call)), call);
}

static const struct grpc_events events = {.on_call = on_call,
                                          .on_message = on_message,
                                          .on_half_close = on_half_close,
                                          .on_end = on_end,
                                          .on_writable = on_writable};

/* What the owner does between two reads. */
static void turn(struct state *state, struct grpc_conn *conn, uint64_t now_ms, struct rand *rand)
{
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < 2 * CALLS_MAX; i++) {
        if (state->open[i] != NULL && rand_below(rand, 4) == 0)
            grpc_call_resume(state->open[i]);
    }
    (void)grpc_conn_run(conn, now_ms);
    (void)grpc_conn_send(conn, &out, 1 + rand_below(rand, 4096));
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (size < 1)
        return 0;
    struct state state = {.behaviour = data[0]};
    struct rand rand = rand_seed(size * 256 + data[0]);
    const struct grpc_config config = {.events = &events,
                                       .user = &state,
                                       .calls_max = CALLS_MAX,
                                       .message_bytes_max = 4096,
                                       .metadata_bytes_max = 1024,
                                       .call_window_bytes = 1000,
                                       .assembling_bytes_max = 8192,
                                       .held_bytes_max = 1000,
                                       .send_queue_bytes_max = 1000,
                                       .ping_interval_ms = 50,
                                       .ping_timeout_ms = 100000};
    struct grpc_conn *conn;
    if (grpc_conn_new_server(&config, 0, &conn) != 0)
        return 0;
    if ((state.behaviour & WITH_PREFACE) != 0)
        require(grpc_conn_receive(conn, 0, slice_make(preface, sizeof preface - 1)) == 0);
    uint64_t now_ms = 0;
    for (size_t at = 1; at < size && !grpc_conn_done(conn);) {
        size_t piece = 1 + rand_below(&rand, 200);
        piece = piece < size - at ? piece : size - at;
        (void)grpc_conn_receive(conn, now_ms, slice_make(data + at, piece));
        at += piece;
        now_ms += rand_below(&rand, 20);
        if ((state.behaviour & SHUTDOWN) != 0 && rand_below(&rand, 8) == 0)
            grpc_conn_shutdown(conn);
        turn(&state, conn, now_ms, &rand);
    }
    turn(&state, conn, now_ms + 1000, &rand);
    grpc_conn_lost(conn, "end of input");
    for (size_t i = 0; i < 2 * CALLS_MAX; i++)
        require(state.open[i] == NULL);
    require(grpc_conn_calls(conn) == 0);
    grpc_conn_free(conn);
    return 0;
}
