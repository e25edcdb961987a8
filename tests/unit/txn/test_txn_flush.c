/* Transactions that flush their writes while they run, and read them back: docs/txn.md. */
#include "unit/txn/txn_fixture.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

#define LONG_SIZE 3000u

static void make_flush(struct txn_prewrite *flush, const struct txn_mutation *mutations,
                       uint32_t count, kvs_slice primary, uint64_t start_ts, uint64_t generation)
{
    txn_make_prewrite(flush, mutations, count, primary, start_ts);
    flush->generation = generation;
    flush->txn_size = UINT64_MAX;
}

/* The kind of the first key error, or the negative op.error. */
static int flush_one(struct txn_fixture *f, struct txn_mutation mutation, kvs_slice primary,
                     uint64_t start_ts, uint64_t generation)
{
    struct txn_prewrite flush;
    make_flush(&flush, &mutation, 1, primary, start_ts, generation);
    flush.assertion_level = TXN_ASSERT_STRICT;
    int result = txn_run(f, &flush.base);
    if (result == 0 && flush.errors_count > 0)
        result = flush.errors[0].kind;
    txn_command_deinit(&flush.base);
    return result;
}

static struct txn_mutation mutation_of(enum txn_op op, kvs_slice key, kvs_slice value)
{
    return (struct txn_mutation){.op = (uint8_t)op, .key = key, .value = value};
}

/* What the transaction reads of its own: "value", "" for what it deleted, "-" for nothing. */
static const char *own(struct txn_fixture *f, kvs_slice key, uint64_t start_ts)
{
    static char text[64];
    struct txn_batch_get get;
    txn_command_init(&get.base, TXN_BUFFER_GET);
    get.read.ts = start_ts;
    get.keys = &key;
    get.keys_count = 1;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.error.kind, TXN_ERROR_NONE);
    assert_true(get.pairs_count <= 1);
    if (get.pairs_count == 0)
        snprintf(text, sizeof text, "-");
    else
        snprintf(text, sizeof text, "%.*s",
                 (int)(get.pairs[0].value.size < 40 ? get.pairs[0].value.size : 40),
                 get.pairs[0].value.size > 0 ? (const char *)get.pairs[0].value.data : "");
    txn_command_deinit(&get.base);
    return text;
}

static void assert_own(struct txn_fixture *f, kvs_slice key, uint64_t start_ts, const char *value)
{
    assert_string_equal(own(f, key, start_ts), value);
}

static void assert_sees(struct txn_fixture *f, kvs_slice key, uint64_t ts, const char *value)
{
    assert_string_equal(txn_see(f, key, ts), value);
}

static void get_mvcc(struct txn_fixture *f, struct txn_mvcc *mvcc, kvs_slice key)
{
    txn_command_init(&mvcc->base, TXN_MVCC_BY_KEY);
    mvcc->key = key;
    assert_int_equal(txn_run(f, &mvcc->base), 0);
}

/* All locks of the transaction, over everything there is. */
static void resolve_all(struct txn_fixture *f, uint64_t start_ts, uint64_t commit_ts)
{
    struct txn_status status = {.start_ts = start_ts, .commit_ts = commit_ts};
    struct txn_resolve_lock resolve;
    txn_make_resolve(&resolve, &status, 1);
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, TXN_ERROR_NONE);
    txn_command_deinit(&resolve.base);
}

