/* Pessimistic locks: what they ask, how they wait, and circles of waiting. */
#include "unit/txn/txn_fixture.h"

#include "base/clock.h"

#include <kvs/error.h>
#include <sched.h>

#include "test.h"

static struct txn_mutation lock_of(kvs_slice key)
{
    return (struct txn_mutation){.op = TXN_OP_PESSIMISTIC_LOCK, .key = key};
}

static int pessimistic_rollback(struct txn_fixture *f, kvs_slice key, uint64_t start_ts,
                                uint64_t for_update_ts)
{
    struct txn_pessimistic_rollback rollback;
    txn_command_init(&rollback.base, TXN_PESSIMISTIC_ROLLBACK);
    rollback.keys = &key;
    rollback.keys_count = 1;
    rollback.start_ts = start_ts;
    rollback.for_update_ts = for_update_ts;
    int error = txn_run(f, &rollback.base);
    txn_command_deinit(&rollback.base);
    return error;
}

/* A prewrite of one key of a pessimistic transaction: the kind of its error. */
static int prewrite(struct txn_fixture *f, const struct txn_mutation *mutation, uint64_t start_ts,
                    uint64_t for_update_ts, bool is_retry)
{
    struct txn_prewrite command;
    txn_make_prewrite(&command, mutation, 1, mutation->key, start_ts);
    command.for_update_ts = for_update_ts;
    command.is_retry = is_retry;
    int result = txn_run(f, &command.base);
    if (result == 0 && command.errors_count > 0)
        result = command.errors[0].kind;
    txn_command_deinit(&command.base);
    return result;
}

static void test_lock_and_commit(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("old"), 10, 20), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 30, 30), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 30, 35), 0); /* again, later */
    assert_string_equal(txn_see(f, S("k"), 100), "old");  /* in no reader's way */
    assert_int_equal(txn_lock_one(f, S("k"), 40, 40), TXN_ERROR_LOCKED);
    struct txn_mutation put = txn_put_of(S("k"), S("new"));
    assert_int_equal(txn_prewrite_one(f, &put, 40), TXN_ERROR_LOCKED);
    assert_int_equal(txn_prewrite_one(f, &put, 30), TXN_ERROR_ABORT); /* as an optimistic one */
    put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
    put.expected_for_update_ts = 30;
    assert_int_equal(prewrite(f, &put, 30, 35, false), TXN_ERROR_ABORT);
    put.expected_for_update_ts = 35;
    assert_int_equal(prewrite(f, &put, 30, 35, false), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 30, 50), TXN_ERROR_ABORT); /* prewritten already */
    struct txn_check_status check; /* the lock keeps the longer life of the two */
    txn_make_check(&check, S("k"), 30, 0, 0);
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.lock_ttl_ms, 20000);
    assert_int_equal(check.lock.for_update_ts, 35);
    txn_command_deinit(&check.base);
    assert_int_equal(txn_commit_one(f, S("k"), 30, 60), 0);
    assert_string_equal(txn_see(f, S("k"), 60), "new");
}

static void test_conflicts(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 40), 0);
    struct txn_mutation mutation = lock_of(S("k"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("p"), 20, 30);
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors_count, 1);
    assert_int_equal(lock.errors[0].kind, TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(lock.errors[0].reason, TXN_CONFLICT_PESSIMISTIC_RETRY);
    assert_int_equal(lock.errors[0].conflict_ts, 10);
    assert_int_equal(lock.errors[0].conflict_commit_ts, 40);
    assert_int_equal(lock.errors[0].start_ts, 20);
    assert_slice_equal(lock.errors[0].primary, "p");
    txn_command_deinit(&lock.base);
    assert_int_equal(txn_lock_one(f, S("k"), 20, 40), 0);
    assert_int_equal(pessimistic_rollback(f, S("k"), 20, 39), 0); /* of an earlier request: stays */
    assert_int_equal(txn_lock_one(f, S("k"), 50, 50), TXN_ERROR_LOCKED);
    assert_int_equal(pessimistic_rollback(f, S("k"), 20, 40), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 50, 50), 0);
    assert_int_equal(txn_rollback_one(f, S("k"), 50), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 50, 60), TXN_ERROR_ABORT); /* rolled back */
    mutation.assertion = TXN_ASSERT_NOT_EXIST;
    txn_make_lock(&lock, &mutation, 1, S("k"), 70, 70);
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors[0].kind, TXN_ERROR_ALREADY_EXISTS);
    txn_command_deinit(&lock.base);
}

/* All keys or none; values as asked for. */
static void test_results(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("a"), S("1"), 10, 20), 0);
    struct txn_mutation two[] = {lock_of(S("a")), lock_of(S("b"))};
    for (unsigned shape = 0; shape < 4; shape++) {
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, two, 2, S("a"), 30, 30);
        lock.return_values = (shape & 1) != 0;
        lock.check_existence = (shape & 2) != 0;
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors_count, 0);
        assert_null(lock.lock_results);
        assert_int_equal(lock.values != NULL, lock.return_values);
        assert_int_equal(lock.not_founds != NULL, shape != 0);
        if (lock.values != NULL) {
            assert_slice_equal(lock.values[0], "1");
            assert_slice_equal(lock.values[1], "");
        }
        if (lock.not_founds != NULL)
            assert_true(!lock.not_founds[0] && lock.not_founds[1]);
        txn_command_deinit(&lock.base);
    }
    struct txn_mutation more[] = {lock_of(S("c")), lock_of(S("b"))};
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, more, 2, S("c"), 40, 40);
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors[0].kind, TXN_ERROR_LOCKED);
    assert_slice_equal(lock.errors[0].lock.key, "b");
    assert_int_equal(lock.errors[0].lock.type, TXN_OP_PESSIMISTIC_LOCK);
    txn_command_deinit(&lock.base);
    txn_make_lock(&lock, two, 2, S("a"), 30, 31); /* the values have a bound of their own */
    two[1] = two[0];
    lock.return_values = true;
    lock.size_bytes_max = 1;
    assert_int_equal(txn_run(f, &lock.base), KVS_ERR_TOO_LARGE);
    txn_command_deinit(&lock.base);
    txn_make_lock(&lock, two, 2, S("a"), 30, 30);
    lock.return_values = true;
    lock.size_bytes_max = 2;
    assert_int_equal(txn_run(f, &lock.base), 0);
    txn_command_deinit(&lock.base);
    assert_int_equal(txn_lock_one(f, S("c"), 50, 50), 0);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_int_equal(stats.max_ts, 31);
}

