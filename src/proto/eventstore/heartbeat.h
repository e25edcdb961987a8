/*
 * proto/eventstore/heartbeat.h: is the peer alive? The same at both ends, and every byte counts: a
 * frame of many megabytes is life all the while it trickles in.
 *
 * At the end of an interval in which nothing came, ask (HeartbeatRequest) and give the peer the
 * time-out to send anything at all. When nothing was sent, ask as well: the peer may look only at
 * what it gets. The time-out begins when the question has left: a peer that takes nothing is not
 * dead, it is slow. Nor is one dead that we do not read.
 *
 * No I/O: es_heartbeat_check is called every now and then, a few times an interval. Any thread.
 */
#ifndef PROTO_EVENTSTORE_HEARTBEAT_H
#define PROTO_EVENTSTORE_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

struct es_heartbeat {
    uint32_t interval_ms; /* 0: never asks */
    uint32_t timeout_ms;
    uint64_t began_ms;   /* of this interval */
    uint64_t received;   /* then */
    uint64_t queued;     /* then */
    bool waiting;        /* for an answer to a question that ends at `queued` */
    uint64_t waiting_ms; /* since when: it had left; 0: not yet */
};

struct es_heartbeat_traffic {
    uint64_t received; /* bytes since the connection began */
    uint64_t queued;   /* bytes that were ever to be sent, ... */
    uint64_t written;  /* ... and those of them that have left */
    bool reading;      /* we take what the peer sends */
};

enum es_heartbeat_action { ES_HEARTBEAT_NOTHING, ES_HEARTBEAT_ASK, ES_HEARTBEAT_DEAD };

void es_heartbeat_init(struct es_heartbeat *heartbeat, uint32_t interval_ms, uint32_t timeout_ms,
                       uint64_t now_ms);

/* After ASK the caller queues a HeartbeatRequest; after DEAD it closes the connection. */
enum es_heartbeat_action es_heartbeat_check(struct es_heartbeat *heartbeat,
                                            const struct es_heartbeat_traffic *traffic,
                                            uint64_t now_ms);

#endif
