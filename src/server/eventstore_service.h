/*
 * server/eventstore_service.h: the EventStoreDB TCP protocol served from event streams: one service
 * a server, one part of it on each loop.
 *
 * The life of a request:
 *   1. connection.c reads; a frame is taken off the bytes;
 *   2. who asks is found out: the frame's credentials, those of the last Authenticate, or nobody. A
 *      login that is not known yet is asked for, and the frame left where it is until it is known:
 *      so requests stay in order;
 *   3. a read that is answered from memory is answered there and then; other reads, and everything
 *      else, become an operation of stream/, which points into the bytes read; the writes of a
 *      turn, of all connections, are handed over as one list;
 *   4. when it completes, on this loop, the reply is appended; the replies of a turn leave in one
 *      write.
 * Subscriptions are cursors: eventstore_feed.c asks for the next page when the socket has taken the
 * last, so a slow reader costs no memory and loses nothing.
 *
 * Failures: docs/protocol/eventstore.md, section 4. No memory for a reply ends the connection, as
 * losing one answer would leave the client waiting. What storage fails at is told to the operation
 * as BadRequest with the reason; what may be tried again as NotHandled.
 *
 * Thread: everything of a connection on its loop.
 */
#ifndef SERVER_EVENTSTORE_SERVICE_H
#define SERVER_EVENTSTORE_SERVICE_H

#include "base/list.h"
#include "net/connection.h"
#include "proto/eventstore/frame.h"
#include "runtime/op.h"
#include "server/advertise.h"
#include "server/storage_note.h"
#include "stream/stream.h"

#include <stdatomic.h>

#define ES_HEARTBEAT_INTERVAL_MS_DEFAULT 2000u
#define ES_HEARTBEAT_TIMEOUT_MS_DEFAULT 1000u

struct es_request;
struct es_service_loop;

struct es_service_options {
    bool insecure; /* nobody is asked who he is, everything is allowed */
    bool gossip_master;
    uint32_t heartbeat_interval_ms;
    uint32_t heartbeat_timeout_ms;
    uint32_t slow_timeout_ms; /* a peer that takes nothing of what it is sent */
    uint32_t connections_max;
    uint64_t in_flight_bytes_max;      /* of one connection: requests, and pages asked for */
    uint64_t handshake_ms_max;         /* of TLS */
    struct connections_memory *memory; /* what all connections of the server hold */
};

/* Written by its loop alone; read by statistics of any. */
struct es_service_counters {
    _Atomic uint64_t requests; /* frames, heartbeats among them */
    _Atomic uint64_t calls;    /* what the store was asked for */
    _Atomic uint64_t received; /* bytes */
    _Atomic uint64_t sent;
    _Atomic uint64_t unwritten;   /* bytes that wait for peers to take them */
    _Atomic uint64_t events_sent; /* to subscriptions of both kinds */
};

struct es_service {
    struct es_service_options options;
    struct streams *streams;
    struct tls_context *tls;                                     /* NULL: clear text */
    struct es_service_counters *counters[COMPLETIONS_LOOPS_MAX]; /* of each loop */
    unsigned loops_count;
    uint64_t started_wall_ms;
    char tcp_address[ADDRESS_TEXT_SIZE]; /* "": not served */
    char http_address[ADDRESS_TEXT_SIZE];
    char advertise[ADVERTISE_HOST_SIZE]; /* instead of their hosts; "": these */
    struct es_id instance;               /* of this start; for gossip */
    _Atomic uint32_t connections;
    _Atomic uint64_t connections_opened;
    _Atomic uint64_t connections_refused;
    _Atomic bool scavenging;
    struct storage_notes storage_notes;
};

struct es_service_loop {
    _Alignas(64) struct es_service *service;
    struct loop *loop;
    struct connections connections;
    struct loop_hook submit;
    struct task_list writes; /* gathered in this turn */
    struct list turns;       /* connections with reads that may begin */
    uint32_t reading;        /* reads on the pool */
    struct es_request *spare;
    unsigned spares;
    struct stream_scavenge scavenge;
    bool scavenge_running;
    bool draining;
    bool connections_gone;
    struct es_service_counters counters;
    void (*on_empty)(void *arg);
    void *on_empty_arg;
};

/* On a loop that is not started, in the order of their index. */
void es_service_loop_init(struct es_service_loop *at, struct es_service *service,
                          struct loop *loop);

/* A new connection, on the loop's thread; takes the descriptor. `arg`: the struct
 * es_service_loop. */
void es_service_connect(void *arg, int descriptor, const char *peer);

/* Takes no more requests; connections close when they have answered what they took. */
void es_service_loop_drain(struct es_service_loop *at);
/* Closes what is left, without answers. */
void es_service_loop_cut(struct es_service_loop *at);
/* Calls on_empty when nothing is left on the loop. After a drain. */
void es_service_loop_close(struct es_service_loop *at, void (*on_empty)(void *arg), void *arg);
void es_service_loop_deinit(struct es_service_loop *at);

#endif