/* A transaction whose first lock failed, as it thinks, chooses another primary. What is left of the
 * first names the one that is kept alive, from its next lock on. */
static void test_other_primary(struct txn_fixture *f)
{
    struct txn_mutation mutation = lock_of(S("a"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("a"), 20, 20);
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors_count, 0);
    txn_command_deinit(&lock.base);
    for (uint64_t for_update_ts = 20; for_update_ts <= 30; for_update_ts += 10) {
        txn_make_lock(&lock, &mutation, 1, S("b"), 20, for_update_ts);
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors_count, 0);
        txn_command_deinit(&lock.base);
        txn_make_lock(&lock, &mutation, 1, S("a"), 40, 40);
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors[0].kind, TXN_ERROR_LOCKED);
        /* one with an old timestamp came late, and changes nothing */
        kvs_slice primary = for_update_ts == 20 ? S("a") : S("b");
        assert_true(slice_equal(lock.errors[0].lock.primary, primary));
        txn_command_deinit(&lock.base);
    }
}

/* A lock that names another primary says nothing of the transaction. It goes when that is decided
 * without it, and not before: the transaction may be about to prewrite. */
static void test_lock_of_another_primary(struct txn_fixture *f)
{
    struct txn_mutation mutation = lock_of(S("a"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("b"), 20, 20);
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors_count, 0);
    txn_command_deinit(&lock.base);
    for (unsigned decides = 0; decides < 2; decides++) {
        struct txn_check_status check;
        txn_make_check(&check, S("a"), 20, 40, 40);
        check.verify_is_primary = true;
        check.rollback_if_not_exist = decides;
        assert_int_equal(txn_run(f, &check.base), 0);
        assert_int_equal(check.error.kind, decides ? 0 : TXN_ERROR_TXN_NOT_FOUND);
        assert_int_equal(check.action,
                         decides ? TXN_ACTION_LOCK_NOT_EXIST_ROLLBACK : TXN_ACTION_NONE);
        txn_command_deinit(&check.base);
        assert_int_equal(txn_lock_one(f, S("a"), 40, 40), decides ? 0 : TXN_ERROR_LOCKED);
    }
}

static void test_lock_only_if_exists(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("a"), S("1"), 10, 20), 0);
    struct txn_mutation two[] = {lock_of(S("a")), lock_of(S("b"))};
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, two, 2, S("a"), 30, 30);
    lock.lock_only_if_exists = true;
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors[0].kind, TXN_ERROR_ABORT); /* it has to be told */
    txn_command_deinit(&lock.base);
    txn_make_lock(&lock, two, 2, S("a"), 30, 30);
    lock.lock_only_if_exists = true;
    lock.return_values = true;
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors_count, 0);
    assert_true(!lock.not_founds[0] && lock.not_founds[1]);
    txn_command_deinit(&lock.base);
    assert_int_equal(txn_lock_one(f, S("b"), 40, 40), 0);
    assert_int_equal(txn_lock_one(f, S("a"), 40, 40), TXN_ERROR_LOCKED);
}

/* Over a newer commit, in one try. */
static void test_force_lock(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 50), 0);
    struct txn_mutation mutation = lock_of(S("k"));
    for (unsigned again = 0; again < 2; again++) {
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, &mutation, 1, S("k"), 20, 30);
        lock.wake_mode = TXN_WAKE_FORCE_LOCK;
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors_count, 0);
        assert_int_equal(lock.lock_results[0].kind, TXN_LOCK_RESULT_LOCKED_WITH_CONFLICT);
        assert_int_equal(lock.lock_results[0].locked_with_conflict_ts, 50);
        assert_true(lock.lock_results[0].existence);
        assert_slice_equal(lock.lock_results[0].value, "v");
        txn_command_deinit(&lock.base);
    }
    struct txn_mutation put = txn_put_of(S("k"), S("w"));
    put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
    put.expected_for_update_ts = 50;
    assert_int_equal(prewrite(f, &put, 20, 50, false), 0);
    mutation = lock_of(S("other"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("other"), 20, 30);
    lock.wake_mode = TXN_WAKE_FORCE_LOCK;
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.lock_results[0].kind, TXN_LOCK_RESULT_NORMAL);
    txn_command_deinit(&lock.base);
    struct txn_mutation two[] = {lock_of(S("a")), lock_of(S("b"))};
    txn_make_lock(&lock, two, 2, S("a"), 20, 30);
    lock.wake_mode = TXN_WAKE_FORCE_LOCK;
    assert_int_equal(txn_run(f, &lock.base), KVS_ERR_INVALID_ARGUMENT);
    txn_command_deinit(&lock.base);
}

