/* txn/pessimistic.c and the rules that end a transaction: locks that several share. */
#include "unit/txn/txn_fixture.h"

#include "txn/record.h"

#include <kvs/error.h>

#include "test.h"

#define S(text) slice_make((text), sizeof(text) - 1)
#define LONG_MS 100000
#define MS(n) ((uint64_t)(n) << TXN_TS_LOGICAL_BITS)

/* --- steps: 0, the kind of the error, or op.error --- */

static int lock_with(struct txn_fixture *f, uint8_t op, kvs_slice key, uint64_t start_ts,
                     struct txn_pessimistic_lock *lock, struct txn_mutation *mutation)
{
    *mutation = (struct txn_mutation){.op = op, .key = key};
    txn_make_lock(lock, mutation, 1, S("primary"), start_ts, start_ts);
    int result = txn_run(f, &lock->base);
    return result == 0 && lock->errors_count > 0 ? lock->errors[0].kind : result;
}

static int share(struct txn_fixture *f, kvs_slice key, uint64_t start_ts)
{
    struct txn_pessimistic_lock lock;
    struct txn_mutation mutation;
    int result = lock_with(f, TXN_OP_SHARED_PESSIMISTIC_LOCK, key, start_ts, &lock, &mutation);
    txn_command_deinit(&lock.base);
    return result;
}

static int give_back(struct txn_fixture *f, kvs_slice key, uint64_t start_ts)
{
    struct txn_pessimistic_rollback rollback;
    txn_command_init(&rollback.base, TXN_PESSIMISTIC_ROLLBACK);
    rollback.keys = &key;
    rollback.keys_count = key.size > 0; /* none: everywhere */
    rollback.start_ts = start_ts;
    rollback.for_update_ts = start_ts;
    int error = txn_run(f, &rollback.base);
    txn_command_deinit(&rollback.base);
    return error;
}

static int prewrite(struct txn_fixture *f, uint8_t op, kvs_slice key, uint64_t start_ts)
{
    struct txn_mutation mutation = {
        .op = op, .key = key, .pessimistic_action = TXN_DO_PESSIMISTIC_CHECK};
    struct txn_prewrite command;
    txn_make_prewrite(&command, &mutation, 1, S("primary"), start_ts);
    command.for_update_ts = start_ts;
    int result = txn_run(f, &command.base);
    if (result == 0 && command.errors_count > 0)
        result = command.errors[0].kind;
    txn_command_deinit(&command.base);
    return result;
}

static int prewrite_shared(struct txn_fixture *f, kvs_slice key, uint64_t start_ts)
{
    return prewrite(f, TXN_OP_SHARED_LOCK, key, start_ts);
}

/* Who has the key: their start timestamps, with '+' behind those that are prewritten; "=" before
 * the one that has it for itself; "-" for nobody. */
static const char *owners(struct txn_fixture *f, kvs_slice key, uint64_t max_ts)
{
    static char text[256];
    struct txn_scan_lock scan;
    size_t size = 1;
    snprintf(text, sizeof text, "-");
    txn_command_init(&scan.base, TXN_SCAN_LOCK);
    scan.max_ts = max_ts;
    assert_int_equal(txn_run(f, &scan.base), 0);
    for (uint32_t i = 0; i < scan.locks_count; i++) {
        const struct txn_lock_info *lock = &scan.locks[i];
        if (!slice_equal(lock->key, key))
            continue;
        bool is_shared = lock->type == TXN_OP_SHARED_LOCK;
        assert_int_equal(is_shared, lock->holders_count > 0);
        size = 0;
        uint32_t count = is_shared ? lock->holders_count : 1;
        for (uint32_t j = 0; j < count && size < sizeof text - 32; j++) {
            const struct txn_lock_info *holder = is_shared ? &lock->holders[j] : lock;
            assert_true(slice_equal(holder->key, key));
            size +=
                (size_t)snprintf(text + size, sizeof text - size, "%s%s%llu%s", j > 0 ? " " : "",
                                 is_shared ? "" : "=", (unsigned long long)holder->start_ts,
                                 holder->type == TXN_OP_PESSIMISTIC_LOCK ? "" : "+");
        }
    }
    txn_command_deinit(&scan.base);
    return text;
}

