/*
 * Scans, batch gets and scans of locks. The oracle is the get: whatever a get says of each key of a
 * range in its order, a scan has to say.
 */
#include "unit/txn/txn_fixture.h"

#include "base/mem.h"
#include "base/memcomparable.h"
#include "base/rand.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

#define KEYS 40u
#define STEPS 400u
#define TS_MAX 1000u

static kvs_slice encode(struct arena *arena, kvs_slice key)
{
    uint8_t *to = arena_alloc(arena, memcomparable_size(key.size));
    memcomparable_encode(key, to);
    return slice_make(to, memcomparable_size(key.size));
}

/* --- random histories ------------------------------------------------------------------------- */

static char names[KEYS][24];

static kvs_slice key_of(unsigned i)
{
    return slice_of_string(names[i]);
}

static void names_make(void)
{
    for (unsigned i = 0; i < KEYS; i++) /* of several groups, ascending */
        snprintf(names[i], sizeof names[i], "%02u%.*s", i, (int)(i % 9), "abcdefghij");
}

/* One transaction on a few keys: left, committed or rolled back. */
static void random_txn(struct txn_fixture *f, struct rand *rand, uint64_t start_ts)
{
    static uint8_t value[2000];
    memset(value, (int)('a' + start_ts % 26), sizeof value);
    unsigned fate = (unsigned)rand_below(rand, 10);
    for (unsigned n = 0; n < 1 + start_ts % 4; n++) {
        unsigned key = (unsigned)rand_below(rand, KEYS);
        if (rand_below(rand, 3) == 0)
            key = 7; /* one with many versions */
        static const uint8_t ops[] = {TXN_OP_PUT, TXN_OP_PUT, TXN_OP_DELETE, TXN_OP_LOCK};
        struct txn_mutation mutation = {.op = ops[rand_below(rand, 4)], .key = key_of(key)};
        if (mutation.op == TXN_OP_PUT)
            mutation.value = slice_make(value, rand_below(rand, 4) == 0 ? 300 : 3);
        struct txn_prewrite prewrite;
        txn_make_prewrite(&prewrite, &mutation, 1, S("primary"), start_ts);
        (void)txn_run(f, &prewrite.base);
        bool is_locked = prewrite.errors_count == 0;
        txn_command_deinit(&prewrite.base);
        if (is_locked && fate < 7)
            (void)txn_commit_one(f, mutation.key, start_ts, start_ts + 5);
        else if (is_locked && fate < 9)
            (void)txn_rollback_one(f, mutation.key, start_ts);
    }
}

/* What a get says of one key, and what a scan says of it. */
static void assert_pair(struct txn_fixture *f, const struct txn_read *read, unsigned key,
                        const struct txn_pair *pair, bool keys_only)
{
    struct txn_get get;
    txn_make_get(&get, key_of(key), read->ts);
    get.read = *read;
    assert_int_equal(txn_run(f, &get.base), 0);
    assert_int_equal(pair->error.kind, get.error.kind);
    assert_true(slice_equal(pair->key, key_of(key)));
    if (get.error.kind == TXN_ERROR_LOCKED) {
        assert_true(slice_equal(pair->error.lock.key, key_of(key)));
        assert_int_equal(pair->error.lock.start_ts, get.error.lock.start_ts);
    } else {
        assert_true(get.found);
        assert_int_equal(pair->commit_ts, get.commit_ts);
        assert_true(keys_only ? pair->value.size == 0 : slice_equal(pair->value, get.value));
    }
    txn_command_deinit(&get.base);
}

enum there { NOTHING, PAIR, LOCK };

static enum there what_is_there(struct txn_fixture *f, const struct txn_read *read, unsigned key)
{
    struct txn_get get;
    txn_make_get(&get, key_of(key), read->ts);
    get.read = *read;
    assert_int_equal(txn_run(f, &get.base), 0);
    enum there there = get.error.kind != 0 ? LOCK : get.found ? PAIR : NOTHING;
    txn_command_deinit(&get.base);
    return there;
}

