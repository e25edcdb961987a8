/* See txn_calls.h. */
#include "unit/server/txn_calls.h"

#include "proto/tikv/key.h"

#include "test.h"

struct tikv_node *node;
struct tikv_peer *peer;
struct context at;

int txn_set_up(void **state)
{
    (void)state;
    node = node_start();
    peer = peer_connect(node);
    context_fill(&at, node, slice_of_string(""));
    return 0;
}

int txn_tear_down(void **state)
{
    (void)state;
    peer_close(peer);
    node_stop(node);
    return 0;
}

void *call(const char *method, const void *request, const ProtobufCMessageDescriptor *type)
{
    void *answer;
    assert_int_equal(peer_call(peer, method, request, type, &answer), GRPC_OK);
    return answer;
}

void assert_bytes(ProtobufCBinaryData bytes, const char *text)
{
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.len);
}

kvs_slice encoded(const char *key, uint8_t *to)
{
    key_encode(slice_of_string(key), to);
    return slice_make(to, key_encoded_size(strlen(key)));
}

Kvrpcpb__PrewriteResponse *prewrite_one(Kvrpcpb__Op op, const char *key, const char *value,
                                        const char *primary, uint64_t start_ms)
{
    REQUEST(PrewriteRequest, request, PREWRITE_REQUEST);
    Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
    Kvrpcpb__Mutation *mutations[] = {&mutation};
    mutation.op = op;
    mutation.key = bytes_of(key);
    mutation.value = bytes_of(value);
    request.n_mutations = 1;
    request.mutations = mutations;
    request.primary_lock = bytes_of(primary);
    request.start_version = TS(start_ms);
    request.lock_ttl = TTL_MS;
    request.txn_size = 1;
    return CALL("KvPrewrite", request, prewrite_response);
}

void prewrite(const char *key, const char *value, const char *primary, uint64_t start_ms)
{
    Kvrpcpb__PrewriteResponse *answer =
        prewrite_one(KVRPCPB__OP__Put, key, value, primary, start_ms);
    assert_null(answer->region_error);
    assert_int_equal(answer->n_errors, 0);
    FREE(answer);
}

Kvrpcpb__CommitResponse *commit_one(const char *key, uint64_t start_ms, uint64_t commit_ms)
{
    REQUEST(CommitRequest, request, COMMIT_REQUEST);
    ProtobufCBinaryData keys[] = {bytes_of(key)};
    request.n_keys = 1;
    request.keys = keys;
    request.start_version = TS(start_ms);
    request.commit_version = TS(commit_ms);
    return CALL("KvCommit", request, commit_response);
}

void put(const char *key, const char *value, uint64_t start_ms)
{
    prewrite(key, value, key, start_ms);
    Kvrpcpb__CommitResponse *answer = commit_one(key, start_ms, start_ms + 1);
    assert_null(answer->error);
    assert_int_equal(answer->commit_version, TS(start_ms + 1));
    FREE(answer);
}

Kvrpcpb__GetResponse *get_at(const char *key, uint64_t ms)
{
    REQUEST(GetRequest, request, GET_REQUEST);
    request.key = bytes_of(key);
    request.version = TS(ms);
    request.need_commit_ts = true;
    return CALL("KvGet", request, get_response);
}

void expect_get(const char *key, uint64_t ms, const char *value)
{
    Kvrpcpb__GetResponse *answer = get_at(key, ms);
    assert_null(answer->region_error);
    assert_null(answer->error);
    assert_int_equal(answer->not_found, value == NULL);
    assert_bytes(answer->value, value != NULL ? value : "");
    FREE(answer);
}

Kvrpcpb__ScanResponse *scan(const char *from, const char *to, uint32_t limit, bool reverse)
{
    REQUEST(ScanRequest, request, SCAN_REQUEST);
    request.start_key = bytes_of(from);
    request.end_key = bytes_of(to);
    request.limit = limit;
    request.reverse = reverse;
    request.version = TS(900);
    return CALL("KvScan", request, scan_response);
}

void expect_scan(const char *from, const char *to, uint32_t limit, bool reverse, const char *keys)
{
    Kvrpcpb__ScanResponse *answer = scan(from, to, limit, reverse);
    assert_null(answer->region_error);
    assert_null(answer->error);
    assert_int_equal(answer->n_pairs, strlen(keys));
    for (size_t i = 0; i < answer->n_pairs; i++) {
        const Kvrpcpb__KvPair *pair = answer->pairs[i];
        bool locked = keys[i] < 'a';
        const char name[] = {locked ? (char)(keys[i] + 32) : keys[i], '\0'};
        assert_int_equal(pair->error != NULL, locked);
        assert_bytes(locked ? pair->error->locked->key : pair->key, name);
    }
    FREE(answer);
}

void expect_locks(uint64_t max_ms, const char *keys)
{
    REQUEST(ScanLockRequest, request, SCAN_LOCK_REQUEST);
    request.max_version = TS(max_ms);
    Kvrpcpb__ScanLockResponse *answer = CALL("KvScanLock", request, scan_lock_response);
    assert_null(answer->error);
    assert_int_equal(answer->n_locks, strlen(keys));
    for (size_t i = 0; i < answer->n_locks; i++)
        assert_memory_equal(answer->locks[i]->key.data, keys + i, 1);
    FREE(answer);
    REQUEST(PhysicalScanLockRequest, physical, PHYSICAL_SCAN_LOCK_REQUEST);
    physical.max_ts = TS(max_ms);
    Kvrpcpb__PhysicalScanLockResponse *all =
        CALL("PhysicalScanLock", physical, physical_scan_lock_response);
    assert_int_equal(all->n_locks, strlen(keys));
    FREE(all);
}
