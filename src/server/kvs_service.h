/*
 * server/kvs_service.h: the kvs protocol served from a store: one service a server, one part of it
 * on each loop.
 *
 * The life of a request:
 *   1. connection.c reads; the session takes a frame off the bytes;
 *   2. get, exists and batch get are answered there and then, from one engine view for all
 *      that one read brought; ping at once;
 *   3. everything else, and what would have to wait for a disk, becomes a kvs_op that points into
 *      the bytes read; the ops of a turn, of all connections, go to the store as one array;
 *   4. on_done appends the reply; the replies of a turn leave in one write.
 * Scans are a stream of their own: kvs_scan.c.
 *
 * The view is begun after the read, not once a turn: what was acknowledged to anybody before a
 * request was sent is then seen by it.
 *
 * Failures: a malformed request is answered with its error and the connection goes on; no memory
 * for a reply ends the connection. A request past its deadline or cancelled is answered at
 * once, and its op forgotten when it comes.
 */
#ifndef SERVER_KVS_SERVICE_H
#define SERVER_KVS_SERVICE_H

#include "engine/engine.h"
#include "net/connection.h"
#include "proto/kvs/server_session.h"
#include "server/storage_note.h"
#include "store/store.h"

#include <stdatomic.h>

#define KV_SERVICE_GATHERED_MAX 1024u

struct kv_request;
struct kv_scan;
struct kv_service_loop;

struct kv_service {
    kvs_store *store;
    struct engine *engine;
    struct server_session_options session; /* shared by all sessions */
    struct kv_service_loop *loops;
    unsigned loops_count;
    uint64_t started_ms;
    _Atomic uint64_t connections;         /* open now */
    _Atomic uint64_t connections_opened;  /* since start */
    _Atomic uint64_t connections_refused; /* too many */
    struct storage_notes storage_notes;
};

/* Written by its loop alone; read by statistics of any. */
struct kv_service_counters {
    _Atomic uint64_t requests;
    _Atomic uint64_t scans;
};

struct kv_service_loop {
    _Alignas(64) struct kv_service *service;
    struct loop *loop;
    struct connections *connections;
    struct loop_hook submit;
    kvs_op *gathered[KV_SERVICE_GATHERED_MAX];
    unsigned gathered_count;
    struct kv_request *spare; /* request structs to use again */
    unsigned spares;
    struct wire_scratch scratch; /* arrays of batches that are answered on the spot */
    struct kv_request *timed;    /* those with a deadline */
    uv_timer_t deadlines;
    bool deadlines_running;
    struct kv_scan *runnable; /* scans with something to send */
    struct kv_scan *scans;    /* all */
    uv_idle_t scan_turns;
    bool scan_turns_running;
    bool draining; /* the server stops: new connections are turned away */
    struct kv_service_counters counters;
    struct task drain_task;
};

/* On a loop that is not started. */
void kv_service_loop_init(struct kv_service_loop *at, struct kv_service *service, struct loop *loop,
                          struct connections *connections);

/* Its handles begin to close; on the loop's thread, when no connection is left. */
void kv_service_loop_close(struct kv_service_loop *at);
void kv_service_loop_deinit(struct kv_service_loop *at);

/*
 * A new connection, on the loop's thread; takes the descriptor. refusal 0, or what to tell the
 * client before closing (BUSY).
 */
void kv_service_connect(struct kv_service_loop *at, int descriptor, const char *peer, int refusal);

/* Stops taking requests on all connections of the loop; each closes when it has answered all. */
void kv_service_loop_drain(struct kv_service_loop *at);
/* Closes what is left, without answers. */
void kv_service_loop_cut(struct kv_service_loop *at);

#endif
