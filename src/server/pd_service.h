/*
 * server/pd_service.h: the PD service: what clients ask before they talk to a store.
 *
 * pdpb.PD, keyspacepb.Keyspace, meta_storagepb.MetaStorage, what clients want of etcd, and a few
 * HTTP pages; docs/protocol/pd.md tells which. There is one member, one store, and every region's
 * leader is there. Answers are made on the loop, but for timestamps that wait for their bound and
 * for changes, which wait for the disk.
 *
 * Failures: a wrong cluster id is FAILED_PRECONDITION; what PD says in header.error, we do, too; an
 * engine that cannot write is UNAVAILABLE. Thread: each part on its loop.
 */
#ifndef SERVER_PD_SERVICE_H
#define SERVER_PD_SERVICE_H

#include "pd/cluster.h"
#include "server/grpc_service.h"

struct tikv_gc;
struct txn_node;

/* The state (rpc_state) of the PD port's methods on a loop. */
struct pd_service_loop {
    struct cluster *cluster;
    struct loop *loop;
    struct region_reader regions;
    struct txn_node *txn;     /* for the status port; NULL: none */
    const struct tikv_gc *gc; /* likewise */
};

extern const struct rpc_method pd_methods[];
extern const size_t pd_methods_count;
extern const struct http_route pd_routes[];
extern const size_t pd_routes_count;
/* Of the store's status port. */
extern const struct http_route status_routes[];
extern const size_t status_routes_count;

void pd_service_loop_init(struct pd_service_loop *at, struct cluster *cluster, struct loop *loop);
void pd_service_loop_deinit(struct pd_service_loop *at);

#endif
