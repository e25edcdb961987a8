/* Answers of many MiB: whole, or an error; and what they may take together. Of the node's memory
 * for them (NODE_ANSWERS_MEMORY, 192 MiB) one may have 96 MiB. */
#include "unit/server/txn_calls.h"

#include "base/mem.h"
#include "txn/command.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "test.h"

#define VALUE_SIZE (7u << 20)
#define PAIRS 15u       /* 105 MiB: too large */
#define LARGE_PAIRS 12u /* 84 MiB */
#define SMALL_PAIRS 9u  /* 63 MiB: as large as any may be, whatever others have */
#define START_MS 1000u
#define READ_MS 3000u

static char names[PAIRS][2];
static ProtobufCBinaryData keys[PAIRS];

static void put_value(unsigned i, uint8_t *value)
{
    ProtobufCBinaryData bytes = {.len = VALUE_SIZE, .data = value};
    REQUEST(RawPutRequest, raw, RAW_PUT_REQUEST);
    memset(value, (int)i, VALUE_SIZE);
    raw.key = keys[i];
    raw.value = bytes;
    Kvrpcpb__RawPutResponse *done = CALL("RawPut", raw, raw_put_response);
    assert_string_equal(done->error, "");
    FREE(done);
    Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
    Kvrpcpb__Mutation *mutations[] = {&mutation};
    REQUEST(PrewriteRequest, first, PREWRITE_REQUEST);
    mutation.op = KVRPCPB__OP__Put;
    mutation.key = keys[i];
    mutation.value = bytes;
    first.n_mutations = 1;
    first.mutations = mutations;
    first.primary_lock = keys[i];
    first.start_version = TS(START_MS);
    first.lock_ttl = TTL_MS;
    Kvrpcpb__PrewriteResponse *prewritten = CALL("KvPrewrite", first, prewrite_response);
    assert_int_equal(prewritten->n_errors, 0);
    FREE(prewritten);
    Kvrpcpb__CommitResponse *committed = commit_one(names[i], START_MS, START_MS + 1);
    assert_null(committed->error);
    FREE(committed);
}

static int set_up(void **state)
{
    uint8_t *value = mem_alloc(VALUE_SIZE);
    txn_set_up(state);
    for (unsigned i = 0; i < PAIRS; i++) {
        names[i][0] = (char)('a' + i);
        keys[i] = bytes_of(names[i]);
        put_value(i, value);
    }
    mem_free(value);
    return 0;
}

static void expect_pairs(Kvrpcpb__KvPair *const *pairs, size_t count, size_t wanted)
{
    assert_int_equal(count, wanted);
    for (unsigned i = 0; i < count; i++) {
        assert_null(pairs[i]->error);
        assert_bytes(pairs[i]->key, names[i]);
        assert_int_equal(pairs[i]->value.len, VALUE_SIZE);
        assert_int_equal(pairs[i]->value.data[0], i);
        assert_int_equal(pairs[i]->value.data[VALUE_SIZE - 1], i);
    }
}

static void expect_too_large(Kvrpcpb__KvPair *const *pairs, size_t count)
{
    assert_int_equal(count, 1);
    assert_non_null(strstr(pairs[0]->error->abort, "over 100663296 bytes: ask for less"));
}

static Kvrpcpb__RawScanResponse *raw_scan(uint32_t limit)
{
    REQUEST(RawScanRequest, request, RAW_SCAN_REQUEST);
    request.limit = limit;
    return CALL("RawScan", request, raw_scan_response);
}

static Kvrpcpb__RawBatchGetResponse *raw_batch_get(size_t count)
{
    REQUEST(RawBatchGetRequest, request, RAW_BATCH_GET_REQUEST);
    request.n_keys = count;
    request.keys = keys;
    return CALL("RawBatchGet", request, raw_batch_get_response);
}