/* The kind of the error of a lock of a key that must not exist. */
static int lock_absent(struct txn_fixture *f, kvs_slice key, uint64_t start_ts,
                       uint64_t for_update_ts, enum txn_wake_mode mode)
{
    struct txn_mutation mutation = lock_of(key);
    struct txn_pessimistic_lock lock;
    mutation.assertion = TXN_ASSERT_NOT_EXIST;
    txn_make_lock(&lock, &mutation, 1, key, start_ts, for_update_ts);
    lock.wake_mode = (uint8_t)mode;
    int result = txn_run(f, &lock.base);
    if (result == 0 && lock.errors_count > 0)
        result = lock.errors[0].kind;
    txn_command_deinit(&lock.base);
    return result;
}

/* The lock may be held already; and a version that the client does not know of yet is no reason for
 * it to believe anything. */
static void test_absent_keys(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("there"), S("v"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("gone"), S("v"), 10, 20), 0);
    assert_int_equal(txn_delete(f, S("gone"), 21, 22), 0);
    assert_int_equal(lock_absent(f, S("there"), 30, 30, TXN_WAKE_NORMAL), TXN_ERROR_ALREADY_EXISTS);
    static const char *const keys[] = {"there", "gone", "never"};
    for (size_t i = 0; i < 3; i++) {
        kvs_slice key = slice_of_string(keys[i]);
        assert_int_equal(txn_lock_one(f, key, 30, 30), 0);
        int expected = i == 0 ? TXN_ERROR_ALREADY_EXISTS : 0;
        assert_int_equal(lock_absent(f, key, 30, 30, TXN_WAKE_NORMAL), expected);
        assert_int_equal(lock_absent(f, key, 30, 35, TXN_WAKE_FORCE_LOCK), expected);
        assert_int_equal(txn_lock_one(f, key, 40, 40), TXN_ERROR_LOCKED); /* it stays */
    }
    assert_int_equal(txn_put(f, S("new"), S("v"), 50, 60), 0);
    assert_int_equal(lock_absent(f, S("new"), 51, 55, TXN_WAKE_FORCE_LOCK),
                     TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(txn_lock_one(f, S("new"), 70, 70), 0); /* that left no lock */
    assert_int_equal(lock_absent(f, S("new"), 70, 55, TXN_WAKE_FORCE_LOCK),
                     TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(pessimistic_rollback(f, S("new"), 70, 70), 0);
    assert_int_equal(txn_delete(f, S("new"), 71, 80), 0);
    assert_int_equal(lock_absent(f, S("new"), 72, 75, TXN_WAKE_FORCE_LOCK), 0); /* over that */
}

/* There was a key, says the client; a newer commit has removed it. No lock is no success then. */
static void test_force_lock_only_if_exists(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    assert_int_equal(txn_delete(f, S("k"), 30, 50), 0);
    for (uint64_t for_update_ts = 40; for_update_ts <= 60; for_update_ts += 20) {
        struct txn_mutation mutation = lock_of(S("k"));
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, &mutation, 1, S("k"), 40, for_update_ts);
        lock.wake_mode = TXN_WAKE_FORCE_LOCK;
        lock.lock_only_if_exists = true;
        lock.return_values = true;
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors_count, for_update_ts == 40);
        if (for_update_ts == 40) {
            assert_int_equal(lock.errors[0].kind, TXN_ERROR_WRITE_CONFLICT);
            assert_int_equal(lock.errors[0].conflict_ts, 30);
            assert_int_equal(lock.errors[0].conflict_commit_ts, 50);
            assert_int_equal(lock.lock_results[0].kind, TXN_LOCK_RESULT_FAILED);
        } else {
            assert_int_equal(lock.lock_results[0].kind, TXN_LOCK_RESULT_NORMAL);
            assert_false(lock.lock_results[0].existence);
        }
        txn_command_deinit(&lock.base);
        assert_int_equal(txn_lock_one(f, S("k"), 70, 70), 0); /* nor was it locked */
        assert_int_equal(pessimistic_rollback(f, S("k"), 70, 70), 0);
    }
}

/* Requests that come after their transaction has committed, one to lock by force among them: others
 * have to learn of the commit, and what was committed stays. */
static void test_force_lock_after_commit(struct txn_fixture *f)
{
#define MS(n) ((uint64_t)(n) << TXN_TS_LOGICAL_BITS)
    static uint8_t bytes[300]; /* too long for the record of a version */
    kvs_slice value = slice_make(memset(bytes, 'v', sizeof bytes), sizeof bytes);
    for (unsigned at = 0; at < 12; at++) {
        const uint64_t start_ts = MS(1000 * (at + 1));
        const uint64_t commit_ts = start_ts + 20;
        assert_int_equal(txn_put(f, S("k"), value, start_ts, commit_ts), 0);
        struct txn_mutation mutation = lock_of(S("k"));
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, &mutation, 1, S("k"), start_ts, start_ts);
        lock.wake_mode = TXN_WAKE_FORCE_LOCK;
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors_count, 0);
        txn_command_deinit(&lock.base);
        struct txn_mutation put = txn_put_of(S("k"), value);
        put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
        if (at % 4 >= 2)
            assert_int_equal(prewrite(f, &put, start_ts, start_ts, false), 0);
        if (at >= 8)
            assert_int_equal(txn_rollback_one(f, S("k"), start_ts), TXN_ERROR_ABORT);
        for (unsigned again = 0; again < 2; again++) {
            struct txn_check_status check;
            uint64_t now = at % 2 == 0 ? start_ts + 50 : start_ts + MS(1000000);
            txn_make_check(&check, S("k"), start_ts, now, now);
            check.rollback_if_not_exist = true;
            check.resolving_pessimistic_lock = at / 4 == 1;
            assert_int_equal(txn_run(f, &check.base), 0);
            assert_int_equal(check.error.kind, 0);
            assert_int_equal(check.action, TXN_ACTION_NONE);
            assert_int_equal(check.lock_ttl_ms, 0);
            assert_true(check.commit_ts == commit_ts);
            txn_command_deinit(&check.base);
        }
        assert_int_equal(strlen(txn_see(f, S("k"), commit_ts)), sizeof bytes);
    }
