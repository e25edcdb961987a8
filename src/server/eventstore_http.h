/*
 * server/eventstore_http.h: `--http`: what clients and people ask of an event store over HTTP: who
 * is in the cluster, is it up, what does it do, what do its persistent subscriptions. The port's
 * state is a struct es_service_loop.
 */
#ifndef SERVER_EVENTSTORE_HTTP_H
#define SERVER_EVENTSTORE_HTTP_H

#include "server/eventstore_service.h"
#include "server/grpc_service.h"
#include "stream/group.h"

#define EVENTSTORE_HTTP_BASE_SIZE (ADVERTISE_TEXT_SIZE + sizeof "https://")

/* Where clients find these pages, as in "http://host:2113". */
void eventstore_http_base(const struct es_service *service, const struct connection *asking,
                          char ret_base[EVENTSTORE_HTTP_BASE_SIZE]);

/* eventstore_subscriptions.c: what begins with /subscriptions. */
void eventstore_take_subscriptions(struct grpc_connection *connection,
                                   const struct http_request *request);

/* --- eventstore_group_info.c: groups as JSON -------------------------------------------------- */

/* Each appends, with links that begin with `base`, and returns 0 or NO_MEMORY. */
int group_summaries_append(struct buf *to, const char *base, const struct stream_group_info *infos,
                           uint32_t count);
int group_info_append(struct buf *to, const char *base, const struct stream_group_info *info);

extern const struct http_route eventstore_routes[];
extern const size_t eventstore_routes_count;

#endif
