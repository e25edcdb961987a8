/* The TiKV service's transactional commands over a socket: the shapes of their answers, where
 * errors sit, regions and keyspaces, limits. What the rules decide is tested with src/txn. */
#include "unit/server/txn_calls.h"

#include "base/mem.h"
#include "base/rand.h"
#include "proto/tikv/key.h"
#include "server/tikv_parts.h"

#include <stdio.h>

#include "test.h"

/* --- reads -------------------------------------------------------------------------------------
 */

static void test_commit_and_get(void **state)
{
    (void)state;
    expect_get("a", 100, NULL);
    put("a", "1", 200);
    put("a", "", 300); /* a value, though empty */
    expect_get("a", 200, NULL);
    expect_get("a", 201, "1");
    expect_get("a", 301, "");
    Kvrpcpb__GetResponse *answer = get_at("a", 250);
    assert_int_equal(answer->commit_ts, TS(201));
    FREE(answer);
    REQUEST(GetRequest, newest, GET_REQUEST);
    newest.key = bytes_of("a");
    newest.version = UINT64_MAX;
    answer = CALL("KvGet", newest, get_response);
    assert_false(answer->not_found);
    assert_int_equal(answer->commit_ts, 0);
    FREE(answer);
}

static void test_a_lock_in_the_way(void **state)
{
    (void)state;
    put("a", "1", 100);
    prewrite("b", "2", "a", 200);
    Kvrpcpb__GetResponse *got = get_at("b", 300);
    Kvrpcpb__LockInfo *lock = got->error->locked;
    assert_non_null(lock);
    assert_bytes(lock->key, "b");
    assert_bytes(lock->primary_lock, "a");
    assert_int_equal(lock->lock_version, TS(200));
    assert_int_equal(lock->lock_ttl, TTL_MS);
    assert_int_equal(lock->txn_size, 1);
    assert_int_equal(lock->lock_type, KVRPCPB__OP__Put);
    FREE(got);
    expect_get("b", 150, NULL); /* it is later */

    uint64_t resolved[] = {TS(200)};
    at.context.n_resolved_locks = 1;
    at.context.resolved_locks = resolved;
    expect_get("b", 300, NULL);
    at.context.n_resolved_locks = 0;
    at.context.isolation_level = KVRPCPB__ISOLATION_LEVEL__RC;
    expect_get("b", 300, NULL);
    at.context.isolation_level = (Kvrpcpb__IsolationLevel)9;
    got = get_at("b", 300);
    assert_non_null(got->error->abort);
    FREE(got);
    at.context.isolation_level = KVRPCPB__ISOLATION_LEVEL__SI;

    REQUEST(BatchGetRequest, batch, BATCH_GET_REQUEST);
    ProtobufCBinaryData keys[] = {bytes_of("missing"), bytes_of("b"), bytes_of("a")};
    batch.n_keys = 3;
    batch.keys = keys;
    batch.version = TS(300);
    Kvrpcpb__BatchGetResponse *pairs = CALL("KvBatchGet", batch, batch_get_response);
    assert_null(pairs->error);
    assert_int_equal(pairs->n_pairs, 2);
    for (size_t i = 0; i < 2; i++) {
        if (pairs->pairs[i]->error != NULL) {
            assert_int_equal(pairs->pairs[i]->key.len, 0);
            assert_bytes(pairs->pairs[i]->error->locked->key, "b");
        } else {
            assert_bytes(pairs->pairs[i]->key, "a");
            assert_bytes(pairs->pairs[i]->value, "1");
        }
    }
    FREE(pairs);
}

static void test_scans(void **state)
{
    (void)state;
    put("a", "1", 100);
    put("b", "2", 110);
    put("d", "4", 120);
    prewrite("c", "3", "c", 130);
    put("n", "later", 950);
    expect_scan("", "", 100, false, "abCd");
    expect_scan("", "", 3, false, "abC"); /* it counts */
    expect_scan("b", "d", 100, false, "bC");
    expect_scan("", "", 100, true, "dCba");
    expect_scan("d", "b", 100, true, "Cb"); /* from below d down to b */
    expect_scan("", "", 0, false, "");
    expect_scan("d", "b", 100, false, "");
    expect_scan("", "", 600, false, "abCd"); /* on the pool */
    REQUEST(ScanRequest, keys, SCAN_REQUEST);
    keys.limit = 1;
    keys.version = TS(900);
    keys.key_only = true;
    Kvrpcpb__ScanResponse *answer = CALL("KvScan", keys, scan_response);
    assert_bytes(answer->pairs[0]->key, "a");
    assert_int_equal(answer->pairs[0]->value.len, 0);
    FREE(answer);
}

