/* server/pd_service.c: members, timestamps and stores, and the table of methods; see the header. */
#include "server/pd_service.h"

#include "base/clock.h"
#include "pd/tso.h"
#include "server/pd_parts.h"
#include "server/tikv_faults.h"

#include <stdio.h>

void pd_service_loop_init(struct pd_service_loop *at, struct cluster *cluster, struct loop *loop)
{
    *at = (struct pd_service_loop){.cluster = cluster, .loop = loop};
    region_reader_init(&at->regions, cluster->regions);
}

void pd_service_loop_deinit(struct pd_service_loop *at)
{
    region_reader_deinit(&at->regions);
}

/* --- headers and errors --- */

/* A test has PD's leader away; who leads can be asked all the same. */
static bool is_away(struct rpc *rpc)
{
    if (!tikv_fault_pd_away() || strcmp(rpc->method->path, "/pdpb.PD/GetMembers") == 0)
        return false;
    rpc_fail(rpc, GRPC_UNAVAILABLE, "not leader");
    return true;
}

bool pd_check_header(struct rpc *rpc, const Pdpb__RequestHeader *header)
{
    if (is_away(rpc))
        return false;
    uint64_t id = pd_cluster(rpc)->id;
    if (header == NULL || header->cluster_id == 0 || header->cluster_id == id)
        return true;
    rpc_fail(rpc, GRPC_FAILED_PRECONDITION, "mismatch cluster id, need %llu but got %llu",
             (unsigned long long)id, (unsigned long long)header->cluster_id);
    return false;
}

Pdpb__ResponseHeader *pd_header(const struct rpc *rpc, Pdpb__ResponseHeader *header)
{
    pdpb__response_header__init(header);
    header->cluster_id = pd_cluster(rpc)->id;
    return header;
}

Pdpb__ResponseHeader *pd_error_header(const struct rpc *rpc, struct pd_error_header *header,
                                      Pdpb__ErrorType type, const char *message)
{
    pd_header(rpc, &header->header);
    pdpb__error__init(&header->error);
    header->error.type = type;
    header->error.message = (char *)(uintptr_t)message;
    header->header.error = &header->error;
    return &header->header;
}

void pd_fail(struct rpc *rpc, int error)
{
    bool memory = error == KVS_ERR_NO_MEMORY;
    rpc_fail(rpc, memory ? GRPC_RESOURCE_EXHAUSTED : GRPC_UNAVAILABLE, "%s", kvs_error_text(error));
}

static void tell_place(const struct cluster *cluster, const char *bound,
                       const struct connection *asking, char text[ADVERTISE_TEXT_SIZE])
{
    struct advertised place;
    advertise(cluster->advertise, bound, asking, &place);
    advertise_format(&place, text);
}

void pd_tell_places(const struct cluster *cluster, const struct connection *asking,
                    struct pd_places *ret_places)
{
    tell_place(cluster, cluster->pd_address, asking, ret_places->pd);
    tell_place(cluster, cluster->store_address, asking, ret_places->store);
    tell_place(cluster, cluster->status_address, asking, ret_places->status);
    snprintf(ret_places->pd_url, PD_URL_SIZE, "%s://%s", cluster->speaks_tls ? "https" : "http",
             ret_places->pd);
}

/* --- members --- */