static void scan_and_compare(struct txn_fixture *f, struct rand *rand, const struct txn_read *read)
{
    struct txn_scan scan;
    txn_command_init(&scan.base, TXN_SCAN);
    unsigned from = (unsigned)rand_below(rand, KEYS + 1);
    unsigned to = (unsigned)rand_below(rand, KEYS + 1);
    struct arena arena = {0};
    scan.read = *read;
    scan.reverse = rand_below(rand, 2) == 0;
    scan.keys_only = rand_below(rand, 3) == 0;
    scan.limit = 1 + (uint32_t)rand_below(rand, 2 * KEYS);
    scan.size_bytes_max = rand_below(rand, 4) == 0 ? 400 : 0;
    scan.sample_step = rand_below(rand, 3) == 0 ? (uint32_t)rand_below(rand, 5) : 0;
    if (from < KEYS)
        scan.range.start = encode(&arena, key_of(from));
    else
        from = 0;
    if (to < KEYS)
        scan.range.end = encode(&arena, key_of(to));
    else
        to = KEYS;
    assert_int_equal(txn_run(f, &scan.base), 0);
    assert_int_equal(scan.error.kind, 0);
    uint32_t at = 0;
    uint32_t pairs = 0;
    for (unsigned i = from; i < to; i++) {
        unsigned key = scan.reverse ? to - 1 - (i - from) : i;
        if (at == scan.pairs_count && scan.more)
            break;
        enum there there = what_is_there(f, read, key);
        if (there == NOTHING)
            continue;
        if (there == PAIR && scan.sample_step > 0 && pairs++ % scan.sample_step != 0)
            continue;
        assert_true(at < scan.pairs_count);
        assert_pair(f, read, key, &scan.pairs[at++], scan.keys_only);
    }
    assert_int_equal(at, scan.pairs_count);
    assert_true(at <= scan.limit);
    if (scan.more)
        assert_true(at == scan.limit || (scan.size_bytes_max > 0 && at > 0));
    txn_command_deinit(&scan.base);
    arena_deinit(&arena);
}

static void test_scans_say_what_gets_say(struct txn_fixture *f)
{
    struct rand rand = rand_seed(test_seed());
    names_make();
    uint64_t start_ts = 10;
    for (unsigned i = 0; i < STEPS; i++, start_ts += 7) {
        random_txn(f, &rand, start_ts);
        if (i % 8 != 0)
            continue;
        uint64_t some[] = {start_ts, start_ts - 7, 10 + 7 * rand_below(&rand, STEPS)};
        struct txn_read read = {.ts = rand_below(&rand, start_ts + 10)};
        if (rand_below(&rand, 3) == 0)
            read.ts = TXN_TS_MAX;
        read.want_commit_ts = rand_below(&rand, 2) == 0;
        read.isolation = rand_below(&rand, 5) == 0;
        if (rand_below(&rand, 3) == 0) {
            read.resolved_locks = some;
            read.resolved_locks_count = 3;
        } else if (rand_below(&rand, 2) == 0) {
            read.committed_locks = some;
            read.committed_locks_count = 3;
        }
        for (unsigned n = 0; n < 4; n++)
            scan_and_compare(f, &rand, &read);
    }
}

/* --- other reads ------------------------------------------------------------------------------ */

static void test_batch_get(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("a"), S("1"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("c"), S("3"), 10, 25), 0);
    struct txn_mutation put = txn_put_of(S("d"), S("4"));
    assert_int_equal(txn_prewrite_one(f, &put, 30), 0);
    kvs_slice keys[] = {S("d"), S("b"), S("c"), S("a"), S("a")};
    struct txn_batch_get batch;
    txn_command_init(&batch.base, TXN_BATCH_GET);
    batch.read.ts = 50;
    batch.read.want_commit_ts = true;
    batch.keys = keys;
    batch.keys_count = 5;
    assert_int_equal(txn_run(f, &batch.base), 0);
    assert_int_equal(batch.error.kind, 0);
    assert_int_equal(batch.pairs_count, 4);
    assert_int_equal(batch.pairs[0].error.kind, TXN_ERROR_LOCKED);
    assert_slice_equal(batch.pairs[0].error.lock.key, "d");
    assert_slice_equal(batch.pairs[1].value, "3");
    assert_int_equal(batch.pairs[1].commit_ts, 25);
    assert_slice_equal(batch.pairs[3].key, "a");
    txn_command_deinit(&batch.base);
}

/* One key often is a short request, and a long answer. */
static void test_batch_get_limits(struct txn_fixture *f)
{
    static const char value[1000];
    static kvs_slice keys[KVS_BATCH_COUNT_MAX + 1];
    assert_int_equal(txn_put(f, S("a"), slice_make(value, sizeof value), 10, 20), 0);
    for (unsigned i = 0; i <= KVS_BATCH_COUNT_MAX; i++)
        keys[i] = S("a");
    static const struct {
        uint32_t count;
        size_t size_max;
        int error;
    } tries[] = {
        {10, 10000, 0},
        {10, 9999, KVS_ERR_TOO_LARGE},
        {2000, 2000000, 0}, /* on the pool */
        {2000, 1999999, KVS_ERR_TOO_LARGE},
        {KVS_BATCH_COUNT_MAX + 1, 0, KVS_ERR_TOO_LARGE},
    };
    for (unsigned i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        struct txn_batch_get batch;
        txn_command_init(&batch.base, TXN_BATCH_GET);
        batch.read.ts = 50;
        batch.keys = keys;
        batch.keys_count = tries[i].count;
        batch.size_bytes_max = tries[i].size_max;
        assert_int_equal(txn_run(f, &batch.base), tries[i].error);
        txn_command_deinit(&batch.base);
    }
}

