/*
 * What a client says of a commit whose requests get lost: before or after they were carried out, or
 * certainly not carried out; what it sends then; heartbeats, priorities, what becomes of locks.
 *
 * A meddler sits between the rules of the client and the node of this process: it counts commands,
 * and loses the answer of those of one kind.
 */
#include "unit/client/txn_world.h"

#include "client/tikv/txn_wire.h"
#include "client/txn/committer.h"
#include "client/txn/txn_parts.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "test.h"

#define KINDS 32u

enum loss {
    LOST_NEVER,
    LOST_BEFORE, /* it got lost on its way */
    LOST_AFTER,  /* its answer did */
    REFUSED,     /* it certainly did not get there */
    PUSHED,      /* it is answered that its time is too early */
};

static struct txn_world world;
static struct {
    const struct txn_transport_methods *real;
    struct txn_transport_methods mine;
    const struct txn_call_methods *callers;
    enum txn_command_kind kind;
    enum loss loss;
    atomic_uint times; /* so often */
    atomic_uint counts[KINDS];
    atomic_uint priorities[KINDS]; /* of the last of its kind */
    atomic_ullong left_ms;         /* of the last one's time */
    struct txn_timestamp *held;    /* a question for the time that is not answered */
} meddler;

/* --- the meddler --- */

static int lost_fit(struct txn_call *call, const struct txn_bounds *bounds)
{
    int error = meddler.callers->fit(call, bounds);
    return error == 0 && meddler.loss != LOST_AFTER ? KVS_ERR_CONNECTION_LOST : error;
}

static void lost_done(struct txn_call *call, int error)
{
    (void)error;
    call->methods = meddler.callers;
    if (meddler.loss == PUSHED) {
        struct txn_commit *commit = &call->command.commit;
        commit->error = (struct txn_key_error){.kind = TXN_ERROR_COMMIT_TS_EXPIRED,
                                               .min_commit_ts = commit->commit_ts + 1};
        call->methods->done(call, 0);
        return;
    }
    call->maybe_done = meddler.loss != REFUSED;
    snprintf(call->why, sizeof call->why, "lost");
    call->methods->done(call, KVS_ERR_CONNECTION_LOST);
}

static const struct txn_call_methods lost_methods = {.fit = lost_fit, .done = lost_done};

static void meddle_start(struct txn_call *call)
{
    enum txn_command_kind kind = (enum txn_command_kind)call->command.base.kind;
    atomic_store(&meddler.left_ms, call->deadline_ms - loop_now_ms(call->transport->loop));
    atomic_fetch_add(&meddler.counts[kind], 1);
    atomic_store(&meddler.priorities[kind], call->priority);
    if (atomic_load(&meddler.times) > 0 && kind == meddler.kind) { /* in this order: meddle() */
        atomic_fetch_sub(&meddler.times, 1);
        meddler.callers = call->methods;
        call->methods = &lost_methods;
    }
    meddler.real->start(call);
}

static unsigned sent(enum txn_command_kind kind)
{
    return atomic_load(&meddler.counts[kind]);
}

static void meddle(enum txn_command_kind kind, enum loss loss, unsigned times)
{
    meddler.kind = kind;
    meddler.loss = loss;
    for (unsigned i = 0; i < KINDS; i++)
        atomic_store(&meddler.counts[i], 0);
    atomic_store(&meddler.times, times); /* last: calls of before have ended */
}

/* --- on the client's loop --- */

struct visit {
    struct task task;
    void (*run)(struct visit *visit);
    kvs_txn *txn;
    bool runs;
    atomic_bool done;
};

static void visit_run(struct task *task)
{
    struct visit *visit = CONTAINER_OF(task, struct visit, task);
    visit->run(visit);
    atomic_store(&visit->done, true);
}

static bool visit_loop(void (*run)(struct visit *visit), kvs_txn *txn)
{
    struct visit visit = {.task.run = visit_run, .run = run, .txn = txn};
    loop_post(world.client->shards[0].loop, &visit.task);
    while (!atomic_load(&visit.done))
        wait_free(kvs_future_delay(world.runtime, 1));
    return visit.runs;
}

static void install(struct visit *visit)
{
    (void)visit;
    struct txn_transport *transport = world.client->shards[0].transport;
    meddler.real = transport->methods;
    meddler.mine = *meddler.real;
    meddler.mine.start = meddle_start;
    transport->methods = &meddler.mine;
}

