/*
 * The gRPC client engine against a server of arbitrary bytes. The first byte chooses how the calls
 * behave; the rest is what the server sends, in pieces, while time passes and requests leave.
 */
#include "base/rand.h"
#include "fuzz/target.h"
#include "proto/grpc/grpc.h"

#include <stdlib.h>

#define CALLS 6

enum { PAUSE = 1, ONE_REPLY = 2, KEEP_OPEN = 4, CANCEL = 8, DEADLINES = 16, SHUTDOWN = 32 };

struct state {
    unsigned behaviour;
    struct grpc_call *open[CALLS];
};

static size_t place_of(const struct state *state, const struct grpc_call *call)
{
    for (size_t i = 0; i < CALLS; i++) {
        if (state->open[i] == call)
            return i;
    }
    abort(); /* an event of a call that is over */
}

static void on_headers(struct grpc_call *call)
{
    (void)place_of(grpc_conn_user(grpc_call_conn(call)), call);
}

static void on_message(struct grpc_call *call, kvs_slice message)
{
    struct state *state = grpc_conn_user(grpc_call_conn(call));
    size_t place = place_of(state, call);
    (void)grpc_call_send(call, message);
    if ((state->behaviour & CANCEL) != 0 && place == 1) {
        state->open[place] = NULL;
        grpc_call_cancel(call);
    }
}

static void on_end(struct grpc_call *call, const struct grpc_status *status)
{
    struct state *state = grpc_conn_user(grpc_call_conn(call));
    state->open[place_of(state, call)] = NULL;
    require(status->code >= 0 && status->code <= GRPC_CODE_MAX);
    require(!(status->not_processed && status->code == GRPC_OK));
    for (size_t i = 0; i < grpc_call_metadata_count(call); i++)
        require(grpc_call_metadata(call, i).name.size > 0);
}

static const struct grpc_events events = {
    .on_headers = on_headers, .on_message = on_message, .on_end = on_end};

static void start_calls(struct state *state, struct grpc_conn *conn)
{
    for (size_t i = 0; i < CALLS; i++) {
        const struct grpc_call_options options = {
            .path = slice_of_string("/t.T/Call"),
            .deadline_ms = (state->behaviour & DEADLINES) != 0 ? 10 + 50 * i : 0,
            .one_reply = (state->behaviour & ONE_REPLY) != 0};
        if (grpc_call_start(conn, &options, &state->open[i]) != 0)
            continue;
        (void)grpc_call_send(state->open[i], slice_of_string("hello"));
        if ((state->behaviour & KEEP_OPEN) == 0)
            grpc_call_half_close(state->open[i]);
        if ((state->behaviour & PAUSE) != 0)
            grpc_call_pause(state->open[i]);
    }
}

/* What the owner does between two reads. */
static void turn(struct state *state, struct grpc_conn *conn, uint64_t now_ms, struct rand *rand)
{
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < CALLS; i++) {
        if (state->open[i] != NULL && rand_below(rand, 4) == 0)
            grpc_call_resume(state->open[i]);
    }
    (void)grpc_conn_run(conn, now_ms);
    (void)grpc_conn_send(conn, &out, 1 + rand_below(rand, 4096));
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct state state = {.behaviour = data[0]};
    struct rand rand = rand_seed(size * 256 + data[0]);
    const struct grpc_config config = {.events = &events,
                                       .user = &state,
                                       .message_bytes_max = 4096,
                                       .metadata_bytes_max = 1024,
                                       .call_window_bytes = 1000,
                                       .assembling_bytes_max = 8192,
                                       .held_bytes_max = 1000,
                                       .send_queue_bytes_max = 1000,
                                       .ping_interval_ms = 50,
                                       .ping_timeout_ms = 100000};
    struct grpc_conn *conn;
    if (grpc_conn_new_client(&config, 0, &conn) != 0)
        return 0;
    start_calls(&state, conn);
    uint64_t now_ms = 0;
    turn(&state, conn, now_ms, &rand);
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
    for (size_t i = 0; i < CALLS; i++)
        require(state.open[i] == NULL);
    require(grpc_conn_calls(conn) == 0);
    grpc_conn_free(conn);
    return 0;
}
