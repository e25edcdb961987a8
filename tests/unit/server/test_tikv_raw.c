/* The raw commands of the TiKV service, one by one, over a socket: what they do to the data. */
#include "unit/server/tikv_node.h"

#include "base/crc64.h"
#include "base/mem.h"
#include "proto/tikv/key.h"

#include <stdio.h>

#include "test.h"

static struct tikv_node *node;
static struct tikv_peer *peer;
static struct context at; /* of the region of what is read and written */
static bool is_v2;
static const char *family = "";

static int set_up(void **state)
{
    (void)state;
    node = node_start();
    peer = peer_connect(node);
    context_fill(&at, node, slice_of_string(""));
    is_v2 = false;
    family = "";
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    peer_close(peer);
    node_stop(node);
    return 0;
}

static int set_up_v2(void **state)
{
    set_up(state);
    uint8_t bytes[64];
    key_encode(slice_make("r\0\0\0a", 5), bytes);
    context_fill(&at, node, slice_make(bytes, key_encoded_size(5)));
    at.context.api_version = KVRPCPB__APIVERSION__V2;
    is_v2 = true;
    return 0;
}

/* --- short forms of the requests; keys of V2 get their keyspace's prefix --- */

static ProtobufCBinaryData key_of(const char *text)
{
    static char keys[8][80]; /* of the last calls */
    static unsigned next;
    if (!is_v2)
        return bytes_of(text);
    char *key = keys[next++ % 8];
    size_t size = 4 + strlen(text);
    assert_true(size <= sizeof keys[0]);
    memcpy(key, "r\0\0\0", 4);
    memcpy(key + 4, text, size - 4);
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)key};
}

/* Where ranges without an end end. */
static ProtobufCBinaryData end_of_all(void)
{
    if (!is_v2)
        return bytes_of("");
    return (ProtobufCBinaryData){.len = 4, .data = (uint8_t *)(uintptr_t) "r\0\0\1"};
}