#undef MS
}

static void actions_prepare(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("new"), S("v"), 40, 45), 0);
    assert_int_equal(txn_rollback_one(f, S("rolled"), 42), 0);
}

/* What a prewrite checks of keys that should be locked, need not be, or are checked late. */
static void test_prewrite_actions(struct txn_fixture *f)
{
    actions_prepare(f);
    static const struct {
        const char *key;
        uint8_t action;
        uint64_t start_ts, for_update_ts;
        bool is_retry;
        int result;
    } rows[] = {
        {"k", TXN_DO_PESSIMISTIC_CHECK, 30, 35, false, 0}, /* lost, but nobody wrote since */
        {"new", TXN_DO_PESSIMISTIC_CHECK, 30, 50, false, TXN_ERROR_ABORT},
        {"new", TXN_SKIP_PESSIMISTIC_CHECK, 30, 35, false, 0},
        {"new", TXN_SKIP_PESSIMISTIC_CHECK, 30, 35, true, TXN_ERROR_ABORT},
        {"new", TXN_SKIP_PESSIMISTIC_CHECK, 30, 50, true, 0},
        {"new", TXN_DO_CONSTRAINT_CHECK, 30, 50, false, TXN_ERROR_WRITE_CONFLICT},
        {"new", TXN_DO_CONSTRAINT_CHECK, 46, 50, false, 0},
        {"rolled", TXN_SKIP_PESSIMISTIC_CHECK, 30, 35, true, 0}, /* another's rollback */
        {"rolled", TXN_SKIP_PESSIMISTIC_CHECK, 42, 43, true, TXN_ERROR_WRITE_CONFLICT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_mutation put = txn_put_of(slice_of_string(rows[i].key), S("w"));
        put.pessimistic_action = rows[i].action;
        assert_int_equal(
            prewrite(f, &put, rows[i].start_ts, rows[i].for_update_ts, rows[i].is_retry),
            rows[i].result);
        if (rows[i].result == 0) {
            struct txn_delete_range range; /* for the next row: as if nothing had been */
            txn_command_init(&range.base, TXN_DELETE_RANGE);
            assert_int_equal(txn_run(f, &range.base), 0);
            txn_command_deinit(&range.base);
            actions_prepare(f);
        }
    }
}

/* A lock that is held says nothing of the key; one that is gone has the key looked at, and with it
 * what the client believes. */
static void test_assertions(struct txn_fixture *f)
{
    static const struct {
        const char *key;
        uint8_t assertion, level;
        bool is_locked, fails;
    } rows[] = {
        {"k", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_FAST, false, true},
        {"k", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_STRICT, false, true},
        {"none", TXN_ASSERT_EXIST, TXN_ASSERT_FAST, false, true},
        {"none", TXN_ASSERT_EXIST, TXN_ASSERT_STRICT, false, true},
        {"none", TXN_ASSERT_EXIST, TXN_ASSERT_OFF, false, false},
        {"k", TXN_ASSERT_EXIST, TXN_ASSERT_STRICT, false, false},
        {"none", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_FAST, false, false},
        {"k", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_FAST, true, false},
        {"k", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_STRICT, true, true},
    };
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t start_ts = 30 + 10 * i;
        struct txn_mutation put = txn_put_of(slice_of_string(rows[i].key), S("w"));
        put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
        put.assertion = rows[i].assertion;
        if (rows[i].is_locked)
            assert_int_equal(txn_lock_one(f, put.key, start_ts, start_ts), 0);
        struct txn_prewrite command;
        txn_make_prewrite(&command, &put, 1, put.key, start_ts);
        command.for_update_ts = start_ts + 1;
        command.assertion_level = rows[i].level;
        assert_int_equal(txn_run(f, &command.base), 0);
        assert_int_equal(command.errors_count, rows[i].fails);
        if (rows[i].fails)
            assert_int_equal(command.errors[0].kind, TXN_ERROR_ASSERTION_FAILED);
        txn_command_deinit(&command.base);
        assert_int_equal(txn_rollback_one(f, put.key, start_ts), 0);
    }
}

/* --- waiting ---------------------------------------------------------------------------------- */

struct waiting {
    struct txn_pessimistic_lock lock;
    struct txn_mutation mutation;
    struct txn_pending_run run;
};

static void wait_start(struct txn_fixture *f, struct waiting *waiting, kvs_slice key,
                       uint64_t start_ts, int64_t timeout_ms)
{
    waiting->mutation = lock_of(key);
    txn_make_lock(&waiting->lock, &waiting->mutation, 1, key, start_ts, start_ts);
    waiting->lock.wait_timeout_ms = timeout_ms;
    struct txn_node_stats before;
    struct txn_node_stats now;
    txn_node_stats(f->node, &before);
    txn_start(f, &waiting->run, &waiting->lock.base);
    do { /* until it waits */
        txn_node_stats(f->node, &now);
    } while (now.lock_waits == before.lock_waits && now.deadlocks == before.deadlocks);
}