static void get_members(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetMembersRequest *request =
        rpc_unpack(rpc, &pdpb__get_members_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    struct pd_places places;
    pd_tell_places(pd_cluster(rpc), pd_asking(rpc), &places);
    char *urls[] = {places.pd_url};
    Pdpb__Member member = PDPB__MEMBER__INIT;
    member.name = (char *)(uintptr_t)PD_MEMBER_NAME;
    member.member_id = PD_MEMBER_ID;
    member.n_peer_urls = member.n_client_urls = 1;
    member.peer_urls = member.client_urls = urls;
    member.binary_version = (char *)(uintptr_t)CLUSTER_TIKV_VERSION;
    Pdpb__Member *members[] = {&member};
    Pdpb__ResponseHeader header;
    Pdpb__GetMembersResponse response = PDPB__GET_MEMBERS_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.n_members = 1;
    response.members = members;
    response.leader = response.etcd_leader = &member;
    rpc_reply_message(rpc, &response.base);
}

static void get_cluster_info(struct rpc *rpc, kvs_slice message)
{
    (void)message; /* it says nothing that matters */
    Pdpb__ServiceMode modes[] = {PDPB__SERVICE_MODE__PD_SVC_MODE};
    Pdpb__ResponseHeader header;
    Pdpb__GetClusterInfoResponse response = PDPB__GET_CLUSTER_INFO_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.n_service_modes = 1;
    response.service_modes = modes;
    rpc_reply_message(rpc, &response.base);
}

static void is_bootstrapped(struct rpc *rpc, kvs_slice message)
{
    Pdpb__IsBootstrappedRequest *request =
        rpc_unpack(rpc, &pdpb__is_bootstrapped_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    Pdpb__ResponseHeader header;
    Pdpb__IsBootstrappedResponse response = PDPB__IS_BOOTSTRAPPED_RESPONSE__INIT;
    response.header = pd_header(rpc, &header);
    response.bootstrapped = true;
    rpc_reply_message(rpc, &response.base);
}

/* --- timestamps --- */

struct tso_call {
    struct tso_request request;
    struct rpc *rpc;
    struct rpc_arena *arena; /* this struct is in it */
};

static void fill_timestamp(Pdpb__Timestamp *timestamp, const struct timestamp *from)
{
    pdpb__timestamp__init(timestamp);
    timestamp->physical = (int64_t)from->physical;
    timestamp->logical = from->logical;
}

static void answer_tso(struct rpc *rpc, uint32_t count, const struct timestamp *last)
{
    Pdpb__ResponseHeader header;
    Pdpb__Timestamp timestamp;
    Pdpb__TsoResponse response = PDPB__TSO_RESPONSE__INIT;
    fill_timestamp(&timestamp, last);
    response.header = pd_header(rpc, &header);
    response.count = count;
    response.timestamp = &timestamp;
    rpc_send_message(rpc, &response.base);
}

static void answer_min_ts(struct rpc *rpc, const struct timestamp *last)
{
    Pdpb__ResponseHeader header;
    Pdpb__Timestamp timestamp;
    Pdpb__GetMinTSResponse response = PDPB__GET_MIN_TSRESPONSE__INIT;
    fill_timestamp(&timestamp, last);
    response.header = pd_header(rpc, &header);
    response.timestamp = &timestamp;
    rpc_reply_message(rpc, &response.base);
}

static void answer_timestamp(struct rpc *rpc, uint32_t count, const struct timestamp *last)
{
    if (rpc->method->kind == RPC_UNARY)
        answer_min_ts(rpc, last);
    else
        answer_tso(rpc, count, last);
}

static void on_timestamp(struct tso_request *request)
{
    struct tso_call *call = CONTAINER_OF(request, struct tso_call, request);
    struct rpc *rpc = call->rpc;
    if (request->error != 0)
        pd_fail(rpc, request->error);
    else
        answer_timestamp(rpc, request->count, &request->last);
    rpc_arena_give(rpc->at, call->arena);
    rpc_release(rpc);
}

/* A stream's answers come in the order of its requests: behind one that waits all others do. */
static void take_timestamp(struct rpc *rpc, uint32_t count)
{
    struct tso *tso = pd_cluster(rpc)->tso;
    struct timestamp last;
    if (rpc->holds == 0 && tso_take(tso, count, rpc->at->loop, &last)) {
        answer_timestamp(rpc, count, &last);
        return;
    }
    struct tso_call *call = rpc_alloc(rpc, sizeof *call);
    if (call == NULL) {
        pd_fail(rpc, KVS_ERR_NO_MEMORY);
        return;
    }
    *call = (struct tso_call){
        .request = {.count = count, .loop = rpc->at->loop, .done = on_timestamp},
        .rpc = rpc,
        .arena = rpc_take_arena(rpc),
    };
    rpc_hold(rpc);
    tso_wait(tso, &call->request);
}

static void tso(struct rpc *rpc, kvs_slice message)
{
    Pdpb__TsoRequest *request = rpc_unpack(rpc, &pdpb__tso_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    bool here = request->dc_location[0] == '\0' || strcmp(request->dc_location, "global") == 0;
    if (request->count == 0 || request->count > TSO_COUNT_MAX)
        rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "a request is for 1 to %u timestamps", TSO_COUNT_MAX);
    else if (!here)
        rpc_fail(rpc, GRPC_INVALID_ARGUMENT, "timestamps are global here");
    else
        take_timestamp(rpc, request->count);
}

static void get_min_ts(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetMinTSRequest *request = rpc_unpack(rpc, &pdpb__get_min_tsrequest__descriptor, message);
    if (request != NULL && pd_check_header(rpc, request->header))
        take_timestamp(rpc, 1);
}

/* --- stores --- */

static void fill_store(Metapb__Store *store, const struct rpc *rpc, struct pd_places *places)
{
    const struct cluster *cluster = pd_cluster(rpc);
    pd_tell_places(cluster, pd_asking(rpc), places);
    metapb__store__init(store);
    store->id = STORE_ID;
    store->address = store->peer_address = places->store;
    store->status_address = places->status;
    store->version = (char *)(uintptr_t)CLUSTER_TIKV_VERSION;
    store->state = METAPB__STORE_STATE__Up;
    store->node_state = METAPB__NODE_STATE__Serving;
    store->start_timestamp = (int64_t)(cluster->started_ms / 1000);
    store->last_heartbeat = (int64_t)clock_wall_ms() * 1000000; /* nanoseconds */
}

static void get_store(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetStoreRequest *request = rpc_unpack(rpc, &pdpb__get_store_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    Pdpb__GetStoreResponse response = PDPB__GET_STORE_RESPONSE__INIT;
    struct pd_error_header header;
    struct pd_places places;
    Metapb__Store store;
    char text[64];
    if (request->store_id == STORE_ID) {
        fill_store(&store, rpc, &places);
        response.store = &store;
        response.header = pd_header(rpc, &header.header);
    } else {
        snprintf(text, sizeof text, "invalid store ID %llu, not found",
                 (unsigned long long)request->store_id);
        response.header = pd_error_header(rpc, &header, PDPB__ERROR_TYPE__UNKNOWN, text);
    }
    rpc_reply_message(rpc, &response.base);
}

static void get_all_stores(struct rpc *rpc, kvs_slice message)
{
    Pdpb__GetAllStoresRequest *request =
        rpc_unpack(rpc, &pdpb__get_all_stores_request__descriptor, message);
    if (request == NULL || !pd_check_header(rpc, request->header))
        return;
    Pdpb__GetAllStoresResponse response = PDPB__GET_ALL_STORES_RESPONSE__INIT;
    Pdpb__ResponseHeader header;
    struct pd_places places;
    Metapb__Store store;
    Metapb__Store *stores[] = {&store};
    fill_store(&store, rpc, &places);
    response.header = pd_header(rpc, &header);
    response.n_stores = 1;
    response.stores = stores;
    rpc_reply_message(rpc, &response.base);
}

/* --- the table --- */

#define PD "/pdpb.PD/"
#define KEYSPACE "/keyspacepb.Keyspace/"

const struct rpc_method pd_methods[] = {
    {PD "Tso", RPC_STREAM, tso, NULL},
    {PD "QueryRegion", RPC_STREAM, pd_query_region, NULL},
    {PD "GetRegion", RPC_UNARY, pd_get_region, NULL},
    {PD "GetPrevRegion", RPC_UNARY, pd_get_prev_region, NULL},
    {PD "GetRegionByID", RPC_UNARY, pd_get_region_by_id, NULL},
    {PD "ScanRegions", RPC_UNARY, pd_scan_regions, NULL},
    {PD "BatchScanRegions", RPC_UNARY, pd_batch_scan_regions, NULL},
    {PD "GetMembers", RPC_UNARY, get_members, NULL},
    {PD "GetClusterInfo", RPC_UNARY, get_cluster_info, NULL},
    {PD "IsBootstrapped", RPC_UNARY, is_bootstrapped, NULL},
    {PD "GetStore", RPC_UNARY, get_store, NULL},
    {PD "GetAllStores", RPC_UNARY, get_all_stores, NULL},
    {PD "GetMinTS", RPC_UNARY, get_min_ts, NULL},
    {PD "SplitRegions", RPC_UNARY, pd_split_regions, NULL},
    {PD "ScatterRegion", RPC_UNARY, pd_scatter_region, NULL},
    {PD "GetOperator", RPC_UNARY, pd_get_operator, NULL},
    {PD "GetGCSafePoint", RPC_UNARY, pd_get_gc_safe_point, NULL},
    {PD "UpdateGCSafePoint", RPC_UNARY, pd_update_gc_safe_point, NULL},
    {PD "UpdateServiceGCSafePoint", RPC_UNARY, pd_update_service_gc_safe_point, NULL},
    {PD "GetGCState", RPC_UNARY, pd_get_gc_state, NULL},
    {PD "AdvanceTxnSafePoint", RPC_UNARY, pd_advance_txn_safe_point, NULL},
    {PD "AdvanceGCSafePoint", RPC_UNARY, pd_advance_gc_safe_point, NULL},
    {PD "SetGCBarrier", RPC_UNARY, pd_set_gc_barrier, NULL},
    {PD "DeleteGCBarrier", RPC_UNARY, pd_delete_gc_barrier, NULL},
    {KEYSPACE "LoadKeyspace", RPC_UNARY, pd_load_keyspace, NULL},
    {KEYSPACE "LoadKeyspaceByID", RPC_UNARY, pd_load_keyspace_by_id, NULL},
    {"/meta_storagepb.MetaStorage/Get", RPC_UNARY, pd_meta_get, NULL},
    {"/etcdserverpb.Cluster/MemberList", RPC_UNARY, pd_etcd_member_list, NULL},
    {"/etcdserverpb.KV/Range", RPC_UNARY, pd_etcd_range, NULL},
    {"/etcdserverpb.KV/Put", RPC_UNARY, pd_etcd_put, NULL},
};
const size_t pd_methods_count = sizeof pd_methods / sizeof pd_methods[0];
