/*
 * tests/crash/raw_client.h: the kvs protocol over a blocking socket, with nothing behind it that
 * reconnects or sends again: what was acknowledged and what was not stays plain to see.
 */
#ifndef TESTS_CRASH_RAW_CLIENT_H
#define TESTS_CRASH_RAW_CLIENT_H

#include "proto/kvs/wire.h"

#include <netinet/in.h>

struct raw_client {
    int fd;
    struct buf in;
    size_t in_taken; /* of `in`: the frame given last */
    struct buf out;
    struct wire_limits limits;
};

/* All return false when the connection is gone or speaks nonsense. Every wait ends after 30 s. */
bool raw_client_open(struct raw_client *client, const struct sockaddr_in *address);
void raw_client_close(struct raw_client *client);

/* Adds a request to what raw_client_flush sends. */
bool raw_client_add(struct raw_client *client, const kvs_op *op, uint32_t id);
bool raw_client_flush(struct raw_client *client);
/* The next reply; its bytes are valid until the next call. */
bool raw_client_reply(struct raw_client *client, struct wire_frame *ret_frame);
/* One request and its reply. */
bool raw_client_call(struct raw_client *client, const kvs_op *op, struct wire_frame *ret_frame);

#endif
