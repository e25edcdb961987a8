/* A client of the EventStoreDB protocol of bare sockets, for tests of the server: blocking, every
 * wait bounded. */
#ifndef TESTS_UNIT_SERVER_ES_PEER_H
#define TESTS_UNIT_SERVER_ES_PEER_H

#include "proto/eventstore/commands.h"

struct es_peer {
    int descriptor;
    struct buf in; /* received, from `taken` on not yet looked at */
    size_t taken;
    struct buf out; /* to be sent */
    uint64_t next_id;
    bool keeps_heartbeats; /* they are given like other frames; else answered, and passed over */
};

/* All of these fail the test when the server does not do its part. */
void es_peer_connect(struct es_peer *peer, const char *address);
void es_peer_close(struct es_peer *peer);
void es_peer_send_bytes(struct es_peer *peer, const void *data, size_t size);
/* Sends what `out` holds. */
void es_peer_flush(struct es_peer *peer);

/* Appends a request to out; message NULL: no body. Returns its correlation id. */
struct es_id es_peer_ask(struct es_peer *peer, uint8_t command, const void *message);
struct es_id es_peer_ask_as(struct es_peer *peer, uint8_t command, const char *login,
                            const char *password, const void *message);
/* WriteEvents of `count` events "T" with `data`. */
struct es_id es_peer_ask_write(struct es_peer *peer, const char *stream, int64_t expected_version,
                               unsigned count, kvs_slice data);

/* The next frame; valid until the next call. False: the server closed. */
bool es_peer_frame(struct es_peer *peer, struct es_frame *ret_frame);
/* Flushes; the next frame is this command, with this id; its message, if there is one. */
void es_peer_expect(struct es_peer *peer, uint8_t command, const struct es_id *id,
                    void *ret_message);
/* Flushes, and reads until the server closes; true: an orderly end, false: a reset. */
bool es_peer_read_end(struct es_peer *peer);

/* Writes and waits for the answer, whose result it returns. */
int64_t es_peer_write(struct es_peer *peer, const char *stream, int64_t expected_version,
                      unsigned count, kvs_slice data);

#endif
