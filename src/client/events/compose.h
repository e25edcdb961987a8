/*
 * client/events/compose.h: calls that are made of other calls, by the composition of futures: the
 * same for every implementation. Arguments have been checked.
 */
#ifndef CLIENT_EVENTS_COMPOSE_H
#define CLIENT_EVENTS_COMPOSE_H

#include "client/events/events.h"

/* A call that is not composed. */
kvs_future *events_start(kvs_events *events, const struct events_request *request);
/* One that fails. */
kvs_future *events_refuse(kvs_events *events, int error, const char *why);

kvs_future *compose_get_metadata(kvs_events *events, kvs_slice stream,
                                 const kvs_call_options *options);
kvs_future *compose_set_metadata(kvs_events *events, kvs_slice stream, int64_t expected_version,
                                 kvs_slice json, const kvs_call_options *options);

/* Users as EventStoreDB keeps them: a stream $user-LOGIN each, whose last event tells all. */
kvs_future *compose_change_user(kvs_events *events, const struct events_request *request);
kvs_future *compose_get_users(kvs_events *events, const struct events_request *request);

#endif