/* --- errors ------------------------------------------------------------------------------------
 */

static void test_errors_of_prewrite(void **state)
{
    (void)state;
    put("a", "1", 200);
    Kvrpcpb__PrewriteResponse *answer = prewrite_one(KVRPCPB__OP__Put, "a", "2", "p", 100);
    assert_int_equal(answer->n_errors, 1);
    Kvrpcpb__WriteConflict *conflict = answer->errors[0]->conflict;
    assert_non_null(conflict);
    assert_true(answer->errors[0]->retryable[0] != '\0');
    assert_int_equal(conflict->start_ts, TS(100));
    assert_int_equal(conflict->conflict_ts, TS(200));
    assert_int_equal(conflict->conflict_commit_ts, TS(201));
    assert_bytes(conflict->key, "a");
    assert_bytes(conflict->primary, "p");
    assert_int_equal(conflict->reason, KVRPCPB__WRITE_CONFLICT__REASON__Optimistic);
    FREE(answer);
    answer = prewrite_one(KVRPCPB__OP__Insert, "a", "2", "a", 300);
    assert_bytes(answer->errors[0]->already_exist->key, "a");
    FREE(answer);
    prewrite("b", "1", "b", 300);
    answer = prewrite_one(KVRPCPB__OP__Put, "b", "2", "b", 310);
    assert_int_equal(answer->errors[0]->locked->lock_version, TS(300));
    FREE(answer);
    answer = prewrite_one(KVRPCPB__OP__Rollback, "c", "", "c", 320);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    Kvrpcpb__CommitResponse *committed = commit_one("c", 300, 310);
    assert_bytes(committed->error->txn_lock_not_found->key, "c");
    assert_true(committed->error->retryable[0] != '\0');
    FREE(committed);
    committed = commit_one("b", 300, 300);
    assert_non_null(committed->error->abort);
    FREE(committed);
}

static void test_assertions(void **state)
{
    (void)state;
    REQUEST(PrewriteRequest, request, PREWRITE_REQUEST);
    Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
    Kvrpcpb__Mutation *mutations[] = {&mutation};
    put("a", "1", 100);
    mutation.key = bytes_of("a");
    mutation.assertion = KVRPCPB__ASSERTION__NotExist;
    request.n_mutations = 1;
    request.mutations = mutations;
    request.primary_lock = bytes_of("a");
    request.start_version = TS(200);
    request.assertion_level = KVRPCPB__ASSERTION_LEVEL__Strict;
    Kvrpcpb__PrewriteResponse *answer = CALL("KvPrewrite", request, prewrite_response);
    Kvrpcpb__AssertionFailed *failed = answer->errors[0]->assertion_failed;
    assert_non_null(failed);
    assert_bytes(failed->key, "a");
    assert_int_equal(failed->start_ts, TS(200));
    assert_int_equal(failed->assertion, KVRPCPB__ASSERTION__NotExist);
    assert_int_equal(failed->existing_commit_ts, TS(101));
    FREE(answer);
    mutation.assertion = (Kvrpcpb__Assertion)7;
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    mutation.assertion = KVRPCPB__ASSERTION__None;
    request.assertion_level = (Kvrpcpb__AssertionLevel)7;
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    request.assertion_level = KVRPCPB__ASSERTION_LEVEL__Off;
    Kvrpcpb__PrewriteRequest__PessimisticAction actions[] = {9};
    request.n_pessimistic_actions = 1;
    request.pessimistic_actions = actions;
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
}

/* --- commits that choose their timestamp -------------------------------------------------------
 */

