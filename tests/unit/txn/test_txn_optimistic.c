/* Prewrite, commit, rollback, status and reads, as optimistic transactions use them. */
#include "unit/txn/txn_fixture.h"

#include "base/mem.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

#define LONG_SIZE 3000u

static void assert_sees(struct txn_fixture *fixture, kvs_slice key, uint64_t ts, const char *value)
{
    assert_string_equal(txn_see(fixture, key, ts), value);
}

/* A read at every moment sees what had been committed by then. */
static void test_versions(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("one"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("k"), S("two"), 30, 40), 0);
    assert_int_equal(txn_delete(f, S("k"), 50, 60), 0);
    assert_int_equal(txn_put(f, S("k"), S(""), 70, 80), 0);
    static const struct {
        uint64_t ts;
        const char *value;
    } expected[] = {{5, "-"},    {19, "-"}, {20, "one"}, {39, "one"}, {40, "two"},
                    {59, "two"}, {60, "-"}, {79, "-"},   {80, ""},    {TXN_TS_MAX, ""}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_sees(f, S("k"), expected[i].ts, expected[i].value);
    assert_sees(f, S("kk"), 100, "-");
    assert_sees(f, S(""), 100, "-");
    assert_int_equal(txn_fixture_reopen(f), 0);
    assert_sees(f, S("k"), 39, f->base.kind == &txn_engine_memory ? "-" : "one");
}

static void test_long_values_and_keys(struct txn_fixture *f)
{
    uint8_t key[KVS_KEY_SIZE_MAX];
    uint8_t value[LONG_SIZE];
    memset(key, 'k', sizeof key);
    memset(value, 'v', sizeof value);
    static const size_t sizes[] = {0, 1, 254, 255, 256, 257, LONG_SIZE};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t ts = 100 + 10 * i;
        kvs_slice k = slice_make(key, sizeof key - i);
        assert_int_equal(txn_put(f, k, slice_make(value, sizes[i]), ts, ts + 1), 0);
        struct txn_get get;
        txn_make_get(&get, k, ts + 1);
        assert_int_equal(txn_run(f, &get.base), 0);
        assert_true(get.found);
        assert_int_equal(get.value.size, sizes[i]);
        assert_memory_equal(get.value.data, value, sizes[i]);
        txn_command_deinit(&get.base);
    }
    if (f->base.kind != &txn_engine_memory) { /* the log takes keys of that size */
        assert_int_equal(txn_fixture_reopen(f), 0);
        struct txn_get get;
        txn_make_get(&get, slice_make(key, sizeof key), 101);
        assert_int_equal(txn_run(f, &get.base), 0);
        assert_true(get.found);
        txn_command_deinit(&get.base);
    }
    uint8_t large[KVS_KEY_SIZE_MAX + 1] = {0};
    assert_int_equal(txn_put(f, slice_make(large, sizeof large), S("v"), 500, 501),
                     KVS_ERR_TOO_LARGE);
    char text[16];
    snprintf(text, sizeof text, "?%d", KVS_ERR_TOO_LARGE);
    assert_sees(f, slice_make(large, sizeof large), 600, text);
}