/* More keys than are read on a caller's thread, and more bytes. */
static void test_large_reads(struct txn_fixture *f)
{
    enum { COUNT = 3000 };
    struct arena arena = {0};
    struct txn_mutation *puts = arena_zalloc(&arena, COUNT * sizeof *puts);
    kvs_slice *keys = arena_zalloc(&arena, COUNT * sizeof *keys);
    for (unsigned i = 0; i < COUNT; i++) {
        char *name = arena_alloc(&arena, 16);
        snprintf(name, 16, "%08u", i);
        keys[i] = slice_of_string(name);
        puts[i] = txn_put_of(keys[i], keys[i]);
    }
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, puts, COUNT, keys[0], 10);
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    assert_int_equal(prewrite.errors_count, 0);
    txn_command_deinit(&prewrite.base);
    struct txn_commit commit;
    txn_make_commit(&commit, keys, COUNT, 10, 20);
    assert_int_equal(txn_run(f, &commit.base), 0);
    assert_int_equal(commit.error.kind, 0);
    txn_command_deinit(&commit.base);
    struct txn_batch_get batch;
    txn_command_init(&batch.base, TXN_BATCH_GET);
    batch.read.ts = 20;
    batch.keys = keys;
    batch.keys_count = COUNT;
    assert_int_equal(txn_run(f, &batch.base), 0);
    assert_int_equal(batch.pairs_count, COUNT);
    txn_command_deinit(&batch.base);
    for (unsigned reverse = 0; reverse < 2; reverse++) {
        struct txn_scan scan;
        txn_command_init(&scan.base, TXN_SCAN);
        scan.read.ts = 20;
        scan.limit = 5000;
        scan.reverse = reverse != 0;
        assert_int_equal(txn_run(f, &scan.base), 0);
        assert_int_equal(scan.pairs_count, COUNT);
        assert_false(scan.more);
        for (unsigned i = 0; i < COUNT; i++)
            assert_true(slice_equal(scan.pairs[i].key, keys[reverse ? COUNT - 1 - i : i]));
        txn_command_deinit(&scan.base);
    }
    arena_deinit(&arena);
}

static void test_scan_lock(struct txn_fixture *f)
{
    static const struct {
        const char *key;
        uint64_t start_ts;
        uint8_t op;
    } locks[] = {{"a", 10, TXN_OP_PUT},
                 {"b", 30, TXN_OP_PUT},
                 {"c", 12, TXN_OP_DELETE},
                 {"d", 20, TXN_OP_LOCK}};
    for (size_t i = 0; i < sizeof locks / sizeof locks[0]; i++) {
        struct txn_mutation mutation = {.op = locks[i].op, .key = slice_of_string(locks[i].key)};
        assert_int_equal(txn_prewrite_one(f, &mutation, locks[i].start_ts), 0);
    }
    assert_int_equal(txn_lock_one(f, S("e"), 15, 15), 0);
    struct arena arena = {0};
    static const struct {
        const char *start, *end;
        uint32_t limit;
        const char *found;
    } rows[] = {{"", "", 0, "acde"}, {"b", "", 0, "cde"}, {"a", "d", 0, "ac"}, {"", "", 2, "ac"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct txn_scan_lock scan;
        txn_command_init(&scan.base, TXN_SCAN_LOCK);
        scan.max_ts = 20;
        scan.limit = rows[i].limit;
        if (rows[i].start[0] != '\0')
            scan.range.start = encode(&arena, slice_of_string(rows[i].start));
        if (rows[i].end[0] != '\0')
            scan.range.end = encode(&arena, slice_of_string(rows[i].end));
        assert_int_equal(txn_run(f, &scan.base), 0);
        assert_int_equal(scan.locks_count, strlen(rows[i].found));
        for (uint32_t n = 0; n < scan.locks_count; n++)
            assert_int_equal(scan.locks[n].key.data[0], rows[i].found[n]);
        txn_command_deinit(&scan.base);
    }
    arena_deinit(&arena);
}

static void test_scan_check_ts(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("a"), S("1"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("b"), S("1"), 30, 40), 0);
    for (unsigned reverse = 0; reverse < 2; reverse++) {
        struct txn_scan scan;
        txn_command_init(&scan.base, TXN_SCAN);
        scan.read.ts = 35;
        scan.read.isolation = TXN_ISOLATION_RC_CHECK_TS;
        scan.limit = 10;
        scan.reverse = reverse != 0;
        assert_int_equal(txn_run(f, &scan.base), 0);
        assert_int_equal(scan.error.kind, TXN_ERROR_WRITE_CONFLICT);
        assert_slice_equal(scan.error.key, "b");
        assert_int_equal(scan.error.conflict_commit_ts, 40);
        txn_command_deinit(&scan.base);
    }
}