static int set_up(void **state)
{
    (void)state;
    static const char *const old[] = {"a=old", "b=old"};
    txn_world_start(&world, WORLD_MEMORY, 1);
    put_all(world.client, old, 2);
    visit_loop(install, NULL);
    meddle(TXN_GET, LOST_NEVER, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    txn_world_stop(&world);
    return 0;
}

/* --- what is done there --- */

static void look_at_heartbeat(struct visit *visit)
{
    visit->runs = visit->txn->heartbeat.runs;
}

/* As if its time had come. */
static void heartbeat_now(struct visit *visit)
{
    struct txn_timer *timer = &visit->txn->heartbeat.timer;
    shard_timer_stop(visit->txn->shard, timer);
    timer->fire(timer);
    visit->runs = visit->txn->heartbeat.runs;
}

static bool no_time_now(struct txn_transport *transport, uint64_t *ret_ts)
{
    (void)transport;
    (void)ret_ts;
    return false;
}

static void hold_question(struct txn_timestamp *request)
{
    meddler.held = request;
}

static void hold_time(struct visit *visit)
{
    (void)visit;
    meddler.held = NULL;
    meddler.mine.now = no_time_now;
    meddler.mine.timestamp = hold_question;
}

static void look_at_time(struct visit *visit)
{
    visit->runs = meddler.held != NULL;
}

static void give_time(struct visit *visit)
{
    (void)visit;
    meddler.mine.now = meddler.real->now;
    meddler.mine.timestamp = meddler.real->timestamp;
    meddler.real->now(meddler.held->transport, &meddler.held->ts);
    meddler.held->done(meddler.held, 0, "");
}

/* --- outcomes --- */

enum way { ONE_PHASE, ASYNC, TWO_PHASES, WAYS };

static kvs_txn *begin(enum way way, bool is_pessimistic)
{
    const struct kvs_txn_options options = {.size = sizeof options,
                                            .pessimistic = is_pessimistic,
                                            .no_one_pc = way != ONE_PHASE,
                                            .no_async_commit = way == TWO_PHASES};
    return kvs_txn_begin(world.client, &options);
}

static int commit_both(enum way way, bool is_pessimistic)
{
    kvs_txn *txn = begin(way, is_pessimistic);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("new"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("new"))), 0);
    int error = wait_free(kvs_txn_commit(txn));
    kvs_txn_free(txn);
    return error;
}

static void expect_both(const char *expected)
{
    char value[64];
    assert_int_equal(get_now(world.client, "b", value), 0);
    assert_string_equal(value, expected);
    assert_int_equal(get_now(world.client, "a", value), 0);
    assert_string_equal(value, expected);
}

/* The request that decides was sent and not answered: nobody knows, and nothing is taken back. */
static void test_unknown(void **state)
{
    (void)state;
    static const struct {
        enum way way;
        enum txn_command_kind kind;
    } rows[] = {{ONE_PHASE, TXN_PREWRITE}, {ASYNC, TXN_PREWRITE}, {TWO_PHASES, TXN_COMMIT}};
    for (unsigned i = 0; i < 12; i++) {
        unsigned row = i % 3;
        enum loss loss = i / 3 % 2 == 0 ? LOST_BEFORE : LOST_AFTER;
        set_up(NULL);
        meddle(rows[row].kind, loss, 1);
        int error = commit_both(rows[row].way, i >= 6);
        assert_int_equal(error, KVS_ERR_OUTCOME_UNKNOWN);
        assert_true(kvs_error_maybe_committed(error));
        assert_false(kvs_error_retry_txn(error));
        if (rows[row].way != ASYNC) /* that one's locks have a while to live */
            expect_both(loss == LOST_AFTER ? "new" : "old");
        tear_down(NULL); /* also what goes on in the background */
        assert_int_equal(sent(TXN_BATCH_ROLLBACK), 0);
        assert_int_equal(sent(TXN_PREWRITE), 1);
    }
}

/* A call that waits for its transaction's start has less time left for itself. */
static void test_start_is_of_the_time(void **state)
{
    (void)state;
    const struct kvs_txn_options options = {.size = sizeof options, .timeout_ms = 60000};
    char value[64];
    visit_loop(hold_time, NULL);
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    kvs_future *get = kvs_txn_get(txn, text("a"));
    wait_free(kvs_future_delay(world.runtime, 100));
    visit_loop(give_time, NULL);
    assert_int_equal(wait_value(get, value), 0);
    assert_in_range(atomic_load(&meddler.left_ms), 1, 60000 - 80);
    assert_int_equal(wait_value(kvs_txn_get(txn, text("b")), value), 0);
    kvs_txn_free(txn);
}

