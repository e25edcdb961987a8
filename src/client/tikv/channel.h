/*
 * client/tikv/channel.h: one gRPC connection to one address: a link, TLS when asked for, and the
 * gRPC engine, on one loop. It lives once: when it is lost, it is lost; who needs another opens
 * one.
 *
 *   1. channel_open begins to connect; calls may be made at once, they wait;
 *   2. the peer's first bytes say that it speaks HTTP/2: events->on_ready, waiting calls start;
 *   3. bytes read go to the engine, whose events end calls;
 *   4. channel_run, once at the end of each turn, writes what is to be sent with one system call.
 *
 * Failures: cannot connect (CONNECT, ADDRESS), no HTTP/2 there (PROTOCOL), broken, or silent for
 * PING_INTERVAL_MS + PING_TIMEOUT_MS: every call ends, then events->on_lost tells why. A peer that
 * says GOAWAY takes no more calls: events->on_going; those under way go on.
 *
 * Lifetime: the owner's memory, until on_closed, which follows channel_close and on_lost alike, in
 * a later turn. Thread: the loop's.
 */
#ifndef CLIENT_TIKV_CHANNEL_H
#define CLIENT_TIKV_CHANNEL_H

#include "base/list.h"
#include "client/link.h"
#include "net/tls.h"
#include "proto/grpc/grpc.h"

#define CHANNEL_PING_INTERVAL_MS 10000u
#define CHANNEL_PING_TIMEOUT_MS 3000u

struct channel;

struct channel_events {
    void (*on_ready)(struct channel *channel);
    void (*on_going)(struct channel *channel);
    /* `why` names the peer; borrowed for the event. */
    void (*on_lost)(struct channel *channel, int error, const char *why);
    void (*on_closed)(struct channel *channel);
};

struct channel {
    struct link link;
    struct grpc_conn *grpc;
    struct tls *tls;
    struct tls_context *tls_context; /* NULL: none; borrowed */
    const struct channel_events *events;
    void *owner;
    struct list calls; /* struct unary, not ended */
    bool ready;        /* calls can be started */
    bool going;        /* the peer said GOAWAY */
    bool dead;         /* lost or closed */
    bool in_engine;    /* an event is being delivered: the engine cannot be ended */
    bool close_asked;  /* meanwhile */
};

/* How a call ended. */
struct unary_result {
    int code; /* of gRPC */
    bool from_peer;
    bool not_processed;  /* the request was certainly not carried out */
    kvs_slice reply;     /* with GRPC_OK */
    const char *message; /* without: a line for a person, which names the peer */
};

/* One request, one answer. The memory is the caller's until done was called or unary_cancel. */
struct unary {
    struct list node;
    struct channel *channel;
    struct grpc_call *call; /* NULL: it waits */
    kvs_slice path;         /* static */
    struct buf request;     /* owned; gone once started */
    struct buf reply;
    uint64_t deadline_ms;
    void (*done)(struct unary *unary, const struct unary_result *result);
};

/* Zeroed memory. tls_context may be NULL. */
void channel_open(struct channel *channel, struct loop *loop, kvs_thread_pool *pool,
                  const char *host, uint16_t port, struct tls_context *tls_context,
                  uint32_t connect_timeout_ms, const struct channel_events *events, void *owner);

/* Ends it; open calls end with UNAVAILABLE, inside this call or, when it is called by an event of a
 * call, right after that. No calls may be made any more. Fine for one that is dead. */
void channel_close(struct channel *channel);

/* Passes time, writes. May call on_lost. */
void channel_run(struct channel *channel, uint64_t now_ms);

/* When channel_run is due; UINT64_MAX: when something happens. */
uint64_t channel_timer(const struct channel *channel);

/* Sends unary->request; path, deadline_ms and done are set. `done` is called later, never inside
 * this call. The channel is not dead and not going. */
void channel_unary(struct channel *channel, struct unary *unary);

/* done will not be called. */
void unary_cancel(struct unary *unary);

/* Frees what it holds; it is not under way. */
void unary_deinit(struct unary *unary);

/* A two-way stream; the channel is ready. The events go through grpc_call_user, which is a
 * channel_stream. Returns 0, or CLOSED, BUSY, NO_MEMORY. */
struct channel_stream {
    struct grpc_call *call; /* NULL: ended */
    void (*on_message)(struct channel_stream *stream, kvs_slice message);
    void (*on_writable)(struct channel_stream *stream);
    void (*on_end)(struct channel_stream *stream, const struct unary_result *result);
};
int channel_stream_start(struct channel *channel, struct channel_stream *stream, kvs_slice path);

#endif