/* Many reads in one view, and a write in between: each says what a read of its own would. */
static void test_shared_views(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("one"), 10, 20), 0);
    struct txn_view view;
    assert_int_equal(txn_view_begin(f->node, &view), 0);
    struct txn_get get;
    txn_make_get(&get, S("k"), 100);
    if (txn_answer_in(f->node, &view, &get.base)) /* else its value is not in memory */
        assert_slice_equal(get.value, "one");
    txn_command_deinit(&get.base);
    txn_view_end(&view);
    struct txn_mutation put = txn_put_of(S("k"), S("two"));
    assert_int_equal(txn_view_begin(f->node, &view), 0);
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, &put, 1, S("k"), 200);
    prewrite.try_one_pc = true;
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    uint64_t commit_ts = prewrite.one_pc_commit_ts;
    assert_true(commit_ts > 200);
    txn_command_deinit(&prewrite.base);
    /* It committed below this reader: the view is older than that, and must not be used. */
    txn_make_get(&get, S("k"), commit_ts + 10);
    if (txn_answer_in(f->node, &view, &get.base))
        assert_slice_equal(get.value, "two");
    txn_command_deinit(&get.base);
    txn_view_end(&view);
    struct txn_commit commit;
    txn_make_commit(&commit, NULL, 0, 1, 2);
    assert_false(txn_answer(f->node, &commit.base)); /* no read */
}

static void test_mvcc(struct txn_fixture *f)
{
    static uint8_t value[500];
    memset(value, 'v', sizeof value);
    assert_int_equal(txn_put(f, S("k"), S("one"), 10, 20), 0);
    assert_int_equal(txn_put(f, S("k"), slice_make(value, sizeof value), 30, 40), 0);
    assert_int_equal(txn_rollback_one(f, S("k"), 45), 0);
    struct txn_mutation put = txn_put_of(S("k"), S("three"));
    assert_int_equal(txn_prewrite_one(f, &put, 50), 0);
    assert_int_equal(txn_put(f, S("l"), S("one"), 10, 20), 0);
    for (unsigned by_ts = 0; by_ts < 2; by_ts++) {
        struct txn_mvcc mvcc;
        txn_command_init(&mvcc.base, by_ts ? TXN_MVCC_BY_START_TS : TXN_MVCC_BY_KEY);
        mvcc.key = S("k");
        mvcc.start_ts = 30;
        assert_int_equal(txn_run(f, &mvcc.base), 0);
        assert_true(mvcc.found && mvcc.has_lock);
        assert_slice_equal(mvcc.found_key, "k");
        assert_slice_equal(mvcc.lock_short_value, "three");
        assert_int_equal(mvcc.lock.start_ts, 50);
        assert_int_equal(mvcc.writes_count, 3);
        assert_int_equal(mvcc.writes[0].type, TXN_OP_ROLLBACK);
        assert_int_equal(mvcc.writes[1].commit_ts, 40);
        assert_slice_equal(mvcc.writes[2].short_value, "one");
        assert_int_equal(mvcc.values_count, 1);
        assert_int_equal(mvcc.values[0].value.size, sizeof value);
        txn_command_deinit(&mvcc.base);
    }
    struct txn_mvcc mvcc;
    txn_command_init(&mvcc.base, TXN_MVCC_BY_START_TS);
    mvcc.start_ts = 31;
    assert_int_equal(txn_run(f, &mvcc.base), 0);
    assert_false(mvcc.found);
    txn_command_deinit(&mvcc.base);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"scans say what gets say", test_scans_say_what_gets_say},
        {"batch get", test_batch_get},
        {"limits of a batch get", test_batch_get_limits},
        {"large reads", test_large_reads},
        {"scan of locks", test_scan_lock},
        {"scan that checks timestamps", test_scan_check_ts},
        {"reads that share a view", test_shared_views},
        {"all that is kept of a key", test_mvcc},
    };
    return txn_tests_run("txn-scan", tests, sizeof tests / sizeof tests[0]);
}
