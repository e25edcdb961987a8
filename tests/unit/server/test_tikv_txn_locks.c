/* The TiKV service's transactional commands over a socket: what became of transactions, pessimistic
 * locks, waits in a stream. */
#include "unit/server/txn_calls.h"

#include "test.h"
#include "times.h"

/* --- what became of a transaction --------------------------------------------------------------
 */

static Kvrpcpb__CheckTxnStatusResponse *check_status(const char *primary, uint64_t start_ms,
                                                     uint64_t current_ms, bool rollback)
{
    REQUEST(CheckTxnStatusRequest, request, CHECK_TXN_STATUS_REQUEST);
    request.primary_key = bytes_of(primary);
    request.lock_ts = TS(start_ms);
    request.caller_start_ts = TS(current_ms);
    request.current_ts = TS(current_ms);
    request.rollback_if_not_exist = rollback;
    return CALL("KvCheckTxnStatus", request, check_txn_status_response);
}

static void test_status(void **state)
{
    (void)state;
    prewrite("a", "1", "a", 100);
    Kvrpcpb__CheckTxnStatusResponse *answer = check_status("a", 100, 200, true);
    assert_int_equal(answer->lock_ttl, TTL_MS);
    assert_int_equal(answer->commit_version, 0);
    assert_non_null(answer->lock_info);
    assert_bytes(answer->lock_info->primary_lock, "a");
    FREE(answer);
    answer = check_status("a", 100, 100 + TTL_MS + 1, true);
    assert_int_equal(answer->action, KVRPCPB__ACTION__TTLExpireRollback);
    assert_int_equal(answer->lock_ttl, 0);
    assert_null(answer->lock_info);
    FREE(answer);
    answer = check_status("a", 100, 200, true);
    assert_int_equal(answer->action, KVRPCPB__ACTION__NoAction);
    assert_int_equal(answer->lock_ttl, 0);
    assert_int_equal(answer->commit_version, 0);
    assert_null(answer->lock_info);
    FREE(answer);
    put("b", "1", 300);
    answer = check_status("b", 300, 400, true);
    assert_int_equal(answer->commit_version, TS(301));
    assert_int_equal(answer->lock_ttl, 0);
    assert_null(answer->lock_info);
    FREE(answer);
    answer = check_status("c", 300, 400, false);
    assert_int_equal(answer->error->txn_not_found->start_ts, TS(300));
    assert_bytes(answer->error->txn_not_found->primary_key, "c");
    FREE(answer);
    answer = check_status("c", 300, 400, true);
    assert_int_equal(answer->action, KVRPCPB__ACTION__LockNotExistRollback);
    FREE(answer);
    Kvrpcpb__PrewriteResponse *late = prewrite_one(KVRPCPB__OP__Put, "c", "1", "c", 300);
    assert_int_equal(late->errors[0]->conflict->reason,
                     KVRPCPB__WRITE_CONFLICT__REASON__SelfRolledBack);
    FREE(late);
}

static void test_a_status_of_another_primary(void **state)
{
    (void)state;
    prewrite("b", "1", "a", 100);
    REQUEST(CheckTxnStatusRequest, request, CHECK_TXN_STATUS_REQUEST);
    request.primary_key = bytes_of("b");
    request.lock_ts = TS(100);
    request.current_ts = TS(200);
    request.verify_is_primary = true;
    Kvrpcpb__CheckTxnStatusResponse *answer =
        CALL("KvCheckTxnStatus", request, check_txn_status_response);
    assert_bytes(answer->error->primary_mismatch->lock_info->primary_lock, "a");
    FREE(answer);
    prewrite("c", "1", "c", 300);
    REQUEST(CheckTxnStatusRequest, push, CHECK_TXN_STATUS_REQUEST);
    push.primary_key = bytes_of("c");
    push.lock_ts = TS(300);
    push.caller_start_ts = TS(400);
    push.current_ts = TS(400);
    answer = CALL("KvCheckTxnStatus", push, check_txn_status_response);
    assert_non_null(answer->lock_info);
    FREE(answer);
    REQUEST(TxnHeartBeatRequest, beat, TXN_HEART_BEAT_REQUEST);
    beat.primary_lock = bytes_of("c");
    beat.start_version = TS(300);
    beat.advise_lock_ttl = 9000;
    Kvrpcpb__TxnHeartBeatResponse *beaten = CALL("KvTxnHeartBeat", beat, txn_heart_beat_response);
    assert_int_equal(beaten->lock_ttl, 9000);
    FREE(beaten);
    beat.start_version = TS(301);
    beaten = CALL("KvTxnHeartBeat", beat, txn_heart_beat_response);
    assert_non_null(beaten->error->txn_not_found);
    FREE(beaten);
}

