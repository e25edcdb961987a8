/* See raw_peer.h. */
#include "unit/server/raw_peer.h"

#include "unit/server/peer_socket.h"

#include <unistd.h>

#include "test.h"

void raw_peer_connect(struct raw_peer *peer, const char *address)
{
    *peer = (struct raw_peer){.next_id = 1};
    peer->descriptor = peer_socket_open(address);
}

void raw_peer_open(struct raw_peer *peer, const char *address)
{
    raw_peer_connect(peer, address);
    const struct wire_client_hello hello = {.version_min = 1, .version_max = 1};
    assert_int_equal(wire_client_hello_encode(&hello, &peer->out), 0);
    raw_peer_flush(peer);
    raw_peer_read_hello(peer);
    assert_int_equal(peer->hello.status, 0);
}

void raw_peer_close(struct raw_peer *peer)
{
    close(peer->descriptor);
    buf_deinit(&peer->in);
    buf_deinit(&peer->out);
}

void raw_peer_send(struct raw_peer *peer, const void *data, size_t size)
{
    peer_socket_send(peer->descriptor, data, size);
}

void raw_peer_flush(struct raw_peer *peer)
{
    raw_peer_send(peer, peer->out.data, peer->out.size);
    buf_clear(&peer->out);
}

uint32_t raw_peer_ask(struct raw_peer *peer, const kvs_op *op, uint32_t credit)
{
    assert_int_equal(wire_request_encode(op, peer->next_id, credit, &peer->out), 0);
    return peer->next_id++;
}

static ssize_t receive(struct raw_peer *peer)
{
    return peer_socket_receive(peer->descriptor, &peer->in, &peer->taken);
}

static kvs_slice unread(const struct raw_peer *peer)
{
    return peer_socket_unread(&peer->in, peer->taken);
}

bool raw_peer_frame(struct raw_peer *peer, struct wire_frame *ret_frame)
{
    int error;
    while ((error = wire_frame_decode(unread(peer), WIRE_BODY_SIZE_SANE, ret_frame)) == WIRE_MORE) {
        if (receive(peer) <= 0)
            return false;
    }
    assert_int_equal(error, 0);
    peer->taken += WIRE_HEADER_SIZE + ret_frame->body.size;
    return true;
}

void raw_peer_read_hello(struct raw_peer *peer)
{
    size_t size = 0;
    int error;
    while ((error = wire_server_hello_decode(unread(peer), &peer->hello, &size)) == WIRE_MORE)
        assert_true(receive(peer) > 0);
    assert_int_equal(error, 0);
    peer->taken += size;
}

bool raw_peer_read_end(struct raw_peer *peer)
{
    for (;;) {
        ssize_t got = receive(peer);
        if (got <= 0)
            return got == 0;
        peer->taken = peer->in.size;
    }
}

int raw_peer_call(struct raw_peer *peer, const kvs_op *op, struct wire_frame *ret_frame)
{
    uint32_t id = raw_peer_ask(peer, op, 0);
    raw_peer_flush(peer);
    assert_true(raw_peer_frame(peer, ret_frame));
    assert_int_equal(ret_frame->id, id);
    assert_int_equal(ret_frame->opcode, op->kind);
    return ret_frame->status;
}

int raw_peer_set(struct raw_peer *peer, const char *key, kvs_slice value)
{
    struct wire_frame frame;
    kvs_op op = {.kind = KVS_OP_SET, .key = slice_of_string(key), .value = value};
    return raw_peer_call(peer, &op, &frame);
}

int raw_peer_ping(struct raw_peer *peer)
{
    struct wire_frame frame;
    kvs_op op = {.kind = KVS_OP_PING};
    return raw_peer_call(peer, &op, &frame);
}
