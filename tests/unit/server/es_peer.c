/* See es_peer.h. */
#include "unit/server/es_peer.h"

#include "base/bytes.h"
#include "unit/server/peer_socket.h"

#include <kvs/error.h>
#include <unistd.h>

#include "test.h"

void es_peer_connect(struct es_peer *peer, const char *address)
{
    *peer = (struct es_peer){.next_id = 1};
    peer->descriptor = peer_socket_open(address);
}

void es_peer_close(struct es_peer *peer)
{
    close(peer->descriptor);
    buf_deinit(&peer->in);
    buf_deinit(&peer->out);
}

void es_peer_send_bytes(struct es_peer *peer, const void *data, size_t size)
{
    peer_socket_send(peer->descriptor, data, size);
}

void es_peer_flush(struct es_peer *peer)
{
    es_peer_send_bytes(peer, peer->out.data, peer->out.size);
    buf_clear(&peer->out);
}

static struct es_id next_id(struct es_peer *peer)
{
    struct es_id id = {"peer"};
    put_u64(id.bytes + 8, peer->next_id++);
    return id;
}

static struct es_id ask(struct es_peer *peer, uint8_t command,
                        const struct es_credentials *credentials, const void *message)
{
    struct es_id id = next_id(peer);
    if (message != NULL)
        assert_int_equal(es_send(&peer->out, command, &id, credentials, message), 0);
    else
        assert_int_equal(
            es_frame_append(&peer->out, command, &id, credentials, slice_make(NULL, 0)), 0);
    return id;
}

struct es_id es_peer_ask(struct es_peer *peer, uint8_t command, const void *message)
{
    return ask(peer, command, NULL, message);
}

struct es_id es_peer_ask_as(struct es_peer *peer, uint8_t command, const char *login,
                            const char *password, const void *message)
{
    const struct es_credentials credentials = {.login = slice_of_string(login),
                                               .password = slice_of_string(password)};
    return ask(peer, command, &credentials, message);
}

struct es_id es_peer_ask_write(struct es_peer *peer, const char *stream, int64_t expected_version,
                               unsigned count, kvs_slice data)
{
    struct es_id id = next_id(peer);
    size_t begin;
    assert_int_equal(es_frame_begin(&peer->out, ES_WRITE_EVENTS, &id, NULL, &begin), 0);
    const struct es_write_events message = {.event_stream_id = slice_of_string(stream),
                                            .expected_version = expected_version,
                                            .require_leader = true};
    assert_int_equal(es_message_append(&peer->out, &es_write_events_type, &message), 0);
    for (unsigned i = 0; i < count; i++) {
        struct es_id event_id = next_id(peer);
        put_u64(event_id.bytes, (uintptr_t)peer ^ (uint64_t)peer->descriptor << 48);
        const struct es_new_event event = {
            .event_id = slice_make(event_id.bytes, sizeof event_id.bytes),
            .event_type = slice_of_string("T"),
            .data = data,
            .metadata = slice_of_string("m"),
        };
        assert_int_equal(es_field_append(&peer->out, 3, &es_new_event_type, &event), 0);
    }
    assert_true(es_frame_finish(&peer->out, begin));
    return id;
}

static bool next_frame(struct es_peer *peer, struct es_frame *ret_frame)
{
    for (;;) {
        const char *why;
        size_t size;
        kvs_slice in = peer_socket_unread(&peer->in, peer->taken);
        int error = es_frame_decode(in, ES_FRAME_LENGTH_MAX, ret_frame, &size, &why);
        if (error == 0) {
            peer->taken += size;
            assert_int_equal(ret_frame->flags, 0);
            return true;
        }
        assert_int_equal(error, ES_MORE);
        if (peer_socket_receive(peer->descriptor, &peer->in, &peer->taken) <= 0)
            return false;
    }
}

bool es_peer_frame(struct es_peer *peer, struct es_frame *ret_frame)
{
    while (next_frame(peer, ret_frame)) {
        if (ret_frame->command != ES_HEARTBEAT_REQUEST || peer->keeps_heartbeats)
            return true;
        struct buf answer = BUF_INIT;
        assert_int_equal(es_frame_append(&answer, ES_HEARTBEAT_RESPONSE, &ret_frame->correlation,
                                         NULL, slice_make(NULL, 0)),
                         0);
        es_peer_send_bytes(peer, answer.data, answer.size);
        buf_deinit(&answer);
    }
    return false;
}

void es_peer_expect(struct es_peer *peer, uint8_t command, const struct es_id *id,
                    void *ret_message)
{
    struct es_frame frame;
    es_peer_flush(peer);
    assert_true(es_peer_frame(peer, &frame));
    if (frame.command != command)
        fail_msg("%s instead of %s: %.*s", es_command_info(frame.command)->name,
                 es_command_info(command)->name, (int)frame.body.size,
                 (const char *)frame.body.data);
    assert_true(es_id_equal(&frame.correlation, id));
    if (ret_message != NULL)
        assert_int_equal(es_message_decode(frame.body, es_command_info(command)->body, ret_message),
                         0);
}

bool es_peer_read_end(struct es_peer *peer)
{
    es_peer_flush(peer);
    for (;;) {
        ssize_t got = peer_socket_receive(peer->descriptor, &peer->in, &peer->taken);
        if (got <= 0)
            return got == 0;
        peer->taken = peer->in.size;
    }
}

int64_t es_peer_write(struct es_peer *peer, const char *stream, int64_t expected_version,
                      unsigned count, kvs_slice data)
{
    struct es_write_events_completed message;
    struct es_id id = es_peer_ask_write(peer, stream, expected_version, count, data);
    es_peer_expect(peer, ES_WRITE_EVENTS_COMPLETED, &id, &message);
    return message.result;
}
