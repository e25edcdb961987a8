/*
 * tests/unit/proto/grpc_pair.h: a client engine and a server engine joined in memory.
 *
 * The bytes between them are cut at seeded places. The server answers by the method's name:
 *   /t.T/Echo    one message, sent back; OK
 *   /t.T/Stream  every message sent back at once; OK at the half-close
 *   /t.T/Fail    the status of the metadata "code", with the message of the request
 *   /t.T/Headers sends metadata and trailers of its own
 *   /t.T/Early   answers ABORTED before the half-close
 *   /t.T/Count   the number of received bytes as one message at the half-close
 *   /t.T/Many    sends messages of 1000 bytes until BUSY, goes on when writable, `many` in all
 *   /t.T/Hold    nothing; the test holds the handle
 *   others       UNIMPLEMENTED
 */
#ifndef TESTS_UNIT_PROTO_GRPC_PAIR_H
#define TESTS_UNIT_PROTO_GRPC_PAIR_H

#include "base/buf.h"
#include "base/rand.h"
#include "proto/grpc/grpc.h"

/* What a call of the client saw. */
struct outcome {
    struct grpc_call *call; /* NULL when over */
    struct pair *pair;
    unsigned headers;
    unsigned messages;
    size_t bytes;
    unsigned writable;
    unsigned ended;
    int code;
    bool from_peer;
    bool not_processed;
    char message[256];
    char metadata[256]; /* "name=value;" of all received */
    struct buf last;    /* the last message */
    uint32_t sum;       /* checksum of all messages and where they end */
    bool cancel_on_message;
};

/* What the server keeps of a call. */
struct served {
    struct served *next;
    struct grpc_call *call; /* NULL when over */
    struct pair *pair;
    char method[32];
    unsigned messages;
    size_t bytes;
    unsigned to_send; /* Many */
    bool half_closed;
    bool ended;
    int end_code;
};

struct pair {
    struct grpc_conn *client;
    struct grpc_conn *server;
    struct grpc_config client_config;
    struct grpc_config server_config;
    struct buf to_server;
    struct buf to_client;
    uint64_t now_ms;
    struct rand rand;
    bool whole;            /* bytes are not cut */
    struct served *served; /* newest first */
    unsigned served_count;
    unsigned goaways;
    unsigned many;
    bool pause_new; /* the server pauses each new call */
    int client_error;
    int server_error;
};

/* Limits in the configs may be set between init and open. */
void pair_init(struct pair *pair, uint64_t seed);
void pair_open(struct pair *pair);
void pair_close(struct pair *pair);

/* Moves bytes both ways until both sides are quiet. */
void pair_pump(struct pair *pair);
/* One round: what is ready now leaves and arrives. Returns whether any byte moved. */
bool pair_step(struct pair *pair);
void pair_advance(struct pair *pair, uint64_t ms);

/* Starts a call; the outcome must live until it ended. */
int pair_start(struct pair *pair, struct outcome *outcome, const char *method, uint64_t timeout_ms);
/* start + one message + half-close; one reply is due. */
void pair_unary(struct pair *pair, struct outcome *outcome, const char *method, const void *data,
                size_t size);
void outcome_deinit(struct outcome *outcome);
/* The sum with one more message. */
uint32_t messages_sum(uint32_t sum, kvs_slice message);

#endif
