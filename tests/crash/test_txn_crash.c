/*
 * The server is killed at every step of a commit, and started anew: no transaction is there in
 * part, none that was acknowledged is lost, and none that cannot have committed is there.
 *
 * A transaction moves an amount from one account to another: in two phases, with async commit, or
 * in one phase. Before a step (or while it is under way, its answer not waited for) the server gets
 * SIGKILL. Then whatever locks are left are resolved as a client of TiKV does it, and the two
 * accounts have to be as they were before or as they should be after, whichever the point of the
 * kill leaves possible.
 */
#include "unit/server/txn_world.h"

#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/server_process.h"
#include "txn/command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test.h"

#define ACCOUNTS 4u
#define ROUNDS 60u
#define START_BALANCE 100u
#define KV "/tikvpb.Tikv/Kv"

enum way { TWO_PHASES, ASYNC_COMMIT, ONE_PHASE, WAYS };
enum step { PREWRITE_SECONDARY, PREWRITE_PRIMARY, COMMIT_PRIMARY, COMMIT_SECONDARY, STEPS };

static char directory[256];
static struct server_process server;
static struct txn_world world;
static struct grpc_peer_call lost; /* nobody waits for it; lives until its connection is freed */
static const char *const names[ACCOUNTS] = {"account/0", "account/1", "account/2", "account/3"};

/* --- the server --- */

static void start(void)
{
    const char *const arguments[] = {"--dir", directory,
                                     "--tikv=127.0.0.1:0,127.0.0.1:0,127.0.0.1:0", NULL};
    char pd[64], store[64];
    if (!server_process_start(&server, arguments))
        fail_msg("the server does not start: %s", server.log);
    assert_true(server_process_tikv(&server, pd, store));
    txn_world_open(&world, pd, store);
}

static void kill_and_start(void)
{
    server_process_end(&server, SIGKILL);
    txn_world_close(&world);
    buf_deinit(&lost.replies);
    start();
}

/* --- reads, and what is left behind --- */

static void resolve(const Kvrpcpb__LockInfo *lock, uint64_t commit_ts)
{
    Kvrpcpb__ResolveLockRequest request = KVRPCPB__RESOLVE_LOCK_REQUEST__INIT;
    Kvrpcpb__ResolveLockResponse *reply;
    request.context = &world.context;
    request.start_version = lock->lock_version;
    request.commit_version = commit_ts;
    ASK(&world.store, KV "ResolveLock", request, kvrpcpb__resolve_lock_response, &reply);
    assert_null(reply->region_error);
    assert_null(reply->error);
    FREE(reply);
}

/* The end of a transaction with async commit is with its secondary keys. 0: rolled back. */
static uint64_t check_secondaries(const Kvrpcpb__LockInfo *primary)
{
    Kvrpcpb__CheckSecondaryLocksRequest request = KVRPCPB__CHECK_SECONDARY_LOCKS_REQUEST__INIT;
    Kvrpcpb__CheckSecondaryLocksResponse *reply;
    request.context = &world.context;
    request.start_version = primary->lock_version;
    request.n_keys = primary->n_secondaries;
    request.keys = primary->secondaries;
    ASK(&world.store, KV "CheckSecondaryLocks", request, kvrpcpb__check_secondary_locks_response,
        &reply);
    assert_null(reply->error);
    uint64_t commit_ts = reply->commit_ts;
    bool all = reply->n_locks == primary->n_secondaries;
    for (size_t i = 0; i < reply->n_locks && all; i++) {
        uint64_t least = reply->locks[i]->min_commit_ts;
        commit_ts = least > commit_ts ? least : commit_ts;
    }
    if (all && primary->min_commit_ts > commit_ts)
        commit_ts = primary->min_commit_ts;
    FREE(reply);
    return commit_ts;
}

