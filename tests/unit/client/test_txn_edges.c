/*
 * What a client of transactions keeps to at the edges: keys that must not exist and are locked
 * already; scans over what was written, at random; commits beside a read as of a time to come; what
 * garbage collection ends, and reads of what it has passed. In this process and on a server.
 */
#include "unit/client/txn_case.h"

#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "pdpb.pb-c.h"
#include "proto/grpc/status.h"
#include "server/pd_parts.h"
#include "unit/server/grpc_peer.h"

#include <stdatomic.h>
#include <string.h>

#include "test.h"

/* --- keys that must not exist -------------------------------------------------------------------
 */

/* The lock that is held says nothing about the key. */
static void test_inserts_of_locked_keys(void **state)
{
    (void)state;
    static const char *const pairs[] = {"read=here", "locked=here"};
    static const char *const keys[] = {"read", "locked", "absent"};
    char value[64];
    put_all(world.client, pairs, 2);
    kvs_txn *txn = world_begin(true);
    assert_int_equal(wait_value(kvs_txn_get_for_update(txn, text("read")), value), 0);
    for (size_t i = 1; i < 3; i++) {
        const kvs_slice key = text(keys[i]);
        assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, 0)), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        kvs_future *insert = kvs_txn_insert(txn, text(keys[i]), text("new"));
        int expected = i < 2 ? KVS_ERR_ALREADY_EXISTS : 0;
        kvs_txn_conflict conflict;
        assert_int_equal(kvs_future_wait(insert, -1), expected);
        assert_int_equal(kvs_future_get_txn_conflict(insert, &conflict),
                         i < 2 ? 0 : KVS_ERR_NOT_FOUND);
        if (i < 2)
            assert_true(slice_equal(conflict.key, text(keys[i])));
        kvs_future_free(insert);
    }
    kvs_txn *other = world_begin(true); /* what was locked before stays so */
    assert_int_equal(wait_free(kvs_txn_put(other, text("read"), text("x"))), KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_free(other);
    assert_int_equal(wait_free(kvs_txn_delete(txn, text("read"))), 0); /* not there from now on */
    assert_int_equal(wait_free(kvs_txn_insert(txn, text("read"), text("new"))), 0);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    kvs_txn_free(txn);
    world_expect("read", "new");
    world_expect("locked", "here");
    world_expect("absent", "new");
}

/* --- locks that are given back late -------------------------------------------------------------
 */

struct two_locks {
    kvs_txn *txn;
    kvs_future *first;
    kvs_future *second;
    atomic_bool called;
};

/* Before the start is there, which is the time of both then. */
static kvs_future *lock_twice(kvs_txn *txn, void *arg)
{
    struct two_locks *locks = arg;
    const kvs_slice keys[] = {text("m1"), text("m5")};
    locks->txn = txn;
    locks->first = kvs_txn_lock(txn, keys, 2, KVS_TXN_LOCK_NO_WAIT);
    locks->second = kvs_txn_lock(txn, keys, 1, KVS_TXN_LOCK_NO_WAIT);
    atomic_store(&locks->called, true);
    return kvs_future_delay(world.runtime, 600000); /* until the run is cancelled */
}

/* What a lock that failed gives back may come to a store after the next one has locked it: TiKV
 * keeps no order. */
static void test_lock_after_one_that_failed(void **state)
{
    (void)state;
    const struct kvs_txn_options pessimistic = {.size = sizeof pessimistic, .pessimistic = true};
    const struct kvs_txn_run_options options = {.size = sizeof options, .txn = &pessimistic};
    struct two_locks locks = {.called = false};
    txn_world_split(&world, "m3");
    kvs_txn *other = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_put(other, text("m5"), text("o"))), 0);
    kvs_future *run = kvs_txn_run(world.client, lock_twice, &locks, &options);
    while (!atomic_load(&locks.called))
        wait_free(kvs_future_delay(world.runtime, 1));
    assert_int_equal(wait_free(locks.first), KVS_ERR_LOCK_TIMEOUT);
    assert_int_equal(wait_free(locks.second), 0);
    uint64_t start_ts = (uint64_t)wait_number(kvs_txn_start_timestamp(locks.txn));
    const struct ghost late = {.start_ts = start_ts, .for_update_ts = start_ts};
    assert_int_equal(ghost_unlock(world.client, &late, "m1"), 0);
    assert_int_equal(wait_free(kvs_txn_put(other, text("m1"), text("o"))), KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_free(other);
    kvs_future_cancel(run);
    wait_free(run);
}