static void test_async_and_one_phase(void **state)
{
    (void)state;
    REQUEST(PrewriteRequest, request, PREWRITE_REQUEST);
    Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
    Kvrpcpb__Mutation *mutations[] = {&mutation};
    ProtobufCBinaryData secondaries[] = {bytes_of("b"), bytes_of("c")};
    expect_get("a", 500, NULL); /* a promise */
    mutation.key = bytes_of("a");
    mutation.value = bytes_of("1");
    request.n_mutations = 1;
    request.mutations = mutations;
    request.primary_lock = bytes_of("a");
    request.start_version = TS(100);
    request.lock_ttl = TTL_MS;
    request.use_async_commit = true;
    request.n_secondaries = 2;
    request.secondaries = secondaries;
    Kvrpcpb__PrewriteResponse *answer = CALL("KvPrewrite", request, prewrite_response);
    assert_int_equal(answer->n_errors, 0);
    assert_int_equal(answer->one_pc_commit_ts, 0);
    assert_int_equal(answer->min_commit_ts, TS(500) + 1);
    FREE(answer);
    Kvrpcpb__GetResponse *got = get_at("a", 600);
    assert_true(got->error->locked->use_async_commit);
    assert_int_equal(got->error->locked->n_secondaries, 2);
    assert_bytes(got->error->locked->secondaries[1], "c");
    FREE(got);

    mutation.key = bytes_of("d");
    request.primary_lock = bytes_of("d");
    request.use_async_commit = false;
    request.try_one_pc = true;
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_int_equal(answer->one_pc_commit_ts, TS(600) + 1);
    FREE(answer);
    expect_get("d", 601, "1");
}

/* --- places ------------------------------------------------------------------------------------
 */

static void test_regions_are_cut_in_encoded_keys(void **state)
{
    (void)state;
    uint8_t bound[32];
    put("a", "1", 100);
    put("m", "2", 100);
    put("q", "3", 100);
    node_split(node, encoded("m", bound));
    context_fill(&at, node, slice_of_string(""));
    expect_scan("", "", 100, false, "a");
    Kvrpcpb__GetResponse *got = get_at("m", 200);
    assert_non_null(got->region_error->key_not_in_region);
    assert_int_equal(got->region_error->key_not_in_region->key.len, key_encoded_size(1));
    FREE(got);
    Kvrpcpb__PrewriteResponse *answer = prewrite_one(KVRPCPB__OP__Put, "m", "2", "m", 300);
    assert_non_null(answer->region_error->key_not_in_region);
    FREE(answer);
    context_fill(&at, node, encoded("m", bound));
    expect_scan("m", "", 100, false, "mq");
    expect_scan("", "", 100, true, "qm");
    expect_scan("", "n", 100, true, "q");
    expect_get("m", 200, "2");
    at.epoch.version--;
    got = get_at("m", 200);
    assert_non_null(got->region_error->epoch_not_match);
    FREE(got);
}

static void test_key_modes(void **state)
{
    (void)state;
    at.context.api_version = KVRPCPB__APIVERSION__V2;
    context_fill(&at, node, slice_make("x", 1));
    at.context.api_version = KVRPCPB__APIVERSION__V2;
    uint8_t bytes[32];
    context_fill(&at, node, encoded("x1", bytes));
    at.context.api_version = KVRPCPB__APIVERSION__V2;
    Kvrpcpb__GetResponse *got = get_at("raw", 100);
    assert_non_null(got->error->abort);
    FREE(got);
    Kvrpcpb__ScanResponse *scanned = scan("a", "b", 10, false);
    assert_non_null(scanned->error->abort);
    assert_int_equal(scanned->n_pairs, 1);
    assert_non_null(scanned->pairs[0]->error->abort);
    FREE(scanned);
    REQUEST(BatchGetRequest, batch, BATCH_GET_REQUEST);
    ProtobufCBinaryData keys[] = {bytes_of("a")};
    batch.n_keys = 1;
    batch.keys = keys;
    Kvrpcpb__BatchGetResponse *pairs = CALL("KvBatchGet", batch, batch_get_response);
    assert_non_null(pairs->error->abort);
    assert_non_null(pairs->pairs[0]->error->abort);
    FREE(pairs);
    Kvrpcpb__PrewriteResponse *answer = prewrite_one(KVRPCPB__OP__Put, "raw", "2", "m", 300);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    Kvrpcpb__CommitResponse *committed = commit_one("raw", 300, 301);
    assert_non_null(committed->error->abort);
    FREE(committed);
}

