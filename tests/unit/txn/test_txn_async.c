/* Async commit and one-phase commit: timestamps of the node's own choice. */
#include "unit/txn/txn_fixture.h"

#include "runtime/loop.h"
#include "txn/job.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

static void make(struct txn_prewrite *prewrite, const struct txn_mutation *mutations,
                 uint32_t count, uint64_t start_ts, bool async, bool one_pc)
{
    txn_make_prewrite(prewrite, mutations, count, mutations[0].key, start_ts);
    prewrite->use_async_commit = async;
    prewrite->try_one_pc = one_pc;
}

static void raise_max_ts(struct txn_fixture *f, uint64_t ts)
{
    (void)txn_see(f, S("nothing"), ts);
}

static void test_one_phase(struct txn_fixture *f)
{
    raise_max_ts(f, 500);
    struct txn_mutation mutations[] = {txn_put_of(S("a"), S("1")),
                                       {.op = TXN_OP_DELETE, .key = S("b")},
                                       txn_put_of(S("c"), S("3"))};
    struct txn_prewrite prewrite;
    make(&prewrite, mutations, 3, 100, true, true);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 0);
    assert_int_equal(prewrite.one_pc_commit_ts, 501);
    assert_int_equal(prewrite.min_commit_ts_found, 501);
    txn_command_deinit(&prewrite.base);
    assert_string_equal(txn_see(f, S("a"), 500), "-");
    assert_string_equal(txn_see(f, S("a"), 501), "1");
    assert_string_equal(txn_see(f, S("c"), TXN_TS_MAX), "3");
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_LOCK), 0);
    /* sent again: it says the same, and nothing happens */
    make(&prewrite, mutations, 3, 100, false, true);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 0);
    assert_int_equal(prewrite.one_pc_commit_ts, 501);
    txn_command_deinit(&prewrite.base);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_WRITE), 3);
    struct txn_mutation put = txn_put_of(S("a"), S("2"));
    make(&prewrite, &put, 1, 400, false, true);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors[0].kind, TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(prewrite.one_pc_commit_ts, 0);
    txn_command_deinit(&prewrite.base);
}

static void test_async(struct txn_fixture *f)
{
    raise_max_ts(f, 500);
    struct txn_mutation mutations[] = {txn_put_of(S("a"), S("1")), txn_put_of(S("b"), S("2"))};
    kvs_slice secondaries[] = {S("b"), S("x")};
    struct txn_prewrite prewrite;
    make(&prewrite, mutations, 2, 100, true, false);
    prewrite.secondaries = secondaries;
    prewrite.secondaries_count = 2;
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.min_commit_ts_found, 501);
    assert_int_equal(prewrite.one_pc_commit_ts, 0);
    txn_command_deinit(&prewrite.base);
    /* again: the same answer, though somebody has read since */
    assert_string_equal(txn_see(f, S("a"), 500), "-");
    raise_max_ts(f, 600);
    make(&prewrite, mutations, 2, 100, true, false);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.min_commit_ts_found, 501);
    txn_command_deinit(&prewrite.base);
    struct txn_check_status check;
    txn_make_check(&check, S("a"), 100, 700, TXN_TS_MAX); /* never expires by itself */
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.action, TXN_ACTION_NONE);
    assert_true(check.lock.use_async_commit);
    assert_int_equal(check.lock.min_commit_ts, 501);
    assert_int_equal(check.lock.secondaries_count, 2);
    assert_slice_equal(check.lock.secondaries[1], "x");
    txn_command_deinit(&check.base);
    struct txn_get get; /* the primary of async commit is no exception for the newest */
    txn_make_get(&get, S("a"), TXN_TS_MAX);
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.error.kind, TXN_ERROR_LOCKED);
    txn_command_deinit(&get.base);
    assert_int_equal(txn_commit_one(f, S("a"), 100, 500), TXN_ERROR_COMMIT_TS_EXPIRED);
    assert_int_equal(txn_commit_one(f, S("a"), 100, 501), 0);
    assert_int_equal(txn_commit_one(f, S("b"), 100, 501), 0);
    make(&prewrite, mutations, 2, 100, true, false);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.min_commit_ts_found, 501); /* late: what it committed at */
    txn_command_deinit(&prewrite.base);
}

