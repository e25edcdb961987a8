/* See raw_peer.h. */
#include "unit/server/raw_peer.h"

#include "net/address.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

void raw_peer_connect(struct raw_peer *peer, const char *address)
{
    *peer = (struct raw_peer){.next_id = 1};
    struct sockaddr_storage to;
    socklen_t size;
    const int on = 1;
    assert_int_equal(address_parse(address, &to, &size), 0);
    peer->descriptor = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(peer->descriptor >= 0);
    assert_int_equal(connect(peer->descriptor, (struct sockaddr *)&to, size), 0);
    setsockopt(peer->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
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
    for (size_t sent = 0; sent < size;) {
        ssize_t wrote =
            send(peer->descriptor, (const uint8_t *)data + sent, size - sent, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EINTR)
            continue;
        assert_true(wrote > 0);
        sent += (size_t)wrote;
    }
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

/* More bytes; 0 at the end, -1 for a reset. */
static ssize_t receive(struct raw_peer *peer)
{
    struct pollfd readable = {.fd = peer->descriptor, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, -1), 1); /* the runner bounds the time */
    if (peer->taken > 0) {
        buf_consume(&peer->in, peer->taken);
        peer->taken = 0;
    }
    assert_int_equal(buf_reserve(&peer->in, 65536), 0);
    ssize_t got = recv(peer->descriptor, peer->in.data + peer->in.size, 65536, 0);
    if (got > 0)
        peer->in.size += (size_t)got;
    return got;
}

static kvs_slice unread(const struct raw_peer *peer)
{
    if (peer->in.size == 0)
        return slice_make(NULL, 0);
    return slice_make(peer->in.data + peer->taken, peer->in.size - peer->taken);
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