/* --- reads as of a time to come -----------------------------------------------------------------
 */

/* One that a cluster still takes for a clock that is fast. Who commits all the same sees it at
 * once, and so do others. */
static void test_commits_do_not_follow_reads_ahead(void **state)
{
    (void)state;
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    uint64_t ahead = now + (UINT64_C(40000) << KVS_TXN_TS_LOGICAL_BITS);
    kvs_snapshot *snapshot = kvs_snapshot_new(world.client, ahead);
    int error = wait_free(kvs_snapshot_get(snapshot, text("a")));
    assert_true(error == KVS_ERR_NOT_FOUND || error == KVS_ERR_INVALID_ARGUMENT);
    kvs_snapshot_free(snapshot);
    for (unsigned i = 0; i < 4; i++) {
        const struct kvs_txn_options options = {
            .size = sizeof options, .pessimistic = (i & 1) != 0, .no_one_pc = (i & 2) != 0};
        kvs_txn *txn = kvs_txn_begin(world.client, &options);
        const char *const values[] = {"0", "1", "2", "3"};
        wait_free(kvs_txn_put(txn, text("a"), text(values[i])));
        wait_free(kvs_txn_put(txn, text("b"), text(values[i])));
        uint64_t commit_ts = (uint64_t)wait_number(kvs_txn_commit(txn));
        kvs_txn_free(txn);
        assert_true(commit_ts > now && commit_ts < ahead);
        txn = world_begin(false);
        char value[64];
        assert_int_equal(wait_value(kvs_txn_get(txn, text("a")), value), 0);
        assert_string_equal(value, values[i]);
        assert_int_equal(wait_value(kvs_txn_get(txn, text("b")), value), 0);
        assert_string_equal(value, values[i]);
        kvs_txn_free(txn);
    }
}

/* --- reads of what GC has passed ----------------------------------------------------------------
 */

/* Of a snapshot of this time all reads are refused, or none. */
static void expect_reads(uint64_t timestamp, int expected)
{
    const kvs_slice keys[] = {text("a"), text("b")};
    kvs_snapshot *snapshot = kvs_snapshot_new(world.client, timestamp);
    assert_int_equal(wait_free(kvs_snapshot_get(snapshot, text("a"))), expected);
    assert_int_equal(wait_free(kvs_snapshot_exists(snapshot, text("a"))), expected);
    assert_int_equal(wait_free(kvs_snapshot_batch_get(snapshot, keys, 2)), expected);
    assert_int_equal(wait_free(kvs_snapshot_scan(snapshot, text("a"), text("c"), 9, 0)), expected);
    kvs_snapshot_free(snapshot);
}

