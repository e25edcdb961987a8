/*
 * server/eventstore_server.h: `--eventstore` and `--http`: the event streams of an engine, their
 * listeners, and their parts on the loops of a kvs_server.
 *
 * 1. eventstore_server_bind makes the sockets; 2. eventstore_server_add_loop on each loop;
 * 3. eventstore_server_open_blocking reads the streams from the engine; 4. eventstore_server_start
 * accepts, on the first loop.
 *
 * Close: 1. eventstore_server_drain_loop on each loop, 2. after a while
 * eventstore_server_cut_loop, 3. when all have said that they are empty, eventstore_server_settle
 * closes the streams, which write what they have to; 4. the loops end; 5. eventstore_server_free.
 *
 * Failures: of bind and open, with a line for a person. Thread: those of loops on the loop's
 * thread, or before it starts; the others on the opener's.
 */
#ifndef SERVER_EVENTSTORE_SERVER_H
#define SERVER_EVENTSTORE_SERVER_H

#include "engine/engine.h"
#include "runtime/loop.h"
#include "server/place.h"

#define EVENTSTORE_DEFAULT "127.0.0.1:1113"
#define EVENTSTORE_HTTP_DEFAULT "127.0.0.1:2113"

struct eventstore_server;

struct eventstore_server_options {
    const char *tcp;  /* address, "" for the default, NULL: do not serve it */
    const char *http; /* likewise */
    struct passed_sockets passed;
    bool insecure;
    const char *advertise; /* as in kvs/server.h */
    bool gossip_master;
    unsigned loops;
    uint32_t connections_max;
    uint32_t slow_timeout_ms;
    uint32_t heartbeat_interval_ms; /* 0: the default */
    uint32_t heartbeat_timeout_ms;  /* likewise */
    enum kvs_projections projections;
    uint32_t stats_interval_ms; /* 0: no statistics as events */
    uint64_t in_flight_bytes_max;
    const char *tls_certificate; /* NULL: clear text; as in kvs/server.h */
    const char *tls_key;
    const char *tls_ca;
    uint64_t handshake_ms_max;
    struct connections_memory *memory; /* what all connections of the server hold */
};

int eventstore_server_bind(const struct eventstore_server_options *options,
                           struct eventstore_server **ret_server, char message[256]);
/* Loops are added in the order of their index, each once. */
void eventstore_server_add_loop(struct eventstore_server *server, struct loop *loop);
/* `loop`: the first one; not started. */
int eventstore_server_open_blocking(struct eventstore_server *server, struct engine *engine,
                                    struct loop *loop, char message[256]);
int eventstore_server_start(struct eventstore_server *server);

/* on_done is called when the loop's part is empty and its handles are closed; the first loop's
 * also waits for the listeners. */
void eventstore_server_drain_loop(struct eventstore_server *server, unsigned index,
                                  void (*on_done)(void *arg), void *arg);
void eventstore_server_cut_loop(struct eventstore_server *server, unsigned index);
/* On the first loop: on_done is called when the streams are closed. */
void eventstore_server_settle(struct eventstore_server *server, void (*on_done)(void *arg),
                              void *arg);
/* The loops have stopped. NULL is fine. */
void eventstore_server_free(struct eventstore_server *server);

/* "" when it is not served. */
const char *eventstore_server_tcp_address(const struct eventstore_server *server);
const char *eventstore_server_http_address(const struct eventstore_server *server);

#endif