static void test_lock_blocks_readers(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("old"), 10, 20), 0);
    struct txn_mutation put = txn_put_of(S("k"), S("new"));
    assert_int_equal(txn_prewrite_one(f, &put, 30), 0);
    assert_sees(f, S("k"), 29, "old");
    char locked[8];
    snprintf(locked, sizeof locked, "!%d", TXN_ERROR_LOCKED);
    assert_sees(f, S("k"), 31, locked);
    assert_sees(f, S("k"), 30, "old");         /* it commits at 31 at the earliest */
    assert_sees(f, S("k"), TXN_TS_MAX, "old"); /* the primary, and the newest there is */
    struct txn_get get;
    txn_make_get(&get, S("k"), 50);
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.error.kind, TXN_ERROR_LOCKED);
    assert_slice_equal(get.error.lock.key, "k");
    assert_slice_equal(get.error.lock.primary, "k");
    assert_int_equal(get.error.lock.start_ts, 30);
    assert_int_equal(get.error.lock.ttl_ms, 3000);
    assert_int_equal(get.error.lock.type, TXN_OP_PUT);
    assert_int_equal(get.error.lock.min_commit_ts, 31);
    txn_command_deinit(&get.base);
    const uint64_t of_it[] = {7, 30};
    txn_make_get(&get, S("k"), 50);
    get.read.resolved_locks = of_it;
    get.read.resolved_locks_count = 2;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_slice_equal(get.value, "old");
    txn_command_deinit(&get.base);
    txn_make_get(&get, S("k"), 50);
    get.read.committed_locks = of_it;
    get.read.committed_locks_count = 2;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_slice_equal(get.value, "new");
    txn_command_deinit(&get.base);
    txn_make_get(&get, S("k"), 50);
    get.read.isolation = TXN_ISOLATION_READ_COMMITTED;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_slice_equal(get.value, "old");
    txn_command_deinit(&get.base);
}

/* Who wants to be told of all that is newer meets locks of any time, and versions. */
static void test_lock_conflicts_at_check_ts(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("old"), 10, 20), 0);
    struct txn_mutation put = txn_put_of(S("k"), S("new"));
    assert_int_equal(txn_prewrite_one(f, &put, 30), 0);
    const uint64_t of_it[] = {7, 30};
    struct txn_get get;
    txn_make_get(&get, S("k"), 25); /* below the lock */
    get.read.isolation = TXN_ISOLATION_RC_CHECK_TS;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.error.kind, TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(get.error.reason, TXN_CONFLICT_RC_CHECK_TS);
    assert_int_equal(get.error.conflict_ts, 30);
    assert_slice_equal(get.error.primary, "k");
    txn_command_deinit(&get.base);
    txn_make_get(&get, S("k"), 25);
    get.read.isolation = TXN_ISOLATION_RC_CHECK_TS;
    get.read.resolved_locks = of_it;
    get.read.resolved_locks_count = 2;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.error.kind, TXN_ERROR_NONE);
    assert_slice_equal(get.value, "old");
    txn_command_deinit(&get.base);
    txn_make_get(&get, S("k"), 15); /* below a version */
    get.read.isolation = TXN_ISOLATION_RC_CHECK_TS;
    get.read.resolved_locks = of_it;
    get.read.resolved_locks_count = 2;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.error.kind, TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(get.error.conflict_commit_ts, 20);
    txn_command_deinit(&get.base);
}

/* Locks of type LOCK do not change a value, so nobody waits for them. */
static void test_lock_only_blocks_nobody(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("old"), 10, 20), 0);
    struct txn_mutation lock = {.op = TXN_OP_LOCK, .key = S("k")};
    assert_int_equal(txn_prewrite_one(f, &lock, 30), 0);
    assert_sees(f, S("k"), 50, "old");
    assert_int_equal(txn_commit_one(f, S("k"), 30, 60), 0);
    assert_sees(f, S("k"), 70, "old");
    struct txn_mutation put = txn_put_of(S("k"), S("new"));
    assert_int_equal(txn_prewrite_one(f, &put, 55), TXN_ERROR_WRITE_CONFLICT);
}

