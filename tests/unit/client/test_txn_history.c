/*
 * Random transactions from several threads and clients at once, in process and on a kvs-server that
 * is restarted meanwhile (and whose stores fail, in builds with faults); then their history is
 * checked:
 *
 *   sum        money only moves: the sum of all accounts stays
 *   chain      each value names the transaction that wrote it, and that one remembers whose value
 *              it replaced: back from the last value to the first, every transaction that was told
 *              "committed" is met on each of its keys, none that was told it failed is; so no
 *              update was lost, done twice or half done. One of unknown outcome is met on all of
 *              its keys or on none
 *   snapshots  what was read as of a start was committed before it, and replaced after it
 *   shared     what was locked in share mode was replaced after the commit
 *
 * KVS_TEST_SEED=N chooses the same transactions again (threads still race).
 */
#include "base/rand.h"
#include "unit/client/txn_world.h"
#ifdef KVS_FAULTS
#include "server/tikv_faults.h"
#endif
#include "unit/server/server_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "held_port.h"
#include "seed.h"
#include "test.h"

enum { ACCOUNTS = 12, THREADS = 4, TXNS = 60, MONEY = 1000, TOUCHED_MAX = 4, NOBODY = 0 };

enum outcome { OUTCOME_NONE, OUTCOME_COMMITTED, OUTCOME_FAILED, OUTCOME_UNKNOWN };

/* What a transaction did to one account. */
struct touch {
    int account;
    int read_writer; /* whose value it read */
    bool as_of_start;
    bool shared; /* locked so, and then read */
    bool wrote;
};

struct record {
    enum outcome outcome;
    int64_t start_ts;
    int64_t commit_ts;
    struct touch touches[TOUCHED_MAX];
    int count;
};

struct history {
    struct record records[1 + THREADS * TXNS]; /* by writer; [NOBODY]: the first values */
    kvs_txn_client *clients[2];
    uint64_t seed;
    atomic_int done;
};

struct worker {
    struct history *history;
    int number;
    pthread_t thread;
};

static struct history history;

static kvs_slice account_key(char name[16], int account)
{
    snprintf(name, 16, "acc%02d", account);
    return text(name);
}

static kvs_slice value_text(char value[64], long money, int writer)
{
    snprintf(value, 64, "%ld %d", money, writer);
    return text(value);
}

/* --- transactions -------------------------------------------------------------------------------
 */

static int read_account(kvs_txn *txn, struct rand *rand, bool pessimistic, struct touch *touch,
                        long *ret_money)
{
    char name[16];
    char value[64];
    kvs_slice key = account_key(name, touch->account);
    bool locks = pessimistic || rand_below(rand, 4) == 0;
    int error = wait_value(locks ? kvs_txn_get_for_update(txn, key) : kvs_txn_get(txn, key), value);
    touch->as_of_start = !(locks && pessimistic);
    if (error == 0 && sscanf(value, "%ld %d", ret_money, &touch->read_writer) != 2)
        fail_msg("a value that nobody wrote: %s", value);
    return error;
}

/* Locks it in share mode, and reads what it has then. */
static int share_account(kvs_txn_client *client, kvs_txn *txn, struct touch *touch)
{
    char name[16];
    char value[64];
    long money;
    kvs_slice key = account_key(name, touch->account);
    int error = wait_free(kvs_txn_lock_shared(txn, &key, 1, 0));
    if (error != 0)
        return error;
    error = get_now(client, name, value);
    touch->shared = true;
    if (error == 0 && sscanf(value, "%ld %d", &money, &touch->read_writer) != 2)
        fail_msg("a value that nobody wrote: %s", value);
    return error;
}

/* Draws different accounts. */
static void draw_accounts(struct record *record, struct rand *rand)
{
    record->count = 2 + (int)rand_below(rand, TOUCHED_MAX - 1);
    for (int i = 0; i < record->count; i++) {
        bool again = true;
        while (again) {
            record->touches[i].account = (int)rand_below(rand, ACCOUNTS);
            again = false;
            for (int k = 0; k < i; k++)
                again |= record->touches[k].account == record->touches[i].account;
        }
    }
}