static void test_rollbacks(void **state)
{
    (void)state;
    ProtobufCBinaryData keys[] = {bytes_of("a"), bytes_of("b")};
    prewrite("a", "1", "a", 100);
    REQUEST(BatchRollbackRequest, rollback, BATCH_ROLLBACK_REQUEST);
    rollback.start_version = TS(100);
    rollback.n_keys = 2;
    rollback.keys = keys;
    Kvrpcpb__BatchRollbackResponse *rolled =
        CALL("KvBatchRollback", rollback, batch_rollback_response);
    assert_null(rolled->error);
    FREE(rolled);
    expect_get("a", 200, NULL);
    put("b", "1", 300);
    rollback.start_version = TS(300);
    rolled = CALL("KvBatchRollback", rollback, batch_rollback_response);
    assert_non_null(rolled->error->abort);
    FREE(rolled);

    REQUEST(CleanupRequest, cleanup, CLEANUP_REQUEST);
    cleanup.key = bytes_of("b");
    cleanup.start_version = TS(300);
    Kvrpcpb__CleanupResponse *cleaned = CALL("KvCleanup", cleanup, cleanup_response);
    assert_int_equal(cleaned->commit_version, TS(301));
    FREE(cleaned);
    prewrite("c", "1", "c", 400);
    cleanup.key = bytes_of("c");
    cleanup.start_version = TS(400);
    cleanup.current_ts = TS(500);
    cleaned = CALL("KvCleanup", cleanup, cleanup_response);
    assert_non_null(cleaned->error->locked);
    FREE(cleaned);
}

static void resolve(uint64_t start_ms, uint64_t commit_ms, const char *key)
{
    REQUEST(ResolveLockRequest, request, RESOLVE_LOCK_REQUEST);
    ProtobufCBinaryData keys[] = {bytes_of(key)};
    request.start_version = TS(start_ms);
    request.commit_version = TS(commit_ms);
    request.n_keys = key[0] != '\0';
    request.keys = keys;
    Kvrpcpb__ResolveLockResponse *answer = CALL("KvResolveLock", request, resolve_lock_response);
    assert_null(answer->error);
    FREE(answer);
}

static void test_locks_are_resolved(void **state)
{
    (void)state;
    prewrite("a", "1", "a", 100);
    prewrite("b", "1", "a", 100);
    prewrite("c", "1", "a", 100);
    prewrite("d", "2", "d", 200);
    prewrite("e", "3", "e", 300);
    expect_locks(99, "");
    expect_locks(100, "abc");
    expect_locks(900, "abcde");
    resolve(100, 150, "b"); /* one key */
    expect_locks(900, "acde");
    resolve(100, 150, ""); /* the region */
    expect_locks(900, "de");
    expect_get("c", 150, "1");
    REQUEST(ResolveLockRequest, many, RESOLVE_LOCK_REQUEST);
    Kvrpcpb__TxnInfo committed = KVRPCPB__TXN_INFO__INIT, rolled_back = KVRPCPB__TXN_INFO__INIT;
    Kvrpcpb__TxnInfo *infos[] = {&committed, &rolled_back};
    committed.txn = TS(200);
    committed.status = TS(250);
    rolled_back.txn = TS(300);
    many.n_txn_infos = 2;
    many.txn_infos = infos;
    Kvrpcpb__ResolveLockResponse *answer = CALL("KvResolveLock", many, resolve_lock_response);
    assert_null(answer->error);
    FREE(answer);
    expect_locks(900, "");
    expect_get("d", 400, "2");
    expect_get("e", 400, NULL);
}