/* A request that leaves no lock: with 0 its client would go on in two phases, while all locks of
 * its other requests say that they are of one. */
static void test_only_checks(struct txn_fixture *f)
{
    raise_max_ts(f, 500);
    for (unsigned one_pc = 0; one_pc < 2; one_pc++) {
        struct txn_mutation mutations[] = {{.op = TXN_OP_CHECK_NOT_EXISTS, .key = S("a")},
                                           {.op = TXN_OP_CHECK_NOT_EXISTS, .key = S("b")}};
        struct txn_prewrite prewrite;
        make(&prewrite, mutations, 2, 100, one_pc == 0, one_pc != 0);
        assert_int_equal(txn_run(f, &prewrite.base), 0);
        assert_int_equal(prewrite.errors_count, 0);
        assert_int_equal(prewrite.min_commit_ts_found, one_pc == 0 ? 101 : 0);
        assert_int_equal(prewrite.one_pc_commit_ts, one_pc == 0 ? 0 : 101);
        txn_command_deinit(&prewrite.base);
    }
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_LOCK), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_WRITE), 0);
}

/* Over max_commit_ts the request is an ordinary one. */
static void test_fall_back(struct txn_fixture *f)
{
    raise_max_ts(f, 500);
    for (unsigned one_pc = 0; one_pc < 2; one_pc++) {
        struct txn_mutation mutations[] = {txn_put_of(S("a"), S("1")), txn_put_of(S("b"), S("2"))};
        struct txn_prewrite prewrite;
        uint64_t start_ts = 100 + one_pc;
        make(&prewrite, mutations, 2, start_ts, true, one_pc != 0);
        prewrite.max_commit_ts = 500;
        assert_int_equal(txn_run(f, &prewrite.base), 0);
        assert_int_equal(prewrite.errors_count, 0);
        assert_int_equal(prewrite.min_commit_ts_found, 0);
        assert_int_equal(prewrite.one_pc_commit_ts, 0);
        txn_command_deinit(&prewrite.base);
        struct txn_check_status check;
        txn_make_check(&check, S("a"), start_ts, 0, 0);
        assert_int_equal(txn_run(f, &check.base), 0);
        assert_false(check.lock.use_async_commit);
        assert_int_equal(check.lock.min_commit_ts, start_ts + 1);
        txn_command_deinit(&check.base);
        /* asked again without the bound, its locks are ordinary still */
        make(&prewrite, mutations, 2, start_ts, true, one_pc != 0);
        assert_int_equal(txn_run(f, &prewrite.base), 0);
        assert_int_equal(prewrite.min_commit_ts_found, 0);
        assert_int_equal(prewrite.one_pc_commit_ts, 0);
        txn_command_deinit(&prewrite.base);
        assert_int_equal(txn_rollback_one(f, S("a"), start_ts), 0);
        assert_int_equal(txn_rollback_one(f, S("b"), start_ts), 0);
    }
}

/* A commit at the start of a transaction that was rolled back: the rollback is not forgotten. */
static void test_commit_over_rollback(struct txn_fixture *f)
{
    raise_max_ts(f, 500);
    struct txn_mutation mutations[] = {txn_put_of(S("a"), S("1"))};
    struct txn_prewrite prewrite;
    make(&prewrite, mutations, 1, 100, true, false);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    txn_command_deinit(&prewrite.base);
    assert_int_equal(txn_rollback_one(f, S("a"), 501), 0);
    assert_int_equal(txn_commit_one(f, S("a"), 100, 501), 0);
    struct txn_mutation late = txn_put_of(S("a"), S("late"));
    make(&prewrite, &late, 1, 501, false, false);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors[0].reason, TXN_CONFLICT_SELF_ROLLED_BACK);
    txn_command_deinit(&prewrite.base);
}

static void check_secondaries(struct txn_fixture *f, uint64_t start_ts, uint32_t locks,
                              uint64_t commit_ts)
{
    kvs_slice keys[] = {S("a"), S("b")};
    struct txn_check_secondaries check;
    txn_command_init(&check.base, TXN_CHECK_SECONDARIES);
    check.keys = keys;
    check.keys_count = 2;
    check.start_ts = start_ts;
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.error.kind, 0);
    assert_int_equal(check.locks_count, locks);
    assert_int_equal(check.commit_ts, commit_ts);
    txn_command_deinit(&check.base);
}

