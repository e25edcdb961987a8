/*
 * client/eventstore/request.h: what is asked for, as the body of a frame of the EventStoreDB TCP
 * protocol; see docs/protocol/eventstore.md. No state, any thread.
 */
#ifndef CLIENT_EVENTSTORE_REQUEST_H
#define CLIENT_EVENTSTORE_REQUEST_H

#include "client/events/events.h"
#include "proto/eventstore/commands.h"

struct request_wire {
    uint8_t command;
    uint8_t reply;
    bool repeatable; /* sent twice it does what it does once */
};

/* NULL: it goes by HTTP, or is composed. */
const struct request_wire *request_wire_of(const struct events_request *request);

/* Appends the body. Returns 0 or NO_MEMORY. */
int request_encode(const struct events_request *request, struct buf *body);

/* The same of a filter, for subscriptions; `texts` has room for KVS_FILTER_PATTERNS_MAX. */
void request_set_filter(const kvs_event_filter *filter, struct es_filter *ret_filter);

#endif