static void test_secondaries(void **state)
{
    (void)state;
    ProtobufCBinaryData keys[] = {bytes_of("b"), bytes_of("c")};
    prewrite("b", "1", "a", 100);
    prewrite("c", "1", "a", 100);
    REQUEST(CheckSecondaryLocksRequest, request, CHECK_SECONDARY_LOCKS_REQUEST);
    request.start_version = TS(100);
    request.n_keys = 2;
    request.keys = keys;
    Kvrpcpb__CheckSecondaryLocksResponse *answer =
        CALL("KvCheckSecondaryLocks", request, check_secondary_locks_response);
    assert_int_equal(answer->n_locks, 2);
    assert_int_equal(answer->commit_ts, 0);
    FREE(answer);
    Kvrpcpb__CommitResponse *committed = commit_one("b", 100, 150);
    FREE(committed);
    answer = CALL("KvCheckSecondaryLocks", request, check_secondary_locks_response);
    assert_int_equal(answer->commit_ts, TS(150));
    FREE(answer);
    request.start_version = TS(170);
    answer = CALL("KvCheckSecondaryLocks", request, check_secondary_locks_response);
    assert_int_equal(answer->commit_ts, 0);
    assert_int_equal(answer->n_locks, 0);
    FREE(answer);
}

/* --- pessimistic locks -------------------------------------------------------------------------
 */

struct lock_request {
    Kvrpcpb__PessimisticLockRequest request;
    Kvrpcpb__Mutation mutations[2];
    Kvrpcpb__Mutation *pointers[2];
    Kvrpcpb__Context context;
};

static void lock_fill(struct lock_request *lock, const char *one, const char *two,
                      uint64_t start_ms)
{
    kvrpcpb__pessimistic_lock_request__init(&lock->request);
    for (size_t i = 0; i < 2; i++) {
        kvrpcpb__mutation__init(&lock->mutations[i]);
        lock->mutations[i].op = KVRPCPB__OP__PessimisticLock;
        lock->pointers[i] = &lock->mutations[i];
    }
    lock->mutations[0].key = bytes_of(one);
    lock->mutations[1].key = bytes_of(two != NULL ? two : "");
    lock->request.context = &at.context;
    lock->request.mutations = lock->pointers;
    lock->request.n_mutations = two != NULL ? 2 : 1;
    lock->request.primary_lock = bytes_of(one);
    lock->request.start_version = TS(start_ms);
    lock->request.for_update_ts = TS(start_ms);
    lock->request.lock_ttl = TTL_MS;
    lock->request.wait_timeout = -1;
}

/* By it people tell who waits, and for what. */
static void lock_tag(struct lock_request *lock, const char *tag)
{
    lock->context = at.context;
    lock->context.resource_group_tag = bytes_of(tag);
    lock->request.context = &lock->context;
}

static Kvrpcpb__PessimisticLockResponse *lock_call(const struct lock_request *lock)
{
    return CALL("KvPessimisticLock", lock->request, pessimistic_lock_response);
}

static void test_shapes_of_lock_answers(void **state)
{
    (void)state;
    struct lock_request lock;
    put("a", "1", 100);
    lock_fill(&lock, "a", "missing", 200);
    Kvrpcpb__PessimisticLockResponse *answer = lock_call(&lock);
    assert_int_equal(answer->n_errors + answer->n_values + answer->n_not_founds + answer->n_results,
                     0);
    FREE(answer);
    lock.request.check_existence = true;
    answer = lock_call(&lock);
    assert_int_equal(answer->n_values, 0);
    assert_int_equal(answer->n_not_founds, 2);
    assert_false(answer->not_founds[0]);
    assert_true(answer->not_founds[1]);
    FREE(answer);
    lock.request.return_values = true;
    answer = lock_call(&lock);
    assert_int_equal(answer->n_values, 2);
    assert_int_equal(answer->n_not_founds, 2);
    assert_int_equal(answer->n_results, 0);
    assert_bytes(answer->values[0], "1");
    assert_bytes(answer->values[1], "");
    assert_true(answer->not_founds[1]);
    FREE(answer);

    lock_fill(&lock, "a", NULL, 300);
    answer = lock_call(&lock);
    assert_int_equal(answer->n_errors, 1);
    assert_int_equal(answer->errors[0]->locked->lock_version, TS(200));
    assert_int_equal(answer->errors[0]->locked->lock_type, KVRPCPB__OP__PessimisticLock);
    FREE(answer);
    lock.mutations[0].op = KVRPCPB__OP__SharedPessimisticLock;
    answer = lock_call(&lock);
    assert_int_equal(answer->errors[0]->locked->lock_version, TS(200));
    FREE(answer);
    lock.mutations[0].op = KVRPCPB__OP__SharedLock; /* that is for the prewrite */
    answer = lock_call(&lock);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);

    REQUEST(PessimisticRollbackRequest, rollback, PESSIMISTIC_ROLLBACK_REQUEST);
    rollback.start_version = rollback.for_update_ts = TS(200);
    Kvrpcpb__PessimisticRollbackResponse *rolled =
        CALL("KVPessimisticRollback", rollback, pessimistic_rollback_response);
    assert_int_equal(rolled->n_errors, 0);
    FREE(rolled);
    expect_locks(900, "");
}