static Kvrpcpb__ScanResponse *kv_scan(uint32_t limit)
{
    REQUEST(ScanRequest, request, SCAN_REQUEST);
    request.limit = limit;
    request.version = TS(READ_MS);
    return CALL("KvScan", request, scan_response);
}

static Kvrpcpb__BatchGetResponse *kv_batch_get(size_t count)
{
    REQUEST(BatchGetRequest, request, BATCH_GET_REQUEST);
    request.n_keys = count;
    request.keys = keys;
    request.version = TS(READ_MS);
    return CALL("KvBatchGet", request, batch_get_response);
}

static uint64_t answers_bytes(void)
{
    return atomic_load(&node->service.answers.bytes);
}

/* All has left, or gone with its connection. */
static void expect_nothing_held(void)
{
    while (answers_bytes() > 0) /* the runner bounds the time */
        sched_yield();
}

static void test_large_answers(void **state)
{
    (void)state;
    Kvrpcpb__RawScanResponse *raw = raw_scan(LARGE_PAIRS);
    expect_pairs(raw->kvs, raw->n_kvs, LARGE_PAIRS);
    FREE(raw);
    Kvrpcpb__RawBatchGetResponse *raw_got = raw_batch_get(LARGE_PAIRS);
    expect_pairs(raw_got->pairs, raw_got->n_pairs, LARGE_PAIRS);
    FREE(raw_got);
    Kvrpcpb__ScanResponse *scanned = kv_scan(LARGE_PAIRS);
    expect_pairs(scanned->pairs, scanned->n_pairs, LARGE_PAIRS);
    FREE(scanned);
    Kvrpcpb__BatchGetResponse *got = kv_batch_get(LARGE_PAIRS);
    expect_pairs(got->pairs, got->n_pairs, LARGE_PAIRS);
    FREE(got);
    expect_nothing_held();
}

/* They fail; none ends early. */
static void test_answers_that_are_too_large(void **state)
{
    (void)state;
    Kvrpcpb__RawScanResponse *raw = raw_scan(PAIRS);
    expect_too_large(raw->kvs, raw->n_kvs);
    FREE(raw);
    Kvrpcpb__RawBatchGetResponse *raw_got = raw_batch_get(PAIRS);
    expect_too_large(raw_got->pairs, raw_got->n_pairs);
    FREE(raw_got);
    Kvrpcpb__ScanResponse *scanned = kv_scan(PAIRS);
    expect_too_large(scanned->pairs, scanned->n_pairs);
    FREE(scanned);
    Kvrpcpb__BatchGetResponse *got = kv_batch_get(PAIRS);
    expect_too_large(got->pairs, got->n_pairs);
    FREE(got);
    expect_nothing_held();
}

#define BATCH_MAX 20u

/* One message of scans with these limits, of which nothing is read yet. */
static void stream_scans(const uint32_t *limits, size_t count)
{
    static Tikvpb__BatchCommandsRequest__Request requests[BATCH_MAX], *pointers[BATCH_MAX];
    static Kvrpcpb__RawScanRequest scans[BATCH_MAX];
    static uint64_t ids[BATCH_MAX];
    Tikvpb__BatchCommandsRequest batch = TIKVPB__BATCH_COMMANDS_REQUEST__INIT;
    batch.requests = pointers;
    batch.request_ids = ids;
    batch.n_requests = batch.n_request_ids = count;
    for (size_t i = 0; i < count; i++) {
        kvrpcpb__raw_scan_request__init(&scans[i]);
        scans[i].context = &at.context;
        scans[i].limit = limits[i];
        tikvpb__batch_commands_request__request__init(&requests[i]);
        requests[i].cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_RAW_SCAN;
        requests[i].raw_scan = &scans[i];
        pointers[i] = &requests[i];
        ids[i] = limits[i];
    }
    peer_stream(peer);
    peer_send(peer, &batch);
    peer_half_close(peer);
    peer_write(peer);
}