static void test_check_secondaries(struct txn_fixture *f)
{
    struct txn_mutation mutations[] = {txn_put_of(S("a"), S("1")), txn_put_of(S("b"), S("2"))};
    struct txn_prewrite prewrite;
    make(&prewrite, mutations, 2, 100, true, false);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    txn_command_deinit(&prewrite.base);
    check_secondaries(f, 100, 2, 0);
    assert_int_equal(txn_commit_one(f, S("b"), 100, 150), 0);
    check_secondaries(f, 100, 0, 150);
    assert_int_equal(txn_commit_one(f, S("a"), 100, 150), 0);
    make(&prewrite, mutations, 1, 200, true, false);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    txn_command_deinit(&prewrite.base);
    check_secondaries(f, 200, 0, 0); /* one is missing: rolled back for good */
    assert_int_equal(txn_prewrite_one(f, &mutations[1], 200), TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(txn_lock_one(f, S("a"), 200, 300), TXN_ERROR_ABORT);
    assert_int_equal(txn_rollback_one(f, S("a"), 200), 0);
    assert_int_equal(txn_lock_one(f, S("a"), 400, 400), 0);
    check_secondaries(f, 400, 0, 0); /* a pessimistic lock is no sign of a prewrite */
    assert_int_equal(txn_lock_one(f, S("a"), 500, 500), 0);
}

/* A lock with a long list, asked for often, is not told without end. */
static void test_long_lists(struct txn_fixture *f)
{
    static kvs_slice keys[10000];
    struct txn_mutation mutation = txn_put_of(S("a"), S("1"));
    struct txn_prewrite prewrite;
    make(&prewrite, &mutation, 1, 100, true, false);
    for (unsigned i = 0; i < 10000; i++)
        keys[i] = S("a");
    prewrite.secondaries = keys;
    prewrite.secondaries_count = 10000;
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 0);
    txn_command_deinit(&prewrite.base);
    for (unsigned count = 1; count <= 1000; count += 999) {
        struct txn_check_secondaries check;
        txn_command_init(&check.base, TXN_CHECK_SECONDARIES);
        check.keys = keys;
        check.keys_count = count;
        check.start_ts = 100;
        assert_int_equal(txn_run(f, &check.base), count == 1 ? 0 : KVS_ERR_TOO_LARGE);
        if (count == 1)
            assert_int_equal(check.locks[0].secondaries_count, 10000);
        txn_command_deinit(&check.base);
    }
}

/* --- the table of locks that only readers see ------------------------------------------------- */

static int count_each(void *arg, const struct pending_lock *pending)
{
    (void)pending;
    ++*(unsigned *)arg;
    return 0;
}

static void test_pending(struct txn_fixture *f)
{
    (void)f;
    static struct pending_table table;
    pending_init(&table, 10);
    pending_raise_max_ts(&table, 7);
    assert_int_equal(pending_max_ts(&table), 10);
    pending_raise_max_ts(&table, TXN_TS_MAX);
    assert_int_equal(pending_max_ts(&table), 10);
    pending_raise_max_ts(&table, 20);
    struct pending_lock locks[] = {{.key = S("a"), .lock.min_commit_ts = 5},
                                   {.key = S("b"), .lock.min_commit_ts = 50}};
    assert_true(pending_is_empty(&table));
    pending_publish(&table, locks, 2);
    assert_int_equal(locks[0].lock.min_commit_ts, 21);
    assert_int_equal(locks[1].lock.min_commit_ts, 50);
    unsigned count = 0;
    pending_find(&table, S("a"), count_each, &count);
    pending_find(&table, S("c"), count_each, &count);
    assert_int_equal(count, 1);
    pending_walk(&table, count_each, &count);
    assert_int_equal(count, 3);
    uint64_t departures = pending_departures(&table);
    pending_withdraw(&table, &locks[0], 1);
    assert_int_equal(pending_departures(&table), departures + 1);
    pending_find(&table, S("a"), count_each, &count);
    assert_int_equal(count, 3);
    pending_withdraw(&table, &locks[1], 1);
    assert_true(pending_is_empty(&table));
    pending_deinit(&table);
}

