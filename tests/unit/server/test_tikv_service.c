/* The TiKV service around the raw commands: where a request may go, regions that change, streams of
 * BatchCommands, and requests that nobody should send. */
#include "unit/server/tikv_node.h"

#include "base/mem.h"
#include "base/rand.h"
#include "proto/tikv/key.h"

#include <stdio.h>
#include <unistd.h>

#include "test.h"

static struct tikv_node *node;
static struct tikv_peer *peer;
static struct context at; /* of the first region */

static int set_up(void **state)
{
    (void)state;
    node = node_start();
    peer = peer_connect(node);
    context_fill(&at, node, slice_of_string(""));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    peer_close(peer);
    node_stop(node);
    return 0;
}

#define FREE(answer) protobuf_c_message_free_unpacked(&(answer)->base, NULL)

static Kvrpcpb__RawGetResponse *get_bytes(ProtobufCBinaryData key)
{
    Kvrpcpb__RawGetRequest request = KVRPCPB__RAW_GET_REQUEST__INIT;
    Kvrpcpb__RawGetResponse *answer;
    request.context = &at.context;
    request.key = key;
    assert_int_equal(
        peer_call(peer, "RawGet", &request, &kvrpcpb__raw_get_response__descriptor, &answer),
        GRPC_OK);
    return answer;
}

static Kvrpcpb__RawGetResponse *get(const char *key)
{
    return get_bytes(bytes_of(key));
}

static Kvrpcpb__RawPutResponse *put(ProtobufCBinaryData key, ProtobufCBinaryData value)
{
    Kvrpcpb__RawPutRequest request = KVRPCPB__RAW_PUT_REQUEST__INIT;
    Kvrpcpb__RawPutResponse *answer;
    request.context = &at.context;
    request.key = key;
    request.value = value;
    assert_int_equal(
        peer_call(peer, "RawPut", &request, &kvrpcpb__raw_put_response__descriptor, &answer),
        GRPC_OK);
    return answer;
}

/* --- where a request may go --- */

static void test_checks_in_their_order(void **state)
{
    (void)state;
    const struct context good = at;
    Kvrpcpb__RawGetResponse *answer;

    /* each request is wrong in all that comes later, too */
    at.context.region_id = 999;
    at.peer.id = 998;
    at.context.term = 1;
    at.epoch.version = 997;
    at.peer.store_id = 5;
    answer = get("zz");
    assert_non_null(answer->region_error->store_not_match);
    assert_int_equal(answer->region_error->store_not_match->request_store_id, 5);
    assert_int_equal(answer->region_error->store_not_match->actual_store_id, STORE_ID);
    FREE(answer);
    at.peer.store_id = STORE_ID;
    answer = get("zz");
    assert_int_equal(answer->region_error->region_not_found->region_id, 999);
    FREE(answer);
    at.context.region_id = good.context.region_id;
    answer = get("zz");
    assert_int_equal(answer->region_error->mismatch_peer_id->request_peer_id, 998);
    assert_int_equal(answer->region_error->mismatch_peer_id->store_peer_id, good.peer.id);
    FREE(answer);
    at.peer.id = good.peer.id;
    answer = get("zz");
    assert_non_null(answer->region_error->stale_command);
    FREE(answer);
    at.context.term = 0;
    answer = get("zz");
    assert_non_null(answer->region_error->epoch_not_match);
    FREE(answer);
    at.epoch.version = good.epoch.version;
    answer = get("zz");
    assert_int_equal(answer->region_error->key_not_in_region->region_id, at.context.region_id);
    assert_memory_equal(answer->region_error->key_not_in_region->key.data, "zz", 2);
    FREE(answer);
    answer = get("a");
    assert_null(answer->region_error);
    assert_true(answer->not_found);
    FREE(answer);
    at.context.region_epoch = NULL;
    answer = get("a");
    assert_non_null(answer->region_error);
    FREE(answer);
    at.context.peer = NULL;
    answer = get("a");
    assert_non_null(answer->region_error->store_not_match);
    FREE(answer);
}

static void test_a_request_without_context(void **state)
{
    (void)state;
    Kvrpcpb__RawGetRequest request = KVRPCPB__RAW_GET_REQUEST__INIT;
    Kvrpcpb__RawGetResponse *answer;
    assert_int_equal(
        peer_call(peer, "RawGet", &request, &kvrpcpb__raw_get_response__descriptor, &answer),
        GRPC_OK);
    assert_non_null(answer->region_error->store_not_match);
    FREE(answer);
}

