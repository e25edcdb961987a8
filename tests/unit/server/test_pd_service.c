/* The PD service over real sockets, with our gRPC client: what clients ask, and what lasts. */
#include "unit/server/grpc_peer.h"
#include "unit/server/server_fixture.h"

#include "base/mem.h"
#include "keyspacepb.pb-c.h"
#include "pd/cluster.h"
#include "pdpb.pb-c.h"

#include "etcdserverpb.pb-c.h"
#include "health.pb-c.h"
#include "meta_storagepb.pb-c.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>

#include "test.h"

#define PD "/pdpb.PD/"
#define ASK(peer, method, request, type, ret_reply)                                         \
    assert_int_equal(                                                                       \
        grpc_peer_ask(peer, method, &(request).base, &type##__descriptor, ret_reply, NULL), \
        GRPC_OK)
#define FREE(message) protobuf_c_message_free_unpacked(&(message)->base, NULL)

static kvs_server *start(const char *directory)
{
    const struct kvs_server_options options = {
        .tikv = "127.0.0.1:0,127.0.0.1:0",
        .keyspaces = "app",
        .directory = directory,
        .engine = directory != NULL ? "kvs" : NULL,
    };
    return server_start(&options);
}

static uint64_t cluster_id(struct grpc_peer *peer)
{
    Pdpb__GetMembersRequest request = PDPB__GET_MEMBERS_REQUEST__INIT;
    Pdpb__GetMembersResponse *reply;
    ASK(peer, PD "GetMembers", request, pdpb__get_members_response, &reply);
    uint64_t id = reply->header->cluster_id;
    FREE(reply);
    return id;
}

static void test_members(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    Pdpb__GetMembersRequest request = PDPB__GET_MEMBERS_REQUEST__INIT;
    Pdpb__GetMembersResponse *members;
    ASK(&peer, PD "GetMembers", request, pdpb__get_members_response, &members);
    char url[80];
    snprintf(url, sizeof url, "http://%s", kvs_server_pd_address(server));
    assert_null(members->header->error);
    assert_true(members->header->cluster_id != 0);
    assert_int_equal(members->n_members, 1);
    assert_int_equal(members->leader->n_client_urls, 1);
    assert_string_equal(members->leader->client_urls[0], url);
    assert_true(members->leader->member_id != 0);
    assert_int_equal(members->leader->member_id, members->etcd_leader->member_id);
    FREE(members);

    Pdpb__GetClusterInfoRequest info_request = PDPB__GET_CLUSTER_INFO_REQUEST__INIT;
    Pdpb__GetClusterInfoResponse *info;
    ASK(&peer, PD "GetClusterInfo", info_request, pdpb__get_cluster_info_response, &info);
    assert_int_equal(info->n_service_modes, 1);
    assert_int_equal(info->service_modes[0], PDPB__SERVICE_MODE__PD_SVC_MODE);
    FREE(info);

    Pdpb__IsBootstrappedRequest is_request = PDPB__IS_BOOTSTRAPPED_REQUEST__INIT;
    Pdpb__IsBootstrappedResponse *is;
    ASK(&peer, PD "IsBootstrapped", is_request, pdpb__is_bootstrapped_response, &is);
    assert_true(is->bootstrapped);
    FREE(is);

    Etcdserverpb__MemberListRequest list_request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    Etcdserverpb__MemberListResponse *list;
    ASK(&peer, "/etcdserverpb.Cluster/MemberList", list_request, etcdserverpb__member_list_response,
        &list);
    assert_int_equal(list->n_members, 1);
    assert_string_equal(list->members[0]->client_urls[0], url);
    assert_string_not_equal(list->members[0]->name, "");
    FREE(list);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void test_stores(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    Pdpb__GetAllStoresRequest all_request = PDPB__GET_ALL_STORES_REQUEST__INIT;
    Pdpb__GetAllStoresResponse *all;
    ASK(&peer, PD "GetAllStores", all_request, pdpb__get_all_stores_response, &all);
    assert_int_equal(all->n_stores, 1);
    assert_string_equal(all->stores[0]->address, kvs_server_tikv_address(server));
    assert_string_equal(all->stores[0]->status_address, kvs_server_tikv_status_address(server));
    assert_string_equal(all->stores[0]->version, CLUSTER_TIKV_VERSION);
    FREE(all);
    Pdpb__GetStoreRequest request = PDPB__GET_STORE_REQUEST__INIT;
    Pdpb__GetStoreResponse *reply;
    request.store_id = STORE_ID;
    ASK(&peer, PD "GetStore", request, pdpb__get_store_response, &reply);
    assert_null(reply->header->error);
    assert_int_equal(reply->store->id, STORE_ID);
    FREE(reply);
    request.store_id = 77;
    ASK(&peer, PD "GetStore", request, pdpb__get_store_response, &reply);
    assert_non_null(reply->header->error);
    assert_string_equal(reply->header->error->message, "invalid store ID 77, not found");
    assert_null(reply->store);
    FREE(reply);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void assert_told(const char *host, const char *bound, const char *told)
{
    char expected[ADDRESS_TEXT_SIZE + 64];
    snprintf(expected, sizeof expected, "%s:%s", host, strrchr(bound, ':') + 1);
    assert_string_equal(told, expected);
}

/* Listens on any address; `at` is where the client connects to. */
static void assert_clients_are_sent_to(const char *any, const char *at, const char *advertise,
                                       const char *host)
{
    char addresses[64], pd[ADDRESS_TEXT_SIZE];
    snprintf(addresses, sizeof addresses, "%s,%s", any, any);
    const struct kvs_server_options options = {.tikv = addresses, .advertise = advertise};
    kvs_server *server = server_start(&options);
    struct grpc_peer peer;
    snprintf(pd, sizeof pd, "%s%s", at, strrchr(kvs_server_pd_address(server), ':'));
    grpc_peer_open(&peer, pd);
    Pdpb__GetMembersRequest members_request = PDPB__GET_MEMBERS_REQUEST__INIT;
    Pdpb__GetMembersResponse *members;
    ASK(&peer, PD "GetMembers", members_request, pdpb__get_members_response, &members);
    const char *url = members->leader->client_urls[0];
    assert_int_equal(strncmp(url, "http://", 7), 0);
    assert_told(host, pd, url + 7);
    FREE(members);
    Pdpb__GetAllStoresRequest stores_request = PDPB__GET_ALL_STORES_REQUEST__INIT;
    Pdpb__GetAllStoresResponse *stores;
    ASK(&peer, PD "GetAllStores", stores_request, pdpb__get_all_stores_response, &stores);
    assert_told(host, kvs_server_tikv_address(server), stores->stores[0]->address);
    assert_told(host, kvs_server_tikv_status_address(server), stores->stores[0]->status_address);
    FREE(stores);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void test_clients_are_sent_where_they_can_go(void **state)
{
    (void)state;
    assert_clients_are_sent_to("0.0.0.0:0", "127.0.0.1", NULL, "127.0.0.1");
    assert_clients_are_sent_to("0.0.0.0:0", "127.0.0.2", NULL, "127.0.0.2");
    assert_clients_are_sent_to("127.0.0.1:0", "127.0.0.1", "kvs.example.com", "kvs.example.com");
    assert_clients_are_sent_to("127.0.0.1:0", "127.0.0.1", "2001:db8::1", "[2001:db8::1]");
}

/* --- regions --- */

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static Pdpb__GetRegionResponse *get_region(struct grpc_peer *peer, const char *method,
                                           const char *key)
{
    Pdpb__GetRegionRequest request = PDPB__GET_REGION_REQUEST__INIT;
    Pdpb__GetRegionResponse *reply;
    request.region_key = bytes_of(key);
    ASK(peer, method, request, pdpb__get_region_response, &reply);
    return reply;
}

static uint64_t region_of(struct grpc_peer *peer, const char *method, const char *key)
{
    Pdpb__GetRegionResponse *reply = get_region(peer, method, key);
    uint64_t id = reply->region != NULL ? reply->region->id : 0;
    if (reply->region != NULL) {
        assert_int_equal(reply->region->n_peers, 1);
        assert_int_equal(reply->leader->id, reply->region->peers[0]->id);
        assert_int_equal(reply->leader->store_id, STORE_ID);
        assert_true(reply->region->region_epoch->version >= 1);
        assert_true(reply->region->region_epoch->conf_ver >= 1);
    }
    FREE(reply);
    return id;
}

static void split(struct grpc_peer *peer, const char *first, const char *second)
{
    Pdpb__SplitRegionsRequest request = PDPB__SPLIT_REGIONS_REQUEST__INIT;
    Pdpb__SplitRegionsResponse *reply;
    ProtobufCBinaryData keys[] = {bytes_of(first), bytes_of(second)};
    request.n_split_keys = 2;
    request.split_keys = keys;
    ASK(peer, PD "SplitRegions", request, pdpb__split_regions_response, &reply);
    assert_null(reply->header->error);
    assert_int_equal(reply->finished_percentage, 100);
    assert_int_equal(reply->n_regions_id, 2);
    assert_int_equal(reply->regions_id[0], region_of(peer, PD "GetPrevRegion", first));
    assert_int_equal(reply->regions_id[1], region_of(peer, PD "GetPrevRegion", second));
    FREE(reply);
}

static size_t scan_regions(struct grpc_peer *peer, const char *from, const char *to, int32_t limit)
{
    Pdpb__ScanRegionsRequest request = PDPB__SCAN_REGIONS_REQUEST__INIT;
    Pdpb__ScanRegionsResponse *reply;
    request.start_key = bytes_of(from);
    request.end_key = bytes_of(to);
    request.limit = limit;
    ASK(peer, PD "ScanRegions", request, pdpb__scan_regions_response, &reply);
    size_t count = reply->n_regions;
    assert_int_equal(reply->n_region_metas, count);
    assert_int_equal(reply->n_leaders, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(reply->regions[i]->region->id, reply->region_metas[i]->id);
        assert_int_equal(reply->regions[i]->leader->id, reply->leaders[i]->id);
        if (i > 0)
            assert_true(slice_equal(slice_make(reply->region_metas[i - 1]->end_key.data,
                                               reply->region_metas[i - 1]->end_key.len),
                                    slice_make(reply->region_metas[i]->start_key.data,
                                               reply->region_metas[i]->start_key.len)));
    }
    FREE(reply);
    return count;
}

static void test_regions(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    /* DEFAULT and one more keyspace: r0 r1 r2 x0 x1 x2 */
    assert_int_equal(scan_regions(&peer, "", "", 0), 7);
    assert_int_equal(scan_regions(&peer, "", "", 3), 3);
    assert_int_equal(scan_regions(&peer, "a", "b", 0), 1);
    assert_int_equal(region_of(&peer, PD "GetPrevRegion", "a"), 0);
    split(&peer, "g", "m");
    assert_int_equal(scan_regions(&peer, "", "", 0), 9);
    assert_int_equal(scan_regions(&peer, "a", "g", 0), 1);
    assert_int_equal(scan_regions(&peer, "a", "h", 0), 2);
    split(&peer, "g", "m"); /* again: nothing happens */
    assert_int_equal(scan_regions(&peer, "", "", 0), 9);
    uint64_t middle = region_of(&peer, PD "GetRegion", "h");
    assert_int_equal(region_of(&peer, PD "GetPrevRegion", "m"), middle);

    Pdpb__GetRegionByIDRequest by_id = PDPB__GET_REGION_BY_IDREQUEST__INIT;
    Pdpb__GetRegionResponse *reply;
    by_id.region_id = middle;
    ASK(&peer, PD "GetRegionByID", by_id, pdpb__get_region_response, &reply);
    assert_slice_equal(slice_make(reply->region->start_key.data, reply->region->start_key.len),
                       "g");
    FREE(reply);
    by_id.region_id = 999999;
    ASK(&peer, PD "GetRegionByID", by_id, pdpb__get_region_response, &reply);
    assert_null(reply->region);
    assert_null(reply->header->error);
    FREE(reply);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void test_batch_scan_and_query(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    split(&peer, "g", "m");
    Pdpb__KeyRange ranges[] = {PDPB__KEY_RANGE__INIT, PDPB__KEY_RANGE__INIT};
    Pdpb__KeyRange *list[] = {&ranges[0], &ranges[1]};
    ranges[0].start_key = bytes_of("a");
    ranges[0].end_key = bytes_of("h");
    ranges[1].start_key = bytes_of("i");
    ranges[1].end_key = bytes_of("n");
    Pdpb__BatchScanRegionsRequest scan = PDPB__BATCH_SCAN_REGIONS_REQUEST__INIT;
    Pdpb__BatchScanRegionsResponse *scanned;
    scan.n_ranges = 2;
    scan.ranges = list;
    ASK(&peer, PD "BatchScanRegions", scan, pdpb__batch_scan_regions_response, &scanned);
    assert_int_equal(scanned->n_regions, 3); /* the middle one once */
    FREE(scanned);
    list[0] = &ranges[1];
    list[1] = &ranges[0];
    assert_int_equal(grpc_peer_ask(&peer, PD "BatchScanRegions", &scan.base,
                                   &pdpb__batch_scan_regions_response__descriptor, &scanned, NULL),
                     GRPC_INVALID_ARGUMENT);

    struct grpc_peer_call call;
    grpc_peer_start(&peer, &call, PD "QueryRegion", 0);
    for (unsigned i = 0; i < 3; i++) {
        ProtobufCBinaryData keys[] = {bytes_of("h"), bytes_of("z"), bytes_of("i")};
        ProtobufCBinaryData prev_keys[] = {bytes_of(""), bytes_of("m")};
        uint64_t ids[] = {region_of(&peer, PD "GetRegion", "a"), 999999};
        Pdpb__QueryRegionRequest query = PDPB__QUERY_REGION_REQUEST__INIT;
        query.n_keys = 3;
        query.keys = keys;
        query.n_prev_keys = 2;
        query.prev_keys = prev_keys;
        query.n_ids = 2;
        query.ids = ids;
        grpc_peer_send(&call, &query.base);
        Pdpb__QueryRegionResponse *reply =
            grpc_peer_next(&call, &pdpb__query_region_response__descriptor);
        assert_int_equal(reply->n_key_id_map, 3);
        assert_int_equal(reply->key_id_map[0], region_of(&peer, PD "GetRegion", "h"));
        assert_int_equal(reply->key_id_map[1], region_of(&peer, PD "GetRegion", "z"));
        assert_int_equal(reply->key_id_map[2], reply->key_id_map[0]);
        assert_int_equal(reply->n_prev_key_id_map, 2);
        assert_int_equal(reply->prev_key_id_map[0], 0);
        assert_int_equal(reply->prev_key_id_map[1], reply->key_id_map[0]);
        assert_int_equal(reply->n_regions_by_id, 3);
        FREE(reply);
    }
    grpc_peer_half_close(&call);
    assert_int_equal(grpc_peer_end(&call), GRPC_OK);
    grpc_peer_close(&peer);
    server_stop(server);
}

/* --- timestamps --- */

static uint64_t last_of(const Pdpb__TsoResponse *reply, uint32_t count)
{
    assert_null(reply->header->error);
    assert_int_equal(reply->count, count);
    assert_true(reply->timestamp->logical < 1 << 18);
    return (uint64_t)reply->timestamp->physical << 18 | (uint64_t)reply->timestamp->logical;
}

static void tso_send(struct grpc_peer_call *call, uint32_t count)
{
    Pdpb__TsoRequest request = PDPB__TSO_REQUEST__INIT;
    request.count = count;
    grpc_peer_send(call, &request.base);
}

static uint64_t tso_next(struct grpc_peer_call *call, uint32_t count)
{
    Pdpb__TsoResponse *reply = grpc_peer_next(call, &pdpb__tso_response__descriptor);
    assert_non_null(reply);
    uint64_t last = last_of(reply, count);
    FREE(reply);
    return last;
}

/* As the Java client does it: one request, the end, one answer, the end. */
static uint64_t tso_once(struct grpc_peer *peer, uint32_t count)
{
    struct grpc_peer_call call;
    grpc_peer_start(peer, &call, PD "Tso", 5000);
    tso_send(&call, count);
    grpc_peer_half_close(&call);
    uint64_t last = tso_next(&call, count);
    assert_int_equal(grpc_peer_end(&call), GRPC_OK);
    return last;
}

static void test_timestamps(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer, other;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    grpc_peer_open(&other, kvs_server_pd_address(server)); /* on another loop */
    struct grpc_peer_call call;
    grpc_peer_start(&peer, &call, PD "Tso", 0);
    uint64_t last = 0;
    for (unsigned round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 100; i++)
            tso_send(&call, 1 + i * 100); /* the first of all wait for the bound */
        for (uint32_t i = 0; i < 100; i++) {
            uint64_t next = tso_next(&call, 1 + i * 100);
            assert_true(next - i * 100 > last);
            last = next;
        }
        uint64_t once = tso_once(&other, 7);
        assert_true(once - 6 > last);
        last = once;
    }
    grpc_peer_half_close(&call);
    assert_int_equal(grpc_peer_end(&call), GRPC_OK);

    for (unsigned i = 0; i < 2; i++) {
        grpc_peer_start(&peer, &call, PD "Tso", 0);
        tso_send(&call, i == 0 ? 0 : (1u << 18) + 1);
        assert_null(grpc_peer_next(&call, &pdpb__tso_response__descriptor));
        assert_int_equal(grpc_peer_end(&call), GRPC_INVALID_ARGUMENT);
    }
    Pdpb__GetMinTSRequest request = PDPB__GET_MIN_TSREQUEST__INIT;
    Pdpb__GetMinTSResponse *reply;
    ASK(&peer, PD "GetMinTS", request, pdpb__get_min_tsresponse, &reply);
    assert_true((uint64_t)reply->timestamp->physical >= last >> 18);
    FREE(reply);
    grpc_peer_close(&other);
    grpc_peer_close(&peer);
    server_stop(server);
}

/* --- what lasts --- */

static uint64_t update_safe_point(struct grpc_peer *peer, uint64_t safe_point)
{
    Pdpb__UpdateGCSafePointRequest request = PDPB__UPDATE_GCSAFE_POINT_REQUEST__INIT;
    Pdpb__UpdateGCSafePointResponse *reply;
    request.safe_point = safe_point;
    ASK(peer, PD "UpdateGCSafePoint", request, pdpb__update_gcsafe_point_response, &reply);
    uint64_t now = reply->new_safe_point;
    FREE(reply);
    return now;
}

static uint64_t safe_point_of(struct grpc_peer *peer)
{
    Pdpb__GetGCSafePointRequest request = PDPB__GET_GCSAFE_POINT_REQUEST__INIT;
    Pdpb__GetGCSafePointResponse *reply;
    ASK(peer, PD "GetGCSafePoint", request, pdpb__get_gcsafe_point_response, &reply);
    uint64_t now = reply->safe_point;
    FREE(reply);
    return now;
}

static void test_a_restart_changes_nothing(void **state)
{
    (void)state;
    char directory[64];
    uint64_t id = 0, last = 0;
    size_t regions = 0;
    directory_make(directory);
    for (unsigned i = 0; i < 4; i++) {
        kvs_server *server = start(directory);
        struct grpc_peer peer;
        grpc_peer_open(&peer, kvs_server_pd_address(server));
        assert_true(i == 0 || cluster_id(&peer) == id);
        id = cluster_id(&peer);
        uint64_t now = tso_once(&peer, 5);
        assert_true(now - 4 > last);
        last = now;
        assert_true(i == 0 || scan_regions(&peer, "", "", 0) == regions);
        char key[] = {(char)('b' + i), '\0'};
        split(&peer, key, "q");
        regions = scan_regions(&peer, "", "", 0);
        assert_int_equal(regions, 9 + i);
        assert_int_equal(safe_point_of(&peer), i * 10);
        assert_int_equal(update_safe_point(&peer, 0), i * 10);
        assert_int_equal(update_safe_point(&peer, (i + 1) * 10), (i + 1) * 10);
        grpc_peer_close(&peer);
        server_stop(server);
    }
    directory_remove(directory);
}

/* --- keyspaces, safe points, the rest --- */

static void test_keyspaces(void **state)
{
    (void)state;
    static const char *const names[] = {"DEFAULT", "app"};
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    Keyspacepb__LoadKeyspaceRequest request = KEYSPACEPB__LOAD_KEYSPACE_REQUEST__INIT;
    Keyspacepb__LoadKeyspaceResponse *reply;
    for (uint32_t i = 0; i < 2; i++) {
        request.name = (char *)(uintptr_t)names[i];
        ASK(&peer, "/keyspacepb.Keyspace/LoadKeyspace", request, keyspacepb__load_keyspace_response,
            &reply);
        assert_null(reply->header->error);
        assert_int_equal(reply->keyspace->id, i);
        assert_int_equal(reply->keyspace->keyspace_case, KEYSPACEPB__KEYSPACE_META__KEYSPACE_ID);
        assert_string_equal(reply->keyspace->name, names[i]);
        FREE(reply);
        Keyspacepb__LoadKeyspaceByIDRequest by_id = KEYSPACEPB__LOAD_KEYSPACE_BY_IDREQUEST__INIT;
        by_id.id = i;
        ASK(&peer, "/keyspacepb.Keyspace/LoadKeyspaceByID", by_id,
            keyspacepb__load_keyspace_response, &reply);
        assert_string_equal(reply->keyspace->name, names[i]);
        FREE(reply);
    }
    request.name = (char *)(uintptr_t) "nobody";
    ASK(&peer, "/keyspacepb.Keyspace/LoadKeyspace", request, keyspacepb__load_keyspace_response,
        &reply);
    assert_int_equal(reply->header->error->type, PDPB__ERROR_TYPE__ENTRY_NOT_FOUND);
    FREE(reply);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void set_barrier(struct grpc_peer *peer)
{
    Pdpb__SetGCBarrierRequest set = PDPB__SET_GCBARRIER_REQUEST__INIT;
    Pdpb__SetGCBarrierResponse *was_set;
    set.barrier_id = (char *)(uintptr_t) "backup";
    set.barrier_ts = 150;
    set.ttl_seconds = 1000;
    ASK(peer, PD "SetGCBarrier", set, pdpb__set_gcbarrier_response, &was_set);
    assert_null(was_set->header->error);
    assert_int_equal(was_set->new_barrier_info->barrier_ts, 150);
    assert_int_equal(was_set->new_barrier_info->ttl_seconds, 1000);
    FREE(was_set);
}

static void test_safe_points(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    set_barrier(&peer);

    Pdpb__AdvanceTxnSafePointRequest advance = PDPB__ADVANCE_TXN_SAFE_POINT_REQUEST__INIT;
    Pdpb__AdvanceTxnSafePointResponse *advanced;
    advance.target = 200;
    ASK(&peer, PD "AdvanceTxnSafePoint", advance, pdpb__advance_txn_safe_point_response, &advanced);
    assert_int_equal(advanced->old_txn_safe_point, 0);
    assert_int_equal(advanced->new_txn_safe_point, 150);
    assert_string_not_equal(advanced->blocker_description, "");
    FREE(advanced);

    Pdpb__AdvanceGCSafePointRequest collect = PDPB__ADVANCE_GCSAFE_POINT_REQUEST__INIT;
    Pdpb__AdvanceGCSafePointResponse *collected;
    collect.target = 151;
    ASK(&peer, PD "AdvanceGCSafePoint", collect, pdpb__advance_gcsafe_point_response, &collected);
    assert_non_null(collected->header->error);
    FREE(collected);
    collect.target = 140;
    ASK(&peer, PD "AdvanceGCSafePoint", collect, pdpb__advance_gcsafe_point_response, &collected);
    assert_null(collected->header->error);
    assert_int_equal(collected->new_gc_safe_point, 140);
    FREE(collected);

    Pdpb__GetGCStateRequest get = PDPB__GET_GCSTATE_REQUEST__INIT;
    Pdpb__GetGCStateResponse *got;
    ASK(&peer, PD "GetGCState", get, pdpb__get_gcstate_response, &got);
    assert_int_equal(got->gc_state->txn_safe_point, 150);
    assert_int_equal(got->gc_state->gc_safe_point, 140);
    assert_int_equal(got->gc_state->n_gc_barriers, 1);
    assert_string_equal(got->gc_state->gc_barriers[0]->barrier_id, "backup");
    FREE(got);

    grpc_peer_close(&peer);
    server_stop(server);
}

static void test_barriers_and_services(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    set_barrier(&peer);
    Pdpb__DeleteGCBarrierRequest drop = PDPB__DELETE_GCBARRIER_REQUEST__INIT;
    Pdpb__DeleteGCBarrierResponse *dropped;
    drop.barrier_id = (char *)(uintptr_t) "backup";
    ASK(&peer, PD "DeleteGCBarrier", drop, pdpb__delete_gcbarrier_response, &dropped);
    assert_string_equal(dropped->deleted_barrier_info->barrier_id, "backup");
    FREE(dropped);

    Pdpb__UpdateServiceGCSafePointRequest service = PDPB__UPDATE_SERVICE_GCSAFE_POINT_REQUEST__INIT;
    Pdpb__UpdateServiceGCSafePointResponse *served;
    service.service_id = bytes_of("gc_worker");
    service.ttl = INT64_MAX;
    service.safe_point = 160;
    ASK(&peer, PD "UpdateServiceGCSafePoint", service, pdpb__update_service_gcsafe_point_response,
        &served);
    assert_int_equal(served->min_safe_point, 160);
    assert_int_equal(served->ttl, INT64_MAX);
    FREE(served);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void test_odds_and_ends(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    MetaStoragepb__GetRequest get = META_STORAGEPB__GET_REQUEST__INIT;
    MetaStoragepb__GetResponse *got;
    ASK(&peer, "/meta_storagepb.MetaStorage/Get", get, meta_storagepb__get_response, &got);
    assert_int_equal(got->count, 0);
    assert_int_equal(got->header->cluster_id, cluster_id(&peer));
    FREE(got);
    Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse *ranged;
    ASK(&peer, "/etcdserverpb.KV/Range", range, etcdserverpb__range_response, &ranged);
    assert_int_equal(ranged->n_kvs, 0);
    FREE(ranged);
    Grpc__Health__V1__HealthCheckRequest check = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    Grpc__Health__V1__HealthCheckResponse *checked;
    ASK(&peer, "/grpc.health.v1.Health/Check", check, grpc__health__v1__health_check_response,
        &checked);
    assert_int_equal(checked->status,
                     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING);
    FREE(checked);
    Pdpb__ScatterRegionRequest scatter = PDPB__SCATTER_REGION_REQUEST__INIT;
    Pdpb__ScatterRegionResponse *scattered;
    ASK(&peer, PD "ScatterRegion", scatter, pdpb__scatter_region_response, &scattered);
    assert_int_equal(scattered->finished_percentage, 100);
    FREE(scattered);
    Pdpb__GetOperatorRequest operation = PDPB__GET_OPERATOR_REQUEST__INIT;
    Pdpb__GetOperatorResponse *operated;
    ASK(&peer, PD "GetOperator", operation, pdpb__get_operator_response, &operated);
    assert_int_equal(operated->status, PDPB__OPERATOR_STATUS__SUCCESS);
    FREE(operated);
    grpc_peer_close(&peer);
    server_stop(server);
}

static void test_refusals(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    char text[256], wanted[256];
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    uint64_t id = cluster_id(&peer);
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    Pdpb__GetRegionRequest request = PDPB__GET_REGION_REQUEST__INIT;
    void *reply;
    request.header = &header;
    header.cluster_id = id;
    assert_int_equal(grpc_peer_ask(&peer, PD "GetRegion", &request.base,
                                   &pdpb__get_region_response__descriptor, &reply, NULL),
                     GRPC_OK);
    protobuf_c_message_free_unpacked(reply, NULL);
    header.cluster_id = id + 1;
    assert_int_equal(grpc_peer_ask(&peer, PD "GetRegion", &request.base,
                                   &pdpb__get_region_response__descriptor, &reply, text),
                     GRPC_FAILED_PRECONDITION);
    snprintf(wanted, sizeof wanted, "mismatch cluster id, need %llu but got %llu",
             (unsigned long long)id, (unsigned long long)id + 1);
    assert_string_equal(text, wanted);
    static const char *const unknown[] = {PD "Bootstrap", "/tikvpb.Tikv/RawGet", "/x.Y/Z",
                                          PD "GetRegio"};
    for (unsigned i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
        assert_int_equal(grpc_peer_ask(&peer, unknown[i], &request.base,
                                       &pdpb__get_region_response__descriptor, &reply, text),
                         GRPC_UNIMPLEMENTED);
    /* not protobuf */
    struct grpc_peer_call call;
    grpc_peer_start(&peer, &call, PD "GetRegion", 0);
    assert_int_equal(grpc_call_send(call.call, slice_of_string("\xff\xff\xff")), 0);
    grpc_peer_half_close(&call);
    assert_int_equal(grpc_peer_end(&call), GRPC_INTERNAL);
    grpc_peer_close(&peer);
    server_stop(server);
}

/* --- the end, and peers that do not take part --- */

static void test_stops_with_streams_open(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    struct grpc_peer_call call;
    grpc_peer_start(&peer, &call, PD "Tso", 0);
    tso_send(&call, 1);
    tso_next(&call, 1);
    server_stop(server); /* within its grace time, which is longer than a test may take */
    assert_int_equal(grpc_peer_end(&call), GRPC_UNAVAILABLE);
    grpc_peer_close(&peer);
}

static void *stop_in_thread(void *server)
{
    server_stop(server);
    return NULL;
}

/* The client had not read yet that the server goes, and asks nothing on the stream. */
static void test_stops_with_a_stream_on_its_way(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    assert_true(cluster_id(&peer) != 0);
    peer.stalled = true;
    pthread_t stopping;
    assert_int_equal(pthread_create(&stopping, NULL, stop_in_thread, server), 0);
    struct pollfd goaway = {.fd = peer.descriptor, .events = POLLIN};
    assert_int_equal(poll(&goaway, 1, -1), 1);
    struct grpc_peer_call call;
    grpc_peer_start(&peer, &call, PD "Tso", 0);
    grpc_peer_turn(&peer, 0);
    peer.stalled = false;
    assert_int_equal(grpc_peer_end(&call), GRPC_UNAVAILABLE);
    pthread_join(stopping, NULL);
    grpc_peer_close(&peer);
}

/* Nothing is owed to a client that does not say all of what it asks. */
static void test_stops_with_a_request_that_does_not_come(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    struct grpc_peer_call call;
    grpc_peer_start(&peer, &call, PD "GetMembers", 0);
    assert_true(cluster_id(&peer) != 0); /* behind it on the same connection */
    pthread_t stopping;
    assert_int_equal(pthread_create(&stopping, NULL, stop_in_thread, server), 0);
    assert_int_equal(grpc_peer_end(&call), GRPC_UNAVAILABLE);
    assert_string_equal(call.text, "the server is stopping");
    pthread_join(stopping, NULL);
    grpc_peer_close(&peer);
}

/* A client that asks and does not read: the server stops reading it, and serves others. */
static void test_a_deaf_client(void **state)
{
    (void)state;
    kvs_server *server = start(NULL);
    struct grpc_peer deaf, peer;
    struct grpc_peer_call calls[4];
    grpc_peer_open(&deaf, kvs_server_pd_address(server));
    grpc_peer_open(&peer, kvs_server_pd_address(server));
    split(&peer, "g", "m");
    for (unsigned i = 0; i < 4; i++)
        grpc_peer_start(&deaf, &calls[i], PD "QueryRegion", 0);
    deaf.stalled = true;
    ProtobufCBinaryData keys[] = {bytes_of("a"), bytes_of("h"), bytes_of("n"), bytes_of("z")};
    Pdpb__QueryRegionRequest query = PDPB__QUERY_REGION_REQUEST__INIT;
    query.n_keys = 4;
    query.keys = keys;
    size_t asked = 0;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 4; i++) {
            uint8_t *room;
            for (unsigned k = 0; k < 100; k++) {
                size_t size = protobuf_c_message_get_packed_size(&query.base);
                if (grpc_call_send_room(calls[i].call, size, &room) != 0)
                    break;
                protobuf_c_message_pack(&query.base, room);
                asked += i == 0;
            }
        }
        grpc_peer_turn(&deaf, 0);
    }
    assert_true(cluster_id(&peer) != 0);
    deaf.stalled = false;
    for (size_t i = 0; i < asked; i++) {
        Pdpb__QueryRegionResponse *reply =
            grpc_peer_next(&calls[0], &pdpb__query_region_response__descriptor);
        assert_int_equal(reply->n_key_id_map, 4);
        FREE(reply);
    }
    for (unsigned i = 0; i < 4; i++)
        grpc_peer_cancel(&calls[i]);
    grpc_peer_close(&deaf);
    grpc_peer_close(&peer);
    server_stop(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_stores),
        cmocka_unit_test(test_clients_are_sent_where_they_can_go),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_batch_scan_and_query),
        cmocka_unit_test(test_timestamps),
        cmocka_unit_test(test_a_restart_changes_nothing),
        cmocka_unit_test(test_keyspaces),
        cmocka_unit_test(test_safe_points),
        cmocka_unit_test(test_barriers_and_services),
        cmocka_unit_test(test_odds_and_ends),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_stops_with_streams_open),
        cmocka_unit_test(test_stops_with_a_stream_on_its_way),
        cmocka_unit_test(test_stops_with_a_request_that_does_not_come),
        cmocka_unit_test(test_a_deaf_client),
    };
    return cmocka_run_group_tests_name("pd-service", tests, NULL, NULL);
}