static void test_prewrite_conflicts(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    struct txn_mutation put = txn_put_of(S("k"), S("w"));
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, &put, 1, S("p"), 15);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 1);
    const struct txn_key_error *error = &prewrite.errors[0];
    assert_int_equal(error->kind, TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(error->reason, TXN_CONFLICT_OPTIMISTIC);
    assert_int_equal(error->start_ts, 15);
    assert_int_equal(error->conflict_ts, 10);
    assert_int_equal(error->conflict_commit_ts, 20);
    assert_slice_equal(error->key, "k");
    assert_slice_equal(error->primary, "p");
    txn_command_deinit(&prewrite.base);
    assert_int_equal(txn_prewrite_one(f, &put, 21), 0);
    assert_int_equal(txn_prewrite_one(f, &put, 21), 0); /* once more: the same */
    assert_int_equal(txn_prewrite_one(f, &put, 25), TXN_ERROR_LOCKED);
    struct txn_mutation two[] = {txn_put_of(S("j"), S("1")), txn_put_of(S("k"), S("2"))};
    txn_make_prewrite(&prewrite, two, 2, S("j"), 26);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 1);
    assert_int_equal(prewrite.errors[0].lock.start_ts, 21);
    txn_command_deinit(&prewrite.base);
    assert_sees(f, S("j"), 100, "-"); /* all or nothing */
    assert_int_equal(txn_commit_one(f, S("k"), 21, 30), 0);
    assert_int_equal(txn_prewrite_one(f, &put, 21), 0); /* late: it has succeeded */
    assert_sees(f, S("k"), 100, "w");
}

static void test_all_locked_keys_are_named(struct txn_fixture *f)
{
    struct txn_mutation held[] = {txn_put_of(S("a"), S("1")), txn_put_of(S("c"), S("1"))};
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, held, 2, S("a"), 10);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 0);
    txn_command_deinit(&prewrite.base);
    struct txn_mutation all[] = {txn_put_of(S("a"), S("2")), txn_put_of(S("b"), S("2")),
                                 txn_put_of(S("c"), S("2"))};
    txn_make_prewrite(&prewrite, all, 3, S("b"), 20);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 2);
    assert_slice_equal(prewrite.errors[0].lock.key, "a");
    assert_slice_equal(prewrite.errors[1].lock.key, "c");
    txn_command_deinit(&prewrite.base);
}

static void test_insert_and_not_exists(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("there"), S("v"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("gone"), S("v"), 10, 20), 0);
    assert_int_equal(txn_delete(f, S("gone"), 30, 40), 0);
    struct txn_mutation lock = {.op = TXN_OP_LOCK, .key = S("there")};
    assert_int_equal(txn_prewrite_one(f, &lock, 41), 0);
    assert_int_equal(txn_commit_one(f, S("there"), 41, 42), 0); /* a record that hides nothing */
    static const struct {
        uint8_t op;
        const char *key;
        int result;
    } rows[] = {{TXN_OP_INSERT, "there", TXN_ERROR_ALREADY_EXISTS},
                {TXN_OP_CHECK_NOT_EXISTS, "there", TXN_ERROR_ALREADY_EXISTS},
                {TXN_OP_CHECK_NOT_EXISTS, "gone", 0},
                {TXN_OP_CHECK_NOT_EXISTS, "never", 0},
                {TXN_OP_INSERT, "gone", 0},
                {TXN_OP_INSERT, "never", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_mutation mutation = {
            .op = rows[i].op, .key = slice_of_string(rows[i].key), .value = S("inserted")};
        assert_int_equal(txn_prewrite_one(f, &mutation, 50), rows[i].result);
    }
    assert_int_equal(txn_commit_one(f, S("never"), 50, 60), 0);
    assert_sees(f, S("never"), 61, "inserted");
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_true(stats.max_ts >= 50);
}