static void get_past(const Kvrpcpb__LockInfo *lock)
{
    Kvrpcpb__CheckTxnStatusRequest request = KVRPCPB__CHECK_TXN_STATUS_REQUEST__INIT;
    Kvrpcpb__CheckTxnStatusResponse *reply;
    uint64_t now_ts = txn_world_timestamp(&world);
    request.context = &world.context;
    request.primary_key = lock->primary_lock;
    request.lock_ts = lock->lock_version;
    request.caller_start_ts = now_ts;
    request.current_ts = now_ts;
    request.rollback_if_not_exist = true;
    ASK(&world.store, KV "CheckTxnStatus", request, kvrpcpb__check_txn_status_response, &reply);
    assert_null(reply->region_error);
    assert_null(reply->error);
    if (reply->lock_info == NULL)
        resolve(lock, reply->commit_version);
    else if (reply->lock_info->use_async_commit)
        resolve(lock, check_secondaries(reply->lock_info));
    FREE(reply); /* else it has not ended yet: its life is a millisecond */
}

static unsigned balance(unsigned number)
{
    for (;;) {
        Kvrpcpb__GetRequest request = KVRPCPB__GET_REQUEST__INIT;
        Kvrpcpb__GetResponse *reply;
        request.context = &world.context;
        request.key = bytes_of(names[number]);
        request.version = txn_world_timestamp(&world);
        ASK(&world.store, KV "Get", request, kvrpcpb__get_response, &reply);
        assert_null(reply->region_error);
        bool locked = reply->error != NULL;
        char text[16] = "";
        if (locked)
            get_past(reply->error->locked);
        else
            snprintf(text, sizeof text, "%.*s", (int)reply->value.len, (char *)reply->value.data);
        FREE(reply);
        if (!locked)
            return (unsigned)atoi(text);
    }
}

/* --- a transaction, step by step --- */

struct transfer {
    enum way way;
    unsigned from, to; /* from is the primary key */
    char values[2][16];
    uint64_t start_ts, commit_ts;
};

/* `wait` false: the request is on its way, or even carried out, when this returns. */
static void ask_or_send(const char *path, const ProtobufCMessage *request,
                        const ProtobufCMessageDescriptor *type, void *ret_reply, bool wait)
{
    if (wait) {
        assert_int_equal(grpc_peer_ask(&world.store, path, request, type, ret_reply, NULL),
                         GRPC_OK);
        return;
    }
    grpc_peer_start(&world.store, &lost, path, 0);
    grpc_peer_send(&lost, request);
    grpc_peer_half_close(&lost);
    grpc_peer_turn(&world.store, 0);
}

static void prewrite(struct transfer *transfer, bool primary, bool both, bool wait)
{
    Kvrpcpb__PrewriteRequest request = KVRPCPB__PREWRITE_REQUEST__INIT;
    Kvrpcpb__PrewriteResponse *reply;
    Kvrpcpb__Mutation mutations[2] = {KVRPCPB__MUTATION__INIT, KVRPCPB__MUTATION__INIT};
    Kvrpcpb__Mutation *pointers[2] = {&mutations[primary ? 0 : 1], &mutations[1]};
    ProtobufCBinaryData secondaries[] = {bytes_of(names[transfer->to])};
    mutations[0].key = bytes_of(names[transfer->from]);
    mutations[1].key = bytes_of(names[transfer->to]);
    for (unsigned i = 0; i < 2; i++)
        mutations[i].value = bytes_of(transfer->values[i]);
    request.context = &world.context;
    request.n_mutations = both ? 2 : 1;
    request.mutations = pointers;
    request.primary_lock = bytes_of(names[transfer->from]);
    request.start_version = transfer->start_ts;
    request.lock_ttl = 1;
    request.txn_size = 2;
    request.use_async_commit = transfer->way == ASYNC_COMMIT;
    request.try_one_pc = transfer->way == ONE_PHASE;
    request.n_secondaries = transfer->way == ASYNC_COMMIT && primary ? 1 : 0;
    request.secondaries = secondaries;
    ask_or_send(KV "Prewrite", &request.base, &kvrpcpb__prewrite_response__descriptor, &reply,
                wait);
    if (!wait)
        return;
    assert_null(reply->region_error);
    assert_int_equal(reply->n_errors, 0);
    if (reply->min_commit_ts > transfer->commit_ts)
        transfer->commit_ts = reply->min_commit_ts;
    assert_int_equal(reply->one_pc_commit_ts != 0, transfer->way == ONE_PHASE);
    FREE(reply);
}

