/* Commands over ranges: resolving, giving back, deleting, garbage collection. */
#include "unit/txn/txn_fixture.h"

#include "base/memcomparable.h"
#include "base/rand.h"

#include <kvs/error.h>
#include <stdio.h>

#include "test.h"

#define MANY 1000u /* several steps */

static kvs_slice encode(struct arena *arena, kvs_slice key)
{
    uint8_t *to = arena_alloc(arena, memcomparable_size(key.size));
    memcomparable_encode(key, to);
    return slice_make(to, memcomparable_size(key.size));
}

static kvs_slice numbered(struct arena *arena, unsigned i)
{
    char *name = arena_alloc(arena, 16);
    snprintf(name, 16, "k%06u", i);
    return slice_of_string(name);
}

/* Locks MANY keys, by three transactions in turn that start at 10, 11 and 12. */
static void lock_many(struct txn_fixture *f, struct arena *arena, bool pessimistic)
{
    for (unsigned t = 0; t < 3; t++) {
        struct txn_mutation *mutations = arena_zalloc(arena, MANY * sizeof *mutations);
        uint32_t count = 0;
        for (unsigned i = t; i < MANY; i += 3) {
            mutations[count].op = pessimistic ? TXN_OP_PESSIMISTIC_LOCK : TXN_OP_PUT;
            mutations[count].value = pessimistic ? (kvs_slice){0} : S("value");
            mutations[count++].key = numbered(arena, i);
        }
        if (pessimistic) {
            struct txn_pessimistic_lock lock;
            txn_make_lock(&lock, mutations, count, mutations[0].key, 10 + t, 20);
            assert_int_equal(txn_run(f, &lock.base), 0);
            assert_int_equal(lock.errors_count, 0);
            txn_command_deinit(&lock.base);
        } else {
            struct txn_prewrite prewrite;
            txn_make_prewrite(&prewrite, mutations, count, mutations[0].key, 10 + t);
            assert_int_equal(txn_run(f, &prewrite.base), 0);
            assert_int_equal(prewrite.errors_count, 0);
            txn_command_deinit(&prewrite.base);
        }
    }
}

static void test_resolve_range(struct txn_fixture *f)
{
    struct arena arena = {0};
    lock_many(f, &arena, false);
    static const struct txn_status txns[] = {{10, 30}, {11, 0}};
    struct txn_resolve_lock resolve;
    txn_make_resolve(&resolve, txns, 2);
    resolve.range.start = encode(&arena, numbered(&arena, 3));
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, 0);
    txn_command_deinit(&resolve.base);
    for (unsigned i = 0; i < MANY; i++) {
        char locked[8];
        snprintf(locked, sizeof locked, "!%d", TXN_ERROR_LOCKED);
        const char *expected = i < 3 || i % 3 == 2 ? locked : i % 3 == 0 ? "value" : "-";
        assert_string_equal(txn_see(f, numbered(&arena, i), 50), expected);
    }
    /* one that cannot be: nothing of its step happens, and it says why */
    struct txn_mutation put = txn_put_of(S("z"), S("v"));
    struct txn_prewrite prewrite;
    txn_make_prewrite(&prewrite, &put, 1, S("z"), 40);
    prewrite.min_commit_ts = 60;
    assert_int_equal(txn_run(f, &prewrite.base), 0);
    txn_command_deinit(&prewrite.base);
    txn_make_resolve(&resolve, &(struct txn_status){40, 50}, 1);
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, TXN_ERROR_COMMIT_TS_EXPIRED);
    assert_slice_equal(resolve.error.key, "z");
    txn_command_deinit(&resolve.base);
    txn_make_resolve(&resolve, &(struct txn_status){40, 40}, 1);
    assert_int_equal(txn_run(f, &resolve.base), 0);
    assert_int_equal(resolve.error.kind, TXN_ERROR_ABORT);
    txn_command_deinit(&resolve.base);
    arena_deinit(&arena);
}