static void test_assertions(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("there"), S("v"), 10, 20), 0);
    static const struct {
        const char *key;
        uint8_t assertion, level;
        bool fails;
    } rows[] = {{"there", TXN_ASSERT_EXIST, TXN_ASSERT_FAST, false},
                {"there", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_FAST, true},
                {"there", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_OFF, false},
                {"none", TXN_ASSERT_EXIST, TXN_ASSERT_STRICT, true},
                {"none", TXN_ASSERT_NOT_EXIST, TXN_ASSERT_STRICT, false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_mutation put = txn_put_of(slice_of_string(rows[i].key), S("w"));
        put.assertion = rows[i].assertion;
        struct txn_prewrite prewrite;
        txn_make_prewrite(&prewrite, &put, 1, put.key, 30 + i);
        prewrite.assertion_level = rows[i].level;
        assert_int_equal(txn_run(f, &prewrite.base), 0);
        assert_int_equal(prewrite.errors_count, rows[i].fails);
        if (rows[i].fails) {
            assert_int_equal(prewrite.errors[0].kind, TXN_ERROR_ASSERTION_FAILED);
            assert_int_equal(prewrite.errors[0].assertion, rows[i].assertion);
            assert_int_equal(prewrite.errors[0].existing_commit_ts,
                             rows[i].assertion == TXN_ASSERT_NOT_EXIST ? 20 : 0);
        }
        txn_command_deinit(&prewrite.base);
        assert_int_equal(txn_rollback_one(f, put.key, 30 + i), 0);
    }
}

/* Keys that nobody looks at but for a strict assertion: that it was rolled back, or that somebody
 * has written since, is told rather than what comes of it. */
static void test_assertions_after_the_end(struct txn_fixture *f)
{
    static const struct {
        const char *key;
        uint8_t kind, reason;
    } rows[] = {{"over", TXN_ERROR_WRITE_CONFLICT, TXN_CONFLICT_SELF_ROLLED_BACK},
                {"newer", TXN_ERROR_WRITE_CONFLICT, TXN_CONFLICT_OPTIMISTIC},
                {"none", TXN_ERROR_ASSERTION_FAILED, 0}};
    assert_int_equal(txn_rollback_one(f, S("over"), 30), 0);
    assert_int_equal(txn_delete(f, S("newer"), 31, 40), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_mutation put = txn_put_of(slice_of_string(rows[i].key), S("w"));
        put.assertion = TXN_ASSERT_EXIST;
        struct txn_prewrite prewrite;
        txn_make_prewrite(&prewrite, &put, 1, put.key, 30);
        prewrite.assertion_level = TXN_ASSERT_STRICT;
        prewrite.skip_constraint_check = true;
        assert_int_equal(txn_run(f, &prewrite.base), 0);
        assert_int_equal(prewrite.errors_count, 1);
        assert_int_equal(prewrite.errors[0].kind, rows[i].kind);
        assert_int_equal(prewrite.errors[0].reason, rows[i].reason);
        txn_command_deinit(&prewrite.base);
    }
}

static void test_commit(struct txn_fixture *f)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    assert_int_equal(txn_prewrite_one(f, &put, 10), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 10, 10), TXN_ERROR_ABORT);
    struct txn_commit commit;
    kvs_slice key = S("k");
    struct txn_check_status check; /* a reader pushes the commit */
    txn_make_check(&check, S("k"), 10, 50, 40);
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.action, TXN_ACTION_MIN_COMMIT_TS_PUSHED);
    assert_int_equal(check.lock.min_commit_ts, 51);
    txn_command_deinit(&check.base);
    txn_make_commit(&commit, &key, 1, 10, 20);
    assert_int_equal(txn_run(f, &commit.base), 0);
    assert_int_equal(commit.error.kind, TXN_ERROR_COMMIT_TS_EXPIRED);
    assert_int_equal(commit.error.commit_ts, 20);
    assert_int_equal(commit.error.min_commit_ts, 51);
    txn_command_deinit(&commit.base);
    assert_sees(f, S("k"), 50, "-");
    assert_int_equal(txn_commit_one(f, S("k"), 10, 60), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 10, 60), 0); /* again: the same */
    assert_int_equal(txn_commit_one(f, S("k"), 11, 60), TXN_ERROR_LOCK_NOT_FOUND);
    assert_int_equal(txn_rollback_one(f, S("k"), 10), TXN_ERROR_ABORT);
    assert_sees(f, S("k"), 60, "v");
    /* one missing lock: nothing of the request happens */
    assert_int_equal(
        txn_prewrite_one(f, &(struct txn_mutation){.key = S("a"), .value = S("1")}, 70), 0);
    kvs_slice both[] = {S("a"), S("b")};
    txn_make_commit(&commit, both, 2, 70, 80);
    assert_int_equal(txn_run(f, &commit.base), 0);
    assert_int_equal(commit.error.kind, TXN_ERROR_LOCK_NOT_FOUND);
    assert_slice_equal(commit.error.key, "b");
    txn_command_deinit(&commit.base);
    assert_int_equal(txn_rollback_one(f, S("a"), 70), 0);
}