static int wait_end(struct waiting *waiting)
{
    int error = txn_finish(&waiting->run);
    int result = error;
    if (error == 0 && waiting->lock.errors_count > 0)
        result = waiting->lock.errors[0].kind;
    txn_command_deinit(&waiting->lock.base);
    return result;
}

#define LONG_MS 100000

static void patient(struct txn_fixture *f)
{
    txn_node_free(f->node);
    f->options.wait_max_ms = LONG_MS;
    assert_int_equal(txn_node_new(f->base.engine, &f->options, &f->node), 0);
}

/* Ways in which the lock of transaction `ts` on "k" goes away; each says how the waiter fares. */
static int remove_by_pessimistic_rollback(struct txn_fixture *f, uint64_t ts)
{
    return pessimistic_rollback(f, S("k"), ts, ts);
}

static int remove_by_range_rollback(struct txn_fixture *f, uint64_t ts)
{
    struct txn_pessimistic_rollback rollback;
    txn_command_init(&rollback.base, TXN_PESSIMISTIC_ROLLBACK);
    rollback.start_ts = ts;
    rollback.for_update_ts = ts;
    int error = txn_run(f, &rollback.base);
    txn_command_deinit(&rollback.base);
    return error;
}

static int remove_by_commit(struct txn_fixture *f, uint64_t ts)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
    int error = prewrite(f, &put, ts, ts, false);
    if (error == 0)
        error = txn_commit_one(f, S("k"), ts, ts + 20);
    return error != 0 ? error : TXN_ERROR_WRITE_CONFLICT; /* newer than its for_update_ts */
}

static int remove_by_one_phase(struct txn_fixture *f, uint64_t ts)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
    struct txn_prewrite command;
    txn_make_prewrite(&command, &put, 1, S("k"), ts);
    command.for_update_ts = ts;
    command.min_commit_ts = ts + 20;
    command.try_one_pc = true;
    int error = txn_run(f, &command.base);
    if (error == 0 && command.one_pc_commit_ts >= ts + 20)
        error = TXN_ERROR_WRITE_CONFLICT;
    txn_command_deinit(&command.base);
    return error;
}

static int resolve(struct txn_fixture *f, uint64_t ts, bool by_key)
{
    struct txn_status status = {.start_ts = ts};
    kvs_slice key = S("k");
    struct txn_resolve_lock command;
    txn_make_resolve(&command, &status, 1);
    command.keys = &key;
    command.keys_count = by_key;
    int error = txn_run(f, &command.base);
    txn_command_deinit(&command.base);
    return error;
}

static int remove_by_resolve(struct txn_fixture *f, uint64_t ts)
{
    return resolve(f, ts, true);
}

static int remove_by_resolve_of_range(struct txn_fixture *f, uint64_t ts)
{
    return resolve(f, ts, false);
}

static int remove_by_rollback(struct txn_fixture *f, uint64_t ts)
{
    return txn_rollback_one(f, S("k"), ts);
}

static int remove_by_status(struct txn_fixture *f, uint64_t ts)
{
    struct txn_check_status check;
    txn_make_check(&check, S("k"), ts, 0, TXN_TS_MAX);
    check.resolving_pessimistic_lock = true;
    int error = txn_run(f, &check.base);
    if (error == 0 && check.action != TXN_ACTION_TTL_EXPIRE_PESSIMISTIC_ROLLBACK)
        error = -1;
    txn_command_deinit(&check.base);
    return error;
}

static int remove_by_cleanup(struct txn_fixture *f, uint64_t ts)
{
    struct txn_cleanup cleanup;
    txn_command_init(&cleanup.base, TXN_CLEANUP);
    cleanup.key = S("k");
    cleanup.start_ts = ts;
    int error = txn_run(f, &cleanup.base);
    txn_command_deinit(&cleanup.base);
    return error;
}

static int remove_by_delete_range(struct txn_fixture *f, uint64_t ts)
{
    (void)ts;
    struct txn_delete_range range;
    txn_command_init(&range.base, TXN_DELETE_RANGE);
    int error = txn_run(f, &range.base);
    txn_command_deinit(&range.base);
    return error;
}

/* Each way in which a lock goes away wakes who waits for it. */
static void test_wake_ups(struct txn_fixture *f)
{
    static int (*const ways[])(struct txn_fixture *, uint64_t) = {remove_by_pessimistic_rollback,
                                                                  remove_by_range_rollback,
                                                                  remove_by_commit,
                                                                  remove_by_one_phase,
                                                                  remove_by_resolve,
                                                                  remove_by_resolve_of_range,
                                                                  remove_by_rollback,
                                                                  remove_by_status,
                                                                  remove_by_cleanup,
                                                                  remove_by_delete_range};
    patient(f);
    for (unsigned way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        uint64_t ts = 100 + 100 * way;
        struct waiting waiting;
        assert_int_equal(txn_lock_one(f, S("k"), ts, ts), 0);
        wait_start(f, &waiting, S("k"), ts + 10, LONG_MS);
        int expected = ways[way](f, ts);
        assert_int_equal(wait_end(&waiting), expected);
        if (expected == 0)
            assert_int_equal(pessimistic_rollback(f, S("k"), ts + 10, ts + 10), 0);
    }
}