#define assert_owners(f, key, expected) assert_string_equal(owners(f, S(key), TXN_TS_MAX), expected)

/* --- tests --- */

static void test_compatible(struct txn_fixture *f)
{
    struct txn_pessimistic_lock lock;
    struct txn_mutation mutation;
    assert_int_equal(txn_put(f, S("k"), S("v"), 2, 3), 0);
    assert_int_equal(share(f, S("k"), 20), 0);
    assert_int_equal(share(f, S("k"), 10), 0);
    assert_int_equal(share(f, S("k"), 30), 0);
    assert_int_equal(share(f, S("k"), 20), 0); /* twice */
    assert_owners(f, "k", "10 20 30");
    assert_string_equal(owners(f, S("k"), 20), "10 20");
    assert_string_equal(owners(f, S("k"), 9), "-");
    assert_string_equal(txn_see(f, S("k"), 100), "v"); /* in no reader's way */
    struct txn_mutation put = txn_put_of(S("k"), S("w"));
    assert_int_equal(txn_prewrite_one(f, &put, 40), TXN_ERROR_LOCKED);
    assert_int_equal(share(f, S("k"), 35), 0); /* that one closes nothing */
    assert_int_equal(give_back(f, S("k"), 35), 0);
    assert_int_equal(lock_with(f, TXN_OP_PESSIMISTIC_LOCK, S("k"), 40, &lock, &mutation),
                     TXN_ERROR_LOCKED);
    assert_int_equal(lock.errors[0].lock.type, TXN_OP_SHARED_LOCK);
    assert_int_equal(lock.errors[0].lock.holders_count, 3);
    assert_int_equal(lock.errors[0].lock.holders[1].start_ts, 20);
    assert_slice_equal(lock.errors[0].lock.holders[1].primary, "primary");
    txn_command_deinit(&lock.base);
    for (unsigned i = 0; i < 2; i++) { /* closed, also when it is opened again */
        assert_int_equal(share(f, S("k"), 50), TXN_ERROR_LOCKED);
        assert_int_equal(share(f, S("k"), 20), 0);
        assert_owners(f, "k", "10 20 30");
        if (i == 0 && f->base.kind != &txn_engine_memory)
            assert_int_equal(txn_fixture_reopen(f), 0);
    }
    assert_int_equal(give_back(f, S("k"), 20), 0);
    assert_int_equal(give_back(f, S("k"), 99), 0); /* has nothing */
    assert_owners(f, "k", "10 30");
    assert_int_equal(txn_rollback_one(f, S("k"), 10), 0);
    assert_int_equal(share(f, S("k"), 50), TXN_ERROR_LOCKED);
    assert_int_equal(give_back(f, S(""), 30), 0);
    assert_owners(f, "k", "-");
    assert_int_equal(share(f, S("k"), 10), TXN_ERROR_ABORT); /* rolled back here */
    assert_int_equal(txn_lock_one(f, S("k"), 60, 60), 0);
    assert_int_equal(share(f, S("k"), 60), 0); /* what it has is more */
    assert_int_equal(share(f, S("k"), 70), TXN_ERROR_LOCKED);
    assert_owners(f, "k", "=60");
}