static void test_another_cluster(void **state)
{
    (void)state;
    Kvrpcpb__RawGetRequest request = KVRPCPB__RAW_GET_REQUEST__INIT;
    Kvrpcpb__RawGetResponse *answer;
    at.context.cluster_id++;
    request.context = &at.context;
    assert_int_equal(
        peer_call(peer, "RawGet", &request, &kvrpcpb__raw_get_response__descriptor, &answer),
        GRPC_INVALID_ARGUMENT);
    assert_string_equal(peer->text,
                        "the cluster id of the request does not match the TiKV cluster");
}

static void test_api_versions(void **state)
{
    (void)state;
    Kvrpcpb__RawGetResponse *answer;
    at.context.api_version = KVRPCPB__APIVERSION__V3;
    answer = get("a");
    assert_non_null(strstr(answer->error, "API version 3"));
    FREE(answer);
    at.context.api_version = KVRPCPB__APIVERSION__V2;
    at.context.region_id = 999; /* the key comes before the region */
    answer = get("a");
    assert_non_null(strstr(answer->error, "invalid key mode"));
    FREE(answer);
    Kvrpcpb__RawScanRequest scan = KVRPCPB__RAW_SCAN_REQUEST__INIT;
    Kvrpcpb__RawScanResponse *scanned;
    scan.context = &at.context;
    scan.start_key = bytes_of("ra");
    assert_int_equal(
        peer_call(peer, "RawScan", &scan, &kvrpcpb__raw_scan_response__descriptor, &scanned),
        GRPC_OK);
    assert_int_equal(scanned->n_kvs, 1); /* errors of scans are in a pair */
    assert_non_null(strstr(scanned->kvs[0]->error->abort, "invalid key mode"));
    FREE(scanned);
}

static void test_limits(void **state)
{
    (void)state;
    size_t size = 9 * 1024 * 1024;
    uint8_t *bytes = mem_zalloc(size);
    memset(bytes, 'a', size);
    Kvrpcpb__RawPutResponse *answer;
    answer = put((ProtobufCBinaryData){8193, bytes}, bytes_of("v"));
    assert_string_equal(answer->error, "max key size exceeded, size: 8193, limit: 8192");
    FREE(answer);
    answer = put((ProtobufCBinaryData){8192, bytes}, bytes_of("v"));
    assert_string_equal(answer->error, "");
    FREE(answer);
    answer = put(bytes_of(""), bytes_of("v"));
    assert_string_equal(answer->error, "the key is empty");
    FREE(answer);
    answer = put(bytes_of("k"), (ProtobufCBinaryData){size, bytes});
    assert_int_equal(answer->region_error->raft_entry_too_large->region_id, at.context.region_id);
    assert_int_equal(answer->region_error->raft_entry_too_large->entry_size, size + 1);
    FREE(answer);
    answer = put(bytes_of("k"), (ProtobufCBinaryData){8 * 1024 * 1024 - 1, bytes});
    assert_null(answer->region_error);
    assert_string_equal(answer->error, "");
    FREE(answer);
    Kvrpcpb__RawGetResponse *got = get("k");
    assert_int_equal(got->value.len, 8 * 1024 * 1024 - 1);
    FREE(got);
    got = get(""); /* no such key can be */
    assert_true(got->not_found);
    FREE(got);
    got = get_bytes((ProtobufCBinaryData){100000, bytes});
    assert_true(got->not_found);
    FREE(got);
    mem_free(bytes);
}

/* --- regions that change --- */

static Kvrpcpb__SplitRegionResponse *split(ProtobufCBinaryData *keys, size_t count, bool raw)
{
    Kvrpcpb__SplitRegionRequest request = KVRPCPB__SPLIT_REGION_REQUEST__INIT;
    Kvrpcpb__SplitRegionResponse *answer;
    request.context = &at.context;
    request.n_split_keys = count;
    request.split_keys = keys;
    request.is_raw_kv = raw;
    assert_int_equal(peer_call(peer, "SplitRegion", &request,
                               &kvrpcpb__split_region_response__descriptor, &answer),
                     GRPC_OK);
    return answer;
}