/* Reads all, moves money from the first to the others that it writes; the last ones it may share
 * with others. */
static int move_money(kvs_txn_client *client, kvs_txn *txn, struct record *record, int writer,
                      struct rand *rand, bool pessimistic)
{
    long money[TOUCHED_MAX];
    char name[16];
    char value[64];
    int error = 0;
    int own = record->count;
    if (pessimistic && rand_below(rand, 2) == 0)
        own = 1 + (int)rand_below(rand, (uint64_t)record->count);
    for (int i = 0; error == 0 && i < record->count; i++)
        error = i < own ? read_account(txn, rand, pessimistic, &record->touches[i], &money[i])
                        : share_account(client, txn, &record->touches[i]);
    long amount = (long)rand_below(rand, 50);
    int written = rand_below(rand, 5) == 0 ? 0 : 1 + (int)rand_below(rand, (uint64_t)own);
    if (written == 1 && own > 1)
        written = 2;
    for (int i = 0; error == 0 && i < written; i++) {
        long change = i == 0 ? -amount * (written - 1) : amount;
        record->touches[i].wrote = true;
        error = wait_free(kvs_txn_put(txn, account_key(name, record->touches[i].account),
                                      value_text(value, money[i] + change, writer)));
    }
    return error;
}

static void run_one(struct history *all, int writer, struct rand *rand)
{
    struct record *record = &all->records[writer];
    bool pessimistic = rand_below(rand, 3) == 0;
    const struct kvs_txn_options options = {
        .size = sizeof options,
        .pessimistic = pessimistic,
        .no_one_pc = rand_below(rand, 2) == 0,
        .no_async_commit = rand_below(rand, 2) == 0,
        .causal_only = rand_below(rand, 4) == 0,
        .lock_wait_ms = 3000,
        .timeout_ms = 20000,
    };
    kvs_txn_client *client = all->clients[rand_below(rand, 2)];
    kvs_txn *txn = kvs_txn_begin(client, &options);
    draw_accounts(record, rand);
    int error = move_money(client, txn, record, writer, rand, pessimistic);
    kvs_future *start = kvs_txn_start_timestamp(txn);
    if (kvs_future_wait(start, -1) == 0)
        kvs_future_get_number(start, &record->start_ts);
    kvs_future_free(start);
    bool gives_up = rand_below(rand, 10) == 0; /* as one that dies: it is only dropped */
    if (error == 0 && !gives_up) {
        kvs_future *commit = kvs_txn_commit(txn);
        if (rand_below(rand, 8) == 0)
            kvs_future_cancel(commit);
        error = kvs_future_wait(commit, -1);
        kvs_future_get_number(commit, &record->commit_ts);
        record->outcome = error == 0                         ? OUTCOME_COMMITTED
                          : kvs_error_maybe_committed(error) ? OUTCOME_UNKNOWN
                                                             : OUTCOME_FAILED;
        kvs_future_free(commit);
    } else {
        record->outcome = OUTCOME_FAILED;
    }
    kvs_txn_free(txn);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct rand rand = rand_seed(worker->history->seed * 31 + (uint64_t)worker->number);
    for (int i = 0; i < TXNS; i++) {
        run_one(worker->history, 1 + worker->number * TXNS + i, &rand);
        atomic_fetch_add(&worker->history->done, 1);
    }
    return NULL;
}

/* --- checks -------------------------------------------------------------------------------------
 */

static const struct touch *touch_of(const struct record *record, int account)
{
    for (int i = 0; i < record->count; i++) {
        if (record->touches[i].account == account)
            return &record->touches[i];
    }
    return NULL;
}

/* replaced_by[account][writer]: who came next; -1: not on the chain. */
static int replaced_by[ACCOUNTS][1 + THREADS * TXNS];