/* One LockInfo with those of all holders. */
static void expect_holders(const Kvrpcpb__LockInfo *lock, size_t count, Kvrpcpb__Op of_first)
{
    assert_non_null(lock);
    assert_int_equal(lock->lock_type, KVRPCPB__OP__SharedLock);
    assert_bytes(lock->key, "k");
    assert_int_equal(lock->lock_version, 0);
    assert_int_equal(lock->n_shared_lock_infos, count);
    for (size_t i = 0; i < count; i++) {
        ProtobufCBinaryData bytes = lock->shared_lock_infos[i];
        Kvrpcpb__LockInfo *holder = kvrpcpb__lock_info__unpack(NULL, bytes.len, bytes.data);
        assert_non_null(holder);
        assert_bytes(holder->key, "k");
        assert_bytes(holder->primary_lock, "k");
        assert_int_equal(holder->lock_version, TS(200 + i * 10));
        assert_int_equal(holder->lock_ttl, TTL_MS);
        assert_int_equal(holder->lock_type, i == 0 ? of_first : KVRPCPB__OP__PessimisticLock);
        assert_int_equal(holder->n_shared_lock_infos, 0);
        FREE(holder);
    }
}

static Kvrpcpb__PrewriteResponse *prewrite_shared(const char *key, uint64_t start_ms)
{
    REQUEST(PrewriteRequest, request, PREWRITE_REQUEST);
    Kvrpcpb__Mutation mutation = KVRPCPB__MUTATION__INIT;
    Kvrpcpb__Mutation *mutations[] = {&mutation};
    Kvrpcpb__PrewriteRequest__PessimisticAction action =
        KVRPCPB__PREWRITE_REQUEST__PESSIMISTIC_ACTION__DO_PESSIMISTIC_CHECK;
    mutation.op = KVRPCPB__OP__SharedLock;
    mutation.key = bytes_of(key);
    request.mutations = mutations;
    request.n_mutations = 1;
    request.pessimistic_actions = &action;
    request.n_pessimistic_actions = 1;
    request.primary_lock = bytes_of(key);
    request.start_version = request.for_update_ts = TS(start_ms);
    request.lock_ttl = TTL_MS;
    return CALL("KvPrewrite", request, prewrite_response);
}

