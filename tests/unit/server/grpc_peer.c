/* See grpc_peer.h. */
#include "unit/server/grpc_peer.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "unit/server/peer_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"

#define READ_SIZE 16384

static void on_message(struct grpc_call *grpc_call, kvs_slice message)
{
    struct grpc_peer_call *call = grpc_call_user(grpc_call);
    assert_int_equal(buf_append_u32(&call->replies, (uint32_t)message.size), 0);
    assert_int_equal(buf_append_slice(&call->replies, message), 0);
}

static void on_end(struct grpc_call *grpc_call, const struct grpc_status *status)
{
    struct grpc_peer_call *call = grpc_call_user(grpc_call);
    call->ended = true;
    call->code = status->code;
    snprintf(call->text, sizeof call->text, "%.*s", (int)status->message.size,
             (const char *)status->message.data);
}

void grpc_peer_open(struct grpc_peer *peer, const char *address)
{
    static const struct grpc_events events = {.on_message = on_message, .on_end = on_end};
    const struct grpc_config config = {.events = &events, .user = peer};
    *peer = (struct grpc_peer){0};
    peer->descriptor = peer_socket_open(address);
    assert_int_equal(fcntl(peer->descriptor, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(grpc_conn_new_client(&config, clock_now_ms(), &peer->conn), 0);
    grpc_peer_turn(peer, 0); /* how it begins: the port waits for that for seconds only */
}

void grpc_peer_close(struct grpc_peer *peer)
{
    grpc_conn_free(peer->conn);
    buf_deinit(&peer->out);
    close(peer->descriptor);
}

static void peer_write(struct grpc_peer *peer)
{
    assert_int_equal(grpc_conn_send(peer->conn, &peer->out, 1024 * 1024), 0);
    if (peer->out.size == 0)
        return;
    ssize_t wrote = send(peer->descriptor, peer->out.data, peer->out.size, MSG_NOSIGNAL);
    if (wrote > 0)
        buf_consume(&peer->out, (size_t)wrote);
    else if (errno != EAGAIN)
        peer->closed = true;
}

static void peer_read(struct grpc_peer *peer)
{
    uint8_t bytes[READ_SIZE];
    ssize_t size = recv(peer->descriptor, bytes, sizeof bytes, 0);
    if (size > 0)
        grpc_conn_receive(peer->conn, clock_now_ms(), slice_make(bytes, (size_t)size));
    else if (size == 0 || errno != EAGAIN)
        peer->closed = true;
}

void grpc_peer_turn(struct grpc_peer *peer, int wait_ms)
{
    grpc_conn_run(peer->conn, clock_now_ms());
    peer_write(peer);
    struct pollfd poller = {
        .fd = peer->descriptor,
        .events = (short)((peer->stalled ? 0 : POLLIN) | (peer->out.size > 0 ? POLLOUT : 0))};
    poll(&poller, 1, wait_ms);
    if (!peer->stalled && (poller.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        peer_read(peer);
    if (peer->closed)
        grpc_conn_lost(peer->conn, "the server closed");
}

static void turn_until(struct grpc_peer_call *call, bool (*is_so)(const struct grpc_peer_call *))
{
    while (!is_so(call)) /* the runner bounds the time */
        grpc_peer_turn(call->peer, 100);
}

void grpc_peer_start(struct grpc_peer *peer, struct grpc_peer_call *call, const char *path,
                     uint64_t timeout_ms)
{
    *call = (struct grpc_peer_call){.peer = peer};
    const struct grpc_call_options options = {
        .path = slice_of_string(path),
        .deadline_ms = timeout_ms != 0 ? clock_now_ms() + timeout_ms : 0,
        .user = call,
    };
    assert_int_equal(grpc_call_start(peer->conn, &options, &call->call), 0);
}

void grpc_peer_send(struct grpc_peer_call *call, const ProtobufCMessage *message)
{
    uint8_t *room;
    assert_int_equal(
        grpc_call_send_room(call->call, protobuf_c_message_get_packed_size(message), &room), 0);
    protobuf_c_message_pack(message, room);
}

void grpc_peer_half_close(struct grpc_peer_call *call)
{
    grpc_call_half_close(call->call);
}

static bool has_something(const struct grpc_peer_call *call)
{
    return call->ended || call->taken < call->replies.size;
}

void *grpc_peer_next(struct grpc_peer_call *call, const ProtobufCMessageDescriptor *type)
{
    turn_until(call, has_something);
    if (call->taken == call->replies.size)
        return NULL;
    const uint8_t *at = call->replies.data + call->taken;
    size_t size = get_u32(at);
    call->taken += 4 + size;
    void *message = protobuf_c_message_unpack(type, NULL, size, at + 4);
    assert_non_null(message);
    return message;
}

static bool has_ended(const struct grpc_peer_call *call)
{
    return call->ended;
}

int grpc_peer_end(struct grpc_peer_call *call)
{
    turn_until(call, has_ended);
    buf_deinit(&call->replies);
    call->taken = 0;
    return call->code;
}

void grpc_peer_cancel(struct grpc_peer_call *call)
{
    grpc_call_cancel(call->call);
    buf_deinit(&call->replies);
}

int grpc_peer_ask(struct grpc_peer *peer, const char *path, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *type, void *ret_reply, char text[256])
{
    struct grpc_peer_call call;
    grpc_peer_start(peer, &call, path, 0);
    grpc_peer_send(&call, request);
    grpc_peer_half_close(&call);
    void *reply = grpc_peer_next(&call, type);
    int code = grpc_peer_end(&call);
    if (code == GRPC_OK) {
        assert_non_null(reply);
        memcpy(ret_reply, &reply, sizeof reply);
    } else if (reply != NULL) {
        protobuf_c_message_free_unpacked(reply, NULL);
    }
    if (text != NULL)
        memcpy(text, call.text, sizeof call.text);
    return code;
}