/* --- the rest ----------------------------------------------------------------------------------
 */

static void test_ranges_that_go(void **state)
{
    (void)state;
    put("a", "1", 100);
    put("b", "2", 110);
    put("c", "3", 120);
    prewrite("b", "4", "b", 200);
    REQUEST(DeleteRangeRequest, range, DELETE_RANGE_REQUEST);
    range.start_key = bytes_of("a");
    range.end_key = bytes_of("b");
    range.notify_only = true;
    Kvrpcpb__DeleteRangeResponse *deleted = CALL("KvDeleteRange", range, delete_range_response);
    assert_bytes(bytes_of(deleted->error), "");
    FREE(deleted);
    expect_get("a", 900, "1");
    range.notify_only = false;
    deleted = CALL("KvDeleteRange", range, delete_range_response);
    FREE(deleted);
    expect_scan("", "", 100, false, "Bc");
    REQUEST(UnsafeDestroyRangeRequest, destroy, UNSAFE_DESTROY_RANGE_REQUEST);
    Kvrpcpb__UnsafeDestroyRangeResponse *destroyed =
        CALL("UnsafeDestroyRange", destroy, unsafe_destroy_range_response);
    assert_true(destroyed->error[0] != '\0');
    FREE(destroyed);
    destroy.start_key = bytes_of("b");
    destroy.end_key = bytes_of("d");
    destroyed = CALL("UnsafeDestroyRange", destroy, unsafe_destroy_range_response);
    assert_true(destroyed->error[0] == '\0');
    FREE(destroyed);
    expect_scan("", "", 100, false, "");
}

static void test_versions_of_a_key(void **state)
{
    (void)state;
    put("a", "1", 100);
    put("a", "2", 200);
    prewrite("a", "3", "p", 300);
    REQUEST(MvccGetByKeyRequest, by_key, MVCC_GET_BY_KEY_REQUEST);
    by_key.key = bytes_of("a");
    Kvrpcpb__MvccGetByKeyResponse *answer = CALL("MvccGetByKey", by_key, mvcc_get_by_key_response);
    assert_int_equal(answer->info->lock->start_ts, TS(300));
    assert_bytes(answer->info->lock->primary, "p");
    assert_int_equal(answer->info->n_writes, 2);
    assert_int_equal(answer->info->writes[0]->commit_ts, TS(201));
    assert_bytes(answer->info->writes[1]->short_value, "1");
    FREE(answer);
    REQUEST(MvccGetByStartTsRequest, by_ts, MVCC_GET_BY_START_TS_REQUEST);
    by_ts.start_ts = TS(200);
    Kvrpcpb__MvccGetByStartTsResponse *found =
        CALL("MvccGetByStartTs", by_ts, mvcc_get_by_start_ts_response);
    assert_bytes(found->key, "a");
    FREE(found);
    by_ts.start_ts = TS(250);
    found = CALL("MvccGetByStartTs", by_ts, mvcc_get_by_start_ts_response);
    assert_null(found->info);
    FREE(found);
}

static size_t writes_of(const char *key)
{
    REQUEST(MvccGetByKeyRequest, request, MVCC_GET_BY_KEY_REQUEST);
    request.key = bytes_of(key);
    Kvrpcpb__MvccGetByKeyResponse *answer = CALL("MvccGetByKey", request, mvcc_get_by_key_response);
    size_t count = answer->info->n_writes;
    FREE(answer);
    return count;
}

