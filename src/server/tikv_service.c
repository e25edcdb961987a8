/* server/tikv_service.c: see the header. */
#include "server/tikv_service.h"

const struct rpc_method tikv_methods[] = {{NULL}};
const size_t tikv_methods_count = 0;

void tikv_service_loop_init(struct tikv_service_loop *at, struct tikv_service *service,
                            struct loop *loop)
{
    *at = (struct tikv_service_loop){.service = service, .loop = loop};
    region_reader_init(&at->regions, service->cluster->regions);
}

void tikv_service_loop_close(struct tikv_service_loop *at)
{
    (void)at;
}

void tikv_service_loop_deinit(struct tikv_service_loop *at)
{
    region_reader_deinit(&at->regions);
}