/* The oldest transaction first, then the others, each when the one before is done: however long
 * that takes here, the others do not try before. */
static void test_order_of_waiters(struct txn_fixture *f)
{
    f->options.wake_others_ms = LONG_MS;
    patient(f);
    enum { COUNT = 5 };
    static const uint64_t times[COUNT] = {300, 500, 200, 600, 400};
    struct waiting waiting[COUNT];
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    for (unsigned i = 0; i < COUNT; i++)
        wait_start(f, &waiting[i], S("k"), times[i], LONG_MS);
    assert_int_equal(pessimistic_rollback(f, S("k"), 100, 100), 0);
    static const unsigned order[COUNT] = {2, 0, 4, 1, 3};
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned next = order[i];
        assert_int_equal(wait_end(&waiting[next]), 0);
        assert_int_equal(pessimistic_rollback(f, S("k"), times[next], times[next]), 0);
    }
}

/* Whom does this transaction wait for? */
static uint64_t waits_for(struct txn_fixture *f, uint64_t start_ts)
{
    struct arena arena = {0};
    struct txn_wait_entry *entries;
    uint32_t count;
    uint64_t lock_ts = 0;
    assert_int_equal(txn_node_waits(f->node, 16, &arena, &entries, &count), 0);
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].start_ts == start_ts)
            lock_ts = entries[i].wait_for_ts;
    }
    arena_deinit(&arena);
    return lock_ts;
}

/* A wait may be long, and others may be faster each time: what an attempt needs is not kept. */
static void test_memory_of_a_long_wait(struct txn_fixture *f)
{
    patient(f);
    enum { ROUNDS = 20, KEY_SIZE = 4000, BYTES_MAX = 64 * 1024, LAST = 100000 };
    static uint8_t bytes[KEY_SIZE];
    kvs_slice key = slice_make(bytes, KEY_SIZE);
    struct waiting last;
    assert_int_equal(txn_lock_one(f, key, 100, 100), 0);
    wait_start(f, &last, key, LAST, LONG_MS);
    for (uint64_t ts = 100; ts < 100 + ROUNDS; ts++) {
        struct waiting next;
        wait_start(f, &next, key, ts + 1, LONG_MS);
        assert_int_equal(pessimistic_rollback(f, key, ts, ts), 0);
        assert_int_equal(wait_end(&next), 0);
        while (waits_for(f, LAST) != ts + 1)
            sched_yield();
    }
    assert_int_equal(pessimistic_rollback(f, key, 100 + ROUNDS, 100 + ROUNDS), 0);
    assert_int_equal(txn_finish(&last.run), 0);
    assert_int_equal(last.lock.errors_count, 0);
    assert_true(last.lock.base.arena.bytes < BYTES_MAX);
    txn_command_deinit(&last.lock.base);
}