static void test_pessimistic_rollback_range(struct txn_fixture *f)
{
    struct arena arena = {0};
    lock_many(f, &arena, true);
    struct txn_pessimistic_rollback rollback;
    txn_command_init(&rollback.base, TXN_PESSIMISTIC_ROLLBACK);
    rollback.start_ts = 11;
    rollback.for_update_ts = 19;
    assert_int_equal(txn_run(f, &rollback.base), 0);
    txn_command_deinit(&rollback.base);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_LOCK), MANY); /* locked later */
    txn_command_init(&rollback.base, TXN_PESSIMISTIC_ROLLBACK);
    rollback.start_ts = 11;
    rollback.for_update_ts = 20;
    rollback.range.end = encode(&arena, numbered(&arena, 901));
    assert_int_equal(txn_run(f, &rollback.base), 0);
    txn_command_deinit(&rollback.base);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_LOCK), MANY - 300);
    assert_int_equal(txn_lock_one(f, numbered(&arena, 898), 50, 50), 0);
    assert_int_equal(txn_lock_one(f, numbered(&arena, 901), 50, 50), TXN_ERROR_LOCKED);
    arena_deinit(&arena);
}

static void test_delete_range(struct txn_fixture *f)
{
    static uint8_t value[600];
    struct arena arena = {0};
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(txn_put(f, numbered(&arena, i), slice_make(value, sizeof value), 10, 20),
                         0);
    struct txn_mutation put = txn_put_of(numbered(&arena, 7), S("v"));
    assert_int_equal(txn_prewrite_one(f, &put, 30), 0);
    struct txn_delete_range command;
    txn_command_init(&command.base, TXN_DELETE_RANGE);
    command.range.start = encode(&arena, numbered(&arena, 5));
    command.range.end = encode(&arena, numbered(&arena, 15));
    assert_int_equal(txn_run(f, &command.base), 0);
    txn_command_deinit(&command.base);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_LOCK), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_WRITE), 10);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_DATA), 10);
    assert_string_equal(txn_see(f, numbered(&arena, 5), 100), "-");
    assert_string_not_equal(txn_see(f, numbered(&arena, 15), 100), "-");
    arena_deinit(&arena);
}

/* --- garbage collection ----------------------------------------------------------------------- */

static uint64_t collect(struct txn_fixture *f, uint64_t safe_point)
{
    struct txn_gc gc;
    txn_command_init(&gc.base, TXN_GC);
    gc.safe_point = safe_point;
    assert_int_equal(txn_run(f, &gc.base), 0);
    uint64_t removed = gc.removed_versions;
    txn_command_deinit(&gc.base);
    return removed;
}

static void test_gc_of_each_kind(struct txn_fixture *f)
{
    static uint8_t value[300];
    kvs_slice large = slice_make(value, sizeof value);
    assert_int_equal(txn_put(f, S("old"), large, 10, 20), 0);
    assert_int_equal(txn_put(f, S("old"), large, 30, 40), 0);
    assert_int_equal(txn_put(f, S("old"), large, 60, 70), 0);
    assert_int_equal(txn_put(f, S("gone"), large, 10, 20), 0);
    assert_int_equal(txn_delete(f, S("gone"), 30, 40), 0);
    assert_int_equal(txn_put(f, S("back"), S("1"), 10, 20), 0);
    assert_int_equal(txn_delete(f, S("back"), 30, 40), 0);
    assert_int_equal(txn_put(f, S("back"), S("2"), 60, 70), 0);
    assert_int_equal(txn_rollback_one(f, S("rolled"), 25), 0);
    assert_int_equal(txn_put(f, S("only"), S("v"), 10, 20), 0);
    assert_int_equal(collect(f, 19), 0);
    /* old: 20; gone: 20, 40; back: 20, 40; rolled: 25 */
    assert_int_equal(collect(f, 50), 6);
    assert_int_equal(collect(f, 50), 0);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_WRITE), 4);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_DATA), 2);
    assert_int_equal(strlen(txn_see(f, S("old"), 50)), 0); /* zeros: a value that is there */
    assert_string_equal(txn_see(f, S("gone"), 50), "-");
    assert_string_equal(txn_see(f, S("back"), 50), "-");
    assert_string_equal(txn_see(f, S("back"), 70), "2");
    assert_string_equal(txn_see(f, S("only"), 50), "v");
}