/* Cleaning up waits for the time, which does not come: it is given up at once. */
static void test_cleanup_is_given_up(void **state)
{
    (void)state;
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    const struct ghost ghost = {.start_ts = now, .primary = "g", .ttl_ms = 60000};
    assert_int_equal(ghost_prewrite(world.client, &ghost, "g", "lost"), 0);
    visit_loop(hold_time, NULL);
    kvs_future *cleanup = kvs_txn_cleanup_locks(world.client, text("g"), text("h"), now);
    while (!visit_loop(look_at_time, NULL))
        continue;
    kvs_future_cancel(cleanup);
    assert_int_equal(kvs_future_wait(cleanup, 10000), KVS_ERR_CANCELLED);
    kvs_future_free(cleanup);
    visit_loop(give_time, NULL);
}

/* The store is asked for a lock again and again: each time it has the time of a call, and a second
 * to wait for others. */
static void test_lock_has_its_time(void **state)
{
    (void)state;
    const struct kvs_txn_options options = {
        .size = sizeof options, .pessimistic = true, .lock_wait_ms = 60000, .timeout_ms = 5000};
    kvs_txn *holder = begin(TWO_PHASES, true);
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("new"))), 0);
    assert_in_range(atomic_load(&meddler.left_ms), 5000, 6000);
    assert_int_equal(wait_free(kvs_txn_put(holder, text("b"), text("new"))), 0);
    kvs_future *put = kvs_txn_put(txn, text("b"), text("new"));
    while (sent(TXN_PESSIMISTIC_LOCK) < 4) /* it has been answered once */
        wait_free(kvs_future_delay(world.runtime, 1));
    assert_in_range(atomic_load(&meddler.left_ms), 5000, 6000);
    assert_int_equal(wait_free(kvs_txn_commit(holder)), 0);
    assert_int_equal(wait_free(put), 0);
    kvs_txn_free(holder);
    kvs_txn_free(txn);
}

/* A request for a lock that was given up may come after what gives the lock back, which is sent
 * again then. */
static void test_late_lock(void **state)
{
    (void)state;
    const struct kvs_txn_options options = {.size = sizeof options, .pessimistic = true};
    const kvs_slice key = text("a");
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    struct ghost ghost = {.primary = "a", .ttl_ms = 600000};
    ghost.start_ts = (uint64_t)wait_number(kvs_txn_start_timestamp(txn));
    ghost.for_update_ts = ghost.start_ts;
    meddle(TXN_PESSIMISTIC_LOCK, LOST_BEFORE, 1);
    assert_int_equal(wait_free(kvs_txn_lock(txn, &key, 1, 0)), KVS_ERR_CONNECTION_LOST);
    while (sent(TXN_PESSIMISTIC_ROLLBACK) < 1)
        wait_free(kvs_future_delay(world.runtime, 1));
    assert_int_equal(ghost_lock(world.client, &ghost, "a"), 0);
    kvs_txn *next = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_lock(next, &key, 1, 10000)), 0);
    assert_int_equal(sent(TXN_PESSIMISTIC_ROLLBACK), 2);
    kvs_txn_free(next);
    kvs_txn_free(txn);
}

/* The loop is told that it is cancelled before it can be told that the safe point is written. */
static void cancel_at_gc(struct txn_chore *chore)
{
    kvs_future_cancel(future_of_payload(chore->owner));
    meddler.real->gc(chore);
}

static void install_gc(struct visit *visit)
{
    (void)visit;
    meddler.mine.gc = cancel_at_gc;
}

/* Given up while the safe point is written: nothing is removed. */
static void test_gc_is_given_up(void **state)
{
    set_up(state);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    visit_loop(install_gc, NULL);
    assert_int_equal(wait_free(kvs_txn_gc(world.client, now)), KVS_ERR_CANCELLED);
    tear_down(state); /* all that was begun has ended */
    assert_int_equal(sent(TXN_SCAN_LOCK), 1);
    assert_int_equal(sent(TXN_GC), 0);
}

/* Readers push the primary: a few times, and without end. Each attempt but the second waits twice
 * as long as the one before. */