static void test_commit(struct txn_fixture *f)
{
    assert_int_equal(txn_put(f, S("k"), S("v"), 2, 3), 0);
    for (uint64_t ts = 10; ts <= 30; ts += 10)
        assert_int_equal(share(f, S("k"), ts), 0);
    assert_int_equal(prewrite_shared(f, S("k"), 20), 0);
    assert_int_equal(prewrite_shared(f, S("k"), 20), 0);
    assert_owners(f, "k", "10 20+ 30");
    assert_int_equal(share(f, S("k"), 20), TXN_ERROR_ABORT); /* prewritten */
    assert_int_equal(share(f, S("k"), 40), 0);
    assert_int_equal(prewrite(f, TXN_OP_PUT, S("k"), 10), TXN_ERROR_ABORT);
    assert_int_equal(prewrite(f, TXN_OP_LOCK, S("k"), 10), TXN_ERROR_ABORT);
    assert_int_equal(prewrite(f, TXN_OP_PUT, S("k"), 20), TXN_ERROR_ABORT);
    assert_int_equal(prewrite_shared(f, S("k"), 50), TXN_ERROR_ABORT); /* it has none */
    assert_string_equal(txn_see(f, S("k"), 100), "v");
    assert_int_equal(txn_commit_one(f, S("k"), 20, 60), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 20, 60), 0);
    assert_owners(f, "k", "10 30 40");
    assert_int_equal(share(f, S("k"), 55), TXN_ERROR_WRITE_CONFLICT); /* somebody had it at 60 */
    assert_int_equal(prewrite_shared(f, S("k"), 10), 0);              /* not for who has it */
    assert_int_equal(txn_commit_one(f, S("k"), 10, 70), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 30, 70), 0); /* left behind: it goes */
    assert_owners(f, "k", "40");
    assert_int_equal(txn_commit_one(f, S("k"), 35, 70), TXN_ERROR_LOCK_NOT_FOUND);
    assert_int_equal(prewrite_shared(f, S("k"), 40), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 40, 80), 0);
    assert_owners(f, "k", "-");
    assert_string_equal(txn_see(f, S("k"), 100), "v");
    /* Whose lock is lost, and nobody has written since: it is locked anew. */
    assert_int_equal(prewrite_shared(f, S("k"), 90), 0);
    assert_owners(f, "k", "=90+");
    assert_int_equal(prewrite_shared(f, S("l"), 0), KVS_ERR_INVALID_ARGUMENT); /* optimistic */
}

/* --- who waits --- */

struct waiting {
    struct txn_pessimistic_lock lock;
    struct txn_mutation mutation;
    struct txn_pending_run run;
};

static void wait_start(struct txn_fixture *f, struct waiting *waiting, uint8_t op, kvs_slice key,
                       uint64_t start_ts)
{
    waiting->mutation = (struct txn_mutation){.op = op, .key = key};
    txn_make_lock(&waiting->lock, &waiting->mutation, 1, S("primary"), start_ts, start_ts);
    waiting->lock.wait_timeout_ms = LONG_MS;
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
    int result = txn_finish(&waiting->run);
    if (result == 0 && waiting->lock.errors_count > 0)
        result = waiting->lock.errors[0].kind;
    txn_command_deinit(&waiting->lock.base);
    return result;
}

static void patient(struct txn_fixture *f)
{
    txn_node_free(f->node);
    f->options.wait_max_ms = LONG_MS;
    assert_int_equal(txn_node_new(f->base.engine, &f->options, &f->node), 0);
}

/* One that wants the key for itself is refused first, which closes it; then it waits until the last
 * has gone. Those that come to share it wait behind. */
static void test_wait(struct txn_fixture *f)
{
    patient(f);
    struct waiting alone;
    struct waiting late;
    assert_int_equal(share(f, S("k"), 10), 0);
    assert_int_equal(share(f, S("k"), 20), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 30, 90), TXN_ERROR_LOCKED);
    wait_start(f, &alone, TXN_OP_PESSIMISTIC_LOCK, S("k"), 30);
    wait_start(f, &late, TXN_OP_SHARED_PESSIMISTIC_LOCK, S("k"), 40);
    assert_int_equal(give_back(f, S("k"), 10), 0);
    assert_owners(f, "k", "20");
    assert_int_equal(prewrite_shared(f, S("k"), 20), 0);
    assert_int_equal(txn_rollback_one(f, S("k"), 20), 0);
    assert_int_equal(wait_end(&alone), 0);
    assert_owners(f, "k", "=30");
    assert_int_equal(give_back(f, S("k"), 30), 0);
    assert_int_equal(wait_end(&late), 0);
    assert_owners(f, "k", "40");
    assert_int_equal(share(f, S("k"), 50), 0); /* open again */
}

