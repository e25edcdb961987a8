/* See txn_world.h. */
#include "unit/server/txn_world.h"

#include "pdpb.pb-c.h"

#include "test.h"

void txn_world_open(struct txn_world *world, const char *pd_address, const char *store_address)
{
    grpc_peer_open(&world->pd, pd_address);
    grpc_peer_open(&world->store, store_address);
    Pdpb__GetRegionRequest request = PDPB__GET_REGION_REQUEST__INIT;
    Pdpb__GetRegionResponse *reply;
    ASK(&world->pd, "/pdpb.PD/GetRegion", request, pdpb__get_region_response, &reply);
    kvrpcpb__context__init(&world->context);
    metapb__region_epoch__init(&world->epoch);
    metapb__peer__init(&world->peer);
    world->epoch.version = reply->region->region_epoch->version;
    world->epoch.conf_ver = reply->region->region_epoch->conf_ver;
    world->peer.id = reply->leader->id;
    world->peer.store_id = reply->leader->store_id;
    world->context.region_id = reply->region->id;
    world->context.region_epoch = &world->epoch;
    world->context.peer = &world->peer;
    FREE(reply);
}

void txn_world_close(struct txn_world *world)
{
    grpc_peer_close(&world->pd);
    grpc_peer_close(&world->store);
}

uint64_t txn_world_timestamp(struct txn_world *world)
{
    struct grpc_peer_call call;
    Pdpb__TsoRequest request = PDPB__TSO_REQUEST__INIT;
    request.count = 1;
    grpc_peer_start(&world->pd, &call, "/pdpb.PD/Tso", 0);
    grpc_peer_send(&call, &request.base);
    grpc_peer_half_close(&call);
    Pdpb__TsoResponse *reply = grpc_peer_next(&call, &pdpb__tso_response__descriptor);
    assert_non_null(reply);
    uint64_t ts = (uint64_t)reply->timestamp->physical << 18 | (uint64_t)reply->timestamp->logical;
    FREE(reply);
    assert_int_equal(grpc_peer_end(&call), GRPC_OK);
    return ts;
}
