/*
 * server/tikv_service.h: the TiKV service: tikvpb.Tikv, on the store's port.
 *
 * One part on each loop, which is the state (rpc_state) of the methods there.
 */
#ifndef SERVER_TIKV_SERVICE_H
#define SERVER_TIKV_SERVICE_H

#include "pd/cluster.h"
#include "server/grpc_service.h"

struct tikv_service {
    struct cluster *cluster;
    struct engine *engine;
    uint32_t value_size_max;
};

struct tikv_service_loop {
    struct tikv_service *service;
    struct loop *loop;
    struct region_reader regions;
};

extern const struct rpc_method tikv_methods[];
extern const size_t tikv_methods_count;

/* On a loop that is not started. */
void tikv_service_loop_init(struct tikv_service_loop *at, struct tikv_service *service,
                            struct loop *loop);
/* Its handles begin to close; on the loop's thread, when no connection is left. */
void tikv_service_loop_close(struct tikv_service_loop *at);
void tikv_service_loop_deinit(struct tikv_service_loop *at);

#endif