/* All that wait to share it get it, behind one that had it for itself. */
static void test_share_after(struct txn_fixture *f)
{
    patient(f);
    struct waiting waiting[3];
    assert_int_equal(txn_lock_one(f, S("k"), 10, 10), 0);
    for (unsigned i = 0; i < 3; i++)
        wait_start(f, &waiting[i], TXN_OP_SHARED_PESSIMISTIC_LOCK, S("k"), 20 + i);
    assert_int_equal(give_back(f, S("k"), 10), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(wait_end(&waiting[i]), 0);
    assert_owners(f, "k", "20 21 22");
}

/* A circle by way of each of those that share a lock, not just the first. */
static void test_deadlock(struct txn_fixture *f)
{
    patient(f);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t ts = 1000 * (i + 1);
        uint64_t chosen = ts + 100 * (i + 1);
        struct waiting alone;
        struct waiting closing;
        for (unsigned j = 0; j < 3; j++)
            assert_int_equal(share(f, S("k"), ts + 100 * (j + 1)), 0);
        assert_int_equal(txn_lock_one(f, S("m"), ts, ts), 0);
        assert_int_equal(txn_lock_one(f, S("k"), ts, ts), TXN_ERROR_LOCKED);
        wait_start(f, &alone, TXN_OP_PESSIMISTIC_LOCK, S("k"), ts);
        wait_start(f, &closing, TXN_OP_PESSIMISTIC_LOCK, S("m"), chosen);
        assert_int_equal(txn_finish(&closing.run), 0);
        const struct txn_key_error *error = &closing.lock.errors[0];
        assert_int_equal(error->kind, TXN_ERROR_DEADLOCK);
        assert_int_equal(error->lock_ts, ts);
        assert_slice_equal(error->deadlock_key, "k");
        assert_int_equal(error->wait_chain_count, 2);
        assert_int_equal(error->wait_chain[0].start_ts, ts);
        assert_int_equal(error->wait_chain[0].wait_for_ts, chosen);
        assert_int_equal(error->wait_chain[1].start_ts, chosen);
        assert_int_equal(error->wait_chain[1].wait_for_ts, ts);
        txn_command_deinit(&closing.lock.base);
        for (unsigned j = 0; j < 3; j++)
            assert_int_equal(give_back(f, S("k"), ts + 100 * (j + 1)), 0);
        assert_int_equal(wait_end(&alone), 0);
        assert_int_equal(give_back(f, S(""), ts), 0);
    }
}

/* Who was waited for together with others, and has given its lock back, closes no circle. */
static void test_no_deadlock(struct txn_fixture *f)
{
    patient(f);
    struct waiting alone;
    struct waiting other;
    assert_int_equal(share(f, S("k"), 10), 0);
    assert_int_equal(share(f, S("k"), 20), 0);
    assert_int_equal(txn_lock_one(f, S("m"), 30, 30), 0);
    assert_int_equal(txn_lock_one(f, S("k"), 30, 30), TXN_ERROR_LOCKED);
    wait_start(f, &alone, TXN_OP_PESSIMISTIC_LOCK, S("k"), 30);
    assert_int_equal(give_back(f, S("k"), 20), 0);
    wait_start(f, &other, TXN_OP_PESSIMISTIC_LOCK, S("m"), 20);
    assert_int_equal(give_back(f, S("k"), 10), 0);
    assert_int_equal(wait_end(&alone), 0);
    assert_int_equal(give_back(f, S("m"), 30), 0);
    assert_int_equal(wait_end(&other), 0);
    struct txn_node_stats stats;
    txn_node_stats(f->node, &stats);
    assert_int_equal(stats.deadlocks, 0);
}

