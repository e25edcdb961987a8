/*
 * fuzz/fuzz_kvs_frame.c: both ends of the kvs protocol against arbitrary bytes. The first byte
 * chooses: even, a server's session that decodes every request (and re-encodes it); odd, a
 * client's with calls of each kind in flight.
 */
#include "base/mem.h"
#include "fuzz/target.h"
#include "proto/kvs/client_session.h"
#include "proto/kvs/server_session.h"

#include <stdlib.h>

static const struct server_session_options options = {
    .limits =
        {
            .key_size_max = 64,
            .value_size_max = 256,
            .body_size_max = 4096,
            .batch_count_max = 64,
            .in_flight_max = 16,
            .scans_max = 4,
            .page_size = 1024,
            .in_flight_bytes_max = 65536,
        },
    .unwritten_bytes_max = 65536,
};

static void take_request(const struct wire_frame *frame)
{
    struct wire_scratch scratch = {0};
    struct buf again = BUF_INIT;
    kvs_op op = KVS_OP_INIT;
    uint32_t credit = 0;
    const char *why;
    int error = wire_request_decode(frame, &options.limits, &op, &scratch, &credit, &why);
    if (error == 0) {
        require(wire_request_encode(&op, frame->id, credit, &again) == 0);
        require(again.size <= WIRE_HEADER_SIZE + frame->body.size);
    }
    buf_deinit(&again);
    wire_scratch_deinit(&scratch);
}

static void serve(kvs_slice in)
{
    struct server_session session;
    struct server_session_input input;
    struct buf out = BUF_INIT;
    server_session_init(&session, &options, 1);
    for (;;) {
        enum server_session_item item = server_session_next(&session, in, 1, &out, &input);
        require(input.taken <= in.size);
        in = slice_make(in.data + input.taken, in.size - input.taken);
        if (item == SERVER_SESSION_REQUEST)
            take_request(&input.frame);
        else if (item == SERVER_SESSION_NEEDS_BYTES || item == SERVER_SESSION_ENDED)
            break;
    }
    buf_deinit(&out);
}

static void begin_calls(struct client_session *session, kvs_op *ops, struct buf *out)
{
    static const kvs_slice key = {(const uint8_t *)"k", 1};
    for (unsigned kind = KVS_OP_GET; kind <= KVS_OP_CHECKPOINT; kind++) {
        uint32_t id;
        ops[kind] = KVS_OP_INIT;
        ops[kind].kind = (uint8_t)kind;
        ops[kind].key = key;
        ops[kind].keys = &key;
        ops[kind].count = kind == KVS_OP_BATCH_GET ? 1 : 0;
        client_session_send(session, &ops[kind], &id, out);
    }
}

static void ask(kvs_slice in)
{
    struct client_session session;
    struct client_session_input input;
    struct wire_scratch scratch = {0};
    struct buf out = BUF_INIT;
    static kvs_op ops[KVS_OP_CHECKPOINT + 1];
    require(client_session_init(&session, &out) == 0);
    for (;;) {
        enum client_session_item item = client_session_next(&session, in, &out, &input);
        require(input.taken <= in.size);
        in = slice_make(in.data + input.taken, in.size - input.taken);
        if (item == CLIENT_SESSION_OPENED)
            begin_calls(&session, ops, &out);
        else if (item == CLIENT_SESSION_REPLY)
            wire_reply_decode(&input.frame, input.op, &scratch);
        else if (item == CLIENT_SESSION_NEEDS_BYTES || item == CLIENT_SESSION_ENDED)
            break;
    }
    while (client_session_take_pending(&session) != NULL)
        continue;
    client_session_deinit(&session);
    wire_scratch_deinit(&scratch);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *copy = mem_copy(data + 1, size - 1); /* of exactly its size: ASan sees the end */
    if (copy == NULL)
        return 0;
    if (data[0] % 2 == 0)
        serve(slice_make(copy, size - 1));
    else
        ask(slice_make(copy, size - 1));
    mem_free(copy);
    return 0;
}