static void test_pushed(void **state)
{
    (void)state;
    meddle(TXN_COMMIT, PUSHED, 3);
    assert_int_equal(commit_both(TWO_PHASES, false), 0);
    expect_both("new");
    meddle(TXN_COMMIT, PUSHED, UINT32_MAX);
    const struct kvs_txn_options options = {
        .size = sizeof options, .no_one_pc = true, .no_async_commit = true, .timeout_ms = 200};
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("newer"))), 0);
    int error = wait_free(kvs_txn_commit(txn));
    kvs_txn_free(txn);
    assert_true(error == KVS_ERR_TIMEOUT || error == KVS_ERR_OUTCOME_UNKNOWN);
    expect_both("new");
    assert_true(sent(TXN_COMMIT) <= 10);
}

/* A request that decides nothing, or was not carried out for sure: it failed, and is taken back. */
static void test_definite(void **state)
{
    (void)state;
    static const struct {
        enum way way;
        enum txn_command_kind kind;
        enum loss loss;
    } rows[] = {
        {ONE_PHASE, TXN_PREWRITE, REFUSED},      {ASYNC, TXN_PREWRITE, REFUSED},
        {TWO_PHASES, TXN_PREWRITE, LOST_BEFORE}, {TWO_PHASES, TXN_PREWRITE, LOST_AFTER},
        {TWO_PHASES, TXN_PREWRITE, REFUSED},     {TWO_PHASES, TXN_COMMIT, REFUSED},
    };
    for (unsigned i = 0; i < 12; i++) {
        unsigned row = i % 6;
        set_up(NULL);
        meddle(rows[row].kind, rows[row].loss, 1);
        int error = commit_both(rows[row].way, i >= 6);
        assert_int_equal(error, KVS_ERR_CONNECTION_LOST);
        assert_false(kvs_error_maybe_committed(error));
        assert_true(kvs_error_retry_txn(error));
        expect_both("old");
        assert_int_equal(commit_both(rows[row].way, false), 0); /* nothing is in the way for long */
        expect_both("new");
        tear_down(NULL);
        assert_int_equal(sent(TXN_BATCH_ROLLBACK), 1);
    }
}

/* The outcome is there before the other keys have it: whoever meets them finds out. */
static void test_background_is_lost(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        meddle(TXN_COMMIT, i == 0 ? LOST_BEFORE : LOST_AFTER, 1);
        assert_int_equal(commit_both(ASYNC, false), 0);
        expect_both("new");
    }
    assert_int_equal(sent(TXN_BATCH_ROLLBACK), 0);
}

/* Others have ended the transaction. */
static void test_lock_lost(void **state)
{
    (void)state;
    kvs_txn *txn = begin(TWO_PHASES, true);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("late"))), 0);
    kvs_future *destroy = kvs_txn_unsafe_destroy_range(world.client, text("a"), text("c"));
    assert_int_equal(wait_free(destroy), 0); /* locks and all */
    assert_int_equal(commit_both(ONE_PHASE, false), 0);
    kvs_future *commit = kvs_txn_commit(txn);
    int error = kvs_future_wait(commit, -1);
    assert_int_equal(error, KVS_ERR_LOCK_LOST);
    assert_true(kvs_error_retry_txn(error));
    kvs_txn_conflict conflict;
    assert_int_equal(kvs_future_get_txn_conflict(commit, &conflict), 0);
    assert_slice_equal(conflict.key, "a");
    kvs_future_free(commit);
    kvs_txn_free(txn);
    expect_both("new");
}

/* --- the whole again --- */

static kvs_future *put_new(kvs_txn *txn, void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
    kvs_future_free(kvs_txn_put(txn, text("a"), text("new")));
    return kvs_txn_put(txn, text("b"), text("new"));
}

static void test_run(void **state)
{
    (void)state;
    const struct kvs_txn_run_options options = {.size = sizeof options, .attempts_max = 3};
    atomic_uint calls = 0;
    meddle(TXN_PREWRITE, REFUSED, 2);
    assert_int_equal(wait_free(kvs_txn_run(world.client, put_new, &calls, &options)), 0);
    assert_int_equal(atomic_exchange(&calls, 0), 3);
    meddle(TXN_PREWRITE, REFUSED, 3);
    assert_int_equal(wait_free(kvs_txn_run(world.client, put_new, &calls, &options)),
                     KVS_ERR_CONNECTION_LOST);
    assert_int_equal(atomic_exchange(&calls, 0), 3);
    meddle(TXN_PREWRITE, LOST_AFTER, 1); /* it may have happened: not again */
    assert_int_equal(wait_free(kvs_txn_run(world.client, put_new, &calls, &options)),
                     KVS_ERR_OUTCOME_UNKNOWN);
    assert_int_equal(atomic_exchange(&calls, 0), 1);
}