static void test_old_versions_are_removed(void **state)
{
    (void)state;
    enum { KEYS = 300 }; /* more than one step takes */
    char key[16];
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "k%03u", i);
        put(key, "1", 100);
        put(key, "2", 200);
        put(key, "3", 500);
    }
    put("gone", "1", 100);
    FREE(prewrite_one(KVRPCPB__OP__Del, "gone", "", "gone", 200));
    FREE(commit_one("gone", 200, 201));
    node_set_safe_point(node, TS(300));
    while (atomic_load(&node->gc.done_safe_point) != TS(300)) /* bounded by the test's time */
        expect_get("k000", 300, "2");
    assert_int_equal(atomic_load(&node->gc.removed_versions), KEYS + 2);
    assert_int_equal(writes_of("k000"), 2);
    assert_int_equal(writes_of("k299"), 2);
    assert_int_equal(writes_of("gone"), 0);
    expect_get("k299", 300, "2");
    expect_get("k299", 600, "3");
}

/* The safe point of the next round that is over. */
static uint64_t next_done(uint64_t last)
{
    uint64_t done;
    while ((done = atomic_load(&node->gc.done_safe_point)) == last) /* bounded by the test's time */
        expect_get("a", 300, NULL);
    return done;
}

/* A committed transaction left a lock behind, and whoever moved the safe point does not know of it:
 * the record that tells of the commit, at its primary, is the only one there is. */
static void test_locks_keep_their_commits(void **state)
{
    (void)state;
    enum { OTHERS = 300 }; /* more than one page */
    char key[16];
    put("e", "old", 100);
    for (unsigned i = 0; i < OTHERS; i++) {
        snprintf(key, sizeof key, "b%03u", i);
        prewrite(key, "left", key, 220);
    }
    prewrite("e", "both", "e", 200);
    prewrite("f", "both", "e", 200);
    FREE(commit_one("e", 200, 201));
    put("e", "new", 250);
    node_set_safe_point(node, TS(300));
    assert_int_equal(next_done(0), TS(200) - 1);
    assert_int_equal(writes_of("e"), 3);
    REQUEST(CheckTxnStatusRequest, check, CHECK_TXN_STATUS_REQUEST);
    check.primary_key = bytes_of("e");
    check.lock_ts = TS(200);
    check.current_ts = TS(700);
    check.rollback_if_not_exist = true;
    Kvrpcpb__CheckTxnStatusResponse *status =
        CALL("KvCheckTxnStatus", check, check_txn_status_response);
    assert_int_equal(status->commit_version, TS(201));
    FREE(status);
    FREE(commit_one("f", 200, 201));
    assert_int_equal(next_done(TS(200) - 1), TS(220) - 1);
    for (unsigned i = 0; i < OTHERS; i++) {
        snprintf(key, sizeof key, "b%03u", i);
        FREE(commit_one(key, 220, 221));
    }
    assert_int_equal(next_done(TS(220) - 1), TS(300));
    assert_int_equal(writes_of("e"), 1);
    expect_get("f", 300, "both");
    expect_get("e", 300, "new");
}

static void test_what_is_only_answered(void **state)
{
    (void)state;
    REQUEST(GCRequest, gc, GCREQUEST);
    void *none;
    assert_int_equal(peer_call(peer, "KvGC", &gc, &kvrpcpb__gcresponse__descriptor, &none),
                     GRPC_UNIMPLEMENTED);
    REQUEST(RegisterLockObserverRequest, observe, REGISTER_LOCK_OBSERVER_REQUEST);
    Kvrpcpb__RegisterLockObserverResponse *registered =
        CALL("RegisterLockObserver", observe, register_lock_observer_response);
    assert_bytes(bytes_of(registered->error), "");
    FREE(registered);
    REQUEST(CheckLockObserverRequest, check, CHECK_LOCK_OBSERVER_REQUEST);
    Kvrpcpb__CheckLockObserverResponse *checked =
        CALL("CheckLockObserver", check, check_lock_observer_response);
    assert_true(checked->is_clean);
    assert_int_equal(checked->n_locks, 0);
    FREE(checked);
    REQUEST(BroadcastTxnStatusRequest, broadcast, BROADCAST_TXN_STATUS_REQUEST);
    Kvrpcpb__BroadcastTxnStatusResponse *heard =
        CALL("BroadcastTxnStatus", broadcast, broadcast_txn_status_response);
    FREE(heard);
    at.context.cluster_id++;
    assert_int_equal(peer_call(peer, "BroadcastTxnStatus", &broadcast,
                               &kvrpcpb__broadcast_txn_status_response__descriptor, &none),
                     GRPC_INVALID_ARGUMENT);
}