/* A prewrite under way, acted by the test: its latch and its lock, which the engine shows late. */
struct under_way {
    struct latch_claim claim;
    struct arena arena;
    kvs_slice key;
    struct pending_lock lock;
};

static void under_way_begin(struct txn_fixture *f, struct under_way *it, kvs_slice key)
{
    *it = (struct under_way){.key = key};
    assert_int_equal(latch_claim_set(&it->claim, &it->arena, &it->key, 1), 0);
    assert_true(latch_acquire(&f->node->latches, &it->claim));
    it->lock = (struct pending_lock){
        .key = key,
        .lock = {.type = TXN_OP_PUT, .primary = key, .start_ts = 50, .min_commit_ts = 51}};
    pending_publish(&f->node->pending, &it->lock, 1);
}

/* Its batch is in the engine. */
static void under_way_end(struct txn_fixture *f, struct under_way *it)
{
    pending_withdraw(&f->node->pending, &it->lock, 1);
    struct task_list granted = {0};
    latch_release(&f->node->latches, &it->claim, &granted);
    while (granted.first != NULL)
        loop_post(&f->base.loop, task_list_pop(&granted));
    arena_deinit(&it->arena);
}

static bool somebody_waits(struct txn_fixture *f, struct under_way *it)
{
    return atomic_load(&f->node->latches.slots[it->claim.slots[0]]) > LATCH_TAKEN;
}

/* A read of a key that is being prewritten waits for that; a scan shows the lock. */
static void test_reads_meet_prewrites(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    struct under_way it;
    under_way_begin(f, &it, S("k"));
    assert_string_equal(txn_see(f, S("k"), 50), "v"); /* it commits later than that */
    struct txn_scan scan;
    txn_command_init(&scan.base, TXN_SCAN);
    scan.read.ts = 60;
    scan.limit = 10;
    assert_int_equal(txn_run(f, &scan.base), 0);
    assert_int_equal(scan.pairs_count, 1);
    assert_int_equal(scan.pairs[0].error.lock.start_ts, 50);
    txn_command_deinit(&scan.base);
    for (unsigned reverse = 0; reverse < 2; reverse++) { /* one that wants to be told */
        txn_command_init(&scan.base, TXN_SCAN);
        scan.read.ts = 30;
        scan.read.isolation = TXN_ISOLATION_RC_CHECK_TS;
        scan.limit = 10;
        scan.reverse = reverse != 0;
        assert_int_equal(txn_run(f, &scan.base), 0);
        assert_int_equal(scan.error.kind, TXN_ERROR_WRITE_CONFLICT);
        assert_int_equal(scan.error.reason, TXN_CONFLICT_RC_CHECK_TS);
        assert_int_equal(scan.error.conflict_ts, 50);
        assert_slice_equal(scan.error.key, "k");
        assert_slice_equal(scan.error.primary, "k");
        txn_command_deinit(&scan.base);
    }
    struct txn_scan_lock locks;
    txn_command_init(&locks.base, TXN_SCAN_LOCK);
    locks.max_ts = 60;
    assert_int_equal(txn_run(f, &locks.base), 0);
    assert_int_equal(locks.locks_count, 1);
    txn_command_deinit(&locks.base);
    struct txn_get get;
    struct txn_pending_run run;
    txn_make_get(&get, S("k"), 60);
    assert_false(txn_answer(f->node, &get.base));
    txn_start(f, &run, &get.base);
    while (!somebody_waits(f, &it)) {
    }
    under_way_end(f, &it);
    assert_int_equal(txn_finish(&run), 0);
    assert_int_equal(get.error.kind, 0);
    assert_slice_equal(get.value, "v");
    txn_command_deinit(&get.base);
}

/* A request that was sent twice: the answer of the second is known, and others have written since,
 * when the first arrives. */