static void test_split_and_epoch(void **state)
{
    (void)state;
    FREE(put(bytes_of("b"), bytes_of("1")));
    FREE(put(bytes_of("n"), bytes_of("2")));
    ProtobufCBinaryData keys[] = {bytes_of("m"), bytes_of("c")};
    Kvrpcpb__SplitRegionResponse *answer = split(keys, 2, true);
    assert_null(answer->region_error);
    assert_int_equal(answer->n_regions, 3);
    assert_int_equal(answer->regions[0]->end_key.len, 1);
    assert_memory_equal(answer->regions[1]->start_key.data, "c", 1);
    assert_memory_equal(answer->regions[1]->end_key.data, "m", 1);
    assert_int_equal(answer->regions[2]->id, at.context.region_id);
    assert_int_equal(answer->regions[2]->region_epoch->version, at.epoch.version + 2);
    FREE(answer);
    /* the old epoch is answered with all parts, the named region first */
    Kvrpcpb__RawGetResponse *got = get("b");
    Errorpb__EpochNotMatch *mismatch = got->region_error->epoch_not_match;
    assert_int_equal(mismatch->n_current_regions, 3);
    assert_int_equal(mismatch->current_regions[0]->id, at.context.region_id);
    assert_memory_equal(mismatch->current_regions[0]->start_key.data, "m", 1);
    assert_int_equal(mismatch->current_regions[2]->start_key.len, 0);
    assert_int_equal(mismatch->current_regions[1]->n_peers, 1);
    FREE(got);
    context_fill(&at, node, slice_of_string("b"));
    got = get("b");
    assert_memory_equal(got->value.data, "1", 1);
    FREE(got);
    got = get("n");
    assert_memory_equal(got->region_error->key_not_in_region->end_key.data, "c", 1);
    FREE(got);
    /* a scan ends where the region does, upwards and downwards */
    Kvrpcpb__RawScanRequest scan = KVRPCPB__RAW_SCAN_REQUEST__INIT;
    Kvrpcpb__RawScanResponse *scanned;
    scan.context = &at.context;
    scan.limit = 10;
    for (int reverse = 0; reverse < 2; reverse++) {
        scan.reverse = reverse != 0;
        assert_int_equal(
            peer_call(peer, "RawScan", &scan, &kvrpcpb__raw_scan_response__descriptor, &scanned),
            GRPC_OK);
        assert_null(scanned->region_error);
        assert_int_equal(scanned->n_kvs, 1);
        FREE(scanned);
    }
}

static void test_splits_that_cannot_be(void **state)
{
    (void)state;
    ProtobufCBinaryData outside = bytes_of("zz");
    Kvrpcpb__SplitRegionResponse *answer = split(&outside, 1, true);
    assert_non_null(answer->region_error->key_not_in_region);
    FREE(answer);
    answer = split(NULL, 0, true);
    assert_non_null(strstr(answer->region_error->message, "empty"));
    FREE(answer);
    ProtobufCBinaryData key = bytes_of("k"); /* of transactions: encoded */
    answer = split(&key, 1, false);
    assert_int_equal(answer->n_regions, 2);
    assert_memory_equal(answer->left->end_key.data, "k\0\0\0\0\0\0\0\xf8", 9);
    FREE(answer);
    at.epoch.version--;
    answer = split(&key, 1, false);
    assert_non_null(answer->region_error->epoch_not_match);
    FREE(answer);
}

static void test_stored_keys_of_v2(void **state)
{
    (void)state;
    uint8_t encoded[64], end[64];
    key_encode(slice_make("r\0\0\0m", 5), encoded);
    kvs_slice bound = slice_make(encoded, key_encoded_size(5));
    node_split(node, bound);
    context_fill(&at, node, bound);
    at.context.api_version = KVRPCPB__APIVERSION__V2;
    ProtobufCBinaryData below = {5, (uint8_t *)(uintptr_t) "r\0\0\0l"};
    ProtobufCBinaryData above = {5, (uint8_t *)(uintptr_t) "r\0\0\0m"};
    FREE(put(above, bytes_of("v")));
    Kvrpcpb__RawGetResponse *got = get_bytes(below);
    assert_int_equal(got->region_error->key_not_in_region->start_key.len, bound.size);
    key_encode(slice_make(below.data, below.len), end);
    assert_memory_equal(got->region_error->key_not_in_region->key.data, end, key_encoded_size(5));
    FREE(got);
    got = get_bytes(above);
    assert_memory_equal(got->value.data, "v", 1);
    FREE(got);
}