static void check_chain(int account, int last)
{
    int next = NOBODY;
    for (int writer = last, steps = 0; writer != NOBODY; steps++) {
        const struct record *record = &history.records[writer];
        const struct touch *touch = touch_of(record, account);
        if (touch == NULL || !touch->wrote || steps > THREADS * TXNS)
            fail_msg("account %d: transaction %d did not write it", account, writer);
        if (record->outcome == OUTCOME_FAILED)
            fail_msg("account %d: transaction %d is there, and was said to have failed", account,
                     writer);
        replaced_by[account][writer] = next;
        next = writer;
        writer = touch->read_writer;
    }
    replaced_by[account][NOBODY] = next;
}

static void check_outcomes(void)
{
    for (int writer = 1; writer <= THREADS * TXNS; writer++) {
        const struct record *record = &history.records[writer];
        int there = 0;
        int wrote = 0;
        for (int i = 0; i < record->count; i++) {
            wrote += record->touches[i].wrote;
            there +=
                record->touches[i].wrote && replaced_by[record->touches[i].account][writer] >= 0;
        }
        bool good = record->outcome == OUTCOME_COMMITTED ? there == wrote
                    : record->outcome == OUTCOME_UNKNOWN ? there == wrote || there == 0
                                                         : there == 0;
        if (!good)
            fail_msg("transaction %d, outcome %d: on %d of its %d accounts", writer,
                     record->outcome, there, wrote);
    }
}

/* 0: not known. */
static int64_t commit_of(int writer)
{
    return history.records[writer].commit_ts;
}

static void check_snapshots(void)
{
    for (int writer = 1; writer <= THREADS * TXNS; writer++) {
        const struct record *record = &history.records[writer];
        if (record->outcome == OUTCOME_NONE || record->start_ts == 0)
            continue;
        for (int i = 0; i < record->count; i++) {
            const struct touch *touch = &record->touches[i];
            int next = replaced_by[touch->account][touch->read_writer];
            bool ended_early = record->outcome != OUTCOME_COMMITTED;
            if (!touch->as_of_start || ended_early)
                continue;
            if (next < 0)
                fail_msg("transaction %d read of account %d what was never committed", writer,
                         touch->account);
            if (commit_of(touch->read_writer) > record->start_ts)
                fail_msg("transaction %d read the future of account %d", writer, touch->account);
            if (next != NOBODY && next != writer && commit_of(next) != 0 &&
                commit_of(next) <= record->start_ts)
                fail_msg("transaction %d read of account %d what had been replaced", writer,
                         touch->account);
        }
    }
}

/* Returns how many there were. */
static int check_shared(void)
{
    int count = 0;
    for (int writer = 1; writer <= THREADS * TXNS; writer++) {
        const struct record *record = &history.records[writer];
        for (int i = 0; i < record->count && record->outcome == OUTCOME_COMMITTED; i++) {
            const struct touch *touch = &record->touches[i];
            if (!touch->shared || record->commit_ts == 0)
                continue;
            int next = replaced_by[touch->account][touch->read_writer];
            if (next < 0 || commit_of(touch->read_writer) > record->commit_ts)
                fail_msg("transaction %d shared account %d, and read what was not committed",
                         writer, touch->account);
            if (next != NOBODY && commit_of(next) != 0 && commit_of(next) <= record->commit_ts)
                fail_msg("transaction %d wrote account %d, which %d had locked in share mode", next,
                         touch->account, writer);
            count++;
        }
    }
    return count;
}

static void check_all(kvs_txn_client *client)
{
    kvs_snapshot *snapshot = kvs_snapshot_new(client, 0);
    long sum = 0;
    int counts[4] = {0};
    memset(replaced_by, 0xff, sizeof replaced_by);
    for (int account = 0; account < ACCOUNTS; account++) {
        char name[16];
        char value[64];
        long money;
        int writer;
        assert_int_equal(wait_value(kvs_snapshot_get(snapshot, account_key(name, account)), value),
                         0);
        assert_int_equal(sscanf(value, "%ld %d", &money, &writer), 2);
        sum += money;
        check_chain(account, writer);
    }
    kvs_snapshot_free(snapshot);
    assert_int_equal(sum, MONEY * ACCOUNTS);
    check_outcomes();
    check_snapshots();
    int shared = check_shared();
    for (int writer = 1; writer <= THREADS * TXNS; writer++)
        counts[history.records[writer].outcome]++;
    print_message("# %d committed, %d failed, %d unknown; %d locks in share mode\n",
                  counts[OUTCOME_COMMITTED], counts[OUTCOME_FAILED], counts[OUTCOME_UNKNOWN],
                  shared);
    assert_true(counts[OUTCOME_COMMITTED] > THREADS * TXNS / 10);
    assert_true(shared > 0);
}

