/*
 * client/eventstore/reply.h: what a server's frame means for the call it answers: the step function
 * of the operation manager for the EventStoreDB protocol. No I/O, no state; hostile bytes end in an
 * error. Any thread.
 */
#ifndef CLIENT_EVENTSTORE_REPLY_H
#define CLIENT_EVENTSTORE_REPLY_H

#include "client/events/events.h"
#include "proto/eventstore/commands.h"

enum reply_step {
    REPLY_DONE,      /* call->error, message and results are set */
    REPLY_LATER,     /* not carried out: the node is not ready, or too busy */
    REPLY_AGAIN,     /* maybe carried out: the node gave up waiting for itself */
    REPLY_ELSEWHERE, /* not carried out: another node would */
};

/* Where to: host "" when it was not told. */
struct reply_node {
    char host[256];
    uint16_t port;
};

/* What the body of NotHandled says: LATER, ELSEWHERE, or DONE: it cannot be read. */
enum reply_step reply_take_not_handled(kvs_slice body, bool is_tls, struct reply_node *ret_node);

struct reply_question {
    uint8_t command;    /* of the reply that is expected */
    uint32_t count_max; /* events that it may have */
    bool is_tls;        /* which of a node's addresses to take */
};

enum reply_step reply_take(struct events_call *call, const struct reply_question *question,
                           const struct es_frame *frame, struct reply_node *ret_node);

/* Adds an event that was pushed; everything is copied. Returns 0, NO_MEMORY or PROTOCOL. */
int reply_take_event(struct batch *batch, kvs_slice body);
int reply_take_group_event(struct batch *batch, kvs_slice body);

#endif
