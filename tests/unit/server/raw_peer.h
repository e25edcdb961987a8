/* A kvs client of bare sockets for tests of the server: blocking, every wait bounded. */
#ifndef TESTS_UNIT_SERVER_RAW_PEER_H
#define TESTS_UNIT_SERVER_RAW_PEER_H

#include "proto/kvs/wire.h"

struct raw_peer {
    int descriptor;
    struct buf in; /* received, from `taken` on not yet looked at */
    size_t taken;
    struct buf out; /* to be sent */
    struct wire_server_hello hello;
    uint32_t next_id;
};

/* Connects; sends no hello yet. All of these fail the test when the server does not do its part. */
void raw_peer_connect(struct raw_peer *peer, const char *address);
/* Connects and exchanges hellos. */
void raw_peer_open(struct raw_peer *peer, const char *address);
void raw_peer_close(struct raw_peer *peer);

void raw_peer_send(struct raw_peer *peer, const void *data, size_t size);
/* Sends what `out` holds. */
void raw_peer_flush(struct raw_peer *peer);
/* Appends a request to out; returns its id. */
uint32_t raw_peer_ask(struct raw_peer *peer, const kvs_op *op, uint32_t credit);

/* The next frame; valid until the next call. False: the server closed. */
bool raw_peer_frame(struct raw_peer *peer, struct wire_frame *ret_frame);
void raw_peer_read_hello(struct raw_peer *peer);
/* Reads until the server closes; true: an orderly end, false: a reset. */
bool raw_peer_read_end(struct raw_peer *peer);

/* Request and reply; returns the reply's status. */
int raw_peer_call(struct raw_peer *peer, const kvs_op *op, struct wire_frame *ret_frame);
int raw_peer_set(struct raw_peer *peer, const char *key, kvs_slice value);
int raw_peer_ping(struct raw_peer *peer);

#endif
