/* tests/unit/server/peer_socket.h: the blocking socket of a test's peer of the server. All of these
 * fail the test when the system does not do its part; the runner bounds how long they wait. */
#ifndef TESTS_UNIT_SERVER_PEER_SOCKET_H
#define TESTS_UNIT_SERVER_PEER_SOCKET_H

#include "base/buf.h"

#include <sys/types.h>

/* Connects to "IP:PORT"; returns the descriptor. */
int peer_socket_open(const char *address);

void peer_socket_send(int descriptor, const void *data, size_t size);

/* Waits for bytes and appends them to `in`, whose first *taken bytes were looked at and go; returns
 * how many came; 0 at the end, -1 for a reset. */
ssize_t peer_socket_receive(int descriptor, struct buf *in, size_t *taken);

/* What of `in` was not yet looked at. */
static inline kvs_slice peer_socket_unread(const struct buf *in, size_t taken)
{
    return in->size > 0 ? slice_make(in->data + taken, in->size - taken) : slice_make(NULL, 0);
}

/* A whole conversation: connects, sends, closes its direction, and reads to the end. Allocates
 * nothing, and takes a connection that is reset meanwhile. */
void peer_socket_converse(const char *address, kvs_slice requests);

#endif