static void test_gc_keeps_what_is_read(struct txn_fixture *f)
{
    struct arena arena = {0};
    struct rand rand = rand_seed(test_seed());
    uint64_t ts = 10;
    for (unsigned i = 0; i < 1500; i++, ts += 10) {
        kvs_slice key = numbered(&arena, (unsigned)rand_below(&rand, 400));
        if (rand_below(&rand, 3) == 0)
            assert_int_equal(txn_delete(f, key, ts, ts + 5), 0);
        else
            assert_int_equal(txn_put(f, key, numbered(&arena, i), ts, ts + 5), 0);
    }
    static char before[400][4][16];
    for (unsigned k = 0; k < 400; k++) {
        for (unsigned n = 0; n < 4; n++)
            snprintf(before[k][n], sizeof before[k][n], "%s",
                     txn_see(f, numbered(&arena, k), 9000 + 1500 * n));
    }
    assert_true(collect(f, 9000) > 0);
    assert_int_equal(collect(f, 9000), 0);
    for (unsigned k = 0; k < 400; k++) {
        for (unsigned n = 0; n < 4; n++)
            assert_string_equal(txn_see(f, numbered(&arena, k), 9000 + 1500 * n), before[k][n]);
    }
    arena_deinit(&arena);
}

/* More versions of one key than a step removes, under a deletion: that goes last. */
/* Instead of an answer that may lack what was removed. */
static void test_gc_passes_the_old(struct txn_fixture *f)
{
    txn_node_free(f->node);
    f->options.refuses_old = true;
    f->options.safe_point = 15;
    assert_int_equal(txn_node_new(f->base.engine, &f->options, &f->node), 0);
    char too_old[16];
    snprintf(too_old, sizeof too_old, "?%d", KVS_ERR_TXN_TOO_OLD);
    assert_string_equal(txn_see(f, S("a"), 14), too_old); /* passed before the start */
    assert_int_equal(txn_put(f, S("a"), S("v1"), 15, 20), 0);
    assert_int_equal(txn_put(f, S("a"), S("v2"), 30, 40), 0);
    assert_int_equal(txn_lock_one(f, S("locked"), 25, 25), 0);
    for (uint64_t safe_point = 35; safe_point >= 20; safe_point -= 15) { /* it does not go back */
        collect(f, safe_point);
        assert_string_equal(txn_see(f, S("a"), 34), too_old);
        assert_string_equal(txn_see(f, S("a"), 35), "v1");
        assert_string_equal(txn_see(f, S("a"), TXN_TS_MAX), "v2");
    }
    struct txn_scan scan;
    txn_command_init(&scan.base, TXN_SCAN);
    scan.read.ts = 34;
    scan.limit = 1;
    assert_int_equal(txn_run(f, &scan.base), KVS_ERR_TXN_TOO_OLD);
    txn_command_deinit(&scan.base);
    struct txn_mutation put = txn_put_of(S("b"), S("v"));
    assert_int_equal(txn_prewrite_one(f, &put, 34), KVS_ERR_TXN_TOO_OLD);
    assert_int_equal(txn_lock_one(f, S("b"), 34, 50), KVS_ERR_TXN_TOO_OLD);
    assert_int_equal(txn_lock_one(f, S("locked"), 25, 50), KVS_ERR_TXN_TOO_OLD);
    assert_int_equal(txn_rollback_one(f, S("locked"), 25), 0); /* it can still be ended */
    assert_int_equal(txn_prewrite_one(f, &put, 35), 0);
    assert_int_equal(txn_commit_one(f, S("b"), 35, 60), 0);
}

static void test_gc_of_a_long_history(struct txn_fixture *f)
{
    enum { VERSIONS = 5000 };
    for (unsigned i = 0; i < VERSIONS; i++) {
        struct txn_mutation put = txn_put_of(S("k"), S("v"));
        struct txn_prewrite prewrite;
        txn_make_prewrite(&prewrite, &put, 1, S("k"), 10 + 10 * i);
        prewrite.try_one_pc = true;
        assert_int_equal(txn_run(f, &prewrite.base), 0);
        assert_true(prewrite.one_pc_commit_ts > 0);
        txn_command_deinit(&prewrite.base);
    }
    assert_int_equal(txn_delete(f, S("k"), 60000, 60001), 0);
    assert_int_equal(collect(f, 70000), VERSIONS + 1);
    assert_int_equal(count_all(&f->base, ENGINE_FAMILY_TXN_WRITE), 0);
    assert_string_equal(txn_see(f, S("k"), 80000), "-");
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"resolve a range", test_resolve_range},
        {"give back the locks of a range", test_pessimistic_rollback_range},
        {"delete a range", test_delete_range},
        {"garbage collection of each kind", test_gc_of_each_kind},
        {"garbage collection keeps what can be read", test_gc_keeps_what_is_read},
        {"garbage collection passes the old", test_gc_passes_the_old},
        {"garbage collection of a long history", test_gc_of_a_long_history},
    };
    return txn_tests_run("txn-range", tests, sizeof tests / sizeof tests[0]);
}