static void test_shared_locks(void **state)
{
    (void)state;
    struct lock_request lock;
    put("k", "1", 100);
    for (uint64_t ms = 200; ms <= 220; ms += 10) {
        lock_fill(&lock, "k", NULL, ms);
        lock.mutations[0].op = KVRPCPB__OP__SharedPessimisticLock;
        Kvrpcpb__PessimisticLockResponse *answer = lock_call(&lock);
        assert_int_equal(answer->n_errors, 0);
        FREE(answer);
    }
    expect_get("k", 900, "1");
    expect_locks(900, "k");
    lock_fill(&lock, "k", NULL, 300);
    Kvrpcpb__PessimisticLockResponse *refused = lock_call(&lock);
    assert_int_equal(refused->n_errors, 1);
    expect_holders(refused->errors[0]->locked, 3, KVRPCPB__OP__PessimisticLock);
    FREE(refused);
    lock_fill(&lock, "k", "l", 300);
    lock.mutations[0].op = KVRPCPB__OP__SharedPessimisticLock;
    refused = lock_call(&lock); /* is neither */
    assert_non_null(refused->errors[0]->abort);
    FREE(refused);
    Kvrpcpb__PrewriteResponse *written = prewrite_shared("k", 200);
    assert_int_equal(written->n_errors, 0);
    FREE(written);
    written = prewrite_one(KVRPCPB__OP__Put, "k", "2", "k", 400);
    assert_int_equal(written->n_errors, 1);
    expect_holders(written->errors[0]->locked, 3, KVRPCPB__OP__Lock);
    FREE(written);
    REQUEST(ScanLockRequest, scan, SCAN_LOCK_REQUEST);
    scan.max_version = TS(210);
    Kvrpcpb__ScanLockResponse *locks = CALL("KvScanLock", scan, scan_lock_response);
    assert_int_equal(locks->n_locks, 1);
    expect_holders(locks->locks[0], 2, KVRPCPB__OP__Lock);
    FREE(locks);
    Kvrpcpb__CommitResponse *committed = commit_one("k", 200, 500);
    assert_null(committed->error);
    FREE(committed);
    expect_locks(209, "");
    expect_locks(219, "k");
    expect_get("k", 900, "1");
}

static void test_lock_only_if_exists(void **state)
{
    (void)state;
    struct lock_request lock;
    put("a", "1", 100);
    lock_fill(&lock, "a", "missing", 200);
    lock.request.lock_only_if_exists = true;
    Kvrpcpb__PessimisticLockResponse *answer = lock_call(&lock);
    assert_non_null(answer->errors[0]->abort); /* without values it could not be told */
    FREE(answer);
    lock.request.return_values = true;
    answer = lock_call(&lock);
    assert_int_equal(answer->n_errors, 0);
    assert_true(!answer->not_founds[0] && answer->not_founds[1]);
    FREE(answer);
    expect_locks(900, "a");
}

/* What a pessimistic transaction asks to be checked of each key, and of its lock. */
static void test_actions_of_prewrite(void **state)
{
    (void)state;
    struct lock_request lock;
    put("late", "1", 500);
    lock_fill(&lock, "a", NULL, 200);
    Kvrpcpb__PessimisticLockResponse *locked = lock_call(&lock);
    assert_int_equal(locked->n_errors, 0);
    FREE(locked);
    REQUEST(PrewriteRequest, request, PREWRITE_REQUEST);
    Kvrpcpb__Mutation mutations[2] = {KVRPCPB__MUTATION__INIT, KVRPCPB__MUTATION__INIT};
    Kvrpcpb__Mutation *pointers[] = {&mutations[0], &mutations[1]};
    Kvrpcpb__PrewriteRequest__PessimisticAction actions[] = {
        KVRPCPB__PREWRITE_REQUEST__PESSIMISTIC_ACTION__DO_PESSIMISTIC_CHECK,
        KVRPCPB__PREWRITE_REQUEST__PESSIMISTIC_ACTION__DO_CONSTRAINT_CHECK};
    Kvrpcpb__PrewriteRequest__ForUpdateTSConstraint constraint =
        KVRPCPB__PREWRITE_REQUEST__FOR_UPDATE_TSCONSTRAINT__INIT;
    Kvrpcpb__PrewriteRequest__ForUpdateTSConstraint *constraints[] = {&constraint};
    mutations[0].key = bytes_of("a");
    mutations[1].key = bytes_of("late");
    request.n_mutations = 2;
    request.mutations = pointers;
    request.n_pessimistic_actions = 2;
    request.pessimistic_actions = actions;
    request.primary_lock = bytes_of("a");
    request.start_version = TS(200);
    request.for_update_ts = TS(600);
    request.lock_ttl = TTL_MS;
    Kvrpcpb__PrewriteResponse *answer = CALL("KvPrewrite", request, prewrite_response);
    assert_int_equal(answer->errors[0]->conflict->reason,
                     KVRPCPB__WRITE_CONFLICT__REASON__LazyUniquenessCheck);
    FREE(answer);
    actions[1] = KVRPCPB__PREWRITE_REQUEST__PESSIMISTIC_ACTION__SKIP_PESSIMISTIC_CHECK;
    request.n_for_update_ts_constraints = 1;
    request.for_update_ts_constraints = constraints;
    constraint.index = 0;
    constraint.expected_for_update_ts = TS(201); /* it was locked as of 200 */
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    constraint.index = 2;
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_non_null(answer->errors[0]->abort);
    FREE(answer);
    constraint.index = 0;
    constraint.expected_for_update_ts = TS(200);
    answer = CALL("KvPrewrite", request, prewrite_response);
    assert_int_equal(answer->n_errors, 0);
    FREE(answer);
    Kvrpcpb__GetResponse *got = get_at("a", 700);
    assert_int_equal(got->error->locked->lock_type, KVRPCPB__OP__Put);
    assert_int_equal(got->error->locked->lock_for_update_ts, TS(600));
    FREE(got);
}