/* Who is woken and fails passes the turn on. */
static void test_failed_waiter_passes_on(struct txn_fixture *f)
{
    patient(f);
    struct waiting waiting[3];
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    put.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
    assert_int_equal(prewrite(f, &put, 100, 100, false), 0);
    wait_start(f, &waiting[0], S("k"), 200, LONG_MS);
    wait_start(f, &waiting[1], S("k"), 300, LONG_MS);
    wait_start(f, &waiting[2], S("k"), 400, LONG_MS);
    assert_int_equal(txn_commit_one(f, S("k"), 100, 350), 0);
    assert_int_equal(wait_end(&waiting[0]), TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(wait_end(&waiting[1]), TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(wait_end(&waiting[2]), 0);
}

/* It waits so long for "k", and then is told of its lock, and for how long it has met it: that is
 * less by what passed before. */
static void wait_in_vain(struct txn_fixture *f, int64_t asked_ms, uint64_t wait_ms)
{
    struct txn_mutation mutation = lock_of(S("k"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("k"), 200, 200);
    lock.wait_timeout_ms = asked_ms;
    uint64_t begin_ns = clock_now_ns();
    assert_int_equal(txn_run(f, &lock.base), 0); /* within this test's time */
    uint64_t all_ms = (clock_now_ns() - begin_ns) / 1000000;
    assert_int_equal(lock.errors_count, 1);
    assert_int_equal(lock.errors[0].kind, TXN_ERROR_LOCKED);
    assert_int_equal(lock.errors[0].lock.start_ts, 100);
    assert_true(all_ms >= wait_ms);
    assert_true(lock.errors[0].lock.duration_to_last_update_ms <= all_ms);
    txn_command_deinit(&lock.base);
}

static void test_time_out(struct txn_fixture *f)
{
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    wait_in_vain(f, 20, 20);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(pessimistic_rollback(f, S("k"), 100, 100), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 300, 300), 0); /* nobody was left in the queue */
}

static void test_cancel(struct txn_fixture *f)
{
    patient(f);
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    struct waiting waiting[2];
    wait_start(f, &waiting[0], S("k"), 200, LONG_MS);
    wait_start(f, &waiting[1], S("k"), 300, LONG_MS);
    txn_cancel_wait(f->node, &waiting[0].lock.base);
    assert_int_equal(wait_end(&waiting[0]), KVS_ERR_CANCELLED);
    txn_node_cancel_waits(f->node);
    assert_int_equal(wait_end(&waiting[1]), KVS_ERR_CANCELLED);
    struct txn_mutation mutation = lock_of(S("k"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("k"), 400, 400);
    lock.wait_timeout_ms = LONG_MS;
    assert_int_equal(txn_run(f, &lock.base), KVS_ERR_CANCELLED);
    txn_command_deinit(&lock.base);
    assert_int_equal(txn_lock_one(f, S("k"), 400, 400), TXN_ERROR_LOCKED);
}

/* Who gives a lock back that it still waits for does not get it any more, unless it has asked for
 * it again since. */
static void test_rollback_ends_waits(struct txn_fixture *f)
{
    patient(f);
    struct waiting waiting[3];
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    wait_start(f, &waiting[0], S("k"), 200, LONG_MS);
    wait_start(f, &waiting[1], S("k"), 300, 2000);
    wait_start(f, &waiting[2], S("k"), 400, 2000);
    assert_int_equal(pessimistic_rollback(f, S("k"), 200, 199), 0); /* of an earlier request */
    assert_int_equal(pessimistic_rollback(f, S("l"), 200, 200), 0);
    assert_int_equal(pessimistic_rollback(f, S("k"), 300, 300), 0);
    assert_int_equal(pessimistic_rollback(f, S("k"), 400, 450), 0);
    assert_int_equal(wait_end(&waiting[1]), TXN_ERROR_ABORT);
    assert_int_equal(wait_end(&waiting[2]), TXN_ERROR_ABORT);
    assert_int_equal(waits_for(f, 200), 100);
    assert_int_equal(pessimistic_rollback(f, S("k"), 100, 100), 0);
    assert_int_equal(wait_end(&waiting[0]), 0);
    assert_int_equal(pessimistic_rollback(f, S("k"), 200, 200), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 500, 500), 0);
}

/* The same where it is woken already, but not there yet: its loop has other things to do. */
static void test_rollback_ends_woken(struct txn_fixture *f)
{
    f->options.wake_others_ms = LONG_MS; /* one after the other */
    patient(f);
    struct txn_fixture busy = {.node = f->node};
    assert_int_equal(loop_init(&busy.base.loop, 1), 0);
    struct waiting waiting[4];
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    wait_start(&busy, &waiting[0], S("k"), 200, LONG_MS);
    wait_start(f, &waiting[1], S("k"), 300, LONG_MS);
    assert_int_equal(txn_lock_one(f, S("l"), 100, 100), 0);
    wait_start(&busy, &waiting[2], S("l"), 400, LONG_MS);
    wait_start(f, &waiting[3], S("l"), 500, LONG_MS);
    assert_int_equal(pessimistic_rollback(f, S("k"), 100, 100), 0);
    assert_int_equal(pessimistic_rollback(f, S("l"), 100, 100), 0);
    assert_int_equal(waits_for(f, 200), 0);
    assert_int_equal(pessimistic_rollback(f, S("k"), 200, 200), 0);
    assert_int_equal(pessimistic_rollback(f, S("l"), 400, 399), 0); /* of an earlier request */
    assert_int_equal(loop_start(&busy.base.loop, "busy-loop"), 0);
    assert_int_equal(wait_end(&waiting[0]), TXN_ERROR_ABORT);
    assert_int_equal(wait_end(&waiting[1]), 0); /* the next one's turn */
    assert_int_equal(wait_end(&waiting[2]), 0);
    assert_int_equal(pessimistic_rollback(f, S("l"), 400, 400), 0);
    assert_int_equal(wait_end(&waiting[3]), 0);
    loop_stop(&busy.base.loop);
    loop_deinit(&busy.base.loop);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_int_equal(stats.waiting, 0);
}

static void test_deadlock(struct txn_fixture *f)
{
    patient(f);
    struct waiting waiting[3];
    assert_int_equal(txn_lock_one(f, S("a"), 100, 100), 0);
    assert_int_equal(txn_lock_one(f, S("b"), 200, 200), 0);
    assert_int_equal(txn_lock_one(f, S("c"), 300, 300), 0);
    wait_start(f, &waiting[0], S("b"), 100, LONG_MS); /* 100 waits for 200 */
    wait_start(f, &waiting[1], S("c"), 200, LONG_MS); /* 200 for 300 */
    wait_start(f, &waiting[2], S("a"), 300, LONG_MS); /* 300 for 100: a circle */
    assert_int_equal(txn_finish(&waiting[2].run), 0);
    const struct txn_key_error *error = &waiting[2].lock.errors[0];
    assert_int_equal(error->kind, TXN_ERROR_DEADLOCK);
    assert_int_equal(error->lock_ts, 100);
    assert_slice_equal(error->lock_key, "a");
    assert_slice_equal(error->deadlock_key, "c");
    assert_int_equal(error->wait_chain_count, 3);
    static const struct {
        uint64_t from, to;
        const char *key;
        uint64_t hash; /* as clients compute it */
    } chain[] = {{100, 200, "b", 0xa3b260215ec8f116u},
                 {200, 300, "c", 0x9ea118a9e0cb7b28u},
                 {300, 100, "a", 0xb3454265b6df75e3u}};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(error->wait_chain[i].start_ts, chain[i].from);
        assert_int_equal(error->wait_chain[i].wait_for_ts, chain[i].to);
        assert_int_equal(error->wait_chain[i].key.data[0], chain[i].key[0]);
        assert_true(error->wait_chain[i].key_hash == chain[i].hash);
    }
    assert_true(error->deadlock_key_hash == chain[1].hash);
    txn_command_deinit(&waiting[2].lock.base);
    /* It gives up: the others get by. */
    assert_int_equal(pessimistic_rollback(f, S("c"), 300, 300), 0);
    assert_int_equal(wait_end(&waiting[1]), 0);
    assert_int_equal(pessimistic_rollback(f, S("c"), 200, 200), 0);
    assert_int_equal(pessimistic_rollback(f, S("b"), 200, 200), 0);
    assert_int_equal(wait_end(&waiting[0]), 0);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_int_equal(stats.deadlocks, 1);
    assert_int_equal(stats.waiting, 0);
}

/* Who gave its lock back is waited for by nobody, though not all have tried again yet. */
static void test_no_deadlock(struct txn_fixture *f)
{
    patient(f);
    struct waiting waiting[3];
    assert_int_equal(txn_lock_one(f, S("a"), 100, 100), 0);
    assert_int_equal(txn_lock_one(f, S("m"), 300, 300), 0);
    wait_start(f, &waiting[0], S("a"), 200, LONG_MS);
    wait_start(f, &waiting[1], S("a"), 300, LONG_MS);
    assert_int_equal(pessimistic_rollback(f, S("a"), 100, 100), 0);
    wait_start(f, &waiting[2], S("m"), 100, LONG_MS);
    assert_int_equal(wait_end(&waiting[0]), 0);
    assert_int_equal(pessimistic_rollback(f, S("a"), 200, 200), 0);
    assert_int_equal(wait_end(&waiting[1]), 0);
    assert_int_equal(pessimistic_rollback(f, S("m"), 300, 300), 0);
    assert_int_equal(wait_end(&waiting[2]), 0);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_int_equal(stats.deadlocks, 0);
}

/* Who says that it holds nothing yet closes no circle: none is looked for. */
static void test_first_lock(struct txn_fixture *f)
{
    patient(f);
    assert_int_equal(txn_lock_one(f, S("a"), 100, 100), 0);
    assert_int_equal(txn_lock_one(f, S("b"), 200, 200), 0);
    struct waiting waiting;
    wait_start(f, &waiting, S("a"), 200, LONG_MS);
    for (unsigned i = 0; i < 2; i++) {
        struct txn_mutation mutation = lock_of(S("b"));
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, &mutation, 1, S("a"), 100, 100);
        lock.wait_timeout_ms = i == 0 ? 20 : LONG_MS;
        lock.is_first_lock = i == 0;
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors[0].kind, i == 0 ? TXN_ERROR_LOCKED : TXN_ERROR_DEADLOCK);
        txn_command_deinit(&lock.base);
    }
    assert_int_equal(pessimistic_rollback(f, S("a"), 100, 100), 0);
    assert_int_equal(wait_end(&waiting), 0);
}