/* What was removed is not taken for what never was; nor do writes miss a conflict for it. */
static void test_older_than_the_safe_point(void **state)
{
    (void)state;
    static const char *const first[] = {"a=1", "b=1"};
    static const char *const second[] = {"a=2"};
    put_all(world.client, first, 2);
    uint64_t before = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    kvs_txn *reads = world_begin(false);
    kvs_txn *writes = world_begin(false);
    kvs_txn *locks = world_begin(true);
    assert_int_equal(wait_free(kvs_txn_get(reads, text("a"))), 0);
    assert_int_equal(wait_free(kvs_txn_get(writes, text("a"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(writes, text("b"), text("old"))), 0);
    put_all(world.client, second, 1);
    expect_reads(before, 0);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(wait_number(kvs_txn_gc(world.client, now)), (int64_t)now);
    expect_reads(before, KVS_ERR_TXN_TOO_OLD);
    expect_reads(now - 1, KVS_ERR_TXN_TOO_OLD);
    expect_reads(now, 0);
    expect_reads(0, 0);
    expect_reads(KVS_TXN_TS_LATEST, 0);
    assert_int_equal(wait_free(kvs_txn_get(reads, text("a"))), KVS_ERR_TXN_TOO_OLD);
    assert_int_equal(wait_free(kvs_txn_commit(writes)), KVS_ERR_TXN_TOO_OLD);
    kvs_future *lock = kvs_txn_put(locks, text("a"), text("old"));
    kvs_future_wait(lock, -1);
    assert_int_equal(kvs_future_error(lock), KVS_ERR_TXN_TOO_OLD);
    assert_null(strstr(kvs_future_error_message(lock), "memory"));
    kvs_future_free(lock);
    assert_true(kvs_error_retry_txn(KVS_ERR_TXN_TOO_OLD));
    kvs_txn_free(reads);
    kvs_txn_free(writes);
    kvs_txn_free(locks);
    assert_int_equal(wait_number(kvs_txn_gc(world.client, before)), (int64_t)now); /* nor back */
    world_expect("a", "2");
    world_expect("b", "1");
    if (world_kind != WORLD_MEMORY) {
        world_reopen();
        expect_reads(before, KVS_ERR_TXN_TOO_OLD);
        expect_reads(0, 0);
    }
}

/* Another client's collection of a cluster: heard of within ten seconds. */
static void test_others_learn_of_the_safe_point(void **state)
{
    (void)state;
    kvs_txn_client *other = txn_world_client(&world);
    uint64_t before = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(wait_number(kvs_txn_gc(other, now)), (int64_t)now);
    kvs_snapshot *snapshot = kvs_snapshot_new(world.client, before);
    int error;
    while ((error = wait_free(kvs_snapshot_get(snapshot, text("a")))) == KVS_ERR_NOT_FOUND)
        wait_free(kvs_future_delay(world.runtime, 50));
    assert_int_equal(error, KVS_ERR_TXN_TOO_OLD);
    kvs_snapshot_free(snapshot);
    txn_world_close(other);
}

/* The linker sends the server's answers through here. */
static atomic_bool pd_is_ill;

void __real_pd_get_gc_state(struct rpc *rpc, kvs_slice message);
void __wrap_pd_get_gc_state(struct rpc *rpc, kvs_slice message);

void __wrap_pd_get_gc_state(struct rpc *rpc, kvs_slice message)
{
    if (atomic_load(&pd_is_ill))
        rpc_fail(rpc, GRPC_PERMISSION_DENIED, "this one may not ask");
    else
        __real_pd_get_gc_state(rpc, message);
}

/* "": it was no time-out. */
static void get_in_time(kvs_txn_client *client, uint32_t timeout_ms, char why[256])
{
    const struct kvs_txn_options options = {.size = sizeof options, .timeout_ms = timeout_ms};
    kvs_txn *txn = kvs_txn_begin(client, &options);
    kvs_future *future = kvs_txn_get(txn, text("a"));
    bool is_late = kvs_future_wait(future, -1) == KVS_ERR_TIMEOUT;
    snprintf(why, 256, "%s", is_late ? kvs_future_error_message(future) : "");
    kvs_future_free(future);
    kvs_txn_free(txn);
}

/* Without a safe point no read is told; what PD says of it is. It may be that there is no time to
 * ask PD anything: so the next one gets more. */
static void test_pd_tells_no_safe_point(void **state)
{
    (void)state;
    static const char expected[] = "PD does not tell the safe point of garbage collection: ";
    char why[256] = "";
    atomic_store(&pd_is_ill, true);
    kvs_txn_client *client = txn_world_client(&world);
    for (uint32_t ms = 100; ms < 60000 && strstr(why, "this one may not ask") == NULL; ms *= 2)
        get_in_time(client, ms, why);
    atomic_store(&pd_is_ill, false);
    kvs_txn *txn = kvs_txn_begin(client, NULL);
    assert_int_equal(wait_free(kvs_txn_get(txn, text("a"))), KVS_ERR_NOT_FOUND);
    kvs_txn_free(txn);
    txn_world_close(client);
    if (strstr(why, expected) == NULL || strstr(why, "this one may not ask") == NULL)
        fail_msg("\"%s\"", why);
}

/* --- what holds it back -------------------------------------------------------------------------
 */

#define PD "/pdpb.PD/"

static void *ask_pd(struct grpc_peer *peer, const char *path, const ProtobufCMessage *request,
                    const ProtobufCMessageDescriptor *type)
{
    void *reply;
    assert_int_equal(grpc_peer_ask(peer, path, request, type, &reply, NULL), GRPC_OK);
    return reply;
}

static void set_barrier(struct grpc_peer *peer, uint64_t ts)
{
    Pdpb__SetGCBarrierRequest request = PDPB__SET_GCBARRIER_REQUEST__INIT;
    request.barrier_id = (char *)(uintptr_t) "backup";
    request.barrier_ts = ts;
    request.ttl_seconds = 3600;
    Pdpb__SetGCBarrierResponse *reply =
        ask_pd(peer, PD "SetGCBarrier", &request.base, &pdpb__set_gcbarrier_response__descriptor);
    assert_null(reply->header->error);
    pdpb__set_gcbarrier_response__free_unpacked(reply, NULL);
}

static void delete_barrier(struct grpc_peer *peer)
{
    Pdpb__DeleteGCBarrierRequest request = PDPB__DELETE_GCBARRIER_REQUEST__INIT;
    request.barrier_id = (char *)(uintptr_t) "backup";
    Pdpb__DeleteGCBarrierResponse *reply = ask_pd(peer, PD "DeleteGCBarrier", &request.base,
                                                  &pdpb__delete_gcbarrier_response__descriptor);
    assert_null(reply->header->error);
    pdpb__delete_gcbarrier_response__free_unpacked(reply, NULL);
}

static void expect_points(struct grpc_peer *peer, uint64_t txn, uint64_t gc)
{
    Pdpb__GetGCStateRequest request = PDPB__GET_GCSTATE_REQUEST__INIT;
    Pdpb__GetGCStateResponse *reply =
        ask_pd(peer, PD "GetGCState", &request.base, &pdpb__get_gcstate_response__descriptor);
    assert_int_equal(reply->gc_state->txn_safe_point, txn);
    assert_int_equal(reply->gc_state->gc_safe_point, gc);
    pdpb__get_gcstate_response__free_unpacked(reply, NULL);
}

/* A backup reads as of its time: collection goes as far as that, and so do the locks it ends. */
static void test_a_barrier_holds_gc_back(void **state)
{
    (void)state;
    static const char *const first[] = {"a=1", "b=1"};
    static const char *const second[] = {"a=2"};
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(world.server));
    put_all(world.client, first, 2);
    uint64_t before = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    uint64_t backup = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    const struct ghost ghost = {
        .start_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client)),
        .primary = "c",
        .ttl_ms = 600000,
    };
    assert_int_equal(ghost_prewrite(world.client, &ghost, "c", "x"), 0);
    put_all(world.client, second, 1);
    set_barrier(&peer, backup);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(wait_number(kvs_txn_gc(world.client, now)), (int64_t)backup);
    expect_points(&peer, backup, backup);
    expect_reads(before, KVS_ERR_TXN_TOO_OLD);
    expect_reads(backup, 0);
    assert_int_not_equal(lock_life_ms(world.client, "c", ghost.start_ts), 0);
    assert_int_equal(wait_number(kvs_txn_gc(world.client, before)), (int64_t)backup);
    delete_barrier(&peer);
    assert_int_equal(wait_number(kvs_txn_gc(world.client, now)), (int64_t)now);
    expect_points(&peer, now, now);
    expect_reads(backup, KVS_ERR_TXN_TOO_OLD);
    assert_int_equal(lock_life_ms(world.client, "c", ghost.start_ts), 0);
    grpc_peer_close(&peer);
}

