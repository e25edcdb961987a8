/*
 * client/eventstore/catch_up.h: a subscription to a stream or to $all over a connection.
 *
 *          read pages        SubscribeToStream        confirmed            a page ends
 *   READ -------------> end ------------------> CONFIRM --------> GAP -------------------> LIVE
 *    ^                                                                                      |
 *    +------------- the buffer is full: unsubscribe, read again from what was given --------+
 *
 * In GAP, what is pushed is kept in the buffer, while pages are read until one ends at the end: it
 * was asked for after the confirmation, so between pages and pushes nothing is missing; what is in
 * both is left out by its number or position. A lost connection leads back to READ, which begins
 * behind what was given last; so nothing is lost or given twice. From the end: CONFIRM first, and
 * its numbers are where everything begins.
 *
 * Memory: the batch that the handler has, one page beyond, and the buffer. Thread: the loop.
 */
#ifndef CLIENT_EVENTSTORE_CATCH_UP_H
#define CLIENT_EVENTSTORE_CATCH_UP_H

#include "client/eventstore/connection.h"

/* Options are checked. Returns 0 or NO_MEMORY. Any thread. */
int catch_up_start(struct es_connection *connection, const struct kvs_subscribe_options *options,
                   const struct kvs_subscription_handlers *handlers, void *arg,
                   kvs_subscription **ret_subscription);

#endif