/* The last holder takes it for itself; of two that want to, the second closes a circle. */
static void test_upgrade(struct txn_fixture *f)
{
    patient(f);
    struct txn_check_status check;
    struct txn_pessimistic_lock lock;
    struct txn_mutation mutation = {.op = TXN_OP_SHARED_PESSIMISTIC_LOCK, .key = S("primary")};
    txn_make_lock(&lock, &mutation, 1, S("primary"), 10, 10);
    assert_int_equal(txn_run(f, &lock.base), 0);
    txn_command_deinit(&lock.base);
    txn_make_check(&check, S("primary"), 10, 50, 50); /* a reader at 50 is told to go on */
    assert_int_equal(txn_run(f, &check.base), 0);
    assert_int_equal(check.action, TXN_ACTION_MIN_COMMIT_TS_PUSHED);
    txn_command_deinit(&check.base);
    assert_int_equal(txn_lock_one(f, S("primary"), 10, 11), 0);
    assert_owners(f, "primary", "=10");
    assert_int_equal(prewrite(f, TXN_OP_DELETE, S("primary"), 10), 0);
    assert_int_equal(txn_commit_one(f, S("primary"), 10, 50), TXN_ERROR_COMMIT_TS_EXPIRED);
    assert_int_equal(txn_commit_one(f, S("primary"), 10, 51), 0);

    struct waiting first;
    struct waiting second;
    assert_int_equal(share(f, S("k"), 100), 0);
    assert_int_equal(share(f, S("k"), 200), 0);
    assert_int_equal(lock_with(f, TXN_OP_PESSIMISTIC_LOCK, S("k"), 100, &lock, &mutation),
                     TXN_ERROR_LOCKED);
    assert_int_equal(lock.errors[0].lock.holders_count, 1); /* not itself */
    assert_int_equal(lock.errors[0].lock.holders[0].start_ts, 200);
    txn_command_deinit(&lock.base);
    wait_start(f, &first, TXN_OP_PESSIMISTIC_LOCK, S("k"), 100);
    wait_start(f, &second, TXN_OP_PESSIMISTIC_LOCK, S("k"), 200);
    assert_int_equal(wait_end(&second), TXN_ERROR_DEADLOCK);
    assert_int_equal(give_back(f, S("k"), 200), 0);
    assert_int_equal(wait_end(&first), 0);
    assert_owners(f, "k", "=100");
    assert_int_equal(share(f, S("l"), 100), 0);
    assert_int_equal(prewrite_shared(f, S("l"), 100), 0);
    assert_int_equal(txn_lock_one(f, S("l"), 100, 100), TXN_ERROR_ABORT);
}

/* --- how it ends for who does not end it itself --- */

static int resolve(struct txn_fixture *f, kvs_slice key, const struct txn_status *txns,
                   uint32_t count)
{
    struct txn_resolve_lock command;
    txn_make_resolve(&command, txns, count);
    command.keys = &key;
    command.keys_count = key.size > 0;
    int result = txn_run(f, &command.base);
    if (result == 0)
        result = command.error.kind;
    txn_command_deinit(&command.base);
    return result;
}

