/*
 * scripted_server.h: a server that does what a test says, on a real socket: the peers that a client
 * meets and kvs-server never is. One thread, one connection at a time, blocking.
 */
#ifndef TESTS_UNIT_CLIENT_SCRIPTED_SERVER_H
#define TESTS_UNIT_CLIENT_SCRIPTED_SERVER_H

#include "proto/kvs/wire.h"

#include <pthread.h>
#include <stdatomic.h>

struct scripted_server;

/* Serves one connection; `number` counts them from 0. It is closed when the script returns. */
typedef void script_fn(struct scripted_server *server, unsigned number);

struct scripted_server {
    int listener;
    int connection;
    uint16_t port;
    char url[128];
    pthread_t thread;
    script_fn *script;
    atomic_bool stopping;
    atomic_uint connections;
    struct wire_limits limits; /* announced; sane ones by default */
    struct buf in;             /* the frame read last */
    atomic_int steps;          /* for tests to wait for, and scripts to be told to go on by */
};

void scripted_server_start(struct scripted_server *server, script_fn *script);
void scripted_server_stop(struct scripted_server *server);

/* Waits until `steps` is at least so much; gives up when the server stops. */
void scripted_server_await(struct scripted_server *server, int steps);
void scripted_server_step(struct scripted_server *server);

/* For scripts; all are false when the connection has ended. */
bool script_read_exact(struct scripted_server *server, void *data, size_t size);
bool script_send(struct scripted_server *server, const void *data, size_t size);
bool script_send_buf(struct scripted_server *server, struct buf *buf); /* and frees it */
bool script_hello(struct scripted_server *server);                     /* both ways */
/* The next frame; its body is valid until the next call. */
bool script_read_frame(struct scripted_server *server, struct wire_frame *ret_frame);
bool script_reply(struct scripted_server *server, const struct wire_frame *request, int status,
                  const char *body);
/* Waits for the peer to close. */
void script_read_to_end(struct scripted_server *server);

#endif