static void test_rollback(struct txn_fixture *f)
{
    uint8_t value[LONG_SIZE];
    memset(value, 'x', sizeof value);
    struct txn_mutation put = txn_put_of(S("k"), slice_make(value, sizeof value));
    assert_int_equal(txn_prewrite_one(f, &put, 10), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_DATA), 1);
    assert_int_equal(txn_rollback_one(f, S("k"), 10), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_DATA), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_LOCK), 0);
    assert_int_equal(txn_rollback_one(f, S("k"), 10), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 10, 20), TXN_ERROR_LOCK_NOT_FOUND);
    assert_int_equal(txn_prewrite_one(f, &put, 10), TXN_ERROR_WRITE_CONFLICT); /* late */
    assert_int_equal(txn_rollback_one(f, S("k"), 12), 0); /* before its prewrite */
    assert_int_equal(txn_prewrite_one(f, &put, 12), TXN_ERROR_WRITE_CONFLICT);
    /* of rollbacks in a row, the newest is enough */
    assert_int_equal(txn_rollback_one(f, S("k"), 13), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_WRITE), 1);
    /* the lock of another transaction stays */
    assert_int_equal(txn_prewrite_one(f, &put, 20), 0);
    assert_int_equal(txn_rollback_one(f, S("k"), 15), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 20, 30), 0);
}

/* A rollback at the timestamp at which another transaction has committed. */
static void test_overlapped_rollback(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    assert_int_equal(txn_rollback_one(f, S("k"), 20), 0);
    assert_sees(f, S("k"), 20, "v");
    struct txn_mutation put = txn_put_of(S("k"), S("w"));
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, &put, 1, S("k"), 20);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 1);
    assert_int_equal(prewrite.errors[0].reason, TXN_CONFLICT_SELF_ROLLED_BACK);
    txn_command_deinit(&prewrite.base);
    assert_int_equal(txn_commit_one(f, S("k"), 20, 30), TXN_ERROR_LOCK_NOT_FOUND);
    assert_int_equal(txn_commit_one(f, S("k"), 10, 20), 0);
}

#define MS(n) ((uint64_t)(n) << TXN_TS_LOGICAL_BITS)

static void check_expecting(struct txn_fixture *f, struct txn_check_status *check, uint8_t error,
                            uint8_t action, uint64_t ttl, uint64_t commit_ts)
{
    assert_int_equal(txn_run(f, &check->base), 0);
    assert_int_equal(check->error.kind, error);
    assert_int_equal(check->action, action);
    assert_int_equal(check->lock_ttl_ms, ttl);
    assert_true(check->commit_ts == commit_ts);
    txn_command_deinit(&check->base);
}