static void test_resolve(struct txn_fixture *f)
{
    static const struct txn_status txns[] = {{20, 100}, {30, 0}, {50, 110}, {60, 0}};
    for (uint64_t ts = 10; ts <= 60; ts += 10) {
        assert_int_equal(share(f, S("k"), ts), 0);
        if (ts != 60)
            assert_int_equal(prewrite_shared(f, S("k"), ts), 0);
    }
    assert_int_equal(share(f, S("l"), 30), 0); /* all of whom go */
    assert_int_equal(share(f, S("l"), 60), 0);
    assert_int_equal(resolve(f, S(""), txns, 4), 0); /* many of one key, in one batch */
    assert_owners(f, "k", "10+ 40+");
    assert_owners(f, "l", "-");
    assert_int_equal(txn_commit_one(f, S("k"), 20, 100), 0); /* so it was */
    assert_int_equal(txn_commit_one(f, S("k"), 50, 110), 0);
    assert_int_equal(txn_commit_one(f, S("k"), 30, 120), TXN_ERROR_LOCK_NOT_FOUND);
    assert_int_equal(share(f, S("k"), 60), TXN_ERROR_WRITE_CONFLICT);
    static const struct txn_status one = {40, 130};
    assert_int_equal(resolve(f, S("k"), &one, 1), 0);
    assert_owners(f, "k", "10+");
    static const struct txn_status last = {10, 0};
    kvs_slice twice[] = {S("k"), S("k")};
    struct txn_resolve_lock command;
    txn_make_resolve(&command, &last, 1);
    command.keys = twice;
    command.keys_count = 2;
    assert_int_equal(txn_run(f, &command.base), 0);
    txn_command_deinit(&command.base);
    assert_owners(f, "k", "-");
    assert_int_equal(prewrite_shared(f, S("k"), 10), TXN_ERROR_ABORT);
}

/* A key that is shared may be the primary: here of two that began at 1 ms and 2 ms. */
static void test_status(struct txn_fixture *f)
{
    struct txn_mutation mutation = {.op = TXN_OP_SHARED_PESSIMISTIC_LOCK, .key = S("k")};
    for (uint64_t ms = 1; ms <= 3; ms++) {
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, &mutation, 1, S("k"), MS(ms), MS(ms));
        lock.lock_ttl_ms = 1000;
        assert_int_equal(txn_run(f, &lock.base), 0);
        assert_int_equal(lock.errors_count, 0);
        txn_command_deinit(&lock.base);
    }
    struct txn_heartbeat beat;
    txn_command_init(&beat.base, TXN_HEARTBEAT);
    beat.primary = S("k");
    beat.start_ts = MS(2);
    beat.advise_ttl_ms = 5000;
    assert_int_equal(txn_run(f, &beat.base), 0);
    assert_int_equal(beat.lock_ttl_ms, 5000);
    txn_command_deinit(&beat.base);
    static const struct {
        uint64_t ms;
        uint64_t ttl_ms;
        uint8_t action;
    } rows[] = {{1, 0, TXN_ACTION_TTL_EXPIRE_PESSIMISTIC_ROLLBACK},
                {2, 5000, TXN_ACTION_NONE},
                {3, 0, TXN_ACTION_TTL_EXPIRE_ROLLBACK}};
    for (unsigned i = 0; i < 3; i++) {
        struct txn_check_status check;
        txn_make_check(&check, S("k"), MS(rows[i].ms), 0, MS(2000));
        check.resolving_pessimistic_lock = rows[i].action != TXN_ACTION_TTL_EXPIRE_ROLLBACK;
        check.verify_is_primary = true;
        assert_int_equal(txn_run(f, &check.base), 0);
        assert_int_equal(check.error.kind, TXN_ERROR_NONE);
        assert_int_equal(check.action, rows[i].action);
        assert_int_equal(check.lock_ttl_ms, rows[i].ttl_ms);
        txn_command_deinit(&check.base);
    }
    char expected[32];
    snprintf(expected, sizeof expected, "%llu", (unsigned long long)MS(2));
    assert_owners(f, "k", expected);
    struct txn_cleanup cleanup;
    for (uint64_t now_ms = 4000; now_ms <= 6000; now_ms += 2000) {
        txn_command_init(&cleanup.base, TXN_CLEANUP);
        cleanup.key = S("k");
        cleanup.start_ts = MS(2);
        cleanup.current_ts = MS(now_ms + 3);
        assert_int_equal(txn_run(f, &cleanup.base), 0);
        assert_int_equal(cleanup.error.kind, now_ms == 4000 ? TXN_ERROR_LOCKED : TXN_ERROR_NONE);
        txn_command_deinit(&cleanup.base);
    }
    assert_owners(f, "k", "-");
}