/* --- BatchCommands --- */

#define BATCH_MAX 200u

struct batch {
    Tikvpb__BatchCommandsRequest message;
    Tikvpb__BatchCommandsRequest__Request requests[BATCH_MAX];
    Tikvpb__BatchCommandsRequest__Request *pointers[BATCH_MAX];
    uint64_t ids[BATCH_MAX];
    Kvrpcpb__RawGetRequest gets[BATCH_MAX];
    Kvrpcpb__RawPutRequest puts[BATCH_MAX];
    Tikvpb__BatchCommandsEmptyRequest empties[BATCH_MAX];
    char keys[BATCH_MAX][16];
};

static struct batch *batch_new(void)
{
    struct batch *batch = mem_zalloc(sizeof *batch);
    tikvpb__batch_commands_request__init(&batch->message);
    batch->message.requests = batch->pointers;
    batch->message.request_ids = batch->ids;
    return batch;
}

static size_t batch_add(struct batch *batch, uint64_t id)
{
    size_t i = batch->message.n_requests++;
    assert_true(i < BATCH_MAX);
    batch->message.n_request_ids++;
    tikvpb__batch_commands_request__request__init(&batch->requests[i]);
    batch->pointers[i] = &batch->requests[i];
    batch->ids[i] = id;
    return i;
}

static void batch_get(struct batch *batch, uint64_t id, unsigned key)
{
    size_t i = batch_add(batch, id);
    snprintf(batch->keys[i], sizeof batch->keys[i], "key%u", key);
    kvrpcpb__raw_get_request__init(&batch->gets[i]);
    batch->gets[i].context = &at.context;
    batch->gets[i].key = bytes_of(batch->keys[i]);
    batch->requests[i].cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_RAW_GET;
    batch->requests[i].raw_get = &batch->gets[i];
}

static void batch_put(struct batch *batch, uint64_t id, unsigned key)
{
    size_t i = batch_add(batch, id);
    snprintf(batch->keys[i], sizeof batch->keys[i], "key%u", key);
    kvrpcpb__raw_put_request__init(&batch->puts[i]);
    batch->puts[i].context = &at.context;
    batch->puts[i].key = bytes_of(batch->keys[i]);
    batch->puts[i].value = bytes_of(batch->keys[i]);
    batch->requests[i].cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_RAW_PUT;
    batch->requests[i].raw_put = &batch->puts[i];
}

static void batch_empty(struct batch *batch, uint64_t id, uint64_t delay_ms)
{
    size_t i = batch_add(batch, id);
    tikvpb__batch_commands_empty_request__init(&batch->empties[i]);
    batch->empties[i].test_id = id * 10;
    batch->empties[i].delay_time = delay_ms;
    batch->requests[i].cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_EMPTY;
    batch->requests[i].empty = &batch->empties[i];
}

static void batch_send(struct batch *batch)
{
    peer_send(peer, &batch->message);
    batch->message.n_requests = batch->message.n_request_ids = 0;
}

/* Takes answers until `count` have come; each id once; gets must give key and value `id`. */
static void take_answers(size_t count, uint64_t ids_max)
{
    uint8_t *seen = mem_zalloc(ids_max + 1);
    while (count > 0) {
        Tikvpb__BatchCommandsResponse *answer = peer_receive(peer);
        assert_non_null(answer);
        assert_int_equal(answer->n_responses, answer->n_request_ids);
        assert_true(answer->n_responses > 0 && answer->n_responses <= count);
        for (size_t i = 0; i < answer->n_responses; i++) {
            const Tikvpb__BatchCommandsResponse__Response *one = answer->responses[i];
            uint64_t id = answer->request_ids[i];
            assert_true(id <= ids_max && seen[id]++ == 0);
            if (one->cmd_case != TIKVPB__BATCH_COMMANDS_RESPONSE__RESPONSE__CMD_RAW_GET)
                continue;
            char value[16];
            int size = snprintf(value, sizeof value, "key%llu", (unsigned long long)id % 100);
            assert_int_equal(one->raw_get->value.len, size);
            assert_memory_equal(one->raw_get->value.data, value, (size_t)size);
        }
        count -= answer->n_responses;
        FREE(answer);
    }
    mem_free(seen);
}

