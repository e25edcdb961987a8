/*
 * client/eventstore/member.h: a member of a persistent subscription group, over a connection.
 *
 * 1. ConnectToPersistentSubscription; confirmed, the server pushes events, at most in_flight of
 *    them without an acknowledgement;
 * 2. what came in a turn is one batch for the handler; done, its events are acknowledged, or the
 *    user does so;
 * 3. a lost connection, or a group that was changed: it joins again, and what was not acknowledged
 *    comes again.
 * Memory: in_flight bounds it; a server that pushes more breaks the protocol. Thread: the loop.
 */
#ifndef CLIENT_EVENTSTORE_MEMBER_H
#define CLIENT_EVENTSTORE_MEMBER_H

#include "client/eventstore/connection.h"

/* Options are checked. Returns 0 or NO_MEMORY. Any thread. */
int member_start(struct es_connection *connection,
                 const struct kvs_group_subscribe_options *options,
                 const struct kvs_subscription_handlers *handlers, void *arg,
                 kvs_subscription **ret_subscription);

#endif