#define CALL(method, request, answer_type, ret) \
    assert_int_equal(peer_call(peer, method, request, &answer_type##__descriptor, ret), GRPC_OK)
#define FREE(answer) protobuf_c_message_free_unpacked(&(answer)->base, NULL)

static void put_ttl(const char *key, const char *value, uint64_t ttl)
{
    Kvrpcpb__RawPutRequest request = KVRPCPB__RAW_PUT_REQUEST__INIT;
    Kvrpcpb__RawPutResponse *answer;
    request.context = &at.context;
    request.key = key_of(key);
    request.value = bytes_of(value);
    request.cf = (char *)(uintptr_t)family;
    request.ttl = ttl;
    CALL("RawPut", &request, kvrpcpb__raw_put_response, &answer);
    assert_null(answer->region_error);
    assert_string_equal(answer->error, "");
    FREE(answer);
}

static void put(const char *key, const char *value)
{
    put_ttl(key, value, 0);
}

/* NULL: not found. */
static void expect(const char *key, const char *value)
{
    Kvrpcpb__RawGetRequest request = KVRPCPB__RAW_GET_REQUEST__INIT;
    Kvrpcpb__RawGetResponse *answer;
    request.context = &at.context;
    request.key = key_of(key);
    request.cf = (char *)(uintptr_t)family;
    CALL("RawGet", &request, kvrpcpb__raw_get_response, &answer);
    assert_null(answer->region_error);
    assert_string_equal(answer->error, "");
    assert_int_equal(answer->not_found, value == NULL);
    assert_int_equal(answer->value.len, value != NULL ? strlen(value) : 0);
    if (answer->value.len > 0)
        assert_memory_equal(answer->value.data, value, answer->value.len);
    FREE(answer);
}

/* Writes pairs as "key=value " without prefixes. */
static void print_pairs(Kvrpcpb__KvPair **pairs, size_t count, char *to, size_t size)
{
    size_t prefix = is_v2 ? 4 : 0;
    size_t at_byte = 0;
    to[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        assert_null(pairs[i]->error);
        at_byte += (size_t)snprintf(to + at_byte, size - at_byte, "%.*s=%.*s ",
                                    (int)(pairs[i]->key.len - prefix),
                                    (char *)pairs[i]->key.data + prefix, (int)pairs[i]->value.len,
                                    pairs[i]->value.len > 0 ? (char *)pairs[i]->value.data : "");
    }
}

static void expect_scan_of(ProtobufCBinaryData start, ProtobufCBinaryData end, uint32_t limit,
                           bool reverse, bool key_only, const char *expected)
{
    Kvrpcpb__RawScanRequest request = KVRPCPB__RAW_SCAN_REQUEST__INIT;
    Kvrpcpb__RawScanResponse *answer;
    char text[512];
    request.context = &at.context;
    request.start_key = start;
    request.end_key = end;
    request.limit = limit;
    request.reverse = reverse;
    request.key_only = key_only;
    request.cf = (char *)(uintptr_t)family;
    CALL("RawScan", &request, kvrpcpb__raw_scan_response, &answer);
    assert_null(answer->region_error);
    print_pairs(answer->kvs, answer->n_kvs, text, sizeof text);
    assert_string_equal(text, expected);
    FREE(answer);
}

/* --- the tests, all for V1 and for V2 --- */

static void test_put_get_delete(void **state)
{
    (void)state;
    expect("a", NULL);
    put("a", "1");
    expect("a", "1");
    put("a", "");
    expect("a", ""); /* empty is not missing */
    Kvrpcpb__RawDeleteRequest request = KVRPCPB__RAW_DELETE_REQUEST__INIT;
    for (int i = 0; i < 2; i++) { /* a missing key is no error */
        Kvrpcpb__RawDeleteResponse *answer;
        request.context = &at.context;
        request.key = key_of("a");
        CALL("RawDelete", &request, kvrpcpb__raw_delete_response, &answer);
        assert_string_equal(answer->error, "");
        FREE(answer);
        expect("a", NULL);
    }
}

static void test_batches(void **state)
{
    (void)state;
    Kvrpcpb__KvPair pairs[3] = {KVRPCPB__KV_PAIR__INIT, KVRPCPB__KV_PAIR__INIT,
                                KVRPCPB__KV_PAIR__INIT};
    Kvrpcpb__KvPair *pointers[] = {&pairs[0], &pairs[1], &pairs[2]};
    Kvrpcpb__RawBatchPutRequest request = KVRPCPB__RAW_BATCH_PUT_REQUEST__INIT;
    Kvrpcpb__RawBatchPutResponse *answer;
    uint64_t ttls[] = {0, 0, 100};
    const char *names[] = {"k1", "k2", "k3"};
    for (int i = 0; i < 3; i++) {
        pairs[i].key = key_of(names[i]);
        pairs[i].value = bytes_of(names[i]);
    }
    request.context = &at.context;
    request.n_pairs = 3;
    request.pairs = pointers;
    request.ttls = ttls;
    for (request.n_ttls = 0; request.n_ttls <= 3; request.n_ttls++) {
        CALL("RawBatchPut", &request, kvrpcpb__raw_batch_put_response, &answer);
        assert_string_equal(
            answer->error,
            request.n_ttls == 2 ? "The length of ttls does not equal to the length of pairs" : "");
        FREE(answer);
    }
    ProtobufCBinaryData keys[] = {key_of("k3"), key_of("none"), key_of("k1")};
    Kvrpcpb__RawBatchGetRequest get = KVRPCPB__RAW_BATCH_GET_REQUEST__INIT;
    Kvrpcpb__RawBatchGetResponse *got;
    char text[128];
    get.context = &at.context;
    get.n_keys = 3;
    get.keys = keys;
    CALL("RawBatchGet", &get, kvrpcpb__raw_batch_get_response, &got);
    print_pairs(got->pairs, got->n_pairs, text, sizeof text);
    assert_string_equal(text, "k3=k3 k1=k1 ");
    FREE(got);
    Kvrpcpb__RawBatchDeleteRequest remove = KVRPCPB__RAW_BATCH_DELETE_REQUEST__INIT;
    Kvrpcpb__RawBatchDeleteResponse *removed;
    remove.context = &at.context;
    remove.n_keys = 3;
    remove.keys = keys;
    CALL("RawBatchDelete", &remove, kvrpcpb__raw_batch_delete_response, &removed);
    assert_string_equal(removed->error, "");
    FREE(removed);
    expect_scan_of(key_of("k"), key_of("l"), 9, false, false, "k2=k2 ");
}

static void put_letters(void)
{
    const char *names[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++)
        put(names[i], names[i]);
}

static void test_scans(void **state)
{
    (void)state;
    put_letters();
    expect_scan_of(key_of("b"), key_of("d"), 10, false, false, "b=b c=c ");
    expect_scan_of(key_of("b"), end_of_all(), 2, false, false, "b=b c=c ");
    expect_scan_of(key_of("b"), end_of_all(), 10, false, true, "b= c= d= e= ");
    expect_scan_of(key_of("b"), key_of("d"), 0, false, false, "");
    expect_scan_of(key_of("d"), key_of("b"), 10, false, false, "");
    expect_scan_of(key_of("b"), end_of_all(), UINT32_MAX, false, false, "b=b c=c d=d e=e ");
    /* downwards: below the start, down to the end */
    expect_scan_of(key_of("d"), key_of("b"), 10, true, false, "c=c b=b ");
    expect_scan_of(key_of("d"), key_of(""), 2, true, false, "c=c b=b ");
    expect_scan_of(end_of_all(), key_of(""), 2, true, true, "e= d= ");
    Kvrpcpb__KeyRange one = KVRPCPB__KEY_RANGE__INIT;
    Kvrpcpb__KeyRange two = KVRPCPB__KEY_RANGE__INIT;
    Kvrpcpb__KeyRange *ranges[] = {&one, &two};
    Kvrpcpb__RawBatchScanRequest request = KVRPCPB__RAW_BATCH_SCAN_REQUEST__INIT;
    Kvrpcpb__RawBatchScanResponse *answer;
    char text[128];
    one.start_key = key_of("a");
    one.end_key = key_of("b");
    two.start_key = key_of("c");
    two.end_key = end_of_all();
    request.context = &at.context;
    request.n_ranges = 2;
    request.ranges = ranges;
    request.each_limit = 2;
    CALL("RawBatchScan", &request, kvrpcpb__raw_batch_scan_response, &answer);
    print_pairs(answer->kvs, answer->n_kvs, text, sizeof text);
    assert_string_equal(text, "a=a c=c d=d ");
    FREE(answer);
}

/* In API V1, where ends may be open: up to two of each of two ranges. */
static void test_lists_of_ranges(void **state)
{
    (void)state;
    put_letters();
    static const struct {
        const char *from, *to, *next_from, *next_to;
        bool reverse;
        const char *found; /* NULL: refused */
    } rows[] = {
        {"a", "", "b", "f", false, "a=a b=b c=c "}, /* up to the start of the next */
        {"d", "", "e", "", false, "d=d e=e "},
        {"c", "", "b", "", true, "b=b a=a "}, /* down to it */
        {"d", "", "b", "", false, NULL},
        {"b", "b", "c", "d", false, NULL},
        {"c", "d", "b", "a", false, NULL},
        {"b", "c", "d", "e", true, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Kvrpcpb__KeyRange one = KVRPCPB__KEY_RANGE__INIT;
        Kvrpcpb__KeyRange two = KVRPCPB__KEY_RANGE__INIT;
        Kvrpcpb__KeyRange *ranges[] = {&one, &two};
        Kvrpcpb__RawBatchScanRequest request = KVRPCPB__RAW_BATCH_SCAN_REQUEST__INIT;
        Kvrpcpb__RawBatchScanResponse *answer;
        char text[128];
        one.start_key = bytes_of(rows[i].from);
        one.end_key = bytes_of(rows[i].to);
        two.start_key = bytes_of(rows[i].next_from);
        two.end_key = bytes_of(rows[i].next_to);
        request.context = &at.context;
        request.n_ranges = 2;
        request.ranges = ranges;
        request.each_limit = 2;
        request.reverse = rows[i].reverse;
        CALL("RawBatchScan", &request, kvrpcpb__raw_batch_scan_response, &answer);
        assert_null(answer->region_error);
        if (rows[i].found != NULL) {
            print_pairs(answer->kvs, answer->n_kvs, text, sizeof text);
            assert_string_equal(text, rows[i].found);
        } else {
            assert_int_equal(answer->n_kvs, 1);
            assert_non_null(answer->kvs[0]->error);
            assert_non_null(strstr(answer->kvs[0]->error->abort, "invalid key ranges"));
        }
        FREE(answer);
    }
}

static void expect_checksum(uint64_t checksum, uint64_t keys, uint64_t total_bytes)
{
    Kvrpcpb__KeyRange range = KVRPCPB__KEY_RANGE__INIT;
    Kvrpcpb__KeyRange *ranges[] = {&range};
    Kvrpcpb__RawChecksumRequest sum = KVRPCPB__RAW_CHECKSUM_REQUEST__INIT;
    Kvrpcpb__RawChecksumResponse *summed;
    range.start_key = key_of("");
    range.end_key = end_of_all();
    sum.context = &at.context;
    sum.n_ranges = 1;
    sum.ranges = ranges;
    CALL("RawChecksum", &sum, kvrpcpb__raw_checksum_response, &summed);
    assert_true(summed->checksum == checksum);
    assert_int_equal(summed->total_kvs, keys);
    assert_int_equal(summed->total_bytes, total_bytes);
    FREE(summed);
}

/* More than a loop reads by itself: the pool does it. */
static void test_long_scans(void **state)
{
    (void)state;
    enum { KEYS = 2000 };
    static char names[KEYS][8];
    static Kvrpcpb__KvPair pairs[KEYS];
    static Kvrpcpb__KvPair *pointers[KEYS];
    static ProtobufCBinaryData keys[KEYS];
    uint8_t *bytes = mem_alloc(KEYS * 16);
    uint64_t checksum = 0;
    for (size_t i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof names[i], "%05zu", i);
        ProtobufCBinaryData key = key_of(names[i]);
        memcpy(bytes + i * 16, key.data, key.len);
        keys[i] = (ProtobufCBinaryData){.len = key.len, .data = bytes + i * 16};
        kvrpcpb__kv_pair__init(&pairs[i]);
        pairs[i].key = keys[i];
        pairs[i].value = bytes_of(names[i]);
        pointers[i] = &pairs[i];
        uint64_t crc = crc64(0, slice_make(keys[i].data, keys[i].len));
        checksum ^= crc64(crc, slice_of_string(names[i]));
    }
    Kvrpcpb__RawBatchPutRequest request = KVRPCPB__RAW_BATCH_PUT_REQUEST__INIT;
    Kvrpcpb__RawBatchPutResponse *answer;
    request.context = &at.context;
    request.n_pairs = KEYS;
    request.pairs = pointers;
    CALL("RawBatchPut", &request, kvrpcpb__raw_batch_put_response, &answer);
    FREE(answer);
    Kvrpcpb__RawScanRequest scan = KVRPCPB__RAW_SCAN_REQUEST__INIT;
    Kvrpcpb__RawScanResponse *scanned;
    scan.context = &at.context;
    scan.start_key = key_of("");
    scan.end_key = end_of_all();
    scan.limit = 1999;
    CALL("RawScan", &scan, kvrpcpb__raw_scan_response, &scanned);
    assert_int_equal(scanned->n_kvs, 1999);
    assert_memory_equal(scanned->kvs[1998]->value.data, "01998", 5);
    FREE(scanned);
    Kvrpcpb__RawBatchGetRequest get = KVRPCPB__RAW_BATCH_GET_REQUEST__INIT;
    Kvrpcpb__RawBatchGetResponse *got;
    get.context = &at.context;
    get.n_keys = KEYS;
    get.keys = keys;
    CALL("RawBatchGet", &get, kvrpcpb__raw_batch_get_response, &got);
    assert_int_equal(got->n_pairs, KEYS);
    FREE(got);
    expect_checksum(checksum, KEYS, KEYS * (keys[0].len + 5));
    mem_free(bytes);
}

static void test_delete_range(void **state)
{
    (void)state;
    const char *names[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        put(names[i], names[i]);
    Kvrpcpb__RawDeleteRangeRequest request = KVRPCPB__RAW_DELETE_RANGE_REQUEST__INIT;
    Kvrpcpb__RawDeleteRangeResponse *answer;
    request.context = &at.context;
    request.start_key = key_of("c");
    request.end_key = key_of("b");
    CALL("RawDeleteRange", &request, kvrpcpb__raw_delete_range_response, &answer);
    assert_string_equal(answer->error, "");
    FREE(answer);
    request.start_key = key_of("b");
    request.end_key = key_of("d");
    CALL("RawDeleteRange", &request, kvrpcpb__raw_delete_range_response, &answer);
    assert_string_equal(answer->error, "");
    FREE(answer);
    expect_scan_of(key_of("a"), end_of_all(), 9, false, false, "a=a d=d ");
}

static void expect_ttl(const char *key, bool found, uint64_t low, uint64_t high)
{
    Kvrpcpb__RawGetKeyTTLRequest request = KVRPCPB__RAW_GET_KEY_TTLREQUEST__INIT;
    Kvrpcpb__RawGetKeyTTLResponse *answer;
    request.context = &at.context;
    request.key = key_of(key);
    CALL("RawGetKeyTTL", &request, kvrpcpb__raw_get_key_ttlresponse, &answer);
    assert_string_equal(answer->error, "");
    assert_int_equal(answer->not_found, !found);
    assert_in_range(answer->ttl, low, high);
    FREE(answer);
}

static void test_ttl(void **state)
{
    (void)state;
    put("never", "v");
    put_ttl("late", "v", 1000);
    put_ttl("huge", "v", UINT64_MAX);
    expect_ttl("none", false, 0, 0);
    expect_ttl("never", true, 0, 0);
    expect_ttl("late", true, 900, 1000);
    expect_ttl("huge", true, KVS_TTL_MS_MAX / 1000 - 100, KVS_TTL_MS_MAX / 1000);
    put("late", "again"); /* without: it does not end any more */
    expect_ttl("late", true, 0, 0);
}

struct cas {
    const char *previous; /* NULL: must not exist */
    const char *value;    /* NULL: delete */
    bool succeed;
    const char *found; /* NULL: nothing */
};

static void cas(const struct cas *wanted)
{
    Kvrpcpb__RawCASRequest request = KVRPCPB__RAW_CASREQUEST__INIT;
    Kvrpcpb__RawCASResponse *answer;
    request.context = &at.context;
    request.key = key_of("cas");
    request.previous_not_exist = wanted->previous == NULL;
    request.previous_value = bytes_of(wanted->previous != NULL ? wanted->previous : "");
    request.delete_ = wanted->value == NULL;
    request.value = bytes_of(wanted->value != NULL ? wanted->value : "");
    request.ttl = 50;
    CALL("RawCompareAndSwap", &request, kvrpcpb__raw_casresponse, &answer);
    assert_string_equal(answer->error, "");
    assert_int_equal(answer->succeed, wanted->succeed);
    assert_int_equal(answer->previous_not_exist, wanted->found == NULL);
    assert_int_equal(answer->previous_value.len, wanted->found != NULL ? strlen(wanted->found) : 0);
    if (answer->previous_value.len > 0)
        assert_memory_equal(answer->previous_value.data, wanted->found, strlen(wanted->found));
    FREE(answer);
}

static void test_cas(void **state)
{
    (void)state;
    const struct cas steps[] = {
        {"x", "1", false, NULL}, {NULL, "1", true, NULL},  {NULL, "2", false, "1"},
        {"2", "3", false, "1"},  {"1", "2", true, "1"},    {"1", NULL, false, "2"},
        {"2", NULL, true, "2"},  {NULL, NULL, true, NULL}, {NULL, "", true, NULL},
        {"", "4", true, ""},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        cas(&steps[i]);
    expect("cas", "4");
    expect_ttl("cas", true, 1, 50);
}

/* --- V1 only --- */

static void test_families(void **state)
{
    (void)state;
    const char *names[] = {"default", "write", "lock"};
    for (int i = 0; i < 3; i++) {
        family = names[i];
        expect("k", NULL);
        put("k", names[i]);
    }
    for (int i = 0; i < 3; i++) {
        family = names[i];
        expect("k", names[i]);
    }
    family = "";
    expect("k", "default");
    Kvrpcpb__RawGetRequest request = KVRPCPB__RAW_GET_REQUEST__INIT;
    Kvrpcpb__RawGetResponse *answer;
    request.context = &at.context;
    request.key = bytes_of("k");
    request.cf = (char *)(uintptr_t) "raft";
    CALL("RawGet", &request, kvrpcpb__raw_get_response, &answer);
    assert_string_equal(answer->error, "invalid cf name: raft");
    FREE(answer);
}

/* V1's default family is what the kvs protocol serves: the engine's first, keys as they are. */
static void test_same_data_as_kvs(void **state)
{
    (void)state;
    put("both", "value");
    struct engine_view view;
    kvs_slice value;
    assert_int_equal(engine_view_begin(node->engine, NULL, true, &view), 0);
    assert_int_equal(engine_get(&view, ENGINE_FAMILY_DEFAULT, slice_of_string("both"), &value), 0);
    assert_slice_equal(value, "value");
    engine_view_end(&view);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    Kvrpcpb__RawCoprocessorRequest plugin = KVRPCPB__RAW_COPROCESSOR_REQUEST__INIT;
    Kvrpcpb__RawCoprocessorResponse *no_plugin;
    plugin.context = &at.context;
    plugin.copr_name = (char *)(uintptr_t) "example";
    CALL("RawCoprocessor", &plugin, kvrpcpb__raw_coprocessor_response, &no_plugin);
    assert_non_null(strstr(no_plugin->error, "'example' not found"));
    FREE(no_plugin);
    assert_int_equal(peer_call_bytes(peer, "BatchCoprocessor", slice_of_string("")),
                     GRPC_UNIMPLEMENTED);
    assert_int_equal(peer_call_bytes(peer, "NoSuch", slice_of_string("")), GRPC_UNIMPLEMENTED);
    Kvrpcpb__StoreSafeTSRequest safe = KVRPCPB__STORE_SAFE_TSREQUEST__INIT;
    Kvrpcpb__StoreSafeTSResponse *safe_ts;
    CALL("GetStoreSafeTS", &safe, kvrpcpb__store_safe_tsresponse, &safe_ts);
    assert_int_equal(safe_ts->safe_ts, 0);
    FREE(safe_ts);
    Kvrpcpb__GetHealthFeedbackRequest health = KVRPCPB__GET_HEALTH_FEEDBACK_REQUEST__INIT;
    for (uint64_t number = 1; number <= 2; number++) {
        Kvrpcpb__GetHealthFeedbackResponse *feedback;
        CALL("GetHealthFeedback", &health, kvrpcpb__get_health_feedback_response, &feedback);
        assert_int_equal(feedback->health_feedback->store_id, STORE_ID);
        assert_int_equal(feedback->health_feedback->feedback_seq_no, number);
        FREE(feedback);
    }
}

#define BOTH(test)                                            \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down), \
    {                                                         \
#test "_v2", test, set_up_v2, tear_down, NULL         \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_put_get_delete),
        BOTH(test_batches),
        BOTH(test_scans),
        BOTH(test_long_scans),
        BOTH(test_delete_range),
        BOTH(test_ttl),
        BOTH(test_cas),
        cmocka_unit_test_setup_teardown(test_lists_of_ranges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_families, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_data_as_kvs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