static void test_a_lock_with_conflict(void **state)
{
    (void)state;
    struct lock_request lock;
    put("a", "new", 300);
    lock_fill(&lock, "a", NULL, 200);
    Kvrpcpb__PessimisticLockResponse *answer = lock_call(&lock);
    assert_int_equal(answer->errors[0]->conflict->reason,
                     KVRPCPB__WRITE_CONFLICT__REASON__PessimisticRetry);
    assert_int_equal(answer->errors[0]->conflict->conflict_commit_ts, TS(301));
    FREE(answer);
    lock.request.wake_up_mode = KVRPCPB__PESSIMISTIC_LOCK_WAKE_UP_MODE__WakeUpModeForceLock;
    answer = lock_call(&lock);
    assert_int_equal(answer->n_errors, 0);
    assert_int_equal(answer->n_results, 1);
    assert_int_equal(answer->results[0]->type,
                     KVRPCPB__PESSIMISTIC_LOCK_KEY_RESULT_TYPE__LockResultLockedWithConflict);
    assert_int_equal(answer->results[0]->locked_with_conflict_ts, TS(301));
    assert_true(answer->results[0]->existence);
    assert_bytes(answer->results[0]->value, "new");
    FREE(answer);
}

static void send_lock(struct lock_request *lock, uint64_t id)
{
    Tikvpb__BatchCommandsRequest batch = TIKVPB__BATCH_COMMANDS_REQUEST__INIT;
    Tikvpb__BatchCommandsRequest__Request one = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__INIT;
    Tikvpb__BatchCommandsRequest__Request *requests[] = {&one};
    one.cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_PESSIMISTIC_LOCK;
    one.pessimistic_lock = &lock->request;
    batch.n_requests = batch.n_request_ids = 1;
    batch.requests = requests;
    batch.request_ids = &id;
    peer_send(peer, &batch);
}

/* The next answer of the stream, which has to be this one's. */
static Tikvpb__BatchCommandsResponse *expect_answer(uint64_t id)
{
    Tikvpb__BatchCommandsResponse *answers = peer_receive(peer);
    assert_non_null(answers);
    assert_int_equal(answers->n_request_ids, 1);
    assert_int_equal(answers->request_ids[0], id);
    return answers;
}