/* No timeout is the node's default; a longer one is cut at its bound. */
static void test_bounds_of_waits(struct txn_fixture *f)
{
    txn_node_free(f->node);
    f->options.wait_default_ms = 20;
    f->options.wait_max_ms = 30;
    assert_int_equal(txn_node_new(f->base.engine, &f->options, &f->node), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 100, 100), 0);
    static const int64_t asked_ms[] = {0, 25, 24 * 3600 * 1000, INT64_MAX};
    static const uint64_t waits_ms[] = {20, 25, 30, 30};
    for (unsigned i = 0; i < 4; i++)
        wait_in_vain(f, asked_ms[i], waits_ms[i]);
}

/* The lock of a transaction that is over by what the node knows: its end is not waited for. */
static void test_the_dead(struct txn_fixture *f)
{
    txn_node_free(f->node);
    f->options.wait_max_ms = LONG_MS;
    f->options.dead_before_ts = 150;
    assert_int_equal(txn_node_new(f->base.engine, &f->options, &f->node), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 149, 149), 0);
    assert_int_equal(txn_lock_one(f, S("l"), 150, 150), 0);
    struct txn_mutation mutation = lock_of(S("k"));
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, &mutation, 1, S("k"), 200, 200);
    lock.wait_timeout_ms = LONG_MS;
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors[0].kind, TXN_ERROR_LOCKED);
    txn_command_deinit(&lock.base);
    struct waiting waiting;
    wait_start(f, &waiting, S("l"), 200, LONG_MS);
    assert_int_equal(pessimistic_rollback(f, S("l"), 150, 150), 0);
    assert_int_equal(wait_end(&waiting), 0);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"lock, prewrite, commit", test_lock_and_commit},
        {"conflicts", test_conflicts},
        {"results as asked for", test_results},
        {"another primary", test_other_primary},
        {"a lock of another primary", test_lock_of_another_primary},
        {"lock only if it exists", test_lock_only_if_exists},
        {"lock over a newer commit", test_force_lock},
        {"keys that must not exist", test_absent_keys},
        {"lock over a newer commit only if it exists", test_force_lock_only_if_exists},
        {"lock by force after the commit", test_force_lock_after_commit},
        {"what a prewrite checks", test_prewrite_actions},
        {"assertions", test_assertions},
        {"what wakes a waiter", test_wake_ups},
        {"the order of waiters", test_order_of_waiters},
        {"memory of a long wait", test_memory_of_a_long_wait},
        {"a waiter that fails passes on", test_failed_waiter_passes_on},
        {"the end of the wait", test_time_out},
        {"cancelled waits", test_cancel},
        {"a rollback ends waits", test_rollback_ends_waits},
        {"a rollback ends those that are woken", test_rollback_ends_woken},
        {"a circle of waiters", test_deadlock},
        {"no circle of waiters", test_no_deadlock},
        {"the first lock of a transaction", test_first_lock},
        {"bounds of waits", test_bounds_of_waits},
        {"locks of the dead", test_the_dead},
    };
    return txn_tests_run("txn-pessimistic", tests, sizeof tests / sizeof tests[0]);
}