/* Reads all that the stream brings; returns how many were refused. Others are whole. */
static size_t take_scans(size_t count)
{
    size_t busy = 0, answered = 0;
    for (Tikvpb__BatchCommandsResponse *answer; (answer = peer_receive(peer)) != NULL;) {
        assert_int_equal(answer->n_responses, answer->n_request_ids);
        for (size_t i = 0; i < answer->n_responses; i++) {
            const Kvrpcpb__RawScanResponse *scanned = answer->responses[i]->raw_scan;
            bool is_busy = scanned->region_error != NULL;
            answered++;
            busy += is_busy;
            if (is_busy)
                assert_non_null(scanned->region_error->server_is_busy);
            else
                expect_pairs(scanned->kvs, scanned->n_kvs, answer->request_ids[i]);
        }
        FREE(answer);
    }
    assert_int_equal(peer->code, GRPC_OK);
    assert_int_equal(answered, count);
    return busy;
}

static void test_large_answers_of_a_stream(void **state)
{
    (void)state;
    const uint32_t limits[] = {1, LARGE_PAIRS, 2};
    stream_scans(limits, 3);
    assert_int_equal(take_scans(3), 0);
    expect_nothing_held();
}

/* While one is not taken, another large one is told to try again later; smaller ones have room. */
static void test_a_large_answer_that_is_not_taken(void **state)
{
    (void)state;
    struct tikv_peer *slow = peer;
    const uint32_t limit = LARGE_PAIRS;
    stream_scans(&limit, 1);
    while (answers_bytes() < LARGE_PAIRS * VALUE_SIZE)
        sched_yield();
    peer = peer_connect(node);
    Kvrpcpb__RawScanResponse *raw = raw_scan(LARGE_PAIRS);
    assert_non_null(raw->region_error->server_is_busy);
    FREE(raw);
    Kvrpcpb__ScanResponse *scanned = kv_scan(LARGE_PAIRS);
    assert_non_null(scanned->region_error->server_is_busy);
    FREE(scanned);
    raw = raw_scan(SMALL_PAIRS);
    expect_pairs(raw->kvs, raw->n_kvs, SMALL_PAIRS);
    FREE(raw);
    struct tikv_peer *quick = peer;
    peer = slow;
    assert_int_equal(take_scans(1), 0);
    peer_close(peer);
    peer = quick;
    expect_nothing_held();
    raw = raw_scan(LARGE_PAIRS);
    expect_pairs(raw->kvs, raw->n_kvs, LARGE_PAIRS);
    FREE(raw);
    expect_nothing_held();
}

/* Many at once: not more are held than the node has memory for, and the rest is refused. */
static void test_answers_over_the_budget(void **state)
{
    (void)state;
    uint32_t limits[BATCH_MAX];
    for (size_t i = 0; i < BATCH_MAX; i++)
        limits[i] = SMALL_PAIRS;
    stream_scans(limits, BATCH_MAX);
    struct tikv_peer *slow = peer;
    peer = peer_connect(node);
    FREE(raw_scan(2)); /* behind all of them */
    peer_close(peer);
    peer = slow;
    size_t busy = take_scans(BATCH_MAX);
    assert_true(busy > 0 && busy < BATCH_MAX);
    expect_nothing_held();
}

static void test_a_client_that_leaves(void **state)
{
    (void)state;
    const uint32_t limits[] = {LARGE_PAIRS, SMALL_PAIRS};
    stream_scans(limits, 2);
    while (answers_bytes() < SMALL_PAIRS * VALUE_SIZE)
        sched_yield();
    peer_close(peer);
    expect_nothing_held();
    peer = peer_connect(node);
    Kvrpcpb__RawScanResponse *raw = raw_scan(1);
    expect_pairs(raw->kvs, raw->n_kvs, 1);
    FREE(raw);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, txn_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_large_answers),
        TEST(test_answers_that_are_too_large),
        TEST(test_large_answers_of_a_stream),
        TEST(test_a_large_answer_that_is_not_taken),
        TEST(test_answers_over_the_budget),
        TEST(test_a_client_that_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