static void test_many_commands(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    peer_stream(peer);
    for (unsigned i = 0; i < 100; i++)
        batch_put(batch, i, i);
    batch_send(batch);
    take_answers(100, 100);
    struct rand rand = rand_seed(7);
    for (unsigned id = 0; id < 2000; id++) {
        batch_get(batch, id, id % 100);
        if (rand_below(&rand, 30) == 0 || batch->message.n_requests == BATCH_MAX)
            batch_send(batch);
    }
    batch_send(batch);
    peer_half_close(peer);
    take_answers(2000, 2000);
    assert_null(peer_receive(peer)); /* all is answered: the stream ends */
    assert_int_equal(peer->code, GRPC_OK);
    mem_free(batch);
}

#define SLOW_MS 10000 /* the longest there is; nobody waits for it */

static void test_a_slow_command_blocks_no_other(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    peer_stream(peer);
    batch_empty(batch, 1, SLOW_MS);
    batch_put(batch, 2, 2);
    batch_empty(batch, 3, 0);
    batch_send(batch);
    batch_empty(batch, 4, 20);
    batch_send(batch);
    bool seen[5] = {false};
    for (size_t count = 0; count < 3;) {
        Tikvpb__BatchCommandsResponse *answer = peer_receive(peer);
        assert_non_null(answer);
        for (size_t i = 0; i < answer->n_responses; i++, count++) {
            const Tikvpb__BatchCommandsResponse__Response *one = answer->responses[i];
            uint64_t id = answer->request_ids[i];
            assert_true(id > 1 && id < 5 && !seen[id]);
            seen[id] = true;
            if (one->cmd_case == TIKVPB__BATCH_COMMANDS_RESPONSE__RESPONSE__CMD_EMPTY)
                assert_int_equal(one->empty->test_id, id * 10);
        }
        FREE(answer);
    }
    mem_free(batch);
}

static void test_commands_that_are_not_known(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    peer_stream(peer);
    batch_add(batch, 42); /* nothing set */
    size_t i = batch_add(batch, 43);
    ProtobufCMessageUnknownField flashback = {/* a command that this schema does not have */
                                              .tag = 35,
                                              .wire_type = 2,
                                              .len = 3,
                                              .data = (uint8_t[]){2, 16, 7}};
    batch->requests[i].base.unknown_fields = &flashback;
    batch->requests[i].base.n_unknown_fields = 1;
    batch_send(batch);
    Tikvpb__BatchCommandsResponse *answer = peer_receive(peer);
    assert_int_equal(answer->n_responses, 2);
    assert_int_equal(answer->responses[0]->cmd_case, 0);
    assert_int_equal(answer->request_ids[0], 42);
    FREE(answer);
    mem_free(batch);
}

static void expect_stream_end(int code)
{
    Tikvpb__BatchCommandsResponse *answer;
    while ((answer = peer_receive(peer)) != NULL)
        FREE(answer);
    assert_int_equal(peer->code, code);
}

static void test_streams_that_end(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    peer_stream(peer);
    batch_get(batch, 1, 1);
    batch->message.n_request_ids = 0;
    batch_send(batch);
    expect_stream_end(GRPC_INVALID_ARGUMENT);
    peer_stream(peer);
    batch_put(batch, 1, 1);
    at.context.cluster_id++;
    batch_get(batch, 2, 1);
    batch_send(batch);
    expect_stream_end(GRPC_INVALID_ARGUMENT);
    at.context.cluster_id--;
    peer_stream(peer); /* the connection is as good as before */
    batch_put(batch, 1, 1);
    batch_send(batch);
    take_answers(1, 1);
    mem_free(batch);
}

static void test_a_client_that_leaves(void **state)
{
    (void)state;
    struct batch *batch = batch_new();
    struct tikv_peer *other = peer;
    for (int round = 0; round < 5; round++) {
        peer = peer_connect(node);
        peer_stream(peer);
        for (unsigned i = 0; i < 50; i++)
            batch_put(batch, i, i);
        batch_empty(batch, 77, 20);
        batch_send(batch);
        batch_empty(batch, 78, 0);
        batch_send(batch);
        FREE(peer_receive(peer));
        peer_close(peer);
    }
    peer = other;
    Kvrpcpb__RawGetResponse *got = get("key49");
    while (got->not_found) { /* it was sent before the connection broke */
        FREE(got);
        got = get("key49");
    }
    FREE(got);
    mem_free(batch);
}