/* An observer tells which locks are there, unless there are too many of them. */
static void test_lock_observer(void **state)
{
    (void)state;
    enum { OBSERVED_MAX = 1024 };
    char key[16];
    for (unsigned i = 0; i <= OBSERVED_MAX; i++) {
        snprintf(key, sizeof key, "o%04u", i);
        FREE(prewrite_one(KVRPCPB__OP__Put, key, "v", key, i < 2 ? 100 : 200));
    }
    REQUEST(CheckLockObserverRequest, check, CHECK_LOCK_OBSERVER_REQUEST);
    static const struct {
        uint64_t max_ts;
        size_t count;
        bool is_clean;
    } rows[] = {{99, 0, true}, {100, 2, true}, {200, 0, false}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check.max_ts = TS(rows[i].max_ts);
        Kvrpcpb__CheckLockObserverResponse *checked =
            CALL("CheckLockObserver", check, check_lock_observer_response);
        assert_int_equal(checked->is_clean, rows[i].is_clean);
        assert_int_equal(checked->n_locks, rows[i].count);
        FREE(checked);
    }
}

static void test_limits(void **state)
{
    (void)state;
    char *large = mem_alloc(TIKV_ENTRY_SIZE_MAX + 2);
    memset(large, 'b', TIKV_ENTRY_SIZE_MAX + 1);
    large[TIKV_ENTRY_SIZE_MAX + 1] = '\0';
    Kvrpcpb__PrewriteResponse *answer = prewrite_one(KVRPCPB__OP__Put, "a", large, "a", 100);
    assert_int_equal(answer->region_error->raft_entry_too_large->entry_size,
                     TIKV_ENTRY_SIZE_MAX + 2);
    FREE(answer);
    large[KEY_SIZE_MAX + 1] = '\0';
    answer = prewrite_one(KVRPCPB__OP__Put, large, "v", "a", 100);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    answer = prewrite_one(KVRPCPB__OP__Put, "a", "v", large, 100);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    expect_get(large, 200, NULL);
    mem_free(large);
    REQUEST(GetRequest, future, GET_REQUEST);
    future.key = bytes_of("a");
    future.version = UINT64_MAX - 1;
    Kvrpcpb__GetResponse *got = CALL("KvGet", future, get_response);
    assert_non_null(strstr(got->region_error->message, "future"));
    FREE(got);
}

/* One phase commits at what the request names: nobody could write the key after that. */
static void test_commits_in_the_future(void **state)
{
    (void)state;
    const uint64_t late[] = {UINT64_MAX, UINT64_MAX - 1};
    for (unsigned i = 0; i < 6; i++) {
        REQUEST(PrewriteRequest, request, PREWRITE_REQUEST);
        Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
        Kvrpcpb__Mutation *mutations[] = {&mutation};
        mutation.key = bytes_of("a");
        request.n_mutations = 1;
        request.mutations = mutations;
        request.primary_lock = bytes_of("a");
        request.start_version = i < 2 ? late[i % 2] : TS(100);
        request.for_update_ts = i / 2 == 1 ? late[i % 2] : 0;
        request.min_commit_ts = i / 2 == 2 ? late[i % 2] : 0;
        request.try_one_pc = true;
        Kvrpcpb__PrewriteResponse *answer = CALL("KvPrewrite", request, prewrite_response);
        assert_non_null(answer->region_error);
        FREE(answer);
    }
    put("a", "1", 200);
    expect_get("a", 201, "1");
}

/* Takes the answer; it is refused. */
#define EXPECT_REFUSED(type, name, request, unpack) \
    do {                                            \
        type *answer = CALL(name, request, unpack); \
        assert_non_null(answer->region_error);      \
        FREE(answer);                               \
    } while (0)

/* A rollback is kept at the start of its transaction, and stands in the way of all older ones; a
 * lock of one that begins later ends later. */