/* Three generations, the last word of each key wins; the primary decides, a range does the rest. */
static void test_commit(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("b"), S("before"), 10, 11), 0);
    assert_int_equal(txn_put(f, S("d"), S("before"), 10, 11), 0);
    const struct txn_mutation first[] = {mutation_of(TXN_OP_PUT, S("a"), S("1")),
                                         mutation_of(TXN_OP_PUT, S("b"), S("1")),
                                         mutation_of(TXN_OP_INSERT, S("c"), S("1"))};
    struct txn_prewrite flush;
    make_flush(&flush, first, 3, S("a"), 20, 1);
    assert_int_equal(txn_run(f, &flush.base), 0);
    assert_int_equal(flush.errors_count, 0);
    txn_command_deinit(&flush.base);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_DELETE, S("b"), S("")), S("a"), 20, 2), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_PUT, S("c"), S("2")), S("a"), 20, 2), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_PUT, S("c"), S("3")), S("a"), 20, 3), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_DELETE, S("d"), S("")), S("a"), 20, 3), 0);
    assert_own(f, S("a"), 20, "1");
    assert_own(f, S("b"), 20, "");
    assert_own(f, S("c"), 20, "3");
    assert_own(f, S("e"), 20, "-");
    assert_own(f, S("a"), 21, "-"); /* of another */
    char locked[8];
    snprintf(locked, sizeof locked, "!%d", TXN_ERROR_LOCKED);
    assert_sees(f, S("c"), 30, locked);
    assert_sees(f, S("b"), 15, "before");
    assert_int_equal(txn_commit_one(f, S("a"), 20, 40), 0);
    assert_own(f, S("a"), 20, "-");
    resolve_all(f, 20, 40);
    assert_sees(f, S("a"), 40, "1");
    assert_sees(f, S("b"), 40, "-");
    assert_sees(f, S("c"), 40, "3");
    assert_sees(f, S("d"), 40, "-");
    assert_sees(f, S("d"), 39, "before");
}

static void test_generations(struct txn_fixture *f)
{
    const struct txn_mutation one = mutation_of(TXN_OP_PUT, S("k"), S("one"));
    const struct txn_mutation two = mutation_of(TXN_OP_PUT, S("k"), S("two"));
    const struct txn_mutation lost = mutation_of(TXN_OP_PUT, S("k"), S("lost"));
    assert_int_equal(flush_one(f, one, S("k"), 20, 2), 0);
    assert_int_equal(flush_one(f, lost, S("k"), 20, 2), 0); /* twice: the first counts */
    assert_own(f, S("k"), 20, "one");
    assert_int_equal(flush_one(f, lost, S("k"), 20, 1), 0); /* late: as if it had not come */
    assert_own(f, S("k"), 20, "one");
    assert_int_equal(flush_one(f, two, S("k"), 20, UINT64_MAX), 0);
    assert_own(f, S("k"), 20, "two");
    /* What only holds the key leaves what is there. */
    assert_int_equal(flush_one(f, two, S("m"), 20, 1), 0);
    assert_int_equal(flush_one(f, one, S("n"), 20, 1), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_LOCK, S("k"), S("")), S("k"), 20, 9), 0);
    assert_own(f, S("k"), 20, "two");
    /* And is written over. */
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_LOCK, S("l"), S("")), S("k"), 20, 1), 0);
    assert_own(f, S("l"), 20, "-");
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_PUT, S("l"), S("v")), S("k"), 20, 2), 0);
    assert_own(f, S("l"), 20, "v");
    /* Not what was prewritten otherwise, nor is it prewritten again. */
    assert_int_equal(txn_prewrite_one(f, &lost, 20), 0);
    assert_own(f, S("k"), 20, "two");
    const struct txn_mutation plain = mutation_of(TXN_OP_PUT, S("p"), S("v"));
    assert_int_equal(txn_prewrite_one(f, &plain, 20), 0);
    assert_int_equal(flush_one(f, plain, S("p"), 20, 1), TXN_ERROR_ABORT);
}

/* Long values lie elsewhere, and go when nobody means them any more. */
static void test_long_values(struct txn_fixture *f)
{
    char value[LONG_SIZE];
    memset(value, 'v', sizeof value);
    const kvs_slice text = slice_make(value, sizeof value);
    static const struct {
        enum txn_op op;
        bool is_long;
    } steps[] = {{TXN_OP_PUT, true},  {TXN_OP_PUT, true},     {TXN_OP_PUT, false},
                 {TXN_OP_PUT, true},  {TXN_OP_DELETE, false}, {TXN_OP_PUT, true},
                 {TXN_OP_LOCK, false}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        bool is_long = steps[i].is_long;
        kvs_slice v = steps[i].op != TXN_OP_PUT ? S("") : is_long ? text : S("short");
        assert_int_equal(flush_one(f, mutation_of(steps[i].op, S("k"), v), S("k"), 20, i + 1), 0);
        struct txn_mvcc mvcc;
        get_mvcc(f, &mvcc, S("k"));
        assert_true(mvcc.has_lock);
        assert_int_equal(mvcc.values_count, is_long || steps[i].op == TXN_OP_LOCK ? 1 : 0);
        txn_command_deinit(&mvcc.base);
        if (is_long)
            assert_int_equal(own(f, S("k"), 20)[39], 'v');
    }
    assert_int_equal(txn_commit_one(f, S("k"), 20, 30), 0);
    struct txn_get get;
    txn_make_get(&get, S("k"), 30);
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.value.size, LONG_SIZE);
    txn_command_deinit(&get.base);
}