static void commit(const struct transfer *transfer, unsigned key, bool wait)
{
    Kvrpcpb__CommitRequest request = KVRPCPB__COMMIT_REQUEST__INIT;
    Kvrpcpb__CommitResponse *reply;
    ProtobufCBinaryData keys[] = {bytes_of(names[key])};
    request.context = &world.context;
    request.n_keys = 1;
    request.keys = keys;
    request.start_version = transfer->start_ts;
    request.commit_version = transfer->commit_ts;
    ask_or_send(KV "Commit", &request.base, &kvrpcpb__commit_response__descriptor, &reply, wait);
    if (!wait)
        return;
    assert_null(reply->region_error);
    assert_null(reply->error);
    FREE(reply);
}

static void do_step(struct transfer *transfer, enum step step, bool wait)
{
    switch (step) {
    case PREWRITE_SECONDARY:
        if (transfer->way != ONE_PHASE)
            prewrite(transfer, false, false, wait);
        break;
    case PREWRITE_PRIMARY:
        prewrite(transfer, true, transfer->way == ONE_PHASE, wait);
        break;
    case COMMIT_PRIMARY:
        if (transfer->way == TWO_PHASES)
            transfer->commit_ts = txn_world_timestamp(&world);
        if (transfer->way != ONE_PHASE)
            commit(transfer, transfer->from, wait);
        break;
    default:
        if (transfer->way != ONE_PHASE)
            commit(transfer, transfer->to, wait);
    }
}

/* The step whose carrying out decides that it is committed. */
static enum step deciding(enum way way)
{
    return way == TWO_PHASES ? COMMIT_PRIMARY : PREWRITE_PRIMARY;
}

static void one_round(unsigned round, struct rand *rand)
{
    struct transfer transfer = {.way = (enum way)(round % WAYS)};
    transfer.from = (unsigned)rand_below(rand, ACCOUNTS);
    transfer.to = (transfer.from + 1 + (unsigned)rand_below(rand, ACCOUNTS - 1)) % ACCOUNTS;
    unsigned old[2] = {balance(transfer.from), balance(transfer.to)};
    unsigned amount = (unsigned)rand_below(rand, old[0] + 1);
    snprintf(transfer.values[0], sizeof transfer.values[0], "%u", old[0] - amount);
    snprintf(transfer.values[1], sizeof transfer.values[1], "%u", old[1] + amount);
    transfer.start_ts = txn_world_timestamp(&world);
    enum step killed = (enum step)(round / WAYS % (STEPS + 1)); /* before it; STEPS: after all */
    bool in_flight = killed < STEPS && rand_below(rand, 2) == 0;
    for (enum step step = PREWRITE_SECONDARY; step < killed; step++)
        do_step(&transfer, step, true);
    if (in_flight)
        do_step(&transfer, killed, false);
    kill_and_start();

    unsigned now[2] = {balance(transfer.from), balance(transfer.to)};
    bool is_new = now[0] == old[0] - amount && now[1] == old[1] + amount;
    bool is_old = now[0] == old[0] && now[1] == old[1];
    bool committed = killed > deciding(transfer.way);
    bool open = in_flight && killed == deciding(transfer.way);
    if (committed ? !is_new : open ? !is_new && !is_old : !is_old)
        fail_msg("round %u: way %d, killed at step %d%s: %u %u became %u %u by moving %u", round,
                 transfer.way, killed, in_flight ? " under way" : "", old[0], old[1], now[0],
                 now[1], amount);
}

static void test_every_step_of_a_commit(void **state)
{
    (void)state;
    uint64_t seed = test_seed();
    struct rand rand = rand_seed(seed);
    const char *temporary = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/kvs-test-XXXXXX",
             temporary != NULL ? temporary : "/tmp");
    assert_non_null(mkdtemp(directory));
    start();
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct transfer begin = {.way = ONE_PHASE, .from = i, .to = i};
        snprintf(begin.values[0], sizeof begin.values[0], "%u", START_BALANCE);
        begin.start_ts = txn_world_timestamp(&world);
        prewrite(&begin, true, false, true);
    }
    for (unsigned round = 0; round < ROUNDS; round++)
        one_round(round, &rand);
    unsigned sum = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++)
        sum += balance(i);
    assert_int_equal(sum, ACCOUNTS * START_BALANCE);
    txn_world_close(&world);
    server_process_end(&server, SIGKILL);
    directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_step_of_a_commit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