/* --- what nobody should send --- */

static void test_bytes_that_are_no_request(void **state)
{
    (void)state;
    static const char *const methods[] = {
        "RawGet",      "RawPut",     "RawBatchPut", "RawScan", "RawCompareAndSwap",
        "SplitRegion", "RawChecksum"};
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rand rand = rand_seed(seed);
        uint8_t bytes[64];
        size_t size = rand_below(&rand, sizeof bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(rand_below(&rand, 3) == 0 ? rand_u64(&rand) : 0x0a);
        const char *method = methods[rand_below(&rand, sizeof methods / sizeof methods[0])];
        int code = peer_call_bytes(peer, method, slice_make(bytes, size));
        if (code != GRPC_OK && code != GRPC_INTERNAL)
            fail_msg("seed %llu: status %d", (unsigned long long)seed, code);
    }
    assert_int_equal(peer_call_bytes(peer, "RawGet", slice_make("\x0a\xff", 2)), GRPC_INTERNAL);
    peer_stream(peer);
    peer_send_bytes(peer, slice_make("\x0a\xff", 2));
    expect_stream_end(GRPC_INTERNAL);
    peer_stream(peer);
    peer_send_bytes(peer, slice_make("", 0)); /* no commands: no answer, no harm */
    peer_half_close(peer);
    expect_stream_end(GRPC_OK);
}

static void test_a_batch_of_too_many_keys(void **state)
{
    (void)state;
    enum { KEYS = KVS_BATCH_COUNT_MAX + 1 };
    Kvrpcpb__RawBatchDeleteRequest request = KVRPCPB__RAW_BATCH_DELETE_REQUEST__INIT;
    Kvrpcpb__RawBatchDeleteResponse *answer;
    ProtobufCBinaryData *keys = mem_alloc(KEYS * sizeof *keys);
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = bytes_of("k");
    request.context = &at.context;
    request.n_keys = KEYS;
    request.keys = keys;
    assert_int_equal(peer_call(peer, "RawBatchDelete", &request,
                               &kvrpcpb__raw_batch_delete_response__descriptor, &answer),
                     GRPC_OK);
    assert_non_null(strstr(answer->error, "at most 65536"));
    FREE(answer);
    mem_free(keys);
}

/* Over the port's limit: that one call ends, and the connection serves on. */
static void test_a_message_over_the_limit(void **state)
{
    (void)state;
    const size_t size = (64u << 20) + 1;
    uint8_t *bytes = mem_zalloc(size);
    assert_non_null(bytes);
    assert_int_equal(peer_call_bytes(peer, "RawPut", slice_make(bytes, size)),
                     GRPC_RESOURCE_EXHAUSTED);
    mem_free(bytes);
    assert_int_equal(peer_call_bytes(peer, "GetStoreSafeTS", slice_of_string("")), GRPC_OK);
}

/* Pairs of 2 bytes each are structs of a hundred when they are decoded. */
static void test_a_message_of_countless_parts(void **state)
{
    (void)state;
    const size_t size = 4u << 20;
    uint8_t *bytes = mem_alloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i += 2) {
        bytes[i] = 0x12; /* field 2, of size 0 */
        bytes[i + 1] = 0;
    }
    assert_int_equal(peer_call_bytes(peer, "RawBatchPut", slice_make(bytes, size)),
                     GRPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(peer->text, "send fewer"));
    mem_free(bytes);
    assert_int_equal(peer_call_bytes(peer, "GetStoreSafeTS", slice_of_string("")), GRPC_OK);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checks_in_their_order),
        TEST(test_a_request_without_context),
        TEST(test_another_cluster),
        TEST(test_api_versions),
        TEST(test_limits),
        TEST(test_split_and_epoch),
        TEST(test_splits_that_cannot_be),
        TEST(test_stored_keys_of_v2),
        TEST(test_many_commands),
        TEST(test_a_slow_command_blocks_no_other),
        TEST(test_commands_that_are_not_known),
        TEST(test_streams_that_end),
        TEST(test_a_client_that_leaves),
        TEST(test_a_message_over_the_limit),
        TEST(test_a_message_of_countless_parts),
        TEST(test_bytes_that_are_no_request),
        TEST(test_a_batch_of_too_many_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
