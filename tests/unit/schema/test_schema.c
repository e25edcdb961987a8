/*
 * schema/: the messages pack to the bytes that TiKV's peers send and take. The bytes below are
 * written by hand from the field numbers of the protocol, not made by the code under test.
 */
#include "base/slice.h"

#include "etcdserverpb.pb-c.h"
#include "health.pb-c.h"
#include "keyspacepb.pb-c.h"
#include "meta_storagepb.pb-c.h"
#include "pdpb.pb-c.h"
#include "tikvpb.pb-c.h"

#include <stdlib.h>

#include "test.h"

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static void assert_packs(const ProtobufCMessage *message, const void *expected, size_t size)
{
    uint8_t packed[256];
    assert_true(protobuf_c_message_get_packed_size(message) <= sizeof packed);
    assert_int_equal(protobuf_c_message_pack(message, packed), size);
    assert_memory_equal(packed, expected, size);
}
#define ASSERT_PACKS(message, bytes) assert_packs(&(message)->base, bytes, sizeof(bytes) - 1)

static void test_raw_put(void **state)
{
    (void)state;
    Metapb__RegionEpoch epoch = METAPB__REGION_EPOCH__INIT;
    epoch.conf_ver = 1;
    epoch.version = 300;
    Metapb__Peer peer = METAPB__PEER__INIT;
    peer.id = 3;
    peer.store_id = 1;
    Kvrpcpb__Context context = KVRPCPB__CONTEXT__INIT;
    context.region_id = 2;
    context.region_epoch = &epoch;
    context.peer = &peer;
    context.api_version = KVRPCPB__APIVERSION__V2;
    context.keyspace_case = KVRPCPB__CONTEXT__KEYSPACE_KEYSPACE_ID; /* present although 0 */
    context.keyspace_id = 0;
    Kvrpcpb__RawPutRequest put = KVRPCPB__RAW_PUT_REQUEST__INIT;
    put.context = &context;
    put.key = bytes_of("k");
    put.value = bytes_of("v");
    put.ttl = 5;
    ASSERT_PACKS(&put, "\x0a\x15"
                       "\x08\x02"
                       "\x12\x05\x08\x01\x10\xac\x02"
                       "\x1a\x04\x08\x03\x10\x01"
                       "\xa8\x01\x02"
                       "\x80\x02\x00"
                       "\x12\x01k"
                       "\x1a\x01v"
                       "\x28\x05");
}

/* Lists of numbers come packed or not, unknown fields are skipped, absent is not empty. */
static void test_unpack_what_others_send(void **state)
{
    (void)state;
    static const char packed[] = "\x32\x03\x01\x02\x03";
    static const char unpacked[] = "\x30\x01\x30\x02\x30\x03";
    const char *forms[] = {packed, unpacked};
    const size_t sizes[] = {sizeof packed - 1, sizeof unpacked - 1};
    for (size_t i = 0; i < 2; i++) {
        Kvrpcpb__RawBatchPutRequest *put =
            kvrpcpb__raw_batch_put_request__unpack(NULL, sizes[i], (const uint8_t *)forms[i]);
        assert_non_null(put);
        assert_int_equal(put->n_ttls, 3);
        assert_int_equal(put->ttls[2], 3);
        kvrpcpb__raw_batch_put_request__free_unpacked(put, NULL);
    }
    static const char members[] = "\x0a\x04\x08\x07\x12\x00" /* header with an empty error */
                                  "\x12\x05\x0a\x01p\x10\x09"
                                  "\x9a\x06\x02hi"; /* field 99, unknown */
    Pdpb__GetMembersResponse *answer =
        pdpb__get_members_response__unpack(NULL, sizeof members - 1, (const uint8_t *)members);
    assert_non_null(answer);
    assert_int_equal(answer->header->cluster_id, 7);
    assert_non_null(answer->header->error);
    assert_null(answer->leader);
    assert_int_equal(answer->n_members, 1);
    assert_int_equal(answer->members[0]->member_id, 9);
    pdpb__get_members_response__free_unpacked(answer, NULL);

    /* cut short, or with a length beyond the end */
    for (size_t size = 1; size < sizeof members - 1; size++) {
        answer = pdpb__get_members_response__unpack(NULL, size, (const uint8_t *)members);
        if (answer != NULL)
            pdpb__get_members_response__free_unpacked(answer, NULL);
    }
    assert_null(pdpb__get_members_response__unpack(NULL, 2, (const uint8_t *)"\x0a\x7f"));
}

static void test_batch_commands(void **state)
{
    (void)state;
    Kvrpcpb__RawGetRequest get = KVRPCPB__RAW_GET_REQUEST__INIT;
    get.key = bytes_of("k");
    Tikvpb__BatchCommandsRequest__Request request = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__INIT;
    request.cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_RAW_GET;
    request.raw_get = &get;
    Tikvpb__BatchCommandsRequest__Request *requests[] = {&request};
    uint64_t ids[] = {300};
    Tikvpb__BatchCommandsRequest batch = TIKVPB__BATCH_COMMANDS_REQUEST__INIT;
    batch.requests = requests;
    batch.n_requests = 1;
    batch.request_ids = ids;
    batch.n_request_ids = 1;
    ASSERT_PACKS(&batch, "\x0a\x05\x6a\x03\x12\x01k"
                         "\x12\x02\xac\x02");

    static const char empty[] = "\x0a\x00\x12\x01\x05"; /* a response without a command */
    Tikvpb__BatchCommandsResponse *answer =
        tikvpb__batch_commands_response__unpack(NULL, sizeof empty - 1, (const uint8_t *)empty);
    assert_non_null(answer);
    assert_int_equal(answer->responses[0]->cmd_case,
                     TIKVPB__BATCH_COMMANDS_RESPONSE__RESPONSE__CMD__NOT_SET);
    tikvpb__batch_commands_response__free_unpacked(answer, NULL);
}

/* The services are what the paths on the wire are made of. */
static void test_services(void **state)
{
    (void)state;
    static const struct {
        const ProtobufCServiceDescriptor *service;
        const char *name, *method;
    } rows[] = {
        {&tikvpb__tikv__descriptor, "tikvpb.Tikv", "RawGet"},
        {&tikvpb__tikv__descriptor, "tikvpb.Tikv", "KVPessimisticRollback"},
        {&tikvpb__tikv__descriptor, "tikvpb.Tikv", "BatchCommands"},
        {&pdpb__pd__descriptor, "pdpb.PD", "GetMembers"},
        {&pdpb__pd__descriptor, "pdpb.PD", "QueryRegion"},
        {&keyspacepb__keyspace__descriptor, "keyspacepb.Keyspace", "LoadKeyspace"},
        {&meta_storagepb__meta_storage__descriptor, "meta_storagepb.MetaStorage", "Get"},
        {&etcdserverpb__cluster__descriptor, "etcdserverpb.Cluster", "MemberList"},
        {&etcdserverpb__kv__descriptor, "etcdserverpb.KV", "Range"},
        {&grpc__health__v1__health__descriptor, "grpc.health.v1.Health", "Check"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(rows[i].service->name, rows[i].name);
        assert_non_null(
            protobuf_c_service_descriptor_get_method_by_name(rows[i].service, rows[i].method));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw_put),
        cmocka_unit_test(test_unpack_what_others_send),
        cmocka_unit_test(test_batch_commands),
        cmocka_unit_test(test_services),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