/* Another one collects, too, and has only come to what nobody begins below. */
static void test_gc_beside_another(void **state)
{
    (void)state;
    struct grpc_peer peer;
    grpc_peer_open(&peer, kvs_server_pd_address(world.server));
    uint64_t before = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    Pdpb__AdvanceTxnSafePointRequest request = PDPB__ADVANCE_TXN_SAFE_POINT_REQUEST__INIT;
    request.target = now;
    Pdpb__AdvanceTxnSafePointResponse *reply =
        ask_pd(&peer, PD "AdvanceTxnSafePoint", &request.base,
               &pdpb__advance_txn_safe_point_response__descriptor);
    assert_int_equal(reply->new_txn_safe_point, now);
    pdpb__advance_txn_safe_point_response__free_unpacked(reply, NULL);
    assert_int_equal(wait_number(kvs_txn_gc(world.client, before)), (int64_t)before);
    expect_points(&peer, now, before);
    grpc_peer_close(&peer);
}

/* Its primary was never written: nobody waits for the end of the lock's life. */
static void test_gc_ends_locks_without_a_primary(void **state)
{
    (void)state;
    const struct ghost ghost = {
        .start_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client)),
        .primary = "a",
        .ttl_ms = 24u * 3600 * 1000,
    };
    assert_int_equal(ghost_prewrite(world.client, &ghost, "b", "x"), 0);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    kvs_future *gc = kvs_future_timeout(kvs_txn_gc(world.client, now), 60000);
    assert_int_equal(wait_number(gc), (int64_t)now);
    world_expect("b", NULL);
    assert_int_not_equal(ghost_prewrite(world.client, &ghost, "a", "x"), 0); /* too late */
}