/* As many as there may be; who comes then waits, though nothing is closed. */
static void test_many(struct txn_fixture *f)
{
    struct txn_status txns[RECORD_HOLDERS_MAX];
    for (uint32_t i = 0; i < RECORD_HOLDERS_MAX; i++) {
        txns[i] = (struct txn_status){.start_ts = 10 + (i * 7) % RECORD_HOLDERS_MAX};
        assert_int_equal(share(f, S("k"), txns[i].start_ts), 0);
    }
    assert_int_equal(share(f, S("k"), 5000), TXN_ERROR_LOCKED);
    assert_int_equal(share(f, S("k"), 500), 0); /* is there */
    assert_int_equal(give_back(f, S("k"), 501), 0);
    assert_int_equal(share(f, S("k"), 5000), 0);
    assert_int_equal(resolve(f, S(""), txns, RECORD_HOLDERS_MAX), 0);
    assert_owners(f, "k", "5000");
}

/* Who has a part already may name a longer primary, as long as there is room for it. */
static void test_longer_primaries(struct txn_fixture *f)
{
    enum { HOLDERS = 40 };
    static uint8_t bytes[KVS_KEY_SIZE_MAX];
    kvs_slice longest = slice_make(bytes, sizeof bytes);
    struct txn_mutation mutation = {.op = TXN_OP_SHARED_PESSIMISTIC_LOCK, .key = S("k")};
    uint32_t refused = 0;
    for (uint64_t ts = 10; ts < 10 + HOLDERS; ts++)
        assert_int_equal(share(f, S("k"), ts), 0);
    for (uint64_t ts = 10; ts < 10 + HOLDERS; ts++) {
        struct txn_pessimistic_lock lock;
        txn_make_lock(&lock, &mutation, 1, longest, ts, ts + 100);
        int error = txn_run(f, &lock.base);
        assert_true(error == 0 || error == KVS_ERR_TOO_LARGE);
        refused += error != 0;
        txn_command_deinit(&lock.base);
    }
    assert_int_equal(refused, HOLDERS - RECORD_HOLDERS_SIZE_MAX / (KVS_KEY_SIZE_MAX + 64));
    mutation.op = TXN_OP_SHARED_LOCK;
    mutation.pessimistic_action = TXN_DO_PESSIMISTIC_CHECK;
    struct txn_prewrite command;
    txn_make_prewrite(&command, &mutation, 1, longest, 9 + HOLDERS);
    command.for_update_ts = 9 + HOLDERS;
    assert_int_equal(txn_run(f, &command.base), KVS_ERR_TOO_LARGE);
    txn_command_deinit(&command.base);
    for (uint64_t ts = 10; ts < 10 + HOLDERS; ts++) /* with the one they had, or shorter */
        assert_int_equal(prewrite_shared(f, S("k"), ts), 0);
    assert_string_equal(owners(f, S("k"), 12), "10+ 11+ 12+");
}

