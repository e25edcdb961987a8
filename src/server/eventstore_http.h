/*
 * server/eventstore_http.h: `--http`: what clients and people ask of an event store over HTTP: who
 * is in the cluster, is it up, what does it do. The port's state is a struct es_service_loop.
 */
#ifndef SERVER_EVENTSTORE_HTTP_H
#define SERVER_EVENTSTORE_HTTP_H

#include "server/grpc_service.h"

/* eventstore_replay.c: POST /subscriptions/STREAM/GROUP/replayParked. */
void eventstore_take_subscriptions(struct grpc_connection *connection,
                                   const struct http_request *request);

extern const struct http_route eventstore_routes[];
extern const size_t eventstore_routes_count;

#endif
