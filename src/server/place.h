/*
 * server/place.h: where a part of the server listens: on sockets that were passed to it, or else on
 * an address of its own.
 *
 * Failures: an address and a socket for the same part, sockets that listen for nothing, or for
 * nobody: an error with a line for a person. Thread: the opener's.
 */
#ifndef SERVER_PLACE_H
#define SERVER_PLACE_H

#include "net/listener.h"

#include <kvs/server.h>

struct passed_sockets {
    const struct kvs_server_socket *sockets;
    uint32_t count;
};

struct place {
    const char *name;      /* that sockets are passed by */
    const char *address;   /* that was asked for; NULL or "": none */
    const char *otherwise; /* without a socket, too */
    const char *option;    /* that asks for an address, as in listener_bind_blocking */
};

/* Is each for a part that is there? Returns 0 or INVALID_ARGUMENT, and then a message. */
int passed_sockets_check(struct passed_sockets passed, const struct kvs_server_options *options,
                         char message[256]);
bool passed_sockets_have(struct passed_sockets passed, const char *name);

/* Returns as listener_bind_blocking; INVALID_ARGUMENT: both ways. */
int place_listen_blocking(const struct place *place, struct passed_sockets passed,
                          struct listener *listener, char message[256]);

#endif