/* --- runs ---------------------------------------------------------------------------------------
 */

static void history_begin(kvs_txn_client *first, kvs_txn_client *second)
{
    memset(&history, 0, sizeof history);
    history.seed = test_seed();
    history.clients[0] = first;
    history.clients[1] = second;
    kvs_txn *txn = kvs_txn_begin(first, NULL);
    for (int account = 0; account < ACCOUNTS; account++) {
        char name[16];
        char value[64];
        assert_int_equal(wait_free(kvs_txn_put(txn, account_key(name, account),
                                               value_text(value, MONEY, NOBODY))),
                         0);
    }
    history.records[NOBODY].commit_ts = wait_number(kvs_txn_commit(txn));
    kvs_txn_free(txn);
}

static void start_workers(struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.history = &history, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

static void join_workers(struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
}

static void test_in_process(void **state)
{
    (void)state;
    struct txn_world world;
    struct worker workers[THREADS];
    txn_world_start(&world, WORLD_MEMORY, 2);
    history_begin(world.client, world.client);
    start_workers(workers);
    join_workers(workers);
    check_all(world.client);
    txn_world_stop(&world);
}

static void test_on_a_server_that_restarts(void **state)
{
    (void)state;
    struct worker workers[THREADS];
    struct txn_world world = {0};
    char addresses[256];
    struct held_port pd, store;
    directory_make(world.directory);
    held_port_take(&pd);
    held_port_take(&store);
    snprintf(addresses, sizeof addresses, "%s,%s,127.0.0.1:0", pd.address, store.address);
    struct kvs_server_options options = {.size = sizeof options,
                                         .engine = "kvs",
                                         .directory = world.directory,
                                         .sync = KVS_SYNC_NEVER,
                                         .tikv = addresses};
    assert_int_equal(kvs_runtime_new(NULL, &world.runtime), 0);
    world.server = server_start(&options);
    snprintf(world.url, sizeof world.url, "tikv://%s", pd.address);
    world.client = txn_world_client(&world);
    kvs_txn_client *second = txn_world_client(&world);
    txn_world_split(&world, "acc04");
    txn_world_split(&world, "acc08");
    history_begin(world.client, second);
    start_workers(workers);
    for (int round = 1; round <= 3; round++) {
        while (atomic_load(&history.done) < round * THREADS * TXNS / 4)
            wait_free(kvs_future_delay(world.runtime, 1));
        server_stop(world.server);
        world.server = server_start(&options);
    }
    join_workers(workers);
    check_all(second);
    txn_world_close(second);
    txn_world_stop(&world);
    held_port_give_back(&pd);
    held_port_give_back(&store);
}

#ifdef KVS_FAULTS
static void run_with_faults(const char *faults)
{
    struct txn_world world;
    struct worker workers[THREADS];
    char message[256];
    txn_world_start(&world, WORLD_TIKV, 2);
    kvs_txn_client *second = txn_world_client(&world);
    txn_world_split(&world, "acc06");
    history_begin(world.client, second);
    assert_int_equal(tikv_faults_set(faults, message), 0);
    start_workers(workers);
    join_workers(workers);
    assert_int_equal(tikv_faults_set("", message), 0);
    check_all(second);
    txn_world_close(second);
    txn_world_stop(&world);
}

static void test_region_errors(void **state)
{
    (void)state;
    run_with_faults("region-errors=20,pd-away=60:60");
}

static void test_lost_connections(void **state)
{
    (void)state;
    run_with_faults("region-errors=5,store-away=300:100");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_process),
        cmocka_unit_test(test_on_a_server_that_restarts),
#ifdef KVS_FAULTS
        cmocka_unit_test(test_region_errors),
        cmocka_unit_test(test_lost_connections),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