static void test_late_duplicates(struct txn_fixture *f)
{
    static const struct {
        uint64_t for_update_ts;
        bool skip_constraint_check;
    } rows[] = {{0, false}, {0, true}, {2010, false}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t ts = i * 1000; /* above all reads before */
        char name[] = {(char)('a' + i), '\0'};
        kvs_slice key = slice_of_string(name);
        struct txn_mutation put = txn_put_of(key, S("v"));
        uint64_t commit_ts[2];
        for (unsigned is_late = 0; is_late < 2; is_late++) {
            struct txn_prewrite prewrite;
            txn_make_prewrite(&prewrite, &put, 1, key, ts + 10);
            prewrite.for_update_ts = rows[i].for_update_ts;
            prewrite.skip_constraint_check = rows[i].skip_constraint_check;
            prewrite.try_one_pc = true;
            prewrite.is_retry = is_late == 0;
            assert_int_equal(txn_run(f, &prewrite.base), 0);
            assert_int_equal(prewrite.errors_count, 0);
            commit_ts[is_late] = prewrite.one_pc_commit_ts;
            txn_command_deinit(&prewrite.base);
            if (is_late != 0)
                continue;
            assert_int_equal(txn_put(f, key, S("newer"), ts + 100, ts + 110), 0);
            assert_string_equal(txn_see(f, key, ts + 120), "newer"); /* it would commit above */
        }
        assert_int_equal(commit_ts[0], commit_ts[1]);
        assert_string_equal(txn_see(f, key, ts + 200), "newer");
    }
}

/* A page of locks: those in the engine, and those of prewrites under way, each in its place. */
static void test_locks_and_prewrites(struct txn_fixture *f)
{
    static const char *const there[] = {"b", "d", "f", "g"};
    static const char *const coming[] = {"a", "c", "d", "h"};
    struct under_way its[4];
    for (unsigned i = 0; i < 4; i++) {
        struct txn_mutation put = txn_put_of(slice_of_string(there[i]), S("v"));
        assert_int_equal(txn_prewrite_one(f, &put, 40), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        under_way_begin(f, &its[i], slice_of_string(coming[i]));
    static const struct {
        uint32_t limit;
        const char *found;
    } rows[] = {{0, "abcdfgh"}, {1, "a"}, {2, "ab"}, {3, "abc"}, {4, "abcd"}, {7, "abcdfgh"}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_scan_lock scan;
        txn_command_init(&scan.base, TXN_SCAN_LOCK);
        scan.max_ts = 60;
        scan.limit = rows[i].limit;
        assert_int_equal(txn_run(f, &scan.base), 0);
        assert_int_equal(scan.locks_count, strlen(rows[i].found));
        for (uint32_t n = 0; n < scan.locks_count; n++) {
            assert_int_equal(scan.locks[n].key.data[0], rows[i].found[n]);
            bool is_there = strchr("bdfg", rows[i].found[n]) != NULL;
            assert_int_equal(scan.locks[n].start_ts, is_there ? 40 : 50);
        }
        txn_command_deinit(&scan.base);
    }
    for (unsigned i = 0; i < 4; i++)
        under_way_end(f, &its[i]);
}

/* After a failed sync nobody knows whether it has happened. */
static void test_doubt(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 20), 0);
    struct under_way it;
    under_way_begin(f, &it, S("k"));
    pending_doubt(&f->node->pending, &it.lock);
    under_way_end(f, &it);
    char failed[16];
    snprintf(failed, sizeof failed, "?%d", KVS_ERR_STORAGE_FAILED);
    assert_string_equal(txn_see(f, S("k"), 50), "v");
    assert_string_equal(txn_see(f, S("k"), 51), failed);
    assert_string_equal(txn_see(f, S("other"), TXN_TS_MAX), failed);
    struct txn_mutation put = txn_put_of(S("new"), S("v"));
    assert_int_equal(txn_prewrite_one(f, &put, 5), KVS_ERR_STORAGE_FAILED);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"one phase", test_one_phase},
        {"async commit", test_async},
        {"checks and nothing else", test_only_checks},
        {"falling back to two phases", test_fall_back},
        {"a commit where a rollback stands", test_commit_over_rollback},
        {"check secondaries", test_check_secondaries},
        {"long lists of keys", test_long_lists},
        {"the table of pending locks", test_pending},
        {"reads meet prewrites under way", test_reads_meet_prewrites},
        {"late duplicates of requests", test_late_duplicates},
        {"locks and prewrites under way", test_locks_and_prewrites},
        {"reads after a failure in doubt", test_doubt},
    };
    return txn_tests_run("txn-async", tests, sizeof tests / sizeof tests[0]);
}