static void test_check_status(struct txn_fixture *f)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    struct txn_check_status check;
    assert_int_equal(txn_prewrite_one(f, &put, MS(1000)), 0);
    txn_make_check(&check, S("k"), MS(1000), 0, MS(4000)); /* to its last millisecond */
    check_expecting(f, &check, 0, TXN_ACTION_NONE, 3000, 0);
    txn_make_check(&check, S("k"), MS(1000), TXN_TS_MAX, MS(2000));
    check_expecting(f, &check, 0, TXN_ACTION_MIN_COMMIT_TS_PUSHED, 3000, 0);
    txn_make_check(&check, S("k"), MS(1000), 0, MS(4001));
    check_expecting(f, &check, 0, TXN_ACTION_TTL_EXPIRE_ROLLBACK, 0, 0);
    txn_make_check(&check, S("k"), MS(1000), 0, MS(4001));
    check_expecting(f, &check, 0, TXN_ACTION_NONE, 0, 0);
    assert_int_equal(txn_put(f, S("k"), S("v"), MS(5000), MS(5001)), 0);
    txn_make_check(&check, S("k"), MS(5000), 0, MS(9000));
    check_expecting(f, &check, 0, TXN_ACTION_NONE, 0, MS(5001));
    txn_make_check(&check, S("k"), MS(6000), 0, MS(9000));
    check_expecting(f, &check, TXN_ERROR_TXN_NOT_FOUND, TXN_ACTION_NONE, 0, 0);
    txn_make_check(&check, S("k"), MS(6000), 0, MS(9000));
    check.rollback_if_not_exist = true;
    check.resolving_pessimistic_lock = true;
    check_expecting(f, &check, 0, TXN_ACTION_LOCK_NOT_EXIST_DO_NOTHING, 0, 0);
    txn_make_check(&check, S("k"), MS(6000), 0, MS(9000));
    check.rollback_if_not_exist = true;
    check_expecting(f, &check, 0, TXN_ACTION_LOCK_NOT_EXIST_ROLLBACK, 0, 0);
    assert_int_equal(txn_prewrite_one(f, &put, MS(6000)), TXN_ERROR_WRITE_CONFLICT);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_true(stats.max_ts == MS(9000));
}

static void test_check_status_of_a_secondary(struct txn_fixture *f)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, &put, 1, S("elsewhere"), MS(1000));
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    txn_command_deinit(&prewrite.base);
    struct txn_check_status check;
    txn_make_check(&check, S("k"), MS(1000), 0, MS(9000));
    check.verify_is_primary = true;
    check_expecting(f, &check, TXN_ERROR_PRIMARY_MISMATCH, 0, 0, 0);
}

static void test_heartbeat(struct txn_fixture *f)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    assert_int_equal(txn_prewrite_one(f, &put, MS(1000)), 0);
    static const struct {
        uint64_t start_ts, advise, ttl;
        uint8_t error;
    } rows[] = {{MS(1000), 5000, 5000, 0},
                {MS(1000), 100, 5000, 0},
                {MS(1001), 5000, 0, TXN_ERROR_TXN_NOT_FOUND}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_heartbeat beat;
        txn_command_init(&beat.base, TXN_HEARTBEAT);
        beat.primary = S("k");
        beat.start_ts = rows[i].start_ts;
        beat.advise_ttl_ms = rows[i].advise;
        assert_int_equal(txn_run(f, &beat.base), 0);
        assert_int_equal(beat.error.kind, rows[i].error);
        assert_int_equal(beat.lock_ttl_ms, rows[i].ttl);
        txn_command_deinit(&beat.base);
    }
    struct txn_check_status check;
    txn_make_check(&check, S("k"), MS(1000), 0, MS(6000));
    check_expecting(f, &check, 0, TXN_ACTION_NONE, 5000, 0);
}

static void test_cleanup(struct txn_fixture *f)
{
    struct txn_mutation put = txn_put_of(S("k"), S("v"));
    assert_int_equal(txn_prewrite_one(f, &put, MS(1000)), 0);
    assert_int_equal(txn_put(f, S("done"), S("v"), MS(1000), MS(1500)), 0);
    static const struct {
        const char *key;
        uint64_t current_ts;
        uint8_t error;
        uint64_t commit_ts;
    } rows[] = {{"k", MS(4000), TXN_ERROR_LOCKED, 0},
                {"k", MS(4001), 0, 0},
                {"k", 0, 0, 0},
                {"done", MS(9000), 0, MS(1500)}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_cleanup cleanup;
        txn_command_init(&cleanup.base, TXN_CLEANUP);
        cleanup.key = slice_of_string(rows[i].key);
        cleanup.start_ts = MS(1000);
        cleanup.current_ts = rows[i].current_ts;
        assert_int_equal(txn_run(f, &cleanup.base), 0);
        assert_int_equal(cleanup.error.kind, rows[i].error);
        assert_true(cleanup.commit_ts == rows[i].commit_ts);
        txn_command_deinit(&cleanup.base);
    }
    assert_int_equal(txn_prewrite_one(f, &put, MS(1000)), TXN_ERROR_WRITE_CONFLICT);
}