/* Also an asynchronous commit: its other locks decide about it, of which one is not there. */
static void test_gc_ends_the_living(void **state)
{
    (void)state;
    const struct ghost ghost = {
        .start_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client)),
        .primary = "a",
        .ttl_ms = 24u * 3600 * 1000,
        .async = true,
        .secondaries = {"b"},
        .secondaries_count = 1,
    };
    assert_int_equal(ghost_prewrite(world.client, &ghost, "a", "x"), 0);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    kvs_future *gc = kvs_future_timeout(kvs_txn_gc(world.client, now), 60000);
    assert_int_equal(wait_number(gc), (int64_t)now);
    world_expect("a", NULL);
}

/* --- scans over what is written -----------------------------------------------------------------
 */

enum { KEYS = 40, DIGITS = 8 };

/* What a transaction sees of each key: 0: nothing, else the byte of its value. */
struct model {
    uint8_t values[KEYS];
};

struct key_text {
    char bytes[2];
};

static kvs_slice key_of(struct key_text *text_of, unsigned i)
{
    text_of->bytes[0] = (char)('a' + i / DIGITS);
    text_of->bytes[1] = (char)('0' + i % DIGITS);
    return slice_make(text_of->bytes, sizeof text_of->bytes);
}

/* Puts, deletes and locks. */
static void write_at_random(kvs_txn *txn, struct model *model, struct rand *rand)
{
    for (unsigned n = 0; n < 6; n++) {
        unsigned i = (unsigned)rand_below(rand, KEYS);
        uint8_t value = (uint8_t)(1 + rand_below(rand, 255));
        struct key_text key_text;
        const kvs_slice key = key_of(&key_text, i);
        switch (rand_below(rand, 4)) {
        case 0:
            assert_int_equal(wait_free(kvs_txn_delete(txn, key)), 0);
            model->values[i] = 0;
            break;
        case 1:
            assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, 0)), 0);
            break;
        default:
            assert_int_equal(wait_free(kvs_txn_put(txn, key, slice_make(&value, 1))), 0);
            model->values[i] = value;
        }
    }
}

/* What the model has from `low` up to, not with, `high`: all of the pairs, and whether there is
 * more. */
