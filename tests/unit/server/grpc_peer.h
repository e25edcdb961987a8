/* A gRPC client over a socket for tests of the server: our engine, blocking, every wait bounded. */
#ifndef TESTS_UNIT_SERVER_GRPC_PEER_H
#define TESTS_UNIT_SERVER_GRPC_PEER_H

#include "proto/grpc/grpc.h"

#include <protobuf-c/protobuf-c.h>

struct grpc_peer {
    int descriptor;
    struct grpc_conn *conn;
    struct buf out;
    bool stalled; /* reads nothing */
    bool closed;  /* by the server */
};

/* One call; messages that have come wait in `replies`. */
struct grpc_peer_call {
    struct grpc_peer *peer;
    struct grpc_call *call;
    struct buf replies; /* u32 size, bytes */
    size_t taken;
    bool ended;
    int code;
    char text[256];
};

void grpc_peer_open(struct grpc_peer *peer, const char *address);
void grpc_peer_close(struct grpc_peer *peer);

void grpc_peer_start(struct grpc_peer *peer, struct grpc_peer_call *call, const char *path,
                     uint64_t timeout_ms);
void grpc_peer_send(struct grpc_peer_call *call, const ProtobufCMessage *message);
void grpc_peer_half_close(struct grpc_peer_call *call);
/* Waits for the next message, decoded; the caller frees it. NULL: the call has ended. */
void *grpc_peer_next(struct grpc_peer_call *call, const ProtobufCMessageDescriptor *type);
/* Waits for the end; returns the status code, and frees what is left. */
int grpc_peer_end(struct grpc_peer_call *call);
void grpc_peer_cancel(struct grpc_peer_call *call);
/* Sends and receives what can be, for a moment. */
void grpc_peer_turn(struct grpc_peer *peer, int wait_ms);

/* A unary call: the status code; *ret_reply (OK only) is the caller's to free. text may be NULL. */
int grpc_peer_ask(struct grpc_peer *peer, const char *path, const ProtobufCMessage *request,
                  const ProtobufCMessageDescriptor *type, void *ret_reply, char text[256]);

#endif