static void test_resolve_keys(struct txn_fixture *f)
{
    struct txn_mutation puts[] = {txn_put_of(S("a"), S("1")), txn_put_of(S("b"), S("2")),
                                  txn_put_of(S("c"), S("3"))};
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, puts, 3, S("a"), 10);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    txn_command_deinit(&prewrite.base);
    assert_int_equal(txn_commit_one(f, S("a"), 10, 20), 0);
    struct txn_status status = {.start_ts = 10, .commit_ts = 20};
    struct txn_resolve_lock resolve;
    kvs_slice keys[] = {S("b")};
    txn_make_resolve(&resolve, &status, 1);
    resolve.keys = keys;
    resolve.keys_count = 1;
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, 0);
    txn_command_deinit(&resolve.base);
    assert_sees(f, S("b"), 20, "2");
    status.commit_ts = 10;
    keys[0] = S("c");
    txn_make_resolve(&resolve, &status, 1);
    resolve.keys = keys;
    resolve.keys_count = 1;
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, TXN_ERROR_ABORT);
    txn_command_deinit(&resolve.base);
    txn_make_resolve(&resolve, &(struct txn_status){.start_ts = 10}, 1);
    resolve.keys = (kvs_slice[]){S("a")};
    resolve.keys_count = 1;
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, TXN_ERROR_ABORT); /* never both */
    txn_command_deinit(&resolve.base);
}

static void test_misuse(struct txn_fixture *f)
{
    struct txn_get get;
    txn_make_get(&get, S("k"), 10);
    get.base.kind = 99;
    assert_int_equal(txn_run(f, &get.base), KVS_ERR_INVALID_ARGUMENT);
    struct txn_mutation odd = {.op = 77, .key = S("k")};
    assert_int_equal(txn_prewrite_one(f, &odd, 10), KVS_ERR_INVALID_ARGUMENT);
    odd.op = TXN_OP_PESSIMISTIC_LOCK;
    assert_int_equal(txn_prewrite_one(f, &odd, 10), KVS_ERR_INVALID_ARGUMENT);
    struct txn_commit commit; /* nothing to do is done */
    txn_make_commit(&commit, NULL, 0, 10, 20);
    assert_int_equal(txn_run(f, &commit.base), 0);
    txn_command_deinit(&commit.base);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"a reader sees what was committed by its time", test_versions},
        {"values and keys of every size", test_long_values_and_keys},
        {"a lock is in the way of later readers", test_lock_blocks_readers},
        {"locks and versions at RCCheckTS", test_lock_conflicts_at_check_ts},
        {"a lock without a change is in nobody's way", test_lock_only_blocks_nobody},
        {"prewrite meets locks and commits", test_prewrite_conflicts},
        {"prewrite names all locked keys", test_all_locked_keys_are_named},
        {"insert and check-not-exists", test_insert_and_not_exists},
        {"assertions", test_assertions},
        {"assertions after the end", test_assertions_after_the_end},
        {"commit", test_commit},
        {"rollback", test_rollback},
        {"rollback where another has committed", test_overlapped_rollback},
        {"check status", test_check_status},
        {"check status of what is no primary", test_check_status_of_a_secondary},
        {"heartbeat", test_heartbeat},
        {"cleanup", test_cleanup},
        {"resolve by keys", test_resolve_keys},
        {"misuse", test_misuse},
    };
    return txn_tests_run("txn-optimistic", tests, sizeof tests / sizeof tests[0]);
}