static void expect_pairs(const struct model *model, unsigned low, unsigned high, uint32_t limit,
                         unsigned flags, kvs_future *scan)
{
    const kvs_pair *pairs;
    size_t count;
    int64_t more;
    size_t at = 0;
    bool is_more = false;
    assert_int_equal(kvs_future_wait(scan, -1), 0);
    assert_int_equal(kvs_future_get_pairs(scan, &pairs, &count), 0);
    assert_int_equal(kvs_future_get_number(scan, &more), 0);
    for (unsigned n = low; n < high && !is_more; n++) {
        unsigned i = (flags & KVS_OP_FLAG_REVERSE) != 0 ? high - 1 - (n - low) : n;
        struct key_text key_text;
        is_more = model->values[i] != 0 && limit > 0 && at == limit;
        if (model->values[i] == 0 || is_more)
            continue;
        assert_true(at < count && slice_equal(pairs[at].key, key_of(&key_text, i)));
        assert_int_equal(pairs[at].value.size, (flags & KVS_OP_FLAG_KEYS_ONLY) == 0);
        if (pairs[at].value.size > 0)
            assert_int_equal(pairs[at].value.data[0], model->values[i]);
        at++;
    }
    assert_int_equal(at, count);
    assert_int_equal(more, is_more);
}

static void scan_at_random(kvs_txn *txn, const struct model *model, struct rand *rand)
{
    unsigned low = (unsigned)rand_below(rand, KEYS);
    unsigned high = (unsigned)rand_below(rand, KEYS + 1);
    uint32_t limit = (uint32_t)rand_below(rand, KEYS); /* 0: a page, which all fit in */
    unsigned flags = rand_below(rand, 2) != 0 ? KVS_OP_FLAG_REVERSE : 0;
    struct key_text low_text, high_text;
    flags |= rand_below(rand, 4) == 0 ? KVS_OP_FLAG_KEYS_ONLY : 0;
    kvs_slice start = low > 0 ? key_of(&low_text, low) : text("");
    kvs_slice end = high < KEYS ? key_of(&high_text, high) : text("");
    kvs_future *scan = kvs_txn_scan(txn, start, end, limit, flags);
    expect_pairs(model, low, high, limit, flags, scan);
    kvs_future_free(scan);
}

static void test_scans_at_random(void **state)
{
    (void)state;
    struct rand rand = rand_seed(test_seed());
    txn_world_split(&world, "b3");
    txn_world_split(&world, "d");
    struct model there = {.values = {0}};
    for (unsigned round = 0; round < 6; round++) {
        kvs_txn *txn = world_begin(round % 2 != 0);
        struct model seen = there;
        for (unsigned step = 0; step < 3; step++) {
            write_at_random(txn, &seen, &rand);
            for (unsigned i = 0; i < 4; i++)
                scan_at_random(txn, &seen, &rand);
        }
        if (round % 3 != 2) {
            assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
            there = seen;
        } else {
            assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
        }
        kvs_txn_free(txn);
    }
}

/* --- the list ----------------------------------------------------------------------------------
 */

#define TESTS(engine)                                               \
    WORLD_TEST(test_inserts_of_locked_keys, engine),                \
        WORLD_TEST(test_commits_do_not_follow_reads_ahead, engine), \
        WORLD_TEST(test_gc_ends_the_living, engine),                \
        WORLD_TEST(test_gc_ends_locks_without_a_primary, engine),   \
        WORLD_TEST(test_scans_at_random, engine)

int main(void)
{
    const struct CMUnitTest tests[] = {TESTS(memory),
                                       TESTS(log),
                                       TESTS(tikv),
                                       WORLD_TEST(test_lock_after_one_that_failed, tikv),
                                       WORLD_TEST(test_older_than_the_safe_point, memory),
                                       WORLD_TEST(test_older_than_the_safe_point, log),
                                       WORLD_TEST(test_older_than_the_safe_point, tikv),
                                       WORLD_TEST(test_others_learn_of_the_safe_point, tikv),
                                       WORLD_TEST(test_pd_tells_no_safe_point, tikv),
                                       WORLD_TEST(test_a_barrier_holds_gc_back, tikv),
                                       WORLD_TEST(test_gc_beside_another, tikv)};
    return cmocka_run_group_tests_name("txn-edges", tests, NULL, NULL);
}