static void test_conflicts(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 10, 30), 0);
    const struct txn_mutation put = mutation_of(TXN_OP_PUT, S("k"), S("w"));
    assert_int_equal(flush_one(f, put, S("k"), 20, 1), TXN_ERROR_WRITE_CONFLICT);
    const struct txn_mutation insert = mutation_of(TXN_OP_INSERT, S("k"), S("w"));
    assert_int_equal(flush_one(f, insert, S("k"), 40, 1), TXN_ERROR_ALREADY_EXISTS);
    const struct txn_mutation check = mutation_of(TXN_OP_CHECK_NOT_EXISTS, S("k"), S(""));
    assert_int_equal(flush_one(f, check, S("k"), 40, 1), TXN_ERROR_ALREADY_EXISTS);
    /* Locks of others, of every kind, and theirs against ours. */
    assert_int_equal(flush_one(f, put, S("k"), 40, 1), 0);
    assert_int_equal(flush_one(f, put, S("k"), 50, 1), TXN_ERROR_LOCKED);
    assert_int_equal(txn_prewrite_one(f, &put, 50), TXN_ERROR_LOCKED);
    assert_int_equal(txn_lock_one(f, S("k"), 50, 50), TXN_ERROR_LOCKED);
    assert_int_equal(txn_lock_one(f, S("p"), 40, 40), 0);
    const struct txn_mutation other = mutation_of(TXN_OP_PUT, S("p"), S("w"));
    assert_int_equal(flush_one(f, other, S("p"), 50, 1), TXN_ERROR_LOCKED);
    assert_int_equal(flush_one(f, other, S("p"), 40, 1), TXN_ERROR_ABORT); /* it is optimistic */
    /* All locked keys are named. */
    const struct txn_mutation both[] = {put, other};
    struct txn_prewrite flush;
    make_flush(&flush, both, 2, S("k"), 60, 1);
    assert_int_equal(txn_run(f, &flush.base), 0);
    assert_int_equal(flush.errors_count, 2);
    assert_true(flush.errors[0].lock.txn_size == UINT64_MAX);
    assert_int_equal(flush.errors[0].lock.min_commit_ts, 41);
    txn_command_deinit(&flush.base);
    make_flush(&flush, &put, 1, S("k"), 60, 1);
    flush.for_update_ts = 60;
    assert_int_equal(txn_run(f, &flush.base), KVS_ERR_INVALID_ARGUMENT);
    txn_command_deinit(&flush.base);
    make_flush(&flush, &put, 1, S("k"), 60, 1);
    flush.use_async_commit = true;
    assert_int_equal(txn_run(f, &flush.base), KVS_ERR_INVALID_ARGUMENT);
    txn_command_deinit(&flush.base);
}