/* What is left of 256 such locks is more than one batch may have. */
static void test_many_of_many(struct txn_fixture *f)
{
    enum { KEYS = 256, AT_ONCE = 64, HOLDERS = 32, PRIMARY_SIZE = 8135 };
    static char names[KEYS][8];
    static uint8_t primary[PRIMARY_SIZE];
    static struct txn_mutation mutations[KEYS];
    if (f->base.kind != &txn_engine_memory) /* a gigabyte */
        return;
    for (unsigned i = 0; i < KEYS; i++) {
        int size = snprintf(names[i], sizeof names[i], "k%03u", i);
        mutations[i] = (struct txn_mutation){.op = TXN_OP_SHARED_PESSIMISTIC_LOCK,
                                             .key = slice_make(names[i], (size_t)size)};
    }
    for (uint64_t ts = 10; ts < 10 + HOLDERS; ts++) {
        for (unsigned from = 0; from < KEYS; from += AT_ONCE) {
            struct txn_pessimistic_lock lock;
            txn_make_lock(&lock, mutations + from, AT_ONCE, slice_make(primary, sizeof primary), ts,
                          ts);
            assert_int_equal(txn_run(f, &lock.base), 0);
            assert_int_equal(lock.errors_count, 0);
            txn_command_deinit(&lock.base);
        }
    }
    assert_int_equal(share(f, S("k000"), 100), TXN_ERROR_LOCKED); /* full */
    static const struct txn_status one = {10, 0};
    assert_int_equal(resolve(f, S(""), &one, 1), 0);
    assert_int_equal(give_back(f, S(""), 11), 0);
    assert_string_equal(owners(f, S("k000"), 14), "12 13 14");
    assert_string_equal(owners(f, S("k100"), 14), "12 13 14");
    assert_string_equal(owners(f, S("k255"), 14), "12 13 14");
}

/* A request that shares some keys and wants others for itself, or shares by a prewrite what it has
 * not locked, is none. */
static void test_refused(struct txn_fixture *f)
{
    struct txn_mutation two[] = {{.op = TXN_OP_SHARED_PESSIMISTIC_LOCK, .key = S("a")},
                                 {.op = TXN_OP_PESSIMISTIC_LOCK, .key = S("b")}};
    struct txn_pessimistic_lock lock;
    txn_make_lock(&lock, two, 2, S("primary"), 10, 10);
    assert_int_equal(txn_run(f, &lock.base), KVS_ERR_INVALID_ARGUMENT);
    txn_command_deinit(&lock.base);
    for (unsigned i = 0; i < 3; i++) {
        struct txn_mutation mutation = {.op = TXN_OP_SHARED_LOCK,
                                        .key = S("a"),
                                        .pessimistic_action = i == 0 ? TXN_SKIP_PESSIMISTIC_CHECK
                                                                     : TXN_DO_PESSIMISTIC_CHECK};
        struct txn_prewrite command;
        txn_make_prewrite(&command, &mutation, 1, S("primary"), 10);
        command.for_update_ts = 10;
        command.try_one_pc = i == 1;
        command.use_async_commit = i == 2;
        assert_int_equal(txn_run(f, &command.base), KVS_ERR_INVALID_ARGUMENT);
        txn_command_deinit(&command.base);
    }
    /* One of two is in the way: neither is locked, and only that one is closed. */
    two[0] = (struct txn_mutation){.op = TXN_OP_PESSIMISTIC_LOCK, .key = S("a")};
    assert_int_equal(share(f, S("b"), 5), 0);
    txn_make_lock(&lock, two, 2, S("primary"), 10, 10);
    assert_int_equal(txn_run(f, &lock.base), 0);
    assert_int_equal(lock.errors_count, 1);
    assert_slice_equal(lock.errors[0].lock.key, "b");
    txn_command_deinit(&lock.base);
    assert_owners(f, "a", "-");
    assert_owners(f, "b", "5");
    assert_int_equal(share(f, S("b"), 6), TXN_ERROR_LOCKED);
}

int main(void)
{
    static const struct txn_test tests[] = {
        {"who gets along with whom", test_compatible},
        {"prewrite and commit", test_commit},
        {"one that wants it for itself waits", test_wait},
        {"all that share it, behind one", test_share_after},
        {"circles by way of each holder", test_deadlock},
        {"no circle by way of who has gone", test_no_deadlock},
        {"the last holder takes it for itself", test_upgrade},
        {"resolving", test_resolve},
        {"status, heartbeat and cleanup", test_status},
        {"as many as there may be", test_many},
        {"primaries that grow", test_longer_primaries},
        {"many locks of many", test_many_of_many},
        {"requests that are none", test_refused},
    };
    return txn_tests_run("txn-shared", tests, sizeof tests / sizeof tests[0]);
}
