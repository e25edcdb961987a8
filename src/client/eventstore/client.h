/*
 * client/eventstore/client.h: a kvs_events over a connection to an EventStoreDB or a kvs-server.
 *
 * The connection does the work; here are the options' copies, the users' callbacks, and what goes
 * by HTTP. Threads: es_client_new any; callbacks come on the client's loop.
 */
#ifndef CLIENT_EVENTSTORE_CLIENT_H
#define CLIENT_EVENTSTORE_CLIENT_H

#include "client/events/events.h"
#include "client/events/url.h"

/* `options` has defaults filled in. `opened` is called once, on `loop`: 0 when the greeting is
 * done, else why the first attempt failed; then the client has to be closed. Returns 0, NO_MEMORY,
 * or INVALID_ARGUMENT (the files of TLS) with a line in ret_why; then `opened` is not called. */
int es_client_new(kvs_runtime *runtime, struct loop *loop, const struct events_url *url,
                  const struct kvs_events_options *options,
                  void (*opened)(void *arg, int error, const char *why), void *arg,
                  kvs_events **ret_events, char ret_why[256]);

#endif