static bool ended_at_once; /* the loop's, until the visit is over */

/* Between two attempts to get past a lock: as if its future was cancelled then. */
static void cancel_between(struct visit *visit)
{
    struct list *at = visit->txn->running.next;
    if (at == &visit->txn->running)
        return;
    struct txn_request *op = list_entry(at, struct txn_request, node);
    struct committer *committer = op->committer;
    if (committer == NULL || !committer->timer_runs)
        return;
    op->cancelled = true;
    commit_cancel(op);
    ended_at_once = committer->op == NULL;
    shard_timer_stop(visit->txn->shard, &committer->timer);
    committer->timer.fire(&committer->timer);
    visit->runs = true;
}

/* A commit that waits for another's lock is given up: it does not go on when that is gone. */
static void test_cancelled_between(void **state)
{
    (void)state;
    const struct ghost ghost = {
        .start_ts = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client)),
        .primary = "b",
        .ttl_ms = 600000,
    };
    assert_int_equal(ghost_prewrite(world.client, &ghost, "b", "x"), 0);
    const struct kvs_txn_options options = {
        .size = sizeof options, .no_one_pc = true, .no_async_commit = true, .timeout_ms = 600000};
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("new"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("new"))), 0);
    kvs_future *commit = kvs_txn_commit(txn);
    while (!visit_loop(cancel_between, txn)) {
    }
    assert_true(ended_at_once);
    assert_int_equal(wait_free(commit), KVS_ERR_CANCELLED);
    unsigned prewrites = sent(TXN_PREWRITE);
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(ghost_commit(world.client, &ghost, "b", now), 0);
    kvs_txn_free(txn);
    assert_int_equal(sent(TXN_PREWRITE), prewrites);
    char value[64];
    assert_int_equal(get_now(world.client, "a", value), 0);
    assert_string_equal(value, "old");
}

/* --- heartbeats --- */

static void test_heartbeat(void **state)
{
    (void)state;
    kvs_txn *txn = begin(ONE_PHASE, true);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("new"))), 0);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("new"))), 0);
    uint64_t start_ts = (uint64_t)wait_number(kvs_txn_start_timestamp(txn));
    uint64_t life_ms = lock_life_ms(world.client, "b", start_ts);
    assert_true(life_ms >= 20000);
    assert_int_equal(sent(TXN_HEARTBEAT), 0);
    uint64_t before_ms = txn_elapsed_ms(txn);
    while (txn_elapsed_ms(txn) == before_ms) /* life counts from the start */
        wait_free(kvs_future_delay(world.runtime, 1));
    assert_true(visit_loop(heartbeat_now, txn));
    assert_true(lock_life_ms(world.client, "b", start_ts) > life_ms);
    assert_int_equal(sent(TXN_HEARTBEAT), 1);
    assert_true(visit_loop(heartbeat_now, txn)); /* and on */
    assert_int_equal(sent(TXN_HEARTBEAT), 2);
    assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
    assert_false(visit_loop(look_at_heartbeat, txn));
    kvs_txn_free(txn);
    expect_both("new");
}

/* Its lock is gone: there is nothing to be kept alive. A lost one is no reason to stop. */
static void test_heartbeat_ends(void **state)
{
    (void)state;
    kvs_txn *txn = begin(ONE_PHASE, true);
    assert_int_equal(wait_free(kvs_txn_put(txn, text("b"), text("new"))), 0);
    meddle(TXN_HEARTBEAT, LOST_BEFORE, 1);
    assert_true(visit_loop(heartbeat_now, txn));
    assert_true(visit_loop(look_at_heartbeat, txn));
    uint64_t now = (uint64_t)wait_number(kvs_txn_current_timestamp(world.client));
    assert_int_equal(wait_free(kvs_txn_gc(world.client, now)), 0);
    visit_loop(heartbeat_now, txn);
    while (visit_loop(look_at_heartbeat, txn)) {
    }
    assert_int_equal(sent(TXN_HEARTBEAT), 2);
    kvs_txn_free(txn);
}

/* --- what else the options say --- */

