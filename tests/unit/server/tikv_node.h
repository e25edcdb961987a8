/*
 * A TiKV node in this process for tests: an engine in memory, a cluster, the TiKV service on one
 * loop with a thread of its own; and a client that waits, over a socket, with our gRPC engine.
 */
#ifndef TESTS_UNIT_SERVER_TIKV_NODE_H
#define TESTS_UNIT_SERVER_TIKV_NODE_H

#include "kvrpcpb.pb-c.h"
#include "server/tikv_gc.h"
#include "server/tikv_service.h"
#include "tikvpb.pb-c.h"

struct tikv_node {
    kvs_thread_pool *pool;
    struct engine *engine;
    struct cluster *cluster;
    struct txn_node *txn;
    struct tikv_gc gc; /* looks all the time */
    struct loop loop;
    struct tikv_service service;
    struct tikv_service_loop at;
    struct grpc_port port;
    struct grpc_port_loop port_loop;
    int listener;
    uint16_t listener_port;
};

#define NODE_ANSWERS_MEMORY (192u << 20) /* so one answer has at most 96 MiB */

struct tikv_node *node_start(void);
void node_stop(struct tikv_node *node);
/* Splits anywhere; waits for it. */
void node_split(struct tikv_node *node, kvs_slice stored_key);
/* The region of a stored key, as the node has it now; the list keeps it alive until the next. */
const struct region *node_region(struct tikv_node *node, kvs_slice stored_key);

/* Moves PD's GC safe point; waits until it has moved. */
void node_set_safe_point(struct tikv_node *node, uint64_t ts);

/* One connection. */
struct tikv_peer {
    struct tikv_node *node;
    int descriptor;
    struct grpc_conn *conn;
    struct buf out;
    /* the call or stream under way */
    struct grpc_call *call;
    bool over;
    int code;
    char text[256];
    struct buf messages; /* u32 size and bytes of each */
};

struct tikv_peer *peer_connect(struct tikv_node *node);
void peer_close(struct tikv_peer *peer);

/* A unary call; returns the status, and with OK the answer (to be freed by
 * protobuf_c_message_free_unpacked). */
int peer_call(struct tikv_peer *peer, const char *method, const void *request,
              const ProtobufCMessageDescriptor *type, void *ret_answer);
/* The same with bytes that need be no message. */
int peer_call_bytes(struct tikv_peer *peer, const char *method, kvs_slice request);

/* A BatchCommands stream, one at a time. */
void peer_stream(struct tikv_peer *peer);
void peer_send(struct tikv_peer *peer, const Tikvpb__BatchCommandsRequest *batch);
void peer_send_bytes(struct tikv_peer *peer, kvs_slice message);
/* The next message; NULL: the stream is over, with peer->code. */
Tikvpb__BatchCommandsResponse *peer_receive(struct tikv_peer *peer);
void peer_half_close(struct tikv_peer *peer);

/* What is to leave leaves, as far as it can; nothing is read. */
void peer_write(struct tikv_peer *peer);
/* Moves bytes until `*until`, or the connection ends. */
void peer_run(struct tikv_peer *peer, const bool *until);

/* --- requests --- */

/* A context for the region of a stored key, as a client has it. */
struct context {
    Kvrpcpb__Context context;
    Metapb__RegionEpoch epoch;
    Metapb__Peer peer;
};
void context_fill(struct context *context, struct tikv_node *node, kvs_slice stored_key);

static inline ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

#endif