static void test_a_wait_blocks_no_other(void **state)
{
    (void)state;
    struct lock_request holder, waiter, circle;
    lock_fill(&holder, "a", NULL, 100);
    FREE(lock_call(&holder));
    lock_fill(&waiter, "b", NULL, 200);
    FREE(lock_call(&waiter));
    peer_stream(peer);
    lock_fill(&waiter, "a", NULL, 200);
    waiter.request.wait_timeout = PATIENT_MS;
    waiter.request.for_update_ts = TS(500);
    lock_tag(&waiter, "waits");
    send_lock(&waiter, 1); /* waits for the holder */
    lock_fill(&circle, "b", NULL, 100);
    circle.request.wait_timeout = PATIENT_MS;
    circle.request.for_update_ts = TS(500);
    lock_tag(&circle, "closes");
    send_lock(&circle, 2); /* would close the circle */
    Tikvpb__BatchCommandsResponse *answers = expect_answer(2);
    const Kvrpcpb__PessimisticLockResponse *answer = answers->responses[0]->pessimistic_lock;
    const Kvrpcpb__Deadlock *deadlock = answer->errors[0]->deadlock;
    assert_non_null(deadlock);
    assert_int_equal(deadlock->lock_ts, TS(200));
    assert_bytes(deadlock->lock_key, "b");
    assert_int_equal(deadlock->n_wait_chain, 2);
    assert_bytes(deadlock->wait_chain[0]->resource_group_tag, "waits");
    assert_bytes(deadlock->wait_chain[1]->resource_group_tag, "closes");
    tikvpb__batch_commands_response__free_unpacked(answers, NULL);

    Tikvpb__BatchCommandsRequest batch = TIKVPB__BATCH_COMMANDS_REQUEST__INIT;
    Tikvpb__BatchCommandsRequest__Request one = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__INIT;
    Tikvpb__BatchCommandsRequest__Request *requests[] = {&one};
    REQUEST(PessimisticRollbackRequest, rollback, PESSIMISTIC_ROLLBACK_REQUEST);
    uint64_t id = 3;
    rollback.start_version = rollback.for_update_ts = TS(100);
    one.cmd_case = TIKVPB__BATCH_COMMANDS_REQUEST__REQUEST__CMD_PESSIMISTIC_ROLLBACK;
    one.pessimistic_rollback = &rollback;
    batch.n_requests = batch.n_request_ids = 1;
    batch.requests = requests;
    batch.request_ids = &id;
    peer_send(peer, &batch);
    bool seen[4] = {false};
    for (int left = 2; left > 0; left--) { /* in one message or in two */
        answers = peer_receive(peer);
        assert_non_null(answers);
        left -= (int)answers->n_request_ids - 1;
        for (size_t i = 0; i < answers->n_request_ids; i++) {
            seen[answers->request_ids[i]] = true;
            if (answers->request_ids[i] == 1)
                assert_int_equal(answers->responses[i]->pessimistic_lock->n_errors, 0);
        }
        tikvpb__batch_commands_response__free_unpacked(answers, NULL);
    }
    assert_true(seen[1] && seen[3]);
    peer_half_close(peer);
    assert_null(peer_receive(peer));
}

/* The server stops while somebody waits. */
static void test_waits_end_with_the_server(void **state)
{
    (void)state;
    struct lock_request lock;
    lock_fill(&lock, "a", NULL, 100);
    FREE(lock_call(&lock));
    peer_stream(peer);
    lock_fill(&lock, "a", NULL, 200);
    lock.request.wait_timeout = PATIENT_MS;
    lock_tag(&lock, "waits");
    send_lock(&lock, 1);
    lock_fill(&lock, "b", NULL, 200);
    send_lock(&lock, 2);
    tikvpb__batch_commands_response__free_unpacked(expect_answer(2), NULL);
    struct tikv_peer *other = peer_connect(node);
    REQUEST(GetLockWaitInfoRequest, waits, GET_LOCK_WAIT_INFO_REQUEST);
    Kvrpcpb__GetLockWaitInfoResponse *waiting;
    assert_int_equal(peer_call(other, "GetLockWaitInfo", &waits,
                               &kvrpcpb__get_lock_wait_info_response__descriptor, &waiting),
                     GRPC_OK);
    assert_int_equal(waiting->n_entries, 1);
    assert_int_equal(waiting->entries[0]->txn, TS(200));
    assert_int_equal(waiting->entries[0]->wait_for_txn, TS(100));
    assert_bytes(waiting->entries[0]->key, "a");
    assert_bytes(waiting->entries[0]->resource_group_tag, "waits");
    FREE(waiting);
    peer_close(other);
    txn_node_cancel_waits(node->txn);
    Tikvpb__BatchCommandsResponse *answers = expect_answer(1);
    assert_non_null(answers->responses[0]->pessimistic_lock->region_error->server_is_busy);
    tikvpb__batch_commands_response__free_unpacked(answers, NULL);
    peer_half_close(peer);
    assert_null(peer_receive(peer));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, txn_set_up, txn_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_status),
        TEST(test_a_status_of_another_primary),
        TEST(test_rollbacks),
        TEST(test_locks_are_resolved),
        TEST(test_secondaries),
        TEST(test_shapes_of_lock_answers),
        TEST(test_shared_locks),
        TEST(test_lock_only_if_exists),
        TEST(test_actions_of_prewrite),
        TEST(test_a_lock_with_conflict),
        TEST(test_a_wait_blocks_no_other),
        TEST(test_waits_end_with_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