static kvs_txn *lock_a(uint8_t on_drop)
{
    const struct kvs_txn_options options = {.size = sizeof options,
                                            .pessimistic = true,
                                            .on_drop = on_drop,
                                            .lock_wait_ms = KVS_TXN_LOCK_NO_WAIT};
    kvs_txn *txn = kvs_txn_begin(world.client, &options);
    kvs_slice key = text("a");
    int error = wait_free(kvs_txn_lock(txn, &key, 1, 0));
    if (error == 0)
        return txn;
    assert_int_equal(error, KVS_ERR_LOCK_TIMEOUT);
    kvs_txn_free(txn);
    return NULL;
}

static void test_drop(void **state)
{
    (void)state;
    kvs_txn_free(lock_a(KVS_TXN_DROP_ROLLBACK));
    kvs_txn *next;
    while ((next = lock_a(KVS_TXN_DROP_LEAVE)) == NULL) { /* it goes in the background */
    }
    assert_int_equal(wait_free(kvs_txn_rollback(next)), 0); /* it is gone then */
    kvs_txn_free(next);
    next = lock_a(KVS_TXN_DROP_LEAVE);
    assert_non_null(next);
    kvs_txn_free(next);
    for (unsigned i = 0; i < 10; i++)
        assert_null(lock_a(KVS_TXN_DROP_ROLLBACK));
}

/* A rollback waits for its locks, but not for a store that does not answer. */
static void test_rollback(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        kvs_txn *txn = lock_a(KVS_TXN_DROP_ROLLBACK);
        assert_non_null(txn);
        assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
        kvs_txn_free(txn);
    }
    kvs_txn *txn = lock_a(KVS_TXN_DROP_ROLLBACK);
    meddle(TXN_PESSIMISTIC_ROLLBACK, LOST_BEFORE, 1);
    assert_int_equal(wait_free(kvs_txn_rollback(txn)), 0);
    kvs_txn_free(txn);
    assert_null(lock_a(KVS_TXN_DROP_ROLLBACK));
}

/* Every request of a transaction has its priority, which TiKV is told. */
static void test_priority(void **state)
{
    (void)state;
    static const Kvrpcpb__CommandPri told[] = {
        KVRPCPB__COMMAND_PRI__Normal, KVRPCPB__COMMAND_PRI__Low, KVRPCPB__COMMAND_PRI__High};
    for (uint8_t priority = 0; priority < 3; priority++) {
        const struct kvs_txn_options options = {.size = sizeof options,
                                                .pessimistic = true,
                                                .no_one_pc = true,
                                                .no_async_commit = true,
                                                .priority = priority};
        kvs_txn *txn = kvs_txn_begin(world.client, &options);
        assert_int_equal(wait_free(kvs_txn_put(txn, text("a"), text("v"))), 0);
        assert_int_equal(wait_free(kvs_txn_commit(txn)), 0);
        kvs_txn_free(txn);
        assert_int_equal(atomic_load(&meddler.priorities[TXN_PESSIMISTIC_LOCK]), priority);
        assert_int_equal(atomic_load(&meddler.priorities[TXN_PREWRITE]), priority);
        assert_int_equal(atomic_load(&meddler.priorities[TXN_COMMIT]), priority);
        struct txn_call call = {.priority = priority};
        const struct txn_wire_place place = {.region_id = 1};
        struct buf message = {0};
        txn_command_init(&call.command.base, TXN_GET);
        call.command.get.key = text("k");
        assert_int_equal(txn_wire_write(&call, &place, &message, false), 0);
        Kvrpcpb__GetRequest *request =
            kvrpcpb__get_request__unpack(NULL, message.size, message.data);
        assert_int_equal(request->context->priority, told[priority]);
        kvrpcpb__get_request__free_unpacked(request, NULL);
        buf_deinit(&message);
        txn_command_deinit(&call.command.base);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_definite),
        TEST(test_start_is_of_the_time),
        TEST(test_lock_has_its_time),
        TEST(test_late_lock),
        cmocka_unit_test(test_gc_is_given_up),
        TEST(test_cleanup_is_given_up),
        TEST(test_pushed),
        TEST(test_cancelled_between),
        TEST(test_background_is_lost),
        TEST(test_lock_lost),
        TEST(test_run),
        TEST(test_heartbeat),
        TEST(test_heartbeat_ends),
        TEST(test_drop),
        TEST(test_rollback),
        TEST(test_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