/* Of what the transaction flushed itself counts the last. */
static void test_existence(struct txn_fixture *f)
{
    struct txn_mutation put = mutation_of(TXN_OP_PUT, S("k"), S("v"));
    const struct txn_mutation insert = mutation_of(TXN_OP_INSERT, S("k"), S("w"));
    const struct txn_mutation check = mutation_of(TXN_OP_CHECK_NOT_EXISTS, S("k"), S(""));
    assert_int_equal(flush_one(f, check, S("k"), 20, 1), 0);
    assert_own(f, S("k"), 20, "-");
    put.assertion = TXN_ASSERT_EXIST;
    assert_int_equal(flush_one(f, put, S("k"), 20, 1), TXN_ERROR_ASSERTION_FAILED);
    put.assertion = TXN_ASSERT_NOT_EXIST;
    assert_int_equal(flush_one(f, put, S("k"), 20, 1), 0);
    put.assertion = TXN_ASSERT_EXIST; /* it speaks of what the transaction sees by now */
    assert_int_equal(flush_one(f, put, S("k"), 20, 2), 0);
    assert_int_equal(flush_one(f, insert, S("k"), 20, 3), TXN_ERROR_ALREADY_EXISTS);
    assert_int_equal(flush_one(f, check, S("k"), 20, 3), TXN_ERROR_ALREADY_EXISTS);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_DELETE, S("k"), S("")), S("k"), 20, 4), 0);
    assert_int_equal(flush_one(f, check, S("k"), 20, 5), 0);
    assert_own(f, S("k"), 20, "");
    assert_int_equal(flush_one(f, insert, S("k"), 20, 6), 0);
    assert_own(f, S("k"), 20, "w");
    /* Under a lock that only holds the key is what was committed. */
    assert_int_equal(txn_put(f, S("m"), S("v"), 5, 6), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_LOCK, S("m"), S("")), S("k"), 20, 1), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_INSERT, S("m"), S("v")), S("k"), 20, 2),
                     TXN_ERROR_ALREADY_EXISTS);
}

/* Heartbeats and readers have raised what the lock says; a flush does not take it back. */
static void test_what_others_were_told(struct txn_fixture *f)
{
    const struct txn_mutation put = mutation_of(TXN_OP_PUT, S("k"), S("v"));
    const uint64_t start = txn_ts_make(1000, 0);
    assert_int_equal(flush_one(f, put, S("k"), start, 1), 0);
    struct txn_heartbeat beat;
    txn_command_init(&beat.base, TXN_HEARTBEAT);
    beat.primary = S("k");
    beat.start_ts = start;
    beat.advise_ttl_ms = 60000;
    beat.min_commit_ts = start + 500;
    assert_int_equal(txn_run(f, &beat.base), 0);
    assert_int_equal(beat.lock_ttl_ms, 60000);
    txn_command_deinit(&beat.base);
    struct txn_check_status check;
    txn_make_check(&check, S("k"), start, start + 700, start + 800);
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.action, TXN_ACTION_MIN_COMMIT_TS_PUSHED);
    txn_command_deinit(&check.base);
    assert_int_equal(flush_one(f, put, S("k"), start, 2), 0);
    struct txn_mvcc mvcc;
    get_mvcc(f, &mvcc, S("k"));
    assert_int_equal(mvcc.lock.ttl_ms, 60000);
    assert_true(mvcc.lock.min_commit_ts == start + 800);
    txn_command_deinit(&mvcc.base);
    assert_int_equal(txn_commit_one(f, S("k"), start, start + 799), TXN_ERROR_COMMIT_TS_EXPIRED);
    assert_int_equal(txn_commit_one(f, S("k"), start, start + 800), 0);
}

/* The transaction is given up, by itself or by others; what comes late finds that out. */
static void test_rollback(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("old"), 10, 11), 0);
    char value[LONG_SIZE];
    memset(value, 'v', sizeof value);
    const struct txn_mutation put =
        mutation_of(TXN_OP_PUT, S("k"), slice_make(value, sizeof value));
    const struct txn_mutation primary = mutation_of(TXN_OP_PUT, S("a"), S("v"));
    const uint64_t start = txn_ts_make(1000, 0);
    assert_int_equal(flush_one(f, primary, S("a"), start, 1), 0);
    assert_int_equal(flush_one(f, put, S("k"), start, 1), 0);
    struct txn_check_status check;
    txn_make_check(&check, S("a"), start, 0, txn_ts_make(9000, 0));
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.action, TXN_ACTION_TTL_EXPIRE_ROLLBACK);
    txn_command_deinit(&check.base);
    resolve_all(f, start, 0);
    assert_sees(f, S("k"), TXN_TS_MAX, "old");
    assert_own(f, S("k"), start, "-");
    struct txn_mvcc mvcc;
    get_mvcc(f, &mvcc, S("k"));
    assert_false(mvcc.has_lock);
    assert_int_equal(mvcc.values_count, 0);
    txn_command_deinit(&mvcc.base);
    assert_int_equal(flush_one(f, put, S("k"), start, 1), TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(flush_one(f, primary, S("a"), start, 2), TXN_ERROR_WRITE_CONFLICT);
    assert_int_equal(txn_commit_one(f, S("a"), start, start + 9), TXN_ERROR_LOCK_NOT_FOUND);
}