static void test_starts_in_the_future(void **state)
{
    (void)state;
    const uint64_t late[] = {UINT64_MAX, UINT64_MAX - 1};
    ProtobufCBinaryData key = bytes_of("a");
    for (unsigned i = 0; i < 2; i++) {
        REQUEST(BatchRollbackRequest, rollback, BATCH_ROLLBACK_REQUEST);
        rollback.keys = &key;
        rollback.n_keys = 1;
        rollback.start_version = late[i];
        EXPECT_REFUSED(Kvrpcpb__BatchRollbackResponse, "KvBatchRollback", rollback,
                       batch_rollback_response);
        REQUEST(CleanupRequest, cleanup, CLEANUP_REQUEST);
        cleanup.key = key;
        cleanup.start_version = late[i];
        EXPECT_REFUSED(Kvrpcpb__CleanupResponse, "KvCleanup", cleanup, cleanup_response);
        REQUEST(ResolveLockRequest, resolve, RESOLVE_LOCK_REQUEST);
        resolve.keys = &key;
        resolve.n_keys = 1;
        resolve.start_version = late[i];
        EXPECT_REFUSED(Kvrpcpb__ResolveLockResponse, "KvResolveLock", resolve,
                       resolve_lock_response);
        REQUEST(CheckTxnStatusRequest, status, CHECK_TXN_STATUS_REQUEST);
        status.primary_key = key;
        status.lock_ts = late[i];
        status.rollback_if_not_exist = true;
        EXPECT_REFUSED(Kvrpcpb__CheckTxnStatusResponse, "KvCheckTxnStatus", status,
                       check_txn_status_response);
        REQUEST(CheckSecondaryLocksRequest, secondaries, CHECK_SECONDARY_LOCKS_REQUEST);
        secondaries.keys = &key;
        secondaries.n_keys = 1;
        secondaries.start_version = late[i];
        EXPECT_REFUSED(Kvrpcpb__CheckSecondaryLocksResponse, "KvCheckSecondaryLocks", secondaries,
                       check_secondary_locks_response);
        REQUEST(PessimisticLockRequest, lock, PESSIMISTIC_LOCK_REQUEST);
        Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
        Kvrpcpb__Mutation *mutations[] = {&mutation};
        mutation.op = KVRPCPB__OP__PessimisticLock;
        mutation.key = key;
        lock.mutations = mutations;
        lock.n_mutations = 1;
        lock.primary_lock = key;
        lock.start_version = late[i];
        lock.for_update_ts = TS(100);
        lock.lock_ttl = 1;
        EXPECT_REFUSED(Kvrpcpb__PessimisticLockResponse, "KvPessimisticLock", lock,
                       pessimistic_lock_response);
    }
    put("a", "1", 200);
    expect_get("a", 201, "1");
}

static void test_bytes_that_are_no_request(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct rand rand = rand_seed(seed);
        uint8_t bytes[64];
        size_t size = rand_below(&rand, sizeof bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(rand_below(&rand, 3) == 0 ? rand_u64(&rand) : 0x0a);
        const struct rpc_method *method = &tikv_methods[rand_below(&rand, tikv_methods_count - 1)];
        const char *name = strrchr(method->path, '/') + 1;
        int code = peer_call_bytes(peer, name, slice_make(bytes, size));
        if (code != GRPC_OK && code != GRPC_INTERNAL && code != GRPC_UNIMPLEMENTED)
            fail_msg("seed %llu: %s: status %d", (unsigned long long)seed, name, code);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, txn_set_up, txn_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_commit_and_get),
        TEST(test_a_lock_in_the_way),
        TEST(test_scans),
        TEST(test_errors_of_prewrite),
        TEST(test_assertions),
        TEST(test_async_and_one_phase),
        TEST(test_regions_are_cut_in_encoded_keys),
        TEST(test_key_modes),
        TEST(test_ranges_that_go),
        TEST(test_versions_of_a_key),
        TEST(test_old_versions_are_removed),
        TEST(test_locks_keep_their_commits),
        TEST(test_what_is_only_answered),
        TEST(test_lock_observer),
        TEST(test_limits),
        TEST(test_commits_in_the_future),
        TEST(test_starts_in_the_future),
        TEST(test_bytes_that_are_no_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