/* A request that comes again after the end changes nothing. */
static void test_late_after_commit(struct txn_fixture *f)
{
    const struct txn_mutation put = mutation_of(TXN_OP_PUT, S("k"), S("v"));
    assert_int_equal(flush_one(f, put, S("k"), 20, 1), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 20, 30), 0);
    assert_int_equal(flush_one(f, put, S("k"), 20, 1), 0);
    assert_own(f, S("k"), 20, "-");
    assert_sees(f, S("k"), 40, "v");
    assert_int_equal(txn_put(f, S("k"), S("w"), 50, 60), 0);
    assert_int_equal(flush_one(f, put, S("k"), 20, 1), 0);
    assert_sees(f, S("k"), 70, "w");
}

static void test_survives_a_restart(struct txn_fixture *f)
{
    if (f->base.kind == &txn_engine_memory)
        return;
    const struct txn_mutation one = mutation_of(TXN_OP_PUT, S("k"), S("one"));
    const struct txn_mutation two = mutation_of(TXN_OP_PUT, S("k"), S("two"));
    assert_int_equal(flush_one(f, two, S("k"), 20, 2), 0);
    assert_int_equal(txn_fixture_reopen(f), 0);
    assert_int_equal(flush_one(f, one, S("k"), 20, 1), 0);
    assert_own(f, S("k"), 20, "two");
    assert_int_equal(flush_one(f, one, S("k"), 20, 3), 0);
    assert_own(f, S("k"), 20, "one");
}

static void test_own_reads(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("c"), S("committed"), 10, 11), 0);
    const struct txn_mutation empty = mutation_of(TXN_OP_PUT, S("e"), S(""));
    assert_int_equal(flush_one(f, empty, S("e"), 20, 1), 0);
    assert_int_equal(flush_one(f, mutation_of(TXN_OP_PUT, S("a"), S("v")), S("e"), 20, 1), 0);
    assert_int_equal(txn_lock_one(f, S("p"), 20, 20), 0);
    const kvs_slice keys[] = {S("e"), S("c"), S("a"), S("p"), S("e"), S("")};
    struct txn_batch_get get;
    txn_command_init(&get.base, TXN_BUFFER_GET);
    get.read.ts = 20;
    get.keys = keys;
    get.keys_count = 6;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(get.pairs_count, 3);
    assert_slice_equal(get.pairs[0].key, "e");
    assert_slice_equal(get.pairs[0].value, "");
    assert_slice_equal(get.pairs[1].key, "a");
    assert_slice_equal(get.pairs[1].value, "v");
    assert_slice_equal(get.pairs[2].key, "e");
    txn_command_deinit(&get.base);
    txn_command_init(&get.base, TXN_BUFFER_GET);
    get.read.ts = 20;
    get.keys = keys;
    get.keys_count = 6;
    get.size_bytes_max = 1;
    assert_int_equal(txn_run(f, &get.base), 0); /* one byte it has */
    txn_command_deinit(&get.base);
    uint8_t large[KVS_KEY_SIZE_MAX + 1] = {0};
    const kvs_slice too_large = slice_make(large, sizeof large);
    txn_command_init(&get.base, TXN_BUFFER_GET);
    get.read.ts = 20;
    get.keys = &too_large;
    get.keys_count = 1;
    assert_int_equal(txn_run(f, &get.base), KVS_ERR_TOO_LARGE);
    txn_command_deinit(&get.base);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"generations, and the commit of all", test_commit},
        {"the newest generation counts", test_generations},
        {"long values", test_long_values},
        {"conflicts", test_conflicts},
        {"what exists for the transaction itself", test_existence},
        {"what heartbeats and readers have raised stays", test_what_others_were_told},
        {"rollback", test_rollback},
        {"late requests after the commit", test_late_after_commit},
        {"a restart in between", test_survives_a_restart},
        {"reads of what was flushed", test_own_reads},
    };
    return txn_tests_run("txn-flush", tests, sizeof tests / sizeof tests[0]);
}
